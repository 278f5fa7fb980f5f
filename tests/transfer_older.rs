//! Files of which an older version is there: what of it serves is taken from it, and only the rest is fetched.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use process::{Playground, Received, noise, run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

const CHUNK: usize = 256 * 1024;

/// Receives `new` where `old` lies, and returns the bytes that were fetched and reused.
fn replace(old: &[u8], new: &[u8], arguments: &[&str]) -> (u64, u64) {
    let playground = Playground::new();
    let source = playground.path("data");
    fs::write(&source, new).unwrap();
    let into = playground.dir("into");
    fs::write(into.join("data"), old).unwrap();
    let sending = playground.send(&[&source], &[]);
    let received = playground.receive(&sending.link, &into, arguments).wait();
    let done = received.assert_ok().clone();
    assert!(fs::read(into.join("data")).unwrap() == new, "the new version is there");
    assert!(!into.join(".haul").exists());
    (number(&done, "bytes_fetched"), number(&done, "bytes_reused"))
}

fn number(done: &Value, name: &str) -> u64 {
    done[name].as_u64().unwrap()
}

#[test]
fn what_lies_where_it_did_is_not_fetched() {
    let old = noise(20 * CHUNK + 77, 1);
    let mut new = old.clone();
    new[3 * CHUNK + 5] ^= 1;
    new[17 * CHUNK] ^= 1;
    let chunk = CHUNK as u64;
    for rule in ["--overwrite", "--update"] {
        assert_eq!(replace(&old, &new, &[rule]), (2 * chunk, 18 * chunk + 77), "{rule}");
    }
    let grown = [&old[..], &noise(5 * CHUNK, 2)].concat();
    assert_eq!(replace(&old, &grown, &["--update"]), (5 * chunk + 77, 20 * chunk), "grown at its end");
    assert_eq!(replace(&old, &old[..7 * CHUNK + 5], &["--update"]), (0, 7 * chunk + 5), "cut");
    assert_eq!(replace(&old, &old, &["--update"]), (0, old.len() as u64), "the same");
}

#[test]
fn a_received_file_with_another_name_takes_what_the_old_one_has() {
    let playground = Playground::new();
    let old = noise(20 * CHUNK, 1);
    let mut new = old.clone();
    new[0] ^= 1;
    let source = playground.path("data");
    fs::write(&source, &new).unwrap();
    let into = playground.dir("into");
    fs::write(into.join("data"), &old).unwrap();
    let sending = playground.send(&[&source], &[]);
    let received = playground.receive(&sending.link, &into, &["--rename"]).wait();
    assert_eq!(number(received.assert_ok(), "bytes_fetched"), CHUNK as u64);
    assert!(fs::read(into.join("data")).unwrap() == old && fs::read(into.join("data (1)")).unwrap() == new);
}

#[test]
fn what_moved_is_not_fetched() {
    let old = noise(80 * CHUNK, 3);
    let added = noise(CHUNK + 4321, 4);
    let middle = old.len() / 2 + 99;
    let cases = [
        ("at the start", [&added, &old[..]].concat()),
        ("in the middle", [&old[..middle], &added, &old[middle..]].concat()),
        ("one byte at the start", [&b"x"[..], &old].concat()),
        ("taken away from the start", old[100_000..].to_vec()),
        ("turned around", [&old[middle..], &old[..middle]].concat()),
    ];
    for (case, new) in cases {
        let (fetched, reused) = replace(&old, &new, &["--overwrite"]);
        assert!(fetched <= 6 * CHUNK as u64, "{case}: {fetched} bytes are fetched");
        assert_eq!(fetched + reused, new.len() as u64, "{case}");
    }
}

#[test]
fn what_is_altogether_different_is_fetched() {
    let new = noise(20 * CHUNK, 6);
    for old in [noise(20 * CHUNK, 5), noise(9 * CHUNK + 1, 5), noise(10, 5)] {
        assert_eq!(replace(&old, &new, &["--update"]), (new.len() as u64, 0));
    }
}

#[test]
fn holes_stay_holes() {
    let playground = Playground::new();
    let (source, into) = (playground.path("data"), playground.dir("into"));
    let sparse = |path: &Path, mark: u8| {
        let file = fs::File::create(path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&noise(CHUNK, 1), 8 << 20).unwrap();
        file.write_all_at(&[mark], 40 << 20).unwrap();
    };
    sparse(&source, 1);
    sparse(&into.join("data"), 2);
    let sending = playground.send(&[&source], &[]);
    let received = playground.receive(&sending.link, &into, &["--update"]).wait();
    assert_eq!(number(received.assert_ok(), "bytes_fetched"), CHUNK as u64);
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&source).unwrap());
    let taken = fs::metadata(into.join("data")).unwrap().blocks() * 512;
    assert!(taken <= 4 << 20, "{taken} bytes are taken");
}

#[test]
fn a_dry_run_says_what_is_taken_from_an_older_version() {
    let playground = Playground::new();
    let old = noise(20 * CHUNK, 1);
    let mut new = old.clone();
    new[0] ^= 1;
    let source = playground.path("data");
    fs::write(&source, &new).unwrap();
    let into = playground.dir("into");
    fs::write(into.join("data"), &old).unwrap();
    let sending = playground.send(&[&source], &["--keep"]);
    let foreseen = playground.receive(&sending.link, &into, &["-n", "--update"]).wait();
    foreseen.assert_ok();
    let forecast = foreseen.events.iter().find(|event| event["event"] == "forecast").unwrap();
    assert_eq!(
        (number(forecast, "bytes_to_fetch"), number(forecast, "bytes_reused")),
        (CHUNK as u64, 19 * CHUNK as u64)
    );
    assert!(fs::read(into.join("data")).unwrap() == old);
    fs::write(into.join("data"), &new).unwrap();
    let foreseen = playground.receive(&sending.link, &into, &["-n", "--update"]).wait();
    foreseen.assert_ok();
    let progress = foreseen.events.iter().rfind(|event| event["event"] == "progress").unwrap();
    assert_eq!(number(progress, "bytes_done"), new.len() as u64, "what is the same is counted once");
    sending.kill();
}

/// The source of a repeated send: files of several lengths, links, folders.
fn tree(playground: &Playground) -> std::path::PathBuf {
    let top = playground.dir("tree");
    playground.file("tree/large", 30 * CHUNK, 1);
    playground.file("tree/same", 3 * CHUNK, 2);
    playground.file("tree/sub/small", 1000, 3);
    playground.file("tree/sub/empty", 0, 3);
    playground.file("tree/sub/goes", 10, 4);
    fs::hard_link(top.join("same"), top.join("sub/same too")).unwrap();
    symlink("small", top.join("sub/link")).unwrap();
    fs::create_dir(top.join("hollow")).unwrap();
    top
}

/// Everything below a folder: kind, mode, time to the nanosecond, what it leads to or holds, and its inode's first name.
fn snapshot(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut names = std::collections::BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries.into_iter().chain((folder == top).then(|| folder.clone())) {
            let found = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(top).unwrap().display().to_string();
            let holds = if found.is_symlink() {
                format!("to {}", fs::read_link(&path).unwrap().display())
            } else if found.is_dir() {
                if path != top {
                    folders.push(path.clone());
                }
                "folder".to_owned()
            } else {
                let first = names.entry(found.ino()).or_insert_with(|| name.clone()).clone();
                format!("{} as {first}", blake3::hash(&fs::read(&path).unwrap()))
            };
            lines.push(format!("{name}: {:o} {}.{:09} {holds}", found.mode(), found.mtime(), found.mtime_nsec()));
        }
    }
    lines.sort();
    lines
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

fn send_again(playground: &Playground, top: &Path, into: &Path, arguments: &[&str]) -> Received {
    let sending = playground.send(&[top], &["--symlinks"]);
    let received = playground.receive(&sending.link, into, &[&["--symlinks"], arguments].concat()).wait();
    drop(sending);
    received
}

#[test]
fn a_send_that_is_repeated_takes_over_what_changed() {
    let playground = Playground::new();
    let (top, into) = (tree(&playground), playground.dir("into"));
    send_again(&playground, &top, &into, &[]).assert_ok();
    assert_eq!(snapshot(&into.join("tree")), snapshot(&top));

    let again = send_again(&playground, &top, &into, &["--update"]);
    assert_eq!(number(again.assert_ok(), "bytes_fetched"), 0, "nothing changed");
    assert_eq!(snapshot(&into.join("tree")), snapshot(&top));

    let large = fs::read(top.join("large")).unwrap();
    fs::write(top.join("large"), [&b"a little more"[..], &large].concat()).unwrap();
    fs::set_permissions(top.join("same"), fs::Permissions::from_mode(0o640)).unwrap();
    set_time(&top.join("sub/small"), 1_000_000_000);
    set_time(&top.join("sub/empty"), 1_000_000_001);
    fs::write(top.join("sub/new"), b"new").unwrap();
    fs::remove_file(top.join("sub/goes")).unwrap();
    fs::remove_file(top.join("sub/link")).unwrap();
    symlink("new", top.join("sub/link")).unwrap();
    fs::rename(top.join("hollow"), top.join("hollower")).unwrap();
    fs::set_permissions(top.join("sub"), fs::Permissions::from_mode(0o711)).unwrap();
    set_time(&top.join("sub"), 1_000_000_002);
    let updated = send_again(&playground, &top, &into, &["--update"]);
    let fetched = number(updated.assert_ok(), "bytes_fetched");
    assert!(fetched <= 5 * CHUNK as u64, "{fetched} bytes are fetched");
    // Nothing is deleted.
    assert_eq!(fs::read(into.join("tree/sub/goes")).unwrap(), noise(10, 4));
    fs::remove_file(into.join("tree/sub/goes")).unwrap();
    fs::remove_dir(into.join("tree/hollow")).unwrap();
    for folder in ["sub", ""] {
        let modified = fs::metadata(top.join(folder)).unwrap().modified().unwrap();
        fs::File::open(into.join("tree").join(folder)).unwrap().set_modified(modified).unwrap();
    }
    assert_eq!(snapshot(&into.join("tree")), snapshot(&top));
}

#[test]
fn overwriting_leaves_mode_and_time_of_what_is_the_same() {
    let playground = Playground::new();
    let source = playground.file("data", 1000, 1);
    let into = playground.dir("into");
    fs::write(into.join("data"), noise(1000, 1)).unwrap();
    set_time(&into.join("data"), 1_000_000_000);
    fs::set_permissions(into.join("data"), fs::Permissions::from_mode(0o4600)).unwrap();
    let sending = playground.send(&[&source], &["--keep"]);
    let facts = || {
        let found = fs::metadata(into.join("data")).unwrap();
        (found.mode() & 0o7777, found.modified().unwrap())
    };
    let before = facts();
    playground.receive(&sending.link, &into, &["--overwrite"]).wait().assert_ok();
    assert_eq!(facts(), before);
    playground.receive(&sending.link, &into, &["--update"]).wait().assert_ok();
    let sent = fs::metadata(&source).unwrap();
    assert_eq!(facts(), (sent.mode() & 0o777, sent.modified().unwrap()), "and bits that are never sent are gone");
    sending.kill();
}

#[test]
fn only_one_rule_for_names_that_are_taken_is_taken() {
    let playground = Playground::new();
    let mut command = playground.command("receive");
    command.args(["LINK", "--update", "--overwrite"]);
    assert_eq!(run(&mut command).code, Some(2));
}
