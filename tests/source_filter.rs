//! A filtered walk on real folders: what it takes is what the filter takes of the whole walk.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use haul::source::{EntryKind, Filter, LeftOut, Rule, Source, SourceError, Walk, WalkOptions};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

#[test]
fn what_is_left_out_is_counted_and_named_and_a_folder_counts_once() {
    let temp = tree(&["t/a.log", "t/a.txt", "t/deep/b.log", "t/build/x", "t/build/y/z", "t/.git/config"]);
    let filter = filter(&["*.log", "/build/"], true);
    let walk = walk(temp.path(), &["t"], &filter).unwrap();
    assert_eq!(listed(&walk), ["t", "t/a.txt", "t/deep"]);
    let paths = ["t/.git/", "t/a.log", "t/build/", "t/deep/b.log"].map(|path| temp.path().join(path));
    assert_eq!(walk.left_out, LeftOut { files: 2, folders: 2, paths: paths.to_vec() });
    assert!(walk.notices.is_empty() && walk.failures == 0, "it is no failure");
}

#[test]
fn what_cannot_be_read_or_named_is_no_failure_where_it_is_left_out() {
    let temp = tree(&["t/a", "t/secret/b", "t/bad\\name"]);
    fs::create_dir(temp.path().join("t/.haul")).unwrap();
    symlink("a", temp.path().join("t/link")).unwrap();
    fs::set_permissions(temp.path().join("t/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(temp.path().join("t").join(OsStr::from_bytes(b"caf\xe9")), b"x").unwrap();
    let filter = filter(&["secret", "bad*", "link", "caf?", ".haul"], false);
    let walk = walk(temp.path(), &["t"], &filter).unwrap();
    fs::set_permissions(temp.path().join("t/secret"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(listed(&walk), ["t", "t/a"]);
    assert!(walk.notices.is_empty(), "{:?}", walk.notices);
    assert_eq!((walk.left_out.files, walk.left_out.folders), (3, 2));
}

#[test]
fn a_filter_that_leaves_no_file_is_an_error_of_its_own() {
    let temp = tree(&["t/a", "t/deep/b"]);
    let error = walk(temp.path(), &["t"], &filter(&["*"], false)).unwrap_err();
    assert!(matches!(error, SourceError::AllLeftOut { files: 1, folders: 1 }), "{error}");
    assert_eq!(error.to_string(), "the filters leave no file: 1 file and 1 folder left out");
    fs::create_dir(temp.path().join("empty")).unwrap();
    assert_eq!(listed(&walk(temp.path(), &["empty"], &filter(&["*"], false)).unwrap()), ["empty"]);
}

#[test]
fn patterns_are_about_each_given_folder() {
    let temp = tree(&["one/build/x", "one/src/build", "one/src/x", "two/build", "build/x", "notes.log"]);
    let all = ["one", "two", "build", "notes.log"];
    let walked = walk(temp.path(), &all, &filter(&["/build"], false)).unwrap();
    assert_eq!(
        listed(&walked),
        ["build", "build/x", "notes.log", "one", "one/src", "one/src/build", "one/src/x", "two"]
    );
    let named = walk(temp.path(), &all, &filter(&["build", "*.log"], false)).unwrap();
    assert_eq!(listed(&named), ["one", "one/src", "one/src/x", "two"]);
}

#[test]
fn files_may_be_as_long_as_the_limit() {
    let temp = tree(&["t/small"]);
    fs::write(temp.path().join("t/exact"), [0; 10]).unwrap();
    fs::write(temp.path().join("t/long"), [0; 11]).unwrap();
    let filter = Filter::new(Vec::new(), false, Some(10)).unwrap();
    assert_eq!(listed(&walk(temp.path(), &["t"], &filter).unwrap()), ["t", "t/exact", "t/small"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The filter asked about every entry of the whole walk, a folder before what it holds, is the model.
    #[test]
    fn a_filtered_walk_is_the_walk_filtered(
        files in prop::collection::btree_set(name(4), 1..16),
        lines in prop::collection::vec(line(), 0..5),
        no_hidden in any::<bool>(),
        most in prop::option::of(0u64..4),
    ) {
        let temp = tempfile::tempdir().unwrap();
        for (length, file) in files.iter().enumerate() {
            let path = temp.path().join("t").join(file);
            // What was made as a file is no folder, and the other way round.
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
                fs::write(&path, vec![0; length % 6]).unwrap();
            }
        }
        let filter = Filter::new(vec![Rule::Lines(lines.join("\n"))], no_hidden, most).unwrap();
        let whole = walk(temp.path(), &["t"], &Filter::default()).unwrap();
        let mut expected = vec!["t".to_owned()];
        let mut out = BTreeSet::new();
        let takes_top = filter.takes_given(OsStr::new("t"), true, 0);
        for entry in whole.entries.iter().skip(1) {
            let path = Path::new(entry.path.as_str());
            if path.ancestors().skip(1).any(|above| out.contains(above)) {
                continue;
            }
            let is_folder = entry.kind == EntryKind::Folder;
            let bytes = if let EntryKind::File { length } = entry.kind { length.0 } else { 0 };
            if filter.takes(path.strip_prefix("t").unwrap(), is_folder, bytes) {
                expected.push(entry.path.as_str().to_owned());
            } else {
                out.insert(path.to_owned());
            }
        }
        match walk(temp.path(), &["t"], &filter) {
            Ok(walked) => {
                prop_assert!(takes_top);
                prop_assert_eq!(listed(&walked), expected);
                prop_assert_eq!(walked.left_out.files + walked.left_out.folders, out.len() as u64);
            }
            Err(SourceError::AllLeftOut { .. }) => {
                let is_folder = |path: &String| temp.path().join(path).is_dir();
                prop_assert!(!takes_top || (!out.is_empty() && expected.iter().all(is_folder)));
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

/// A path of up to `most` components, of which several share their names.
fn name(most: usize) -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "ab", ".a", "a.log", "b.log", "build", "x y"]);
    prop::collection::vec(part, 1..=most).prop_map(|parts| parts.join("/"))
}

fn line() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "*", "**", "?", "*.log", "build", "[ab]", "a*", ".*"]);
    let body = prop::collection::vec(part, 1..=3).prop_map(|parts| parts.join("/"));
    let ends = (any::<bool>(), any::<bool>(), any::<bool>());
    (body, ends).prop_map(|(body, (keep, start, end))| {
        format!("{}{}{body}{}", if keep { "!" } else { "" }, if start { "/" } else { "" }, if end { "/" } else { "" })
    })
}

fn tree(files: &[&str]) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    for file in files {
        let path = temp.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }
    temp
}

fn filter(patterns: &[&str], no_hidden: bool) -> Filter {
    let rules = patterns.iter().map(|pattern| Rule::Exclude((*pattern).to_owned()));
    Filter::new(rules.collect(), no_hidden, None).unwrap()
}

fn walk(root: &Path, given: &[&str], filter: &Filter) -> Result<Walk, SourceError> {
    let paths: Vec<PathBuf> = given.iter().map(|path| root.join(path)).collect();
    Source::walk(&paths, &WalkOptions { filter: filter.clone(), ..WalkOptions::default() })
}

fn listed(walk: &Walk) -> Vec<String> {
    walk.entries.iter().map(|entry| entry.path.as_str().to_owned()).collect()
}
