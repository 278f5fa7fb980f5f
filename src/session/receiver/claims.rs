//! What is there already: which chunks are to be compared with their hashes, once those are known.

use super::Output;
use super::fetch::Fetch;
use super::files::FileState;
use crate::chunk::ChunkIndex;
use crate::chunk_set::ChunkSet;
use crate::digest::ChunkDigest;
use crate::manifest::EntryIndex;
use std::collections::VecDeque;
use std::ops::Range;

impl Fetch {
    /// A file is open; what is claimed to be there is compared as its hashes come.
    pub(super) fn file_opened(
        &mut self,
        entry: EntryIndex,
        claims: &ChunkSet,
        has_older: bool,
        outputs: &mut VecDeque<Output>,
    ) {
        if self.files.state(entry) != FileState::Opening {
            return;
        }
        if has_older {
            self.has_older(entry);
        }
        let chunks = self.listing.chunks_of(entry);
        self.files.opened(entry, chunks.end - chunks.start);
        for range in claims.within(0..chunks.end - chunks.start) {
            let range = chunks.start + range.start..chunks.start + range.end;
            self.wanted.remove(range.clone());
            self.claimed.insert(range);
        }
        self.check_claims(chunks.start..chunks.end.min(self.pages.next()), outputs);
    }

    pub(super) fn claims_checked(
        &mut self,
        entry: EntryIndex,
        checked: &ChunkSet,
        good: &ChunkSet,
        outputs: &mut VecDeque<Output>,
    ) {
        let chunks = self.listing.chunks_of(entry);
        for chunk in checked.within(chunks).flatten() {
            self.checking.remove(chunk..chunk + 1);
            if !self.claimed.contains(chunk) {
                continue;
            }
            self.claimed.remove(chunk..chunk + 1);
            let is_there = good.contains(chunk);
            if is_there {
                self.files.chunk_stored(entry);
            }
            self.compared_chunk(entry, chunk, is_there);
        }
        self.weigh_missed(entry);
        self.publish_if_complete(entry, outputs);
    }

    /// Tells the hashes of chunks in `window` where they are wanted.
    pub(super) fn weigh(&self, window: Range<u64>, outputs: &mut VecDeque<Output>) {
        if self.weighed.is_empty() {
            return;
        }
        let is_weighed = |number: &u64| {
            self.listing.place(*number).is_some_and(|place| {
                self.weighed.contains(&place.entry) && self.files.state(place.entry) == FileState::AwaitingRoot
            })
        };
        let by_file = self.promises(window.filter(is_weighed));
        outputs.extend(by_file.into_iter().map(|(entry, chunks)| Output::Weigh { entry, chunks }));
    }

    /// Has claimed chunks in `window`, whose hashes are known, compared.
    pub(super) fn check_claims(&mut self, window: Range<u64>, outputs: &mut VecDeque<Output>) {
        let ranges: Vec<_> = self.claimed.within(window).collect();
        // Two that check the same chunk would stand in each other's way.
        let unchecked = ranges.into_iter().flatten().filter(|&chunk| !self.checking.contains(chunk));
        for (entry, chunks) in self.promises(unchecked) {
            if self.may_compare(entry) {
                let first = self.listing.chunks_of(entry).start;
                for (index, _) in &chunks {
                    let chunk = first + u64::from(index.0);
                    self.checking.insert(chunk..chunk + 1);
                }
                outputs.push_back(Output::CheckClaims { entry, chunks });
            }
        }
    }

    /// The hashes of chunks, as far as they are held, by file.
    fn promises(&self, numbers: impl Iterator<Item = u64>) -> Vec<(EntryIndex, Vec<(ChunkIndex, ChunkDigest)>)> {
        let mut by_file: Vec<(EntryIndex, Vec<(ChunkIndex, ChunkDigest)>)> = Vec::new();
        for number in numbers {
            let (Some(place), Some(digest)) = (self.listing.place(number), self.pages.promised(number)) else {
                continue;
            };
            match by_file.last_mut() {
                Some((entry, chunks)) if *entry == place.entry => chunks.push((place.index, digest)),
                _ => by_file.push((place.entry, vec![(place.index, digest)])),
            }
        }
        by_file
    }
}
