//! What follows when a source is no longer what the sender listed: that file fails, or the seal does without it.

use super::Output;
use super::fetch::{Closing, Fetch};
use super::lane::Lane;
use crate::manifest::EntryIndex;
use crate::session::{FileFault, PeerFault};
use crate::wire::Change;
use std::collections::VecDeque;

impl Fetch {
    /// The sender says, in place of pieces, that an entry's source is no longer what was listed.
    pub(super) fn source_changed(
        &mut self,
        lane: &mut Lane,
        entry: EntryIndex,
        change: Change,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), PeerFault> {
        lane.drop_entry(&self.listing, entry).ok_or(PeerFault::UnknownEntry)?;
        self.fail(entry, FileFault::SourceChanged(change), outputs);
        Ok(())
    }

    pub(super) fn source_changed_in_hashes(
        &mut self,
        entry: EntryIndex,
        change: Change,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), PeerFault> {
        if self.closing == Closing::Seal {
            return self.source_changed_at_seal(entry);
        }
        let request = self.hash_requests.pop_front().ok_or(PeerFault::OutOfTurn("SourceChanged"))?;
        let Some((first, _)) = request else { return Ok(()) };
        let chunks = self.listing.chunks_of(entry);
        if !chunks.contains(&first) {
            return Err(PeerFault::UnknownEntry);
        }
        self.pages.skip_to(chunks.end);
        self.restart_hash_requests();
        self.fail(entry, FileFault::SourceChanged(change), outputs);
        Ok(())
    }

    /// The sender cannot confirm the root of a file any more. Its bytes are verified against its pages, and it may still
    /// be under way; only the seal does without it.
    fn source_changed_at_seal(&mut self, entry: EntryIndex) -> Result<(), PeerFault> {
        if self.root(entry).is_none() || !self.unconfirmed.insert(entry) {
            return Err(PeerFault::UnknownEntry);
        }
        self.closing = Closing::Hashes;
        Ok(())
    }
}
