//! "A send does not allocate": counted, over sends of every kind the promise is made for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay::{Broker, Record, Topic, TopicConfig, TopicWriter};

/// Counts how often memory is asked for.
struct Counted;

static CALLS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator that counts can be made in no other way")]
// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

const SENDS: u64 = 10_000;

/// How often memory was asked for in many sends. The index grows now and then, and so does the
/// segment: a few times in all, not a few times each.
fn allocations(send: impl Fn(u64)) -> u64 {
    (0..100).for_each(&send);
    let before = CALLS.load(Ordering::Relaxed);
    (0..SENDS).for_each(send);
    CALLS.load(Ordering::Relaxed) - before
}

#[test]
fn a_send_does_not_allocate() {
    let broker = Broker::in_memory().expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().partitions(2)).expect("create");
    let producer = broker.producer();
    let value = [7; 100];
    // A logger has a clone of the writer for each message.
    let writer = topic.writer().key("k").header("one", "1").header("two", "2");
    let line = [&value[..], b"\n"].concat();
    let write = |mut writer: TopicWriter| {
        assert!(writer.write_all(&line).is_ok() && writer.flush().is_ok());
    };
    let send = |topic: &Topic, record: Record<'_>| assert!(topic.send(record).is_ok());
    let counts = [
        allocations(|_| send(&topic, Record::new(&value))),
        allocations(|number| send(&topic, Record::new(&value).key(&number.to_le_bytes()))),
        allocations(|_| send(&topic, Record::new(&value).header("one", "1").header("two", "2"))),
        allocations(|_| write(writer.clone())),
        allocations(|_| assert!(producer.send("t", Record::new(&value)).is_ok())),
    ];
    assert!(
        counts.iter().all(|count| *count < SENDS / 100),
        "{counts:?} allocations in {SENDS} sends each"
    );
    // Counted in the same test, because the counter is one for all. Here each batch allocates.
    let linger = std::time::Duration::from_millis(5);
    for producer in [broker.async_producer(), broker.async_producer().linger(linger)] {
        let producer = producer.open().expect("open");
        let count = allocations(|number| {
            let key = number.to_le_bytes();
            assert!(producer.send("t", Record::new(&value).key(&key)).is_ok());
        });
        assert!(count < SENDS / 20, "{count} allocations in {SENDS} sends without waiting");
    }
}
