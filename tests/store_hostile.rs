//! Other programs at the destination: what they leave in the work folder, and what they do to the tree meanwhile.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // Test code, on 64-bit machines.

#[path = "support/sim_disk.rs"]
mod sim_disk;
#[path = "support/store_kit.rs"]
mod store_kit;

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::manifest::Mode;
use haul::rel_path::RelPath;
use haul::store::{OnConflict, RealDisk, RecordId, Standing, Store, StoreError};
use sim_disk::Seeded;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use store_kit::{Offer, Receipt, path, wish};
use tempfile::TempDir;

const CHUNK: usize = 256 * 1024;
const LENGTH: Length = Length(3 * CHUNK as u64 + 100);
/// Runs of each operation against a thread that flips a folder and a link.
const FLIP_ROUNDS: usize = 100;

/// What another program does to a partial file.
type Change = Box<dyn Fn(&Path)>;
/// What another program puts in place of a file, given one outside.
type Plant = fn(&Path, &Path);
/// What another program does to a journal.
type Damage = fn(&Path);

fn open(folder: &Path) -> Store {
    Store::open(RealDisk::open(folder).unwrap()).unwrap()
}

fn offer() -> Offer {
    Offer::one("f", Seeded(1).bytes(LENGTH.0 as usize))
}

/// A destination with a partial file that claims chunks 0 and 2.
fn half_done(offer: &Offer) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path()).open_partial(&path("f"), LENGTH).unwrap();
    offer.fetch(&opened.partial, 0, 0).unwrap();
    offer.fetch(&opened.partial, 0, 2).unwrap();
    let entries = fs::read_dir(folder.path().join(".haul")).unwrap().map(|entry| entry.unwrap().path());
    let part = entries.into_iter().find(|entry| entry.extension().is_some_and(|ending| ending == "part")).unwrap();
    (folder, part)
}

fn assert_arrives(folder: &Path, offer: &Offer, context: &str) -> Receipt {
    let mut receipt = Receipt::default();
    let store = open(folder);
    let sealed = offer.complete(&store, 0, &mut receipt).unwrap_or_else(|error| panic!("{context}: {error}"));
    store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
    assert!(fs::read(folder.join("f")).unwrap() == offer.bytes(0), "{context}");
    drop(store);
    assert!(!folder.join(".haul").exists(), "{context}");
    receipt
}

#[test]
fn row_86_87_a_changed_partial_file_never_publishes_a_wrong_byte() {
    let offer = offer();
    let total = fs::metadata(half_done(&offer).1).unwrap().len();
    let table = (LENGTH.0 as usize).next_multiple_of(4096);
    let flip = |at: usize| -> Change {
        Box::new(move |part| {
            let mut bytes = fs::read(part).unwrap();
            bytes[at] ^= 4;
            fs::write(part, bytes).unwrap();
        })
    };
    let cut = |length: u64| -> Change {
        Box::new(move |part| fs::OpenOptions::new().write(true).open(part).unwrap().set_len(length).unwrap())
    };
    let changes: Vec<(&str, u64, Change)> = vec![
        ("nothing", 2, Box::new(|_| {})),
        ("a bit of the footer", 2, flip(total as usize - 8192 + 20)),
        ("a bit of the boot id", 2, flip(total as usize - 8192 + 64)),
        ("a bit of the path", 2, flip(total as usize - 8192 + 512)),
        ("a bit of a row", 1, flip(table + 1)),
        ("cut to nothing", 0, cut(0)),
        ("cut within a chunk", 0, cut(CHUNK as u64 / 2)),
        ("cut within the table", 2, cut(table as u64 + 10)),
        ("cut within the footer", 2, cut(total - 1)),
        ("ten gigabytes", 2, cut(10 << 30)),
        (
            "all rows filled",
            2,
            Box::new(move |part| {
                let mut bytes = fs::read(part).unwrap();
                bytes[table + 32..table + 64].fill(7);
                bytes[table + 96..table + 128].fill(7);
                fs::write(part, bytes).unwrap();
            }),
        ),
    ];
    for (name, reused, change) in changes {
        let (folder, part) = half_done(&offer);
        change(&part);
        assert_eq!(assert_arrives(folder.path(), &offer, name).reused, reused, "{name}");
    }
}

#[test]
fn row_87_changed_data_is_found_by_the_read_back_and_by_the_next_boot() {
    let offer = offer();
    let (folder, part) = half_done(&offer);
    let mut bytes = fs::read(&part).unwrap();
    bytes[2 * CHUNK] ^= 1;
    fs::write(&part, bytes).unwrap();
    let disk = RealDisk::open(folder.path()).unwrap().with_boot(None);
    let store = Store::open(disk).unwrap();
    let mut receipt = Receipt::default();
    offer.complete(&store, 0, &mut receipt).unwrap();
    assert_eq!((receipt.reused, receipt.fetched), (1, 3));
}

#[test]
fn row_86_what_takes_the_place_of_a_partial_file_is_not_followed_shared_or_waited_for() {
    let offer = offer();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "untouched").unwrap();
    let plants: [(&str, Plant); 4] = [
        ("a link", |part, secret| symlink(secret, part).unwrap()),
        ("a dangling link", |part, secret| symlink(secret.with_extension("none"), part).unwrap()),
        ("a second name", |part, secret| fs::hard_link(secret, part).unwrap()),
        ("a pipe", |part, _| rustix::fs::mkfifoat(rustix::fs::CWD, part, rustix::fs::Mode::RWXU).unwrap()),
    ];
    for (name, plant) in plants {
        let (folder, part) = half_done(&offer);
        fs::remove_file(&part).unwrap();
        plant(&part, &secret);
        let receipt = assert_arrives(folder.path(), &offer, name);
        assert_eq!(receipt.reused, 0, "{name}");
        assert_eq!(fs::read(&secret).unwrap(), b"untouched", "{name}");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1, "{name}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{name}");
    }
    let (folder, part) = half_done(&offer);
    fs::remove_file(&part).unwrap();
    fs::create_dir(&part).unwrap();
    let error = open(folder.path()).open_partial(&path("f"), LENGTH).unwrap_err();
    assert!(matches!(error, StoreError::Tampered { .. }), "{error}");
}

#[test]
fn row_86_a_partial_file_of_another_user_is_not_used() {
    assert!(rustix::process::geteuid().is_root(), "only root can give a file away; run this test as root");
    let offer = offer();
    let (folder, part) = half_done(&offer);
    std::os::unix::fs::chown(&part, Some(12_345), None).unwrap();
    assert_eq!(assert_arrives(folder.path(), &offer, "other owner").reused, 0);
    fs::create_dir(folder.path().join(".haul")).unwrap();
    std::os::unix::fs::chown(folder.path().join(".haul"), Some(12_345), None).unwrap();
    let error = open(folder.path()).open_partial(&path("g"), LENGTH).unwrap_err();
    assert!(matches!(error, StoreError::Tampered { .. }), "{error}");
}

#[test]
fn a_work_folder_that_is_a_link_is_refused_and_an_open_one_is_closed() {
    let outside = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    symlink(outside.path(), folder.path().join(".haul")).unwrap();
    let error = open(folder.path()).open_partial(&path("f"), LENGTH).unwrap_err();
    assert!(matches!(error, StoreError::Tampered { .. }), "{error}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    fs::remove_file(folder.path().join(".haul")).unwrap();
    fs::create_dir(folder.path().join(".haul")).unwrap();
    fs::set_permissions(folder.path().join(".haul"), fs::Permissions::from_mode(0o777)).unwrap();
    let _opened = open(folder.path()).open_partial(&path("f"), LENGTH).unwrap();
    assert_eq!(fs::metadata(folder.path().join(".haul")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn row_87_a_partial_file_that_is_cut_or_removed_under_way_stops_the_file() {
    let offer = offer();
    for change in [
        |part: &Path| fs::remove_file(part).unwrap(),
        |part: &Path| {
            fs::OpenOptions::new().write(true).open(part).unwrap().set_len(10).unwrap();
        },
    ] {
        let (folder, part) = half_done(&offer);
        let opened = open(folder.path()).open_partial(&path("f"), LENGTH).unwrap();
        assert_eq!(opened.standing, Standing::SameBoot);
        let mut lease = opened.partial.lease(ChunkIndex(1)).unwrap().unwrap();
        change(&part);
        let error = lease.digest().unwrap_err();
        assert!(matches!(error, StoreError::Tampered { .. }), "{error}");
    }
}

#[test]
fn row_86_a_journal_and_record_from_elsewhere_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let id = RecordId([5; 16]);
    let entry = (haul::manifest::EntryIndex(1), haul::digest::FileDigest([2; 32]));
    let journal = folder.path().join(format!(".haul/{id}.done"));
    let damage: [(&str, Damage); 4] = [
        ("cut", |journal| fs::OpenOptions::new().write(true).open(journal).unwrap().set_len(63).unwrap()),
        ("flipped", |journal| {
            let mut bytes = fs::read(journal).unwrap();
            bytes[9] ^= 1;
            fs::write(journal, bytes).unwrap();
        }),
        ("ten gigabytes", |journal| {
            fs::OpenOptions::new().write(true).open(journal).unwrap().set_len(10 << 30).unwrap();
        }),
        ("a link", |journal| {
            fs::remove_file(journal).unwrap();
            symlink("/etc/hostname", journal).unwrap();
        }),
    ];
    for (name, damage) in damage {
        open(folder.path()).open_record(id).unwrap().note_published(&[entry]).unwrap();
        damage(&journal);
        let record = open(folder.path()).open_record(id).unwrap();
        assert_eq!(record.published().unwrap(), [], "{name}");
        record.note_published(&[entry]).unwrap();
        assert_eq!(record.published().unwrap(), [entry], "{name}");
        record.remove().unwrap();
    }
    // A row of one transfer is none of another's.
    open(folder.path()).open_record(id).unwrap().note_published(&[entry]).unwrap();
    let other = RecordId([6; 16]);
    fs::rename(&journal, folder.path().join(format!(".haul/{other}.done"))).unwrap();
    assert_eq!(open(folder.path()).open_record(other).unwrap().published().unwrap(), []);
}

/// While `work` runs over and over, `d` is by turns a folder and a link out of the destination.
fn against_a_flipping_link(work: impl Fn(&Store, usize) -> Result<(), StoreError>) {
    let outside = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (real, aside, link) = (folder.path().join("d"), folder.path().join("aside"), folder.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink(outside.path(), &link).unwrap();
    let before = fs::metadata(outside.path()).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                fs::rename(&real, &aside).unwrap();
                fs::rename(&link, &real).unwrap();
                fs::rename(&real, &link).unwrap();
                fs::rename(&aside, &real).unwrap();
            }
        });
        let (mut passed, mut refused) = (0, 0);
        // However the threads are scheduled: until both sides of the flip were met.
        for round in 0.. {
            if round >= FLIP_ROUNDS && passed > 0 && refused > 0 {
                break;
            }
            // A store of its own each time, so that every folder is looked up again.
            match work(&open(folder.path()), round) {
                Ok(()) => passed += 1,
                Err(StoreError::NotAFolder { .. } | StoreError::Io { .. } | StoreError::Exists { .. }) => refused += 1,
                Err(error) => {
                    is_done.store(true, Ordering::Relaxed);
                    panic!("round {round}: {error:?}");
                }
            }
            std::thread::yield_now();
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "something left the destination");
    let after = fs::metadata(outside.path()).unwrap();
    assert_eq!((after.mode(), after.mtime()), (before.mode(), before.mtime()), "something outside was changed");
}

#[test]
fn rows_6_12_and_13_a_refused_name_is_never_joined_to_a_folder() {
    for name in ["a\\b", "a\u{202e}b", "a\u{200b}b"] {
        let folder = TempDir::new().unwrap();
        let store = open(folder.path());
        let inside = folder.path().join(name);
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("mine"), b"mine").unwrap();
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o750)).unwrap();
        let before = fs::metadata(&inside).unwrap();
        let refused = RelPath::parse_listed(name).unwrap();
        let mine = RelPath::parse_listed(&format!("{name}/mine")).unwrap();
        let geometry = Geometry::of(Length(4)).unwrap();
        let finished = store.finish_folders(vec![(refused.clone(), Mode::masked(0o777), store_kit::when())]);
        let outcomes = [
            finished.into_iter().next().unwrap().1.map(drop),
            store.look(&mine).map(drop),
            store.make_folder(&refused),
            store.hash_existing(&mine, geometry).map(drop),
        ];
        for outcome in outcomes {
            assert!(matches!(outcome, Err(StoreError::Misuse(_))), "{name:?}: {outcome:?}");
        }
        let after = fs::metadata(&inside).unwrap();
        assert_eq!((after.mode(), after.mtime_nsec()), (before.mode(), before.mtime_nsec()), "{name:?} was changed");
    }
}

#[test]
fn no_file_is_published_through_a_flipping_link() {
    against_a_flipping_link(|store, round| {
        let wish = wish(&format!("d/f{round}"), OnConflict::Overwrite);
        let (file, _) = store.write_single(wish, b"")?;
        store.publish_batch(vec![(file, None)]).pop().unwrap().map(drop)
    });
}

#[test]
fn no_folder_is_made_through_a_flipping_link() {
    against_a_flipping_link(|store, round| store.make_folder(&path(&format!("d/g{round}"))));
}

#[test]
fn no_mode_is_set_through_a_flipping_link() {
    against_a_flipping_link(|store, _| {
        let folders = vec![(path("d"), Mode::masked(0o711), store_kit::when())];
        store.finish_folders(folders).pop().unwrap().1.map(drop)
    });
}

#[test]
fn nothing_is_looked_at_through_a_flipping_link() {
    against_a_flipping_link(|store, _| store.look(&path("d/x")).map(drop));
}
