//! Transactions: several reads and writes that happen all at once or not at all.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::wire::{self, Kind};
use super::{NO_TRANSACTION, Permission, Refusal, StoreError, XenStore};
use crate::platform::Platform;

/// How often a transaction that met another one is tried again.
const TRIES: u32 = 32;

/// A transaction, inside [`XenStore::transaction`].
pub struct Transaction<'a, P: Platform> {
    store: &'a XenStore<P>,
    id: u32,
}

impl<P: Platform> Transaction<'_, P> {
    /// As [`XenStore::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.store.read_in(self.id, path)
    }

    /// As [`XenStore::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.store.write_in(self.id, path, value)
    }

    /// As [`XenStore::mkdir`].
    ///
    /// # Errors
    /// As there.
    pub fn mkdir(&self, path: &str) -> Result<(), StoreError> {
        self.store
            .path_request(Kind::MKDIR, self.id, path)
            .map(drop)
    }

    /// As [`XenStore::rm`].
    ///
    /// # Errors
    /// As there.
    pub fn rm(&self, path: &str) -> Result<(), StoreError> {
        self.store.path_request(Kind::RM, self.id, path).map(drop)
    }

    /// As [`XenStore::set_permissions`].
    ///
    /// # Errors
    /// As there.
    pub fn set_permissions(
        &self,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), StoreError> {
        self.store.set_permissions_in(self.id, path, permissions)
    }

    /// As [`XenStore::directory`].
    ///
    /// # Errors
    /// As there.
    pub fn directory(&self, path: &str) -> Result<Vec<String>, StoreError> {
        self.store.directory_in(self.id, path)
    }

    /// Ends the transaction, with or without effect.
    fn end(&self, commit: bool) -> Result<(), StoreError> {
        let verdict: &[u8] = if commit { b"T\0" } else { b"F\0" };
        self.store
            .request(Kind::TRANSACTION_END, self.id, &[verdict])
            .map(drop)
    }
}

impl<P: Platform> fmt::Debug for Transaction<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("id", &self.id).finish()
    }
}

impl<P: Platform> XenStore<P> {
    /// Runs `body` in a transaction: what it writes becomes visible all at once when it returns
    /// `Ok`, and never when it returns an error. When others changed what it read, it runs again,
    /// a bounded number of times, and not after the time for which one request is waited for; it must have no effect
    /// outside the transaction.
    ///
    /// # Errors
    /// What `body` returns; [`StoreError::Conflict`] when others were always faster; see
    /// [`StoreError`].
    pub fn transaction<T, E: From<StoreError> + IsConflict>(
        &self,
        mut body: impl FnMut(&Transaction<'_, P>) -> Result<T, E>,
    ) -> Result<T, E> {
        let deadline = self.deadline();
        for _ in 0..TRIES {
            let answer = self.request(Kind::TRANSACTION_START, NO_TRANSACTION, &[b"\0"])?;
            let id = wire::transaction(&answer)
                .ok_or(StoreError::BadAnswer("a transaction's number"))?;
            let transaction = Transaction { store: self, id };
            match body(&transaction) {
                Ok(result) => match transaction.end(true) {
                    Ok(()) => return Ok(result),
                    Err(StoreError::Refused(Refusal::Again)) => {}
                    Err(error) => return Err(error.into()),
                },
                Err(error) => {
                    // Whatever the end says, the body's error is what the caller has to know.
                    let _ = transaction.end(false);
                    if !error.is_conflict() {
                        return Err(error);
                    }
                }
            }
            if self.events().now() >= deadline {
                break;
            }
        }
        Err(StoreError::Conflict.into())
    }
}

/// Errors that can say whether they mean "the transaction met another one".
pub trait IsConflict {
    /// Whether trying the transaction again makes sense.
    fn is_conflict(&self) -> bool;
}

impl IsConflict for StoreError {
    fn is_conflict(&self) -> bool {
        *self == StoreError::Refused(Refusal::Again)
    }
}
