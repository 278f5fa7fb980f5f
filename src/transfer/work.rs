//! What the threads of a receiving transfer hand to each other, and what they count together.

use super::TransferError;
use super::decide::{Decided, NotTaken};
use super::frames::LaneFault;
use crate::chunk::{ChunkIndex, Length};
use crate::digest::{ChunkDigest, FileDigest};
use crate::limits::{BATCH_BYTES_MAX, BATCH_FILES_MAX};
use crate::manifest::{ChunkPlace, EntryIndex, VerifiedChunk};
use crate::outline::Segment;
use crate::session::{End, LaneId, LaneRole};
use crate::transport::{Lane, Purpose, TransportError};
use crate::wire::{Message, Piece, SessionGrant};
use std::sync::atomic::{AtomicU64, Ordering};

/// What was done so far, in bytes unless it says otherwise.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Verified and claimed, however it came.
    pub(super) done: AtomicU64,
    /// Of those, what was there before.
    pub(super) reused: AtomicU64,
    /// Payload of pieces read.
    pub(super) fetched: AtomicU64,
    /// TLS bytes in both directions.
    pub(super) wire: AtomicU64,
    /// Files that are final and did not fail.
    pub(super) files_done: AtomicU64,
    /// Files that failed.
    pub(super) files_failed: AtomicU64,
    /// Milliseconds from the start to the first piece, plus one; zero until it came.
    pub(super) first_byte_ms: AtomicU64,
}

impl Counters {
    /// A count that rises with everything that is verified, fetched or published.
    pub(super) fn gained(&self) -> u64 {
        let counters = [&self.done, &self.fetched, &self.files_done, &self.files_failed];
        counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    /// What came over the network so far, for a session that begins again in the same run.
    pub(super) fn of_the_network(&self) -> Self {
        let same = |counter: &AtomicU64| AtomicU64::new(counter.load(Ordering::Relaxed));
        Self {
            fetched: same(&self.fetched),
            wire: same(&self.wire),
            first_byte_ms: same(&self.first_byte_ms),
            ..Self::default()
        }
    }
}

/// What a lane's thread is to do.
#[derive(Debug)]
pub(super) enum LaneWork {
    Claim { chunk: u64, proof: VerifiedChunk },
    Close,
    Discard { chunk: u64 },
    Place { place: ChunkPlace, piece: Piece, last: bool },
    Send(Message),
}

/// What a desk thread is to do.
#[derive(Debug)]
pub(super) enum DeskJob {
    CheckClaims { entry: EntryIndex, chunks: Vec<(ChunkIndex, ChunkDigest)> },
    Compare { entry: EntryIndex, root: FileDigest },
    CutOlder { entry: EntryIndex },
    Match { entry: EntryIndex, outline: Vec<Segment> },
    Open { entry: EntryIndex },
    Weigh { entry: EntryIndex, chunks: Vec<(ChunkIndex, ChunkDigest)> },
}

/// What the publisher is to do.
#[derive(Debug)]
pub(super) enum PublishJob {
    /// A batch has begun; more of it may come.
    Begun,
    FinishFolders,
    /// The batch is as large as it may be, or has the last files of all.
    Full,
    Large {
        entry: EntryIndex,
        root: FileDigest,
    },
    /// Every file is final.
    MakeLinks {
        entries: Vec<EntryIndex>,
    },
}

/// Small files that are stored and wait for their common sync.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) files: Vec<(EntryIndex, FileDigest)>,
    bytes: u64,
}

impl Gathered {
    /// Adds a file while `unsettled` files, this one and all gathered ones among them, are not final. Returns what the
    /// publisher is to be told, if anything: waking it for each file would cost more than the file.
    pub(super) fn add(&mut self, file: (EntryIndex, FileDigest), length: Length, unsettled: u64) -> Option<PublishJob> {
        self.files.push(file);
        let is_last = self.files.len() as u64 >= unsettled;
        let was_full = self.bytes >= BATCH_BYTES_MAX;
        self.bytes = self.bytes.saturating_add(length.0);
        match self.files.len() {
            _ if is_last => Some(PublishJob::Full),
            BATCH_FILES_MAX => Some(PublishJob::Full),
            _ if !was_full && self.bytes >= BATCH_BYTES_MAX => Some(PublishJob::Full),
            1 => Some(PublishJob::Begun),
            _ => None,
        }
    }
}

/// What the main thread is told.
pub(super) enum MainEvent {
    /// The sender, which connected here, opened a lane.
    Arrived {
        lane: Box<Lane>,
        role: LaneRole,
    },
    /// The user said what becomes of the offer.
    Decided(Result<Decided, NotTaken>),
    /// A lane was opened, or could not be.
    Dialled {
        purpose: Purpose,
        outcome: Result<Box<Lane>, TransportError>,
        /// Which control lane there was when it was dialled.
        generation: u32,
    },
    End(End),
    /// A thread of this session cannot go on, and so the session cannot.
    Failed(TransferError),
    /// A dry run knows what would become of everything.
    Foreseen,
    Granted {
        grant: SessionGrant,
        lanes: u16,
    },
    LaneEnded {
        lane: LaneId,
        fault: Option<LaneFault>,
    },
    Offered,
    /// A thread of this session panicked.
    Panicked(TransferError),
    /// The offer is not what the user demanded, which came to light under way.
    Unexpected(TransferError),
    /// Another session is to go on with what this one has.
    Yield,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_publisher_is_told_of_the_first_file_a_full_batch_and_the_last_file() {
        let file = |number: usize| (EntryIndex(u32::try_from(number).unwrap()), FileDigest([0; 32]));
        let mut many = Gathered::default();
        for number in 1..=BATCH_FILES_MAX {
            let told = many.add(file(number), Length(1), u64::MAX);
            match number {
                1 => assert!(matches!(told, Some(PublishJob::Begun))),
                BATCH_FILES_MAX => assert!(matches!(told, Some(PublishJob::Full))),
                _ => assert!(told.is_none(), "file {number}"),
            }
        }
        let mut heavy = Gathered::default();
        assert!(matches!(heavy.add(file(1), Length(1), u64::MAX), Some(PublishJob::Begun)));
        assert!(matches!(heavy.add(file(2), Length(BATCH_BYTES_MAX), u64::MAX), Some(PublishJob::Full)));
        assert!(heavy.add(file(3), Length(1), u64::MAX).is_none(), "told once");
        let mut last = Gathered::default();
        assert!(matches!(last.add(file(1), Length(1), 2), Some(PublishJob::Begun)));
        assert!(matches!(last.add(file(2), Length(1), 2), Some(PublishJob::Full)));
    }
}
