//! The ordered list of everything that is sent, checked entry by entry as it comes.

use super::{Entry, EntryIndex, EntryKind, TargetFault};
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
    links: u32,
    digest: ListingDigest,
}

/// Takes entries in order and refuses the first that breaks a rule. Work per entry does not grow with their number.
#[derive(Clone, Debug)]
pub struct ListingBuilder {
    entries: Vec<Entry>,
    first_chunks: Vec<u64>,
    totals: Totals,
    links: u32,
    /// Bytes of all entries, as [`listed_bytes`] counts them.
    listed_bytes: u64,
    hasher: PurposeHasher,
}

/// What a listing adds up to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Number of files, links among them: a link counts as a file without bytes.
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
    /// A hard link is to something else than a file before it.
    #[error("a hard link is to no file before it")]
    HardLink,
    /// A link has extended attributes.
    #[error("a link has extended attributes")]
    LinkAttributes,
    /// Entries are not in order, or their folder is not listed before them.
    #[error("an entry is out of order, or lies in a folder that is not listed")]
    Order,
    /// A symbolic link leads out of the top entry that it lies in.
    #[error("there is a symbolic link, and {0}")]
    Symlink(TargetFault),
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
            links: 0,
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
        self.listed_bytes += listed_bytes(&entry);
        if self.listed_bytes > LISTING_BYTES_MAX {
            return Err(ListingFault::TooLong);
        }
        self.check_place(&entry.path)?;
        self.check_link(&entry)?;
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
            EntryKind::HardLink { .. } | EntryKind::Symlink { .. } => {
                self.totals.files += 1;
                self.links += 1;
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
            links: self.links,
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

    fn check_link(&self, entry: &Entry) -> Result<(), ListingFault> {
        match &entry.kind {
            EntryKind::File { .. } | EntryKind::Folder => return Ok(()),
            EntryKind::HardLink { to } => {
                let first = self.entries.get(to.as_usize());
                first.and_then(Entry::file_length).ok_or(ListingFault::HardLink)?;
            }
            EntryKind::Symlink { target } => target.check_from(&entry.path).map_err(ListingFault::Symlink)?,
        }
        if entry.attributes.is_empty() { Ok(()) } else { Err(ListingFault::LinkAttributes) }
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

    /// How many entries are links, of either kind.
    pub fn links(&self) -> u32 {
        self.links
    }

    /// The digest of the canonical form of all entries.
    pub fn digest(&self) -> ListingDigest {
        self.digest
    }

    /// The split of the file at `index`; `None` for a folder, a link or past the end.
    pub fn geometry(&self, index: EntryIndex) -> Option<Geometry> {
        Geometry::of(self.entry(index)?.file_length()?)
    }

    /// Numbers of the chunks of the entry at `index`; empty for folders, links and empty files.
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

/// What an entry counts for in [`LISTING_BYTES_MAX`]: the text that it has, and 32 bytes for it and for each attribute.
fn listed_bytes(entry: &Entry) -> u64 {
    let target = match &entry.kind {
        EntryKind::Symlink { target } => target.as_str().len(),
        _ => 0,
    };
    let attributes = entry.attributes.list().iter().map(|attribute| attribute.bytes() as u64 + 32).sum::<u64>();
    entry.path.as_str().len() as u64 + target as u64 + attributes + 32
}

fn hash_entry(hasher: &mut PurposeHasher, entry: &Entry) {
    let mut fixed = [0; 24];
    let (kind, number) = match &entry.kind {
        EntryKind::Folder => (0, 0),
        EntryKind::File { length } => (1, length.0),
        EntryKind::Symlink { .. } => (2, 0),
        EntryKind::HardLink { to } => (3, u64::from(to.0)),
    };
    fixed[0] = kind;
    // At most `ATTRIBUTES_MAX`.
    fixed[1] = u8::try_from(entry.attributes.list().len()).unwrap_or(u8::MAX);
    fixed[2..4].copy_from_slice(&entry.mode.bits().to_le_bytes());
    fixed[4..8].copy_from_slice(&entry.modified.nanoseconds().to_le_bytes());
    fixed[8..16].copy_from_slice(&entry.modified.seconds().to_le_bytes());
    fixed[16..24].copy_from_slice(&number.to_le_bytes());
    hasher.field(&fixed).field(entry.path.as_str().as_bytes());
    if let EntryKind::Symlink { target } = &entry.kind {
        hasher.field(target.as_str().as_bytes());
    }
    for attribute in entry.attributes.list() {
        hasher.field(attribute.name.as_bytes()).field(&attribute.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CHUNK_BYTES_MIN, FILE_BYTES_MAX};
    use crate::manifest::{Attribute, Attributes, LinkTarget, Mode, Timestamp};

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let path = RelPath::parse(path).unwrap();
        let (mode, modified) = (Mode::masked(0o644), Timestamp::clamped(1, 2));
        Entry { path, kind, mode, modified, attributes: Attributes::NONE }
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

    fn symlink(path: &str, target: &str) -> Entry {
        entry(path, EntryKind::Symlink { target: LinkTarget::parse(target).unwrap() })
    }

    fn hard_link(path: &str, to: u32) -> Entry {
        entry(path, EntryKind::HardLink { to: EntryIndex(to) })
    }

    #[test]
    fn links_count_as_files_without_bytes_or_chunks() {
        let listing =
            build(vec![folder("d"), file("d/a", 5), symlink("d/b", "a"), hard_link("d/c", 1), file("e", 1)]).unwrap();
        assert_eq!(listing.totals(), Totals { files: 4, folders: 1, bytes: 6, chunks: 2 });
        assert_eq!(
            (listing.links(), listing.chunks_of(EntryIndex(2)), listing.chunks_of(EntryIndex(3))),
            (2, 1..1, 1..1)
        );
        assert_eq!(listing.files().collect::<Vec<_>>(), [EntryIndex(1), EntryIndex(4)]);
        assert_eq!(listing.place(1).unwrap().entry, EntryIndex(4));
    }

    #[test]
    fn row_25_a_link_out_of_its_top_entry_is_refused() {
        for (path, target) in [("d/e/a", "../.."), ("d/e/a", "../../e"), ("d/f", ".."), ("d/f", "../e")] {
            let entries = vec![folder("d"), folder("d/e"), symlink(path, target)];
            assert_eq!(build(entries).unwrap_err(), ListingFault::Symlink(TargetFault::Leaves), "{path} -> {target}");
        }
        assert_eq!(build(vec![symlink("a", "b")]).unwrap_err(), ListingFault::Symlink(TargetFault::AtTop));
    }

    #[test]
    fn row_26_nothing_lies_below_a_link() {
        let entries = vec![folder("d"), symlink("d/l", "."), file("d/l/x", 1)];
        assert_eq!(build(entries).unwrap_err(), ListingFault::Order);
        let entries = vec![folder("d"), file("d/a", 1), hard_link("d/l", 1), file("d/l/x", 1)];
        assert_eq!(build(entries).unwrap_err(), ListingFault::Order);
    }

    #[test]
    fn row_27_a_hard_link_is_to_a_file_before_it() {
        for to in [0, 2, 3, u32::MAX] {
            let entries = vec![folder("d"), file("d/a", 1), symlink("d/b", "a"), hard_link("d/c", to)];
            assert_eq!(build(entries).unwrap_err(), ListingFault::HardLink, "{to}");
        }
        let chain = vec![folder("d"), file("d/a", 1), hard_link("d/b", 1), hard_link("d/c", 2)];
        assert_eq!(build(chain).unwrap_err(), ListingFault::HardLink);
    }

    #[test]
    fn links_have_no_attributes_and_those_of_others_are_in_the_digest() {
        let with = |entry: Entry, value: &[u8]| {
            let attribute = Attribute { name: "user.a".into(), value: value.into() };
            Entry { attributes: Attributes::of(vec![attribute]).unwrap(), ..entry }
        };
        let bad = vec![folder("d"), with(symlink("d/l", "."), b"1")];
        assert_eq!(build(bad).unwrap_err(), ListingFault::LinkAttributes);
        let digest = |entry| build(vec![folder("d"), entry]).unwrap().digest();
        let (plain, one, other) =
            (digest(file("d/a", 1)), digest(with(file("d/a", 1), b"1")), digest(with(file("d/a", 1), b"2")));
        assert!(plain != one && one != other && plain != other);
        assert_ne!(digest(symlink("d/l", "a")), digest(symlink("d/l", "b")));
    }

    #[test]
    fn targets_and_attributes_count_in_the_length_of_a_listing() {
        let value = vec![0; crate::limits::ATTRIBUTES_BYTES_MAX - 6];
        let attributes = Attributes::of(vec![Attribute { name: "user.a".into(), value: value.into() }]).unwrap();
        let heavy = |n: u64| Entry { attributes: attributes.clone(), ..file(&format!("{n:09}"), 0) };
        let fitting = LISTING_BYTES_MAX / (crate::limits::ATTRIBUTES_BYTES_MAX as u64 + 9 + 64);
        assert!(build((0..fitting).map(heavy).collect()).is_ok());
        assert_eq!(build((0..=fitting).map(heavy).collect()).unwrap_err(), ListingFault::TooLong);
        let target = "t".repeat(200) + &"/t".repeat(1900);
        let link = |n: u64| symlink(&format!("d/{n:09}"), &target);
        let fitting = (LISTING_BYTES_MAX - 33) / (4000 + 11 + 32);
        let with_folder = |count| [folder("d")].into_iter().chain((0..count).map(link)).collect();
        assert!(build(with_folder(fitting)).is_ok());
        assert_eq!(build(with_folder(fitting + 1)).unwrap_err(), ListingFault::TooLong);
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
