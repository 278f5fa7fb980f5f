//! Frames that no honest peer writes, to both roles: bad-input rows 27, 28, 40, 41, 57 and 58.

#[path = "support/hostile.rs"]
mod hostile;

use haul::digest::ListingDigest;
use haul::wire::{FrameFault, MessageFault};
use hostile::{CONTROL, Fault, ReceiverVictim, SenderVictim, frame, header, listing, welcome};

#[track_caller]
fn assert_refused_by_both(bytes: &[u8], fault: FrameFault) {
    let mut receiver = ReceiverVictim::new();
    receiver.feed(CONTROL, bytes);
    receiver.assert_frame_refused(fault);
    let mut sender = SenderVictim::greeted(listing(&[("a", Some(1))]));
    sender.feed(CONTROL, bytes);
    assert_eq!((sender.fault(), sender.work()), (Some(Fault::Frame(fault)), 0));
}

#[test]
fn row_27_and_28_an_entry_that_is_neither_file_nor_folder_is_refused() {
    // Page 0, one entry with the path "a"; then, in place of the length's 0 or 1, what could be a type of its own.
    for kind in 2..=255 {
        let mut victim = ReceiverVictim::new();
        victim.feed(CONTROL, &welcome(ListingDigest([0; 32])));
        victim.feed(CONTROL, &frame(1, &[3, 0, 1, 1, b'a', kind, 0, 0, 0, 0]));
        victim.assert_frame_refused(FrameFault::Message(MessageFault::Malformed));
    }
}

#[test]
fn row_28_an_unknown_message_is_refused() {
    for variant in 16..=127 {
        assert_refused_by_both(&frame(1, &[variant]), FrameFault::Message(MessageFault::Malformed));
    }
}

#[test]
fn row_40_an_announced_length_of_4_gib_is_refused() {
    let announced = [&header(1, 0, 0, u32::MAX)[..], &[1, 2, 3]].concat();
    assert_refused_by_both(&announced, FrameFault::Length);
    let announced = [&header(2, 0, 0, u32::MAX)[..], &[1, 2, 3]].concat();
    assert_refused_by_both(&announced, FrameFault::Length);
    // A listing page, a hash page, ranges of chunks and files without a root, each of 2^32 - 1 items.
    for variant in [&[3, 0][..], &[5, 0], &[6], &[8]] {
        let body = [variant, &[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3]].concat();
        assert_refused_by_both(&frame(1, &body), FrameFault::Message(MessageFault::Malformed));
    }
}

#[test]
fn row_41_overlong_numbers_are_refused() {
    assert_refused_by_both(&frame(1, &[12, 0x85, 0]), FrameFault::Message(MessageFault::NotCanonical));
    let eleven_bytes = [&[12][..], &[0x80; 10], &[0]].concat();
    assert_refused_by_both(&frame(1, &eleven_bytes), FrameFault::Message(MessageFault::Malformed));
    let overflow = [&[12][..], &[0xff; 10]].concat();
    assert_refused_by_both(&frame(1, &overflow), FrameFault::Message(MessageFault::Malformed));
}

#[test]
fn row_57_unknown_kinds_set_flags_and_trailing_bytes_are_refused() {
    for kind in (0..=255).filter(|kind| ![1, 2].contains(kind)) {
        assert_refused_by_both(&frame(kind, &[11]), FrameFault::Kind);
    }
    for flag in 0..16 {
        assert_refused_by_both(&[&header(1, 0, 1 << flag, 1)[..], &[11]].concat(), FrameFault::Reserved);
    }
    assert_refused_by_both(&[&header(1, 1, 0, 1)[..], &[11]].concat(), FrameFault::Reserved);
    assert_refused_by_both(&frame(1, &[11, 0]), FrameFault::Message(MessageFault::NotCanonical));
    assert_refused_by_both(&[&header(2, 3, 0, 24)[..], &[0; 24]].concat(), FrameFault::Encoding);
    assert_refused_by_both(&[&header(2, 2, 0, 24)[..], &[0; 24]].concat(), FrameFault::Length);
}

#[test]
fn row_58_a_message_longer_than_a_frame_is_refused() {
    let body = vec![12; 64 * 1024 + 1];
    assert_refused_by_both(&frame(1, &body), FrameFault::Length);
    assert_refused_by_both(&frame(1, &[]), FrameFault::Length);
    assert_refused_by_both(&frame(2, &vec![0; 24 + 256 * 1024 + 1]), FrameFault::Length);
    // Just inside, the length is fine and the content is what counts.
    assert_refused_by_both(&frame(1, &body[1..]), FrameFault::Message(MessageFault::NotCanonical));
}

#[test]
fn a_piece_whose_address_and_payload_differ_is_refused() {
    let mut bytes = hostile::piece(0, 0, 3);
    bytes[24] = 4;
    assert_refused_by_both(&bytes, FrameFault::Length);
    let mut reserved = hostile::piece(0, 0, 3);
    reserved[28] = 1;
    assert_refused_by_both(&reserved, FrameFault::Reserved);
}
