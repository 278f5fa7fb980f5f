//! What a receiving transfer counts, and what it tells of that.

use super::Progress;
use super::engine::{Engine, lock};
use crate::store::Disk;
use std::sync::atomic::{AtomicU64, Ordering};

impl<D: Disk> Engine<'_, D> {
    /// Counts bytes that need not be fetched.
    pub(super) fn reuse(&self, bytes: u64) {
        self.counters.reused.fetch_add(bytes, Ordering::Relaxed);
        self.counters.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn note_first_byte(&self) {
        if self.counters.first_byte_ms.load(Ordering::Relaxed) == 0 {
            let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
            // Another lane may have been first; either time is right to a millisecond.
            self.counters.first_byte_ms.store(elapsed + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let totals = self.listing.get().map(|listing| listing.totals()).unwrap_or_default();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            bytes_total: totals.bytes,
            bytes_done: load(&self.counters.done),
            bytes_reused: load(&self.counters.reused),
            bytes_fetched: load(&self.counters.fetched),
            wire_bytes: load(&self.counters.wire),
            files_total: u64::from(totals.files),
            files_done: load(&self.counters.files_done),
            current: self.current_file(),
            first_byte_ms: load(&self.counters.first_byte_ms).checked_sub(1),
        }
    }

    fn current_file(&self) -> Option<String> {
        let partials = lock(&self.partials);
        let entry = partials.keys().min().copied()?;
        self.listing.get()?.entry(entry).map(|entry| entry.path.as_str().to_owned())
    }
}
