//! Files that were there before and count as received: they go to the device before a transfer says that it is done.
//!
//! An earlier run may have given such a file its name and died, or failed, before that was durable (R9).

use super::batch::FILES_ONE_BY_ONE_MAX;
use super::disk::{Disk, DiskFile, DiskFolder, Durability, OpenHow};
use super::fault::StoreError;
use super::footer::Footer;
use super::{Inner, Store};
use crate::chunk::Length;
use crate::rel_path::RelPath;
use std::io;
use std::sync::PoisonError;

impl<D: Disk> Store<D> {
    /// Counts the file at `path`, of `length` bytes, as received although it was there before.
    ///
    /// [`Store::finish_folders`] makes it durable. What was begun of it is of no more use and goes, unless a process
    /// has it open.
    pub fn vouch_for(&self, path: &RelPath, length: Length) {
        // A partial file that stays is untidy and no more; it is listed as unfinished, and can be removed there.
        let _ = self.remove_left_over(&Footer::part_name(path, length));
        self.inner.vouched.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
    }
}

impl<D: Disk> Inner<D> {
    /// Makes durable what was vouched for since the last time. Returns what failed.
    pub(super) fn sync_vouched(&self) -> Vec<(RelPath, StoreError)> {
        let vouched = std::mem::take(&mut *self.vouched.lock().unwrap_or_else(PoisonError::into_inner));
        let is_many = vouched.len() > FILES_ONE_BY_ONE_MAX;
        let at_once = if is_many { self.disk.destination().sync_file_system() } else { Ok(false) };
        match at_once {
            Ok(true) => return Vec::new(),
            Ok(false) => {}
            Err(error) => {
                let fault = |path: &RelPath| StoreError::FsyncFailed {
                    path: path.as_str().to_owned(),
                    source: io::Error::new(error.kind(), error.to_string()),
                };
                return vouched.iter().map(|path| (path.clone(), fault(path))).collect();
            }
        }
        let synced: Vec<_> = vouched
            .into_iter()
            .map(|path| {
                let synced = self.sync_existing(&path);
                self.mark_unsynced(path.parent());
                (path, synced)
            })
            .collect();
        let folders = self.sync_folders(synced.iter().map(|(path, _)| path.parent()));
        let result = |path: &RelPath, synced: Result<(), StoreError>| -> Result<Durability, StoreError> {
            synced?;
            folders.of(path.parent().as_ref())
        };
        synced.into_iter().filter_map(|(path, synced)| result(&path, synced).err().map(|fault| (path, fault))).collect()
    }

    fn sync_existing(&self, path: &RelPath) -> Result<(), StoreError> {
        let refused = |error| self.fault("reading", path.as_str(), 0, error);
        let file = self.folder_of(path)?.open_file(path.name(), OpenHow::Read).map_err(refused)?;
        file.sync().map_err(|source| StoreError::FsyncFailed { path: path.as_str().to_owned(), source })
    }
}
