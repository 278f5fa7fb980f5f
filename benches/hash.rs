//! What hashing costs: a chunk, the merge of a file's chunks, a page of chunk hashes.

mod support;

use criterion::{BatchSize, Criterion, Throughput};
use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::{ChunkDigest, RootMerger, chunk_digest};
use haul::limits::{CHUNK_BYTES_MIN, HASH_PAGE_CHUNKS_MAX};
use haul::manifest::HashPages;
use std::hint::black_box;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    chunks(&mut criterion);
    merges(&mut criterion);
    pages(&mut criterion);
    criterion.final_summary();
}

fn chunks(criterion: &mut Criterion) {
    let bytes = support::noise(16 << 20);
    let geometry = geometry(1 << 40);
    let mut group = criterion.benchmark_group("hash");
    for length in [CHUNK_BYTES_MIN, 16 << 20] {
        let chunk = &bytes[..usize::try_from(length).expect("a chunk fits into memory")];
        group.throughput(Throughput::Bytes(length));
        group.bench_function(format!("chunk of {} KiB", length / 1024), |bencher| {
            bencher.iter(|| chunk_digest(geometry, ChunkIndex(1), black_box(chunk)));
        });
    }
    group.finish();
}

fn merges(criterion: &mut Criterion) {
    let geometry = geometry(4 << 30);
    let count = geometry.count().0;
    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(u64::from(count)));
    group.bench_function(format!("root of {count} chunks"), |bencher| {
        bencher.iter(|| {
            let mut merger = RootMerger::new(geometry);
            (0..count).filter_map(|number| merger.push(digest(number))).last()
        });
    });
    group.finish();
}

fn pages(criterion: &mut Criterion) {
    let page = u32::from(HASH_PAGE_CHUNKS_MAX);
    let listing = support::listing(vec![support::file("file", u64::from(page) * CHUNK_BYTES_MIN)]);
    let digests: Vec<_> = (0..page).map(digest).collect();
    let mut group = criterion.benchmark_group("page");
    group.throughput(Throughput::Elements(u64::from(page)));
    group.bench_function(format!("{page} hashes taken and checked against"), |bencher| {
        let verify_all = |digests: Vec<ChunkDigest>| {
            let mut pages = HashPages::new();
            let roots = pages.push(&listing, 0, digests).expect("the page is the whole file's");
            let proofs = (0..page).filter_map(|number| pages.verify(&listing, u64::from(number), digest(number)));
            (roots, proofs.count())
        };
        bencher.iter_batched(|| digests.clone(), verify_all, BatchSize::SmallInput);
    });
    group.finish();
}

fn geometry(file_bytes: u64) -> Geometry {
    Geometry::of(Length(file_bytes)).expect("the benches hash files of legal lengths")
}

fn digest(number: u32) -> ChunkDigest {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    ChunkDigest(bytes)
}
