//! What can go wrong in the store, one variant per rule or cause.

use super::platform;
use std::io::{self, ErrorKind};

/// Why the store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process works on the same thing.
    #[error("another transfer{} is using `{path}`", holder.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Busy {
        /// The file or transfer that is in use.
        path: String,
        /// The process that said it holds it, where it said so.
        holder: Option<u32>,
    },
    /// Bytes read back from the disk are not the ones that were hashed on the way in.
    #[error("`{path}` does not read back as it was written: the disk is not to be trusted")]
    Damaged {
        /// The file.
        path: String,
    },
    /// The final name is taken, and the choice was not to overwrite it, or it is not a plain file.
    #[error("`{path}` exists")]
    Exists {
        /// The name that is taken.
        path: String,
    },
    /// The device did not take the bytes. Nothing since the last good sync counts as written.
    #[error("`{path}` could not be made durable: {source}")]
    FsyncFailed {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It was to take long, and the transfer is to stop: nothing is wrong with the file.
    #[error("`{path}` was not read to its end: the transfer stops")]
    Halted {
        /// The file.
        path: String,
    },
    /// A file cannot be sealed: some chunk is missing, held or not checked.
    #[error("`{path}` is not complete: {missing} chunks are missing or unchecked")]
    Incomplete {
        /// The file.
        path: String,
        /// How many chunks are not claimed and checked.
        missing: u64,
    },
    /// The system refused a call.
    #[error("{doing} `{path}`: {source}")]
    Io {
        /// What was tried, as a gerund.
        doing: &'static str,
        /// On what.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The caller broke a rule of this module: our own bug.
    #[error("internal error: {0}")]
    Misuse(&'static str),
    /// The file system has no such names: too long, or with characters that it keeps to itself.
    #[error("the file system at the destination cannot hold the name of `{path}`: {source}")]
    Name {
        /// The path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The disk or the quota is used up.
    #[error("no space for `{path}`: {needed} bytes are needed and {free} are free")]
    NoSpace {
        /// The file.
        path: String,
        /// Bytes that the step needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A folder is needed where something else is, possibly a link, which is never followed.
    #[error("`{path}` is not a folder")]
    NotAFolder {
        /// What is in the way.
        path: String,
    },
    /// The chunks are all as promised, but do not add up to the file's root.
    #[error("`{path}`: its chunks do not add up to the promised root")]
    RootMismatch {
        /// The file.
        path: String,
    },
    /// The file system has no files of that length, however much is free.
    #[error("`{path}` is longer than the file system at the destination allows")]
    TooLong {
        /// The file.
        path: String,
    },
    /// Something in the folder of unfinished transfers is not what this program left there.
    #[error("`{path}` is not as haul left it: {what}")]
    Tampered {
        /// What was found changed.
        path: String,
        /// How.
        what: &'static str,
    },
}

impl StoreError {
    /// A refused call, with the causes that have a name told apart. `free` is asked only where the disk is full.
    pub(super) fn of(
        doing: &'static str,
        path: &str,
        needed: u64,
        source: io::Error,
        free: impl FnOnce() -> u64,
    ) -> Self {
        let path = path.to_owned();
        if matches!(source.get_ref(), Some(cause) if cause.is::<Halted>()) {
            return Self::Halted { path };
        }
        match source.kind() {
            kind if is_full(kind) => Self::NoSpace { path, needed, free: free() },
            ErrorKind::FileTooLarge => Self::TooLong { path },
            ErrorKind::NotADirectory => Self::NotAFolder { path },
            _ if platform::is_of_a_name(&source) => Self::Name { path, source },
            _ => Self::Io { doing, path, source },
        }
    }

    /// The same of a call that looks for a name or makes one: what is invalid about such a call is the name.
    pub(super) fn of_name(self) -> Self {
        match self {
            Self::Io { path, source, .. } if source.kind() == ErrorKind::InvalidInput => Self::Name { path, source },
            other => other,
        }
    }

    /// Whether it is for want of room: freeing some, or raising a limit, is what helps.
    pub fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::NoSpace { .. } | Self::TooLong { .. } => true,
            Self::FsyncFailed { source, .. } => is_full(source.kind()),
            _ => false,
        }
    }
}

/// Whether the disk or the quota is used up.
fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_quota_are_waited_for_and_a_file_too_long_is_not() {
        let of = |kind: ErrorKind| StoreError::of("writing", "a", 7, kind.into(), || 3);
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            assert!(matches!(of(kind), StoreError::NoSpace { needed: 7, free: 3, .. }));
            let unsynced = StoreError::FsyncFailed { path: "a".into(), source: kind.into() };
            assert!(of(kind).is_for_want_of_room() && unsynced.is_for_want_of_room());
        }
        assert!(matches!(of(ErrorKind::FileTooLarge), StoreError::TooLong { .. }));
        assert!(of(ErrorKind::FileTooLarge).is_for_want_of_room());
        assert!(!of(ErrorKind::PermissionDenied).is_for_want_of_room());
    }
}

/// The cause of an error that stands for [`StoreError::Halted`].
#[derive(Debug, thiserror::Error)]
#[error("the transfer stops")]
pub(super) struct Halted;
