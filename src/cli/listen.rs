//! `haul receive` without a link: listens, asks about one offer after the other, shows each sender on a line of its own.

use crate::cli::answers::{Answers, Nobody};
use crate::cli::args::{Output, Receive};
use crate::cli::exit::Exit;
use crate::cli::link;
use crate::cli::places::Places;
use crate::cli::report::{Failure, Side};
use crate::cli::signals::Signals;
use crate::cli::strand::{Board, Ended, Strand};
use crate::cli::terminal::{Role, Terminal};
use crate::cli::view::Rules;
use crate::cli::{expectation, failure_of, install_signals, keyboard, lines, listing, qr, stopped, streams};
use haul::printable::printable_path;
use haul::transfer::{
    self, Cancel, Decision, Event, Expectation, HostedSession, Hosting, ListenSettings, Observer, OfferSummary,
    Summary, Throttle, TransferError,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

/// A run that listens, as it is watched.
pub(crate) struct Reception<'a> {
    pub(crate) board: &'a Board,
    pub(crate) rules: Rules,
    pub(crate) into: PathBuf,
    pub(crate) qr: qr::Wish,
    pub(crate) answers: Mutex<Box<dyn Answers>>,
    pub(crate) signals: &'a Signals,
    pub(crate) cancel: &'a Cancel,
    pub(crate) ended: Mutex<Vec<Ended>>,
}

/// One sender of it.
struct Guest<'a> {
    reception: &'a Reception<'a>,
    strand: Strand<'a>,
    number: u64,
    peer: SocketAddr,
    /// Asked for once nobody waits for an answer about its offer any more.
    withdrawn: Cancel,
    came: Instant,
}

/// Whether a `receive` listens: nothing says what to fetch.
pub(crate) fn is_wanted(receive: &Receive) -> bool {
    receive.invitation.is_empty() && !receive.ask && std::env::var_os(link::VARIABLE).is_none()
}

/// What is wrong with a `receive` that fetches and says how to listen.
pub(crate) fn refuse_flags(receive: &Receive) -> Option<Failure> {
    let is_bound = receive.bind.is_some() && std::env::var_os("HAUL_BIND").is_none();
    let flags = [(receive.keep, "--keep"), (receive.page.tls, "--tls"), (is_bound, "--bind")];
    let (_, flag) = flags.into_iter().find(|(is_given, _)| *is_given)?;
    let text = format!("{flag} is for listening, and there is a link to fetch from");
    Some(Failure::new(Exit::Usage, &text).next("run it without a link, and without HAUL_LINK set, to listen"))
}

pub(crate) fn run(receive: Receive, output: &Output) -> Exit {
    let cancel = Cancel::new();
    let terminal = Terminal::detect(output.color);
    let board = Board::new(terminal, output.clone(), cancel.clone(), streams());
    let began = Instant::now();
    let answers = keyboard(false);
    let prepared = check(&receive, answers.is_some()).and_then(|()| {
        let expect = expectation(receive.expect.as_deref())?;
        Ok((install_signals(&cancel)?, expect))
    });
    let (signals, expect) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            board.say(&failure.text(&board.terminal));
            return finish(&board, &Summary::default(), Some(&failure), 0);
        }
    };
    let reception = Reception {
        board: &board,
        rules: Rules { accept_all: receive.yes, conflict_settled: receive.conflict.chosen().is_some() },
        into: receive.into.clone(),
        qr: receive.announcing.qr(receive.address.is_some()),
        answers: Mutex::new(answers.unwrap_or_else(|| Box::new(Nobody))),
        signals: &signals,
        cancel: &cancel,
        ended: Mutex::default(),
    };
    let settings = settings(receive, expect);
    let last_word = |exit| {
        let failure = stopped(exit, Side::Listening, began);
        board.say(&failure.text(&board.terminal));
        finish(&board, &Summary::default(), Some(&failure), 0);
    };
    let limit = (settings.throttle.rate(), |rate| settings.throttle.set(rate));
    let listen = || transfer::listen(&settings, &reception, &cancel);
    let claim = || try_lock(&reception.answers);
    let result = signals.obeyed(&cancel, last_word, || board.with_limit_keys(&cancel, limit, claim, listen));
    reception.finish(result, began)
}

fn check(receive: &Receive, can_ask: bool) -> Result<(), Failure> {
    receive.page.check()?;
    if receive.out.is_some() {
        return Err(Failure::new(Exit::Usage, "--out is for one file that a link offers, and there is no link")
            .next("add the link or the code that `haul send` printed"));
    }
    if receive.dry_run {
        return Err(Failure::new(Exit::Usage, "--dry-run looks at what a link offers, and there is no link")
            .next("add the link or the code that `haul send` printed"));
    }
    if receive.at.is_some() && std::env::var_os("HAUL_AT").is_none() {
        return Err(Failure::new(Exit::Usage, "--at says where the sender of a code is, and there is no code")
            .next("add the code to fetch by it, or leave --at out to listen"));
    }
    if !receive.yes && !can_ask {
        return Err(Failure::new(Exit::Usage, "there is no terminal to ask on whether to accept what is sent")
            .next("pass --yes to accept whatever senders offer, or a link to fetch from"));
    }
    if !receive.into.is_dir() {
        let what = format!("`{}` is not a folder", printable_path(&receive.into));
        return Err(Failure::new(Exit::Io, &what).next("create it, or choose another one with --into"));
    }
    Ok(())
}

fn settings(receive: Receive, expect: Option<Expectation>) -> ListenSettings {
    ListenSettings {
        conflict: receive.conflict.chosen().unwrap_or_default(),
        into: receive.into,
        bind: receive.bind,
        address: receive.address,
        keep: receive.keep,
        no_code: receive.no_code,
        announce: !receive.announcing.no_announce,
        read_back: receive.read_back,
        lanes: receive.lanes.count,
        retry_for: receive.retry_for,
        allow_hidden: receive.allow_hidden,
        expect,
        state_dir: Places::detect().state,
        symlinks: receive.tree.symlinks,
        attributes: receive.tree.xattrs,
        compress: receive.compress.how,
        throttle: Throttle::new(receive.limit.rate),
        pages: receive.page.pages(),
        tls: receive.page.tls,
    }
}

/// Says how the run ended, where nobody said it yet, and how the process is to end.
fn finish(board: &Board, summary: &Summary, failure: Option<&Failure>, failed: u64) -> Exit {
    let exit = failure.map_or(Exit::Ok, |failure| failure.exit);
    if let Some(mut events) = board.events() {
        events.add_failed(failed);
        events.done(summary, exit.code(), failure);
    }
    exit
}

impl Reception<'_> {
    fn finish(&self, result: Result<Summary, TransferError>, began: Instant) -> Exit {
        let ended = lock(&self.ended);
        let failed = ended.iter().map(|one| one.failed).sum();
        match result {
            Ok(summary) => finish(self.board, &summary, None, failed),
            Err(error) => {
                let failure = failure_of(&error, Side::Listening, self.signals, began);
                let last = ended.last().and_then(|one| one.failure.as_ref());
                let is_told = last.is_some_and(|last| last.exit == failure.exit && !failure.exit.is_stop());
                if !is_told {
                    self.board.say(&failure.text(&self.board.terminal));
                }
                let summary = Summary { seconds: failure.seconds, ..Summary::default() };
                let summary = ended.last().filter(|_| is_told).map_or(summary, |last| last.summary.clone());
                finish(self.board, &summary, Some(&failure), failed)
            }
        }
    }

    /// Shows the link below what it leads to, and above how to use it.
    pub(crate) fn show_link(&self, link: &str, what: &str, how: &str) {
        if self.board.is_chatty() {
            self.board.say(&format!("{what}, at this link:\n"));
        }
        if let Err(fault) = qr::write_file(link, &self.qr) {
            self.board.say(&format!("{} {fault}\n", self.board.terminal.paint(Role::Error, "failed:")));
        }
        if self.board.is_chatty()
            && let Some(qr) = qr::on_terminal(link, &self.qr, &self.board.terminal)
        {
            self.board.say(&qr);
        }
        if !self.board.output.json {
            self.board.print(&format!("{link}\n"));
        }
        if self.board.is_chatty() {
            // Last, since a small window keeps its last rows, and the code is what is read aloud.
            self.board.say(&format!("{how}\n"));
        }
    }
}

impl Hosting for Reception<'_> {
    fn event(&self, event: &Event) {
        if let Some(mut events) = self.board.events() {
            events.event(event, Instant::now());
        }
        match event {
            Event::Listening { link, code } => {
                let what = format!("Listening, into `{}`", printable_path(&self.into));
                let way = code.as_ref().map_or("LINK", |code| code.as_str());
                self.show_link(link, &what, &format!("On the other machine, run `haul send PATH --to {way}`"));
            }
            event => {
                if let Some(line) = lines::line(event, &self.board.output, &self.board.terminal) {
                    self.board.say(&format!("{line}\n"));
                }
            }
        }
    }

    fn session(&self, number: u64, peer: SocketAddr) -> Box<dyn HostedSession + '_> {
        let strand = Strand::of_session(self.board, number);
        if let Some(mut events) = self.board.events() {
            events.event(&Event::PeerConnected { peer, session: number }, Instant::now());
        }
        if self.board.is_chatty() {
            self.board.say(&format!("Sender {number} connected from {peer}\n"));
        }
        let withdrawn = self.cancel.for_a_part();
        Box::new(Guest { reception: self, strand, number, peer, withdrawn, came: Instant::now() })
    }
}

impl Guest<'_> {
    /// Asks about its offer, once nobody else's is being asked about.
    fn ask(&self, offer: &OfferSummary) -> Decision {
        let Reception { board, rules, answers, .. } = self.reception;
        // Keys that are taken meanwhile keep the answers until they are not wanted any more.
        let _asking = board.about_to_ask();
        let mut answers = lock(answers);
        if self.withdrawn.is_cancelled() {
            return Decision::Refuse;
        }
        board.question(|show| {
            show(&format!("Sender {} at {} offers:\n", self.number, self.peer));
            let rows = board.terminal.rows;
            let decision = listing::ask(offer, rules.conflict_settled, rows, answers.as_mut(), &self.withdrawn, show);
            if self.withdrawn.is_cancelled() {
                // The question is left standing without an answer.
                show("\n");
            }
            decision
        })
    }
}

impl Observer for Guest<'_> {
    fn event(&self, event: &Event) {
        self.strand.event(event);
    }

    fn accept(&self, offer: &OfferSummary) -> Decision {
        self.strand.tell_listing(offer);
        let Reception { board, rules, .. } = self.reception;
        if !rules.accept_all {
            return self.ask(offer);
        }
        if board.is_chatty() {
            let text = listing::text(offer, listing::LINES_UNASKED, false);
            board.say(&format!("Sender {} at {} sends:\n{text}", self.number, self.peer));
        }
        Decision::Accept
    }

    fn withdraw(&self) {
        self.withdrawn.cancel();
    }
}

impl HostedSession for Guest<'_> {
    fn ended(&self, outcome: &Result<Summary, TransferError>) {
        let result = match outcome {
            Ok(summary) => Ok(summary.clone()),
            Err(error) => Err(failure_of(error, Side::Listening, self.reception.signals, self.came)),
        };
        let ended = self.strand.finish(result);
        lock(&self.reception.ended).push(ended);
    }
}

pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
