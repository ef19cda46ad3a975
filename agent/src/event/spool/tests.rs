//! The spool on a real disk: order, acknowledgement, crashes, damage, its limit, and a disk that is not there.

use super::*;

const LIMIT: u64 = 1 << 20;

fn event(n: i64) -> Event {
    Event { at_unix_ms: n, app: None, kind: EventKind::DriftFound, message: format!("number {n}") }
}

struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> PathBuf {
        self.0.path().join("events")
    }
    fn open(&self, id: &str, limit: u64) -> Spool {
        Spool::open(&self.path(), limit, id.to_owned())
    }
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
    fn bytes(&self) -> u64 {
        self.files().iter().map(|path| fs::metadata(path).unwrap().len()).sum()
    }
}

fn fill(spool: &mut Spool, numbers: std::ops::Range<i64>) {
    for n in numbers {
        spool.push(event(n));
        spool.write().unwrap();
    }
}

/// Sends everything as `link` does; answers the events with their run and number.
fn drain(spool: &mut Spool) -> Vec<(String, u64, Event)> {
    let mut all = Vec::new();
    while let Some(batch) = spool.batch() {
        assert!(batch.events.len() <= MAX_BATCH_EVENTS);
        assert!(serde_json::to_vec(&batch.events).unwrap().len() <= MAX_BATCH_BYTES);
        assert_eq!(spool.batch().as_ref(), Some(&batch), "the same again until it is acknowledged");
        spool.ack(&batch.spool, batch.last_seq());
        for (n, event) in batch.events.into_iter().enumerate() {
            all.push((batch.spool.clone(), batch.first_seq + n as u64, event));
        }
    }
    all
}

fn times(all: &[(String, u64, Event)]) -> Vec<i64> {
    all.iter().map(|(_, _, event)| event.at_unix_ms).collect()
}

#[test]
fn events_come_back_in_their_order_and_once() {
    let disk = Disk::new();
    let mut spool = disk.open("a", LIMIT);
    fill(&mut spool, 0..1000);
    let all = drain(&mut spool);
    assert_eq!(times(&all), (0..1000).collect::<Vec<_>>());
    assert_eq!(all.iter().map(|(_, seq, _)| *seq).collect::<Vec<_>>(), (1..=1000).collect::<Vec<_>>());
    assert_eq!(disk.bytes(), 0, "what was acknowledged is gone");
    fill(&mut spool, 1000..1010);
    assert_eq!(times(&drain(&mut spool)), (1000..1010).collect::<Vec<_>>());
    assert!(disk.files().len() <= 1);
}

#[test]
fn what_a_run_leaves_is_sent_by_the_next_under_the_old_numbers() {
    let disk = Disk::new();
    let mut first = disk.open("a", LIMIT);
    fill(&mut first, 0..300);
    let sent = first.batch().unwrap();
    first.ack("a", sent.last_seq());
    let lost_ack = first.batch().unwrap();
    // Killed here; nothing of the acknowledgement is on the disk.
    drop(first);
    let mut second = disk.open("b", LIMIT);
    fill(&mut second, 300..310);
    let all = drain(&mut second);
    let of_a: Vec<_> = all.iter().filter(|(spool, ..)| spool == "a").collect();
    assert_eq!(of_a.len(), 300, "sent again, to be left out by its number");
    assert!(of_a.iter().any(|(_, seq, event)| *seq == lost_ack.first_seq && *event == lost_ack.events[0]));
    assert_eq!(times(&all), (0..310).collect::<Vec<_>>());
    assert_eq!(all.last().map(|(spool, seq, _)| (spool.as_str(), *seq)), Some(("b", 10)));
}

#[test]
fn a_torn_end_is_left_out_and_the_next_run_writes_elsewhere() {
    let disk = Disk::new();
    fill(&mut disk.open("a", LIMIT), 0..5);
    let file = disk.files().remove(0);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 7]).unwrap();
    let mut spool = disk.open("b", LIMIT);
    fill(&mut spool, 5..7);
    assert_eq!(times(&drain(&mut spool)), [0, 1, 2, 3, 5, 6]);
}

#[test]
fn a_damaged_file_is_put_aside_and_the_rest_goes_on() {
    let disk = Disk::new();
    fill(&mut disk.open("a", LIMIT), 0..5);
    fill(&mut disk.open("b", LIMIT), 5..8);
    let file = disk.files().remove(0);
    fs::write(&file, "hello\nworld\n").unwrap();
    let mut spool = disk.open("c", LIMIT);
    spool.write().unwrap();
    let all = drain(&mut spool);
    assert_eq!(times(&all)[..3], [5, 6, 7]);
    assert_eq!((all.len(), &all[3].2.kind), (4, &EventKind::StateSetAside), "{all:?}");
    assert!(all[3].2.message.contains(".damaged-"), "{}", all[3].2.message);
    // The same while it runs, and no more copies than are of use.
    for round in 0..10 {
        let mut spool = disk.open(&format!("d{round}"), LIMIT);
        fill(&mut spool, 0..2);
        let end = format!("-d{round}.jsonl");
        fs::write(disk.files().iter().find(|p| p.to_str().unwrap().ends_with(&end)).unwrap(), "x\n").unwrap();
        assert!(spool.batch().is_some_and(|batch| batch.events[0].kind == EventKind::StateSetAside));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let aside = disk.files().iter().filter(|p| p.to_str().unwrap().contains(".damaged-")).count();
    assert_eq!(aside, KEEP_DAMAGED);
}

#[test]
fn over_the_limit_the_oldest_go_and_are_told() {
    let disk = Disk::new();
    let limit = 32 << 10;
    let mut spool = disk.open("a", limit);
    fill(&mut spool, 0..5000);
    assert!(disk.bytes() <= limit, "{}", disk.bytes());
    // A restart changes nothing about it.
    drop(spool);
    let mut spool = disk.open("b", limit);
    let all = drain(&mut spool);
    let (told, kept): (Vec<_>, Vec<_>) = all.iter().partition(|(_, _, e)| e.kind == EventKind::EventsDropped);
    let kept: Vec<i64> = kept.iter().map(|(_, _, event)| event.at_unix_ms).collect();
    assert_eq!(kept, (5000 - kept.len() as i64..5000).collect::<Vec<_>>(), "the newest, without a gap");
    assert!(kept.len() > 100, "{}", kept.len());
    let count: u64 = told.iter().map(|(_, _, e)| e.message.split(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(count as usize, 5000 - kept.len(), "each one that is gone is counted once: {told:#?}");
    assert!(told[0].2.message.contains("from 1970-01-01 00:00:00 UTC"), "{told:#?}");
}

#[test]
fn without_a_disk_the_newest_are_kept_in_memory_and_the_rest_told() {
    let disk = Disk::new();
    let mut spool = disk.open("a", LIMIT);
    // As a disk that takes nothing: no file can be made.
    fs::remove_dir_all(disk.path()).unwrap();
    for n in 0..5000 {
        spool.push(event(n));
        assert!(spool.write().is_err());
    }
    assert!(spool.waiting_bytes <= MAX_WAITING_BYTES);
    let batch = spool.batch().unwrap();
    assert!(batch.events[0].at_unix_ms > 4000, "sent from memory");
    spool.ack("a", batch.last_seq());
    assert_ne!(spool.batch().unwrap().first_seq, batch.first_seq);
    fs::create_dir(disk.path()).unwrap();
    spool.write().unwrap();
    assert!(disk.bytes() > 0 && spool.waiting.is_empty());
    let all = drain(&mut spool);
    let told: Vec<_> = all.iter().filter(|(_, _, e)| e.kind == EventKind::EventsDropped).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let count: usize = told[0].2.message.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(count + batch.events.len() + all.len() - 1, 5000);
    assert_eq!(all.iter().map(|(_, _, e)| e.at_unix_ms).filter(|at| *at < 5000).max(), Some(4999));
}

#[test]
fn what_was_sent_from_memory_and_written_meanwhile_is_acknowledged_all_the_same() {
    let disk = Disk::new();
    let mut spool = disk.open("a", LIMIT);
    (0..3).for_each(|n| spool.push(event(n)));
    let batch = spool.batch().unwrap();
    (3..5).for_each(|n| spool.push(event(n)));
    spool.write().unwrap();
    spool.ack("a", batch.last_seq());
    assert_eq!(times(&drain(&mut spool)), [3, 4]);
}

#[test]
fn long_messages_make_small_batches() {
    let disk = Disk::new();
    let mut spool = disk.open("a", LIMIT);
    for n in 0..100 {
        spool.push(Event { message: "\"".repeat(2000), ..event(n) });
        spool.write().unwrap();
    }
    assert_eq!(times(&drain(&mut spool)), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_foreign_directory_harms_nothing() {
    let disk = Disk::new();
    fs::create_dir(disk.path()).unwrap();
    fs::write(disk.path().join("README"), "hello").unwrap();
    fs::write(disk.path().join("000000000009-x.jsonl"), vec![b'x'; 2 << 20]).unwrap();
    fs::create_dir(disk.path().join("000000000010-y.jsonl")).unwrap();
    let mut spool = disk.open("a", LIMIT);
    fill(&mut spool, 0..2);
    let all = drain(&mut spool);
    assert_eq!(all.iter().filter(|(_, _, e)| e.kind == EventKind::StateSetAside).count(), 2, "{all:?}");
    assert_eq!(all.iter().filter(|(_, _, e)| e.kind == EventKind::DriftFound).count(), 2);
    assert!(disk.path().join("README").exists());
}
