//! What may be typed: the whole tree of commands with its help. Parsed by `main`, carried out by `cmd`; man pages and
//! completion are made from the same tree. Verbs with subcommands have theirs in `args/groups`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use drover_proto::{
    duration::Span,
    name::{AppName, EnvironmentName},
};

mod alerts;
mod groups;
mod import;
#[cfg(test)]
mod tests;
pub use alerts::{NotifyCommand, SilenceCommand};
pub use groups::{HostsCommand, LabelChange, OperatorCommand, RolloutCommand, SecretCommand, TokenCommand, TopSort};
pub use import::{ImportCommand, ImportOptions};

const FIRST_DAY: &str = "A first day:
  drover login HOST:7443 --token -       with what `drover-coordinator operator add` printed
  drover token create --labels role=web  let a host in: `drover-agent enroll` takes the token
  drover plan  -f drover.yaml            what would happen, host by host
  drover apply -f drover.yaml            let it happen; it is undone by itself when it fails
  drover why web-1                       why a host is as it is";
const EXIT_CODES: &str = "Exit codes: 0 done; 1 error, or a rollout that did not succeed; 2 `plan` found changes; \
    3 --timeout is over while the rollout goes on; 130 interrupted while the rollout goes on.";

/// Brings applications onto hosts, and keeps them as they should be.
#[derive(Parser, Debug)]
#[command(
    name = "drover",
    version,
    max_term_width = 110,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = FIRST_DAY,
    after_long_help = format!("{FIRST_DAY}\n\n{EXIT_CODES}"),
)]
pub struct Cli {
    /// How to print what was asked for: table, for people, or json, the coordinator's own document
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table, hide_possible_values = true)]
    #[arg(value_name = "FORMAT")]
    pub output: Output,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// How answers are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For machines: the coordinator's own document
    Json,
}

/// A manifest and the environment to resolve it for.
#[derive(Args, Debug)]
pub struct ManifestArgs {
    /// The manifest
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: PathBuf,
    /// The environment of the manifest's `environments:` to deploy
    #[arg(long = "env", alias = "environment", value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
}

/// How to follow a rollout.
#[derive(Args, Debug, Clone, Copy)]
pub struct FollowArgs {
    /// Stop watching after this long, with exit code 3; the rollout goes on (e.g. 20m)
    #[arg(long, value_name = "SPAN")]
    pub timeout: Option<Span>,
    /// Begin the rollout and return at once
    #[arg(long, conflicts_with = "timeout")]
    pub detach: bool,
}

/// Every verb.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Log in to a coordinator: makes a key on this machine and gets a certificate over it
    ///
    /// The token is what `drover-coordinator operator add NAME` prints on the coordinator's machine. Give it by DROVER_TOKEN
    /// or on the standard input (`--token -`), so that it does not end in the shell's history.
    #[command(after_help = "Example:\n  drover login 203.0.113.7:7443 --token -")]
    Login {
        /// Where the coordinator listens
        #[arg(value_name = "HOST:PORT")]
        address: String,
        /// The login token; '-' reads it from the standard input
        #[arg(long, env = "DROVER_TOKEN", hide_env_values = true, value_name = "TOKEN")]
        token: Option<String>,
    },
    /// Show exactly what `apply` would do on each host, with reasons and diffs; changes nothing
    ///
    /// Exit code 0: nothing to do. 2: there are changes. 1: error.
    #[command(
        after_help = "Examples:\n  drover plan -f drover.yaml\n  drover plan -f drover.yaml --env staging -o json"
    )]
    Plan {
        /// What to plan.
        #[command(flatten)]
        manifest: ManifestArgs,
    },
    /// Roll a manifest out to its hosts, and watch until it has succeeded or has been undone
    ///
    /// Exit code 0 only when the rollout succeeded or there was nothing to do. Interrupting this command does not stop the
    /// rollout: `drover rollout watch` picks it up again, `drover rollout abort` stops it.
    #[command(
        after_help = "Examples:\n  drover apply -f drover.yaml\n  drover apply -f drover.yaml --env production --plan \
        4f1d09a2 --timeout 20m\n  drover apply -f drover.yaml --detach"
    )]
    Apply {
        /// What to roll out.
        #[command(flatten)]
        manifest: ManifestArgs,
        /// Only if the plan is still the one with this id
        #[arg(long, value_name = "ID")]
        plan: Option<String>,
        /// How long to watch.
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// Look at rollouts and steer them
    Rollout {
        /// What about it.
        #[command(subcommand)]
        command: RolloutCommand,
    },
    /// Go back to an earlier release of an app, as an ordinary gated rollout
    #[command(after_help = "Examples:\n  drover rollback mono\n  drover rollback mono --to 17")]
    Rollback {
        /// The app
        app: AppName,
        /// The release's number (see `drover releases`) [default: the last good one before the current]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        to: Option<u64>,
        /// How long to watch.
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// Restart an app's units where they run, without another release: host by host, each gated on health
    ///
    /// A gated rollout with the strategy of the release. A host that is not connected is left out, also when it is back. If a host does
    /// not become healthy again the restart stops and has failed: there is no other release to go back to.
    #[command(
        after_help = "Examples:\n  drover restart mono\n  drover restart mono --rolling\n  drover restart mono --host web-1"
    )]
    Restart {
        /// The app
        app: AppName,
        /// Only on this host
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// One host at a time, whatever max_parallel says
        #[arg(long)]
        rolling: bool,
        /// How long to watch.
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// Remove an app from all of its hosts
    ///
    /// Its units are stopped and its files removed; directories, users and packages stay. What it adopted comes back.
    Remove {
        /// The app
        app: AppName,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// How long to watch.
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// What should run and what runs, and why they differ
    #[command(
        after_help = "Examples:\n  drover status         every app, a line per host\n  drover status mono    part by part"
    )]
    Status {
        /// Only this app, part by part
        app: Option<AppName>,
    },
    /// How every check stands on every host; ends with 1 when one fails or a host is not connected
    #[command(after_help = "Examples:\n  drover checks              of all apps\n  drover checks mono --failing")]
    Checks {
        /// Only this app
        app: Option<AppName>,
        /// Only those that fail
        #[arg(long)]
        failing: bool,
    },
    /// What is wrong on every host, the worst first; ends with 1 when an alert fires that nobody has silenced
    #[command(
        after_help = "Examples:\n  drover alerts\n  drover alerts --host web-1\n  drover alerts --app mono -o json"
    )]
    Alerts {
        /// Only of this host
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Only of this app
        #[arg(long, value_name = "APP")]
        app: Option<AppName>,
    },
    /// Tell nobody of some alerts for a while
    Silence {
        /// What about them.
        #[command(subcommand)]
        command: SilenceCommand,
    },
    /// Who is told of alerts
    Notify {
        /// What about them.
        #[command(subcommand)]
        command: NotifyCommand,
    },
    /// Why a host is as it is: a plain story with the evidence of the last failure
    #[command(after_help = "Examples:\n  drover why web-1\n  drover why web-1 mono")]
    Why {
        /// The host's name or id
        host: String,
        /// Only this app
        app: Option<AppName>,
    },
    /// The releases of an app
    Releases {
        /// The app
        app: AppName,
    },
    /// The hosts; without a subcommand it lists them
    #[command(visible_alias = "host")]
    Hosts {
        /// What about them.
        #[command(subcommand)]
        command: Option<HostsCommand>,
    },
    /// What every host is doing: processors, memory, disks, network; redrawn every two seconds until Ctrl-C
    ///
    /// Where nobody watches it is printed once; with -o json a document is printed each time. `drover hosts show` has the last day
    /// of a host.
    #[command(after_help = "Examples:\n  drover top\n  drover top --sort memory\n  drover top --once -o json")]
    Top {
        /// What comes first
        #[arg(long, value_enum, default_value_t = TopSort::Cpu, value_name = "BY")]
        sort: TopSort,
        /// Print it once
        #[arg(long)]
        once: bool,
    },
    /// The journal of an app's units, from all of its hosts; or, with --hook, what its hooks said
    #[command(
        after_help = "Examples:\n  drover logs mono -f\n  drover logs mono --host web-1 -n 200\n  drover logs mono --hook \
        migrate"
    )]
    Logs {
        /// The app
        app: AppName,
        /// Only from this host
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Go on with new lines until interrupted
        #[arg(short, long)]
        follow: bool,
        /// How many of the newest lines to begin with, per host [default: 50; of hooks all, at most 10000]
        #[arg(short = 'n', long, value_name = "COUNT")]
        lines: Option<u32>,
        /// The newest run of this hook, or of every hook, instead of the journal
        #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with = "follow")]
        hook: Option<String>,
        /// The newest run for this release
        #[arg(long, value_name = "N", requires = "hook", value_parser = clap::value_parser!(u64).range(1..))]
        release: Option<u64>,
    },
    /// What happened by itself: drift repaired, units restarted, releases reverted, rollouts ended
    ///
    /// In the order in which the coordinator learned of it; TIME is when it happened. What a host could not send while it was cut off
    /// comes when it is back.
    #[command(
        after_help = "Examples:\n  drover events -f\n  drover events --host web-1 --since 2h\n  drover events --app \
        mono -n 200 -o json"
    )]
    Events {
        /// Only of this host
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Only of this app
        #[arg(long, value_name = "APP")]
        app: Option<AppName>,
        /// Only what happened within this span (e.g. 2h)
        #[arg(long, value_name = "SPAN")]
        since: Option<Span>,
        /// Go on with new events until interrupted
        #[arg(short, long)]
        follow: bool,
        /// How many of the newest to begin with
        #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Write a manifest for what runs on a host already; changes nothing there
    ///
    /// Applying it takes the container, unit or compose project over without a restart, as long as nothing differs. Values that look like secrets stay
    /// on the host: the manifest names them, and says how to store them.
    Import {
        /// What.
        #[command(subcommand)]
        command: ImportCommand,
    },
    /// Remove images, stopped containers and releases on the hosts that nobody needs; each that stays has its reason
    ///
    /// What each host's `disk_budget` (/etc/drover/agent.toml) says decides how much goes, oldest first; where there is none, all that
    /// nobody needs. Never what runs, the release before it, what is in flight, or what drover did not make. Hosts with a budget do
    /// the same by themselves.
    #[command(after_help = "Examples:\n  drover prune --plan\n  drover prune --host web-1 --host web-2")]
    Prune {
        /// Only on this host; may be given more than once
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Only show what would go, and why the rest stays
        #[arg(long)]
        plan: bool,
    },
    /// Does not exist, and says why
    #[command(hide = true)]
    Exec {
        /// Whatever it was
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
        words: Vec<std::ffi::OsString>,
    },
    /// Secrets that manifests name with `secret: NAME`; kept encrypted, never shown again
    Secret {
        /// What about them.
        #[command(subcommand)]
        command: SecretCommand,
    },
    /// Join tokens, by which hosts enrol
    Token {
        /// What about them.
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// The people who may command this coordinator
    Operator {
        /// What about them.
        #[command(subcommand)]
        command: OperatorCommand,
    },
    /// Who did what and when, newest first
    Audit {
        /// How many entries
        #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
        limit: u32,
    },
    /// Check a manifest, without a coordinator; reports every mistake at once
    Validate {
        /// What to check.
        #[command(flatten)]
        manifest: ManifestArgs,
    },
    /// Print the JSON Schema of the manifest
    Schema,
    /// Print the completion script of a shell
    #[command(after_help = "Example:\n  drover completion bash > /etc/bash_completion.d/drover")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    Man {
        /// The directory; made if missing
        directory: PathBuf,
    },
}
