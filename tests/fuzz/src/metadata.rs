//! Small files and headers, from bytes that may be anything.
//!
//! The first byte of the input says what the rest is taken for, the lowest bit of the second whether
//! checksums are put right. Where there are two files, two bytes give the length of the first.

use forebay::fuzzing::{self, File};

use crate::checksums;
use crate::input::Input;

/// One input.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (kind, is_fixed) = (input.byte() % 5, input.byte() & 1 != 0);
    let file = |name: &str, bytes: &[u8]| -> File {
        let mut bytes = bytes.to_vec();
        if is_fixed {
            checksums::fix(name, &mut bytes);
        }
        (name.to_owned(), bytes)
    };
    match kind {
        0 => {
            let len = usize::from(input.half());
            let topic = file("topic", input.bytes(len));
            drop(fuzzing::topic(&[topic, file("0/checkpoint", input.rest())]));
        }
        1 => {
            let (name, _) = file("00000000000000000001.offsets", &[]);
            let len = usize::from(input.half());
            let mark = file("checkpoint", input.bytes(len));
            let offsets = file(&name, input.rest());
            drop(fuzzing::offsets(&[mark, offsets.clone()]));
            drop(fuzzing::offsets(&[offsets]));
        }
        2 => {
            let len = usize::from(input.half());
            let older = file("00000000000000000001.offsets", input.bytes(len));
            drop(fuzzing::offsets(&[older, file("00000000000000000002.offsets", input.rest())]));
        }
        3 => {
            let base_offset = input.number();
            let (_, header) = file("header.log", input.rest());
            fuzzing::segment_header(&header, base_offset);
        }
        _ => {
            let len = usize::from(input.half());
            let (_, offsets) = file("0.index", input.bytes(len));
            let (_, times) = file("0.timeindex", input.rest());
            let mut salt = [0; 8];
            salt.copy_from_slice(offsets.get(16..24).unwrap_or(&[0; 8]));
            fuzzing::indexes(&offsets, &times, u64::from_le_bytes(salt));
        }
    }
}
