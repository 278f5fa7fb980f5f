//! The data lanes of a receiving transfer: how many there are, are wanted and are on their way.

use super::growth::Growth;
use super::retry::Retry;
use std::time::Instant;

/// Lanes that are dialled at the same time: a host lets few strangers of one address wait for their proof.
const DIALS_MAX: u16 = 4;

/// Data lanes over a network, unless the user says otherwise: what one loses to a lost packet the others make up for.
const LANES_AT_FIRST: u16 = 4;
/// Data lanes within one machine: each end has the work of one for each of two cores.
const LANES_WITHIN: u16 = 2;

/// The data lanes.
pub(super) struct DataLanes {
    /// How many there are to be.
    pub(super) wanted: u16,
    /// How many more, once the listing shows large files.
    pub(super) spared: u16,
    /// How many there are.
    pub(super) open: u16,
    /// How many are being dialled since the control lane is there, or were asked for and did not come yet.
    pub(super) dialling: u16,
    /// When some were last asked for.
    pub(super) asked: Instant,
    /// Which control lane that is, counted from 0: what was dialled before it may hang for long.
    pub(super) generation: u32,
    pub(super) retry: Retry,
    /// Bytes that had come when a lane was lost last: where more come between two losses, the link is alive.
    fetched: u64,
    growth: Growth,
}

impl DataLanes {
    pub(super) fn new() -> Self {
        let asked = Instant::now();
        Self {
            wanted: 0,
            spared: 0,
            open: 0,
            dialling: 0,
            asked,
            generation: 0,
            retry: Retry::new(asked),
            fetched: 0,
            growth: Growth::new(0),
        }
    }

    /// The host grants `most` lanes. Where the user did not say how many, further ones are opened while that pays: over a
    /// network, from [`LANES_AT_FIRST`] on; within one machine at most [`LANES_WITHIN`], and one until the listing shows
    /// large files.
    pub(super) fn granted(&mut self, most: u16, is_chosen: bool, stays_on_this_machine: bool) {
        let at_first = match (is_chosen, stays_on_this_machine) {
            (true, _) => most,
            (false, true) => most.min(LANES_WITHIN),
            (false, false) => most.min(LANES_AT_FIRST),
        };
        self.wanted = if !is_chosen && stays_on_this_machine { at_first.min(1) } else { at_first };
        self.spared = at_first - self.wanted;
        self.growth = Growth::new(if is_chosen || stays_on_this_machine { 0 } else { most });
    }

    /// Looks at what the lanes bring, `fetched` bytes so far, and whether more of them bring more.
    pub(super) fn look(&mut self, fetched: u64, now: Instant) {
        if self.open == self.wanted {
            self.wanted = self.growth.look(now, fetched, self.wanted);
        } else {
            self.growth.disturbed();
        }
    }

    /// A lane is gone, when `fetched` bytes had come over all of them.
    pub(super) fn lost(&mut self, fetched: u64, now: Instant) {
        self.open = self.open.saturating_sub(1);
        self.growth.disturbed();
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
