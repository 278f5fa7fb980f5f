//! Fixed work, one kind per run, for counting its instructions: `instructions WORK`, or all kinds without an argument.
//!
//! `.ci/bench` runs it under callgrind and counts what happens inside of [`counted`]. Everything is on one thread, and
//! nothing depends on time or chance, so that counts are the same in every run.

mod support;

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::codec::{Compression, Decider, Encoder, is_zero};
use haul::digest::{RootMerger, chunk_digest};
use haul::limits::{CHUNK_BYTES_MIN, HASH_PAGE_CHUNKS_MAX, PIECE_BYTES_MAX};
use haul::manifest::Entry;
use haul::session::listing_page_starts;
use haul::wire::{Encoding, Frame, FrameHeader, Message, Piece, WireEntry, piece_head};
use std::hint::black_box;
use std::time::Duration;
use support::pair::Pair;

/// Work that is set up and can be counted.
type Ready = Box<dyn FnOnce()>;
/// Sets work up.
type SetUp = fn() -> Ready;

const WORKS: [(&str, SetUp); 7] = [
    ("hash_16_mib", hash),
    ("listing_of_20000", listing),
    ("looks_at_64_pieces_of_noise", looks),
    ("raw_path_of_64_pieces", raw_path),
    ("session_of_10000_files", session_files),
    ("session_of_4096_chunks", session_chunks),
    ("wire_pages", wire),
];

fn main() {
    // Cargo adds flags of its own, such as `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if wanted.iter().any(|name| name == "list") {
        for (name, _) in WORKS {
            println!("{name}");
        }
        return;
    }
    for (name, set_up) in WORKS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            counted(set_up());
        }
    }
}

#[inline(never)]
fn counted(work: Ready) {
    work();
}

fn hash() -> Ready {
    let bytes = support::noise(16 << 20);
    let geometry = Geometry::of(Length(bytes.len() as u64)).expect("16 MiB is a legal length");
    Box::new(move || {
        let mut merger = RootMerger::new(geometry);
        let chunks = (0..).zip(bytes.chunks(1 << 18));
        let root = chunks.filter_map(|(i, chunk)| merger.push(chunk_digest(geometry, ChunkIndex(i), chunk))).last();
        assert!(black_box(root).is_some(), "16 MiB are 64 chunks");
    })
}

fn listing() -> Ready {
    let entries = support::small_files(20_000);
    Box::new(move || {
        let listing = support::listing(entries);
        for number in 0..listing.totals().chunks {
            black_box(listing.place(number));
        }
    })
}

/// What is done to see that pieces do not shrink, where that matters.
fn looks() -> Ready {
    let piece = support::noise(PIECE_BYTES_MAX as usize);
    let mut encoder = Encoder::new();
    encoder.seems_to_shrink(&piece);
    Box::new(move || (0..64).for_each(|_| assert!(!encoder.seems_to_shrink(black_box(&piece)))))
}

/// What is done to pieces that travel as they are, but for reading and sending them: a few instructions for each of them,
/// and none for each of their bytes.
fn raw_path() -> Ready {
    let bytes = support::noise(PIECE_BYTES_MAX as usize);
    let mut decider = Decider::new(Duration::ZERO, Compression::Auto, true);
    decider.set_cores(2);
    decider.level(Duration::ZERO);
    decider.compressed(1 << 18, Duration::from_micros(500), true);
    Box::new(move || {
        for number in 0..64 {
            let (chunk, now) = (black_box(number), Duration::from_micros(200 * number));
            assert!(!is_zero(black_box(&bytes)) && decider.level(now).is_none());
            let piece = Piece { chunk, offset: 0, length: PIECE_BYTES_MAX };
            black_box(piece_head(piece, Encoding::Raw, bytes.len()));
            decider.sent(now, u64::from(piece.length), u64::from(piece.length));
        }
    })
}

fn session_chunks() -> Ready {
    session(vec![support::file("file", 4096 * CHUNK_BYTES_MIN)], 4096)
}

fn session_files() -> Ready {
    session(support::small_files(10_000), 10_000)
}

fn session(entries: Vec<Entry>, chunks: u64) -> Ready {
    let mut pair = Pair::new(entries);
    Box::new(move || assert_eq!(pair.run(), chunks))
}

fn wire() -> Ready {
    let listing = support::listing(support::small_files(20_000));
    let starts = listing_page_starts(&listing);
    let ends = starts.iter().skip(1).map(|&end| end as usize).chain([listing.entries().len()]);
    let listing_pages = (0..).zip(&starts).zip(ends).map(|((page, &start), end)| Message::ListingPage {
        page,
        entries: listing.entries()[start as usize..end].iter().map(WireEntry::from).collect(),
        totals: None,
    });
    let hash_page = |number: u64| {
        let geometry = Geometry::of(Length(1)).expect("one byte is a legal length");
        let digest = |byte: u16| chunk_digest(geometry, ChunkIndex(0), &byte.to_le_bytes()[..1]);
        Message::HashPage { first: number * 1024, digests: (0..HASH_PAGE_CHUNKS_MAX).map(digest).collect() }
    };
    let messages: Vec<_> = listing_pages.chain((0..64).map(hash_page)).collect();
    let frames: Vec<_> = messages.iter().map(|message| message.to_frame().expect("a page fits its frame")).collect();
    Box::new(move || {
        for (message, bytes) in messages.iter().zip(&frames) {
            let encoded = message.to_frame().expect("a page fits its frame");
            assert_eq!(encoded.len(), bytes.len());
            let (frame, length) = FrameHeader::decode_frame(bytes).expect("the frame is ours");
            assert!(length == bytes.len() && matches!(black_box(frame), Frame::Message(_)));
        }
    })
}
