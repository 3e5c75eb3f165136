//! Who takes records out of a topic in a bench: a reader, or the one member of a group that commits after
//! every batch.

use std::time::Duration;

use forebay::{Batch, Broker, Consumer, Reader, Start};

use super::Checker;

/// How long nothing may come before a bench gives up.
const PATIENCE: Duration = Duration::from_secs(20);

pub enum Taker {
    Reader(Box<Reader>),
    Group(Box<Consumer>),
}

impl Taker {
    pub fn reader(broker: &Broker, topic: &str) -> Self {
        let reader = broker.reader().topic(topic, Start::Earliest).open().expect("reader");
        Self::Reader(Box::new(reader))
    }

    /// A group of its own for each topic. It has its partitions when this returns.
    pub fn group(broker: &Broker, topic: &str) -> Self {
        let mut consumer = broker
            .consumer(topic)
            .subscribe([topic])
            .start(Start::Earliest)
            .open()
            .expect("consumer");
        assert!(consumer.try_poll().expect("poll").is_empty(), "nothing was sent so far");
        assert!(!consumer.assignment().is_empty(), "it has its partitions");
        Self::Group(Box::new(consumer))
    }

    /// Parked until something comes.
    pub fn wait(&mut self) -> Batch {
        let batch = match self {
            Self::Reader(reader) => reader.poll(PATIENCE),
            Self::Group(consumer) => consumer.poll(PATIENCE),
        };
        let batch = batch.expect("poll");
        assert!(!batch.is_empty(), "records stopped coming");
        batch
    }

    /// What is there.
    pub fn look(&mut self) -> Batch {
        match self {
            Self::Reader(reader) => reader.try_poll(),
            Self::Group(consumer) => consumer.try_poll(),
        }
        .expect("poll")
    }

    /// What was taken is done.
    pub fn done(&mut self) {
        if let Self::Group(consumer) = self {
            consumer.commit().expect("commit");
        }
    }

    /// Takes so many records, parked whenever there are none, and checks each.
    pub fn take(&mut self, checker: &mut Checker, count: u64) {
        while checker.count() < count {
            for record in &self.wait() {
                checker.check(record.value().expect("value"));
            }
            self.done();
        }
    }
}
