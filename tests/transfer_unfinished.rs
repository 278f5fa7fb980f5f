//! What a folder holds unfinished goes on by itself: no link, no question, all of it at the same time.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;

use process::{Playground, Ran, Received, Receiving, Sending, noise, run};
use proxy::{Proxy, Then};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;

const MIB: u64 = 1 << 20;

/// A sender of one file, and what a receiver that was killed half way left of it.
struct Half {
    sending: Sending,
    proxy: Proxy,
}

/// Begins to receive `name`, 24 MiB of it, and kills the receiver once 8 MiB are verified.
fn half(playground: &Playground, into: &Path, name: &str, seed: u64, options: &[&str]) -> Half {
    let (half, receiving) = begun(playground, into, name, seed, options);
    receiving.kill();
    half
}

/// The same, with a receiver that still runs.
fn begun(playground: &Playground, into: &Path, name: &str, seed: u64, options: &[&str]) -> (Half, Receiving) {
    let file = playground.file(name, 24 << 20, seed);
    let sending = playground.send(&[&file], &["--keep"]);
    let proxy = Proxy::new(&sending.link, 16 * MIB, Then::Stall);
    let mut receiving = playground.receive(&proxy.link(&sending.link), into, options);
    let reached = receiving.wait_until(|event| {
        event["event"] == "progress" && event["bytes_done"].as_u64().is_some_and(|bytes| bytes >= 8 * MIB)
    });
    assert!(reached, "the transfer was over before it could be cut");
    (Half { sending, proxy }, receiving)
}

fn resume(playground: &Playground, into: &Path) -> Received {
    let mut command = playground.command("resume");
    command.arg(into).arg("--json");
    Playground::start_receive(command).wait()
}

fn events<'a>(received: &'a Received, event: &str) -> Vec<&'a Value> {
    received.events.iter().filter(|value| value["event"] == event).collect()
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), signal).unwrap();
}

/// The files below `.haul` that end so.
fn kept(into: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(into.join(".haul")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

#[test]
fn a_killed_transfer_goes_on_without_its_link_and_without_a_question() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let half = half(&playground, &into, "data", 1, &[]);
    half.proxy.release();
    let resumed = resume(&playground, &into);
    let done = resumed.assert_ok();
    let (reused, fetched) = (done["bytes_reused"].as_u64().unwrap(), done["bytes_fetched"].as_u64().unwrap());
    assert_eq!(reused + fetched, 24 * MIB, "what was claimed is not fetched again");
    assert!(reused >= 8 * MIB, "{reused}");
    let found = events(&resumed, "unfinished");
    assert_eq!((found.len(), &found[0]["name"], &found[0]["bytes"]), (1, &"data".into(), &(24 * MIB).into()));
    assert_eq!(found[0]["bytes_kept"].as_u64(), Some(reused), "how much is there is known before");
    assert!(fs::read(into.join("data")).unwrap() == noise(24 << 20, 1));
    assert!(!into.join(".haul").exists());
    half.sending.kill();
}

#[test]
fn all_that_a_folder_holds_goes_on_at_the_same_time() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let halves = [1, 2, 3].map(|number| half(&playground, &into, &format!("data{number}"), number, &[]));
    // None gets a byte before every one has begun: they cannot run one after the other.
    let mut command = playground.command("resume");
    command.arg(&into).arg("--json");
    let mut resuming = Playground::start_receive(command);
    let mut transfers = std::collections::BTreeSet::new();
    let all = resuming.wait_until(|event| {
        assert_ne!(event["event"], "ended", "nothing ends before the last one begins");
        if event["event"] == "phase" {
            transfers.insert(event["transfer"].as_str().unwrap().to_owned());
        }
        transfers.len() == 3
    });
    assert!(all);
    for half in &halves {
        half.proxy.release();
    }
    let resumed = resuming.wait();
    let done = resumed.assert_ok();
    assert_eq!((&done["files"], &done["bytes"]), (&3.into(), &(72 * MIB).into()));
    let ended = events(&resumed, "ended");
    assert!(ended.len() == 3 && ended.iter().all(|event| event["ok"] == true), "{ended:?}");
    let named = |event: &&Value| event["event"] == "done" || event["transfer"].is_string();
    assert!(resumed.events.iter().all(|event| named(&event)), "{resumed:?}");
    for number in [1, 2, 3] {
        assert!(fs::read(into.join(format!("data{number}"))).unwrap() == noise(24 << 20, number));
    }
    assert!(!into.join(".haul").exists());
}

#[test]
fn another_offer_ends_its_transfer_and_no_other() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let [changed, same] = [1, 2].map(|number| half(&playground, &into, &format!("data{number}"), number, &[]));
    changed.sending.kill();
    playground.file("data1", 25 << 20, 1);
    let again = playground.send(&[&playground.path("data1")], &["--keep"]);
    changed.proxy.release();
    same.proxy.release();
    let resumed = resume(&playground, &into);
    let done = resumed.assert_exit(24);
    assert_eq!(done["error"], "1 of 2 transfers did not complete");
    assert!(!into.join("data1").exists());
    assert!(fs::read(into.join("data2")).unwrap() == noise(24 << 20, 2));
    let people = "data1: the sender offers something else now than what was accepted\n";
    assert!(resumed.stderr.contains(people), "{}", resumed.stderr);

    // Accepted anew, it takes the earlier one's place.
    let done = playground.receive(&again.link, &into, &[]).wait().assert_ok().clone();
    assert!(done["bytes_reused"].as_u64().unwrap() >= 8 << 20, "what it begins with did not change: {done}");
    assert!(!into.join(".haul").exists(), "nothing is left to be resumed");
    assert_eq!(fs::read(into.join("data1")).unwrap().len(), 25 << 20);
}

#[test]
fn what_another_transfer_began_of_the_same_name_is_left_to_it() {
    // The second one is longer, then of one chunk: what was begun is of use to it, then of none.
    for length in [25 << 20, 1000] {
        let playground = Playground::new();
        let into = playground.dir("into");
        let first = half(&playground, &into, "data", 1, &["--rename"]);
        let part = kept(&into, ".part").pop().unwrap();
        playground.dir("other");
        let other = playground.send(&[&playground.file("other/data", length, 1)], &[]);
        let done = playground.receive(&other.link, &into, &[]).wait().assert_ok().clone();
        assert!(part.exists(), "{length}: the first one comes back for it");
        assert_eq!(done["bytes_fetched"], length, "{length}");
        assert_eq!(other.wait().0, Some(0));

        first.proxy.release();
        let done = resume(&playground, &into).assert_ok().clone();
        assert!(done["bytes_reused"].as_u64().unwrap() >= 8 * MIB, "{length}: {done}");
        assert!(fs::read(into.join("data")).unwrap() == noise(length, 1), "{length}");
        assert!(fs::read(into.join("data (1)")).unwrap() == noise(24 << 20, 1), "{length}");
        assert!(!into.join(".haul").exists(), "{length}");
        first.sending.kill();
    }
}

#[test]
fn the_rule_for_names_that_are_taken_is_the_one_that_was_accepted() {
    let playground = Playground::new();
    let into = playground.dir("into");
    fs::write(into.join("data"), "old").unwrap();
    let half = half(&playground, &into, "data", 1, &["--overwrite"]);
    assert_eq!(fs::read(into.join("data")).unwrap(), b"old");
    half.proxy.release();
    resume(&playground, &into).assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == noise(24 << 20, 1));
}

#[test]
fn a_transfer_that_runs_is_left_to_the_process_that_has_it() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let (half, receiving) = begun(&playground, &into, "data", 1, &[]);
    let second = resume(&playground, &into);
    let done = second.assert_exit(11);
    assert_eq!(done["error"], "this transfer is under way already: another process has it");
    half.proxy.release();
    receiving.wait().assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == noise(24 << 20, 1));
}

#[test]
fn nothing_to_resume_is_no_failure_and_no_folder_is_one() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let ran = run(playground.command("resume").arg(&into));
    let text = format!("Nothing to resume in `{}`.\n", into.display());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", text.as_str()));
    let done = resume(&playground, &into);
    assert_eq!(done.assert_ok()["files"], 0);
    assert!(!into.join(".haul").exists(), "a look leaves nothing behind");
    resume(&playground, &playground.path("nowhere")).assert_exit(11);
    resume(&playground, &playground.file("file", 1, 1)).assert_exit(11);
}

#[test]
fn what_no_record_tells_about_is_named_and_its_link_continues_it() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let half = half(&playground, &into, "data", 1, &[]);
    let record = kept(&into, ".transfer").pop().unwrap();
    let part = kept(&into, ".part").pop().unwrap();
    let whole = fs::read(&record).unwrap();
    assert!(whole.windows(half.sending.link.len() / 2).any(|window| half.sending.link.as_bytes().ends_with(window)));
    let told = |wanted: &str| {
        let ran: Ran = run(playground.command("resume").arg(&into));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains("Nothing to resume in ") && ran.stderr.contains(wanted), "{ran:?}");
        assert!(ran.stderr.contains("`haul receive` with its link continues it"), "{ran:?}");
    };
    // Another version's record, half of one, none at all.
    for contents in [&b"haulrec9"[..], &whole[..whole.len() / 2], b""] {
        fs::write(&record, contents).unwrap();
        told(&format!("`{}` cannot be read by this version", record.with_extension("done").display()));
        told(&format!("`{}` holds ", part.display()));
    }
    // A part whose run stopped while it published: its footer is cut off.
    let copy = part.with_file_name("0123456789abcdef0123456789abcdef.part");
    fs::write(&copy, b"bytes").unwrap();
    told(&format!("`{}`, 5 B, does not say what it is a part of", copy.display()));
    fs::remove_file(&copy).unwrap();
    fs::remove_file(&record).unwrap();
    fs::remove_file(record.with_extension("done")).unwrap();
    told(" of 24.0 MiB of `data` and no record tells where from");
    let resumed = resume(&playground, &into);
    resumed.assert_ok();
    assert_eq!(events(&resumed, "left_behind")[0]["bytes"], 24 * MIB);
    let received = playground.receive(&half.sending.link, &into, &[]).wait();
    assert!(received.assert_ok()["bytes_reused"].as_u64().unwrap() >= 8 * MIB);
    assert!(!into.join(".haul").exists());
}

#[test]
fn an_interrupted_receiver_names_the_command_that_continues_and_an_interrupted_resume_keeps_everything() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let file = playground.file("data", 96 << 20, 1);
    let sending = playground.send(&[&file], &["--keep"]);
    // The inner one lets more through than the outer one and everything that is buffered between them, but not all.
    let inner = Proxy::new(&sending.link, 56 * MIB, Then::Stall);
    let inner_link = inner.link(&sending.link);
    let outer = Proxy::new(&inner_link, 16 * MIB, Then::Stall);
    let mut receiving = playground.receive(&outer.link(&inner_link), &into, &[]);
    assert!(receiving.wait_until(|event| event["bytes_done"].as_u64().is_some_and(|bytes| bytes >= 8 * MIB)));
    signal(receiving.id(), Signal::INT);
    let received = receiving.wait();
    received.assert_exit(130);
    let next = format!("next:  run `haul resume {}` to continue\n", into.display());
    assert!(received.stderr.contains(&next), "{}", received.stderr);

    outer.release();
    let mut command = playground.command("resume");
    command.arg(&into).arg("--json");
    let mut resuming = Playground::start_receive(command);
    assert!(resuming.wait_until(|event| event["bytes_fetched"].as_u64().is_some_and(|bytes| bytes > 0)));
    inner.wait_until_reached();
    signal(resuming.id(), Signal::INT);
    let stopped = resuming.wait();
    let fetched = stopped.assert_exit(130)["bytes_fetched"].as_u64().unwrap();
    assert_eq!(stopped.stderr.matches("error: stopped before the end\n").count(), 1, "{}", stopped.stderr);

    inner.release();
    let resumed = resume(&playground, &into);
    let reused = resumed.assert_ok()["bytes_reused"].as_u64().unwrap();
    assert!(reused >= 8 * MIB + fetched, "{reused} with {fetched}");
    assert!(fs::read(into.join("data")).unwrap() == noise(96 << 20, 1));
}

#[test]
fn people_see_one_line_for_each_transfer_and_how_each_ended() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let halves = [1, 2].map(|number| half(&playground, &into, &format!("data{number}"), number, &[]));
    for half in &halves {
        half.proxy.release();
    }
    let ran = run(playground.command("resume").arg(&into).stderr(Stdio::piped()));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    for number in [1, 2] {
        for wanted in [
            format!("    24.0 MiB  data{number}  ("),
            format!("data{number}: Connecting\n"),
            format!("data{number}: Received 1 file, 24.0 MiB in "),
        ] {
            assert!(ran.stderr.contains(&wanted), "{wanted}: {}", ran.stderr);
        }
    }
    assert!(ran.stderr.ends_with("All 2 transfers are complete.\n"), "{}", ran.stderr);
    for half in halves {
        let key = half.sending.link.split('#').nth(1).unwrap().to_owned();
        assert!(!ran.stderr.contains(&key));
    }
}
