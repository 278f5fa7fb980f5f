//! `haul share`: one link at which files are fetched and put down, by real processes at the same time.

#![allow(clippy::unwrap_used)]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/listening.rs"]
mod listening;
#[path = "support/process.rs"]
mod process;

use browser::Browser;
use haul::codec::Compression;
use haul::secret::Link;
use haul::source::Filter;
use haul::transfer::{Cancel, Controls, Decision, Event, Observer, OfferSummary, PushSettings, push};
use process::{Playground, Receiving, Sending, noise, run, signal};
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::path::Path;

const MIB: usize = 1 << 20;

/// Shares `paths` and takes everything into `into`.
fn share(playground: &Playground, paths: &[&Path], into: &Path, args: &[&str]) -> Sending {
    let mut command = playground.command("share");
    command.args(paths).arg("--into").arg(into).args(["--yes", "--bind", "127.0.0.1:0", "--json"]).args(args);
    playground.start_send(command)
}

/// Stops a share as its user does, and returns its events.
fn stop(share: Sending) -> Vec<serde_json::Value> {
    signal(share.id(), Signal::INT);
    let (code, events, told) = share.wait_for_all();
    assert_eq!(code, Some(0), "{told}");
    events
}

#[track_caller]
fn assert_bytes(path: &Path, length: usize, seed: u64) {
    assert!(fs::read(path).unwrap() == noise(length, seed), "{}", path.display());
}

fn is_under_way(event: &serde_json::Value) -> bool {
    event["event"] == "progress" && event["bytes_fetched"].as_u64().is_some_and(|bytes| bytes > 0)
}

/// Waits until some of its data moved, and holds it still there.
fn hold(run: &mut Receiving) {
    assert!(run.wait_until(is_under_way), "data moves");
    signal(run.id(), Signal::STOP);
}

#[test]
fn one_link_gives_and_takes_at_the_same_time() {
    let playground = Playground::new();
    let offered = playground.file("offered", 8 * MIB, 1);
    let brought = playground.file("brought", 8 * MIB, 2);
    let (into, fetched) = (playground.dir("into"), playground.dir("fetched"));
    let mut share = share(&playground, &[&offered], &into, &[]);
    // Each is held still while the other comes to its end.
    let mut receiver = playground.receive(&share.link, &fetched, &["--limit", "2M"]);
    hold(&mut receiver);
    playground.push(&[&brought], &share.link, &[]).wait().assert_ok();
    assert_bytes(&into.join("brought"), 8 * MIB, 2);
    assert!(!fetched.join("offered").exists());
    share.wait_until(|event| event["event"] == "ended" && event["ok"] == true);
    let mut pusher = playground.push(&[&playground.file("more", 8 * MIB, 3)], &share.link, &["--limit", "2M"]);
    hold(&mut pusher);
    signal(receiver.id(), Signal::CONT);
    receiver.wait().assert_ok();
    assert_bytes(&fetched.join("offered"), 8 * MIB, 1);
    assert!(!into.join("more").exists());
    signal(pusher.id(), Signal::CONT);
    pusher.wait().assert_ok();
    assert_bytes(&into.join("more"), 8 * MIB, 3);
    // What arrived is not part of the offer.
    playground.receive(&share.link, &playground.dir("again"), &[]).wait().assert_ok();
    let again: Vec<_> = fs::read_dir(playground.path("again")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(again, ["offered"]);
    let events = stop(share);
    let mut numbers: Vec<_> =
        events.iter().filter(|event| event["state"] == "connected").map(|event| event["session"].as_u64()).collect();
    let seen = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), seen, "no two have one number");
    let done = events.last().unwrap();
    assert_eq!((&done["event"], &done["exit"], &done["files"]), (&json!("done"), &json!(0), &json!(2)), "{done}");
}

#[test]
fn killed_and_started_again_it_has_its_link_and_both_ways_go_on() {
    let playground = Playground::new();
    let offered = playground.file("offered", 16 * MIB, 1);
    let brought = playground.file("brought", 16 * MIB, 2);
    let (into, fetched) = (playground.dir("into"), playground.dir("fetched"));
    let first = share(&playground, &[&offered], &into, &["--limit", "4M"]);
    let link = first.link.clone();
    let mut receiver = playground.receive(&link, &fetched, &[]);
    let mut pusher = playground.push(&[&brought], &link, &[]);
    assert!(receiver.wait_until(is_under_way) && pusher.wait_until(is_under_way));
    first.kill();
    assert!(!into.join("brought").exists() && !fetched.join("offered").exists());
    let second = share(&playground, &[&offered], &into, &[]);
    assert_eq!(second.link, link);
    let received = receiver.wait();
    received.assert_ok();
    pusher.wait().assert_ok();
    assert_bytes(&into.join("brought"), 16 * MIB, 2);
    assert_bytes(&fetched.join("offered"), 16 * MIB, 1);
    stop(second);
}

#[test]
fn the_code_lets_somebody_fetch_and_the_next_one_lets_somebody_send() {
    let playground = Playground::new();
    let offered = playground.file("offered", 1000, 1);
    let brought = playground.file("brought", 1000, 2);
    let into = playground.dir("into");
    let mut share = share(&playground, &[&offered], &into, &[]);
    let (code, at) = (share.code().to_owned(), share.at().to_owned());
    playground.receive_code(&code, &at, &playground.dir("fetched"), &[]).wait().assert_ok();
    assert_bytes(&playground.path("fetched").join("offered"), 1000, 1);
    let (next, why) = share.next_code();
    assert_eq!(why, "used");
    let settings = PushSettings {
        paths: vec![brought],
        filter: Filter::default(),
        to: zeroize::Zeroizing::new(next.unwrap()),
        at: vec![at.parse().unwrap()],
        lanes: None,
        retry_for: None,
        cache_dir: None,
        symlinks: false,
        attributes: false,
        compress: Compression::Auto,
        limit: None,
        controls: Controls::new(),
    };
    assert!(push(&settings, &Nobody, &Cancel::new()).unwrap().ok);
    assert_bytes(&into.join("brought"), 1000, 2);
    stop(share);
}

#[test]
fn a_browser_is_offered_both_ways() {
    let playground = Playground::new();
    let offered = playground.file("offered", 100_000, 1);
    let share = share(&playground, &[&offered], &playground.dir("into"), &[]);
    let mut browser = Browser::new(&Link::parse(&share.link).unwrap());
    let hello = browser.hello();
    assert_eq!((&hello["download"], &hello["upload"]), (&json!(true), &json!(true)));
    let (_, bytes) = browser.ask(json!({ "op": "chunks", "file": 0, "first": 0, "count": 1 }));
    assert!(bytes == noise(100_000, 1));
    let files = json!([{ "path": "empty", "size": 0, "mtime": 1_700_000_000 }]);
    let batch = "A".repeat(26);
    browser.ask(json!({ "op": "offer", "batch": batch, "from": 0, "files": files, "more": false }));
    loop {
        let (wants, _) = browser.ask(json!({ "op": "wants", "batch": batch }));
        if wants["state"] == "complete" {
            break;
        }
    }
    assert_eq!(fs::read(playground.path("into").join("empty")).unwrap(), b"");
    stop(share);
}

#[test]
fn a_share_that_sends_only_refuses_before_anything_is_written() {
    let playground = Playground::new();
    let offered = playground.file("home/offered", 1000, 1);
    let brought = playground.file("brought", 1000, 2);
    let mut command = playground.command("share");
    command.arg(&offered).args(["--send-only", "--bind", "127.0.0.1:0", "--json"]).current_dir(playground.path("home"));
    let share = playground.start_send(command);
    let refused = playground.push(&[&brought], &share.link, &[]).wait();
    let error = refused.assert_exit(41)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("it offers files itself"), "{error}");
    let mut browser = Browser::new(&Link::parse(&share.link).unwrap());
    assert_eq!(browser.hello()["upload"], false);
    let files = json!([{ "path": "brought", "size": 1000 }]);
    let offer = json!({ "op": "offer", "batch": "A".repeat(26), "from": 0, "files": files, "more": false });
    assert_eq!(browser.refused(offer), "mode");
    let there: Vec<_> = fs::read_dir(playground.path("home")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(there, ["offered"]);
    playground.receive(&share.link, &playground.dir("fetched"), &[]).wait().assert_ok();
    assert_bytes(&playground.path("fetched").join("offered"), 1000, 1);
    stop(share);
}

#[test]
fn a_drop_offers_nothing() {
    let playground = Playground::new();
    let brought = playground.file("brought", 1000, 2);
    let into = playground.dir("into");
    let mut command = playground.command("share");
    command.args(["--drop", "--yes", "--bind", "127.0.0.1:0", "--json", "--into"]).arg(&into);
    let mut drop = listening::Listening::start(command);
    let refused = playground.receive(&drop.link, &playground.dir("fetched"), &[]).wait();
    let error = refused.assert_exit(41)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("it receives itself"), "{error}");
    let mut browser = Browser::new(&Link::parse(&drop.link).unwrap());
    assert_eq!(browser.hello()["download"], false);
    assert_eq!(browser.refused(json!({ "op": "list", "from": 0 })), "mode");
    playground.push(&[&brought], &drop.link, &[]).wait().assert_ok();
    assert_bytes(&into.join("brought"), 1000, 2);
    assert!(drop.run.wait_until(|event| event["event"] == "ended"));
    signal(drop.run.id(), Signal::INT);
    drop.wait().assert_ok();
}

#[test]
fn a_name_that_is_taken_is_kept_and_the_share_goes_on() {
    let playground = Playground::new();
    let offered = playground.file("offered", 1000, 1);
    let into = playground.dir("into");
    fs::write(into.join("brought"), b"mine").unwrap();
    let mut share = share(&playground, &[&offered], &into, &[]);
    let brought = playground.file("brought", 1000, 2);
    let refused = playground.push(&[&brought], &share.link, &[]).wait();
    assert!(!refused.status.success());
    assert_eq!(fs::read(into.join("brought")).unwrap(), b"mine");
    share.wait_until(|event| event["event"] == "ended" && event["exit"] == 44);
    playground.receive(&share.link, &playground.dir("fetched"), &[]).wait().assert_ok();
    stop(share);
}

#[test]
fn one_that_is_stopped_while_something_comes_says_so_and_leaves_no_file() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let share = share(&playground, &[&playground.file("offered", 1000, 1)], &into, &["--limit", "1M"]);
    let mut pusher = playground.push(&[&playground.file("brought", 16 * MIB, 2)], &share.link, &[]);
    assert!(pusher.wait_until(is_under_way));
    signal(share.id(), Signal::INT);
    let (code, done) = share.wait();
    assert_eq!((code, &done["exit"]), (Some(130), &json!(130)), "{done}");
    assert!(!into.join("brought").exists());
    pusher.kill();
}

#[test]
fn what_makes_no_sense_is_wrong_usage_with_a_way_on() {
    let playground = Playground::new();
    let file = playground.file("offered", 10, 1);
    let file = file.to_str().unwrap();
    let refused = |args: &[&str]| {
        let ran = run(playground.command("share").args(args));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}: {}", ran.stderr);
        ran.stderr
    };
    refused(&[]);
    refused(&[file, "--drop"]);
    refused(&["--drop", "--send-only"]);
    refused(&[file, "--send-only", "--yes"]);
    refused(&[file, "--send-only", "--rename"]);
    for (args, text) in [
        (&[file][..], "error: there is no terminal to ask on whether to accept what is sent\n"),
        (&["--drop"], "error: there is no terminal to ask on whether to accept what is sent\n"),
        (&["-", "--yes"], "error: `-` is standard input, which cannot be shared\n"),
        (
            &[file, "--send-only", "--into", "."],
            "error: --into is for what others send, and --send-only takes nothing\n",
        ),
    ] {
        let told = refused(args);
        assert!(told.starts_with(text) && told.contains("\n  next:  "), "{told}");
    }
    let ran = run(playground.command("share").args([file, "--yes", "--json", "--into", "nowhere"]));
    assert_eq!(ran.code, Some(11), "{}", ran.stderr);
    let events = ran.events();
    assert_eq!((events.len(), &events[0]["event"], &events[0]["exit"]), (1, &json!("done"), &json!(11)));
    let ran = run(playground.command("share").args(["nothing-here", "--yes", "--json"]));
    assert_eq!(ran.events().last().unwrap()["event"], "done", "{ran:?}");
    assert!(ran.stderr.contains("kept:  nothing was offered"), "{}", ran.stderr);
}

/// A sender that nobody watches.
struct Nobody;

impl Observer for Nobody {
    fn event(&self, _: &Event) {}

    fn accept(&self, _: &OfferSummary) -> Decision {
        Decision::Refuse
    }
}
