//! The other way round: what a host has becomes the text of a manifest, for a person to look at and keep. Whatever it says,
//! `load` reads it back as the same. What came from a host is quoted so that none of it means anything to YAML or to
//! `holes`. Called by `cmd/import`; fields of containers are in `written/container`, those of
//! compose projects and files in `written/compose`.

use std::collections::BTreeMap;

use drover_proto::{
    app::Unit,
    found::Found,
    name::{AppName, EnvKey, LabelKey, LabelValue, SecretName, UnitName},
    template::{Argv, Hole, Segment, Template},
};

mod compose;
mod container;
mod page;
#[cfg(test)]
mod tests;

pub use compose::{beside, is_beside};
use page::Page;
pub use page::comment;

/// A manifest to be written.
pub struct Draft<'a> {
    /// Its app.
    pub app: &'a AppName,
    /// Its hosts.
    pub targets: &'a BTreeMap<LabelKey, LabelValue>,
    /// What to say above it, a line each.
    pub remarks: &'a [String],
    /// All else.
    pub found: &'a Found,
}

/// Under what name a secret of the app is to be stored. Both words are made of what a secret's name may have.
#[must_use]
pub fn stored_as(app: &AppName, key: &EnvKey) -> String {
    let name = format!("{}-{key}", app.base());
    if name.parse::<SecretName>().is_ok() { name } else { key.to_string() }
}

/// The manifest's text.
#[must_use]
pub fn written(draft: &Draft<'_>) -> String {
    let mut page = Page::default();
    draft.remarks.iter().for_each(|remark| page.comment(remark));
    page.field("version", "1");
    page.text("app", draft.app.as_str());
    page.open("targets");
    page.map("labels", draft.targets.iter().map(|(key, value)| (key.as_str(), value.to_string())));
    page.close();
    env(&mut page, draft);
    if !draft.found.containers.is_empty() {
        page.open("containers");
        for (name, container) in &draft.found.containers {
            page.open(name.as_str());
            container::fields(&mut page, container);
            page.close();
        }
        page.close();
    }
    if !draft.found.units.is_empty() {
        page.open("units");
        for (name, it) in &draft.found.units {
            unit(&mut page, name, it);
        }
        page.close();
    }
    if !draft.found.compose.is_empty() {
        page.open("compose");
        draft.found.compose.iter().for_each(|(name, project)| compose::project(&mut page, name, project));
        page.close();
    }
    if !draft.found.files.is_empty() {
        page.open("files");
        draft.found.files.iter().for_each(|file| compose::file(&mut page, file));
        page.close();
    }
    page.finish()
}

fn env(page: &mut Page, draft: &Draft<'_>) {
    let found = draft.found;
    if found.env.is_empty() && found.secrets.is_empty() {
        return;
    }
    page.open("env");
    page.map("values", found.env.iter().map(|(key, value)| (key.as_str(), as_it_is(value))));
    if !found.secrets.is_empty() {
        page.open("secrets");
        for key in &found.secrets {
            page.open(key.as_str());
            page.text("secret", &stored_as(draft.app, key));
            page.close();
        }
        page.close();
    }
    page.close();
}

fn unit(page: &mut Page, name: &UnitName, unit: &Unit) {
    page.open(name.as_str());
    page.field("adopt", if unit.adopt { "true" } else { "false" });
    page.field("enable", if unit.enable { "true" } else { "false" });
    page.field("start", if unit.start { "true" } else { "false" });
    page.list("instances", unit.instances.iter().map(ToString::to_string));
    page.block("text", &template(&unit.text));
    page.close();
}

/// A text that has no holes, so that `holes` finds none in it.
fn as_it_is(text: &str) -> String {
    text.replace("{{", "{{ \"{{\" }}")
}

/// With its holes as they are written.
fn template(template: &Template) -> String {
    let piece = |segment: &Segment| match segment {
        Segment::Text(text) => as_it_is(text),
        Segment::Hole(hole) => match hole {
            Hole::Release => "{{ release }}".to_owned(),
            Hole::EnvFile => "{{ env_file }}".to_owned(),
            Hole::HostName => "{{ host.name }}".to_owned(),
            Hole::HostLabel(key) => format!("{{{{ host.label.{key} }}}}"),
            Hole::Secret(name) => format!("{{{{ secret.{name} }}}}"),
            Hole::Path => "{{ path }}".to_owned(),
            Hole::Port => "{{ port }}".to_owned(),
            Hole::PortOf(upstream) => format!("{{{{ port.{upstream} }}}}"),
        },
    };
    template.0.iter().map(piece).collect()
}

fn argv(argv: &Argv) -> impl Iterator<Item = String> {
    argv.iter().map(template)
}
