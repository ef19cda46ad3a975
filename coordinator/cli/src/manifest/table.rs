//! Every field of the manifest, once. Read by `shape` (unknown keys, wrong types, defaults), `schema` (JSON Schema, and the
//! tables of docs/MANIFEST.md). To add a field: add it here, read it in `decode`, run the tests with UPDATE_DOCS=1.

use super::fields::{
    Field,
    Kind::{self, Argv, Choice, Duration, Int, List, Map, Mode, Share, Text},
    Object,
};

mod checks;
mod compose;
mod containers;
mod parts;

use checks::{ALERT, CHECK};
#[cfg(test)]
use checks::{CERTIFICATE_CHECK, DISK_CHECK, EXPECT, FILE_CHECK};
use compose::COMPOSE;
use containers::CONTAINER;
#[cfg(test)]
use containers::{CONTAINER_LIMITS, HEALTHCHECK, LOGGING};
pub(super) use parts::UNIT;
use parts::{CERTIFICATE, FILE, HOOKS, RESTART_BUDGET};
#[cfg(test)]
use parts::{HOOK, LIMITS, WATCH};

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
        f("strategy", Kind::Object(&STRATEGY), "How a rollout moves over them.", "{ max_parallel: 25% }")
            .default_fields(),
        f(
            "host",
            Kind::Object(&HOST),
            "What a host must have first: added, never taken away.",
            "{ packages: [nginx-light] }",
        )
        .default_fields(),
        f(
            "artifact",
            Kind::Object(&ARTIFACT),
            "The program: a tree of files, sent once, by content.",
            "{ path: ./backend }",
        ),
        f("env", Kind::Object(&ENV), "The environment of units and hooks.", "{ values: { PORT: \"5000\" } }")
            .default_fields(),
        f(
            "vars",
            Map("name", &Text("text")),
            "Variables for `{{ name }}`; they may use one another.",
            "{ domain: example.org }",
        ),
        f(
            "environments",
            Map("name", &Kind::Object(&ENVIRONMENT)),
            "What differs in a named environment.",
            "{ staging: { vars: { domain: staging.example.org } } }",
        ),
        f(
            "units",
            Map("unit name", &Kind::Object(&UNIT)),
            "systemd units, typed or verbatim.",
            "{ mono.service: { exec: /usr/bin/mono } }",
        ),
        f(
            "containers",
            Map("container name", &Kind::Object(&CONTAINER)),
            "Docker containers, by their names on the host.",
            "{ shop-cache: { image: \"redis:7\" } }",
        ),
        f(
            "compose",
            Map("project name", &Kind::Object(&COMPOSE)),
            "Compose projects, by their names on the host.",
            "{ shop: { files: [docker-compose.yml] } }",
        ),
        f("files", List(&Kind::Object(&FILE)), "Files, in order.", "[{ path: /etc/mono.conf, from: mono.conf }]"),
        f(
            "hooks",
            Kind::Object(&HOOKS),
            "Programs run around the switch.",
            "{ after_switch: [{ run: [/usr/bin/id], user: nobody }] }",
        ),
        f(
            "checks",
            Map("name", &Kind::Object(&CHECK)),
            "What must hold for the app to be healthy.",
            "{ api: { tcp: \"127.0.0.1:80\" } }",
        ),
        f(
            "restart_budget",
            Kind::Object(&RESTART_BUDGET),
            "For units without one of their own: how often the agent starts one again that is down.",
            "{ attempts: 3, window: 5m }",
        ),
        f(
            "certificates",
            List(&Kind::Object(&CERTIFICATE)),
            "Certificates that others renew, such as certbot: a new one is tested, and its units are reloaded.",
            "[{ path: /etc/ssl/mono.pem, key: /etc/ssl/mono.key, reload: nginx.service }]",
        ),
        f(
            "alerts",
            Kind::ListOrMap(&Text("condition"), "name", &Kind::Short("condition", &ALERT)),
            "What people are told of, beside what every host tells of anyway.",
            "[cpu > 80% for 5m, disk > 90%]",
        ),
    ],
    not_built: &[
        "logs",
        "backups",
        "metrics",
        "notify",
        "drift",
        "handover",
        "restart_on_change",
        "restore",
        "drills",
        "schedule",
        "upstreams",
        "confirm",
    ],
};

static TARGETS: Object = Object {
    name: "targets",
    fields: &[f(
        "labels",
        Map("label", &Text("label value")),
        "A host is meant when it has all of these.",
        "{ role: web }",
    )
    .required()],
    not_built: &["hosts", "exclude"],
};

static STRATEGY: Object = Object {
    name: "strategy",
    fields: &[
        f(
            "max_parallel",
            Share,
            "Hosts in flight at once; a percentage is of the targets, rounded down, at least 1.",
            "25%",
        )
        .default("1"),
        f("min_healthy_time", Duration, "How long a host must be healthy without a break.", "10s").default("10s"),
        f("healthy_deadline", Duration, "For one host, from its switch to being healthy.", "2m").default("5m"),
        f("progress_deadline", Duration, "For the rollout, from one host becoming healthy to the next.", "10m")
            .default("10m"),
        f("max_failures", Int(0, 100_000), "The rollout stops when more hosts than this have failed.", "0")
            .default("0"),
        f("on_failure", Choice(&["rollback", "pause", "continue"]), "What it does then.", "rollback")
            .default("rollback"),
    ],
    not_built: &["canary", "waves", "wait_between", "bake", "approve", "rollback_scope", "offline", "confirm_timeout"],
};

static HOST: Object = Object {
    name: "host",
    fields: &[
        f(
            "packages",
            List(&Text("Debian package, perhaps =version")),
            "Installed with apt.",
            "[python3-venv, nginx=1.22.1-9]",
        ),
        f("users", List(&Kind::Object(&USER)), "System users, created when missing.", "[{ name: mono }]"),
        f(
            "directories",
            List(&Kind::Object(&DIRECTORY)),
            "Created when missing; owner and mode are kept as said.",
            "[{ path: /var/log/mono }]",
        ),
        f("swap", Text("size"), "Swap of at least this size; where there is less, `/swapfile` is made.", "2G"),
    ],
    not_built: &["sysctl"],
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
        f(
            "path",
            Text("path"),
            "A folder, or a .tar, .tar.gz, .tgz or .tar.zst, beside the manifest. With `git` a folder of the repository.",
            "./backend",
        ),
        f(
            "url",
            Text("URL"),
            "Or an archive that each host fetches by https itself.",
            "https://example.org/mono-1.2.tar.gz",
        ),
        f("sha256", Text("64 hex digits"), "Of that archive; needed with `url`.", "9f86d081884c7d659a2feaa0c55ad015…"),
        f(
            "git",
            Text("URL"),
            "Or a git repository, from which each host fetches a commit by https itself.",
            "https://git.example.org/team/mono.git",
        ),
        f(
            "commit",
            Text("40 or 64 hex digits"),
            "Which, by its full name; needed with `git`.",
            "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
        ),
        f("credentials", Kind::Object(&CREDENTIALS), "What its server wants to know.", "{ secret: download-token }"),
        f(
            "exclude",
            List(&Text("glob")),
            "Left out of a folder, beside `.git`: a name anywhere, or with a `/` a path from the top.",
            "[__pycache__, docs/*.md]",
        ),
        f(
            "build",
            Kind::Object(&BUILD),
            "What to run in the unpacked tree, once per release and host.",
            "{ user: www-data, run: [[make]] }",
        ),
    ],
    not_built: &["image"],
};

static CREDENTIALS: Object = Object {
    name: "credentials",
    fields: &[
        f("username", Text("user"), "With it the secret is a password, without it a token.", "deploy"),
        f("secret", Text("secret"), "What `drover secret set NAME` stored.", "download-token").required(),
    ],
    not_built: &[],
};

static BUILD: Object = Object {
    name: "build",
    fields: &[
        f("user", Text("user"), "Not root.", "www-data").required(),
        f(
            "run",
            List(&Argv),
            "The steps, in order, in the release's directory. Holes: `release`.",
            "[[python3, -m, venv, venv]]",
        )
        .required(),
        f(
            "env",
            Map("variable", &Text("text")),
            "Environment beside PATH, HOME and LANG; no secrets.",
            "{ PIP_NO_CACHE_DIR: \"1\" }",
        ),
        f("timeout", Duration, "For all steps together.", "20m").default("10m"),
    ],
    not_built: &["memory_max", "network"],
};

static ENV: Object = Object {
    name: "env",
    fields: &[
        f("values", Map("variable", &Text("line")), "One line each. Holes: all.", "{ LOG_LEVEL: INFO }"),
        f(
            "secrets",
            Map("variable", &Kind::Object(&SECRET)),
            "Kept encrypted by the coordinator; on the host only in mode-0600 files.",
            "{ KEY: { generate: 32 } }",
        ),
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
    not_built: &["host", "artifact", "units", "containers", "compose", "files", "hooks", "checks", "alerts"],
};

#[cfg(test)]
/// All objects, in the order of docs/MANIFEST.md.
pub(super) static ALL: &[&Object] = &[
    &MANIFEST,
    &TARGETS,
    &STRATEGY,
    &HOST,
    &USER,
    &DIRECTORY,
    &ARTIFACT,
    &CREDENTIALS,
    &BUILD,
    &ENV,
    &SECRET,
    &ENVIRONMENT,
    &UNIT,
    &LIMITS,
    &RESTART_BUDGET,
    &WATCH,
    &CERTIFICATE,
    &CONTAINER,
    &CONTAINER_LIMITS,
    &HEALTHCHECK,
    &LOGGING,
    &COMPOSE,
    &FILE,
    &HOOKS,
    &HOOK,
    &CHECK,
    &EXPECT,
    &CERTIFICATE_CHECK,
    &FILE_CHECK,
    &DISK_CHECK,
    &ALERT,
];
