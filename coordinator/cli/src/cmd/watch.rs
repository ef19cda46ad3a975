//! Following a rollout to its end, over lost connections, until it is final, `--timeout` is over or Ctrl-C. None of these
//! touches the rollout itself: it lives in the coordinator.

use std::time::Duration;

use drover_proto::{duration::Span, name::RolloutId, view::RolloutView};
use tokio::time::sleep;

use crate::{
    args::{FollowArgs, Output},
    client::{Client, Document, RolloutStarted, document, error},
    fault::{Exit, Fault, Outcome},
    show::{
        self,
        progress::{Progress, Sink},
    },
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Goes on from what the coordinator answered to `apply`, `rollback` or `remove`.
pub async fn started(client: &mut Client, started: &RolloutStarted, args: FollowArgs, output: Output) -> Outcome {
    let id = started.rollout_id;
    if id != 0 && !args.detach {
        if !started.message.is_empty() {
            show::note(&show::plain(&started.message));
        }
        return watch(client, id, args.timeout, output, true).await;
    }
    match output {
        Output::Json => show::json(&serde_json::json!({
            "rollout_id": id, "release": started.release, "message": started.message,
        }))?,
        Output::Table if id == 0 => {
            show::print(&format!("{}\n", nothing(&show::plain(&started.message))))?;
        }
        Output::Table => show::print(&format!("rollout {id} has begun; watch it with: drover rollout watch {id}\n"))?,
    }
    Ok(Exit::Done)
}

/// Watches rollout `id`; done only when it succeeded.
pub async fn follow(client: &mut Client, id: RolloutId, timeout: Option<Span>, output: Output) -> Outcome {
    watch(client, id, timeout, output, false).await
}

/// `nothing to do`, with what the coordinator says about it.
fn nothing(message: &str) -> String {
    match message {
        "" => "nothing to do".to_owned(),
        said if said.contains("nothing to do") => said.to_owned(),
        said => format!("nothing to do: {said}"),
    }
}

/// `is_known`: the coordinator has just begun it, so that a failure of the first call is a lost connection too.
async fn watch(client: &mut Client, id: RolloutId, timeout: Option<Span>, output: Output, is_known: bool) -> Outcome {
    let sink = if output == Output::Json { Sink::Errors } else { Sink::Output };
    let mut progress = Progress::new(show::is_live(), sink);
    let ended = tokio::select! {
        biased;
        ended = to_the_end(client, id, &mut progress, is_known) => ended.map(Ok),
        exit = given_up(timeout) => exit.map(Err),
    };
    progress.finish();
    match ended? {
        Ok(last) => {
            show::document(output, &last, show::rollout::text)?;
            Ok(show::rollout::exit(&last.value.summary.state))
        }
        Err(exit) => {
            let why = if exit == Exit::Timeout { "the time to watch is over; " } else { "" };
            show::note(&format!("{why}the rollout goes on: drover rollout watch {id}"));
            Ok(exit)
        }
    }
}

/// Ends when the operator no longer wants to watch.
async fn given_up(timeout: Option<Span>) -> Result<Exit, Fault> {
    let over = async {
        match timeout {
            Some(span) => sleep(span.as_duration()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        signal = tokio::signal::ctrl_c() => match signal {
            Ok(()) => Ok(Exit::Interrupted),
            Err(error) => Err(Fault::io("cannot wait for Ctrl-C", &error)),
        },
        () = over => Ok(Exit::Timeout),
    }
}

/// Shows every view until the final one. A lost connection is said once and taken up again with back-off.
async fn to_the_end(
    client: &mut Client,
    id: RolloutId,
    progress: &mut Progress,
    is_known: bool,
) -> Result<Document<RolloutView>, Fault> {
    let mut pause = FIRST_PAUSE;
    let mut is_lost = false;
    let mut has_watched = is_known;
    loop {
        let mut stream = match client.watch(id).await {
            Ok(stream) => stream,
            // The first call fails at once: nothing says yet that there is a coordinator at all.
            Err(status) if !has_watched || !error::is_lost_connection(&status) => return Err(client.fault(&status)),
            Err(_) => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        has_watched = true;
        loop {
            match stream.message().await {
                Ok(Some(view)) => {
                    if std::mem::take(&mut is_lost) {
                        progress.remark("connected to the coordinator again");
                    }
                    pause = FIRST_PAUSE;
                    let view: Document<RolloutView> = document(&view.json)?;
                    progress.show(&view.value)?;
                    if view.value.summary.state.is_final() {
                        return Ok(view);
                    }
                }
                // It ends without a final state when the coordinator is being stopped.
                Ok(None) => break,
                Err(status) if error::is_lost_connection(&status) => break,
                Err(status) => return Err(client.fault(&status)),
            }
        }
        if !std::mem::replace(&mut is_lost, true) {
            progress.remark("lost the connection to the coordinator; the rollout goes on by itself; trying again …");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests;
