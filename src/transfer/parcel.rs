//! Files that a page hands over piece by piece: what is wanted of them, what came, and how far the receiver is.

use super::awaited::Awaited;
use super::cancel::Cancel;
use super::event::{Event, Phase};
use super::handed::{HandedFile, listing_of};
use crate::chunk::ChunkIndex;
use crate::digest::{ChunkDigest, chunk_digest};
use crate::limits::HASH_PAGE_CHUNKS_MAX;
use crate::manifest::{ChunkPlace, EntryIndex, Listing, ListingFault};
use crate::source::{HashedChunk, Provenance};
use crate::wire::Change;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a page hands over in one go: it is asked for digests and chunks, and gives them.
#[derive(Debug)]
pub struct Parcel {
    pub(super) listing: Arc<Listing>,
    /// Entries of the page's files, in the page's order.
    entries: Vec<EntryIndex>,
    files: HashMap<EntryIndex, u32>,
    pub(super) cancel: Cancel,
    state: Mutex<State>,
    changed: Condvar,
}

/// How far a parcel is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// The user is asked whether to take it.
    Asking,
    /// All of it is there, but for so many files that failed.
    Complete {
        /// Files that failed on the receiving side.
        failed: u64,
    },
    /// It ended before its end.
    Failed {
        /// What happened, as a printable sentence.
        text: String,
    },
    /// The user does not want it.
    Refused,
    /// It is on its way.
    Sending,
}

/// What a page is to do next.
#[derive(Clone, Debug)]
pub struct Wants {
    /// How far it is.
    pub delivery: Delivery,
    /// Chunks whose digests are wanted: file, first, count.
    pub digests: Vec<(u32, u32, u32)>,
    /// Chunks that are wanted: file, index.
    pub chunks: Vec<(u32, u32)>,
    /// Bytes that the receiver has.
    pub held_bytes: u64,
}

/// Why something that was handed over is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotTaken {
    /// The bytes are not what their digest says.
    Digest,
    /// There is no such file or chunk, or it is not so long.
    Unknown,
}

/// Chunks that a request waits for. Dropped, it has them or is lost.
#[derive(Debug)]
pub(super) struct Expected {
    parcel: Arc<Parcel>,
    /// Those that were not sent yet.
    chunks: BTreeSet<u64>,
}

#[derive(Debug)]
struct State {
    delivery: Delivery,
    wanted_digests: BTreeSet<u64>,
    digests: BTreeMap<u64, ChunkDigest>,
    chunks: Awaited,
    unreadable: BTreeSet<EntryIndex>,
    held_bytes: u64,
    heard: Instant,
    /// The page knows how it ended.
    is_told: bool,
}

impl Parcel {
    /// A parcel of these files; a fault where they cannot be written side by side.
    pub(super) fn new(files: &[HandedFile], cancel: Cancel) -> Result<Self, ListingFault> {
        let (listing, entries) = listing_of(files)?;
        let state = State {
            delivery: Delivery::Asking,
            wanted_digests: BTreeSet::new(),
            digests: BTreeMap::new(),
            chunks: Awaited::new(HELD_BYTES_MAX),
            unreadable: BTreeSet::new(),
            held_bytes: 0,
            heard: Instant::now(),
            is_told: false,
        };
        Ok(Self {
            listing: Arc::new(listing),
            files: entries.iter().copied().zip(0..).collect(),
            entries,
            cancel,
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    // What the page does.

    /// What the page is to do, once there is something, or after `patience`.
    pub fn wants(&self, patience: Duration) -> Wants {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        let before = state.delivery.clone();
        loop {
            state.heard = Instant::now();
            let wants = self.what_is_wanted(&state);
            let left = until.saturating_duration_since(Instant::now());
            let is_idle = wants.digests.is_empty() && wants.chunks.is_empty() && state.delivery == before;
            if left.is_zero() || !is_idle || state.delivery.is_over() {
                state.is_told |= state.delivery.is_over();
                drop(state);
                self.changed.notify_all();
                return wants;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes digests of chunks of a file of the page.
    pub fn hashed(&self, file: u32, first: u32, digests: &[ChunkDigest]) -> Result<(), NotTaken> {
        let chunks = self.chunks_of(file).ok_or(NotTaken::Unknown)?;
        let start = chunks.start + u64::from(first);
        if start + digests.len() as u64 > chunks.end {
            return Err(NotTaken::Unknown);
        }
        let mut state = self.lock();
        state.heard = Instant::now();
        for (number, &digest) in (start..).zip(digests) {
            if state.wanted_digests.contains(&number) {
                state.digests.insert(number, digest);
            }
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// How long a chunk of a file of the page is; nothing where there is none.
    pub fn chunk_bytes(&self, file: u32, index: u32) -> Option<u64> {
        let chunks = self.chunks_of(file)?;
        let number = chunks.start + u64::from(index);
        chunks.contains(&number).then(|| self.listing.place(number)).flatten().map(|place| place.length().0)
    }

    /// Takes a chunk of a file of the page. What nobody waits for is dropped. `known` is the digest that it is to have.
    pub fn put(
        &self,
        file: u32,
        index: u32,
        bytes: &[u8],
        known: impl FnOnce(u64) -> Option<ChunkDigest>,
    ) -> Result<(), NotTaken> {
        let chunks = self.chunks_of(file).ok_or(NotTaken::Unknown)?;
        let number = chunks.start + u64::from(index);
        let place = self.listing.place(number).filter(|_| number < chunks.end).ok_or(NotTaken::Unknown)?;
        if place.length().0 != bytes.len() as u64 {
            return Err(NotTaken::Unknown);
        }
        self.lock().heard = Instant::now();
        let geometry = self.listing.geometry(place.entry).ok_or(NotTaken::Unknown)?;
        if known(number).is_some_and(|known| known != chunk_digest(geometry, place.index, bytes)) {
            return Err(NotTaken::Digest);
        }
        self.lock().chunks.put(number, bytes);
        self.changed.notify_all();
        Ok(())
    }

    /// The page cannot read a file any more.
    pub fn unreadable(&self, file: u32) -> Result<(), NotTaken> {
        let entry = *self.entries.get(file as usize).ok_or(NotTaken::Unknown)?;
        self.lock().unreadable.insert(entry);
        self.changed.notify_all();
        Ok(())
    }

    /// Ends it. What is there of it is kept.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Files in it.
    pub fn files(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing follows.
    pub fn is_over(&self) -> bool {
        self.lock().delivery.is_over()
    }

    /// Bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.listing.totals().bytes
    }

    /// For how long nothing was heard of the page.
    pub fn silent_for(&self) -> Duration {
        self.lock().heard.elapsed()
    }

    // What the lanes do.

    /// Waits until digests of these chunks are there, or never will be. False where that takes longer than `patience`.
    pub(super) fn wait_for_digests(&self, chunks: &Range<u64>, patience: Duration) -> bool {
        let mut state = self.lock();
        state.delivery.begins();
        state.wanted_digests.extend(chunks.clone());
        let is_lacking = |state: &mut State| {
            chunks.clone().any(|number| !state.digests.contains_key(&number) && !self.is_lost(state, number))
        };
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, patience, is_lacking);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Digests that were [waited for](Self::wait_for_digests).
    pub(super) fn take_digests(&self, entry: EntryIndex, chunks: Range<u64>) -> Result<Vec<HashedChunk>, Change> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        for number in chunks {
            state.wanted_digests.remove(&number);
            let digest = state.digests.remove(&number).filter(|_| !state.unreadable.contains(&entry));
            taken.push(HashedChunk { digest: digest.ok_or(Change::Unreadable)?, provenance: Provenance::Read });
        }
        Ok(taken)
    }

    /// Asks for the chunks of a request, until what is returned is dropped.
    pub(super) fn expect_chunks(self: &Arc<Self>, ranges: &[Range<u64>]) -> Expected {
        let chunks: BTreeSet<u64> = ranges.iter().cloned().flatten().collect();
        let mut state = self.lock();
        state.delivery.begins();
        state.chunks.expect(&chunks);
        drop(state);
        self.changed.notify_all();
        Expected { parcel: Arc::clone(self), chunks }
    }

    /// Waits until an expected chunk is there, or never will be. False where that takes longer than `patience`.
    pub(super) fn wait_for_chunk(&self, number: u64, patience: Duration) -> bool {
        let is_lacking = |state: &mut State| !state.chunks.has(number) && !self.is_lost(state, number);
        let mut state = self.lock();
        if !is_lacking(&mut state) {
            return true;
        }
        state.chunks.urge(number);
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, patience, is_lacking);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state.chunks.calm(number);
        !timeout.timed_out()
    }

    /// Fills `out` with bytes of a chunk that was waited for.
    pub(super) fn read(
        &self,
        entry: EntryIndex,
        number: u64,
        within: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), Change> {
        let chunk = {
            let state = self.lock();
            state.chunks.ready(number).filter(|_| !state.unreadable.contains(&entry))
        };
        let chunk = chunk.ok_or(Change::Unreadable)?;
        let range = usize::try_from(within.start).ok().zip(usize::try_from(within.end).ok());
        let bytes = range.and_then(|(start, end)| chunk.get(start..end)).ok_or(Change::Content)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    /// Waits until the page knows how it ended, at most until `until`.
    pub(super) fn wait_until_told(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.lock(), left, |state| !state.is_told);
        drop(waited);
    }

    /// Takes note of what the receiver says of itself.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Progress(progress) => self.lock().held_bytes = progress.bytes_done,
            Event::Phase(Phase::Transferring) => self.lock().delivery.begins(),
            _ => return,
        }
        self.changed.notify_all();
    }

    /// It is over.
    pub(super) fn end(&self, delivery: Delivery) {
        self.lock().delivery = delivery;
        self.changed.notify_all();
    }

    fn what_is_wanted(&self, state: &State) -> Wants {
        let lacking = state.wanted_digests.iter().filter(|number| !state.digests.contains_key(number));
        let mut digests: Vec<(u32, u32, u32)> = Vec::new();
        for place in lacking.filter_map(|&number| self.place(state, number)) {
            let open = digests.last_mut().filter(|(file, first, count)| {
                *file == place.0 && *first + *count == place.1 && *count < u32::from(HASH_PAGE_CHUNKS_MAX)
            });
            if let Some((_, _, count)) = open {
                *count += 1;
            } else if digests.len() < WANTS_MAX {
                digests.push((place.0, place.1, 1));
            } else {
                break;
            }
        }
        let length_of = |number| self.listing.place(number).map_or(0, |place| place.length().0);
        let lacking = state.chunks.lacking(length_of);
        let chunks = lacking.filter_map(|number| self.place(state, number)).take(WANTS_MAX).collect();
        Wants { delivery: state.delivery.clone(), digests, chunks, held_bytes: state.held_bytes }
    }

    /// The page's file and chunk of that number in the listing.
    fn place(&self, state: &State, number: u64) -> Option<(u32, u32)> {
        let ChunkPlace { entry, index: ChunkIndex(index), .. } = self.listing.place(number)?;
        if state.unreadable.contains(&entry) {
            return None;
        }
        Some((*self.files.get(&entry)?, index))
    }

    fn is_lost(&self, state: &State, number: u64) -> bool {
        self.cancel.is_cancelled()
            || self.listing.place(number).is_none_or(|place| state.unreadable.contains(&place.entry))
    }

    fn chunks_of(&self, file: u32) -> Option<Range<u64>> {
        Some(self.listing.chunks_of(*self.entries.get(file as usize)?))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expected {
    /// A chunk was sent: its room is for others.
    pub(super) fn sent(&mut self, number: u64) {
        if self.chunks.remove(&number) {
            self.parcel.lock().chunks.release(number);
            self.parcel.changed.notify_all();
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut state = self.parcel.lock();
        self.chunks.iter().for_each(|&number| state.chunks.release(number));
        drop(state);
        self.parcel.changed.notify_all();
    }
}

impl Delivery {
    /// Whether nothing follows.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Complete { .. } | Self::Failed { .. } | Self::Refused)
    }

    /// Something is asked for, so the user took it.
    fn begins(&mut self) {
        if *self == Self::Asking {
            *self = Self::Sending;
        }
    }
}

/// Bytes of chunks that are held for lanes which have not come to them.
const HELD_BYTES_MAX: usize = 32 << 20;
/// Most things that a page is asked for at a time.
const WANTS_MAX: usize = 256;
