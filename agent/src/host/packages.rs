//! Debian packages: which of those wanted are missing, and installing them without starting what they bring. `observe` and
//! `exec` call it. Additive only: nothing is removed, upgraded for its own sake or downgraded.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use drover_proto::name::{AbsPath, PackageName};

use super::{
    files::{self, FileError},
    process::{self, Command, Outcome, ProcessError},
};

const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
const UPDATE_TIMEOUT: Duration = Duration::from_secs(300);
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(900);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(900);

/// Asked by maintainer scripts whether they may start a service. Ours says no only to children of our own apt-get, so
/// that one left behind by a crash changes nothing for anyone else.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str = "#!/bin/sh\n# Made by drover while it installs packages: services are started when their configuration is there.\n\
[ -z \"$DROVER_HOLDS_SERVICES\" ] || exit 101\nexit 0\n";
const POLICY_KEY: &str = "DROVER_HOLDS_SERVICES";

/// Why packages could not be looked at or installed.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// apt-get or dpkg-query said no.
    #[error("{doing} failed: {why}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// Its own words, the last that matter.
        why: String,
    },
    /// apt-get ended well, but these are not there.
    #[error("not installed although apt-get reported success: {0}")]
    StillMissing(String),
    /// A program could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Services could not be held back.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Those of `want` that are not installed, or not in the version asked for.
pub async fn missing(want: &BTreeSet<PackageName>) -> Result<BTreeSet<PackageName>, PackageError> {
    if want.is_empty() {
        return Ok(BTreeSet::new());
    }
    let format = "${Package} ${Architecture} ${db:Status-Status} ${Version}\\n";
    let mut args = vec!["--show".to_owned(), format!("--showformat={format}"), "--".to_owned()];
    args.extend(want.iter().map(|package| name_and_version(package).0.to_owned()));
    let outcome = process::run(Command::new(process::DPKG_QUERY, args, QUERY_TIMEOUT)).await?;
    // 1: some are unknown to it, which is an answer too.
    match outcome.ended {
        process::Ended::Code(0 | 1) => Ok(missing_in(want, &String::from_utf8_lossy(&outcome.stdout))),
        _ => Err(refused("dpkg-query", &outcome)),
    }
}

fn name_and_version(package: &PackageName) -> (&str, Option<&str>) {
    package.as_str().split_once('=').map_or((package.as_str(), None), |(name, version)| (name, Some(version)))
}

fn missing_in(want: &BTreeSet<PackageName>, answer: &str) -> BTreeSet<PackageName> {
    let mut installed: BTreeMap<String, &str> = BTreeMap::new();
    for line in answer.lines() {
        if let [name, architecture, "installed", version] = line.split(' ').collect::<Vec<_>>()[..] {
            installed.insert(name.to_owned(), version);
            installed.insert(format!("{name}:{architecture}"), version);
        }
    }
    let is_there = |package: &&PackageName| {
        let (name, wanted) = name_and_version(package);
        installed.get(name).is_some_and(|version| wanted.is_none_or(|wanted| wanted == *version))
    };
    want.iter().filter(|package| !is_there(package)).cloned().collect()
}

/// Installs packages: all are downloaded before the first is unpacked, and no service is started. The lists are fetched
/// only when apt cannot do with those it has. Everything said goes to `output_file`.
pub async fn install(packages: &BTreeSet<PackageName>, output_file: &Path) -> Result<(), PackageError> {
    if packages.is_empty() {
        return Ok(());
    }
    let ours = hold_services()?;
    let installed = download_and_install(packages, output_file).await;
    if ours {
        release_services()?;
    }
    installed?;
    let absent = missing(packages).await?;
    if absent.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = absent.iter().map(PackageName::as_str).collect();
    Err(PackageError::StillMissing(names.join(", ")))
}

async fn download_and_install(packages: &BTreeSet<PackageName>, output_file: &Path) -> Result<(), PackageError> {
    let update = apt_get(vec!["update".to_owned()], UPDATE_TIMEOUT, output_file);
    if !unknown(packages).await?.is_empty() {
        let updated = process::run(update.clone()).await?;
        let unknown = unknown(packages).await?;
        if !unknown.is_empty() {
            let names: Vec<&str> = unknown.iter().map(|package| package.as_str()).collect();
            let stale = if updated.ok() { "" } else { " (and its lists could not be fetched anew)" };
            let why = format!("apt knows no package of this name: {}{stale}", names.join(", "));
            return Err(PackageError::Refused { doing: "apt-get install", why });
        }
    }
    let download = apt(Some("--download-only"), packages, DOWNLOAD_TIMEOUT, output_file);
    if !run_mended(&download).await?.ok() {
        let updated = process::run(update).await?;
        let outcome = process::run(download).await?;
        if !outcome.ok() {
            // Stale lists are often the reason, and then why they could not be fetched says more.
            let doing = if updated.ok() { "apt-get install --download-only" } else { "apt-get update" };
            return Err(refused(doing, if updated.ok() { &outcome } else { &updated }));
        }
    }
    let outcome = run_mended(&apt(None, packages, INSTALL_TIMEOUT, output_file)).await?;
    if outcome.ok() { Ok(()) } else { Err(refused("apt-get install", &outcome)) }
}

/// Those that apt does not know by exactly this name. Given to apt-get such a name would be taken for a pattern, or for
/// an order to remove (`nginx-`), and bring about what nobody asked for.
async fn unknown(packages: &BTreeSet<PackageName>) -> Result<BTreeSet<&PackageName>, PackageError> {
    let mut unknown = BTreeSet::new();
    for package in packages {
        let (name, _) = name_and_version(package);
        let (name, architecture) = name.split_once(':').unwrap_or((name, ""));
        let args = ["pkgnames", "--", name].map(str::to_owned).into();
        let outcome = process::run(Command::new(process::APT_CACHE, args, QUERY_TIMEOUT)).await?;
        if !outcome.ok() {
            return Err(refused("apt-cache pkgnames", &outcome));
        }
        let known = String::from_utf8_lossy(&outcome.stdout).lines().any(|line| line == name);
        if !known || !architecture.chars().all(|c| c.is_ascii_alphanumeric()) {
            unknown.insert(package);
        }
    }
    Ok(unknown)
}

/// Runs apt-get; if an earlier installation was cut off in the middle (a power cut, a killed agent), mends that and runs
/// it again.
async fn run_mended(apt: &Command) -> Result<Outcome, ProcessError> {
    let outcome = process::run(apt.clone()).await?;
    if outcome.ok() || !outcome.tail.iter().any(|line| line.contains("dpkg --configure -a")) {
        return Ok(outcome);
    }
    let args = ["--force-confdef", "--force-confold", "--configure", "--pending"].map(str::to_owned);
    let mend = Command { program: process::DPKG.to_owned(), args: args.into(), ..apt.clone() };
    let mended = process::run(mend).await?;
    if mended.ok() { process::run(apt.clone()).await } else { Ok(mended) }
}

fn apt(step: Option<&str>, packages: &BTreeSet<PackageName>, timeout: Duration, output_file: &Path) -> Command {
    let fixed = ["--yes", "--no-install-recommends", "--no-remove"];
    let mut args: Vec<String> = fixed.into_iter().chain(step).chain(["install", "--"]).map(str::to_owned).collect();
    args.extend(packages.iter().map(ToString::to_string));
    apt_get(args, timeout, output_file)
}

fn apt_get(args: Vec<String>, timeout: Duration, output_file: &Path) -> Command {
    // Another apt may be at work for a while; changed configuration files of the host's stay as they are.
    let options = ["DPkg::Lock::Timeout=120", "Dpkg::Options::=--force-confdef", "Dpkg::Options::=--force-confold"];
    let mut all: Vec<String> = options.iter().flat_map(|o| ["-o".to_owned(), (*o).to_owned()]).collect();
    all.push("--quiet=2".to_owned());
    all.extend(args);
    let mut command = Command::new(process::APT_GET, all, timeout);
    command.output_file = Some(output_file.to_owned());
    let env = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
        ("NEEDRESTART_SUSPEND", "1"),
        (POLICY_KEY, "1"),
    ];
    command.env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    command
}

/// Puts our policy in place unless the host has one of its own, which is respected; `true`: it is ours.
fn hold_services() -> Result<bool, PackageError> {
    let path = policy();
    match files::state(&path)? {
        files::FileState::Missing => files::write_atomic(&path, POLICY_TEXT.as_bytes(), 0, 0, 0o755)?,
        _ if !is_ours(&path) => return Ok(false),
        _ => {}
    }
    Ok(true)
}

fn release_services() -> Result<(), PackageError> {
    let path = policy();
    if is_ours(&path) {
        files::remove(&path)?;
    }
    Ok(())
}

fn is_ours(path: &AbsPath) -> bool {
    files::read(path, POLICY_TEXT.len()).is_ok_and(|text| text.as_deref() == Some(POLICY_TEXT.as_bytes()))
}

fn policy() -> AbsPath {
    POLICY.parse().unwrap_or_else(|_| unreachable!("a constant that a test parses"))
}

/// apt's own errors begin with `E:`; they say more than its last line.
fn refused(doing: &'static str, outcome: &Outcome) -> PackageError {
    let errors: Vec<&str> = outcome.tail.iter().map(|l| l.trim()).filter(|l| l.starts_with("E: ")).take(3).collect();
    let timed_out = outcome.ended == process::Ended::TimedOut;
    let why = if errors.is_empty() || timed_out { outcome.last_line() } else { errors.join("; ") };
    PackageError::Refused {
        doing,
        why: if timed_out { format!("it took too long; its last words: {why}") } else { why },
    }
}

#[cfg(test)]
mod tests {
    //! What apt-get is told and what dpkg-query answers. Installing for real is the lab's work.
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<PackageName> {
        names.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_half_there_or_of_another_version_is_missing() {
        let answer = "bash amd64 installed 5.2.15-2+b2\nnginx all config-files 1.22\nlibc6 i386 installed 2.36-9\n";
        let want = set(&["bash", "bash=5.2.15-2+b2", "bash=5.1", "nginx", "libc6:i386", "libc6:amd64", "none"]);
        assert_eq!(missing_in(&want, answer), set(&["bash=5.1", "nginx", "libc6:amd64", "none"]));
    }

    #[tokio::test]
    async fn this_machines_packages_are_asked_for() {
        let want = set(&["dpkg", "drover-there-is-no-such-package", "dpkg=0.1"]);
        assert_eq!(missing(&want).await.unwrap(), set(&["drover-there-is-no-such-package", "dpkg=0.1"]));
        assert_eq!(missing(&set(&[])).await.unwrap(), set(&[]));
    }

    #[tokio::test]
    async fn only_exact_names_are_known() {
        let want = set(&["dpkg", "dpkg=1:2.0", "dpkg:amd64", "dpk.", "dpkg-", "dpkg:amd64-", "drover-no-such-package"]);
        let unknown: Vec<&str> = unknown(&want).await.unwrap().into_iter().map(PackageName::as_str).collect();
        assert_eq!(unknown, ["dpk.", "dpkg-", "dpkg:amd64-", "drover-no-such-package"]);
    }

    #[test]
    fn apt_is_quiet_asks_nothing_and_removes_nothing() {
        let command = apt(Some("--download-only"), &set(&["nginx-light"]), INSTALL_TIMEOUT, Path::new("/x"));
        let line = command.args.join(" ");
        for wanted in ["--no-remove", "--yes", "DPkg::Lock::Timeout=120", "--force-confold", "install -- nginx-light"] {
            assert!(line.contains(wanted), "{wanted}: {line}");
        }
        assert_eq!(command.env["DEBIAN_FRONTEND"], "noninteractive");
    }

    #[test]
    fn the_policy_holds_only_our_own_children_back() {
        assert_eq!(policy().as_str(), POLICY);
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("policy-rc.d");
        std::fs::write(&file, POLICY_TEXT).unwrap();
        let ask = |key: &str| std::process::Command::new("/bin/sh").arg(&file).env(key, "1").status().unwrap().code();
        assert_eq!((ask(POLICY_KEY), ask("OTHER")), (Some(101), Some(0)));
    }
}
