//! Files of one chunk or none: written whole, published many at a time for the price of one sync.

use super::attributes::{AttributeLost, set_on};
use super::disk::{self, Disk, DiskFile, DiskFolder, Facts, FileKind, OpenHow};
use super::fault::StoreError;
use super::publish::{Publication, Published};
use super::work::Work;
use super::{FileOf, Inner, Store};
use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::ChunkDigest;
use crate::manifest::VerifiedChunk;
use crate::rel_path::RelPath;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Files synced one by one; above that the whole file system is, where that can be had. It also writes what others
/// have written, so it only pays for many.
pub(super) const FILES_ONE_BY_ONE_MAX: usize = 8;

/// A small file that lies complete in the work folder. Dropped before it is published, it is gone.
///
/// It is not held open: a batch has more files than a process may have open.
#[derive(Debug)]
pub struct SingleFile<D: Disk> {
    work: Arc<Work<D>>,
    name: String,
    wish: Publication,
    identity: (u64, u64),
    geometry: Geometry,
    digest: ChunkDigest,
    attributes_lost: Vec<AttributeLost>,
    is_placed: bool,
}

impl<D: Disk> Store<D> {
    /// Writes a file of one chunk or none, with its mode and time, and returns what it hashes to, read back from where
    /// it lies.
    pub fn write_single(&self, wish: Publication, bytes: &[u8]) -> Result<(SingleFile<D>, ChunkDigest), StoreError> {
        let length = bytes.len() as u64;
        let geometry = Geometry::of(Length(length)).filter(|geometry| geometry.is_single());
        let geometry = geometry.ok_or(StoreError::Misuse("a file of several chunks is no single file"))?;
        let path = wish.path.clone();
        let refused = |error| self.inner.fault("writing", path.as_str(), length, error);
        let work = self.inner.work()?;
        let (name, file) = self.inner.with_room(|| work.create_scratch().map_err(refused))?;
        let digest = ChunkDigest([0; 32]);
        let (identity, attributes_lost) = ((0, 0), Vec::new());
        let mut single = SingleFile { work, name, wish, identity, geometry, digest, attributes_lost, is_placed: false };
        self.inner.with_room(|| disk::write_all(&file, bytes, 0).map_err(refused))?;
        single.identity = file.facts().map_err(refused)?.identity;
        single.digest = self.inner.hash_single(&file, geometry).map_err(refused)?;
        single.attributes_lost = set_on(&file, &single.wish.attributes);
        // While it is open: opening it again to publish it would cost as much as writing it.
        let set_meta = || file.set_meta(single.wish.mode, Some(single.wish.modified)).map_err(refused);
        self.inner.with_room(set_meta)?;
        let digest = single.digest;
        Ok((single, digest))
    }

    /// Publishes many files, all synced together: one sync, all renames, each folder synced once, deepest first. A failed sync fails every file that it covers; other failures fail their file alone. The
    /// proof is `None` for an empty file only, which has no chunk.
    pub fn publish_batch(
        &self,
        files: Vec<(SingleFile<D>, Option<VerifiedChunk>)>,
    ) -> Vec<Result<Published, StoreError>> {
        let disk = self.inner.disk.destination();
        let finished: Vec<Result<(), StoreError>> = files.iter().map(|(file, proof)| file.check(*proof)).collect();
        let is_many = finished.iter().filter(|finished| finished.is_ok()).count() > FILES_ONE_BY_ONE_MAX;
        let synced = if is_many { disk.sync_file_system() } else { Ok(false) };
        let placed: Vec<Result<(RelPath, Vec<AttributeLost>), StoreError>> = files
            .into_iter()
            .zip(finished)
            .map(|((mut file, _), finished)| {
                finished?;
                match &synced {
                    Ok(true) => {}
                    Ok(false) => file.sync()?,
                    Err(error) => {
                        let source = io::Error::new(error.kind(), error.to_string());
                        return Err(StoreError::FsyncFailed { path: file.wish.path.as_str().to_owned(), source });
                    }
                }
                if file.wish.read_back {
                    self.inner.read_back_single(&file)?;
                }
                let path = self.inner.place(&file.work, &file.name, &file.wish)?;
                file.is_placed = true;
                Ok((path, std::mem::take(&mut file.attributes_lost)))
            })
            .collect();
        let folders = self.inner.sync_folders(placed.iter().flatten().map(|(path, _)| path.parent()));
        placed
            .into_iter()
            .map(|placed| {
                let (path, attributes_lost) = placed?;
                let durability = folders.of(path.parent().as_ref())?;
                Ok(Published { path, durability, attributes_lost })
            })
            .collect()
    }
}

impl<D: Disk> Inner<D> {
    fn read_back_single(&self, single: &SingleFile<D>) -> Result<(), StoreError> {
        let file = single.open()?;
        file.drop_cache();
        let digest = self.hash_single(&file, single.geometry);
        if digest.map_err(|error| self.fault("reading back", single.wish.path.as_str(), 0, error))? == single.digest {
            Ok(())
        } else {
            Err(StoreError::Damaged { path: single.wish.path.as_str().to_owned() })
        }
    }

    fn hash_single(&self, file: &FileOf<D>, geometry: Geometry) -> io::Result<ChunkDigest> {
        if geometry.count().0 == 0 {
            return Ok(crate::digest::chunk_digest(geometry, ChunkIndex(0), &[]));
        }
        self.hash_chunk(file, geometry, ChunkIndex(0))
    }
}

impl<D: Disk> SingleFile<D> {
    /// The bytes of the file, which are those that are proven.
    pub fn read(&self, proof: VerifiedChunk) -> Result<Vec<u8>, StoreError> {
        self.check(Some(proof))?;
        let mut bytes = vec![0; usize::try_from(self.geometry.file_length().0).unwrap_or(0)];
        let read = disk::read_exact(&self.open()?, &mut bytes, 0);
        read.map_err(|error| StoreError::of("reading", self.wish.path.as_str(), 0, error, || 0))?;
        if crate::digest::chunk_digest(self.geometry, ChunkIndex(0), &bytes) == proof.digest() {
            Ok(bytes)
        } else {
            Err(self.tampered())
        }
    }

    /// Opens the file again and makes sure that it is the one that was written.
    fn open(&self) -> Result<FileOf<D>, StoreError> {
        let refused = |error| StoreError::of("opening", &self.name, 0, error, || 0);
        // For writing at first; the bits that it is published with may allow reading alone.
        let file = match self.work.folder().open_file(&self.name, OpenHow::Write) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.work.folder().open_file(&self.name, OpenHow::Read).map_err(refused)?
            }
            result => result.map_err(refused)?,
        };
        if self.is(&file.facts().map_err(refused)?) { Ok(file) } else { Err(self.tampered()) }
    }

    /// Makes sure that these are the proven bytes and that the name still stands for them.
    fn check(&self, proof: Option<VerifiedChunk>) -> Result<(), StoreError> {
        let is_proven = match proof {
            Some(chunk) => chunk.index() == ChunkIndex(0) && chunk.digest() == self.digest,
            None => self.geometry.count().0 == 0,
        };
        if !is_proven {
            return Err(StoreError::Misuse("a file is published without the proof of its bytes"));
        }
        let refused = |error| StoreError::of("looking at", &self.name, 0, error, || 0);
        let facts = self.work.folder().facts(&self.name).map_err(refused)?;
        if facts.is_some_and(|facts| self.is(&facts)) { Ok(()) } else { Err(self.tampered()) }
    }

    fn is(&self, facts: &Facts) -> bool {
        facts.kind == FileKind::File && facts.identity == self.identity && facts.length == self.geometry.file_length().0
    }

    fn tampered(&self) -> StoreError {
        StoreError::Tampered { path: self.name.clone(), what: "another program replaced or cut it" }
    }

    fn sync(&self) -> Result<(), StoreError> {
        let synced = self.open()?.sync();
        synced.map_err(|source| StoreError::FsyncFailed { path: self.name.clone(), source })
    }
}

impl<D: Disk> Drop for SingleFile<D> {
    fn drop(&mut self) {
        if !self.is_placed {
            // Left behind, it is swept away by the next process.
            let _ = self.work.remove(&self.name);
        }
    }
}
