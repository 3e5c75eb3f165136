//! Bodies of batches that are done with, kept to be filled again: under the inbox's lock.
//!
//! The invariant it keeps: what is kept, and what was kept and is in use again, takes no more than a
//! limit, so that many partitions with a record each do not come to hold a large body each.

use super::body::Body;

/// Kept bodies.
#[derive(Debug)]
pub(super) struct Spares {
    idle: Vec<Body>,
    /// What the kept bodies take, in bytes, those in use as they were when they were taken.
    bytes: usize,
    limit: usize,
}

impl Spares {
    pub(super) fn new(limit: usize) -> Self {
        Self { idle: Vec::new(), bytes: 0, limit }
    }

    /// An empty body, and what it takes if it is one that is kept.
    pub(super) fn take(&mut self) -> (Body, usize) {
        let body = self.idle.pop().unwrap_or_default();
        let kept = body.capacity();
        (body, kept)
    }

    /// Keeps a body that is done with, if there is room. `kept` is what [`take`](Self::take) said of it.
    pub(super) fn give_back(&mut self, mut body: Body, kept: usize) {
        self.bytes -= kept;
        if self.bytes + body.capacity() <= self.limit && body.capacity() > 0 {
            self.bytes += body.capacity();
            body.clear();
            self.idle.push(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record_codec::Put;

    #[test]
    fn what_is_kept_is_bounded_though_it_grows_in_use() {
        let mut spares = Spares::new(5000);
        let body = |bytes: usize| {
            let mut body = Body::default();
            let pad = vec![0; bytes];
            body.add(bytes).put(&pad);
            body
        };
        spares.give_back(body(3000), 0);
        spares.give_back(body(3000), 0);
        let (mut body, kept) = spares.take();
        assert_eq!((body.capacity(), kept), (3000, 3000));
        assert_eq!(spares.take().1, 0, "there was room for one");
        body.add(4000).put(&[0; 4000]);
        spares.give_back(body, kept);
        assert_eq!((spares.bytes, spares.idle.len()), (0, 0), "it has become too large");
    }
}
