//! Pieces on their way out of one lane: as they are, as nothing where they are zero, or shorter where that pays.

use super::frames::LaneFault;
use crate::codec::{Compression, Decider, Encoder, Level, is_zero};
use crate::limits::PIECE_BYTES_MAX;
use crate::manifest::EntryIndex;
use crate::transport::Lane;
use crate::wire::{Encoding, Piece, piece_head};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What the lanes of one session have in common to make its pieces shorter.
#[derive(Debug)]
pub(super) struct Press {
    compression: Compression,
    began: Instant,
    /// There once a piece was to be sent.
    decider: OnceLock<Mutex<Decider>>,
}

/// What one lane has to send pieces: room for one once it is asked for any, and an encoder once it takes one.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    buffer: Vec<u8>,
    encoder: Option<Encoder>,
    sampling: Sampling,
    /// Bytes that the lane sent, as far as they are counted.
    wire_counted: u64,
}

/// Which pieces of a file are looked at to see whether they shrink, where that costs too much for all: all, until several in a
/// row did not.
#[derive(Debug, Default)]
struct Sampling {
    entry: Option<EntryIndex>,
    /// Pieces in a row that did not shrink.
    misses: u32,
    /// Pieces that are not looked at before the next one is.
    skipping: u32,
}

impl Press {
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, began: Instant::now(), decider: OnceLock::new() }
    }

    /// Whether there is anything to do for a receiver that takes compressed pieces.
    pub(super) fn is_on(&self) -> bool {
        self.compression != Compression::Off
    }

    /// Takes note of how many cores the session may use.
    pub(super) fn set_cores(&self, lane: &Lane, cores: usize) {
        self.lock(lane).set_cores(cores);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn lock(&self, lane: &Lane) -> MutexGuard<'_, Decider> {
        let begin = || Mutex::new(Decider::new(self.now(), self.compression, lane.stays_on_this_machine()));
        self.decider.get_or_init(begin).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    /// Room for a piece of `length`, at most the longest there is.
    pub(super) fn room(&mut self, length: u64) -> &mut [u8] {
        self.buffer.resize(PIECE_BYTES_MAX as usize, 0);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.buffer.len());
        &mut self.buffer[..length]
    }

    /// Bytes that `lane` sent since this was asked last.
    pub(super) fn wire_bytes(&mut self, lane: &Lane) -> u64 {
        let sent = lane.bytes_sent();
        sent - std::mem::replace(&mut self.wire_counted, sent)
    }

    /// Sends the piece of a file whose bytes were put into the room for it, by the press where there is one.
    pub(super) fn send(
        &mut self,
        lane: &mut Lane,
        entry: EntryIndex,
        piece: Piece,
        press: Option<&Press>,
    ) -> Result<(), LaneFault> {
        let Self { buffer, encoder, sampling, .. } = self;
        let bytes = &buffer[..piece.length as usize];
        if is_zero(bytes) {
            return Ok(lane.send(&[&piece_head(piece, Encoding::Zero, 0)])?);
        }
        let Some(press) = press else {
            return Ok(lane.send(&[&piece_head(piece, Encoding::Raw, bytes.len()), bytes])?);
        };
        let (level, looks_first, may_skip) = {
            let mut decider = press.lock(lane);
            (decider.level(press.now()), decider.looks_first(), decider.may_skip())
        };
        let mut shrunk = None;
        if let Some(level) = level
            && (sampling.is_due(entry) || !may_skip)
        {
            let began = Instant::now();
            shrunk = shorter(encoder.get_or_insert_default(), bytes, level, looks_first);
            let (took, has_shrunk) = (began.elapsed(), shrunk.is_some());
            sampling.found(has_shrunk);
            press.lock(lane).compressed(u64::from(piece.length), took, has_shrunk);
        }
        let (encoding, payload) = shrunk.map_or((Encoding::Raw, bytes), |shrunk| (Encoding::Zstd, shrunk));
        lane.send(&[&piece_head(piece, encoding, payload.len()), payload])?;
        press.lock(lane).sent(press.now(), u64::from(piece.length), payload.len() as u64);
        Ok(())
    }
}

/// What stands for `bytes` and is shorter, if there is such a thing and, with `looks_first`, if they look like it.
fn shorter<'e>(encoder: &'e mut Encoder, bytes: &[u8], level: Level, looks_first: bool) -> Option<&'e [u8]> {
    if looks_first && !encoder.seems_to_shrink(bytes) {
        return None;
    }
    encoder.encode(bytes, level)
}

impl Sampling {
    /// Whether the next piece of `entry` is to be looked at.
    fn is_due(&mut self, entry: EntryIndex) -> bool {
        if self.entry.replace(entry) != Some(entry) {
            (self.misses, self.skipping) = (0, 0);
        }
        let is_due = self.skipping == 0;
        self.skipping = self.skipping.saturating_sub(1);
        is_due
    }

    /// Takes note of whether it shrank.
    fn found(&mut self, has_shrunk: bool) {
        self.misses = if has_shrunk { 0 } else { (self.misses + 1).min(MISSES_MAX) };
        self.skipping = self.misses.saturating_sub(1);
    }
}

/// After so many pieces that did not shrink, one of as many is looked at: a megabyte of such data costs one look.
const MISSES_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of so many pieces of a file are looked at.
    fn looked_at(sampling: &mut Sampling, entry: u32, shrinks: &[bool]) -> Vec<bool> {
        let look = |&shrinks: &bool| {
            let is_due = sampling.is_due(EntryIndex(entry));
            if is_due {
                sampling.found(shrinks);
            }
            is_due
        };
        shrinks.iter().map(look).collect()
    }

    #[test]
    fn every_piece_that_shrinks_is_looked_at_and_few_of_those_that_do_not() {
        let mut sampling = Sampling::default();
        assert_eq!(looked_at(&mut sampling, 0, &[true; 8]), [true; 8]);
        let looked = looked_at(&mut sampling, 0, &[false; 41]);
        assert_eq!(looked[..10], [true, true, false, true, false, false, true, false, false, false]);
        assert_eq!(looked.iter().filter(|&&looked| looked).count(), 12, "one of four from there on");
    }

    #[test]
    fn another_file_is_looked_at_at_once() {
        let mut sampling = Sampling::default();
        looked_at(&mut sampling, 0, &[false; 12]);
        assert_eq!(looked_at(&mut sampling, 1, &[true, true]), [true, true]);
    }
}
