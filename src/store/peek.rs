//! A look at a partial file that changes nothing about it: which chunks a run that opened it would find there.

use super::disk::{Disk, DiskFile, read_exact};
use super::fault::StoreError;
use super::footer::{Footer, Layout};
use super::opening::each_row;
use super::{FileOf, Inner, Store};
use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::{ChunkDigest, DIGEST_BYTES};
use crate::rel_path::RelPath;
use std::io;
use std::sync::Arc;

/// A partial file that is looked at. It is not locked: whoever has it open goes on.
#[derive(Debug)]
pub struct PartPeek<D: Disk> {
    inner: Arc<Inner<D>>,
    file: FileOf<D>,
    path: RelPath,
    geometry: Geometry,
    layout: Layout,
    /// Whether there is a table, and what it claims is known to be there.
    standing: Standing,
    /// Its own length.
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// The table says what is there.
    Known,
    /// The bytes of what the table claims have to be hashed.
    Claimed,
    /// There is no table: any chunk may be there.
    Lost,
}

impl<D: Disk> Store<D> {
    /// The partial file for `path` and `length`, where there is one that [`Store::open_partial`] would take up.
    pub fn peek_at_partial(&self, path: &RelPath, length: Length) -> Result<Option<PartPeek<D>>, StoreError> {
        let geometry = Geometry::of(length).ok_or(StoreError::Misuse("a file longer than any listing allows"))?;
        let Some(work) = self.inner.existing_work()? else { return Ok(None) };
        if geometry.is_single() {
            return Ok(None);
        }
        let Some(file) = work.peek(&Footer::part_name(path, length)) else { return Ok(None) };
        let layout = Layout::of(geometry);
        let refused = |error| self.inner.fault("looking at the partial file of", path.as_str(), 0, error);
        let bytes = file.facts().map_err(refused)?.length;
        let is_whole = bytes == layout.total_bytes();
        let footer = if is_whole { Footer::read(&file, layout).map_err(refused)? } else { None };
        let standing = match footer {
            Some(found) if found.path != *path || found.length != length => Standing::Lost,
            Some(found) if found.boot.is_some() && found.boot == self.inner.disk.boot() => Standing::Known,
            Some(_) => Standing::Claimed,
            None => Standing::Lost,
        };
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        Ok(Some(PartPeek { inner, file, path, geometry, layout, standing, bytes }))
    }
}

impl<D: Disk> PartPeek<D> {
    /// Whether anything of the file may be there.
    pub fn claims_any(&self) -> Result<bool, StoreError> {
        if self.standing == Standing::Lost {
            return Ok(self.bytes > 0);
        }
        let mut is_any = false;
        let count = self.geometry.count();
        let read = each_row(&self.inner, &self.file, self.layout, count, |_, row| is_any |= row != [0; DIGEST_BYTES]);
        read.map(|()| is_any).map_err(|error| self.fault(error))
    }

    /// Whether chunk `index` is there with the hash that is `promised`.
    pub fn holds(&self, index: ChunkIndex, promised: ChunkDigest) -> Result<bool, StoreError> {
        let Some(span) = self.geometry.span(index) else { return Ok(false) };
        match self.standing {
            Standing::Lost if span.offset.0 + span.length.0 > self.bytes => return Ok(false),
            Standing::Lost => {}
            Standing::Claimed | Standing::Known => {
                let mut row = [0; DIGEST_BYTES];
                match read_exact(&self.file, &mut row, self.layout.row(index)) {
                    // It was completed, or cut, meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                    result => result.map_err(|error| self.fault(error))?,
                }
                if row != promised.0 || self.standing == Standing::Known {
                    return Ok(row == promised.0);
                }
            }
        }
        match self.inner.hash_chunk(&self.file, self.geometry, index) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            result => result.map(|found| found == promised).map_err(|error| self.fault(error)),
        }
    }

    fn fault(&self, error: io::Error) -> StoreError {
        self.inner.fault("looking at the partial file of", self.path.as_str(), 0, error)
    }
}
