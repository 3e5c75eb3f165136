//! What the kernel has counted for the calling thread: page faults and context switches.

/// Counts since the thread was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub minor_faults: i64,
    pub major_faults: i64,
    /// Times it waited for something.
    pub waits: i64,
    /// Times it had to make room for another thread.
    pub preemptions: i64,
}

impl Usage {
    /// One system call, a fraction of a microsecond.
    pub fn look() -> Self {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the place is valid for one `rusage`, which is all that the call writes.
        #[allow(unsafe_code, reason = "the standard library does not offer it")]
        let code = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
        assert_eq!(code, 0, "getrusage");
        // SAFETY: all zeros is an `rusage` already, and the call has filled it.
        #[allow(unsafe_code, reason = "as above")]
        let usage = unsafe { usage.assume_init() };
        Self {
            minor_faults: usage.ru_minflt,
            major_faults: usage.ru_majflt,
            waits: usage.ru_nvcsw,
            preemptions: usage.ru_nivcsw,
        }
    }

    /// What was counted since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            minor_faults: self.minor_faults - before.minor_faults,
            major_faults: self.major_faults - before.major_faults,
            waits: self.waits - before.waits,
            preemptions: self.preemptions - before.preemptions,
        }
    }
}
