//! Cells of the fault matrix about a disk that fills up under way: whoever meets it waits, goes on once there is room, and
//! nothing that was verified is lost or fetched again. Names and moments are those of `fault_transfers.rs`.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

#[path = "support/sim_disk.rs"]
#[allow(clippy::verbose_bit_mask)] // Permission bits are written in octal.
mod sim_disk;
#[path = "support/store_kit.rs"]
mod store_kit;

use haul::chunk::{ChunkIndex, Length};
use haul::limits::{CHUNK_BYTES_MIN, FREE_SPACE_MARGIN_BYTES};
use haul::store::{OnConflict, Store, StoreError};
use sim_disk::{Failure, Seeded, SimDisk};
use std::thread;
use store_kit::{Offer, Receipt, path, wish};

const CHUNK: usize = CHUNK_BYTES_MIN as usize;
const CHUNKS: u64 = 4;

fn content() -> Vec<u8> {
    let mut bytes = Seeded(5).bytes(CHUNK * CHUNKS as usize - 1234);
    bytes[CHUNK..2 * CHUNK].fill(0);
    bytes
}

/// A tree that comes by every call that may need room.
fn tree() -> Offer {
    Offer::of(&[
        ("folder", None),
        ("folder/empty", Some(Vec::new())),
        ("folder/large", Some(content())),
        ("folder/small", Some(Seeded(6).bytes(3000))),
        ("small", Some(Seeded(7).bytes(4000))),
    ])
}

/// Disks that can set room aside and disks that cannot.
fn disks() -> [SimDisk; 2] {
    [SimDisk::new(), SimDisk::new().without_reservation()]
}

/// Runs `act` on a thread of its own. Where a call of it waits for room, `waits` is told how much, and it tries again.
fn beside<T: Send>(store: &Store<SimDisk>, act: impl FnOnce() -> T + Send, mut waits: impl FnMut(u64)) -> T {
    thread::scope(|scope| {
        let acting = scope.spawn(act);
        while !acting.is_finished() {
            match store.room_wanted() {
                Some(needed) => {
                    waits(needed);
                    store.try_for_room();
                }
                None => thread::yield_now(),
            }
        }
        assert_eq!(store.room_wanted(), None, "nobody waits any more");
        acting.join().unwrap()
    })
}

fn assert_whole(offer: &Offer, disk: &SimDisk, what: &str) {
    for (path, bytes) in offer.files() {
        assert!(disk.read(path).as_deref() == Some(bytes), "{what}: {path}");
    }
    assert_eq!(disk.part(), None, "{what}");
}

/// What came of a whole transfer on a disk that is full from one call on, for each call in turn.
#[derive(Debug, Default)]
struct Met {
    /// Somebody waited, and the transfer completed.
    waited: u64,
    /// A sync failed, or a call before any data.
    failed: u64,
}

fn fill_at_every_call(disk: impl Fn() -> SimDisk) -> Met {
    let offer = tree();
    let mut met = Met::default();
    for at in 0.. {
        let disk = disk();
        let store = Store::open(disk.clone()).unwrap();
        store.wait_for_room(true);
        disk.fail(at, Failure::Enospc, true);
        let mut has_waited = false;
        let received = beside(
            &store,
            || offer.receive(&store, OnConflict::Fail),
            |needed| {
                assert!(!has_waited || needed < 1 << 30);
                has_waited = true;
                disk.heal();
            },
        );
        if disk.hits() == 0 && disk.calls() <= at {
            assert!(received.is_ok() && !has_waited);
            return met;
        }
        match received {
            Ok(receipt) => {
                // A file that was made and found no room has zeros where zeros belong.
                assert_eq!(receipt.fetched + receipt.reused, CHUNKS, "call {at}: nothing is fetched twice");
                met.waited += u64::from(has_waited);
            }
            // A sync is never tried again (R10), and what comes before the data is refused.
            Err(fault) => {
                assert!(fault.is_for_want_of_room(), "call {at}: {fault}");
                met.failed += 1;
                disk.heal();
                drop(store);
                let store = Store::open(disk.clone()).unwrap();
                offer.receive(&store, OnConflict::Fail).unwrap();
            }
        }
        assert_whole(&offer, &disk, &format!("call {at}"));
    }
    unreachable!("a transfer has an end")
}

#[test]
fn fault_no_space_midway_chunks() {
    let reserving = fill_at_every_call(SimDisk::new);
    let other = fill_at_every_call(|| SimDisk::new().without_reservation());
    for met in [&reserving, &other] {
        assert!(met.waited > 20 && met.failed > 0, "{met:?}");
    }
}

#[test]
fn fault_no_space_midway_verify() {
    // The cut to its length is refused: it waits, and the file is published without another look at its bytes.
    waits_while_publishing(|disk| disk.read("f").is_none());
}

#[test]
fn fault_no_space_midway_rename() {
    // A folder that has no room for one more name refuses the move itself.
    waits_while_publishing(|disk| {
        let part = disk.part().and_then(|part| disk.read(&part));
        part.is_some_and(|part| part.len() == content().len())
    });
}

/// Fills the disk at each call of a publication. At least one that waits does so where `is_there` says.
fn waits_while_publishing(is_there: impl Fn(&SimDisk) -> bool) {
    let offer = Offer::one("f", content());
    let (mut met, mut there) = (0, false);
    for at in 0.. {
        let disk = SimDisk::new();
        let store = Store::open(disk.clone()).unwrap();
        store.wait_for_room(true);
        let sealed = offer.complete(&store, 0, &mut Receipt::default()).unwrap();
        disk.fail(at, Failure::Enospc, true);
        let mut has_waited = false;
        let published = beside(
            &store,
            || store.publish(sealed, &wish("f", OnConflict::Fail)),
            |_| {
                // A call keeps its place until it is done.
                if has_waited {
                    return;
                }
                assert!(disk.read("f").is_none(), "nothing half new appears");
                there |= is_there(&disk);
                has_waited = true;
                disk.heal();
            },
        );
        if disk.hits() == 0 && disk.calls() <= at {
            break;
        }
        met += u64::from(has_waited);
        match published {
            Ok(_) => assert!(disk.read("f").unwrap() == offer.bytes(0), "call {at}"),
            Err(fault) => assert!(!has_waited && fault.is_for_want_of_room(), "call {at}: {fault}"),
        }
    }
    assert!(met >= 2 && there, "the cut to its length and the move ask for room: {met}");
}

#[test]
fn whoever_waits_for_room_can_be_told_to_end_and_the_next_run_goes_on() {
    let offer = tree();
    for disk in disks() {
        let (mut ended, mut reused) = (0, 0);
        for at in 0.. {
            let disk = disk.crash(0);
            let store = Store::open(disk.clone()).unwrap();
            store.wait_for_room(true);
            disk.fail(at, Failure::Enospc, true);
            let received = beside(&store, || offer.receive(&store, OnConflict::Fail), |_| store.wait_for_room(false));
            if disk.hits() == 0 && disk.calls() <= at {
                break;
            }
            if let Err(fault) = received {
                assert!(fault.is_for_want_of_room(), "call {at}: {fault}");
                ended += 1;
            }
            disk.heal();
            drop(store);
            let store = Store::open(disk.clone()).unwrap();
            let receipt = offer.receive(&store, OnConflict::Fail).unwrap();
            reused += receipt.reused;
            assert_whole(&offer, &disk, &format!("call {at}"));
        }
        assert!(ended > 20 && reused > 0, "{ended} {reused}");
    }
}

#[test]
fn those_who_wait_say_what_each_file_needs_once() {
    let offer = Offer::of(&[("f", Some(content())), ("g", Some(content()))]);
    let disk = SimDisk::new().without_reservation();
    let store = Store::open(disk.clone()).unwrap();
    store.wait_for_room(true);
    let partials = [0, 1].map(|entry: u32| {
        let name = ["f", "g"][entry as usize];
        store.open_partial(&path(name), offer.geometry(entry).file_length()).unwrap().partial
    });
    offer.fetch(&partials[0], 0, 0).unwrap();
    disk.fail(0, Failure::Enospc, true);
    thread::scope(|scope| {
        let (offer, partials) = (&offer, &partials);
        let fetching = [(0, 2), (0, 3), (1, 0), (1, 2)]
            .map(|(entry, index)| scope.spawn(move || offer.fetch(&partials[entry as usize], entry, index)));
        let length = content().len() as u64;
        // Two of each file wait, and what a file lacks counts once.
        while store.room_wanted() != Some(2 * length - CHUNK as u64) {
            thread::yield_now();
        }
        disk.heal();
        while fetching.iter().any(|one| !one.is_finished()) {
            store.try_for_room();
            thread::yield_now();
        }
        for one in fetching {
            one.join().unwrap().unwrap();
        }
    });
    assert_eq!(store.room_wanted(), None);
}

#[test]
fn a_file_that_does_not_fit_is_opened_once_it_does() {
    let disk = SimDisk::new();
    let store = Store::open(disk.clone()).unwrap();
    store.wait_for_room(true);
    disk.set_capacity(FREE_SPACE_MARGIN_BYTES);
    let mut waits = 0;
    let opened = beside(
        &store,
        || store.open_partial(&path("f"), Length(content().len() as u64)),
        |needed| {
            assert!(needed > FREE_SPACE_MARGIN_BYTES + content().len() as u64);
            waits += 1;
            if waits == 5 {
                disk.set_capacity(1 << 40);
            }
        },
    );
    assert!(opened.is_ok() && waits >= 5, "it tries as often as it is told to");
}

#[test]
fn a_sync_that_finds_no_room_is_not_waited_for_and_its_claims_are_void() {
    let offer = Offer::one("f", content());
    let disk = SimDisk::new();
    {
        let store = Store::open(disk.clone()).unwrap().with_background_sync_bytes(CHUNK as u64 * 3 / 2);
        store.wait_for_room(true);
        let opened = store.open_partial(&path("f"), offer.geometry(0).file_length()).unwrap();
        (0..2).for_each(|index| offer.fetch(&opened.partial, 0, index).unwrap());
        opened.partial.wait_for_sync().unwrap();
        disk.fail(0, Failure::EnospcOnSync, true);
        (2..4).for_each(|index| offer.fetch(&opened.partial, 0, index).unwrap());
        let failed = opened.partial.wait_for_sync().unwrap_err();
        assert!(matches!(failed, StoreError::FsyncFailed { .. }) && failed.is_for_want_of_room(), "{failed}");
        let refused = opened.partial.lease(ChunkIndex(3)).unwrap_err();
        assert!(refused.is_for_want_of_room(), "whoever comes after learns the same reason: {refused}");
        assert_eq!((disk.hits(), store.room_wanted()), (1, None), "it is not tried again");
    }
    disk.heal();
    let mut receipt = Receipt::default();
    let sealed = offer.complete(&Store::open(disk.clone()).unwrap(), 0, &mut receipt).unwrap();
    assert_eq!((receipt.reused, receipt.fetched), (2, CHUNKS - 2));
    Store::open(disk.clone()).unwrap().publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
    assert!(disk.crash(3).read("f").unwrap() == offer.bytes(0));
}
