//! How all units stand, kept current by systemd's own signals: whoever wants to know reads memory, and asks systemd nothing. `model`
//! has the rules, pure; here they are fed. Part of `systemd`; `metrics` and alerts read it.
//!
//! One task listens, and while it waits for an answer it listens on: the connection has one reader for everybody, which stops when
//! one queue is full. All units are asked for at the start, when systemd has read its files anew, when signals may have been missed,
//! and every few minutes.

mod model;

use std::{future::Future, num::NonZeroUsize, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::SelectAll};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use zbus::{Connection, MatchRule, MessageStream, message::Type};

use super::{MANAGER, MANAGER_PATH, Systemd, SystemdError, bus};
pub use model::Units;
use model::{Answer, Heard, Model, Question};

/// Signals waiting for us. systemd sends two of each unit when it reads its files anew.
const MAX_QUEUED: usize = 1024;
/// What happens within so much of each other is told as one; the first is told at once.
const TOGETHER: Duration = Duration::from_millis(20);
/// However many signals there were, all units are asked for so often.
const RESYNC: Duration = Duration::from_secs(300);
/// Before it is begun anew when the bus was lost.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// All units that systemd has in memory, as of now. Cheap to clone.
#[derive(Clone)]
pub struct UnitTable(watch::Receiver<Option<Arc<Units>>>);

impl UnitTable {
    /// The table, and what keeps it current for as long as it is run.
    pub fn start(systemd: Systemd) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = watch::channel(None);
        (Self(receiver), follow(systemd, sender))
    }

    /// How they stand now; `None`: that is not known just now. To be held for a moment only: while somebody holds it, what changes
    /// is written into a copy of it.
    #[must_use]
    pub fn units(&self) -> Option<Arc<Units>> {
        self.0.borrow().clone()
    }

    /// Tells of a change within some 10 ms, 20 ms where it is one of many.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Units>>> {
        self.0.clone()
    }

    /// Units that do not change.
    #[cfg(test)]
    #[must_use]
    pub fn of(units: Option<Units>) -> Self {
        Self(watch::channel(units.map(Arc::new)).1)
    }
}

async fn follow(systemd: Systemd, sender: watch::Sender<Option<Arc<Units>>>) {
    loop {
        if let Err(error) = follow_one_bus(&systemd, &sender).await {
            tracing::warn!(%error, "how the units stand is not known just now");
        }
        sender.send_if_modified(|units| units.take().is_some());
        sleep(AGAIN_AFTER).await;
    }
}

type Asking = Pin<Box<dyn Future<Output = Result<Answer, SystemdError>> + Send>>;

/// Until the bus is lost, or systemd does not answer.
async fn follow_one_bus(systemd: &Systemd, sender: &watch::Sender<Option<Arc<Units>>>) -> Result<(), SystemdError> {
    let connection = systemd.bus.connection().await?;
    let mut signals = listen(&connection).await.map_err(SystemdError::Bus)?;
    let (mut model, mut asking) = (Model::default(), None);
    // When what was heard is told and what it leaves open is asked; when it was last.
    let (mut due, mut told_at) = (Some(Instant::now()), None::<Instant>);
    let mut resync = Instant::now() + RESYNC;
    loop {
        let wakes = due.map_or(resync, |due| due.min(resync));
        tokio::select! {
            // What is due comes before what is new, or a flood of signals would keep it from being told.
            biased;
            answer = answered(&mut asking) => {
                asking = None;
                model.take(answer?);
                due = Some(Instant::now());
            }
            () = sleep_until(wakes) => {
                let now = Instant::now();
                if now >= resync {
                    model.doubt();
                    resync = now + RESYNC;
                }
                sender.send_if_modified(|units| model.tell(units));
                (due, told_at) = (None, Some(now));
                if asking.is_none() {
                    asking = model.question().map(|question| -> Asking { Box::pin(ask(systemd.clone(), question)) });
                }
            }
            signal = signals.next() => {
                let Some(Ok(signal)) = signal else { return Err(lost()) };
                let now = Instant::now();
                let at = match model.hear(&signal) {
                    Heard::Nothing => continue,
                    Heard::State => told_at.map_or(now, |at| now.max(at + TOGETHER)),
                    // What comes and goes at once needs not be asked for.
                    Heard::Open => now + TOGETHER,
                };
                due = Some(due.map_or(at, |due| due.min(at)));
            }
        }
    }
}

/// Waits for ever while nothing is asked.
async fn answered(asking: &mut Option<Asking>) -> Result<Answer, SystemdError> {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

async fn ask(systemd: Systemd, question: Question) -> Result<Answer, SystemdError> {
    let units = match &question {
        Question::All => systemd.list().await?,
        Question::These(names) => systemd.list_these(names).await?,
    };
    Ok(Answer { question, units })
}

fn lost() -> SystemdError {
    SystemdError::Bus(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the bus was lost").into())
}

/// What systemd says of itself and of its units, from now on.
async fn listen(connection: &Connection) -> zbus::Result<SelectAll<MessageStream>> {
    let rule = || MatchRule::builder().msg_type(Type::Signal).sender(bus::DESTINATION);
    // Of each change of a unit one signal is enough, the one with what all kinds of units have.
    let of_units = rule()
        .path_namespace(model::UNITS_PATH)
        .interface("org.freedesktop.DBus.Properties")
        .member("PropertiesChanged")
        .arg0ns(model::UNIT);
    let rules = [of_units.build()?, rule().path(MANAGER_PATH).interface(MANAGER).build()?];
    let mut signals = SelectAll::new();
    for rule in rules {
        signals.push(MessageStream::for_match_rule(rule, connection, NonZeroUsize::new(MAX_QUEUED)).await?);
    }
    Ok(signals)
}
