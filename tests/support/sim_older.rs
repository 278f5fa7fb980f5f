//! Older versions of files in a simulation: planted, cut, matched with outlines, and made into chunks of the new ones.

use super::sim_receiver::{OnConflict, ReceiverEvent, ReceiverHost};
use super::sim_rng::Rng;
use super::sim_sender::Around;
use super::sim_shelf::Shelf;
use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::chunk_set::ChunkSet;
use haul::digest::ChunkDigest;
use haul::manifest::EntryIndex;
use haul::outline::{Cutter, Moved, Part, Segment, SegmentIndex, Shape};
use haul::rel_path::RelPath;
use haul::session::Input;

/// The segments of `bytes`, as part of a file of that length.
pub(crate) fn segments(file: Length, mut bytes: &[u8]) -> Vec<Segment> {
    let mut cutter = Cutter::new(Shape::of(file).unwrap());
    let mut segments = Vec::new();
    while !bytes.is_empty() {
        let (taken, segment) = cutter.take(bytes);
        bytes = &bytes[taken..];
        segments.extend(segment);
    }
    segments.extend(cutter.end());
    segments
}

/// What a file may have been before it became what it is.
pub(crate) fn older_than(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut old = bytes.to_vec();
    let at = rng.below(old.len() as u64 + 1) as usize;
    match rng.below(5) {
        0 => drop(old.splice(0..0, vec![7; 5000])),
        1 => drop(old.splice(at..at, vec![9; 70_001])),
        2 => drop(old.drain(..at)),
        3 => old.rotate_left(at),
        _ => old.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1),
    }
    old
}

impl<S: Shelf> ReceiverHost<S> {
    /// The chunks that an older version may have in the same place, where there is one.
    pub(super) fn candidates(&self, around: &Around, path: &RelPath, geometry: Geometry) -> Option<ChunkSet> {
        let is_used = around.core.rng.has_older && self.on_conflict == OnConflict::Overwrite;
        let old = self.shelf.bytes_of(path).filter(|old| is_used && !old.is_empty())?;
        let is_there = |index: &u32| {
            let span = geometry.span(ChunkIndex(*index)).unwrap();
            span.offset.0 + span.length.0 <= old.len() as u64
        };
        let there = (0..geometry.count().0).filter(is_there).map(u64::from);
        Some(there.map(|index| index..index + 1).collect())
    }

    /// Whether a chunk is there, or was made of the older version.
    pub(super) fn has_chunk(
        &mut self,
        around: &mut Around,
        entry: EntryIndex,
        (index, promised): (ChunkIndex, ChunkDigest),
    ) -> Result<bool, String> {
        let (path, _) = self.file(entry);
        if self.shelf.check(&path, index, promised)? {
            return Ok(true);
        }
        let geometry = self.session.listing().unwrap().geometry(entry).unwrap();
        let is_there = self.candidates(around, &path, geometry);
        let span = geometry.span(index).unwrap();
        let bytes = span.offset.0..span.offset.0 + span.length.0;
        let moved = self.moved.get(&entry).and_then(|moved| moved.parts(bytes));
        let in_place = || vec![Part { offset: span.offset.0, length: span.length.0 }];
        let in_place = is_there.is_some_and(|there| there.contains(u64::from(index.0))).then(in_place);
        let Some(parts) = moved.or(in_place) else { return Ok(false) };
        let is_made = self.shelf.adopt(&path, index, &parts, promised)?;
        around.core.counts.add("chunks made of older versions", u64::from(is_made));
        Ok(is_made)
    }

    pub(super) fn match_older(&mut self, around: &mut Around, entry: EntryIndex, outline: &[Segment]) {
        if self.watch.has_failed(entry) {
            return;
        }
        let (path, _) = self.file(entry);
        let geometry = self.session.listing().unwrap().geometry(entry).unwrap();
        let bytes: u64 = outline.iter().map(|segment| u64::from(segment.length)).sum();
        self.watch.check(bytes == geometry.file_length().0, || format!("the outline of {path:?} has {bytes} bytes"));
        let mut index = SegmentIndex::default();
        let old = self.shelf.bytes_of(&path).unwrap_or_default();
        segments(geometry.file_length(), &old).into_iter().all(|segment| index.push(segment));
        let moved = Moved::find(outline, &index.sorted());
        let first = self.session.listing().unwrap().chunks_of(entry).start;
        let is_there = |index: &u32| {
            let span = geometry.span(ChunkIndex(*index)).unwrap();
            moved.parts(span.offset.0..span.offset.0 + span.length.0).is_some()
        };
        let chunks = (0..geometry.count().0).filter(is_there).map(|index| first + u64::from(index));
        let chunks: ChunkSet = chunks.map(|chunk| chunk..chunk + 1).collect();
        around.core.counts.add("outlines matched", 1);
        around.core.note("matched", u64::from(entry.0), chunks.len());
        self.moved.insert(entry, moved);
        self.tell(around, Input::Matched { entry, chunks });
    }

    /// The work of a `Match` begins.
    pub(super) fn match_soon(&mut self, around: &mut Around, entry: EntryIndex, outline: Vec<Segment>) {
        self.soon(around.core, ReceiverEvent::Match { entry, outline });
    }
}
