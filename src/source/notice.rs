//! What a walk leaves out or renames, and why.

use crate::manifest::TargetFault;
use crate::printable::{printable, printable_path};
use crate::rel_path::{PathFault, RelPath, WORK_FOLDER};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// One thing that a walk did not take as it is.
#[derive(Debug)]
pub struct Notice {
    /// Where it lies, beginning with the path as it was given.
    pub path: PathBuf,
    /// What is the matter.
    pub reason: NoticeReason,
}

/// Why a walk did not take something as it is.
#[derive(Debug)]
pub enum NoticeReason {
    /// So many of its extended attributes are too long or too many, or have a name that is no text.
    Attributes(u64),
    /// A device, which has no content of its own.
    Device,
    /// A FIFO, which has no content of its own.
    Fifo,
    /// Its name is no text, so it is sent under this one.
    Renamed(RelPath),
    /// A socket, which has no content of its own.
    Socket,
    /// A link, which is not followed.
    Symlink,
    /// A link to something whose name is no text.
    TargetNotUtf8,
    /// A file longer than any that is sent.
    TooLong,
    /// A name that other machines would misread.
    UnsafeName(PathFault),
    /// A link that would lead elsewhere on another machine, or out of what is sent.
    UnsafeTarget(TargetFault),
    /// The system refuses to read it.
    Unreadable(io::Error),
    /// It was gone, or something else took its place, while the folder was read.
    Vanished,
    /// The folder of unfinished transfers.
    WorkFolder,
}

impl Notice {
    /// Whether something that the user asked for is missing from the offer, so that a transfer of it is partial.
    pub fn is_failure(&self) -> bool {
        match self.reason {
            NoticeReason::TargetNotUtf8
            | NoticeReason::TooLong
            | NoticeReason::UnsafeName(_)
            | NoticeReason::UnsafeTarget(_)
            | NoticeReason::Unreadable(_)
            | NoticeReason::Vanished => true,
            NoticeReason::Attributes(_)
            | NoticeReason::Device
            | NoticeReason::Fifo
            | NoticeReason::Renamed(_)
            | NoticeReason::Socket
            | NoticeReason::Symlink
            | NoticeReason::WorkFolder => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` ", printable_path(&self.path))?;
        match &self.reason {
            NoticeReason::Attributes(1) => formatter.write_str(
                "has an extended attribute that is too long to send, or cannot be named, and is sent without it",
            ),
            NoticeReason::Attributes(count) => write!(
                formatter,
                "has {count} extended attributes that are too long or too many to send, or cannot be named, and is sent without them"
            ),
            NoticeReason::Device => formatter.write_str("is a device and is left out"),
            NoticeReason::Fifo => formatter.write_str("is a FIFO and is left out"),
            NoticeReason::Renamed(path) => {
                write!(formatter, "has a name that is not UTF-8 and is sent as `{}`", printable(path.as_str()))
            }
            NoticeReason::Socket => formatter.write_str("is a socket and is left out"),
            NoticeReason::Symlink => formatter.write_str("is a symbolic link and is left out"),
            NoticeReason::TargetNotUtf8 => {
                formatter.write_str("is a symbolic link to a name that is not UTF-8 and is left out")
            }
            NoticeReason::TooLong => formatter.write_str("is longer than any file that can be sent and is left out"),
            NoticeReason::UnsafeName(fault) => write!(formatter, "is left out: {fault}"),
            NoticeReason::Unreadable(error) => write!(formatter, "cannot be read and is left out: {error}"),
            NoticeReason::UnsafeTarget(fault) => write!(formatter, "is a symbolic link and is left out: {fault}"),
            NoticeReason::Vanished => formatter.write_str("changed while the folder was read and is left out"),
            NoticeReason::WorkFolder => {
                write!(formatter, "is left out: `{WORK_FOLDER}` is the folder of unfinished transfers")
            }
        }
    }
}
