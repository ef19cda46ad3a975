//! What is refused before anything is touched because of room, ports, names and accounts; row by row.

use std::path::PathBuf;

use drover_proto::{
    code::Code,
    plan::{Action, Extent, Plan},
    spec::DesiredApp,
};

use super::model::Host;
use crate::{
    host::{
        listeners::{Listener, Owner},
        room::Room,
        swap::{Swap, SwapFile},
    },
    observe::preflight::{BadTime, Place},
    plan::forbids_going_back,
    render::tests::{desired, unit},
};

const MIB: u64 = 1 << 20;

/// A place on a device with so many MiB and inodes free.
fn place(place: Place, path: &str, device: u64, free_mib: u64, free_inodes: u64) -> (Place, PathBuf, Room) {
    (place, path.into(), Room { device, free_bytes: free_mib * MIB, free_inodes: Some(free_inodes) })
}

/// The example with an archive of 10 MiB, on a host where all is on one device, `/var` on one of its own.
fn planned(free_mib: u64, free_inodes: u64, extent: Option<Extent>, prepare: impl Fn(&mut Host)) -> Plan {
    let mut host = Host::new();
    host.observed.preflight.rooms = vec![
        place(Place::Blobs, "/var/lib/drover/agent", 1, free_mib, free_inodes),
        place(Place::Releases, "/var/lib/drover/releases", 1, free_mib, free_inodes),
        place(Place::Env, "/var/lib/drover/env", 1, free_mib, free_inodes),
        place(Place::Files, "/etc/systemd/system", 1, free_mib, free_inodes),
        place(Place::Packages, "/var", 2, 60, 1000),
    ];
    host.observed.preflight.extent = extent;
    prepare(&mut host);
    host.plan(Some(&large()))
}

fn large() -> DesiredApp {
    let mut desired = desired();
    desired.spec.artifact.as_mut().unwrap().size_bytes = 10 * MIB;
    desired
}

#[test]
fn a_release_that_has_no_room_is_refused_and_one_that_may_not_have_any_is_warned_of() {
    let extent = |mib, entries| Some(Extent { unpacked_bytes: mib * MIB, entries });
    let (fine, refused, warned) = ((0, 0), (1, 0), (0, 1));
    let nothing = |_: &mut Host| {};
    let rows: Vec<(&str, (usize, usize), Plan)> = vec![
        ("room enough", fine, planned(100, 1000, None, nothing)),
        ("archive and tree cannot fit", refused, planned(20, 1000, None, nothing)),
        ("they may not fit", warned, planned(40, 1000, None, nothing)),
        ("they are known to fit", fine, planned(40, 1000, extent(20, 10), nothing)),
        ("they are known not to fit", refused, planned(40, 1000, extent(30, 10), nothing)),
        (
            "the archive is here",
            fine,
            planned(40, 1000, extent(30, 10), |h| h.observed.preflight.archive_is_here = true),
        ),
        ("too many files", refused, planned(100, 1000, extent(20, 990), nothing)),
        ("no inodes at all", refused, planned(100, 10, None, nothing)),
        (
            "inodes without a limit",
            fine,
            planned(100, 0, extent(20, 990), |h| {
                h.observed.preflight.rooms.iter_mut().for_each(|(_, _, room)| room.free_inodes = None);
            }),
        ),
        (
            "packages may not fit",
            warned,
            planned(100, 1000, extent(20, 10), |h| {
                h.observed.packages_missing.insert("nginx-light".parse().unwrap());
            }),
        ),
    ];
    for (what, want, plan) in rows {
        assert_eq!((plan.refusals.len(), plan.warnings.len()), want, "{what}: {:?} {:?}", plan.refusals, plan.warnings);
        assert!(plan.refusals.iter().chain(&plan.warnings).all(|said| said.code == Code::Disk), "{what}");
    }
    let plan = planned(20, 1000, None, nothing);
    let want = "20.0 MiB are free where /etc/systemd/system is, and the release needs 24.0 MiB there beside what runs";
    assert!(plan.refusals[0].message.starts_with(want), "{}", plan.refusals[0].message);
}

#[test]
fn a_tree_that_is_there_needs_no_room() {
    let mut host = Host::new();
    host.apply(&large());
    host.observed.preflight.rooms = vec![place(Place::Releases, "/var/lib/drover/releases", 1, 5, 1000)];
    let mut other = large();
    other.release.number = 2;
    assert_eq!(host.plan(Some(&other)).refusals, vec![]);
    assert_eq!(host.plan(None).refusals, vec![], "and a removal none at all");
}

/// What listens where, and the process that does.
fn listener(port: &str, owner: Option<(u32, &str)>) -> Listener {
    let owner = owner.map(|(pid, unit)| Owner { pid, name: "python3".into(), unit: Some(unit.into()) });
    Listener { port: port.parse().unwrap(), owners: owner.into_iter().collect() }
}

#[test]
fn a_port_that_something_else_has_is_refused_by_name() {
    let mut wanting = desired();
    let api = wanting.spec.units.values_mut().next().unwrap();
    api.ports = ["5000", "127.0.0.1:53/udp"].map(|port| port.parse().unwrap()).into();
    let rows = [
        (listener("0.0.0.0:5000", Some((812, "other.service"))), Some("other.service, process 812 (python3)")),
        (listener("10.0.0.1:5000", None), Some("something that belongs to no process")),
        (listener("127.0.0.1:53/udp", Some((9, "mine.service"))), Some("mine.service of app theirs")),
        (listener("10.0.0.1:53/udp", Some((9, "other.service"))), None),
        (listener("127.0.0.1:5001", Some((9, "other.service"))), None),
        (listener("127.0.0.1:5000", Some((9, "mono-api.service"))), None),
        (listener("127.0.0.1:5000", Some((1, "init.scope"))), Some("init.scope, process 1")),
    ];
    for (listener, want) in rows {
        let mut host = Host::new();
        host.others.units.insert("mine.service".parse().unwrap(), "theirs".parse().unwrap());
        host.observed.preflight.listeners = vec![listener.clone()];
        let refusals = host.plan(Some(&wanting)).refusals;
        assert_eq!(refusals.len(), usize::from(want.is_some()), "{listener:?}: {refusals:?}");
        if let (Some(refusal), Some(want)) = (refusals.first(), want) {
            assert_eq!((refusal.code, refusal.part.as_str()), (Code::PortTaken, "mono-api.service"));
            assert!(refusal.message.contains(want), "{}", refusal.message);
        }
    }
}

#[test]
fn a_socket_of_this_app_that_systemd_holds_is_no_obstacle() {
    let mut wanting = desired();
    wanting.spec.units.insert("mono.socket".parse().unwrap(), unit("[Socket]\nListenStream=127.0.0.1:90\n"));
    let mut host = Host::new();
    host.observed.preflight.listeners = vec![listener("127.0.0.1:90", Some((1, "init.scope")))];
    assert_eq!(host.plan(Some(&wanting)).refusals[0].part, "mono.socket", "another one's socket unit");
    host.unit("mono.socket").active_state = "active".into();
    assert_eq!(host.plan(Some(&wanting)).refusals, vec![]);
}

#[test]
fn a_name_that_is_another_units_alias_cannot_be_adopted() {
    let mut wanting = desired();
    wanting.spec.units.values_mut().for_each(|unit| unit.adopt = true);
    let mut host = Host::new();
    host.unit("mono-api.service").fragment_path = "/lib/systemd/system/ssh.service".into();
    let refusals = host.plan(Some(&wanting)).refusals;
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(
        refusals[0].message.contains("another name of the unit in /lib/systemd/system/ssh.service"),
        "{refusals:?}"
    );
}

#[test]
fn what_changed_around_a_release_does_not_keep_a_host_from_going_back() {
    let going = [Code::PortTaken, Code::Disk, Code::Systemd, Code::NoSuchUser];
    assert!(going.into_iter().all(|code| !forbids_going_back(code)));
    assert!([Code::NotOwned, Code::OwnedByOther, Code::UnsafePath].into_iter().all(forbids_going_back));
}

#[test]
fn swap_is_made_when_there_is_none_and_it_can_be() {
    let mut wanting = desired();
    wanting.spec.host.swap_bytes = Some(64 * MIB);
    let none = Swap { largest_bytes: 0, file: SwapFile::Missing, unfit: None };
    let rows = [
        (Some(none), 100, true, None),
        (Some(none), 30, true, Some(Code::Disk)),
        (Some(Swap { largest_bytes: 64 * MIB - 4096, ..none }), 100, false, None),
        (Some(Swap { largest_bytes: 32 * MIB, ..none }), 100, true, None),
        (Some(Swap { file: SwapFile::Ready(64 * MIB), ..none }), 30, true, None),
        (Some(Swap { file: SwapFile::Ready(32 * MIB), ..none }), 100, false, Some(Code::HostNeed)),
        (Some(Swap { file: SwapFile::Other, ..none }), 100, false, Some(Code::UnsafePath)),
        (Some(Swap { unfit: Some("btrfs"), ..none }), 100, false, Some(Code::HostNeed)),
        (None, 100, false, None),
    ];
    for (swap, free_mib, made, refused) in rows {
        let mut host = Host::new();
        host.observed.preflight.swap = swap;
        host.observed.preflight.rooms = vec![place(Place::Swap, "/", 1, free_mib, 1000)];
        let plan = host.plan(Some(&wanting));
        assert_eq!(plan.steps.iter().any(|s| matches!(s.action, Action::MakeSwap { .. })), made, "{swap:?}");
        assert_eq!(plan.refusals.first().map(|refusal| refusal.code), refused, "{swap:?}: {:?}", plan.refusals);
    }
}

#[test]
fn a_time_that_systemd_does_not_know_is_refused_by_name() {
    let mut host = Host::new();
    let (timer, expression, why) =
        ("report.timer".parse().unwrap(), "now and then".to_owned(), "Invalid argument".to_owned());
    host.observed.preflight.bad_times.push(BadTime { timer, expression, why });
    let refusals = host.plan(Some(&desired())).refusals;
    assert_eq!((refusals.len(), refusals[0].code, refusals[0].part.as_str()), (1, Code::Systemd, "report.timer"));
    assert!(refusals[0].message.starts_with("on_calendar \"now and then\" of report.timer is no time"), "{refusals:?}");
    assert!(!forbids_going_back(Code::Systemd), "on the way back it is what ran before");
}
