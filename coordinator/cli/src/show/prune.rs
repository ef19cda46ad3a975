//! The table of `drover prune`: a line for each thing on each host, and how much has gone or would go.

use comfy_table::Cell;
use drover_proto::{
    bytes::Bytes,
    prune::{HostPruneOutcome, PruneReport, PruneVerdict, PruneView},
};
use owo_colors::OwoColorize as _;

use super::{
    count, plain, short,
    table::{finish, state_cell, table},
    time::relative_or_dash,
};

/// The whole answer.
#[must_use]
pub fn view(view: &PruneView, now_unix_ms: i64) -> String {
    let mut rows = table(&["HOST", "KIND", "WHAT", "APP", "SIZE", "SINCE", "VERDICT", "REASON"]);
    let mut below = String::new();
    for host in &view.hosts {
        let report = match &host.outcome {
            HostPruneOutcome::Pruned(report) => report,
            HostPruneOutcome::Error(why) => {
                below.push_str(&format!("{}: {} {}\n", host.host, "no answer:".red(), plain(why)));
                continue;
            }
        };
        for item in &report.items {
            let (word, reason) = in_words(&item.verdict);
            rows.add_row(vec![
                Cell::new(&host.host),
                Cell::new(short(&item.kind.to_string())),
                Cell::new(short(&item.name)),
                Cell::new(item.app.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
                Cell::new(item.size_bytes.map_or_else(|| "-".to_owned(), |bytes| Bytes(bytes).to_string())),
                Cell::new(relative_or_dash(item.since_unix_ms, now_unix_ms)),
                state_cell(word),
                Cell::new(plain(reason)),
            ]);
        }
        below.push_str(&format!("{}: {}\n", host.host, summary(report, view.planned)));
    }
    format!("{}\n{below}{}", finish(&rows, "nothing of drover's or others' that could go"), total(view))
}

/// Whether something that was to go has stayed.
#[must_use]
pub fn failed(report: &PruneReport) -> bool {
    report.items.iter().any(|item| matches!(item.verdict, PruneVerdict::Failed(_)))
}

fn in_words(verdict: &PruneVerdict) -> (&str, &str) {
    match verdict {
        PruneVerdict::Goes => ("goes", ""),
        PruneVerdict::Gone => ("gone", ""),
        PruneVerdict::Failed(why) => ("failed", why),
        PruneVerdict::Kept { reason, .. } => ("kept", reason),
    }
}

fn summary(report: &PruneReport, planned: bool) -> String {
    let held = Bytes(report.held_bytes);
    let budget = match report.budget_bytes {
        Some(budget) => format!("disk_budget is {}", Bytes(budget)),
        None => "no disk_budget is set there".to_owned(),
    };
    let goes = if planned { "would go" } else { "have gone" };
    let left_out = match report.left_out {
        0 => String::new(),
        number => format!("; {} that stay are not listed", count(number, "thing")),
    };
    format!("drover holds {held}, {budget}; {} {goes}{left_out}", Bytes(report.freed_bytes))
}

fn total(view: &PruneView) -> String {
    let reports = view.hosts.iter().filter_map(|host| match &host.outcome {
        HostPruneOutcome::Pruned(report) => Some(report),
        HostPruneOutcome::Error(_) => None,
    });
    let freed: Vec<u64> = reports.map(|report| report.freed_bytes).collect();
    let (hosts, freed) = (freed.len(), freed.into_iter().fold(0, u64::saturating_add));
    let word = if view.planned { "would be freed" } else { "freed" };
    format!("{} {word} on {}\n", Bytes(freed), count(hosts, "host"))
}

#[cfg(test)]
mod tests {
    //! A line per thing, and hosts that could not be asked below.
    use drover_proto::prune::{Because, HostPrune, PruneItem, PruneKind};

    use super::*;
    use crate::show::tests::bare;

    fn item(name: &str, verdict: PruneVerdict) -> PruneItem {
        let app = Some("shop".parse().unwrap());
        let (size_bytes, since_unix_ms) = (Some(3 << 20), Some(0));
        PruneItem { kind: PruneKind::Image, name: name.to_owned(), app, size_bytes, since_unix_ms, verdict }
    }

    #[test]
    fn each_thing_has_its_line_and_no_host_is_hidden() {
        let kept = PruneVerdict::Kept { because: Because::Runs, reason: "app shop runs it".to_owned() };
        let report = PruneReport {
            budget_bytes: Some(4 << 20),
            held_bytes: 6 << 20,
            freed_bytes: 3 << 20,
            items: vec![item("shop/web@1", PruneVerdict::Goes), item("shop/web@2", kept)],
            left_out: 2,
        };
        assert!(!failed(&report));
        let host = |name: &str, outcome| HostPrune { host: name.parse().unwrap(), outcome };
        let hosts = vec![
            host("web-1", HostPruneOutcome::Pruned(report)),
            host("web-2", HostPruneOutcome::Error("the host is not connected".to_owned())),
        ];
        let expected = "\
HOST   KIND   WHAT        APP   SIZE   SINCE    VERDICT  REASON
web-1  image  shop/web@1  shop  3 MiB  60s ago  goes
web-1  image  shop/web@2  shop  3 MiB  60s ago  kept     app shop runs it

web-1: drover holds 6 MiB, disk_budget is 4 MiB; 3 MiB would go; 2 things that stay are not listed
web-2: no answer: the host is not connected
3 MiB would be freed on 1 host
";
        assert_eq!(bare(&view(&PruneView { planned: true, hosts }, 60_000)), expected);
    }
}
