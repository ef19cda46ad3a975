//! `drover silence` and `drover notify`. Part of `args`.

use clap::Subcommand;
use drover_proto::{duration::Span, name::NotifierName};

/// `drover silence …`
#[derive(Subcommand, Debug)]
pub enum SilenceCommand {
    /// Tell nobody of some alerts for a while; they are still listed
    ///
    /// A matcher is LABEL=VALUE, LABEL!=VALUE, LABEL=~REGEX or LABEL!~REGEX; all of them must hold. Labels are alert, host, app,
    /// severity, subject, those of the host and those of the rule: `drover alerts -o json` has them.
    #[command(
        after_help = "Examples:\n  drover silence add host=web-1 --for 2h --reason \"moving the disk\"\n  drover silence add \
        alert=disk 'subject=~/srv/.*' --for 1d --reason \"a known leak, ticket 17\""
    )]
    Add {
        /// Which alerts
        #[arg(required = true, value_name = "MATCHER")]
        matchers: Vec<String>,
        /// How long
        #[arg(long = "for", value_name = "SPAN")]
        lasts: Span,
        /// Why, for the others
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Not before this long from now
        #[arg(long = "in", value_name = "SPAN")]
        begins: Option<Span>,
    },
    /// The silences, those that are over since yesterday among them
    List,
    /// End a silence now
    End {
        /// Its id, as `list` shows it
        id: String,
    },
}

/// `drover notify …`
#[derive(Subcommand, Debug)]
pub enum NotifyCommand {
    /// Who can be told, how much waits for them, and whether the last one was taken
    List,
    /// Send one notification at once, and show what the other side answered; ends with 1 when it was not taken
    Test {
        /// The notifier of the coordinator's alerting file
        name: NotifierName,
    },
}
