//! What runs here already, in the words of a manifest. Beside `jobs`; `import` reads it.

use drover_proto::{
    code::Code,
    found::Subject,
    wire::{ImportJob, job_reply::Reply},
};

use super::Replier;
use crate::{import, reconcile::Handle};

/// A manifest is no larger.
const MAX_FOUND_BYTES: usize = 1 << 20;

/// Answers with what was found.
pub(super) async fn answer(reconcile: &Handle, job: ImportJob, replier: &Replier) {
    let subject = match Subject::parse(&job.kind, &job.name) {
        Ok(subject) => subject,
        Err(error) => return replier.refuse(Code::Invalid, error.to_string()).await,
    };
    if let Some(app) = reconcile.owner_of(&subject) {
        return replier.refuse(Code::Invalid, format!("{subject} is app {app}'s already")).await;
    }
    let found = match import::read(&subject, reconcile.systemd(), reconcile.engine()).await {
        Ok(found) => found,
        Err(refused) => return replier.refuse(refused.code, refused.why).await,
    };
    match serde_json::to_vec(&found) {
        Ok(json) if json.len() <= MAX_FOUND_BYTES => drop(replier.say(Reply::FoundJson(json)).await),
        Ok(_) => replier.refuse(Code::Limit, format!("{subject} is too large for a manifest")).await,
        Err(error) => replier.refuse(Code::Internal, error.to_string()).await,
    }
}
