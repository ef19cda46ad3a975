//! Which port, row by row.

use super::*;
use crate::render::tests::{facts, handing_over, layout};

fn upstream() -> UpstreamName {
    "mono-api".parse().unwrap()
}

struct Rows {
    ledger: AppLedger,
    desired: DesiredApp,
    taken: BTreeSet<u16>,
    range: PortRange,
}

impl Rows {
    fn new() -> Self {
        let desired = handing_over();
        let ledger = AppLedger::new(desired.spec.app.clone());
        Self { ledger, desired, taken: BTreeSet::new(), range: "20000-20003".parse().unwrap() }
    }

    fn port(&self) -> Result<u16, NoChoice> {
        let Self { ledger, desired, taken, range } = self;
        let choice = Choice { desired, facts: &facts(), layout: &layout(), ledger, taken, range };
        choice.ports().map(|ports| ports[&upstream()])
    }

    /// The instance there was started with what the release wants, or with something else.
    fn start(&mut self, port: u16, as_wanted: bool) {
        let rendered = render(&self.desired, &facts(), &layout(), &[(upstream(), port)].into()).unwrap();
        self.ledger.allot(&rendered);
        let (instance, wanted) = instance_of(&rendered, &upstream()).unwrap();
        self.ledger.proved(&instance, if as_wanted { wanted } else { Digest::of(b"another") });
    }
}

#[test]
fn what_is_there_and_right_stays_and_everything_else_gets_a_free_port() {
    let mut rows = Rows::new();
    assert_eq!(rows.port(), Ok(20000));
    rows.taken = [20000, 20001].into();
    assert_eq!(rows.port(), Ok(20002), "what others have is passed over");
    rows.taken.clear();
    rows.start(20000, true);
    rows.ledger.point(&upstream(), 20000);
    assert_eq!(rows.port(), Ok(20000), "nothing is to be replaced");
    rows.start(20000, false);
    assert_eq!(rows.port(), Ok(20001), "the one that serves is not touched");
    rows.start(20001, true);
    assert_eq!(rows.port(), Ok(20001), "it is there already, whether it serves or not");
    rows.start(20001, false);
    assert_eq!(rows.port(), Ok(20002), "one that ran may have been sent something");
    rows.ledger.expect(["mono-api@20001.service".parse().unwrap()], []);
    assert_eq!(rows.port(), Ok(20001), "it was about to be started and is gone on with");
    rows.taken = [20001].into();
    assert_eq!(rows.port(), Ok(20002), "unless somebody else has the port by now");
    rows.taken = (20001..=20003).collect();
    assert_eq!(rows.port(), Err(NoChoice::NoPort(rows.range.clone())));
}

#[test]
fn what_came_to_nothing_keeps_no_port() {
    let mut rows = Rows::new();
    let rendered = render(&rows.desired, &facts(), &layout(), &[(upstream(), 20003)].into()).unwrap();
    rows.ledger.allot(&rendered);
    assert_eq!((rows.port(), rows.ledger.instance_ports().collect::<Vec<_>>()), (Ok(20003), vec![20003]));
    rows.ledger.forget_allotted();
    assert_eq!(rows.ledger.handovers.len(), 0);
}

#[test]
fn an_upstream_says_where_it_leads() {
    let rows = Rows::new();
    let rendered = render(&rows.desired, &facts(), &layout(), &[(upstream(), 20003)].into()).unwrap();
    let file = rendered.file(&rendered.handovers[&upstream()].file).unwrap();
    let text = String::from_utf8(file.bytes.expose().clone()).unwrap();
    assert!(text.contains("upstream mono-api {\n    server 127.0.0.1:20003;\n}\n"), "{text}");
    let ports = on_disk(&rows.desired, &layout(), |path| (path == file.path.as_path()).then(|| text.clone()));
    assert_eq!(ports, [(upstream(), 20003)].into());
    assert_eq!(on_disk(&rows.desired, &layout(), |_| Some("server 10.0.0.1:80;".to_owned())), Ports::new());
}

#[test]
fn a_range_has_room_for_instances() {
    assert_eq!("20000-20999".parse::<PortRange>().unwrap().to_string(), PortRange::default().to_string());
    for bad in ["", "20000", "80-90", "20000-20002", "3000-2000", "60000-70000"] {
        assert!(bad.parse::<PortRange>().is_err(), "{bad}");
    }
}
