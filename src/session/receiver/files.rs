//! What became of each entry so far.

use super::Plan;
use crate::limits::OPEN_PARTIALS_MAX;
use crate::manifest::{Entry, EntryIndex, EntryKind, Listing};
use std::collections::BTreeMap;

/// State of one entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileState {
    /// Its root is to be compared with a file that is there, once it is known.
    AwaitingRoot,
    /// It is being compared.
    Comparing,
    /// Published, identical, skipped, made, or a folder.
    Done,
    /// Given up.
    Failed,
    /// A link, which is made after all files.
    Link,
    /// Its partial is open and takes chunks.
    Open,
    /// Its partial is being opened.
    Opening,
    /// All of it is stored, and it is being published.
    Publishing,
    /// To fetch.
    Wanted,
}

/// The states of all entries.
#[derive(Debug)]
pub(super) struct Files {
    states: Vec<FileState>,
    /// Chunks that each open file lacks.
    lacking: BTreeMap<EntryIndex, u64>,
    /// Entries that are not final.
    unfinished: u32,
    /// How many of those are links.
    links: u32,
    failed: u32,
    publishing: usize,
    opening: usize,
    /// The first entry that may be an empty file to publish.
    empty_cursor: u32,
}

impl Files {
    pub(super) fn new(listing: &Listing, plans: &[Plan]) -> Self {
        let mut files = Self {
            states: Vec::with_capacity(listing.entries().len()),
            lacking: BTreeMap::new(),
            unfinished: 0,
            links: 0,
            failed: 0,
            publishing: 0,
            opening: 0,
            empty_cursor: 0,
        };
        for (place, entry) in listing.entries().iter().enumerate() {
            let state = first_state(entry, plans.get(place));
            files.unfinished += u32::from(!matches!(state, FileState::Done | FileState::Failed));
            files.links += u32::from(state == FileState::Link);
            files.failed += u32::from(state == FileState::Failed);
            files.states.push(state);
        }
        files
    }

    pub(super) fn state(&self, entry: EntryIndex) -> FileState {
        self.states.get(entry.as_usize()).copied().unwrap_or(FileState::Failed)
    }

    /// Moves an entry that is not final to another state that is not.
    pub(super) fn set(&mut self, entry: EntryIndex, state: FileState) {
        match self.states[entry.as_usize()] {
            FileState::Link => self.links -= 1,
            FileState::Opening => self.opening -= 1,
            FileState::Publishing => self.publishing -= 1,
            _ => {}
        }
        match state {
            FileState::Opening => self.opening += 1,
            FileState::Publishing => self.publishing += 1,
            _ => {}
        }
        self.states[entry.as_usize()] = state;
    }

    /// Moves an entry to a final state, once.
    pub(super) fn finish(&mut self, entry: EntryIndex, state: FileState) {
        if self.is_final(entry) {
            return;
        }
        self.set(entry, state);
        self.lacking.remove(&entry);
        self.unfinished -= 1;
        self.failed += u32::from(state == FileState::Failed);
    }

    /// Counts entries that were done and failed after all, as everything was made durable.
    pub(super) fn failed_at_the_end(&mut self, entries: u32) {
        self.failed = self.failed.saturating_add(entries);
    }

    pub(super) fn is_final(&self, entry: EntryIndex) -> bool {
        matches!(self.state(entry), FileState::Done | FileState::Failed)
    }

    /// Whether chunks of the entry are of use.
    pub(super) fn takes_chunks(&self, entry: EntryIndex) -> bool {
        matches!(self.state(entry), FileState::Open | FileState::Opening | FileState::Wanted)
    }

    /// Whether another partial may be opened.
    pub(super) fn may_open(&self) -> bool {
        self.lacking.len() + self.opening < OPEN_PARTIALS_MAX
    }

    pub(super) fn opened(&mut self, entry: EntryIndex, chunks: u64) {
        self.set(entry, FileState::Open);
        self.lacking.insert(entry, chunks);
    }

    /// Counts one chunk of a file as stored. A file that was not opened has one chunk.
    pub(super) fn chunk_stored(&mut self, entry: EntryIndex) {
        if let Some(lacking) = self.lacking.get_mut(&entry) {
            *lacking = lacking.saturating_sub(1);
        } else if self.state(entry) == FileState::Wanted {
            self.set(entry, FileState::Open);
            self.lacking.insert(entry, 0);
        }
    }

    /// Moves a file that lacks no chunk on to its publication. False for any other.
    pub(super) fn begin_publish(&mut self, entry: EntryIndex) -> bool {
        let complete = self.state(entry) == FileState::Open && self.lacking.get(&entry) == Some(&0);
        if complete {
            self.lacking.remove(&entry);
            self.set(entry, FileState::Publishing);
        }
        complete
    }

    /// The next empty file to publish, now publishing.
    pub(super) fn next_empty(&mut self, listing: &Listing) -> Option<EntryIndex> {
        while let Some(entry) = listing.entries().get(self.empty_cursor as usize) {
            let index = EntryIndex(self.empty_cursor);
            self.empty_cursor += 1;
            let is_empty = entry.file_length().is_some_and(|length| length.0 == 0);
            if is_empty && self.state(index) == FileState::Wanted {
                self.set(index, FileState::Publishing);
                return Some(index);
            }
        }
        None
    }

    pub(super) fn publishing(&self) -> usize {
        self.publishing
    }

    pub(super) fn all_final(&self) -> bool {
        self.unfinished == 0
    }

    /// Whether nothing but links is left.
    pub(super) fn only_links_left(&self) -> bool {
        self.unfinished == self.links
    }

    /// The links that are to be made, in listing order.
    pub(super) fn links(&self) -> Vec<EntryIndex> {
        let states = (0..).map(EntryIndex).zip(&self.states);
        states.filter(|(_, state)| **state == FileState::Link).map(|(entry, _)| entry).collect()
    }

    pub(super) fn failed(&self) -> u32 {
        self.failed
    }
}

/// What a plan makes of an entry. One that does not fit its kind is a failure.
fn first_state(entry: &Entry, plan: Option<&Plan>) -> FileState {
    match (&entry.kind, plan) {
        (EntryKind::File { length }, Some(Plan::Compare | Plan::Weigh)) if length.0 > 0 => FileState::AwaitingRoot,
        (EntryKind::Folder, _)
        | (_, Some(Plan::Done { .. } | Plan::Folder | Plan::Skip))
        | (EntryKind::File { .. }, Some(Plan::Weigh)) => FileState::Done,
        (EntryKind::HardLink { .. } | EntryKind::Symlink { .. }, Some(Plan::Link)) => FileState::Link,
        (EntryKind::File { .. }, Some(Plan::Fetch | Plan::Compare)) => FileState::Wanted,
        _ => FileState::Failed,
    }
}
