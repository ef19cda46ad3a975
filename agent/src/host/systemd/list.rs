//! All units at a glance, for `metrics`. Part of `systemd`.

use zbus::{OwnedObjectPath, OwnedVariant};

use super::{MANAGER, MANAGER_PATH, Systemd, SystemdError, body};

/// One of the units that systemd has in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedUnit {
    /// Its name, as systemd has it.
    pub name: String,
    /// It has a file, or is made by systemd itself; what is only mentioned by others has none.
    pub is_loaded: bool,
    /// `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub active_state: String,
    /// On the bus.
    pub path: OwnedObjectPath,
}

/// As `ListUnits` answers: name, description, load, active and sub state, who is followed, path, and the job.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl Systemd {
    /// All that it has in memory.
    pub async fn list(&self) -> Result<Vec<ListedUnit>, SystemdError> {
        let answer = self.bus.call("ListUnits", MANAGER_PATH, MANAGER, "ListUnits", &()).await?;
        let rows: Vec<Row> = body(&answer)?;
        let listed = |(name, _, load, active_state, _, _, path, ..): Row| ListedUnit {
            name,
            is_loaded: load == "loaded",
            active_state,
            path,
        };
        Ok(rows.into_iter().map(listed).collect())
    }

    /// Its own version, e.g. `252.39-1~deb12u1`, and how it stands: `running`, `degraded`, `starting` …
    pub async fn version_and_state(&self) -> Result<(String, String), SystemdError> {
        Ok((
            self.property(MANAGER_PATH, "Manager", "Version").await?,
            self.property(MANAGER_PATH, "Manager", "SystemState").await?,
        ))
    }

    /// One property. `of`: the last word of its interface. One of another type is its default.
    pub async fn property<T>(&self, path: &str, of: &str, name: &str) -> Result<T, SystemdError>
    where
        T: TryFrom<OwnedVariant> + Default,
    {
        let interface = format!("org.freedesktop.systemd1.{of}");
        let arguments = (interface.as_str(), name);
        let answer = self.bus.call(name, path, "org.freedesktop.DBus.Properties", "Get", &arguments).await?;
        let value: OwnedVariant = body(&answer)?;
        Ok(T::try_from(value).unwrap_or_default())
    }
}
