//! Tables of what has happened: rollouts and releases.

use comfy_table::Cell;
use drover_proto::view::{ReleaseView, RolloutSummary};

use super::{
    plain,
    table::{finish, state_cell, table},
    time::{relative, relative_or_dash},
};

/// `drover rollout list`.
#[must_use]
pub fn rollouts(rollouts: &[RolloutSummary], now_unix_ms: i64) -> String {
    let mut rows = table(&["ID", "APP", "RELEASE", "KIND", "STATE", "HOSTS", "STARTED", "BY", "REASON"]);
    for rollout in rollouts {
        let hosts: Vec<String> = rollout.hosts.iter().map(|(word, number)| format!("{number} {word}")).collect();
        rows.add_row(vec![
            Cell::new(rollout.id),
            Cell::new(&rollout.app),
            Cell::new(rollout.release.map_or_else(|| "-".to_owned(), |n| n.to_string())),
            Cell::new(&rollout.kind),
            state_cell(rollout.state.word()),
            Cell::new(hosts.join(", ")),
            Cell::new(relative(rollout.started_unix_ms, now_unix_ms)),
            Cell::new(&rollout.started_by),
            Cell::new(rollout.state.reason().map(|r| plain(&r)).unwrap_or_default()),
        ]);
    }
    finish(&rows, "no rollouts")
}

/// `drover releases`.
#[must_use]
pub fn releases(releases: &[ReleaseView], now_unix_ms: i64) -> String {
    let mut rows = table(&["RELEASE", "HOSTS", "LAST GOOD", "CREATED", "BY", "DIGEST"]);
    for release in releases {
        let digest = release.digest.strip_prefix("sha256:").unwrap_or(&release.digest);
        rows.add_row(vec![
            Cell::new(format!("{}/{}", release.app, release.number)),
            Cell::new(release.hosts),
            Cell::new(relative_or_dash(release.good_unix_ms, now_unix_ms)),
            Cell::new(relative(release.created_unix_ms, now_unix_ms)),
            Cell::new(&release.created_by),
            Cell::new(digest.chars().take(12).collect::<String>()),
        ]);
    }
    finish(&rows, "no releases")
}

#[cfg(test)]
mod tests {
    //! A line per rollout and release.
    use super::*;
    use crate::show::{rollout::tests::view, tests::bare};

    #[test]
    fn rollouts_and_releases_are_listed() {
        let mut summary = view(drover_proto::rollout::RolloutState::Succeeded, vec![]).summary;
        summary.hosts = [("healthy".to_owned(), 3)].into();
        let expected = "\
ID  APP   RELEASE  KIND   STATE      HOSTS      STARTED  BY   REASON
7   mono  17       apply  succeeded  3 healthy  60s ago  ada
";
        assert_eq!(bare(&rollouts(&[summary], 60_000)), expected);
        let release = ReleaseView {
            app: "mono".parse().unwrap(),
            number: 17,
            digest: format!("sha256:{}", "ab".repeat(32)),
            created_unix_ms: 0,
            created_by: "ada".to_owned(),
            good_unix_ms: None,
            hosts: 3,
        };
        let expected = "\
RELEASE  HOSTS  LAST GOOD  CREATED  BY   DIGEST
mono/17  3      -          60s ago  ada  abababababab
";
        assert_eq!(bare(&releases(&[release], 60_000)), expected);
    }
}
