//! The subcommands of the verbs that have some: rollout, hosts, secret, token, operator. Part of `args`.

use clap::{Subcommand, ValueEnum};
use drover_proto::{
    duration::Span,
    name::{AppName, EnvironmentName, LabelKey, LabelValue, OperatorName, SecretName},
};

use super::FollowArgs;

/// `drover rollout …`
#[derive(Subcommand, Debug)]
pub enum RolloutCommand {
    /// The rollouts, newest first
    List {
        /// Only of this app
        app: Option<AppName>,
    },
    /// One rollout, host by host, with the evidence of failures
    Status {
        /// The rollout's number [default: the newest]
        id: Option<u64>,
    },
    /// Watch a rollout to its end; exit code 0 only when it succeeded
    Watch {
        /// The rollout's number [default: the newest]
        id: Option<u64>,
        /// Stop watching after this long, with exit code 3; the rollout goes on
        #[arg(long, value_name = "SPAN")]
        timeout: Option<Span>,
    },
    /// Begin no further host, and let every deadline stand still
    Pause {
        /// The rollout's number
        id: u64,
    },
    /// Go on after a pause
    Resume {
        /// The rollout's number
        id: u64,
    },
    /// End it and leave the hosts as they are; `drover rollback` takes them back
    Abort {
        /// The rollout's number
        id: u64,
    },
}

/// What `drover top` sorts by: the most first, but for names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum TopSort {
    /// Processors
    Cpu,
    /// Memory
    Memory,
    /// The fullest disk
    Disk,
    /// Load of one minute
    Load,
    /// The host's name
    Name,
}

/// `drover hosts …`
#[derive(Subcommand, Debug)]
pub enum HostsCommand {
    /// All hosts
    List,
    /// One host: labels, certificate, apps, alerts, and what it did during the last day
    Show {
        /// The host's name or id
        host: String,
    },
    /// Set labels (KEY=VALUE) and remove them (KEY-)
    #[command(after_help = "Example:\n  drover hosts label web-1 role=web zone=b canary-")]
    Label {
        /// The host's name or id
        host: String,
        /// KEY=VALUE sets, KEY- removes
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        changes: Vec<LabelChange>,
    },
    /// Take a host's certificate away at once; it stays listed, and what runs on it goes on running
    ///
    /// Its stream, downloads and jobs end, no rollout counts on it, and it is refused from then on. To let it in again, make a token
    /// and run `drover-agent enroll --replace` on it: it comes back as a new host, with the labels of the token and nothing else.
    Revoke {
        /// The host's name or id
        host: String,
    },
    /// Keep rollouts away from a host; what runs on it goes on running
    ///
    /// Rollouts skip it, and it is given no app, until it is uncordoned. A rollout that moves it just now ends on it.
    Cordon {
        /// The host's name or id
        host: String,
    },
    /// Let rollouts go to a host again; it gets the last good release of each app that it matches and that passed it by
    Uncordon {
        /// The host's name or id
        host: String,
    },
    /// Cordon a host and take all apps from it, and wait until they are gone
    ///
    /// Units are stopped and files removed as `drover remove` does it; directories, users and packages stay. `drover hosts uncordon`
    /// brings the apps back.
    #[command(after_help = "Example:\n  drover hosts drain web-1 && drover hosts remove web-1")]
    Drain {
        /// The host's name or id
        host: String,
        /// How long to wait.
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// Forget a host and revoke its certificate; what runs on it goes on running
    Remove {
        /// The host's name or id
        host: String,
    },
}

/// `drover secret …`
#[derive(Subcommand, Debug)]
pub enum SecretCommand {
    /// Store a value, read from the standard input, or asked for on a terminal
    ///
    /// One line break at the end of the input is not part of the value. Nothing is changed on any host until the next apply.
    #[command(
        after_help = "Examples:\n  drover secret set siliconflow\n  drover secret set tls.key --env production < tls.key"
    )]
    Set {
        /// Its name
        name: SecretName,
        /// Only for this environment
        #[arg(long = "env", alias = "environment", value_name = "NAME")]
        environment: Option<EnvironmentName>,
    },
    /// The names, versions and who set them; never a value
    List,
    /// Remove a secret; releases that use it keep it until their next apply
    Remove {
        /// Its name
        name: SecretName,
        /// Only of this environment
        #[arg(long = "env", alias = "environment", value_name = "NAME")]
        environment: Option<EnvironmentName>,
    },
}

/// `drover token …`
#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// Make a join token; hosts that come with it get these labels
    #[command(after_help = "Example:\n  drover token create --labels role=web,env=production --ttl 1h --uses 3")]
    Create {
        /// Labels of the hosts, KEY=VALUE, separated by commas
        #[arg(long, value_delimiter = ',', value_parser = label_pair, value_name = "KEY=VALUE,…")]
        labels: Vec<(LabelKey, LabelValue)>,
        /// How long it may be used
        #[arg(long, default_value = "1h", value_name = "SPAN", value_parser = token_ttl)]
        ttl: Span,
        /// How many hosts may use it
        #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
    },
    /// The tokens; never their secret half
    List,
    /// Make a token useless; hosts that came with it stay
    Revoke {
        /// Its id, as `list` shows it
        id: String,
    },
}

/// `drover operator …`
#[derive(Subcommand, Debug)]
pub enum OperatorCommand {
    /// The operators
    List,
    /// Take an operator's certificate away; asks first if it is your own
    Revoke {
        /// Who
        name: OperatorName,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// One change to a host's labels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LabelChange {
    /// `KEY=VALUE`
    Set(LabelKey, LabelValue),
    /// `KEY-`
    Remove(LabelKey),
}

impl std::str::FromStr for LabelChange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('=') {
            return label_pair(text).map(|(key, value)| Self::Set(key, value));
        }
        let key = text.strip_suffix('-').ok_or("write KEY=VALUE to set a label, or KEY- to remove it")?;
        Ok(Self::Remove(key.parse().map_err(|e: drover_proto::name::NameError| e.to_string())?))
    }
}

/// The coordinator has the same bounds; here nothing is rounded up to them.
fn token_ttl(text: &str) -> Result<Span, String> {
    const MOST_MS: u64 = 30 * 86_400 * 1000;
    let ttl: Span = text.parse().map_err(|e: drover_proto::duration::SpanError| e.to_string())?;
    if (1000..=MOST_MS).contains(&ttl.as_ms()) { Ok(ttl) } else { Err("a token lives between 1s and 30d".to_owned()) }
}

fn label_pair(text: &str) -> Result<(LabelKey, LabelValue), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    let key = key.parse().map_err(|e: drover_proto::name::NameError| e.to_string())?;
    let value = value.parse().map_err(|e: drover_proto::name::NameError| e.to_string())?;
    Ok((key, value))
}
