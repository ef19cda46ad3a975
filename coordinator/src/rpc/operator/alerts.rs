//! `drover alerts`, `drover silence`, `drover notify`.

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use drover_proto::{
    alert::Severity,
    code::{self, Code},
    name::{AppName, HostId, NotifierName, OperatorName},
    view::{AlertView, AlertsView, NotifierAnswer, NotifierView, SilenceView},
    wire::{AddSilenceRequest, AlertsRequest, View},
};
use tonic::Status;

use super::{
    super::{Services, invalid, name, not_found, store_failed},
    view,
};
use crate::{
    alert::{Matcher, MatcherError, holds},
    clock,
    notify::{Notification, Told, target::Notifier},
    session::report::one_line,
    store::StoredSilence,
};

/// Of alerts, the worst: some 3 MB.
const MAX_LISTED: usize = 4000;
/// Silences that are over are listed, and kept, for so long.
const OLD_MS: i64 = 86_400_000;
/// At most; what is not wanted for longer is a rule to be changed.
const MAX_SILENCE_S: u64 = 365 * 86_400;
const MAX_MATCHERS: usize = 20;
/// That are not over.
const MAX_SILENCES: usize = 1000;
const MAX_REASON_CHARS: usize = 500;

/// `drover alerts`.
pub(super) async fn list(services: &Services, request: AlertsRequest) -> Result<View, Status> {
    let host: Option<HostId> = if request.host.is_empty() {
        None
    } else {
        let found = services.store.host(&request.host).await.map_err(store_failed)?;
        Some(found.ok_or_else(|| not_found(format!("host {}", request.host)))?.id)
    };
    let app: Option<AppName> = if request.app.is_empty() { None } else { Some(name(&request.app)?) };
    let mut alerts = services.alerts.views(clock::unix_ms());
    alerts.retain(|alert| host.as_ref().is_none_or(|host| alert.host_id == *host));
    alerts.retain(|alert| app.is_none() || alert.app == app);
    let waiting = services.store.notifications_waiting().await.map_err(store_failed)?.values().sum();
    let states = services.store.notifier_states().await.map_err(store_failed)?;
    let failing = states.into_iter().filter_map(|(name, state)| Some((name, state.failure?))).collect();
    let more = alerts.len().saturating_sub(MAX_LISTED);
    alerts.truncate(MAX_LISTED);
    view(&AlertsView { alerts, more, waiting, failing })
}

/// `drover silence list`.
pub(super) async fn silences(services: &Services) -> Result<View, Status> {
    let now_ms = clock::unix_ms();
    let mut silences = services.store.silences().await.map_err(store_failed)?;
    silences.retain(|silence| silence.ends_ms > now_ms - OLD_MS);
    let alerts = services.alerts.views(now_ms);
    let silences: Vec<SilenceView> =
        silences.into_iter().map(|silence| shown(&alerts, silence, now_ms)).collect::<Result<_, _>>()?;
    view(&silences)
}

/// `drover silence add`.
pub(super) async fn silence(
    services: &Services,
    request: AddSilenceRequest,
    by: &OperatorName,
) -> Result<View, Status> {
    let now_ms = clock::unix_ms();
    let wrong = |error: MatcherError| invalid(error.to_string());
    let matchers: Vec<Matcher> =
        request.matchers.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(wrong)?;
    if matchers.is_empty() || matchers.len() > MAX_MATCHERS {
        return Err(invalid(format!("a silence has 1 to {MAX_MATCHERS} matchers, such as host=web-1")));
    }
    if !(1..=MAX_SILENCE_S).contains(&request.duration_s) {
        return Err(invalid("a silence lasts at least 1s and at most a year"));
    }
    let reason = one_line(request.reason.trim(), MAX_REASON_CHARS);
    if reason.is_empty() {
        return Err(invalid("say why: --reason \"moving the disk\""));
    }
    let live = services.store.silences().await.map_err(store_failed)?;
    if live.iter().filter(|silence| silence.ends_ms > now_ms).count() >= MAX_SILENCES {
        return Err(code::status(Code::Limit, format!("there are {MAX_SILENCES} silences: end some")));
    }
    let starts_ms = if request.starts_unix_ms == 0 { now_ms } else { request.starts_unix_ms };
    let lasts = i64::try_from(request.duration_s * 1000).unwrap_or(i64::MAX);
    let ends_ms = starts_ms.checked_add(lasts).filter(|ends| *ends > now_ms);
    let ends_ms = ends_ms.ok_or_else(|| invalid("it would be over already"))?;
    let mut random = [0; 4];
    rand::fill(&mut random).map_err(|_| code::status(Code::Internal, "no random bytes"))?;
    let silence = StoredSilence {
        id: format!("s-{}", hex::encode(random)),
        matchers: matchers.iter().map(ToString::to_string).collect(),
        starts_ms,
        ends_ms,
        created_by: by.to_string(),
        reason,
    };
    services.store.add_silence(&silence, now_ms - OLD_MS, now_ms).await.map_err(store_failed)?;
    services.alerts.read_silences().await.map_err(store_failed)?;
    view(&shown(&services.alerts.views(now_ms), silence, now_ms)?)
}

/// `drover silence end`.
pub(super) async fn end_silence(services: &Services, id: &str, by: &OperatorName) -> Result<View, Status> {
    let now_ms = clock::unix_ms();
    services.store.end_silence(id, by.as_str(), now_ms).await.map_err(store_failed)?;
    services.alerts.read_silences().await.map_err(store_failed)?;
    let all = services.store.silences().await.map_err(store_failed)?;
    let ended = all.into_iter().find(|silence| silence.id == id).ok_or_else(|| not_found(format!("silence {id}")))?;
    view(&shown(&services.alerts.views(now_ms), ended, now_ms)?)
}

/// `all`: the alerts of all hosts.
fn shown(all: &[AlertView], silence: StoredSilence, now_ms: i64) -> Result<SilenceView, Status> {
    let StoredSilence { id, matchers, starts_ms, ends_ms, created_by, reason } = silence;
    let read: Vec<Matcher> = matchers
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, MatcherError>>()
        .map_err(|_| code::status(Code::Store, "a silence in the store cannot be read"))?;
    let state = match (starts_ms <= now_ms, now_ms < ends_ms) {
        (_, false) => "over",
        (false, true) => "waiting",
        (true, true) => "active",
    };
    let is_held = |labels: &BTreeMap<String, String>| state == "active" && holds(&read, labels);
    let alerts = all.iter().filter(|alert| is_held(&alert.labels)).count();
    let (starts_unix_ms, ends_unix_ms, state) = (starts_ms, ends_ms, state.to_owned());
    Ok(SilenceView { id, matchers, starts_unix_ms, ends_unix_ms, created_by, reason, state, alerts })
}

/// `drover notify list`.
pub(super) async fn notifiers(services: &Services) -> Result<View, Status> {
    let mut waiting = services.store.notifications_waiting().await.map_err(store_failed)?;
    let mut states = services.store.notifier_states().await.map_err(store_failed)?;
    let alerting = services.alerts.alerting().borrow().clone();
    let notifiers: Vec<NotifierView> = alerting
        .notifiers
        .iter()
        .map(|(name, config)| {
            let state = states.remove(name).unwrap_or_default();
            NotifierView {
                name: name.clone(),
                kind: config.kind().to_owned(),
                to: config.to(),
                waiting: waiting.remove(name).unwrap_or_default(),
                delivered_unix_ms: state.delivered_ms,
                failure: state.failure,
            }
        })
        .collect();
    view(&notifiers)
}

/// `drover notify test`: one notification, at once, past the queue.
pub(super) async fn test_notifier(services: &Services, asked: &str, by: &OperatorName) -> Result<View, Status> {
    let asked: NotifierName = name(asked)?;
    let alerting = services.alerts.alerting().borrow().clone();
    let Some(config) = alerting.notifiers.get(&asked) else {
        let names: Vec<&str> = alerting.notifiers.keys().map(NotifierName::as_str).collect();
        return Err(not_found(format!("notifier {asked}; there are: {}", names.join(", "))));
    };
    let now_ms = clock::unix_ms();
    services.store.record(by.as_str(), "notify test", asked.as_str(), now_ms).await.map_err(store_failed)?;
    let labels = [("alert", "test"), ("host", "none"), ("severity", "info")];
    let told = Told {
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        summary: format!("{by} asked for a test of {asked}: nothing is wrong"),
        annotations: BTreeMap::new(),
        severity: Severity::Info,
        started_unix_ms: now_ms,
        ended_unix_ms: None,
    };
    let group = BTreeMap::from([("alert".to_owned(), "test".to_owned())]);
    let notification = Notification {
        id: format!("test-{now_ms}"),
        group,
        alerts: vec![told],
        more: 0,
        reason: "test".to_owned(),
        only: vec![],
    };
    let begun = std::time::Instant::now();
    let sent = Notifier::new(asked.clone(), config).send(&notification, now_ms).await;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (ok, answer) = match sent {
        Ok(taken) => (taken.is_whole(), taken.said),
        Err(failed) => (false, failed.said),
    };
    view(&NotifierAnswer { name: asked, ok, answer, took_ms })
}
