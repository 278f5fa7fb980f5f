//! `haul verify --repair`: what is missing or different is fetched and put in place as a whole, and nothing else changes.

#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use process::{Playground, Received, Sending, noise, run};
use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const CHUNK: u64 = 256 * 1024;
const BIG: usize = 40 * 256 * 1024 + 7;

/// A sender of a tree, its manifest, and a copy of it.
struct Copied {
    playground: Playground,
    sending: Sending,
    manifest: PathBuf,
    copy: PathBuf,
}

#[test]
fn what_is_wrong_is_fetched_and_what_is_whole_is_left_alone() {
    let copied = Copied::new();
    flip(&copied.at("big"), 5 * CHUNK);
    fs::remove_file(copied.at("sub/small")).unwrap();
    fs::write(copied.at("more"), b"cut").unwrap();
    fs::remove_dir(copied.at("empty")).unwrap();
    let before = fs::metadata(copied.at("good")).unwrap();
    let repaired = copied.repair();
    let done = repaired.assert_ok();
    assert_eq!(repaired.events.iter().filter(|event| event["event"] == "finding").count(), 4, "{repaired:?}");
    copied.assert_whole();
    let after = fs::metadata(copied.at("good")).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()), "what is whole is not touched");
    let fetched = done["bytes_fetched"].as_u64().unwrap();
    assert!(fetched <= BIG as u64 + 6000 + CHUNK, "{fetched} bytes for the files that were wrong");
    assert!(copied.at("empty").is_dir() && !copied.copy.join(".haul").exists());
    assert_eq!(copied.check().code, Some(0));
    copied.sending.kill();
}

#[test]
fn links_are_checked_and_mended() {
    let playground = Playground::new();
    let tree = playground.dir("tree");
    fs::write(tree.join("first"), noise(5000, 1)).unwrap();
    fs::hard_link(tree.join("first"), tree.join("second")).unwrap();
    fs::write(tree.join("third"), noise(5000, 1)).unwrap();
    symlink("first", tree.join("to")).unwrap();
    symlink("third", tree.join("other")).unwrap();
    let manifest = playground.path("m");
    let mut command = playground.command("manifest");
    assert_eq!(run(command.arg(&tree).arg("--symlinks").arg("-o").arg(&manifest)).code, Some(0));
    let mut lines = playground.command("manifest");
    let lines = run(lines.arg(&tree).args(["--b3sum", "-o", "-"]));
    let hashes: Vec<_> = lines.stdout.lines().map(|line| line.split_once("  ").unwrap()).collect();
    assert!(hashes.len() == 3 && hashes.iter().all(|(hash, _)| *hash == hashes[0].0), "{lines:?}");
    let copy = playground.dir("copy");
    let at = |name: &str| copy.join("tree").join(name);
    assert!(Command::new("cp").arg("-a").arg(&tree).arg(&copy).status().unwrap().success());
    let check = || run(playground.command("verify").arg("--json").arg(&manifest).arg(&copy));
    let findings = |ran: &process::Ran| -> Vec<_> {
        let events = ran.events();
        let found = events.iter().filter(|event| event["event"] == "finding");
        found
            .map(|event| (event["path"].as_str().unwrap().to_owned(), event["what"].as_str().unwrap().to_owned()))
            .collect()
    };
    let ran = check();
    assert_eq!((ran.code, findings(&ran)), (Some(0), vec![]), "{ran:?}");
    // Whether two names share a file is no matter of content.
    fs::remove_file(at("second")).unwrap();
    fs::copy(at("first"), at("second")).unwrap();
    fs::remove_file(at("third")).unwrap();
    fs::hard_link(at("first"), at("third")).unwrap();
    assert_eq!(check().code, Some(0));
    fs::write(at("second"), b"else").unwrap();
    fs::remove_file(at("to")).unwrap();
    symlink("third", at("to")).unwrap();
    fs::remove_file(at("other")).unwrap();
    symlink("/etc/passwd", at("other")).unwrap();
    let ran = check();
    let expected = [("tree/other", "target"), ("tree/to", "target"), ("tree/second", "different")];
    let mut found = findings(&ran);
    found.sort();
    let mut expected = expected.map(|(path, what)| (path.to_owned(), what.to_owned()));
    expected.sort();
    assert_eq!((ran.code, found), (Some(40), expected.to_vec()), "{ran:?}");
    let sending = playground.send(&[&tree], &["--keep", "--symlinks"]);
    let mut repair = playground.command("verify");
    repair.arg("--json").arg(&manifest).arg(&copy).args(["--repair", &sending.link]);
    Playground::start_receive(repair).wait().assert_ok();
    let ran = check();
    assert_eq!((ran.code, findings(&ran)), (Some(0), vec![]), "{ran:?}");
    assert_eq!(fs::read_link(at("other")).unwrap(), Path::new("third"));
    sending.kill();
}

#[test]
fn what_is_extra_or_of_another_kind_stays_and_is_told() {
    let copied = Copied::new();
    fs::write(copied.at("extra"), b"mine").unwrap();
    flip(&copied.at("big"), 0);
    let repaired = copied.repair();
    let done = repaired.assert_exit(40);
    assert_eq!(done["error"], "not everything is as the manifest says: 1 extra");
    copied.assert_whole();
    assert_eq!(fs::read(copied.at("extra")).unwrap(), b"mine");

    fs::remove_file(copied.at("extra")).unwrap();
    fs::remove_file(copied.at("good")).unwrap();
    symlink("/etc/passwd", copied.at("good")).unwrap();
    flip(&copied.at("big"), 1);
    let repaired = copied.repair();
    assert!(matches!(repaired.done()["exit"].as_u64(), Some(23 | 44)), "{repaired:?}");
    assert!(fs::read(copied.at("big")).unwrap() == noise(BIG, 1), "the others are mended");
    assert_eq!(fs::read_link(copied.at("good")).unwrap(), Path::new("/etc/passwd"));
    copied.sending.kill();
}

#[test]
fn where_nothing_is_wrong_nobody_is_asked() {
    let copied = Copied::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = copied.sending.link.replace(copied.sending.at(), &closed.to_string());
    let repaired = copied.repair_from(&nobody);
    assert_eq!(repaired.assert_ok()["wire_bytes"], 0);
    flip(&copied.at("big"), 0);
    copied.repair_from(&nobody).assert_exit(10);
    copied.sending.kill();
}

#[test]
fn a_sender_of_something_else_mends_nothing() {
    let copied = Copied::new();
    let other = copied.playground.path("other/tree");
    assert!(
        Command::new("cp")
            .arg("-a")
            .arg(copied.playground.path("tree"))
            .arg(copied.playground.dir("other"))
            .status()
            .unwrap()
            .success()
    );
    flip(&other.join("big"), 9 * CHUNK);
    flip(&copied.at("big"), 0);
    let damaged = fs::read(copied.at("big")).unwrap();
    let sending = copied.playground.send(&[&other], &["--keep"]);
    let repaired = copied.repair_from(&sending.link);
    let error = repaired.assert_exit(40)["error"].to_string();
    assert!(error.contains("`tree/big` is offered with other content: chunk 9 differs"), "{error}");
    assert!(fs::read(copied.at("big")).unwrap() == damaged);
    fs::write(other.join("one more"), b"x").unwrap();
    let more = copied.playground.send(&[&other], &["--keep"]);
    copied.repair_from(&more.link).assert_exit(40);
    copied.repair().assert_ok();
    copied.assert_whole();
    for sending in [sending, more, copied.sending] {
        sending.kill();
    }
}

impl Copied {
    fn new() -> Self {
        let playground = Playground::new();
        let tree = playground.dir("tree");
        fs::create_dir(tree.join("empty")).unwrap();
        fs::create_dir(tree.join("sub")).unwrap();
        fs::write(tree.join("big"), noise(BIG, 1)).unwrap();
        fs::write(tree.join("good"), noise(BIG, 2)).unwrap();
        fs::write(tree.join("more"), noise(5000, 3)).unwrap();
        fs::write(tree.join("sub/small"), noise(1000, 4)).unwrap();
        let manifest = playground.path("m");
        let mut command = playground.command("manifest");
        assert_eq!(run(command.arg(&tree).arg("-o").arg(&manifest)).code, Some(0));
        let copy = playground.dir("copy");
        assert!(Command::new("cp").arg("-a").arg(&tree).arg(&copy).status().unwrap().success());
        let sending = playground.send(&[&tree], &["--keep"]);
        Self { playground, sending, manifest, copy }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.copy.join("tree").join(path)
    }

    fn repair(&self) -> Received {
        self.repair_from(&self.sending.link)
    }

    fn repair_from(&self, link: &str) -> Received {
        let mut command = self.playground.command("verify");
        command.arg("--json").arg(&self.manifest).arg(&self.copy).args(["--repair", link]);
        Playground::start_receive(command).wait()
    }

    fn check(&self) -> process::Ran {
        let mut command = self.playground.command("verify");
        run(command.arg(&self.manifest).arg(&self.copy))
    }

    fn assert_whole(&self) {
        for path in ["big", "good", "more", "sub/small"] {
            let source = self.playground.path("tree").join(path);
            assert!(fs::read(self.at(path)).unwrap() == fs::read(source).unwrap(), "{path}");
        }
    }
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}
