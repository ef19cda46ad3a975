//! What a unit's text says of the host around it: the accounts and the ports that it needs. Only what stands there plainly;
//! drop-ins and specifiers are systemd's. Beside `render`.

use std::collections::BTreeSet;

use drover_proto::{
    name::{UnitName, UserName},
    port::{Port, Transport},
};

/// The users and groups that a unit names and that must exist.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Accounts {
    /// `User=`, `SocketUser=`.
    pub users: BTreeSet<UserName>,
    /// `Group=`, `SocketGroup=`, `SupplementaryGroups=`.
    pub groups: BTreeSet<UserName>,
}

impl Accounts {
    /// Of one unit. A service with `DynamicUser=` brings its own.
    pub(super) fn of(text: &str) -> Self {
        if settings(text, "DynamicUser").last().is_some_and(|word| matches!(word, "yes" | "true" | "on" | "1")) {
            return Self::default();
        }
        // A number needs no entry, a specifier only systemd can fill in.
        let named = |word: &str| word.parse().ok().filter(|_| !word.bytes().all(|b| b.is_ascii_digit()));
        let last = |key| settings(text, key).last().and_then(named);
        let groups = settings(text, "SupplementaryGroups").flat_map(str::split_whitespace).filter_map(named);
        Self {
            users: last("User").into_iter().chain(last("SocketUser")).collect(),
            groups: last("Group").into_iter().chain(last("SocketGroup")).chain(groups).collect(),
        }
    }
}

/// Where a socket unit listens on the network.
pub(super) fn ports(name: &UnitName, text: &str) -> Vec<Port> {
    if name.kind() != "socket" {
        return Vec::new();
    }
    let listed = |key, transport| {
        settings(text, key).filter_map(|word| word.parse().ok()).map(move |port| Port { transport, ..port })
    };
    listed("ListenStream", Transport::Tcp).chain(listed("ListenDatagram", Transport::Udp)).collect()
}

/// The values of a setting, in order; an empty one takes back those before, which no reader here minds.
fn settings<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with(['#', ';']));
    lines.filter_map(move |line| {
        let (name, value) = line.split_once('=')?;
        (name.trim_end() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    //! Texts, row by row.
    use super::*;

    #[test]
    fn the_accounts_of_a_unit_are_those_that_must_exist() {
        let rows = [
            ("[Service]\nUser=a\nUser = b\nGroup=c\nSupplementaryGroups=d e\nSupplementaryGroups=f\n", "b", "c d e f"),
            ("[Service]\n# User=a\n;Group=b\n", "", ""),
            ("[Service]\nUser=1000\nGroup=%i\n", "", ""),
            ("[Service]\nUser=a\nDynamicUser=yes\n", "", ""),
            ("[Socket]\nSocketUser=a\nSocketGroup=b\n", "a", "b"),
        ];
        for (text, users, groups) in rows {
            let accounts = Accounts::of(text);
            let words = |names: &BTreeSet<UserName>| names.iter().map(UserName::as_str).collect::<Vec<_>>().join(" ");
            assert_eq!((words(&accounts.users).as_str(), words(&accounts.groups).as_str()), (users, groups), "{text}");
        }
    }

    #[test]
    fn a_socket_listens_where_its_text_says() {
        let text = "[Socket]\nListenStream=8080\nListenStream=/run/x\nListenStream=127.0.0.1:81\nListenDatagram=53\n";
        let found: Vec<String> = ports(&"a.socket".parse().unwrap(), text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["8080", "127.0.0.1:81", "53/udp"]);
        assert_eq!(ports(&"a.service".parse().unwrap(), text), vec![]);
    }
}
