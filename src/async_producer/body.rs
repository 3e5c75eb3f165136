//! The bytes of a batch. They are grown before a record is laid down and never shrink, so that laying one
//! down is plain stores into bytes that are there.

use crate::record_codec::Put;

/// The least there is room for once there is any.
const FIRST_BYTES: usize = 1 << 10;

/// Bytes, of which the first `used` mean something.
#[derive(Debug, Default)]
pub(super) struct Body {
    bytes: Vec<u8>,
    used: usize,
}

impl Body {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    /// Room for exactly so many bytes more.
    #[inline]
    pub(super) fn add(&mut self, bytes: usize) -> Pen<'_> {
        let end = self.used + bytes;
        if end > self.bytes.len() {
            self.grow(end);
        }
        let room = self.bytes.get_mut(self.used..end).unwrap_or_default();
        self.used = end;
        Pen { room, at: 0 }
    }

    #[cold]
    fn grow(&mut self, end: usize) {
        self.bytes.resize(end.max(2 * self.bytes.len()).max(FIRST_BYTES), 0);
    }

    /// What it takes in memory, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Begins anew, with the memory it has.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }
}

/// Lays bytes down one behind the other.
#[derive(Debug)]
pub(super) struct Pen<'a> {
    room: &'a mut [u8],
    at: usize,
}

impl Put for Pen<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(room) = self.room.get_mut(self.at..end) {
            room.copy_from_slice(bytes);
        }
        self.at = end;
    }

    #[inline]
    fn put_byte(&mut self, byte: u8) {
        if let Some(room) = self.room.get_mut(self.at) {
            *room = byte;
        }
        self.at += 1;
    }
}

impl Drop for Pen<'_> {
    #[inline]
    fn drop(&mut self) {
        debug_assert!(self.at == self.room.len() || std::thread::panicking(), "all of it was used");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use crate::record_codec::{decode, encode, encoded_bytes};

    #[test]
    fn records_lie_one_behind_the_other_however_the_body_grows_and_is_used_again() {
        let mut body = Body::default();
        for round in 0..3 {
            body.clear();
            let value = vec![round; 700];
            let record = Record::new(&value).key("k").header("a", "b");
            let bytes = encoded_bytes(&record, 0);
            for _ in 0..20 {
                encode(&record, 0, &mut body.add(bytes));
            }
            let (mut at, mut found) = (0, 0);
            while let Some(layout) = decode(body.as_slice(), at) {
                assert_eq!(
                    layout.value.and_then(|range| body.as_slice().get(range)),
                    Some(&value[..])
                );
                (at, found) = (layout.end, found + 1);
            }
            assert_eq!((at, found), (body.len(), 20));
        }
    }
}
