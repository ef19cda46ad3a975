//! `drover login`: the token becomes a certificate, kept on this machine.

use crate::{
    args::Output,
    client::{credentials, login as trade},
    cmd::input,
    fault::{Exit, Outcome},
    show,
};

/// Logs in; the token comes as an argument, by the environment, from the standard input or by a prompt.
pub async fn login(address: &str, token: Option<String>, output: Output) -> Outcome {
    let directory = credentials::own_directory()?;
    let word = match token {
        Some(token) if token != "-" => token,
        Some(_) | None => input::secret("login token")?,
    };
    let credentials = trade::login(address, &word).await?;
    credentials::save(&directory, &credentials)?;
    match output {
        Output::Json => show::json(&credentials.config)?,
        Output::Table => show::print(&format!(
            "Logged in to {address} as {}. The certificate in {} is valid until {}.\n",
            credentials.config.operator,
            directory.display(),
            show::time::local(credentials.config.certificate_not_after_unix_ms),
        ))?,
    }
    Ok(Exit::Done)
}
