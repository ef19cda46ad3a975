//! What a host is like, as text that is the same whenever the host is the same: files, units, processes, the agent's ledgers
//! and what the coordinator believes. Numbers and times that differ from one good run to the next are taken out.

use drover_tests::{fleet::Fleet, lab::Host};
use serde_json::Value;

/// Files with kind, mode, owner, link and content, units, processes. What the agent keeps for people (`output`, `events`) and
/// what counts generations is left out.
const LOOK: &str = r#"
cd /
places='etc/systemd/system etc/nginx/sites-enabled etc/nginx/conf.d etc/motd etc/shop srv/shop var/lib/drover'
state=var/lib/drover/agent
find $places -xdev \( -path $state/output -o -path $state/events -o -name 'status.json' -o -name 'desired.json' \) -prune \
  -o -printf '%y %m %u:%g /%p %l\n' 2>/dev/null | sort
find $places -xdev \( -path $state/output -o -path $state/events -o -path $state/ledger -o -path '*/agent/*.json' \) -prune \
  -o -type f -print0 2>/dev/null | sort -z | xargs -0 sha256sum || true
systemctl show -p Id -p LoadState -p ActiveState -p SubState -p UnitFileState -p NeedDaemonReload \
  tiny.service tiny-worker.service nginx.service bystander.service | awk 'BEGIN { RS = "" } { gsub("\n", " "); print }'
systemctl list-jobs --no-legend --no-pager
echo "of the agent: $(pgrep -P "$(systemctl show --value -p MainPID drover-agent)" -a)"
processes="$(ps -eo user:12,args --no-headers)" # before grep, which would be among them or not
[ ! -S /run/docker.sock ] || docker ps -a --format '{{.Names}} {{.Image}} {{.State}}' | sort
echo "$processes" | grep -E 'server\.py|sleep|shop\.py|nginx: (m|w)' | grep -v places= | sort
curl -s -m 2 -w '\n' http://127.0.0.1:8000/ http://127.0.0.1:8088/ http://127.0.0.1/ | sed -E 's/"pid": [0-9]+, |, "pid": [0-9]+//'
for app in tiny bystander; do cat $state/ledger/$app.json 2>/dev/null && echo; done
true
"#;

/// All of it.
#[track_caller]
pub fn of(fleet: &Fleet, host: &Host) -> String {
    let text = host.sh(LOOK);
    let lines = text.lines().map(|line| match serde_json::from_str::<Value>(line) {
        Ok(mut ledger) if ledger.get("owned_files").is_some() => {
            level(&mut ledger);
            serde_json::to_string_pretty(&ledger).unwrap_or_default()
        }
        Ok(_) | Err(_) => line.to_owned(),
    });
    let mut lines: Vec<String> = lines.collect();
    let view = fleet.alice.app_on("tiny", host.name());
    lines.push(format!("the coordinator believes: {}", view["status"]["phase"]["state"]));
    lines.join("\n")
}

/// Takes out what differs between two runs that both went well.
fn level(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match key.as_str() {
                    "rollout" => *value = "R".into(),
                    "evidence" => *value = Value::Null,
                    "number" => *value = "N".into(),
                    key if key.ends_with("_ms") => *value = "T".into(),
                    _ => level(value),
                }
            }
        }
        Value::Array(list) => {
            // (release, rollout)
            if let [Value::String(release), rollout @ Value::Number(_)] = list.as_mut_slice()
                && release.contains('/')
            {
                *rollout = "R".into();
            }
            list.iter_mut().for_each(level);
        }
        Value::String(text) => {
            for app in ["tiny/", "bystander/"] {
                while let Some(at) = text.find(app).map(|at| at + app.len())
                    && let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count()
                    && digits > 0
                {
                    text.replace_range(at..at + digits, "N");
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The lines in which two differ, `-` wanted and `+` found.
pub fn difference(wanted: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), found.lines().collect());
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(come).collect::<Vec<_>>().join("\n")
}
