//! What a sender offers: the walked source, its listing, and what answers hash and seal requests.
//!
//! Whatever is hashed is hashed once for all receivers. A thread that needs a digest takes it, or waits for whoever is
//! taking it; it does so itself and never on the pool, whose threads must not wait for each other.

use super::TransferError;
use super::contents::Contents;
use super::digests::{Claim, Digests, Next};
use super::parcel::Parcel;
use crate::chunk::ChunkIndex;
use crate::chunk_set::ChunkSet;
use crate::digest::{ChunkDigest, FileDigest, ManifestId, RootMerger, empty_file_digest};
use crate::limits::{HASH_PAGE_CHUNKS_MAX, WORKING_EVERY};
use crate::manifest::{Entry, EntryIndex, EntryKind, Listing, ListingBuilder, Mode, SealHasher, Timestamp};
use crate::session::listing_page_starts;
use crate::source::{self, ChunkRun, Provenance, SourceEntry, Walk};
use crate::wire::Change;
use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// An offer, shared by all sessions that it serves.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) contents: Contents,
    pub(super) listing: Arc<Listing>,
    pub(super) page_starts: Arc<[u32]>,
    digests: Arc<Digests>,
    progress: Mutex<Hashed>,
    /// A recheck ended.
    rechecked: Condvar,
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
    /// Those of them that this run has hashed itself since: their hash is never an earlier run's word again.
    seen: ChunkSet,
    /// Those that somebody hashes again right now.
    rechecking: ChunkSet,
}

/// Why an entry cannot be answered for any more.
pub(super) type Changed = (EntryIndex, Change);

/// What has to be done before a question can be answered.
pub(super) enum Chore {
    /// Hash chunks, by [`Offer::fill`]: work for the pool.
    Fill(Claim),
    /// Hash a chunk again, by [`Offer::recheck`]: work for the pool.
    Recheck(Recheck),
    /// Others are doing it, and have for [`WORKING_EVERY`].
    Wait,
}

/// How a chore ended: done, or with the first chunk that could not be hashed, and why.
pub(super) type Filled = Result<(), (u64, Changed)>;

/// The right to hash a chunk again, which nobody else does meanwhile. Dropped, it is given back.
pub(super) struct Recheck {
    offer: Arc<Offer>,
    number: u64,
}

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
            contents: Contents::Files(Box::new(walk.source)),
            digests: Arc::default(),
            progress: Mutex::default(),
            rechecked: Condvar::new(),
        })
    }

    /// The offer of what a page hands over.
    pub(super) fn of_parcel(parcel: Arc<Parcel>) -> Self {
        let listing = Arc::clone(&parcel.listing);
        Self {
            page_starts: listing_page_starts(&listing).into(),
            listing,
            contents: Contents::Handed(parcel),
            digests: Arc::default(),
            progress: Mutex::default(),
            rechecked: Condvar::new(),
        }
    }

    /// The digest of a chunk, where it is remembered.
    pub(super) fn known_digest(&self, number: u64) -> Option<ChunkDigest> {
        self.digests.known_from(&(number..number + 1)).first().copied()
    }

    /// Hashes of `chunks`, or of as many from their start as can be had. `act` does what stands before that.
    pub(super) fn hash<F>(
        &self,
        chunks: &Range<u64>,
        act: &mut dyn FnMut(Chore) -> Result<Filled, F>,
    ) -> Result<Result<Vec<ChunkDigest>, Changed>, F> {
        let mut chunks = chunks.clone();
        loop {
            let chore = match self.digests.next(&chunks, WORKING_EVERY) {
                Next::Known(digests) => return Ok(Ok(digests)),
                Next::Take(claim) => Chore::Fill(claim),
                Next::Wait => Chore::Wait,
            };
            match act(chore)? {
                Err((at, changed)) if at <= chunks.start => return Ok(Err(changed)),
                Err((at, _)) => chunks.end = at,
                Ok(()) => {}
            }
        }
    }

    /// Takes the digests that `claim` is for.
    pub(super) fn fill(&self, claim: &Claim) -> Filled {
        let runs = self.runs(claim.chunks());
        let mut first = claim.chunks().start;
        let mut filled = Ok(());
        for (run, outcome) in runs.iter().zip(self.contents.hash_runs(&runs, first)) {
            match outcome {
                Ok(hashed) => self.note(run, first, &hashed),
                Err(change) if filled.is_ok() => filled = Err((first, (EntryIndex(run.entry), change))),
                Err(_) => {}
            }
            first += u64::from(run.chunks.end.0 - run.chunks.start.0);
        }
        filled
    }

    /// Sees to it that the source still hashes to what was given for chunk `number`, where that is an earlier run's word.
    pub(super) fn settle<F>(
        self: &Arc<Self>,
        number: u64,
        act: &mut dyn FnMut(Chore) -> Result<Filled, F>,
    ) -> Result<Result<(), Changed>, F> {
        loop {
            let mut progress = self.lock();
            if !progress.from_cache.contains(number) {
                return Ok(Ok(()));
            }
            if progress.rechecking.contains(number) {
                let is_under_way = |progress: &mut Hashed| progress.rechecking.contains(number);
                let waited = self.rechecked.wait_timeout_while(progress, WORKING_EVERY, is_under_way);
                let (after, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                drop(after);
                if timeout.timed_out() {
                    // A wait fails for nobody but who waits.
                    let _ = act(Chore::Wait)?;
                }
                continue;
            }
            progress.rechecking.insert(number..number + 1);
            drop(progress);
            let recheck = Recheck { offer: Arc::clone(self), number };
            if let Err((_, changed)) = act(Chore::Recheck(recheck))? {
                return Ok(Err(changed));
            }
        }
    }

    /// Whether the source still hashes to what was given for chunk `number`; it does not count as cached any more.
    pub(super) fn recheck(&self, number: u64) -> Filled {
        let Some(place) = self.listing.place(number) else { return Ok(()) };
        let fail = |change: Change| (number, (place.entry, change));
        let mut given = self.known_digest(number);
        if given.is_none() {
            let run = ChunkRun { entry: place.entry.0, chunks: place.index..ChunkIndex(place.index.0 + 1) };
            let hashed = self.contents.hash_runs(&[run], number).pop().unwrap_or(Err(Change::Content)).map_err(fail)?;
            given = hashed.first().map(|chunk| chunk.digest);
        }
        let found = self.contents.rehash_chunk(place.entry, place.index).map_err(fail)?;
        if given != Some(found) {
            return Err((number, (place.entry, Change::Content)));
        }
        let mut progress = self.lock();
        progress.from_cache.remove(number..number + 1);
        progress.seen.insert(number..number + 1);
        Ok(())
    }

    /// The manifest's id, over the roots of all files but `without`. `act` does what stands before that.
    pub(super) fn seal<F>(
        &self,
        without: &[EntryIndex],
        act: &mut dyn FnMut(Chore) -> Result<Filled, F>,
    ) -> Result<Result<ManifestId, Changed>, F> {
        let mut seal = SealHasher::new(self.listing.digest());
        let mut without = without.iter().peekable();
        for entry in self.listing.files() {
            if without.next_if_eq(&&entry).is_some() {
                seal.push(None);
                continue;
            }
            match self.root(entry, act)? {
                Ok(root) => seal.push(Some(root)),
                Err(changed) => return Ok(Err(changed)),
            }
        }
        Ok(Ok(seal.finish()))
    }

    /// Whether every file was hashed to its end.
    pub(super) fn is_hashed(&self) -> bool {
        let progress = self.lock();
        let is_hashed = |entry| self.listing.chunks_of(entry).is_empty() || progress.roots.contains_key(&entry);
        self.listing.files().all(is_hashed)
    }

    /// The root of one file, where all of it was hashed.
    pub(super) fn known_root(&self, entry: EntryIndex) -> Option<FileDigest> {
        let is_empty = self.listing.chunks_of(entry).is_empty();
        if is_empty { Some(empty_file_digest()) } else { self.lock().roots.get(&entry).copied() }
    }

    /// The root of one file, hashed where that was not done yet.
    pub(super) fn root<F>(
        &self,
        entry: EntryIndex,
        act: &mut dyn FnMut(Chore) -> Result<Filled, F>,
    ) -> Result<Result<FileDigest, Changed>, F> {
        let chunks = self.listing.chunks_of(entry);
        if chunks.is_empty() {
            return Ok(Ok(empty_file_digest()));
        }
        loop {
            let hashed_to = {
                let progress = self.lock();
                if let Some(&root) = progress.roots.get(&entry) {
                    return Ok(Ok(root));
                }
                progress.mergers.get(&entry).map_or(0, |merger| merger.next_chunk().0)
            };
            let start = chunks.start + u64::from(hashed_to);
            let end = chunks.end.min(start + u64::from(HASH_PAGE_CHUNKS_MAX));
            match self.hash(&(start..end), act)? {
                Ok(digests) => self.merge(entry, ChunkIndex(hashed_to), digests.into_iter()),
                Err(changed) => return Ok(Err(changed)),
            }
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

    /// Remembers what was hashed, and which hashes are only an earlier run's word.
    fn note(&self, run: &ChunkRun, first: u64, hashed: &[source::HashedChunk]) {
        let mut progress = self.lock();
        for (number, chunk) in (first..).zip(hashed) {
            let one = number..number + 1;
            match chunk.provenance {
                Provenance::Cache if !progress.seen.contains(number) => progress.from_cache.insert(one),
                Provenance::Cache => {}
                Provenance::Read => progress.seen.insert(one),
            }
        }
        drop(progress);
        self.merge(EntryIndex(run.entry), run.chunks.start, hashed.iter().map(|chunk| chunk.digest));
        self.digests.put(first, hashed.iter().map(|chunk| chunk.digest));
    }

    /// Goes on with the root of a file, where these digests, from chunk `first` on, are the ones that it waits for.
    fn merge(&self, entry: EntryIndex, first: ChunkIndex, digests: impl Iterator<Item = ChunkDigest>) {
        let Some(geometry) = self.listing.geometry(entry) else { return };
        let mut progress = self.lock();
        if progress.roots.contains_key(&entry) {
            return;
        }
        let merger = progress.mergers.entry(entry).or_insert_with(|| RootMerger::new(geometry));
        let mut root = None;
        for (index, digest) in (first.0..).zip(digests) {
            if merger.next_chunk() == ChunkIndex(index) {
                root = merger.push(digest).or(root);
            }
        }
        if let Some(root) = root {
            progress.mergers.remove(&entry);
            progress.roots.insert(entry, root);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hashed> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recheck {
    /// Does it.
    pub(super) fn run(self) -> Filled {
        self.offer.recheck(self.number)
    }
}

impl Drop for Recheck {
    fn drop(&mut self) {
        self.offer.lock().rechecking.remove(self.number..self.number + 1);
        self.offer.rechecked.notify_all();
    }
}

/// Does a chore where nobody is kept waiting.
#[allow(clippy::unnecessary_wraps, reason = "others may fail at it")]
pub(super) fn do_here(offer: &Offer, chore: Chore) -> Result<Filled, Infallible> {
    Ok(match chore {
        Chore::Fill(claim) => offer.fill(&claim),
        Chore::Recheck(recheck) => recheck.run(),
        Chore::Wait => Ok(()),
    })
}

/// The entry of a listing for what was walked.
pub(super) fn listed(entry: &SourceEntry) -> Entry {
    Entry {
        path: entry.path.clone(),
        kind: match &entry.kind {
            source::EntryKind::File { length } => EntryKind::File { length: *length },
            source::EntryKind::Folder => EntryKind::Folder,
            source::EntryKind::HardLink { to } => EntryKind::HardLink { to: EntryIndex(*to) },
            source::EntryKind::Symlink { target } => EntryKind::Symlink { target: target.clone() },
        },
        mode: Mode::masked(u32::from(entry.mode)),
        modified: Timestamp::clamped(entry.mtime_seconds, entry.mtime_nanoseconds),
        attributes: entry.attributes.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHUNK_BYTES_MIN;
    use crate::source::{Source, WalkOptions};
    use std::fs;
    use std::path::Path;

    const RECEIVERS: u64 = 8;

    /// Files of one chunk, which the cache does not hold.
    const SINGLES: u64 = 3;

    fn source(offer: &Offer) -> &Source {
        offer.contents.files().unwrap()
    }

    /// Two files of several chunks and some of one.
    fn files(folder: &Path) -> Arc<Offer> {
        let top = folder.join("top");
        fs::create_dir_all(&top).unwrap();
        let lengths = [5 * CHUNK_BYTES_MIN + 1, 1, 0, 40 * CHUNK_BYTES_MIN, 7, CHUNK_BYTES_MIN];
        for (name, length) in lengths.into_iter().enumerate() {
            let path = top.join(name.to_string());
            fs::write(&path, (0..length).map(|byte| (byte % 251) as u8).collect::<Vec<_>>()).unwrap();
        }
        offer(folder)
    }

    fn offer(folder: &Path) -> Arc<Offer> {
        let options = WalkOptions { hash_cache: Some(folder.join("cache")), ..WalkOptions::default() };
        Arc::new(Offer::new(Source::walk(&[folder.join("top")], &options).unwrap()).unwrap())
    }

    /// What was just written is not believed by a later run: it takes as many runs as fit into the time that its stamps
    /// need to settle.
    fn remember(folder: &Path) -> ManifestId {
        loop {
            let offer = offer(folder);
            let id = ask(&offer, 9);
            if source(&offer).chunks_hashed() == SINGLES {
                return id;
            }
        }
    }

    fn hash(offer: &Offer, chunks: Range<u64>) -> Result<Vec<ChunkDigest>, Changed> {
        let Ok(digests) = offer.hash(&chunks, &mut |chore| do_here(offer, chore));
        digests
    }

    fn settle(offer: &Arc<Offer>, number: u64) -> Result<(), Changed> {
        let Ok(settled) = offer.settle(number, &mut |chore| do_here(offer, chore));
        settled
    }

    /// As many receivers at once, each of which asks for all hashes, in pages of a length of its own, and for the seal.
    fn ask_all(offer: &Arc<Offer>) -> Vec<ManifestId> {
        std::thread::scope(|scope| {
            let receivers: Vec<_> = (1..=RECEIVERS).map(|page| scope.spawn(move || ask(offer, page))).collect();
            receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect()
        })
    }

    fn ask(offer: &Arc<Offer>, page: u64) -> ManifestId {
        let all = offer.listing.totals().chunks;
        let mut next = 0;
        while next < all {
            next += hash(offer, next..all.min(next + page)).unwrap().len() as u64;
        }
        let Ok(id) = offer.seal(&[], &mut |chore| do_here(offer, chore));
        id.unwrap()
    }

    #[test]
    fn receivers_at_once_and_after_each_other_cost_one_pass_of_hashing() {
        let folder = tempfile::tempdir().unwrap();
        let offer = files(folder.path());
        let ids = ask_all(&offer);
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert_eq!(source(&offer).chunks_hashed(), offer.listing.totals().chunks);
        assert_eq!(ask_all(&offer), ids);
        assert_eq!(source(&offer).chunks_hashed(), offer.listing.totals().chunks, "and later ones cost nothing");
        assert!(offer.is_hashed());
        for number in 0..offer.listing.totals().chunks {
            settle(&offer, number).unwrap();
        }
        assert_eq!(source(&offer).chunks_hashed(), offer.listing.totals().chunks, "what was just hashed is believed");
    }

    #[test]
    fn what_is_an_earlier_runs_word_is_hashed_again_once_for_all() {
        let folder = tempfile::tempdir().unwrap();
        files(folder.path());
        let id = remember(folder.path());
        let offer = offer(folder.path());
        assert!(ask_all(&offer).iter().all(|asked| *asked == id));
        assert_eq!(source(&offer).chunks_hashed(), SINGLES);
        std::thread::scope(|scope| {
            for _ in 0..RECEIVERS {
                scope.spawn(|| {
                    for number in 0..offer.listing.totals().chunks {
                        settle(&offer, number).unwrap();
                    }
                });
            }
        });
        assert_eq!(source(&offer).chunks_hashed(), offer.listing.totals().chunks);
    }

    #[test]
    fn beyond_what_is_remembered_hashes_come_from_the_cache_and_are_not_doubted_again() {
        let folder = tempfile::tempdir().unwrap();
        files(folder.path());
        let id = remember(folder.path());
        let mut offer = Arc::into_inner(offer(folder.path())).unwrap();
        offer.digests = Arc::new(Digests::bounded(0));
        let offer = Arc::new(offer);
        let all = offer.listing.totals().chunks;
        let mut hashed = all;
        for _ in 0..3 {
            assert_eq!(ask(&offer, 9), id);
            for number in 0..all {
                settle(&offer, number).unwrap();
            }
            assert_eq!(source(&offer).chunks_hashed(), hashed);
            // One block is kept: it is made to hold others.
            offer.digests.put(1 << 40, [ChunkDigest([0; 32])].into_iter());
            hashed += SINGLES;
        }
    }

    #[test]
    fn a_file_that_changed_fails_where_it_is_asked_for_and_what_is_around_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let offer = files(folder.path());
        let changed = offer.listing.place(7).unwrap().entry;
        let chunks = offer.listing.chunks_of(changed);
        fs::remove_file(source(&offer).local_path(changed.0)).unwrap();
        assert_eq!(hash(&offer, 0..chunks.end + 1).unwrap().len() as u64, chunks.start);
        assert_eq!(hash(&offer, chunks.start..chunks.end + 1), Err((changed, Change::Gone)));
        assert_eq!(hash(&offer, chunks.end..chunks.end + 1).unwrap().len(), 1);
        assert_eq!(hash(&offer, 2..chunks.start).unwrap().len() as u64, chunks.start - 2);
        let Ok(sealed) = offer.seal(&[], &mut |chore| do_here(&offer, chore));
        assert_eq!(sealed, Err((changed, Change::Gone)));
        let Ok(sealed) = offer.seal(&[changed], &mut |chore| do_here(&offer, chore));
        assert!(sealed.is_ok());
    }
}
