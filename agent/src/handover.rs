//! Pure: on which port the instance of a release is, of everything that is replaced by another instance beside it. One that is
//! there already and is what the release wants, or a free port. Called by `reconcile` before a release is rendered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
    str::FromStr,
};

use drover_proto::{digest::Digest, name::UpstreamName, spec::DesiredApp};
use serde::Deserialize;

use crate::{
    ledger::{AppLedger, is_expected},
    render::{HostFacts, Instance, Layout, Ports, RenderError, Rendered, render},
};

/// From where ports are allotted: below the range from which the kernel takes those of outgoing connections.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct PortRange(RangeInclusive<u16>);

impl PortRange {
    /// Every port of it.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.0.clone()
    }
}

impl Default for PortRange {
    fn default() -> Self {
        Self(20000..=20999)
    }
}

/// A text that is no such range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write the first and the last port, both from 1024 to 65535 and at least 4 ports, such as 20000-20999")]
pub struct PortRangeError;

impl FromStr for PortRange {
    type Err = PortRangeError;
    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let (first, last) = text.split_once('-').ok_or(PortRangeError)?;
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| PortRangeError);
        let (first, last) = (number(first)?, number(last)?);
        if first < 1024 || last < first.saturating_add(3) { Err(PortRangeError) } else { Ok(Self(first..=last)) }
    }
}

impl TryFrom<String> for PortRange {
    type Error = PortRangeError;
    fn try_from(text: String) -> Result<Self, PortRangeError> {
        text.parse()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

/// What a choice is made from.
pub struct Choice<'a> {
    /// The release.
    pub desired: &'a DesiredApp,
    /// The host.
    pub facts: &'a HostFacts,
    /// Where everything lies.
    pub layout: &'a Layout,
    /// What this app has here.
    pub ledger: &'a AppLedger,
    /// Ports that others have: what listens and is no instance of this app, and instances of other apps.
    pub taken: &'a BTreeSet<u16>,
    /// From where ports are allotted.
    pub range: &'a PortRange,
}

/// Why there is no choice.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoChoice {
    /// The release cannot be rendered.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// None is free.
    #[error("every port of {0} is in use on this host: set a larger range (handover.ports in /etc/drover/agent.toml)")]
    NoPort(PortRange),
}

impl Choice<'_> {
    /// The ports of all instances. The same from the same: what has been begun is gone on with.
    pub fn ports(&self) -> Result<Ports, NoChoice> {
        let mut chosen: Ports = self.desired.spec.handovers().map(|(_, own)| (own.upstream.clone(), 0)).collect();
        for upstream in chosen.keys().cloned().collect::<Vec<_>>() {
            let port = match self.wanted_one(&upstream, &chosen)?.or_else(|| self.begun_one(&upstream)) {
                Some(port) => port,
                None => self.free_one(&chosen).ok_or_else(|| NoChoice::NoPort(self.range.clone()))?,
            };
            chosen.insert(upstream, port);
        }
        Ok(chosen)
    }

    /// An instance that was started with what the release wants; best of all the one that serves.
    fn wanted_one(&self, upstream: &UpstreamName, chosen: &Ports) -> Result<Option<u16>, NoChoice> {
        let Some(instances) = self.ledger.handovers.get(upstream) else { return Ok(None) };
        let others = instances.all.keys().filter(|port| Some(**port) != instances.live);
        for port in instances.live.iter().chain(others).copied() {
            let mut ports = chosen.clone();
            ports.insert(upstream.clone(), port);
            let rendered = render(self.desired, self.facts, self.layout, &ports)?;
            let Some((instance, fingerprint)) = instance_of(&rendered, upstream) else { continue };
            if self.ledger.effect_of(&instance) == Some(&fingerprint) {
                return Ok(Some(port));
            }
        }
        Ok(None)
    }

    /// One that was about to be started, to which nothing has ever been sent.
    fn begun_one(&self, upstream: &UpstreamName) -> Option<u16> {
        let instances = self.ledger.handovers.get(upstream)?;
        let all = instances.all.iter().filter(|(port, _)| Some(**port) != instances.live);
        let begun = |instance: &Instance| is_expected(self.ledger.effect_of(instance));
        all.filter(|(port, instance)| begun(instance) && !self.taken.contains(*port)).map(|(port, _)| *port).next()
    }

    fn free_one(&self, chosen: &Ports) -> Option<u16> {
        let own: BTreeSet<u16> = self.ledger.instance_ports().chain(chosen.values().copied()).collect();
        self.range.ports().find(|port| !own.contains(port) && !self.taken.contains(port))
    }
}

fn instance_of(rendered: &Rendered, upstream: &UpstreamName) -> Option<(Instance, Digest)> {
    let instance = &rendered.handovers.get(upstream)?.instance;
    Some((instance.clone(), rendered.fingerprint_of(instance)?))
}

/// Where the upstreams of a release lead by their files: `text_of` reads one. For a host whose ledger was lost.
#[must_use]
pub fn on_disk(desired: &DesiredApp, layout: &Layout, text_of: impl Fn(&std::path::Path) -> Option<String>) -> Ports {
    let leads = |upstream: &UpstreamName| {
        let path = layout.upstream(&desired.spec.app, upstream).ok()?;
        crate::render::port_in(&text_of(path.as_path())?)
    };
    let all = desired.spec.handovers().map(|(_, own)| own.upstream.clone());
    all.filter_map(|upstream| Some((upstream.clone(), leads(&upstream)?))).collect::<BTreeMap<_, _>>()
}

#[cfg(test)]
mod tests;
