//! What browsers may fetch: the same offer that receivers are served, under the same limits and the same user's word.

use super::company::Company;
use super::host::{Host, HostEvent};
use super::limit::{Limit, Taken};
use super::offer::{Changed, do_here};
use super::pieces::counted;
use super::serve::{Served, ServedSession};
use crate::chunk::ChunkIndex;
use crate::digest::{ChunkDigest, FileDigest};
use crate::limits::WORKING_EVERY;
use crate::manifest::{EntryIndex, Listing};
use crate::session::End;
use crate::source::Source;
use crate::transport::{LaneIntro, Purpose, Who};
use crate::wire::Refusal;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An offer, as browsers see it.
#[derive(Clone)]
pub struct Shelf(Arc<Host>);

/// One browser, as the sender's user sees it: a receiver like any other.
#[derive(Clone, Debug)]
pub struct Visitor {
    host: Shelf,
    session: Arc<ServedSession>,
}

/// What became of a visitor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Welcome {
    /// The user has yet to say.
    Asked,
    /// It may have what it asks for.
    In,
    /// The user turned it away.
    Out,
}

/// Whether bytes may go to a visitor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limits {
    /// They may.
    Kept,
    /// Not yet.
    Late,
    /// The user turned it away.
    Out,
}

/// Why a browser is not served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// As many are served as can be.
    Busy,
    /// The user turned it away.
    Declined,
}

/// An entry is not what it was when it was offered, or cannot be read any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is not what it was when it was offered")]
pub struct SourceChanged;

/// Signs of life of a receiver that has no lanes.
#[derive(Debug, Default)]
pub(super) struct Signs {
    bytes_heard: AtomicU64,
    away_since: Mutex<Option<Instant>>,
    is_done: AtomicBool,
}

impl Shelf {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self(host)
    }

    /// Everything that is offered.
    pub fn listing(&self) -> &Listing {
        &self.0.offer.listing
    }

    /// Digests of chunks, by their numbers in the listing, or of as many from their start as can be had.
    pub fn digests(&self, chunks: Range<u64>) -> Result<Vec<ChunkDigest>, SourceChanged> {
        let offer = &self.0.offer;
        let Ok(outcome) = offer.hash(&chunks, &mut |chore| do_here(offer, chore));
        outcome.map_err(|_: Changed| SourceChanged)
    }

    /// The digest of a file, where all of its chunks were hashed.
    pub fn root(&self, entry: EntryIndex) -> Option<FileDigest> {
        self.0.offer.known_root(entry)
    }

    /// Sees to it that a chunk still has the digest that was given for it, where that was an earlier run's word.
    pub fn settle(&self, chunk: u64) -> Result<(), SourceChanged> {
        let offer = &self.0.offer;
        let Ok(outcome) = offer.settle(chunk, &mut |chore| do_here(offer, chore));
        outcome.map_err(|_: Changed| SourceChanged)
    }

    /// Fills `out` with the bytes `within` a chunk of a file, counted from the chunk's start.
    pub fn read(
        &self,
        entry: EntryIndex,
        chunk: ChunkIndex,
        within: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), SourceChanged> {
        self.files()?.read_chunk_into(entry.0, chunk, within, out).map_err(|_| SourceChanged)
    }

    /// Names the state of a file: another one where the file is not the same any more.
    pub fn stamp(&self, entry: EntryIndex) -> [u8; 32] {
        self.files().map_or([0; 32], |files| files.stamp(entry.0))
    }

    fn files(&self) -> Result<&Source, SourceChanged> {
        self.0.offer.contents.files().ok_or(SourceChanged)
    }

    /// A browser came, and knows the key.
    pub fn arrive(&self, peer: SocketAddr) -> Result<Visitor, Refused> {
        let intro =
            LaneIntro { purpose: Purpose::Control, who: Who::Link(self.0.front.state.room), peer_address: peer };
        let session = self.0.session_for(&intro).map_err(|refusal| match refusal {
            Refusal::Declined => Refused::Declined,
            _ => Refused::Busy,
        })?;
        let visitor = Visitor { host: self.clone(), session };
        if !self.0.front.lodge.has_had_visitors() {
            self.0.tell(HostEvent::Browser);
        }
        visitor.tell_of_arrival();
        Ok(visitor)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Shelf").field(&self.0.offer.listing.digest()).finish()
    }
}

impl Visitor {
    /// What the user says to it.
    pub fn welcome(&self) -> Welcome {
        match self.session.refusal() {
            Some(Refusal::Declined) => Welcome::Out,
            _ if self.session.is_asked() => Welcome::Asked,
            _ => Welcome::In,
        }
    }

    /// It said something of so many bytes.
    pub fn heard(&self, bytes: u64) {
        self.session.signs.bytes_heard.fetch_add(bytes.max(1), Ordering::Relaxed);
        let was_away = self.session.signs.lock().take().is_some();
        if was_away && !self.session.signs.is_done.load(Ordering::Relaxed) {
            self.tell_of_arrival();
        }
    }

    /// Nothing was heard of it for a while.
    pub fn left(&self) {
        let was_here = self.session.signs.leave();
        if was_here && !self.session.signs.is_done.load(Ordering::Relaxed) && self.welcome() != Welcome::Out {
            self.host.0.tell(HostEvent::Served { session: Arc::clone(&self.session), served: Served::Lost });
        }
    }

    /// Waits until the limits let `bytes` go to it, or for so long at the most.
    pub fn wait_for_limits(&self, bytes: u64, patience: Duration) -> Limits {
        let (company, began): (&Company, Instant) = (&self.session.company, Instant::now());
        let mut paid: Vec<&Limit> = Vec::new();
        for limit in [&self.session.limit, &company.limit] {
            let limit: &Limit = limit;
            let _limited = limit.rate().map(|_| counted(&self.session.doing.limited));
            while limit.take(self.session.number, bytes, WORKING_EVERY) == Taken::Late {
                let is_out = self.welcome() == Welcome::Out;
                if is_out || began.elapsed() >= patience {
                    // Nothing was sent for what was taken of the other one.
                    for limit in paid {
                        limit.settle(self.session.number, bytes, 0);
                    }
                    return if is_out { Limits::Out } else { Limits::Late };
                }
            }
            paid.push(limit);
        }
        if self.welcome() == Welcome::In { Limits::Kept } else { Limits::Out }
    }

    /// So many bytes of files went to it, and so many over the network.
    pub fn sent(&self, bytes: u64, wire_bytes: u64) {
        for counters in [&self.session.own, &*self.session.counters] {
            counters.piece_bytes.fetch_add(bytes, Ordering::Relaxed);
            counters.wire_bytes.fetch_add(wire_bytes, Ordering::Relaxed);
        }
    }

    /// It has everything.
    pub fn is_complete(&self) {
        if !self.session.signs.is_done.swap(true, Ordering::Relaxed) {
            let served = Served::Ended(End::Complete, 0);
            self.host.0.tell(HostEvent::Served { session: Arc::clone(&self.session), served });
        }
    }

    fn tell_of_arrival(&self) {
        let (session, peer) = (self.session.number, self.session.peer());
        let asks = self.session.is_asked();
        let event = if asks { HostEvent::Asks { session, peer } } else { HostEvent::Connected { session, peer } };
        self.host.0.tell(event);
    }
}

impl Signs {
    pub(super) fn bytes_heard(&self) -> u64 {
        self.bytes_heard.load(Ordering::Relaxed)
    }

    /// It is away, since now where it was not before. Whether it was here.
    fn leave(&self) -> bool {
        let mut away = self.lock();
        let was_here = away.is_none();
        away.get_or_insert_with(Instant::now);
        was_here
    }

    /// Since when it is away.
    pub(super) fn away_since(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.away_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_away_is_so_since_they_left() {
        let signs = Signs::default();
        assert!(signs.leave());
        let since = signs.away_since().unwrap();
        while since == Instant::now() {}
        assert!(!signs.leave(), "it left before");
        assert_eq!(signs.away_since(), Some(since));
    }
}
