//! What can be kept by reading the tree: module docs, crate arrows, purity of planning, error codes and their
//! documentation, and the few other rules that a compiler does not know. Boots nothing and takes a second.
//!
//! `tree` reads the files, `rules` looks at the Rust sources, `papers` at manifests, lock file and documents.

#[path = "tidy/papers.rs"]
mod papers;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/tree.rs"]
mod tree;

use tree::{Complaint, rust_sources};

#[track_caller]
fn none(complaints: Vec<Complaint>) {
    let text: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert!(text.is_empty(), "{} to mend:\n{}\n", text.len(), text.join("\n"));
}

#[test]
fn every_file_says_its_job_in_its_first_line() {
    none(rules::module_docs(&rust_sources()));
}

#[test]
fn no_file_is_too_long_to_be_read() {
    none(rules::length(&rust_sources()));
}

#[test]
fn no_function_is_too_long_to_be_read() {
    none(rules::functions(&rust_sources()));
}

#[test]
fn module_names_say_what_is_in_them() {
    none(rules::module_names(&rust_sources()));
}

#[test]
fn planning_is_pure() {
    none(rules::purity(&rust_sources()));
}

#[test]
fn generated_messages_stay_at_the_edges() {
    none(rules::wire(&rust_sources()));
}

#[test]
fn no_shell_and_one_place_that_starts_programs() {
    none(rules::programs(&rust_sources()));
}

#[test]
fn nothing_is_ignored_or_left_to_do() {
    none(rules::unfinished(&rust_sources()));
}

#[test]
fn crates_depend_only_downwards() {
    none(papers::crate_arrows());
}

#[test]
fn no_banned_crate_is_compiled() {
    none(papers::banned_crates());
}

#[test]
fn every_error_code_is_documented_and_every_documented_one_exists() {
    none(papers::error_codes());
}

#[test]
fn what_documents_point_at_exists() {
    none(papers::examples());
    none(papers::links());
}

#[test]
fn the_reader_sees_code_and_not_comments_or_strings() {
    let source = tree::Source::new(
        "agent/src/x.rs",
        "//! tokio\nuse std::{fs, time::{Duration, Instant as Now}};\n/* tokio /* */ */ let a = \"tokio\"; let b = 'x'; \
         fn c<'tokio>() { tokio::spawn(r#\"rand::\"#) }\n",
    );
    assert_eq!(source.lines_naming("std::fs"), [2]);
    assert_eq!(source.lines_naming("std::time::Instant"), [2]);
    assert_eq!(source.lines_naming("tokio::"), [3]);
    assert!(source.lines_naming("rand::").is_empty());
    assert!(source.lines_naming("kio::").is_empty());
}

#[test]
fn each_rule_sees_what_it_forbids() {
    let bad = |path: &str, text: &str| vec![tree::Source::new(path, text)];
    let seen = |complaints: Vec<Complaint>, part: &str| {
        let text: Vec<String> = complaints.iter().map(ToString::to_string).collect();
        assert!(text.iter().any(|complaint| complaint.contains(part)), "no {part:?} among {text:#?}");
    };
    let plan = "use std::{collections::BTreeMap, time::SystemTime};\nasync fn plan() { std::fs::read(p); x.await }\n";
    seen(rules::purity(&bad("agent/src/plan/steps.rs", plan)), "plan/steps.rs:1: planning names `SystemTime`");
    seen(rules::purity(&bad("agent/src/plan/steps.rs", plan)), "plan/steps.rs:2: planning names `std::fs`");
    seen(rules::purity(&bad("agent/src/plan/steps.rs", plan)), "planning names `async fn`");
    seen(rules::purity(&bad("agent/src/other.rs", plan)), "is not there");
    seen(rules::module_docs(&bad("agent/src/x.rs", "use a;\n")), "x.rs:1: begin with");
    seen(rules::length(&bad("agent/src/x.rs", &"\n".repeat(401))), "401 lines");
    let long = |lines: usize| format!("impl A {{\n    fn f() {{\n{}    }}\n}}\n", "        g();\n".repeat(lines - 2));
    seen(rules::functions(&bad("agent/src/x.rs", &long(71))), "x.rs:2: a function of 71 lines");
    assert!(rules::functions(&bad("agent/src/x.rs", &long(70))).is_empty());
    assert!(rules::functions(&bad("tests/x.rs", &long(71))).is_empty(), "tests may tell long stories");
    seen(rules::module_names(&bad("agent/src/utils.rs", "")), "`utils` says nothing");
    seen(rules::module_names(&bad("agent/src/x.rs", "mod helpers {\n}")), "`helpers` says nothing");
    seen(rules::wire(&bad("agent/src/gate.rs", "use drover_proto::{spec, wire};\n")), "gate.rs:1: names a generated");
    seen(rules::wire(&bad("agent/src/gate.rs", "\nfn f(a: wire::Hello) {}")), "gate.rs:2: names a generated");
    seen(rules::programs(&bad("coordinator/src/x.rs", "Command::new(\"/bin/bash\")")), "a shell");
    seen(rules::programs(&bad("agent/src/x.rs", "run(&[\"sh\", \"-ec\", text])")), "a shell");
    seen(rules::programs(&bad("agent/src/exec/x.rs", "use std::process::{self, Command};\n")), "starts a program");
    seen(rules::unfinished(&bad("agent/src/x.rs", "#[ignore = \"slow\"]")), "`#[ignore`");
    seen(rules::unfinished(&bad("agent/src/x.rs", "fn f() { todo!() }")), "`todo!`");
    let inline = "#[cfg(test)]\nmod tests {\n    use std::process::Command;\n}\n";
    assert!(rules::programs(&bad("agent/src/host/packages.rs", inline)).is_empty(), "tests may start programs");
    assert!(rules::programs(&bad("agent/src/host/process.rs", "use tokio::process::Command;\n")).is_empty());
    assert!(rules::wire(&bad("agent/src/link/jobs.rs", "use drover_proto::wire;\n")).is_empty());
}
