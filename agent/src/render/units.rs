//! A unit of a release: its file, its instances, and the fingerprint of all that it is started with. Part of `render`.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    app::{RestartBudget, Unit},
    digest::{Digest, Hasher},
    name::{AbsPath, RolloutId, UnitName},
    secret::Secret,
};

use super::{Accounts, FileKind, RenderError, RenderedFile, RenderedUnit, handover, root, unit_text};

/// A unit; a template and its instances, each of which is a unit that runs.
pub(super) fn with_instances(
    name: &UnitName,
    unit: &Unit,
    budget: RestartBudget,
    text: String,
    (fingerprint, names): (Digest, BTreeSet<AbsPath>),
) -> Vec<(UnitName, RenderedUnit)> {
    let (enable, start, adopt, drift, file) = (unit.enable, unit.start, unit.adopt, unit.drift, name.clone());
    let own = handover::port_of(name).filter(|_| unit.handover.is_some());
    let ports = unit.ports.iter().copied().chain(unit_text::ports(name, &text)).chain(own).collect();
    let accounts = Accounts::of(&text);
    let whole = RenderedUnit { text, enable, start, adopt, drift, budget, fingerprint, names, file, ports, accounts };
    if unit.instances.is_empty() {
        return vec![(name.clone(), whole)];
    }
    let instances = unit.runs_as(name).into_iter().map(|instance| (instance, whole.clone()));
    let pattern = RenderedUnit { enable: false, start: false, ports: BTreeSet::new(), ..whole.clone() };
    instances.chain([(name.clone(), pattern)]).collect()
}

pub(super) fn file(name: &UnitName, text: &str, path: AbsPath, unit: &Unit) -> Result<RenderedFile, RenderError> {
    let root = root()?;
    Ok(RenderedFile {
        path,
        kind: FileKind::Unit(name.clone()),
        digest: Digest::of(text.as_bytes()),
        bytes: Secret::new(text.as_bytes().to_vec()),
        masked: Some(text.to_owned()),
        secret: false,
        owner: root.clone(),
        group: root,
        mode: 0o644,
        validate: None,
        reload: BTreeSet::new(),
        restart: BTreeSet::new(),
        adopt: unit.adopt,
        drift: unit.drift,
        leads_to: None,
    })
}

/// `asked`: files that the manifest restarts it for, beside those that its text names.
pub(super) fn fingerprint(
    text: &str,
    files: &[RenderedFile],
    asked: Option<&BTreeSet<AbsPath>>,
    restart: RolloutId,
) -> (Digest, BTreeSet<AbsPath>) {
    let mut hasher = Hasher::new();
    hasher.update(text.as_bytes());
    let named: BTreeMap<&AbsPath, Digest> = files
        .iter()
        .filter(|file| {
            let named = !matches!(file.kind, FileKind::Unit(_)) && text.contains(file.path.as_str());
            named || asked.is_some_and(|asked| asked.contains(&file.path))
        })
        .map(|file| (&file.path, file.digest))
        .collect();
    for (path, digest) in &named {
        hasher.update(path.as_str().as_bytes());
        hasher.update(digest.as_bytes());
    }
    // Without one the fingerprint stays what it always was: nothing is restarted because the agent is newer.
    if restart != 0 {
        hasher.update(format!("restart {restart}").as_bytes());
    }
    (hasher.finish(), named.into_keys().cloned().collect())
}
