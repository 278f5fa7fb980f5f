//! Reading and hashing chunks.

use super::fault::Trouble;
use super::hash_cache::ReadSince;
use super::open_files::OpenFile;
use super::place::Identity;
use super::{ChunkRun, HashedChunk, Provenance, Source, SourceError};
use crate::chunk::{ChunkIndex, Geometry, Length, Span};
use crate::digest::{ChunkDigest, ChunkHasher};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A run whose file is known, with the digests that the cache has.
struct Prepared {
    digests: Vec<Option<ChunkDigest>>,
    /// When reading begins by the clock of the cache, for rows to be kept.
    read_since: Option<ReadSince>,
    target: Target,
}

/// What the chunks of a run are read from.
enum Target {
    /// A file of one chunk, opened by the thread that hashes it.
    Listed(Identity),
    /// A file of several chunks.
    Open(Arc<OpenFile>),
}

impl Source {
    /// Fills `out` with the bytes `within` chunk `chunk`, counted from the chunk's start.
    ///
    /// When this returns, the file still had its listed content after the bytes were read, be that for its hash.
    pub fn read_chunk_into(
        &self,
        entry: u32,
        chunk: ChunkIndex,
        within: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), SourceError> {
        let identity = self.file_identity(entry, chunk)?;
        let span = Geometry::of(Length(identity.bytes)).and_then(|geometry| geometry.span(chunk));
        let fits = |span: &Span| {
            within.start <= within.end && within.end <= span.length.0 && within.end - within.start == out.len() as u64
        };
        let span = span.filter(fits).ok_or(SourceError::NoSuchBytes { entry, chunk })?;
        if self.kept.take(entry, &identity, &within, out) {
            return Ok(());
        }
        let mut read = || {
            let open = self.open(entry, identity)?;
            open.read_exactly(span.offset.0 + within.start, out)?;
            open.check_content()
        };
        read().map_err(|trouble| self.fault(entry, trouble))
    }

    /// Digests of chunks of one file, in order.
    pub fn hash_chunks(&self, entry: u32, chunks: Range<ChunkIndex>) -> Result<Vec<HashedChunk>, SourceError> {
        let run = ChunkRun { entry, chunks };
        self.hash_runs(&[run]).pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Digests of chunks of many files: one outcome for each run, in order. All chunks are hashed in one parallel pass.
    ///
    /// A caller asks for a page at a time; the answer is as long as the question.
    pub fn hash_runs(&self, runs: &[ChunkRun]) -> Vec<Result<Vec<HashedChunk>, SourceError>> {
        let prepared: Vec<Result<Prepared, SourceError>> = runs.iter().map(|run| self.prepare(run)).collect();
        let mut tasks = Vec::new();
        for (run, prepared) in runs.iter().zip(&prepared) {
            let Ok(Prepared { digests, target, .. }) = prepared else { continue };
            let missing = (run.chunks.start.0..).zip(digests).filter(|(_, digest)| digest.is_none());
            tasks.extend(missing.map(|(chunk, _)| (run.entry, target, ChunkIndex(chunk))));
        }
        let read: Vec<Result<ChunkDigest, Trouble>> =
            tasks.par_iter().map(|(entry, target, chunk)| self.hash_one(*entry, target, *chunk)).collect();
        drop(tasks);
        let mut read = read.into_iter();
        let outcomes = runs.iter().zip(prepared);
        outcomes.map(|(run, prepared)| prepared.and_then(|prepared| self.assemble(run, prepared, &mut read))).collect()
    }

    /// The digest of a chunk as the file holds it, whatever the cache says: the answer to a receiver that got other
    /// bytes than the manifest names. Where it differs from the manifest the file changed, and is to be
    /// [listed anew](Source::relist).
    pub fn rehash_chunk(&self, entry: u32, chunk: ChunkIndex) -> Result<ChunkDigest, SourceError> {
        let identity = self.file_identity(entry, chunk)?;
        let geometry = Geometry::of(Length(identity.bytes));
        if geometry.and_then(|geometry| geometry.span(chunk)).is_none() {
            return Err(SourceError::NoSuchBytes { entry, chunk });
        }
        self.hash_one(entry, &Target::Listed(identity), chunk).map_err(|trouble| self.fault(entry, trouble))
    }

    fn prepare(&self, run: &ChunkRun) -> Result<Prepared, SourceError> {
        let Range { start, end } = run.chunks;
        let identity = self.file_identity(run.entry, start)?;
        let geometry = Geometry::of(Length(identity.bytes))
            .filter(|geometry| start <= end && end.0 <= geometry.count().0)
            .ok_or(SourceError::NoSuchBytes { entry: run.entry, chunk: start })?;
        let digests = vec![None; (end.0 - start.0) as usize];
        if geometry.is_single() {
            return Ok(Prepared { digests, read_since: None, target: Target::Listed(identity) });
        }
        let open = self.open(run.entry, identity).map_err(|trouble| self.fault(run.entry, trouble))?;
        let mut prepared = Prepared { digests, read_since: None, target: Target::Open(Arc::clone(&open)) };
        if let Some(cached) = open.cached(self.cache.as_ref()) {
            cached.find(start.0, &mut prepared.digests);
            if prepared.digests.contains(&None) {
                prepared.read_since = cached.read_since();
            }
        }
        Ok(prepared)
    }

    fn hash_one(&self, entry: u32, target: &Target, chunk: ChunkIndex) -> Result<ChunkDigest, Trouble> {
        match target {
            Target::Listed(identity) => {
                let open = self.open(entry, *identity)?;
                let is_whole = open.geometry.is_single();
                self.hash_open(&open, chunk, is_whole.then_some((entry, *identity)))
            }
            Target::Open(open) => self.hash_open(open, chunk, None),
        }
    }

    /// Hashes a chunk; where that is all of a file, `whole` says which, and its bytes are kept for whoever reads them next.
    fn hash_open(
        &self,
        open: &OpenFile,
        chunk: ChunkIndex,
        whole: Option<(u32, Identity)>,
    ) -> Result<ChunkDigest, Trouble> {
        let Span { offset, length } = open.geometry.span(chunk).ok_or(Trouble::Changed)?;
        self.hashed.fetch_add(1, Ordering::Relaxed);
        let mut hasher = ChunkHasher::new(open.geometry, chunk);
        self.buffers.with(|buffer| {
            let mut at = offset.0;
            let end = offset.0 + length.0;
            while at < end {
                let count = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                open.read_exactly(at, &mut buffer[..count])?;
                hasher.update(&buffer[..count]);
                at += count as u64;
            }
            open.check_content()?;
            if let Some((entry, identity)) = whole
                && let Some(bytes) = usize::try_from(length.0).ok().and_then(|length| buffer.get(..length))
            {
                self.kept.put(entry, identity, bytes);
            }
            Ok::<(), Trouble>(())
        })?;
        Ok(hasher.finish())
    }

    /// Puts a run's answer together, taking its share of what was read, and keeps that in the cache.
    fn assemble(
        &self,
        run: &ChunkRun,
        prepared: Prepared,
        read: &mut impl Iterator<Item = Result<ChunkDigest, Trouble>>,
    ) -> Result<Vec<HashedChunk>, SourceError> {
        let mut failed = None;
        let mut hashed = Vec::with_capacity(prepared.digests.len());
        for cached in prepared.digests {
            let (digest, provenance) = match cached {
                Some(digest) => (digest, Provenance::Cache),
                None => match read.next().expect("every missing digest has its task") {
                    Ok(digest) => (digest, Provenance::Read),
                    Err(trouble) => {
                        failed.get_or_insert(trouble);
                        continue;
                    }
                },
            };
            hashed.push(HashedChunk { digest, provenance });
        }
        if let Some(trouble) = failed {
            return Err(self.fault(run.entry, trouble));
        }
        if let (Target::Open(open), Some(since)) = (&prepared.target, prepared.read_since)
            && open.is_untouched()
            && let Some(mut cached) = open.cached(self.cache.as_ref())
        {
            let mut first = run.chunks.start.0;
            for same in hashed.chunk_by(|one, other| one.provenance == other.provenance) {
                if same[0].provenance == Provenance::Read {
                    cached.keep(self.cache.as_ref(), first, same, since);
                }
                first += u32::try_from(same.len()).expect("a run has no more chunks than a file");
            }
        }
        Ok(hashed)
    }
}
