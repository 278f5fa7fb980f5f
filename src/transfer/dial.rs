//! What it takes to open a lane, and what is remembered while the first one cannot be opened.

use super::memory::{CodeMark, Memory, Origin};
use super::neighbours::is_neighbour;
use super::retry::Retry;
use super::seek::Seek;
use super::{Event, TransferError, failed};
use crate::limits::{LANE_SILENCE_MAX, PROOF_DEADLINE, RECORD_ADDRESSES_MAX};
use crate::secret::{Code, Link, SessionId, SessionSecret};
use crate::transport::{
    CodeTries, DeviceKey, Lane, Proof, Purpose, TransportError, connect_with_hints, connect_within,
};
use crate::wire::SessionGrant;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long others that announce the number of a code are looked for once one of them has turned it down.
const OTHERS_PATIENCE: Duration = Duration::from_secs(4);

/// What a run holds when it starts that its host will accept.
pub(super) enum Way {
    /// The code that the host shows. Once it was accepted, only the session goes on.
    Code(Code),
    /// The link, which works again and again.
    Link(Link),
    /// The session that a code began in an earlier run. The code is used up.
    Session { grant: SessionGrant, mark: CodeMark },
}

/// What it takes to open a lane.
pub(super) struct Dial {
    way: Way,
    device: DeviceKey,
    stays_on_this_machine: AtomicBool,
    has_been_reached: AtomicBool,
    /// Whether the code was accepted for a session.
    is_code_used: AtomicBool,
    has_tried: AtomicBool,
    /// Where the user or the record says that the host is.
    told: Vec<SocketAddr>,
    /// Where it was reached, the last place first.
    reached: Mutex<Vec<SocketAddr>>,
    seek: Mutex<Arc<Seek>>,
    /// The session of an offer that the host has changed since.
    kept: Mutex<Option<SessionGrant>>,
    /// Held while the code is tried, so that no two tries of it are under way.
    tries: Mutex<CodeTries>,
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

impl Way {
    /// How what `memory` holds goes on without its code.
    pub(super) fn of_code(memory: &Memory) -> Option<Self> {
        match &memory.origin {
            Origin::Code(mark) => Some(Self::Session { grant: memory.grant()?, mark: mark.clone() }),
            Origin::Link(_) | Origin::Pushed(_) => None,
        }
    }
}

impl Dial {
    /// `told` are addresses of the host beside those of a link, best first.
    pub(super) fn new(way: Way, told: &[SocketAddr]) -> Result<Self, TransportError> {
        let of_link = if let Way::Link(link) = &way { link.addresses() } else { &[] };
        let told = distinct(told.iter().chain(of_link).copied());
        let seek = match (&way, told.first()) {
            (Way::Code(code), _) => Seek::by_number(code.number()),
            // One that comes back with another address has kept its port.
            (_, place) => Seek::by_port(place.map_or(0, SocketAddr::port)),
        };
        Ok(Self {
            way,
            device: DeviceKey::generate()?,
            stays_on_this_machine: AtomicBool::new(false),
            has_been_reached: AtomicBool::new(false),
            is_code_used: AtomicBool::new(false),
            has_tried: AtomicBool::new(false),
            told,
            reached: Mutex::default(),
            seek: Mutex::new(Arc::new(seek)),
            kept: Mutex::default(),
            tries: Mutex::default(),
        })
    }

    /// What opens the control lane: the session once there is one, until the host turns it down and there is a link.
    pub(super) fn opening(&self, grant: Option<&SessionGrant>, wrong_proofs: u32) -> Proof {
        match (&self.way, grant) {
            (Way::Code(code), None) => lock(&self.kept).as_ref().map_or_else(|| Proof::Code(code.clone()), by_session),
            (Way::Link(link), None) => by_link(link),
            (Way::Link(link), Some(_)) if wrong_proofs > 0 => by_link(link),
            (_, Some(grant)) | (Way::Session { grant, .. }, None) => by_session(grant),
        }
    }

    pub(super) fn connect(&self, proof: &Proof, purpose: Purpose) -> Result<Lane, TransportError> {
        let lane = match proof {
            Proof::Code(_) => self.connect_by_code(proof, purpose)?,
            _ => self.connect_by_secret(proof, purpose)?,
        };
        self.note(&lane);
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

    /// Whether it is the code that opens the control lane: one that is turned down once is so for good, and no two tries of
    /// it may be under way.
    pub(super) fn is_by_code(&self, grant: Option<&SessionGrant>) -> bool {
        matches!((&self.way, grant), (Way::Code(_), None)) && lock(&self.kept).is_none()
    }

    /// The host had no room for a session, so the code is as good as before.
    pub(super) fn had_no_room(&self) {
        self.is_code_used.store(false, Ordering::Relaxed);
    }

    /// Keeps the session that is over here: it opens the next one, since the code is used up.
    pub(super) fn keep(&self, grant: SessionGrant) {
        *lock(&self.kept) = Some(grant);
    }

    /// What is remembered of how the transfer began. `None` before a session that a code began has its secret.
    pub(super) fn origin(&self, grant: Option<&SessionGrant>) -> Option<Origin> {
        Some(match &self.way {
            Way::Code(code) => Origin::Code(CodeMark::of(code, grant?.id)),
            Way::Link(link) => Origin::Link(link.clone()),
            Way::Session { mark, .. } => Origin::Code(mark.clone()),
        })
    }

    /// Where the host was and may be, best first.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let reached = lock(&self.reached).clone();
        match self.way {
            Way::Link(_) => distinct(self.told.iter().copied().chain(reached)),
            Way::Code(_) | Way::Session { .. } => distinct(reached.into_iter().chain(self.told.iter().copied())),
        }
    }

    /// What it means to the user that there is no lane.
    pub(super) fn failure(&self, error: TransportError, grant: Option<&SessionGrant>) -> TransferError {
        let has_been_reached = self.has_been_reached();
        match (&self.way, error) {
            (Way::Code(_), TransportError::WrongProof) if grant.is_none() && lock(&self.kept).is_some() => {
                TransferError::SessionGone
            }
            (Way::Code(_), TransportError::WrongProof) if grant.is_none() && has_been_reached => {
                TransferError::CodeLost
            }
            (Way::Code(_), TransportError::WrongProof) if grant.is_none() => TransferError::WrongCode,
            (Way::Session { .. }, TransportError::WrongProof) => TransferError::SessionGone,
            (Way::Code(code), TransportError::NotFound) => {
                let cause = self.seek().trouble().map(Into::into);
                TransferError::HostNotFound { number: code.number(), cause }
            }
            (_, error @ TransportError::Refused) if !has_been_reached => TransferError::NobodyListens(error.into()),
            (_, TransportError::ConnectTimeout) if self.is_among_neighbours() => {
                let cause = "the address is on this machine's own network, so a firewall may keep it closed";
                TransferError::ConnectTimeout { waited: PROOF_DEADLINE, cause: Some(cause.into()) }
            }
            (_, error) => failed::transport(error, PROOF_DEADLINE),
        }
    }

    /// By a link or a session, which may be put to anybody. Only a place that is known to be the host's can turn it down.
    fn connect_by_secret(&self, proof: &Proof, purpose: Purpose) -> Result<Lane, TransportError> {
        let (known, found) = self.places(purpose);
        let connect = |known: &[_], hints: &[_], proof: &Proof| {
            connect_with_hints(&self.device, known, hints, proof, purpose, Instant::now() + PROOF_DEADLINE)
        };
        connect(&known, &found, proof).or_else(|none| match (&self.way, proof, purpose) {
            // The host may have come back at another address without the session.
            (Way::Link(link), Proof::Session { .. }, Purpose::Control | Purpose::Push) if !none.refused.is_empty() => {
                connect(&[], &none.refused, &by_link(link)).map_err(|_| none.fault)
            }
            _ => Err(none.fault),
        })
    }

    /// A code is put to a host by one thread at a time, and to none any more once it was accepted.
    fn connect_by_code(&self, proof: &Proof, purpose: Purpose) -> Result<Lane, TransportError> {
        let mut tries = lock(&self.tries);
        if self.is_code_used.load(Ordering::Relaxed) {
            return Err(TransportError::WrongProof);
        }
        let lane = if self.told.is_empty() {
            self.connect_to_found(proof, purpose, &mut tries)?
        } else {
            let deadline = Instant::now() + PROOF_DEADLINE;
            connect_within(&self.device, &self.told, proof, &mut tries, purpose, deadline)?
        };
        self.is_code_used.store(true, Ordering::Relaxed);
        Ok(lane)
    }

    /// To whoever announces the number of the code. Anybody may do so: while there are tries left, one that turns the code
    /// down is no reason not to ask the next one.
    fn connect_to_found(&self, proof: &Proof, purpose: Purpose, tries: &mut CodeTries) -> Result<Lane, TransportError> {
        let seek = self.seek();
        let mut tried = Vec::new();
        let mut fault = TransportError::NotFound;
        let mut places = seek.wait(&tried, Instant::now() + LANE_SILENCE_MAX);
        let deadline = Instant::now() + PROOF_DEADLINE;
        while !places.is_empty() {
            match connect_within(&self.device, &places, proof, tries, purpose, deadline) {
                Ok(lane) => return Ok(lane),
                // That the code was turned down says more than what is wrong with somebody else.
                Err(_) if matches!(fault, TransportError::WrongProof) => {}
                Err(error) => fault = error,
            }
            if tries.are_used_up() {
                break;
            }
            tried.append(&mut places);
            seek.ask_again();
            places = seek.wait(&tried, deadline.min(Instant::now() + OTHERS_PATIENCE));
        }
        Err(fault)
    }

    /// Where to connect: the places that are known, and those that the network names once these have led nowhere, since the
    /// host may have another address by now.
    fn places(&self, purpose: Purpose) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let known = self.addresses();
        if known.iter().all(|place| place.ip().is_loopback()) {
            // Nobody announces what only this machine can reach.
            return (known, Vec::new());
        }
        let seek = self.seek();
        if purpose != Purpose::Data && self.has_tried.swap(true, Ordering::Relaxed) {
            seek.ask_again();
        }
        let mut all = distinct(known.iter().copied().chain(seek.found()));
        let found = all.split_off(known.len());
        (all, found)
    }

    fn note(&self, lane: &Lane) {
        self.has_been_reached.store(true, Ordering::Relaxed);
        self.stays_on_this_machine.store(lane.stays_on_this_machine(), Ordering::Relaxed);
        let place = lane.peer_address();
        let mut reached = lock(&self.reached);
        if reached.is_empty() && matches!(self.way, Way::Code(_)) {
            *lock(&self.seek) = Arc::new(Seek::by_port(place.port()));
        }
        if reached.first() != Some(&place) {
            *reached = distinct([place].into_iter().chain(reached.iter().copied()));
        }
    }

    /// Taken out of its lock: looking may take seconds.
    fn seek(&self) -> Arc<Seek> {
        Arc::clone(&lock(&self.seek))
    }

    fn is_among_neighbours(&self) -> bool {
        let (known, found) = (self.addresses(), self.seek().found());
        known.iter().chain(&found).any(|place| is_neighbour(place.ip()))
    }
}

/// The proof of a session that the host issued.
pub(super) fn by_session(grant: &SessionGrant) -> Proof {
    Proof::Session { id: SessionId::from_bytes(grant.id), secret: SessionSecret::from_bytes(grant.secret) }
}

fn by_link(link: &Link) -> Proof {
    Proof::Link { room: link.room(), key: link.key().clone() }
}

/// Each place once, as many as are tried at a time.
fn distinct(places: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut kept = Vec::new();
    for place in places {
        if !kept.contains(&place) && kept.len() < RECORD_ADDRESSES_MAX {
            kept.push(place);
        }
    }
    kept
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
