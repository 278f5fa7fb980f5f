//! Bytes as a lane reads them.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("frame_decode", bytes));
