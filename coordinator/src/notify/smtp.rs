//! Mail: the settings, and the letter. A kind of `target`; `mail` hands the letter over.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use drover_proto::digest::Digest;
use lettre::{
    Address, Message,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, TlsParameters},
    },
};
use serde::Deserialize;

use super::{
    Notification,
    files::{FieldError, SecretFile, at, is_this_machine, read_ca},
    mail::{Letter, Security},
    target::{Prepared, Receiver},
    words::{Entry, entries, fit, headline},
};

const MAX_RECIPIENTS: usize = 50;
/// Of the text, before it is encoded.
const MAX_TEXT_BYTES: usize = 200_000;

/// `type = "smtp"`
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Smtp {
    host: String,
    /// 587, 465 or 25 by `tls`.
    port: Option<u16>,
    #[serde(default)]
    tls: Encryption,
    username: Option<String>,
    password_file: Option<SecretFile>,
    from: String,
    to: Vec<String>,
    ca_file: Option<PathBuf>,
    /// `tls = "none"` is meant, though the server is another machine.
    #[serde(default)]
    plaintext: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encryption {
    #[default]
    StartTls,
    #[serde(rename = "tls")]
    Implicit,
    None,
}

impl Smtp {
    fn port(&self) -> u16 {
        let usual = match self.tls {
            Encryption::StartTls => 587,
            Encryption::Implicit => 465,
            Encryption::None => 25,
        };
        self.port.unwrap_or(usual)
    }

    fn security(&self) -> Result<Security, FieldError> {
        if self.tls == Encryption::None {
            return Ok(Security::Plain);
        }
        // TLS 1.2 or later: mail servers live long.
        let mut tls = TlsParameters::builder(self.host.clone());
        if let Some(path) = &self.ca_file {
            let pem = read_ca(path).map_err(at("ca_file"))?;
            let ca = Certificate::from_pem(&pem).map_err(|e| at("ca_file")(e.to_string()))?;
            tls = tls.add_root_certificate(ca);
        }
        let tls = tls.build_rustls().map_err(|e| at("tls")(e.to_string()))?;
        Ok(if self.tls == Encryption::Implicit { Security::Tls(tls) } else { Security::StartTls(tls) })
    }

    fn mailboxes(&self) -> Result<(Mailbox, Vec<Mailbox>), FieldError> {
        let from = mailbox(&self.from).map_err(at("from"))?;
        let to: Result<Vec<_>, _> = self.to.iter().map(|text| mailbox(text)).collect();
        Ok((from, to.map_err(at("to"))?))
    }
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    let parsed = text.parse::<Mailbox>().map_err(|e| format!("{text:?} is no address: {e}"))?;
    if parsed.email.to_string().is_ascii() { Ok(parsed) } else { Err(format!("{text:?} is not ASCII")) }
}

impl Receiver for Smtp {
    fn check(&self) -> Result<(), FieldError> {
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
        if self.host.is_empty() || !self.host.chars().all(is_host) {
            return Err(at("host")("must be the name or address of a mail server, without port"));
        }
        if self.username.is_some() != self.password_file.is_some() {
            return Err(at("password_file")("comes with username, and username with password_file"));
        }
        if self.tls == Encryption::None && !self.plaintext && !is_this_machine(&self.host) {
            let why = "none sends alerts, and the password, unencrypted: take starttls, or say plaintext = true";
            return Err(at("tls")(why));
        }
        if self.to.is_empty() || self.to.len() > MAX_RECIPIENTS {
            return Err(at("to")(format!("takes 1 to {MAX_RECIPIENTS} addresses")));
        }
        self.mailboxes().map(drop)
    }

    fn to(&self) -> String {
        format!("{} by {}:{}", self.to.join(", "), self.host, self.port())
    }

    fn prepare(&self, notification: &Notification, now_unix_ms: i64) -> Result<Prepared, FieldError> {
        let (from, to) = self.mailboxes()?;
        let password = self.password_file.as_ref().map(SecretFile::read).transpose().map_err(at("password_file"))?;
        let login = self.username.as_ref().zip(password);
        let only = &notification.only;
        let is_asked = |address: &Address| only.is_empty() || only.contains(&address.to_string());
        let letter = Letter {
            host: self.host.trim_matches(['[', ']']).to_owned(),
            port: self.port(),
            security: self.security()?,
            credentials: login.map(|(name, password)| Credentials::new(name.clone(), password.expose().clone())),
            from: from.email.clone(),
            to: to.iter().map(|mailbox| mailbox.email.clone()).filter(is_asked).collect(),
            bytes: message(notification, now_unix_ms, from, to)?.formatted(),
        };
        Ok(Prepared::Letter(Box::new(letter)))
    }
}

fn message(
    notification: &Notification,
    now_unix_ms: i64,
    from: Mailbox,
    to: Vec<Mailbox>,
) -> Result<Message, FieldError> {
    let since = Duration::from_millis(u64::try_from(now_unix_ms).unwrap_or_default());
    let domain = from.email.domain().to_owned();
    // Of one group they have one ancestor, which was never sent: mail programs show them as one conversation.
    let group: Vec<String> = notification.group.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    let thread = format!("<drover-group-{}@{domain}>", short(&group.join(",")));
    let id = format!("<drover-{}@{domain}>", short(&notification.id));
    let by_machine = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut letter = Message::builder()
        .from(from)
        .date(SystemTime::UNIX_EPOCH + since)
        .subject(headline(notification).to_string())
        .message_id(Some(id))
        .in_reply_to(thread.clone())
        .references(thread)
        .raw_header(HeaderValue::new(by_machine, "auto-generated".to_owned()))
        .header(ContentType::TEXT_PLAIN);
    for mailbox in to {
        letter = letter.to(mailbox);
    }
    letter.body(text(notification)).map_err(|e| at("to")(e.to_string()))
}

fn short(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string().chars().filter(char::is_ascii_hexdigit).rev().take(32).collect()
}

fn text(notification: &Notification) -> String {
    let blocks: Vec<String> = entries(notification).iter().map(|entry| Entry::text(entry) + "\n\n").collect();
    let top = format!("{}\n\n", headline(notification));
    fit(&top, &blocks, notification.more, MAX_TEXT_BYTES, str::len)
}

#[cfg(test)]
mod tests {
    //! The letter, byte by byte.
    use super::*;
    use crate::notify::tests::{hostile, many, notification};

    fn letter(notification: &Notification) -> String {
        let to = ["Ops <ops@example.org>", "dev@example.org"].map(|text| mailbox(text).unwrap()).into();
        let letter = message(notification, 1_796_020_939_000, mailbox("drover@example.org").unwrap(), to).unwrap();
        String::from_utf8(letter.formatted()).unwrap()
    }

    #[test]
    fn a_letter_has_its_headers_and_is_plain_text() {
        let sent = letter(&notification());
        let (head, body) = sent.split_once("\r\n\r\n").unwrap();
        for line in [
            "Subject: [FIRING:1] 2 alerts on web-1 (critical)",
            "From: drover@example.org",
            "To: Ops <ops@example.org>, dev@example.org",
            "Date: Mon, 30 Nov 2026 06:42:19 +0000",
            "Content-Type: text/plain; charset=utf-8",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(head.lines().any(|found| found == line), "{line}: {head}");
        }
        assert!(body.contains("CRITICAL disk on web-1: /var is 91.2% full\r\n"), "{body}");
    }

    #[test]
    fn letters_of_a_group_hang_together_and_one_sent_again_is_the_same() {
        let field = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        let first = letter(&notification());
        let again = letter(&notification());
        let mut other = notification();
        other.id = "another".to_owned();
        let later = letter(&other);
        assert_eq!(field(&first, "Message-ID: "), field(&again, "Message-ID: "));
        assert_ne!(field(&first, "Message-ID: "), field(&later, "Message-ID: "));
        assert_eq!(field(&first, "References: "), field(&later, "References: "));
        other.group.insert("host".to_owned(), "web-2".to_owned());
        assert_ne!(field(&first, "References: "), field(&letter(&other), "References: "));
    }

    #[test]
    fn a_host_writes_no_header() {
        let sent = letter(&hostile());
        let (head, _) = sent.split_once("\r\n\r\n").unwrap();
        let starts_with = |word: &str| sent.lines().any(|line| line.to_lowercase().starts_with(word));
        assert!(!starts_with("bcc:") && !starts_with("x-evil:"), "{sent}");
        assert_eq!(head.lines().filter(|line| line.starts_with("Subject:")).count(), 1);
        assert!(sent.is_ascii() && sent.lines().all(|line| line.len() <= 998));
        assert!(!sent.replace("\r\n", "").contains(['\r', '\n']), "bare line ends");
    }

    #[test]
    fn the_text_has_an_end() {
        assert!(text(&many(5000)).len() <= MAX_TEXT_BYTES);
        assert!(text(&many(5000)).ends_with(" more\n"));
    }
}
