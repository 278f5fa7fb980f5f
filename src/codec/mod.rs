//! Pieces made shorter on their way, bounded both ways, and the choice whether that pays.
//!
//! A piece that shrinks travels as one zstd frame. Contexts are kept by whoever encodes or decodes on one thread, and stay
//! small since a piece is at most 256 KiB: an encoder takes up to 1.3 MiB at levels 1 to 3 and 3 MiB at level 19, a
//! decoder 0.1 MiB (a test below measures both). A frame holds its piece as a single segment: its window is the piece itself,
//! so that decoding takes no memory but the place where the piece goes.

mod decider;
mod frame;

pub use decider::{Compression, Decider};

use crate::limits::PIECE_BYTES_MAX;
use std::fmt;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, find_frame_compressed_size};

/// How hard an encoder tries, from 1 to 19: what zstd calls a level.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Level(u8);

/// Makes pieces shorter, one at a time.
pub struct Encoder {
    context: CCtx<'static>,
    /// What the context is set to.
    level: Option<i32>,
    encoded: Vec<u8>,
}

/// Makes pieces whole again, one at a time.
pub struct Decoder(DCtx<'static>);

/// The rule that a compressed piece breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CodecFault {
    /// The bytes are not a frame of zstd, or it does not come to the length that it claims.
    #[error("a compressed piece is damaged")]
    Damaged,
    /// The frame is of a kind that pieces do not use: with a dictionary, a checksum or a window of its own.
    #[error("a compressed piece has a header that pieces do not have")]
    Header,
    /// The frame claims another length than the piece has.
    #[error("a compressed piece stands for another number of bytes than it says")]
    Length,
    /// Something follows the frame.
    #[error("a compressed piece has bytes behind its end")]
    Trailing,
}

impl Level {
    /// The lowest level: the least work.
    pub const MIN: Self = Self(1);
    /// The highest level.
    pub const MAX: Self = Self(19);
    /// The highest level that hardly costs more than the lowest: with pieces of 256 KiB of text it took 12 % more time and
    /// gave 5 % less, where level 4 took 2.7 times as long for 12 % less.
    pub const BEST_CHEAP: Self = Self(3);

    /// The level of that number, from 1 to 19.
    pub fn new(number: u8) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&number).then_some(Self(number))
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder that has encoded nothing.
    ///
    /// # Panics
    ///
    /// Where there is no memory for it.
    pub fn new() -> Self {
        Self { context: CCtx::create(), level: None, encoded: Vec::new() }
    }

    /// The frame that stands for `piece`, where that saves at least a thirty-second part; less is not worth the work of
    /// decoding it.
    pub fn encode(&mut self, piece: &[u8], level: Level) -> Option<&[u8]> {
        if piece.len() > PIECE_BYTES_MAX as usize {
            return None;
        }
        self.compress(piece, i32::from(level.0), piece.len() - piece.len().div_ceil(32))
    }

    /// Whether `piece` looks as if it shrinks, by a sample of 4 KiB from all over it. Takes about a hundredth of the time
    /// that sending it does.
    pub fn seems_to_shrink(&mut self, piece: &[u8]) -> bool {
        if piece.len() <= SAMPLE_BYTES {
            return self.compress(piece, SAMPLE_LEVEL, piece.len() - piece.len().div_ceil(32)).is_some();
        }
        let mut sample = [0; SAMPLE_BYTES];
        let step = (piece.len() - SAMPLE_SLICE_BYTES) / (SAMPLE_BYTES / SAMPLE_SLICE_BYTES - 1);
        for (slice, from) in sample.chunks_mut(SAMPLE_SLICE_BYTES).zip(piece.chunks(step)) {
            slice.copy_from_slice(&from[..SAMPLE_SLICE_BYTES]);
        }
        self.compress(&sample, SAMPLE_LEVEL, SAMPLE_BYTES - SAMPLE_BYTES / 64).is_some()
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.context.sizeof() + self.encoded.capacity()
    }

    /// A frame of at most `most` bytes.
    fn compress(&mut self, bytes: &[u8], level: i32, most: usize) -> Option<&[u8]> {
        if self.level != Some(level) {
            // It fails for values out of range alone, and these are none.
            self.level = self.set_level(level).ok().map(|()| level);
            self.level?;
        }
        if self.encoded.len() < most {
            self.encoded.resize(most, 0);
        }
        let length = self.context.compress2(&mut self.encoded[..most], bytes).ok()?;
        self.encoded.get(..length)
    }

    fn set_level(&mut self, level: i32) -> Result<(), usize> {
        self.context.set_parameter(CParameter::CompressionLevel(level))?;
        // Left to the level, tables of the high ones outgrow the piece that they index.
        let is_high = level > i32::from(Level::BEST_CHEAP.0);
        self.context.set_parameter(CParameter::HashLog(if is_high { HASH_LOG_MAX } else { LEFT_TO_LEVEL }))?;
        self.context.set_parameter(CParameter::ChainLog(if is_high { CHAIN_LOG_MAX } else { LEFT_TO_LEVEL }))?;
        Ok(())
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that has decoded nothing.
    ///
    /// # Panics
    ///
    /// Where there is no memory for it.
    pub fn new() -> Self {
        Self(DCtx::create())
    }

    /// Fills `piece` with what `payload` stands for: one frame, which claims exactly that length, and comes to it. Where it
    /// fails, what `piece` holds is of no use.
    pub fn decode(&mut self, payload: &[u8], piece: &mut [u8]) -> Result<(), CodecFault> {
        frame::check(payload, piece.len())?;
        match find_frame_compressed_size(payload) {
            Ok(length) if length == payload.len() => {}
            Ok(_) => return Err(CodecFault::Trailing),
            Err(_) => return Err(CodecFault::Damaged),
        }
        match self.0.decompress(piece, payload) {
            Ok(length) if length == piece.len() => Ok(()),
            Ok(_) | Err(_) => Err(CodecFault::Damaged),
        }
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.0.sizeof()
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Encoder").field("level", &self.level).finish_non_exhaustive()
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Decoder").finish_non_exhaustive()
    }
}

/// Whether every byte is zero. Data that is not mostly differs in its first bytes.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| *word == [0; 64]) && rest.iter().all(|&byte| byte == 0)
}

/// Bytes of a piece that are looked at to see whether it shrinks, in slices of which one falls into any region of an eighth.
const SAMPLE_BYTES: usize = 4096;
const SAMPLE_SLICE_BYTES: usize = 512;
/// The fastest that codes single bytes by how often they come; negative ones look for repeats alone.
const SAMPLE_LEVEL: i32 = 1;
/// Zero asks zstd for what the level has.
const LEFT_TO_LEVEL: u32 = 0;
const HASH_LOG_MAX: u32 = 17;
const CHAIN_LOG_MAX: u32 = 18;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECE_MAX: usize = PIECE_BYTES_MAX as usize;
    const SENTENCE: &[u8] = b"What a sender has been asked for, it sends in the order in which it was asked. ";

    /// Words of a small vocabulary in no order: shrinks as text does.
    fn text(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut text = Vec::with_capacity(length + 16);
        while text.len() < length {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            text.extend_from_slice(format!("word{} ", (state >> 33) % 5000).as_bytes());
        }
        text.truncate(length);
        text
    }

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn encoded(piece: &[u8], level: u8) -> Option<Vec<u8>> {
        Encoder::new().encode(piece, Level::new(level).unwrap()).map(<[u8]>::to_vec)
    }

    fn decoded(payload: &[u8], length: usize) -> Result<Vec<u8>, CodecFault> {
        let mut piece = vec![0xaa; length];
        Decoder::new().decode(payload, &mut piece).map(|()| piece)
    }

    #[test]
    fn a_piece_comes_back_whatever_its_level_and_length() {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new();
        for level in (1..=19).filter_map(Level::new) {
            for length in [200, 255, 256, 257, 16_383, 16_384, 65_791, 65_792, PIECE_MAX - 1, PIECE_MAX] {
                let piece = text(length, length as u64);
                let payload = encoder.encode(&piece, level).map(<[u8]>::to_vec);
                let payload = payload.unwrap_or_else(|| panic!("{length} bytes of text shrink at {level:?}"));
                assert!(payload.len() <= length - length / 32, "{level:?} {length}");
                let mut back = vec![0; length];
                assert_eq!(decoder.decode(&payload, &mut back), Ok(()), "{level:?} {length}");
                assert!(back == piece, "{level:?} {length}");
            }
        }
    }

    #[test]
    fn what_does_not_shrink_has_no_frame_and_does_not_look_like_it() {
        let mut encoder = Encoder::new();
        for length in [0, 1, 2, 31, 100, 4096, 4097, 20_000, PIECE_MAX] {
            let piece = noise(length, 1);
            assert_eq!(encoder.encode(&piece, Level::BEST_CHEAP), None, "{length}");
            assert!(!encoder.seems_to_shrink(&piece), "{length}");
        }
        assert_eq!(encoder.encode(&vec![0; PIECE_MAX + 1], Level::MIN), None);
    }

    #[test]
    fn an_eighth_of_a_piece_that_shrinks_is_seen_wherever_it_lies() {
        let mut encoder = Encoder::new();
        for eighth in 0..8 {
            let mut piece = noise(PIECE_MAX, 2);
            let from = eighth * PIECE_MAX / 8;
            piece[from..from + PIECE_MAX / 8].copy_from_slice(&SENTENCE.repeat(PIECE_MAX / 8)[..PIECE_MAX / 8]);
            assert!(encoder.seems_to_shrink(&piece), "eighth {eighth}");
            assert!(encoder.encode(&piece, Level::BEST_CHEAP).is_some(), "eighth {eighth}");
        }
        assert!(encoder.seems_to_shrink(&text(700, 4)) && encoder.seems_to_shrink(&text(5000, 5)));
    }

    #[test]
    fn contexts_stay_small_at_every_level() {
        let mut decoder = Decoder::new();
        let piece = text(PIECE_MAX, 6);
        for level in 1..=19 {
            let mut encoder = Encoder::new();
            let payload = encoder.encode(&piece, Level::new(level).unwrap()).map(<[u8]>::to_vec).unwrap();
            let most = if level <= 3 { 13 << 17 } else { 3 << 20 };
            let takes = encoder.memory_bytes();
            assert!(takes <= most, "level {level} takes {takes} bytes");
            decoder.decode(&payload, &mut vec![0; PIECE_MAX]).unwrap();
        }
        assert!(decoder.memory_bytes() <= 1 << 18, "{}", decoder.memory_bytes());
    }

    #[test]
    fn s14_a_frame_that_claims_another_length_is_refused_before_it_is_decoded() {
        let piece = text(1000, 7);
        let payload = encoded(&piece, 3).unwrap();
        assert_eq!(decoded(&payload, 1000), Ok(piece));
        for length in [0, 1, 999, 1001, PIECE_MAX] {
            assert_eq!(decoded(&payload, length), Err(CodecFault::Length), "{length}");
        }
        let mut lying = payload.clone();
        lying[5] ^= 1;
        assert_eq!(decoded(&lying, 1000), Err(CodecFault::Length));
        assert!(matches!(decoded(&lying, 1001), Err(CodecFault::Damaged)), "it comes to 1000");
    }

    #[test]
    fn s14_trailing_bytes_second_frames_and_cut_frames_are_refused() {
        let payload = encoded(&text(1000, 8), 3).unwrap();
        let with = |more: &[u8]| decoded(&[&payload, more].concat(), 1000);
        assert_eq!(with(&[0]), Err(CodecFault::Trailing));
        assert_eq!(with(&payload), Err(CodecFault::Trailing));
        // A frame that says that it is to be skipped.
        assert_eq!(with(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]), Err(CodecFault::Trailing));
        for cut in 0..payload.len() {
            assert!(decoded(&payload[..cut], 1000).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn s14_headers_with_a_window_a_dictionary_or_a_checksum_are_refused() {
        let payload = encoded(&text(1000, 9), 3).unwrap();
        for bit in [0, 1, 2, 3, 4, 5] {
            let mut other = payload.clone();
            other[4] ^= 1 << bit;
            assert_eq!(decoded(&other, 1000), Err(CodecFault::Header), "descriptor bit {bit}");
        }
        let mut huge = payload.clone();
        huge[4] |= 0b1100_0000;
        assert_eq!(decoded(&huge, 1000), Err(CodecFault::Header), "a length of eight bytes");
        let mut magic = payload;
        magic[0] ^= 1;
        assert_eq!(decoded(&magic, 1000), Err(CodecFault::Header));
    }

    #[test]
    fn a_decoder_is_as_good_as_new_after_a_damaged_piece() {
        let piece = text(PIECE_MAX, 10);
        let payload = encoded(&piece, 3).unwrap();
        let mut decoder = Decoder::new();
        let mut back = vec![0; PIECE_MAX];
        for place in (0..payload.len()).step_by(payload.len() / 50) {
            let mut damaged = payload.clone();
            damaged[place] ^= 0x10;
            // Damage may leave a frame that decodes: chunks have hashes for that.
            let _ = decoder.decode(&damaged, &mut back);
            assert_eq!(decoder.decode(&payload, &mut back), Ok(()), "after damage at {place}");
            assert!(back == piece, "after damage at {place}");
        }
    }

    #[test]
    fn only_zeros_are_zero() {
        for length in [0, 1, 63, 64, 65, 1000] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for place in 0..length {
                bytes[place] = 1;
                assert!(!is_zero(&bytes), "byte {place} of {length}");
                bytes[place] = 0;
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_content_come_back(
            parts in prop::collection::vec((any::<bool>(), 0..20_000_usize, any::<u64>()), 0..8),
            level in 1..=19_u8,
        ) {
            let mut piece = Vec::new();
            for (is_text, length, seed) in parts {
                piece.extend(if is_text { text(length, seed) } else { noise(length, seed) });
            }
            if let Some(payload) = encoded(&piece, level) {
                prop_assert!(payload.len() < piece.len());
                prop_assert!(decoded(&payload, piece.len()).unwrap() == piece);
            }
        }

        #[test]
        fn no_bytes_decode_to_anything_but_the_length_that_was_asked_for(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            length in 0..600_usize,
            has_header: bool,
        ) {
            let mut payload = bytes;
            if has_header {
                let claimed = (length as u32).to_le_bytes();
                payload.splice(0..0, [0x28, 0xb5, 0x2f, 0xfd, 0xa0, claimed[0], claimed[1], claimed[2], claimed[3]]);
            }
            if let Ok(piece) = decoded(&payload, length) {
                prop_assert_eq!(piece.len(), length);
            }
        }
    }
}
