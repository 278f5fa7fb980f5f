//! The hash cache from one run to the next.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::source::{HashedChunk, Provenance, Source, Walk, WalkOptions};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const CHUNK: u64 = 256 * 1024;

#[test]
fn a_later_run_reads_nothing_that_an_earlier_one_hashed() {
    let run = Runs::new();
    let before = run.hash();
    let after = run.hash_until_cached();
    assert_eq!(digests(&before), digests(&after));
    assert_eq!(run.cached_files(), 1);
}

#[test]
fn files_of_one_chunk_are_not_cached() {
    let run = Runs::new();
    fs::write(&run.file, b"short").unwrap();
    run.hash();
    assert_eq!(run.cached_files(), 0);
}

#[test]
fn without_a_cache_nothing_is_kept() {
    let run = Runs::new();
    let walk = Source::walk(std::slice::from_ref(&run.file), &WalkOptions::default()).unwrap();
    walk.source.hash_chunks(0, ChunkIndex(0)..ChunkIndex(2)).unwrap();
    assert!(!run.cache.exists());
}

#[test]
fn only_what_was_hashed_is_known() {
    let run = Runs::new();
    let middle = ChunkIndex(3)..ChunkIndex(7);
    run.until_cached(|walk| walk.source.hash_chunks(0, middle.clone()).unwrap());
    let all = run.hash();
    let cached: Vec<usize> = (0..all.len()).filter(|&chunk| all[chunk].provenance == Provenance::Cache).collect();
    assert_eq!(cached, [3, 4, 5, 6]);
}

#[test]
fn a_rewritten_file_is_hashed_anew() {
    let run = Runs::new();
    let before = run.hash_until_cached();
    fs::File::options().write(true).open(&run.file).unwrap().write_all_at(b"other", 5 * CHUNK).unwrap();
    let after = run.hash();
    assert!(after.iter().all(|hashed| hashed.provenance == Provenance::Read));
    let differing: Vec<usize> = (0..after.len()).filter(|&chunk| before[chunk].digest != after[chunk].digest).collect();
    assert_eq!(differing, [5]);
}

#[test]
fn touched_rights_are_reason_enough_to_hash_anew() {
    let run = Runs::new();
    run.hash_until_cached();
    let mut rights = fs::metadata(&run.file).unwrap().permissions();
    rights.set_readonly(true);
    fs::set_permissions(&run.file, rights).unwrap();
    assert!(run.hash().iter().all(|hashed| hashed.provenance == Provenance::Read));
}

#[test]
fn a_garbled_cache_costs_time_and_nothing_else() {
    let run = Runs::new();
    let before = run.hash_until_cached();
    let path = fs::read_dir(&run.cache).unwrap().next().unwrap().unwrap().path();
    for at in [0, 20, 80, 200] {
        let mut garbled = fs::read(&path).unwrap();
        garbled[at] ^= 1;
        fs::write(&path, garbled).unwrap();
        let after = run.hash();
        assert_eq!(digests(&before), digests(&after), "garbled at {at}");
        assert_eq!(after[0].provenance, Provenance::Read, "garbled at {at}");
        assert_eq!(digests(&run.hash_until_cached()), digests(&before));
    }
}

#[test]
fn a_cache_that_cannot_be_used_is_done_without() {
    let run = Runs::new();
    fs::write(&run.cache, b"a file where the folder should be").unwrap();
    assert!(run.hash().iter().all(|hashed| hashed.provenance == Provenance::Read));
}

#[test]
fn a_stale_row_is_found_out_and_dropped() {
    let run = Runs::new();
    let good = run.hash_until_cached();
    let walk = run.walk();
    assert_eq!(walk.source.hash_chunks(0, ChunkIndex(0)..ChunkIndex(1)).unwrap()[0].provenance, Provenance::Cache);
    // What a caller does when it reads a chunk whose digest came from the cache.
    assert_eq!(walk.source.rehash_chunk(0, ChunkIndex(0)).unwrap(), good[0].digest);
    walk.source.relist(0).unwrap();
    assert_eq!(walk.source.hash_chunks(0, ChunkIndex(0)..ChunkIndex(1)).unwrap()[0].provenance, Provenance::Read);
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let run = Runs::new();
    let (one, other) = (run.walk(), run.walk());
    let chunks = ChunkIndex(0)..ChunkIndex(4);
    let first = one.source.hash_chunks(0, chunks.clone()).unwrap();
    assert_eq!(digests(&other.source.hash_chunks(0, chunks.clone()).unwrap()), digests(&first));
    drop((one, other));
    assert_eq!(digests(&run.hash_until_cached())[..4], digests(&first));
}

/// One file of ten chunks, walked and hashed by one run after the other with the same cache.
struct Runs {
    cache: PathBuf,
    file: PathBuf,
    _temp: tempfile::TempDir,
}

impl Runs {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        let content: Vec<u8> = (0..10 * CHUNK).map(|at| (at / 1000 % 251) as u8).collect();
        fs::write(&file, content).unwrap();
        let cache = temp.path().join("cache/haul/hashes");
        fs::create_dir_all(cache.parent().unwrap()).unwrap();
        Self { cache, file, _temp: temp }
    }

    fn walk(&self) -> Walk {
        let options = WalkOptions { hash_cache: Some(self.cache.clone()), ..WalkOptions::default() };
        Source::walk(std::slice::from_ref(&self.file), &options).unwrap()
    }

    fn hash(&self) -> Vec<HashedChunk> {
        hash_all(&self.walk(), &self.file)
    }

    fn hash_until_cached(&self) -> Vec<HashedChunk> {
        self.until_cached(|walk| hash_all(walk, &self.file))
    }

    /// Hashes in run after run until all comes from the cache: what is hashed right after the file was written is not
    /// believed, so it takes as many runs as fit into the time that its stamps need to settle.
    fn until_cached(&self, hash: impl Fn(&Walk) -> Vec<HashedChunk>) -> Vec<HashedChunk> {
        loop {
            let hashed = hash(&self.walk());
            if hashed.iter().all(|hashed| hashed.provenance == Provenance::Cache) {
                return hashed;
            }
        }
    }

    fn cached_files(&self) -> usize {
        fs::read_dir(&self.cache).unwrap().count()
    }
}

fn hash_all(walk: &Walk, file: &Path) -> Vec<HashedChunk> {
    let geometry = Geometry::of(Length(fs::metadata(file).unwrap().len())).unwrap();
    walk.source.hash_chunks(0, ChunkIndex(0)..ChunkIndex(geometry.count().0)).unwrap()
}

fn digests(hashed: &[HashedChunk]) -> Vec<haul::digest::ChunkDigest> {
    hashed.iter().map(|hashed| hashed.digest).collect()
}
