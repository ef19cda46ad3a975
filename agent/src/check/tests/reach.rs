//! Where checks go and where not, answers that never end, and certificates that a server of this test's own shows.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

use super::*;

fn certificate_of(address: &str) -> RenderedProbe {
    let at = CertificateAt::Endpoint { address: address.to_owned(), server_name: Some("example.org".to_owned()) };
    RenderedProbe::Certificate(CertificateProbe { at, min_left: Span::from_secs(14 * 86_400) })
}

#[tokio::test]
async fn no_check_goes_to_where_the_cloud_answers() {
    for host in ["169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "[fd00:ec2::254]", "0.0.0.0"] {
        let http = look(RenderedProbe::Http(get(format!("http://{host}/latest/meta-data")))).await;
        let tcp = look(RenderedProbe::Tcp(format!("{host}:80"))).await;
        let certificate = look(certificate_of(&format!("{host}:443"))).await;
        for probed in [http, tcp, certificate] {
            assert!(!probed.ok && probed.answer.contains("is no address for checks"), "{host}: {probed:?}");
        }
    }
}

#[tokio::test]
async fn the_owner_of_the_host_denies_and_a_name_is_what_it_leads_to() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    let (url, requests) = serve(response("200 OK", "", "")).await;
    let url = url.replace("127.0.0.1", "localhost");
    let ask = async |text: &str| {
        std::fs::write(&policy, text).unwrap();
        asked(RenderedProbe::Http(get(url.clone())), 5000, &policy).await
    };
    let denied = ask("[checks]\ndeny = [\"127.0.0.0/8\", \"::1\"]\n").await;
    assert!(!denied.ok && denied.answer.contains("localhost leads to "), "{denied:?}");
    let unreadable = ask("[checks]\nallow = [\"everything\"]\n").await;
    assert!(!unreadable.ok && unreadable.answer.contains("\"everything\" is no network"), "{unreadable:?}");
    assert_eq!(*requests.borrow(), "", "nobody was asked");
    assert!(ask("").await.ok);
    assert!(requests.borrow().contains("localhost"), "by its name");
}

#[tokio::test]
async fn a_redirect_to_the_cloud_is_an_answer() {
    let answer = response("302 Found", "location: http://169.254.169.254/latest/meta-data\r\n", "");
    let probed = http(answer, |_| {}).await;
    assert!(!probed.ok && probed.answer.ends_with("302 Found, wanted a status from 200 to 299"), "{probed:?}");
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_by_its_size_or_by_the_time() {
    drover_proto::tls::install();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut pause = Duration::ZERO;
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let chunk = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
                let mut request = [0; 4096];
                let asked = stream.read(&mut request).await.is_ok();
                let mut good = asked && stream.write_all(head).await.is_ok();
                while good {
                    good = stream.write_all(&chunk).await.is_ok();
                    tokio::time::sleep(pause).await;
                }
            });
            // The next one drips.
            pause = Duration::from_millis(50);
        }
    });
    let begun = Instant::now();
    let flood = look(RenderedProbe::Http(get(url.clone()))).await;
    assert!(flood.ok && begun.elapsed() < Duration::from_secs(5), "{flood:?}");
    let begun = Instant::now();
    let drip = look_for(RenderedProbe::Http(get(url)), 400).await;
    assert!(!drip.ok && drip.answer.contains("no answer within 400ms"), "{drip:?}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    server.abort();
}

/// Shows a certificate that is good until so many days from now.
async fn shows(days: i64) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let date = until.to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |n: i8| u8::try_from(n).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(i32::from(date.year()), day(date.month()), day(date.day()));
    let leaf = CertificateDer::from(params.self_signed(&key).unwrap().der().to_vec());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The client is gone as soon as it has seen the certificate.
            acceptor.accept(stream).await.ok();
        }
    });
    address
}

#[tokio::test]
async fn the_certificate_of_a_server_is_looked_at_until_when_it_is_good() {
    let fine = look(certificate_of(&shows(60).await)).await;
    assert!(fine.ok && fine.answer.contains("is good until "), "{fine:?}");
    let soon = look(certificate_of(&shows(5).await)).await;
    assert!(!soon.ok && soon.answer.ends_with("wanted 14d more"), "{soon:?}");
    let expired = look(certificate_of(&shows(-5).await)).await;
    assert!(!expired.ok && expired.answer.contains("it expired "), "{expired:?}");
    let (plain, _requests) = serve(response("200 OK", "", "")).await;
    let address = plain.trim_start_matches("http://").trim_end_matches('/');
    let none = look(certificate_of(address)).await;
    assert!(!none.ok && none.answer.starts_with(&format!("the certificate of {address}: ")), "{none:?}");
}

#[tokio::test]
async fn a_certificate_in_a_file_a_container_and_a_file_are_looked_at() {
    let missing = "/no/such/file".parse().unwrap();
    let at = CertificateAt::File(missing);
    let probed = look(RenderedProbe::Certificate(CertificateProbe { at, min_left: Span::default() })).await;
    assert!(!probed.ok && probed.answer.starts_with("/no/such/file: "), "{probed:?}");
    let here = FileProbe { path: "/etc/hostname".parse().unwrap(), max_age: Span::from_ms(1), min_size_bytes: None };
    let probed = look(RenderedProbe::File(here)).await;
    assert!(!probed.ok && probed.answer.contains("old, wanted at most 1ms"), "{probed:?}");
    assert!(look(RenderedProbe::Disk(DiskProbe { path: "/".parse().unwrap(), max_used: 100 })).await.ok);
}
