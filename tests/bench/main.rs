//! `make bench`: drover's figures beside those of named peers, measured in one run on lab hosts with the packages that
//! ship. Prints the tables of docs/BENCHMARKS.md. `alerts`, `idle`, `reaction`, `restart`, `containers`, `handover`,
//! `scrape`, `flood` and `soak` measure; `figure` sums up.
//!
//! Not tests: nothing here fails because a machine is slow.

mod alerts;
mod containers;
mod figure;
mod flood;
mod flooding;
mod handover;
mod idle;
mod reaction;
mod restart;
mod scrape;
mod soak;
mod subject;

use std::process::Command;

use drover_tests::fleet::packages;

/// Answers a table.
type Measure = fn() -> String;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    println!("{}\n", machine());
    let all: [(&str, Measure); 10] = [
        ("binary", binaries),
        ("idle", idle::measure),
        ("reaction", reaction::measure),
        ("restart", restart::measure),
        ("container", containers::changes),
        ("watched", containers::watched),
        ("handover", handover::measure),
        ("scrape", scrape::measure),
        ("alerts", alerts::measure),
        ("flood", flood::measure),
    ];
    for (_, measure) in all.iter().filter(|(name, _)| is_wanted(name)) {
        println!("{}", measure());
    }
    // An hour: only when asked for.
    if wanted.iter().any(|one| one == "soak") {
        println!("{}", soak::measure());
    }
}

/// A whole number from the environment: how long or how often.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// On what, so that nobody compares figures of two machines.
fn machine() -> String {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    format!(
        "Machine: {} x{}, kernel {}, commit {}",
        model.trim_start_matches([' ', '\t', ':']),
        cpu.lines().filter(|line| line.starts_with("processor")).count(),
        said("uname", &["-r"]),
        said("git", &["log", "-1", "--format=%h %cs"])
    )
}

/// What the packages hold.
fn binaries() -> String {
    let mut table = String::from("| packaged binary | MB | .deb, MB |\n|---|---|---|\n");
    for (package, program) in
        [("drover-agent", "drover-agent"), ("drover-coordinator", "drover-coordinator"), ("drover", "drover")]
    {
        let deb = packages().join(format!("{package}.deb"));
        let unpacked = tempfile::tempdir().expect("a temporary directory");
        let done = Command::new("dpkg-deb").arg("-x").arg(&deb).arg(unpacked.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "{}: run make deb", deb.display());
        let size = |path: std::path::PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len()) as f64 / 1e6;
        let binary = size(unpacked.path().join("usr/bin").join(program));
        table.push_str(&format!("| {program} | {binary:.1} | {:.1} |\n", size(deb)));
    }
    table
}
