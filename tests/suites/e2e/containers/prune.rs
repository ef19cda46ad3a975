//! Clean-up on a real engine: what nobody needs goes, as planned and by itself; what runs, the release before it, and what others
//! made stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_tests::lab::{Fault, Image, eventually};
use serde_json::Value;

use super::Shop;

/// By name: the verdict, or why it stays.
fn verdicts(answer: &Value) -> BTreeMap<String, String> {
    let items = answer["hosts"][0]["outcome"]["pruned"]["items"].as_array();
    let items = items.unwrap_or_else(|| panic!("no report in {answer:#}"));
    let word = |verdict: &Value| match verdict.as_str() {
        Some(word) => word.to_owned(),
        None => verdict["kept"]["because"].as_str().unwrap_or("failed").to_owned(),
    };
    items.iter().map(|item| (item["name"].as_str().unwrap_or_default().to_owned(), word(&item["verdict"]))).collect()
}

fn those(verdicts: &BTreeMap<String, String>, word: &str) -> BTreeSet<String> {
    verdicts.iter().filter(|(_, verdict)| *verdict == word).map(|(name, _)| name.clone()).collect()
}

impl Shop {
    /// Applies version `number` of the image; how its image is called on the host.
    fn release(&self, number: u32, version: &str) -> String {
        let digest = self.registry.push(&format!("shop/web:{number}"), &Image::web(version).ballast(2 << 20));
        let manifest = self.manifest(|text| {
            let text = text.replacen("shop/web:1", &format!("shop/web:{number}"), 1);
            text.replacen("min_healthy_time: 2s", "min_healthy_time: 1s", 1)
        });
        self.fleet.alice.apply(&manifest).ok();
        self.serves(version);
        format!("{}@{digest}", self.registry.name("shop/web"))
    }

    fn images(&self) -> String {
        self.host().docker(&["images", "--digests", "--no-trunc"]).ok()
    }
}

#[test]
fn what_nobody_needs_goes_and_nothing_else() {
    let shop = Shop::open(&["web-1"]);
    let (alice, host) = (&shop.fleet.alice, shop.host());
    // Somebody's own: an image, a container of it, and one of an image of drover's.
    let tool = shop.registry.name("tool:1");
    shop.registry.push("tool:1", &Image::web("a tool"));
    host.docker(&["run", "--name", "theirs", &tool, "true"]).ok();
    let one = shop.release(1, "one");
    let two = shop.release(2, "two");
    host.docker(&["create", "--name", "of-two", &two]).ok();
    let three = shop.release(3, "three");
    let four = shop.release(4, "four");

    let plan = alice.json(&["prune", "--plan"]);
    let planned = verdicts(&plan);
    let said = |name: &str| planned.get(name).map(String::as_str);
    assert_eq!(those(&planned, "goes"), [one.clone()].into(), "{plan:#}");
    assert_eq!((said(&four), said(&three)), (Some("runs"), Some("release-before")), "{plan:#}");
    assert_eq!((said(&two), said("of-two")), (Some("used-by-container"), Some("not-drovers")), "{plan:#}");
    assert_eq!((said(&tool), said("theirs")), (Some("not-drovers"), Some("not-drovers")), "{plan:#}");
    assert!(shop.images().contains(&one[one.len() - 64..]), "a plan removes nothing");
    let table = alice.run(&["prune", "--plan", "--host", "web-1"]).ok();
    assert!(table.contains("would go") && table.contains("the release before of app shop needs it"), "{table}");

    let freed = alice.json(&["prune"]);
    assert_eq!(those(&verdicts(&freed), "gone"), those(&planned, "goes"), "{freed:#}");
    assert!(freed["hosts"][0]["outcome"]["pruned"]["freed_bytes"].as_u64() > Some(2 << 20), "{freed:#}");
    let left = shop.images();
    assert!(!left.contains(&one[one.len() - 64..]) && left.contains("tool"), "{left}");
    assert!(those(&verdicts(&alice.json(&["prune", "--plan"])), "goes").is_empty());
    shop.serves("four");

    // The way back needs no registry.
    shop.registry.misbehave(Fault::Unauthorized);
    alice.run(&["rollback", "shop"]).ok();
    shop.serves("three");
    shop.registry.heal();
    by_itself(&shop, &[&two, &four]);
}

/// With a budget it goes without being asked for: as soon as nobody needs it any more. `others`: images that nobody needs
/// once another release has come, of which a container is made of the first.
fn by_itself(shop: &Shop, others: &[&str]) {
    let (alice, host) = (&shop.fleet.alice, shop.host());
    host.docker(&["rm", "of-two"]).ok();
    host.write_file("/etc/drover/agent.toml", b"disk_budget = \"1 MiB\"\n");
    host.exec(&["systemctl", "restart", "drover-agent"]).ok();
    eventually("the first goes when the agent starts", Duration::from_secs(20), || {
        let left = shop.images();
        let digest = &others[0][others[0].len() - 64..];
        if left.contains(digest) { Err(left) } else { Ok(()) }
    });
    eventually("the host is back", Duration::from_secs(20), || alice.json(&["hosts"])[0]["connected"] == true);
    shop.release(5, "five");
    eventually("the other goes behind the commit", Duration::from_secs(20), || {
        let left = shop.images();
        let digest = &others[1][others[1].len() - 64..];
        if left.contains(digest) { Err(left) } else { Ok(()) }
    });
    let said = alice.run(&["events", "--host", "web-1"]).ok();
    for words in ["disk-pruned", "removed what nobody needs: 1 image", "more than disk_budget (1 MiB)"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    assert!(host.docker(&["image", "inspect", &shop.registry.name("tool:1")]).success(), "theirs stays");
    assert!(host.docker(&["inspect", "theirs"]).success(), "and so does their container");
    shop.serves("five");
}
