//! Killed ends, started again, lose nothing.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;

use process::{Playground, Receiving, noise};
use proxy::{Proxy, Then};
use std::fs;

const MIB: u64 = 1 << 20;

#[test]
fn a_killed_receiver_continues_where_it_was() {
    let playground = Playground::new();
    let file = playground.file("data", 96 << 20, 3);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &["--keep"]);
    let proxy = Proxy::new(&sending.link, 48 * MIB, Then::Stall);
    let mut first = playground.receive(&proxy.link(&sending.link), &into, &[]);
    until_half(&mut first);
    first.kill();
    assert!(!into.join("data").exists(), "nothing unfinished appears under its name");
    let second = playground.receive(&sending.link, &into, &[]).wait();
    let done = second.assert_ok();
    let (reused, fetched) = (done["bytes_reused"].as_u64().unwrap(), done["bytes_fetched"].as_u64().unwrap());
    assert_eq!(reused + fetched, 96 * MIB, "what was claimed is not fetched again");
    assert!(reused >= 40 * MIB, "{reused} bytes reused: at most 8 MiB are sent twice");
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert!(!into.join(".haul").exists());
    sending.kill();
}

#[test]
fn a_killed_sender_serves_the_same_link_again() {
    let playground = Playground::new();
    let file = playground.file("data", 96 << 20, 4);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &[]);
    let link = sending.link.clone();
    let proxy = Proxy::new(&link, 48 * MIB, Then::Stall);
    let mut first = playground.receive(&proxy.link(&link), &into, &["--retry-for=0"]);
    until_half(&mut first);
    sending.kill();
    let lost = first.wait();
    lost.assert_exit(10);
    let again = playground.send(&[&file], &[]);
    assert_eq!(again.link, link, "same paths, same user: same port, room and key");
    let second = playground.receive(&link, &into, &[]).wait();
    let done = second.assert_ok();
    assert!(done["bytes_reused"].as_u64().unwrap() >= 40 * MIB);
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert_eq!(again.wait().0, Some(0));
}

#[test]
fn a_tree_of_small_files_continues_without_what_is_published() {
    let playground = Playground::new();
    let source = playground.dir("tree");
    for folder in 0..20u64 {
        fs::create_dir(source.join(folder.to_string())).unwrap();
        for file in 0..150u64 {
            let bytes = noise(2000 + file as usize, folder * 1000 + file);
            fs::write(source.join(format!("{folder}/{file}")), bytes).unwrap();
        }
    }
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &["--keep"]);
    let mut first = playground.receive(&sending.link, &into, &[]);
    assert!(first.wait_until(|event| event["event"] == "file"), "a file is published before the end");
    first.kill();
    let second = playground.receive(&sending.link, &into, &[]).wait();
    assert!(second.assert_ok()["bytes_reused"].as_u64().unwrap() > 0);
    for folder in 0..20 {
        for file in 0..150 {
            let name = format!("{folder}/{file}");
            assert_eq!(fs::read(into.join("tree").join(&name)).unwrap(), fs::read(source.join(&name)).unwrap());
        }
    }
    assert!(!into.join(".haul").exists());
    sending.kill();
}

#[test]
fn a_loop_of_kills_at_any_moment_completes() {
    let playground = Playground::new();
    let source = playground.dir("source");
    fs::write(source.join("big"), noise(64 << 20, 5)).unwrap();
    for file in 0..200u64 {
        fs::write(source.join(format!("small{file}")), noise(3000, file)).unwrap();
    }
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &["--keep"]);
    let mut rounds = 0;
    loop {
        // The number of events before the kill walks through the whole transfer.
        let mut receiving = playground.receive(&sending.link, &into, &[]);
        let mut left = 1 + rounds * 7 % 23;
        let alive = receiving.wait_until(|event| {
            left -= i32::from(event["event"] != "done");
            left == 0
        });
        rounds += 1;
        if alive && rounds < 12 {
            receiving.kill();
            continue;
        }
        receiving.wait().assert_ok();
        break;
    }
    for entry in fs::read_dir(&source).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fs::read(source.join(&name)).unwrap() == fs::read(into.join("source").join(&name)).unwrap());
    }
    assert!(!into.join(".haul").exists());
    sending.kill();
}

#[test]
fn a_second_run_finds_everything_identical() {
    let playground = Playground::new();
    let file = playground.file("data", 3 << 20, 6);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &["--keep"]);
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    let again = playground.receive(&sending.link, &into, &[]).wait();
    let done = again.assert_ok();
    assert_eq!((done["bytes_fetched"].as_u64(), done["bytes_reused"].as_u64()), (Some(0), Some(3 * MIB)));
    sending.kill();
}

/// Waits until what the stalled proxy let through is verified, but for the chunks that it cut in two.
fn until_half(receiving: &mut Receiving) {
    let reached = receiving.wait_until(|event| {
        event["event"] == "progress" && event["bytes_done"].as_u64().is_some_and(|bytes| bytes >= 40 * MIB)
    });
    assert!(reached, "the transfer was over before it could be cut");
}
