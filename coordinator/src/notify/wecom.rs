//! WeCom: a group's robot, whose URL is the secret. A kind of `target`.
//! The document: "Group robot configuration", developer.work.weixin.qq.com.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Notification,
    files::{FieldError, SecretFile, at, server},
    target::{Prepared, Receiver},
    web::{Judge, Post, Refusal, by_code},
    words::{Entry, cut, entries, firing, fit, headline, markdown},
};

/// Of markdown it takes 4096 bytes.
const MAX_TEXT_BYTES: usize = 4000;
/// Of one alert, so that one always fits, whatever it is written in.
const MAX_BLOCK_CHARS: usize = 780;
/// The system is busy; too many calls; too many at one time.
const BUSY: [i64; 3] = [-1, 45_009, 45_033];

/// `type = "wecom"`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WeCom {
    url_file: SecretFile,
}

impl Receiver for WeCom {
    fn to(&self) -> String {
        server(self.url_file.read_url(false))
    }

    fn prepare(&self, notification: &Notification, _: i64) -> Result<Prepared, FieldError> {
        let url = self.url_file.read_url(false).map_err(at("url_file"))?;
        Ok(Prepared::Post(Box::new(Post::json(url, &message(notification), None, Judge::ByWords(judge))?)))
    }
}

fn judge(answer: &str) -> Result<(), Refusal> {
    by_code(answer, &["errcode"], &BUSY)
}

fn message(notification: &Notification) -> Value {
    let head = headline(notification);
    let colour = if firing(notification) > 0 { "warning" } else { "info" };
    let top = format!("**<font color=\"{colour}\">{}</font> {}**\n", head.badge, markdown(&head.rest));
    let blocks: Vec<String> = entries(notification).iter().map(block).collect();
    let content = fit(&top, &blocks, notification.more, MAX_TEXT_BYTES, str::len);
    json!({ "msgtype": "markdown", "markdown": { "content": content } })
}

fn block(entry: &Entry) -> String {
    let colour = if entry.is_firing { "warning" } else { "info" };
    let mut text = format!("{}: {}\n> {}", markdown(&entry.what), markdown(&entry.summary), entry.when);
    if !entry.labels.is_empty() {
        text.push_str(&format!("\n> {}", markdown(&entry.labels)));
    }
    for (key, value) in &entry.notes {
        text.push_str(&format!("\n> {}: {}", markdown(key), markdown(value)));
    }
    format!("<font color=\"{colour}\">{}</font> {}\n", entry.mark, cut(&text, MAX_BLOCK_CHARS))
}

#[cfg(test)]
mod tests {
    //! The message, and its limits.
    use super::*;
    use crate::notify::tests::{hostile, many, notification};

    #[test]
    fn a_message_is_markdown() {
        let sent = message(&notification());
        let text = sent["markdown"]["content"].as_str().unwrap();
        let begin = "**<font color=\"warning\">[FIRING:1]</font> 2 alerts on web-1 (critical)**\n\
            <font color=\"warning\">CRITICAL</font> disk on web-1: /var is 91.2% full\n> since ";
        assert!(text.starts_with(begin), "{text}");
        assert!(text.contains("<font color=\"info\">RESOLVED</font> load on web-1: "), "{text}");
    }

    #[test]
    fn what_a_host_says_is_never_read_as_markup() {
        let text = message(&hostile())["markdown"]["content"].as_str().unwrap().to_owned();
        let own =
            ["warning", "info"].iter().fold(text, |text, color| text.replace(&format!("<font color=\"{color}\">"), ""));
        let own = own.replace("</font>", "");
        assert!(!own.contains('<') && !own.contains("]("), "{own}");
    }

    #[test]
    fn the_limits_are_kept() {
        let sent = message(&many(500));
        let text = sent["markdown"]["content"].as_str().unwrap();
        assert!(text.len() <= 4096 && text.ends_with(" more\n"), "{} {text}", text.len());
        assert!(text.matches("CRITICAL").count() > 5, "{text}");
        assert!(message(&hostile())["markdown"]["content"].as_str().unwrap().len() <= 4096);
    }
}
