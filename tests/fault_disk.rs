//! Cells of the fault matrix about a disk that refuses, seen by one whole transfer on a disk in memory.
//!
//! Names and moments are those of `fault_transfers.rs`. A *verify* or *rename* cell is met at every call of a
//! publication in turn: whether the file has its name when the call fails decides which of both it is.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

#[allow(dead_code, reason = "a seeded run uses the rest")]
mod support {
    pub(crate) mod fault_play;
    pub(crate) mod sim_core;
    #[allow(clippy::verbose_bit_mask)] // Permission bits are written in octal.
    pub(crate) mod sim_disk;
    pub(crate) mod sim_net;
    pub(crate) mod sim_receiver;
    mod sim_receiver_disk;
    mod sim_receiver_lanes;
    pub(crate) mod sim_rng;
    pub(crate) mod sim_older;
    mod sim_push;
    pub(crate) mod sim_sender;
    pub(crate) mod sim_shelf;
    pub(crate) mod sim_source;
    pub(crate) mod sim_store;
    pub(crate) mod sim_watch;
}
#[path = "support/store_kit.rs"]
mod store_kit;

use haul::chunk::ChunkIndex;
use haul::session::FileFault;
use haul::store::{OnConflict, Store, StoreError};
use std::io::ErrorKind;
use store_kit::{Offer, Receipt, path, wish};
use support::fault_play::{At, CHUNK, CHUNKS, Play, content};
use support::sim_disk::{Failure, SimDisk};
use support::sim_net::SimNet;

/// Fails the calls of a publication from each one on in turn, for as long as the file has no name. `then` looks at what
/// is there after each such failure; once the disk is whole again, a further run must complete. Returns how many calls
/// were met.
fn fails_while_publishing(failure: Failure, then: impl Fn(&Play)) -> u64 {
    let mut met = 0;
    for at in 0.. {
        let mut play = Play::new();
        play.until(At::Verify);
        play.disk().fail(at, failure, true);
        play.go_on_until("the call", |play| play.disk().hits() > 0 || play.has_arrived());
        if play.disk().hits() == 0 {
            break;
        }
        let has_failed = !play.receiver.watch.failed().is_empty();
        if has_failed && !play.has_arrived() {
            met += 1;
            then(&play);
            play.disk().heal();
            assert_eq!(play.end_with_failures(), [FileFault::Disk], "call {at}: the sender is told that it failed");
            play.again();
            play.finish();
            assert_eq!(play.receiver_runs, 2);
        }
    }
    met
}

#[test]
fn a_file_for_which_no_room_is_waited_for_fails_and_keeps_its_chunks() {
    let mut play = Play::new();
    play.receiver.shelf.never_reserves();
    play.until(At::Chunks(2));
    let kept = play.receiver.watch.stored_chunks().clone();
    play.disk().fail(0, Failure::Enospc, true);
    assert_eq!(play.end_with_failures(), [FileFault::Disk]);
    assert!(play.disk().hits() > 0 && !play.has_arrived());
    play.assert_nothing_else(&[".haul/"]);
    play.disk().heal();
    play.again();
    play.finish();
    play.assert_none_lost();
    assert!(play.receiver.watch.asked_chunks().len() <= CHUNKS - kept.len(), "what was verified is kept");
}

#[test]
fn a_full_disk_is_named_as_such_whether_room_was_set_aside_or_not() {
    let offer = Offer::one("f", content());
    for disk in [SimDisk::new(), SimDisk::new().without_reservation()] {
        let store = Store::open(disk.clone()).unwrap();
        let opened = store.open_partial(&path("f"), offer.geometry(0).file_length()).unwrap();
        disk.fail(0, Failure::Enospc, true);
        let error = offer.fetch(&opened.partial, 0, 0).unwrap_err();
        assert!(matches!(error, StoreError::NoSpace { needed, .. } if needed > 0), "{error}");
    }
}

#[test]
fn a_publication_for_which_no_room_is_waited_for_fails_and_is_taken_up_again() {
    let met = fails_while_publishing(Failure::Enospc, |play| {
        assert!(!play.has_arrived(), "nothing half new appears");
    });
    assert!(met > 0);
}

#[test]
fn a_move_for_which_no_room_is_waited_for_keeps_the_partial_file() {
    // A folder that has no room for one more name refuses the move itself: the file has none then, and keeps its `.part`.
    let offer = Offer::one("f", content());
    let (mut met, mut reused) = (0, 0);
    for at in 0.. {
        let disk = SimDisk::new();
        let store = Store::open(disk.clone()).unwrap();
        let sealed = offer.complete(&store, 0, &mut Receipt::default()).unwrap();
        disk.fail(at, Failure::Enospc, false);
        let Err(error) = store.publish(sealed, &wish("f", OnConflict::Fail)) else {
            assert!(disk.hits() == 0 || disk.read("f").is_some());
            if disk.hits() == 0 && disk.calls() <= at {
                break;
            }
            continue;
        };
        if !matches!(error, StoreError::NoSpace { .. }) || disk.read("f").is_some() {
            continue;
        }
        met += 1;
        assert!(disk.part().is_some(), "call {at}: {error}");
        let mut receipt = Receipt::default();
        let sealed = offer.complete(&Store::open(disk.clone()).unwrap(), 0, &mut receipt).unwrap();
        assert_eq!(receipt.fetched, 0, "call {at}");
        reused += receipt.reused;
        store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
    }
    // The cut to its length and the move are the two that ask for room.
    assert_eq!((met, reused), (2, 2 * CHUNKS));
}

#[test]
fn fault_eio_on_write_chunks() {
    let mut play = Play::new();
    play.until(At::Chunks(2));
    let kept = play.receiver.watch.stored_chunks().clone();
    play.disk().fail(0, Failure::EioOnWrite, true);
    assert_eq!(play.end_with_failures(), [FileFault::Disk]);
    assert!(!play.has_arrived() && play.disk().part().is_some(), "the partial file is kept");
    play.disk().heal();
    play.again();
    play.finish();
    // A refused write says nothing of the pages before it, and no sync has failed: on the same boot the claims stand.
    play.assert_none_lost();
    assert!(play.receiver.watch.asked_chunks().len() <= CHUNKS - kept.len());
}

#[test]
fn fault_eio_on_fsync_chunks() {
    let offer = Offer::one("f", content());
    let disk = SimDisk::new();
    {
        let store = Store::open(disk.clone()).unwrap().with_background_sync_bytes(2 * CHUNK as u64);
        let opened = store.open_partial(&path("f"), offer.geometry(0).file_length()).unwrap();
        (0..2).for_each(|index| offer.fetch(&opened.partial, 0, index).unwrap());
        opened.partial.wait_for_sync().unwrap();
        disk.fail(0, Failure::EioOnSync, true);
        (2..4).for_each(|index| offer.fetch(&opened.partial, 0, index).unwrap());
        let failed = opened.partial.wait_for_sync().unwrap_err();
        assert!(matches!(failed, StoreError::FsyncFailed { .. }), "{failed}");
        let hits = disk.hits();
        assert!(matches!(opened.partial.lease(ChunkIndex(4)), Err(StoreError::FsyncFailed { .. })), "the file fails");
        assert_eq!((hits, disk.hits()), (1, 1), "it is not tried again");
    }
    disk.heal();
    let mut receipt = Receipt::default();
    let store = Store::open(disk.clone()).unwrap();
    let sealed = offer.complete(&store, 0, &mut receipt).unwrap();
    assert_eq!((receipt.reused, receipt.fetched), (2, CHUNKS - 2), "what was synced stays, all else is suspect");
    store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
    assert_eq!(disk.crash(3).read("f").unwrap(), offer.bytes(0));
}

#[test]
fn fault_eio_on_fsync_verify() {
    let mut play = Play::new();
    play.until(At::Verify);
    play.disk().fail(0, Failure::EioOnSync, true);
    assert_eq!(play.end_with_failures(), [FileFault::Disk]);
    assert_eq!(play.disk().hits(), 1, "a sync that failed is not tried again");
    assert!(!play.has_arrived(), "and nothing is published");
    play.disk().heal();
    play.again();
    play.finish();
    assert_eq!(play.receiver.watch.asked_chunks().len(), CHUNKS, "pages that no sync covered are not believed");
    assert_eq!(play.disk().crash(4).read("f").unwrap(), content());
}

#[test]
fn fault_eio_on_fsync_rename() {
    let mut met = 0;
    for at in 0.. {
        let mut play = Play::new();
        play.until(At::Verify);
        play.disk().fail(at, Failure::EioOnSync, false);
        play.go_on_until("the call", |play| play.receiver.watch.failed().len() == 1 || play.has_arrived());
        if play.disk().calls() <= at {
            break;
        }
        if play.disk().hits() == 0 || !play.has_arrived() {
            continue;
        }
        met += 1;
        // The name is there and nobody knows for how long: the file counts as failed on both ends.
        assert_eq!(play.end_with_failures(), [FileFault::Disk]);
        play.disk().heal();
        play.again();
        play.finish();
        assert!(play.receiver.watch.asked_chunks().is_empty(), "it is found to be there, and made durable");
        for seed in 0..16 {
            assert_eq!(play.disk().crash(seed).read("f").unwrap(), content());
        }
    }
    assert_eq!(met, 1, "one folder is synced");
}

#[test]
fn fault_short_writes_chunks() {
    is_invisible(At::Chunks(1));
}

#[test]
fn fault_short_writes_verify() {
    is_invisible(At::Verify);
}

#[test]
fn fault_short_writes_rename() {
    is_invisible(At::Rename);
}

/// Every read and write is cut short from here on, or any one call is interrupted. A move and the sync of a folder are
/// neither, so that the calls around them are all that *rename* can add.
fn is_invisible(moment: At) {
    let mut hits = 0;
    for (failure, lasts) in [(Failure::Short, true), (Failure::Eintr, false)] {
        for at in 0..12 {
            let mut play = Play::new();
            // The publication is one step of the simulation, so it starts with the calls before the name.
            play.until(if moment == At::Rename { At::Verify } else { moment });
            play.disk().fail(at, failure, lasts);
            play.finish();
            hits += play.disk().hits();
            play.assert_none_lost();
            assert_eq!((play.receiver_runs, play.asked()), (1, CHUNKS), "{failure:?} at call {at}");
        }
    }
    assert!(hits > 0);
}

#[test]
fn fault_read_only_chunks() {
    let mut play = Play::new();
    play.until(At::Chunks(2));
    play.disk().fail(0, Failure::ReadOnly, true);
    assert_eq!(play.end_with_failures(), [FileFault::Disk]);
    assert!(!play.has_arrived());
    play.disk().heal();
    play.again();
    play.finish();
    play.assert_none_lost();
}

#[test]
fn fault_read_only_verify() {
    let met = fails_while_publishing(Failure::ReadOnly, |play| {
        assert!(!play.has_arrived());
        assert!(play.disk().part().is_some(), "the partial file is kept");
    });
    assert!(met > 0);
}

#[test]
fn fault_read_only_rename() {
    // The move itself is refused: what was complete is kept, and costs no fetch.
    let offer = Offer::one("f", content());
    let disk = SimDisk::new();
    let store = Store::open(disk.clone()).unwrap();
    let mut at = 0;
    let error = loop {
        let sealed = offer.complete(&store, 0, &mut Receipt::default()).unwrap();
        disk.fail(at, Failure::ReadOnly, true);
        match store.publish(sealed, &wish("f", OnConflict::Fail)) {
            Err(error) => at += u64::from(is_read_only(&error)),
            // Only calls that change nothing come after the move.
            Ok(_) => break disk.read("f"),
        }
        assert_eq!(disk.read("f"), None);
        assert!(disk.part().is_some());
        disk.heal();
        let mut receipt = Receipt::default();
        let sealed = offer.complete(&store, 0, &mut receipt).unwrap();
        drop(sealed);
        assert_eq!(receipt.fetched, 0, "from call {at} on");
    };
    assert_eq!(error.unwrap(), offer.bytes(0));
    assert!(at > 2);
}

fn is_read_only(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == ErrorKind::ReadOnlyFilesystem)
}

#[test]
fn fault_descriptors_run_out_manifest() {
    runs_out_of_descriptors(At::Deciding, 3);
}

#[test]
fn fault_descriptors_run_out_chunks() {
    runs_out_of_descriptors(At::Chunks(2), 1);
}

#[test]
fn fault_descriptors_run_out_verify() {
    runs_out_of_descriptors(At::Verify, 1);
}

#[test]
fn fault_descriptors_run_out_rename() {
    // All that a move and the sync of its folder need is open since before: there is no error.
    let mut play = Play::new();
    play.until(At::Verify);
    play.disk().run_out_of_descriptors(true);
    play.until(At::Rename);
    assert_eq!(play.end_with_failures(), []);
    assert!(play.has_arrived());
    for seed in 0..16 {
        assert_eq!(play.disk().crash(seed).read("f").unwrap(), content());
    }
}

/// Nothing more can be opened from here on: what is open goes on, all else is an error of its file alone, and a further
/// run completes. `h` is opened last, at a moment that none of these comes after.
fn runs_out_of_descriptors(moment: At, failing: usize) {
    let items = vec![("f", Some(content())), ("g", Some(vec![4; 2 * CHUNK])), ("h", Some(vec![5; 500]))];
    let mut play = Play::of(items, SimNet::of(1 << 20, 20));
    play.until(moment);
    let arrives = moment != At::Deciding;
    play.disk().run_out_of_descriptors(true);
    assert_eq!(play.end_with_failures(), vec![FileFault::Disk; failing], "{moment:?}");
    assert_eq!((play.has_arrived(), play.disk().read("h")), (arrives, None), "{moment:?}");
    play.disk().run_out_of_descriptors(false);
    play.again();
    play.finish();
    play.assert_none_lost();
}

#[test]
fn fault_name_taken_rename() {
    // The name is free when it is looked at, and taken just before the move.
    let offer = Offer::one("f", content());
    let disk = SimDisk::new();
    let store = Store::open(disk.clone()).unwrap();
    let sealed = offer.complete(&store, 0, &mut Receipt::default()).unwrap();
    disk.put_before_next_move(b"somebody else's");
    let error = store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert_eq!(disk.read("f").unwrap(), b"somebody else's");
    let mut receipt = Receipt::default();
    let sealed = offer.complete(&store, 0, &mut receipt).unwrap();
    assert_eq!((receipt.reused, receipt.fetched), (CHUNKS, 0), "the partial file is kept");
    let published = store.publish(sealed, &wish("f", OnConflict::Rename)).unwrap();
    assert_eq!(published.path.as_str(), "f (1)");
    assert_eq!(disk.read("f (1)").unwrap(), offer.bytes(0));
}

#[test]
fn fault_two_receivers_rename() {
    // Two transfers bring different files of one name. They meet only when both are complete.
    let (one, other) = (Offer::one("f", content()), Offer::one("f", vec![3; 2 * CHUNK]));
    let disk = SimDisk::new();
    let stores = [(); 2].map(|()| Store::open(disk.clone()).unwrap());
    let first = one.complete(&stores[0], 0, &mut Receipt::default()).unwrap();
    let second = other.complete(&stores[1], 0, &mut Receipt::default()).unwrap();
    stores[0].publish(first, &wish("f", OnConflict::Fail)).unwrap();
    let error = stores[1].publish(second, &wish("f", OnConflict::Fail)).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert_eq!(disk.read("f").unwrap(), one.bytes(0));
    assert!(disk.part().is_some(), "what the second has is kept");
}
