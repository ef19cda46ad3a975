//! Which instances there are of what is replaced by another one beside it, and which of them serves. Part of `ledger`: durable
//! before an instance is started, and before nginx is told of another one.

use std::collections::BTreeMap;

use drover_proto::{digest::Digest, name::UpstreamName};
use serde::{Deserialize, Serialize};

use super::{AppLedger, unit_effect};
use crate::render::{Instance, Ports, Rendered};

/// The instances behind one upstream.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instances {
    /// The one to which the upstream leads, or is about to.
    pub live: Option<u16>,
    /// By port: each that runs or is about to be started.
    pub all: BTreeMap<u16, Instance>,
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

    /// Whether that is, or was meant to be, an instance of this app's.
    #[must_use]
    pub fn is_instance(&self, name: &Instance) -> bool {
        self.handovers.values().flat_map(|of| of.all.values()).any(|instance| instance == name)
    }

    /// Whether an instance of this app's runs as that unit; `port`: as a container behind that port.
    #[must_use]
    pub fn has_instance(&self, unit: Option<&str>, port: u16) -> bool {
        self.handovers.values().flat_map(|of| &of.all).any(|(at, instance)| match instance {
            Instance::Unit(name) => Some(name.as_str()) == unit,
            Instance::Container(name) => *at == port && self.owned_containers.contains(name),
        })
    }

    /// What an instance was started with.
    #[must_use]
    pub fn effect_of(&self, instance: &Instance) -> Option<&Digest> {
        self.effects.get(&effect(instance))
    }

    /// An instance was started with that, and is healthy.
    pub fn proved(&mut self, instance: &Instance, fingerprint: Digest) {
        self.effects.insert(effect(instance), fingerprint);
    }

    /// An instance is about to be made.
    pub fn allot(&mut self, rendered: &Rendered) {
        for (upstream, handover) in &rendered.handovers {
            let instances = self.handovers.entry(upstream.clone()).or_default();
            instances.all.insert(handover.port, handover.instance.clone());
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
            if let Some(fingerprint) = rendered.fingerprint_of(&handover.instance) {
                self.proved(&handover.instance, fingerprint);
            }
        }
    }

    /// Ports that were kept for instances of which nothing has come.
    pub fn forget_allotted(&mut self) {
        let Self { handovers, owned_units, owned_containers, .. } = self;
        for instances in handovers.values_mut() {
            let live = instances.live;
            let there = |instance: &Instance| match instance {
                Instance::Unit(name) => owned_units.contains_key(name),
                Instance::Container(name) => owned_containers.contains(name),
            };
            instances.all.retain(|port, name| live == Some(*port) || there(name));
        }
        handovers.retain(|_, instances| !instances.all.is_empty());
    }
}

/// Where it is kept what an instance was started with. Of other containers the engine knows that.
pub(super) fn effect(instance: &Instance) -> String {
    match instance {
        Instance::Unit(name) => unit_effect(name),
        Instance::Container(name) => format!("container:{name}"),
    }
}

/// Whether an effect says only that something is about to be brought about.
#[must_use]
pub fn is_expected(effect: Option<&Digest>) -> bool {
    effect.is_none_or(|effect| *effect == Digest::of(b""))
}
