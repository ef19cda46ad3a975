//! What was said in protocol 1 is read by this version, and has in it what it was captured for.

mod captured;

#[test]
fn all_of_protocol_1_is_read() {
    let heard = captured::read_all(1);
    assert!(heard.hellos.iter().all(|hello| hello.protocol_version == 1) && heard.hellos.len() == 2);
    assert!(heard.welcomes.iter().all(|welcome| welcome.protocol_version == 1) && heard.welcomes.len() == 2);
    for (word, more_than) in [("ack", 5), ("report", 10), ("plan", 3), ("log line", 3), ("spec", 5), ("plan job", 2)] {
        assert!(heard.words[word] > more_than, "{word}: {:?}", heard.words);
    }
    for later in ["events", "events ack", "renew", "hook logs job", "image job"] {
        assert!(!heard.words.contains_key(later), "protocol 1 had no {later}");
    }
    assert!(heard.asked.len() > 5 && heard.asked.iter().all(|app| app.unknown_to(1).is_none()));
    assert_eq!((heard.fetches.len(), heard.counts["AgentLink.FetchBlob.down"]), (3, 3));
    assert_eq!(heard.enrolments[0].host_name, "web-1");
    assert_eq!((heard.certificates[0].subject_id.len(), heard.certificates[1].subject_id.as_str()), (18, "alice"));
}
