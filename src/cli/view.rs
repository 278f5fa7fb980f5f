//! Shows a run to whoever watches it, a person or a program, and asks the person where there is one.

use crate::cli::answers::Answers;
use crate::cli::args::Output;
use crate::cli::bar::{bar_style, new_bar};
use crate::cli::exit::Exit;
use crate::cli::findings;
use crate::cli::json::Events;
use crate::cli::keys::Keys;
use crate::cli::lines::line;
use crate::cli::listing;
use crate::cli::progress::{self, Meter, Pace};
use crate::cli::qr;
use crate::cli::receivers::Receivers;
use crate::cli::report::{self, Failure, Side};
use crate::cli::terminal::{Role, Terminal};
use crate::cli::units;
use haul::printable::shorten;
use haul::secret::Link;
use haul::transfer::{Cancel, Decision, Event, Observer, OfferSummary, Phase, Progress, Summary};
use indicatif::ProgressBar;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Redraws of the progress bar in a second.
pub(crate) const REDRAWS_PER_SECOND: u8 = 10;
/// Columns that the spinner before each line takes.
pub(crate) const SPINNER_COLUMNS: usize = 2;

/// What a run is watched through.
pub(crate) struct View {
    pub(crate) terminal: Terminal,
    side: Side,
    output: Output,
    rules: Rules,
    cancel: Cancel,
    /// Asked for once nobody waits for an answer about the offer any more.
    withdrawn: Cancel,
    qr: qr::Wish,
    /// Nobody finds the sender by the number of its code.
    is_unannounced: bool,
    /// Nothing is sent or written.
    is_dry: bool,
    answers: Mutex<Box<dyn Answers>>,
    state: Mutex<State>,
}

/// What the command line decided before anybody is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Every offer is accepted.
    pub(crate) accept_all: bool,
    /// What happens to names that are taken.
    pub(crate) conflict_settled: bool,
}

/// Where text goes: standard output and standard error, or a test's buffers.
pub(crate) struct Streams {
    pub(crate) out: Box<dyn Write + Send>,
    pub(crate) err: Box<dyn Write + Send>,
}

#[expect(clippy::struct_excessive_bools, reason = "independent remarks")]
struct State {
    /// `None` where standard output belongs to the events.
    out: Option<Box<dyn Write + Send>>,
    err: Box<dyn Write + Send>,
    events: Option<Events<Box<dyn Write + Send>>>,
    bar: Option<ProgressBar>,
    /// Whether the bar has a second line now.
    bar_is_tall: bool,
    phase: Phase,
    progress: Progress,
    meter: Meter,
    pace: Pace,
    receivers: Receivers,
    /// Keys about receivers, where they are taken.
    keys: Option<Keys>,
    keys_at_once: bool,
    /// Keys are taken at this moment.
    keys_taken: bool,
    /// Data moves, or did.
    is_under_way: bool,
    /// A question is open, so nothing may be drawn over it.
    is_asking: bool,
    /// The user was told that the run is about to stop.
    is_stopping: bool,
}

impl View {
    pub(crate) fn new(
        side: Side,
        output: Output,
        rules: Rules,
        terminal: Terminal,
        cancel: Cancel,
        answers: Box<dyn Answers>,
        streams: Streams,
    ) -> Self {
        let Streams { out, err } = streams;
        let (out, events) =
            if output.json { (None, Some(Events::new(out, side == Side::Sending))) } else { (Some(out), None) };
        let state = State {
            out,
            err,
            events,
            bar: None,
            bar_is_tall: true,
            phase: Phase::Scanning,
            progress: Progress::default(),
            meter: Meter::default(),
            pace: Pace::default(),
            receivers: Receivers::default(),
            keys: None,
            keys_at_once: false,
            keys_taken: false,
            is_under_way: false,
            is_asking: false,
            is_stopping: false,
        };
        let withdrawn = cancel.for_a_part();
        let (qr, answers, state) = (qr::Wish::default(), Mutex::new(answers), Mutex::new(state));
        Self {
            terminal,
            side,
            output,
            rules,
            cancel,
            withdrawn,
            qr,
            is_unannounced: false,
            is_dry: false,
            answers,
            state,
        }
    }

    /// Asks through the same answers that the listing is decided with.
    pub(crate) fn with_answers<T>(&self, act: impl FnOnce(&mut dyn Answers) -> T) -> T {
        act(self.answers.lock().unwrap_or_else(PoisonError::into_inner).as_mut())
    }

    /// Says how the run ended, to people and programs, and how the process is to end.
    pub(crate) fn finish(&self, result: Result<Summary, Failure>) -> Exit {
        let mut state = self.state();
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        let (summary, failure) = match result {
            Ok(summary) => {
                let failure = Failure::of_summary(&summary, self.side);
                (summary, failure)
            }
            Err(failure) => (report::summary_of(&state.progress, failure.seconds), Some(failure)),
        };
        let failure = failure.map(|failure| if self.is_dry { failure.of_dry_run() } else { failure });
        match &failure {
            Some(failure) => state.say(&failure.text(&self.terminal)),
            None if self.output.quiet || self.output.json || self.is_dry => {}
            None => state.say(&report::summary_text(&summary, self.side, &self.terminal)),
        }
        let exit = failure.as_ref().map_or(Exit::Ok, |failure| failure.exit);
        // Nothing follows the last event, whatever threads are cut off with the process.
        if let Some(mut events) = state.events.take() {
            events.done(&summary, exit.code(), failure.as_ref());
        }
        exit
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether progress is shown to a person at all.
    fn shows_progress(&self) -> bool {
        !(self.output.quiet || self.output.json || self.output.no_progress)
    }

    fn show(&self, state: &mut State, event: &Event, now: Instant) {
        state.receivers.note(event, now);
        match event {
            Event::Phase(phase) => {
                state.phase = *phase;
                state.is_under_way |= matches!(phase, Phase::Transferring);
                self.show_phase(state, now);
            }
            Event::Progress(progress) => {
                state.meter.sample(now, progress.bytes_fetched);
                state.progress = progress.clone();
                self.show_progress(state, now);
            }
            Event::OfferReady { link, code, files, folders, bytes } => {
                let code = code.as_ref().map(|code| code.as_str());
                self.show_offer(state, link, code, &units::contents(*files, *folders, *bytes));
            }
            Event::Found(finding) => state.print(&findings::line(finding, &self.terminal)),
            _ => {
                if let Some(line) = line(event, &self.output, &self.terminal) {
                    state.say(&format!("{line}\n"));
                }
            }
        }
    }

    fn show_offer(&self, state: &mut State, link: &str, code: Option<&str>, contents: &str) {
        let is_chatty = !self.output.quiet && !self.output.json;
        if is_chatty {
            state.say(&format!("Offering {contents}, at this link:\n"));
        }
        self.show_qr(state, link);
        state.print(link);
        if is_chatty {
            let at = Link::parse(link).ok().filter(|_| self.is_unannounced);
            let at = at.and_then(|link| Some(format!(" --at {}", link.addresses().first()?))).unwrap_or_default();
            let way = code.map_or("` with this link".to_owned(), |code| format!(" {code}{at}`"));
            let long = format!("On the other machine, run `haul receive{way}");
            // A second row would push the link out of a small window.
            let text = if long.len() < self.terminal.columns { long } else { format!("Run there: `haul receive{way}") };
            state.say(&format!("{text}\n"));
        }
    }

    /// Before the link, which may take several rows: a small window keeps its last ones.
    fn show_qr(&self, state: &mut State, link: &str) {
        if let Err(fault) = qr::write_file(link, &self.qr) {
            state.say(&format!("{} {fault}\n", self.terminal.paint(Role::Error, "failed:")));
        }
        if !self.output.quiet
            && !self.output.json
            && let Some(code) = qr::on_terminal(link, &self.qr, &self.terminal)
        {
            state.say(&code);
        }
    }

    fn show_phase(&self, state: &mut State, now: Instant) {
        if !self.shows_progress() || state.is_asking {
            return;
        }
        if self.terminal.redraws {
            self.draw(state, now);
        } else if state.pace.is_due_for(now, state.phase) {
            let line = progress::phase_text(state.phase);
            state.say(&format!("{line}\n"));
        }
    }

    fn show_progress(&self, state: &mut State, now: Instant) {
        if !self.shows_progress() || state.is_asking {
            return;
        }
        if self.terminal.redraws {
            self.draw(state, now);
        } else if (state.progress.bytes_total > 0 || state.phase == Phase::Spooling)
            && state.pace.is_due(now, &state.progress)
        {
            let line = progress::plain(&state.progress, state.phase, state.meter.rate(now));
            state.say(&format!("{line}\n"));
        }
    }

    fn draw(&self, state: &mut State, now: Instant) {
        let columns = self.terminal.columns.saturating_sub(SPINNER_COLUMNS);
        let of_receivers = state.of_receivers(now, columns, self.terminal.rows);
        let [total, file] = of_receivers.unwrap_or_else(|| {
            let bar = progress::bar(&state.progress, state.phase, state.meter.rate(now), columns);
            state.with_hint(bar, self.side, now, columns)
        });
        // A second line of nothing would push a QR code out of a small window.
        let is_tall = !file.is_empty();
        if let Some(bar) = &state.bar {
            if state.bar_is_tall != is_tall {
                bar.set_style(bar_style(is_tall));
            }
            bar.set_prefix(total);
            bar.set_message(file);
        } else {
            state.bar = Some(new_bar(total, file));
        }
        state.bar_is_tall = is_tall;
    }
}

impl Observer for View {
    fn event(&self, event: &Event) {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(events) = &mut state.events {
            events.event(event, now);
        }
        self.show(&mut state, event, now);
        if self.cancel.is_cancelled() && !state.is_stopping {
            state.is_stopping = true;
            if !self.output.quiet {
                state.say("Stopping; a second Ctrl-C stops at once.\n");
            }
        }
    }

    fn accept(&self, offer: &OfferSummary) -> Decision {
        let mut state = self.state();
        if let Some(events) = &mut state.events {
            events.listing(offer);
        }
        if self.rules.accept_all {
            if !self.output.quiet && !self.output.json {
                state.say(&listing::text(offer, listing::LINES_UNASKED, false));
            }
            return Decision::Accept;
        }
        (state.is_asking, state.is_under_way) = (true, false);
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        drop(state);
        let decision = self.with_answers(|answers| {
            let mut show = |text: &str| self.state().say(text);
            let Rules { conflict_settled, .. } = self.rules;
            listing::ask(offer, conflict_settled, self.terminal.rows, answers, &self.withdrawn, &mut show)
        });
        self.state().is_asking = false;
        decision
    }

    fn withdraw(&self) {
        self.withdrawn.cancel();
    }
}

impl State {
    /// Writes a line to standard output, where that is no place for events.
    fn print(&mut self, line: &str) {
        let Self { out: Some(out), bar, .. } = self else { return };
        // Whoever started us may have closed our output; the link then reaches nobody, which is theirs to notice.
        let mut write = || {
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        };
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// The line about all receivers, and those about each of them with what can be typed, where that says more than a bar.
    fn of_receivers(&self, now: Instant, columns: usize, rows: usize) -> Option<[String; 2]> {
        if matches!(self.phase, Phase::Scanning) || !self.shows_receivers() {
            return None;
        }
        let (chosen, limit) = self.keys.as_ref().map_or((None, None), |keys| (keys.chosen(), keys.limit()));
        let mut lines = self.receivers.lines(chosen, now, columns + SPINNER_COLUMNS, rows);
        if let Some(keys) = self.keys.as_ref().filter(|_| self.keys_taken) {
            lines.push(shorten(&keys.hint(&self.receivers.targets(now)), columns));
        }
        Some([self.receivers.total(limit, now, columns), lines.join("\n")])
    }

    fn shows_receivers(&self) -> bool {
        self.keys_at_once || self.receivers.are_several()
    }

    /// Writes above the bar. Standard error that cannot be written to is no reason to stop a transfer.
    fn say(&mut self, text: &str) {
        let Self { err, bar, .. } = self;
        let mut write = || {
            let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
        };
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

mod keyed;
mod kinds;
#[cfg(test)]
mod tests;
