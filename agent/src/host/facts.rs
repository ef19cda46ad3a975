//! What a host is: its system (for the hello of `link`), own name (`enroll`) and boot (`report`).

use std::fs;

/// Its system, e.g. `Debian GNU/Linux 12 (bookworm)`; `Linux` when it does not say.
#[must_use]
pub fn os_name() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    pretty_name(&release).unwrap_or_else(|| "Linux".to_owned())
}

/// Its own name, which need not be its name in drover.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Another after every boot; empty when it cannot be read.
#[must_use]
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn pretty_name(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?.trim();
    let value = value.trim_matches(|c| c == '"' || c == '\'');
    (!value.is_empty()).then(|| value.chars().filter(|c| !c.is_control()).take(200).collect())
}

#[cfg(test)]
mod tests {
    //! Facts are read from the files where they stand.
    use super::*;

    #[test]
    fn the_pretty_name_comes_without_its_quotes() {
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=12\n";
        assert_eq!(pretty_name(release).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("NAME=x\n"), None);
    }

    #[test]
    fn every_host_has_a_name_and_a_boot() {
        assert!(!host_name().is_empty() && !os_name().is_empty());
        assert_eq!(boot_id().len(), 36);
    }
}
