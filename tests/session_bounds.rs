//! What a receiver asks for stays within what an honest sender takes, and what it waits for always comes.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

#[path = "support/hostile.rs"]
mod hostile;

use haul::chunk::ChunkIndex;
use haul::chunk_set::ChunkSet;
use haul::digest::{ChunkDigest, RootMerger};
use haul::limits::{CHUNK_BYTES_MIN, REQUESTS_QUEUED_MAX};
use haul::manifest::EntryIndex;
use haul::session::{Input, LaneId, LaneRole, Output, Plan, SenderOutput, Verdict};
use haul::wire::{FEATURE_RATES, FEATURES, Message};
use hostile::{CONTROL, DATA, ReceiverVictim, SenderVictim, hash_page, listing, welcome_with};
use std::collections::BTreeSet;
use std::num::NonZeroU64;

#[test]
fn a_slow_data_lane_is_not_asked_more_often_than_its_sender_queues() {
    // Every other file is skipped, so that each request is for few chunks of one byte.
    let names: Vec<_> = (0..600).map(|number| format!("{number:04}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), Some(1))).collect();
    let mut session = ReceiverVictim::deciding(&listing(&entries));
    let plan = |number: usize| if number.is_multiple_of(2) { Plan::Fetch } else { Plan::Skip };
    session.tell(Input::Accepted((0..600).map(plan).collect()));
    session.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    let asked_for_hashes = answer_hash_requests(&mut session);
    assert_eq!(asked_for_hashes, 300);
    let requests = session.sent().filter(|message| matches!(message, Message::ChunksRequest { .. })).count();
    assert!((1..REQUESTS_QUEUED_MAX).contains(&requests), "{requests} requests without an answer");
}

#[test]
fn a_file_of_more_chunks_than_hashes_are_held_ahead_is_compared_all_the_same() {
    let listing = listing(&[("disk.img", Some(1 << 40))]);
    let mut session = ReceiverVictim::deciding(&listing);
    session.tell(Input::Accepted(vec![Plan::Compare]));
    session.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    assert_eq!(answer_hash_requests(&mut session), listing.totals().chunks);
    let mut merger = RootMerger::new(listing.geometry(EntryIndex(0)).unwrap());
    let root = (0..listing.totals().chunks).find_map(|chunk| merger.push(digest(chunk))).unwrap();
    assert!(session.outputs.contains(&Output::Compare { entry: EntryIndex(0), root }));
}

#[test]
fn a_limit_is_told_once_and_again_over_every_later_control_lane() {
    let listing = listing(&[("a", Some(1))]);
    let mut session = ReceiverVictim::deciding(&listing);
    let told = |session: &ReceiverVictim| {
        let rates = session.sent().filter_map(|message| match message {
            Message::RateWanted { bytes_per_second } => Some(*bytes_per_second),
            _ => None,
        });
        rates.collect::<Vec<_>>()
    };
    let greet = |session: &mut ReceiverVictim, features: u32| {
        session.feed(CONTROL, &welcome_with(1, features.into(), 4, listing.digest()));
    };
    let greet_again_with = |session: &mut ReceiverVictim, features: u32| {
        session.tell(Input::LaneLost { lane: CONTROL, held: None });
        session.tell(Input::LaneOpened { lane: CONTROL, role: LaneRole::Control });
        greet(session, features);
    };
    let greet_again = |session: &mut ReceiverVictim| greet_again_with(session, FEATURE_RATES);
    session.tell(Input::Limit { rate: None });
    greet_again(&mut session);
    assert_eq!(told(&session), [0; 0], "there is nothing to say");
    greet_again_with(&mut session, FEATURES & !FEATURE_RATES);
    session.tell(Input::Limit { rate: NonZeroU64::new(5) });
    greet_again_with(&mut session, 0);
    session.tell(Input::Limit { rate: NonZeroU64::new(6) });
    assert_eq!(told(&session), [0; 0], "an older sender does not know the message");
    session.tell(Input::Limit { rate: NonZeroU64::new(5) });
    greet_again(&mut session);
    session.tell(Input::Limit { rate: NonZeroU64::new(5) });
    greet_again(&mut session);
    session.tell(Input::Limit { rate: None });
    greet_again(&mut session);
    assert_eq!(told(&session), [5, 5, 0, 0], "whoever is greeted may know of the one before");
    session.tell(Input::LaneLost { lane: CONTROL, held: None });
    session.tell(Input::Limit { rate: NonZeroU64::new(7) });
    assert_eq!(told(&session).len(), 4, "nobody is there");
    session.tell(Input::LaneOpened { lane: CONTROL, role: LaneRole::Control });
    assert_eq!(told(&session).len(), 4, "nobody has greeted");
    greet(&mut session, FEATURE_RATES);
    assert_eq!(told(&session).last(), Some(&7));
}

#[test]
fn under_a_limit_no_more_lanes_have_chunks_on_their_way_than_it_takes() {
    let listing = listing(&[("a", Some(400 * CHUNK_BYTES_MIN))]);
    let lanes_asked = |limit: u64| {
        let mut session = ReceiverVictim::deciding(&listing);
        session.tell(Input::Limit { rate: NonZeroU64::new(limit) });
        session.tell(Input::Accepted(vec![Plan::Fetch]));
        for lane in 0..4 {
            session.tell(Input::LaneOpened { lane: LaneId(DATA.0 + lane), role: LaneRole::Data });
        }
        answer_hash_requests(&mut session);
        session.tell(Input::FileOpened { entry: EntryIndex(0), claims: ChunkSet::new(), has_older: false });
        let asked = session.outputs.iter().filter_map(|output| match output {
            Output::Send { lane, message: Message::ChunksRequest { .. } } => Some(*lane),
            _ => None,
        });
        asked.collect::<BTreeSet<_>>().len()
    };
    assert_eq!([1, 100_000, 1_000_000, 1 << 30, 0].map(lanes_asked), [1, 1, 2, 4, 4]);
}

#[test]
fn an_empty_file_that_is_there_holds_up_no_other() {
    let names: Vec<_> = (0..1000).map(|number| format!("{number:03}")).collect();
    let length = |name: &str| if name == "000" { 0 } else { 40 * CHUNK_BYTES_MIN };
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), Some(length(name)))).collect();
    let listing = listing(&entries);
    for plan in [Plan::Compare, Plan::Weigh] {
        let mut session = ReceiverVictim::deciding(&listing);
        session.tell(Input::Accepted(vec![plan; entries.len()]));
        let (mut seen, mut hashes) = (0, 0);
        while let Some(output) = session.outputs.get(seen).cloned() {
            seen += 1;
            if let Output::Send { message: Message::HashesRequest { first, count }, .. } = output {
                let digests: Vec<_> = (first..first + u64::from(count)).map(digest).collect();
                session.feed(CONTROL, &hash_page(first, &digests));
                hashes += u64::from(count);
            } else if let Output::Compare { entry, .. } = output {
                session.tell(Input::Compared { entry, verdict: Verdict::Identical });
            }
        }
        assert_eq!(hashes, listing.totals().chunks, "{plan:?}");
    }
}

#[test]
fn chunks_of_a_file_to_weigh_are_told_before_it_is_compared_and_nothing_of_it_is_fetched() {
    let listing = listing(&[("a", Some(3 * CHUNK_BYTES_MIN)), ("b", Some(0)), ("c", Some(2 * CHUNK_BYTES_MIN))]);
    let mut session = ReceiverVictim::deciding(&listing);
    session.tell(Input::Accepted(vec![Plan::Weigh, Plan::Weigh, Plan::Skip]));
    session.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
    assert_eq!(answer_hash_requests(&mut session), 3);
    let mut told = Vec::new();
    for output in &session.outputs {
        match output {
            Output::Weigh { entry: EntryIndex(0), chunks } => told.extend(chunks.iter().copied()),
            Output::Compare { entry, .. } => {
                assert_eq!((*entry, told.len()), (EntryIndex(0), 3), "all of it was told");
            }
            Output::Send { message: Message::ChunksRequest { .. }, .. } => panic!("nothing is fetched"),
            _ => {}
        }
    }
    assert_eq!(told, (0..3).map(|chunk| (ChunkIndex(chunk), digest(u64::from(chunk)))).collect::<Vec<_>>());
    session.tell(Input::Compared { entry: EntryIndex(0), verdict: Verdict::Identical });
    let asked = session.sent().filter(|message| matches!(message, Message::SealRequest { .. })).last();
    assert_eq!(asked, Some(&Message::SealRequest { without: vec![2], more: false }));
}

#[test]
fn no_chunk_beyond_what_is_within_reach_is_asked_for() {
    let mut session = ReceiverVictim::fetching(&listing(&[("a", Some(40 * CHUNK_BYTES_MIN))]));
    session.tell(Input::Reach { chunks: 3 });
    answer_hash_requests(&mut session);
    session.tell(Input::FileOpened { entry: EntryIndex(0), claims: ChunkSet::new(), has_older: false });
    let asked = |session: &ReceiverVictim| {
        let gaps = session.sent().filter_map(|message| match message {
            Message::ChunksRequest { gaps, .. } => ChunkSet::from_gaps(gaps),
            _ => None,
        });
        gaps.flat_map(|set| set.ranges().flatten().collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(asked(&session), [0, 1, 2]);
    session.tell(Input::Reach { chunks: 4 });
    assert_eq!(asked(&session), [0, 1, 2, 3]);
}

#[test]
fn hashes_are_not_asked_for_far_ahead_of_data() {
    let entries = [("a", Some(1 << 40)), ("b", Some(1 << 40))];
    let mut session = ReceiverVictim::fetching(&listing(&entries));
    assert!(answer_hash_requests(&mut session) * 16 * 1024 * 1024 <= 512 * 1024 * 1024);
    let names: Vec<_> = (0..100_000).map(|number| format!("{number:06}")).collect();
    let small: Vec<_> = names.iter().map(|name| (name.as_str(), Some(CHUNK_BYTES_MIN / 256))).collect();
    let mut session = ReceiverVictim::fetching(&listing(&small));
    assert!(answer_hash_requests(&mut session) <= 32 * 1024);
}

#[test]
fn a_file_whose_source_is_gone_at_the_seal_is_published_once_its_bytes_are_there() {
    let mut session = ReceiverVictim::fetching(&listing(&[("a", Some(1))]));
    answer_hash_requests(&mut session);
    session.feed(CONTROL, &hostile::source_changed(0));
    session.feed(DATA, &hostile::piece(0, 0, 1));
    session.tell(Input::ChunkHashed { lane: DATA, chunk: 0, digest: digest(0) });
    session.tell(Input::ChunkStored { lane: DATA, chunk: 0 });
    let root = haul::digest::FileDigest(digest(0).0);
    assert_eq!(session.outputs.last(), Some(&Output::Publish { entry: EntryIndex(0), root }));
    let asked_again = session.sent().filter(|message| matches!(message, Message::SealRequest { .. })).last();
    assert_eq!(asked_again, Some(&Message::SealRequest { without: vec![0], more: false }));
    session.feed(CONTROL, &hostile::source_changed(0));
    assert_eq!(session.fault(), Some(hostile::Fault::Peer(haul::session::PeerFault::UnknownEntry)), "it said so");
}

#[test]
fn a_seal_that_leaves_out_a_hundred_thousand_files_is_asked_for_in_parts() {
    let names: Vec<_> = (0..100_000).map(|number| format!("{number:06}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), Some(1))).collect();
    let mut session = ReceiverVictim::deciding(&listing(&entries));
    session.tell(Input::Accepted(vec![Plan::Skip; entries.len()]));
    let mut sender = SenderVictim::greeted(listing(&entries));
    let requests: Vec<_> = session.sent().filter(|message| matches!(message, Message::SealRequest { .. })).collect();
    for request in requests {
        sender.feed(CONTROL, &request.to_frame().expect("it fits a frame"));
    }
    let without = (0..100_000).map(EntryIndex).collect();
    assert_eq!(sender.outputs.last(), Some(&SenderOutput::Seal { lane: CONTROL, without }));
}

/// Answers every request for hashes until there is none, and says how many hashes that took.
fn answer_hash_requests(session: &mut ReceiverVictim) -> u64 {
    let (mut seen, mut hashes) = (0, 0);
    while let Some(output) = session.outputs.get(seen) {
        seen += 1;
        if let &Output::Send { message: Message::HashesRequest { first, count }, .. } = output {
            let digests: Vec<_> = (first..first + u64::from(count)).map(digest).collect();
            session.feed(CONTROL, &hash_page(first, &digests));
            hashes += u64::from(count);
        }
    }
    hashes
}

fn digest(chunk: u64) -> ChunkDigest {
    let mut bytes = [5; 32];
    bytes[..8].copy_from_slice(&chunk.to_le_bytes());
    ChunkDigest(bytes)
}
