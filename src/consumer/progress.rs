//! How far an application has come: what was returned to it, what it came back from, what it marked.
//!
//! Records returned by a poll are *finished* when the application polls again, or says so by
//! committing. What is committed is never ahead of that. A seek is not progress: it only takes
//! back what lies behind the place it goes to.

/// The progress in each partition, by its place in the fetcher.
#[derive(Debug, Default)]
pub(super) struct Progress {
    places: Vec<Option<Place>>,
    /// Places from which the last poll returned records.
    touched: Vec<usize>,
    /// Places where there may be something to commit.
    dirty: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    topic_id: u64,
    /// The largest offset behind a record that was returned.
    returned: u64,
    /// The offset behind the last record the application is done with.
    finished: Option<u64>,
    /// The offset behind the last record it marked.
    marked: Option<u64>,
    /// What is known to be committed.
    committed: Option<u64>,
    is_dirty: bool,
}

/// Which records are to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// Those the application came back from.
    Finished,
    /// Those it marked, and all before them.
    Marked,
}

impl Progress {
    /// Begins with a partition where the group has come to `committed`.
    pub(super) fn add(&mut self, place: usize, topic_id: u64, committed: Option<u64>) {
        if self.places.len() <= place {
            self.places.resize(place + 1, None);
        }
        if let Some(vacant) = self.places.get_mut(place) {
            let (finished, marked) = (None, None);
            *vacant =
                Some(Place { topic_id, returned: 0, finished, marked, committed, is_dirty: false });
        }
    }

    /// Forgets a partition.
    pub(super) fn remove(&mut self, place: usize) {
        if let Some(place) = self.places.get_mut(place) {
            *place = None;
        }
        self.touched.retain(|one| *one != place);
        self.dirty.retain(|one| *one != place);
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut Place> {
        self.places.get_mut(place)?.as_mut()
    }

    pub(super) fn topic_id(&self, place: usize) -> Option<u64> {
        self.places.get(place)?.map(|place| place.topic_id)
    }

    /// Where a poll notes the places it returned records from.
    pub(super) fn touched_mut(&mut self) -> &mut Vec<usize> {
        &mut self.touched
    }

    /// Says that the application has come back: whatever was returned is finished. `position` tells
    /// up to where that was.
    #[inline]
    pub(super) fn finish(&mut self, position: impl Fn(usize) -> Option<u64>) {
        while let Some(place) = self.touched.pop() {
            if let Some(position) = position(place) {
                self.finish_to(place, position);
            }
        }
    }

    /// Says that the last poll's records are not to be taken for finished when the application comes
    /// back: it is told of each by [`finish_to`](Self::finish_to).
    pub(super) fn untouch(&mut self, position: impl Fn(usize) -> Option<u64>) {
        while let Some(at) = self.touched.pop() {
            if let (Some(position), Some(place)) = (position(at), self.get_mut(at)) {
                place.returned = place.returned.max(position);
            }
        }
    }

    /// Says that records below `offset` are finished.
    pub(super) fn finish_to(&mut self, at: usize, offset: u64) {
        let Some(place) = self.get_mut(at) else { return };
        place.returned = place.returned.max(offset);
        place.finished = Some(offset);
        self.set_dirty(at);
    }

    /// Says that the application wants to go on at `to`, having been returned records below
    /// `position`.
    pub(super) fn sought(&mut self, at: usize, position: u64, to: u64) {
        let was_touched = self.touched.contains(&at);
        self.touched.retain(|one| *one != at);
        let Some(place) = self.get_mut(at) else { return };
        if was_touched {
            place.returned = place.returned.max(position);
            place.finished = Some(position);
        }
        place.finished = place.finished.map(|finished| finished.min(to));
        self.set_dirty(at);
    }

    /// Marks a record, unless it was never returned; says whether.
    pub(super) fn mark(&mut self, at: usize, position: u64, offset: u64) -> bool {
        let was_touched = self.touched.contains(&at);
        let Some(place) = self.get_mut(at) else { return false };
        if was_touched {
            place.returned = place.returned.max(position);
        }
        if offset >= place.returned {
            return false;
        }
        place.marked = Some(place.marked.map_or(offset + 1, |marked| marked.max(offset + 1)));
        self.set_dirty(at);
        true
    }

    fn set_dirty(&mut self, at: usize) {
        if let Some(place) = self.get_mut(at)
            && !std::mem::replace(&mut place.is_dirty, true)
        {
            self.dirty.push(at);
        }
    }

    /// What there is to commit, by place.
    pub(super) fn uncommitted(&mut self, done: Done) -> Vec<(usize, u64)> {
        let places = &mut self.places;
        let mut wanted = Vec::with_capacity(self.dirty.len());
        self.dirty.retain(|at| {
            let Some(place) = places.get_mut(*at).and_then(Option::as_mut) else { return false };
            place.is_dirty = place.is_ahead();
            let offset = place.offset(done);
            wanted.extend(offset.filter(|_| place.is_dirty).map(|offset| (*at, offset)));
            place.is_dirty
        });
        wanted
    }

    /// Whether there is something to commit.
    pub(super) fn is_ahead(&self, done: Done) -> bool {
        let place = |at: &usize| self.places.get(*at)?.as_ref();
        self.dirty.iter().filter_map(place).any(|place| place.offset(done).is_some())
    }

    /// Says that the group was moved back, by name: what lies behind that is no longer done.
    pub(super) fn rewound(&mut self, at: usize, offset: u64) {
        self.touched.retain(|one| *one != at);
        if let Some(place) = self.get_mut(at) {
            place.committed = Some(offset);
            place.finished = place.finished.map(|finished| finished.min(offset));
            place.marked = place.marked.map(|marked| marked.min(offset));
        }
    }

    /// Says what was committed.
    pub(super) fn committed(&mut self, at: usize, offset: u64) {
        if let Some(place) = self.get_mut(at) {
            place.committed = Some(offset);
        }
    }
}

impl Place {
    fn offset(&self, done: Done) -> Option<u64> {
        let offset = match done {
            Done::Finished => self.finished,
            Done::Marked => self.marked,
        };
        offset.filter(|offset| self.committed.is_none_or(|committed| *offset > committed))
    }

    fn is_ahead(&self) -> bool {
        self.offset(Done::Finished).or(self.offset(Done::Marked)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One partition, at place 0, committed up to 10.
    fn progress() -> Progress {
        let mut progress = Progress::default();
        progress.add(0, 1, Some(10));
        progress
    }

    fn returned(progress: &mut Progress) {
        progress.touched_mut().push(0);
    }

    #[test]
    fn what_was_returned_is_finished_when_the_application_comes_back() {
        let mut progress = progress();
        returned(&mut progress);
        assert_eq!(progress.uncommitted(Done::Finished), []);
        progress.finish(|_| Some(15));
        assert_eq!(progress.uncommitted(Done::Finished), [(0, 15)]);
        progress.committed(0, 15);
        assert_eq!(progress.uncommitted(Done::Finished), []);
        assert!(!progress.is_ahead(Done::Finished));
    }

    #[test]
    fn a_seek_is_not_progress_and_takes_back_what_lies_behind_it() {
        let mut progress = progress();
        progress.sought(0, 10, 90);
        assert_eq!(progress.uncommitted(Done::Finished), []);
        returned(&mut progress);
        progress.sought(0, 20, 15);
        assert_eq!(progress.uncommitted(Done::Finished), [(0, 15)]);
        returned(&mut progress);
        progress.sought(0, 20, 50);
        assert_eq!(progress.uncommitted(Done::Finished), [(0, 20)]);
        progress.sought(0, 50, 3);
        assert_eq!(progress.uncommitted(Done::Finished), []);
    }

    #[test]
    fn only_what_was_returned_can_be_marked_and_marks_do_not_go_back() {
        let mut progress = progress();
        assert!(!progress.mark(0, 10, 10));
        returned(&mut progress);
        assert!(progress.mark(0, 20, 14) && progress.mark(0, 20, 12));
        assert!(!progress.mark(0, 20, 20) && !progress.mark(1, 20, 3));
        assert_eq!(progress.uncommitted(Done::Marked), [(0, 15)]);
        assert_eq!(progress.uncommitted(Done::Finished), []);
        progress.committed(0, 15);
        assert_eq!(progress.uncommitted(Done::Marked), []);
    }

    #[test]
    fn a_partition_that_is_gone_has_nothing_uncommitted() {
        let mut progress = progress();
        returned(&mut progress);
        progress.finish(|_| Some(15));
        returned(&mut progress);
        progress.remove(0);
        progress.finish(|_| Some(20));
        assert_eq!(progress.uncommitted(Done::Finished), []);
        progress.add(0, 2, None);
        assert_eq!(progress.uncommitted(Done::Finished), []);
    }
}
