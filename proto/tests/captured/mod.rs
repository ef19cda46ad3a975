//! The messages of one protocol as they were captured (tests/fixtures/protocol-<n>), all of them, read by this version. A
//! document that uses nothing newer is written as the same bytes: hosts compare digests of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use drover_proto::{
    alert::RuleSet,
    app::AppSpec,
    event::Event,
    found::Found,
    plan::Plan,
    prune::{PruneReport, PruneView},
    spec::{DesiredApp, HostSpec},
    status::HostStatus,
    view, wire,
};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use wire::{from_agent, job, job_reply, to_agent};

/// What was said, as far as a test asks for it.
#[derive(Default)]
pub struct Heard {
    /// By file, how many messages it has.
    pub counts: BTreeMap<String, usize>,
    /// Of agents on their streams, how often each kind of word.
    pub words: BTreeMap<&'static str, usize>,
    pub hellos: Vec<wire::Hello>,
    pub welcomes: Vec<wire::Welcome>,
    pub specs: Vec<HostSpec>,
    pub reports: Vec<HostStatus>,
    pub events: Vec<Event>,
    pub asked: Vec<AppSpec>,
    pub fetches: Vec<wire::FetchBlobRequest>,
    pub enrolments: Vec<wire::EnrollHostRequest>,
    pub pushes: Vec<wire::BlobHeader>,
    pub certificates: Vec<wire::Certificate>,
}

/// Reads every file of the fixture. One that nobody knows to read is an error.
pub fn read_all(protocol: u32) -> Heard {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/protocol-{protocol}"));
    let mut heard = Heard::default();
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths: BTreeSet<_> = entries.map(|entry| entry.unwrap().path()).collect();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "grpc")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let messages = messages(&name, &std::fs::read(path).unwrap());
        heard.counts.insert(name.clone(), messages.len());
        heard.file(&File { name, messages });
    }
    heard
}

/// The bodies in one file, without their framing.
fn messages(name: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut messages) = (bytes, Vec::new());
    while let [0, a, b, c, d, tail @ ..] = rest {
        let (message, after) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        messages.push(message.to_vec());
        rest = after;
    }
    assert!(rest.is_empty(), "{name} is cut off");
    messages
}

struct File {
    name: String,
    messages: Vec<Vec<u8>>,
}

impl File {
    /// Every message of the file; what is written again has the same bytes.
    fn read<M: Message + Default>(&self) -> Vec<M> {
        let same = |bytes: &Vec<u8>| {
            let message = M::decode(bytes.as_slice()).unwrap_or_else(|error| panic!("{}: {error}", self.name));
            assert_eq!(message.encode_to_vec(), *bytes, "{} lost something", self.name);
            message
        };
        self.messages.iter().map(same).collect()
    }
    fn views<T: DeserializeOwned>(&self) {
        for reply in self.read::<wire::View>() {
            parse::<T>(&reply.json);
        }
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> T {
    serde_json::from_slice(json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(json)))
}

/// A document that somebody hashes or reads strictly: not a byte may be added.
fn same_bytes<T: DeserializeOwned + Serialize>(json: &[u8]) -> T {
    let document: T = parse(json);
    let again = serde_json::to_vec(&document).unwrap();
    assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(json));
    document
}

impl Heard {
    fn file(&mut self, file: &File) {
        let name = file.name.as_str();
        if name.starts_with("AgentLink.Session.") {
            return match name.rsplit('.').next() {
                Some("up") => file.read().into_iter().for_each(|message| self.agent_said(message)),
                _ => file.read().into_iter().for_each(|message| self.agent_heard(message)),
            };
        }
        match name {
            "AgentLink.FetchBlob.up" => self.fetches.extend(file.read()),
            "AgentLink.FetchBlob.down" => drop(file.read::<wire::BlobChunk>()),
            "Enrolment.EnrollHost.up" => self.enrolments.extend(file.read()),
            "Enrolment.LoginOperator.up" => drop(file.read::<wire::LoginOperatorRequest>()),
            "AgentLink.Renew.up" | "Operator.Renew.up" => drop(file.read::<wire::RenewRequest>()),
            "Enrolment.EnrollHost.down" | "Enrolment.LoginOperator.down" | "AgentLink.Renew.down" => {
                self.certificates.extend(file.read());
            }
            "Operator.Renew.down" => {
                let replies: Vec<wire::RenewReply> = file.read();
                self.certificates.extend(replies.into_iter().filter_map(|reply| reply.certificate));
            }
            _ if name.ends_with(".up") => self.asked_by_operator(file),
            _ => answered_to_operator(file),
        }
    }

    fn agent_said(&mut self, message: wire::FromAgent) {
        use from_agent::Message;
        let word = match message.message.unwrap() {
            Message::Hello(hello) => {
                self.hellos.push(hello);
                "hello"
            }
            Message::SpecAck(_) => "ack",
            Message::Report(report) => {
                self.reports.push(parse(&report.host_status_json));
                "report"
            }
            Message::Events(events) => {
                self.events.extend(parse::<Vec<Event>>(&events.events_json));
                "events"
            }
            Message::Figures(_) => "figures",
            Message::JobReply(reply) => match reply.reply.unwrap() {
                job_reply::Reply::PlanJson(json) => {
                    parse::<Plan>(&json);
                    "plan"
                }
                job_reply::Reply::LogLine(_) => "log line",
                job_reply::Reply::Error(_) => "job error",
                job_reply::Reply::Done(_) => "job done",
                job_reply::Reply::ImageDigest(_) => "image digest",
                job_reply::Reply::FoundJson(_) => "found",
                job_reply::Reply::PruneJson(json) => {
                    parse::<PruneReport>(&json);
                    "prune"
                }
            },
        };
        *self.words.entry(word).or_default() += 1;
    }

    fn agent_heard(&mut self, message: wire::ToAgent) {
        use to_agent::Message;
        let word = match message.message.unwrap() {
            Message::Welcome(welcome) => {
                self.welcomes.push(welcome);
                "welcome"
            }
            Message::HostSpec(document) => {
                self.specs.push(same_bytes(&document.document_json));
                "spec"
            }
            Message::Job(job) => match job.job.unwrap() {
                job::Job::Plan(plan) => {
                    if !plan.desired_app_json.is_empty() {
                        same_bytes::<DesiredApp>(&plan.desired_app_json);
                    }
                    "plan job"
                }
                job::Job::Logs(_) => "logs job",
                job::Job::HookLogs(_) => "hook logs job",
                job::Job::Image(_) => "image job",
                job::Job::Import(_) => "import job",
                job::Job::Prune(_) => "prune job",
            },
            Message::CancelJob(_) => "cancel",
            Message::EventsAck(_) => "events ack",
            Message::RenewCertificate(_) => "renew",
            Message::AlertRules(rules) => {
                parse::<RuleSet>(&rules.rules_json);
                "alert rules"
            }
        };
        *self.words.entry(word).or_default() += 1;
    }

    fn asked_by_operator(&mut self, file: &File) {
        match file.name.as_str() {
            "Operator.Plan.up" => {
                let plans: Vec<wire::PlanRequest> = file.read();
                self.asked.extend(plans.iter().map(|plan| same_bytes::<AppSpec>(&plan.app_spec_json)));
            }
            "Operator.Apply.up" => {
                let applies: Vec<wire::ApplyRequest> = file.read();
                self.asked.extend(applies.iter().map(|apply| same_bytes::<AppSpec>(&apply.app_spec_json)));
            }
            "Operator.PushBlob.up" => {
                let parts: Vec<wire::PushBlobRequest> = file.read();
                let header = |part| match part {
                    wire::push_blob_request::Part::Header(header) => Some(header),
                    wire::push_blob_request::Part::Data(_) => None,
                };
                self.pushes.extend(parts.into_iter().filter_map(|part| part.part.and_then(header)));
            }
            "Operator.MissingBlobs.up" => drop(file.read::<wire::BlobList>()),
            "Operator.Rollback.up" => drop(file.read::<wire::RollbackRequest>()),
            "Operator.Remove.up" => drop(file.read::<wire::RemoveRequest>()),
            "Operator.Restart.up" => drop(file.read::<wire::RestartRequest>()),
            "Operator.WatchRollout.up" | "Operator.GetRollout.up" => drop(file.read::<wire::RolloutRequest>()),
            "Operator.ControlRollout.up" => drop(file.read::<wire::ControlRolloutRequest>()),
            "Operator.ListRollouts.up" | "Operator.Status.up" | "Operator.ListReleases.up" => {
                drop(file.read::<wire::AppFilter>());
            }
            "Operator.GetHost.up" | "Operator.RevokeHost.up" | "Operator.DrainHost.up" => {
                drop(file.read::<wire::HostRequest>());
            }
            "Operator.RemoveHost.up" => drop(file.read::<wire::RemoveHostRequest>()),
            "Operator.CordonHost.up" => drop(file.read::<wire::CordonHostRequest>()),
            "Operator.LabelHost.up" => drop(file.read::<wire::LabelHostRequest>()),
            "Operator.Logs.up" => drop(file.read::<wire::LogsRequest>()),
            "Operator.HookLogs.up" => drop(file.read::<wire::HookLogsRequest>()),
            "Operator.Import.up" => drop(file.read::<wire::ImportRequest>()),
            "Operator.Prune.up" => drop(file.read::<wire::PruneRequest>()),
            "Operator.Events.up" => drop(file.read::<wire::EventsRequest>()),
            "Operator.SetSecret.up" => drop(file.read::<wire::SetSecretRequest>()),
            "Operator.RemoveSecret.up" => drop(file.read::<wire::SecretRequest>()),
            "Operator.CreateToken.up" => drop(file.read::<wire::CreateTokenRequest>()),
            "Operator.RevokeToken.up" => drop(file.read::<wire::TokenRequest>()),
            "Operator.RevokeOperator.up" => drop(file.read::<wire::OperatorRequest>()),
            "Operator.ListAudit.up" => drop(file.read::<wire::AuditRequest>()),
            "Operator.ListHosts.up" | "Operator.ListSecrets.up" | "Operator.ListTokens.up" => {
                drop(file.read::<wire::Empty>());
            }
            "Operator.ListOperators.up" => drop(file.read::<wire::Empty>()),
            other => panic!("nobody reads {other}"),
        }
    }
}

fn answered_to_operator(file: &File) {
    match file.name.as_str() {
        "Operator.Plan.down" => {
            for reply in file.read::<wire::PlanReply>() {
                parse::<view::PlanView>(&reply.json);
            }
        }
        "Operator.WatchRollout.down" | "Operator.GetRollout.down" | "Operator.ControlRollout.down" => {
            file.views::<view::RolloutView>();
        }
        "Operator.ListRollouts.down" => file.views::<Vec<view::RolloutSummary>>(),
        "Operator.ListHosts.down" => file.views::<Vec<view::HostView>>(),
        "Operator.GetHost.down" => file.views::<view::HostDetail>(),
        "Operator.LabelHost.down" | "Operator.CordonHost.down" | "Operator.DrainHost.down" => {
            file.views::<view::HostView>();
        }
        "Operator.Status.down" => file.views::<Vec<view::AppView>>(),
        "Operator.ListReleases.down" => file.views::<Vec<view::ReleaseView>>(),
        "Operator.ListSecrets.down" => file.views::<Vec<view::SecretView>>(),
        "Operator.ListTokens.down" => file.views::<Vec<view::TokenView>>(),
        "Operator.ListOperators.down" => file.views::<Vec<view::OperatorView>>(),
        "Operator.ListAudit.down" => file.views::<Vec<view::AuditView>>(),
        "Operator.Import.down" => file.views::<Found>(),
        "Operator.Prune.down" => file.views::<PruneView>(),
        "Operator.Events.down" => file.views::<Vec<view::EventView>>(),
        "Operator.Apply.down" | "Operator.Rollback.down" | "Operator.Remove.down" | "Operator.Restart.down" => {
            drop(file.read::<wire::RolloutStarted>());
        }
        "Operator.Logs.down" | "Operator.HookLogs.down" => drop(file.read::<wire::LogLine>()),
        "Operator.CreateToken.down" => drop(file.read::<wire::CreateTokenReply>()),
        "Operator.MissingBlobs.down" => drop(file.read::<wire::BlobList>()),
        "Operator.PushBlob.down" | "Operator.SetSecret.down" | "Operator.RemoveSecret.down" => {
            drop(file.read::<wire::Empty>());
        }
        "Operator.RemoveHost.down" | "Operator.RevokeHost.down" | "Operator.RevokeToken.down" => {
            drop(file.read::<wire::Empty>());
        }
        "Operator.RevokeOperator.down" => drop(file.read::<wire::Empty>()),
        other => panic!("nobody reads {other}"),
    }
}
