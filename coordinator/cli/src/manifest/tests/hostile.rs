//! What must never get through: smuggled lines, unsafe paths, YAML bombs.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn a_line_smuggled_into_a_unit_is_refused_with_its_line() {
    let (said, hints) = faults(&minimal(
        "vars: { evil: \"x\\nExecStartPre=/bin/evil\" }
units:
  a.service:
    description: \"x\\nExecStartPre=/bin/evil\"
    exec: /bin/a {{ evil }}
    exec_reload: \"/bin/b\\r/bin/evil\"
    exec_start_pre: \"/bin/a \\\\\"
    environment: { A: \"1\\nB=2\" }
    options: { Service: { Nice: \"1\\nUser=root\", \"K=ey\": a }, \"S]\": {} }
  b.service:
    exec: [/bin/a, \"x\\ny\", \"\\0\"]
  \"c\\nd.service\": { exec: /bin/x }
",
    ));
    let at: Vec<&str> = said.iter().map(|s| s.split(": ").next().unwrap()).collect();
    assert_eq!(at, ["7", "8", "9", "10", "11", "12", "12", "12", "14", "14", "15"], "{said:#?}");
    assert!(hints.iter().any(|h| h.contains("one line on the host")));
}

#[test]
fn a_backslash_at_the_end_joins_lines_of_units_only() {
    let env = minimal("env: { values: { SHARE: 'C:\\data\\' } }\nartifact: { path: app }\n");
    assert_eq!(shown(&loaded(&env).spec.env[&"SHARE".parse().unwrap()]), "C:\\data\\");
    let unit = minimal("units: { a.service: { exec: /bin/a, description: 'a\\' } }\n");
    assert!(faults(&unit).0.iter().any(|fault| fault.contains("ends in a backslash")), "{:?}", faults(&unit));
}

#[test]
fn text_folded_over_lines_is_one_line() {
    let spec = loaded(&minimal("units:\n  a.service:\n    exec: >\n      /bin/a --one\n      --two\n")).spec;
    let text = shown(&spec.units[&"a.service".parse().unwrap()].text);
    assert!(text.contains("\nExecStart=/bin/a --one --two\n\n[Install]"), "{text}");
}

#[test]
fn paths_out_of_the_folder_are_refused() {
    let dir = folder(&minimal(
        "artifact: { path: link }\nfiles:\n  - { path: /a, from: /etc/passwd }\n  - { path: /b, from: app/../../x }\n  \
         - { path: /c, from: hosts }\n  - { path: /d, from: app }\n  - { path: /../e, content: a }\n",
    ));
    symlink("/etc", dir.path().join("link")).unwrap();
    symlink("/etc/hosts", dir.path().join("hosts")).unwrap();
    let said: Vec<String> = load(dir.path(), None).unwrap_err().into_iter().map(|d| d.message).collect();
    assert_eq!(said.len(), 6, "{said:#?}");
    assert!(said[0].contains("by a symbolic link") && said[3].contains("by a symbolic link"), "{said:#?}");
}

#[test]
fn links_out_of_an_artifact_are_told_with_all_else() {
    let dir = folder(&minimal("artifact: { path: app }\nlogs: 1\n"));
    symlink("/etc/passwd", dir.path().join("app/x")).unwrap();
    let said: Vec<String> = load(dir.path(), None).unwrap_err().into_iter().map(|d| d.message).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("x is a link out of the artifact"));
}

#[test]
fn yaml_is_taken_in_its_plain_form_only() {
    let bomb = (1..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, i| {
        let items = vec![format!("*a{}", i - 1); 10].join(", ");
        format!("{text}a{i}: &a{i} [{items}]\n")
    });
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    for (text, wanted) in [
        ("", "is empty"),
        ("a: [", "not YAML"),
        ("- 1", "should be a map"),
        ("a: 1\na: 2", "a second time"),
        ("a: 1\n---\nb: 2", "second document"),
        ("a: !include x", "tags"),
        ("a: &x {b: 1}\nc: {<<: *x}", "merge keys"),
        ("a: *nowhere", "not YAML"),
        (&bomb, "more than 50000 values"),
        (&deep, "levels within each other"),
        ("{a: {{ b }}}", "a key is plain text"),
    ] {
        let (said, _) = faults(text);
        assert!(said.iter().any(|s| s.contains(wanted)), "{wanted}: {said:?}");
    }
}

#[test]
fn variables_that_multiply_are_stopped() {
    let more = || (1..30).map(|i| format!("  v{i}: \"{}\"\n", format!("{{{{ v{} }}}}", i - 1).repeat(10)));
    let vars = |first: &str| format!("vars:\n  v0: {first}\n{}", more().collect::<String>());
    for first in ["xxxxxxxxxx", "\"{{ host.name }}\""] {
        let (said, _) =
            faults(&minimal(&format!("{}files: [{{ path: /x, content: \"{{{{ v29 }}}}\" }}]\n", vars(first))));
        assert!(said.iter().any(|s| s.contains("more than 64 KiB or 1000 holes")), "{said:?}");
    }
}

#[test]
fn files_from_other_systems_read_the_same() {
    let text = minimal("env: { values: { A: \"1\" } }\nfiles:\n  - path: /etc/x\n    content: |\n      a\n      b\n");
    let dir = folder(&format!("\u{feff}{}", text.replace('\n', "\r\n")));
    let spec = load(dir.path(), None).unwrap_or_else(|all| panic!("{all:#?}")).spec;
    assert_eq!(spec.files[0].content, Content::Text(drover_proto::template::Template::literal("a\nb\n")));
}

#[test]
fn what_is_no_manifest_at_all_is_refused() {
    let dir = folder("");
    let file = dir.path().join("drover.yaml");
    fs::write(&file, b"version: 1\napp: \xff\n").unwrap();
    assert!(load(&file, None).unwrap_err()[0].message.contains("not UTF-8 text (line 2)"));
    fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(load(&file, None).unwrap_err()[0].message.contains("more than 1 MiB"));
    assert!(load(&dir.path().join("none.yaml"), None).unwrap_err()[0].message.contains("cannot be read"));
}

#[test]
fn secrets_stand_only_where_nobody_else_reads_them() {
    let (said, _) = faults(&minimal(
        "env: { values: { URL: \"db://{{ secret.KEY }}@x\" }, secrets: { KEY: { generate: 32 } } }\n\
         units: { a.service: { exec: \"/bin/a {{ secret.KEY }}\" } }\n\
         hooks: { after_switch: [{ run: [a, \"{{ secret.KEY }}\"], user: b }] }\n\
         checks: { a: { http: \"http://{{ secret.KEY }}/\" } }\n",
    ));
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().all(|s| s.contains("a secret (KEY) may stand only")), "{said:?}");
}
