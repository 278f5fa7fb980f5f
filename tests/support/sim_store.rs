//! The real store on a simulated disk, as the receiving process of a simulation uses it.

use super::sim_disk::{Failure, SimDisk};
use super::sim_rng::Rng;
use super::sim_shelf::{Payload, Refused, Shelf, ShelfLink};
use haul::chunk::{ChunkIndex, Geometry};
use haul::chunk_set::ChunkSet;
use haul::digest::{ChunkDigest, FileDigest};
use haul::manifest::{Attributes, ChunkPlace, Mode, Timestamp, VerifiedChunk};
use haul::outline::Part;
use haul::rel_path::RelPath;
use haul::session::LaneId;
use haul::store::{
    Existing, Lease, Link, LinkWish, OnConflict, PartialFile, Publication, SingleFile, Store, StoreError,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A destination, and what the process that uses it holds open.
#[derive(Debug)]
pub(crate) struct StoreShelf {
    disk: SimDisk,
    store: Option<Store<SimDisk>>,
    open: BTreeMap<RelPath, Arc<PartialFile<SimDisk>>>,
    leases: BTreeMap<LaneId, Held>,
    singles: BTreeMap<RelPath, (SingleFile<SimDisk>, VerifiedChunk)>,
    set_aside: BTreeMap<RelPath, Vec<u8>>,
    /// The claims that are known to be on the disk and to stand.
    standing: BTreeMap<RelPath, (Geometry, BTreeMap<u32, ChunkDigest>)>,
    /// Whether the power goes at some call to come.
    power_goes: bool,
}

/// The chunk that a lane has.
#[derive(Debug)]
enum Held {
    Leased { path: RelPath, lease: Lease<SimDisk> },
    Single { path: RelPath, bytes: Vec<u8> },
    Written { path: RelPath, file: SingleFile<SimDisk> },
}

impl Default for StoreShelf {
    fn default() -> Self {
        Self {
            disk: SimDisk::new(),
            store: None,
            open: BTreeMap::new(),
            leases: BTreeMap::new(),
            singles: BTreeMap::new(),
            set_aside: BTreeMap::new(),
            standing: BTreeMap::new(),
            power_goes: false,
        }
    }
}

impl StoreShelf {
    /// The disk, for a test to fail or to look into.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The file system cannot set room aside. Before anything is written.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn never_reserves(&mut self) {
        self.disk = self.disk.clone().without_reservation();
    }

    fn store(&self) -> Result<&Store<SimDisk>, String> {
        self.store.as_ref().ok_or_else(|| "no process uses the destination".to_owned())
    }

    /// The process goes; `disk` is what is left for the next one.
    fn leave(&mut self, disk: SimDisk) {
        self.leases.clear();
        self.singles.clear();
        self.set_aside.clear();
        self.open.clear();
        self.store = None;
        self.disk = disk;
    }

    /// A refused call may have voided what stood of the file.
    fn refused(&mut self, path: &RelPath, error: &StoreError) -> String {
        self.standing.remove(path);
        error.to_string()
    }

    fn stands(&mut self, path: &RelPath, geometry: Geometry, index: ChunkIndex, digest: ChunkDigest) {
        let standing = self.standing.entry(path.clone()).or_insert_with(|| (geometry, BTreeMap::new()));
        if standing.0 != geometry {
            *standing = (geometry, BTreeMap::new());
        }
        standing.1.insert(index.0, digest);
    }
}

fn wish(path: &RelPath, at: Timestamp, replace: bool) -> Publication {
    Publication {
        path: path.clone(),
        mode: Mode::masked(0o644),
        modified: at,
        conflict: if replace { OnConflict::Overwrite } else { OnConflict::Fail },
        read_back: false,
        attributes: Attributes::NONE,
    }
}

impl Shelf for StoreShelf {
    fn start(&mut self, folders: &[RelPath]) -> Result<(), String> {
        let store = Store::open(self.disk.clone()).map_err(|error| error.to_string())?;
        for folder in folders {
            store.make_folder(folder).map_err(|error| error.to_string())?;
        }
        self.store = Some(store);
        Ok(())
    }

    fn exists(&self, path: &RelPath) -> bool {
        self.store().is_ok_and(|store| matches!(store.look(path), Ok(Existing::File { .. })))
    }

    fn root_of(&self, path: &RelPath, geometry: Geometry) -> Option<FileDigest> {
        self.store().ok()?.hash_existing(path, geometry).ok()?
    }

    fn open(&mut self, path: &RelPath, geometry: Geometry) -> Result<ChunkSet, String> {
        match self.store()?.open_partial(path, geometry.file_length()) {
            Ok(opened) => {
                self.open.insert(path.clone(), opened.partial);
                Ok(opened.claims)
            }
            Err(error) => Err(self.refused(path, &error)),
        }
    }

    fn lease(&mut self, lane: LaneId, path: &RelPath, place: ChunkPlace) -> Result<bool, String> {
        self.leases.remove(&lane);
        let path = path.clone();
        if place.geometry.is_single() {
            let fresh = || vec![0; place.length().0 as usize];
            let bytes = self.set_aside.remove(&path).unwrap_or_else(fresh);
            self.leases.insert(lane, Held::Single { path, bytes });
            return Ok(true);
        }
        let partial = self.open.get(&path).ok_or("a chunk of a file that is not open")?;
        match partial.lease(place.index) {
            Ok(Some(lease)) => {
                self.leases.insert(lane, Held::Leased { path, lease });
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(self.refused(&path, &error)),
        }
    }

    fn fill(&mut self, lane: LaneId, offset: u64, payload: Payload) -> Result<(), String> {
        let (path, written) = match self.leases.get_mut(&lane) {
            Some(Held::Leased { path, lease }) => {
                let written = match payload {
                    Payload::Raw(bytes) => lease.write(offset, bytes),
                    Payload::Zero(length) => lease.zeros(offset, length),
                };
                (path.clone(), written)
            }
            Some(Held::Single { bytes, .. }) => {
                match payload {
                    Payload::Raw(piece) => bytes[offset as usize..][..piece.len()].copy_from_slice(piece),
                    Payload::Zero(length) => bytes[offset as usize..][..length as usize].fill(0),
                }
                return Ok(());
            }
            Some(Held::Written { .. }) | None => return Err("bytes for a chunk that the lane does not have".to_owned()),
        };
        written.map_err(|error| self.refused(&path, &error))
    }

    fn digest(&mut self, lane: LaneId, at: Timestamp, replace: bool) -> Result<ChunkDigest, String> {
        match self.leases.remove(&lane) {
            Some(Held::Leased { path, mut lease }) => match lease.digest() {
                Ok(digest) => {
                    self.leases.insert(lane, Held::Leased { path, lease });
                    Ok(digest)
                }
                Err(error) => Err(self.refused(&path, &error)),
            },
            Some(Held::Single { path, bytes }) => {
                let written = self.store()?.write_single(wish(&path, at, replace), &bytes);
                let (file, digest) = written.map_err(|error| error.to_string())?;
                self.leases.insert(lane, Held::Written { path, file });
                Ok(digest)
            }
            Some(Held::Written { .. }) | None => Err("no chunk to hash".to_owned()),
        }
    }

    fn claim(&mut self, lane: LaneId, proof: VerifiedChunk) -> Result<(), String> {
        match self.leases.remove(&lane) {
            Some(Held::Leased { path, lease }) => match lease.claim(proof) {
                Ok(()) => {
                    let geometry = self.open.get(&path).ok_or("a claim for a file that is not open")?.geometry();
                    self.stands(&path, geometry, proof.index(), proof.digest());
                    Ok(())
                }
                Err(error) => Err(self.refused(&path, &error)),
            },
            Some(Held::Written { path, file }) => {
                self.singles.insert(path, (file, proof));
                Ok(())
            }
            Some(Held::Single { .. }) | None => Err("a claim for a chunk that the lane does not have".to_owned()),
        }
    }

    fn release(&mut self, lane: LaneId) {
        self.leases.remove(&lane);
    }

    fn set_aside(&mut self, lane: LaneId) {
        if let Some(Held::Single { path, bytes }) = self.leases.remove(&lane) {
            self.set_aside.insert(path, bytes);
        }
    }

    fn check(&mut self, path: &RelPath, index: ChunkIndex, promised: ChunkDigest) -> Result<bool, String> {
        let partial = Arc::clone(self.open.get(path).ok_or("claims of a file that is not open")?);
        match partial.check_claim(index, promised) {
            Ok(true) => self.stands(path, partial.geometry(), index, promised),
            Ok(false) => {}
            Err(error) => return Err(self.refused(path, &error)),
        }
        let stands = |(geometry, rows): &(Geometry, BTreeMap<u32, ChunkDigest>)| {
            *geometry == partial.geometry() && rows.get(&index.0) == Some(&promised)
        };
        Ok(self.standing.get(path).is_some_and(stands))
    }

    fn adopt(&mut self, path: &RelPath, index: ChunkIndex, parts: &[Part], hash: ChunkDigest) -> Result<bool, String> {
        let Some(older) = self.store()?.open_older(path) else { return Ok(false) };
        let partial = Arc::clone(self.open.get(path).ok_or("a chunk of a file that is not open")?);
        let made = partial.adopt(&older, index, parts, hash).map_err(|error| self.refused(path, &error))?;
        if made {
            self.stands(path, partial.geometry(), index, hash);
        }
        Ok(made)
    }

    fn publish(&mut self, path: &RelPath, root: FileDigest, at: Timestamp, replace: bool) -> Result<(), Refused> {
        let wish = wish(path, at, replace);
        let disk_refused = |error: StoreError| Refused::Disk(error.to_string());
        let store = self.store().map_err(Refused::Disk)?.clone();
        let published = if let Some(partial) = self.open.remove(path) {
            let sealed = partial.seal(root).map_err(disk_refused);
            drop(partial);
            store.publish(sealed?, &wish)
        } else {
            let (file, proof) = match self.singles.remove(path) {
                Some((file, proof)) => (file, Some(proof)),
                None => (store.write_single(wish, &[]).map_err(disk_refused)?.0, None),
            };
            store.publish_batch(vec![(file, proof)]).remove(0)
        };
        match published {
            Ok(_) => {
                self.standing.remove(path);
                Ok(())
            }
            Err(StoreError::Exists { .. }) => Err(Refused::Exists),
            Err(error) => Err(Refused::Disk(self.refused(path, &error))),
        }
    }

    fn link(&mut self, path: &RelPath, link: &ShelfLink, at: Timestamp, replace: bool) -> Result<(), Refused> {
        let link = match link {
            ShelfLink::Hard { first, root, geometry } => {
                Link::Hard { first: first.clone(), root: *root, geometry: *geometry }
            }
            ShelfLink::Symbolic(target) => Link::Symbolic(target.clone()),
        };
        let store = self.store().map_err(Refused::Disk)?.clone();
        let made = store.publish_links(&[LinkWish { publication: wish(path, at, replace), link }]).remove(0);
        made.map(drop).map_err(|error| match error {
            StoreError::Exists { .. } => Refused::Exists,
            error => Refused::Disk(error.to_string()),
        })
    }

    fn target_of(&self, path: &RelPath) -> Option<String> {
        self.disk.target(path.as_str())
    }

    fn close(&mut self, path: &RelPath) {
        self.open.remove(path);
        self.singles.remove(path);
    }

    fn vouch_for(&mut self, path: &RelPath, geometry: Geometry) {
        if let Ok(store) = self.store() {
            store.vouch_for(path, geometry.file_length());
        }
    }

    fn finish_folders(&mut self, folders: &[RelPath]) -> Result<(), String> {
        let at = Timestamp::clamped(1_600_000_000, 0);
        let folders = folders.iter().map(|path| (path.clone(), Mode::masked(0o755), at)).collect();
        let finished = self.store()?.finish_folders(folders);
        finished.into_iter().try_for_each(|(_, result)| result.map(drop).map_err(|error| error.to_string()))
    }

    fn stop(&mut self) {
        self.leave(self.disk.clone());
    }

    fn kill(&mut self) {
        self.power_goes = false;
        self.leave(self.disk.after_kill());
    }

    fn power_loss(&mut self, rng: &mut Rng) {
        self.power_goes = false;
        self.standing.clear();
        self.leave(self.disk.crash(rng.next()));
    }

    fn fail_soon(&mut self, rng: &mut Rng) {
        let failure = *rng.pick(&[Failure::Eio, Failure::Enospc, Failure::Eintr, Failure::Short]);
        self.power_goes = false;
        self.disk.fail(rng.below(60), failure, rng.chance(300));
    }

    fn cut_power_soon(&mut self, rng: &mut Rng) {
        self.power_goes = true;
        self.disk.stop(rng.below(60));
    }

    fn has_no_power(&self) -> bool {
        self.power_goes && self.disk.hits() > 0
    }

    fn heal(&mut self) {
        if !self.has_no_power() {
            self.power_goes = false;
            self.disk.heal();
        }
    }

    fn plant(&mut self, path: &RelPath, bytes: &[u8]) {
        self.disk.put(path.as_str(), bytes);
    }

    fn bytes_of(&self, path: &RelPath) -> Option<Vec<u8>> {
        self.disk.read(path.as_str())
    }

    fn holds(&self, path: &RelPath, place: ChunkPlace, digest: ChunkDigest) -> bool {
        let standing = self.standing.get(path).filter(|(geometry, _)| *geometry == place.geometry);
        standing.is_some_and(|(_, rows)| rows.get(&place.index.0) == Some(&digest))
    }

    fn leases(&self) -> usize {
        self.leases.len()
    }

    fn leftovers(&self) -> Vec<String> {
        self.disk
            .paths()
            .into_iter()
            .filter(|path| {
                path.starts_with(".haul/") && Path::new(path).extension().is_some_and(|ending| ending == "part")
            })
            .collect()
    }
}
