//! Any web server: a document of drover's own (docs/NOTIFIERS.md has its schema), or what a template makes of it. A kind of `target`.

use std::{collections::BTreeMap, path::PathBuf};

use drover_proto::secret::Secret;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Notification, Told,
    alertmanager::authorization,
    files::{FieldError, SecretFile, at, server, web_url},
    target::{Prepared, Receiver},
    web::{Judge, Post},
    words::{firing, headline, rfc3339, status},
};

/// Of the document. Changes that a reader would stumble over get another.
const VERSION: &str = "1";
const JSON: &str = "application/json; charset=utf-8";
const MAX_BODY_BYTES: usize = 1024 * 1024;
const MAX_TEMPLATE_BYTES: usize = 64 * 1024;
/// Steps of a template, so that none goes on for ever.
const TEMPLATE_FUEL: u64 = 1_000_000;
/// They are HTTP's, or secret.
const OWN_HEADERS: [&str; 10] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// `type = "webhook"`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    /// Either this …
    url: Option<Secret<String>>,
    /// … or, where it is a secret, this.
    url_file: Option<SecretFile>,
    #[serde(default)]
    method: Verb,
    #[serde(default)]
    headers: BTreeMap<String, Secret<String>>,
    /// Headers whose values are secret.
    #[serde(default)]
    header_files: BTreeMap<String, SecretFile>,
    bearer_token_file: Option<SecretFile>,
    template: Option<String>,
    content_type: Option<String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    plaintext: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Verb {
    #[default]
    Post,
    Put,
}

impl Webhook {
    fn url(&self) -> Result<Url, FieldError> {
        match (&self.url, &self.url_file) {
            (Some(url), None) => {
                let is_secret = self.bearer_token_file.is_some() || !self.header_files.is_empty();
                web_url(url.expose(), is_secret, self.plaintext).map_err(at("url"))
            }
            (None, Some(file)) => file.read_url(self.plaintext).map_err(at("url_file")),
            _ => Err(at("url")("either url or url_file says where to send, and not both")),
        }
    }

    fn is_json(&self) -> bool {
        self.content_type.as_deref().is_none_or(|kind| kind.contains("json"))
    }

    fn body(&self, notification: &Notification) -> Result<Vec<u8>, FieldError> {
        let document = document(notification);
        let Some(template) = &self.template else { return Ok(document.to_string().into_bytes()) };
        let failed = |e: &minijinja::Error| {
            let line = e.line().map(|line| format!("line {line}: ")).unwrap_or_default();
            at("template")(format!("{line}{e}"))
        };
        let mut environment = Environment::new();
        environment.set_fuel(Some(TEMPLATE_FUEL));
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let escape = if self.is_json() { AutoEscape::Json } else { AutoEscape::None };
        environment.set_auto_escape_callback(move |_| escape);
        let body = environment.render_str(template, &document).map_err(|e| failed(&e))?;
        if body.len() > MAX_BODY_BYTES {
            return Err(at("template")(format!("it makes more than {MAX_BODY_BYTES} bytes")));
        }
        if self.is_json() {
            let parsed = serde_json::from_str::<serde::de::IgnoredAny>(&body);
            parsed.map_err(|e| at("template")(format!("what it makes is no JSON: {e}")))?;
        }
        Ok(body.into_bytes())
    }
}

/// A header's name, if the settings may set it.
fn header(name: &str) -> Result<HeaderName, String> {
    let parsed = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no name of a header"))?;
    if OWN_HEADERS.contains(&parsed.as_str()) {
        let instead = "write bearer_token_file or content_type for what those are for";
        return Err(format!("{name} is not to be set here: {instead}"));
    }
    Ok(parsed)
}

impl Receiver for Webhook {
    fn check(&self) -> Result<(), FieldError> {
        if self.url.is_some() || self.url_file.is_none() {
            self.url()?;
        }
        for (name, value) in &self.headers {
            header(name).map_err(at("headers"))?;
            let is_value = HeaderValue::from_str(value.expose()).is_ok();
            is_value
                .then_some(())
                .ok_or_else(|| at("headers")(format!("{name} has a value that no header can have")))?;
        }
        for name in self.header_files.keys() {
            header(name).map_err(at("header_files"))?;
        }
        if self.template.is_none() && self.content_type.is_some() {
            return Err(at("content_type")("is for what a template makes"));
        }
        if self.content_type.as_ref().is_some_and(|kind| HeaderValue::from_str(kind).is_err()) {
            return Err(at("content_type")("is no media type, such as text/plain"));
        }
        if self.template.as_ref().is_some_and(|template| template.len() > MAX_TEMPLATE_BYTES) {
            return Err(at("template")(format!("is longer than {MAX_TEMPLATE_BYTES} bytes")));
        }
        Ok(())
    }

    fn to(&self) -> String {
        server(self.url())
    }

    fn prepare(&self, notification: &Notification, _: i64) -> Result<Prepared, FieldError> {
        let mut post = Post::json(self.url()?, &Value::Null, self.ca_file.as_deref(), Judge::ByStatus)?;
        post.body = self.body(notification)?;
        post.method = match self.method {
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
        };
        let kind = self.content_type.as_deref().unwrap_or(JSON);
        post.headers.insert(CONTENT_TYPE, authorization(kind).map_err(at("content_type"))?);
        for (name, value) in &self.headers {
            let name = header(name).map_err(at("headers"))?;
            post.headers.insert(name, authorization(value.expose()).map_err(at("headers"))?);
            post.hidden.push(value.expose().clone());
        }
        for (name, file) in &self.header_files {
            let value = file.read().map_err(at("header_files"))?;
            let name = header(name).map_err(at("header_files"))?;
            post.headers.insert(name, authorization(value.expose()).map_err(at("header_files"))?);
            post.hidden.push(value.expose().clone());
        }
        if let Some(file) = &self.bearer_token_file {
            let token = file.read().map_err(at("bearer_token_file"))?;
            let value = authorization(&format!("Bearer {}", token.expose())).map_err(at("bearer_token_file"))?;
            post.headers.insert(AUTHORIZATION, value);
            post.hidden.push(token.expose().clone());
        }
        Ok(Prepared::Post(Box::new(post)))
    }
}

/// What is sent where there is no template, and what a template has to work with.
fn document(notification: &Notification) -> Value {
    let firing = firing(notification);
    json!({
        "version": VERSION,
        "id": notification.id,
        "status": status(notification),
        "title": headline(notification).to_string(),
        "reason": notification.reason,
        "group": notification.group,
        "firing": firing,
        "resolved": notification.alerts.len() - firing,
        "more": notification.more,
        "alerts": notification.alerts.iter().map(alert).collect::<Value>(),
    })
}

fn alert(told: &Told) -> Value {
    json!({
        "status": if told.ended_unix_ms.is_none() { "firing" } else { "resolved" },
        "severity": told.severity.word(),
        "summary": told.summary,
        "labels": told.labels,
        "annotations": told.annotations,
        "started_at": rfc3339(told.started_unix_ms),
        "ended_at": told.ended_unix_ms.map(rfc3339),
    })
}

#[cfg(test)]
mod tests {
    //! The document, and templates.
    use super::*;
    use crate::notify::tests::{hostile, notification};

    fn webhook(text: &str) -> Webhook {
        toml::from_str(&format!("url = \"http://127.0.0.1:9\"\n{text}")).unwrap()
    }

    fn body(webhook: &Webhook, notification: &Notification) -> Result<String, FieldError> {
        webhook.body(notification).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_document_is_as_its_schema_says() {
        let sent: Value = serde_json::from_str(&body(&webhook(""), &notification()).unwrap()).unwrap();
        let expected = json!({
            "version": "1", "id": "n-1", "status": "firing", "title": "[FIRING:1] 2 alerts on web-1 (critical)", "reason": "",
            "group": { "host": "web-1" }, "firing": 1, "resolved": 1, "more": 0,
        });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&sent[key], value, "{key}");
        }
        let first = json!({
            "status": "firing", "severity": "critical", "summary": "/var is 91.2% full",
            "labels": { "alert": "disk", "app": "shop", "host": "web-1", "severity": "critical", "subject": "/var" },
            "annotations": { "runbook": "https://wiki.example.org/disk?a=1&b=2" },
            "started_at": "2026-11-30T06:42:19.123Z", "ended_at": null,
        });
        assert_eq!(sent["alerts"][0], first);
        // The document says of each key what it is.
        let documented = include_str!("../../../docs/NOTIFIERS.md");
        for key in sent.as_object().unwrap().keys().chain(first.as_object().unwrap().keys()) {
            let is_there = |text: &str| documented.contains(text);
            assert!(is_there(&format!("`{key}`")) || is_there(&format!("`alerts[].{key}`")), "{key}");
        }
    }

    #[test]
    fn a_template_makes_json_whatever_the_values_are() {
        let template = "template = '{\"text\": {{ title }}, \"all\": [{% for a in alerts %}{{ a.summary }}{% if not loop.last %}, {% endif %}{% endfor %}]}'";
        let webhook = webhook(template);
        let sent: Value = serde_json::from_str(&body(&webhook, &hostile()).unwrap()).unwrap();
        assert_eq!(sent["all"][0], hostile().alerts[0].summary);
        let sent: Value = serde_json::from_str(&body(&webhook, &notification()).unwrap()).unwrap();
        assert_eq!(sent["text"], "[FIRING:1] 2 alerts on web-1 (critical)");
    }

    #[test]
    fn the_template_of_the_document_works() {
        #[derive(Deserialize)]
        struct Settings {
            notifiers: BTreeMap<String, toml::Table>,
        }
        let documented = include_str!("../../../docs/NOTIFIERS.md");
        let example = documented.split("```toml").find(|text| text.contains("[notifiers.ticket]")).unwrap();
        let settings: Settings = toml::from_str(example.split("```").next().unwrap()).unwrap();
        let mut table = settings.notifiers["ticket"].clone();
        table.remove("type").unwrap();
        let webhook: Webhook = toml::Value::Table(table).try_into().unwrap();
        let sent: Value = serde_json::from_str(&body(&webhook, &notification()).unwrap()).unwrap();
        let expected = json!({
            "title": "[FIRING:1] 2 alerts on web-1 (critical)", "text": "/var is 91.2% full; the load was 9", "urgent": true,
        });
        assert_eq!(sent, expected);
        let sent: Value = serde_json::from_str(&body(&webhook, &hostile()).unwrap()).unwrap();
        assert!(sent["text"].as_str().unwrap().starts_with(&hostile().alerts[0].summary));
    }

    #[test]
    fn a_template_of_text_is_taken_as_it_is() {
        let text = webhook("content_type = \"text/plain\"\ntemplate = \"{{ status }}: {{ alerts[0].labels.host }}\"");
        assert_eq!(body(&text, &notification()).unwrap(), "firing: web-1");
    }

    #[test]
    fn a_wrong_template_is_told_with_its_line() {
        let rows = [
            ("template = \"\"\"{\n{{ titel }}}\"\"\"", "undefined"),
            ("template = \"\"\"{\n\n{% for }\"\"\"", "line 3"),
            ("template = \"title: {{ title }}\"", "no JSON"),
            ("template = \"{% for a in range(9999) %}{% for b in range(9999) %}1{% endfor %}{% endfor %}\"", "fuel"),
        ];
        for (text, expected) in rows {
            let said = body(&webhook(text), &notification()).unwrap_err().to_string();
            assert!(said.starts_with("`template`: ") && said.contains(expected), "{text}: {said}");
        }
    }
}
