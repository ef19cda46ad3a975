//! Which instances there are of what is replaced by another one beside it, and which of them serves. Part of `ledger`: durable
//! before an instance is started, and before nginx is told of another one.

use std::collections::BTreeMap;

use drover_proto::{digest::Digest, name::UpstreamName};
use serde::{Deserialize, Serialize};

use super::AppLedger;
use crate::render::{Ports, Rendered};

/// The instances behind one upstream.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instances {
    /// The one to which the upstream leads, or is about to.
    pub live: Option<u16>,
    /// By port: the name of each that runs or is about to be started.
    pub all: BTreeMap<u16, String>,
}

impl AppLedger {
    /// Where each upstream leads.
    #[must_use]
    pub fn live_ports(&self) -> Ports {
        self.handovers.iter().filter_map(|(name, of)| Some((name.clone(), of.live?))).collect()
    }

    /// Every port that an instance of this app has or is about to have.
    pub fn instance_ports(&self) -> impl Iterator<Item = u16> {
        self.handovers.values().flat_map(|of| of.all.keys().chain(&of.live)).copied()
    }

    /// Whether something of that name is, or was meant to be, an instance of this app's.
    #[must_use]
    pub fn is_instance(&self, name: &str) -> bool {
        self.handovers.values().flat_map(|of| of.all.values()).any(|instance| instance == name)
    }

    /// An instance is about to be made.
    pub fn allot(&mut self, rendered: &Rendered) {
        for (upstream, handover) in &rendered.handovers {
            let instances = self.handovers.entry(upstream.clone()).or_default();
            instances.all.insert(handover.port, handover.instance.to_string());
        }
    }

    /// The upstream is about to lead to that port.
    pub fn point(&mut self, upstream: &UpstreamName, port: u16) {
        self.handovers.entry(upstream.clone()).or_default().live = Some(port);
    }

    /// Every upstream leads to what `rendered` says, and no other instance is there any more.
    pub(super) fn settle_handovers(&mut self, rendered: &Rendered) {
        self.handovers.clear();
        self.allot(rendered);
        for (upstream, handover) in &rendered.handovers {
            self.point(upstream, handover.port);
        }
    }

    /// Ports that were kept for instances of which nothing has come.
    pub fn forget_allotted(&mut self) {
        let Self { handovers, owned_units, .. } = self;
        for instances in handovers.values_mut() {
            let live = instances.live;
            let there = |name: &str| owned_units.keys().any(|unit| unit.as_str() == name);
            instances.all.retain(|port, name| live == Some(*port) || there(name));
        }
        handovers.retain(|_, instances| !instances.all.is_empty());
    }
}

/// Whether an effect says only that something is about to be brought about.
#[must_use]
pub fn is_expected(effect: Option<&Digest>) -> bool {
    effect.is_none_or(|effect| *effect == Digest::of(b""))
}
