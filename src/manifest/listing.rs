//! The ordered list of everything that is sent, checked entry by entry as it comes.

use super::{Entry, EntryIndex, EntryKind};
use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::{ListingDigest, PurposeHasher};
use crate::limits::{ENTRIES_MAX, LISTING_BYTES_MAX, TOTAL_BYTES_MAX};
use crate::rel_path::RelPath;
use std::cmp::Ordering;
use std::ops::Range;

/// A complete listing. It cannot change: what a receiver accepted is what it gets.
#[derive(Clone, Debug)]
pub struct Listing {
    entries: Vec<Entry>,
    /// Number of the first chunk of each entry.
    first_chunks: Vec<u64>,
    totals: Totals,
    digest: ListingDigest,
}

/// Takes entries in order and refuses the first that breaks a rule. Work per entry does not grow with their number.
#[derive(Clone, Debug)]
pub struct ListingBuilder {
    entries: Vec<Entry>,
    first_chunks: Vec<u64>,
    totals: Totals,
    /// Bytes of all entries: their paths, and 32 each for everything else.
    listed_bytes: u64,
    hasher: PurposeHasher,
}

/// What a listing adds up to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Number of files.
    pub files: u32,
    /// Number of folders.
    pub folders: u32,
    /// Bytes of all files.
    pub bytes: u64,
    /// Chunks of all files.
    pub chunks: u64,
}

/// Which chunk of which entry a chunk number stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChunkPlace {
    /// The file.
    pub entry: EntryIndex,
    /// The chunk within it.
    pub index: ChunkIndex,
    /// The split of the file.
    pub geometry: Geometry,
}

/// The rule that a listing breaks.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ListingFault {
    /// Two entries have one path.
    #[error("two entries have the same path")]
    Duplicate,
    /// There is nothing in it.
    #[error("the listing is empty")]
    Empty,
    /// A file is longer than can be sent.
    #[error("a file is longer than can be sent")]
    FileTooLong,
    /// Entries are not in order, or their folder is not listed before them.
    #[error("an entry is out of order, or lies in a folder that is not listed")]
    Order,
    /// Paths and what comes with them are longer together than a listing may be.
    #[error("the listing is longer than {LISTING_BYTES_MAX} bytes")]
    TooLong,
    /// There are more entries than a listing may have.
    #[error("there are more than {ENTRIES_MAX} entries")]
    TooMany,
    /// The lengths add up to more than can be sent.
    #[error("the files together are longer than can be sent")]
    TotalTooLong,
    /// The totals stated at its end are not what the entries add up to.
    #[error("the totals are not what the entries add up to")]
    Totals,
}

impl Default for ListingBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ListingBuilder {
    /// A builder without entries.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            first_chunks: Vec::new(),
            totals: Totals::default(),
            listed_bytes: 0,
            hasher: PurposeHasher::new("haul 1 listing"),
        }
    }

    /// Number of entries taken.
    pub fn len(&self) -> u32 {
        self.totals.files + self.totals.folders
    }

    /// Whether no entry was taken.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the next entry.
    pub fn push(&mut self, entry: Entry) -> Result<(), ListingFault> {
        if self.len() >= ENTRIES_MAX {
            return Err(ListingFault::TooMany);
        }
        self.listed_bytes += entry.path.as_str().len() as u64 + 32;
        if self.listed_bytes > LISTING_BYTES_MAX {
            return Err(ListingFault::TooLong);
        }
        self.check_place(&entry.path)?;
        let first_chunk = self.totals.chunks;
        match entry.kind {
            EntryKind::Folder => self.totals.folders += 1,
            EntryKind::File { length } => {
                let geometry = Geometry::of(length).ok_or(ListingFault::FileTooLong)?;
                let bytes = self.totals.bytes.checked_add(length.0).filter(|&sum| sum <= TOTAL_BYTES_MAX);
                self.totals.bytes = bytes.ok_or(ListingFault::TotalTooLong)?;
                self.totals.chunks += u64::from(geometry.count().0);
                self.totals.files += 1;
            }
        }
        hash_entry(&mut self.hasher, &entry);
        self.first_chunks.push(first_chunk);
        self.entries.push(entry);
        Ok(())
    }

    /// The listing of all entries taken, if they add up to `totals` and there is at least one.
    pub fn finish(self, totals: Totals) -> Result<Listing, ListingFault> {
        if self.entries.is_empty() {
            return Err(ListingFault::Empty);
        }
        if totals != self.totals {
            return Err(ListingFault::Totals);
        }
        Ok(Listing {
            digest: ListingDigest(self.hasher.finish()),
            entries: self.entries,
            first_chunks: self.first_chunks,
            totals,
        })
    }

    /// What the entries taken add up to.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Strictly rising order rules out a path twice. A folder's children follow it directly in that order, so the
    /// entry before, or a folder above it, is the only place where the parent can be.
    fn check_place(&self, path: &RelPath) -> Result<(), ListingFault> {
        let Some(before) = self.entries.last() else {
            return if path.parent().is_none() { Ok(()) } else { Err(ListingFault::Order) };
        };
        match before.path.cmp(path) {
            Ordering::Less => {}
            Ordering::Equal => return Err(ListingFault::Duplicate),
            Ordering::Greater => return Err(ListingFault::Order),
        }
        let Some(parent) = path.parent() else { return Ok(()) };
        let in_before = before.kind == EntryKind::Folder && before.path == parent;
        // Every folder on the way down to the entry before is listed: the same check held for each of them.
        let above_before = before.path.as_str().strip_prefix(parent.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if in_before || above_before { Ok(()) } else { Err(ListingFault::Order) }
    }
}

impl Listing {
    /// All entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `index`, if there is one.
    pub fn entry(&self, index: EntryIndex) -> Option<&Entry> {
        self.entries.get(index.as_usize())
    }

    /// What the entries add up to.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The digest of the canonical form of all entries.
    pub fn digest(&self) -> ListingDigest {
        self.digest
    }

    /// The split of the file at `index`; `None` for a folder or past the end.
    pub fn geometry(&self, index: EntryIndex) -> Option<Geometry> {
        Geometry::of(self.entry(index)?.file_length()?)
    }

    /// Numbers of the chunks of the entry at `index`; empty for folders and empty files.
    pub fn chunks_of(&self, index: EntryIndex) -> Range<u64> {
        let start = self.first_chunks.get(index.as_usize()).copied().unwrap_or(self.totals.chunks);
        let end = self.first_chunks.get(index.as_usize() + 1).copied().unwrap_or(self.totals.chunks);
        start..end
    }

    /// Where chunk `number` belongs, or `None` past the last one.
    pub fn place(&self, number: u64) -> Option<ChunkPlace> {
        if number >= self.totals.chunks {
            return None;
        }
        // The last entry whose first chunk is not after `number`: entries without chunks share their number with the
        // next entry that has some, and come before it.
        let after = self.first_chunks.partition_point(|&first| first <= number);
        let entry = EntryIndex(u32::try_from(after.checked_sub(1)?).ok()?);
        let index = ChunkIndex(u32::try_from(number - self.first_chunks[entry.as_usize()]).ok()?);
        Some(ChunkPlace { entry, index, geometry: self.geometry(entry)? })
    }

    /// The indices of all files, in order.
    pub fn files(&self) -> impl Iterator<Item = EntryIndex> + '_ {
        (0u32..).zip(&self.entries).filter(|(_, entry)| entry.file_length().is_some()).map(|(i, _)| EntryIndex(i))
    }
}

impl ChunkPlace {
    /// Length of the chunk.
    pub fn length(&self) -> Length {
        self.geometry.span(self.index).map_or(Length(0), |span| span.length)
    }
}

fn hash_entry(hasher: &mut PurposeHasher, entry: &Entry) {
    let mut fixed = [0; 24];
    let (kind, length) = match entry.kind {
        EntryKind::Folder => (0, 0),
        EntryKind::File { length } => (1, length.0),
    };
    fixed[0] = kind;
    fixed[2..4].copy_from_slice(&entry.mode.bits().to_le_bytes());
    fixed[4..8].copy_from_slice(&entry.modified.nanoseconds().to_le_bytes());
    fixed[8..16].copy_from_slice(&entry.modified.seconds().to_le_bytes());
    fixed[16..24].copy_from_slice(&length.to_le_bytes());
    hasher.field(&fixed).field(entry.path.as_str().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CHUNK_BYTES_MIN, FILE_BYTES_MAX};
    use crate::manifest::{Mode, Timestamp};

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let path = RelPath::parse(path).unwrap();
        Entry { path, kind, mode: Mode::masked(0o644), modified: Timestamp::clamped(1, 2) }
    }

    fn file(path: &str, bytes: u64) -> Entry {
        entry(path, EntryKind::File { length: Length(bytes) })
    }

    fn folder(path: &str) -> Entry {
        entry(path, EntryKind::Folder)
    }

    fn build(entries: Vec<Entry>) -> Result<Listing, ListingFault> {
        let mut builder = ListingBuilder::new();
        for entry in entries {
            builder.push(entry)?;
        }
        let totals = builder.totals();
        builder.finish(totals)
    }

    #[test]
    fn chunk_numbers_skip_what_has_no_chunk() {
        let listing = build(vec![
            file("a", 0),
            folder("b"),
            file("b/one", 1),
            file("b/two", 2 * CHUNK_BYTES_MIN + 1),
            folder("c"),
            file("d", 5),
        ])
        .unwrap();
        assert_eq!(listing.totals(), Totals { files: 4, folders: 2, bytes: 6 + 2 * CHUNK_BYTES_MIN + 1, chunks: 5 });
        let places: Vec<_> = (0..6).map(|n| listing.place(n).map(|p| (p.entry.0, p.index.0, p.length().0))).collect();
        let expected = [(2, 0, 1), (3, 0, CHUNK_BYTES_MIN), (3, 1, CHUNK_BYTES_MIN), (3, 2, 1), (5, 0, 5)];
        assert_eq!(places[..5], expected.map(Some));
        assert_eq!(places[5], None);
        assert_eq!(listing.chunks_of(EntryIndex(0)), 0..0);
        assert_eq!(listing.chunks_of(EntryIndex(3)), 1..4);
        assert_eq!(listing.chunks_of(EntryIndex(5)), 4..5);
    }

    #[test]
    fn row_19_two_equal_paths_are_refused() {
        assert_eq!(build(vec![file("a", 1), file("a", 1)]).unwrap_err(), ListingFault::Duplicate);
    }

    #[test]
    fn row_21_a_file_with_a_child_is_refused() {
        assert_eq!(build(vec![file("a", 1), file("a/b", 1)]).unwrap_err(), ListingFault::Order);
    }

    #[test]
    fn a_child_without_its_folder_is_refused() {
        assert_eq!(build(vec![file("a/b", 1)]).unwrap_err(), ListingFault::Order);
        assert_eq!(build(vec![folder("a"), file("a/b/c", 1)]).unwrap_err(), ListingFault::Order);
        assert_eq!(build(vec![folder("a"), file("a/b", 1), file("ab/c", 1)]).unwrap_err(), ListingFault::Order);
        assert!(build(vec![folder("a"), folder("a/b"), file("a/b/c", 1), file("a/d", 1), file("a.b", 1)]).is_ok());
    }

    #[test]
    fn row_36_and_37_lengths_out_of_range_are_refused() {
        assert_eq!(build(vec![file("a", u64::MAX)]).unwrap_err(), ListingFault::FileTooLong);
        assert_eq!(build(vec![file("a", FILE_BYTES_MAX + 1)]).unwrap_err(), ListingFault::FileTooLong);
        let many = (0..1025).map(|i| file(&format!("{i:04}"), FILE_BYTES_MAX)).collect();
        assert_eq!(build(many).unwrap_err(), ListingFault::TotalTooLong);
    }

    #[test]
    fn row_48_an_empty_listing_and_false_totals_are_refused() {
        assert_eq!(build(vec![]).unwrap_err(), ListingFault::Empty);
        let mut builder = ListingBuilder::new();
        builder.push(file("a", 1)).unwrap();
        let totals = Totals { bytes: 2, ..builder.totals() };
        assert_eq!(builder.finish(totals).unwrap_err(), ListingFault::Totals);
    }

    #[test]
    fn every_field_counts_in_the_digest() {
        let base = build(vec![file("a", 1)]).unwrap().digest();
        let mode = Entry { mode: Mode::masked(0o600), ..file("a", 1) };
        let time = Entry { modified: Timestamp::clamped(1, 3), ..file("a", 1) };
        for other in [file("b", 1), file("a", 2), folder("a"), mode, time] {
            assert_ne!(build(vec![other]).unwrap().digest(), base);
        }
    }
}
