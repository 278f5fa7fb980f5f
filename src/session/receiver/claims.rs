//! What is there already: which chunks are to be compared with their hashes, once those are known.

use super::Output;
use super::fetch::Fetch;
use super::files::FileState;
use crate::chunk::ChunkIndex;
use crate::digest::ChunkDigest;
use crate::manifest::EntryIndex;
use std::collections::VecDeque;
use std::ops::Range;

impl Fetch {
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
    pub(super) fn check_claims(&self, window: Range<u64>, outputs: &mut VecDeque<Output>) {
        let ranges: Vec<_> = self.claimed.within(window).collect();
        let by_file = self.promises(ranges.into_iter().flatten());
        outputs.extend(by_file.into_iter().map(|(entry, chunks)| Output::CheckClaims { entry, chunks }));
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
