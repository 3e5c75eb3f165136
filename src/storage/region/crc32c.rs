//! CRC-32C by the processor's own instruction, for a few hundred bytes: here because it takes `unsafe`.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "an instruction that not every processor has")
)]

/// CRC-32C of `bytes`, going on from `before`.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    if is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instructions that the function is compiled with.
        unsafe { by_instruction(before, bytes) }
    } else {
        crc32c::crc32c_append(before, bytes)
    }
}

/// CRC-32C of `bytes`, going on from `before`.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(before, bytes)
}

/// Eight bytes a step, one step after the other: what three interleaved runs would gain in speed is
/// lost again below half a kilobyte in putting them together.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
#[inline]
fn by_instruction(before: u32, bytes: &[u8]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u16, _mm_crc32_u32, _mm_crc32_u64};

    let mut crc = u64::from(!before);
    let mut eight = |bytes: &[u8; 8]| crc = _mm_crc32_u64(crc, u64::from_le_bytes(*bytes));
    let (blocks, mut rest) = bytes.as_chunks::<32>();
    for block in blocks {
        block.as_chunks().0.iter().for_each(&mut eight);
    }
    // Less than a block is left. Halves and no loop, which would be longer than the work.
    if let Some((half, after)) = rest.split_first_chunk::<16>() {
        half.as_chunks().0.iter().for_each(&mut eight);
        rest = after;
    }
    if let Some((half, after)) = rest.split_first_chunk() {
        eight(half);
        rest = after;
    }
    // The instruction leaves the upper half 0.
    let mut crc = crc as u32;
    if let Some((half, after)) = rest.split_first_chunk() {
        crc = _mm_crc32_u32(crc, u32::from_le_bytes(*half));
        rest = after;
    }
    if let Some((half, after)) = rest.split_first_chunk() {
        crc = _mm_crc32_u16(crc, u16::from_le_bytes(*half));
        rest = after;
    }
    if let Some(byte) = rest.first() {
        crc = _mm_crc32_u8(crc, *byte);
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0, &[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(0, &rising), 0x46dd_794e);
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn it_is_the_same_for_every_length_start_and_cut() {
        let bytes: Vec<u8> = (0..600_u32).map(|at| ((at * 167) >> 3) as u8).collect();
        // Under Miri it is the crate's own table, a byte at a time.
        for length in 0..if cfg!(miri) { 40 } else { 512 } {
            for start in [0, 1, 3, 4, 7] {
                let part = &bytes[start..start + length];
                let whole = crc32c(length as u32, part);
                assert_eq!(whole, crc32c::crc32c_append(length as u32, part), "{start} {length}");
                let (front, back) = part.split_at(length / 3);
                assert_eq!(crc32c(crc32c(length as u32, front), back), whole, "{start} {length}");
            }
        }
    }
}
