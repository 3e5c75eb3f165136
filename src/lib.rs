//! An embeddable, in-process message queue: Kafka's model inside your program.
//!
//! Topics, partitions, offsets and consumer groups, kept in memory-mapped append-only files, used
//! through a synchronous API. No server, no network, no async runtime.
//!
//! **It is** a library: one process owns a directory and its threads send and read. **It is not**
//! a server, a cluster, or a way for processes to talk to each other.
//!
//! ```
//! use std::time::Duration;
//! use forebay::{Broker, Record, TopicConfig};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("data");
//! let broker = Broker::open(&path)?;
//! let orders = broker.create_topic_if_absent("orders", TopicConfig::new().partitions(8))?;
//!
//! let sent = orders.send(Record::new("paid").key("user-7").header("trace", "ab12"))?;
//! println!("partition {} offset {}", sent.partition, sent.offset);
//!
//! let mut consumer = broker.consumer("billing").subscribe(["orders"]).open()?;
//! for record in &consumer.poll(Duration::from_secs(1))? {
//!     println!("{:?} {:?}", record.key(), record.value());
//! }
//! consumer.commit()?;
//! broker.close()?;
//! # Ok::<(), forebay::Error>(())
//! ```
//!
//! # What survives what
//!
//! | [`Acks`] | `send` returns when | `kill -9` of the process | crash of the system, power cut |
//! |---|---|---|---|
//! | [`None`](Acks::None), for an [`AsyncProducer`] | the record is in the producer's memory | lost | lost |
//! | [`Written`](Acks::Written), the default | the record is in the page cache and visible to readers | survives | survives up to the last sync |
//! | [`Synced`](Acks::Synced) | the record is on stable storage | survives | survives |
//!
//! A record is read back byte for byte or not at all: every frame carries a checksum that also
//! ties it to its file and place. Order within a partition is the order of the sends.
//!
//! A group goes on at its last commit, after a crash too: nothing is skipped, and what may come
//! twice is only what lies above it. A commit survives what a record sent with the same [`Acks`]
//! survives.
//!
//! # Where to look
//!
//! - [`Broker`]: open, create, describe and delete topics, close. [`BrokerBuilder`] for options.
//! - [`TopicConfig`]: how long and how much a topic keeps, and [`OnFull`], what it does when it is full.
//! - [`Topic`], [`Producer`], [`Record`], [`Partitioner`]: send.
//! - [`TopicWriter`], made by [`Topic::writer`]: a topic as [`std::io::Write`], for loggers.
//! - [`AsyncProducer`]: send without waiting, in batches made by the producer.
//! - [`Consumer`], made by [`Broker::consumer`]: read as a member of a group, and commit.
//!   [`RebalanceListener`], [`Assignor`], [`ConsumerChannel`].
//! - [`Forwarder`], made by [`Broker::forwarder`]: drain a group into a [`Sink`] at a steady rate.
//! - [`Reader`], [`Batch`], [`ConsumerRecord`]: read any partitions from any place, without a group.
//! - [`Broker::verify`], [`Broker::repair`]: look for damage, and go on without what is damaged.
//! - [`Broker::describe_group`], [`Broker::reset_offsets`]: operate groups.
//! - [`testing`]: a disk whose power can be cut, for your own tests.
//! - [`Error`]: what can go wrong, and what each error names.
//!
//! The files, the invariants and their reasons are in `DESIGN.md` beside the source.

#![warn(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::print_stdout,
        reason = "a test may panic, and may say what it did"
    )
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "each narrowing cast stands beside the check or the bound that makes it exact"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "a record or a configuration is made for the one call it is given to"
)]
mod admission;
mod assigned;
mod async_producer;
mod background;
mod batch;
mod broker;
mod builder;
mod calm;
mod clock;
mod config;
mod consumer;
mod damage;
mod description;
mod durability;
mod epoch;
mod error;
mod fetcher;
mod file_access;
mod finding;
mod forwarder;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod group_admin;
mod growing_list;
mod housekeeping;
mod inspect;
mod log;
mod maintenance;
mod merge;
mod offset_and_metadata;
mod offset_reset;
mod on_full;
mod open_segments;
mod opening;
mod partition;
mod partitioned;
mod partitioner;
mod producer;
mod quota;
mod reader;
mod reader_builder;
mod record;
mod record_codec;
mod record_quota;
mod records;
mod recovery_mode;
mod relief;
mod repair_report;
mod room_keeper;
mod segment;
mod sender;
mod sent;
mod start;
mod storage;
mod sync;
pub mod testing;
#[cfg(test)]
mod tests;
mod timestamp;
mod topic;
mod topic_handle;
mod topic_metadata;
mod topic_partition;
mod topic_writer;
mod unsent;
mod wakefulness;
mod waker;

pub use async_producer::{
    AsyncProducer, AsyncProducerBuilder, Delivered, Interceptor, OutgoingRecord, Ticket,
    Undelivered, WhenFull,
};
pub use batch::{Batch, ConsumerRecord, Iter, OwnedRecord};
pub use broker::Broker;
pub use builder::BrokerBuilder;
pub use clock::ManualClock;
pub use config::{MAX_PARTITIONS, TimestampType, TopicConfig};
pub use consumer::{
    Consumer, ConsumerBuilder, ConsumerChannel, ConsumerEvent, ConsumerRecords, Rebalance,
    RebalanceListener, TopicPattern, Wakeup,
};
/// The channels that [`Consumer::events`], [`Consumer::into_channel`] and [`AsyncProducer`] return.
pub use crossbeam_channel;
pub use damage::Damage;
pub use description::{
    PartitionDescription, PartitionRecovery, RecoveryReport, TopicDescription, TopicUsage,
};
pub use error::{Error, Result};
pub use file_access::FileAccess;
pub use finding::{Finding, FindingKind};
pub use forwarder::{
    Forwarder, ForwarderBuilder, ForwarderReport, ForwarderStats, InSink, Sink, SinkBatch,
    SinkBatchIter, SinkError, StopReason, WhenExhausted,
};
pub use group::{
    Assignor, CommitRecovery, CustomAssignor, GroupDescription, GroupOffset, GroupState,
    MemberDescription, MemberSubscription,
};
pub use inspect::VerifyReport;
pub use offset_and_metadata::{MAX_COMMIT_METADATA_BYTES, OffsetAndMetadata};
pub use offset_reset::{OffsetReset, ResetOffset, ResetTo};
pub use on_full::{OnFull, TopicLimit};
pub use partitioner::{CustomPartitioner, Partitioner};
pub use producer::Producer;
pub use reader::Reader;
pub use reader_builder::ReaderBuilder;
pub use record::{Header, MAX_HEADERS, Record};
pub use record_codec::Headers;
pub use records::Records;
pub use recovery_mode::RecoveryMode;
pub use repair_report::{Repair, RepairAction, RepairReport, RepairedGap};
pub use sender::Acks;
pub use sent::Sent;
pub use start::Start;
pub use timestamp::Timestamp;
pub use topic_handle::Topic;
pub use topic_partition::TopicPartition;
pub use topic_writer::{Framing, LossReport, TopicWriter, WhenRefused};
pub use unsent::{Unsent, UnsentTopic};

/// The program on the README's first screen is compiled with the documentation's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
