//! The channel of the standard library: one for each partition, unbounded.

use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};

use crate::peer::{About, Need, Outcome, Peer, Receiver, Sender, Setup};

type Channel = (mpsc::Sender<Vec<u8>>, Mutex<Option<mpsc::Receiver<Vec<u8>>>>);

pub struct StdMpsc {
    channels: Vec<Channel>,
}

impl Peer for StdMpsc {
    const ABOUT: About =
        About { name: "std-mpsc", package: None, written: "memory only", synced: "cannot" };

    type Sender<'a> = mpsc::Sender<Vec<u8>>;
    type Receiver<'a> = mpsc::Receiver<Vec<u8>>;

    fn lacks(need: Need) -> Option<&'static str> {
        super::channel_lacks(need)
    }

    fn open(_: &Path, setup: &Setup) -> Outcome<Self> {
        let channel = |_| {
            let (sender, receiver) = mpsc::channel();
            (sender, Mutex::new(Some(receiver)))
        };
        Ok(Self { channels: (0..setup.partitions).map(channel).collect() })
    }

    fn sender(&self, partition: usize) -> Outcome<Self::Sender<'_>> {
        Ok(self.channels[partition].0.clone())
    }

    fn receiver(&self, partition: usize) -> Outcome<Self::Receiver<'_>> {
        let receiver =
            self.channels[partition].1.lock().unwrap_or_else(PoisonError::into_inner).take();
        receiver.ok_or_else(|| "a channel has one receiver".into())
    }
}

impl Sender for mpsc::Sender<Vec<u8>> {
    #[inline]
    fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        Ok(mpsc::Sender::send(self, payload.to_vec())?)
    }
}

impl Receiver for mpsc::Receiver<Vec<u8>> {
    fn poll(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let records = self.try_iter().take(most);
        Ok(records.map(|payload| each(&payload)).count())
    }

    fn wait(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        each(&self.recv()?);
        Ok(1 + self.poll(most - 1, each)?)
    }
}
