//! What an offer would write, as its user is asked about it, and what the user says.

use crate::transfer::settings::Conflict;

/// What an offer would write.
#[derive(Clone, Debug, Default)]
pub struct OfferSummary {
    /// The first entries in order.
    pub entries: Vec<OfferLine>,
    /// Entries beyond those.
    pub truncated: u64,
    /// Files in all.
    pub files: u64,
    /// Folders in all.
    pub folders: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Room at the destination, where the system can tell.
    pub free_bytes: Option<u64>,
}

/// One entry of an offer.
#[allow(clippy::struct_excessive_bools, reason = "independent remarks")]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OfferLine {
    /// Path within the offer, raw.
    pub path: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Length of the file; 0 for a folder.
    pub bytes: u64,
    /// Whether the destination has the name. Two folders of one name are no conflict and do not set it.
    pub exists: bool,
    /// Whether a name in the path starts with a dot.
    pub hidden: bool,
    /// Whether it is left out: it has a name that is never written, or it is a symbolic link and none are made.
    pub refused: bool,
    /// What it leads to, where it is a link.
    pub link: Option<OfferLink>,
}

/// What a link of an offer leads to, raw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OfferLink {
    /// It is another name of the file that has this path within the offer.
    Hard(String),
    /// It is a symbolic link that holds this text.
    Symbolic(String),
}

/// What the user says to an offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Go on, by the conflict rule of the settings.
    Accept,
    /// Go on, by this conflict rule.
    AcceptWith(Conflict),
    /// Write nothing; the run ends with `Declined`.
    Refuse,
}
