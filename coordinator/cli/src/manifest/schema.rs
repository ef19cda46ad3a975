//! The table of fields as a JSON Schema (draft 2020-12) for editors.

use serde_json::{Map, Value, json};

use super::{
    fields::{Default, Kind, Object},
    table::MANIFEST,
};

/// The schema of a manifest. What spans fields (for example that a check has one kind only) is checked by `drover` alone.
#[must_use]
pub fn schema() -> Value {
    let mut defs = Map::new();
    let mut root = object(&MANIFEST, &mut defs);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("drover manifest");
    root["$defs"] = Value::Object(defs);
    root
}

fn object(object: &'static Object, defs: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in object.fields {
        let mut value = kind(&field.kind, defs);
        value["description"] = json!(field.doc);
        match field.default {
            Default::Required => required.push(field.name),
            Default::Is(text) => value["default"] = serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            Default::Depends(words) => value["description"] = json!(format!("{} Default: {words}.", field.doc)),
            Default::Absent | Default::Fields => {}
        }
        properties.insert(field.name.to_owned(), value);
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
}

fn kind(of: &Kind, defs: &mut Map<String, Value>) -> Value {
    match of {
        // A number or truth value is taken as the text that it is written as.
        Kind::Text(_) => json!({ "type": ["string", "number", "boolean"] }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Duration => json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$" }),
        Kind::Mode => json!({ "type": ["string", "integer"], "pattern": "^(0o)?[0-7]{3,5}$" }),
        Kind::Share => json!({ "type": ["string", "integer"], "pattern": "^[0-9]+%?$", "minimum": 1 }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Argv => json!({ "type": "array", "minItems": 1, "items": kind(&Kind::Text("text"), defs) }),
        Kind::Json => json!({}),
        Kind::List(item) => json!({ "type": "array", "items": kind(item, defs) }),
        Kind::OneOrMany(item) => {
            let one = kind(item, defs);
            json!({ "anyOf": [one, { "type": "array", "items": one }] })
        }
        Kind::Short(what, inner) => {
            let (short, long) = (kind(&Kind::Text(what), defs), kind(&Kind::Object(inner), defs));
            json!({ "anyOf": [short, long] })
        }
        Kind::ListOrMap(item, _, named) => {
            let (list, map) = (kind(item, defs), kind(named, defs));
            json!({ "anyOf": [
                { "type": "array", "items": list },
                { "type": "object", "additionalProperties": map },
            ] })
        }
        Kind::Map(_, item) => json!({ "type": "object", "additionalProperties": kind(item, defs) }),
        Kind::Object(inner) => {
            if !defs.contains_key(inner.name) {
                // The place is taken first, so that an object within itself would end.
                defs.insert(inner.name.to_owned(), Value::Null);
                let value = object(inner, defs);
                defs.insert(inner.name.to_owned(), value);
            }
            json!({ "$ref": format!("#/$defs/{}", inner.name) })
        }
    }
}
