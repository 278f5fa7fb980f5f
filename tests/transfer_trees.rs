//! Trees with links of both kinds and extended attributes, sent by real processes and compared name by name.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/mount.rs"]
mod mount;
#[path = "support/process.rs"]
mod process;

use mount::{Mount, may_mount};
use process::{Playground, Received, noise, run};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, getxattr, listxattr, setxattr, utimensat};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const BOTH: [&str; 2] = ["--symlinks", "--xattrs"];

#[test]
fn a_tree_arrives_as_it_is() {
    let playground = Playground::new();
    let source = tree(&playground);
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[&BOTH[..], &["--keep"]].concat());
    let first = playground.receive(&sending.link, &into, &BOTH).wait();
    let done = first.assert_ok();
    let expected = snapshot(&source);
    let found = snapshot(&into.join("tree"));
    for (path, item) in &expected {
        assert_eq!(found.get(path), Some(item), "{path}");
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let difference = Command::new("diff").args(["-r", "--no-dereference"]).arg(&source).arg(into.join("tree")).output();
    let difference = difference.unwrap();
    assert!(difference.status.success(), "{}", String::from_utf8_lossy(&difference.stdout));
    let bytes: u64 = done["bytes_fetched"].as_u64().unwrap();
    assert_eq!(bytes, 700_000 + 30_000 + 5, "what has several names is sent once");
    assert_eq!(done["files"], first.events.iter().filter(|event| is_done(event)).count());
    let links: Vec<_> = first.events.iter().filter(|event| event["event"] == "link").collect();
    assert_eq!(links.len(), 7);
    assert!(links.iter().all(|link| link["how"] == "made"), "{links:?}");
    assert!(!into.join(".haul").exists());

    // Once more: everything is there, and nothing is asked for or changed.
    let again = playground.receive(&sending.link, &into, &BOTH).wait();
    assert_eq!(again.assert_ok()["bytes_fetched"], 0);
    assert!(again.events.iter().filter(|event| is_done(event)).all(|event| event["how"] == "identical"));
    assert_eq!(snapshot(&into.join("tree")), expected);
    sending.kill();
}

#[test]
fn without_the_receivers_word_links_are_left_out_alone_and_attributes_with_a_notice() {
    let playground = Playground::new();
    let source = tree(&playground);
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &BOTH);
    let received = playground.receive(&sending.link, &into, &[]).wait();
    received.assert_exit(23);
    let failed: Vec<_> =
        received.events.iter().filter(|event| event["ok"] == false && event["event"] == "file").collect();
    assert_eq!(failed.len(), 4);
    assert!(failed.iter().all(|event| event["error"].as_str().unwrap().contains("--symlinks")), "{failed:?}");
    let listing = received.events.iter().find(|event| event["event"] == "listing").unwrap();
    assert_eq!(listing["refused"], 4);
    assert!(warnings(&received).contains("extended attributes of 3 files and folders are left out without --xattrs"));
    for (path, item) in snapshot(&into.join("tree")) {
        assert!(item.attributes.is_empty() && item.target.is_none(), "{path}");
    }
    assert_eq!(fs::read(into.join("tree/sub/again")).unwrap(), noise(700_000, 1), "hard links need no word");
    drop(sending);
}

#[test]
fn without_the_senders_word_no_link_is_listed_and_no_attribute_is_read() {
    let playground = Playground::new();
    let source = tree(&playground);
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    let received = playground.receive(&sending.link, &into, &BOTH).wait();
    received.assert_ok();
    assert!(!warnings(&received).contains("attributes"));
    assert!(snapshot(&into.join("tree")).values().all(|item| item.target.is_none() && item.attributes.is_empty()));
    let (code, events, _) = sending.wait_for_all();
    assert_eq!(code, Some(0));
    let skipped =
        events.iter().filter(|event| event["text"].as_str().is_some_and(|text| text.contains("symbolic link")));
    assert_eq!(skipped.count(), 4);
}

#[test]
fn a_killed_receiver_goes_on_with_the_flags_of_its_first_run() {
    let playground = Playground::new();
    let source = tree(&playground);
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[&BOTH[..], &["--limit", "200K", "--keep"]].concat());
    let mut receiving = playground.receive(&sending.link, &into, &BOTH);
    assert!(receiving.wait_until(|event| event["bytes_done"].as_u64().is_some_and(|bytes| bytes > 0)));
    receiving.kill();
    assert!(fs::symlink_metadata(into.join("tree/link")).is_err(), "links come last");
    sending.kill();
    let sending = playground.send(&[&source], &BOTH);
    let resumed = run(playground.command("resume").arg(&into).args(["--json"]));
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(snapshot(&into.join("tree")), snapshot(&source));
    drop(sending);
}

#[test]
fn a_hard_link_whose_file_was_not_received_fails_in_its_own_words() {
    let playground = Playground::new();
    let source = playground.dir("tree");
    fs::write(source.join("a"), noise(1000, 1)).unwrap();
    fs::hard_link(source.join("a"), source.join("b")).unwrap();
    fs::hard_link(source.join("a"), source.join("c")).unwrap();
    let sending = playground.send(&[&source], &["--keep"]);
    for (rule, code, words) in [(None, 22, "exists"), (Some("--skip-existing"), 23, "another name of was not received")]
    {
        let into = playground.dir(&format!("into{}", rule.unwrap_or_default()));
        fs::create_dir(into.join("tree")).unwrap();
        fs::write(into.join("tree/a"), b"mine").unwrap();
        fs::write(into.join("tree/c"), b"mine too").unwrap();
        let received = playground.receive(&sending.link, &into, rule.as_slice()).wait();
        let failed = |path: &str| received.events.iter().find(|event| event["path"] == path && event["ok"] == false);
        let of_link = failed("tree/b").unwrap_or_else(|| panic!("{rule:?}: {received:#?}"));
        assert!(of_link["error"].as_str().unwrap().contains("another name of was not received"), "{rule:?}: {of_link}");
        assert!(received.events.iter().any(|event| event["error"].as_str().is_some_and(|text| text.contains(words))));
        assert_ne!(received.status.code(), Some(0), "{rule:?}, {code}");
        assert_eq!(fs::read(into.join("tree/a")).unwrap(), b"mine");
        assert_eq!(fs::read(into.join("tree/c")).unwrap(), b"mine too");
        assert!(!into.join("tree/b").exists());
    }
    // Renamed, the links are to the file that was received.
    let into = playground.dir("into-renamed");
    fs::create_dir(into.join("tree")).unwrap();
    fs::write(into.join("tree/a"), b"mine").unwrap();
    playground.receive(&sending.link, &into, &["--rename"]).wait().assert_ok();
    let inode = |name: &str| fs::metadata(into.join("tree").join(name)).unwrap().ino();
    assert_eq!((inode("a (1)"), inode("a (1)")), (inode("b"), inode("c")));
    assert_eq!(fs::read(into.join("tree/a")).unwrap(), b"mine");
    sending.kill();
}

#[test]
fn attributes_that_the_destination_cannot_hold_are_told_for_each_file_and_fail_none() {
    let playground = Playground::new();
    let source = playground.dir("tree");
    if !may_mount() {
        println!("left out: HAUL_NO_LOOP=1");
        return;
    }
    fs::write(source.join("a"), b"x").unwrap();
    fs::write(source.join("b"), noise(700_000, 1)).unwrap();
    // A small ext4 has blocks of 1 KiB, and holds no more than one of attributes for each file.
    for path in [source.join("a"), source.join("b"), source.clone()] {
        setxattr(&path, "user.long", &[7; 2000], XattrFlags::empty()).unwrap();
        setxattr(&path, "user.short", b"1", XattrFlags::empty()).unwrap();
    }
    let into = playground.dir("into");
    let mount = Mount::image("ext4", &playground.path("image"), 64 << 20, &into);
    let sending = playground.send(&[&source], &["--xattrs"]);
    let received = playground.receive(&sending.link, &into, &["--xattrs"]).wait();
    received.assert_ok();
    assert_eq!(fs::read(into.join("tree/b")).unwrap(), noise(700_000, 1));
    let warnings = warnings(&received);
    for path in ["tree/a", "tree/b", "tree"] {
        let words = format!("`{path}` is without the extended attribute `user.long`: ");
        assert!(warnings.contains(&words), "{words}: {warnings}");
        assert_eq!(attributes(&into.join(path)), BTreeMap::from([("user.short".to_owned(), b"1".to_vec())]), "{path}");
    }
    drop((sending, mount));
}

/// Odd names, empty folders, modes, times to the nanosecond, links of both kinds, attributes.
fn tree(playground: &Playground) -> PathBuf {
    let tree = playground.dir("tree");
    for folder in ["empty", "sub/deep/er", "read only", "ünïcode \u{1f469}\u{200d}\u{1f4bb}"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::write(tree.join("sub/big"), noise(700_000, 1)).unwrap();
    fs::write(tree.join("sub/-rf *"), noise(30_000, 2)).unwrap();
    fs::write(tree.join("read only/file"), b"alone").unwrap();
    fs::write(tree.join("ünïcode \u{1f469}\u{200d}\u{1f4bb}/empty file"), b"").unwrap();
    fs::hard_link(tree.join("sub/big"), tree.join("sub/again")).unwrap();
    fs::hard_link(tree.join("sub/big"), tree.join("sub/deep/third name")).unwrap();
    fs::hard_link(tree.join("read only/file"), tree.join("sub/deep/er/alias")).unwrap();
    symlink("sub/big", tree.join("link")).unwrap();
    symlink("../deep", tree.join("sub/deep/loop")).unwrap();
    symlink("../../none", tree.join("sub/deep/dangling \u{2192}")).unwrap();
    symlink(".", tree.join("empty/here")).unwrap();
    for (path, name, value) in
        [("sub/big", "user.one", &b"1"[..]), ("sub/big", "user.two", &[0, 255, 10]), ("sub/-rf *", "user.x", b"")]
    {
        setxattr(tree.join(path), name, value, XattrFlags::empty()).unwrap();
    }
    setxattr(tree.join("read only"), "user.of a folder", b"yes", XattrFlags::empty()).unwrap();
    for (path, mode) in [("sub/big", 0o640), ("sub/-rf *", 0o4755), ("read only/file", 0o400), ("sub", 0o2750)] {
        fs::set_permissions(tree.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(tree.join("read only"), fs::Permissions::from_mode(0o1555)).unwrap();
    // Deepest first, since each change of a folder changes its time.
    let mut paths: Vec<PathBuf> = snapshot(&tree).into_keys().map(|path| tree.join(path)).collect();
    paths.sort();
    for (number, path) in (1..).zip(paths.iter().rev()) {
        let modified = Timespec { tv_sec: 1_500_000_000 + number, tv_nsec: 123_456_780 + number };
        let times = Timestamps { last_access: modified, last_modification: modified };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    tree
}

/// What there is to say of one name.
#[derive(Debug, Eq, PartialEq)]
struct Item {
    bytes: Option<Vec<u8>>,
    target: Option<PathBuf>,
    /// Rights, which links have none of; never more than those of user, group and others.
    mode: Option<u32>,
    modified: (i64, i64),
    /// The first of its names.
    first: Option<String>,
    attributes: BTreeMap<String, Vec<u8>>,
}

/// Everything below a folder, and the folder itself.
fn snapshot(root: &Path) -> BTreeMap<String, Item> {
    let mut items = BTreeMap::new();
    let mut names = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let is_link = facts.is_symlink();
        if facts.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        if facts.is_file() {
            let first = names.entry(facts.ino()).or_insert_with(|| relative.clone());
            *first = relative.clone().min(first.clone());
        }
        let item = Item {
            bytes: facts.is_file().then(|| fs::read(&path).unwrap()),
            target: is_link.then(|| fs::read_link(&path).unwrap()),
            mode: (!is_link).then_some(facts.mode() & 0o777),
            modified: (facts.mtime(), facts.mtime_nsec()),
            first: facts.is_file().then(|| facts.ino().to_string()),
            attributes: if is_link { BTreeMap::new() } else { attributes(&path) },
        };
        items.insert(relative, item);
    }
    for item in items.values_mut() {
        item.first = item.first.take().map(|inode| names[&inode.parse().unwrap()].clone());
    }
    items
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = listxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&byte| byte == 0).map(|name| String::from_utf8(name.to_vec()).unwrap());
    names
        .filter(|name| name.starts_with("user."))
        .map(|name| {
            let mut value = vec![0; 65_536];
            let length = getxattr(path, &name, &mut value[..]).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect()
}

fn is_done(event: &serde_json::Value) -> bool {
    event["event"] == "link" || (event["event"] == "file" && event["ok"] == true)
}

fn warnings(received: &Received) -> String {
    let texts = received.events.iter().filter(|event| event["event"] == "warning");
    texts.filter_map(|event| event["text"].as_str()).collect::<Vec<_>>().join("\n")
}
