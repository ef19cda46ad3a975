//! The text of a unit, and what of it is for nobody else's eyes.

use super::*;

fn state(fragment: &str) -> UnitState {
    UnitState {
        load_state: "loaded".to_owned(),
        active_state: "active".to_owned(),
        unit_file_state: "enabled".to_owned(),
        fragment_path: fragment.to_owned(),
        ..UnitState::default()
    }
}

fn read(text: &str) -> (Found, String) {
    let (name, state) = ("a.service".parse().unwrap(), state("/lib/systemd/system/a.service"));
    let found = found(&name, (name.clone(), None), &state, text);
    let shown = found.units[&name].text.render(|hole| Ok::<_, ()>(format!("<{hole:?}>"))).unwrap();
    (found, shown)
}

#[test]
fn a_text_without_secrets_is_said_as_it_is() {
    let text =
        "[Service]\nEnvironment=PORT=80 \"A=b c\"\nEnvironmentFile=-/etc/default/a\nExecStart=/bin/a\n[Install]\n";
    let (found, shown) = read(text);
    assert_eq!(shown, text);
    let unit = found.units.values().next().unwrap();
    assert!(unit.adopt && unit.enable && unit.start);
    assert_eq!(found.notes.iter().map(|note| note.field.as_str()).collect::<Vec<_>>(), ["EnvironmentFile"]);
}

#[test]
fn a_secret_goes_into_the_env_file() {
    let text = "[Service]\n Environment=PORT=80 \\\n  \"DB_PASSWORD=a b\" 'C=%%'\nEnvironment=X=1\nExecStart=/bin/a --token=x\n";
    let (found, shown) = read(text);
    assert_eq!(shown, "[Service]\nEnvironmentFile=<EnvFile>\nEnvironment=X=1\nExecStart=/bin/a --token=x\n");
    assert_eq!(found.secrets, ["DB_PASSWORD".parse().unwrap()].into());
    let env: Vec<(&str, &str)> = found.env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(env, [("C", "%"), ("PORT", "80")]);
    assert!(!serde_json::to_string(&found).unwrap().contains("a b"));
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    assert!(!found.units.values().next().unwrap().enable, "it has no [Install]");
}

#[test]
fn a_unit_is_imported_by_the_name_of_its_file() {
    let of =
        |name: &str, fragment: &str| file_of(&name.parse().unwrap(), &state(fragment)).map_err(|refused| refused.why);
    assert_eq!(of("a.service", "/etc/systemd/system/a.service").unwrap().1, None);
    let (file, instance) = of("a@1.service", "/lib/systemd/system/a@.service").unwrap();
    assert_eq!((file.as_str(), instance.unwrap().as_str()), ("a@.service", "1"));
    assert!(of("b.service", "/lib/systemd/system/a.service").unwrap_err().contains("another name"));
    assert!(of("b.service", "").unwrap_err().contains("no file"));
    let mut masked = state("");
    masked.load_state = "masked".to_owned();
    assert!(file_of(&"a.service".parse().unwrap(), &masked).unwrap_err().why.contains("unmask"));
}
