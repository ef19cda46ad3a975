//! Names of users and groups to numbers, at the moment a step needs them. Beside `exec`.

use drover_proto::{code::Code, name::UserName};

use super::StepFailure;
use crate::host::users::{self, Account};

/// The user, or why not.
pub(super) fn user(name: &UserName) -> Result<Account, StepFailure> {
    match users::account(name) {
        Ok(Some(account)) => Ok(account),
        Ok(None) => {
            Err(StepFailure::new(Code::NoSuchUser, "users", format!("user {name} does not exist on this host")))
        }
        Err(error) => {
            Err(StepFailure::new(Code::NoSuchUser, "users", format!("user {name} cannot be looked up: {error}")))
        }
    }
}

/// The account to run a program under; `None` = root.
pub(super) fn runner(name: &UserName) -> Result<Option<Account>, StepFailure> {
    if name.as_str() == "root" { Ok(None) } else { user(name).map(Some) }
}

/// The group's number, or why not.
pub(super) fn group(name: &UserName) -> Result<u32, StepFailure> {
    match users::group_id(name) {
        Ok(Some(gid)) => Ok(gid),
        Ok(None) => {
            Err(StepFailure::new(Code::NoSuchUser, "users", format!("group {name} does not exist on this host")))
        }
        Err(error) => {
            Err(StepFailure::new(Code::NoSuchUser, "users", format!("group {name} cannot be looked up: {error}")))
        }
    }
}
