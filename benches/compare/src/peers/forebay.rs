//! forebay itself: one topic, read by a reader, or by a group where commits are asked for.

use std::path::Path;
use std::time::Duration;

use forebay::{Acks, Batch, Broker, Consumer, Reader, Record, Start, Topic, TopicConfig};

use crate::peer::{About, Ack, Need, Outcome, Peer, Receiver, Sender, Setup};

const TOPIC: &str = "records";

pub struct Forebay {
    broker: Broker,
    topic: Topic,
    setup: Setup,
}

impl Peer for Forebay {
    const ABOUT: About = About {
        name: "forebay",
        package: Some("forebay"),
        written: "page cache, CRC of the payload",
        synced: "fdatasync before return, CRC of the payload",
    };

    type Sender<'a> = ForebaySender;
    type Receiver<'a> = ForebayReceiver;

    fn lacks(_: Need) -> Option<&'static str> {
        None
    }

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let broker = Broker::open(dir)?;
        let partitions = u32::try_from(setup.partitions)?;
        let most = u64::try_from(setup.record_bytes)? + 4096;
        let config = TopicConfig::new().partitions(partitions).max_record_bytes(most.max(1 << 20));
        let topic = broker.create_topic_if_absent(TOPIC, config)?;
        let acks = match setup.ack {
            Ack::Written => Acks::Written,
            Ack::Synced => Acks::Synced,
        };
        Ok(Self { broker, topic: topic.acks(acks), setup: *setup })
    }

    fn sender(&self, partition: usize) -> Outcome<ForebaySender> {
        let partition = (self.setup.partitions > 1).then_some(u32::try_from(partition)?);
        Ok(ForebaySender { topic: self.topic.clone(), partition })
    }

    fn receiver(&self, partition: usize) -> Outcome<ForebayReceiver> {
        if self.setup.commits {
            let consumer = self.broker.consumer("group").subscribe([TOPIC]);
            return Ok(ForebayReceiver::Group(Box::new(consumer.start(Start::Earliest).open()?)));
        }
        let partition = u32::try_from(partition)?;
        let reader = self.broker.reader().partition(TOPIC, partition, Start::Earliest);
        Ok(ForebayReceiver::Reader(Box::new(reader.open()?)))
    }
}

pub struct ForebaySender {
    topic: Topic,
    partition: Option<u32>,
}

impl ForebaySender {
    fn record<'a>(&self, payload: &'a [u8]) -> Record<'a> {
        let record = Record::new(payload);
        match self.partition {
            Some(partition) => record.partition(partition),
            None => record,
        }
    }
}

impl Sender for ForebaySender {
    #[inline]
    fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        self.topic.send(self.record(payload))?;
        Ok(())
    }

    fn send_batch(&mut self, payloads: &[&[u8]]) -> Outcome<()> {
        let records: Vec<Record<'_>> =
            payloads.iter().map(|payload| self.record(payload)).collect();
        self.topic.send_batch(&records)?;
        Ok(())
    }
}

pub enum ForebayReceiver {
    Reader(Box<Reader>),
    Group(Box<Consumer>),
}

fn hand_over(batch: &Batch, each: &mut impl FnMut(&[u8])) -> usize {
    for record in batch {
        each(record.value().unwrap_or_default());
    }
    batch.len()
}

impl Receiver for ForebayReceiver {
    /// A poll hands over 500 records at most by itself.
    fn poll(&mut self, _: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let batch = match self {
            Self::Reader(reader) => reader.try_poll()?,
            Self::Group(consumer) => consumer.try_poll()?,
        };
        Ok(hand_over(&batch, each))
    }

    fn wait(&mut self, _: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let timeout = Duration::from_secs(1);
        let batch = match self {
            Self::Reader(reader) => reader.poll(timeout)?,
            Self::Group(consumer) => consumer.poll(timeout)?,
        };
        Ok(hand_over(&batch, each))
    }

    fn commit(&mut self) -> Outcome<()> {
        match self {
            Self::Reader(_) => Ok(()),
            Self::Group(consumer) => Ok(consumer.commit()?),
        }
    }
}
