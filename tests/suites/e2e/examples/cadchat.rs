//! cadchat: a container whose library of commands people edit on the host, with Docker's own settings in the release.

use std::time::Duration;

use drover_tests::lab::eventually;
use serde_json::json;

use super::Example;

const DOMAIN: &str = "cadchat.example.test";

impl Example {
    fn push_cadchat(&self, version: &str) {
        let command = ["python3", "cloud_server_bailian.py"];
        let image = self.image("python", "server", &["cloud_server_bailian.py", "VERSION"], "0", &command);
        self.registry.push(&format!("cadchat/server:{version}"), &image);
    }

    fn next_cadchat(&self, from: &str, to: &str) {
        self.edit("drover.yaml", &format!("version: \"{from}\""), &format!("version: \"{to}\""));
        self.edit("server/VERSION", from, to);
        self.push_cadchat(to);
    }

    fn has_commands(&self, number: u32, version: &str) {
        let wanted = json!({ "status": "ok", "version": version, "commands": number });
        eventually("the server knows its library", Duration::from_secs(20), || {
            let host = self.host();
            let said = host.exec(&["curl", "-s", "-m", "5", "http://127.0.0.1:5000/health"]).stdout;
            if serde_json::from_str(&said).is_ok_and(|said: serde_json::Value| said == wanted) {
                Ok(())
            } else {
                Err(said)
            }
        });
    }
}

#[test]
fn cadchat_is_deployed_upgraded_broken_and_reverted_and_reads_its_library_anew() {
    let example = Example::open("cadchat", &[]);
    let (alice, host) = (&example.fleet.alice, example.host());
    example.certificate(DOMAIN);
    example.edit("drover.yaml", "registry.example.test", &example.registry.address());
    // The lab's hosts stand on an overlay, where the kernel takes no swap file.
    example.edit("drover.yaml", "  swap: 1G                            # only if there is none\n", "");
    // The lab's registry is one that Docker has to be told of.
    let theirs = String::from_utf8(host.read_file("/etc/docker/daemon.json")).expect("text");
    let insecure = format!("{{\n  \"insecure-registries\": [\"{}\"],\n", example.registry.address());
    example.edit("docker/daemon.json", "{\n  \"log-driver\"", &format!("{insecure}  \"log-driver\""));
    // Nor may they raise a limit above this machine's own.
    example.edit("docker/daemon.json", "64000", "1024");
    example.push_cadchat("1.0.0");
    alice.apply(&example.manifest()).ok();
    example.has_commands(0, "1.0.0");
    let logs = host.docker(&["inspect", "-f", "{{json .HostConfig.LogConfig}}", "cadchat-server"]).ok();
    assert!(logs.contains("\"max-size\":\"10m\""), "Docker had its new settings before the container was made: {logs}");
    let limits = host.docker(&["exec", "cadchat-server", "cat", "/proc/1/limits"]).ok();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is listed");
    assert!(files.split_whitespace().eq(["Max", "open", "files", "1024", "1024", "files"]), "{files}");

    // People copy a library to the host.
    let library = std::fs::read(example.folder.path().join("command_files/autocad_basic_commands.txt")).expect("it");
    host.write_file("/srv/cadchat/command_files/autocad_basic_commands.txt", &library);
    example.has_commands(2, "1.0.0");
    assert!(example.visit(DOMAIN, "/api/commands/line", &[]).contains("straight segments"));
    let events = alice.json(&["events", "--app", "cadchat"]);
    assert!(events.to_string().contains("autocad_basic_commands.txt was added"), "{events:#}");
    example.visit(DOMAIN, "/api/codes/door", &["-X", "PUT", "-d", "(defun door ())"]);

    example.next_cadchat("1.0.0", "1.1.0");
    alice.apply(&example.manifest()).ok();
    example.has_commands(2, "1.1.0");
    assert_eq!(example.visit(DOMAIN, "/api/codes/door", &[]), "(defun door ())");

    example.edit("server/cloud_server_bailian.py", "COMMANDS = library()", "raise SystemExit(\"no application id\")");
    example.edit("drover.yaml", "healthy_deadline: 1m", "healthy_deadline: 20s");
    example.next_cadchat("1.1.0", "1.2.0");
    let output = alice.apply(&example.manifest());
    assert_eq!(output.status, 1, "{output}");
    let said = output.fails();
    assert!(said.contains("no application id"), "the cause is said: {said}");
    example.has_commands(2, "1.1.0");

    alice.run(&["remove", "cadchat", "--yes"]).ok();
    assert_eq!(String::from_utf8(host.read_file("/etc/docker/daemon.json")).expect("text"), theirs);
    assert_eq!(host.sh("cat /srv/cadchat/user_codes/door.lsp"), "(defun door ())");
}
