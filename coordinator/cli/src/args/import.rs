//! `drover import …`. Part of `args`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use drover_proto::name::{AppName, ContainerName, ProjectName, UnitName};

/// What can be imported.
#[derive(Subcommand, Debug)]
pub enum ImportCommand {
    /// A Docker container that somebody has made
    #[command(after_help = "Example:\n  drover import container web --host web-1 -f drover.yaml")]
    Container {
        /// Its name on the host
        name: ContainerName,
        /// Where, and into what.
        #[command(flatten)]
        options: ImportOptions,
    },
    /// A unit of systemd, with the text of its file
    #[command(after_help = "Example:\n  drover import unit shop.service --host web-1 -f drover.yaml")]
    Unit {
        /// Its name, with .service or the like
        name: UnitName,
        /// Where, and into what.
        #[command(flatten)]
        options: ImportOptions,
    },
    /// A compose project that somebody has brought up, with its files
    #[command(after_help = "Example:\n  drover import compose shop --host web-1 -f drover.yaml")]
    Compose {
        /// Its name, as `docker compose ls` has it
        name: ProjectName,
        /// Where, and into what.
        #[command(flatten)]
        options: ImportOptions,
    },
}

/// Where it runs, and where the manifest goes.
#[derive(Args, Debug)]
pub struct ImportOptions {
    /// The host's name or id
    #[arg(long, value_name = "HOST")]
    pub host: String,
    /// The app that it becomes [default: its own name]
    #[arg(long, value_name = "APP")]
    pub app: Option<AppName>,
    /// Where the manifest is written [default: the standard output]
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Even if there is such a file already
    #[arg(long, requires = "file")]
    pub overwrite: bool,
}
