//! `haul resume`: continues everything that a folder holds, all of it at the same time.

use crate::cli::args::{Output, Resume};
use crate::cli::exit::Exit;
use crate::cli::report::{Failure, Side};
use crate::cli::signals::Signals;
use crate::cli::strand::{Board, Ended, Strand, label};
use crate::cli::terminal::{Role, Terminal};
use crate::cli::{failure_of, install_signals, stopped, streams, units};
use haul::printable::{printable, printable_path};
use haul::transfer::{
    self, Cancel, Holdings, LeftBehind, ReceiveSettings, Summary, Throttle, TransferError, Unfinished,
};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Transfers that run at the same time; each has threads, connections and buffers of its own.
const AT_ONCE_MAX: usize = 16;
/// Left-overs that are shown one by one.
const LEFT_OVERS_SHOWN: usize = 20;

pub(crate) fn run(resume: &Resume, output: &Output) -> Exit {
    let cancel = Cancel::new();
    let terminal = Terminal::detect(output.color);
    let board = Board::new(terminal, output.clone(), cancel.clone(), streams());
    let began = Instant::now();
    let prepared = install_signals(&cancel).and_then(|signals| Ok((signals, look(&resume.folder)?)));
    let (signals, holdings) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return finish(&board, &[], Some(failure), began),
    };
    tell(&board, &resume.folder, &holdings);
    let last_word = |exit| {
        finish(&board, &[], Some(stopped(exit, Side::Receiving, began)), began);
    };
    let throttle = Throttle::new(resume.limit.rate);
    let go_on = || continue_all(&board, (resume, &throttle), &holdings.transfers, &signals, &cancel);
    let limit = (throttle.rate(), |rate| throttle.set(rate));
    let ended = signals.obeyed(&cancel, last_word, || board.with_limit_keys(&cancel, limit, || Some(()), go_on));
    finish(&board, &ended, None, began)
}

pub(crate) fn look(folder: &Path) -> Result<Holdings, Failure> {
    if !folder.is_dir() {
        let what = format!("`{}` is not a folder", printable_path(folder));
        return Err(Failure::new(Exit::Io, &what).next("name the folder that the transfers were to arrive in"));
    }
    transfer::unfinished(folder).map_err(|error| Failure::of(&error, Side::Receiving))
}

/// Says what was found, before any of it goes on.
fn tell(board: &Board, folder: &Path, holdings: &Holdings) {
    if let Some(mut events) = board.events() {
        for left in &holdings.left_behind {
            events.left_behind(left);
        }
    }
    if !board.is_chatty() {
        return;
    }
    let now = now();
    let mut text = String::new();
    if holdings.transfers.is_empty() {
        text.push_str(&format!("Nothing to resume in `{}`.\n", printable_path(folder)));
    }
    for transfer in &holdings.transfers {
        text.push_str(&line(transfer, now));
    }
    for left in holdings.left_behind.iter().take(LEFT_OVERS_SHOWN) {
        let note = board.terminal.paint(Role::Warning, "note:");
        text.push_str(&format!("{note} {}\n", left_line(folder, left)));
    }
    let untold = holdings.left_behind.len().saturating_sub(LEFT_OVERS_SHOWN);
    if untold > 0 {
        text.push_str(&format!("  … and {} more like these\n", units::grouped(untold as u64)));
    }
    board.say(&text);
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A transfer in one line: size, name, and how far it is.
pub(crate) fn line(transfer: &Unfinished, now: u64) -> String {
    let mut remarks = Vec::new();
    if transfer.files > 1 {
        remarks.push(format!("{} of {} complete", transfer.files_published, units::count(transfer.files, "file")));
    }
    if transfer.bytes_kept > 0 {
        let beside = if transfer.files_published > 0 { " of others" } else { "" };
        remarks.push(format!("{}{beside} here", units::size(transfer.bytes_kept)));
    }
    let age = Duration::from_secs(now.saturating_sub(transfer.began));
    remarks.push(format!("begun {} ago", units::time(age)));
    if transfer.is_pushed() {
        remarks.push("pushed by a sender that has to connect again".to_owned());
    } else if let Some(address) = transfer.addresses().first() {
        remarks.push(format!("from {address}"));
    }
    format!("{:>12}  {}  ({})\n", units::size(transfer.bytes), label(transfer), remarks.join(", "))
}

pub(crate) fn left_line(folder: &Path, left: &LeftBehind) -> String {
    let path = printable_path(&folder.join(&left.path)).to_string();
    match &left.destined {
        Some(destined) => format!(
            "`{path}` holds {} of {} of `{}` and no record tells where from; `haul receive` with its link continues it",
            units::size(left.bytes_kept),
            units::size(left.bytes),
            printable(destined),
        ),
        None if left.bytes > 0 => format!(
            "`{path}`, {}, does not say what it is a part of; `haul receive` with its link continues it",
            units::size(left.bytes)
        ),
        None => format!("`{path}` cannot be read by this version; `haul receive` with its link continues it"),
    }
}

fn continue_all(
    board: &Board,
    (resume, throttle): (&Resume, &Throttle),
    transfers: &[Unfinished],
    signals: &Signals,
    cancel: &Cancel,
) -> Vec<Ended> {
    let strands: Vec<_> = transfers.iter().map(|transfer| (transfer, Strand::new(board, transfer))).collect();
    for (transfer, strand) in &strands {
        strand.found(transfer);
    }
    let next = AtomicUsize::new(0);
    let ended = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..strands.len().min(AT_ONCE_MAX) {
            scope.spawn(|| {
                while let Some((transfer, strand)) = strands.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    if transfer.is_pushed() {
                        let one = strand.finish(Err(Failure::of_pushed(&resume.folder)));
                        ended.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                        continue;
                    }
                    let result = if cancel.is_cancelled() {
                        Err(TransferError::Interrupted)
                    } else {
                        let settings = transfer.settings(&resume.folder, resume.retry_for);
                        transfer::receive(&ReceiveSettings { throttle: throttle.clone(), ..settings }, strand, cancel)
                    };
                    let result = result.map_err(|error| failure_of(&error, Side::Receiving, signals, started));
                    let one = strand.finish(result);
                    ended.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
            });
        }
    });
    ended.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Says how the run ended, to people and programs, and how the process is to end.
fn finish(board: &Board, ended: &[Ended], refused: Option<Failure>, began: Instant) -> Exit {
    let failure = refused.or_else(|| failure_of_all(ended));
    let is_told = ended.len() == 1 && failure.as_ref().is_some_and(|failure| !failure.exit.is_stop());
    match &failure {
        Some(failure) if !is_told => board.say(&failure.text(&board.terminal)),
        None if board.is_chatty() && ended.len() > 1 => {
            board.say(&format!("All {} transfers are complete.\n", ended.len()));
        }
        _ => {}
    }
    let exit = failure.as_ref().map_or(Exit::Ok, |failure| failure.exit);
    if let Some(mut events) = board.events() {
        events.add_failed(ended.iter().map(|one| one.failed).sum());
        events.done(&summary_of_all(ended, failure.is_none(), began), exit.code(), failure.as_ref());
    }
    exit
}

/// What a run ends with whose transfers ended so. One kind of failure speaks for the run; otherwise it is partial.
fn failure_of_all(ended: &[Ended]) -> Option<Failure> {
    let failures: Vec<&Failure> = ended.iter().filter_map(|one| one.failure.as_ref()).collect();
    let first = *failures.first()?;
    let stopped = failures.iter().find(|failure| failure.exit.is_stop());
    if let Some(&stopped) = stopped {
        return Some(stopped.clone());
    }
    if ended.len() == 1 {
        return Some(first.clone());
    }
    let is_one_kind = failures.iter().all(|failure| failure.exit == first.exit);
    let exit = if is_one_kind { first.exit } else { Exit::Partial };
    let what = format!("{} of {} transfers did not complete", failures.len(), ended.len());
    Some(Failure::new(exit, &what).next("run the same command again to continue"))
}

fn summary_of_all(ended: &[Ended], ok: bool, began: Instant) -> Summary {
    let sum = |count: fn(&Summary) -> u64| ended.iter().map(|one| count(&one.summary)).sum();
    let root = match ended {
        [only] => only.summary.root.clone(),
        _ => None,
    };
    Summary {
        ok,
        files: sum(|summary| summary.files),
        bytes: sum(|summary| summary.bytes),
        bytes_fetched: sum(|summary| summary.bytes_fetched),
        bytes_reused: sum(|summary| summary.bytes_reused),
        wire_bytes: sum(|summary| summary.wire_bytes),
        first_byte_ms: ended.iter().filter_map(|one| one.summary.first_byte_ms).min(),
        seconds: began.elapsed().as_secs_f64(),
        root,
        failed: Vec::new(),
        receivers: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit: Option<Exit>) -> Ended {
        Ended { summary: Summary::default(), failure: exit.map(|exit| Failure::new(exit, "it failed")), failed: 0 }
    }

    #[test]
    fn one_kind_of_failure_speaks_for_the_run_and_several_make_it_partial() {
        let exit = |exits: &[Option<Exit>]| {
            let all: Vec<_> = exits.iter().copied().map(ended).collect();
            failure_of_all(&all).map_or(Exit::Ok, |failure| failure.exit)
        };
        assert_eq!(exit(&[]), Exit::Ok);
        assert_eq!(exit(&[None, None]), Exit::Ok);
        assert_eq!(exit(&[Some(Exit::Network)]), Exit::Network);
        assert_eq!(exit(&[None, Some(Exit::Network), Some(Exit::Network)]), Exit::Network);
        assert_eq!(exit(&[None, Some(Exit::Network), Some(Exit::NoSpace)]), Exit::Partial);
        assert_eq!(exit(&[None, Some(Exit::Network), Some(Exit::SigInt)]), Exit::SigInt);
    }

    #[test]
    fn what_no_record_tells_about_is_named_with_its_size() {
        let left = LeftBehind {
            path: ".haul/ab.part".into(),
            destined: Some("film\x1b.mkv".into()),
            bytes: 4 << 20,
            bytes_kept: 3 << 20,
        };
        assert_eq!(
            left_line(Path::new("into"), &left),
            "`into/.haul/ab.part` holds 3.00 MiB of 4.00 MiB of `film\\u{1b}.mkv` and no record tells where from; \
             `haul receive` with its link continues it"
        );
    }
}
