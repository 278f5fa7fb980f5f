//! The receivers of a sender as its user sees them: who is connected, how far each is, and what is done about one.

use super::controls::Order;
use super::host::Host;
use super::serve::{ServedCounters, ServedSession};
use super::{Event, Observer, PeerState, Phase, Progress};
use crate::limits::{CONTROL_PING_AFTER, STALLED_AFTER};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Data that moved so lately still does.
const MOVES_FOR: Duration = Duration::from_millis(300);

/// A receiver that waits for data, or is busy with what it has, says so more often.
const SILENT_AFTER: Duration = CONTROL_PING_AFTER.saturating_add(STALLED_AFTER);

/// What is known about all receivers.
pub(super) struct Crowd<'a> {
    host: &'a Host,
    observer: &'a dyn Observer,
    connected: BTreeSet<u64>,
    watched: BTreeMap<u64, Watched>,
}

/// What became of a receiver by the user's word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    LetIn,
    TurnedAway,
}

/// What was seen of one receiver last.
struct Watched {
    piece_bytes: u64,
    /// When more of them were sent.
    moved: Option<Instant>,
    /// Bytes that came from it over the lanes that it has, and when there were more.
    bytes_heard: u64,
    heard: Instant,
    has_stalled: bool,
    /// It has no connection, and the user was told so.
    is_gone: bool,
}

impl<'a> Crowd<'a> {
    pub(super) fn new(host: &'a Host, observer: &'a dyn Observer) -> Self {
        Self { host, observer, connected: BTreeSet::new(), watched: BTreeMap::new() }
    }

    /// A receiver is there, and may have what it asks for.
    pub(super) fn connected(&mut self, session: u64) {
        self.connected.insert(session);
        self.observer.event(&Event::Phase(Phase::Transferring));
    }

    /// A receiver is not there any more. Where it was the last one, somebody is waited for.
    pub(super) fn disconnected(&mut self, session: u64) {
        self.connected.remove(&session);
        if self.connected.is_empty() {
            self.observer.event(&Event::Phase(Phase::Waiting));
        }
    }

    /// Does what the user wants. Whether a receiver was let in or turned away.
    pub(super) fn obey(&mut self, order: Order) -> Option<Answer> {
        match order {
            Order::Accept(number) => {
                if let Some(session) = self.host.session(number).filter(|session| session.let_in()) {
                    self.observer.event(&Event::PeerConnected { peer: session.peer(), session: number });
                    self.connected(number);
                    return Some(Answer::LetIn);
                }
            }
            Order::Disconnect(number) => {
                if self.host.turn_away(number) {
                    self.observer.event(&Event::PeerRefused { session: number });
                    self.disconnected(number);
                    return Some(Answer::TurnedAway);
                }
            }
            Order::Limit(number, rate) => {
                if let Some(session) = self.host.session(number) {
                    session.limit.set(rate);
                }
            }
            Order::LimitAll(rate) => self.host.company.limit.set(rate),
        }
        None
    }

    /// Tells how far everybody is.
    pub(super) fn tell(&mut self, now: Instant) {
        let mut sessions = self.host.sessions();
        sessions.sort_by_key(|session| session.number);
        self.watched.retain(|number, _| sessions.iter().any(|session| session.number == *number));
        let mut busy = 0;
        for session in sessions {
            let watched = self.watched.entry(session.number).or_insert_with(|| Watched::new(now));
            let state = watched.look(&session, now);
            busy += usize::from(watched.moved.is_some_and(|moved| now.saturating_duration_since(moved) < MOVES_FOR));
            // Of one that is gone nothing is news, for as long as it may come back.
            if std::mem::replace(&mut watched.is_gone, state == PeerState::Gone) && state == PeerState::Gone {
                continue;
            }
            let progress = self.progress_of(&session.own);
            let (session, limit) = (session.number, session.limit.rate());
            self.observer.event(&Event::PeerProgress { session, progress, state, limit });
        }
        self.host.company.set_busy(busy);
    }

    /// Tells how far a receiver came that is done.
    pub(super) fn tell_last(&self, session: u64, sent: &ServedCounters) {
        let progress = self.progress_of(sent);
        self.observer.event(&Event::PeerProgress { session, progress, state: PeerState::Idle, limit: None });
    }

    fn progress_of(&self, counters: &ServedCounters) -> Progress {
        let totals = self.host.offer.listing.totals();
        let sent = counters.piece_bytes.load(Ordering::Relaxed);
        Progress {
            bytes_total: totals.bytes,
            bytes_done: sent.min(totals.bytes),
            bytes_fetched: sent,
            wire_bytes: counters.wire_bytes.load(Ordering::Relaxed),
            files_total: u64::from(totals.files),
            ..Progress::default()
        }
    }
}

impl Watched {
    fn new(now: Instant) -> Self {
        Self { piece_bytes: 0, moved: None, bytes_heard: 0, heard: now, has_stalled: false, is_gone: false }
    }

    fn look(&mut self, session: &ServedSession, now: Instant) -> PeerState {
        let sent = session.own.piece_bytes.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.piece_bytes, sent) < sent {
            self.moved = Some(now);
            self.has_stalled = false;
        }
        let is_serving = session.doing.serving.load(Ordering::Relaxed) > 0;
        let bytes_heard = session.bytes_heard();
        // Fewer, where a lane is gone.
        if std::mem::replace(&mut self.bytes_heard, bytes_heard) < bytes_heard {
            self.heard = now;
            self.has_stalled &= is_serving;
        }
        let is_limited = session.doing.limited.load(Ordering::Relaxed) > 0;
        let since = self.moved.map(|moved| now.saturating_duration_since(moved));
        // What was sent may lie before its door: one that is alive says something now and then.
        let is_silent = now.saturating_duration_since(self.heard) >= SILENT_AFTER;
        // A lane that is silent for long is given up. What it was to carry is still wanted.
        self.has_stalled |=
            (is_serving || is_silent) && !is_limited && since.is_some_and(|since| since >= STALLED_AFTER);
        if session.is_asked() {
            PeerState::Asking
        } else if session.idle().is_some() {
            PeerState::Gone
        } else if is_limited {
            PeerState::Limited
        } else if self.has_stalled {
            PeerState::Stalled
        } else if is_serving || since.is_some_and(|since| since < MOVES_FOR) {
            PeerState::Sending
        } else {
            PeerState::Idle
        }
    }
}
