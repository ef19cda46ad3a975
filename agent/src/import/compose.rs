//! A compose project as a manifest would say it: its own files, unchanged, and what they are filled in from. Part of `import`;
//! what of that looks like a secret goes into the app's env.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    app::{Content, Drift, FilePart, Project},
    code::Code,
    found::Found,
    name::{AbsPath, EnvKey, ProjectName},
    template::{Hole, Segment, Template},
};

use super::{Refused, refused, secrets::looks_secret};
use crate::host::{
    compose::{Sources, variables},
    docker::{DockerError, Engine, Member},
};

pub(super) async fn read(name: &ProjectName, engine: &Engine) -> Result<Found, Refused> {
    let of_engine = |error: DockerError| refused(Code::Docker, error.to_string());
    let origin = engine.origin(name).await.map_err(of_engine)?;
    let absent = || refused(Code::NotFound, format!("there is no compose project {name} on this host"));
    let origin = origin.ok_or_else(absent)?;
    let members = engine.project(name).await.map_err(of_engine)?;
    let read = tokio::task::spawn_blocking(move || Sources::read(&origin)).await;
    let sources = read.map_err(|error| refused(Code::Internal, error.to_string()))?;
    let sources = sources.map_err(|why| refused(Code::Invalid, format!("compose project {name}: {why}")))?;
    found(name, sources, &members)
}

/// Pure.
fn found(name: &ProjectName, sources: Sources, members: &[Member]) -> Result<Found, Refused> {
    let mut found = Found::default();
    let directory = sources.directory.to_string_lossy().parse::<AbsPath>();
    let directory = directory.map_err(|error| refused(Code::Invalid, error.to_string()))?;
    let mut named = BTreeMap::new();
    for (_, text) in &sources.files {
        for (variable, optional) in variables(text) {
            *named.entry(variable).or_insert(true) &= optional;
        }
    }
    let env_file = sources.env_file.as_ref().and_then(|(path, text)| take(path, text, &named, &mut found));
    tell(&sources, &named, &mut found);
    let running: BTreeSet<&str> = members.iter().map(|member| member.service.as_str()).collect();
    let of_running = sources.profiles.iter().filter(|(service, _)| running.contains(service.as_str()));
    let project = Project {
        directory,
        files: sources.files.iter().map(|(path, _)| path.clone()).collect(),
        env_file: env_file.clone(),
        profiles: of_running.filter_map(|(_, profiles)| profiles.first().cloned()).collect(),
        registries: BTreeMap::new(),
        adopt: true,
        drift: Drift::default(),
    };
    for (path, text) in &sources.others {
        // It is among the app's files already.
        if env_file.as_ref() != Some(path) {
            let content = without_secrets(path, text, &mut found);
            found.files.push(file(path, content)?);
        }
    }
    found.texts = sources.files.into_iter().collect();
    found.texts.extend(sources.env_file.filter(|(path, _)| env_file.as_ref() == Some(path)));
    found.compose.insert(name.clone(), project);
    Ok(found)
}

/// The file of variables, if it can be kept as it is. One with secrets becomes the app's env.
fn take(path: &AbsPath, text: &str, named: &BTreeMap<String, bool>, found: &mut Found) -> Option<AbsPath> {
    let pairs: Vec<(EnvKey, String)> = text.lines().filter_map(assignment).collect();
    if !pairs.iter().any(|(key, value)| looks_secret(key.as_str(), value)) {
        return Some(path.clone());
    }
    for (key, value) in pairs.into_iter().filter(|(key, _)| named.contains_key(key.as_str())) {
        match looks_secret(key.as_str(), &value) {
            true => {
                found.secrets_in.insert(key.clone(), path.clone());
                found.secrets.insert(key);
            }
            false => drop(found.env.insert(key, value)),
        }
    }
    let what = format!("{path} holds what looks like secrets: what names it is filled in from env instead");
    found.note("env_file", what);
    None
}

/// `KEY=value`, as both versions of compose read it.
fn assignment(line: &str) -> Option<(EnvKey, String)> {
    let line = line.trim();
    let (key, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    Some((key.trim().parse().ok()?, quoted.unwrap_or(value).to_owned()))
}

/// What a person should look at.
fn tell(sources: &Sources, named: &BTreeMap<String, bool>, found: &mut Found) {
    let of_file: BTreeSet<EnvKey> = match &sources.env_file {
        Some((_, text)) => text.lines().filter_map(assignment).map(|(key, _)| key).collect(),
        None => BTreeSet::new(),
    };
    let unset = named.iter().filter(|(_, optional)| !**optional).map(|(name, _)| name);
    let unset: Vec<&str> =
        unset.filter(|name| !of_file.iter().any(|key| key.as_str() == *name)).map(String::as_str).collect();
    if !unset.is_empty() {
        let what = format!(
            "{} stood in the environment of whoever brought it up, or in another file: say under env what it was",
            unset.join(", ")
        );
        found.note("env", what);
    }
    if !sources.built.is_empty() {
        let services: Vec<&str> = sources.built.iter().map(String::as_str).collect();
        let what = format!(
            "{} built on the host: name the folder that has the sources under artifact.path, as they lie in {}",
            if let [one] = &services[..] { format!("{one} is") } else { format!("{} are", services.join(", ")) },
            sources.directory.display()
        );
        found.note("build", what);
    }
}

/// The values of lines that hold secrets come from the app's env; nothing else of the text changes.
fn without_secrets(path: &AbsPath, text: &str, found: &mut Found) -> Template {
    let (mut template, mut plain) = (Template::default(), String::new());
    for line in text.split_inclusive('\n') {
        let ended = line.trim_end_matches(['\n', '\r']);
        let pair = ended.split_once('=').filter(|(key, value)| looks_secret(key, value));
        let Some((key, name)) = pair.and_then(|(key, _)| Some((key, key.parse::<EnvKey>().ok()?))) else {
            plain.push_str(line);
            continue;
        };
        let Ok(secret) = key.parse() else {
            plain.push_str(line);
            continue;
        };
        plain.push_str(&format!("{key}="));
        template.0.push(Segment::Text(std::mem::take(&mut plain)));
        template.0.push(Segment::Hole(Hole::Secret(secret)));
        plain.push_str(&line[ended.len()..]);
        found.secrets_in.insert(name.clone(), path.clone());
        found.secrets.insert(name);
    }
    template.0.push(Segment::Text(plain));
    template
}

fn file(path: &AbsPath, content: Template) -> Result<FilePart, Refused> {
    let root = "root".parse().map_err(|_| refused(Code::Internal, "root is no user"))?;
    let (reload, restart) = Default::default();
    Ok(FilePart {
        path: path.clone(),
        content: Content::Text(content),
        owner: Clone::clone(&root),
        group: root,
        mode: 0o600,
        validate: None,
        reload,
        restart,
        adopt: true,
        drift: Drift::default(),
    })
}

#[cfg(test)]
mod tests {
    //! What leaves the host, and what does not.
    use super::*;

    fn sources(env: &str, other: &str) -> Sources {
        let at = |name: &str| format!("/srv/shop/{name}").parse().unwrap();
        Sources {
            directory: "/srv/shop".into(),
            files: vec![(at("docker-compose.yml"), "image: a:${TAG} ${API_KEY} ${MODE:-x} ${LOST}".to_owned())],
            env_file: Some((at(".env"), env.to_owned())),
            others: vec![(at("web.env"), other.to_owned())],
            profiles: [("web".to_owned(), vec!["p".to_owned()]), ("debug".to_owned(), vec!["q".to_owned()])].into(),
            built: ["web".to_owned()].into(),
        }
    }

    fn read(env: &str, other: &str) -> (Found, Project) {
        let web = Member { service: "web".to_owned(), ..Member::default() };
        let name: ProjectName = "shop".parse().unwrap();
        let found = found(&name, sources(env, other), &[web]).unwrap();
        let project = found.compose[&name].clone();
        (found, project)
    }

    #[test]
    fn files_without_secrets_stay_as_they_are() {
        let (found, project) = read("TAG=1\nAPI_KEY=\n", "A=b\n");
        assert!(project.adopt && project.profiles.iter().eq(["p"]));
        assert_eq!(project.env_file.unwrap().as_str(), "/srv/shop/.env");
        assert_eq!(found.texts.len(), 2);
        assert_eq!(found.files[0].content, Content::Text(Template(vec![Segment::Text("A=b\n".to_owned())])));
        let notes: Vec<&str> = found.notes.iter().map(|note| note.text.as_str()).collect();
        assert!(notes[0].starts_with("LOST stood") && notes[1].starts_with("web is built"), "{notes:?}");
    }

    #[test]
    fn what_looks_like_a_secret_does_not_leave_the_host() {
        let (found, project) = read("TAG='1'\nexport API_KEY=\"sk-123\"\nOTHER_KEY=x\n", "A=b\nTOKEN=hunter2\nB=c\n");
        assert_eq!(project.env_file, None);
        assert_eq!(found.env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["TAG=1"]);
        assert_eq!(found.secrets.iter().map(EnvKey::as_str).collect::<Vec<_>>(), ["API_KEY", "TOKEN"]);
        let text = serde_json::to_string(&found).unwrap();
        assert!(!text.contains("sk-123") && !text.contains("hunter2"), "{text}");
        let Content::Text(web) = &found.files[0].content else { panic!("text") };
        assert_eq!(web.0.len(), 3, "the rest is as it was: {web:?}");
    }
}
