//! yaque: a queue a partition, with one sender, behind a lock where threads have to share it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::peer::{About, Need, Outcome, Peer, Receiver, Sender, Setup};

pub struct Yaque {
    queues: Vec<(PathBuf, Mutex<yaque::Sender>)>,
    shared: bool,
}

impl Peer for Yaque {
    const ABOUT: About = About {
        name: "yaque",
        package: Some("yaque"),
        written: "page cache, no checksum of the payload",
        synced: "cannot: never syncs",
    };

    type Sender<'a> = QueueSender<'a>;
    type Receiver<'a> = yaque::Receiver;

    fn lacks(need: Need) -> Option<&'static str> {
        (need == Need::Synced).then_some("never syncs")
    }

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let open = |partition: usize| {
            let dir = dir.join(partition.to_string());
            if dir.exists() {
                // What a killed process leaves behind locks the queue.
                yaque::recovery::recover(&dir)?;
            }
            Ok((dir.clone(), Mutex::new(yaque::Sender::open(&dir)?)))
        };
        let queues = (0..setup.partitions).map(open).collect::<Outcome<_>>()?;
        Ok(Self { queues, shared: setup.shared })
    }

    fn sender(&self, partition: usize) -> Outcome<QueueSender<'_>> {
        let queue = &self.queues[partition].1;
        Ok(if self.shared { QueueSender::Shared(queue) } else { QueueSender::Alone(lock(queue)) })
    }

    fn receiver(&self, partition: usize) -> Outcome<yaque::Receiver> {
        Ok(yaque::Receiver::open(&self.queues[partition].0)?)
    }
}

fn lock(queue: &Mutex<yaque::Sender>) -> MutexGuard<'_, yaque::Sender> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

pub enum QueueSender<'a> {
    Alone(MutexGuard<'a, yaque::Sender>),
    Shared(&'a Mutex<yaque::Sender>),
}

impl Sender for QueueSender<'_> {
    fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        let sent = match self {
            Self::Alone(queue) => queue.try_send(payload),
            Self::Shared(queue) => lock(queue).try_send(payload),
        };
        sent.map_err(|error| format!("yaque cannot send: {error}").into())
    }

    fn send_batch(&mut self, payloads: &[&[u8]]) -> Outcome<()> {
        let sent = match self {
            Self::Alone(queue) => queue.try_send_batch(payloads),
            Self::Shared(queue) => lock(queue).try_send_batch(payloads),
        };
        sent.map_err(|error| format!("yaque cannot send a batch: {error}").into())
    }
}

impl Receiver for yaque::Receiver {
    fn poll(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let batch = match self.try_recv_batch_up_to(most) {
            Ok(batch) => batch,
            Err(yaque::TryRecvError::QueueEmpty) => return Ok(0),
            Err(yaque::TryRecvError::Io(error)) => return Err(error.into()),
        };
        batch.iter().for_each(|payload| each(payload));
        let count = batch.len();
        // Without this the records come again.
        batch.commit()?;
        Ok(count)
    }

    fn wait(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let batch = pollster::block_on(self.recv_batch_up_to(most))?;
        batch.iter().for_each(|payload| each(payload));
        let count = batch.len();
        batch.commit()?;
        Ok(count)
    }

    fn commit(&mut self) -> Outcome<()> {
        Ok(self.save()?)
    }
}
