//! `drover hosts`, `token`, `operator` and `audit`: who belongs to this coordinator, and who did what.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    code::Code,
    name::{LabelKey, OperatorName},
};

use crate::{
    args::{HostsCommand, LabelChange, OperatorCommand, Output, TokenCommand},
    client::Client,
    cmd::{drain, input},
    fault::{Exit, Fault, Outcome},
    show::{self, time::now_ms},
};

/// `drover hosts …`
pub async fn hosts(command: Option<HostsCommand>, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    match command.unwrap_or(HostsCommand::List) {
        HostsCommand::List => {
            let hosts = client.hosts().await?;
            show::document(output, &hosts, |hosts| show::fleet::hosts(hosts, now_ms()))?;
        }
        HostsCommand::Show { host } => one(&mut client, &host, output).await?,
        HostsCommand::Label { host, changes } => {
            once(changes.iter().map(|(LabelChange::Set(key, _) | LabelChange::Remove(key))| key))?;
            let (mut set, mut remove) = (BTreeMap::new(), Vec::new());
            for change in changes {
                match change {
                    LabelChange::Set(key, value) => drop(set.insert(key, value)),
                    LabelChange::Remove(key) => remove.push(key),
                }
            }
            let host = client.label_host(&host, &set, &remove).await?;
            show::document(output, &host, |host| show::fleet::hosts(std::slice::from_ref(host), now_ms()))?;
        }
        HostsCommand::Revoke { host } => {
            client.revoke_host(&host).await?;
            done(output, &format!("{host} is revoked and cut off; what runs on it goes on running"))?;
        }
        HostsCommand::Cordon { host } => {
            let host = client.cordon_host(&host, true).await?;
            show::document(output, &host, |host| show::fleet::hosts(std::slice::from_ref(host), now_ms()))?;
        }
        HostsCommand::Uncordon { host } => {
            let host = client.cordon_host(&host, false).await?;
            show::document(output, &host, |host| show::fleet::hosts(std::slice::from_ref(host), now_ms()))?;
        }
        HostsCommand::Drain { host, follow } => return drain::drain(&mut client, &host, follow, output).await,
        HostsCommand::Remove { host } => {
            client.remove_host(&host).await?;
            done(output, &format!("{host} is forgotten and its certificate revoked; what runs on it goes on running"))?;
        }
    }
    Ok(Exit::Done)
}

/// `drover hosts show`: with its alerts and its last day, where the coordinator is new enough to tell them.
async fn one(client: &mut Client, host: &str, output: Output) -> Result<(), Fault> {
    let mut detail = client.host(host).await?;
    let alerts = client.alerts_of(host).await?;
    let history = client.history(host).await?;
    if let Some(json) = detail.json.as_object_mut() {
        json.extend(alerts.iter().map(|alerts| ("alerts".to_owned(), alerts.json["alerts"].clone())));
        json.extend(history.iter().map(|history| ("history".to_owned(), history.json.clone())));
    }
    show::document(output, &detail, |host| {
        let now = now_ms();
        let alerts = alerts.map(|view| show::alerts::of_host(&view.value.alerts, now));
        let history = history.map(|view| show::top::history(&view.value, now)).filter(|lines| !lines.is_empty());
        let parts = [Some(show::fleet::host(host, now)), alerts, history];
        parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
    })
}

/// `drover token …`
pub async fn tokens(command: TokenCommand, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    match command {
        TokenCommand::Create { labels, ttl, uses } => {
            once(labels.iter().map(|(key, _)| key))?;
            let made = client.create_token(&labels, ttl.as_ms().div_ceil(1000), uses).await?;
            match output {
                Output::Json => show::json(&serde_json::json!({
                    "token": made.token, "token_id": made.token_id, "expires_unix_ms": made.expires_unix_ms,
                }))?,
                // Only the token on the standard output, so that TOKEN=$(drover token create …) works.
                Output::Table => {
                    show::print(&format!("{}\n", made.token))?;
                    let times = if uses == 1 { "once".to_owned() } else { format!("{uses} times") };
                    show::note(&format!(
                        "It serves {times}, until {}. On each host: drover-agent enroll --coordinator {} --token …",
                        show::time::local(made.expires_unix_ms),
                        client.address(),
                    ));
                }
            }
        }
        TokenCommand::List => {
            let tokens = client.tokens().await?;
            show::document(output, &tokens, |tokens| show::fleet::tokens(tokens, now_ms()))?;
        }
        TokenCommand::Revoke { id } => {
            client.revoke_token(&id).await?;
            done(output, &format!("token {id} is revoked"))?;
        }
    }
    Ok(Exit::Done)
}

/// `drover operator …`
pub async fn operators(command: OperatorCommand, output: Output) -> Outcome {
    let mut client = Client::connect().await?;
    match command {
        OperatorCommand::List => {
            let operators = client.operators().await?;
            show::document(output, &operators, |operators| show::fleet::operators(operators, now_ms()))?;
        }
        OperatorCommand::Revoke { name, yes } => {
            if name == *client.operator() && !yes && !input::confirm(&locks_out(&name))? {
                show::note("nothing was revoked");
                return Ok(Exit::Error);
            }
            client.revoke_operator(&name).await?;
            done(output, &format!("{name} is revoked"))?;
        }
    }
    Ok(Exit::Done)
}

/// What is asked of who revokes their own access.
fn locks_out(name: &OperatorName) -> String {
    format!(
        "You are {name}. Revoke your own access? Only `drover-coordinator operator add`, on the coordinator's machine, brings it back."
    )
}

/// `drover audit`
pub async fn audit(limit: u32, output: Output) -> Outcome {
    let entries = Client::connect().await?.audit(limit).await?;
    show::document(output, &entries, |entries| show::fleet::audit(entries))?;
    Ok(Exit::Done)
}

/// Refuses a label that is given more than once: one value would win unsaid.
fn once<'a>(keys: impl Iterator<Item = &'a LabelKey>) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for key in keys {
        if !seen.insert(key) {
            return Err(Fault::new(Code::Invalid, format!("the label {key} is given twice")).hint("give it once"));
        }
    }
    Ok(())
}

/// Says that something without a document has been done.
pub(super) fn done(output: Output, message: &str) -> Result<(), Fault> {
    match output {
        Output::Json => show::json(&serde_json::json!({ "message": message })),
        Output::Table => show::print(&format!("{message}\n")),
    }
}

#[cfg(test)]
mod tests {
    //! Labels as they are typed.
    use super::*;

    #[test]
    fn a_label_is_given_once() {
        let keys: Vec<LabelKey> = ["role", "zone", "role"].iter().map(|key| key.parse().unwrap()).collect();
        assert!(once(keys[..2].iter()).is_ok());
        let fault = once(keys.iter()).unwrap_err();
        assert_eq!((fault.code, fault.message.as_str()), ("invalid", "the label role is given twice"));
    }
}
