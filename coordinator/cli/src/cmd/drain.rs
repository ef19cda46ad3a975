//! `drover hosts drain`: a host lets its apps go, watched until they are gone.

use std::{collections::BTreeMap, time::Duration};

use drover_proto::{code::Code, name::AppName, status::Phase, view::HostDetail};
use tokio::time::{Instant, sleep};

use crate::{
    args::{FollowArgs, Output},
    client::{Client, Document},
    fault::{Exit, Fault, Outcome},
    show::{self, time::now_ms},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Takes all apps from a host and waits until they are gone. Interrupted or out of time, the host goes on by itself.
pub async fn drain(client: &mut Client, host: &str, follow: FollowArgs, output: Output) -> Outcome {
    client.drain_host(host).await?;
    let until = follow.timeout.map(|span| Instant::now() + span.as_duration());
    let (mut said, mut away) = (BTreeMap::new(), false);
    loop {
        let detail = client.host(host).await?;
        let left = left(&detail.value);
        if left.is_empty() || follow.detach {
            return ended(&detail, output);
        }
        if !detail.value.host.connected && !std::mem::replace(&mut away, true) {
            show::note(&format!("{host} is not connected: its apps go when it is back"));
        }
        for (app, words) in &left {
            if said.get(app) != Some(words) {
                show::note(&format!("{app}: {}", show::plain(words)));
            }
        }
        said = left;
        if let Some(failed) = failed(&detail.value) {
            return Err(failed);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            show::note("the time to watch is over; the host goes on by itself: drover hosts show tells how far it is");
            return Ok(Exit::Timeout);
        }
        sleep(LOOK_EVERY).await;
    }
}

fn ended(detail: &Document<HostDetail>, output: Output) -> Outcome {
    show::document(output, detail, |host| show::fleet::host(host, now_ms()))?;
    Ok(Exit::Done)
}

/// What the host has not said to be gone, in words.
fn left(host: &HostDetail) -> BTreeMap<AppName, String> {
    let there = host.apps_status.iter().filter(|(_, status)| status.phase != Phase::Removed);
    let words = |phase: &Phase| match phase {
        Phase::Removing { step } => step.clone(),
        Phase::Failed { cause } => cause.clone(),
        _ => "waiting".to_owned(),
    };
    there.map(|(app, status)| (app.clone(), words(&status.phase))).collect()
}

/// An app that the host has tried to let go and could not.
fn failed(host: &HostDetail) -> Option<Fault> {
    let gone = |desired: &Option<_>| desired.is_none();
    let (app, status, cause) = host.apps_status.iter().find_map(|(app, status)| match &status.phase {
        Phase::Failed { cause } if gone(&status.desired) => Some((app, status, cause)),
        _ => None,
    })?;
    let code = status.failure.as_ref().map_or(Code::Internal, |failure| failure.code);
    let message = format!("{app} cannot be removed from {}: {}", host.host.name, show::plain(cause));
    Some(Fault::new(code, message).hint("the host tries again by itself; drover why HOST tells more"))
}
