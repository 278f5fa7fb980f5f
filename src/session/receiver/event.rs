//! What a receiver is told, and what it tells.

use crate::chunk::ChunkIndex;
use crate::chunk_set::ChunkSet;
use crate::digest::{ChunkDigest, FileDigest};
use crate::manifest::{ChunkPlace, EntryIndex, VerifiedChunk};
use crate::outline::Segment;
use crate::session::{End, FileFault, LaneId, LaneRole};
use crate::wire::{Message, Piece, SessionGrant};
use std::num::NonZeroU64;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The user took the offer; one plan for each entry of the listing.
    Accepted(Vec<Plan>),
    /// A chunk lies in its place and hashes to this.
    ChunkHashed {
        /// The lane that brought it.
        lane: LaneId,
        /// Its number.
        chunk: u64,
        /// What its bytes hash to, read from where they lie.
        digest: ChunkDigest,
    },
    /// The claim of `Claim` is written.
    ChunkStored {
        /// The lane that brought the chunk.
        lane: LaneId,
        /// Its number.
        chunk: u64,
    },
    /// Claimed chunks were compared with the hashes of `CheckClaims`.
    ClaimsChecked {
        /// The file.
        entry: EntryIndex,
        /// Numbers of all chunks that were compared.
        checked: ChunkSet,
        /// Numbers of those that hold.
        good: ChunkSet,
    },
    /// An existing file was compared with the root of `Compare`.
    Compared {
        /// The file.
        entry: EntryIndex,
        /// What follows.
        verdict: Verdict,
    },
    /// The user said no.
    Declined,
    /// A file can no longer be stored.
    FileFailed {
        /// The file.
        entry: EntryIndex,
        /// Why.
        fault: FileFault,
    },
    /// Something suggests that the host is gone: a lane broke, or cannot be opened. A control lane that owes nothing is read
    /// by nobody, and would not be missed for a while.
    Doubted,
    /// A partial file is open.
    FileOpened {
        /// The file.
        entry: EntryIndex,
        /// Chunk indices that may be there: those that an earlier run claims to have stored, and those whose bytes an older
        /// version of the file may have in the same place.
        claims: ChunkSet,
        /// Whether there is such a version, in which bytes may have moved.
        has_older: bool,
    },
    /// A file is under its final name, durably.
    FilePublished {
        /// The file.
        entry: EntryIndex,
    },
    /// Folders have their final modes and times, durably.
    FoldersFinished {
        /// Entries of which that, or what was found there of them, could not be made durable. They were done until then.
        failed: u32,
    },
    /// Bytes came over a lane, of a frame that is not whole yet: it is slow, not silent.
    Heard {
        /// Which.
        lane: LaneId,
    },
    /// Where the sender connected: so many data lanes are wanted that are not there, at most what `Granted` said.
    LanesLacking {
        /// How many.
        lanes: u16,
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
        /// Number of the chunk that was landing, and how many of its bytes, from the first one on, lie in their place:
        /// they are not asked for again.
        held: Option<(u64, u64)>,
    },
    /// No more than so many bytes a second are to come over all data lanes together; nothing is no limit.
    Limit {
        /// Bytes a second.
        rate: Option<NonZeroU64>,
    },
    /// The work of `Match` is done.
    Matched {
        /// The file.
        entry: EntryIndex,
        /// Numbers of the chunks that can be put together of what its older version holds.
        chunks: ChunkSet,
    },
    /// A message came.
    Message {
        /// Over which lane.
        lane: LaneId,
        /// What it says.
        message: Message,
    },
    /// The address of a piece came; its payload is next on the lane.
    PieceArrived {
        /// Over which lane.
        lane: LaneId,
        /// Where it belongs.
        piece: Piece,
    },
    /// No chunk from this number on is asked for, until a later one says so. Without one, all are.
    Reach {
        /// The number.
        chunks: u64,
    },
    /// The same files are being received from another sender.
    Taken,
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Compare the chunks of an open file that it claims to have with these hashes, and put together those that its older
    /// version has; answer with `ClaimsChecked`, once or in parts.
    CheckClaims {
        /// The file.
        entry: EntryIndex,
        /// Which chunks, by index, and their hashes.
        chunks: Vec<(ChunkIndex, ChunkDigest)>,
    },
    /// Record that the chunk which the lane just brought is stored, and answer with `ChunkStored`.
    Claim {
        /// The lane that brought it.
        lane: LaneId,
        /// Its number.
        chunk: u64,
        /// Proof of its hash.
        proof: VerifiedChunk,
    },
    /// Close a lane, and answer with `LaneLost` once nobody works for it any more: only then are the chunks that it was
    /// asked for asked of another. A new lane may take its place.
    CloseLane {
        /// Which.
        lane: LaneId,
    },
    /// Hash the existing file under the entry's name, compare, and answer with `Compared`.
    Compare {
        /// The file.
        entry: EntryIndex,
        /// The root that makes it identical.
        root: FileDigest,
    },
    /// An outline of the file is asked for, which is to be matched with its older version: that may be cut meanwhile.
    CutOlder {
        /// The file.
        entry: EntryIndex,
    },
    /// Forget the chunk that the lane just brought.
    Discard {
        /// The lane that brought it.
        lane: LaneId,
        /// Its number.
        chunk: u64,
    },
    /// The session is over.
    End(End),
    /// A file failed; whatever is open of it is closed and kept.
    FileFailed {
        /// The file.
        entry: EntryIndex,
        /// Why.
        fault: FileFault,
    },
    /// Give folders their final modes and times, sync them, and answer with `FoldersFinished`.
    FinishFolders,
    /// The sender let this session in: up to `lanes` data lanes are opened with the grant, by whoever connected.
    Granted {
        /// What they prove.
        grant: SessionGrant,
        /// How many at most.
        lanes: u16,
    },
    /// Every file is final: make these links, and answer with `FilePublished` or `FileFailed` for each.
    MakeLinks {
        /// The links, in listing order.
        entries: Vec<EntryIndex>,
    },
    /// Find out which chunks of a file can be put together of what its older version holds, and answer with `Matched`.
    Match {
        /// The file.
        entry: EntryIndex,
        /// All segments of the new version, in order.
        outline: Vec<Segment>,
    },
    /// The listing is complete: show it, and answer with `Accepted` or `Declined`.
    Offered,
    /// Open the partial file, reserve its space, and answer with `FileOpened` or `FileFailed`.
    OpenFile {
        /// The file.
        entry: EntryIndex,
    },
    /// Read the payload that is next on the lane into its place. After a chunk's last piece, hash the chunk where it lies
    /// and answer with `ChunkHashed`.
    Place {
        /// The lane.
        lane: LaneId,
        /// The chunk.
        place: ChunkPlace,
        /// The part of it.
        piece: Piece,
        /// Whether it completes the chunk.
        last: bool,
    },
    /// Every chunk of a file is stored: publish it and answer with `FilePublished` or `FileFailed`.
    Publish {
        /// The file.
        entry: EntryIndex,
        /// What it hashes to.
        root: FileDigest,
    },
    /// Send a message.
    Send {
        /// Over which lane.
        lane: LaneId,
        /// What.
        message: Message,
    },
    /// Chunks of a file of [`Plan::Weigh`] hash to this; those that come before its `Compare` are all of them.
    Weigh {
        /// The file.
        entry: EntryIndex,
        /// Which chunks, by index, and their hashes.
        chunks: Vec<(ChunkIndex, ChunkDigest)>,
    },
}

/// What is to become of one entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plan {
    /// An identical file may be there: compare once its root is known.
    Compare,
    /// An earlier run published it.
    Done {
        /// What it hashes to.
        root: FileDigest,
    },
    /// Fetch it.
    Fetch,
    /// A folder, which is made already.
    Folder,
    /// A link, to be made once every file is final.
    Link,
    /// Leave what is there.
    Skip,
    /// It failed before anything of it was asked for.
    Failed,
    /// Nothing of it is fetched: it is told what its chunks hash to, and then what it is to be compared with.
    Weigh,
}

/// What the comparison with an existing file led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is identical: nothing to do.
    Identical,
    /// It differs, and is to be fetched.
    Fetch,
    /// It differs, and must stay as it is.
    Keep,
}
