//! Looks as tables, and at random: what fires has held for long enough, and what was told as firing is told as over.

use proptest::prelude::*;

use super::*;

fn active(when: &str, clear: Option<&str>) -> Active {
    let mut rule = drover_proto::alert::AlertRule::new(when.parse().unwrap());
    rule.clear = clear.map(|clear| clear.parse().unwrap());
    Active { id: RuleId { app: None, alert: "disk".parse().unwrap() }, rule }
}
fn finding(subject: &str, verdict: Verdict) -> Finding {
    let said = format!("disk {subject} is so full");
    Finding { app: None, subject: subject.to_owned(), service: None, verdict, said }
}
fn at(seconds: u64) -> Now {
    Now { boot_ms: seconds * 1000, unix_ms: 1_000_000 + i64::try_from(seconds).unwrap() * 1000 }
}
/// `p`, `f` or `-`, and whether something was told.
fn state(machine: &Machine) -> String {
    let of = |held: &Held| if held.status.state == AlertState::Pending { 'p' } else { 'f' };
    let states: String = machine.held().map(of).collect();
    if states.is_empty() { "-".to_owned() } else { states }
}

use Verdict::{Between, Clear, Holds, Unknown};

#[test]
fn an_alert_goes_from_look_to_look() {
    let rule = active("disk > 90% for 20s", Some("80%"));
    // Seconds, what the look says, and what follows.
    let rows: [(u64, Option<Verdict>, &str); 16] = [
        (0, Some(Clear), "-"),
        (10, Some(Between), "-"),
        (20, Some(Holds), "p"),
        (30, Some(Between), "-"),
        (40, Some(Holds), "p"),
        (50, Some(Unknown), "p"),
        (59, Some(Holds), "p"),
        (60, None, "p"),
        (61, Some(Holds), "f"),
        (70, Some(Between), "f"),
        (80, Some(Unknown), "f"),
        (90, None, "f"),
        (95, Some(Between), "f"),
        (100, Some(Clear), "-"),
        (110, Some(Holds), "p"),
        (120, Some(Clear), "-"),
    ];
    let (mut machine, mut told) = (Machine::default(), Vec::new());
    for (seconds, verdict, wanted) in rows {
        let found = verdict.map(|verdict| vec![finding("/", verdict)]);
        told.extend(machine.look(&rule, found.as_deref(), at(seconds)));
        assert_eq!(state(&machine), wanted, "{seconds}");
    }
    let messages: Vec<&str> = told.iter().map(|turned| turned.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "alert disk (warning): disk / is so full, more than 90% for 20s",
            "alert disk of / is over after 39s: disk / is so full"
        ]
    );
}

#[test]
fn a_clock_that_is_set_makes_nothing_fire_and_nothing_end() {
    let rule = active("disk > 90% for 5m", None);
    let mut machine = Machine::default();
    let stepped = |seconds, hours: i64| Now { unix_ms: at(seconds).unix_ms + hours * 3_600_000, ..at(seconds) };
    let holds = [finding("/", Holds)];
    assert!(machine.look(&rule, Some(&holds), at(0)).is_empty());
    assert!(machine.look(&rule, Some(&holds), stepped(10, 1)).is_empty());
    assert!(machine.look(&rule, Some(&holds), stepped(20, -1)).is_empty());
    assert_eq!(machine.look(&rule, Some(&holds), stepped(300, -1)).len(), 1);
    let before = machine.clone();
    assert!(machine.look(&rule, Some(&holds), stepped(310, 5)).is_empty());
    assert_eq!(machine.held().collect::<Vec<_>>(), before.held().collect::<Vec<_>>());
}

#[test]
fn what_is_gone_is_over() {
    let (now, rule) = (at(100), active("disk > 90%", None));
    let mut machine = Machine::default();
    let both = [finding("/", Holds), finding("/srv", Holds), finding("/", Clear)];
    assert_eq!(machine.look(&rule, Some(&both), at(0)).len(), 2, "what is called the same is one");
    let turned = machine.look(&rule, Some(&[finding("/", Unknown)]), now);
    assert_eq!((turned.len(), turned[0].fires, turned[0].key.subject.as_str()), (1, false, "/srv"));
    assert!(turned[0].message.contains("there is nothing left that it is about"), "{}", turned[0].message);
    let other = Active { id: RuleId { alert: "other".parse().unwrap(), ..rule.id.clone() }, ..rule.clone() };
    assert!(machine.look(&other, Some(&[]), now).is_empty(), "another rule's are not touched");
    assert!(machine.keep_rules(&BTreeSet::from([rule.id.clone()]), now).is_empty());
    assert_eq!(machine.keep_rules(&BTreeSet::from([other.id]), now).len(), 1);
    assert_eq!(state(&machine), "-");
}

#[test]
fn what_a_rule_says_by_now_is_reported() {
    let mut rule = active("disk > 90%", None);
    let mut machine = Machine::default();
    machine.look(&rule, Some(&[finding("/", Holds)]), at(0));
    assert!(machine.take_changed() && !machine.take_changed());
    machine.look(&rule, Some(&[finding("/", Holds)]), at(1));
    assert!(!machine.take_changed(), "it goes on as it was");
    rule.rule.severity = Severity::Critical;
    assert!(machine.look(&rule, Some(&[finding("/", Holds)]), at(2)).is_empty());
    assert!(machine.take_changed());
    let reported = machine.reported(&BTreeSet::new());
    assert_eq!((reported[0].severity, reported[0].since_unix_ms), (Severity::Critical, at(0).unix_ms));
    let of_service = Finding { service: Some("shop/web".to_owned()), ..finding("/", Holds) };
    assert!(machine.look(&rule, Some(&[of_service]), at(3)).is_empty());
    assert_eq!(machine.held().next().unwrap().service.as_deref(), Some("shop/web"), "and kept for the next start");
}

#[test]
fn what_was_pending_for_another_condition_counts_no_more() {
    let mut machine = Machine::default();
    let holds = [finding("/", Holds)];
    let (strict, other) = (active("disk > 90% for 20s", None), active("disk > 50% for 20s", None));
    machine.look(&strict, Some(&holds), at(0));
    assert!(machine.look(&other, Some(&holds), at(30)).is_empty());
    assert_eq!((state(&machine).as_str(), machine.reported(&BTreeSet::new())[0].since_unix_ms), ("p", at(30).unix_ms));
    // For how long it has to last does not change what has been seen.
    assert_eq!(machine.look(&active("disk > 50% for 10s", None), Some(&holds), at(40)).len(), 1);
    // What fires goes on until it is clear.
    assert!(machine.look(&strict, Some(&[finding("/", Between)]), at(41)).is_empty());
    assert_eq!(state(&machine), "f");
    let mut machine = Machine::default();
    machine.look(&strict, Some(&holds), at(0));
    machine.look(&other, Some(&[finding("/", Unknown)]), at(30));
    assert_eq!(state(&machine), "-", "nobody can say that it holds");
    // With what an older agent has kept nobody can tell.
    machine.look(&strict, Some(&holds), at(40));
    let older = machine.held().map(|held| Held { test: None, ..held.clone() }).collect();
    let mut machine = Machine::resumed(older, true);
    assert_eq!(machine.look(&other, Some(&holds), at(60)).len(), 1);
}

#[test]
fn alerts_of_an_app_in_flight_are_held() {
    let rule = active("check failing", None);
    let mut machine = Machine::default();
    let of = |app: Option<&str>| Finding { app: app.map(|app| app.parse().unwrap()), ..finding("api", Holds) };
    machine.look(&rule, Some(&[of(Some("mono")), of(Some("shop")), of(None)]), at(0));
    let held = |flying: &[&str]| -> Vec<bool> {
        let flying = flying.iter().map(|app| app.parse().unwrap()).collect();
        machine.reported(&flying).iter().map(|alert| alert.held).collect()
    };
    assert_eq!(held(&[]), [false, false, false]);
    assert_eq!(held(&["mono"]), [false, true, false]);
}

#[test]
fn of_too_many_the_worst_are_told_and_that_there_are_more() {
    let mut machine = Machine::default();
    let named = |name: &str| {
        let mut rule = active("unit failed", None);
        rule.id.alert = name.parse().unwrap();
        rule
    };
    let mut worse = named("worse");
    worse.rule.severity = Severity::Critical;
    let all: Vec<Finding> =
        (0..MAX_OF_RULE + 50).map(|number| finding(&format!("u{number:04}.service"), Holds)).collect();
    for rule in 0..MAX_HELD / MAX_OF_RULE {
        let rule = named(&format!("unit-{rule}"));
        assert_eq!(machine.look(&rule, Some(&all), at(5)).len(), MAX_OF_RULE, "and the next one has its own places");
    }
    assert!(machine.look(&worse, Some(&[finding("x", Holds)]), at(6)).is_empty(), "there is no room");
    assert_eq!(machine.look(&named("unit-0"), Some(&all[..MAX_OF_RULE - 1]), at(7)).len(), 1);
    assert_eq!(machine.look(&worse, Some(&[finding("x", Holds)]), at(8)).len(), 1);
    let reported = machine.reported(&BTreeSet::new());
    assert_eq!(reported.len(), MAX_ALERTS_PER_HOST);
    assert!(reported.is_sorted_by(|one, other| one.key < other.key));
    assert!(reported.iter().any(|alert| alert.key.alert.as_str() == "worse"));
    assert!(reported.iter().any(|alert| alert.key.alert.as_str() == REST && alert.state == AlertState::Firing));
}

#[test]
fn of_too_many_of_one_rule_it_is_told_that_there_are_more() {
    let (mut machine, rule) = (Machine::default(), active("unit failed", None));
    let all: Vec<Finding> = (0..MAX_OF_RULE + 50).map(|number| finding(&format!("u{number:04}"), Holds)).collect();
    let flying = BTreeSet::from(["mono".parse().unwrap()]);
    let rest = |machine: &Machine| {
        let reported = machine.reported(&flying);
        assert!(reported.is_sorted_by(|one, other| one.key < other.key));
        let rest = reported.iter().find(|alert| alert.key.alert.as_str() == REST).cloned();
        (reported.len(), rest.map(|rest| (rest.state, rest.held)))
    };
    machine.look(&rule, Some(&all[..MAX_OF_RULE - 1]), at(1));
    assert_eq!(rest(&machine), (MAX_OF_RULE - 1, None));
    machine.look(&rule, Some(&all), at(2));
    assert_eq!(rest(&machine), (MAX_OF_RULE + 1, Some((AlertState::Firing, false))));
    // The same after a start, before anything was looked at.
    let again = Machine::resumed(machine.held().cloned().collect(), true);
    assert_eq!(again.reported(&flying), machine.reported(&flying));
    machine.look(&rule, Some(&all[10..20]), at(3));
    assert_eq!(rest(&machine), (10, None));

    // Of an app that is being activated it is held with the others.
    let of_app = all.iter().map(|one| Finding { app: Some("mono".parse().unwrap()), ..one.clone() });
    machine.look(&rule, Some(&of_app.collect::<Vec<_>>()), at(4));
    assert_eq!(rest(&machine), (MAX_OF_RULE + 1, Some((AlertState::Firing, true))));
}

#[test]
fn apps_leave_room_for_the_host() {
    let (mut machine, mut rule) = (Machine::default(), active("check failing", None));
    let of_app = |app: usize| {
        let app = Some(format!("a{app}").parse().unwrap());
        (0..MAX_OF_RULE + 5)
            .map(|n| Finding { app: app.clone(), ..finding(&format!("c{n}"), Holds) })
            .collect::<Vec<_>>()
    };
    assert_eq!(machine.look(&rule, Some(&of_app(0)), at(1)).len(), MAX_OF_RULE);
    let all: Vec<Finding> = (0..20).flat_map(of_app).collect();
    assert_eq!(machine.look(&rule, Some(&all), at(2)).len(), MAX_OF_APPS - MAX_OF_RULE);
    let host: Vec<Finding> = (0..MAX_HELD).map(|n| finding(&format!("u{n}"), Holds)).collect();
    let mut of_host = |name: &str| {
        rule.id.alert = name.parse().unwrap();
        machine.look(&rule, Some(&host), at(3)).len()
    };
    let room = MAX_HELD - MAX_OF_APPS;
    assert_eq!(["unit", "other", "third"].map(&mut of_host), [MAX_OF_RULE, room - MAX_OF_RULE, 0]);
}

#[test]
fn an_agent_that_is_started_again_goes_on() {
    let rule = active("disk > 90% for 20s", None);
    let mut machine = Machine::default();
    machine.look(&rule, Some(&[finding("/a", Holds)]), at(100));
    machine.look(&rule, Some(&[finding("/a", Holds), finding("/b", Holds)]), at(120));
    assert_eq!(state(&machine), "fp");
    let kept = || machine.held().cloned().collect::<Vec<_>>();
    let mut again = Machine::resumed(kept(), true);
    assert_eq!(again.reported(&BTreeSet::new()), machine.reported(&BTreeSet::new()));
    let turned = again.look(&rule, Some(&[finding("/a", Holds), finding("/b", Holds)]), at(140));
    assert_eq!(turned.iter().map(|turned| turned.key.subject.as_str()).collect::<Vec<_>>(), ["/b"]);
    // After a boot what was pending begins anew.
    let mut booted = Machine::resumed(kept(), false);
    assert_eq!(state(&booted), "f");
    assert!(booted.look(&rule, Some(&[finding("/a", Holds), finding("/b", Holds)]), at(10)).is_empty());
    assert_eq!(state(&booted), "fp");
}

#[test]
fn it_is_known_when_something_is_due() {
    let rule = active("check failing for 30s", None);
    let mut machine = Machine::default();
    machine.look(&rule, Some(&[finding("a", Holds)]), at(100));
    let lasts = |id: &RuleId| (*id == rule.id).then_some(rule.rule.when.lasts);
    assert_eq!(machine.next_due(lasts, 100_000), Some(130_000));
    assert_eq!(machine.next_due(lasts, 130_000), None);
    assert_eq!(machine.next_due(|_| None, 0), None);
}

fn verdicts() -> impl Strategy<Value = Option<Verdict>> {
    prop_oneof![
        3 => Just(Some(Holds)),
        1 => Just(Some(Between)),
        1 => Just(Some(Clear)),
        1 => Just(Some(Unknown)),
        1 => Just(None),
    ]
}

proptest! {
    #[test]
    fn firing_has_held_for_long_enough_and_ends_once(
        looks in proptest::collection::vec((0_u64..20, verdicts(), -5_000_000_i64..5_000_000, any::<bool>()), 1..200),
    ) {
        let rule = active("disk > 90% for 30s", Some("80%"));
        let (mut machine, mut boot_s, mut holds_since, mut fires) = (Machine::default(), 100, None, false);
        for (pause, verdict, step, restarted) in looks {
            boot_s += pause;
            let now = Now { boot_ms: boot_s * 1000, unix_ms: step };
            if restarted {
                machine = Machine::resumed(machine.held().cloned().collect(), true);
            }
            let found = verdict.map(|verdict| vec![finding("/", verdict)]);
            let turned = machine.look(&rule, found.as_deref(), now);
            match verdict {
                Some(Holds) => holds_since = holds_since.or(Some(boot_s)),
                Some(Between | Clear) => holds_since = None,
                Some(Unknown) | None => {}
            }
            for turned in &turned {
                prop_assert_ne!(turned.fires, fires, "told twice");
                fires = turned.fires;
                if fires {
                    prop_assert!(holds_since.is_some_and(|since| boot_s - since >= 30));
                } else {
                    prop_assert_eq!(verdict, Some(Clear));
                }
            }
            // It is told no later than the first look at which it has held for so long.
            let is_due = verdict == Some(Holds) && holds_since.is_some_and(|since| boot_s - since >= 30);
            prop_assert!(fires || !is_due);
            prop_assert_eq!(machine.held().any(|held| held.status.state == AlertState::Firing), fires);
        }
    }
}
