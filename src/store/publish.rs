//! The one step in which a complete file appears under its name.

use super::attributes::{AttributeLost, set_on};
use super::disk::{self, Disk, DiskFile, DiskFolder, Durability, FileKind, Replace};
use super::fault::StoreError;
use super::partial::{Core, Phase, SealedFile};
use super::unnamed::UnnamedFile;
use super::work::Work;
use super::{Existing, Inner, Store};
use crate::chunk::ChunkIndex;
use crate::digest::DIGEST_BYTES;
use crate::limits::COMPONENT_BYTES_MAX;
use crate::manifest::{Attributes, Mode, Timestamp};
use crate::rel_path::RelPath;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::PoisonError;

/// Numbers tried for a free name.
const FREE_NAME_TRIES: u32 = 9999;
/// Folders that are synced one by one; above that the whole file system is, where that can be had.
const FOLDERS_ONE_BY_ONE_MAX: usize = 4;

/// How a complete file is to appear.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its path.
    pub path: RelPath,
    /// Its permission bits.
    pub mode: Mode,
    /// When its content last changed.
    pub modified: Timestamp,
    /// What to do if the path is taken.
    pub conflict: OnConflict,
    /// Whether to read it back from the device and hash it once more before.
    pub read_back: bool,
    /// Its extended attributes.
    pub attributes: Attributes,
}

/// What to do if a path is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnConflict {
    /// Leave what is there and fail with [`StoreError::Exists`].
    Fail,
    /// Replace a plain file; anything else is [`StoreError::Exists`].
    Overwrite,
    /// Take the first free name of `name (1)`, `name (2)` and so on.
    Rename,
    /// As `Overwrite`; and a link that is there already is made to be as one that is made now.
    Update,
}

/// A finished file that has yet to appear under its path.
pub(super) enum Finished<'a, D: Disk> {
    /// Lies in the work folder under this name.
    Named(&'a Work<D>, &'a str),
    /// Has no name yet. It can take a free name only.
    Unnamed(&'a UnnamedFile<D>),
}

/// A file that appeared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Published {
    /// The path that it has.
    pub path: RelPath,
    /// Whether it is known to outlast a power cut.
    pub durability: Durability,
    /// The attributes that the destination cannot hold.
    pub attributes_lost: Vec<AttributeLost>,
}

impl<D: Disk> Store<D> {
    /// Publishes a file.
    ///
    /// The order is the safety (R8): writers are gone, the view is dropped and the root is right, or there would be no
    /// [`SealedFile`]; the file is read back if asked for; attributes are set; table and footer are cut off; mode and time are set; then
    /// sync, rename, sync of the folder. So the name stands for complete, durable bytes from its first moment on. On an
    /// error before the rename, the partial file has its table back.
    #[allow(clippy::needless_pass_by_value, reason = "a sealed file is published once")]
    pub fn publish(&self, sealed: SealedFile<D>, publication: &Publication) -> Result<Published, StoreError> {
        let partial = &*sealed.partial.core;
        if publication.read_back {
            self.read_back(&sealed)?;
        }
        if publication.conflict == OnConflict::Fail && self.look(&publication.path)? != Existing::Nothing {
            return Err(StoreError::Exists { path: publication.path.as_str().to_owned() });
        }
        let mut table = vec![0; usize::try_from(partial.layout.table_bytes()).unwrap_or(0)];
        let read = disk::read_exact(&partial.file, &mut table, partial.layout.table());
        read.map_err(|error| partial.fault("reading the table of", error))?;

        let attributes_lost = set_on(&partial.file, &publication.attributes);
        let cut = self.inner.with_room(|| {
            let cut = partial.file.set_length(partial.layout.data_bytes());
            let cut = cut.and_then(|()| partial.file.set_meta(publication.mode, Some(publication.modified)));
            cut.map_err(|error| partial.fault("finishing", error))
        });
        if let Err(fault) = cut {
            partial.reinstate(&table);
            return Err(fault);
        }
        if let Err(source) = partial.file.sync() {
            partial.reinstate_after_failed_sync(&mut table, &source);
            return Err(StoreError::FsyncFailed { path: partial.path_text(), source });
        }
        match self.inner.place(&Finished::Named(&partial.work, &partial.name), publication) {
            Ok(path) => {
                let folder = path.parent();
                let durability = self.inner.sync_folders([folder.clone()].into_iter()).of(folder.as_ref())?;
                Ok(Published { path, durability, attributes_lost })
            }
            Err(error) => {
                partial.reinstate(&table);
                Err(error)
            }
        }
    }

    /// Removes a complete file that is wanted nowhere.
    #[allow(clippy::needless_pass_by_value, reason = "a sealed file is discarded once")]
    pub fn discard(&self, sealed: SealedFile<D>) -> Result<(), StoreError> {
        let partial = &*sealed.partial.core;
        partial.work.remove(&partial.name).map_err(|error| partial.fault("removing", error))
    }

    /// Hashes the whole file as the device has it. Chunks that differ lose their claims.
    fn read_back(&self, sealed: &SealedFile<D>) -> Result<(), StoreError> {
        let partial = &*sealed.partial.core;
        if let Err(source) = partial.file.sync_data() {
            let mut state = partial.lock();
            partial.void_claims_at_risk(&mut state, &source);
            return Err(StoreError::FsyncFailed { path: partial.path_text(), source });
        }
        partial.file.drop_cache();
        let mut row = [0; DIGEST_BYTES];
        let mut damaged = Ok(());
        let root = self.inner.hash_file(&partial.file, partial.geometry, |index, digest| {
            let compared = disk::read_exact(&partial.file, &mut row, partial.layout.row(index));
            if damaged.is_ok() {
                damaged = compared
                    .and_then(|()| if row == digest.0 { Ok(()) } else { partial.write_row(index, [0; DIGEST_BYTES]) });
            }
        });
        let root = root.and_then(|root| damaged.map(|()| root));
        if root.map_err(|error| partial.fault("reading back", error))? == sealed.root {
            Ok(())
        } else {
            Err(StoreError::Damaged { path: partial.path_text() })
        }
    }
}

impl<D: Disk> Core<D> {
    /// Gives the file its table back, so that a next try need not hash all of it. If that fails, it does.
    fn reinstate(&self, table: &[u8]) {
        let _ = self.try_reinstate(table);
    }

    /// The same without the claims that the failed sync should have covered. A file without a table would be hashed
    /// from pages that never reached the device; rather than that, it goes.
    fn reinstate_after_failed_sync(&self, table: &mut [u8], error: &io::Error) {
        let mut state = self.lock();
        state.phase = Phase::Failed;
        state.sync_error = Some(error.kind());
        for number in Self::claims_at_risk(&state).ranges().flatten() {
            let start = usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(DIGEST_BYTES);
            if let Some(row) = table.get_mut(start..start.saturating_add(DIGEST_BYTES)) {
                row.fill(0);
            }
        }
        if self.try_reinstate(table).is_err() {
            self.discard();
        }
    }

    fn try_reinstate(&self, table: &[u8]) -> io::Result<()> {
        self.file.set_meta(Mode::masked(0o600), None)?;
        if !disk::reserve(&self.file, self.layout.total_bytes())? {
            self.file.set_length(self.layout.total_bytes())?;
        }
        disk::write_all(&self.file, table, self.layout.row(ChunkIndex(0)))?;
        self.write_footer()
    }
}

/// What came of a sync of folders.
#[derive(Debug, Default)]
pub(super) struct Synced(BTreeMap<Option<RelPath>, Result<Durability, (ErrorKind, String)>>);

impl Synced {
    /// The durability of what lies in `folder`: that of the weakest link between there and the destination.
    pub(super) fn of(&self, folder: Option<&RelPath>) -> Result<Durability, StoreError> {
        let mut weakest = Durability::Full;
        let mut at = folder.cloned();
        loop {
            match self.0.get(&at) {
                Some(Ok(durability)) => weakest = weakest.min(*durability),
                Some(Err((kind, text))) => {
                    let path = at.as_ref().map_or(".", RelPath::as_str).to_owned();
                    return Err(StoreError::FsyncFailed { path, source: io::Error::new(*kind, text.clone()) });
                }
                None => {}
            }
            match at {
                Some(path) => at = path.parent(),
                None => return Ok(weakest),
            }
        }
    }
}

impl<D: Disk> Inner<D> {
    /// Has a finished file appear at its path, or at a free one.
    pub(super) fn place(&self, finished: &Finished<'_, D>, wish: &Publication) -> Result<RelPath, StoreError> {
        self.place_over(finished, wish, &[FileKind::File])
    }

    /// The same, where things of these kinds are what overwriting replaces.
    pub(super) fn place_over(
        &self,
        finished: &Finished<'_, D>,
        wish: &Publication,
        replaceable: &[FileKind],
    ) -> Result<RelPath, StoreError> {
        let mut placed = self.try_place(finished, wish, replaceable);
        if let (Err(StoreError::Io { source, .. }), Some(parent)) = (&placed, wish.path.parent())
            && source.kind() == ErrorKind::NotFound
        {
            // The folder that is held open was removed; there may be another under its name.
            self.places.forget(&parent);
            placed = self.try_place(finished, wish, replaceable);
        }
        let path = placed?;
        self.mark_unsynced(path.parent());
        Ok(path)
    }

    fn try_place(
        &self,
        finished: &Finished<'_, D>,
        wish: &Publication,
        replaceable: &[FileKind],
    ) -> Result<RelPath, StoreError> {
        let folder = self.folder_of(&wish.path)?;
        let refused = |error| self.fault("publishing", wish.path.as_str(), 0, error).of_name();
        let exists = || StoreError::Exists { path: wish.path.as_str().to_owned() };
        let replace = match wish.conflict {
            OnConflict::Overwrite | OnConflict::Update => match folder.facts(wish.path.name()).map_err(refused)? {
                Some(found) if !replaceable.contains(&found.kind) => return Err(exists()),
                _ => Replace::File,
            },
            OnConflict::Fail | OnConflict::Rename => Replace::Never,
        };
        let appear = |to: &RelPath| match finished {
            Finished::Named(work, name) => work.folder().rename(name, &folder, to.name(), replace),
            // Giving a name never replaces one, so what is to replace has a name from the start.
            Finished::Unnamed(unnamed) => folder.give_name(unnamed.file(), to.name()),
        };
        let move_to = |to: &RelPath| match appear(to) {
            Ok(()) => Ok(true),
            Err(error) => match error.kind() {
                ErrorKind::AlreadyExists | ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty => Ok(false),
                _ => Err(refused(error)),
            },
        };
        let rename = |to: &RelPath| self.with_room(|| move_to(to));
        if rename(&wish.path)? {
            return Ok(wish.path.clone());
        }
        if wish.conflict == OnConflict::Rename {
            for number in 1..=FREE_NAME_TRIES {
                let Some(path) = numbered(&wish.path, number) else { break };
                if rename(&path)? {
                    return Ok(path);
                }
            }
        }
        Err(exists())
    }

    /// Notes that the folder gained or lost an entry.
    pub(super) fn mark_unsynced(&self, folder: Option<RelPath>) {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        *unsynced.entry(folder).or_default() += 1;
    }

    /// Makes durable what was done in `folders` and in all above them: deepest first, each once (R11).
    pub(super) fn sync_folders(&self, folders: impl Iterator<Item = Option<RelPath>>) -> Synced {
        let mut wanted = BTreeSet::new();
        for folder in folders {
            let mut at = folder;
            while wanted.insert(at.clone()) {
                match at {
                    Some(path) => at = path.parent(),
                    None => break,
                }
            }
        }
        let mut due: Vec<(Option<RelPath>, u64)> = {
            let unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.into_iter().filter_map(|folder| unsynced.get(&folder).map(|&count| (folder, count))).collect()
        };
        // A path sorts after every folder above it.
        due.reverse();
        let mut synced = Synced::default();
        let at_once =
            if due.len() > FOLDERS_ONE_BY_ONE_MAX { self.disk.destination().sync_file_system() } else { Ok(false) };
        for (folder, count) in due {
            let result = match &at_once {
                Ok(true) => Ok(Durability::Full),
                Ok(false) => self.sync_folder(folder.as_ref()),
                Err(error) => Err((error.kind(), error.to_string())),
            };
            if result.is_ok() {
                let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
                // An entry made since is not covered, so its mark stays.
                if unsynced.get(&folder) == Some(&count) {
                    unsynced.remove(&folder);
                }
            }
            synced.0.insert(folder, result);
        }
        synced
    }

    fn sync_folder(&self, folder: Option<&RelPath>) -> Result<Durability, (ErrorKind, String)> {
        match self.folder(folder) {
            Ok(place) => place.sync().map_err(|error| (error.kind(), error.to_string())),
            Err(error) => Err((ErrorKind::Other, error.to_string())),
        }
    }
}

/// `photo (1).jpg` for `photo.jpg`, cut where it would be too long for a name.
fn numbered(path: &RelPath, number: u32) -> Option<RelPath> {
    let name = path.name();
    let (stem, ending) = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= 16 => name.split_at(dot),
        _ => (name, ""),
    };
    let tail = format!(" ({number}){ending}");
    let mut cut = stem.len().min(COMPONENT_BYTES_MAX.checked_sub(tail.len())?);
    while !stem.is_char_boundary(cut) {
        cut -= 1;
    }
    path.with_name(&format!("{}{tail}", &stem[..cut])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_before_the_ending_and_names_stay_short_enough() {
        let next = |text: &str| numbered(&RelPath::parse(text).unwrap(), 1).unwrap().as_str().to_owned();
        assert_eq!(next("a/photo.jpg"), "a/photo (1).jpg");
        assert_eq!(next("name"), "name (1)");
        assert_eq!(next(".profile"), ".profile (1)");
        assert_eq!(next("archive.tar.gz"), "archive.tar (1).gz");
        assert_eq!(next(&"x".repeat(255)).len(), 255);
        assert_eq!(next(&"\u{e9}".repeat(127)).len(), 250 + 4);
        assert!(next(&format!("{}.{}", "x".repeat(100), "y".repeat(154))).ends_with("y (1)"));
    }
}
