//! A constant load on a host's web server that counts every request which was not answered as it should be: on connections
//! that are kept and on new ones, short requests and long ones.
//!
//! A server may close a connection that is idle at any time. A client that keeps connections opens another one when it sees that,
//! and when its request has crossed it on the way, sends that again (RFC 9112, 9.3.1). So does this one, and counts it; what
//! fails on a new connection is lost.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

/// However slow a machine is: an answer that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(30);
/// What `GET /long` takes.
const LONG: Duration = Duration::from_secs(3);
/// From a short answer to the next request: a load that leaves something of the machine to the host it is on.
const PAUSE: Duration = Duration::from_millis(3);
/// Lost requests that are told one by one.
const TOLD: usize = 10;

/// How many clients do what at the same time; each sends its next request when it has the answer to the last.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// `GET /` on a connection that is kept.
    pub kept: usize,
    /// `POST /` on a new connection each, which nobody may send again.
    pub fresh: usize,
    /// `GET /long` on a new connection each.
    pub long: usize,
}

/// Every kind at once, with hundreds of requests a second.
pub const EVERY_KIND: Shape = Shape { kept: 8, fresh: 8, long: 6 };

/// What has been counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answered with 200 and a whole body: short ones on connections that are kept,
    pub kept: u64,
    /// short ones on new connections,
    pub fresh: u64,
    /// and long ones.
    pub long: u64,
    /// Of those on kept ones, sent again on a new connection, since the kept one had been closed before anything of an answer came.
    pub resent: u64,
    /// Not answered so.
    pub lost: u64,
    /// How the first of these went.
    pub told: Vec<String>,
    /// By the version that answered.
    pub versions: BTreeMap<String, u64>,
}

impl Tally {
    /// All that were answered.
    pub fn answered(&self) -> u64 {
        self.kept + self.fresh + self.long
    }
}

/// A load that goes on until it is stopped.
pub struct Load {
    begun: Instant,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins.
    pub fn on(host: Ipv4Addr, shape: Shape) -> Load {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Tally::default())));
        let kinds = [(shape.kept, Kind::Kept), (shape.fresh, Kind::Fresh), (shape.long, Kind::Long)];
        let clients = kinds.into_iter().flat_map(|(count, kind)| std::iter::repeat_n(kind, count));
        let mut longs = 0;
        let clients = clients.map(|kind| {
            longs += u32::from(kind == Kind::Long);
            let client = Client { at: (host, 80).into(), kind, stop: stop.clone(), tally: tally.clone(), kept: None };
            // At any time some of the long ones are near their beginning and some near their end.
            let wait = if kind == Kind::Long {
                LONG * (longs - 1) / u32::try_from(shape.long).unwrap_or(1)
            } else {
                Duration::ZERO
            };
            std::thread::spawn(move || {
                std::thread::sleep(wait);
                client.run();
            })
        });
        Load { begun: Instant::now(), clients: clients.collect(), stop, tally }
    }

    /// What has been counted so far.
    pub fn so_far(&self) -> Tally {
        self.tally.lock().expect("no client panics with it").clone()
    }

    /// Requests a second, so far.
    pub fn rate(&self) -> f64 {
        self.so_far().answered() as f64 / self.begun.elapsed().as_secs_f64()
    }

    /// Waits for every answer that is under way.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        self.tally.lock().expect("no client panics with it").clone()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kept,
    Fresh,
    Long,
}

struct Client {
    at: SocketAddr,
    kind: Kind,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    kept: Option<BufReader<TcpStream>>,
}

/// Why there is no answer.
enum Failure {
    /// The connection was closed before anything of one came.
    Nothing(String),
    Other(String),
}

impl Client {
    fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.kept.take_if(|connection| is_closed(connection.get_ref()));
            let (mut resent, kept) = (false, self.kept.is_some());
            let answer = match self.ask() {
                Err(Failure::Nothing(_)) if kept => {
                    resent = true;
                    self.kept = None;
                    self.ask()
                }
                answer => answer,
            };
            let mut tally = self.tally.lock().expect("no client panics with it");
            match answer {
                Ok(version) => {
                    tally.resent += u64::from(resent);
                    *match self.kind {
                        Kind::Kept => &mut tally.kept,
                        Kind::Fresh => &mut tally.fresh,
                        Kind::Long => &mut tally.long,
                    } += 1;
                    *tally.versions.entry(version).or_default() += 1;
                }
                Err(Failure::Nothing(why) | Failure::Other(why)) => {
                    self.kept = None;
                    tally.lost += 1;
                    if tally.told.len() < TOLD {
                        tally.told.push(why);
                    }
                }
            }
            drop(tally);
            if self.kind != Kind::Long {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Sends one request and reads its answer; the version that gave it.
    fn ask(&mut self) -> Result<String, Failure> {
        let request = match self.kind {
            Kind::Kept => "GET / HTTP/1.1\r\nHost: shop\r\n\r\n",
            Kind::Fresh => "POST / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbuy!",
            Kind::Long => "GET /long HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n",
        };
        let mut connection = match self.kept.take() {
            Some(connection) => connection,
            None => {
                let connect = TcpStream::connect_timeout(&self.at, PATIENCE);
                BufReader::new(connect.map_err(|error| Failure::Other(format!("connecting: {error}")))?)
            }
        };
        let socket = connection.get_mut();
        let other = |what: &str, error: &std::io::Error| Failure::Other(format!("{what}: {error}"));
        socket
            .set_nodelay(true)
            .and_then(|()| socket.set_read_timeout(Some(PATIENCE)))
            .map_err(|e| other("socket", &e))?;
        if let Err(error) = socket.write_all(request.as_bytes()) {
            return Err(Failure::Nothing(format!("sending: {error}")));
        }
        let mut status = String::new();
        match connection.read_line(&mut status) {
            Ok(0) => return Err(Failure::Nothing("closed without an answer".to_owned())),
            Err(error) if status.is_empty() && error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Err(Failure::Nothing(format!("reading: {error}")));
            }
            Err(error) => return Err(other("reading", &error)),
            Ok(_) => {}
        }
        let (mut length, mut closes) = (0, false);
        loop {
            let mut line = String::new();
            let read = connection.read_line(&mut line).map_err(|error| other("reading the head", &error))?;
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = bytes.parse().unwrap_or(0);
            }
            closes |= read == 0 || line == "connection: close";
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).map_err(|error| other("reading the body", &error))?;
        if !status.contains(" 200 ") {
            return Err(Failure::Other(format!("{} {}", status.trim_end(), String::from_utf8_lossy(&body))));
        }
        let said: Value =
            serde_json::from_slice(&body).map_err(|e| Failure::Other(format!("a body cut short: {e}")))?;
        // A worker of nginx on its way out says that it closes.
        self.kept = Some(connection).filter(|_| self.kind == Kind::Kept && !closes);
        Ok(said["version"].as_str().unwrap_or_default().to_owned())
    }
}

/// Whether the server has closed it, as far as that has come here.
fn is_closed(connection: &TcpStream) -> bool {
    let looked = connection.set_nonblocking(true).and_then(|()| connection.peek(&mut [0]));
    let open = looked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    !open || connection.set_nonblocking(false).is_err()
}
