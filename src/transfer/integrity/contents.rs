//! The content of files, compared with the hashes that they should have.

use super::file::{ManifestFile, Reference, length_of};
use super::finding::{BadRange, Difference, Finding, Found};
use super::rounds::{Counted, Rounds};
use super::sums::Roots;
use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::chunk_set::ChunkSet;
use crate::digest::{FileDigest, empty_file_digest};
use crate::manifest::EntryIndex;
use crate::source::{ChunkRun, Source, SourceError, WantedChunk};
use crate::transfer::{Cancel, TransferError};

/// A file that is there, and the entry that it should be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// The entry of the manifest.
    pub(super) entry: EntryIndex,
    /// The entry that has its content: another one where it is a link to that.
    pub(super) content: EntryIndex,
    /// Place of the file in the source.
    pub(super) here: u32,
    /// Length of the file that is there.
    pub(super) length: Length,
}

/// What is known of the file under way.
#[derive(Debug, Default)]
struct State {
    /// Chunks that differ.
    bad: ChunkSet,
    unreadable: Option<String>,
}

/// Compares the chunks of `pairs`, in order, with those of `manifest`, and tells `each` how every file ended.
pub(super) fn compare(
    manifest: &ManifestFile,
    source: &Source,
    pairs: &[Pair],
    counted: &Counted,
    cancel: &Cancel,
    each: &mut dyn FnMut(Pair, Option<Finding>),
) -> Result<(), TransferError> {
    let listing = manifest.listing();
    // Rounds are told apart by the place of a pair: several files of the folder are never one, but nothing hangs on it.
    let files = (0u32..).zip(pairs).map(|(place, pair)| (place, Length(length_of(listing, pair.content))));
    let mut ending = Ending { manifest, pairs, next: 0, state: State::default(), each };
    for round in Rounds::new(files) {
        if cancel.is_cancelled() {
            return Err(TransferError::Interrupted);
        }
        let wanted = wanted(manifest, pairs, &round)?;
        if let Some(pair) = round.first().and_then(|run| pairs.get(run.entry as usize))
            && let Some(entry) = listing.entry(pair.entry)
        {
            counted.on(entry.path.as_str());
        }
        let outcomes = source.chunks_match(&wanted);
        for ((place, wanted), outcome) in places(&round).zip(&wanted).zip(outcomes) {
            ending.up_to(place, counted);
            ending.take(wanted.index, outcome);
            counted.bytes(wanted.geometry.span(wanted.index).map_or(0, |span| span.length.0));
        }
    }
    ending.up_to(u32::MAX, counted);
    Ok(())
}

/// The pair of each chunk of a round.
fn places(round: &[ChunkRun]) -> impl Iterator<Item = u32> + '_ {
    round.iter().flat_map(|run| (run.chunks.start.0..run.chunks.end.0).map(|_| run.entry))
}

fn wanted(manifest: &ManifestFile, pairs: &[Pair], round: &[ChunkRun]) -> Result<Vec<WantedChunk>, TransferError> {
    let listing = manifest.listing();
    let mut wanted = Vec::new();
    for run in round {
        let Some(pair) = pairs.get(run.entry as usize) else { continue };
        let Some(geometry) = listing.geometry(pair.content) else { continue };
        let first = listing.chunks_of(pair.content).start;
        let numbers = first + u64::from(run.chunks.start.0)..first + u64::from(run.chunks.end.0);
        for (index, digest) in (run.chunks.start.0..).zip(manifest.digests(numbers)?) {
            wanted.push(WantedChunk { entry: pair.here, geometry, index: ChunkIndex(index), digest });
        }
    }
    Ok(wanted)
}

/// Files that end, in order.
struct Ending<'a> {
    manifest: &'a ManifestFile,
    pairs: &'a [Pair],
    /// The file under way.
    next: usize,
    state: State,
    each: &'a mut dyn FnMut(Pair, Option<Finding>),
}

impl Ending<'_> {
    /// Ends every file before `place`.
    fn up_to(&mut self, place: u32, counted: &Counted) {
        while self.next < self.pairs.len() && self.next < place as usize {
            let pair = self.pairs[self.next];
            let state = std::mem::take(&mut self.state);
            let finding = self.finding(pair, state);
            (self.each)(pair, finding);
            counted.file();
            self.next += 1;
        }
    }

    fn take(&mut self, index: ChunkIndex, outcome: Result<bool, SourceError>) {
        match outcome {
            Ok(true) => {}
            Ok(false) => self.state.bad.insert(u64::from(index.0)..u64::from(index.0) + 1),
            Err(fault) => {
                self.state.unreadable.get_or_insert_with(|| fault.to_string());
            }
        }
    }

    fn finding(&self, pair: Pair, state: State) -> Option<Finding> {
        let listing = self.manifest.listing();
        let path = listing.entry(pair.entry)?.path.as_str().to_owned();
        if let Some(why) = state.unreadable {
            return Some(Finding { path, what: Difference::Unreadable(why) });
        }
        let expected = length_of(listing, pair.content);
        let lengths = (pair.length.0 != expected).then_some((pair.length.0, expected));
        if state.bad.is_empty() && lengths.is_none() {
            return None;
        }
        let geometry = listing.geometry(pair.content)?;
        let bad = state.bad.ranges().filter_map(|range| bad_range(geometry, range)).collect();
        Some(Finding { path, what: Difference::Different(Found { bad, lengths }) })
    }
}

fn bad_range(geometry: Geometry, range: std::ops::Range<u64>) -> Option<BadRange> {
    let index = |number: u64| u32::try_from(number).ok();
    let chunks = index(range.start)?..index(range.end)?;
    let start = geometry.span(ChunkIndex(chunks.start))?.offset.0;
    let length = geometry.bytes_between(ChunkIndex(chunks.start), ChunkIndex(chunks.end)).0;
    Some(BadRange { chunks, bytes: start..start + length })
}

/// Compares whole files with their roots, and tells `each` how every file ended.
pub(super) fn compare_roots(
    source: &Source,
    files: &[(u32, Length, FileDigest)],
    counted: &Counted,
    cancel: &Cancel,
    each: &mut dyn FnMut(u32, Result<bool, String>),
) -> Result<(), TransferError> {
    let mut roots = Roots::default();
    let mut given_up = None;
    for (entry, _, root) in files.iter().filter(|(_, length, _)| length.0 == 0) {
        each(*entry, Ok(*root == empty_file_digest()));
        counted.file();
    }
    // Entries rise, so a file is found by its place.
    for round in Rounds::new(files.iter().map(|&(entry, length, _)| (entry, length))) {
        if cancel.is_cancelled() {
            return Err(TransferError::Interrupted);
        }
        for (run, outcome) in round.iter().zip(source.hash_runs(&round)) {
            let Ok(place) = files.binary_search_by_key(&run.entry, |(entry, ..)| *entry) else { continue };
            let (entry, length, expected) = files[place];
            if given_up == Some(entry) {
                continue;
            }
            match outcome {
                Ok(hashed) => {
                    let digests = hashed.into_iter().map(|chunk| chunk.digest);
                    if let Some(root) = roots.push((entry, length), run.chunks.start, digests) {
                        each(entry, Ok(root == expected));
                        counted.file();
                    }
                }
                Err(fault) => {
                    given_up = Some(entry);
                    each(entry, Err(fault.to_string()));
                    counted.file();
                }
            }
            let geometry = Geometry::of(length);
            counted.bytes(geometry.map_or(0, |it| it.bytes_between(run.chunks.start, run.chunks.end).0));
        }
    }
    Ok(())
}

impl Reference {
    /// Files that it names.
    pub(super) fn files(&self) -> u64 {
        match self {
            Self::Manifest(manifest) => u64::from(manifest.listing().totals().files),
            Self::Sums(sums) => sums.len() as u64,
        }
    }
}
