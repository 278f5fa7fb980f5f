//! What a sender shows of its receivers: a line for each, and one for all.

use crate::cli::keys::Target;
use crate::cli::progress::Meter;
use crate::cli::units;
use haul::printable::shorten;
use haul::transfer::{Event, PeerState, Progress};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Instant;

/// Receivers that are gone and still shown.
const GONE_MAX: usize = 8;
/// Rows of the terminal that are left to what is said.
const ROWS_LEFT: usize = 6;
/// Columns of an address, unless the terminal is wide.
const ADDRESS_COLUMNS: usize = 21;
/// Widest and narrowest bar.
const BAR_COLUMNS: std::ops::RangeInclusive<usize> = 6..=20;

/// Columns of a rate.
const RATE_COLUMNS: usize = 11;
/// Columns of what a receiver is doing.
const STATE_COLUMNS: usize = 17;

/// Everything that is known about the receivers of a run.
#[derive(Debug, Default)]
pub(crate) struct Receivers {
    all: BTreeMap<u64, Receiver>,
    /// Bytes sent to those that are not there any more.
    sent_before: u64,
    done: u64,
}

#[derive(Debug)]
struct Receiver {
    address: String,
    progress: Progress,
    state: PeerState,
    limit: Option<NonZeroU64>,
    meter: Meter,
}

impl Receivers {
    /// Takes what an event says about one of them.
    pub(crate) fn note(&mut self, event: &Event, now: Instant) {
        match event {
            Event::PeerAsks { peer, session } => self.add(*session, peer.to_string(), PeerState::Asking),
            Event::PeerConnected { peer, session } => self.add(*session, peer.to_string(), PeerState::Idle),
            Event::PeerProgress { session, progress, state, limit } => {
                if let Some(receiver) = self.all.get_mut(session) {
                    receiver.meter.sample(now, progress.bytes_fetched);
                    receiver.progress.clone_from(progress);
                    receiver.state = *state;
                    receiver.limit = *limit;
                }
            }
            Event::PeerFinished { session, ok, .. } => {
                self.remove(*session);
                self.done += u64::from(*ok);
            }
            Event::PeerLost { session } => self.lose(*session),
            Event::PeerRefused { session } => self.remove(*session),
            _ => {}
        }
    }

    /// Whether there is more to show than one receiver at work.
    pub(crate) fn are_several(&self) -> bool {
        self.all.len() > 1 || self.all.values().any(|receiver| receiver.state == PeerState::Asking)
    }

    /// What keys can be about, in order.
    pub(crate) fn targets(&self, now: Instant) -> Vec<Target> {
        let there = self.all.iter().filter(|(_, receiver)| receiver.state != PeerState::Gone);
        there
            .map(|(&session, receiver)| Target {
                session,
                state: receiver.state,
                rate: receiver.meter.rate(now),
                limit: receiver.limit,
            })
            .collect()
    }

    /// The line about all of them. `limit` is that of all together.
    pub(crate) fn total(&self, limit: Option<NonZeroU64>, now: Instant, columns: usize) -> String {
        let there = self.all.values().filter(|receiver| receiver.state != PeerState::Gone).count() as u64;
        let mut parts =
            vec![if there == 0 { "Waiting for a receiver".to_owned() } else { units::count(there, "receiver") }];
        if self.done > 0 {
            parts.push(format!("{} done", units::grouped(self.done)));
        }
        let sent = self.all.values().map(|receiver| receiver.progress.bytes_fetched).sum::<u64>() + self.sent_before;
        parts.push(format!("{} sent", units::size(sent)));
        let rates = self.all.values().filter(|receiver| moves(receiver.state)).filter_map(|it| it.meter.rate(now));
        let rate: u64 = rates.sum();
        if rate > 0 {
            parts.push(format!("{}/s", units::size(rate)));
        }
        if let Some(limit) = limit {
            parts.push(format!("limited to {}/s", units::size(limit.get())));
        }
        shorten(&parts.join("  "), columns.saturating_sub(1))
    }

    /// A line for each, as many as the terminal has room for; the `chosen` one is marked.
    pub(crate) fn lines(&self, chosen: Option<u64>, now: Instant, columns: usize, rows: usize) -> Vec<String> {
        let room = rows.saturating_sub(ROWS_LEFT).max(1);
        let shown = if self.all.len() > room { room.saturating_sub(1).max(1) } else { self.all.len() };
        // The one that keys are about is always seen.
        let place = self.all.keys().position(|&session| Some(session) == chosen).unwrap_or(0);
        let first = (place + 1).saturating_sub(shown);
        let widest = self.all.values().map(|receiver| receiver.address.len()).max().unwrap_or(0);
        let address_columns = widest.min(ADDRESS_COLUMNS.max(columns / 4));
        let line = |(&session, receiver): (&u64, &Receiver)| {
            let mark = if Some(session) == chosen { '>' } else { ' ' };
            let address = shorten(&receiver.address, address_columns);
            let start = format!("{mark}{session:>3}  {address:<address_columns$}");
            receiver.line(&start, now, columns.saturating_sub(1))
        };
        let mut lines: Vec<String> = self.all.iter().skip(first).take(shown).map(line).collect();
        if self.all.len() > shown {
            lines.push(format!("      and {} more", self.all.len() - shown));
        }
        lines
    }

    fn add(&mut self, session: u64, address: String, state: PeerState) {
        let fresh = || Receiver {
            address: String::new(),
            progress: Progress::default(),
            state,
            limit: None,
            meter: Meter::default(),
        };
        let receiver = self.all.entry(session).or_insert_with(fresh);
        (receiver.address, receiver.state) = (address, state);
    }

    fn lose(&mut self, session: u64) {
        let Some(receiver) = self.all.get_mut(&session) else { return };
        // Who went before it was let in was never there.
        if receiver.state == PeerState::Asking {
            self.remove(session);
            return;
        }
        receiver.state = PeerState::Gone;
        let gone = self.all.iter().filter(|(_, receiver)| receiver.state == PeerState::Gone);
        let gone: Vec<u64> = gone.map(|(&session, _)| session).collect();
        for &session in gone.iter().rev().skip(GONE_MAX) {
            self.remove(session);
        }
    }

    fn remove(&mut self, session: u64) {
        if let Some(receiver) = self.all.remove(&session) {
            self.sent_before += receiver.progress.bytes_fetched;
        }
    }
}

impl Receiver {
    fn line(&self, start: &str, now: Instant, columns: usize) -> String {
        if self.state == PeerState::Asking {
            return shorten(&format!("{start}  waits for you: a accept, r refuse"), columns);
        }
        let Progress { bytes_done, bytes_total, .. } = self.progress;
        let percent = (bytes_done.min(bytes_total) * 100).checked_div(bytes_total).unwrap_or(0);
        let rate = self.meter.rate(now).filter(|_| moves(self.state));
        let rate = rate.map_or_else(String::new, |rate| format!("{}/s", units::size(rate)));
        let state = match (self.state, self.limit) {
            (PeerState::Limited | PeerState::Sending, Some(limit)) => {
                format!("limit {}/s", units::size(limit.get()))
            }
            (state, _) => state_text(state).to_owned(),
        };
        let start = format!("{start}  {percent:>3} %");
        let end = format!("{rate:>RATE_COLUMNS$}  {state}");
        let room = columns.saturating_sub(start.len() + RATE_COLUMNS + STATE_COLUMNS + 8);
        let line = if room >= *BAR_COLUMNS.start() {
            let wide = room.min(*BAR_COLUMNS.end());
            let full = usize::try_from(percent).unwrap_or(100) * wide / 100;
            format!("{start}  [{}{}]  {end}", "#".repeat(full), "-".repeat(wide - full))
        } else {
            format!("{start}  {end}")
        };
        shorten(&line, columns)
    }
}

/// Whether bytes are on their way at the rate that was measured.
fn moves(state: PeerState) -> bool {
    matches!(state, PeerState::Limited | PeerState::Sending)
}

fn state_text(state: PeerState) -> &'static str {
    match state {
        PeerState::Asking => "waits for you",
        PeerState::Gone => "gone",
        PeerState::Idle => "asks for nothing",
        PeerState::Limited => "limited",
        PeerState::Sending => "sending",
        PeerState::Stalled => "stalled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::time::Duration;

    const MIB: u64 = 1 << 20;

    fn peer(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 50_000))
    }

    fn progress(session: u64, done: u64, state: PeerState, limit: u64) -> Event {
        let progress =
            Progress { bytes_total: 100 * MIB, bytes_done: done, bytes_fetched: done, ..Progress::default() };
        Event::PeerProgress { session, progress, state, limit: NonZeroU64::new(limit) }
    }

    /// Three receivers after a second: one fast, one limited, one that waits for the user.
    fn three() -> (Receivers, Instant) {
        let (mut receivers, began) = (Receivers::default(), Instant::now());
        receivers.note(&Event::PeerConnected { peer: peer(7), session: 1 }, began);
        receivers.note(&Event::PeerConnected { peer: peer(123), session: 2 }, began);
        receivers.note(&Event::PeerAsks { peer: peer(9), session: 3 }, began);
        for (second, one, two) in [(0, 0, 0), (1, 45 * MIB, 10 * MIB)] {
            let now = began + Duration::from_secs(second);
            receivers.note(&progress(1, one, PeerState::Sending, 0), now);
            receivers.note(&progress(2, two, PeerState::Limited, 10 * MIB), now);
        }
        (receivers, began + Duration::from_secs(1))
    }

    #[test]
    fn each_receiver_has_a_line_and_all_have_one() {
        let (receivers, now) = three();
        assert!(receivers.are_several());
        assert_eq!(receivers.total(None, now, 80), "3 receivers  55.0 MiB sent  55.0 MiB/s");
        assert_eq!(
            receivers.lines(Some(2), now, 80, 24),
            [
                "   1  192.0.2.7:50000     45 %  [#####--------]   45.0 MiB/s  sending",
                ">  2  192.0.2.123:50000   10 %  [#------------]   10.0 MiB/s  limit 10.0 MiB/s",
                "   3  192.0.2.9:50000    waits for you: a accept, r refuse",
            ]
        );
    }

    #[test]
    fn lines_fit_the_terminal_and_the_chosen_one_is_seen() {
        let (mut receivers, now) = three();
        for session in 4..=40 {
            receivers.note(&Event::PeerConnected { peer: "[2001:db8::1:2:3:4]:50000".parse().unwrap(), session }, now);
        }
        for (columns, rows) in [(20, 4), (40, 10), (80, 24), (200, 60)] {
            for chosen in [None, Some(1), Some(20), Some(40)] {
                let lines = receivers.lines(chosen, now, columns, rows);
                assert!(lines.len() <= rows.saturating_sub(ROWS_LEFT).max(2), "{} lines in {rows} rows", lines.len());
                assert!(lines.iter().all(|line| line.chars().count() < columns), "{lines:#?} in {columns} columns");
                assert_eq!(lines.iter().any(|line| line.starts_with('>')), chosen.is_some(), "{lines:#?}");
            }
        }
        assert_eq!(receivers.lines(None, now, 80, 24).last().unwrap(), "      and 23 more");
    }

    #[test]
    fn who_is_done_or_turned_away_is_not_shown_and_who_is_lost_is() {
        let (mut receivers, now) = three();
        receivers.note(&Event::PeerFinished { session: 1, ok: true, bytes: 100 * MIB }, now);
        receivers.note(&Event::PeerLost { session: 2 }, now);
        receivers.note(&Event::PeerLost { session: 3 }, now);
        assert_eq!(
            receivers.lines(None, now, 80, 24),
            ["   2  192.0.2.123:50000   10 %  [#------------]               gone"]
        );
        assert_eq!(
            receivers.total(NonZeroU64::new(MIB), now, 80),
            "Waiting for a receiver  1 done  55.0 MiB sent  limited to 1.00 MiB/s"
        );
        assert!(receivers.targets(now).is_empty());
        receivers.note(&Event::PeerRefused { session: 2 }, now);
        assert!(receivers.lines(None, now, 80, 24).is_empty());
    }

    #[test]
    fn those_that_went_long_ago_are_forgotten() {
        let (mut receivers, now) = (Receivers::default(), Instant::now());
        for session in 1..=1000 {
            receivers.note(&Event::PeerConnected { peer: peer(1), session }, now);
            receivers.note(&Event::PeerLost { session }, now);
        }
        assert_eq!(receivers.all.len(), GONE_MAX);
        assert!(receivers.all.contains_key(&1000));
    }
}
