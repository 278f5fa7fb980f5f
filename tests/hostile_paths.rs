//! An evil sender chooses the names: bad-input rows 1 to 13, 17, 18, 22 and 24.

#[path = "support/hostile.rs"]
mod hostile;

use haul::digest::ListingDigest;
use haul::rel_path::{PathFault, RelPath};
use haul::session::{Output, PeerFault};
use haul::wire::{FrameFault, MessageFault};
use hostile::{CONTROL, HandEntry, ReceiverVictim, listing_page, welcome};

fn offer_of(path: impl AsRef<[u8]>) -> ReceiverVictim {
    let mut victim = ReceiverVictim::new();
    victim.feed(CONTROL, &welcome(ListingDigest([0; 32])));
    victim.feed(CONTROL, &listing_page(0, &[HandEntry::file(path, 1)], Some([1, 0, 1, 1])));
    assert!(!victim.outputs.contains(&Output::Offered), "nobody is asked about it");
    assert!(victim.receiver.listing().is_none());
    victim
}

#[track_caller]
fn assert_refused(paths: &[&str], fault: PathFault) {
    for path in paths {
        let victim = offer_of(path);
        assert_eq!(victim.fault(), Some(hostile::Fault::Peer(PeerFault::Path(fault))), "{path:?}");
        victim.assert_nothing_stored();
    }
}

#[test]
fn row_01_a_path_that_starts_above_is_refused() {
    assert_refused(&["../evil"], PathFault::Dots);
}

#[test]
fn row_02_a_path_that_climbs_is_refused() {
    assert_refused(&["a/../../evil", "a/..", "a/../b"], PathFault::Dots);
}

#[test]
fn row_03_dots_alone_and_no_name_are_refused() {
    assert_refused(&["..", "."], PathFault::Dots);
    assert_refused(&[""], PathFault::Empty);
}

#[test]
fn row_04_absolute_paths_are_refused() {
    assert_refused(&["/etc/passwd", "//x", "/"], PathFault::Absolute);
}

#[test]
fn row_05_drives_and_shares_are_refused() {
    let paths = ["C:\\x", "C:x", "c:", "\\\\server\\share\\x", "\\\\?\\C:\\x", "\\x"];
    assert_refused(&paths, PathFault::Absolute);
}

#[track_caller]
fn assert_refused_alone(path: &str, fault: PathFault) {
    let victim = ReceiverVictim::deciding(&hostile::listing(&[(path, Some(1))]));
    assert!(victim.outputs.contains(&Output::Offered), "{path:?}");
    let listing = victim.receiver.listing().unwrap();
    assert_eq!(listing.entries()[0].path.refusal(), Some(fault), "{path:?}");
    assert_eq!(RelPath::parse(path), Err(fault));
}

#[test]
fn row_06_a_backslash_refuses_its_file_alone() {
    for path in ["a\\b", "b\\c\\"] {
        assert_refused_alone(path, PathFault::Backslash);
    }
    assert_eq!(RelPath::parse("a/b\\c"), Err(PathFault::Backslash));
    assert_refused(&["a\\..\\..\\b"], PathFault::Dots);
}

#[test]
fn row_07_nul_is_refused() {
    assert_refused(&["\0", "a\0b", "a.txt\0.exe"], PathFault::Control);
}

#[test]
fn row_08_paths_that_are_not_canonical_are_refused() {
    assert_refused(&["a//b", "a/", "a/b/"], PathFault::Empty);
    assert_refused(&["./a", "a/./b", "a/."], PathFault::Dots);
}

#[test]
fn row_09_text_that_is_not_utf_8_is_refused() {
    for path in [&[0xff][..], &[0xed, 0xa0, 0x80], &[0xc0, 0xaf], &[b'a', 0x80]] {
        offer_of(path).assert_frame_refused(FrameFault::Message(MessageFault::Malformed));
    }
}

#[test]
fn row_10_and_11_control_characters_and_escapes_are_refused() {
    for code in (1..0x20).chain(0x7f..=0x9f) {
        let path = format!("a{}b", char::from(code));
        assert_refused(&[&path], PathFault::Control);
    }
    assert_refused(&["\x1b[2J", "\x1b]52;c;YQ==\x07", "\u{9b}2J", "a\r\nb"], PathFault::Control);
}

#[test]
fn row_12_and_13_characters_that_hide_or_reorder_refuse_their_file_alone() {
    for code in (0x202a..=0x202e).chain(0x2066..=0x2069).chain([0x200b, 0xfeff, 0x200e, 0x200f, 0x61c]) {
        let path = format!("exe{}txt", char::from_u32(code).unwrap());
        assert_refused_alone(&path, PathFault::Misleading);
    }
}

#[test]
fn row_17_long_names_long_paths_and_deep_paths_are_refused() {
    assert_refused(&[&"a".repeat(256)], PathFault::ComponentTooLong);
    assert_refused(&[&["a".repeat(200).as_str(); 21].join("/")], PathFault::TooLong);
    assert_refused(&[&["a"; 65].join("/")], PathFault::Deep);
}

#[test]
fn row_18_a_name_of_255_bytes_is_offered() {
    let name = "n".repeat(255);
    let victim = ReceiverVictim::deciding(&hostile::listing(&[(&name, Some(1))]));
    assert!(victim.outputs.contains(&Output::Offered));
}

#[test]
fn row_22_the_folder_of_unfinished_transfers_is_refused() {
    assert_refused(&[".haul", ".HAUL", "a/.haul", "a/.Haul/b", ".ha\u{200c}ul"], PathFault::WorkFolder);
}

#[test]
fn row_24_the_destination_itself_is_refused() {
    let mut victim = ReceiverVictim::new();
    victim.feed(CONTROL, &welcome(ListingDigest([0; 32])));
    victim.feed(CONTROL, &listing_page(0, &[HandEntry::folder("")], Some([0, 1, 0, 0])));
    victim.assert_refused(PeerFault::Path(PathFault::Empty));
}
