//! Where the lanes of a receiving transfer come from: this side opens them, or the sender does.

use super::dial::Dial;
use super::lobby::Lobby;
use super::memory::Origin;
use super::parcel::Parcel;
use super::queue::Queue;
use super::work::MainEvent;
use crate::limits::SESSION_LANES_MAX;
use crate::secret::Link;
use crate::session::LaneRole;
use crate::transport::Lane;
use crate::wire::SessionGrant;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Who opens the lanes.
#[derive(Clone)]
pub(super) enum Route {
    /// This side, at the addresses of a link.
    Dialled(Arc<Dial>),
    /// The sender, which connected here: it is asked for what is lacking.
    Visited(Arc<Visit>),
}

/// A sender that connected here.
pub(super) struct Visit {
    /// Names its session in this run.
    pub(super) number: u64,
    /// The link that it proved.
    pub(super) link: Link,
    /// What further lanes of its session prove.
    pub(super) grant: SessionGrant,
    /// The other senders of this run.
    pub(super) lobby: Arc<Lobby>,
    /// What a page hands over, where that is what comes.
    pub(super) parcel: Option<Arc<Parcel>>,
    /// Where its lanes are handed over.
    pub(super) main: Arc<Queue<MainEvent>>,
    /// Lanes that were handed over and are not taken yet.
    arriving: AtomicUsize,
    /// Since when it has no control lane; nothing while it has one.
    away_since: Mutex<Option<Instant>>,
    stays_on_this_machine: AtomicBool,
}

impl Route {
    /// What is remembered of how the transfer began. `None` before a session that a code began has its secret.
    pub(super) fn origin(&self, grant: Option<&SessionGrant>) -> Option<Origin> {
        match self {
            Self::Dialled(dial) => dial.origin(grant),
            Self::Visited(visit) => Some(Origin::Pushed(visit.link.clone())),
        }
    }

    /// Where the host was and may be, best first.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Dialled(dial) => dial.addresses(),
            Self::Visited(visit) => visit.link.addresses().to_vec(),
        }
    }

    /// Whether the lane opened last has both ends on this machine.
    pub(super) fn stays_on_this_machine(&self) -> bool {
        match self {
            Self::Dialled(dial) => dial.stays_on_this_machine(),
            Self::Visited(visit) => visit.stays_on_this_machine.load(Ordering::Relaxed),
        }
    }

    /// Notes whether there is a control lane.
    pub(super) fn note_control(&self, is_here: bool) {
        if let Self::Visited(visit) = self {
            let mut away = visit.away();
            *away = if is_here { None } else { Some(away.unwrap_or_else(Instant::now)) };
        }
    }
}

impl Visit {
    pub(super) fn new(
        number: u64,
        link: Link,
        grant: SessionGrant,
        lobby: Arc<Lobby>,
        parcel: Option<Arc<Parcel>>,
    ) -> Self {
        Self {
            number,
            link,
            grant,
            lobby,
            parcel,
            main: Arc::new(Queue::new()),
            arriving: AtomicUsize::new(0),
            away_since: Mutex::default(),
            stays_on_this_machine: AtomicBool::new(false),
        }
    }

    /// Hands a lane to the session. One that comes while too many wait, or after the end, is dropped.
    pub(super) fn deliver(&self, lane: Lane, role: LaneRole) {
        if self.arriving.fetch_add(1, Ordering::Relaxed) >= SESSION_LANES_MAX {
            self.taken();
            return;
        }
        self.stays_on_this_machine.store(lane.stays_on_this_machine(), Ordering::Relaxed);
        self.main.push(MainEvent::Arrived { lane: Box::new(lane), role });
    }

    /// A lane that was handed over is taken, or turned away.
    pub(super) fn taken(&self) {
        self.arriving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Since when the sender has no control lane; nothing while it has one, or is about to.
    pub(super) fn away_since(&self) -> Option<Instant> {
        *self.away()
    }

    fn away(&self) -> MutexGuard<'_, Option<Instant>> {
        self.away_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
