//! Chunks made of an older version of a file: which are, which are not, and what becomes of them.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // Test code, on 64-bit machines.

#[path = "support/sim_disk.rs"]
mod sim_disk;
#[path = "support/store_kit.rs"]
mod store_kit;

use haul::chunk::{ChunkIndex, Length};
use haul::manifest::{Attributes, Mode};
use haul::outline::Part;
use haul::store::{OnConflict, Publication, RealDisk, Standing, Store, StoreError};
use sim_disk::Seeded;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use store_kit::{Offer, path, wish};

const CHUNK: usize = 256 * 1024;

/// A destination with `old` under the name `f`, and what is to become of it.
fn destination(old: &[u8], new: Vec<u8>) -> (tempfile::TempDir, Store, Offer) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), old).unwrap();
    let store = Store::open(RealDisk::open(folder.path()).unwrap()).unwrap();
    (folder, store, Offer::one("f", new))
}

fn part(offset: usize, length: usize) -> Part {
    Part { offset: offset as u64, length: length as u64 }
}

#[test]
fn a_chunk_is_made_of_parts_and_claimed_like_one_that_was_fetched() {
    let old = Seeded(1).bytes(4 * CHUNK);
    let new = [&old[2 * CHUNK + 5..4 * CHUNK], &old[..CHUNK + 5]].concat();
    let (folder, store, offer) = destination(&old, new.clone());
    let length = Length(new.len() as u64);
    let opened = store.open_partial(&path("f"), length).unwrap();
    let older = store.open_older(&path("f")).unwrap();
    assert_eq!(older.length(), Length(old.len() as u64));
    let parts = [
        vec![part(2 * CHUNK + 5, CHUNK)],
        vec![part(3 * CHUNK + 5, CHUNK - 5), part(0, 5)],
        vec![part(5, 100), part(105, CHUNK - 100)],
    ];
    for (index, parts) in (0..).zip(&parts) {
        assert!(opened.partial.adopt(&older, ChunkIndex(index), parts, offer.promised(0, index)).unwrap());
        let again = opened.partial.adopt(&older, ChunkIndex(index), parts, offer.promised(0, index)).unwrap();
        assert!(!again, "what is claimed is not made anew");
    }
    drop(opened);
    let opened = store.open_partial(&path("f"), length).unwrap();
    assert_eq!((opened.standing, opened.claims.len()), (Standing::SameBoot, 3), "a later run finds the claims");
    for index in 0..3 {
        assert!(opened.partial.check_claim(ChunkIndex(index), offer.promised(0, index)).unwrap());
    }
    let sealed = opened.partial.seal(offer.root(0)).unwrap();
    drop(opened);
    store.publish(sealed, &wish("f", OnConflict::Overwrite)).unwrap();
    assert!(fs::read(folder.path().join("f")).unwrap() == new);
}

#[test]
fn what_does_not_have_the_hash_or_cannot_be_read_is_fetched() {
    let old = Seeded(1).bytes(3 * CHUNK);
    let (folder, store, offer) = destination(&old, old.clone());
    let opened = store.open_partial(&path("f"), Length(old.len() as u64)).unwrap();
    let older = store.open_older(&path("f")).unwrap();
    let adopt = |index, part| opened.partial.adopt(&older, ChunkIndex(index), &[part], offer.promised(0, index));
    assert!(!adopt(0, part(1, CHUNK)).unwrap(), "other bytes");
    assert!(!adopt(0, part(old.len() - CHUNK + 1, CHUNK)).unwrap(), "bytes past its end");
    assert!(!adopt(0, Part { offset: 1 << 60, length: CHUNK as u64 }).unwrap(), "far past its end");
    for wrong in [CHUNK - 1, CHUNK + 1, 0] {
        assert!(matches!(adopt(0, part(0, wrong)), Err(StoreError::Misuse(_))), "{wrong} bytes are no chunk");
    }
    assert!(opened.partial.lease(ChunkIndex(0)).unwrap().is_some(), "the chunk is free to be fetched");
    let lease = opened.partial.lease(ChunkIndex(1)).unwrap().unwrap();
    assert!(!adopt(1, part(CHUNK, CHUNK)).unwrap(), "somebody is fetching it");
    drop(lease);
    // Another program cuts it under way.
    fs::OpenOptions::new().write(true).open(folder.path().join("f")).unwrap().set_len(CHUNK as u64).unwrap();
    assert!(adopt(0, part(0, CHUNK)).unwrap());
    assert!(!adopt(1, part(CHUNK, CHUNK)).unwrap());
    assert!(!older.holds(offer.geometry(0), ChunkIndex(1), offer.promised(0, 1)));
    assert!(older.holds(offer.geometry(0), ChunkIndex(0), offer.promised(0, 0)));
    for index in 1..3 {
        offer.fetch(&opened.partial, 0, index).unwrap();
    }
    opened.partial.seal(offer.root(0)).unwrap();
}

#[test]
fn only_a_plain_file_is_an_older_version_and_no_link_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    symlink(outside.path().join("secret"), at("link")).unwrap();
    symlink(outside.path(), at("folder")).unwrap();
    fs::create_dir(at("plain")).unwrap();
    fs::write(at("empty"), b"").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let store = Store::open(RealDisk::open(folder.path()).unwrap()).unwrap();
    for name in ["link", "folder/secret", "plain", "empty", "pipe", "nothing"] {
        assert!(store.open_older(&path(name)).is_none(), "{name}");
    }
}

#[test]
fn zeros_of_an_older_version_take_no_room() {
    let mut old = vec![0; 8 * CHUNK];
    old[3 * CHUNK] = 1;
    let (folder, store, offer) = destination(&old, old.clone());
    let opened = store.open_partial(&path("f"), Length(old.len() as u64)).unwrap();
    let older = store.open_older(&path("f")).unwrap();
    for index in 0..8 {
        let parts = [part(index as usize * CHUNK, CHUNK)];
        assert!(opened.partial.adopt(&older, ChunkIndex(index), &parts, offer.promised(0, index)).unwrap());
    }
    let sealed = opened.partial.seal(offer.root(0)).unwrap();
    drop(opened);
    store.publish(sealed, &wish("f", OnConflict::Overwrite)).unwrap();
    assert!(fs::read(folder.path().join("f")).unwrap() == old);
    let taken = fs::metadata(folder.path().join("f")).unwrap().blocks() * 512;
    assert!(taken <= 2 * CHUNK as u64, "{taken} bytes are taken");
}

#[test]
fn a_file_that_is_the_same_is_brought_in_line_and_nothing_else_is() {
    let (folder, store, _) = destination(b"abc", vec![1]);
    let file = folder.path().join("f");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4600)).unwrap();
    let wish = Publication { mode: Mode::masked(0o444), attributes: Attributes::NONE, ..wish("f", OnConflict::Update) };
    assert_eq!(store.bring_in_line(&wish).unwrap(), []);
    let found = fs::metadata(&file).unwrap();
    let (mode, time) = (found.mode() & 0o7777, (found.mtime(), found.mtime_nsec()));
    assert_eq!(mode, 0o444);
    assert_eq!(time, (wish.modified.seconds(), wish.modified.nanoseconds().into()));
    let changed = (found.ctime(), found.ctime_nsec());
    store.bring_in_line(&wish).unwrap();
    let found = fs::metadata(&file).unwrap();
    assert_eq!((found.ctime(), found.ctime_nsec()), changed, "one that is in line is not touched");
    symlink("f", folder.path().join("link")).unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    for name in ["link", "d", "nothing"] {
        assert!(store.bring_in_line(&Publication { path: path(name), ..wish.clone() }).is_err(), "{name}");
    }
}
