//! One lane as the receiver sees it: what it owes, how fast it is, how far its answers are.

use crate::limits::{
    LANE_SILENCE_MAX, PIECE_BYTES_MAX, PIECE_BYTES_MIN, PIECE_TIME, REQUESTS_PIPELINED_MAX, STALLED_AFTER,
    WINDOW_BYTES_MAX, WINDOW_BYTES_MIN,
};
use crate::manifest::{ChunkPlace, EntryIndex, Listing};
use crate::session::{LaneRole, PeerFault};
use crate::wire::{Message, Piece};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// A lane's state.
#[derive(Debug)]
pub(super) struct Lane {
    role: LaneRole,
    welcomed: bool,
    /// Given up; what it was asked for stays its own until the driver says that it is gone.
    closing: bool,
    /// Answers owed on a control lane, in order.
    answers_owed: VecDeque<Answer>,
    /// Chunks asked for on a data lane, in answer order.
    asked: VecDeque<Asked>,
    bytes_owed: u64,
    /// Chunks whose last piece came and that are neither stored nor discarded.
    landed: Vec<u64>,
    last_heard: Duration,
    pace: Pace,
}

/// What a request on a control lane is to be answered with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    DoneAck,
    HashPage,
    ListingPage,
    OutlinePage,
    Pong,
    Seal,
    Welcome,
}

/// A run of chunks that one request asked for.
#[derive(Debug)]
struct Asked {
    chunks: Range<u64>,
    offset: u64,
    /// Bytes of the first chunk that lay in their place before it was asked for; none once that chunk has come.
    held: u64,
    piece_bytes: u32,
    request: u64,
}

/// What was measured of a lane.
#[derive(Debug)]
struct Pace {
    requests: u64,
    /// The request that the lane was idle before, and when it was sent: its first piece measures the round trip.
    probe: Option<(u64, Duration)>,
    round_trip: Option<Duration>,
    bytes_per_second: f64,
    counted_since: Duration,
    counted: u64,
    /// Whether a piece came.
    has_brought: bool,
}

impl Lane {
    /// A lane that is expected to carry `rate` bytes a second; zero where nothing is known.
    pub(super) fn new(role: LaneRole, rate: f64) -> Self {
        Self {
            role,
            welcomed: false,
            closing: false,
            answers_owed: VecDeque::new(),
            asked: VecDeque::new(),
            bytes_owed: 0,
            landed: Vec::new(),
            last_heard: Duration::ZERO,
            pace: Pace {
                requests: 0,
                probe: None,
                round_trip: None,
                bytes_per_second: rate,
                counted_since: Duration::ZERO,
                counted: 0,
                has_brought: false,
            },
        }
    }

    /// Bytes a second, as measured or expected; zero where nothing is known.
    pub(super) fn rate(&self) -> f64 {
        self.pace.bytes_per_second
    }

    /// What a lane after this one is expected to carry: one that lived too short for a piece makes the next ones shorter.
    pub(super) fn rate_for_next(&self) -> f64 {
        if self.pace.has_brought || self.asked.is_empty() { self.rate() } else { self.rate() / 4.0 }
    }

    /// Whether a lane that carries `rate` bytes a second does what is left of this one's work much sooner.
    pub(super) fn is_outdone_by(&self, now: Duration, rate: f64) -> bool {
        if !self.owes() {
            return false;
        }
        let is_stalled = now.saturating_sub(self.last_heard) >= STALLED_AFTER;
        // Precision is lost above 2^52 bytes, which no lane owes.
        #[allow(clippy::cast_precision_loss)]
        let owed = self.bytes_owed as f64;
        let is_known = rate > 0.0 && self.rate() > 0.0;
        is_stalled || (is_known && owed / self.rate() > STALLED_AFTER.as_secs_f64() + 4.0 * owed / rate)
    }

    pub(super) fn last_heard(&self) -> Duration {
        self.last_heard
    }

    pub(super) fn role(&self) -> LaneRole {
        self.role
    }

    /// Whether requests other than `Hello` may be sent.
    pub(super) fn is_ready(&self) -> bool {
        (self.welcomed || self.role == LaneRole::Data) && !self.closing
    }

    /// Gives the lane up: nothing more is asked of it or taken from it. Chunks that landed may still be stored.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn welcome(&mut self) {
        self.welcomed = true;
    }

    pub(super) fn owes(&self) -> bool {
        !self.closing && (!self.answers_owed.is_empty() || !self.asked.is_empty())
    }

    /// Bytes of chunks that it was asked for and that did not come.
    pub(super) fn bytes_owed(&self) -> u64 {
        self.bytes_owed
    }

    /// When the lane is dead unless something is heard before.
    pub(super) fn dead_at(&self) -> Option<Duration> {
        self.owes().then(|| self.last_heard + LANE_SILENCE_MAX)
    }

    /// Since when a control lane owes nothing and says nothing.
    pub(super) fn idle_since(&self) -> Option<Duration> {
        let is_idle = self.role == LaneRole::Control && self.is_ready() && !self.owes();
        is_idle.then_some(self.last_heard)
    }

    pub(super) fn heard(&mut self, now: Duration) {
        self.last_heard = now;
    }

    /// Notes a request for one message.
    pub(super) fn asked(&mut self, now: Duration, answer: Answer) {
        if !self.owes() {
            self.last_heard = now;
        }
        self.answers_owed.push_back(answer);
    }

    /// Notes `message` as the answer to the first request that has none. An answer of another kind is refused: it
    /// would leave its request open for ever.
    pub(super) fn answered(&mut self, message: &Message) -> Result<(), PeerFault> {
        let answer = self.answers_owed.pop_front().ok_or(PeerFault::OutOfTurn("an answer without a question"))?;
        if answer.is(message) { Ok(()) } else { Err(PeerFault::OutOfTurn("the answer to another question")) }
    }

    /// Notes a request for chunks of `bytes` in all, of the first of which `held` are left out.
    pub(super) fn asked_for(&mut self, now: Duration, ranges: &[Range<u64>], bytes: u64, piece_bytes: u32, held: u64) {
        let request = self.pace.requests;
        self.pace.requests += 1;
        if !self.owes() {
            self.last_heard = now;
            self.pace.probe = Some((request, now));
            self.pace.counted_since = now;
            self.pace.counted = 0;
        }
        self.bytes_owed += bytes - held;
        let held = std::iter::once(held).chain(std::iter::repeat(0));
        let asked = ranges.iter().cloned().zip(held);
        self.asked.extend(asked.map(|(chunks, held)| Asked { chunks, offset: held, held, piece_bytes, request }));
    }

    /// Whether another request keeps the pipe full, and the sender takes it.
    pub(super) fn has_room(&self) -> bool {
        let unanswered = self.asked.front().map_or(0, |asked| self.pace.requests - asked.request);
        self.bytes_owed < self.window() && unanswered < REQUESTS_PIPELINED_MAX
    }

    /// Bytes to keep asked for: twice what the lane carries in a round trip, so that the next request is there before
    /// the last answer ends, and a floor for lanes that were not measured yet.
    fn window(&self) -> u64 {
        let round_trip = self.pace.round_trip.unwrap_or_default().max(TURNAROUND);
        let in_flight = self.pace.bytes_per_second * round_trip.as_secs_f64() * 2.0;
        // The cast saturates; the clamp follows.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let in_flight = in_flight as u64;
        WINDOW_BYTES_MIN.saturating_add(in_flight).min(WINDOW_BYTES_MAX)
    }

    /// Piece length that takes about 50 ms at the measured rate, and the shortest where none was: a connection may not live
    /// for longer than that.
    pub(super) fn piece_bytes(&self) -> u32 {
        let target = self.pace.bytes_per_second * PIECE_TIME.as_secs_f64();
        let mut bytes = PIECE_BYTES_MAX;
        while bytes > PIECE_BYTES_MIN && f64::from(bytes) > target {
            bytes /= 2;
        }
        bytes
    }

    /// Checks that `piece` is the one that is due, and says where it goes and whether it completes its chunk.
    pub(super) fn take_piece(
        &mut self,
        now: Duration,
        piece: Piece,
        listing: &Listing,
    ) -> Result<(ChunkPlace, bool), PeerFault> {
        self.heard(now);
        let asked = self.asked.front_mut().ok_or(PeerFault::Piece)?;
        let place = listing.place(asked.chunks.start).ok_or(PeerFault::Piece)?;
        let chunk_bytes = place.length().0;
        let due = u64::from(asked.piece_bytes).min(chunk_bytes - asked.offset);
        if piece.chunk != asked.chunks.start || piece.offset != asked.offset || u64::from(piece.length) != due {
            return Err(PeerFault::Piece);
        }
        self.pace.piece(now, asked.request, due);
        asked.offset += due;
        self.bytes_owed = self.bytes_owed.saturating_sub(due);
        let last = asked.offset == chunk_bytes;
        if last {
            self.landed.push(asked.chunks.start);
            (asked.offset, asked.held) = (0, 0);
            asked.chunks.start += 1;
            if asked.chunks.is_empty() {
                self.asked.pop_front();
            }
        }
        Ok((place, last))
    }

    /// Whether the lane brought this chunk, which is not settled.
    pub(super) fn has_landed(&self, chunk: u64) -> bool {
        self.landed.contains(&chunk)
    }

    /// Notes that a chunk which this lane brought is stored or discarded. False if the lane brought no such chunk.
    pub(super) fn settled(&mut self, chunk: u64) -> bool {
        let before = self.landed.len();
        self.landed.retain(|&landed| landed != chunk);
        self.landed.len() < before
    }

    /// Takes the rest of the request under way out, as far as it belongs to `entry`, whose next chunk is due. Returns
    /// nothing where it is not.
    pub(super) fn drop_entry(&mut self, listing: &Listing, entry: EntryIndex) -> Option<()> {
        let mine = listing.chunks_of(entry);
        let request = self.asked.front().filter(|asked| mine.contains(&asked.chunks.start))?.request;
        while let Some(asked) = self.asked.front_mut() {
            if asked.request != request || !mine.contains(&asked.chunks.start) {
                break;
            }
            let end = asked.chunks.end.min(mine.end);
            for chunk in asked.chunks.start..end {
                let bytes = listing.place(chunk).map_or(0, |place| place.length().0) - asked.offset;
                self.bytes_owed = self.bytes_owed.saturating_sub(bytes);
                (asked.offset, asked.held) = (0, 0);
            }
            asked.chunks.start = end;
            if asked.chunks.is_empty() {
                self.asked.pop_front();
            }
        }
        Some(())
    }

    /// The chunks of which some was held when they were asked for, and how much.
    pub(super) fn held(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.asked.iter().filter(|asked| asked.held > 0).map(|asked| (asked.chunks.start, asked.held))
    }

    /// Every chunk that the lane was asked for and that is not known to be stored.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let landed = self.landed.iter().map(|&chunk| chunk..chunk + 1);
        self.asked.iter().map(|asked| asked.chunks.clone()).chain(landed)
    }
}

/// The least that counts as a round trip: on the fastest links it is either side's time to wake and to finish a chunk.
const TURNAROUND: Duration = Duration::from_millis(2);

impl Answer {
    fn is(self, message: &Message) -> bool {
        match self {
            Self::DoneAck => matches!(message, Message::DoneAck),
            Self::HashPage => matches!(message, Message::HashPage { .. } | Message::SourceChanged { .. }),
            Self::ListingPage => matches!(message, Message::ListingPage { .. }),
            Self::OutlinePage => matches!(message, Message::OutlinePage { .. }),
            Self::Pong => matches!(message, Message::Pong { .. }),
            Self::Seal => matches!(message, Message::Seal { .. } | Message::SourceChanged { .. }),
            Self::Welcome => matches!(message, Message::Welcome { .. }),
        }
    }
}

impl Pace {
    /// How long bytes are counted before the rate is taken.
    const INTERVAL: Duration = Duration::from_millis(100);

    fn piece(&mut self, now: Duration, request: u64, bytes: u64) {
        if let Some((probe, sent)) = self.probe
            && probe == request
        {
            let round_trip = now.saturating_sub(sent);
            self.round_trip = Some(self.round_trip.map_or(round_trip, |least| least.min(round_trip)));
            self.probe = None;
        }
        self.has_brought = true;
        self.counted += bytes;
        let elapsed = now.saturating_sub(self.counted_since);
        if elapsed >= Self::INTERVAL {
            // Precision is lost above 2^52 bytes in one interval, which no link carries.
            #[allow(clippy::cast_precision_loss)]
            let rate = self.counted as f64 / elapsed.as_secs_f64();
            self.bytes_per_second =
                if self.bytes_per_second > 0.0 { self.bytes_per_second * 0.7 + rate * 0.3 } else { rate };
            self.counted_since = now;
            self.counted = 0;
        }
    }
}
