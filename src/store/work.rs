//! The folder of unfinished transfers, `.haul`: made when it is first needed, removed when it is empty.

use super::disk::{Disk, DiskFile, DiskFolder, Facts, FileKind, Lock, OpenHow, Replace};
use super::fault::StoreError;
use super::unnamed::Unnamed;
use crate::manifest::Mode;
use crate::rel_path::WORK_FOLDER;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Held shared by every process that uses the folder, and exclusively to tidy it up.
const LOCK_NAME: &str = "lock";
/// Ending of files that no later process can have a use for.
const SCRATCH_ENDING: &str = ".new";
/// Times that the folder may be removed by somebody else while it is being opened.
const OPEN_TRIES: usize = 16;

/// The open folder. While it is, nobody else removes it or sweeps scratch files out of it.
#[derive(Debug)]
pub(super) struct Work<D: Disk> {
    disk: Arc<D>,
    folder: D::Folder,
    /// `None` where it was opened only to look into it.
    lock: Option<super::FileOf<D>>,
    scratch_names: AtomicU64,
    /// Whether a power cut leaves the folder itself where it is.
    is_name_synced: AtomicBool,
    unnamed: Unnamed,
}

impl<D: Disk> Work<D> {
    /// Opens the folder, making it where there is none. It must be ours alone, and no link.
    pub(super) fn open(disk: &Arc<D>) -> Result<Self, StoreError> {
        for _ in 0..OPEN_TRIES {
            match Self::try_open(disk) {
                Ok(Some(work)) => return Ok(work),
                Ok(None) => {}
                Err(Refusal::System(error)) if error.kind() == ErrorKind::NotFound => {}
                Err(Refusal::System(error)) => {
                    let free = || disk.destination().space().map_or(0, |space| space.bytes);
                    return Err(StoreError::of("opening the folder", WORK_FOLDER, 0, error, free));
                }
                Err(Refusal::Tampered(what)) => {
                    return Err(StoreError::Tampered { path: WORK_FOLDER.to_owned(), what });
                }
            }
        }
        Err(StoreError::Busy { path: WORK_FOLDER.to_owned(), holder: None })
    }

    /// The same, only where it exists: for a look at what is unfinished.
    pub(super) fn open_existing(disk: &Arc<D>) -> Result<Option<Self>, StoreError> {
        match disk.destination().facts(WORK_FOLDER) {
            Ok(None) => Ok(None),
            Ok(Some(_)) => Self::open(disk).map(Some),
            Err(error) => Err(StoreError::of("looking for the folder", WORK_FOLDER, 0, error, || 0)),
        }
    }

    /// The folder as it is, where it exists and is ours: nothing is locked, swept or removed, now or later.
    pub(super) fn look(disk: &Arc<D>) -> Result<Option<Self>, StoreError> {
        let refused = |error| StoreError::of("looking into the folder", WORK_FOLDER, 0, error, || 0);
        if disk.destination().facts(WORK_FOLDER).map_err(refused)?.is_none() {
            return Ok(None);
        }
        let folder = match disk.destination().open_folder(WORK_FOLDER) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(StoreError::Tampered { path: WORK_FOLDER.to_owned(), what: "it is a link, or no folder" });
            }
            result => result.map_err(refused)?,
        };
        if !folder.own_facts().map_err(refused)?.is_ours {
            return Err(StoreError::Tampered { path: WORK_FOLDER.to_owned(), what: "it belongs to another user" });
        }
        Ok(Some(Self::of(disk, folder, None)))
    }

    fn of(disk: &Arc<D>, folder: D::Folder, lock: Option<super::FileOf<D>>) -> Self {
        let (scratch_names, is_name_synced) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { disk: Arc::clone(disk), folder, lock, scratch_names, is_name_synced, unnamed: Unnamed::default() }
    }

    pub(super) fn folder(&self) -> &D::Folder {
        &self.folder
    }

    pub(super) fn unnamed(&self) -> &Unnamed {
        &self.unnamed
    }

    /// Files without names that may be held open.
    pub(super) fn held_open_max(&self) -> usize {
        self.disk.held_open_max()
    }

    /// Makes a file under a name that nothing else has, of the kind that is swept away if this process dies.
    pub(super) fn create_scratch(&self) -> io::Result<(String, super::FileOf<D>)> {
        self.make_scratch(|name| self.folder.open_file(name, OpenHow::Create))
    }

    /// The same of whatever `make` makes under a name, unless it is taken.
    pub(super) fn make_scratch<T>(&self, make: impl Fn(&str) -> io::Result<T>) -> io::Result<(String, T)> {
        loop {
            let name = format!("{:08x}{SCRATCH_ENDING}", self.scratch_names.fetch_add(1, Ordering::Relaxed));
            match make(&name) {
                // Left by a process that shares the folder.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                result => return result.map(|made| (name, made)),
            }
        }
    }

    /// Replaces the file `name` by one that holds `bytes`, in one step and durably.
    pub(super) fn replace_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (scratch, file) = self.create_scratch()?;
        let written = super::disk::write_all(&file, bytes, 0).and_then(|()| file.sync());
        let renamed = written.and_then(|()| self.folder.rename(&scratch, &self.folder, name, Replace::File));
        if renamed.is_err() {
            let _ = self.folder.remove_file(&scratch);
        }
        renamed.and_then(|()| self.sync())
    }

    /// Makes the names in the folder durable, and its own.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.folder.sync()?;
        if !self.is_name_synced.load(Ordering::Acquire) {
            self.disk.destination().sync()?;
            self.is_name_synced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Opens and locks the file that an earlier run left under `name`.
    ///
    /// What is there and cannot be that file is removed: in a folder that is ours alone it is no use to anybody, and
    /// following it (a link) or sharing it (a second name, another owner) would be of use to an attacker.
    pub(super) fn open_found(&self, name: &str) -> io::Result<FoundFile<super::FileOf<D>>> {
        for _ in 0..OPEN_TRIES {
            let Some(facts) = self.folder.facts(name)? else { return Ok(FoundFile::Nothing) };
            if facts.kind == FileKind::Folder {
                return Ok(FoundFile::Foreign);
            }
            if !is_plain_and_ours(&facts) {
                self.remove(name)?;
                continue;
            }
            let file = match self.folder.open_file(name, OpenHow::Write) {
                // A run that was killed while publishing leaves the final permission bits.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    self.allow_writing(name)?;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                result => result?,
            };
            if !file.lock(Lock::Exclusive)? {
                return Ok(FoundFile::Busy(file));
            }
            // Until it was locked, its holder may have published it: then it is no unfinished file any more.
            let locked = file.facts()?;
            let current = self.folder.facts(name)?;
            if is_plain_and_ours(&locked) && current.is_some_and(|current| current.identity == locked.identity) {
                if !locked.is_private {
                    file.set_meta(Mode::masked(0o600), None)?;
                }
                return Ok(FoundFile::Ours(file));
            }
        }
        Ok(FoundFile::Foreign)
    }

    /// Opens the file `name` for a look, where it is one that this program can have left. Nothing is locked or removed.
    pub(super) fn peek(&self, name: &str) -> Option<super::FileOf<D>> {
        self.folder.facts(name).ok()?.filter(is_plain_and_ours)?;
        let file = self.folder.open_file(name, OpenHow::Read).ok()?;
        file.facts().is_ok_and(|facts| is_plain_and_ours(&facts)).then_some(file)
    }

    /// Removes a file; it is no error if it is gone.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match self.folder.remove_file(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Gives a file its working permission bits back, or removes it where even that cannot be done.
    fn allow_writing(&self, name: &str) -> io::Result<()> {
        let opened = self.folder.open_file(name, OpenHow::Read);
        opened.and_then(|file| file.set_meta(Mode::masked(0o600), None)).or_else(|_| self.remove(name))
    }

    /// `Ok(None)` where somebody removed the folder or its lock meanwhile.
    fn try_open(disk: &Arc<D>) -> Result<Option<Self>, Refusal> {
        let top = disk.destination();
        if top.facts(WORK_FOLDER)?.is_none() {
            match top.make_folder(WORK_FOLDER, true) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
                _ => {}
            }
        }
        let folder = top.open_folder(WORK_FOLDER).map_err(|error| match error.kind() {
            ErrorKind::NotADirectory => Refusal::Tampered("it is a link, or no folder"),
            _ => error.into(),
        })?;
        let facts = folder.own_facts()?;
        if !facts.is_ours {
            return Err(Refusal::Tampered("it belongs to another user"));
        }
        if !facts.is_private {
            folder.set_meta(Mode::masked(0o700), None)?;
        }
        let lock = match folder.open_file(LOCK_NAME, OpenHow::Create) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => folder.open_file(LOCK_NAME, OpenHow::Write)?,
            result => result?,
        };
        if !is_plain_and_ours(&lock.facts()?) {
            return Err(Refusal::Tampered("its lock is not a plain file of ours"));
        }
        if lock.lock(Lock::Exclusive)? {
            sweep(&folder)?;
        }
        let shared = lock.lock(Lock::Shared)?;
        // Whoever removes the folder holds the lock alone, and takes its name away first. With the shared lock on a
        // file that still has its name, in a folder that still has its own, nobody can.
        let is_current = folder.facts(LOCK_NAME)?.map(|found| found.identity) == Some(lock.facts()?.identity)
            && top.facts(WORK_FOLDER)?.map(|found| found.identity) == Some(facts.identity);
        if !shared || !is_current {
            return Ok(None);
        }
        Ok(Some(Self::of(disk, folder, Some(lock))))
    }

    /// Removes the folder if nothing is left in it and nobody else uses it.
    fn remove_if_empty(&self) -> io::Result<()> {
        match &self.lock {
            Some(lock) if lock.lock(Lock::Exclusive)? => {}
            _ => return Ok(()),
        }
        sweep(&self.folder)?;
        if self.folder.names()?.iter().all(|name| name == LOCK_NAME) {
            self.folder.remove_file(LOCK_NAME)?;
            self.disk.destination().remove_folder(WORK_FOLDER)?;
        }
        Ok(())
    }
}

impl<D: Disk> Drop for Work<D> {
    fn drop(&mut self) {
        // An empty folder left behind is untidy and no more; the next process removes it.
        let _ = self.remove_if_empty();
    }
}

/// What an earlier run left under a name.
pub(super) enum FoundFile<F> {
    /// A file that another process holds.
    Busy(F),
    /// Something that this program did not leave and does not remove.
    Foreign,
    /// Nothing, or what could not be it.
    Nothing,
    /// Its file, locked.
    Ours(F),
}

/// Whether a name in the folder is a file that this program can have left there.
pub(super) fn is_plain_and_ours(facts: &Facts) -> bool {
    facts.kind == FileKind::File && facts.is_ours && facts.links == 1
}

/// Removes what a process that died left and nobody can use. Only under the exclusive lock.
fn sweep(folder: &impl DiskFolder) -> io::Result<()> {
    for name in folder.names()?.iter().filter(|name| name.ends_with(SCRATCH_ENDING)) {
        folder.remove_file(name)?;
    }
    Ok(())
}

enum Refusal {
    System(io::Error),
    Tampered(&'static str),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}
