//! `drover secret set|list|remove`. A value goes from the standard input to the coordinator, and is never shown again.

use drover_proto::secret::Secret;

use crate::{
    args::{Output, SecretCommand},
    client::Client,
    cmd::{fleet::done, input},
    fault::{Exit, Outcome},
    show,
};

/// Carries one out.
pub async fn run(command: SecretCommand, output: Output) -> Outcome {
    match command {
        SecretCommand::Set { name, environment } => {
            let value = Secret::new(input::secret(&format!("value of {name}"))?.into_bytes());
            Client::connect().await?.set_secret(&name, environment.as_ref(), value).await?;
            done(output, &format!("{name} is stored; hosts get it with the next apply of an app that uses it"))?;
        }
        SecretCommand::List => {
            let secrets = Client::connect().await?.secrets().await?;
            show::document(output, &secrets, |secrets| show::fleet::secrets(secrets, show::time::now_ms()))?;
        }
        SecretCommand::Remove { name, environment } => {
            Client::connect().await?.remove_secret(&name, environment.as_ref()).await?;
            done(output, &format!("{name} is removed"))?;
        }
    }
    Ok(Exit::Done)
}
