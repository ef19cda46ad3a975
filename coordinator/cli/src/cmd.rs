//! What each verb does: one file per group. Called by `main` with the parsed arguments; every verb ends in an exit code or a
//! fault.

use std::path::Path;

use drover_proto::{code::Code, name::EnvironmentName};

use crate::{
    args::{Cli, Command, ManifestArgs, Output},
    client::{Client, explain::explain},
    fault::{Exit, Fault, Outcome},
    manifest::{self, Loaded},
    show,
};

mod alerts;
mod apply;
mod drain;
mod events;
mod fleet;
mod import;
mod input;
mod login;
mod logs;
mod offline;
mod plan;
mod prune;
mod rollout;
mod secret;
mod status;
mod top;
mod watch;

/// Carries a command out.
pub async fn run(cli: Cli) -> Outcome {
    match carry_out(cli).await {
        Ok(exit) => Ok(exit),
        Err(fault) => Err(explain(fault).await),
    }
}

async fn carry_out(cli: Cli) -> Outcome {
    let output = cli.output;
    match cli.command {
        Command::Login { address, token } => login::login(&address, token, output).await,
        Command::Plan { manifest } => plan::plan(&manifest, output).await,
        Command::Apply { manifest, plan, follow } => apply::apply(&manifest, plan.as_deref(), follow, output).await,
        Command::Rollout { command } => rollout::run(command, output).await,
        Command::Rollback { app, to, follow } => apply::rollback(&app, to, follow, output).await,
        Command::Restart { app, host, rolling, follow } => {
            apply::restart(&app, host.as_deref(), rolling, follow, output).await
        }
        Command::Remove { app, yes, follow } => apply::remove(&app, yes, follow, output).await,
        Command::Checks { app, failing } => status::checks(app.as_ref(), failing, output).await,
        Command::Status { app } => status::status(app.as_ref(), output).await,
        Command::Alerts { host, app } => alerts::alerts(host.as_deref(), app.as_ref(), output).await,
        Command::Silence { command } => alerts::silence(command, output).await,
        Command::Notify { command } => alerts::notify(command, output).await,
        Command::Why { host, app } => status::why(&host, app.as_ref(), output).await,
        Command::Releases { app } => {
            let releases = Client::connect().await?.releases(&app).await?;
            show::document(output, &releases, |r| show::history::releases(r, show::time::now_ms()))?;
            Ok(Exit::Done)
        }
        Command::Hosts { command } => fleet::hosts(command, output).await,
        Command::Top { sort, once } => top::top(sort, once, output).await,
        Command::Logs { app, hook: Some(hook), host, release, lines, follow: _ } => {
            logs::hooks(&app, host.as_deref(), &hook, release, lines, output).await
        }
        Command::Logs { app, host, follow, lines, .. } => {
            logs::logs(&app, host.as_deref(), follow, lines, output).await
        }
        Command::Events { host, app, since, follow, limit } => {
            events::events(events::Wanted { host, app, since, limit }, follow, output).await
        }
        Command::Import { command } => import::import(command, output).await,
        Command::Prune { hosts, plan } => prune::prune(&hosts, plan, output).await,
        Command::Exec { .. } => Err(offline::exec()),
        Command::Secret { command } => secret::run(command, output).await,
        Command::Token { command } => fleet::tokens(command, output).await,
        Command::Operator { command } => fleet::operators(command, output).await,
        Command::Audit { limit } => fleet::audit(limit, output).await,
        Command::Validate { manifest } => offline::validate(&manifest, output),
        Command::Schema => offline::schema(),
        Command::Completion { shell } => offline::completion(shell),
        Command::Man { directory } => offline::man(&directory),
    }
}

/// Loads a manifest; every mistake is printed before this fails.
fn load(args: &ManifestArgs, output: Output) -> Result<Loaded, Fault> {
    load_file(&args.file, args.environment.as_ref(), output)
}

fn load_file(file: &Path, environment: Option<&EnvironmentName>, output: Output) -> Result<Loaded, Fault> {
    manifest::load(file, environment).map_err(|mistakes| {
        if output == Output::Table {
            mistakes.iter().for_each(|mistake| show::note(&format!("{mistake}\n")));
        }
        let number = show::count(mistakes.len(), "mistake");
        let mut fault = Fault::new(Code::Manifest, format!("{number} in {}; nothing was sent", file.display()))
            .hint("/usr/share/doc/drover/MANIFEST.md and `drover schema` have every field; `drover validate` checks without sending");
        fault.mistakes = serde_json::to_value(&mistakes).ok();
        fault
    })
}
