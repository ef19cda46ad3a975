//! Whether a project that runs already was made of a release's files, as compose itself sees it: 2 is asked what `up` would do,
//! 1.29 what it would make, which is what the containers have as a label. Part of `compose`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    path::Path,
};

use drover_proto::name::ProjectName;

use super::{CONFIG, Compose, Config, arguments};
use crate::{
    host::{
        docker::{Member, of_service},
        process::{self, Outcome},
    },
    render::{FileKind, Layout, Rendered, RenderedFile, RenderedProject},
};

/// Of what `up` says that it would do.
const MAX_SAID_BYTES: u64 = 1 << 20;

impl Compose {
    /// Why what runs of a project is not what it would make of the release's files, which `config` has read before; one
    /// sentence each. It goes by where paths lead, so it is asked where the files lie.
    pub async fn differs(
        &self,
        name: &ProjectName,
        (wanted, config): (&Rendered, &Config),
        members: &[Member],
        layout: &Layout,
    ) -> Vec<String> {
        let Some(project) = wanted.compose.get(name) else { return Vec::new() };
        let mut wrong = others(&wanted.files, project.base.as_path(), |path| fs::read(path).ok());
        let missing = project.files.iter().chain(&project.env_file).filter(|path| !path.as_path().exists());
        wrong.extend(missing.map(|path| format!("{path} is not on the host")));
        wrong.extend(strangers(&config.services.keys().map(String::as_str).collect(), members));
        if !wrong.is_empty() {
            return wrong;
        }
        let said = if self.is_old {
            self.hashes(name, project, layout).await.map(|said| compared(&hashes(&said), members))
        } else {
            self.dry_run(name, project, layout).await.map(|said| would_do(&said, members))
        };
        said.unwrap_or_else(|why| vec![why])
    }

    async fn hashes(&self, name: &ProjectName, project: &RenderedProject, layout: &Layout) -> Result<String, String> {
        let lead = arguments(name, project, &Path::to_owned, layout)?;
        let mut command = self.command(lead, &["config", "--hash", "*"], project.env.expose().clone(), CONFIG);
        command.cwd = Some(project.directory().to_owned());
        let outcome = self.succeeded(process::run(command).await.map_err(|error| error.to_string())?)?;
        Ok(String::from_utf8_lossy(&outcome.stdout).into_owned())
    }

    /// `config --hash` leaves out what files of variables say. A version before 2.16 knows no `--dry-run`, and says so.
    async fn dry_run(&self, name: &ProjectName, project: &RenderedProject, layout: &Layout) -> Result<String, String> {
        const UP: [&str; 5] = ["up", "-d", "--no-build", "--remove-orphans", "--dry-run"];
        let lead = arguments(name, project, &Path::to_owned, layout)?;
        let mut command = self.command(lead, &UP, project.env.expose().clone(), CONFIG);
        command.cwd = Some(project.directory().to_owned());
        let place = tempfile::TempDir::new_in(layout.work_dir()).map_err(|error| error.to_string())?;
        let file = place.path().join("said");
        command.output_file = Some(file.clone());
        self.succeeded(process::run(command).await.map_err(|error| error.to_string())?)?;
        let mut said = Vec::new();
        let read = fs::File::open(file).and_then(|file| file.take(MAX_SAID_BYTES).read_to_end(&mut said));
        read.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    fn succeeded(&self, outcome: Outcome) -> Result<Outcome, String> {
        if outcome.ok() { Ok(outcome) } else { Err(self.words(&outcome, CONFIG)) }
    }
}

/// Files beside those of the project that are there with another content: once they are written it would be another project.
fn others(files: &[RenderedFile], base: &Path, read: impl Fn(&Path) -> Option<Vec<u8>>) -> Vec<String> {
    let of_project = |file: &&RenderedFile| file.kind == FileKind::Plain && file.path.as_path().starts_with(base);
    let differs = |file: &&RenderedFile| read(file.path.as_path()).is_some_and(|there| there != *file.bytes.expose());
    let differing = files.iter().filter(of_project).filter(differs);
    differing.map(|file| format!("{} on the host is not as the release has it", file.path)).collect()
}

/// Services that run and that the release does not have.
fn strangers(services: &BTreeSet<&str>, members: &[Member]) -> Vec<String> {
    let of_services = members.iter().filter(|member| !member.one_off).map(|member| member.service.as_str());
    let strange: BTreeSet<&str> = of_services.filter(|service| !services.contains(service)).collect();
    strange
        .into_iter()
        .map(|service| format!("service {service} runs there, and is not in its files or in none of its profiles"))
        .collect()
}

/// `SERVICE HASH`, a line each.
fn hashes(said: &str) -> BTreeMap<&str, &str> {
    said.lines().filter_map(|line| line.trim().split_once(' ')).collect()
}

fn compared(wanted: &BTreeMap<&str, &str>, members: &[Member]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (service, hash) in wanted {
        let own: Vec<&Member> = of_service(members, service).collect();
        match () {
            () if own.is_empty() => wrong.push(format!("service {service} is not there")),
            () if own.iter().any(|member| member.hash != *hash) => {
                wrong.push(format!("service {service} was made of something else than its files and settings say"));
            }
            () => {}
        }
    }
    wrong
}

/// Of ` DRY-RUN MODE -  Container shop-web-1  Recreate` and the like what is not left as it is. What is only started has been
/// made of the same. Whatever is not said to stay counts as not staying, as other versions may have other words.
fn would_do(said: &str, members: &[Member]) -> Vec<String> {
    const MODE: &str = "DRY-RUN MODE -";
    const STAYS: [&str; 7] = ["Running", "Created", "Starting", "Started", "Waiting", "Healthy", "Exited"];
    /// What follows on something that has been said.
    const FOLLOWS: [&str; 3] = ["Recreated", "Stopped", "Removed"];
    let events = said.lines().filter_map(|line| line.split_once(MODE)).map(|(_, event)| event.trim());
    let (mut wrong, mut stay) = (Vec::new(), BTreeSet::new());
    for (what, does) in events.filter_map(|event| event.rsplit_once(' ')) {
        let (kind, name) = what.trim().split_once(' ').unwrap_or((what, ""));
        let (kind, name) = (kind.to_lowercase(), name.trim());
        match does {
            "Recreate" => {
                wrong.push(format!("{kind} {name} was made of something else than its files and settings say"))
            }
            "Creating" => wrong.push(format!("{kind} {name} is not there")),
            "Stopping" | "Removing" => wrong.push(format!("{kind} {name} is not one that compose would leave there")),
            word if STAYS.contains(&word) => drop(stay.insert(name)),
            word if FOLLOWS.contains(&word) => {}
            word => wrong.push(format!("compose says {word:?} of {kind} {name}, which drover does not know")),
        }
    }
    if wrong.is_empty() {
        let unsaid = members.iter().filter(|member| !member.one_off && !stay.contains(member.name.as_str()));
        wrong
            .extend(unsaid.map(|member| format!("compose does not say that it would leave container {}", member.name)));
    }
    wrong
}

#[cfg(test)]
mod tests {
    //! What is compared.
    use super::*;

    fn member(service: &str, hash: &str) -> Member {
        Member { service: service.to_owned(), hash: hash.to_owned(), ..Member::default() }
    }

    #[test]
    fn every_service_stands_as_it_would_be_made_and_no_other() {
        let wanted = hashes("web 1a\ncache 2b\n");
        let services = wanted.keys().copied().collect();
        let wrong = |members: &[Member]| [compared(&wanted, members), strangers(&services, members)].concat();
        let as_made = [member("cache", "2b"), member("web", "1a"), member("web", "1a")];
        assert_eq!(wrong(&as_made), <[&str; 0]>::default());
        let once = Member { one_off: true, ..member("job", "3c") };
        assert_eq!(wrong(&[&as_made[..], &[once]].concat()), <[&str; 0]>::default());
        assert_eq!(wrong(&as_made[..1]), ["service web is not there"]);
        assert!(wrong(&[member("cache", "2b"), member("web", "1a"), member("web", "0")])[0].contains("web was made"));
        let more = wrong(&[&as_made[..], &[member("job", "3c"), member("job", "3c")]].concat());
        assert!(more.len() == 1 && more[0].contains("service job runs there"), "{more:?}");
    }

    #[test]
    fn what_up_would_do() {
        // As 2.26.1 says it.
        let none = " DRY-RUN MODE -  Container shop-web-1  Running \n DRY-RUN MODE -  Container shop-dep-1  Created \n \
                    DRY-RUN MODE -  Container shop-dep-1  Starting \n DRY-RUN MODE -  Container shop-dep-1  Started \n";
        let named = |name: &str| Member { name: name.to_owned(), ..Member::default() };
        let both = [named("shop-web-1"), named("shop-dep-1")];
        assert_eq!(would_do(none, &both), <[&str; 0]>::default());
        assert_eq!(would_do("", &both).len(), 2, "silence is no agreement");
        assert_eq!(would_do(" DRY-RUN MODE -  Container shop-web-1  Replacing", &both).len(), 1);
        let all = "time=\"x\" level=warning msg=\"version is obsolete\"\n DRY-RUN MODE -  Container shop-web-1  Recreate \n \
                   DRY-RUN MODE -  Container shop-web-1  Recreated \n DRY-RUN MODE -  Container shop-new-1  Creating \n \
                   DRY-RUN MODE -  Volume \"shop_data\"  Creating \n DRY-RUN MODE -  Container shop-old-1  Stopping \n";
        let all = would_do(all, &[]);
        assert_eq!(
            all.iter().map(|why| why.split(" is ").next().unwrap_or_default()).collect::<Vec<_>>(),
            [
                "container shop-web-1 was made of something else than its files and settings say",
                "container shop-new-1",
                "volume \"shop_data\"",
                "container shop-old-1"
            ]
        );
    }
}
