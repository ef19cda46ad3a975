//! `drover events`: what happened, and what happens. Followed over lost connections, by the events' numbers.

use std::time::Duration;

use drover_proto::{duration::Span, name::AppName, view::EventView};
use tokio::time::sleep;

use crate::{
    args::Output,
    client::{Client, Document, EventsRequest, document, error},
    fault::{Exit, Fault, Outcome},
    show,
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which events.
pub struct Wanted {
    /// Only of this host.
    pub host: Option<String>,
    /// Only of this app.
    pub app: Option<AppName>,
    /// Only what happened within it.
    pub since: Option<Span>,
    /// The newest, to begin with.
    pub limit: u32,
}

/// Prints the newest; with `follow` goes on until interrupted.
pub async fn events(wanted: Wanted, follow: bool, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    let since = wanted.since.map(|span| i64::try_from(span.as_ms()).unwrap_or(i64::MAX));
    let request = EventsRequest {
        host: wanted.host.unwrap_or_default(),
        app: wanted.app.map(|app| app.to_string()).unwrap_or_default(),
        since_unix_ms: since.map_or(0, |span_ms| show::time::now_ms().saturating_sub(span_ms).max(1)),
        limit: wanted.limit,
        follow,
        after_id: 0,
    };
    if follow {
        return go_on(&mut client, request, |batch| each(batch, output)).await;
    }
    let mut stream = client.events(request).await.map_err(|status| client.fault(&status))?;
    let (mut all, mut json) = (Vec::new(), Vec::new());
    while let Some(view) = stream.message().await.map_err(|status| client.fault(&status))? {
        let batch: Document<Vec<EventView>> = document(&view.json)?;
        all.extend(batch.value);
        json.extend(batch.json.as_array().cloned().unwrap_or_default());
    }
    show::document(output, &Document { value: all, json: json.into() }, |all| show::events::events(all))?;
    Ok(Exit::Done)
}

/// One line each.
fn each(batch: &Document<Vec<EventView>>, output: Output) -> Result<(), Fault> {
    match output {
        Output::Table => batch.value.iter().try_for_each(|event| show::print(&show::events::line(event))),
        Output::Json => {
            let all = batch.json.as_array().into_iter().flatten();
            all.into_iter().try_for_each(|event| show::print(&format!("{event}\n")))
        }
    }
}

/// Every event as it comes, and none twice, over lost connections.
async fn go_on(
    client: &mut Client,
    mut request: EventsRequest,
    mut print: impl FnMut(&Document<Vec<EventView>>) -> Result<(), Fault>,
) -> Outcome {
    let (mut pause, mut is_lost, mut was_up) = (FIRST_PAUSE, false, false);
    loop {
        match client.events(request.clone()).await {
            Ok(mut stream) => {
                was_up = true;
                let ended = loop {
                    match stream.message().await {
                        Ok(Some(view)) => {
                            if std::mem::take(&mut is_lost) {
                                show::note("connected to the coordinator again");
                            }
                            pause = FIRST_PAUSE;
                            let batch: Document<Vec<EventView>> = document(&view.json)?;
                            request.after_id = batch.value.last().map_or(request.after_id, |event| event.id);
                            print(&batch)?;
                        }
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                };
                if let Some(status) = ended.filter(|status| !error::is_lost_connection(status)) {
                    return Err(client.fault(&status));
                }
            }
            // The first call fails at once: nothing says yet that there is a coordinator at all.
            Err(status) if !was_up || !error::is_lost_connection(&status) => return Err(client.fault(&status)),
            Err(_) => {}
        }
        if !std::mem::replace(&mut is_lost, true) {
            show::note("lost the connection to the coordinator; trying again …");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests;
