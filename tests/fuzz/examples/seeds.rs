//! Writes the inputs that fuzzing starts from, made of real directories, below `corpus/`:
//! `RUSTFLAGS="--cfg fuzzing" cargo run --no-default-features --example seeds`

use std::fs;
use std::path::Path;

use forebay_fuzz::directory::{self, Left};

fn main() {
    for left in [Left::Closed, Left::Killed, Left::Shortened] {
        for (name, bytes) in directory::make(left) {
            let label = format!("{left:?}-{}", name.replace('/', "-"));
            of_file(&label, &name, &bytes);
        }
    }
    for (number, input) in changes().into_iter().enumerate() {
        write("open", &format!("change-{number}"), &input);
    }
}

/// Inputs of `frames` and `metadata` made of one file.
fn of_file(label: &str, name: &str, bytes: &[u8]) {
    let split = |first: &[u8], second: &[u8], kind: u8| {
        let len = u16::try_from(first.len()).expect("seeds are small");
        [&[kind, 1][..], &len.to_le_bytes(), first, second].concat()
    };
    if name.ends_with(".log") {
        let frames = &bytes[64.min(bytes.len())..];
        write("frames", &format!("{label}-3"), &[&[3], &frames[..frames.len().min(600)]].concat());
        write("frames", &format!("{label}-7"), &[&[7], &frames[..frames.len().min(300)]].concat());
        write("metadata", label, &[&[3, 1, 0], &bytes[..64]].concat());
    } else if name.ends_with(".index") {
        write("metadata", label, &split(bytes, bytes, 4));
    } else if name.ends_with(".offsets") {
        write("metadata", label, &split(&[], &bytes[..bytes.len().min(700)], 1));
        write("metadata", &format!("{label}-2"), &split(&bytes[..300], &bytes[..300], 2));
    } else if name.ends_with("/topic") {
        write("metadata", label, &split(bytes, &[], 0));
    } else if name == "offsets/checkpoint" {
        write("metadata", label, &split(bytes, &[], 1));
    } else if name.ends_with("checkpoint") {
        write("metadata", label, &split(&[], bytes, 0));
    }
}

/// Inputs of `open`: nothing changed, and each kind of change in each file, put right or not.
fn changes() -> Vec<Vec<u8>> {
    let mut inputs = vec![vec![0], vec![1], vec![2]];
    for kind in 0..13_u8 {
        for file in 0..18_u8 {
            let base = (kind + file) % 3;
            let right = if file % 2 == 0 { 0x80 } else { 0 };
            inputs.push(vec![base, kind | right, file, 20 + file * 9, 0, 7, 3, 1, 0, 2]);
        }
    }
    inputs
}

fn write(target: &str, name: &str, input: &[u8]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join(name), input).expect("a file");
}
