//! The tree is sound, and what the documents show can be typed.

use clap::{CommandFactory as _, Parser as _};

use super::{Cli, Command, HostsCommand, LabelChange};

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn documented_lines_parse() {
    for line in [
        "login 10.0.0.1:7443 --token -",
        "plan -f drover.yaml --env staging",
        "apply -f drover.yaml --plan 4f --timeout 20m -o json",
        "apply -f drover.yaml --detach",
        "rollout list",
        "rollout list mono@staging",
        "rollout watch 7 --timeout 1m",
        "rollout status",
        "rollout watch",
        "rollout abort 7",
        "rollback mono --to 17",
        "remove mono --yes",
        "status -o json",
        "why web-1 mono",
        "alerts --host web-1 -o json",
        "silence add host=web-1 --for 2h --reason disk",
        "silence add alert=disk subject=~/srv.* --for 1d --reason x --in 1h",
        "silence end s-01",
        "notify test ops",
        "hosts",
        "hosts label web-1 role=web canary-",
        "logs mono --host web-1 -f -n 20",
        "events",
        "top",
        "top --sort disk --once -o json",
        "events -f --host web-1 --app mono --since 2h -n 10 -o json",
        "secret set siliconflow --env production",
        "token create --labels role=web,env=production --ttl 1h --uses 3",
        "operator revoke ada",
        "completion zsh",
    ] {
        let words = std::iter::once("drover").chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_ok(), "{line}");
    }
    for line in [
        "apply -f d.yaml --detach --timeout 1m",
        "plan",
        "silence add --for 2h --reason x",
        "silence add host=web-1 --for 2h",
        "events -n 0",
        "hosts label web-1",
        "top --sort size",
        "rollback mono --to 0",
        "hosts label h x",
        "token create --ttl 500ms",
        "token create --ttl 31d",
        "token create --ttl 0s",
    ] {
        assert!(Cli::try_parse_from(std::iter::once("drover").chain(line.split(' '))).is_err(), "{line}");
    }
}

#[test]
fn labels_are_set_and_removed() {
    let cli = Cli::try_parse_from(["drover", "hosts", "label", "web-1", "role=web", "canary-"]).unwrap();
    let Command::Hosts { command: Some(HostsCommand::Label { changes, .. }) } = cli.command else {
        panic!("another command");
    };
    let set = LabelChange::Set("role".parse().unwrap(), "web".parse().unwrap());
    assert_eq!(changes, [set, LabelChange::Remove("canary".parse().unwrap())]);
}
