//! A small seeded generator: one seed gives one run, on every machine and with every version of every dependency.

use std::collections::VecDeque;
use std::time::Duration;

/// `SplitMix64` (Steele, Lea and Flood, 2014), after a script of choices where there is one.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
    script: VecDeque<u8>,
    /// Whether some files shrink, and both ends speak zstd. No choice of its own, so that no seed changed its meaning when
    /// there came to be such pieces.
    pub(crate) has_text: bool,
    /// Whether older versions of files are made use of. No choice either, for the same reason.
    pub(crate) has_older: bool,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, script: VecDeque::new(), has_text: false, has_older: false }
    }

    /// Makes its first choices by `script`, a byte or two each, and all further ones from a seed made of it.
    #[allow(dead_code, reason = "for the fuzz target alone")]
    pub(crate) fn scripted(script: &[u8]) -> Self {
        let state = script.iter().fold(0, |state, &byte| mix(state ^ u64::from(byte)));
        Self { state, script: script.iter().copied().collect(), has_text: false, has_older: false }
    }

    #[allow(dead_code, reason = "for transfers of both sides alone")]
    pub(crate) fn with_text(self, has_text: bool) -> Self {
        Self { has_text, ..self }
    }

    #[allow(dead_code, reason = "for transfers of both sides alone")]
    pub(crate) fn with_older(self, has_older: bool) -> Self {
        Self { has_older, ..self }
    }

    pub(crate) fn next(&mut self) -> u64 {
        match (self.script.pop_front(), self.script.pop_front()) {
            (None, _) => self.random(),
            (Some(low), high) => {
                let choice = u64::from(u16::from_le_bytes([low, high.unwrap_or(0)]));
                // A bound of any size gets the whole of its range.
                choice * 0x0001_0001_0001_0001
            }
        }
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `per_mille` times out of 1000.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// A number from `low` to `high` whose order of magnitude is as likely as any other.
    pub(crate) fn scale(&mut self, low: u64, high: u64) -> u64 {
        let steps = u64::from((high / low).ilog2());
        let base = low << self.below(steps + 1);
        self.between(base, (base * 2).min(high).max(base))
    }

    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1000, high * 1000))
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.random().to_le_bytes()[..part.len()]);
        }
    }
}

/// Spreads every bit of `value` over the result.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
