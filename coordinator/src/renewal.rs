//! When a certificate is renewed: at half of its life, and soon when the coordinator's CAs are others than its owner was told
//! of. Pure; `session` and `rpc` ask.

use drover_proto::digest::Digest;

use crate::{ca::Ca, store::Certificate};

/// Hosts that are due at the same moment come one after the other within this time, or a twentieth of a short life.
const MAX_SPREAD_MS: u64 = 30_000;

/// In how many ms `owner` shall renew `held`.
#[must_use]
pub fn due_in_ms(held: &Certificate, ca: &Ca, owner: &str, now_ms: i64) -> u64 {
    due(held, ca.fingerprint(), &ca.roots(), owner, now_ms)
}

fn due(held: &Certificate, issuer: Digest, roots: &[Digest], owner: &str, now_ms: i64) -> u64 {
    let life_ms = held.not_after_ms.saturating_sub(held.issued_ms);
    let half = held.issued_ms.saturating_add(life_ms / 2);
    let at_half = u64::try_from(half.saturating_sub(now_ms)).unwrap_or(0);
    if held.issuer == Some(issuer) && held.roots == roots {
        return at_half;
    }
    let spread = MAX_SPREAD_MS.min(u64::try_from(life_ms / 20).unwrap_or(0)).max(1);
    let hash = owner.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    at_half.min(hash % spread)
}

#[cfg(test)]
mod tests {
    //! The rows that matter.
    use super::*;

    #[test]
    fn at_half_life_or_soon_when_a_ca_is_another() {
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let mut both = vec![old, new];
        both.sort();
        let day = 86_400_000;
        let held = |issuer, roots: &[Digest]| Certificate {
            issued_ms: 0,
            not_after_ms: 100 * day,
            issuer,
            roots: roots.to_vec(),
        };
        let at = |held: &Certificate, issuer, roots: &[Digest], now_ms| due(held, issuer, roots, "h-1", now_ms);
        let good = held(Some(old), &[old]);
        assert_eq!(at(&good, old, &[old], 0), 50 * day as u64);
        assert_eq!(at(&good, old, &[old], 49 * day), day as u64);
        assert_eq!(at(&good, old, &[old], 51 * day), 0);
        assert_eq!(at(&good, old, &[old], 101 * day), 0);
        for (held, issuer, roots) in [
            (held(None, &[]), old, vec![old]),
            (good.clone(), old, both.clone()),
            (held(Some(old), &both), new, both.clone()),
            (held(Some(new), &both), new, vec![new]),
        ] {
            assert!(at(&held, issuer, &roots, 0) < MAX_SPREAD_MS, "{held:?}");
        }
        assert_eq!(at(&held(Some(new), &both), new, &both, 0), 50 * day as u64);
    }
}
