//! The rules of compose projects. Part of `check`.

use super::Found;
use crate::{app::AppSpec, limits, name::AbsPath};

impl Found {
    pub(in crate::app) fn compose(&mut self, app: &AppSpec) {
        if app.compose.len() > limits::MAX_PROJECTS_PER_APP {
            self.say("compose", format!("at most {} projects", limits::MAX_PROJECTS_PER_APP));
        }
        let is_there = |path: &AbsPath| app.files.iter().any(|file| file.path == *path);
        for (name, project) in &app.compose {
            let of = |field: &str| format!("compose.{name}.{field}");
            if project.files.is_empty() || project.files.len() > limits::MAX_COMPOSE_FILES {
                self.say(of("files"), format!("name at least one file, and at most {}", limits::MAX_COMPOSE_FILES));
            }
            for path in project.files.iter().chain(&project.env_file).filter(|path| !is_there(path)) {
                self.say(of("files"), format!("{path} is not among the app's files"));
            }
            let outside = |path: &&AbsPath| !path.as_path().starts_with(project.directory.as_path());
            if let Some(path) = project.files.iter().find(outside) {
                self.say(of("files"), format!("{path} is not in {}", project.directory));
            }
            for (registry, credentials) in &project.registries {
                let of = format!("compose.{name}.registries.{registry}");
                if !registry.contains(['.', ':']) || registry.contains('/') {
                    self.say(&of, "write the registry as images have it, such as registry.example.org, or docker.io");
                }
                if credentials.username.is_none() {
                    self.say(&of, "a registry wants a user, too");
                }
                if !app.secrets.contains_key(&credentials.secret) {
                    self.say(&of, format!("secret {} is not declared under env.secrets", credentials.secret));
                }
            }
            let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let bad = |word: &&String| {
                word.len() > 64 || !word.starts_with(|c: char| c.is_ascii_alphanumeric()) || !word.chars().all(is_word)
            };
            if let Some(word) = project.profiles.iter().find(bad) {
                self.say(of("profiles"), format!("{word:?}: use letters, digits, '-', '_' and '.', at most 64"));
            }
        }
    }
}
