//! What the fuzzers do with their input. Each target is a function of bytes that must not panic,
//! hang or ask for more memory than its files could need; `fuzz_targets/` hands it to libFuzzer.
//!
//! Checksums keep blind changes from going deep, so each target can put them right again: a first
//! byte of the input says whether it does.

pub mod checksums;
pub mod directory;
pub mod frames;
pub mod input;
pub mod metadata;
pub mod open;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn replay(target: &str, run: impl Fn(&[u8])) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut count = 0;
        for entry in fs::read_dir(dir).expect("a corpus") {
            let path = entry.expect("an entry").path();
            println!("{}", path.display());
            run(&fs::read(&path).expect("an input"));
            count += 1;
        }
        assert!(count > 0, "the corpus holds something");
    }

    #[test]
    fn the_corpus_of_frames_is_harmless() {
        replay("frames", super::frames::run);
    }

    #[test]
    fn the_corpus_of_metadata_is_harmless() {
        replay("metadata", super::metadata::run);
    }

    #[test]
    fn the_corpus_of_open_is_harmless() {
        replay("open", super::open::run);
    }
}
