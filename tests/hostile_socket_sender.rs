//! An evil sender over real sockets against a real `haul receive`: each attack ends in its own words, and nothing is written.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/evil_sender.rs"]
mod evil_sender;
#[path = "support/process.rs"]
mod process;

use evil_sender::{EvilSender, Script, file, folder, raw_frame, send_message, send_piece};
use haul::codec::{Encoder, Level};
use haul::digest::ListingDigest;
use haul::transport::{Lane, TransportError};
use haul::wire::{Encoding, FrameHeader, Message, Piece, WireEntry, WireKind, WireTotals, piece_head};
use process::{Playground, Received, noise};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

const CHUNK: usize = 256 * 1024;
/// Length of a file that is one piece of any length.
const SMALL: usize = 16_000;

/// Entries alone, as they are.
struct Listed(Vec<WireEntry>);

impl Script for Listed {
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
        self.0.iter().map(|entry| (entry.clone(), Vec::new())).collect()
    }
}

#[test]
fn rows_1_to_11_17_and_22_an_unsafe_path_refuses_the_whole_offer() {
    let long = "x".repeat(256);
    let deep = vec!["d"; 65].join("/");
    let paths = [
        (1, "../evil"),
        (2, "a/../../evil"),
        (3, ".."),
        (3, "."),
        (3, ""),
        (4, "/etc/passwd"),
        (4, "//x"),
        (5, "C:\\x"),
        (5, "C:x"),
        (5, "\\\\server\\share\\x"),
        (5, "\\\\?\\C:\\x"),
        (7, "a\0b"),
        (8, "a//b"),
        (8, "./a"),
        (8, "a/"),
        (10, "a\nb"),
        (10, "a\x01"),
        (10, "a\x7f"),
        (10, "a\tb"),
        (11, "\x1b[2J"),
        (11, "\x1b]52;c;ZXZpbA==\x07"),
        (11, "a\u{9b}31m"),
        (17, &long),
        (17, &deep),
        (22, ".haul"),
        (22, "a/.haul/b"),
        (22, ".haul/x.part"),
    ];
    for (row, path) in paths {
        let received = meet(Listed(vec![file(path, 0)]));
        assert_refused(&received, 12, "unsafe path", &format!("row {row}: {path:?}"));
    }
}

/// Files with their bytes.
struct Filled(Vec<(WireEntry, Vec<u8>)>);

impl Script for Filled {
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
        self.0.clone()
    }
}

#[test]
fn rows_6_12_and_13_a_name_that_may_mislead_refuses_its_file_alone() {
    for (row, name) in
        [(6, "a\\b"), (12, "a\u{202e}txt.exe"), (12, "a\u{2066}b"), (13, "a\u{200b}b"), (13, "a\u{feff}")]
    {
        let inside = format!("{name}/inside");
        let files = vec![
            (file("0", 3), b"yes".to_vec()),
            (folder(name), Vec::new()),
            (file(&inside, 2), b"no".to_vec()),
            (file("z", 4), b"also".to_vec()),
        ];
        let (received, left) = meet(Filled(files));
        assert_eq!(received.assert_exit(23)["failed"], 2, "row {row}: {received:#?}");
        assert_eq!(left, [".haul", "0", "z"][3 - left.len()..], "row {row}");
    }
}

#[test]
fn rows_19_21_26_and_24_a_listing_out_of_order_is_refused() {
    let cases: [(&str, Vec<WireEntry>, &str); 6] = [
        ("row 19", vec![file("a", 0), file("a", 0)], "same path"),
        ("row 21", vec![file("a", 0), file("a/b", 0)], "out of order, or lies in a folder that is not listed"),
        ("an orphan", vec![file("a/b", 0)], "not listed"),
        ("falling", vec![file("b", 0), file("a", 0)], "out of order"),
        ("a folder twice", vec![folder("a"), folder("a")], "same path"),
        ("row 48", vec![], "empty"),
    ];
    for (case, entries, words) in cases {
        assert_refused(&meet(Listed(entries)), 12, words, case);
    }
}

#[test]
fn rows_36_and_37_lengths_that_nothing_can_hold_are_refused() {
    for length in [u64::MAX, i64::MAX as u64 + 1, (1 << 52) + 1] {
        assert_refused(&meet(Listed(vec![file("a", length)])), 12, "longer than can be sent", "row 36");
    }
    let many = (0..1025).map(|number| file(&format!("{number:05}"), 1 << 52)).collect();
    assert_refused(&meet(Listed(many)), 12, "together are longer", "row 37");
}

#[test]
fn row_38_more_than_there_is_room_for_is_refused_before_any_data() {
    let received = meet(Listed(vec![file("a", 1 << 50)]));
    assert_refused(&received, 43, "too little room", "row 38");
    assert_eq!(received.0.done()["bytes_fetched"], 0);
}

/// Listing pages without an end.
struct Endless;

impl Script for Endless {
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
        vec![(file("a", 0), Vec::new())]
    }

    fn instead(&self, lane: &mut Lane, request: &Message) -> Result<bool, TransportError> {
        let Message::ListingRequest { page } = request else { return Ok(false) };
        let entries = (0..3000).map(|entry| file(&format!("{page:08}{entry:04}"), 0)).collect();
        send_message(lane, &Message::ListingPage { page: *page, entries, totals: None })?;
        Ok(true)
    }
}

#[test]
fn row_39_a_listing_without_end_is_cut_at_its_limit() {
    assert_refused(&meet(Endless), 12, "more than 1000000 entries", "row 39");
}

/// Answers the request of one kind with bytes of its own.
struct Raw {
    at: fn(&Message) -> bool,
    bytes: Vec<u8>,
}

impl Script for Raw {
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
        vec![(file("a", 2 * CHUNK as u64), noise(2 * CHUNK, 1))]
    }

    fn instead(&self, lane: &mut Lane, request: &Message) -> Result<bool, TransportError> {
        if !(self.at)(request) {
            return Ok(false);
        }
        lane.send(&[&self.bytes])?;
        Ok(true)
    }
}

#[test]
fn rows_27_28_40_41_42_57_and_58_frames_that_break_a_rule_end_the_session() {
    type Moment = fn(&Message) -> bool;
    let hello = |message: &Message| matches!(message, Message::Hello { .. });
    let listing = |message: &Message| matches!(message, Message::ListingRequest { .. });
    let hashes = |message: &Message| matches!(message, Message::HashesRequest { .. });
    let chunks = |message: &Message| matches!(message, Message::ChunksRequest { .. });
    let at: [(&str, Moment); 4] = [("hello", hello), ("listing", listing), ("hashes", hashes), ("chunks", chunks)];
    let mut trailing = Message::DoneAck.to_frame().unwrap();
    trailing = raw_frame(&[&trailing[8..], &[0]].concat());
    let frames: [(&str, Vec<u8>, &str); 9] = [
        ("row 57: unknown kind", vec![9, 0, 0, 0, 1, 0, 0, 0, 0], "unknown kind"),
        ("row 57: a flag", vec![1, 0, 1, 0, 1, 0, 0, 0, 0], "reserved field"),
        ("row 57: trailing garbage", trailing, "canonical"),
        ("row 28: an unknown message", raw_frame(&[0x7f]), "newer version"),
        ("row 40: 4 GiB", vec![1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3], "length is out of range"),
        ("row 41: an overlong varint", raw_frame(&[0x8b, 0x00]), "canonical"),
        ("row 41: eleven bytes of varint", raw_frame(&[0xff; 11]), "newer version"),
        ("row 58: 64 KiB + 1", FrameHeader::Message { body_bytes: 65_537 }.encode().to_vec(), "length is out of range"),
        ("row 42: an empty frame", vec![1, 0, 0, 0, 0, 0, 0, 0], "length is out of range"),
    ];
    for (moment, at) in at {
        for (case, bytes, words) in &frames {
            let received = meet(Raw { at, bytes: bytes.clone() });
            assert_refused(&received, 12, words, &format!("{case} in answer to {moment}"));
        }
    }
}

#[test]
fn rows_43_46_and_47_what_does_not_agree_with_the_listing_is_refused() {
    let chunks = |totals: WireTotals| WireTotals { chunks: totals.chunks + 1, ..totals };
    let bytes = |totals: WireTotals| WireTotals { bytes: 0, ..totals };
    for (case, lie) in [("row 43", chunks as fn(WireTotals) -> WireTotals), ("row 37", bytes)] {
        assert_refused(&meet(Lying { totals: lie, ..Lying::new() }), 12, "totals", case);
    }
    let announced = |_: Option<ListingDigest>| ListingDigest([9; 32]);
    assert_refused(&meet(Lying { announced, ..Lying::new() }), 12, "not the one that was announced", "row 46");
}

/// Lies about one thing.
struct Lying {
    totals: fn(WireTotals) -> WireTotals,
    announced: fn(Option<ListingDigest>) -> ListingDigest,
}

impl Lying {
    fn new() -> Self {
        Self { totals: |totals| totals, announced: |right| right.unwrap() }
    }
}

impl Script for Lying {
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
        vec![(file("a", 1000), noise(1000, 1))]
    }

    fn totals(&self, totals: WireTotals) -> WireTotals {
        (self.totals)(totals)
    }

    fn announced(&self, right: Option<ListingDigest>) -> ListingDigest {
        (self.announced)(right)
    }
}

/// Answers requests for chunks, or others, in its own way.
struct Answers(fn(&mut Lane, &Message) -> Result<bool, TransportError>);

impl Script for Answers {
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
        vec![(file("a", 2 * CHUNK as u64), noise(2 * CHUNK, 1)), (file("b", 100), noise(100, 2))]
    }

    fn instead(&self, lane: &mut Lane, request: &Message) -> Result<bool, TransportError> {
        (self.0)(lane, request)
    }
}

/// The attacks on data lanes: what is sent where pieces are due.
fn instead_of_pieces(answer: fn(&mut Lane, u32) -> Result<(), TransportError>) -> (Received, Vec<String>) {
    struct Pieces(fn(&mut Lane, u32) -> Result<(), TransportError>);
    impl Script for Pieces {
        fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
            vec![(file("a", 2 * CHUNK as u64), noise(2 * CHUNK, 1)), (file("b", 100), noise(100, 2))]
        }
        fn instead(&self, lane: &mut Lane, request: &Message) -> Result<bool, TransportError> {
            let Message::ChunksRequest { piece_bytes, .. } = request else { return Ok(false) };
            (self.0)(lane, *piece_bytes)?;
            Ok(true)
        }
    }
    meet(Pieces(answer))
}

#[test]
fn rows_50_and_51_pieces_that_were_not_asked_for_end_the_session() {
    type Attack = fn(&mut Lane, u32) -> Result<(), TransportError>;
    let attacks: [(&str, Attack); 6] = [
        ("row 50: too short", |lane, piece| send_piece(lane, 0, 0, &vec![1; piece as usize - 1])),
        ("row 50: too long", |lane, piece| send_piece(lane, 0, 0, &vec![1; piece as usize + 1])),
        ("row 51: out of range", |lane, piece| send_piece(lane, u64::MAX, 0, &vec![1; piece as usize])),
        ("row 51: beyond the end", |lane, piece| send_piece(lane, 3, 0, &vec![1; piece as usize])),
        ("row 51: at another place", |lane, piece| send_piece(lane, 0, u64::MAX - 5, &vec![1; piece as usize])),
        ("row 51: twice", |lane, piece| {
            send_piece(lane, 0, 0, &vec![1; piece as usize])?;
            send_piece(lane, 0, 0, &vec![1; piece as usize])
        }),
    ];
    for (case, attack) in attacks {
        assert_refused(&instead_of_pieces(attack), 12, "not asked for", case);
    }
}

#[test]
fn row_52_and_its_kin_messages_out_of_turn_end_the_session() {
    type Attack = fn(&mut Lane, &Message) -> Result<bool, TransportError>;
    let attacks: [(&str, Attack, &str); 5] = [
        (
            "a request from the sender",
            |lane, request| match request {
                Message::ListingRequest { .. } => {
                    send_message(lane, &Message::HashesRequest { first: 0, count: 1 }).map(|()| true)
                }
                _ => Ok(false),
            },
            "out of turn",
        ),
        (
            "an entry that is not in question",
            |lane, request| match request {
                Message::ChunksRequest { .. } => {
                    let change = haul::wire::Change::Gone;
                    send_message(lane, &Message::SourceChanged { entry: 77, change }).map(|()| true)
                }
                _ => Ok(false),
            },
            "not in question",
        ),
        (
            "row 47: a second listing",
            |lane, request| match request {
                Message::SealRequest { .. } => {
                    let entries = vec![file("c", 1)];
                    send_message(lane, &Message::ListingPage { page: 0, entries, totals: None }).map(|()| true)
                }
                _ => Ok(false),
            },
            "out of turn",
        ),
        (
            "row 53: a seal over other hashes",
            |lane, request| match request {
                Message::SealRequest { .. } => send_message(lane, &Message::Seal { manifest: [1; 32] }).map(|()| true),
                _ => Ok(false),
            },
            "not made of the hashes",
        ),
        (
            "another version",
            |lane, request| match request {
                Message::Hello { .. } => {
                    let grant = haul::wire::SessionGrant { id: [0; 16], secret: [0; 32] };
                    let listing = ListingDigest([0; 32]);
                    let welcome = Message::Welcome { version: 77, features: 0, grant, lanes: 1, listing };
                    send_message(lane, &welcome).map(|()| true)
                }
                _ => Ok(false),
            },
            "another version",
        ),
    ];
    for (case, attack, words) in attacks {
        let (received, left) = meet(Answers(attack));
        let error = received.assert_exit(12)["error"].as_str().unwrap().to_owned();
        assert!(error.contains(words), "{case}: {error}");
        // What was verified before may be published; nothing else may.
        assert!(left.iter().all(|name| [".haul", "a", "b"].contains(&name.as_str())), "{case}: {left:?}");
    }
}

/// Sends wrong bytes for chunk 1, as often as it is asked.
struct Corrupt<'a> {
    asked: &'a AtomicU32,
    wrong_times: u32,
}

impl Script for Corrupt<'static> {
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
        vec![(file("a", 4 * CHUNK as u64), noise(4 * CHUNK, 1)), (file("b", 100), noise(100, 2))]
    }

    fn chunk(&self, number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if number == 1 && self.asked.fetch_add(1, Ordering::SeqCst) < self.wrong_times {
            bytes[1000] ^= 1;
        }
        bytes
    }
}

#[test]
fn row_49_a_chunk_with_wrong_bytes_is_asked_for_once_more_and_then_fails_its_file() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let (received, left) = meet(Corrupt { asked: &ASKED, wrong_times: u32::MAX });
    let code = received.status.code();
    assert!(matches!(code, Some(40)), "{received:#?}");
    assert_eq!(ASKED.load(Ordering::SeqCst), 2, "once more, over a new connection");
    assert_eq!(left, [".haul", "b"], "the partial file is kept, the other file arrived");
    let failed = received.events.iter().find(|event| event["ok"] == false && event["path"] == "a").unwrap();
    assert_eq!(failed["class"], "integrity");
}

#[test]
fn row_49_a_chunk_that_was_damaged_once_arrives_by_the_retry() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let (received, left) = meet(Corrupt { asked: &ASKED, wrong_times: 1 });
    received.assert_ok();
    assert_eq!(ASKED.load(Ordering::SeqCst), 2);
    assert_eq!(left, ["a", "b"]);
}

/// Answers every request for chunks with one compressed piece, made as told from the chunk's bytes.
struct Compressed(fn(&[u8]) -> Vec<u8>);

impl Script for Compressed {
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
        vec![(file("a", SMALL as u64), vec![b'a'; SMALL])]
    }

    fn instead(&self, lane: &mut Lane, request: &Message) -> Result<bool, TransportError> {
        let Message::ChunksRequest { .. } = request else { return Ok(false) };
        let payload = self.0(&[b'a'; SMALL]);
        let piece = Piece { chunk: 0, offset: 0, length: SMALL as u32 };
        lane.send(&[&piece_head(piece, Encoding::Zstd, payload.len()), &payload])?;
        Ok(true)
    }
}

fn shrunk(bytes: &[u8]) -> Vec<u8> {
    Encoder::new().encode(bytes, Level::MIN).unwrap().to_vec()
}

#[test]
fn s14_a_compressed_piece_that_is_not_what_it_says_ends_the_transfer() {
    let (received, left) = meet(Compressed(shrunk));
    received.assert_ok();
    assert_eq!(left, ["a"], "an honest one arrives");
    let attacks: [(&str, fn(&[u8]) -> Vec<u8>, &str); 6] = [
        ("noise", |_| noise(500, 1), "header that pieces do not have"),
        ("one byte", |_| vec![0x28], "is damaged"),
        ("a longer piece", |bytes| shrunk(&[bytes, bytes].concat()), "another number of bytes"),
        ("a shorter piece", |bytes| shrunk(&bytes[1..]), "another number of bytes"),
        ("bytes behind it", |bytes| [shrunk(bytes), vec![0; 9]].concat(), "behind its end"),
        ("half of it", |bytes| shrunk(bytes)[..12].to_vec(), "is damaged"),
    ];
    for (case, payload, words) in attacks {
        assert_refused(&meet(Compressed(payload)), 12, words, case);
    }
}

#[test]
fn a_compressed_piece_for_a_receiver_that_takes_none_ends_the_transfer() {
    let met = meet_with(Compressed(shrunk), &["--compress", "off"]);
    assert_refused(&met, 12, "unknown encoding", "not offered");
}

#[test]
fn rows_9_and_14_to_16_bytes_that_are_no_text_are_refused_and_odd_names_arrive() {
    let mut body = vec![3, 0, 1, 2, 0xff, 0xfe, 1, 0, 0, 0, 0];
    body.extend([1, 1, 0, 0, 0]);
    let at = |message: &Message| matches!(message, Message::ListingRequest { .. });
    assert_refused(&meet(Raw { at, bytes: raw_frame(&body) }), 12, "cannot be read", "row 9");
    let names = ["COM1 ", "CON", "Lecture 10:30.mp4", "a.", "file:stream"];
    let (received, left) = meet(Listed(names.iter().map(|name| file(name, 0)).collect()));
    received.assert_ok();
    assert_eq!(left, names);
}

/// A link, whatever it holds.
fn symlink(path: &str, target: &str) -> WireEntry {
    WireEntry { kind: WireKind::Symlink(target.into()), ..file(path, 0) }
}

#[test]
fn row_25_a_link_out_of_the_offer_refuses_all_of_it_and_one_that_is_read_otherwise_elsewhere_itself_alone() {
    for target in ["/etc", "..", "../..", "../outside", "x/../../..", "", ".haul", "\x1b]0;x\x07"] {
        let entries = vec![file("a", 0), folder("d"), symlink("d/l", target)];
        let met = meet_with(Listed(entries), &["--symlinks"]);
        assert_refused(&met, 12, "symbolic link", target);
    }
    let entries = vec![folder("d"), symlink("d/l", "a\\b"), symlink("d/m", "a\u{202e}b"), symlink("d/n", "x")];
    let (received, left) = meet_with(Listed(entries), &["--symlinks"]);
    let failed = received.events.iter().filter(|event| event["event"] == "file" && event["ok"] == false);
    assert_eq!(failed.map(|event| event["path"].as_str().unwrap()).collect::<Vec<_>>(), ["d/l", "d/m"]);
    assert_eq!(left, [".haul", "d"], "a later run may bring what failed");
}

#[test]
fn row_26_a_link_and_then_a_file_below_it_is_refused_before_either_is_made() {
    let entries = vec![folder("d"), symlink("d/l", "."), file("d/l/x", 0)];
    assert_refused(&meet_with(Listed(entries), &["--symlinks"]), 12, "out of order", "row 26");
    // In two offers: what the first one made is not passed through by the second.
    let playground = Playground::new();
    let into = playground.dir("into");
    fs::create_dir(into.join("d")).unwrap();
    std::os::unix::fs::symlink("elsewhere", into.join("d/l")).unwrap();
    fs::create_dir(into.join("d/elsewhere")).unwrap();
    let sender = EvilSender::start(Listed(vec![folder("d"), folder("d/l"), file("d/l/x", 0)]));
    let received = playground.receive(&sender.link(), &into, &["--symlinks", "--overwrite"]).wait();
    assert_ne!(received.status.code(), Some(0), "{received:#?}");
    assert_eq!(names(&into.join("d/elsewhere")), Vec::<String>::new());
    assert!(fs::symlink_metadata(into.join("d/l")).unwrap().is_symlink());
}

#[test]
fn row_35_times_that_no_clock_shows_arrive_as_files() {
    let times = [i64::MIN, i64::MAX, 9_223_372_017_129_599, -1];
    let entries = (0..).zip(times).map(|(number, seconds)| WireEntry {
        seconds,
        nanoseconds: u32::MAX,
        mode: u16::MAX,
        ..file(&format!("{number}"), 0)
    });
    let (received, left) = meet(Listed(entries.collect()));
    received.assert_ok();
    assert_eq!(left, ["0", "1", "2", "3"]);
}

/// Lets a real receiver meet `script`; what it said, and the names that it left.
fn meet(script: impl Script) -> (Received, Vec<String>) {
    meet_with(script, &[])
}

fn meet_with(script: impl Script, args: &[&str]) -> (Received, Vec<String>) {
    let playground = Playground::new();
    let into = playground.dir("into");
    let sender = EvilSender::start(script);
    let received = playground.receive(&sender.link(), &into, args).wait();
    assert!(!received.stderr.contains("panicked"), "{received:#?}");
    for character in received.stderr.chars().filter(|character| *character != '\n') {
        assert!(!character.is_control(), "{character:?} reaches the terminal: {:?}", received.stderr);
        assert!(!('\u{200b}'..='\u{200f}').contains(&character) && !('\u{202a}'..='\u{2069}').contains(&character));
    }
    assert_eq!(names(&playground.path(".")), ["into", "state"][..names(&playground.path(".")).len()]);
    let left = names(&into);
    (received, left)
}

fn assert_refused((received, left): &(Received, Vec<String>), code: i32, words: &str, case: &str) {
    assert_eq!(received.status.code(), Some(code), "{case}: {received:#?}");
    let error = received.assert_exit(code)["error"].as_str().unwrap();
    assert!(error.contains(words), "{case}: {error}");
    assert!(left.iter().all(|name| name == ".haul"), "{case} left {left:?}");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
