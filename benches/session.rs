//! What the protocol costs by itself: both sessions wired together, per chunk and per file.

mod support;

use criterion::{BenchmarkId, Criterion};
use haul::limits::CHUNK_BYTES_MIN;
use haul::manifest::Entry;
use std::time::{Duration, Instant};
use support::pair::Pair;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let mut group = criterion.benchmark_group("session");
    for chunks in [1024, 16_384] {
        let entries = vec![support::file("file", u64::from(chunks) * CHUNK_BYTES_MIN)];
        group.bench_function(BenchmarkId::new("time per chunk of a file of", chunks), |bencher| {
            bencher.iter_custom(|rounds| time_per_unit(&entries, chunks, rounds));
        });
    }
    for files in [1000, 10_000] {
        let entries = support::small_files(files);
        group.bench_function(BenchmarkId::new("time per small file of", files), |bencher| {
            bencher.iter_custom(|rounds| time_per_unit(&entries, files, rounds));
        });
    }
    group.finish();
    criterion.final_summary();
}

/// Time of `rounds` whole sessions, divided by what each of them moves: what is shown is the cost of one chunk or file.
fn time_per_unit(entries: &[Entry], units: u32, rounds: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        let mut pair = Pair::new(entries.to_vec());
        let began = Instant::now();
        let landed = pair.run();
        spent += began.elapsed();
        assert_eq!(landed, u64::from(units), "a small file is one chunk");
    }
    spent / units
}
