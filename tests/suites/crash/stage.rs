//! One host on which activations are interrupted again and again: it moves between releases, once in peace to see what that
//! leaves, then with the agent killed at a point, and both must leave the same.

use std::{cell::Cell, collections::BTreeMap, time::Duration};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, Lab, Registry, eventually},
    tiny::Tiny,
};

use crate::{
    shop::{self, HOOKS_LOG, Release},
    snapshot,
    tracer::{Calls, Tracer},
};

/// What is done to the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Move {
    /// `drover apply` of a release.
    Apply(Release),
    /// `drover remove`.
    Remove,
}

/// Where the agent dies.
#[derive(Clone, Copy, Debug)]
pub enum Kill {
    /// At its n-th boundary.
    Boundary(u64),
    /// At its n-th system call.
    Call(u64),
}

/// A fleet of one host.
pub struct Stage {
    fleet: Fleet,
    registry: Registry,
    releases: BTreeMap<Release, Tiny>,
    clean: BTreeMap<(Option<Move>, Move), String>,
    last: Cell<Option<Move>>,
    hooks: BTreeMap<(Option<Move>, Move), String>,
    untouched: String,
}

/// Makes the next start of a killed agent quick, and otherwise like in life.
const RESTART_SOON: &str = "[Service]\nRestartSec=100ms\n";

/// The end of the journal.
const CURSOR: &str = "journalctl -n 0 --show-cursor -q | sed -n 's/^-- cursor: //p'\n";

/// All but the release that runs.
const FORGET_TREES: &str = r#"
cd /var/lib/drover/releases/tiny 2>/dev/null || exit 0
now=$(systemctl show --value -p ExecStart tiny.service 'tiny@*.service' | grep -o 'tiny/[0-9a-f]*' || true)
for tree in *; do
  if ! echo "$now" | grep -qx "tiny/$tree"; then rm -rf "$tree" /var/lib/drover/agent/releases/tiny/"$tree"; fi
done
"#;

/// The processes of what is not concerned.
fn untouched(host: &Host) -> String {
    host.exec(&["systemctl", "show", "-p", "Id", "-p", "MainPID", "nginx.service", "bystander.service"]).ok()
}

/// The pid of one process.
struct Numbers {
    /// On its host.
    inside: u32,
    /// On this machine.
    outside: u32,
}

impl Stage {
    /// A host with the bystander.
    pub fn set() -> Stage {
        Stage::set_on(Lab::host)
    }

    /// The same on a host of another kind.
    pub fn set_on(boot: impl Fn(&Lab, &str) -> Host + Sync) -> Stage {
        let (fleet, registry) = (Fleet::start_with(&["web-1"], boot), Registry::start());
        let host = &fleet.hosts[0];
        host.write_file("/etc/systemd/system/drover-agent.service.d/soon.conf", RESTART_SOON.as_bytes());
        host.sh("echo 'the original' > /etc/motd; systemctl daemon-reload");
        let (_kept, manifest) = shop::bystander();
        fleet.alice.apply(&manifest).ok();
        let untouched = untouched(host);
        Stage {
            fleet,
            registry,
            releases: BTreeMap::new(),
            clean: BTreeMap::new(),
            last: Cell::new(None),
            hooks: BTreeMap::new(),
            untouched,
        }
    }

    fn host(&self) -> &Host {
        &self.fleet.hosts[0]
    }

    /// Nothing of the next release is there yet, so that it is fetched and built each time, and what outlives an app is made
    /// again. Returns where the journal ends.
    fn clear_the_stage(&self, next: Move) -> String {
        let gone = matches!(self.last.get(), None | Some(Move::Remove)) && next != Move::Remove;
        let user = if gone { "userdel shop 2>/dev/null || true; rm -rf /srv/shop /etc/shop; " } else { "" };
        self.host().sh(&format!("{CURSOR}rm -f {HOOKS_LOG}; {user}{FORGET_TREES}"))
    }

    /// Carries it out; what it is compared with is what it left when the same was before it.
    fn carry_out(&self, what: Move) -> (Option<Move>, Move) {
        match what {
            Move::Apply(release) => {
                let output = self.fleet.alice.apply(&self.releases[&release].manifest());
                let broken = release == Release::Broken;
                assert_eq!(output.status, i32::from(broken), "{what:?}: {output}");
            }
            Move::Remove => drop(self.fleet.alice.run(&["remove", "tiny", "--yes"]).ok()),
        }
        (self.last.replace(Some(what)), what)
    }

    /// The same in peace; what it leaves is what it must leave.
    pub fn rehearse(&mut self, moves: &[Move]) {
        for what in moves {
            if let Move::Apply(release) = what {
                self.releases.entry(*release).or_insert_with(|| shop::release(*release, &self.registry));
            }
            self.clear_the_stage(*what);
            let key = self.carry_out(*what);
            self.hooks.insert(key, self.hooks_log());
            // Nothing is just being written.
            let clean = eventually("the host is at rest", Duration::from_secs(5), || {
                let look = snapshot::of(&self.fleet, self.host());
                if look.contains("/.drover-") || look.contains("\"untold\"") { Err(look) } else { Ok(look) }
            });
            self.clean.insert(key, clean);
        }
    }

    /// How many calls of a kind a move takes when nothing happens.
    pub fn count(&self, what: Move, calls: Calls) -> u64 {
        self.clear_the_stage(what);
        let tracer = Tracer::attach(self.agent().outside, calls, 0);
        self.carry_out(what);
        tracer.end().calls
    }

    /// Does it with the agent killed at a point; `false`: the point was never reached. Panics with all that is different
    /// afterwards from what the rehearsal left.
    pub fn interrupt(&self, what: Move, kill: Kill) -> bool {
        let cursor = self.clear_the_stage(what);
        let host = self.host();
        let (calls, at) = match kill {
            Kill::Boundary(at) => (Calls::Boundaries, at),
            Kill::Call(at) => (Calls::Every, at),
        };
        let agent = self.agent();
        let tracer = Tracer::attach(agent.outside, calls, at);
        let key = self.carry_out(what);
        let seen = tracer.end();
        if seen.killed_at.is_some() {
            // A killed process is there until its last write has come back from the disk, and may look like one at rest.
            eventually("systemd has seen the agent die and started it again", Duration::from_secs(60), || {
                let pid = host.main_pid("drover-agent.service");
                pid != 0 && pid != agent.inside
            });
        }
        let point = format!("{what:?}, {kill:?} ({})", seen.killed_at.as_deref().unwrap_or("not reached"));
        eventually(&format!("after {point} the host is as a clean run leaves it"), Duration::from_secs(10), || {
            let difference = snapshot::difference(&self.clean[&key], &snapshot::of(&self.fleet, host));
            if difference.is_empty() { Ok(()) } else { Err(difference) }
        });
        assert_eq!(untouched(host), self.untouched, "{point}: what was not concerned was restarted");
        if seen.killed_at.is_some() {
            self.assert_said(&point, cursor.trim());
            let (clean, now) = (&self.hooks[&key], self.hooks_log());
            let ended = |log: &str| log.lines().filter(|line| line.starts_with("end")).count().cast_signed();
            // The one that ran just then may run a second time.
            assert!((0..=1).contains(&(ended(&now) - ended(clean))), "{point}: hooks ran again or not at all:\n{now}");
        }
        seen.killed_at.is_some()
    }

    /// An agent that died in the middle says what became of it; and hooks that have ended ran once.
    fn assert_said(&self, point: &str, cursor: &str) {
        let host = self.host();
        let arguments = ["journalctl", "-q", "-o", "cat", "-u", "drover-agent", "--after-cursor", cursor];
        let journal = host.exec(&arguments).stdout;
        let (before, after) = journal.split_once("Main process exited").unwrap_or((&journal, ""));
        let begun = before.contains("activation-started") || before.contains("removing app=tiny");
        let over =
            ["activation-committed", "activation-reverted", "app-removed"].iter().any(|end| before.contains(end));
        let said = ["activation-resumed", "activation-reverted"].iter().any(|word| after.contains(word));
        // Killed behind its very end it tells that end once more, if a crash could have taken it along.
        let ended = after.contains("activation-committed") || after.contains("app-removed");
        assert!(!begun || over || said || ended, "{point}: it does not say what became of it:\n{journal}");
    }

    /// What the hooks did, one word a line.
    fn hooks_log(&self) -> String {
        self.host().sh(&format!("cat {HOOKS_LOG} 2>/dev/null || true"))
    }

    /// The agent that runs.
    fn agent(&self) -> Numbers {
        let inside = eventually("the agent runs", Duration::from_secs(10), || {
            let pid = self.host().main_pid("drover-agent.service");
            (pid != 0).then_some(pid)
        });
        let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let here = space(&self.host().leader().to_string());
        let of_host = |pid: &String| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let number = status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last());
            number == Some(inside.to_string().as_str()) && space(pid) == here
        };
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        let mut numbers = all.filter_map(|entry| entry.file_name().into_string().ok());
        let found = numbers.find(of_host).expect("a process of the host is one of this machine");
        Numbers { inside, outside: found.parse().expect("a pid") }
    }
}
