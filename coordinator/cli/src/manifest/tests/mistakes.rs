//! Every mistake is told at once, at its line, with a hint.

use super::*;

#[test]
fn ten_different_mistakes_are_all_reported_at_their_lines() {
    let (said, hints) = faults(
        "version: 1
app: mono
targts: { labels: { role: web } }
strategy: { canary: 1, min_healthy_time: 10, on_failure: rolback }
artifact: { path: ../outside }
env:
  values: { PORT: [5000] }
  secrets: { KEY: { generate: 32, secret: x } }
units:
  mono.service:
    exce: /usr/bin/mono
    exec: \"{{ relase }}/run\"
files:
  - { path: etc/x, from: missing.conf }
  - { path: /etc/y, content: \"{{ secret.KEY }}\", mode: \"0644\" }
checks:
  api: { http: \"http://127.0.0.1/\", tcp: \"127.0.0.1:1\" }
logs: {}
",
    );
    let expected = [
        "1: targets: targets is missing",
        "3: targts: \"targts\" is no field of manifest",
        "4: strategy.canary: canary is not built yet",
        "4: strategy.min_healthy_time: \"10\" is no length of time",
        "4: strategy.on_failure: \"rolback\" is not one of its values",
        "5: artifact.path: ../outside leads out of the manifest's folder",
        "7: env.values.PORT: should be text (line), and is a list",
        "8: env.secrets.KEY: needs either generate or secret",
        "11: units.mono.service.exce: \"exce\" is no field of unit",
        "12: units.mono.service.exec: {{ relase }} is neither a variable nor anything drover knows",
        "14: files[0].path: absolute path \"etc/x\": begin it with '/'",
        "14: files[0].from: there is no missing.conf",
        "15: files[1].mode: a file with secrets has mode 0600 (or less)",
        "17: checks.api: has http and tcp",
        "18: logs: logs is not built yet",
    ];
    assert_eq!(said, expected);
    for hint in ["did you mean targets?", "did you mean exec?", "did you mean {{ release }}?", "did you mean rollback?"]
    {
        assert!(hints.iter().any(|h| h == hint), "{hint}: {hints:?}");
    }
}

#[test]
fn a_diagnostic_shows_its_line_and_reads_as_json() {
    let dir = folder(&minimal("units:\n  mono.service:\n    exec: \"{{ relase }}/run\"\n"));
    let all = load(dir.path(), None).unwrap_err();
    let text = all[0].to_string();
    assert!(text.contains("drover.yaml:6:12: units.mono.service.exec: {{ relase }}"), "{text}");
    assert!(text.contains(" 6 |     exec: \"{{ relase }}/run\"\n   |            ^"), "{text}");
    let json = serde_json::to_value(&all[0]).unwrap();
    assert_eq!((json["line"].as_u64(), json["column"].as_u64()), (Some(6), Some(12)));
}

#[test]
fn a_hole_in_another_file_is_reported_there() {
    let dir = folder(&minimal("vars: { domain: a.test, port: \"1\" }\nfiles: [{ path: /etc/s, from: site.conf }]\n"));
    let all = load(dir.path(), None).unwrap_err();
    assert!(all[0].file.ends_with("site.conf"), "{all:?}");
    assert_eq!((all[0].line, all[0].column, all[0].field.as_str()), (2, 8, "files[0].from"));
    assert_eq!(all[0].hint.as_deref(), Some("did you mean {{ port }}?"));
}

#[test]
fn rules_across_fields_are_put_at_the_field() {
    let (said, _) = faults(&minimal(
        "strategy: { min_healthy_time: 10m, healthy_deadline: 5m }
files:
  - { path: relative, content: a }
  - { path: /proc/x, content: a }
hooks: { after_switch: [{ run: [x], user: a, env: [NOPE] }] }
env: { values: { B: \"{{ secret.NONE }}\" } }
host: { directories: [{ path: /etc/drover/x }] }
",
    ));
    let fields: Vec<String> = said.iter().map(|s| s.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "4 strategy.min_healthy_time",
        "6 files[0].path",
        "7 files[1].path",
        "8 hooks.after_switch[0].env",
        "9 env.values.B",
        "10 host.directories[0].path",
    ];
    assert_eq!(fields, expected, "{said:#?}");
}

#[test]
fn words_that_look_like_other_types_are_text_where_text_is_wanted() {
    let spec = loaded(&minimal(
        "env: { values: { PORT: 5000, VERSION: 1.10, DEBUG: no, ON: true } }\n\
         units: { a.service: { exec: /bin/x, restart: no } }\n\
         files: [{ path: /etc/x, content: a, mode: 0640 }]\n",
    ))
    .spec;
    let values: Vec<String> = spec.env.values().map(shown).collect();
    assert_eq!(values, ["no", "true", "5000", "1.10"]);
    assert_eq!(spec.files[0].mode, 0o640);
    let (said, _) = faults(&minimal("files: [{ path: /etc/x, content: a, adopt: yes }]\nenv: { values: { A: } }\n"));
    assert_eq!(said.len(), 2, "{said:?}");
}

#[test]
fn variables_use_one_another_but_not_in_a_circle() {
    let spec = loaded(&minimal(
        "vars: { a: \"{{ b }}.x\", b: \"{{ app }}\", lit: '{{ \"{{\" }}{{ \"}}\" }}' }\n\
         files: [{ path: /etc/x, content: \"{{ a }} {{lit}} {{ host.name }} {{ host.label.zone }}\" }]\n",
    ))
    .spec;
    let Content::Text(text) = &spec.files[0].content else { panic!("not text") };
    assert_eq!(shown(text), "mono.x {{}} <HostName> <HostLabel(\"zone\")>");
    let (said, _) = faults(&minimal(
        "vars: { a: \"{{ b }}\", b: \"{{ a }}\", app: x }\nfiles: [{ path: /x, content: \"{{ a\" }]\n",
    ));
    assert!(said.iter().any(|s| s.contains("in a circle")), "{said:?}");
    assert!(said.iter().any(|s| s.contains("without its }}")), "{said:?}");
    assert!(said.iter().any(|s| s.contains("a word of drover's own")), "{said:?}");
}

#[test]
fn an_artifact_at_a_url_needs_its_digest_and_says_who_may_have_it() {
    let sha = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let with = |artifact: &str| minimal(&format!("artifact: {{ {artifact} }}\n"));
    let spec = loaded(&with(&format!(
        "url: \"https://example.org/{{{{ app }}}}.tar\", sha256: {sha}, credentials: {{ username: me, secret: token }}"
    )))
    .spec;
    let artifact = spec.artifact.unwrap();
    assert_eq!(
        (artifact.digest.hex(), artifact.source.to_string()),
        (sha.into(), "https://example.org/mono.tar".into())
    );
    assert_eq!(spec.secrets.keys().map(ToString::to_string).collect::<Vec<_>>(), ["token"]);
    for (artifact, expected) in [
        ("url: https://example.org/a.tar".to_owned(), "needs the archive's digest"),
        ("url: https://example.org/a.tar, sha256: abc".to_owned(), "\"abc\" is no SHA-256"),
        (format!("url: http://example.org/a.tar, sha256: {sha}"), "begin the URL with https://"),
        (format!("url: https://me:pw@example.org/a.tar, sha256: {sha}"), "under credentials"),
        (format!("url: https://example.org/a.tar, sha256: {sha}, exclude: [b]"), "is for a folder"),
        (format!("url: https://example.org/a.tar, sha256: {sha}, path: ./x"), "needs one of path, url and git"),
        ("build: { user: nobody, run: [[make]] }".to_owned(), "needs one of path, url and git"),
    ] {
        let (said, _) = faults(&with(&artifact));
        assert!(said.iter().any(|s| s.contains(expected)), "{artifact}: {said:?}");
    }
}

#[test]
fn an_artifact_in_a_repository_is_named_by_its_whole_commit() {
    let commit = "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12";
    let with = |artifact: &str| minimal(&format!("artifact: {{ {artifact} }}\n"));
    let git = "git: https://example.org/mono.git";
    let loaded = loaded(&with(&format!("{git}, commit: {commit}, path: ./app/, credentials: {{ secret: token }}")));
    assert!(loaded.artifact.is_none(), "nothing is packed here");
    let artifact = loaded.spec.artifact.unwrap();
    assert_eq!(artifact.source.to_string(), "https://example.org/mono.git at 2fd4e1c67a2d, folder app");
    assert_eq!(loaded.spec.secrets.keys().map(ToString::to_string).collect::<Vec<_>>(), ["token"]);
    let whole = super::loaded(&with(&format!("{git}, commit: {commit}"))).spec.artifact.unwrap();
    assert_ne!(whole.digest, artifact.digest, "another folder is another artifact");
    for (artifact, expected) in [
        (git.to_owned(), "4: artifact.git: needs a commit"),
        (format!("{git}, commit: main"), "4: artifact.commit: \"main\" is no full name of a commit"),
        (format!("{git}, commit: 2fd4e1c"), "\"2fd4e1c\" is no full name"),
        (format!("git: \"git@example.org:mono.git\", commit: {commit}"), "4: artifact.git: git over ssh is not taken"),
        (format!("git: http://example.org/mono.git, commit: {commit}"), "begin the URL with https://"),
        (format!("git: https://a:b@example.org/mono.git, commit: {commit}"), "under credentials"),
        (format!("{git}, commit: {commit}, path: ../x"), "4: artifact.path: with git, a folder of the repository"),
        (format!("{git}, commit: {commit}, exclude: [x]"), "is for a folder"),
        (format!("{git}, commit: {commit}, url: https://example.org/a.tar"), "needs one of path, url and git"),
        (format!("{git}, commit: {commit}, sha256: {commit}"), "4: artifact.sha256: goes with url"),
        (format!("path: app, commit: {commit}"), "4: artifact.commit: goes with git"),
    ] {
        let (said, hints) = faults(&with(&artifact));
        assert!(said.iter().any(|s| s.contains(expected)), "{artifact}: {said:?}");
        if expected.contains("commit") && !expected.contains("goes with") {
            assert!(hints.iter().any(|hint| hint.contains("git rev-parse HEAD")), "{artifact}: {hints:?}");
        }
    }
}
