//! The rules about what is not Rust: Cargo's manifests and graph, error codes beside their documentation, and what
//! documents point at.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use super::tree::{Complaint, files_below, read, top};

/// Each crate's manifest and the crates of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto/Cargo.toml", &[]),
    ("proto/exposition/Cargo.toml", &["drover-proto"]),
    ("agent/Cargo.toml", &["drover-proto", "drover-exposition"]),
    ("coordinator/Cargo.toml", &["drover-proto", "drover-exposition"]),
    ("coordinator/cli/Cargo.toml", &["drover-proto"]),
    ("tests/Cargo.toml", &["drover-proto", "drover-agent", "drover-coordinator", "drover-cli"]),
];

/// Crates that must not be compiled in, and what there is instead.
const BANNED: &[(&str, &str)] = &[
    ("ring", "aws-lc-rs is the one crypto provider"),
    ("openssl-sys", "rustls with aws-lc-rs"),
    ("native-tls", "rustls with aws-lc-rs"),
    ("chrono", "jiff"),
    ("serde_yaml", "granit-parser, as in coordinator/cli/src/manifest/yaml.rs"),
    ("serde_yml", "granit-parser, as in coordinator/cli/src/manifest/yaml.rs"),
];

pub fn crate_arrows() -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let known: BTreeSet<_> = ARROWS.iter().map(|(path, _)| (*path).to_owned()).collect();
    let there = ["proto", "agent", "coordinator", "tests"].iter().flat_map(|d| files_below(d, "toml"));
    for path in there.filter(|path| path.ends_with("/Cargo.toml") && !known.contains(path)) {
        complaints.push(Complaint::new(
            path,
            1,
            "a crate that ARROWS in tidy/papers.rs does not know: say there what it may see",
        ));
    }
    for (path, allowed) in ARROWS {
        for (line, name) in siblings(&read(path)) {
            if !allowed.contains(&name.as_str()) {
                let what = format!("depends on {name}; the arrows are proto <- {{agent, coordinator, cli}} <- tests");
                complaints.push(Complaint::new(*path, line, what));
            }
        }
    }
    complaints
}

/// The crates of this workspace that a manifest's dependency tables name, with their lines.
fn siblings(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_dependencies = false;
    for (number, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_matches(['[', ']']);
            in_dependencies = table.ends_with("dependencies");
            if let Some((_, name)) = table.rsplit_once("dependencies.") {
                found.push((number + 1, name.to_owned()));
            }
        } else if in_dependencies {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            found.push((number + 1, name.to_owned()));
        }
    }
    found.retain(|(_, name)| name.starts_with("drover-"));
    found
}

pub fn banned_crates() -> Vec<Complaint> {
    // Not Cargo.lock: it also lists what weak dependencies could bring, ring among it, and what nothing compiles.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments =
        ["tree", "--workspace", "--locked", "--offline", "--prefix", "none", "-e", "normal,build,dev", "-f", "{p}"];
    let output = Command::new(cargo).args(arguments).current_dir(top()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout);
    let compiled: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(compiled.contains("aws-lc-rs"), "cargo tree shows no aws-lc-rs: {tree}");
    let banned = BANNED.iter().filter(|(name, _)| compiled.contains(name));
    banned
        .map(|(name, instead)| {
            let line = line_of(&read("Cargo.lock"), &format!("name = \"{name}\""));
            Complaint::new(
                "Cargo.lock",
                line,
                format!("{name} is compiled in: {instead}; `cargo tree -i {name}` says who brings it"),
            )
        })
        .collect()
}

pub fn error_codes() -> Vec<Complaint> {
    let docs_file = "docs/ERRORS.md";
    let mut codes = listed("proto/src/code.rs", 20);
    codes.extend(listed("coordinator/cli/src/fault.rs", 10));
    let mut entries: BTreeMap<String, usize> = BTreeMap::new();
    let mut complaints = Vec::new();
    for (line, code) in read(docs_file).lines().enumerate().filter_map(entry_of) {
        if entries.insert(code.clone(), line).is_some() {
            complaints.push(Complaint::new(docs_file, line, format!("a second entry for `{code}`: keep one")));
        }
    }
    for (code, (file, line)) in codes.iter().filter(|(code, _)| !entries.contains_key(*code)) {
        let what = format!(
            "`{code}` has no entry: say under a heading of its name in {docs_file} what it means and what to do"
        );
        complaints.push(Complaint::new(*file, *line, what));
    }
    for (code, line) in entries.iter().filter(|(code, _)| !codes.contains_key(*code)) {
        let what = format!("`{code}` is neither a code of proto nor a word of the command: remove or rename the entry");
        complaints.push(Complaint::new(docs_file, *line, what));
    }
    complaints
}

/// The codes that a file's macro table lists, with file and line. Fewer than `least` mean that its form has changed.
fn listed(file: &'static str, least: usize) -> BTreeMap<String, (&'static str, usize)> {
    let found: BTreeMap<_, _> =
        read(file).lines().enumerate().filter_map(code_of).map(|(line, code)| (code, (file, line))).collect();
    assert!(found.len() > least, "only {} codes in {file}: has the table's form changed?", found.len());
    found
}

/// `Variant = "text" => Grpc,` or `Variant = "text",` in a table of codes.
fn code_of((number, line): (usize, &str)) -> Option<(usize, String)> {
    let (variant, rest) = line.trim().split_once(" = \"")?;
    let (code, end) = rest.split_once('"')?;
    let is_entry = end == "," || (end.starts_with(" => ") && end.ends_with(','));
    (variant.chars().all(char::is_alphanumeric) && is_entry).then(|| (number + 1, code.to_owned()))
}

/// A heading whose text is a code: `` ### `gate` ``, with or without more after it.
fn entry_of((number, line): (usize, &str)) -> Option<(usize, String)> {
    let text = line.strip_prefix("##")?.trim_start_matches('#').trim();
    let (code, _) = text.strip_prefix('`')?.split_once('`')?;
    Some((number + 1, code.to_owned()))
}

pub fn examples() -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut everything = String::new();
    for file in documents() {
        let text = read(&file);
        for (number, line) in text.lines().enumerate() {
            for (at, _) in line.match_indices("examples/") {
                if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '/') {
                    continue; // a part of a longer path
                }
                let path: String =
                    line[at..].chars().take_while(|c| c.is_alphanumeric() || "/._-".contains(*c)).collect();
                let path = path.trim_end_matches(['.', '/']);
                if !top().join(path).exists() && !path.ends_with("examples") {
                    complaints.push(Complaint::new(
                        &file,
                        number + 1,
                        format!("{path} does not exist: correct or remove it"),
                    ));
                }
            }
        }
        everything += &text;
    }
    for entry in std::fs::read_dir(top().join("examples")).expect("examples/ can be read") {
        let name = entry.expect("examples/ can be read").file_name().to_string_lossy().into_owned();
        if !everything.contains(&format!("examples/{name}")) {
            complaints.push(Complaint::new(
                format!("examples/{name}"),
                1,
                "no document mentions it: say in README.md what it shows",
            ));
        }
    }
    complaints
}

pub fn links() -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in documents() {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in read(&file).lines().enumerate() {
            for part in line.split("](").skip(1) {
                let target = part.split([')', '#', ' ']).next().unwrap_or_default();
                let elsewhere = target.is_empty() || target.contains("://");
                if !elsewhere && !top().join(folder).join(target).exists() {
                    complaints.push(Complaint::new(
                        &file,
                        number + 1,
                        format!("the link to {target} leads nowhere: correct it"),
                    ));
                }
            }
        }
    }
    complaints
}

/// Every Markdown file that is the repository's own.
fn documents() -> Vec<String> {
    let mut files = vec!["README.md".to_owned()];
    for directory in ["docs", "examples", "packaging", "tests"] {
        files.extend(files_below(directory, "md"));
    }
    files
}

fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).map_or(1, |number| number + 1)
}
