//! A stretch of memory that one writer fills from the front while readers look at what is filled.
//!
//! The memory is a mapped file or a block on the heap; what stands above cannot tell which, so
//! the path of a record has no dispatch in it. This is the only module with `unsafe`.
//!
//! # The invariant that makes it sound
//!
//! `committed` divides the region. Bytes below it never change again and may be looked at by any
//! thread through [`Region::read`]. Bytes at or above it are touched only through the one
//! [`RegionWriter`], which is not `Clone` and works by `&mut self`. [`RegionWriter::publish`]
//! moves `committed` up, with Release, after the bytes were stored; [`Region::read`] loads it
//! with Acquire before it makes a slice. No `&mut [u8]` over the memory exists.
//!
//! What a process cannot defend itself against, in any program that maps files: another process
//! that writes into or truncates the file. The directory lock keeps brokers out; see DESIGN.md.
#![expect(unsafe_code, reason = "memory shared between one writer and many readers")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{NonNull, copy_nonoverlapping};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::sync::AtomicUsize;
#[cfg(loom)]
use crate::sync::Planted;
#[cfg(loom)]
use tracked::Tracks;

/// Memory behind a [`Region`], given back when the region is dropped.
enum Memory {
    Map(MmapRaw),
    Heap { base: NonNull<u8>, layout: Layout },
    Empty,
}

impl Memory {
    fn heap(capacity: usize) -> io::Result<Self> {
        if capacity == 0 {
            return Ok(Self::Empty);
        }
        let layout = Layout::from_size_align(capacity, 8).map_err(|_| out_of_memory(capacity))?;
        // SAFETY: the layout's size is `capacity`, which is not 0.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or_else(|| out_of_memory(capacity))?;
        Ok(Self::Heap { base, layout })
    }

    fn base(&self) -> NonNull<u8> {
        match self {
            Self::Map(map) => {
                NonNull::new(map.as_mut_ptr()).expect("mmap does not return a mapping at address 0")
            }
            Self::Heap { base, .. } => *base,
            Self::Empty => NonNull::dangling(),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Self::Heap { base, layout } = self {
            // SAFETY: `base` came from `alloc_zeroed` with this layout, and is freed only here.
            unsafe { dealloc(base.as_ptr(), *layout) }
        }
    }
}

fn out_of_memory(bytes: usize) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, format!("no memory for {bytes} bytes"))
}

/// Memory whose first [`committed`](Region::committed) bytes are there to be read.
pub(crate) struct Region {
    base: NonNull<u8>,
    capacity: usize,
    /// Stored by the writer with Release in `publish`, loaded by readers with Acquire in
    /// `committed`; publishes the bytes below it.
    committed: AtomicUsize,
    memory: Memory,
    /// Who stores and loads what, for the model checker.
    #[cfg(loom)]
    tracks: Tracks,
}

// SAFETY: readers share only bytes below `committed`, which no longer change; bytes above it
// belong to the single `RegionWriter`. The memory itself is not tied to a thread.
unsafe impl Send for Region {}
// SAFETY: as for `Send`; `&Region` gives access to bytes below `committed` alone.
unsafe impl Sync for Region {}

impl Region {
    fn new(memory: Memory, capacity: usize, committed: usize) -> Self {
        assert!(committed <= capacity, "more is committed than the region holds");
        Self {
            base: memory.base(),
            capacity,
            committed: AtomicUsize::new(committed),
            memory,
            #[cfg(loom)]
            tracks: Tracks::new(capacity),
        }
    }

    /// Maps the whole of `file` for reading. All of it counts as committed.
    pub(crate) fn map_whole(file: &File) -> io::Result<Arc<Self>> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let memory = match len {
            0 => Memory::Empty,
            len => Memory::Map(MmapOptions::new().len(len).map_raw_read_only(file)?),
        };
        Ok(Arc::new(Self::new(memory, len, len)))
    }

    /// A region on the heap that holds a copy of `bytes`, all of it committed.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Arc<Self>> {
        let writer = RegionWriter::on_heap(bytes.len(), bytes)?;
        Ok(writer.region)
    }

    /// How many bytes from the start may be read.
    #[inline]
    pub(crate) fn committed(&self) -> usize {
        self.committed.load(Ordering::Acquire)
    }

    /// The bytes of `range`, or `None` where it reaches beyond what is committed.
    #[inline]
    pub(crate) fn read(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.committed() {
            return None;
        }
        #[cfg(loom)]
        self.tracks.load(range.clone());
        // SAFETY: `start <= end <= committed <= capacity`, so the offset stays in the memory.
        let start = unsafe { self.base.as_ptr().add(range.start) };
        // SAFETY: the range lies below `committed`: its bytes were stored before the Acquire load
        // above saw them published, and never change again. They live as long as `self`.
        Some(unsafe { std::slice::from_raw_parts(start, range.end - range.start) })
    }

    /// Asks the operating system to have the pages of `range` ready to be stored to.
    ///
    /// A hint: whatever it answers, the bytes are as they were.
    pub(crate) fn prepare(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Memory::Map(map) = &self.memory
            && range.start < range.end
            && range.end <= self.capacity
        {
            let advice = memmap2::Advice::PopulateWrite;
            drop(map.advise_range(advice, range.start, range.end - range.start));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (range, &self.memory);
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("capacity", &self.capacity)
            .field("committed", &self.committed())
            .finish_non_exhaustive()
    }
}

/// The one writer of a [`Region`].
#[derive(Debug)]
pub(crate) struct RegionWriter {
    region: Arc<Region>,
    /// The end of what may be stored to: beyond it a mapped file has no blocks, and a store would
    /// kill the process.
    limit: usize,
    #[cfg(loom)]
    planted: Planted,
}

impl RegionWriter {
    /// Maps `capacity` bytes of `file`, which holds `committed` bytes to be read and has blocks
    /// for `limit`. `capacity` may lie beyond the file's end: it is address space to grow into.
    pub(crate) fn map(
        file: &File,
        capacity: usize,
        committed: usize,
        limit: usize,
    ) -> io::Result<Self> {
        let memory = Memory::Map(MmapOptions::new().len(capacity).map_raw(file)?);
        Ok(Self::new(memory, capacity, committed, limit))
    }

    /// A region of `capacity` bytes on the heap that begins with a copy of `bytes`, committed.
    pub(crate) fn on_heap(capacity: usize, bytes: &[u8]) -> io::Result<Self> {
        let mut writer = Self::new(Memory::heap(capacity)?, capacity, 0, capacity);
        if !bytes.is_empty() {
            let mut stage =
                writer.stage(0, bytes.len()).ok_or_else(|| out_of_memory(bytes.len()))?;
            stage.put(bytes);
            writer.publish(bytes.len());
        }
        Ok(writer)
    }

    fn new(memory: Memory, capacity: usize, committed: usize, limit: usize) -> Self {
        assert!(limit <= capacity, "more may be stored to than the region holds");
        Self {
            region: Arc::new(Region::new(memory, capacity, committed)),
            limit,
            #[cfg(loom)]
            planted: Planted::Nothing,
        }
    }

    /// The region, for readers to share.
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The end of what is published.
    #[inline]
    pub(crate) fn committed(&self) -> usize {
        // Relaxed: the only thread that stores it is the one that holds this writer.
        self.region.committed.load(Ordering::Relaxed)
    }

    /// How far the region could grow.
    pub(crate) fn capacity(&self) -> usize {
        self.region.capacity
    }

    /// The end of what may be stored to.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Says that there are blocks up to `limit`.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        assert!(limit <= self.region.capacity, "more may be stored to than the region holds");
        self.limit = limit;
    }

    /// Opens `len` bytes from `start` to be filled, or `None` where they are not all storable.
    #[inline]
    pub(crate) fn stage(&mut self, start: usize, len: usize) -> Option<Stage<'_>> {
        let end = start.checked_add(len)?;
        if start < self.committed() || end > self.limit {
            return None;
        }
        // SAFETY: `start <= end <= limit <= capacity`, so the offset stays in the memory.
        let base = unsafe { self.region.base.add(start) };
        #[cfg(loom)]
        if self.planted == Planted::PublishesEarly {
            self.region.committed.store(end, Ordering::Release);
        }
        #[cfg(loom)]
        self.region.tracks.store(start..end);
        Some(Stage { base, len, filled: 0, writer: PhantomData })
    }

    /// Stores the aligned word at `position`, after every byte staged before it.
    ///
    /// For other processes that map the file: who sees the word (with Acquire) sees those bytes.
    #[inline]
    pub(crate) fn store_word(&mut self, position: usize, word: u32) {
        assert!(
            position.is_multiple_of(4)
                && self.is_unpublished(position)
                && position + 4 <= self.limit,
            "the word is aligned and lies in what may be stored to"
        );
        // SAFETY: `position + 4 <= limit <= capacity`, so the offset stays in the memory.
        let word_at = unsafe { self.region.base.as_ptr().add(position) };
        // SAFETY: the memory starts at an address aligned to at least 8 and `position` is a
        // multiple of 4; the word lies at or above `committed`, so no slice covers it, and `&mut
        // self` keeps every other store out.
        let cell = unsafe { AtomicU32::from_ptr(word_at.cast()) };
        cell.store(word.to_le(), Ordering::Release);
    }

    #[inline]
    fn is_unpublished(&self, position: usize) -> bool {
        #[cfg(loom)]
        if self.planted == Planted::PublishesEarly {
            return true;
        }
        position >= self.committed()
    }

    /// Lets readers see everything below `end`. From here on those bytes never change.
    #[inline]
    pub(crate) fn publish(&mut self, end: usize) {
        assert!(self.committed() <= end && end <= self.limit, "what is published was storable");
        #[cfg(loom)]
        if self.planted == Planted::PublishesRelaxed {
            self.region.committed.store(end, Ordering::Relaxed);
            return;
        }
        self.region.committed.store(end, Ordering::Release);
    }

    /// Has a bug from here on.
    #[cfg(loom)]
    pub(crate) fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }
}

/// Bytes being filled, before they are published. Borrows the writer, so there is only one.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    base: NonNull<u8>,
    len: usize,
    filled: usize,
    writer: PhantomData<&'a mut RegionWriter>,
}

impl Stage<'_> {
    /// Appends `bytes` to what is filled.
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.len - self.filled, "the stage was opened for all that is put");
        // SAFETY: `filled <= len`, which `stage` checked to lie in the memory.
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

/// Lets loom see who touches which bytes, since it does not watch plain memory.
#[cfg(loom)]
mod tracked {
    use std::ops::Range;

    use loom::cell::UnsafeCell;

    /// Frames and headers begin and end at multiples of this.
    const GRAIN: usize = 4;
    /// How many bytes are watched: a segment's header and a few short frames.
    const WATCHED: usize = 256;

    /// One cell for each grain from the start of a region.
    #[derive(Debug)]
    pub(super) struct Tracks(Vec<UnsafeCell<()>>);

    impl Tracks {
        pub(super) fn new(capacity: usize) -> Self {
            let count = capacity.min(WATCHED).div_ceil(GRAIN);
            Self((0..count).map(|_| UnsafeCell::new(())).collect())
        }

        fn cells(&self, range: Range<usize>) -> &[UnsafeCell<()>] {
            let end = range.end.div_ceil(GRAIN).min(self.0.len());
            self.0.get(range.start / GRAIN..end).unwrap_or_default()
        }

        pub(super) fn load(&self, range: Range<usize>) {
            self.cells(range).iter().for_each(|cell| cell.with(|_| ()));
        }

        pub(super) fn store(&self, range: Range<usize>) {
            self.cells(range).iter().for_each(|cell| cell.with_mut(|_| ()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_staged_is_unseen_until_it_is_published() {
        let mut writer = RegionWriter::on_heap(128, b"head").expect("heap");
        let region = Arc::clone(writer.region());
        let mut stage = writer.stage(4, 8).expect("room");
        stage.put(b"12345678");
        stage.put_at(2, b"xx");
        assert_eq!(stage.bytes(1), b"2xx5678");
        assert_eq!(region.read(0..4), Some(&b"head"[..]));
        assert_eq!(region.read(0..5), None);
        writer.publish(12);
        assert_eq!(region.read(0..12), Some(&b"head12xx5678"[..]));
    }

    #[test]
    fn nothing_below_what_is_published_or_beyond_the_limit_can_be_staged() {
        let mut writer = RegionWriter::on_heap(128, b"head").expect("heap");
        assert!(writer.stage(3, 4).is_none());
        assert!(writer.stage(4, 125).is_none());
        assert!(writer.stage(4, usize::MAX).is_none());
        writer.set_limit(8);
        assert!(writer.stage(4, 5).is_none());
        assert!(writer.stage(4, 4).is_some());
    }

    #[test]
    fn bytes_outlive_the_writer_while_a_reader_holds_the_region() {
        let region = {
            let writer = RegionWriter::on_heap(64, b"kept").expect("heap");
            Arc::clone(writer.region())
        };
        assert_eq!(region.read(0..4), Some(&b"kept"[..]));
    }

    #[test]
    fn a_reader_on_another_thread_sees_only_whole_publications() {
        const STEPS: usize = if cfg!(miri) { 50 } else { 10_000 };
        let mut writer = RegionWriter::on_heap(STEPS * 8, b"").expect("heap");
        let region = Arc::clone(writer.region());
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            while seen < STEPS {
                let end = region.committed();
                while seen * 8 < end {
                    let bytes = region.read(seen * 8..seen * 8 + 8).expect("published");
                    assert_eq!(bytes, (seen as u64 + 1).to_le_bytes());
                    seen += 1;
                }
                std::thread::yield_now();
            }
        });
        for step in 0..STEPS {
            let word = (step as u64 + 1).to_le_bytes();
            let mut stage = writer.stage(step * 8, 8).expect("room");
            stage.put(&[0; 4]);
            stage.put(&word[4..]);
            let low = u32::try_from(step + 1).expect("small");
            writer.store_word(step * 8, low);
            writer.publish(step * 8 + 8);
        }
        reader.join().expect("reader");
    }
}
