//! What the benches share: bytes that do not compress, and listings.

#![allow(dead_code, unreachable_pub, reason = "each bench uses the part that it needs")]

pub mod pair;

use haul::chunk::Length;
use haul::manifest::{Attributes, Entry, EntryKind, Listing, ListingBuilder, Mode, Timestamp};
use haul::rel_path::RelPath;

/// `length` bytes without a pattern, the same in every run.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// `length` bytes of words in no order, which shrink as text does; the same in every run.
pub fn text(length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 32);
    for pair in noise(length).chunks_exact(2) {
        let number = u32::from(pair[0]) * u32::from(pair[1]) % 4099;
        text.extend_from_slice(format!("word{number:x} ").as_bytes());
        if text.len() >= length {
            break;
        }
    }
    text.truncate(length);
    text
}

/// The entry of a file.
pub fn file(path: &str, bytes: u64) -> Entry {
    Entry {
        path: path_of(path),
        kind: EntryKind::File { length: Length(bytes) },
        mode: Mode::masked(0o644),
        modified: Timestamp::clamped(1_700_000_000, 0),
        attributes: Attributes::NONE,
    }
}

/// `count` small files in folders of a thousand, in listing order.
pub fn small_files(count: u32) -> Vec<Entry> {
    let mut entries = Vec::new();
    for number in 0..count {
        if number % 1000 == 0 {
            let path = path_of(&format!("folder-{:04}", number / 1000));
            entries.push(Entry { path, kind: EntryKind::Folder, ..file("folder", 0) });
        }
        let path = format!("folder-{:04}/file-{:06}.bin", number / 1000, number);
        entries.push(file(&path, 1024 + u64::from(number) * 7919 % 15_361));
    }
    entries
}

/// The listing of `entries`.
pub fn listing(entries: Vec<Entry>) -> Listing {
    let mut builder = ListingBuilder::new();
    for entry in entries {
        builder.push(entry).expect("the entries are in order");
    }
    let totals = builder.totals();
    builder.finish(totals).expect("the totals are the builder's own")
}

pub fn path_of(text: &str) -> RelPath {
    RelPath::parse(text).expect("the benches name their files well")
}
