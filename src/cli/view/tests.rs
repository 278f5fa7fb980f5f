//! What a person and a program see of whole runs, as golden text.

use super::*;
use crate::cli::answers::{Nobody, Script};
use haul::digest::empty_file_digest;
use haul::transfer::{CodeChange, FailureClass, FileOutcome, OfferLine, TransferError};
use std::sync::Arc;
use zeroize::Zeroizing;

const PLAIN: Terminal = Terminal { redraws: false, answers: false, colors: false, utf8: false, columns: 80, rows: 24 };

#[test]
fn a_sender_prints_the_link_alone_on_standard_output() {
    let run = Run::new(Side::Sending, Output::default(), Rules::default(), Box::new(Nobody));
    run.view.event(&Event::Phase(Phase::Scanning));
    run.view.event(&offer_ready());
    run.view.event(&Event::Phase(Phase::Waiting));
    run.view.event(&Event::PeerConnected { peer: "192.0.2.7:5000".parse().unwrap(), session: 1 });
    run.view.event(&Event::PeerLost { session: 1 });
    run.view.event(&Event::PeerFinished { session: 1, ok: true, bytes: 2048 });
    run.view.event(&Event::PeerAsks { peer: "192.0.2.8:5000".parse().unwrap(), session: 2 });
    run.view.event(&Event::PeerRefused { session: 2 });
    assert_eq!(run.out.text(), "HTTP://192.0.2.1:4285/ROOM#KEY\n");
    assert_eq!(
        run.err.text(),
        "Scanning\n\
         Offering 2 files, 1 folder, 2.00 KiB, at this link:\n\
         On the other machine, run `haul receive 7-amber-canoe-lentil`\n\
         Waiting for a receiver\n\
         Receiver 1 connected from 192.0.2.7:5000\n\
         Receiver 1 is gone; it may come back\n\
         Receiver 1 has everything; 2.00 KiB sent\n\
         Receiver 2 asks from 192.0.2.8:5000\n\
         Receiver 2 was turned away; it does not come back in this run\n"
    );
}

#[test]
fn a_sender_that_is_not_announced_says_where_its_code_leads() {
    let mut run = Run::new(Side::Sending, Output::default(), Rules::default(), Box::new(Nobody));
    run.view = run.view.with_announcement(false);
    let key = haul::secret::Key::from_bytes([2; 16]);
    let room = haul::secret::Room::from_bytes([1; 16]);
    let link = haul::secret::Link::new(&["192.0.2.1:4285".parse().unwrap()], room, key).unwrap().to_text();
    let Event::OfferReady { code, files, folders, bytes, .. } = offer_ready() else { panic!("it is") };
    run.view.event(&Event::OfferReady { link, code, files, folders, bytes });
    let told = run.err.text();
    assert!(told.contains("there: `haul receive 7-amber-canoe-lentil --at 192.0.2.1:4285`\n"), "{told}");
}

#[test]
fn a_receiver_says_everything_on_standard_error() {
    let rules = Rules { accept_all: true, ..Rules::default() };
    let run = Run::new(Side::Receiving, Output::default(), rules, Box::new(Nobody));
    run.view.event(&Event::Phase(Phase::Connecting));
    assert_eq!(run.view.accept(&offer()), Decision::Accept);
    run.view.event(&Event::Phase(Phase::Transferring));
    run.view.event(&Event::Progress(half()));
    run.view.event(&Event::Progress(half()));
    run.view.event(&file_done(FileOutcome::Published));
    run.view.event(&file_done(FileOutcome::Renamed("a\u{9b} (1)".into())));
    run.view.event(&Event::Notice { text: "durability is best effort here".into() });
    let failed =
        Event::FileFailed { path: "b\x07".into(), fault: "it changed".into(), class: FailureClass::SourceChanged };
    run.view.event(&failed);
    assert_eq!(run.out.text(), "");
    assert_eq!(
        run.err.text(),
        "Connecting\n\
         \x20   2.00 KiB  a\n1 file, 2.00 KiB\n\
         Transferring\n\
         Transferring: 50 %, 1.00 KiB of 2.00 KiB, 512 B reused\n\
         `a` is taken here; saved as `a\\u{9b} (1)`\n\
         note: durability is best effort here\n\
         failed: b\\u{7}: it changed\n"
    );
}

#[test]
fn quiet_leaves_only_errors() {
    let output = Output { quiet: true, ..Output::default() };
    let rules = Rules { accept_all: true, ..Rules::default() };
    let run = Run::new(Side::Receiving, output, rules, Box::new(Nobody));
    run.view.event(&Event::Phase(Phase::Connecting));
    run.view.accept(&offer());
    run.view.event(&Event::Progress(half()));
    run.view.event(&Event::Notice { text: "a note".into() });
    run.view.event(&file_done(FileOutcome::Renamed("b".into())));
    assert_eq!(run.err.text(), "");
    let failure = Failure::of(&TransferError::Exists { count: 2 }, Side::Receiving);
    assert_eq!(run.view.finish(Err(failure)), Exit::Exists);
    assert!(run.err.text().starts_with("error: 2 names exist here already, with other content\n"));
}

#[test]
fn verbose_names_each_file() {
    let run =
        Run::new(Side::Receiving, Output { verbose: true, ..Output::default() }, Rules::default(), Box::new(Nobody));
    for how in [FileOutcome::Published, FileOutcome::Identical, FileOutcome::SkippedExisting] {
        run.view.event(&file_done(how));
    }
    assert_eq!(run.err.text(), "a  2.00 KiB\na  the same content was here before\na  left as it is here\n");
}

#[test]
fn with_json_standard_output_holds_events_and_nothing_else() {
    let output = Output { json: true, ..Output::default() };
    let run = Run::new(Side::Sending, output, Rules::default(), Box::new(Nobody));
    run.view.event(&Event::Phase(Phase::Scanning));
    run.view.event(&offer_ready());
    run.view.event(&Event::Progress(half()));
    let exit = run.view.finish(Ok(Summary { ok: true, files: 2, ..Summary::default() }));
    assert_eq!(exit, Exit::Ok);
    assert_eq!(run.err.text(), "");
    let events: Vec<serde_json::Value> =
        run.out.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["offer", "phase", "progress", "done"]);
    assert!(events.iter().all(|event| event["v"] == 1));
}

#[test]
fn a_sender_is_told_of_every_further_code() {
    let run = Run::new(Side::Sending, Output::default(), Rules::default(), Box::new(Nobody));
    for (code, why) in [
        (Some("7-canoe-amber-zoom"), CodeChange::Used),
        (Some("7-zebra-amber-zoom"), CodeChange::Burnt),
        (None, CodeChange::GivenUp),
    ] {
        run.view.event(&Event::CodeChanged { code: code.map(|code| Zeroizing::new(code.to_owned())), why });
    }
    assert_eq!(run.out.text(), "");
    assert_eq!(
        run.err.text(),
        "That code is used up. The next one is 7-canoe-amber-zoom\n\
         That code is burnt: it was tried wrongly too often. The new one is 7-zebra-amber-zoom; the link stays the same\n\
         Somebody keeps guessing at the codes, so there are no more of them; the link still works\n"
    );
}

#[test]
fn a_failure_keeps_the_counts_of_the_last_progress() {
    let output = Output { json: true, ..Output::default() };
    let run = Run::new(Side::Receiving, output, Rules::default(), Box::new(Nobody));
    run.view.event(&Event::Progress(half()));
    let failure = Failure { seconds: 1.5, ..Failure::of(&TransferError::Interrupted, Side::Receiving) };
    run.view.finish(Err(Failure { exit: Exit::SigInt, ..failure }));
    let last: serde_json::Value = serde_json::from_str(run.out.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["exit"], 130);
    assert_eq!(last["ok"], false);
    assert_eq!(last["error"], "stopped before the end");
    assert_eq!((&last["bytes_fetched"], &last["bytes_reused"]), (&512.into(), &512.into()));
    assert_eq!(last["seconds"], 1.5);
    assert!(run.err.text().contains("next:  run the same command again to continue"));
}

#[test]
fn the_question_gets_the_answer() {
    let answer = |text: &str| {
        let run = Run::new(Side::Receiving, Output::default(), Rules::default(), Box::new(Script::of(&[text])));
        let decision = run.view.accept(&offer());
        (decision, run.err.text())
    };
    assert_eq!(answer("y"), (Decision::Accept, "    2.00 KiB  a\n1 file, 2.00 KiB\n".into()));
    assert_eq!(answer("").0, Decision::Refuse);
}

#[test]
fn a_request_to_stop_is_confirmed_once() {
    let run = Run::new(Side::Receiving, Output::default(), Rules::default(), Box::new(Nobody));
    run.cancel.cancel();
    run.view.event(&Event::Phase(Phase::Finalising));
    run.view.event(&Event::Phase(Phase::Finalising));
    assert_eq!(run.err.text(), "Finalising\nStopping; a second Ctrl-C stops at once.\n");
}

/// A view that writes into buffers.
struct Run {
    view: View,
    out: Buffer,
    err: Buffer,
    cancel: Cancel,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Run {
    fn new(side: Side, output: Output, rules: Rules, answers: Box<dyn Answers>) -> Self {
        let (out, err, cancel) = (Buffer::default(), Buffer::default(), Cancel::new());
        let streams = Streams { out: Box::new(out.clone()), err: Box::new(err.clone()) };
        Self { view: View::new(side, output, rules, PLAIN, cancel.clone(), answers, streams), out, err, cancel }
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn offer_ready() -> Event {
    let link = Zeroizing::new("HTTP://192.0.2.1:4285/ROOM#KEY".into());
    let code = Some(Zeroizing::new("7-amber-canoe-lentil".into()));
    Event::OfferReady { link, code, files: 2, folders: 1, bytes: 2048 }
}

fn offer() -> OfferSummary {
    let entry = OfferLine {
        path: "a".into(),
        folder: false,
        bytes: 2048,
        exists: false,
        hidden: false,
        refused: false,
        link: None,
    };
    OfferSummary { entries: vec![entry], files: 1, bytes: 2048, ..OfferSummary::default() }
}

fn half() -> Progress {
    Progress {
        bytes_total: 2048,
        bytes_done: 1024,
        bytes_reused: 512,
        bytes_fetched: 512,
        wire_bytes: 600,
        files_total: 1,
        files_done: 0,
        current: Some("a".into()),
        first_byte_ms: Some(3),
    }
}

fn file_done(how: FileOutcome) -> Event {
    Event::FileDone { path: "a".into(), bytes: 2048, root: empty_file_digest(), how }
}
