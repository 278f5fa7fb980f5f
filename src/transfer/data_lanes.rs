//! The data lanes of a receiving transfer: how many there are, are wanted and are on their way.

use super::retry::Retry;
use std::time::Instant;

/// Lanes that are dialled at the same time: a host lets few strangers of one address wait for their proof.
const DIALS_MAX: u16 = 4;

/// The data lanes.
pub(super) struct DataLanes {
    /// How many there are to be.
    pub(super) wanted: u16,
    /// How many more, once the listing shows large files.
    pub(super) spared: u16,
    /// How many there are.
    pub(super) open: u16,
    /// How many are being dialled since the control lane is there.
    pub(super) dialling: u16,
    /// Which control lane that is, counted from 0: what was dialled before it may hang for long.
    pub(super) generation: u32,
    pub(super) retry: Retry,
    /// Bytes that had come when a lane was lost last: where more come between two losses, the link is alive.
    fetched: u64,
}

impl DataLanes {
    pub(super) fn new() -> Self {
        let retry = Retry::new(Instant::now());
        Self { wanted: 0, spared: 0, open: 0, dialling: 0, generation: 0, retry, fetched: 0 }
    }

    /// A lane is gone, when `fetched` bytes had come over all of them.
    pub(super) fn lost(&mut self, fetched: u64, now: Instant) {
        self.open = self.open.saturating_sub(1);
        if std::mem::replace(&mut self.fetched, fetched) < fetched {
            self.retry = Retry::new(now);
        } else {
            self.retry.failed(now);
        }
    }

    /// How many more are to be dialled now.
    pub(super) fn lacking(&self) -> u16 {
        let lacking = self.wanted.saturating_sub(self.open + self.dialling);
        lacking.min(DIALS_MAX.saturating_sub(self.dialling))
    }

    /// Another control lane takes over: what was dialled before it is not waited for.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.generation += 1;
        self.dialling = 0;
        self.retry = Retry::new(now);
    }
}
