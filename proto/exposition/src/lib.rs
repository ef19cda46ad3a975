//! How drover's programs tell Prometheus something, the same for agent and coordinator: `text` writes it, `serve` sends it over
//! HTTP, `web` says who may read. What is told is each program's own: a `Source`; but
//! for `process`. `yaml` and `bounded` read the files of others,
//! here and on the agent's host.

pub mod bounded;
pub mod process;
pub mod serve;
pub mod text;
pub mod web;
pub mod yaml;

use std::sync::Arc;

pub use text::Format;

/// What is served at `/metrics`, and beside it.
pub trait Source: Send + Sync + 'static {
    /// The program, as its package is called.
    const PROGRAM: &'static str;
    /// The file of its settings, which has `metrics.listen`.
    const SETTINGS: &'static str;

    /// One scrape, made into what is sent of it by `finish`. `None`: it could not be carried out.
    fn scrape<T: Send + 'static>(
        self: Arc<Self>,
        format: Format,
        finish: impl FnOnce(String) -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send;

    /// What there is at another path, as JSON; `None`: nothing.
    fn document(self: Arc<Self>, _path: &str) -> Option<impl Future<Output = Option<Vec<u8>>> + Send + use<Self>> {
        None::<std::future::Ready<_>>
    }
}
