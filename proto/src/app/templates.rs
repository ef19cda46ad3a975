//! Every text with holes that an app has, for those who look at all of them: which secrets are named, which holes stand
//! where they mean nothing. Beside `app`.

use super::{AppSpec, Content, MountSource, Probe};
use crate::template::Template;

impl AppSpec {
    /// Every template of the app with the field that holds it and whether it may hold secrets.
    #[must_use]
    pub fn templates(&self) -> Vec<(String, &Template, bool)> {
        let mut all = Vec::new();
        all.extend(self.env.iter().map(|(key, t)| (format!("env.{key}"), t, true)));
        all.extend(self.units.iter().map(|(name, u)| (format!("units.{name}"), &u.text, false)));
        self.container_templates(&mut all);
        for (i, file) in self.files.iter().enumerate() {
            if let Content::Text(text) = &file.content {
                all.push((format!("files[{i}].content"), text, true));
            }
            all.extend(file.validate.iter().flatten().map(|t| (format!("files[{i}].validate"), t, false)));
        }
        for (i, hook) in self.hooks.iter().enumerate() {
            all.extend(hook.run.iter().map(|t| (format!("hooks[{i}].run"), t, false)));
        }
        for (name, check) in &self.checks {
            match &check.probe {
                Probe::Http(http) => {
                    all.push((format!("checks.{name}.http"), &http.url, false));
                    all.extend(http.headers.values().map(|t| (format!("checks.{name}.header"), t, false)));
                }
                Probe::Command { run, .. } => {
                    all.extend(run.iter().map(|t| (format!("checks.{name}.command"), t, false)))
                }
                Probe::Tcp(_)
                | Probe::Unit(_)
                | Probe::Container(_)
                | Probe::Certificate(_)
                | Probe::File(_)
                | Probe::Disk(_) => {}
            }
        }
        if let Some(build) = self.artifact.as_ref().and_then(|a| a.build.as_ref()) {
            all.extend(build.run.iter().flatten().map(|t| ("artifact.build.run".to_owned(), t, false)));
            all.extend(build.env.iter().map(|(key, t)| (format!("artifact.build.env.{key}"), t, false)));
        }
        all
    }

    fn container_templates<'a>(&'a self, all: &mut Vec<(String, &'a Template, bool)>) {
        for (name, container) in &self.containers {
            let of = |field: &str| format!("containers.{name}.{field}");
            all.extend(container.entrypoint.iter().flatten().map(|t| (of("entrypoint"), t, false)));
            all.extend(container.command.iter().flatten().map(|t| (of("command"), t, false)));
            all.extend(container.environment.iter().map(|(key, t)| (of(&format!("environment.{key}")), t, false)));
            all.extend(container.healthcheck.iter().flat_map(|h| &h.test).map(|t| (of("healthcheck.test"), t, false)));
            for mount in &container.volumes {
                if let MountSource::Path(path) = &mount.source {
                    all.push((of("volumes"), path, false));
                }
            }
        }
    }
}
