//! A container as a manifest would say it: what it was made of without what its image gives. Part of `import`.

use drover_proto::{
    app::{Container, Drift, Healthcheck, Limits, Logging, Mount, MountSource, Restart, Rights},
    code::Code,
    duration::Span,
    found::Found,
    image::ImageRef,
    limits::MAX_OF_CONTAINER,
    name::{AbsPath, ContainerName, EnvKey},
    template::{Argv, Template},
};

use super::{
    Refused, refused,
    secrets::{among, looks_secret},
};
use crate::host::docker::{DockerError, Engine, Made};

pub(super) async fn read(name: &ContainerName, engine: &Engine) -> Result<Found, Refused> {
    match engine.made(name).await {
        Ok(Some(made)) => found(name, &made),
        Ok(None) => Err(refused(Code::NotFound, format!("there is no container {name} on this host"))),
        Err(DockerError::NotFound(why)) => Err(refused(Code::NotFound, why)),
        Err(error) => Err(refused(Code::Docker, error.to_string())),
    }
}

/// Pure.
fn found(name: &ContainerName, made: &Made) -> Result<Found, Refused> {
    if let Some(app) = &made.state.app {
        return Err(refused(Code::Invalid, format!("container {name} is app {app}'s already")));
    }
    let mut found = Found::default();
    tell(name, made, &mut found);
    let mut container = container(made, image(made, &mut found)?);
    environment(made, &mut container, &mut found);
    found.containers.insert(name.clone(), container);
    Ok(found)
}

/// Everything that a person should look at but single fields.
fn tell(name: &ContainerName, made: &Made, found: &mut Found) {
    if let Some(project) = &made.project {
        found.note("compose", format!("it is of compose project {project:?}, whose next `up` would make it anew"));
    }
    if made.state.auto_remove {
        found.note("--rm", "it is gone for good as soon as it is stopped: drover does not take it over as it is");
    }
    if !made.state.running {
        found.note("state", "it does not run; drover starts it when it takes it over");
    }
    let (place, given) = (&made.shape.working_dir, &made.gives.working_dir);
    if place != given && !place.is_empty() && place.parse::<AbsPath>().is_err() {
        found.note(
            "working_dir",
            format!("{place:?} cannot be said by a manifest; drover will make it anew in the image's"),
        );
    }
    for odd in &made.odd {
        let counts = if odd.counts { "; drover will make it anew without that" } else { "" };
        found.note(odd.field, format!("{}{counts}", odd.what));
    }
    let arguments: Vec<&str> = made.shape.entrypoint.iter().chain(&made.shape.command).map(String::as_str).collect();
    if among(&arguments) {
        let what = format!("{name} seems to have a secret among its arguments, where everybody can read it");
        found.note("command", what);
    }
    for key in made.shape.labels.iter().filter(|(key, value)| looks_secret(key, value)).map(|(key, _)| key) {
        found.note("labels", left_out(key));
    }
    for key in secret_options(made).map(|(key, _)| key) {
        found.note("logging", left_out(key));
    }
}

fn left_out(key: &str) -> String {
    format!(
        "the value of {key} looks like a secret, and has not left the host: say it here, or what is taken over differs"
    )
}

fn secret_options(made: &Made) -> impl Iterator<Item = (&String, &String)> {
    let options = made.shape.logging.iter().flat_map(|logging| &logging.options);
    options.filter(|(key, value)| looks_secret(key, value))
}

/// As it is called, with the digest that it has.
fn image(made: &Made, found: &mut Found) -> Result<ImageRef, Refused> {
    let called: Option<ImageRef> = made.image.parse().ok().filter(|image: &ImageRef| !is_id(&image.repository));
    let known: Vec<ImageRef> = made.repo_digests.iter().filter_map(|text| text.parse().ok()).collect();
    let same = called.as_ref().and_then(|called| known.iter().find(|it| it.repository == called.repository));
    match (called, same.or(known.first()).cloned()) {
        (Some(called), Some(known)) if called.repository == known.repository => {
            Ok(ImageRef { digest: known.digest, ..called })
        }
        (_, Some(known)) => Ok(known),
        (Some(called), None) => {
            let what = "it has no digest: it came from no registry, and drover runs only what a registry has; push it to one, \
                        and name it as it is called there";
            found.note("image", what);
            Ok(ImageRef { digest: None, ..called })
        }
        (None, None) => {
            Err(refused(Code::Image, "its image has no name any more: give it one, and push it to a registry"))
        }
    }
}

/// The engine's own name of an image that has none.
fn is_id(repository: &str) -> bool {
    repository == "sha256" || (repository.len() >= 12 && repository.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn container(made: &Made, image: ImageRef) -> Container {
    let (shape, gives) = (&made.shape, &made.gives);
    let (entrypoint, command) = program(made);
    let other = |is: &str, given: &str| Some(is.to_owned()).filter(|is| !is.is_empty() && is != given);
    let labels = shape.labels.iter();
    let labels = labels.filter(|(key, value)| gives.labels.get(*key) != Some(value) && !looks_secret(key, value));
    let signal = other(&shape.stop_signal, &gives.stop_signal).filter(|signal| signal.starts_with("SIG"));
    Container {
        image,
        credentials: None,
        entrypoint,
        command,
        env: None,
        environment: Default::default(),
        secrets: Default::default(),
        ports: shape.ports.clone(),
        volumes: shape
            .volumes
            .iter()
            .filter_map(|(target, source)| mount(target, &source.from, source.read_only))
            .collect(),
        networks: shape.networks.iter().filter_map(|name| name.parse().ok()).collect(),
        limits: Limits { ..shape.limits.clone() },
        rights: Rights { ..shape.rights.clone() },
        user: other(&shape.user, &gives.user),
        working_dir: other(&shape.working_dir, &gives.working_dir).and_then(|path| path.parse().ok()),
        restart: shape.restart.unwrap_or(Restart::No),
        healthcheck: health(made),
        logging: logging(made),
        stop_signal: signal.filter(|signal| signal != "SIGTERM" || !gives.stop_signal.is_empty()),
        stop_grace_period: Span::from_secs(shape.stop_grace_s),
        labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        drift: Drift::default(),
        restart_on_change: None,
        adopt: true,
        handover: None,
    }
}

/// As little as says the same: the engine gives the image's arguments only to the image's program.
fn program(made: &Made) -> (Option<Argv>, Option<Argv>) {
    let (shape, gives) = (&made.shape, &made.gives);
    let argv = |list: &[String]| list.iter().map(Template::literal).collect::<Argv>();
    let command = |list: &[String]| Some(argv(list)).filter(|list| !list.is_empty());
    if shape.entrypoint != gives.entrypoint {
        return (Some(argv(&shape.entrypoint)), command(&shape.command));
    }
    match (shape.command == gives.command, shape.command.is_empty()) {
        (true, _) => (None, None),
        (false, false) => (None, command(&shape.command)),
        (false, true) => (Some(argv(&shape.entrypoint)), None),
    }
}

fn mount(target: &str, from: &str, read_only: bool) -> Option<Mount> {
    let source = match from.starts_with('/') {
        true => MountSource::Path(Template::literal(from)),
        false => MountSource::Volume(from.parse().ok()?),
    };
    Some(Mount { source, target: target.parse().ok()?, read_only })
}

fn health(made: &Made) -> Option<Healthcheck> {
    if made.shape.healthcheck == made.gives.healthcheck {
        return None;
    }
    let none = Healthcheck {
        test: Vec::new(),
        interval: Span::from_secs(30),
        timeout: Span::from_secs(30),
        retries: 3,
        start_period: Span::from_secs(0),
    };
    Some(made.shape.healthcheck.clone().unwrap_or(none))
}

/// What the engine does when nobody says anything goes without saying.
fn logging(made: &Made) -> Option<Logging> {
    let usual = |log: &&Logging| log.driver.is_empty() || (log.driver == "json-file" && log.options.is_empty());
    let mut log = made.shape.logging.as_ref().filter(|log| !usual(log)).cloned()?;
    log.options.retain(|key, value| !looks_secret(key, value));
    Some(log)
}

/// Secrets go into the app's env, and so does what a container's own cannot hold.
fn environment(made: &Made, container: &mut Container, found: &mut Found) {
    let own = made.shape.env.iter().filter(|(key, value)| made.gives.env.get(*key) != Some(value));
    let own: Vec<(EnvKey, &String)> = own.filter_map(|(key, value)| Some((key.parse().ok()?, value))).collect();
    let many = own.len() > MAX_OF_CONTAINER;
    for (key, value) in own {
        if looks_secret(key.as_str(), value) {
            found.secrets.insert(key);
        } else if many || value.ends_with('\\') {
            found.env.insert(key, value.clone());
        } else {
            container.environment.insert(key, Template::literal(value));
        }
    }
}

#[cfg(test)]
mod tests;
