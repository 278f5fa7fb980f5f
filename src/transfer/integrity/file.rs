//! A manifest on disk, read and checked; its hashes stay there until they are needed.

use crate::chunk::Length;
use crate::digest::{ChunkDigest, DIGEST_BYTES, FileDigest, ManifestId, RootMerger, empty_file_digest};
use crate::limits::{HASH_PAGE_CHUNKS_MAX, PIPED_MANIFEST_BYTES_MAX};
use crate::manifest::{B3SUM_LINE_BYTES_MAX, EntryIndex, Listing, SumList};
use crate::printable::printable_path;
use crate::transfer::TransferError;
use crate::wire::{MANIFEST_FILE_MAGIC, ManifestDecoder, ManifestHead};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are read at a time.
const STEP_BYTES: usize = 256 * 1024;

/// A whole and valid manifest. Cheap to clone.
///
/// Its listing is in memory. The hashes of chunks are read from the file when they are asked for; what the file said as
/// a whole is known by its [id](ManifestFile::id), so that a file that changes meanwhile is found out.
#[derive(Clone, Debug)]
pub struct ManifestFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    head: ManifestHead,
    rows: Rows,
}

/// Where the hashes are.
#[derive(Debug)]
enum Rows {
    File(File),
    /// A pipe is read once.
    Memory(Vec<u8>),
}

/// What a folder can be checked against.
#[derive(Debug)]
pub(super) enum Reference {
    Manifest(ManifestFile),
    /// Hashes of whole files alone.
    Sums(SumList),
}

impl ManifestFile {
    /// Reads and checks the manifest at `path`.
    ///
    /// # Errors
    /// [`TransferError::Io`] where it cannot be read, or is none.
    pub fn open(path: &Path) -> Result<Self, TransferError> {
        match Reference::open(path)? {
            Reference::Manifest(manifest) => Ok(manifest),
            Reference::Sums(_) => {
                Err(unusable(path, "it is a list of hashes of whole files, and a manifest is needed".into()))
            }
        }
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What it lists.
    pub fn listing(&self) -> &Arc<Listing> {
        &self.0.head.listing
    }

    /// What names it: the same that a transfer of the same files has.
    pub fn id(&self) -> ManifestId {
        self.0.head.id
    }

    /// The hashes of `chunks`, by their numbers in the listing.
    pub(in crate::transfer) fn digests(&self, chunks: Range<u64>) -> Result<Vec<ChunkDigest>, TransferError> {
        let read = || -> io::Result<Vec<ChunkDigest>> {
            let count =
                usize::try_from(chunks.end.saturating_sub(chunks.start)).map_err(|_| ErrorKind::InvalidInput)?;
            let at = self.0.head.rows_at + chunks.start * DIGEST_BYTES as u64;
            let mut bytes = vec![0; count * DIGEST_BYTES];
            match &self.0.rows {
                Rows::File(file) => file.read_exact_at(&mut bytes, at)?,
                Rows::Memory(whole) => {
                    let start = usize::try_from(at).map_err(|_| ErrorKind::InvalidInput)?;
                    let rows = whole.get(start..start + bytes.len()).ok_or(ErrorKind::UnexpectedEof)?;
                    bytes.copy_from_slice(rows);
                }
            }
            Ok(bytes.as_chunks::<DIGEST_BYTES>().0.iter().copied().map(ChunkDigest).collect())
        };
        read().map_err(|error| unusable(&self.0.path, error.into()))
    }

    /// The root of the file at `entry`.
    pub(in crate::transfer) fn root(&self, entry: EntryIndex) -> Result<FileDigest, TransferError> {
        let chunks = self.listing().chunks_of(entry);
        let Some(geometry) = self.listing().geometry(entry).filter(|_| !chunks.is_empty()) else {
            return Ok(empty_file_digest());
        };
        let (mut merger, mut root) = (RootMerger::new(geometry), empty_file_digest());
        let all = chunks.end;
        for first in chunks.step_by(usize::from(HASH_PAGE_CHUNKS_MAX)) {
            let end = all.min(first + u64::from(HASH_PAGE_CHUNKS_MAX));
            for digest in self.digests(first..end)? {
                root = merger.push(digest).unwrap_or(root);
            }
        }
        Ok(root)
    }

    fn read(path: &Path, file: File, start: &[u8]) -> Result<Self, TransferError> {
        let refused = |error: io::Error| unusable(path, error.into());
        let is_piped = !file.metadata().map_err(refused)?.is_file();
        let mut decoder = ManifestDecoder::new();
        let mut whole = Vec::new();
        let mut step = vec![0; STEP_BYTES];
        let mut input = start.chain(&file);
        loop {
            let count = match input.read(&mut step) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(refused(error)),
            };
            decoder.decode(&step[..count]).map_err(|fault| unusable(path, fault.into()))?;
            if is_piped {
                if whole.len() as u64 + count as u64 > PIPED_MANIFEST_BYTES_MAX {
                    return Err(unusable(path, "it is too long for a pipe; save it to a file first".into()));
                }
                whole.extend_from_slice(&step[..count]);
            }
        }
        let head = decoder.finish().map_err(|fault| unusable(path, fault.into()))?;
        let rows = if is_piped { Rows::Memory(whole) } else { Rows::File(file) };
        Ok(Self(Arc::new(Inner { path: path.to_owned(), head, rows })))
    }
}

impl Reference {
    /// Reads what is at `path`, and tells a manifest from a list of `b3sum` by its first bytes.
    pub(super) fn open(path: &Path) -> Result<Self, TransferError> {
        let refused = |error: io::Error| unusable(path, error.into());
        let file = File::open(path).map_err(refused)?;
        let mut start = Vec::with_capacity(MANIFEST_FILE_MAGIC.len());
        (&file).take(MANIFEST_FILE_MAGIC.len() as u64).read_to_end(&mut start).map_err(refused)?;
        if start == MANIFEST_FILE_MAGIC {
            return ManifestFile::read(path, file, &start).map(Self::Manifest);
        }
        sums(path, start.chain(&file)).map(Self::Sums)
    }
}

fn sums(path: &Path, input: impl Read) -> Result<SumList, TransferError> {
    let mut input = BufReader::new(input);
    let mut list = SumList::new();
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let most = B3SUM_LINE_BYTES_MAX as u64 + 2;
        let read = (&mut input).take(most).read_until(b'\n', &mut line);
        if read.map_err(|error| unusable(path, error.into()))? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        list.parse_line(text).map_err(|fault| {
            let what = match number {
                1 => format!("it is neither a manifest nor a list of hashes: in line 1, {fault}"),
                _ => format!("in line {number}, {fault}"),
            };
            unusable(path, what.into())
        })?;
    }
    if list.is_empty() { Err(unusable(path, "it is empty".into())) } else { Ok(list) }
}

/// Why a manifest is of no use.
pub(super) fn unusable(path: &Path, cause: crate::transfer::Cause) -> TransferError {
    TransferError::Io { what: format!("the manifest `{}` cannot be used", printable_path(path)), cause }
}

/// Length of the file at `entry`; 0 of what is none.
pub(super) fn length_of(listing: &Listing, entry: EntryIndex) -> u64 {
    listing.entry(entry).and_then(crate::manifest::Entry::file_length).unwrap_or(Length(0)).0
}
