//! The command line: flags become checked settings, settings become one call, its result becomes an exit code.
#![expect(clippy::format_push_string, reason = "text for people is short")]

use crate::cli::answers::{Answers, Keyboard, Nobody};
use crate::cli::args::{Command, CommandLine, Output, Receive, Send};
use crate::cli::exit::Exit;
use crate::cli::json::Events;
use crate::cli::keys::{Act, Keys};
use crate::cli::out::Target;
use crate::cli::places::Places;
use crate::cli::report::{Failure, Side};
use crate::cli::signals::Signals;
use crate::cli::stream::Kept;
use crate::cli::terminal::Terminal;
use crate::cli::view::{Rules, Streams, View};
use haul::printable::{printable, printable_path};
use haul::source::Filter;
use haul::transfer::{
    Cancel, Controls, Event, Expectation, FailureClass, ManifestFile, Observer, ReceiveSettings, SendSettings, Summary,
    Throttle, TransferError,
};
use std::ffi::OsString;
use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::path::Path;
use std::time::Instant;

mod answers;
mod args;
mod bar;
mod dry_run;
mod exit;
mod findings;
mod flags;
mod filters;
mod forecast;
mod handles;
mod host;
mod json;
mod keys;
mod lines;
mod link;
mod listen;
mod listing;
mod manifest;
mod out;
mod places;
mod progress;
mod push;
mod prompt;
mod qr;
mod raw_mode;
mod receivers;
mod report;
mod resume;
mod share;
mod signals;
mod strand;
mod stream;
mod terminal;
mod transfers;
mod units;
mod variables;
mod verify;
mod view;

/// Runs the process's command line.
pub(crate) fn run() -> Exit {
    handles::ask_for_more();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match args::parse(&arguments) {
        Ok(CommandLine { command: Command::Send(send), output }) if send.dry_run && !stream::is_wanted(&send) => {
            dry_run::of_send(send, output)
        }
        Ok(CommandLine { command: Command::Send(send), output }) => match send.to {
            Some(_) => push::run(send, output),
            None => run_send(send, output),
        },
        Ok(CommandLine { command: Command::Receive(receive), output }) if listen::is_wanted(&receive) => {
            listen::run(receive, &output)
        }
        Ok(CommandLine { command: Command::Receive(receive), output }) => run_receive(receive, &output),
        Ok(CommandLine { command: Command::Resume(resume), output }) => resume::run(&resume, &output),
        Ok(CommandLine { command: Command::Manifest(manifest), output }) => manifest::run(manifest, output),
        Ok(CommandLine { command: Command::Share(share), output }) => share::run(share, output),
        Ok(CommandLine { command: Command::Transfers(transfers), output }) => transfers::run(transfers, &output),
        Ok(CommandLine { command: Command::Verify(verify), output }) => verify::run(verify, output),
        Err(error) => explain(&error, &arguments),
    }
}

/// Shows help, the version, or what is wrong with the command line.
fn explain(error: &clap::Error, arguments: &[OsString]) -> Exit {
    let text = error.to_string();
    // Whoever closed our output does not want to read it.
    if text.lines().all(|line| printable(line) == line) {
        let _ = error.print();
    } else {
        // It repeats a value, which a terminal would obey: shown escaped, and without colours.
        let _ = text.lines().try_for_each(|line| writeln!(stderr(), "{}", printable(line)));
    }
    if error.exit_code() == 0 {
        return Exit::Ok;
    }
    // The flag was not parsed, and yet its reader waits for the one event that every run ends with.
    if arguments.iter().any(|argument| argument == "--json") {
        let first = text.lines().next().unwrap_or_default();
        let failure = Failure::new(Exit::Usage, first.trim_start_matches("error: "));
        Events::new(stdout(), false).done(&Summary::default(), Exit::Usage.code(), Some(&failure));
    }
    Exit::Usage
}

/// Says who else can read a link that was typed.
fn warn_of_others(given: &link::Given, view: &View) {
    if given.in_arguments && link::others_are_logged_in() {
        let text = "other users of this machine can read the link or code in the list of processes; \
                    HAUL_LINK, `-` and --ask keep it from them";
        view.event(&Event::Notice { text: text.into() });
    }
}

fn run_send(send: Send, output: Output) -> Exit {
    let terminal = Terminal::detect(output.color);
    let cancel = Cancel::new();
    let answers = Box::new(Nobody);
    // Whoever wants no progress, or events, sees no line that a key could be about.
    let has_lines = terminal.redraws
        && terminal.answers
        && !stream::is_wanted(&send)
        && !(output.quiet || output.json || output.no_progress);
    let is_announced = !send.invitation.no_announce && !send.bind.is_some_and(|bind| bind.ip().is_loopback());
    let view = View::new(Side::Sending, output, Rules::default(), terminal, cancel.clone(), answers, streams())
        .with_qr(send.invitation.qr(send.address.is_some()))
        .with_announcement(is_announced)
        .with_spool(stream::is_read(&send));
    let chosen = refuse(&send, has_lines).and_then(|()| Ok((stream::settings(&send)?, send.filters.clone().read()?)));
    let (stream, filter) = match chosen {
        Ok(chosen) => chosen,
        Err(failure) => return view.finish(Err(failure)),
    };
    let kept = Kept::new(stream, send.stream.spool);
    let Places { state, cache } = Places::detect();
    let controls = Controls::new();
    let settings = SendSettings {
        paths: send.paths,
        filter,
        bind: send.bind,
        address: send.address,
        lanes: send.lanes.count,
        keep: send.keep,
        no_code: send.no_code,
        announce: !send.invitation.no_announce,
        state_dir: state,
        cache_dir: cache,
        ask_each: send.ask_each,
        limit: send.limit,
        compress: send.compress.how,
        pages: send.page.pages(),
        tls: send.page.tls,
        controls: controls.clone(),
        symlinks: send.tree.symlinks,
        attributes: send.tree.xattrs,
    };
    let last_word = |failure| {
        view.finish(Err(kept.with_way_on(failure)));
    };
    let transfer = || {
        kept.offering(&view, &cancel, |input| {
            let settings = match input {
                Some(input) => SendSettings { paths: vec![input.to_owned()], filter: Filter::default(), ..settings },
                None => settings,
            };
            haul::transfer::send(&settings, &view, &cancel)
        })
    };
    let result = with_signals(&cancel, Side::Sending, last_word, || {
        if !has_lines {
            return transfer();
        }
        view.take_keys(Keys::new(send.limit), send.keep || send.ask_each);
        let on_key = |key| press(&view, key, &controls, &cancel);
        view.with_keys(&cancel, on_key, transfer)
    });
    view.finish(result.map_err(|failure| kept.with_way_on(failure)))
}

/// Refuses an offer that nothing can come of.
fn refuse(send: &Send, has_lines: bool) -> Result<(), Failure> {
    link::refuse_as_path(&send.paths)?;
    send.page.check()?;
    if send.ask_each && !has_lines {
        return Err(Failure::new(Exit::Usage, "there is no terminal to ask on about each receiver")
            .next("run it on a terminal with its progress shown, or without --ask-each"));
    }
    if send.retry_for.is_some() && std::env::var_os("HAUL_RETRY_FOR").is_none() {
        let what = "--retry-for says how long to try to reach somebody, and there is nobody";
        return Err(Failure::new(Exit::Usage, what).next("name who listens with --to"));
    }
    Ok(())
}

/// Does what a key asks for.
fn press(view: &View, key: u8, controls: &Controls, cancel: &Cancel) {
    match view.press(key) {
        Some(Act::Accept(session)) => controls.accept(session),
        Some(Act::Disconnect(session)) => controls.disconnect(session),
        Some(Act::Limit(Some(session), rate)) => controls.limit(session, rate),
        Some(Act::Limit(None, rate)) => controls.limit_all(rate),
        Some(Act::Refuse(session)) => controls.refuse(session),
        Some(Act::Stop) => cancel.cancel(),
        None => {}
    }
}

fn run_receive(receive: Receive, output: &Output) -> Exit {
    let terminal = Terminal::detect(output.color);
    let refused = out::refuse_flags(&receive, output);
    // What is wrong with the flags is said to people where standard output is meant for a file.
    let output = Output { json: output.json && !out::is_stream(&receive), ..output.clone() };
    let cancel = Cancel::new();
    let rules = Rules { accept_all: receive.yes, conflict_settled: receive.conflict.chosen().is_some() };
    let answers = keyboard(receive.invitation == ["-"]);
    let can_ask = answers.is_some();
    let answers = answers.unwrap_or_else(|| Box::new(Nobody));
    let view = View::new(Side::Receiving, output, rules, terminal, cancel.clone(), answers, streams())
        .with_dry_run(receive.dry_run);
    if let Some(failure) = refused {
        return view.finish(Err(failure));
    }
    // Before anything is asked: a question may hold the terminal in a state that has to be undone.
    let signals = match install_signals(&cancel) {
        Ok(signals) => signals,
        Err(failure) => return view.finish(Err(failure)),
    };
    let settings = match receive_settings(receive, &view, can_ask, &cancel) {
        Ok(settings) => settings,
        Err(failure) => {
            let stopped = signals.exit().map(|exit| stopped(exit, Side::Receiving, Instant::now()));
            return view.finish(Err(stopped.unwrap_or(failure)));
        }
    };
    let with_way_on = |failure: Failure| match haul::transfer::unfinished(&settings.into) {
        _ if settings.dry_run => failure,
        _ if out::is_stream_of(&settings) => out::after_stream(&settings, failure),
        Ok(holdings) if holdings.has(&settings.invitation) => failure.resumable(&settings.into),
        _ => failure,
    };
    let last_word = |failure| {
        view.finish(Err(with_way_on(failure)));
    };
    let fetch = || {
        if !out::is_stream_of(&settings) {
            return haul::transfer::receive(&settings, &view, &cancel);
        }
        let received = haul::transfer::receive_stream(&settings, out::stdout()?, &view, &cancel);
        received.inspect(|_| out::leave(&settings))
    };
    let throttle = settings.throttle.clone();
    let transfer = || view.with_limit_keys(&cancel, throttle.rate(), |rate| throttle.set(rate), fetch);
    let result = obeying(&signals, &cancel, Side::Receiving, last_word, transfer);
    view.finish(result.map_err(with_way_on))
}

/// Everything about a `receive` that can be wrong before the network is touched.
fn receive_settings(
    mut receive: Receive,
    view: &View,
    can_ask: bool,
    cancel: &Cancel,
) -> Result<ReceiveSettings, Failure> {
    if let Some(failure) = listen::refuse_flags(&receive) {
        return Err(failure);
    }
    let conflict = receive.conflict.chosen().unwrap_or_default();
    let variable = std::env::var_os(link::VARIABLE);
    let typed = link::typed(std::mem::take(&mut receive.invitation));
    let given = view.with_answers(|answers| link::read(typed, receive.ask, variable, answers, cancel))?;
    if !receive.yes && !receive.dry_run && !can_ask {
        return Err(Failure::new(Exit::Usage, "there is no terminal to ask on whether to accept the offer")
            .next("pass --yes to accept whatever the link offers"));
    }
    let Target { into, out } = out::target(&receive, &given.invitation)?;
    if !into.is_dir() {
        let what = format!("`{}` is not a folder", printable_path(&into));
        return Err(Failure::new(Exit::Io, &what).next("create it, or choose another one with --into"));
    }
    let expect = expectation(receive.expect.as_deref())?;
    let at = receive.at.as_deref().map(host::resolve).transpose()?.unwrap_or_default();
    warn_of_others(&given, view);
    Ok(ReceiveSettings {
        invitation: given.invitation,
        at,
        into,
        conflict,
        read_back: receive.read_back,
        lanes: receive.lanes.count,
        // Whoever says how long to try has a sender in mind that is not there yet.
        wait_for_host: receive.retry_for.is_some_and(|patience| !patience.is_zero()),
        retry_for: receive.retry_for,
        allow_hidden: receive.allow_hidden,
        state_dir: Places::detect().state,
        resuming: None,
        expect,
        symlinks: receive.tree.symlinks,
        attributes: receive.tree.xattrs,
        compress: receive.compress.how,
        dry_run: receive.dry_run,
        out,
        throttle: Throttle::new(receive.limit.rate),
    })
}

/// What an offer has to be, where that is said.
fn expectation(file: Option<&Path>) -> Result<Option<Expectation>, Failure> {
    let manifest = file.map(ManifestFile::open).transpose();
    let manifest = manifest.map_err(|error| {
        let failure = Failure { kept: None, ..Failure::of(&error, Side::Checking) };
        failure.next("name a manifest that `haul manifest` wrote, or receive without --expect")
    })?;
    Ok(manifest.map(Expectation::new))
}

/// Runs a transfer that the first Ctrl-C stops in order. A run that stopped because of a signal says so by its code; one
/// that does not stop in time is ended after `last_word`.
fn with_signals(
    cancel: &Cancel,
    side: Side,
    last_word: impl FnOnce(Failure) + std::marker::Send,
    transfer: impl FnOnce() -> Result<Summary, TransferError>,
) -> Result<Summary, Failure> {
    obeying(&install_signals(cancel)?, cancel, side, last_word, transfer)
}

fn obeying(
    signals: &Signals,
    cancel: &Cancel,
    side: Side,
    last_word: impl FnOnce(Failure) + std::marker::Send,
    transfer: impl FnOnce() -> Result<Summary, TransferError>,
) -> Result<Summary, Failure> {
    let started = Instant::now();
    let last_word = |exit| last_word(stopped(exit, side, started));
    signals.obeyed(cancel, last_word, transfer).map_err(|error| failure_of(&error, side, signals, started))
}

/// What a run that a signal ended says.
fn stopped(exit: Exit, side: Side, started: Instant) -> Failure {
    let seconds = started.elapsed().as_secs_f64();
    Failure { exit, seconds, ..Failure::of(&TransferError::Interrupted, side) }
}

fn install_signals(cancel: &Cancel) -> Result<Signals, Failure> {
    Signals::install(cancel)
        .map_err(|error| Failure::new(Exit::Other, "cannot take over Ctrl-C").because(error.to_string()))
}

/// A transfer's error; one that a signal asked for says so by its code.
fn failure_of(error: &TransferError, side: Side, signals: &Signals, started: Instant) -> Failure {
    // A question that a signal cut off is answered with no.
    if let Some(exit) = signals.exit()
        && matches!(error.class(), FailureClass::Declined | FailureClass::Interrupted)
    {
        return stopped(exit, side, started);
    }
    Failure { seconds: started.elapsed().as_secs_f64(), ..Failure::of(error, side) }
}

/// The person to ask, if there is one.
fn keyboard(is_piped: bool) -> Option<Box<dyn Answers>> {
    if !stderr().is_terminal() {
        return None;
    }
    if stdin().is_terminal() {
        return Some(Box::new(Keyboard::new(stdin()).ok()?));
    }
    // Standard input is spent on the link, so the answer comes from the terminal itself.
    let terminal = is_piped.then(|| std::fs::File::open("/dev/tty").ok()).flatten()?;
    Some(Box::new(Keyboard::new(terminal).ok()?))
}

fn streams() -> Streams {
    Streams { out: Box::new(stdout()), err: Box::new(stderr()) }
}
