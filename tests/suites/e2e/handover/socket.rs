//! Without nginx: systemd holds the socket, and what comes while the service restarts waits in it.

use drover_tests::{
    fleet::Fleet,
    lab::eventually,
    load::{EVERY_KIND, Load},
    tiny::Tiny,
};

use super::{SOON, assert_nothing_lost, shop_says};

#[test]
fn a_service_behind_a_socket_of_systemd_is_restarted_and_no_request_is_lost() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let door = Tiny::door();
    fleet.alice.apply(&door.manifest()).ok();
    let opened = || host.property("door.socket", "ActiveEnterTimestampMonotonic");
    let first = opened();

    let load = Load::on(host.ip(), EVERY_KIND);
    let answered = |what: &str, version: &str| {
        eventually(what, SOON, || load.so_far().versions.contains_key(version).then_some(()));
    };
    answered("the load runs", "1");
    let door = door.version("2");
    fleet.alice.apply(&door.manifest()).ok();
    answered("the new release answers", "2");
    fleet.alice.run(&["rollback", "door"]).ok();
    assert_eq!(shop_says(host)["version"], "1");
    fleet.alice.run(&["restart", "door", "--rolling"]).ok();
    let (rate, tally) = (load.rate(), load.stop());
    println!("{rate:.0} requests a second: {tally:?}");
    assert_nothing_lost(&tally);
    assert_eq!(opened(), first, "the socket was never closed");

    // As another one: its service lets go of it first.
    let moved = door.edit("ListenStream: \"80\"", "ListenStream: \"81\"").edit("127.0.0.1/", "127.0.0.1:81/");
    fleet.alice.apply(&moved.manifest()).ok();
    let said = host.exec(&["curl", "-s", "-m", "5", "http://127.0.0.1:81/"]).ok();
    assert!(said.contains("\"version\": \"2\""), "{said}");
    fleet.alice.run(&["remove", "door", "--yes"]).ok();
    assert_eq!(host.property("door.socket", "LoadState"), "not-found");
}
