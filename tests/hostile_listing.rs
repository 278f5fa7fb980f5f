//! An evil sender offers what no folder can be: bad-input rows 19, 21, 25 to 27, 33 to 37, 39, 42, 43, 46 to 48.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

#[path = "support/hostile.rs"]
mod hostile;

use haul::chunk::Length;
use haul::digest::ListingDigest;
use haul::limits::{CHUNK_BYTES_MIN, FILE_BYTES_MAX, LISTING_BYTES_MAX};
use haul::manifest::{Attributes, Entry, EntryKind, ListingBuilder, ListingFault, Mode, TargetFault, Timestamp};
use haul::rel_path::{PathFault, RelPath};
use haul::session::{End, Input, LaneId, LaneRole, Output, PeerFault};
use haul::wire::{FrameFault, MessageFault};
use hostile::{CONTROL, HandEntry, ReceiverVictim, listing, listing_page, welcome, working};

fn greeted() -> ReceiverVictim {
    let mut victim = ReceiverVictim::new();
    victim.feed(CONTROL, &welcome(ListingDigest([0; 32])));
    victim
}

fn offer_of(entries: &[HandEntry], totals: [u64; 4]) -> ReceiverVictim {
    let mut victim = greeted();
    victim.feed(CONTROL, &listing_page(0, entries, Some(totals)));
    assert!(!victim.outputs.contains(&Output::Offered), "nobody is asked about it");
    victim
}

#[test]
fn row_19_two_equal_paths_are_refused() {
    let same = HandEntry::file("a", 1);
    offer_of(&[same.clone(), same], [2, 0, 2, 2]).assert_refused(PeerFault::Listing(ListingFault::Duplicate));
}

#[test]
fn row_21_and_26_a_file_that_holds_another_is_refused() {
    let entries = [HandEntry::file("a", 1), HandEntry::file("a/b", 1)];
    offer_of(&entries, [2, 0, 2, 2]).assert_refused(PeerFault::Listing(ListingFault::Order));
}

#[test]
fn entries_out_of_order_or_without_their_folder_are_refused() {
    for paths in [["b", "a"], ["a/b", "c"], ["a.b", "a/b"]] {
        let victim = offer_of(&paths.map(|path| HandEntry::file(path, 1)), [2, 0, 2, 2]);
        victim.assert_refused(PeerFault::Listing(ListingFault::Order));
    }
}

#[test]
fn row_33_to_35_modes_and_times_are_brought_into_range() {
    let wild = [(0o4755, i64::MIN), (0o2755, i64::MAX), (0o1777, -1), (0, 1 << 62), (u16::MAX, i64::MIN + 1)];
    let mut builder = ListingBuilder::new();
    let mut entries = Vec::new();
    for (place, &(mode, seconds)) in wild.iter().enumerate() {
        let path = place.to_string();
        entries.push(HandEntry { mode, seconds, nanoseconds: u32::MAX, ..HandEntry::file(&path, 1) });
        let kind = EntryKind::File { length: Length(1) };
        let (mode, modified) = (Mode::masked(u32::from(mode)), Timestamp::clamped(seconds, u32::MAX));
        let attributes = Attributes::NONE;
        builder.push(Entry { path: RelPath::parse(&path).unwrap(), kind, mode, modified, attributes }).unwrap();
    }
    let totals = builder.totals();
    let tame = builder.finish(totals).unwrap();
    let mut victim = ReceiverVictim::new();
    victim.feed(CONTROL, &welcome(tame.digest()));
    victim.feed(CONTROL, &listing_page(0, &entries, Some([5, 0, 5, 5])));
    assert_eq!((victim.fault(), victim.outputs.last()), (None, Some(&Output::Offered)));
    for entry in victim.receiver.listing().unwrap().entries() {
        assert!(entry.mode.bits() <= 0o777 && entry.modified.nanoseconds() < 1_000_000_000);
        assert!((-62_167_219_200..=253_402_300_799).contains(&entry.modified.seconds()));
    }
}

#[test]
fn row_36_a_file_longer_than_any_is_refused() {
    for length in [u64::MAX, i64::MAX as u64 + 1, FILE_BYTES_MAX + 1] {
        let victim = offer_of(&[HandEntry::file("a", length)], [1, 0, length, 1]);
        victim.assert_refused(PeerFault::Listing(ListingFault::FileTooLong));
    }
}

#[test]
fn row_37_lengths_that_overflow_together_are_refused() {
    let entries: Vec<_> = (0..1025).map(|i| HandEntry::file(format!("{i:04}"), FILE_BYTES_MAX)).collect();
    offer_of(&entries, [1025, 0, 0, 0]).assert_refused(PeerFault::Listing(ListingFault::TotalTooLong));
}

#[test]
fn row_39_a_million_entries_and_one_are_refused() {
    let mut victim = greeted();
    for page in 0u64.. {
        let entries: Vec<_> = (0..4000).map(|i| HandEntry::folder(format!("{:07}", page * 4000 + i))).collect();
        victim.feed(CONTROL, &listing_page(page, &entries, None));
        victim.outputs.clear();
        if victim.fault().is_some() {
            assert_eq!(page, 250, "at the entry that is too many");
            break;
        }
    }
    victim.assert_refused(PeerFault::Listing(ListingFault::TooMany));
}

#[test]
fn row_39_a_listing_longer_than_any_is_refused() {
    let mut victim = greeted();
    let folder = ["d".repeat(250).as_str(); 15].join("/");
    let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
    let folders: Vec<_> = ends.map(|end| HandEntry::folder(&folder[..end])).collect();
    victim.feed(CONTROL, &listing_page(0, &folders, None));
    let mut bytes = 0;
    for page in 1u64.. {
        let file = |i: u64| HandEntry::file(format!("{folder}/{:07}", page * 15 + i), 1);
        let page = listing_page(page, &(0..15).map(file).collect::<Vec<_>>(), None);
        bytes += page.len() as u64;
        victim.feed(CONTROL, &page);
        if victim.fault().is_some() {
            break;
        }
    }
    victim.assert_refused(PeerFault::Listing(ListingFault::TooLong));
    assert!(bytes <= LISTING_BYTES_MAX + 64 * 1024);
}

#[test]
fn row_42_and_43_chunk_counts_other_than_the_lengths_make_are_refused() {
    // No chunk length is on the wire: it follows from the file's.
    for chunks in [0, 1, 3, 4, u64::MAX] {
        let victim = offer_of(&[HandEntry::file("a", CHUNK_BYTES_MIN + 1)], [1, 0, CHUNK_BYTES_MIN + 1, chunks]);
        victim.assert_refused(PeerFault::Listing(ListingFault::Totals));
    }
}

#[test]
fn false_totals_are_refused() {
    for totals in [[2, 0, 1, 1], [1, 1, 1, 1], [1, 0, 2, 1], [0, 0, 0, 0]] {
        let victim = offer_of(&[HandEntry::file("a", 1)], totals);
        victim.assert_refused(PeerFault::Listing(ListingFault::Totals));
    }
}

#[test]
fn row_46_a_listing_other_than_the_announced_one_is_refused() {
    offer_of(&[HandEntry::file("a", 1)], [1, 0, 1, 1]).assert_refused(PeerFault::ListingDigest);
}

#[test]
fn row_47_a_second_listing_is_refused() {
    let accepted = listing(&[("a", Some(1))]);
    let mut again = ReceiverVictim::fetching(&accepted);
    again.feed(CONTROL, &listing_page(0, &[HandEntry::file("b", 1)], Some([1, 0, 1, 1])));
    again.assert_refused(PeerFault::OutOfTurn("the answer to another question"));
    for mut victim in [ReceiverVictim::deciding(&accepted), ReceiverVictim::fetching(&accepted)] {
        let lane = LaneId(7);
        victim.tell(Input::LaneLost { lane: CONTROL, held: None });
        victim.tell(Input::LaneOpened { lane, role: LaneRole::Control });
        victim.feed(lane, &welcome(listing(&[("a", Some(2))]).digest()));
        // Over a new connection it is another offer, of which nothing is asked before the user has seen it.
        assert_eq!(victim.outputs.last(), Some(&Output::End(End::OfferChanged)));
    }
}

#[test]
fn row_48_an_empty_offer_is_refused() {
    offer_of(&[], [0; 4]).assert_refused(PeerFault::Listing(ListingFault::Empty));
}

#[test]
fn pages_out_of_order_and_pages_of_nothing_are_refused() {
    for (page, entries) in [(1, vec![HandEntry::file("a", 1)]), (u64::from(u32::MAX), vec![]), (0, vec![])] {
        let mut victim = greeted();
        victim.feed(CONTROL, &listing_page(page, &entries, None));
        victim.assert_refused(PeerFault::ListingPage);
    }
}

#[test]
fn an_entry_after_the_last_page_is_refused() {
    let mut victim = ReceiverVictim::deciding(&listing(&[("a", Some(1))]));
    victim.feed(CONTROL, &listing_page(1, &[HandEntry::file("b", 1)], None));
    victim.assert_refused(PeerFault::OutOfTurn("an answer without a question"));
}

#[test]
fn a_sender_that_works_for_ever_makes_nothing_grow() {
    let mut victim = greeted();
    let before = victim.outputs.len();
    for _ in 0..10_000 {
        victim.feed(CONTROL, &working());
    }
    assert_eq!((victim.fault(), victim.outputs.len()), (None, before));
}

#[test]
fn row_25_a_link_that_leads_out_or_nowhere_refuses_the_whole_offer() {
    let cases = [
        ("/etc/passwd", PeerFault::Target(TargetFault::Absolute)),
        ("C:\\x", PeerFault::Target(TargetFault::Absolute)),
        ("", PeerFault::Target(TargetFault::Empty)),
        ("x/..", PeerFault::Target(TargetFault::Winding)),
        ("x/../../../etc", PeerFault::Target(TargetFault::Winding)),
        ("a\0b", PeerFault::Target(TargetFault::Name(PathFault::Control))),
        ("\x1b[2J", PeerFault::Target(TargetFault::Name(PathFault::Control))),
        (".haul/x", PeerFault::Target(TargetFault::Name(PathFault::WorkFolder))),
        ("..\\..\\evil", PeerFault::Target(TargetFault::Name(PathFault::Dots))),
        ("..", PeerFault::Listing(ListingFault::Symlink(TargetFault::Leaves))),
        ("../../etc/passwd", PeerFault::Listing(ListingFault::Symlink(TargetFault::Leaves))),
    ];
    for (target, fault) in cases {
        offer_of(&[HandEntry::folder("d"), HandEntry::symlink("d/l", target)], [1, 1, 0, 0]).assert_refused(fault);
    }
    let long = "x/".repeat(2049);
    let long = offer_of(&[HandEntry::folder("d"), HandEntry::symlink("d/l", long)], [1, 1, 0, 0]);
    long.assert_refused(PeerFault::Target(TargetFault::TooLong));
    let at_top = offer_of(&[HandEntry::symlink("l", "x")], [1, 0, 0, 0]);
    at_top.assert_refused(PeerFault::Listing(ListingFault::Symlink(TargetFault::AtTop)));
}

#[test]
fn row_26_nothing_is_listed_below_a_link() {
    let entries = [HandEntry::folder("d"), HandEntry::symlink("d/l", "."), HandEntry::file("d/l/x", 1)];
    offer_of(&entries, [2, 1, 1, 1]).assert_refused(PeerFault::Listing(ListingFault::Order));
    let entries = [HandEntry::folder("d"), HandEntry::symlink("d/l", "."), HandEntry::symlink("d/l/x", "y")];
    offer_of(&entries, [2, 1, 0, 0]).assert_refused(PeerFault::Listing(ListingFault::Order));
    let entries = [HandEntry::file("a", 1), HandEntry::hard_link("b", 0), HandEntry::file("b/x", 1)];
    offer_of(&entries, [3, 0, 2, 2]).assert_refused(PeerFault::Listing(ListingFault::Order));
}

#[test]
fn row_27_a_hard_link_names_a_file_before_it() {
    for to in [1, 2, 3, u32::MAX] {
        let entries = [HandEntry::file("a", 1), HandEntry::folder("b"), HandEntry::hard_link("c", to)];
        offer_of(&entries, [2, 1, 1, 1]).assert_refused(PeerFault::Listing(ListingFault::HardLink));
    }
    let chain = [HandEntry::file("a", 1), HandEntry::hard_link("b", 0), HandEntry::hard_link("c", 1)];
    offer_of(&chain, [3, 0, 1, 1]).assert_refused(PeerFault::Listing(ListingFault::HardLink));
    // A link has no bytes of its own to count.
    let counted = [HandEntry::file("a", 1), HandEntry::hard_link("b", 0)];
    offer_of(&counted, [2, 0, 2, 1]).assert_refused(PeerFault::Listing(ListingFault::Totals));
}

#[test]
fn attributes_of_others_than_users_are_no_message_and_those_of_a_link_refuse_the_offer() {
    let attribute = |name: &str| {
        let mut bytes = vec![1, name.len() as u8];
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&[1, b'x']);
        bytes
    };
    for name in ["security.capability", "trusted.x", "system.posix_acl_access", "user.", "user", "", "user.a\0"] {
        let entry = HandEntry { attributes: attribute(name), ..HandEntry::file("a", 1) };
        offer_of(&[entry], [1, 0, 1, 1]).assert_frame_refused(FrameFault::Message(MessageFault::Malformed));
    }
    let link = HandEntry { attributes: attribute("user.a"), ..HandEntry::symlink("d/l", "x") };
    let victim = offer_of(&[HandEntry::folder("d"), link], [1, 1, 0, 0]);
    victim.assert_refused(PeerFault::Listing(ListingFault::LinkAttributes));
}
