//! Files, ownership, host needs and archives on real hosts.

use std::process::Command;

use drover_tests::{fleet::Fleet, lab::run, tiny::Tiny};

use crate::{assert_serving, tiny_says};

#[test]
fn what_is_already_there_is_refused_or_adopted_and_comes_back() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    host.write_file("/etc/tiny.conf", b"by hand\n");
    let tiny = Tiny::new().append(
        "files:\n  - { path: /etc/tiny.conf, content: \"by drover on {{ host.name }}\\n\", restart: tiny.service }",
    );
    let said = fleet.alice.apply(&tiny.manifest()).fails();
    assert!(said.contains("/etc/tiny.conf") && said.contains("adopt: true"), "{said}");
    assert_eq!(host.read_file("/etc/tiny.conf"), b"by hand\n");
    assert!(!host.exists("/etc/systemd/system/tiny.service"), "nothing else was begun");

    let tiny = tiny.edit("restart: tiny.service }", "restart: tiny.service, adopt: true }");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_eq!(host.read_file("/etc/tiny.conf"), b"by drover on web-1\n");

    let other = Tiny::new()
        .edit("app: tiny", "app: other")
        .edit("tiny.service", "other.service")
        .edit("8000\"", "8002\"")
        .edit("127.0.0.1:8000", "127.0.0.1:8002")
        .append("files:\n  - { path: /etc/tiny.conf, content: mine, adopt: true }");
    let said = fleet.alice.apply(&other.manifest()).fails();
    assert!(said.contains("tiny"), "another app's file: {said}");
    assert_eq!(host.read_file("/etc/tiny.conf"), b"by drover on web-1\n");

    fleet.alice.run(&["remove", "tiny", "--yes"]).ok();
    assert_eq!(host.read_file("/etc/tiny.conf"), b"by hand\n", "the original is back");
}

#[test]
fn a_file_that_another_apps_site_needs_cannot_be_removed_before_it() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let with_file = |app: &str, content: &str| {
        let tiny = Tiny::new();
        let manifest = format!(
            "version: 1\napp: {app}\ntargets: {{ labels: {{ role: web }} }}\nstrategy: {{ min_healthy_time: 1s }}\nfiles:\n  \
             - path: /etc/nginx/conf.d/{app}.conf\n    content: '{content}'\n    validate: [nginx, -t]\n    reload: nginx.service"
        );
        std::fs::write(tiny.manifest(), manifest).expect("a manifest");
        tiny
    };
    let zone = with_file("zone", "limit_req_zone $binary_remote_addr zone=calm:1m rate=1r/s;");
    let site = "server { listen 8090; location / { limit_req zone=calm; return 204; } }";
    fleet.alice.apply(&zone.manifest()).ok();
    fleet.alice.apply(&with_file("site", site).manifest()).ok();
    let works = || {
        host.exec(&["nginx", "-t"]).ok();
        assert!(host.exists("/etc/nginx/conf.d/zone.conf"));
        host.exec(&["curl", "-sf", "-m", "2", "http://127.0.0.1:8090/"]).ok();
    };
    works();
    let said = fleet.alice.run(&["remove", "zone", "--yes"]).fails();
    assert!(said.contains("failed without /etc/nginx/conf.d/zone.conf") && said.contains("zone \"calm\""), "{said}");
    works();
    fleet.alice.apply(&with_file("zone", "# none").manifest()).fails();
    works();
    fleet.alice.run(&["remove", "site", "--yes"]).ok();
    fleet.alice.run(&["remove", "zone", "--yes"]).ok();
    assert!(!host.exists("/etc/nginx/conf.d/zone.conf"));
    host.exec(&["nginx", "-t"]).ok();
}

#[test]
fn what_could_never_work_is_refused_before_anything_is_written() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let pid = host.main_pid("tiny.service");

    let nobody = Tiny::new().append("files:\n  - { path: /etc/tiny.conf, content: x, reload: nosuch.service }");
    let said = fleet.alice.apply(&nobody.manifest()).fails();
    assert!(said.contains("nosuch.service"), "{said}");
    assert!(!host.exists("/etc/tiny.conf"));

    let same_unit = Tiny::new().edit("app: tiny", "app: other");
    let said = fleet.alice.apply(&same_unit.manifest()).fails();
    assert!(said.contains("tiny.service") && said.contains("[owned-by-other]"), "{said}");

    assert_eq!(host.main_pid("tiny.service"), pid);
    let again = fleet.alice.run(&["plan", "-f", &tiny.manifest().display().to_string()]);
    assert_eq!(again.status, 0, "the refused ones left nothing behind: {again}");
}

#[test]
fn host_needs_are_met_and_stay() {
    let fleet = Fleet::start(&["web-1"]);
    let host = &fleet.hosts[0];
    // A package of a repository on the host itself: apt is real, the network is not needed.
    host.sh(
        "mkdir -p /root/p/DEBIAN /root/p/usr/share/drover-need /root/repo; cd /root; \
         printf 'Package: drover-need\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: t <t@example.test>\\nDescription: t\\n' > p/DEBIAN/control; \
         echo yes > p/usr/share/drover-need/file; dpkg-deb -b p repo/drover-need_1.0_all.deb; chmod 755 /root; \
         cd repo; { dpkg-deb -f drover-need_1.0_all.deb; echo Filename: ./drover-need_1.0_all.deb; echo Size: $(stat -c %s drover-need_1.0_all.deb); \
         echo SHA256: $(sha256sum drover-need_1.0_all.deb | cut -d' ' -f1); echo; } > Packages; \
         rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] file:/root/repo ./' > /etc/apt/sources.list",
    );
    let tiny = Tiny::new().edit("user: www-data", "user: tinyuser").append(
        "host:\n  packages: [drover-need]\n  users: [{ name: tinyuser, home: /var/lib/tiny }]\n  directories: [{ path: /var/lib/tiny, owner: tinyuser, mode: \"0700\" }]",
    );
    let plan = fleet.alice.run(&["plan", "-f", &tiny.manifest().display().to_string()]);
    assert!(plan.stdout.contains("drover-need") && plan.stdout.contains("tinyuser"), "{plan}");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert!(host.exists("/usr/share/drover-need/file"));
    assert_eq!(host.sh("stat -c %U:%a /var/lib/tiny").trim(), "tinyuser:700");
    assert_eq!(host.property("tiny.service", "User"), "tinyuser");
    fleet.alice.run(&["remove", "tiny", "--yes"]).ok();
    assert!(
        host.exists("/var/lib/tiny") && host.exists("/usr/share/drover-need/file"),
        "host needs are never taken back"
    );
}

#[test]
fn hostile_archives_are_refused_whole() {
    let fleet = Fleet::start(&["web-1"]);
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let pid = fleet.hosts[0].main_pid("tiny.service");
    let tiny = tiny.edit("path: ./app", "path: ./app.tar");
    let python = "
import io, sys, tarfile
kind, out = sys.argv[1:]
t = tarfile.open(out, 'w')
def add(name, **more):
    data = more.pop('data', b'x')
    i = tarfile.TarInfo(name)
    for k, v in more.items(): setattr(i, k, v)
    if i.type == tarfile.REGTYPE: i.size = len(data)
    t.addfile(i, io.BytesIO(data) if i.type == tarfile.REGTYPE else None)
add('server.py', data=b'pass')
if kind == 'dotdot': add('../../../../etc/evil')
if kind == 'absolute': add('/etc/evil')
if kind == 'symlink': add('link', type=tarfile.SYMTYPE, linkname='/etc/passwd')
if kind == 'through': add('d', type=tarfile.SYMTYPE, linkname='../..'); add('d/evil')
if kind == 'hardlink': add('link', type=tarfile.LNKTYPE, linkname='/etc/shadow')
if kind == 'device': add('dev', type=tarfile.CHRTYPE, devmajor=1, devminor=3)
if kind == 'fifo': add('fifo', type=tarfile.FIFOTYPE)
if kind == 'suid': add('suid', mode=0o4755)
t.close()
";
    for (kind, entry) in [
        ("dotdot", "../../../../etc/evil"),
        ("absolute", "/etc/evil"),
        ("symlink", "link"),
        ("through", "d"),
        ("hardlink", "link"),
        ("device", "dev"),
        ("fifo", "fifo"),
        ("suid", "suid"),
    ] {
        run(Command::new("python3").args(["-c", python, kind]).arg(tiny.path().join("app.tar")), None).ok();
        let said = fleet.alice.apply(&tiny.manifest()).fails();
        assert!(said.contains("[archive]") && said.contains(&format!("{entry:?}")), "{kind}: {entry} is named: {said}");
        assert_eq!(fleet.hosts[0].main_pid("tiny.service"), pid, "{kind}");
    }
    assert!(!fleet.hosts[0].exists("/etc/evil"));
    assert_serving(&fleet, "1");
    assert_eq!(tiny_says(&fleet.hosts[0])["version"], "1");
}

#[test]
fn a_full_disk_leaves_the_old_release_serving() {
    let fleet = Fleet::start_empty(&[]);
    let host = fleet.lab.host_with_disk("web-1", "300m");
    drover_tests::fleet::install(&host, "drover-agent");
    fleet.enroll(&host, &fleet.alice.token("role=web", 1));
    drover_tests::lab::eventually("it is connected", std::time::Duration::from_secs(20), || {
        fleet.alice.json(&["hosts", "show", "web-1"])["connected"] == true
    });
    let tiny = Tiny::new();
    fleet.alice.apply(&tiny.manifest()).ok();
    let pid = host.main_pid("tiny.service");
    // A small archive of a large file: the plan knows that there is no room to unpack it.
    std::fs::write(tiny.path().join("app/zeros"), vec![0_u8; 400 << 20]).expect("a large file");
    let said = fleet.alice.apply(&tiny.manifest()).fails();
    assert!(said.contains("refused[disk]") && said.contains("make room"), "{said}");
    std::fs::remove_file(tiny.path().join("app/zeros")).expect("the large file");
    // What a build writes, nobody knows before.
    let build = "path: ./app\n  build: { user: www-data, run: [[dd, if=/dev/zero, of=zeros, bs=1M, count=400]] }";
    let tiny = tiny.version("2").edit("path: ./app", build);
    let said = fleet.alice.apply(&tiny.manifest()).fails();
    assert!(said.contains("[build]") && said.contains("No space left"), "{said}");
    assert_eq!(host.main_pid("tiny.service"), pid);
    assert_eq!(tiny_says(&host)["version"], "1");
    let tiny = tiny.version("3").edit(build, "path: ./app");
    fleet.alice.apply(&tiny.manifest()).ok();
    assert_eq!(tiny_says(&host)["version"], "3", "what the failed one left was cleaned up");
}
