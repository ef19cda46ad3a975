//! What becomes of certificates: successors, and those that the store does not know.

use super::*;

#[tokio::test]
async fn a_certificate_counts_until_its_successor_is_used() {
    let t = temporary().await;
    let id = enrolled(&t.store).await;
    let (ca, next) = (drover_proto::digest::Digest::of(b"ca"), drover_proto::digest::Digest::of(b"next"));
    t.store.use_certificate("01", 2).await.unwrap();
    let add = async |serial: &str, replaces: &str| {
        let new = Successor { serial, replaces, not_after_ms: 9000 };
        t.store.add_successor(new, next, &[ca, next], 3).await
    };
    add("0a", "01").await.unwrap();
    add("0b", "01").await.unwrap();
    for serial in ["01", "0a", "0b"] {
        assert!(t.store.live_host(&id, serial).await.unwrap(), "{serial}");
    }
    assert_eq!(t.store.host(A).await.unwrap().unwrap().serial, "01");
    assert_eq!(t.store.holders(5).await.unwrap()[0].issuer, None);
    t.store.use_certificate("0b", 4).await.unwrap();
    assert!(!t.store.live_host(&id, "01").await.unwrap() && t.store.live_host(&id, "0b").await.unwrap());
    assert_eq!(t.store.host(A).await.unwrap().unwrap().serial, "0b");
    let held = t.store.certificate("0b").await.unwrap().unwrap();
    assert_eq!((held.issued_ms, held.issuer, held.roots.len()), (3, Some(next), 2));
    assert_eq!(t.store.holders(5).await.unwrap()[0].issuer, Some(next));
    assert!(add("0c", "01").await.is_err(), "a revoked one was renewed");
    assert!(!t.store.adopt_certificate("host", A, "ff", 5).await.unwrap(), "nothing was restored");
    t.store.record("root", "restore", "", 5).await.unwrap();
    // One that was given after the backup from which the store comes, and one that was revoked.
    assert!(t.store.adopt_certificate("host", A, "ff", 5).await.unwrap());
    t.store.use_certificate("ff", 5).await.unwrap();
    assert!(t.store.live_host(&id, "ff").await.unwrap() && !t.store.live_host(&id, "0b").await.unwrap());
    assert!(!t.store.adopt_certificate("host", A, "0b", 5).await.unwrap(), "a revoked one came back");
    assert!(!t.store.adopt_certificate("host", B, "fe", 5).await.unwrap(), "of an unknown host");
    assert!(!t.store.adopt_certificate("operator", A, "fe", 5).await.unwrap(), "of an unknown operator");
    t.store.revoke_host(&id, "ada", 6).await.unwrap();
    assert!(!t.store.adopt_certificate("host", A, "fd", 7).await.unwrap(), "of a revoked host");
}

#[tokio::test]
async fn no_certificate_of_a_revoked_operator_comes_back_with_the_name() {
    let t = temporary().await;
    let ada: OperatorName = name("ada");
    let ca = drover_proto::digest::Digest::of(b"ca");
    t.store.add_operator(&ada, "l1", b"login", 1000, "root", 1).await.unwrap();
    let login = NewLogin { serial: "01".to_owned(), not_after_ms: 9000 };
    t.store.login_operator("l1", b"login", login, 2).await.unwrap();
    // Far more than may wait for their first use.
    for n in 0..20 {
        let serial = format!("a{n:02}");
        let new = Successor { serial: &serial, replaces: "01", not_after_ms: 9000 };
        t.store.add_successor(new, ca, &[ca], 3 + n).await.unwrap();
    }
    let live = async |serial: &str| t.store.live_operator(&ada, serial, 40).await.unwrap();
    assert!(!live("a00").await && !live("a11").await && live("a12").await && live("a19").await && live("01").await);
    let adopted = async |serial: &str, now_ms| {
        t.store.adopt_certificate("operator", "ada", serial, now_ms).await.unwrap() || live(serial).await
    };
    for (restored, given_since) in [(false, "fa"), (true, "fb")] {
        if restored {
            t.store.record("root", "restore", "", 30).await.unwrap();
            assert!(adopted("fc", 30).await, "what was given after the backup");
        }
        t.store.revoke_operator(&ada, "bob", 31).await.unwrap();
        t.store.add_operator(&ada, if restored { "l3" } else { "l2" }, b"login", 1000, "root", 32).await.unwrap();
        for serial in ["01", "a00", "a11", "a19", given_since] {
            assert!(!adopted(serial, 33).await, "{serial} came back");
        }
    }
}

#[tokio::test]
async fn an_operators_certificate_outlives_its_successors_first_use_by_a_while() {
    let t = temporary().await;
    let ada: OperatorName = name("ada");
    t.store.add_operator(&ada, "l1", b"login", 1000, "root", 1).await.unwrap();
    let login = NewLogin { serial: "01".to_owned(), not_after_ms: 9000 };
    t.store.login_operator("l1", b"login", login, 2).await.unwrap();
    let ca = drover_proto::digest::Digest::of(b"ca");
    let add = async |serial: &str, replaces: &str| {
        t.store.add_successor(Successor { serial, replaces, not_after_ms: 9000 }, ca, &[ca], 3).await
    };
    add("0a", "01").await.unwrap();
    t.store.use_certificate("0a", 100).await.unwrap();
    let quarter = 15 * 60 * 1000;
    let live = async |serial: &str, now_ms: i64| t.store.live_operator(&ada, serial, now_ms).await.unwrap();
    assert!(live("01", 100 + quarter - 1).await && live("0a", 100 + quarter).await);
    assert!(!live("01", 100 + quarter).await, "for ever");
    assert!(add("0b", "01").await.is_err(), "what is replaced was renewed once more");
    assert_eq!(t.store.holders(101).await.unwrap().len(), 1);
    assert!(!t.store.adopt_certificate("operator", "ada", "01", 100 + quarter).await.unwrap());
    t.store.revoke_operator(&ada, "bob", 200).await.unwrap();
    t.store.add_operator(&ada, "l2", b"login", 1000, "root", 201).await.unwrap();
    assert!(!live("01", 202).await && !live("0a", 202).await, "revoked with the operator, and not back with them");
}

#[tokio::test]
async fn a_clock_that_was_ahead_brings_no_revoked_certificate_back() {
    let t = temporary().await;
    let ada: OperatorName = name("ada");
    let ca = drover_proto::digest::Digest::of(b"ca");
    t.store.add_operator(&ada, "l1", b"login", 1000, "root", 1).await.unwrap();
    let login = NewLogin { serial: "01".to_owned(), not_after_ms: 9000 };
    t.store.login_operator("l1", b"login", login, 2).await.unwrap();
    let live = async |serial: &str, now_ms: i64| t.store.live_operator(&ada, serial, now_ms).await.unwrap();
    let (ahead, quarter) = (1_000_000_000, 15 * 60 * 1000);
    t.store.add_successor(Successor { serial: "0a", replaces: "01", not_after_ms: 9000 }, ca, &[ca], 3).await.unwrap();
    t.store.use_certificate("0a", ahead).await.unwrap();
    assert!(live("01", ahead + quarter - 1).await && live("0a", 100).await);
    assert!(!live("01", 100).await, "for far longer than a quarter of an hour");
    t.store.revoke_operator(&ada, "bob", ahead).await.unwrap();
    t.store.add_operator(&ada, "l2", b"login", 1000, "root", 200).await.unwrap();
    for (serial, now_ms) in [("01", 300), ("0a", 300), ("01", ahead - 1), ("0a", ahead - 1)] {
        assert!(!live(serial, now_ms).await, "{serial} at {now_ms}");
    }
}
