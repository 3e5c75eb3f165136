//! What is sent, and the account of what came back: every payload carries its producer and number, and
//! bytes that do not repeat, so that a missing, foreign, doubled, torn or misplaced one is noticed.

/// Bits of a stamp that number the records of one producer; its producer is above them.
const NUMBER_BITS: u32 = 40;
/// The stamp of the record that ends a stream.
pub const END: u64 = u64::MAX;

/// Payloads of one size, ready before the clock starts.
#[derive(Clone)]
pub struct Payloads {
    pool: Vec<Vec<u8>>,
    mask: usize,
}

impl Payloads {
    /// Few enough to stay in the processor's nearest cache.
    pub fn new(size: usize) -> Self {
        Self::with(size, (16_384 / size).clamp(1, 16).next_power_of_two())
    }

    /// Enough of them for a batch of 100.
    pub fn for_batches(size: usize) -> Self {
        Self::with(size, 128)
    }

    fn with(size: usize, count: usize) -> Self {
        assert!(size >= 16, "a payload holds a stamp and a time");
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        let pool = (0..count).map(|_| (0..size).map(|_| byte()).collect()).collect();
        Self { pool, mask: count - 1 }
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number & ((1 << NUMBER_BITS) - 1)).expect("64 bits") & self.mask
    }

    /// The payload of that number, of producer 0.
    pub fn stamped(&mut self, number: u64) -> &[u8] {
        self.of(0, number)
    }

    pub fn of(&mut self, producer: u64, number: u64) -> &[u8] {
        let place = self.place(number);
        let payload = &mut self.pool[place];
        payload[..8].copy_from_slice(&(producer << NUMBER_BITS | number).to_le_bytes());
        payload
    }

    /// The same with a time, which takes the place of 8 of its bytes.
    pub fn timed(&mut self, number: u64, time: u64) -> &[u8] {
        let place = self.place(number);
        let payload = &mut self.pool[place];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        payload[8..16].copy_from_slice(&time.to_le_bytes());
        payload
    }

    /// The payload that says that nothing follows.
    pub fn end(&self) -> Vec<u8> {
        let mut payload = self.pool[0].clone();
        payload[..8].copy_from_slice(&END.to_le_bytes());
        payload
    }

    /// Payloads `first..first + count`, for one batch.
    pub fn batch(&mut self, first: u64, count: usize) -> Vec<&[u8]> {
        assert!(count <= self.pool.len());
        let places: Vec<usize> = (first..).take(count).map(|number| self.place(number)).collect();
        for (number, place) in (first..).zip(&places) {
            self.pool[*place][..8].copy_from_slice(&number.to_le_bytes());
        }
        places.iter().map(|place| self.pool[*place].as_slice()).collect()
    }
}

/// The stamp a payload carries.
pub fn stamp(payload: &[u8]) -> u64 {
    word(payload, 0)
}

/// The time a payload carries.
pub fn time(payload: &[u8]) -> u64 {
    word(payload, 8)
}

fn word(payload: &[u8], at: usize) -> u64 {
    let bytes = payload.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(END - 1, u64::from_le_bytes)
}

/// How much of each payload is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Its stamp, its length and its last byte: for what is timed.
    Quick,
    /// All of it.
    Whole,
}

/// What came back so far.
pub struct Ledger {
    payloads: Payloads,
    look: Look,
    /// The number that each producer's next record must have.
    next: Vec<u64>,
    wrong: Option<String>,
}

impl Ledger {
    /// For records made by `producers` clones of `payloads`.
    pub fn new(payloads: &Payloads, producers: usize, look: Look) -> Self {
        Self { payloads: payloads.clone(), look, next: vec![0; producers], wrong: None }
    }

    #[inline]
    pub fn see(&mut self, payload: &[u8]) {
        let stamp = stamp(payload);
        let (producer, number) = (stamp >> NUMBER_BITS, stamp & ((1 << NUMBER_BITS) - 1));
        let expected = &self.payloads.pool[self.payloads.place(number)];
        let next = usize::try_from(producer).ok().and_then(|place| self.next.get_mut(place));
        let is_right = payload.len() == expected.len()
            && payload.last() == expected.last()
            && (self.look == Look::Quick || payload[8..] == expected[8..]);
        match next {
            Some(next) if *next == number && is_right => *next += 1,
            _ => self.complain(payload, producer, number),
        }
    }

    #[cold]
    fn complain(&mut self, payload: &[u8], producer: u64, number: u64) {
        if self.wrong.is_none() {
            let next = usize::try_from(producer).ok().and_then(|place| self.next.get(place));
            self.wrong = Some(match next {
                Some(next) if *next != number => {
                    format!("record {number} of producer {producer} came where {next} was due")
                }
                _ => format!(
                    "record {number} of producer {producer}, {} bytes, is not what was sent",
                    payload.len()
                ),
            });
        }
    }

    /// Whether each producer's records came, so many of them, in order.
    pub fn verdict(&self, sent: &[u64]) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(format!("check failed: {wrong}"));
        }
        if self.next != sent {
            return Err(format!("check failed: {:?} records came of {sent:?}", self.next));
        }
        Ok(())
    }
}
