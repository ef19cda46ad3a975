//! The command line of `drover-coordinator`, read by `main`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use drover_proto::{duration::Span, name::OperatorName};

use crate::config::DEFAULT_PATH;

/// Keeps what every host should run, and rolls it out.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    /// Settings.
    #[arg(long, default_value = DEFAULT_PATH, global = true)]
    pub config: PathBuf,
    #[command(subcommand)]
    /// What to do.
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run in the foreground, as systemd does it.
    Run,
    /// Read the alerting file (or FILE) with the files of its secrets, and say what is wrong; changes nothing
    ///
    /// What is right is taken up by `systemctl reload drover-coordinator`.
    CheckAlerting {
        /// Instead of what the settings name.
        file: Option<PathBuf>,
    },
    /// Let people in.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Change the certificate authority for another one, without touching a host by hand
    ///
    /// In this order, each followed by `systemctl restart drover-coordinator`, which restarts no workload: rotate, switch, retire.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Write store, CA, secret key and artifacts to one new file; the coordinator may run.
    Backup {
        /// Where to.
        file: PathBuf,
    },
    /// Put a backup in place; the coordinator must be stopped.
    Restore {
        /// Where from.
        file: PathBuf,
        /// Set aside the state that is there.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Subcommand)]
pub enum CaCommand {
    /// How far a change is, and who is not there yet.
    Status,
    /// Make the next CA; hosts and operators learn of it by themselves.
    Rotate,
    /// Sign with the next CA, once every host knows it. Tokens that are not used yet become useless.
    Switch {
        /// Also when hosts would be cut off: they must be enrolled again.
        #[arg(long)]
        force: bool,
    },
    /// Trust the old CA no more, once every host has a certificate of the new one.
    Retire {
        /// Also when hosts would be cut off: they must be enrolled again.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Subcommand)]
pub enum OperatorCommand {
    /// Print a one-use token for `drover login`; the coordinator may run.
    Add {
        /// Who.
        name: OperatorName,
        /// How long the token is good for.
        #[arg(long, default_value = "15m")]
        ttl: Span,
    },
}
