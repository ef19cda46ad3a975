//! In which order a rollout takes its hosts: deterministic, the ones with least to lose first. Pure.
//!
//! Unhealthy first, then unknown, then oldest release, then the rest; ties round-robin over the `zone` label, then by
//! host name: names are unique, and people can foresee them; ids are random.

use std::collections::BTreeMap;

use drover_proto::name::{HostId, HostName, LabelKey, LabelValue, ReleaseNumber};

/// How a host's app is, as last reported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Health {
    /// Degraded or failed.
    Unhealthy,
    /// Not connected, or never reported.
    Unknown,
    /// Healthy, with this release; `None` = without the app.
    Healthy,
}

/// A host that is to be put in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which.
    pub id: HostId,
    /// As people know it.
    pub name: HostName,
    /// The value of its label `zone`.
    pub zone: Option<LabelValue>,
    /// Of the app.
    pub health: Health,
    /// The release that runs there.
    pub release: Option<ReleaseNumber>,
}

/// The value of the label `zone`.
#[must_use]
pub fn zone(labels: &BTreeMap<LabelKey, LabelValue>) -> Option<LabelValue> {
    labels.iter().find(|(key, _)| key.as_str() == "zone").map(|(_, value)| value.clone())
}

/// The hosts' ids in rollout order.
#[must_use]
pub fn order(hosts: &[Candidate]) -> Vec<HostId> {
    // Rank → zone → hosts. A host without the app comes after every host with one.
    let mut ranks: BTreeMap<_, BTreeMap<_, Vec<&Candidate>>> = BTreeMap::new();
    for host in hosts {
        let release = if host.health == Health::Healthy { host.release.unwrap_or(ReleaseNumber::MAX) } else { 0 };
        ranks.entry((host.health, release)).or_default().entry(&host.zone).or_default().push(host);
    }
    let mut ordered = Vec::with_capacity(hosts.len());
    for zones in ranks.into_values() {
        let mut zones: Vec<Vec<_>> = zones.into_values().collect();
        for zone in &mut zones {
            zone.sort_by_key(|host| &host.name);
        }
        let deepest = zones.iter().map(Vec::len).max().unwrap_or(0);
        for round in 0..deepest {
            ordered.extend(zones.iter().filter_map(|zone| zone.get(round).map(|host| host.id.clone())));
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    //! The order of hosts.
    use super::*;

    fn host(n: u8, zone: &str, health: Health, release: Option<u64>) -> Candidate {
        let zone = (!zone.is_empty()).then(|| zone.parse().unwrap());
        let name = format!("web-{n}").parse().unwrap();
        // Ids run against the names: it is the names that count.
        Candidate { id: id(n), name, zone, health, release }
    }

    fn id(n: u8) -> HostId {
        format!("h-{:016x}", u8::MAX - n).parse().unwrap()
    }

    fn check(hosts: &[Candidate], expected: &[u8]) {
        let expected: Vec<HostId> = expected.iter().map(|n| id(*n)).collect();
        assert_eq!(order(hosts), expected);
    }

    #[test]
    fn the_ones_with_least_to_lose_come_first() {
        check(
            &[
                host(1, "", Health::Healthy, Some(2)),
                host(2, "", Health::Healthy, None),
                host(3, "", Health::Healthy, Some(1)),
                host(4, "", Health::Unknown, Some(2)),
                host(5, "", Health::Unhealthy, Some(2)),
            ],
            &[5, 4, 3, 1, 2],
        );
    }

    #[test]
    fn zones_take_turns() {
        let same = |n, zone| host(n, zone, Health::Healthy, Some(1));
        check(&[same(1, "a"), same(2, "a"), same(3, "a"), same(4, "b"), same(5, "b")], &[1, 4, 2, 5, 3]);
    }
}
