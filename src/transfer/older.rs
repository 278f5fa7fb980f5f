//! Older versions of files under way: what is known of them, and the chunks that are made of them.

use super::engine::{Engine, OpenPartial, lock};
use super::lane_thread::number_of;
use crate::chunk::{ChunkIndex, Geometry};
use crate::chunk_set::ChunkSet;
use crate::digest::ChunkDigest;
use crate::limits::SHARED_DIGESTS_MAX;
use crate::manifest::{Entry, EntryIndex};
use crate::outline::{Moved, Part, Segment, SegmentIndex, Shape};
use crate::session::Input;
use crate::store::{Disk, Older, StoreError};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// The older version of an open file.
pub(super) struct Base<D: Disk> {
    older: Older<D>,
    geometry: Geometry,
    /// What its chunks hash to, where they lie as those of the new version do and were hashed before.
    digests: Option<Vec<ChunkDigest>>,
    index: OnceLock<SegmentIndex>,
    moved: OnceLock<Moved>,
}

/// Hashes of files that were compared and differ, until they are opened; at most [`SHARED_DIGESTS_MAX`], beyond which files are
/// read again.
#[derive(Debug, Default)]
pub(super) struct Compared {
    digests: HashMap<EntryIndex, Vec<ChunkDigest>>,
    held: u64,
}

impl Compared {
    pub(super) fn keep(&mut self, entry: EntryIndex, digests: Vec<ChunkDigest>) {
        let count = digests.len() as u64;
        if self.held + count <= SHARED_DIGESTS_MAX {
            self.held += count;
            self.digests.insert(entry, digests);
        }
    }

    fn take(&mut self, entry: EntryIndex) -> Option<Vec<ChunkDigest>> {
        let digests = self.digests.remove(&entry)?;
        self.held -= digests.len() as u64;
        Some(digests)
    }
}

impl<D: Disk> Base<D> {
    /// The older version of the file at `entry`, where there is one that a new one would be made of.
    pub(super) fn of(engine: &Engine<'_, D>, entry: EntryIndex, listed: &Entry, geometry: Geometry) -> Option<Self> {
        // What is written to a stream has nothing to do with what lies here.
        if engine.sink.is_some() {
            return None;
        }
        let digests = lock(&engine.compared).take(entry);
        let older = engine.store.open_older(&listed.path)?;
        let is_same_length = older.length() == geometry.file_length();
        let digests = digests.filter(|_| is_same_length);
        Some(Self { older, geometry, digests, index: OnceLock::new(), moved: OnceLock::new() })
    }

    /// Indices of the chunks whose bytes it may have in the same place.
    pub(super) fn candidates(&self) -> ChunkSet {
        let (older, file) = (self.older.length().0, self.geometry.file_length().0);
        let count =
            if older >= file { u64::from(self.geometry.count().0) } else { older / self.geometry.chunk_length().0 };
        ChunkSet::of(0..count)
    }

    /// What chunk `index` can be made of, if it is to have that hash.
    fn parts(&self, index: ChunkIndex, promised: ChunkDigest) -> Option<Vec<Part>> {
        let span = self.geometry.span(index)?;
        let bytes: Range<u64> = span.offset.0..span.offset.0 + span.length.0;
        if let Some(parts) = self.moved.get().and_then(|moved| moved.parts(bytes)) {
            return Some(parts);
        }
        let is_there = match &self.digests {
            Some(digests) => digests.get(index.as_usize()) == Some(&promised),
            None => self.older.holds(self.geometry, index, promised),
        };
        is_there.then(|| vec![Part { offset: span.offset.0, length: span.length.0 }])
    }

    fn index(&self) -> &SegmentIndex {
        self.index.get_or_init(|| {
            let mut index = SegmentIndex::default();
            if let Some(shape) = Shape::of(self.geometry.file_length()) {
                self.older.cut(shape, &mut |segment| index.push(segment));
            }
            index.sorted()
        })
    }

    /// Indices of the chunks that can be put together of what it holds.
    fn find(&self, outline: &[Segment]) -> ChunkSet {
        let moved = self.moved.get_or_init(|| Moved::find(outline, self.index()));
        let is_there = |index: &u32| {
            let span = self.geometry.span(ChunkIndex(*index));
            span.is_some_and(|span| moved.parts(span.offset.0..span.offset.0 + span.length.0).is_some())
        };
        let found = (0..self.geometry.count().0).filter(is_there);
        found.map(|index| u64::from(index)..u64::from(index) + 1).collect()
    }
}

impl<D: Disk> OpenPartial<D> {
    /// Whether chunk `index` is there with the hash that is `promised`, or was made of the older version.
    pub(super) fn has(&self, index: ChunkIndex, promised: ChunkDigest) -> Result<bool, StoreError> {
        if self.file.check_claim(index, promised)? {
            return Ok(true);
        }
        let Some(base) = &self.base else { return Ok(false) };
        match base.parts(index, promised) {
            Some(parts) => self.file.adopt(&base.older, index, &parts, promised),
            None => Ok(false),
        }
    }
}

/// Cuts an older version while the outline that it is to be matched with comes.
pub(super) fn cut<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex) {
    if let Some(base) = base_of(engine, entry) {
        base.index();
    }
}

/// Looks for what the outline says in the older version.
pub(super) fn find<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, outline: &[Segment]) {
    // A file that failed meanwhile has none; nobody waits for the answer.
    let Some(base) = base_of(engine, entry) else { return };
    let found = base.find(outline);
    drop(base);
    let first = number_of(engine, entry, ChunkIndex(0));
    let chunks = found.ranges().map(|range| first + range.start..first + range.end).collect();
    engine.step(Input::Matched { entry, chunks });
}

fn base_of<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex) -> Option<Arc<Base<D>>> {
    lock(&engine.partials).get(&entry)?.base.clone()
}
