//! What the sessions of one sender share: its cores, and the limit that they keep together.
//!
//! Each lane has a thread of its own, and the system shares the cores out by thread. Where several receivers are served
//! at once, a session therefore has as many lanes at work as there are cores for each session, and at least one: the
//! share of a receiver does not grow with its lanes. A lane that waits for its receiver does not count: it needs no core.
//!
//! Left to the system, a receiver of one lane got a fourteenth of what one of sixteen lanes got beside it, from a sender
//! that had one core to give (two rounds, receivers on another core that threw away what came); with turns, a third.

use super::limit::Limit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// A lane that is at one piece for so long waits for its receiver.
const BLOCKED_AFTER: Duration = Duration::from_millis(100);

/// What all sessions of a sender share.
#[derive(Debug)]
pub(super) struct Company {
    /// Of all sessions together.
    pub(super) limit: Limit,
    cores: usize,
    /// Sessions to which data moved a moment ago.
    busy: AtomicUsize,
}

/// The lanes of one session that are at work.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<Taken>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// Each turn by its number, and when it began.
    turns: Vec<(u64, Instant)>,
    /// Lanes that wait for one.
    waiting: usize,
}

/// The right to work on one piece. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    of: &'a Turns,
    number: u64,
}

impl Default for Company {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { limit: Limit::default(), cores, busy: AtomicUsize::new(0) }
    }
}

impl Company {
    /// Takes note of how many sessions data moves to.
    pub(super) fn set_busy(&self, sessions: usize) {
        self.busy.store(sessions, Ordering::Relaxed);
    }

    /// Cores that one session may use.
    pub(super) fn cores_each(&self) -> usize {
        self.lanes_at_work().min(self.cores)
    }

    /// How many lanes of one session may be at work.
    pub(super) fn lanes_at_work(&self) -> usize {
        match self.busy.load(Ordering::Relaxed) {
            0 | 1 => usize::MAX,
            busy => (self.cores / busy).max(1),
        }
    }
}

impl Turns {
    /// Waits until fewer than `most` lanes are at work.
    pub(super) fn take(&self, most: usize) -> Turn<'_> {
        let mut taken = self.lock();
        loop {
            match taken.take(Instant::now(), most) {
                Ok(number) => return Turn { of: self, number },
                Err(wait) => {
                    taken.waiting += 1;
                    taken = self.given_back.wait_timeout(taken, wait).unwrap_or_else(PoisonError::into_inner).0;
                    taken.waiting -= 1;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Begins a turn, or tells when a lane that is at work will count as one that waits for its receiver.
    fn take(&mut self, now: Instant, most: usize) -> Result<u64, Duration> {
        let ages = self.turns.iter().map(|&(_, began)| now.saturating_duration_since(began));
        let (mut at_work, mut oldest) = (0, Duration::ZERO);
        for age in ages.filter(|&age| age < BLOCKED_AFTER) {
            at_work += 1;
            oldest = oldest.max(age);
        }
        if at_work >= most {
            return Err(BLOCKED_AFTER.saturating_sub(oldest));
        }
        self.next += 1;
        self.turns.push((self.next, now));
        Ok(self.next)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        taken.turns.retain(|&(number, _)| number != self.number);
        // Each notice costs a call to the system, whether anybody hears it or not.
        if taken.waiting > 0 {
            self.of.given_back.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_alone_has_all_lanes_at_work_and_one_of_many_has_one() {
        let company = Company { cores: 8, ..Company::default() };
        let lanes = [0, 1, 2, 3, 8, 9, 32].map(|busy| {
            company.set_busy(busy);
            company.lanes_at_work()
        });
        assert_eq!(lanes, [usize::MAX, usize::MAX, 4, 2, 1, 1, 1]);
    }

    #[test]
    fn no_more_lanes_than_that_are_at_work_and_one_that_waits_for_its_receiver_does_not_count() {
        let (mut taken, began) = (Taken::default(), Instant::now());
        let at = |millis| began + Duration::from_millis(millis);
        assert_eq!(taken.take(at(0), 2), Ok(1));
        assert_eq!(taken.take(at(30), 2), Ok(2));
        assert_eq!(taken.take(at(40), 2), Err(Duration::from_millis(60)));
        assert_eq!(taken.take(at(100), 2), Ok(3), "the first one is blocked by now");
        assert_eq!(taken.take(at(100), 2), Err(Duration::from_millis(30)));
        assert_eq!(taken.take(at(100), usize::MAX), Ok(4));
    }

    #[test]
    fn every_lane_gets_its_turn_and_none_is_left_behind() {
        let turns = Turns::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        drop(turns.take(1));
                    }
                });
            }
        });
        assert!(turns.lock().turns.is_empty());
        let _blocked = turns.take(1);
        drop(turns.take(1));
    }
}
