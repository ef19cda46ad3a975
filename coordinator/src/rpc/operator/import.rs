//! `drover import`: asks one host what a manifest would have to say of something that runs there already. Changes nothing.

use std::time::Duration;

use drover_proto::{
    code::{self, Code},
    found::{Found, Subject},
    wire::{ImportJob, ImportRequest, View, job, job_reply::Reply},
};
use tonic::Status;

use super::{super::Services, hosts::find, view};

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
    if services.sessions.protocol(&host.id).is_some_and(|spoken| spoken < SINCE) {
        let message = format!("the agent on {} is too old to import anything: upgrade drover-agent there", host.name);
        return Err(code::status(Code::Protocol, message));
    }
    let job = ImportJob { kind: subject.kind().to_owned(), name: subject.name().to_owned() };
    let asked = services.sessions.ask(&host.id, job::Job::Import(job), TTL_MS);
    let mut answers = asked.map_err(|error| code::status(Code::HostOffline, format!("{}: {error}", host.name)))?;
    let answer = tokio::time::timeout(Duration::from_millis(TTL_MS + 2_000), answers.next()).await;
    let of_host = |code: Code, why: &str| code::status(code, format!("{}: {why}", host.name));
    match answer {
        Err(_) => Err(of_host(Code::HostTimeout, "it did not answer in time")),
        Ok(Some(Reply::FoundJson(json))) => match serde_json::from_slice::<Found>(&json) {
            Ok(found) => view(&found),
            Err(error) => Err(of_host(Code::Internal, &format!("its answer cannot be read: {error}"))),
        },
        Ok(Some(Reply::Error(error))) => {
            let said = SAID.into_iter().find(|code| code.as_str() == error.code);
            Err(of_host(said.unwrap_or(Code::Internal), &error.message))
        }
        Ok(
            Some(Reply::PlanJson(_) | Reply::ImageDigest(_) | Reply::LogLine(_) | Reply::Done(_) | Reply::PruneJson(_))
            | None,
        ) => Err(of_host(Code::HostOffline, "it went away, or answered something else")),
    }
}
