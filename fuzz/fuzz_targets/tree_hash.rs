//! Digests of chunks, merged, against the hash of the whole.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("tree_hash", bytes));
