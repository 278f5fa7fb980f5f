//! `haul transfers`: what a folder holds unfinished, how far it is, and how to drop it.

use crate::cli::answers::Answers;
use crate::cli::args::Output;
use crate::cli::exit::{self, Exit};
use crate::cli::report::{Failure, Side};
use crate::cli::resume::{self, left_line};
use crate::cli::strand::{Board, label};
use crate::cli::terminal::{Role, Terminal};
use crate::cli::{install_signals, keyboard, stopped, streams, units};
use clap::{Args, Subcommand};
use haul::printable::{printable, printable_path};
use haul::transfer::{self, Cancel, Holdings, LeftBehind, Summary, TransferError, Unfinished};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Characters of an id that a list shows.
const ID_SHOWN: usize = 8;

/// Lists what a folder holds unfinished, and drops it
///
/// Without a subcommand, lists. `haul resume` continues what is listed; what is not wanted any more is dropped by `haul transfers
/// clean`, and by nothing else.
#[derive(Args, Debug)]
#[command(after_long_help = exit::help(), args_conflicts_with_subcommands = true)]
pub(crate) struct Transfers {
    #[command(subcommand)]
    what: Option<What>,

    #[command(flatten)]
    list: Place,
}

#[derive(Debug, Subcommand)]
enum What {
    List(Place),
    Inspect(Chosen),
    Clean(Clean),
}

/// Shows one line for each: id, size, name, how much of it is here, since when, and where from
#[derive(Args, Clone, Debug)]
#[command(after_long_help = exit::help())]
struct Place {
    /// The folder that receives
    #[arg(value_name = "DIR", default_value = ".", env = "HAUL_INTO", hide_env_values = true)]
    folder: PathBuf,
}

/// Shows all that is known of each, and its partial files
#[derive(Args, Clone, Debug)]
#[command(after_long_help = exit::help())]
struct Chosen {
    #[command(flatten)]
    place: Place,

    /// Only what has this id, or one that begins so; may be given several times
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
}

/// Drops what is unfinished: partial files, and how to continue them
///
/// Files that are complete stay. What a process is just receiving is left alone, and the run ends with 11.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = exit::help())]
struct Clean {
    #[command(flatten)]
    chosen: Chosen,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) fn run(transfers: Transfers, output: &Output) -> Exit {
    let cancel = Cancel::new();
    let board = Board::new(Terminal::detect(output.color), output.clone(), cancel.clone(), streams());
    let began = Instant::now();
    let result = match transfers.what.unwrap_or(What::List(transfers.list)) {
        What::List(place) => look(&place.folder, &[]).map(|found| list(&board, &place.folder, &found)),
        What::Inspect(Chosen { place, only }) => {
            look(&place.folder, &only).map(|found| inspect(&board, &place.folder, &found))
        }
        What::Clean(clean) => install_signals(&cancel).and_then(|signals| {
            self::clean(&board, &clean, &cancel).map_err(|failure| match signals.exit() {
                Some(exit) => stopped(exit, Side::Receiving, began),
                None => failure,
            })
        }),
    };
    let failure = result.err();
    if let Some(failure) = &failure {
        board.say(&failure.text(&board.terminal));
    }
    let exit = failure.as_ref().map_or(Exit::Ok, |failure| failure.exit);
    if let Some(mut events) = board.events() {
        let summary = Summary { ok: failure.is_none(), seconds: began.elapsed().as_secs_f64(), ..Summary::default() };
        events.done(&summary, exit.code(), failure.as_ref());
    }
    exit
}

/// What the folder holds; where ids are given, no more than they name.
fn look(folder: &Path, only: &[String]) -> Result<Holdings, Failure> {
    let mut found = resume::look(folder)?;
    if only.is_empty() {
        return Ok(found);
    }
    let ids: Vec<_> = found.transfers.iter().map(id).chain(found.left_behind.iter().map(left_id)).collect();
    for wanted in only {
        let count = ids.iter().filter(|id| id.starts_with(wanted.as_str())).count();
        if wanted.is_empty() || count != 1 {
            let few = if count == 0 { "nothing" } else { "more than one thing" };
            let what =
                format!("{few} unfinished in `{}` has an id that begins with `{wanted}`", printable_path(folder));
            return Err(Failure::new(Exit::Usage, &what).next("`haul transfers list` shows the ids"));
        }
    }
    let is_wanted = |id: String| only.iter().any(|wanted| id.starts_with(wanted.as_str()));
    found.transfers.retain(|transfer| is_wanted(id(transfer)));
    found.left_behind.retain(|left| is_wanted(left_id(left)));
    Ok(found)
}

fn list(board: &Board, folder: &Path, found: &Holdings) {
    tell_events(board, found, false);
    if board.output.json || say_nothing(board, folder, found) {
        return;
    }
    let now = resume::now();
    let mut text = String::new();
    for transfer in &found.transfers {
        text.push_str(&format!("{:.ID_SHOWN$}{}", id(transfer), resume::line(transfer, now)));
    }
    for left in &found.left_behind {
        let note = board.terminal.paint(Role::Warning, "note:");
        text.push_str(&format!("{:.ID_SHOWN$}  {note} {}\n", left_id(left), left_line(folder, left)));
    }
    board.print(&text);
}

fn inspect(board: &Board, folder: &Path, found: &Holdings) {
    tell_events(board, found, true);
    if board.output.json || say_nothing(board, folder, found) {
        return;
    }
    let now = resume::now();
    let mut blocks: Vec<_> = found.transfers.iter().map(|transfer| block(folder, transfer, now)).collect();
    for left in &found.left_behind {
        blocks.push(format!("{}\n  id:     {}\n", left_line(folder, left), left_id(left)));
    }
    board.print(&blocks.join("\n"));
}

/// All that is known of a transfer and is no secret.
fn block(folder: &Path, transfer: &Unfinished, now: u64) -> String {
    let mut text = format!("{}\n", label(transfer));
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {:<7} {value}\n", format!("{name}:")));
    line("id", &id(transfer));
    line("size", &format!("{} in {}", units::size(transfer.bytes), units::count(transfer.files, "file")));
    if transfer.files > 1 {
        line("done", &units::count(transfer.files_published, "file"));
    }
    line("here", &format!("{} of what is not done", units::size(transfer.bytes_kept)));
    line("begun", &format!("{} ago", units::time(Duration::from_secs(now.saturating_sub(transfer.began)))));
    if transfer.is_pushed() {
        line("from", "a sender that has to connect again");
        line("next", &format!("run `haul receive --into {}`, and have it push again", printable_path(folder)));
    } else {
        let addresses: Vec<_> = transfer.addresses().iter().map(ToString::to_string).collect();
        line("from", &addresses.join(", "));
        line("next", &format!("run `haul resume {}` to continue", printable_path(folder)));
    }
    for part in &transfer.parts {
        let destined = printable(part.destined.as_deref().unwrap_or_default()).to_string();
        line("part", &format!("{} of {} of `{destined}`", units::size(part.bytes_kept), units::size(part.bytes)));
    }
    text
}

/// Says that nothing is unfinished, where that is so.
fn say_nothing(board: &Board, folder: &Path, found: &Holdings) -> bool {
    let is_nothing = found.transfers.is_empty() && found.left_behind.is_empty();
    if is_nothing && board.is_chatty() {
        board.say(&format!("Nothing is unfinished in `{}`.\n", printable_path(folder)));
    }
    is_nothing
}

fn tell_events(board: &Board, found: &Holdings, with_parts: bool) {
    for transfer in &found.transfers {
        let Some(mut events) = board.events_of(transfer) else { return };
        events.unfinished(transfer);
        for part in transfer.parts.iter().filter(|_| with_parts) {
            events.part(part);
        }
    }
    if let Some(mut events) = board.events() {
        found.left_behind.iter().for_each(|left| events.left_behind(left));
    }
}

fn clean(board: &Board, clean: &Clean, cancel: &Cancel) -> Result<(), Failure> {
    let Clean { chosen: Chosen { place: Place { folder }, only }, yes } = clean;
    let found = look(folder, only)?;
    if !board.output.json && say_nothing(board, folder, &found) {
        return Ok(());
    }
    let count = found.transfers.len() + found.left_behind.len();
    if !yes && count > 0 {
        let Some(mut answers) = keyboard(false) else {
            return Err(Failure::new(Exit::Usage, "there is no terminal to ask on whether to drop what is unfinished")
                .next("pass --yes to drop it"));
        };
        list(board, folder, &found);
        let question = if count == 1 { "Drop it? [y/N] ".to_owned() } else { format!("Drop all {count}? [y/N] ") };
        if !is_agreed(answers.as_mut(), &question, cancel) {
            return Err(Failure::new(Exit::Other, "nothing was dropped"));
        }
    }
    let mut refused = 0;
    for transfer in &found.transfers {
        let outcome = transfer::clean(folder, transfer);
        if let Some(mut events) = board.events_of(transfer) {
            events.dropped(None, transfer.bytes_kept, outcome.as_ref().err());
        }
        refused += tell(board, &label(transfer), transfer.bytes_kept, &outcome);
    }
    // With the records gone, more may be left behind that does not say whose it is.
    let left_behind = if only.is_empty() { look(folder, &[])?.left_behind } else { found.left_behind };
    let count = found.transfers.len() + left_behind.len();
    for left in &left_behind {
        let outcome = transfer::clean_left_behind(folder, left);
        if let Some(mut events) = board.events() {
            events.dropped(Some(&left.path), left.bytes_kept, outcome.as_ref().err());
        }
        refused += tell(board, printable_path(&folder.join(&left.path)).as_ref(), left.bytes_kept, &outcome);
    }
    match refused {
        0 => Ok(()),
        _ if count == 1 => Err(Failure::new(Exit::Io, "it was left as it is")),
        _ => Err(Failure::new(Exit::Io, &format!("{refused} of {count} were left as they are"))),
    }
    .map_err(|failure| failure.next("stop the process that has it, or let it finish"))
}

fn is_agreed(answers: &mut dyn Answers, question: &str, cancel: &Cancel) -> bool {
    matches!(answers.ask(question, cancel).as_deref().map(str::trim), Some("y" | "Y" | "yes"))
}

/// Says what became of one, and counts it where it was left.
fn tell(board: &Board, name: &str, bytes_kept: u64, outcome: &Result<(), TransferError>) -> usize {
    match outcome {
        Ok(()) if board.is_chatty() => board.say(&format!("{name}: dropped, {}\n", units::size(bytes_kept))),
        Ok(()) => {}
        Err(error) => {
            let failure = Failure::of(error, Side::Receiving);
            board.say(&format!("{name}: {}\n", printable(&failure.sentence())));
        }
    }
    usize::from(outcome.is_err())
}

fn id(transfer: &Unfinished) -> String {
    transfer.id.to_string()
}

/// The name of its file, which is an id as well.
fn left_id(left: &LeftBehind) -> String {
    left.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}
