//! `haul transfers` with real processes: what is unfinished is listed and dropped, and what runs is left alone.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;

use process::{Playground, Ran, Received, Receiving, Sending, noise, run};
use proxy::{Proxy, Then};
use serde_json::Value;
use std::fs;
use std::path::Path;

const MIB: u64 = 1 << 20;

/// A sender of `name`, 24 MiB of it, and a receiver of which 8 MiB are verified.
fn begun(playground: &Playground, into: &Path, name: &str, seed: u64) -> (Sending, Proxy, Receiving) {
    let sending = playground.send(&[&playground.file(name, 24 << 20, seed)], &["--keep"]);
    let proxy = Proxy::new(&sending.link, 16 * MIB, Then::Stall);
    let mut receiving = playground.receive(&proxy.link(&sending.link), into, &[]);
    let reached = receiving.wait_until(|event| event["bytes_done"].as_u64().is_some_and(|bytes| bytes >= 8 * MIB));
    assert!(reached, "the transfer was over before it could be cut");
    (sending, proxy, receiving)
}

/// The same, whose receiver was killed.
fn killed(playground: &Playground, into: &Path, name: &str, seed: u64) -> (Sending, Proxy) {
    let (sending, proxy, receiving) = begun(playground, into, name, seed);
    receiving.kill();
    (sending, proxy)
}

fn people(playground: &Playground, what: &[&str], into: &Path) -> Ran {
    run(playground.command("transfers").args(what).arg(into))
}

fn program(playground: &Playground, what: &[&str], into: &Path) -> Received {
    let mut command = playground.command("transfers");
    command.args(what).arg(into).arg("--json");
    Playground::start_receive(command).wait()
}

fn events<'a>(received: &'a Received, event: &str) -> Vec<&'a Value> {
    received.events.iter().filter(|value| value["event"] == event).collect()
}

#[test]
fn what_a_killed_receiver_left_is_listed_and_dropped_and_then_the_folder_is_empty() {
    let playground = Playground::new();
    let into = playground.dir("into");
    fs::write(into.join("mine"), "untouched").unwrap();
    let (sending, _proxy) = killed(&playground, &into, "data", 1);

    let listed = program(&playground, &["list"], &into);
    assert_eq!(listed.assert_ok()["exit"], 0);
    let found = events(&listed, "unfinished");
    assert_eq!((found.len(), &found[0]["name"], &found[0]["bytes"]), (1, &"data".into(), &(24 * MIB).into()));
    let kept = found[0]["bytes_kept"].as_u64().unwrap();
    assert!((8 * MIB..24 * MIB).contains(&kept), "{kept}");
    let id = found[0]["transfer"].as_str().unwrap().to_owned();

    for what in [&[][..], &["list"]] {
        let ran = people(&playground, what, &into);
        let begins = format!("{}    24.0 MiB  data  (", &id[..8]);
        assert!(ran.code == Some(0) && ran.stdout.starts_with(&begins) && ran.stderr.is_empty(), "{ran:?}");
    }
    let ran = people(&playground, &["inspect", "--only", &id[..4]], &into);
    let from = format!("  from:   {}\n", found[0]["addresses"][0].as_str().unwrap());
    for wanted in
        [&format!("data\n  id:     {id}\n"), "  size:   24.0 MiB in 1 file\n", &from, " of 24.0 MiB of `data`\n"]
    {
        assert!(ran.code == Some(0) && ran.stdout.contains(wanted), "{wanted}: {ran:?}");
    }
    let inspected = program(&playground, &["inspect"], &into);
    let parts = events(&inspected, "part");
    assert_eq!((parts.len(), &parts[0]["destined"], &parts[0]["bytes_kept"]), (1, &"data".into(), &kept.into()));
    let key = sending.link.split('#').nth(1).unwrap();
    assert!(!format!("{ran:?}{inspected:?}").contains(key), "the key is nobody's business");

    // Nobody can be asked here, so nothing is dropped without --yes.
    assert_eq!(people(&playground, &["clean"], &into).code, Some(2));
    program(&playground, &["clean", "--yes", "--only", "zz"], &into).assert_exit(2);
    assert_eq!(events(&program(&playground, &["list"], &into), "unfinished").len(), 1);
    let ran = people(&playground, &["clean", "--yes"], &into);
    assert!(ran.code == Some(0) && ran.stderr.starts_with("data: dropped, "), "{ran:?}");
    let names: Vec<_> = fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["mine"]);

    let ran = people(&playground, &["list"], &into);
    let nothing = format!("Nothing is unfinished in `{}`.\n", into.display());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", nothing.as_str()));
    program(&playground, &["clean"], &into).assert_ok();
    program(&playground, &["list"], &playground.path("nowhere")).assert_exit(11);
    sending.kill();
}

#[test]
fn one_that_runs_is_left_alone_and_completes() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let (dropped, _proxy) = killed(&playground, &into, "dropped", 1);
    let (sending, proxy, receiving) = begun(&playground, &into, "running", 2);
    let cleaned = program(&playground, &["clean", "--yes"], &into);
    assert_eq!(cleaned.assert_exit(11)["error"], "1 of 2 were left as they are");
    let mut errors: Vec<_> = events(&cleaned, "dropped").iter().map(|event| event["error"].as_str()).collect();
    errors.sort_unstable();
    assert_eq!(errors, [None, Some("it is under way: another process has it")]);
    let left = program(&playground, &["list"], &into);
    assert_eq!(events(&left, "unfinished").iter().map(|event| &event["name"]).collect::<Vec<_>>(), ["running"]);
    proxy.release();
    receiving.wait().assert_ok();
    assert!(fs::read(into.join("running")).unwrap() == noise(24 << 20, 2));
    assert!(!into.join(".haul").exists() && !into.join("dropped").exists());
    sending.kill();
    dropped.kill();
}

#[test]
fn one_of_several_is_dropped_and_the_other_goes_on() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let (first, _first_proxy) = killed(&playground, &into, "first", 1);
    let (second, proxy) = killed(&playground, &into, "second", 2);
    let listed = program(&playground, &["list"], &into);
    let id = |name: &str| {
        let found = events(&listed, "unfinished").into_iter().find(|event| event["name"] == name).unwrap();
        found["transfer"].as_str().unwrap().to_owned()
    };
    program(&playground, &["clean", "--yes", "--only", &id("first")], &into).assert_ok();
    proxy.release();
    let mut command = playground.command("resume");
    command.arg(&into).arg("--json");
    let resumed = Playground::start_receive(command).wait();
    assert!(resumed.assert_ok()["bytes_reused"].as_u64().unwrap() >= 8 * MIB);
    assert!(fs::read(into.join("second")).unwrap() == noise(24 << 20, 2));
    assert!(!into.join(".haul").exists() && !into.join("first").exists());
    first.kill();
    second.kill();
}

#[test]
fn what_no_record_tells_about_is_dropped_as_well() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let (sending, _proxy) = killed(&playground, &into, "data", 1);
    let work = into.join(".haul");
    let record = |ending: &str| {
        let mut paths = fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().path());
        paths.find(|path| path.to_str().unwrap().ends_with(ending)).unwrap()
    };
    // A record of another version, its part, and one whose run stopped while it published.
    fs::write(record(".transfer"), b"haulrec9").unwrap();
    fs::write(work.join("0123456789abcdef0123456789abcdef.part"), b"bytes").unwrap();
    let ran = people(&playground, &["list"], &into);
    assert_eq!((ran.code, ran.stdout.matches("note: ").count()), (Some(0), 3), "{ran:?}");
    let cleaned = program(&playground, &["clean", "--yes"], &into);
    cleaned.assert_ok();
    assert!(events(&cleaned, "dropped").iter().all(|event| event["ok"] == true && event["path"].is_string()));
    assert!(!work.exists());
    sending.kill();
}
