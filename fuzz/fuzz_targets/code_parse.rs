//! Any text as a code, and as whatever somebody was given.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("code_parse", bytes));
