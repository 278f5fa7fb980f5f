//! Outlines: a file cut where its content says so, by which what moved within it is found in an older version.
//!
//! **Where it is cut.** As `FastCDC` does (Xia and others, "`FastCDC`: a Fast and Efficient Content-Defined Chunking Approach for
//! Data Deduplication", USENIX ATC 2016): a gear hash rolls over the bytes, and a segment ends where its highest bits are all zero.
//! Up to the mean length two bits more have to be, and after it two fewer ("normalized chunking"). The hash depends on the last 64
//! bytes alone, and starts anew in each segment; so bytes that come in or go change the segments around them and no others. Its
//! table is the first 256 numbers of `SplitMix64` (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA
//! 2014) from the seed 0.
//!
//! **What it is worth.** A hint, and no more: whoever gets an outline puts chunks together by it, and each has to hash to what its
//! manifest says. So 16 bytes of a segment's hash are enough: two segments that share them by chance, or because somebody made
//! them so, cost the fetch of a chunk. They are half of what an outline takes.

use crate::chunk::Length;
use crate::digest::PurposeHasher;
use crate::limits::{OUTLINE_FILE_BYTES_MAX, OUTLINE_SEGMENTS, SEGMENT_BYTES_MEAN};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Bytes that are told of a segment's hash.
pub const SEGMENT_HASH_BYTES: usize = 16;

/// Bytes between two cuts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Segment {
    /// How many they are.
    pub length: u32,
    /// The start of what they hash to.
    pub hash: [u8; SEGMENT_HASH_BYTES],
}

/// How long the segments of a file are. A function of its length alone, so both ends agree without a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    mean_log2: u32,
}

/// Cuts bytes as they come.
#[derive(Debug)]
pub struct Cutter {
    shape: Shape,
    fresh: PurposeHasher,
    hasher: PurposeHasher,
    gear: u64,
    length: u32,
}

/// Where the segments of an older version lie, by what they hold.
#[derive(Debug, Default)]
pub struct SegmentIndex {
    /// In rising order once it is complete.
    segments: Vec<([u8; SEGMENT_HASH_BYTES], u32, u64)>,
    end: u64,
}

/// Which bytes of a file lie in an older version, and where.
#[derive(Debug, Default)]
pub struct Moved {
    /// In the order of the file, none touching the one before with the same distance between here and there.
    runs: Vec<Run>,
}

/// Bytes that lie together in both versions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Run {
    at: u64,
    part: Part,
}

/// Bytes of an older version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// Where the first one lies there.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
}

impl Shape {
    /// How a file of this length is cut. `None` for one that is too long: its segments could not be short enough to be of
    /// use, and few enough to be held in memory.
    pub fn of(file: Length) -> Option<Self> {
        if file.0 > OUTLINE_FILE_BYTES_MAX {
            return None;
        }
        let mut mean = SEGMENT_BYTES_MEAN;
        while file.0.div_ceil(mean) > OUTLINE_SEGMENTS {
            mean *= 2;
        }
        Some(Self { mean_log2: mean.trailing_zeros() })
    }

    /// Segments of another mean length.
    #[cfg(test)]
    fn of_mean(bytes: u32) -> Self {
        Self { mean_log2: bytes.max(64).ilog2().min(29) }
    }

    fn mean(self) -> u32 {
        1 << self.mean_log2
    }

    /// The shortest segment that does not end its file.
    pub fn shortest(self) -> u32 {
        self.mean() / 4
    }

    /// The longest segment.
    pub fn longest(self) -> u32 {
        self.mean() * 4
    }
}

impl Cutter {
    /// A cutter that begins a segment.
    pub fn new(shape: Shape) -> Self {
        let fresh = PurposeHasher::new("haul 1 segment");
        Self { shape, hasher: fresh.clone(), fresh, gear: 0, length: 0 }
    }

    /// Takes bytes up to the next cut, or all of them. Returns how many it took, and the segment that ends with them.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, Option<Segment>) {
        let (count, is_cut) = self.scan(bytes);
        self.hasher.bytes(&bytes[..count]);
        (count, if is_cut { self.end() } else { None })
    }

    /// Ends the segment where the bytes end, if there is any of it.
    pub fn end(&mut self) -> Option<Segment> {
        let length = std::mem::take(&mut self.length);
        self.gear = 0;
        let hasher = std::mem::replace(&mut self.hasher, self.fresh.clone());
        let mut hash = [0; SEGMENT_HASH_BYTES];
        hash.copy_from_slice(&hasher.finish()[..SEGMENT_HASH_BYTES]);
        (length > 0).then_some(Segment { length, hash })
    }

    /// How many bytes there are up to the next cut, and whether there is one.
    fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        let Shape { mean_log2 } = self.shape;
        let strict = !(u64::MAX >> (mean_log2 + 2));
        let loose = !(u64::MAX >> (mean_log2 - 2));
        let stages =
            [(self.shape.shortest(), None), (self.shape.mean(), Some(strict)), (self.shape.longest(), Some(loose))];
        let mut at = 0;
        for (until, mask) in stages {
            let left = until.saturating_sub(self.length) as usize;
            let stage = &bytes[at..bytes.len().min(at + left)];
            let cut = mask.and_then(|mask| self.roll(stage, mask));
            let count = cut.unwrap_or(stage.len());
            at += count;
            // A stage is shorter than a segment.
            self.length += u32::try_from(count).unwrap_or(u32::MAX);
            if cut.is_some() {
                return (at, true);
            }
            if at == bytes.len() && self.length < self.shape.longest() {
                return (at, false);
            }
        }
        (at, true)
    }

    /// Bytes up to the first one after which the bits of `mask` are zero.
    fn roll(&mut self, bytes: &[u8], mask: u64) -> Option<usize> {
        let mut gear = self.gear;
        for (place, &byte) in bytes.iter().enumerate() {
            gear = (gear << 1).wrapping_add(GEAR[usize::from(byte)]);
            if gear & mask == 0 {
                return Some(place + 1);
            }
        }
        self.gear = gear;
        None
    }
}

impl SegmentIndex {
    /// Takes the next segment of the older version. False once there are as many as an index may hold.
    pub fn push(&mut self, segment: Segment) -> bool {
        if self.segments.len() as u64 >= 2 * OUTLINE_SEGMENTS {
            return false;
        }
        self.segments.push((segment.hash, segment.length, self.end));
        self.end += u64::from(segment.length);
        true
    }

    /// Makes the index ready to be asked.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.segments.sort_unstable();
        self
    }

    /// Where the content of `segment` lies; at `wanted`, if it lies there as well as elsewhere.
    fn find(&self, segment: &Segment, wanted: u64) -> Option<u64> {
        let key = (segment.hash, segment.length);
        if self.segments.binary_search(&(key.0, key.1, wanted)).is_ok() {
            return Some(wanted);
        }
        let first = self.segments.partition_point(|&(hash, length, _)| (hash, length) < key);
        self.segments.get(first).filter(|&&(hash, length, _)| (hash, length) == key).map(|&(.., offset)| offset)
    }
}

impl Moved {
    /// Finds the segments of a file, in order, in an older version of it.
    pub fn find(outline: &[Segment], index: &SegmentIndex) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut at = 0;
        for segment in outline {
            let length = u64::from(segment.length);
            let last = runs.last_mut().filter(|run| run.at + run.part.length == at);
            let next = last.as_ref().map_or(at, |run| run.part.offset + run.part.length);
            match (index.find(segment, next), last) {
                (Some(offset), Some(run)) if offset == next => run.part.length += length,
                (Some(offset), _) => runs.push(Run { at, part: Part { offset, length } }),
                (None, _) => {}
            }
            at += length;
        }
        Self { runs }
    }

    /// The parts of the older version that make up these bytes of the file, in order. `None` where some are not there.
    pub fn parts(&self, bytes: Range<u64>) -> Option<Vec<Part>> {
        let first = self.runs.partition_point(|run| run.at + run.part.length <= bytes.start);
        let mut parts = Vec::new();
        let mut at = bytes.start;
        for run in &self.runs[first..] {
            if at >= bytes.end || run.at > at {
                break;
            }
            let skipped = at - run.at;
            let length = (run.part.length - skipped).min(bytes.end - at);
            parts.push(Part { offset: run.part.offset + skipped, length });
            at += length;
        }
        (at == bytes.end).then_some(parts)
    }
}

const GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let (mut place, mut state) = (0, 0u64);
    while place < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[place] = mixed ^ (mixed >> 31);
        place += 1;
    }
    table
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::limits::KIB;
    use proptest::prelude::*;

    /// Bytes that nothing repeats in.
    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
    }

    /// The segments of `bytes`, fed `step` bytes at a time.
    fn cut(bytes: &[u8], shape: Shape, step: usize) -> Vec<Segment> {
        let mut cutter = Cutter::new(shape);
        let mut segments = Vec::new();
        for mut piece in bytes.chunks(step.max(1)) {
            while !piece.is_empty() {
                let (count, segment) = cutter.take(piece);
                segments.extend(segment);
                piece = &piece[count..];
            }
        }
        segments.extend(cutter.end());
        segments
    }

    fn index(segments: &[Segment]) -> SegmentIndex {
        let mut index = SegmentIndex::default();
        assert!(segments.iter().all(|&segment| index.push(segment)));
        index.sorted()
    }

    fn small() -> Shape {
        Shape::of_mean(1024)
    }

    #[test]
    fn the_table_is_the_published_generator() {
        // The first outputs of SplitMix64 from the seed 0, as in the reference implementations of others.
        assert_eq!(GEAR[..3], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn segments_grow_with_the_file_so_that_their_number_does_not() {
        let mean = |file: u64| Shape::of(Length(file)).map(|shape| u64::from(shape.mean()));
        assert_eq!(mean(0), Some(SEGMENT_BYTES_MEAN));
        assert_eq!(mean(SEGMENT_BYTES_MEAN * OUTLINE_SEGMENTS), Some(SEGMENT_BYTES_MEAN));
        assert_eq!(mean(SEGMENT_BYTES_MEAN * OUTLINE_SEGMENTS + 1), Some(2 * SEGMENT_BYTES_MEAN));
        assert_eq!(mean(OUTLINE_FILE_BYTES_MAX), Some(OUTLINE_FILE_BYTES_MAX / OUTLINE_SEGMENTS));
        assert_eq!(mean(OUTLINE_FILE_BYTES_MAX + 1), None);
    }

    #[test]
    fn segments_are_about_as_long_as_they_should_be() {
        let shape = small();
        let bytes = noise(4 << 20, 1);
        let segments = cut(&bytes, shape, 1 << 16);
        let mean = bytes.len() / segments.len();
        assert!((1024 * 3 / 4..1024 * 3 / 2).contains(&mean), "{mean} bytes");
        let (last, others) = segments.split_last().unwrap();
        assert!(others.iter().all(|segment| (shape.shortest()..=shape.longest()).contains(&segment.length)));
        assert!(last.length <= shape.longest());
    }

    #[test]
    fn bytes_of_one_value_are_cut_at_the_longest() {
        let segments = cut(&vec![0; 10 * 4096 + 5], small(), 777);
        assert!(segments[..10].iter().all(|segment| *segment == segments[0] && segment.length == 4096));
        assert_eq!((segments.len(), segments[10].length), (11, 5));
    }

    #[test]
    fn what_moved_is_found_but_for_a_little_around_the_change() {
        let old = noise(256 * KIB as usize, 2);
        let shape = small();
        let of_old = index(&cut(&old, shape, 4096));
        for (at, inserted) in [(0, 1), (0, 5000), (100_000, 3), (old.len(), 9)] {
            let new = [&old[..at], &noise(inserted, 3), &old[at..]].concat();
            let moved = Moved::find(&cut(&new, shape, 4096), &of_old);
            let found: u64 = moved.runs.iter().map(|run| run.part.length).sum();
            let most = 3 * u64::from(shape.longest());
            assert!(found + most >= old.len() as u64, "{inserted} bytes at {at}: {found} found");
            for run in &moved.runs {
                let Part { offset, length } = run.part;
                assert!(new[run.at as usize..][..length as usize] == old[offset as usize..][..length as usize]);
            }
            assert!(moved.runs.len() <= 2, "{:?}", moved.runs);
        }
    }

    #[test]
    fn parts_are_given_for_bytes_that_are_all_there() {
        let run = |at, offset, length| Run { at, part: Part { offset, length } };
        let moved = Moved { runs: vec![run(10, 0, 20), run(30, 100, 5), run(40, 50, 10)] };
        let part = |offset, length| Part { offset, length };
        assert_eq!(moved.parts(10..30), Some(vec![part(0, 20)]));
        assert_eq!(moved.parts(15..35), Some(vec![part(5, 15), part(100, 5)]));
        assert_eq!(moved.parts(42..50), Some(vec![part(52, 8)]));
        for missing in [0..5, 5..15, 30..36, 34..41, 45..51, 60..70] {
            assert_eq!(moved.parts(missing.clone()), None, "{missing:?}");
        }
    }

    #[test]
    fn of_the_same_content_in_several_places_the_one_that_goes_on_is_taken() {
        let segment = |hash, length| Segment { length, hash: [hash; SEGMENT_HASH_BYTES] };
        let of_old = index(&[segment(7, 10), segment(1, 4), segment(7, 10), segment(2, 6)]);
        let moved = Moved::find(&[segment(1, 4), segment(7, 10), segment(2, 6), segment(7, 10)], &of_old);
        assert_eq!(moved.parts(0..20), Some(vec![Part { offset: 10, length: 20 }]));
        assert_eq!(moved.parts(20..30), Some(vec![Part { offset: 0, length: 10 }]));
        assert_eq!(Moved::find(&[segment(7, 11), segment(9, 10)], &of_old).runs, [], "length and hash both count");
    }

    #[test]
    fn an_index_takes_so_many_segments_and_no_more() {
        let mut index = SegmentIndex::default();
        let taken = (0..).take_while(|&number: &u32| {
            let mut hash = [0; SEGMENT_HASH_BYTES];
            hash[..4].copy_from_slice(&number.to_le_bytes());
            index.push(Segment { length: 1, hash })
        });
        assert_eq!(taken.count() as u64, 2 * OUTLINE_SEGMENTS);
    }

    proptest! {
        #[test]
        fn how_bytes_come_makes_no_difference(seed: u64, length in 0usize..40_000, step in 1usize..5000, has_runs: bool) {
            let mut bytes = noise(length, seed);
            if has_runs {
                bytes.iter_mut().skip(length / 3).take(length / 3).for_each(|byte| *byte = 0);
            }
            let whole = cut(&bytes, small(), bytes.len());
            prop_assert_eq!(&cut(&bytes, small(), step), &whole);
            prop_assert_eq!(whole.iter().map(|segment| segment.length as usize).sum::<usize>(), length);
        }

        #[test]
        fn a_cut_is_a_start_like_any_other(seed: u64, length in 1usize..40_000) {
            let bytes = noise(length, seed);
            let whole = cut(&bytes, small(), bytes.len());
            let first = whole[0].length as usize;
            prop_assert_eq!(&cut(&bytes[first..], small(), 1000), &whole[1..]);
        }
    }
}
