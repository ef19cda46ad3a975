//! `drover events`: the newest, and then, when they are followed, each as it comes in. By their numbers, so that none is
//! lost between the two.

use drover_proto::{
    name::{HostId, HostName},
    view::EventView,
    wire::{EventsRequest, View},
};
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;
use tonic::Status;

use super::{
    super::{Services, lease::Leased, name, store_failed},
    view,
};
use crate::store::{EventFilter, OfHost};

/// Events to begin with, unless said, and at most.
const EVENTS: (u32, u32) = (50, 10_000);
/// Events of one message: well below its limit.
const PER_MESSAGE: u32 = 500;

/// What is still to be sent.
struct Following {
    services: Services,
    filter: EventFilter,
    /// Everything up to it was looked at.
    seen: i64,
    more: watch::Receiver<()>,
}

/// `drover events`.
pub(super) async fn events(services: &Services, request: EventsRequest) -> Result<Leased<View>, Status> {
    let filter = EventFilter {
        host: of_host(services, &request.host).await?,
        app: if request.app.is_empty() { None } else { Some(name(&request.app)?) },
        since_ms: (request.since_unix_ms != 0).then_some(request.since_unix_ms),
    };
    let (usual, most) = EVENTS;
    let limit = if request.limit == 0 { usual } else { request.limit.min(most) };
    let store = &services.store;
    // Before the first look, so that no event falls between the two.
    let more = store.watch_events();
    let newest = store.newest_event().await.map_err(store_failed)?;
    let goes_on = request.follow && request.after_id > 0;
    let (history, seen) = if goes_on {
        // A number that is not there yet is of before a restore.
        (Vec::new(), request.after_id.min(newest))
    } else {
        (store.events_before(&filter, newest, limit).await.map_err(store_failed)?, newest)
    };
    let first: Vec<_> = history.chunks(PER_MESSAGE as usize).map(|chunk| view(&chunk)).collect();
    let history = stream::iter(first);
    if !request.follow {
        return Ok(history.boxed());
    }
    let mut following = Following { services: services.clone(), filter, seen, more };
    if goes_on {
        following.more.mark_changed();
    }
    Ok(history.chain(stream::unfold(following, Following::next)).boxed())
}

/// A host that is enrolled is its id; a name that only a removed one had is that name.
async fn of_host(services: &Services, text: &str) -> Result<Option<OfHost>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(host) = services.store.host(text).await.map_err(store_failed)? {
        return Ok(Some(OfHost::Id(host.id)));
    }
    if let Ok(id) = text.parse::<HostId>() {
        return Ok(Some(OfHost::Id(id)));
    }
    Ok(Some(OfHost::Name(name::<HostName>(text)?)))
}

impl Following {
    async fn next(mut self) -> Option<(Result<View, Status>, Self)> {
        loop {
            tokio::select! {
                () = self.services.stop.cancelled() => return None,
                changed = self.more.changed() => changed.ok()?,
            }
            match self.read().await {
                Ok(events) if events.is_empty() => {}
                Ok(events) => return Some((view(&events), self)),
                Err(error) => return Some((Err(error), self)),
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<EventView>, Status> {
        let store = self.services.store.clone();
        let newest = store.newest_event().await.map_err(store_failed)?;
        let events = store.events_between(&self.filter, self.seen, newest, PER_MESSAGE).await.map_err(store_failed)?;
        if events.len() < PER_MESSAGE as usize {
            self.seen = self.seen.max(newest);
        } else {
            // There may be more.
            self.seen = events.last().map_or(newest, |event| event.id);
            self.more.mark_changed();
        }
        Ok(events)
    }
}
