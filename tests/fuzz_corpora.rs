//! Every committed fuzz input, replayed on the stable toolchain: what was found once is never found again.

#[path = "support/fuzz_drivers/mod.rs"]
mod drivers;

use std::path::{Path, PathBuf};

#[test]
fn every_input_of_every_corpus_passes() {
    // One test for all, since memory is measured for the whole process.
    for (target, _) in drivers::TARGETS.iter().filter(|(target, _)| *target != "canary") {
        let inputs = inputs_of(target);
        assert!(inputs.len() > 4, "{target} has a corpus");
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            let outcome = std::panic::catch_unwind(|| drivers::run(target, &bytes));
            assert!(outcome.is_ok(), "cargo fuzz run {target} {}", input.display());
        }
    }
    for input in inputs_of("canary") {
        let bytes = std::fs::read(&input).unwrap();
        assert!(std::panic::catch_unwind(|| drivers::run("canary", &bytes)).is_err(), "the canary lives");
    }
}

/// The corpus and the regressions of a target, in order.
fn inputs_of(target: &str) -> Vec<PathBuf> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let folders = [fuzz.join("corpus").join(target), fuzz.join("regressions").join(target)];
    let read = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let mut inputs: Vec<_> = read.flatten().flatten().map(|entry| entry.path()).collect();
    inputs.sort();
    inputs
}
