//! A logger that closes the broker from the thread that seals its segments.

use std::sync::Mutex;
use std::time::Duration;

use forebay::{Broker, Record, TopicConfig};

/// Closes the broker it holds when it is told of a sealed segment.
struct Closing(Mutex<Option<Broker>>);

static LOGGER: Closing = Closing(Mutex::new(None));

impl log::Log for Closing {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("sealed") {
            let broker = self.0.lock().expect("no panic").take();
            if let Some(broker) = broker {
                broker.close().expect("close");
            }
        }
    }

    fn flush(&self) {}
}

/// Symptom: such a close panicked, the directory stayed locked, and every other close waited for ever.
/// Cause: the thread waited for its own end. Fix: it does not; it ends when its job does.
#[test]
fn a_broker_closed_by_its_logger_is_closed_and_its_directory_free() {
    log::set_logger(&LOGGER).expect("the first logger");
    log::set_max_level(log::LevelFilter::Debug);
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    let config = TopicConfig::new().segment_bytes(4096);
    let topic = broker.create_topic("t", config).expect("create");
    *LOGGER.0.lock().expect("no panic") = Some(broker.clone());
    let is_closed = (0..3_000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        topic.send(Record::new(&[0; 1000])).is_err()
    });
    assert!(is_closed, "the logger closed it");
    let (done, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(broker.close()));
    let closed = told.recv_timeout(Duration::from_secs(10)).expect("nobody waits for ever");
    closed.expect("it was closed well");
    Broker::open(dir.path()).expect("the directory is free").close().expect("close");
}
