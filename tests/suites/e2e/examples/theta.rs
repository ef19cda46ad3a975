//! theta: backend and frontend in containers of their own, PostgreSQL and Redis beside them, behind the host's nginx with TLS.

use serde_json::json;

use super::Example;

const DOMAIN: &str = "theta.example.test";

impl Example {
    /// Builds and pushes both images as the working tree has them.
    fn push_theta(&self, version: &str) {
        let uvicorn = ["python3", "-m", "uvicorn", "app:app", "--host", "0.0.0.0", "--port", "8000"];
        let backend = self.image("python", "backend", &["app.py", "VERSION"], "65534", &uvicorn);
        self.registry.push(&format!("theta/backend:{version}"), &backend);
        let frontend = self.image("node", "frontend", &["server.js"], "node", &["node", "server.js"]);
        self.registry.push(&format!("theta/frontend:{version}"), &frontend);
    }

    /// The next version of everything.
    fn next_theta(&self, from: &str, to: &str) {
        self.edit("drover.yaml", &format!("version: \"{from}\""), &format!("version: \"{to}\""));
        self.edit("backend/VERSION", from, to);
        self.push_theta(to);
    }
}

#[test]
fn theta_is_deployed_upgraded_broken_and_reverted() {
    let theta = Example::open("theta", &[("postgres:15-alpine", "postgres"), ("redis:7-alpine", "redis")]);
    let (alice, host) = (&theta.fleet.alice, theta.host());
    theta.certificate(DOMAIN);
    theta.edit("drover.yaml", "registry.example.test/theta", &theta.registry.name("theta"));
    theta.push_theta("1.0.0");
    alice.apply(&theta.manifest()).ok();
    assert_eq!(theta.visit_json(DOMAIN, "/health", &[]), json!({ "status": "ok", "version": "1.0.0" }));
    assert!(theta.visit(DOMAIN, "/", &[]).contains("theta 1.0.0"));
    let task = ["-H", "content-type: application/json", "-d", "{\"model\": \"etm\", \"dataset\": \"news\"}"];
    let made = theta.visit_json(DOMAIN, "/api/tasks", &task);
    assert_eq!(made, json!({ "id": 1, "state": "queued" }));

    // Another version of the program leaves the database and the queue alone.
    let database = || host.docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", "theta-db", "theta-redis"]).ok();
    let before = database();
    theta.next_theta("1.0.0", "1.1.0");
    alice.apply(&theta.manifest()).ok();
    let kept = json!({ "id": 1, "model": "etm", "dataset": "news", "state": "queued" });
    assert_eq!(theta.visit_json(DOMAIN, "/api/tasks/1", &[]), kept);
    assert_eq!(theta.visit_json(DOMAIN, "/api/queue", &[]), json!({ "length": 1, "version": "1.1.0" }));
    assert_eq!(database(), before, "what did not change was not touched");

    // One that starts and is not well goes back by itself.
    theta.edit("drover.yaml", "healthy_deadline: 2m", "healthy_deadline: 20s");
    theta.edit("backend/app.py", "cache.ping()", "raise RuntimeError(\"the model is missing\")");
    theta.next_theta("1.1.0", "1.2.0");
    let output = alice.apply(&theta.manifest());
    assert_eq!(output.status, 1, "{output}");
    let said = output.fails();
    assert!(said.contains("500") && said.contains("the model is missing"), "the cause is said: {said}");
    assert_eq!(theta.visit_json(DOMAIN, "/api/queue", &[]), json!({ "length": 1, "version": "1.1.0" }));
    assert_eq!(theta.visit_json(DOMAIN, "/api/tasks/1", &[]), kept);
    assert_eq!(database(), before, "not on the way back either");

    // Whoever removes it keeps the data.
    alice.run(&["remove", "theta", "--yes"]).ok();
    let volumes = host.docker(&["volume", "ls", "-q"]).ok();
    assert_eq!(volumes.lines().collect::<Vec<_>>(), ["theta-db", "theta-redis"]);
    assert_eq!(host.docker(&["ps", "-aq"]).ok(), "");
}
