//! Mistakes in the settings of notifiers: refused, with the key and without what is secret.

use std::{collections::BTreeMap, path::Path};

use drover_proto::{name::NotifierName, tls};
use serde::Deserialize;

use super::{Notifier, NotifierConfig, secret};

#[derive(Deserialize, Debug)]
struct Settings {
    notifiers: BTreeMap<NotifierName, NotifierConfig>,
}

fn refusal(text: &str) -> String {
    toml::from_str::<Settings>(text).unwrap_err().to_string()
}

#[test]
fn a_mistake_is_told_with_its_table_and_key() {
    let rows = [
        ("host = \"x\"", "`type` is missing"),
        ("type = \"pager\"", "`type` is \"pager\": it must be smtp, slack"),
        ("type = 7", "`type`"),
        ("type = \"slack\"", "`url_file`"),
        ("type = \"slack\"\nurl = \"https://S3CRET\"", "`url`"),
        ("type = \"slack\"\nurl_file = \"/x\"\ntimeout = \"1h\"", "`timeout` must be 1s to 1m"),
        ("type = \"slack\"\nurl_file = \"/x\"\ntimeout = 10", "`timeout`"),
        ("type = \"dingtalk\"\nurl_file = \"/x\"\nat_mobiles = [\"@all\"]", "`at_mobiles`"),
        ("type = \"smtp\"\nhost = \"x\"\nfrom = \"a@b\"\nto = []", "`to`"),
        ("type = \"smtp\"\nhost = \"x\"\nfrom = \"nobody\"\nto = [\"a@b\"]", "`from`: \"nobody\" is no address"),
        ("type = \"smtp\"\nhost = \"x\"\nfrom = \"a@b\"\nto = [\"a@b\\r\\nBcc: c@d\"]", "`to`"),
        ("type = \"smtp\"\nhost = \"x:25\\r\\n\"\nfrom = \"a@b\"\nto = [\"a@b\"]", "`host`"),
        ("type = \"smtp\"\nhost = \"x\"\nport = \"25\"\nfrom = \"a@b\"\nto = [\"a@b\"]", "`port`"),
        ("type = \"smtp\"\nhost = \"x\"\ntls = \"none\"\nfrom = \"a@b\"\nto = [\"a@b\"]", "`tls`: none sends"),
        ("type = \"smtp\"\nhost = \"x\"\nusername = \"u\"\nfrom = \"a@b\"\nto = [\"a@b\"]", "`password_file`"),
        ("type = \"webhook\"", "`url`: either url or url_file"),
        ("type = \"webhook\"\nurl = \"https://u:S3CRET@x\"", "`url`"),
        ("type = \"webhook\"\nurl = \"http://x/S3CRET\"\nbearer_token_file = \"/x\"", "`url`: begins with http"),
        (
            "type = \"webhook\"\nurl = \"https://x\"\nheaders = { Authorization = \"S3CRET\" }",
            "`headers`: Authorization",
        ),
        ("type = \"webhook\"\nurl = \"https://x\"\nheaders = { X-A = \"S3CRET\\r\\nb\" }", "`headers`: X-A"),
        ("type = \"webhook\"\nurl = \"https://x\"\nmethod = \"DELETE\"", "method"),
        ("type = \"webhook\"\nurl = \"https://x\"\ncontent_type = \"text/plain\"", "`content_type`"),
        ("type = \"alertmanager\"\nurl = \"https://x/?S3CRET\"", "`url`"),
        ("type = \"alertmanager\"\nurl = \"http://x\"\nusername = \"u\"\npassword_file = \"/x\"", "`url`"),
        ("type = \"alertmanager\"\nurl = \"https://x\"\nusername = \"u\"", "`password_file`"),
    ];
    for (text, expected) in rows {
        let said = refusal(&format!("\n\n[notifiers.ops]\n{text}\n"));
        assert!(said.contains(expected) && said.contains("line 3"), "{text}: {said}");
        // The excerpt of the file is the reader's own; what is said of it repeats no secret.
        let own: Vec<&str> = said.lines().filter(|line| !line.contains('|')).collect();
        assert!(!own.concat().contains("S3CRET"), "{text}: {said}");
    }
}

#[test]
fn the_examples_of_the_document_are_taken() {
    let documented = include_str!("../../../../docs/NOTIFIERS.md");
    let examples: Vec<&str> =
        documented.split("```toml").skip(1).map(|text| text.split("```").next().unwrap_or_default()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let taken = toml::from_str::<Settings>(example);
        assert!(taken.is_ok(), "{example}: {taken:?}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_refused_before_the_first_alert() {
    tls::install();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| secret(dir.path(), name, text);
    let refused = |text: &str| {
        let config: NotifierConfig = toml::from_str(text).unwrap();
        Notifier::new("ops".parse().unwrap(), &config).check().unwrap_err().to_string()
    };
    let gone = dir.path().join("gone").display().to_string();
    let (bad, insecure) = (file("bad", "not a url S3CRET"), file("insecure", "http://example.org/S3CRET"));
    let good = file("good", "https://example.org/S3CRET");
    let rows = [
        (format!("type = \"slack\"\nurl_file = \"{gone}\""), "`url_file`: "),
        (format!("type = \"wecom\"\nurl_file = \"{bad}\""), "is no URL"),
        (format!("type = \"feishu\"\nurl_file = \"{insecure}\""), "begins with http"),
        (format!("type = \"dingtalk\"\nurl_file = \"{good}\"\nsecret_file = \"{gone}\""), "`secret_file`: "),
        (format!("type = \"webhook\"\nurl_file = \"{good}\"\nca_file = \"{bad}\""), "`ca_file`: "),
        (format!("type = \"webhook\"\nurl_file = \"{good}\"\ntemplate = \"{{{{ nothing }}}}\""), "`template`: "),
    ];
    for (text, expected) in rows {
        let said = refused(&text);
        assert!(said.starts_with("notifier ops: `") && said.contains(expected), "{text}: {said}");
        assert!(!said.contains("S3CRET"), "{said}");
    }
}

#[test]
fn settings_say_where_they_lead_and_show_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let text = settings(dir.path());
    let all = toml::from_str::<Settings>(&text).unwrap().notifiers;
    let told: Vec<String> =
        all.values().map(|config| format!("{} {} {}", config.kind(), config.to(), config.is_resent())).collect();
    let expected = [
        "alertmanager am.example.org:9093 true",
        "dingtalk oapi.dingtalk.com false",
        "smtp Ops <ops@example.org>, dev@example.org by mail.example.org:587 false",
        "webhook example.org false",
    ];
    assert_eq!(told, expected);
    assert!(!format!("{all:?}").contains("S3CRET"), "{all:?}");
}

fn settings(dir: &Path) -> String {
    let url = secret(dir, "url", "https://oapi.dingtalk.com/robot/send?access_token=S3CRET");
    format!(
        "[notifiers.a]\ntype = \"alertmanager\"\nurl = \"http://am.example.org:9093/prefix\"\n\
         [notifiers.d]\ntype = \"dingtalk\"\nurl_file = \"{url}\"\n\
         [notifiers.m]\ntype = \"smtp\"\nhost = \"mail.example.org\"\nfrom = \"drover@example.org\"\n\
         to = [\"Ops <ops@example.org>\", \"dev@example.org\"]\n\
         [notifiers.w]\ntype = \"webhook\"\nurl = \"https://example.org/S3CRET?S3CRET\"\nheaders = {{ X-A = \"S3CRET\" }}\n"
    )
}
