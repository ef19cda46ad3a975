//! `drover-coordinator`: the command line. `run` hands over to `app`, the rest to `admin`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use drover_coordinator::{
    admin, app,
    config::{Config, DEFAULT_PATH},
};
use drover_proto::{duration::Span, name::OperatorName};

/// Keeps what every host should run, and rolls it out.
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
    /// Let people in.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Write store, CA, secret key and artifacts to one new file; the coordinator may run.
    Backup { file: PathBuf },
    /// Put a backup in place; the coordinator must be stopped.
    Restore {
        file: PathBuf,
        /// Set aside the state that is there.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Subcommand)]
enum OperatorCommand {
    /// Print a one-use token for `drover login`; the coordinator may run.
    Add {
        name: OperatorName,
        /// How long the token is good for.
        #[arg(long, default_value = "15m")]
        ttl: Span,
    },
}

fn main() -> anyhow::Result<()> {
    drover_proto::tls::install();
    let args = Args::parse();
    let config = Config::read(&args.config)?;
    let dir = &config.state_dir;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.command {
        Command::Run => {
            app::log_to_stderr(&config.log)?;
            runtime.block_on(app::run(config))?;
        }
        Command::Operator(OperatorCommand::Add { name, ttl }) => {
            let token = runtime.block_on(admin::operator_add(dir, &name, ttl.as_duration()))?;
            println!("{}", token.expose());
            let port = config.listen.port();
            eprintln!("For {name}, once, within {ttl}: drover login THIS-MACHINE:{port} --token -   (and paste it)");
        }
        Command::Backup { file } => println!("{}", runtime.block_on(admin::backup(dir, &file))?),
        Command::Restore { file, force } => println!("{}", runtime.block_on(admin::restore(dir, &file, force))?),
    }
    Ok(())
}
