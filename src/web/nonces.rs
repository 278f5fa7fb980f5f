//! Calls that were carried out and must not be again, if somebody who listened says them a second time.

use crate::limits::WEB_NONCES_MAX;
use crate::sealing::Nonce;
use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// The nonces of the last of them.
#[derive(Debug, Default)]
pub(super) struct Nonces(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    all: HashSet<Nonce>,
    in_order: VecDeque<Nonce>,
}

impl Nonces {
    /// Remembers it. False where it is remembered already.
    pub(super) fn insert(&self, nonce: &Nonce) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.all.insert(*nonce) {
            return false;
        }
        seen.in_order.push_back(*nonce);
        if seen.in_order.len() > WEB_NONCES_MAX
            && let Some(oldest) = seen.in_order.pop_front()
        {
            seen.all.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealing::NONCE_BYTES;

    #[test]
    fn what_was_said_is_known_until_much_else_was() {
        let nonces = Nonces::default();
        let nonce = |number: usize| {
            let mut nonce = [0; NONCE_BYTES];
            nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
            nonce
        };
        assert!((0..WEB_NONCES_MAX).all(|number| nonces.insert(&nonce(number))));
        assert!(!nonces.insert(&nonce(0)) && !nonces.insert(&nonce(WEB_NONCES_MAX - 1)));
        assert!(nonces.insert(&nonce(WEB_NONCES_MAX)));
        assert!(nonces.insert(&nonce(0)), "the oldest made room");
        assert!(!nonces.insert(&nonce(2)));
    }
}
