//! Reads what a check looks at, and what it has restarted. Beside `health`.

use drover_proto::{
    app::{CertificateAt, CertificateProbe, DiskProbe, FileProbe, Probe, RestartOf},
    name::{ContainerName, UnitName},
};

use super::{Decoder, host::bytes, span};
use crate::manifest::{
    diagnostic::did_you_mean,
    holes::Allow,
    yaml::{Node, Value},
};

const KINDS: [&str; 8] = ["http", "tcp", "command", "unit", "container", "certificate", "file", "disk"];

impl Decoder<'_> {
    pub(super) fn probe(&mut self, node: &Node) -> Option<Probe> {
        if !matches!(node.value, Value::Map(_)) {
            return None;
        }
        let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| node.get(kind).is_some()).collect();
        let [kind] = kinds[..] else {
            let message = if kinds.is_empty() {
                "says nothing to look at".into()
            } else {
                format!("has {}", kinds.join(" and "))
            };
            self.reports.at(node, message, format!("a check has exactly one of {}", KINDS.join(", ")));
            return None;
        };
        for (field, owner) in [("header", "http"), ("expect", "http"), ("user", "command")] {
            if let Some(stray) = node.get(field).filter(|_| kind != owner) {
                self.reports.at(stray, format!("{field} belongs to {owner}, and this check has {kind}"), "remove it");
            }
        }
        let target = node.get(kind)?;
        match kind {
            "http" => self.http(node, target).map(Probe::Http),
            "tcp" => self.plain(target).map(Probe::Tcp),
            "unit" => self.name(target).map(Probe::Unit),
            "container" => self.name(target).map(Probe::Container),
            "certificate" => self.certificate_probe(target).map(Probe::Certificate),
            "file" => self.file_probe(target).map(Probe::File),
            "disk" => self.disk_probe(target).map(Probe::Disk),
            _ => {
                let run = self.argv(target, Allow::PORT);
                if node.get("user").is_none() {
                    self.reports.at(node, "a command needs its user", "add user: nobody, or the user of the app");
                }
                Some(Probe::Command { run, user: self.name_of(node, "user")? })
            }
        }
    }

    fn certificate_probe(&mut self, node: &Node) -> Option<CertificateProbe> {
        let min_left = span(node, "min_left")?;
        let at = match (node.get("file"), node.get("endpoint")) {
            (Some(file), None) => {
                if let Some(stray) = node.get("server_name") {
                    self.reports.at(stray, "server_name belongs to endpoint, and this check has file", "remove it");
                }
                CertificateAt::File(self.name(file)?)
            }
            (None, Some(endpoint)) => {
                let server_name = node.get("server_name").map(|name| self.plain(name));
                let (address, server_name) =
                    (self.plain(endpoint)?, server_name.map_or(Some(None), |it| it.map(Some))?);
                CertificateAt::Endpoint { address, server_name }
            }
            (file, _) => {
                let said = if file.is_some() { "has file and endpoint" } else { "says no certificate" };
                self.reports.at(node, said, "a certificate is found in a file, or at an endpoint (host:port)");
                return None;
            }
        };
        Some(CertificateProbe { at, min_left })
    }

    fn file_probe(&mut self, node: &Node) -> Option<FileProbe> {
        let mut min_size_bytes = None;
        if let Some(size) = node.get("min_size")
            && let Some(text) = self.plain(size)
        {
            min_size_bytes = bytes(&text);
            if min_size_bytes.is_none() {
                self.reports.at(size, format!("{text:?} is no size"), "write bytes, or a number with K, M, G or T");
            }
        }
        Some(FileProbe { path: self.name_of(node, "path")?, max_age: span(node, "max_age")?, min_size_bytes })
    }

    fn disk_probe(&mut self, node: &Node) -> Option<DiskProbe> {
        let path = self.name_of(node, "path");
        let most = node.get("max_used")?;
        let text = self.plain(most)?;
        let max_used = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
        if max_used.is_none() {
            self.reports.at(most, format!("{text:?} is no percentage"), "write a whole number and %, such as 90%");
        }
        Some(DiskProbe { path: path?, max_used: max_used? })
    }

    /// What a failing check has restarted: a container of the manifest, or else a unit.
    pub(super) fn restarted(&mut self, node: &Node, root: &Node) -> Option<RestartOf> {
        let text = self.plain(node)?;
        let own = |key: &str| root.get(key).into_iter().flat_map(Node::entries).map(|(name, _)| name.text.as_str());
        if own("containers").any(|name| name == text) {
            return self.parse::<ContainerName>(node, &text).map(RestartOf::Container);
        }
        if let Ok(unit) = text.parse::<UnitName>() {
            return Some(RestartOf::Unit(unit));
        }
        let hint = did_you_mean(&text, own("units").chain(own("containers"))).map_or_else(
            || "name one of them, such as mono.service".to_owned(),
            |word| format!("did you mean {word}?"),
        );
        self.reports.at(node, format!("{text:?} is no unit or container of this app"), hint);
        None
    }
}
