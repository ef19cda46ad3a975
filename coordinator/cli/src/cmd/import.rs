//! `drover import`: a manifest for what runs on a host already. Nothing on the host is changed; the file is never one that
//! is there, unless that was said.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use drover_proto::{
    app::Project,
    found::{Found, Subject},
    name::{AbsPath, AppName, LabelKey, LabelValue},
    view::HostView,
};

use crate::{
    args::{ImportCommand, ImportOptions, Output},
    client::Client,
    fault::{Exit, Fault, Outcome, Word},
    manifest::{self, Draft, beside, comment, is_beside, stored_as, written},
    show,
};

/// Asks, and writes.
pub async fn import(command: ImportCommand, output: Output) -> Outcome {
    let (subject, options) = match command {
        ImportCommand::Container { name, options } => (Subject::Container(name), options),
        ImportCommand::Unit { name, options } => (Subject::Unit(name), options),
        ImportCommand::Compose { name, options } => (Subject::Compose(name), options),
    };
    if matches!(subject, Subject::Compose(_)) && options.file.is_none() && output != Output::Json {
        let message = "the project's own files go beside its manifest: say into which file with -f";
        return Err(
            Fault::new(drover_proto::code::Code::Invalid, message).hint("in a folder of its own: -f shop/drover.yaml")
        );
    }
    let app = match &options.app {
        Some(app) => app.clone(),
        None => app_of(subject.name())?,
    };
    let mut client = Client::connect().await?;
    let hosts = client.hosts().await?.value;
    let found = client.import(&options.host, &subject).await?;
    if output == Output::Json {
        show::json(&found.json)?;
        return Ok(Exit::Done);
    }
    let (targets, mut remarks) = targets(&options.host, &hosts);
    let host =
        hosts.iter().find(|host| is_it(host, &options.host)).map_or(options.host.as_str(), |host| host.name.as_str());
    remarks.splice(0..0, head(&subject, host));
    remarks.extend(notes(&subject, &app, host, &found.value));
    let text = written(&Draft { app: &app, targets: &targets, remarks: &remarks, found: &found.value });
    put(&text, &texts(&found.value), &options)
}

/// What goes beside the manifest, by where it lies there.
fn texts(found: &Found) -> Vec<(PathBuf, &str)> {
    let of_project = |project: &Project| {
        let paths: Vec<AbsPath> = project.files.iter().chain(&project.env_file).cloned().collect();
        paths.into_iter().map(|path| (PathBuf::from(beside(project, &path)), path)).collect::<Vec<_>>()
    };
    let places = found.compose.values().flat_map(of_project);
    places.filter_map(|(place, path)| Some((place, found.texts.get(&path)?.as_str()))).collect()
}

/// The name of what runs as that of an app, if it can be one.
fn app_of(name: &str) -> Result<AppName, Fault> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = stem.chars().map(word).collect();
    text.trim_matches('-').parse().map_err(|_| {
        Fault::new(drover_proto::code::Code::Invalid, format!("{name} makes no name for an app: say one with --app"))
    })
}

fn is_it(host: &HostView, named: &str) -> bool {
    host.name.as_str() == named || host.id.as_str() == named
}

/// All labels of the host; which others have them, too.
fn targets(named: &str, hosts: &[HostView]) -> (BTreeMap<LabelKey, LabelValue>, Vec<String>) {
    let labels = hosts.iter().find(|host| is_it(host, named)).map(|host| host.labels.clone()).unwrap_or_default();
    if labels.is_empty() {
        let own = "host".parse::<LabelKey>().ok().zip(named.parse::<LabelValue>().ok());
        let remark = format!("- targets: the host has no labels: drover hosts label {named} host={named}");
        return (own.into_iter().collect(), vec![remark]);
    }
    let all = |host: &&HostView| labels.iter().all(|(key, value)| host.labels.get(key) == Some(value));
    let others: Vec<&str> =
        hosts.iter().filter(|host| !is_it(host, named)).filter(all).map(|host| host.name.as_str()).collect();
    let remark = format!("- targets: the app would also be put onto {}, which have the same labels", others.join(", "));
    (labels, if others.is_empty() { Vec::new() } else { vec![remark] })
}

fn head(subject: &Subject, host: &str) -> Vec<String> {
    vec![
        format!(
            "What runs on {host} as {subject}. Applying it takes it over without a restart, as long as nothing differs:"
        ),
        "`drover plan` says so before. What a person should look at:".to_owned(),
    ]
}

fn notes(subject: &Subject, app: &AppName, host: &str, found: &Found) -> Vec<String> {
    let mut all: Vec<String> = found.notes.iter().map(|note| format!("- {}: {}", note.field, note.text)).collect();
    for key in &found.secrets {
        let is_plain = |path: &&AbsPath| path.as_str().chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let from = match (subject, found.secrets_in.get(key).filter(is_plain)) {
            (_, Some(path)) => format!("ssh {host} sed -n 's/^{key}=//p' {path} | "),
            (Subject::Container(name), None) => format!("ssh {host} docker exec {name} printenv {key} | "),
            (Subject::Unit(_) | Subject::Compose(_), None) => String::new(),
        };
        let store = format!("{from}drover secret set {}", stored_as(app, key));
        all.push(format!("- {key}: looks like a secret; its value has not left the host. Store it before you apply:"));
        all.push(format!("    {store}"));
    }
    if all.is_empty() {
        all.push("- nothing".to_owned());
    }
    all
}

/// To the standard output, or into a file that is not there yet, with what goes beside it.
fn put(text: &str, texts: &[(PathBuf, &str)], options: &ImportOptions) -> Outcome {
    let Some(path) = &options.file else {
        show::print(text)?;
        return Ok(Exit::Done);
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    for (place, text) in texts {
        if !is_beside(place) {
            let message = format!(
                "the host calls a file of the project {}, which is not written here: bring it by hand",
                place.display()
            );
            return Err(Fault::new(drover_proto::code::Code::Invalid, message));
        }
        let place = folder.join(place);
        let made = fs::create_dir_all(place.parent().unwrap_or(folder));
        made.map_err(|error| Fault::io(format_args!("cannot make the folder of {}", place.display()), &error))?;
        write_new(&place, text, options.overwrite)?;
        show::note(&format!("{} is written", place.display()));
    }
    write_new(path, text, options.overwrite)?;
    let remarks: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
    show::note(&format!("{}\n{} is written", remarks.join("\n"), path.display()));
    match manifest::load(path, None) {
        Ok(_) => Ok(Exit::Done),
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| show::note(&comment(&mistake.to_string())));
            let message = format!("{} cannot be applied as it is: see to what is said above", path.display());
            Err(Fault::new(drover_proto::code::Code::Manifest, message))
        }
    }
}

fn write_new(path: &PathBuf, text: &str, overwrite: bool) -> Result<(), Fault> {
    let shown = |path: &Path| path.display().to_string();
    let mut options = fs::OpenOptions::new();
    options.write(true);
    match overwrite {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Fault::word(Word::Io, format!("{} is there already", shown(path)))
            .hint("name another file, or say --overwrite"),
        _ => Fault::io(format_args!("cannot write {}", shown(path)), &error),
    })
}

#[cfg(test)]
mod tests {
    //! What is done without a coordinator.
    use super::*;

    #[test]
    fn an_app_gets_the_name_of_what_runs() {
        assert_eq!(app_of("shop_web.service").unwrap().as_str(), "shop-web");
        assert_eq!(app_of("Web").unwrap().as_str(), "web");
        assert!(app_of("1").is_err());
    }

    #[test]
    fn a_file_that_is_there_is_left_alone_unless_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("drover.yaml");
        write_new(&path, "one", false).unwrap();
        assert!(write_new(&path, "two", false).unwrap_err().message.contains("there already"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        write_new(&path, "two", true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    }
}
