//! Where received bytes go: partial files with their claims, and the one step in which a file appears.
//!
//! Everything unfinished lies in `.haul` below the destination. A file is written into a `PartialFile` chunk by
//! chunk, each under a `Lease` that one thread holds; what is claimed there was hashed from the file itself. Complete,
//! it becomes a `SealedFile`, which alone can be published. A file of one chunk or none is a `SingleFile` instead.
//!
//! **Where chunks are hashed.** Bytes go into the file by pwrite(2) on every file system: a full disk is then an error
//! and cannot be a signal. They are hashed through a read-only map of the file where that is the cheapest (ext2 to
//! ext4, xfs), and by pread(2) elsewhere. Storing through the map was measured and costs about a third more per byte
//! on ext4, for its page faults.

mod attributes;
mod batch;
mod buffers;
mod disk;
mod fault;
mod footer;
mod lease;
mod leftovers;
mod links;
mod older;
mod opening;
mod partial;
mod peek;
mod places;
#[cfg_attr(unix, path = "platform_unix.rs")]
#[cfg_attr(not(unix), path = "platform_other.rs")]
mod platform;
mod publish;
mod real_disk;
mod record;
mod room;
mod sync;
mod unnamed;
mod vouched;
mod work;

pub use attributes::AttributeLost;
pub use batch::SingleFile;
pub use disk::{BootId, Disk, DiskFile, DiskFolder, Durability, Facts, FileKind, Lock, OpenHow, Replace, Space};
pub use fault::StoreError;
pub use lease::Lease;
pub use leftovers::{LeftOver, PartGlance};
pub use links::{Link, LinkWish, Linked, LinkedHow};
pub use older::Older;
pub use partial::{OpenedPartial, PartialFile, SealedFile, Standing};
pub use peek::PartPeek;
pub use publish::{OnConflict, Publication, Published};
pub use real_disk::{RealDisk, RealFile, RealFolder};
pub use record::{Record, RecordGlance, RecordId};

use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::{ChunkDigest, ChunkHasher, FileDigest, RootMerger, empty_file_digest};
use crate::limits::BACKGROUND_SYNC_BYTES;
use crate::manifest::{Mode, Timestamp};
use crate::rel_path::RelPath;
use buffers::Buffers;
use disk::read_full;
use fault::Halted;
use places::{Place, Places};
use rayon::prelude::*;
use room::Room;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use work::Work;

/// The file handle of a disk.
pub(crate) type FileOf<D> = <<D as Disk>::Folder as DiskFolder>::File;

/// A destination. Cheap to clone; every clone is the same destination.
#[derive(Debug)]
pub struct Store<D: Disk = RealDisk> {
    inner: Arc<Inner<D>>,
}

/// What every handle into the destination shares.
#[derive(Debug)]
pub(crate) struct Inner<D: Disk> {
    disk: Arc<D>,
    places: Places<D::Folder>,
    buffers: Buffers,
    /// The folder of unfinished transfers, once somebody needed it.
    work: Mutex<Option<Arc<Work<D>>>>,
    /// Folders that gained entries and were not synced since, each with a count that grows with every entry.
    unsynced: Mutex<BTreeMap<Option<RelPath>, u64>>,
    /// Files that count as received and were there before.
    vouched: Mutex<BTreeSet<RelPath>>,
    background_sync_bytes: u64,
    room: Room,
    /// Somebody waits for every reading of whole chunks to end.
    is_halted: AtomicBool,
    /// Nothing is changed at the destination, and no lock of it is taken.
    only_looks: bool,
}

/// What a path stands for at the destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Existing {
    /// A plain file.
    File {
        /// Its length.
        length: Length,
    },
    /// A folder.
    Folder,
    /// Nothing.
    Nothing,
    /// A link, a pipe, a socket or a device; never followed or opened.
    Other,
}

/// Which names a destination takes for one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Folding {
    /// Names that differ in upper and lower case only.
    pub case: bool,
    /// Names that differ in composed and decomposed characters only.
    pub form: bool,
}

impl<D: Disk> Clone for Store<D> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<D: Disk> Store<D> {
    /// Opens a destination that files can be made in.
    pub fn open(disk: D) -> Result<Self, StoreError> {
        let top = disk.destination();
        let refused = |error| StoreError::of("writing into the folder", ".", 0, error, || 0);
        if top.own_facts().map_err(refused)?.kind != FileKind::Folder {
            return Err(StoreError::NotAFolder { path: ".".to_owned() });
        }
        top.check_writable().map_err(refused)?;
        let inner = Inner {
            disk: Arc::new(disk),
            places: Places::new(),
            buffers: Buffers::default(),
            work: Mutex::new(None),
            unsynced: Mutex::new(BTreeMap::new()),
            vouched: Mutex::default(),
            background_sync_bytes: BACKGROUND_SYNC_BYTES,
            room: Room::default(),
            is_halted: AtomicBool::new(false),
            only_looks: false,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens a destination of which nothing is to be changed: whatever would is [`StoreError::Misuse`]. It is refused where
    /// files could not be made in it.
    pub fn open_to_look(disk: D) -> Result<Self, StoreError> {
        let Self { inner } = Self::open(disk)?;
        let opened = Arc::try_unwrap(inner).map(|inner| Inner { only_looks: true, ..inner });
        let inner = opened.map_err(|_| StoreError::Misuse("a store that was opened twice"))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same store with another number of bytes between two background syncs of a partial file.
    #[must_use]
    pub fn with_background_sync_bytes(self, bytes: u64) -> Self {
        match Arc::try_unwrap(self.inner) {
            Ok(inner) => Self { inner: Arc::new(Inner { background_sync_bytes: bytes, ..inner }) },
            Err(inner) => Self { inner },
        }
    }

    /// Ends whatever hashes chunks that lie here, within a buffer's time, with [`StoreError::Halted`], until it is set
    /// back: reading a large file takes minutes, and whoever stops a transfer does not wait for it.
    pub fn halt(&self, halted: bool) {
        self.inner.is_halted.store(halted, Ordering::Relaxed);
    }

    /// What is free at the destination.
    pub fn space(&self) -> Result<Space, StoreError> {
        let found = self.inner.disk.destination().space();
        found.map_err(|error| self.inner.fault("asking for free space of", ".", 0, error))
    }

    /// Tries out which names the destination takes for one.
    pub fn folding(&self) -> Result<Folding, StoreError> {
        let work = self.inner.work()?;
        let case = self.takes_for_one(&work, "probe-case.new", "PROBE-CASE.NEW")?;
        let form = self.takes_for_one(&work, "probe-\u{e9}.new", "probe-e\u{301}.new")?;
        Ok(Folding { case, form })
    }

    fn takes_for_one(&self, work: &Work<D>, one: &str, other: &str) -> Result<bool, StoreError> {
        let refused = |error| self.inner.fault("trying out names in", crate::rel_path::WORK_FOLDER, 0, error);
        match work.folder().open_file(one, OpenHow::Create) {
            // Another process is trying out the same.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            result => drop(result.map_err(refused)?),
        }
        let found = work.folder().facts(other).map_err(refused);
        match work.folder().remove_file(one) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(refused(error)),
            _ => Ok(found?.is_some()),
        }
    }

    /// What `path` stands for. A path below a link or a file is [`StoreError::NotAFolder`].
    pub fn look(&self, path: &RelPath) -> Result<Existing, StoreError> {
        let folder = match self.inner.folder_of(path) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(Existing::Nothing),
            result => result?,
        };
        let found = folder.facts(path.name());
        let found = found.map_err(|error| self.inner.fault("looking at", path.as_str(), 0, error).of_name())?;
        Ok(match found {
            None => Existing::Nothing,
            Some(Facts { kind: FileKind::File, length, .. }) => Existing::File { length: Length(length) },
            Some(Facts { kind: FileKind::Folder, .. }) => Existing::Folder,
            Some(Facts { kind: FileKind::Link | FileKind::Other, .. }) => Existing::Other,
        })
    }

    /// Makes the folder `path` in a folder that exists; one that is already there is left as it is.
    pub fn make_folder(&self, path: &RelPath) -> Result<(), StoreError> {
        let above = self.inner.folder_of(path)?;
        match above.make_folder(path.name(), false) {
            Ok(()) => {
                self.inner.mark_unsynced(path.parent());
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.inner.folder(Some(path))?;
                // Whoever made it may have died before it synced the folder above.
                self.inner.mark_unsynced(path.parent());
                Ok(())
            }
            Err(error) => Err(self.inner.fault("making the folder", path.as_str(), 0, error).of_name()),
        }
    }

    /// Gives folders their permission bits and times, after all files in them are published, and makes that durable, and
    /// before it the files that were [vouched for](Store::vouch_for), of which it returns those that failed.
    ///
    /// Deepest first, because what is done inside a folder changes its time, and bits without write permission end
    /// what can be done inside.
    pub fn finish_folders(
        &self,
        mut folders: Vec<(RelPath, Mode, Timestamp)>,
    ) -> Vec<(RelPath, Result<Durability, StoreError>)> {
        let failed = self.inner.sync_vouched().into_iter().map(|(path, fault)| (path, Err(fault)));
        let mut results: Vec<_> = failed.collect();
        folders.sort_by(|one, other| other.0.cmp(&one.0));
        let set: Vec<_> = folders
            .into_iter()
            .map(|(path, mode, modified)| {
                let set = self.inner.folder(Some(&path)).and_then(|folder| {
                    self.inner.with_room(|| {
                        let set = folder.set_meta(mode, Some(modified));
                        set.map_err(|error| self.inner.fault("setting mode and time of", path.as_str(), 0, error))
                    })
                });
                if set.is_ok() {
                    self.inner.mark_unsynced(Some(path.clone()));
                }
                (path, set)
            })
            .collect();
        let synced = self.inner.sync_folders(set.iter().map(|(path, _)| Some(path.clone())));
        results.extend(set.into_iter().map(|(path, set)| {
            let result = set.and_then(|()| synced.of(Some(&path)));
            (path, result)
        }));
        results
    }
}

/// Keeps a name that is refused alone from being joined to a folder, whoever asks.
fn check_name(path: &RelPath) -> Result<(), StoreError> {
    if path.refusal().is_some() { Err(StoreError::Misuse("a name that is refused")) } else { Ok(()) }
}

impl<D: Disk> Inner<D> {
    /// The folder of unfinished transfers, made where there is none.
    fn work(&self) -> Result<Arc<Work<D>>, StoreError> {
        if self.only_looks {
            return Err(StoreError::Misuse("a change to a destination that was opened to look at"));
        }
        let mut kept = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(work) = &*kept {
            return Ok(Arc::clone(work));
        }
        Ok(Arc::clone(kept.insert(Arc::new(Work::open(&self.disk)?))))
    }

    /// The same, or `None` where there is none.
    fn existing_work(&self) -> Result<Option<Arc<Work<D>>>, StoreError> {
        let mut kept = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            let found = if self.only_looks { Work::look(&self.disk)? } else { Work::open_existing(&self.disk)? };
            *kept = found.map(Arc::new);
        }
        Ok(kept.clone())
    }

    /// The folder that holds `path`.
    fn folder_of(&self, path: &RelPath) -> Result<Place<'_, D::Folder>, StoreError> {
        check_name(path)?;
        self.folder(path.parent().as_ref())
    }

    fn folder(&self, path: Option<&RelPath>) -> Result<Place<'_, D::Folder>, StoreError> {
        path.map_or(Ok(()), check_name)?;
        self.places.open(&*self.disk, path)
    }

    /// Names the cause of a refused call.
    fn fault(&self, doing: &'static str, path: &str, needed: u64, source: io::Error) -> StoreError {
        let free = || self.disk.destination().space().map_or(0, |space| space.bytes);
        StoreError::of(doing, path, needed, source, free)
    }

    /// The digest of chunk `index` as the file holds it, a buffer at a time.
    fn hash_chunk(&self, file: &FileOf<D>, geometry: Geometry, index: ChunkIndex) -> io::Result<ChunkDigest> {
        let span = geometry.span(index).ok_or(ErrorKind::InvalidInput)?;
        let mut hasher = ChunkHasher::new(geometry, index);
        let mut buffer = self.buffers.take();
        let mut at = span.offset.0;
        let end = span.offset.0 + span.length.0;
        while at < end {
            if self.is_halted.load(Ordering::Relaxed) {
                return Err(io::Error::other(Halted));
            }
            let step = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            if read_full(file, &mut buffer[..step], at)? < step {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            hasher.update(&buffer[..step]);
            at += step as u64;
        }
        Ok(hasher.finish())
    }

    /// The digest of a whole file, chunks in parallel, telling `each` of every chunk's.
    fn hash_file(
        &self,
        file: &FileOf<D>,
        geometry: Geometry,
        mut each: impl FnMut(ChunkIndex, ChunkDigest),
    ) -> io::Result<FileDigest> {
        /// Chunks between two merges: the digests of a whole file need not be in memory at once.
        const ROUND: u32 = 1024;
        let count = geometry.count().0;
        let mut merger = RootMerger::new(geometry);
        let mut root = empty_file_digest();
        for first in (0..count).step_by(ROUND as usize) {
            let round = first..count.min(first + ROUND);
            let digests: Vec<ChunkDigest> = round
                .clone()
                .into_par_iter()
                .map(|index| self.hash_chunk(file, geometry, ChunkIndex(index)))
                .collect::<io::Result<_>>()?;
            for (index, digest) in round.zip(digests) {
                each(ChunkIndex(index), digest);
                root = merger.push(digest).unwrap_or(root);
            }
        }
        Ok(root)
    }
}
