//! What can go wrong with a source: with what was asked to be sent, with one file of it, or with a question about it.

use crate::chunk::ChunkIndex;
use crate::limits::{ENTRIES_MAX, TOTAL_BYTES_MAX};
use crate::printable::{printable, printable_path};
use crate::source::Notice;
use std::io;
use std::path::{Path, PathBuf};

/// A source, or one file of it, that cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Of what was given, the filter leaves no file.
    #[error("the filters leave no file: {}", counted(*files, *folders))]
    AllLeftOut {
        /// Files that it leaves out.
        files: u64,
        /// Folders that it leaves out, with all that they hold.
        folders: u64,
    },
    /// The file is no longer the one that was listed; it can be listed anew.
    #[error("`{}` changed since it was listed", printable_path(path))]
    Changed {
        /// The file on this machine.
        path: PathBuf,
    },
    /// Two of the given paths would appear under one name.
    #[error(
        "`{}` and `{}` would both be sent as `{}`; rename one or send the folder that holds them",
        printable_path(first),
        printable_path(second),
        printable(name)
    )]
    Clash {
        /// The path given first.
        first: PathBuf,
        /// The name that both would have.
        name: String,
        /// The path given later.
        second: PathBuf,
    },
    /// A given path is not there.
    #[error("`{}` does not exist", printable_path(path))]
    Missing {
        /// The path as it was given.
        path: PathBuf,
    },
    /// A given path has no name that it could be sent under.
    #[error("`{}` has no name of its own; name the folders in it instead", printable_path(path))]
    Nameless {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The source has no such chunk, or the range lies outside it. Nothing is read.
    #[error("entry {entry} has no such bytes in chunk {}", chunk.0)]
    NoSuchBytes {
        /// Place of the entry in the listing.
        entry: u32,
        /// The chunk that was asked for.
        chunk: ChunkIndex,
    },
    /// Nothing of what was given can be sent.
    #[error("there is nothing to send{}", first_of(notices))]
    Nothing {
        /// What was left out, and why.
        notices: Vec<Notice>,
    },
    /// Somebody stopped the walk.
    #[error("the walk was stopped")]
    Stopped,
    /// All files together are longer than an offer may be.
    #[error("the files add up to more than {TOTAL_BYTES_MAX} bytes")]
    TooManyBytes,
    /// There are more files and folders than an offer may list.
    #[error("there are more than {ENTRIES_MAX} files and folders; send them in several offers")]
    TooManyEntries,
    /// The system refuses to read the file.
    #[error("`{}` cannot be read: {source}", printable_path(path))]
    Unreadable {
        /// The file or folder on this machine.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is gone.
    #[error("`{}` is gone", printable_path(path))]
    Vanished {
        /// Where the file was on this machine.
        path: PathBuf,
    },
}

/// What happened to one file, before its path is known.
#[derive(Debug)]
pub(super) enum Trouble {
    Changed,
    Unreadable(io::Error),
    Vanished,
}

impl Trouble {
    pub(super) fn at(self, path: &Path) -> SourceError {
        let path = path.to_owned();
        match self {
            Self::Changed => SourceError::Changed { path },
            Self::Unreadable(source) => SourceError::Unreadable { path, source },
            Self::Vanished => SourceError::Vanished { path },
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// `2 files and 1 folder left out`.
fn counted(files: u64, folders: u64) -> String {
    let one = |number, name| format!("{number} {name}{}", if number == 1 { "" } else { "s" });
    match (files, folders) {
        (0, folders) => format!("{} left out", one(folders, "folder")),
        (files, 0) => format!("{} left out", one(files, "file")),
        (files, folders) => format!("{} and {} left out", one(files, "file"), one(folders, "folder")),
    }
}

fn first_of(notices: &[Notice]) -> String {
    notices.first().map(|notice| format!(": {notice}")).unwrap_or_default()
}
