//! What the threads of a receiving transfer hand to each other, and what they count together.

use super::frames::LaneFault;
use crate::chunk::ChunkIndex;
use crate::digest::{ChunkDigest, FileDigest};
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
    FinishFolders,
    Publish { entry: EntryIndex, root: FileDigest },
}

/// What the main thread is told.
#[derive(Debug)]
pub(super) enum MainEvent {
    End(End),
    Granted { grant: SessionGrant, lanes: u16 },
    LaneEnded { lane: LaneId, fault: Option<LaneFault> },
    Offered,
}
