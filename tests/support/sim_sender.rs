//! The sending process of a simulation: drives a `Sender` for every receiver, reads the source, sends pieces.

use super::sim_core::{Core, Event};
use super::sim_net::{Arrival, ConnId, Side, SimNet};
use super::sim_older::segments;
use super::sim_push::Pusher;
use super::sim_source::{Offer, Source};
use haul::chunk::{ChunkIndex, Length};
use haul::codec::{Encoder, Level, is_zero};
use haul::digest::{chunk_digest, empty_file_digest};
use haul::limits::{PIECE_BYTES_MAX, WORKING_EVERY};
use haul::manifest::{EntryIndex, SealHasher};
use haul::outline::Segment;
use haul::session::{ChunksToServe, End, LaneId, LaneRole, Sender, SenderInput, SenderOutput, SenderSettings};
use haul::wire::{Change, Encoding, Frame, FrameHeader, Message, Piece, Refusal, SessionGrant};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// The process.
#[derive(Debug)]
pub(crate) struct SenderHost {
    pub(crate) run: u32,
    pub(crate) offer: Offer,
    pub(super) sessions: Vec<Session>,
    /// The session that each connection belongs to.
    pub(super) session_of: BTreeMap<ConnId, usize>,
    /// Where it connects to the receiver, and not the other way round.
    pub(super) pusher: Option<Pusher>,
    /// Hashes of a page at most.
    page_most: u64,
    lanes: u16,
    /// Set when something happened that must not.
    pub(crate) violation: Option<String>,
}

#[derive(Debug)]
pub(super) struct Session {
    sender: Sender,
    grant: SessionGrant,
    serving: BTreeMap<LaneId, Serving>,
    pub(super) end: Option<End>,
    /// Files that the receiver said to have failed.
    failed: u32,
    is_stopped: bool,
}

/// What is left of a request for chunks.
#[derive(Debug)]
struct Serving {
    chunks: VecDeque<u64>,
    offset: u64,
    request: ChunksToServe,
}

/// Work that takes time.
#[derive(Clone, Debug)]
pub(crate) enum SenderEvent {
    Connect { role: LaneRole },
    Connected { conn: ConnId },
    Watch,
    Hash { conn: ConnId, chunks: Range<u64> },
    Outline { conn: ConnId, entry: EntryIndex, offset: u64 },
    Seal { conn: ConnId, without: Vec<EntryIndex> },
    ServePiece { conn: ConnId },
    Working { conn: ConnId },
}

/// What a host needs of the world around it.
pub(crate) struct Around<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) net: &'a mut SimNet,
    pub(crate) source: &'a mut Source,
}

impl SenderHost {
    pub(crate) fn new(run: u32, offer: Offer, core: &mut Core) -> Self {
        let page_most = core.rng.scale(1, 64);
        let lanes = core.rng.between(1, 4) as u16;
        Self {
            run,
            offer,
            sessions: Vec::new(),
            session_of: BTreeMap::new(),
            pusher: None,
            page_most,
            lanes,
            violation: None,
        }
    }

    pub(crate) fn accepted(&mut self, around: &mut Around, conn: ConnId, role: LaneRole, grant: Option<[u8; 16]>) {
        let known = self.sessions.iter().position(|session| Some(session.grant.id) == grant && session.end.is_none());
        let session = match (known, role) {
            (Some(session), _) => session,
            (None, LaneRole::Control) => {
                let mut grant = SessionGrant { id: [0; 16], secret: [0; 32] };
                around.core.rng.fill(&mut grant.id);
                self.open_session(Some(grant))
            }
            (None, LaneRole::Data) => {
                around.net.close(&mut around.core.agenda, &mut around.core.rng, conn, Side::Sender);
                return;
            }
        };
        self.session_of.insert(conn, session);
        self.tell(around, session, SenderInput::LaneOpened { lane: LaneId(conn.0), role });
    }

    pub(crate) fn arrived(&mut self, around: &mut Around, conn: ConnId, arrival: Arrival) {
        if self.pusher.is_some() && !self.heard(around, conn, &arrival) {
            return;
        }
        let Some(&session) = self.session_of.get(&conn) else { return };
        let lane = LaneId(conn.0);
        match arrival {
            Arrival::Lost => {
                self.session_of.remove(&conn);
                self.sessions[session].serving.remove(&lane);
                self.tell(around, session, SenderInput::LaneLost { lane });
                self.lane_lost(around, conn);
            }
            Arrival::Frame(bytes) => match FrameHeader::decode_frame(&bytes) {
                Ok((Frame::Message(message), _)) => {
                    self.tell(around, session, SenderInput::Message { lane, message });
                }
                other => self.violation = Some(format!("the receiver sent {other:?}")),
            },
        }
    }

    pub(crate) fn happens(&mut self, around: &mut Around, event: SenderEvent) {
        match event {
            SenderEvent::Connect { role } => self.connect(around, role),
            SenderEvent::Connected { conn } => self.connected(around, conn),
            SenderEvent::Watch => self.watch(around),
            SenderEvent::Hash { conn, chunks } => {
                self.worked(around, conn);
                let Some(&session) = self.session_of.get(&conn) else { return };
                let outcome = self.hash(around.source, chunks);
                self.tell(around, session, SenderInput::Hashed { lane: LaneId(conn.0), outcome });
            }
            SenderEvent::Outline { conn, entry, offset } => {
                self.worked(around, conn);
                let Some(&session) = self.session_of.get(&conn) else { return };
                let segments = self.outline(around.source, entry, offset);
                self.tell(around, session, SenderInput::Outlined { lane: LaneId(conn.0), segments });
            }
            SenderEvent::Seal { conn, without } => {
                self.worked(around, conn);
                let Some(&session) = self.session_of.get(&conn) else { return };
                let outcome = self.seal(around.source, &without);
                self.tell(around, session, SenderInput::Sealed { lane: LaneId(conn.0), outcome });
            }
            SenderEvent::ServePiece { conn } => self.serve_piece(around, conn),
            SenderEvent::Working { conn } => self.send(around, conn, &Message::Working),
        }
    }

    /// The user ends it.
    pub(crate) fn stop(&mut self, around: &mut Around) {
        for session in 0..self.sessions.len() {
            if self.sessions[session].end.is_none() {
                self.sessions[session].is_stopped = true;
                self.tell(around, session, SenderInput::Stop);
            }
        }
    }

    /// How every session so far ended, and how many files it was told to have failed.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn ends(&self) -> Vec<Option<(End, u32)>> {
        self.sessions.iter().map(|session| session.end.clone().map(|end| (end, session.failed))).collect()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.sessions.iter().any(|session| session.is_stopped)
    }

    /// Whether a session ended well, as far as this process has heard of it.
    pub(crate) fn says_complete(&self, grant: [u8; 16]) -> bool {
        let of_pusher = self.pusher.as_ref().is_some_and(|pusher| pusher.grant == Some(grant));
        let of_grant = self.sessions.iter().find(|session| of_pusher || session.grant.id == grant);
        // One that its user stopped has its end: a receiver that has everything needs it no more.
        of_grant.is_none_or(|session| session.is_stopped || session.end == Some(End::Complete))
    }

    pub(super) fn open_session(&mut self, grant: Option<SessionGrant>) -> usize {
        let sender = Sender::new(SenderSettings {
            listing: self.offer.listing.clone(),
            page_starts: self.offer.page_starts.clone(),
            grant: grant.clone(),
            lanes: self.lanes,
        });
        self.sessions.push(Session {
            sender,
            grant: grant.unwrap_or(SessionGrant::NONE),
            serving: BTreeMap::new(),
            end: None,
            failed: 0,
            is_stopped: false,
        });
        self.sessions.len() - 1
    }

    pub(super) fn tell(&mut self, around: &mut Around, session: usize, input: SenderInput) {
        self.sessions[session].sender.handle(around.core.now(), input);
        while let Some(output) = self.sessions[session].sender.poll() {
            self.carry_out(around, session, output);
        }
    }

    fn carry_out(&mut self, around: &mut Around, session: usize, output: SenderOutput) {
        match output {
            SenderOutput::Send { lane, message } => self.send(around, ConnId(lane.0), &message),
            SenderOutput::Granted { grant } => self.granted(grant.id),
            SenderOutput::OpenLanes { lanes } => self.open_lanes(around, lanes),
            // The network here is slower than any limit.
            SenderOutput::Limit { .. } => {}
            SenderOutput::CloseLane { lane } => self.close(around, ConnId(lane.0)),
            SenderOutput::Hash { lane, chunks } => {
                self.work(around.core, SenderEvent::Hash { conn: ConnId(lane.0), chunks });
            }
            SenderOutput::Outline { lane, entry, offset } => {
                self.work(around.core, SenderEvent::Outline { conn: ConnId(lane.0), entry, offset });
            }
            SenderOutput::Seal { lane, without } => {
                self.work(around.core, SenderEvent::Seal { conn: ConnId(lane.0), without });
            }
            SenderOutput::Serve { lane, request } => {
                let chunks = request.ranges.iter().cloned().flatten().collect();
                let serving = Serving { chunks, offset: request.held, request };
                if self.sessions[session].serving.insert(lane, serving).is_some() {
                    self.violation = Some("a lane serves two requests at once".to_owned());
                }
                self.work(around.core, SenderEvent::ServePiece { conn: ConnId(lane.0) });
            }
            SenderOutput::End { end, failed } => self.ended(around, session, end, failed),
        }
    }

    fn ended(&mut self, around: &mut Around, session: usize, end: End, failed: u32) {
        around.core.note("sender ends", session as u64, u64::from(failed));
        let is_listed = match &end {
            End::Complete | End::Refused(Refusal::Declined | Refusal::Protocol) => true,
            End::Refused(Refusal::Stopped) => self.sessions[session].is_stopped,
            _ => false,
        };
        if !is_listed {
            self.violation = Some(format!("the sender ends with {end:?}"));
        }
        self.sessions[session].end = Some(end);
        self.sessions[session].failed = failed;
        let conns: Vec<_> = self.session_of.iter().filter(|(_, of)| **of == session).map(|(&conn, _)| conn).collect();
        for conn in conns {
            self.close(around, conn);
        }
    }

    pub(super) fn close(&mut self, around: &mut Around, conn: ConnId) {
        self.session_of.remove(&conn);
        around.net.close(&mut around.core.agenda, &mut around.core.rng, conn, Side::Sender);
    }

    fn send(&mut self, around: &mut Around, conn: ConnId, message: &Message) {
        match message.to_frame() {
            Ok(frame) => around.net.send(&mut around.core.agenda, &mut around.core.rng, conn, Side::Sender, frame),
            Err(fault) => self.violation = Some(format!("a message of the sender has no frame: {fault}")),
        }
    }

    /// Does work after a while, saying so every second unless the process hangs.
    fn work(&mut self, core: &mut Core, event: SenderEvent) {
        let conn = match &event {
            SenderEvent::Hash { conn, .. } | SenderEvent::Outline { conn, .. } | SenderEvent::Seal { conn, .. } => {
                Some(*conn)
            }
            _ => None,
        };
        if let (Some(conn), Some(pusher)) = (conn, &mut self.pusher) {
            pusher.working.insert(conn);
        }
        let is_slow = core.strikes(core.faults.slow_sender);
        let delay = if is_slow { core.rng.millis(500, 20_000) } else { core.rng.millis(0, 5) };
        let says_so = core.rng.chance(700);
        if let Some(conn) = conn.filter(|_| says_so) {
            let mut at = WORKING_EVERY;
            while at < delay {
                core.agenda.after(at, Event::Sender { run: self.run, event: SenderEvent::Working { conn } });
                at += WORKING_EVERY;
            }
        }
        core.agenda.after(delay, Event::Sender { run: self.run, event });
    }

    fn hash(
        &mut self,
        source: &mut Source,
        chunks: Range<u64>,
    ) -> Result<Vec<haul::digest::ChunkDigest>, (EntryIndex, Change)> {
        let mut digests = Vec::new();
        for number in chunks.take(self.page_most as usize) {
            match self.offer.hash(source, number) {
                Ok(digest) => digests.push(digest),
                Err(change) if digests.is_empty() => return Err(change),
                Err(_) => break,
            }
        }
        Ok(digests)
    }

    /// A page of as many segments as there are hashes in one of those; none of a file that changed.
    fn outline(&self, source: &Source, entry: EntryIndex, offset: u64) -> Vec<Segment> {
        let Ok(bytes) = self.offer.read(source, entry) else { return Vec::new() };
        let mut page = segments(Length(bytes.len() as u64), &bytes[offset as usize..]);
        page.truncate(self.page_most as usize);
        page
    }

    fn seal(
        &mut self,
        source: &mut Source,
        without: &[EntryIndex],
    ) -> Result<haul::digest::ManifestId, (EntryIndex, Change)> {
        let mut seal = SealHasher::new(self.offer.listing.digest());
        for entry in self.offer.listing.clone().files() {
            let is_empty = self.offer.listing.chunks_of(entry).is_empty();
            seal.push(match without.contains(&entry) {
                true => None,
                false if is_empty => Some(empty_file_digest()),
                false => Some(self.offer.root(source, entry)?),
            });
        }
        Ok(seal.finish())
    }

    fn serve_piece(&mut self, around: &mut Around, conn: ConnId) {
        let Some(&session) = self.session_of.get(&conn) else { return };
        let lane = LaneId(conn.0);
        let Some(serving) = self.sessions[session].serving.get_mut(&lane) else { return };
        let Some(&number) = serving.chunks.front() else {
            self.sessions[session].serving.remove(&lane);
            self.tell(around, session, SenderInput::ChunksServed { lane });
            return;
        };
        let pace = match serving.piece(&self.offer, around.source, number) {
            Ok((piece, bytes)) => {
                let frame = frame_of(around.core, piece, bytes, serving.request.zstd);
                let pace = around.net.time_of(frame.len());
                around.core.counts.add("piece bytes", u64::from(piece.length));
                around.core.note("piece", number, piece.offset);
                around.net.send(&mut around.core.agenda, &mut around.core.rng, conn, Side::Sender, frame);
                pace
            }
            Err((entry, change)) => {
                let mine = self.offer.listing.chunks_of(entry);
                serving.chunks.retain(|chunk| !mine.contains(chunk));
                serving.offset = 0;
                around.core.note("source changed in chunks", number, u64::from(entry.0));
                self.send(around, conn, &Message::SourceChanged { entry: entry.0, change });
                Duration::ZERO
            }
        };
        around.core.agenda.after(pace, Event::Sender { run: self.run, event: SenderEvent::ServePiece { conn } });
    }
}

impl Serving {
    /// The next piece and its bytes.
    fn piece(
        &mut self,
        offer: &Offer,
        source: &mut Source,
        number: u64,
    ) -> Result<(Piece, Vec<u8>), (EntryIndex, Change)> {
        let place = offer.listing.place(number).unwrap();
        let span = place.geometry.span(place.index).unwrap();
        let bytes = offer.read(source, place.entry).map_err(|change| (place.entry, change))?;
        let chunk = &bytes[span.offset.0 as usize..][..span.length.0 as usize];
        if self.request.reread && self.offset == 0 {
            let is_as_given = |index: ChunkIndex| chunk_digest(place.geometry, index, chunk);
            if is_as_given(place.index) != offer.listed_digest(source, number) {
                return Err((place.entry, Change::Content));
            }
        }
        let length = u64::from(self.request.piece_bytes).min(span.length.0 - self.offset);
        let piece = Piece { chunk: number, offset: self.offset, length: length as u32 };
        let part = chunk[self.offset as usize..][..length as usize].to_vec();
        self.offset += length;
        if self.offset == span.length.0 {
            self.offset = 0;
            self.chunks.pop_front();
        }
        Ok((piece, part))
    }
}

/// The piece as a frame, in some seeds with a bit of its payload flipped.
fn frame_of(core: &mut Core, piece: Piece, mut bytes: Vec<u8>, takes_zstd: bool) -> Vec<u8> {
    debug_assert!(piece.length <= PIECE_BYTES_MAX);
    if core.strikes(core.faults.damaged_piece) {
        let at = core.rng.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << core.rng.below(8);
        core.note("damaged piece", piece.chunk, piece.offset);
    }
    let mut encoder = Encoder::new();
    let shrunk = if takes_zstd { encoder.encode(&bytes, Level::MIN) } else { None };
    let (encoding, payload) = match shrunk {
        _ if is_zero(&bytes) => (Encoding::Zero, &[][..]),
        Some(shrunk) => (Encoding::Zstd, shrunk),
        None => (Encoding::Raw, &bytes[..]),
    };
    if encoding == Encoding::Zstd {
        core.counts.add("pieces that shrank", 1);
    }
    Frame::Piece { piece, encoding, payload }.encode().unwrap()
}
