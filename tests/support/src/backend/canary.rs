//! What may be in a frontend's ring pages: zeros, and what went over the wire.

/// A record of everything that was exchanged over a ring, by where it lay.
pub(super) struct Canary {
    /// The bytes last exchanged at each place, replies first, as the data pages have them.
    wire: Vec<u8>,
    /// Up to where requests have been read.
    read_to: u32,
}

impl Canary {
    pub(super) fn new(len: usize) -> Canary {
        Canary {
            wire: vec![0; len],
            read_to: 0,
        }
    }

    fn size(&self) -> u32 {
        (self.wire.len() / 2) as u32
    }

    fn record(&mut self, half: usize, index: u32, bytes: &[u8]) {
        let size = self.wire.len() / 2;
        let at = (index % self.size()) as usize;
        // Of a piece that goes round more than once the end counts.
        let skip = bytes.len().saturating_sub(size);
        let (area, bytes) = (&mut self.wire[half..half + size], &bytes[skip..]);
        for (offset, &byte) in (at + skip..).zip(bytes) {
            area[offset % size] = byte;
        }
    }

    pub(super) fn read(&mut self, index: u32, bytes: &[u8]) {
        self.record(self.wire.len() / 2, index, bytes);
        self.read_to = index.wrapping_add(bytes.len() as u32);
    }

    pub(super) fn written(&mut self, index: u32, bytes: &[u8]) {
        self.record(0, index, bytes);
    }

    /// Whether `data`, the content of the pages, has anything else in it. Requests up to `out_prod` that were not read
    /// yet are on the wire, too.
    pub(super) fn leaks(&self, data: &[u8], out_prod: u32) -> bool {
        let size = self.size();
        let unread = out_prod.wrapping_sub(self.read_to);
        if unread > size {
            // The index itself was overwritten: what is a request can't be told.
            return self.differs(data, 0..size as usize);
        }
        let requests = size as usize..2 * size as usize;
        self.differs(data, 0..size as usize)
            || requests
                .filter(|&at| (at as u32).wrapping_sub(self.read_to) % size >= unread)
                .any(|at| self.differs(data, at..at + 1))
    }

    fn differs(&self, data: &[u8], mut range: std::ops::Range<usize>) -> bool {
        range.any(|at| data[at] != 0 && data[at] != self.wire[at])
    }
}
