//! One receiver being served: each of its lanes has a thread that reads requests and carries out their answers.

use super::frames::{Incoming, LaneFault, read_frame, send_message};
use super::offer::{Changed, Offer, change};
use super::push::News;
use crate::limits::{LANE_SILENCE_MAX, PIECE_BYTES_MAX, SESSION_LANES_MAX, WORKING_EVERY};
use crate::manifest::{ChunkPlace, EntryIndex};
use crate::session::{
    ChunksToServe, End, LaneId, LaneRole, PeerFault, Sender, SenderInput, SenderOutput, SenderSettings,
};
use crate::transport::{AbortHandle, Lane};
use crate::wire::{Encoding, Message, Piece, SessionGrant, piece_head};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A session with one receiver.
#[derive(Debug)]
pub(super) struct ServedSession {
    pub(super) number: u64,
    pub(super) peer: SocketAddr,
    pub(super) counters: Arc<ServedCounters>,
    offer: Arc<Offer>,
    /// Who is told what its receiver wants, where this side connected to it.
    wishes: Option<mpsc::Sender<News>>,
    began: Instant,
    inner: Mutex<Inner>,
}

/// Who connected, and so who says what further lanes prove.
#[derive(Debug)]
pub(super) enum Terms {
    /// The receiver did: this is what it is granted.
    Granting(SessionGrant),
    /// This side did: here it is told what the receiver wants of it.
    Pushing(mpsc::Sender<News>),
}

/// What a receiver wants that this side connected to.
#[derive(Debug)]
pub(super) enum Wish {
    /// Hashes or the seal: it took the offer.
    Contents,
    /// That further lanes prove this.
    Grant(SessionGrant),
    /// So many further data lanes.
    Lanes(u16),
}

/// What all sessions of a sender did together.
#[derive(Debug, Default)]
pub(super) struct ServedCounters {
    /// Bytes of files sent in pieces, zero pieces included.
    pub(super) piece_bytes: AtomicU64,
    /// Bytes of TLS sent over lanes that ended.
    pub(super) wire_bytes: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    sender: Sender,
    next_lane: u32,
    /// The lanes that are served.
    served: BTreeMap<LaneId, ServedLane>,
    end: Option<(End, u32)>,
    control_lanes: u32,
    /// When its last lane ended.
    idle_since: Option<Instant>,
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
        let inner =
            Inner { sender, next_lane: 0, served: BTreeMap::new(), end: None, control_lanes: 0, idle_since: None };
        Self { number, peer, counters, offer, wishes, began: Instant::now(), inner: Mutex::new(inner) }
    }

    /// Serves `lane` until it or the session ends. Says so once for the session, on its control lane.
    pub(super) fn serve(&self, mut lane: Lane, role: LaneRole) -> Option<Served> {
        let id = self.add_lane(&lane, role)?;
        let outcome = self.serve_frames(&mut lane, id, role);
        if let Err(LaneFault::Frame(_)) = &outcome {
            self.end_badly();
        }
        self.counters.wire_bytes.fetch_add(lane.bytes_sent(), Ordering::Relaxed);
        self.step(SenderInput::LaneLost { lane: id });
        // Nobody is left to read it where this fails.
        let _ = lane.close();
        let mut inner = self.lock();
        inner.served.remove(&id);
        inner.idle_since = inner.served.is_empty().then(Instant::now);
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

    /// Whether there is a control lane.
    pub(super) fn has_control(&self) -> bool {
        self.lock().control_lanes > 0
    }

    /// For how long it has had no lane; nothing while it has any.
    pub(super) fn idle(&self) -> Option<Duration> {
        self.lock().idle_since.map(|since| since.elapsed())
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
        if inner.served.len() >= 2 * SESSION_LANES_MAX {
            return None;
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

    fn serve_frames(&self, lane: &mut Lane, id: LaneId, role: LaneRole) -> Result<(), LaneFault> {
        if role == LaneRole::Control {
            self.lock().control_lanes += 1;
        }
        let mut piece = vec![0; PIECE_BYTES_MAX as usize];
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
                    SenderOutput::Hash { chunks, .. } => {
                        self.wish(Wish::Contents);
                        let offer = Arc::clone(&self.offer);
                        let outcome = work(lane, move || offer.hash(chunks))?;
                        self.step(SenderInput::Hashed { lane: id, outcome })
                    }
                    SenderOutput::Seal { without, .. } => {
                        self.wish(Wish::Contents);
                        let offer = Arc::clone(&self.offer);
                        let outcome = work(lane, move || offer.seal(&without))?;
                        self.step(SenderInput::Sealed { lane: id, outcome })
                    }
                    SenderOutput::Serve { request, .. } => {
                        self.send_chunks(lane, &request, &mut piece)?;
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
            outputs = match incoming {
                Incoming::Message(message) => self.step(SenderInput::Message { lane: id, message }),
                Incoming::Piece { .. } => return Err(LaneFault::Frame(crate::wire::FrameFault::Kind)),
            };
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

    fn send_chunks(&self, lane: &mut Lane, request: &ChunksToServe, buffer: &mut [u8]) -> Result<(), LaneFault> {
        let mut held = request.held;
        let mut given_up = None;
        for number in request.ranges.iter().cloned().flatten() {
            let Some(place) = self.offer.listing.place(number) else { continue };
            if given_up == Some(place.entry) {
                continue;
            }
            let offset = std::mem::take(&mut held);
            if let Err((entry, change)) = self.send_chunk(lane, number, place, offset, request, buffer)? {
                send_message(lane, &Message::SourceChanged { entry: entry.0, change })?;
                given_up = Some(entry);
            }
        }
        Ok(())
    }

    fn send_chunk(
        &self,
        lane: &mut Lane,
        number: u64,
        place: ChunkPlace,
        mut offset: u64,
        request: &ChunksToServe,
        buffer: &mut [u8],
    ) -> Result<Result<(), Changed>, LaneFault> {
        if request.reread || self.offer.is_from_cache(number) {
            let offer = Arc::clone(&self.offer);
            if let Err(changed) = work(lane, move || offer.recheck(number))? {
                return Ok(Err(changed));
            }
        }
        let chunk_bytes = place.length().0;
        while offset < chunk_bytes {
            let length = u64::from(request.piece_bytes).min(chunk_bytes - offset);
            let Some(bytes) = usize::try_from(length).ok().and_then(|length| buffer.get_mut(..length)) else { break };
            let read = self.offer.source.read_chunk_into(place.entry.0, place.index, offset..offset + length, bytes);
            if let Err(fault) = read {
                return Ok(Err((EntryIndex(place.entry.0), change(&fault))));
            }
            let piece = Piece { chunk: number, offset, length: u32::try_from(length).unwrap_or(PIECE_BYTES_MAX) };
            if is_zero(bytes) {
                lane.send(&[&piece_head(piece, Encoding::Zero)])?;
            } else {
                lane.send(&[&piece_head(piece, Encoding::Raw), bytes])?;
            }
            self.counters.piece_bytes.fetch_add(length, Ordering::Relaxed);
            offset += length;
        }
        Ok(Ok(()))
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

/// Does `job` on the pool, and says `Working` as long as it takes.
fn work<T: Send + 'static>(lane: &mut Lane, job: impl FnOnce() -> T + Send + 'static) -> Result<T, LaneFault> {
    let (done, outcome) = mpsc::channel();
    rayon::spawn(move || drop(done.send(job())));
    loop {
        match outcome.recv_timeout(WORKING_EVERY) {
            Ok(outcome) => return Ok(outcome),
            Err(RecvTimeoutError::Timeout) => send_message(lane, &Message::Working)?,
            // The job panicked: a bug of ours, which ends this lane and no other.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(LaneFault::Transport(crate::transport::TransportError::Lost));
            }
        }
    }
}

/// Whether every byte is zero. Data that is not mostly differs in its first bytes.
fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| *word == [0; 64]) && rest.iter().all(|&byte| byte == 0)
}
