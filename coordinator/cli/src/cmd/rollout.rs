//! `drover rollout list|status|watch|pause|resume|abort`.

use drover_proto::{code::Code, name::RolloutId};

use crate::{
    args::{Output, RolloutCommand},
    client::{Client, Control},
    cmd::watch,
    fault::{Exit, Fault, Outcome},
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
            let id = or_newest(&mut client, id).await?;
            let rollout = client.rollout(id).await?;
            show::document(output, &rollout, show::rollout::text)?;
            return Ok(Exit::Done);
        }
        RolloutCommand::Watch { id, timeout } => {
            let id = or_newest(&mut client, id).await?;
            return watch::follow(&mut client, id, timeout, output).await;
        }
        RolloutCommand::Pause { id } => (id, Control::Pause),
        RolloutCommand::Resume { id } => (id, Control::Resume),
        RolloutCommand::Abort { id } => (id, Control::Abort),
    };
    let rollout = client.control(id, control).await?;
    show::document(output, &rollout, |view| format!("{}\n", show::rollout::verdict(view)))?;
    Ok(Exit::Done)
}

/// The rollout that was named, or the newest.
async fn or_newest(client: &mut Client, id: Option<RolloutId>) -> Result<RolloutId, Fault> {
    if let Some(id) = id {
        return Ok(id);
    }
    let newest = client.rollouts(None).await?.value.first().map(|rollout| rollout.id);
    newest.ok_or_else(|| Fault::new(Code::NotFound, "there is no rollout yet").hint("drover apply begins one"))
}
