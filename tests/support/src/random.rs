//! Random numbers that are the same in each run.

/// A generator (xorshift64*) that starts from a seed.
pub struct Random(u64);

impl Random {
    /// Different seeds give different numbers; 0 is as good as any.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// So many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.number() as u8).collect()
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }
}

/// What a file of so many bytes has in it: the same in each call and without a period; a shorter one is the beginning of a
/// longer one.
pub fn content(len: usize) -> Vec<u8> {
    Random::new(1).bytes(len)
}
