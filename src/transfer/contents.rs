//! Where the bytes of an offer come from: files of this machine, or somebody who hands them over piece by piece.

use super::parcel::Parcel;
use crate::chunk::ChunkIndex;
use crate::digest::ChunkDigest;
use crate::manifest::EntryIndex;
use crate::source::{ChunkRun, HashedChunk, Source, SourceError};
use crate::wire::Change;
use std::ops::Range;
use std::sync::Arc;

/// Where the bytes of an offer come from.
#[derive(Debug)]
pub(super) enum Contents {
    Files(Box<Source>),
    /// A page has the files. Whoever needs something of them [waits for it](Parcel::wait_for_digests) first.
    Handed(Arc<Parcel>),
}

impl Contents {
    /// Digests of chunks of many files: one outcome for each run, in order.
    pub(super) fn hash_runs(&self, runs: &[ChunkRun], first: u64) -> Vec<Result<Vec<HashedChunk>, Change>> {
        match self {
            Self::Files(source) => {
                let outcomes = source.hash_runs(runs).into_iter();
                outcomes.map(|outcome| outcome.map_err(|fault| change(&fault))).collect()
            }
            Self::Handed(parcel) => {
                let mut first = first;
                let mut take = |run: &ChunkRun| {
                    let count = u64::from(run.chunks.end.0 - run.chunks.start.0);
                    let taken = parcel.take_digests(EntryIndex(run.entry), first..first + count);
                    first += count;
                    taken
                };
                runs.iter().map(&mut take).collect()
            }
        }
    }

    /// The digest of a chunk as it is now.
    pub(super) fn rehash_chunk(&self, entry: EntryIndex, chunk: ChunkIndex) -> Result<ChunkDigest, Change> {
        match self {
            Self::Files(source) => source.rehash_chunk(entry.0, chunk).map_err(|fault| change(&fault)),
            // What was handed over had its digest when it came, and what comes has it too.
            Self::Handed(_) => Err(Change::Content),
        }
    }

    /// Fills `out` with the bytes `within` a chunk, counted from its start.
    pub(super) fn read_chunk_into(
        &self,
        (entry, chunk, number): (EntryIndex, ChunkIndex, u64),
        within: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), Change> {
        match self {
            Self::Files(source) => source.read_chunk_into(entry.0, chunk, within, out).map_err(|fault| change(&fault)),
            Self::Handed(parcel) => parcel.read(entry, number, within, out),
        }
    }

    /// The files of this machine that are offered, where they are that.
    pub(super) fn files(&self) -> Option<&Source> {
        match self {
            Self::Files(source) => Some(source),
            Self::Handed(_) => None,
        }
    }

    /// Whoever hands the files over, where somebody does.
    pub(super) fn parcel(&self) -> Option<&Arc<Parcel>> {
        match self {
            Self::Files(_) => None,
            Self::Handed(parcel) => Some(parcel),
        }
    }
}

/// What to tell a receiver about a fault of a source.
pub(super) fn change(fault: &SourceError) -> Change {
    match fault {
        SourceError::Vanished { .. } | SourceError::Missing { .. } => Change::Gone,
        SourceError::Unreadable { .. } => Change::Unreadable,
        _ => Change::Content,
    }
}
