//! Checks against small servers of this test's own and programs that are really run.

use std::time::Instant;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

mod reach;

fn systemd() -> Systemd {
    Systemd::connect_to("unix:path=/no/such/bus")
}

async fn look(probe_: RenderedProbe) -> Probed {
    look_for(probe_, 5_000).await
}

async fn look_for(looked: RenderedProbe, timeout_ms: u64) -> Probed {
    let directory = tempfile::tempdir().unwrap();
    asked(looked, timeout_ms, &directory.path().join("policy.toml")).await
}

async fn asked(looked: RenderedProbe, timeout_ms: u64, policy: &Path) -> Probed {
    let check = RenderedCheck::new(looked, Span::from_secs(1), Span::from_ms(timeout_ms));
    Asker::under(&systemd(), &Engine::default(), policy).probe(&check).await
}

/// Answers every connection with these bytes, and gives back the last request.
async fn serve(answer: Vec<u8>) -> (String, tokio::sync::watch::Receiver<String>) {
    drover_proto::tls::install();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (seen, requests) = tokio::sync::watch::channel(String::new());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut buffer, mut request) = ([0; 4096], Vec::new());
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
                    _ => break,
                }
            }
            seen.send_replace(String::from_utf8_lossy(&request).into_owned());
            // The client may have gone away, which is its business.
            stream.write_all(&answer).await.ok();
        }
    });
    (url, requests)
}

fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len()).into()
}

fn get(url: String) -> RenderedHttp {
    RenderedHttp {
        url,
        method: "GET".to_owned(),
        headers: BTreeMap::new(),
        status: None,
        expect_headers: BTreeMap::new(),
        body_contains: None,
        json: BTreeMap::new(),
    }
}

async fn http(answer: Vec<u8>, change: impl FnOnce(&mut RenderedHttp)) -> Probed {
    let (url, _requests) = serve(answer).await;
    let mut request = get(url);
    change(&mut request);
    look(RenderedProbe::Http(request)).await
}

#[tokio::test]
async fn the_status_is_compared() {
    let good = http(response("200 OK", "", "hi"), |_| {}).await;
    assert!(good.ok && good.answer.ends_with(": 200 OK"), "{good:?}");
    assert!(http(response("204 No Content", "", ""), |_| {}).await.ok);
    let bad = http(response("500 Internal Server Error", "", "no\n data\u{1b}[31mbase"), |_| {}).await;
    let wanted = "500 Internal Server Error, wanted a status from 200 to 299";
    assert!(!bad.ok && bad.answer.ends_with(wanted), "{bad:?}");
    let bad = http(response("200 OK", "", ""), |r| r.status = Some(404)).await;
    assert!(bad.answer.ends_with("200 OK, wanted status 404"), "{bad:?}");
    assert!(http(response("404 Not Found", "", ""), |r| r.status = Some(404)).await.ok);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let (elsewhere, requests) = serve(response("200 OK", "", "")).await;
    let answer = response("302 Found", &format!("location: {elsewhere}\r\n"), "");
    let bad = http(answer.clone(), |_| {}).await;
    assert!(!bad.ok && bad.answer.contains("302 Found"), "{bad:?}");
    let good = http(answer, |r| {
        r.status = Some(302);
        r.expect_headers.insert("Location".to_owned(), elsewhere);
    });
    assert!(good.await.ok);
    assert_eq!(*requests.borrow(), "");
}

#[tokio::test]
async fn method_and_headers_are_sent_and_headers_compared() {
    let (url, requests) = serve(response("200 OK", "x-kind: tea\r\n", "")).await;
    let mut request = get(url);
    request.method = "HEAD".to_owned();
    request.headers.insert("Host".to_owned(), "example.test".to_owned());
    request.expect_headers.insert("X-Kind".to_owned(), "tea".to_owned());
    assert!(look(RenderedProbe::Http(request.clone())).await.ok);
    let seen = requests.borrow().to_lowercase();
    assert!(seen.starts_with("head / http/1.1\r\n") && seen.contains("\r\nhost: example.test\r\n"), "{seen}");
    assert_eq!(seen.matches("host:").count(), 1, "{seen}");
    request.expect_headers.insert("X-Kind".to_owned(), "coffee".to_owned());
    let bad = look(RenderedProbe::Http(request.clone())).await;
    assert!(bad.answer.contains("wanted header X-Kind: \"coffee\" (it has \"tea\")"), "{bad:?}");
    request.headers.insert("X".to_owned(), "a\r\nEvil: yes".to_owned());
    let bad = look(RenderedProbe::Http(request)).await;
    assert!(!bad.ok && bad.answer.contains("cannot have that value"), "{bad:?}");
}

#[tokio::test]
async fn the_body_is_searched() {
    let has = |text: &str| {
        let text = text.to_owned();
        http(response("200 OK", "", "all is well"), |r| r.body_contains = Some(text))
    };
    assert!(has("is well").await.ok && has("").await.ok);
    let bad = has("on fire").await;
    assert!(bad.answer.contains("wanted a body with \"on fire\""), "{bad:?}");
}

#[tokio::test]
async fn json_is_compared_by_path_and_value() {
    let body = r#"{"status":"ok","n":3,"up":true,"a":{"b":[{"c":1.0},2]},"odd-key":null,"v":"3"}"#;
    let look = |path: &str, wanted: Value| {
        let path = path.to_owned();
        http(response("200 OK", "", body), move |r| drop(r.json.insert(path, wanted)))
    };
    for (path, wanted) in [
        ("status", json!("ok")),
        ("$.status", json!("ok")),
        ("n", json!(3)),
        ("n", json!("3")),
        ("up", json!(true)),
        ("up", json!("true")),
        ("a.b[0].c", json!(1)),
        ("$.a.b[-1:]", json!(2)),
        ("$..c", json!(1.0)),
        ("odd-key", json!(null)),
        ("a", json!({"b": [{"c": 1.0}, 2]})),
    ] {
        let probed = look(path, wanted.clone()).await;
        assert!(probed.ok, "{path} = {wanted}: {probed:?}");
    }
    for (path, wanted, said) in [
        ("status", json!("down"), "wanted status = \"down\" in its JSON (it has \"ok\")"),
        ("none", json!(1), "it has no none"),
        ("v", json!(3), "(it has \"3\")"),
        ("$[", json!(1), "which it is not"),
    ] {
        let probed = look(path, wanted).await;
        assert!(!probed.ok && probed.answer.contains(said), "{probed:?}");
    }
    let bad = http(response("200 OK", "", "<html>"), |r| drop(r.json.insert("status".to_owned(), json!("ok")))).await;
    assert!(bad.answer.contains("wanted a body in JSON"), "{bad:?}");
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_a_mebibyte() {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n".to_vec();
    answer.extend(std::iter::repeat_n(b'x', 2 << 20));
    assert!(http(answer, |_| {}).await.ok);
    let broken = http(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf".to_vec(), |_| {}).await;
    assert!(!broken.ok && broken.answer.contains("broke off"), "{broken:?}");
}

#[tokio::test]
async fn no_answer_ends_with_the_timeout_and_no_server_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    serve(Vec::new()).await;
    let begun = Instant::now();
    let silent = look_for(RenderedProbe::Http(get(format!("http://{address}/"))), 300).await;
    assert_eq!(silent.answer, format!("GET http://{address}/: no answer within 300ms"));
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(look(RenderedProbe::Tcp(address.to_string())).await.ok);
    drop(listener);
    let gone = look(RenderedProbe::Http(get(format!("http://{address}/")))).await;
    assert!(!gone.ok && gone.answer.contains("Connection refused"), "{gone:?}");
    let gone = look(RenderedProbe::Tcp(address.to_string())).await;
    assert!(!gone.ok && gone.answer.contains("Connection refused"), "{gone:?}");
    let odd = look(RenderedProbe::Http(get("http://[".to_owned()))).await;
    assert!(!odd.ok, "{odd:?}");
}

#[tokio::test]
async fn plain_text_is_no_answer_to_https() {
    drover_proto::tls::install();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream
    });
    let probed = look(RenderedProbe::Http(get(format!("https://{address}/")))).await;
    assert!(!probed.ok && probed.answer.contains("InvalidContentType"), "{probed:?}");
    server.abort();
}

#[tokio::test]
async fn a_program_is_run_as_its_user_and_judged_by_its_end() {
    let run = |line: &[&str], user: &str, timeout: u64| {
        let run = line.iter().map(|word| (*word).to_owned()).collect();
        look_for(RenderedProbe::Command { run, user: user.parse().unwrap() }, timeout)
    };
    assert_eq!(run(&["true"], "root", 5000).await, Probed::good("true: exit code 0"));
    assert_eq!(run(&["false"], "www-data", 5000).await.answer, "false: exit code 1, wanted exit code 0");
    let said = run(&["cat", "/etc/shadow"], "www-data", 5000).await.answer;
    assert!(
        said.starts_with("cat: exit code 1, wanted exit code 0: ") && said.ends_with("Permission denied"),
        "{said}"
    );
    let said = run(&["sleep", "60"], "www-data", 300).await.answer;
    assert_eq!(said, "sleep: took too long and was killed, wanted exit code 0");
    assert_eq!(run(&["drover-none"], "root", 5000).await.answer, "program \"drover-none\" was not found");
    assert_eq!(run(&["true"], "drover-none", 5000).await.answer, "true: user drover-none does not exist");
}

#[tokio::test]
async fn a_unit_cannot_be_well_when_systemd_is_away() {
    let probed = look(RenderedProbe::Unit("mono.service".parse().unwrap())).await;
    assert!(!probed.ok && probed.answer.starts_with("mono.service: systemd cannot be reached"), "{probed:?}");
}

#[tokio::test]
async fn a_look_that_hangs_takes_one_place() {
    let asker = Asker::new(&systemd(), &Engine::default());
    let (end, hangs) = std::sync::mpsc::channel::<()>();
    let hangs = Arc::new(Mutex::new(hangs));
    for _ in 0..HANGING + 2 {
        let hangs = hangs.clone();
        let look = asker.slowly("/nfs".to_owned(), move || {
            hangs.lock().unwrap().recv().unwrap_err();
            Probed::good("at last")
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), look).await.is_err(), "nobody waits for it");
    }
    let other = asker.slowly("/".to_owned(), || Probed::good("at once"));
    assert!(tokio::time::timeout(Duration::from_secs(5), other).await.unwrap().ok);
    drop(end);
}
