//! Keys that are typed while several transfers run: one limit for all of them, and a line that says what can be typed.

use super::{Board, shows_progress};
use crate::cli::keys::{Act, Keys, Target};
use crate::cli::raw_mode::{self, Taking};
use crate::cli::view::SPINNER_COLUMNS;
use haul::printable::shorten;
use haul::transfer::{Cancel, PeerState};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a board knows of keys.
#[derive(Default)]
pub(super) struct Keyed {
    next: AtomicUsize,
    /// Questions that are asked, or about to be.
    questions: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where they are taken.
    keys: Option<Keys>,
    /// Bytes a second of each transfer whose data moves.
    rates: BTreeMap<usize, u64>,
    are_taken: bool,
    /// The line below all others, while keys are taken.
    hint: Option<ProgressBar>,
}

/// A question is asked, or about to be, until it is dropped.
pub(crate) struct Asking<'a>(&'a Keyed);

impl Keyed {
    /// A number for one more transfer.
    pub(super) fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants_keys(&self, state: &State) -> bool {
        state.keys.is_some() && !state.rates.is_empty() && self.questions.load(Ordering::SeqCst) == 0
    }
}

impl Board {
    /// Runs `transfers`, whose limit keys change (`rate` at first), and which they stop, where there is a terminal to type on
    /// that shows their progress. While keys are taken, what `claim` gives is held, so that nobody is asked anything.
    pub(crate) fn with_limit_keys<T, C>(
        &self,
        cancel: &Cancel,
        (rate, set): (Option<NonZeroU64>, impl Fn(Option<NonZeroU64>) + Sync),
        claim: impl Fn() -> Option<C> + Send,
        transfers: impl FnOnce() -> T,
    ) -> T {
        if !(self.terminal.redraws && self.terminal.answers && shows_progress(&self.output)) {
            return transfers();
        }
        self.keyed.state().keys = Some(Keys::of_all(rate));
        let on_key = |key| match self.press(key) {
            Some(Act::Limit(_, rate)) => set(rate),
            Some(Act::Stop) => cancel.cancel(),
            _ => {}
        };
        let are_wanted = || self.keyed.wants_keys(&self.keyed.state());
        let show = |are_taken| {
            let mut state = self.keyed.state();
            state.are_taken = are_taken;
            self.show_hint(&mut state);
        };
        raw_mode::with_keys(cancel, Taking { are_wanted, claim, show, on_key }, transfers)
    }

    /// From here on until it is dropped, no keys are taken.
    pub(crate) fn about_to_ask(&self) -> Asking<'_> {
        self.keyed.questions.fetch_add(1, Ordering::SeqCst);
        Asking(&self.keyed)
    }

    /// Takes note of how fast the data of a transfer moves, if it does.
    pub(super) fn moves(&self, number: usize, rate: Option<u64>) {
        let mut state = self.keyed.state();
        match rate {
            Some(rate) => drop(state.rates.insert(number, rate)),
            None => drop(state.rates.remove(&number)),
        }
        self.show_hint(&mut state);
    }

    /// Adds a line of progress, above what can be typed.
    pub(super) fn above_hint(&self, bar: ProgressBar) -> ProgressBar {
        match &self.keyed.state().hint {
            Some(hint) => self.bars.insert_before(hint, bar),
            None => self.bars.add(bar),
        }
    }

    fn press(&self, key: u8) -> Option<Act> {
        let mut state = self.keyed.state();
        let targets = targets(&state);
        let act = state.keys.as_mut()?.press(key, &targets);
        self.show_hint(&mut state);
        act
    }

    fn show_hint(&self, state: &mut State) {
        let is_shown = state.are_taken && self.keyed.wants_keys(state);
        let Some(keys) = state.keys.as_ref().filter(|_| is_shown) else {
            if let Some(hint) = state.hint.take() {
                hint.finish_and_clear();
            }
            return;
        };
        let columns = self.terminal.columns.saturating_sub(SPINNER_COLUMNS);
        let text = shorten(&keys.hint_of_all(&targets(state)), columns);
        let hint = state.hint.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("  {msg}").expect("the template is well formed");
            self.bars.add(ProgressBar::no_length().with_style(style))
        });
        hint.set_message(text);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.questions.fetch_sub(1, Ordering::SeqCst);
    }
}

/// All transfers together are what keys are about.
fn targets(state: &State) -> Vec<Target> {
    let rate = state.rates.values().sum();
    vec![Target { session: 0, state: PeerState::Sending, rate: Some(rate), limit: None }]
}
