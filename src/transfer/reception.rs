//! The gatekeeper of a run that listens: lets senders in, and hands each of their lanes to their session.

use super::codes::CodeNews;
use super::frames::refuse;
use super::front::Front;
use super::lobby::Lobby;
use super::parcel::Parcel;
use super::route::Visit;
use super::work::MainEvent;
use crate::limits::SESSIONS_MAX;
use crate::secret::{Code, Key, Link, Room, SessionId, SessionSecret};
use crate::session::LaneRole;
use crate::transport::{
    Gatekeeper, Guest, Lane, LaneIntro, ListenerEvent, Purpose, TransportError, Who, fresh_session_id,
};
use crate::wire::{Refusal, SessionGrant};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What the listener's threads tell the thread that called [`listen`].
///
/// [`listen`]: super::listen()
pub(super) enum ReceptionEvent {
    /// A browser sends something, which is told once.
    Browser,
    /// Another code is shown, or none.
    Code(CodeNews),
    /// A sender began a session.
    Came {
        visit: Arc<Visit>,
        peer: SocketAddr,
    },
    Stranger(ListenerEvent),
}

/// The gatekeeper of a run that listens.
pub(super) struct Reception {
    pub(super) front: Arc<Front>,
    /// The link to it, once it has an address.
    link: OnceLock<Link>,
    lobby: Arc<Lobby>,
    visits: Mutex<HashMap<SessionId, Arc<Visit>>>,
    /// What pages hand over by the sessions in which it comes, and where the pages are.
    expected: Mutex<HashMap<SessionId, (SocketAddr, Arc<Parcel>)>>,
    events: Mutex<mpsc::Sender<ReceptionEvent>>,
}

impl Reception {
    pub(super) fn new(front: Arc<Front>, events: mpsc::Sender<ReceptionEvent>) -> Self {
        Self {
            front,
            link: OnceLock::new(),
            lobby: Arc::default(),
            visits: Mutex::default(),
            expected: Mutex::default(),
            events: Mutex::new(events),
        }
    }

    /// Lets senders in, by this link.
    pub(super) fn open(&self, link: Link) {
        // It is opened once, so nothing is there to be replaced.
        let _ = self.link.set(link);
    }

    /// A page's files are about to be pushed, from this machine itself, in the session that is granted for them.
    pub(super) fn expect(&self, from: SocketAddr, parcel: Arc<Parcel>) -> Result<SessionGrant, TransportError> {
        let id = fresh_session_id()?;
        if !self.front.lodge.has_had_visitors() {
            self.tell(ReceptionEvent::Browser);
        }
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.retain(|_, (_, parcel)| !parcel.is_over());
        expected.insert(id, (from, parcel));
        Ok(self.grant(id))
    }

    /// What comes in that session, where a page hands it over.
    fn expected(&self, id: SessionId) -> Option<(SocketAddr, Arc<Parcel>)> {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.get(&id).cloned()
    }

    fn grant(&self, id: SessionId) -> SessionGrant {
        SessionGrant { id: *id.as_bytes(), secret: *self.front.session_secret(id).as_bytes() }
    }

    /// Whether it is a session of this reception.
    pub(super) fn has(&self, id: SessionId) -> bool {
        self.lock_visits().contains_key(&id)
    }

    /// A session is over, and nothing is open of it any more.
    pub(super) fn forget(&self, visit: &Arc<Visit>, is_complete: bool) {
        visit.main.close();
        self.lock_visits().retain(|_, other| !Arc::ptr_eq(other, visit));
        self.lobby.leave(visit.number, is_complete);
    }

    /// Shows another code where the last one was used.
    pub(super) fn renew_code(&self) {
        if let Some(news) = self.front.codes.renew() {
            self.tell(ReceptionEvent::Code(news));
        }
    }

    /// The session that a control lane belongs to, and whether it is a new one. A session's proof names it; that one may be
    /// unknown, where this run began since: the secret is its own all the same.
    fn visit_for(&self, who: Who) -> Result<(Arc<Visit>, Option<SocketAddr>, bool), Refusal> {
        let link = self.link.get().ok_or(Refusal::Busy)?;
        let mut visits = self.lock_visits();
        let id = match who {
            Who::Session(id) => match visits.get(&id) {
                Some(visit) => return Ok((Arc::clone(visit), None, false)),
                None => id,
            },
            Who::Code | Who::Link(_) => fresh_session_id().map_err(|_| Refusal::Busy)?,
        };
        if visits.len() >= SESSIONS_MAX {
            let away = visits.iter().filter_map(|(&id, visit)| Some((visit.away_since()?, id)));
            let (_, longest_away) = away.min_by_key(|it| it.0).ok_or(Refusal::Busy)?;
            if let Some(visit) = visits.remove(&longest_away) {
                // What it has is on disk, and its sender can come back to it.
                visit.main.push(MainEvent::Yield);
            }
        }
        let number = self.front.number();
        let (from, parcel) = self.expected(id).unzip();
        let visit = Arc::new(Visit::new(number, link.clone(), self.grant(id), Arc::clone(&self.lobby), parcel));
        visits.insert(id, Arc::clone(&visit));
        Ok((visit, from, true))
    }

    fn tell(&self, event: ReceptionEvent) {
        // The run is over where nobody listens any more.
        let _ = self.events.lock().unwrap_or_else(PoisonError::into_inner).send(event);
    }

    fn lock_visits(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Visit>>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gatekeeper for Reception {
    fn link_key(&self, room: Room) -> Option<Key> {
        self.front.link_key(room)
    }

    fn session_secret(&self, id: SessionId) -> Option<SessionSecret> {
        Some(self.front.session_secret(id))
    }

    fn take_code_try(&self) -> Option<Code> {
        self.front.codes.take_try()
    }

    fn code_proven(&self, code: &Code) -> bool {
        self.front.codes.proven(code)
    }

    fn code_failed(&self, code: &Code) {
        if let Some(news) = self.front.codes.failed(code) {
            self.tell(ReceptionEvent::Code(news));
        }
    }

    fn code_untold(&self, code: &Code) {
        if let Some(news) = self.front.codes.untold(code) {
            self.tell(ReceptionEvent::Code(news));
        }
    }

    fn admit(&self, lane: Lane, intro: LaneIntro) {
        let visit = match (intro.purpose, intro.who) {
            (Purpose::Control, _) => Err(Refusal::Receives),
            (Purpose::Data, Who::Session(id)) => match self.lock_visits().get(&id) {
                Some(visit) => return visit.deliver(lane, LaneRole::Data),
                // Its sender comes back over a control lane, and is told over that.
                None => return,
            },
            (Purpose::Data, _) => return,
            (Purpose::Push, who) => self.visit_for(who),
        };
        match visit {
            Ok((visit, from, is_new)) => {
                visit.deliver(lane, LaneRole::Control);
                if is_new {
                    self.tell(ReceptionEvent::Came { visit, peer: from.unwrap_or(intro.peer_address) });
                }
            }
            Err(refusal) => {
                if (refusal, intro.who) == (Refusal::Busy, Who::Code) {
                    self.front.codes.reinstate();
                }
                refuse(lane, intro.purpose, refusal);
                self.renew_code();
            }
        }
    }

    fn takes_guests(&self) -> bool {
        self.front.lodge.is_open()
    }

    fn takes_tls_guests(&self) -> bool {
        self.front.lodge.is_tls()
    }

    fn visit(&self, guest: Guest) {
        self.front.lodge.visit(guest);
    }

    fn observe(&self, event: ListenerEvent) {
        self.tell(ReceptionEvent::Stranger(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Length;
    use crate::rel_path::RelPath;
    use crate::transfer::state::OfferState;
    use crate::transfer::{Cancel, HandedFile};

    #[test]
    fn what_pages_hand_over_at_once_comes_in_its_own_session_whichever_is_first() {
        let state = OfferState::load(None, &[0; 32]).unwrap();
        let (events, _inbox) = mpsc::channel();
        let reception = Reception::new(Arc::new(Front::new(state, true).unwrap()), events);
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        reception.open(Link::new(&[at(1)], reception.front.state.room, reception.front.state.key.clone()).unwrap());
        let files = [HandedFile { path: RelPath::parse("a").unwrap(), length: Length(1), modified: 0 }];
        let parcels = [(); 2].map(|()| Arc::new(Parcel::new(&files, Cancel::new()).unwrap()));
        let granted = [0, 1].map(|number| {
            let grant = reception.expect(at(10 + number), Arc::clone(&parcels[usize::from(number)])).unwrap();
            SessionId::from_bytes(grant.id)
        });
        // Somebody on this machine who is no page, and then the one that was posted last.
        let (visit, from, is_new) = reception.visit_for(Who::Link(reception.front.state.room)).unwrap();
        assert!(visit.parcel.is_none() && from.is_none() && is_new);
        for number in [1, 0] {
            let (visit, from, is_new) = reception.visit_for(Who::Session(granted[number])).unwrap();
            assert!(Arc::ptr_eq(visit.parcel.as_ref().unwrap(), &parcels[number]) && is_new);
            assert_eq!(from.unwrap().port(), [10, 11][number]);
        }
    }
}
