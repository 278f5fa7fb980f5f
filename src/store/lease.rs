//! The right to write one chunk.

use super::FileOf;
use super::disk::{self, Disk, DiskFile};
use super::fault::StoreError;
use super::partial::{Core, PartialFile};
use crate::chunk::{ChunkIndex, Span};
use crate::digest::{ChunkDigest, chunk_digest};
use crate::manifest::VerifiedChunk;
use std::io::ErrorKind;
use std::sync::{Arc, PoisonError};

/// The right to write one chunk, which nobody else writes or hashes meanwhile. Dropped, it is given back unclaimed.
#[derive(Debug)]
pub struct Lease<D: Disk> {
    partial: Arc<PartialFile<D>>,
    index: ChunkIndex,
    span: Span,
    /// Whether the range may hold bytes other than zero.
    is_stale: bool,
    /// What the range hashed to, while nothing is written after.
    hashed: Option<ChunkDigest>,
}

impl<D: Disk> Lease<D> {
    pub(super) fn new(partial: Arc<PartialFile<D>>, index: ChunkIndex, span: Span, is_stale: bool) -> Self {
        Self { partial, index, span, is_stale, hashed: None }
    }

    /// The chunk.
    pub fn index(&self) -> ChunkIndex {
        self.index
    }

    /// Where it lies in the file.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Has `fill` fill a buffer of `length` bytes, at most a piece, and writes it at `offset` within the chunk. Where
    /// `fill` fails nothing is written.
    pub fn fill<E: From<StoreError>>(
        &mut self,
        offset: u64,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = self.core().inner.buffers.take();
        let bytes = buffer.get_mut(..length).ok_or(StoreError::Misuse("a buffer longer than a piece"))?;
        fill(bytes)?;
        Ok(self.write(offset, bytes)?)
    }

    /// Fills `length` bytes at `offset` within the chunk with those of `file` from `from` on, shared with it where the file
    /// system can. False where they cannot be read.
    pub(super) fn take_from(
        &mut self,
        file: &FileOf<D>,
        from: u64,
        offset: u64,
        length: u64,
    ) -> Result<bool, StoreError> {
        let at = self.place(offset, length)?;
        self.hashed = None;
        if self.core().file.may_share() {
            self.touch();
            // Where it fails, copying says why.
            if matches!(self.core().file.share(file, from, at, length), Ok(true)) {
                return Ok(true);
            }
        }
        let mut buffer = self.core().inner.buffers.take();
        let mut done = 0;
        while done < length {
            let step = buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
            let bytes = &mut buffer[..step];
            if disk::read_exact(file, bytes, from + done).is_err() {
                return Ok(false);
            }
            if bytes.iter().all(|&byte| byte == 0) {
                self.zeros(offset + done, step as u64)?;
            } else {
                self.write(offset + done, bytes)?;
            }
            done += step as u64;
        }
        Ok(true)
    }

    /// Writes `bytes` at `offset` within the chunk; a copy less than [`Lease::fill`] where they lie in memory already.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let at = self.place(offset, bytes.len() as u64)?;
        self.hashed = None;
        self.touch();
        self.write_at(bytes, at)
    }

    /// From here on the range may hold bytes other than zero.
    fn touch(&mut self) {
        if !self.is_stale {
            let number = u64::from(self.index.0);
            self.core().lock().touched.insert(number..number + 1);
            self.is_stale = true;
        }
    }

    /// Makes `length` bytes at `offset` within the chunk zero. Where nothing was written since the file was made, they
    /// are, and nothing is done; elsewhere only what is not zero is written.
    pub fn zeros(&mut self, offset: u64, length: u64) -> Result<(), StoreError> {
        let mut at = self.place(offset, length)?;
        self.hashed = None;
        if !self.is_stale {
            return Ok(());
        }
        let end = at + length;
        let mut buffer = self.core().inner.buffers.take();
        while at < end {
            let step = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let bytes = &mut buffer[..step];
            disk::read_exact(&self.core().file, bytes, at).map_err(|error| self.fault("reading", error))?;
            if bytes.iter().any(|&byte| byte != 0) {
                bytes.fill(0);
                self.write_at(bytes, at)?;
            }
            at += step as u64;
        }
        Ok(())
    }

    /// Hashes the chunk where it lies in the file.
    pub fn digest(&mut self) -> Result<ChunkDigest, StoreError> {
        let partial = self.core();
        let facts = partial.file.facts().map_err(|error| self.fault("looking at", error))?;
        if facts.length != partial.layout.total_bytes() || facts.links == 0 {
            return Err(StoreError::Tampered {
                path: partial.path_text(),
                what: "another program cut or removed its partial file",
            });
        }
        let viewed = {
            let view = partial.view.read().unwrap_or_else(PoisonError::into_inner);
            let hash = |bytes: &[u8]| chunk_digest(partial.geometry, self.index, bytes);
            view.as_ref().and_then(|view| view.with(self.span.offset.0, self.span.length.0, hash))
        };
        let digest = match viewed {
            Some(digest) => digest,
            None => partial
                .inner
                .hash_chunk(&partial.file, partial.geometry, self.index)
                .map_err(|error| self.fault("reading", error))?,
        };
        self.hashed = Some(digest);
        Ok(digest)
    }

    /// Notes in the table that the chunk lies here. Its hash must be the one that [`Lease::digest`] found last.
    pub fn claim(self, chunk: VerifiedChunk) -> Result<(), StoreError> {
        if chunk.index() != self.index {
            return Err(StoreError::Misuse("a claim of bytes that were not hashed here"));
        }
        self.claim_as(chunk.digest())
    }

    /// The same, where the promised hash is known to whoever hashed it.
    pub(super) fn claim_as(self, digest: ChunkDigest) -> Result<(), StoreError> {
        if self.hashed != Some(digest) {
            return Err(StoreError::Misuse("a claim of bytes that were not hashed here"));
        }
        let partial = self.core();
        if !self.is_stale {
            // All zeros, as a hole is. Giving the room back keeps sparse files sparse; it is no loss if it fails.
            let _ = partial.file.punch(self.span.offset.0, self.span.length.0);
        }
        let number = u64::from(self.index.0);
        let mut state = partial.lock();
        partial.check_open(&state)?;
        // Under the lock, so that a failing sync cannot void the claims between the row and the note of it.
        let write = || partial.write_row(self.index, digest.0);
        partial.inner.with_room(|| write().map_err(|error| self.fault("writing the table of", error)))?;
        state.claimed.insert(number..number + 1);
        state.unsynced.insert(number..number + 1);
        state.bytes_since_sync += self.span.length.0;
        let is_due = partial.begin_sync_if_due(&mut state);
        drop(state);
        if is_due {
            self.partial.sync_in_background();
        }
        Ok(())
    }

    /// Gives the chunk back unclaimed.
    pub fn abandon(self) {}

    fn core(&self) -> &Core<D> {
        &self.partial.core
    }

    /// Writes `bytes` at `at` in the file; where the disk is full it says what the file needs, not these bytes alone.
    fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        let core = self.core();
        core.inner.with_room(|| {
            let written = {
                let _turn = core.write_turn.lock().unwrap_or_else(PoisonError::into_inner);
                disk::write_all(&core.file, bytes, at)
            };
            written.map_err(|error| match self.fault("writing", error) {
                StoreError::NoSpace { path, free, .. } => StoreError::NoSpace { path, needed: core.lacking(), free },
                fault => fault,
            })
        })
    }

    /// Where `length` bytes at `offset` within the chunk lie in the file.
    fn place(&self, offset: u64, length: u64) -> Result<u64, StoreError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.span.length.0 => Ok(self.span.offset.0 + offset),
            _ => Err(StoreError::Misuse("bytes outside of the leased chunk")),
        }
    }

    fn fault(&self, doing: &'static str, source: std::io::Error) -> StoreError {
        if source.kind() == ErrorKind::UnexpectedEof {
            return StoreError::Tampered {
                path: self.core().path_text(),
                what: "another program cut its partial file",
            };
        }
        self.core().fault(doing, source)
    }
}

impl<D: Disk> Drop for Lease<D> {
    fn drop(&mut self) {
        self.core().lock().held.remove(&self.index.0);
        self.core().settled.notify_all();
    }
}
