//! Where an entry lies on this machine, and how it is opened without following a link.

use super::fault::Trouble;
use crate::digest::{DIGEST_BYTES, PurposeHasher};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Folders that hold given paths and are kept open; more of them are opened again by path when they are needed.
const ANCHORS_HELD_MAX: usize = 64;
/// Times that a look-up is tried again when a rename anywhere on the system disturbed it.
const LOOKUP_TRIES: u32 = 64;

/// How a file is opened: a FIFO that took its place cannot block, nor a terminal become ours.
const READ_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);
/// How a folder is opened whose entries are read.
const LIST_FLAGS: OFlags = READ_FLAGS.union(OFlags::DIRECTORY);
/// How a folder is opened that is only passed through, which needs no right to list it where the system can do so.
#[cfg(target_os = "linux")]
const PASS_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const PASS_FLAGS: OFlags = LIST_FLAGS;

/// How something is opened that is only looked at, whatever it is.
#[cfg(target_os = "linux")]
const LOOK_FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const LOOK_FLAGS: OFlags = READ_FLAGS;

/// A point in time as a file system tells it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Moment {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// What tells one state of one file from every other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) bytes: u64,
    pub(super) modified: Moment,
    pub(super) changed: Moment,
}

/// A folder that directly holds one or more of the given paths.
#[derive(Debug)]
pub(super) struct Anchor {
    path: PathBuf,
    device: u64,
    inode: u64,
    held: Option<OwnedFd>,
}

/// All anchors of a source.
#[derive(Debug, Default)]
pub(super) struct Anchors(Vec<Anchor>);

impl Identity {
    /// Stands in the place of a file that is not there.
    pub(super) const NOTHING: Self = Self {
        device: 0,
        inode: 0,
        bytes: 0,
        modified: Moment { seconds: 0, nanoseconds: 0 },
        changed: Moment { seconds: 0, nanoseconds: 0 },
    };

    /// The state as bytes that say nothing else.
    pub(super) fn stamp(&self) -> [u8; DIGEST_BYTES] {
        let Self { device, inode, bytes, modified, changed } = self;
        let mut hasher = PurposeHasher::new("haul 1 state of a source file");
        for number in [*device, *inode, *bytes] {
            hasher.field(&number.to_le_bytes());
        }
        for moment in [modified, changed] {
            hasher.field(&moment.seconds.to_le_bytes()).field(&moment.nanoseconds.to_le_bytes());
        }
        hasher.finish()
    }

    pub(super) fn of(stat: &Stat) -> Self {
        let nanoseconds = |value| u32::try_from(value).unwrap_or(0);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            bytes: u64::try_from(stat.st_size).unwrap_or(u64::MAX),
            modified: Moment { seconds: stat.st_mtime, nanoseconds: nanoseconds(stat.st_mtime_nsec) },
            changed: Moment { seconds: stat.st_ctime, nanoseconds: nanoseconds(stat.st_ctime_nsec) },
        }
    }

    /// Whether the content is the same as far as the system tells. A rename, an unlink, a new link or new rights
    /// change the status alone, and what is open stays readable through all of them.
    pub(super) fn has_content_of(&self, other: &Self) -> bool {
        Self { changed: other.changed, ..*self } == *other
    }
}

impl Anchors {
    /// Place of the anchor for the folder at `path`, which is canonical.
    pub(super) fn add(&mut self, path: &Path) -> io::Result<usize> {
        // Given paths mostly share their folder with the one before.
        if let Some(place) = self.0.iter().rposition(|anchor| anchor.path == path) {
            return Ok(place);
        }
        let folder = open_canonical_folder(path)?;
        let stat = rustix::fs::fstat(&folder)?;
        let held = (self.0.len() < ANCHORS_HELD_MAX).then_some(folder);
        self.0.push(Anchor { path: path.to_owned(), device: stat.st_dev, inode: stat.st_ino, held });
        Ok(self.0.len() - 1)
    }

    pub(super) fn path(&self, anchor: usize) -> &Path {
        &self.0[anchor].path
    }

    /// Runs `act` with the anchor's folder.
    pub(super) fn with<T>(
        &self,
        anchor: usize,
        act: impl FnOnce(BorrowedFd<'_>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let anchor = &self.0[anchor];
        if let Some(folder) = &anchor.held {
            return act(folder.as_fd());
        }
        let folder = open_canonical_folder(&anchor.path).map_err(lookup_trouble)?;
        let stat = rustix::fs::fstat(&folder).map_err(io::Error::from)?;
        if (stat.st_dev, stat.st_ino) != (anchor.device, anchor.inode) {
            return Err(Trouble::Changed);
        }
        act(folder.as_fd())
    }
}

/// Opens the regular file at `path` beneath `folder`, and tells its status. No component may be a link.
pub(super) fn open_file(folder: BorrowedFd<'_>, path: &Path) -> Result<(File, Stat), Trouble> {
    let file = open_beneath(folder, path, READ_FLAGS).map_err(lookup_trouble)?;
    let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Trouble::Changed);
    }
    Ok((File::from(file), stat))
}

/// Status of what lies at `path` beneath `folder`, of the link itself where it is one. No other component may be one.
pub(super) fn status_beneath(folder: BorrowedFd<'_>, path: &Path) -> Result<Stat, Trouble> {
    let opened = open_beneath(folder, path, LOOK_FLAGS).map_err(lookup_trouble)?;
    Ok(rustix::fs::fstat(&opened).map_err(io::Error::from)?)
}

/// Opens the folder `name` directly in `folder` to list it.
pub(super) fn open_listable_folder(folder: BorrowedFd<'_>, name: &OsStr) -> Result<(OwnedFd, Stat), Trouble> {
    let opened = rustix::fs::openat(folder, name, LIST_FLAGS, Mode::empty()).map_err(lookup_trouble)?;
    let stat = rustix::fs::fstat(&opened).map_err(io::Error::from)?;
    Ok((opened, stat))
}

/// Status of `name` directly in `folder`, of the link itself where it is one.
pub(super) fn status(folder: BorrowedFd<'_>, name: &OsStr) -> Result<Stat, Trouble> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(lookup_trouble)
}

/// Whether this process may read `name` directly in `folder`.
pub(super) fn check_readable(folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Trouble> {
    rustix::fs::accessat(folder, name, rustix::fs::Access::READ_OK, AtFlags::empty()).map_err(lookup_trouble)
}

/// Names in `folder`, in the order of the file system, without `.` and `..`; one more than `most` at most.
pub(super) fn names(folder: &OwnedFd, most: usize) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() != b"." && name.to_bytes() != b".." {
            names.push(name.to_owned());
            if names.len() > most {
                break;
            }
        }
    }
    Ok(names)
}

/// Reads at `offset` until the buffer is full or the file ends; the number of bytes read.
pub(super) fn read_at(file: &File, mut offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What a failed look-up says about the entry that was listed there.
pub(super) fn lookup_trouble(error: impl Into<io::Error>) -> Trouble {
    let error = error.into();
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => Trouble::Vanished,
        // A link, a file, a socket or a way out of the folder took the place of what was listed.
        Some(Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NXIO | Errno::ISDIR) => Trouble::Changed,
        _ => Trouble::Unreadable(error),
    }
}

#[cfg(target_os = "linux")]
fn open_beneath(folder: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..LOOKUP_TRIES {
        match rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // An old kernel, a filter that does not know the call, or a path too long for one call.
            Err(Errno::NOSYS | Errno::PERM | Errno::NAMETOOLONG) => break,
            result => return result,
        }
    }
    open_by_components(folder, path, flags)
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(folder: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_by_components(folder, path, flags)
}

/// The same as `openat2` with its flags against links, one component at a time.
fn open_by_components(folder: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut above: Option<OwnedFd> = None;
    let mut components = path.as_os_str().as_bytes().split(|byte| *byte == b'/').peekable();
    while let Some(component) = components.next() {
        let flags = if components.peek().is_some() { PASS_FLAGS } else { flags };
        let from = above.as_ref().map_or(folder, AsFd::as_fd);
        above = Some(open_retrying(from, OsStr::from_bytes(component), flags)?);
    }
    above.ok_or(Errno::NOENT)
}

fn open_retrying(folder: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::io::retry_on_intr(|| rustix::fs::openat(folder, name, flags, Mode::empty()))
}

/// Opens a folder by its canonical path, in which no component is a link unless somebody is swapping folders.
fn open_canonical_folder(path: &Path) -> io::Result<OwnedFd> {
    let root = rustix::fs::open("/", PASS_FLAGS, Mode::empty())?;
    match path.strip_prefix("/") {
        Ok(below) if !below.as_os_str().is_empty() => Ok(open_beneath(root.as_fd(), below, PASS_FLAGS)?),
        _ => Ok(root),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Both ways of opening agree on every kind of path.
    #[test]
    fn links_are_refused_in_every_component() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir_all(root.join("in/deep")).unwrap();
        std::fs::write(root.join("in/deep/file"), b"inside").unwrap();
        std::fs::write(root.join("outside"), b"outside").unwrap();
        symlink("deep", root.join("in/link")).unwrap();
        symlink("file", root.join("in/deep/alias")).unwrap();
        symlink("../../outside", root.join("in/deep/escape")).unwrap();
        let folder = rustix::fs::open(root.join("in"), PASS_FLAGS, Mode::empty()).unwrap();
        for open in [open_beneath, open_by_components] {
            let kind = |path: &str| match open(folder.as_fd(), Path::new(path), READ_FLAGS).map_err(lookup_trouble) {
                Ok(_) => "open",
                Err(Trouble::Changed) => "changed",
                Err(Trouble::Vanished) => "vanished",
                Err(Trouble::Unreadable(_)) => "unreadable",
            };
            assert_eq!(kind("deep/file"), "open");
            assert_eq!(kind("link/file"), "changed");
            assert_eq!(kind("deep/alias"), "changed");
            assert_eq!(kind("deep/escape"), "changed");
            assert_eq!(kind("deep/file/below"), "changed");
            assert_eq!(kind("deep/none"), "vanished");
            assert_eq!(kind("none/file"), "vanished");
        }
    }

    #[test]
    fn status_alone_does_not_make_other_content() {
        let moment = |seconds| Moment { seconds, nanoseconds: 0 };
        let one = Identity { device: 1, inode: 2, bytes: 3, modified: moment(4), changed: moment(5) };
        assert!(one.has_content_of(&Identity { changed: moment(6), ..one }));
        assert!(!one.has_content_of(&Identity { modified: moment(6), ..one }));
        assert!(!one.has_content_of(&Identity { bytes: 4, ..one }));
        assert!(!one.has_content_of(&Identity { inode: 3, ..one }));
    }
}
