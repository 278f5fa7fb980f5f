//! The target that must fail, so that a harness which sees no failure is noticed.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("canary", bytes));
