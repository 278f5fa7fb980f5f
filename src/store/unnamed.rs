//! Files that have no name until they are published: threads that make them wait for no folder, and each name is made
//! once.

use super::FileOf;
use super::disk::{Disk, DiskFolder};
use super::work::Work;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What is known of files without names on this file system, and how many of them there are.
#[derive(Debug, Default)]
pub(super) struct Unnamed {
    held: AtomicUsize,
    /// Whether they can be made, and given a name later; found out by trying once.
    can_be_named: OnceLock<bool>,
}

/// A file without a name. It is held open, and gone when it is dropped before it was given one.
#[derive(Debug)]
pub(super) struct UnnamedFile<D: Disk> {
    file: FileOf<D>,
    work: Arc<Work<D>>,
}

impl<D: Disk> UnnamedFile<D> {
    /// Makes one, unless this file system has none or as many are held open as may be.
    pub(super) fn create(work: &Arc<Work<D>>) -> io::Result<Option<Self>> {
        let unnamed = work.unnamed();
        if !*unnamed.can_be_named.get_or_init(|| can_be_named(work)) {
            return Ok(None);
        }
        if unnamed.held.fetch_add(1, Ordering::Relaxed) >= work.held_open_max() {
            unnamed.held.fetch_sub(1, Ordering::Relaxed);
            return Ok(None);
        }
        match work.folder().open_unnamed() {
            Ok(Some(file)) => Ok(Some(Self { file, work: Arc::clone(work) })),
            refused => {
                unnamed.held.fetch_sub(1, Ordering::Relaxed);
                match refused {
                    // Other stores of this process hold files open too. A file with a name is closed once it is written.
                    Err(error) if is_out_of_handles(&error) => Ok(None),
                    refused => refused.map(|_| None),
                }
            }
        }
    }

    pub(super) fn file(&self) -> &FileOf<D> {
        &self.file
    }
}

impl<D: Disk> Drop for UnnamedFile<D> {
    fn drop(&mut self) {
        self.work.unnamed().held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether this process, or the whole system, can open no further file.
fn is_out_of_handles(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&code))
}

/// Tries it out. Whatever keeps it from working, files with names are there instead.
fn can_be_named<D: Disk>(work: &Work<D>) -> bool {
    let Ok(Some(file)) = work.folder().open_unnamed() else { return false };
    let named = work.make_scratch(|name| work.folder().give_name(&file, name));
    // Left behind, it is swept away by the next process.
    named.is_ok_and(|(name, ())| work.remove(&name).is_ok())
}
