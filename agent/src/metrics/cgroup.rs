//! What a control group uses, of a unit or of a container: cgroups of version 2, and of version 1 where a host has those.

use super::node::Root;

const MOUNT: &str = "sys/fs/cgroup";

/// What one control group and all below it use. What the host does not count is missing.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: Option<f64>,
    /// With what of files is cached.
    pub(super) memory_bytes: Option<u64>,
    /// Without what of that has not been used for long, and could go.
    pub(super) working_set_bytes: Option<u64>,
}

/// Which version the host has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    One,
    Two,
}

impl Version {
    pub(super) fn of(root: &Root) -> Self {
        if root.exists(format!("{MOUNT}/cgroup.controllers")) { Self::Two } else { Self::One }
    }

    /// Of the group at this path of the hierarchy, e.g. `/system.slice/mono-api.service`. One that is gone uses nothing.
    pub(super) fn usage(self, root: &Root, path: &str) -> Usage {
        let path = path.trim_start_matches('/');
        if path.is_empty() || path.split('/').any(|part| part == "..") {
            return Usage::default();
        }
        match self {
            Self::One => v1(root, path),
            Self::Two => v2(root, path),
        }
    }

    /// Where the groups of memory and of CPU time lie.
    pub(super) fn hierarchies(self) -> [String; 2] {
        match self {
            // Where controllers are mounted together each still has its own name, as a link.
            Self::One => [format!("{MOUNT}/memory"), format!("{MOUNT}/cpuacct")],
            Self::Two => [MOUNT.to_owned(), MOUNT.to_owned()],
        }
    }
}

fn v2(root: &Root, path: &str) -> Usage {
    let number = |file: &str, key: &str| keyed(&root.read(format!("{MOUNT}/{path}/{file}")).ok()?, key);
    let memory = root.line(format!("{MOUNT}/{path}/memory.current")).and_then(|line| line.parse().ok());
    Usage {
        cpu_seconds: number("cpu.stat", "usage_usec").map(|us| us as f64 / 1e6),
        memory_bytes: memory,
        working_set_bytes: working_set(memory, || number("memory.stat", "inactive_file")),
    }
}

fn v1(root: &Root, path: &str) -> Usage {
    let [memory_at, cpu_at] = Version::One.hierarchies();
    let memory = root.line(format!("{memory_at}/{path}/memory.usage_in_bytes")).and_then(|line| line.parse().ok());
    let inactive = || keyed(&root.read(format!("{memory_at}/{path}/memory.stat")).ok()?, "total_inactive_file");
    let ns: Option<u64> = root.line(format!("{cpu_at}/{path}/cpuacct.usage")).and_then(|line| line.parse().ok());
    Usage {
        cpu_seconds: ns.map(|ns| ns as f64 / 1e9),
        memory_bytes: memory,
        working_set_bytes: working_set(memory, inactive),
    }
}

/// As the kubelet and cAdvisor count it.
fn working_set(memory: Option<u64>, inactive: impl FnOnce() -> Option<u64>) -> Option<u64> {
    Some(memory?.saturating_sub(inactive()?))
}

/// A line of `key number`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    //! Both versions.
    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(MOUNT).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let root = Root::new(dir.path());
        (dir, root)
    }

    #[test]
    fn both_versions_say_the_same() {
        let v2 = root(&[
            ("cgroup.controllers", "cpu memory\n"),
            ("system.slice/a.service/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
            ("system.slice/a.service/memory.current", "4096\n"),
            ("system.slice/a.service/memory.stat", "anon 1\ninactive_file 1024\n"),
        ]);
        let v1 = root(&[
            ("cpuacct/system.slice/a.service/cpuacct.usage", "2500000000\n"),
            ("memory/system.slice/a.service/memory.usage_in_bytes", "4096\n"),
            ("memory/system.slice/a.service/memory.stat", "inactive_file 9\ntotal_inactive_file 1024\n"),
        ]);
        let expected = Usage { cpu_seconds: Some(2.5), memory_bytes: Some(4096), working_set_bytes: Some(3072) };
        assert_eq!(Version::of(&v2.1).usage(&v2.1, "/system.slice/a.service"), expected);
        assert_eq!(Version::of(&v1.1).usage(&v1.1, "/system.slice/a.service"), expected);
        for gone in ["/system.slice/b.service", "", "/", "/../system.slice/a.service"] {
            assert_eq!(Version::Two.usage(&v2.1, gone), Usage::default(), "{gone}");
        }
    }
}
