//! What becomes of a batch whose delivery failed. Pure; called under the lock of the flow.

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is tried again after a while.
    Again,
    /// Its records are delivered one at a time, to find out which of them are to blame.
    Singly,
    /// It is one record, which goes to the dead letters.
    DeadLetter,
    /// The forwarder stops in front of it.
    Stop,
}

/// A delivery that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    /// How often these records, with the first of them in front, have failed by now.
    pub(super) attempts: u32,
    /// Whether trying again would lead to the same.
    pub(super) permanent: bool,
    /// How many records are left to be delivered; at least one.
    pub(super) records: usize,
}

impl Failed {
    /// What is to be done, if that many retries are allowed and there are dead letters or not.
    pub(super) fn verdict(self, retries: Option<u32>, dead_letters: bool) -> Verdict {
        let used_up = retries.is_some_and(|retries| self.attempts > retries);
        if !self.permanent && !used_up {
            Verdict::Again
        } else if !dead_letters {
            Verdict::Stop
        } else if self.records > 1 {
            Verdict::Singly
        } else {
            Verdict::DeadLetter
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_come_first_then_single_records_then_dead_letters() {
        let failed = |attempts, permanent, records| Failed { attempts, permanent, records };
        for (failed, retries, dead_letters, verdict) in [
            (failed(1_000, false, 5), None, true, Verdict::Again),
            (failed(3, false, 5), Some(3), true, Verdict::Again),
            (failed(4, false, 5), Some(3), true, Verdict::Singly),
            (failed(4, false, 1), Some(3), true, Verdict::DeadLetter),
            (failed(4, false, 5), Some(3), false, Verdict::Stop),
            (failed(1, false, 1), Some(0), true, Verdict::DeadLetter),
            (failed(1, true, 5), None, true, Verdict::Singly),
            (failed(1, true, 1), None, true, Verdict::DeadLetter),
            (failed(1, true, 1), None, false, Verdict::Stop),
        ] {
            assert_eq!(failed.verdict(retries, dead_letters), verdict, "{failed:?}");
        }
    }
}
