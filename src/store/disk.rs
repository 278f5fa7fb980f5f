//! The calls that the store makes on a disk, few enough that a test can stand in for all of them and fail any one.
//!
//! A name is always one component. It is looked up in a folder that is held open, and never followed if it is a link,
//! so no call can leave the destination whatever other programs do to the tree meanwhile.

use crate::manifest::{Mode, Timestamp};
use crate::mmap::View;
use std::io;

/// A destination to write into.
pub trait Disk: std::fmt::Debug + Send + Sync + 'static {
    /// A folder held open.
    type Folder: DiskFolder;

    /// The destination folder.
    fn destination(&self) -> &Self::Folder;

    /// Files that the store may hold open until they are published, beside those that it works on.
    fn held_open_max(&self) -> usize;

    /// What tells this start of the system, and this mount of the disk, from others: data that was written and not
    /// synced is known to be there only while this stays the same. `None` where the system cannot say.
    fn boot(&self) -> Option<BootId>;
}

/// A folder held open.
pub trait DiskFolder: std::fmt::Debug + Send + Sync + Sized + 'static {
    /// A file held open.
    type File: DiskFile;

    /// What `name` is, without following it; `None` where there is nothing.
    fn facts(&self, name: &str) -> io::Result<Option<Facts>>;
    /// What this folder itself is.
    fn own_facts(&self) -> io::Result<Facts>;
    /// Opens a folder. Anything else, a link to a folder included, is [`io::ErrorKind::NotADirectory`].
    fn open_folder(&self, name: &str) -> io::Result<Self>;
    /// Makes a folder, for its owner alone if `private`.
    fn make_folder(&self, name: &str, private: bool) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, name: &str) -> io::Result<()>;
    /// Opens or makes a file; never waits for the other end of a pipe.
    fn open_file(&self, name: &str, how: OpenHow) -> io::Result<Self::File>;
    /// Makes a file that has no name yet, for its owner alone, and that goes with its last handle unless it is given one.
    /// `Ok(None)` where that cannot be had.
    fn open_unnamed(&self) -> io::Result<Option<Self::File>>;
    /// Gives a file that was made without a name its first one here; a name that is taken is
    /// [`io::ErrorKind::AlreadyExists`].
    fn give_name(&self, file: &Self::File, name: &str) -> io::Result<()>;
    /// Removes a file, or the link itself where it is one.
    fn remove_file(&self, name: &str) -> io::Result<()>;
    /// Moves a file in one step. With [`Replace::Never`], a name that is taken is [`io::ErrorKind::AlreadyExists`].
    fn rename(&self, name: &str, to: &Self, to_name: &str, replace: Replace) -> io::Result<()>;
    /// Makes a symbolic link that holds `target`, whatever that leads to.
    fn make_symlink(&self, target: &str, name: &str) -> io::Result<()>;
    /// Sets the time of last change of a symbolic link itself.
    fn set_symlink_time(&self, name: &str, modified: Timestamp) -> io::Result<()>;
    /// What a symbolic link holds. Anything else is [`io::ErrorKind::InvalidInput`], and a text that is no UTF-8 is
    /// [`io::ErrorKind::InvalidData`].
    fn read_symlink(&self, name: &str) -> io::Result<String>;
    /// Gives what `name` is, a link itself included, another name; a name that is taken is
    /// [`io::ErrorKind::AlreadyExists`]. `Ok(false)`, with nothing done, where the file system has no second names, or no
    /// more for this file.
    fn link(&self, name: &str, to: &Self, to_name: &str) -> io::Result<bool>;
    /// All names in this folder.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes the folder's entries durable.
    fn sync(&self) -> io::Result<Durability>;
    /// Makes everything on the file system durable and reports failures; `Ok(false)` where that cannot be had.
    fn sync_file_system(&self) -> io::Result<bool>;
    /// Sets an extended attribute of this folder.
    fn set_attribute(&self, name: &str, value: &[u8]) -> io::Result<()>;
    /// Sets permission bits and time of last change of this folder.
    fn set_meta(&self, mode: Mode, modified: Option<Timestamp>) -> io::Result<()>;
    /// What is free for this user.
    fn space(&self) -> io::Result<Space>;
    /// Whether this user may make and remove names here.
    fn check_writable(&self) -> io::Result<()>;
}

/// A file held open. Reads and writes may be short or interrupted; the store goes on with the rest.
pub trait DiskFile: std::fmt::Debug + Send + Sync + 'static {
    /// What the file is.
    fn facts(&self) -> io::Result<Facts>;
    /// Reads from `offset`; 0 only at the end of the file.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Sets aside room for the first `length` bytes and makes the file at least that long; `Ok(false)`, with nothing
    /// done, where the file system cannot promise room.
    fn reserve(&self, length: u64) -> io::Result<bool>;
    /// Whether this file system's files may share what they hold.
    fn may_share(&self) -> bool {
        false
    }
    /// Gives `length` bytes from `at` on the content of `other` from `from` on, without a copy where these two can share it.
    /// `Ok(false)` where that cannot be had; what lies there then means nothing.
    fn share(&self, _other: &Self, _from: u64, _at: u64, _length: u64) -> io::Result<bool> {
        Ok(false)
    }
    /// Turns a range into a hole that reads as zeros; `Ok(false)`, with nothing done, where that cannot be had.
    fn punch(&self, offset: u64, length: u64) -> io::Result<bool>;
    /// Cuts or extends the file.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Sets an extended attribute.
    fn set_attribute(&self, name: &str, value: &[u8]) -> io::Result<()>;
    /// Sets permission bits and time of last change.
    fn set_meta(&self, mode: Mode, modified: Option<Timestamp>) -> io::Result<()>;
    /// Whether they are these, and there are no others. A disk that cannot say has them set again.
    fn has_meta(&self, _mode: Mode, _modified: Timestamp) -> io::Result<bool> {
        Ok(false)
    }
    /// Makes bytes and all that is known of the file durable.
    fn sync(&self) -> io::Result<()>;
    /// Makes bytes durable, and of the rest what is needed to find them.
    fn sync_data(&self) -> io::Result<()>;
    /// Takes the advisory lock until the file is closed. `Ok(false)` where somebody else holds it.
    fn lock(&self, lock: Lock) -> io::Result<bool>;
    /// Lets go of what the system keeps of the file in memory, as far as it is durable.
    fn drop_cache(&self);
    /// A view of the first `length` bytes where this file system makes hashing through one the cheapest way.
    fn view(&self, _length: u64) -> Option<View> {
        None
    }
}

/// Tells one start of the system, and one mount of a disk, from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BootId(pub [u8; 16]);

/// Whether a rename or a sync is known to outlast a power cut.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Durability {
    /// The file system cannot sync a folder: it will be written when the system sees fit.
    BestEffort,
    /// It is on the device.
    Full,
}

/// What is known of a name or an open file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a file.
    pub length: u64,
    /// Device and number on it.
    pub identity: (u64, u64),
    /// Names that it has.
    pub links: u64,
    /// Whether it belongs to the user that this process runs as.
    pub is_ours: bool,
    /// Whether nobody else has any permission on it.
    pub is_private: bool,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileKind {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device.
    Other,
}

/// Who else may hold a lock at the same time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lock {
    /// Nobody; does not wait.
    Exclusive,
    /// Others that share it; waits for an exclusive holder.
    Shared,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenHow {
    /// Made, for its owner alone; must not exist.
    Create,
    /// For reading.
    Read,
    /// For reading and writing.
    Write,
}

/// What a rename does to a name that is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replace {
    /// Replaces a file, or a link itself where it is one.
    File,
    /// Fails.
    Never,
}

/// What is free.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space {
    /// Bytes.
    pub bytes: u64,
    /// Files; `u64::MAX` where the file system has no such limit.
    pub inodes: u64,
}

/// Reads until `into` is full. Ends early, with what there was, only at the end of the file.
pub(super) fn read_full(file: &impl DiskFile, mut into: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while !into.is_empty() {
        match file.read_at(into, offset) {
            Ok(0) => break,
            Ok(count) => {
                done += count;
                offset += count as u64;
                into = &mut into[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Reads until `into` is full; a file that ends before that is an error.
pub(super) fn read_exact(file: &impl DiskFile, into: &mut [u8], offset: u64) -> io::Result<()> {
    let wanted = into.len();
    if read_full(file, into, offset)? < wanted { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Writes all of `bytes`.
pub(super) fn write_all(file: &impl DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                offset += count as u64;
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reserves room, as often as a signal interrupts it.
pub(super) fn reserve(file: &impl DiskFile, length: u64) -> io::Result<bool> {
    loop {
        match file.reserve(length) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
