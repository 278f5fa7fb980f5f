//! What keys mean to a run: how fast it is, and to a sender with several receivers which one is meant, and what becomes of it.

use crate::cli::units;
use haul::transfer::PeerState;
use std::num::NonZeroU64;

/// Least limit that keys set, in bytes per second.
const LIMIT_MIN: u64 = 64 << 10;
/// Most that they set.
const LIMIT_MAX: u64 = 64 << 30;
/// The limit that is set where nothing is known about the rate.
const LIMIT_DEFAULT: u64 = 10 << 20;
/// What keys there are, while no receiver is chosen.
const HELP: &str = "1-9 choose, d disconnect, l limit, + - change, a accept, r refuse, q stop";

/// What was typed, as far as it matters to the next key.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// The receiver that keys are about; otherwise all of them.
    chosen: Option<u64>,
    /// Digits of a number that may go on.
    typed: String,
    /// The receiver that is disconnected if the same key comes again.
    armed: Option<u64>,
    /// Everything stops if the same key comes again.
    stops_next: bool,
    /// The limit of all together.
    limit: Option<NonZeroU64>,
    /// Nobody is there to be chosen.
    chooses_none: bool,
}

/// A receiver that keys can be about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) session: u64,
    pub(crate) state: PeerState,
    /// Bytes per second, where they are known.
    pub(crate) rate: Option<u64>,
    pub(crate) limit: Option<NonZeroU64>,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    Accept(u64),
    Disconnect(u64),
    /// Of one receiver, or of all together.
    Limit(Option<u64>, Option<NonZeroU64>),
    Refuse(u64),
    Stop,
}

impl Keys {
    /// Keys of a sender whose receivers together are limited so at first.
    pub(crate) fn new(limit: Option<NonZeroU64>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Keys of a run in which nobody can be chosen, limited so at first.
    pub(crate) fn of_all(limit: Option<NonZeroU64>) -> Self {
        Self { limit, chooses_none: true, ..Self::default() }
    }

    /// The receiver that keys are about.
    pub(crate) fn chosen(&self) -> Option<u64> {
        self.chosen
    }

    /// Takes one key. `targets` are the receivers that are there, in order.
    pub(crate) fn press(&mut self, key: u8, targets: &[Target]) -> Option<Act> {
        self.forget_the_gone(targets);
        let armed = self.armed.take();
        let stops_now = std::mem::take(&mut self.stops_next);
        if key.is_ascii_digit() && !self.chooses_none {
            self.choose(key, targets);
            return None;
        }
        self.typed.clear();
        let chosen = targets.iter().find(|target| Some(target.session) == self.chosen);
        // Whoever waits longest is answered first, unless another one is chosen.
        let is_asking = |target: &&Target| target.state == PeerState::Asking;
        let asking = chosen.filter(is_asking).or(targets.iter().find(is_asking)).map(|target| target.session);
        match key {
            ESCAPE => self.chosen = None,
            b'a' => return asking.map(Act::Accept),
            b'r' => return asking.map(Act::Refuse),
            b'd' => {
                let session = chosen?.session;
                if armed == Some(session) {
                    self.chosen = None;
                    return Some(Act::Disconnect(session));
                }
                self.armed = Some(session);
            }
            b'l' => return Some(self.toggle_limit(chosen, targets)),
            b'+' | b'=' => return self.change_limit(chosen, |rate| rate.saturating_mul(2)),
            b'-' | b'_' => return self.change_limit(chosen, |rate| rate / 2),
            b'q' if stops_now => return Some(Act::Stop),
            b'q' => self.stops_next = true,
            _ => {}
        }
        None
    }

    /// What can be typed now, in a line.
    pub(crate) fn hint(&self, targets: &[Target]) -> String {
        if let Some(armed) = self.armed {
            return format!("d once more disconnects receiver {armed}; any other key does not");
        }
        if self.stops_next {
            return "q once more stops the offer for everybody; any other key does not".to_owned();
        }
        let is_chosen = |target: &&Target| Some(target.session) == self.chosen;
        match targets.iter().find(is_chosen) {
            Some(Target { session, state: PeerState::Asking, .. }) => {
                format!("receiver {session}: a accept, r refuse, Esc none")
            }
            Some(Target { session, limit, .. }) => {
                let limits = if limit.is_some() { "l no limit, + - change it" } else { "l limit" };
                format!("receiver {session}: d disconnect, {limits}, Esc none")
            }
            None => HELP.to_owned(),
        }
    }

    /// The same where a bar is shown in place of receivers.
    pub(crate) fn hint_of_all(&self, targets: &[Target]) -> String {
        match self.limit {
            _ if self.chosen.is_some() => self.hint(targets),
            _ if self.stops_next => "q once more stops; any other key does not".to_owned(),
            Some(limit) => format!("limited to {}/s: l no limit, + - change it, q stop", units::size(limit.get())),
            None => "l limit, q stop".to_owned(),
        }
    }

    /// Chooses by number. Digits that follow each other make one number where there is such a receiver.
    fn choose(&mut self, digit: u8, targets: &[Target]) {
        let find = |text: &str| targets.iter().map(|target| target.session).find(|session| session.to_string() == text);
        let digit = char::from(digit).to_string();
        let longer = format!("{}{digit}", self.typed);
        let is_a_start = |text: &str| targets.iter().any(|target| target.session.to_string().starts_with(text));
        self.typed = if is_a_start(&longer) { longer } else { digit };
        self.chosen = find(&self.typed);
    }

    fn toggle_limit(&mut self, chosen: Option<&Target>, targets: &[Target]) -> Act {
        let (limit, rate) = match chosen {
            Some(target) => (target.limit, target.rate),
            None => (self.limit, targets.iter().map(|target| target.rate).sum()),
        };
        // Half of what it gets now, as a round number.
        let half = rate.map(|rate| rate / 2).filter(|&half| half > 0);
        let wanted = half.map_or(LIMIT_DEFAULT, |half| 1 << half.ilog2());
        self.set_limit(chosen, limit.is_none().then_some(wanted))
    }

    fn change_limit(&mut self, chosen: Option<&Target>, change: impl FnOnce(u64) -> u64) -> Option<Act> {
        let limit = chosen.map_or(self.limit, |target| target.limit)?;
        Some(self.set_limit(chosen, Some(change(limit.get()))))
    }

    fn set_limit(&mut self, chosen: Option<&Target>, limit: Option<u64>) -> Act {
        let limit = limit.and_then(|limit| NonZeroU64::new(limit.clamp(LIMIT_MIN, LIMIT_MAX)));
        if chosen.is_none() {
            self.limit = limit;
        }
        Act::Limit(chosen.map(|target| target.session), limit)
    }

    /// The limit of all receivers together, as it was set last.
    pub(crate) fn limit(&self) -> Option<NonZeroU64> {
        self.limit
    }

    fn forget_the_gone(&mut self, targets: &[Target]) {
        let is_there = |session: &u64| targets.iter().any(|target| target.session == *session);
        self.chosen = self.chosen.filter(is_there);
        self.armed = self.armed.filter(is_there);
    }
}

const ESCAPE: u8 = 0x1b;

#[cfg(test)]
mod tests {
    use super::*;

    fn target(session: u64) -> Target {
        Target { session, state: PeerState::Sending, rate: Some(30 << 20), limit: None }
    }

    fn asking(session: u64) -> Target {
        Target { state: PeerState::Asking, rate: None, ..target(session) }
    }

    /// Everything that a line of keys asks for.
    fn typed(keys: &mut Keys, line: &str, targets: &[Target]) -> Vec<Act> {
        line.bytes().filter_map(|key| keys.press(key, targets)).collect()
    }

    fn rate(bytes: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(bytes)
    }

    #[test]
    fn a_receiver_is_disconnected_by_the_same_key_twice_and_only_if_one_is_chosen() {
        let targets = [target(1), target(2)];
        let of = |line: &str| typed(&mut Keys::default(), line, &targets);
        assert_eq!(of("dd"), []);
        assert_eq!(of("2dd"), [Act::Disconnect(2)]);
        assert_eq!(of("2d"), []);
        assert_eq!(of("2dxd"), [], "another key in between");
        assert_eq!(of("2d1d"), [], "another receiver in between");
        assert_eq!(of("2dddd"), [Act::Disconnect(2)], "after that none is chosen");
        assert_eq!(of("2\x1bdd"), []);
    }

    #[test]
    fn everybody_is_stopped_by_the_same_key_twice() {
        let targets = [target(1), target(2)];
        let of = |line: &str| typed(&mut Keys::default(), line, &targets);
        assert_eq!(of("q"), []);
        assert_eq!(of("qq"), [Act::Stop]);
        assert_eq!(of("qxq"), [], "another key in between");
        assert_eq!(of("1dq"), []);
        assert_eq!(of("1dqd"), []);
        let mut keys = Keys::default();
        typed(&mut keys, "1q", &targets);
        assert_eq!(keys.hint(&targets), "q once more stops the offer for everybody; any other key does not");
    }

    #[test]
    fn the_key_that_arms_says_so() {
        let targets = [target(1), target(2)];
        let mut keys = Keys::default();
        assert_eq!(keys.hint(&targets), HELP);
        keys.press(b'2', &targets);
        assert_eq!(keys.hint(&targets), "receiver 2: d disconnect, l limit, Esc none");
        keys.press(b'd', &targets);
        assert_eq!(keys.hint(&targets), "d once more disconnects receiver 2; any other key does not");
        keys.press(b'x', &targets);
        assert_eq!(keys.hint(&targets), "receiver 2: d disconnect, l limit, Esc none");
        assert_eq!(
            keys.hint(&[Target { state: PeerState::Asking, ..target(2) }]),
            "receiver 2: a accept, r refuse, Esc none"
        );
    }

    #[test]
    fn numbers_of_several_digits_are_typed_as_they_are() {
        let targets = [target(1), target(2), target(12), target(123)];
        let chosen = |line: &str| {
            let mut keys = Keys::default();
            typed(&mut keys, line, &targets);
            keys.chosen()
        };
        assert_eq!(chosen("1"), Some(1));
        assert_eq!(chosen("12"), Some(12));
        assert_eq!(chosen("123"), Some(123));
        assert_eq!(chosen("1\x1b2"), Some(2));
        assert_eq!(chosen("122"), Some(2), "there is none of number 122");
        assert_eq!(chosen("9"), None);
        assert_eq!(chosen("29"), None);
        assert_eq!(chosen("0"), None);
    }

    #[test]
    fn whoever_waits_longest_is_answered_first_unless_another_one_is_chosen() {
        let targets = [target(1), asking(2), asking(3)];
        let of = |line: &str| typed(&mut Keys::default(), line, &targets);
        assert_eq!(of("a"), [Act::Accept(2)]);
        assert_eq!(of("r"), [Act::Refuse(2)]);
        assert_eq!(of("3a"), [Act::Accept(3)]);
        assert_eq!(of("1a"), [Act::Accept(2)], "that one does not wait");
        assert_eq!(typed(&mut Keys::default(), "ar", &targets[..1]), []);
    }

    #[test]
    fn a_limit_starts_at_half_of_the_rate_and_is_doubled_halved_and_lifted() {
        let mut keys = Keys::default();
        let mut targets = [target(1), target(2)];
        assert_eq!(typed(&mut keys, "1l", &targets), [Act::Limit(Some(1), rate(8 << 20))]);
        targets[0].limit = rate(8 << 20);
        assert_eq!(typed(&mut keys, "+", &targets), [Act::Limit(Some(1), rate(16 << 20))]);
        assert_eq!(typed(&mut keys, "-", &targets), [Act::Limit(Some(1), rate(4 << 20))]);
        assert_eq!(typed(&mut keys, "l", &targets), [Act::Limit(Some(1), None)]);
        assert_eq!(typed(&mut keys, "2+-", &targets), [], "there is none to change");
        // Of all together.
        assert_eq!(typed(&mut keys, "\x1bl", &targets), [Act::Limit(None, rate(16 << 20))]);
        assert_eq!(typed(&mut keys, "+", &targets), [Act::Limit(None, rate(32 << 20))]);
        assert_eq!(keys.limit(), rate(32 << 20));
        assert_eq!(typed(&mut keys, "l", &targets), [Act::Limit(None, None)]);
    }

    #[test]
    fn a_limit_stays_within_bounds_whatever_is_typed() {
        let mut keys = Keys::default();
        assert_eq!(typed(&mut keys, "l", &[]), [Act::Limit(None, rate(LIMIT_DEFAULT))]);
        typed(&mut keys, &"-".repeat(100), &[]);
        assert_eq!(keys.limit(), rate(LIMIT_MIN));
        typed(&mut keys, &"+".repeat(100), &[]);
        assert_eq!(keys.limit(), rate(LIMIT_MAX));
        let nothing = [Target { rate: Some(0), ..target(1) }];
        assert_eq!(typed(&mut keys, "1l", &nothing), [Act::Limit(Some(1), rate(LIMIT_DEFAULT))]);
    }

    #[test]
    fn where_nobody_can_be_chosen_keys_are_about_all() {
        let mut keys = Keys::of_all(rate(3 << 20));
        let targets = [target(1)];
        assert_eq!(keys.hint_of_all(&targets), "limited to 3.00 MiB/s: l no limit, + - change it, q stop");
        assert_eq!(typed(&mut keys, "1+", &targets), [Act::Limit(None, rate(6 << 20))]);
        assert_eq!(typed(&mut keys, "1l", &targets), [Act::Limit(None, None)]);
        assert_eq!(keys.hint_of_all(&targets), "l limit, q stop");
        assert_eq!(typed(&mut keys, "1l", &targets), [Act::Limit(None, rate(8 << 20))], "half of the rate");
        assert_eq!(typed(&mut keys, "1dd+qx", &targets), [Act::Limit(None, rate(16 << 20))]);
        keys.press(b'q', &targets);
        assert_eq!(keys.hint_of_all(&targets), "q once more stops; any other key does not");
        assert_eq!(keys.press(b'q', &targets), Some(Act::Stop));
    }

    #[test]
    fn a_receiver_that_is_gone_is_not_chosen_any_more() {
        let mut keys = Keys::default();
        typed(&mut keys, "2d", &[target(1), target(2)]);
        assert_eq!(keys.press(b'd', &[target(1)]), None);
        assert_eq!(keys.chosen(), None);
    }

    #[test]
    fn no_key_does_anything_by_accident() {
        for key in 0..=u8::MAX {
            let act = Keys::default().press(key, &[target(1)]);
            let is_meant = key == b'l';
            assert_eq!(act.is_some(), is_meant, "{key:#x}: {act:?}");
        }
    }
}
