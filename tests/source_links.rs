//! Links and extended attributes in a walk: what is listed of them, and what is left out with its reason.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use haul::limits::ATTRIBUTES_BYTES_MAX;
use haul::manifest::TargetFault;
use haul::rel_path::PathFault;
use haul::source::{EntryKind, NoticeReason, Source, SourceEntry, Walk, WalkOptions};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

#[test]
fn links_that_stay_in_their_tree_are_listed_and_the_rest_is_left_out_with_the_reason() {
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("t");
    fs::create_dir_all(tree.join("d/e")).unwrap();
    fs::write(tree.join("d/file"), b"x").unwrap();
    let good =
        [("t/a", "d/file"), ("t/d/e/up", "../../a"), ("t/d/gone", "none"), ("t/d/here", "."), ("t/d/odd", "é/ x")];
    for (path, target) in good {
        symlink(target, temp.path().join(path)).unwrap();
    }
    symlink("/etc/passwd", tree.join("out1")).unwrap();
    symlink("../outside", tree.join("out2")).unwrap();
    symlink("d/../../outside", tree.join("out3")).unwrap();
    symlink("a\\b", tree.join("out4")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), tree.join("out5")).unwrap();
    symlink("../../t/file", tree.join("d/out6")).unwrap();
    let walk = walk(&[tree], &WalkOptions { symlinks: true, ..WalkOptions::default() });
    let listed: Vec<(&str, &str)> =
        walk.entries.iter().filter_map(|it| Some((it.path.as_str(), target(it)?))).collect();
    assert_eq!(listed, good);
    let reasons: Vec<_> = walk.notices.iter().map(|notice| format!("{:?}", notice.reason)).collect();
    assert_eq!(
        reasons,
        [
            format!("{:?}", NoticeReason::UnsafeTarget(TargetFault::Leaves)),
            format!("{:?}", NoticeReason::UnsafeTarget(TargetFault::Absolute)),
            format!("{:?}", NoticeReason::UnsafeTarget(TargetFault::Leaves)),
            format!("{:?}", NoticeReason::UnsafeTarget(TargetFault::Winding)),
            format!("{:?}", NoticeReason::UnsafeName(PathFault::Backslash)),
            format!("{:?}", NoticeReason::TargetNotUtf8),
        ]
    );
    assert_eq!(walk.failures, 6, "what was asked for and is not sent makes a transfer partial");
    assert!(
        walk.notices
            .iter()
            .any(|notice| notice.to_string().ends_with("`..` behind a name, which may be a link itself"))
    );
}

#[test]
fn links_are_left_out_with_a_notice_where_nobody_asks_for_them() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("t")).unwrap();
    symlink(".", temp.path().join("t/a")).unwrap();
    let walk = walk(&[temp.path().join("t")], &WalkOptions::default());
    assert_eq!((walk.entries.len(), walk.failures), (1, 0));
    assert!(matches!(walk.notices[0].reason, NoticeReason::Symlink));
}

#[test]
fn a_given_link_is_followed_whatever_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), b"x").unwrap();
    symlink("file", temp.path().join("link")).unwrap();
    let walk = walk(&[temp.path().join("link")], &WalkOptions { symlinks: true, ..WalkOptions::default() });
    assert!(matches!(walk.entries[0].kind, EntryKind::File { .. }));
    assert_eq!(walk.entries[0].path.as_str(), "link");
}

#[test]
fn further_names_of_a_file_are_links_to_the_first_also_between_given_paths() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    fs::create_dir_all(at("t/d")).unwrap();
    fs::create_dir(at("u")).unwrap();
    fs::write(at("t/b"), b"twelve bytes").unwrap();
    fs::write(at("t/c"), b"twelve bytes").unwrap();
    for other in ["t/a", "t/d/x", "u/y"] {
        fs::hard_link(at("t/b"), at(other)).unwrap();
    }
    // One of two names, the other of which is not sent.
    fs::write(at("outside"), b"1").unwrap();
    fs::hard_link(at("outside"), at("u/z")).unwrap();
    let walk = walk(&[at("t"), at("u")], &WalkOptions::default());
    let listed: Vec<String> = walk
        .entries
        .iter()
        .map(|entry| match &entry.kind {
            EntryKind::HardLink { to } => {
                format!("{} = {}", entry.path.as_str(), walk.entries[*to as usize].path.as_str())
            }
            _ => entry.path.as_str().to_owned(),
        })
        .collect();
    assert_eq!(listed, ["t", "t/a", "t/b = t/a", "t/c", "t/d", "t/d/x = t/a", "u", "u/y = t/a", "u/z"]);
    assert_eq!(walk.total.0, 12 + 12 + 1, "its bytes count once");
    assert!(walk.notices.is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn attributes_of_users_are_read_in_order_and_no_others() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    fs::create_dir(at("t")).unwrap();
    fs::write(at("t/file"), b"x").unwrap();
    fs::write(at("t/plain"), b"x").unwrap();
    set(&at("t/file"), "user.b", b"2");
    set(&at("t/file"), "user.a", &[0, 255, 10]);
    set(&at("t"), "user.folder", b"");
    // Only root may set it; as somebody else there is nothing to leave out.
    let _ = rustix::fs::setxattr(at("t/file"), "trusted.x", b"1", rustix::fs::XattrFlags::empty());
    let with = walk(&[at("t")], &WalkOptions { attributes: true, ..WalkOptions::default() });
    assert_eq!(attributes(&with.entries[0]), [("user.folder", &b""[..])]);
    assert_eq!(attributes(&with.entries[1]), [("user.a", &[0, 255, 10][..]), ("user.b", b"2")]);
    assert_eq!(attributes(&with.entries[2]), []);
    assert!(with.notices.is_empty());
    let without = walk(&[at("t")], &WalkOptions::default());
    assert!(without.entries.iter().all(|entry| entry.attributes.is_empty()));
}

#[cfg(target_os = "linux")]
#[test]
fn an_attribute_too_long_to_send_is_left_out_with_a_notice() {
    let Some(temp) = folder_for_long_attributes() else { return };
    let file = temp.path().join("file");
    fs::write(&file, b"x").unwrap();
    set(&file, "user.long", &vec![7; ATTRIBUTES_BYTES_MAX + 1]);
    set(&file, "user.short", b"1");
    let walk = walk(&[file], &WalkOptions { attributes: true, ..WalkOptions::default() });
    assert_eq!(attributes(&walk.entries[0]), [("user.short", &b"1"[..])]);
    assert!(matches!(walk.notices[0].reason, NoticeReason::Attributes(1)));
    assert_eq!(walk.failures, 0, "the file itself is sent");
}

/// ext4 holds a block of attributes, which is less than is sent; tmpfs holds more, since Linux 6.6.
#[cfg(target_os = "linux")]
fn folder_for_long_attributes() -> Option<tempfile::TempDir> {
    for temp in [tempfile::tempdir(), tempfile::tempdir_in("/dev/shm")].into_iter().flatten() {
        let probe = temp.path().join("probe");
        fs::write(&probe, b"").unwrap();
        let long = vec![1; ATTRIBUTES_BYTES_MAX + 1];
        if rustix::fs::setxattr(&probe, "user.probe", &long, rustix::fs::XattrFlags::empty()).is_ok() {
            return Some(temp);
        }
    }
    eprintln!("skipped: no file system here holds an attribute of more than {ATTRIBUTES_BYTES_MAX} bytes");
    None
}

fn walk(paths: &[PathBuf], options: &WalkOptions) -> Walk {
    Source::walk(paths, options).unwrap()
}

fn target(entry: &SourceEntry) -> Option<&str> {
    match &entry.kind {
        EntryKind::Symlink { target } => Some(target.as_str()),
        _ => None,
    }
}

fn attributes(entry: &SourceEntry) -> Vec<(&str, &[u8])> {
    entry.attributes.list().iter().map(|attribute| (&*attribute.name, &*attribute.value)).collect()
}

#[cfg(target_os = "linux")]
fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}
