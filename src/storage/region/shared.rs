//! The side of a region that readers share.
#![expect(unsafe_code, reason = "memory shared between one writer and many readers")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use memmap2::{MmapOptions, MmapRaw};

#[cfg(loom)]
use super::tracked::Tracks;
use crate::sync::{AtomicUsize, OwnLine};

/// Memory behind a [`Region`], given back when the region is dropped.
pub(super) enum Memory {
    Map(MmapRaw),
    Heap { base: NonNull<u8>, layout: Layout },
    Empty,
}

impl Memory {
    pub(super) fn heap(capacity: usize) -> io::Result<Self> {
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

pub(super) fn out_of_memory(bytes: usize) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, format!("no memory for {bytes} bytes"))
}

/// Memory whose first [`committed`](Region::committed) bytes are there to be read.
pub(crate) struct Region {
    pub(super) base: NonNull<u8>,
    pub(super) capacity: usize,
    /// Stored by the writer with Release in `publish`, loaded by readers with Acquire in
    /// `committed`; publishes the bytes below it.
    pub(super) committed: OwnLine<AtomicUsize>,
    pub(super) memory: Memory,
    /// Who stores and loads what, for the model checker.
    #[cfg(loom)]
    pub(super) tracks: Tracks,
}

// SAFETY: readers share only bytes below `committed`, which no longer change; bytes above it
// belong to the single `RegionWriter`. The memory itself is not tied to a thread.
unsafe impl Send for Region {}
// SAFETY: as for `Send`; `&Region` gives access to bytes below `committed` alone.
unsafe impl Sync for Region {}

impl Region {
    pub(super) fn new(memory: Memory, capacity: usize, committed: usize) -> Self {
        assert!(committed <= capacity, "more is committed than the region holds");
        Self {
            base: memory.base(),
            capacity,
            committed: OwnLine(AtomicUsize::new(committed)),
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

    /// Says whether pages from `start` on, which nobody has touched yet, are better large.
    ///
    /// A hint: whatever comes of it, the bytes are as they were.
    pub(crate) fn use_large_pages(&self, start: usize, large: bool) {
        #[cfg(target_os = "linux")]
        if let Memory::Map(map) = &self.memory
            && start < self.capacity
        {
            use memmap2::Advice::{HugePage, NoHugePage, Normal, Random};
            // Pages come with reading ahead there, or one by one: see `RegionWriter::map`.
            let advices = if large { [Normal, HugePage] } else { [NoHugePage, Random] };
            for advice in advices {
                drop(map.advise_range(advice, start, self.capacity - start));
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (start, large, &self.memory);
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

/// Fills `bytes` from the file at `position`.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, bytes: &mut [u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, position)
}

/// Fills `bytes` from the file at `position`.
#[cfg(not(unix))]
pub(crate) fn read_at(mut file: &File, bytes: &mut [u8], position: u64) -> io::Result<()> {
    use std::io::{Read, Seek};
    file.seek(io::SeekFrom::Start(position))?;
    file.read_exact(bytes)
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("capacity", &self.capacity)
            .field("committed", &self.committed())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::RegionWriter;
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
        writer.publish(12).expect("memory");
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
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_file_written_with_calls_holds_what_is_published_and_readers_see_it() {
        for mapped in [true, false] {
            let file = Arc::new(tempfile::tempfile().expect("file"));
            file.set_len(64).expect("length");
            let mut writer = RegionWriter::with_calls(&file, 128, 0, 64, mapped).expect("open");
            let region = Arc::clone(writer.region());
            let content = || {
                let mut bytes = vec![0; 64];
                read_at(&file, &mut bytes, 0).expect("read");
                bytes
            };
            let mut stage = writer.stage(0, 12).expect("room");
            stage.put(b"....content!");
            writer.store_word(0, 7);
            assert_eq!(content(), [0; 64], "nothing is written before it is published");
            writer.publish(12).expect("publish");
            assert_eq!(region.read(0..12), Some(&b"\x07\0\0\0content!"[..]));
            assert_eq!(&content()[..12], b"\x07\0\0\0content!");
            // In two steps, of which the first leaves a length of 0.
            let mut stage = writer.stage(12, 8).expect("room");
            stage.put(b"\0\0\0\0more");
            writer.write_ahead().expect("write");
            assert_eq!(&content()[12..20], b"\0\0\0\0more");
            writer.store_word(12, 8);
            writer.publish(20).expect("publish");
            assert_eq!(region.read(12..20), Some(&b"\x08\0\0\0more"[..]));
            assert_eq!(&content()[12..20], b"\x08\0\0\0more");
            assert!(writer.stage(60, 8).is_none(), "beyond the limit");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn what_cannot_be_written_is_not_published() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("file"), [0; 64]).expect("write");
        // Opened for reading alone, so that every write to it fails.
        let file = Arc::new(File::open(dir.path().join("file")).expect("open"));
        let mut writer = RegionWriter::with_calls(&file, 64, 0, 64, true).expect("open");
        writer.stage(0, 8).expect("room").put(b"12345678");
        assert!(writer.publish(8).is_err());
        assert_eq!(writer.committed(), 0);
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
            writer.publish(step * 8 + 8).expect("memory");
        }
        reader.join().expect("reader");
    }
}
