//! What is unfinished at a destination, for a person to look at and to clean up.

use super::Store;
use super::disk::{self, Disk, DiskFile, DiskFolder, FileKind, OpenHow};
use super::fault::StoreError;
use super::footer::{FOOTER_BYTES, Footer};
use super::work::{FoundFile, is_plain_and_ours};
use crate::chunk::Length;
use crate::rel_path::{RelPath, WORK_FOLDER};

/// Ending of partial files.
const PART_ENDING: &str = ".part";

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

impl<D: Disk> Store<D> {
    /// The partial files that are not finished.
    pub fn left_overs(&self) -> Result<Vec<LeftOver>, StoreError> {
        let refused = |error| self.inner.fault("listing", WORK_FOLDER, 0, error);
        let Some(work) = self.inner.existing_work()? else { return Ok(Vec::new()) };
        let mut names = work.folder().names().map_err(refused)?;
        names.retain(|name| name.ends_with(PART_ENDING));
        names.sort();
        let mut found = Vec::new();
        for name in names {
            let plain = work.folder().facts(&name).map_err(refused)?.filter(is_plain_and_ours);
            let opened = plain.and_then(|_| work.folder().open_file(&name, OpenHow::Read).ok());
            let (destined, is_in_use) = match opened {
                Some(file) => (read_destined(&file), !file.lock(disk::Lock::Exclusive).map_err(refused)?),
                None => (None, false),
            };
            found.push(LeftOver { name, destined, is_in_use });
        }
        Ok(found)
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

/// The footer lies in the last bytes, whatever length of file it is for.
fn read_destined(file: &impl DiskFile) -> Option<(RelPath, Length)> {
    let facts = file.facts().ok().filter(|facts| facts.kind == FileKind::File)?;
    let mut bytes = Box::new([0; FOOTER_BYTES]);
    disk::read_exact(file, &mut bytes[..], facts.length.checked_sub(FOOTER_BYTES as u64)?).ok()?;
    Footer::decode(&bytes).map(|footer| (footer.path, footer.length))
}
