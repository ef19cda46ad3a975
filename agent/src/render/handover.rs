//! What is replaced by another instance beside it: what an instance is called, which checks ask it, and the upstream of nginx
//! that leads to it. Part of `render`; which port an instance has is `handover`'s choice.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use drover_proto::{
    app::{BlueGreen, Container, HandsOver, Probe, Publish, Unit},
    digest::Digest,
    duration::Span,
    name::{AbsPath, CheckName, ContainerName, UnitName, UpstreamName},
    port::Port,
    secret::Secret,
    template::{Hole, Template},
};
use serde::{Deserialize, Serialize};

use super::{FileKind, Layout, RenderError, Rendered, RenderedFile, Validate, error, fill::Filler, root};

/// The unit that reads upstreams.
pub(crate) const NGINX: &str = "nginx.service";

/// The port behind each upstream.
pub type Ports = BTreeMap<UpstreamName, u16>;

/// What runs beside others of its kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Instance {
    /// Of systemd.
    Unit(UnitName),
    /// Of Docker.
    Container(ContainerName),
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(name) => name.fmt(f),
            Self::Container(name) => name.fmt(f),
        }
    }
}

impl Rendered {
    /// Of everything that an instance is started with.
    #[must_use]
    pub fn fingerprint_of(&self, instance: &Instance) -> Option<Digest> {
        match instance {
            Instance::Unit(name) => self.units.get(name).map(|unit| unit.fingerprint),
            Instance::Container(name) => self.containers.get(name).map(|container| container.fingerprint),
        }
    }
}

/// One that is replaced by another instance beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenderedHandover {
    /// What it would be called without instances.
    pub part: Instance,
    /// The instance of this release on this host.
    pub instance: Instance,
    /// Where that accepts connections, on 127.0.0.1.
    pub port: u16,
    /// The one before may finish what it has begun for so long.
    pub drain: Span,
    /// The upstream's file.
    pub file: AbsPath,
    /// The checks that ask the instance itself.
    pub checks: BTreeSet<CheckName>,
}

/// Where an instance of that name listens.
pub(super) fn port_of(instance: &UnitName) -> Option<Port> {
    let number = instance.as_str().rsplit_once('@')?.1.strip_suffix(".service")?.parse().ok()?;
    Some(Port::of_this_host(number))
}

/// The port that an upstream's file leads to.
#[must_use]
pub fn port_in(text: &str) -> Option<u16> {
    let server = text.lines().find_map(|line| line.trim().strip_prefix("server 127.0.0.1:"))?;
    server.strip_suffix(';')?.parse().ok()
}

fn upstream(part: &str, app: &str, name: &UpstreamName, port: u16) -> String {
    format!(
        "# Leads to the instance of {part} that serves. Written by drover for app {app}; what is changed here is put back.\n\
         upstream {name} {{\n    server 127.0.0.1:{port};\n}}\n"
    )
}

impl Filler<'_> {
    /// The unit of systemd that a unit of the manifest is.
    pub(super) fn runs_as(&self, name: &UnitName) -> Result<UnitName, RenderError> {
        let own = self.desired.spec.units.get(name).and_then(|unit| unit.handover.as_ref());
        let Some(handover) = own else { return Ok(name.clone()) };
        let field = format!("units.{name}");
        let port = self.port_behind(&field, &handover.upstream)?;
        name.on_port(port).ok_or_else(|| error(&field, "has no instances"))
    }

    /// The container of Docker that a container of the manifest is, and what of it is published for an instance.
    pub(super) fn instance_of_container(
        &self,
        name: &ContainerName,
        container: &Container,
    ) -> Result<(ContainerName, Container), RenderError> {
        let mut spec = container.clone();
        let Some(own) = spec.handover.take() else { return Ok((name.clone(), spec)) };
        let field = format!("containers.{name}");
        let port = self.port_behind(&field, &own.upstream)?;
        let inside = own.container_port.ok_or_else(|| error(&field, "has no container_port"))?;
        spec.ports.insert(Publish { host: Port::of_this_host(port), container: inside });
        let instance = name.on_port(port).ok_or_else(|| error(&field, "has too long a name"))?;
        Ok((instance, spec))
    }

    /// The units to be told of something: of a template of this app its instances, and of another unit itself.
    pub(super) fn running_of(&self, name: &UnitName) -> BTreeSet<UnitName> {
        match self.desired.spec.units.get(name) {
            Some(unit) if unit.handover.is_none() => unit.runs_as(name),
            Some(_) | None => self.runs_as(name).into_iter().collect(),
        }
    }

    pub(super) fn unit_text(&self, field: &str, unit: &Unit) -> Result<String, RenderError> {
        let own = unit.handover.as_ref();
        unit.text.render(|hole| match (hole, own) {
            (Hole::Port, Some(own)) => self.port_behind(field, &own.upstream).map(|port| port.to_string()),
            _ => self.hole(field, hole),
        })
    }

    fn port_behind(&self, field: &str, upstream: &UpstreamName) -> Result<u16, RenderError> {
        let none = || error(field, format!("this host has no instance behind upstream {upstream}"));
        self.ports.get(upstream).copied().ok_or_else(none)
    }

    /// What a hole for a port outside of a unit stands for.
    pub(super) fn port(&self, field: &str, hole: &Hole) -> Result<u16, RenderError> {
        let named = match hole {
            Hole::PortOf(upstream) => Some(upstream),
            _ => self.desired.spec.handovers().map(|(_, own)| &own.upstream).next(),
        };
        self.port_behind(field, named.ok_or_else(|| error(field, "{{ port }} needs a part that hands over"))?)
    }

    /// Each with its upstream's file.
    pub(super) fn handovers(
        &self,
        layout: &Layout,
    ) -> Result<(BTreeMap<UpstreamName, RenderedHandover>, Vec<RenderedFile>), RenderError> {
        let (mut handovers, mut files) = (BTreeMap::new(), Vec::new());
        let spec = &self.desired.spec;
        for (part, own) in spec.handovers() {
            let field = part.field();
            let port = self.port_behind(&field, &own.upstream)?;
            let path = layout.upstream(&spec.app, &own.upstream).map_err(|e| error(&field, e.to_string()))?;
            let text = upstream(part.name(), spec.app.as_str(), &own.upstream, port);
            let nginx: UnitName = NGINX.parse().map_err(|_| error(&field, "nginx.service is no unit"))?;
            files.push(RenderedFile {
                path: path.clone(),
                kind: FileKind::Plain,
                digest: Digest::of(text.as_bytes()),
                bytes: Secret::new(text.clone().into_bytes()),
                masked: Some(text),
                secret: false,
                owner: root()?,
                group: root()?,
                mode: 0o644,
                validate: Some(Validate(["nginx", "-t"].map(Template::literal).to_vec())),
                reload: BTreeSet::from([nginx]),
                restart: BTreeSet::new(),
                adopt: false,
                drift: part.drift(),
                leads_to: Some((own.upstream.clone(), port)),
            });
            let (instance, plain) = match part {
                HandsOver::Unit(name, _) => (Instance::Unit(self.runs_as(name)?), Instance::Unit(name.clone())),
                HandsOver::Container(name, container) => {
                    let (instance, _) = self.instance_of_container(name, container)?;
                    (Instance::Container(instance), Instance::Container(name.clone()))
                }
            };
            let (drain, checks) = (own.drain, self.asking(own));
            let handover = RenderedHandover { part: plain, instance, port, drain, file: path, checks };
            handovers.insert(own.upstream.clone(), handover);
        }
        Ok((handovers, files))
    }

    /// The checks that name the port of one of them.
    fn asking(&self, own: &BlueGreen) -> BTreeSet<CheckName> {
        let asks = |template: &Template| {
            template.holes().any(|hole| match hole {
                // Nothing else may say it without its name.
                Hole::Port => true,
                Hole::PortOf(upstream) => *upstream == own.upstream,
                _ => false,
            })
        };
        let checks = self.desired.spec.checks.iter().filter(|(_, check)| match &check.probe {
            Probe::Http(http) => asks(&http.url) || http.headers.values().any(asks),
            Probe::Command { run, .. } => run.iter().any(asks),
            Probe::Tcp(_)
            | Probe::Unit(_)
            | Probe::Container(_)
            | Probe::Certificate(_)
            | Probe::File(_)
            | Probe::Disk(_) => false,
        });
        checks.map(|(name, _)| name.clone()).collect()
    }
}

/// A restart of what is replaced by another instance is such a replacement: the files that ask for one become files that it is
/// started with.
pub(super) fn take_restarts(
    files: &mut [RenderedFile],
    handovers: &BTreeMap<UpstreamName, RenderedHandover>,
) -> BTreeMap<UnitName, BTreeSet<AbsPath>> {
    let mut asked: BTreeMap<UnitName, BTreeSet<AbsPath>> = BTreeMap::new();
    for file in files {
        for handover in handovers.values() {
            if let Instance::Unit(instance) = &handover.instance
                && file.restart.remove(instance)
            {
                asked.entry(instance.clone()).or_default().insert(file.path.clone());
            }
        }
    }
    asked
}
