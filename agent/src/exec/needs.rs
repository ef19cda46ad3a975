//! Host needs: packages, users, directories. Additive, never taken back. Beside `exec`.

use std::collections::BTreeSet;

use drover_proto::{
    app::{DirectoryNeed, UserNeed},
    code::Code,
    name::PackageName,
};

use super::{Exec, StepFailure, accounts, program};
use crate::host::{files, packages, users};

impl Exec<'_> {
    pub(super) async fn install_packages(&self, wanted: &BTreeSet<PackageName>) -> Result<(), StepFailure> {
        let output = self.output_file("packages")?;
        packages::install(wanted, &output).await.map_err(|error| {
            StepFailure::new(Code::HostNeed, "packages", format!("packages could not be installed: {error}"))
                .with("output of apt-get", program::last_lines(&output))
        })
    }

    pub(super) async fn create_user(&self, need: &UserNeed) -> Result<(), StepFailure> {
        users::create(need).await.map_err(|error| StepFailure::new(Code::HostNeed, "users", error.to_string()))
    }

    pub(super) fn ensure_directory(&self, need: &DirectoryNeed) -> Result<(), StepFailure> {
        let (owner, group) = (accounts::user(&need.owner)?, accounts::group(&need.group)?);
        match files::ensure_directory(&need.path, owner.uid, group, need.mode) {
            Ok(_changed) => Ok(()),
            Err(error @ files::FileError::Unsafe { .. }) => {
                Err(StepFailure::new(Code::UnsafePath, "directories", error.to_string()))
            }
            Err(error) => Err(StepFailure::new(Code::HostNeed, "directories", error.to_string())),
        }
    }
}
