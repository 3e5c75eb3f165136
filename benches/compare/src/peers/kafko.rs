//! kafko: one topic, driven from ordinary threads through a tokio runtime, as its README shows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Runtime;

use crate::peer::{About, Ack, Need, Outcome, Peer, Receiver, Sender, Setup};

const TOPIC: &str = "records";

pub struct Kafko {
    topic: Arc<kafko::Topic>,
    broker: kafko::Kafko,
    /// Behind the others, so that it goes last.
    runtime: Runtime,
    dir: PathBuf,
    setup: Setup,
}

impl Peer for Kafko {
    const ABOUT: About = About {
        name: "kafko",
        package: Some("kafko"),
        written: "page cache, CRC of the payload",
        synced: "fsync before return, CRC of the payload",
    };
    /// Reading a record reads the rest of the segment, so that reading n of them takes n².
    const MOST_READ: u64 = 10_000;

    type Sender<'a> = TopicSender<'a>;
    type Receiver<'a> = TopicReceiver<'a>;

    fn lacks(_: Need) -> Option<&'static str> {
        None
    }

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let runtime = Runtime::new()?;
        let partitions = u32::try_from(setup.partitions)?;
        let (broker, topic) = runtime.block_on(async {
            let broker = kafko::Kafko::open(dir).await?;
            if !broker.has_topic(TOPIC).await {
                broker.create_topic_with_partitions(TOPIC, partitions).await?;
            }
            let topic = broker.topic(TOPIC).await;
            kafko::Result::Ok((broker, topic))
        })?;
        let topic = topic.ok_or("the topic is there")?;
        Ok(Self { topic, broker, runtime, dir: dir.to_owned(), setup: *setup })
    }

    fn sender(&self, partition: usize) -> Outcome<TopicSender<'_>> {
        let number = u32::try_from(partition)?;
        let producer = self.runtime.block_on(self.broker.producer_for(TOPIC))?;
        Ok(TopicSender { peer: self, producer, partition: number })
    }

    fn receiver(&self, partition: usize) -> Outcome<TopicReceiver<'_>> {
        let open = async {
            if self.setup.commits {
                self.broker.consumer_for_group(TOPIC, "group").await
            } else {
                self.broker.consumer_for(TOPIC).await
            }
        };
        let consumer = self.runtime.block_on(open)?;
        let partition = u32::try_from(partition)?;
        Ok(TopicReceiver { peer: self, consumer, partition })
    }

    /// The files are read and decoded by its own decoder, because its reader would take n².
    fn read_back(&self, partition: usize, each: &mut impl FnMut(&[u8])) -> Outcome<()> {
        let mut segments = Vec::new();
        segments_below(&self.dir, &mut segments)?;
        let mut partitions: Vec<&Path> = segments.iter().filter_map(|path| path.parent()).collect();
        partitions.sort_by_key(|dir| (dir.as_os_str().len(), *dir));
        partitions.dedup();
        let dir = partitions.get(partition).ok_or("a partition has a directory")?;
        let mut mine: Vec<&PathBuf> =
            segments.iter().filter(|path| path.parent() == Some(*dir)).collect();
        mine.sort();
        for path in mine {
            let bytes = fs::read(path)?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                each(kafko::Record::decode(&mut rest)?.value());
            }
        }
        Ok(())
    }
}

fn segments_below(dir: &Path, found: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            segments_below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
    Ok(())
}

pub struct TopicSender<'a> {
    peer: &'a Kafko,
    producer: kafko::Producer,
    partition: u32,
}

impl TopicSender<'_> {
    async fn synced(&self) -> kafko::Result<()> {
        match self.peer.topic.partition(self.partition) {
            Some(partition) if self.peer.setup.ack == Ack::Synced => partition.sync().await,
            _ => Ok(()),
        }
    }
}

impl Sender for TopicSender<'_> {
    fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        let value = Bytes::copy_from_slice(payload);
        Ok(self.peer.runtime.block_on(async {
            self.producer.send_to(self.partition, None, value).await?;
            self.synced().await
        })?)
    }

    /// A batch without keys is spread over the partitions, so only topics with one get batches here.
    fn send_batch(&mut self, payloads: &[&[u8]]) -> Outcome<()> {
        let record = |payload: &&[u8]| (None, Bytes::copy_from_slice(payload));
        let records = payloads.iter().map(record).collect();
        Ok(self.peer.runtime.block_on(async {
            self.producer.send_batch(records).await?;
            self.synced().await
        })?)
    }
}

pub struct TopicReceiver<'a> {
    peer: &'a Kafko,
    consumer: kafko::Consumer,
    partition: u32,
}

impl TopicReceiver<'_> {
    /// It has no way to ask whether a record is there, so the end of the log is compared.
    fn is_behind(&self) -> bool {
        let partition = self.peer.topic.partition(self.partition);
        partition.is_some_and(|log| self.consumer.position(self.partition) < log.high_water_mark())
    }
}

impl Receiver for TopicReceiver<'_> {
    fn poll(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let mut count = 0;
        while count < most && self.is_behind() {
            let record = self.peer.runtime.block_on(self.consumer.next_record())?;
            each(record.value());
            count += 1;
        }
        Ok(count)
    }

    fn wait(&mut self, _: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let record = self.peer.runtime.block_on(self.consumer.next_record())?;
        each(record.value());
        Ok(1)
    }

    fn commit(&mut self) -> Outcome<()> {
        Ok(self.peer.runtime.block_on(self.consumer.commit())?)
    }
}
