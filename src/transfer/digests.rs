//! The chunk digests that an offer remembers, and which of them somebody is taking right now: each is taken once,
//! however many receivers ask for it and whenever they do.

use crate::chunk_set::ChunkSet;
use crate::digest::ChunkDigest;
use crate::limits::{HASH_PAGE_CHUNKS_MAX, SHARED_DIGESTS_MAX};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Digests that are remembered and forgotten together.
const BLOCK_CHUNKS: u64 = HASH_PAGE_CHUNKS_MAX as u64;

/// The digests that are known, up to [`SHARED_DIGESTS_MAX`] of them; those asked for longest ago are forgotten first.
#[derive(Debug)]
pub(super) struct Digests {
    state: Mutex<State>,
    /// A claim ended.
    given_back: Condvar,
    blocks_max: usize,
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<u64, Block>,
    uses: u64,
    /// Chunks that somebody takes the digest of.
    claimed: ChunkSet,
}

#[derive(Debug)]
struct Block {
    last_use: u64,
    digests: Vec<Option<ChunkDigest>>,
}

/// What stands between a question and its answer.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing: these are the digests.
    Known(Vec<ChunkDigest>),
    /// Chunks whose digests the caller is to take.
    Take(Claim),
    /// Others took those that are missing, for as long as the caller was ready to wait.
    Wait,
}

/// The right to take the digests of these chunks, which nobody else does meanwhile. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Claim {
    digests: Arc<Digests>,
    chunks: Range<u64>,
}

impl Default for Digests {
    fn default() -> Self {
        Self::bounded(SHARED_DIGESTS_MAX)
    }
}

impl Digests {
    /// Remembers at most `digests_max`, in whole blocks.
    pub(super) fn bounded(digests_max: u64) -> Self {
        let blocks_max = usize::try_from(digests_max / BLOCK_CHUNKS).unwrap_or(usize::MAX).max(1);
        Self { state: Mutex::default(), given_back: Condvar::new(), blocks_max }
    }

    /// The digests of `chunks`, or what is to be done for the first that are missing. Waits for others at most `patience`.
    pub(super) fn next(self: &Arc<Self>, chunks: &Range<u64>, patience: Duration) -> Next {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(known) = state.known(chunks) {
                return Next::Known(known);
            }
            if let Some(free) = state.first_free(chunks) {
                state.claimed.insert(free.clone());
                return Next::Take(Claim { digests: Arc::clone(self), chunks: free });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Wait;
            }
            state = self.given_back.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The digests of the first of `chunks`, up to the first that is not known.
    pub(super) fn known_from(&self, chunks: &Range<u64>) -> Vec<ChunkDigest> {
        let mut state = self.lock();
        chunks.clone().map_while(|chunk| state.find(chunk)).collect()
    }

    /// Remembers the digests of the chunks from `first` on.
    pub(super) fn put(&self, first: u64, digests: impl Iterator<Item = ChunkDigest>) {
        let mut state = self.lock();
        for (chunk, digest) in (first..).zip(digests) {
            state.uses += 1;
            let last_use = state.uses;
            let fresh = || Block { last_use, digests: vec![None; usize::from(HASH_PAGE_CHUNKS_MAX)] };
            let block = state.blocks.entry(chunk / BLOCK_CHUNKS).or_insert_with(fresh);
            block.last_use = last_use;
            block.digests[place_in_block(chunk)] = Some(digest);
            if state.blocks.len() > self.blocks_max {
                state.forget_oldest();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&mut self, chunk: u64) -> Option<ChunkDigest> {
        self.uses += 1;
        let block = self.blocks.get_mut(&(chunk / BLOCK_CHUNKS))?;
        block.last_use = self.uses;
        block.digests[place_in_block(chunk)]
    }

    fn known(&mut self, chunks: &Range<u64>) -> Option<Vec<ChunkDigest>> {
        chunks.clone().map(|chunk| self.find(chunk)).collect()
    }

    /// The first of `chunks`, with those that follow it, whose digest is neither known nor being taken.
    fn first_free(&mut self, chunks: &Range<u64>) -> Option<Range<u64>> {
        let mut is_free = |chunk: &u64| self.find(*chunk).is_none() && !self.claimed.contains(*chunk);
        let start = chunks.clone().find(&mut is_free)?;
        let end = (start..chunks.end).find(|chunk| !is_free(chunk)).unwrap_or(chunks.end);
        Some(start..end)
    }

    fn forget_oldest(&mut self) {
        let oldest = self.blocks.iter().min_by_key(|(_, block)| block.last_use).map(|(&number, _)| number);
        if let Some(oldest) = oldest {
            self.blocks.remove(&oldest);
        }
    }
}

impl Claim {
    /// The chunks whose digests are to be taken.
    pub(super) fn chunks(&self) -> Range<u64> {
        self.chunks.clone()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.digests.lock().claimed.remove(self.chunks.clone());
        self.digests.given_back.notify_all();
    }
}

fn place_in_block(chunk: u64) -> usize {
    usize::try_from(chunk % BLOCK_CHUNKS).expect("a block is short")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn digest(chunk: u64) -> ChunkDigest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&chunk.to_le_bytes());
        ChunkDigest(bytes)
    }

    fn put(digests: &Digests, chunks: Range<u64>) {
        digests.put(chunks.start, chunks.map(digest));
    }

    fn taken(next: Next) -> Claim {
        match next {
            Next::Take(claim) => claim,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_one_takes_another_waits_for_and_a_third_takes_the_rest() {
        let digests = Arc::new(Digests::default());
        let first = taken(digests.next(&(0..8), NOW));
        assert_eq!(first.chunks(), 0..8);
        assert!(matches!(digests.next(&(2..6), NOW), Next::Wait));
        let rest = taken(digests.next(&(4..12), NOW));
        assert_eq!(rest.chunks(), 8..12);
        put(&digests, 0..8);
        drop(first);
        assert!(matches!(digests.next(&(2..6), NOW), Next::Known(known) if known == [2, 3, 4, 5].map(digest)));
        assert!(matches!(digests.next(&(4..12), NOW), Next::Wait), "the rest is still being taken");
    }

    #[test]
    fn what_was_not_taken_after_all_is_taken_by_who_waited() {
        let digests = Arc::new(Digests::default());
        let given_up = taken(digests.next(&(0..4), NOW));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| digests.next(&(0..4), Duration::from_secs(60)));
            drop(given_up);
            assert_eq!(taken(waiting.join().unwrap()).chunks(), 0..4);
        });
    }

    #[test]
    fn what_nobody_asked_for_longest_is_forgotten_first_and_the_count_is_bounded() {
        let digests = Arc::new(Digests::bounded(2 * BLOCK_CHUNKS));
        put(&digests, 0..2 * BLOCK_CHUNKS);
        assert_eq!(digests.known_from(&(0..1)), [digest(0)], "the first block is of use again");
        put(&digests, 2 * BLOCK_CHUNKS..2 * BLOCK_CHUNKS + 1);
        assert_eq!(digests.lock().blocks.len(), 2);
        assert_eq!(digests.known_from(&(0..2)), [digest(0), digest(1)]);
        assert_eq!(
            taken(digests.next(&(BLOCK_CHUNKS..BLOCK_CHUNKS + 3), NOW)).chunks(),
            BLOCK_CHUNKS..BLOCK_CHUNKS + 3
        );
    }

    #[test]
    fn many_threads_take_each_digest_once() {
        let digests = Arc::new(Digests::default());
        let takings = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..16_u64 {
                let (digests, takings) = (&digests, &takings);
                scope.spawn(move || {
                    for start in 0..100 {
                        let chunks = start * 8..start * 8 + 8 + thread;
                        loop {
                            match digests.next(&chunks, Duration::from_secs(60)) {
                                Next::Known(known) => break assert_eq!(known.len() as u64, 8 + thread),
                                Next::Take(claim) => {
                                    let all = claim.chunks();
                                    takings.fetch_add(all.end - all.start, std::sync::atomic::Ordering::Relaxed);
                                    put(digests, all);
                                }
                                Next::Wait => {}
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(takings.into_inner(), 100 * 8 + 15);
    }
}
