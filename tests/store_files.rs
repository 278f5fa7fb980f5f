//! The store on the file system of the temporary folder: what appears, under which name, with which bits.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // Test code, on 64-bit machines.

#[path = "support/sim_disk.rs"]
mod sim_disk;
#[path = "support/store_kit.rs"]
mod store_kit;

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::FileDigest;
use haul::manifest::{Mode, Timestamp};
use haul::store::{BootId, Durability, Existing, OnConflict, Publication, RealDisk, Standing, Store, StoreError};
use sim_disk::Seeded;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use store_kit::{Offer, Receipt, path, wish};
use tempfile::TempDir;

const CHUNK: usize = 256 * 1024;

fn destination() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(RealDisk::open(folder.path()).unwrap()).unwrap();
    (folder, store)
}

fn small(text: &str) -> Offer {
    Offer::one(text, b"small".to_vec())
}

/// Publishes the single file of `offer` alone.
fn publish_single(store: &Store, offer: &Offer, wish: Publication) -> Result<haul::store::Published, StoreError> {
    let (file, found) = store.write_single(wish, offer.bytes(0)).unwrap();
    let proof = offer.verify(0, 0, found);
    store.publish_batch(vec![(file, proof)]).pop().unwrap()
}

#[test]
fn a_tree_arrives_whole_with_modes_and_times_and_leaves_no_work_folder() {
    let mut random = Seeded(1);
    let mut sparse = vec![0; 4 * CHUNK];
    sparse[2 * CHUNK + 5] = 1;
    let offer = Offer::of(&[
        ("bin", None),
        ("bin/large", Some(random.bytes(3 * CHUNK + 17))),
        ("bin/one", Some(random.bytes(CHUNK))),
        ("bin/one more", Some(random.bytes(CHUNK + 1))),
        ("empty folder", None),
        ("nothing", Some(Vec::new())),
        ("sparse", Some(sparse)),
        ("tiny", Some(vec![7])),
    ]);
    let (folder, store) = destination();
    let receipt = offer.receive(&store, OnConflict::Fail).unwrap();
    assert!(receipt.published.iter().all(|published| published.durability == Durability::Full));
    for (name, bytes) in offer.files() {
        let there = folder.path().join(name);
        assert_eq!(fs::read(&there).unwrap(), bytes, "{name}");
        let facts = fs::metadata(&there).unwrap();
        assert_eq!((facts.mode() & 0o7777, facts.mtime(), facts.mtime_nsec()), (0o640, 1_234_567_890, 123_456_700));
    }
    let facts = fs::metadata(folder.path().join("bin")).unwrap();
    assert_eq!((facts.mode() & 0o7777, facts.mtime()), (0o750, 1_234_567_890));
    drop(store);
    assert!(!folder.path().join(".haul").exists());
}

#[test]
fn a_second_run_finds_everything_there_and_fetches_nothing() {
    let offer = Offer::of(&[("big", Some(Seeded(2).bytes(2 * CHUNK))), ("small", Some(vec![1; 10]))]);
    let (_folder, store) = destination();
    offer.receive(&store, OnConflict::Fail).unwrap();
    let again = offer.receive(&store, OnConflict::Fail).unwrap();
    assert_eq!((again.fetched, again.published.len()), (0, 0));
}

#[test]
fn lengths_around_every_boundary_arrive() {
    let (folder, store) = destination();
    for length in [0, 1, 4095, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1] {
        let name = format!("f{length}");
        let offer = Offer::one(&name, Seeded(length as u64).bytes(length));
        offer.receive(&store, OnConflict::Fail).unwrap();
        assert_eq!(fs::read(folder.path().join(&name)).unwrap(), offer.bytes(0), "{length} bytes");
    }
}

#[test]
fn row_33_34_no_mode_sets_more_than_permission_bits_and_the_partial_file_has_none_of_them() {
    let (folder, store) = destination();
    let batch = (0..=0o7777u32).map(|bits| {
        let wish = Publication { mode: Mode::masked(bits), ..wish(&format!("{bits:o}"), OnConflict::Fail) };
        let (file, _) = store.write_single(wish, b"").unwrap();
        (file, None)
    });
    assert!(store.publish_batch(batch.collect()).iter().all(Result::is_ok));
    for bits in 0..=0o7777u32 {
        let facts = fs::metadata(folder.path().join(format!("{bits:o}"))).unwrap();
        assert_eq!(facts.mode() & 0o7777, bits & 0o777, "{bits:o}");
    }
    let offer = Offer::one("large", Seeded(3).bytes(CHUNK + 1));
    let opened = store.open_partial(&path("large"), Length(CHUNK as u64 + 1)).unwrap();
    let part = only_part(&folder);
    assert_eq!(fs::metadata(folder.path().join(".haul")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(&part).unwrap().mode() & 0o7777, 0o600);
    drop(opened);
    let sealed = offer.complete(&store, 0, &mut Receipt::default()).unwrap();
    store.publish(sealed, &Publication { mode: Mode::masked(0o000), ..wish("large", OnConflict::Fail) }).unwrap();
    assert_eq!(fs::metadata(folder.path().join("large")).unwrap().mode() & 0o7777, 0);
}

#[test]
fn row_35_extreme_times_are_clamped_and_accepted() {
    let (folder, store) = destination();
    for seconds in [i64::MIN, -1, 0, 253_402_300_799, i64::MAX] {
        let modified = Timestamp::clamped(seconds, 999_999_999);
        publish_single(&store, &small("f"), Publication { modified, ..wish("f", OnConflict::Overwrite) }).unwrap();
    }
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), b"small");
}

#[test]
fn row_29_a_taken_name_fails_is_overwritten_or_gets_a_number() {
    let (folder, store) = destination();
    let there = |name: &str| fs::read(folder.path().join(name)).unwrap();
    fs::write(folder.path().join("name"), "old").unwrap();
    let error = publish_single(&store, &small("name"), wish("name", OnConflict::Fail)).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }) && there("name") == b"old");
    for number in 1..=3 {
        let published = publish_single(&store, &small("name"), wish("name", OnConflict::Rename)).unwrap();
        assert_eq!(published.path.as_str(), format!("name ({number})"));
        assert_eq!(there(published.path.as_str()), b"small");
    }
    assert_eq!(there("name"), b"old");
    for conflict in [OnConflict::Overwrite, OnConflict::Update] {
        fs::write(folder.path().join("name"), "old").unwrap();
        publish_single(&store, &small("name"), wish("name", conflict)).unwrap();
        assert_eq!(there("name"), b"small");
    }
}

#[test]
fn a_name_that_is_taken_at_the_last_moment_keeps_the_partial_file_with_its_claims() {
    let (folder, store) = destination();
    let offer = Offer::one("f", Seeded(4).bytes(2 * CHUNK));
    let sealed = offer.complete(&store, 0, &mut Receipt::default()).unwrap();
    fs::create_dir(folder.path().join("f")).unwrap();
    // Overwriting looks at the name only when the file is ready, so the table is already cut off here.
    let error = store.publish(sealed, &wish("f", OnConflict::Overwrite)).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    let mut receipt = Receipt::default();
    let sealed = offer.complete(&store, 0, &mut receipt).unwrap();
    assert_eq!((receipt.reused, receipt.fetched), (2, 0));
    let published = store.publish(sealed, &wish("f", OnConflict::Rename)).unwrap();
    assert_eq!(fs::read(folder.path().join(published.path.as_str())).unwrap(), offer.bytes(0));
}

#[test]
fn row_30_32_links_pipes_and_folders_are_neither_followed_nor_replaced() {
    let (folder, store) = destination();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "untouched").unwrap();
    symlink(outside.path().join("secret"), folder.path().join("link")).unwrap();
    symlink(outside.path().join("nothing"), folder.path().join("dangling")).unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    for name in ["link", "dangling", "folder", "pipe"] {
        for conflict in [OnConflict::Fail, OnConflict::Overwrite] {
            let error = publish_single(&store, &small(name), wish(name, conflict)).unwrap_err();
            assert!(matches!(error, StoreError::Exists { .. }), "{name}: {error}");
        }
        let published = publish_single(&store, &small(name), wish(name, OnConflict::Rename)).unwrap();
        assert_eq!(published.path.as_str(), format!("{name} (1)"));
    }
    assert_eq!(store.look(&path("link")).unwrap(), Existing::Other);
    assert_eq!(store.look(&path("pipe")).unwrap(), Existing::Other);
    assert_eq!(store.hash_existing(&path("link"), Geometry::of(Length(9)).unwrap()).unwrap(), None);
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"untouched");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn row_31_a_folder_that_is_a_link_out_is_refused() {
    let (folder, store) = destination();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), folder.path().join("d")).unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    for above in ["d", "file"] {
        let inside = path(&format!("{above}/x"));
        assert!(matches!(store.look(&inside), Err(StoreError::NotAFolder { .. })));
        assert!(matches!(store.make_folder(&path(above)), Err(StoreError::NotAFolder { .. })));
        assert!(matches!(store.make_folder(&inside), Err(StoreError::NotAFolder { .. })));
        let offer = small(inside.as_str().rsplit('/').next().unwrap());
        let error = publish_single(&store, &offer, wish(inside.as_str(), OnConflict::Overwrite)).unwrap_err();
        assert!(matches!(error, StoreError::NotAFolder { .. }), "{error}");
    }
    let finished = store.finish_folders(vec![(path("d"), Mode::masked(0o777), store_kit::when())]);
    assert!(matches!(finished[0].1, Err(StoreError::NotAFolder { .. })));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn row_88_a_destination_that_is_missing_or_no_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    assert!(RealDisk::open(&folder.path().join("missing")).is_err());
    assert!(RealDisk::open(&folder.path().join("file")).is_err());
    if cfg!(target_os = "linux") {
        let disk = RealDisk::open("/proc".as_ref()).unwrap();
        let refused = Store::open(disk).and_then(|store| store.folding());
        assert!(refused.is_err(), "nothing can be made in /proc");
    }
}

#[test]
fn one_chunk_has_one_holder_and_a_claimed_one_has_none() {
    let offer = Offer::one("f", Seeded(5).bytes(2 * CHUNK));
    let (_folder, store) = destination();
    let opened = store.open_partial(&path("f"), Length(2 * CHUNK as u64)).unwrap();
    let lease = opened.partial.lease(ChunkIndex(0)).unwrap().unwrap();
    assert!(opened.partial.lease(ChunkIndex(0)).unwrap().is_none());
    assert!(opened.partial.lease(ChunkIndex(1)).unwrap().is_some());
    assert!(matches!(opened.partial.lease(ChunkIndex(2)), Err(StoreError::Misuse(_))));
    lease.abandon();
    offer.fetch(&opened.partial, 0, 0).unwrap();
    assert!(opened.partial.lease(ChunkIndex(0)).unwrap().is_none());
    let error = opened.partial.seal(offer.root(0)).unwrap_err();
    assert!(matches!(error, StoreError::Incomplete { missing: 1, .. }), "{error}");
    assert!(!opened.partial.check_claim(ChunkIndex(0), offer.promised(0, 1)).unwrap(), "another hash is promised");
    assert!(opened.partial.lease(ChunkIndex(0)).unwrap().is_some(), "so the claim is void");
}

#[test]
fn only_bytes_that_were_hashed_where_they_lie_can_be_claimed() {
    let offer = Offer::one("f", Seeded(6).bytes(2 * CHUNK));
    let (_folder, store) = destination();
    let opened = store.open_partial(&path("f"), Length(2 * CHUNK as u64)).unwrap();
    let right = offer.verify(0, 0, offer.promised(0, 0)).unwrap();
    let lease = || opened.partial.lease(ChunkIndex(0)).unwrap().unwrap();
    assert!(matches!(lease().claim(right), Err(StoreError::Misuse(_))), "nothing was hashed");
    let mut one = lease();
    one.write(0, &offer.bytes(0)[..CHUNK]).unwrap();
    assert!(matches!(one.claim(right), Err(StoreError::Misuse(_))), "written, but not hashed");
    let mut two = lease();
    two.write(0, &offer.bytes(0)[..CHUNK]).unwrap();
    assert_eq!(two.digest().unwrap(), offer.promised(0, 0));
    two.write(10, b"later").unwrap();
    assert!(matches!(two.claim(right), Err(StoreError::Misuse(_))), "written after it was hashed");
    let mut three = opened.partial.lease(ChunkIndex(1)).unwrap().unwrap();
    three.digest().unwrap();
    assert!(matches!(three.claim(right), Err(StoreError::Misuse(_))), "another chunk");
    let mut four = lease();
    assert!(matches!(four.write(CHUNK as u64 - 1, b"ab"), Err(StoreError::Misuse(_))));
    assert!(matches!(four.zeros(u64::MAX, 2), Err(StoreError::Misuse(_))));
}

#[test]
fn zeros_are_zeros_over_whatever_lay_there() {
    let offer = Offer::one("f", [vec![0; CHUNK], vec![0; CHUNK], vec![3; 9]].concat());
    let (folder, store) = destination();
    let length = Length(2 * CHUNK as u64 + 9);
    {
        let opened = store.open_partial(&path("f"), length).unwrap();
        let mut lease = opened.partial.lease(ChunkIndex(1)).unwrap().unwrap();
        lease.write(1000, &[9; 5000]).unwrap();
        lease.abandon();
    }
    let sealed = offer.complete(&store, 0, &mut Receipt::default()).unwrap();
    store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), offer.bytes(0));
}

#[test]
fn a_wrong_root_and_a_changed_table_are_not_sealed() {
    let offer = Offer::one("f", Seeded(7).bytes(3 * CHUNK));
    let (_folder, store) = destination();
    let opened = store.open_partial(&path("f"), Length(3 * CHUNK as u64)).unwrap();
    for index in 0..3 {
        offer.fetch(&opened.partial, 0, index).unwrap();
    }
    let error = opened.partial.seal(FileDigest([1; 32])).unwrap_err();
    assert!(matches!(error, StoreError::RootMismatch { .. }));
    assert!(opened.partial.seal(offer.root(0)).is_ok(), "the right root is still taken");
    assert!(matches!(opened.partial.lease(ChunkIndex(0)), Err(StoreError::Misuse(_))));
}

#[test]
fn read_back_finds_what_the_disk_garbled_and_keeps_the_rest() {
    let offer = Offer::one("f", Seeded(8).bytes(3 * CHUNK));
    let (folder, store) = destination();
    let sealed = offer.complete(&store, 0, &mut Receipt::default()).unwrap();
    let part = only_part(&folder);
    let mut bytes = fs::read(&part).unwrap();
    bytes[CHUNK + 1] ^= 1;
    fs::write(&part, bytes).unwrap();
    let wish = Publication { read_back: true, ..wish("f", OnConflict::Fail) };
    let error = store.publish(sealed, &wish).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let mut receipt = Receipt::default();
    let sealed = offer.complete(&store, 0, &mut receipt).unwrap();
    assert_eq!((receipt.reused, receipt.fetched), (2, 1));
    store.publish(sealed, &wish).unwrap();
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), offer.bytes(0));
}

#[test]
fn another_boot_makes_claims_ones_to_check_and_an_unknown_one_too() {
    let offer = Offer::one("f", Seeded(9).bytes(2 * CHUNK));
    let folder = tempfile::tempdir().unwrap();
    let open = |boot: Option<u8>| {
        let boot = boot.map(|number| BootId([number; 16]));
        Store::open(RealDisk::open(folder.path()).unwrap().with_boot(boot)).unwrap()
    };
    let length = Length(2 * CHUNK as u64);
    {
        let opened = open(Some(1)).open_partial(&path("f"), length).unwrap();
        offer.fetch(&opened.partial, 0, 0).unwrap();
    }
    for (boot, standing) in [(Some(1), Standing::SameBoot), (Some(2), Standing::OtherBoot), (None, Standing::OtherBoot)]
    {
        let opened = open(boot).open_partial(&path("f"), length).unwrap();
        assert_eq!((opened.standing, opened.claims.len()), (standing, 1), "{boot:?}");
        assert_eq!(open(boot).left_overs().unwrap()[0].destined, Some((path("f"), length)));
    }
}

#[test]
fn what_was_begun_of_a_file_that_turns_out_to_be_there_goes_unless_it_is_in_use() {
    let (folder, store) = destination();
    let length = Length(2 * CHUNK as u64);
    let opened = store.open_partial(&path("f"), length).unwrap();
    store.vouch_for(&path("f"), length);
    assert_eq!(store.left_overs().unwrap().len(), 1, "it is in use");
    drop(opened);
    store.vouch_for(&path("f"), Length(length.0 + 1));
    assert_eq!(store.left_overs().unwrap().len(), 1, "it is for another length");
    store.vouch_for(&path("f"), length);
    assert!(store.left_overs().unwrap().is_empty());
    drop(store);
    assert!(!folder.path().join(".haul").exists());
}

#[test]
fn what_was_begun_for_another_length_is_looked_at_where_something_was_claimed() {
    let bytes = Seeded(10).bytes(10 * CHUNK);
    for new_length in [10 * CHUNK + 1, 12 * CHUNK, 9 * CHUNK, 3 * CHUNK + 7] {
        let (folder, store) = destination();
        let before = Offer::one("f", bytes.clone());
        {
            let opened = store.open_partial(&path("f"), Length(bytes.len() as u64)).unwrap();
            for index in [0, 2, 8, 9] {
                before.fetch(&opened.partial, 0, index).unwrap();
            }
        }
        let name = store.left_overs().unwrap().remove(0).name;
        let mut now = bytes.clone();
        now.resize(new_length, 7);
        now[2 * CHUNK] ^= 1;
        let offer = Offer::one("f", now);
        let length = Length(new_length as u64);
        assert!(store.readdress(&name, &path("f"), length).unwrap());
        {
            let opened = store.open_partial(&path("f"), length).unwrap();
            let looked_at: Vec<u64> = opened.claims.ranges().flatten().collect();
            let chunks = new_length.div_ceil(CHUNK) as u64;
            let expected: Vec<u64> = [0, 2, 8, 9].into_iter().filter(|&index| index < chunks).collect();
            assert_eq!((opened.standing, looked_at), (Standing::OtherBoot, expected), "{new_length}");
        }
        let mut receipt = Receipt::default();
        let sealed = offer.complete(&store, 0, &mut receipt).unwrap();
        store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
        assert!(fs::read(folder.path().join("f")).unwrap() == offer.bytes(0), "{new_length}");
        assert!(receipt.reused >= 1, "{new_length}: {receipt:?}");
        drop(store);
        assert!(!folder.path().join(".haul").exists(), "{new_length}");
    }
}

#[test]
fn what_was_begun_for_another_length_stays_where_it_is_of_no_use_or_in_use() {
    let (_folder, store) = destination();
    let (old, new) = (Length(2 * CHUNK as u64), Length(3 * CHUNK as u64));
    let begin = |length| drop(store.open_partial(&path("f"), length).unwrap());
    let names = || store.left_overs().unwrap().into_iter().map(|left| left.name).collect::<Vec<_>>();
    begin(old);
    let name = names().remove(0);
    begin(new);
    let stays = |new| !store.readdress(&name, &path("f"), new).unwrap() && names().contains(&name);
    assert!(stays(new), "one of that length is begun already");
    assert!(stays(Length(5)), "a file of one chunk has none");
    let opened = store.open_partial(&path("f"), old).unwrap();
    assert!(stays(Length(4 * CHUNK as u64)), "it is in use");
    drop(opened);
}

#[test]
fn a_partial_file_in_use_is_busy_and_is_not_cleaned_away() {
    let (folder, store) = destination();
    let length = Length(2 * CHUNK as u64);
    let opened = store.open_partial(&path("f"), length).unwrap();
    let other = Store::open(RealDisk::open(folder.path()).unwrap()).unwrap();
    let error = other.open_partial(&path("f"), length).unwrap_err();
    assert!(matches!(error, StoreError::Busy { holder: Some(pid), .. } if pid == std::process::id()), "{error}");
    let left = other.left_overs().unwrap();
    assert_eq!((left.len(), left[0].is_in_use), (1, true));
    assert!(matches!(other.remove_left_over(&left[0].name), Err(StoreError::Busy { .. })));
    drop(opened);
    assert!(!other.left_overs().unwrap()[0].is_in_use);
    other.remove_left_over(&left[0].name).unwrap();
    assert!(other.left_overs().unwrap().is_empty());
    drop(store);
    assert!(folder.path().join(".haul").exists(), "the other store uses it");
    drop(other);
    assert!(!folder.path().join(".haul").exists());
}

#[test]
fn a_killed_process_leaves_scratch_files_that_the_next_one_sweeps_away() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(".haul")).unwrap();
    fs::write(folder.path().join(".haul/00000007.new"), "left").unwrap();
    fs::write(folder.path().join(".haul/lock"), "").unwrap();
    let store = Store::open(RealDisk::open(folder.path()).unwrap()).unwrap();
    small("f").receive(&store, OnConflict::Fail).unwrap();
    drop(store);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_killed_between_its_mode_and_its_name_is_taken_up_again() {
    let offer = Offer::one("f", Seeded(10).bytes(2 * CHUNK));
    let (folder, store) = destination();
    drop(offer.complete(&store, 0, &mut Receipt::default()).unwrap());
    let part = only_part(&folder);
    fs::OpenOptions::new().write(true).open(&part).unwrap().set_len(2 * CHUNK as u64).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o444)).unwrap();
    let mut receipt = Receipt::default();
    let sealed = offer.complete(&store, 0, &mut receipt).unwrap();
    assert_eq!((receipt.reused, receipt.fetched), (2, 0), "hashed where it lies, not fetched");
    store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), offer.bytes(0));
}

#[test]
fn names_that_this_file_system_keeps_apart_are_not_folded() {
    let (folder, store) = destination();
    let folding = store.folding().unwrap();
    fs::write(folder.path().join("a"), "").unwrap();
    assert_eq!(folding.case, folder.path().join("A").exists());
    assert_eq!(folding, store.folding().unwrap());
}

#[test]
fn many_threads_fill_one_file() {
    let offer = Offer::one("f", Seeded(11).bytes(40 * CHUNK + 1));
    let (folder, store) = destination();
    let store = {
        drop(store);
        Store::open(RealDisk::open(folder.path()).unwrap()).unwrap().with_background_sync_bytes(4 * CHUNK as u64)
    };
    let opened = store.open_partial(&path("f"), Length(40 * CHUNK as u64 + 1)).unwrap();
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let (offer, partial) = (&offer, &opened.partial);
            scope.spawn(move || (lane..41).step_by(4).for_each(|index| offer.fetch(partial, 0, index).unwrap()));
        }
    });
    let sealed = opened.partial.seal(offer.root(0)).unwrap();
    store.publish(sealed, &Publication { read_back: true, ..wish("f", OnConflict::Fail) }).unwrap();
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), offer.bytes(0));
}

fn only_part(folder: &TempDir) -> std::path::PathBuf {
    let entries = fs::read_dir(folder.path().join(".haul")).unwrap().map(|entry| entry.unwrap().path());
    let parts: Vec<_> = entries.filter(|entry| entry.extension().is_some_and(|ending| ending == "part")).collect();
    assert_eq!(parts.len(), 1);
    parts.into_iter().next().unwrap()
}
