//! Sending: offer, listen, serve until somebody has everything.

use super::addresses;
use super::offer::Offer;
use super::panics::caught;
use super::serve::{Served, ServedCounters, ServedSession};
use super::state::OfferState;
use super::{Cancel, Event, Observer, Phase, Progress, SendSettings, Summary, TransferError};
use crate::limits::{DATA_LANES_MAX, SESSION_IDLE_MAX, SESSIONS_MAX};
use crate::manifest::EntryIndex;
use crate::printable::printable;
use crate::secret::{Key, Link, Room, SessionId, SessionSecret};
use crate::session::{End, LaneRole};
use crate::source::{Source, SourceError, Walk, WalkOptions, offer_id};
use crate::transport::{
    DeviceKey, Gatekeeper, Lane, LaneIntro, Listener, ListenerEvent, Purpose, TransportError, Who, fresh_session_id,
};
use crate::wire::{Message, Refusal, SessionGrant};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The port that is tried first, so that a firewall rule for it lasts.
const PORT_DEFAULT: u16 = 4285;
/// How often progress is told and a request to stop is noticed.
const TURN: Duration = Duration::from_millis(100);

/// What the listener's threads tell the thread that called [`send`].
enum HostEvent {
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
        session: u64,
        served: Served,
    },
    Stranger(ListenerEvent),
}

/// The gatekeeper of an offer: knows its secrets, and serves whoever proves them.
struct Host {
    offer: Arc<Offer>,
    state: OfferState,
    lanes: u16,
    counters: Arc<ServedCounters>,
    sessions: Mutex<HashMap<SessionId, Arc<ServedSession>>>,
    next_number: AtomicU64,
    events: Mutex<mpsc::Sender<HostEvent>>,
}

/// Offers files and folders until one receiver has everything; with `keep`, until it is cancelled.
pub fn send(settings: &SendSettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary, TransferError> {
    caught(|| offer(settings, observer, cancel))
}

fn offer(settings: &SendSettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary, TransferError> {
    let began = Instant::now();
    observer.event(&Event::Phase(Phase::Scanning));
    let options =
        WalkOptions { hash_cache: settings.cache_dir.clone(), stop: Some(cancel.flag()), ..WalkOptions::default() };
    let walk = Source::walk(&settings.paths, &options).map_err(source_failure)?;
    let left_out = tell_notices(&walk, observer);
    let id = offer_id(&settings.paths).map_err(source_failure)?;
    let state = OfferState::load(settings.state_dir.as_deref(), &id)?;
    let offer = Arc::new(Offer::new(walk)?);
    let (events, inbox) = mpsc::channel();
    let sockets = choose_socket(settings, state.port);
    let host = Arc::new(Host {
        offer: Arc::clone(&offer),
        state,
        lanes: settings.lanes.unwrap_or(DATA_LANES_MAX),
        counters: Arc::default(),
        sessions: Mutex::default(),
        next_number: AtomicU64::new(1),
        events: Mutex::new(events),
    });
    let listener = listen(&sockets, &host)?;
    let port = listener.address().port();
    if let Err(error) = host.state.save(port) {
        let text = format!("the link cannot be kept for a later run: {error}");
        observer.event(&Event::Notice { text });
    }
    let advertised = addresses::advertised(settings.address, listener.address().ip());
    let advertised: Vec<_> = advertised.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    let link = Link::new(&advertised, host.state.room, host.state.key.clone())
        .map_err(|fault| TransferError::BadLink(Box::new(fault)))?;
    let totals = offer.listing.totals();
    let (files, folders) = (u64::from(totals.files), u64::from(totals.folders));
    observer.event(&Event::OfferReady { link: link.to_text(), files, folders, bytes: totals.bytes });
    observer.event(&Event::Phase(Phase::Waiting));
    let outcome = caught(|| host.run(settings.keep, &inbox, observer, cancel));
    drop(listener);
    host.abort_all();
    let failed = outcome?;
    let mut summary = host.summary(began, cancel);
    summary.ok = failed == 0 && left_out == 0;
    if summary.ok {
        Ok(summary)
    } else {
        Err(TransferError::Partial { failed: u64::from(failed) + left_out, total: files + left_out })
    }
}

impl Host {
    /// Waits until a receiver has everything, and returns how many files failed there.
    fn run(
        &self,
        keep: bool,
        inbox: &mpsc::Receiver<HostEvent>,
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Result<u32, TransferError> {
        loop {
            if cancel.is_cancelled() {
                return if keep { Ok(0) } else { Err(TransferError::Interrupted) };
            }
            match inbox.recv_timeout(TURN) {
                Ok(HostEvent::Connected { session, peer }) => {
                    observer.event(&Event::PeerConnected { peer, session });
                    observer.event(&Event::Phase(Phase::Transferring));
                }
                Ok(HostEvent::Served { session, served: Served::Ended(End::Complete, failed) }) => {
                    let bytes = self.counters.piece_bytes.load(Ordering::Relaxed);
                    observer.event(&Event::Progress(self.progress()));
                    observer.event(&Event::PeerFinished { session, ok: failed == 0, bytes });
                    if !keep {
                        return Ok(failed);
                    }
                    observer.event(&Event::Phase(Phase::Waiting));
                }
                Ok(HostEvent::Served { session, served }) => {
                    if let Served::Ended(end, _) = &served {
                        observer.event(&Event::Notice { text: ended_text(end) });
                    }
                    observer.event(&Event::PeerLost { session });
                    observer.event(&Event::Phase(Phase::Waiting));
                }
                Ok(HostEvent::Panicked { session, error }) => {
                    observer.event(&Event::Notice { text: panicked_text(&error) });
                    observer.event(&Event::PeerLost { session });
                    observer.event(&Event::Phase(Phase::Waiting));
                }
                Ok(HostEvent::Stranger(event)) => {
                    if let Some(text) = stranger_text(event) {
                        observer.event(&Event::Notice { text });
                    }
                }
                Err(RecvTimeoutError::Timeout) => observer.event(&Event::Progress(self.progress())),
                Err(RecvTimeoutError::Disconnected) => return Err(TransferError::Interrupted),
            }
        }
    }

    fn progress(&self) -> Progress {
        let totals = self.offer.listing.totals();
        let sent = self.counters.piece_bytes.load(Ordering::Relaxed);
        Progress {
            bytes_total: totals.bytes,
            bytes_done: sent.min(totals.bytes),
            bytes_fetched: sent,
            wire_bytes: self.counters.wire_bytes.load(Ordering::Relaxed),
            files_total: u64::from(totals.files),
            ..Progress::default()
        }
    }

    fn summary(&self, began: Instant, cancel: &Cancel) -> Summary {
        let totals = self.offer.listing.totals();
        let mut files = self.offer.listing.files();
        let only = files.next().filter(|_| files.next().is_none());
        let root = match only {
            // Whoever stops an offer does not wait until all of it is hashed.
            _ if cancel.is_cancelled() && !self.offer.is_hashed() => None,
            Some(EntryIndex(entry)) => self.offer.root(EntryIndex(entry)).ok().map(|root| root.to_string()),
            None => self.offer.seal(&[]).ok().map(|id| id.to_string()),
        };
        Summary {
            files: u64::from(totals.files),
            bytes: totals.bytes,
            bytes_fetched: self.counters.piece_bytes.load(Ordering::Relaxed),
            wire_bytes: self.counters.wire_bytes.load(Ordering::Relaxed),
            seconds: began.elapsed().as_secs_f64(),
            root,
            ..Summary::default()
        }
    }

    fn abort_all(&self) {
        self.lock_sessions().values().for_each(|session| session.abort());
    }

    /// The session that a lane belongs to: one for each proof of the link, and the one that a session's proof names. That
    /// one may be unknown, where this host was started again since: the secret is its own all the same.
    fn session_for(&self, intro: &LaneIntro) -> Result<Arc<ServedSession>, Refusal> {
        let mut sessions = self.lock_sessions();
        let id = match intro.who {
            Who::Session(id) => match sessions.get(&id) {
                Some(session) => return Ok(Arc::clone(session)),
                None => id,
            },
            Who::Link(_) => fresh_session_id().map_err(|_| Refusal::Busy)?,
        };
        sessions.retain(|_, session| session.idle().is_none_or(|idle| idle < SESSION_IDLE_MAX));
        if sessions.len() >= SESSIONS_MAX {
            let longest =
                sessions.iter().filter_map(|(&id, session)| Some((session.idle()?, id))).max_by_key(|it| it.0);
            let (_, longest_idle) = longest.ok_or(Refusal::Busy)?;
            sessions.remove(&longest_idle);
        }
        let secret = self.state.session_secret(id);
        let grant = SessionGrant { id: *id.as_bytes(), secret: *secret.as_bytes() };
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (offer, counters) = (Arc::clone(&self.offer), Arc::clone(&self.counters));
        let session = ServedSession::new(number, intro.peer_address, offer, counters, grant, self.lanes);
        let session = Arc::new(session);
        sessions.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// Serves a lane of `session` to its end. A panic in that ends this session; the others go on.
    fn carry(&self, session: &Arc<ServedSession>, serve: impl FnOnce() -> Option<Served>) {
        let number = session.number;
        let event = match caught(|| Ok(serve())) {
            Ok(None) => return,
            Ok(Some(served)) => HostEvent::Served { session: number, served },
            Err(error) => {
                session.abort();
                HostEvent::Panicked { session: number, error }
            }
        };
        // One that was lost may come back.
        if !matches!(event, HostEvent::Served { served: Served::Lost, .. }) {
            self.forget(session);
        }
        self.tell(event);
    }

    fn forget(&self, session: &Arc<ServedSession>) {
        self.lock_sessions().retain(|_, other| !Arc::ptr_eq(other, session));
    }

    fn tell(&self, event: HostEvent) {
        // The offer is over where nobody listens any more.
        let _ = self.events.lock().unwrap_or_else(PoisonError::into_inner).send(event);
    }

    fn lock_sessions(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<ServedSession>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gatekeeper for Host {
    fn link_key(&self, room: Room) -> Option<Key> {
        (room == self.state.room).then(|| self.state.key.clone())
    }

    fn session_secret(&self, id: SessionId) -> Option<SessionSecret> {
        Some(self.state.session_secret(id))
    }

    fn admit(&self, mut lane: Lane, intro: LaneIntro) {
        let session = match self.session_for(&intro) {
            Ok(session) => session,
            Err(refusal) => {
                // Whether it hears why or only the close is the same to this side.
                let _ = super::frames::send_message(&mut lane, &Message::Refused { refusal });
                let _ = lane.close();
                return;
            }
        };
        let role = match intro.purpose {
            Purpose::Control => LaneRole::Control,
            Purpose::Data => LaneRole::Data,
        };
        if role == LaneRole::Control && !session.has_control() {
            self.tell(HostEvent::Connected { session: session.number, peer: session.peer });
        }
        self.carry(&session, || session.serve(lane, role));
    }

    fn observe(&self, event: ListenerEvent) {
        self.tell(HostEvent::Stranger(event));
    }
}

/// Where to listen, best first: the port of an earlier run of this offer is tried before any other.
fn choose_socket(settings: &SendSettings, kept: Option<u16>) -> Vec<SocketAddr> {
    let ip = settings.bind.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |bind| bind.ip());
    let ports = match settings.bind.map(|bind| bind.port()) {
        Some(0) => kept.into_iter().chain([0]).collect(),
        Some(port) => vec![port],
        None => kept.into_iter().chain([PORT_DEFAULT, 0]).collect(),
    };
    ports.into_iter().map(|port| SocketAddr::new(ip, port)).collect()
}

fn listen(sockets: &[SocketAddr], host: &Arc<Host>) -> Result<Listener, TransferError> {
    let device = DeviceKey::generate().map_err(|error| TransferError::Network(error.into()))?;
    let mut fault = None;
    for &socket in sockets {
        let gatekeeper: Arc<dyn Gatekeeper> = Arc::clone(host) as _;
        match Listener::bind(socket, device.clone(), gatekeeper) {
            Ok(listener) => return Ok(listener),
            Err(error) => fault = Some(error),
        }
    }
    Err(TransferError::Network(fault.unwrap_or(TransportError::Closed).into()))
}

fn tell_notices(walk: &Walk, observer: &dyn Observer) -> u64 {
    for notice in &walk.notices {
        observer.event(&Event::Notice { text: notice.to_string() });
    }
    if walk.notices_untold > 0 {
        observer.event(&Event::Notice { text: format!("and {} more like these", walk.notices_untold) });
    }
    walk.failures
}

fn source_failure(error: SourceError) -> TransferError {
    let class = match &error {
        SourceError::Stopped => return TransferError::Interrupted,
        SourceError::Changed { .. } | SourceError::Vanished { .. } => return TransferError::SourceChanged { files: 1 },
        _ => "cannot offer what was asked for",
    };
    TransferError::Io { what: class.into(), cause: error.into() }
}

/// What it said is printable: this program wrote it, but it may quote a name.
fn panicked_text(error: &TransferError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("a receiver's session ended, the others go on: {error}: {}", printable(&cause))
}

fn ended_text(end: &End) -> String {
    match end {
        End::PeerFault(fault) => format!("a receiver broke the protocol: {fault}"),
        End::Refused(Refusal::Declined) => "a receiver declined the offer".into(),
        End::Refused(_) | End::Declined | End::OfferChanged => "a receiver stopped before the end".into(),
        End::Complete => "a receiver has everything".into(),
    }
}

fn stranger_text(event: ListenerEvent) -> Option<String> {
    match event {
        ListenerEvent::BadProof { peer, count } => Some(format!("{peer} tried a wrong link ({count} so far)")),
        ListenerEvent::NotHaul { peer } => Some(format!("{peer} connected without speaking haul's protocol")),
        ListenerEvent::OutOfResources => Some("this machine is out of descriptors or threads; waiting for some".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_panics_ends_alone_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"a").unwrap();
        let paths = [folder.path().join("a")];
        let walk = Source::walk(&paths, &WalkOptions::default()).unwrap();
        let (events, inbox) = mpsc::channel();
        let host = Host {
            offer: Arc::new(Offer::new(walk).unwrap()),
            state: OfferState::load(None, &offer_id(&paths).unwrap()).unwrap(),
            lanes: 1,
            counters: Arc::default(),
            sessions: Mutex::default(),
            next_number: AtomicU64::new(1),
            events: Mutex::new(events),
        };
        let peer_address = SocketAddr::from(([127, 0, 0, 1], 1));
        let intro = LaneIntro { purpose: Purpose::Control, who: Who::Link(host.state.room), peer_address };
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
