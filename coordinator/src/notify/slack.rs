//! Slack: an incoming webhook, whose URL is the secret. Values go as
//! `plain_text`, in which nothing is a mention, a link or an emoji. A kind of `target`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Notification,
    files::{FieldError, SecretFile, at, server},
    target::{Prepared, Receiver},
    web::{Judge, Post, by_ok},
    words::{cut, entries, headline},
};

/// Of a message Slack takes 50 blocks.
const MAX_ALERTS: usize = 40;
/// Of a section it takes 3000 characters, of a header 150.
const MAX_SECTION_CHARS: usize = 2900;
const MAX_HEADER_CHARS: usize = 150;

/// `type = "slack"`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slack {
    url_file: SecretFile,
}

impl Receiver for Slack {
    fn to(&self) -> String {
        server(self.url_file.read_url(false))
    }

    fn prepare(&self, notification: &Notification, _: i64) -> Result<Prepared, FieldError> {
        let url = self.url_file.read_url(false).map_err(at("url_file"))?;
        Ok(Prepared::Post(Box::new(Post::json(url, &message(notification), None, Judge::UnlessItSays(by_ok))?)))
    }
}

fn message(notification: &Notification) -> Value {
    let title = headline(notification).to_string();
    let plain_text = |text: &str| json!({ "type": "plain_text", "text": text, "emoji": false });
    let mut blocks = vec![json!({ "type": "header", "text": plain_text(&cut(&title, MAX_HEADER_CHARS)) })];
    let all = entries(notification);
    let sections = all.iter().take(MAX_ALERTS).map(|entry| cut(&entry.text(), MAX_SECTION_CHARS));
    blocks.extend(sections.map(|text| json!({ "type": "section", "text": plain_text(&text) })));
    let left = all.len().saturating_sub(MAX_ALERTS) + notification.more;
    if left > 0 {
        blocks.push(json!({ "type": "section", "text": plain_text(&format!("… and {left} more")) }));
    }
    // What a phone shows in its list; this one is read as markup, whose three characters Slack says how to write.
    let text = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({ "text": text, "blocks": blocks })
}

#[cfg(test)]
mod tests {
    //! The message, and its limits.
    use super::*;
    use crate::notify::tests::{hostile, many, notification};

    #[test]
    fn a_message_has_a_header_and_a_section_for_each_alert() {
        let sent = message(&notification());
        assert_eq!(sent["text"], "[FIRING:1] 2 alerts on web-1 (critical)");
        assert_eq!(sent["blocks"][0]["type"], "header");
        let section = sent["blocks"][1]["text"]["text"].as_str().unwrap();
        assert!(section.starts_with("CRITICAL disk on web-1: /var is 91.2% full\n"), "{section}");
        assert_eq!(sent["blocks"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn what_a_host_says_is_never_read_as_markup() {
        let sent = message(&hostile());
        let text = sent["text"].as_str().unwrap();
        assert!(!text.contains('<') && text.contains("&lt;!everyone&gt;"), "{text}");
        for block in sent["blocks"].as_array().unwrap() {
            assert_eq!((&block["text"]["type"], &block["text"]["emoji"]), (&json!("plain_text"), &json!(false)));
        }
    }

    #[test]
    fn the_limits_are_kept() {
        let sent = message(&many(500));
        let blocks = sent["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        assert_eq!(blocks.last().unwrap()["text"]["text"], "… and 460 more");
        for block in blocks {
            assert!(block["text"]["text"].as_str().unwrap().chars().count() <= 3000);
        }
    }
}
