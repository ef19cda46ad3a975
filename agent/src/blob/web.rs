//! Artifacts from web servers: https only, resumed, and no way into places that only this host can see. A redirect is
//! followed by hand, hop by hop: each name is resolved once, every address judged, and the connection made to those very
//! addresses. Beside `blob`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use drover_proto::{limits::MAX_ARTIFACT_BYTES, secret::Secret};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, HeaderValue, LOCATION, RANGE},
    redirect::Policy,
};
use tokio::time::timeout;

use super::{Attempt, BlobError, REACH_TIMEOUT, STALL, part::Part};

const MAX_REDIRECTS: usize = 5;
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What is asked for.
pub(super) struct Download<'a> {
    /// `https://…`.
    pub(super) url: &'a str,
    /// The header's value; said to the server of `url` and to no other.
    pub(super) authorization: Option<&'a Secret<String>>,
}

/// How far from the world an address is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reach {
    /// Anyone can reach it.
    Public,
    /// A network of somebody's own.
    Private,
    /// This host, its links, and what clouds put there to tell a machine its secrets.
    Local,
}

fn reach_of(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let special = a == 0 || a >= 224 || (a, b, c) == (192, 0, 0) || ip.octets() == [100, 100, 100, 200];
            if ip.is_loopback() || ip.is_link_local() || special {
                Reach::Local
            } else if ip.is_private() || (a == 100 && b & 0xc0 == 64) || (a == 198 && b & 0xfe == 18) {
                Reach::Private
            } else {
                Reach::Public
            }
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            // Clouds answer in these of the unique local ones, too; a 6to4, NAT64 or other disguise counts as the worst.
            let metadata = ip.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
            if first & 0xfe00 == 0xfc00 && !metadata {
                Reach::Private
            } else if first & 0xe000 == 0x2000 && first != 0x2002 && !(first == 0x2001 && ip.segments()[1] == 0) {
                Reach::Public
            } else {
                Reach::Local
            }
        }
    }
}

/// Whether a redirect may lead to `to` from where the manifest's own URL is: not closer to this host than that.
fn may_lead(origin: &[IpAddr], to: &[IpAddr]) -> bool {
    let near = origin.iter().map(|ip| reach_of(*ip)).max().unwrap_or(Reach::Public);
    to.iter().all(|ip| match reach_of(*ip) {
        Reach::Public => true,
        Reach::Private => near >= Reach::Private,
        Reach::Local => origin.contains(ip),
    })
}

/// One attempt: what is missing of `part`.
pub(super) async fn fetch(download: &Download<'_>, part: &mut Part, size_bytes: u64) -> Result<(), Attempt> {
    let range = (part.have > 0).then(|| format!("bytes={}-", part.have));
    let mut response = ask(download, range).await?;
    let shown = shown(response.url());
    match response.status() {
        StatusCode::OK => part.restart().await?,
        StatusCode::PARTIAL_CONTENT if goes_on(&response, part.have) => {}
        _ => {
            part.restart().await?;
            return Err(Attempt::Again(format!("{shown} does not go on where it broke off")));
        }
    }
    loop {
        let chunk = match timeout(STALL, response.chunk()).await {
            Err(_) => return Err(Attempt::Again(format!("{shown}: no data for {STALL:?}"))),
            Ok(Err(error)) => return Err(Attempt::Again(format!("{shown}: {}", innermost(&error)))),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(chunk))) => chunk,
        };
        if !part.write(&chunk, size_bytes).await? {
            return Ok(());
        }
    }
}

fn goes_on(response: &Response, at: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {at}-")))
}

/// Whether it is there and may be had, in one sentence if not, and its size in bytes, if the server tells. Fetches nothing.
pub(super) async fn reach(download: &Download<'_>) -> Result<Option<u64>, String> {
    // The first byte, since some servers sign a URL for GET and refuse HEAD.
    match timeout(REACH_TIMEOUT, ask(download, Some("bytes=0-0".to_owned()))).await {
        Err(_) => Err(format!("no answer within {} s", REACH_TIMEOUT.as_secs())),
        Ok(Err(Attempt::Again(why))) => Err(why),
        Ok(Err(Attempt::Never(error))) => Err(error.to_string()),
        Ok(Ok(response)) => match size(&response) {
            Some(bytes) if bytes > MAX_ARTIFACT_BYTES => {
                Err(format!("it has {bytes} bytes, and an artifact has {MAX_ARTIFACT_BYTES} at most"))
            }
            bytes => Ok(bytes),
        },
    }
}

/// Of the whole, of which the first byte was asked for.
fn size(response: &Response) -> Option<u64> {
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
            range.strip_prefix("bytes 0-0/")?.parse().ok()
        }
        StatusCode::OK => response.content_length(),
        _ => None,
    }
}

/// The answer with the content, after all redirects: 200, 206 or 416.
async fn ask(download: &Download<'_>, range: Option<String>) -> Result<Response, Attempt> {
    let first = Url::parse(download.url).map_err(|e| refused(format!("{}: {e}", download.url)))?;
    let mut url = first.clone();
    let mut origin = Vec::new();
    for hop in 0..=MAX_REDIRECTS {
        let addresses = resolve(&url).await?;
        let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        if hop == 0 {
            origin = ips;
        } else if !may_lead(&origin, &ips) {
            let why = format!("{} redirects to {}, inside a network that it is not in", shown(&first), shown(&url));
            return Err(refused(why));
        }
        let same_server = url.origin() == first.origin();
        let authorization = download.authorization.filter(|_| same_server);
        let response = send(&url, &addresses, authorization, range.as_deref()).await?;
        let status = response.status();
        match status.as_u16() {
            200 | 206 | 416 => return Ok(response),
            301 | 302 | 303 | 307 | 308 => url = next(&url, &response)?,
            408 | 425 | 429 | 500..=599 => return Err(Attempt::Again(format!("{} answers {status}", shown(&url)))),
            401 | 403 => {
                let hint = "check artifact.credentials and the secret that it names";
                return Err(refused(format!("{} answers {status}; {hint}", shown(&url))));
            }
            _ => return Err(refused(format!("{} answers {status}; check artifact.url", shown(&url)))),
        }
    }
    Err(refused(format!("{} redirects more than {MAX_REDIRECTS} times", shown(&first))))
}

fn next(url: &Url, response: &Response) -> Result<Url, Attempt> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let next = url.join(location).map_err(|_| refused(format!("{} redirects to nowhere", shown(url))))?;
    if next.scheme() != "https" {
        return Err(refused(format!("{} redirects to {}, which is not https", shown(url), shown(&next))));
    }
    Ok(next)
}

async fn resolve(url: &Url) -> Result<Vec<SocketAddr>, Attempt> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let failed = |why: String| Attempt::Again(format!("{}: {host} cannot be resolved: {why}", shown(url)));
    let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host.as_str(), port))).await;
    let found = found.map_err(|_| failed(format!("no answer within {RESOLVE_TIMEOUT:?}")))?;
    let addresses: Vec<SocketAddr> = found.map_err(|e| failed(e.to_string()))?.collect();
    if addresses.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(addresses) }
}

async fn send(
    url: &Url,
    addresses: &[SocketAddr],
    authorization: Option<&Secret<String>>,
    range: Option<&str>,
) -> Result<Response, Attempt> {
    let again = |e: &reqwest::Error| Attempt::Again(format!("{}: {}", shown(url), innermost(e)));
    let client = Client::builder().redirect(Policy::none()).no_proxy().http1_only().connect_timeout(CONNECT_TIMEOUT);
    let client = match url.domain() {
        Some(name) => client.resolve_to_addrs(name, addresses),
        None => client,
    };
    let mut request = client.build().map_err(|e| again(&e))?.get(url.clone()).header(ACCEPT_ENCODING, "identity");
    if let Some(range) = range {
        request = request.header(RANGE, range);
    }
    if let Some(value) = authorization {
        let value = HeaderValue::from_str(value.expose());
        let mut value = value.map_err(|_| refused("the secret of artifact.credentials is not one line".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    match timeout(STALL, request.send()).await {
        Ok(sent) => sent.map_err(|e| again(&e)),
        Err(_) => Err(Attempt::Again(format!("{}: no answer for {STALL:?}", shown(url)))),
    }
}

fn refused(why: String) -> Attempt {
    Attempt::Never(BlobError::Source(why))
}

/// For people: without what may be a key.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// The reason at the bottom; what is above repeats the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    //! Where a redirect may lead. Real servers are the lab's.
    use super::*;

    #[test]
    fn a_redirect_leads_no_closer_to_this_host_than_its_origin_is() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let rows = [
            ("93.184.216.34", "1.1.1.1", true),
            ("93.184.216.34", "10.0.0.1", false),
            ("93.184.216.34", "100.64.0.1", false),
            ("93.184.216.34", "169.254.169.254", false),
            ("93.184.216.34", "127.0.0.1", false),
            ("93.184.216.34", "0.0.0.0", false),
            ("93.184.216.34", "::1", false),
            ("93.184.216.34", "::ffff:169.254.169.254", false),
            ("93.184.216.34", "64:ff9b::a9fe:a9fe", false),
            ("93.184.216.34", "2002:a9fe:a9fe::1", false),
            ("93.184.216.34", "fd12::1", false),
            ("93.184.216.34", "2606:4700::1111", true),
            ("10.77.0.2", "10.77.0.3", true),
            ("10.77.0.2", "fd12::1", true),
            ("10.77.0.2", "1.1.1.1", true),
            ("10.77.0.2", "169.254.169.254", false),
            ("10.77.0.2", "100.100.100.200", false),
            ("10.77.0.2", "fd00:ec2::254", false),
            ("10.77.0.2", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "169.254.169.254", false),
        ];
        for (from, to, allowed) in rows {
            assert_eq!(may_lead(&[ip(from)], &[ip(to)]), allowed, "{from} -> {to}");
        }
        assert!(!may_lead(&[ip("1.1.1.1")], &[ip("8.8.8.8"), ip("10.0.0.1")]), "every address counts");
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_a_key() {
        let url = Url::parse("https://user:pw@example.org:8443/a/b.tar?sig=1").unwrap();
        assert_eq!(shown(&url), "https://example.org:8443/a/b.tar");
    }
}
