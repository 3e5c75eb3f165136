//! The channel of crossbeam: one for each partition, unbounded.

use std::path::Path;

use crossbeam_channel::unbounded;

use crate::peer::{About, Need, Outcome, Peer, Receiver, Sender, Setup};

type Channel = (crossbeam_channel::Sender<Vec<u8>>, crossbeam_channel::Receiver<Vec<u8>>);

pub struct Crossbeam {
    channels: Vec<Channel>,
}

impl Peer for Crossbeam {
    const ABOUT: About = About {
        name: "crossbeam-channel",
        package: Some("crossbeam-channel"),
        written: "memory only",
        synced: "cannot",
    };

    type Sender<'a> = crossbeam_channel::Sender<Vec<u8>>;
    type Receiver<'a> = crossbeam_channel::Receiver<Vec<u8>>;

    fn lacks(need: Need) -> Option<&'static str> {
        super::channel_lacks(need)
    }

    fn open(_: &Path, setup: &Setup) -> Outcome<Self> {
        Ok(Self { channels: (0..setup.partitions).map(|_| unbounded()).collect() })
    }

    fn sender(&self, partition: usize) -> Outcome<Self::Sender<'_>> {
        Ok(self.channels[partition].0.clone())
    }

    fn receiver(&self, partition: usize) -> Outcome<Self::Receiver<'_>> {
        Ok(self.channels[partition].1.clone())
    }
}

impl Sender for crossbeam_channel::Sender<Vec<u8>> {
    #[inline]
    fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        Ok(crossbeam_channel::Sender::send(self, payload.to_vec())?)
    }
}

impl Receiver for crossbeam_channel::Receiver<Vec<u8>> {
    fn poll(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let records = self.try_iter().take(most);
        Ok(records.map(|payload| each(&payload)).count())
    }

    fn wait(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        each(&self.recv()?);
        Ok(1 + self.poll(most - 1, each)?)
    }
}
