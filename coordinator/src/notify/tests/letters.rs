//! Mail servers that misbehave; real ones are the lab's.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, tcp::OwnedWriteHalf},
};

use super::{NOW, hostile, notification, notifier, secret};
use crate::notify::{
    Notification,
    target::{SendError, Taken},
};

const HELLO: &str = "250-mail\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n";

/// Answers each line by `answer`, and `None` with an endless one; returns its port and what it was told.
async fn server(answer: fn(&str) -> Option<&'static str>) -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = Arc::new(Mutex::new(String::new()));
    let all = told.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        write.write_all(b"220 mail\r\n").await.unwrap();
        let mut is_data = false;
        loop {
            let mut line = String::new();
            if read.read_line(&mut line).await.unwrap_or_default() == 0 {
                return;
            }
            all.lock().unwrap().push_str(&line);
            if is_data && line != ".\r\n" {
                continue;
            }
            is_data = line == "DATA\r\n";
            match answer(&line) {
                Some(answer) => write.write_all(answer.as_bytes()).await.unwrap(),
                None => return endless(write).await,
            }
        }
    });
    (port, told)
}

async fn endless(mut write: OwnedWriteHalf) {
    while write.write_all(&[b'x'; 4096]).await.is_ok() {}
}

async fn send(port: u16, keys: &str, notification: &Notification) -> Result<Taken, SendError> {
    let settings = format!(
        "type = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\nfrom = \"drover@example.org\"\ntimeout = \"1s\"\n\
         to = [\"ops@example.org\", \"gone@example.org\"]\n{keys}"
    );
    notifier(&settings).send(notification, NOW).await
}

fn usual(line: &str) -> Option<&'static str> {
    Some(match line {
        "DATA\r\n" => "354 go\r\n",
        "RCPT TO:<gone@example.org>\r\n" => "550-5.1.1 nobody\r\n550 5.1.1 of that name\r\n",
        line if line.starts_with("EHLO") => HELLO,
        line if line.starts_with("AUTH PLAIN ") => "235 ok\r\n",
        ".\r\n" => "250 taken\r\n",
        _ => "250 ok\r\n",
    })
}

#[tokio::test]
async fn who_is_refused_keeps_no_letter_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let password = secret(dir.path(), "password", "correct horse");
    let keys = format!("tls = \"none\"\nusername = \"drover\"\npassword_file = \"{password}\"");
    let (port, told) = server(usual).await;
    let taken = send(port, &keys, &hostile()).await.unwrap();
    let said = taken.said;
    let refused = taken.refused.unwrap();
    assert!(
        refused.starts_with("not for gone@example.org: permanent error (550): ") && taken.left.is_empty(),
        "{refused}"
    );
    assert!(said.starts_with("250 taken; not for gone@example.org: permanent error (550): "), "{said}");
    assert!(said.contains("nobody"), "{said}");
    let told = told.lock().unwrap().clone();
    assert!(told.contains("AUTH PLAIN AGRyb3ZlcgBjb3JyZWN0IGhvcnNl\r\n"), "{told}");
    assert!(told.ends_with("\r\n.\r\nQUIT\r\n") && told.matches("\r\n.\r\n").count() == 1, "{told}");
    assert_eq!(told.matches("RCPT TO:").count(), 2);
}

#[tokio::test]
async fn who_is_refused_for_now_is_asked_again_alone() {
    let later = |line: &str| if line.starts_with("RCPT TO:<gone") { Some("450 later\r\n") } else { usual(line) };
    let (port, _) = server(later).await;
    let taken = send(port, "tls = \"none\"", &notification()).await.unwrap();
    assert_eq!((taken.refused, taken.left.as_slice()), (None, &["gone@example.org".to_owned()][..]));
    let (port, told) = server(|line| if line.starts_with("RCPT") { Some("250 ok\r\n") } else { usual(line) }).await;
    let again = Notification { only: taken.left, ..notification() };
    assert!(send(port, "tls = \"none\"", &again).await.unwrap().is_whole());
    let told = told.lock().unwrap().clone();
    assert_eq!((told.matches("RCPT TO:").count(), told.matches("RCPT TO:<gone@").count()), (1, 1), "{told}");
    assert!(told.contains("To: ops@example.org, gone@example.org\r\n"), "the letter is the same: {told}");
    let gone = Notification { only: vec!["was@example.org".to_owned()], ..notification() };
    assert!(send(9, "tls = \"none\"", &gone).await.unwrap().is_whole(), "who is not in the settings any more");
}

#[tokio::test]
async fn answers_of_mail_servers_are_judged() {
    let (port, _) = server(|line| if line.starts_with("MAIL") { Some("451 later\r\n") } else { usual(line) }).await;
    let error = send(port, "tls = \"none\"", &notification()).await.unwrap_err();
    assert!(!error.is_permanent && error.said.contains("451"), "{error:?}");
    let (port, _) = server(|line| if line.starts_with("RCPT") { Some("550 no\r\n") } else { usual(line) }).await;
    let error = send(port, "tls = \"none\"", &notification()).await.unwrap_err();
    assert!(error.is_permanent && error.said.starts_with("nobody gets it; not for ops@example.org: "), "{error:?}");
    let (port, _) = server(|line| if line == ".\r\n" { Some("554 spam\r\n") } else { usual(line) }).await;
    let error = send(port, "tls = \"none\"", &notification()).await.unwrap_err();
    assert!(error.is_permanent && error.said.contains("spam"), "{error:?}");
}

#[tokio::test]
async fn a_line_without_end_is_not_kept() {
    let (port, _) = server(|line| if line.starts_with("MAIL") { None } else { usual(line) }).await;
    let error = send(port, "tls = \"none\"", &notification()).await.unwrap_err();
    assert!(!error.is_permanent && error.said.contains("more than can be meant"), "{error:?}");
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_does_not_encrypt() {
    let (port, told) = server(usual).await;
    let error = send(port, "", &notification()).await.unwrap_err();
    assert!(error.said.contains("STARTTLS"), "{error:?}");
    assert!(!told.lock().unwrap().contains("MAIL FROM"));

    // Somebody in between answers ahead, unencrypted, what the server is to be believed to have said.
    let ahead = |line: &str| match line {
        "STARTTLS\r\n" => Some("220 go\r\n250 mail\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"),
        line if line.starts_with("EHLO") => Some("250-mail\r\n250 STARTTLS\r\n"),
        line => usual(line),
    };
    let (port, _) = server(ahead).await;
    let error = send(port, "", &notification()).await.unwrap_err();
    assert!(error.said.contains("came unencrypted"), "{error:?}");
}

#[tokio::test]
async fn a_mail_server_that_hangs_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap()
    });
    let error = send(port, "tls = \"none\"", &notification()).await.unwrap_err();
    assert!(!error.is_permanent && error.said == "no answer within 1s", "{error:?}");
    // The connection is closed, and nothing was said.
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), silent).await.unwrap().unwrap(), 0);
}
