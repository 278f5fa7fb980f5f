//! A receiver that lost its sender finds it again by itself.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/fault_proxy.rs"]
mod fault_proxy;
#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;

use fault_proxy::{Fault, FaultProxy, Way, Whom};
use process::{Playground, Receiving, noise};
use proxy::{Proxy, Then};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;

const MIB: u64 = 1 << 20;

#[test]
fn connections_that_are_cut_are_opened_again_and_nothing_verified_is_fetched_again() {
    let playground = Playground::new();
    let file = playground.file("data", 96 << 20, 21);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &[]);
    let proxy = Proxy::new(&sending.link, 48 * MIB, Then::Cut);
    let mut receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
    until_reconnecting(&mut receiving);
    assert!(!into.join("data").exists(), "nothing unfinished appears under its name");
    proxy.release();
    let received = receiving.wait();
    let done = received.assert_ok();
    assert_fetched_once(done, 96 * MIB, 4 * MIB);
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert!(!into.join(".haul").exists());
    assert_eq!(sending.wait().0, Some(0), "the sender learns that it arrived");
}

#[test]
fn connections_that_live_for_less_than_a_chunk_bring_every_byte_once() {
    let playground = Playground::new();
    let source = playground.dir("source");
    // A file of one chunk, one of several, and small ones.
    fs::write(source.join("one chunk"), noise(250_000, 31)).unwrap();
    fs::write(source.join("several"), noise(1_500_000, 32)).unwrap();
    for number in 0..40 {
        fs::write(source.join(format!("small {number}")), noise(3000 + number, 33 + number as u64)).unwrap();
    }
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    let proxy = FaultProxy::for_link(&sending.link);
    proxy.inject_after(Whom::All, Way::ToReceiver, 100_000, Fault::Reset);
    let received = playground.receive(&proxy.link(&sending.link), &into, &[]).wait();
    let done = received.assert_ok();
    let total: u64 = fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert_fetched_once(done, total, 0);
    assert!(proxy.connections() > 15, "{} connections of 100,000 bytes", proxy.connections());
    for entry in fs::read_dir(&source).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            fs::read(into.join("source").join(&name)).unwrap() == fs::read(source.join(&name)).unwrap(),
            "{name:?}"
        );
    }
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn connections_that_fall_silent_are_replaced_while_a_new_one_gets_through() {
    let playground = Playground::new();
    let file = playground.file("data", 60 << 20, 41);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &[]);
    let proxy = FaultProxy::for_link(&sending.link);
    // As if something on the way forgot them: nobody is told, and nothing comes any more.
    proxy.inject_after(Whom::All, Way::ToReceiver, 24 * MIB, Fault::Hold(Way::ToReceiver));
    let received = playground.receive(&proxy.link(&sending.link), &into, &["--lanes=1"]).wait();
    let done = received.assert_ok();
    assert_fetched_once(done, 60 * MIB, 0);
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn a_sender_that_was_killed_and_started_again_is_found_again() {
    let playground = Playground::new();
    let file = playground.file("data", 96 << 20, 22);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &[]);
    let proxy = Proxy::new(&sending.link, 48 * MIB, Then::Cut);
    let mut receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
    until_reconnecting(&mut receiving);
    sending.kill();
    let again = playground.send(&[&file], &[]);
    proxy.release();
    let received = receiving.wait();
    assert_fetched_once(received.assert_ok(), 96 * MIB, 4 * MIB);
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert_eq!(again.wait().0, Some(0));
}

#[test]
fn a_sender_that_comes_back_with_changed_files_sends_the_differences() {
    let playground = Playground::new();
    let source = playground.dir("source");
    let mut bytes = noise(96 << 20, 23);
    fs::write(source.join("changes"), &bytes).unwrap();
    fs::write(source.join("stays"), noise(3 << 20, 24)).unwrap();
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    let proxy = Proxy::new(&sending.link, 48 * MIB, Then::Cut);
    let mut receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
    until_reconnecting(&mut receiving);
    sending.kill();
    bytes[1000..2000].fill(7);
    fs::write(source.join("changes"), &bytes).unwrap();
    fs::write(source.join("new"), b"new").unwrap();
    let again = playground.send(&[&source], &[]);
    proxy.release();
    let received = receiving.wait();
    // One chunk of 256 KiB differs; it may have been stored before, and is fetched twice then.
    assert_fetched_once(received.assert_ok(), 99 * MIB, 5 * MIB);
    let told =
        received.events.iter().any(|event| event["event"] == "warning" && event.to_string().contains("something else"));
    assert!(told, "{received:?}");
    for name in ["changes", "stays", "new"] {
        assert!(fs::read(into.join("source").join(name)).unwrap() == fs::read(source.join(name)).unwrap(), "{name}");
    }
    assert!(!into.join(".haul").exists());
    assert_eq!(again.wait().0, Some(0));
}

#[test]
fn patience_that_is_named_ends() {
    let playground = Playground::new();
    let file = playground.file("data", 96 << 20, 25);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &["--keep"]);
    let proxy = Proxy::new(&sending.link, 48 * MIB, Then::Cut);
    let received = playground.receive(&proxy.link(&sending.link), &into, &["--retry-for=1s"]).wait();
    let done = received.assert_exit(10);
    assert!(done["bytes_fetched"].as_u64().unwrap() > 0, "{done}");
    assert!(is_reconnecting(&received.events), "{received:?}");
    let second = playground.receive(&sending.link, &into, &[]).wait();
    assert!(second.assert_ok()["bytes_reused"].as_u64().unwrap() >= 40 * MIB);
    sending.kill();
}

#[test]
fn a_sender_that_is_not_there_yet_is_waited_for_where_patience_is_named() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 26);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &[]);
    let link = sending.link.clone();
    sending.kill();
    let mut receiving = playground.receive(&link, &into, &["--retry-for=10m"]);
    until_reconnecting(&mut receiving);
    let again = playground.send(&[&file], &[]);
    receiving.wait().assert_ok();
    assert_eq!(again.wait().0, Some(0));
}

#[test]
fn a_port_that_something_else_took_meanwhile_is_no_reason_to_give_up() {
    let playground = Playground::new();
    let file = playground.file("data", 96 << 20, 27);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &[]);
    let link = sending.link.clone();
    let proxy = Proxy::new(&link, 48 * MIB, Then::Cut);
    let mut receiving = playground.receive(&proxy.link(&link), &into, &[]);
    until_reconnecting(&mut receiving);
    sending.kill();
    let address = link.split("//").nth(1).unwrap().split('/').next().unwrap();
    let stranger = TcpListener::bind(address).unwrap();
    proxy.release();
    let (connection, _) = stranger.accept().unwrap();
    drop((connection, stranger));
    let again = playground.send(&[&file], &[]);
    assert_eq!(again.link, link);
    receiving.wait().assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert_eq!(again.wait().0, Some(0));
}

fn assert_fetched_once(done: &Value, length: u64, twice_max: u64) {
    let fetched = done["bytes_fetched"].as_u64().unwrap();
    assert!(fetched <= length + twice_max, "{} bytes were sent twice", fetched - length);
}

fn until_reconnecting(receiving: &mut Receiving) {
    let lost = receiving.wait_until(|event| event["phase"] == "reconnecting");
    assert!(lost, "the transfer was over before it could be cut");
}

fn is_reconnecting(events: &[Value]) -> bool {
    events.iter().any(|event| event["phase"] == "reconnecting")
}
