//! Pushes go on where connections break and either end is killed, and nothing verified is sent twice.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/fault_proxy.rs"]
mod fault_proxy;
#[path = "support/listening.rs"]
mod listening;
#[path = "support/process.rs"]
mod process;

use fault_proxy::{Fault, FaultProxy, Way, Whom};
use listening::{Listening, endings};
use process::{Playground, noise, signal};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::path::Path;

const MIB: u64 = 1 << 20;
/// Towards whoever listens behind the proxy: where the files of a push go.
const PUSHED: Way = Way::ToSender;

fn number(done: &Value, field: &str) -> u64 {
    done[field].as_u64().unwrap_or_else(|| panic!("{field} in {done}"))
}

/// Of `total` bytes, those that came in this run and those that were there add up, but for `again` bytes.
fn assert_once(done: &Value, total: u64, again: u64) {
    let (reused, fetched) = (number(done, "bytes_reused"), number(done, "bytes_fetched"));
    assert!(
        (total..=total + again).contains(&(reused + fetched)),
        "{reused} bytes reused, {fetched} fetched of {total}"
    );
}

fn assert_same(one: &Path, other: &Path) {
    assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{}", other.display());
}

#[test]
fn a_killed_sender_that_is_started_again_continues_what_it_pushed() {
    let playground = Playground::new();
    let file = playground.file("data", 64 << 20, 1);
    let into = playground.dir("into");
    let mut listening = playground.listen(&into, &[]);
    let proxy = FaultProxy::for_link(&listening.link);
    proxy.inject_after(Whom::All, PUSHED, 24 * MIB, Fault::Hold(PUSHED));
    let push = playground.push(&[&file], &proxy.link(&listening.link), &["--lanes=1"]);
    listening.wait_for_bytes(16 * MIB);
    push.kill();
    assert!(!into.join("data").exists(), "nothing unfinished appears under its name");
    let again = playground.push(&[&file], &listening.link, &[]).wait();
    let received = listening.wait();
    let done = received.assert_ok();
    assert!(number(done, "bytes_reused") >= 16 * MIB, "{done}");
    assert_once(done, 64 * MIB, 0);
    assert!(number(again.assert_ok(), "bytes_fetched") <= 48 * MIB, "what was there is not sent");
    assert_same(&file, &into.join("data"));
    assert!(!into.join(".haul").exists());
}

#[test]
fn a_killed_receiver_that_is_started_again_is_found_by_the_sender_that_still_tries() {
    let playground = Playground::new();
    let file = playground.file("data", 64 << 20, 2);
    let into = playground.dir("into");
    let mut listening = playground.listen(&into, &[]);
    let link = listening.link.clone();
    let proxy = FaultProxy::for_link(&link);
    // Each connection carries a part of the file, and then no more.
    proxy.inject_after(Whom::All, PUSHED, 24 * MIB, Fault::Hold(PUSHED));
    let mut push = playground.push(&[&file], &proxy.link(&link), &["--lanes=1"]);
    for turn in 1..=2 {
        listening.wait_for_bytes(turn * 16 * MIB);
        listening.run.kill();
        assert!(push.wait_until(|event| event["phase"] == "reconnecting"), "the sender says what it does");
        listening = playground.listen(&into, &[]);
        assert_eq!(listening.link, link, "one folder, one user: the same port, room and key");
    }
    let received = listening.wait();
    let done = received.assert_ok();
    assert!(number(done, "bytes_reused") >= 32 * MIB, "{done}");
    assert_once(done, 64 * MIB, 0);
    push.wait().assert_ok();
    assert_same(&file, &into.join("data"));
}

#[test]
fn both_ends_killed_and_started_again_finish_a_tree_of_small_files() {
    let playground = Playground::new();
    let source = playground.dir("source");
    for number in 0..2000 {
        fs::write(source.join(format!("{number}")), noise(20_000, number)).unwrap();
    }
    let into = playground.dir("into");
    let mut listening = playground.listen(&into, &[]);
    let push = playground.push(&[&source], &listening.link, &[]);
    let some_are_there = |event: &Value| event["event"] == "file" && event["how"] == "published";
    assert!(listening.run.wait_until(some_are_there));
    listening.run.kill();
    push.kill();
    let listening = playground.listen(&into, &[]);
    let push = playground.push(&[&source], &listening.link, &[]);
    // It says a line for every file, and waits where nobody reads them.
    let received = listening.wait();
    assert_once(received.assert_ok(), 2000 * 20_000, 0);
    push.wait().assert_ok();
    for number in 0..2000 {
        let name = format!("{number}");
        assert_same(&source.join(&name), &into.join("source").join(&name));
    }
}

#[test]
fn connections_that_live_for_less_than_a_chunk_bring_every_byte_once() {
    let playground = Playground::new();
    let source = playground.dir("source");
    fs::write(source.join("one chunk"), noise(250_000, 31)).unwrap();
    fs::write(source.join("several"), noise(1_500_000, 32)).unwrap();
    for number in 0..40 {
        fs::write(source.join(format!("small {number}")), noise(3000 + number, 33 + number as u64)).unwrap();
    }
    let total: u64 = fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    let into = playground.dir("into");
    let listening = playground.listen(&into, &[]);
    let proxy = FaultProxy::for_link(&listening.link);
    proxy.inject_after(Whom::All, PUSHED, 100_000, Fault::Reset);
    let push = playground.push(&[&source], &proxy.link(&listening.link), &[]).wait();
    let received = listening.wait();
    assert_once(received.assert_ok(), total, 0);
    push.assert_ok();
    assert!(proxy.connections() > 15, "{} connections of 100,000 bytes", proxy.connections());
    for entry in fs::read_dir(&source).unwrap() {
        let name = entry.unwrap().file_name();
        assert_same(&source.join(&name), &into.join("source").join(&name));
    }
}

#[test]
fn connections_that_fall_silent_are_replaced_while_a_new_one_gets_through() {
    let playground = Playground::new();
    let file = playground.file("data", 60 << 20, 41);
    let into = playground.dir("into");
    let listening = playground.listen(&into, &["--lanes=1"]);
    let proxy = FaultProxy::for_link(&listening.link);
    // As if something on the way forgot them: nobody is told, and nothing comes any more.
    proxy.inject_after(Whom::All, PUSHED, 24 * MIB, Fault::Hold(PUSHED));
    let push = playground.push(&[&file], &proxy.link(&listening.link), &[]).wait();
    assert_once(listening.wait().assert_ok(), 60 * MIB, 0);
    push.assert_ok();
    assert_same(&file, &into.join("data"));
}

#[test]
fn a_receiver_that_fell_silent_is_noticed_by_its_sender() {
    let playground = Playground::new();
    let file = playground.file("data", 64 << 20, 43);
    let into = playground.dir("into");
    let mut listening = playground.listen(&into, &[]);
    let proxy = FaultProxy::for_link(&listening.link);
    let mut push = playground.push(&[&file], &proxy.link(&listening.link), &[]);
    listening.wait_for_bytes(1);
    // Nothing comes through in either direction, and nobody is told.
    proxy.inject(Whom::All, Fault::Hold(Way::ToReceiver));
    proxy.inject(Whom::All, Fault::Hold(PUSHED));
    assert!(push.wait_until(|event| event["phase"] == "reconnecting"));
    proxy.inject(Whom::All, Fault::Release(Way::ToReceiver));
    proxy.inject(Whom::All, Fault::Release(PUSHED));
    assert_once(listening.wait().assert_ok(), 64 * MIB, 64 * MIB);
    push.wait().assert_ok();
    assert_same(&file, &into.join("data"));
}

#[test]
fn the_same_files_from_two_senders_at_once_are_received_from_one() {
    let playground = Playground::new();
    let file = playground.file("data", 64 << 20, 44);
    let into = playground.dir("into");
    let mut listening = playground.listen(&into, &[]);
    let proxy = FaultProxy::for_link(&listening.link);
    proxy.inject(Whom::All, Fault::Throttle(PUSHED, Some(MIB)));
    let first = playground.push(&[&file], &proxy.link(&listening.link), &[]);
    listening.wait_for_bytes(1);
    let second = playground.push(&[&file], &listening.link, &[]).wait();
    let error = second.assert_exit(41)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("it is receiving the same files from another sender"), "{error}");
    proxy.inject(Whom::All, Fault::Throttle(PUSHED, None));
    first.wait().assert_ok();
    listening.wait().assert_ok();
    assert_same(&file, &into.join("data"));
}

#[test]
fn a_sender_that_is_gone_for_good_keeps_nobody_from_pushing() {
    let playground = Playground::new();
    let (lost, file) = (playground.file("lost", 64 << 20, 45), playground.file("data", 5 << 20, 46));
    let into = playground.dir("into");
    let mut listening = playground.listen(&into, &["--keep"]);
    let proxy = FaultProxy::for_link(&listening.link);
    proxy.inject_after(Whom::All, PUSHED, 8 * MIB, Fault::Hold(PUSHED));
    let push = playground.push(&[&lost], &proxy.link(&listening.link), &["--lanes=1"]);
    listening.wait_for_bytes(MIB);
    push.kill();
    playground.push(&[&file], &listening.link, &[]).wait().assert_ok();
    signal(listening.run.id(), Signal::INT);
    let received = listening.wait();
    // What is not finished is said so, and kept.
    received.assert_exit(130);
    let ended = endings(&received);
    let unfinished = ended.iter().find(|event| event["session"] == 1).expect("it is told of");
    assert_eq!(unfinished["ok"], false);
    let listening = playground.listen(&into, &[]);
    playground.push(&[&lost], &listening.link, &[]).wait().assert_ok();
    let received = listening.wait();
    assert!(number(received.assert_ok(), "bytes_reused") >= MIB);
}

#[test]
fn a_listening_receiver_that_is_interrupted_keeps_what_it_has_and_says_how_it_goes_on() {
    let playground = Playground::new();
    let file = playground.file("data", 64 << 20, 47);
    let into = playground.dir("into");
    let mut listening = playground.listen(&into, &[]);
    let proxy = FaultProxy::for_link(&listening.link);
    proxy.inject_after(Whom::All, PUSHED, 24 * MIB, Fault::Hold(PUSHED));
    let push = playground.push(&[&file], &proxy.link(&listening.link), &["--lanes=1"]);
    listening.wait_for_bytes(MIB);
    signal(listening.run.id(), Signal::INT);
    let interrupted: Listening = listening;
    let received = interrupted.wait();
    received.assert_exit(130);
    assert!(received.stderr.contains("run the same command again: senders that still try continue"), "{received:?}");
    let listening = playground.listen(&into, &[]);
    assert!(number(listening.wait().assert_ok(), "bytes_reused") >= MIB);
    push.wait().assert_ok();
    assert_same(&file, &into.join("data"));
}
