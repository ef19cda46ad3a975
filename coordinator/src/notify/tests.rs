//! All kinds against web and mail servers that misbehave: what is sent, what of the answer counts, and what never shows.
//! `receiver` is such a web server, `letters` has the mail, `settings` tries mistakes in the settings. The notifications here are those of every test.

mod letters;
mod receiver;
mod settings;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use drover_proto::{alert::Severity, tls};

use super::{
    Notification, Told,
    target::{Notifier, NotifierConfig, SendError},
};
use receiver::{Answer, Receiver};

const NOW: i64 = 1_796_020_939_123;

fn words(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// One that fires, one that is over.
pub(super) fn notification() -> Notification {
    let disk = [("alert", "disk"), ("host", "web-1"), ("severity", "critical"), ("app", "shop"), ("subject", "/var")];
    let load = [("alert", "load"), ("host", "web-1"), ("severity", "warning"), ("app", "")];
    let firing = Told {
        labels: words(&disk),
        summary: "/var is 91.2% full".to_owned(),
        annotations: words(&[("runbook", "https://wiki.example.org/disk?a=1&b=2")]),
        severity: Severity::Critical,
        started_unix_ms: NOW,
        ended_unix_ms: None,
    };
    let over = Told {
        labels: words(&load),
        summary: "the load was 9".to_owned(),
        annotations: BTreeMap::new(),
        severity: Severity::Warning,
        started_unix_ms: NOW - 600_000,
        ended_unix_ms: Some(NOW),
    };
    let group = words(&[("host", "web-1")]);
    Notification {
        id: "n-1".to_owned(),
        group,
        alerts: vec![firing, over],
        more: 0,
        reason: String::new(),
        only: vec![],
    }
}

/// Everything that a host can say to do harm.
pub(super) fn hostile() -> Notification {
    let evil = "\"}],\r\nBcc: all@example.org\r\nX-Evil: 1\r\n\r\n# <at id=all></at><!everyone> @everyone <@all> \
        [click](http://evil.example.org) ![x](http://evil) **b** `c` | \u{202e}\u{0} {{ 7*7 }} ${x} &lt; ";
    let long = format!("{evil}{}", "\u{1f525}<".repeat(20_000));
    let mut notification = notification();
    notification.id = format!("{evil}>");
    notification.group = words(&[("host", evil), ("a.b/c", evil)]);
    notification.reason = evil.to_owned();
    for told in &mut notification.alerts {
        told.labels = words(&[("alert", evil), ("host", evil), ("subject", &long), ("a.b/c-d", evil)]);
        told.summary = long.clone();
        told.annotations = words(&[("runbook", &long), ("a.b", evil)]);
    }
    notification
}

/// So many that fire.
pub(super) fn many(count: usize) -> Notification {
    let mut notification = notification();
    notification.alerts.truncate(1);
    let first = notification.alerts.remove(0);
    for number in 0..count {
        let mut told = first.clone();
        told.labels.insert("host".to_owned(), format!("web-{number}"));
        notification.alerts.push(told);
    }
    notification
}

/// Writes a secret and says where.
pub(super) fn secret(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

pub(super) fn notifier(text: &str) -> Notifier {
    tls::install();
    let config: NotifierConfig = toml::from_str(text).unwrap();
    Notifier::new("ops".parse().unwrap(), &config)
}

/// A notifier of each kind that speaks HTTP, led to `receiver`; the URL of each has `S3CRET-PATH` in it.
fn all(dir: &Path, receiver: &Receiver) -> Vec<Notifier> {
    let url = secret(dir, "url", &format!("{}/hook/S3CRET-PATH?access_token=S3CRET-QUERY", receiver.url()));
    let key = secret(dir, "key", "SECthis is secret");
    let chats = ["slack", "dingtalk", "feishu", "wecom", "webhook"];
    let mut texts: Vec<String> =
        chats.iter().map(|kind| format!("type = \"{kind}\"\nurl_file = \"{url}\"\ntimeout = \"1s\"")).collect();
    texts[1].push_str(&format!("\nsecret_file = \"{key}\"\nat_mobiles = [\"13800000000\"]"));
    texts[2].push_str(&format!("\nsecret_file = \"{key}\""));
    let base = receiver.url();
    texts.push(format!(
        "type = \"alertmanager\"\nurl = \"{base}\"\ntimeout = \"1s\"\nusername = \"drover\"\npassword_file = \"{key}\""
    ));
    texts.iter().map(|text| notifier(text)).collect()
}

async fn send(notifier: &Notifier) -> Result<String, SendError> {
    let began = Instant::now();
    let answer = notifier.send(&notification(), NOW).await.map(|taken| taken.said);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let said = match &answer {
        Ok(said) => said,
        Err(error) => &error.said,
    };
    assert!(said.chars().count() <= 300 && said.lines().count() == 1, "{said:?}");
    // In the URL of the others it is none of theirs.
    let has_secret_url = notifier.config().kind() != "alertmanager";
    assert!(!has_secret_url || !format!("{answer:?} {notifier:?}").contains("S3CRET"), "{answer:?} {notifier:?}");
    answer
}

#[tokio::test]
async fn each_kind_sends_what_its_receiver_takes() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Answer::AsChatsDo).await;
    for notifier in all(dir.path(), &receiver) {
        // The receiver looks at signatures as the documents say, and answers as the chat program does.
        let said = send(&notifier).await.unwrap_or_else(|e| panic!("{}: {e}", notifier.config().kind()));
        assert!(said.starts_with("200 OK"), "{said}");
        assert!(notifier.config().to().starts_with("127.0.0.1:"), "{}", notifier.config().to());
    }
    let seen = receiver.seen();
    assert_eq!(seen.len(), 6);
    assert_eq!(seen[5].path, "/api/v2/alerts");
    assert_eq!(seen[5].authorization, "Basic ZHJvdmVyOlNFQ3RoaXMgaXMgc2VjcmV0");
    assert!(seen.iter().all(|request| request.body.contains("web-1")));
}

#[tokio::test]
async fn a_wrong_secret_is_refused_by_who_checks_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Answer::AsChatsDo).await;
    let notifiers = all(dir.path(), &receiver);
    // It counts from the next notification on.
    secret(dir.path(), "key", "another");
    for notifier in &notifiers[1..3] {
        let error = send(notifier).await.unwrap_err();
        assert!(error.is_permanent && error.said.contains("sign"), "{error:?}");
    }
    secret(dir.path(), "key", "SECthis is secret");
    assert!(send(&notifiers[1]).await.is_ok());
}

#[tokio::test]
async fn answers_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    let too_many = Answer::Status(429, &[("retry-after", "7")], "slow down");
    let rows: [(Answer, bool, Option<u64>, &str); 8] = [
        (Answer::Status(500, &[], "oops /hook/S3CRET-PATH S3CRET-QUERY"), false, None, "500 Internal Server Error"),
        (Answer::Status(404, &[], "no S3CRET-PATH"), true, None, "404 Not Found"),
        (Answer::Status(401, &[], "who are you"), false, None, "401 Unauthorized"),
        (Answer::Status(408, &[], ""), false, None, "408"),
        (too_many, false, Some(7), "429 Too Many Requests: slow down"),
        (Answer::Status(302, &[("location", "http://169.254.169.254/S3CRET")], ""), true, None, "redirects"),
        (Answer::Hangs, false, None, "no answer within 1s"),
        (Answer::HangsUp, false, None, ""),
    ];
    for (answer, is_permanent, seconds, expected) in rows {
        let receiver = Receiver::start(answer).await;
        for notifier in all(dir.path(), &receiver) {
            let error = send(&notifier).await.unwrap_err();
            let told = (error.is_permanent, error.retry_after.map(|after| after.as_secs()));
            assert_eq!(told, (is_permanent, seconds), "{}: {error:?}", notifier.config().kind());
            assert!(error.said.contains(expected), "{error:?}");
        }
        assert!(receiver.seen().len() <= 6, "asked once, and nobody else");
    }
}

#[tokio::test]
async fn two_hundred_is_not_yet_taken_by_a_chat_program() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        (r#"{"errcode":310000,"errmsg":"sign not match","code":19021,"msg":"sign match fail"}"#, true, false),
        (r#"{"errcode":-1,"code":11232}"#, false, true),
        ("<html>a proxy's page</html>", false, false),
    ];
    for (answer, is_permanent, is_told_when) in rows {
        let receiver = Receiver::start(Answer::Status(200, &[], answer)).await;
        let notifiers = all(dir.path(), &receiver);
        for notifier in &notifiers[1..4] {
            let error = send(notifier).await.unwrap_err();
            let told = (error.is_permanent, error.retry_after.is_some());
            assert_eq!(told, (is_permanent, is_told_when), "{}: {error:?}", notifier.config().kind());
        }
        assert!(send(&notifiers[0]).await.is_err(), "Slack says ok");
        assert!(send(&notifiers[4]).await.is_ok() && send(&notifiers[5]).await.is_ok());
    }
}

#[tokio::test]
async fn an_answer_without_end_is_read_to_64_kib() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Answer::NeverEnds).await;
    for notifier in all(dir.path(), &receiver) {
        let takes_any = matches!(notifier.config().kind(), "webhook" | "alertmanager");
        let answer = send(&notifier).await;
        assert_eq!(answer.is_ok(), takes_any, "{}: {answer:?}", notifier.config().kind());
    }
    assert!(receiver.given() < 64 * 1024 * 1024, "{} bytes", receiver.given());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_judged_by_its_status_where_that_says_all() {
    let dir = tempfile::tempdir().unwrap();
    for answer in [Answer::BreaksOff, Answer::Stalls] {
        let receiver = Receiver::start(answer).await;
        for notifier in all(dir.path(), &receiver) {
            let is_taken = matches!(notifier.config().kind(), "webhook" | "alertmanager" | "slack");
            let answer = send(&notifier).await;
            assert_eq!(answer.is_ok(), is_taken, "{}: {answer:?}", notifier.config().kind());
            // Whether a chat program has it nobody knows.
            assert!(answer.err().is_none_or(|error| !error.is_permanent));
        }
    }
}

#[tokio::test]
async fn nobody_there_is_not_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Answer::AsChatsDo).await;
    let notifiers = all(dir.path(), &receiver);
    drop(receiver);
    for notifier in &notifiers {
        let error = send(notifier).await.unwrap_err();
        assert!(!error.is_permanent, "{error:?}");
    }
}
