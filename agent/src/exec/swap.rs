//! The swap file made and put to use, by a unit that does so at every boot. Like every host need it stays. Beside `exec`.

use drover_proto::{
    code::Code,
    name::{AbsPath, UnitName},
};

use super::{Exec, StepFailure};
use crate::host::{
    files,
    swap::{self, SwapFile},
    systemd::JobResult,
};

const UNIT_TEXT: &str = "# Written by drover: an app on this host needs swap. It stays when the app goes.\n\
    [Unit]\nDescription=Swap file\n\n[Swap]\nWhat=/swapfile\n\n[Install]\nWantedBy=swap.target\n";

impl Exec<'_> {
    pub(super) async fn make_swap(&self, size_bytes: u64) -> Result<(), StepFailure> {
        let failed = |cause: String| StepFailure::new(Code::HostNeed, "swap", cause);
        let seen = swap::look().map_err(|e| failed(format!("swap cannot be looked at: {e}")))?;
        if !matches!(seen.file, SwapFile::Ready(_)) {
            swap::make(size_bytes).await.map_err(|e| failed(e.to_string()))?;
        }
        let unit: UnitName = swap::UNIT.parse().map_err(|_| failed("swapfile.swap is no unit".to_owned()))?;
        let path: AbsPath = self.layout.unit_file(&unit).map_err(|e| failed(e.to_string()))?;
        files::write_atomic(&path, UNIT_TEXT.as_bytes(), 0, 0, 0o644).map_err(|e| failed(e.to_string()))?;
        self.enable(&unit).await?;
        self.daemon_reload().await?;
        let started = self.systemd.start(&unit, self.patience()).await;
        match started.map_err(|e| failed(e.to_string()))? {
            JobResult::Done => Ok(()),
            _ => Err(self.job_failure("swap", &unit, "the kernel did not take /swapfile as swap".to_owned()).await),
        }
    }
}
