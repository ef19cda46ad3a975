//! Requests that are lost while a unit behind nginx is replaced again and again under a load of short and long ones, on kept
//! connections and on new ones.

use std::time::Duration;

use drover_tests::{
    fleet::Fleet,
    lab::eventually,
    load::{EVERY_KIND, Load},
    tiny::Tiny,
};

use crate::setting;

const SOON: Duration = Duration::from_secs(30);

/// `BENCH_DEPLOYS`: how many.
pub fn measure() -> String {
    let deploys = setting("BENCH_DEPLOYS", 20);
    let fleet = Fleet::start(&["w1"]);
    let mut shop = Tiny::shop().version("v0");
    fleet.alice.apply(&shop.manifest()).ok();
    let load = Load::on(fleet.host("w1").ip(), EVERY_KIND);
    let answers = |version: &str| {
        let seen = || load.so_far().versions.contains_key(version).then_some(());
        eventually("the release answers", SOON, seen);
    };
    answers("v0");
    for deploy in 1..=deploys {
        let version = format!("v{deploy}");
        shop = shop.version(&version);
        fleet.alice.apply(&shop.manifest()).ok();
        answers(&version);
    }
    let (rate, tally) = (load.rate(), load.stop());
    format!(
        "Requests under {deploys} blue/green deploys of a unit behind nginx, at {rate:.0} a second\n\n\
         | kept connections (sent again) | new connections | of 3 s | lost |\n|---|---|---|---|\n| {} ({}) | {} | {} | {} |\n",
        tally.kept, tally.resent, tally.fresh, tally.long, tally.lost
    )
}
