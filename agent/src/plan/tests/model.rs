//! A host in memory on which every step succeeds.

use std::collections::BTreeMap;

use drover_proto::{
    name::ProjectName,
    plan::{Action, Plan},
    spec::DesiredApp,
};

use crate::{
    handover::Choice,
    host::{
        docker::{ContainerState, Member},
        files::FileState,
        systemd::UnitState,
    },
    ledger::{AdoptedUnit, AppLedger, Brought, Original, ServiceRecord},
    observe::{Observed, Seen, SeenFile},
    plan::{Input, Owners, plan},
    render::{
        FileKind, Rendered, render,
        tests::{desired, facts, layout},
    },
};

/// The host.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) observed: Observed,
    pub(crate) ledger: AppLedger,
    pub(crate) others: Owners,
}

impl Host {
    /// Freshly installed.
    pub(crate) fn new() -> Self {
        let users: BTreeMap<_, _> =
            [("root", 0), ("www-data", 33)].map(|(n, id)| (n.parse().unwrap(), Some(id))).into();
        let observed = Observed { users: users.clone(), groups: users, ..Observed::default() };
        Self { observed, ledger: AppLedger::new("mono".parse().unwrap()), others: Owners::default() }
    }

    /// With the example committed.
    pub(crate) fn with_example() -> (Self, DesiredApp) {
        let mut host = Self::new();
        let desired = desired();
        host.apply(&desired);
        (host, desired)
    }

    /// A release as it would be here.
    pub(crate) fn rendered(&self, desired: &DesiredApp) -> Rendered {
        let (facts, layout, taken, range) = (facts(), layout(), Default::default(), Default::default());
        let choice =
            Choice { desired, facts: &facts, layout: &layout, ledger: &self.ledger, taken: &taken, range: &range };
        render(desired, &facts, &layout, &choice.ports().unwrap()).unwrap()
    }

    pub(crate) fn plan(&self, desired: Option<&DesiredApp>) -> Plan {
        let wanted = desired.map(|desired| self.rendered(desired));
        let of = wanted.iter().flat_map(|wanted| &wanted.handovers);
        let ports =
            self.ledger.live_ports().into_iter().chain(of.map(|(name, its)| (name.clone(), its.port))).collect();
        let previous =
            self.ledger.current.as_ref().and_then(|current| render(current, &facts(), &layout(), &ports).ok());
        let mut observed = self.observed.clone();
        observed.tree_sealed = wanted
            .as_ref()
            .and_then(|wanted| wanted.tree.as_ref())
            .is_some_and(|tree| self.ledger.trees.contains(&tree.key));
        plan(&Input {
            app: &"mono".parse().unwrap(),
            wanted: wanted.as_ref(),
            previous: previous.as_ref(),
            observed: &observed,
            ledger: &self.ledger,
            others: &self.others,
            layout: &layout(),
        })
    }

    /// Puts a file of somebody else there.
    pub(crate) fn put(&mut self, path: &str, text: &str) {
        let digest = drover_proto::digest::Digest::of(text.as_bytes());
        let state = FileState::File { digest: Some(digest), uid: 0, gid: 0, mode: 0o644, size: text.len() as u64 };
        let text = Some(drover_proto::secret::Secret::new(text.to_owned()));
        self.observed.files.insert(path.parse().unwrap(), SeenFile { seen: Seen::Is(state), text });
    }

    /// One that drover has not made makes room, as the engine has it.
    fn stand_aside(&mut self, name: &drover_proto::name::ContainerName) {
        let Some(state) = self.observed.containers.states.get(name) else { return };
        if state.adopted || state.app.is_none() {
            self.ledger.set_aside(name, state);
            self.observed.containers.aside.insert(name.clone(), state.id.clone());
        }
    }

    fn give_back(&mut self, name: &drover_proto::name::ContainerName) {
        let Some(before) = self.ledger.adopted.get(name) else { return };
        if self.observed.containers.aside.get(name) != Some(&before.id) {
            return;
        }
        let status = if before.ran { "running" } else { "exited" };
        let state = ContainerState {
            id: before.id.clone(),
            app: before.fingerprint.map(|_| "mono".parse().unwrap()),
            adopted: before.fingerprint.is_some(),
            fingerprint: before.fingerprint,
            status: status.to_owned(),
            running: before.ran,
            ..ContainerState::default()
        };
        self.observed.containers.aside.remove(name);
        self.observed.containers.states.insert(name.clone(), state);
    }

    pub(crate) fn unit(&mut self, name: &str) -> &mut UnitState {
        self.observed.units.entry(name.parse().unwrap()).or_default()
    }

    /// Plans, carries out, commits.
    pub(crate) fn apply(&mut self, desired: &DesiredApp) -> Plan {
        let plan = self.plan(Some(desired));
        assert_eq!(plan.refusals, vec![]);
        let wanted = self.rendered(desired);
        self.ledger.allot(&wanted);
        self.ledger.claim_containers(&wanted);
        self.ledger.claim_instances(&wanted, |_| None);
        for step in &plan.steps {
            self.carry_out(&step.action, Some(&wanted));
        }
        self.ledger.commit(desired, &wanted, 0);
        plan
    }

    pub(crate) fn remove(&mut self) -> Plan {
        let plan = self.plan(None);
        for step in &plan.steps {
            self.carry_out(&step.action, None);
        }
        plan
    }

    pub(crate) fn carry_out(&mut self, action: &Action, wanted: Option<&Rendered>) {
        match action {
            Action::WriteFile { path, keep_original, .. } => self.write(path, *keep_original, wanted.unwrap()),
            Action::RemoveFile { path, restore_original } => {
                if *restore_original {
                    self.put(path.as_str(), "original");
                } else {
                    self.observed.files.remove(path);
                }
                self.ledger.released(path);
            }
            Action::DaemonReload => self.observed.units.values_mut().for_each(|unit| unit.need_daemon_reload = false),
            Action::Enable(unit) => self.unit(unit.as_str()).unit_file_state = "enabled".into(),
            Action::Disable(unit) => self.unit(unit.as_str()).unit_file_state = "disabled".into(),
            Action::Stop(unit) => self.unit(unit.as_str()).active_state = "inactive".into(),
            Action::Start(unit) | Action::Restart(unit) => {
                self.unit(unit.as_str()).active_state = "active".into();
                if let Some(own) = wanted.and_then(|wanted| wanted.units.get(unit)) {
                    self.ledger.started(unit, own.fingerprint);
                }
            }
            Action::EnsureDirectory(need) => {
                let id = |name| self.observed.users[name].unwrap();
                let state = FileState::Directory { uid: id(&need.owner), gid: id(&need.group), mode: need.mode };
                self.observed.directories.insert(need.path.clone(), Seen::Is(state));
            }
            Action::CreateUser(need) => {
                self.observed.users.insert(need.name.clone(), Some(999));
                self.observed.groups.insert(need.name.clone(), Some(999));
            }
            Action::InstallPackages(_) => self.observed.packages_missing.clear(),
            Action::MakeSwap { size_bytes } => {
                self.observed.preflight.swap.iter_mut().for_each(|swap| swap.largest_bytes = *size_bytes);
            }
            Action::MakeNetwork(network) => drop(self.observed.containers.networks.insert(network.clone())),
            Action::PullImage(image) => drop(self.observed.containers.images.insert(image.pullable())),
            Action::RunContainer { name, .. } => {
                let container = &wanted.unwrap().containers[name];
                assert!(self.observed.containers.images.contains(&container.image.pullable()), "its image is here");
                self.stand_aside(name);
                let state = ContainerState {
                    app: Some("mono".parse().unwrap()),
                    fingerprint: Some(container.fingerprint),
                    digests: [container.digest].into(),
                    status: "running".to_owned(),
                    running: true,
                    ..ContainerState::default()
                };
                self.observed.containers.states.insert(name.clone(), state);
            }
            Action::StartContainer(name) => {
                let state = self.observed.containers.states.get_mut(name).unwrap();
                (state.status, state.running) = ("running".to_owned(), true);
            }
            Action::AdoptContainer(name) => {
                let fingerprint = wanted.unwrap().containers[name].fingerprint;
                let state = self.observed.containers.states.get_mut(name).unwrap();
                self.ledger.adopt_container(name, state, fingerprint);
                (state.app, state.adopted) = (Some("mono".parse().unwrap()), true);
                state.fingerprint = Some(fingerprint);
            }
            Action::ReturnContainer(name) => self.give_back(name),
            Action::RemoveContainer(name) => drop(self.observed.containers.states.remove(name)),
            Action::UpProject { name, .. } => self.bring_up(name, wanted.unwrap()),
            Action::AdoptProject(name) => self.take_over(name, wanted.unwrap()),
            Action::LeaveProject(name) => {
                self.ledger.projects.remove(name);
                self.ledger.stood.remove(name);
            }
            Action::RemoveProject(name) => drop(self.observed.projects.members.remove(name)),
            Action::Fetch { .. }
            | Action::Unpack { .. }
            | Action::Build { .. }
            | Action::BuildProject(_)
            | Action::Hook { .. }
            | Action::Validate { .. }
            | Action::Reload(_)
            | Action::Prove { .. }
            | Action::Drain { .. }
            | Action::Gate { .. }
            | Action::Commit => {}
        }
    }

    /// One service, `web`; what compose makes of the files is what it was given.
    fn bring_up(&mut self, name: &ProjectName, wanted: &Rendered) {
        let project = &wanted.compose[name];
        let hash = project.inputs.to_string();
        let image = "sha256:1".to_owned();
        let record = ServiceRecord { hash: hash.clone(), image: image.clone(), image_name: "web".to_owned(), count: 1 };
        let (inputs, restart) = (project.inputs, project.restart);
        let brought = Brought { inputs, config: inputs, restart, services: [("web".to_owned(), record)].into() };
        self.ledger.projects.insert(name.clone(), Some(brought));
        let state = ContainerState {
            image_id: image,
            status: "running".to_owned(),
            running: true,
            ..ContainerState::default()
        };
        let member = Member { service: "web".to_owned(), hash, state, ..Member::default() };
        self.observed.projects.members.insert(name.clone(), vec![member]);
    }

    /// As it stands there.
    fn take_over(&mut self, name: &ProjectName, wanted: &Rendered) {
        let stood = self.observed.projects.members.get(name).cloned();
        self.bring_up(name, wanted);
        self.ledger.stood.insert(name.clone(), wanted.compose[name].inputs);
        assert_eq!(self.observed.projects.members.get(name), stood.as_ref());
    }

    fn write(&mut self, path: &drover_proto::name::AbsPath, keep_original: bool, wanted: &Rendered) {
        let file = wanted.file(path).unwrap();
        let original = keep_original.then_some(Original { uid: 0, gid: 0, mode: 0o644 });
        let before = keep_original.then_some(AdoptedUnit { enabled: true, active: true });
        self.ledger.claim(file, original, before);
        let id = |name| self.observed.users[name].unwrap();
        let state = FileState::File {
            digest: Some(file.digest),
            uid: id(&file.owner),
            gid: id(&file.group),
            mode: file.mode,
            size: 0,
        };
        self.observed.files.insert(path.clone(), SeenFile { seen: Seen::Is(state), text: None });
        if let FileKind::Unit(of) = &file.kind {
            for (name, _) in wanted.units.iter().filter(|(name, unit)| unit.file == *of && !name.is_template()) {
                let unit = self.unit(name.as_str());
                unit.fragment_path = path.to_string();
                if unit.unit_file_state.is_empty() {
                    unit.unit_file_state = "disabled".into();
                }
            }
        }
    }
}

/// A plan as words, one step a line.
pub(crate) fn words(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::InstallPackages(_) => "packages".to_owned(),
        Action::MakeSwap { size_bytes } => format!("swap {}", size_bytes >> 20),
        Action::CreateUser(need) => format!("user {}", need.name),
        Action::EnsureDirectory(need) => format!("directory {}", need.path),
        Action::Fetch { .. } => "fetch".to_owned(),
        Action::Unpack { .. } => "unpack".to_owned(),
        Action::Build { .. } => "build".to_owned(),
        Action::Hook { index, .. } => format!("hook {index}"),
        Action::WriteFile { path, .. } => format!("write {path}"),
        Action::Validate { run, staged: true, .. } => format!("validate staged {}", run.join(" ")),
        Action::Validate { run, staged: false, .. } => format!("validate {}", run.join(" ")),
        Action::RemoveFile { path, restore_original: false } => format!("remove {path}"),
        Action::RemoveFile { path, restore_original: true } => format!("restore {path}"),
        Action::DaemonReload => "daemon-reload".to_owned(),
        Action::Enable(unit) => format!("enable {unit}"),
        Action::Disable(unit) => format!("disable {unit}"),
        Action::Stop(unit) => format!("stop {unit}"),
        Action::Start(unit) => format!("start {unit}"),
        Action::Restart(unit) => format!("restart {unit}"),
        Action::Reload(unit) => format!("reload {unit}"),
        Action::MakeNetwork(network) => format!("network {network}"),
        Action::PullImage(image) => format!("pull {}", image.repository),
        Action::RunContainer { name, .. } => format!("run {name}"),
        Action::StartContainer(name) => format!("start container {name}"),
        Action::AdoptContainer(name) => format!("adopt container {name}"),
        Action::ReturnContainer(name) => format!("return container {name}"),
        Action::RemoveContainer(name) => format!("remove container {name}"),
        Action::Prove { instance, .. } => format!("prove {instance}"),
        Action::Drain { instance, .. } => format!("drain {instance}"),
        Action::BuildProject(name) => format!("build project {name}"),
        Action::UpProject { name, recreate: false } => format!("up {name}"),
        Action::UpProject { name, recreate: true } => format!("up anew {name}"),
        Action::AdoptProject(name) => format!("adopt project {name}"),
        Action::LeaveProject(name) => format!("leave project {name}"),
        Action::RemoveProject(name) => format!("remove project {name}"),
        Action::Gate { .. } => "gate".to_owned(),
        Action::Commit => "commit".to_owned(),
    };
    plan.steps.iter().map(|step| format!("{}: {}", word(&step.action), step.reason)).collect()
}
