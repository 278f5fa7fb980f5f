//! Chunk digests, cut into pages anyhow, merge to the hash of the whole file.

use arbitrary::Unstructured;
use haul::chunk::{Geometry, Length};
use haul::digest::chunk_digest;
use haul::limits::CHUNK_BYTES_MIN;
use haul::manifest::{Attributes, Entry, EntryKind, HashPages, ListingBuilder, Mode, Timestamp};
use haul::rel_path::RelPath;

/// Length near a multiple of the chunk length, content from one byte, pages cut where the rest of the bytes say.
pub(super) fn tree_hash(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let chunks: u8 = input.int_in_range(0..=17).unwrap_or_default();
    let near: i8 = input.arbitrary().unwrap_or_default();
    let seed: u8 = input.arbitrary().unwrap_or_default();
    let length = (u64::from(chunks) * CHUNK_BYTES_MIN).saturating_add_signed(i64::from(near));
    let mut file = vec![seed; length as usize];
    for (place, block) in (0u64..).zip(file.chunks_mut(63 * 1024)) {
        // Every block differs, and none ends where a chunk does.
        let stamp = place.to_le_bytes();
        let stamped = block.len().min(stamp.len());
        block[..stamped].copy_from_slice(&stamp[..stamped]);
    }
    let geometry = Geometry::of(Length(length)).unwrap();
    assert_eq!(u64::from(geometry.count().0), length.div_ceil(geometry.chunk_length().0));
    let digests: Vec<_> = (0..)
        .map(haul::chunk::ChunkIndex)
        .zip(file.chunks(geometry.chunk_length().0 as usize))
        .map(|(index, chunk)| chunk_digest(geometry, index, chunk))
        .collect();
    let listing = {
        let mut builder = ListingBuilder::new();
        let kind = EntryKind::File { length: Length(length) };
        let path = RelPath::parse("file").unwrap();
        let (mode, modified) = (Mode::masked(0), Timestamp::clamped(0, 0));
        builder.push(Entry { path, kind, mode, modified, attributes: Attributes::NONE }).unwrap();
        let totals = builder.totals();
        builder.finish(totals).unwrap()
    };
    let mut pages = HashPages::new();
    let mut roots = Vec::new();
    while pages.next() < digests.len() as u64 {
        let left = &digests[pages.next() as usize..];
        let cut = input.int_in_range(1..=left.len()).unwrap_or(left.len());
        roots.extend(pages.push(&listing, pages.next(), left[..cut].to_vec()).unwrap());
    }
    let whole = *blake3::hash(&file).as_bytes();
    match roots[..] {
        [(_, root)] => assert_eq!(root.0, whole),
        _ => assert!(length == 0 && roots.is_empty() && haul::digest::empty_file_digest().0 == whole),
    }
}
