//! A web server on this machine that answers as it is told, and checks signatures as the documents of DingTalk and Feishu say.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::Sleep};

/// What it does with every request.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// `ok`, or a code, by what it was sent.
    AsChatsDo,
    /// This, with headers and a body.
    Status(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Nothing, and the connection stays.
    Hangs,
    /// Nothing, and the connection goes.
    HangsUp,
    /// 200, and then bytes for ever.
    NeverEnds,
    /// 200 and the beginning of an answer, and the connection goes.
    BreaksOff,
    /// The same, and the connection stays.
    Stalls,
}

/// A request that came.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) authorization: String,
    pub(super) body: String,
}

/// Ends when it is dropped.
pub(super) struct Receiver {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    given: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(super) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, given) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (all, bytes) = (seen.clone(), given.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (all, bytes) = (all.clone(), bytes.clone());
                let service = service_fn(move |request| respond(answer, request, all.clone(), bytes.clone()));
                let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(served.await) });
            }
        });
        Self { port, seen, given, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many bytes of an answer without end were taken.
    pub(super) fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }
}

async fn respond(
    answer: Answer,
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    given: Arc<AtomicUsize>,
) -> Result<Response<Text>, std::io::Error> {
    let header = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let authorization = header("authorization");
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    seen.lock().unwrap().push(Seen { path, authorization, body: body.clone() });
    let text = |text: &str| Text { left: Some(Bytes::copy_from_slice(text.as_bytes())), ..Text::default() };
    match answer {
        Answer::AsChatsDo => Ok(Response::new(text(&as_chats_do(&query, &body)))),
        Answer::Status(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            Ok(response.body(text(body)).unwrap())
        }
        Answer::Hangs => std::future::pending().await,
        Answer::HangsUp => Err(std::io::Error::other("hangs up")),
        Answer::NeverEnds => {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(Response::new(Text { given: Some(given), ..Text::default() }))
        }
        Answer::BreaksOff => {
            // The beginning is to be under way by then.
            let end = End::Breaks(Box::pin(tokio::time::sleep(Duration::from_millis(50))));
            Ok(Response::new(Text { end, ..text("{") }))
        }
        Answer::Stalls => Ok(Response::new(Text { end: End::Stalls, ..text("{") })),
    }
}

/// The secret that both robots have.
const SECRET: &str = "SECthis is secret";

fn as_chats_do(query: &str, body: &str) -> String {
    let sent: Value = serde_json::from_str(body).unwrap();
    let sign = |key: &str, message: &str| {
        STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), message.as_bytes()))
    };
    if sent["msgtype"] == "markdown" && query.contains("sign=") {
        let url = reqwest::Url::parse(&format!("http://dingtalk/?{query}")).unwrap();
        let field = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let is_right = field("sign") == sign(SECRET, &format!("{}\n{SECRET}", field("timestamp")));
        // What is not encoded for a URL (`+`, `/`, `=`) does not come through.
        assert!(
            field("access_token") == "S3CRET-QUERY" && !query.split("sign=").nth(1).unwrap().contains(['+', '/', '='])
        );
        let code = if is_right { 0 } else { 310_000 };
        return json!({ "errcode": code, "errmsg": if is_right { "ok" } else { "sign not match" } }).to_string();
    }
    if sent["msgtype"] == "markdown" {
        return json!({ "errcode": 0, "errmsg": "ok" }).to_string();
    }
    if sent["msg_type"] == "interactive" {
        let timestamp = sent["timestamp"].as_str().unwrap();
        let is_right = timestamp.len() == 10 && sent["sign"] == sign(&format!("{timestamp}\n{SECRET}"), "");
        let code = if is_right { 0 } else { 19_021 };
        return json!({ "code": code, "msg": if is_right { "success" } else { "sign match fail" } }).to_string();
    }
    "ok".to_owned()
}

/// A text, or one without end.
#[derive(Default)]
struct Text {
    left: Option<Bytes>,
    given: Option<Arc<AtomicUsize>>,
    end: End,
}

/// What is behind the text.
#[derive(Default)]
enum End {
    #[default]
    Whole,
    Breaks(Pin<Box<Sleep>>),
    Stalls,
}

impl Body for Text {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        if let Some(given) = &self.given {
            given.fetch_add(4096, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 4096])))));
        }
        if let Some(bytes) = self.left.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match &mut self.end {
            End::Whole => Poll::Ready(None),
            End::Breaks(at) => at.as_mut().poll(cx).map(|()| Some(Err(std::io::Error::other("breaks off")))),
            End::Stalls => Poll::Pending,
        }
    }
}
