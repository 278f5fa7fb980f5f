//! The store on real file systems: ext4, xfs and btrfs on loop images, and tmpfs; full ones too.
//!
//! Needs root, loop devices and the mkfs programs. Without them the tests fail and say so, unless `HAUL_NO_LOOP=1`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // Test code, on 64-bit machines.

#[path = "support/sim_disk.rs"]
mod sim_disk;
#[path = "support/store_kit.rs"]
mod store_kit;

use haul::chunk::{ChunkIndex, Length};
use haul::outline::Part;
use haul::store::{OnConflict, Publication, RealDisk, Store, StoreError};
use sim_disk::Seeded;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use store_kit::{Offer, Receipt, path, wish};

const CHUNK: usize = 256 * 1024;
const MIB: u64 = 1 << 20;
/// What a child process is told to do, and where.
const CHILD_WORK: &str = "HAUL_TEST_CHILD";

#[derive(Clone, Copy, Debug)]
struct FileSystem {
    name: &'static str,
    /// Bytes of the image: the least that mkfs takes, or a little more.
    image_bytes: u64,
    make: &'static [&'static str],
}

const EXT4: FileSystem = FileSystem { name: "ext4", image_bytes: 96 * MIB, make: &["mkfs.ext4", "-q", "-F"] };
const XFS: FileSystem = FileSystem { name: "xfs", image_bytes: 320 * MIB, make: &["mkfs.xfs", "-q", "-f"] };
const BTRFS: FileSystem = FileSystem { name: "btrfs", image_bytes: 160 * MIB, make: &["mkfs.btrfs", "-q", "-f"] };
const TMPFS: FileSystem = FileSystem { name: "tmpfs", image_bytes: 64 * MIB, make: &[] };

/// A mounted file system; dropped, it is unmounted.
struct Mounted {
    point: PathBuf,
    _home: tempfile::TempDir,
}

impl Mounted {
    /// `None` only where somebody said that there are no loop devices here.
    fn new(kind: FileSystem) -> Option<Self> {
        if std::env::var_os("HAUL_NO_LOOP").is_some_and(|value| value == "1") {
            println!("{} is left out: HAUL_NO_LOOP=1", kind.name);
            return None;
        }
        let advice = "needs root, loop devices and mkfs programs (or HAUL_NO_LOOP=1 to leave file systems out)";
        assert!(rustix::process::geteuid().is_root(), "{}: {advice}", kind.name);
        let home = tempfile::tempdir().unwrap();
        let point = home.path().join("mnt");
        fs::create_dir(&point).unwrap();
        let mut mount = Command::new("mount");
        if let Some((program, options)) = kind.make.split_first() {
            let image = home.path().join("image");
            fs::File::create(&image).unwrap().set_len(kind.image_bytes).unwrap();
            let made = Command::new(program).args(options).arg(&image).output();
            assert!(made.is_ok_and(|made| made.status.success()), "{program}: {advice}");
            mount.args(["-o", "loop"]).arg(&image).arg(&point);
        } else {
            mount.args(["-t", "tmpfs", "-o", &format!("size={}", kind.image_bytes), "none"]).arg(&point);
        }
        let mounted = mount.output().unwrap();
        assert!(mounted.status.success(), "{}: {} ({advice})", kind.name, String::from_utf8_lossy(&mounted.stderr));
        Some(Self { point, _home: home })
    }

    fn store(&self) -> Store {
        store(&self.point)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.point).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            // Lazily: the mount goes when the last file in it is closed.
            let _ = Command::new("umount").arg("-l").arg(&self.point).status();
        }
    }
}

fn store(folder: &Path) -> Store {
    Store::open(RealDisk::open(folder).unwrap()).unwrap()
}

/// Everything that can be asked of a store that has room.
fn check_all(kind: FileSystem) {
    let Some(mounted) = Mounted::new(kind) else { return };
    let mut random = Seeded(3);
    let mut sparse = vec![0; 12 * CHUNK];
    sparse[6 * CHUNK + 1] = 1;
    let offer = Offer::of(&[
        ("big", Some(random.bytes(9 * CHUNK + 12_345))),
        ("d", None),
        ("d/empty", Some(Vec::new())),
        ("d/one", Some(random.bytes(CHUNK))),
        ("d/tiny", Some(vec![1])),
        ("sparse", Some(sparse)),
    ]);
    let store = mounted.store().with_background_sync_bytes(2 * CHUNK as u64);
    let folding = store.folding().unwrap();
    assert!(!folding.case && !folding.form, "{}", kind.name);
    offer.receive(&store, OnConflict::Fail).unwrap();
    for (name, bytes) in offer.files() {
        assert!(fs::read(mounted.point.join(name)).unwrap() == bytes, "{}: {name}", kind.name);
        let facts = fs::metadata(mounted.point.join(name)).unwrap();
        assert_eq!((facts.mode() & 0o7777, facts.mtime()), (0o640, 1_234_567_890), "{}: {name}", kind.name);
    }
    let sparse = fs::metadata(mounted.point.join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 4 * CHUNK as u64, "{}: holes stay holes, {} blocks", kind.name, sparse.blocks());

    check_resume(&mounted, &offer, kind.name);
    check_conflicts(&store);
    check_names(&mounted, &store, kind);
    drop(store);
    assert!(!mounted.point.join(".haul").exists(), "{}", kind.name);
}

/// Half of a file, then another start of the system and a changed byte, then the rest, read back from the device.
fn check_resume(mounted: &Mounted, offer: &Offer, name: &str) {
    let length = Length(9 * CHUNK as u64 + 12_345);
    fs::remove_file(mounted.point.join("big")).unwrap();
    {
        let opened = mounted.store().open_partial(&path("big"), length).unwrap();
        (0..5).for_each(|index| offer.fetch(&opened.partial, 0, index).unwrap());
    }
    let part = fs::read_dir(mounted.point.join(".haul")).unwrap().map(|entry| entry.unwrap().path());
    let part = part.into_iter().find(|entry| entry.extension().is_some_and(|ending| ending == "part")).unwrap();
    let mut bytes = fs::read(&part).unwrap();
    bytes[3 * CHUNK] ^= 1;
    fs::write(&part, bytes).unwrap();
    let disk = RealDisk::open(&mounted.point).unwrap().with_boot(None);
    let later = Store::open(disk).unwrap();
    let mut receipt = Receipt::default();
    let sealed = offer.complete(&later, 0, &mut receipt).unwrap();
    assert_eq!((receipt.reused, receipt.fetched), (4, 6), "{name}");
    let wish = Publication { read_back: true, ..wish("big", OnConflict::Fail) };
    later.publish(sealed, &wish).unwrap();
    assert!(fs::read(mounted.point.join("big")).unwrap() == offer.bytes(0), "{name}");
}

/// A small file has no name until it is published where its sync holds without one, and where it replaces nothing.
fn check_names(mounted: &Mounted, store: &Store, kind: FileSystem) {
    let named = || fs::read_dir(mounted.point.join(".haul")).map_or(0, Iterator::count);
    // With the first one the work folder is there, and its lock.
    let (_first, _) = store.write_single(wish("first", OnConflict::Overwrite), b"1").unwrap();
    for (conflict, has_name) in
        [(OnConflict::Fail, kind.name == "btrfs"), (OnConflict::Overwrite, true), (OnConflict::Update, true)]
    {
        let before = named();
        let (_file, _) = store.write_single(wish("second", conflict), b"22").unwrap();
        assert_eq!(named() > before, has_name, "{}: {conflict:?}", kind.name);
    }
}

fn check_conflicts(store: &Store) {
    let offer = Offer::one("tiny", vec![1]);
    for (conflict, expected) in [
        (OnConflict::Fail, None),
        (OnConflict::Overwrite, Some("d/tiny")),
        (OnConflict::Rename, Some("d/tiny (1)")),
        (OnConflict::Rename, Some("d/tiny (2)")),
    ] {
        let (file, found) = store.write_single(wish("d/tiny", conflict), &[1]).unwrap();
        let batch = vec![(file, offer.verify(0, 0, found))];
        match store.publish_batch(batch).pop().unwrap() {
            Ok(published) => assert_eq!(Some(published.path.as_str()), expected),
            Err(error) => assert!(matches!(error, StoreError::Exists { .. }) && expected.is_none(), "{error}"),
        }
    }
}

/// A disk too small for the file: an error that names the space, before any data, and nothing left behind.
fn check_full_before(kind: FileSystem) {
    let Some(mounted) = Mounted::new(kind) else { return };
    let outcome = in_child(&mounted.point, "full_before");
    assert_eq!(outcome, "NoSpace before data", "{}", kind.name);
    assert!(!mounted.point.join(".haul").exists(), "{}", kind.name);
}

/// A disk that another program fills while the file comes: the file has its room, or the error names the space. Once
/// there is room again, it goes on.
fn check_full_under_way(kind: FileSystem) {
    let Some(mounted) = Mounted::new(kind) else { return };
    let outcome = in_child(&mounted.point, "full_under_way");
    assert!(["NoSpace under way", "complete"].contains(&outcome.as_str()), "{}: {outcome}", kind.name);
    if kind.name != "btrfs" {
        assert_eq!(outcome, "complete", "{}: the room was reserved", kind.name);
    }
    fs::remove_file(mounted.point.join("filler")).unwrap();
    let store = mounted.store();
    let offer = large_offer(&mounted.point);
    if outcome != "complete" {
        let sealed = offer.complete(&store, 0, &mut Receipt::default()).unwrap();
        store.publish(sealed, &wish("f", OnConflict::Fail)).unwrap();
    }
    assert!(fs::read(mounted.point.join("f")).unwrap() == offer.bytes(0), "{}", kind.name);
}

/// Small files onto a disk that is full.
fn check_full_batch(kind: FileSystem) {
    let Some(mounted) = Mounted::new(kind) else { return };
    let outcome = in_child(&mounted.point, "full_batch");
    assert_eq!(outcome, "NoSpace in a batch", "{}", kind.name);
}

/// Runs one of the jobs below in a process of its own, so that a signal is seen, and returns what it says.
fn in_child(folder: &Path, job: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD_WORK, format!("{job}:{}", folder.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let cried = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), None, "{job} died by a signal: {said}{cried}");
    assert!(output.status.success(), "{job}: {said}{cried}");
    let outcome = said.lines().find_map(|line| line.split_once("outcome: ").map(|(_, outcome)| outcome.to_owned()));
    outcome.unwrap_or_else(|| panic!("{job} said nothing: {said}{cried}"))
}

/// Does nothing unless it was started by `in_child`.
#[test]
fn child() {
    let Ok(work) = std::env::var(CHILD_WORK) else { return };
    let (job, folder) = work.split_once(':').unwrap();
    let folder = Path::new(folder);
    let outcome = match job {
        "full_before" => full_before(folder),
        "full_under_way" => full_under_way(folder),
        "full_batch" => full_batch(folder),
        _ => panic!("no such job"),
    };
    println!("\noutcome: {outcome}");
}

fn full_before(folder: &Path) -> &'static str {
    let store = store(folder);
    let free = store.space().unwrap().bytes;
    match store.open_partial(&path("f"), Length(free)) {
        Err(StoreError::NoSpace { needed, free: said, .. }) => {
            assert!(needed > said && said <= free);
            "NoSpace before data"
        }
        other => panic!("{other:?}"),
    }
}

/// About half of what is free, so that half of the disk is left for somebody else to take.
fn large_offer(folder: &Path) -> Offer {
    let size = fs::read_to_string(folder.join("size")).unwrap().parse().unwrap();
    Offer::one("f", Seeded(9).bytes(size))
}

fn full_under_way(folder: &Path) -> &'static str {
    let store = store(folder);
    let half = usize::try_from(store.space().unwrap().bytes / 2).unwrap().min(24 << 20);
    fs::write(folder.join("size"), half.to_string()).unwrap();
    let offer = large_offer(folder);
    let opened = store.open_partial(&path("f"), Length(half as u64)).unwrap();
    offer.fetch(&opened.partial, 0, 0).unwrap();
    fill_up(folder);
    for index in 1..offer.geometry(0).count().0 {
        match offer.fetch(&opened.partial, 0, index) {
            Ok(()) => {}
            Err(StoreError::NoSpace { .. }) => return "NoSpace under way",
            Err(error) => panic!("{error:?}"),
        }
    }
    let sealed = opened.partial.seal(offer.root(0)).unwrap();
    drop(opened);
    match store.publish(sealed, &wish("f", OnConflict::Fail)) {
        Ok(_) => "complete",
        Err(StoreError::NoSpace { .. }) => "NoSpace under way",
        Err(StoreError::FsyncFailed { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
            "NoSpace under way"
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn full_batch(folder: &Path) -> &'static str {
    let store = store(folder);
    let record = store.open_record(haul::store::RecordId([1; 16])).unwrap();
    fill_up(folder);
    let bytes = Seeded(1).bytes(CHUNK);
    let mut written = Vec::new();
    for number in 0..400 {
        let wish = wish(&format!("f{number}"), OnConflict::Fail);
        match store.write_single(wish, &bytes) {
            Ok(file) => written.push(file),
            Err(StoreError::NoSpace { .. }) => {
                drop(record);
                return "NoSpace in a batch";
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("a full disk took {} files", written.len())
}

/// Another program takes all room that is left.
fn fill_up(folder: &Path) {
    use std::io::Write;
    let mut filler = fs::File::create(folder.join("filler")).unwrap();
    let block = vec![0x55; 64 * 1024];
    while filler.write_all(&block).is_ok() {}
    let _ = filler.sync_all();
    while filler.write_all(&block[..512]).is_ok() {}
}

/// A new version that shares all but one chunk with the old one, and another in which everything moved by a byte.
fn check_older(kind: FileSystem) {
    let Some(mounted) = Mounted::new(kind) else { return };
    let old = Seeded(4).bytes(80 * CHUNK);
    fs::write(mounted.point.join("f"), &old).unwrap();
    // Whoever replaces it does not free what it holds.
    fs::hard_link(mounted.point.join("f"), mounted.point.join("kept")).unwrap();
    let store = mounted.store();
    let free = || {
        assert!(Command::new("sync").arg("-f").arg(&mounted.point).status().unwrap().success());
        store.space().unwrap().bytes
    };
    let before = free();
    let mut changed = old.clone();
    changed[3 * CHUNK] ^= 1;
    let offer = Offer::one("f", changed.clone());
    let older = store.open_older(&path("f")).unwrap();
    let opened = store.open_partial(&path("f"), Length(changed.len() as u64)).unwrap();
    for index in 0..80 {
        let span = offer.geometry(0).span(ChunkIndex(index)).unwrap();
        let parts = [Part { offset: span.offset.0, length: span.length.0 }];
        let is_made = opened.partial.adopt(&older, ChunkIndex(index), &parts, offer.promised(0, index)).unwrap();
        assert_eq!(is_made, index != 3, "chunk {index}");
    }
    offer.fetch(&opened.partial, 0, 3).unwrap();
    let sealed = opened.partial.seal(offer.root(0)).unwrap();
    drop((opened, older));
    store.publish(sealed, &wish("f", OnConflict::Overwrite)).unwrap();
    assert!(fs::read(mounted.point.join("f")).unwrap() == changed);
    assert!(fs::read(mounted.point.join("kept")).unwrap() == old);
    let taken = before.saturating_sub(free());
    let shares = ["btrfs", "xfs"].contains(&kind.name);
    assert_eq!(taken < 10 * MIB, shares, "{}: {taken} bytes of 20 MiB are taken", kind.name);

    let moved = [&b"x"[..], &old[..20 * CHUNK]].concat();
    let offer = Offer::one("kept", moved.clone());
    let older = store.open_older(&path("kept")).unwrap();
    let opened = store.open_partial(&path("kept"), Length(moved.len() as u64)).unwrap();
    for index in 1..20 {
        let parts = [Part { offset: u64::from(index) * CHUNK as u64 - 1, length: CHUNK as u64 }];
        assert!(opened.partial.adopt(&older, ChunkIndex(index), &parts, offer.promised(0, index)).unwrap());
    }
    for index in [0, 20] {
        offer.fetch(&opened.partial, 0, index).unwrap();
    }
    let sealed = opened.partial.seal(offer.root(0)).unwrap();
    drop((opened, older));
    store.publish(sealed, &wish("kept", OnConflict::Overwrite)).unwrap();
    assert!(fs::read(mounted.point.join("kept")).unwrap() == moved);
}

macro_rules! on_every_file_system {
    ($($name:ident: $kind:expr),*) => {$(
        mod $name {
            #[test]
            fn files_arrive_resume_and_meet_taken_names() {
                super::check_all($kind);
            }

            #[test]
            fn an_older_version_is_shared_where_that_can_be_had_and_copied_elsewhere() {
                super::check_older($kind);
            }

            #[test]
            fn a_file_that_does_not_fit_is_refused_before_any_data() {
                super::check_full_before($kind);
            }

            #[test]
            fn a_disk_that_fills_under_way_is_an_error_or_no_matter() {
                super::check_full_under_way($kind);
            }

            #[test]
            fn small_files_on_a_full_disk_are_an_error() {
                super::check_full_batch($kind);
            }
        }
    )*};
}

on_every_file_system!(ext4: crate::EXT4, xfs: crate::XFS, btrfs: crate::BTRFS, tmpfs: crate::TMPFS);
