//! The one that fills a region: by stores into the memory, or by system calls into the file.
#![expect(unsafe_code, reason = "memory shared between one writer and many readers")]

use std::fs::File;
use std::io;
use std::ptr::{NonNull, copy_nonoverlapping};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapOptions;

use super::calls::{BY_CALL, Calls, KEPT_BUFFER};
use super::shared::{Memory, Region, out_of_memory, read_at};
use super::stage::{Stage, WORD};
#[cfg(loom)]
use crate::sync::Planted;

impl Region {
    /// Copies the whole of `file` into memory. Its owner, another process perhaps, may cut the reserve off
    /// meanwhile; then it is read as it is without.
    pub(crate) fn read_whole(file: &File) -> io::Result<Arc<Self>> {
        let len = || usize::try_from(file.metadata()?.len()).map_err(io::Error::other);
        let mut bytes = vec![0; len()?];
        while let Err(error) = read_at(file, &mut bytes, 0) {
            let shorter = len()?;
            if error.kind() != io::ErrorKind::UnexpectedEof || shorter >= bytes.len() {
                return Err(error);
            }
            bytes.truncate(shorter);
        }
        Self::copy_of(&bytes)
    }

    /// A region on the heap that holds a copy of `bytes`, all of it committed.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Arc<Self>> {
        let writer = RegionWriter::on_heap(bytes.len(), bytes)?;
        Ok(Arc::clone(writer.region()))
    }
}

/// The one writer of a [`Region`].
///
/// What is staged is stored into the memory itself, or, for a file that is written with system
/// calls, into a buffer that [`publish`](Self::publish) writes to the file. In the second case the
/// memory is a mapping for reading alone, where the bytes appear by themselves, or a copy on the
/// heap.
#[derive(Debug)]
pub(crate) struct RegionWriter {
    region: Arc<Region>,
    /// Where its memory begins. As `end`, it is kept here too so that an append touches no cache line of
    /// the region but the one it stores to.
    base: NonNull<u8>,
    /// The end of what is published: what `committed` of the region was last set to, to be had without
    /// a load that others share.
    end: usize,
    /// The end of what may be stored to: beyond it a mapped file has no blocks, and a store would
    /// kill the process.
    limit: usize,
    /// What has this many bytes or more is written with a system call: 0 for everything, `usize::MAX` for
    /// nothing.
    calls_from: usize,
    /// Whether what is staged is to be written with a system call.
    is_call: bool,
    calls: Option<Calls>,
    #[cfg(loom)]
    planted: Planted,
}

// SAFETY: it owns what it points to through the region, which is `Send`, and works by `&mut self`.
unsafe impl Send for RegionWriter {}
// SAFETY: by `&self` it gives nothing but numbers and the region, which is `Sync`.
unsafe impl Sync for RegionWriter {}

impl RegionWriter {
    /// Maps `capacity` bytes of `file`, which holds `committed` bytes to be read and has blocks
    /// for `limit`. `capacity` may lie beyond the file's end: it is address space to grow into.
    pub(crate) fn map(
        file: &Arc<File>,
        capacity: usize,
        committed: usize,
        limit: usize,
    ) -> io::Result<Self> {
        let map = MmapOptions::new().len(capacity).map_raw(&**file)?;
        // Or the first store would wait until all that was reserved, up to some megabytes of zeros, was
        // "read ahead".
        #[cfg(unix)]
        drop(map.advise(memmap2::Advice::Random));
        let mut writer = Self::new(Memory::Map(map), capacity, committed, limit);
        // What the one writes appears in the other: elsewhere that is not so, or not known.
        if cfg!(target_os = "linux") {
            writer.calls = Some(Calls::to(file));
            writer.calls_from = BY_CALL;
        }
        Ok(writer)
    }

    /// As [`map`](Self::map), for a file that is written with system calls; `mapped` says whether it
    /// is mapped for reading or copied into memory.
    pub(crate) fn with_calls(
        file: &Arc<File>,
        capacity: usize,
        committed: usize,
        limit: usize,
        mapped: bool,
    ) -> io::Result<Self> {
        let mut writer = if mapped {
            let memory = Memory::Map(MmapOptions::new().len(capacity).map_raw_read_only(&**file)?);
            Self::new(memory, capacity, committed, limit)
        } else {
            let mut bytes = vec![0; committed];
            read_at(file, &mut bytes, 0)?;
            let mut writer = Self::on_heap(capacity, &bytes)?;
            writer.limit = limit;
            writer
        };
        writer.calls = Some(Calls::to(file));
        writer.calls_from = 0;
        Ok(writer)
    }

    /// A region of `capacity` bytes on the heap that begins with a copy of `bytes`, committed.
    pub(crate) fn on_heap(capacity: usize, bytes: &[u8]) -> io::Result<Self> {
        let mut writer = Self::new(Memory::heap(capacity)?, capacity, 0, capacity);
        if !bytes.is_empty() {
            let mut stage =
                writer.stage(0, bytes.len()).ok_or_else(|| out_of_memory(bytes.len()))?;
            stage.put(bytes);
            writer.publish(bytes.len())?;
        }
        Ok(writer)
    }

    fn new(memory: Memory, capacity: usize, committed: usize, limit: usize) -> Self {
        assert!(limit <= capacity, "more may be stored to than the region holds");
        let region = Arc::new(Region::new(memory, capacity, committed));
        Self {
            base: region.base,
            region,
            end: committed,
            limit,
            calls_from: usize::MAX,
            is_call: false,
            calls: None,
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
        self.end
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

    /// Whether so many bytes are written with a system call.
    #[inline]
    pub(crate) fn takes_a_call(&self, len: usize) -> bool {
        len >= self.calls_from
    }

    /// Opens `len` bytes from `start` to be filled, or `None` where they are not all storable.
    #[inline]
    pub(crate) fn stage(&mut self, start: usize, len: usize) -> Option<Stage<'_>> {
        self.is_call = self.takes_a_call(len);
        if self.is_call {
            return self.stage_call(start, len);
        }
        self.stage_stores(start, len)
    }

    /// As [`stage`](Self::stage), for bytes that do not [take a call](Self::takes_a_call).
    #[inline]
    pub(crate) fn stage_stores(&mut self, start: usize, len: usize) -> Option<Stage<'_>> {
        debug_assert!(!self.takes_a_call(len));
        let end = start.checked_add(len)?;
        if start < self.committed() || end > self.limit {
            return None;
        }
        // SAFETY: `start <= end <= limit <= capacity`, so the offset stays in the memory.
        let base = unsafe { self.base.add(start) };
        #[cfg(loom)]
        if self.planted == Planted::PublishesEarly {
            self.region.committed.store(end, Ordering::Release);
        }
        #[cfg(loom)]
        self.region.tracks.store(start..end);
        // SAFETY: the bytes from `start` to `end` lie in the memory, at or above `committed`, so no slice covers
        // them; the writer, the only one to store there, is borrowed for as long as the stage lives.
        Some(unsafe { Stage::new(base, len) })
    }

    #[cold]
    fn stage_call(&mut self, start: usize, len: usize) -> Option<Stage<'_>> {
        let end = start.checked_add(len)?;
        if start < self.committed() || end > self.limit {
            return None;
        }
        Some(self.calls.as_mut()?.stage(start, len))
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
        if self.is_call
            && let Some(calls) = &mut self.calls
        {
            calls.store_word(position, word);
            return;
        }
        // SAFETY: `position + 4 <= limit <= capacity`, so the offset stays in the memory.
        let word_at = unsafe { self.base.as_ptr().add(position) };
        // SAFETY: the memory starts at an address aligned to at least 8 and `position` is a
        // multiple of 4; the word lies at or above `committed`, so no slice covers it, and `&mut
        // self` keeps every other store out.
        let cell = unsafe { AtomicU32::from_ptr(word_at.cast()) };
        cell.store(word.to_le(), Ordering::Release);
    }

    /// Lets readers see everything below `end`. From here on those bytes never change.
    ///
    /// It fails only if what was staged is written with a system call, and then nothing is published.
    #[inline]
    pub(crate) fn publish(&mut self, end: usize) -> io::Result<()> {
        if self.is_call {
            assert!(self.committed() <= end && end <= self.limit, "what is published was storable");
            self.is_call = false;
            self.write_staged(end)?;
        }
        self.publish_stores(end);
        Ok(())
    }

    /// As [`publish`](Self::publish), where what was staged was [stored](Self::stage_stores).
    #[inline]
    pub(crate) fn publish_stores(&mut self, end: usize) {
        assert!(self.committed() <= end && end <= self.limit, "what is published was storable");
        self.end = end;
        #[cfg(loom)]
        if self.planted == Planted::PublishesRelaxed {
            self.region.committed.store(end, Ordering::Relaxed);
            return;
        }
        self.region.committed.store(end, Ordering::Release);
    }

    #[inline]
    fn is_unpublished(&self, position: usize) -> bool {
        #[cfg(loom)]
        if self.planted == Planted::PublishesEarly {
            return true;
        }
        position >= self.committed()
    }

    /// Has a bug from here on.
    #[cfg(loom)]
    pub(crate) fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Whether what is stored goes to pages that are better touched before.
    #[inline]
    pub(crate) fn has_pages(&self) -> bool {
        cfg!(target_os = "linux")
            && self.calls_from > 0
            && matches!(self.region.memory, Memory::Map(_))
    }

    /// Writes what is staged, but for its first word, if that takes a system call, so that little is
    /// left that could fail when it is published.
    pub(crate) fn write_ahead(&mut self) -> io::Result<()> {
        if self.is_call
            && let Some(calls) = &mut self.calls
        {
            calls.write_ahead()?;
        }
        Ok(())
    }

    /// Writes what is staged below `end` to the file, and to the memory if that is a copy.
    #[cold]
    fn write_staged(&mut self, end: usize) -> io::Result<()> {
        let Some(calls) = &mut self.calls else { return Ok(()) };
        let staged = (end - calls.start).min(calls.staged);
        if self.calls_from > 0 {
            // Other processes may look at the mapping: the first word comes last there.
            calls.write_ahead()?;
        }
        if calls.ahead >= staged {
            calls.write(0, WORD.min(staged))?;
        } else {
            calls.write(0, staged)?;
        }
        calls.ahead = 0;
        if let Memory::Heap { .. } = self.region.memory {
            assert!(calls.start + staged <= self.region.capacity, "it was staged within the limit");
            // SAFETY: `start + staged <= capacity`, so the offset stays in the memory.
            let to = unsafe { self.region.base.add(calls.start) };
            // SAFETY: `staged` bytes fit, by the assertion, and lie in the buffer, which is at least as long
            // since they were staged, and memory of its own. They lie at or above `committed`: no slice covers them, and `&mut self` keeps
            // every other store out.
            unsafe { copy_nonoverlapping(calls.buffer.as_ptr(), to.as_ptr(), staged) }
        }
        if calls.buffer.len() > KEPT_BUFFER {
            calls.buffer = Vec::new();
        }
        calls.staged = 0;
        Ok(())
    }
}
