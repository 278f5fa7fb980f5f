//! Chunk, file, listing and manifest digests; the only home of `blake3`.

use crate::chunk::{ChunkIndex, Geometry, Span};
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use std::fmt;

/// Bytes of every digest.
pub const DIGEST_BYTES: usize = 32;

/// What a chunk's bytes hash to: the BLAKE3 chaining value of its subtree at its offset, or the root itself where the
/// file has one chunk.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChunkDigest(pub [u8; DIGEST_BYTES]);

/// What a whole file hashes to: the BLAKE3 root, the same value that `b3sum` prints.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileDigest(pub [u8; DIGEST_BYTES]);

/// What a listing's canonical bytes hash to.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ListingDigest(pub [u8; DIGEST_BYTES]);

/// Names a listing together with the root of every file in it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ManifestId(pub [u8; DIGEST_BYTES]);

/// Hashes one chunk's bytes as they come.
#[derive(Clone, Debug)]
pub struct ChunkHasher {
    hasher: blake3::Hasher,
    is_root: bool,
}

/// Merges the digests of a file's chunks, in order, into the file's digest.
///
/// Holds one chaining value per level of the tree. A merge is put off until a further chunk shows that it is not the
/// last one, because the topmost merge is flagged as the root (BLAKE3 paper, section 2.1 and 5.1.2).
#[derive(Clone, Debug)]
pub struct RootMerger {
    geometry: Geometry,
    merged: u32,
    stack: Vec<ChainingValue>,
}

/// Hashes bytes for one stated purpose; two purposes never give the same digest.
#[derive(Clone)]
pub struct PurposeHasher(blake3::Hasher);

/// The digest of chunk `index` of a file split by `geometry`, whose bytes are `bytes`.
pub fn chunk_digest(geometry: Geometry, index: ChunkIndex, bytes: &[u8]) -> ChunkDigest {
    let mut hasher = ChunkHasher::new(geometry, index);
    hasher.update(bytes);
    hasher.finish()
}

/// The digest of the file that holds no byte.
pub fn empty_file_digest() -> FileDigest {
    FileDigest(*blake3::hash(&[]).as_bytes())
}

/// Whether two secrets are equal, in time that does not depend on where they differ.
pub fn equal_in_constant_time(one: &[u8; DIGEST_BYTES], other: &[u8; DIGEST_BYTES]) -> bool {
    blake3::Hash::from_bytes(*one) == blake3::Hash::from_bytes(*other)
}

impl ChunkHasher {
    /// A hasher for chunk `index` of a file split by `geometry`.
    pub fn new(geometry: Geometry, index: ChunkIndex) -> Self {
        let is_root = geometry.is_single();
        let mut hasher = blake3::Hasher::new();
        if !is_root {
            let Span { offset, .. } = geometry
                .span(index)
                .unwrap_or(Span { offset: crate::chunk::Offset(0), length: crate::chunk::Length(0) });
            hasher.set_input_offset(offset.0);
        }
        Self { hasher, is_root }
    }

    /// Takes the chunk's next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The digest of the bytes taken.
    ///
    /// # Panics
    /// When no byte was taken for a chunk of several: a geometry has no such chunk.
    pub fn finish(&self) -> ChunkDigest {
        if self.is_root {
            ChunkDigest(*self.hasher.finalize().as_bytes())
        } else {
            ChunkDigest(self.hasher.finalize_non_root())
        }
    }
}

impl RootMerger {
    /// A merger for a file split by `geometry`.
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry, merged: 0, stack: Vec::new() }
    }

    /// Index of the chunk whose digest is taken next.
    pub fn next_chunk(&self) -> ChunkIndex {
        ChunkIndex(self.merged)
    }

    /// Takes the next chunk's digest. Once the last one is taken, returns the file's digest.
    ///
    /// # Panics
    /// When more digests are pushed than the file has chunks.
    pub fn push(&mut self, digest: ChunkDigest) -> Option<FileDigest> {
        assert!(self.merged < self.geometry.count().0, "a file has no chunk past its last");
        while self.stack.len() > self.merged.count_ones() as usize {
            self.merge_top();
        }
        self.stack.push(digest.0);
        self.merged += 1;
        (self.merged == self.geometry.count().0).then(|| self.finish())
    }

    fn merge_top(&mut self) {
        if let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop()) {
            self.stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }

    fn finish(&mut self) -> FileDigest {
        while self.stack.len() > 2 {
            self.merge_top();
        }
        match self.stack[..] {
            [left, right] => FileDigest(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()),
            [only] => FileDigest(only),
            _ => empty_file_digest(),
        }
    }
}

impl PurposeHasher {
    /// A hasher for `purpose`, a constant sentence of this program (BLAKE3's key derivation context).
    pub fn new(purpose: &'static str) -> Self {
        Self(blake3::Hasher::new_derive_key(purpose))
    }

    /// A hasher for `purpose` under `key`: a message authentication code.
    pub fn keyed(purpose: &'static str, key: &[u8]) -> Self {
        let mut derive = blake3::Hasher::new_derive_key(purpose);
        derive.update(key);
        let mut derived = *derive.finalize().as_bytes();
        let hasher = Self(blake3::Hasher::new_keyed(&derived));
        zeroize::Zeroize::zeroize(&mut derived);
        hasher
    }

    /// Takes a field, preceded by its length, so that no two lists of fields hash alike.
    pub fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Takes bytes as they are, however they are cut: for a whole that has a form of its own.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The digest of all fields taken.
    pub fn finish(&self) -> [u8; DIGEST_BYTES] {
        *self.0.finalize().as_bytes()
    }
}

impl fmt::Debug for PurposeHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PurposeHasher")
    }
}

fn write_hex(bytes: &[u8], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

macro_rules! show_as_hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, formatter)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }
    )*};
}

show_as_hex!(ChunkDigest, FileDigest, ListingDigest, ManifestId);

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::chunk::Length;

    fn root_by_chunks(bytes: &[u8]) -> FileDigest {
        let geometry = Geometry::of(Length(bytes.len() as u64)).unwrap();
        let mut merger = RootMerger::new(geometry);
        let mut root = empty_file_digest();
        for (index, chunk) in bytes.chunks(geometry.chunk_length().0 as usize).enumerate() {
            let digest = chunk_digest(geometry, ChunkIndex(index as u32), chunk);
            if let Some(done) = merger.push(digest) {
                root = done;
            }
        }
        root
    }

    /// The input of the published test vectors: bytes counting up to 250 and around.
    fn vector_input(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn merged_chunks_equal_the_hash_of_the_whole() {
        let chunk = 256 * 1024;
        let mut lengths = vec![0, 1, 63, 64, 65, 1023, 1024, 1025];
        for chunks in 1..=17 {
            lengths.extend([chunks * chunk - 1, chunks * chunk, chunks * chunk + 1]);
        }
        let whole = vector_input(18 * chunk);
        for length in lengths {
            let expected = blake3::hash(&whole[..length]);
            assert_eq!(root_by_chunks(&whole[..length]).0, *expected.as_bytes(), "{length} bytes");
        }
    }

    #[test]
    fn published_test_vectors_hold() {
        // From the BLAKE3 repository, test_vectors.json, field "hash", first 32 bytes.
        for (length, hex) in [
            (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
            (1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"),
            (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
            (102_400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
        ] {
            assert_eq!(root_by_chunks(&vector_input(length)).to_string(), hex, "{length} bytes");
        }
    }

    #[test]
    fn purposes_keys_and_field_borders_all_count() {
        let of = |purpose: &'static str, key: &[u8], fields: &[&[u8]]| {
            let mut hasher = PurposeHasher::keyed(purpose, key);
            for field in fields {
                hasher.field(field);
            }
            hasher.finish()
        };
        let base = of("haul test one", b"key", &[b"ab", b"c"]);
        assert_ne!(base, of("haul test two", b"key", &[b"ab", b"c"]));
        assert_ne!(base, of("haul test one", b"kez", &[b"ab", b"c"]));
        assert_ne!(base, of("haul test one", b"key", &[b"a", b"bc"]));
        assert_eq!(base, of("haul test one", b"key", &[b"ab", b"c"]));
    }
}
