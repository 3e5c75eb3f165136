//! A file that is written with system calls: what is staged lies in a buffer until it is published.
//!
//! The invariant it keeps: nothing is called written whose last byte is not in the file, and where others may look
//! meanwhile the first word comes last.
#![expect(unsafe_code, reason = "a stage that points into a buffer")]

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use super::stage::{Stage, WORD};

/// A file that is written with system calls.
#[derive(Debug)]
pub(super) struct Calls {
    file: Arc<File>,
    /// Begins with what is staged, `staged` bytes, from `start` in the file.
    pub(super) buffer: Vec<u8>,
    pub(super) start: usize,
    pub(super) staged: usize,
    /// How much of it is in the file already, but for the first word.
    pub(super) ahead: usize,
}

impl Calls {
    /// Writes what is staged from the bytes `from` to `to` on.
    pub(super) fn write(&self, from: usize, to: usize) -> io::Result<()> {
        let bytes = self.buffer.get(from..to).unwrap_or_default();
        write_at(&self.file, bytes, (self.start + from) as u64)
    }
}

/// Writes all of `bytes` into the file at `position`.
#[cfg(unix)]
pub(crate) fn write_at(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, position)
}

/// Writes all of `bytes` into the file at `position`.
#[cfg(not(unix))]
pub(crate) fn write_at(mut file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    use std::io::{Seek, Write};
    file.seek(io::SeekFrom::Start(position))?;
    file.write_all(bytes)
}

/// A frame of so many bytes is written with a system call, where stores into a mapping would do too: the kernel
/// then takes pages as they come and copies, and need not clear them before. 1.4 to 2 times as fast from here on, and
/// slower with less.
pub(crate) const BY_CALL: usize = 256 << 10;
/// A buffer that is larger is not kept for the next frame.
pub(super) const KEPT_BUFFER: usize = 4 << 20;

impl Calls {
    pub(super) fn to(file: &Arc<File>) -> Self {
        Self { file: Arc::clone(file), buffer: Vec::new(), start: 0, staged: 0, ahead: 0 }
    }

    /// Opens `len` bytes of the buffer, which stand for those of the file from `start` on.
    pub(super) fn stage(&mut self, start: usize, len: usize) -> Stage<'_> {
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        // What is padding in the end, and not filled, is zeros.
        let padding = len.saturating_sub(WORD - 1)..len;
        self.buffer.get_mut(padding).unwrap_or_default().fill(0);
        (self.start, self.staged, self.ahead) = (start, len, 0);
        let base = NonNull::new(self.buffer.as_mut_ptr()).unwrap_or(NonNull::dangling());
        // SAFETY: the buffer has `len` bytes, and is borrowed for as long as the stage lives.
        unsafe { Stage::new(base, len) }
    }

    /// Writes what is staged but for its first word.
    pub(super) fn write_ahead(&mut self) -> io::Result<()> {
        if self.ahead < self.staged {
            self.write(WORD.min(self.staged), self.staged)?;
            self.ahead = self.staged;
        }
        Ok(())
    }

    pub(super) fn store_word(&mut self, position: usize, word: u32) {
        let at = position - self.start;
        let slot = self.buffer.get_mut(at..at + WORD).expect("the word lies in what is staged");
        slot.copy_from_slice(&word.to_le_bytes());
    }
}
