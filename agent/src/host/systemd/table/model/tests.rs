//! What is known after signals and answers, in whatever order they come.
use zbus::Variant;

use super::*;

type Table = Option<Arc<Units>>;

fn listed(name: &str, active_state: &str) -> Listed {
    Listed {
        name: name.to_owned(),
        load_state: "loaded".to_owned(),
        active_state: active_state.to_owned(),
        sub_state: String::new(),
        path: zbus::ObjectPath::try_from("/x").unwrap().into(),
    }
}

fn stands(name: &str, active_state: &str) -> Told {
    Told::Stands(name.to_owned(), active_state.to_owned(), String::new())
}

fn answer(model: &mut Model, question: Question, units: &[(&str, &str)]) {
    assert_eq!(model.question().as_ref(), Some(&question));
    take(model, question, units);
}

fn take(model: &mut Model, question: Question, units: &[(&str, &str)]) {
    model.take(Answer { question, units: units.iter().map(|(name, state)| listed(name, state)).collect() });
}

fn these(name: &str) -> Question {
    Question::These(vec![name.to_owned()])
}

/// With one active unit.
fn known() -> (Model, Table) {
    let (mut model, mut table) = (Model::default(), None);
    assert!(!model.tell(&mut table) && table.is_none());
    answer(&mut model, Question::All, &[("a.service", "active")]);
    assert!(model.tell(&mut table));
    assert_eq!(model.question(), None);
    (model, table)
}

#[track_caller]
fn state(table: &Table, name: &str) -> Option<String> {
    table.as_ref().unwrap().get(name).map(|unit| unit.active_state.clone())
}

#[test]
fn signals_change_what_was_listed() {
    let (mut model, mut table) = known();
    let before = table.clone().unwrap();
    assert_eq!(model.hear_told(stands("a.service", "failed")), Heard::State);
    assert!(model.tell(&mut table));
    assert_eq!(state(&table, "a.service").as_deref(), Some("failed"));
    assert!(table.as_ref().unwrap().revision() > before.revision());
    assert!(table.as_ref().unwrap().get("a.service").unwrap().changed > before.get("a.service").unwrap().changed);
    assert_eq!(before.get("a.service").unwrap().active_state, "active", "whoever holds the old one keeps it");
    assert!(!model.tell(&mut table), "there is nothing new");
    model.hear_told(Told::Removed("a.service".to_owned()));
    model.tell(&mut table);
    assert_eq!(state(&table, "a.service"), None);
}

#[test]
fn what_is_new_is_asked_for_unless_it_is_gone_again() {
    let (mut model, mut table) = known();
    assert_eq!(model.hear_told(Told::New("b.timer".to_owned())), Heard::Open);
    model.hear_told(Told::New("c.service".to_owned()));
    model.hear_told(Told::Removed("c.service".to_owned()));
    model.tell(&mut table);
    answer(&mut model, these("b.timer"), &[("b.timer", "inactive")]);
    // Later than the answer, whichever is heard first.
    model.hear_told(stands("b.timer", "active"));
    model.tell(&mut table);
    assert_eq!(state(&table, "b.timer").as_deref(), Some("active"));
    assert_eq!(model.question(), None);
}

#[test]
fn what_is_heard_while_it_is_asked_is_not_lost() {
    let (mut model, mut table) = known();
    model.doubt();
    let question = model.question().unwrap();
    model.hear_told(stands("a.service", "failed"));
    model.hear_told(Told::New("b.service".to_owned()));
    model.tell(&mut table);
    assert_eq!(state(&table, "a.service").as_deref(), Some("failed"), "it is told before the answer is there");
    // As it was before that.
    take(&mut model, question, &[("a.service", "active")]);
    model.tell(&mut table);
    assert_eq!(state(&table, "a.service").as_deref(), Some("failed"));
    assert_eq!(model.question(), Some(these("b.service")));
    // It has gone meanwhile.
    model.hear_told(Told::Removed("b.service".to_owned()));
    take(&mut model, these("b.service"), &[("b.service", "active")]);
    model.tell(&mut table);
    assert_eq!(state(&table, "b.service"), None);
}

#[test]
fn a_resync_marks_only_what_is_another() {
    let (mut model, mut table) = known();
    let before = table.clone().unwrap();
    model.doubt();
    answer(&mut model, Question::All, &[("a.service", "active"), ("b.service", "active")]);
    model.tell(&mut table);
    let after = table.clone().unwrap();
    assert_eq!(before.get("a.service"), after.get("a.service"));
    assert!(after.get("b.service").is_some() && after.reading() == before.reading());
}

#[test]
fn when_files_are_read_anew_all_are_asked_for_behind_it() {
    let (mut model, mut table) = known();
    let before = table.clone().unwrap();
    assert_eq!(model.hear_told(Told::Reloading(true)), Heard::Nothing);
    assert_eq!(model.hear_told(Told::Removed("a.service".to_owned())), Heard::Nothing);
    assert_eq!(model.question(), None, "its answer would be of the middle");
    model.tell(&mut table);
    assert_eq!(state(&table, "a.service").as_deref(), Some("active"));
    assert_eq!(model.hear_told(Told::Reloading(false)), Heard::Open);
    answer(&mut model, Question::All, &[("b.service", "active")]);
    model.tell(&mut table);
    assert_eq!((state(&table, "a.service"), state(&table, "b.service").as_deref()), (None, Some("active")));
    assert_ne!(table.as_ref().unwrap().reading(), before.reading());
    // Its end is not heard: it does not wait for ever.
    model.hear_told(Told::Reloading(true));
    model.doubt();
    assert_eq!(model.question(), Some(Question::All));
}

#[test]
fn of_a_flood_all_are_asked_for() {
    let (mut model, mut table) = known();
    for number in 0..=MAX_ASKED {
        model.hear_told(Told::New(format!("{number}.mount")));
    }
    model.tell(&mut table);
    answer(&mut model, Question::All, &[("a.service", "active")]);
    model.tell(&mut table);
    for _ in 0..MAX_KEPT {
        assert_eq!(model.hear_told(stands("a.service", "failed")), Heard::State);
    }
    assert_eq!(model.hear_told(stands("a.service", "active")), Heard::Open);
    assert!(model.heard.is_empty());
    answer(&mut model, Question::All, &[("a.service", "active")]);
    model.tell(&mut table);
    assert_eq!(state(&table, "a.service").as_deref(), Some("active"));
}

fn changed(path: &str, of: &str, properties: &[(&str, Variant<'_>)]) -> Message {
    let properties: HashMap<&str, &Variant<'_>> = properties.iter().map(|(key, value)| (*key, value)).collect();
    let signal = Message::signal(path, "org.freedesktop.DBus.Properties", "PropertiesChanged");
    signal.build(&(of, properties, vec!["InvocationID"])).unwrap()
}

#[test]
fn signals_are_read_as_systemd_sends_them() {
    let path = "/org/freedesktop/systemd1/unit/dev_2ddisk_2dby_5cx2did_40a_2eservice";
    let properties = [("ActiveState", Variant::from("failed")), ("SubState", Variant::from("failed"))];
    let expected = Told::Stands("dev-disk-by\\x2did@a.service".to_owned(), "failed".to_owned(), "failed".to_owned());
    assert_eq!(read(&changed(path, UNIT, &properties)), Some(expected));
    assert_eq!(read(&changed(path, "org.freedesktop.systemd1.Service", &properties)), None);
    assert_eq!(read(&changed(path, UNIT, &[("ActiveState", Variant::from(7_u32))])), None);
    assert_eq!(read(&changed("/org/freedesktop/systemd1/unit/a_2", UNIT, &properties)), None);
    assert_eq!(read(&changed("/elsewhere", UNIT, &properties)), None);
    let manager = |member: &str| Message::signal("/x", "org.freedesktop.systemd1.Manager", member.to_owned());
    let object: OwnedObjectPath = zbus::ObjectPath::try_from("/y").unwrap().into();
    let new = manager("UnitNew").build(&("a.mount", &object)).unwrap();
    assert_eq!(read(&new), Some(Told::New("a.mount".to_owned())));
    let removed = manager("UnitRemoved").build(&("a.mount", &object)).unwrap();
    assert_eq!(read(&removed), Some(Told::Removed("a.mount".to_owned())));
    assert_eq!(read(&manager("UnitNew").build(&7_u32).unwrap()), None);
    assert_eq!(read(&manager("Reloading").build(&true).unwrap()), Some(Told::Reloading(true)));
    assert_eq!(read(&manager("JobNew").build(&(1_u32, &object, "a.mount")).unwrap()), None);
}
