//! Input that can be read only once, kept in a file of its own so that it can be offered, and offered again.
//!
//! Everything lies in `DIR/<id>/`, which is made for its owner alone and refused where it is anything else: `lock`, held
//! while the input is read and offered; `new`, what was read so far; `file/<name>`, all of it, under the name that it is
//! offered by. What is there under that name is complete and on disk.

use crate::digest::PurposeHasher;
use crate::limits::{BACKGROUND_SYNC_BYTES, FILE_BYTES_MAX, FREE_SPACE_MARGIN_BYTES};
use crate::printable::{printable, printable_path};
use crate::rel_path::{PathFault, RelPath};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock, fstatvfs};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that are read at a time: what a pipe holds at most on the systems that this runs on.
const STEP_BYTES: usize = 1 << 20;
/// Bytes between two looks at the room that is left.
const LOOK_EVERY_BYTES: u64 = FREE_SPACE_MARGIN_BYTES / 2;
/// How long nothing may come before a request to stop is looked for.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The place of one input, which no other process uses meanwhile.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    name: RelPath,
    /// Unlocked when it is closed.
    lock: File,
}

/// Input that cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SpoolFault {
    /// Another process reads or offers input of this name.
    #[error("another `haul send -` with the name `{}` runs", printable(name))]
    Busy {
        /// The name.
        name: String,
    },
    /// Somebody else made the folder, or could write to it.
    #[error("`{}` is not a folder of yours alone", printable_path(path))]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// The disk is too full to go on.
    #[error("the disk under `{}` has too little room for it", printable_path(path))]
    Full {
        /// Where it was kept.
        path: PathBuf,
        /// Bytes read so far.
        read: u64,
    },
    /// Nothing is kept under this name.
    #[error("no input with the name `{}` is kept", printable(name))]
    Missing {
        /// The name.
        name: String,
    },
    /// It has a name that nothing can be offered by.
    #[error("`{}` cannot be its name: {fault}", printable(name))]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: PathFault,
    },
    /// Its name has folders in it.
    #[error("`{}` cannot be its name: that is a path", printable(name))]
    Path {
        /// The name.
        name: String,
    },
    /// It cannot be read.
    #[error("standard input cannot be read: {0}")]
    Read(io::Error),
    /// Somebody asked to stop.
    #[error("the reading was stopped")]
    Stopped,
    /// It is longer than any file that is sent.
    #[error("it is longer than {FILE_BYTES_MAX} bytes")]
    TooLong,
    /// The place cannot be used.
    #[error("`{}` cannot be used: {source}", printable_path(path))]
    Unusable {
        /// What of it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Spool {
    /// The place in `folder` for input that is offered by the name `name`.
    pub fn open(folder: &Path, name: &str) -> Result<Self, SpoolFault> {
        let name = file_name(name)?;
        let folder = folder.join(id(&name));
        let unusable = |source| SpoolFault::Unusable { path: folder.clone(), source };
        private_folder(&folder).map_err(unusable)?;
        let facts = fs::symlink_metadata(&folder).map_err(unusable)?;
        if !facts.is_dir() || facts.uid() != rustix::process::geteuid().as_raw() || facts.mode() & 0o077 != 0 {
            return Err(SpoolFault::Foreign { path: folder });
        }
        private_folder(&folder.join("file")).map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow());
        let lock = options.open(folder.join("lock")).map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { folder, name, lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(SpoolFault::Busy { name: name.as_str().to_owned() }),
            Err(error) => Err(unusable(error.into())),
        }
    }

    /// Where the input lies once it is complete.
    pub fn path(&self) -> PathBuf {
        self.folder.join("file").join(self.name.as_str())
    }

    /// Bytes of the input that an earlier run kept.
    pub fn kept(&self) -> Result<u64, SpoolFault> {
        match fs::symlink_metadata(self.path()) {
            Ok(facts) if facts.is_file() => Ok(facts.len()),
            _ => Err(SpoolFault::Missing { name: self.name.as_str().to_owned() }),
        }
    }

    /// Reads `input` to its end and keeps all of it in the place of what was kept before. `each` is told how many bytes
    /// were read, now and then and at the end. Where it fails, what was read is gone, and what was kept before is not.
    pub fn fill<I: Read + AsFd>(
        &self,
        mut input: I,
        stop: &AtomicBool,
        each: &mut dyn FnMut(u64),
    ) -> Result<u64, SpoolFault> {
        let path = self.folder.join("new");
        let filled = self.fill_new(&path, &mut input, stop, each);
        if filled.is_err() {
            // Left behind, it is removed by the next run.
            let _ = fs::remove_file(&path);
        }
        filled
    }

    /// Removes the input, and its place where nothing else is in it.
    pub fn remove(self) -> Result<(), SpoolFault> {
        let path = self.path();
        let unusable = |source| SpoolFault::Unusable { path: path.clone(), source };
        fs::remove_file(&path).map_err(unusable)?;
        let Self { folder, lock, .. } = self;
        // Untidy and no more where somebody has put something there, or opens it at this moment.
        let _ = fs::remove_dir(folder.join("file"));
        let _ = fs::remove_file(folder.join("lock"));
        let _ = fs::remove_dir(&folder);
        drop(lock);
        Ok(())
    }

    fn fill_new<I: Read + AsFd>(
        &self,
        path: &Path,
        input: &mut I,
        stop: &AtomicBool,
        each: &mut dyn FnMut(u64),
    ) -> Result<u64, SpoolFault> {
        let unusable = |source| SpoolFault::Unusable { path: path.to_owned(), source };
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unusable(error)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(no_follow());
        let mut file = options.open(path).map_err(unusable)?;
        let (mut read, mut looked, mut synced) = (0u64, None, 0u64);
        let refused = |source: io::Error, read| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                SpoolFault::Full { path: path.to_owned(), read }
            }
            _ => SpoolFault::Unusable { path: path.to_owned(), source },
        };
        let mut buffer = vec![0; STEP_BYTES];
        loop {
            if looked.is_none_or(|looked| read - looked >= LOOK_EVERY_BYTES) {
                looked = Some(read);
                let room = fstatvfs(&file).map_err(|error| unusable(error.into()))?;
                if room.f_bavail.saturating_mul(room.f_frsize) < FREE_SPACE_MARGIN_BYTES {
                    return Err(SpoolFault::Full { path: path.to_owned(), read });
                }
            }
            let count = next(input, &mut buffer, stop, &mut || each(read))?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(|error| refused(error, read))?;
            read += count as u64;
            if read > FILE_BYTES_MAX {
                return Err(SpoolFault::TooLong);
            }
            if read - synced >= BACKGROUND_SYNC_BYTES {
                // So that the last one is short.
                synced = read;
                file.sync_data().map_err(|error| refused(error, read))?;
            }
            each(read);
        }
        file.sync_all().map_err(|error| refused(error, read))?;
        if stop.load(Ordering::Relaxed) {
            // Ctrl-C ends whoever writes the input as well: this end of it need not be its end.
            return Err(SpoolFault::Stopped);
        }
        fs::rename(path, self.path()).map_err(unusable)?;
        File::open(self.folder.join("file")).and_then(|folder| folder.sync_all()).map_err(unusable)?;
        each(read);
        Ok(read)
    }
}

/// The next bytes of `input`, none at its end. `idle` is called while nothing comes.
fn next<I: Read + AsFd>(
    input: &mut I,
    buffer: &mut [u8],
    stop: &AtomicBool,
    idle: &mut dyn FnMut(),
) -> Result<usize, SpoolFault> {
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(SpoolFault::Stopped);
        }
        let ready = poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&TURN));
        match ready {
            Ok(0) => idle(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(SpoolFault::Read(error.into())),
            Ok(_) => match input.read(buffer) {
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                result => return result.map_err(SpoolFault::Read),
            },
        }
    }
}

/// A name that input can be offered by: of one component, and not one that is never written.
fn file_name(name: &str) -> Result<RelPath, SpoolFault> {
    let fault = |fault| SpoolFault::Name { name: name.to_owned(), fault };
    let path = RelPath::parse(name).map_err(fault)?;
    if path.parent().is_some() {
        return Err(SpoolFault::Path { name: name.to_owned() });
    }
    match path.refusal() {
        Some(refusal) => Err(fault(refusal)),
        None => Ok(path),
    }
}

fn id(name: &RelPath) -> String {
    let digest = PurposeHasher::new("haul 1 kept input").field(name.as_str().as_bytes()).finish();
    data_encoding::HEXLOWER.encode(&digest[..16])
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn no_follow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}
