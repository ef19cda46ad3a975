//! Reads `files`, and the content of files and verbatim units: inline, or from beside the manifest.

use std::{fs, io::Read, path::Path};

use base64::Engine;
use drover_proto::{
    app::{Content, FilePart},
    limits,
    template::Template,
};

use super::{Decoder, drift, flag, mode};
use crate::manifest::{diagnostic::Source, holes::Allow, yaml::Node};

impl Decoder<'_> {
    pub(super) fn files(&mut self, root: &Node) -> Vec<FilePart> {
        let mut files = Vec::new();
        for item in root.get("files").into_iter().flat_map(Node::items) {
            if let Some(file) = self.file(item) {
                self.origin(format!("files[{}]", files.len()), item);
                files.push(file);
            }
        }
        files
    }

    fn file(&mut self, node: &Node) -> Option<FilePart> {
        let path = self.name_of(node, "path");
        let owners = self.owners(node);
        let content = self.file_content(node).unwrap_or(Content::Text(Template::default()));
        let validate = node.get("validate").map(|argv| self.argv(argv, Allow::VALIDATE));
        let (reload, restart) = (self.names(node.get("reload")), self.names(node.get("restart")));
        let (owner, group) = owners?;
        Some(FilePart {
            path: path?,
            content,
            owner,
            group,
            mode: mode(node),
            validate,
            reload,
            restart,
            adopt: flag(node, "adopt"),
            drift: drift(node),
        })
    }

    fn file_content(&mut self, node: &Node) -> Option<Content> {
        let template = flag(node, "template");
        match (node.get("from"), node.get("content")) {
            (Some(from), None) => self.content_from(from, template.then_some(Allow::SECRET)),
            (None, Some(inline)) => {
                let text = &inline.scalar()?.text;
                if text.len() > limits::MAX_FILE_BYTES {
                    self.too_large(inline);
                }
                if template {
                    self.template(inline, Allow::SECRET).map(Content::Text)
                } else {
                    Some(Content::Text(Template::literal(text)))
                }
            }
            (Some(_), Some(inline)) => {
                self.reports.at(inline, "has both from and content", "keep one of the two");
                None
            }
            (None, None) => {
                if matches!(node.value, crate::manifest::yaml::Value::Map(_)) {
                    self.reports.at(node, "says nothing about the file's content", "add from: PATH or content: TEXT");
                }
                None
            }
        }
    }

    fn too_large(&mut self, node: &Node) {
        let most = limits::MAX_FILE_BYTES >> 10;
        self.reports.at(node, format!("has more than {most} KiB"), "put it into the artifact");
    }

    /// The content of a file beside the manifest; text with holes, or as it is when `allow` is `None` or it is not text.
    pub(super) fn content_from(&mut self, node: &Node, allow: Option<Allow>) -> Option<Content> {
        let text = self.plain(node)?;
        let bytes = match self.folder.find(&text).and_then(|path| read(&path, &text)) {
            Ok(bytes) if bytes.len() > limits::MAX_FILE_BYTES => {
                self.too_large(node);
                return None;
            }
            Ok(bytes) => bytes,
            Err((message, hint)) => {
                self.reports.at(node, message, hint);
                return None;
            }
        };
        let content = match String::from_utf8(bytes) {
            Ok(content) if !content.contains('\0') => content,
            Ok(content) => return Some(binary(content.as_bytes())),
            Err(error) => return Some(binary(error.as_bytes())),
        };
        let Some(allow) = allow else { return Some(Content::Text(Template::literal(content))) };
        let (template, faults) = self.names.template(&content, allow);
        let source = Source { file: self.folder.shown(&text), text: content };
        let good = faults.is_empty();
        for fault in faults {
            self.reports.at_file(node, &source, fault.offset, fault.message, fault.hint);
        }
        good.then_some(Content::Text(template))
    }
}

fn binary(bytes: &[u8]) -> Content {
    Content::Base64(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// At most one byte more than the limit.
fn read(path: &Path, text: &str) -> Result<Vec<u8>, (String, String)> {
    let metadata = fs::metadata(path).map_err(|error| (format!("{text} cannot be read: {error}"), String::new()))?;
    if !metadata.is_file() {
        let hint = "name one file; a tree of files goes into the artifact";
        return Err((format!("{text} is not a file"), hint.into()));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(limits::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| (format!("{text} cannot be read: {error}"), String::new()))?;
    Ok(bytes)
}
