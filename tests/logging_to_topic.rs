//! The log of a program in a topic of the broker it uses: the broker's own messages go there too.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use forebay::{Broker, Start, Topic, TopicConfig, TopicWriter, WhenRefused};

/// Writes each message to two writers, if they are there: to a clone of one, and to the other under a lock
/// that is held meanwhile, as loggers hold one that have a single writer.
struct ToTopic {
    cloned: Mutex<Option<TopicWriter>>,
    locked: Mutex<Option<TopicWriter>>,
}

static LOGGER: ToTopic = ToTopic { cloned: Mutex::new(None), locked: Mutex::new(None) };

impl log::Log for ToTopic {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let cloned = self.cloned.lock().expect("no panic").clone();
        let write = |writer: &mut TopicWriter| {
            let mut line = String::new();
            writeln!(line, "{}: {}", record.target(), record.args()).expect("text");
            writer.write_all(line.as_bytes()).expect("it never fails");
            writer.flush().expect("it never fails");
        };
        if let Some(mut writer) = cloned {
            write(&mut writer);
        }
        if let Some(writer) = &mut *self.locked.lock().expect("no panic") {
            write(writer);
        }
    }

    fn flush(&self) {}
}

/// Small segments, so that the broker has something to say.
fn logs(broker: &Broker) -> Topic {
    broker.create_topic("log", TopicConfig::new().segment_bytes(4096)).expect("create")
}

fn lines(broker: &Broker) -> (u64, u64) {
    let mut reader = broker.reader().topic("log", Start::Earliest).open().expect("reader");
    let (mut own, mut broker_s) = (0, 0);
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            return (own, broker_s);
        }
        for record in &batch {
            let is_broker_s = record.value().expect("value").starts_with(b"forebay");
            *if is_broker_s { &mut broker_s } else { &mut own } += 1;
        }
    }
}

fn log_from_threads(messages: u64) {
    let long = "x".repeat(1500);
    std::thread::scope(|scope| {
        for name in 0..4 {
            let long = &long;
            scope.spawn(move || {
                for number in 0..messages {
                    log::info!("{name} {number} {long}");
                }
            });
        }
    });
}

/// Symptom: a program stood still while it logged. Cause: with 64 full segments waiting for a slow disk
/// the sender seals them itself, and said so itself, to the logger whose lock it held. Fix: a send logs
/// nothing on its own thread.
#[test]
fn a_broker_may_log_to_itself() {
    log::set_logger(&LOGGER).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        // In memory a segment is sealed, and that is said, by the thread that sends.
        let broker = Broker::in_memory().expect("open");
        let writer = logs(&broker).writer().when_refused(WhenRefused::Drop);
        *LOGGER.cloned.lock().expect("no panic") = Some(writer.clone());
        log_from_threads(500);
        let (own, broker_s) = lines(&broker);
        assert_eq!(own, 2000);
        assert!(broker_s > 100, "{broker_s}");
        broker.close().expect("close");
        // What is said of the end is too late.
        assert!(writer.dropped() > 0);
        *LOGGER.cloned.lock().expect("no panic") = None;

        let dir = tempfile::tempdir().expect("temporary directory");
        let broker = Broker::open(dir.path()).expect("open");
        let writer = logs(&broker).writer().when_refused(WhenRefused::Drop);
        *LOGGER.locked.lock().expect("no panic") = Some(writer.clone());
        log_from_threads(2000);
        let (own, broker_s) = lines(&broker);
        assert_eq!((own, writer.dropped()), (8000, 0));
        assert!(broker_s > 10, "{broker_s}");
        broker.close().expect("close");
        *LOGGER.locked.lock().expect("no panic") = None;
        done.send(()).expect("the test waits");
    });
    wait.recv_timeout(Duration::from_secs(60)).expect("it hangs");
}
