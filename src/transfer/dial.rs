//! What it takes to open a lane, and what is remembered while the first one cannot be opened.

use super::Event;
use super::retry::Retry;
use crate::limits::PROOF_DEADLINE;
use crate::secret::Link;
use crate::transport::{DeviceKey, Lane, Proof, Purpose, TransportError, connect};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What it takes to open a lane.
pub(super) struct Dial {
    pub(super) link: Link,
    device: DeviceKey,
    stays_on_this_machine: AtomicBool,
    has_been_reached: AtomicBool,
}

/// From the loss of the control lane until the host greets again.
pub(super) struct Outage {
    pub(super) retry: Retry,
    /// Proofs that the host turned down. After the first one, only the link's is tried.
    pub(super) wrong_proofs: u32,
    /// The second of the outage in which the user was told last.
    told: Option<u64>,
    /// The host said that it has no room, and the user was told so.
    is_busy: bool,
}

impl Dial {
    pub(super) fn new(link: Link) -> Result<Self, TransportError> {
        Ok(Self {
            link,
            device: DeviceKey::generate()?,
            stays_on_this_machine: AtomicBool::new(false),
            has_been_reached: AtomicBool::new(false),
        })
    }

    pub(super) fn by_link(&self) -> Proof {
        Proof::Link { room: self.link.room(), key: self.link.key().clone() }
    }

    pub(super) fn connect(&self, proof: &Proof, purpose: Purpose) -> Result<Lane, TransportError> {
        let lane = connect(&self.device, self.link.addresses(), proof, purpose, Instant::now() + PROOF_DEADLINE)?;
        self.has_been_reached.store(true, Ordering::Relaxed);
        self.stays_on_this_machine.store(lane.stays_on_this_machine(), Ordering::Relaxed);
        Ok(lane)
    }

    /// Whether there was a lane at any time.
    pub(super) fn has_been_reached(&self) -> bool {
        self.has_been_reached.load(Ordering::Relaxed)
    }

    /// Whether the lane opened last has both ends on this machine.
    pub(super) fn stays_on_this_machine(&self) -> bool {
        self.stays_on_this_machine.load(Ordering::Relaxed)
    }
}

impl Outage {
    pub(super) fn new(now: Instant) -> Self {
        Self { retry: Retry::new(now), wrong_proofs: 0, told: None, is_busy: false }
    }

    /// The same outage: a host that greeted and was lost again before it brought anything was not there.
    pub(super) fn go_on(mut self, now: Instant) -> Self {
        self.retry.failed(now);
        self
    }

    /// What the user is to know about a try that failed.
    pub(super) fn news(&mut self, error: &TransportError) -> Option<Event> {
        let is_news = matches!(error, TransportError::Busy) && !std::mem::replace(&mut self.is_busy, true);
        let text = "the sender serves as many receivers as it can; this one waits until there is room";
        is_news.then(|| Event::Notice { text: text.into() })
    }

    /// The number of the last try and the time until the next one, where the user is to be told: once a second. That the
    /// first one is made at once is nobody's concern.
    pub(super) fn tell(&mut self, now: Instant) -> Option<(u32, Duration)> {
        let second = Some(self.retry.elapsed(now).as_secs());
        let is_news = self.retry.tries() > 0 && std::mem::replace(&mut self.told, second) != second;
        is_news.then(|| (self.retry.tries(), self.retry.due().saturating_duration_since(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_that_goes_on_keeps_its_age_and_its_waits() {
        let began = Instant::now();
        let mut outage = Outage::new(began);
        outage.retry.tried(began);
        let later = began + Duration::from_secs(30);
        let outage = outage.go_on(later);
        assert_eq!(outage.retry.elapsed(later), Duration::from_secs(30));
        assert!(
            outage.retry.due() >= later + Duration::from_secs(2),
            "a host that greets and goes is not tried at once"
        );
        assert_eq!(Outage::new(later).retry.due(), later);
    }

    #[test]
    fn the_user_is_told_of_an_outage_once_a_second() {
        let began = Instant::now();
        let mut outage = Outage::new(began);
        assert_eq!(outage.tell(began), None, "nothing was tried yet");
        outage.retry.tried(began);
        let told: Vec<_> = (0..20).map(|tenth| outage.tell(began + Duration::from_millis(100 * tenth))).collect();
        let tellings = told.iter().flatten().count();
        assert_eq!(tellings, 2, "{told:?}");
    }
}
