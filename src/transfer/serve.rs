//! One receiver being served: each of its lanes has a thread that reads requests and carries out their answers.

use super::company::{Company, Turns};
use super::frames::{Incoming, LaneFault, read_frame, say_no, send_message};
use super::limit::Limit;
use super::offer::Offer;
use super::outlet::{Outlet, Press};
use super::pieces::{Doing, counted};
use super::push::News;
use super::shelf::Signs;
use super::wish::{Terms, Wish};
use crate::codec::Compression;
use crate::limits::{LANE_SILENCE_MAX, SESSION_LANES_MAX, WORKING_EVERY};
use crate::session::{End, LaneId, LaneRole, PeerFault, Sender, SenderInput, SenderOutput, SenderSettings};
use crate::transport::{AbortHandle, Lane, TransportError};
use crate::wire::{Message, Refusal};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A session with one receiver.
#[derive(Debug)]
pub(super) struct ServedSession {
    pub(super) number: u64,
    /// What all sessions of the sender did together.
    pub(super) counters: Arc<ServedCounters>,
    /// What this one did.
    pub(super) own: ServedCounters,
    /// How fast it may be, over all of its lanes together.
    pub(super) limit: Limit,
    /// The same as its receiver wants it.
    pub(super) wanted: Limit,
    /// What its lanes do right now.
    pub(super) doing: Doing,
    pub(super) company: Arc<Company>,
    pub(super) turns: Turns,
    /// What is done to make its pieces shorter.
    pub(super) press: Press,
    /// Of a browser, which has no lanes.
    pub(super) signs: Signs,
    pub(super) offer: Arc<Offer>,
    /// Who is told what its receiver wants, where this side connected to it.
    wishes: Option<mpsc::Sender<News>>,
    began: Instant,
    inner: Mutex<Inner>,
    /// Its standing is another one.
    decided: Condvar,
}

/// Whether a receiver may have what it asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// The user has yet to say.
    Asked,
    In,
    /// The user turned it away, before or after it was let in.
    Out,
}

/// What a session, or all sessions of a sender together, did.
#[derive(Debug, Default)]
pub(super) struct ServedCounters {
    /// Bytes of files sent in pieces, zero pieces included.
    pub(super) piece_bytes: AtomicU64,
    /// Bytes of TLS sent.
    pub(super) wire_bytes: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    /// Where its receiver is: the other end of its last control lane.
    peer: SocketAddr,
    sender: Sender,
    next_lane: u32,
    /// The lanes that are served.
    served: BTreeMap<LaneId, ServedLane>,
    end: Option<(End, u32)>,
    control_lanes: u32,
    /// When its last lane ended.
    idle_since: Option<Instant>,
    standing: Standing,
}

#[derive(Debug)]
struct ServedLane {
    role: LaneRole,
    abort: AbortHandle,
    /// Broken to make room for another; its thread is about to end.
    is_evicted: bool,
}

/// How a lane's serving ended.
#[derive(Debug)]
pub(super) enum Served {
    /// The session goes on, or was lost, without an end that both sides know of.
    Lost,
    /// The session ended. The second value counts the files that failed on the other side.
    Ended(End, u32),
}

impl ServedSession {
    pub(super) fn new(
        number: u64,
        peer: SocketAddr,
        offer: Arc<Offer>,
        counters: Arc<ServedCounters>,
        terms: Terms,
        lanes: u16,
    ) -> Self {
        let (grant, wishes) = match terms {
            Terms::Granting(grant) => (Some(grant), None),
            Terms::Pushing(wishes) => (None, Some(wishes)),
        };
        let settings = SenderSettings {
            listing: Arc::clone(&offer.listing),
            page_starts: Arc::clone(&offer.page_starts),
            grant,
            lanes,
        };
        let sender = Sender::new(settings);
        let inner = Inner {
            peer,
            sender,
            next_lane: 0,
            served: BTreeMap::new(),
            end: None,
            control_lanes: 0,
            idle_since: None,
            standing: Standing::In,
        };
        Self {
            number,
            counters,
            own: ServedCounters::default(),
            limit: Limit::default(),
            wanted: Limit::default(),
            doing: Doing::default(),
            company: Arc::default(),
            turns: Turns::default(),
            press: Press::new(Compression::Auto),
            signs: Signs::default(),
            offer,
            wishes,
            began: Instant::now(),
            inner: Mutex::new(inner),
            decided: Condvar::new(),
        }
    }

    /// The same session as one of several that share a machine, and a limit.
    pub(super) fn in_company(self, company: Arc<Company>) -> Self {
        Self { company, ..self }
    }

    /// The same session, with pieces compressed as the user wants it.
    pub(super) fn compressing(self, compression: Compression) -> Self {
        Self { press: Press::new(compression), ..self }
    }

    /// Tells its receiver nothing before [`ServedSession::let_in`].
    pub(super) fn ask_first(&self) {
        self.lock().standing = Standing::Asked;
    }

    /// Whether the user has yet to say what becomes of it.
    pub(super) fn is_asked(&self) -> bool {
        self.lock().standing == Standing::Asked
    }

    /// Why it is served no more.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        (self.lock().standing == Standing::Out).then_some(Refusal::Declined)
    }

    /// The user wants it. Whether that was the question.
    pub(super) fn let_in(&self) -> bool {
        let mut inner = self.lock();
        let was_asked = inner.standing == Standing::Asked;
        if was_asked {
            inner.standing = Standing::In;
            self.decided.notify_all();
        }
        was_asked
    }

    /// The user does not want it, or no longer: it is told so, and every lane ends.
    pub(super) fn turn_away(&self) {
        let mut inner = self.lock();
        inner.standing = Standing::Out;
        for lane in inner.served.values() {
            match lane.role {
                // It has something to say yet, and may be waiting to read.
                LaneRole::Control => lane.abort.stop_reading(),
                LaneRole::Data => lane.abort.abort(),
            }
        }
        self.decided.notify_all();
    }

    /// Serves `lane` until it or the session ends. Says so once for the session, on its control lane.
    pub(super) fn serve(&self, mut lane: Lane, role: LaneRole) -> Option<Served> {
        let id = self.add_lane(&lane, role)?;
        let mut outlet = Outlet::default();
        let outcome = self.serve_frames(&mut lane, id, role, &mut outlet);
        let is_out = self.lock().standing == Standing::Out;
        match &outcome {
            _ if is_out => say_no(&mut lane, Refusal::Declined),
            Err(LaneFault::Frame(_) | LaneFault::Payload(_)) => self.end_badly(),
            _ => {}
        }
        self.count_wire(&lane, &mut outlet);
        self.step(SenderInput::LaneLost { lane: id });
        // Nobody is left to read it where this fails.
        let _ = lane.close();
        let mut inner = self.lock();
        inner.served.remove(&id);
        inner.idle_since = inner.served.is_empty().then(Instant::now);
        if is_out {
            return None;
        }
        if let Some((end, failed)) = inner.end.take() {
            inner.abort();
            return Some(Served::Ended(end, failed));
        }
        let is_last_control = role == LaneRole::Control && inner.control_lanes == 1;
        if role == LaneRole::Control {
            inner.control_lanes -= 1;
        }
        (is_last_control && !inner.sender.is_ended()).then_some(Served::Lost)
    }

    /// Where its receiver is, as far as is known.
    pub(super) fn peer(&self) -> SocketAddr {
        self.lock().peer
    }

    /// Whether there is a control lane.
    pub(super) fn has_control(&self) -> bool {
        self.lock().control_lanes > 0
    }

    /// For how long it has had no lane; nothing while it has any.
    pub(super) fn idle(&self) -> Option<Duration> {
        self.lock().idle_since.or_else(|| self.signs.away_since()).map(|since| since.elapsed())
    }

    /// Bytes that came over the lanes that it has.
    pub(super) fn bytes_heard(&self) -> u64 {
        self.lock().served.values().map(|lane| lane.abort.bytes_received()).sum::<u64>() + self.signs.bytes_heard()
    }

    /// Ends every lane of the session.
    pub(super) fn abort(&self) {
        self.lock().abort();
    }

    /// Names a lane, or turns it away: each costs a thread and a buffer, whatever its receiver does with it. Where there
    /// are as many as there may be, the oldest makes room: a receiver that lost it need not be known to have.
    fn add_lane(&self, lane: &Lane, role: LaneRole) -> Option<LaneId> {
        let mut inner = self.lock();
        if inner.served.values().filter(|served| !served.is_evicted).count() >= SESSION_LANES_MAX {
            inner.evict();
        }
        if inner.served.len() >= 2 * SESSION_LANES_MAX || inner.standing == Standing::Out {
            return None;
        }
        if role == LaneRole::Control {
            inner.peer = lane.peer_address();
        }
        inner.idle_since = None;
        inner.next_lane += 1;
        let id = LaneId(inner.next_lane);
        inner.served.insert(id, ServedLane { role, abort: lane.abort_handle(), is_evicted: false });
        Some(id)
    }

    fn end_badly(&self) {
        let mut inner = self.lock();
        if inner.end.is_none() && !inner.sender.is_ended() {
            inner.sender.handle(self.began.elapsed(), SenderInput::Stop);
            inner.end = Some((End::PeerFault(PeerFault::Request), 0));
        }
    }

    fn serve_frames(&self, lane: &mut Lane, id: LaneId, role: LaneRole, outlet: &mut Outlet) -> Result<(), LaneFault> {
        if role == LaneRole::Control {
            self.lock().control_lanes += 1;
        }
        let mut outputs = self.step(SenderInput::LaneOpened { lane: id, role });
        loop {
            while let Some(output) = outputs.pop() {
                let further = match output {
                    SenderOutput::Send { lane: to, message } if to == id => {
                        send_message(lane, &message)?;
                        Vec::new()
                    }
                    // Only the end of a session is said on another lane than the one that asked; it sees the close.
                    SenderOutput::Send { .. } => Vec::new(),
                    SenderOutput::Granted { grant } => self.wish(Wish::Grant(grant)),
                    SenderOutput::OpenLanes { lanes } => self.wish(Wish::Lanes(lanes)),
                    SenderOutput::Limit { rate } => {
                        self.wanted.set(rate);
                        Vec::new()
                    }
                    SenderOutput::Hash { chunks, .. } => {
                        self.wish(Wish::Contents);
                        let outcome = self.offer.hash(&chunks, &mut |chore| self.act(lane, chore))?;
                        self.step(SenderInput::Hashed { lane: id, outcome })
                    }
                    SenderOutput::Outline { entry, offset, .. } => {
                        let segments = self.outline(lane, entry, offset)?;
                        self.step(SenderInput::Outlined { lane: id, segments })
                    }
                    SenderOutput::Seal { without, .. } => {
                        self.wish(Wish::Contents);
                        let outcome = self.offer.seal(&without, &mut |chore| self.act(lane, chore))?;
                        self.step(SenderInput::Sealed { lane: id, outcome })
                    }
                    SenderOutput::Serve { request, .. } => {
                        let _serving = counted(&self.doing.serving);
                        self.send_chunks(lane, &request, outlet)?;
                        self.step(SenderInput::ChunksServed { lane: id })
                    }
                    SenderOutput::CloseLane { .. } => return Ok(()),
                    SenderOutput::End { end, failed } => {
                        self.lock().end = Some((end, failed));
                        return Ok(());
                    }
                };
                outputs.splice(0..0, further);
            }
            // A receiver that thinks, or whose user does, owes nothing. One that this side connected to asks for a sign of
            // life all the same: nobody else would notice that it is gone.
            let must_ask = self.wishes.is_some() && role == LaneRole::Control;
            lane.set_silence_limit(must_ask.then_some(LANE_SILENCE_MAX));
            let incoming = read_frame(lane)?;
            lane.set_silence_limit(LANE_SILENCE_MAX);
            self.wait_until_let_in(lane)?;
            outputs = match incoming {
                Incoming::Message(message) => self.step(SenderInput::Message { lane: id, message }),
                Incoming::Piece { .. } => return Err(LaneFault::Frame(crate::wire::FrameFault::Kind)),
            };
        }
    }

    /// Waits for the user to say whether this receiver gets anything, where that is the question. One that does not, loses
    /// the lane.
    fn wait_until_let_in(&self, lane: &mut Lane) -> Result<(), LaneFault> {
        loop {
            let inner = self.lock();
            let is_open = |inner: &mut Inner| inner.standing == Standing::Asked;
            let waited = self.decided.wait_timeout_while(inner, WORKING_EVERY, is_open);
            match waited.unwrap_or_else(PoisonError::into_inner).0.standing {
                Standing::Asked => {}
                Standing::In => return Ok(()),
                Standing::Out => return Err(LaneFault::Transport(TransportError::Closed)),
            }
            send_message(lane, &Message::Working)?;
        }
    }

    fn wish(&self, wish: Wish) -> Vec<SenderOutput> {
        if let Some(wishes) = &self.wishes {
            // Where nobody listens any more the session is over.
            let _ = wishes.send(News::Wish(wish));
        }
        Vec::new()
    }

    /// Feeds the session and returns what it wants, the last thing first.
    fn step(&self, input: SenderInput) -> Vec<SenderOutput> {
        let mut inner = self.lock();
        inner.sender.handle(self.began.elapsed(), input);
        let mut outputs: Vec<_> = std::iter::from_fn(|| inner.sender.poll()).collect();
        outputs.reverse();
        outputs
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn abort(&self) {
        self.served.values().for_each(|served| served.abort.abort());
    }

    /// Breaks the oldest data lane; there are more of them than of control lanes, or the receiver makes no sense.
    fn evict(&mut self) {
        let data = |served: &&mut ServedLane| !served.is_evicted && served.role == LaneRole::Data;
        if let Some(oldest) = self.served.values_mut().find(data) {
            oldest.is_evicted = true;
            oldest.abort.abort();
        }
    }
}
