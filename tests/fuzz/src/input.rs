//! Takes numbers and runs of bytes from the front of an input; beyond its end everything is 0.

/// What is left of an input.
#[derive(Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn half(&mut self) -> u16 {
        u16::from(self.byte()) | u16::from(self.byte()) << 8
    }

    /// Up to `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// A number that is likely to be at the edge of something, or any other.
    pub fn number(&mut self) -> u64 {
        const EDGES: [u64; 12] = [
            0,
            1,
            64,
            u16::MAX as u64,
            i32::MAX as u64,
            u32::MAX as u64,
            1 << 32,
            (1 << 62) - 1,
            1 << 62,
            i64::MAX as u64,
            1 << 63,
            u64::MAX,
        ];
        let choice = self.byte();
        match EDGES.get(usize::from(choice)) {
            Some(edge) => *edge,
            None if choice < 128 => u64::from(choice),
            None => {
                let mut field = [0; 8];
                let taken = self.bytes(usize::from(choice % 8) + 1);
                field[..taken.len()].copy_from_slice(taken);
                u64::from_le_bytes(field)
            }
        }
    }
}
