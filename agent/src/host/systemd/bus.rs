//! The connection to the system bus under `systemd`: made when needed, made anew when it was lost.

use std::time::Duration;

use tokio::sync::Mutex;
use zbus::{Connection, DynamicType, Message, connection::Builder};

use super::{MANAGER, MANAGER_PATH, SystemdError};

/// The name that systemd has on the bus.
pub(super) const DESTINATION: &str = "org.freedesktop.systemd1";
/// A reload of many units takes systemd a while; its own tools wait as long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A bus address and the connection to it, if there is one.
pub(super) struct Bus {
    address: Option<String>,
    connection: Mutex<Option<Connection>>,
}

impl Bus {
    /// `None` = this host's system bus.
    pub(super) fn new(address: Option<String>) -> Self {
        Self { address, connection: Mutex::new(None) }
    }

    /// A connection that was open a moment ago.
    pub(super) async fn connection(&self) -> Result<Connection, SystemdError> {
        let mut held = self.connection.lock().await;
        if let Some(open) = held.as_ref().filter(|c| !c.is_closed()) {
            return Ok(open.clone());
        }
        let builder = self.address.as_deref().map_or_else(Builder::system, Builder::address);
        let connecting = async {
            let connection = builder.method_timeout(ANSWER_TIMEOUT).build().await.map_err(SystemdError::Bus)?;
            // Without this systemd sends no signals when jobs end.
            call(&connection, "Subscribe", MANAGER_PATH, MANAGER, "Subscribe", &()).await?;
            Ok::<_, SystemdError>(connection)
        };
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| {
            Err(SystemdError::Bus(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer").into()))
        })?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    /// A call that may be made twice: once more if the bus was lost in the middle.
    pub(super) async fn call(
        &self,
        what: &str,
        path: &str,
        interface: &str,
        method: &str,
        arguments: &(impl serde::Serialize + DynamicType),
    ) -> Result<Message, SystemdError> {
        let connection = self.connection().await?;
        match call(&connection, what, path, interface, method, arguments).await {
            Err(SystemdError::Bus(_)) if connection.is_closed() => {
                call(&self.connection().await?, what, path, interface, method, arguments).await
            }
            answer => answer,
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
        zbus::Error::MethodError(name, said, _) => {
            SystemdError::Refused { what: what.to_owned(), why: said.unwrap_or_else(|| name.to_string()) }
        }
        zbus::Error::FDO(said) if !is_of_the_bus(&said) => {
            SystemdError::Refused { what: what.to_owned(), why: said.to_string() }
        }
        other => SystemdError::Bus(other),
    })
}

/// Errors that say that systemd did not answer, rather than what it answered.
fn is_of_the_bus(error: &zbus::fdo::Error) -> bool {
    use zbus::fdo::Error as E;
    matches!(error, E::ServiceUnknown(_) | E::NameHasNoOwner(_) | E::NoReply(_) | E::Disconnected(_) | E::TimedOut(_))
}

/// The stream of signals has ended.
pub(super) fn lost() -> zbus::Error {
    std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "the bus was lost while a job ran").into()
}
