//! A unit as a manifest would say it: the text of its file. Part of `import`; what of the text looks like a secret goes
//! into the app's env.

use drover_proto::{
    app::{Drift, Unit},
    code::Code,
    found::Found,
    name::{EnvKey, InstanceName, UnitName},
    template::{Hole, Segment, Template},
};

use super::{
    Refused, refused,
    secrets::{among, looks_secret},
};
use crate::{
    host::{
        bounded::read_bounded,
        systemd::{Systemd, UnitState},
    },
    plan::runs,
};

pub(super) async fn read(name: &UnitName, systemd: &Systemd) -> Result<Found, Refused> {
    if name.is_template() {
        let why = format!(
            "{name} is a template: import one of its instances, such as {}",
            name.as_str().replace("@.", "@1.")
        );
        return Err(refused(Code::Invalid, why));
    }
    let state = systemd.unit(name).await.map_err(|error| refused(Code::Systemd, error.to_string()))?;
    let fragment = state.fragment_path.clone();
    let file = file_of(name, &state)?;
    let read = tokio::task::spawn_blocking(move || read_bounded(&fragment)).await;
    let bytes = read.map_err(|error| refused(Code::Internal, error.to_string()))?;
    let cannot = |why: String| refused(Code::Invalid, format!("{} cannot be read: {why}", state.fragment_path));
    let text = String::from_utf8(bytes.map_err(|error| cannot(error.to_string()))?);
    let text = text.map_err(|_| cannot("it is not text".to_owned()))?;
    if text.lines().any(|line| value_of(line, "SetCredential").is_some()) {
        let why =
            format!("{} has a secret in its text: give it to the unit with LoadCredential= first", state.fragment_path);
        return Err(refused(Code::Invalid, why));
    }
    Ok(found(name, file, &state, &text))
}

/// The unit that the file is of, and of an instance what stands behind the `@`.
type Of = (UnitName, Option<InstanceName>);

/// Pure.
fn file_of(name: &UnitName, state: &UnitState) -> Result<Of, Refused> {
    if state.load_state != "loaded" || state.fragment_path.is_empty() {
        let why = match state.load_state.as_str() {
            "masked" => format!("unit {name} is masked: systemctl unmask {name} there first"),
            "loaded" => format!("unit {name} has no file of its own"),
            _ => format!("there is no unit {name} on this host"),
        };
        return Err(refused(Code::NotFound, why));
    }
    let file = state.fragment_path.rsplit('/').next().unwrap_or_default();
    if file == name.as_str() {
        return Ok((name.clone(), None));
    }
    let template = name.as_str().split_once('@').and_then(|(stem, rest)| {
        let (instance, kind) = rest.rsplit_once('.')?;
        Some((format!("{stem}@.{kind}").parse::<UnitName>().ok()?, instance.parse().ok()?))
    });
    match template {
        Some((template, instance)) if template.as_str() == file => Ok((template, Some(instance))),
        _ => {
            let why = format!("unit {name} is another name of the one in {}: import that one", state.fragment_path);
            Err(refused(Code::Invalid, why))
        }
    }
}

/// Pure.
fn found(name: &UnitName, (file, instance): Of, state: &UnitState, text: &str) -> Found {
    let mut found = Found::default();
    tell(name, state, text, &mut found);
    let installs = text.lines().any(|line| line.trim() == "[Install]");
    let enabled = matches!(state.unit_file_state.as_str(), "enabled" | "enabled-runtime" | "alias");
    let unit = Unit {
        text: without_secrets(text, &mut found),
        enable: enabled && installs,
        start: runs(state),
        adopt: true,
        instances: instance.into_iter().collect(),
        ports: Default::default(),
        drift: Drift::default(),
        restart_budget: None,
        restart_on_change: None,
        handover: None,
    };
    found.units.insert(file, unit);
    found
}

/// What a person should look at.
fn tell(name: &UnitName, state: &UnitState, text: &str, found: &mut Found) {
    for path in &state.drop_ins {
        found.note(
            "drop-in",
            format!("{path} adds to it: it stays in force, and stays what it is, without drover looking after it"),
        );
    }
    if state.fragment_path.starts_with("/run/") {
        found.note(
            "file",
            format!("{} is gone at the next boot: whatever makes it may be in the way", state.fragment_path),
        );
    }
    if state.need_daemon_reload {
        found.note(
            "file",
            "it has changed since systemd read it: what runs may be something else, and will be restarted",
        );
    }
    if !runs(state) {
        found.note("start", format!("{name} does not run just now: say start: true if it should"));
    }
    for line in text.lines().map(str::trim_start) {
        if let Some(path) = value_of(line, "EnvironmentFile") {
            let path = path.trim().trim_start_matches('-');
            found.note("EnvironmentFile", format!("{path} is not drover's, and stays as it is; it may hold secrets"));
        }
        let secret = |(key, value): (&str, &str)| {
            key.starts_with("Exec") && among(&value.split_whitespace().collect::<Vec<_>>())
        };
        if line.split_once('=').is_some_and(secret) {
            found.note("ExecStart", "there seems to be a secret among its arguments, where everybody can read it");
        }
    }
}

/// What a line sets a directive to; systemd allows blanks around the `=`.
fn value_of<'a>(line: &'a str, directive: &str) -> Option<&'a str> {
    let (key, value) = line.split_once('=')?;
    (key.trim() == directive).then(|| value.trim_start())
}

/// A line of `Environment=` that holds a secret becomes the app's env file; nothing else of the text changes.
fn without_secrets(text: &str, found: &mut Found) -> Template {
    let mut template = Template::default();
    let mut plain = String::new();
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let Some(value) = value_of(line, "Environment") else {
            plain.push_str(line);
            continue;
        };
        let mut whole = value.trim_end().to_owned();
        let mut raw = line.to_owned();
        while whole.ends_with('\\')
            && let Some(more) = lines.next()
        {
            whole.truncate(whole.len() - 1);
            whole.push_str(more.trim_end());
            raw.push_str(more);
        }
        let assigned = assignments(&whole);
        if !assigned.iter().any(|(key, value)| looks_secret(key, value)) {
            plain.push_str(&raw);
            continue;
        }
        take(assigned, found);
        plain.push_str("EnvironmentFile=");
        template.0.push(Segment::Text(std::mem::take(&mut plain)));
        template.0.push(Segment::Hole(Hole::EnvFile));
        plain.push('\n');
    }
    template.0.push(Segment::Text(plain));
    template
}

fn take(assigned: Vec<(String, String)>, found: &mut Found) {
    for (key, value) in assigned {
        let Ok(name) = key.parse::<EnvKey>() else {
            found.note("Environment", format!("a variable of it has a name that a manifest cannot hold: {key:?}"));
            continue;
        };
        match looks_secret(&key, &value) {
            true => drop(found.secrets.insert(name)),
            false => drop(found.env.insert(name, value)),
        }
    }
    if !found.notes.iter().any(|note| note.field == "Environment=") {
        let what = "it holds what looks like a secret: that comes from drover's env file instead, so that the first apply \
                    restarts the unit once";
        found.note("Environment=", what);
    }
}

/// `A=b "C=d e" 'F=g'`, as systemd reads it.
fn assignments(text: &str) -> Vec<(String, String)> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => quote = Some(c),
            (c, None) if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            (c, None) => word.push(c),
        }
    }
    words.push(word);
    let pair =
        |word: String| word.replace("%%", "%").split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    words.into_iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests;
