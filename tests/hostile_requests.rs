//! An evil receiver asks for what is not on offer, or for too much: bad-input rows 54 to 56.

#[path = "support/hostile.rs"]
mod hostile;

use haul::limits::{CHUNK_BYTES_MIN, REQUESTS_QUEUED_MAX};
use haul::session::{PeerFault, SenderInput, SenderOutput};
use hostile::{CONTROL, DATA, SenderVictim, chunks_request, done, hashes_request, hello, listing, listing_request};
use hostile::{message, ping, seal_request};
use std::num::NonZeroU64;

const PIECE_BYTES: u64 = 64 * 1024;

/// A sender of ten chunks.
fn victim() -> SenderVictim {
    SenderVictim::greeted(offer())
}

fn offer() -> haul::manifest::Listing {
    listing(&[("a", Some(8 * CHUNK_BYTES_MIN)), ("b", None), ("b/c", Some(1)), ("d", Some(1)), ("e", Some(0))])
}

#[test]
fn row_54_chunks_that_are_not_on_offer_are_refused_unread() {
    for gaps in [&[(10, 1)][..], &[(9, 2)], &[(0, 1), (9, 1)], &[(u64::MAX - 1, 1)], &[(1 << 40, 1)]] {
        let mut victim = victim();
        victim.feed(DATA, &chunks_request(gaps, PIECE_BYTES, 0));
        victim.assert_refused_unread(PeerFault::ChunkNotOffered);
    }
    for (first, count) in [(10, 1), (9, 2), (0, 11), (u64::MAX, 1), (u64::MAX - 1, 1024)] {
        let mut victim = victim();
        victim.feed(CONTROL, &hashes_request(first, count));
        victim.assert_refused_unread(PeerFault::ChunkNotOffered);
    }
}

#[test]
fn requests_out_of_range_are_refused_unread() {
    let cases = [
        (&[][..], PIECE_BYTES, 0),
        (&[(0, 0)], PIECE_BYTES, 0),
        (&[(0, 1), (0, 1)], PIECE_BYTES, 0),
        (&[(0, 1025)], PIECE_BYTES, 0),
        (&[(0, u64::MAX)], PIECE_BYTES, 0),
        (&[(u64::MAX, 1)], PIECE_BYTES, 0),
        (&[(0, 5)], PIECE_BYTES, 0),
        (&[(0, 1)], 0, 0),
        (&[(0, 1)], 1, 0),
        (&[(0, 1)], PIECE_BYTES + 1, 0),
        (&[(0, 1)], PIECE_BYTES / 8, 0),
        (&[(0, 1)], 1 << 31, 0),
        (&[(0, 1)], PIECE_BYTES, 1),
        (&[(0, 1)], PIECE_BYTES, CHUNK_BYTES_MIN),
    ];
    for (gaps, piece_bytes, held) in cases {
        let mut victim = victim();
        victim.feed(DATA, &chunks_request(gaps, piece_bytes, held));
        victim.assert_refused_unread(PeerFault::Request);
    }
    for count in [0, 1025, 65535] {
        let mut victim = victim();
        victim.feed(CONTROL, &hashes_request(0, count));
        victim.assert_refused_unread(PeerFault::Request);
    }
    for page in [1, u64::from(u32::MAX)] {
        let mut victim = victim();
        victim.feed(CONTROL, &listing_request(page));
        victim.assert_refused_unread(PeerFault::Request);
    }
}

#[test]
fn rates_wanted_a_million_times_cost_one_word_each_and_belong_on_the_control_lane() {
    let mut victim = victim();
    for rate in 0..1_000_000 {
        victim.outputs.clear();
        victim.feed(CONTROL, &message(18, &[rate]));
        assert_eq!(victim.outputs, [SenderOutput::Limit { rate: NonZeroU64::new(rate) }]);
    }
    victim.feed(CONTROL, &message(18, &[u64::MAX]));
    assert_eq!(victim.fault(), None);
    victim.feed(DATA, &message(18, &[1]));
    victim.assert_refused_unread(PeerFault::OutOfTurn("a control request on a data lane"));
    let mut stranger = SenderVictim::new(offer());
    stranger.feed(CONTROL, &message(18, &[1]));
    stranger.assert_refused_unread(PeerFault::OutOfTurn("a request before Hello"));
}

#[test]
fn row_55_a_request_more_than_a_lane_queues_is_refused() {
    let mut victim = victim();
    for request in 0..1_000_000 {
        victim.feed(DATA, &chunks_request(&[(0, 1)], PIECE_BYTES, 0));
        if victim.fault().is_some() {
            assert_eq!(request, REQUESTS_QUEUED_MAX);
            break;
        }
    }
    assert_eq!(victim.fault(), Some(hostile::Fault::Peer(PeerFault::RequestsQueued)));
    assert_eq!(victim.work(), 1, "the first is worked on, the others wait");
    let mut on_control = self::victim();
    on_control.feed(CONTROL, &hashes_request(0, 1));
    on_control.feed(CONTROL, &ping(1).repeat(1000));
    assert_eq!(on_control.fault(), Some(hostile::Fault::Peer(PeerFault::RequestsQueued)));
}

#[test]
fn row_56_a_chunk_asked_for_again_and_again_is_served_once_for_each_request() {
    let mut victim = victim();
    for _ in 0..100_000 {
        victim.feed(DATA, &chunks_request(&[(0, 1)], PIECE_BYTES, 0));
        assert_eq!(victim.work(), 1);
        victim.tell(SenderInput::ChunksServed { lane: DATA });
        victim.outputs.clear();
    }
    assert_eq!(victim.fault(), None);
}

#[test]
fn a_request_before_hello_and_hello_twice_are_refused() {
    for bytes in [listing_request(0), hashes_request(0, 1), ping(0), done(0, 0), seal_request(&[], false)] {
        let mut victim = SenderVictim::new(offer());
        victim.feed(CONTROL, &bytes);
        victim.assert_refused_unread(PeerFault::OutOfTurn("a request before Hello"));
    }
    let mut victim = victim();
    victim.feed(CONTROL, &hello(1, 0));
    victim.assert_refused_unread(PeerFault::OutOfTurn("an answer"));
}

#[test]
fn a_hello_of_version_0_is_refused() {
    let mut victim = SenderVictim::new(offer());
    victim.feed(CONTROL, &hello(0, 0));
    victim.assert_refused_unread(PeerFault::Version);
}

#[test]
fn answers_from_the_side_that_asks_are_refused() {
    for (variant, numbers) in [(11, &[][..]), (13, &[1]), (14, &[]), (7, &[0, 0])] {
        let mut victim = victim();
        victim.feed(CONTROL, &message(variant, numbers));
        victim.assert_refused_unread(PeerFault::OutOfTurn("an answer"));
    }
}

#[test]
fn control_requests_on_a_data_lane_and_chunks_on_the_control_lane_are_refused() {
    for bytes in [listing_request(0), hashes_request(0, 1), seal_request(&[], false), done(0, 0), hello(1, 0)] {
        let mut victim = victim();
        victim.feed(DATA, &bytes);
        victim.assert_refused_unread(PeerFault::OutOfTurn("a control request on a data lane"));
    }
    let mut victim = victim();
    victim.feed(CONTROL, &chunks_request(&[(0, 1)], PIECE_BYTES, 0));
    victim.assert_refused_unread(PeerFault::OutOfTurn("an answer"));
}

#[test]
fn a_seal_without_files_that_are_none_is_refused() {
    for without in [&[1][..], &[5], &[u64::from(u32::MAX)], &[2, 0], &[0, 0]] {
        let mut victim = victim();
        victim.feed(CONTROL, &seal_request(without, false));
        victim.assert_refused_unread(PeerFault::UnknownEntry);
    }
}

#[test]
fn a_list_for_the_seal_that_goes_round_in_parts_is_refused() {
    for parts in [[&[0][..], &[]], [&[0], &[0]], [&[2], &[0]]] {
        let mut victim = victim();
        for part in parts {
            victim.feed(CONTROL, &seal_request(part, true));
        }
        let fault = if parts[1].is_empty() { PeerFault::Request } else { PeerFault::UnknownEntry };
        victim.assert_refused_unread(fault);
    }
}
