//! The fields of containers, as compose and `docker run` call them. Part of `table`.

use super::{
    CREDENTIALS, f,
    parts::{DRAIN, DRIFT, UPSTREAM, WATCH},
};
use crate::manifest::fields::{
    Kind::{self, Argv, Bool, Choice, Duration, Int, List, Map, Text},
    Object,
};

/// One container.
pub(in crate::manifest) static CONTAINER: Object = Object {
    name: "container",
    fields: &[
        f(
            "image",
            Text("image"),
            "Its image. A tag is looked up when the release is made: what it means then is what runs, on every host.",
            "registry.example.org/shop/api:1.4",
        )
        .required(),
        f(
            "credentials",
            Kind::Object(&CREDENTIALS),
            "What the image's registry wants to know: `username` and `secret`.",
            "{ username: ci, secret: registry }",
        ),
        f("entrypoint", Argv, "Instead of the image's. Holes: `release`, `host.…`.", "[/bin/api]"),
        f("command", Argv, "Instead of the image's. Holes: `release`, `host.…`.", "[serve, --port, 8000]"),
        f("env", List(&Text("variable")), "Which of the app's env it sees.", "[DATABASE_URL]").depends("all"),
        f(
            "environment",
            Map("variable", &Text("line")),
            "Over the app's env; no secrets. Holes: `release`, `host.…`.",
            "{ WORKERS: \"2\" }",
        ),
        f(
            "secrets",
            List(&Text("variable")),
            "Of `env.secrets`: it finds each as a file of that name under `/run/secrets`.",
            "[DATABASE_PASSWORD]",
        ),
        f(
            "ports",
            List(&Text("port:port")),
            "Published: the host's port, then the container's, perhaps with an address before and `/udp` behind.",
            "[\"127.0.0.1:8000:8000\"]",
        ),
        f(
            "volumes",
            List(&Text("source:path")),
            "A named volume or a path of the host, then where the container sees it, perhaps `:ro`. Holes: `release`, `host.…`.",
            "[\"data:/var/lib/postgresql/data\", \"/srv/shop:/srv:ro\"]",
        ),
        f("networks", List(&Text("network")), "Made when missing; in it containers know each other by name.", "[shop]")
            .depends("Docker's default one"),
        f("limits", Kind::Object(&CONTAINER_LIMITS), "What it may use.", "{ memory: 512M, cpus: 1.5 }"),
        f("user", Text("user"), "Of the image, or `uid:gid`.", "\"1000:1000\"").depends("the image's"),
        f("working_dir", Text("path"), "Where its program starts.", "/app").depends("the image's"),
        f(
            "restart",
            Choice(&["no", "on-failure", "always", "unless-stopped"]),
            "When Docker starts it again.",
            "always",
        )
        .default("unless-stopped"),
        f("healthcheck", Kind::Object(&HEALTHCHECK), "How Docker sees that it is well.", "{ test: [/bin/check] }")
            .depends("the image's"),
        f(
            "logging",
            Kind::Object(&LOGGING),
            "Where its output goes.",
            "{ driver: json-file, options: { max-size: 10m } }",
        )
        .depends("the host's `daemon.json`"),
        f("stop_signal", Text("signal"), "Asks it to end.", "SIGINT").depends("the image's, SIGTERM"),
        f("stop_grace_period", Duration, "For it to end; then it is killed.", "30s").default("10s"),
        f("labels", Map("label", &Text("text")), "Of your own.", "{ team: shop }"),
        f("read_only", Bool, "Its root file system cannot be written.", "true").default("false"),
        f("tmpfs", List(&Text("path")), "In memory, empty at each start.", "[/tmp]"),
        f("cap_drop", List(&Text("capability")), "Capabilities that it does not have.", "[ALL]"),
        f(
            "cap_add",
            List(&Text("capability")),
            "Those that it has beside Docker's. [Policy](#policy).",
            "[NET_BIND_SERVICE]",
        ),
        f("privileged", Bool, "It may do everything. [Policy](#policy).", "true").default("false"),
        f(
            "host_namespaces",
            List(&Choice(&["network", "pid", "ipc"])),
            "The host's instead of its own. [Policy](#policy).",
            "[network]",
        ),
        f("devices", List(&Text("path")), "Of the host. [Policy](#policy).", "[/dev/fuse]"),
        f(
            "adopt",
            Bool,
            "Take over a container of that name that is there already, as it is if nothing differs. [Taken over](#taken-over).",
            "true",
        )
        .default("false"),
        f(
            "drift",
            DRIFT,
            "When it is stopped, removed or replaced: the agent puts it right, only says so, or neither.",
            "report",
        )
        .default("repair"),
        f(
            "restart_on_change",
            Kind::Object(&WATCH),
            "Files of the host for which it is restarted, or sent a signal, when they change.",
            "{ paths: /srv/library, signal: SIGHUP }",
        ),
        f(
            "handover",
            Choice(&["recreate", "blue_green"]),
            "How another release takes its place: another one is made in its place, or a new instance starts beside it.",
            "blue_green",
        )
        .default("recreate"),
        f("container_port", Int(1, 65535), "With `blue_green`: where in the container its program listens.", "8000"),
        f("upstream", Text("upstream"), UPSTREAM, "mono-api").depends("the container's name"),
        f("drain", Duration, DRAIN, "2m").depends("`30s`"),
    ],
    not_built: &["build", "depends_on", "pull", "logs", "restart_budget"],
};

pub(super) static CONTAINER_LIMITS: Object = Object {
    name: "container_limits",
    fields: &[
        f(
            "memory",
            Text("size"),
            "Bytes, K, M or G; what needs more is killed. Its swap is not limited beside.",
            "512M",
        ),
        f("cpus", Text("number"), "Cores; parts of one, too.", "1.5"),
        f("pids", Int(1, 4_000_000), "Processes and threads.", "200"),
        f(
            "ulimits",
            Map("name", &Text("number, or soft:hard")),
            "As `docker run --ulimit`.",
            "{ nofile: \"64000:64000\" }",
        ),
        f("shm", Text("size"), "Of its `/dev/shm`.", "128M"),
    ],
    not_built: &[],
};

pub(super) static HEALTHCHECK: Object = Object {
    name: "healthcheck",
    fields: &[
        f(
            "test",
            Argv,
            "Run in the container; ends with 0 if all is well. `[]`: none, not even the image's.",
            "[pg_isready]",
        )
        .required(),
        f("interval", Duration, "From one to the next.", "10s").default("30s"),
        f("timeout", Duration, "For one.", "3s").default("30s"),
        f("retries", Int(1, 1000), "So many failures in a row, and it is unhealthy.", "5").default("3"),
        f("start_period", Duration, "Failures in the beginning that do not count.", "30s").default("0s"),
    ],
    not_built: &[],
};

pub(super) static LOGGING: Object = Object {
    name: "logging",
    fields: &[
        f("driver", Text("driver"), "One of Docker's.", "journald").required(),
        f("options", Map("option", &Text("text")), "The driver's own.", "{ max-size: 10m, max-file: \"3\" }"),
    ],
    not_built: &[],
};
