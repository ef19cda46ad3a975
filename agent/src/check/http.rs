//! The HTTP half of `check`: one request, no redirects, no proxy, a bounded answer, and what must be in it.

use std::path::Path;

use reqwest::{Client, Method, Response, Url, header::HeaderMap, redirect::Policy};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::{Probed, RenderedHttp, address};
use crate::host::process::printable;

const MAX_BODY_BYTES: usize = 1 << 20;
/// How much of an unwanted body is shown.
const SHOWN_CHARS: usize = 400;

pub(super) async fn probe(http: &RenderedHttp, policy: &Path) -> Probed {
    let asked = format!("{} {}", http.method, http.url);
    match ask(http, policy).await {
        Ok(response) => judge(http, &asked, response).await,
        Err(why) => Probed::bad(format!("{asked}: {why}")),
    }
}

async fn ask(http: &RenderedHttp, policy: &Path) -> Result<Response, String> {
    let url = Url::parse(&http.url).map_err(|e| e.to_string())?;
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err("it has no host".to_owned());
    };
    let addresses = address::allowed(host, port, policy).await?;
    let method = Method::from_bytes(http.method.as_bytes()).map_err(|e| e.to_string())?;
    let mut headers = HeaderMap::new();
    for (name, value) in &http.headers {
        let name =
            name.parse::<reqwest::header::HeaderName>().map_err(|_| format!("no header can be named {name:?}"))?;
        let value = value.parse().map_err(|_| format!("header {name} cannot have that value"))?;
        headers.append(name, value);
    }
    // A client for one request: an answer over an old connection says nothing about the port. Certificates of the system
    // are read only for https.
    let client = Client::builder().redirect(Policy::none()).no_proxy().pool_max_idle_per_host(0).http1_only();
    let client = if http.url.starts_with("https:") { client } else { client.tls_certs_only([]) };
    // Whatever a name leads to when it is looked up again, these were judged.
    let client = client.resolve_to_addrs(host, &addresses);
    let client = client.build().map_err(|e| plain(&e))?;
    client.request(method, url).headers(headers).send().await.map_err(|e| plain(&e))
}

/// The innermost reason; the outer ones repeat the URL.
fn plain(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

async fn judge(http: &RenderedHttp, asked: &str, response: Response) -> Probed {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = match body(response).await {
        Ok(body) => body,
        Err(why) => return Probed::bad(format!("{asked}: {status}, and its body broke off: {why}")),
    };
    let status_is_right = http.status.map_or(status.is_success(), |wanted| wanted == status.as_u16());
    let wanted = if !status_is_right {
        Some(http.status.map_or_else(|| "a status from 200 to 299".to_owned(), |s| format!("status {s}")))
    } else {
        unmet_header(http, &headers).or_else(|| unmet_body(http, &body)).or_else(|| unmet_json(http, &body))
    };
    match wanted {
        None => Probed::good(format!("{asked}: {status}")),
        Some(wanted) => {
            Probed { body: Some(shown(&body)), ..Probed::bad(format!("{asked}: {status}, wanted {wanted}")) }
        }
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| plain(&e))? {
        let room = MAX_BODY_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == MAX_BODY_BYTES {
            break;
        }
    }
    Ok(body)
}

fn shown(body: &[u8]) -> String {
    // Line ends as blanks: the answer is one line.
    let start: Vec<u8> = body.iter().take(4 * SHOWN_CHARS).map(|b| if *b == b'\n' { b' ' } else { *b }).collect();
    let text: String = printable(&start).trim().chars().take(SHOWN_CHARS).collect();
    if text.is_empty() { "the body is empty".to_owned() } else { format!("the body begins: {text}") }
}

fn unmet_header(http: &RenderedHttp, headers: &HeaderMap) -> Option<String> {
    let (name, wanted) = http.expect_headers.iter().find(|(name, wanted)| {
        !headers.get_all(name.as_str()).iter().any(|value| value.as_bytes() == wanted.as_bytes())
    })?;
    let got = headers.get(name.as_str()).map(|value| printable(value.as_bytes()));
    let got = got.map_or_else(|| "none".to_owned(), |got| format!("{got:?}"));
    Some(format!("header {name}: {wanted:?} (it has {got})"))
}

fn unmet_body(http: &RenderedHttp, body: &[u8]) -> Option<String> {
    let wanted = http.body_contains.as_deref()?;
    let found = wanted.is_empty() || body.windows(wanted.len()).any(|window| window == wanted.as_bytes());
    (!found).then(|| format!("a body with {wanted:?}"))
}

fn unmet_json(http: &RenderedHttp, body: &[u8]) -> Option<String> {
    if http.json.is_empty() {
        return None;
    }
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return Some("a body in JSON".to_owned()) };
    http.json.iter().find_map(|(path, wanted)| unmet_path(path, wanted, &document))
}

fn unmet_path(path: &str, wanted: &Value, document: &Value) -> Option<String> {
    let got = if path.starts_with('$') {
        match JsonPath::parse(path) {
            Ok(parsed) => parsed.query(document).first(),
            Err(error) => return Some(format!("{path} to be a JSONPath, which it is not: {error}")),
        }
    } else {
        // A plain key is looked up as it is; in JSONPath a '-' or '.' in it would mean something.
        document.get(path).or_else(|| dotted(path, document))
    };
    match got {
        Some(got) if equal(wanted, got) => None,
        Some(got) => Some(format!("{path} = {wanted} in its JSON (it has {})", brief(got))),
        None => Some(format!("{path} = {wanted} in its JSON (it has no {path})")),
    }
}

/// `a.b` as `$.a.b`.
fn dotted<'v>(path: &str, document: &'v Value) -> Option<&'v Value> {
    let parsed = JsonPath::parse(&format!("$.{path}")).ok()?;
    parsed.query(document).first()
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(SHOWN_CHARS).collect()
}

/// Equal as values. A manifest's text also equals a number or boolean that is written the same: in YAML the quotes decide.
fn equal(wanted: &Value, got: &Value) -> bool {
    match (wanted, got) {
        (Value::String(text), Value::Number(number)) => *text == number.to_string(),
        (Value::String(text), Value::Bool(boolean)) => *text == boolean.to_string(),
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => wanted == got,
    }
}
