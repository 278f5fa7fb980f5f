//! Compressed transfers: what shrinks travels shorter where that is wanted, and arrives as it was.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/fault_proxy.rs"]
mod fault_proxy;
#[path = "support/listening.rs"]
mod listening;
#[path = "support/process.rs"]
mod process;

use fault_proxy::schedule::{Step, When};
use fault_proxy::{Fault, FaultProxy, Way};
use process::{Playground, Received, noise};
use std::fs;
use std::path::Path;

const CHUNK: usize = 256 * 1024;

#[test]
fn every_level_brings_every_kind_of_file_bit_exact_and_in_fewer_bytes() {
    for level in ["1", "3", "19"] {
        let playground = Playground::new();
        let source = mixed_source(&playground);
        let received = fetch(&playground, &source, &["--compress", level], &[]);
        let done = received.assert_ok();
        let (fetched, wire) = (done["bytes_fetched"].as_u64().unwrap(), done["wire_bytes"].as_u64().unwrap());
        // Of seven chunks of data that is not zero, two and some do not shrink.
        assert!(wire < fetched / 2, "level {level}: {wire} of {fetched}");
        assert_same(&source, &playground.path("into/source"));
    }
}

#[test]
fn automatic_compression_brings_everything_bit_exact() {
    let playground = Playground::new();
    let source = mixed_source(&playground);
    fetch(&playground, &source, &["--compress", "auto"], &[]).assert_ok();
    assert_same(&source, &playground.path("into/source"));
}

#[test]
fn either_side_can_do_without() {
    for (sending, receiving) in [("off", "auto"), ("3", "off")] {
        let playground = Playground::new();
        let file = playground.path("text");
        fs::write(&file, text(6 * CHUNK)).unwrap();
        let received = fetch(&playground, &file, &["--compress", sending], &["--compress", receiving]);
        let wire = received.assert_ok()["wire_bytes"].as_u64().unwrap();
        assert!(wire > 6 * CHUNK as u64, "{sending} {receiving}: {wire}");
        assert!(fs::read(playground.path("into/text")).unwrap() == text(6 * CHUNK));
    }
}

#[test]
fn a_push_compresses_as_its_sender_wants_unless_the_listener_does_not() {
    for (listens, is_compressed) in [("auto", true), ("1", true), ("off", false)] {
        let playground = Playground::new();
        let file = playground.path("text");
        fs::write(&file, text(6 * CHUNK)).unwrap();
        let into = playground.dir("into");
        let listening = playground.listen(&into, &["--compress", listens]);
        let pushed = playground.push(&[&file], &listening.link, &["--compress", "3"]).wait();
        let wire = pushed.assert_ok()["wire_bytes"].as_u64().unwrap();
        assert_eq!(wire < 3 * CHUNK as u64, is_compressed, "{listens}: {wire}");
        listening.wait().assert_ok();
        assert!(fs::read(into.join("text")).unwrap() == text(6 * CHUNK));
    }
}

#[test]
fn a_connection_that_breaks_within_compressed_pieces_costs_nothing_but_those() {
    let playground = Playground::new();
    let file = playground.path("text");
    let length = 64 * CHUNK;
    fs::write(&file, text(length)).unwrap();
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &["--compress", "1"]);
    let proxy = FaultProxy::for_link(&sending.link);
    let cut = |bytes| Step { when: When::Passed(Way::ToReceiver, bytes), fault: Fault::Reset, lasts: None };
    proxy.follow(&[cut(300_000), cut(900_000), cut(1_500_000)]);
    let received = playground.receive(&proxy.link(&sending.link), &into, &[]).wait();
    proxy.wait_until_steps(3);
    let fetched = received.assert_ok()["bytes_fetched"].as_u64().unwrap();
    assert!(fs::read(into.join("text")).unwrap() == text(length));
    // A broken lane forgets the piece that was under way, and no more.
    assert!(fetched <= length as u64 + 3 * 16 * CHUNK as u64, "{fetched} of {length}");
    assert_eq!(sending.wait().0, Some(0));
}

fn fetch(playground: &Playground, source: &Path, sending: &[&str], receiving: &[&str]) -> Received {
    let sender = playground.send(&[source], sending);
    let received = playground.receive(&sender.link, &playground.dir("into"), receiving).wait();
    assert_eq!(sender.wait().0, Some(0));
    received
}

/// Text, noise, zeros and all of them in one file; long and short.
fn mixed_source(playground: &Playground) -> std::path::PathBuf {
    let source = playground.dir("source");
    fs::write(source.join("text"), text(4 * CHUNK + 77)).unwrap();
    fs::write(source.join("noise"), noise(CHUNK + 1, 1)).unwrap();
    fs::write(source.join("zeros"), vec![0; 2 * CHUNK]).unwrap();
    let parts = [text(CHUNK / 2), noise(CHUNK, 2), vec![0; CHUNK], text(CHUNK)];
    fs::write(source.join("all"), parts.concat()).unwrap();
    for length in [0, 1, 10, 300, 5000, 100_000, CHUNK] {
        fs::write(source.join(format!("text-{length}")), text(length)).unwrap();
    }
    source
}

/// Sentences with numbers in them.
fn text(length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 80);
    for number in 0_u64.. {
        if text.len() >= length {
            break;
        }
        let line = format!("line {number}: of {} things, {} are left\n", number * number % 977, number % 31);
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(length);
    text
}

fn assert_same(source: &Path, copy: &Path) {
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(copy.join(name)).unwrap(), "{}", name.to_string_lossy());
    }
}
