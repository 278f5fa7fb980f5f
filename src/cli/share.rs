//! `haul share`: a link at which files are fetched and put down, both at the same time.

use crate::cli::answers::Nobody;
use crate::cli::args::{Output, Receive, Send};
use crate::cli::exit::{self, Exit};
use crate::cli::filters::Filters;
use crate::cli::flags::{Compress, ConflictFlags, Invitation, Lanes, Limit, Page, ReceivedTree, SentTree, Stream};
use crate::cli::json::Events;
use crate::cli::listen::{self, Reception, lock, try_lock};
use crate::cli::places::Places;
use crate::cli::report::{self, Failure, Side};
use crate::cli::strand::{Board, SharedOut, Strand};
use crate::cli::terminal::Terminal;
use crate::cli::view::Rules;
use crate::cli::{failure_of, install_signals, keyboard, lines, link, run_send, stopped, streams, units};
use clap::Args;
use haul::printable::printable_path;
use haul::source::Filter;
use haul::transfer::{
    self, Cancel, Controls, Event, HostedSession, Hosting, ListenSettings, Observer, SendSettings, ShareSettings,
    Shared, Summary, Throttle, TransferError,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

/// Offers files and folders and takes what others send, both at one link, until Ctrl-C
///
/// Whoever has the link or the code can do both, in a browser as well, and any number at the same time: fetch what is offered
/// (`haul receive LINK`), and put files into the folder (`haul send PATH --to LINK`). You are asked about each thing that is
/// sent. What arrives is not offered to others: the offer is what lies under the given paths when the command starts. The
/// same paths and folder shared again have the same link, and every transfer continues.
#[derive(Args, Debug)]
#[command(after_long_help = exit::help())]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
pub(crate) struct Share {
    /// Files and folders to offer
    #[arg(required_unless_present = "drop", value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// The folder that takes what others send [default: .]
    #[arg(long, value_name = "DIR", env = "HAUL_INTO", hide_env_values = true)]
    into: Option<PathBuf>,

    /// Offer, and take nothing: whoever wants to send is refused
    #[arg(long, conflicts_with_all = ["drop", "yes", "ConflictFlags"])]
    send_only: bool,

    /// Take, and offer nothing: whoever wants to fetch is refused
    #[arg(long, conflicts_with = "paths")]
    drop: bool,

    /// Accept whatever is sent, without being asked
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    conflict: ConflictFlags,

    #[command(flatten)]
    filters: Filters,

    /// Listen here instead of on any free port of every address
    #[arg(long, value_name = "ADDR:PORT", env = "HAUL_BIND", hide_env_values = true)]
    bind: Option<SocketAddr>,

    /// Put this address alone into the link, on a machine that has several
    #[arg(long, value_name = "IP", env = "HAUL_ADDRESS", hide_env_values = true)]
    address: Option<IpAddr>,

    #[command(flatten)]
    lanes: Lanes,

    #[command(flatten)]
    compress: Compress,

    /// Let no more than so many bytes a second go out, and no more come in: 500K, 10M, 1G
    ///
    /// Counts what travels, compressed or not, each way for itself, over all connections together.
    #[arg(long, value_name = "RATE", env = "HAUL_LIMIT", hide_env_values = true, value_parser = units::parse_rate)]
    limit: Option<NonZeroU64>,

    /// Show no code beside the link
    #[arg(long)]
    no_code: bool,

    #[command(flatten)]
    page: Page,

    #[command(flatten)]
    invitation: Invitation,
}

/// A run that offers and takes, as it is watched.
struct Place<'a> {
    board: &'a Board,
    /// Who puts something down.
    reception: Reception<'a>,
    /// Lines of those who fetch something.
    receivers: Mutex<BTreeMap<u64, Strand<'a>>>,
    /// Of the run as a whole; the link comes first.
    events: Mutex<Option<Events<SharedOut>>>,
}

pub(crate) fn run(share: Share, output: Output) -> Exit {
    if share.send_only || share.drop {
        let refused = refuse(&share).err();
        return match refused {
            Some(failure) => refuse_with(&failure, output),
            None if share.drop => listen::run(share.into_receive(), &output),
            None => run_send(share.into_send(), output),
        };
    }
    let cancel = Cancel::new();
    let terminal = Terminal::detect(output.color);
    let board = Board::new(terminal, output, cancel.clone(), streams());
    let began = Instant::now();
    let answers = keyboard(false);
    let prepared = refuse(&share).and_then(|()| share.check(answers.is_some())).and_then(|()| {
        let filter = share.filters.clone().read()?;
        Ok((install_signals(&cancel)?, filter))
    });
    let (signals, filter) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return say_last(&board, &mut board.events(), &Summary::default(), Some(&failure)),
    };
    let reception = Reception {
        board: &board,
        rules: Rules { accept_all: share.yes, conflict_settled: share.conflict.chosen().is_some() },
        into: share.folder(),
        qr: share.invitation.qr(share.address.is_some()),
        answers: Mutex::new(answers.unwrap_or_else(|| Box::new(Nobody))),
        signals: &signals,
        cancel: &cancel,
        ended: Mutex::default(),
    };
    let events = board.output.json.then(|| Events::new(board.out(), true));
    let place = Place { board: &board, reception, receivers: Mutex::default(), events: Mutex::new(events) };
    let settings = share.settings(filter);
    let last_word = |exit| {
        let failure = stopped(exit, Side::Sharing, began);
        say_last(&board, &mut lock(&place.events), &Summary::default(), Some(&failure));
    };
    let set = |rate| {
        settings.take.throttle.set(rate);
        settings.offer.controls.limit_all(rate);
    };
    let limit = (settings.offer.limit, set);
    let sharing = || transfer::share(&settings, &place, &cancel);
    let claim = || try_lock(&place.reception.answers);
    let result = signals.obeyed(&cancel, last_word, || board.with_limit_keys(&cancel, limit, claim, sharing));
    place.finish(result, began)
}

/// What cannot be shared, whichever way files go.
fn refuse(share: &Share) -> Result<(), Failure> {
    link::refuse_as_path(&share.paths)?;
    share.page.check()?;
    if share.paths.iter().any(|path| path.as_os_str() == "-") {
        return Err(Failure::new(Exit::Usage, "`-` is standard input, which cannot be shared")
            .next("offer it with `haul send -`; a file of that name is written ./-"));
    }
    if share.send_only && share.into.is_some() && std::env::var_os("HAUL_INTO").is_none() {
        return Err(Failure::new(Exit::Usage, "--into is for what others send, and --send-only takes nothing")
            .next("leave out one of the two"));
    }
    Ok(())
}

fn refuse_with(failure: &Failure, output: Output) -> Exit {
    let board = Board::new(Terminal::detect(output.color), output, Cancel::new(), streams());
    say_last(&board, &mut board.events(), &Summary::default(), Some(failure))
}

/// Says how the run ended, to people and programs, and how the process is to end.
fn say_last(
    board: &Board,
    events: &mut Option<Events<SharedOut>>,
    summary: &Summary,
    failure: Option<&Failure>,
) -> Exit {
    if let Some(failure) = failure {
        board.say(&failure.text(&board.terminal));
    }
    let exit = failure.map_or(Exit::Ok, |failure| failure.exit);
    // Nothing follows the last event, whatever threads are cut off with the process.
    if let Some(mut events) = events.take() {
        events.done(summary, exit.code(), failure);
    }
    exit
}

impl Share {
    fn folder(&self) -> PathBuf {
        self.into.clone().unwrap_or_else(|| ".".into())
    }

    fn check(&self, can_ask: bool) -> Result<(), Failure> {
        if !self.yes && !can_ask {
            let what = "there is no terminal to ask on whether to accept what is sent";
            return Err(Failure::new(Exit::Usage, what)
                .next("pass --yes to accept whatever is sent, or --send-only to take nothing"));
        }
        let into = self.folder();
        if !into.is_dir() {
            let what = format!("`{}` is not a folder", printable_path(&into));
            return Err(Failure::new(Exit::Io, &what).next("create it, or choose another one with --into"));
        }
        Ok(())
    }

    fn settings(self, filter: Filter) -> ShareSettings {
        let (into, Places { state, cache }) = (self.folder(), Places::detect());
        ShareSettings {
            offer: SendSettings {
                paths: self.paths,
                filter,
                bind: self.bind,
                address: self.address,
                lanes: self.lanes.count,
                keep: true,
                no_code: self.no_code,
                announce: !self.invitation.no_announce,
                state_dir: state,
                cache_dir: cache,
                limit: self.limit,
                compress: self.compress.how,
                pages: self.page.pages(),
                tls: self.page.tls,
                controls: Controls::new(),
                ..SendSettings::default()
            },
            take: ListenSettings {
                into,
                keep: true,
                conflict: self.conflict.chosen().unwrap_or_default(),
                lanes: self.lanes.count,
                compress: self.compress.how,
                throttle: Throttle::new(self.limit),
                ..ListenSettings::default()
            },
        }
    }

    /// The same as a sender that is kept.
    fn into_send(self) -> Send {
        Send {
            paths: self.paths,
            stream: Stream { name: None, spool: None, again: false },
            filters: self.filters,
            dry_run: false,
            bind: self.bind,
            address: self.address,
            lanes: self.lanes,
            compress: self.compress,
            keep: true,
            no_code: self.no_code,
            page: self.page,
            invitation: self.invitation,
            ask_each: false,
            limit: self.limit,
            to: None,
            retry_for: None,
            tree: SentTree { symlinks: false, xattrs: false },
        }
    }

    /// The same as a receiver that goes on listening.
    fn into_receive(self) -> Receive {
        Receive {
            into: self.folder(),
            invitation: Vec::new(),
            ask: false,
            at: None,
            out: None,
            dry_run: false,
            yes: self.yes,
            conflict: self.conflict,
            expect: None,
            read_back: false,
            lanes: self.lanes,
            limit: Limit { rate: self.limit },
            compress: self.compress,
            retry_for: None,
            allow_hidden: false,
            bind: self.bind,
            address: self.address,
            keep: true,
            no_code: self.no_code,
            page: self.page,
            announcing: self.invitation,
            tree: ReceivedTree { symlinks: false, xattrs: false },
        }
    }
}

impl Place<'_> {
    fn finish(&self, result: Result<Shared, TransferError>, began: Instant) -> Exit {
        lock(&self.receivers).clear();
        let failed = lock(&self.reception.ended).iter().map(|one| one.failed).sum();
        let mut events = lock(&self.events);
        if let Some(events) = events.as_mut() {
            events.add_failed(failed);
        }
        match result {
            Ok(Shared { receivers, bytes_sent, taken }) => {
                if self.board.is_chatty() {
                    self.board.say(&report::shared_text(receivers, bytes_sent, &taken));
                }
                say_last(self.board, &mut events, &taken, None)
            }
            Err(error) => {
                let failure = failure_of(&error, Side::Sharing, self.reception.signals, began);
                let summary = Summary { seconds: failure.seconds, ..Summary::default() };
                say_last(self.board, &mut events, &summary, Some(&failure))
            }
        }
    }

    fn show_link(&self, link: &str, code: Option<&str>, contents: &str) {
        let what = format!("Sharing {contents}, and taking files into `{}`", printable_path(&self.reception.into));
        let way = code.unwrap_or("LINK");
        let how = format!(
            "On the other machine, run `haul receive {way}` to fetch it,\n\
             or `haul send PATH --to {way}` to put something here"
        );
        self.reception.show_link(link, &what, &how);
    }

    /// Gives a receiver a line once bytes go to it, and takes it away with the receiver.
    fn draw(&self, event: &Event) {
        match event {
            Event::PeerProgress { session, progress, .. } if progress.bytes_fetched > 0 => {
                let mut receivers = lock(&self.receivers);
                let strand = receivers.entry(*session).or_insert_with(|| Strand::of_receiver(self.board, *session));
                strand.event(&Event::Progress(progress.clone()));
            }
            Event::PeerFinished { session, .. } | Event::PeerLost { session } | Event::PeerRefused { session } => {
                if let Some(strand) = lock(&self.receivers).remove(session) {
                    strand.leave();
                }
            }
            _ => {}
        }
    }
}

impl Hosting for Place<'_> {
    fn event(&self, event: &Event) {
        if let Some(events) = lock(&self.events).as_mut() {
            events.event(event, Instant::now());
        }
        self.draw(event);
        if let Event::OfferReady { link, code, files, folders, bytes } = event {
            let code = code.as_ref().map(|code| code.as_str());
            self.show_link(link, code, &units::contents(*files, *folders, *bytes));
        } else if let Some(line) = lines::line(event, &self.board.output, &self.board.terminal) {
            self.board.say(&format!("{line}\n"));
        }
    }

    fn session(&self, number: u64, peer: SocketAddr) -> Box<dyn HostedSession + '_> {
        self.reception.session(number, peer)
    }
}
