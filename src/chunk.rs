//! How a file is split: chunk length, count, and where chunk *i* lies.

use crate::limits::{
    CHUNK_BYTES_COMFORT, CHUNK_BYTES_MIN, CHUNKS_PER_FILE_COMFORT, CHUNKS_PER_FILE_MAX, FILE_BYTES_MAX,
};

/// Place of a chunk within its file, from 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChunkIndex(pub u32);

/// How many chunks a file has; an empty file has none.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ChunkCount(pub u32);

/// Distance from the start of a file, in bytes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Offset(pub u64);

/// Number of bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Length(pub u64);

/// Bytes of a file that lie together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// Where the first byte lies.
    pub offset: Offset,
    /// How many bytes there are.
    pub length: Length,
}

/// The split of a file of one length. A function of that length alone, so both ends agree without a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Geometry {
    file_bytes: u64,
    chunk_bytes_log2: u32,
}

impl ChunkIndex {
    /// The index as a `usize`, which holds every `u32` on the platforms that this builds for.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl Geometry {
    /// The split of a file of `file` bytes, or `None` above [`FILE_BYTES_MAX`].
    ///
    /// The chunk length is the smallest power of two from 256 KiB to 16 MiB that gives at most 16,384 chunks; above
    /// that it is 16 MiB, and above 2^20 chunks it doubles until the chunks fit.
    pub fn of(file: Length) -> Option<Self> {
        if file.0 > FILE_BYTES_MAX {
            return None;
        }
        let mut chunk_bytes = CHUNK_BYTES_MIN;
        while chunk_bytes < CHUNK_BYTES_COMFORT && file.0.div_ceil(chunk_bytes) > CHUNKS_PER_FILE_COMFORT {
            chunk_bytes *= 2;
        }
        while file.0.div_ceil(chunk_bytes) > CHUNKS_PER_FILE_MAX {
            chunk_bytes *= 2;
        }
        Some(Self { file_bytes: file.0, chunk_bytes_log2: chunk_bytes.trailing_zeros() })
    }

    /// Length of the file.
    pub fn file_length(self) -> Length {
        Length(self.file_bytes)
    }

    /// Length of every chunk but the last, which may be shorter. A power of two.
    pub fn chunk_length(self) -> Length {
        Length(1 << self.chunk_bytes_log2)
    }

    /// Number of chunks, at most 2^20.
    pub fn count(self) -> ChunkCount {
        let count = self.file_bytes.div_ceil(1 << self.chunk_bytes_log2);
        // The geometry has no more chunks than fit, by construction.
        ChunkCount(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Whether the whole file is one chunk, whose hash is then the file's own; also true of an empty file.
    pub fn is_single(self) -> bool {
        self.count().0 <= 1
    }

    /// Where chunk `index` lies, or `None` past the last one.
    pub fn span(self, index: ChunkIndex) -> Option<Span> {
        if index.0 >= self.count().0 {
            return None;
        }
        let offset = u64::from(index.0) << self.chunk_bytes_log2;
        let length = (self.file_bytes - offset).min(1 << self.chunk_bytes_log2);
        Some(Span { offset: Offset(offset), length: Length(length) })
    }

    /// Bytes from the start of chunk `first` up to the start of chunk `end`, or to the end of the file.
    pub fn bytes_between(self, first: ChunkIndex, end: ChunkIndex) -> Length {
        let start = (u64::from(first.0) << self.chunk_bytes_log2).min(self.file_bytes);
        let stop = (u64::from(end.0) << self.chunk_bytes_log2).min(self.file_bytes);
        Length(stop.saturating_sub(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{KIB, MIB};
    use proptest::prelude::*;

    #[test]
    fn chunk_length_is_the_smallest_that_fits() {
        for (file, chunk) in [
            (0, 256 * KIB),
            (1, 256 * KIB),
            (4 * 1024 * MIB, 256 * KIB),
            (4 * 1024 * MIB + 1, 512 * KIB),
            (16 * 1024 * MIB, MIB),
            (256 * 1024 * MIB, 16 * MIB),
            (1024 * 1024 * MIB, 16 * MIB),
            (16 * 1024 * 1024 * MIB, 16 * MIB),
            (16 * 1024 * 1024 * MIB + 1, 32 * MIB),
            (FILE_BYTES_MAX, 4096 * MIB),
        ] {
            assert_eq!(Geometry::of(Length(file)).unwrap().chunk_length(), Length(chunk), "file of {file} bytes");
        }
        assert_eq!(Geometry::of(Length(FILE_BYTES_MAX + 1)), None);
        assert_eq!(Geometry::of(Length(u64::MAX)), None);
    }

    #[test]
    fn empty_file_has_no_chunk() {
        let geometry = Geometry::of(Length(0)).unwrap();
        assert_eq!(geometry.count(), ChunkCount(0));
        assert_eq!(geometry.span(ChunkIndex(0)), None);
        assert!(geometry.is_single());
    }

    proptest! {
        #[test]
        fn spans_tile_the_file(file in prop_oneof![0..=FILE_BYTES_MAX, 0..=(64 * MIB)]) {
            let geometry = Geometry::of(Length(file)).unwrap();
            let count = geometry.count().0;
            prop_assert!(u64::from(count) <= CHUNKS_PER_FILE_MAX);
            prop_assert_eq!(geometry.span(ChunkIndex(count)), None);
            if let Some(last) = count.checked_sub(1) {
                let span = geometry.span(ChunkIndex(last)).unwrap();
                prop_assert_eq!(span.offset.0 + span.length.0, file);
                prop_assert!(span.length.0 > 0);
                let first = geometry.span(ChunkIndex(0)).unwrap();
                prop_assert_eq!(first.offset, Offset(0));
                prop_assert_eq!(geometry.bytes_between(ChunkIndex(0), ChunkIndex(count)), Length(file));
            }
        }
    }
}
