//! A stretch of memory that is being filled, from the front, by its one writer.
//!
//! The invariant it keeps: nothing is stored outside of the bytes it was opened for, and only what was filled is
//! looked at or overwritten.
#![expect(unsafe_code, reason = "memory shared between one writer and many readers")]

use std::marker::PhantomData;
use std::ptr::{NonNull, copy_nonoverlapping};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes being filled, before they are published. Borrows the writer, so there is only one.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    base: NonNull<u8>,
    len: usize,
    filled: usize,
    /// The writer, or its buffer.
    borrowed: PhantomData<&'a mut ()>,
}

/// The first bytes of what is staged, which are stored last.
pub(super) const WORD: usize = 4;

impl Stage<'_> {
    /// Of the `len` bytes from `base` on.
    ///
    /// # Safety
    ///
    /// For as long as the stage lives, nobody else stores to those bytes, and nobody has a reference to them.
    #[inline]
    pub(super) unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len, filled: 0, borrowed: PhantomData }
    }

    /// Appends `bytes` to what is filled.
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.len - self.filled, "the stage was opened for all that is put");
        // SAFETY: `filled <= len`, which was promised to lie in the memory.
        let to = unsafe { self.base.as_ptr().add(self.filled) };
        // SAFETY: `bytes.len()` more bytes fit, by the assertion. `bytes` cannot overlap: slices
        // of the region end at `committed`, and this stage starts at or above it.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
        self.filled += bytes.len();
    }

    /// Appends one byte to what is filled.
    #[inline]
    pub(crate) fn put_byte(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    /// Overwrites filled bytes from `position` in the stage.
    #[inline]
    pub(crate) fn put_at(&mut self, position: usize, bytes: &[u8]) {
        assert!(
            position <= self.filled && bytes.len() <= self.filled - position,
            "only filled bytes are overwritten"
        );
        // SAFETY: `position <= filled <= len`.
        let to = unsafe { self.base.as_ptr().add(position) };
        // SAFETY: `position + bytes.len() <= filled <= len`; no overlap, as in `put`.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }

    /// Stores the first word, after every byte that was put: as
    /// `RegionWriter::store_word`, for whoever has just filled all of it.
    #[inline]
    pub(crate) fn put_first_word(&mut self, word: u32) {
        assert!(self.filled >= WORD, "a word begins there");
        if !self.base.cast::<u32>().is_aligned() {
            // A buffer that will be written with a system call may lie anywhere.
            return self.put_at(0, &word.to_le_bytes());
        }
        // SAFETY: the stage was opened for `len` bytes of the memory, of which at least 4 are filled, and
        // its start is aligned, as was just seen. No slice covers it, because the stage begins at or
        // above `committed`, and `&mut self` keeps every other store out.
        let cell = unsafe { AtomicU32::from_ptr(self.base.as_ptr().cast()) };
        cell.store(word.to_le(), Ordering::Release);
    }

    /// How much is filled.
    #[inline]
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// What is filled, from `from` on. Nobody else can store to it while it is borrowed.
    #[inline]
    pub(crate) fn bytes(&self, from: usize) -> &[u8] {
        assert!(from <= self.filled, "only filled bytes are looked at");
        // SAFETY: `from <= filled <= len`.
        let start = unsafe { self.base.as_ptr().add(from) };
        // SAFETY: the bytes from `from` to `filled` were stored by `put`; a store needs `&mut
        // self`, which the returned borrow excludes.
        unsafe { std::slice::from_raw_parts(start, self.filled - from) }
    }
}
