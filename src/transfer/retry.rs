//! When a connection that was lost is tried again.

use crate::limits::RECONNECT_WAIT_MAX;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The wait after the first try that failed.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Waits before tries: none before the first, then ones that double up to [`RECONNECT_WAIT_MAX`]. Up to half of each is
/// cut off at random, so that receivers who lost one host do not come back to it at one moment.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Waits handed out so far.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// The wait before the next try, which counts from here on.
    pub(super) fn next_wait(&mut self) -> Duration {
        let wait = self.longest_wait();
        self.tries = self.tries.saturating_add(1);
        // A hasher of the standard library starts from random keys; nothing secret hangs on this.
        let chance = RandomState::new().build_hasher().finish() % 1024;
        wait.mul_f64(1.0 - chance_share(chance) / 2.0)
    }

    fn longest_wait(&self) -> Duration {
        match self.tries {
            0 => Duration::ZERO,
            tries => FIRST_WAIT.saturating_mul(1 << (tries - 1).min(16)).min(RECONNECT_WAIT_MAX),
        }
    }
}

fn chance_share(chance: u64) -> f64 {
    f64::from(u32::try_from(chance).unwrap_or(0)) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_comes_at_once_and_the_waits_grow_to_their_limit() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_wait(), Duration::ZERO);
        let mut longest = FIRST_WAIT;
        for tries in 1..100 {
            assert_eq!(backoff.tries(), tries);
            let wait = backoff.next_wait();
            assert!(wait * 2 + Duration::from_millis(1) > longest && wait <= longest, "try {tries}: {wait:?}");
            longest = (longest * 2).min(RECONNECT_WAIT_MAX);
        }
    }
}
