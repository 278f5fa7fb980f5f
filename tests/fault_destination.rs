//! Cells of the fault matrix about what becomes of a destination under way, on real file systems.
//!
//! Names and moments are those of `fault_transfers.rs`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // Test code, on 64-bit machines.

#[path = "support/mount.rs"]
mod mount;
#[path = "support/process.rs"]
mod process;
#[path = "support/sim_disk.rs"]
#[allow(clippy::verbose_bit_mask)] // Permission bits are written in octal.
mod sim_disk;
#[path = "support/store_kit.rs"]
mod store_kit;

use haul::chunk::{ChunkIndex, Length};
use haul::store::{OnConflict, Publication, RealDisk, RecordId, SealedFile, Store, StoreError};
use mount::{Mount, may_mount};
use process::Playground;
use sim_disk::Seeded;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use store_kit::{Offer, Receipt, path, wish};
use tempfile::TempDir;

const CHUNK: usize = 256 * 1024;
const LENGTH: Length = Length(3 * CHUNK as u64 + 100);

fn open(folder: &Path) -> Store {
    Store::open(RealDisk::open(folder).unwrap()).unwrap()
}

fn offer() -> Offer {
    Offer::of(&[("d", None), ("d/f", Some(Seeded(1).bytes(LENGTH.0 as usize)))])
}

/// A destination `into`, with a folder `outside` next to it that nothing may reach.
struct Place {
    folder: TempDir,
    store: Store,
}

impl Place {
    /// The folders of the offer are made.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("into")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        let store = open(&folder.path().join("into"));
        store.make_folder(&path("d")).unwrap();
        Self { folder, store }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sealed(&self, offer: &Offer) -> SealedFile<RealDisk> {
        offer.complete(&self.store, 1, &mut Receipt::default()).unwrap()
    }

    /// Another program moves the destination away and puts a link to elsewhere in its place.
    fn replace_by_link(&self) {
        fs::rename(self.at("into"), self.at("aside")).unwrap();
        symlink(self.at("outside"), self.at("into")).unwrap();
    }

    fn assert_nothing_outside(&self) {
        assert_eq!(fs::read_dir(self.at("outside")).unwrap().count(), 0);
    }

    fn part(&self) -> PathBuf {
        let entries = fs::read_dir(self.at("into/.haul")).unwrap().map(|entry| entry.unwrap().path());
        entries.into_iter().find(|entry| entry.extension().is_some_and(|ending| ending == "part")).unwrap()
    }
}

fn publish(place: &Place, sealed: SealedFile<RealDisk>) -> Result<(), StoreError> {
    place.store.publish(sealed, &wish("d/f", OnConflict::Fail)).map(drop)
}

/// A run that meets no fault; how many chunks it reused and fetched.
fn completes(place: &Place, offer: &Offer) -> (u64, u64) {
    let mut receipt = Receipt::default();
    let sealed = offer.complete(&place.store, 1, &mut receipt).unwrap();
    publish(place, sealed).unwrap();
    assert!(fs::read(place.at("into/d/f")).unwrap() == offer.bytes(1));
    (receipt.reused, receipt.fetched)
}

#[test]
fn fault_no_space_at_reserve_manifest() {
    if !may_mount() {
        return;
    }
    let playground = Playground::new();
    let source = playground.file("data", 12 << 20, 1);
    let into = playground.dir("disk");
    // The file fits; what a destination keeps free beside it does not.
    let mount = Mount::tmpfs(&into, "size=20m");
    let sending = playground.send(&[&source], &["--keep"]);
    let received = playground.receive(&sending.link, &into, &[]).wait();
    assert_eq!(received.assert_exit(43)["bytes_fetched"], 0);
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0, "nothing is left of it");
    sending.kill();
    // The same where room goes between the look at it and the reservation.
    let error = open(&into).open_partial(&path("f"), Length(12 << 20)).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { needed, .. } if needed > 12 << 20), "{error}");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0);
    drop(mount);
}

#[test]
fn fault_read_only_manifest() {
    if !may_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(folder.path(), "size=4m");
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(folder.path()).status().unwrap();
    assert!(remounted.success());
    let disk = RealDisk::open(folder.path()).unwrap();
    let refused = Store::open(disk).unwrap_err();
    assert!(matches!(&refused, StoreError::Io { source, .. } if source.raw_os_error() == Some(30)), "{refused}");
    drop(mount);
}

#[test]
fn fault_destination_deleted_manifest() {
    let place = Place::new();
    fs::remove_dir_all(place.at("into")).unwrap();
    let error = place.store.folding().unwrap_err();
    assert!(matches!(error, StoreError::Io { .. } | StoreError::Busy { .. }), "{error}");
    assert!(place.store.open_record(RecordId([1; 16])).is_err());
    assert!(place.store.open_partial(&path("d/f"), LENGTH).is_err());
    assert!(!place.at("into").exists(), "it is not made anew");
}

#[test]
fn fault_destination_deleted_chunks() {
    let (place, offer) = (Place::new(), offer());
    let opened = place.store.open_partial(&path("d/f"), LENGTH).unwrap();
    let mut lease = opened.partial.lease(ChunkIndex(0)).unwrap().unwrap();
    fs::remove_dir_all(place.at("into")).unwrap();
    // The open file takes bytes that no name leads to any more; the file fails rather than fetch the rest of them.
    lease.write(0, &offer.bytes(1)[..1000]).unwrap();
    let error = lease.digest().unwrap_err();
    assert!(matches!(error, StoreError::Tampered { .. }), "{error}");
    assert!(!place.at("into").exists());
}

#[test]
fn fault_destination_deleted_verify() {
    let (place, offer) = (Place::new(), offer());
    let sealed = place.sealed(&offer);
    fs::remove_dir_all(place.at("into")).unwrap();
    publish(&place, sealed).unwrap_err();
    assert!(!place.at("into").exists(), "what was in it is gone with it");
}

#[test]
fn fault_destination_deleted_rename() {
    // The folder that the name is to appear in goes, the destination stays.
    let (place, offer) = (Place::new(), offer());
    let sealed = place.sealed(&offer);
    fs::remove_dir(place.at("into/d")).unwrap();
    publish(&place, sealed).unwrap_err();
    assert!(place.part().exists(), "what was fetched is kept");
    let place = Place { store: open(&place.at("into")), folder: place.folder };
    place.store.make_folder(&path("d")).unwrap();
    assert_eq!(completes(&place, &offer), (4, 0));
}

#[test]
fn fault_destination_is_a_link_manifest() {
    // A folder of the offer that is a link by now is refused.
    let place = Place::new();
    fs::remove_dir(place.at("into/d")).unwrap();
    symlink(place.at("outside"), place.at("into/d")).unwrap();
    let store = open(&place.at("into"));
    assert!(matches!(store.make_folder(&path("d")), Err(StoreError::NotAFolder { .. })));
    assert!(matches!(store.look(&path("d/f")), Err(StoreError::NotAFolder { .. })));
    place.assert_nothing_outside();
    // The destination itself is held open from the start: whatever takes its name, it is the folder that was named.
    let place = Place::new();
    place.replace_by_link();
    place.store.make_folder(&path("e")).unwrap();
    assert!(place.at("aside/e").is_dir());
    place.assert_nothing_outside();
}

#[test]
fn fault_destination_is_a_link_chunks() {
    let (place, offer) = (Place::new(), offer());
    let opened = place.store.open_partial(&path("d/f"), LENGTH).unwrap();
    offer.fetch(&opened.partial, 1, 0).unwrap();
    place.replace_by_link();
    (1..4).for_each(|index| offer.fetch(&opened.partial, 1, index).unwrap());
    let sealed = opened.partial.seal(offer.root(1)).unwrap();
    drop(opened);
    publish(&place, sealed).unwrap();
    assert!(fs::read(place.at("aside/d/f")).unwrap() == offer.bytes(1), "it stays in the folder that was named");
    place.assert_nothing_outside();
}

#[test]
fn fault_destination_is_a_link_verify() {
    let (place, offer) = (Place::new(), offer());
    let sealed = place.sealed(&offer);
    place.replace_by_link();
    let wish = Publication { read_back: true, ..wish("d/f", OnConflict::Fail) };
    place.store.publish(sealed, &wish).unwrap();
    assert!(fs::read(place.at("aside/d/f")).unwrap() == offer.bytes(1));
    place.assert_nothing_outside();
}

#[test]
fn fault_destination_is_a_link_rename() {
    let (place, offer) = (Place::new(), offer());
    let sealed = place.sealed(&offer);
    fs::rename(place.at("into/d"), place.at("into/old d")).unwrap();
    symlink(place.at("outside"), place.at("into/d")).unwrap();
    // Held open or looked up anew, the folder of the name is never the link.
    let refused = publish(&place, sealed);
    assert!(refused.is_ok() == place.at("into/old d/f").exists(), "{refused:?}");
    place.assert_nothing_outside();
    if refused.is_err() {
        assert!(place.part().exists(), "what was fetched is kept");
    }
}

#[test]
fn fault_part_gone_chunks() {
    for change in [remove, cut] {
        let (place, offer) = (Place::new(), offer());
        let opened = place.store.open_partial(&path("d/f"), LENGTH).unwrap();
        offer.fetch(&opened.partial, 1, 0).unwrap();
        let mut lease = opened.partial.lease(ChunkIndex(1)).unwrap().unwrap();
        change(&place.part());
        lease.write(0, &offer.bytes(1)[CHUNK..2 * CHUNK]).unwrap();
        let error = lease.digest().unwrap_err();
        assert!(matches!(error, StoreError::Tampered { .. }), "{error}");
        drop((lease, opened));
        let (reused, fetched) = completes(&place, &offer);
        assert_eq!(reused + fetched, 4);
    }
}

#[test]
fn fault_part_gone_verify() {
    // Cut: the table is missing, and nothing is published.
    let (place, offer) = (Place::new(), offer());
    let sealed = place.sealed(&offer);
    cut(&place.part());
    publish(&place, sealed).unwrap_err();
    assert!(!place.at("into/d/f").exists());
    assert_eq!(completes(&place, &offer), (0, 4));
    // Changed: who asks for the read-back learns it, and fetches what is bad.
    let place = Place::new();
    let sealed = place.sealed(&offer);
    let mut bytes = fs::read(place.part()).unwrap();
    bytes[CHUNK + 7] ^= 1;
    fs::write(place.part(), bytes).unwrap();
    let wish = Publication { read_back: true, ..wish("d/f", OnConflict::Fail) };
    let error = place.store.publish(sealed, &wish).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(completes(&place, &offer), (3, 1));
}

#[test]
fn fault_part_gone_rename() {
    let (place, offer) = (Place::new(), offer());
    let sealed = place.sealed(&offer);
    remove(&place.part());
    publish(&place, sealed).unwrap_err();
    assert!(!place.at("into/d/f").exists());
    assert_eq!(completes(&place, &offer), (0, 4), "the file starts again");
}

fn remove(part: &Path) {
    fs::remove_file(part).unwrap();
}

fn cut(part: &Path) {
    OpenOptions::new().write(true).open(part).unwrap().set_len(100).unwrap();
}

#[test]
fn fault_two_receivers_manifest() {
    let place = Place::new();
    let record = place.store.open_record(RecordId([1; 16])).unwrap();
    let opened = place.store.open_partial(&path("d/f"), LENGTH).unwrap();
    let other = open(&place.at("into"));
    assert!(matches!(other.open_record(RecordId([1; 16])), Err(StoreError::Busy { .. })));
    let error = other.open_partial(&path("d/f"), LENGTH).unwrap_err();
    let us = std::process::id();
    assert!(matches!(error, StoreError::Busy { holder: Some(holder), .. } if holder == us), "it is told who: {error}");
    drop((record, opened));
    other.open_partial(&path("d/f"), LENGTH).unwrap();
}
