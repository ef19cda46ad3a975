//! Pure: what is known when the agent has just started: what its alerts of before are about. Beside `alert`; `kept` has them.

use drover_proto::alert::Test;

use super::{
    machine::{Machine, Now},
    rules::Active,
    scene::{Expiry, Restarts, Scene},
};

/// What alerts that were pending or firing are about: that the agent is started again ends none. A process that was killed, or a container that
/// was started again and again, counts as having been so just now; of all else nothing is known until it is looked at.
#[must_use]
pub fn scene(machine: &Machine, active: &[Active], now: Now) -> Scene {
    let mut scene = Scene::default();
    for held in machine.held() {
        let key = &held.status.key;
        let test = active.iter().find(|active| active.id == held.rule()).map(|active| &active.rule.when.test);
        match (test, &key.app) {
            (Some(Test::OomKill), _) => scene.oom_kill = Some(Some(now.boot_ms)),
            (Some(Test::CertificateExpires(_)), app) => {
                let expiry = Expiry { app: app.clone(), subject: key.subject.clone(), until_s: None };
                scene.certificates.entry(app.clone()).or_default().push(expiry);
            }
            (Some(test @ (Test::ContainerRestarting(_) | Test::ContainerGone(_))), Some(app)) => {
                let of_app = scene.containers.entry(app.clone()).or_default();
                let container = of_app.entry(key.subject.clone()).or_default();
                // Replaced meanwhile, it is not gone.
                container.service.clone_from(&held.service);
                if matches!(test, Test::ContainerRestarting(_)) {
                    container.restarts = Restarts::remembered(now.boot_ms);
                }
            }
            _ => {}
        }
    }
    scene
}

#[cfg(test)]
mod tests {
    //! Each kind of rule, with what was pending for it and what fired.
    use drover_proto::alert::AlertRule;

    use super::*;
    use crate::alert::{
        machine::{Finding, Verdict},
        rules::RuleId,
    };

    const NOW: Now = Now { boot_ms: 60_000, unix_ms: 0 };

    /// What is known at the start when this held for something of the app's.
    fn started(when: &str) -> Scene {
        let active = Active {
            id: RuleId { app: None, alert: "it".parse().unwrap() },
            rule: AlertRule::new(when.parse().unwrap()),
        };
        let finding = Finding {
            app: Some("mono".parse().unwrap()),
            subject: "box".to_owned(),
            service: Some("shop/web".to_owned()),
            verdict: Verdict::Holds,
            said: String::new(),
        };
        let mut machine = Machine::default();
        machine.look(&active, Some(&[finding]), NOW);
        scene(&machine, &[active], NOW)
    }

    #[test]
    fn what_was_pending_goes_on_as_what_fired() {
        for lasts in ["", " for 5m"] {
            let mono = "mono".parse().unwrap();
            assert_eq!(started(&format!("oom kill{lasts}")).oom_kill, Some(Some(NOW.boot_ms)), "{lasts}");
            let restarting = started(&format!("container restarting{lasts}"));
            assert_eq!(restarting.containers[&mono]["box"].restarts.lately(NOW.boot_ms), (true, true), "{lasts}");
            let gone = started(&format!("container gone{lasts}"));
            let container = &gone.containers[&mono]["box"];
            assert_eq!((container.restarts.lately(NOW.boot_ms), container.is_running), ((false, false), None));
            assert_eq!(container.service.as_deref(), Some("shop/web"));
            let expires = started(&format!("certificate expires in < 1d{lasts}"));
            assert_eq!(expires.certificates[&Some(mono)][0].until_s, None, "{lasts}");
        }
        assert_eq!(started("check failing"), Scene::default());
    }
}
