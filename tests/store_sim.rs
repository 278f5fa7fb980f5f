//! The store on a simulated disk: every call failed in turn, and every point of a run crashed at.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // Test code, on 64-bit machines.

#[path = "support/sim_disk.rs"]
mod sim_disk;
#[path = "support/store_kit.rs"]
mod store_kit;

use haul::chunk::{ChunkIndex, Length};
use haul::chunk_set::ChunkSet;
use haul::store::{Disk, DiskFile, DiskFolder, Folding, OnConflict, OpenHow, Standing, Store, StoreError};
use sim_disk::{Failure, Seeded, SimDisk};
use store_kit::{Offer, path, wish};

const CHUNK: usize = 256 * 1024;
const OLD: &[u8] = b"the file that was there before";

/// A folder with a file of two chunks and two small ones, and a name that is taken.
fn offer() -> Offer {
    let mut random = Seeded(7);
    Offer::of(&[
        ("d", None),
        ("d/big", Some(random.bytes(CHUNK + 1000))),
        ("d/empty", Some(Vec::new())),
        ("old", Some(random.bytes(700))),
    ])
}

/// A disk with the file that the offer replaces, if it does.
fn disk(offer: &Offer) -> SimDisk {
    let disk = SimDisk::new();
    if offer.files().contains_key("old") {
        disk.put("old", OLD);
    }
    disk
}

fn run(disk: &SimDisk, offer: &Offer) -> Result<store_kit::Receipt, StoreError> {
    // What replaces nothing may lie without a name until it is published.
    let conflict = if offer.files().contains_key("old") { OnConflict::Overwrite } else { OnConflict::Fail };
    offer.receive(&Store::open(disk.clone())?, conflict)
}

/// I1 and I5: what is at a final name is whole, or was there before; all else is in the work folder.
fn assert_nothing_torn(disk: &SimDisk, offer: &Offer, context: &str) {
    for (name, bytes) in offer.files() {
        if let Some(found) = disk.read(name) {
            assert!(found == bytes || (name == "old" && found == OLD), "{context}: `{name}` is torn");
        }
    }
    for found in disk.paths() {
        let is_listed = found == "d/" || offer.files().contains_key(found.as_str());
        assert!(is_listed || found.starts_with(".haul/"), "{context}: `{found}` was left behind");
    }
}

fn assert_complete(disk: &SimDisk, offer: &Offer, context: &str) {
    for (name, bytes) in offer.files() {
        assert!(disk.read(name).as_deref() == Some(bytes), "{context}: `{name}` is not there");
        assert_eq!(disk.meta(name), Some((0o640, Some(store_kit::when()))), "{context}: `{name}`");
    }
}

/// I10 and P3: once faults stop, a run completes, and leaves nothing but the files.
fn assert_finishes(disk: &SimDisk, offer: &Offer, context: &str) -> store_kit::Receipt {
    let receipt = run(disk, offer).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_complete(disk, offer, context);
    let left: Vec<_> = disk.paths().into_iter().filter(|found| found.starts_with(".haul")).collect();
    assert!(left.is_empty(), "{context}: {left:?} left");
    receipt
}

fn calls_of_a_run(offer: &Offer) -> u64 {
    let disk = disk(offer);
    disk.fail(u64::MAX, Failure::Eio, false);
    run(&disk, offer).unwrap();
    let calls = disk.calls();
    assert_complete(&disk, offer, "no fault");
    assert!((50..1000).contains(&calls), "{calls} calls");
    calls
}

#[test]
fn any_failed_call_is_an_error_or_has_no_effect_and_the_next_run_completes() {
    fail_everywhere(&offer());
}

fn fail_everywhere(offer: &Offer) {
    let calls = calls_of_a_run(offer);
    for failure in [Failure::Eio, Failure::Enospc, Failure::Eintr, Failure::Short] {
        for lasts in [false, true] {
            for at in 0..calls {
                let context = format!("{failure:?} at call {at}, lasting: {lasts}");
                let disk = disk(offer);
                disk.fail(at, failure, lasts);
                let result = run(&disk, offer);
                let hits = disk.hits();
                disk.heal();
                if hits == 0 || matches!(failure, Failure::Eintr | Failure::Short) {
                    assert!(result.is_ok(), "{context}: {result:?}");
                }
                if result.is_ok() {
                    assert_complete(&disk, offer, &context);
                }
                if failure == Failure::Enospc
                    && let Err(error) = result
                {
                    let is_named = matches!(error, StoreError::NoSpace { .. } | StoreError::FsyncFailed { .. });
                    assert!(is_named, "{context}: {error}");
                }
                assert_nothing_torn(&disk, offer, &context);
                assert_finishes(&disk, offer, &context);
            }
        }
    }
}

#[test]
fn a_run_killed_at_any_call_goes_on_without_fetching_a_claimed_chunk_again() {
    let offer = offer();
    for at in 0..calls_of_a_run(&offer) {
        let context = format!("killed at call {at}");
        let disk = disk(&offer);
        disk.stop(at);
        let first = run(&disk, &offer);
        let after = disk.after_kill();
        assert_nothing_torn(&after, &offer, &context);
        if first.is_ok() {
            assert_complete(&after, &offer, &context);
        }
        let claimed = claimed_chunks(&after, &offer);
        let second = assert_finishes(&after, &offer, &context);
        assert!(second.reused >= claimed, "{context}: {claimed} chunks were claimed, {} reused", second.reused);
    }
}

/// Chunks of the big file that its table claims rightly, read from the `.part` file itself.
fn claimed_chunks(disk: &SimDisk, offer: &Offer) -> u64 {
    let Some(bytes) = disk.part().and_then(|part| disk.read(&part)) else { return 0 };
    let table = offer.bytes(1).len().next_multiple_of(4096);
    let row = |index: u32| bytes.get(table + 32 * index as usize..table + 32 * index as usize + 32);
    (0..2).filter(|&index| row(index) == Some(&offer.promised(1, index).0)).count() as u64
}

#[test]
fn power_cut_at_any_call_leaves_whole_files_and_the_next_run_completes() {
    crash_everywhere(&offer());
}

#[test]
fn power_cut_at_any_call_of_a_batch_that_is_synced_at_once_leaves_whole_files() {
    let names: Vec<String> = (0..12).map(|number| format!("d/{number:02}")).collect();
    let mut entries = vec![("d", None)];
    entries.extend(names.iter().map(|name| (name.as_str(), Some(Seeded(9).bytes(600)))));
    entries.push(("old", Some(vec![1; 2000])));
    crash_everywhere(&Offer::of(&entries));
}

#[test]
fn power_cut_at_any_call_leaves_whole_files_where_new_ones_have_no_name_at_first() {
    let names: Vec<String> = (0..12).map(|number| format!("d/{number:02}")).collect();
    let mut entries = vec![("d", None)];
    entries.extend(names.iter().map(|name| (name.as_str(), Some(Seeded(9).bytes(600)))));
    crash_everywhere(&Offer::of(&entries));
}

#[test]
fn any_failed_call_is_survived_where_new_files_have_no_name_at_first() {
    let offer =
        Offer::of(&[("c", Some(vec![3])), ("d", None), ("d/a", Some(vec![1; 700])), ("d/b", Some(vec![2; 900]))]);
    fail_everywhere(&offer);
}

#[test]
fn files_without_names_are_done_without_where_the_disk_has_none() {
    let offer = Offer::of(&[("a", Some(vec![1; 700])), ("b", Some(vec![2; 900]))]);
    let disk = SimDisk::new().without_unnamed_files();
    run(&disk, &offer).unwrap();
    assert_complete(&disk.crash(1), &offer, "without unnamed files");
}

fn crash_everywhere(offer: &Offer) {
    let calls = calls_of_a_run(offer);
    for fresh in [None, Some(fresh_seed())] {
        for at in 0..=calls {
            let disk = disk(offer);
            disk.stop(at);
            let first = run(&disk, offer);
            for round in 0..4 {
                let seed = fresh.unwrap_or(1) ^ (at * 64 + round);
                let context = format!("power cut at call {at}, image from seed {seed}");
                let image = disk.crash(seed);
                assert_nothing_torn(&image, offer, &context);
                if first.is_ok() {
                    assert_complete(&image, offer, &context);
                }
                assert_finishes(&image, offer, &context);
            }
        }
    }
}

/// Different on every run; the context of a failing assertion prints it.
fn fresh_seed() -> u64 {
    u64::from(std::process::id()) << 32 | u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos())
}

#[test]
fn power_cut_after_a_batch_without_file_system_sync_keeps_every_file() {
    let offer = offer();
    let disk = disk(&offer).without_file_system_sync();
    run(&disk, &offer).unwrap();
    for seed in 0..64 {
        let image = disk.crash(seed);
        assert_complete(&image, &offer, &format!("image from seed {seed}"));
    }
}

#[test]
fn power_cut_after_publishing_keeps_the_folders_above_too() {
    let offer = Offer::of(&[("a", None), ("a/b", None), ("a/b/f", Some(Seeded(8).bytes(CHUNK + 1)))]);
    for is_single in [true, false] {
        let disk = SimDisk::new();
        let store = Store::open(disk.clone()).unwrap();
        store.make_folder(&path("a")).unwrap();
        store.make_folder(&path("a/b")).unwrap();
        let wish = wish("a/b/f", OnConflict::Fail);
        if is_single {
            let (file, _) = store.write_single(wish, b"").unwrap();
            assert!(store.publish_batch(vec![(file, None)]).pop().unwrap().is_ok());
        } else {
            let sealed = offer.complete(&store, 2, &mut store_kit::Receipt::default()).unwrap();
            store.publish(sealed, &wish).unwrap();
        }
        for seed in 0..64 {
            assert!(disk.crash(seed).read("a/b/f").is_some(), "image from seed {seed}");
        }
    }
}

/// A file of `chunks` chunks of which some are claimed, its store gone.
fn claimed(disk: &SimDisk, offer: &Offer, chunks: &[u32]) {
    let store = Store::open(disk.clone()).unwrap();
    let opened = store.open_partial(&path("f"), offer.geometry(0).file_length()).unwrap();
    assert_eq!(opened.standing, Standing::Fresh);
    for &index in chunks {
        offer.fetch(&opened.partial, 0, index).unwrap();
    }
}

#[test]
fn claims_of_the_same_boot_stand_and_those_of_another_are_hashed() {
    let offer = Offer::one("f", Seeded(1).bytes(4 * CHUNK + 1));
    let disk = SimDisk::new();
    claimed(&disk, &offer, &[0, 2, 4]);
    for (disk, standing) in [(disk.after_kill(), Standing::SameBoot), (disk.crash(0), Standing::OtherBoot)] {
        let store = Store::open(disk.clone()).unwrap();
        let opened = store.open_partial(&path("f"), offer.geometry(0).file_length()).unwrap();
        if standing == Standing::SameBoot {
            assert_eq!(opened.claims.ranges().collect::<Vec<_>>(), [0..1, 2..3, 4..5]);
            assert_eq!(opened.standing, standing);
        } else {
            assert_ne!(opened.standing, Standing::SameBoot);
        }
        for number in opened.claims.ranges().flatten() {
            let index = u32::try_from(number).unwrap();
            let is_right = opened.partial.check_claim(ChunkIndex(index), offer.promised(0, index)).unwrap();
            assert!(is_right || standing == Standing::OtherBoot);
        }
    }
}

#[test]
fn garbled_chunks_and_claims_cost_a_fetch_of_those_chunks_and_no_more() {
    let offer = Offer::one("f", Seeded(2).bytes(5 * CHUNK));
    let disk = SimDisk::new();
    claimed(&disk, &offer, &[0, 1, 2, 3]);
    // Synced as a whole, so that a crash keeps it; then one byte of chunk 1 and one of the row of chunk 2 are changed.
    haul::store::DiskFolder::sync_file_system(haul::store::Disk::destination(&disk)).unwrap();
    let image = disk.crash(0);
    let part = image.part().unwrap();
    flip(&image, &part, CHUNK + 5);
    flip(&image, &part, 5 * CHUNK + 2 * 32);
    let mut receipt = store_kit::Receipt::default();
    let store = Store::open(image.clone()).unwrap();
    let opened = store.open_partial(&path("f"), offer.geometry(0).file_length()).unwrap();
    assert_eq!((opened.standing, opened.claims.len()), (Standing::OtherBoot, 4));
    drop(opened);
    let sealed = offer.complete(&store, 0, &mut receipt).unwrap();
    assert_eq!((receipt.reused, receipt.fetched), (2, 3));
    store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
    assert_eq!(image.read("f").unwrap(), offer.bytes(0));
}

fn flip(disk: &SimDisk, name: &str, at: usize) {
    let folder = disk.destination().open_folder(".haul").unwrap();
    let file = folder.open_file(name.strip_prefix(".haul/").unwrap(), OpenHow::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at as u64).unwrap();
    file.write_at(&[byte[0] ^ 1], at as u64).unwrap();
}

#[test]
fn a_rescan_cut_short_does_not_make_unchecked_claims_stand() {
    let offer = Offer::one("f", Seeded(3).bytes(3 * CHUNK));
    let disk = SimDisk::new();
    claimed(&disk, &offer, &[0, 1, 2]);
    haul::store::DiskFolder::sync_file_system(haul::store::Disk::destination(&disk)).unwrap();
    let image = disk.crash(0);
    let length = offer.geometry(0).file_length();
    {
        let store = Store::open(image.clone()).unwrap();
        let opened = store.open_partial(&path("f"), length).unwrap();
        assert!(opened.partial.check_claim(ChunkIndex(0), offer.promised(0, 0)).unwrap());
    }
    {
        let store = Store::open(image.clone()).unwrap();
        let opened = store.open_partial(&path("f"), length).unwrap();
        assert_eq!(opened.standing, Standing::OtherBoot, "two chunks were never checked");
        for index in 0..3 {
            assert!(opened.partial.check_claim(ChunkIndex(index), offer.promised(0, index)).unwrap());
        }
    }
    let store = Store::open(image).unwrap();
    assert_eq!(store.open_partial(&path("f"), length).unwrap().standing, Standing::SameBoot);
}

#[test]
fn a_failed_background_sync_fails_the_file_and_voids_what_it_covered() {
    let offer = Offer::one("f", Seeded(4).bytes(5 * CHUNK));
    let disk = SimDisk::new();
    let length = offer.geometry(0).file_length();
    {
        let store = Store::open(disk.clone()).unwrap().with_background_sync_bytes(2 * CHUNK as u64);
        let opened = store.open_partial(&path("f"), length).unwrap();
        for index in [0, 1] {
            offer.fetch(&opened.partial, 0, index).unwrap();
        }
        opened.partial.wait_for_sync().unwrap();
        offer.fetch(&opened.partial, 0, 2).unwrap();
        // The next claim's calls: fstat and read to hash, row; then the sync.
        let writes = calls_of_a_fetch(&offer);
        disk.fail(writes, Failure::Eio, false);
        offer.fetch(&opened.partial, 0, 3).unwrap();
        let failed = opened.partial.wait_for_sync().unwrap_err();
        assert!(matches!(failed, StoreError::FsyncFailed { .. }), "{failed}");
        assert_eq!(disk.hits(), 1);
        assert!(matches!(opened.partial.lease(ChunkIndex(4)), Err(StoreError::FsyncFailed { .. })));
        assert!(matches!(opened.partial.seal(offer.root(0)), Err(StoreError::FsyncFailed { .. })));
    }
    disk.heal();
    let store = Store::open(disk.clone()).unwrap();
    let opened = store.open_partial(&path("f"), length).unwrap();
    assert_eq!(opened.claims, ChunkSet::of(0..2), "the synced ones stay");
    drop(opened);
    let mut receipt = store_kit::Receipt::default();
    let sealed = offer.complete(&store, 0, &mut receipt).unwrap();
    store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
    assert_eq!(disk.crash(5).read("f").unwrap(), offer.bytes(0));
}

fn calls_of_a_fetch(offer: &Offer) -> u64 {
    let disk = SimDisk::new();
    let store = Store::open(disk.clone()).unwrap();
    let opened = store.open_partial(&path("f"), offer.geometry(0).file_length()).unwrap();
    disk.fail(u64::MAX, Failure::Eio, false);
    offer.fetch(&opened.partial, 0, 0).unwrap();
    disk.calls()
}

#[test]
fn a_failed_last_sync_publishes_nothing_and_believes_nothing_unsynced() {
    let offer = Offer::one("f", Seeded(5).bytes(3 * CHUNK));
    let reference = SimDisk::new();
    let calls_before_sync = {
        let store = Store::open(reference.clone()).unwrap();
        let sealed = offer.complete(&store, 0, &mut store_kit::Receipt::default()).unwrap();
        reference.fail(u64::MAX, Failure::Eio, false);
        store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
        reference.calls()
    };
    let mut met = 0;
    for at in 0..calls_before_sync {
        let disk = SimDisk::new();
        {
            let store = Store::open(disk.clone()).unwrap();
            let sealed = offer.complete(&store, 0, &mut store_kit::Receipt::default()).unwrap();
            disk.fail(at, Failure::Eio, false);
            let error = store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap_err();
            let is_published = disk.read("f").is_some();
            if !matches!(error, StoreError::FsyncFailed { .. }) || is_published {
                continue;
            }
        }
        met += 1;
        disk.heal();
        let store = Store::open(disk.clone()).unwrap();
        let mut receipt = store_kit::Receipt::default();
        let sealed = offer.complete(&store, 0, &mut receipt).unwrap();
        assert_eq!(receipt.reused, 0, "pages that a failed sync left are not believed, however well they read");
        store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
        assert_eq!(disk.crash(at).read("f").unwrap(), offer.bytes(0));
    }
    assert_eq!(met, 1, "one sync comes before the rename");
}

#[test]
fn a_disk_that_is_too_small_is_named_before_anything_is_written() {
    let offer = Offer::one("f", Seeded(6).bytes(4 * CHUNK));
    let disk = SimDisk::new();
    disk.set_capacity(16 << 20);
    let store = Store::open(disk.clone()).unwrap();
    let error = store.open_partial(&path("f"), offer.geometry(0).file_length()).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { needed, free, .. } if needed > 4 * CHUNK as u64 && free <= 16 << 20));
    assert_eq!(disk.part(), None);
}

#[test]
fn a_journal_keeps_whole_rows_and_drops_torn_ones() {
    use haul::digest::FileDigest;
    use haul::manifest::EntryIndex;
    use haul::store::RecordId;
    let id = RecordId([3; 16]);
    let rows: Vec<_> = (0..200).map(|i| (EntryIndex(i), FileDigest([i as u8; 32]))).collect();
    let disk = SimDisk::new();
    {
        let store = Store::open(disk.clone()).unwrap();
        let record = store.open_record(id).unwrap();
        assert!(matches!(store.open_record(id), Err(StoreError::Busy { .. })));
        assert_eq!(record.contents().unwrap(), None);
        record.set_contents(b"first").unwrap();
        record.set_contents(b"second").unwrap();
        record.note_published(&rows[..100]).unwrap();
        record.note_published(&rows[100..]).unwrap();
        assert_eq!(record.published().unwrap(), rows);
    }
    for seed in 0..50 {
        let store = Store::open(disk.crash(seed)).unwrap();
        let record = store.open_record(id).unwrap();
        assert_eq!(record.contents().unwrap().as_deref(), Some(&b"second"[..]), "replaced in one durable step");
        let kept = record.published().unwrap();
        assert!(kept.iter().all(|row| rows.contains(row)), "seed {seed}");
        record.note_published(&rows[..1]).unwrap();
        assert_eq!(record.published().unwrap().len(), kept.len() + 1);
        assert_eq!(store.records().unwrap(), [id]);
        record.remove().unwrap();
        assert_eq!(store.records().unwrap(), []);
    }
}

#[test]
fn a_file_that_was_there_before_stays_once_it_was_vouched_for() {
    let disk = SimDisk::new();
    let file = disk.destination().open_file("f", OpenHow::Create).unwrap();
    assert_eq!(file.write_at(b"named and not yet durable", 0).unwrap(), 25);
    let is_kept = |disk: &SimDisk, seed| disk.crash(seed).read("f").as_deref() == Some(b"named and not yet durable");
    assert!(!(0..64).all(|seed| is_kept(&disk, seed)), "without a sync it may go");
    let store = Store::open(disk.clone()).unwrap();
    store.vouch_for(&path("f"), Length(25));
    assert!(store.finish_folders(Vec::new()).is_empty());
    for seed in 0..64 {
        assert!(is_kept(&disk, seed), "image from seed {seed}");
    }
    store.vouch_for(&path("gone"), Length(1));
    assert_eq!(store.finish_folders(Vec::new()).len(), 1, "what cannot be made durable is told");
}

#[test]
fn row_20_a_file_system_that_folds_case_is_found_out() {
    let folding = |disk: SimDisk| Store::open(disk).unwrap().folding().unwrap();
    assert_eq!(folding(SimDisk::new().that_folds_case()), Folding { case: true, form: false });
    assert_eq!(folding(SimDisk::new()), Folding { case: false, form: false });
}
