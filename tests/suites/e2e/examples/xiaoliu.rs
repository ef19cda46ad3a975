//! xiaoliu: a compose project as the team has it, built on the host, with its own nginx and Redis.

use serde_json::json;

use super::Example;

const DOMAIN: &str = "xiaoliu.example.test";

#[test]
fn xiaoliu_is_built_deployed_upgraded_broken_and_reverted() {
    let public = [("python:3.11-slim", "python"), ("redis:7-alpine", "redis"), ("nginx:alpine", "nginx")];
    let example = Example::open("xiaoliu", &public);
    let (alice, host) = (&example.fleet.alice, example.host());
    example.certificate(DOMAIN);
    // As certbot's deploy hook does it.
    host.sh(&format!("mkdir -p /srv/xiaoliu/ssl; cp /etc/letsencrypt/live/{DOMAIN}/*.pem /srv/xiaoliu/ssl/"));
    // The image of Debian's packages has what it needs, and the lab has no package index.
    example.edit("server/Dockerfile", "RUN pip install --no-cache-dir -r requirements.txt\n", "");
    alice.apply(&example.manifest()).ok();
    let health = |said: u32, version: &str| {
        let wanted = json!({ "status": "healthy", "service": "xiaoliu-ai", "version": version, "said": said });
        assert_eq!(example.visit_json(DOMAIN, "/health", &[]), wanted);
    };
    health(0, "1.0.0");
    let chat = || {
        let body = json!({ "message": "请帮我配色", "user_id": "li" }).to_string();
        example.visit_json(DOMAIN, "/chat", &["-H", "content-type: application/json", "-d", &body])
    };
    assert_eq!(chat(), json!({ "status": "success", "command": "配色", "said": 1 }));
    let status = alice.app_on("xiaoliu", "web-1").to_string();
    for service in ["xiaoliu-ai", "redis", "nginx"] {
        assert!(status.contains(service), "{service} is shown: {status}");
    }

    // Only what is built anew is replaced.
    let others = || {
        let ids = host.docker(&["ps", "-q", "--no-trunc", "--filter", "name=redis", "--filter", "name=nginx"]).ok();
        let mut ids: Vec<String> = ids.lines().map(str::to_owned).collect();
        ids.sort();
        ids
    };
    let before = others();
    assert_eq!(before.len(), 2);
    example.edit("server/VERSION", "1.0.0", "1.1.0");
    alice.apply(&example.manifest()).ok();
    health(1, "1.1.0");
    assert_eq!(chat()["said"], 2, "what Redis and the data directory hold is still there");
    assert_eq!(others(), before);

    example.edit("server/VERSION", "1.1.0", "1.2.0");
    example.edit("server/main.py", "    counts.ping()\n", "    raise RuntimeError(\"no model\")\n");
    example.edit("drover.yaml", "healthy_deadline: 2m", "healthy_deadline: 25s");
    let output = alice.apply(&example.manifest());
    assert_eq!(output.status, 1, "{output}");
    let said = output.fails();
    assert!(said.contains("xiaoliu-ai") || said.contains("500"), "the cause is said: {said}");
    health(2, "1.1.0");
    assert_eq!(others(), before);
}
