//! The fields of checks and alerts. Part of `table`.

use super::f;
use crate::manifest::fields::{
    Kind::{self, Argv, Choice, Duration, Int, Json, Map, Text},
    Object,
};

pub(super) static CHECK: Object = Object {
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
        f("container", Text("container"), "A container runs, and is healthy if it has a healthcheck.", "shop-cache"),
        f(
            "certificate",
            Kind::Object(&CERTIFICATE_CHECK),
            "A certificate is good, and stays so for a while.",
            "{ endpoint: \"example.org:443\", min_left: 14d }",
        ),
        f(
            "file",
            Kind::Object(&FILE_CHECK),
            "A file, such as a backup, is not too old.",
            "{ path: \"/srv/dumps/*.sql.gz\", max_age: 26h }",
        ),
        f("disk", Kind::Object(&DISK_CHECK), "A file system is not too full.", "{ path: /srv, max_used: 90% }"),
        f("interval", Duration, "From one look to the next; at least 100ms.", "5s").default("2s"),
        f("timeout", Duration, "For one look.", "10s").default("5s"),
        f("rise", Int(1, 100), "So many answers in a row that are as wanted make it pass again.", "3").default("1"),
        f("fall", Int(1, 100), "So many in a row that are not make it fail.", "3").default("2"),
        f(
            "start_period",
            Duration,
            "For so long after a start of the app, or of a part of it, answers that are not as wanted do not count.",
            "30s",
        )
        .default("0s"),
        f(
            "restart",
            Text("unit or container"),
            "Restarted when it fails, within the restart budget; one of the app's.",
            "mono.service",
        ),
    ],
    not_built: &["for", "alert"],
};

pub(super) static EXPECT: Object = Object {
    name: "expect",
    fields: &[
        f("status", Int(100, 599), "The status.", "200").depends("200 to 299"),
        f(
            "header",
            Map("name", &Text("line")),
            "Response headers, value for value.",
            "{ Content-Type: application/json }",
        ),
        f("body", Text("text"), "A text that the body contains.", "ready"),
        f(
            "json",
            Map("path", &Json),
            "What the body's JSON has at a path: `status`, `data.ready`, or JSONPath from `$`.",
            "{ status: ok }",
        ),
    ],
    not_built: &["max_time"],
};

pub(super) static CERTIFICATE_CHECK: Object = Object {
    name: "certificate_check",
    fields: &[
        f("file", Text("path"), "In a file, PEM, the leaf first.", "/etc/letsencrypt/live/example.org/fullchain.pem"),
        f(
            "endpoint",
            Text("host:port"),
            "Or as a server shows it in a TLS handshake; who signed it is not asked.",
            "127.0.0.1:443",
        ),
        f("server_name", Text("name"), "With `endpoint`: which name is asked for.", "example.org")
            .depends("the endpoint's host"),
        f("min_left", Duration, "It ends no sooner than this.", "30d").default("14d"),
    ],
    not_built: &[],
};

pub(super) static FILE_CHECK: Object = Object {
    name: "file_check",
    fields: &[
        f(
            "path",
            Text("path"),
            "A file; a directory stands for its newest file, and so does a last part with `*` or `?`.",
            "/srv/dumps",
        )
        .required(),
        f("max_age", Duration, "It was written no longer ago than this.", "26h").required(),
        f("min_size", Text("size"), "It has at least so many bytes: a number, or one with K, M, G, T.", "1M"),
    ],
    not_built: &[],
};

pub(super) static DISK_CHECK: Object = Object {
    name: "disk_check",
    fields: &[
        f("path", Text("path"), "Any place on the file system.", "/srv").required(),
        f("max_used", Text("percentage"), "So much of it is in use at most, as `df` counts.", "85%").default("90%"),
    ],
    not_built: &[],
};

pub(super) static ALERT: Object = Object {
    name: "alert",
    fields: &[
        f("when", Text("condition"), "What must hold, and for how long.", "cpu > 80% for 5m").required(),
        f("clear", Text("number"), "It goes on until the value is past this one.", "70%")
            .depends("the number of `when`"),
        f("every", Duration, "From one look to the next; 1s to 1h.", "30s").default("10s"),
        f("severity", Choice(&["info", "warning", "critical"]), "How bad it is.", "critical").default("warning"),
        f("labels", Map("name", &Text("label value")), "For routes and silences.", "{ team: shop }"),
        f(
            "annotations",
            Map("name", &Text("text")),
            "What people are told with it.",
            "{ runbook: \"https://example.org/cpu\" }",
        ),
    ],
    not_built: &[],
};
