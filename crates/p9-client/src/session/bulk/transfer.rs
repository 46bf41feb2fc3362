//! Large reads and writes, cut into requests that are in flight all at once.

use core::future::poll_fn;
use core::task::{Context, Poll};

use crate::Error;
use crate::session::Fid;
use crate::session::request::{PendingRequest, Retries};
use crate::session::violation::Violation;
use p9_tree::Span;
use p9_wire::{IO_HEADER_LEN, Payload, Reply, Request};
use xen9p_time::Instant;

/// The most requests that one transfer has in flight.
const MAX_PARTS: usize = 32;

/// The block that servers round the iounit down to, in bytes: that of most file systems.
const BLOCK: u32 = 4096;

/// What is transferred.
enum Data<'a> {
    Read(&'a mut [u8]),
    Write(&'a [u8]),
    /// Shown to the program in order: so many bytes in all, of which so many are done.
    Lend(&'a mut dyn FnMut(&mut Span<'_>), usize, usize),
}

impl Data<'_> {
    fn len(&self) -> usize {
        match self {
            Data::Read(into) => into.len(),
            Data::Write(from) => from.len(),
            Data::Lend(_, len, _) => *len,
        }
    }
}

/// One request of a transfer, for the bytes from `start` to `end` of the buffer.
struct Part {
    /// None while it has to be made again.
    pending: Option<PendingRequest>,
    start: usize,
    end: usize,
    retries: Retries,
}

struct Transfer<'a> {
    fid: &'a Fid,
    offset: u64,
    data: Data<'a>,
    /// Most bytes in one request.
    chunk: usize,
    /// Most requests in flight.
    depth: usize,
    parts: [Option<Part>; MAX_PARTS],
    /// From this place on all are empty.
    used: usize,
    /// Where the next new request begins.
    next: usize,
    /// How far the transfer can get: less than the whole after the end of file, a short answer, or an
    /// error.
    stop: usize,
    /// Why it can't get further.
    error: Option<Error>,
    /// When the next request has to be answered, while there is no room to send it.
    deadline: Option<Instant>,
}

impl Fid {
    /// Reads from the open file at `offset` into `into`, in as many requests as it takes, all in flight at once. Each asks for
    /// `iounit` bytes; for as many as a message carries where that is 0, or leaves much of each message empty by being
    /// rounded down to blocks. Returns how many bytes came:
    /// 0 at the end of the file, possibly fewer than asked for elsewhere.
    ///
    /// # Errors
    /// What stopped it, if not a single byte came; else that number is returned, and the next read
    /// meets the obstacle again. [`Error::InvalidInput`] beyond offset 2^63 − 1.
    pub async fn read_at(&self, offset: u64, into: &mut [u8], iounit: u32) -> Result<usize, Error> {
        let chunk = self.chunk(offset, into.len(), iounit)?;
        if (1..=chunk).contains(&into.len()) {
            let request = Request::Read {
                fid: self.number(),
                offset,
                count: into.len() as u32,
            };
            return self.session().fetch(request, into).await;
        }
        let mut transfer = Transfer::new(self, offset, Data::Read(into), chunk, MAX_PARTS);
        poll_fn(|cx| transfer.poll(cx)).await
    }

    /// Reads as [`read_at`](Self::read_at), `len` bytes at most, and shows them to `see` where they are, in
    /// order, in one span for each request. `see` must not use this session: that would panic.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub async fn read_lent_at(
        &self,
        offset: u64,
        len: usize,
        see: &mut dyn FnMut(&mut Span<'_>),
        iounit: u32,
    ) -> Result<usize, Error> {
        let chunk = self.chunk(offset, len, iounit)?;
        let data = Data::Lend(see, len, 0);
        let mut transfer = Transfer::new(self, offset, data, chunk, MAX_PARTS);
        poll_fn(|cx| transfer.poll(cx)).await
    }

    /// Writes `from` to the open file at `offset`; else as [`read_at`](Self::read_at). `in_order`: one
    /// request after the other, as appending needs. A server that takes none of the bytes is
    /// [`Error::WriteZero`].
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at). Bytes beyond those reported may have been written.
    pub async fn write_at(
        &self,
        offset: u64,
        from: &[u8],
        iounit: u32,
        in_order: bool,
    ) -> Result<usize, Error> {
        let chunk = self.chunk(offset, from.len(), iounit)?;
        if (1..=chunk).contains(&from.len()) {
            let data = Payload(from, &[]);
            let fid = self.number();
            let request = Request::Write { fid, offset, data };
            let session = self.session();
            let mut write = session.send(&request).await?;
            let count = answer_written(&mut write, &request, from.len()).await?;
            session.wrote(count);
            return if count == 0 {
                Err(Error::WriteZero)
            } else {
                Ok(count)
            };
        }
        let depth = if in_order { 1 } else { MAX_PARTS };
        let mut transfer = Transfer::new(self, offset, Data::Write(from), chunk, depth);
        poll_fn(|cx| transfer.poll(cx)).await
    }

    /// The most bytes of one request, if so many bytes can be read or written at `offset`.
    fn chunk(&self, offset: u64, len: usize, iounit: u32) -> Result<usize, Error> {
        if offset
            .checked_add(len as u64)
            .is_none_or(|end| end > i64::MAX as u64)
        {
            return Err(Error::InvalidInput(&"file offset beyond 2^63 - 1"));
        }
        Ok(self.part_len(iounit))
    }

    /// The most bytes that one request of a transfer carries, on a file with this iounit.
    ///
    /// A server that rounds the iounit down to blocks (QEMU) leaves as much as a block of each message empty. Of a large message
    /// that is little, and data that keeps to blocks is worth it. On a small ring it is a quarter or half of each message: they are
    /// filled there all the same. The protocol allows it: msize is the limit, and the iounit is what the server does in one piece.
    pub(crate) fn part_len(&self, iounit: u32) -> usize {
        let most = self.session().msize() - IO_HEADER_LEN;
        let is_rounded = iounit > 0 && iounit == most / BLOCK * BLOCK;
        let part = match iounit {
            0 => most,
            _ if is_rounded && most - iounit > most / 16 => most,
            _ => iounit.min(most),
        };
        part as usize
    }
}

impl<'a> Transfer<'a> {
    fn new(fid: &'a Fid, offset: u64, data: Data<'a>, chunk: usize, depth: usize) -> Self {
        let stop = data.len();
        Transfer {
            fid,
            offset,
            data,
            chunk,
            depth,
            parts: [const { None }; MAX_PARTS],
            used: 0,
            next: 0,
            stop,
            error: None,
            deadline: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        loop {
            let sent = self.send(cx);
            let collected = self.collect(cx);
            while let Some(last) = self.used.checked_sub(1)
                && self.parts.get(last).is_none_or(Option::is_none)
            {
                self.used = last;
            }
            if self.next >= self.stop && self.used == 0 {
                return Poll::Ready(match self.error {
                    Some(error @ Error::MaybeApplied) => Err(error),
                    Some(error) if self.stop == 0 => Err(error),
                    _ => Ok(self.stop),
                });
            }
            // Replies taken may have made room for more requests, and uncovered more replies.
            if !(sent || collected) {
                return Poll::Pending;
            }
        }
    }

    /// Sends as many requests as there is room for; whether it sent any.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        let mut sent = false;
        let fid = self.fid.number();
        for (index, place) in self.parts.iter_mut().take(self.depth).enumerate() {
            if index >= self.used && self.next >= self.stop {
                break;
            }
            let (start, end, retries) = match *place {
                Some(Part {
                    pending: None,
                    start,
                    end,
                    retries,
                }) => (start, end, retries),
                None if self.next < self.stop => {
                    let end = self.stop.min(self.next + self.chunk);
                    (self.next, end, Retries::default())
                }
                _ => continue,
            };
            let offset = self.offset + start as u64;
            let request = match &self.data {
                Data::Read(_) | Data::Lend(..) => Request::Read {
                    fid,
                    offset,
                    // No larger than msize.
                    count: (end - start) as u32,
                },
                Data::Write(from) => Request::Write {
                    fid,
                    offset,
                    data: Payload(from.get(start..end).unwrap_or(&[]), &[]),
                },
            };
            let session = self.fid.session();
            match session.poll_send(cx, &request, &mut self.deadline) {
                Poll::Ready(Ok(pending)) => {
                    self.deadline = None;
                    *place = Some(Part {
                        pending: Some(pending),
                        start,
                        end,
                        retries,
                    });
                    self.used = self.used.max(index + 1);
                    self.next = self.next.max(end);
                    sent = true;
                }
                Poll::Ready(Err(error)) => {
                    *place = None;
                    if start < self.stop {
                        self.error = Some(error);
                        self.stop = start;
                    }
                }
                Poll::Pending => break,
            }
        }
        sent
    }

    /// Takes the replies that have come; whether there were any.
    fn collect(&mut self, cx: &mut Context<'_>) -> bool {
        let mut collected = false;
        for index in 0..self.used {
            let Some(Some(part)) = self.parts.get_mut(index) else {
                continue;
            };
            let (start, end) = (part.start, part.end);
            if let Data::Lend(.., done) = self.data
                && done != start
            {
                // What lies behind a short answer is not shown any more.
                if start >= self.stop
                    && let Some(place) = self.parts.get_mut(index)
                {
                    *place = None;
                    collected = true;
                }
                continue;
            }
            let Some(pending) = &mut part.pending else {
                continue;
            };
            let Poll::Ready(arrived) = pending.poll(cx) else {
                continue;
            };
            let answer = arrived.and_then(|()| match &mut self.data {
                Data::Read(into) => {
                    let into = into.get_mut(start..end).unwrap_or(&mut []);
                    pending.take_data(into)
                }
                Data::Write(_) => written(pending, end - start),
                Data::Lend(see, _, done) => {
                    let count = pending.with_data(*see)?;
                    *done += count;
                    Ok(count)
                }
            });
            collected = true;
            if answer.is_err_and(|error| part.retries.again(error)) {
                part.pending = None;
                continue;
            }
            if let Some(place) = self.parts.get_mut(index) {
                *place = None;
            }
            if let (Data::Write(_), Ok(count)) = (&self.data, answer) {
                self.fid.session().wrote(count);
            }
            match answer {
                Ok(count) if count == end - start => {}
                // The end of the file, or as much as the server cares to give: what lies beyond is
                // not ours to report, and the next call finds out.
                Ok(count) => self.stop_at(start + count, self.short_error(count)),
                Err(error) => {
                    self.stop_at(start, Some(error));
                    // What was asked for beyond has become pointless. A write is waited for all the
                    // same: it must not overtake what the program does next.
                    for place in self.parts.iter_mut().take(self.used) {
                        if !matches!(self.data, Data::Write(_))
                            && place.as_ref().is_some_and(|part| part.start > start)
                        {
                            *place = None;
                        }
                    }
                }
            }
        }
        collected
    }

    fn short_error(&self, count: usize) -> Option<Error> {
        match self.data {
            Data::Write(_) if count == 0 => Some(Error::WriteZero),
            _ => None,
        }
    }

    fn stop_at(&mut self, stop: usize, error: Option<Error>) {
        if stop < self.stop {
            self.stop = stop;
            self.error = error;
        }
    }
}

/// How many of the `sent` bytes the server took, once it has said so.
pub(in crate::session) async fn answer_written(
    pending: &mut PendingRequest,
    request: &Request<'_>,
    sent: usize,
) -> Result<usize, Error> {
    pending.arrive(request).await?;
    written(pending, sent)
}

/// How many of the `sent` bytes the server took, says the reply that has come.
fn written(pending: &mut PendingRequest, sent: usize) -> Result<usize, Error> {
    let mut taken = 0;
    pending.take(&mut |reply| match *reply {
        Reply::Write { count } if count as usize <= sent => {
            taken = count as usize;
            Ok(())
        }
        Reply::Write { .. } => Err(Violation::TooMuchWritten),
        _ => Err(Violation::WrongType),
    })?;
    Ok(taken)
}
