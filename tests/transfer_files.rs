//! Files and folders of every kind arrive as they were sent.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/process.rs"]
mod process;

use process::{Playground, noise};
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

const CHUNK: usize = 256 * 1024;

#[test]
fn every_boundary_length_arrives_bit_exact() {
    let playground = Playground::new();
    let source = playground.dir("source");
    let mut lengths = vec![0, 1, 2, 1023, 1024, 1025];
    for chunks in 1..=5 {
        lengths.extend([chunks * CHUNK - 1, chunks * CHUNK, chunks * CHUNK + 1]);
    }
    for (seed, length) in lengths.into_iter().enumerate() {
        fs::write(source.join(format!("{length:07}")), noise(length, seed as u64)).unwrap();
    }
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    let received = playground.receive(&sending.link, &into, &[]).wait();
    received.assert_ok();
    let (code, done) = sending.wait();
    assert_eq!((code, &done["event"], &done["ok"]), (Some(0), &"done".into(), &true.into()));
    assert_same(&source, &into.join("source"));
    assert!(!into.join(".haul").exists(), "nothing is left behind");
}

#[test]
fn the_root_shown_is_the_blake3_of_the_file() {
    let playground = Playground::new();
    let file = playground.file("data", 3 * CHUNK + 17, 7);
    let sending = playground.send(&[&file], &[]);
    let received = playground.receive(&sending.link, &playground.dir("into"), &[]).wait();
    let root = blake3::hash(&fs::read(&file).unwrap()).to_string();
    assert_eq!(received.assert_ok()["root"], root);
    assert_eq!(sending.wait().1["root"], root);
}

#[test]
fn nested_empty_and_oddly_named_entries_arrive_with_modes_and_times() {
    let playground = Playground::new();
    let source = playground.dir("source");
    let names = [
        "with space",
        "-dash",
        "émile",
        "日本語",
        "emoji 👩‍👩‍👧",
        "Lecture 10:30.mp4",
        "a'b\"c",
        "$HOME;`x`",
        ".hidden",
        "CON",
    ];
    for (place, name) in names.iter().enumerate() {
        fs::write(source.join(name), noise(100 + place, place as u64)).unwrap();
        let mode = [0o644, 0o600, 0o755, 0o400, 0o4755, 0o2755, 0o1777, 0o640, 0o444, 0o700][place];
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(mode)).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000 + place as u64, 123_456_789);
        File::open(source.join(name)).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    }
    fs::create_dir_all(source.join("deep/er/and/deeper")).unwrap();
    fs::write(source.join("deep/er/file"), b"x").unwrap();
    fs::create_dir_all(source.join("empty/in/empty")).unwrap();
    fs::set_permissions(source.join("empty"), fs::Permissions::from_mode(0o750)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::new(5, 7);
    File::open(source.join("deep/er")).unwrap().set_times(FileTimes::new().set_modified(old)).unwrap();
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    sending.wait();
    assert_same(&source, &into.join("source"));
}

#[test]
fn a_sparse_file_arrives_without_its_zeros_on_the_wire() {
    let playground = Playground::new();
    let path = playground.path("sparse");
    let file = File::create(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(&noise(5000, 1), 33 << 20).unwrap();
    let into = playground.dir("into");
    let sending = playground.send(&[&path], &[]);
    let received = playground.receive(&sending.link, &into, &[]).wait();
    let wire = received.assert_ok()["wire_bytes"].as_u64().unwrap();
    assert!(wire < 2 << 20, "{wire} bytes on the wire");
    let copy = into.join("sparse");
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&path).unwrap());
    let disk = fs::metadata(&copy).unwrap().blocks() * 512;
    assert!(disk < 2 << 20, "{disk} bytes on the disk");
}

#[test]
fn row_9_and_18_a_name_that_is_no_text_is_written_out_and_one_of_255_bytes_arrives_in_chunks() {
    let playground = Playground::new();
    let source = playground.dir("source");
    let long = "n".repeat(255);
    fs::write(source.join(&long), noise(CHUNK + 1, 1)).unwrap();
    fs::write(source.join(OsStr::from_bytes(b"no\xfftext%")), noise(7, 2)).unwrap();
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    assert!(sending.wait_for_all().2.contains("has a name that is not UTF-8 and is sent as `source/no%FFtext%25`"));
    assert_eq!(fs::read(into.join("source").join(&long)).unwrap(), noise(CHUNK + 1, 1));
    assert_eq!(fs::read(into.join("source/no%FFtext%25")).unwrap(), noise(7, 2));
}

#[test]
fn row_33_34_no_bit_beyond_the_permissions_arrives_whatever_the_source_has() {
    let playground = Playground::new();
    let source = playground.dir("source");
    let modes = || (0o400..=0o7777_u32).step_by(0o111).filter(|mode| mode & 0o400 != 0);
    for mode in modes() {
        for length in [0, 9] {
            let path = source.join(format!("{mode:o} {length}"));
            fs::write(&path, noise(length, 1)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let folder = source.join(format!("folder {mode:o}"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode | 0o700)).unwrap();
    }
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    let arrived = |name: String| fs::metadata(into.join("source").join(name)).unwrap().mode() & 0o7777;
    for mode in modes() {
        assert_eq!(arrived(format!("{mode:o} 0")), mode & 0o777, "{mode:o}");
        assert_eq!(arrived(format!("{mode:o} 9")), mode & 0o777, "{mode:o}");
        assert_eq!(arrived(format!("folder {mode:o}")), mode & 0o777 | 0o700, "{mode:o}");
    }
}

#[test]
fn several_paths_arrive_side_by_side() {
    let playground = Playground::new();
    let one = playground.file("here/one", 10, 1);
    let two = playground.file("there/two", CHUNK * 2, 2);
    let folder = playground.dir("elsewhere/folder");
    fs::write(folder.join("three"), b"3").unwrap();
    let into = playground.dir("into");
    let sending = playground.send(&[&two, &folder, &one], &[]);
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    sending.wait();
    assert_eq!(fs::read(into.join("one")).unwrap(), fs::read(one).unwrap());
    assert_eq!(fs::read(into.join("two")).unwrap(), fs::read(two).unwrap());
    assert_eq!(fs::read(into.join("folder/three")).unwrap(), b"3");
}

#[test]
fn keep_serves_one_receiver_after_another_and_several_at_once() {
    let playground = Playground::new();
    let file = playground.file("data", 9 * CHUNK + 1, 7);
    let sending = playground.send(&[&file], &["--keep"]);
    let receivers: Vec<_> =
        (0..3).map(|n| playground.receive(&sending.link, &playground.dir(&format!("into{n}")), &[])).collect();
    for receiver in receivers {
        receiver.wait().assert_ok();
    }
    playground.receive(&sending.link, &playground.dir("into3"), &[]).wait().assert_ok();
    for n in 0..4 {
        assert_eq!(fs::read(playground.path(&format!("into{n}/data"))).unwrap(), fs::read(&file).unwrap());
    }
    sending.kill();
}

/// Same names, contents, modes but for setuid and the like, and times.
fn assert_same(source: &Path, copy: &Path) {
    let mut names: Vec<_> = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let mut copies: Vec<_> = fs::read_dir(copy).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    copies.sort();
    assert_eq!(names, copies, "in {}", copy.display());
    for name in names {
        let (from, to) = (source.join(&name), copy.join(&name));
        let (meta, copied) = (fs::symlink_metadata(&from).unwrap(), fs::symlink_metadata(&to).unwrap());
        assert_eq!(meta.mode() & 0o777, copied.mode() & 0o7777, "mode of {}", to.display());
        assert_eq!(
            (meta.mtime(), meta.mtime_nsec()),
            (copied.mtime(), copied.mtime_nsec()),
            "time of {}",
            to.display()
        );
        if meta.is_dir() {
            assert_same(&from, &to);
        } else {
            assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap(), "content of {}", to.display());
        }
    }
}
