//! Who gets a place among the connections: few for peers without a certificate, some for each caller, and the rest of the
//! world cannot take an enrolled host's. `listen` asks.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    caller::Caller,
    counts::{Counted, Counts},
};

/// Of as many certificates the connections of one owner may be, if each has as many as it may.
const CERTIFICATES: usize = 4;

/// How many of what at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Handshakes; the next one waits.
    pub handshakes: usize,
    /// Handshakes with one address; the next one is refused.
    pub handshakes_per_address: usize,
    /// Connections with a certificate; the next one is refused.
    pub known: usize,
    /// Connections with one certificate of a host; the next one is refused.
    pub per_host: usize,
    /// Connections with one certificate of an operator, each of whose commands has its own; the next one is refused.
    pub per_operator: usize,
    /// Connections without a certificate; the next one is refused.
    pub anonymous: usize,
    /// Connections of one address without a certificate; the next one is refused.
    pub anonymous_per_address: usize,
    /// For a connection without a certificate: enough to enrol, and then it is cut.
    pub anonymous_life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 512,
            handshakes_per_address: 128,
            known: 8192,
            per_host: 8,
            per_operator: 64,
            anonymous: 64,
            anonymous_per_address: 16,
            anonymous_life: Duration::from_secs(30),
        }
    }
}

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Full {
    /// Too many without a certificate.
    #[error("too many connections without a certificate")]
    Anonymous,
    /// This caller has enough.
    #[error("this caller has too many connections already")]
    Caller,
    /// Too many altogether.
    #[error("too many connections")]
    Known,
}

/// Whose places are counted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    Handshakes(IpAddr),
    Anonymous(IpAddr),
    Certificate(String),
    Host(String),
    Operator(String),
}

/// A connection's place; free again when it is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _counted: Vec<Counted<Key>>,
}

/// All there are.
#[derive(Clone)]
pub(super) struct Places {
    pub limits: Limits,
    handshakes: Arc<Semaphore>,
    known: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    counts: Counts<Key>,
}

impl Places {
    pub fn new(limits: Limits) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            limits,
            handshakes: places(limits.handshakes),
            known: places(limits.known),
            anonymous: places(limits.anonymous),
            counts: Counts::default(),
        }
    }
    /// Waits until one more handshake may begin; `None` never comes, since the semaphore is never closed.
    pub async fn handshake(&self) -> Option<OwnedSemaphorePermit> {
        self.handshakes.clone().acquire_owned().await.ok()
    }
    /// One of an address's handshakes, unless it has enough.
    pub fn handshake_with(&self, address: IpAddr) -> Option<Counted<Key>> {
        self.counts.take(Key::Handshakes(address), self.limits.handshakes_per_address)
    }
    /// A place for a connection whose other end is known by now.
    pub fn take(&self, caller: &Caller, address: IpAddr) -> Result<Place, Full> {
        let limits = &self.limits;
        let (pool, full) = match caller {
            Caller::Anonymous => (&self.anonymous, Full::Anonymous),
            Caller::Host { .. } | Caller::Operator { .. } => (&self.known, Full::Known),
        };
        // A certificate may be one that is good no more, in whose hands whatever: the others of its owner are not its to take.
        let of =
            |serial: &String, owner, most| vec![(Key::Certificate(serial.clone()), most), (owner, most * CERTIFICATES)];
        let keys = match caller {
            Caller::Anonymous => vec![(Key::Anonymous(address), limits.anonymous_per_address)],
            Caller::Host { id, serial } => of(serial, Key::Host(id.to_string()), limits.per_host),
            Caller::Operator { name, serial } => of(serial, Key::Operator(name.to_string()), limits.per_operator),
        };
        let counted: Option<Vec<_>> = keys.into_iter().map(|(key, most)| self.counts.take(key, most)).collect();
        let counted = counted.ok_or(Full::Caller)?;
        let permit = pool.clone().try_acquire_owned().map_err(|_| full)?;
        Ok(Place { _permit: permit, _counted: counted })
    }
}
