//! What a sender offers: the walked source, its listing, and what answers hash and seal requests.

use super::TransferError;
use crate::chunk::ChunkIndex;
use crate::chunk_set::ChunkSet;
use crate::digest::{ChunkDigest, FileDigest, ManifestId, RootMerger, empty_file_digest};
use crate::manifest::{Entry, EntryIndex, EntryKind, Listing, ListingBuilder, Mode, SealHasher, Timestamp};
use crate::session::listing_page_starts;
use crate::source::{self, ChunkRun, Provenance, Source, SourceEntry, SourceError, Walk};
use crate::wire::Change;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// An offer, shared by all sessions that it serves.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) source: Source,
    pub(super) listing: Arc<Listing>,
    pub(super) page_starts: Arc<[u32]>,
    progress: Mutex<Hashed>,
}

/// What was hashed so far, for whichever session.
#[derive(Debug, Default)]
struct Hashed {
    /// Roots of files whose chunks were all hashed.
    roots: HashMap<EntryIndex, FileDigest>,
    /// Files whose chunks were hashed up to some point, in order.
    mergers: HashMap<EntryIndex, RootMerger>,
    /// Chunks whose hash is an earlier run's word: they are hashed again before they are sent.
    from_cache: ChunkSet,
}

/// Why an entry cannot be answered for any more.
pub(super) type Changed = (EntryIndex, Change);

impl Offer {
    /// The offer of everything that `walk` found.
    pub(super) fn new(walk: Walk) -> Result<Self, TransferError> {
        let mut builder = ListingBuilder::new();
        for entry in &walk.entries {
            builder.push(listed(entry)).map_err(|fault| TransferError::Bug(Box::new(fault)))?;
        }
        let totals = builder.totals();
        let listing = builder.finish(totals).map_err(|fault| TransferError::Bug(Box::new(fault)))?;
        Ok(Self {
            page_starts: listing_page_starts(&listing).into(),
            listing: Arc::new(listing),
            source: walk.source,
            progress: Mutex::default(),
        })
    }

    /// Hashes of `chunks`, or of as many from their start as can be had.
    pub(super) fn hash(&self, chunks: Range<u64>) -> Result<Vec<ChunkDigest>, Changed> {
        let runs = self.runs(chunks.clone());
        let mut digests = Vec::new();
        for (run, outcome) in runs.iter().zip(self.source.hash_runs(&runs)) {
            match outcome {
                Ok(hashed) => {
                    let first = chunks.start + digests.len() as u64;
                    self.note(run, first, &hashed);
                    digests.extend(hashed.iter().map(|chunk| chunk.digest));
                }
                Err(fault) if digests.is_empty() => return Err((EntryIndex(run.entry), change(&fault))),
                Err(_) => break,
            }
        }
        Ok(digests)
    }

    /// Whether the hash that was given for chunk `number` is an earlier run's word.
    pub(super) fn is_from_cache(&self, number: u64) -> bool {
        self.lock().from_cache.contains(number)
    }

    /// Whether the source still hashes to what was given for chunk `number`; it does not count as cached any more.
    pub(super) fn recheck(&self, number: u64) -> Result<(), Changed> {
        let Some(place) = self.listing.place(number) else { return Ok(()) };
        let fail = |fault: SourceError| (place.entry, change(&fault));
        let given = self.source.hash_chunks(place.entry.0, place.index..ChunkIndex(place.index.0 + 1)).map_err(fail)?;
        let found = self.source.rehash_chunk(place.entry.0, place.index).map_err(fail)?;
        if given.first().is_none_or(|given| given.digest != found) {
            return Err((place.entry, Change::Content));
        }
        self.lock().from_cache.remove(number..number + 1);
        Ok(())
    }

    /// The manifest's id, over the roots of all files but `without`.
    pub(super) fn seal(&self, without: &[EntryIndex]) -> Result<ManifestId, Changed> {
        let mut seal = SealHasher::new(self.listing.digest());
        let mut without = without.iter().peekable();
        for entry in self.listing.files() {
            if without.next_if_eq(&&entry).is_some() {
                seal.push(None);
            } else {
                seal.push(Some(self.root(entry)?));
            }
        }
        Ok(seal.finish())
    }

    /// Whether every file was hashed to its end.
    pub(super) fn is_hashed(&self) -> bool {
        let progress = self.lock();
        let is_hashed = |entry| self.listing.chunks_of(entry).is_empty() || progress.roots.contains_key(&entry);
        self.listing.files().all(is_hashed)
    }

    /// The root of one file, hashed where that was not done yet.
    pub(super) fn root(&self, entry: EntryIndex) -> Result<FileDigest, Changed> {
        let chunks = self.listing.chunks_of(entry);
        if chunks.is_empty() {
            return Ok(empty_file_digest());
        }
        loop {
            let hashed_to = {
                let progress = self.lock();
                if let Some(&root) = progress.roots.get(&entry) {
                    return Ok(root);
                }
                progress.mergers.get(&entry).map_or(0, |merger| u64::from(merger.next_chunk().0))
            };
            let start = chunks.start + hashed_to;
            let end = chunks.end.min(start + u64::from(crate::limits::HASH_PAGE_CHUNKS_MAX));
            self.hash(start..end)?;
        }
    }

    /// The runs of `chunks`, one for each file.
    fn runs(&self, chunks: Range<u64>) -> Vec<ChunkRun> {
        let mut runs = Vec::new();
        let mut number = chunks.start;
        while number < chunks.end
            && let Some(place) = self.listing.place(number)
        {
            let end = self.listing.chunks_of(place.entry).end.min(chunks.end);
            let count = u32::try_from(end - number).unwrap_or(u32::MAX);
            let last = ChunkIndex(place.index.0.saturating_add(count));
            runs.push(ChunkRun { entry: place.entry.0, chunks: place.index..last });
            number = end;
        }
        runs
    }

    /// Remembers what was hashed: roots as they complete, and which hashes are only an earlier run's word.
    fn note(&self, run: &ChunkRun, first: u64, hashed: &[source::HashedChunk]) {
        let entry = EntryIndex(run.entry);
        let Some(geometry) = self.listing.geometry(entry) else { return };
        let mut progress = self.lock();
        for (number, chunk) in (first..).zip(hashed) {
            if chunk.provenance == Provenance::Cache {
                progress.from_cache.insert(number..number + 1);
            }
        }
        if progress.roots.contains_key(&entry) {
            return;
        }
        let merger = progress.mergers.entry(entry).or_insert_with(|| RootMerger::new(geometry));
        let mut root = None;
        for (index, chunk) in (run.chunks.start.0..).zip(hashed) {
            if merger.next_chunk() == ChunkIndex(index) {
                root = merger.push(chunk.digest).or(root);
            }
        }
        if let Some(root) = root {
            progress.mergers.remove(&entry);
            progress.roots.insert(entry, root);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hashed> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to tell a receiver about a fault of a source.
pub(super) fn change(fault: &SourceError) -> Change {
    match fault {
        SourceError::Vanished { .. } | SourceError::Missing { .. } => Change::Gone,
        SourceError::Unreadable { .. } => Change::Unreadable,
        _ => Change::Content,
    }
}

fn listed(entry: &SourceEntry) -> Entry {
    Entry {
        path: entry.path.clone(),
        kind: match entry.kind {
            source::EntryKind::File { length } => EntryKind::File { length },
            source::EntryKind::Folder => EntryKind::Folder,
        },
        mode: Mode::masked(u32::from(entry.mode)),
        modified: Timestamp::clamped(entry.mtime_seconds, entry.mtime_nanoseconds),
    }
}
