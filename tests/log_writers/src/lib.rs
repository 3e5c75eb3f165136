//! What the tests of all loggers share: threads that log, and the account of what came of it.

use std::thread;

use forebay::{Broker, Start};

/// How many threads log.
pub const THREADS: usize = 8;
/// How many events each of them logs.
pub const EVENTS: usize = 2_000;

/// Logs from many threads: `event` is given the number of the thread and that of the event.
pub fn log_from_threads(event: impl Fn(usize, usize) + Sync) {
    thread::scope(|scope| {
        for name in 0..THREADS {
            let event = &event;
            scope.spawn(move || (0..EVENTS).for_each(|number| event(name, number)));
        }
    });
}

/// The values of all records of a topic with one partition, in order.
pub fn values(broker: &Broker, topic: &str) -> Vec<String> {
    let mut reader = broker.reader().topic(topic, Start::Earliest).open().expect("reader");
    let mut values = Vec::new();
    loop {
        let batch = reader.try_poll().expect("poll");
        if batch.is_empty() {
            return values;
        }
        for record in &batch {
            let value = record.value().expect("value").to_vec();
            values.push(String::from_utf8(value).expect("text"));
        }
    }
}

/// Checks that each event is one record, whole, and that those of a thread are in order. A record has
/// ` event=<thread>/<number>.` somewhere, once, and ends with `end`.
pub fn check(values: &[String], end: &str) {
    let mut next = [0; THREADS];
    for value in values {
        let mut events = value.split("event=");
        let (Some(_), Some(event), None) = (events.next(), events.next(), events.next()) else {
            panic!("not one event: {value:?}");
        };
        let (event, _) = event.split_once('.').expect("the end of the event");
        let (name, number) = event.split_once('/').expect("a thread and a number");
        let name: usize = name.parse().expect("a thread");
        assert_eq!(number, next[name].to_string(), "of thread {name}: {value:?}");
        assert!(value.ends_with(end), "{value:?}");
        next[name] += 1;
    }
    assert_eq!(next, [EVENTS; THREADS]);
}
