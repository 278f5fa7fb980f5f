//! What writing costs on the file system of the temporary folder, or of the folder that `HAUL_BENCH_DIR` names.

mod support;

use criterion::{Criterion, Throughput};
use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::{ChunkDigest, chunk_digest};
use haul::limits::{CHUNK_BYTES_MIN, PIECE_BYTES_MAX};
use haul::manifest::{HashPages, Listing, Mode, Timestamp, VerifiedChunk};
use haul::store::{OnConflict, Publication, RealDisk, Store, StoreError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CHUNKS: u32 = 256;
const SMALL_FILES: u32 = 512;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    chunks(&mut criterion);
    small_files(&mut criterion);
    criterion.final_summary();
}

fn chunks(criterion: &mut Criterion) {
    let bytes = support::noise(PIECE_BYTES_MAX as usize);
    let file_bytes = u64::from(CHUNKS) * CHUNK_BYTES_MIN;
    let listing = support::listing(vec![support::file("file", file_bytes)]);
    let geometry = Geometry::of(Length(file_bytes)).expect("the length is legal");
    let digests: Vec<_> = (0..CHUNKS).map(|number| chunk_digest(geometry, ChunkIndex(number), &bytes)).collect();
    let proofs = proofs(&listing, digests);
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Bytes(file_bytes));
    group.bench_function("fill, digest and claim chunks", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| write_chunks(&bytes, &proofs)).sum());
    });
    group.finish();
}

/// Time to write, hash and claim every chunk of one file. Its reservation, and the sync of its data, are not in it.
fn write_chunks(bytes: &[u8], proofs: &[VerifiedChunk]) -> Duration {
    let (_folder, store) = fresh_store();
    let length = Length(u64::from(CHUNKS) * CHUNK_BYTES_MIN);
    let opened = store.open_partial(&support::path_of("file"), length).expect("the bench folder has room");
    let began = Instant::now();
    for proof in proofs {
        let lease = opened.partial.lease(proof.index()).expect("the file is open");
        let mut lease = lease.expect("nobody else holds the chunk");
        let fill = |into: &mut [u8]| {
            into.copy_from_slice(bytes);
            Ok::<_, StoreError>(())
        };
        lease.fill(0, bytes.len(), fill).expect("the space is reserved");
        assert_eq!(lease.digest().expect("the file is whole"), proof.digest());
        lease.claim(*proof).expect("the digest is the lease's own");
    }
    began.elapsed()
}

fn small_files(criterion: &mut Criterion) {
    let bytes = support::noise(16 << 10);
    let mut group = criterion.benchmark_group("store");
    group.bench_function("time per small file written and published", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| publish_small_files(&bytes)).sum::<Duration>() / SMALL_FILES);
    });
    group.finish();
}

/// Time to write and publish one batch of small files, its sync included.
fn publish_small_files(bytes: &[u8]) -> Duration {
    let (_folder, store) = fresh_store();
    let entries: Vec<_> = (0..SMALL_FILES)
        .map(|number| support::file(&format!("file-{number:06}"), 1024 + u64::from(number) * 7919 % 15_361))
        .collect();
    let contents = |number: usize| {
        let length = entries[number].file_length().expect("all entries are files");
        &bytes[..usize::try_from(length.0).expect("a small file fits into memory")]
    };
    let listing = support::listing(entries.clone());
    let began = Instant::now();
    let written: Vec<_> = entries
        .iter()
        .enumerate()
        .map(|(number, entry)| {
            let wish = Publication {
                path: entry.path.clone(),
                mode: Mode::masked(0o644),
                modified: Timestamp::clamped(1_700_000_000, 0),
                conflict: OnConflict::Fail,
                read_back: false,
                attributes: haul::manifest::Attributes::NONE,
            };
            store.write_single(wish, contents(number)).expect("the bench folder has room")
        })
        .collect();
    let proofs = proofs(&listing, written.iter().map(|(_, digest)| *digest).collect());
    let batch = written.into_iter().zip(proofs).map(|((single, _), proof)| (single, Some(proof)));
    for published in store.publish_batch(batch.collect()) {
        published.expect("no name is taken");
    }
    began.elapsed()
}

/// The proofs that a receiver would hold once these hashes were promised and found.
fn proofs(listing: &Listing, digests: Vec<ChunkDigest>) -> Vec<VerifiedChunk> {
    let mut pages = HashPages::new();
    pages.push(listing, 0, digests.clone()).expect("one page covers the listing");
    let verify = |(number, digest)| pages.verify(listing, number, digest).expect("the promise is the digest");
    (0..).zip(digests).map(verify).collect()
}

fn fresh_store() -> (TempDir, Store<RealDisk>) {
    let base = std::env::var_os("HAUL_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(base).expect("the bench folder can be written");
    let disk = RealDisk::open(folder.path()).expect("the folder was just made");
    (folder, Store::open(disk).expect("the folder can be written"))
}
