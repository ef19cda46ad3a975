//! The fields of compose projects. Part of `table`.

use super::{CREDENTIALS, f, parts::DRIFT};
use crate::manifest::fields::{
    Kind::{Bool, List, Map, Object as Fields, Text},
    Object,
};

/// One project.
pub(in crate::manifest) static COMPOSE: Object = Object {
    name: "compose",
    fields: &[
        f(
            "files",
            List(&Text("path")),
            "Its compose files beside the manifest, unchanged; the later over the earlier, as with `-f`.",
            "[docker-compose.yml, docker-compose.prod.yml]",
        )
        .required(),
        f(
            "directory",
            Text("path"),
            "Where they lie on the host, and where what is relative in them leads: `./data` outlives every release.",
            "/srv/shop",
        )
        .depends("`/srv/` and the project's name"),
        f(
            "env_file",
            Text("path"),
            "Beside the manifest: what `${…}` in them is filled in from, as with `--env-file`. The app's env comes first.",
            ".env.prod",
        ),
        f("profiles", List(&Text("profile")), "Services with one of them run, beside those that have none.", "[web]"),
        f(
            "registries",
            Map("registry", &Fields(&CREDENTIALS)),
            "What the registries of its images want to know: `username` and `secret`. `docker.io` is Docker Hub.",
            "{ registry.example.org: { username: ci, secret: registry } }",
        ),
        f(
            "adopt",
            Bool,
            "One of that name that runs on the host already is taken over as it runs, if it was made of these files.",
            "true",
        )
        .default("false"),
        f("drift", DRIFT, "When a service is stopped, removed or not what was started.", "report").default("repair"),
    ],
    not_built: &["credentials", "handover", "services", "env_files"],
};
