//! Manifest files near a valid one, and lists of hashes.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("manifest_file", bytes));
