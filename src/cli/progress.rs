//! Progress as text: what a line says, how fast data moves, and when a plain line is due.

use crate::cli::units;
use haul::printable::shorten;
use haul::transfer::{Phase, Progress};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time that a rate is measured over.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Less time than this gives no rate worth showing.
const RATE_TIME_MIN: Duration = Duration::from_millis(500);
/// Most samples of the window: events may come faster than they can matter.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Without a terminal a line is due after this long.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(5);
/// Without a terminal a line is due after this many percent.
const PLAIN_LINE_PERCENT: u64 = 10;
/// Widest and narrowest bar.
const BAR_COLUMNS: std::ops::RangeInclusive<usize> = 8..=30;

/// Measures how fast bytes are fetched. Reused bytes never count: they did not travel.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    samples: VecDeque<(Instant, u64)>,
}

/// Decides when a plain line is due.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<(Instant, u64)>,
    phase: Option<(Instant, Phase)>,
}

impl Meter {
    /// Takes the count of bytes fetched so far.
    pub(crate) fn sample(&mut self, now: Instant, bytes_fetched: u64) {
        // The first sample is where the span starts, so no later one is folded into it.
        let folds = self.samples.len() > 1;
        match self.samples.back_mut() {
            Some(last) if folds && now.saturating_duration_since(last.0) < SAMPLE_EVERY => {
                last.1 = bytes_fetched;
            }
            _ => self.samples.push_back((now, bytes_fetched)),
        }
        // One sample older than the window stays, so that the window is always spanned.
        while self.samples.len() > 2 && now.saturating_duration_since(self.samples[1].0) >= RATE_WINDOW {
            self.samples.pop_front();
        }
    }

    /// Bytes per second over the last five seconds, or `None` while too little is known.
    pub(crate) fn rate(&self, now: Instant) -> Option<u64> {
        let (start, before) = self.samples.front()?;
        let (_, after) = self.samples.back()?;
        let span = now.saturating_duration_since(*start);
        let bytes = u128::from(after.saturating_sub(*before));
        (span >= RATE_TIME_MIN).then(|| u64::try_from(bytes * 1_000_000 / span.as_micros()).unwrap_or(u64::MAX))
    }
}

impl Pace {
    /// Whether a line about this progress is due.
    pub(crate) fn is_due(&mut self, now: Instant, progress: &Progress) -> bool {
        let step = percent(progress) / PLAIN_LINE_PERCENT;
        let is_due = self
            .last
            .is_none_or(|(at, last_step)| step > last_step || now.saturating_duration_since(at) >= PLAIN_LINE_EVERY);
        if is_due {
            self.last = Some((now, step));
        }
        is_due
    }

    /// Whether a line about this phase is due: always when it is another one, seldom while it only counts its tries.
    pub(crate) fn is_due_for(&mut self, now: Instant, phase: Phase) -> bool {
        let is_due = self.phase.is_none_or(|(at, last)| {
            std::mem::discriminant(&last) != std::mem::discriminant(&phase)
                || (last != phase && now.saturating_duration_since(at) >= PLAIN_LINE_EVERY)
        });
        if is_due {
            self.phase = Some((now, phase));
        }
        is_due
    }
}

/// What a phase is called.
pub(crate) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "Connecting",
        Phase::Finalising => "Finalising",
        Phase::Hashing => "Hashing",
        Phase::Reconnecting { .. } => "Reconnecting",
        Phase::Scanning => "Scanning",
        Phase::Spooling => "Reading standard input",
        Phase::Transferring => "Transferring",
        Phase::Verifying => "Verifying",
        Phase::Waiting => "Waiting for a receiver",
        Phase::WaitingForAnswer => "Waiting for the other end to accept",
        Phase::WaitingForRoom { .. } => "Paused",
        Phase::WaitingForSender => "Waiting for the sender to come back",
    }
}

/// A phase with what is known about it.
pub(crate) fn phase_text(phase: Phase) -> String {
    match phase {
        Phase::Reconnecting { attempt, retry_in } if retry_in.is_zero() => format!("Reconnecting (try {attempt})"),
        Phase::Reconnecting { attempt, retry_in } => {
            let seconds = retry_in.as_secs().max(1);
            format!("Reconnecting in {seconds} s (try {attempt})")
        }
        // A quota, or the number of files: what the user can do about it is the same.
        Phase::WaitingForRoom { needed, free } if free >= needed => {
            "Paused: the disk takes no more; continues by itself when it does".to_owned()
        }
        Phase::WaitingForRoom { needed, free } => {
            let (needed, free) = (units::size(needed), units::size(free));
            format!("Paused: the disk is full; {needed} needed, {free} free; continues by itself when there is room")
        }
        _ => phase_name(phase).to_owned(),
    }
}

/// The two lines of a terminal: the total, and the file in flight.
pub(crate) fn bar(progress: &Progress, phase: Phase, rate: Option<u64>, columns: usize) -> [String; 2] {
    // The last column stays empty: some terminals wrap when it is written to.
    let columns = columns.saturating_sub(1);
    if matches!(phase, Phase::Spooling) {
        return [shorten(&plain(progress, phase, rate), columns), String::new()];
    }
    if matches!(phase, Phase::Waiting) || (progress.bytes_total == 0 && progress.files_total == 0) {
        return [shorten(&phase_text(phase), columns), String::new()];
    }
    if matches!(phase, Phase::WaitingForRoom { .. }) {
        return [shorten(&phase_text(phase), columns), file_line(progress, columns)];
    }
    let start = format!("{} {:>3} %", phase_text(phase), percent(progress));
    let mut details = vec![amounts(progress)];
    details.extend(speed(progress, phase, rate));
    details.extend(reused(progress));
    // What matters least goes first where the terminal is narrow.
    while details.len() > 1 && start.len() + details.iter().map(|part| part.len() + 2).sum::<usize>() > columns {
        details.pop();
    }
    let details = details.join("  ");
    let room = columns.saturating_sub(start.len() + details.len() + 6);
    let total = if room >= *BAR_COLUMNS.start() {
        format!("{start}  [{}]  {details}", filled(progress, room.min(*BAR_COLUMNS.end())))
    } else {
        format!("{start}  {details}")
    };
    [shorten(&total, columns), file_line(progress, columns)]
}

/// One line for a log.
pub(crate) fn plain(progress: &Progress, phase: Phase, rate: Option<u64>) -> String {
    let mut parts = match phase {
        // How much there will be is not known.
        Phase::Spooling => vec![units::size(progress.bytes_done)],
        _ => vec![format!("{} %", percent(progress)), amounts(progress)],
    };
    parts.extend(speed(progress, phase, rate));
    parts.extend(reused(progress));
    format!("{}: {}", phase_name(phase), parts.join(", "))
}

/// Whole percent, rounded down, so that 100 means all.
fn percent(progress: &Progress) -> u64 {
    let (done, total) = match progress.bytes_total {
        0 => (progress.files_done, progress.files_total),
        total => (progress.bytes_done, total),
    };
    if total == 0 {
        return 0;
    }
    u64::try_from(u128::from(done.min(total)) * 100 / u128::from(total)).unwrap_or(100)
}

fn amounts(progress: &Progress) -> String {
    format!("{} of {}", units::size(progress.bytes_done), units::size(progress.bytes_total))
}

/// Rate and time left, in the phases in which data moves.
fn speed(progress: &Progress, phase: Phase, rate: Option<u64>) -> Vec<String> {
    let Some(rate) = rate.filter(|_| matches!(phase, Phase::Spooling | Phase::Transferring)) else { return Vec::new() };
    let left = progress.bytes_total.saturating_sub(progress.bytes_done);
    let mut parts = vec![format!("{}/s", units::size(rate))];
    if let Some(seconds) = left.checked_div(rate).filter(|_| left > 0) {
        parts.push(format!("{} left", units::time(Duration::from_secs(seconds))));
    }
    parts
}

fn reused(progress: &Progress) -> Option<String> {
    (progress.bytes_reused > 0).then(|| format!("{} reused", units::size(progress.bytes_reused)))
}

fn filled(progress: &Progress, columns: usize) -> String {
    let full = usize::try_from(percent(progress)).unwrap_or(100) * columns / 100;
    format!("{}{}", "#".repeat(full), "-".repeat(columns - full))
}

fn file_line(progress: &Progress, columns: usize) -> String {
    let Some(current) = &progress.current else { return String::new() };
    let count = if progress.files_total > 1 {
        format!("  {} of {}  ", progress.files_done, units::count(progress.files_total, "file"))
    } else {
        "  ".to_owned()
    };
    let room = columns.saturating_sub(count.len());
    format!("{count}{}", shorten(current, room))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn progress() -> Progress {
        Progress {
            bytes_total: 4 * GIB,
            bytes_done: 3 * GIB,
            bytes_reused: GIB,
            bytes_fetched: 2 * GIB,
            wire_bytes: 2 * GIB + 1000,
            files_total: 20_000,
            files_done: 12,
            current: Some("photos/2024/one.raw".into()),
            first_byte_ms: Some(3),
        }
    }

    #[test]
    fn a_wide_terminal_shows_everything() {
        let [total, file] = bar(&progress(), Phase::Transferring, Some(512 << 20), 120);
        assert_eq!(
            total,
            "Transferring  75 %  [######################--------]  3.00 GiB of 4.00 GiB  512.0 MiB/s  2 s left  \
             1.00 GiB reused"
        );
        assert_eq!(file, "  12 of 20,000 files  photos/2024/one.raw");
    }

    #[test]
    fn a_narrow_terminal_drops_what_matters_least() {
        let line = |columns| bar(&progress(), Phase::Transferring, Some(512 << 20), columns)[0].clone();
        assert_eq!(line(81), "Transferring  75 %  3.00 GiB of 4.00 GiB  512.0 MiB/s  2 s left  1.00 GiB reused");
        assert_eq!(line(80), "Transferring  75 %  [#########---]  3.00 GiB of 4.00 GiB  512.0 MiB/s  2 s left");
        assert_eq!(line(72), "Transferring  75 %  3.00 GiB of 4.00 GiB  512.0 MiB/s  2 s left");
        assert_eq!(line(55), "Transferring  75 %  3.00 GiB of 4.00 GiB  512.0 MiB/s");
        for columns in 1..130 {
            for text in bar(&progress(), Phase::Transferring, Some(512 << 20), columns) {
                assert!(text.chars().count() < columns.max(23), "{columns}: {text}");
            }
        }
    }

    #[test]
    fn a_file_name_drives_no_terminal() {
        let mut progress = progress();
        progress.current = Some("a\x1b[2J\u{202e}txt.exe".into());
        let [_, file] = bar(&progress, Phase::Transferring, None, 100);
        assert!(file.ends_with("a\\u{1b}[2J\\u{202e}txt.exe"), "{file}");
    }

    #[test]
    fn each_phase_has_its_name_and_a_wait_counts_down() {
        let retry = Phase::Reconnecting { attempt: 3, retry_in: Duration::from_secs(2) };
        assert_eq!(bar(&Progress::default(), retry, None, 80)[0], "Reconnecting in 2 s (try 3)");
        let full = Phase::WaitingForRoom { needed: 6 * GIB / 5, free: 300 << 20 };
        let [total, file] = bar(&progress(), full, None, 100);
        assert_eq!(
            total,
            "Paused: the disk is full; 1.20 GiB needed, 300.0 MiB free; continues by itself when there is room"
        );
        assert!(file.contains("photos/2024/one.raw"));
        let quota = Phase::WaitingForRoom { needed: 4096, free: GIB };
        assert_eq!(phase_text(quota), "Paused: the disk takes no more; continues by itself when it does");
        assert!(plain(&progress(), full, Some(7)).starts_with("Paused: 75 %, "));
        assert_eq!(bar(&progress(), Phase::Waiting, None, 80), ["Waiting for a receiver".to_owned(), String::new()]);
        assert_eq!(
            plain(&progress(), Phase::Verifying, Some(7)),
            "Verifying: 75 %, 3.00 GiB of 4.00 GiB, 1.00 GiB reused"
        );
        assert_eq!(
            plain(&progress(), Phase::Transferring, Some(GIB / 100)),
            "Transferring: 75 %, 3.00 GiB of 4.00 GiB, 10.2 MiB/s, 1 min 40 s left, 1.00 GiB reused"
        );
    }

    #[test]
    fn percent_is_a_hundred_only_at_the_end() {
        let percent_of =
            |done, total| percent(&Progress { bytes_done: done, bytes_total: total, ..Progress::default() });
        assert_eq!(percent_of(u64::MAX - 1, u64::MAX), 99);
        assert_eq!(percent_of(u64::MAX, u64::MAX), 100);
        assert_eq!(percent_of(0, 0), 0);
        assert_eq!(percent(&Progress { files_done: 1, files_total: 2, ..Progress::default() }), 50);
    }

    #[test]
    fn the_rate_is_that_of_the_last_five_seconds() {
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(tenths * 100);
        let mut meter = Meter::default();
        for tenth in 0..=100 {
            meter.sample(at(tenth), tenth * 1000);
        }
        assert_eq!(meter.rate(at(100)), Some(10_000));
        // Nothing arrives any more: the rate falls to nothing within the window.
        for tenth in 101..=151 {
            meter.sample(at(tenth), 100_000);
        }
        assert_eq!(meter.rate(at(151)), Some(0));
        assert!(meter.samples.len() <= 60);
    }

    #[test]
    fn a_rate_needs_half_a_second() {
        let start = Instant::now();
        let mut meter = Meter::default();
        assert_eq!(meter.rate(start), None);
        meter.sample(start, 0);
        meter.sample(start + Duration::from_millis(499), 1000);
        assert_eq!(meter.rate(start + Duration::from_millis(499)), None);
        assert_eq!(meter.rate(start + Duration::from_millis(500)), Some(2000));
    }

    #[test]
    fn a_plain_line_is_due_every_ten_percent_or_five_seconds() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let at = |percent| Progress { bytes_done: percent, bytes_total: 100, ..Progress::default() };
        assert!(pace.is_due(start, &at(0)));
        assert!(!pace.is_due(start, &at(9)));
        assert!(pace.is_due(start, &at(10)));
        assert!(!pace.is_due(start + Duration::from_millis(4999), &at(11)));
        assert!(pace.is_due(start + Duration::from_secs(5), &at(11)));
    }

    #[test]
    fn a_phase_is_told_when_it_changes_and_tries_only_now_and_then() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let retry = |attempt| Phase::Reconnecting { attempt, retry_in: Duration::from_secs(1) };
        assert!(pace.is_due_for(start, Phase::Transferring));
        assert!(!pace.is_due_for(start, Phase::Transferring));
        assert!(pace.is_due_for(start, retry(1)));
        assert!(!pace.is_due_for(start + Duration::from_secs(4), retry(2)));
        assert!(pace.is_due_for(start + Duration::from_secs(5), retry(3)));
        assert!(pace.is_due_for(start + Duration::from_secs(5), Phase::Transferring));
    }
}
