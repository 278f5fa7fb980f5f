//! What all connections of browsers share.

use super::access::Access;
use super::assets::Assets;
use super::certificate::Certificate;
use super::guests::Guests;
use super::headers;
use super::heavy::Heavy;
use super::native::Capabilities;
use super::nonces::Nonces;
use super::uploads::Drafts;
use crate::limits::{WEB_CONNECTIONS_MAX, WEB_CONNECTIONS_PER_ADDRESS_MAX, WEB_DOWNLOADS_MAX};
use crate::sealing::SealingKeys;
use crate::transfer::{Inbox, Premises, Shelf};
use crate::transport::{Gatekeeper, ListenerEvent, household};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// A run, as browsers see it.
pub(super) struct Site {
    pub(super) access: Access,
    pub(super) assets: Assets,
    pub(super) capabilities: Capabilities,
    /// What TLS is spoken by; without it nothing but plain HTTP is.
    pub(super) certificate: Option<Certificate>,
    /// Downloads that browsers may do by themselves at a time.
    pub(super) downloads: Arc<Semaphore>,
    pub(super) guests: Guests,
    /// Calls that may carry files at a time.
    pub(super) heavy: Heavy,
    pub(super) keys: SealingKeys,
    pub(super) nonces: Nonces,
    pub(super) policy: String,
    pub(super) shelf: Option<Shelf>,
    pub(super) inbox: Option<Inbox>,
    pub(super) drafts: Drafts,
    gatekeeper: Arc<dyn Gatekeeper>,
    /// Connections that know the room, by where they come from.
    seats: Mutex<HashMap<IpAddr, usize>>,
    wrong: AtomicU64,
}

/// A place among the connections that know the room; given back when dropped.
pub(super) struct Seat {
    site: Arc<Site>,
    from: IpAddr,
}

impl Site {
    pub(super) fn new(premises: Premises) -> io::Result<Self> {
        let Premises { link, bound, tls, shelf, inbox, gatekeeper } = premises;
        let access = Access::new(&link, bound);
        Ok(Self {
            policy: headers::policy(&access.origins()),
            certificate: tls.as_ref().map(Certificate::obtain).transpose()?,
            access,
            assets: Assets::new(),
            capabilities: Capabilities::default(),
            downloads: Arc::new(Semaphore::new(WEB_DOWNLOADS_MAX)),
            guests: Guests::default(),
            heavy: Heavy::default(),
            keys: SealingKeys::derive(link.key().as_bytes(), link.room().as_bytes()),
            nonces: Nonces::default(),
            shelf,
            inbox,
            drafts: Drafts::default(),
            gatekeeper,
            seats: Mutex::default(),
            wrong: AtomicU64::new(0),
        })
    }

    /// A place for a connection from `ip`, if there is one.
    pub(super) fn seat(self: &Arc<Self>, ip: IpAddr) -> Option<Seat> {
        let from = household(ip);
        let mut seats = self.lock_seats();
        let taken: usize = seats.values().sum();
        let of_these = seats.entry(from).or_default();
        if taken >= WEB_CONNECTIONS_MAX || *of_these >= WEB_CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        *of_these += 1;
        Some(Seat { site: Arc::clone(self), from })
    }

    /// Somebody asked for what they do not know.
    pub(super) fn tell_of_stranger(&self, peer: SocketAddr) {
        let count = self.wrong.fetch_add(1, Ordering::Relaxed) + 1;
        self.gatekeeper.observe(ListenerEvent::BadProof { peer, count });
    }

    fn lock_seats(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Site").field("access", &self.access).finish_non_exhaustive()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Seat").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.site.lock_seats();
        if let Some(taken) = seats.get_mut(&self.from) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.from);
            }
        }
    }
}
