//! The gatekeeper of an offer: knows its secrets, and serves whoever proves them.

use super::TransferError;
use super::codes::CodeNews;
use super::company::Company;
use super::frames::refuse;
use super::front::Front;
use super::offer::Offer;
use super::panics::caught;
use super::pieces::counted;
use super::serve::{Served, ServedCounters, ServedSession};
use super::wish::Terms;
use crate::codec::Compression;
use crate::limits::{REFUSED_AT_ONCE_MAX, SESSION_IDLE_MAX, SESSIONS_MAX};
use crate::secret::{Code, Key, Room, SessionId, SessionSecret};
use crate::session::LaneRole;
use crate::transport::{Gatekeeper, Guest, Lane, LaneIntro, ListenerEvent, Purpose, Who, fresh_session_id, household};
use crate::wire::{Refusal, SessionGrant};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the listener's threads tell the thread that called [`send`].
///
/// [`send`]: super::send()
pub(super) enum HostEvent {
    /// A browser is served, which is told once.
    Browser,
    /// Another code is shown, or none.
    Code(CodeNews),
    /// A receiver waits for the user's word.
    Asks {
        session: u64,
        peer: SocketAddr,
    },
    Connected {
        session: u64,
        peer: SocketAddr,
    },
    /// A lane's thread panicked, so its session is over; its receiver can come back.
    Panicked {
        session: u64,
        error: TransferError,
    },
    Served {
        session: Arc<ServedSession>,
        served: Served,
    },
    Stranger(ListenerEvent),
    /// Somebody came from an address whose receiver the user turned away. Told once for each.
    TurnedAway {
        peer: SocketAddr,
    },
}

/// Who is not to come back in this run.
#[derive(Default)]
struct TurnedAway {
    sessions: HashSet<SessionId>,
    /// Each address, or its network (see [`household`]), and whether somebody came from it since.
    addresses: HashMap<IpAddr, bool>,
}

/// The gatekeeper of an offer: knows its secrets, and serves whoever proves them.
pub(super) struct Host {
    pub(super) offer: Arc<Offer>,
    pub(super) front: Arc<Front>,
    lanes: u16,
    /// What all of its sessions did together.
    pub(super) counters: Arc<ServedCounters>,
    /// What they share.
    pub(super) company: Arc<Company>,
    /// Whether each receiver waits for the user's word.
    asks_each: bool,
    /// Whether pieces are made shorter.
    compression: Compression,
    turned_away: Mutex<TurnedAway>,
    /// Lanes that are being refused.
    refused: AtomicU32,
    sessions: Mutex<HashMap<SessionId, Arc<ServedSession>>>,
    events: Mutex<mpsc::Sender<HostEvent>>,
}

impl Host {
    /// The host of `offer`, which grants `lanes` data lanes to each receiver and tells `events` what happens.
    pub(super) fn new(offer: Arc<Offer>, front: Arc<Front>, lanes: u16, events: mpsc::Sender<HostEvent>) -> Self {
        Self {
            offer,
            front,
            lanes,
            counters: Arc::default(),
            company: Arc::default(),
            asks_each: false,
            compression: Compression::Auto,
            turned_away: Mutex::default(),
            refused: AtomicU32::new(0),
            sessions: Mutex::default(),
            events: Mutex::new(events),
        }
    }

    /// The same host, whose user is asked about each receiver.
    pub(super) fn asking_each(self, asks_each: bool) -> Self {
        Self { asks_each, ..self }
    }

    /// The same host, which compresses pieces as its user wants it.
    pub(super) fn compressing(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// Every session that may be served further.
    pub(super) fn sessions(&self) -> Vec<Arc<ServedSession>> {
        self.lock_sessions().values().cloned().collect()
    }

    /// The session of that number.
    pub(super) fn session(&self, number: u64) -> Option<Arc<ServedSession>> {
        self.lock_sessions().values().find(|session| session.number == number).cloned()
    }

    /// Whether it is a session of this host.
    pub(super) fn has(&self, id: SessionId) -> bool {
        self.lock_sessions().contains_key(&id)
    }

    /// Ends a session for good. Whether there was one.
    pub(super) fn turn_away(&self, number: u64) -> bool {
        let mut sessions = self.lock_sessions();
        let found = sessions.iter().find(|(_, session)| session.number == number);
        let Some((id, session)) = found.map(|(&id, session)| (id, Arc::clone(session))) else { return false };
        sessions.remove(&id);
        drop(sessions);
        let mut turned_away = self.lock_turned_away();
        turned_away.sessions.insert(id);
        turned_away.addresses.insert(household(session.peer().ip()), false);
        drop(turned_away);
        session.turn_away();
        true
    }

    /// Ends every session.
    pub(super) fn abort_all(&self) {
        self.lock_sessions().values().for_each(|session| session.abort());
    }

    /// The session that a lane belongs to: one for each proof of the link, and the one that a session's proof names. That
    /// one may be unknown, where this host was started again since: the secret is its own all the same.
    pub(super) fn session_for(&self, intro: &LaneIntro) -> Result<Arc<ServedSession>, Refusal> {
        if self.is_turned_away(intro) {
            return Err(Refusal::Declined);
        }
        let mut sessions = self.lock_sessions();
        let id = match intro.who {
            Who::Session(id) => match sessions.get(&id) {
                Some(session) => return Ok(Arc::clone(session)),
                None => id,
            },
            Who::Code | Who::Link(_) => fresh_session_id().map_err(|_| Refusal::Busy)?,
        };
        sessions.retain(|_, session| session.idle().is_none_or(|idle| idle < SESSION_IDLE_MAX));
        if sessions.len() >= SESSIONS_MAX {
            let longest =
                sessions.iter().filter_map(|(&id, session)| Some((session.idle()?, id))).max_by_key(|it| it.0);
            let (_, longest_idle) = longest.ok_or(Refusal::Busy)?;
            sessions.remove(&longest_idle);
        }
        let secret = self.front.session_secret(id);
        let grant = SessionGrant { id: *id.as_bytes(), secret: *secret.as_bytes() };
        let number = self.front.number();
        let (offer, counters) = (Arc::clone(&self.offer), Arc::clone(&self.counters));
        let terms = Terms::Granting(grant);
        let session = ServedSession::new(number, intro.peer_address, offer, counters, terms, self.lanes);
        let session = Arc::new(session.in_company(Arc::clone(&self.company)).compressing(self.compression));
        if self.asks_each {
            session.ask_first();
        }
        sessions.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// Whether the user has turned away who comes here. Where each is asked about, an address is no reason; nor is it for
    /// whoever proves a code, which the user has handed out since.
    fn is_turned_away(&self, intro: &LaneIntro) -> bool {
        let mut turned_away = self.lock_turned_away();
        let is_by_session = matches!(intro.who, Who::Session(id) if turned_away.sessions.contains(&id));
        let from = household(intro.peer_address.ip());
        let address = turned_away.addresses.get_mut(&from).filter(|_| !self.asks_each);
        let (Who::Link(_), Some(was_told)) = (intro.who, address) else { return is_by_session };
        if !std::mem::replace(was_told, true) {
            self.tell(HostEvent::TurnedAway { peer: intro.peer_address });
        }
        true
    }

    /// Serves a lane of `session` to its end. A panic in that ends this session; the others go on.
    fn carry(&self, session: &Arc<ServedSession>, serve: impl FnOnce() -> Option<Served>) {
        let number = session.number;
        let event = match caught(|| Ok(serve())) {
            Ok(None) => return,
            Ok(Some(served)) => HostEvent::Served { session: Arc::clone(session), served },
            Err(error) => {
                session.abort();
                HostEvent::Panicked { session: number, error }
            }
        };
        // One that was lost may come back. The user need not be asked about one that did not wait for the answer.
        if session.is_asked() || !matches!(event, HostEvent::Served { served: Served::Lost, .. }) {
            self.forget(session);
        }
        self.tell(event);
    }

    /// Turns a lane away, unless others are turned away already as many as may be: each of them holds a thread and a
    /// buffer for a moment.
    fn refuse(&self, lane: Lane, purpose: Purpose, refusal: Refusal) {
        let refused = counted(&self.refused);
        if self.refused.load(Ordering::Relaxed) as usize <= REFUSED_AT_ONCE_MAX {
            refuse(lane, purpose, refusal);
        }
        drop(refused);
    }

    fn forget(&self, session: &Arc<ServedSession>) {
        self.lock_sessions().retain(|_, other| !Arc::ptr_eq(other, session));
    }

    pub(super) fn tell(&self, event: HostEvent) {
        // The offer is over where nobody listens any more.
        let _ = self.events.lock().unwrap_or_else(PoisonError::into_inner).send(event);
    }

    fn lock_turned_away(&self) -> MutexGuard<'_, TurnedAway> {
        self.turned_away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<ServedSession>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gatekeeper for Host {
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
            self.tell(HostEvent::Code(news));
        }
    }

    fn code_untold(&self, code: &Code) {
        if let Some(news) = self.front.codes.untold(code) {
            self.tell(HostEvent::Code(news));
        }
    }

    fn admit(&self, lane: Lane, intro: LaneIntro) {
        let wanted = if intro.purpose == Purpose::Push { Err(Refusal::Sends) } else { self.session_for(&intro) };
        let session = match wanted {
            Ok(session) => session,
            Err(refusal) => {
                if (refusal, intro.who) == (Refusal::Busy, Who::Code) {
                    self.front.codes.reinstate();
                }
                self.refuse(lane, intro.purpose, refusal);
                if let Some(news) = self.front.codes.renew() {
                    self.tell(HostEvent::Code(news));
                }
                return;
            }
        };
        let role = match intro.purpose {
            Purpose::Control | Purpose::Push => LaneRole::Control,
            Purpose::Data => LaneRole::Data,
        };
        if role == LaneRole::Control && !session.has_control() {
            let (session, peer, is_asked) = (session.number, intro.peer_address, session.is_asked());
            let event =
                if is_asked { HostEvent::Asks { session, peer } } else { HostEvent::Connected { session, peer } };
            self.tell(event);
        }
        self.carry(&session, || session.serve(lane, role));
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
        self.tell(HostEvent::Stranger(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::End;
    use crate::source::{Filter, Source, WalkOptions, offer_id};
    use crate::transfer::send::panicked_text;
    use crate::transfer::state::OfferState;

    fn host() -> (Host, mpsc::Receiver<HostEvent>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"a").unwrap();
        let paths = [folder.path().join("a")];
        let walk = Source::walk(&paths, &WalkOptions::default()).unwrap();
        let (events, inbox) = mpsc::channel();
        let offer = Arc::new(Offer::new(walk).unwrap());
        let state = OfferState::load(None, &offer_id(&paths, &Filter::default()).unwrap()).unwrap();
        let front = Arc::new(Front::new(state, true).unwrap());
        (Host::new(offer, front, 1, events), inbox, folder)
    }

    #[test]
    fn an_address_of_the_network_that_a_receiver_was_turned_away_from_is_no_other_one() {
        let (host, _inbox, _folder) = host();
        let from = |ip: &str| {
            let peer_address = SocketAddr::new(ip.parse().unwrap(), 1);
            LaneIntro { purpose: Purpose::Control, who: Who::Link(host.front.state.room), peer_address }
        };
        let session = host.session_for(&from("2001:db8:0:1::1")).unwrap();
        assert!(host.turn_away(session.number));
        assert!(host.session_for(&from("2001:db8:0:1:ffff::2")).is_err());
        assert!(host.session_for(&from("2001:db8:0:2::1")).is_ok());
        assert!(host.session_for(&from("192.0.2.1")).is_ok());
    }

    #[test]
    fn a_session_that_panics_ends_alone_and_is_told() {
        let (host, inbox, _folder) = host();
        let peer_address = SocketAddr::from(([127, 0, 0, 1], 1));
        let intro = LaneIntro { purpose: Purpose::Control, who: Who::Link(host.front.state.room), peer_address };
        let first = host.session_for(&intro).unwrap();
        let second = host.session_for(&intro).unwrap();
        host.carry(&first, || panic!("on purpose \x1b[2J"));
        let Ok(HostEvent::Panicked { session, error }) = inbox.try_recv() else { panic!("it is told") };
        assert_eq!(session, first.number);
        let text = panicked_text(&error);
        assert!(text.ends_with("bug in haul: a thread panicked: on purpose \\u{1b}[2J"), "{text}");
        let left: Vec<_> = host.lock_sessions().values().map(|session| session.number).collect();
        assert_eq!(left, [second.number]);
        host.carry(&second, || Some(Served::Ended(End::Complete, 0)));
        assert!(matches!(inbox.try_recv(), Ok(HostEvent::Served { served: Served::Ended(End::Complete, 0), .. })));
    }
}
