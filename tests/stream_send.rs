//! Standard input as an offer: read to its end, kept until somebody has it, offered again after an interruption.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/mount.rs"]
mod mount;
#[path = "support/process.rs"]
mod process;

use mount::{Mount, may_mount};
use process::{Playground, Sending, noise, run, signal};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const MIB: usize = 1 << 20;

#[test]
fn what_is_piped_in_arrives_under_its_name_and_nothing_is_kept() {
    let playground = Playground::new();
    for (name, length) in [("stdin", 3 * MIB + 7), ("stdin", 0), ("a b.tar", 10)] {
        let bytes = noise(length, 1);
        let into = playground.dir(&format!("into{length}"));
        let flags: &[&str] = if name == "stdin" { &[] } else { &["--name", name] };
        let sending = offer(&playground, &bytes, flags);
        playground.receive(&sending.link, &into, &[]).wait().assert_ok();
        assert_eq!(sending.wait().0, Some(0));
        assert!(fs::read(into.join(name)).unwrap() == bytes);
        assert_eq!(files_below(&playground.path("state/haul/spool")), Vec::<PathBuf>::new(), "{name}");
    }
}

#[test]
fn a_pipe_of_other_programs_is_an_offer_and_its_progress_comes_before_it() {
    let playground = Playground::new();
    let tree = playground.dir("tree");
    fs::write(tree.join("a"), noise(MIB, 3)).unwrap();
    let mut command = playground.command("send");
    command.args(["-", "--name", "x.tar", "--bind", "127.0.0.1:0", "--json"]);
    let mut tar = Command::new("tar").args(["c", "."]).current_dir(&tree).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = command.stdin(tar.stdout.take().unwrap()).stderr(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&events.next().unwrap().unwrap()).unwrap();
    let first = next();
    assert_eq!((&first["event"], &first["phase"]), (&"phase".into(), &"reading standard input".into()));
    let offer = std::iter::repeat_with(next).find(|event| event["event"] == "offer").unwrap();
    assert!(tar.wait().unwrap().success());
    let into = playground.dir("into");
    playground.receive(offer["link"].as_str().unwrap(), &into, &[]).wait().assert_ok();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let listed = Command::new("tar").arg("tf").arg(into.join("x.tar")).output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().contains("./a"));
}

#[test]
fn a_sender_that_was_killed_offers_the_same_input_again_under_the_same_link() {
    let playground = Playground::new();
    let bytes = noise(8 * MIB, 5);
    let into = playground.dir("into");
    let sending = offer(&playground, &bytes, &["--name=x.tar", "--limit=4M"]);
    let link = sending.link.clone();
    let mut receiving = playground.receive(&link, &into, &["--retry-for=5m"]);
    let is_under_way = |event: &Value| event["bytes_done"].as_u64() > Some(MIB as u64);
    assert!(receiving.wait_until(is_under_way));
    sending.kill();
    let kept = files_below(&playground.path("state/haul/spool"));
    assert!(kept.iter().any(|path| path.ends_with("file/x.tar")), "{kept:?}");
    for path in &kept {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
    }
    let again = playground.send(&[Path::new("-")], &["--name=x.tar", "--again"]);
    assert_eq!(again.link, link);
    let received = receiving.wait();
    received.assert_ok();
    assert_eq!(again.wait().0, Some(0));
    assert!(fs::read(into.join("x.tar")).unwrap() == bytes);
    assert_eq!(files_below(&playground.path("state/haul/spool")), Vec::<PathBuf>::new());
}

#[test]
fn an_interrupted_offer_says_how_it_is_offered_again_and_an_interrupted_reading_keeps_nothing() {
    let playground = Playground::new();
    let sending = offer(&playground, &noise(1000, 1), &["--name=it's"]);
    signal(sending.id(), Signal::INT);
    let (code, _, stderr) = sending.wait_for_all();
    assert_eq!(code, Some(130));
    assert!(stderr.contains(r"run `haul send - --name='it'\''s' --again`, with its other flags"), "{stderr}");

    let mut reading = start(&playground, &["--name=half"]);
    reading.0.stdin.as_mut().unwrap().write_all(&noise(MIB, 2)).unwrap();
    let mut events = BufReader::new(reading.0.stdout.take().unwrap()).lines();
    let has_read = |line: Result<String, _>| line.unwrap().contains("\"bytes_done\":1048576");
    assert!(events.by_ref().any(has_read), "it says how much it has read");
    signal(reading.0.id(), Signal::INT);
    let (code, stderr) = reading.end();
    assert_eq!(code, Some(130));
    assert!(!stderr.contains("--again"), "{stderr}");
    let kept = files_below(&playground.path("state/haul/spool"));
    assert!(!kept.iter().any(|path| path.ends_with("new") || path.ends_with("file/half")), "{kept:?}");

    let missing = run(playground.command("send").args(["-", "--name=half", "--again"]));
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("no input with the name `half` is kept"), "{missing:?}");
}

#[test]
fn a_reader_that_was_killed_leaves_nothing_that_is_offered() {
    let playground = Playground::new();
    let mut reading = start(&playground, &[]);
    reading.0.stdin.as_mut().unwrap().write_all(&noise(MIB, 2)).unwrap();
    let mut events = BufReader::new(reading.0.stdout.take().unwrap()).lines();
    assert!(events.by_ref().any(|line| line.unwrap().contains("\"bytes_done\":1048576")));
    reading.0.kill().unwrap();
    reading.0.wait().unwrap();
    assert_eq!(run(playground.command("send").args(["-", "--again"])).code, Some(2));
    let into = playground.dir("into");
    let sending = offer(&playground, b"whole", &[]);
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    assert_eq!(sending.wait().0, Some(0));
    assert_eq!(fs::read(into.join("stdin")).unwrap(), b"whole");
    assert_eq!(files_below(&playground.path("state/haul/spool")), Vec::<PathBuf>::new(), "what was left is gone too");
}

#[test]
fn one_name_is_offered_once_at_a_time() {
    let playground = Playground::new();
    let first = offer(&playground, b"first", &[]);
    let second = run(playground.command("send").args(["-", "--bind=127.0.0.1:0"]));
    assert_eq!(second.code, Some(11), "{second:?}");
    assert!(second.stderr.contains("another `haul send -` with the name `stdin` runs"), "{second:?}");
    assert!(second.stderr.contains("next:  choose another --name"), "{second:?}");
    let other = offer(&playground, b"other", &["--name=other"]);
    assert_ne!(other.link, first.link);
}

#[test]
fn a_disk_that_fills_while_input_is_read_is_an_error_and_leaves_nothing() {
    if !may_mount() {
        return;
    }
    let playground = Playground::new();
    let disk = playground.dir("disk");
    let _mount = Mount::tmpfs(&disk, "size=48m");
    let mut child = start(&playground, &["--spool", disk.to_str().unwrap()]);
    let mut input = child.0.stdin.take().unwrap();
    let block = vec![7; 1 << 16];
    // Endless input: what cannot be kept is not read further.
    let wrote = std::iter::repeat_with(|| input.write_all(&block)).take(10_000).find(Result::is_err);
    assert!(wrote.is_some(), "it is told that nobody reads any more");
    let (code, stderr) = child.end();
    assert_eq!(code, Some(43));
    assert!(stderr.contains("has too little room for it"), "{stderr}");
    assert!(stderr.contains("next:  free some room or choose another folder with --spool"), "{stderr}");
    assert!(!files_below(&disk).iter().any(|path| path.ends_with("new")), "{:?}", files_below(&disk));
}

#[test]
fn a_place_that_others_can_write_to_is_refused() {
    let playground = Playground::new();
    let spool = playground.dir("shared");
    drop(offer(&playground, b"x", &["--spool", spool.to_str().unwrap()]));
    let place = fs::read_dir(&spool).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
    let refused = || {
        let ran = run(playground.command("send").args(["-", "--spool"]).arg(&spool));
        assert_eq!(ran.code, Some(11), "{ran:?}");
        assert!(ran.stderr.contains("is not a folder of yours alone"), "{ran:?}");
    };
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    refused();
    fs::remove_dir_all(&place).unwrap();
    std::os::unix::fs::symlink(playground.dir("elsewhere"), &place).unwrap();
    refused();
}

#[test]
fn what_does_not_go_with_standard_input_is_said() {
    let playground = Playground::new();
    let file = playground.file("data", 10, 1);
    let file = file.to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["-", file], "`-` is standard input, which is offered alone"),
        (&["-", "-n"], "standard input can be read only once"),
        (&["-", "--to", "-"], "standard input cannot be both"),
        (&[file, "--name=x"], "--name is about standard input"),
        (&[file, "--again"], "--again is about standard input"),
        (&["-", "--name=a/b"], "`a/b` cannot be its name: that is a path"),
        (&["-", "--name=.."], "`..` cannot be its name"),
        (&["-", "--name="], "`` cannot be its name"),
    ];
    for (arguments, text) in cases {
        let ran = run(playground.command("send").args(*arguments));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(text), "{arguments:?}: {ran:?}");
    }
    let nowhere = run(playground.command("send").args(["-", "--spool=/no/such/folder"]));
    assert_eq!(nowhere.code, Some(11), "{nowhere:?}");
}

/// A sender that has all of its input.
fn offer(playground: &Playground, bytes: &[u8], flags: &[&str]) -> Sending {
    let input = playground.path("input");
    fs::write(&input, bytes).unwrap();
    let mut command = playground.command("send");
    command.args(["-", "--bind", "127.0.0.1:0", "--json"]).args(flags).stdin(fs::File::open(&input).unwrap());
    playground.start_send(command)
}

/// A sender that reads what the test writes. A test that fails leaves none behind.
struct Reading(Child);

fn start(playground: &Playground, flags: &[&str]) -> Reading {
    let mut command = playground.command("send");
    command.args(["-", "--bind", "127.0.0.1:0", "--json"]).args(flags);
    Reading(command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

impl Reading {
    /// Waits for the end, and returns the exit code and what it said to people.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut stderr = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.0.wait().unwrap().code(), stderr)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // It fails where the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every file below `folder` but locks.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut due = vec![folder.to_owned()];
    while let Some(path) = due.pop() {
        for entry in fs::read_dir(path).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { due.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| !path.ends_with("lock"));
    found
}
