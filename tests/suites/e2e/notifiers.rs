//! The coordinator's notifiers beside real servers, which Debian brings: mail to exim with STARTTLS and with TLS, by TLS 1.2,
//! and alerts to Prometheus' Alertmanager. They are called here as the coordinator calls them.

use std::{collections::BTreeMap, path::Path, time::Duration};

use drover_coordinator::notify::{
    Notification, Told,
    target::{Notifier, NotifierConfig, SendError},
};
use drover_proto::{alert::Severity, tls};
use drover_tests::lab::{Host, Lab, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const NOW: i64 = 1_796_020_939_000;

/// Takes mail for two people from who signs in, writes it into one file, and knows nothing newer than TLS 1.2.
const EXIM: &str = "\
primary_hostname = mail.example.org
domainlist local_domains = example.org
daemon_smtp_ports = 25 : 465 : 587
tls_on_connect_ports = 465
tls_advertise_hosts = *
tls_certificate = /etc/exim4/mail.crt
tls_privatekey = /etc/exim4/mail.key
tls_require_ciphers = NORMAL:-VERS-ALL:+VERS-TLS1.2
auth_advertise_hosts = ${if eq{$tls_in_cipher}{}{}{*}}
acl_smtp_rcpt = check_rcpt
acl_smtp_data = check_data
begin acl
check_rcpt:
  deny !authenticated = *
       message = sign in first
  accept local_parts = ops : dev
         domains = +local_domains
  deny message = nobody of that name
check_data:
  accept
begin routers
all:
  driver = accept
  transport = one_file
begin transports
one_file:
  driver = appendfile
  file = /var/mail/all
  user = mail
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{drover}}{eq{$auth3}{correct horse}}}}
  server_set_id = $auth2
";

fn certificate(host: &Host) {
    let script = format!(
        "set -e; cd /etc/exim4
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.crt
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=mail -keyout mail.key -out mail.csr
         echo subjectAltName=IP:{} > ext
         openssl x509 -req -in mail.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out mail.crt
         chown root:Debian-exim mail.key; chmod 640 mail.key",
        host.ip()
    );
    host.exec(&["sh", "-c", &script]).ok();
}

fn install(lab: &Lab, host: &Host, packages: &[&str]) {
    lab.internet();
    host.exec(&["apt-get", "update", "-qq"]).ok();
    let install =
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "-y", "--no-install-recommends"];
    host.exec(&[&install[..], packages].concat()).ok();
}

fn words(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn notification(id: &str, subject: &str) -> Notification {
    let labels = [("alert", "disk"), ("host", "web-1"), ("severity", "critical"), ("subject", subject)];
    let told = Told {
        labels: words(&labels),
        summary: format!("{subject} is 91.2% full"),
        annotations: words(&[("runbook", "https://wiki.example.org/disk")]),
        severity: Severity::Critical,
        started_unix_ms: NOW - 60_000,
        ended_unix_ms: None,
    };
    let group = words(&[("host", "web-1")]);
    Notification { id: id.to_owned(), group, alerts: vec![told], more: 0, reason: String::new(), only: vec![] }
}

fn notifier(settings: Value) -> Notifier {
    let config: NotifierConfig = serde_json::from_value(settings).unwrap();
    Notifier::new("ops".parse().unwrap(), &config)
}

fn send(settings: Value, notification: &Notification, now_unix_ms: i64) -> Result<String, SendError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(notifier(settings).send(notification, now_unix_ms)).map(|taken| taken.said)
}

fn secret(dir: &Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// With the password `password`, for these people.
fn mail(host: &Host, dir: &Path, password: &str, to: &[&str]) -> Value {
    let ca = dir.join("ca.crt");
    std::fs::write(&ca, host.read_file("/etc/exim4/ca.crt")).unwrap();
    json!({
        "type": "smtp", "host": host.ip().to_string(), "username": "drover", "password_file": secret(dir, "password", password),
        "from": "drover <drover@example.org>", "to": to, "ca_file": ca,
    })
}

#[test]
fn mail_reaches_a_real_server() {
    tls::install();
    let lab = Lab::start();
    let host = lab.host("mail");
    install(&lab, &host, &["exim4-daemon-light", "openssl"]);
    certificate(&host);
    host.write_file("/etc/exim4/exim4.conf", EXIM.as_bytes());
    host.exec(&["systemctl", "restart", "exim4"]).ok();
    eventually("exim listens", SOON, || {
        host.exec(&["sh", "-c", "ss -Hltn | grep -q :587 && ss -Hltn | grep -q :465"]).success()
    });
    let dir = tempfile::tempdir().unwrap();

    // One of the three is not there any more, and keeps no letter from the others.
    let to = ["Ops <ops@example.org>", "gone@example.org", "dev@example.org"];
    let settings = mail(&host, dir.path(), "correct horse", &to);
    let said = send(settings.clone(), &notification("first", "/var"), NOW).unwrap();
    assert!(said.starts_with("250 OK id=") && said.contains("; not for gone@example.org: "), "{said}");
    let mut by_tls = settings.clone();
    by_tls["tls"] = "tls".into();
    let evil = notification("second", "/\r\nBcc: all@example.org\r\n\r\n.\r\nQUIT\r\nää");
    send(by_tls, &evil, NOW).unwrap();
    let text = eventually("both letters are delivered to both", SOON, || {
        let text = host.exec(&["cat", "/var/mail/all"]).stdout;
        if text.matches("\nMessage-ID: <drover-").count() == 4 { Ok(text) } else { Err(text) }
    });
    assert!(text.contains("Subject: [FIRING:1] disk on web-1 (critical)\n"), "{text}");
    assert!(text.contains("CRITICAL disk on web-1: /var is 91.2% full\n"), "{text}");
    assert!(text.contains("\nReferences: <drover-group-"), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("Bcc:")), "{text}");
    let log = host.sh("cat /var/log/exim4/mainlog");
    assert!(log.contains("TLS1.2") && log.contains("A=plain:drover"), "{log}");

    let nobody = send(mail(&host, dir.path(), "correct horse", &["gone@example.org"]), &evil, NOW).unwrap_err();
    assert!(nobody.is_permanent && nobody.said.contains("nobody of that name"), "{nobody:?}");
    let refused = send(mail(&host, dir.path(), "wrong pony", &to), &evil, NOW).unwrap_err();
    assert!(!refused.is_permanent && refused.said.contains("535") && !refused.said.contains("pony"), "{refused:?}");
    // Nobody vouches for the server.
    let mut stranger = settings.clone();
    stranger["ca_file"] = Value::Null;
    stranger.as_object_mut().unwrap().remove("ca_file");
    let stranger = send(stranger, &evil, NOW).unwrap_err();
    assert!(!stranger.is_permanent && stranger.said.contains("certificate"), "{stranger:?}");
    // Port 25 offers no login without TLS, and none is tried.
    let mut open = settings;
    (open["tls"], open["plaintext"], open["port"]) = ("none".into(), true.into(), 25.into());
    assert!(send(open, &evil, NOW).is_err());
    host.exec(&["systemctl", "stop", "exim4"]).ok();
    let gone = send(mail(&host, dir.path(), "correct horse", &to), &evil, NOW).unwrap_err();
    assert!(!gone.is_permanent, "{gone:?}");
}

#[test]
fn alerts_reach_a_real_alertmanager() {
    tls::install();
    let lab = Lab::start();
    let host = lab.host("alerts");
    install(&lab, &host, &["prometheus-alertmanager", "curl"]);
    host.exec(&["systemctl", "restart", "prometheus-alertmanager"]).ok();
    let ask = || {
        let answer = host.exec(&["curl", "-fsS", "http://127.0.0.1:9093/api/v2/alerts"]).stdout;
        serde_json::from_str::<Vec<Value>>(&answer).map_err(|e| format!("{e}: {answer}"))
    };
    eventually("Alertmanager answers", SOON, ask);

    let now = || i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let settings = json!({ "type": "alertmanager", "url": format!("http://{}:9093/", host.ip()) });
    let mut fires = notification("first", "/var");
    let mut evil = fires.alerts[0].clone();
    evil.labels = words(&[("alert", "\"}]\r\n<b>"), ("host", "web-1\u{0}"), ("a.b/c-d", "x\ny"), ("empty", "")]);
    fires.alerts.push(evil);
    let began = now();
    fires.alerts.iter_mut().for_each(|told| told.started_unix_ms = began - 1000);
    assert_eq!(send(settings.clone(), &fires, began).unwrap(), "200 OK");
    let alerts = eventually("both are there", SOON, || {
        let alerts = ask()?;
        if alerts.len() == 2 { Ok(alerts) } else { Err(format!("{alerts:#?}")) }
    });
    let disk = alerts.iter().find(|alert| alert["labels"]["alertname"] == "disk").unwrap();
    assert_eq!(disk["labels"]["instance"], "web-1");
    assert_eq!(disk["annotations"]["summary"], "/var is 91.2% full");
    assert_eq!(disk["status"]["state"], "active");

    fires.alerts.iter_mut().for_each(|told| told.ended_unix_ms = Some(now()));
    assert_eq!(send(settings.clone(), &fires, now()).unwrap(), "200 OK");
    eventually("both are over", SOON, || {
        let alerts = ask()?;
        if alerts.is_empty() { Ok(()) } else { Err(format!("{alerts:#?}")) }
    });
    // What it does not take is told in its own words.
    fires.alerts.truncate(1);
    fires.alerts[0].labels.clear();
    let error = send(settings, &fires, now()).unwrap_err();
    assert!(error.is_permanent && error.said.starts_with("400 Bad Request: "), "{error:?}");
}
