//! An evil sender answers what was not asked, or not what was asked.

#![allow(clippy::unwrap_used)]

#[path = "support/hostile.rs"]
mod hostile;

use haul::digest::{ChunkDigest, ListingDigest};
use haul::limits::CHUNK_BYTES_MIN;
use haul::session::PeerFault;
use hostile::{CONTROL, DATA, ReceiverVictim, done_ack, frame, hash_page, listing, listing_page, message, ping, pong};
use hostile::{seal, source_changed, welcome, working};

fn victim() -> ReceiverVictim {
    ReceiverVictim::fetching(&listing(&[("a", Some(3 * CHUNK_BYTES_MIN)), ("b", Some(1))]))
}

#[test]
fn an_answer_of_another_kind_than_its_question_is_refused() {
    let digest = listing(&[("a", Some(3 * CHUNK_BYTES_MIN)), ("b", Some(1))]).digest();
    // The question under way is for hashes. Whatever else is said in its place would leave it open for ever.
    for answer in [welcome(digest), listing_page(0, &[], Some([0; 4])), seal([0; 32]), done_ack(), pong(0)] {
        let mut victim = victim();
        victim.feed(CONTROL, &answer);
        assert!(matches!(victim.fault(), Some(hostile::Fault::Peer(PeerFault::OutOfTurn(_)))), "{:?}", victim.fault());
        victim.assert_nothing_stored();
    }
}

#[test]
fn an_answer_without_a_question_is_refused() {
    let mut victim = ReceiverVictim::deciding(&listing(&[("a", Some(1))]));
    victim.feed(CONTROL, &hash_page(0, &[ChunkDigest([1; 32])]));
    victim.assert_refused(PeerFault::OutOfTurn("an answer without a question"));
}

#[test]
fn a_question_from_the_side_that_answers_is_refused() {
    for (variant, numbers) in [(0, &[1, 0][..]), (2, &[0]), (4, &[0, 1]), (8, &[0, 0]), (10, &[0, 0])] {
        let mut victim = victim();
        victim.feed(CONTROL, &message(variant, numbers));
        assert!(matches!(victim.fault(), Some(hostile::Fault::Peer(PeerFault::OutOfTurn(_)))), "message {variant}");
    }
}

#[test]
fn working_is_refused_where_nothing_is_owed() {
    let mut victim = ReceiverVictim::deciding(&listing(&[("a", Some(1))]));
    victim.feed(CONTROL, &working());
    victim.assert_refused(PeerFault::OutOfTurn("Working"));
}

#[test]
fn control_messages_are_refused_on_a_data_lane() {
    for bytes in [welcome(ListingDigest([0; 32])), hash_page(0, &[ChunkDigest([1; 32])]), seal([0; 32]), pong(1)] {
        let mut victim = victim();
        victim.feed(DATA, &bytes);
        victim.assert_refused(PeerFault::OutOfTurn("a message on a data lane"));
    }
}

#[test]
fn every_ping_has_one_pong_and_no_other_effect() {
    let mut victim = victim();
    let before = victim.outputs.len();
    for token in 0..1000 {
        victim.feed(CONTROL, &ping(token));
    }
    assert_eq!(victim.outputs.len() - before, 1000);
    assert_eq!(victim.fault(), None);
}

#[test]
fn hash_pages_out_of_place_too_long_or_empty_are_refused() {
    let digest = ChunkDigest([1; 32]);
    for (first, count) in [(1, 1), (u64::MAX, 1), (0, 0), (0, 2), (0, 1024)] {
        let mut victim = victim();
        victim.feed(CONTROL, &hash_page(first, &vec![digest; count]));
        assert!(matches!(victim.fault(), Some(hostile::Fault::Peer(PeerFault::Page(_)))), "{count} from {first}");
        victim.assert_nothing_stored();
    }
}

#[test]
fn digests_that_are_cut_off_are_refused() {
    let mut victim = victim();
    victim.feed(CONTROL, &frame(1, &[&[5, 0, 31][..], &[1; 31]].concat()));
    victim.assert_frame_refused(haul::wire::FrameFault::Message(haul::wire::MessageFault::Malformed));
}

#[test]
fn a_changed_source_that_is_not_in_question_is_refused() {
    for entry in [1, 2, u64::from(u32::MAX)] {
        let mut on_control = victim();
        on_control.feed(CONTROL, &source_changed(entry));
        on_control.assert_refused(PeerFault::UnknownEntry);
        let mut on_data = victim();
        on_data.feed(CONTROL, &hash_page(0, &[ChunkDigest([1; 32])]));
        on_data.feed(DATA, &source_changed(entry));
        on_data.assert_refused(PeerFault::UnknownEntry);
    }
}

#[test]
fn a_welcome_that_grants_no_lane_or_another_version_is_refused() {
    for (version, features, lanes) in [(0, 0, 4), (2, 0, 4), (1, 1 << 31, 4), (1, 0, 0)] {
        let mut victim = ReceiverVictim::new();
        victim.feed(CONTROL, &hostile::welcome_with(version, features, lanes, ListingDigest([0; 32])));
        let fault = if lanes == 0 { PeerFault::NoLanes } else { PeerFault::Version };
        victim.assert_refused(fault);
    }
}
