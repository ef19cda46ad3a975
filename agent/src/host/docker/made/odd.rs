//! Pure: what of a container no manifest can say. What it may do or show beyond that counts as a difference; the rest is
//! told, since it would be lost if the container were made anew. Part of `made`.

use bollard::models::{ContainerConfig, ContainerInspectResponse, EndpointSettings, HostConfig};

use super::{Gives, Odd};

/// Something that makes it another container than any manifest means.
pub(super) fn odd(all: &mut Vec<Odd>, field: &'static str, what: String) {
    all.push(Odd { field, what, counts: true });
}

pub(super) fn of(seen: &ContainerInspectResponse, gives: &Gives) -> Vec<Odd> {
    let mut all = Vec::new();
    let (host, config) = (seen.host_config.clone().unwrap_or_default(), seen.config.clone().unwrap_or_default());
    rights(&host, &mut all);
    let lost = |(field, there): (&'static str, bool)| {
        let what = "a manifest cannot say it: it stays while the container does, and one that is made anew lacks it";
        there.then(|| Odd { field, what: what.to_owned(), counts: false })
    };
    all.extend(of_host(&host).into_iter().chain(of_program(seen, &config, gives)).filter_map(lost));
    let networks = seen.network_settings.iter().filter_map(|settings| settings.networks.as_ref());
    if networks.flat_map(|networks| networks.values()).any(is_placed) {
        all.extend(lost(("network address", true)));
    }
    all
}

fn rights(host: &HostConfig, all: &mut Vec<Odd>) {
    let any = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let privileged = host.privileged == Some(true);
    let of_host = |mode: &Option<String>| mode.as_deref() == Some("host");
    let shared = |mode: &Option<String>| mode.as_deref().is_some_and(|mode| mode.starts_with("container:"));
    let tighter = |option: &String| option.starts_with("no-new-privileges") && !option.ends_with("false");
    let loose =
        host.security_opt.iter().flatten().any(|option| !(tighter(option) || privileged && option == "label=disable"));
    let unmasked = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(Vec::is_empty) && !privileged;
    let facts = [
        ("security_opt", loose || unmasked(&host.masked_paths) || unmasked(&host.readonly_paths)),
        ("pid", shared(&host.pid_mode)),
        ("ipc", shared(&host.ipc_mode)),
        ("uts", of_host(&host.uts_mode)),
        ("userns", of_host(&host.userns_mode)),
        ("device_cgroup_rules", any(&host.device_cgroup_rules)),
        ("device_requests", host.device_requests.as_ref().is_some_and(|list| !list.is_empty())),
        ("publish_all", host.publish_all_ports == Some(true)),
    ];
    for (field, _) in facts.into_iter().filter(|(_, there)| *there) {
        odd(all, field, "it may do or show more than any manifest can say".to_owned());
    }
}

fn of_host(host: &HostConfig) -> Vec<(&'static str, bool)> {
    let any = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let number = |number: Option<i64>| number.is_some_and(|number| number != 0);
    let memory = host.memory.unwrap_or(0);
    let swap = host.memory_swap.filter(|swap| *swap != 0 && *swap != memory.saturating_mul(2));
    let runtime = host.runtime.as_deref().unwrap_or_default();
    let tighter = |option: &String| option.starts_with("no-new-privileges");
    vec![
        ("dns", any(&host.dns) || any(&host.dns_options) || any(&host.dns_search)),
        ("extra_hosts", any(&host.extra_hosts)),
        ("group_add", any(&host.group_add)),
        ("links", any(&host.links)),
        ("init", host.init == Some(true)),
        ("no-new-privileges", host.security_opt.iter().flatten().any(tighter)),
        ("runtime", !matches!(runtime, "" | "runc" | "io.containerd.runc.v2")),
        ("cgroup_parent", said(&host.cgroup_parent)),
        ("sysctls", host.sysctls.as_ref().is_some_and(|map| !map.is_empty())),
        ("storage_opt", host.storage_opt.as_ref().is_some_and(|map| !map.is_empty())),
        ("memory_swap", memory > 0 && swap.is_some()),
        ("memory_reservation", number(host.memory_reservation)),
        ("cpu_shares", number(host.cpu_shares)),
        ("cpu_quota", number(host.cpu_quota) || number(host.cpu_period)),
        ("cpuset", said(&host.cpuset_cpus) || said(&host.cpuset_mems)),
        ("blkio", host.blkio_weight.is_some_and(|weight| weight != 0)),
        ("oom", host.oom_kill_disable == Some(true) || number(host.oom_score_adj)),
        ("restart retries", host.restart_policy.as_ref().is_some_and(|policy| number(policy.maximum_retry_count))),
    ]
}

fn of_program(seen: &ContainerInspectResponse, config: &ContainerConfig, gives: &Gives) -> Vec<(&'static str, bool)> {
    let id = seen.id.as_deref().unwrap_or_default();
    let name = config.hostname.as_deref().unwrap_or_default();
    let of_host = seen.host_config.as_ref().and_then(|host| host.network_mode.as_deref()) == Some("host");
    let signal = config.stop_signal.as_deref().unwrap_or_default();
    let word = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'+';
    let known = signal.is_empty() || signal.starts_with("SIG") && signal.bytes().all(word);
    let start_interval = config.healthcheck.as_ref().and_then(|check| check.start_interval).unwrap_or(0);
    vec![
        ("hostname", !of_host && !name.is_empty() && !id.starts_with(name)),
        ("domainname", config.domainname.as_ref().is_some_and(|name| !name.is_empty())),
        ("tty", config.tty == Some(true)),
        ("stdin", config.open_stdin == Some(true)),
        ("stop_timeout", config.stop_timeout.is_some_and(|seconds| seconds < 0)),
        ("stop_signal", !known && signal != gives.stop_signal),
        ("health start_interval", start_interval != 0),
    ]
}

/// It has an address of somebody's choice.
fn is_placed(endpoint: &EndpointSettings) -> bool {
    let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    endpoint.ipam_config.as_ref().is_some_and(|its| said(&its.ipv4_address) || said(&its.ipv6_address))
}
