//! What is sent: given paths walked into a listing, and their files read and hashed by chunk.
//!
//! Every look-up starts at the handle of the folder that holds a given path and follows no link in any component
//! (`openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, or one component at a time). Only regular files are
//! read, with pread(2): a source that shrinks gives a short read, where a map would end the process.
//!
//! **How a change is noticed.** The walk records device, inode, length, mtime and ctime of every file. When a file is
//! opened all five must be as recorded. After each chunk read for hashing, and after each call that reads for sending
//! (at most a chunk, mostly a piece), one fstat(2) compares device, inode, length and mtime; a read that ends early
//! counts as a change. ctime is left out there, because a rename, an unlink or a chmod moves it, and what is open
//! stays readable through them. A write that leaves no trace in these (through an old map, or within one tick of the
//! file system's clock) is caught by the receiver, which hashes what it got: see
//! [`Source::rehash_chunk`](crate::source::Source::rehash_chunk).

mod attributes;
mod buffers;
mod check;
mod fault;
mod filter;
mod hash_cache;
mod kept;
mod links;
mod notice;
mod open_files;
mod outline;
mod place;
mod read;
mod spool;
mod top;
mod walk;

use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::ChunkDigest;
use crate::manifest::{Attributes, LinkTarget};
use crate::rel_path::RelPath;
use buffers::Buffers;
pub use check::{CheckedFolder, Standing, WantedChunk};
pub use fault::SourceError;
use fault::Trouble;
pub use filter::{Filter, LeftOut, PatternFault, Rule};
use hash_cache::HashCache;
use kept::Kept;
pub use notice::{Notice, NoticeReason};
use open_files::{OpenFile, OpenFiles};
use place::{Anchors, Identity};
pub use spool::{Spool, SpoolFault};
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
pub use top::offer_id;

/// Files of several chunks that are kept open unless the caller says otherwise. Each may hold a second descriptor for
/// its cached hashes, so this stays well below the usual limit of 1024.
pub const OPEN_FILES_DEFAULT: usize = 128;

/// What a walk does beside walking.
#[derive(Clone, Debug)]
pub struct WalkOptions {
    /// What is taken.
    pub filter: Filter,
    /// Folder of the hash cache; `None` keeps no cache.
    pub hash_cache: Option<PathBuf>,
    /// Bytes of files of one chunk that are kept from their hash until they are read; 0 where none will be.
    pub kept_bytes_max: usize,
    /// Files of several chunks that are kept open.
    pub open_files_max: usize,
    /// Set from elsewhere, it ends the walk with [`SourceError::Stopped`].
    pub stop: Option<Arc<AtomicBool>>,
    /// Whether symbolic links below the given paths are listed as such; without it they are left out with a notice.
    pub symlinks: bool,
    /// Whether extended attributes of users are read, where the system has them.
    pub attributes: bool,
}

/// The outcome of a walk.
#[derive(Debug)]
pub struct Walk {
    /// Everything that can be sent, each folder directly before what it holds. The place of an entry here names it to
    /// [`Source`].
    pub entries: Vec<SourceEntry>,
    /// What was left out or renamed, up to a thousand of them.
    pub notices: Vec<Notice>,
    /// How many further notices there would be.
    pub notices_untold: u64,
    /// How many files or folders failed, told or untold: a transfer of the rest is partial.
    pub failures: u64,
    /// What the filter left out.
    pub left_out: LeftOut,
    /// The files to read.
    pub source: Source,
    /// Bytes of all files together.
    pub total: Length,
}

/// A file, folder or link to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceEntry {
    /// Where the receiver puts it.
    pub path: RelPath,
    /// What it is.
    pub kind: EntryKind,
    /// Rights of owner, group and others, without set-user-id, set-group-id and sticky.
    pub mode: u16,
    /// Time of the last modification, whole seconds since 1970.
    pub mtime_seconds: i64,
    /// The part of that time below a second.
    pub mtime_nanoseconds: u32,
    /// Extended attributes of a file or folder.
    pub attributes: Attributes,
}

/// What an entry is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Bytes that it holds.
        length: Length,
    },
    /// A folder.
    Folder,
    /// Another name of a file that was listed before.
    HardLink {
        /// That file's place in the listing.
        to: u32,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads: nowhere but to a place within the given path that it lies in.
        target: LinkTarget,
    },
}

/// A file that changed, as it is when it is listed anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Relisted {
    /// Bytes that it holds.
    pub length: Length,
    /// Rights, as in [`SourceEntry::mode`].
    pub mode: u16,
    /// Time of the last modification, whole seconds since 1970.
    pub mtime_seconds: i64,
    /// The part of that time below a second.
    pub mtime_nanoseconds: u32,
}

/// Chunks of one file that follow each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChunkRun {
    /// Place of the file in the listing.
    pub entry: u32,
    /// Its chunks.
    pub chunks: Range<ChunkIndex>,
}

/// A chunk's digest, and where it comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HashedChunk {
    /// The digest.
    pub digest: ChunkDigest,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// Where a digest comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Provenance {
    /// An earlier run took it; the chunk is hashed again when it is read for sending.
    Cache,
    /// The bytes were read and hashed for this answer.
    Read,
}

/// The files of a walk, opened when they are needed. Shared by all threads that read.
#[derive(Debug)]
pub struct Source {
    anchors: Anchors,
    buffers: Buffers,
    cache: Option<HashCache>,
    /// Chunks that were read and hashed.
    hashed: AtomicU64,
    /// What each file was when it was listed, or listed anew. Parallel to `places`.
    identities: RwLock<Vec<Identity>>,
    /// Local names of all places, one behind the other.
    names: Vec<u8>,
    open_files: OpenFiles,
    kept: Kept,
    places: Vec<Place>,
}

/// Where an entry lies: its folder and its name there. Paths are put together when they are needed.
#[derive(Clone, Copy, Debug)]
struct Place {
    above: Above,
    is_file: bool,
    name_at: u32,
    name_bytes: u16,
}

/// What holds a place.
#[derive(Clone, Copy, Debug)]
enum Above {
    /// The folder that a given path lies in.
    Anchor(u32),
    /// An entry.
    Folder(u32),
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            hash_cache: None,
            kept_bytes_max: 0,
            open_files_max: OPEN_FILES_DEFAULT,
            stop: None,
            symlinks: false,
            attributes: false,
        }
    }
}

impl Source {
    /// Walks files and folders into a listing. Each given path appears under its own last name.
    ///
    /// A link among the given paths is followed. Any other is left out with a notice unless it is asked for and leads
    /// nowhere else, as is everything that is neither a file nor a folder, what cannot be read, and what has no name that
    /// is good everywhere. Of a file with several names, the first is the file, and the others are links to it.
    pub fn walk(paths: &[PathBuf], options: &WalkOptions) -> Result<Walk, SourceError> {
        walk::walk(paths, options)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no entry; a walk never gives such a source.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many chunks were read and hashed so far, each as often as it was.
    pub fn chunks_hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }

    /// Where an entry lies on this machine, for messages.
    ///
    /// # Panics
    /// When the listing has no such entry.
    pub fn local_path(&self, entry: u32) -> PathBuf {
        let (anchor, below) = self.place_of(entry);
        self.anchors.path(anchor).join(below)
    }

    /// Names the state of a file, as it was listed last: another one where the file is not the same any more.
    pub fn stamp(&self, entry: u32) -> [u8; 32] {
        let identities = self.identities.read().unwrap_or_else(PoisonError::into_inner);
        identities[entry as usize].stamp()
    }

    /// Takes a changed file as it is now: later reads and hashes are of this state. Its cached hashes are dropped.
    pub fn relist(&self, entry: u32) -> Result<Relisted, SourceError> {
        let before = self.file_identity(entry, ChunkIndex(0))?;
        self.open_files.forget(entry);
        let (anchor, below) = self.place_of(entry);
        let opened = self.anchors.with(anchor, |folder| place::open_file(folder, &below));
        let (_, stat) = opened.map_err(|trouble| self.fault(entry, trouble))?;
        let identity = Identity::of(&stat);
        if Geometry::of(Length(identity.bytes)).is_none() {
            return Err(SourceError::Changed { path: self.local_path(entry) });
        }
        if let Some(cache) = &self.cache {
            cache.forget(&before);
            cache.forget(&identity);
        }
        let mut identities = self.identities.write().unwrap_or_else(PoisonError::into_inner);
        identities[entry as usize] = identity;
        drop(identities);
        // A thread that was opening the file meanwhile may have kept it under its old identity.
        self.open_files.forget(entry);
        // What was read of it before is kept under the old identity as well, and never given under another.
        Ok(Relisted {
            length: Length(identity.bytes),
            mode: permission_bits(stat.st_mode),
            mtime_seconds: identity.modified.seconds,
            mtime_nanoseconds: identity.modified.nanoseconds,
        })
    }

    /// The anchor of an entry and its path beneath it.
    fn place_of(&self, entry: u32) -> (usize, PathBuf) {
        let mut names = Vec::new();
        let mut place = self.places[entry as usize];
        let anchor = loop {
            let start = place.name_at as usize;
            names.push(OsStr::from_bytes(&self.names[start..start + usize::from(place.name_bytes)]));
            match place.above {
                Above::Anchor(anchor) => break anchor as usize,
                Above::Folder(folder) => place = self.places[folder as usize],
            }
        };
        (anchor, names.into_iter().rev().collect())
    }

    /// What a file was when it was listed. An entry that is none has no chunk to ask for.
    fn file_identity(&self, entry: u32, chunk: ChunkIndex) -> Result<Identity, SourceError> {
        match self.places.get(entry as usize) {
            Some(place) if place.is_file => {
                let identities = self.identities.read().unwrap_or_else(PoisonError::into_inner);
                Ok(identities[entry as usize])
            }
            _ => Err(SourceError::NoSuchBytes { entry, chunk }),
        }
    }

    /// Opens a file and checks that it is the one that was listed.
    fn open(&self, entry: u32, identity: Identity) -> Result<Arc<OpenFile>, Trouble> {
        if let Some(open) = self.open_files.find(entry, &identity) {
            return Ok(open);
        }
        let (anchor, below) = self.place_of(entry);
        let open_once = || self.anchors.with(anchor, |folder| place::open_file(folder, &below));
        let (file, stat) = match open_once() {
            Err(Trouble::Unreadable(error)) if is_out_of_descriptors(&error) => {
                self.open_files.close_all();
                open_once()?
            }
            opened => opened?,
        };
        if Identity::of(&stat) != identity {
            return Err(Trouble::Changed);
        }
        let geometry = Geometry::of(Length(identity.bytes)).ok_or(Trouble::Changed)?;
        let open = Arc::new(OpenFile::new(file, identity, geometry));
        // A file of one chunk is read in one go, twice at most; keeping it would push out those that last.
        if !geometry.is_single() {
            self.open_files.keep(entry, &open);
        }
        Ok(open)
    }

    fn fault(&self, entry: u32, trouble: Trouble) -> SourceError {
        trouble.at(&self.local_path(entry))
    }
}

/// What of a mode is sent: no set-user-id, set-group-id or sticky bit, nor the file type.
fn permission_bits(mode: u32) -> u16 {
    (mode & 0o777) as u16
}

fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
