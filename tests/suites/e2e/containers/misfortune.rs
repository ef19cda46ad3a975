//! Containers that fail in the gate, and an engine that goes away.

use std::time::Duration;

use drover_tests::lab::{Image, eventually};

use super::Shop;

#[test]
fn a_container_that_fails_is_reverted_with_its_cause() {
    let shop = Shop::running(&["web-1"]);
    let behave = |word: &str| {
        let environment = format!("    env: [GREETING]\n    environment: {{ BEHAVIOUR: {word} }}\n");
        shop.manifest(|text| {
            text.replace("    env: [GREETING]\n", &environment)
                .replace("healthy_deadline: 30s", "healthy_deadline: 12s")
        })
    };
    shop.fails(&behave("crash"), &["container shop-web exited with code 3", "crashing, as BEHAVIOUR says"], false);
    shop.fails(&behave("sick"), &["container shop-web is unhealthy"], false);
    shop.fails(&behave("hungry"), &["memory ran out"], false);
    let program = shop.with("    read_only: true\n", "    read_only: true\n    command: [/no/such/program]\n");
    shop.fails(&program, &["/no/such/program"], false);
    let why = shop.fleet.alice.run(&["why", "web-1", "shop"]).ok();
    assert!(why.contains("/no/such/program"), "{why}");
    let left = shop.host().docker(&["ps", "-a", "--format", "{{.Names}}"]).ok();
    assert_eq!(left.trim(), "shop-web", "nothing is left of what failed");
}

#[test]
fn one_that_does_not_listen_to_its_signal_is_killed_when_its_time_is_over() {
    let shop = Shop::open(&["web-1"]);
    let deaf = shop.with("    env: [GREETING]\n", "    env: [GREETING]\n    environment: { BEHAVIOUR: deaf }\n");
    shop.fleet.alice.apply(&deaf).ok();
    shop.serves("one");
    shop.registry.push("shop/web:2", &Image::web("two"));
    shop.fleet.alice.apply(&shop.with("shop/web:1", "shop/web:2")).ok();
    shop.serves("two");
}

#[test]
fn an_engine_that_is_restarted_or_stopped_is_survived() {
    let shop = Shop::running(&["web-1"]);
    let (host, alice) = (shop.host(), &shop.fleet.alice);
    host.exec(&["systemctl", "stop", "docker.socket", "docker.service"]).ok();
    eventually("it is told", Duration::from_secs(60), || {
        let why = alice.run(&["why", "web-1", "shop"]).ok();
        if why.contains("the Docker engine does not answer") || why.contains("no Docker engine") {
            Ok(())
        } else {
            Err(why)
        }
    });
    shop.registry.push("shop/web:2", &Image::web("two"));
    let refused = alice.apply(&shop.with("shop/web:1", "shop/web:2")).fails();
    assert!(refused.contains("Docker engine"), "{refused}");
    host.exec(&["systemctl", "start", "docker.service"]).ok();
    eventually("it serves again", Duration::from_secs(90), || {
        host.exec(&["curl", "-sf", "-m", "2", "http://127.0.0.1:8080/"]).success()
    });

    // In the middle of a rollout: while its gate waits.
    let slow = shop.manifest(|text| {
        text.replace("shop/web:1", "shop/web:2").replace("min_healthy_time: 2s", "min_healthy_time: 6s")
    });
    let rollout = std::thread::scope(|scope| {
        let apply = scope.spawn(|| alice.apply(&slow));
        eventually("the gate waits", Duration::from_secs(40), || {
            let phase = alice.app_on("shop", "web-1")["status"]["phase"]["state"].clone();
            if phase == "gating" { Ok(()) } else { Err(phase.to_string()) }
        });
        host.exec(&["systemctl", "restart", "docker.service"]).ok();
        apply.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
    });
    rollout.ok();
    shop.serves("two");
}
