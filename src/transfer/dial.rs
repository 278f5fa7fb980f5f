//! What it takes to open a lane, and what is remembered while the first one cannot be opened.

use super::retry::Backoff;
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
}

/// From the loss of the control lane until the host greets again.
pub(super) struct Outage {
    pub(super) since: Instant,
    pub(super) backoff: Backoff,
    /// Proofs that the host turned down. After the first one, only the link's is tried.
    pub(super) wrong_proofs: u32,
    /// Try and whole seconds of its wait that the user was told last.
    told: Option<(u32, u64)>,
}

impl Dial {
    pub(super) fn new(link: Link) -> Result<Self, TransportError> {
        Ok(Self { link, device: DeviceKey::generate()?, stays_on_this_machine: AtomicBool::new(false) })
    }

    pub(super) fn by_link(&self) -> Proof {
        Proof::Link { room: self.link.room(), key: self.link.key().clone() }
    }

    pub(super) fn connect(&self, proof: &Proof, purpose: Purpose) -> Result<Lane, TransportError> {
        let lane = connect(&self.device, self.link.addresses(), proof, purpose, Instant::now() + PROOF_DEADLINE)?;
        self.stays_on_this_machine.store(lane.stays_on_this_machine(), Ordering::Relaxed);
        Ok(lane)
    }

    /// Whether the lane opened last has both ends on this machine.
    pub(super) fn stays_on_this_machine(&self) -> bool {
        self.stays_on_this_machine.load(Ordering::Relaxed)
    }
}

impl Outage {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), backoff: Backoff::default(), wrong_proofs: 0, told: None }
    }

    /// The number of the try that starts in `retry_in`, where the user is to be told: once for each second of the wait.
    /// The first one, which comes at once, is nobody's concern.
    pub(super) fn tell(&mut self, retry_in: Duration) -> Option<u32> {
        let attempt = self.backoff.tries();
        let now = (attempt, retry_in.as_secs());
        (attempt > 0 && self.told.replace(now) != Some(now)).then_some(attempt)
    }
}
