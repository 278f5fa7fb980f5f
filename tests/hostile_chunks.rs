//! An evil sender brings other bytes than it promised: bad-input rows 49 to 53.

#![allow(clippy::unwrap_used)]

#[path = "support/hostile.rs"]
mod hostile;

use haul::digest::ChunkDigest;
use haul::limits::CHUNK_BYTES_MIN;
use haul::manifest::EntryIndex;
use haul::session::{FileFault, Input, LaneId, LaneRole, Output, PeerFault};
use haul::wire::Message;
use hostile::{CONTROL, DATA, ReceiverVictim, hash_page, listing, piece, seal};

const PROMISED: ChunkDigest = ChunkDigest([1; 32]);
const OTHER: ChunkDigest = ChunkDigest([2; 32]);
const PIECE_BYTES: u32 = haul::limits::PIECE_BYTES_MIN;

/// A receiver that asked for chunk 0, of five pieces, the last of one byte, and for nothing else.
fn victim() -> ReceiverVictim {
    let mut victim = ReceiverVictim::fetching(&listing(&[("a", Some(4 * u64::from(PIECE_BYTES) - 9)), ("b", Some(1))]));
    victim.feed(CONTROL, &hash_page(0, &[PROMISED]));
    let asked = victim.sent().filter(|message| matches!(message, Message::ChunksRequest { .. })).count();
    assert_eq!(asked, 1);
    victim
}

fn bring_chunk(victim: &mut ReceiverVictim, lane: LaneId) {
    for offset in 0..4 {
        let length = if offset == 3 { PIECE_BYTES - 9 } else { PIECE_BYTES };
        victim.feed(lane, &piece(0, offset * u64::from(PIECE_BYTES), length));
    }
    assert!(matches!(victim.outputs.last(), Some(Output::Place { last: true, .. })));
}

#[test]
fn row_49_wrong_bytes_are_asked_for_once_more_over_another_lane_and_then_fail_their_file_alone() {
    let mut victim = victim();
    bring_chunk(&mut victim, DATA);
    victim.tell(Input::ChunkHashed { lane: DATA, chunk: 0, digest: OTHER });
    assert!(victim.outputs.contains(&Output::Discard { lane: DATA, chunk: 0 }));
    assert!(victim.outputs.contains(&Output::CloseLane { lane: DATA }));
    victim.tell(Input::LaneLost { lane: DATA, held: None });
    let second = LaneId(2);
    victim.tell(Input::LaneOpened { lane: second, role: LaneRole::Data });
    let rereads = victim.sent().filter(|message| matches!(message, Message::ChunksRequest { reread: true, .. }));
    assert_eq!(rereads.count(), 1);
    bring_chunk(&mut victim, second);
    victim.tell(Input::ChunkHashed { lane: second, chunk: 0, digest: OTHER });
    let failed = Output::FileFailed { entry: EntryIndex(0), fault: FileFault::Integrity };
    assert!(victim.outputs.contains(&failed));
    assert_eq!(victim.fault(), None, "the other file goes on");
    victim.assert_nothing_stored();
}

#[test]
fn row_50_a_piece_shorter_or_longer_than_asked_for_is_refused() {
    for length in [1, PIECE_BYTES - 1, PIECE_BYTES + 1, 2 * PIECE_BYTES] {
        let mut victim = victim();
        victim.feed(DATA, &piece(0, 0, length));
        victim.assert_refused(PeerFault::Piece);
    }
}

#[test]
fn row_51_pieces_that_are_not_due_are_refused() {
    let piece_bytes = u64::from(PIECE_BYTES);
    let not_due = [(1, 0), (2, 0), (u64::MAX, 0), (0, piece_bytes), (0, 1), (0, u64::MAX), (0, CHUNK_BYTES_MIN)];
    for (chunk, offset) in not_due {
        let mut victim = victim();
        victim.feed(DATA, &piece(chunk, offset, PIECE_BYTES));
        victim.assert_refused(PeerFault::Piece);
    }
}

#[test]
fn row_51_a_piece_or_a_chunk_that_came_already_is_refused() {
    let mut twice = victim();
    twice.feed(DATA, &[piece(0, 0, PIECE_BYTES), piece(0, 0, PIECE_BYTES)].concat());
    twice.assert_refused(PeerFault::Piece);
    let mut again = victim();
    bring_chunk(&mut again, DATA);
    again.feed(DATA, &piece(0, 0, PIECE_BYTES));
    again.assert_refused(PeerFault::Piece);
}

#[test]
fn pieces_on_a_lane_that_was_asked_for_none_are_refused() {
    let mut on_control = victim();
    on_control.feed(CONTROL, &piece(0, 0, PIECE_BYTES));
    on_control.assert_refused(PeerFault::Piece);
    let mut on_other = victim();
    on_other.tell(Input::LaneOpened { lane: LaneId(2), role: LaneRole::Data });
    on_other.feed(LaneId(2), &piece(0, 0, PIECE_BYTES));
    on_other.assert_refused(PeerFault::Piece);
}

#[test]
fn pieces_before_the_offer_is_accepted_are_refused() {
    let mut victim = ReceiverVictim::deciding(&listing(&[("a", Some(1))]));
    victim.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    victim.feed(DATA, &piece(0, 0, 1));
    victim.assert_refused(PeerFault::Piece);
}

#[test]
fn row_52_a_chunk_of_a_file_that_failed_is_dropped() {
    let mut victim = victim();
    victim.tell(Input::FileFailed { entry: EntryIndex(0), fault: FileFault::Disk });
    bring_chunk(&mut victim, DATA);
    victim.tell(Input::ChunkHashed { lane: DATA, chunk: 0, digest: PROMISED });
    assert_eq!(victim.outputs.last(), Some(&Output::Discard { lane: DATA, chunk: 0 }));
    assert_eq!(victim.fault(), None);
    victim.assert_nothing_stored();
}

#[test]
fn row_53_a_seal_that_is_not_made_of_the_hashes_is_refused() {
    let mut victim = victim();
    bring_chunk(&mut victim, DATA);
    victim.feed(CONTROL, &hash_page(1, &[PROMISED]));
    victim.feed(CONTROL, &seal([3; 32]));
    victim.assert_refused(PeerFault::Seal);
}

#[test]
fn a_chunk_that_no_lane_brought_is_not_claimed() {
    let mut victim = victim();
    // The hash is the promised one, and the bytes may even lie there: nobody asked this lane for them.
    victim.tell(Input::ChunkHashed { lane: DATA, chunk: 0, digest: PROMISED });
    victim.tell(Input::ChunkStored { lane: DATA, chunk: 0 });
    victim.assert_nothing_stored();
    bring_chunk(&mut victim, DATA);
    victim.tell(Input::LaneLost { lane: DATA, held: None });
    victim.tell(Input::ChunkHashed { lane: DATA, chunk: 0, digest: PROMISED });
    victim.assert_nothing_stored();
}
