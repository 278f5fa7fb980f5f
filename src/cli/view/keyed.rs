//! Keys that are typed while a run is watched: when they are taken, and what is shown of them.

use super::{State, View};
use crate::cli::keys::{Act, Keys, Target};
use crate::cli::raw_mode::{self, Taking};
use crate::cli::report::Side;
use haul::printable::shorten;
use haul::transfer::{Cancel, PeerState};
use std::num::NonZeroU64;
use std::sync::TryLockError;
use std::time::Instant;

impl View {
    /// From here on keys may be given to [`View::press`], and lines show what they are about: `at_once`, or as soon as data
    /// moves.
    pub(crate) fn take_keys(&self, keys: Keys, at_once: bool) {
        let mut state = self.state();
        (state.keys, state.keys_at_once) = (Some(keys), at_once);
    }

    /// Runs `transfer`, whose limit keys change by `set`, and which they stop, where there is a terminal to type on that shows
    /// its progress.
    pub(crate) fn with_limit_keys<T>(
        &self,
        cancel: &Cancel,
        limit: Option<NonZeroU64>,
        set: impl Fn(Option<NonZeroU64>) + Send,
        transfer: impl FnOnce() -> T,
    ) -> T {
        if !(self.terminal.redraws && self.terminal.answers && self.shows_progress()) {
            return transfer();
        }
        self.take_keys(Keys::of_all(limit), false);
        let on_key = move |key| match self.press(key) {
            Some(Act::Limit(_, rate)) => set(rate),
            Some(Act::Stop) => cancel.cancel(),
            _ => {}
        };
        self.with_keys(cancel, on_key, transfer)
    }

    /// Runs `transfer`, and gives keys to `on_key` meanwhile, as long as there is something that they can be about, and no
    /// question.
    pub(crate) fn with_keys<T>(
        &self,
        cancel: &Cancel,
        on_key: impl FnMut(u8) + Send,
        transfer: impl FnOnce() -> T,
    ) -> T {
        let claim = || match self.answers.try_lock() {
            Ok(answers) => Some(answers),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let show = |are_taken| {
            let mut state = self.state();
            state.keys_taken = are_taken;
            self.show_progress(&mut state, Instant::now());
        };
        let taking = Taking { are_wanted: || self.state().wants_keys(), claim, show, on_key };
        raw_mode::with_keys(cancel, taking, transfer)
    }

    /// Takes one key. What it asks for is for the caller to do.
    pub(crate) fn press(&self, key: u8) -> Option<Act> {
        let now = Instant::now();
        let mut state = self.state();
        let targets = state.targets(self.side, now);
        let act = state.keys.as_mut()?.press(key, &targets);
        self.show_progress(&mut state, now);
        act
    }
}

impl State {
    pub(super) fn wants_keys(&self) -> bool {
        self.keys.is_some() && !self.is_asking && (self.keys_at_once || self.is_under_way)
    }

    /// Adds what can be typed to the lines of a bar.
    pub(super) fn with_hint(
        &self,
        [total, file]: [String; 2],
        side: Side,
        now: Instant,
        columns: usize,
    ) -> [String; 2] {
        let Some(keys) = self.keys.as_ref().filter(|_| self.keys_taken) else { return [total, file] };
        let hint = shorten(&keys.hint_of_all(&self.targets(side, now)), columns);
        [total, if file.is_empty() { hint } else { format!("{file}\n{hint}") }]
    }

    /// What keys can be about: receivers, or the one transfer that there is.
    fn targets(&self, side: Side, now: Instant) -> Vec<Target> {
        match side {
            Side::Sending => self.receivers.targets(now),
            _ => vec![Target { session: 0, state: PeerState::Sending, rate: self.meter.rate(now), limit: None }],
        }
    }
}
