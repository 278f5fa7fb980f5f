//! What encoding costs: a look at a piece, a piece made shorter and whole again, at the levels that are used by themselves.

mod support;

use criterion::{Criterion, Throughput};
use haul::codec::{Decoder, Encoder, Level, is_zero};
use haul::limits::{PIECE_BYTES_MAX, PIECE_BYTES_MIN};
use std::hint::black_box;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let length = PIECE_BYTES_MAX as usize;
    looks(&mut criterion, &support::noise(length), "noise");
    looks(&mut criterion, &support::text(length), "text");
    for length in [PIECE_BYTES_MIN, PIECE_BYTES_MAX] {
        let name = format!("{} KiB", length / 1024);
        pieces(&mut criterion, &support::text(length as usize), &format!("{name} of text"));
        pieces(&mut criterion, &support::noise(length as usize), &format!("{name} of noise"));
    }
    criterion.final_summary();
}

/// What tells whether a piece is worth an attempt.
fn looks(criterion: &mut Criterion, piece: &[u8], what: &str) {
    let mut encoder = Encoder::new();
    let mut group = criterion.benchmark_group("look");
    group.throughput(Throughput::Bytes(piece.len() as u64));
    group.bench_function(format!("whether {what} is zero"), |bencher| bencher.iter(|| is_zero(black_box(piece))));
    group.bench_function(format!("whether {what} shrinks"), |bencher| {
        bencher.iter(|| encoder.seems_to_shrink(black_box(piece)));
    });
    group.finish();
}

fn pieces(criterion: &mut Criterion, piece: &[u8], what: &str) {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut group = criterion.benchmark_group("piece");
    group.throughput(Throughput::Bytes(piece.len() as u64));
    for number in [1, 3, 9] {
        let level = Level::new(number).expect("levels go up to 19");
        group.bench_function(format!("{what} encoded at level {number}"), |bencher| {
            bencher.iter(|| black_box(encoder.encode(black_box(piece), level)).is_some());
        });
    }
    if let Some(shrunk) = encoder.encode(piece, Level::BEST_CHEAP).map(<[u8]>::to_vec) {
        let mut whole = vec![0; piece.len()];
        group.bench_function(format!("{what} decoded"), |bencher| {
            bencher.iter(|| decoder.decode(black_box(&shrunk), &mut whole).expect("it was encoded here"));
        });
    }
    group.finish();
}
