//! The rules of an app that span fields. Beside `app`, which holds the types.

mod checks;
mod compose;
mod containers;

use std::collections::BTreeSet;

use super::{AppError, AppSpec, HostNeeds, SecretSource, Unit};
use crate::{
    limits,
    name::{AbsPath, UnitName},
    template::{Argv, Hole},
};

/// Directories that no file or directory of a manifest may lie in or be: drover's own, and the kernel's.
const FORBIDDEN: [&str; 8] = [
    "/proc",
    "/sys",
    "/dev",
    "/run/systemd",
    "/var/run/systemd",
    "/var/lib/drover",
    "/var/lib/drover-coordinator",
    "/etc/drover",
];
/// No name in these may begin with `drover`.
const RUNTIME_DIRS: [&str; 2] = ["/run", "/var/run"];
/// Where systemd looks for units: nothing in them may be a unit of drover's own, its drop-ins, or drop-ins for all units.
const UNIT_DIRS: [&str; 5] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/etc/systemd/system.control",
];

/// Whether a unit, or a directory of drop-ins, changes how drover itself runs.
fn is_drovers_unit(name: &str) -> bool {
    name.starts_with("drover-") || name == "service.d"
}

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Found(pub(super) Vec<AppError>);

impl Found {
    fn say(&mut self, field: impl Into<String>, what: impl Into<String>) {
        self.0.push(AppError { field: field.into(), what: what.into() });
    }

    pub(super) fn targets(&mut self, app: &AppSpec) {
        if app.targets.is_empty() {
            self.say("targets.labels", "name at least one label; an app without targets would go nowhere");
        }
        let has_part =
            !(app.units.is_empty() && app.containers.is_empty() && app.files.is_empty()) || app.artifact.is_some();
        if !has_part {
            self.say("units", "an app needs at least one part: a unit, a container, a file or an artifact");
        }
    }

    pub(super) fn secrets(&mut self, app: &AppSpec) {
        for (field, template, secrets_allowed) in app.templates() {
            for secret in template.secrets() {
                if !secrets_allowed {
                    self.say(&field, format!("a secret ({secret}) may stand only in env values and files, where no other user can read it"));
                } else if !app.secrets.contains_key(secret) {
                    self.say(&field, format!("secret {secret} is not declared under env.secrets"));
                }
            }
            if template.holes().any(|h| *h == Hole::Release) && app.artifact.is_none() {
                self.say(&field, "{{ release }} needs an artifact, and this app has none");
            }
            if template.holes().any(|h| *h == Hole::Path) && !field.ends_with(".validate") {
                self.say(&field, "{{ path }} means something only in a file's validate:");
            }
            if template.plain_text().contains('\0') {
                self.say(&field, "holds a NUL character");
            }
        }
        for (name, source) in &app.secrets {
            if let SecretSource::Generate(bytes) = source
                && !(16..=1024).contains(bytes)
            {
                self.say(format!("env.secrets.{name}.generate"), "between 16 and 1024 random bytes");
            }
        }
        for (key, value) in &app.env {
            if value.plain_text().chars().any(|c| c == '\n' || c == '\r') {
                self.say(format!("env.{key}"), "an environment value is one line");
            }
        }
    }

    pub(super) fn needs(&mut self, needs: &HostNeeds) {
        for (i, user) in needs.users.iter().enumerate() {
            if user.name.as_str() == "root" {
                self.say(format!("host.users[{i}].name"), "root is there already");
            }
        }
        for (i, directory) in needs.directories.iter().enumerate() {
            self.path(&format!("host.directories[{i}].path"), &directory.path);
            if directory.mode > 0o3777 {
                self.say(format!("host.directories[{i}].mode"), "at most 3777: no SUID");
            }
        }
    }

    pub(super) fn swap(&mut self, needs: &HostNeeds) {
        if needs.swap_bytes.is_some_and(|bytes| !limits::SWAP_BYTES.contains(&bytes)) {
            let (least, most) = (limits::SWAP_BYTES.start() >> 20, limits::SWAP_BYTES.end() >> 30);
            self.say("host.swap", format!("between {least}M and {most}G"));
        }
    }

    fn path(&mut self, field: &str, path: &AbsPath) {
        let forbidden = FORBIDDEN.iter().any(|f| path.as_path().starts_with(f));
        let below = |dirs: &[&str], test: fn(&str) -> bool| {
            let names = dirs.iter().filter_map(|dir| path.as_path().strip_prefix(dir).ok());
            names.filter_map(|rest| rest.iter().next()?.to_str()).any(test)
        };
        let of_drover = below(&RUNTIME_DIRS, |name| name.starts_with("drover")) || below(&UNIT_DIRS, is_drovers_unit);
        if forbidden || of_drover {
            self.say(field, format!("{path} belongs to the system or to drover itself"));
        }
    }

    fn argv(&mut self, field: &str, argv: &Argv) {
        if argv.is_empty() {
            self.say(field, "name a program");
        }
        if argv.len() > limits::MAX_ARGV {
            self.say(field, format!("at most {} arguments", limits::MAX_ARGV));
        }
    }

    pub(super) fn artifact(&mut self, app: &AppSpec) {
        let Some(artifact) = &app.artifact else { return };
        if artifact.size_bytes > limits::MAX_ARTIFACT_BYTES {
            self.say("artifact", format!("the archive has more than {} MiB", limits::MAX_ARTIFACT_BYTES >> 20));
        }
        self.0.extend(artifact.source.check(app));
        let Some(build) = &artifact.build else { return };
        if build.user.as_str() == "root" {
            self.say("artifact.build.user", "build steps run as an unprivileged user, not as root");
        }
        for (i, step) in build.run.iter().enumerate() {
            self.argv(&format!("artifact.build.run[{i}]"), step);
        }
        let templates = build.run.iter().flatten().chain(build.env.values());
        if templates.flat_map(|t| t.holes()).any(|hole| *hole != Hole::Release) {
            self.say("artifact.build", "build steps know only {{ release }} and the manifest's own variables: a build is the same on every host");
        }
    }

    pub(super) fn units(&mut self, app: &AppSpec) {
        let count: usize = app.units.values().map(|unit| 1 + unit.instances.len()).sum();
        if count > limits::MAX_UNITS_PER_APP {
            self.say("units", format!("at most {} units, instances included", limits::MAX_UNITS_PER_APP));
        }
        for (name, unit) in &app.units {
            if name.is_template() && unit.start && unit.instances.is_empty() {
                let what = "a template unit cannot be started itself: name its instances: [\"1\", \"2\"], or say start: false and enable: false";
                self.say(format!("units.{name}"), what);
            }
            self.instances(app, name, unit);
            if unit.ports.len() > limits::MAX_PORTS_PER_UNIT {
                self.say(format!("units.{name}.ports"), format!("at most {} ports", limits::MAX_PORTS_PER_UNIT));
            }
            if is_drovers_unit(name.as_str()) {
                self.say(format!("units.{name}"), "drover does not manage its own units");
            }
        }
    }

    fn instances(&mut self, app: &AppSpec, name: &UnitName, unit: &Unit) {
        let field = || format!("units.{name}.instances");
        if !unit.instances.is_empty() && !name.is_template() {
            self.say(field(), "only a template has instances: name the unit NAME@.service");
            return;
        }
        for instance in &unit.instances {
            match name.instance(instance) {
                Ok(full) if app.units.contains_key(&full) => {
                    self.say(field(), format!("{full} is declared under units: already"));
                }
                Ok(_) => {}
                Err(error) => self.say(field(), error.to_string()),
            }
        }
    }

    pub(super) fn files(&mut self, app: &AppSpec) {
        if app.files.len() > limits::MAX_FILES_PER_APP {
            self.say("files", format!("at most {} files; put a tree into the artifact", limits::MAX_FILES_PER_APP));
        }
        let mut seen = BTreeSet::new();
        for (i, file) in app.files.iter().enumerate() {
            let field = format!("files[{i}]");
            self.path(&format!("{field}.path"), &file.path);
            if !seen.insert(&file.path) {
                self.say(format!("{field}.path"), format!("{} is listed twice", file.path));
            }
            let is_unit = file
                .path
                .as_str()
                .strip_prefix("/etc/systemd/system/")
                .is_some_and(|name| app.units.keys().any(|u| u.as_str() == name));
            if is_unit {
                self.say(format!("{field}.path"), "that unit is declared under units: already");
            }
            if file.mode > 0o777 {
                self.say(format!("{field}.mode"), "at most 0777: no SUID, SGID or sticky bit");
            }
            let secret = matches!(&file.content, super::Content::Text(t) if t.secrets().next().is_some());
            if secret && file.mode & 0o177 != 0 {
                self.say(format!("{field}.mode"), "a file with secrets has mode 0600 (or less)");
            }
            if let Some(argv) = &file.validate {
                self.argv(&format!("{field}.validate"), argv);
            }
        }
    }

    pub(super) fn hooks(&mut self, app: &AppSpec) {
        for (i, hook) in app.hooks.iter().enumerate() {
            self.argv(&format!("hooks[{i}].run"), &hook.run);
            for key in hook.env.iter().filter(|key| !app.env.contains_key(*key)) {
                self.say(format!("hooks[{i}].env"), format!("{key} is not in env"));
            }
        }
        let (names, mut seen) = (app.hook_names(), BTreeSet::new());
        for (i, name) in names.iter().enumerate().filter(|(_, name)| !seen.insert(*name)) {
            self.say(format!("hooks[{i}].name"), format!("two hooks are called {name}; give one another name"));
        }
    }

    pub(super) fn watches(&mut self, app: &AppSpec) {
        let units = app.units.iter().map(|(name, unit)| (format!("units.{name}"), &unit.restart_on_change));
        let containers = app.containers.iter().map(|(name, it)| (format!("containers.{name}"), &it.restart_on_change));
        for (of, watch) in units.chain(containers).filter_map(|(of, watch)| Some((of, watch.as_ref()?))) {
            let of = format!("{of}.restart_on_change");
            if watch.paths.is_empty() || watch.paths.len() > limits::MAX_WATCHED_PATHS {
                self.say(format!("{of}.paths"), format!("between 1 and {} paths", limits::MAX_WATCHED_PATHS));
            }
            for path in &watch.paths {
                self.path(&format!("{of}.paths"), path);
            }
            if !(100..=3_600_000).contains(&watch.debounce.as_ms()) {
                self.say(format!("{of}.debounce"), "between 100ms and 1h");
            }
        }
    }

    pub(super) fn certificates(&mut self, app: &AppSpec) {
        if app.certificates.len() > limits::MAX_CERTIFICATES {
            self.say("certificates", format!("at most {} certificates", limits::MAX_CERTIFICATES));
        }
        let mut seen = BTreeSet::new();
        for (i, certificate) in app.certificates.iter().enumerate() {
            let field = format!("certificates[{i}]");
            self.path(&format!("{field}.path"), &certificate.path);
            if !seen.insert(&certificate.path) {
                self.say(format!("{field}.path"), format!("{} is listed twice", certificate.path));
            }
            if let Some(key) = &certificate.key {
                self.path(&format!("{field}.key"), key);
            }
            if certificate.reload.is_empty() {
                self.say(format!("{field}.reload"), "name at least one unit: who else would read it");
            }
            if let Some(argv) = &certificate.validate {
                self.argv(&format!("{field}.validate"), argv);
                if argv.iter().any(|arg| arg.holes().next().is_some()) {
                    self.say(format!("{field}.validate"), "has no holes: it looks at what is in its place");
                }
            }
        }
    }

    pub(super) fn budgets(&mut self, app: &AppSpec) {
        let units = app.units.iter().filter_map(|(name, unit)| Some((format!("units.{name}."), unit.restart_budget?)));
        for (of, budget) in app.restart_budget.map(|budget| (String::new(), budget)).into_iter().chain(units) {
            if budget.attempts > limits::MAX_RESTART_ATTEMPTS {
                let most = limits::MAX_RESTART_ATTEMPTS;
                self.say(format!("{of}restart_budget.attempts"), format!("at most {most}"));
            }
            if budget.window.as_ms() < 1000 {
                self.say(format!("{of}restart_budget.window"), "at least 1s");
            }
            if budget.backoff.as_ms() < 100 {
                self.say(
                    format!("{of}restart_budget.backoff"),
                    "at least 100ms: a unit that fails at once would burn a core",
                );
            }
        }
    }
}
