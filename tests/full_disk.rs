//! A full disk is an error, passes, and is never a signal: on tmpfs, ext4, xfs and btrfs, with the
//! disk filled by the broker, before it, beside it, and under files that share their blocks.
//!
//! Each test mounts a file system of its own, which needs root, and runs the broker in a process of
//! its own, this test again, so that a signal is seen as what ended that process.
//!
//! `cargo test --test full_disk -- --ignored`; `child` among them is what the others run.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![cfg(target_os = "linux")]

mod mounts;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use forebay::{Acks, Broker, Error, Record, ResetTo, Start, Topic, TopicConfig};
use mounts::{Kind, Mounted, drown, free_bytes, run};

const ROLE: &str = "FOREBAY_FULL_DISK_ROLE";
const SHARED: &str = "FOREBAY_FULL_DISK_SHARED";
const DIR: &str = "FOREBAY_FULL_DISK_DIR";
const ACKS: &str = "FOREBAY_FULL_DISK_ACKS";
const TOLD: &str = "FOREBAY_FULL_DISK_TOLD";
const PARTITIONS: u32 = 3;
/// What is left of a disk before a broker fills it.
const LEFT: u64 = 20 << 20;
/// How long appends may take to go on by themselves when there is space again.
const PATIENCE: Duration = Duration::from_secs(20);

/// The broker under test.
fn open(dir: &Path) -> Broker {
    Broker::open(dir).expect("open")
}

/// What a record holds: its length, and bytes that follow from its place.
fn value(partition: u32, offset: u64, length: usize) -> Vec<u8> {
    let mut value = (length as u32).to_le_bytes().to_vec();
    let filler = |at: usize| (at as u64 * 31 + offset * 7 + u64::from(partition) * 101) as u8;
    value.extend((4..length).map(filler));
    value
}

/// How many records are in each partition, and how many of them the group is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    records: [u64; PARTITIONS as usize],
    committed: [u64; PARTITIONS as usize],
}

impl Told {
    fn of(broker: &Broker) -> Self {
        let topic = broker.topic("t").expect("topic");
        let committed = |partition| broker.committed("g", "t", partition).expect("committed");
        Self {
            records: [0, 1, 2].map(|partition| topic.latest_offset(partition).expect("offset")),
            committed: [0, 1, 2].map(|partition| committed(partition).map_or(0, |at| at.offset)),
        }
    }

    fn is_kept_by(&self, later: &Self) -> bool {
        let kept =
            |before: &[u64], now: &[u64]| before.iter().zip(now).all(|(old, new)| old <= new);
        kept(&self.records, &later.records) && kept(&self.committed, &later.committed)
    }

    /// Says it to the other process.
    fn tell(&self) {
        let numbers: Vec<_> =
            self.records.iter().chain(&self.committed).map(ToString::to_string).collect();
        eprintln!("{TOLD} {}", numbers.join(" "));
    }

    fn parse(text: &str) -> Self {
        let numbers: Vec<u64> =
            text.split_whitespace().map(|number| number.parse().expect("number")).collect();
        let three = |from: usize| numbers[from..from + 3].try_into().expect("three numbers");
        Self { records: three(0), committed: three(3) }
    }

    /// What a child said last.
    fn last_in(said: &str) -> Self {
        let line = said.lines().rev().find_map(|line| line.strip_prefix(TOLD));
        Self::parse(line.unwrap_or_else(|| panic!("it told nothing: {said}")))
    }
}

// The side of the child.

fn acks() -> Acks {
    if std::env::var(ACKS).is_ok_and(|acks| acks == "synced") {
        Acks::Synced
    } else {
        Acks::Written
    }
}

fn topic(broker: &Broker) -> Topic {
    let config = TopicConfig::new().partitions(PARTITIONS).segment_bytes(1 << 20);
    broker.create_topic_if_absent("t", config).expect("create").acks(acks())
}

/// Sends a record, and says whether it was taken; if not, then because the disk is full.
fn send(topic: &Topic, partition: u32, length: usize) -> bool {
    let offset = topic.latest_offset(partition).expect("offset");
    let value = value(partition, offset, length);
    match topic.send(Record::new(&value).partition(partition)) {
        Ok(sent) => {
            assert_eq!(sent.offset, offset);
            true
        }
        Err(Error::StorageFull { .. }) => {
            assert_eq!(topic.latest_offset(partition).expect("offset"), offset);
            false
        }
        Err(error) => panic!("sending {length} bytes to partition {partition}: {error}"),
    }
}

/// Sends until no partition takes even the smallest record.
fn fill(topic: &Topic) {
    let lengths =
        if acks() == Acks::Synced { [60_000, 6_000, 400, 4] } else { [6_000, 700, 60, 4] };
    for length in lengths {
        let mut takes = [true; PARTITIONS as usize];
        while takes.contains(&true) {
            for (partition, takes) in (0..).zip(&mut takes) {
                *takes = *takes && send(topic, partition, length);
            }
        }
    }
}

fn send_some(topic: &Topic, count: usize) {
    for number in 0..count {
        for partition in 0..PARTITIONS {
            assert!(send(topic, partition, 4 + number * 37 % 3_000), "there is room");
        }
    }
}

/// Reads every record there is and compares each byte.
fn read_all(broker: &Broker) {
    let topic = broker.topic("t").expect("topic");
    for partition in 0..PARTITIONS {
        let mut reader =
            broker.reader().partition("t", partition, Start::Earliest).open().expect("reader");
        let mut next = 0;
        loop {
            let batch = reader.try_poll().expect("poll");
            if batch.is_empty() {
                break;
            }
            for record in &batch {
                let found = record.value().expect("value");
                assert_eq!(record.offset(), next);
                assert_eq!(found, value(partition, next, found.len()), "partition {partition}");
                next += 1;
            }
        }
        assert_eq!(next, topic.latest_offset(partition).expect("offset"), "partition {partition}");
    }
}

/// The group reads to the end and commits after each few records: that works on any disk.
fn commit_all(broker: &Broker) {
    let mut consumer =
        broker.consumer("g").subscribe(["t"]).max_records(4).open().expect("join the group");
    let mut is_committed = true;
    for step in 0.. {
        if consumer.try_poll().expect("poll").is_empty() {
            break;
        }
        let acks = if step % 20 == 0 { Acks::Synced } else { Acks::Written };
        is_committed &= is_done(consumer.commit_with(acks));
    }
    is_committed &= is_done(consumer.close());
    commit_again(broker);
    let told = Told::of(broker);
    assert!(!is_committed || told.records == told.committed, "{told:?}");
}

/// Whether blocks of the directory are shared with a copy of it, or were never there. Then, without a
/// byte free, even a commit may need a block that is not to be had: an error, and never a signal.
fn blocks_may_be_missing() -> bool {
    std::env::var(SHARED).is_ok()
}

/// Whether a commit was made; if not, then because it needed a block on a full disk.
fn is_done(result: forebay::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(Error::StorageFull { .. } | Error::NotSynced { .. }) if blocks_may_be_missing() => {
            false
        }
        Err(error) => panic!("a commit: {error}"),
    }
}

/// Commits that are always written, backwards and forwards, each on stable storage.
fn commit_again(broker: &Broker) {
    for to in [ResetTo::Earliest, ResetTo::Latest] {
        is_done(broker.reset_offsets("other", to).topic("t").execute().map(drop));
    }
}

/// Closes, which on a full disk may leave to the next open what needs space.
fn close(broker: &Broker) {
    match broker.close() {
        Ok(()) => {}
        Err(Error::StorageFull { path, .. } | Error::NotSynced { path, .. }) => {
            println!("\nclosed without space for {}", path.display());
        }
        Err(error) => panic!("close: {error}"),
    }
}

/// Waits until the test says to go on.
fn wait_for_a_word() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a word");
}

/// What is done in the process of its own: as its role says, in the directory `mounted`.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIR)) else { return };
    let dir = PathBuf::from(dir);
    match role.as_str() {
        "fill, then find space" => fill_then_find_space(&dir),
        "some" => {
            let broker = open(&dir);
            send_some(&topic(&broker), 200);
            commit_all(&broker);
            broker.close().expect("close");
        }
        "fill" => {
            let broker = open(&dir);
            let topic = topic(&broker);
            send_some(&topic, 10);
            commit_all(&broker);
            fill(&topic);
            read_all(&broker);
            commit_all(&broker);
            Told::of(&broker).tell();
            close(&broker);
        }
        "fill until killed" => fill_until_killed(&dir),
        "go on" => go_on(&dir),
        "beside another" => beside_another(&dir),
        "around a word" => {
            let broker = open(&dir);
            let topic = topic(&broker);
            send_some(&topic, 200);
            commit_all(&broker);
            eprintln!("ready");
            wait_for_a_word();
            // Where blocks are shared with a copy, a store into a mapping needs a new one; what keeps
            // that from happening on a full disk is the reserve, which is looked at once a second.
            std::thread::sleep(Duration::from_millis(1_500));
            fill(&topic);
            read_all(&broker);
            commit_all(&broker);
            close(&broker);
        }
        "roll without leave" => roll_without_leave(&dir),
        "be refused" => match Broker::open(&dir) {
            Ok(_) => panic!("it was opened"),
            Err(error) => {
                let is_typed = matches!(error, Error::ReadOnly { .. } | Error::Io { .. });
                assert!(is_typed, "{error:?}");
                eprintln!("refused: {error}");
                read_what_is_there(&dir);
            }
        },
        role => panic!("no role is called {role}"),
    }
}

/// Reads a directory that cannot be written to, if there is one.
fn read_what_is_there(dir: &Path) {
    if dir.join("topics/t").exists() {
        let broker = Broker::builder(dir).read_only().open().expect("open to read");
        read_all(&broker);
        let topic = broker.topic("t").expect("topic");
        assert!(topic.latest_offset(0).expect("offset") > 0);
        let refused = topic.send(Record::new("no"));
        assert!(matches!(refused, Err(Error::ReadOnly { .. })), "{refused:?}");
        broker.close().expect("close");
    }
}

fn fill_then_find_space(dir: &Path) {
    let mounted = dir.parent().expect("it is in the file system");
    let broker = open(dir);
    let topic = topic(&broker);
    send_some(&topic, 10);
    commit_all(&broker);
    fill(&topic);
    drown(&mounted.join("rest"));
    fill(&topic);
    read_all(&broker);
    commit_all(&broker);
    assert!((0..PARTITIONS).all(|partition| !send(&topic, partition, 1_000_000)));
    fs::remove_file(mounted.join("ballast")).expect("remove");
    rustix::fs::syncfs(fs::File::open(mounted).expect("open")).expect("sync");
    let since = Instant::now();
    for partition in 0..PARTITIONS {
        while !send(&topic, partition, 6_000) {
            assert!(since.elapsed() < PATIENCE, "there are {} bytes", free_bytes(mounted));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    send_some(&topic, 50);
    topic.flush().expect("flush");
    read_all(&broker);
    commit_all(&broker);
    // And once more, with what is left, to be closed on a full disk.
    drown(&mounted.join("rest"));
    fill(&topic);
    close(&broker);
    let before = Told::parse(&["1"; 6].join(" "));
    let broker = open(dir);
    assert!(before.is_kept_by(&Told::of(&broker)));
    read_all(&broker);
}

fn fill_until_killed(dir: &Path) {
    let broker = open(dir);
    let topic = topic(&broker);
    send_some(&topic, 10);
    commit_all(&broker);
    fill(&topic);
    drown(&dir.with_file_name("rest"));
    commit_all(&broker);
    Told::of(&broker).tell();
    for partition in (0..PARTITIONS).cycle() {
        send(&topic, partition, 1_000);
        broker
            .reset_offsets("other", forebay::ResetTo::Latest)
            .topic("t")
            .execute()
            .expect("reset");
    }
}

/// Opens what an earlier process left on a disk that is full, and works with it.
fn go_on(dir: &Path) {
    let told = Told::parse(&std::env::var(TOLD).expect("what was told before"));
    let broker = open(dir);
    let found = Told::of(&broker);
    assert!(told.is_kept_by(&found), "{told:?} was told, {found:?} is there");
    read_all(&broker);
    let topic = topic(&broker);
    fill(&topic);
    read_all(&broker);
    commit_all(&broker);
    Told::of(&broker).tell();
    close(&broker);
}

/// Sends while another process takes the space and gives it back, until it says that it is done.
fn beside_another(dir: &Path) {
    let broker = open(dir);
    let topic = topic(&broker);
    send_some(&topic, 1);
    commit_all(&broker);
    let done = std::thread::spawn(wait_for_a_word);
    eprintln!("ready");
    let mut refused = 0;
    for number in 0.. {
        if done.is_finished() {
            break;
        }
        let taken = send(&topic, number % PARTITIONS, 4 + number as usize * 37 % 3_000);
        refused += u32::from(!taken);
        if !taken {
            std::thread::sleep(Duration::from_millis(1));
        }
        if number % 50 == 0 {
            commit_again(&broker);
        }
    }
    read_all(&broker);
    commit_all(&broker);
    println!("\nrefused {refused} times");
    close(&broker);
}

/// Sends to a partition whose directory takes no files until that has passed.
fn roll_without_leave(dir: &Path) {
    let broker = open(dir);
    let config = TopicConfig::new().segment_bytes(64 << 10);
    let topic = broker.create_topic("t", config).expect("create");
    let partition = dir.join("topics/t/0");
    let mut sent = 0;
    while sent < 10 {
        topic.send(Record::new(&value(0, sent, 2_000))).expect("send");
        sent += 1;
    }
    run(Command::new("chattr").arg("+i").arg(&partition));
    let error = loop {
        match topic.send(Record::new(&value(0, sent, 2_000))) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100, "the segment is full before");
    };
    assert!(matches!(error, Error::Io { .. }), "{error}");
    run(Command::new("chattr").arg("-i").arg(&partition));
    let next = topic.send(Record::new(&value(0, sent, 2_000))).expect("it has passed");
    assert_eq!(next.offset, sent);
    broker.close().expect("close");
}

// The side of the test.

fn child_in(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdin(Stdio::null());
    command
}

/// Runs a child to its end, which must be a good one, and returns what it said.
fn ends_well(command: &mut Command) -> String {
    let output = command.output().expect("run");
    assert_ended_well(output.status, &String::from_utf8_lossy(&output.stderr))
}

fn assert_ended_well(status: std::process::ExitStatus, said: &str) -> String {
    assert!(status.success(), "the process with the broker ended by {status}\n{said}");
    said.to_owned()
}

/// A child that has said that it is ready.
struct Ready {
    child: Child,
    says: BufReader<std::process::ChildStderr>,
    said: String,
}

impl Ready {
    fn new(command: &mut Command, word: &str) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("run");
        let mut says = BufReader::new(child.stderr.take().expect("pipe"));
        let mut said = String::new();
        while !said.lines().any(|line| line.starts_with(word)) {
            if says.read_line(&mut said).expect("read") == 0 {
                let status = child.wait().expect("wait");
                panic!("the process with the broker ended by {status}\n{said}");
            }
        }
        Self { child, says, said }
    }

    /// Says to go on, and waits for a good end.
    fn go_on(mut self) {
        let mut pipe = self.child.stdin.take().expect("pipe");
        // One that has ended cannot be told, and is looked at below.
        drop(pipe.write_all(b"go on\n"));
        self.says.read_to_string(&mut self.said).expect("read");
        assert_ended_well(self.child.wait().expect("wait"), &self.said);
    }

    /// As `kill -9`.
    fn kill(mut self) -> String {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
        self.said
    }
}

/// Opens what was left again and again, on a disk that has not a byte.
fn goes_on_at_zero_bytes(mounted: &Mounted, told: Told) {
    opened_at_zero_bytes(mounted, told, false);
}

/// As [`goes_on_at_zero_bytes`], for a directory whose blocks may be shared or missing.
fn opened_at_zero_bytes(mounted: &Mounted, mut told: Told, shared: bool) {
    for _ in 0..3 {
        drown(&mounted.path().join("rest"));
        let dir = mounted.path().join("data");
        let mut command = child_in("go on", &dir);
        let numbers: Vec<_> =
            told.records.iter().chain(&told.committed).map(ToString::to_string).collect();
        if shared {
            command.env(SHARED, "1");
        }
        let later = Told::last_in(&ends_well(command.env(TOLD, numbers.join(" "))));
        assert!(told.is_kept_by(&later));
        told = later;
    }
}

fn a_disk_filled_by_the_broker_is_an_error_and_passes(kind: Kind, acks: &str) {
    let Some(mounted) = Mounted::new(kind) else { return };
    // The broker finds room of its own, and twice as much when this is removed.
    mounted.reserve("other", 2 * LEFT);
    mounted.reserve("ballast", LEFT);
    let dir = mounted.path().join("data");
    ends_well(child_in("fill, then find space", &dir).env(ACKS, acks));
}

fn a_broker_closed_on_a_full_disk_goes_on_at_zero_bytes(kind: Kind) {
    let Some(mounted) = Mounted::new(kind) else { return };
    mounted.reserve("ballast", LEFT);
    let told = Told::last_in(&ends_well(&mut child_in("fill", &mounted.path().join("data"))));
    assert!(told.records.iter().all(|count| *count > 50), "{told:?}");
    goes_on_at_zero_bytes(&mounted, told);
}

fn a_broker_killed_on_a_full_disk_goes_on_at_zero_bytes(kind: Kind) {
    let Some(mounted) = Mounted::new(kind) else { return };
    mounted.reserve("ballast", LEFT);
    let dir = mounted.path().join("data");
    let child = Ready::new(&mut child_in("fill until killed", &dir), TOLD);
    std::thread::sleep(Duration::from_millis(30));
    goes_on_at_zero_bytes(&mounted, Told::last_in(&child.kill()));
}

fn space_taken_by_another_process_is_an_error(kind: Kind) {
    let Some(mounted) = Mounted::new(kind) else { return };
    mounted.reserve("ballast", LEFT);
    let dir = mounted.path().join("data");
    let child = Ready::new(&mut child_in("beside another", &dir), "ready");
    let other = mounted.path().join("other");
    for _ in 0..5 {
        let mut file = fs::File::create(&other).expect("create");
        let block = vec![0x5a; 64 << 10];
        loop {
            match file.write_all(&block) {
                Ok(()) => std::thread::sleep(Duration::from_micros(300)),
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        std::thread::sleep(Duration::from_millis(50));
        fs::remove_file(&other).expect("remove");
    }
    drown(&mounted.path().join("rest"));
    std::thread::sleep(Duration::from_millis(100));
    child.go_on();
}

fn a_read_only_mount_is_an_error_that_names_the_directory(kind: Kind) {
    let Some(mounted) = Mounted::new(kind) else { return };
    ends_well(&mut child_in("some", &mounted.path().join("data")));
    let read_only = Mounted::read_only(mounted.path());
    for name in ["data", "none"] {
        let dir = read_only.path().join(name);
        let said = ends_well(&mut child_in("be refused", &dir));
        let refusal = said.lines().find(|line| line.starts_with("refused: ")).expect("a refusal");
        assert!(refusal.contains(&*dir.to_string_lossy()), "{refusal}");
        println!("{refusal}");
    }
}

/// A directory with three lives of a broker in it; from the third on, commits go to a file that was
/// written before.
fn three_lives(dir: &Path) -> Told {
    for _ in 0..3 {
        ends_well(&mut child_in("some", dir));
    }
    Told { records: [600; 3], committed: [600; 3] }
}

/// Copies of a directory, by a backup for instance, may have holes where blocks were reserved.
fn a_copy_with_holes_is_used_on_a_full_disk(kind: Kind) {
    let Some(mounted) = Mounted::new(kind) else { return };
    mounted.reserve("ballast", LEFT);
    let (origin, dir) = (mounted.path().join("origin"), mounted.path().join("data"));
    let told = three_lives(&origin);
    let sparse = ["-r", "--reflink=never", "--sparse=always"];
    run(Command::new("cp").args(sparse).arg(&origin).arg(&dir));
    opened_at_zero_bytes(&mounted, told, true);
}

/// Copies by sharing blocks.
fn reflink(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-r", "--reflink=auto"]).arg(from).arg(to));
}

fn a_copy_that_shares_its_blocks_is_used_on_a_full_disk(kind: Kind) {
    let Some(mounted) = Mounted::new(kind) else { return };
    mounted.reserve("ballast", LEFT);
    let origin = mounted.path().join("origin");
    let told = three_lives(&origin);
    reflink(&origin, &mounted.path().join("data"));
    opened_at_zero_bytes(&mounted, told, true);
}

fn a_broker_whose_files_are_copied_by_sharing_blocks_meets_a_full_disk(kind: Kind) {
    let Some(mounted) = Mounted::new(kind) else { return };
    mounted.reserve("ballast", LEFT);
    let dir = mounted.path().join("data");
    let child = Ready::new(child_in("around a word", &dir).env(SHARED, "1"), "ready");
    reflink(&dir, &mounted.path().join("copy"));
    drown(&mounted.path().join("rest"));
    child.go_on();
}

macro_rules! on {
    ($name:ident, $kind:expr) => {
        mod $name {
            use super::*;

            #[test]
            #[ignore = "needs root: see tests/README.md"]
            fn a_disk_filled_by_the_broker_is_an_error_and_passes() {
                super::a_disk_filled_by_the_broker_is_an_error_and_passes($kind, "written");
            }

            #[test]
            #[ignore = "needs root: see tests/README.md"]
            fn a_disk_filled_with_synced_records_is_an_error_and_passes() {
                super::a_disk_filled_by_the_broker_is_an_error_and_passes($kind, "synced");
            }

            #[test]
            #[ignore = "needs root: see tests/README.md"]
            fn a_broker_closed_on_a_full_disk_goes_on_at_zero_bytes() {
                super::a_broker_closed_on_a_full_disk_goes_on_at_zero_bytes($kind);
            }

            #[test]
            #[ignore = "needs root: see tests/README.md"]
            fn a_broker_killed_on_a_full_disk_goes_on_at_zero_bytes() {
                super::a_broker_killed_on_a_full_disk_goes_on_at_zero_bytes($kind);
            }

            #[test]
            #[ignore = "needs root: see tests/README.md"]
            fn a_copy_with_holes_is_used_on_a_full_disk() {
                super::a_copy_with_holes_is_used_on_a_full_disk($kind);
            }

            #[test]
            #[ignore = "needs root: see tests/README.md"]
            fn space_taken_by_another_process_is_an_error() {
                super::space_taken_by_another_process_is_an_error($kind);
            }

            #[test]
            #[ignore = "needs root: see tests/README.md"]
            fn a_read_only_mount_is_an_error_that_names_the_directory() {
                super::a_read_only_mount_is_an_error_that_names_the_directory($kind);
            }
        }
    };
}

on!(tmpfs, Kind::Tmpfs);
on!(ext4, Kind::Ext4);
on!(xfs, Kind::Xfs);
on!(btrfs, Kind::Btrfs);

#[test]
#[ignore = "needs root: see tests/README.md"]
fn xfs_a_copy_that_shares_its_blocks_is_used_on_a_full_disk() {
    a_copy_that_shares_its_blocks_is_used_on_a_full_disk(Kind::Xfs);
}

#[test]
#[ignore = "needs root: see tests/README.md"]
fn btrfs_a_copy_that_shares_its_blocks_is_used_on_a_full_disk() {
    a_copy_that_shares_its_blocks_is_used_on_a_full_disk(Kind::Btrfs);
}

#[test]
#[ignore = "needs root: see tests/README.md"]
fn xfs_a_broker_whose_files_are_copied_by_sharing_blocks_meets_a_full_disk() {
    a_broker_whose_files_are_copied_by_sharing_blocks_meets_a_full_disk(Kind::Xfs);
}

#[test]
#[ignore = "needs root: see tests/README.md"]
fn btrfs_a_broker_whose_files_are_copied_by_sharing_blocks_meets_a_full_disk() {
    a_broker_whose_files_are_copied_by_sharing_blocks_meets_a_full_disk(Kind::Btrfs);
}

#[test]
#[ignore = "needs root: see tests/README.md"]
fn btrfs_a_broker_of_which_a_snapshot_was_made_meets_a_full_disk() {
    let Some(mounted) = Mounted::new(Kind::Btrfs) else { return };
    let (volume, snapshot) = (mounted.path().join("volume"), mounted.path().join("snapshot"));
    run(Command::new("btrfs").args(["subvolume", "create"]).arg(&volume));
    mounted.reserve("ballast", LEFT);
    let child =
        Ready::new(child_in("around a word", &volume.join("data")).env(SHARED, "1"), "ready");
    run(Command::new("btrfs").args(["subvolume", "snapshot"]).arg(&volume).arg(&snapshot));
    drown(&mounted.path().join("rest"));
    child.go_on();
}

/// Files and directories that even root may not change, until it takes that back.
#[test]
#[ignore = "needs root: see tests/README.md"]
fn an_immutable_directory_is_an_error_that_names_it() {
    let Some(mounted) = Mounted::new(Kind::Ext4) else { return };
    let (empty, dir) = (mounted.path().join("empty"), mounted.path().join("data"));
    fs::create_dir(&empty).expect("create");
    ends_well(&mut child_in("some", &dir));
    for dir in [&empty, &dir] {
        run(Command::new("chattr").args(["-R", "+i"]).arg(dir));
        let said = ends_well(&mut child_in("be refused", dir));
        run(Command::new("chattr").args(["-R", "-i"]).arg(dir));
        let refusal = said.lines().find(|line| line.starts_with("refused: ")).expect("a refusal");
        assert!(refusal.contains(&*dir.to_string_lossy()), "{refusal}");
        println!("{refusal}");
    }
    let told = Told { records: [200; 3], committed: [200; 3] };
    goes_on_at_zero_bytes(&mounted, told);
}

#[test]
#[ignore = "needs root: see tests/README.md"]
fn a_partition_directory_that_takes_no_files_is_an_error_and_passes() {
    let Some(mounted) = Mounted::new(Kind::Ext4) else { return };
    ends_well(&mut child_in("roll without leave", &mounted.path().join("data")));
}
