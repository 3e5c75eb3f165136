//! A logger is user code: it may send to the broker whose messages it takes.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use forebay::{Broker, Record, TopicConfig};

/// Sends every message to a topic, unless it is doing so already.
struct ToTopic(OnceLock<forebay::Topic>, Mutex<u64>);

static LOGGER: ToTopic = ToTopic(OnceLock::new(), Mutex::new(0));

impl log::Log for ToTopic {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // A logger must not log about its own logging without end.
        let Ok(mut sent) = self.1.try_lock() else { return };
        if let Some(topic) = self.0.get() {
            topic.send(Record::new(&record.args().to_string())).expect("send");
            *sent += 1;
        }
    }

    fn flush(&self) {}
}

/// Symptom: a send that never returned. Cause: messages were logged under the append lock. Fix: none
/// is logged under any lock.
#[test]
fn a_logger_may_send_to_the_broker() {
    log::set_logger(&LOGGER).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let (done, wait) = std::sync::mpsc::channel();
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().to_path_buf();
    std::thread::spawn(move || {
        for broker in [Broker::in_memory().expect("open"), Broker::open(path).expect("open")] {
            let topic = broker
                .create_topic("logs", TopicConfig::new().segment_bytes(4096))
                .expect("create");
            drop(LOGGER.0.set(topic.clone()));
            for _ in 0..300 {
                topic.send(Record::new(&[0; 1000])).expect("send");
            }
            broker.create_topic("other", TopicConfig::new()).expect("create");
            broker.create_partitions("logs", 3).expect("grow");
            broker.delete_topic("other").expect("delete");
        }
        done.send(()).expect("the test waits");
    });
    wait.recv_timeout(Duration::from_secs(20)).expect("it hangs");
    assert!(*LOGGER.1.lock().expect("lock") > 10, "messages were logged");
}
