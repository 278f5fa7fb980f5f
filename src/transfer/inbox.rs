//! What browsers may send to a run that listens: each batch is pushed to it like any sender's files, over its own door.

use super::dial::{Dial, Way};
use super::event::{Event, Observer};
use super::handed::HandedFile;
use super::offer::Offer;
use super::panics::caught;
use super::parcel::{Delivery, Parcel};
use super::push::carry;
use super::reception::Reception;
use super::{Cancel, Controls, Decision, FailureClass, OfferSummary, PushSettings, TransferError};
use crate::codec::Compression;
use crate::digest::ChunkDigest;
use crate::limits::{SESSIONS_MAX, WEB_GONE_AFTER};
use crate::secret::Link;
use crate::source::Filter;
use crate::wire::SessionGrant;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// Takes what browsers send.
#[derive(Clone)]
pub struct Inbox(Arc<Inner>);

struct Inner {
    reception: Arc<Reception>,
    /// The link to this run, by the address at which it reaches itself.
    link: Link,
    parcels: Mutex<HashMap<Batch, Posted>>,
}

/// Names a batch of files; the page made it up.
pub type Batch = [u8; 16];

/// A batch that is on its way, or was.
#[derive(Clone, Debug)]
pub struct Posted {
    /// What is handed over.
    pub parcel: Arc<Parcel>,
    offer: Arc<Offer>,
}

/// Why a batch is not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotPosted {
    /// Too many are on their way.
    #[error("too many are sending at once")]
    Busy,
    /// The files cannot be written side by side, or are too many.
    #[error("{0}")]
    Files(String),
}

impl Inbox {
    pub(super) fn new(reception: Arc<Reception>, link: &Link, bound: SocketAddr) -> Option<Self> {
        let local = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let link = Link::new(&[SocketAddr::new(local, bound.port())], link.room(), link.key().clone()).ok()?;
        Some(Self(Arc::new(Inner { reception, link, parcels: Mutex::default() })))
    }

    /// The batch of that name.
    pub fn find(&self, batch: &Batch) -> Option<Posted> {
        self.lock().get(batch).cloned()
    }

    /// Offers a batch of files that a browser at `from` has. One that was offered before is on its way already.
    pub fn post(&self, batch: Batch, files: &[HandedFile], from: SocketAddr) -> Result<(), NotPosted> {
        let parcel = Parcel::new(files, Cancel::new()).map_err(|fault| NotPosted::Files(fault.to_string()))?;
        let parcel = Arc::new(parcel);
        let offer = Arc::new(Offer::of_parcel(Arc::clone(&parcel)));
        let posted = Posted { parcel, offer };
        {
            let mut parcels = self.lock();
            if parcels.contains_key(&batch) {
                return Ok(());
            }
            if parcels.len() >= SESSIONS_MAX {
                return Err(NotPosted::Busy);
            }
            parcels.insert(batch, posted.clone());
        }
        let Ok(grant) = self.0.reception.expect(from, Arc::clone(&posted.parcel)) else {
            self.lock().remove(&batch);
            return Err(NotPosted::Busy);
        };
        let (inbox, for_thread) = (self.clone(), posted.clone());
        let carrying =
            thread::Builder::new().name("haul courier".into()).spawn(move || inbox.deliver(&for_thread, grant));
        if carrying.is_err() {
            self.lock().remove(&batch);
            return Err(NotPosted::Busy);
        }
        Ok(())
    }

    /// Ends batches whose page is gone. What came of them is kept, and the page can offer them again.
    pub fn look(&self) {
        self.lock().retain(|_, Posted { parcel, .. }| {
            let is_here = parcel.silent_for() < WEB_GONE_AFTER;
            if !is_here {
                parcel.cancel();
            }
            is_here
        });
    }

    /// Waits until pages know how their batches ended, at most until `until`.
    pub fn wait_until_told(&self, until: Instant) {
        let posted: Vec<Posted> = self.lock().values().cloned().collect();
        for posted in posted {
            posted.parcel.wait_until_told(until);
        }
    }

    /// Ends all batches, with the run.
    pub fn close(&self) {
        self.lock().values().for_each(|posted| posted.parcel.cancel());
    }

    /// Pushes a batch to this very run: it is asked about, stored and published by the rules for every sender.
    fn deliver(&self, posted: &Posted, grant: SessionGrant) {
        let parcel = &posted.parcel;
        let settings = PushSettings {
            paths: Vec::new(),
            filter: Filter::default(),
            to: self.0.link.to_text(),
            at: Vec::new(),
            lanes: Some(LANES),
            retry_for: None,
            cache_dir: None,
            symlinks: false,
            attributes: false,
            compress: Compression::Off,
            limit: None,
            controls: Controls::default(),
        };
        let outcome = caught(|| {
            let dial = Dial::new(Way::Link(self.0.link.clone()), &[]);
            let dial = dial.map_err(|error| TransferError::Network(error.into()))?;
            carry(&settings, (dial, Some(grant)), &posted.offer, &Nobody, &parcel.cancel, Instant::now())
        });
        parcel.end(match outcome {
            Ok((_, failed)) => Delivery::Complete { failed: u64::from(failed) },
            Err(error) if error.class() == FailureClass::Declined => Delivery::Refused,
            Err(error) => Delivery::Failed { text: error.to_string() },
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Batch, Posted>> {
        self.0.parcels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Posted {
    /// The digest of a chunk by its number in the listing, where it is remembered.
    pub fn known_digest(&self, number: u64) -> Option<ChunkDigest> {
        self.offer.known_digest(number)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inbox").field("link", &self.0.link).finish_non_exhaustive()
    }
}

/// Whoever listens is told by its own session; nobody watches the other end of it.
struct Nobody;

impl Observer for Nobody {
    fn event(&self, _: &Event) {}

    fn accept(&self, _: &OfferSummary) -> Decision {
        Decision::Refuse
    }
}

/// Lanes of one batch: enough that a page always has something to do.
const LANES: u16 = 4;
