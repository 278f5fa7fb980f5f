//! A look at what is unfinished, while transfers run.

#![allow(clippy::unwrap_used)]

use haul::chunk::Length;
use haul::rel_path::RelPath;
use haul::store::{RealDisk, RecordId, Store};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn a_look_at_what_is_unfinished_keeps_no_transfer_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(RealDisk::open(folder.path()).unwrap()).unwrap();
    let (path, length) = (RelPath::parse("data").unwrap(), Length(4 << 20));
    let (mine, other) = (open(), open());
    drop(mine.open_partial(&path, length).unwrap());
    drop(mine.open_record(RecordId([7; 16])).unwrap());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(other.glance_at_parts().unwrap()[0].destined, Some((path.clone(), length)));
                assert_eq!(other.glance_at_records().unwrap()[0].id, RecordId([7; 16]));
            }
        });
        let turns = (0..2000).map(|_| {
            let opened = mine.open_partial(&path, length).map(drop);
            opened.and(mine.reopen_record(RecordId([7; 16])).map(|record| assert!(record.is_some())))
        });
        let outcome: Result<(), _> = turns.collect();
        is_over.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}
