//! The rules about Rust sources, one function each: it takes them all and returns what is to mend.

use super::tree::{Complaint, Source};

const LONGEST: usize = 400;
/// Lines of one function of the product.
const LONGEST_FN: usize = 70;

/// Files that may be longer, and why each is.
const LONG: &[(&str, &str)] = &[];

/// Planning and deciding: what takes values and returns values.
const PURE: &[&str] = &[
    "agent/src/plan",
    "agent/src/drift",
    "agent/src/budget.rs",
    "agent/src/alert/forecast.rs",
    "agent/src/alert/judge",
    "agent/src/alert/machine",
    "agent/src/alert/scene.rs",
    "agent/src/alert/timer.rs",
    "agent/src/disk",
    "agent/src/render",
    "agent/src/gate/stretch.rs",
    "agent/src/gate/verdict.rs",
    "agent/src/reconcile/decide.rs",
    "coordinator/src/alert/fleet.rs",
    "coordinator/src/alert/group.rs",
    "coordinator/src/alert/maintenance.rs",
    "coordinator/src/alert/matcher.rs",
    "coordinator/src/rollout/next",
    "coordinator/src/rollout/order.rs",
    "coordinator/src/rollout/sight.rs",
    "coordinator/src/rollout/state.rs",
];

/// What planning may not name, and where it belongs instead.
const IMPURE: &[(&str, &str)] = &[
    ("std::fs", "read it in observe and pass it in"),
    ("std::io", "read it in observe and pass it in"),
    ("std::net", "ask the network elsewhere and pass the answer in"),
    ("std::process", "run programs in exec"),
    ("std::env", "read settings in config and pass them in"),
    ("std::thread", "planning runs on its caller's thread"),
    ("SystemTime", "time comes in as a value"),
    ("Instant", "time comes in as a value"),
    ("::now(", "time comes in as a value"),
    ("tokio", "planning is not async"),
    ("async fn", "planning is not async"),
    (".await", "planning is not async"),
    ("rustix", "read it in observe and pass it in"),
    ("rand::", "randomness comes in as a value"),
    ("getrandom", "randomness comes in as a value"),
];

/// Where the generated messages may be named; everywhere else only the types of `proto` are.
const WIRE: &[&str] = &[
    "proto/",
    "tests/",
    "agent/src/link",
    "agent/src/blob.rs",
    "agent/src/enroll.rs",
    "coordinator/src/rpc",
    "coordinator/src/session",
    "coordinator/cli/src/client",
    "coordinator/cli/src/cmd",
];

/// Where the agent may start a program.
const STARTS_PROGRAMS: &[&str] = &["agent/src/host/process.rs"];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager"];

pub fn module_docs(sources: &[Source]) -> Vec<Complaint> {
    let bare = sources.iter().filter(|s| !s.text.starts_with("//! "));
    bare.map(|s| Complaint::new(&s.path, 1, "begin with `//! ` and the file's one job and its neighbours in the flow"))
        .collect()
}

pub fn length(sources: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for source in sources {
        let lines = source.text.lines().count();
        let excused = LONG.iter().any(|(path, _)| *path == source.path);
        if lines > LONGEST && !excused {
            complaints.push(Complaint::new(
                &source.path,
                lines,
                format!("{lines} lines, more than {LONGEST}: split it by job"),
            ));
        }
        if lines <= LONGEST && excused {
            complaints.push(Complaint::new(
                &source.path,
                lines,
                "is short enough now: take it out of LONG in tidy/rules.rs",
            ));
        }
    }
    complaints
}

pub fn functions(sources: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for source in sources {
        let long = source.functions().into_iter().filter(|(_, lines)| *lines > LONGEST_FN);
        complaints.extend(long.map(|(line, lines)| {
            let what = format!("a function of {lines} lines, more than {LONGEST_FN}: take a step of it out");
            Complaint::new(&source.path, line, what)
        }));
    }
    complaints
}

pub fn module_names(sources: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for source in sources {
        let words = source.path.trim_end_matches(".rs").split('/');
        let empty = words.filter(|word| EMPTY_NAMES.contains(word));
        complaints.extend(
            empty.map(|w| Complaint::new(&source.path, 1, format!("`{w}` says nothing: name it after its job"))),
        );
        for name in EMPTY_NAMES {
            let lines = source.lines_naming(&format!("mod {name}"));
            complaints.extend(lines.iter().map(|line| {
                Complaint::new(&source.path, *line, format!("a module `{name}` says nothing: name it after its job"))
            }));
        }
    }
    complaints
}

pub fn purity(sources: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for place in PURE {
        let mut files = sources.iter().filter(|s| s.path.starts_with(place) && !s.is_test()).peekable();
        if files.peek().is_none() {
            complaints.push(Complaint::new(
                format!("{place}.rs"),
                1,
                "is not there: did planning move? Correct PURE in tidy/rules.rs",
            ));
        }
        for source in files {
            for (name, instead) in IMPURE {
                let message = || format!("planning names `{}`: {instead}", name.trim_matches([':', '(', '.']));
                complaints.extend(
                    source.product_lines_naming(name).iter().map(|line| Complaint::new(&source.path, *line, message())),
                );
            }
        }
    }
    complaints
}

pub fn wire(sources: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|s| !WIRE.iter().any(|place| s.path.starts_with(place))) {
        let mut lines = source.product_lines_naming("wire::");
        lines.extend(source.product_lines_naming("::wire"));
        lines.sort_unstable();
        lines.dedup();
        complaints.extend(lines.iter().map(|line| {
            let what = "names a generated message: convert it where it arrives (link, rpc, session, client) and pass proto's types";
            Complaint::new(&source.path, *line, what)
        }));
    }
    complaints
}

pub fn programs(sources: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|s| !s.is_test()) {
        for (number, line) in source
            .text
            .lines()
            .enumerate()
            .filter(|(n, line)| source.is_product(n + 1) && !line.trim_start().starts_with("//"))
        {
            if starts_a_shell(line) {
                let what = "a shell between drover and a program: give the program an argv of its own";
                complaints.push(Complaint::new(&source.path, number + 1, what));
            }
        }
        let elsewhere = source.path.starts_with("agent/") && !STARTS_PROGRAMS.contains(&source.path.as_str());
        for name in ["std::process::Command", "tokio::process"].into_iter().filter(|_| elsewhere) {
            let what = "starts a program: do it through agent/src/host/process.rs, which has the list of them";
            complaints
                .extend(source.product_lines_naming(name).iter().map(|line| Complaint::new(&source.path, *line, what)));
        }
    }
    complaints
}

/// `Command::new("sh")` with any usual shell and path, or an argv that begins with `sh -c`.
fn starts_a_shell(line: &str) -> bool {
    let quoted: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    let is_shell = |word: &&str| matches!(word.rsplit('/').next(), Some("sh" | "bash" | "dash" | "zsh"));
    let new = line.contains("Command::new(") && quoted.first().is_some_and(is_shell);
    new || quoted.windows(2).any(|pair| is_shell(&pair[0]) && pair[1].starts_with('-') && pair[1].ends_with('c'))
}

pub fn unfinished(sources: &[Source]) -> Vec<Complaint> {
    let marks = [
        ("#[ignore", "a test runs or goes: make it pass, or delete it"),
        ("todo!", "finish it, or refuse the input by name"),
        ("unimplemented!", "finish it, or refuse the input by name"),
        ("#![allow(", "allow it at the one place that needs it, with the reason"),
    ];
    let mut complaints = Vec::new();
    for source in sources {
        for (mark, instead) in marks {
            let lines = source.lines_naming(mark);
            let what = || format!("`{}`: {instead}", mark.trim_end_matches('('));
            complaints.extend(lines.iter().map(|line| Complaint::new(&source.path, *line, what())));
        }
    }
    complaints
}
