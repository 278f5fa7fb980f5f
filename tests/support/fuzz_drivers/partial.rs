//! What lies in the work folder, changed by anything: a claim counts only where the bytes are there.

use super::sim_disk::SimDisk;
use super::trace;
use arbitrary::{Result, Unstructured};
use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::{ChunkDigest, FileDigest, RootMerger, chunk_digest};
use haul::limits::CHUNK_BYTES_MIN;
use haul::manifest::{Entry, EntryIndex, EntryKind, HashPages, ListingBuilder, Mode, Timestamp};
use haul::rel_path::{RelPath, WORK_FOLDER};
use haul::store::{Disk, DiskFile, DiskFolder, OpenHow, RecordId, Standing, Store};
use std::cell::LazyCell;

const FILE: &str = "disk.img";
const FILE_BYTES: u64 = 2 * CHUNK_BYTES_MIN + 5;
const RECORD: RecordId = RecordId([7; 16]);
const NOTED: u32 = 3;

thread_local! {
    /// Three good chunks, two of them claimed, and a record with three rows.
    static GENUINE: LazyCell<SimDisk> = const { LazyCell::new(genuine) };
}

/// A partial file and a record as a process left them, some of their bytes changed since, maybe in another start of the
/// system.
pub(super) fn partial_open(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(id) = RecordId::parse(text)
    {
        assert_eq!(id.to_string(), text, "an id has one form");
    }
    let other_boot = input.arbitrary().unwrap_or(false);
    let disk = GENUINE.with(|disk| if other_boot { disk.crash(0) } else { disk.after_kill() });
    let data_was_edited = edit_partial(&disk, &mut input).unwrap_or(true);
    open_partial(&disk, data_was_edited);
    open_record(&disk);
}

fn genuine() -> SimDisk {
    let disk = SimDisk::new();
    let store = Store::open(disk.clone()).unwrap();
    let (listing, digests) = listing_and_digests();
    let mut pages = HashPages::new();
    pages.push(&listing, 0, digests.clone()).unwrap();
    let opened = store.open_partial(&path(), Length(FILE_BYTES)).unwrap();
    for number in 0..3 {
        let index = ChunkIndex(number);
        let mut lease = opened.partial.lease(index).unwrap().unwrap();
        lease.write(0, &chunk_bytes(index)).unwrap();
        let digest = lease.digest().unwrap();
        match pages.verify(&listing, number.into(), digest) {
            Some(proof) if number < 2 => lease.claim(proof).unwrap(),
            _ => lease.abandon(),
        }
    }
    drop(opened);
    let rows: Vec<_> = (0..NOTED).map(|entry| (EntryIndex(entry), FileDigest([9; 32]))).collect();
    store.open_record(RECORD).unwrap().note_published(&rows).unwrap();
    let work = disk.destination().open_folder(WORK_FOLDER).unwrap();
    for name in work.names().unwrap() {
        work.open_file(&name, OpenHow::Write).unwrap().sync().unwrap();
    }
    work.sync().unwrap();
    disk.destination().sync().unwrap();
    disk
}

/// Changes bytes anywhere in the partial file and in the record. Returns whether file bytes are among them.
fn edit_partial(disk: &SimDisk, input: &mut Unstructured<'_>) -> Result<bool> {
    let work = disk.destination().open_folder(WORK_FOLDER).unwrap();
    let mut data_was_edited = false;
    for name in work.names().unwrap() {
        let file = work.open_file(&name, OpenHow::Write).unwrap();
        let length = file.facts().unwrap().length;
        let is_partial = std::path::Path::new(&name).extension().is_some_and(|ending| ending == "part");
        // Table and footer are the last three pages, and more interesting than the file's bytes.
        let tail = if is_partial { length.saturating_sub(3 * 4096) } else { 0 };
        for _ in 0..input.int_in_range(0..=12u8)? {
            let from = if input.ratio(7, 8)? { tail } else { 0 };
            let at = input.int_in_range(from..=length)?;
            data_was_edited |= is_partial && at < FILE_BYTES;
            file.write_at(&[input.arbitrary()?], at).unwrap();
        }
        // Of bytes that have run out, every ratio holds: then nothing is cut.
        if !input.ratio(7, 8)? {
            let cut = input.int_in_range(0..=length + 4096)?;
            data_was_edited |= is_partial && cut < FILE_BYTES;
            file.set_length(cut).unwrap();
        }
    }
    Ok(data_was_edited)
}

fn open_partial(disk: &SimDisk, data_was_edited: bool) {
    let store = Store::open(disk.clone()).unwrap();
    // Whatever lies there, it is no reason not to receive the file.
    let Ok(opened) = store.open_partial(&path(), Length(FILE_BYTES)) else {
        panic!("what lies in the work folder keeps the file from being received")
    };
    let (_, digests) = listing_and_digests();
    assert!(opened.claims.within(3..u64::MAX).next().is_none(), "a claim of a chunk that no file has");
    let mut merger = RootMerger::new(geometry());
    for (number, &digest) in (0..).zip(&digests) {
        let index = ChunkIndex(number);
        let counts = opened.partial.check_claim(index, digest).unwrap();
        trace(&(opened.standing, index, counts));
        assert!(!counts || opened.claims.contains(number.into()), "a claim that nobody made counts");
        if counts && (opened.standing != Standing::SameBoot || !data_was_edited) {
            assert_eq!(digest_on_disk(disk, index), Some(digest), "a claim counts, and the bytes are not there");
        }
        assert!(!opened.partial.check_claim(index, ChunkDigest([1; 32])).unwrap(), "any promise is kept");
        if let Some(root) = merger.push(digest) {
            assert!(opened.partial.seal(root).is_err(), "complete, after a claim was void");
        }
    }
}

fn open_record(disk: &SimDisk) {
    let store = Store::open(disk.clone()).unwrap();
    let record = store.open_record(RECORD).unwrap();
    let rows = record.published().unwrap();
    for &(entry, root) in &rows {
        assert!(entry.0 < NOTED && root == FileDigest([9; 32]), "a row that nobody wrote is believed");
    }
    record.note_published(&[(EntryIndex(99), FileDigest([8; 32]))]).unwrap();
    assert_eq!(record.published().unwrap().len(), rows.len() + 1, "a row after torn ones is found");
    record.contents().unwrap();
}

fn digest_on_disk(disk: &SimDisk, index: ChunkIndex) -> Option<ChunkDigest> {
    let work = disk.destination().open_folder(WORK_FOLDER).ok()?;
    let name = work.names().ok()?.into_iter().find(|name| name.ends_with(".part"))?;
    let bytes = disk.read(&format!("{WORK_FOLDER}/{name}"))?;
    let span = geometry().span(index)?;
    let from = span.offset.0 as usize;
    Some(chunk_digest(geometry(), index, bytes.get(from..from + span.length.0 as usize)?))
}

fn listing_and_digests() -> (haul::manifest::Listing, Vec<ChunkDigest>) {
    let mut builder = ListingBuilder::new();
    let kind = EntryKind::File { length: Length(FILE_BYTES) };
    builder
        .push(Entry {
            path: path(),
            kind,
            mode: Mode::masked(0),
            modified: Timestamp::clamped(0, 0),
            attributes: haul::manifest::Attributes::NONE,
        })
        .unwrap();
    let totals = builder.totals();
    let digests = (0..3).map(ChunkIndex).map(|index| chunk_digest(geometry(), index, &chunk_bytes(index))).collect();
    (builder.finish(totals).unwrap(), digests)
}

fn chunk_bytes(index: ChunkIndex) -> Vec<u8> {
    vec![index.0 as u8 + 1; geometry().span(index).unwrap().length.0 as usize]
}

fn geometry() -> Geometry {
    Geometry::of(Length(FILE_BYTES)).unwrap()
}

fn path() -> RelPath {
    RelPath::parse(FILE).unwrap()
}
