//! Reading and hashing: equal to the hash of the whole, and never more than an error when a file changes underneath.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::{FileDigest, RootMerger, chunk_digest, empty_file_digest};
use haul::source::{ChunkRun, EntryKind, Provenance, Source, SourceError, Walk, WalkOptions};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

const CHUNK: usize = 256 * 1024;

#[test]
fn roots_equal_the_hash_of_the_whole_at_every_boundary() {
    let temp = tempfile::tempdir().unwrap();
    let mut lengths = vec![0, 1, 63, 64, 65, 1023, 1024, 1025, CHUNK - 1, CHUNK, CHUNK + 1];
    lengths.extend([2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 7 * CHUNK + 5, 8 * CHUNK]);
    let content = bytes(8 * CHUNK);
    let paths: Vec<PathBuf> =
        lengths.iter().map(|&length| write(&temp.path().join(format!("{length:08}")), &content[..length])).collect();
    let walk = Source::walk(&paths, &WalkOptions::default()).unwrap();
    let runs: Vec<ChunkRun> = (0..).zip(&lengths).map(|(entry, _)| whole(&walk, entry)).collect();
    let outcomes = walk.source.hash_runs(&runs);
    for ((entry, &length), outcome) in (0..).zip(&lengths).zip(outcomes) {
        let hashed = outcome.unwrap();
        assert!(hashed.iter().all(|hashed| hashed.provenance == Provenance::Read));
        let mut merger = RootMerger::new(geometry(&walk, entry));
        let root = hashed.iter().filter_map(|hashed| merger.push(hashed.digest)).last();
        let root = root.unwrap_or_else(empty_file_digest);
        assert_eq!(root, whole_digest(&content[..length]), "{length} bytes");
    }
}

#[test]
fn part_of_a_file_hashes_like_the_same_part_of_its_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let content = bytes(5 * CHUNK + 77);
    let walk = walk_of(&write(&temp.path().join("f"), &content));
    let geometry = geometry(&walk, 0);
    let hashed = walk.source.hash_chunks(0, ChunkIndex(2)..ChunkIndex(6)).unwrap();
    for (chunk, hashed) in (2..6).zip(hashed) {
        let start = chunk as usize * CHUNK;
        let expected = chunk_digest(geometry, ChunkIndex(chunk), &content[start..content.len().min(start + CHUNK)]);
        assert_eq!(hashed.digest, expected);
        assert_eq!(walk.source.rehash_chunk(0, ChunkIndex(chunk)).unwrap(), expected);
    }
    assert!(walk.source.hash_chunks(0, ChunkIndex(3)..ChunkIndex(3)).unwrap().is_empty());
}

#[test]
fn chunks_longer_than_a_buffer_hash_alike() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("sparse");
    let file = fs::File::create(&path).unwrap();
    // 17 GiB, so chunks of 2 MiB; only the last two hold data.
    let length = 17 * 1024 * 1024 * 1024 + 12345u64;
    file.set_len(length).unwrap();
    let walk = walk_of(&path);
    let geometry = geometry(&walk, 0);
    let last = geometry.count().0 - 1;
    let span = geometry.span(ChunkIndex(last - 1)).unwrap();
    let tail = bytes(usize::try_from(length - span.offset.0).unwrap());
    file.write_all_at(&tail, span.offset.0).unwrap();
    let walk = walk_of(&path);
    let hashed = walk.source.hash_chunks(0, ChunkIndex(last - 1)..ChunkIndex(last + 1)).unwrap();
    let (one, two) = tail.split_at(usize::try_from(span.length.0).unwrap());
    assert!(one.len() > 4 * CHUNK);
    assert_eq!(hashed[0].digest, chunk_digest(geometry, ChunkIndex(last - 1), one));
    assert_eq!(hashed[1].digest, chunk_digest(geometry, ChunkIndex(last), two));
}

#[test]
fn a_small_file_is_read_once_for_its_hash_and_its_way() {
    let temp = tempfile::tempdir().unwrap();
    let path = write(&temp.path().join("small"), b"as it was hashed");
    let walk = keeping(&path);
    let hashed = walk.source.hash_chunks(0, ChunkIndex(0)..ChunkIndex(1)).unwrap();
    assert_eq!(hashed[0].digest, chunk_digest(geometry(&walk, 0), ChunkIndex(0), b"as it was hashed"));
    fs::remove_file(&path).unwrap();
    let read = |within: std::ops::Range<u64>| {
        let mut out = vec![0; usize::try_from(within.end - within.start).unwrap()];
        walk.source.read_chunk_into(0, ChunkIndex(0), within, &mut out).map(|()| out)
    };
    assert_eq!(read(0..5).unwrap(), b"as it");
    assert_eq!(read(5..16).unwrap(), b" was hashed");
    assert!(read(0..16).is_err(), "its last bytes were taken, and the file is gone");
}

#[test]
fn one_chunk_of_several_that_is_hashed_again_does_not_stand_for_the_file() {
    let temp = tempfile::tempdir().unwrap();
    let content = bytes(3 * CHUNK);
    let walk = keeping(&write(&temp.path().join("f"), &content));
    walk.source.rehash_chunk(0, ChunkIndex(2)).unwrap();
    let mut out = vec![0; CHUNK];
    walk.source.read_chunk_into(0, ChunkIndex(0), 0..CHUNK as u64, &mut out).unwrap();
    assert!(out == content[..CHUNK]);
}

#[test]
fn any_range_within_a_chunk_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let content = bytes(2 * CHUNK + 10);
    let walk = walk_of(&write(&temp.path().join("f"), &content));
    for (chunk, start, end) in [(0, 0, CHUNK), (1, 5, 6), (1, CHUNK - 1, CHUNK), (2, 0, 10), (2, 10, 10)] {
        let mut out = vec![0; end - start];
        walk.source.read_chunk_into(0, ChunkIndex(chunk), start as u64..end as u64, &mut out).unwrap();
        let at = chunk as usize * CHUNK;
        assert_eq!(out, content[at + start..at + end]);
    }
}

#[test]
fn bytes_that_the_listing_does_not_have_are_not_read() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("d")).unwrap();
    write(&temp.path().join("d/f"), &bytes(CHUNK + 10));
    let walk = walk_of(&temp.path().join("d"));
    let refused = |entry, chunk, start, end, room: usize| {
        let mut out = vec![0; room];
        let result = walk.source.read_chunk_into(entry, ChunkIndex(chunk), start..end, &mut out);
        assert!(matches!(result, Err(SourceError::NoSuchBytes { .. })), "{result:?}");
    };
    refused(0, 0, 0, 1, 1);
    refused(2, 0, 0, 1, 1);
    refused(u32::MAX, u32::MAX, 0, 1, 1);
    refused(1, 2, 0, 1, 1);
    refused(1, 1, 0, 11, 11);
    refused(1, 1, 5, 4, 0);
    refused(1, 1, u64::MAX, u64::MAX, 0);
    refused(1, 0, 0, 2, 1);
    for (entry, chunks) in [(0, 0..0), (1, 0..3), (1, 3..4), (7, 0..1)] {
        let result = walk.source.hash_chunks(entry, ChunkIndex(chunks.start)..ChunkIndex(chunks.end));
        assert!(matches!(result, Err(SourceError::NoSuchBytes { .. })), "{result:?}");
    }
    assert!(matches!(walk.source.rehash_chunk(1, ChunkIndex(2)), Err(SourceError::NoSuchBytes { .. })));
}

/// What may be done to a file that is being sent, and what the sender then says: before it is opened, and once it is.
type Disturbance = (&'static str, fn(&Path), &'static str, &'static str);

const DISTURBANCES: &[Disturbance] = &[
    ("truncated to nothing", |path| truncate(path, 0), "changed", "changed"),
    ("cut short", |path| truncate(path, 3 * CHUNK as u64 + 1), "changed", "changed"),
    ("grown", |path| append(path), "changed", "changed"),
    ("rewritten in place", rewrite, "changed", "changed"),
    ("deleted", |path| fs::remove_file(path).unwrap(), "vanished", "read"),
    ("renamed", |path| fs::rename(path, path.with_extension("other")).unwrap(), "vanished", "read"),
    ("replaced by another file", replace, "changed", "read"),
    ("replaced by a link", |path| replace_by(path, |path| symlink("/etc/passwd", path).unwrap()), "changed", "read"),
    ("replaced by a FIFO", |path| replace_by(path, make_fifo), "changed", "read"),
    ("replaced by a folder", |path| replace_by(path, |path| fs::create_dir(path).unwrap()), "changed", "read"),
    ("stripped of all rights", |path| set_mode(path, 0), "changed or unreadable", "read"),
    ("in a folder that is gone", |path| remove_folder(path), "vanished", "read"),
    ("in a folder that became a link", link_folder, "changed", "read"),
];

#[test]
fn a_disturbed_file_fails_alone_before_it_is_opened() {
    for (what, disturb, expected, _) in DISTURBANCES {
        let pair = Pair::new();
        disturb(&pair.disturbed());
        let hashed = pair.walk.source.hash_runs(&[whole(&pair.walk, Pair::DISTURBED), whole(&pair.walk, Pair::OTHER)]);
        assert!(expected.contains(outcome(&hashed[0])), "{what}: {:?}", hashed[0]);
        assert!(hashed[1].is_ok(), "{what}: the other file");
        assert!(expected.contains(outcome(&pair.read(Pair::DISTURBED))), "{what}");
        assert!(pair.read(Pair::OTHER).is_ok(), "{what}: the other file");
    }
}

#[test]
fn a_disturbed_file_that_is_open_fails_only_if_its_content_changed() {
    for (what, disturb, _, expected) in DISTURBANCES {
        let pair = Pair::new();
        pair.read(Pair::DISTURBED).unwrap();
        let before = pair.walk.source.hash_chunks(Pair::DISTURBED, ChunkIndex(0)..ChunkIndex(1)).unwrap();
        disturb(&pair.disturbed());
        assert_eq!(outcome(&pair.read(Pair::DISTURBED)), *expected, "{what}");
        let hashed = pair.walk.source.hash_chunks(Pair::DISTURBED, ChunkIndex(0)..ChunkIndex(2));
        assert_eq!(outcome(&hashed), *expected, "{what}");
        if let Ok(hashed) = hashed {
            assert_eq!(hashed[0].digest, before[0].digest, "{what}");
        }
        assert!(pair.read(Pair::OTHER).is_ok(), "{what}: the other file");
    }
}

#[test]
fn a_changed_file_is_listed_anew_and_read_as_it_is() {
    let pair = Pair::new();
    pair.read(Pair::DISTURBED).unwrap();
    let content = bytes(2 * CHUNK + 9);
    fs::write(pair.disturbed(), &content).unwrap();
    set_mode(&pair.disturbed(), 0o640);
    fs::File::open(pair.disturbed()).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(77)).unwrap();
    assert_eq!(outcome(&pair.read(Pair::DISTURBED)), "changed");
    let anew = pair.walk.source.relist(Pair::DISTURBED).unwrap();
    assert_eq!((anew.length, anew.mode, anew.mtime_seconds), (Length(content.len() as u64), 0o640, 77));
    let geometry = Geometry::of(anew.length).unwrap();
    let hashed = pair.walk.source.hash_chunks(Pair::DISTURBED, ChunkIndex(0)..ChunkIndex(3)).unwrap();
    assert_eq!(hashed[2].digest, chunk_digest(geometry, ChunkIndex(2), &content[2 * CHUNK..]));
    fs::remove_file(pair.disturbed()).unwrap();
    assert!(matches!(pair.walk.source.relist(Pair::DISTURBED), Err(SourceError::Vanished { .. })));
}

#[test]
fn a_file_that_is_cut_and_grown_while_others_read_it_gives_errors_and_no_crash() {
    let pair = Pair::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..300u64 {
                truncate(&pair.disturbed(), round % 5 * CHUNK as u64 + round);
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let _ = pair.walk.source.hash_runs(&[whole(&pair.walk, Pair::DISTURBED)]);
            let _ = pair.read(Pair::DISTURBED);
        }
    });
    assert_eq!(outcome(&pair.read(Pair::DISTURBED)), "changed");
    pair.walk.source.relist(Pair::DISTURBED).unwrap();
}

#[test]
fn files_beyond_the_pool_are_opened_again() {
    let temp = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> =
        (0..9).map(|number| write(&temp.path().join(number.to_string()), &bytes(CHUNK + 1 + number))).collect();
    let walk = Source::walk(&paths, &WalkOptions { open_files_max: 3, ..WalkOptions::default() }).unwrap();
    for round in 0..3 {
        for entry in 0..9 {
            assert_eq!(walk.source.hash_chunks(entry, ChunkIndex(0)..ChunkIndex(2)).unwrap().len(), 2, "round {round}");
        }
    }
    fs::remove_file(&paths[8]).unwrap();
    fs::remove_file(&paths[0]).unwrap();
    assert!(walk.source.hash_chunks(8, ChunkIndex(0)..ChunkIndex(2)).is_ok(), "still open");
    assert!(walk.source.hash_chunks(0, ChunkIndex(0)..ChunkIndex(2)).is_err(), "closed since");
}

/// A folder on the way is swapped with a link to a folder outside, again and again, while files are opened.
#[test]
fn nothing_outside_is_ever_read_through_a_swapped_folder() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    fs::create_dir_all(root.join("t/way")).unwrap();
    fs::create_dir_all(root.join("outside")).unwrap();
    for number in 0..4 {
        write(&root.join(format!("t/way/{number}")), b"inside!");
        write(&root.join(format!("outside/{number}")), b"secret!");
    }
    symlink(root.join("outside"), root.join("link")).unwrap();
    let walk = walk_of(&root.join("t"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20_000 {
                swap(&root.join("t/way"), &root.join("link"));
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            for entry in 2..6 {
                let mut out = [0; 7];
                match walk.source.read_chunk_into(entry, ChunkIndex(0), 0..7, &mut out) {
                    Ok(()) => assert_eq!(&out, b"inside!"),
                    Err(SourceError::Changed { .. } | SourceError::Vanished { .. }) => assert_eq!(&out, &[0; 7]),
                    Err(other) => panic!("{other}"),
                }
                if let Ok(relisted) = walk.source.relist(entry) {
                    assert_eq!(relisted.length, Length(7));
                }
            }
            if let Ok(walk) = Source::walk(&[root.join("t")], &WalkOptions::default()) {
                assert!(walk.entries.len() == 6 || walk.entries.len() == 1, "{:?}", walk.entries);
            }
        }
    });
    // An even number of swaps leaves everything in its place.
    let mut out = [0; 7];
    walk.source.read_chunk_into(2, ChunkIndex(0), 0..7, &mut out).unwrap();
    assert_eq!(&out, b"inside!");
}

/// Two files in a folder, one of which is about to be disturbed.
struct Pair {
    temp: tempfile::TempDir,
    walk: Walk,
}

impl Pair {
    const DISTURBED: u32 = 2;
    const OTHER: u32 = 3;

    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("t/d")).unwrap();
        for name in ["d/disturbed", "other"] {
            let path = write(&temp.path().join("t").join(name), &bytes(5 * CHUNK + 3));
            // An old file, so that any rewrite gives it another time however coarse the clock.
            fs::File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
        }
        let walk = walk_of(&temp.path().join("t"));
        Self { temp, walk }
    }

    fn disturbed(&self) -> PathBuf {
        self.temp.path().join("t/d/disturbed")
    }

    fn read(&self, entry: u32) -> Result<(), SourceError> {
        let mut out = vec![0; 1000];
        self.walk.source.read_chunk_into(entry, ChunkIndex(4), 0..1000, &mut out)
    }
}

fn outcome<T>(result: &Result<T, SourceError>) -> &'static str {
    match result {
        Ok(_) => "read",
        Err(SourceError::Changed { .. }) => "changed",
        Err(SourceError::Unreadable { .. }) => "unreadable",
        Err(SourceError::Vanished { .. }) => "vanished",
        Err(_) => "another error",
    }
}

fn truncate(path: &Path, length: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn append(path: &Path) {
    std::io::Write::write_all(&mut fs::File::options().append(true).open(path).unwrap(), b"more").unwrap();
}

fn rewrite(path: &Path) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(b"other", 10).unwrap();
}

fn replace(path: &Path) {
    let fresh = path.with_extension("fresh");
    fs::copy(path, &fresh).unwrap();
    fs::rename(fresh, path).unwrap();
}

fn replace_by(path: &Path, make: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    make(path);
}

fn remove_folder(path: &Path) {
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

fn link_folder(path: &Path) {
    let folder = path.parent().unwrap();
    let moved = folder.with_extension("moved");
    fs::rename(folder, &moved).unwrap();
    symlink(moved, folder).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[cfg(target_os = "linux")]
fn swap(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags};
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

#[cfg(not(target_os = "linux"))]
fn swap(one: &Path, other: &Path) {
    let aside = one.with_extension("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(aside, other).unwrap();
}

fn walk_of(path: &Path) -> Walk {
    Source::walk(&[path.to_owned()], &WalkOptions::default()).unwrap()
}

/// A walk whose source keeps small files between their hash and their way.
fn keeping(path: &Path) -> Walk {
    Source::walk(&[path.to_owned()], &WalkOptions { kept_bytes_max: 1 << 20, ..WalkOptions::default() }).unwrap()
}

fn geometry(walk: &Walk, entry: u32) -> Geometry {
    match walk.entries[entry as usize].kind {
        EntryKind::File { length } => Geometry::of(length).unwrap(),
        _ => panic!("entry {entry} is no file"),
    }
}

fn whole(walk: &Walk, entry: u32) -> ChunkRun {
    ChunkRun { entry, chunks: ChunkIndex(0)..ChunkIndex(geometry(walk, entry).count().0) }
}

/// The digest of all bytes hashed as one: what any other BLAKE3 program prints.
fn whole_digest(bytes: &[u8]) -> FileDigest {
    FileDigest(*blake3::hash(bytes).as_bytes())
}

fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn write(path: &Path, content: &[u8]) -> PathBuf {
    fs::write(path, content).unwrap();
    path.to_owned()
}
