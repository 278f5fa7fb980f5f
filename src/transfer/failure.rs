//! Why a transfer failed, what it kept, and what to do next.

use crate::source::SpoolFault;
use crate::transport::TransportError;
use std::time::Duration;

/// What lies under a failure: an error of the layer that met it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The ways in which a transfer ends without having moved everything.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The other end does not know the link's key, or knows another one.
    #[error("the other end could not prove that it belongs to this link")]
    Auth(#[source] Cause),
    /// The text is meant as a code, and is none.
    #[error("this is not a code")]
    BadCode(#[source] Cause),
    /// The text is no link.
    #[error("this is not a link that `haul send` printed")]
    BadLink(#[source] Cause),
    /// Our own mistake.
    #[error("an internal check failed; this is a bug in haul")]
    Bug(#[source] Cause),
    /// The host took the code, which it does once, and was lost before it could name a session to go on with.
    #[error("the code was accepted, and the connection broke before the session began")]
    CodeLost,
    /// Nobody answered at any of the link's addresses.
    #[error("nobody answered within {} s", waited.as_secs())]
    ConnectTimeout {
        /// How long we tried.
        waited: Duration,
        /// The last try's error.
        #[source]
        cause: Option<Cause>,
    },
    /// The user looked at the listing and said no.
    #[error("the offer was not accepted")]
    Declined,
    /// A folder is not what its manifest says; each difference was told as it was found.
    #[error("not everything is as the manifest says: {what}")]
    Differs {
        /// How much of what.
        what: String,
    },
    /// Names are taken by different content, and no rule says what to do about it.
    #[error("{count} {} here already, with other content", if *count == 1 { "name exists" } else { "names exist" })]
    Exists {
        /// How many.
        count: u64,
    },
    /// No host on this network announces the code's number.
    #[error("no sender that shows the number {number} was found on this network")]
    HostNotFound {
        /// The number.
        number: u16,
        /// Why nothing can be found here, where that is known.
        #[source]
        cause: Option<Cause>,
    },
    /// Bytes did not have their hash after every retry.
    #[error("{files} {} verified", if *files == 1 { "file could not be" } else { "files could not be" })]
    Integrity {
        /// How many files.
        files: u64,
    },
    /// What was to be read and offered cannot be.
    #[error("standard input cannot be offered")]
    Input(#[source] SpoolFault),
    /// Somebody asked us to stop.
    #[error("stopped before the end")]
    Interrupted,
    /// Our disk, or the file system over it, failed.
    #[error("{what}")]
    Io {
        /// The act and its object, as a sentence's start: "cannot write `photos/1.raw`".
        what: String,
        /// The system's answer.
        #[source]
        cause: Cause,
    },
    /// Names that may mislead whoever reads them, or that are paths elsewhere, are never written.
    #[error("{count} {} left out for {}", if *count == 1 { "entry was" } else { "entries were" }, if *count == 1 { "its name" } else { "their names" })]
    Names {
        /// How many files and folders.
        count: u64,
    },
    /// The network failed for good, or no lane can be opened at all.
    #[error("the network failed")]
    Network(#[source] Cause),
    /// The text is neither a link nor a code.
    #[error("this is neither a link that `haul send` printed nor a code")]
    NoInvitation,
    /// The address can be reached, and no program listens there.
    #[error("nobody listens there")]
    NobodyListens(#[source] Cause),
    /// The file system of the destination holds no more files and folders, however much room there is.
    #[error("the destination's file system has too few inodes left")]
    NoInodes {
        /// Files and folders that the transfer has to make.
        needed: u64,
        /// How many more the file system can hold.
        free: u64,
    },
    /// The destination has too little room.
    #[error("the destination has too little room")]
    NoSpace {
        /// Bytes that the transfer still has to write, with the margin that stays free.
        needed: u64,
        /// Bytes that were free.
        free: u64,
    },
    /// The filters leave no file of what was to be offered.
    #[error("{0}")]
    NothingToSend(Cause),
    /// What answers there is another program.
    #[error("what answers there is not haul")]
    NotHaul(#[source] Cause),
    /// The offer is another one than the one that was accepted.
    #[error("the sender offers something else now than what was accepted")]
    OfferChanged,
    /// The other end speaks another version.
    #[error("the other end runs another version of haul")]
    OtherVersion(#[source] Cause),
    /// What is to be offered is not there, cannot be read or is too much.
    #[error("cannot offer what was asked for")]
    NotOffered(#[source] Cause),
    /// The offer is not the one file that was asked for.
    #[error(
        "--out is for one file, and the offer has {files} file{} and {folders} folder{}",
        if *files == 1 { "" } else { "s" },
        if *folders == 1 { "" } else { "s" }
    )]
    NotOneFile {
        /// Files of the offer.
        files: u64,
        /// Folders of the offer.
        folders: u64,
    },
    /// Some files failed and the others arrived; each failed one was reported as it happened.
    #[error("{failed} of {total} files failed")]
    Partial {
        /// How many failed.
        failed: u64,
        /// How many there were.
        total: u64,
    },
    /// The other end broke the protocol.
    #[error("the other end broke the protocol")]
    Protocol(#[source] Cause),
    /// Whoever read the stream that a file was written to has stopped.
    #[error("whoever read standard output has closed it before the end")]
    ReaderGone,
    /// The other end said no.
    #[error("the other end refused")]
    Refused(#[source] Cause),
    /// A session that an earlier run began with this code is not known to the host any more.
    #[error("this code was used for a transfer that is unfinished here, and its sender does not know that any more")]
    SessionGone,
    /// Sources changed or vanished while they were sent.
    #[error("{files} {} on the sending side", if *files == 1 { "file changed" } else { "files changed" })]
    SourceChanged {
        /// How many files.
        files: u64,
    },
    /// The other end fell silent for longer than the user allows.
    #[error("the other end was silent for {} s", waited.as_secs())]
    Timeout {
        /// How long.
        waited: Duration,
    },
    /// What is offered is not what the user demanded.
    #[error("what is offered is not what the manifest says")]
    Unexpected(#[source] Cause),
    /// A stream was written whose sender does not vouch for it in the end.
    #[error("what was written to standard output is not what the sender vouches for")]
    Unsealed,
    /// The host did not accept the code: it is another one, or used up, or somebody else answered.
    #[error("the code was not accepted")]
    WrongCode,
}

/// What kind of failure it is, for exit codes and for whoever reads events.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FailureClass {
    /// A proof failed, or the link is wrong.
    Auth,
    /// Our own mistake.
    Bug,
    /// Nobody answered.
    ConnectTimeout,
    /// Our user said no.
    Declined,
    /// A name is taken.
    Exists,
    /// Bytes do not have their hash.
    Integrity,
    /// Stopped on request.
    Interrupted,
    /// Disk or file system.
    Io,
    /// A name that is never written.
    Name,
    /// Network.
    Network,
    /// No room.
    NoSpace,
    /// Some files failed.
    Partial,
    /// The other end broke a rule.
    Protocol,
    /// The other end said no.
    Refused,
    /// A source changed or vanished.
    SourceChanged,
    /// Silence.
    Timeout,
    /// What was asked for cannot be done with this offer or this input.
    Usage,
}

impl TransferError {
    /// What kind of failure it is.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Auth(_)
            | Self::BadCode(_)
            | Self::BadLink(_)
            | Self::CodeLost
            | Self::NoInvitation
            | Self::SessionGone
            | Self::WrongCode => FailureClass::Auth,
            Self::Bug(_) => FailureClass::Bug,
            Self::ConnectTimeout { .. } | Self::HostNotFound { .. } => FailureClass::ConnectTimeout,
            Self::Declined => FailureClass::Declined,
            Self::Exists { .. } => FailureClass::Exists,
            Self::NotOneFile { .. }
            | Self::Input(SpoolFault::Missing { .. } | SpoolFault::Name { .. } | SpoolFault::Path { .. }) => {
                FailureClass::Usage
            }
            Self::Differs { .. } | Self::Integrity { .. } | Self::Unexpected(_) | Self::Unsealed => {
                FailureClass::Integrity
            }
            Self::Interrupted | Self::ReaderGone => FailureClass::Interrupted,
            Self::Names { .. } => FailureClass::Name,
            Self::Network(_) | Self::NobodyListens(_) => FailureClass::Network,
            Self::Input(SpoolFault::Full { .. }) | Self::NoInodes { .. } | Self::NoSpace { .. } => {
                FailureClass::NoSpace
            }
            Self::Partial { .. } => FailureClass::Partial,
            Self::NotHaul(_) | Self::OtherVersion(_) | Self::Protocol(_) => FailureClass::Protocol,
            Self::Refused(_) => FailureClass::Refused,
            Self::OfferChanged | Self::SourceChanged { .. } => FailureClass::SourceChanged,
            Self::Timeout { .. } => FailureClass::Timeout,
            Self::Input(_) | Self::Io { .. } | Self::NotOffered(_) | Self::NothingToSend(_) => FailureClass::Io,
        }
    }

    /// What a receiver still has after this failure.
    pub fn what_was_kept(&self) -> &'static str {
        match self {
            Self::Differs { .. } => return "nothing was changed",
            Self::OfferChanged => return "what earlier runs fetched is still there",
            Self::Unexpected(_) => return "whatever was fetched is as the manifest says; nothing else was written",
            Self::Unsealed => return "each chunk had its hash when it was written out",
            _ => {}
        }
        match self.class() {
            FailureClass::Auth | FailureClass::ConnectTimeout | FailureClass::Declined | FailureClass::Exists => {
                "nothing was written by this run; what earlier runs fetched is still there"
            }
            FailureClass::Integrity => "the parts that were verified are kept; nothing unverified was published",
            FailureClass::Name | FailureClass::Partial | FailureClass::SourceChanged => {
                "every other file is complete; the verified parts of failed files are kept"
            }
            FailureClass::Bug
            | FailureClass::Interrupted
            | FailureClass::Io
            | FailureClass::Network
            | FailureClass::NoSpace
            | FailureClass::Protocol
            | FailureClass::Refused
            | FailureClass::Timeout => "everything that was verified is kept",
            FailureClass::Usage => "nothing was written",
        }
    }

    /// What the user can do about it.
    pub fn what_next(&self) -> &'static str {
        match self {
            Self::Auth(_) => "check that the link is the one shown by the sender that runs now, whole and unchanged",
            Self::BadCode(_) => "type the number and the three words that the sender shows, as in 7-amber-canoe-lentil",
            Self::BadLink(_) => "copy the whole link, up to its last character, as `haul send` printed it",
            Self::Bug(_) => "run the same command again to continue; please report this with the text above",
            Self::CodeLost => "run `haul receive` with the code that the sender shows now",
            Self::ConnectTimeout { .. } => {
                "check that the sender still runs and that both are on one network, then run the same command again"
            }
            Self::Declined => "run the same command again to be asked again",
            Self::Differs { .. } => {
                "run the same command with --repair LINK to fetch what is wrong from a sender that has it"
            }
            Self::Exists { .. } => "choose --overwrite, --rename or --skip-existing, or another folder with --into",
            Self::HostNotFound { .. } => {
                "check that the sender runs and that both are on one network; `--at HOST:PORT` or the sender's link reach \
                 it where it cannot be found"
            }
            Self::Input(fault) => next_of_input(fault),
            Self::Integrity { .. } => {
                "run the same command again; if it fails again, check the sender's disk and both machines' memory"
            }
            Self::Network(cause) if matches!(cause.downcast_ref(), Some(TransportError::Unreachable(_))) => {
                "check that both machines are on and in one network, then run the same command again"
            }
            Self::Interrupted | Self::Network(_) | Self::ReaderGone | Self::Timeout { .. } => {
                "run the same command again to continue"
            }
            Self::Io { .. } => "once the cause is gone, run the same command again to continue",
            Self::Names { .. } => "rename them on the sending side and send them again",
            Self::NoInodes { .. } | Self::NoSpace { .. } => {
                "free some room or choose another folder with --into, then run the same command again"
            }
            Self::NoInvitation => {
                "copy the whole link that `haul send` printed, or type the code that it shows, as in 7-amber-canoe-lentil"
            }
            Self::NobodyListens(_) => {
                "check that the sender still runs, and that address and port are the ones that it shows, then run the \
                 same command again"
            }
            Self::NothingToSend(_) => {
                "loosen the filters; with `--dry-run --verbose` each path that they leave out is named"
            }
            Self::NotOffered(_) => "check how it is spelt and that it can be read, then run the same command again",
            Self::NotHaul(_) => "check the address and the port: another program listens there",
            Self::OfferChanged => {
                "run `haul receive` with the link that the sender shows; what did not change is not fetched again"
            }
            Self::NotOneFile { .. } => "receive it into a folder with --into, or have one file offered",
            Self::Unsealed => "throw it away, and run the same command again",
            Self::Partial { .. } => "run the same command again to fetch what failed",
            Self::OtherVersion(_) | Self::Protocol(_) => "check that both ends run the same version of haul",
            Self::Refused(_) => "ask the other end why; the same command can be run again",
            Self::SessionGone => {
                "run `haul receive` with the code or the link that the sender shows now; what is here is not fetched again"
            }
            Self::SourceChanged { .. } => {
                "start `haul send` again on what is there, then run the same command again; only differences travel"
            }
            Self::Unexpected(_) => {
                "ask the sender which files those are; without the manifest, whatever is offered can be taken"
            }
            Self::WrongCode => {
                "compare it with what the sender shows now: a code works once, and three wrong tries end it; if it is \
                 right, somebody on the network may be interfering, and the link is the safer way"
            }
        }
    }
}

fn next_of_input(fault: &SpoolFault) -> &'static str {
    match fault {
        SpoolFault::Full { .. } => "free some room or choose another folder with --spool",
        SpoolFault::Busy { .. } => "choose another --name",
        SpoolFault::Missing { .. } => "pipe it in again, without --again",
        SpoolFault::Name { .. } | SpoolFault::Path { .. } => "choose another --name, as in backup.tar",
        _ => "once the cause is gone, pipe it in again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_as_sentences() {
        assert_eq!(TransferError::Exists { count: 1 }.to_string(), "1 name exists here already, with other content");
        assert_eq!(TransferError::Exists { count: 2 }.to_string(), "2 names exist here already, with other content");
        assert_eq!(TransferError::Integrity { files: 1 }.to_string(), "1 file could not be verified");
        assert_eq!(TransferError::SourceChanged { files: 3 }.to_string(), "3 files changed on the sending side");
        assert_eq!(TransferError::Partial { failed: 2, total: 9 }.to_string(), "2 of 9 files failed");
    }

    #[test]
    fn a_cause_is_reachable_and_not_repeated() {
        let error =
            TransferError::Io { what: "cannot write `a`".into(), cause: std::io::Error::other("disk gone").into() };
        assert_eq!(error.to_string(), "cannot write `a`");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("disk gone"));
    }
}
