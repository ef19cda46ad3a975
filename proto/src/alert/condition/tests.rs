//! What is read is written again, and what is not understood is told.
use super::*;

#[test]
fn what_is_written_reads_the_same() {
    let rows = [
        ("cpu > 80% for 5m", "cpu > 80% for 5m"),
        ("memory>85 %", "memory > 85%"),
        ("disk /srv > 90.5%", "disk /srv > 90.5%"),
        ("disk full in < 24h", "disk full in < 1d"),
        ("disk / full in < 1h for 10m", "disk / full in < 1h for 10m"),
        ("inodes > 90%", "inodes > 90%"),
        ("load15 > 1.5 for 15m", "load15 > 1.5 for 15m"),
        ("pressure io > 20% for 10m", "pressure io > 20% for 10m"),
        ("memory < 5%", "memory < 5%"),
        ("check api failing for 1m", "check api failing for 1m"),
        ("unit failed", "unit failed"),
        ("container shop gone", "container shop gone"),
        ("container restarting", "container restarting"),
        ("oom kill", "oom kill"),
        ("certificate expires in < 14d", "certificate expires in < 14d"),
        ("clock skew > 1s for 1m", "clock skew > 1s for 1m"),
        ("host unreachable for 2m", "host unreachable for 2m"),
        ("agent version skew for 1h", "agent version skew for 1h"),
    ];
    for (text, shown) in rows {
        let read: Condition = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(read.to_string(), shown);
        assert_eq!(shown.parse(), Ok(read));
    }
}

#[test]
fn what_is_not_understood_is_refused_with_a_hint() {
    let rows = [
        ("", "for example"),
        ("cpuu > 80%", "no such metric"),
        ("cpu > 80", "write it with %"),
        ("load > 2%", "without %"),
        ("cpu >= 80%", "use > or <"),
        ("cpu /srv > 80%", "leave the path out"),
        ("disk srv > 80%", "such as disk > 80%"),
        ("cpu > 80% for", "behind `for`"),
        ("cpu > 80% for 5m now", "behind `for`"),
        ("cpu > 80% for 5 minutes", "behind `for`"),
        ("cpu > much%", "write a number"),
        ("cpu > 99999999%", "write a number"),
        ("disk ../x > 5%", "such as disk"),
        ("disk /a/../x > 5%", "mount point"),
        ("unit failed\nx", "one line"),
        ("disk full in < soon", "length of time"),
    ];
    for (text, hint) in rows {
        let said = text.parse::<Condition>().unwrap_err().to_string();
        assert!(said.contains(hint), "{text:?}: {said}");
    }
}
