//! What the file `topic` holds: a topic's identity and settings.
//!
//! Settings are kept by name, so that those of later versions need no new format; one that is not
//! known here is an error, because what it asks for would not be done. Version 1 kept them by place,
//! and is still read.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{TimestampType, TopicConfig};
use crate::error::{Error, Result};
use crate::on_full::OnFull;
use crate::storage::Storage;
use crate::storage::checked_file::{self, Kind};

/// The name of the file in the topic's directory.
pub(crate) const METADATA_FILE: &str = "topic";
const MAGIC: [u8; 8] = *b"FOREBAYM";
const KIND: Kind = Kind { magic: MAGIC, version: 2 };
const FIRST_KIND: Kind = Kind { magic: MAGIC, version: 1 };
/// Begins the name of the setting that names a group of `consumed_by`.
const CONSUMED_BY: &str = "consumed_by:";
/// What `on_full` is stored as; the time of [`OnFull::Block`] is a setting of its own.
const REJECT: u64 = 0;
const BLOCK: u64 = 1;
const DROP_OLDEST: u64 = 2;

/// A topic's identity and settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Tells this topic from an earlier one of the same name.
    pub(crate) id: u64,
    pub(crate) config: TopicConfig,
}

/// The payload of version 2. A setting that is not there is `None`.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    id: u64,
    settings: Vec<(String, u64)>,
}

/// The payload of version 1.
#[derive(Debug, Serialize, Deserialize)]
struct FirstStored {
    id: u64,
    partitions: u32,
    segment_bytes: u64,
    segment_age: Option<Duration>,
    index_interval_bytes: u64,
    max_record_bytes: u64,
    timestamp_type: TimestampType,
    retention_age: Option<Duration>,
    retention_bytes: Option<u64>,
    retention_records: Option<u64>,
}

impl Metadata {
    /// Reads the metadata of the topic in `dir`.
    pub(crate) fn load(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let path = dir.join(METADATA_FILE);
        let metadata = match checked_file::read(storage, &path, KIND) {
            Ok(Some(stored)) => Self::decode(&path, stored)?,
            Ok(None) => {
                return Err(Error::corrupt(&path, 0, "the topic's metadata file is missing"));
            }
            Err(Error::UnsupportedVersion { found: 1, .. }) => {
                let stored = checked_file::read(storage, &path, FIRST_KIND)?;
                stored.map(Self::decode_first).ok_or_else(|| {
                    Error::corrupt(&path, 0, "the topic's metadata file is missing")
                })?
            }
            Err(error) => return Err(error),
        };
        metadata.config.validate()?;
        Ok(metadata)
    }

    /// Makes this the metadata of the topic in `dir`, durably.
    pub(crate) fn store(&self, storage: &dyn Storage, dir: &Path) -> Result<()> {
        checked_file::replace(storage, &dir.join(METADATA_FILE), KIND, &self.encode())
    }

    fn encode(&self) -> Stored {
        let config = &self.config;
        let nanos = |age: Duration| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let (on_full, on_full_timeout) = match config.on_full {
            OnFull::Reject => (REJECT, None),
            OnFull::Block { timeout } => (BLOCK, Some(nanos(timeout))),
            OnFull::DropOldest => (DROP_OLDEST, None),
        };
        let settings = [
            ("partitions", Some(u64::from(config.partitions))),
            ("segment_bytes", Some(config.segment_bytes)),
            ("segment_age", config.segment_age.map(nanos)),
            ("index_interval_bytes", Some(config.index_interval_bytes)),
            ("max_record_bytes", Some(config.max_record_bytes)),
            ("timestamp_type", Some(config.timestamp_type as u64)),
            ("retention_age", config.retention_age.map(nanos)),
            ("retention_bytes", config.retention_bytes),
            ("retention_records", config.retention_records),
            ("flush_records", config.flush_records),
            ("flush_interval", config.flush_interval.map(nanos)),
            ("max_bytes", config.max_bytes),
            ("max_records", config.max_records),
            ("max_age", config.max_age.map(nanos)),
            // What is the default is not there: earlier versions know nothing of it.
            ("on_full", Some(on_full).filter(|on_full| *on_full != REJECT)),
            ("on_full_timeout", on_full_timeout),
        ];
        let present = settings
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)));
        let groups = config.consumed_by.iter().map(|group| (format!("{CONSUMED_BY}{group}"), 1));
        Stored { id: self.id, settings: present.chain(groups).collect() }
    }

    fn decode(path: &Path, stored: Stored) -> Result<Self> {
        let mut config = TopicConfig { segment_age: None, ..TopicConfig::default() };
        let mut timeout = Duration::MAX;
        for (name, value) in stored.settings {
            let age = Some(Duration::from_nanos(value));
            match name.as_str() {
                "partitions" => config.partitions = u32::try_from(value).unwrap_or(u32::MAX),
                "segment_bytes" => config.segment_bytes = value,
                "segment_age" => config.segment_age = age,
                "index_interval_bytes" => config.index_interval_bytes = value,
                "max_record_bytes" => config.max_record_bytes = value,
                "timestamp_type" if value == TimestampType::CreateTime as u64 => {
                    config.timestamp_type = TimestampType::CreateTime;
                }
                "timestamp_type" if value == TimestampType::AppendTime as u64 => {
                    config.timestamp_type = TimestampType::AppendTime;
                }
                "retention_age" => config.retention_age = age,
                "retention_bytes" => config.retention_bytes = Some(value),
                "retention_records" => config.retention_records = Some(value),
                "flush_records" => config.flush_records = Some(value),
                "flush_interval" => config.flush_interval = age,
                "max_bytes" => config.max_bytes = Some(value),
                "max_records" => config.max_records = Some(value),
                "max_age" => config.max_age = age,
                "on_full" if value == BLOCK => config.on_full = OnFull::Block { timeout },
                "on_full" if value == DROP_OLDEST => config.on_full = OnFull::DropOldest,
                "on_full_timeout" => timeout = Duration::from_nanos(value),
                group if group.starts_with(CONSUMED_BY) => {
                    config.consumed_by.extend(group.strip_prefix(CONSUMED_BY).map(str::to_owned));
                }
                _ => {
                    let detail = format!("this version knows no setting {name} of {value}");
                    return Err(Error::corrupt(path, 0, detail));
                }
            }
        }
        if let OnFull::Block { timeout: stored } = &mut config.on_full {
            *stored = timeout;
        }
        Ok(Self { id: stored.id, config })
    }

    fn decode_first(stored: FirstStored) -> Self {
        let config = TopicConfig {
            partitions: stored.partitions,
            segment_bytes: stored.segment_bytes,
            segment_age: stored.segment_age,
            index_interval_bytes: stored.index_interval_bytes,
            max_record_bytes: stored.max_record_bytes,
            timestamp_type: stored.timestamp_type,
            retention_age: stored.retention_age,
            retention_bytes: stored.retention_bytes,
            retention_records: stored.retention_records,
            ..TopicConfig::default()
        };
        Self { id: stored.id, config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    fn metadata() -> Metadata {
        let config = TopicConfig::new()
            .partitions(3)
            .segment_age(None)
            .timestamp_type(TimestampType::AppendTime)
            .retention_age(Duration::from_millis(1_500))
            .retention_bytes(7)
            .flush_records(100)
            .flush_interval(Duration::from_micros(1_050));
        Metadata { id: 42, config }
    }

    #[test]
    fn every_setting_is_read_back() {
        let storage = MemoryStorage::new(1);
        let bounded = TopicConfig::new()
            .max_bytes(1 << 20)
            .max_records(9)
            .max_age(Duration::from_secs(3))
            .consumed_by(["b", "a: b", "a"])
            .on_full(OnFull::Block { timeout: Duration::from_micros(5) });
        let dropping = bounded.clone().on_full(OnFull::DropOldest);
        let configs = [TopicConfig::default(), bounded, dropping];
        let others = configs.map(|config| Metadata { id: 1, config });
        for metadata in others.into_iter().chain([metadata()]) {
            metadata.store(&storage, Path::new("/")).expect("store");
            assert_eq!(Metadata::load(&storage, Path::new("/")).expect("load"), metadata);
        }
    }

    #[test]
    fn a_setting_that_is_not_known_is_named() {
        let mut stored = metadata().encode();
        stored.settings.push(("colour".to_owned(), 7));
        let error = Metadata::decode(Path::new("topic"), stored).expect_err("unknown");
        assert!(error.to_string().contains("colour"), "{error}");
    }
}
