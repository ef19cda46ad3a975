//! Users and groups by name, as the system knows them (files, LDAP …), and making system users. `exec` calls it; what an
//! `Account` says is used by `process` and `files`.

use std::{path::PathBuf, time::Duration};

use drover_proto::{app::UserNeed, name::UserName};
use uzers::os::unix::UserExt;

use super::process::{self, Command, ProcessError};

/// A user of this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Login name.
    pub name: UserName,
    /// Number.
    pub uid: u32,
    /// Of its primary group.
    pub gid: u32,
    /// Home directory, whether it exists or not.
    pub home: PathBuf,
}

/// Why a user could not be made.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A supplementary group is missing.
    #[error("user {user}: its group {group} does not exist")]
    NoSuchGroup {
        /// Of whom.
        user: UserName,
        /// Which.
        group: UserName,
    },
    /// useradd said no.
    #[error("user {user} was not made: {why}")]
    Refused {
        /// Which.
        user: UserName,
        /// Its last line.
        why: String,
    },
    /// useradd could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// The user of that name, if there is one. Asks the system each time.
pub fn account(name: &UserName) -> Result<Option<Account>, UserError> {
    Ok(uzers::get_user_by_name(name.as_str()).map(|user| Account {
        name: name.clone(),
        uid: user.uid(),
        gid: user.primary_group_id(),
        home: user.home_dir().to_owned(),
    }))
}

/// The number of the group of that name, if there is one.
pub fn group_id(name: &UserName) -> Result<Option<u32>, UserError> {
    Ok(uzers::get_group_by_name(name.as_str()).map(|group| group.gid()))
}

/// Makes a system user; one that is there already stays as it is. The home directory is not made.
pub async fn create(need: &UserNeed) -> Result<(), UserError> {
    if account(&need.name)?.is_some() {
        return Ok(());
    }
    for group in &need.groups {
        if group_id(group)?.is_none() {
            return Err(UserError::NoSuchGroup { user: need.name.clone(), group: group.clone() });
        }
    }
    let has_group = group_id(&need.name)?.is_some();
    let mut command = Command::new(process::USERADD, arguments(need, has_group), Duration::from_secs(60));
    command.cwd = Some("/".into());
    let outcome = process::run(command).await?;
    if outcome.ok() && account(&need.name)?.is_some() {
        return Ok(());
    }
    Err(UserError::Refused { user: need.name.clone(), why: outcome.last_line() })
}

fn arguments(need: &UserNeed, has_group: bool) -> Vec<String> {
    let mut args: Vec<String> = vec!["--system".to_owned(), "--no-create-home".to_owned()];
    args.extend(["--home-dir".to_owned(), need.home.to_string(), "--shell".to_owned(), need.shell.to_string()]);
    if has_group {
        args.extend(["--gid".to_owned(), need.name.to_string()]);
    } else {
        args.push("--user-group".to_owned());
    }
    if !need.groups.is_empty() {
        let groups: Vec<&str> = need.groups.iter().map(UserName::as_str).collect();
        args.extend(["--groups".to_owned(), groups.join(",")]);
    }
    args.extend(["--".to_owned(), need.name.to_string()]);
    args
}

#[cfg(test)]
mod tests {
    //! What useradd is told. Making a user for real is the lab's work.
    use super::*;

    fn need(groups: &[&str]) -> UserNeed {
        UserNeed {
            name: "mono".parse().unwrap(),
            home: "/nonexistent".parse().unwrap(),
            shell: "/usr/sbin/nologin".parse().unwrap(),
            groups: groups.iter().map(|g| g.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_user_gets_its_own_group_unless_that_exists() {
        let line = arguments(&need(&["adm", "video"]), false).join(" ");
        assert_eq!(
            line,
            "--system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --user-group --groups adm,video -- mono"
        );
        let line = arguments(&need(&[]), true).join(" ");
        assert_eq!(
            line,
            "--system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --gid mono -- mono"
        );
    }

    #[test]
    fn root_is_known_and_a_stranger_is_not() {
        let root = account(&"root".parse().unwrap()).unwrap().unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_path()), (0, 0, std::path::Path::new("/root")));
        assert_eq!(account(&"drover-nobody-has-this".parse().unwrap()).unwrap(), None);
        assert_eq!(group_id(&"root".parse().unwrap()).unwrap(), Some(0));
    }

    #[tokio::test]
    async fn a_missing_supplementary_group_is_named() {
        let error = create(&UserNeed { name: "drover-none".parse().unwrap(), ..need(&["drover-no-group"]) }).await;
        assert_eq!(error.unwrap_err().to_string(), "user drover-none: its group drover-no-group does not exist");
    }
}
