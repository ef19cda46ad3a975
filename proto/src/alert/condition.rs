//! The language of a rule's `when`: `cpu > 80% for 5m`, `disk /srv full in < 24h`, `unit failed`. Read and written here alike: what
//! is written is what is sent. Part of `alert`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{duration::Span, name::MountPoint};

/// What must hold, and for how long.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Condition {
    /// What is looked at.
    pub test: Test,
    /// Without a break; 0 = at once.
    pub lasts: Span,
}

/// What is looked at. A name that is absent stands for each one there is; every one is an alert of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Test {
    /// A number against another.
    Level(Level),
    /// Going on as in the last hours, the file system has no room left within this time.
    DiskFull {
        /** Where it is mounted. */
        mount: Option<MountPoint>,
        /** How soon. */
        within: Span,
    },
    /// A check of an app fails.
    CheckFailing(Option<String>),
    /// systemd says that a unit has failed.
    UnitFailed(Option<String>),
    /// A container was started again and again by itself.
    ContainerRestarting(Option<String>),
    /// A container of an app does not run.
    ContainerGone(Option<String>),
    /// The kernel has killed a process for want of memory.
    OomKill,
    /// A certificate that drover looks after, or its own, ends within this time.
    CertificateExpires(Span),
    /// The host's clock and the coordinator's are further apart.
    ClockSkew(Span),
    /// The coordinator does not hear of the host.
    HostUnreachable,
    /// The agent and the coordinator are of different versions.
    VersionSkew,
}

/// A number, and what it must not be beyond.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Level {
    /// Which number.
    pub metric: Metric,
    /// Of the file system that is mounted there.
    pub mount: Option<MountPoint>,
    /// It is a fault to be above; else to be below.
    pub above: bool,
    /// Beyond what.
    pub threshold: Threshold,
}

/// A number of the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Metric {
    /// CPU time that was not idle, of all cores; %.
    Cpu,
    /// CPU time that waited for disks; %.
    Iowait,
    /// CPU time that the hypervisor gave to others; %.
    Steal,
    /// Memory that is not available; %.
    Memory,
    /// Swap in use; %.
    Swap,
    /// A file system, as `df` counts; %.
    Disk,
    /// Its inodes; %.
    Inodes,
    /// Load of 1 minute, per core.
    Load,
    /// Load of 5 minutes, per core.
    Load5,
    /// Load of 15 minutes, per core.
    Load15,
    /// Time in which something waited for a CPU; %.
    PressureCpu,
    /// Time in which something waited for memory; %.
    PressureMemory,
    /// Time in which something waited for disks; %.
    PressureIo,
    /// File handles of the kernel's limit; %.
    Files,
}

impl Metric {
    /// All, with the words of the language.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Cpu, "cpu"),
        (Self::Iowait, "iowait"),
        (Self::Steal, "steal"),
        (Self::Memory, "memory"),
        (Self::Swap, "swap"),
        (Self::Disk, "disk"),
        (Self::Inodes, "inodes"),
        (Self::Load, "load"),
        (Self::Load5, "load5"),
        (Self::Load15, "load15"),
        (Self::PressureCpu, "pressure cpu"),
        (Self::PressureMemory, "pressure memory"),
        (Self::PressureIo, "pressure io"),
        (Self::Files, "files"),
    ];

    /// The word of the language.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(metric, _)| *metric == self).map_or("", |(_, word)| word)
    }
    /// Whether it is a share of 100.
    #[must_use]
    pub const fn is_percent(self) -> bool {
        !matches!(self, Self::Load | Self::Load5 | Self::Load15)
    }
    /// Whether there is one for each file system.
    #[must_use]
    pub const fn is_of_mounts(self) -> bool {
        matches!(self, Self::Disk | Self::Inodes)
    }
}

impl Level {
    /// Whether a value is beyond the threshold.
    #[must_use]
    pub fn is_beyond(&self, value: f64) -> bool {
        if self.above { value > self.threshold.as_f64() } else { value < self.threshold.as_f64() }
    }
    /// Whether an alert ends with a value; `clear` = the threshold for that.
    #[must_use]
    pub fn is_cleared(&self, value: f64, clear: Option<Threshold>) -> bool {
        let clear = clear.unwrap_or(self.threshold).as_f64();
        if self.above { value <= clear } else { value >= clear }
    }
    /// Whether such a threshold is on the good side.
    #[must_use]
    pub fn is_cleared_beyond(&self, clear: Threshold) -> bool {
        if self.above { clear <= self.threshold } else { clear >= self.threshold }
    }
}

/// A number of a rule, in thousandths: `80%`, `1.5`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold(u32);

impl Threshold {
    /// The number.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
    /// With the unit of its metric.
    #[must_use]
    pub fn shown(self, metric: Metric) -> String {
        format!("{self}{}", if metric.is_percent() { "%" } else { "" })
    }
}

impl FromStr for Threshold {
    type Err = ConditionError;
    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let digits = text.trim().trim_end_matches('%').trim_end();
        let wrong =
            || ConditionError { word: text.trim().to_owned(), what: "write a number, such as 80% or 1.5".into() };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
        let are_digits = |text: &str, most: usize| {
            !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !are_digits(whole, 6) || !are_digits(part, 3) {
            return Err(wrong());
        }
        let thousandths = format!("{whole}{part:0<3}").parse().map_err(|_| wrong())?;
        Ok(Self(thousandths))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_f64())
    }
}

/// Why a text is no condition.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{word:?}: {what}")]
pub struct ConditionError {
    /// Where it is wrong.
    pub word: String,
    /// What to do.
    pub what: String,
}

const FORMS: &str = "write for example: cpu > 80% for 5m, disk /srv > 90%, disk full in < 24h, pressure io > 20% for 10m, \
    check failing for 1m, unit failed, container restarting, container gone, oom kill, certificate expires in < 14d, \
    clock skew > 1s, host unreachable for 2m, agent version skew";

fn wrong(word: impl Into<String>, what: impl Into<String>) -> ConditionError {
    let word: String = word.into();
    ConditionError { word: word.chars().take(80).collect(), what: what.into() }
}

impl FromStr for Condition {
    type Err = ConditionError;
    fn from_str(text: &str) -> Result<Self, ConditionError> {
        if text.len() > 400 || text.chars().any(char::is_control) {
            return Err(wrong(text.escape_debug().to_string(), "a condition is one line of at most 400 bytes"));
        }
        // `80 %` and `80%`, `>80%` and `> 80%`.
        let spaced = text.replace(" %", "%").replace(">=", " >= ").replace("<=", " <= ");
        let spaced = if spaced.contains('=') { spaced } else { spaced.replace('>', " > ").replace('<', " < ") };
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let (said, lasts) = match words.iter().position(|word| *word == "for") {
            None => (&words[..], Span::default()),
            Some(at) => match words[at + 1..] {
                [lasts] => (&words[..at], span(lasts)?),
                _ => return Err(wrong(text, "say how long behind `for`, such as for 5m, and nothing after it")),
            },
        };
        let test = test(said)?;
        let is_percent = said.last().is_some_and(|word| word.ends_with('%'));
        match &test {
            Test::Level(level) if level.metric.is_percent() != is_percent => {
                let (word, unit) = (said.last().copied().unwrap_or_default(), level.metric.is_percent());
                let what = if unit { "is a share: write it with %" } else { "is a plain number: write it without %" };
                Err(wrong(word, format!("{} {what}", level.metric.word())))
            }
            _ => Ok(Self { test, lasts }),
        }
    }
}

fn span(word: &str) -> Result<Span, ConditionError> {
    word.parse().map_err(|e: crate::duration::SpanError| wrong(word, e.to_string()))
}

fn mount(word: &str) -> Result<MountPoint, ConditionError> {
    word.parse().map_err(|e: crate::name::NameError| wrong(word, e.to_string()))
}

fn test(words: &[&str]) -> Result<Test, ConditionError> {
    let name = |name: &&str| Some((*name).to_owned());
    Ok(match words {
        ["disk", "full", "in", "<", within] => Test::DiskFull { mount: None, within: span(within)? },
        ["disk", path, "full", "in", "<", within] => {
            Test::DiskFull { mount: Some(mount(path)?), within: span(within)? }
        }
        ["check", "failing"] => Test::CheckFailing(None),
        ["check", of, "failing"] => Test::CheckFailing(name(of)),
        ["unit", "failed"] => Test::UnitFailed(None),
        ["unit", of, "failed"] => Test::UnitFailed(name(of)),
        ["container", "restarting"] => Test::ContainerRestarting(None),
        ["container", of, "restarting"] => Test::ContainerRestarting(name(of)),
        ["container", "gone"] => Test::ContainerGone(None),
        ["container", of, "gone"] => Test::ContainerGone(name(of)),
        ["oom", "kill"] => Test::OomKill,
        ["certificate", "expires", "in", "<", within] => Test::CertificateExpires(span(within)?),
        ["clock", "skew", ">", above] => Test::ClockSkew(span(above)?),
        ["host", "unreachable"] => Test::HostUnreachable,
        ["agent", "version", "skew"] => Test::VersionSkew,
        [] => return Err(wrong("", FORMS)),
        _ => Test::Level(level(words)?),
    })
}

fn level(words: &[&str]) -> Result<Level, ConditionError> {
    let known = Metric::ALL.iter().find_map(|(metric, word)| {
        let of: Vec<&str> = word.split(' ').collect();
        words.strip_prefix(&of[..]).map(|rest| (*metric, rest))
    });
    let Some((metric, rest)) = known else {
        let names = Metric::ALL.map(|(_, word)| word).join(", ");
        return Err(wrong(words.join(" "), format!("there is no such metric or state; metrics are {names}; {FORMS}")));
    };
    let (mount, rest) = match rest {
        [path, rest @ ..] if path.starts_with('/') => {
            if !metric.is_of_mounts() {
                return Err(wrong(*path, format!("{} is of the whole host: leave the path out", metric.word())));
            }
            (Some(self::mount(path)?), rest)
        }
        rest => (None, rest),
    };
    match rest {
        [sign @ (">" | "<"), threshold] => {
            Ok(Level { metric, mount, above: *sign == ">", threshold: threshold.parse()? })
        }
        [sign, ..] if sign.contains('=') => Err(wrong(*sign, "use > or <")),
        _ => Err(wrong(words.join(" "), format!("say what of {} is too much, such as {0} > 80%", metric.word()))),
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |name: &Option<String>| name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let at = |mount: &Option<MountPoint>| mount.as_ref().map(|mount| format!(" {mount}")).unwrap_or_default();
        match &self.test {
            Test::Level(Level { metric, mount, above, threshold }) => {
                let sign = if *above { '>' } else { '<' };
                write!(f, "{}{} {sign} {}", metric.word(), at(mount), threshold.shown(*metric))?;
            }
            Test::DiskFull { mount, within } => write!(f, "disk{} full in < {within}", at(mount))?,
            Test::CheckFailing(name) => write!(f, "check{} failing", of(name))?,
            Test::UnitFailed(name) => write!(f, "unit{} failed", of(name))?,
            Test::ContainerRestarting(name) => write!(f, "container{} restarting", of(name))?,
            Test::ContainerGone(name) => write!(f, "container{} gone", of(name))?,
            Test::OomKill => f.write_str("oom kill")?,
            Test::CertificateExpires(within) => write!(f, "certificate expires in < {within}")?,
            Test::ClockSkew(above) => write!(f, "clock skew > {above}")?,
            Test::HostUnreachable => f.write_str("host unreachable")?,
            Test::VersionSkew => f.write_str("agent version skew")?,
        }
        if self.lasts == Span::default() { Ok(()) } else { write!(f, " for {}", self.lasts) }
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> Self {
        condition.to_string()
    }
}

impl TryFrom<String> for Condition {
    type Error = ConditionError;
    fn try_from(text: String) -> Result<Self, ConditionError> {
        text.parse()
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.to_string()
    }
}

impl TryFrom<String> for Threshold {
    type Error = ConditionError;
    fn try_from(text: String) -> Result<Self, ConditionError> {
        text.parse()
    }
}

impl Test {
    /// Whether only the coordinator can tell.
    #[must_use]
    pub const fn is_of_coordinator(&self) -> bool {
        matches!(self, Self::ClockSkew(_) | Self::HostUnreachable | Self::VersionSkew)
    }
}

#[cfg(test)]
mod tests;
