//! What a release becomes on a host; and the example that other modules' tests work with.

use std::collections::{BTreeMap, BTreeSet};

use drover_proto::{
    app::{
        Artifact, BlueGreen, Build, Container, Content, Drift, FilePart, Hook, HookPoint, Limits, Restart, Rights,
        SecretSource, Unit,
    },
    digest::Digest,
    duration::Span,
    source::Source,
    template::{Argv, Hole, Segment},
};

use super::*;

/// A template from text with `{{ hole }}`s; only the holes that the tests use.
pub(crate) fn template(text: &str) -> Template {
    let mut segments = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{ ") {
        let (hole, after) = after.split_once(" }}").unwrap();
        segments.push(Segment::Text(before.to_owned()));
        segments.push(Segment::Hole(match hole {
            "release" => Hole::Release,
            "env_file" => Hole::EnvFile,
            "host.name" => Hole::HostName,
            "path" => Hole::Path,
            "port" => Hole::Port,
            other => match other.strip_prefix("secret.") {
                Some(secret) => Hole::Secret(secret.parse().unwrap()),
                None => Hole::HostLabel(other.strip_prefix("host.labels.").unwrap().parse().unwrap()),
            },
        }));
        rest = after;
    }
    segments.push(Segment::Text(rest.to_owned()));
    Template(segments)
}

pub(crate) fn argv(args: &[&str]) -> Argv {
    args.iter().map(|arg| template(arg)).collect()
}

/// The example with its unit replaced by another instance beside it.
pub(crate) fn handing_over() -> DesiredApp {
    let mut desired = desired();
    for unit in desired.spec.units.values_mut() {
        unit.text = template(
            "[Service]\nEnvironmentFile={{ env_file }}\nExecStart={{ release }}/venv/bin/gunicorn -b 127.0.0.1:{{ port }}\n",
        );
        let (upstream, drain) = ("mono-api".parse().unwrap(), Span::from_secs(30));
        unit.handover = Some(BlueGreen { upstream, drain, container_port: None });
    }
    desired
}

/// A file of root's.
pub(crate) fn file_part(path: &str, content: &str, mode: u32) -> FilePart {
    FilePart {
        path: path.parse().unwrap(),
        content: Content::Text(template(content)),
        owner: "root".parse().unwrap(),
        group: "root".parse().unwrap(),
        mode,
        validate: None,
        reload: BTreeSet::new(),
        restart: BTreeSet::new(),
        adopt: false,
        drift: Drift::default(),
    }
}

pub(crate) fn unit(text: &str) -> Unit {
    Unit {
        text: template(text),
        enable: true,
        start: true,
        adopt: false,
        instances: BTreeSet::new(),
        ports: BTreeSet::new(),
        drift: Drift::default(),
        restart_budget: None,
        restart_on_change: None,
        handover: None,
    }
}

/// The example: an API from an artifact with a secret, behind a site.
pub(crate) fn desired() -> DesiredApp {
    let mut site = file_part("/etc/nginx/sites-enabled/mono", "server { server_name {{ host.name }}; }\n", 0o644);
    site.validate = Some(argv(&["nginx", "-t"]));
    site.reload = BTreeSet::from(["nginx.service".parse().unwrap()]);
    let build = Build {
        user: "www-data".parse().unwrap(),
        run: vec![argv(&["python3", "-m", "venv", "{{ release }}/venv"])],
        env: BTreeMap::new(),
        timeout: Span::from_secs(60),
    };
    let hook = |when, word: &str| Hook {
        name: None,
        run_once: false,
        when,
        run: argv(&["/bin/echo", word]),
        user: "root".parse().unwrap(),
        timeout: Span::from_secs(5),
        env: BTreeSet::from(["PORT".parse().unwrap()]),
    };
    DesiredApp {
        release: ReleaseId { app: "mono".parse().unwrap(), number: 1 },
        rollout: 1,
        paused: false,
        run_once: false,
        restart: 0,
        spec: AppSpec {
            app: "mono".parse().unwrap(),
            targets: BTreeMap::from([("role".parse().unwrap(), "web".parse().unwrap())]),
            strategy: Strategy::default(),
            host: HostNeeds::default(),
            artifact: Some(Artifact {
                digest: Digest::of(b"archive"),
                size_bytes: 7,
                build: Some(build),
                source: Source::Pushed,
            }),
            env: BTreeMap::from([
                ("PORT".parse().unwrap(), template("5000")),
                ("KEY".parse().unwrap(), template("{{ secret.KEY }}")),
            ]),
            secrets: BTreeMap::from([("KEY".parse().unwrap(), SecretSource::Generate(32))]),
            units: BTreeMap::from([(
                "mono-api.service".parse().unwrap(),
                unit(
                    "[Service]\nType=notify\nEnvironmentFile={{ env_file }}\nExecStart={{ release }}/venv/bin/gunicorn\n",
                ),
            )]),
            containers: BTreeMap::new(),
            compose: Default::default(),
            files: vec![site],
            hooks: vec![hook(HookPoint::BeforeSwitch, "before"), hook(HookPoint::AfterSwitch, "after")],
            checks: BTreeMap::new(),
            restart_budget: None,
            certificates: vec![],
            alerts: std::collections::BTreeMap::new(),
        },
        secrets: BTreeMap::from([("KEY".parse().unwrap(), Secret::new("hunter2".to_owned()))]),
    }
}

/// A container as a manifest has it.
pub(crate) fn container_part() -> Container {
    Container {
        image: format!("registry.example.org/shop:1@sha256:{}", "ab".repeat(32)).parse().unwrap(),
        credentials: None,
        entrypoint: None,
        command: Some(argv(&["serve", "{{ release }}"])),
        env: Some(BTreeSet::from(["PORT".parse().unwrap()])),
        environment: BTreeMap::from([("HOST".parse().unwrap(), template("{{ host.name }}"))]),
        secrets: BTreeSet::from(["KEY".parse().unwrap()]),
        ports: BTreeSet::from(["127.0.0.1:8000:80".parse().unwrap()]),
        volumes: Vec::new(),
        networks: BTreeSet::new(),
        limits: Limits::default(),
        rights: Rights::default(),
        user: None,
        working_dir: None,
        restart: Restart::UnlessStopped,
        healthcheck: None,
        logging: None,
        stop_signal: None,
        stop_grace_period: Span::from_secs(10),
        labels: BTreeMap::new(),
        drift: Drift::Repair,
        restart_on_change: None,
        adopt: false,
        handover: None,
    }
}

/// The example with the container `shop` and nothing else that runs.
pub(crate) fn with_container() -> DesiredApp {
    let mut desired = desired();
    desired.spec.units.clear();
    desired.spec.containers = BTreeMap::from([("shop".parse().unwrap(), container_part())]);
    desired
}

/// The same, rendered.
pub(crate) fn container() -> RenderedContainer {
    rendered(&with_container()).containers.into_values().next().unwrap()
}

pub(crate) fn facts() -> HostFacts {
    let labels = BTreeMap::from([("role".parse().unwrap(), "web".parse().unwrap())]);
    HostFacts { name: "web-1".parse().unwrap(), labels }
}

pub(crate) fn layout() -> Layout {
    Layout {
        state_dir: "/var/lib/drover/agent".into(),
        releases_dir: "/var/lib/drover/releases".into(),
        env_dir: "/var/lib/drover/env".into(),
        units_dir: "/etc/systemd/system".into(),
        upstreams_dir: "/etc/nginx/conf.d".into(),
    }
}

/// Everything below one directory, of which nothing is made.
pub(crate) fn layout_in(dir: &std::path::Path) -> Layout {
    Layout {
        state_dir: dir.join("state"),
        releases_dir: dir.join("releases"),
        env_dir: dir.join("env"),
        units_dir: dir.join("units"),
        upstreams_dir: dir.join("upstreams"),
    }
}

pub(crate) fn rendered(desired: &DesiredApp) -> Rendered {
    render(desired, &facts(), &layout(), &Ports::new()).unwrap()
}

fn text(rendered: &Rendered, path: &str) -> String {
    let file = rendered.file(&path.parse().unwrap()).unwrap();
    String::from_utf8(file.bytes.expose().clone()).unwrap()
}

#[test]
fn every_hole_is_filled() {
    let desired = desired();
    assert_eq!(desired.spec.check(), vec![]);
    let rendered = rendered(&desired);
    let tree = rendered.tree.as_ref().unwrap();
    assert_eq!(tree.directory.as_str(), format!("/var/lib/drover/releases/mono/{}", tree.key));
    assert_eq!(tree.build.as_ref().unwrap().run[0][3], format!("{}/venv", tree.directory));
    assert_eq!(text(&rendered, "/var/lib/drover/env/mono.env"), "KEY=hunter2\nPORT=5000\n");
    assert!(
        text(&rendered, "/etc/systemd/system/mono-api.service")
            .contains("EnvironmentFile=/var/lib/drover/env/mono.env\n")
    );
    assert!(text(&rendered, "/etc/nginx/sites-enabled/mono").contains("server_name web-1;"));
    assert!(!format!("{rendered:?}").contains("hunter2"));
    let env = &rendered.files[0];
    assert_eq!((env.mode, env.secret, env.masked.as_deref()), (0o600, true, Some("KEY=[secret]\nPORT=5000\n")));
    assert_eq!(rendered.hooks[0].env.expose().keys().collect::<Vec<_>>(), ["PORT"]);
}

#[test]
fn env_values_are_quoted_as_systemd_reads_them() {
    let mut desired = desired();
    for (key, value) in
        [("A", "two words"), ("B", "say \"$HOME\" \\ `x`"), ("C", ""), ("D", "#no"), ("E", "http://a/b?x=1")]
    {
        desired.spec.env.insert(key.parse().unwrap(), template(value));
    }
    let text = text(&rendered(&desired), "/var/lib/drover/env/mono.env");
    let want = "A=\"two words\"\nB=\"say \\\"\\$HOME\\\" \\\\ \\`x\\`\"\nC=\"\"\nD=\"#no\"\nE=\"http://a/b?x=1\"\n";
    assert!(text.starts_with(want), "{text}");
}

#[test]
fn a_fingerprint_changes_exactly_with_what_a_process_sees() {
    let base = desired();
    let of = |desired: &DesiredApp| rendered(desired).units[&"mono-api.service".parse().unwrap()].fingerprint;
    let mut other = base.clone();
    other.release.number = 2;
    other.rollout = 2;
    other.spec.files[0].content = Content::Text(template("server {}\n"));
    other.spec.hooks.clear();
    assert_eq!(of(&base), of(&other), "the site is not named by the unit");
    let mut secret = base.clone();
    secret.secrets.insert("KEY".parse().unwrap(), Secret::new("other".to_owned()));
    let mut artifact = base.clone();
    artifact.spec.artifact.as_mut().unwrap().digest = Digest::of(b"other");
    let mut build = base.clone();
    build.spec.artifact.as_mut().unwrap().build.as_mut().unwrap().run[0][0] = template("python3.11");
    let mut named = base.clone();
    named.spec.units.values_mut().for_each(|unit| unit.text.0.push(Segment::Text("# /etc/mono.conf".to_owned())));
    named.spec.files.push(file_part("/etc/mono.conf", "1", 0o644));
    let mut renamed = named.clone();
    renamed.spec.files[1].content = Content::Text(template("2"));
    let all: BTreeSet<Digest> = [&base, &secret, &artifact, &build, &named, &renamed].map(of).into_iter().collect();
    assert_eq!(all.len(), 6);
}

#[test]
fn what_cannot_be_filled_is_said_with_its_field() {
    let mut label = desired();
    label.spec.files[0].content = Content::Text(template("{{ host.labels.zone }}"));
    let mut secret = desired();
    secret.secrets.clear();
    let mut base64 = desired();
    base64.spec.files[0].content = Content::Base64("???".to_owned());
    for (desired, field, what) in [
        (label, "files[0].content", "no label zone"),
        (secret, "env.KEY", "secret KEY"),
        (base64, "files[0].content", "base64"),
    ] {
        let error = render(&desired, &facts(), &layout(), &Ports::new()).unwrap_err();
        assert_eq!(error.field, field);
        assert!(error.what.contains(what), "{error}");
    }
}

#[test]
fn a_check_with_the_hole_path_looks_at_a_staged_copy() {
    let mut desired = desired();
    assert!(!rendered(&desired).files[2].validate.as_ref().unwrap().is_staged());
    desired.spec.files[0].validate = Some(argv(&["visudo", "-cf", "{{ path }}"]));
    let rendered = rendered(&desired);
    let validate = rendered.files[2].validate.as_ref().unwrap();
    assert!(validate.is_staged());
    assert_eq!(validate.argv("/tmp/x"), ["visudo", "-cf", "/tmp/x"]);
}

#[test]
fn a_container_sees_what_it_asks_for_and_no_secret_but_in_files() {
    let desired = with_container();
    assert_eq!(desired.spec.check(), vec![]);
    let rendered = rendered(&desired);
    let shop = &rendered.containers[&"shop".parse().unwrap()];
    let env = shop.env.expose();
    assert_eq!((env["PORT"].as_str(), env["HOST"].as_str(), env.len()), ("5000", "web-1", 2));
    let file = rendered.file(&"/var/lib/drover/env/mono/shop/KEY".parse().unwrap()).unwrap();
    assert_eq!((file.bytes.expose().as_slice(), file.secret, file.mode), (b"hunter2".as_slice(), true, 0o444));
    let mount = &shop.spec.volumes[0];
    assert_eq!((mount.target.as_str(), mount.read_only), ("/run/secrets/KEY", true));
    assert!(shop.secrets.contains(file.path.as_str()));
    assert!(!format!("{shop:?}").contains("hunter2"));
}

#[test]
fn a_container_is_another_when_anything_it_is_made_of_is() {
    let print = |change: &dyn Fn(&mut DesiredApp)| {
        let mut desired = with_container();
        change(&mut desired);
        rendered(&desired).containers.into_values().next().unwrap().fingerprint
    };
    let shop = |desired: &mut DesiredApp, change: &dyn Fn(&mut Container)| {
        desired.spec.containers.values_mut().for_each(change);
    };
    let same = print(&|_| {});
    let other: [&dyn Fn(&mut DesiredApp); 5] = [
        &|desired| shop(desired, &|c| c.image.digest = Some(Digest::of(b"other"))),
        &|desired| shop(desired, &|c| c.limits.memory_bytes = Some(64 << 20)),
        &|desired| drop(desired.spec.env.insert("PORT".parse().unwrap(), template("5001"))),
        &|desired| drop(desired.secrets.insert("KEY".parse().unwrap(), Secret::new("other".to_owned()))),
        &|desired| desired.restart = 7,
    ];
    for (index, change) in other.into_iter().enumerate() {
        assert_ne!(print(change), same, "{index}");
    }
    let same_container: [&dyn Fn(&mut DesiredApp); 3] = [
        &|desired| shop(desired, &|c| c.image.tag = Some("2".to_owned())),
        &|desired| shop(desired, &|c| c.drift = Drift::Report),
        &|desired| drop(desired.spec.env.insert("OTHER".parse().unwrap(), template("unseen"))),
    ];
    for (index, change) in same_container.into_iter().enumerate() {
        assert_eq!(print(change), same, "{index}");
    }
    let mut tagged = with_container();
    shop(&mut tagged, &|c| c.image.digest = None);
    assert!(render(&tagged, &facts(), &layout(), &Ports::new()).unwrap_err().to_string().contains("has no digest"));
}
