//! DingTalk: a group's own robot, signed. A kind of `target`.
//! The document: "Custom robot access", open.dingtalk.com.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Notification,
    files::{FieldError, SecretFile, at, server},
    target::{Prepared, Receiver},
    web::{Judge, Post, Refusal, by_code},
    words::{Entry, cut, entries, firing, fit, headline, json_bytes, markdown},
};

/// A message has 20,000 bytes; the rest of it is small.
const MAX_TEXT_BYTES: usize = 17_000;
/// Of one alert, so that one always fits, whatever it is written in.
const MAX_BLOCK_CHARS: usize = 3000;
const MAX_MOBILES: usize = 50;
/// The system is busy; more than 20 messages in a minute.
const BUSY: [i64; 3] = [-1, 130_101, 410_100];

/// `type = "dingtalk"`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DingTalk {
    url_file: SecretFile,
    /// None: the robot knows its messages by a word or by the address of who sends them.
    secret_file: Option<SecretFile>,
    /// Who is mentioned when something fires.
    #[serde(default)]
    at_mobiles: Vec<String>,
}

impl Receiver for DingTalk {
    fn check(&self) -> Result<(), FieldError> {
        let is_number = |text: &String| {
            (5..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'+')
        };
        if self.at_mobiles.len() > MAX_MOBILES || !self.at_mobiles.iter().all(is_number) {
            return Err(at("at_mobiles")(format!(
                "takes telephone numbers, such as 13800000000, at most {MAX_MOBILES}"
            )));
        }
        Ok(())
    }

    fn to(&self) -> String {
        server(self.url_file.read_url(false))
    }

    fn prepare(&self, notification: &Notification, now_unix_ms: i64) -> Result<Prepared, FieldError> {
        let url = self.url_file.read_url(false).map_err(at("url_file"))?;
        let mut post = Post::json(url, &message(notification, &self.at_mobiles), None, Judge::ByWords(judge))?;
        if let Some(file) = &self.secret_file {
            let secret = file.read().map_err(at("secret_file"))?;
            let sign = sign(now_unix_ms, secret.expose());
            post.url.query_pairs_mut().append_pair("timestamp", &now_unix_ms.to_string()).append_pair("sign", &sign);
            post.hidden.push(secret.expose().clone());
        }
        Ok(Prepared::Post(Box::new(post)))
    }
}

fn judge(answer: &str) -> Result<(), Refusal> {
    by_code(answer, &["errcode"], &BUSY)
}

/// HMAC-SHA256 of the time and the secret by the secret, in base64; good for an hour.
fn sign(now_unix_ms: i64, secret: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, format!("{now_unix_ms}\n{secret}").as_bytes()))
}

fn message(notification: &Notification, mobiles: &[String]) -> Value {
    let head = headline(notification);
    let mobiles = if firing(notification) > 0 { mobiles } else { &[] };
    let title = format!("{} {}", head.badge, markdown(&head.rest));
    let mut top = format!("### {title}\n\n");
    if !mobiles.is_empty() {
        // Who is not named in the text, too, is not called.
        top.push_str(&format!("@{}\n\n", mobiles.join(" @")));
    }
    let blocks: Vec<String> = entries(notification).iter().map(block).collect();
    let text = fit(&top, &blocks, notification.more, MAX_TEXT_BYTES, json_bytes);
    json!({
        "msgtype": "markdown",
        "markdown": { "title": title, "text": text },
        "at": { "atMobiles": mobiles, "isAtAll": false },
    })
}

fn block(entry: &Entry) -> String {
    let mut text = format!("**{}** {}: {}", entry.mark, markdown(&entry.what), markdown(&entry.summary));
    text.push_str(&format!("\n\n> {}", entry.when));
    if !entry.labels.is_empty() {
        text.push_str(&format!("  \n> {}", markdown(&entry.labels)));
    }
    for (key, value) in &entry.notes {
        text.push_str(&format!("  \n> {}: {}", markdown(key), markdown(value)));
    }
    cut(&text, MAX_BLOCK_CHARS) + "\n\n"
}

#[cfg(test)]
mod tests {
    //! The signature, the message, and its limits.
    use super::*;
    use crate::notify::tests::{hostile, many, notification};

    #[test]
    fn the_signature_is_that_of_the_document() {
        // By the program in the document: hmac.new(secret, f"{timestamp}\n{secret}", sha256), in base64.
        let expected = "TV8syPJNgu/c640foxN7/010JSId6ILuvoXiBvwMBME=";
        assert_eq!(sign(1_796_020_939_000, "SECthis is secret"), expected);
    }

    #[test]
    fn a_message_is_markdown_and_calls_people_while_something_fires() {
        let mobiles = ["13800000000".to_owned(), "13900000000".to_owned()];
        let sent = message(&notification(), &mobiles);
        assert_eq!(sent["msgtype"], "markdown");
        let text = sent["markdown"]["text"].as_str().unwrap();
        let begin =
            "### [FIRING:1] 2 alerts on web-1 (critical)\n\n@13800000000 @13900000000\n\n**CRITICAL** disk on web-1: ";
        assert!(text.starts_with(begin), "{text}");
        assert!(text.contains("> runbook: https://wiki.example.org/disk?a=1&b=2\n"), "{text}");
        assert_eq!(sent["at"], json!({ "atMobiles": mobiles, "isAtAll": false }));
        let mut over = notification();
        over.alerts.remove(0);
        let sent = message(&over, &mobiles);
        assert_eq!(sent["at"]["atMobiles"], json!([]));
        assert!(!sent["markdown"]["text"].as_str().unwrap().contains('@'));
    }

    #[test]
    fn what_a_host_says_is_never_read_as_markup() {
        let sent = message(&hostile(), &[]);
        let text = sent["markdown"]["text"].as_str().unwrap();
        assert!(!text.contains("](") && !text.contains('<') && !text.contains("\n#"), "{text}");
        assert_eq!(sent["at"]["isAtAll"], false);
    }

    #[test]
    fn the_limits_are_kept() {
        let sent = message(&many(500), &[]);
        assert!(sent.to_string().len() < 20_000, "{}", sent.to_string().len());
        let text = sent["markdown"]["text"].as_str().unwrap();
        let left: usize = text.rsplit_once("… and ").unwrap().1.strip_suffix(" more\n").unwrap().parse().unwrap();
        assert_eq!(text.matches("CRITICAL").count() + left, 500, "{text}");
        assert!(message(&hostile(), &[]).to_string().len() < 20_000);
    }
}
