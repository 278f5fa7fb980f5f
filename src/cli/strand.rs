//! One transfer of several that run at the same time: one line of progress each, and events that name it.

use self::keyed::Keyed;
use crate::cli::args::Output;
use crate::cli::exit::Exit;
use crate::cli::json::Events;
use crate::cli::lines;
use crate::cli::progress::{self, Meter, Pace};
use crate::cli::report::{self, Failure, Side};
use crate::cli::terminal::Terminal;
use crate::cli::view::{REDRAWS_PER_SECOND, SPINNER_COLUMNS, Streams};
use haul::printable::shorten;
use haul::transfer::{Cancel, Decision, Event, Observer, OfferSummary, Phase, Progress, Summary, Unfinished};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

mod keyed;

/// Columns that the name of a transfer takes at most.
const LABEL_COLUMNS: usize = 28;

/// What all transfers of a run share: the streams, and the lines of a terminal.
pub(crate) struct Board {
    pub(crate) terminal: Terminal,
    pub(crate) output: Output,
    cancel: Cancel,
    out: SharedOut,
    err: Mutex<Err>,
    bars: MultiProgress,
    keyed: Keyed,
}

/// One transfer as it is watched.
pub(crate) struct Strand<'a> {
    board: &'a Board,
    /// Tells it from the others of the run.
    number: usize,
    label: String,
    side: Side,
    state: Mutex<State>,
}

/// How a transfer ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) summary: Summary,
    pub(crate) failure: Option<Failure>,
    /// Files and folders that failed.
    pub(crate) failed: u64,
}

/// Standard output, line by line from several transfers.
#[derive(Clone)]
pub(crate) struct SharedOut(Arc<Mutex<Box<dyn Write + Send>>>);

struct Err {
    out: Box<dyn Write + Send>,
    /// A question is open: what others have to say waits here.
    held: Option<String>,
    /// The user was told that the run is about to stop.
    is_stopping: bool,
}

struct State {
    events: Option<Events<SharedOut>>,
    bar: Option<ProgressBar>,
    phase: Phase,
    progress: Progress,
    meter: Meter,
    pace: Pace,
}

impl Board {
    pub(crate) fn new(terminal: Terminal, output: Output, cancel: Cancel, streams: Streams) -> Self {
        let Streams { out, err } = streams;
        let is_drawn = terminal.redraws && shows_progress(&output);
        let target = if is_drawn {
            ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            terminal,
            output,
            cancel,
            out: SharedOut(Arc::new(Mutex::new(out))),
            err: Mutex::new(Err { out: err, held: None, is_stopping: false }),
            bars: MultiProgress::with_draw_target(target),
            keyed: Keyed::default(),
        }
    }

    /// The events of the run as a whole, where a program wants them.
    pub(crate) fn events(&self) -> Option<Events<SharedOut>> {
        self.output.json.then(|| Events::new(self.out.clone(), false))
    }

    /// The events of one transfer, where a program wants them.
    pub(crate) fn events_of(&self, transfer: &Unfinished) -> Option<Events<SharedOut>> {
        self.output.json.then(|| Events::of_transfer(self.out.clone(), transfer.id.to_string()))
    }

    /// Standard output, line by line.
    pub(crate) fn out(&self) -> SharedOut {
        self.out.clone()
    }

    /// Whether a person wants to read more than errors.
    pub(crate) fn is_chatty(&self) -> bool {
        !self.output.quiet && !self.output.json
    }

    /// Writes above the lines of progress. Standard error that cannot be written to is no reason to stop a transfer.
    pub(crate) fn say(&self, text: &str) {
        let mut err = self.err();
        match &mut err.held {
            Some(held) => held.push_str(text),
            None => self.write(&mut err, text),
        }
    }

    fn write(&self, err: &mut Err, text: &str) {
        self.bars.suspend(|| {
            let _ = err.out.write_all(text.as_bytes()).and_then(|()| err.out.flush());
        });
    }

    /// Writes to standard output, above the lines of progress. Whoever started us may have closed it, which is theirs to
    /// notice.
    pub(crate) fn print(&self, text: &str) {
        let mut out = self.out.clone();
        self.bars.suspend(|| {
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        });
    }

    /// Has a question asked by `ask`, which is given what shows text. Nothing is drawn or said over it.
    pub(crate) fn question<T>(&self, ask: impl FnOnce(&mut dyn FnMut(&str)) -> T) -> T {
        let is_drawn = !self.bars.is_hidden();
        self.err().held = Some(String::new());
        if is_drawn {
            let _ = self.bars.clear();
            self.bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let answer = ask(&mut |text| self.write(&mut self.err(), text));
        if is_drawn {
            self.bars.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND));
        }
        let held = self.err().held.take().unwrap_or_default();
        if !held.is_empty() {
            self.say(&held);
        }
        answer
    }

    fn note_stop(&self) {
        if self.cancel.is_cancelled() && !std::mem::replace(&mut self.err().is_stopping, true) && !self.output.quiet {
            self.say("Stopping; a second Ctrl-C stops at once.\n");
        }
    }

    fn err(&self) -> MutexGuard<'_, Err> {
        self.err.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Strand<'a> {
    pub(crate) fn new(board: &'a Board, transfer: &Unfinished) -> Self {
        Self::with(board, board.events_of(transfer), label(transfer), Side::Receiving)
    }

    /// A sender that connected here.
    pub(crate) fn of_session(board: &'a Board, number: u64) -> Self {
        let events = board.output.json.then(|| Events::of_session(board.out.clone(), number));
        Self::with(board, events, format!("Sender {number}"), Side::Listening)
    }

    /// A receiver that connected here: it has a line while bytes go to it. The events of the run are about it too.
    pub(crate) fn of_receiver(board: &'a Board, number: u64) -> Self {
        let strand = Self::with(board, None, format!("Receiver {number}"), Side::Sharing);
        strand.state().phase = Phase::Transferring;
        strand
    }

    fn with(board: &'a Board, events: Option<Events<SharedOut>>, label: String, side: Side) -> Self {
        let state = State {
            events,
            bar: None,
            phase: Phase::Connecting,
            progress: Progress::default(),
            meter: Meter::default(),
            pace: Pace::default(),
        };
        Self { board, number: board.keyed.number(), label, side, state: Mutex::new(state) }
    }

    /// Writes what the folder holds of it.
    pub(crate) fn found(&self, transfer: &Unfinished) {
        if let Some(events) = &mut self.state().events {
            events.unfinished(transfer);
        }
    }

    /// Writes what its offer holds, before it is decided about.
    pub(crate) fn tell_listing(&self, offer: &OfferSummary) {
        if let Some(events) = &mut self.state().events {
            events.listing(offer);
        }
    }

    /// Takes its line away.
    pub(crate) fn leave(&self) {
        if let Some(bar) = self.state().bar.take() {
            bar.finish_and_clear();
        }
        self.board.moves(self.number, None);
    }

    /// Says how it ended, unless it stopped because all of them do.
    pub(crate) fn finish(&self, result: Result<Summary, Failure>) -> Ended {
        self.leave();
        let mut state = self.state();
        let Board { terminal, .. } = self.board;
        let (summary, failure) = match result {
            Ok(summary) => {
                let failure = Failure::of_summary(&summary, self.side);
                (summary, failure)
            }
            Err(failure) => (report::summary_of(&state.progress, failure.seconds), Some(failure)),
        };
        match &failure {
            Some(failure) if failure.exit.is_stop() => {}
            Some(failure) => {
                let named = Failure { what: format!("{}: {}", self.label, failure.what), ..failure.clone() };
                self.board.say(&named.text(terminal));
            }
            None if !self.board.is_chatty() => {}
            None => {
                let text = report::summary_text(&summary, self.side, terminal);
                self.board.say(&format!("{}: {text}", self.label));
            }
        }
        let exit = failure.as_ref().map_or(Exit::Ok, |failure| failure.exit);
        let mut failed = 0;
        if let Some(events) = &mut state.events {
            events.ended(&summary, exit.code(), failure.as_ref());
            failed = events.failed();
        }
        Ended { summary, failure, failed }
    }

    fn show(&self, state: &mut State, now: Instant, is_phase: bool) {
        let Board { terminal, output, .. } = self.board;
        if !shows_progress(output) {
            return;
        }
        let State { phase, progress, meter, pace, bar, .. } = state;
        if terminal.redraws {
            let columns = terminal.columns.saturating_sub(SPINNER_COLUMNS + self.label.chars().count() + 2);
            let [line, _] = progress::bar(progress, *phase, meter.rate(now), columns);
            let line = format!("{}  {line}", self.label);
            match bar {
                Some(bar) => bar.set_message(line),
                None => *bar = Some(new_bar(self.board, line)),
            }
            let is_under_way = matches!(phase, Phase::Transferring);
            self.board.moves(self.number, is_under_way.then(|| meter.rate(now).unwrap_or(0)));
        } else if is_phase && pace.is_due_for(now, *phase) {
            self.board.say(&format!("{}: {}\n", self.label, progress::phase_text(*phase)));
        } else if !is_phase && progress.bytes_total > 0 && pace.is_due(now, progress) {
            let line = progress::plain(progress, *phase, meter.rate(now));
            self.board.say(&format!("{}: {line}\n", self.label));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Strand<'_> {
    fn event(&self, event: &Event) {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(events) = &mut state.events {
            events.event(event, now);
        }
        match event {
            Event::Phase(phase) => {
                state.phase = *phase;
                self.show(&mut state, now, true);
            }
            Event::Progress(progress) => {
                state.meter.sample(now, progress.bytes_fetched);
                state.progress = progress.clone();
                self.show(&mut state, now, false);
            }
            _ => {
                if let Some(line) = lines::line(event, &self.board.output, &self.board.terminal) {
                    self.board.say(&format!("{}: {line}\n", self.label));
                }
            }
        }
        self.board.note_stop();
    }

    /// It was accepted before, and the transfer itself sees to it that the offer is the same.
    fn accept(&self, offer: &OfferSummary) -> Decision {
        self.tell_listing(offer);
        Decision::Accept
    }
}

impl Write for SharedOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// `photos and 2 more`.
pub(crate) fn label(transfer: &Unfinished) -> String {
    let name = shorten(&transfer.name, LABEL_COLUMNS);
    if transfer.others == 0 { name } else { format!("{name} and {} more", transfer.others) }
}

fn shows_progress(output: &Output) -> bool {
    !(output.quiet || output.json || output.no_progress)
}

fn new_bar(board: &Board, line: String) -> ProgressBar {
    let bar = board.above_hint(ProgressBar::no_length().with_message(line));
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is well formed");
    bar.set_style(style.tick_chars("|/-\\ "));
    bar.enable_steady_tick(Duration::from_secs(1) / u32::from(REDRAWS_PER_SECOND) * 2);
    bar
}
