//! Folders below the destination, held open so that a path is walked once and not once per file.

use super::disk::{Disk, DiskFolder};
use super::fault::StoreError;
use crate::rel_path::RelPath;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Folders held open at once.
const HELD_MAX: usize = 128;

/// An open folder of the destination.
pub(super) enum Place<'a, F> {
    Top(&'a F),
    Below(Arc<F>),
}

/// The folders that were used last.
#[derive(Debug)]
pub(super) struct Places<F> {
    held: Mutex<Held<F>>,
}

#[derive(Debug)]
struct Held<F> {
    folders: HashMap<RelPath, (Arc<F>, u64)>,
    uses: u64,
}

impl<F> Deref for Place<'_, F> {
    type Target = F;

    fn deref(&self) -> &F {
        match self {
            Self::Top(folder) => folder,
            Self::Below(folder) => folder,
        }
    }
}

impl<F: DiskFolder> Places<F> {
    pub(super) fn new() -> Self {
        Self { held: Mutex::new(Held { folders: HashMap::new(), uses: 0 }) }
    }

    /// Opens the folder at `path`, the destination itself for `None`. Each component is opened in the one before, by a
    /// call that refuses links: nobody can put a way out under it, also not between two calls.
    pub(super) fn open<'a, D: Disk<Folder = F>>(
        &self,
        disk: &'a D,
        path: Option<&RelPath>,
    ) -> Result<Place<'a, F>, StoreError> {
        let Some(path) = path else { return Ok(Place::Top(disk.destination())) };
        if let Some(folder) = self.recall(path) {
            return Ok(Place::Below(folder));
        }
        let above = self.open(disk, path.parent().as_ref())?;
        let opened = above.open_folder(path.name());
        let folder =
            opened.map_err(|error| StoreError::of("opening the folder", path.as_str(), 0, error, || 0).of_name())?;
        let folder = Arc::new(folder);
        self.keep(path.clone(), Arc::clone(&folder));
        Ok(Place::Below(folder))
    }

    /// Lets go of the folder at `path` and of all below it: it was moved or removed under us.
    pub(super) fn forget(&self, path: &RelPath) {
        let below = |folder: &RelPath| {
            folder.as_str().strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.lock().folders.retain(|folder, _| !below(folder));
    }

    fn recall(&self, path: &RelPath) -> Option<Arc<F>> {
        let mut held = self.lock();
        held.uses += 1;
        let uses = held.uses;
        let (folder, used) = held.folders.get_mut(path)?;
        *used = uses;
        Some(Arc::clone(folder))
    }

    fn keep(&self, path: RelPath, folder: Arc<F>) {
        let mut held = self.lock();
        if held.folders.len() >= HELD_MAX
            && let Some(oldest) = held.folders.iter().min_by_key(|(_, (_, used))| *used).map(|(path, _)| path.clone())
        {
            held.folders.remove(&oldest);
        }
        held.uses += 1;
        let uses = held.uses;
        held.folders.insert(path, (folder, uses));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held<F>> {
        // A panic elsewhere leaves the map whole: each change to it is one call.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
