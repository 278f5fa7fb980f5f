//! The examples in the wire specification are real frames.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

use haul::codec::Decoder;
use haul::manifest::{Attribute, Attributes};
use haul::outline::Segment;
use haul::wire::{
    Change, Encoding, FEATURE_OUTLINES, FEATURE_ZSTD, Frame, FrameHeader, Message, Piece, Refusal, SessionGrant,
    WireEntry, WireKind, WireTotals,
};

const SPEC: &str = include_str!("../src/wire/SPEC.md");

/// 300 times the letter a, as one frame of zstd.
const SHRUNK: &[u8] =
    &[0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x2c, 0x00, 0x4d, 0x00, 0x00, 0x10, 0x61, 0x61, 0x01, 0x00, 0x27, 0x2a, 0xc0, 0x02];

#[test]
fn every_example_is_the_frame_that_its_title_says() {
    let examples = examples();
    let expected: Vec<_> = expected().into_iter().chain(of_outlines()).collect();
    assert_eq!(examples.len(), expected.len(), "each example has its frame here, and the other way round");
    for ((title, bytes), (title_here, frame)) in examples.iter().zip(expected) {
        assert_eq!(*title, title_here);
        let (decoded, used) = FrameHeader::decode_frame(bytes).unwrap_or_else(|fault| panic!("{title}: {fault}"));
        assert_eq!(decoded, frame, "{title}");
        assert_eq!(used, bytes.len(), "{title}");
        assert_eq!(&frame.encode().unwrap(), bytes, "{title}");
    }
}

#[test]
fn the_example_of_a_compressed_piece_stands_for_what_its_title_says() {
    let mut piece = [0; 300];
    assert_eq!(Decoder::new().decode(SHRUNK, &mut piece), Ok(()));
    assert_eq!(piece, [b'a'; 300]);
}

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let mut examples = Vec::new();
    for block in SPEC.split("```golden ").skip(1) {
        let (title, rest) = block.split_once('\n').unwrap();
        let (hex, _) = rest.split_once("```").unwrap();
        let bytes = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        examples.push((title, bytes));
    }
    examples
}

fn of_outlines() -> Vec<(&'static str, Frame<'static>)> {
    let asking = Message::Hello { version: 1, features: FEATURE_ZSTD | FEATURE_OUTLINES };
    let segments = vec![Segment { length: 300, hash: [0x11; 16] }, Segment { length: 5, hash: [0x22; 16] }];
    let outline = Message::OutlinePage { entry: 3, offset: 65_536, segments };
    vec![
        ("Hello of version 1, from a receiver that takes zstd pieces and may ask for outlines", Frame::Message(asking)),
        (
            "OutlineRequest of entry 3 from 65536 on",
            Frame::Message(Message::OutlineRequest { entry: 3, offset: 65_536 }),
        ),
        ("OutlinePage of entry 3 from 65536 on, with segments of 300 and 5 bytes", Frame::Message(outline)),
    ]
}

fn expected() -> Vec<(&'static str, Frame<'static>)> {
    let raw = Piece { chunk: 5, offset: 65536, length: 3 };
    let shrunk = Piece { chunk: 1, offset: 16_384, length: 300 };
    let hello = Message::Hello { version: 1, features: FEATURE_ZSTD };
    let zero = Piece { chunk: 0, offset: 0, length: 262_144 };
    let entry = WireEntry {
        path: "a/b".into(),
        kind: WireKind::File(300),
        mode: 0o644,
        seconds: 1,
        nanoseconds: 7,
        attributes: Attributes::NONE,
    };
    let value = |bytes: &[u8]| bytes.into();
    let attributes = vec![
        Attribute { name: "user.a".into(), value: value(b"xyz") },
        Attribute { name: "user.b".into(), value: value(b"") },
    ];
    let of_each_kind = vec![
        WireEntry {
            path: "t".into(),
            kind: WireKind::Folder,
            mode: 0o755,
            attributes: Attributes::of(attributes).unwrap(),
            ..entry.clone()
        },
        WireEntry { path: "t/f".into(), kind: WireKind::File(0), ..entry.clone() },
        WireEntry { path: "t/h".into(), kind: WireKind::HardLink(1), ..entry.clone() },
        WireEntry { path: "t/s".into(), kind: WireKind::Symlink("./f".into()), mode: 0o777, ..entry.clone() },
    ];
    let links = Message::ListingPage { page: 1, entries: of_each_kind, totals: None };
    let totals = WireTotals { files: 1, folders: 1, bytes: 300, chunks: 1 };
    let page = Message::ListingPage { page: 0, entries: vec![entry], totals: Some(totals) };
    let chunks = Message::ChunksRequest { gaps: vec![(2, 4), (3, 1)], piece_bytes: 262_144, held: 0, reread: false };
    let grant = SessionGrant { id: [0x11; 16], secret: [0x22; 32] };
    vec![
        (
            "a piece of three raw bytes for chunk 5 at offset 65536",
            Frame::Piece { piece: raw, encoding: Encoding::Raw, payload: b"abc" },
        ),
        (
            "a piece of 262144 zeros for chunk 0 at offset 0",
            Frame::Piece { piece: zero, encoding: Encoding::Zero, payload: b"" },
        ),
        (
            "a piece of 300 times the letter a for chunk 1 at offset 16384",
            Frame::Piece { piece: shrunk, encoding: Encoding::Zstd, payload: SHRUNK },
        ),
        ("Hello of version 1, from a receiver that takes zstd pieces", Frame::Message(hello)),
        ("ListingRequest of page 0", Frame::Message(Message::ListingRequest { page: 0 })),
        ("ListingPage with the file a/b of 300 bytes, mode 0644, and totals", Frame::Message(page)),
        (
            "ListingPage 1 with a folder t of two attributes, an empty file, a hard link to it and a symbolic one",
            Frame::Message(links),
        ),
        ("HashesRequest of 16 chunks from 0", Frame::Message(Message::HashesRequest { first: 0, count: 16 })),
        ("ChunksRequest of chunks 2 to 5 and 9, pieces of 256 KiB", Frame::Message(chunks)),
        ("SourceChanged of entry 3, gone", Frame::Message(Message::SourceChanged { entry: 3, change: Change::Gone })),
        ("Done with 2 files, none failed", Frame::Message(Message::Done { files: 2, failed: 0 })),
        ("DoneAck", Frame::Message(Message::DoneAck)),
        ("Working", Frame::Message(Message::Working)),
        ("Refused, declined", Frame::Message(Message::Refused { refusal: Refusal::Declined })),
        ("Refused, since both sides receive", Frame::Message(Message::Refused { refusal: Refusal::Receives })),
        ("Grant of session 1111 with secret 2222", Frame::Message(Message::Grant { grant })),
        ("LanesWanted, two", Frame::Message(Message::LanesWanted { lanes: 2 })),
        ("RateWanted, 1 MiB a second", Frame::Message(Message::RateWanted { bytes_per_second: 1 << 20 })),
    ]
}
