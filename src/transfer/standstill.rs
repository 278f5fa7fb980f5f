//! Whether this process stood still, because it was stopped or its machine slept: its connections grew old unseen.

use std::time::{Duration, Instant};

/// A turn that took so long did so because the process was stopped: what the other end made of that is not known, and
/// finding out takes longer than connecting again.
const STOPPED_FOR: Duration = Duration::from_secs(5);
/// A sleep that is long enough for the other end, or something on the way, to have given a connection up.
const SLEPT_FOR: Duration = Duration::from_secs(2);

/// Notices a standstill once it is over. It is to be asked many times a second.
#[derive(Debug)]
pub(super) struct Standstill {
    /// When it was last asked.
    awake: Instant,
    /// All sleep of this machine as of then.
    slept: Duration,
}

impl Standstill {
    pub(super) fn new() -> Self {
        Self { awake: Instant::now(), slept: slept() }
    }

    /// Whether this process stood still since it was last asked, for long enough to matter.
    pub(super) fn is_over(&mut self) -> bool {
        self.look(Instant::now(), slept())
    }

    fn look(&mut self, now: Instant, slept: Duration) -> bool {
        let Self { awake, slept: before } = std::mem::replace(self, Self { awake: now, slept });
        now.saturating_duration_since(awake) > STOPPED_FOR || slept.saturating_sub(before) > SLEPT_FOR
    }
}

/// How long this machine has slept since it started: what the clock that goes on counts and the one that stands still does
/// not.
#[cfg(target_os = "linux")]
fn slept() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    // The order of the calls makes the difference too large by nanoseconds rather than negative.
    let awake = clock_gettime(ClockId::Monotonic);
    let all = clock_gettime(ClockId::Boottime);
    let since = |time: rustix::time::Timespec| Duration::try_from(time).unwrap_or_default();
    since(all).saturating_sub(since(awake))
}

/// Elsewhere, lanes that have fallen silent are tried beside within seconds, whatever made them so.
#[cfg(not(target_os = "linux"))]
fn slept() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_and_a_stop_are_noticed_once() {
        let (began, hour, second) = (Instant::now(), Duration::from_secs(3600), Duration::from_secs(1));
        let mut watch = Standstill { awake: began, slept: hour };
        assert!(!watch.look(began + second, hour + second / 100), "two clocks that are not read at once");
        assert!(watch.look(began + 2 * second, 2 * hour), "the machine slept while its clock stood still");
        assert!(!watch.look(began + 3 * second, 2 * hour));
        assert!(watch.look(began + 9 * second, 2 * hour), "the process was stopped");
        assert!(!watch.look(began + 10 * second, 2 * hour));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_runs_is_not_taken_for_one_that_stood_still() {
        let mut watch = Standstill::new();
        assert!(!watch.is_over());
    }
}
