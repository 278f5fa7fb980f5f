//! Files that are kept open: those of several chunks, the least recently used closed first.

use super::fault::Trouble;
use super::hash_cache::{CachedHashes, HashCache};
use super::place::{Identity, read_at};
use crate::chunk::Geometry;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// An open file that was the listed one when it was opened.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    identity: Identity,
    pub(super) geometry: Geometry,
    /// What the cache holds about it; looked up when it is first hashed.
    cached: OnceLock<Option<Mutex<CachedHashes>>>,
}

/// The files that are kept open, by entry.
#[derive(Debug)]
pub(super) struct OpenFiles {
    most: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Each file with the number of its last use.
    files: HashMap<u32, (u64, Arc<OpenFile>)>,
    uses: u64,
}

impl OpenFile {
    pub(super) fn new(file: File, identity: Identity, geometry: Geometry) -> Self {
        Self { file, identity, geometry, cached: OnceLock::new() }
    }

    /// Fills `buffer` from `offset`. A file that ends before that has changed.
    pub(super) fn read_exactly(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Trouble> {
        if read_at(&self.file, offset, buffer)? < buffer.len() {
            return Err(Trouble::Changed);
        }
        Ok(())
    }

    /// Checks that what was read belongs to the listed content. Called after reading, so that what was read before a
    /// change is the worst that gets through.
    pub(super) fn check_content(&self) -> Result<(), Trouble> {
        if self.identity_now()?.has_content_of(&self.identity) { Ok(()) } else { Err(Trouble::Changed) }
    }

    /// Whether nothing at all happened to the file since it was listed.
    pub(super) fn is_untouched(&self) -> bool {
        self.identity_now().is_ok_and(|identity| identity == self.identity)
    }

    /// The cached hashes of the file, if there is a cache that can hold some.
    pub(super) fn cached(&self, cache: Option<&HashCache>) -> Option<MutexGuard<'_, CachedHashes>> {
        let cached = self.cached.get_or_init(|| cache?.load(&self.file, &self.identity).map(Mutex::new));
        cached.as_ref().map(|cached| cached.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn identity_now(&self) -> io::Result<Identity> {
        Ok(Identity::of(&rustix::fs::fstat(&self.file)?))
    }
}

impl OpenFiles {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), shelf: Mutex::default() }
    }

    /// The open file of `entry`, if it was opened as `identity`.
    pub(super) fn find(&self, entry: u32, identity: &Identity) -> Option<Arc<OpenFile>> {
        let mut shelf = self.lock();
        shelf.uses += 1;
        let uses = shelf.uses;
        let (last_use, open) = shelf.files.get_mut(&entry)?;
        *last_use = uses;
        (open.identity == *identity).then(|| Arc::clone(open))
    }

    pub(super) fn keep(&self, entry: u32, open: &Arc<OpenFile>) {
        let mut shelf = self.lock();
        shelf.uses += 1;
        let uses = shelf.uses;
        let replaced = shelf.files.insert(entry, (uses, Arc::clone(open)));
        let oldest = if shelf.files.len() > self.most { shelf.least_recently_used() } else { None };
        let evicted = oldest.and_then(|oldest| shelf.files.remove(&oldest));
        // Closing may take long on a network file system; nobody else need wait for it.
        drop(shelf);
        drop((replaced, evicted));
    }

    pub(super) fn forget(&self, entry: u32) {
        let forgotten = self.lock().files.remove(&entry);
        drop(forgotten);
    }

    /// Closes what nobody reads right now.
    pub(super) fn close_all(&self) {
        let files = std::mem::take(&mut self.lock().files);
        drop(files);
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn least_recently_used(&self) -> Option<u32> {
        self.files.iter().min_by_key(|(_, (last_use, _))| last_use).map(|(entry, _)| *entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Length;

    #[test]
    fn the_least_recently_used_file_is_closed_first() {
        let file = tempfile::tempfile().unwrap();
        let identity = Identity::of(&rustix::fs::fstat(&file).unwrap());
        let open = || {
            let geometry = Geometry::of(Length(0)).unwrap();
            Arc::new(OpenFile::new(file.try_clone().unwrap(), identity, geometry))
        };
        let files = OpenFiles::new(2);
        files.keep(1, &open());
        files.keep(2, &open());
        assert!(files.find(1, &identity).is_some());
        files.keep(3, &open());
        assert!(files.find(2, &identity).is_none());
        assert!(files.find(1, &identity).is_some() && files.find(3, &identity).is_some());
        let other = Identity { bytes: 9, ..identity };
        assert!(files.find(1, &other).is_none());
        files.forget(1);
        assert!(files.find(1, &identity).is_none());
    }
}
