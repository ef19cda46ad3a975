//! What the hosts take for the registry: passes everything on to the real one, writes down what was asked for, and
//! misbehaves on command.

use std::{
    io::{BufReader, Read, Result, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::lab::{
    RUNNER,
    http::{Head, read_head},
};

/// Blobs from this size on are layers; below it are the images' small configurations.
const LAYER: usize = 16 << 10;

/// How a registry can misbehave, until [`super::Registry::heal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every request is answered by 401.
    Unauthorized,
    /// Every request is answered by 429.
    TooManyRequests,
    /// No request is answered; those that wait break off when the registry heals.
    Hang,
    /// The connection ends in the middle of each layer.
    LayerBreaks,
    /// Each layer comes to its middle, and no further.
    LayerStalls,
}

/// The listening side. Dropping it ends every connection.
pub(super) struct Front {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    upstream: SocketAddr,
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    fault: Option<Fault>,
    asked: Vec<String>,
    over: bool,
}

impl Front {
    pub(super) fn start(upstream: SocketAddr) -> Front {
        let listener = TcpListener::bind((RUNNER, 0)).expect("a free port: the lab must be up before a registry");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State { upstream, now: Mutex::default(), changed: Condvar::new() });
        let for_thread = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if for_thread.lock().over {
                    return;
                }
                let state = Arc::clone(&for_thread);
                // A client that goes away is none of the registry's business.
                std::thread::spawn(move || state.serve(&client).ok());
            }
        });
        Front { address, state }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn set(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
        self.state.changed.notify_all();
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.state.lock().asked.clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.state.lock().over = true;
        self.state.changed.notify_all();
        // Wakes the listener; if it cannot be reached it has nothing to be woken for.
        TcpStream::connect(self.address).ok();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request; whatever the client wants next it has to connect for again.
    fn serve(&self, client: &TcpStream) -> Result<()> {
        let mut from_client = BufReader::new(client);
        let head = read_head(&mut from_client)?;
        let fault = {
            let mut now = self.lock();
            let what = head.first.rsplit_once(' ').map_or(head.first.as_str(), |(what, _version)| what);
            now.asked.push(what.to_owned());
            now.fault
        };
        match fault {
            Some(Fault::Unauthorized) => refuse(client, "401 Unauthorized", "UNAUTHORIZED"),
            Some(Fault::TooManyRequests) => refuse(client, "429 Too Many Requests", "TOOMANYREQUESTS"),
            Some(Fault::Hang) => {
                self.wait_out(Fault::Hang);
                Ok(())
            }
            Some(Fault::LayerBreaks | Fault::LayerStalls) | None => self.pass_on(client, from_client, &head, fault),
        }
    }

    fn pass_on(&self, client: &TcpStream, mut body: impl Read + Send, head: &Head, fault: Option<Fault>) -> Result<()> {
        let upstream = TcpStream::connect(self.upstream)?;
        (&upstream).write_all(with_one_request(head).as_bytes())?;
        std::thread::scope(|scope| {
            // Ends when the client hangs up, which it does when it has its answer, or when the answer ends below.
            scope.spawn(|| std::io::copy(&mut body, &mut &upstream));
            let done = self.answer(client, &upstream, head, fault);
            client.shutdown(Shutdown::Both).ok();
            upstream.shutdown(Shutdown::Both).ok();
            done
        })
    }

    fn answer(&self, mut client: &TcpStream, upstream: &TcpStream, asked: &Head, fault: Option<Fault>) -> Result<()> {
        let mut from_upstream = BufReader::new(upstream);
        let head = read_head(&mut from_upstream)?;
        let length = head.length().unwrap_or_default();
        client.write_all(text(&head).as_bytes())?;
        if let Some(fault) = fault
            && asked.first.starts_with("GET ")
            && asked.first.contains("/blobs/")
            && length >= LAYER
        {
            std::io::copy(&mut from_upstream.by_ref().take(length as u64 / 2), &mut client)?;
            if fault == Fault::LayerStalls {
                self.wait_out(fault);
            }
        } else {
            std::io::copy(&mut from_upstream, &mut client)?;
        }
        Ok(())
    }

    fn wait_out(&self, fault: Fault) {
        let now = self.lock();
        let over = self.changed.wait_while(now, |now| now.fault == Some(fault) && !now.over);
        drop(over);
    }
}

/// The client's request, so that the registry answers it and closes the connection.
fn with_one_request(head: &Head) -> String {
    let mut headers = head.headers.clone();
    headers.retain(|(name, _)| name != "connection");
    headers.push(("connection".to_owned(), "close".to_owned()));
    text(&Head { first: head.first.clone(), headers })
}

fn text(head: &Head) -> String {
    let lines: String = head.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{}\r\n{lines}\r\n", head.first)
}

fn refuse(mut client: &TcpStream, status: &str, code: &str) -> Result<()> {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"refused by the test"}}]}}"#);
    let length = body.len();
    let challenge = if code == "UNAUTHORIZED" { "WWW-Authenticate: Basic realm=\"registry\"\r\n" } else { "" };
    let kind = "Docker-Distribution-Api-Version: registry/2.0\r\nContent-Type: application/json";
    let head =
        format!("HTTP/1.1 {status}\r\n{kind}\r\n{challenge}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    client.write_all((head + &body).as_bytes())
}

/// Where the real registry listens.
pub(super) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
