//! `drover alerts`, `silence` and `notify`: what is wrong, who is told, and who is not for a while.

use drover_proto::name::AppName;

use crate::{
    args::{NotifyCommand, Output, SilenceCommand},
    client::Client,
    fault::{Exit, Outcome},
    show::{self, time::now_ms},
};

/// `drover alerts`. Ends with 1 when one fires and is not held back.
pub async fn alerts(host: Option<&str>, app: Option<&AppName>, output: Output) -> Outcome {
    let view = Client::connect().await?.alerts(host, app).await?;
    show::document(output, &view, |view| show::alerts::alerts(view, now_ms()))?;
    let well = view.value.alerts.iter().all(|alert| !show::alerts::counts(alert));
    Ok(if well { Exit::Done } else { Exit::Error })
}

/// `drover silence …`
pub async fn silence(command: SilenceCommand, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    match command {
        SilenceCommand::List => {
            let silences = client.silences().await?;
            show::document(output, &silences, |silences| show::alerts::silences(silences, now_ms()))?;
        }
        SilenceCommand::Add { matchers, lasts, reason, begins } => {
            let silence = client.add_silence(matchers, lasts, reason, begins).await?;
            show::document(output, &silence, |silence| {
                show::alerts::silences(std::slice::from_ref(silence), now_ms())
            })?;
        }
        SilenceCommand::End { id } => {
            let silence = client.end_silence(&id).await?;
            show::document(output, &silence, |silence| {
                show::alerts::silences(std::slice::from_ref(silence), now_ms())
            })?;
        }
    }
    Ok(Exit::Done)
}

/// `drover notify …`
pub async fn notify(command: NotifyCommand, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    match command {
        NotifyCommand::List => {
            let notifiers = client.notifiers().await?;
            show::document(output, &notifiers, |notifiers| show::alerts::notifiers(notifiers, now_ms()))?;
            Ok(Exit::Done)
        }
        NotifyCommand::Test { name } => {
            let answer = client.test_notifier(&name).await?;
            show::document(output, &answer, show::alerts::answer)?;
            Ok(if answer.value.ok { Exit::Done } else { Exit::Error })
        }
    }
}
