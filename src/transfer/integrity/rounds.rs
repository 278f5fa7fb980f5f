//! The chunks of many files in rounds, each hashed in one parallel pass, with progress told beside it.

use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::limits::{HASH_AHEAD_BYTES, HASH_PAGE_CHUNKS_MAX};
use crate::source::ChunkRun;
use crate::transfer::{Event, Observer, Progress};
use std::iter::Peekable;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Bytes of one round.
const ROUND_BYTES: u64 = HASH_AHEAD_BYTES;
/// Chunks of one round.
const ROUND_CHUNKS: u32 = HASH_PAGE_CHUNKS_MAX as u32;

/// Cuts the chunks of files into rounds. Files without chunks are in none.
pub(super) struct Rounds<I: Iterator<Item = (u32, Length)>> {
    files: Peekable<I>,
    /// The next chunk of the next file.
    next: u32,
}

/// How far a run is, for whoever watches.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) bytes_total: u64,
    pub(super) files_total: u64,
    pub(super) bytes_done: AtomicU64,
    pub(super) files_done: AtomicU64,
    current: Mutex<Option<String>>,
}

impl<I: Iterator<Item = (u32, Length)>> Rounds<I> {
    /// The rounds of `files`, each an entry of a source with its length.
    pub(super) fn new(files: I) -> Self {
        Self { files: files.peekable(), next: 0 }
    }
}

impl<I: Iterator<Item = (u32, Length)>> Iterator for Rounds<I> {
    type Item = Vec<ChunkRun>;

    fn next(&mut self) -> Option<Vec<ChunkRun>> {
        let mut runs = Vec::new();
        let (mut bytes, mut chunks) = (0, 0);
        while bytes < ROUND_BYTES && chunks < ROUND_CHUNKS {
            let Some(&(entry, length)) = self.files.peek() else { break };
            let count = Geometry::of(length).map_or(0, |geometry| geometry.count().0);
            if self.next >= count {
                self.files.next();
                self.next = 0;
                continue;
            }
            let chunk_bytes = Geometry::of(length).map_or(1, |geometry| geometry.chunk_length().0);
            let by_bytes = u32::try_from((ROUND_BYTES - bytes).div_ceil(chunk_bytes)).unwrap_or(u32::MAX);
            let taken = (count - self.next).min(ROUND_CHUNKS - chunks).min(by_bytes.max(1));
            let end = self.next + taken;
            runs.push(ChunkRun { entry, chunks: ChunkIndex(self.next)..ChunkIndex(end) });
            bytes = bytes.saturating_add(u64::from(taken).saturating_mul(chunk_bytes));
            chunks += taken;
            self.next = end;
        }
        (!runs.is_empty()).then_some(runs)
    }
}

impl Counted {
    pub(super) fn new(files_total: u64, bytes_total: u64) -> Self {
        Self { bytes_total, files_total, ..Self::default() }
    }

    /// Counts bytes that are done.
    pub(super) fn bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a file that is done.
    pub(super) fn file(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Says which file is worked on.
    pub(super) fn on(&self, path: &str) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_deref() != Some(path) {
            *current = Some(path.to_owned());
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            bytes_total: self.bytes_total,
            bytes_done: self.bytes_done.load(Ordering::Relaxed).min(self.bytes_total),
            files_total: self.files_total,
            files_done: self.files_done.load(Ordering::Relaxed),
            current: self.current.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            ..Progress::default()
        }
    }

    /// Does `act` while progress is told.
    pub(super) fn told<T>(&self, observer: &dyn Observer, act: impl FnOnce() -> T) -> T {
        let (working, waiting) = mpsc::channel::<()>();
        let result = thread::scope(|scope| {
            scope.spawn(move || {
                while waiting.recv_timeout(TELL_EVERY) == Err(RecvTimeoutError::Timeout) {
                    observer.event(&Event::Progress(self.progress()));
                }
            });
            let result = act();
            drop(working);
            result
        });
        observer.event(&Event::Progress(self.progress()));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHUNK_BYTES_MIN;

    #[test]
    fn rounds_hold_every_chunk_once_and_in_order_and_are_bounded() {
        let lengths = [0, 1, 3 * CHUNK_BYTES_MIN, 0, 5000 * CHUNK_BYTES_MIN + 1, 1 << 40, CHUNK_BYTES_MIN, 0];
        let files = (0u32..).zip(lengths.map(Length));
        let mut found = Vec::new();
        for round in Rounds::new(files.clone()) {
            let chunks: u32 = round.iter().map(|run| run.chunks.end.0 - run.chunks.start.0).sum();
            assert!((1..=ROUND_CHUNKS).contains(&chunks));
            for run in round {
                let geometry = Geometry::of(Length(lengths[run.entry as usize])).unwrap();
                assert!(geometry.bytes_between(run.chunks.start, run.chunks.end).0 <= ROUND_BYTES);
                found.extend((run.chunks.start.0..run.chunks.end.0).map(|chunk| (run.entry, chunk)));
            }
        }
        let all = files
            .flat_map(|(entry, length)| (0..Geometry::of(length).unwrap().count().0).map(move |chunk| (entry, chunk)));
        assert!(found.into_iter().eq(all));
    }
}
