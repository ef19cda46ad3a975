//! Feishu and Lark: a group's own robot, signed, told by cards. Values go as `plain_text`, in which nothing is a mention or a link.
//! A kind of `target`. The document: "Custom bot guide", open.feishu.cn.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use drover_proto::alert::Severity;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Notification,
    files::{FieldError, SecretFile, at, server},
    target::{Prepared, Receiver},
    web::{Judge, Post, Refusal, by_code},
    words::{cut, entries, firing, headline},
};

/// A request has 20 KB.
const MAX_BYTES: usize = 18_000;
/// Of one alert, so that one always fits, whatever it is written in.
const MAX_BLOCK_CHARS: usize = 3000;
/// A card has 200 elements.
const MAX_ALERTS: usize = 60;
/// Too many requests, of a robot, a chat or a tenant.
const BUSY: [i64; 3] = [11_232, 230_020, 99_991_400];

/// `type = "feishu"`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Feishu {
    url_file: SecretFile,
    /// None: the robot knows its messages by a word or by the address of who sends them.
    secret_file: Option<SecretFile>,
}

impl Receiver for Feishu {
    fn to(&self) -> String {
        server(self.url_file.read_url(false))
    }

    fn prepare(&self, notification: &Notification, now_unix_ms: i64) -> Result<Prepared, FieldError> {
        let url = self.url_file.read_url(false).map_err(at("url_file"))?;
        let mut message = message(notification);
        let secret = self.secret_file.as_ref().map(SecretFile::read).transpose().map_err(at("secret_file"))?;
        if let (Some(secret), Some(fields)) = (&secret, message.as_object_mut()) {
            let now_unix_s = now_unix_ms.div_euclid(1000);
            fields.insert("timestamp".to_owned(), now_unix_s.to_string().into());
            fields.insert("sign".to_owned(), sign(now_unix_s, secret.expose()).into());
        }
        let mut post = Post::json(url, &message, None, Judge::ByWords(judge))?;
        post.hidden.extend(secret.map(|secret| secret.expose().clone()));
        Ok(Prepared::Post(Box::new(post)))
    }
}

fn judge(answer: &str) -> Result<(), Refusal> {
    by_code(answer, &["code", "StatusCode"], &BUSY)
}

/// HMAC-SHA256 of nothing, by the time and the secret, in base64; good for an hour.
fn sign(now_unix_s: i64, secret: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, format!("{now_unix_s}\n{secret}").as_bytes());
    STANDARD.encode(hmac::sign(&key, b""))
}

fn message(notification: &Notification) -> Value {
    let plain_text = |text: &str| json!({ "tag": "plain_text", "content": text });
    let element = |text: &str| json!({ "tag": "div", "text": plain_text(text) });
    let worst = notification.alerts.iter().filter(|told| told.ended_unix_ms.is_none()).map(|told| told.severity).max();
    let colour = match worst {
        _ if firing(notification) == 0 => "green",
        Some(Severity::Critical) => "red",
        Some(Severity::Warning) => "orange",
        _ => "blue",
    };
    let title = plain_text(&headline(notification).to_string());
    let header = json!({ "title": title, "template": colour });
    let all = entries(notification);
    let mut elements = Vec::new();
    let mut bytes = header.to_string().len() + element(&format!("… and {} more", usize::MAX)).to_string().len();
    for next in all.iter().take(MAX_ALERTS).map(|entry| element(&cut(&entry.text(), MAX_BLOCK_CHARS))) {
        bytes += next.to_string().len() + 1;
        if bytes > MAX_BYTES {
            break;
        }
        elements.push(next);
    }
    let left = all.len() - elements.len() + notification.more;
    if left > 0 {
        elements.push(element(&format!("… and {left} more")));
    }
    let config = json!({ "wide_screen_mode": true });
    json!({ "msg_type": "interactive", "card": { "config": config, "header": header, "elements": elements } })
}

#[cfg(test)]
mod tests {
    //! The signature, the card, and its limits.
    use super::*;
    use crate::notify::tests::{hostile, many, notification};

    #[test]
    fn the_signature_is_that_of_the_document() {
        // By the program in the document: hmac.new(f"{timestamp}\n{secret}", b"", sha256), in base64.
        assert_eq!(sign(1_796_020_939, "this is secret"), "gKRa+UtKUoNiLwlhsOJm+r43f8dL7Qwnk8+uY6o/wGY=");
    }

    #[test]
    fn a_card_has_the_colour_of_the_worst() {
        let sent = message(&notification());
        assert_eq!(sent["card"]["header"]["template"], "red");
        assert_eq!(sent["card"]["header"]["title"]["content"], "[FIRING:1] 2 alerts on web-1 (critical)");
        let first = sent["card"]["elements"][0]["text"]["content"].as_str().unwrap();
        assert!(first.starts_with("CRITICAL disk on web-1: "), "{first}");
        let mut over = notification();
        over.alerts.remove(0);
        assert_eq!(message(&over)["card"]["header"]["template"], "green");
    }

    #[test]
    fn what_a_host_says_is_never_read_as_markup() {
        let sent = message(&hostile());
        assert_eq!(sent["card"]["header"]["title"]["tag"], "plain_text");
        for element in sent["card"]["elements"].as_array().unwrap() {
            assert_eq!((&element["tag"], &element["text"]["tag"]), (&json!("div"), &json!("plain_text")));
        }
    }

    #[test]
    fn the_limits_are_kept() {
        let sent = message(&many(500));
        assert!(sent.to_string().len() < 20_000, "{}", sent.to_string().len());
        let elements = sent["card"]["elements"].as_array().unwrap();
        let last = elements.last().unwrap()["text"]["content"].as_str().unwrap();
        assert_eq!(last, format!("… and {} more", 500 - (elements.len() - 1)));
    }
}
