//! The older version of a file, under the name that the new one will have: what of it serves is copied, and not fetched.
//!
//! It is opened for reading and never written to. Whatever becomes of it meanwhile, a chunk made of it counts only once it was
//! hashed where it lies in the new file; what cannot be read is fetched.

use super::attributes::{AttributeLost, set_on};
use super::disk::{self, Disk, DiskFile, DiskFolder, FileKind, OpenHow};
use super::fault::StoreError;
use super::partial::PartialFile;
use super::publish::Publication;
use super::{Existing, FileOf, Inner, Store};
use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::{ChunkDigest, FileDigest};
use crate::outline::{Cutter, Part, Segment, Shape};
use crate::rel_path::RelPath;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A file that a new version is about to replace.
#[derive(Debug)]
pub struct Older<D: Disk> {
    inner: Arc<Inner<D>>,
    file: FileOf<D>,
    length: Length,
}

impl<D: Disk> Store<D> {
    /// The file at `path`. `None` where there is none that holds anything and can be read.
    pub fn open_older(&self, path: &RelPath) -> Option<Older<D>> {
        let folder = self.inner.folder_of(path).ok()?;
        let file = folder.open_file(path.name(), OpenHow::Read).ok()?;
        let facts = file.facts().ok()?;
        let is_of_use = facts.kind == FileKind::File && facts.length > 0;
        is_of_use.then(|| Older { inner: Arc::clone(&self.inner), file, length: Length(facts.length) })
    }

    /// Gives the file at the path of `wish`, whose content is the same, mode, time and attributes as if it were published now.
    /// Returns the attributes that it cannot hold. [`Store::vouch_for`] has it made durable.
    ///
    /// It is the same file as before: other names of it show the change, as with rsync(1). Giving the name a file of its own
    /// would undo hard links that somebody made to save room, for no more than a mode or a time.
    pub fn bring_in_line(&self, wish: &Publication) -> Result<Vec<AttributeLost>, StoreError> {
        let path = &wish.path;
        let refused = |error| self.inner.fault("setting mode and time of", path.as_str(), 0, error);
        let file = self.inner.folder_of(path)?.open_file(path.name(), OpenHow::Read).map_err(refused)?;
        if file.facts().map_err(refused)?.kind != FileKind::File {
            return Err(StoreError::Exists { path: path.as_str().to_owned() });
        }
        let lost = set_on(&file, &wish.attributes);
        if !file.has_meta(wish.mode, wish.modified).map_err(refused)? {
            self.inner.with_room(|| file.set_meta(wish.mode, Some(wish.modified)).map_err(refused))?;
        }
        Ok(lost)
    }

    /// The digest of the file at `path`, or `None` where there is no plain file of the length that `geometry` says.
    pub fn hash_existing(&self, path: &RelPath, geometry: Geometry) -> Result<Option<FileDigest>, StoreError> {
        self.hash_existing_chunks(path, geometry, |_, _| {})
    }

    /// The same, telling `each` of every chunk's.
    pub fn hash_existing_chunks(
        &self,
        path: &RelPath,
        geometry: Geometry,
        each: impl FnMut(ChunkIndex, ChunkDigest),
    ) -> Result<Option<FileDigest>, StoreError> {
        if self.look(path)? != (Existing::File { length: geometry.file_length() }) {
            return Ok(None);
        }
        let refused = |error| self.inner.fault("reading", path.as_str(), 0, error);
        let file = self.inner.folder_of(path)?.open_file(path.name(), OpenHow::Read).map_err(refused)?;
        let facts = file.facts().map_err(refused)?;
        if facts.kind != FileKind::File || facts.length != geometry.file_length().0 {
            return Ok(None);
        }
        match self.inner.hash_file(&file, geometry, each) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            result => result.map(Some).map_err(refused),
        }
    }
}

impl<D: Disk> Older<D> {
    /// How long it was when it was opened.
    pub fn length(&self) -> Length {
        self.length
    }

    /// Whether what lies where chunk `index` of the new version will has the hash that is `promised`.
    pub fn holds(&self, geometry: Geometry, index: ChunkIndex, promised: ChunkDigest) -> bool {
        let is_there = geometry.span(index).is_some_and(|span| span.offset.0 + span.length.0 <= self.length.0);
        is_there && self.inner.hash_chunk(&self.file, geometry, index).is_ok_and(|found| found == promised)
    }

    /// Cuts it into segments, until `take` takes no more, its end, or the first byte that cannot be read.
    pub fn cut(&self, shape: Shape, take: &mut dyn FnMut(Segment) -> bool) {
        let mut cutter = Cutter::new(shape);
        let mut buffer = self.inner.buffers.take();
        let mut at = 0;
        while !self.inner.is_halted.load(Ordering::Relaxed) {
            let Ok(count) = disk::read_full(&self.file, &mut buffer, at) else { return };
            let mut bytes = &buffer[..count];
            while !bytes.is_empty() {
                let (taken, segment) = cutter.take(bytes);
                bytes = &bytes[taken..];
                if segment.is_some_and(|segment| !take(segment)) {
                    return;
                }
            }
            at += count as u64;
            if count < buffer.len() {
                cutter.end().map(take);
                return;
            }
        }
    }
}

impl<D: Disk> PartialFile<D> {
    /// Makes chunk `index` of these parts of an older version, shared with it where the file system can, and claims it if it
    /// has the hash that is `promised`, as it then lies in the file. If not, it is to be fetched.
    pub fn adopt(
        self: &Arc<Self>,
        older: &Older<D>,
        index: ChunkIndex,
        parts: &[Part],
        promised: ChunkDigest,
    ) -> Result<bool, StoreError> {
        let Some(mut lease) = self.lease(index)? else { return Ok(false) };
        let length = parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.length));
        if length != Some(lease.span().length.0) {
            return Err(StoreError::Misuse("parts that do not make up a chunk"));
        }
        let mut at = 0;
        for part in parts {
            if !lease.take_from(&older.file, part.offset, at, part.length)? {
                return Ok(false);
            }
            at += part.length;
        }
        if lease.digest()? != promised {
            return Ok(false);
        }
        lease.claim_as(promised).map(|()| true)
    }
}
