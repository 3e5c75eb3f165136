//! Members, partitions and pools by number, and tables with a row for each of them.
//!
//! An assignor counts much and compares names seldom, so it works on numbers. Each kind of number
//! is a type of its own, so that a partition cannot be looked up in a table of members. Numbers
//! and tables are made by `Wanted` for one call of an assignor and do not outlive it.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A number that counts one kind of thing from 0.
pub(super) trait Number: Copy {
    fn nth(number: usize) -> Self;
    fn get(self) -> usize;
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) struct $name(usize);

        impl Number for $name {
            fn nth(number: usize) -> Self {
                Self(number)
            }
            fn get(self) -> usize {
                self.0
            }
        }
    };
}

number! {
    /// A member, in the order in which members are given.
    Member
}
number! {
    /// A partition of a topic that somebody wants, in order of topic and number.
    Partition
}
number! {
    /// A set of partitions that the same members may have.
    Pool
}

/// A row for each number of one kind.
#[derive(Clone, Debug)]
pub(super) struct Table<K, T> {
    rows: Vec<T>,
    key: PhantomData<K>,
}

impl<K: Number, T> Table<K, T> {
    pub(super) fn new(rows: Vec<T>) -> Self {
        Self { rows, key: PhantomData }
    }

    pub(super) fn filled(row: T, len: usize) -> Self
    where
        T: Clone,
    {
        Self::new(vec![row; len])
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn keys(&self) -> impl DoubleEndedIterator<Item = K> + use<K, T> {
        (0..self.rows.len()).map(K::nth)
    }

    pub(super) fn rows(&self) -> &[T] {
        &self.rows
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.rows.iter().enumerate().map(|(number, row)| (K::nth(number), row))
    }

    pub(super) fn into_rows(self) -> Vec<T> {
        self.rows
    }
}

impl<K: Number, T> Index<K> for Table<K, T> {
    type Output = T;

    fn index(&self, key: K) -> &T {
        self.rows.get(key.get()).expect("numbers and tables of one call are made together")
    }
}

impl<K: Number, T> IndexMut<K> for Table<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        self.rows.get_mut(key.get()).expect("numbers and tables of one call are made together")
    }
}
