//! Limits on how fast data comes and goes, kept by real processes: over all lanes, by either side, and whatever travels.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_precision_loss)]

#[path = "support/listening.rs"]
mod listening;
#[path = "support/process.rs"]
mod process;

use haul::limits::LANE_SILENCE_MAX;
use listening::endings;
use process::{Playground, Received, noise, signal};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// Least seconds that so many bytes take at a mebibyte a second: the last pieces are paid for by nobody.
fn least_seconds(bytes: usize) -> f64 {
    bytes as f64 / MIB as f64 - 0.4
}

fn assert_slow(received: &Received, bytes: usize) {
    let seconds = received.assert_ok()["seconds"].as_f64().unwrap();
    assert!(seconds >= least_seconds(bytes), "{bytes} bytes in {seconds} s");
    assert_undisturbed(received);
}

/// No lane was taken for dead.
fn assert_undisturbed(received: &Received) {
    let is_loss = |event: &&serde_json::Value| event["phase"].as_str().is_some_and(|it| it.contains("reconnecting"));
    assert_eq!(received.events.iter().find(is_loss), None);
}

#[test]
fn what_a_receiver_allows_holds_for_all_of_its_lanes_together() {
    for lanes in ["1", "7"] {
        let playground = Playground::new();
        let file = playground.file("data", 3 * MIB, 1);
        let sender = playground.send(&[&file], &[]);
        let args = ["--limit", "1M", "--lanes", lanes];
        let received = playground.receive(&sender.link, &playground.dir("into"), &args).wait();
        assert_slow(&received, 3 * MIB);
        assert!(fs::read(playground.path("into/data")).unwrap() == noise(3 * MIB, 1));
    }
}

#[test]
fn a_push_is_no_faster_than_either_side_allows() {
    for (sends, listens) in [(&["--limit", "1M"][..], &[][..]), (&[], &["--limit", "1M"])] {
        let playground = Playground::new();
        let file = playground.file("data", 3 * MIB, 2);
        let listening = playground.listen(&playground.dir("into"), listens);
        let pushed = playground.push(&[&file], &listening.link, sends).wait();
        assert_slow(&pushed, 3 * MIB);
        listening.wait().assert_ok();
    }
}

#[test]
fn senders_share_what_their_receiver_allows() {
    let playground = Playground::new();
    let files = [3, 4].map(|seed| playground.file(&format!("file {seed}"), 2 * MIB, seed));
    let listening = playground.listen(&playground.dir("into"), &["--keep", "--limit", "1M"]);
    let began = Instant::now();
    let pushes = files.each_ref().map(|file| playground.push(&[file], &listening.link, &[]));
    for push in pushes {
        push.wait().assert_ok();
    }
    let seconds = began.elapsed().as_secs_f64();
    assert!(seconds >= least_seconds(4 * MIB), "4 MiB in {seconds} s");
    signal(listening.run.id(), Signal::INT);
    let received = listening.wait();
    assert_eq!(endings(&received).len(), 2);
    assert_undisturbed(&received);
}

#[test]
fn the_least_limit_makes_no_lane_look_dead_and_a_stop_waits_for_nothing() {
    let playground = Playground::new();
    let file = playground.file("data", 2 * MIB, 5);
    let mut sender = playground.send(&[&file], &[]);
    let into = playground.dir("into");
    let began = Instant::now();
    // The piece after the first one is due in hours.
    let mut receiving = playground.receive(&sender.link, &into, &["--limit", "1"]);
    let wait = LANE_SILENCE_MAX + Duration::from_secs(2);
    assert!(receiving.wait_until(|_| began.elapsed() > wait), "it goes on");
    signal(receiving.id(), Signal::INT);
    let stopped = receiving.wait();
    stopped.assert_exit(130);
    assert_undisturbed(&stopped);
    let is_limited = |event: &serde_json::Value| event["state"] == "limited";
    sender.wait_until(is_limited);
    // Without it, the same session goes on as fast as it can.
    playground.receive(&sender.link, &into, &[]).wait().assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == noise(2 * MIB, 5));
}

#[test]
fn a_transfer_that_is_continued_is_as_fast_as_is_said_then() {
    let playground = Playground::new();
    let file = playground.file("data", 3 * MIB, 6);
    let sender = playground.send(&[&file], &[]);
    let into = playground.dir("into");
    let mut receiving = playground.receive(&sender.link, &into, &["--limit", "1"]);
    assert!(receiving.wait_until(|event| event["bytes_fetched"].as_u64() > Some(0)));
    receiving.kill();
    let mut command = playground.command("resume");
    let resumed = Playground::start_receive({
        command.arg(&into).args(["--json", "--limit", "1M"]);
        command
    });
    assert_slow(&resumed.wait(), 3 * MIB - 256 * 1024);
    assert!(fs::read(into.join("data")).unwrap() == noise(3 * MIB, 6));
}

#[test]
fn zeros_and_what_shrinks_cost_what_travels_of_them() {
    // At the length of the files this would take a quarter of an hour.
    for (sends, receives) in [(&["--limit", "64K"][..], &[][..]), (&[], &["--limit", "64K"])] {
        let playground = Playground::new();
        let source = playground.dir("source");
        fs::write(source.join("zeros"), vec![0; 64 * MIB]).unwrap();
        fs::write(source.join("text"), "the same line again\n".repeat(2 * MIB / 20)).unwrap();
        let sender = playground.send(&[&source], &[&["--compress", "3"], sends].concat());
        let received = playground.receive(&sender.link, &playground.dir("into"), receives).wait();
        let done = received.assert_ok();
        assert_eq!(done["bytes"].as_u64(), Some(64 * MIB as u64 + (2 * MIB / 20 * 20) as u64));
        assert!(done["wire_bytes"].as_u64().unwrap() < 2 * MIB as u64, "{done}");
    }
}
