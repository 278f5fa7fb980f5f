//! The receiver against any sender, disk and loss.

#![no_main]

use haul_fuzz::drivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drivers::run("receiver_sm", bytes));
