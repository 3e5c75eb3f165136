//! A stretch of memory that one writer fills from the front while readers look at what is filled.
//!
//! The memory is a mapped file or a block on the heap; what stands above cannot tell which, so
//! the path of a record has no dispatch in it. This is the only module with `unsafe`.
//!
//! # The invariant that makes it sound
//!
//! `committed` divides the region. Bytes below it never change again and may be looked at by any
//! thread through [`Region::read`], or a [`View`] of what was below it at some moment. Bytes at or above it are touched only through the one
//! [`RegionWriter`], which is not `Clone` and works by `&mut self`. [`RegionWriter::publish`]
//! moves `committed` up, with Release, after the bytes were stored; [`Region::read`] loads it
//! with Acquire before it makes a slice. No `&mut [u8]` over the memory exists.
//!
//! A frame of 256 KiB or more is written with a system call into a mapped file as well, at or above
//! `committed`, because that is faster; small ones around it are stored.
//!
//! A file that lies where a store into a mapping may find no block (a copy-on-write file system) is
//! written with system calls instead, and mapped for reading alone, or not at all: see
//! [`RegionWriter`].
//!
//! What a process cannot defend itself against, in any program that maps files: another process
//! that writes into or truncates the file. The directory lock keeps brokers out; see DESIGN.md.

mod calls;
mod crc32c;
mod fork_flag;
mod shared;
mod stage;
#[cfg(loom)]
mod tracked;
mod view;
mod writer;

pub(crate) use calls::{BY_CALL, write_at};
pub(crate) use crc32c::crc32c;
pub(crate) use fork_flag::ForkFlag;
pub(crate) use shared::{Region, read_at};
pub(crate) use stage::Stage;
pub(crate) use view::View;
pub(crate) use writer::RegionWriter;
