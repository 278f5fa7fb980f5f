//! Filters and dry runs of trees with links, and of offers that have to be the content of a manifest: real processes.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use process::{Playground, Ran, Received, noise, run};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const RULES: [&[&str]; 4] = [&[], &["--overwrite"], &["--rename"], &["--skip-existing"]];

#[test]
fn of_a_file_whose_first_name_is_left_out_the_next_one_is_sent() {
    let playground = Playground::new();
    let tree = playground.dir("tree");
    fs::create_dir(tree.join("sub")).unwrap();
    fs::write(tree.join("a.log"), noise(700_000, 1)).unwrap();
    fs::hard_link(tree.join("a.log"), tree.join("b")).unwrap();
    fs::hard_link(tree.join("a.log"), tree.join("sub/c")).unwrap();
    symlink("../a.log", tree.join("sub/to-log")).unwrap();
    symlink("/etc/passwd", tree.join("sub/outside.log")).unwrap();
    let into = playground.dir("into");
    let sending = playground.send(&[&tree], &["--symlinks", "--exclude=*.log"]);
    let received = playground.receive(&sending.link, &into, &["--symlinks"]).wait();
    assert_eq!(received.assert_ok()["bytes_fetched"], 700_000, "once");
    let (code, events, _) = sending.wait_for_all();
    assert_eq!(code, Some(0), "a link that cannot be sent is no failure where it is left out");
    assert!(events.iter().all(|event| event["event"] != "warning"), "{events:?}");
    let left_out = events.iter().find(|event| event["event"] == "left_out").unwrap();
    assert_eq!((&left_out["files"], &left_out["folders"]), (&2.into(), &0.into()));
    assert_eq!(names(&into.join("tree")), ["b", "sub"]);
    assert_eq!(names(&into.join("tree/sub")), ["c", "to-log"]);
    assert_eq!(fs::read(into.join("tree/b")).unwrap(), noise(700_000, 1));
    assert_eq!(inode(&into.join("tree/b")), inode(&into.join("tree/sub/c")));
    // Where it leads nowhere now, it is a link all the same.
    assert_eq!(fs::read_link(into.join("tree/sub/to-log")).unwrap(), Path::new("../a.log"));
}

#[test]
fn a_dry_run_of_a_sender_tells_where_links_lead() {
    let playground = Playground::new();
    let tree = playground.dir("tree");
    fs::write(tree.join("a"), b"abc").unwrap();
    fs::hard_link(tree.join("a"), tree.join("b")).unwrap();
    symlink("a", tree.join("c")).unwrap();
    let told = |flags: &[&str]| run(playground.command("send").arg(&tree).arg("-n").args(flags));
    let ran = told(&["--symlinks"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("Would offer 3 files, 1 folder, 3 B:\n"), "{ran:?}");
    assert!(ran.stderr.contains("   hard link  tree/b = tree/a\n        link  tree/c -> a\n"), "{ran:?}");
    let events = told(&["--symlinks", "--json"]).events();
    let link = |path: &str| events.iter().find(|event| event["event"] == "entry" && event["path"] == path).unwrap();
    assert_eq!((&link("tree/b")["to"], &link("tree/b")["symbolic"]), (&"tree/a".into(), &false.into()));
    assert_eq!((&link("tree/c")["to"], &link("tree/c")["symbolic"]), (&"a".into(), &true.into()));
    assert_eq!((&link("tree/a")["to"], &link("tree/a")["symbolic"]), (&Value::Null, &Value::Null));
    let without = told(&[]);
    assert!(without.stderr.contains("note: ") && !without.stderr.contains("-> a"), "{without:?}");
    assert!(without.stderr.contains("Would offer 2 files, 1 folder, 3 B:\n"), "{without:?}");
}

#[test]
fn a_dry_run_says_of_every_link_what_a_real_run_then_does() {
    let playground = Playground::new();
    let tree = offered(&playground);
    let sending = playground.send(&[&tree], &["--symlinks", "--keep"]);
    let mut seen = BTreeSet::new();
    let cases = RULES.iter().flat_map(|rule| [(*rule, &["--symlinks"][..]), (*rule, &[])]);
    for (number, (rule, links)) in cases.enumerate() {
        let into = taken(&playground, &format!("into{number}"));
        let flags = [rule, links].concat();
        let before = snapshot(&into);
        let ran = look(&playground, &sending.link, &into, &flags);
        assert_eq!(snapshot(&into), before, "{flags:?}");
        let told = fates(&ran);
        let real = playground.receive(&sending.link, &into, &flags).wait();
        assert_eq!(ran.code, real.status.code(), "{flags:?}: {ran:#?} {real:#?}");
        for (path, fate) in &told {
            let became = became(&real, path);
            let is_right = match fate.as_str() {
                "conflict" => became == "exists",
                "fail" => ["exists", "io", "name", "partial"].contains(&became.as_str()),
                "fetch" | "replace" | "make" => ["published", "made", "nothing said"].contains(&became.as_str()),
                "here" => became == "nothing said",
                "rename" => became == "renamed",
                "reuse" => became == "identical",
                "skip" => became == "skipped",
                "unasked" => became == "partial",
                _ => false,
            };
            assert!(is_right, "{flags:?}: of {path} a dry run said {fate}, and it became {became}: {real:#?}");
            seen.insert(fate.clone());
        }
        assert_eq!(told.len(), all(&tree).len() + 1, "{told:#?}");
        let forecast = ran.events().into_iter().find(|event| event["event"] == "forecast").unwrap();
        let made = real.events.iter().filter(|event| event["event"] == "link");
        let made = made.filter(|event| ["made", "renamed"].iter().any(|how| event["how"] == *how)).count();
        assert_eq!(forecast["links_to_make"], made, "{flags:?}: {forecast}");
        // What fails only at its end has come by then.
        let failed = ran.events().into_iter().filter(|event| event["fate"] == "fail");
        let failed: u64 = failed.map(|event| event["bytes"].as_u64().unwrap()).sum();
        let to_fetch = forecast["bytes_to_fetch"].as_u64().unwrap();
        assert_eq!(real.done()["bytes_fetched"], to_fetch + failed, "{flags:?}: {forecast}");
    }
    let all = ["conflict", "fail", "fetch", "here", "make", "rename", "replace", "reuse", "skip", "unasked"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), all, "the cases are all there");
    sending.kill();
}

#[test]
fn a_dry_run_names_what_becomes_of_links_to_people() {
    let playground = Playground::new();
    let tree = offered(&playground);
    let sending = playground.send(&[&tree], &["--symlinks", "--keep"]);
    let into = taken(&playground, "into");
    let told = |flags: &[&str]| {
        let ran = run(playground.command("receive").arg(&sending.link).arg("-n").arg("--into").arg(&into).args(flags));
        ran.stderr
    };
    let plain = told(&[]);
    for line in [
        "hard link  tree/hard/new = tree/first  (made)\n",
        "hard link  tree/hard/other = tree/first  (conflict: its name is taken)\n",
        "hard link  tree/hard/same = tree/first  (the same is here)\n",
        "hard link  tree/mine/second = tree/mine/first  (fails: the file that it is another name of would not be here)\n",
        "link  tree/soft/new -> ../first  (left out: symbolic links are made with --symlinks alone)\n",
    ] {
        assert!(plain.contains(line), "{line}{plain}");
    }
    let asked = told(&["--symlinks", "--overwrite"]);
    for line in [
        "link  tree/soft/new -> ../first  (made)\n",
        "link  tree/soft/other -> ../first  (made, replaces what is here)\n",
        "link  tree/soft/same -> ../first  (the same is here)\n",
        " links to make; ",
    ] {
        assert!(asked.contains(line), "{line}{asked}");
    }
    let renamed = told(&["--rename", "--symlinks"]);
    assert!(renamed.contains("link  tree/soft/file -> ../first  (made under another name)\n"), "{renamed}");
    sending.kill();
}

#[test]
fn a_dry_run_with_a_manifest_refuses_what_a_real_run_would() {
    let playground = Playground::new();
    let tree = playground.dir("tree");
    fs::write(tree.join("a"), b"").unwrap();
    fs::write(tree.join("b"), noise(3_000_000, 1)).unwrap();
    fs::write(tree.join("b.log"), noise(1000, 2)).unwrap();
    fs::write(tree.join("c"), noise(1000, 3)).unwrap();
    let manifest = playground.path("manifest");
    let made = run(playground.command("manifest").arg(&tree).arg("--exclude=*.log").arg("-o").arg(&manifest));
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.stderr.contains("1 file left out by filters\n"), "{made:?}");
    let expect = ["--expect", manifest.to_str().unwrap()];
    // One file is there, another one is in the way, and the long one is to be fetched.
    let into = playground.dir("into");
    fs::create_dir(into.join("tree")).unwrap();
    fs::write(into.join("tree/c"), noise(1000, 3)).unwrap();
    let before = snapshot(&into);
    let tried = |flags: &[&str]| {
        let sending = playground.send(&[&tree], &[flags, &["--keep"]].concat());
        let ran = look(&playground, &sending.link, &into, &expect);
        assert_eq!(snapshot(&into), before, "{flags:?}");
        let elsewhere = playground.dir(&format!("real{}", flags.concat()));
        let real = playground.receive(&sending.link, &elsewhere, &expect).wait();
        sending.kill();
        assert_eq!(real.status.code(), ran.code, "{ran:?} {real:?}");
        (ran.code, ran.events().pop().unwrap()["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(tried(&["--exclude=*.log"]), (Some(0), String::new()));
    let (code, error) = tried(&[]);
    assert_eq!(code, Some(40));
    assert!(error.ends_with("`tree/b.log` is offered and not in the manifest"), "{error}");
    let (code, error) = tried(&["--max-size=2M", "--exclude=*.log"]);
    assert_eq!(code, Some(40));
    assert!(error.ends_with("`tree/b` is not offered"), "{error}");
    // Of a file that would be fetched no byte comes, but its hashes do.
    let mut changed = noise(3_000_000, 1);
    changed[2_700_000] ^= 1;
    fs::write(tree.join("b"), changed).unwrap();
    let (code, error) = tried(&["--exclude=*.log", "--no-hidden"]);
    assert_eq!(code, Some(40));
    assert!(error.ends_with("`tree/b` is offered with other content: chunk 10 differs"), "{error}");
}

#[test]
fn a_manifest_of_nothing_is_refused_in_words_of_its_own() {
    let playground = Playground::new();
    let tree = playground.dir("tree");
    fs::write(tree.join("a"), b"abc").unwrap();
    let out = playground.path("manifest");
    let made = |flags: &[&str]| run(playground.command("manifest").arg(&tree).args(flags).arg("-o").arg(&out));
    let ran = made(&["--max-size=2"]);
    assert_eq!(ran.code, Some(11), "{ran:?}");
    assert!(ran.stderr.contains("the filters leave no file: 1 file left out"), "{ran:?}");
    assert!(ran.stderr.contains("no manifest was written") && ran.stderr.contains("loosen the filters"), "{ran:?}");
    assert!(!out.exists());
    let ran = made(&["--exclude=[a"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("`[a` is no pattern: "), "{ran:?}");
}

/// A tree with links of both kinds to what is there in all ways, as [`taken`] makes it.
fn offered(playground: &Playground) -> PathBuf {
    let tree = playground.dir("tree");
    for folder in ["hard", "soft", "mine", "blocked"] {
        fs::create_dir(tree.join(folder)).unwrap();
    }
    let file = |name: &str, length, seed| fs::write(tree.join(name), noise(length, seed)).unwrap();
    // It is fetched, as are the others of this length.
    file("first", 500_000, 1);
    for name in ["hard/folder", "hard/new", "hard/other", "hard/same", "hard/shorter"] {
        fs::hard_link(tree.join("first"), tree.join(name)).unwrap();
    }
    // These are there, but for the further name of the second.
    file("empty", 0, 1);
    fs::hard_link(tree.join("empty"), tree.join("empty-too")).unwrap();
    file("here", 1000, 2);
    fs::hard_link(tree.join("here"), tree.join("here-new")).unwrap();
    fs::hard_link(tree.join("here"), tree.join("here-too")).unwrap();
    for name in ["file", "folder", "new", "other", "same"] {
        symlink("../first", tree.join("soft").join(name)).unwrap();
    }
    // Something else has this name.
    file("mine/first", 1000, 3);
    for name in ["second", "third", "fourth"] {
        fs::hard_link(tree.join("mine/first"), tree.join("mine").join(name)).unwrap();
    }
    file("blocked/a", 1000, 4);
    fs::hard_link(tree.join("blocked/a"), tree.join("blocked/b")).unwrap();
    symlink("a", tree.join("blocked/c")).unwrap();
    tree
}

/// A folder in which much of that has its name taken already.
fn taken(playground: &Playground, name: &str) -> PathBuf {
    let into = playground.dir(name);
    let tree = into.join("tree");
    for folder in ["hard/folder", "soft/folder", "mine"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    let file = |name: &str, length, seed| fs::write(tree.join(name), noise(length, seed)).unwrap();
    file("hard/other", 500_000, 9);
    file("hard/same", 500_000, 1);
    file("hard/shorter", 10, 1);
    file("empty", 0, 1);
    file("empty-too", 0, 1);
    file("here", 1000, 2);
    file("here-too", 1000, 2);
    fs::set_permissions(tree.join("here-too"), Permissions::from_mode(0o400)).unwrap();
    file("soft/file", 10, 1);
    symlink("elsewhere", tree.join("soft/other")).unwrap();
    symlink("../first", tree.join("soft/same")).unwrap();
    file("mine/first", 1000, 8);
    file("mine/third", 1000, 3);
    file("mine/fourth", 77, 3);
    file("blocked", 10, 1);
    into
}

fn look(playground: &Playground, link: &str, into: &Path, flags: &[&str]) -> Ran {
    run(playground.command("receive").arg(link).arg("--into").arg(into).args(["--dry-run", "--json"]).args(flags))
}

fn fates(ran: &Ran) -> BTreeMap<String, String> {
    let entries = ran.events().into_iter().filter(|event| event["event"] == "entry");
    let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
    entries.map(|event| (text(&event, "path"), text(&event, "fate"))).collect()
}

/// What was said of a path: how it came to be there, or what kind of failure it was.
fn became(real: &Received, path: &str) -> String {
    let said = real
        .events
        .iter()
        .filter(|event| (event["event"] == "file" || event["event"] == "link") && event["path"] == path);
    let said: Vec<_> = said.map(|event| event["how"].as_str().or(event["class"].as_str()).unwrap()).collect();
    assert!(said.len() < 2, "{path}: {said:?}");
    said.first().map_or("nothing said", |said| *said).to_owned()
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

/// Every path below `folder`, in order.
fn all(folder: &Path) -> Vec<PathBuf> {
    snapshot(folder).into_keys().filter(|path| !path.as_os_str().is_empty()).collect()
}

/// Everything below `folder` that a change of any kind would show in.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u64, u32, (i64, i64), (i64, i64), Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut due = vec![folder.to_owned()];
    while let Some(path) = due.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let bytes = match facts.file_type() {
            kind if kind.is_file() => fs::read(&path).unwrap(),
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        if facts.is_dir() {
            due.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let times = ((facts.mtime(), facts.mtime_nsec()), (facts.ctime(), facts.ctime_nsec()));
        let key = path.strip_prefix(folder).unwrap().to_owned();
        found.insert(key, (facts.ino(), facts.mode(), times.0, times.1, bytes));
    }
    found
}
