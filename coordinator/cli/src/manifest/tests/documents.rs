//! Schema and documentation say what the table of fields says. UPDATE_DOCS=1 writes the tables of docs/MANIFEST.md anew.

use serde_json::Value as Json;

use super::*;
use crate::manifest::{
    fields::{Default, Object},
    table::ALL,
};

/// The table of one object, as Markdown.
fn table(object: &Object) -> String {
    let mut text = "| field | value | default | meaning | example |\n|---|---|---|---|---|\n".to_owned();
    let cell = |text: &str| text.replace('|', "\\|");
    for field in object.fields {
        let default = match field.default {
            Default::Required => "required".to_owned(),
            Default::Absent => String::new(),
            Default::Fields => "its fields' own".to_owned(),
            Default::Is(text) => format!("`{text}`"),
            Default::Depends(words) => words.to_owned(),
        };
        let (kind, doc) = (cell(&field.kind.words()), cell(field.doc));
        text += &format!("| `{}` | {kind} | {default} | {doc} | `{}` |\n", field.name, cell(field.example));
    }
    if !object.not_built.is_empty() {
        let names: Vec<String> = object.not_built.iter().map(|name| format!("`{name}`")).collect();
        text += &format!("\nNot built yet, refused by name: {}.\n", names.join(", "));
    }
    text
}

#[test]
fn the_documentation_has_every_field_as_the_table_has_it() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/MANIFEST.md");
    let old = fs::read_to_string(&path).unwrap();
    let mut new = old.clone();
    for object in ALL {
        let (begin, end) = (format!("<!-- fields: {} -->\n", object.name), "<!-- end -->");
        let from = new.find(&begin).unwrap_or_else(|| panic!("docs/MANIFEST.md has no {begin}")) + begin.len();
        let to = from + new[from..].find(end).unwrap();
        new.replace_range(from..to, &table(object));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &new).unwrap();
    } else {
        assert!(old == new, "docs/MANIFEST.md is behind the table of fields: run this test with UPDATE_DOCS=1");
    }
}

/// As much of JSON Schema as `schema` uses.
fn fits(value: &Json, schema: &Json, root: &Json, path: &str) -> Result<(), String> {
    if let Some(name) = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
        return fits(value, &root["$defs"][name], root, path);
    }
    if let Some(any) = schema.get("anyOf").and_then(Json::as_array) {
        return any.iter().find_map(|s| fits(value, s, root, path).ok()).ok_or(format!("{path}: none fits"));
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        _ => value.is_number(),
    };
    let right = match &schema["type"] {
        Json::String(kind) => is(kind),
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).any(is),
        _ => true,
    };
    if !right {
        return Err(format!("{path}: {value} is not {}", schema["type"]));
    }
    if let Some(words) = schema.get("enum").and_then(Json::as_array)
        && !words.contains(value)
    {
        return Err(format!("{path}: {value} is none of {words:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        value.get(name).ok_or(format!("{path}.{name} is missing"))?;
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let known = schema["properties"]
            .get(key)
            .or_else(|| schema["additionalProperties"].as_object().and(schema.get("additionalProperties")));
        match known {
            Some(known) => fits(inner, known, root, &format!("{path}.{key}"))?,
            None if schema["additionalProperties"] == false => return Err(format!("{path}.{key} is unknown")),
            None => {}
        }
    }
    for item in value.as_array().into_iter().flatten() {
        fits(item, &schema["items"], root, &format!("{path}[]"))?;
    }
    Ok(())
}

/// The tree as a YAML 1.2 editor sees it.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries.iter().map(|(k, v)| (k.text.clone(), json(v))).collect(),
        Value::Scalar(scalar) if scalar.plain => {
            serde_json::from_str(&scalar.text).unwrap_or_else(|_| scalar.text.as_str().into())
        }
        Value::Scalar(scalar) => scalar.text.as_str().into(),
    }
}

fn tree(text: String) -> Json {
    let mut reports = Reports::new("drover.yaml".into(), text);
    let node = yaml::parse(&mut reports).unwrap();
    assert_eq!(reports.list, vec![]);
    json(&node)
}

#[test]
fn the_schema_describes_the_example_and_refuses_what_load_refuses() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let example = tree(fs::read_to_string(example("mono/drover.yaml")).unwrap());
    fits(&example, &schema, &schema, "").unwrap();
    for bad in ["logs: {}", "strategy: { canary: 1 }", "files: {}", "units: { a.service: { restart: often } }"] {
        let bad = tree(minimal(&format!("{bad}\n")));
        assert!(fits(&bad, &schema, &schema, "").is_err(), "{bad}");
    }
}

#[test]
fn the_examples_of_the_table_fit_their_own_fields() {
    for object in ALL {
        for field in object.fields.iter().filter(|f| f.example != "|") {
            let mut reports = Reports::new("drover.yaml".into(), field.example.to_owned());
            let node = yaml::parse(&mut reports).unwrap();
            shape::check(&node, &field.kind, &mut reports);
            assert!(reports.list.is_empty(), "{}.{}: {:?}", object.name, field.name, reports.list);
        }
    }
}
