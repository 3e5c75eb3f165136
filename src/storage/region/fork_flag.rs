//! A flag that a forked child finds down.
//!
//! Whoever is about to change something looks at it: one load, no system call. It lies in a page
//! that the kernel hands to a child filled with zeros (`MADV_WIPEONFORK`, Linux 4.14). Where there
//! is no such page the flag is an ordinary one, and a child is found out only by its process id,
//! where that is looked at.
#![expect(unsafe_code, reason = "a page that a child gets empty")]

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_os = "linux")]
use memmap2::MmapMut;

/// A flag that is up or down, and down in every forked child.
pub(crate) struct ForkFlag {
    #[cfg(target_os = "linux")]
    page: Option<MmapMut>,
    /// Used where there is no page.
    plain: AtomicBool,
}

impl ForkFlag {
    /// A flag that is up.
    pub(crate) fn raised() -> Self {
        let flag = Self {
            #[cfg(target_os = "linux")]
            page: wiped_page(),
            plain: AtomicBool::new(false),
        };
        flag.set(true);
        flag
    }

    /// Puts it up or down.
    pub(crate) fn set(&self, up: bool) {
        self.flag().store(up, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        // Acquire: pairs with `set`, whose caller wrote down why before.
        self.flag().load(Ordering::Acquire)
    }

    #[inline]
    fn flag(&self) -> &AtomicBool {
        #[cfg(target_os = "linux")]
        if let Some(page) = &self.page {
            // SAFETY: the page lives as long as `self`; it is private to this process, at least one
            // byte long, holds 0 or 1 alone, and is touched only through this reference.
            return unsafe { AtomicBool::from_ptr(page.as_ptr().cast_mut().cast()) };
        }
        &self.plain
    }
}

#[cfg(target_os = "linux")]
fn wiped_page() -> Option<MmapMut> {
    use rustix::mm::{Advice, madvise};

    if cfg!(miri) {
        return None;
    }
    let page = MmapMut::map_anon(rustix::param::page_size()).ok()?;
    // SAFETY: the range is one that was just mapped, whole, and holds nothing yet; the advice
    // changes what a forked child finds there, and nothing here.
    let wiped =
        unsafe { madvise(page.as_ptr().cast_mut().cast(), page.len(), Advice::LinuxWipeOnFork) };
    wiped.ok().map(|()| page)
}

impl fmt::Debug for ForkFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ForkFlag").field(&self.is_up()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_up_until_it_is_put_down() {
        let flag = ForkFlag::raised();
        assert!(flag.is_up());
        flag.set(false);
        assert!(!flag.is_up());
        flag.set(true);
        assert!(flag.is_up());
    }
}
