//! Holds the tree against the table of fields: unknown keys, missing fields, wrong types; and fills in what is absent.
//! After it, `decode` may take the shape of everything for granted, and leaves out what has another.

use std::str::FromStr;

use drover_proto::{duration::Span, strategy::CountOrPercent};

use super::{
    diagnostic::{Reports, did_you_mean},
    fields::{Default, Kind, Object},
    yaml::{Node, Scalar, Value, join},
};

/// Reports everything in `node` that is not of `kind`.
pub(super) fn check(node: &Node, kind: &Kind, reports: &mut Reports) {
    match kind {
        Kind::Object(object) => check_object(node, object, reports),
        Kind::Map(_, item) => {
            if let Value::Map(entries) = &node.value {
                entries.iter().for_each(|(_, value)| check(value, item, reports));
            } else {
                wrong(node, "a map", "write NAME: value, one per line", reports);
            }
        }
        Kind::List(item) => {
            if let Value::List(items) = &node.value {
                items.iter().for_each(|value| check(value, item, reports));
            } else {
                wrong(node, "a list", "write [one, two], or one per line after a dash", reports);
            }
        }
        Kind::OneOrMany(item) => match &node.value {
            Value::List(items) => items.iter().for_each(|value| check(value, item, reports)),
            _ => check(node, item, reports),
        },
        Kind::Short(what, object) => match &node.value {
            Value::Map(_) => check_object(node, object, reports),
            _ => check(node, &Kind::Text(what), reports),
        },
        Kind::ListOrMap(item, _, named) => match &node.value {
            Value::List(items) => items.iter().for_each(|value| check(value, item, reports)),
            Value::Map(entries) => entries.iter().for_each(|(_, value)| check(value, named, reports)),
            Value::Scalar(_) => {
                wrong(node, "a list or a map", "write [one, two], or NAME: value, one per line", reports)
            }
        },
        Kind::Argv => {
            if let Value::List(items) = &node.value {
                items.iter().for_each(|value| check(value, &Kind::Text("text"), reports));
            } else {
                let hint =
                    "write [program, argument, …]: no shell is between, so no quotes, pipes or $VARIABLES either";
                wrong(node, "a list", hint, reports);
            }
        }
        Kind::Json => {}
        _ => match node.scalar() {
            Some(scalar) => check_scalar(node, scalar, kind, reports),
            None => wrong(node, &format!("text ({})", kind.words()), scalar_hint(node), reports),
        },
    }
}

fn scalar_hint(node: &Node) -> &'static str {
    match node.value {
        Value::Scalar(_) => "write \"\" for an empty text, or remove the key",
        // The most frequent reason for a map: an unquoted template.
        Value::Map(_) => "a template at the beginning of a value needs quotes: \"{{ name }}\"",
        Value::List(_) => "",
    }
}

fn wrong(node: &Node, wanted: &str, hint: &str, reports: &mut Reports) {
    reports.at(node, format!("should be {wanted}, and is {}", node.shape()), hint);
}

fn check_scalar(node: &Node, scalar: &Scalar, kind: &Kind, reports: &mut Reports) {
    let text = scalar.text.as_str();
    match kind {
        Kind::Bool if !(scalar.plain && matches!(text, "true" | "false")) => {
            wrong(node, "true or false", "yes, no, on and off are plain text in YAML 1.2", reports);
        }
        Kind::Int(low, high) if !text.parse::<u64>().is_ok_and(|n| (*low..=*high).contains(&n)) => {
            let range = if low == high { format!("{low}") } else { format!("a whole number from {low} to {high}") };
            reports.at(node, format!("should be {range}, and is {text:?}"), "");
        }
        Kind::Duration => {
            if let Err(error) = Span::from_str(text) {
                reports.at(node, format!("{text:?} is no length of time"), error.to_string());
            }
        }
        Kind::Mode if mode(text).is_none() => {
            reports.at(node, format!("{text:?} is no mode"), "write permission bits in octal, such as \"0644\"");
        }
        Kind::Share => {
            if let Err(error) = CountOrPercent::from_str(text) {
                reports.at(node, format!("{text:?} is no number of hosts"), error.to_string());
            }
        }
        Kind::Choice(words) if !words.contains(&text) => {
            let hint = did_you_mean(text, words.iter().copied())
                .map_or_else(|| format!("one of {}", words.join(", ")), |w| format!("did you mean {w}?"));
            reports.at(node, format!("{text:?} is not one of its values"), hint);
        }
        _ => {}
    }
}

/// Permission bits, from octal digits.
pub(super) fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let fits = (3..=5).contains(&digits.len()) && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    fits.then(|| u32::from_str_radix(digits, 8).ok()).flatten().filter(|bits| *bits <= 0o7777)
}

fn check_object(node: &Node, object: &Object, reports: &mut Reports) {
    let Value::Map(entries) = &node.value else {
        let known: Vec<&str> = object.fields.iter().map(|f| f.name).take(5).collect();
        return wrong(node, "a map", &format!("its fields are {} …", known.join(", ")), reports);
    };
    for (key, value) in entries {
        let path = join(&node.path, &key.text);
        if let Some(field) = object.field(&key.text) {
            check(value, &field.kind, reports);
        } else if object.not_built.contains(&key.text.as_str()) {
            let message = format!("{} is not built yet", key.text);
            reports.say(key.at, &path, message, Some("remove it: it comes with a later version of drover".to_owned()));
        } else {
            let hint = did_you_mean(&key.text, object.fields.iter().map(|f| f.name)).map_or_else(
                || format!("known here: {}", object.fields.iter().map(|f| f.name).collect::<Vec<_>>().join(", ")),
                |word| format!("did you mean {word}?"),
            );
            reports.say(key.at, &path, format!("{:?} is no field of {}", key.text, object.name), Some(hint));
        }
    }
    for field in object.fields.iter().filter(|f| matches!(f.default, Default::Required)) {
        if node.get(field.name).is_none() {
            let hint = format!("for example {}: {}", field.name, field.example);
            let path = join(&node.path, field.name);
            reports.say(node.at, &path, format!("{} is missing", field.name), Some(hint));
        }
    }
}

/// Puts in every field that is absent and has a default, so that `decode` finds it.
pub(super) fn fill(node: &mut Node, kind: &Kind) {
    let at = node.at;
    let path = node.path.clone();
    match (kind, &mut node.value) {
        (Kind::Object(object), Value::Map(entries)) => {
            for field in object.fields {
                let absent = !entries.iter().any(|(key, _)| key.text == field.name);
                let value = match field.default {
                    Default::Is(text) if absent => {
                        Value::Scalar(Scalar { text: text.to_owned(), plain: true, block: false })
                    }
                    Default::Fields if absent => Value::Map(Vec::new()),
                    _ => continue,
                };
                let key = super::yaml::Key { text: field.name.to_owned(), at };
                entries.push((key, Node { value, at, path: join(&path, field.name) }));
            }
            for (key, value) in entries {
                if let Some(field) = object.field(&key.text) {
                    fill(value, &field.kind);
                }
            }
        }
        (Kind::Short(_, object), Value::Map(_)) => fill(node, &Kind::Object(object)),
        (Kind::Map(_, item) | Kind::ListOrMap(_, _, item), Value::Map(entries)) => {
            entries.iter_mut().for_each(|(_, value)| fill(value, item))
        }
        (Kind::List(item) | Kind::OneOrMany(item), Value::List(items)) => {
            items.iter_mut().for_each(|value| fill(value, item));
        }
        _ => {}
    }
}
