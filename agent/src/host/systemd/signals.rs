//! What systemd tells of chosen units without being asked: that one has become active, has failed or is not running. Beside
//! `systemd`; `reconcile` listens, and looks for itself before it does anything.

use std::{collections::HashMap, num::NonZeroUsize};

use drover_proto::name::UnitName;
use futures_util::{StreamExt, stream::SelectAll};
use zbus::{MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, message::Type};

use super::{MANAGER, MANAGER_PATH, Systemd, SystemdError, body, bus};

/// Signals of one unit waiting for us.
const MAX_QUEUED: usize = 64;

/// The signals of some units, until it is dropped or the bus is lost.
#[derive(Default)]
pub struct UnitSignals {
    streams: SelectAll<MessageStream>,
    units: HashMap<String, UnitName>,
}

impl Systemd {
    /// Listens for changes of these units. What happened before is to be looked up after it.
    pub async fn listen(&self, units: impl IntoIterator<Item = &UnitName>) -> Result<UnitSignals, SystemdError> {
        let mut signals = UnitSignals::default();
        for unit in units {
            let what = format!("LoadUnit {unit}");
            let answer = self.bus.call(&what, MANAGER_PATH, MANAGER, "LoadUnit", &(unit.as_str())).await?;
            let path: OwnedObjectPath = body(&answer)?;
            signals.units.insert(path.to_string(), unit.clone());
            let rule = rule(&path).map_err(SystemdError::Bus)?;
            let connection = self.bus.connection().await?;
            let stream = MessageStream::for_match_rule(rule, &connection, NonZeroUsize::new(MAX_QUEUED));
            signals.streams.push(stream.await.map_err(SystemdError::Bus)?);
        }
        Ok(signals)
    }
}

fn rule(path: &OwnedObjectPath) -> zbus::Result<MatchRule<'_>> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(bus::DESTINATION)
        .path(path.as_str())
        .interface("org.freedesktop.DBus.Properties")
        .member("PropertiesChanged")
        .add_arg("org.freedesktop.systemd1.Unit");
    rule.build()
}

impl UnitSignals {
    /// The next unit whose state is another, and systemd's word for it. `None`: the bus was lost. Waits for ever while
    /// there are no units.
    pub async fn next(&mut self) -> Option<(UnitName, String)> {
        loop {
            if self.streams.is_empty() {
                return if self.units.is_empty() { std::future::pending().await } else { None };
            }
            let message = self.streams.next().await?.ok()?;
            if let Some(told) = self.told(&message) {
                return Some(told);
            }
        }
    }

    fn told(&self, message: &Message) -> Option<(UnitName, String)> {
        let unit = self.units.get(message.header().path()?.as_str())?;
        let (_, mut changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) = body(message).ok()?;
        let state = String::try_from(changed.remove("ActiveState")?).ok()?;
        Some((unit.clone(), state))
    }
}
