//! Records of 100 bytes that say who sent them and as the how many-eth, and who checks them.

/// Bytes of a payload.
pub const SIZE: usize = 100;

/// What is sent: a producer, a number, two times, and filling that depends on the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(pub [u8; SIZE]);

impl Payload {
    pub fn new(producer: u64) -> Self {
        let mut bytes = [7; SIZE];
        bytes[8..16].copy_from_slice(&producer.to_le_bytes());
        bytes[16..32].fill(0);
        Self(bytes)
    }

    /// Makes it the record of this number.
    pub fn number(&mut self, number: u64) -> &[u8; SIZE] {
        self.0[..8].copy_from_slice(&number.to_le_bytes());
        self.0[SIZE - 8..].copy_from_slice(&(!number).to_le_bytes());
        &self.0
    }

    /// When it should have been sent, and when it was, in nanoseconds since an instant both sides know.
    pub fn stamp(&mut self, due: u64, sent: u64) {
        self.0[16..24].copy_from_slice(&due.to_le_bytes());
        self.0[24..32].copy_from_slice(&sent.to_le_bytes());
    }

    /// The two times in a record that was received.
    pub fn stamps(value: &[u8]) -> (u64, u64) {
        (word(value, 16), word(value, 24))
    }
}

fn word(value: &[u8], at: usize) -> u64 {
    let bytes = value.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
    u64::from_le_bytes(*bytes.expect("a payload"))
}

/// Looks at every byte of each record, and that each producer's come in order.
pub struct Checker {
    expected: Vec<Payload>,
    next: Vec<u64>,
    count: u64,
}

impl Checker {
    pub fn new(producers: u64) -> Self {
        let expected = (0..producers).map(Payload::new).collect();
        Self { expected, next: vec![0; producers as usize], count: 0 }
    }

    /// Panics if this is not the record that comes next from its producer.
    pub fn check(&mut self, value: &[u8]) {
        let producer = if self.next.len() == 1 { 0 } else { word(value, 8) as usize };
        let next = &mut self.next[producer];
        let expected = self.expected[producer].number(*next);
        assert_eq!(value, expected, "record {next} of producer {producer}");
        *next += 1;
        self.count += 1;
    }

    /// The same for a record that carries times.
    pub fn check_stamped(&mut self, value: &[u8]) -> (u64, u64) {
        let (due, sent) = Payload::stamps(value);
        self.expected[0].stamp(due, sent);
        self.check(value);
        (due, sent)
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Panics unless each producer's records were all there.
    pub fn finish(&self, each: u64) {
        assert!(self.next.iter().all(|next| *next == each), "{:?} of {each} each", self.next);
    }
}
