//! What both versions say, and what counts of it.
use super::*;

/// As docker-compose 1.29 writes it.
const OLD: &str = "\
services:
  db:
    image: busybox
    network_mode: host
    profiles:
    - web
  web:
    command:
    - sleep
    - '1000'
    image: 10.77.0.1:5000/shop/web:1
    logging:
      driver: json-file
    ports:
    - published: 8080
      target: 80
    privileged: true
    volumes:
    - /srv/shop/data:/data:rw
    - /srv/shop/etc:/etc/shop:ro
    - vol:/vol:ro
    - read_only: true
      source: /srv/shop/x
      target: /x
      type: bind
version: '3.8'
volumes:
  vol: {}
";

fn read(text: &str, profiles: &BTreeSet<String>) -> Result<Config, Vec<String>> {
    super::read(text, &Whose { profiles, prefix: "shop_".to_owned(), base: Path::new("/srv/shop") })
}

fn asks(text: &str) -> Vec<String> {
    let config = read(text, &BTreeSet::new()).unwrap();
    config.asks.iter().map(|(who, ask)| format!("{who}: {ask:?}")).collect()
}

/// The fields of the service `web`, each a line.
fn service(fields: &str) -> String {
    let fields: String = fields.lines().map(|line| format!("    {line}\n")).collect();
    format!("services:\n  web:\n    image: web\n{fields}")
}

#[test]
fn what_is_asked_of_the_host_is_seen() {
    let bind = |path: &str, read_only| format!("service web: Bind {{ path: {path:?}, read_only: {read_only} }}");
    assert_eq!(
        asks(OLD),
        [
            "service web: Privileged".to_owned(),
            bind("/srv/shop/data", false),
            bind("/srv/shop/etc", true),
            bind("/srv/shop/x", true),
            "service web: LogDriver(\"json-file\")".to_owned(),
        ]
    );
    let with = read(OLD, &["web".to_owned()].into()).unwrap();
    assert!(with.asks.contains(&("service db".to_owned(), Ask::Namespace(Namespace::Network))), "{:?}", with.asks);
    assert_eq!(with.services.len(), 2);
    let ports = |text: &str| {
        let config = read(&service(&format!("ports: {text}")), &BTreeSet::new()).unwrap();
        config.services["web"].ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ports("[{published: 8080, target: 80}, \"127.0.0.1:53:53/udp\", \"81\"]"), "8080 127.0.0.1:53/udp");
    assert_eq!(ports("[{host_ip: \"::1\", published: \"80\", protocol: tcp}, {published: 80-90}]"), "[::1]:80");
    let newer =
        "volumes:\n  - type: bind\n    source: /a$$b\n    target: /x\n    bind:\n      create_host_path: true\n";
    assert_eq!(asks(&service(newer)), [bind("/a$b", false)]);
}

#[test]
fn hidden_doors_are_seen() {
    for (fields, words) in [
        ("security_opt: [\"seccomp:unconfined\"]", "seccomp"),
        ("devices: [\"/dev/fuse:/dev/fuse:rwm\"]", "/dev/fuse"),
        ("devices: [{source: /dev/kvm, target: /dev/kvm}]", "/dev/kvm"),
        ("pid: host", "Pid"),
        ("cgroup_parent: system.slice", "cgroup_parent"),
        ("userns_mode: host", "userns_mode"),
        ("cap_add: [sys_admin]", "SYS_ADMIN"),
        ("deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}", "devices"),
        ("volumes: [\"/x:/x:rshared\"]", "mounted on the host"),
    ] {
        let asks = asks(&service(fields)).join("; ");
        assert!(asks.contains(words), "{fields}: {asks}");
    }
    for (top, words) in [
        ("volumes: {v: {driver_opts: {type: none, o: bind, device: /etc}}}", "Bind { path: \"/etc\""),
        ("volumes: {v: {driver_opts: {type: nfs, o: addr=10.0.0.1, device: \":/x\"}}}", "mount of"),
        ("volumes: {v: {driver_opts: {type: ext4, device: /dev/vda1}}}", "mount of"),
        ("volumes: {v: {driver: sshfs}}", "sshfs"),
        ("networks: {n: {external: true, name: host}}", "Namespace(Network)"),
        ("networks: {n: {external: {name: host}}}", "Namespace(Network)"),
        ("networks: {n: {driver: macvlan}}", "macvlan"),
        ("secrets: {s: {file: /etc/shadow}}", "/etc/shadow"),
    ] {
        let asks = asks(&format!("{}{top}\n", service(""))).join("; ");
        assert!(asks.contains(words), "{top}: {asks}");
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for (fields, words) in [
        ("build: {context: /etc}", "build.context"),
        ("build: {context: \"https://example.org/a.git\"}", "build.context"),
        ("build: {context: /srv/shop, dockerfile: ../Dockerfile}", "build.dockerfile"),
        ("build: {context: /srv/shop, dockerfile: /etc/shadow}", "build.dockerfile"),
        ("build: {context: /srv/shop, privileged: true}", "build.privileged"),
        ("build: {context: /srv/shop, ssh: [default]}", "build.ssh"),
        ("build: {context: /srv/shop, additional_contexts: {a: /etc}}", "build.additional_contexts"),
        ("use_api_socket: true", "use_api_socket"),
        ("network_mode: \"container:other\"", "leads out of the project"),
        ("volumes_from: [\"container:other\"]", "volumes_from"),
        ("pull_policy: always", "pull_policy"),
        ("post_start: [{command: [a], privileged: true}]", "post_start"),
    ] {
        let wrong = read(&service(fields), &BTreeSet::new()).unwrap_err().join("; ");
        assert!(wrong.contains(words), "{fields}: {wrong}");
    }
    let refused = |text: &str, profiles: &[&str]| {
        read(text, &profiles.iter().map(ToString::to_string).collect()).unwrap_err().join("; ")
    };
    assert!(refused(&service(""), &["none"]).contains("no service has the profile none"));
    assert!(refused("services: {}", &[]).contains("no service would run"));
    assert!(refused("services: {a: {command: b}}", &[]).contains("has no image"));
    assert!(refused(&format!("{}models: {{m: {{}}}}\n", service("")), &[]).contains("models"));
    assert!(refused("a: [", &[]).contains("not YAML"));
}

#[test]
fn what_is_built_has_a_name_and_counts_with_its_source() {
    let text = "services:\n  web:\n    build: {context: /srv/shop/backend, dockerfile: Dockerfile, args: {A: b}}\n";
    let config = read(text, &BTreeSet::new()).unwrap();
    let (name, image, build) = config.builds().next().unwrap();
    assert_eq!((name.as_str(), image.pullable().as_str()), ("web", "shop_web:latest"));
    assert_eq!(build.context, Path::new("backend"));
    assert_eq!(
        serde_json::Value::from(build.fields.clone()),
        serde_json::json!({ "dockerfile": "Dockerfile", "args": { "A": "b" } })
    );
    assert_ne!(config.identity(Some("1")), config.identity(Some("2")));
    let pulled = read(&service(""), &BTreeSet::new()).unwrap();
    assert_eq!(pulled.identity(Some("1")), pulled.identity(Some("2")), "another artifact changes nothing");
}
