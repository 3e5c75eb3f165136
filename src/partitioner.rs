//! Which partition a record goes to: pure functions of key and number of partitions, and the
//! choices that go with them.
//!
//! The hash functions are those of the Kafka clients, so that a topic can move to Kafka, or come
//! from it, without its records changing partition.

use std::fmt;
use std::sync::Arc;

use crate::record::Record;

/// How a record without an explicit partition gets one.
///
/// The three that hash send records with the same key to the same partition, and records without
/// a key as [`Sticky`](Partitioner::Sticky) does. The others do not look at the key.
///
/// ```
/// # use forebay::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// use forebay::Partitioner;
///
/// let orders = broker.create_topic("orders", TopicConfig::new().partitions(8))?;
/// assert_eq!(orders.send(Record::new("paid").key("foobar"))?.partition, 6);
/// let as_librdkafka = orders.partitioner(Partitioner::Crc32);
/// assert_eq!(as_librdkafka.send(Record::new("paid").key("foobar"))?.partition, 5);
/// # Ok::<(), forebay::Error>(())
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Partitioner {
    /// By `murmur2` of the key, as Kafka's Java client does it (`DefaultPartitioner`,
    /// `Utils.murmur2`).
    #[default]
    Murmur2,
    /// By FNV-1a of the key, as sarama's `NewHashPartitioner` does it.
    Fnv1a,
    /// By CRC-32 of the key, as librdkafka's default `consistent_random` does it.
    Crc32,
    /// Any partition, each as likely as the others.
    Random,
    /// One partition after the other.
    RoundRobin,
    /// One partition until 16 KiB were sent to it, then another, by chance (KIP-480, KIP-794).
    /// Records that follow each other stay together, which makes larger batches for readers.
    Sticky,
    /// The user's own, made by [`Partitioner::custom`].
    Custom(CustomPartitioner),
}

type Choose = dyn Fn(&Record<'_>, u32) -> u32 + Send + Sync;

/// A function that chooses partitions.
#[derive(Clone)]
pub struct CustomPartitioner(Arc<Choose>);

impl Partitioner {
    /// A partitioner of the user's own: a function of the record and the number of partitions.
    ///
    /// What it returns must be below that number; a send for which it is not fails with
    /// [`Error::UnknownPartition`](crate::Error::UnknownPartition).
    ///
    /// ```
    /// use forebay::{Broker, Partitioner, Record, TopicConfig};
    ///
    /// let broker = Broker::in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new().partitions(2))?;
    /// let urgent_first = Partitioner::custom(|record, _| if record.has_key() { 0 } else { 1 });
    /// let producer = broker.producer().partitioner(urgent_first);
    /// assert_eq!(producer.send("orders", Record::new("now").key("urgent"))?.partition, 0);
    /// # Ok::<(), forebay::Error>(())
    /// ```
    pub fn custom(choose: impl Fn(&Record<'_>, u32) -> u32 + Send + Sync + 'static) -> Self {
        Self::Custom(CustomPartitioner(Arc::new(choose)))
    }
}

impl CustomPartitioner {
    pub(crate) fn choose(&self, record: &Record<'_>, partitions: u32) -> u32 {
        (self.0)(record, partitions)
    }
}

impl fmt::Debug for CustomPartitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomPartitioner")
    }
}

impl fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Murmur2 => "Murmur2",
            Self::Fnv1a => "Fnv1a",
            Self::Crc32 => "Crc32",
            Self::Random => "Random",
            Self::RoundRobin => "RoundRobin",
            Self::Sticky => "Sticky",
            Self::Custom(_) => "Custom",
        })
    }
}

/// The partition of `key` among `partitions`, as Kafka's Java client chooses it.
#[inline]
pub(crate) fn murmur2_partition(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// The partition of `key` among `partitions`, as sarama chooses it. The remainder is taken of the
/// signed hash and its sign dropped; the smallest hash there is has no positive counterpart, its
/// remainder has.
#[inline]
pub(crate) fn fnv1a_partition(key: &[u8], partitions: u32) -> u32 {
    let remainder = i64::from(fnv1a(key).cast_signed()) % i64::from(partitions);
    u32::try_from(remainder.unsigned_abs()).expect("a remainder is below the divisor")
}

/// The partition of `key` among `partitions`, as librdkafka chooses it.
#[inline]
pub(crate) fn crc32_partition(key: &[u8], partitions: u32) -> u32 {
    crc32fast::hash(key) % partitions
}

/// `MurmurHash2`, 32 bits (Austin Appleby), with the seed Kafka uses.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let length = key.len() as u32;
    let mut hash = SEED ^ length;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(M);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(M) ^ mixed.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Fowler–Noll–Vo 1a, 32 bits.
fn fnv1a(key: &[u8]) -> u32 {
    key.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_that_of_kafka() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        for (key, hash) in
            [("foo", 597_841_616), ("bar", 988_958_145), ("baz", 1_973_573_280), ("", 275_646_681)]
        {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn crc32_partitions_are_those_of_librdkafka() {
        for (key, partition) in [
            ("abc123def456", 57),
            ("SheetJS", 26),
            ("9e8c7f4cf45857cfff7645d6", 24),
            ("3900446192ff85a5f67da10c", 75),
            ("0f4407b7a67d6d27de372198", 50),
        ] {
            assert_eq!(crc32_partition(key.as_bytes(), 100), partition, "{key}");
        }
    }

    #[test]
    fn partitions_among_eight_are_those_of_the_three_clients() {
        let all = |key: &str| {
            let key = key.as_bytes();
            [murmur2_partition(key, 8), fnv1a_partition(key, 8), crc32_partition(key, 8)]
        };
        assert_eq!(all("foobar"), [6, 0, 5]);
        assert_eq!(all("order-42"), [0, 4, 6]);
    }

    #[test]
    fn every_key_gets_a_partition_that_exists() {
        for partitions in [1, 2, 3, 7, 1 << 20] {
            for number in 0..2_000_u32 {
                let key = number.to_le_bytes();
                for choose in [murmur2_partition, fnv1a_partition, crc32_partition] {
                    assert!(choose(&key, partitions) < partitions);
                }
            }
        }
    }
}
