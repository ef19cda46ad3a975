//! Pure: what is known when the agent has just started: what its alerts of before are about. Beside `alert`; `kept` has them.

use drover_proto::alert::{AlertState, Test};

use super::{
    machine::{Machine, Now},
    rules::Active,
    scene::{Expiry, Restarts, Scene},
};

/// What alerts that were firing are about: that the agent is started again ends none. A process that was killed, or a container that
/// was started again and again, counts as having been so just now; of all else nothing is known until it is looked at.
#[must_use]
pub fn scene(machine: &Machine, active: &[Active], now: Now) -> Scene {
    let mut scene = Scene::default();
    for held in machine.held() {
        let is_firing = held.status.state == AlertState::Firing;
        let key = &held.status.key;
        let test = active.iter().find(|active| active.id == held.rule()).map(|active| &active.rule.when.test);
        match (test, &key.app) {
            (Some(Test::OomKill), _) if is_firing => scene.oom_kill = Some(Some(now.boot_ms)),
            (Some(Test::CertificateExpires(_)), app) => {
                let expiry = Expiry { app: app.clone(), subject: key.subject.clone(), until_s: None };
                scene.certificates.entry(app.clone()).or_default().push(expiry);
            }
            (Some(test @ (Test::ContainerRestarting(_) | Test::ContainerGone(_))), Some(app)) => {
                let of_app = scene.containers.entry(app.clone()).or_default();
                let container = of_app.entry(key.subject.clone()).or_default();
                if is_firing && matches!(test, Test::ContainerRestarting(_)) {
                    container.restarts = Restarts::remembered(now.boot_ms);
                }
            }
            _ => {}
        }
    }
    scene
}
