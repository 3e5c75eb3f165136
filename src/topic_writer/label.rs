//! What each record of a writer gets besides its value, and how much room that leaves.

use crate::record::Record;
use crate::record_codec::encoded_bytes;
use crate::storage::frame::HEADER_BYTES;

/// A key and headers.
#[derive(Clone, Debug, Default)]
pub(super) struct Label {
    key: Option<Box<[u8]>>,
    headers: Vec<(Box<str>, Box<[u8]>)>,
}

impl Label {
    pub(super) fn set_key(&mut self, key: &[u8]) {
        self.key = Some(key.into());
    }

    pub(super) fn add_header(&mut self, name: &str, value: &[u8]) {
        self.headers.push((name.into(), value.into()));
    }

    /// A record with this label. Up to two headers need no allocation.
    #[inline]
    pub(super) fn record<'a>(&'a self, value: &'a [u8]) -> Record<'a> {
        let mut record = Record::new(value);
        record.key = self.key.as_deref();
        for (name, value) in &self.headers {
            record = record.header(name, value);
        }
        record
    }

    /// The longest value a record may have in a topic whose records may take so many bytes; at least 1.
    ///
    /// If the label alone takes more, no value is short enough. Then nothing is gained by cutting, and
    /// the answer is a length at which little is cut.
    pub(super) fn longest_value(&self, max_record_bytes: u64) -> usize {
        let max = usize::try_from(max_record_bytes).unwrap_or(usize::MAX).max(1);
        let mut bare = self.record(b"");
        bare.value = None;
        let around = HEADER_BYTES + encoded_bytes(&bare, 0);
        let left = max.saturating_sub(around);
        // A varint before the value says how long it is: seven bits of it a byte.
        let fits = |length_bytes: usize| {
            let value = left.checked_sub(length_bytes)?;
            let is_told = value >> (7 * length_bytes) == 0;
            (is_told && value > 0).then_some(value)
        };
        (1..=5).find_map(fits).unwrap_or(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_value_is_the_longest_that_fits() {
        let mut label = Label::default();
        for step in 0..3 {
            for max_record_bytes in (60..400).chain(16_370..16_500).chain(2_097_100..2_097_300) {
                let longest = label.longest_value(max_record_bytes as u64);
                let takes =
                    |value: usize| HEADER_BYTES + encoded_bytes(&label.record(&vec![0; value]), 0);
                assert!(takes(longest) <= max_record_bytes, "{longest} of {max_record_bytes}");
                assert!(takes(longest + 1) > max_record_bytes, "{longest} of {max_record_bytes}");
            }
            if step == 0 {
                label.set_key(b"host-1");
            }
            label.add_header("a", b"b");
        }
    }

    #[test]
    fn a_label_that_leaves_no_room_cuts_nothing_into_crumbs() {
        let mut label = Label::default();
        label.set_key(&[0; 1000]);
        assert_eq!(label.longest_value(1000), 1000);
        assert_eq!(label.longest_value(0), 1);
    }
}
