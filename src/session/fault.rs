//! How a session, or one file in it, can end badly; whose fault it is stays apart.

use crate::manifest::{ListingFault, PageFault, TargetFault};
use crate::rel_path::PathFault;
use crate::wire::{Change, EntryFault, Refusal};

/// How a session ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// Both sides know that everything wanted is on disk, or failed by itself.
    Complete,
    /// This side's user said no.
    Declined,
    /// The host, met again after a break, offers something else now.
    OfferChanged,
    /// The other side broke a rule.
    PeerFault(PeerFault),
    /// The other side ended it.
    Refused(Refusal),
}

/// Why one file failed while the others go on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FileFault {
    /// Its source is no longer what was listed.
    #[error("the source changed while it was being sent")]
    SourceChanged(Change),
    /// Bytes kept arriving that do not have their hash.
    #[error("received data kept failing its hash")]
    Integrity,
    /// This side's disk could not take it; the driver has the details.
    #[error("it could not be stored")]
    Disk,
    /// It is another name of a file that is not there.
    #[error("the file that it is another name of was not received")]
    FirstFailed,
    /// Something is there under its name already.
    #[error("something else has its name already")]
    Exists,
}

/// The rule that the other side broke.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PeerFault {
    /// A request asks for chunks that the listing does not have.
    #[error("it asked for a chunk that is not on offer")]
    ChunkNotOffered,
    /// What further lanes prove is said by the side that was connected to, and once.
    #[error("it grants what is not its own to grant, or grants it twice")]
    Grant,
    /// The digest of the listing is not the announced one.
    #[error("the listing is not the one that was announced")]
    ListingDigest,
    /// The listing breaks a rule.
    #[error("in the listing, {0}")]
    Listing(ListingFault),
    /// A listing page is not the one that was asked for, or holds nothing.
    #[error("a page of the listing is out of place or empty")]
    ListingPage,
    /// It lets the session in and has no data lane for it.
    #[error("it lets this side in without a lane for data")]
    NoLanes,
    /// A page of an outline is not the one that was asked for, or breaks a rule.
    #[error("a page of a file's outline is out of place or breaks a rule")]
    Outline,
    /// A message has no place on this lane or at this time.
    #[error("it sent `{0}` out of turn")]
    OutOfTurn(&'static str),
    /// A hash page breaks a rule.
    #[error("in the hashes, {0}")]
    Page(PageFault),
    /// An entry's path breaks a rule that refuses the whole offer.
    #[error("an entry has an unsafe path: {0}")]
    Path(PathFault),
    /// A piece is not the one that is due.
    #[error("it sent data that was not asked for")]
    Piece,
    /// A request is out of range.
    #[error("a request is out of range")]
    Request,
    /// There are too many requests.
    #[error("it queued too many requests")]
    RequestsQueued,
    /// Both sides' manifests differ.
    #[error("its manifest is not made of the hashes that it sent")]
    Seal,
    /// A symbolic link's target breaks a rule that refuses the whole offer.
    #[error("there is an unsafe symbolic link: {0}")]
    Target(TargetFault),
    /// It names an entry that the listing does not have, or one that was not due.
    #[error("it named an entry that is not in question")]
    UnknownEntry,
    /// There is no version that both speak.
    #[error("it speaks another version of the protocol")]
    Version,
}

impl From<EntryFault> for PeerFault {
    fn from(fault: EntryFault) -> Self {
        match fault {
            EntryFault::Path(fault) => Self::Path(fault),
            EntryFault::Target(fault) => Self::Target(fault),
        }
    }
}
