//! What the engine keeps of builds: listed by record, removed by record. For whom a build was made no engine says; `stock`
//! remembers which records came with drover's. Part of `docker`.

use std::collections::{BTreeSet, HashMap};

use bollard::query_parameters::PruneBuildOptionsBuilder;
use reqwest::{Client, StatusCode, redirect::Policy};
use serde::Deserialize;
use tokio::time::Instant;

use super::{ANSWER, DockerError, Engine, Result, SOCKET, WORK, within};

/// The oldest engines that can be asked for this alone; others would measure every volume to answer.
const SINCE: (u32, u32) = (1, 42);
/// The shape that is read here. Newer engines still speak it.
const SPOKEN: (u32, u32) = (1, 44);
/// Of an answer.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Records that are named in one request: they stand in its line.
const AT_ONCE: usize = 40;

/// A record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeldCache {
    /// In the engine's alphabet: letters and digits.
    pub id: String,
    /// What goes with it: nothing, when an image has it too.
    pub size_bytes: u64,
    /// A build that goes on uses it.
    pub in_use: bool,
    /// The records that it is made of. The engine keeps them as long as it keeps this one.
    pub parents: BTreeSet<String>,
    /// When it was made; Unix ms.
    pub since_unix_ms: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    build_cache: Option<Vec<Record>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    in_use: bool,
    #[serde(default)]
    shared: bool,
    #[serde(default)]
    parents: Option<Vec<String>>,
    #[serde(default)]
    created_at: Option<String>,
}

impl Engine {
    /// Every record; `None` = this engine does not say. bollard knows the answer of the newest engines only.
    pub async fn build_cache(&self) -> Result<Option<Vec<HeldCache>>> {
        let version = within(ANSWER, self.client()?.version()).await?.api_version.unwrap_or_default();
        let Some(version) = number(&version).filter(|version| *version >= SINCE) else { return Ok(None) };
        let (major, minor) = version.min(SPOKEN);
        let silent = |error: &dyn std::error::Error| DockerError::Silent(super::said(error));
        // The system's certificates are nobody's business here.
        let client = Client::builder().unix_socket(SOCKET).redirect(Policy::none()).http1_only().tls_certs_only([]);
        let client = client.timeout(WORK).build().map_err(|error| silent(&error))?;
        let url = format!("http://docker/v{major}.{minor}/system/df?type=build-cache");
        let answer = client.get(url).send().await.map_err(|error| silent(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(DockerError::Refused(format!("its build cache is not told: {}", answer.status())));
        }
        let text = whole(answer).await?;
        let usage: Usage = serde_json::from_slice(&text).map_err(|error| silent(&error))?;
        Ok(Some(usage.build_cache.unwrap_or_default().into_iter().filter_map(held).collect()))
    }

    /// Removes records; those that a build uses, or that others are made of, stay, and so does what there is no time for. Returns
    /// which have gone.
    pub async fn remove_cache(&self, ids: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let (client, until) = (self.client()?, Instant::now() + WORK);
        let (mut gone, mut left) = (BTreeSet::new(), ids.clone());
        loop {
            let before = left.len();
            for some in Vec::from_iter(left.clone()).chunks(AT_ONCE) {
                // The engine takes it for a pattern.
                let pattern = format!("^({})$", some.join("|"));
                let filters = HashMap::from([("id", vec![pattern.as_str()])]);
                let options = PruneBuildOptionsBuilder::new().all(true).filters(&filters).build();
                let removed = within(WORK, client.prune_build(Some(options))).await?.caches_deleted;
                gone.extend(removed.into_iter().flatten().filter(|id| left.remove(id)));
            }
            // What others were made of may go once those have gone.
            if left.is_empty() || left.len() == before || Instant::now() >= until {
                return Ok(gone);
            }
        }
    }
}

/// `1.44` as numbers.
fn number(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// One whose id could be anything else is left alone: it would stand in a pattern.
fn held(record: Record) -> Option<HeldCache> {
    let Record { id, size, in_use, shared, parents, created_at } = record;
    let is_plain = !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let size_bytes = if shared { 0 } else { u64::try_from(size).unwrap_or(0) };
    let since = created_at.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let since_unix_ms = since.map(jiff::Timestamp::as_millisecond);
    let parents = parents.into_iter().flatten().collect();
    is_plain.then_some(HeldCache { id, size_bytes, in_use, parents, since_unix_ms })
}

async fn whole(mut answer: reqwest::Response) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| DockerError::Silent(super::said(&error)))? {
        if text.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(DockerError::Refused("its build cache has too many records".to_owned()));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    //! The engine's answer, and what of it could not be named again.
    use super::*;

    #[test]
    fn records_are_read_and_strange_ids_left_alone() {
        let text = r#"{ "LayersSize": 0, "BuildCache": [
            { "ID": "ab12", "Parents": ["x"], "Type": "regular", "InUse": false, "Shared": false, "Size": 5,
              "CreatedAt": "1970-01-01T00:00:07.5Z", "UsageCount": 1 },
            { "ID": "cd34", "InUse": true, "Shared": true, "Size": 7 }, { "ID": "a|.*", "Size": 9 }, { "ID": "" } ] }"#;
        let usage: Usage = serde_json::from_str(text).unwrap();
        let all: Vec<HeldCache> = usage.build_cache.unwrap().into_iter().filter_map(held).collect();
        let ab12 = HeldCache {
            id: "ab12".to_owned(),
            size_bytes: 5,
            in_use: false,
            parents: ["x".to_owned()].into(),
            since_unix_ms: Some(7_500),
        };
        let cd34 = HeldCache { id: "cd34".to_owned(), in_use: true, ..HeldCache::default() };
        assert_eq!(all, [ab12, cd34]);
        assert_eq!((number("1.45"), number("1.41").filter(|version| *version >= SINCE)), (Some((1, 45)), None));
        assert_eq!((number("2.0").map(|version| version.min(SPOKEN)), number("x")), (Some(SPOKEN), None));
    }
}
