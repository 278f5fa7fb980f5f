//! The data lanes of a push: how many the other end wants, and how many are there or on their way.

use super::retry::Retry;
use std::time::Instant;

/// Lanes that are dialled at the same time: a host lets few strangers of one address wait for their proof.
const DIALS_MAX: u16 = 4;

/// The data lanes.
pub(super) struct PushedLanes {
    /// How many the other end wants that are not there.
    owed: u16,
    /// How many of those are being dialled since the control lane is there.
    dialling: u16,
    open: u16,
    /// The most that were open since the control lane is there, and before, as far as there were any.
    peak: u16,
    before: u16,
    /// Which control lane that is, counted from 0: what was dialled before it may hang for long.
    generation: u32,
    retry: Retry,
    /// Bytes that were sent when a lane was lost last: where more are sent between two losses, the link is alive.
    sent: u64,
}

impl PushedLanes {
    pub(super) fn new(now: Instant) -> Self {
        Self { owed: 0, dialling: 0, open: 0, peak: 0, before: 0, generation: 0, retry: Retry::new(now), sent: 0 }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// When the next one is to be dialled, where one is lacking.
    pub(super) fn due(&self) -> Instant {
        self.retry.due()
    }

    /// The other end wants so many more than there are, whatever it wanted before.
    pub(super) fn wanted(&mut self, lanes: u16) {
        self.owed = lanes;
    }

    /// As many as there were before the control lane was lost are wanted again.
    pub(super) fn want_as_before(&mut self) {
        self.owed = self.before.saturating_sub(self.open);
    }

    /// How many more are to be dialled now.
    pub(super) fn lacking(&self) -> u16 {
        self.owed.saturating_sub(self.dialling).min(DIALS_MAX.saturating_sub(self.dialling))
    }

    /// One is being dialled.
    pub(super) fn tried(&mut self, now: Instant) {
        self.dialling += 1;
        self.retry.tried(now);
    }

    /// One was dialled. Whether it is to be served.
    pub(super) fn dialled(&mut self, is_there: bool, generation: u32, now: Instant) -> bool {
        if generation == self.generation {
            self.dialling = self.dialling.saturating_sub(1);
        }
        if !is_there {
            self.retry.failed(now);
            return false;
        }
        let is_wanted = self.owed > 0;
        if is_wanted {
            self.owed -= 1;
            self.open += 1;
            self.peak = self.peak.max(self.open);
        }
        is_wanted
    }

    /// One is gone, when `sent` bytes had gone over all of them. The other end asks for another one, if it wants one.
    pub(super) fn lost(&mut self, sent: u64, now: Instant) {
        self.open = self.open.saturating_sub(1);
        if std::mem::replace(&mut self.sent, sent) < sent {
            self.retry = Retry::new(now);
        } else {
            self.retry.failed(now);
        }
    }

    /// The control lane is gone: what was asked over it is void.
    pub(super) fn begin_anew(&mut self) {
        self.generation += 1;
        (self.owed, self.dialling) = (0, 0);
        if self.peak > 0 {
            self.before = self.peak;
        }
        self.peak = self.open;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_opened_as_are_wanted_and_a_few_at_a_time() {
        let now = Instant::now();
        let mut lanes = PushedLanes::new(now);
        assert_eq!(lanes.lacking(), 0);
        lanes.wanted(6);
        for lacking in (1..=DIALS_MAX).rev() {
            assert_eq!(lanes.lacking(), lacking);
            lanes.tried(now);
        }
        assert_eq!(lanes.lacking(), 0);
        assert!(lanes.dialled(true, 0, now) && !lanes.dialled(false, 0, now));
        assert_eq!(lanes.lacking(), 2, "five are owed, two of them are on their way");
        lanes.wanted(1);
        assert!(lanes.dialled(true, 0, now) && !lanes.dialled(true, 0, now), "the last word counts");
        assert_eq!(lanes.lacking(), 0);
    }

    #[test]
    fn with_another_control_lane_as_many_are_opened_as_there_were() {
        let now = Instant::now();
        let mut lanes = PushedLanes::new(now);
        lanes.wanted(3);
        for _ in 0..3 {
            lanes.tried(now);
            assert!(lanes.dialled(true, 0, now));
        }
        lanes.lost(1, now);
        for _ in 0..2 {
            lanes.begin_anew();
            assert_eq!(lanes.lacking(), 0, "what was asked over the lost lane is void");
        }
        lanes.want_as_before();
        assert_eq!(lanes.lacking(), 0, "two stayed, and the peak of the second one was two");
        lanes.lost(1, now);
        lanes.lost(1, now);
        lanes.want_as_before();
        assert_eq!(lanes.lacking(), 2);
    }

    #[test]
    fn lanes_that_are_lost_before_they_bring_anything_are_not_opened_again_at_once() {
        let began = Instant::now();
        let mut lanes = PushedLanes::new(began);
        let later = began + std::time::Duration::from_secs(20);
        lanes.lost(0, later);
        assert!(lanes.due() > later);
        lanes.lost(7, later);
        assert_eq!(lanes.due(), later, "something was sent meanwhile");
    }
}
