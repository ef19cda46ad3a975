//! loss-adjuster: an API and a worker of one image with a queue between them, PostgreSQL, and a frontend served from the release.

use std::time::Duration;

use drover_tests::lab::eventually;
use serde_json::{Value, json};

use super::Example;

const DOMAIN: &str = "reports.example.test";

impl Example {
    fn push_service(&self, version: &str) {
        let uvicorn = ["python3", "-m", "uvicorn", "app:app", "--host", "0.0.0.0", "--port", "8000"];
        let image = self.image("python", "service", &["app.py", "worker.py", "store.py", "VERSION"], "0", &uvicorn);
        self.registry.push(&format!("loss-adjuster/service:{version}"), &image);
    }

    fn next_service(&self, from: &str, to: &str) {
        self.edit("drover.yaml", &format!("version: \"{from}\""), &format!("version: \"{to}\""));
        self.edit("service/VERSION", from, to);
        self.push_service(to);
    }

    /// Orders a report, and waits until the worker has written it.
    fn report(&self, claim: &str) -> Value {
        let body = json!({ "number": claim, "damage": "water in the cellar" }).to_string();
        let ordered = self.visit_json(DOMAIN, "/api/reports", &["-H", "content-type: application/json", "-d", &body]);
        let path = format!("/api/reports/{}", ordered["id"]);
        eventually("the report is written", Duration::from_secs(15), || {
            let report = self.visit_json(DOMAIN, &path, &[]);
            if report["state"] == "written" { Ok(report) } else { Err(report.to_string()) }
        })
    }
}

#[test]
fn loss_adjuster_is_deployed_upgraded_broken_and_reverted() {
    let example = Example::open("loss-adjuster", &[("postgres:15-alpine", "postgres"), ("redis:7-alpine", "redis")]);
    let (alice, host) = (&example.fleet.alice, example.host());
    example.certificate(DOMAIN);
    example.edit("drover.yaml", "registry.example.test", &example.registry.address());
    example.push_service("1.0.0");
    alice.apply(&example.manifest()).ok();
    assert!(example.visit(DOMAIN, "/", &[]).contains("<h1>Reports</h1>"));
    let first = example.report("C-1");
    assert_eq!((&first["written_by"], &first["claim"]), (&json!("1.0.0"), &json!("C-1")));

    // API and worker change together; frontend, too; database and queue stay as they are.
    let kept = || host.docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", "reports-db", "reports-queue"]).ok();
    let before = kept();
    example.edit("frontend/index.html", "<h1>Reports</h1>", "<h1>All reports</h1>");
    example.next_service("1.0.0", "1.1.0");
    alice.apply(&example.manifest()).ok();
    assert!(example.visit(DOMAIN, "/", &[]).contains("<h1>All reports</h1>"));
    assert_eq!(example.report("C-2")["written_by"], "1.1.0");
    assert_eq!(example.visit_json(DOMAIN, "/api/reports/1", &[]), first, "what was written is still there");
    assert_eq!(kept(), before);

    // A worker that ends takes all of it back, the frontend, too.
    example.edit("drover.yaml", "healthy_deadline: 2m", "healthy_deadline: 25s");
    example.edit("service/worker.py", "    prepare()\n", "    sys.exit(\"no license for the model\")\n");
    example.edit("frontend/index.html", "<h1>All reports</h1>", "<h1>Broken</h1>");
    example.next_service("1.1.0", "1.2.0");
    let output = alice.apply(&example.manifest());
    assert_eq!(output.status, 1, "{output}");
    let said = output.fails();
    assert!(said.contains("reports-worker") && said.contains("no license for the model"), "the cause is said: {said}");
    assert!(example.visit(DOMAIN, "/", &[]).contains("<h1>All reports</h1>"));
    assert_eq!(example.report("C-3")["written_by"], "1.1.0");
    assert_eq!(kept(), before);
}
