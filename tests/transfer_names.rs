//! Names that the destination cannot hold, or takes for one: on an NTFS that folds case and refuses what Windows does.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/mount.rs"]
mod mount;
#[path = "support/process.rs"]
mod process;

use haul::store::{Folding, RealDisk, Store};
use mount::{Mount, may_fuse};
use process::{Playground, Received, noise};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn row_20_names_that_differ_in_case_are_refused_where_the_destination_folds_it() {
    if !may_fuse() {
        return;
    }
    let folds = Folds::new();
    let disk = RealDisk::open(&folds.into).unwrap();
    assert_eq!(Store::open(disk).unwrap().folding().unwrap(), Folding { case: true, form: false });
    for [one, other] in [["README", "readme"], ["d/\u{c9}t\u{e9}", "d/\u{e9}t\u{e9}"], ["A/x", "a/y"]] {
        let received = folds.receive(&[(one, 1000), (other, 1000)], &[]);
        let error = received.assert_exit(11)["error"].as_str().unwrap().to_owned();
        assert!(error.contains("are one name at the destination"), "{one}: {error}");
        assert_eq!(names(&folds.into), Vec::<String>::new(), "{one}: nothing is written");
    }
    // Composed and decomposed are two names there, as they are here.
    folds.receive(&[("\u{e9}", 10), ("e\u{301}", 10)], &[]).assert_ok();
}

#[test]
fn row_29_a_name_that_is_taken_in_another_case_is_taken() {
    if !may_fuse() {
        return;
    }
    let folds = Folds::new();
    fs::create_dir(folds.into.join("Tree")).unwrap();
    fs::write(folds.into.join("Tree/NOTES"), b"mine").unwrap();
    folds.receive(&[("notes", 1000)], &[]).assert_exit(44);
    assert_eq!(fs::read(folds.into.join("Tree/NOTES")).unwrap(), b"mine");
    folds.receive(&[("notes", 1000)], &["--rename"]).assert_ok();
    assert_eq!(fs::read(folds.into.join("Tree/notes (1)")).unwrap(), noise(1000, 7));
    folds.receive(&[("notes", 1000)], &["--overwrite"]).assert_ok();
    assert_eq!(fs::read(folds.into.join("Tree/NOTES")).unwrap(), noise(1000, 7));
}

#[test]
fn rows_14_to_16_names_that_the_destination_cannot_hold_fail_alone_with_the_reason() {
    if !may_fuse() {
        return;
    }
    let folds = Folds::new();
    let files = [
        ("Lecture 10:30.mp4", 1000),
        ("con", 1000),
        ("trailing.", 0),
        ("big?", 700_000),
        ("what?/deep/inside", 1000),
        ("good/file", 1000),
        ("good/large", 700_000),
    ];
    let received = folds.receive(&files, &[]);
    let failed: Vec<(String, String)> = received
        .events
        .iter()
        .filter(|event| event["event"] == "file" && event["ok"] == false)
        .map(|event| {
            assert_eq!(event["class"], "name", "{event}");
            (event["path"].as_str().unwrap().to_owned(), event["error"].as_str().unwrap().to_owned())
        })
        .collect();
    let mut paths: Vec<&str> = failed.iter().map(|(path, _)| path.as_str()).collect();
    paths.sort_unstable();
    let expected = ["Lecture 10:30.mp4", "big?", "con", "trailing.", "what?", "what?/deep", "what?/deep/inside"];
    assert_eq!(paths, expected.map(|name| format!("tree/{name}")));
    for (path, error) in &failed {
        assert!(error.contains("cannot hold the name"), "{path}: {error}");
    }
    assert_ne!(received.status.code(), Some(0));
    for name in ["file", "large"] {
        assert!(folds.into.join("tree/good").join(name).is_file(), "{name}");
    }
    assert_eq!(names(&folds.into.join("tree")), ["good"]);
}

/// A folder on a file system that folds case.
struct Folds {
    into: PathBuf,
    _mount: Mount,
    playground: Playground,
}

impl Folds {
    fn new() -> Self {
        let playground = Playground::new();
        let into = playground.dir("into");
        let mount = Mount::ntfs(&playground.path("image"), &into);
        Self { into, _mount: mount, playground }
    }

    /// Sends files of these names and lengths, in the folder `tree`.
    fn receive(&self, files: &[(&str, usize)], args: &[&str]) -> Received {
        let tree = self.playground.dir("tree");
        fs::remove_dir_all(&tree).unwrap();
        for (name, length) in files {
            self.playground.file(&format!("tree/{name}"), *length, 7);
        }
        let sending = self.playground.send(&[&tree], &[]);
        self.playground.receive(&sending.link, &self.into, args).wait()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name != ".haul").collect();
    names.sort();
    names
}
