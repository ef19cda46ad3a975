//! The language against a host that is made up.

use std::collections::BTreeSet;

use drover_proto::alert::AlertRule;

use super::*;
use crate::alert::{
    rules::RuleId,
    scene::{Expiry, Restarts, Room, Scope},
};

fn active(app: Option<&str>, when: &str) -> Active {
    let id = RuleId { app: app.map(|app| app.parse().unwrap()), alert: "it".parse().unwrap() };
    Active { id, rule: AlertRule::new(when.parse().unwrap_or_else(|error| panic!("{when}: {error}"))) }
}

const NOW: Now = Now { boot_ms: 3_600_000, unix_ms: 1_700_000_000_000 };

fn scope(checks: &[&str], units: &[&str], containers: &[&str]) -> Scope {
    Scope {
        checks: checks.iter().map(|name| name.parse().unwrap()).collect(),
        units: units.iter().map(|name| name.parse().unwrap()).collect(),
        containers: containers.iter().map(|name| name.parse().unwrap()).collect(),
        ..Scope::default()
    }
}

fn container(is_running: Option<bool>, restarts: Restarts) -> Container {
    Container { is_running, words: "exited with code 1".to_owned(), restarts, service: None }
}

fn checked(ok: bool, answer: &str) -> Checked {
    Checked { ok, answer: answer.to_owned(), took: std::time::Duration::from_millis(12) }
}

fn disk(point: &str, is_further: bool, used: f64, forecast: Forecast) -> Disk {
    let room = Room { used: Some(used), inodes: if point == "/data" { None } else { Some(12.34) }, forecast };
    Disk { point: point.to_owned(), is_disk: true, is_further, room: Some(room) }
}

fn scene() -> Scene {
    let name = |app: &str| app.parse::<AppName>().unwrap();
    let check = |app: &str, check: &str| (name(app), check.parse().unwrap());
    let mut disks = vec![
        disk("/", false, 99.96, Forecast::FullIn(3_600.0 * 5.0)),
        disk("/bind", true, 99.96, Forecast::Unknown),
        disk("/data", false, 50.0, Forecast::FullIn(3_600.0 * 27.0)),
        disk("/new", false, 5.0, Forecast::Unknown),
        disk("/still", false, 5.0, Forecast::Never),
    ];
    disks.push(Disk { point: "/hung".to_owned(), is_disk: true, is_further: false, room: None });
    disks.push(disk("/mnt/a\nb", false, 95.0, Forecast::Never));
    disks.push(Disk { is_disk: false, ..disk("/run/user/7", false, 100.0, Forecast::FullIn(0.0)) });
    disks.push(Disk { point: "/nfs".to_owned(), is_disk: false, is_further: false, room: None });
    let expiry = |app: Option<&str>, subject: &str, until_s| Expiry {
        app: app.map(|app| app.parse().unwrap()),
        subject: subject.to_owned(),
        until_s,
    };
    Scene {
        apps: [
            (name("mono"), scope(&["api", "db", "new"], &["mono.service", "w@.service"], &["box", "calm"])),
            (name("shop"), scope(&["api"], &["shop.service"], &[])),
        ]
        .into(),
        failed: Some(["mono.service", "w@2.service", "cron.service", "x\u{7}.mount"].map(str::to_owned).into()),
        checks: [
            (check("mono", "api"), checked(false, "500\nInternal")),
            (check("mono", "db"), checked(true, "")),
            (check("shop", "api"), checked(true, "")),
        ]
        .into(),
        containers: [(
            name("mono"),
            [
                ("box".to_owned(), container(Some(false), Restarts::remembered(NOW.boot_ms))),
                ("calm".to_owned(), container(Some(true), Restarts::default())),
            ]
            .into(),
        )]
        .into(),
        certificates: [
            (None, vec![expiry(None, "agent", Some(1_600_000_000))]),
            (
                Some(name("mono")),
                vec![
                    expiry(Some("mono"), "/etc/a.pem", Some(1_700_000_000 + 86_400)),
                    expiry(Some("mono"), "/etc/b.pem", None),
                ],
            ),
        ]
        .into(),
        disks: Some(disks),
        oom_kill: Some(Some(NOW.boot_ms - RECENT_MS + 1)),
    }
}

fn numbers() -> BTreeMap<Metric, f64> {
    [(Metric::Cpu, 91.26), (Metric::Load15, 1.5)].into()
}

/// `app/subject V`, V being the verdict's first letter.
fn judged(scene: &Scene, active: &Active) -> Option<Vec<String>> {
    let numbers = numbers();
    let found = judge(active, &View { numbers: &numbers, scene, now: NOW })?;
    let shown = |finding: &Finding| {
        let app = finding.app.as_ref().map_or("", AppName::as_str);
        let letter = format!("{:?}", finding.verdict);
        format!("{app}/{} {}", finding.subject, letter.chars().next().unwrap())
    };
    Some(found.iter().map(shown).collect())
}

#[test]
fn rules_of_the_host_are_held_against_it() {
    let rows: [(&str, Option<&[&str]>); 28] = [
        ("cpu > 91.2%", Some(&["/ H"])),
        ("cpu > 92%", Some(&["/ C"])),
        ("cpu < 5%", Some(&["/ C"])),
        ("memory > 5%", None),
        ("load15 > 1.4", Some(&["/ H"])),
        ("disk > 90%", Some(&["// H", "//data C", "//new C", "//still C", "//hung U", "//mnt/a\u{fffd}b H"])),
        ("disk /run/user/7 > 90%", Some(&["//run/user/7 H"])),
        ("disk /nfs > 90%", Some(&["//nfs U"])),
        ("disk /bind > 90%", Some(&["//bind H"])),
        ("disk /none > 90%", Some(&[])),
        ("inodes /data > 1%", Some(&[])),
        ("inodes / > 1%", Some(&["// H"])),
        ("inodes > 1%", Some(&["// H", "//new H", "//still H", "//hung U", "//mnt/a\u{fffd}b H"])),
        ("disk full in < 24h", Some(&["// H", "//data B", "//new U", "//still C", "//hung U", "//mnt/a\u{fffd}b C"])),
        ("disk /run/user/7 full in < 24h", Some(&["//run/user/7 H"])),
        ("disk /data full in < 1h", Some(&["//data C"])),
        ("check failing", Some(&["mono/api H", "mono/db C", "mono/new U", "shop/api C"])),
        ("check db failing", Some(&["mono/db C"])),
        ("unit failed", Some(&["/cron.service H", "mono/mono.service H", "mono/w@2.service H", "/x\u{fffd}.mount H"])),
        ("unit cron failed", Some(&["/cron.service H"])),
        ("unit mono.service failed", Some(&["mono/mono.service H"])),
        ("unit none failed", Some(&[])),
        ("container gone", Some(&["mono/box H", "mono/calm C"])),
        ("container calm gone", Some(&["mono/calm C"])),
        ("container restarting", Some(&["mono/box H", "mono/calm C"])),
        ("oom kill", Some(&["/ H"])),
        ("certificate expires in < 2d", Some(&["/agent H", "mono//etc/a.pem H", "mono//etc/b.pem U"])),
        ("host unreachable for 1m", None),
    ];
    for (when, wanted) in rows {
        let judged = judged(&scene(), &active(None, when));
        assert_eq!(
            judged.as_deref(),
            wanted.map(|rows| rows.iter().map(ToString::to_string).collect::<Vec<_>>()).as_deref(),
            "{when}"
        );
    }
}

#[test]
fn rules_of_an_app_are_about_what_it_has_and_take_the_place_of_the_hosts() {
    let rows: [(&str, &[&str]); 6] = [
        ("check failing", &["shop/api C"]),
        ("unit failed", &[]),
        ("cpu > 5%", &["shop/ H"]),
        ("disk / > 5%", &["shop// H"]),
        ("container gone", &[]),
        ("certificate expires in < 2d", &[]),
    ];
    for (when, wanted) in rows {
        assert_eq!(judged(&scene(), &active(Some("shop"), when)).unwrap(), wanted, "{when}");
    }
    let mut scene = scene();
    let mono: AppName = "mono".parse().unwrap();
    let its = active(Some("mono"), "check failing");
    scene.apps.get_mut(&mono).unwrap().rules.insert(its.id.alert.clone(), its.rule.clone());
    assert_eq!(judged(&scene, &active(None, "check failing")).unwrap(), ["shop/api C"]);
    assert_eq!(judged(&scene, &active(None, "cpu > 5%")).unwrap(), ["/ H"]);
    assert_eq!(judged(&scene, &its).unwrap(), ["mono/api H", "mono/db C", "mono/new U"]);
}

#[test]
fn a_container_is_told_with_its_service() {
    let mut scene = scene();
    let mono: AppName = "mono".parse().unwrap();
    let its = scene.containers.get_mut(&mono).unwrap().get_mut("calm").unwrap();
    its.service = Some("shop/web".to_owned());
    let found = judge(&active(None, "container gone"), &View { numbers: &numbers(), scene: &scene, now: NOW }).unwrap();
    let services: Vec<_> = found.iter().map(|finding| finding.service.as_deref()).collect();
    assert_eq!(services, [None, Some("shop/web")]);
}

#[test]
fn what_cannot_be_read_says_nothing() {
    let mut empty = Scene::default();
    for when in ["cpu < 5%", "unit failed", "disk > 1%", "oom kill"] {
        let rule = active(None, when);
        let verdict = judge(&rule, &View { numbers: &BTreeMap::new(), scene: &empty, now: NOW });
        assert_eq!(verdict, None, "{when}");
    }
    empty.apps = scene().apps;
    let mono: AppName = "mono".parse().unwrap();
    // What is remembered of alerts is not known before somebody has looked.
    empty.containers = [(mono.clone(), [("box".to_owned(), container(None, Restarts::default()))].into())].into();
    let expiry = Expiry { app: Some(mono.clone()), subject: "/etc/a.pem".to_owned(), until_s: None };
    empty.certificates = [(Some(mono.clone()), vec![expiry])].into();
    assert_eq!(judged(&empty, &active(None, "container gone")).unwrap(), ["mono/box U"]);
    assert_eq!(judged(&empty, &active(None, "certificate expires in < 1d")).unwrap(), ["mono//etc/a.pem U"]);
    let mut flying = scene();
    flying.apps.get_mut(&mono).unwrap().in_flight = true;
    assert_eq!(judged(&flying, &active(None, "container gone")).unwrap(), ["mono/box U", "mono/calm U"]);
    let mut silent = scene();
    silent.oom_kill = Some(None);
    assert_eq!(judged(&silent, &active(None, "oom kill")).unwrap(), ["/ C"]);
    silent.failed = Some(BTreeSet::new());
    assert_eq!(judged(&silent, &active(None, "unit failed")), Some(Vec::new()));
}

#[test]
fn it_is_said_in_plain_words() {
    let said = |when: &str| {
        let (numbers, scene) = (numbers(), scene());
        let found = judge(&active(None, when), &View { numbers: &numbers, scene: &scene, now: NOW });
        // The agent's own certificate comes first.
        found.unwrap()[usize::from(when.starts_with("certificate"))].said.clone()
    };
    assert_eq!(said("cpu > 1%"), "the CPUs are busy for 91.2%");
    assert_eq!(said("load15 > 1"), "the load of 15m per core is 1.50");
    assert_eq!(said("disk / > 1%"), "disk / is 99.9% full");
    assert_eq!(said("inodes / > 1%"), "disk / has 12.3% of its inodes in use");
    assert_eq!(said("disk / full in < 1d"), "disk / has no room left in 5h, if it goes on as in the last hours");
    assert_eq!(said("check api failing"), "check api of mono fails (500\u{fffd}Internal; after 12 ms)");
    assert_eq!(said("container gone"), "container box does not run: exited with code 1");
    assert_eq!(said("certificate expires in < 2d"), "certificate /etc/a.pem ends 2023-11-15 22:13 UTC");
    let (all, nearly) = (shown(Metric::Disk, 100.0), shown(Metric::Disk, 99.999));
    assert_eq!((all.as_str(), nearly.as_str()), ("100.0%", "99.9%"));
    assert_eq!(about(3_723.0).to_string(), "1h");
    assert_eq!(about(100_000.0).to_string(), "1d3h");
    assert_eq!(about(59.9).to_string(), "59s");
    assert_eq!(shortened("\u{20ac}\u{20ac}", 4), "\u{20ac}");
    assert_eq!(plain(&"\u{20ac}\n".repeat(500), 200).len(), 198);
}
