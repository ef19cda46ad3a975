//! The connection to the system bus under `systemd`: made when needed, made anew when it was lost.

use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use zbus::{Connection, DynamicType, Message, connection::Builder};

use super::{MANAGER, MANAGER_PATH, SystemdError};

/// What the bus says in systemd's place while that executes itself anew and has no name on the bus.
const NOT_THERE: [&str; 4] = [
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
];
/// The name that systemd has on the bus.
pub(super) const DESTINATION: &str = "org.freedesktop.systemd1";
/// A reload of many units takes systemd a while; its own tools wait as long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A bus that was there is waited for: it is restarted, or systemd executes itself anew.
const BACK_TIMEOUT: Duration = Duration::from_secs(15);
const BACK_PAUSE: Duration = Duration::from_millis(200);
/// How often a call is made again after the first time.
pub(super) const CALLS_MORE: usize = 10;
/// Calls under way at once.
const MAX_CALLS: usize = 64;

/// A bus address and the connection to it, if there is one.
pub(super) struct Bus {
    address: Option<String>,
    connection: Mutex<Option<Connection>>,
    /// Calls under way: the bus refuses more than 128 of one connection.
    calls: Semaphore,
}

impl Bus {
    /// `None` = this host's system bus.
    pub(super) fn new(address: Option<String>) -> Self {
        Self { address, connection: Mutex::new(None), calls: Semaphore::new(MAX_CALLS) }
    }

    /// A connection that was open a moment ago.
    pub(super) async fn connection(&self) -> Result<Connection, SystemdError> {
        let mut held = self.connection.lock().await;
        if let Some(open) = held.as_ref().filter(|c| !c.is_closed()) {
            return Ok(open.clone());
        }
        let until = tokio::time::Instant::now() + if held.is_some() { BACK_TIMEOUT } else { Duration::ZERO };
        loop {
            match self.connect().await {
                Ok(connection) => {
                    *held = Some(connection.clone());
                    return Ok(connection);
                }
                Err(error) if tokio::time::Instant::now() >= until => return Err(error),
                Err(error) => tracing::debug!(%error, "the bus is not back yet"),
            }
            tokio::time::sleep(BACK_PAUSE).await;
        }
    }

    async fn connect(&self) -> Result<Connection, SystemdError> {
        let builder = self.address.as_deref().map_or_else(Builder::system, Builder::address);
        let connecting = async {
            let connection = builder.method_timeout(ANSWER_TIMEOUT).build().await.map_err(SystemdError::Bus)?;
            // Without this systemd sends no signals when jobs end.
            call(&connection, "Subscribe", MANAGER_PATH, MANAGER, "Subscribe", &()).await?;
            Ok::<_, SystemdError>(connection)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| {
            Err(SystemdError::Bus(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer").into()))
        })
    }

    /// A call that may be made more than once: again if the bus or systemd was lost in the middle.
    pub(super) async fn call(
        &self,
        what: &str,
        path: &str,
        interface: &str,
        method: &str,
        arguments: &(impl serde::Serialize + DynamicType),
    ) -> Result<Message, SystemdError> {
        let mut left = CALLS_MORE;
        loop {
            let connection = self.connection().await?;
            let _place = self.calls.acquire().await;
            match call(&connection, what, path, interface, method, arguments).await {
                Err(error) if left > 0 && is_lost(&error) => tracing::debug!(what, %error, "asked again"),
                answer => return answer,
            }
            left -= 1;
            tokio::time::sleep(BACK_PAUSE).await;
        }
    }
}

/// One method call to systemd. `what` is what a person would call it, for the error.
pub(super) async fn call(
    connection: &Connection,
    what: &str,
    path: &str,
    interface: &str,
    method: &str,
    arguments: &(impl serde::Serialize + DynamicType),
) -> Result<Message, SystemdError> {
    let answer = connection.call_method(Some(DESTINATION), path, Some(interface), method, arguments).await;
    answer.map_err(|error| match error {
        zbus::Error::MethodError(ref name, ..) if NOT_THERE.contains(&name.as_str()) => SystemdError::Bus(error),
        zbus::Error::MethodError(name, said, _) => {
            SystemdError::Refused { what: what.to_owned(), why: said.unwrap_or_else(|| name.to_string()) }
        }
        zbus::Error::FDO(said) if !is_of_the_bus(&said) => {
            SystemdError::Refused { what: what.to_owned(), why: said.to_string() }
        }
        other => SystemdError::Bus(other),
    })
}

/// Whether it may be there again in a moment.
pub(super) fn is_lost(error: &SystemdError) -> bool {
    use zbus::fdo::Error as E;
    let SystemdError::Bus(error) = error else { return false };
    match error {
        zbus::Error::InputOutput(_) => true,
        zbus::Error::MethodError(name, ..) => NOT_THERE.contains(&name.as_str()),
        zbus::Error::FDO(said) => {
            matches!(**said, E::ServiceUnknown(_) | E::NameHasNoOwner(_) | E::NoReply(_) | E::Disconnected(_))
        }
        _ => false,
    }
}

/// Errors that say that systemd did not answer, rather than what it answered.
fn is_of_the_bus(error: &zbus::fdo::Error) -> bool {
    use zbus::fdo::Error as E;
    matches!(error, E::ServiceUnknown(_) | E::NameHasNoOwner(_) | E::NoReply(_) | E::Disconnected(_) | E::TimedOut(_))
}
