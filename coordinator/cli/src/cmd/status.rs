//! `drover status`, `drover checks` and `drover why`.

use std::collections::BTreeMap;

use drover_proto::{name::AppName, view::HostDetail};

use crate::{
    args::Output,
    client::{Client, Document},
    fault::{Exit, Fault, Outcome},
    show::{self, why::Journals},
};

/// Of an app's journal so many lines are asked for, and so many of one unit shown.
const LINES: (u32, usize) = (200, 10);

/// Every app, or one part by part.
pub async fn status(app: Option<&AppName>, output: Output) -> Outcome {
    let status = Client::connect().await?.status(app).await?;
    show::document(output, &status, |apps| show::status::text(apps, app.is_some()))?;
    Ok(Exit::Done)
}

/// Every check on every host, or only those that fail. Ends with 1 when one fails, or is not known as it is now.
pub async fn checks(app: Option<&AppName>, failing: bool, output: Output) -> Outcome {
    let status = Client::connect().await?.status(app).await?;
    let all = show::checks::of(&status.value, failing);
    let json = serde_json::to_value(&all).map_err(|error| Fault::io("cannot write the checks", &error.into()))?;
    let unknown = show::checks::unknown(&status.value);
    let is_bad = !unknown.is_empty() || all.iter().any(|check| !check.passing);
    show::document(output, &Document { value: all, json }, |all| show::checks::text(all, &unknown, failing))?;
    Ok(if is_bad { Exit::Error } else { Exit::Done })
}

/// The story of a host.
pub async fn why(host: &str, app: Option<&AppName>, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    let detail = client.host(host).await?;
    let mut journals = Journals::new();
    if output == Output::Table {
        for app in show::why::untold(&detail.value, app) {
            match journal(&mut client, app, &detail.value).await {
                Ok(said) => drop(journals.insert(app.clone(), said)),
                // The story goes on without it.
                Err(fault) => show::note(&format!("the journal of {app} cannot be read just now: {}", fault.message)),
            }
        }
    }
    show::document(output, &detail, |detail| show::why::text(detail, app, &journals, show::time::now_ms()))?;
    Ok(Exit::Done)
}

/// What each unit of the app said last.
async fn journal(
    client: &mut Client,
    app: &AppName,
    detail: &HostDetail,
) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let (asked, shown) = LINES;
    let mut stream = client.logs(app, Some(detail.host.id.as_str()), false, asked).await?;
    let mut units: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(line) = stream.message().await.map_err(|status| client.fault(&status))? {
        units.entry(line.unit).or_default().push(format!("{} {}", show::time::clock(line.unix_ms), line.text));
    }
    units.values_mut().for_each(|lines| drop(lines.drain(..lines.len().saturating_sub(shown))));
    Ok(units)
}
