//! Filters and dry runs of real processes: what is sent, what is said, and what stays as it is.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use process::{Playground, Ran, noise, run, signal};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const MIB: usize = 1 << 20;

#[test]
fn each_filter_leaves_out_what_it_names_and_the_rest_arrives() {
    let playground = Playground::new();
    let project = project(&playground);
    let patterns = playground.path("patterns");
    fs::write(&patterns, "# built\n/target\n").unwrap();
    let patterns = patterns.to_str().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--exclude", "*.log", "--include", "keep.log"], &["a.log"]),
        (&["--include", "keep.log", "--exclude", "*.log"], &["a.log", "keep.log"]),
        (&["--exclude-from", patterns], &["target", "target/x"]),
        (&["--no-hidden"], &[".git", ".git/config"]),
        (&["--max-size", "1K"], &["src/large"]),
        (
            &["--exclude", "src", "--exclude=target/"],
            &["src", "src/deep", "src/deep/empty", "src/large", "src/target", "target", "target/x"],
        ),
    ];
    for (number, (flags, missing)) in cases.iter().enumerate() {
        let into = playground.dir(&format!("into{number}"));
        let sending = playground.send(&[&project], flags);
        playground.receive(&sending.link, &into, &[]).wait().assert_ok();
        let (code, events, _) = sending.wait_for_all();
        assert_eq!(code, Some(0), "what is left out is no failure");
        assert!(events.iter().any(|event| event["event"] == "left_out"), "{flags:?}: {events:?}");
        let mut expected: Vec<PathBuf> = all(&project);
        expected.retain(|path| !missing.iter().any(|missing| Path::new(missing) == path));
        assert_eq!(all(&into.join("project")), expected, "{flags:?}");
    }
}

#[test]
fn what_is_left_out_is_said_and_named_where_that_is_wanted() {
    let playground = Playground::new();
    let project = project(&playground);
    let preview = |flags: &[&str]| {
        let ran = run(playground
            .command("send")
            .arg(&project)
            .args(["-n", "--exclude=*.log", "--exclude=/target"])
            .args(flags));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
        ran.stderr
    };
    let short = preview(&[]);
    assert!(short.contains("2 files and 1 folder left out by filters\n") && !short.contains("a.log"), "{short}");
    let long = preview(&["-v"]);
    assert!(long.contains("left out: ") && long.contains("a.log\n") && long.contains("target/\n"), "{long}");
    assert_eq!(preview(&["-q"]), "");
}

#[test]
fn a_pattern_that_is_none_is_wrong_usage_and_nothing_left_is_a_failure_of_its_own() {
    let playground = Playground::new();
    let project = project(&playground);
    for verb in [&[][..], &["-n"], &["--to", "127.0.0.1:1"], &["--to", "x"]] {
        let ran =
            run(playground.command("send").arg(&project).args(verb).args(["--exclude", "fine", "--exclude", "[a"]));
        if verb.first() == Some(&"--to") {
            // Whom to push to is looked at first.
            assert_eq!(ran.code, Some(2), "{ran:?}");
            continue;
        }
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains("`[a` is no pattern: "), "{ran:?}");
    }
    for flags in [["-n", "--max-size=0", "--exclude=*"], ["--bind=127.0.0.1:0", "--max-size=0", "--exclude=*"]] {
        let ran = run(playground.command("send").arg(&project).args(flags));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(11), ""), "{ran:?}");
        assert!(ran.stderr.contains("the filters leave no file: 2 files and 3 folders left out"), "{ran:?}");
        assert!(ran.stderr.contains("next:  loosen the filters"), "{ran:?}");
    }
}

#[test]
fn other_filters_are_another_offer_and_the_same_ones_have_the_same_link() {
    let playground = Playground::new();
    let project = project(&playground);
    let link = |flags: &[&str]| {
        let sending = playground.send(&[&project], flags);
        let room = sending.link.split('/').nth(3).unwrap().to_owned();
        sending.kill();
        room
    };
    let first = link(&["--exclude=*.log"]);
    assert_eq!(link(&["--exclude=*.log"]), first);
    let all = link(&[]);
    assert_ne!(all, first);
    assert_ne!(link(&["--exclude=*.log", "--no-hidden"]), first);
    assert_eq!(link(&[]), all);
}

#[test]
fn a_push_is_filtered_as_well() {
    let playground = Playground::new();
    let project = project(&playground);
    let into = playground.dir("into");
    let mut listen = playground.command("receive");
    listen.arg("--into").arg(&into).args(["--yes", "--json", "--bind", "127.0.0.1:0"]);
    let mut listening = Playground::start_receive(listen);
    let mut link = String::new();
    listening.wait_until(|event| {
        link = event["link"].as_str().unwrap_or_default().to_owned();
        event["event"] == "listening"
    });
    let pushed = run(playground.command("send").arg(&project).args([
        "--to",
        &link,
        "--exclude=*",
        "--include=*/",
        "--include=keep.log",
    ]));
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    listening.wait().assert_ok();
    let files: Vec<_> = all(&into).into_iter().filter(|path| into.join(path).is_file()).collect();
    assert_eq!(files, [PathBuf::from("project/keep.log")]);
}

#[test]
fn a_dry_run_of_a_sender_lists_everything_and_offers_nothing() {
    let playground = Playground::new();
    let project = project(&playground);
    let ran = run(playground.command("send").arg(&project).args(["-n", "--json", "--no-hidden", "--keep"]));
    let events = ran.events();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let offer = &events[0];
    assert_eq!((&offer["event"], &offer["link"], &offer["files"]), (&"offer".into(), &Value::Null, &6.into()));
    let entries: Vec<_> = events.iter().filter(|event| event["event"] == "entry").collect();
    let paths: Vec<_> = entries.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths.len(), 10, "{paths:?}");
    assert!(entries.iter().all(|entry| entry["fate"] == "offer"));
    assert!(entries.iter().any(|entry| entry["path"] == "project/src/large" && entry["bytes"] == 5000));
    assert_eq!(events.iter().filter(|event| event["event"] == "done").count(), 1);
    assert_eq!((&events.last().unwrap()["event"], &events.last().unwrap()["ok"]), (&"done".into(), &true.into()));
    assert!(!playground.path("state").exists(), "it keeps no link");
    let told = run(playground.command("send").arg(&project).arg("--dry-run"));
    assert!(told.stderr.contains("    4.88 KiB  project/src/large\n"), "{told:?}");
    assert!(told.stderr.contains("Would offer 7 files, 5 folders, "), "{told:?}");
    assert!(!told.stderr.contains("Sent "), "{told:?}");
}

#[test]
fn a_dry_run_of_a_receiver_says_what_a_real_one_does_and_changes_nothing() {
    let playground = Playground::new();
    let tree = playground.dir("tree");
    fs::create_dir_all(tree.join("new/deep")).unwrap();
    fs::create_dir_all(tree.join("there")).unwrap();
    for (name, length, seed) in [
        ("new/deep/file", MIB, 1),
        ("new/empty", 0, 2),
        ("there/same", 3 * MIB, 3),
        ("there/empty", 0, 4),
        ("there/differs", 1000, 5),
        ("there/longer", 2000, 6),
        ("there/folder", 10, 7),
    ] {
        fs::write(tree.join(name), noise(length, seed)).unwrap();
    }
    let into = playground.dir("into");
    fs::create_dir_all(into.join("tree/there/folder")).unwrap();
    fs::write(into.join("tree/there/same"), noise(3 * MIB, 3)).unwrap();
    fs::write(into.join("tree/there/empty"), b"").unwrap();
    fs::write(into.join("tree/there/differs"), noise(1000, 50)).unwrap();
    fs::write(into.join("tree/there/longer"), noise(100, 60)).unwrap();
    fs::write(into.join("other"), b"not of this").unwrap();
    let mut sending = playground.send(&[&tree], &[]);
    let fixed = [
        ("tree", "here"),
        ("tree/new", "make"),
        ("tree/new/deep", "make"),
        ("tree/new/deep/file", "fetch"),
        ("tree/new/empty", "fetch"),
        ("tree/there", "here"),
    ];
    let rules: &[(&[&str], i32, [&str; 5])] = &[
        (&[], 44, ["conflict", "reuse", "conflict", "conflict", "reuse"]),
        (&["--overwrite"], 44, ["replace", "reuse", "conflict", "replace", "reuse"]),
        (&["--rename"], 0, ["rename", "reuse", "rename", "rename", "reuse"]),
        (&["--skip-existing"], 0, ["skip", "skip", "skip", "skip", "skip"]),
    ];
    let before = snapshot(&into);
    for (flags, code, fates) in rules {
        let ran = look(&playground, &sending.link, &into, flags);
        assert_eq!(ran.code, Some(*code), "{flags:?}: {ran:?}");
        let names = ["differs", "empty", "folder", "longer", "same"].map(|name| format!("tree/there/{name}"));
        let mut expected: BTreeMap<String, String> =
            names.into_iter().zip(fates).map(|(name, fate)| (name, (*fate).to_owned())).collect();
        expected.extend(fixed.iter().map(|(name, fate)| ((*name).to_owned(), (*fate).to_owned())));
        assert_eq!(fates_of(&ran), expected, "{flags:?}");
        assert_eq!(snapshot(&into), before, "{flags:?}");
        let declined = sending.wait_until(|event| event["event"] == "peer" && event["state"] == "lost");
        assert_eq!(declined["event"], "peer");
    }
    // The sender without --keep is still there, and a real run does what was said.
    let real = playground.receive(&sending.link, &into, &["--rename"]).wait();
    real.assert_ok();
    let fetched = real.events.iter().filter(|event| event["event"] == "file" && event["how"] != "identical").count();
    assert_eq!(fetched, 5, "{:#?}", real.events);
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn a_dry_run_counts_what_an_interrupted_run_left_and_leaves_it_alone() {
    let playground = Playground::new();
    let source = playground.file("data", 8 * MIB, 1);
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &["--limit", "4M"]);
    let mut receiving = playground.receive(&sending.link, &into, &[]);
    let reached =
        receiving.wait_until(|event| event["event"] == "progress" && event["bytes_done"].as_u64() > Some(MIB as u64));
    assert!(reached);
    receiving.kill();
    let before = snapshot(&into);
    assert!(before.keys().any(|path| path.ends_with("lock")), "{before:?}");
    let ran = look(&playground, &sending.link, &into, &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(snapshot(&into), before);
    let forecast = ran.events().into_iter().find(|event| event["event"] == "forecast").unwrap();
    let reused = forecast["bytes_reused"].as_u64().unwrap();
    assert!(reused >= MIB as u64 && reused < 8 * MIB as u64, "{forecast}");
    assert_eq!(forecast["bytes_to_fetch"].as_u64(), Some(8 * MIB as u64 - reused));
    let real = playground.receive(&sending.link, &into, &[]).wait();
    assert_eq!(real.assert_ok()["bytes_reused"].as_u64(), Some(reused), "it said the truth");
}

#[test]
fn a_dry_run_for_people_asks_nothing_and_uses_a_code_up() {
    let playground = Playground::new();
    let project = project(&playground);
    let into = playground.dir("into");
    let mut sending = playground.send(&[&project], &[]);
    let code = sending.code().to_owned();
    let mut command = playground.command("receive");
    let ran = run(command.arg(&code).args(["--at", sending.at(), "-n", "--into"]).arg(&into));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stderr.contains("    4.88 KiB  project/src/large  (fetched)\n"), "{ran:?}");
    assert!(ran.stderr.contains("      folder  project/src/  (made)\n"), "{ran:?}");
    assert!(ran.stderr.contains("7 files, 5 folders, ") && ran.stderr.contains(" to fetch, 0 B reused"), "{ran:?}");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0);
    let (next, why) = sending.next_code();
    assert!(next.is_some_and(|next| next != code) && why == "used");
    signal(sending.id(), Signal::INT);
    assert_eq!(sending.wait().0, Some(130));
    let listening = run(playground.command("receive").args(["-n", "--yes", "--into"]).arg(&into));
    assert_eq!(listening.code, Some(2), "{listening:?}");
    assert!(listening.stderr.contains("there is no link"), "{listening:?}");
}

fn look(playground: &Playground, link: &str, into: &Path, flags: &[&str]) -> Ran {
    run(playground.command("receive").arg(link).arg("--into").arg(into).args(["--dry-run", "--json"]).args(flags))
}

fn fates_of(ran: &Ran) -> BTreeMap<String, String> {
    let entries = ran.events().into_iter().filter(|event| event["event"] == "entry");
    let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
    entries.map(|event| (text(&event, "path"), text(&event, "fate"))).collect()
}

/// A folder of 7 files and 4 folders below it.
fn project(playground: &Playground) -> PathBuf {
    let project = playground.dir("project");
    for folder in [".git", "src", "src/deep", "target"] {
        fs::create_dir(project.join(folder)).unwrap();
    }
    for (file, length) in
        [("a.log", 10), ("keep.log", 20), (".git/config", 30), ("src/large", 5000), ("src/target", 5), ("target/x", 7)]
    {
        fs::write(project.join(file), noise(length, 1)).unwrap();
    }
    fs::write(project.join("src/deep/empty"), b"").unwrap();
    project
}

/// Every path below `folder`, in order.
fn all(folder: &Path) -> Vec<PathBuf> {
    snapshot(folder).into_keys().filter(|path| !path.as_os_str().is_empty()).collect()
}

/// Everything below `folder` that a change of any kind would show in.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u64, u32, u64, (i64, i64), (i64, i64), Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut due = vec![folder.to_owned()];
    while let Some(path) = due.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let bytes = if facts.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if facts.is_dir() {
            due.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let times = ((facts.mtime(), facts.mtime_nsec()), (facts.ctime(), facts.ctime_nsec()));
        let key = path.strip_prefix(folder).unwrap().to_owned();
        found.insert(key, (facts.ino(), facts.mode(), facts.size(), times.0, times.1, bytes));
    }
    found
}
