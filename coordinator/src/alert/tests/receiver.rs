//! A web server on this machine that keeps what it was sent, and answers as it is told just then.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch};

/// What it does with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Answers with this status.
    Answers(u16),
    /// Never answers.
    Hangs,
    /// Waits until it does something else.
    Waits,
}

pub(super) struct Receiver {
    pub(super) url: String,
    mode: watch::Sender<Mode>,
    heard: Arc<Mutex<Vec<Value>>>,
    taken: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    pub(super) async fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let mode = watch::Sender::new(mode);
        let (heard, taken) = (Arc::new(Mutex::default()), Arc::new(Mutex::default()));
        let (told, all, kept) = (mode.subscribe(), heard.clone(), taken.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (told, all, kept) = (told.clone(), all.clone(), kept.clone());
                let service = service_fn(move |request| answer(request, told.clone(), all.clone(), kept.clone()));
                let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(served.await) });
            }
        });
        Self { url, mode, heard, taken }
    }

    pub(super) fn does(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Every request.
    pub(super) fn heard(&self) -> Vec<Value> {
        self.heard.lock().unwrap().clone()
    }

    /// Those that were answered with 200.
    pub(super) fn taken(&self) -> Vec<Value> {
        self.taken.lock().unwrap().clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    mut mode: watch::Receiver<Mode>,
    heard: Arc<Mutex<Vec<Value>>>,
    taken: Arc<Mutex<Vec<Value>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body: Value = serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
    heard.lock().unwrap().push(body.clone());
    let does = *mode.wait_for(|mode| *mode != Mode::Waits).await.unwrap();
    let Mode::Answers(status) = does else { return std::future::pending().await };
    if status == 200 {
        taken.lock().unwrap().push(body);
    }
    Ok(Response::builder().status(status).body(Full::default()).unwrap())
}
