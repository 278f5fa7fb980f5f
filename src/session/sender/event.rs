//! What a sender is told, and what it tells.

use crate::digest::{ChunkDigest, ManifestId};
use crate::manifest::{EntryIndex, Listing};
use crate::outline::Segment;
use crate::session::{End, LaneId, LaneRole};
use crate::wire::{Change, Message, SessionGrant};
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

/// What happened.
#[derive(Clone, Debug)]
pub enum SenderInput {
    /// The work of `Serve` is done: its pieces are sent.
    ChunksServed {
        /// Over which lane.
        lane: LaneId,
    },
    /// The work of `Hash` is done.
    Hashed {
        /// The lane that asked.
        lane: LaneId,
        /// At least one hash from the first chunk on, or what happened to its file.
        outcome: Result<Vec<ChunkDigest>, (EntryIndex, Change)>,
    },
    /// A lane is ready to carry frames.
    LaneOpened {
        /// Its name.
        lane: LaneId,
        /// What it may carry.
        role: LaneRole,
    },
    /// A lane is gone.
    LaneLost {
        /// Its name.
        lane: LaneId,
    },
    /// A message came.
    Message {
        /// Over which lane.
        lane: LaneId,
        /// What it says.
        message: Message,
    },
    /// The work of `Outline` is done.
    Outlined {
        /// The lane that asked.
        lane: LaneId,
        /// At least one segment, at most [`OUTLINE_PAGE_SEGMENTS_MAX`](crate::limits::OUTLINE_PAGE_SEGMENTS_MAX); none where the
        /// file cannot be read as it was listed.
        segments: Vec<Segment>,
    },
    /// The work of `Seal` is done.
    Sealed {
        /// The lane that asked.
        lane: LaneId,
        /// The manifest's id, or the file whose root cannot be had any more.
        outcome: Result<ManifestId, (EntryIndex, Change)>,
    },
    /// This side's user ends it.
    Stop,
}

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SenderOutput {
    /// Close a lane.
    CloseLane {
        /// Which.
        lane: LaneId,
    },
    /// The session is over. `failed` files did not make it on the other side.
    End {
        /// How.
        end: End,
        /// Files that failed there.
        failed: u32,
    },
    /// Where this side connected: what further lanes of the session prove, and what continues it.
    Granted {
        /// It.
        grant: SessionGrant,
    },
    /// Hash these chunks, or take their hashes from the cache, and answer with `Hashed`.
    Hash {
        /// The lane that asks.
        lane: LaneId,
        /// Numbers of the chunks.
        chunks: Range<u64>,
    },
    /// The receiver wants no more than so many bytes a second over all data lanes together; nothing is no limit.
    Limit {
        /// Bytes a second.
        rate: Option<NonZeroU64>,
    },
    /// Where this side connected: open so many further data lanes, whatever an earlier one has left to open.
    OpenLanes {
        /// How many.
        lanes: u16,
    },
    /// Cut this file from there on, and answer with `Outlined`.
    Outline {
        /// The lane that asks.
        lane: LaneId,
        /// The file.
        entry: EntryIndex,
        /// Where to begin, before its end.
        offset: u64,
    },
    /// Come to the manifest's id without the roots of these files, and answer with `Sealed`.
    Seal {
        /// The lane that asks.
        lane: LaneId,
        /// Files that have no root on the other side.
        without: Vec<EntryIndex>,
    },
    /// Send a message.
    Send {
        /// Over which lane.
        lane: LaneId,
        /// What.
        message: Message,
    },
    /// Send the pieces of these chunks, in order, then answer with `ChunksServed`.
    Serve {
        /// Over which lane.
        lane: LaneId,
        /// What.
        request: ChunksToServe,
    },
}

/// A checked request for chunks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChunksToServe {
    /// Ranges of chunk numbers, in order.
    pub ranges: Vec<Range<u64>>,
    /// Length of a piece, in bytes.
    pub piece_bytes: u32,
    /// Bytes of the first chunk to leave out.
    pub held: u64,
    /// Whether to hash what is read and compare it with the hash given before.
    pub reread: bool,
    /// Whether the receiver takes pieces encoded as zstd.
    pub zstd: bool,
}

/// What a sender is told when it is made.
#[derive(Clone, Debug)]
pub struct SenderSettings {
    /// What is sent.
    pub listing: Arc<Listing>,
    /// First entry of each listing page, from [`listing_page_starts`](crate::session::listing_page_starts).
    pub page_starts: Arc<[u32]>,
    /// What further lanes of the session prove, where the receiver connected. Nothing where this side did: then the receiver
    /// says it.
    pub grant: Option<SessionGrant>,
    /// Data lanes that the session may have.
    pub lanes: u16,
}
