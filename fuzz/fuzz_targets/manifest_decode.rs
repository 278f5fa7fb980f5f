//! Manifests near a valid one, as frames.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("manifest_decode", bytes));
