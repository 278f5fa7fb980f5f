//! A manifest as one file: the listing, the hash of every chunk, and the seal over both.

use super::entry::{EntryFault, WireEntry, WireTotals};
use crate::chunk::Length;
use crate::digest::{ChunkDigest, DIGEST_BYTES, FileDigest, ManifestId, PurposeHasher, RootMerger, empty_file_digest};
use crate::limits::{HASH_PAGE_CHUNKS_MAX, MESSAGE_BYTES_MAX};
use crate::manifest::{EntryIndex, Listing, ListingBuilder, ListingFault, SealHasher};
use std::io::{self, Write};
use std::sync::Arc;

/// How every manifest file begins.
pub const MANIFEST_FILE_MAGIC: [u8; 8] = *b"haulmani";
/// The version of the form that is written and read.
pub const MANIFEST_FILE_VERSION: u32 = 1;
/// Magic, version, and four bytes of zero.
const HEADER_BYTES: usize = 16;
/// The length before each record.
const LENGTH_BYTES: usize = 4;
/// Rows that are taken at a time.
const ROWS_AT_ONCE: u64 = HASH_PAGE_CHUNKS_MAX as u64;
/// What the checksum is for.
const CHECKSUM_PURPOSE: &str = "haul 1 manifest file";

/// The rule that a manifest file breaks.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestFault {
    /// Its checksum is not that of its bytes.
    #[error("it is damaged: its checksum is wrong")]
    Checksum,
    /// It ends before it is complete.
    #[error("it is cut off")]
    CutOff,
    /// The listing breaks a rule.
    #[error("in its listing, {0}")]
    Listing(ListingFault),
    /// An entry or the totals cannot be read.
    #[error("a part of its listing cannot be read; a newer version may have written it")]
    Malformed,
    /// It is of a version that is not known.
    #[error("it was written by a newer version of haul")]
    Newer,
    /// An entry or the totals are not in their only form.
    #[error("a part of its listing is not in its canonical form")]
    NotCanonical,
    /// The bytes do not begin as a manifest does.
    #[error("it is not a manifest")]
    NotManifest,
    /// An entry's path, or where a link leads, breaks a rule that refuses the whole.
    #[error("an entry has an unsafe path: {0}")]
    Entry(EntryFault),
    /// Its id is not made of its listing and its hashes.
    #[error("its seal is not made of its listing and its hashes")]
    Seal,
    /// A record is longer than any.
    #[error("a part of its listing is longer than it may be")]
    TooLong,
    /// Something follows its end.
    #[error("something follows its end")]
    Trailing,
}

/// What a manifest file says, but for the hashes of chunks: those are rows of it, and stay there.
#[derive(Clone, Debug)]
pub struct ManifestHead {
    /// Everything that it lists.
    pub listing: Arc<Listing>,
    /// What names the listing together with the root of every file.
    pub id: ManifestId,
    /// Where the hash of chunk 0 lies, in bytes from the start. That of chunk *n* lies 32 × *n* bytes further.
    pub rows_at: u64,
}

/// Writes a manifest file: the listing at once, then the hashes as they come, then the seal.
#[derive(Debug)]
pub struct ManifestWriter<W> {
    out: W,
    sum: PurposeHasher,
    listing: Arc<Listing>,
    sealing: Sealing,
}

/// Reads a manifest file as its bytes come, and checks all of it.
///
/// Beside the listing it holds one record, or one page of hashes; an announced length costs nothing before its bytes
/// are there.
#[derive(Debug)]
pub struct ManifestDecoder {
    part: Part,
    /// Bytes of the part that is not complete.
    held: Vec<u8>,
    taken: u64,
    sum: PurposeHasher,
}

/// What comes next; each variant owns what is known by then.
#[derive(Debug)]
enum Part {
    Header,
    /// The length of an entry, or none any more.
    EntryLength(Box<ListingBuilder>),
    Entry(Box<ListingBuilder>, usize),
    TotalsLength(Box<ListingBuilder>),
    Totals(Box<ListingBuilder>, usize),
    Rows {
        head: Box<Hashes>,
        left: u64,
    },
    Id(Box<Hashes>),
    /// Damage anywhere shows at the seal before it shows at the checksum, and is told by its own name.
    Checksum {
        head: ManifestHead,
        is_sealed: bool,
    },
    End(ManifestHead),
    /// A fault was told, or what is owned is moving on.
    Over,
}

#[derive(Debug)]
struct Hashes {
    listing: Arc<Listing>,
    rows_at: u64,
    sealing: Sealing,
}

/// Makes roots of the hashes in listing order, and the seal of the roots.
#[derive(Clone, Debug)]
struct Sealing {
    seal: SealHasher,
    /// The first entry that the seal does not cover.
    next: u32,
    merger: Option<RootMerger>,
}

impl<W: Write> ManifestWriter<W> {
    /// Begins a file with `listing`.
    pub fn new(mut out: W, listing: Arc<Listing>) -> io::Result<Self> {
        let mut sum = PurposeHasher::new(CHECKSUM_PURPOSE);
        let mut put = |bytes: &[u8]| {
            sum.bytes(bytes);
            out.write_all(bytes)
        };
        put(&header())?;
        for entry in listing.entries() {
            put(&record(&WireEntry::from(entry))?)?;
        }
        put(&[0; LENGTH_BYTES])?;
        put(&record(&WireTotals::from(listing.totals()))?)?;
        let sealing = Sealing::new(&listing);
        Ok(Self { out, sum, listing, sealing })
    }

    /// Takes the hashes of the next chunks.
    ///
    /// # Panics
    /// When there are more than the listing has chunks.
    pub fn digests(&mut self, digests: &[ChunkDigest]) -> io::Result<()> {
        for digest in digests {
            assert!(self.sealing.push(&self.listing, *digest), "a listing has no chunk past its last");
            self.put(&digest.0)?;
        }
        Ok(())
    }

    /// Ends the file, and returns what it was written to together with the manifest's id.
    ///
    /// # Panics
    /// When the hashes of some chunks are missing.
    pub fn finish(mut self) -> io::Result<(W, ManifestId)> {
        assert!(self.sealing.is_complete(&self.listing), "every chunk has its hash");
        let id = self.sealing.seal.finish();
        self.put(&id.0)?;
        let sum = self.sum.finish();
        self.put(&sum)?;
        Ok((self.out, id))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.bytes(bytes);
        self.out.write_all(bytes)
    }
}

impl Default for ManifestDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ManifestDecoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self { part: Part::Header, held: Vec::new(), taken: 0, sum: PurposeHasher::new(CHECKSUM_PURPOSE) }
    }

    /// Takes the next bytes of the file, however they are cut. After a fault, nothing else is of use.
    pub fn decode(&mut self, mut bytes: &[u8]) -> Result<(), ManifestFault> {
        while !bytes.is_empty() || self.lacks() == Some(0) {
            let Some(lacking) = self.lacks() else { return Err(ManifestFault::Trailing) };
            let (now, later) = bytes.split_at(lacking.min(bytes.len()));
            self.held.extend_from_slice(now);
            bytes = later;
            if now.len() == lacking {
                let mut part = std::mem::take(&mut self.held);
                self.take(&part)?;
                part.clear();
                self.held = part;
            }
        }
        Ok(())
    }

    /// What the file says, once all of it was taken.
    pub fn finish(self) -> Result<ManifestHead, ManifestFault> {
        match self.part {
            Part::End(head) => Ok(head),
            _ => Err(ManifestFault::CutOff),
        }
    }

    /// Bytes that complete the part; nothing at the end.
    fn lacks(&self) -> Option<usize> {
        let whole = match &self.part {
            Part::Header => HEADER_BYTES,
            Part::EntryLength(_) | Part::TotalsLength(_) => LENGTH_BYTES,
            Part::Entry(_, bytes) | Part::Totals(_, bytes) => *bytes,
            Part::Rows { left, .. } => {
                usize::try_from((*left).min(ROWS_AT_ONCE)).unwrap_or(usize::MAX).saturating_mul(DIGEST_BYTES)
            }
            Part::Id(_) | Part::Checksum { .. } => DIGEST_BYTES,
            Part::End(_) | Part::Over => return None,
        };
        Some(whole.saturating_sub(self.held.len()))
    }

    /// Takes a complete part.
    fn take(&mut self, bytes: &[u8]) -> Result<(), ManifestFault> {
        self.taken += bytes.len() as u64;
        let part = std::mem::replace(&mut self.part, Part::Over);
        if let Part::Checksum { head, is_sealed } = part {
            if self.sum.finish() != bytes {
                return Err(ManifestFault::Checksum);
            }
            if !is_sealed {
                return Err(ManifestFault::Seal);
            }
            self.part = Part::End(head);
            return Ok(());
        }
        self.sum.bytes(bytes);
        self.part = match part {
            Part::Header => check_header(bytes).map(|()| Part::EntryLength(Box::default()))?,
            Part::EntryLength(builder) => match length(bytes)? {
                0 => Part::TotalsLength(builder),
                length => Part::Entry(builder, length),
            },
            Part::Entry(mut builder, _) => {
                let wire: WireEntry = read(bytes)?;
                let entry = wire.check().map_err(ManifestFault::Entry)?;
                // Modes and times that a listing brings into range have another form there.
                if WireEntry::from(&entry) != wire {
                    return Err(ManifestFault::NotCanonical);
                }
                builder.push(entry).map_err(ManifestFault::Listing)?;
                Part::EntryLength(builder)
            }
            Part::TotalsLength(builder) => Part::Totals(builder, length(bytes)?),
            Part::Totals(builder, _) => {
                let totals: WireTotals = read(bytes)?;
                let listing = Arc::new(builder.finish(totals.into()).map_err(ManifestFault::Listing)?);
                let (sealing, left) = (Sealing::new(&listing), listing.totals().chunks);
                Part::rows(Box::new(Hashes { listing, rows_at: self.taken, sealing }), left)
            }
            Part::Rows { mut head, left } => {
                let (rows, _) = bytes.as_chunks::<DIGEST_BYTES>();
                for row in rows {
                    head.sealing.push(&head.listing, ChunkDigest(*row));
                }
                Part::rows(head, left - rows.len() as u64)
            }
            Part::Id(head) => {
                let Hashes { listing, rows_at, sealing } = *head;
                let id = sealing.seal.finish();
                Part::Checksum { head: ManifestHead { listing, id, rows_at }, is_sealed: id.0 == bytes }
            }
            Part::Checksum { .. } | Part::End(_) | Part::Over => Part::Over,
        };
        Ok(())
    }
}

impl Part {
    fn rows(head: Box<Hashes>, left: u64) -> Self {
        if left == 0 { Self::Id(head) } else { Self::Rows { head, left } }
    }
}

impl Sealing {
    fn new(listing: &Listing) -> Self {
        let mut sealing = Self { seal: SealHasher::new(listing.digest()), next: 0, merger: None };
        sealing.pass_files_without_chunks(listing);
        sealing
    }

    /// Takes the hash of the next chunk. False where there is none.
    fn push(&mut self, listing: &Listing, digest: ChunkDigest) -> bool {
        let entry = EntryIndex(self.next);
        if self.merger.is_none() {
            self.merger = listing.geometry(entry).map(RootMerger::new);
        }
        let Some(merger) = &mut self.merger else { return false };
        if let Some(root) = merger.push(digest) {
            self.seal_file(root);
            self.pass_files_without_chunks(listing);
        }
        true
    }

    fn is_complete(&self, listing: &Listing) -> bool {
        self.merger.is_none() && listing.entry(EntryIndex(self.next)).is_none()
    }

    fn seal_file(&mut self, root: FileDigest) {
        self.seal.push(Some(root));
        self.merger = None;
        self.next += 1;
    }

    fn pass_files_without_chunks(&mut self, listing: &Listing) {
        while let Some(entry) = listing.entry(EntryIndex(self.next)) {
            match entry.file_length() {
                Some(Length(0)) => self.seal_file(empty_file_digest()),
                Some(_) => return,
                None => self.next += 1,
            }
        }
    }
}

fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MANIFEST_FILE_MAGIC);
    header[8..12].copy_from_slice(&MANIFEST_FILE_VERSION.to_le_bytes());
    header
}

fn check_header(bytes: &[u8]) -> Result<(), ManifestFault> {
    match bytes {
        _ if bytes == header() => Ok(()),
        _ if bytes.starts_with(&MANIFEST_FILE_MAGIC) => Err(ManifestFault::Newer),
        _ => Err(ManifestFault::NotManifest),
    }
}

fn record(value: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    let refused = |_| io::Error::from(io::ErrorKind::InvalidData);
    let mut record = postcard::to_extend(value, vec![0; LENGTH_BYTES]).map_err(refused)?;
    let body_bytes = record.len() - LENGTH_BYTES;
    let length = u32::try_from(body_bytes).ok().filter(|_| body_bytes <= MESSAGE_BYTES_MAX);
    record[..LENGTH_BYTES].copy_from_slice(&length.ok_or(io::ErrorKind::InvalidData)?.to_le_bytes());
    Ok(record)
}

fn length(bytes: &[u8]) -> Result<usize, ManifestFault> {
    let length = bytes.try_into().map(u32::from_le_bytes).map_err(|_| ManifestFault::Malformed)?;
    let length = usize::try_from(length).map_err(|_| ManifestFault::TooLong)?;
    if length > MESSAGE_BYTES_MAX { Err(ManifestFault::TooLong) } else { Ok(length) }
}

/// Reads a value that has one form, which all of the bytes are.
fn read<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, ManifestFault> {
    let value = postcard::from_bytes(bytes).map_err(|_| ManifestFault::Malformed)?;
    let canonical = postcard::to_allocvec(&value).map_err(|_| ManifestFault::Malformed)?;
    if canonical == bytes { Ok(value) } else { Err(ManifestFault::NotCanonical) }
}
