//! What a host tells of itself now and then, and where it serves metrics: checked, then handed on to `figures` and the store.
//! Beside `stream`, which calls it.

use std::net::IpAddr;

use drover_proto::{
    view::FiguresView,
    wire::{Figures, MetricsEndpoint},
};
use tonic::Status;
use tracing::{debug, warn};

use super::stream::{Stream, failed};
use crate::{clock, figures::Told, store::Endpoint};

/// No host has more.
const MAX_CORES: u32 = 65_536;
const MAX_LOAD: f64 = 1e6;
const MAX_BYTES_PER_SECOND: f64 = 1e15;
const MAX_UPTIME_S: f64 = 1e10;

impl Stream {
    /// Takes them, unless they cannot be. Counted with the reports.
    pub(super) async fn figured(&self, figures: &Figures) -> Result<(), Status> {
        self.all.sessions.paced(self.host.as_str()).await?;
        match told(figures) {
            Ok(told) => self.all.figures.take(&self.host, told, clock::unix_ms()),
            Err(field) => warn!(host = %self.host, field, "figures that cannot be are left out"),
        }
        Ok(())
    }

    /// Keeps where the host is, and where its metrics are.
    pub(super) async fn keep_endpoint(&self, metrics: Option<&MetricsEndpoint>) -> Result<(), Status> {
        let Some(peer) = self.peer else { return Ok(()) };
        let endpoint = endpoint(peer, metrics);
        if endpoint.listen.is_none() && metrics.is_some() {
            debug!(host = %self.host, "where the host serves metrics is no address and port");
        }
        self.all.store.set_endpoint(&self.host, &endpoint).await.map_err(failed)
    }
}

fn endpoint(peer: IpAddr, metrics: Option<&MetricsEndpoint>) -> Endpoint {
    let listen = metrics.and_then(|metrics| metrics.listen.parse().ok());
    Endpoint { peer: peer.to_canonical(), listen, tls: metrics.is_some_and(|metrics| metrics.tls) }
}

/// Err: the field that is out of its range, or no number.
fn told(told: &Figures) -> Result<Told, &'static str> {
    let within = |field: &'static str, number: f64, most: f64| {
        // Not a number is within nothing.
        if (0.0..=most).contains(&number) { Ok(number) } else { Err(field) }
    };
    let share = |field, number| within(field, number, 100.0);
    let rate = |field, number| within(field, number, MAX_BYTES_PER_SECOND);
    let figures = FiguresView {
        cpu: share("cpu", told.cpu)?,
        memory: share("memory", told.memory)?,
        swap: share("swap", told.swap)?,
        disk: share("disk", told.disk)?,
        load1: within("load1", told.load1, MAX_LOAD)?,
        received: rate("received", told.received)?,
        sent: rate("sent", told.sent)?,
        disk_read: rate("disk_read", told.disk_read)?,
        disk_written: rate("disk_written", told.disk_written)?,
        pressure_cpu: share("pressure_cpu", told.pressure_cpu)?,
        pressure_memory: share("pressure_memory", told.pressure_memory)?,
        pressure_io: share("pressure_io", told.pressure_io)?,
    };
    if told.cores > MAX_CORES {
        return Err("cores");
    }
    let uptime_s = within("uptime_s", told.uptime_s, MAX_UPTIME_S)? as u64;
    let (cores, memory_bytes) = (told.cores, told.memory_bytes);
    Ok(Told { figures, cores, memory_bytes, uptime_s, host_unix_ms: told.unix_ms })
}

#[cfg(test)]
mod tests {
    //! Numbers that no host can have, and addresses that are none.
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let good = Figures { cpu: 100.0, load1: 3.5, cores: 4, uptime_s: 60.9, ..Figures::default() };
        let kept = told(&good).unwrap();
        assert_eq!((kept.figures.cpu, kept.figures.load1, kept.cores, kept.uptime_s), (100.0, 3.5, 4, 60));
        for (field, bad) in [
            ("cpu", Figures { cpu: f64::NAN, ..good }),
            ("memory", Figures { memory: 100.1, ..good }),
            ("swap", Figures { swap: -0.1, ..good }),
            ("load1", Figures { load1: f64::INFINITY, ..good }),
            ("disk_read", Figures { disk_read: 1e18, ..good }),
            ("pressure_io", Figures { pressure_io: 1e9, ..good }),
            ("cores", Figures { cores: u32::MAX, ..good }),
            ("uptime_s", Figures { uptime_s: f64::NEG_INFINITY, ..good }),
        ] {
            assert_eq!(told(&bad), Err(field));
        }
    }

    #[test]
    fn an_address_is_one_or_there_is_none() {
        let said = |listen: &str| MetricsEndpoint { listen: listen.to_owned(), tls: true };
        let of = |listen: &str| endpoint("::ffff:10.0.0.5".parse().unwrap(), Some(&said(listen)));
        assert_eq!(of("[::]:7444").listen.unwrap().to_string(), "[::]:7444");
        assert_eq!(of("[::]:7444").peer.to_string(), "10.0.0.5");
        for listen in ["", "example.com:7444", "10.0.0.5", "10.0.0.5:7444/x", "10.0.0.5:99999"] {
            assert_eq!(of(listen).listen, None, "{listen}");
        }
    }
}
