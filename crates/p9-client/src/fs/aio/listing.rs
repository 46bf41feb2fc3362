//! Listing directories with the attributes of what is in them.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};

use alloc::rc::Rc;

use super::{DirEntry, Handle, ReadDir, node};
use crate::fs::{Error, Metadata, Result};
use crate::session::Session;

/// For how many entries the server is asked at the same time, three requests each: enough to have the next
/// ones queued on every ring, and no more than the window takes.
const AT_ONCE: usize = 16;

/// An entry, and what the server says of it.
type Answer = (DirEntry, Result<Metadata>);

/// Entries with their attributes, for many of which the server is asked at the same time: the asynchronous
/// form of [`crate::fs::WithMetadata`]. Made by [`ReadDir::with_metadata`].
pub struct WithMetadata {
    listing: ReadDir,
    /// The next entry, while the way to the directory is looked up.
    next: Option<DirEntry>,
    /// To ask for the entries from.
    directory: Option<Rc<Handle>>,
    /// In the order of the listing.
    asked: VecDeque<Asked>,
    /// What ends the listing when those asked for are told.
    error: Option<Error>,
    ended: bool,
}

enum Asked {
    Running(Pin<Box<dyn Future<Output = Answer>>>),
    Done(Box<Answer>),
}

impl Asked {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Asked::Running(question) = self
            && let Poll::Ready(answer) = question.as_mut().poll(cx)
        {
            *self = Asked::Done(Box::new(answer));
        }
    }
}

impl fmt::Debug for WithMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithMetadata").field(&self.listing).finish()
    }
}

impl ReadDir {
    /// The entries with their attributes, symbolic links not followed.
    pub fn with_metadata(self) -> WithMetadata {
        WithMetadata {
            listing: self,
            next: None,
            directory: None,
            asked: VecDeque::new(),
            error: None,
            ended: false,
        }
    }
}

impl WithMetadata {
    /// The session under this listing.
    pub fn session(&self) -> &Session {
        self.listing.session()
    }

    /// The next entry; `None` at the end. After an error the listing is over; what concerns one entry
    /// stands beside it.
    pub async fn next(&mut self) -> Option<Result<(DirEntry, Result<Metadata>)>> {
        if let Err(error) = self.fill().await {
            self.ended = true;
            self.error = Some(error);
        }
        let first = poll_fn(|cx| {
            for asked in &mut self.asked {
                asked.poll(cx);
            }
            match self.asked.pop_front() {
                None => Poll::Ready(None),
                Some(Asked::Done(answer)) => Poll::Ready(Some(*answer)),
                Some(running) => {
                    self.asked.push_front(running);
                    Poll::Pending
                }
            }
        });
        match first.await {
            Some(answer) => Some(Ok(answer)),
            None => self.error.take().map(Err),
        }
    }

    /// Asks for as many entries as may be asked for at the same time.
    async fn fill(&mut self) -> Result<()> {
        while self.asked.len() < AT_ONCE && !self.ended {
            if self.next.is_none() {
                self.next = self.listing.next_fetched()?;
            }
            if self.next.as_ref().is_some_and(|next| next.listed.is_none()) {
                // It is kept meanwhile, as this future may be dropped here.
                self.directory().await?;
            }
            match self.next.take() {
                Some(mut entry) => {
                    let asked = match entry.listed.take() {
                        Some(known) => Asked::Done(Box::new((entry, Ok(*known)))),
                        None => Asked::Running(Box::pin(ask(self.directory().await?, entry))),
                    };
                    self.asked.push_back(asked);
                    // The first time sends the requests.
                    poll_fn(|cx| {
                        if let Some(last) = self.asked.back_mut() {
                            last.poll(cx);
                        }
                        Poll::Ready(())
                    })
                    .await;
                }
                None => self.ended = !self.listing.fetch_more().await?,
            }
        }
        Ok(())
    }

    async fn directory(&mut self) -> Result<Rc<Handle>> {
        if let Some(handle) = &self.directory {
            return Ok(handle.clone());
        }
        let handle = Rc::new(self.listing.directory().await?);
        self.directory = Some(handle.clone());
        Ok(handle)
    }
}

async fn ask(directory: Rc<Handle>, entry: DirEntry) -> Answer {
    let names = [entry.file_name()];
    let answer = match directory.fid().walk_getattr(&names, node::ATTRIBUTES).await {
        Err(error) | Ok((Err(error), _)) => Err(error),
        Ok((Ok(_), attr)) => attr
            .unwrap_or(Err(p9_wire::Errno::ENOENT.into()))
            .map(|attr| Metadata::from(&attr)),
    };
    (entry, answer)
}
