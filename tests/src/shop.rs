//! The app behind nginx that is replaced by another instance beside it, as a container: an image for a registry of the lab,
//! and its manifest. As a unit it is `tiny`'s.

use serde_json::json;

use crate::lab::Image;

/// Its manifest, in which a test replaces `IMAGE`.
pub const CONTAINER: &str = include_str!("../fixtures/shop/container.yaml");

/// The same server as that of the unit. It listens so many seconds after it was started.
pub fn image(version: &str, behaviour: &str, listens_after: u32) -> Image {
    Image::debian("python")
        .files(&[
            ("shop/server.py", 0o644, include_str!("../fixtures/shop/server.py")),
            ("shop/version", 0o644, version),
            ("shop/behaviour", 0o644, behaviour),
        ])
        .set("Cmd", json!(["python3", "-u", "/shop/server.py", "0.0.0.0:8080", listens_after.to_string()]))
}
