//! `Broker::verify` finds what is damaged, names the file, and changes nothing.

mod damaged;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use damaged::{Files, RECORDS, files, logs, make, restore, temporary, used};
use forebay::{Broker, FindingKind, VerifyReport};

fn verify(dir: &Path) -> VerifyReport {
    Broker::verify(dir).expect("everything can be read")
}

#[test]
fn a_directory_that_was_closed_is_sound_and_is_counted() {
    let dir = temporary();
    make(dir.path(), true);
    let report = verify(dir.path());
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!((report.topics, report.partitions, report.groups), (1, 1, 1));
    assert_eq!(report.records, RECORDS);
    assert_eq!((report.segments, report.indexes), (3, 6));
    assert!(report.bytes_read > 10_000 && report.owner.is_none());
    assert!(report.to_string().starts_with("sound: 1 topics"));
}

#[test]
fn a_directory_that_is_open_is_sound_and_its_owner_is_named() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", forebay::TopicConfig::new()).expect("create");
    damaged::fill(&broker, &topic);
    let report = verify(dir.path());
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.records, RECORDS);
    if cfg!(target_os = "linux") {
        assert_eq!(report.owner, Some(std::process::id()));
    }
    broker.close().expect("close");
    assert_eq!(verify(dir.path()).owner, None);
}

#[test]
fn a_directory_that_is_written_to_meanwhile_is_never_found_damaged() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let config = forebay::TopicConfig::new().segment_bytes(8192);
    let topic = broker.create_topic("t", config).expect("create");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut consumer = broker.consumer("g").subscribe(["t"]).open().expect("join");
            while !done.load(Ordering::Relaxed) {
                for number in 0..200 {
                    topic.send(forebay::Record::new(&damaged::value(number))).expect("send");
                }
                topic.flush().expect("flush");
                drop(consumer.try_poll().expect("poll"));
                consumer.commit().expect("commit");
                // So that there is never much to be verified.
                let end = topic.latest_offset(0).expect("offset");
                if end.is_multiple_of(2_000) {
                    topic.delete_records(0, end - 1_000).expect("delete");
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        // Whatever becomes of it, the other thread has to end.
        let reports: Vec<_> = (0..30).map(|_| Broker::verify(dir.path())).collect();
        done.store(true, Ordering::Relaxed);
        for report in reports {
            let report = report.expect("verify");
            assert!(report.is_sound(), "{report}");
        }
    });
}

/// What is not read by anybody, or is as good as any other content.
fn is_harmless(name: &Path) -> bool {
    name.ends_with("spare")
}

/// Every byte of every file flipped and every file cut: a finding that names the file, or content that
/// is unharmed.
fn damage_everything(clean: bool) {
    let (pristine, copy) = (temporary(), temporary());
    let whole = make(pristine.path(), clean);
    restore(&whole, copy.path());
    let found = verify(copy.path());
    assert!(found.is_sound() && found.records == RECORDS, "{found}");
    let mut states = 0;
    for (name, bytes) in whole.iter().filter(|(name, _)| !is_harmless(name)) {
        let used = used(bytes);
        let places: Vec<_> = (0..used).chain((used..bytes.len()).step_by(1013)).collect();
        for (position, cuts) in places.iter().flat_map(|place| [(*place, false), (*place, true)]) {
            let mut damaged = bytes.clone();
            if cuts {
                damaged.truncate(position);
            } else {
                damaged[position] ^= 1 << (position % 8);
            }
            let path = copy.path().join(name);
            fs::write(&path, &damaged).expect("write");
            let report = verify(copy.path());
            let what = format!("{}, byte {position}, cut {cuts}", name.display());
            let named = report.findings.iter().any(|finding| finding.path == path);
            let counted = report.records == RECORDS && report.groups == 1;
            assert!(named || counted, "{what}: {report}");
            assert!(named || report.is_sound(), "{what}: {report}");
            assert!(counted || !report.is_sound() || !clean, "{what}: {report}");
            states += 1;
        }
        fs::write(copy.path().join(name), bytes).expect("write");
    }
    assert_eq!(files(copy.path()), whole, "nothing is changed");
    println!("{states} damaged states");
}

#[test]
fn damage_to_a_directory_that_was_closed_is_found() {
    damage_everything(true);
}

#[test]
fn damage_to_a_directory_that_was_not_closed_is_found() {
    damage_everything(false);
}

/// One file missing at a time.
#[test]
fn what_is_missing_is_found() {
    let (pristine, copy) = (temporary(), temporary());
    let whole = make(pristine.path(), true);
    for name in whole.keys() {
        let mut files = whole.clone();
        files.remove(name);
        restore(&files, copy.path());
        let report = verify(copy.path());
        let is_cache = name.extension().is_some_and(|end| end == "index" || end == "timeindex");
        // The mark and the first checkpoint only say more of what is there.
        let is_extra =
            name.ends_with("spare") || name.ends_with("durable") || name.ends_with("checkpoint");
        assert_eq!(report.is_sound(), is_cache || is_extra, "{}: {report}", name.display());
    }
}

#[test]
fn what_no_broker_puts_there_is_told_and_harmless() {
    let dir = temporary();
    make(dir.path(), true);
    for name in ["x", "topics/x", "topics/t/x", "topics/t/7", "topics/t/0/x", "offsets/x"] {
        fs::write(dir.path().join(name), "x").expect("write");
    }
    for name in ["topics/t/topic~", "topics/t/0/checkpoint~", "offsets/checkpoint~"] {
        fs::write(dir.path().join(name), "x").expect("write");
    }
    fs::create_dir(dir.path().join("topics/~new")).expect("create");
    let report = verify(dir.path());
    let count = |kind| report.findings.iter().filter(|finding| finding.kind == kind).count();
    assert!(report.is_sound(), "{report}");
    assert_eq!((count(FindingKind::Stranger), count(FindingKind::Leftover)), (6, 4), "{report}");
}

#[test]
fn an_index_that_says_something_else_than_the_log_is_found() {
    let (dir, other) = (temporary(), temporary());
    let whole = make(dir.path(), true);
    let log = logs(&whole)[0].clone();
    let index = log.with_extension("index");
    // Sound in itself, of the same segment, and wrong: an entry points between frames.
    let mut bytes = whole[&index].clone();
    bytes[68] ^= 4;
    bytes[60..64].fill(0);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..60]);
    hasher.update(&bytes[64..]);
    bytes[60..64].copy_from_slice(&hasher.finalize().to_le_bytes());
    let mut files: Files = whole.clone();
    files.insert(index.clone(), bytes);
    restore(&files, other.path());
    let report = verify(other.path());
    assert!(report.is_sound());
    let index = other.path().join(index);
    assert!(
        report.findings.iter().any(|one| one.kind == FindingKind::Index && one.path == index),
        "{report}"
    );
}
