//! What compose projects may do: the same as containers, judged by what `config` says of them. Part of `policy`.

use std::{collections::BTreeSet, io, path::Path};

use super::{Containers, OWN_LOGS, Places, Policy, USUAL, followed, is_own_release, of_path};
use crate::{
    host::compose::{Ask, Config},
    render::Layout,
};
use drover_proto::name::AppName;

/// Follows the paths that a project asks for. Docker makes a directory that is missing: it lies where what there is of its
/// path leads.
#[must_use]
pub fn places_of_project(config: &Config, layout: &Layout) -> Places {
    let paths = config.asks.iter().filter_map(|(_, ask)| match ask {
        Ask::Bind { path, .. } => Some(path),
        _ => None,
    });
    paths.map(|path| (path.clone(), nearest(path, layout))).collect()
}

fn nearest(path: &str, layout: &Layout) -> Result<String, String> {
    let whole = Path::new(path);
    let plain = whole.is_absolute() && !whole.components().any(|part| part == std::path::Component::ParentDir);
    if !plain {
        return Err("is no plain path of the host".to_owned());
    }
    let is_there = |path: &&Path| {
        // A link that leads nowhere is there, too.
        !path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let there = whole.ancestors().find(is_there).unwrap_or(Path::new("/"));
    let real = followed(&there.to_string_lossy(), layout)?;
    let rest = whole.strip_prefix(there).unwrap_or(Path::new(""));
    Ok(if rest.as_os_str().is_empty() { real } else { Path::new(&real).join(rest).to_string_lossy().into_owned() })
}

/// Why this project may not run here, one sentence each; empty = it may.
#[must_use]
pub fn of_project(policy: &Policy, app: &AppName, config: &Config, places: &Places, layout: &Layout) -> Vec<String> {
    let judged = config.asks.iter().filter_map(|(who, ask)| {
        let why = of_ask(&policy.containers, app, ask, places, layout)?;
        Some(format!("{who}: {why}"))
    });
    judged.chain(nested(config, places)).collect()
}

fn of_ask(allowed: &Containers, app: &AppName, ask: &Ask, places: &Places, layout: &Layout) -> Option<String> {
    let unless = |allowed: bool, why: String| (!allowed).then_some(why);
    match ask {
        Ask::Privileged => unless(allowed.privileged, "it would be privileged (privileged)".to_owned()),
        Ask::Other(words) => unless(allowed.privileged, format!("{words} (privileged)")),
        Ask::Namespace(space) => {
            let name = format!("{space:?}").to_lowercase();
            let why = format!("it would have the host's {name} namespace (host_namespaces)");
            unless(allowed.host_namespaces.contains(space), why)
        }
        Ask::Capability(word) => {
            let plain = |word: &str| word.strip_prefix("CAP_").unwrap_or(word).to_owned();
            let word = plain(word);
            let lets = allowed.capabilities.iter().any(|other| plain(other) == word || other == "ALL");
            let why = format!("it would have the capability {word} (capabilities)");
            unless(lets || USUAL.contains(&word.as_str()), why)
        }
        Ask::Device(device) => {
            let is_plain = !Path::new(device).components().any(|part| part == std::path::Component::ParentDir);
            let lets = is_plain && allowed.devices.iter().any(|root| Path::new(device).starts_with(root));
            unless(lets, format!("it would have the device {device} (devices)"))
        }
        Ask::LogDriver(driver) => {
            let lets = OWN_LOGS.contains(&driver.as_str()) || allowed.log_drivers.contains(driver);
            unless(lets, format!("its output would go to {driver} (log_drivers)"))
        }
        Ask::Bind { path, read_only } => match places.get(path) {
            None => Some(format!("nobody has looked where {path} leads")),
            Some(Err(why)) => Some(format!("{path} {why}")),
            Some(Ok(real)) if is_own_release(app, Path::new(real), layout) => {
                unless(*read_only, format!("{path} is a release, which nobody changes: add :ro"))
            }
            Some(Ok(real)) => of_path(allowed, path, real, layout),
        },
    }
}

/// A path below one that a service may write: it could be moved away and lead elsewhere, when nobody looks.
fn nested(config: &Config, places: &Places) -> Option<String> {
    let real = |path: &String| places.get(path)?.clone().ok();
    let binds = config.asks.iter().filter_map(|(who, ask)| match ask {
        Ask::Bind { path, read_only } => Some((who, path, *read_only)),
        _ => None,
    });
    let writable: BTreeSet<String> =
        binds.clone().filter(|(.., read_only)| !read_only).filter_map(|(_, path, _)| real(path)).collect();
    binds.into_iter().find_map(|(who, path, _)| {
        let lies = real(path)?;
        let above = writable.iter().find(|root| **root != lies && Path::new(&lies).starts_with(root))?;
        Some(format!("{who}: {path} lies in {above}, which a service may write: it could put something else there"))
    })
}

#[cfg(test)]
mod tests {
    //! What a project may not have of the host.
    use drover_proto::{app::Namespace, digest::Digest};

    use super::*;
    use crate::render::tests::layout;

    fn judged(policy: &str, asks: &[Ask], places: &[(&str, &str)]) -> Vec<String> {
        let asks = asks.iter().map(|ask| ("service web".to_owned(), ask.clone())).collect();
        let config = Config { services: Default::default(), asks, digest: Digest::of(b"") };
        let places = places.iter().map(|(path, real)| ((*path).to_owned(), Ok((*real).to_owned()))).collect();
        of_project(&toml::from_str(policy).unwrap(), &"mono".parse().unwrap(), &config, &places, &layout())
    }

    fn bind(path: &str, read_only: bool) -> Ask {
        Ask::Bind { path: path.to_owned(), read_only }
    }

    #[test]
    fn a_project_has_what_containers_may_have_and_no_more() {
        let all = [
            Ask::Privileged,
            Ask::Other("it would have runtime: x".to_owned()),
            Ask::Namespace(Namespace::Pid),
            Ask::Capability("SYS_ADMIN".to_owned()),
            Ask::Device("/dev/fuse".to_owned()),
            Ask::LogDriver("syslog".to_owned()),
        ];
        assert_eq!(judged("", &all, &[]).len(), all.len());
        let lets = "[containers]\nprivileged = true\nhost_namespaces = [\"pid\"]\ncapabilities = [\"SYS_ADMIN\"]\n\
                    devices = [\"/dev\"]\nlog_drivers = [\"syslog\"]\n";
        assert_eq!(judged(lets, &all, &[]), <[&str; 0]>::default());
        assert!(!judged(lets, &[Ask::Device("/dev/../etc/shadow".to_owned())], &[]).is_empty());
        let usual = [Ask::Capability("CHOWN".to_owned()), Ask::LogDriver("json-file".to_owned())];
        assert_eq!(judged("", &usual, &[]), <[&str; 0]>::default());
    }

    #[test]
    fn paths_count_by_where_they_lead() {
        assert_eq!(judged("", &[bind("/srv/shop/data", false)], &[("/srv/shop/data", "/srv/shop/data")]).len(), 0);
        for (path, real) in [("/srv/shop/x", "/etc"), ("/srv/s", "/run/docker.sock"), ("/", "/"), ("/etc/x", "/etc/x")]
        {
            assert_eq!(judged("", &[bind(path, true)], &[(path, real)]).len(), 1, "{path}");
        }
        assert_eq!(judged("", &[bind("/srv/unseen", true)], &[]).len(), 1);
        let both = [bind("/srv/a", false), bind("/srv/a/b", true)];
        let places = [("/srv/a", "/srv/a"), ("/srv/a/b", "/srv/a/b")];
        assert!(judged("", &both, &places).join("").contains("could put something else there"));
    }

    #[test]
    fn what_is_missing_lies_where_the_rest_of_its_path_leads() {
        let dir = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(dir.path()).unwrap();
        std::os::unix::fs::symlink("/etc", real.join("out")).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", real.join("lost")).unwrap();
        let of = |name: &str| nearest(&real.join(name).to_string_lossy(), &layout());
        assert_eq!(of("a/b"), Ok(real.join("a/b").to_string_lossy().into_owned()));
        assert_eq!(of("out/x/y"), Ok("/etc/x/y".to_owned()));
        assert!(of("lost").is_err() && of("lost/x").is_err() && of("a/../../x").is_err());
    }
}
