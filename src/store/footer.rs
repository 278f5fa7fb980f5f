//! How a `.part` file is laid out: the file's bytes, a table of chunk hashes, a footer that says whose they are.
//!
//! ```text
//! 0                file bytes
//! T = page end     32 bytes per chunk: its hash, or zeros where nothing is claimed
//! F = page end     footer, 8192 bytes:
//!   0    8  magic "haulpart"        64   16  boot id of the claims
//!   8    4  version, 1              80   32  checksum of bytes 0..80 and 512..512+n
//!   12   4  n, bytes of the path   112    4  process that has the file open, outside the checksum
//!   16   8  length of the file     512    n  path, relative to the destination
//!   24   8  length of a chunk
//!   32  32  digest of path and length
//! ```
//!
//! All numbers are little endian. No size is ever taken from the footer: all follow from the length that the listing
//! gives, and a footer that does not agree is no footer.

use super::disk::{self, BootId, DiskFile, FileKind};
use crate::chunk::{ChunkIndex, Geometry, Length};
use crate::digest::{DIGEST_BYTES, PurposeHasher};
use crate::rel_path::RelPath;
use std::io;

/// Bytes of the footer.
pub(super) const FOOTER_BYTES: usize = 8192;
const PAGE_BYTES: u64 = 4096;
const MAGIC: [u8; 8] = *b"haulpart";
const VERSION: u32 = 1;
const CHECKED: usize = 80;
const HOLDER: usize = 112;
const PATH: usize = 512;

/// Where the parts of a `.part` file lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Layout {
    geometry: Geometry,
}

/// What a `.part` file holds, and under which start of the system its claims were made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Footer {
    /// The path that the file will be published under.
    pub(super) path: RelPath,
    /// Length of the file.
    pub(super) length: Length,
    /// Start of the system; `None` where it could not be told, which makes every claim one to check.
    pub(super) boot: Option<BootId>,
}

impl Layout {
    pub(super) fn of(geometry: Geometry) -> Self {
        Self { geometry }
    }

    /// Bytes of the file itself.
    pub(super) fn data_bytes(self) -> u64 {
        self.geometry.file_length().0
    }

    /// Where the table starts.
    pub(super) fn table(self) -> u64 {
        self.data_bytes().next_multiple_of(PAGE_BYTES)
    }

    /// Bytes of the table.
    pub(super) fn table_bytes(self) -> u64 {
        u64::from(self.geometry.count().0) * DIGEST_BYTES as u64
    }

    /// Where the row of a chunk starts.
    pub(super) fn row(self, index: ChunkIndex) -> u64 {
        self.table() + u64::from(index.0) * DIGEST_BYTES as u64
    }

    /// Where the footer starts.
    pub(super) fn footer(self) -> u64 {
        (self.table() + self.table_bytes()).next_multiple_of(PAGE_BYTES)
    }

    /// Bytes of the whole `.part` file.
    pub(super) fn total_bytes(self) -> u64 {
        self.footer() + FOOTER_BYTES as u64
    }
}

impl Footer {
    /// The name of the `.part` file, by which every offer of the same path and length finds it.
    pub(super) fn part_name(path: &RelPath, length: Length) -> String {
        let [high, low] = [0, 8].map(|start| {
            let mut half = [0; 8];
            half.copy_from_slice(&path_digest(path, length)[start..start + 8]);
            u64::from_be_bytes(half)
        });
        format!("{high:016x}{low:016x}.part")
    }

    pub(super) fn encode(&self) -> Box<[u8; FOOTER_BYTES]> {
        let mut bytes = Box::new([0; FOOTER_BYTES]);
        let path = self.path.as_str().as_bytes();
        let path_bytes = u32::try_from(path.len()).expect("a RelPath has at most 4096 bytes");
        let chunk = Geometry::of(self.length).map_or(0, |geometry| geometry.chunk_length().0);
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&path_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.length.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&chunk.to_le_bytes());
        bytes[32..64].copy_from_slice(&path_digest(&self.path, self.length));
        bytes[64..80].copy_from_slice(&self.boot.map_or([0; 16], |boot| boot.0));
        bytes[PATH..PATH + path.len()].copy_from_slice(path);
        let checksum = checksum(&bytes[..CHECKED], path);
        bytes[CHECKED..CHECKED + DIGEST_BYTES].copy_from_slice(&checksum);
        bytes[HOLDER..HOLDER + 4].copy_from_slice(&std::process::id().to_le_bytes());
        bytes
    }

    /// The footer that `bytes` hold, or `None` where anything about them is not as [`Footer::encode`] leaves it.
    pub(super) fn decode(bytes: &[u8; FOOTER_BYTES]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if bytes[0..8] != MAGIC || word(8) != VERSION {
            return None;
        }
        let path = bytes[PATH..].get(..usize::try_from(word(12)).ok()?)?;
        if bytes[CHECKED..CHECKED + DIGEST_BYTES] != checksum(&bytes[..CHECKED], path) {
            return None;
        }
        let path = RelPath::parse(std::str::from_utf8(path).ok()?).ok()?;
        let length = Length(long(16));
        let chunk = Geometry::of(length)?.chunk_length();
        if chunk.0 != long(24) || bytes[32..64] != path_digest(&path, length) {
            return None;
        }
        let mut boot = [0; 16];
        boot.copy_from_slice(&bytes[64..80]);
        Some(Self { path, length, boot: (boot != [0; 16]).then_some(BootId(boot)) })
    }

    /// Reads the footer of a file that has exactly the length that `layout` asks for.
    pub(super) fn read(file: &impl DiskFile, layout: Layout) -> io::Result<Option<Self>> {
        let mut bytes = Box::new([0; FOOTER_BYTES]);
        let found = disk::read_full(file, &mut bytes[..], layout.footer())?;
        Ok(if found == FOOTER_BYTES { Self::decode(&bytes) } else { None })
    }

    pub(super) fn write(&self, file: &impl DiskFile) -> io::Result<()> {
        let geometry = Geometry::of(self.length).ok_or(io::ErrorKind::InvalidInput)?;
        disk::write_all(file, &self.encode()[..], Layout::of(geometry).footer())
    }
}

/// The footer in the last bytes of a file, whatever length of file it is for.
pub(super) fn read_at_end(file: &impl DiskFile) -> Option<Footer> {
    let facts = file.facts().ok().filter(|facts| facts.kind == FileKind::File)?;
    let mut bytes = Box::new([0; FOOTER_BYTES]);
    disk::read_exact(file, &mut bytes[..], facts.length.checked_sub(FOOTER_BYTES as u64)?).ok()?;
    Footer::decode(&bytes)
}

/// The process that says it has the `.part` file open. For a message only; nothing is decided by it.
pub(super) fn read_holder(file: &impl DiskFile, layout: Layout) -> Option<u32> {
    let mut bytes = [0; 4];
    disk::read_exact(file, &mut bytes, layout.footer() + HOLDER as u64).ok()?;
    Some(u32::from_le_bytes(bytes)).filter(|&pid| pid != 0)
}

/// Says that this process has the file open.
pub(super) fn write_holder(file: &impl DiskFile, layout: Layout) -> io::Result<()> {
    disk::write_all(file, &std::process::id().to_le_bytes(), layout.footer() + HOLDER as u64)
}

fn path_digest(path: &RelPath, length: Length) -> [u8; DIGEST_BYTES] {
    PurposeHasher::new("haul 1 partial path").field(path.as_str().as_bytes()).field(&length.0.to_le_bytes()).finish()
}

fn checksum(head: &[u8], path: &[u8]) -> [u8; DIGEST_BYTES] {
    PurposeHasher::new("haul 1 partial footer").field(head).field(path).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CHUNK_BYTES_MIN, FILE_BYTES_MAX, PATH_BYTES_MAX};
    use proptest::prelude::*;

    fn footer() -> Footer {
        Footer {
            path: RelPath::parse("photos/summer.jpg").unwrap(),
            length: Length(3 * CHUNK_BYTES_MIN + 1),
            boot: Some(BootId([7; 16])),
        }
    }

    #[test]
    fn table_and_footer_start_on_pages_after_the_data() {
        for bytes in [0, 1, 4095, 4096, 4097, CHUNK_BYTES_MIN, CHUNK_BYTES_MIN * 1000 + 1, FILE_BYTES_MAX] {
            let geometry = Geometry::of(Length(bytes)).unwrap();
            let layout = Layout::of(geometry);
            assert!(layout.table() >= bytes && layout.table() - bytes < 4096);
            assert!(layout.footer() >= layout.row(ChunkIndex(geometry.count().0)));
            assert_eq!((layout.table() % 4096, layout.footer() % 4096), (0, 0));
            assert_eq!(layout.total_bytes(), layout.footer() + 8192);
        }
    }

    #[test]
    fn a_footer_comes_back_as_it_was() {
        let longest = format!("{}{}", "a/".repeat(60), "b".repeat(200));
        assert!(longest.len() < PATH_BYTES_MAX);
        for footer in [
            footer(),
            Footer { boot: None, ..footer() },
            Footer { path: RelPath::parse(&longest).unwrap(), ..footer() },
        ] {
            assert_eq!(Footer::decode(&footer.encode()), Some(footer));
        }
    }

    #[test]
    fn names_follow_path_and_length() {
        let path = RelPath::parse("a").unwrap();
        let name = Footer::part_name(&path, Length(5));
        assert_eq!(name.len(), 32 + 5);
        assert_ne!(name, Footer::part_name(&path, Length(6)));
        assert_ne!(name, Footer::part_name(&RelPath::parse("b").unwrap(), Length(5)));
    }

    proptest! {
        #[test]
        fn row_86_a_flipped_bit_is_no_footer(at in 0usize..112, bit in 0u8..8) {
            let mut bytes = footer().encode();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Footer::decode(&bytes), None);
        }

        #[test]
        fn row_86_any_bytes_decode_without_a_panic(head in prop::collection::vec(any::<u8>(), 0..600), magic: bool) {
            let mut bytes = Box::new([0; FOOTER_BYTES]);
            bytes[..head.len()].copy_from_slice(&head);
            if magic {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
            }
            prop_assert_eq!(Footer::decode(&bytes), None);
        }
    }
}
