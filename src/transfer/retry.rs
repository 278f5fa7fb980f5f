//! When a connection that was lost is tried again.

use crate::limits::RECONNECT_WAIT_MAX;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

/// The shortest wait after a try that failed.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// How long a try has for itself before the next one is started beside it.
const HEAD_START: Duration = Duration::from_millis(300);
/// The same before a session is known: each connection that proves the link begins one of its own, and the other end shows
/// all of them. Long enough for the handful of round trips that a connection takes on a slow path.
const HEAD_START_OF_FIRST: Duration = Duration::from_secs(3);

/// Tries at something that does not work for a while: one at once, then each after about a tenth of the time that has
/// passed, up to [`RECONNECT_WAIT_MAX`].
///
/// So trying adds no more than a tenth to an outage, a short one is over soon after its end, and a long one costs few
/// tries. Up to a quarter of each wait is cut off at random, so that receivers who lost one host do not come back to it
/// at one moment.
#[derive(Debug)]
pub(super) struct Retry {
    since: Instant,
    /// From when on the waits grow.
    paced: Instant,
    tries: u32,
    due: Instant,
}

impl Retry {
    /// Tries from `now` on.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, paced: now, tries: 0, due: now }
    }

    /// Tries so far.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// For how long it has not worked.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// A try starts. It may take long to fail: another one is started beside it.
    pub(super) fn tried(&mut self, now: Instant) {
        self.tried_alone_for(HEAD_START, now);
    }

    /// The same of a try that begins a session where it works.
    pub(super) fn tried_to_begin(&mut self, now: Instant) {
        self.tried_alone_for(HEAD_START_OF_FIRST, now);
    }

    fn tried_alone_for(&mut self, head_start: Duration, now: Instant) {
        self.tries = self.tries.saturating_add(1);
        self.due = now + self.wait(now).max(head_start);
    }

    /// A try failed.
    pub(super) fn failed(&mut self, now: Instant) {
        let due = now + self.wait(now);
        // Where the next one is overdue, nothing was tried for a while.
        self.due = if self.due < now { due } else { self.due.min(due) };
    }

    /// Tries again at once, and soon after that: what was in the way may be gone. What was tried so far still counts.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        (self.paced, self.due) = (now, now);
    }

    fn wait(&self, now: Instant) -> Duration {
        let longest = (now.saturating_duration_since(self.paced) / 10).clamp(WAIT_MIN, RECONNECT_WAIT_MAX);
        // A hasher of the standard library starts from random keys; nothing secret hangs on this.
        let chance = RandomState::new().build_hasher().finish() % 1024;
        longest.mul_f64(1.0 - f64::from(u32::try_from(chance).unwrap_or(0)) / 4096.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_comes_at_once_and_the_waits_grow_with_the_outage() {
        let began = Instant::now();
        let mut retry = Retry::new(began);
        let mut now = began;
        while now < began + Duration::from_secs(1000) {
            assert_eq!(retry.due(), now, "it is tried when it is due");
            retry.tried(now);
            retry.failed(now);
            let wait = retry.due().saturating_duration_since(now);
            let longest = (retry.elapsed(now) / 10).clamp(WAIT_MIN, RECONNECT_WAIT_MAX);
            assert!(wait <= longest && wait * 4 >= longest * 3, "{wait:?} after {:?}", retry.elapsed(now));
            now = retry.due();
        }
        assert!((100..300).contains(&retry.tries()), "{} tries in 1000 s", retry.tries());
    }

    #[test]
    fn a_machine_that_wakes_tries_at_once_however_long_it_waited_before() {
        let began = Instant::now();
        let mut retry = Retry::new(began);
        let later = began + Duration::from_secs(1000);
        retry.tried(later);
        retry.failed(later);
        assert!(retry.due() > later + RECONNECT_WAIT_MAX / 2);
        let woken = later + Duration::from_secs(1);
        retry.begin_anew(woken);
        assert_eq!((retry.due(), retry.tries(), retry.elapsed(woken)), (woken, 1, Duration::from_secs(1001)));
        retry.tried(woken);
        retry.failed(woken);
        assert!(retry.due() <= woken + WAIT_MIN, "its network may come up a moment later");
    }

    #[test]
    fn a_try_that_hangs_does_not_hold_up_the_next_one() {
        let began = Instant::now();
        let mut retry = Retry::new(began);
        retry.tried(began);
        assert_eq!(retry.due(), began + HEAD_START);
        let later = began + Duration::from_secs(20);
        retry.tried(later);
        assert!(retry.due() <= later + Duration::from_secs(2));
    }

    #[test]
    fn a_try_that_begins_a_session_has_time_for_some_round_trips() {
        let began = Instant::now();
        let mut retry = Retry::new(began);
        retry.tried_to_begin(began);
        assert_eq!(retry.due(), began + HEAD_START_OF_FIRST);
        retry.failed(began);
        assert!(retry.due() <= began + WAIT_MIN, "one that failed leaves nothing behind");
    }
}
