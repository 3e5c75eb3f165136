//! What a frame is checked by: which CRC, and where it starts.
//!
//! In segments of format version 2 a frame of less than [`SHORT`] bytes has a CRC-32C (Castagnoli, as
//! Kafka's record batches have), which processors compute by an instruction of their own: 5 ns for 120 bytes
//! where CRC-32 takes 13, and 13 ns less for a send, whose bytes were stored a moment ago. It also finds any
//! five flipped bits up to 655 bytes, CRC-32 up to 33 (P. Koopman, "32-Bit Cyclic Redundancy Codes for Internet
//! Applications", 2002). Longer frames have a CRC-32 (of ISO 3309, as zip and Ethernet have), which carry-less
//! multiplication makes the faster one there. Segments of version 1, and files of offsets, have CRC-32 throughout.

use super::region::crc32c;

/// Frames of fewer bytes have a CRC-32C, where that is used at all.
pub(crate) const SHORT: u32 = 512;

/// How the frames of one file are checked. The start ties them to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checksum {
    start: u32,
    /// Frames shorter than this have a CRC-32C, the others a CRC-32.
    short: u32,
}

impl Checksum {
    /// CRC-32C for short frames, CRC-32 for the others.
    pub(crate) const fn by_length(start: u32) -> Self {
        Self { start, short: SHORT }
    }

    /// CRC-32 for all frames.
    pub(crate) const fn crc32(start: u32) -> Self {
        Self { start, short: 0 }
    }

    /// Of a frame of `length` bytes, `covered` of which are checked besides the length itself.
    #[inline]
    pub(super) fn of(self, length: u32, covered: &[u8]) -> u32 {
        let before = self.start ^ length;
        if length < self.short {
            crc32c(before, covered)
        } else {
            let mut hasher = crc32fast::Hasher::new_with_initial(before);
            hasher.update(covered);
            hasher.finalize()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_says_which_checksum_it_is() {
        let bytes = [7; 600];
        for length in [1, SHORT - 1, SHORT, SHORT + 1] {
            let covered = &bytes[..length as usize];
            let mut hasher = crc32fast::Hasher::new_with_initial(0x2a ^ length);
            hasher.update(covered);
            let crc32 = hasher.finalize();
            assert_eq!(Checksum::crc32(0x2a).of(length, covered), crc32);
            let short = crc32c::crc32c_append(0x2a ^ length, covered);
            let expected = if length < 512 { short } else { crc32 };
            assert_eq!(Checksum::by_length(0x2a).of(length, covered), expected, "{length}");
        }
    }
}
