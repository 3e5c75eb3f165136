//! commitlog: a log a partition, each behind a lock, because appending needs the log for itself.

use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use crate::peer::{About, Need, Outcome, Peer, Receiver, Sender, Setup};

pub struct Commitlog {
    logs: Vec<RwLock<CommitLog>>,
    setup: Setup,
}

impl Peer for Commitlog {
    const ABOUT: About = About {
        name: "commitlog",
        package: Some("commitlog"),
        written: "page cache, CRC of the payload",
        synced: "cannot: flush() syncs the index only",
    };

    type Sender<'a> = LogSender<'a>;
    type Receiver<'a> = LogReceiver<'a>;

    fn lacks(need: Need) -> Option<&'static str> {
        match need {
            Need::Nothing | Need::Files => None,
            Need::Synced => Some("its flush() syncs the index, not the records"),
            Need::Commits => Some("no consumer positions"),
            Need::Parking => Some("polls only"),
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let open = |partition: usize| {
            let mut options = LogOptions::new(dir.join(partition.to_string()));
            options.message_max_bytes(16 << 20);
            Ok(RwLock::new(CommitLog::new(options)?))
        };
        let logs = (0..setup.partitions).map(open).collect::<Outcome<_>>()?;
        Ok(Self { logs, setup: *setup })
    }

    fn sender(&self, partition: usize) -> Outcome<LogSender<'_>> {
        let log = &self.logs[partition];
        Ok(if self.setup.shared { LogSender::Shared(log) } else { LogSender::Alone(lock(log)) })
    }

    fn receiver(&self, partition: usize) -> Outcome<LogReceiver<'_>> {
        // A limit below the size of one record is an error.
        let limit = (2 * self.setup.record_bytes).max(256 << 10);
        Ok(LogReceiver { log: &self.logs[partition], next: 0, limit })
    }
}

fn lock(log: &RwLock<CommitLog>) -> RwLockWriteGuard<'_, CommitLog> {
    log.write().unwrap_or_else(PoisonError::into_inner)
}

pub enum LogSender<'a> {
    Alone(RwLockWriteGuard<'a, CommitLog>),
    Shared(&'a RwLock<CommitLog>),
}

impl Sender for LogSender<'_> {
    fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        match self {
            Self::Alone(log) => log.append_msg(payload)?,
            Self::Shared(log) => lock(log).append_msg(payload)?,
        };
        Ok(())
    }

    fn send_batch(&mut self, payloads: &[&[u8]]) -> Outcome<()> {
        let mut buffer: MessageBuf = payloads.iter().collect();
        match self {
            Self::Alone(log) => log.append(&mut buffer)?,
            Self::Shared(log) => lock(log).append(&mut buffer)?,
        };
        Ok(())
    }
}

pub struct LogReceiver<'a> {
    log: &'a RwLock<CommitLog>,
    next: u64,
    limit: usize,
}

impl Receiver for LogReceiver<'_> {
    fn poll(&mut self, _: usize, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        let messages = log
            .read(self.next, ReadLimit::max_bytes(self.limit))
            .map_err(|error| format!("commitlog cannot read: {error:?}"))?;
        drop(log);
        for message in messages.iter() {
            self.next = message.offset() + 1;
            each(message.payload());
        }
        Ok(messages.len())
    }
}
