//! What must hold at every step of a simulation, whatever the network and the disk do.

use super::sim_core::Core;
use super::sim_rng::Rng;
use super::sim_shelf::Shelf;
use super::sim_source::Source;
use haul::chunk_set::ChunkSet;
use haul::digest::{ChunkDigest, FileDigest, ListingDigest};
use haul::manifest::{ChunkPlace, EntryIndex, Listing, VerifiedChunk};
use haul::rel_path::RelPath;
use haul::session::{FileFault, LaneId};
use haul::wire::Piece;
use std::collections::{BTreeMap, BTreeSet};

/// The witness of one receiving side. What is about one process is forgotten with it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The first thing that must not happen and did.
    pub(crate) violation: Option<String>,
    listing: Option<Listing>,
    /// Chunks that this process knows to be stored.
    stored: ChunkSet,
    /// Chunks that each lane was asked for.
    asked: BTreeMap<LaneId, ChunkSet>,
    /// Chunks whose bytes were found right and whose claim is being written.
    claiming: BTreeMap<LaneId, (u64, VerifiedChunk)>,
    /// Chunks that this process asked for.
    asked_in_run: ChunkSet,
    /// Chunks that any process knew to be stored, and requests for one of them: for runs of one listing.
    stored_ever: ChunkSet,
    asked_again: u64,
    failed: BTreeMap<EntryIndex, FileFault>,
    publishing: BTreeSet<EntryIndex>,
    /// Files that this process published, or found identical.
    done: BTreeSet<EntryIndex>,
    /// What earlier processes noted as published.
    record: BTreeMap<RelPath, (ListingDigest, FileDigest)>,
    /// What may be under final names; more than one thing where a publication was interrupted.
    finals: BTreeMap<RelPath, Vec<Option<FileDigest>>>,
}

impl Watch {
    pub(crate) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(crate) fn run_starts(&mut self) {
        self.listing = None;
        self.stored = ChunkSet::new();
        self.asked.clear();
        self.asked_in_run = ChunkSet::new();
        self.claiming.clear();
        self.failed.clear();
        self.publishing.clear();
        self.done.clear();
    }

    pub(crate) fn done(&mut self, entry: EntryIndex) {
        self.done.insert(entry);
    }

    pub(crate) fn is_done(&self, entry: EntryIndex) -> bool {
        self.done.contains(&entry)
    }

    pub(crate) fn offered(&mut self, listing: &Listing) {
        self.listing = Some(listing.clone());
    }

    pub(crate) fn has_failed(&self, entry: EntryIndex) -> bool {
        self.failed.contains_key(&entry)
    }

    pub(crate) fn failed(&self) -> &BTreeMap<EntryIndex, FileFault> {
        &self.failed
    }

    pub(crate) fn file_failed(&mut self, entry: EntryIndex, fault: FileFault) {
        let is_first = self.failed.insert(entry, fault).is_none();
        self.check(is_first, || format!("entry {} fails twice", entry.0));
    }

    /// A request names a chunk: it must be missing, and nobody else's.
    pub(crate) fn asked(
        &mut self,
        around: (&mut Core, &mut Source),
        shelf: &impl Shelf,
        lane: LaneId,
        chunk: u64,
        file: (&RelPath, ChunkPlace),
    ) {
        let (path, place) = file;
        let (core, source) = around;
        let elsewhere = self.asked.iter().find(|(_, chunks)| chunks.contains(chunk)).map(|(&lane, _)| lane);
        self.check(elsewhere.is_none(), || format!("chunk {chunk} is asked for twice at once, of {elsewhere:?}"));
        self.check(!self.stored.contains(chunk), || format!("chunk {chunk} is stored and asked for"));
        let is_verified = self.claiming.values().any(|&(claimed, _)| claimed == chunk);
        self.check(!is_verified, || format!("chunk {chunk} is verified and asked for again"));
        self.check(!self.has_failed(place.entry), || format!("chunk {chunk} of a failed file is asked for"));
        let is_done = self.publishing.contains(&place.entry);
        self.check(!is_done, || format!("chunk {chunk} of a complete file is asked for"));
        let digest = self.truth(source, place);
        if !place.geometry.is_single() && shelf.holds(path, place, digest) {
            self.fail(format!("chunk {chunk} survived a restart and is asked for again"));
        }
        self.asked.entry(lane).or_default().insert(chunk..chunk + 1);
        self.asked_in_run.insert(chunk..chunk + 1);
        self.asked_again += u64::from(self.stored_ever.contains(chunk));
        core.counts.add("chunk requests", 1);
    }

    /// Chunks that this process knows to be stored.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn stored_chunks(&self) -> &ChunkSet {
        &self.stored
    }

    /// Chunks that this process asked for.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn asked_chunks(&self) -> &ChunkSet {
        &self.asked_in_run
    }

    /// Requests for chunks that were stored before, by this process or an earlier one.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn asked_again(&self) -> u64 {
        self.asked_again
    }

    /// Whether a complete file waits for its name, or is getting it.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn is_publishing(&self) -> bool {
        !self.publishing.is_empty()
    }

    pub(crate) fn placed(&mut self, lane: LaneId, piece: Piece) {
        let is_asked = self.asked.get(&lane).is_some_and(|chunks| chunks.contains(piece.chunk));
        self.check(is_asked, || format!("chunk {} is placed without a request", piece.chunk));
    }

    pub(crate) fn lane_gone(&mut self, lane: LaneId) {
        self.asked.remove(&lane);
        self.claiming.remove(&lane);
    }

    pub(crate) fn chunk_settled(&mut self, lane: LaneId, chunk: u64) {
        if let Some(chunks) = self.asked.get_mut(&lane) {
            chunks.remove(chunk..chunk + 1);
        }
    }

    pub(crate) fn claim_begins(&mut self, source: &mut Source, lane: LaneId, chunk: u64, proof: VerifiedChunk) {
        let place = self.listing.as_ref().and_then(|listing| listing.place(chunk));
        let is_true = place.is_some_and(|place| self.truth(source, place) == proof.digest());
        self.check(is_true, || format!("chunk {chunk} counts as verified with a hash that is not its own"));
        let before = self.claiming.insert(lane, (chunk, proof));
        self.check(before.is_none(), || format!("{lane:?} claims two chunks at once"));
    }

    pub(crate) fn is_claiming(&self, lane: LaneId) -> bool {
        self.claiming.contains_key(&lane)
    }

    pub(crate) fn claim_ends(&mut self, lane: LaneId) {
        self.claiming.remove(&lane);
    }

    /// A chunk counts as stored: it must lie there, with the bytes of the source.
    pub(crate) fn stored(&mut self, source: &mut Source, shelf: &impl Shelf, path: &RelPath, chunk: u64) {
        self.check(!self.stored.contains(chunk), || format!("chunk {chunk} is stored twice"));
        self.stored.insert(chunk..chunk + 1);
        self.stored_ever.insert(chunk..chunk + 1);
        let Some(place) = self.listing.as_ref().and_then(|listing| listing.place(chunk)) else { return };
        let digest = self.truth(source, place);
        let is_there = place.geometry.is_single() || shelf.holds(path, place, digest);
        self.check(is_there, || format!("chunk {chunk} counts as stored and is not what the source holds"));
    }

    pub(crate) fn publish_begins(&mut self, entry: EntryIndex) {
        let is_first = self.publishing.insert(entry);
        self.check(is_first, || format!("entry {} is published twice", entry.0));
        let chunks = self.listing.as_ref().map(|listing| listing.chunks_of(entry)).unwrap_or_default();
        let lacking = chunks.filter(|&chunk| !self.stored.contains(chunk)).count();
        self.check(lacking == 0, || format!("entry {} is published without {lacking} chunks", entry.0));
    }

    /// A file has its final name: its bytes must be one state of the source, and have the root that was agreed.
    pub(crate) fn published(&mut self, shelf: &impl Shelf, source: &Source, path: &RelPath, root: FileDigest) {
        let bytes = shelf.bytes_of(path).unwrap_or_default();
        let found = FileDigest(*blake3::hash(&bytes).as_bytes());
        self.check(found == root, || format!("{path:?} is published with other bytes than agreed"));
        self.check(source.was_ever(path, &bytes), || format!("{path:?} is published with bytes that never were"));
        self.finals.insert(path.clone(), vec![Some(root)]);
    }

    /// A file is about to get its final name: until that is over, there is the old one or the new one.
    pub(crate) fn publishing(&mut self, path: &RelPath, root: FileDigest) {
        self.finals.entry(path.clone()).or_insert_with(|| vec![None]).push(Some(root));
    }

    pub(crate) fn planted(&mut self, path: &RelPath, bytes: &[u8]) {
        self.finals.insert(path.clone(), vec![Some(FileDigest(*blake3::hash(bytes).as_bytes()))]);
    }

    /// What is under this name was reported as received: nothing may take it away.
    pub(crate) fn must_stay(&mut self, path: &RelPath, shelf: &impl Shelf) {
        let found = shelf.bytes_of(path).map(|bytes| FileDigest(*blake3::hash(&bytes).as_bytes()));
        self.finals.insert(path.clone(), vec![found]);
    }

    /// Final names hold what was published there or what was there before, and nothing else happened to them.
    pub(crate) fn check_finals(&mut self, shelf: &impl Shelf) {
        let differs = |(path, may_be): &(&RelPath, &Vec<Option<FileDigest>>)| {
            let found = shelf.bytes_of(path).map(|bytes| FileDigest(*blake3::hash(&bytes).as_bytes()));
            !may_be.contains(&found)
        };
        if let Some((path, _)) = self.finals.iter().find(differs) {
            self.violation.get_or_insert(format!("{path:?} is not what was published there"));
        }
    }

    /// Notes of what was published may be lost.
    pub(crate) fn power_loss(&mut self, rng: &mut Rng) {
        self.record.retain(|_, _| rng.chance(700));
    }

    pub(crate) fn recorded(&mut self, path: RelPath, listing: ListingDigest, root: FileDigest) {
        self.record.insert(path, (listing, root));
    }

    pub(crate) fn root_recorded(&self, path: &RelPath, listing: ListingDigest) -> Option<FileDigest> {
        self.record.get(path).filter(|(of, _)| *of == listing).map(|&(_, root)| root)
    }

    /// The hash of a chunk of what was listed.
    fn truth(&self, source: &mut Source, place: ChunkPlace) -> ChunkDigest {
        let entry = self.listing.as_ref().and_then(|listing| listing.entry(place.entry)).unwrap();
        source.listed_digest(&entry.path, entry.modified, place.index)
    }
}
