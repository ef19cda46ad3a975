//! All units at a glance, and single properties of them. Part of `systemd`; `table` keeps what is listed current.

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
    /// `running`, `exited`, `dead`, `auto-restart` … of its kind.
    pub sub_state: String,
    /// On the bus.
    pub path: OwnedObjectPath,
    /// Another number whenever systemd has told a change of it, be it of something else than is here.
    pub changed: u64,
}

/// One as it is in an answer.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) load_state: String,
    pub(super) active_state: String,
    pub(super) sub_state: String,
    pub(super) path: OwnedObjectPath,
}

impl Listed {
    fn is_loaded(&self) -> bool {
        self.load_state == "loaded"
    }
    /// Whether it is what is known of it.
    pub(super) fn is_as(&self, known: &ListedUnit) -> bool {
        self.is_loaded() == known.is_loaded
            && self.active_state == known.active_state
            && self.sub_state == known.sub_state
    }
    pub(super) fn into_unit(self, changed: u64) -> ListedUnit {
        let is_loaded = self.is_loaded();
        let Self { name, active_state, sub_state, path, .. } = self;
        ListedUnit { name, is_loaded, active_state, sub_state, path, changed }
    }
}

/// As `ListUnits` answers: name, description, load, active and sub state, who is followed, path, and the job.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl Systemd {
    /// All that it has in memory.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, SystemdError> {
        self.listed("ListUnits", &()).await
    }
    /// Those of these that it has in memory. Asked for by their names alone they would be loaded, and be gone again: what listens
    /// for that would ask for ever.
    pub(super) async fn list_these(&self, names: &[String]) -> Result<Vec<Listed>, SystemdError> {
        self.listed("ListUnitsByPatterns", &([""; 0].as_slice(), names)).await
    }
    async fn listed(
        &self,
        method: &str,
        arguments: &(impl serde::Serialize + zbus::DynamicType),
    ) -> Result<Vec<Listed>, SystemdError> {
        let answer = self.bus.call(method, MANAGER_PATH, MANAGER, method, arguments).await?;
        let rows: Vec<Row> = body(&answer)?;
        let listed = |(name, _, load_state, active_state, sub_state, _, path, ..): Row| Listed {
            name,
            load_state,
            active_state,
            sub_state,
            path,
        };
        Ok(rows.into_iter().map(listed).collect())
    }

    /// Its own version, e.g. `252.39-1~deb12u1`.
    pub async fn version(&self) -> Result<String, SystemdError> {
        self.property(MANAGER_PATH, "Manager", "Version").await
    }
    /// How it stands: `running`, `degraded`, `starting` …
    pub async fn system_state(&self) -> Result<String, SystemdError> {
        self.property(MANAGER_PATH, "Manager", "SystemState").await
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
