//! Whether there is any use in further tries at the other end.

use super::dial::Outage;
use crate::transport::TransportError;
use std::time::{Duration, Instant};

/// How long a host is tried that breaks off the very first connection.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// Proofs that a host may turn down, and the time that it has for it: it may have been stopping, or this machine may be
/// in another network for a moment, where somebody else has that address.
const WRONG_PROOFS_MAX: u32 = 3;
const WRONG_PROOF_PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the other end, and of the user's patience with it.
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Hope {
    /// Whether there was a connection at any time.
    pub(super) has_been_reached: bool,
    /// Whether one that was never there is waited for.
    pub(super) waits_for_host: bool,
    /// Whether the secret is known to be right, however often it is turned down. What is resumed may be in another network
    /// for days.
    pub(super) is_sure: bool,
    /// Whether it is a code that is proven: one that is turned down once is so for good.
    pub(super) is_by_code: bool,
    /// For how long at most; nothing for no limit.
    pub(super) patience: Option<Duration>,
}

impl Hope {
    /// Whether it is over after one more try failed with `error`.
    pub(super) fn is_lost(self, error: &TransportError, outage: &mut Outage, now: Instant) -> bool {
        let elapsed = outage.retry.elapsed(now);
        let is_hopeless = match error {
            TransportError::VersionMismatch => true,
            TransportError::WrongProof if self.is_by_code => true,
            TransportError::WrongProof => {
                outage.wrong_proofs += 1;
                let may_be_another = self.has_been_reached || self.waits_for_host;
                let is_enough = outage.wrong_proofs >= WRONG_PROOFS_MAX && elapsed >= WRONG_PROOF_PATIENCE;
                !self.is_sure && (is_enough || !may_be_another)
            }
            _ => false,
        };
        // A host that broke the connection off is there, and may have had too many at that moment.
        let first = if matches!(error, TransportError::Lost) { FIRST_PATIENCE } else { Duration::ZERO };
        let was_never_there = !self.has_been_reached && !self.waits_for_host && elapsed >= first;
        is_hopeless || was_never_there || self.patience.is_some_and(|patience| elapsed >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOPE: Hope =
        Hope { has_been_reached: true, waits_for_host: false, is_sure: false, is_by_code: false, patience: None };

    fn is_lost(hope: Hope, error: &TransportError, after: Duration) -> bool {
        let began = Instant::now();
        hope.is_lost(error, &mut Outage::new(began), began + after)
    }

    #[test]
    fn a_host_that_was_there_is_tried_for_as_long_as_the_user_likes() {
        let (hour, year) = (Duration::from_secs(3600), Duration::from_secs(365 * 24 * 3600));
        assert!(!is_lost(HOPE, &TransportError::Refused, year));
        let patient = Hope { patience: Some(hour), ..HOPE };
        assert!(!is_lost(patient, &TransportError::Refused, Duration::from_secs(3599)));
        assert!(is_lost(patient, &TransportError::Refused, hour));
        assert!(is_lost(HOPE, &TransportError::VersionMismatch, Duration::ZERO));
        assert!(is_lost(Hope { is_by_code: true, ..HOPE }, &TransportError::WrongProof, Duration::ZERO));
    }

    #[test]
    fn a_host_that_was_never_there_is_tried_once_unless_it_is_waited_for() {
        let never = Hope { has_been_reached: false, ..HOPE };
        assert!(is_lost(never, &TransportError::Refused, Duration::ZERO));
        assert!(is_lost(never, &TransportError::WrongProof, Duration::ZERO));
        assert!(!is_lost(never, &TransportError::Lost, Duration::ZERO), "it broke the connection off, so it is there");
        assert!(is_lost(never, &TransportError::Lost, FIRST_PATIENCE));
        assert!(!is_lost(Hope { waits_for_host: true, ..never }, &TransportError::Refused, Duration::ZERO));
    }

    #[test]
    fn wrong_proofs_end_it_once_there_are_several_over_a_while() {
        let began = Instant::now();
        for (is_sure, ends) in [(false, true), (true, false)] {
            let hope = Hope { is_sure, ..HOPE };
            let mut outage = Outage::new(began);
            let mut tried = |after| hope.is_lost(&TransportError::WrongProof, &mut outage, began + after);
            assert!(!tried(Duration::ZERO) && !tried(Duration::from_secs(1)) && !tried(Duration::from_secs(2)));
            assert_eq!(tried(WRONG_PROOF_PATIENCE), ends);
        }
    }
}
