//! `drover rollout list|status|watch|pause|resume|abort`.

use crate::{
    args::{Output, RolloutCommand},
    client::{Client, Control},
    cmd::watch,
    fault::{Exit, Outcome},
    show,
};

/// Carries one out.
pub async fn run(command: RolloutCommand, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    let (id, control) = match command {
        RolloutCommand::List { app } => {
            let rollouts = client.rollouts(app.as_ref()).await?;
            show::document(output, &rollouts, |r| show::history::rollouts(r, show::time::now_ms()))?;
            return Ok(Exit::Done);
        }
        RolloutCommand::Status { id } => {
            let rollout = client.rollout(id).await?;
            show::document(output, &rollout, show::rollout::text)?;
            return Ok(Exit::Done);
        }
        RolloutCommand::Watch { id, timeout } => return watch::follow(&mut client, id, timeout, output).await,
        RolloutCommand::Pause { id } => (id, Control::Pause),
        RolloutCommand::Resume { id } => (id, Control::Resume),
        RolloutCommand::Abort { id } => (id, Control::Abort),
    };
    let rollout = client.control(id, control).await?;
    show::document(output, &rollout, |view| format!("{}\n", show::rollout::verdict(view)))?;
    Ok(Exit::Done)
}
