//! What is mounted where, of that what node_exporter tells, and which of it answers at once. For `filesystem`.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use super::{Root, odd};

/// What may hang because somebody else does, by the beginning of its name.
const ELSEWHERE: [&str; 11] =
    ["nfs", "cifs", "smb", "ceph", "fuse", "9p", "afs", "gfs", "glusterfs", "lustre", "virtiofs"];
/// What answers from the kernel's own memory, whatever becomes of its device.
const AT_HAND: [&str; 5] = ["ext2", "ext3", "ext4", "tmpfs", "ramfs"];
/// Kinds that node_exporter leaves out.
const LEFT_OUT: [&str; 24] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];
/// Mounts that are told, at most.
const MAX_MOUNTS: usize = 500;

/// What is mounted where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Mount {
    /// What.
    pub(crate) device: String,
    /// Where.
    pub(crate) point: PathBuf,
    /// Of file system.
    pub(super) kind: String,
    /// Nobody can write there.
    pub(crate) is_read_only: bool,
    /// It answers from the kernel's own memory, and nothing that may hang lies on the way to it.
    pub(super) is_at_hand: bool,
}

impl Mount {
    /// Neither what cannot be written, nor what is in memory or elsewhere.
    pub(crate) fn is_disk(&self) -> bool {
        let is_memory = matches!(self.kind.as_str(), "tmpfs" | "ramfs" | "efivarfs");
        !self.is_read_only && !is_memory && !self.is_elsewhere()
    }
    /// Somebody else has it.
    pub(super) fn is_elsewhere(&self) -> bool {
        is_elsewhere(&self.kind)
    }
}

fn is_elsewhere(kind: &str) -> bool {
    kind != "fusectl" && ELSEWHERE.iter().any(|start| kind.starts_with(start))
}

/// Those that are told.
pub(super) fn mounts(root: &Root) -> io::Result<Vec<Mount>> {
    // Those of the first process: the agent's own may differ.
    let mounts = root.read("proc/1/mounts").or_else(|_| root.read("proc/self/mounts"))?;
    // Before a line is read as a whole: a host has one for each of its containers.
    let of_kind = |is_meant: fn(&str) -> bool| {
        mounts.lines().filter(move |line| line.split(' ').nth(2).is_some_and(is_meant)).filter_map(mount)
    };
    let may_hang = of_kind(|kind| is_elsewhere(kind) || kind == "autofs");
    let hanging: Vec<PathBuf> = may_hang.map(|mount| mount.point).collect();
    let mut seen = BTreeSet::new();
    let told: Vec<Mount> = of_kind(|kind| !LEFT_OUT.contains(&kind))
        .filter(is_told)
        .filter(|mount| seen.insert((mount.device.clone(), mount.point.clone())))
        .take(MAX_MOUNTS)
        .map(|mount| {
            // It may be mounted below such a one, or that over it.
            let is_at_hand = mount.is_at_hand && !hanging.iter().any(|point| mount.point.starts_with(point));
            Mount { is_at_hand, ..mount }
        })
        .collect();
    if told.is_empty() && mounts.is_empty() { Err(odd("proc/1/mounts")) } else { Ok(told) }
}

/// A line of `/proc/mounts`.
fn mount(line: &str) -> Option<Mount> {
    let mut words = line.split(' ');
    let (device, point, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(Mount {
        device: unescaped(device).to_string_lossy().into_owned(),
        point: unescaped(point).into(),
        kind: kind.to_owned(),
        is_at_hand: AT_HAND.contains(&kind),
        is_read_only: options.split(',').any(|option| option == "ro"),
    })
}

/// The kernel writes blanks, line ends and backslashes as `\` and three octal digits.
fn unescaped(word: &str) -> OsString {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// node_exporter's `^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)`.
fn is_told(mount: &Mount) -> bool {
    let below = |directory: &str| mount.point.starts_with(directory) && mount.point != Path::new(directory);
    let is_inside = ["/dev", "/proc", "/sys"].iter().any(|directory| mount.point.starts_with(directory));
    let is_deep = ["/run/credentials", "/var/lib/docker", "/var/lib/containers/storage"].iter().any(|d| below(d));
    !is_inside && !is_deep
}

#[cfg(test)]
mod tests {
    //! Which mounts answer at once.
    use super::*;

    #[test]
    fn what_may_hang_is_never_on_the_way_to_what_is_asked_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        let mounts_now = "/dev/vda / ext4 rw 0 0\n\
            systemd-1 /proc/sys/fs/binfmt_misc autofs rw 0 0\nfusectl /sys/fs/fuse/connections fusectl rw 0 0\n\
            /dev/vdb /data ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\n\
            server:/y /srv nfs4 rw 0 0\ntmpfs /srv/cache tmpfs rw 0 0\n\
            auto /home autofs rw 0 0\n/dev/vdc /home/a ext4 rw 0 0\n\
            tmpfs /srv2 tmpfs rw 0 0\n/dev/vdd /x xfs rw 0 0\n";
        std::fs::write(dir.path().join("proc/1/mounts"), mounts_now).unwrap();
        let mounts = mounts(&Root::new(dir.path())).unwrap();
        let points = mounts.iter().filter(|mount| mount.is_at_hand).map(|mount| mount.point.to_str().unwrap());
        assert_eq!(points.collect::<Vec<_>>(), ["/", "/srv2"]);
        assert_eq!(mounts.iter().filter(|mount| mount.is_elsewhere()).count(), 2);
    }
}
