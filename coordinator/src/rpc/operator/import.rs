//! `drover import`: asks one host what a manifest would have to say of something that runs there already. Changes nothing.

use drover_proto::{
    code::{self, Code},
    found::{Found, Subject},
    wire::{ImportJob, ImportRequest, View, job, job_reply::Reply},
};
use tonic::Status;

use super::{
    super::Services,
    hosts::find,
    question::{Question, Unanswered},
    view,
};

/// For an answer.
const TTL_MS: u64 = 30_000;
/// The first protocol that knows the question.
const SINCE: u32 = 4;

/// What a host may say why it does not: nothing that would be about who asks.
const SAID: [Code; 6] = [Code::NotFound, Code::Docker, Code::Systemd, Code::Invalid, Code::Limit, Code::JobExpired];

/// Hands on what the host says, once it is understood.
pub(super) async fn import(services: &Services, request: ImportRequest) -> Result<View, Status> {
    let subject =
        Subject::parse(&request.kind, &request.name).map_err(|error| code::status(Code::Invalid, error.to_string()))?;
    let host = find(services, &request.host).await?;
    let job = ImportJob { kind: subject.kind().to_owned(), name: subject.name().to_owned() };
    let question = Question { job: job::Job::Import(job), ttl_ms: TTL_MS, since: SINCE };
    let json = |reply| if let Reply::FoundJson(json) = reply { Some(json) } else { None };
    match question.ask_for::<Found>(services, &host, json).await {
        Ok(found) => view(&found),
        Err(why) => Err(code::status(code_of(&why), format!("{}: {why}", host.name))),
    }
}

fn code_of(why: &Unanswered) -> Code {
    match why {
        Unanswered::NotAsked(_) | Unanswered::Away | Unanswered::Anew => Code::HostOffline,
        Unanswered::TooOld { .. } => Code::Protocol,
        Unanswered::Silent(_) => Code::HostTimeout,
        Unanswered::Refused(error) => {
            SAID.into_iter().find(|code| code.as_str() == error.code).unwrap_or(Code::Internal)
        }
        Unanswered::Unreadable(_) => Code::Internal,
    }
}
