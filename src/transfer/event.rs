//! What a transfer tells its observer, and the one thing that it asks.

use crate::digest::FileDigest;
use crate::source::LeftOut;
use crate::transfer::failure::{FailureClass, TransferError};
use crate::transfer::forecast::{Forecast, Foreseen};
use crate::transfer::integrity::Finding;
use crate::transfer::proposal::{Decision, OfferSummary};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;
use zeroize::Zeroizing;

/// Watches a transfer and answers for its user. Called from several threads.
pub trait Observer: Send + Sync {
    /// Takes one event. `Event::Progress` comes at least four times a second in every phase but `Phase::Waiting`.
    fn event(&self, event: &Event);

    /// Decides about an offer, once, before anything is written. May take as long as a user takes.
    fn accept(&self, offer: &OfferSummary) -> Decision;

    /// Nobody waits for the answer of a call of `accept` that has not returned: it may return at once, with any answer.
    fn withdraw(&self) {}
}

/// Watches a run that listens for senders. Called from several threads.
pub trait Hosting: Send + Sync {
    /// Takes one event of the run as a whole.
    fn event(&self, event: &Event);

    /// A sender connected from `peer`: whoever watches its session, which is told apart by `number`.
    fn session(&self, number: u64, peer: SocketAddr) -> Box<dyn HostedSession + '_>;
}

/// Watches one session of a run that listens.
pub trait HostedSession: Observer {
    /// It is over. Nothing follows.
    fn ended(&self, outcome: &Result<Summary, TransferError>);
}

/// What happened.
#[derive(Clone)]
pub enum Event {
    /// Accepting side: browsers are served over TLS, with a certificate of this fingerprint (SHA-256).
    Certificate {
        /// What people compare it by.
        fingerprint: [u8; 32],
    },
    /// Accepting side: from now on another code is shown, or none.
    CodeChanged {
        /// The code to say to the other person. `None`: there is none any more, and only the link works.
        code: Option<Zeroizing<String>>,
        /// What became of the one before.
        why: CodeChange,
    },
    /// A file is complete. Its path is raw: whoever shows it makes it printable.
    FileDone {
        /// Path within the offer.
        path: String,
        /// Length of the file.
        bytes: u64,
        /// BLAKE3 root of the file.
        root: FileDigest,
        /// How it came to be complete.
        how: FileOutcome,
    },
    /// A file will not be complete in this run; the others go on.
    FileFailed {
        /// Path within the offer, raw.
        path: String,
        /// What happened, as a printable sentence without a full stop.
        fault: String,
        /// Its kind.
        class: FailureClass,
    },
    /// Checking: something is not as the manifest says.
    Found(Finding),
    /// A link is there. Paths are raw, as above.
    LinkDone {
        /// Path within the offer.
        path: String,
        /// The file's path within the offer that it is another name of, or what a symbolic link holds.
        to: String,
        /// How it came to be there.
        how: LinkOutcome,
    },
    /// A dry run: what would become of everything, after what would become of each entry.
    Forecast(Forecast),
    /// A dry run: what would become of one entry.
    Foreseen(Foreseen),
    /// Sending side: what the filters left out.
    LeftOut(LeftOut),
    /// Something the user should know; printable.
    Notice {
        /// A sentence without a full stop.
        text: String,
    },
    /// Sending side: the offer can be reached.
    OfferReady {
        /// The text to hand to the receiver.
        link: Zeroizing<String>,
        /// The code that does the same, once. `None` where none is wanted.
        code: Option<Zeroizing<String>>,
        /// Files offered.
        files: u64,
        /// Folders offered.
        folders: u64,
        /// Bytes of all files together.
        bytes: u64,
    },
    /// Sending side, in a dry run: what the offer would hold.
    WouldOffer {
        /// Files.
        files: u64,
        /// Folders.
        folders: u64,
        /// Bytes of all files together.
        bytes: u64,
    },
    /// Receiving side: senders can connect.
    Listening {
        /// The text to hand to senders.
        link: Zeroizing<String>,
        /// The code that does the same, once. `None` where none is wanted.
        code: Option<Zeroizing<String>>,
    },
    /// Sending side: this is offered to somebody who listens.
    Pushing {
        /// Files offered.
        files: u64,
        /// Folders offered.
        folders: u64,
        /// Bytes of all files together.
        bytes: u64,
    },
    /// Sending side: a receiver proved that it has the link.
    PeerConnected {
        /// Where it connected from.
        peer: SocketAddr,
        /// Names it in later events.
        session: u64,
    },
    /// Sending side: a receiver ended its session.
    PeerFinished {
        /// The receiver.
        session: u64,
        /// Whether it has everything.
        ok: bool,
        /// Bytes sent to it.
        bytes: u64,
    },
    /// Sending side: a receiver's last lane is gone; it may come back.
    PeerLost {
        /// The receiver.
        session: u64,
    },
    /// Sending side: a receiver proved that it has the link, and waits for the user to say whether it gets anything.
    PeerAsks {
        /// Where it connected from.
        peer: SocketAddr,
        /// Names it in later events.
        session: u64,
    },
    /// Sending side: how far one receiver is, at the pace of `Progress`, which is about all of them together.
    PeerProgress {
        /// The receiver.
        session: u64,
        /// What was sent to it. Bytes that it had before are not known here, and not counted.
        progress: Progress,
        /// What it is doing.
        state: PeerState,
        /// Bytes per second that it is limited to by itself.
        limit: Option<NonZeroU64>,
    },
    /// Sending side: a receiver was refused or disconnected by this side's user, and does not come back in this run.
    PeerRefused {
        /// The receiver.
        session: u64,
    },
    /// What the transfer does from here on.
    Phase(Phase),
    /// How far it is.
    Progress(Progress),
}

/// What became of a code, so that another one takes its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CodeChange {
    /// It was guessed at as often as it may be.
    Burnt,
    /// It was guessed at so often, like those before it, that there is no other one.
    GivenUp,
    /// It was used, which it can be once.
    Used,
}

/// What a transfer is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Reaching the other end for the first time.
    Connecting,
    /// Last syncs and renames.
    Finalising,
    /// Hashing sources.
    Hashing,
    /// The link is lost and tried again.
    Reconnecting {
        /// From 1.
        attempt: u32,
        /// Time until this try starts.
        retry_in: Duration,
    },
    /// Walking the source tree, or the destination.
    Scanning,
    /// Reading input that can be read only once, to its end.
    Spooling,
    /// Data moves.
    Transferring,
    /// Claimed or published bytes are hashed again.
    Verifying,
    /// Sending side: nobody is connected.
    Waiting,
    /// Receiving side: a sender that connected here is gone, and connects again by itself.
    WaitingForSender,
    /// Sending side: the other end has yet to accept the offer.
    WaitingForAnswer,
    /// The disk filled up under way: the transfer goes on by itself once there is room. Told again every second.
    WaitingForRoom {
        /// Bytes that the files need which wait.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
}

/// What a receiver is doing, as its sender sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerState {
    /// It waits for the user to say whether it gets anything.
    Asking,
    /// It has no connection; it may come back.
    Gone,
    /// It wants nothing right now: it checks what it has, or its user thinks.
    Idle,
    /// Data moves as fast as a limit lets it.
    Limited,
    /// Data moves.
    Sending,
    /// It wants data and takes none.
    Stalled,
}

/// How far a transfer is. No counter ever goes down within a run, unless the sender comes back with another offer: then
/// all but those of the network start again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Bytes of all files together.
    pub bytes_total: u64,
    /// Bytes verified where they lie, reused ones included.
    pub bytes_done: u64,
    /// Bytes that were there before this run.
    pub bytes_reused: u64,
    /// Bytes fetched and verified in this run.
    pub bytes_fetched: u64,
    /// Bytes that crossed the network for all of it.
    pub wire_bytes: u64,
    /// Files in all.
    pub files_total: u64,
    /// Files complete.
    pub files_done: u64,
    /// Path of a file in flight, raw.
    pub current: Option<String>,
    /// Milliseconds from the start to the first byte of file data, once it came.
    pub first_byte_ms: Option<u64>,
}

/// How a file came to be complete.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FileOutcome {
    /// The same content was there before.
    Identical,
    /// Fetched and published.
    Published,
    /// Fetched and published under this name, because its own was taken.
    Renamed(String),
    /// Left as it was, because its name was taken.
    SkippedExisting,
}

/// How a link came to be there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkOutcome {
    /// The file system cannot give a file a second name: it is a copy.
    Copied,
    /// The same was there before, or, for a hard link, a file of the same content.
    Identical,
    /// It was made.
    Made,
    /// It was made under this name, because its own was taken.
    Renamed(String),
    /// What was there was left, because its name was taken.
    SkippedExisting,
}

/// What a run did that both offers and takes.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Receivers that have everything.
    pub receivers: u64,
    /// Bytes that were sent to receivers.
    pub bytes_sent: u64,
    /// What was taken from senders.
    pub taken: Summary,
}

/// What a run did. A run that fails has one too, if it got so far.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Whether everything arrived.
    pub ok: bool,
    /// Files complete.
    pub files: u64,
    /// Bytes of complete files.
    pub bytes: u64,
    /// Bytes fetched and verified in this run.
    pub bytes_fetched: u64,
    /// Bytes that were there before this run.
    pub bytes_reused: u64,
    /// Bytes that crossed the network for all of it.
    pub wire_bytes: u64,
    /// From the start to the first byte of file data, in milliseconds.
    pub first_byte_ms: Option<u64>,
    /// From start to end.
    pub seconds: f64,
    /// Hex: the file's BLAKE3 root where the offer is one file, else the manifest id.
    pub root: Option<String>,
    /// Files that failed.
    pub failed: Vec<FailedFile>,
    /// Receivers that have everything, of an offer that was kept until it was stopped.
    pub receivers: Option<u64>,
}

/// A file that did not arrive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailedFile {
    /// Path within the offer, raw.
    pub path: String,
    /// What happened, as a printable sentence without a full stop.
    pub fault: String,
    /// Its kind.
    pub class: FailureClass,
}

/// Leaves links and codes out: they are secrets, and debug output ends up in logs.
impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { fingerprint } => write!(formatter, "Certificate({fingerprint:02x?})"),
            Self::CodeChanged { code, why } => {
                write!(formatter, "CodeChanged({}, {why:?})", if code.is_some() { "[redacted]" } else { "none" })
            }
            Self::FileDone { path, bytes, root, how } => {
                write!(formatter, "FileDone({path:?}, {bytes}, {root:?}, {how:?})")
            }
            Self::FileFailed { path, fault, class } => write!(formatter, "FileFailed({path:?}, {fault:?}, {class:?})"),
            Self::Found(finding) => write!(formatter, "{finding:?}"),
            Self::LinkDone { path, to, how } => write!(formatter, "LinkDone({path:?}, {to:?}, {how:?})"),
            Self::Forecast(forecast) => write!(formatter, "{forecast:?}"),
            Self::Foreseen(foreseen) => write!(formatter, "{foreseen:?}"),
            Self::LeftOut(left_out) => write!(formatter, "{left_out:?}"),
            Self::Listening { link: _, code } => {
                write!(formatter, "Listening([redacted], {})", if code.is_some() { "[redacted]" } else { "none" })
            }
            Self::Pushing { files, folders, bytes } => {
                write!(formatter, "Pushing({files} files, {folders} folders, {bytes} bytes)")
            }
            Self::Notice { text } => write!(formatter, "Notice({text:?})"),
            Self::OfferReady { link: _, code: _, files, folders, bytes } => {
                write!(formatter, "OfferReady([redacted], {files} files, {folders} folders, {bytes} bytes)")
            }
            Self::PeerConnected { peer, session } => write!(formatter, "PeerConnected({peer}, {session})"),
            Self::PeerFinished { session, ok, bytes } => write!(formatter, "PeerFinished({session}, {ok}, {bytes})"),
            Self::PeerLost { session } => write!(formatter, "PeerLost({session})"),
            Self::PeerAsks { peer, session } => write!(formatter, "PeerAsks({peer}, {session})"),
            Self::PeerProgress { session, progress, state, limit } => {
                write!(formatter, "PeerProgress({session}, {progress:?}, {state:?}, {limit:?})")
            }
            Self::PeerRefused { session } => write!(formatter, "PeerRefused({session})"),
            Self::Phase(phase) => write!(formatter, "{phase:?}"),
            Self::Progress(progress) => write!(formatter, "{progress:?}"),
            Self::WouldOffer { files, folders, bytes } => {
                write!(formatter, "WouldOffer({files} files, {folders} folders, {bytes} bytes)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_an_offer_holds_no_link_and_no_code() {
        let link = Zeroizing::new("HTTP://192.0.2.1:4285/ROOM#KEY".into());
        let code = Some(Zeroizing::new("7-amber-canoe-lentil".into()));
        let text = format!("{:?}", Event::OfferReady { link, code: code.clone(), files: 1, folders: 0, bytes: 2 });
        assert_eq!(text, "OfferReady([redacted], 1 files, 0 folders, 2 bytes)");
        let text = format!("{:?}", Event::CodeChanged { code, why: CodeChange::Used });
        assert_eq!(text, "CodeChanged([redacted], Used)");
    }
}
