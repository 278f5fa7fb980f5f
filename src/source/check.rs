//! What a folder holds of what a manifest lists: found below the folder's handle without following a link, and compared
//! chunk by chunk.

use super::fault::Trouble;
use super::hash_cache::HashCache;
use super::open_files::OpenFile;
use super::place::{self, Anchors, Identity};
use super::top::{Top, listed_name};
use super::{Above, OPEN_FILES_DEFAULT, Place, Source, SourceError, Walk, WalkOptions, walk};
use crate::chunk::{ChunkIndex, Geometry, Length, Span};
use crate::digest::{ChunkDigest, ChunkHasher};
use crate::limits::ENTRIES_MAX;
use crate::rel_path::RelPath;
use rayon::prelude::*;
use rustix::fs::FileType;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What lies under a name that a walk or a look-up did not list.
#[derive(Debug)]
pub enum Standing {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// Nothing, or what should hold it is no folder.
    Missing,
    /// A device, a socket or a FIFO.
    Special,
    /// A link, which is not followed.
    Symlink,
    /// The system refuses to look.
    Unreadable(io::Error),
}

/// A chunk, and the digest that it should have. The split is that of the file as it should be.
#[derive(Clone, Copy, Debug)]
pub struct WantedChunk {
    /// Place of the file in the listing of the source.
    pub entry: u32,
    /// The split that the chunk is one of.
    pub geometry: Geometry,
    /// Which.
    pub index: ChunkIndex,
    /// What it should hash to.
    pub digest: ChunkDigest,
}

/// A folder that is looked into by the paths of a listing.
#[derive(Debug)]
pub struct CheckedFolder {
    path: PathBuf,
    anchors: Anchors,
}

impl CheckedFolder {
    /// Opens the folder at `path`; a link to a folder is followed, for the user chose it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        if !path.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mut anchors = Anchors::default();
        anchors.add(&path)?;
        Ok(Self { path, anchors })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Walks what lies directly in the folder under `names`, which are those of a listing, with all that is below. What is
    /// not there is left out without a notice; no link is followed.
    pub fn walk(&self, names: &[&str], options: &WalkOptions) -> Result<Walk, SourceError> {
        let local_names = self.with_folder(|folder| Ok(local_names(folder, names))).map_err(|it| self.fault(it))?;
        let tops = names.iter().zip(local_names).filter_map(|(&name, local_name)| {
            let local_name = local_name?;
            let (given, name) = (self.path.join(&local_name), name.to_owned());
            Some(Top { given, folder: self.path.clone(), local_name, name })
        });
        walk::walk_tops(tops.collect(), options)
    }

    /// Opens the plain files at `paths`, for whoever has no listing of all that lies beside them. Each is an entry of the
    /// source, in order; of what is none there is what it is instead.
    pub fn find<'a>(
        self,
        paths: impl Iterator<Item = &'a RelPath>,
    ) -> Result<(Source, Vec<Result<Length, Standing>>), SourceError> {
        let (mut names, mut places, mut identities, mut found) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for path in paths {
            let name = path.as_str();
            let (Ok(name_at), Ok(name_bytes)) = (u32::try_from(names.len()), u16::try_from(name.len())) else {
                return Err(SourceError::TooManyEntries);
            };
            let opened = self.with_folder(|folder| place::open_file(folder, Path::new(name)));
            let identity = match opened {
                Ok((_, stat)) => Identity::of(&stat),
                Err(trouble) => {
                    found.push(Err(match trouble {
                        Trouble::Unreadable(error) => Standing::Unreadable(error),
                        Trouble::Changed | Trouble::Vanished => self.look(path),
                    }));
                    identities.push(Identity::NOTHING);
                    places.push(Place { above: Above::Anchor(0), is_file: false, name_at, name_bytes: 0 });
                    continue;
                }
            };
            names.extend_from_slice(name.as_bytes());
            places.push(Place { above: Above::Anchor(0), is_file: true, name_at, name_bytes });
            found.push(Ok(Length(identity.bytes)));
            identities.push(identity);
        }
        let source = Source {
            anchors: self.anchors,
            buffers: super::Buffers::default(),
            cache: None::<HashCache>,
            hashed: AtomicU64::new(0),
            identities: RwLock::new(identities),
            kept: super::Kept::new(0),
            names,
            open_files: super::OpenFiles::new(OPEN_FILES_DEFAULT),
            places,
        };
        Ok((source, found))
    }

    /// What lies under `path`.
    pub fn look(&self, path: &RelPath) -> Standing {
        match self.with_folder(|folder| place::status_beneath(folder, Path::new(path.as_str()))) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Standing::File,
                FileType::Directory => Standing::Folder,
                FileType::Symlink => Standing::Symlink,
                _ => Standing::Special,
            },
            Err(Trouble::Changed | Trouble::Vanished) => Standing::Missing,
            Err(Trouble::Unreadable(error)) => Standing::Unreadable(error),
        }
    }

    fn with_folder<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> Result<T, Trouble>) -> Result<T, Trouble> {
        self.anchors.with(0, act)
    }

    fn fault(&self, trouble: Trouble) -> SourceError {
        trouble.at(&self.path)
    }
}

impl Source {
    /// Whether each chunk is there and has its digest. All are read in one parallel pass, nothing is taken from a cache,
    /// and a chunk that the file ends before is not read at all.
    pub fn chunks_match(&self, wanted: &[WantedChunk]) -> Vec<Result<bool, SourceError>> {
        let matches = |wanted: &WantedChunk| {
            let identity = self.file_identity(wanted.entry, wanted.index)?;
            self.chunk_matches(wanted, identity).map_err(|trouble| self.fault(wanted.entry, trouble))
        };
        wanted.par_iter().map(matches).collect()
    }

    fn chunk_matches(&self, wanted: &WantedChunk, identity: Identity) -> Result<bool, Trouble> {
        let WantedChunk { entry, geometry, index, digest } = *wanted;
        let span = geometry.span(index).filter(|span| span.offset.0 + span.length.0 <= identity.bytes);
        let Some(span) = span else { return Ok(false) };
        let open = self.open(entry, identity)?;
        self.hashed.fetch_add(1, Ordering::Relaxed);
        let found = self.hash_span(&open, span, ChunkHasher::new(geometry, index))?;
        open.check_content()?;
        Ok(found == digest)
    }

    fn hash_span(&self, open: &OpenFile, span: Span, mut hasher: ChunkHasher) -> Result<ChunkDigest, Trouble> {
        self.buffers.with(|buffer| {
            let mut at = span.offset.0;
            let end = span.offset.0 + span.length.0;
            while at < end {
                let count = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                open.read_exactly(at, &mut buffer[..count])?;
                hasher.update(&buffer[..count]);
                at += count as u64;
            }
            Ok(hasher.finish())
        })
    }
}

/// The names in `folder` that a walk lists as `names`: mostly the same ones. A name that is no text is listed as another.
fn local_names(folder: BorrowedFd<'_>, names: &[&str]) -> Vec<Option<OsString>> {
    let is_there = |name: &&str| !matches!(place::status(folder, OsStr::new(name)), Err(Trouble::Vanished));
    let mut found: Vec<Option<OsString>> =
        names.iter().map(|name| is_there(name).then(|| OsString::from(*name))).collect();
    if found.iter().any(Option::is_none)
        && let Ok((opened, _)) = place::open_listable_folder(folder, OsStr::new("."))
        && let Ok(all) = place::names(&opened, ENTRIES_MAX as usize)
    {
        let local = all.into_iter().map(|name| OsString::from_vec(name.into_bytes()));
        let no_text: HashMap<String, OsString> = local
            .filter(|name| name.to_str().is_none())
            .map(|name| (listed_name(OsStr::from_bytes(name.as_bytes())).into_owned(), name))
            .collect();
        for (name, found) in names.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            *found = no_text.get(*name).cloned();
        }
    }
    found
}
