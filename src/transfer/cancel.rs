//! The request to stop, shared by whoever may ask and the transfer that obeys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop that a transfer looks at between two steps. Clones share one request.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    asked: Arc<AtomicBool>,
    /// A request that this one follows.
    above: Option<Arc<AtomicBool>>,
}

impl Cancel {
    /// Nobody has asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request of its own for one part of a run, which is asked for as well where this one is. Such a part has none.
    #[must_use]
    pub fn for_a_part(&self) -> Self {
        Self { asked: Arc::default(), above: Some(self.flag()) }
    }

    /// Asks the transfer to write its state down and to end with `Interrupted`.
    pub fn cancel(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.asked.load(Ordering::SeqCst) || self.above.as_ref().is_some_and(|above| above.load(Ordering::SeqCst))
    }

    /// The flag itself, for a signal handler, which may do no more than set it.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stops_with_the_whole_and_not_the_other_way_round() {
        let whole = Cancel::new();
        let (one, other) = (whole.for_a_part(), whole.for_a_part());
        one.cancel();
        assert!(one.is_cancelled() && !other.is_cancelled() && !whole.is_cancelled());
        whole.cancel();
        assert!(other.is_cancelled());
    }

    #[test]
    fn clones_and_the_flag_share_one_request() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        assert!(!other.is_cancelled());
        other.flag().store(true, Ordering::SeqCst);
        assert!(cancel.is_cancelled());
    }
}
