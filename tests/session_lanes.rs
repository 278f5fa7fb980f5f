//! What a receiver does about lanes that are slow, silent or given up.

#![allow(clippy::unwrap_used)]

use haul::chunk::Length;
use haul::digest::{ChunkDigest, ListingDigest};
use haul::limits::{CHUNK_BYTES_MIN, CONTROL_PING_AFTER, LANE_SILENCE_MAX, PIECE_BYTES_MIN, STALLED_AFTER};
use haul::manifest::{Entry, EntryIndex, EntryKind, Listing, ListingBuilder, Mode, Timestamp};
use haul::rel_path::RelPath;
use haul::session::{End, Input, LaneId, LaneRole, Output, Plan, Receiver, ReceiverSettings};
use haul::wire::{FEATURES, Message, Piece, Refusal, SessionGrant, VERSION, WireEntry};
use std::collections::VecDeque;
use std::time::Duration;

const CONTROL: LaneId = LaneId(0);
const DATA: LaneId = LaneId(1);
const OTHER_DATA: LaneId = LaneId(2);
const DIGEST: ChunkDigest = ChunkDigest([7; 32]);

#[test]
fn chunks_of_a_lane_that_is_being_closed_are_nobody_elses_until_it_is_gone() {
    let mut side = Side::new(&[4 * CHUNK_BYTES_MIN]);
    side.give_hashes(4);
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    side.open_files();
    assert_eq!(side.asked_of(DATA), [0, 1, 2, 3]);
    side.bring(DATA, 0);
    side.pass(LANE_SILENCE_MAX);
    assert!(side.seen.contains(&Output::CloseLane { lane: DATA }));
    side.tell(Input::LaneOpened { lane: OTHER_DATA, role: LaneRole::Data });
    assert_eq!(side.asked_of(OTHER_DATA), [0u64; 0], "its thread may still write");
    side.tell(Input::ChunkHashed { lane: DATA, chunk: 0, digest: DIGEST });
    assert!(side.seen.iter().any(|output| matches!(output, Output::Claim { lane: DATA, chunk: 0, .. })));
    side.tell(Input::ChunkStored { lane: DATA, chunk: 0 });
    side.tell(Input::LaneLost { lane: DATA, held: None });
    assert_eq!(side.asked_of(OTHER_DATA), [1, 2, 3], "what is stored is not asked for again");
}

#[test]
fn what_came_of_a_chunk_before_its_lane_was_lost_is_left_out_of_the_next_request() {
    let mut side = Side::new(&[4 * CHUNK_BYTES_MIN]);
    side.give_hashes(4);
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    side.open_files();
    let piece_bytes = side.seen.iter().find_map(piece_bytes).unwrap();
    side.bring(DATA, 0);
    side.tell(Input::ChunkHashed { lane: DATA, chunk: 0, digest: DIGEST });
    side.tell(Input::ChunkStored { lane: DATA, chunk: 0 });
    for place in 0..3 {
        let offset = u64::from(place * piece_bytes);
        side.tell(Input::PieceArrived { lane: DATA, piece: Piece { chunk: 1, offset, length: piece_bytes } });
    }
    side.seen.clear();
    // The third piece was announced and did not come whole.
    let landed = 2 * u64::from(piece_bytes);
    side.tell(Input::LaneLost { lane: DATA, held: Some((1, landed + 5)) });
    side.tell(Input::LaneOpened { lane: OTHER_DATA, role: LaneRole::Data });
    assert_eq!(side.held_of(OTHER_DATA), [(vec![1], landed), (vec![2, 3], 0)]);
    let piece = Piece { chunk: 1, offset: landed, length: piece_bytes };
    side.seen.clear();
    side.tell(Input::PieceArrived { lane: OTHER_DATA, piece });
    let place = side.listing.place(1).unwrap();
    assert_eq!(side.seen, [Output::Place { lane: OTHER_DATA, place, piece, last: false }]);
}

#[test]
fn what_is_held_stays_held_where_the_next_lane_brings_nothing() {
    let mut side = Side::new(&[4 * CHUNK_BYTES_MIN]);
    side.give_hashes(4);
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    side.open_files();
    let piece_bytes = side.seen.iter().find_map(piece_bytes).unwrap();
    side.tell(Input::PieceArrived { lane: DATA, piece: Piece { chunk: 0, offset: 0, length: piece_bytes } });
    side.tell(Input::LaneLost { lane: DATA, held: Some((0, u64::from(piece_bytes))) });
    for _ in 0..3 {
        side.seen.clear();
        side.tell(Input::LaneOpened { lane: OTHER_DATA, role: LaneRole::Data });
        assert_eq!(side.held_of(OTHER_DATA)[0], (vec![0], u64::from(piece_bytes)));
        side.tell(Input::LaneLost { lane: OTHER_DATA, held: None });
    }
    // A piece that was announced and did not come changes nothing.
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    let piece = Piece { chunk: 0, offset: piece_bytes.into(), length: piece_bytes };
    side.tell(Input::PieceArrived { lane: DATA, piece });
    side.tell(Input::LaneLost { lane: DATA, held: None });
    side.seen.clear();
    side.tell(Input::LaneOpened { lane: OTHER_DATA, role: LaneRole::Data });
    assert_eq!(side.held_of(OTHER_DATA)[0], (vec![0], u64::from(piece_bytes)));
}

#[test]
fn what_is_held_is_no_more_than_was_asked_and_nothing_of_a_chunk_that_came_damaged() {
    let mut side = Side::new(&[2 * CHUNK_BYTES_MIN]);
    side.give_hashes(2);
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    side.open_files();
    side.bring(DATA, 0);
    side.tell(Input::ChunkHashed { lane: DATA, chunk: 0, digest: ChunkDigest([8; 32]) });
    side.seen.clear();
    side.tell(Input::LaneLost { lane: DATA, held: Some((0, CHUNK_BYTES_MIN)) });
    side.tell(Input::LaneOpened { lane: OTHER_DATA, role: LaneRole::Data });
    assert_eq!(side.held_of(OTHER_DATA), [(vec![0], 0), (vec![1], 0)]);
    side.seen.clear();
    // Chunk 7 does not exist, and all of chunk 1 cannot be left out.
    side.tell(Input::LaneLost { lane: OTHER_DATA, held: Some((7, CHUNK_BYTES_MIN)) });
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    side.tell(Input::LaneLost { lane: DATA, held: Some((1, CHUNK_BYTES_MIN)) });
    side.seen.clear();
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    let all_but_one_piece = CHUNK_BYTES_MIN - u64::from(PIECE_BYTES_MIN);
    assert_eq!(side.held_of(DATA), [(vec![0], 0), (vec![1], all_but_one_piece)]);
}

#[test]
fn an_idle_control_lane_is_asked_at_once_where_a_data_lane_broke() {
    let mut side = Side::new(&[4 * CHUNK_BYTES_MIN]);
    side.give_hashes(4);
    side.tell(Input::Doubted);
    let pings = |side: &Side| {
        let ping = |output: &&Output| matches!(output, Output::Send { message: Message::Ping { .. }, .. });
        side.seen.iter().filter(ping).count()
    };
    assert_eq!(pings(&side), 0, "it owes the seal, and will be missed");
    side.tell(Input::Message { lane: CONTROL, message: Message::Seal { manifest: side.manifest() } });
    side.tell(Input::Doubted);
    side.tell(Input::Doubted);
    assert_eq!(pings(&side), 1, "once is enough");
}

#[test]
fn what_was_agreed_on_is_finished_without_the_host() {
    for offers_something_else in [false, true] {
        let mut side = Side::new(&[CHUNK_BYTES_MIN / 2]);
        side.give_hashes(1);
        side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
        side.tell(Input::Message { lane: CONTROL, message: Message::Seal { manifest: side.manifest() } });
        side.bring_all(DATA, 0, CHUNK_BYTES_MIN / 2);
        side.tell(Input::ChunkHashed { lane: DATA, chunk: 0, digest: DIGEST });
        side.tell(Input::LaneLost { lane: CONTROL, held: None });
        side.tell(Input::ChunkStored { lane: DATA, chunk: 0 });
        side.tell(Input::LaneLost { lane: DATA, held: None });
        assert!(side.seen.iter().any(|output| matches!(output, Output::Publish { .. })));
        side.tell(Input::FilePublished { entry: EntryIndex(0) });
        assert_eq!(side.seen.last(), Some(&Output::FinishFolders), "nobody has to be there for that");
        assert!(!side.receiver.has_everything());
        side.tell(Input::FoldersFinished { failed: 0 });
        assert!(side.receiver.has_everything());
        side.tell(Input::LaneOpened { lane: OTHER_DATA, role: LaneRole::Control });
        let digest = if offers_something_else { ListingDigest([9; 32]) } else { side.listing.digest() };
        let grant = SessionGrant { id: [1; 16], secret: [2; 32] };
        let welcome = Message::Welcome { version: VERSION, features: FEATURES, grant, lanes: 2, listing: digest };
        side.tell(Input::Message { lane: OTHER_DATA, message: welcome });
        if offers_something_else {
            assert_eq!(side.seen.last(), Some(&Output::End(End::Complete)), "there is nobody left to tell");
        } else {
            let done = Message::Done { files: 1, failed: 0 };
            assert_eq!(side.seen.last(), Some(&Output::Send { lane: OTHER_DATA, message: done }));
        }
    }
}

#[test]
fn a_lane_on_which_bytes_trickle_is_slow_and_not_silent() {
    let mut side = Side::new(&[4 * CHUNK_BYTES_MIN]);
    side.give_hashes(4);
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    side.open_files();
    side.seen.clear();
    for _ in 0..60 {
        side.now += STALLED_AFTER / 2;
        side.tell(Input::Heard { lane: DATA });
        side.tell(Input::Heard { lane: CONTROL });
        side.tell(Input::Tick);
    }
    let closed = |side: &Side| side.seen.iter().any(|output| matches!(output, Output::CloseLane { lane: DATA }));
    assert!(!closed(&side), "a minute without a whole piece");
    side.pass(LANE_SILENCE_MAX);
    assert!(closed(&side), "and without a byte");
}

#[test]
fn near_the_end_an_idle_lane_takes_over_from_one_that_has_stalled_and_from_no_other() {
    let mut side = Side::new(&[4 * CHUNK_BYTES_MIN]);
    side.give_hashes(4);
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    side.open_files();
    assert_eq!(side.asked_of(DATA), [0, 1, 2, 3]);
    side.tell(Input::LaneOpened { lane: OTHER_DATA, role: LaneRole::Data });
    side.pass(STALLED_AFTER / 2);
    let piece_bytes = side.seen.iter().find_map(piece_bytes).unwrap();
    side.tell(Input::PieceArrived { lane: DATA, piece: Piece { chunk: 0, offset: 0, length: piece_bytes } });
    side.pass(STALLED_AFTER / 2);
    assert!(!side.seen.contains(&Output::CloseLane { lane: DATA }), "it brought something meanwhile");
    side.pass(STALLED_AFTER / 2);
    assert!(side.seen.contains(&Output::CloseLane { lane: DATA }));
    side.tell(Input::LaneLost { lane: DATA, held: Some((0, u64::from(piece_bytes))) });
    assert_eq!(side.held_of(OTHER_DATA), [(vec![0], u64::from(piece_bytes)), (vec![1, 2, 3], 0)]);
}

#[test]
fn a_control_lane_is_asked_for_a_sign_of_life_before_stalled_lanes_are_given_up() {
    let mut side = Side::new(&[4 * CHUNK_BYTES_MIN]);
    side.give_hashes(4);
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    side.open_files();
    side.tell(Input::Message { lane: CONTROL, message: Message::Seal { manifest: side.manifest() } });
    side.seen.clear();
    side.pass(STALLED_AFTER / 2);
    assert_eq!(side.seen, [Output::Send { lane: CONTROL, message: Message::Ping { token: 0 } }]);
    assert_eq!(side.receiver.heard_last(), Some(side.now), "it owes an answer from now on");
    let answered = side.now + STALLED_AFTER / 4;
    side.now = answered;
    side.tell(Input::Message { lane: CONTROL, message: Message::Pong { token: 0 } });
    assert!(side.receiver.wake().is_some_and(|at| at <= answered + STALLED_AFTER / 2), "and is asked again");
    assert_eq!(side.receiver.heard_last(), Some(answered), "a host that answers is there, however slow its disk");
}

#[test]
fn a_control_lane_that_broke_unnoticed_is_missed() {
    let mut side = Side::new(&[4 * CHUNK_BYTES_MIN]);
    side.give_hashes(4);
    side.seen.clear();
    side.tell(Input::Message { lane: CONTROL, message: Message::Seal { manifest: side.manifest() } });
    assert_eq!(side.receiver.wake(), Some(side.now + CONTROL_PING_AFTER));
    side.pass(CONTROL_PING_AFTER);
    let ping = Message::Ping { token: 0 };
    assert_eq!(side.seen, [Output::Send { lane: CONTROL, message: ping }]);
    side.tell(Input::Message { lane: CONTROL, message: Message::Pong { token: 0 } });
    side.pass(CONTROL_PING_AFTER);
    side.pass(LANE_SILENCE_MAX);
    assert_eq!(side.seen.last(), Some(&Output::CloseLane { lane: CONTROL }));
}

#[test]
fn a_data_lane_that_the_host_does_not_know_is_no_end_but_a_reason_to_connect_anew() {
    let mut side = Side::new(&[4 * CHUNK_BYTES_MIN]);
    side.give_hashes(4);
    side.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    side.open_files();
    side.seen.clear();
    let refused = Message::Refused { refusal: Refusal::Stopped };
    side.tell(Input::Message { lane: DATA, message: refused.clone() });
    assert_eq!(side.seen, [Output::CloseLane { lane: CONTROL }, Output::CloseLane { lane: DATA }]);
    side.tell(Input::LaneLost { lane: DATA, held: None });
    side.tell(Input::LaneOpened { lane: OTHER_DATA, role: LaneRole::Data });
    assert_eq!(side.asked_of(OTHER_DATA), [0, 1, 2, 3], "the session goes on");
    side.tell(Input::LaneOpened { lane: CONTROL, role: LaneRole::Control });
    side.tell(Input::Message { lane: CONTROL, message: refused });
    assert_eq!(
        side.seen.last(),
        Some(&Output::End(End::Refused(Refusal::Stopped))),
        "on the control lane it is the end"
    );
}

/// A receiver whose other side is the test.
struct Side {
    receiver: Receiver,
    listing: Listing,
    now: Duration,
    /// Everything but requests for hashes.
    seen: Vec<Output>,
    hashes_owed: VecDeque<u64>,
    hashed: u64,
}

impl Side {
    /// A receiver that has accepted one file of each length, and has no data lane.
    fn new(lengths: &[u64]) -> Self {
        let mut builder = ListingBuilder::new();
        for (place, &length) in lengths.iter().enumerate() {
            let path = RelPath::parse(&format!("f{place:04}")).unwrap();
            let kind = EntryKind::File { length: Length(length) };
            builder
                .push(Entry {
                    path,
                    kind,
                    mode: Mode::masked(0o644),
                    modified: Timestamp::clamped(0, 0),
                    attributes: haul::manifest::Attributes::NONE,
                })
                .unwrap();
        }
        let totals = builder.totals();
        let listing = builder.finish(totals).unwrap();
        let receiver = Receiver::new(ReceiverSettings { lanes: 2, grant: None, features: FEATURES });
        let mut side =
            Self { receiver, listing, now: Duration::ZERO, seen: Vec::new(), hashes_owed: VecDeque::new(), hashed: 0 };
        side.tell(Input::LaneOpened { lane: CONTROL, role: LaneRole::Control });
        let grant = SessionGrant { id: [1; 16], secret: [2; 32] };
        let digest = side.listing.digest();
        let welcome = Message::Welcome { version: VERSION, features: FEATURES, grant, lanes: 2, listing: digest };
        side.tell(Input::Message { lane: CONTROL, message: welcome });
        let entries = side.listing.entries().iter().map(WireEntry::from).collect();
        let page = Message::ListingPage { page: 0, entries, totals: Some(totals.into()) };
        side.tell(Input::Message { lane: CONTROL, message: page });
        side.tell(Input::Accepted(vec![Plan::Fetch; lengths.len()]));
        side
    }

    fn tell(&mut self, input: Input) {
        self.receiver.handle(self.now, input);
        while let Some(output) = self.receiver.poll() {
            match output {
                Output::Send { message: Message::HashesRequest { first, .. }, .. } => self.hashes_owed.push_back(first),
                other => self.seen.push(other),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.tell(Input::Tick);
    }

    /// Answers hash requests in order, with one hash each, until `count` more are of use.
    fn give_hashes(&mut self, count: u64) {
        let until = (self.hashed + count).min(self.listing.totals().chunks);
        while self.hashed < until {
            let first = self.hashes_owed.pop_front().unwrap();
            self.hashed += u64::from(first == self.hashed);
            self.tell(Input::Message { lane: CONTROL, message: Message::HashPage { first, digests: vec![DIGEST] } });
        }
    }

    fn manifest(&self) -> [u8; 32] {
        let mut seal = haul::manifest::SealHasher::new(self.listing.digest());
        for entry in self.listing.files() {
            let mut merger = haul::digest::RootMerger::new(self.listing.geometry(entry).unwrap());
            seal.push(self.listing.chunks_of(entry).filter_map(|_| merger.push(DIGEST)).last());
        }
        seal.finish().0
    }

    fn open_files(&mut self) {
        let opened: Vec<EntryIndex> = self.seen.iter().filter_map(opened_file).collect();
        for entry in opened {
            self.tell(Input::FileOpened { entry, claims: haul::chunk_set::ChunkSet::new(), has_older: false });
        }
    }

    /// Brings all pieces of the chunk that is due on a lane.
    fn bring(&mut self, lane: LaneId, chunk: u64) {
        self.bring_all(lane, chunk, CHUNK_BYTES_MIN);
    }

    fn bring_all(&mut self, lane: LaneId, chunk: u64, length: u64) {
        let piece_bytes = self.seen.iter().find_map(piece_bytes).unwrap();
        for offset in (0..length).step_by(piece_bytes as usize) {
            self.tell(Input::PieceArrived { lane, piece: Piece { chunk, offset, length: piece_bytes } });
        }
    }

    /// The requests on a lane: which chunks, and how much of the first is left out.
    fn held_of(&self, lane: LaneId) -> Vec<(Vec<u64>, u64)> {
        let of_request = |output: &Output| match output {
            Output::Send { lane: of, message: Message::ChunksRequest { gaps, held, .. } } if *of == lane => {
                let chunks = haul::chunk_set::ChunkSet::from_gaps(gaps).unwrap();
                Some((chunks.ranges().flatten().collect(), *held))
            }
            _ => None,
        };
        self.seen.iter().filter_map(of_request).collect()
    }

    fn asked_of(&self, lane: LaneId) -> Vec<u64> {
        let requests = self.seen.iter().filter_map(|output| match output {
            Output::Send { lane: of, message: Message::ChunksRequest { gaps, .. } } if *of == lane => Some(gaps),
            _ => None,
        });
        requests
            .flat_map(|gaps| haul::chunk_set::ChunkSet::from_gaps(gaps).unwrap().first_n(u64::MAX))
            .flatten()
            .collect()
    }
}

fn opened_file(output: &Output) -> Option<EntryIndex> {
    match output {
        Output::OpenFile { entry } => Some(*entry),
        _ => None,
    }
}

fn piece_bytes(output: &Output) -> Option<u32> {
    match output {
        Output::Send { message: Message::ChunksRequest { piece_bytes, .. }, .. } => Some(*piece_bytes),
        _ => None,
    }
}
