//! The code that a host shows: three tries, one use, then another one.

use crate::limits::{CODE_TRIES_MAX, CODES_BURNT_MAX};
use crate::secret::Code;
use crate::transfer::event::CodeChange;
use crate::transport::{TransportError, fresh_code};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps the code of one host, for the gatekeeper that asks for it and for whoever shows it.
#[derive(Debug)]
pub(super) struct CodeKeeper {
    /// The same for all of a host's codes. `None` where it shows none.
    number: Option<u16>,
    state: Mutex<State>,
}

/// That a host shows another code from now on, or none, and why.
#[derive(Debug)]
pub(super) struct CodeNews {
    pub(super) code: Option<Code>,
    pub(super) why: CodeChange,
}

#[derive(Debug, Default)]
struct State {
    shown: Option<Shown>,
    /// The one that was used last, and its tries at that moment.
    used: Option<Shown>,
    /// Codes burnt since one was used.
    burnt: u32,
}

#[derive(Debug)]
struct Shown {
    code: Code,
    tries_left: u32,
    /// Tries that were taken and have come to nothing yet, nor to a lane.
    under_way: u32,
}

impl CodeKeeper {
    /// The keeper of fresh codes that show `number` (from 1 to 999), or any.
    pub(super) fn new(number: Option<u16>) -> Result<Self, TransportError> {
        let code = fresh_code(number)?;
        let number = Some(code.number());
        Ok(Self { number, state: Mutex::new(State { shown: Some(Shown::new(code)), ..State::default() }) })
    }

    /// The keeper of a host that shows no code.
    pub(super) fn without() -> Self {
        Self { number: None, state: Mutex::default() }
    }

    /// The number that every code of this host shows.
    pub(super) fn number(&self) -> Option<u16> {
        self.number
    }

    /// The code to show.
    pub(super) fn code(&self) -> Option<Code> {
        self.lock().shown.as_ref().map(|shown| shown.code.clone())
    }

    /// The code, for one guess, which is counted from here on. `None` where no guess is left.
    pub(super) fn take_try(&self) -> Option<Code> {
        let mut state = self.lock();
        let shown = state.shown.as_mut().filter(|shown| shown.tries_left > 0)?;
        shown.tries_left -= 1;
        shown.under_way += 1;
        Some(shown.code.clone())
    }

    /// Whether `code` is still the one to prove. It is used up for everybody else.
    pub(super) fn proven(&self, code: &Code) -> bool {
        let mut state = self.lock();
        let Some(mut used) = state.shown.take_if(|shown| shown.code == *code) else { return false };
        // The try that proves it is none at guessing.
        used.tries_left += 1;
        used.under_way = used.under_way.saturating_sub(1);
        state.used = Some(used);
        state.burnt = 0;
        true
    }

    /// The code that was proven last began no session, and whoever proved it was told so: it may be proven again. Wrong guesses
    /// at it still count.
    pub(super) fn reinstate(&self) {
        let mut state = self.lock();
        if state.shown.is_none() {
            state.shown = state.used.take();
        }
    }

    /// A guess at `code` came to nothing. The last of them burns it, and the host shows another one.
    pub(super) fn failed(&self, code: &Code) -> Option<CodeNews> {
        let mut state = self.lock();
        let State { shown, used, .. } = &mut *state;
        let tried = [&mut *shown, used].into_iter().flatten().find(|tried| tried.code == *code)?;
        tried.under_way = tried.under_way.saturating_sub(1);
        let shown = shown.as_ref().filter(|shown| shown.code == *code)?;
        if shown.tries_left > 0 || shown.under_way > 0 {
            return None;
        }
        state.shown = None;
        state.burnt += 1;
        let fresh = if state.burnt < CODES_BURNT_MAX { self.fresh() } else { None };
        let why = if fresh.is_some() { CodeChange::Burnt } else { CodeChange::GivenUp };
        Some(state.show(fresh, why))
    }

    /// `code` was proven, and its joiner was gone before it could be told: the host shows another one.
    pub(super) fn untold(&self, code: &Code) -> Option<CodeNews> {
        let mut state = self.lock();
        let is_last_used = state.shown.is_none() && state.used.as_ref().is_some_and(|used| used.code == *code);
        if is_last_used { self.renewed(&mut state) } else { None }
    }

    /// Another code in place of one that was used: for one more session, or because the first one is over.
    pub(super) fn renew(&self) -> Option<CodeNews> {
        let mut state = self.lock();
        if state.shown.is_some() { None } else { self.renewed(&mut state) }
    }

    fn renewed(&self, state: &mut State) -> Option<CodeNews> {
        state.used.take()?;
        let fresh = self.fresh();
        Some(state.show(fresh, CodeChange::Used))
    }

    /// Without random bytes there is no code; the link works all the same.
    fn fresh(&self) -> Option<Code> {
        fresh_code(self.number()).ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn show(&mut self, code: Option<Code>, why: CodeChange) -> CodeNews {
        self.shown = code.clone().map(Shown::new);
        CodeNews { code, why }
    }
}

impl Shown {
    fn new(code: Code) -> Self {
        Self { code, tries_left: CODE_TRIES_MAX, under_way: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    fn burn(keeper: &CodeKeeper) -> CodeNews {
        let tries: Vec<Code> = (0..CODE_TRIES_MAX).map(|_| keeper.take_try().unwrap()).collect();
        let mut news: Vec<_> = tries.iter().map(|code| keeper.failed(code)).collect();
        let last = news.pop().unwrap();
        assert!(news.iter().all(Option::is_none), "only the last try burns it");
        last.unwrap()
    }

    #[test]
    fn three_wrong_tries_burn_a_code_and_another_one_comes() {
        let keeper = CodeKeeper::new(Some(7)).unwrap();
        let first = keeper.code().unwrap();
        let news = burn(&keeper);
        assert_eq!(news.why, CodeChange::Burnt);
        let second = keeper.code().unwrap();
        assert!(news.code.as_ref() == Some(&second) && second != first && second.number() == 7);
        assert!(!keeper.proven(&first), "a burnt code proves nothing");
        assert!(keeper.failed(&first).is_none(), "nor does a late failure of it count against the new one");
        assert_eq!(keeper.lock().shown.as_ref().unwrap().tries_left, CODE_TRIES_MAX);
    }

    #[test]
    fn a_try_counts_when_it_is_taken() {
        let keeper = CodeKeeper::new(None).unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| keeper.take_try()).collect();
        assert_eq!(u32::try_from(taken.len()), Ok(CODE_TRIES_MAX));
        assert!(keeper.take_try().is_none(), "whoever comes while the last one is under way gets none");
        assert!(keeper.failed(&taken[0]).is_none() && keeper.failed(&taken[1]).is_none());
        assert!(keeper.proven(&taken[2]), "the last one may be the right one");
    }

    #[test]
    fn of_many_at_once_that_prove_the_code_one_has_it() {
        for _ in 0..50 {
            let keeper = CodeKeeper::new(None).unwrap();
            let proven = AtomicU32::new(0);
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let Some(code) = keeper.take_try() else { return };
                        proven.fetch_add(u32::from(keeper.proven(&code)), Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(proven.into_inner(), 1);
            assert!(keeper.code().is_none() && keeper.take_try().is_none());
            assert_eq!(keeper.renew().unwrap().why, CodeChange::Used);
            assert!(keeper.code().is_some() && keeper.renew().is_none());
        }
    }

    #[test]
    fn a_code_whose_joiner_never_heard_of_its_success_is_followed_by_another_one() {
        let keeper = CodeKeeper::new(None).unwrap();
        let code = keeper.take_try().unwrap();
        assert!(keeper.proven(&code));
        let news = keeper.untold(&code).unwrap();
        assert!(news.why == CodeChange::Used && news.code.is_some() && news.code.as_ref() != Some(&code));
        assert!(keeper.untold(&code).is_none() && keeper.failed(&code).is_none());
    }

    #[test]
    fn a_code_that_began_no_session_may_be_proven_again_and_guesses_at_it_still_count() {
        let keeper = CodeKeeper::new(None).unwrap();
        let code = keeper.take_try().unwrap();
        let (wrong, late) = (keeper.take_try().unwrap(), keeper.take_try().unwrap());
        assert!(keeper.failed(&wrong).is_none());
        assert!(keeper.proven(&code));
        assert!(keeper.failed(&late).is_none(), "it is used at that moment");
        keeper.reinstate();
        assert!(keeper.code().as_ref() == Some(&code) && keeper.renew().is_none());
        let again = keeper.take_try().unwrap();
        assert!(keeper.take_try().is_none(), "two of its three tries were wrong");
        assert!(keeper.proven(&again));
        keeper.reinstate();
        let last = keeper.take_try().unwrap();
        assert_eq!(keeper.failed(&last).unwrap().why, CodeChange::Burnt);
        keeper.reinstate();
        assert!(keeper.code().is_some_and(|shown| shown != code), "a burnt code is not reinstated");
    }

    #[test]
    fn a_wrong_guess_that_outlasts_the_right_one_brings_no_other_code() {
        let keeper = CodeKeeper::new(None).unwrap();
        let (wrong, right) = (keeper.take_try().unwrap(), keeper.take_try().unwrap());
        assert!(keeper.proven(&right));
        assert!(keeper.failed(&wrong).is_none() && keeper.code().is_none());
        assert!(keeper.renew().is_some(), "the one that was used is still known to be");
    }

    #[test]
    fn a_host_that_is_guessed_at_without_end_shows_no_code_any_more() {
        let keeper = CodeKeeper::new(None).unwrap();
        for _ in 1..CODES_BURNT_MAX {
            assert_eq!(burn(&keeper).why, CodeChange::Burnt);
        }
        let last = burn(&keeper);
        assert!(last.why == CodeChange::GivenUp && last.code.is_none());
        assert!(keeper.code().is_none() && keeper.take_try().is_none() && keeper.renew().is_none());
    }

    #[test]
    fn a_use_ends_the_count_of_burnt_codes() {
        let keeper = CodeKeeper::new(None).unwrap();
        for _ in 0..3 {
            for _ in 1..CODES_BURNT_MAX {
                assert_eq!(burn(&keeper).why, CodeChange::Burnt);
            }
            let code = keeper.take_try().unwrap();
            assert!(keeper.proven(&code));
            assert!(keeper.renew().unwrap().code.is_some());
        }
    }

    #[test]
    fn a_host_without_codes_has_none() {
        let keeper = CodeKeeper::without();
        assert!(keeper.code().is_none() && keeper.take_try().is_none() && keeper.renew().is_none());
        assert_eq!(keeper.number(), None);
    }
}
