//! The fields of units, files and hooks. Part of `table`.

use super::f;
use crate::manifest::fields::{
    Kind::{self, Argv, Bool, Choice, Duration, Int, List, Map, Mode, OneOrMany, Text},
    Object,
};

/// One unit, in any of its three forms.
pub(in crate::manifest) static UNIT: Object = Object {
    name: "unit",
    fields: &[
        f("text", Text("text"), "The whole unit file, verbatim. Holes: `release`, `env_file`, `host.…`, `port`.", "|"),
        f("from", Text("path"), "The whole unit file, from beside the manifest. Same holes.", "mono.service"),
        f("description", Text("line"), "`Description=`", "mono API").depends("the app's name"),
        f("after", OneOrMany(&Text("unit")), "`After=`", "network-online.target"),
        f("wants", OneOrMany(&Text("unit")), "`Wants=`", "network-online.target"),
        f("requires", OneOrMany(&Text("unit")), "`Requires=`", "redis-server.service"),
        f("type", Choice(&["simple", "exec", "notify", "oneshot", "forking"]), "`Type=`", "notify")
            .depends("`exec`, in a .service; `oneshot` if a timer here starts it"),
        f("user", Text("user"), "`User=`", "www-data").depends("root"),
        f("group", Text("group"), "`Group=`", "www-data").depends("the user's group"),
        f("working_directory", Text("path"), "`WorkingDirectory=`", "/srv")
            .depends("`{{ release }}` if there is an artifact"),
        f(
            "environment",
            Map("variable", &Text("line")),
            "`Environment=`, beside the app's env; no secrets.",
            "{ WORKER: a }",
        ),
        f(
            "exec_start_pre",
            OneOrMany(&Text("line")),
            "`ExecStartPre=`, one command line or several.",
            "/usr/bin/mono check",
        ),
        f(
            "exec",
            OneOrMany(&Text("line")),
            "`ExecStart=`: one command line as systemd reads it, or a list of arguments, taken literally.",
            "[/usr/bin/mono, --port, 80]",
        ),
        f("exec_reload", Text("line"), "`ExecReload=`", "/bin/kill -HUP $MAINPID"),
        f(
            "restart",
            Choice(&["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"]),
            "`Restart=`",
            "on-failure",
        ),
        f("restart_sec", Duration, "`RestartSec=`", "10s"),
        f("timeout_start", Duration, "`TimeoutStartSec=`", "90s"),
        f("timeout_stop", Duration, "`TimeoutStopSec=`", "30s"),
        f("kill_signal", Text("signal"), "`KillSignal=`", "SIGINT"),
        f("watchdog", Duration, "`WatchdogSec=`", "30s"),
        f("limits", Kind::Object(&LIMITS), "What it may use.", "{ memory_max: 512M }"),
        f(
            "options",
            Map("section", &Map("key", &OneOrMany(&Text("line")))),
            "Anything else of systemd, by section and key; a list gives the key several times.",
            "{ Service: { PrivateTmp: true } }",
        ),
        f("on_calendar", OneOrMany(&Text("line")), "In a .timer: `OnCalendar=`.", "daily"),
        f("on_boot_sec", Duration, "In a .timer: `OnBootSec=`", "5m"),
        f("on_unit_active_sec", Duration, "In a .timer: `OnUnitActiveSec=`, from the last run to the next.", "1h"),
        f("persistent", Bool, "In a .timer: `Persistent=`, what was missed is made up for.", "true"),
        f("randomized_delay_sec", Duration, "In a .timer: `RandomizedDelaySec=`", "10m"),
        f("unit", Text("unit"), "In a .timer: `Unit=`, what it starts.", "report.service")
            .depends("the .service of the same name"),
        f(
            "instances",
            List(&Text("instance")),
            "Of a template (`name@.service`): the instances that run.",
            "[\"1\", \"2\"]",
        ),
        f(
            "ports",
            OneOrMany(&Text("port")),
            "Where it listens: a host on which something else does is refused by `plan`.",
            "[5000, \"127.0.0.1:53/udp\"]",
        ),
        f("enable", Bool, "Started at boot.", "false").depends("`true`; `false` if a timer here starts it"),
        f("start", Bool, "Running; `false` for what a timer or socket starts.", "false")
            .depends("`true`; `false` if a timer here starts it"),
        f("adopt", Bool, "Take over a unit file that is there already; it comes back when the app goes.", "true")
            .default("false"),
        f(
            "drift",
            DRIFT,
            "When it is stopped, masked, disabled or its file changed: the agent puts it right, only says so, or neither.",
            "report",
        )
        .default("repair"),
        f(
            "restart_budget",
            Kind::Object(&RESTART_BUDGET),
            "How often the agent starts it again when it is down.",
            "{ attempts: 3 }",
        )
        .depends("the app's"),
        f(
            "restart_on_change",
            Kind::Object(&WATCH),
            "Files of the host for which it is restarted, or sent a signal, when they change.",
            "{ paths: /srv/library }",
        ),
        f(
            "handover",
            Choice(&["recreate", "blue_green"]),
            "How another release takes its place: it is stopped and started, or a new instance starts beside it.",
            "blue_green",
        )
        .default("recreate"),
        f("upstream", Text("upstream"), UPSTREAM, "mono-api").depends("the unit's name without its suffix"),
        f("drain", Duration, DRAIN, "2m").depends("`30s`"),
    ],
    not_built: &["logs", "run_once", "stop_signal"],
};

/// Of units and containers.
pub(super) static WATCH: Object = Object {
    name: "restart_on_change",
    fields: &[
        f(
            "paths",
            OneOrMany(&Text("path")),
            "Files, and directories with all below them; they need not be there yet.",
            "[/srv/library, /etc/mono.d]",
        )
        .required(),
        f(
            "signal",
            Choice(&["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGINT", "SIGQUIT", "SIGTERM"]),
            "Sent to its main process instead of the restart.",
            "SIGHUP",
        ),
        f("debounce", Duration, "When nothing has changed for so long.", "10s").default("2s"),
    ],
    not_built: &[],
};

pub(super) static CERTIFICATE: Object = Object {
    name: "certificate",
    fields: &[
        f(
            "path",
            Text("path"),
            "Its file, PEM, with those that it is signed by; certbot's `fullchain.pem`.",
            "/etc/letsencrypt/live/example.org/fullchain.pem",
        )
        .required(),
        f(
            "key",
            Text("path"),
            "The file of its key: must be this certificate's.",
            "/etc/letsencrypt/live/example.org/privkey.pem",
        ),
        f("validate", Argv, "Must succeed before anybody reads a new one.", "[nginx, -t]"),
        f("reload", OneOrMany(&Text("unit")), "Reloaded when it is new and good.", "nginx.service").required(),
    ],
    not_built: &[],
};

pub(super) static LIMITS: Object = Object {
    name: "limits",
    fields: &[
        f("memory_max", Text("size"), "`MemoryMax=`: bytes, K, M, G, or %.", "512M"),
        f("cpu_quota", Text("percentage"), "`CPUQuota=`: 100% is one core.", "150%"),
        f("nofile", Text("number"), "`LimitNOFILE=`", "65536"),
        f("tasks_max", Text("number"), "`TasksMax=`", "512"),
    ],
    not_built: &["memory_high", "io_weight"],
};

/// What the agent does when a part is not as the release says.
/// What `upstream` and `drain` of a unit and of a container mean.
pub(super) const UPSTREAM: &str = "With `blue_green`: the upstream of nginx that leads to the instance that serves.";
pub(super) const DRAIN: &str =
    "With `blue_green`: for so long at most the instance before may finish what it has begun.";

pub(super) const DRIFT: Kind = Choice(&["repair", "report", "ignore"]);

pub(super) static RESTART_BUDGET: Object = Object {
    name: "restart_budget",
    fields: &[
        f("attempts", Int(0, 100), "So often within the window; then it is left, and reported. 0 is never.", "3")
            .default("5"),
        f("window", Duration, "When so much time has passed since the last attempt, it begins anew.", "1h")
            .default("10m"),
        f(
            "backoff",
            Duration,
            "Before the second attempt; doubled before each further one, up to 5m. The first is at once.",
            "30s",
        )
        .default("10s"),
    ],
    not_built: &[],
};

pub(super) static FILE: Object = Object {
    name: "file",
    fields: &[
        f("path", Text("path"), "Where; absolute.", "/etc/nginx/sites-enabled/mono").required(),
        f("from", Text("path"), "Its content, from beside the manifest. Holes: all.", "nginx/mono.conf"),
        f("content", Text("text"), "Its content itself. Holes: all.", "\"hello {{ host.name }}\""),
        f("template", Bool, "`false`: `{{` means nothing in it. A file that is not text is never a template.", "false")
            .default("true"),
        f("owner", Text("user"), "Its owner.", "www-data").default("root"),
        f("group", Text("group"), "Its group.", "www-data").depends("the group named like the owner"),
        f("mode", Mode, "Permission bits, at most 0777; 0600 if it holds a secret.", "\"0640\"").default("0644"),
        f(
            "validate",
            Argv,
            "Must succeed before the switch; `{{ path }}` is a staged copy, without it the file is looked at in its place.",
            "[nginx, -t]",
        ),
        f("reload", OneOrMany(&Text("unit")), "Reloaded after the switch when it changed.", "nginx.service"),
        f("restart", OneOrMany(&Text("unit")), "Restarted after the switch when it changed.", "[mono.service]"),
        f("adopt", Bool, "Take over a file that is there already; it comes back when the app goes.", "true")
            .default("false"),
        f(
            "drift",
            DRIFT,
            "When it is gone or not as written: the agent writes it again, only says so, or neither.",
            "ignore",
        )
        .default("repair"),
    ],
    not_built: &["symlink", "url"],
};

pub(super) static HOOKS: Object = Object {
    name: "hooks",
    fields: &[
        f(
            "before_switch",
            List(&Kind::Object(&HOOK)),
            "Everything is staged, the old release still runs; a failure leaves it so.",
            "[{ run: [bin/check], user: mono }]",
        ),
        f(
            "after_switch",
            List(&Kind::Object(&HOOK)),
            "Everything is switched; a failure reverts.",
            "[{ run: [bin/warm], user: mono }]",
        ),
    ],
    not_built: &["before_stop", "after_commit", "before_fetch"],
};

pub(super) static HOOK: Object = Object {
    name: "hook",
    fields: &[
        f("name", Text("hook name"), "How messages and `drover logs --hook` call it.", "migrate")
            .depends("its list and its place in it: `before_switch-1`"),
        f(
            "run",
            Argv,
            "The program, in the release's directory. Holes: `release`, `env_file`, `host.…`.",
            "[venv/bin/flask, db, upgrade]",
        )
        .required(),
        f("user", Text("user"), "As whom.", "www-data").required(),
        f("timeout", Duration, "Then its whole process group is killed, and it has failed.", "1m").default("5m"),
        f(
            "env",
            List(&Text("variable")),
            "Which of the app's env it sees, beside PATH, HOME and LANG.",
            "[DATABASE_URL]",
        ),
        f("run_once", Bool, "On exactly one host of a rollout, before any other gets the release.", "true")
            .default("false"),
    ],
    not_built: &[],
};
