//! A record's time: milliseconds since the Unix epoch, as Kafka keeps them.
//!
//! Kept as a number of its own, and not as `SystemTime`, because it is compared, indexed and
//! written to disk as that number; conversion happens only where a caller asks for it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z, the time carried by every record.
///
/// Converts from and to [`SystemTime`]; sub-millisecond parts are dropped. A record may carry any
/// time from [`Timestamp::MIN`] to [`Timestamp::MAX`]; what lies outside is refused when it is
/// sent, with [`Error::TimestampOutOfRange`](crate::Error::TimestampOutOfRange).
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use forebay::Timestamp;
///
/// let noon = Timestamp::from_millis(1_700_000_000_123);
/// assert_eq!(SystemTime::from(noon), SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
/// assert_eq!(Timestamp::from(SystemTime::from(noon)), noon);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest time a record may carry: the Unix epoch.
    pub const MIN: Self = Self(0);
    /// The latest time a record may carry: the last millisecond of the year 9999.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// A time given in milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whether a record may carry this time.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 >= Self::MIN.0 && self.0 <= Self::MAX.0
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)
            }
        };
        Self(millis)
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_millis(time.0.unsigned_abs());
        if time.0 < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
