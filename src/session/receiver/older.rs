//! Files of which an older version is there: what lies where it did is taken from it, and what moved is looked for in it.
//!
//! A chunk that is missed where it was is held back until enough is known. Where little is missed, it is fetched. Where much is,
//! the sender is asked for an outline of the file, one file at a time, and nothing of that one is compared or fetched meanwhile; what
//! can be put together by the outline counts as claimed, and the rest is fetched.

use super::Output;
use super::fetch::Fetch;
use super::lane::{Answer, Lane};
use crate::chunk_set::ChunkSet;
use crate::limits::OLDER_MISSED_BYTES;
use crate::manifest::EntryIndex;
use crate::outline::{Segment, Shape};
use crate::session::{LaneId, PeerFault};
use crate::wire::Message;
use std::collections::VecDeque;
use std::time::Duration;

/// An open file whose older version may hold more of it than is known.
#[derive(Debug, Default)]
pub(super) struct Older {
    /// Chunks that are not where they were, and are not fetched yet.
    missed: ChunkSet,
    /// Bytes of them that were missed, and of all chunks that were compared, since nothing was held back.
    missed_bytes: u64,
    compared_bytes: u64,
    outlining: Outlining,
}

/// How far the outline of a file is.
#[derive(Debug, Default, Eq, PartialEq)]
enum Outlining {
    /// Nothing speaks for one.
    #[default]
    Unneeded,
    /// It is to be asked for.
    Due,
    /// Its segments come.
    Coming { segments: Vec<Segment>, end: u64 },
    /// It is complete, and is being compared.
    Matching,
}

impl Older {
    /// Whether chunks are only noted that might be compared: what the outline says of them comes first.
    fn holds_back(&self) -> bool {
        self.outlining != Outlining::Unneeded
    }
}

impl Fetch {
    /// Notes that an older version of an open file is there.
    pub(super) fn has_older(&mut self, entry: EntryIndex) {
        let length = self.listing.geometry(entry).map(crate::chunk::Geometry::file_length);
        if self.takes_outlines && length.is_some_and(|length| Shape::of(length).is_some()) {
            self.older.insert(entry, Older::default());
        }
    }

    /// Whether claimed chunks of a file may be compared by now.
    pub(super) fn may_compare(&self, entry: EntryIndex) -> bool {
        !self.older.get(&entry).is_some_and(Older::holds_back)
    }

    /// The lowest chunk that is held back.
    pub(super) fn first_held_back(&self) -> Option<u64> {
        // In the order of the entries, and so of their chunks.
        self.older.values().find_map(|older| older.missed.first())
    }

    /// A chunk was compared, and whether it is there.
    pub(super) fn compared_chunk(&mut self, entry: EntryIndex, chunk: u64, is_there: bool) {
        let bytes = self.listing.place(chunk).map_or(0, |place| place.length().0);
        let Some(older) = self.older.get_mut(&entry) else {
            if !is_there && self.files.takes_chunks(entry) {
                self.wanted.insert(chunk..chunk + 1);
            }
            return;
        };
        older.compared_bytes += bytes;
        if !is_there {
            older.missed.insert(chunk..chunk + 1);
            older.missed_bytes += bytes;
        }
    }

    /// Decides about what is held back of a file, once enough was compared.
    pub(super) fn weigh_missed(&mut self, entry: EntryIndex) {
        let chunks = self.listing.chunks_of(entry);
        let is_all = self.claimed.within(chunks).next().is_none();
        let Some(older) = self.older.get_mut(&entry).filter(|older| !older.holds_back()) else { return };
        let is_enough =
            older.missed_bytes >= OLDER_MISSED_BYTES || older.compared_bytes >= 8 * OLDER_MISSED_BYTES || is_all;
        if !is_enough {
            return;
        }
        // A quarter. One chunk alone has nowhere to be but where it was, or in parts.
        if older.missed.len() > 1 && 4 * older.missed_bytes >= older.compared_bytes {
            older.outlining = Outlining::Due;
            return;
        }
        self.wanted.union(&std::mem::take(&mut older.missed));
        (older.missed_bytes, older.compared_bytes) = (0, 0);
        if is_all {
            self.older.remove(&entry);
        }
    }

    /// Asks for the next page of the outline that is due, one at a time.
    pub(super) fn ask_for_outline(
        &mut self,
        now: Duration,
        id: LaneId,
        lane: &mut Lane,
        outputs: &mut VecDeque<Output>,
    ) {
        if self.outline_asked.is_some() {
            return;
        }
        let is_coming = |older: &Older| matches!(older.outlining, Outlining::Coming { .. } | Outlining::Matching);
        let begun = self.older.iter().find(|(_, older)| is_coming(older)).map(|(&entry, _)| entry);
        let due = || self.older.iter().find(|(_, older)| older.outlining == Outlining::Due).map(|(&entry, _)| entry);
        let Some(entry) = begun.or_else(due) else { return };
        let Some(older) = self.older.get_mut(&entry) else { return };
        if older.outlining == Outlining::Due {
            older.outlining = Outlining::Coming { segments: Vec::new(), end: 0 };
            outputs.push_back(Output::CutOlder { entry });
        }
        if let Outlining::Coming { end, .. } = older.outlining {
            self.outline_asked = Some((entry, end));
            lane.asked(now, Answer::OutlinePage);
            let message = Message::OutlineRequest { entry: entry.0, offset: end };
            outputs.push_back(Output::Send { lane: id, message });
        }
    }

    /// Takes a page of an outline.
    pub(super) fn take_outline(
        &mut self,
        entry: EntryIndex,
        offset: u64,
        page: Vec<Segment>,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), PeerFault> {
        let asked = self.outline_asked.take().ok_or(PeerFault::OutOfTurn("OutlinePage"))?;
        let length = self.listing.geometry(entry).map(crate::chunk::Geometry::file_length);
        let (Some(length), true) = (length, asked == (entry, offset)) else { return Err(PeerFault::Outline) };
        let shape = Shape::of(length).ok_or(PeerFault::Outline)?;
        let mut reached = offset;
        for segment in &page {
            reached += u64::from(segment.length);
            let is_short = segment.length < shape.shortest() && reached != length.0;
            if segment.length == 0 || is_short || segment.length > shape.longest() || reached > length.0 {
                return Err(PeerFault::Outline);
            }
        }
        // The file may have failed meanwhile.
        let Some(older) = self.older.get_mut(&entry) else { return Ok(()) };
        let Outlining::Coming { segments, end } = &mut older.outlining else { return Ok(()) };
        if page.is_empty() {
            self.matched(entry, &ChunkSet::new(), outputs);
            return Ok(());
        }
        segments.extend(page);
        *end = reached;
        if reached == length.0 {
            let outline = std::mem::take(segments);
            older.outlining = Outlining::Matching;
            outputs.push_back(Output::Match { entry, outline });
        }
        Ok(())
    }

    /// What can be put together of an older version is known: `found` is compared with its hashes, and all else that is not
    /// where it was is fetched.
    pub(super) fn matched(&mut self, entry: EntryIndex, found: &ChunkSet, outputs: &mut VecDeque<Output>) {
        let Some(mut older) = self.older.remove(&entry) else { return };
        let chunks = self.listing.chunks_of(entry);
        for range in found.within(chunks.clone()) {
            // What a lane was asked for comes anyway.
            let waiting: Vec<_> = self.wanted.within(range.clone()).chain(older.missed.within(range)).collect();
            for range in waiting {
                self.wanted.remove(range.clone());
                older.missed.remove(range.clone());
                self.held.retain(|chunk, _| !range.contains(chunk));
                self.claimed.insert(range);
            }
        }
        self.wanted.union(&older.missed);
        self.check_claims(chunks.start..chunks.end.min(self.pages.next()), outputs);
    }

    /// Gives up what has to be asked for, where the sender that came back answers no such question.
    pub(super) fn forgo_outlines(&mut self, outputs: &mut VecDeque<Output>) {
        self.takes_outlines = false;
        let is_open = |older: &Older| older.outlining != Outlining::Matching;
        let open = self.older.iter().filter(|(_, older)| is_open(older)).map(|(&entry, _)| entry);
        for entry in open.collect::<Vec<_>>() {
            self.matched(entry, &ChunkSet::new(), outputs);
        }
    }
}
