//! The text of an env file, as systemd's `EnvironmentFile=` reads it. Beside `render`.

use std::{collections::BTreeMap, fmt::Write as _};

use super::fill::EnvValue;

/// One `KEY=value` a line, quoted where systemd would read it otherwise.
pub(super) fn file(env: &BTreeMap<String, EnvValue>) -> String {
    env.iter().fold(String::new(), |mut text, (key, value)| {
        text.push_str(key);
        text.push('=');
        text.push_str(&quoted(value.value.expose()));
        text.push('\n');
        text
    })
}

/// The same with `KEY=[secret]`.
pub(super) fn masked(env: &BTreeMap<String, EnvValue>) -> String {
    env.iter().fold(String::new(), |mut text, (key, value)| {
        let shown = if value.secret { "[secret]".to_owned() } else { quoted(value.value.expose()) };
        // Writing to a String cannot fail.
        writeln!(text, "{key}={shown}").unwrap_or_default();
        text
    })
}

/// Within double quotes systemd takes a backslash before `"`, `\`, `` ` `` and `$` away, and nothing else.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+=".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}
