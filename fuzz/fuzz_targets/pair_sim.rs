//! Whole transfers whose choices are the fuzzer's.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("pair_sim", bytes));
