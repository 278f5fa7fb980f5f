//! Finding or making the partial file of a path, and deciding what its claims are worth.

use super::disk::{self, BootId, Disk, DiskFile, DiskFolder, OpenHow};
use super::fault::StoreError;
use super::footer::{self, Footer, Layout};
use super::partial::{Core, OpenedPartial, PartialFile, Phase, Standing, State};
use super::work::{FoundFile, Work};
use super::{FileOf, Inner, Store};
use crate::chunk::{ChunkCount, ChunkIndex, Geometry, Length};
use crate::chunk_set::ChunkSet;
use crate::digest::DIGEST_BYTES;
use crate::limits::FREE_SPACE_MARGIN_BYTES;
use crate::rel_path::RelPath;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, RwLock};

impl<D: Disk> Store<D> {
    /// Opens the partial file for `path` and `length`, or makes it: space is checked, then reserved, before anything
    /// is written. No other process can have it open.
    pub fn open_partial(&self, path: &RelPath, length: Length) -> Result<OpenedPartial<D>, StoreError> {
        let geometry = Geometry::of(length).ok_or(StoreError::Misuse("a file longer than any listing allows"))?;
        let work = self.inner.work()?;
        let opening = Opening {
            inner: &self.inner,
            work: &work,
            path,
            name: Footer::part_name(path, length),
            geometry,
            layout: Layout::of(geometry),
        };
        // A try that finds too little room may leave the file behind where the disk refuses even to remove a name.
        let found = self.inner.with_room(|| match opening.open_found()? {
            Some(file) => Ok(Either::There(file)),
            None => opening.create().map(Either::Made),
        });
        let found = match found? {
            Either::There(file) => opening.take_over(file)?,
            Either::Made(found) => found,
        };
        let claims = found.claimed.clone();
        let suspect = if found.standing == Standing::OtherBoot { claims.clone() } else { ChunkSet::new() };
        let state = State {
            phase: Phase::Open,
            claimed: found.claimed.clone(),
            suspect,
            held: BTreeSet::new(),
            touched: found.touched,
            unsynced: found.claimed,
            syncing: None,
            bytes_since_sync: 0,
            sync_error: None,
            is_name_synced: false,
        };
        let Opening { name, layout, .. } = opening;
        let core = Core {
            inner: Arc::clone(&self.inner),
            work,
            path: path.clone(),
            name,
            geometry,
            layout,
            view: RwLock::new(found.file.view(layout.data_bytes())),
            file: found.file,
            write_turn: Mutex::new(()),
            state: Mutex::new(state),
            settled: Condvar::new(),
        };
        let partial = PartialFile { core: Arc::new(core), syncer: Mutex::new(None) };
        Ok(OpenedPartial { partial: Arc::new(partial), claims, standing: found.standing })
    }
}

/// A partial file while it is being opened.
struct Opening<'a, D: Disk> {
    inner: &'a Arc<Inner<D>>,
    work: &'a Work<D>,
    path: &'a RelPath,
    name: String,
    geometry: Geometry,
    layout: Layout,
}

enum Either<F> {
    Made(Found<F>),
    There(F),
}

struct Found<F> {
    file: F,
    standing: Standing,
    claimed: ChunkSet,
    touched: ChunkSet,
}

impl<D: Disk> Opening<'_, D> {
    /// The file that an earlier run left, locked.
    fn open_found(&self) -> Result<Option<FileOf<D>>, StoreError> {
        match self.work.open_found(&self.name).map_err(|error| self.fault(error))? {
            FoundFile::Nothing => Ok(None),
            FoundFile::Ours(file) => Ok(Some(file)),
            FoundFile::Busy(file) => {
                let holder = footer::read_holder(&file, self.layout);
                Err(StoreError::Busy { path: self.path_text(), holder })
            }
            FoundFile::Foreign => {
                Err(StoreError::Tampered { path: self.path_text(), what: "its partial file is something else" })
            }
        }
    }

    fn create(&self) -> Result<Found<FileOf<D>>, StoreError> {
        let needed = self.layout.total_bytes().saturating_add(FREE_SPACE_MARGIN_BYTES);
        let free = self.inner.disk.destination().space().map_err(|error| self.fault(error))?;
        if free.bytes < needed || free.inodes == 0 {
            return Err(StoreError::NoSpace { path: self.path_text(), needed, free: free.bytes });
        }
        let file = match self.work.folder().open_file(&self.name, OpenHow::Create) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(StoreError::Busy { path: self.path_text(), holder: None });
            }
            result => result.map_err(|error| self.fault(error))?,
        };
        let made = self.fill_in(&file);
        if made.is_err() {
            let _ = self.work.folder().remove_file(&self.name);
        }
        made?;
        let (claimed, touched) = (ChunkSet::new(), ChunkSet::new());
        Ok(Found { file, standing: Standing::Fresh, claimed, touched })
    }

    fn fill_in(&self, file: &FileOf<D>) -> Result<(), StoreError> {
        if !file.lock(disk::Lock::Exclusive).map_err(|error| self.fault(error))? {
            return Err(StoreError::Busy { path: self.path_text(), holder: None });
        }
        self.make_room(file)?;
        self.footer(self.inner.disk.boot()).write(file).map_err(|error| self.fault(error))
    }

    fn make_room(&self, file: &FileOf<D>) -> Result<(), StoreError> {
        let bytes = self.layout.total_bytes();
        match disk::reserve(file, bytes) {
            Ok(true) => Ok(()),
            Ok(false) => file.set_length(bytes).map_err(|error| self.fault(error)),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Reads what an earlier run claimed. Where the footer is not what it would have left, there is no table; the
    /// bytes stay, and every chunk of them may be right.
    fn take_over(&self, file: FileOf<D>) -> Result<Found<FileOf<D>>, StoreError> {
        let all = u64::from(self.geometry.count().0);
        let length = file.facts().map_err(|error| self.fault(error))?.length;
        let footer = if length == self.layout.total_bytes() {
            Footer::read(&file, self.layout).map_err(|error| self.fault(error))?
        } else {
            None
        };
        let standing = match &footer {
            Some(found) if found.path != *self.path || found.length != self.geometry.file_length() => None,
            Some(found) if found.boot.is_some() && found.boot == self.inner.disk.boot() => Some(Standing::SameBoot),
            Some(_) => Some(Standing::OtherBoot),
            None => None,
        };
        let claimed = if standing.is_some() {
            self.read_claims(&file).map_err(|error| self.fault(error))?
        } else {
            // The run that lost the table may have met a failed sync, after which the system calls pages clean that
            // never reached the device. What is hashed here has to come from there.
            file.sync_data().map_err(|error| self.fault(error))?;
            file.drop_cache();
            let worth_a_look = self.worth_a_look(&file, length).map_err(|error| self.fault(error))?;
            // Cutting the old table off before there is a footer again makes sure that its rows are never taken for
            // claims. The footer stays away until every chunk has been checked.
            file.set_length(self.layout.data_bytes().min(length)).map_err(|error| self.fault(error))?;
            self.inner.with_room(|| self.make_room(&file))?;
            if worth_a_look.is_empty() {
                self.footer(self.inner.disk.boot()).write(&file).map_err(|error| self.fault(error))?;
            }
            worth_a_look
        };
        let write_holder = || footer::write_holder(&file, self.layout).map_err(|error| self.fault(error));
        self.inner.with_room(write_holder)?;
        Ok(Found { file, standing: standing.unwrap_or(Standing::OtherBoot), claimed, touched: ChunkSet::of(0..all) })
    }

    /// The chunks that may lie in a file of `length` bytes without a table of ours: where it was begun for another length of
    /// the path, those of whose bytes some were claimed, and otherwise all.
    fn worth_a_look(&self, file: &FileOf<D>, length: u64) -> io::Result<ChunkSet> {
        let (all, each) = (u64::from(self.geometry.count().0), self.geometry.chunk_length().0);
        let before = footer::read_at_end(file).filter(|before| before.path == *self.path);
        let Some(geometry) = before.and_then(|before| Geometry::of(before.length)) else {
            return Ok(ChunkSet::of(0..all.min(length.div_ceil(each))));
        };
        let layout = Layout::of(geometry);
        if layout.total_bytes() != length {
            return Ok(ChunkSet::of(0..all.min(length.div_ceil(each))));
        }
        let mut chunks = ChunkSet::new();
        each_row(self.inner, file, layout, geometry.count(), |index, row| {
            if let Some(span) = geometry.span(ChunkIndex(index)).filter(|_| row != [0; DIGEST_BYTES]) {
                let end = (span.offset.0 + span.length.0).div_ceil(each).min(all);
                chunks.insert((span.offset.0 / each).min(end)..end);
            }
        })?;
        Ok(chunks)
    }

    fn read_claims(&self, file: &FileOf<D>) -> io::Result<ChunkSet> {
        let mut claimed = ChunkSet::new();
        each_row(self.inner, file, self.layout, self.geometry.count(), |index, row| {
            if row != [0; DIGEST_BYTES] {
                claimed.insert(index.into()..u64::from(index) + 1);
            }
        })?;
        Ok(claimed)
    }

    fn footer(&self, boot: Option<BootId>) -> Footer {
        Footer { path: self.path.clone(), length: self.geometry.file_length(), boot }
    }

    fn path_text(&self) -> String {
        self.path.as_str().to_owned()
    }

    fn fault(&self, source: io::Error) -> StoreError {
        self.inner.fault("opening the partial file of", self.path.as_str(), self.layout.total_bytes(), source)
    }
}

/// Calls `each` with every row of the table in order.
pub(super) fn each_row<D: Disk>(
    inner: &Inner<D>,
    file: &FileOf<D>,
    layout: Layout,
    count: ChunkCount,
    mut each: impl FnMut(u32, [u8; DIGEST_BYTES]),
) -> io::Result<()> {
    let mut buffer = inner.buffers.take();
    let rows_per_read = u32::try_from(buffer.len() / DIGEST_BYTES).unwrap_or(1);
    for first in (0..count.0).step_by(rows_per_read as usize) {
        let rows = rows_per_read.min(count.0 - first);
        let bytes = &mut buffer[..rows as usize * DIGEST_BYTES];
        disk::read_exact(file, bytes, layout.row(ChunkIndex(first)))?;
        for (index, row) in (first..).zip(bytes.chunks_exact(DIGEST_BYTES)) {
            let mut copy = [0; DIGEST_BYTES];
            copy.copy_from_slice(row);
            each(index, copy);
        }
    }
    Ok(())
}
