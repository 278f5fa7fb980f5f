//! Whether more data lanes make a transfer faster.
//!
//! On a path that loses packets each connection is held back by its own losses, and twice as many carry twice as much; on
//! one that is full, further ones change nothing. Which of the two it is shows in the bytes that come.

use std::time::{Duration, Instant};

/// How long bytes are counted before lanes are judged by them.
const WINDOW: Duration = Duration::from_secs(2);
/// What twice the lanes must carry, over what they carried before, to be doubled once more. Half of what they could.
const PAYS: f64 = 1.5;

/// Counts what lanes carry, and doubles them while that pays.
#[derive(Debug)]
pub(super) struct Growth {
    /// As many as there may be.
    most: u16,
    /// When the window under way began, and the bytes that had come by then.
    window: Option<(Instant, u64)>,
    /// Bytes a second with half the lanes, once they were doubled.
    before: Option<f64>,
    /// Whether the lanes had a window to come up to speed.
    is_warm: bool,
}

impl Growth {
    /// Grows to `most` lanes; zero for no growth at all.
    pub(super) fn new(most: u16) -> Self {
        Self { most, window: None, before: None, is_warm: false }
    }

    /// A lane came or went, or none brings anything: what is under way does not count.
    pub(super) fn disturbed(&mut self) {
        self.window = None;
    }

    /// How many lanes there are to be, where `lanes` are all there and have brought `fetched` bytes so far.
    pub(super) fn look(&mut self, now: Instant, fetched: u64, lanes: u16) -> u16 {
        if lanes >= self.most || fetched == 0 {
            return lanes;
        }
        let &mut (since, had) = self.window.get_or_insert((now, fetched));
        let elapsed = now.saturating_duration_since(since);
        if elapsed < WINDOW {
            return lanes;
        }
        self.window = Some((now, fetched));
        // The first window of every number of lanes is the one in which they come up to speed.
        if !std::mem::replace(&mut self.is_warm, true) {
            return lanes;
        }
        // Precision is lost above 2^52 bytes in one window, which no link carries.
        #[allow(clippy::cast_precision_loss)]
        let rate = fetched.saturating_sub(had) as f64 / elapsed.as_secs_f64();
        if self.before.is_some_and(|before| rate < before * PAYS) || rate <= 0.0 {
            self.most = lanes;
            return lanes;
        }
        (self.before, self.is_warm, self.window) = (Some(rate), false, None);
        (lanes * 2).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lanes after a minute on a link that carries `rate` bytes a second over so many lanes.
    fn after_a_minute(most: u16, rate: impl Fn(u16) -> u64) -> u16 {
        let began = Instant::now();
        let (mut growth, mut lanes, mut fetched) = (Growth::new(most), 2, 0);
        for tick in 1..600 {
            fetched += rate(lanes) / 10;
            lanes = growth.look(began + Duration::from_millis(100 * tick), fetched, lanes);
        }
        lanes
    }

    #[test]
    fn lanes_double_while_each_carries_as_much_as_before() {
        assert_eq!(after_a_minute(8, |lanes| u64::from(lanes) * 100_000), 8);
        assert_eq!(after_a_minute(5, |lanes| u64::from(lanes) * 100_000), 5);
    }

    #[test]
    fn lanes_on_a_full_link_are_doubled_once_and_no_more() {
        assert_eq!(after_a_minute(8, |_| 12_000_000), 4);
        assert_eq!(after_a_minute(16, |lanes| u64::from(lanes.min(4)) * 100_000), 8, "four carry twice what two did");
    }

    #[test]
    fn nothing_grows_without_leave_or_bytes() {
        assert_eq!(after_a_minute(0, |lanes| u64::from(lanes) * 100_000), 2);
        assert_eq!(after_a_minute(8, |_| 0), 2);
    }

    #[test]
    fn a_window_that_was_disturbed_does_not_count() {
        let began = Instant::now();
        let mut growth = Growth::new(8);
        for tick in 1..600 {
            if tick % 10 == 0 {
                growth.disturbed();
            }
            assert_eq!(growth.look(began + Duration::from_millis(100 * tick), tick * 1000, 2), 2);
        }
    }
}
