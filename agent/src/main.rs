//! `drover-agent`: the command line. `run` hands over to `app`, `enroll` to `enroll`.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use drover_agent::{
    app,
    config::{Config, DEFAULT_PATH},
    enroll,
    host::{git, unpack},
};
use drover_proto::{name::HostName, secret::Secret};

/// For work that is under way when the agent ends.
const THREADS_END_WITHIN: Duration = Duration::from_secs(5);

/// Looks after this host's applications under a drover coordinator.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Settings.
    #[arg(long, default_value = DEFAULT_PATH, global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run in the foreground, as systemd does it.
    Run,
    /// Join a coordinator with a token of `drover token create`.
    Enroll {
        /// HOST:PORT of the coordinator.
        #[arg(long)]
        coordinator: String,
        /// The join token; better in the environment or, with '-', on standard input, where no other user sees it.
        #[arg(long, env = "DROVER_TOKEN", hide_env_values = true)]
        token: String,
        /// The name for this host; its host name unless said.
        #[arg(long)]
        name: Option<HostName>,
        /// Give up the identity that this host has.
        #[arg(long)]
        replace: bool,
    },
    /// What this host runs, as the agent last wrote it.
    Status,
    /// Unpack an artifact; the agent starts this itself, as another user.
    #[command(hide = true)]
    Unpack {
        /// What it may use.
        #[arg(long)]
        bounds: String,
    },
    /// Fetch from a git repository; the agent starts this itself, as another user.
    #[command(hide = true)]
    Git {
        /// For git.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Command::Unpack { bounds } = &args.command {
        // Before anything else: it reads what nobody has looked at yet.
        std::process::exit(unpack::child::main(bounds));
    }
    if let Command::Git { args } = &args.command {
        std::process::exit(git::child::main(args));
    }
    drover_proto::tls::install();
    let config = Config::read(&args.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.command {
        Command::Run => {
            app::log_to_stderr(&config.log)?;
            let ended = runtime.block_on(app::run(config));
            // A thread that waits for a file system that does not answer would wait for ever.
            runtime.shutdown_timeout(THREADS_END_WITHIN);
            ended
        }
        Command::Enroll { coordinator, token, name, replace } => {
            let token = if token == "-" { std::io::read_to_string(std::io::stdin())? } else { token };
            app::make_state_dir(&config.state_dir).context("enroll must run as root")?;
            let request = enroll::Request { coordinator, token: Secret::new(token), name, replace };
            let identity = runtime.block_on(enroll::enroll(&config.state_dir, request))?;
            println!("enrolled as {} ({}) at {}", identity.host_name, identity.host, identity.coordinator);
            Ok(())
        }
        Command::Status => app::print_status(&config),
        Command::Unpack { .. } | Command::Git { .. } => Ok(()),
    }
}
