//! Every field of the manifest, once. Read by `shape` (unknown keys, wrong types, defaults), `schema` (JSON Schema, and the
//! tables of docs/MANIFEST.md). To add a field: add it here, read it in `decode`, run the tests with UPDATE_DOCS=1.

use super::fields::{
    Field,
    Kind::{self, Argv, Bool, Choice, Duration, Int, Json, List, Map, Mode, OneOrMany, Share, Text},
    Object,
};

const fn f(name: &'static str, kind: Kind, doc: &'static str, example: &'static str) -> Field {
    Field::new(name, kind, doc, example)
}

/// The whole file.
pub(super) static MANIFEST: Object = Object {
    name: "manifest",
    fields: &[
        f("version", Int(1, 1), "The manifest's format.", "1").required(),
        f("app", Text("app name"), "The app's name on every host: lower-case letters, digits, `-`.", "mono").required(),
        f("targets", Kind::Object(&TARGETS), "The hosts it belongs on.", "{ labels: { role: web } }").required(),
        f("strategy", Kind::Object(&STRATEGY), "How a rollout moves over them.", "{ max_parallel: 25% }").default_fields(),
        f("host", Kind::Object(&HOST), "What a host must have first: added, never taken away.", "{ packages: [nginx-light] }")
            .default_fields(),
        f("artifact", Kind::Object(&ARTIFACT), "The program: a tree of files, sent once, by content.", "{ path: ./backend }"),
        f("env", Kind::Object(&ENV), "The environment of units and hooks.", "{ values: { PORT: \"5000\" } }").default_fields(),
        f("vars", Map("name", &Text("text")), "Variables for `{{ name }}`; they may use one another.", "{ domain: example.org }"),
        f("environments", Map("name", &Kind::Object(&ENVIRONMENT)), "What differs in a named environment.", "{ staging: { vars: { domain: staging.example.org } } }"),
        f("units", Map("unit name", &Kind::Object(&UNIT)), "systemd units, typed or verbatim.", "{ mono.service: { exec: /usr/bin/mono } }"),
        f("files", List(&Kind::Object(&FILE)), "Files, in order.", "[{ path: /etc/mono.conf, from: mono.conf }]"),
        f("hooks", Kind::Object(&HOOKS), "Programs run around the switch.", "{ after_switch: [{ run: [/usr/bin/id], user: nobody }] }"),
        f("checks", Map("name", &Kind::Object(&CHECK)), "What must hold for the app to be healthy.", "{ api: { tcp: \"127.0.0.1:80\" } }"),
    ],
    not_built: &[
        "containers", "compose", "logs", "alerts", "backups", "metrics", "notify", "drift", "handover",
        "restart_on_change", "restore", "drills", "schedule", "upstreams", "confirm",
    ],
};

static TARGETS: Object = Object {
    name: "targets",
    fields: &[f("labels", Map("label", &Text("label value")), "A host is meant when it has all of these.", "{ role: web }")
        .required()],
    not_built: &["hosts", "exclude"],
};

static STRATEGY: Object = Object {
    name: "strategy",
    fields: &[
        f("max_parallel", Share, "Hosts in flight at once; a percentage is of the targets, rounded down, at least 1.", "25%")
            .default("1"),
        f("min_healthy_time", Duration, "How long a host must be healthy without a break.", "10s").default("10s"),
        f("healthy_deadline", Duration, "For one host, from its switch to being healthy.", "2m").default("5m"),
        f("progress_deadline", Duration, "For the rollout, from one host becoming healthy to the next.", "10m").default("10m"),
        f("max_failures", Int(0, 100_000), "The rollout stops when more hosts than this have failed.", "0").default("0"),
        f("on_failure", Choice(&["rollback", "pause", "continue"]), "What it does then.", "rollback").default("rollback"),
    ],
    not_built: &[
        "canary", "waves", "wait_between", "bake", "approve", "rollback_scope", "offline", "confirm_timeout",
    ],
};

static HOST: Object = Object {
    name: "host",
    fields: &[
        f("packages", List(&Text("Debian package, perhaps =version")), "Installed with apt.", "[python3-venv, nginx=1.22.1-9]"),
        f("users", List(&Kind::Object(&USER)), "System users, created when missing.", "[{ name: mono }]"),
        f("directories", List(&Kind::Object(&DIRECTORY)), "Created when missing; owner and mode are kept as said.", "[{ path: /var/log/mono }]"),
    ],
    not_built: &["swap", "sysctl"],
};

static USER: Object = Object {
    name: "user",
    fields: &[
        f("name", Text("user"), "Login name; a group of the same name comes with it.", "mono").required(),
        f("home", Text("path"), "Home directory, not created.", "/var/lib/mono").default("/nonexistent"),
        f("shell", Text("path"), "Login shell.", "/bin/bash").default("/usr/sbin/nologin"),
        f("groups", List(&Text("group")), "Further groups; they must exist.", "[www-data]"),
    ],
    not_built: &["uid", "gid"],
};

static DIRECTORY: Object = Object {
    name: "directory",
    fields: &[
        f("path", Text("path"), "Where; absolute.", "/var/log/mono").required(),
        f("owner", Text("user"), "Its owner.", "www-data").default("root"),
        f("group", Text("group"), "Its group.", "www-data").depends("the group named like the owner"),
        f("mode", Mode, "Permission bits, no SUID.", "\"0750\"").default("0755"),
    ],
    not_built: &[],
};

static ARTIFACT: Object = Object {
    name: "artifact",
    fields: &[
        f("path", Text("path"), "A folder, or a .tar, .tar.gz, .tgz or .tar.zst, beside the manifest.", "./backend").required(),
        f("exclude", List(&Text("glob")), "Left out of a folder, beside `.git`: a name anywhere, or with a `/` a path from the top.", "[__pycache__, docs/*.md]"),
        f("build", Kind::Object(&BUILD), "What to run in the unpacked tree, once per release and host.", "{ user: www-data, run: [[make]] }"),
    ],
    not_built: &["url", "git", "digest", "image"],
};

static BUILD: Object = Object {
    name: "build",
    fields: &[
        f("user", Text("user"), "Not root.", "www-data").required(),
        f("run", List(&Argv), "The steps, in order, in the release's directory. Holes: `release`.", "[[python3, -m, venv, venv]]").required(),
        f("env", Map("variable", &Text("text")), "Environment beside PATH, HOME and LANG; no secrets.", "{ PIP_NO_CACHE_DIR: \"1\" }"),
        f("timeout", Duration, "For all steps together.", "20m").default("10m"),
    ],
    not_built: &["memory_max", "network"],
};

static ENV: Object = Object {
    name: "env",
    fields: &[
        f("values", Map("variable", &Text("line")), "One line each. Holes: all.", "{ LOG_LEVEL: INFO }"),
        f("secrets", Map("variable", &Kind::Object(&SECRET)), "Kept encrypted by the coordinator; on the host only in mode-0600 files.", "{ KEY: { generate: 32 } }"),
    ],
    not_built: &["from"],
};

static SECRET: Object = Object {
    name: "secret",
    fields: &[
        f("generate", Int(16, 1024), "So many random bytes (in hex), made once per app and environment.", "32"),
        f("secret", Text("secret"), "What `drover secret set NAME` stored.", "siliconflow"),
    ],
    not_built: &["file", "vault"],
};

static ENVIRONMENT: Object = Object {
    name: "environment",
    fields: &[
        f("vars", Map("name", &Text("text")), "Put over `vars`, one by one.", "{ domain: staging.example.org }"),
        f("env", Kind::Object(&ENV), "Put over `env`, one by one.", "{ values: { LOG_LEVEL: DEBUG } }"),
        f("targets", Kind::Object(&TARGETS), "Put over `targets`, label by label.", "{ labels: { env: staging } }"),
        f("strategy", Kind::Object(&STRATEGY), "Put over `strategy`, field by field.", "{ max_parallel: 100% }"),
    ],
    not_built: &["host", "artifact", "units", "files", "hooks", "checks"],
};

/// One unit, in any of its three forms.
pub(super) static UNIT: Object = Object {
    name: "unit",
    fields: &[
        f("text", Text("text"), "The whole unit file, verbatim. Holes: `release`, `env_file`, `host.…`.", "|"),
        f("from", Text("path"), "The whole unit file, from beside the manifest. Same holes.", "mono.service"),
        f("description", Text("line"), "`Description=`", "mono API").depends("the app's name"),
        f("after", OneOrMany(&Text("unit")), "`After=`", "network-online.target"),
        f("wants", OneOrMany(&Text("unit")), "`Wants=`", "network-online.target"),
        f("requires", OneOrMany(&Text("unit")), "`Requires=`", "redis-server.service"),
        f("type", Choice(&["simple", "exec", "notify", "oneshot", "forking"]), "`Type=`", "notify").depends("`exec`, in a .service"),
        f("user", Text("user"), "`User=`", "www-data").depends("root"),
        f("group", Text("group"), "`Group=`", "www-data").depends("the user's group"),
        f("working_directory", Text("path"), "`WorkingDirectory=`", "/srv").depends("`{{ release }}` if there is an artifact"),
        f("environment", Map("variable", &Text("line")), "`Environment=`, beside the app's env; no secrets.", "{ WORKER: a }"),
        f("exec_start_pre", OneOrMany(&Text("line")), "`ExecStartPre=`, one command line or several.", "/usr/bin/mono check"),
        f("exec", OneOrMany(&Text("line")), "`ExecStart=`: one command line as systemd reads it, or a list of arguments, taken literally.", "[/usr/bin/mono, --port, 80]"),
        f("exec_reload", Text("line"), "`ExecReload=`", "/bin/kill -HUP $MAINPID"),
        f("restart", Choice(&["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"]), "`Restart=`", "on-failure"),
        f("restart_sec", Duration, "`RestartSec=`", "10s"),
        f("timeout_start", Duration, "`TimeoutStartSec=`", "90s"),
        f("timeout_stop", Duration, "`TimeoutStopSec=`", "30s"),
        f("kill_signal", Text("signal"), "`KillSignal=`", "SIGINT"),
        f("watchdog", Duration, "`WatchdogSec=`", "30s"),
        f("limits", Kind::Object(&LIMITS), "What it may use.", "{ memory_max: 512M }"),
        f("options", Map("section", &Map("key", &OneOrMany(&Text("line")))), "Anything else of systemd, by section and key; a list gives the key several times.", "{ Service: { PrivateTmp: true } }"),
        f("enable", Bool, "Started at boot.", "false").default("true"),
        f("start", Bool, "Running; `false` for what a timer or socket starts.", "false").default("true"),
        f("adopt", Bool, "Take over a unit file that is there already; it comes back when the app goes.", "true").default("false"),
    ],
    not_built: &["logs", "run_once", "restart_on_change", "handover", "stop_signal", "instances"],
};

static LIMITS: Object = Object {
    name: "limits",
    fields: &[
        f("memory_max", Text("size"), "`MemoryMax=`: bytes, K, M, G, or %.", "512M"),
        f("cpu_quota", Text("percentage"), "`CPUQuota=`: 100% is one core.", "150%"),
        f("nofile", Text("number"), "`LimitNOFILE=`", "65536"),
        f("tasks_max", Text("number"), "`TasksMax=`", "512"),
    ],
    not_built: &["memory_high", "io_weight"],
};

static FILE: Object = Object {
    name: "file",
    fields: &[
        f("path", Text("path"), "Where; absolute.", "/etc/nginx/sites-enabled/mono").required(),
        f("from", Text("path"), "Its content, from beside the manifest. Holes: all.", "nginx/mono.conf"),
        f("content", Text("text"), "Its content itself. Holes: all.", "\"hello {{ host.name }}\""),
        f("template", Bool, "`false`: `{{` means nothing in it. A file that is not text is never a template.", "false").default("true"),
        f("owner", Text("user"), "Its owner.", "www-data").default("root"),
        f("group", Text("group"), "Its group.", "www-data").depends("the group named like the owner"),
        f("mode", Mode, "Permission bits, at most 0777; 0600 if it holds a secret.", "\"0640\"").default("0644"),
        f("validate", Argv, "Must succeed before the switch; `{{ path }}` is a staged copy, without it the file is looked at in its place.", "[nginx, -t]"),
        f("reload", OneOrMany(&Text("unit")), "Reloaded after the switch when it changed.", "nginx.service"),
        f("restart", OneOrMany(&Text("unit")), "Restarted after the switch when it changed.", "[mono.service]"),
        f("adopt", Bool, "Take over a file that is there already; it comes back when the app goes.", "true").default("false"),
    ],
    not_built: &["symlink", "url"],
};

static HOOKS: Object = Object {
    name: "hooks",
    fields: &[
        f("before_switch", List(&Kind::Object(&HOOK)), "Everything is staged, the old release still runs; a failure leaves it so.", "[{ run: [bin/check], user: mono }]"),
        f("after_switch", List(&Kind::Object(&HOOK)), "Everything is switched; a failure reverts.", "[{ run: [bin/warm], user: mono }]"),
    ],
    not_built: &["before_stop", "after_commit", "before_fetch"],
};

static HOOK: Object = Object {
    name: "hook",
    fields: &[
        f("run", Argv, "The program, in the release's directory. Holes: `release`, `env_file`, `host.…`.", "[venv/bin/flask, db, upgrade]").required(),
        f("user", Text("user"), "As whom.", "www-data").required(),
        f("timeout", Duration, "Then its whole process group is killed, and it has failed.", "1m").default("5m"),
        f("env", List(&Text("variable")), "Which of the app's env it sees, beside PATH, HOME and LANG.", "[DATABASE_URL]"),
    ],
    not_built: &["run_once"],
};

static CHECK: Object = Object {
    name: "check",
    fields: &[
        f("http", Text("URL"), "Ask this URL.", "http://127.0.0.1:5000/"),
        f("method", Text("HTTP method"), "With `http`.", "HEAD").default("GET"),
        f("header", Map("name", &Text("line")), "With `http`: request headers.", "{ Host: example.org }"),
        f("expect", Kind::Object(&EXPECT), "With `http`: what the answer must be.", "{ status: 200 }"),
        f("tcp", Text("host:port"), "A connection is accepted.", "127.0.0.1:6379"),
        f("command", Argv, "A program ends with 0.", "[/usr/bin/pg_isready]"),
        f("user", Text("user"), "With `command`: as whom. Required.", "nobody"),
        f("unit", Text("unit"), "A unit is active.", "redis-server.service"),
        f("interval", Duration, "From one look to the next; at least 100ms.", "5s").default("2s"),
        f("timeout", Duration, "For one look.", "10s").default("5s"),
    ],
    not_built: &["container", "certificate", "file_age", "for", "alert"],
};

static EXPECT: Object = Object {
    name: "expect",
    fields: &[
        f("status", Int(100, 599), "The status.", "200").depends("200 to 299"),
        f("header", Map("name", &Text("line")), "Response headers, value for value.", "{ Content-Type: application/json }"),
        f("body", Text("text"), "A text that the body contains.", "ready"),
        f("json", Map("path", &Json), "What the body's JSON has at a path: `status`, `data.ready`, or JSONPath from `$`.", "{ status: ok }"),
    ],
    not_built: &["max_time"],
};

#[cfg(test)]
/// All objects, in the order of docs/MANIFEST.md.
pub(super) static ALL: &[&Object] = &[
    &MANIFEST, &TARGETS, &STRATEGY, &HOST, &USER, &DIRECTORY, &ARTIFACT, &BUILD, &ENV, &SECRET, &ENVIRONMENT, &UNIT,
    &LIMITS, &FILE, &HOOKS, &HOOK, &CHECK, &EXPECT,
];
