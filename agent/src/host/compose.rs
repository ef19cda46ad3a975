//! docker compose, of whichever version the host has: what it makes of a project's files, and `up`. `observe` and `exec`
//! call it; `config` says what of its answer counts, `reads` which files it may read, `adopt` whether what
//! runs was made of them, `origin` what that was made of.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use drover_proto::name::ProjectName;

pub use config::{Ask, Build, Config, Service};
pub use origin::{Sources, pairs, variables};

use super::{
    files,
    process::{self, Command, Ended, Outcome, ProcessError},
};
use crate::render::{FileKind, Layout, RenderedFile, RenderedProject};

mod adopt;
mod config;
mod origin;
mod reads;

/// For its version.
const VERSION: Duration = Duration::from_secs(10);
/// To read files; docker-compose 1.29 takes a second to start.
const CONFIG: Duration = Duration::from_secs(12);
/// Of what it says about a project.
const MAX_CONFIG_BYTES: u64 = 2 << 20;
/// Of what it says about a failure, in characters.
const MAX_WORDS: usize = 500;
/// The engine that drover itself asks, whatever contexts the host has.
const ENGINE: &str = "unix:///var/run/docker.sock";
/// The end of what both versions say of a variable that is set nowhere.
const UNSET: &str = " variable is not set";

/// Compose as this host has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compose {
    program: &'static str,
    lead: &'static [&'static str],
    /// 1.29.
    is_old: bool,
}

/// Asks the host. The error is one sentence with what to do.
pub async fn find() -> Result<Compose, String> {
    let mut old = None;
    // Both may be there: the newer one is asked first.
    for (program, lead) in [("docker", &["compose"] as &[&str]), ("docker-compose", &[])] {
        let args = lead.iter().chain(&["version", "--short"]).map(ToString::to_string).collect();
        let outcome = match process::run(Command::new(program, args, VERSION)).await {
            Ok(outcome) => outcome,
            Err(ProcessError::NotFound { .. }) => continue,
            Err(error) => return Err(error.to_string()),
        };
        let said = String::from_utf8_lossy(&outcome.stdout).trim().to_owned();
        match (outcome.ok(), is_known(&said)) {
            (true, true) => return Ok(Compose { program, lead, is_old: said.starts_with("1.") }),
            (true, false) => old = Some(format!("{program} is of version {said}, and drover needs 1.29 or 2")),
            (false, _) => {}
        }
    }
    Err(old.unwrap_or_else(|| "there is no docker compose on this host".to_owned())
        + "; add docker-compose under host.packages, or see to it there")
}

/// `1.29.2`, `2.26.1-4`, `v2.20.0`.
fn is_known(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '+']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(1)), Some(Ok(minor))) => minor >= 29,
        (Some(Ok(major)), _) => major >= 2,
        _ => false,
    }
}

/// Variables that would steer compose itself, or the programs beneath it.
fn steers(key: &str) -> bool {
    const NAMES: [&str; 9] = [
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "GODEBUG",
        "GOTRACEBACK",
        "GOMAXPROCS",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ];
    const BEGINNINGS: [&str; 12] = [
        "LC_",
        "LD_",
        "GLIBC_",
        "MALLOC_",
        "PYTHON",
        "DOCKER_",
        "COMPOSE_",
        "BUILDKIT_",
        "BUILDX_",
        "XDG_",
        "SSH_",
        "SSL_CERT_",
    ];
    NAMES.contains(&key)
        || BEGINNINGS.iter().any(|beginning| key.starts_with(beginning))
        || key.to_uppercase().ends_with("_PROXY")
}

impl Compose {
    /// What it makes of a release's files, which need not be in their places yet. The error has a sentence for each thing
    /// that is wrong, and may hold values of secrets.
    pub async fn config(
        &self,
        name: &ProjectName,
        project: &RenderedProject,
        files: &[RenderedFile],
        layout: &Layout,
    ) -> Result<Config, Vec<String>> {
        let mut wrong = reads::strays(project, files);
        let steering = project.env.expose().keys().filter(|key| steers(key));
        wrong.extend(steering.map(|key| {
            format!(
                "${{{key}}} would steer compose itself: call that variable of env otherwise, or put it into env_file"
            )
        }));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let one = |why: String| vec![why];
        let contexts = if self.is_old { reads::contexts(project, files) } else { Vec::new() };
        let stage =
            Stage::make(files, &contexts, layout).map_err(|e| one(format!("its files cannot be staged: {e}")))?;
        let said = tempfile::tempfile_in(layout.work_dir()).map_err(|e| one(e.to_string()))?;
        let mut reading = said.try_clone().map_err(|e| one(e.to_string()))?;
        let directory = stage.of(project.directory());
        let mut lead = vec!["--project-directory".to_owned(), directory.to_string_lossy().into_owned()];
        lead.extend(arguments(name, project, &|path| stage.of(path), layout).map_err(one)?);
        let mut command = self.command(lead, &["config"], project.env.expose().clone(), CONFIG);
        command.stdout = Some(Arc::new(said));
        let outcome = process::run(command).await.map_err(|error| one(error.to_string()))?;
        let wrong: Vec<String> = unset(&outcome).into_iter().map(|name| unset_words(&name, project, files)).collect();
        if !outcome.ok() {
            return Err(wrong.into_iter().chain([stage.real(&self.words(&outcome, CONFIG))]).collect());
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let mut text = String::new();
        let read =
            reading.seek(SeekFrom::Start(0)).and_then(|_| reading.take(MAX_CONFIG_BYTES).read_to_string(&mut text));
        read.map_err(|error| one(format!("what compose made of its files cannot be read: {error}")))?;
        let prefix = format!("{name}{}", if self.is_old { '_' } else { '-' });
        let whose = config::Whose { profiles: &project.profiles, prefix, base: project.base.as_path() };
        config::read(&stage.real(&text), &whose)
    }

    /// Builds the images of a project from the artifact in `tree`. The error is one sentence, and the last lines of output.
    pub async fn build(
        &self,
        name: &ProjectName,
        config: &Config,
        tree: &Path,
        layout: &Layout,
        (output, timeout): (PathBuf, Duration),
    ) -> Result<(), (String, Vec<String>)> {
        let plain = |why: String| (why, Vec::new());
        let services = services_to_build(config, tree).map_err(plain)?;
        let mut document = serde_json::json!({ "services": services });
        if self.is_old {
            document["version"] = "3.8".into();
        }
        let stage = tempfile::TempDir::new_in(layout.work_dir()).map_err(|error| plain(error.to_string()))?;
        let file = stage.path().join("build.json");
        files::write_private(&file, document.to_string().as_bytes()).map_err(|error| plain(error.to_string()))?;
        let mut args = vec!["-p".to_owned(), name.to_string(), "--env-file".to_owned(), empty(layout).map_err(plain)?];
        args.extend(["-f".to_owned(), file.to_string_lossy().into_owned()]);
        let mut command = self.command(args, &["build"], BTreeMap::new(), timeout);
        command.output_file = Some(output);
        let outcome = process::run(command).await.map_err(|error| plain(error.to_string()))?;
        if outcome.ok() { Ok(()) } else { Err((self.words(&outcome, timeout), outcome.tail)) }
    }

    /// Brings a project up, whose files are in their places. The error is one sentence, and the last lines of output.
    pub async fn up(
        &self,
        name: &ProjectName,
        project: &RenderedProject,
        (config, recreate): (&Config, bool),
        layout: &Layout,
        timeout: Duration,
    ) -> Result<(), (String, Vec<String>)> {
        let plain = |why: String| (why, Vec::new());
        let lead = arguments(name, project, &Path::to_owned, layout).map_err(plain)?;
        // It wants to see where images were built from, though it builds none.
        for (.., build) in config.builds().filter(|_| self.is_old) {
            let context = project.base.as_path().join(&build.context);
            let made = fs::create_dir_all(&context);
            made.map_err(|error| plain(format!("{} cannot be made: {error}", context.display())))?;
        }
        let up: &[&str] = &["up", "-d", "--no-build", "--remove-orphans"];
        let up = [up, if recreate { &["--force-recreate"] } else { &[] }].concat();
        let mut command = self.command(lead, &up, project.env.expose().clone(), timeout);
        command.cwd = Some(project.directory().to_owned());
        let outcome = process::run(command).await.map_err(|error| plain(error.to_string()))?;
        if outcome.ok() { Ok(()) } else { Err((self.words(&outcome, timeout), outcome.tail)) }
    }

    /// In its own words, on one line.
    fn words(&self, outcome: &Outcome, timeout: Duration) -> String {
        if outcome.ended == Ended::TimedOut {
            return format!("compose took longer than {} s and was killed", timeout.as_secs());
        }
        let is_noise =
            |line: &&String| line.contains("level=warning") || line.contains(UNSET) || line.trim().is_empty();
        let mut lines: Vec<&str> = outcome.tail.iter().filter(|line| !is_noise(line)).map(|line| line.trim()).collect();
        // 1.29 says it in several lines, with the cause at the end; 2 says it in the last.
        lines.drain(..if self.is_old { 0 } else { lines.len().saturating_sub(1) });
        let text = lines.join(" ");
        let skipped = text.chars().count().saturating_sub(MAX_WORDS);
        let text: String = text.chars().skip(skipped).collect();
        if text.is_empty() { format!("compose failed ({})", outcome.ended) } else { text }
    }

    fn command(&self, lead: Vec<String>, verb: &[&str], env: BTreeMap<String, String>, timeout: Duration) -> Command {
        let args = self.lead.iter().map(ToString::to_string).chain(lead).chain(verb.iter().map(ToString::to_string));
        let mut command = Command::new(self.program, args.collect(), timeout);
        command.env = env;
        command.env.extend([("DOCKER_HOST".to_owned(), ENGINE.to_owned())]);
        command
    }
}

/// What goes before the verb.
fn arguments(
    name: &ProjectName,
    project: &RenderedProject,
    place: &dyn Fn(&Path) -> PathBuf,
    layout: &Layout,
) -> Result<Vec<String>, String> {
    let text = |path: &Path| place(path).to_string_lossy().into_owned();
    let env_file = match &project.env_file {
        Some(path) => text(path.as_path()),
        None => empty(layout)?,
    };
    let mut arguments = vec!["-p".to_owned(), name.to_string(), "--env-file".to_owned(), env_file];
    arguments.extend(project.files.iter().flat_map(|path| ["-f".to_owned(), text(path.as_path())]));
    arguments.extend(project.profiles.iter().flat_map(|profile| ["--profile".to_owned(), profile.clone()]));
    Ok(arguments)
}

/// Without a file compose would take what `.env` is there.
fn empty(layout: &Layout) -> Result<String, String> {
    let empty = layout.state_dir.join("empty.env");
    files::write_private(&empty, b"").map_err(|error| error.to_string())?;
    Ok(empty.to_string_lossy().into_owned())
}

/// What is to be built, and nothing else of the services.
fn services_to_build(config: &Config, tree: &Path) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    let real = |path: &Path| fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()));
    let top = real(tree)?;
    let mut services = serde_json::Map::new();
    for (name, image, build) in config.builds() {
        let context = real(&tree.join(&build.context))?;
        let dockerfile = build.fields.get("dockerfile").and_then(serde_json::Value::as_str).unwrap_or("Dockerfile");
        let inline = build.fields.get("dockerfile_inline").is_some_and(|text| !text.is_null());
        let dockerfile = if inline { context.clone() } else { real(&context.join(dockerfile))? };
        if !context.starts_with(&top) || !dockerfile.starts_with(&top) {
            return Err(format!("service {name}: what it is built from leads out of the artifact"));
        }
        let mut fields = build.fields.clone();
        fields.insert("context".to_owned(), context.to_string_lossy().replace('$', "$$").into());
        services.insert(name.clone(), serde_json::json!({ "image": image.to_string(), "build": fields }));
    }
    Ok(services)
}

/// A release's files under a root of their own, as they will lie on the host.
struct Stage {
    root: tempfile::TempDir,
}

impl Stage {
    fn make(files: &[RenderedFile], directories: &[PathBuf], layout: &Layout) -> Result<Self, String> {
        let stage = Self { root: tempfile::TempDir::new_in(layout.work_dir()).map_err(|error| error.to_string())? };
        for file in files.iter().filter(|file| file.kind == FileKind::Plain) {
            let place = stage.of(file.path.as_path());
            fs::create_dir_all(place.parent().unwrap_or(&place)).map_err(|error| error.to_string())?;
            fs::write(&place, file.bytes.expose()).map_err(|error| error.to_string())?;
        }
        for directory in directories {
            fs::create_dir_all(stage.of(directory)).map_err(|error| error.to_string())?;
        }
        Ok(stage)
    }

    fn of(&self, path: &Path) -> PathBuf {
        self.root.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// With the real paths.
    fn real(&self, text: &str) -> String {
        text.replace(&*self.root.path().to_string_lossy(), "")
    }
}

/// The variables that it said were not set.
fn unset(outcome: &Outcome) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in &outcome.tail {
        let Some((before, _)) = line.split_once(UNSET) else { continue };
        let name = before.rsplit(' ').next().unwrap_or_default().trim_matches(['"', '\\']).to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn unset_words(name: &str, project: &RenderedProject, files: &[RenderedFile]) -> String {
    let own = files.iter().filter(|file| project.files.contains(&file.path));
    let marks = [format!("${name}"), format!("${{{name}")];
    let place = own.into_iter().find_map(|file| {
        let text = String::from_utf8_lossy(file.bytes.expose()).into_owned();
        let line = text.lines().position(|line| marks.iter().any(|mark| line.contains(mark)))?;
        Some(format!("{} line {}", file.path, line + 1))
    });
    let place = place.unwrap_or_else(|| "its files".to_owned());
    format!(
        "{place} uses ${{{name}}}, which is set nowhere: put it into env or env_file, or write ${{{name}:-}} if it may be empty"
    )
}

#[cfg(test)]
mod tests {
    //! Versions, variables, words.
    use super::*;

    fn outcome(lines: &[&str]) -> Outcome {
        let tail = lines.iter().map(ToString::to_string).collect();
        Outcome { ended: Ended::Code(1), tail, stdout: Vec::new() }
    }

    #[test]
    fn versions_that_are_known() {
        for good in ["1.29.2", "2.26.1-4", "v2.20.0", "5.0.1", "2"] {
            assert!(is_known(good), "{good}");
        }
        for bad in ["1.25.0", "", "unknown", "docker-compose version 1.29.2"] {
            assert!(!is_known(bad), "{bad}");
        }
    }

    #[test]
    fn both_versions_tell_of_variables_that_are_not_set() {
        let old = outcome(&["The GREETING variable is not set. Defaulting to a blank string."]);
        let new = r#"time="2026-11-28T22:52:16Z" level=warning msg="The \"GREETING\" variable is not set. Defaulting to a blank string.""#;
        assert_eq!(unset(&old), ["GREETING"]);
        assert_eq!(unset(&outcome(&[new, new])), ["GREETING"]);
        let compose = |is_old| Compose { program: "docker", lead: &[], is_old };
        let said = outcome(&[new, "step one", "service \"web\" is wrong"]);
        assert_eq!(compose(false).words(&said, VERSION), "service \"web\" is wrong");
        assert_eq!(compose(true).words(&said, VERSION), "step one service \"web\" is wrong");
    }

    #[test]
    fn variables_do_not_steer_compose() {
        for key in ["PATH", "PYTHONPATH", "DOCKER_HOST", "COMPOSE_FILE", "https_proxy", "LD_PRELOAD"] {
            assert!(steers(key), "{key}");
        }
        for key in ["GREETING", "GOOGLE_KEY", "DOCKERFILE", "MY_PATH"] {
            assert!(!steers(key), "{key}");
        }
    }
}
