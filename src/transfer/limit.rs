//! A limit in bytes a second that several parties keep together, each with the same share of it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much time that was due and went by unused is made up for: whoever waits is woken a little late every time, which would
/// add up.
const CATCH_UP: Duration = Duration::from_millis(50);

/// A limit, or none. Whoever sends takes its bytes from it first.
#[derive(Debug)]
pub(super) struct Limit {
    began: Instant,
    round: Mutex<Round>,
    /// Something was taken, or the rate is another one.
    moved: Condvar,
}

/// Who is next, and when. Time is what the caller says it is.
#[derive(Debug, Default)]
struct Round {
    rate: Option<NonZeroU64>,
    /// From when on something may be taken: when all that was taken has been sent, at the rate.
    due: Duration,
    parties: BTreeMap<u64, Party>,
    /// Where the party that took last began, in bytes of its own.
    clock: u64,
}

/// Somebody who takes, and how many bytes that was: of those who wait, the one with the fewest is next.
#[derive(Debug, Default)]
struct Party {
    taken: u64,
    waiting: u32,
}

/// What became of a wish for bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    /// There is no limit.
    Free,
    /// It was not their turn in time.
    Late,
    /// They count.
    Paid,
}

impl Default for Limit {
    fn default() -> Self {
        Self { began: Instant::now(), round: Mutex::default(), moved: Condvar::new() }
    }
}

impl Limit {
    /// Sets the rate in bytes a second; `None` is no limit.
    pub(super) fn set(&self, rate: Option<NonZeroU64>) {
        self.lock().set(self.began.elapsed(), rate);
        self.moved.notify_all();
    }

    /// The rate in bytes a second.
    pub(super) fn rate(&self) -> Option<NonZeroU64> {
        self.lock().rate
    }

    /// Takes `bytes` for `party`, waiting for them at most `patience`.
    pub(super) fn take(&self, party: u64, bytes: u64, patience: Duration) -> Taken {
        let mut round = self.lock();
        if round.rate.is_none() {
            return Taken::Free;
        }
        let until = self.began.elapsed() + patience;
        round.wait(party);
        let is_taken = loop {
            let now = self.began.elapsed();
            let left = match round.take(now, party, bytes) {
                Ok(()) => break true,
                Err(left) => left.min(until.saturating_sub(now)),
            };
            if left.is_zero() {
                break false;
            }
            round = self.moved.wait_timeout(round, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        round.go(party);
        drop(round);
        self.moved.notify_all();
        if is_taken { Taken::Paid } else { Taken::Late }
    }

    /// What `party` took as `bytes` turned out to be `sent`.
    pub(super) fn settle(&self, party: u64, bytes: u64, sent: u64) {
        self.lock().settle(party, bytes, sent);
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Round {
    fn set(&mut self, now: Duration, rate: Option<NonZeroU64>) {
        // What was taken ahead of the old rate is owed at the new one, so that changing it often gains nothing.
        let ahead = self.due.saturating_sub(now).as_nanos();
        let owed = self.rate.map_or(0, |rate| ahead * u128::from(rate.get()) / 1_000_000_000);
        self.due = now + rate.map_or(Duration::ZERO, |rate| time_for(owed, rate));
        self.rate = rate;
    }

    fn wait(&mut self, party: u64) {
        let clock = self.clock;
        let party = self.parties.entry(party).or_default();
        if party.waiting == 0 {
            // Who did not take for a while has no claim to what it left.
            party.taken = party.taken.max(clock);
        }
        party.waiting += 1;
    }

    fn go(&mut self, party: u64) {
        if let Some(party) = self.parties.get_mut(&party) {
            party.waiting -= 1;
        }
        let clock = self.clock;
        self.parties.retain(|_, party| party.waiting > 0 || party.taken > clock);
    }

    /// Takes, or tells after how long it is worth another try: never, where somebody else has to take first.
    fn take(&mut self, now: Duration, party: u64, bytes: u64) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let waiting = self.parties.iter().filter(|(_, party)| party.waiting > 0);
        let next = waiting.min_by_key(|(number, party)| (party.taken, **number)).map(|(&number, _)| number);
        if next.is_some_and(|next| next != party) {
            return Err(Duration::MAX);
        }
        if now < self.due {
            return Err(self.due.saturating_sub(now));
        }
        self.due = self.due.max(now.saturating_sub(CATCH_UP)) + time_for(u128::from(bytes), rate);
        if let Some(party) = self.parties.get_mut(&party) {
            self.clock = party.taken;
            party.taken = party.taken.saturating_add(bytes);
        }
        Ok(())
    }

    fn settle(&mut self, party: u64, bytes: u64, sent: u64) {
        let Some(rate) = self.rate else { return };
        let (more, less) = (sent.saturating_sub(bytes), bytes.saturating_sub(sent));
        self.due = (self.due + time_for(u128::from(more), rate)).saturating_sub(time_for(u128::from(less), rate));
        if let Some(party) = self.parties.get_mut(&party) {
            party.taken = party.taken.saturating_add(more).saturating_sub(less);
        }
    }
}

fn time_for(bytes: u128, rate: NonZeroU64) -> Duration {
    let nanos = bytes.saturating_mul(1_000_000_000) / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Bytes that each party took within `time` when all want pieces of their length all the time, tried every millisecond.
    fn taken_within(
        round: &mut Round,
        now: &mut Duration,
        time: Duration,
        pieces: &[(u64, u64)],
    ) -> BTreeMap<u64, u64> {
        let mut taken = BTreeMap::new();
        let until = *now + time;
        for (party, _) in pieces {
            round.wait(*party);
        }
        while *now < until {
            for &(party, bytes) in pieces {
                while round.take(*now, party, bytes).is_ok() {
                    *taken.entry(party).or_default() += bytes;
                }
            }
            *now += MS;
        }
        for (party, _) in pieces {
            round.go(*party);
        }
        taken
    }

    fn rate(bytes: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(bytes)
    }

    #[test]
    fn a_limit_is_kept_to_the_piece_and_spread_evenly() {
        let mut round = Round::default();
        let mut now = Duration::ZERO;
        round.set(now, rate(1_000_000));
        for second in 0..10 {
            let taken = taken_within(&mut round, &mut now, 1000 * MS, &[(1, 10_000)])[&1];
            assert!((990_000..=1_010_000).contains(&taken), "{taken} bytes in second {second}");
        }
        // A piece that is longer than what a second allows comes, and is paid for after that.
        let long = taken_within(&mut round, &mut now, 9000 * MS, &[(1, 3_000_000)])[&1];
        assert_eq!(long, 9_000_000);
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let mut round = Round::default();
        round.set(Duration::ZERO, rate(1000));
        let mut now = Duration::from_secs(3600);
        let taken = taken_within(&mut round, &mut now, 1000 * MS, &[(1, 100)])[&1];
        assert!(taken <= 1100, "{taken} bytes in a second after an hour of nothing");
    }

    #[test]
    fn another_rate_counts_at_once_and_a_debt_is_kept() {
        let mut round = Round::default();
        let mut now = Duration::ZERO;
        round.set(now, rate(1000));
        round.wait(1);
        round.take(now, 1, 10_000).unwrap();
        assert_eq!(round.take(now, 1, 1), Err(Duration::from_secs(10)));
        round.set(now, rate(10_000));
        assert_eq!(round.take(now, 1, 1), Err(Duration::from_secs(1)));
        for _ in 0..100 {
            now += MS;
            round.set(now, rate(10_000));
        }
        assert_eq!(round.take(now, 1, 1), Err(900 * MS), "changing it again and again gains nothing");
        round.set(now, None);
        assert_eq!(round.take(now, 1, u64::MAX), Ok(()));
        round.set(now, rate(1000));
        assert_eq!(round.take(now, 1, 1), Ok(()), "without a limit nothing is owed");
    }

    #[test]
    fn parties_share_evenly_whatever_their_pieces_and_their_number_of_threads() {
        let mut round = Round::default();
        let mut now = Duration::ZERO;
        round.set(now, rate(1_000_000));
        // The third one asks from sixteen threads.
        let mut wanting = vec![(1, 1000), (2, 50_000)];
        wanting.extend([(3, 10_000); 16]);
        let taken = taken_within(&mut round, &mut now, 30_000 * MS, &wanting);
        for party in 1..=3 {
            assert!((9_500_000..=10_500_000).contains(&taken[&party]), "{taken:?}");
        }
        assert!(round.parties.len() <= 3);
    }

    #[test]
    fn who_comes_later_gets_its_share_and_no_more() {
        let mut round = Round::default();
        let mut now = Duration::ZERO;
        round.set(now, rate(1_000_000));
        taken_within(&mut round, &mut now, 10_000 * MS, &[(1, 10_000)]);
        let taken = taken_within(&mut round, &mut now, 10_000 * MS, &[(1, 10_000), (2, 10_000)]);
        assert!(taken[&1].abs_diff(taken[&2]) <= 20_000, "{taken:?}");
    }

    #[test]
    fn parties_that_are_gone_are_forgotten() {
        let mut round = Round::default();
        let mut now = Duration::ZERO;
        round.set(now, rate(1_000_000));
        for party in 0..1000 {
            taken_within(&mut round, &mut now, 20 * MS, &[(party, 10_000)]);
        }
        assert!(round.parties.len() < 10, "{} parties are remembered", round.parties.len());
    }

    #[test]
    fn a_wait_ends_with_the_limit_and_with_its_patience() {
        let limit = Limit::default();
        assert_eq!(limit.take(1, u64::MAX, Duration::ZERO), Taken::Free, "there is none");
        limit.set(rate(1));
        assert_eq!(limit.take(1, 1 << 20, Duration::ZERO), Taken::Paid, "the first piece");
        assert_eq!(limit.take(1, 1, MS), Taken::Late, "the next one is due in 12 days");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| limit.take(2, 1, Duration::from_secs(3600)));
            limit.set(None);
            assert_ne!(waiting.join().unwrap(), Taken::Late);
        });
    }

    #[test]
    fn what_was_sent_shorter_than_it_was_counts_as_what_was_sent() {
        let mut round = Round::default();
        let mut now = Duration::from_secs(1);
        round.set(now, rate(1_000_000));
        round.wait(1);
        let (mut pieces, mut sent) = (0, 0);
        while now < Duration::from_secs(11) {
            while round.take(now, 1, 100_000).is_ok() {
                // One piece in four as it is and a little longer, the others at a tenth.
                let bytes = if pieces % 4 == 0 { 100_100 } else { 10_000 };
                round.settle(1, 100_000, bytes);
                pieces += 1;
                sent += bytes;
            }
            now += MS;
        }
        assert!((9_900_000..=10_200_000).contains(&sent), "{sent} bytes in ten seconds");
        // Nothing at all costs nothing.
        let before = round.due;
        assert_eq!(round.take(before, 1, 100_000), Ok(()));
        round.settle(1, 100_000, 0);
        assert_eq!(round.due, before);
    }

    #[test]
    fn waking_late_costs_none_of_the_rate() {
        let mut round = Round::default();
        let (mut now, mut taken) = (Duration::from_secs(1), 0);
        round.set(now, rate(10_000_000));
        round.wait(1);
        // Every wait takes three milliseconds longer than it should, beside pieces of ten.
        while now < Duration::from_secs(11) {
            match round.take(now, 1, 100_000) {
                Ok(()) => taken += 100_000,
                Err(left) => now += left + 3 * MS,
            }
        }
        assert!((99_000_000..=101_000_000).contains(&taken), "{taken} bytes in ten seconds");
    }
}
