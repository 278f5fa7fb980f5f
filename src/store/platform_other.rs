//! What the portable calls offer where the system is no Unix.
//!
//! There is no advisory lock and no sync of folders here: a transfer runs, but nothing keeps a second process out, and
//! a rename is durable when the system sees fit.

use super::disk::{BootId, Durability, Facts, FileKind, Lock, Space};
use crate::manifest::{Mode, Timestamp};
use cap_fs_ext::MetadataExt;
use cap_std::fs::{Dir, OpenOptions};
use std::fs::File;
use std::io;
use std::os::windows::fs::FileExt;
use std::time::{Duration, SystemTime};

pub(super) fn harden(_options: &mut OpenOptions) {}

pub(super) fn facts_at(folder: &Dir, name: &str) -> io::Result<Facts> {
    let found = folder.symlink_metadata(name)?;
    let kind = match found.file_type() {
        kind if kind.is_file() => FileKind::File,
        kind if kind.is_dir() => FileKind::Folder,
        kind if kind.is_symlink() => FileKind::Link,
        _ => FileKind::Other,
    };
    Ok(Facts {
        kind,
        length: found.len(),
        identity: (found.dev(), found.ino()),
        links: found.nlink(),
        is_ours: true,
        is_private: true,
    })
}

pub(super) fn facts_of(handle: &impl Described) -> io::Result<Facts> {
    handle.describe()
}

/// Every file has a name here.
pub(super) fn open_unnamed(_folder: &Dir) -> io::Result<Option<File>> {
    Ok(None)
}

pub(super) fn give_name(_file: &File, _folder: &Dir, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Files that this process may have open at once: without a limit of its own.
pub(super) fn handles_max() -> usize {
    usize::MAX
}

/// An open file or folder that can say what it is.
pub(super) trait Described {
    fn describe(&self) -> io::Result<Facts>;
}

impl Described for File {
    fn describe(&self) -> io::Result<Facts> {
        let found = cap_std::fs::File::from_std(self.try_clone()?).metadata()?;
        let kind = if found.is_file() { FileKind::File } else { FileKind::Other };
        Ok(Facts {
            kind,
            length: found.len(),
            identity: (found.dev(), found.ino()),
            links: found.nlink(),
            is_ours: true,
            is_private: true,
        })
    }
}

impl Described for Dir {
    fn describe(&self) -> io::Result<Facts> {
        let found = self.dir_metadata()?;
        Ok(Facts {
            kind: FileKind::Folder,
            length: 0,
            identity: (found.dev(), found.ino()),
            links: found.nlink(),
            is_ours: true,
            is_private: true,
        })
    }
}

pub(super) fn make_folder(folder: &Dir, name: &str, _private: bool) -> io::Result<()> {
    folder.create_dir(name)
}

/// Virus scanners hold a fresh file open for a moment; a rename that meets one is tried again for some seconds.
pub(super) fn rename_to_free_name(from: &Dir, name: &str, to: &Dir, to_name: &str) -> io::Result<()> {
    let mut pause = Duration::from_millis(10);
    loop {
        if to.symlink_metadata(to_name).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        match from.rename(name, to, to_name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && pause < Duration::from_secs(5) => {
                std::thread::sleep(pause);
                pause *= 2;
            }
            result => return result,
        }
    }
}

/// Whether a call failed for the name that it was given, whatever the call.
pub(super) fn is_of_a_name(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidFilename
}

/// Making a link takes a right here that users seldom have.
pub(super) fn make_symlink(_folder: &Dir, _target: &str, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn set_symlink_time(_folder: &Dir, _name: &str, _modified: Timestamp) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn read_symlink(folder: &Dir, name: &str) -> io::Result<String> {
    if !folder.symlink_metadata(name)?.is_symlink() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let target = folder.read_link_contents(name)?;
    target.into_os_string().into_string().map_err(|_| io::ErrorKind::InvalidData.into())
}

pub(super) fn link(from: &Dir, name: &str, to: &Dir, to_name: &str) -> io::Result<bool> {
    match from.hard_link(name, to, to_name) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Err(error),
        Err(_) => Ok(false),
    }
}

pub(super) fn set_attribute<T>(_handle: &T, _name: &str, _value: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn opened_for_reading(folder: &Dir) -> io::Result<Dir> {
    folder.try_clone()
}

pub(super) fn sync_folder(_folder: &Dir) -> io::Result<Durability> {
    Ok(Durability::BestEffort)
}

pub(super) fn sync_file_system(_folder: &Dir) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn set_folder_meta(_folder: &Dir, _mode: Mode, _modified: Option<Timestamp>) -> io::Result<()> {
    Ok(())
}

pub(super) fn set_file_meta(file: &File, mode: Mode, modified: Option<Timestamp>) -> io::Result<()> {
    if let Some(modified) = modified {
        let whole = Duration::from_secs(modified.seconds().unsigned_abs());
        let base = SystemTime::UNIX_EPOCH;
        let time = if modified.seconds() < 0 { base.checked_sub(whole) } else { base.checked_add(whole) };
        if let Some(time) = time.and_then(|time| time.checked_add(Duration::from_nanos(modified.nanoseconds().into())))
        {
            file.set_modified(time)?;
        }
    }
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(mode.bits() & 0o200 == 0);
    file.set_permissions(permissions)
}

pub(super) fn space(_folder: &Dir) -> io::Result<Space> {
    Ok(Space { bytes: u64::MAX, inodes: u64::MAX })
}

pub(super) fn check_writable(_folder: &Dir) -> io::Result<()> {
    Ok(())
}

pub(super) fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(into, offset)
}

pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(bytes, offset)
}

pub(super) fn reserve(_file: &File, _length: u64) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn punch(_file: &File, _offset: u64, _length: u64) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn has_meta(_file: &File, _mode: Mode, _modified: Timestamp) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn may_share(_file: &File) -> bool {
    false
}

pub(super) fn share(_file: &File, _other: &File, _from: u64, _at: u64, _length: u64) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn lock(_file: &File, _lock: Lock) -> io::Result<bool> {
    Ok(true)
}

pub(super) fn drop_cache(_file: &File) {}

pub(super) fn hashes_best_in_a_view(_file: &File) -> bool {
    false
}

pub(super) fn boot(_folder: &Dir) -> Option<BootId> {
    None
}
