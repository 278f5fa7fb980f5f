//! A partial file and a record, changed by anything.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("partial_open", bytes));
