//! Lets others on the local network find what is offered here, by the number of its code or after its address changed.

use crate::transport::Announcement;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An announcement where one is wanted and possible; the rest works without it.
#[derive(Debug)]
pub(super) struct Beacon {
    announcement: Option<Announcement>,
    /// Why there is none, though one was wanted.
    trouble: Option<String>,
    state: Mutex<State>,
}

/// What was told so far, to the network and to the user.
#[derive(Debug)]
struct State {
    /// Whether somebody can only come by a code, which leads nowhere unless it is announced.
    has_number: bool,
    has_told: bool,
    /// A number is announced.
    shows_number: bool,
}

impl Beacon {
    /// Announces a listener bound to `bound`, unless it hears this machine alone or nobody wants it.
    pub(super) fn open(is_wanted: bool, bound: SocketAddr, number: Option<u16>) -> Self {
        let mut beacon = Self { announcement: None, trouble: None, state: Mutex::new(State::new(number.is_some())) };
        if is_wanted && !bound.ip().is_loopback() {
            match Announcement::bound_to(bound, number) {
                Ok(announcement) => beacon.announcement = Some(announcement),
                Err(fault) => beacon.trouble = Some(fault.to_string()),
            }
        }
        beacon
    }

    /// From now on another code is valid, or none.
    pub(super) fn set_number(&self, number: Option<u16>) {
        self.show(&mut self.lock(), number);
    }

    fn show(&self, state: &mut State, number: Option<u16>) {
        state.has_number |= number.is_some();
        state.shows_number = number.is_some();
        if let Some(announcement) = &self.announcement {
            announcement.set_number(number);
        }
    }

    /// The code is used and no other one has come: nobody is to be led here by its number. Cheap where that is known.
    pub(super) fn hide_number(&self) {
        let mut state = self.lock();
        if state.shows_number {
            self.show(&mut state, None);
        }
    }

    /// Told once, where a code depends on it: that nobody can be led here by one, and why.
    pub(super) fn news(&self) -> Option<String> {
        let mut state = self.lock();
        if state.has_told || !state.has_number {
            return None;
        }
        let trouble = self.trouble.clone().or_else(|| self.announcement.as_ref()?.trouble())?;
        state.has_told = true;
        Some(format!("the code leads nobody here, since {trouble}; hand over the link instead"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(has_number: bool) -> Self {
        Self { has_number, has_told: false, shows_number: has_number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beacon(has_number: bool, trouble: Option<&str>) -> Beacon {
        let trouble = trouble.map(str::to_owned);
        Beacon { announcement: None, trouble, state: Mutex::new(State::new(has_number)) }
    }

    #[test]
    fn trouble_is_told_once_and_only_where_a_code_depends_on_it() {
        assert_eq!(beacon(false, Some("it rains")).news(), None);
        assert_eq!(beacon(true, None).news(), None);
        let troubled = beacon(true, Some("it rains"));
        let text = "the code leads nobody here, since it rains; hand over the link instead";
        assert_eq!((troubled.news().as_deref(), troubled.news()), (Some(text), None));
    }

    #[test]
    fn a_number_is_hidden_until_another_code_comes() {
        let beacon = beacon(true, Some("it rains"));
        beacon.hide_number();
        assert!(!beacon.lock().shows_number && beacon.news().is_some(), "a code depended on it all the same");
        beacon.set_number(Some(7));
        assert!(beacon.lock().shows_number);
    }

    #[test]
    fn nothing_is_announced_that_only_this_machine_can_reach_or_nobody_wants() {
        for (is_wanted, bound) in [(true, "127.0.0.1:4285"), (true, "[::1]:4285"), (false, "0.0.0.0:4285")] {
            let beacon = Beacon::open(is_wanted, bound.parse().unwrap(), Some(7));
            assert!(beacon.announcement.is_none() && beacon.trouble.is_none(), "{bound}");
        }
    }
}
