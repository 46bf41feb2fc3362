//! An input as a list of operations and of numbers for them.

/// What is left of an input.
pub struct Input<'i>(pub &'i [u8]);

impl Input<'_> {
    /// What to do next, if there is anything.
    pub fn operation(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// One byte of what belongs to an operation; after the end there are zeros.
    pub fn byte(&mut self) -> u8 {
        self.operation().unwrap_or(0)
    }

    /// A number below 2^16.
    pub fn number(&mut self) -> u32 {
        u32::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// Any number.
    pub fn word(&mut self) -> u32 {
        self.number() << 16 | self.number()
    }

    /// Bytes as they are, up to 255.
    pub fn some(&mut self) -> Vec<u8> {
        let count = usize::from(self.byte()).min(self.0.len());
        let (some, rest) = self.0.split_at(count);
        self.0 = rest;
        some.to_vec()
    }
}
