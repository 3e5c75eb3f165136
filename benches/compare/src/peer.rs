//! What a peer must be able to do to be compared: open a directory, send to a partition of it, and read
//! what was sent. One implementation a file, under `peers`.

use std::error::Error;
use std::path::Path;

/// What went wrong, in words to be printed in place of a figure.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// When a send is to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// As soon as the peer calls it done by default; what that means differs, and is printed.
    Written,
    /// When the record is on stable storage.
    Synced,
}

/// What a peer is opened for.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub ack: Ack,
    pub partitions: usize,
    /// Whether more than one sender or receiver will be used at the same time. Peers that leave locking
    /// to their user are locked for each call if so, and once for all otherwise.
    pub shared: bool,
    /// Whether what was read is to be remembered for the next reader.
    pub commits: bool,
    pub record_bytes: usize,
}

impl Setup {
    /// One partition, one thread at a time.
    pub fn plain(record_bytes: usize) -> Self {
        Self { ack: Ack::Written, partitions: 1, shared: false, commits: false, record_bytes }
    }

    /// For senders and receivers on several threads.
    pub fn shared(record_bytes: usize, partitions: usize) -> Self {
        Self { partitions, shared: true, ..Self::plain(record_bytes) }
    }
}

/// Something a peer may be unable to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing is asked but that records can be sent and read.
    Nothing,
    Files,
    Synced,
    Commits,
    Parking,
}

/// What is printed about a peer.
#[derive(Clone, Copy, Debug)]
pub struct About {
    pub name: &'static str,
    /// The package as it is called in `Cargo.lock`; none for the standard library.
    pub package: Option<&'static str>,
    /// What a send promises when it returns.
    pub written: &'static str,
    /// The same where records are to be synced.
    pub synced: &'static str,
}

pub trait Peer: Sized + Sync {
    const ABOUT: About;
    /// The most records it is given where all of them are read through its own reader.
    const MOST_READ: u64 = u64::MAX;
    /// Whether threads that sync are to have a log of their own each, because that is what the peer is
    /// made for.
    const LOG_PER_SYNCING_THREAD: bool = false;

    type Sender<'a>: Sender
    where
        Self: 'a;
    type Receiver<'a>: Receiver
    where
        Self: 'a;

    /// Why it cannot do that, if so.
    fn lacks(need: Need) -> Option<&'static str>;

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self>;

    fn sender(&self, partition: usize) -> Outcome<Self::Sender<'_>>;

    /// From the earliest record that is there, or from where an earlier receiver committed.
    fn receiver(&self, partition: usize) -> Outcome<Self::Receiver<'_>>;

    /// Hands over every record of a partition, to check what was sent. For peers whose reader is too slow
    /// for that it may take another way, but it has to be their own decoder.
    fn read_back(&self, partition: usize, each: &mut impl FnMut(&[u8])) -> Outcome<()> {
        let mut receiver = self.receiver(partition)?;
        while receiver.poll(1000, each)? > 0 {}
        Ok(())
    }
}

pub trait Sender {
    fn send(&mut self, payload: &[u8]) -> Outcome<()>;

    /// One by one, where there is no other way.
    fn send_batch(&mut self, payloads: &[&[u8]]) -> Outcome<()> {
        payloads.iter().try_for_each(|payload| self.send(payload))
    }
}

pub trait Receiver {
    /// Hands over what is there, at most about `most` records, without waiting. Returns how many.
    fn poll(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize>;

    /// The same, but sleeps until there is something. Only asked of peers that do not lack
    /// [`Need::Parking`].
    fn wait(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        self.poll(most, each)
    }

    /// Remembers what was handed over. Only asked of peers that do not lack [`Need::Commits`].
    fn commit(&mut self) -> Outcome<()> {
        Ok(())
    }
}
