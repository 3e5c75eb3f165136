//! What was committed is there after a power cut at any operation: a prefix of it, with all that was
//! synced; and whatever operation fails, nothing is lost.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::background::{Background, Deferred, Job, Urgency};
use crate::error::Error;
use crate::group::entry::{Entry, MAX_ENTRY_BYTES, OffsetEntry, TopicEntry};
use crate::group::stored_offsets::StoredOffsets;
use crate::group::{Backwards, OffsetStore, TopicOffsets};
use crate::storage::{Storage, split_mix};
use crate::testing::{Failure, SimulatedDisk};

const DIR: &str = "/data/offsets";

/// What groups have committed: by group and partition.
type Known = BTreeMap<(u64, u32), u64>;

fn open(disk: &SimulatedDisk) -> Result<Arc<OffsetStore>, Error> {
    let storage: Arc<dyn Storage> = Arc::new(Arc::clone(&disk.shared));
    let background: Arc<dyn Background> = Arc::<Deferred>::default();
    OffsetStore::open(&storage, &background, Path::new(DIR).to_path_buf(), false, |_, _| true)
        .map(Arc::new)
}

fn offsets(partition: u32, offset: u64, metadata: &str) -> [TopicOffsets; 1] {
    let offsets = vec![(partition, (offset, metadata).into())];
    [TopicOffsets { topic: "topic".into(), id: 7, offsets }]
}

fn known(store: &OffsetStore) -> Known {
    let mut known = Known::new();
    for name in store.names() {
        let group = name.trim_start_matches("group-").parse().expect("number");
        for topic in store.group(&name).expect("group") {
            known.extend(topic.offsets.iter().map(|(at, offset)| ((group, *at), offset.offset)));
        }
    }
    known
}

/// A store, and everything it has known since it was opened.
struct Life {
    store: Arc<OffsetStore>,
    states: Vec<Known>,
    /// Which of them is on stable storage.
    synced: usize,
    next: u64,
}

impl Life {
    fn begin(disk: &SimulatedDisk, next: u64) -> Result<Self, Error> {
        let store = open(disk)?;
        let states = vec![known(&store)];
        Ok(Self { store, states, synced: 0, next })
    }

    /// Commits at random, until something fails or `commits` were made.
    fn commit(&mut self, random: &mut u64, commits: u64) -> Result<(), Error> {
        // Long texts fill a file soon, so that there are many files.
        let metadata = "m".repeat(400);
        for _ in 0..commits {
            let (group, partition) = (split_mix(random) % 5, (split_mix(random) % 4) as u32);
            let name = format!("group-{group}");
            let mut state = self.states.last().expect("a state").clone();
            self.next += 1;
            let written =
                if split_mix(random).is_multiple_of(40) && self.store.active_at(&name).is_some() {
                    state.retain(|(one, _), _| *one != group);
                    // It may be there although it failed.
                    self.states.push(state);
                    self.store.delete(&name, 0)?
                } else {
                    state.insert((group, partition), self.next);
                    self.states.push(state);
                    let offsets = offsets(partition, self.next, &metadata);
                    self.store.commit(&name, &offsets, Backwards::Refuse, 0)?
                };
            self.store.follow_up();
            if split_mix(random).is_multiple_of(30) {
                self.store.sync_to(written)?;
                self.synced = self.states.len() - 1;
            }
        }
        Ok(())
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_prefix_with_all_that_was_synced() {
    let seeds =
        std::env::var("FOREBAY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(20);
    let (mut cuts, mut lost) = (0, 0);
    for seed in 0..seeds {
        let mut random = seed;
        let mut disk = SimulatedDisk::new(seed);
        let mut next = 0;
        for _ in 0..4 {
            let cut_at = disk.operations() + split_mix(&mut random) % 120;
            disk.cut_power_at(cut_at);
            let Ok(mut life) = Life::begin(&disk, next) else {
                disk = disk.cut_power();
                continue;
            };
            drop(life.commit(&mut random, 600));
            next = life.next;
            disk = disk.cut_power();
            cuts += 1;
            let after = known(&open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}")));
            let kept = life.states.iter().rposition(|state| *state == after);
            let kept = kept.unwrap_or_else(|| panic!("seed {seed}: {after:?} was never known"));
            assert!(kept >= life.synced, "seed {seed}: {kept} is kept, {} was synced", life.synced);
            lost += usize::from(kept + 1 < life.states.len());
        }
    }
    assert!(
        cuts > 2 * seeds && lost > seeds as usize / 2,
        "{cuts} cuts, {lost} took something away"
    );
}

#[test]
fn an_operation_that_fails_loses_nothing() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for at in 0.. {
            let disk = SimulatedDisk::new(at);
            disk.fail_at(disk.operations() + at, kind, Failure::Once);
            let mut random = at;
            let mut begun = Life::begin(&disk, 0);
            if begun.is_err() {
                begun = Life::begin(&disk, 0);
            }
            let mut life = begun.expect("it fails once");
            let failed = life.commit(&mut random, 900);
            if let Err(error) = &failed {
                assert!(
                    matches!(
                        error,
                        Error::StorageFull { .. }
                            | Error::Io { .. }
                            | Error::OffsetsPoisoned { .. }
                    ),
                    "{error}"
                );
            }
            let is_over = disk.operations() < at;
            drop(life.store.close());
            disk.fail_at(u64::MAX, kind, Failure::Once);
            let after = known(&open(&disk).expect("reopen"));
            let states = &life.states[life.states.len().saturating_sub(2)..];
            assert!(states.contains(&after), "operation {at}, {failed:?}");
            if is_over {
                assert!(at > 20, "{at} operations");
                break;
            }
        }
    }
}

#[test]
fn commits_go_on_when_the_disk_is_full() {
    let disk = SimulatedDisk::new(1);
    let mut life = Life::begin(&disk, 0).expect("open");
    let mut random = 5;
    life.commit(&mut random, 50).expect("commits");
    disk.set_full(true);
    life.commit(&mut random, 2000).expect("there is a spare file");
    // So they do when the broker was opened anew, after a crash too.
    let mut life = Life::begin(&disk, life.next).expect("open");
    life.commit(&mut random, 2000).expect("there is a spare file");
    let disk = disk.cut_power();
    disk.set_full(true);
    let mut life = Life::begin(&disk, life.next).expect("open");
    life.commit(&mut random, 2000).expect("there is a spare file");
}

#[test]
fn files_are_bounded_and_a_file_that_stands_alone_is_not_taken_for_unfinished() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let storage: Arc<dyn Storage> = disk();
    let background: Arc<dyn Background> = Arc::<Deferred>::default();
    let path = dir.path().join("offsets");
    let open =
        || OffsetStore::open(&storage, &background, path.clone(), false, |_, _| true).map(Arc::new);
    let sizes = || -> Vec<u64> {
        let files = std::fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry"));
        files.map(|file| file.metadata().expect("metadata").len()).collect()
    };
    let store = open().expect("open");
    for offset in 0..200_000 {
        store.commit("g", &offsets(0, offset, ""), Backwards::Refuse, 0).expect("commit");
        store.follow_up();
    }
    assert!(sizes().len() <= 3, "{:?}", sizes());
    assert!(sizes().iter().sum::<u64>() <= 16 << 20, "{:?}", sizes());
    store.close().expect("close");
    assert!(matches!(
        store.commit("g", &offsets(0, 1, ""), Backwards::Keep, 0),
        Err(Error::Closed)
    ));
    let store = open().expect("open");
    assert_eq!(store.committed_in("g", "topic", 7, 0), Some(199_999.into()));
    store.flush().expect("flush");
    drop(store);
    let files = std::fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some()).collect();
    files.sort();
    let current = files.pop().expect("a file");
    for older in files {
        std::fs::remove_file(older).expect("remove");
    }
    let mut bytes = std::fs::read(&current).expect("read");
    bytes[40] ^= 1;
    std::fs::write(&current, &bytes).expect("write");
    match open() {
        Err(Error::Corrupt { path, .. }) => assert_eq!(path, current),
        other => panic!("{other:?}"),
    }
}

/// Another broker may own the directory as soon as this one has closed.
#[test]
fn nothing_is_done_in_the_directory_after_the_store_was_closed() {
    for round in 0..60 {
        let dir = tempfile::tempdir().expect("temporary directory");
        let storage: Arc<dyn Storage> = disk();
        let background: Arc<dyn Background> = Arc::<Deferred>::default();
        let path = dir.path().join("offsets");
        let store = OffsetStore::open(&storage, &background, path.clone(), false, |_, _| true);
        let store = Arc::new(store.expect("open"));
        store.prepare().expect("prepare");
        let names = || -> Vec<_> {
            let entries = std::fs::read_dir(&path).expect("list");
            let mut names: Vec<_> = entries
                .map(|entry| entry.expect("entry"))
                .map(|entry| (entry.file_name(), std::fs::read(entry.path()).expect("read")))
                .collect();
            names.sort();
            names
        };
        std::thread::scope(|scope| {
            for partition in 0..3 {
                let store = &store;
                scope.spawn(move || {
                    let metadata = "m".repeat(4000);
                    for offset in 0.. {
                        let offsets = offsets(partition, offset, &metadata);
                        match store.commit("group-1", &offsets, Backwards::Keep, 0) {
                            Ok(_) => {}
                            Err(Error::Closed) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_micros(500 + round * 137));
            store.close().expect("close");
            let before = names();
            std::thread::sleep(std::time::Duration::from_millis(3));
            assert!(before == names(), "round {round}");
        });
    }
}

/// Whoever asks for a commit to be synced is not to be told so because nothing had to be written.
#[test]
fn what_is_found_counts_as_written_and_not_as_synced() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let store = open(&disk).expect("open");
        store.prepare().expect("prepare");
        store.commit("g", &offsets(0, 100, ""), Backwards::Refuse, 0).expect("commit");
        // A process that is killed leaves what it has written in the page cache alone.
        drop(store);
        let store = open(&disk).expect("open");
        assert_eq!(store.committed_in("g", "topic", 7, 0), Some(100.into()));
        let again = store.commit("g", &offsets(0, 100, ""), Backwards::Refuse, 0).expect("commit");
        store.sync_to(again).expect("sync");
        let disk = disk.cut_power();
        let store = open(&disk).expect("open");
        assert_eq!(store.committed_in("g", "topic", 7, 0), Some(100.into()), "seed {seed}");
    }
}

/// Leaves every job undone.
#[derive(Debug)]
struct Never;

impl Background for Never {
    fn submit(&self, _urgency: Urgency, _job: Job) {}

    fn submit_after(&self, _delay: std::time::Duration, _job: Job) {}

    fn stop(&self) {}
}

/// A commit that waits for the store's lock while it is closed begins no file, and is not told that it
/// was written.
#[test]
fn a_commit_that_meets_a_close_is_kept_or_refused() {
    let text = "m".repeat(4000);
    // All but the last are committed already: looking at them takes a while.
    let mut many: Vec<_> = (0..20_000).map(|_| (5, 1.into())).collect();
    many.push((99_999, 42.into()));
    let many = [TopicOffsets { topic: "topic".into(), id: 7, offsets: many }];
    for round in 0..20 {
        let dir = tempfile::tempdir().expect("temporary directory");
        let storage: Arc<dyn Storage> = disk();
        let background: Arc<dyn Background> = Arc::new(Never);
        let path = dir.path().join("offsets");
        let open = || {
            let store = OffsetStore::open(&storage, &background, path.clone(), false, |_, _| true);
            Arc::new(store.expect("open"))
        };
        let names = || -> Vec<_> {
            let entries = std::fs::read_dir(&path).expect("list");
            let mut names: Vec<_> = entries
                .map(|entry| entry.expect("entry"))
                .map(|entry| (entry.file_name(), std::fs::read(entry.path()).expect("read")))
                .collect();
            names.sort();
            names
        };
        // A process that is killed just after it began another file: the one before is there still.
        let store = open();
        store.commit("g", &offsets(5, 1, ""), Backwards::Refuse, 0).expect("commit");
        for offset in 0..20 {
            store.commit("g", &offsets(0, offset, &text), Backwards::Refuse, 0).expect("commit");
        }
        drop(store);
        let store = open();
        std::thread::scope(|scope| {
            let commit = scope.spawn(|| store.commit("g", &many, Backwards::Refuse, 0));
            std::thread::sleep(std::time::Duration::from_micros(round * 300));
            store.close().expect("close");
            let before = names();
            let result = commit.join().expect("thread");
            assert!(before == names(), "round {round}");
            let found = open().committed_in("g", "topic", 7, 99_999);
            assert_eq!(result.is_ok(), found.is_some(), "round {round}: {result:?}");
        });
    }
}

/// No entry is written that is too long to be read again: a commit that long is refused, and what a
/// file begins with stands in several.
#[test]
fn many_partitions_with_long_texts_can_be_read_again() {
    let text = "m".repeat(4096);
    let mut known = StoredOffsets::default();
    for part in 0..2 {
        let entry = |partition| OffsetEntry { partition, offset: 1, metadata: &text };
        let offsets = (part * 2500..(part + 1) * 2500).map(entry).collect();
        let topics = vec![TopicEntry { topic: "topic", id: 7, offsets }];
        known.apply(&Entry::Commit { group: "g", topics }, 0);
    }
    let mut again = StoredOffsets::default();
    for (at, body) in known.snapshot() {
        assert!(body.len() <= MAX_ENTRY_BYTES, "{} bytes", body.len());
        again.apply(&Entry::decode(&body).expect("decode"), at);
    }
    let stored = again.topic("g", "topic", 7).expect("topic");
    assert_eq!(stored.partitions.len(), 5000);

    let disk = SimulatedDisk::new(1);
    let store = open(&disk).expect("open");
    let commit = |partitions: u32| {
        let offset = |partition| (partition, (1, text.as_str()).into());
        let offsets = (0..partitions).map(offset).collect();
        let offsets = [TopicOffsets { topic: "topic".into(), id: 7, offsets }];
        store.commit("g", &offsets, Backwards::Refuse, 0).map(drop)
    };
    assert!(matches!(commit(5000), Err(Error::CommitMetadataTooLong { .. })));
    commit(20).expect("commit");
    store.close().expect("close");
    let store = open(&disk).expect("open");
    assert_eq!(store.group("g").expect("group")[0].offsets.len(), 20);
}

fn disk() -> Arc<dyn Storage> {
    let here = Path::new(".");
    Arc::new(crate::storage::disk::Disk::new(here, crate::FileAccess::Mapped).expect("a disk"))
}
