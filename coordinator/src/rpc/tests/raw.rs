//! A peer that speaks HTTP/2 frame by frame, and so can say what no client library says.

use std::{io, sync::Arc};

use drover_proto::tls::SERVER_NAME;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;

pub(super) struct Raw {
    stream: TlsStream<TcpStream>,
    next_stream: u32,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that nobody has to remember.
pub(super) fn header(name: &str, value: &str) -> Vec<u8> {
    let mut all = vec![0];
    for text in [name, value] {
        let mut left = text.len();
        if left < 127 {
            all.push(u8::try_from(left).unwrap());
        } else {
            all.push(127);
            left -= 127;
            while left >= 128 {
                all.push(u8::try_from(left % 128).unwrap() | 128);
                left /= 128;
            }
            all.push(u8::try_from(left).unwrap());
        }
        all.extend(text.as_bytes());
    }
    all
}

pub(super) fn headers(path: &str) -> Vec<u8> {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", SERVER_NAME),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .map(|(name, value)| header(name, value))
    .concat()
}

impl Raw {
    /// Connects; no answer may have more than `window` bytes before it is asked for.
    pub(super) async fn new(world: &World, identity: Option<&Identity>, window: u32) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let tcp = socket.connect(world.address.parse().unwrap()).await.unwrap();
        let config = client_config(&world.trust, identity).unwrap();
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        let mut raw = Self { stream, next_stream: 1 };
        let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &settings)[..]].concat();
        raw.write(&hello).await.unwrap();
        raw
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Begins a call; more may be said on its stream.
    pub(super) async fn call(&mut self, path: &str, message: &impl prost::Message) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let data = [&[0], &length[..], &message].concat();
        let begin = frame(HEADERS, END_HEADERS, stream, &headers(path));
        self.write(&[begin, frame(DATA, 0, stream, &data)].concat()).await.unwrap();
        stream
    }

    /// Says that a call's request is complete.
    pub(super) async fn close(&mut self, stream: u32) {
        self.write(&frame(DATA, END_STREAM, stream, &[])).await.unwrap();
    }

    /// Answers pings, and asks for nothing, until the other side has had enough.
    pub(super) async fn until_cut(&mut self) {
        loop {
            let mut head = [0; 9];
            if self.stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            if self.stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            let answer = match (head[3], head[4] & ACK) {
                (PING, 0) => frame(PING, ACK, 0, &payload),
                (SETTINGS, 0) => frame(SETTINGS, ACK, 0, &[]),
                _ => continue,
            };
            if self.write(&answer).await.is_err() {
                return;
            }
        }
    }
}
