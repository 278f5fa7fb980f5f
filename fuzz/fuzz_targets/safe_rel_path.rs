//! Any path that a peer may name.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("safe_rel_path", bytes));
