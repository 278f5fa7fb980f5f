//! The fault matrix: which fault is met at which moment, and that a test of that name is there for each.
//!
//! A cell is a test `fault_<fault>_<moment>` in one of the files next to this one. The moments: *handshake*, up to the
//! sender's welcome; *manifest*, while the listing travels and while the user is asked; *chunks*, once some chunks are
//! claimed; *verify*, between the last claim and the file's name; *rename*, from the name up to the sync of its folder;
//! *after*, while the sender is told and after that. What is missing below has no meaning at that moment: nobody needs
//! the network to rename a file.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const HANDSHAKE: &str = "handshake";
const MANIFEST: &str = "manifest";
const CHUNKS: &str = "chunks";
const VERIFY: &str = "verify";
const RENAME: &str = "rename";
const AFTER: &str = "after";

/// Every fault with the moments at which it is met.
const MATRIX: &[(&str, &[&str])] = &[
    ("tcp_reset", &[HANDSHAKE, MANIFEST, CHUNKS, VERIFY, RENAME, AFTER]),
    ("blackhole", &[HANDSHAKE, MANIFEST, CHUNKS]),
    ("lossy_network", &[HANDSHAKE, MANIFEST, CHUNKS]),
    ("address_change", &[HANDSHAKE, MANIFEST, CHUNKS]),
    ("slow_peer", &[HANDSHAKE, MANIFEST, CHUNKS]),
    ("bit_flip", &[HANDSHAKE, MANIFEST, CHUNKS]),
    ("kill_receiver", &[HANDSHAKE, MANIFEST, CHUNKS, VERIFY, RENAME, AFTER]),
    ("kill_sender", &[HANDSHAKE, MANIFEST, CHUNKS, VERIFY, RENAME, AFTER]),
    ("power_loss_receiver", &[HANDSHAKE, MANIFEST, CHUNKS, VERIFY, RENAME, AFTER]),
    ("power_loss_sender", &[CHUNKS]),
    ("no_space_at_reserve", &[MANIFEST]),
    ("no_space_midway", &[CHUNKS, VERIFY, RENAME]),
    ("eio_on_write", &[CHUNKS]),
    ("eio_on_fsync", &[CHUNKS, VERIFY, RENAME]),
    ("short_writes", &[CHUNKS, VERIFY, RENAME]),
    ("read_only", &[MANIFEST, CHUNKS, VERIFY, RENAME]),
    ("destination_deleted", &[MANIFEST, CHUNKS, VERIFY, RENAME]),
    ("destination_is_a_link", &[MANIFEST, CHUNKS, VERIFY, RENAME]),
    ("name_taken", &[RENAME]),
    ("part_gone", &[CHUNKS, VERIFY, RENAME]),
    ("source_truncated", &[MANIFEST, CHUNKS]),
    ("source_modified", &[MANIFEST, CHUNKS]),
    ("source_deleted", &[MANIFEST, CHUNKS]),
    ("many_receivers_one_stalls", &[CHUNKS]),
    ("two_receivers", &[MANIFEST, RENAME]),
    ("clock_jump", &[HANDSHAKE, CHUNKS]),
    ("suspend", &[HANDSHAKE, MANIFEST, CHUNKS, VERIFY, RENAME]),
    ("signal", &[HANDSHAKE, MANIFEST, CHUNKS, VERIFY, RENAME]),
    ("panic_in_a_session", &[HANDSHAKE, MANIFEST, CHUNKS, VERIFY, RENAME]),
    ("descriptors_run_out", &[HANDSHAKE, MANIFEST, CHUNKS, VERIFY, RENAME]),
    ("evil_peer", &[HANDSHAKE, MANIFEST, CHUNKS]),
];

/// Faults that no test shows yet: they take real processes that connect again.
const TO_COME: &[&str] = &[];

#[test]
fn every_cell_has_its_test_and_no_test_lacks_a_cell() {
    let cells = |fault: &str, moments: &[&str]| -> Vec<String> {
        moments.iter().map(|moment| format!("fault_{fault}_{moment}")).collect()
    };
    let due = MATRIX.iter().filter(|(fault, _)| !TO_COME.contains(fault));
    let due: BTreeSet<String> = due.flat_map(|(fault, moments)| cells(fault, moments)).collect();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("fault_") && name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            for name in tests_of(&text) {
                assert!(found.insert(name.to_owned()), "`{name}` is there twice");
            }
        }
    }
    let lacking: Vec<_> = due.difference(&found).collect();
    assert!(lacking.is_empty(), "no test shows {lacking:?}");
    let unknown: Vec<_> = found.difference(&due).collect();
    assert!(unknown.is_empty(), "MATRIX does not have {unknown:?}, or TO_COME still has");
}

/// The names of the tests of cells.
fn tests_of(text: &str) -> impl Iterator<Item = &str> {
    let after_test = text.lines().zip(text.lines().skip(1)).filter(|(before, _)| before.trim() == "#[test]");
    let names = after_test.filter_map(|(_, line)| line.strip_prefix("fn ")?.split_once('('));
    names.map(|(name, _)| name).filter(|name| name.starts_with("fault_"))
}

#[test]
fn the_scan_finds_tests_of_cells_alone() {
    let text = "#[test]\nfn fault_a_b() {}\nfn fault_c_d() {}\n#[test]\nfn another() {}\n";
    assert_eq!(tests_of(text).collect::<Vec<_>>(), ["fault_a_b"]);
}
