//! A compose project as a manifest would say it: its own files, unchanged, and what they are filled in from. Part of `import`;
//! what of that looks like a secret goes into the app's env.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    app::{Content, Drift, FilePart, Project},
    code::Code,
    found::Found,
    name::{AbsPath, EnvKey, ProjectName, UserName},
    template::{Hole, Segment, Template},
};

use super::{
    Refused, refused,
    secrets::{in_argument, looks_secret},
};
use crate::host::{
    compose::{Sources, pairs, variables},
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
    let all: String = sources.files.iter().chain(&sources.included).map(|(_, text)| text.as_str()).collect();
    let named = variables(&all);
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
    for (path, text) in sources.files {
        if may_leave(&path, &text, &mut found) {
            found.texts.insert(path, text);
        }
    }
    for (path, text) in sources.included {
        if may_leave(&path, &text, &mut found) {
            found.files.push(file(&path, Template::literal(text))?);
        }
    }
    // One that the project is filled in from is among the app's files already.
    for (path, text) in sources.others.iter().filter(|(path, _)| env_file.as_ref() != Some(path)) {
        match assignments(text) {
            Ok(lines) => {
                let content = without_secrets(path, &lines, &mut found);
                found.files.push(file(path, content)?);
            }
            Err(number) => found.note("files", stays(path, &format!("line {number} is not KEY=value"))),
        }
    }
    found.compose.insert(name.clone(), project);
    Ok(found)
}

/// What a person has to do about a file whose content has not left the host.
fn stays(path: &AbsPath, why: &str) -> String {
    format!("{path} has not left the host ({why}): bring it beside the manifest by hand, or add it to files")
}

/// A compose file has to stay as it is, or it would be another project; one with a secret in it stays where it is.
fn may_leave(path: &AbsPath, text: &str, found: &mut Found) -> bool {
    let secret = |(key, value): &(String, String)| {
        !value.contains('$') && if key.is_empty() { in_argument(value) } else { looks_secret(key, value) }
    };
    let Some((key, _)) = pairs(text).into_iter().find(secret) else { return true };
    let what = if key.is_empty() { "one of its values".to_owned() } else { key };
    found.note(
        "secret",
        stays(path, &format!("{what} looks like a secret; one that is written as ${{…}} comes from env")),
    );
    false
}

/// The file of variables, if it can be kept as it is. One with secrets becomes the app's env.
fn take(path: &AbsPath, text: &str, named: &BTreeMap<String, bool>, found: &mut Found) -> Option<AbsPath> {
    let lines = match assignments(text) {
        Ok(lines) => lines,
        Err(number) => {
            found.note("env_file", stays(path, &format!("line {number} is not KEY=value")));
            return Some(path.clone());
        }
    };
    let pairs: Vec<(EnvKey, &str)> = lines.into_iter().filter_map(|(_, pair)| pair).collect();
    if !pairs.iter().any(|(key, value)| looks_secret(key.as_str(), value)) {
        found.texts.insert(path.clone(), text.to_owned());
        return Some(path.clone());
    }
    for (key, value) in pairs.into_iter().filter(|(key, _)| named.contains_key(key.as_str())) {
        match looks_secret(key.as_str(), value) {
            true => {
                found.secrets_in.insert(key.clone(), path.clone());
                found.secrets.insert(key);
            }
            false => drop(found.env.insert(key, unquoted(value).to_owned())),
        }
    }
    let what = format!("{path} holds what looks like secrets: what names it is filled in from env instead");
    found.note("env_file", what);
    None
}

fn unquoted(value: &str) -> &str {
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    quoted.unwrap_or(value)
}

/// A line as it is, and what it sets.
type Line<'a> = (&'a str, Option<(EnvKey, &'a str)>);

/// Every line of a file of variables. The error is the number of one that is not clearly read: it may hold anything.
fn assignments(text: &str) -> Result<Vec<Line<'_>>, usize> {
    let clear = |line: &'_ str| -> Option<Option<(EnvKey, usize)>> {
        let ended = line.trim_end_matches(['\n', '\r']);
        if ended.trim().is_empty() || ended.starts_with('#') {
            return Some(None);
        }
        let (key, value) = ended.split_once('=')?;
        let opens = |quote: char| value.starts_with(quote) && (value.len() == 1 || !value.ends_with(quote));
        (!opens('"') && !opens('\'')).then_some(Some((key.parse().ok()?, key.len() + 1)))
    };
    let lines = text.split_inclusive('\n').enumerate();
    lines
        .map(|(i, line)| match clear(line) {
            Some(pair) => Ok((line, pair.map(|(key, at)| (key, line[at..].trim_end_matches(['\n', '\r']))))),
            None => Err(i + 1),
        })
        .collect()
}

/// What a person should look at.
fn tell(sources: &Sources, named: &BTreeMap<String, bool>, found: &mut Found) {
    let of_file: BTreeSet<EnvKey> = match &sources.env_file {
        Some((_, text)) => {
            let keys = text.lines().filter_map(|line| line.split_once('=')?.0.trim().parse().ok());
            keys.collect()
        }
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
fn without_secrets(path: &AbsPath, lines: &[Line<'_>], found: &mut Found) -> Template {
    let (mut template, mut plain) = (Template::default(), String::new());
    for (line, pair) in lines {
        let secret = pair.as_ref().filter(|(key, value)| looks_secret(key.as_str(), value));
        let hole = secret.and_then(|(key, value)| Some((key, value, key.as_str().parse().ok()?)));
        let Some((key, value, name)) = hole else {
            plain.push_str(line);
            continue;
        };
        plain.push_str(&format!("{key}="));
        template.0.push(Segment::Text(std::mem::take(&mut plain)));
        template.0.push(Segment::Hole(Hole::Secret(name)));
        plain.push_str(&line[key.as_str().len() + 1 + value.len()..]);
        found.secrets_in.insert(key.clone(), path.clone());
        found.secrets.insert(key.clone());
    }
    template.0.push(Segment::Text(plain));
    template
}

fn file(path: &AbsPath, content: Template) -> Result<FilePart, Refused> {
    let root: UserName = "root".parse().map_err(|_| refused(Code::Internal, "root is no user"))?;
    Ok(FilePart {
        path: path.clone(),
        content: Content::Text(content),
        owner: root.clone(),
        group: root,
        mode: 0o600,
        validate: None,
        reload: BTreeSet::new(),
        restart: BTreeSet::new(),
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
            included: Vec::new(),
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
        let (found, project) = read("TAG='1'\nAPI_KEY=\"sk-123\"\nOTHER_KEY=x\n", "A=b\nTOKEN=hunter2\nB=c\n");
        assert_eq!(project.env_file, None);
        assert_eq!(found.env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["TAG=1"]);
        assert_eq!(found.secrets.iter().map(EnvKey::as_str).collect::<Vec<_>>(), ["API_KEY", "TOKEN"]);
        let text = serde_json::to_string(&found).unwrap();
        assert!(!text.contains("sk-123") && !text.contains("hunter2"), "{text}");
        let Content::Text(web) = &found.files[0].content else { panic!("text") };
        assert_eq!(web.0.len(), 3, "the rest is as it was: {web:?}");
    }

    #[test]
    fn a_file_that_may_hold_a_secret_somewhere_stays_on_the_host() {
        let unclear =
            ["export API_KEY=hunter2\n", " TOKEN=hunter2\n", "TOKEN: hunter2\n", "K=\"-----BEGIN\nhunter2\n\"\n"];
        for env in unclear {
            let (found, project) = read(env, env);
            assert!(project.env_file.is_some() && found.files.is_empty(), "{env}");
            assert!(found.notes.iter().any(|note| note.text.contains("has not left the host")), "{:?}", found.notes);
            assert!(!serde_json::to_string(&found).unwrap().contains("hunter2"), "{env}");
        }
        for text in [
            "services: {db: {environment: {POSTGRES_PASSWORD: hunter2}}}",
            "services: {db: {environment: [\"A=b\", \"DB_TOKEN=hunter2\"]}}",
            "services: {db: {command: [serve, \"--password=hunter2\"]}}",
            "services: {db: {labels: {auth.secret: hunter2}}}",
        ] {
            let mut sources = sources("TAG=1\n", "A=b\n");
            sources.files[0].1 = text.to_owned();
            let found = found(&"shop".parse().unwrap(), sources, &[]).unwrap();
            assert!(!serde_json::to_string(&found).unwrap().contains("hunter2"), "{text}");
            assert!(found.notes.iter().any(|note| note.text.contains("docker-compose.yml has not left")), "{text}");
        }
        let mut fine = sources("TAG=1\n", "A=b\n");
        fine.files[0].1 = "services: {db: {environment: {DB_PASSWORD: \"${PW}\", A: b}}}".to_owned();
        assert_eq!(found(&"shop".parse().unwrap(), fine, &[]).unwrap().texts.len(), 2);
    }
}
