//! Reads how a unit or a container is replaced: stopped and started, or by another instance beside it. Beside `unit`.

use drover_proto::{app::BlueGreen, duration::Span, name::UpstreamName};

use super::{Decoder, span};
use crate::manifest::yaml::Node;

/// Fields that go only with `handover: blue_green`.
const OWN: [&str; 3] = ["upstream", "drain", "container_port"];
/// For so long the one before may finish what it has begun, unless said otherwise.
const DRAIN: Span = Span::from_secs(30);

impl Decoder<'_> {
    /// `None`: it is stopped and started. `stem`: its name, of a unit without the suffix.
    pub(super) fn handover(&mut self, stem: &str, node: &Node) -> Option<BlueGreen> {
        let word = node.get("handover").and_then(Node::scalar).map(|scalar| scalar.text.as_str());
        if word != Some("blue_green") {
            for field in OWN {
                if let Some(stray) = node.get(field) {
                    self.reports.at(
                        stray,
                        format!("{field} belongs to handover: blue_green"),
                        "add that, or remove this",
                    );
                }
            }
            return None;
        }
        let drain = if node.get("drain").is_some() { span(node, "drain")? } else { DRAIN };
        let upstream = match node.get("upstream") {
            Some(upstream) => self.name(upstream)?,
            None => self.upstream_of(stem, node)?,
        };
        let port = node.get("container_port").and_then(Node::scalar);
        let container_port = port.and_then(|scalar| scalar.text.parse().ok());
        Some(BlueGreen { upstream, drain, container_port })
    }

    fn upstream_of(&mut self, stem: &str, node: &Node) -> Option<UpstreamName> {
        match stem.parse() {
            Ok(upstream) => Some(upstream),
            Err(_) => {
                let place = node.get("handover").unwrap_or(node);
                let hint = "say upstream: NAME, a lower-case letter, then letters, digits, '-' and '_', at most 40";
                self.reports.at(place, format!("{stem} is no name for an upstream of nginx"), hint);
                None
            }
        }
    }
}
