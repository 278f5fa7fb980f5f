//! Compressed pieces as a peer sends them, and pieces as this side does.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("piece_decode", bytes));
