//! An offer whose bytes and hashes are known, and the least receiver that a store can have.
#![allow(dead_code)] // Each test binary uses its part.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // Test code, on 64-bit machines.

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::{ChunkDigest, FileDigest, RootMerger, chunk_digest, empty_file_digest};
use haul::manifest::{
    Attributes, Entry, EntryIndex, EntryKind, HashPages, Listing, ListingBuilder, Mode, Timestamp, VerifiedChunk,
};
use haul::rel_path::RelPath;
use haul::store::{
    Disk, Existing, OnConflict, PartialFile, Publication, Published, RecordId, SealedFile, Standing, Store, StoreError,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest stretch that is written at once.
const PIECE: usize = 256 * 1024;

/// Files and folders as a sender lists them, with their bytes.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) listing: Listing,
    pages: HashPages,
    bytes: Vec<Vec<u8>>,
}

/// What a receiver did.
#[derive(Debug, Default)]
pub(crate) struct Receipt {
    pub(crate) published: Vec<Published>,
    /// Chunks that were fetched.
    pub(crate) fetched: u64,
    /// Claims that held.
    pub(crate) reused: u64,
}

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

pub(crate) fn when() -> Timestamp {
    Timestamp::clamped(1_234_567_890, 123_456_700)
}

pub(crate) fn wish(text: &str, conflict: OnConflict) -> Publication {
    Publication {
        path: path(text),
        mode: Mode::masked(0o640),
        modified: when(),
        conflict,
        read_back: false,
        attributes: Attributes::NONE,
    }
}

impl Offer {
    /// Entries in listing order; `None` for a folder.
    pub(crate) fn of(entries: &[(&str, Option<Vec<u8>>)]) -> Self {
        let mut builder = ListingBuilder::new();
        for (text, bytes) in entries {
            let kind = match bytes {
                Some(bytes) => EntryKind::File { length: Length(bytes.len() as u64) },
                None => EntryKind::Folder,
            };
            let mode = Mode::masked(if bytes.is_some() { 0o640 } else { 0o750 });
            builder
                .push(Entry { path: path(text), kind, mode, modified: when(), attributes: Attributes::NONE })
                .unwrap();
        }
        let totals = builder.totals();
        let listing = builder.finish(totals).unwrap();
        let bytes: Vec<Vec<u8>> = entries.iter().map(|(_, bytes)| bytes.clone().unwrap_or_default()).collect();
        let mut offer = Self { listing, pages: HashPages::new(), bytes };
        let digests: Vec<ChunkDigest> = (0..offer.listing.totals().chunks)
            .map(|number| {
                let place = offer.listing.place(number).unwrap();
                let span = place.geometry.span(place.index).unwrap();
                let range = span.offset.0 as usize..(span.offset.0 + span.length.0) as usize;
                chunk_digest(place.geometry, place.index, &offer.bytes[place.entry.as_usize()][range])
            })
            .collect();
        for page in digests.chunks(1024) {
            let next = offer.pages.next();
            offer.pages.push(&offer.listing, next, page.to_vec()).unwrap();
        }
        offer
    }

    pub(crate) fn one(text: &str, bytes: Vec<u8>) -> Self {
        Self::of(&[(text, Some(bytes))])
    }

    pub(crate) fn bytes(&self, entry: u32) -> &[u8] {
        &self.bytes[entry as usize]
    }

    pub(crate) fn geometry(&self, entry: u32) -> Geometry {
        self.listing.geometry(EntryIndex(entry)).unwrap()
    }

    pub(crate) fn promised(&self, entry: u32, index: u32) -> ChunkDigest {
        self.pages.promised(self.listing.chunks_of(EntryIndex(entry)).start + u64::from(index)).unwrap()
    }

    pub(crate) fn verify(&self, entry: u32, index: u32, found: ChunkDigest) -> Option<VerifiedChunk> {
        let number = self.listing.chunks_of(EntryIndex(entry)).start + u64::from(index);
        self.pages.verify(&self.listing, number, found)
    }

    pub(crate) fn root(&self, entry: u32) -> FileDigest {
        let geometry = self.geometry(entry);
        let mut merger = RootMerger::new(geometry);
        let digests = (0..geometry.count().0).map(|index| self.promised(entry, index));
        digests.fold(empty_file_digest(), |root, digest| merger.push(digest).unwrap_or(root))
    }

    /// Paths to bytes of every file.
    pub(crate) fn files(&self) -> BTreeMap<&str, &[u8]> {
        let files = self.listing.files();
        files.map(|i| (self.listing.entry(i).unwrap().path.as_str(), self.bytes(i.0))).collect()
    }

    /// Fetches one chunk into its place, a piece at a time, as zeros where it is.
    pub(crate) fn fetch<D: Disk>(
        &self,
        partial: &Arc<PartialFile<D>>,
        entry: u32,
        index: u32,
    ) -> Result<(), StoreError> {
        let mut lease = partial.lease(ChunkIndex(index))?.expect("nobody else fetches");
        let span = lease.span();
        let bytes = &self.bytes(entry)[span.offset.0 as usize..(span.offset.0 + span.length.0) as usize];
        for (number, piece) in bytes.chunks(PIECE).enumerate() {
            let offset = (number * PIECE) as u64;
            if piece.iter().all(|&byte| byte == 0) {
                lease.zeros(offset, piece.len() as u64)?;
            } else {
                lease.fill(offset, piece.len(), |into| {
                    into.copy_from_slice(piece);
                    Ok::<_, StoreError>(())
                })?;
            }
        }
        let found = lease.digest()?;
        lease.claim(self.verify(entry, index, found).expect("the disk holds what was written"))
    }

    /// Checks what is claimed and fetches the rest.
    pub(crate) fn complete<D: Disk>(
        &self,
        store: &Store<D>,
        entry: u32,
        receipt: &mut Receipt,
    ) -> Result<SealedFile<D>, StoreError> {
        let listed = self.listing.entry(EntryIndex(entry)).unwrap();
        let opened = store.open_partial(&listed.path, listed.file_length().unwrap())?;
        if opened.standing == Standing::Fresh {
            assert!(opened.claims.is_empty(), "a new file claims nothing");
        }
        for index in 0..self.geometry(entry).count().0 {
            let is_claimed = opened.claims.contains(index.into());
            if is_claimed && opened.partial.check_claim(ChunkIndex(index), self.promised(entry, index))? {
                receipt.reused += 1;
            } else {
                self.fetch(&opened.partial, entry, index)?;
                receipt.fetched += 1;
            }
        }
        opened.partial.seal(self.root(entry))
    }

    /// Receives everything, as a transfer would; files that are there already are left.
    pub(crate) fn receive<D: Disk>(&self, store: &Store<D>, conflict: OnConflict) -> Result<Receipt, StoreError> {
        let mut receipt = Receipt::default();
        let record = store.open_record(RecordId([9; 16]))?;
        record.set_contents(b"link")?;
        let mut batch = Vec::new();
        let mut folders = Vec::new();
        for (number, entry) in (0..).zip(self.listing.entries()) {
            let Some(length) = entry.file_length() else {
                store.make_folder(&entry.path)?;
                folders.push((entry.path.clone(), entry.mode, entry.modified));
                continue;
            };
            if store.look(&entry.path)? == (Existing::File { length })
                && store.hash_existing(&entry.path, self.geometry(number))? == Some(self.root(number))
            {
                continue;
            }
            let wish = Publication {
                path: entry.path.clone(),
                mode: entry.mode,
                modified: entry.modified,
                conflict,
                read_back: false,
                attributes: entry.attributes.clone(),
            };
            if self.geometry(number).is_single() {
                let (file, found) = store.write_single(wish, self.bytes(number))?;
                let proof =
                    (length.0 > 0).then(|| self.verify(number, 0, found).expect("the disk holds what was written"));
                batch.push((file, proof));
            } else {
                let sealed = self.complete(store, number, &mut receipt)?;
                receipt.published.push(store.publish(sealed, &wish)?);
                record.note_published(&[(EntryIndex(number), self.root(number))])?;
            }
        }
        for published in store.publish_batch(batch) {
            receipt.published.push(published?);
        }
        for (_, finished) in store.finish_folders(folders) {
            finished?;
        }
        record.remove()?;
        Ok(receipt)
    }
}
