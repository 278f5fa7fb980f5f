//! Chunk hashes as they stream in, and the one place where a chunk is found to be what was promised.

use super::{EntryIndex, Listing};
use crate::chunk::ChunkIndex;
use crate::digest::{ChunkDigest, FileDigest, RootMerger};
use crate::limits::HASH_PAGE_CHUNKS_MAX;
use std::collections::BTreeMap;

/// Proof that a chunk's bytes, read from where they lie, have the hash that the manifest promises.
///
/// Only [`HashPages::verify`] makes one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VerifiedChunk {
    entry: EntryIndex,
    index: ChunkIndex,
    digest: ChunkDigest,
}

/// The chunk hashes that a receiver holds: those that came and whose chunks are not all done.
///
/// Pages come in chunk order without gaps, except for files that are left out. Each file's root is merged on the way,
/// so no page is kept for its sake.
#[derive(Clone, Debug)]
pub struct HashPages {
    /// First chunk number of each page to its digests.
    pages: BTreeMap<u64, Vec<ChunkDigest>>,
    held: u64,
    next: u64,
    merger: Option<(EntryIndex, RootMerger)>,
}

/// The rule that a hash page breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PageFault {
    /// It does not start at the chunk that is next.
    #[error("a hash page does not start where the one before ended")]
    Misplaced,
    /// It holds no hash, or more than a page may.
    #[error("a hash page holds no hash or too many")]
    Size,
    /// It goes past the listing's last chunk.
    #[error("a hash page describes chunks that no file has")]
    TooFar,
}

impl VerifiedChunk {
    /// The file that the chunk belongs to.
    pub fn entry(&self) -> EntryIndex {
        self.entry
    }

    /// The chunk within its file.
    pub fn index(&self) -> ChunkIndex {
        self.index
    }

    /// The hash that bytes and manifest agree on.
    pub fn digest(&self) -> ChunkDigest {
        self.digest
    }
}

impl Default for HashPages {
    fn default() -> Self {
        Self::new()
    }
}

impl HashPages {
    /// No page yet; the first chunk's is next.
    pub fn new() -> Self {
        Self { pages: BTreeMap::new(), held: 0, next: 0, merger: None }
    }

    /// Number of the first chunk whose hash has not come.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Number of hashes held.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Takes the page of hashes from chunk `first` on, and returns the root of every file that it completes.
    pub fn push(
        &mut self,
        listing: &Listing,
        first: u64,
        digests: Vec<ChunkDigest>,
    ) -> Result<Vec<(EntryIndex, FileDigest)>, PageFault> {
        if first != self.next {
            return Err(PageFault::Misplaced);
        }
        if digests.is_empty() || digests.len() > usize::from(HASH_PAGE_CHUNKS_MAX) {
            return Err(PageFault::Size);
        }
        let end = first.checked_add(digests.len() as u64).filter(|&end| end <= listing.totals().chunks);
        let end = end.ok_or(PageFault::TooFar)?;
        let mut roots = Vec::new();
        for (number, &digest) in (first..).zip(&digests) {
            let (entry, mut merger) = if let Some(under_way) = self.merger.take() {
                under_way
            } else {
                let place = listing.place(number).ok_or(PageFault::TooFar)?;
                (place.entry, RootMerger::new(place.geometry))
            };
            match merger.push(digest) {
                Some(root) => roots.push((entry, root)),
                None => self.merger = Some((entry, merger)),
            }
        }
        self.next = end;
        self.held += digests.len() as u64;
        self.keep(first, digests);
        Ok(roots)
    }

    /// Keeps a page, together with the one before it where both fit one: pages of a single hash each would otherwise
    /// cost three times their bytes.
    fn keep(&mut self, first: u64, digests: Vec<ChunkDigest>) {
        if let Some(mut before) = self.pages.last_entry()
            && before.key() + before.get().len() as u64 == first
            && before.get().len() + digests.len() <= usize::from(HASH_PAGE_CHUNKS_MAX)
        {
            before.get_mut().extend(digests);
        } else {
            self.pages.insert(first, digests);
        }
    }

    /// Leaves out the hashes of all chunks before `next`, a file's first chunk: its files are left out or failed.
    pub fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
        self.merger = None;
    }

    /// The promised hash of chunk `number`, where its page is held.
    pub fn promised(&self, number: u64) -> Option<ChunkDigest> {
        let (first, digests) = self.pages.range(..=number).next_back()?;
        digests.get(usize::try_from(number - first).ok()?).copied()
    }

    /// Compares what the bytes of chunk `number` hash to, where they lie, with what was promised.
    pub fn verify(&self, listing: &Listing, number: u64, found: ChunkDigest) -> Option<VerifiedChunk> {
        let place = listing.place(number)?;
        let digest = self.promised(number).filter(|&promised| promised == found)?;
        Some(VerifiedChunk { entry: place.entry, index: place.index, digest })
    }

    /// Lets go of every page whose chunks all lie before `number`.
    pub fn release_before(&mut self, number: u64) {
        while let Some(page) = self.pages.first_entry() {
            if page.key() + page.get().len() as u64 > number {
                break;
            }
            self.held -= page.remove().len() as u64;
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::chunk::Length;
    use crate::digest::chunk_digest;
    use crate::limits::CHUNK_BYTES_MIN;
    use crate::manifest::{Entry, EntryKind, ListingBuilder, Mode, Timestamp};
    use crate::rel_path::RelPath;

    const LENGTHS: [u64; 4] = [1, 0, 3 * CHUNK_BYTES_MIN + 7, CHUNK_BYTES_MIN];

    fn listing() -> Listing {
        let mut builder = ListingBuilder::new();
        for (i, length) in LENGTHS.into_iter().enumerate() {
            let path = RelPath::parse(&format!("f{i}")).unwrap();
            let kind = EntryKind::File { length: Length(length) };
            builder
                .push(Entry {
                    path,
                    kind,
                    mode: Mode::masked(0o644),
                    modified: Timestamp::clamped(0, 0),
                    attributes: crate::manifest::Attributes::NONE,
                })
                .unwrap();
        }
        let totals = builder.totals();
        builder.finish(totals).unwrap()
    }

    fn digests(listing: &Listing) -> Vec<ChunkDigest> {
        (0..listing.totals().chunks)
            .map(|number| {
                let place = listing.place(number).unwrap();
                chunk_digest(place.geometry, place.index, &vec![7; place.length().0 as usize])
            })
            .collect()
    }

    #[test]
    fn roots_come_with_the_page_that_completes_them_however_pages_are_cut() {
        let listing = listing();
        let all = digests(&listing);
        for size in 1..=all.len() {
            let mut pages = HashPages::new();
            let mut roots = Vec::new();
            for part in all.chunks(size) {
                roots.extend(pages.push(&listing, pages.next(), part.to_vec()).unwrap());
            }
            let expected: Vec<_> =
                [0, 2, 3].into_iter().map(|i| (EntryIndex(i), FileDigest(root_of(LENGTHS[i as usize])))).collect();
            assert_eq!(roots, expected, "pages of {size}");
            assert_eq!(pages.held(), all.len() as u64);
            pages.release_before(u64::MAX);
            assert_eq!((pages.held(), pages.promised(0)), (0, None));
        }
    }

    fn root_of(length: u64) -> [u8; 32] {
        let geometry = crate::chunk::Geometry::of(Length(length)).unwrap();
        let mut merger = RootMerger::new(geometry);
        let mut root = [0; 32];
        for index in 0..geometry.count().0 {
            let bytes = vec![7; geometry.span(ChunkIndex(index)).unwrap().length.0 as usize];
            if let Some(done) = merger.push(chunk_digest(geometry, ChunkIndex(index), &bytes)) {
                root = done.0;
            }
        }
        root
    }

    #[test]
    fn only_the_promised_hash_verifies() {
        let listing = listing();
        let all = digests(&listing);
        let mut pages = HashPages::new();
        assert_eq!(pages.verify(&listing, 0, all[0]), None, "no page, no proof");
        pages.push(&listing, 0, all.clone()).unwrap();
        for number in 0..listing.totals().chunks {
            let chunk = pages.verify(&listing, number, all[number as usize]).unwrap();
            assert_eq!(chunk.entry(), listing.place(number).unwrap().entry);
            assert_eq!(pages.verify(&listing, number, ChunkDigest([0; 32])), None);
        }
        assert_eq!(pages.verify(&listing, 99, all[0]), None);
    }

    #[test]
    fn row_43_misplaced_empty_and_overlong_pages_are_refused() {
        let listing = listing();
        let all = digests(&listing);
        let mut pages = HashPages::new();
        assert_eq!(pages.push(&listing, 1, all.clone()), Err(PageFault::Misplaced));
        assert_eq!(pages.push(&listing, 0, vec![]), Err(PageFault::Size));
        assert_eq!(pages.push(&listing, 0, vec![all[0]; 1025]), Err(PageFault::Size));
        assert_eq!(pages.push(&listing, 0, vec![all[0]; all.len() + 1]), Err(PageFault::TooFar));
        pages.push(&listing, 0, all[..1].to_vec()).unwrap();
        assert_eq!(pages.push(&listing, 0, all), Err(PageFault::Misplaced));
    }
}
