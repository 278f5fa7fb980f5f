//! Files of one chunk or none: written whole, published many at a time for the price of one sync.

use super::attributes::{AttributeLost, set_on};
use super::disk::{self, Disk, DiskFile, DiskFolder, Facts, FileKind, OpenHow};
use super::fault::StoreError;
use super::publish::{Finished, OnConflict, Publication, Published};
use super::unnamed::UnnamedFile;
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

/// A small file that lies complete at the destination, and cannot be seen there. Dropped before it is published, it is
/// gone.
#[derive(Debug)]
pub struct SingleFile<D: Disk> {
    lies: Lies<D>,
    wish: Publication,
    geometry: Geometry,
    digest: ChunkDigest,
    attributes_lost: Vec<AttributeLost>,
}

#[derive(Debug)]
enum Lies<D: Disk> {
    /// In the work folder.
    Named(NamedFile<D>),
    /// Nowhere, held open. The cheaper way, which cannot replace what is there.
    Unnamed(UnnamedFile<D>),
}

/// A file in the work folder, closed: a batch has more files than a process may have open.
#[derive(Debug)]
struct NamedFile<D: Disk> {
    work: Arc<Work<D>>,
    name: String,
    identity: (u64, u64),
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
        let replaces = matches!(wish.conflict, OnConflict::Overwrite | OnConflict::Update);
        let unnamed =
            if replaces { None } else { self.inner.with_room(|| UnnamedFile::create(&work).map_err(refused))? };
        if let Some(unnamed) = unnamed {
            let (digest, attributes_lost) = self.inner.fill_single(unnamed.file(), &wish, geometry, bytes)?;
            return Ok((SingleFile { lies: Lies::Unnamed(unnamed), wish, geometry, digest, attributes_lost }, digest));
        }
        let (name, file) = self.inner.with_room(|| work.create_scratch().map_err(refused))?;
        let mut named = NamedFile { work, name, identity: (0, 0), is_placed: false };
        let (digest, attributes_lost) = self.inner.fill_single(&file, &wish, geometry, bytes)?;
        named.identity = file.facts().map_err(refused)?.identity;
        Ok((SingleFile { lies: Lies::Named(named), wish, geometry, digest, attributes_lost }, digest))
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
                    Err(error) => return Err(file.sync_failed(io::Error::new(error.kind(), error.to_string()))),
                }
                if file.wish.read_back {
                    self.inner.read_back_single(&file)?;
                }
                let path = self.inner.place(&file.lies.finished(), &file.wish)?;
                if let Lies::Named(named) = &mut file.lies {
                    named.is_placed = true;
                }
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
    /// Writes all of a new file, and returns what it hashes to where it lies, and the attributes that it cannot hold.
    fn fill_single(
        &self,
        file: &FileOf<D>,
        wish: &Publication,
        geometry: Geometry,
        bytes: &[u8],
    ) -> Result<(ChunkDigest, Vec<AttributeLost>), StoreError> {
        let refused = |error| self.fault("writing", wish.path.as_str(), bytes.len() as u64, error);
        self.with_room(|| disk::write_all(file, bytes, 0).map_err(refused))?;
        let digest = self.hash_single(file, geometry).map_err(refused)?;
        let attributes_lost = set_on(file, &wish.attributes);
        // While it is open: opening it again to publish it would cost as much as writing it.
        self.with_room(|| file.set_meta(wish.mode, Some(wish.modified)).map_err(refused))?;
        Ok((digest, attributes_lost))
    }

    fn read_back_single(&self, single: &SingleFile<D>) -> Result<(), StoreError> {
        let digest = single.with_file("reading back", |file| {
            file.drop_cache();
            self.hash_single(file, single.geometry)
        })?;
        if digest == single.digest {
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
        self.with_file("reading", |file| disk::read_exact(file, &mut bytes, 0))?;
        if crate::digest::chunk_digest(self.geometry, ChunkIndex(0), &bytes) == proof.digest() {
            Ok(bytes)
        } else {
            Err(self.tampered())
        }
    }

    /// Acts on the open file, once it is known to be the one that was written.
    fn with_file<T>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&FileOf<D>) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let refused = |error| self.fault(doing, error);
        match &self.lies {
            Lies::Named(named) => {
                let file = named.open().map_err(refused)?;
                let facts = file.facts().map_err(refused)?;
                if named.is(&facts, self.geometry) { act(&file).map_err(refused) } else { Err(self.tampered()) }
            }
            Lies::Unnamed(unnamed) => act(unnamed.file()).map_err(refused),
        }
    }

    /// Makes sure that these are the proven bytes, and that a name still stands for them.
    fn check(&self, proof: Option<VerifiedChunk>) -> Result<(), StoreError> {
        let is_proven = match proof {
            Some(chunk) => chunk.index() == ChunkIndex(0) && chunk.digest() == self.digest,
            None => self.geometry.count().0 == 0,
        };
        if !is_proven {
            return Err(StoreError::Misuse("a file is published without the proof of its bytes"));
        }
        let Lies::Named(named) = &self.lies else { return Ok(()) };
        let facts = named.work.folder().facts(&named.name).map_err(|error| self.fault("looking at", error))?;
        if facts.is_some_and(|facts| named.is(&facts, self.geometry)) { Ok(()) } else { Err(self.tampered()) }
    }

    fn tampered(&self) -> StoreError {
        StoreError::Tampered { path: self.name().to_owned(), what: "another program replaced or cut it" }
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut failed = None;
        let sync = |file: &FileOf<D>| {
            failed = file.sync().err();
            Ok(())
        };
        self.with_file("opening", sync)?;
        failed.map_or(Ok(()), |source| Err(self.sync_failed(source)))
    }

    fn sync_failed(&self, source: io::Error) -> StoreError {
        StoreError::FsyncFailed { path: self.wish.path.as_str().to_owned(), source }
    }

    fn fault(&self, doing: &'static str, error: io::Error) -> StoreError {
        StoreError::of(doing, self.name(), 0, error, || 0)
    }

    /// What to call it: the name that it has, else the one that it is to have.
    fn name(&self) -> &str {
        match &self.lies {
            Lies::Named(named) => &named.name,
            Lies::Unnamed(_) => self.wish.path.as_str(),
        }
    }
}

impl<D: Disk> Lies<D> {
    fn finished(&self) -> Finished<'_, D> {
        match self {
            Self::Named(named) => Finished::Named(&named.work, &named.name),
            Self::Unnamed(unnamed) => Finished::Unnamed(unnamed),
        }
    }
}

impl<D: Disk> NamedFile<D> {
    fn open(&self) -> io::Result<FileOf<D>> {
        // For writing at first; the bits that it is published with may allow reading alone.
        match self.work.folder().open_file(&self.name, OpenHow::Write) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.work.folder().open_file(&self.name, OpenHow::Read)
            }
            result => result,
        }
    }

    fn is(&self, facts: &Facts, geometry: Geometry) -> bool {
        facts.kind == FileKind::File && facts.identity == self.identity && facts.length == geometry.file_length().0
    }
}

impl<D: Disk> Drop for NamedFile<D> {
    fn drop(&mut self) {
        if !self.is_placed {
            // Left behind, it is swept away by the next process.
            let _ = self.work.remove(&self.name);
        }
    }
}
