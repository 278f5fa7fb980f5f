//! Files that are pushed to a receiver that listens, by real processes.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/listening.rs"]
mod listening;
#[path = "support/process.rs"]
mod process;

use listening::{endings, of_session};
use process::{Playground, noise, run, signal};
use rustix::process::Signal;
use std::fs;
use std::path::Path;

fn assert_same_tree(one: &Path, other: &Path) {
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(one), names(other));
    for name in names(one) {
        let (one, other) = (one.join(&name), other.join(&name));
        if one.is_dir() {
            assert_same_tree(&one, &other);
        } else {
            assert!(fs::read(&one).unwrap() == fs::read(&other).unwrap(), "{}", other.display());
        }
    }
}

#[test]
fn a_tree_an_empty_file_and_a_large_one_arrive_and_end_both_runs() {
    let playground = Playground::new();
    let source = playground.dir("source");
    playground.file("source/large", 64 << 20, 1);
    playground.file("source/empty", 0, 0);
    for number in 0..200 {
        playground.file(&format!("source/many/{}/{number}", number % 7), 1000 + number, number as u64);
    }
    playground.dir("source/nothing in it");
    let into = playground.dir("into");
    let listening = playground.listen(&into, &[]);
    let pushed = playground.push(&[&source], &listening.link, &[]).wait();
    let received = listening.wait();
    let (sent, got) = (pushed.assert_ok(), received.assert_ok());
    assert_same_tree(&source, &into.join("source"));
    assert!(!into.join(".haul").exists(), "nothing is left behind");
    assert_eq!((&sent["root"], &sent["files"]), (&got["root"], &got["files"]), "both say the same");
    assert_eq!(got["files"], 202);
    let events: Vec<_> = of_session(&received, 1).iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(events.starts_with(&["peer"]) && events.ends_with(&["ended"]), "{events:?}");
    assert!(events.contains(&"listing") && events.contains(&"file"), "{events:?}");
}

#[test]
fn a_sender_counts_what_all_of_its_lanes_sent_by_the_time_that_the_receiver_has_it() {
    let playground = Playground::new();
    let file = playground.file("data", 8 << 20, 3);
    let listening = playground.listen(&playground.dir("into"), &[]);
    let pushed = playground.push(&[&file], &listening.link, &[]).wait();
    let wire = pushed.assert_ok()["wire_bytes"].as_u64().unwrap();
    assert!(wire > 8 << 20, "{wire} bytes for noise of 8 MiB");
    listening.wait().assert_ok();
}

#[test]
fn an_empty_file_alone_arrives() {
    let playground = Playground::new();
    let file = playground.file("nothing", 0, 0);
    let into = playground.dir("into");
    let listening = playground.listen(&into, &[]);
    playground.push(&[&file], &listening.link, &[]).wait().assert_ok();
    listening.wait().assert_ok();
    assert_eq!(fs::read(into.join("nothing")).unwrap(), b"");
}

#[test]
fn a_standing_receiver_takes_one_push_after_the_other_until_it_is_stopped() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let listening = playground.listen(&into, &["--keep"]);
    for number in 0..3 {
        let file = playground.file(&format!("file {number}"), 300_000, number);
        playground.push(&[&file], &listening.link, &[]).wait().assert_ok();
        // What is said to be there is there.
        assert_eq!(fs::read(into.join(format!("file {number}"))).unwrap(), noise(300_000, number));
    }
    signal(listening.run.id(), Signal::INT);
    let received = listening.wait();
    let done = received.assert_ok();
    assert_eq!((&done["files"], &done["bytes"]), (&3.into(), &900_000.into()));
    assert_eq!(endings(&received).len(), 3);
}

#[test]
fn senders_that_push_at_once_each_have_their_session() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let listening = playground.listen(&into, &["--keep"]);
    let files: Vec<_> = (0..6).map(|number| playground.file(&format!("file {number}"), 9 << 20, number)).collect();
    let pushes: Vec<_> = files.iter().map(|file| playground.push(&[file], &listening.link, &[])).collect();
    for push in pushes {
        push.wait().assert_ok();
    }
    signal(listening.run.id(), Signal::INT);
    let received = listening.wait();
    received.assert_ok();
    for file in &files {
        assert!(fs::read(file).unwrap() == fs::read(into.join(file.file_name().unwrap())).unwrap());
    }
    let mut sessions: Vec<_> = endings(&received).iter().map(|event| event["session"].as_u64().unwrap()).collect();
    sessions.sort_unstable();
    assert_eq!(sessions, [1, 2, 3, 4, 5, 6]);
    assert!(endings(&received).iter().all(|event| event["ok"] == true));
    assert!(!into.join(".haul").exists());
}

#[test]
fn a_name_that_is_taken_is_left_alone_unless_the_receiver_says_otherwise() {
    let playground = Playground::new();
    let file = playground.file("report", 400_000, 7);
    for (rule, code, name, old) in [
        (&[][..], 44, None, &b"old"[..]),
        (&["--rename"], 0, Some("report (1)"), b"old"),
        (&["--overwrite"], 0, Some("report"), &[]),
        (&["--skip-existing"], 0, None, b"old"),
    ] {
        let into = playground.dir(&format!("into {rule:?}"));
        fs::write(into.join("report"), b"old").unwrap();
        let listening = playground.listen(&into, rule);
        let pushed = playground.push(&[&file], &listening.link, &[]).wait();
        let received = listening.wait();
        assert_eq!(received.status.code(), Some(code), "{rule:?}: {received:?}");
        assert_eq!(pushed.status.code(), Some(if code == 0 { 0 } else { 23 }), "{rule:?}: {pushed:?}");
        if let Some(name) = name {
            assert!(fs::read(into.join(name)).unwrap() == noise(400_000, 7), "{rule:?}");
        }
        if !old.is_empty() {
            assert_eq!(fs::read(into.join("report")).unwrap(), old, "{rule:?}");
        }
    }
}

#[test]
fn what_is_there_already_is_not_sent() {
    let playground = Playground::new();
    let file = playground.file("data", 5 << 20, 3);
    let into = playground.dir("into");
    fs::copy(&file, into.join("data")).unwrap();
    let listening = playground.listen(&into, &[]);
    playground.push(&[&file], &listening.link, &[]).wait().assert_ok();
    let received = listening.wait();
    assert_eq!(received.assert_ok()["bytes_fetched"], 0);
}

#[test]
fn two_senders_of_one_name_with_different_content_are_never_mixed() {
    let playground = Playground::new();
    let (one, other) = (playground.file("one/data", 9 << 20, 1), playground.file("other/data", 9 << 20, 2));
    let into = playground.dir("into");
    let listening = playground.listen(&into, &["--keep", "--rename"]);
    let pushes = [&one, &other].map(|file| playground.push(&[file], &listening.link, &[]));
    let codes: Vec<_> = pushes.into_iter().map(|push| push.wait().status.code()).collect();
    // Both lie under one name while they come: one of them may have to be pushed again, and is then beside the other.
    for (file, code) in [&one, &other].into_iter().zip(&codes) {
        assert!(matches!(code, Some(0 | 23)), "{codes:?}");
        if *code == Some(23) {
            playground.push(&[file], &listening.link, &[]).wait().assert_ok();
        }
    }
    signal(listening.run.id(), Signal::INT);
    listening.wait();
    let found = ["data", "data (1)"].map(|name| fs::read(into.join(name)).unwrap());
    let (one, other) = (fs::read(one).unwrap(), fs::read(other).unwrap());
    assert!(
        found == [one.clone(), other.clone()] || found == [other, one],
        "each file is whole, under a name of its own"
    );
}

#[test]
fn two_roles_that_do_not_fit_say_what_to_run() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let into = playground.dir("into");
    let listening = playground.listen(&into, &[]);
    let fetched = playground.receive(&listening.link, &playground.dir("elsewhere"), &[]).wait();
    let error = fetched.assert_exit(41)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("it receives itself: push to it with `haul send PATH... --to LINK`"), "{error}");
    // It still listens.
    playground.push(&[&file], &listening.link, &[]).wait().assert_ok();
    listening.wait().assert_ok();
    let sending = playground.send(&[&file], &[]);
    let pushed = playground.push(&[&file], &sending.link, &[]).wait();
    let error = pushed.assert_exit(41)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("it offers files itself: fetch them with `haul receive LINK`"), "{error}");
    let into = playground.dir("third");
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    assert_eq!(sending.wait().0, Some(0), "whoever pushed was no receiver of it");
}

#[test]
fn who_does_not_listen_is_an_error_at_once_and_waited_for_where_the_user_says_so() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let into = playground.dir("into");
    let first = playground.listen(&into, &[]);
    let link = first.link.clone();
    first.run.kill();
    let refused = playground.push(&[&file], &link, &[]).wait();
    refused.assert_exit(10);
    let mut waiting = playground.push(&[&file], &link, &["--retry-for=60s"]);
    assert!(waiting.wait_until(|event| event["phase"] == "reconnecting"));
    let second = playground.listen(&into, &[]);
    assert_eq!(second.link, link, "one folder, one user: the same port, room and key");
    waiting.wait().assert_ok();
    second.wait().assert_ok();
}

#[test]
fn a_wrong_link_is_turned_down() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let (one, other) = (playground.dir("one"), playground.dir("other"));
    let (first, second) = (playground.listen(&one, &["--keep"]), playground.listen(&other, &["--keep"]));
    let address = |link: &str| link.split('/').nth(2).unwrap().to_owned();
    let wrong = first.link.replace(&address(&first.link), &address(&second.link));
    playground.push(&[&file], &wrong, &[]).wait().assert_exit(42);
    first.run.kill();
    second.run.kill();
}

#[test]
fn a_folder_whose_transfer_was_pushed_says_how_it_goes_on() {
    let playground = Playground::new();
    let file = playground.file("data", 64 << 20, 5);
    let into = playground.dir("into");
    let mut listening = playground.listen(&into, &[]);
    let push = playground.push(&[&file], &listening.link, &[]);
    listening.wait_for_bytes(1);
    listening.run.kill();
    push.kill();
    let resumed = run(playground.command("resume").arg(&into));
    assert_eq!(resumed.code, Some(1), "{resumed:?}");
    assert!(resumed.stderr.contains("pushed by a sender that has to connect again"), "{}", resumed.stderr);
    let next = format!("next:  run `haul receive --into={}`", into.display());
    assert!(resumed.stderr.contains(&next), "{}", resumed.stderr);
    let listening = playground.listen(&into, &[]);
    playground.push(&[&file], &listening.link, &[]).wait().assert_ok();
    listening.wait().assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
}
