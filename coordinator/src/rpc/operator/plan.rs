//! What an app would change: its document checked, its hosts found, each connected one asked. `apply` goes the same way
//! before it begins, so that it can tell whether the world is still as planned.

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use drover_proto::{
    app::{AppSpec, SecretSource},
    code::{self, Code},
    digest::Digest,
    limits::{MAX_APP_SPEC_BYTES, PLAN_TTL_MS},
    name::{ReleaseId, ReleaseNumber, SecretName},
    plan::Plan,
    secret::Secret,
    spec::DesiredApp,
    view::{HostPlan, HostPlanOutcome, PlanView},
    wire::{Extent, PlanJob, PlanReply, PlanRequest, job, job_reply::Reply},
};
use futures_util::{StreamExt as _, stream};
use tonic::Status;

use super::{
    super::{Services, document, store_failed},
    images,
    preflight::{self, Asked},
    question::{Question, Unanswered},
};
use crate::{
    clock,
    rollout::{BeginError, begin::Sightings, claims::Collision, keeper::matches},
    session::AskError,
    store::{Host, SecretPin, SecretPins, StoreError},
};

/// Hosts asked at the same time.
const ASKED_AT_ONCE: usize = 64;
/// Parts of other apps that one refusal names; it travels in a header.
const MAX_COLLISIONS: usize = 20;

/// An app that could become a release.
pub(super) struct Draft {
    /// Checked.
    pub spec: AppSpec,
    /// The document, as it is hashed and stored.
    pub json: String,
    /// Of it.
    pub digest: Digest,
    /// The hosts with its labels, in rollout order.
    pub hosts: Vec<Host>,
    /// What is known of them.
    pub sightings: Sightings,
    /// The number that it has, or would get.
    pub release: ReleaseNumber,
    /// Whether that release is there already.
    pub exists: bool,
    pins: SecretPins,
}

/// Checks an app's document and finds its hosts. Writes nothing.
pub(super) async fn draft(services: &Services, bytes: &[u8]) -> Result<Draft, Status> {
    if bytes.len() > MAX_APP_SPEC_BYTES {
        let most = MAX_APP_SPEC_BYTES >> 20;
        return Err(code::status(Code::Limit, format!("the app's document has more than {most} MiB")));
    }
    let mut spec: AppSpec = document(bytes)?;
    let wrong = spec.check();
    if !wrong.is_empty() {
        let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        return Err(code::status(Code::Manifest, all.join("\n")));
    }
    let store = &services.store;
    let hosts = targets(services, &spec).await?;
    images::resolve(services, &mut spec, &hosts).await?;
    let json = serde_json::to_string(&spec).map_err(|_| code::status(Code::Internal, "the app cannot be written"))?;
    let digest = Digest::of(json.as_bytes());
    not_of_others(services, &spec, &hosts).await?;
    let sightings = Sightings::gather(store, &services.sessions, &spec.app, &hosts).await.map_err(store_failed)?;
    let hosts = sightings.in_order(&spec.app, hosts);
    let pins = pins_as_they_would_be(services, &spec).await?;
    let newest = store.releases(&spec.app).await.map_err(store_failed)?.into_iter().next();
    let exists = newest.as_ref().is_some_and(|n| n.digest == digest.to_string() && n.secrets == pins);
    let release = match newest {
        Some(newest) if exists => newest.number,
        _ => store.next_release(&spec.app).await.map_err(store_failed)?,
    };
    Ok(Draft { spec, json, digest, hosts, sightings, release, exists, pins })
}

/// The hosts with an app's labels.
pub(super) async fn targets(services: &Services, spec: &AppSpec) -> Result<Vec<Host>, Status> {
    let mut hosts = services.store.hosts().await.map_err(store_failed)?;
    hosts.retain(|host| matches(&spec.targets, host));
    if hosts.is_empty() {
        let labels: Vec<String> = spec.targets.iter().map(|(key, value)| format!("{key}={value}")).collect();
        return Err(code::status(
            Code::NoTargets,
            format!("no host has the labels {}: see drover hosts", labels.join(",")),
        ));
    }
    Ok(hosts)
}

/// Refuses a rollout that could go nowhere.
pub(super) fn not_all_cordoned(hosts: &[Host]) -> Result<(), Status> {
    if hosts.iter().any(|host| host.cordoned.is_none()) {
        return Ok(());
    }
    let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    let message =
        format!("rollouts skip cordoned hosts, and there is no other: drover hosts uncordon {}", names.join(", "));
    Err(code::status(Code::NoTargets, message))
}

/// Refuses an app that claims what another app has on one of its hosts.
pub(super) async fn not_of_others(services: &Services, spec: &AppSpec, hosts: &[Host]) -> Result<(), Status> {
    let collisions = services.rollouts.collisions(spec, hosts).await.map_err(store_failed)?;
    if collisions.is_empty() { Ok(()) } else { Err(claimed(&collisions)) }
}

/// What a caller is told of a rollout that did not begin.
pub(super) fn not_begun(error: BeginError) -> Status {
    match error {
        BeginError::Claimed(collisions) => claimed(&collisions),
        BeginError::Store(error) => store_failed(error),
    }
}

fn claimed(collisions: &[Collision]) -> Status {
    let mut lines: Vec<String> = collisions.iter().take(MAX_COLLISIONS).map(ToString::to_string).collect();
    if collisions.len() > MAX_COLLISIONS {
        lines.push(format!("and {} more", collisions.len() - MAX_COLLISIONS));
    }
    code::status(Code::OwnedByOther, lines.join("\n"))
}

/// What `pin_secrets` would answer, without generating anything.
async fn pins_as_they_would_be(services: &Services, spec: &AppSpec) -> Result<SecretPins, Status> {
    let environment = spec.app.environment().map(String::from).unwrap_or_default();
    let (mut pins, mut missing) = (SecretPins::new(), Vec::new());
    for (local, source) in &spec.secrets {
        let pin = match source {
            SecretSource::Generate(_) => SecretPin::Generated { version: 1 },
            SecretSource::Stored(name) => {
                match services.store.latest_secret(name, &environment).await.map_err(store_failed)? {
                    Some((environment, version)) => SecretPin::Stored { name: name.clone(), environment, version },
                    None if environment.is_empty() => {
                        missing.push(name.to_string());
                        continue;
                    }
                    None => {
                        missing.push(format!("{name} for {environment}"));
                        continue;
                    }
                }
            }
        };
        pins.insert(local.clone(), pin);
    }
    if missing.is_empty() { Ok(pins) } else { Err(store_failed(StoreError::SecretMissing(missing))) }
}

/// The values for a plan. One that is still to be generated gets random bytes, which go nowhere else.
async fn values(services: &Services, draft: &Draft) -> Result<BTreeMap<SecretName, Secret<String>>, Status> {
    let mut values = BTreeMap::new();
    for (local, pin) in &draft.pins {
        let value = match services.store.secret_value(&draft.spec.app, local, pin).await {
            Ok(value) => value,
            Err(StoreError::SecretMissing(_)) if matches!(pin, SecretPin::Generated { .. }) => {
                let bytes = match draft.spec.secrets.get(local) {
                    Some(SecretSource::Generate(bytes)) => *bytes as usize,
                    _ => 32,
                };
                let mut random = vec![0; bytes];
                rand::fill(&mut random).map_err(|_| code::status(Code::Internal, "no random bytes"))?;
                Secret::new(hex::encode(random))
            }
            Err(error) => return Err(store_failed(error)),
        };
        values.insert(local.clone(), value);
    }
    Ok(values)
}

/// Asks every host of a draft, many at once.
///
/// `extent`: how large the artifact is when unpacked, if that is known.
pub(super) async fn ask(services: &Services, draft: &Draft, extent: Option<Extent>) -> Result<PlanView, Status> {
    let app = draft.spec.app.clone();
    let desired = DesiredApp {
        release: ReleaseId { app: app.clone(), number: draft.release },
        // The rollout has no number yet; none has this one.
        rollout: 0,
        paused: false,
        run_once: false,
        restart: 0,
        spec: draft.spec.clone(),
        secrets: values(services, draft).await?,
    };
    let job = |run_once| {
        let desired = DesiredApp { run_once, ..desired.clone() };
        let json = serde_json::to_vec(&desired);
        json.map(|desired_app_json| PlanJob { app: app.to_string(), desired_app_json, extent })
            .map_err(|_| code::status(Code::Internal, "the app cannot be written"))
    };
    let (once, others) = (job(draft.spec.has_run_once())?, job(false)?);
    // As a rollout would choose it: the first that is there.
    let (cordoned, hosts): (Vec<Host>, Vec<Host>) =
        draft.hosts.clone().into_iter().partition(|host| host.cordoned.is_some());
    let first = hosts.iter().find(|host| draft.sightings.connected(&host.id)).map(|host| host.id.clone());
    let asked = hosts.into_iter().map(|host| {
        let job = if first.as_ref() == Some(&host.id) { once.clone() } else { others.clone() };
        let unknown = services.sessions.protocol(&host.id).and_then(|spoken| draft.spec.unknown_to(spoken));
        let too_old = unknown.map(|field| preflight::too_old(&app, draft.release, &field));
        (host, job, too_old)
    });
    let hosts: Vec<HostPlan> = stream::iter(asked)
        .map(|(host, job, too_old)| ask_one(services.clone(), host, job, too_old))
        .buffered(ASKED_AT_ONCE)
        .collect()
        .await;
    let has_changes = hosts.iter().any(|host| match &host.outcome {
        HostPlanOutcome::Planned(plan) => plan.has_changes() || !plan.refusals.is_empty(),
        HostPlanOutcome::Unknown(_) | HostPlanOutcome::Error(_) => true,
    });
    let plan_id = plan_id(draft, &hosts)?;
    let by = |host: &Host| host.cordoned.as_ref().map(|cordoned| cordoned.by.clone()).unwrap_or_default();
    let skipped = cordoned.iter().map(|host| (host.name.clone(), format!("cordoned by {}", by(host)))).collect();
    Ok(PlanView { plan_id, app, release: draft.release, has_changes, hosts, skipped })
}

async fn ask_one(services: Services, host: Host, job: PlanJob, too_old: Option<Plan>) -> HostPlan {
    if let Some(plan) = too_old {
        return HostPlan { host: host.name, outcome: HostPlanOutcome::Planned(plan) };
    }
    let at_ms = clock::unix_ms();
    let question = Question { job: job::Job::Plan(job), ttl_ms: PLAN_TTL_MS, since: 0 };
    let json = |reply| if let Reply::PlanJson(json) = reply { Some(json) } else { None };
    let outcome = match question.ask_for::<Plan>(&services, &host, json).await {
        Ok(mut plan) => {
            let asked = Asked { at_ms, answered_ms: clock::unix_ms() };
            preflight::add(&mut plan, asked, host.not_after_ms);
            HostPlanOutcome::Planned(plan)
        }
        Err(why @ (Unanswered::NotAsked(AskError::Offline) | Unanswered::Away)) => {
            HostPlanOutcome::Unknown(why.to_string())
        }
        Err(why) => HostPlanOutcome::Error(why.to_string()),
    };
    HostPlan { host: host.name, outcome }
}

/// The same while document, secrets and what the hosts would do are; the order of hosts does not count, nor do warnings,
/// which tell of figures that change by themselves.
fn plan_id(draft: &Draft, hosts: &[HostPlan]) -> Result<String, Status> {
    let unwarned = |outcome: &HostPlanOutcome| match outcome {
        HostPlanOutcome::Planned(plan) => HostPlanOutcome::Planned(Plan { warnings: Vec::new(), ..plan.clone() }),
        other => other.clone(),
    };
    let by_name: BTreeMap<_, _> = hosts.iter().map(|host| (&host.host, unwarned(&host.outcome))).collect();
    let digest = Digest::of_json(&(&draft.digest, &draft.pins, draft.release, by_name))
        .map_err(|_| code::status(Code::Internal, "the plan cannot be written"))?;
    Ok(digest.hex()[..16].to_owned())
}

/// `drover plan`.
pub(super) async fn plan(services: &Services, request: PlanRequest) -> Result<PlanReply, Status> {
    let draft = draft(services, &request.app_spec_json).await?;
    let view = ask(services, &draft, request.extent).await?;
    Ok(PlanReply { plan_id: view.plan_id.clone(), json: super::view(&view)?.json })
}
