//! What Unix systems offer beyond the portable calls.

use super::disk::{BootId, Durability, Facts, FileKind, Lock, Space};
use crate::manifest::{Mode, Timestamp};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::{self, AtFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

pub(super) fn harden(options: &mut OpenOptions) {
    let flags = fs::OFlags::NONBLOCK | fs::OFlags::NOCTTY;
    options.mode(0o600).custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
}

/// With `O_TMPFILE`: a file that no folder holds, so that threads which make files wait for no folder.
///
/// Only where a sync of such a file, its name, and a sync of the folder make both durable. On btrfs the first one does
/// nothing while there is no name (mended in Linux 6.15), and the name alone survives a power cut: an empty file.
#[cfg(target_os = "linux")]
pub(super) fn open_unnamed(folder: &Dir) -> io::Result<Option<File>> {
    const EXT4: u64 = 0xEF53;
    const TMPFS: u64 = 0x0102_1994;
    const XFS: u64 = 0x5846_5342;
    if !u64::try_from(fs::fstatfs(folder)?.f_type).is_ok_and(|kind| [EXT4, TMPFS, XFS].contains(&kind)) {
        return Ok(None);
    }
    let flags = fs::OFlags::TMPFILE | fs::OFlags::RDWR | fs::OFlags::CLOEXEC;
    match fs::openat(folder, ".", flags, fs::Mode::from_raw_mode(0o600)) {
        Ok(file) => Ok(Some(file.into())),
        // Systems before Linux 3.11 take the flags for those of a folder that is opened for writing.
        Err(Errno::NOTSUP | Errno::ISDIR | Errno::NOSYS | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn open_unnamed(_folder: &Dir) -> io::Result<Option<File>> {
    Ok(None)
}

/// By its handle where this user may do that (a privilege before Linux 6.10), and else by the name that proc has for it.
#[cfg(target_os = "linux")]
pub(super) fn give_name(file: &File, folder: &Dir, name: &str) -> io::Result<()> {
    match fs::linkat(file, "", folder, name, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM | Errno::ACCESS | Errno::INVAL) => {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
            Ok(fs::linkat(fs::CWD, path, folder, name, AtFlags::SYMLINK_FOLLOW)?)
        }
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn give_name(_file: &File, _folder: &Dir, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Files that this process may have open at once.
pub(super) fn handles_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

pub(super) fn facts_at(folder: &Dir, name: &str) -> io::Result<Facts> {
    Ok(facts(&fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

pub(super) fn facts_of(handle: impl AsFd) -> io::Result<Facts> {
    Ok(facts(&fs::fstat(handle)?))
}

// The fields of a stat differ in width and sign between systems; some casts are only needed on some of them.
#[allow(clippy::cast_sign_loss, clippy::cast_lossless, clippy::unnecessary_cast, clippy::useless_conversion)]
fn facts(stat: &fs::Stat) -> Facts {
    let kind = match fs::FileType::from_raw_mode(stat.st_mode) {
        fs::FileType::RegularFile => FileKind::File,
        fs::FileType::Directory => FileKind::Folder,
        fs::FileType::Symlink => FileKind::Link,
        _ => FileKind::Other,
    };
    Facts {
        kind,
        length: stat.st_size as u64,
        identity: (stat.st_dev as u64, stat.st_ino as u64),
        links: stat.st_nlink as u64,
        is_ours: stat.st_uid == rustix::process::geteuid().as_raw(),
        is_private: matches!(stat.st_mode & 0o077, 0),
    }
}

pub(super) fn make_folder(folder: &Dir, name: &str, private: bool) -> io::Result<()> {
    let mode = if private { 0o700 } else { 0o777 };
    Ok(fs::mkdirat(folder, name, fs::Mode::from_raw_mode(mode))?)
}

pub(super) fn rename_to_free_name(from: &Dir, name: &str, to: &Dir, to_name: &str) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match fs::renameat_with(from, name, to, to_name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        result => return Ok(result?),
    }
    // Making a second name also fails where the name is taken; the first one then goes. File systems without second
    // names (FAT, some network ones) are left with a look before the move.
    match fs::linkat(from, name, to, to_name, AtFlags::empty()) {
        Ok(()) => Ok(fs::unlinkat(from, name, AtFlags::empty())?),
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => match facts_at(to, to_name) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(fs::renameat(from, name, to, to_name)?),
            Err(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    }
}

/// Whether a call failed for the name that it was given, whatever the call.
pub(super) fn is_of_a_name(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NAMETOOLONG | Errno::ILSEQ))
}

pub(super) fn make_symlink(folder: &Dir, target: &str, name: &str) -> io::Result<()> {
    Ok(fs::symlinkat(target, folder, name)?)
}

pub(super) fn set_symlink_time(folder: &Dir, name: &str, modified: Timestamp) -> io::Result<()> {
    Ok(fs::utimensat(folder, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?)
}

pub(super) fn read_symlink(folder: &Dir, name: &str) -> io::Result<String> {
    let text = fs::readlinkat(folder, name, Vec::new())?;
    text.into_string().map_err(|_| io::ErrorKind::InvalidData.into())
}

pub(super) fn link(from: &Dir, name: &str, to: &Dir, to_name: &str) -> io::Result<bool> {
    match fs::linkat(from, name, to, to_name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::MLINK | Errno::XDEV | Errno::NOTSUP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_os = "linux")]
pub(super) fn set_attribute(handle: impl AsFd, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(fs::fsetxattr(handle, name, value, fs::XattrFlags::empty())?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn set_attribute(_handle: impl AsFd, _name: &str, _value: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn sync_folder(folder: &Dir) -> io::Result<Durability> {
    match fs::fsync(folder) {
        Ok(()) => Ok(Durability::Full),
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(Durability::BestEffort),
        Err(error) => Err(error.into()),
    }
}

/// syncfs(2) reports what it could not write since Linux 5.8 only; before that its success means nothing.
#[cfg(target_os = "linux")]
pub(super) fn sync_file_system(folder: &Dir) -> io::Result<bool> {
    static REPORTS: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        let name = rustix::system::uname();
        let mut numbers = name.release().to_str().unwrap_or("").split(['.', '-']).map_while(|part| part.parse().ok());
        let (major, minor): (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        (major, minor) >= (5, 8)
    });
    if !*REPORTS {
        return Ok(false);
    }
    match fs::syncfs(folder) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn sync_file_system(_folder: &Dir) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn set_folder_meta(folder: &Dir, mode: Mode, modified: Option<Timestamp>) -> io::Result<()> {
    set_meta(folder, mode, modified)
}

pub(super) fn set_file_meta(file: &File, mode: Mode, modified: Option<Timestamp>) -> io::Result<()> {
    set_meta(file, mode, modified)
}

// The fields of a stat differ in width between systems.
#[allow(clippy::cast_lossless, clippy::cast_possible_wrap, clippy::unnecessary_cast, clippy::useless_conversion)]
pub(super) fn has_meta(file: &File, mode: Mode, modified: Timestamp) -> io::Result<bool> {
    let stat = fs::fstat(file)?;
    let is_time =
        (stat.st_mtime as i64, stat.st_mtime_nsec as i64) == (modified.seconds(), modified.nanoseconds().into());
    Ok(is_time && stat.st_mode as u32 & 0o7777 == u32::from(mode.bits()))
}

fn set_meta(handle: impl AsFd, mode: Mode, modified: Option<Timestamp>) -> io::Result<()> {
    fs::fchmod(&handle, fs::Mode::from_raw_mode(mode.bits().into()))?;
    if let Some(modified) = modified {
        fs::futimens(&handle, &times(modified))?;
    }
    Ok(())
}

fn times(modified: Timestamp) -> fs::Timestamps {
    let unchanged = fs::Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT };
    let last_modification = fs::Timespec { tv_sec: modified.seconds(), tv_nsec: modified.nanoseconds().into() };
    fs::Timestamps { last_access: unchanged, last_modification }
}

pub(super) fn space(folder: &Dir) -> io::Result<Space> {
    let found = fs::fstatvfs(folder)?;
    let unit = if found.f_frsize == 0 { found.f_bsize } else { found.f_frsize };
    // File systems that make inodes as they go (btrfs) say that there are none in all.
    let inodes = if found.f_files == 0 { u64::MAX } else { found.f_favail };
    Ok(Space { bytes: found.f_bavail.saturating_mul(unit), inodes })
}

pub(super) fn check_writable(folder: &Dir) -> io::Result<()> {
    let needed = fs::Access::WRITE_OK | fs::Access::EXEC_OK;
    fs::accessat(folder, ".", needed, AtFlags::EACCESS)?;
    if is_view_of_the_kernel(folder) { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
}

/// Whether `folder` lies in proc or sysfs: the permission bits there let root write, and yet no file can be made.
#[cfg(target_os = "linux")]
fn is_view_of_the_kernel(folder: &Dir) -> bool {
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    fs::fstatfs(folder).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|magic| [PROC, SYSFS].contains(&magic)))
}

#[cfg(not(target_os = "linux"))]
fn is_view_of_the_kernel(_folder: &Dir) -> bool {
    false
}

pub(super) fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(into, offset)
}

pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
}

/// fallocate(2) itself: the C library's `posix_fallocate` writes zeros where the file system has no such call.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: &File, length: u64) -> io::Result<bool> {
    match fs::fallocate(file, fs::FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(true),
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(_file: &File, _length: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(target_os = "linux")]
pub(super) fn punch(file: &File, offset: u64, length: u64) -> io::Result<bool> {
    match fs::fallocate(file, fs::FallocateFlags::PUNCH_HOLE | fs::FallocateFlags::KEEP_SIZE, offset, length) {
        Ok(()) => Ok(true),
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn punch(_file: &File, _offset: u64, _length: u64) -> io::Result<bool> {
    Ok(false)
}

/// Those file systems of Linux whose files can share extents.
#[cfg(target_os = "linux")]
pub(super) fn may_share(file: &File) -> bool {
    const BCACHEFS: u64 = 0xca45_1a4e;
    const BTRFS: u64 = 0x9123_683e;
    const XFS: u64 = 0x5846_5342;
    let sharing = [BCACHEFS, BTRFS, XFS];
    fs::fstatfs(file).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|magic| sharing.contains(&magic)))
}

/// `copy_file_range(2)`, which does on them what FICLONERANGE does where both ranges start and end on blocks, and copies in the
/// kernel elsewhere.
#[cfg(target_os = "linux")]
pub(super) fn share(file: &File, other: &File, mut from: u64, mut at: u64, length: u64) -> io::Result<bool> {
    let end = from + length;
    while from < end {
        let left = usize::try_from(end - from).unwrap_or(usize::MAX);
        match fs::copy_file_range(other, Some(&mut from), file, Some(&mut at), left) {
            Ok(1..) | Err(Errno::INTR) => {}
            Ok(0) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::XDEV) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn may_share(_file: &File) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
pub(super) fn share(_file: &File, _other: &File, _from: u64, _at: u64, _length: u64) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn lock(file: &File, lock: Lock) -> io::Result<bool> {
    let operation = match lock {
        Lock::Exclusive => fs::FlockOperation::NonBlockingLockExclusive,
        Lock::Shared => fs::FlockOperation::LockShared,
    };
    match rustix::io::retry_on_intr(|| fs::flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn drop_cache(file: &File) {
    // Advice only: a file system that keeps its cache makes the check weaker, not wrong.
    #[cfg(target_os = "linux")]
    let _ = fs::fadvise(file, 0, None, fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Local disks whose page cache a map and a descriptor share, where leaving out the copy of read(2) measurably pays.
/// On tmpfs it does not; elsewhere (btrfs, FUSE, network) a lost page or server would be a signal, not an error.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) fn hashes_best_in_a_view(file: &File) -> bool {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    fs::fstatfs(file).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|magic| [EXT, XFS].contains(&magic)))
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(super) fn hashes_best_in_a_view(_file: &File) -> bool {
    false
}

/// The boot id alone would let claims stand over an unplugged and replugged disk, so the mount counts as well.
#[cfg(target_os = "linux")]
pub(super) fn boot(folder: &Dir) -> Option<BootId> {
    // STATX_MNT_ID_UNIQUE: since Linux 6.8 a mount's number is never used again.
    let unique = fs::StatxFlags::from_bits_retain(0x4000);
    let text = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    let mount = fs::statx(folder, "", AtFlags::EMPTY_PATH, fs::StatxFlags::MNT_ID | unique).ok()?;
    let device = fs::fstat(folder).ok()?.st_dev;
    let mut hasher = crate::digest::PurposeHasher::new("haul 1 boot and mount");
    hasher.field(&text).field(&mount.stx_mnt_id.to_le_bytes()).field(&device.to_le_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finish()[..16]);
    Some(BootId(id))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn boot(_folder: &Dir) -> Option<BootId> {
    None
}

/// The same folder, opened for reading: the handles that cap-std makes only name it, and cannot be synced.
pub(super) fn opened_for_reading(folder: &Dir) -> io::Result<Dir> {
    let flags = fs::OFlags::RDONLY | fs::OFlags::DIRECTORY | fs::OFlags::CLOEXEC;
    let opened = fs::openat(folder, ".", flags, fs::Mode::empty())?;
    Ok(Dir::from_std_file(opened.into()))
}
