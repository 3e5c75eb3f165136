//! A logger is user code: it may use the broker whose messages it takes while that closes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use forebay::{Broker, Error, Record, TopicConfig};

/// Takes its time over one message of the thread that works in the background, and then creates a
/// topic.
struct Slow {
    broker: Mutex<Option<Broker>>,
    is_called: AtomicBool,
    refused: Mutex<Option<bool>>,
}

static LOGGER: Slow =
    Slow { broker: Mutex::new(None), is_called: AtomicBool::new(false), refused: Mutex::new(None) };

impl log::Log for Slow {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if !record.args().to_string().contains("sealed") {
            return;
        }
        let Some(broker) = self.broker.lock().expect("lock").take() else { return };
        self.is_called.store(true, Ordering::SeqCst);
        // Meanwhile the broker is closed.
        std::thread::sleep(Duration::from_millis(200));
        let created = broker.create_topic("logs", TopicConfig::new());
        *self.refused.lock().expect("lock") = Some(matches!(created, Err(Error::Closed)));
    }

    fn flush(&self) {}
}

/// Symptom: a close that never returned. Cause: it waited for the thread that works in the background
/// under a lock that the logger called by that thread wanted. Fix: it waits under no lock.
#[test]
fn a_logger_may_use_a_broker_that_closes() {
    log::set_logger(&LOGGER).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let dir = tempfile::tempdir().expect("temporary directory");
        let broker = Broker::open(dir.path()).expect("open");
        let config = TopicConfig::new().segment_bytes(4096);
        let topic = broker.create_topic("t", config).expect("create");
        *LOGGER.broker.lock().expect("lock") = Some(broker.clone());
        for _ in 0..30 {
            topic.send(Record::new(&[0; 1000])).expect("send");
        }
        while !LOGGER.is_called.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        broker.close().expect("close");
        done.send(()).expect("the test waits");
    });
    wait.recv_timeout(Duration::from_secs(20)).expect("it hangs");
    assert_eq!(*LOGGER.refused.lock().expect("lock"), Some(true), "close waits for it");
}
