//! Manifest files: the example of the specification, what is written is read, and what no file may be is refused.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::{ChunkDigest, ManifestId, PurposeHasher, RootMerger, chunk_digest, empty_file_digest};
use haul::limits::{CHUNK_BYTES_MIN, FILE_BYTES_MAX, MESSAGE_BYTES_MAX};
use haul::manifest::{
    Attributes, Entry, EntryKind, Listing, ListingBuilder, ListingFault, Mode, SealHasher, Timestamp,
};
use haul::rel_path::{PathFault, RelPath};
use haul::wire::{EntryFault, ManifestDecoder, ManifestFault, ManifestHead, ManifestWriter};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const SPEC: &str = include_str!("../src/wire/SPEC.md");

#[test]
fn the_example_of_the_specification_is_what_is_written_and_read() {
    let (_, block) = SPEC.split_once("```manifest ").unwrap();
    let (title, rest) = block.split_once('\n').unwrap();
    assert_eq!(title, "of the folder f with the file a in it, whose bytes are abc");
    let (hex, _) = rest.split_once("```").unwrap();
    let example: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let listing = listing(vec![folder("f"), Entry { modified: Timestamp::clamped(1, 7), ..file("f/a", 3) }]);
    let digest = chunk_digest(Geometry::of(Length(3)).unwrap(), ChunkIndex(0), b"abc");
    let (written, id) = write(&listing, &[digest]);
    assert_eq!(hex_of(&written), hex_of(&example));
    let head = read(&example).unwrap();
    assert_eq!((head.listing.digest(), head.id), (listing.digest(), id));
    assert_eq!(example[head.rows_at as usize..][..32], digest.0);
}

#[test]
fn the_id_is_that_of_a_transfer_of_the_same_files() {
    let lengths = [0, 1, 3 * CHUNK_BYTES_MIN + 7, 0];
    let entries = lengths.iter().enumerate().map(|(place, &length)| file(&format!("f{place}"), length)).collect();
    let listing = listing(entries);
    let digests = digests(listing.totals().chunks);
    let mut seal = SealHasher::new(listing.digest());
    for entry in listing.files() {
        let chunks = listing.chunks_of(entry);
        let mut merger = RootMerger::new(listing.geometry(entry).unwrap());
        let root = chunks.filter_map(|number| merger.push(digests[number as usize])).last();
        seal.push(Some(root.unwrap_or_else(empty_file_digest)));
    }
    let (written, id) = write(&listing, &digests);
    assert_eq!((id, read(&written).unwrap().id), (seal.finish(), seal.finish()));
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        lengths in proptest::collection::vec(0u64..6 * CHUNK_BYTES_MIN, 1..30),
        cuts in proptest::collection::vec(1usize..900, 1..40),
        mode in 0u32..0o777, seconds in any::<i64>(), nanoseconds in any::<u32>(),
    ) {
        let entries = lengths.iter().enumerate().map(|(place, &length)| Entry {
            mode: Mode::masked(mode), modified: Timestamp::clamped(seconds, nanoseconds),
            ..file(&format!("{place:04}"), length)
        });
        let listing = listing(entries.collect());
        let digests = digests(listing.totals().chunks);
        let (written, id) = write(&listing, &digests);
        let mut decoder = ManifestDecoder::new();
        let mut rest = &written[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            decoder.decode(now).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let head = decoder.finish().unwrap();
        prop_assert_eq!((head.listing.entries(), head.id), (listing.entries(), id));
        let rows = &written[head.rows_at as usize..][..digests.len() * 32];
        prop_assert!(rows.chunks(32).zip(&digests).all(|(row, digest)| *row == digest.0));
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let listing = listing(vec![folder("f"), file("f/a", 2 * CHUNK_BYTES_MIN + 1), file("f/b", 0), file("g", 7)]);
    let (written, _) = write(&listing, &digests(4));
    for place in 0..written.len() {
        for bit in 0..8 {
            let mut damaged = written.clone();
            damaged[place] ^= 1 << bit;
            assert!(read(&damaged).is_err(), "bit {bit} of byte {place}");
        }
        assert_eq!(read(&written[..place]).unwrap_err(), ManifestFault::CutOff, "{place} bytes");
    }
    assert_eq!(read(&[&written[..], &[0]].concat()).unwrap_err(), ManifestFault::Trailing);
}

#[test]
fn damage_is_told_from_a_seal_of_something_else() {
    let (written, _) = write(&listing(vec![file("a", 1)]), &digests(1));
    let mut damaged = written.clone();
    let row = read(&written).unwrap().rows_at as usize;
    damaged[row] ^= 1;
    assert_eq!(read(&damaged).unwrap_err(), ManifestFault::Checksum);
    assert_eq!(read(&summed(&damaged[..damaged.len() - 32])).unwrap_err(), ManifestFault::Seal);
}

#[test]
fn other_files_and_newer_versions_are_told_apart() {
    let (written, _) = write(&listing(vec![file("a", 1)]), &digests(1));
    assert_eq!(read(b"PK\x03\x04 and more than sixteen bytes").unwrap_err(), ManifestFault::NotManifest);
    for place in [8, 12, 15] {
        let mut newer = written.clone();
        newer[place] = 2;
        assert_eq!(read(&newer).unwrap_err(), ManifestFault::Newer);
    }
    assert_eq!(read(b"").unwrap_err(), ManifestFault::CutOff);
}

#[track_caller]
fn assert_path_refused(paths: &[&str], fault: PathFault) {
    for path in paths {
        assert_eq!(
            of_records(&[entry(path, Some(1))]).unwrap_err(),
            ManifestFault::Entry(EntryFault::Path(fault)),
            "{path:?}"
        );
    }
}

#[test]
fn rows_1_to_24_unsafe_paths_are_refused() {
    assert_path_refused(&["../evil", "a/../../evil", "..", ".", "./a", "a/./b", "a\\..\\..\\b"], PathFault::Dots);
    assert_path_refused(&["", "a//b", "a/"], PathFault::Empty);
    assert_path_refused(&["/etc/passwd", "//x", "C:\\x", "C:x", "\\\\server\\share"], PathFault::Absolute);
    assert_path_refused(&["\0", "a\0b", "a\nb", "\x1b[2J", "\u{9b}2J"], PathFault::Control);
    assert_path_refused(&[&"a".repeat(256)], PathFault::ComponentTooLong);
    assert_path_refused(&[&["a".repeat(200).as_str(); 21].join("/")], PathFault::TooLong);
    assert_path_refused(&[&["a"; 65].join("/")], PathFault::Deep);
    assert_path_refused(&[".haul", "a/.HAUL/b"], PathFault::WorkFolder);
    for path in [&[0xff][..], &[0xed, 0xa0, 0x80]] {
        assert_eq!(of_records(&[entry(path, Some(1))]).unwrap_err(), ManifestFault::Malformed);
    }
    assert_eq!(of_records(&[entry("b", Some(1)), entry("a", Some(1))]).unwrap_err(), fault(ListingFault::Order));
    assert_eq!(of_records(&[entry("a", Some(1)), entry("a", Some(1))]).unwrap_err(), fault(ListingFault::Duplicate));
    assert_eq!(of_records(&[entry("a", Some(1)), entry("a/b", Some(1))]).unwrap_err(), fault(ListingFault::Order));
}

#[test]
fn rows_33_to_37_modes_times_and_lengths_out_of_range_are_refused() {
    let with = |mode: u64, seconds: u64, nanoseconds: u64| {
        let fields = [vec![1, b'a', 1, 1], varint(mode), varint(seconds), varint(nanoseconds), vec![0]];
        of_records(&[fields.concat()]).map(|_| ())
    };
    assert_eq!(with(0o644, 2, 7), Err(ManifestFault::CutOff), "that one is good up to its totals");
    for (mode, seconds, nanoseconds) in
        [(0o4755, 2, 7), (0o1000, 2, 7), (0o644, u64::MAX, 7), (0o644, 2, 1_000_000_000)]
    {
        assert_eq!(with(mode, seconds, nanoseconds), Err(ManifestFault::NotCanonical));
    }
    for length in [u64::MAX, FILE_BYTES_MAX + 1] {
        assert_eq!(of_records(&[entry("a", Some(length))]).unwrap_err(), fault(ListingFault::FileTooLong));
    }
    let many: Vec<_> = (0..1025).map(|place| entry(format!("{place:04}"), Some(FILE_BYTES_MAX))).collect();
    assert_eq!(of_records(&many).unwrap_err(), fault(ListingFault::TotalTooLong));
}

#[test]
fn rows_39_to_43_counts_and_lengths_that_lie_cost_nothing() {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    for announced in [u32::MAX, MESSAGE_BYTES_MAX as u32 + 1] {
        let bytes = [&header()[..], &announced.to_le_bytes(), &[1, 2, 3]].concat();
        assert_eq!(read(&bytes).unwrap_err(), ManifestFault::TooLong);
    }
    let longest = [&header()[..], &(MESSAGE_BYTES_MAX as u32).to_le_bytes(), &[1, 2, 3]].concat();
    assert_eq!(read(&longest).unwrap_err(), ManifestFault::CutOff);
    // A file of 4 PiB has 2^20 chunks, whose hashes are announced by its length alone.
    let vast =
        [&records(&[entry("a", Some(FILE_BYTES_MAX))], &totals(1, FILE_BYTES_MAX, 1 << 20))[..], &[7; 64]].concat();
    assert_eq!(read(&vast).unwrap_err(), ManifestFault::CutOff);
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(peak < 256 * 1024, "{peak} bytes of memory");
    // Overlong varints, trailing bytes, unknown forms.
    for body in [vec![1, b'a', 1, 0x81, 0, 0, 0, 0, 0], vec![1, b'a', 1, 1, 0, 0, 0, 0, 0]] {
        assert_eq!(of_records(&[body]).unwrap_err(), ManifestFault::NotCanonical);
    }
    assert_eq!(of_records(&[vec![1, b'a', 200, 1, 0, 0, 0, 0]]).unwrap_err(), ManifestFault::Malformed);
    for chunks in [0, 2, u64::MAX] {
        let bytes = records(&[entry("a", Some(1))], &totals(1, 1, chunks));
        assert_eq!(read(&bytes).unwrap_err(), fault(ListingFault::Totals));
    }
    assert_eq!(read(&records(&[], &totals(0, 0, 0))).unwrap_err(), fault(ListingFault::Empty));
}

#[test]
fn row_39_a_million_entries_are_read_and_one_more_is_refused() {
    let mut bytes = header().to_vec();
    let mut decoder = ManifestDecoder::new();
    for number in 0..1_000_001u32 {
        bytes.extend(record(&entry(format!("{number:07}"), None)));
        if bytes.len() > 1 << 16 {
            let decoded = decoder.decode(&std::mem::take(&mut bytes));
            decoded.unwrap_or_else(|fault| panic!("{number}: {fault}"));
        }
    }
    assert_eq!(decoder.decode(&bytes).unwrap_err(), fault(ListingFault::TooMany));
}

fn fault(fault: ListingFault) -> ManifestFault {
    ManifestFault::Listing(fault)
}

fn file(path: &str, length: u64) -> Entry {
    let kind = EntryKind::File { length: Length(length) };
    let path = RelPath::parse(path).unwrap();
    Entry { path, kind, mode: Mode::masked(0o644), modified: Timestamp::clamped(1, 0), attributes: Attributes::NONE }
}

fn folder(path: &str) -> Entry {
    Entry { kind: EntryKind::Folder, mode: Mode::masked(0o755), ..file(path, 0) }
}

fn listing(entries: Vec<Entry>) -> Arc<Listing> {
    let mut builder = ListingBuilder::new();
    for entry in entries {
        builder.push(entry).unwrap();
    }
    let totals = builder.totals();
    Arc::new(builder.finish(totals).unwrap())
}

fn digests(count: u64) -> Vec<ChunkDigest> {
    (0..count).map(|number| ChunkDigest([number as u8 ^ 0x5a; 32])).collect()
}

fn write(listing: &Arc<Listing>, digests: &[ChunkDigest]) -> (Vec<u8>, ManifestId) {
    let mut writer = ManifestWriter::new(Vec::new(), Arc::clone(listing)).unwrap();
    for page in digests.chunks(1024) {
        writer.digests(page).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<ManifestHead, ManifestFault> {
    let mut decoder = ManifestDecoder::new();
    decoder.decode(bytes)?;
    decoder.finish()
}

fn header() -> [u8; 16] {
    *b"haulmani\x01\0\0\0\0\0\0\0"
}

/// The bytes with a checksum that is right for them.
fn summed(bytes: &[u8]) -> Vec<u8> {
    let sum = PurposeHasher::new("haul 1 manifest file").bytes(bytes).finish();
    [bytes, &sum].concat()
}

fn record(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], body].concat()
}

fn records(entries: &[Vec<u8>], totals: &[u8]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|entry| record(entry)).collect();
    [&header()[..], &entries, &[0; 4], &record(totals)].concat()
}

/// A file that ends after its entries.
fn of_records(entries: &[Vec<u8>]) -> Result<ManifestHead, ManifestFault> {
    let entries: Vec<u8> = entries.iter().flat_map(|entry| record(entry)).collect();
    read(&[&header()[..], &entries].concat())
}

/// An entry by hand: mode 0, time 0.
fn entry(path: impl AsRef<[u8]>, length: Option<u64>) -> Vec<u8> {
    let path = path.as_ref();
    let kind = length.map_or(vec![0], |length| [vec![1], varint(length)].concat());
    [varint(path.len() as u64), path.to_vec(), kind, vec![0, 0, 0, 0]].concat()
}

fn totals(files: u64, bytes: u64, chunks: u64) -> Vec<u8> {
    [varint(files), vec![0], varint(bytes), varint(chunks)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn hex_of(bytes: &[u8]) -> String {
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.join(" ")
}
