//! Configurations that are refused, and real clients with and without what they are asked for.

use std::{net::SocketAddr, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use reqwest::{Certificate, Client, Identity, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::serve::{self, tests::Counting};

/// Of `open sesame`, at the least cost.
fn hash() -> String {
    bcrypt::hash("open sesame", 4).unwrap()
}

fn write(dir: &tempfile::TempDir, name: &str, text: &str) {
    // Another file each time, as editors and certbot have it.
    let next = dir.path().join("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, dir.path().join(name)).unwrap();
}

#[test]
fn what_cannot_hold_is_refused_with_its_field() {
    let dir = tempfile::tempdir().unwrap();
    let costly = hash().replace("$04$", "$20$");
    let table = [
        ("basic_auth_users: {}\n", "names nobody"),
        ("basic_auth_users: { bob: secret }\n", "basic_auth_users.bob: is no bcrypt hash"),
        (&format!("basic_auth_users: {{ bob: '{costly}' }}\n"), "its cost is 20"),
        ("basic_auth: { bob: x }\n", "there is no basic_auth;"),
        ("tls_server_config: { cert_file: a.pem }\n", "cert_file and key_file go together"),
        ("tls_server_config: { cert_file: a.pem, key_file: b.pem }\n", "tls_server_config.cert_file"),
        ("tls_server_config: { max_version: TLS12 }\n", "TLS13 is what is spoken"),
        ("tls_server_config: { ciphers: [x] }\n", "tls_server_config.ciphers: there is no such setting"),
        ("tls_server_config: { client_ca_file: ca.pem }\n", "cert_file and key_file go together"),
        ("http_server_config: { headers: { Server: x } }\n", "headers.Server: only "),
        ("a: [\n", "is not YAML: line "),
        ("", "is no map of settings"),
        ("basic_auth_us\n", "is no map of settings"),
        ("- basic_auth_users\n", "is no map of settings"),
        ("tls_server_config: [x]\n", "tls_server_config: is no map of settings"),
        ("tls_server_config: {}\ntls_server_config: {}\n", "tls_server_config is there twice"),
        ("basic_auth_users: { bob: '$2y$10$short' }\n", "basic_auth_users.bob: is no bcrypt hash"),
    ];
    for (text, why) in table {
        write(&dir, "web.yml", text);
        let said = Web::new(Some(dir.path().join("web.yml"))).now().map(drop).unwrap_err();
        assert!(said.contains(why) && said.contains("web.yml: "), "{text}: {said}");
    }
    let missing = Web::new(Some(dir.path().join("missing.yml"))).now().map(drop).unwrap_err();
    assert!(missing.contains("cannot be read"), "{missing}");
}

async fn served(dir: &tempfile::TempDir) -> SocketAddr {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve::accept(listener, Arc::new(Counting::default()), Web::new(Some(dir.path().join("web.yml")))));
    address
}

#[tokio::test]
async fn a_password_is_asked_for_and_a_change_of_the_file_counts_at_once() {
    drover_proto::tls::install();
    let dir = tempfile::tempdir().unwrap();
    let headers = "http_server_config: { http2: true, headers: { x-frame-options: deny } }\n";
    write(&dir, "web.yml", &format!("basic_auth_users: {{ bob: '{}' }}\n{headers}", hash()));
    let address = served(&dir).await;
    let url = format!("http://{address}/metrics");
    let client = Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(30)).build().unwrap();
    let status = async |user: Option<(&str, &str)>| {
        let request = client.get(&url);
        let request = user.map_or(client.get(&url), |(user, password)| request.basic_auth(user, Some(password)));
        request.send().await.unwrap()
    };
    let good = status(Some(("bob", "open sesame"))).await;
    assert_eq!((good.status(), good.headers()["x-frame-options"].as_bytes()), (StatusCode::OK, &b"deny"[..]));
    assert!(good.text().await.unwrap().contains("scrapes_total "));
    for user in [None, Some(("bob", "open")), Some(("eve", "open sesame")), Some(("", ""))] {
        let refused = status(user).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{user:?}");
        assert_eq!(refused.headers()["www-authenticate"], "Basic");
    }
    assert_eq!(status(Some(("bob", "open sesame"))).await.status(), StatusCode::OK);

    write(&dir, "web.yml", &format!("basic_auth_users: {{ eve: '{}' }}\n", hash()));
    assert_eq!(status(Some(("eve", "open sesame"))).await.status(), StatusCode::OK);
    assert_eq!(status(Some(("bob", "open sesame"))).await.status(), StatusCode::UNAUTHORIZED);
    // What cannot be understood lets nobody in, on an old connection or a new one.
    let mut old = TcpStream::connect(address).await.unwrap();
    assert!(raw(&mut old).await.starts_with("HTTP/1.1 401"));
    write(&dir, "web.yml", "basic_auth_users: [\n");
    assert!(raw(&mut old).await.starts_with("HTTP/1.1 503"));
    assert_eq!(raw(&mut TcpStream::connect(address).await.unwrap()).await, "");
}

/// What is answered to a request without a password: its head; nothing, if the connection is closed.
async fn raw(stream: &mut TcpStream) -> String {
    let request = b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut head, mut byte) = (Vec::new(), [0]);
    if stream.write_all(request).await.is_err() {
        return String::new();
    }
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_connection_is_not_older_than_what_it_was_made_under() {
    drover_proto::tls::install();
    let (dir, ca) = (tempfile::tempdir().unwrap(), authority());
    let (certificate, key) = signed(&ca, "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    write(&dir, "cert.pem", &certificate);
    write(&dir, "key.pem", &key);
    write(&dir, "web.yml", &format!("basic_auth_users: {{ bob: '{}' }}\n", hash()));
    let mut old = TcpStream::connect(served(&dir).await).await.unwrap();
    assert!(raw(&mut old).await.starts_with("HTTP/1.1 401"));
    // No password any more, but TLS, which this connection has not.
    write(&dir, "web.yml", "tls_server_config: { cert_file: cert.pem, key_file: key.pem }\n");
    assert_eq!(raw(&mut old).await, "");
}

/// A CA, and what it has signed for this name: certificate and key.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signed(ca: &CertifiedIssuer<'static, KeyPair>, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn certificates_are_shown_and_asked_for() {
    drover_proto::tls::install();
    let (dir, ca) = (tempfile::tempdir().unwrap(), authority());
    let (certificate, key) = signed(&ca, "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    write(&dir, "cert.pem", &certificate);
    write(&dir, "key.pem", &key);
    write(&dir, "ca.pem", &ca.pem());
    let config = "tls_server_config: { cert_file: cert.pem, key_file: key.pem";
    write(&dir, "web.yml", &format!("{config} }}\n"));
    let address = served(&dir).await;
    let url = format!("https://localhost:{}/metrics", address.port());
    let trusted = Certificate::from_pem(ca.pem().as_bytes()).unwrap();
    let client = |identity: Option<&(String, String)>| {
        let builder = Client::builder()
            .no_proxy()
            .tls_certs_only([trusted.clone()])
            .resolve("localhost", address)
            .resolve("elsewhere", address);
        let builder = match identity {
            Some((certificate, key)) => {
                builder.identity(Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap())
            }
            None => builder,
        };
        builder.timeout(Duration::from_secs(30)).build().unwrap()
    };
    assert_eq!(client(None).get(&url).send().await.unwrap().status(), StatusCode::OK);
    let plain = format!("http://127.0.0.1:{}/metrics", address.port());
    assert!(client(None).get(&plain).send().await.is_err(), "nothing is told without TLS");

    write(
        &dir,
        "web.yml",
        &format!("{config}, client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert }}\n"),
    );
    assert!(client(None).get(&url).send().await.is_err());
    let own = signed(&ca, "prometheus", ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(client(Some(&own)).get(&url).send().await.unwrap().status(), StatusCode::OK);
    let foreign = signed(&authority(), "prometheus", ExtendedKeyUsagePurpose::ClientAuth);
    assert!(client(Some(&foreign)).get(&url).send().await.is_err());

    // A renewed certificate is shown to the next who connects.
    let (certificate, key) = signed(&ca, "elsewhere", ExtendedKeyUsagePurpose::ServerAuth);
    write(&dir, "key.pem", &key);
    write(&dir, "cert.pem", &certificate);
    assert!(client(Some(&own)).get(&url).send().await.is_err(), "it is another name's");
    let elsewhere = format!("https://elsewhere:{}/metrics", address.port());
    assert_eq!(client(Some(&own)).get(&elsewhere).send().await.unwrap().status(), StatusCode::OK);
}
