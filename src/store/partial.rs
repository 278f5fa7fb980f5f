//! A file that is being received: its bytes, and which chunks of them are known to be there.

use super::disk::{self, Disk};
use super::fault::StoreError;
use super::footer::{Footer, Layout};
use super::lease::Lease;
use super::opening::each_row;
use super::work::Work;
use super::{FileOf, Inner};
use crate::chunk::{ChunkIndex, Geometry};
use crate::chunk_set::ChunkSet;
use crate::digest::{ChunkDigest, DIGEST_BYTES, FileDigest, RootMerger, chunk_digest, empty_file_digest};
use crate::limits::CHUNK_BYTES_COMFORT;
use crate::mmap::View;
use crate::rel_path::RelPath;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

/// A file that is being received. Chunks are written and claimed under leases, by any number of threads.
#[derive(Debug)]
pub struct PartialFile<D: Disk> {
    pub(super) core: Arc<Core<D>>,
    /// The thread of the sync that was begun last. It shares the core, so the file is closed only after it ends.
    pub(super) syncer: Mutex<Option<JoinHandle<()>>>,
}

/// What a partial file shares with its background sync.
#[derive(Debug)]
pub(super) struct Core<D: Disk> {
    pub(super) inner: Arc<Inner<D>>,
    pub(super) work: Arc<Work<D>>,
    pub(super) path: RelPath,
    pub(super) name: String,
    pub(super) geometry: Geometry,
    pub(super) layout: Layout,
    pub(super) file: FileOf<D>,
    /// Held by whoever writes: the system takes one write to a file at a time, and burns a core to wait for its turn.
    pub(super) write_turn: Mutex<()>,
    pub(super) view: RwLock<Option<View>>,
    pub(super) state: Mutex<State>,
    /// Told when a background sync ends, and when a chunk is let go.
    pub(super) settled: Condvar,
}

/// What is known of the chunks.
#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Chunks with a row in the table, and chunks whose bytes may be there although their row is lost.
    pub(super) claimed: ChunkSet,
    /// Those of them that count only after their bytes are hashed again.
    pub(super) suspect: ChunkSet,
    /// Chunks that somebody writes or hashes.
    pub(super) held: BTreeSet<u32>,
    /// Chunks whose range may hold bytes other than zero.
    pub(super) touched: ChunkSet,
    /// Claims that no sync has covered; an error of the next one voids them.
    pub(super) unsynced: ChunkSet,
    /// Claims that the sync under way covers.
    pub(super) syncing: Option<ChunkSet>,
    /// Bytes claimed since the last sync began.
    pub(super) bytes_since_sync: u64,
    /// What the sync said that failed.
    pub(super) sync_error: Option<io::ErrorKind>,
    /// Whether the folder knows of the file durably.
    pub(super) is_name_synced: bool,
}

/// What may be done with a partial file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// The device refused bytes: nothing more is written or claimed.
    Failed,
    /// Leases are given.
    Open,
    /// Complete; leases are no longer given.
    Sealed,
}

/// A partial file as it was found.
#[derive(Debug)]
pub struct OpenedPartial<D: Disk> {
    /// The file.
    pub partial: Arc<PartialFile<D>>,
    /// Chunks to pass to [`PartialFile::check_claim`] once their promised hash is known. All others are to be fetched.
    pub claims: ChunkSet,
    /// What the claims are worth.
    pub standing: Standing,
}

/// What the claims of a partial file are worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// There was nothing: the file is new.
    Fresh,
    /// The system was started again since, or the table is lost: a claim counts once its bytes are hashed again.
    OtherBoot,
    /// The system runs on since they were made: a claim counts if it is the promised hash.
    SameBoot,
}

/// A file whose chunks all lie in its `.part` file and add up to the root. Only this can be published.
#[derive(Debug)]
pub struct SealedFile<D: Disk> {
    pub(super) partial: Arc<PartialFile<D>>,
    pub(super) root: FileDigest,
}

impl<D: Disk> PartialFile<D> {
    /// The path that the file is for.
    pub fn path(&self) -> &RelPath {
        &self.core.path
    }

    /// The split of the file.
    pub fn geometry(&self) -> Geometry {
        self.core.geometry
    }

    /// Takes chunk `index` for writing. `None` while somebody else holds it, and where it is claimed.
    pub fn lease(self: &Arc<Self>, index: ChunkIndex) -> Result<Option<Lease<D>>, StoreError> {
        let core = &self.core;
        let span = core.geometry.span(index).ok_or(StoreError::Misuse("a lease of a chunk that the file lacks"))?;
        let mut state = core.lock();
        core.check_open(&state)?;
        let number = u64::from(index.0);
        if state.claimed.contains(number) || !state.held.insert(index.0) {
            return Ok(None);
        }
        let is_stale = state.touched.contains(number);
        Ok(Some(Lease::new(Arc::clone(self), index, span, is_stale)))
    }

    /// Waits until nobody holds chunk `index`, and returns the hash that it is claimed with, if it is.
    pub fn claim_of(&self, index: ChunkIndex) -> Result<Option<ChunkDigest>, StoreError> {
        let core = &self.core;
        let mut state = core.lock();
        while state.held.contains(&index.0) {
            state = core.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        core.check_open(&state)?;
        if !state.claimed.contains(u64::from(index.0)) {
            return Ok(None);
        }
        let mut row = [0; DIGEST_BYTES];
        disk::read_exact(&core.file, &mut row, core.layout.row(index))
            .map_err(|error| core.fault("reading the table of", error))?;
        Ok(Some(ChunkDigest(row)))
    }

    /// Whether chunk `index`, which the table claims, has the hash that is `promised`. If not, the claim is void and
    /// the chunk is to be fetched. Chunks of an earlier start of the system are hashed for this; threads may share
    /// that work.
    pub fn check_claim(&self, index: ChunkIndex, promised: ChunkDigest) -> Result<bool, StoreError> {
        let core = &self.core;
        let number = u64::from(index.0);
        let is_suspect = {
            let mut state = core.lock();
            core.check_open(&state)?;
            if !state.claimed.contains(number) || !state.held.insert(index.0) {
                return Ok(false);
            }
            state.suspect.contains(number)
        };
        let compared = core.compare_claim(index, promised, is_suspect);
        let mut state = core.lock();
        state.held.remove(&index.0);
        core.settled.notify_all();
        let is_right = compared.map_err(|error| core.fault("checking", error))?;
        let row = if is_right { promised.0 } else { [0; DIGEST_BYTES] };
        if is_suspect || !is_right {
            let write = || core.write_row(index, row);
            core.inner.with_room(|| write().map_err(|error| core.fault("writing the table of", error)))?;
        }
        if !is_right {
            state.claimed.remove(number..number + 1);
            state.unsynced.remove(number..number + 1);
        }
        state.suspect.remove(number..number + 1);
        if is_suspect && state.suspect.is_empty() {
            // Before this point the footer must not name this start of the system: a claim that nobody has checked
            // would count after the next crash of this process.
            let write = || core.write_footer();
            core.inner.with_room(|| write().map_err(|error| core.fault("writing the footer of", error)))?;
        }
        Ok(is_right)
    }

    /// Takes the file as complete once every lease is back: every chunk claimed and checked, the claims adding up to
    /// `root`. Waits for a sync that is under way.
    pub fn seal(self: &Arc<Self>, root: FileDigest) -> Result<SealedFile<D>, StoreError> {
        let core = &self.core;
        {
            let mut state = core.settle();
            core.check_open(&state)?;
            let good = state.claimed.len().saturating_sub(state.suspect.len());
            let missing = u64::from(core.geometry.count().0) - good;
            if missing > 0 || !state.held.is_empty() {
                return Err(StoreError::Incomplete { path: core.path_text(), missing: missing.max(1) });
            }
            state.phase = Phase::Sealed;
        }
        // A store through a stale view would change the file after it was published: it goes first (R8).
        core.view.write().unwrap_or_else(PoisonError::into_inner).take();
        let merged = core.merge_rows();
        let problem = match merged {
            Ok(found) if found == root => return Ok(SealedFile { partial: Arc::clone(self), root }),
            Ok(_) => StoreError::RootMismatch { path: core.path_text() },
            Err(error) => core.fault("reading the table of", error),
        };
        core.lock().phase = Phase::Open;
        Err(problem)
    }

    /// Has `take` take the bytes of chunk `index`, which is claimed and checked, in order, at most
    /// [`CHUNK_BYTES_COMFORT`] at a time; none before all of the chunk has its hash. It ends early where `take` says no.
    pub fn read_claimed(
        &self,
        index: ChunkIndex,
        buffer: &mut Vec<u8>,
        take: &mut dyn FnMut(&mut Vec<u8>) -> bool,
    ) -> Result<(), StoreError> {
        let core = &self.core;
        let span = core.geometry.span(index).ok_or(StoreError::Misuse("a chunk that the file lacks"))?;
        let claim = self.claim_of(index)?.ok_or(StoreError::Misuse("a chunk that is not there"))?;
        let refused = |error| core.fault("reading", error);
        let is_right = |found: ChunkDigest| {
            let what = "another program changed its partial file";
            if found == claim { Ok(()) } else { Err(StoreError::Tampered { path: core.path_text(), what }) }
        };
        let is_read_at_once = span.length.0 <= CHUNK_BYTES_COMFORT;
        if !is_read_at_once {
            is_right(core.inner.hash_chunk(&core.file, core.geometry, index).map_err(refused)?)?;
        }
        let (mut at, end) = (span.offset.0, span.offset.0 + span.length.0);
        while at < end {
            let step = (end - at).min(CHUNK_BYTES_COMFORT);
            buffer.resize(usize::try_from(step).unwrap_or(0), 0);
            disk::read_exact(&core.file, buffer, at).map_err(refused)?;
            if is_read_at_once {
                is_right(chunk_digest(core.geometry, index, buffer))?;
            }
            if !take(buffer) {
                return Ok(());
            }
            at += step;
        }
        Ok(())
    }

    /// Waits until no background sync is under way, and says whether the device took everything so far.
    pub fn wait_for_sync(&self) -> Result<(), StoreError> {
        let core = &self.core;
        let state = core.settle();
        if state.phase == Phase::Failed { Err(core.failed(&state)) } else { Ok(()) }
    }
}

impl<D: Disk> Drop for PartialFile<D> {
    fn drop(&mut self) {
        let syncer = self.syncer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = syncer {
            // Its panic would be a bug there; here the file is let go of either way.
            let _ = thread.join();
        }
    }
}

impl<D: Disk> Core<D> {
    fn compare_claim(&self, index: ChunkIndex, promised: ChunkDigest, is_suspect: bool) -> io::Result<bool> {
        let mut row = [0; DIGEST_BYTES];
        disk::read_exact(&self.file, &mut row, self.layout.row(index))?;
        if row != promised.0 && !(is_suspect && row == [0; DIGEST_BYTES]) {
            return Ok(false);
        }
        // Through the descriptor, not the view: bytes that the device cannot read back are an error here and would be
        // a signal there.
        Ok(!is_suspect || self.inner.hash_chunk(&self.file, self.geometry, index)? == promised)
    }

    fn merge_rows(&self) -> io::Result<FileDigest> {
        let mut merger = RootMerger::new(self.geometry);
        let mut root = empty_file_digest();
        each_row(&self.inner, &self.file, self.layout, self.geometry.count(), |_, row| {
            root = merger.push(ChunkDigest(row)).unwrap_or(root);
        })?;
        Ok(root)
    }

    pub(super) fn write_row(&self, index: ChunkIndex, row: [u8; DIGEST_BYTES]) -> io::Result<()> {
        disk::write_all(&self.file, &row, self.layout.row(index))
    }

    pub(super) fn write_footer(&self) -> io::Result<()> {
        let boot = self.inner.disk.boot();
        Footer { path: self.path.clone(), length: self.geometry.file_length(), boot }.write(&self.file)
    }

    pub(super) fn check_open(&self, state: &State) -> Result<(), StoreError> {
        match state.phase {
            Phase::Failed => Err(self.failed(state)),
            Phase::Open => Ok(()),
            Phase::Sealed => Err(StoreError::Misuse("a sealed file is not written to")),
        }
    }

    pub(super) fn failed(&self, state: &State) -> StoreError {
        let kind = state.sync_error.unwrap_or(io::ErrorKind::Other);
        let source = io::Error::new(kind, "an earlier sync failed, so what was written since is lost");
        StoreError::FsyncFailed { path: self.path_text(), source }
    }

    /// Bytes of the chunks that are not claimed.
    pub(super) fn lacking(&self) -> u64 {
        let claimed = self.lock().claimed.len();
        let length = self.geometry.file_length().0;
        length.saturating_sub(claimed.saturating_mul(self.geometry.chunk_length().0))
    }

    pub(super) fn path_text(&self) -> String {
        self.path.as_str().to_owned()
    }

    pub(super) fn fault(&self, doing: &'static str, source: io::Error) -> StoreError {
        self.inner.fault(doing, self.path.as_str(), self.geometry.chunk_length().0, source)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Where a thread panicked between two changes, what it claimed is on disk before it is in memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
