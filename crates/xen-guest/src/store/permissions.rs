//! Who may do what with a node.

use alloc::string::String;
use alloc::vec::Vec;

use super::wire::{self, Kind, Permission};
use super::{NO_TRANSACTION, StoreError, XenStore};
use crate::platform::Platform;

impl<P: Platform> XenStore<P> {
    /// Who may do what with a node.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn permissions(&self, path: &str) -> Result<Vec<Permission>, StoreError> {
        let answer = self.path_request(Kind::GET_PERMS, NO_TRANSACTION, path)?;
        wire::strings(&answer).map(Permission::decode).collect()
    }

    /// Sets who may do what with a node. The first entry is its owner.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn set_permissions(
        &self,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), StoreError> {
        self.set_permissions_in(NO_TRANSACTION, path, permissions)
    }

    pub(super) fn set_permissions_in(
        &self,
        transaction: u32,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), StoreError> {
        wire::check_path(path)?;
        let texts: Vec<String> = permissions.iter().map(Permission::encode).collect();
        let mut parts: Vec<&[u8]> = alloc::vec![path.as_bytes(), b"\0"];
        for text in &texts {
            parts.extend([text.as_bytes(), b"\0"]);
        }
        self.request(Kind::SET_PERMS, transaction, &parts).map(drop)
    }
}
