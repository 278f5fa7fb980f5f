//! Syncs of a partial file while it grows, so that the last one is short; and what an error of any of them undoes.
//!
//! Measured for 1 GiB on ext4: one sync at the end 1.06 s in all, one every 256 MiB 0.77 s, one every 64 MiB 0.65 s.

use super::disk::{Disk, DiskFile};
use super::partial::{Core, PartialFile, Phase, State};
use crate::chunk_set::ChunkSet;
use crate::digest::DIGEST_BYTES;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

impl<D: Disk> PartialFile<D> {
    /// Carries out the sync that is under way on a thread of its own, or here where the system gives none.
    pub(super) fn sync_in_background(&self) {
        let core = Arc::clone(&self.core);
        // Held while the thread starts: the next sync can begin before this call is back.
        let mut syncer = self.syncer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = syncer.take() {
            // It has said that it is done, or no sync would be due; it may still be letting go of the file.
            let _ = before.join();
        }
        match std::thread::Builder::new().name("haul-sync".to_owned()).spawn(move || core.sync_claims()) {
            Ok(thread) => *syncer = Some(thread),
            Err(_) => self.core.sync_claims(),
        }
    }
}

impl<D: Disk> Core<D> {
    /// Whether a sync is due; if so it counts as under way from here on, and covers every claim made so far.
    pub(super) fn begin_sync_if_due(&self, state: &mut State) -> bool {
        let is_due = state.bytes_since_sync >= self.inner.background_sync_bytes && state.syncing.is_none();
        if is_due {
            state.syncing = Some(std::mem::take(&mut state.unsynced));
            state.bytes_since_sync = 0;
        }
        is_due
    }

    /// Waits until no sync is under way.
    pub(super) fn settle(&self) -> MutexGuard<'_, State> {
        let state = self.lock();
        self.settled.wait_while(state, |state| state.syncing.is_some()).unwrap_or_else(PoisonError::into_inner)
    }

    /// The claims that no good sync covers.
    pub(super) fn claims_at_risk(state: &State) -> ChunkSet {
        let mut at_risk = state.unsynced.clone();
        if let Some(syncing) = &state.syncing {
            at_risk.union(syncing);
        }
        at_risk
    }

    fn sync_claims(&self) {
        let is_name_synced = self.lock().is_name_synced;
        let synced = self.file.sync_data().and_then(|()| {
            // Claims in a file that has no name after a power cut are no use.
            if is_name_synced { Ok(()) } else { self.work.sync() }
        });
        let mut state = self.lock();
        match synced {
            Ok(()) => state.is_name_synced = true,
            Err(error) => self.void_claims_at_risk(&mut state, &error),
        }
        state.syncing = None;
        drop(state);
        self.settled.notify_all();
    }

    /// Makes sure that nobody reads these bytes again: the name goes, or at least everything behind it. Emptying a file
    /// takes no room, so it works on a full disk that refuses even to remove a name.
    pub(super) fn discard(&self) {
        if self.work.remove(&self.name).is_err() {
            let _ = self.file.set_length(0);
        }
    }

    /// After a failed sync the system may call pages clean that never reached the device. They read back well until
    /// they leave memory, so their claims go, and no further sync of them is believed (R10).
    pub(super) fn void_claims_at_risk(&self, state: &mut State, error: &io::Error) {
        let at_risk = Self::claims_at_risk(state);
        state.phase = Phase::Failed;
        state.sync_error = Some(error.kind());
        let voided: io::Result<()> = at_risk.ranges().flatten().try_for_each(|number| {
            let index = u32::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
            self.write_row(crate::chunk::ChunkIndex(index), [0; DIGEST_BYTES])
        });
        if voided.is_err() {
            // The table would say more than is true. Better none of it.
            self.discard();
        }
        state.claimed.difference(&at_risk);
        state.unsynced = ChunkSet::new();
    }
}
