//! Puts one environment's fields over the manifest's own, before anything is decoded.

use super::yaml::{Node, Value};

/// Which of the manifest's fields an environment may change, and how deep values are put over one another, one by one;
/// what lies deeper is replaced as a whole.
const DEPTHS: [(&str, usize); 4] = [("vars", 1), ("env", 2), ("targets", 2), ("strategy", 1)];

/// The manifest as it is in `environment`, a value of its `environments`.
pub(super) fn apply(mut manifest: Node, environment: &Node) -> Node {
    for (field, depth) in DEPTHS {
        let Some(over) = environment.get(field) else { continue };
        let Value::Map(entries) = &mut manifest.value else { continue };
        match entries.iter_mut().find(|(key, _)| key.text == field) {
            Some((_, base)) => {
                if field == "env" {
                    displace(base, over);
                }
                put_over(base, over, depth);
            }
            None => entries.push((super::yaml::Key { text: field.to_owned(), at: over.at }, over.clone())),
        }
    }
    manifest
}

/// A variable that the environment has as a value is no secret there any more, and the other way round.
fn displace(base: &mut Node, over: &Node) {
    for (kind, other) in [("values", "secrets"), ("secrets", "values")] {
        let Some(names) = over.get(kind) else { continue };
        let Value::Map(entries) = &mut base.value else { return };
        for (_, map) in entries.iter_mut().filter(|(key, _)| key.text == other) {
            if let Value::Map(variables) = &mut map.value {
                variables.retain(|(key, _)| names.get(&key.text).is_none());
            }
        }
    }
}

fn put_over(base: &mut Node, over: &Node, depth: usize) {
    let (Value::Map(entries), Value::Map(news)) = (&mut base.value, &over.value) else {
        *base = over.clone();
        return;
    };
    for (key, new) in news {
        match entries.iter_mut().find(|(k, _)| k.text == key.text) {
            Some((_, old)) if depth > 1 => put_over(old, new, depth - 1),
            Some((_, old)) => *old = new.clone(),
            None => entries.push((key.clone(), new.clone())),
        }
    }
}
