//! What the threads of a receiving transfer hand to each other, and what they count together.

use super::frames::LaneFault;
use crate::chunk::{ChunkIndex, Length};
use crate::digest::{ChunkDigest, FileDigest};
use crate::limits::{BATCH_BYTES_MAX, BATCH_FILES_MAX};
use crate::manifest::{ChunkPlace, EntryIndex, VerifiedChunk};
use crate::session::{End, LaneId};
use crate::wire::{Message, Piece, SessionGrant};
use std::sync::atomic::AtomicU64;

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
    Open { entry: EntryIndex },
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
#[derive(Debug)]
pub(super) enum MainEvent {
    End(End),
    Granted { grant: SessionGrant, lanes: u16 },
    LaneEnded { lane: LaneId, fault: Option<LaneFault> },
    Offered,
}
