//! Cells of the fault matrix in which an end is asked to stop: it keeps what it has, says how to go on, and ends soon.
//!
//! Names and moments are those of `fault_transfers.rs`. Where a process waits for something here, it comes after ten
//! seconds, after minutes, or never.
#![allow(clippy::unwrap_used)]

#[path = "support/evil_sender.rs"]
mod evil_sender;
#[path = "support/fault_proxy.rs"]
mod fault_proxy;
#[path = "support/process.rs"]
mod process;

use evil_sender::{EvilSender, Script, file, send_message};
use fault_proxy::schedule::{Step, When};
use fault_proxy::{Fault, FaultProxy, Way, Whom};
use haul::digest::ChunkDigest;
use haul::transfer::{
    self, Cancel, Conflict, Decision, Event, Observer, OfferSummary, ReceiveSettings, SendSettings, TransferError,
};
use haul::transport::{Lane, TransportError};
use haul::wire::{Message, WireEntry};
use process::{Playground, Receiving, Sending, noise, signal};
use rustix::process::Signal;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// Reading it takes a minute or more.
const HUGE: u64 = 250 << 30;

#[test]
fn fault_signal_handshake() {
    let playground = Playground::new();
    let source = playground.file("data", 1000, 1);
    let into = playground.dir("into");
    // Whoever answers there says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let sending = playground.send(&[&source], &[]);
    let link = sending.link.replace(address_of(&sending.link), &silent.local_addr().unwrap().to_string());
    let mut receiving = playground.receive(&link, &into, &["--retry-for=10m"]);
    assert!(receiving.wait_until(|event| event["phase"] == "connecting"));
    let _dialled = silent.accept().unwrap();
    ends_receiver(receiving, Signal::INT, "run the same command again");
    // A receiver that waits for its next try.
    let gone = sending.link.clone();
    ends_sender(sending, Signal::TERM);
    let mut receiving = playground.receive(&gone, &into, &["--retry-for=10m"]);
    assert!(receiving.wait_until(|event| event["phase"] == "reconnecting"));
    ends_receiver(receiving, Signal::TERM, "run the same command again");
    // A sender to which somebody connected who says nothing.
    let sending = playground.send(&[&source], &[]);
    let _stranger = std::net::TcpStream::connect(address_of(&sending.link)).unwrap();
    ends_sender(sending, Signal::INT);
    assert!(!into.join(".haul").exists(), "nothing is left of a transfer that did not begin");
}

#[test]
fn fault_signal_manifest() {
    let playground = Playground::new();
    let source = playground.dir("source");
    for number in 0..600 {
        fs::write(source.join(format!("{number:0>200}")), b"").unwrap();
    }
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    let proxy = FaultProxy::for_link(&sending.link);
    proxy.inject_after(Whom::All, Way::ToReceiver, 60_000, Fault::Hold(Way::ToReceiver));
    let receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
    proxy.wait_until_kept_back(0, Way::ToReceiver, 1);
    ends_receiver(receiving, Signal::TERM, "run the same command again");
    ends_sender(sending, Signal::INT);
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0);
    // A sender that was asked to stop while it looks for what there is makes no offer.
    let cancel = Cancel::new();
    cancel.cancel();
    let settings =
        SendSettings { paths: vec![source], bind: Some("127.0.0.1:0".parse().unwrap()), ..SendSettings::default() };
    let outcome = transfer::send(&settings, &NoOffer, &cancel);
    assert!(matches!(outcome, Err(TransferError::Interrupted)), "{outcome:?}");
}

#[test]
fn fault_signal_chunks() {
    let playground = Playground::new();
    let source = playground.file("data", 40 << 20, 2);
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    let proxy = held_after(&sending, 20 * MIB);
    let receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
    proxy.wait_until_steps(1);
    ends_receiver(receiving, Signal::INT, "run `haul resume ");
    ends_sender(sending, Signal::TERM);
    // What was said is what works, by the way that the transfer went before.
    proxy.inject(Whom::All, Fault::Release(Way::ToReceiver));
    let sending = playground.send(&[&source], &[]);
    let resumed = Playground::start_receive(resume(&playground, &into)).wait();
    let fetched = resumed.assert_ok()["bytes_fetched"].as_u64().unwrap();
    assert!(fetched <= 24 * MIB, "{fetched} bytes were fetched after half was there");
    assert!(fs::read(into.join("data")).unwrap() == noise(40 << 20, 2));
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn fault_signal_verify() {
    // A file of the same length is there, and is read to be compared.
    let playground = Playground::new();
    let into = playground.dir("into");
    File::create(into.join("huge")).unwrap().set_len(HUGE).unwrap();
    let host = EvilSender::start(Huge);
    let settings = ReceiveSettings { invitation: host.link().into(), into: into.clone(), ..receive_settings() };
    let cancel = Cancel::new();
    let began = Instant::now();
    thread::scope(|scope| {
        let receiving = scope.spawn(|| transfer::receive(&settings, &Nods, &cancel));
        wait_until_reading(std::process::id());
        cancel.cancel();
        let outcome = receiving.join().unwrap();
        assert!(matches!(outcome, Err(TransferError::Interrupted)), "{outcome:?}");
    });
    assert!(began.elapsed() < Duration::from_secs(30), "a file of {HUGE} bytes was read to its end");
    assert_eq!(File::open(into.join("huge")).unwrap().metadata().unwrap().len(), HUGE);
    // And the same as a process.
    let receiving = playground.receive(&host.link(), &into, &[]);
    wait_until_reading(receiving.id());
    let events = ends_receiver(receiving, Signal::INT, "run `haul resume ");
    assert!(events.iter().all(|event| event["event"] != "file"), "that it was not read is not the file's failure");
}

#[test]
fn fault_signal_rename() {
    // Small files get their names while a large one is held back.
    let playground = Playground::new();
    let source = playground.dir("source");
    for number in 0..300 {
        fs::write(source.join(format!("a {number}")), noise(2000 + number, number as u64)).unwrap();
    }
    fs::write(source.join("z"), noise(40 << 20, 3)).unwrap();
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    let proxy = held_after(&sending, 20 * MIB);
    let mut receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
    assert!(receiving.wait_until(|event| event["event"] == "file"));
    // A hold that comes only after the release would be for ever.
    proxy.wait_until_steps(1);
    ends_receiver(receiving, Signal::TERM, "run `haul resume ");
    ends_sender(sending, Signal::TERM);
    let named: Vec<_> = fs::read_dir(into.join("source")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!named.is_empty());
    for name in &named {
        let (one, other) = (into.join("source").join(name), source.join(name));
        assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{name:?} has its name and is not whole");
    }
    proxy.inject(Whom::All, Fault::Release(Way::ToReceiver));
    let sending = playground.send(&[&source], &[]);
    Playground::start_receive(resume(&playground, &into)).wait().assert_ok();
    assert_eq!(fs::read_dir(into.join("source")).unwrap().count(), 301);
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn an_offer_that_nobody_took_is_stopped_without_hashing_it() {
    let playground = Playground::new();
    let source = playground.path("huge");
    File::create(&source).unwrap().set_len(HUGE).unwrap();
    let sending = playground.send(&[&source], &["--keep"]);
    let began = Instant::now();
    signal(sending.id(), Signal::INT);
    let (code, done) = sending.wait();
    assert_eq!((code, done["ok"].as_bool()), (Some(0), Some(true)), "{done}");
    assert!(done["root"].is_null(), "{done}");
    assert!(began.elapsed() < Duration::from_secs(30), "a file of {HUGE} bytes was hashed");
}

#[test]
fn a_process_whose_output_nobody_reads_ends_all_the_same() {
    let playground = Playground::new();
    let source = playground.dir("source");
    for number in 0..1500 {
        fs::write(source.join(format!("{number:0>100}")), b"").unwrap();
    }
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &["--keep"]);
    let receive = |link: &str, into: &Path| {
        let mut command = playground.command("receive");
        command.arg(link).arg("--into").arg(into).args(["--yes", "--json"]);
        command.stderr(File::create(playground.path("stderr")).unwrap()).spawn().unwrap()
    };
    let mut child = receive(&sending.link, &into);
    let unread = child.stdout.take().unwrap();
    // A pipe takes 64 KiB; the events of so many files are more.
    wait_until(|| rustix::io::ioctl_fionread(&unread).unwrap() >= 60_000);
    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    drop(unread);
    let mut again = receive(&sending.link, &into);
    drop(again.stdout.take());
    assert!(again.wait().unwrap().success(), "the next run completes what that one left");
    ends_sender_that_keeps(sending);
}

#[test]
fn the_second_signal_does_not_wait_for_the_first_one() {
    let playground = Playground::new();
    let into = playground.dir("into");
    File::create(into.join("huge")).unwrap().set_len(HUGE).unwrap();
    let host = EvilSender::start(Huge);
    let receiving = playground.receive(&host.link(), &into, &[]);
    wait_until_reading(receiving.id());
    signal(receiving.id(), Signal::INT);
    signal(receiving.id(), Signal::TERM);
    let ended = receiving.wait();
    // The first one may have been all that it took.
    assert!(matches!(ended.status.code(), Some(130 | 143)), "{ended:?}");
}

/// Asks a receiver to stop, and waits until it did. Returns its events.
fn ends_receiver(receiving: Receiving, how: Signal, next: &str) -> Vec<serde_json::Value> {
    signal(receiving.id(), how);
    let ended = receiving.wait();
    ended.assert_exit(if how == Signal::INT { 130 } else { 143 });
    assert!(ended.stderr.contains("everything that was verified is kept"), "{}", ended.stderr);
    assert!(ended.stderr.contains(next), "{}", ended.stderr);
    ended.events
}

fn ends_sender(sending: Sending, how: Signal) {
    signal(sending.id(), how);
    let (code, events, stderr) = sending.wait_for_all();
    assert_eq!(code, Some(if how == Signal::INT { 130 } else { 143 }), "{stderr}");
    assert_eq!(events.last().unwrap()["event"], "done");
    assert!(stderr.contains("run the same command again: the same link continues every transfer"), "{stderr}");
}

/// To be stopped is how such an offer ends.
fn ends_sender_that_keeps(sending: Sending) {
    signal(sending.id(), Signal::INT);
    assert_eq!(sending.wait().0, Some(0));
}

/// A proxy that holds back what comes after so many bytes, for the rest of the test.
fn held_after(sending: &Sending, bytes: u64) -> FaultProxy {
    let proxy = FaultProxy::for_link(&sending.link);
    let hold = Step { when: When::Passed(Way::ToReceiver, bytes), fault: Fault::Hold(Way::ToReceiver), lasts: None };
    proxy.follow(&[hold]);
    proxy
}

fn resume(playground: &Playground, into: &Path) -> std::process::Command {
    let mut command = playground.command("resume");
    command.arg(into).args(["--json", "--retry-for=1m"]);
    command
}

/// Waits until a process has read more than it needs for anything but chunks.
fn wait_until_reading(id: u32) {
    let read = || -> u64 {
        let text = fs::read_to_string(format!("/proc/{id}/io")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    };
    let before = read();
    wait_until(|| read() >= before + 64 * MIB);
}

fn wait_until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not come");
        thread::yield_now();
    }
}

fn address_of(link: &str) -> &str {
    link.split("//").nth(1).unwrap().split('/').next().unwrap()
}

fn receive_settings() -> ReceiveSettings {
    ReceiveSettings {
        invitation: String::new().into(),
        at: Vec::new(),
        into: "".into(),
        conflict: Conflict::Fail,
        read_back: false,
        lanes: None,
        retry_for: None,
        wait_for_host: false,
        allow_hidden: false,
        state_dir: None,
        resuming: None,
        expect: None,
        symlinks: false,
        attributes: false,
        compress: haul::codec::Compression::Auto,
        dry_run: false,
        out: None,
        throttle: haul::transfer::Throttle::default(),
    }
}

/// Offers one file, and says of every chunk what nobody can check soon.
struct Huge;

impl Script for Huge {
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
        vec![(file("huge", HUGE), Vec::new())]
    }

    fn instead(&self, lane: &mut Lane, request: &Message) -> Result<bool, TransportError> {
        let &Message::HashesRequest { first, count } = request else { return Ok(false) };
        let digests = vec![ChunkDigest([7; 32]); usize::from(count)];
        send_message(lane, &Message::HashPage { first, digests }).map(|()| true)
    }
}

/// Accepts everything.
struct Nods;

impl Observer for Nods {
    fn event(&self, _event: &Event) {}

    fn accept(&self, _offer: &OfferSummary) -> Decision {
        Decision::Accept
    }
}

/// Watches a sender that makes no offer.
struct NoOffer;

impl Observer for NoOffer {
    fn event(&self, event: &Event) {
        assert!(!matches!(event, Event::OfferReady { .. }), "it was to stop");
    }

    fn accept(&self, _offer: &OfferSummary) -> Decision {
        Decision::Refuse
    }
}
