//! A topic as `io::Write`: what becomes a record, what a call has taken, and what is dropped.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use forebay::testing::{Failure, SimulatedDisk};
use forebay::{
    Acks, Broker, Error, Framing, LossReport, OnFull, OwnedRecord, Partitioner, Start, Topic,
    TopicConfig, TopicWriter, WhenRefused,
};
use proptest::prelude::*;

fn in_memory(config: TopicConfig) -> (Broker, Topic) {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("log", config).expect("create");
    (broker, topic)
}

fn records(broker: &Broker) -> Vec<OwnedRecord> {
    let mut reader = broker.reader().topic("log", Start::Earliest).open().expect("reader");
    let mut found = Vec::new();
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            return found;
        }
        found.extend(batch.iter().map(|record| record.to_owned()));
    }
}

fn values(broker: &Broker) -> Vec<Vec<u8>> {
    records(broker).into_iter().map(|record| record.value.expect("a value")).collect()
}

/// How many a record says were dropped, if it is a report.
fn reported(record: &OwnedRecord) -> Option<u64> {
    let (_, number) = record.headers.iter().find(|(name, _)| name == "forebay.dropped")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn inside(error: &io::Error) -> &Error {
    error.get_ref().and_then(|inside| inside.downcast_ref()).expect("an error of the crate")
}

#[test]
fn each_line_is_a_record_whatever_is_in_it() {
    let (broker, log) = in_memory(TopicConfig::new());
    let mut writer = log.writer();
    let bytes = b"unix\ndos\r\n\n\r\n\xff\xfe\0\r kept\r\r\nend";
    assert_eq!(writer.write(bytes).expect("write"), bytes.len());
    let whole: [&[u8]; 5] = [b"unix", b"dos", b"", b"", b"\xff\xfe\0\r kept\r"];
    assert_eq!(values(&broker), whole, "the last line is not finished");
    drop(writer);
    assert_eq!(values(&broker).last().map(Vec::as_slice), Some(&b"end"[..]));
}

#[test]
fn each_record_gets_the_key_and_the_headers() {
    let (broker, log) = in_memory(TopicConfig::new().partitions(4));
    let mut writer = log.writer().key("host-1").header("source", "app").header("n", [1, 2]);
    writer.write_all(b"one\ntwo\n").expect("write");
    writer.write_all(b"three\n").expect("write");
    let records = records(&broker);
    assert_eq!(records.len(), 3);
    for record in &records {
        assert_eq!(record.partition, records[0].partition);
        assert_eq!(record.key.as_deref(), Some(&b"host-1"[..]));
        let headers: Vec<_> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        assert_eq!(headers, [("source", &b"app"[..]), ("n", &[1, 2])]);
    }
}

#[test]
fn each_write_is_a_record_byte_for_byte_if_that_is_wanted() {
    let (broker, log) = in_memory(TopicConfig::new());
    let mut writer = log.writer().framing(Framing::Writes);
    for message in [&b"panicked:\n  at main\n"[..], b"", b"\n", b"a"] {
        writer.write_all(message).expect("write");
        writer.flush().expect("flush");
    }
    assert_eq!(values(&broker), [&b"panicked:\n  at main\n"[..], b"\n", b"a"]);
}

#[test]
fn a_flush_sends_an_unfinished_line_whose_end_is_no_record_of_its_own() {
    let (broker, log) = in_memory(TopicConfig::new());
    let mut writer = log.writer();
    writer.write_all(b"loading").expect("write");
    assert!(values(&broker).is_empty());
    writer.flush().expect("flush");
    writer.flush().expect("flush");
    assert_eq!(values(&broker), [b"loading"]);
    writer.write_all(b"\n\nnext\nmore").expect("write");
    writer.flush().expect("flush");
    writer.write_all(b"\r").expect("write");
    writer.write_all(b"\nlast, in").expect("write");
    writer.flush().expect("flush");
    writer.write_all(b" two\n").expect("write");
    let expected: [&[u8]; 6] = [b"loading", b"", b"next", b"more", b"last, in", b" two"];
    assert_eq!(values(&broker), expected);
}

#[test]
fn an_unfinished_line_survives_a_change_of_settings_and_can_be_discarded() {
    let (broker, log) = in_memory(TopicConfig::new());
    let mut writer = log.writer();
    writer.write_all(b"begun").expect("write");
    let mut writer = writer.framing(Framing::Writes);
    writer.write_all(b"whole\n").expect("write");
    assert_eq!(values(&broker), [&b"begun"[..], b"whole\n"]);
    let mut writer = writer.framing(Framing::Lines);
    writer.write_all(b"given up").expect("write");
    assert_eq!(writer.discard_unfinished(), 8);
    writer.write_all(b"\n").expect("write");
    drop(writer);
    assert_eq!(values(&broker).len(), 3, "an empty line came last");
}

#[test]
fn lines_of_clones_and_threads_never_mix() {
    let (broker, log) = in_memory(TopicConfig::new());
    let writer = log.writer();
    thread::scope(|scope| {
        for name in 0..4 {
            let mut writer = writer.clone();
            scope.spawn(move || {
                for number in 0..500 {
                    // Several calls of write each.
                    writeln!(writer, "{name} says {number} and {}", number * 3).expect("write");
                }
            });
        }
    });
    let mut next = [0; 4];
    for value in values(&broker) {
        let text = String::from_utf8(value).expect("text");
        let name: usize = text[..1].parse().expect("a name");
        let number = next[name];
        assert_eq!(text, format!("{name} says {number} and {}", number * 3));
        next[name] += 1;
    }
    assert_eq!(next, [500; 4]);
}

#[test]
fn a_line_too_long_for_a_record_is_cut_and_the_writer_holds_one_record_at_most() {
    let (broker, log) = in_memory(TopicConfig::new().max_record_bytes(10_000));
    let mut writer = log.writer();
    let line: Vec<u8> = (0..100_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
    writer.write_all(&line).expect("in one call");
    writer.write_all(b"\n").expect("write");
    let first = values(&broker);
    for part in line.chunks(701) {
        writer.write_all(part).expect("in many calls");
        let debug = format!("{writer:?}");
        let held = debug.split("unfinished_bytes: ").nth(1).expect("it is told");
        let held: usize = held.split(',').next().expect("a number").parse().expect("a number");
        assert!(held <= 10_000, "{held}");
    }
    writer.write_all(b"\r\n").expect("write");
    let all = values(&broker);
    assert_eq!(all[..first.len()], all[first.len()..], "the same either way");
    assert_eq!(first.concat(), line);
    assert!(first.iter().all(|value| (value.len() > 9_900) == (value != &first[10])));
    assert_eq!(first.len(), 11);

    let mut by_write = log.writer().framing(Framing::Writes);
    by_write.write_all(&line).expect("write");
    assert_eq!(values(&broker)[all.len()..], first);
}

#[test]
fn a_line_of_just_the_longest_length_is_one_record() {
    let (broker, log) = in_memory(TopicConfig::new().max_record_bytes(100));
    let mut writer = log.writer();
    writer.write_all(&[b'x'; 300]).expect("write");
    writer.write_all(b"\n").expect("write");
    let longest = values(&broker)[0].len();
    let mut expected = values(&broker);
    for end in ["\n", "\r\n"] {
        for length in [longest - 1, longest, longest + 1, 2 * longest] {
            let line = vec![b'y'; length];
            writer.write_all(&line).expect("write");
            writer.write_all(end.as_bytes()).expect("write");
            expected.extend(line.chunks(longest).map(<[u8]>::to_vec));
            let with_end = [&line, end.as_bytes()].concat();
            writer.write_all(&with_end).expect("write");
            expected.extend(line.chunks(longest).map(<[u8]>::to_vec));
        }
    }
    assert_eq!(values(&broker), expected);
}

#[test]
fn a_topic_that_takes_less_than_before_gets_shorter_pieces() {
    for when_refused in [WhenRefused::Fail, WhenRefused::Drop] {
        let (broker, log) = in_memory(TopicConfig::new());
        let mut writer = log.writer().when_refused(when_refused);
        let line = vec![b'x'; 5000];
        writer.write_all(&line).expect("write");
        writer.write_all(b"\n").expect("write");
        writer.write_all(&line[..3000]).expect("begin a line");
        broker.alter_topic("log", TopicConfig::new().max_record_bytes(500)).expect("alter");
        writer.write_all(b"\n").expect("write");
        writer.write_all(&[&line[..], b"\nshort\n"].concat()).expect("write");
        let values = values(&broker);
        assert_eq!(values[1..].concat(), [&line[..3000], &line, b"short"].concat());
        assert!(values[1..].iter().all(|value| value.len() < 500));
        assert_eq!(writer.dropped(), 0);

        // And longer ones again when it takes more.
        broker.alter_topic("log", TopicConfig::new()).expect("alter");
        writer.write_all(&[&line[..], b"\n"].concat()).expect("write");
        assert_eq!(records(&broker).last().and_then(|record| record.value.clone()), Some(line));
    }
}

/// Symptom: a line that could have been cut was refused, or dropped. Cause: only the first clone that found
/// out that the topic takes less than before cut its line anew. Fix: each does whose piece is too long.
#[test]
fn clones_that_find_out_together_that_a_topic_takes_less_all_cut_their_lines() {
    let (broker, log) = in_memory(TopicConfig::new());
    let line = [vec![b'x'; 3000], vec![b'\n']].concat();
    let other: Arc<Mutex<Option<TopicWriter>>> = Arc::default();
    let (meanwhile, its_line) = (Arc::clone(&other), line.clone());
    let partitioner = Partitioner::custom(move |_, _| {
        let other = meanwhile.lock().expect("the other").take();
        if let Some(mut other) = other {
            other.write_all(&its_line).expect("write");
        }
        0
    });
    let mut writer = log.partitioner(partitioner).writer();
    writer.write_all(&line).expect("write");
    *other.lock().expect("the other") = Some(writer.clone());
    broker.alter_topic("log", TopicConfig::new().max_record_bytes(500)).expect("alter");
    writer.write_all(&line).expect("write");
    assert_eq!(values(&broker).concat().len(), 9000);
}

/// Symptom: a call with many lines took as many times as long as a full topic has senders wait. Cause: each
/// line waited by itself. Fix: those behind one that was refused do not wait.
#[test]
fn a_call_does_not_wait_for_each_of_its_lines_where_a_full_topic_has_senders_wait() {
    let timeout = Duration::from_millis(200);
    let config = TopicConfig::new().max_records(1).on_full(OnFull::Block { timeout });
    let (broker, log) = in_memory(config);
    let mut writer = log.writer().when_refused(WhenRefused::Drop);
    let start = Instant::now();
    writer.write_all("line\n".repeat(600).as_bytes()).expect("write");
    assert!(start.elapsed() >= timeout && start.elapsed() < timeout * 10);
    assert_eq!((writer.dropped(), values(&broker).len()), (599, 1));
}

#[test]
fn a_key_that_no_record_has_room_for_is_an_error_and_one_loss_a_line() {
    let (_broker, log) = in_memory(TopicConfig::new().max_record_bytes(500));
    let mut writer = log.writer().key([0; 1000]);
    let error = writer.write_all(b"line\n").expect_err("refused");
    assert!(matches!(inside(&error), Error::RecordTooLarge { .. }));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let mut writer = writer.when_refused(WhenRefused::Drop);
    writer.write_all(b"line\nanother\n").expect("dropped");
    assert_eq!(writer.dropped(), 2);
}

/// What any calls must come to: lines, without their ends, cut where they are too long.
fn expected(bytes: &[u8], longest: usize) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let content = match line.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None => line,
        };
        if content.is_empty() {
            records.push(Vec::new());
        }
        records.extend(content.chunks(longest).map(<[u8]>::to_vec));
    }
    records
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(b'\n'), 3 => Just(b'\r'), 30 => any::<u8>()];
    proptest::collection::vec(byte, 0..400)
}

proptest! {
    #[test]
    fn any_calls_come_to_the_lines_of_the_whole(
        bytes in text(),
        cuts in proptest::collection::vec(1_usize..60, 1..40),
        longest in 1_usize..40,
    ) {
        // Around a value are 26 bytes of its frame, its flags and its length.
        let (broker, log) = in_memory(TopicConfig::new().max_record_bytes(28 + longest as u64));
        let mut writer = log.writer();
        let mut rest = &bytes[..];
        for length in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (call, after) = rest.split_at(rest.len().min(*length));
            prop_assert_eq!(writer.write(call).expect("write"), call.len());
            rest = after;
        }
        drop(writer);
        prop_assert_eq!(values(&broker), expected(&bytes, longest));
    }

    #[test]
    fn a_disk_that_fills_up_anywhere_loses_nothing_that_was_taken(
        lengths in proptest::collection::vec(0_usize..3_000, 1..60),
        calls in proptest::collection::vec(1_usize..9_000, 1..20),
        full_from in 0_usize..10,
        when_refused in prop_oneof![Just(WhenRefused::Fail), Just(WhenRefused::Drop)],
    ) {
        let (disk, broker, log) = on_disk();
        let bytes: Vec<u8> = lengths
            .iter()
            .enumerate()
            .flat_map(|(line, length)| {
                let mut line = format!("{line} {}", "x".repeat(*length)).into_bytes();
                line.push(b'\n');
                line
            })
            .collect();
        let mut writer = log.writer().when_refused(when_refused);
        let mut rest = &bytes[..];
        let mut refusals = 0;
        for (number, length) in calls.iter().cycle().enumerate() {
            if rest.is_empty() {
                break;
            }
            disk.set_full(number >= full_from && refusals < 3);
            let (call, _) = rest.split_at(rest.len().min(*length));
            let dropped = writer.dropped();
            match writer.write(call) {
                Ok(taken) => rest = &rest[taken..],
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::StorageFull),
            }
            refusals += u32::from(number >= full_from && dropped == writer.dropped());
        }
        disk.set_full(false);
        drop(writer.clone());
        let dropped = writer.dropped();
        writer.flush().expect("flush");
        drop(writer);
        let records = records(&broker);
        let told: u64 = records.iter().filter_map(reported).sum();
        prop_assert_eq!(told, dropped);
        let written: Vec<_> = records
            .iter()
            .filter(|record| reported(record).is_none())
            .map(|record| record.value.clone().expect("a value"))
            .collect();
        let given = expected(&bytes, usize::MAX);
        prop_assert_eq!(written.len() as u64 + dropped, given.len() as u64);
        let mut left = given.iter();
        for value in &written {
            prop_assert!(left.any(|line| line == value), "each was given once, in this order");
        }
        if when_refused == WhenRefused::Fail {
            prop_assert_eq!(dropped, 0);
        }
    }
}

fn on_disk() -> (SimulatedDisk, Broker, Topic) {
    let disk = SimulatedDisk::new(3);
    let broker = Broker::builder("data").simulated_disk(&disk).open().expect("open");
    let log = broker.create_topic("log", TopicConfig::new()).expect("create");
    (disk, broker, log)
}

/// Some thousands of lines in one piece: more than a small segment has blocks for.
fn many_lines() -> Vec<u8> {
    (0..5000).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

#[test]
fn a_refusal_in_the_middle_of_a_call_says_how_much_was_taken() {
    let (disk, broker, log) = on_disk();
    let mut writer = log.writer();
    writer.write_all(b"first\n").expect("write");
    disk.set_full(true);
    let bytes = many_lines();
    let taken = writer.write(&bytes).expect("some fit");
    assert!(0 < taken && taken < bytes.len(), "{taken}");
    assert_eq!(bytes[taken - 1], b'\n', "whole lines");
    let error = writer.write(&bytes[taken..]).expect_err("no more fit");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(matches!(inside(&error), Error::StorageFull { .. }));
    assert_eq!(values(&broker)[1..], expected(&bytes[..taken], usize::MAX));

    disk.set_full(false);
    writer.write_all(&bytes[taken..]).expect("there is room");
    assert_eq!(values(&broker)[1..], expected(&bytes, usize::MAX));
    assert_eq!(writer.dropped(), 0);
}

#[test]
fn an_end_of_line_that_was_refused_can_be_written_again() {
    let (disk, broker, log) = on_disk();
    let mut writer = log.writer();
    disk.set_full(true);
    writer.write_all(b"begun, ").expect("nothing is sent");
    writer.write_all(b"gone on with").expect("nothing is sent");
    for _ in 0..3 {
        writer.write(b", ended\nnext").expect_err("refused");
        writer.flush().expect_err("refused");
    }
    disk.set_full(false);
    writer.write_all(b", ended\n").expect("there is room");
    assert_eq!(values(&broker), [b"begun, gone on with, ended"]);
}

#[test]
fn what_a_full_disk_refuses_is_dropped_counted_and_reported() {
    let (disk, broker, log) = on_disk();
    let mut writer = log.writer().when_refused(WhenRefused::Drop).header("source", "app");
    writer.write_all(b"first\n").expect("write");
    disk.set_full(true);
    let bytes = many_lines();
    writer.write_all(&bytes).expect("never fails");
    let mut clone = writer.clone();
    clone.write_all(&bytes).expect("never fails");
    clone.write_all(b"and an unfinished one").expect("never fails");
    drop(clone);
    let dropped = writer.dropped();
    assert!(dropped > 5000, "{dropped}");
    assert_eq!(values(&broker).len() as u64 + dropped, 10_002);
    writer.flush().expect("never fails");

    disk.set_full(false);
    writer.write_all(b"room again\nstill\n").expect("write");
    assert_eq!(writer.dropped(), dropped);
    let records = records(&broker);
    let [report, line, last] = &records[records.len() - 3..] else { panic!("three") };
    assert_eq!(reported(report), Some(dropped));
    let text = format!("forebay: {dropped} lines dropped");
    assert_eq!(report.value.as_deref(), Some(text.as_bytes()));
    assert_eq!(report.headers[0].0, "source", "it has the label of the others");
    assert_eq!(line.value.as_deref(), Some(&b"room again"[..]));
    assert_eq!(last.value.as_deref(), Some(&b"still"[..]));
    assert_eq!(records.iter().filter_map(reported).count(), 1);
}

#[test]
fn the_report_comes_with_the_end_of_the_last_writer_if_nothing_is_written() {
    let (disk, broker, log) = on_disk();
    let mut writer = log.writer().when_refused(WhenRefused::Drop);
    disk.set_full(true);
    writer.write_all(b"lost\n").expect("never fails");
    disk.set_full(false);
    drop(writer.clone());
    assert!(records(&broker).is_empty());
    drop(writer);
    assert_eq!(records(&broker).iter().filter_map(reported).collect::<Vec<_>>(), [1]);
}

#[test]
fn the_report_can_be_turned_off() {
    let (disk, broker, log) = on_disk();
    let mut writer = log.writer().when_refused(WhenRefused::Drop).loss_report(LossReport::Off);
    disk.set_full(true);
    writer.write_all(b"lost\n").expect("never fails");
    disk.set_full(false);
    writer.write_all(b"kept\n").expect("write");
    assert_eq!(writer.dropped(), 1);
    drop(writer);
    assert_eq!(values(&broker), [b"kept"]);
}

#[test]
fn threads_that_drop_together_are_counted_and_reported_exactly() {
    let (disk, broker, log) = on_disk();
    let writer = log.writer().when_refused(WhenRefused::Drop);
    thread::scope(|scope| {
        for name in 0..4 {
            let mut writer = writer.clone();
            scope.spawn(move || {
                for number in 0..2000 {
                    writeln!(writer, "{name} {number} {}", "x".repeat(40)).expect("never fails");
                }
            });
        }
        scope.spawn(|| {
            for step in 0..40 {
                disk.set_full(step % 2 == 0);
                thread::sleep(std::time::Duration::from_millis(1));
            }
            disk.set_full(false);
        });
    });
    let dropped = writer.dropped();
    drop(writer);
    let records = records(&broker);
    let (reports, lines): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| reported(record).is_some());
    assert_eq!(lines.len() as u64 + dropped, 8000);
    assert_eq!(reports.iter().filter_map(|record| reported(record)).sum::<u64>(), dropped);
}

#[test]
fn a_closed_broker_is_an_error_or_a_loss_and_never_a_panic() {
    let (broker, log) = in_memory(TopicConfig::new());
    let (mut fails, mut drops) = (log.writer(), log.writer().when_refused(WhenRefused::Drop));
    for writer in [&mut fails, &mut drops] {
        writer.write_all(b"begun").expect("write");
    }
    let counted = (fails.clone(), drops.clone());
    broker.close().expect("close");
    let error = fails.write_all(b" and ended\n").expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert!(matches!(inside(&error), Error::Closed));
    assert!(fails.flush().is_err());
    drops.write_all(b" and ended\nbegun").expect("never fails");
    drops.flush().expect("never fails");
    assert_eq!(drops.dropped(), 2);
    drop((fails, drops));
    assert_eq!((counted.0.dropped(), counted.1.dropped()), (1, 2), "what was left is counted");
}

#[test]
fn after_a_failed_sync_lines_are_refused_or_dropped() {
    let (disk, broker, log) = on_disk();
    let (fails, drops) = (log.writer(), log.writer().when_refused(WhenRefused::Drop));
    let (mut fails, mut drops) = (fails.acks(Acks::Synced), drops.acks(Acks::Synced));
    fails.write_all(b"one\ntwo\n").expect("write");
    disk.fail_at(disk.operations() + 1, ErrorKind::Other, Failure::Forever);
    let error = fails.write_all(b"three\nfour\n").expect_err("a sync failed");
    assert!(matches!(inside(&error), Error::Poisoned { .. }), "{error}");
    let count = values(&broker).len();
    for _ in 0..3 {
        fails.write(b"five\nsix\n").expect_err("it takes no more");
        drops.write_all(b"five\nsix\n").expect("it never fails");
    }
    assert_eq!(values(&broker).len(), count, "nothing comes twice");
    assert_eq!(drops.dropped(), 6);
}

#[test]
fn a_partitioner_that_panics_leaves_the_writer_as_it_was() {
    let (broker, log) = in_memory(TopicConfig::new());
    let panics = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let asks = std::sync::Arc::clone(&panics);
    let partitioner = Partitioner::custom(move |_, _| {
        if asks.load(std::sync::atomic::Ordering::Relaxed) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        0
    });
    let mut writer = log.partitioner(partitioner).writer().when_refused(WhenRefused::Drop);
    writer.write_all(b"begun").expect("nothing is sent");
    let mut call = std::panic::AssertUnwindSafe(&mut writer);
    assert!(std::panic::catch_unwind(move || call.write_all(b" and ended\n")).is_err());
    let mut other = writer.clone();
    other.write_all(b"dropped in a panic").expect("nothing is sent");
    drop(other);
    panics.store(false, std::sync::atomic::Ordering::Relaxed);
    writer.write_all(b", then ended\n").expect("write");
    assert_eq!(values(&broker), [b"begun, then ended"]);
}

#[test]
fn a_flush_does_not_sync_and_synced_lines_are() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let log = broker.create_topic("log", TopicConfig::new()).expect("create");
    let mut writer = log.writer();
    writer.write_all(b"one\ntwo").expect("write");
    writer.flush().expect("flush");
    assert_eq!((log.latest_offset(0).unwrap(), log.synced_offset(0).unwrap()), (2, 0));
    let mut writer = writer.acks(Acks::Synced);
    writer.write_all(b"three\n").expect("write");
    assert_eq!(log.synced_offset(0).unwrap(), 3);
    writer.write_all(b"four\nfive\nsix").expect("write");
    assert_eq!(log.synced_offset(0).unwrap(), 5);
    writer.flush().expect("flush");
    assert_eq!(log.synced_offset(0).unwrap(), 6);
}

#[test]
fn whoever_knows_only_write_can_use_it() {
    let (broker, log) = in_memory(TopicConfig::new());
    let mut writer = log.writer();
    let (a, b) = (1, "two");
    writeln!(writer, "{a} {b:?}").expect("writeln");
    io::copy(&mut &b"copied\nlines\n"[..], &mut writer).expect("copy");
    let mut buffered = BufWriter::with_capacity(7, writer.clone());
    buffered.write_all(b"a line longer than the buffer\nshort\n").expect("write");
    drop(buffered);
    let mut boxed: Box<dyn Write + Send> = Box::new(writer.clone());
    boxed.write_all(b"boxed\n").expect("write");
    let expected: [&[u8]; 6] =
        [b"1 \"two\"", b"copied", b"lines", b"a line longer than the buffer", b"short", b"boxed"];
    assert_eq!(values(&broker), expected);

    // A serializer writes bit by bit, in any bytes: a record is what is flushed.
    let mut buffered = BufWriter::new(log.writer().framing(Framing::Writes));
    let config = bincode::config::standard();
    for number in 0..3_u32 {
        let value = (number, "\n", vec![10_u8; 3]);
        bincode::encode_into_std_write(&value, &mut buffered, config).expect("encode");
        buffered.flush().expect("flush");
    }
    drop(buffered);
    let records = values(&broker);
    assert_eq!(records.len(), expected.len() + 3);
    for (number, bytes) in (0..3_u32).zip(&records[expected.len()..]) {
        let (value, _): ((u32, String, Vec<u8>), _) =
            bincode::decode_from_slice(bytes, config).expect("decode");
        assert_eq!(value, (number, "\n".to_owned(), vec![10; 3]));
    }
}

#[test]
fn clones_made_for_each_message_share_settings_and_account() {
    fn sink<W: Write + Clone + Send + Sync + 'static>(_: &W) {}
    let (broker, log) = in_memory(TopicConfig::new());
    let writer = log.writer().when_refused(WhenRefused::Drop).key("k");
    sink(&writer);
    let make = {
        let writer = writer.clone();
        move || writer.clone()
    };
    make().write_all(b"one\n").expect("write");
    make().write_all(b"two\n").expect("write");
    // A clone that is set otherwise leaves the others as they are.
    let mut other = make().key("other");
    other.write_all(b"three\n").expect("write");
    make().write_all(b"four\n").expect("write");
    let keys: Vec<_> = records(&broker).into_iter().filter_map(|record| record.key).collect();
    assert_eq!(keys, [&b"k"[..], b"k", b"other", b"k"]);
    broker.close().expect("close");
    make().write_all(b"five\n").expect("never fails");
    other.write_all(b"six\n").expect("never fails");
    assert_eq!(writer.dropped(), 2);
}

#[test]
fn a_deleted_topic_takes_no_more_lines() {
    let (broker, log) = in_memory(TopicConfig::new());
    let mut writer: TopicWriter = log.writer();
    broker.delete_topic("log").expect("delete");
    broker.create_topic("log", TopicConfig::new()).expect("create");
    let error = writer.write_all(b"one\ntwo\n").expect_err("it is another topic");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(values(&broker).is_empty());
}
