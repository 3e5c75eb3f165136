//! Keeps the number of segments that are open for appending within bounds.
//!
//! A segment that is written has a file open and a stretch of addresses mapped. A process has few of either
//! (often 1,024 and 65,530), and a broker may have tens of thousands of partitions. So when more than
//! [`KEPT`] are open, those that got no record for a while are sealed: cut, synced, let go. The next record
//! goes on with the same segment, which then is opened again.

use std::fmt::{self, Debug};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::background::{Background, Urgency};

/// So many may be open without anybody asking whether they are used.
pub(crate) const KEPT: usize = 256;
/// Whoever got no record between two looks, which are this far apart, rests.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How many rest at once, before other work in the background has its turn.
const SLICE: usize = 32;

/// What came of a look at one that has a segment open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// It got records since the last look.
    Busy,
    /// It has no segment open any more, because it was at rest or for other reasons. It comes again by
    /// [`OpenSegments::add`].
    Closed,
}

/// One that has a segment open.
pub(crate) trait Writes: Send + Sync {
    /// Closes the segment if nothing was appended since the last look. May wait for the disk.
    fn look(&self) -> Looked;
}

/// Those that have a segment open.
pub(crate) struct OpenSegments {
    background: Arc<dyn Background>,
    /// How many are not asked.
    kept: usize,
    /// A leaf lock.
    list: Mutex<List>,
    weak: Weak<OpenSegments>,
}

#[derive(Default)]
struct List {
    /// In no order.
    open: Vec<Weak<dyn Writes>>,
    /// Whether a look is to come.
    is_due: bool,
}

impl OpenSegments {
    /// Without a limit if `kept` is `None`.
    pub(crate) fn new(background: &Arc<dyn Background>, kept: Option<usize>) -> Arc<Self> {
        Arc::new_cyclic(|weak| Self {
            background: Arc::clone(background),
            kept: kept.unwrap_or(usize::MAX),
            list: Mutex::default(),
            weak: Weak::clone(weak),
        })
    }

    /// Says that one has opened a segment, and did not before, or was [`Looked::Closed`] since.
    pub(crate) fn add(&self, open: Weak<dyn Writes>) {
        if self.kept == usize::MAX {
            return;
        }
        let mut list = self.list.lock();
        list.open.push(open);
        let is_due = list.open.len() > self.kept && !std::mem::replace(&mut list.is_due, true);
        drop(list);
        if is_due {
            self.look_later();
        }
    }

    fn look_later(&self) {
        let weak = Weak::clone(&self.weak);
        let job = move || {
            if let Some(open) = weak.upgrade() {
                open.look_at_all();
            }
        };
        self.background.submit_after(LOOK_EVERY, Box::new(job));
    }

    /// Looks at each of them once, as long as there are more than may be open.
    pub(crate) fn look_at_all(&self) {
        self.look(self.len());
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.list.lock().open.len()
    }

    /// Looks at `left` of them, a slice at a time, as long as there are more than may be open; and comes
    /// back for those that remain.
    fn look(&self, left: usize) {
        let slice = {
            let mut list = self.list.lock();
            let beyond = list.open.len().saturating_sub(self.kept);
            if beyond == 0 {
                list.is_due = false;
                return;
            }
            // From the front, and busy ones come back to the end.
            list.open.drain(..beyond.min(left).min(SLICE)).collect::<Vec<_>>()
        };
        let looked_at = slice.len();
        let is_busy = |weak: &Weak<dyn Writes>| {
            weak.upgrade().is_some_and(|open| open.look() == Looked::Busy)
        };
        let busy: Vec<_> = slice.into_iter().filter(is_busy).collect();
        self.list.lock().open.extend(busy);
        if left > looked_at {
            let weak = Weak::clone(&self.weak);
            let job = move || {
                if let Some(open) = weak.upgrade() {
                    open.look(left - looked_at);
                }
            };
            self.background.submit(Urgency::Later, Box::new(job));
        } else {
            self.look_later();
        }
    }
}

impl Debug for OpenSegments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSegments").field("open", &self.len()).finish_non_exhaustive()
    }
}
