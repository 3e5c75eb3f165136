//! A list that only grows and is read without a lock: the partitions of a topic.
//!
//! Items lie in blocks of 1, 2, 4, … places that never move, so a look-up is a few instructions
//! and an item can be borrowed for as long as the list lives.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Enough blocks for 2^21 - 1 items.
const BLOCKS: usize = 21;

/// A list that can be added to while others read it.
#[derive(Debug)]
pub(crate) struct GrowingList<T> {
    blocks: [OnceLock<Box<[OnceLock<T>]>>; BLOCKS],
    /// How many items there are. Stored with Release after the item, loaded with Acquire.
    len: AtomicU32,
}

impl<T> GrowingList<T> {
    pub(crate) fn new() -> Self {
        Self { blocks: [const { OnceLock::new() }; BLOCKS], len: AtomicU32::new(0) }
    }

    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (block, place) = locate(index);
        self.blocks.get(block)?.get()?.get(place)?.get()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).map_while(|index| self.get(index))
    }

    /// Adds an item. Called by one thread at a time.
    pub(crate) fn push(&self, item: T) {
        let index = self.len();
        let (block, place) = locate(index);
        let block = self.blocks.get(block).expect("a topic has at most 2^20 partitions");
        let places = block.get_or_init(|| (0..=index).map(|_| OnceLock::new()).collect());
        let filled = places.get(place).map(|place| place.set(item).is_ok());
        assert!(filled == Some(true), "one thread at a time pushes");
        self.len.store(index + 1, Ordering::Release);
    }
}

/// The block an index lies in, and its place there. Block `b` starts with index `2^b - 1`.
#[inline]
fn locate(index: u32) -> (usize, usize) {
    let number = u64::from(index) + 1;
    let block = number.ilog2();
    (block as usize, (number - (1 << block)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_found_in_its_place() {
        let list = GrowingList::new();
        for item in 0..1000 {
            assert_eq!(list.get(item), None);
            list.push(item);
            assert_eq!((list.len(), list.get(item)), (item + 1, Some(&item)));
        }
        assert_eq!(list.get(u32::MAX), None);
        assert!(list.iter().copied().eq(0..1000));
    }
}
