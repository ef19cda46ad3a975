//! Certificates of others, such as certbot's: what is in their files, and whether it could be put to use. `reconcile/watching`
//! asks before anybody is told to read them.

use std::{fs::File, io::Read, os::fd::AsRawFd as _, path::Path};

use rustix::fs::{self, FileType, Mode, OFlags};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
/// A chain, or a key.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a file of certificates or of a key; links are followed, as those of certbot lead elsewhere.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    // Only looked at first: to open a device does something.
    let handle = fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|e| wrong(e.to_string()))?;
    let stat = fs::fstat(&handle).map_err(|e| wrong(e.to_string()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(wrong("is no regular file".to_owned()));
    }
    let same = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let file = File::open(same).map_err(|e| wrong(e.to_string()))?;
    if u64::try_from(stat.st_size).is_ok_and(|size| size > MAX_BYTES) {
        return Err(wrong(format!("has more than {MAX_BYTES} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
    Ok(bytes)
}

/// Until when (unix seconds) the certificate in `chain` is good, or why it is not: it cannot be read, it has expired or is
/// not good yet, the key is another's.
pub fn judge(chain: &[u8], key: Option<&[u8]>, now_unix_s: i64) -> Result<i64, String> {
    let all = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| format!("it is no chain of certificates: {error}"))?;
    let Some(first) = all.first() else { return Err("there is no certificate in it".to_owned()) };
    let until = good_until(first, now_unix_s)?;
    let leaf = Leaf::of(first).ok_or("the certificate in it cannot be read")?;
    if let Some(key) = key {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("its key cannot be read: {error}"))?;
        let key = any_supported_type(&key).map_err(|error| format!("its key cannot be used: {error}"))?;
        let public = key.public_key().ok_or("nobody can say whose its key is")?;
        if public_key(&public) != Some(leaf.key) {
            return Err("its key is another certificate's".to_owned());
        }
    }
    Ok(until)
}

/// Until when (unix seconds) the first certificate in `chain` is good, also when that is over; `None`: it cannot be read.
#[must_use]
pub fn until(chain: &[u8]) -> Option<i64> {
    let first = CertificateDer::pem_slice_iter(chain).next()?.ok()?;
    Some(Leaf::of(&first)?.until)
}

/// Until when (unix seconds) a certificate, as DER, is good; Err: why it is not.
pub fn good_until(certificate: &[u8], now_unix_s: i64) -> Result<i64, String> {
    let leaf = Leaf::of(certificate).ok_or("the certificate in it cannot be read")?;
    if now_unix_s > leaf.until {
        return Err(format!("it expired {}", day(leaf.until)));
    }
    if now_unix_s < leaf.from {
        return Err(format!("it is not good before {}", day(leaf.from)));
    }
    Ok(leaf.until)
}

/// Of a certificate, what is asked here.
struct Leaf<'a> {
    /// Unix seconds.
    from: i64,
    /// Unix seconds.
    until: i64,
    /// The bits of its public key.
    key: &'a [u8],
}

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

impl<'a> Leaf<'a> {
    /// RFC 5280, 4.1.
    fn of(der: &'a [u8]) -> Option<Self> {
        let (whole, _) = one(der, SEQUENCE)?;
        let (mut rest, _) = one(whole, SEQUENCE)?;
        if rest.first() == Some(&VERSION) {
            rest = any(rest)?.2;
        }
        // Serial number, algorithm of the signature, issuer.
        for _ in 0..3 {
            rest = any(rest)?.2;
        }
        let (validity, rest) = one(rest, SEQUENCE)?;
        let (from, validity) = time(validity)?;
        let (until, _) = time(validity)?;
        let subject_then = any(rest)?.2;
        Some(Self { from, until, key: public_key(subject_then)? })
    }
}

/// The bits in a SubjectPublicKeyInfo, after its algorithm.
fn public_key(info: &[u8]) -> Option<&[u8]> {
    let (info, _) = one(info, SEQUENCE)?;
    one(any(info)?.2, BIT_STRING).map(|(bits, _)| bits)
}

/// The first element: its tag, its content, and what follows it.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// The first element, if it is of this kind: its content, and what follows it.
fn one(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    any(der).filter(|(tag, ..)| *tag == wanted).map(|(_, content, rest)| (content, rest))
}

/// `YYMMDDHHMMSSZ` of the years from 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, content, rest) = any(der)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let (century, text) = match tag {
        UTC_TIME if text.len() == 12 => (if text < "50" { "20" } else { "19" }, text),
        GENERALIZED_TIME if text.len() == 14 => text.split_at_checked(2)?,
        _ => return None,
    };
    let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", format!("{century}{text}")).ok()?;
    Some((at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second(), rest))
}

/// A day.
pub fn day(unix_s: i64) -> String {
    match jiff::Timestamp::from_second(unix_s) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => "at a time that no calendar has".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    //! Good ones and bad ones.
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// From the first to the last day of these years.
    fn made(from: i32, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 12, 31));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_is_judged_before_anybody_reads_it() {
        // 2026-07-01.
        let now = 1_782_864_000;
        let ((good, key), (expired, _), (early, _)) = (made(2026, 2026), made(2024, 2025), made(2027, 2028));
        let until = judge(good.as_bytes(), Some(key.as_bytes()), now).unwrap();
        assert_eq!(day(until), "2026-12-31 00:00 UTC");
        assert_eq!(judge(good.as_bytes(), None, now), Ok(until));
        let (both, other) = (format!("{good}{expired}"), made(2026, 2026).1);
        assert_eq!(judge(both.as_bytes(), Some(key.as_bytes()), now), Ok(until), "the first is the one");
        let half = &good[..good.len() / 2];
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let table = [
            (expired.as_str(), &key, "it expired 2025-12-31"),
            (&early, &key, "it is not good before 2027-01-01"),
            (&good, &other, "its key is another certificate's"),
            (&good, &good, "its key cannot be read"),
            (&key, &key, "there is no certificate in it"),
            ("", &key, "there is no certificate in it"),
            (broken, &key, "the certificate in it cannot be read"),
            (half, &key, "it is no chain of certificates"),
        ];
        for (chain, key, words) in table {
            let why = judge(chain.as_bytes(), Some(key.as_bytes()), now).unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
            assert!(!why.contains("PRIVATE"), "{why}");
        }
    }

    #[test]
    fn what_is_cut_off_or_bent_is_only_refused() {
        let pem = made(2026, 2060).0;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(Leaf::of(&der).map(|leaf| day(leaf.until)).as_deref(), Some("2060-12-31 00:00 UTC"));
        for at in 0..der.len() {
            assert!(Leaf::of(&der[..at]).is_none(), "{at}");
            let mut bent = der.to_vec();
            bent[at] ^= 0xff;
            // Whatever it says then: it says it.
            drop(Leaf::of(&bent).map(|leaf| day(leaf.until)));
        }
    }

    #[test]
    fn only_files_are_read() {
        let at = tempfile::tempdir().unwrap();
        assert!(read(at.path()).unwrap_err().contains("is no regular file"));
        assert!(read(&at.path().join("none")).unwrap_err().contains("none"));
        std::fs::write(at.path().join("a"), "x").unwrap();
        std::os::unix::fs::symlink("a", at.path().join("link")).unwrap();
        assert_eq!(read(&at.path().join("link")).unwrap(), b"x");
    }
}
