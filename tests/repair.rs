//! `Broker::repair` puts what is damaged aside and keeps all the rest: nothing is deleted, nothing is
//! invented, what is missing is told, and sending goes on.

mod damaged;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use damaged::{
    COMMITTED, Files, RECORDS, assert_all_but, files, logs, make, read_all, restore, temporary,
    used, value,
};
use forebay::{
    Acks, Broker, Error, Record, RecoveryMode, Repair, RepairReport, Start, TopicConfig,
};

fn repair(dir: &Path) -> RepairReport {
    Broker::repair(dir, Repair::Apply).expect("repair")
}

/// The directory without the lock and the quarantine.
fn live(dir: &Path) -> Files {
    let mut files = files(dir);
    files.retain(|name, _| !name.starts_with("quarantine"));
    files
}

/// Repairs what was damaged, and asserts all that is promised of it. `torn` is whether a torn tail may
/// have been cut: then the log may end early.
fn check(dir: &Path, before: &Files, torn: bool, what: &str) -> RepairReport {
    let planned = Broker::repair(dir, Repair::DryRun).expect("plan");
    assert_eq!(files(dir), *before, "{what}: planning changes nothing");
    let report = repair(dir);
    assert_eq!((&report.actions, &report.gaps), (&planned.actions, &planned.gaps), "{what}");
    assert_eq!(report.quarantine.is_none(), report.is_empty(), "{what}: {report}");
    let after = live(dir);
    for (name, bytes) in before {
        // What is not as it was is in the quarantine as it was.
        if after.get(name) != Some(bytes) {
            let kept = report.quarantine.as_ref().expect("a quarantine").join(name);
            assert_eq!(fs::read(&kept).expect("kept"), *bytes, "{what}: {}", kept.display());
        }
    }
    let again = repair(dir);
    assert!(again.is_empty(), "{what}: {report} and again {again}");
    assert_eq!(live(dir), after, "{what}: there is nothing more to do");
    let verified = Broker::verify(dir).expect("verify");
    assert!(verified.is_sound(), "{what}: {report}\n{verified}");
    let broker = Broker::open(dir).unwrap_or_else(|error| panic!("{what}: {error}\n{report}"));
    let Ok(topic) = broker.topic("t") else {
        panic!("{what}: the topic is there\n{report}");
    };
    let end = topic.latest_offset(0).expect("end");
    assert!(end == RECORDS || torn, "{what}: it ends with {end}\n{report}");
    assert_all_but(&broker, &report.gaps, end, what);
    // Sending goes on behind all that was there.
    for number in end..end + 2 {
        let sent = topic.send_with(Record::new(&value(number)), Acks::Synced).expect("send");
        assert_eq!(sent.offset, number, "{what}");
    }
    broker.close().expect("close");
    let broker = Broker::open(dir).expect("open again");
    assert_all_but(&broker, &report.gaps, end + 2, what);
    report
}

fn repair_everything(clean: bool, stride: usize) {
    let (pristine, copy) = (temporary(), temporary());
    let whole = make(pristine.path(), clean);
    let mut states = 0;
    for (name, bytes) in &whole {
        let used = used(bytes);
        let stride = if used < 300 { stride / 4 } else { stride };
        let places = (0..used).step_by(stride).chain((used..bytes.len()).step_by(4001));
        for (position, cuts) in places.flat_map(|place| [(place, false), (place, true)]) {
            let mut damaged = bytes.clone();
            if cuts {
                damaged.truncate(position);
            } else {
                damaged[position] ^= 1 << (position % 8);
            }
            let what = format!("{}, byte {position}, cut {cuts}", name.display());
            let mut before = whole.clone();
            before.insert(name.clone(), damaged);
            restore(&before, copy.path());
            check(copy.path(), &before, false, &what);
            states += 1;
        }
    }
    println!("{states} damaged states");
}

#[test]
fn a_directory_that_was_closed_is_repaired_whatever_byte_is_wrong() {
    repair_everything(true, 37);
}

#[test]
fn a_directory_that_was_not_closed_is_repaired_whatever_byte_is_wrong() {
    repair_everything(false, 41);
}

#[test]
fn whatever_file_is_missing_the_rest_can_be_read() {
    let (pristine, copy) = (temporary(), temporary());
    for clean in [true, false] {
        let whole = make(pristine.path(), clean);
        for name in whole.keys() {
            let mut before = whole.clone();
            before.remove(name);
            restore(&before, copy.path());
            let report = check(copy.path(), &before, false, &name.display().to_string());
            let is_log = name.extension().is_some_and(|end| end == "log");
            assert_eq!(!report.gaps.is_empty(), is_log, "{}: {report}", name.display());
        }
        drop(fs::remove_dir_all(pristine.path().join("topics")));
        drop(fs::remove_dir_all(pristine.path().join("offsets")));
    }
}

/// Damages a file of a fresh directory at these bytes, and repairs it.
fn damage_at(clean: bool, file: usize, places: &[usize]) -> (tempfile::TempDir, RepairReport) {
    let dir = temporary();
    let mut files = make(dir.path(), clean);
    let name = logs(&files)[file].clone();
    let bytes = files.get_mut(&name).expect("a log");
    for place in places {
        bytes[*place] ^= 0x10;
    }
    restore(&files, dir.path());
    let report = check(dir.path(), &files, false, &format!("{places:?}"));
    (dir, report)
}

#[test]
fn two_damaged_stretches_are_two_gaps() {
    let (dir, report) = damage_at(true, 0, &[1200, 2500]);
    assert_eq!(report.gaps.len(), 2, "{report}");
    let broker = Broker::open(dir.path()).expect("open");
    let (records, gaps) = read_all(&broker);
    assert_eq!(gaps.len(), 2);
    let missing: u64 = gaps.iter().map(|(from, to)| to - from).sum();
    assert_eq!(records.len() as u64 + missing, RECORDS + 2);
    assert!(report.to_string().contains("t/0: offsets"), "{report}");
}

#[test]
fn all_of_a_batch_is_gone_with_one_byte_of_it() {
    // The first frame is a batch of three.
    let (dir, report) = damage_at(true, 0, &[64 + 40]);
    let gap = report.gaps.first().expect("a gap");
    assert_eq!((gap.from, gap.to, report.gaps.len()), (0, 3, 1));
    let topic = Broker::open(dir.path()).expect("open").describe_topic("t").expect("describe");
    assert_eq!(topic.partitions[0].earliest_offset, 3, "the log begins behind it");
}

#[test]
fn whoever_reads_in_a_gap_is_told_once_and_goes_on_behind_it() {
    let (dir, report) = damage_at(true, 0, &[1900]);
    let gap = report.gaps.first().expect("a gap").clone();
    let inside = gap.to - 1;
    let broker = Broker::open(dir.path()).expect("open");
    let mut reader = broker.reader().partition("t", 0, Start::Offset(inside)).open().expect("open");
    let told = reader.try_poll();
    let Err(Error::Gap { from, to, .. }) = told else { panic!("{told:?}") };
    assert_eq!((from, to), (inside, gap.to));
    assert_eq!(reader.try_poll().expect("poll").get(0).expect("a record").offset(), gap.to);
    // In order of time, too: what was read before the gap comes before it is told.
    let mut merged = broker
        .reader()
        .partition("t", 0, Start::Earliest)
        .merge_by_timestamp()
        .open()
        .expect("open");
    let mut next = 0;
    while next < gap.from {
        for record in &merged.try_poll().expect("records before the gap") {
            assert_eq!(record.offset(), next);
            next += 1;
        }
    }
    assert!(matches!(merged.try_poll(), Err(Error::Gap { .. })));
    assert_eq!(merged.try_poll().expect("poll").get(0).expect("a record").offset(), gap.to);
}

#[test]
fn a_group_that_has_committed_in_a_gap_is_told_and_goes_on_behind_it() {
    let dir = temporary();
    let files = make(dir.path(), true);
    let name = logs(&files)[0].clone();
    // Somewhere in the first segment lies the record that comes next.
    for place in (64..3500).step_by(50) {
        let mut files = files.clone();
        files.get_mut(&name).expect("a log")[place] ^= 0x10;
        restore(&files, dir.path());
        let report = repair(dir.path());
        let gap = report.gaps.first().expect("a gap");
        if !(gap.from..gap.to).contains(&COMMITTED) {
            continue;
        }
        let broker = Broker::open(dir.path()).expect("open");
        let mut consumer = broker.consumer("g").subscribe(["t"]).open().expect("join");
        let told = consumer.poll(Duration::from_secs(1));
        let Err(Error::Gap { from, to, .. }) = told else { panic!("{told:?}") };
        assert_eq!((from, to), (COMMITTED, gap.to));
        let batch = consumer.poll(Duration::from_secs(1)).expect("poll");
        assert_eq!(batch.get(0).expect("a record").offset(), gap.to);
        return;
    }
    panic!("no byte of the record was hit");
}

#[test]
fn what_groups_have_committed_is_kept_up_to_the_damage() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new()).expect("create");
    damaged::fill(&broker, &topic);
    let commit = |group: &str| {
        let mut consumer =
            broker.consumer(group).subscribe(["t"]).start(Start::Earliest).open().expect("join");
        while consumer.poll(Duration::from_secs(1)).expect("poll").is_empty() {}
        consumer.commit().expect("commit");
    };
    commit("later");
    broker.close().expect("close");
    drop(broker);
    let mut files = files(dir.path());
    let name = files.keys().rfind(|name| name.extension().is_some_and(|end| end == "offsets"));
    let name = name.expect("an offset file").clone();
    let bytes = files.get_mut(&name).expect("an offset file");
    let at = bytes.windows(5).rposition(|part| part == b"later").expect("the group");
    bytes[at] ^= 1;
    restore(&files, dir.path());
    assert!(matches!(Broker::open(dir.path()), Err(Error::Corrupt { .. })));
    let report = check(dir.path(), &files, false, "offsets");
    assert!(report.gaps.is_empty() && report.actions.len() >= 2, "{report}");
    let broker = Broker::open(dir.path()).expect("open");
    let described = broker.describe_group("g").expect("the group is known");
    assert_eq!(described.offsets[0].committed, Some(COMMITTED));
}

#[test]
fn a_topic_that_nothing_is_known_of_goes_to_the_quarantine_whole() {
    let dir = temporary();
    let mut files = make(dir.path(), true);
    for (name, bytes) in &mut files {
        if name.ends_with("topic") || name.extension().is_some_and(|end| end == "log") {
            bytes[20] ^= 1;
        }
    }
    restore(&files, dir.path());
    let report = repair(dir.path());
    assert_eq!(report.actions.len(), 1, "{report}");
    let kept = report.quarantine.as_ref().expect("a quarantine");
    for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with("topics")) {
        assert_eq!(fs::read(kept.join(name)).expect("kept"), *bytes);
    }
    assert!(Broker::open(dir.path()).expect("open").topics().is_empty());
}

#[test]
fn settings_that_are_lost_are_the_default_ones_and_the_records_stay() {
    let dir = temporary();
    let mut files = make(dir.path(), true);
    files.remove(&PathBuf::from("topics/t/topic"));
    restore(&files, dir.path());
    let report = check(dir.path(), &files, false, "no settings");
    assert!(report.to_string().contains("default"), "{report}");
    let broker = Broker::open(dir.path()).expect("open");
    let described = broker.describe_topic("t").expect("describe");
    assert_eq!(described.config, TopicConfig::new());
    let group = broker.describe_group("g").expect("the group is known");
    assert_eq!(group.offsets.len(), 1, "it is the same topic");
}

/// Symptom: a log whose beginning had been deleted was empty after an open without its checkpoint. Cause:
/// its first segment did not begin with 0, and all of them were taken for what lies behind a torn tail.
/// Fix: that is an error, and a repair finds where the log begins.
#[test]
fn a_log_that_does_not_begin_with_0_is_not_lost_with_its_checkpoint() {
    let dir = temporary();
    make(dir.path(), true);
    let broker = Broker::open(dir.path()).expect("open");
    broker.topic("t").expect("topic").delete_records(0, 20).expect("delete");
    broker.close().expect("close");
    drop(broker);
    let checkpoint = dir.path().join("topics/t/0/checkpoint");
    let bytes = fs::read(&checkpoint).expect("read");
    for damaged in [None, Some(bytes[..20].to_vec())] {
        match damaged {
            None => fs::remove_file(&checkpoint).expect("remove"),
            Some(bytes) => fs::write(&checkpoint, bytes).expect("write"),
        }
        let opened = Broker::open(dir.path());
        let Err(Error::Corrupt { path, .. }) = opened else { panic!("{opened:?}") };
        assert_eq!(path, checkpoint);
        let report = repair(dir.path());
        assert!(report.gaps.is_empty(), "{report}");
        let broker = Broker::open(dir.path()).expect("open");
        let (records, gaps) = read_all(&broker);
        assert!(
            gaps.is_empty() && records.contains_key(&20) && records.contains_key(&(RECORDS - 1))
        );
    }
}

/// A repaired directory is damaged once more, in the file that lists the gaps too.
#[test]
fn what_was_repaired_can_be_damaged_and_repaired_again() {
    let (dir, first) = damage_at(true, 0, &[1200, 2500]);
    let whole = live(dir.path());
    let gaps = PathBuf::from("topics/t/0/gaps");
    for (position, _) in whole[&gaps].iter().enumerate() {
        let mut files = whole.clone();
        files.get_mut(&gaps).expect("gaps")[position] ^= 1;
        restore(&files, dir.path());
        assert!(matches!(Broker::open(dir.path()), Err(Error::Corrupt { .. })));
        let again = repair(dir.path());
        assert_eq!(again.gaps, first.gaps, "byte {position}: {again}");
    }
    let broker = Broker::open(dir.path()).expect("open");
    assert_all_but(&broker, &first.gaps, RECORDS + 2, "twice");
    drop(broker);
    let mut files = whole.clone();
    let name = logs(&whole)[1].clone();
    files.get_mut(&name).expect("a log")[100] ^= 1;
    restore(&files, dir.path());
    let second = repair(dir.path());
    assert_eq!(second.gaps.len(), 1, "{second}");
    let all: Vec<_> = first.gaps.iter().chain(&second.gaps).cloned().collect();
    let broker = Broker::open(dir.path()).expect("open");
    assert_all_but(&broker, &all, RECORDS + 2, "another");
}

#[test]
fn a_partition_that_is_missing_is_made_anew_and_the_others_stay() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(3)).expect("create");
    for partition in 0..3 {
        topic.send(Record::new("x").partition(partition)).expect("send");
    }
    broker.close().expect("close");
    drop((topic, broker));
    fs::remove_dir_all(dir.path().join("topics/t/1")).expect("remove");
    assert!(!Broker::verify(dir.path()).expect("verify").is_sound());
    assert_eq!(repair(dir.path()).actions.len(), 1);
    let broker = Broker::open(dir.path()).expect("open");
    let ends: Vec<_> = (0..3)
        .map(|partition| broker.topic("t").expect("topic").latest_offset(partition).expect("end"))
        .collect();
    assert_eq!(ends, [1, 0, 1]);
}

#[test]
fn a_directory_that_is_open_is_not_repaired_and_can_be_looked_at() {
    let dir = temporary();
    let broker = Broker::open(dir.path()).expect("open");
    let repaired = Broker::repair(dir.path(), Repair::Apply);
    assert!(matches!(repaired, Err(Error::Locked { .. })), "{repaired:?}");
    assert!(Broker::repair(dir.path(), Repair::DryRun).expect("plan").is_empty());
    drop(broker);
    assert!(Broker::repair(dir.path().join("nowhere"), Repair::Apply).is_err());
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn salvage_repairs_before_it_opens_and_says_so() {
    let dir = temporary();
    let mut files = make(dir.path(), true);
    let names = logs(&files);
    files.get_mut(&names[1]).expect("a log")[30] ^= 1;
    restore(&files, dir.path());
    let salvage = || Broker::builder(dir.path()).recovery_mode(RecoveryMode::Salvage).open();
    let broker = salvage().expect("open");
    let report = broker.recovery_report().salvaged.clone().expect("something was repaired");
    assert_eq!(report.gaps.len(), 1, "{report}");
    assert_all_but(&broker, &report.gaps, RECORDS, "salvaged");
    drop(broker);
    assert_eq!(salvage().expect("open").recovery_report().salvaged, None);
}

/// Symptom: deleting up to the end of a log that ends in a gap deleted nothing and said so of nothing.
/// Cause: the recovery point lies before the gap, and what lies beyond it was refused in silence. Fix:
/// everything before the gap is deleted.
#[test]
fn records_before_a_gap_at_the_end_can_be_deleted() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let topic = broker.create_topic("t", forebay::TopicConfig::new()).expect("create");
    for _ in 0..10 {
        topic.send(forebay::Record::new("0123456789")).expect("send");
    }
    broker.close().expect("close");
    let log = dir.path().join("topics/t/0/00000000000000000000.log");
    let mut bytes = std::fs::read(&log).expect("read");
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    std::fs::write(&log, bytes).expect("write");
    let report = Broker::repair(dir.path(), Repair::Apply).expect("repair");
    assert_eq!(report.gaps.len(), 1, "{report}");
    for _ in 0..2 {
        let broker = Broker::open(dir.path()).expect("open");
        let topic = broker.topic("t").expect("topic");
        assert_eq!(topic.latest_offset(0).expect("offset"), 10);
        assert_eq!(topic.delete_records(0, 10).expect("delete"), 9);
        assert_eq!(topic.earliest_offset(0).expect("offset"), 9);
        broker.close().expect("close");
    }
}
