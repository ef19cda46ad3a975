//! A Prometheus Alertmanager, version 2 of its API. What fires is sent every minute, good for five: so what nobody says any more is
//! over by itself. A kind of `target`.

use std::{collections::BTreeMap, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Notification, Told,
    files::{FieldError, SecretFile, at, server, web_url},
    target::{Prepared, Receiver},
    web::{Judge, Post},
    words::{plain, rfc3339},
};

/// For so long what fires is believed.
const GOOD_FOR_MS: i64 = 5 * 60_000;

/// `type = "alertmanager"`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alertmanager {
    /// Of its first page.
    url: String,
    username: Option<String>,
    password_file: Option<SecretFile>,
    bearer_token_file: Option<SecretFile>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    plaintext: bool,
}

impl Alertmanager {
    fn url(&self) -> Result<Url, FieldError> {
        let is_secret = self.password_file.is_some() || self.bearer_token_file.is_some();
        let mut url = web_url(&self.url, is_secret, self.plaintext).map_err(at("url"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(at("url")("must be that of the first page, such as https://alerts.example.org"));
        }
        let path = format!("{}/api/v2/alerts", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }
}

impl Receiver for Alertmanager {
    fn check(&self) -> Result<(), FieldError> {
        if self.username.is_some() != self.password_file.is_some() {
            return Err(at("password_file")("comes with username, and username with password_file"));
        }
        if self.password_file.is_some() && self.bearer_token_file.is_some() {
            return Err(at("bearer_token_file")("cannot stand beside password_file"));
        }
        self.url().map(drop)
    }

    fn to(&self) -> String {
        server(self.url())
    }

    fn prepare(&self, notification: &Notification, now_unix_ms: i64) -> Result<Prepared, FieldError> {
        let mut post =
            Post::json(self.url()?, &message(notification, now_unix_ms), self.ca_file.as_deref(), Judge::ByStatus)?;
        if let (Some(name), Some(file)) = (&self.username, &self.password_file) {
            let password = file.read().map_err(at("password_file"))?;
            let login = STANDARD.encode(format!("{name}:{}", password.expose()));
            post.headers.insert(AUTHORIZATION, authorization(&format!("Basic {login}")).map_err(at("username"))?);
            post.hidden.extend([password.expose().clone(), login]);
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

/// A header that is not shown.
pub(super) fn authorization(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "has characters that no header can have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn message(notification: &Notification, now_unix_ms: i64) -> Value {
    notification.alerts.iter().map(|told| alert(told, now_unix_ms)).collect()
}

fn alert(told: &Told, now_unix_ms: i64) -> Value {
    let mut annotations = named(&told.annotations);
    annotations.insert("summary".to_owned(), plain(&told.summary));
    let mut labels = BTreeMap::new();
    for (from, to) in [("alert", "alertname"), ("host", "instance")] {
        labels.extend(told.labels.get(from).map(|value| (to.to_owned(), plain(value))));
    }
    for (key, value) in named(&told.labels) {
        labels.entry(key).or_insert(value);
    }
    // Without a value it is no label there.
    labels.retain(|_, value| !value.is_empty());
    json!({
        "labels": labels,
        "annotations": annotations,
        "startsAt": rfc3339(told.started_unix_ms),
        "endsAt": rfc3339(told.ended_unix_ms.unwrap_or(now_unix_ms + GOOD_FOR_MS)),
    })
}

/// With names that every Alertmanager takes: letters, digits and `_`.
fn named(words: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let name = |key: &String| key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>();
    words.iter().map(|(key, value)| (name(key), plain(value))).collect()
}

#[cfg(test)]
mod tests {
    //! The message.
    use super::*;
    use crate::notify::tests::{hostile, notification};

    #[test]
    fn a_message_is_what_alertmanager_calls_alerts() {
        let sent = message(&notification(), 1_796_020_999_000);
        let labels = json!({
            "alertname": "disk", "instance": "web-1", "alert": "disk", "host": "web-1", "severity": "critical", "app": "shop",
            "subject": "/var",
        });
        let annotations =
            json!({ "summary": "/var is 91.2% full", "runbook": "https://wiki.example.org/disk?a=1&b=2" });
        let firing = json!({
            "labels": labels, "annotations": annotations,
            "startsAt": "2026-11-30T06:42:19.123Z", "endsAt": "2026-11-30T06:48:19.000Z",
        });
        assert_eq!(sent[0], firing);
        assert_eq!(sent[1]["endsAt"], "2026-11-30T06:42:19.123Z");
        assert!(sent[1]["labels"].get("app").is_none());
    }

    #[test]
    fn names_are_such_as_it_takes() {
        for alert in message(&hostile(), 0).as_array().unwrap() {
            for (key, value) in alert["labels"].as_object().unwrap() {
                assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{key}");
                assert!(!value.as_str().unwrap().contains(['\n', '\r']), "{value}");
            }
        }
    }
}
