//! The receiving disk as the session's driver sees it, and a model of it in memory.

use super::sim_rng::Rng;
use haul::chunk::{ChunkIndex, Geometry};
use haul::chunk_set::ChunkSet;
use haul::digest::{ChunkDigest, FileDigest, chunk_digest};
use haul::manifest::{ChunkPlace, LinkTarget, Timestamp, VerifiedChunk};
use haul::outline::Part;
use haul::rel_path::RelPath;
use haul::session::LaneId;
use std::collections::{BTreeMap, BTreeSet};

/// What a piece's payload stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    Raw(&'a [u8]),
    Zero(u64),
}

/// What a link is to be.
#[derive(Clone, Debug)]
pub(crate) enum ShelfLink {
    Hard { first: RelPath, root: FileDigest, geometry: Geometry },
    Symbolic(LinkTarget),
}

/// Why a file cannot be published.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    Disk(String),
    Exists,
}

/// A destination. Up to `kill`, everything is what the receiving process can do; it survives the process.
pub(crate) trait Shelf {
    /// A process starts to use it.
    fn start(&mut self, folders: &[RelPath]) -> Result<(), String>;
    fn exists(&self, path: &RelPath) -> bool;
    /// The root of the file under its final name, if it has this length.
    fn root_of(&self, path: &RelPath, geometry: Geometry) -> Option<FileDigest>;
    /// Opens a partial file and says which chunks it claims.
    fn open(&mut self, path: &RelPath, geometry: Geometry) -> Result<ChunkSet, String>;
    /// Gives the chunk to a lane; false while another one has it.
    fn lease(&mut self, lane: LaneId, path: &RelPath, place: ChunkPlace) -> Result<bool, String>;
    fn fill(&mut self, lane: LaneId, offset: u64, payload: Payload) -> Result<(), String>;
    fn digest(&mut self, lane: LaneId, at: Timestamp, replace: bool) -> Result<ChunkDigest, String>;
    fn claim(&mut self, lane: LaneId, proof: VerifiedChunk) -> Result<(), String>;
    /// The lane has no chunk any more.
    fn release(&mut self, lane: LaneId);
    fn check(&mut self, path: &RelPath, index: ChunkIndex, promised: ChunkDigest) -> Result<bool, String>;
    /// Makes a chunk of parts of the file under the final name, and claims it if it has that hash.
    fn adopt(&mut self, path: &RelPath, index: ChunkIndex, parts: &[Part], hash: ChunkDigest) -> Result<bool, String>;
    fn publish(&mut self, path: &RelPath, root: FileDigest, at: Timestamp, replace: bool) -> Result<(), Refused>;
    /// Makes a link; one that is there already is left.
    fn link(&mut self, path: &RelPath, link: &ShelfLink, at: Timestamp, replace: bool) -> Result<(), Refused>;
    /// What the symbolic link at a path holds.
    fn target_of(&self, path: &RelPath) -> Option<String>;
    /// Closes what is open of a file.
    fn close(&mut self, path: &RelPath);
    /// A file that was there before counts as received.
    fn vouch_for(&mut self, path: &RelPath, geometry: Geometry);
    fn finish_folders(&mut self, folders: &[RelPath]) -> Result<(), String>;
    /// The process ends in good order.
    fn stop(&mut self);
    /// The process dies.
    fn kill(&mut self);
    /// The machine dies and starts again.
    fn power_loss(&mut self, rng: &mut Rng);
    /// One of the next calls fails, or all from there on.
    fn fail_soon(&mut self, rng: &mut Rng);
    /// At one of the next calls, the power goes.
    fn cut_power_soon(&mut self, rng: &mut Rng);
    /// Whether it went.
    fn has_no_power(&self) -> bool;
    /// No call fails any more.
    fn heal(&mut self);
    /// Puts a file there, as another program would.
    fn plant(&mut self, path: &RelPath, bytes: &[u8]);
    /// What is under a final name.
    fn bytes_of(&self, path: &RelPath) -> Option<Vec<u8>>;
    /// Whether a chunk is claimed and its bytes are right.
    fn holds(&self, path: &RelPath, place: ChunkPlace, digest: ChunkDigest) -> bool;
    /// Lanes that have a chunk, for the check that none is left at the end.
    fn leases(&self) -> usize;
    /// Keeps the bytes of a whole small file that a lane has, for the lane that goes on with it.
    fn set_aside(&mut self, lane: LaneId);
    /// Partial files, for the check that none is left at the end.
    fn leftovers(&self) -> Vec<String>;
}

/// A disk in memory, without a file system.
#[derive(Debug, Default)]
pub(crate) struct MemoryShelf {
    partials: BTreeMap<RelPath, Partial>,
    finals: BTreeMap<RelPath, Vec<u8>>,
    targets: BTreeMap<RelPath, LinkTarget>,
    leases: BTreeMap<LaneId, Leased>,
    /// Files of one chunk, whole and proven, with nothing that would outlive the process.
    singles: BTreeMap<RelPath, Vec<u8>>,
    open: BTreeSet<RelPath>,
    set_aside: BTreeMap<RelPath, Vec<u8>>,
    boot: u32,
    has_no_power: bool,
    flips_published: bool,
}

#[derive(Debug)]
struct Partial {
    geometry: Geometry,
    bytes: Vec<u8>,
    /// The claimed hash of each chunk and the boot that it is known to stand since.
    rows: BTreeMap<u32, (ChunkDigest, u32)>,
}

#[derive(Debug)]
struct Leased {
    path: RelPath,
    place: ChunkPlace,
    /// The chunk of a file that has no partial.
    single: Option<Vec<u8>>,
    hashed: Option<ChunkDigest>,
}

impl MemoryShelf {
    /// A disk that is broken: every file is published with one bit flipped.
    pub(crate) fn that_flips_published_bits() -> Self {
        Self { flips_published: true, ..Self::default() }
    }

    fn chunk_mut(&mut self, lane: LaneId) -> Result<&mut [u8], String> {
        let leased = self.leases.get_mut(&lane).ok_or("bytes for a chunk that the lane does not have")?;
        leased.hashed = None;
        if let Some(single) = &mut leased.single {
            return Ok(single);
        }
        let span = leased.place.geometry.span(leased.place.index).unwrap();
        let partial = self.partials.get_mut(&leased.path).ok_or("bytes for a file without a partial")?;
        Ok(&mut partial.bytes[span.offset.0 as usize..][..span.length.0 as usize])
    }
}

impl Partial {
    fn digest(&self, index: ChunkIndex) -> ChunkDigest {
        let span = self.geometry.span(index).unwrap();
        chunk_digest(self.geometry, index, &self.bytes[span.offset.0 as usize..][..span.length.0 as usize])
    }
}

impl Shelf for MemoryShelf {
    fn start(&mut self, _folders: &[RelPath]) -> Result<(), String> {
        Ok(())
    }

    fn exists(&self, path: &RelPath) -> bool {
        self.finals.contains_key(path)
    }

    fn root_of(&self, path: &RelPath, geometry: Geometry) -> Option<FileDigest> {
        let bytes = self.finals.get(path).filter(|bytes| bytes.len() as u64 == geometry.file_length().0)?;
        Some(FileDigest(*blake3::hash(bytes).as_bytes()))
    }

    fn open(&mut self, path: &RelPath, geometry: Geometry) -> Result<ChunkSet, String> {
        if !self.open.insert(path.clone()) {
            return Err("a partial file is opened twice".to_owned());
        }
        if self.partials.get(path).is_some_and(|partial| partial.geometry != geometry) {
            self.partials.remove(path);
        }
        let length = geometry.file_length().0 as usize;
        let fresh = || Partial { geometry, bytes: vec![0; length], rows: BTreeMap::new() };
        let partial = self.partials.entry(path.clone()).or_insert_with(fresh);
        Ok(partial.rows.keys().map(|&index| u64::from(index)..u64::from(index) + 1).collect())
    }

    fn lease(&mut self, lane: LaneId, path: &RelPath, place: ChunkPlace) -> Result<bool, String> {
        let is_taken = |leased: &Leased| leased.path == *path && leased.place.index == place.index;
        if self.leases.values().any(is_taken) {
            return Ok(false);
        }
        let fresh = || vec![0; place.length().0 as usize];
        let single = place.geometry.is_single().then(|| self.set_aside.remove(path).unwrap_or_else(fresh));
        if single.is_none() && !self.open.contains(path) {
            return Err("a chunk of a file that is not open".to_owned());
        }
        let is_claimed = |partial: &Partial| partial.rows.contains_key(&place.index.0);
        if single.is_none() && self.partials.get(path).is_some_and(is_claimed) {
            return Ok(false);
        }
        self.leases.insert(lane, Leased { path: path.clone(), place, single, hashed: None });
        Ok(true)
    }

    fn fill(&mut self, lane: LaneId, offset: u64, payload: Payload) -> Result<(), String> {
        let chunk = self.chunk_mut(lane)?;
        match payload {
            Payload::Raw(bytes) => chunk[offset as usize..][..bytes.len()].copy_from_slice(bytes),
            Payload::Zero(length) => chunk[offset as usize..][..length as usize].fill(0),
        }
        Ok(())
    }

    fn digest(&mut self, lane: LaneId, _: Timestamp, _: bool) -> Result<ChunkDigest, String> {
        let place = self.leases.get(&lane).ok_or("no chunk to hash")?.place;
        let digest = chunk_digest(place.geometry, place.index, self.chunk_mut(lane)?);
        self.leases.get_mut(&lane).ok_or("no chunk to hash")?.hashed = Some(digest);
        Ok(digest)
    }

    fn claim(&mut self, lane: LaneId, proof: VerifiedChunk) -> Result<(), String> {
        let leased = self.leases.remove(&lane).ok_or("a claim for a chunk that the lane does not have")?;
        if leased.hashed != Some(proof.digest()) || leased.place.index != proof.index() {
            return Err("a claim of bytes that do not have the hash".to_owned());
        }
        if let Some(bytes) = leased.single {
            self.singles.insert(leased.path, bytes);
        } else {
            let partial = self.partials.get_mut(&leased.path).ok_or("a claim without a partial")?;
            partial.rows.insert(leased.place.index.0, (proof.digest(), self.boot));
        }
        Ok(())
    }

    fn release(&mut self, lane: LaneId) {
        self.leases.remove(&lane);
    }

    fn set_aside(&mut self, lane: LaneId) {
        if let Some(Leased { path, single: Some(bytes), .. }) = self.leases.remove(&lane) {
            self.set_aside.insert(path, bytes);
        }
    }

    fn check(&mut self, path: &RelPath, index: ChunkIndex, promised: ChunkDigest) -> Result<bool, String> {
        let boot = self.boot;
        let partial = self.partials.get_mut(path).ok_or("claims of a file without a partial")?;
        let Some(&(row, since)) = partial.rows.get(&index.0) else { return Ok(false) };
        let is_right = row == promised && (since == boot || partial.digest(index) == promised);
        if is_right {
            partial.rows.insert(index.0, (row, boot));
        } else {
            partial.rows.remove(&index.0);
        }
        Ok(is_right)
    }

    fn adopt(&mut self, path: &RelPath, index: ChunkIndex, parts: &[Part], hash: ChunkDigest) -> Result<bool, String> {
        let is_taken = |leased: &Leased| leased.path == *path && leased.place.index == index;
        let Some(older) = self.finals.get(path).filter(|_| !self.leases.values().any(is_taken)) else {
            return Ok(false);
        };
        let partial = self.partials.get_mut(path).ok_or("a chunk of a file without a partial")?;
        let mut at = partial.geometry.span(index).unwrap().offset.0 as usize;
        for part in parts {
            let Some(bytes) = older.get(part.offset as usize..(part.offset + part.length) as usize) else {
                return Ok(false);
            };
            partial.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        }
        let is_right = partial.digest(index) == hash;
        if is_right {
            partial.rows.insert(index.0, (hash, self.boot));
        }
        Ok(is_right)
    }

    fn publish(&mut self, path: &RelPath, root: FileDigest, _: Timestamp, replace: bool) -> Result<(), Refused> {
        if self.finals.contains_key(path) && !replace {
            return Err(Refused::Exists);
        }
        let bytes = match (self.partials.get(path), self.singles.remove(path)) {
            (_, Some(single)) => single,
            (Some(partial), None) if self.open.contains(path) => {
                if partial.rows.len() as u32 != partial.geometry.count().0 {
                    return Err(Refused::Disk("a file that lacks chunks".to_owned()));
                }
                partial.bytes.clone()
            }
            _ => Vec::new(),
        };
        if blake3::hash(&bytes).as_bytes() != &root.0 {
            return Err(Refused::Disk("a file that does not have its root".to_owned()));
        }
        self.partials.remove(path);
        self.open.remove(path);
        let mut bytes = bytes;
        bytes.iter_mut().take(u8::from(self.flips_published).into()).for_each(|byte| *byte ^= 1);
        self.finals.insert(path.clone(), bytes);
        Ok(())
    }

    fn link(&mut self, path: &RelPath, link: &ShelfLink, _: Timestamp, replace: bool) -> Result<(), Refused> {
        let is_taken = self.finals.contains_key(path) || self.targets.contains_key(path);
        match link {
            ShelfLink::Hard { first, root, .. } => {
                let bytes = self.finals.get(first).cloned();
                let bytes = bytes.ok_or_else(|| Refused::Disk("a link to a file that is not there".to_owned()))?;
                if blake3::hash(&bytes).as_bytes() != &root.0 {
                    return Err(Refused::Disk("a link to a file that was changed".to_owned()));
                }
                if self.finals.get(path) == Some(&bytes) {
                    return Ok(());
                }
                if is_taken && !replace {
                    return Err(Refused::Exists);
                }
                self.targets.remove(path);
                self.finals.insert(path.clone(), bytes);
            }
            ShelfLink::Symbolic(target) => {
                if self.targets.get(path) == Some(target) {
                    return Ok(());
                }
                if is_taken && !replace {
                    return Err(Refused::Exists);
                }
                self.finals.remove(path);
                self.targets.insert(path.clone(), target.clone());
            }
        }
        Ok(())
    }

    fn target_of(&self, path: &RelPath) -> Option<String> {
        self.targets.get(path).map(|target| target.as_str().to_owned())
    }

    fn close(&mut self, path: &RelPath) {
        self.open.remove(path);
        self.singles.remove(path);
    }

    fn vouch_for(&mut self, path: &RelPath, geometry: Geometry) {
        if !self.open.contains(path) && self.partials.get(path).is_some_and(|partial| partial.geometry == geometry) {
            self.partials.remove(path);
        }
    }

    fn finish_folders(&mut self, _folders: &[RelPath]) -> Result<(), String> {
        Ok(())
    }

    fn stop(&mut self) {
        self.kill();
    }

    fn kill(&mut self) {
        self.leases.clear();
        self.singles.clear();
        self.set_aside.clear();
        self.open.clear();
    }

    fn power_loss(&mut self, rng: &mut Rng) {
        self.kill();
        self.has_no_power = false;
        self.boot += 1;
        for partial in self.partials.values_mut() {
            let count = partial.geometry.count().0;
            for index in 0..count {
                let span = partial.geometry.span(ChunkIndex(index)).unwrap();
                let at = (span.offset.0 + rng.below(span.length.0)) as usize;
                match rng.below(4) {
                    0 => partial.bytes[at] ^= 1,
                    1 => drop(partial.rows.remove(&index)),
                    _ => {}
                }
            }
        }
    }

    fn fail_soon(&mut self, _rng: &mut Rng) {}

    fn cut_power_soon(&mut self, _rng: &mut Rng) {
        self.has_no_power = true;
    }

    fn has_no_power(&self) -> bool {
        self.has_no_power
    }

    fn heal(&mut self) {}

    fn plant(&mut self, path: &RelPath, bytes: &[u8]) {
        self.finals.insert(path.clone(), bytes.to_vec());
    }

    fn bytes_of(&self, path: &RelPath) -> Option<Vec<u8>> {
        self.finals.get(path).cloned()
    }

    fn holds(&self, path: &RelPath, place: ChunkPlace, digest: ChunkDigest) -> bool {
        let partial = self.partials.get(path).filter(|partial| partial.geometry == place.geometry);
        let row = partial.and_then(|partial| Some((partial, partial.rows.get(&place.index.0)?)));
        row.is_some_and(|(partial, row)| row.0 == digest && partial.digest(place.index) == digest)
    }

    fn leases(&self) -> usize {
        self.leases.len()
    }
    fn leftovers(&self) -> Vec<String> {
        self.partials.keys().map(|path| path.as_str().to_owned()).collect()
    }
}
