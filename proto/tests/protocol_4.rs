//! What was said in protocol 4 is read by this version.

mod captured;

#[test]
fn all_of_protocol_4_is_read() {
    let heard = captured::read_all(4);
    assert!(heard.hellos.iter().all(|hello| (hello.protocol_version, hello.min_protocol_version) == (4, 1)));
    assert!(heard.welcomes.iter().all(|welcome| welcome.protocol_version == 4 && welcome.takes_events));
    let words = ["ack", "report", "plan", "log line", "job done", "events", "welcome", "spec", "plan job"];
    for word in words.into_iter().chain(["logs job", "hook logs job", "cancel", "events ack", "renew"]) {
        assert!(heard.words.contains_key(word), "{word}: {:?}", heard.words);
    }
    assert!(heard.asked.iter().all(|app| app.unknown_to(4).is_none()), "and nothing later");
}
