//! The race that path-based programs lose: a folder of the destination is by turns a folder and a link out of it, for as
//! long as an operation runs over and over. Nothing outside may change, by any operation.
//!
//! `HAUL_FLIP_SECONDS` is the time of each, 1 unless it says otherwise. Each is a test of its own, so that they run at once.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // Test code, on 64-bit machines.

#[path = "support/sim_disk.rs"]
mod sim_disk;
#[path = "support/store_kit.rs"]
mod store_kit;

use haul::chunk::{Geometry, Length};
use haul::manifest::{Attribute, Attributes, LinkTarget, Mode};
use haul::store::{Link, LinkWish, OnConflict, Publication, RealDisk, Store, StoreError};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use store_kit::{Offer, path, when, wish};

const SIZE: usize = 100;
/// Names that the operations use, all of which stand for something outside as well.
const NAMES: [&str; 5] = ["f", "first", "link", "00000000.new", "lock"];

/// Runs `work` while `name`, a folder of the destination, flips. `work` gets a store that looks everything up again.
fn against_a_flipping_link(name: &str, work: impl Fn(&Store) -> Result<(), StoreError>) {
    let outside = outside();
    let before = snapshot(outside.path());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (real, aside, link) = (at(name), at("aside"), at("away"));
    fs::create_dir(&real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(real.join("first"), [7; SIZE]).unwrap();
    symlink(outside.path(), &link).unwrap();
    let is_done = AtomicBool::new(false);
    let seconds = std::env::var("HAUL_FLIP_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                // What the destination makes anew under the name meanwhile goes away with it.
                let _ = fs::remove_dir_all(&aside);
                let _ = fs::rename(&real, &aside);
                let _ = fs::rename(&link, &real);
                std::thread::yield_now();
                let _ = fs::rename(&real, &link);
                let _ = fs::rename(&aside, &real);
                std::thread::yield_now();
            }
        });
        let (mut passed, mut refused) = (0u64, 0u64);
        let until = Instant::now() + Duration::from_secs(seconds);
        // However the threads are scheduled: until both sides of the flip were met as well.
        while Instant::now() < until || passed == 0 || refused == 0 {
            let outcome = Store::open(RealDisk::open(folder.path()).unwrap()).and_then(|store| work(&store));
            match outcome {
                Ok(()) => passed += 1,
                Err(
                    StoreError::NotAFolder { .. }
                    | StoreError::Io { .. }
                    | StoreError::Exists { .. }
                    | StoreError::Tampered { .. }
                    | StoreError::FsyncFailed { .. }
                    | StoreError::Busy { .. },
                ) => refused += 1,
                Err(error) => {
                    is_done.store(true, Ordering::Relaxed);
                    panic!("{error:?}");
                }
            }
            std::thread::yield_now();
        }
        is_done.store(true, Ordering::Relaxed);
        println!("{passed} passed, {refused} refused");
    });
    assert_eq!(snapshot(outside.path()), before, "something outside was changed");
}

/// A folder that has what an operation that went astray would find.
fn outside() -> tempfile::TempDir {
    let outside = tempfile::tempdir().unwrap();
    for name in NAMES {
        fs::write(outside.path().join(name), [7; SIZE]).unwrap();
        setxattr(outside.path().join(name), "user.a", b"outside", XattrFlags::empty()).unwrap();
    }
    fs::create_dir(outside.path().join("sub")).unwrap();
    fs::write(outside.path().join("sub/first"), [7; SIZE]).unwrap();
    setxattr(outside.path(), "user.a", b"outside", XattrFlags::empty()).unwrap();
    outside
}

/// Everything that could have been changed of a folder.
fn snapshot(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let mut value = [0; 16];
        let length = getxattr(&path, "user.a", &mut value[..]).unwrap_or(0);
        let content = if facts.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let (mode, links, modified) = (facts.mode(), facts.nlink(), (facts.mtime(), facts.mtime_nsec()));
        // A change of anything else moves this.
        let changed = (facts.ctime(), facts.ctime_nsec());
        found.push(format!(
            "{} {mode} {links} {modified:?} {changed:?} {content:?} {:?}",
            path.display(),
            &value[..length]
        ));
        if facts.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

fn publish(store: &Store, publication: Publication) -> Result<(), StoreError> {
    let bytes = [9; SIZE];
    let offer = Offer::one("f", bytes.to_vec());
    let (file, found) = store.write_single(publication, &bytes)?;
    let proof = offer.verify(0, 0, found);
    store.publish_batch(vec![(file, proof)]).remove(0).map(drop)
}

fn attributes() -> Attributes {
    Attributes::of(vec![Attribute { name: "user.a".into(), value: b"inside".as_slice().into() }]).unwrap()
}

#[test]
fn no_file_is_made_or_opened_through_a_flipping_link() {
    let geometry = Geometry::of(Length(SIZE as u64)).unwrap();
    against_a_flipping_link("d", |store| {
        publish(store, wish("d/f", OnConflict::Overwrite))?;
        store.hash_existing(&path("d/f"), geometry).map(drop)
    });
}

#[test]
fn no_folder_is_made_through_a_flipping_link() {
    against_a_flipping_link("d", |store| store.make_folder(&path("d/new folder")));
}

#[test]
fn no_file_is_renamed_over_another_through_a_flipping_link() {
    against_a_flipping_link("d", |store| {
        publish(store, wish("d/link", OnConflict::Overwrite))?;
        publish(store, wish("d/first", OnConflict::Rename))
    });
}

#[test]
fn no_symbolic_link_is_made_through_a_flipping_link() {
    against_a_flipping_link("d", |store| {
        let link = Link::Symbolic(LinkTarget::parse("first").unwrap());
        let wish = LinkWish { publication: wish("d/link", OnConflict::Overwrite), link };
        store.publish_links(&[wish]).remove(0)?;
        store.read_symlink(&path("d/link")).map(drop)
    });
}

#[test]
fn no_hard_link_is_made_to_or_through_a_flipping_link() {
    let first = Offer::one("first", vec![7; SIZE]);
    // A link that is there is found identical, so that each is a new one.
    let round = std::cell::Cell::new(0);
    against_a_flipping_link("d", |store| {
        round.set(round.get() + 1);
        for at in [format!("top {}", round.get()), format!("d/link {}", round.get())] {
            let link = Link::Hard { first: path("d/first"), root: first.root(0), geometry: first.geometry(0) };
            store.publish_links(&[LinkWish { publication: wish(&at, OnConflict::Fail), link }]).remove(0)?;
        }
        Ok(())
    });
}

#[test]
fn no_mode_or_time_is_set_through_a_flipping_link() {
    against_a_flipping_link("d", |store| {
        let folders = vec![(path("d"), Mode::masked(0o711), when())];
        store.finish_folders(folders).remove(0).1.map(drop)?;
        publish(store, Publication { mode: Mode::masked(0o755), ..wish("d/f", OnConflict::Overwrite) })
    });
}

#[test]
fn no_attribute_is_set_through_a_flipping_link() {
    against_a_flipping_link("d", |store| {
        let lost = store.set_folder_attributes(&path("d"), &attributes())?;
        assert!(lost.is_empty(), "{lost:?}");
        publish(store, Publication { attributes: attributes(), ..wish("d/f", OnConflict::Overwrite) })
    });
}

#[test]
fn nothing_is_removed_through_a_flipping_folder_of_unfinished_transfers() {
    against_a_flipping_link(".haul", |store| {
        let (file, _) = store.write_single(wish("given up", OnConflict::Fail), &[9; SIZE])?;
        // Given up, it is removed from the folder of unfinished transfers, and that folder as well.
        drop(file);
        for left in store.left_overs()? {
            store.remove_left_over(&left.name)?;
        }
        Ok(())
    });
}
