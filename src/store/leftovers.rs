//! What is unfinished at a destination, for a person to look at and to clean up.

use super::Store;
use super::disk::{self, Disk, DiskFile, DiskFolder, Replace};
use super::fault::StoreError;
use super::footer::{self, Footer, Layout};
use super::work::{FoundFile, Work};
use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::DIGEST_BYTES;
use crate::rel_path::{RelPath, WORK_FOLDER};
use std::io::ErrorKind;

/// Ending of partial files.
const PART_ENDING: &str = ".part";
/// Rows of a table that are read at a time.
const ROWS_AT_ONCE: u32 = 1024;

/// A partial file that is not finished.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftOver {
    /// Its name in the folder of unfinished transfers.
    pub name: String,
    /// The path and length that it is for, where its footer says so.
    pub destined: Option<(RelPath, Length)>,
    /// Whether a process has it open.
    pub is_in_use: bool,
}

/// What shows of a partial file that is not opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartGlance {
    /// Its name in the folder of unfinished transfers.
    pub name: String,
    /// The path and length that it is for, where its footer says so.
    pub destined: Option<(RelPath, Length)>,
    /// Its own length.
    pub bytes: u64,
    /// Bytes of the chunks that it claims to hold.
    pub claimed: u64,
}

impl<D: Disk> Store<D> {
    /// The partial files that are not finished.
    pub fn left_overs(&self) -> Result<Vec<LeftOver>, StoreError> {
        let Some(work) = self.inner.existing_work()? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for name in self.part_names(&work)? {
            let file = work.peek(&name);
            let destined = file.as_ref().and_then(read_destined);
            let is_in_use = match &file {
                Some(file) => {
                    let locked = file.lock(disk::Lock::Exclusive);
                    !locked.map_err(|error| self.inner.fault("listing", WORK_FOLDER, 0, error))?
                }
                None => false,
            };
            found.push(LeftOver { name, destined, is_in_use });
        }
        Ok(found)
    }

    /// What every partial file shows, in the order of their names. Unlike [`Store::left_overs`] it locks nothing: a
    /// transfer that is about to open one would find it in use.
    pub fn glance_at_parts(&self) -> Result<Vec<PartGlance>, StoreError> {
        let Some(work) = self.inner.existing_work()? else { return Ok(Vec::new()) };
        let glance = |name: String| {
            let file = work.peek(&name);
            let destined = file.as_ref().and_then(read_destined);
            let claimed = file.as_ref().zip(destined.as_ref()).map_or(0, |(file, (_, length))| claimed(file, *length));
            let bytes = file.and_then(|file| file.facts().ok()).map_or(0, |facts| facts.length);
            PartGlance { name, destined, bytes, claimed }
        };
        Ok(self.part_names(&work)?.into_iter().map(glance).collect())
    }

    /// Has the partial file `name`, begun for another length of `path`, become the one for `length`: when that is opened,
    /// what it holds is hashed, and what did not change stays. Says whether it did: it stays as it is where a process has it
    /// open, and where it is of no use, since the file is one chunk now or begun already.
    pub fn readdress(&self, name: &str, path: &RelPath, length: Length) -> Result<bool, StoreError> {
        let refused = |error| self.inner.fault("taking over", path.as_str(), 0, error);
        if Geometry::of(length).is_none_or(Geometry::is_single) {
            return Ok(false);
        }
        let Some(work) = self.inner.existing_work()? else { return Ok(false) };
        let FoundFile::Ours(_locked) = work.open_found(name).map_err(refused)? else { return Ok(false) };
        match work.folder().rename(name, work.folder(), &Footer::part_name(path, length), Replace::Never) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            result => result.map(|()| true).map_err(refused),
        }
    }

    fn part_names(&self, work: &Work<D>) -> Result<Vec<String>, StoreError> {
        let mut names = work.folder().names().map_err(|error| self.inner.fault("listing", WORK_FOLDER, 0, error))?;
        names.retain(|name| name.ends_with(PART_ENDING));
        names.sort();
        Ok(names)
    }

    /// Removes a partial file, unless a process has it open.
    pub fn remove_left_over(&self, name: &str) -> Result<(), StoreError> {
        let refused = |error| self.inner.fault("removing", name, 0, error);
        if !name.ends_with(PART_ENDING) || name.contains(['/', '\\']) {
            return Err(StoreError::Misuse("only partial files are removed by name"));
        }
        let Some(work) = self.inner.existing_work()? else { return Ok(()) };
        match work.open_found(name).map_err(refused)? {
            FoundFile::Busy(_) => Err(StoreError::Busy { path: name.to_owned(), holder: None }),
            FoundFile::Foreign => Err(StoreError::Tampered { path: name.to_owned(), what: "it is no partial file" }),
            FoundFile::Nothing => Ok(()),
            FoundFile::Ours(_) => work.remove(name).map_err(refused),
        }
    }
}

fn read_destined(file: &impl DiskFile) -> Option<(RelPath, Length)> {
    footer::read_at_end(file).map(|footer| (footer.path, footer.length))
}

/// Bytes of the chunks that have a row in the table; what cannot be read is not claimed.
fn claimed(file: &impl DiskFile, length: Length) -> u64 {
    let Some(geometry) = Geometry::of(length) else { return 0 };
    let layout = Layout::of(geometry);
    if file.facts().map_or(0, |facts| facts.length) != layout.total_bytes() {
        return 0;
    }
    let mut rows = vec![0; ROWS_AT_ONCE as usize * DIGEST_BYTES];
    let mut bytes = 0;
    for first in (0..geometry.count().0).step_by(ROWS_AT_ONCE as usize) {
        let count = ROWS_AT_ONCE.min(geometry.count().0 - first);
        let rows = &mut rows[..count as usize * DIGEST_BYTES];
        if disk::read_exact(file, rows, layout.row(ChunkIndex(first))).is_err() {
            break;
        }
        let claimed =
            (first..).zip(rows.chunks_exact(DIGEST_BYTES)).filter(|(_, row)| row.iter().any(|&byte| byte != 0));
        bytes +=
            claimed.filter_map(|(index, _)| geometry.span(ChunkIndex(index))).map(|span| span.length.0).sum::<u64>();
    }
    bytes
}
