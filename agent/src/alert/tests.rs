//! A task that looks at a host without apps, for the tests of its parts.

use tempfile::TempDir;

use super::*;

/// And where its files are.
pub(super) fn task() -> (TempDir, Task) {
    let dir = TempDir::new().unwrap();
    let handle = crate::reconcile::tests::handle(&dir);
    let (_, units) = watch::channel(None);
    let (_, task) = Task::open(&dir.path().join("state"), handle, units, Events::default()).unwrap();
    (dir, task)
}
