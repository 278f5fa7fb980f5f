//! Any text as the range of a request.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("http_range", bytes));
