//! Names that are taken: what each rule does, and that the old file is untouched unless its user said otherwise.

#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use process::{Playground, Received, Sending, noise};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const RULES: [&str; 4] = ["", "--overwrite", "--rename", "--skip-existing"];
const LENGTH: usize = 600_000;

/// A sender of one file `data`, and the bytes of it.
struct Offered {
    playground: Playground,
    sending: Sending,
    bytes: Vec<u8>,
}

#[test]
fn identical_content_is_never_fetched_again() {
    let offered = Offered::new();
    for rule in RULES {
        let into = offered.folder(rule);
        fs::write(into.join("data"), &offered.bytes).unwrap();
        let received = offered.receive(&into, rule);
        let done = received.assert_ok();
        assert_eq!(done["bytes_fetched"], 0, "{rule}");
        let file = file_event(&received);
        let expected = if rule == "--skip-existing" { "skipped" } else { "identical" };
        assert_eq!(file["how"], expected, "{rule}");
        assert_eq!(names(&into), ["data"], "{rule}");
    }
    offered.sending.kill();
}

#[test]
fn an_empty_file_that_is_there_is_identical_too() {
    let playground = Playground::new();
    let empty = playground.file("empty", 0, 1);
    let sending = playground.send(&[&empty], &["--keep"]);
    for rule in RULES {
        let into = playground.dir(&format!("into{rule}"));
        fs::write(into.join("empty"), b"").unwrap();
        let flags = if rule.is_empty() { vec![] } else { vec![rule] };
        let received = playground.receive(&sending.link, &into, &flags).wait();
        received.assert_ok();
        let expected = if rule == "--skip-existing" { "skipped" } else { "identical" };
        assert_eq!(file_event(&received)["how"], expected, "{rule}");
        assert_eq!(names(&into), ["empty"], "{rule}");
    }
    sending.kill();
}

#[test]
fn row_29_other_content_fails_or_goes_by_the_rule() {
    let offered = Offered::new();
    for (case, old) in [("same", noise(LENGTH, 99)), ("shorter", noise(1000, 99)), ("empty", Vec::new())] {
        for rule in RULES {
            let into = offered.folder(&format!("{case}{rule}"));
            fs::write(into.join("data"), &old).unwrap();
            let received = offered.receive(&into, rule);
            let data = fs::read(into.join("data")).unwrap();
            match rule {
                "--overwrite" => {
                    received.assert_ok();
                    assert!(data == offered.bytes);
                }
                "--rename" => {
                    received.assert_ok();
                    assert!(data == old);
                    let renamed = file_event(&received)["renamed_to"].as_str().unwrap().to_owned();
                    assert!(fs::read(into.join(renamed)).unwrap() == offered.bytes);
                }
                "--skip-existing" => {
                    assert_eq!(received.assert_ok()["bytes_fetched"], 0);
                    assert!(data == old);
                }
                _ => {
                    assert_eq!(received.assert_exit(44)["bytes_fetched"], 0, "{case}");
                    assert!(data == old);
                }
            }
            assert!(!into.join(".haul").exists(), "{case} {rule}");
        }
    }
    offered.sending.kill();
}

#[test]
fn rows_30_and_32_what_is_no_file_is_neither_followed_nor_replaced() {
    let offered = Offered::new();
    let outside = offered.playground.file("outside", LENGTH, 77);
    let before = fs::read(&outside).unwrap();
    for kind in ["folder", "full folder", "fifo", "link to a file", "link to nothing", "link to a folder"] {
        for rule in RULES {
            let into = offered.folder(&format!("{kind}{rule}"));
            let place = into.join("data");
            put(kind, &place, &outside);
            let received = offered.receive(&into, rule);
            match rule {
                "--rename" => {
                    received.assert_ok();
                    let renamed = file_event(&received)["renamed_to"].as_str().unwrap().to_owned();
                    assert!(fs::read(into.join(renamed)).unwrap() == offered.bytes);
                }
                "--skip-existing" => assert_eq!(received.assert_ok()["bytes_fetched"], 0),
                _ => assert_eq!(received.assert_exit(44)["bytes_fetched"], 0, "{kind} {rule}"),
            }
            assert_still(kind, &place, &outside);
            assert!(fs::read(&outside).unwrap() == before, "{kind} {rule}");
            assert!(!into.join(".haul").exists(), "{kind} {rule}: {:?}", names(&into));
        }
    }
    offered.sending.kill();
}

#[test]
fn row_31_a_parent_that_is_a_link_out_of_the_destination_is_not_followed() {
    let playground = Playground::new();
    let source = playground.dir("source");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    fs::write(source.join("deep/er/file"), noise(LENGTH, 1)).unwrap();
    fs::write(source.join("other"), b"other").unwrap();
    let sending = playground.send(&[&source], &["--keep"]);
    let elsewhere = playground.dir("elsewhere");
    fs::create_dir(elsewhere.join("er")).unwrap();
    for rule in RULES {
        let into = playground.dir(&format!("into{rule}"));
        fs::create_dir(into.join("source")).unwrap();
        symlink(&elsewhere, into.join("source/deep")).unwrap();
        let received = playground.receive(&sending.link, &into, &[rule][usize::from(rule.is_empty())..]).wait();
        let code = received.status.code();
        assert!(matches!(code, Some(23 | 44)), "{rule}: {received:#?}");
        assert_eq!(received.done()["exit"], code.unwrap());
        assert_eq!(fs::read(into.join("source/other")).unwrap(), b"other", "the others arrive");
        assert_eq!(names(&elsewhere), ["er"], "{rule}");
        assert_eq!(fs::read_dir(elsewhere.join("er")).unwrap().count(), 0, "{rule}: nothing is written outside");
    }
    sending.kill();
}

#[test]
fn row_23_hidden_names_go_into_the_home_folder_only_when_allowed() {
    let playground = Playground::new();
    let bashrc = playground.file("source/.bashrc", 10, 1);
    let ssh = playground.dir("source/.ssh");
    fs::write(ssh.join("authorized_keys"), b"key").unwrap();
    let home = playground.dir("home");
    symlink(&home, playground.path("also home")).unwrap();
    let sending = playground.send(&[&bashrc, &ssh], &["--keep"]);
    for place in [home.clone(), playground.path("also home"), home.join("../home")] {
        let received = Playground::start_receive(with_home(&playground, &sending.link, &place, &home)).wait();
        let done = received.assert_exit(11);
        assert!(done["error"].as_str().unwrap().contains("hidden name"), "{done}");
        assert_eq!(names(&home), Vec::<String>::new());
    }
    let received =
        Playground::start_receive(with_home(&playground, &sending.link, &playground.dir("home/sub"), &home)).wait();
    received.assert_ok();
    let mut command = with_home(&playground, &sending.link, &home, &home);
    command.arg("--allow-hidden");
    Playground::start_receive(command).wait().assert_ok();
    assert_eq!(names(&home), [".bashrc", ".ssh", "sub"]);
    sending.kill();

    let folder = playground.dir("repository");
    fs::create_dir(folder.join(".git")).unwrap();
    let sending = playground.send(&[&folder], &["--keep"]);
    Playground::start_receive(with_home(&playground, &sending.link, &home, &home)).wait().assert_ok();
    assert!(home.join("repository/.git").is_dir(), "a hidden name inside a sent folder is a usual thing");
    sending.kill();
}

#[test]
fn read_back_publishes_what_the_disk_holds() {
    let playground = Playground::new();
    let source = playground.dir("source");
    fs::write(source.join("big"), noise(5 << 20, 1)).unwrap();
    fs::write(source.join("small"), noise(1000, 2)).unwrap();
    fs::write(source.join("empty"), b"").unwrap();
    let sending = playground.send(&[&source], &[]);
    let into = playground.dir("into");
    playground.receive(&sending.link, &into, &["--read-back"]).wait().assert_ok();
    assert_eq!(sending.wait().0, Some(0));
    for name in ["big", "small", "empty"] {
        assert!(fs::read(into.join("source").join(name)).unwrap() == fs::read(source.join(name)).unwrap());
    }
    assert_eq!(names(&into), ["source"]);
}

impl Offered {
    fn new() -> Self {
        let playground = Playground::new();
        let file = playground.file("data", LENGTH, 1);
        let sending = playground.send(&[&file], &["--keep"]);
        Self { bytes: fs::read(file).unwrap(), playground, sending }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.playground.dir(&format!("into {name}"))
    }

    fn receive(&self, into: &Path, rule: &str) -> Received {
        self.playground.receive(&self.sending.link, into, &[rule][usize::from(rule.is_empty())..]).wait()
    }
}

fn put(kind: &str, place: &Path, outside: &Path) {
    match kind {
        "folder" => fs::create_dir(place).unwrap(),
        "full folder" => {
            fs::create_dir(place).unwrap();
            fs::write(place.join("kept"), b"kept").unwrap();
        }
        "fifo" => assert!(Command::new("mkfifo").arg(place).status().unwrap().success()),
        "link to a file" => symlink(outside, place).unwrap(),
        "link to nothing" => symlink("nowhere", place).unwrap(),
        _ => symlink(outside.parent().unwrap(), place).unwrap(),
    }
}

fn assert_still(kind: &str, place: &Path, outside: &Path) {
    let found = fs::symlink_metadata(place).unwrap().file_type();
    match kind {
        "folder" => assert!(found.is_dir()),
        "full folder" => assert_eq!(fs::read(place.join("kept")).unwrap(), b"kept"),
        "fifo" => assert!(found.is_fifo()),
        "link to a file" => assert_eq!(fs::read_link(place).unwrap(), outside),
        "link to nothing" => assert_eq!(fs::read_link(place).unwrap(), Path::new("nowhere")),
        _ => assert!(found.is_symlink()),
    }
}

fn with_home(playground: &Playground, link: &str, into: &Path, home: &Path) -> Command {
    let mut command = playground.command("receive");
    command.arg(link).arg("--into").arg(into).args(["--yes", "--json"]).env("HOME", home);
    command
}

fn file_event(received: &Received) -> &Value {
    received.events.iter().find(|event| event["event"] == "file").unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
