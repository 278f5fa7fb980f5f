//! How fast data may come: a limit that receiving transfers keep together, each with its part of it.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes a second that the transfers which were given it may fetch, all of them together. Clones are the same one.
///
/// Whoever fetches has the same part of it, and tells its sender so, which takes effect within a tenth of a second. A
/// transfer that waits for its sender or its user has none.
#[derive(Clone, Debug, Default)]
pub struct Throttle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Zero is no limit.
    rate: AtomicU64,
    fetching: AtomicU64,
}

/// What one transfer that fetches has of a limit, until it is dropped.
#[derive(Debug)]
pub(super) struct Part(Throttle);

impl Throttle {
    /// A limit in bytes a second; `None` is none.
    pub fn new(rate: Option<NonZeroU64>) -> Self {
        let throttle = Self::default();
        throttle.set(rate);
        throttle
    }

    /// Sets another one.
    pub fn set(&self, rate: Option<NonZeroU64>) {
        self.0.rate.store(rate.map_or(0, NonZeroU64::get), Ordering::Relaxed);
    }

    /// The limit, in bytes a second.
    pub fn rate(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.0.rate.load(Ordering::Relaxed))
    }

    /// One more transfer fetches.
    pub(super) fn take_part(&self) -> Part {
        self.0.fetching.fetch_add(1, Ordering::Relaxed);
        Part(self.clone())
    }
}

impl Part {
    /// Bytes a second that this transfer may fetch.
    pub(super) fn rate(&self) -> Option<NonZeroU64> {
        let fetching = self.0.0.fetching.load(Ordering::Relaxed).max(1);
        self.0.rate().map(|rate| NonZeroU64::new(rate.get() / fetching).unwrap_or(NonZeroU64::MIN))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.0.fetching.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_that_fetches_has_the_same_part_and_all_of_it_once_the_others_are_gone() {
        let rate = |bytes| NonZeroU64::new(bytes);
        let throttle = Throttle::new(rate(900));
        let first = throttle.take_part();
        assert_eq!(first.rate(), rate(900));
        let others = [throttle.take_part(), throttle.clone().take_part()];
        assert!(others.iter().chain([&first]).all(|part| part.rate() == rate(300)));
        throttle.set(rate(1));
        assert_eq!(first.rate(), rate(1), "nobody starves");
        drop(others);
        throttle.set(None);
        assert_eq!((first.rate(), throttle.rate()), (None, None));
        throttle.set(rate(7));
        assert_eq!(first.rate(), rate(7));
    }
}
