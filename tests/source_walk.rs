//! The walk on real folders: order, names, and everything that is left out.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use haul::chunk::Length;
use haul::limits::FILE_BYTES_MAX;
use haul::rel_path::PathFault;
use haul::source::{EntryKind, NoticeReason, Source, SourceError, Walk, WalkOptions};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

#[test]
fn a_folder_comes_before_what_it_holds_and_names_are_in_order() {
    let temp = Tree::new();
    for file in ["t/b/2", "t/b/1", "t/b-", "t/b.txt", "t/a/deep/er/x", "s", "t/Z"] {
        temp.file(file, b"content");
    }
    fs::create_dir(temp.at("t/empty")).unwrap();
    let walk = temp.walk(&["t", "s"]);
    let expected = "s t t/Z t/a t/a/deep t/a/deep/er t/a/deep/er/x t/b t/b/1 t/b/2 t/b- t/b.txt t/empty";
    assert_eq!(listed(&walk).join(" "), expected);
    assert!(walk.entries.is_sorted_by(|one, other| one.path < other.path));
    assert_eq!(walk.total, Length(7 * 7));
    assert!(walk.notices.is_empty() && walk.failures == 0);
    for (entry, listed) in (0..).zip(&walk.entries) {
        assert_eq!(walk.source.local_path(entry), temp.root().join(listed.path.as_str()));
    }
}

#[test]
fn kind_mode_and_time_are_as_on_disk() {
    let temp = Tree::new();
    temp.file("t/run", b"12345");
    fs::set_permissions(temp.at("t/run"), fs::Permissions::from_mode(0o6751)).unwrap();
    let modified = UNIX_EPOCH + Duration::new(1_000_000_007, 123_456_789);
    fs::File::open(temp.at("t/run")).unwrap().set_modified(modified).unwrap();
    fs::set_permissions(temp.at("t"), fs::Permissions::from_mode(0o1770)).unwrap();
    let walk = temp.walk(&["t"]);
    assert_eq!((&walk.entries[0].kind, walk.entries[0].mode), (&EntryKind::Folder, 0o770));
    let file = &walk.entries[1];
    assert_eq!((&file.kind, file.mode), (&EntryKind::File { length: Length(5) }, 0o751));
    assert_eq!((file.mtime_seconds, file.mtime_nanoseconds), (1_000_000_007, 123_456_789));
}

#[test]
fn times_before_1970_are_kept() {
    let temp = Tree::new();
    temp.file("old", b"");
    let modified = UNIX_EPOCH - Duration::new(10, 250_000_000);
    fs::File::open(temp.at("old")).unwrap().set_modified(modified).unwrap();
    let walk = temp.walk(&["old"]);
    assert_eq!((walk.entries[0].mtime_seconds, walk.entries[0].mtime_nanoseconds), (-11, 750_000_000));
}

#[test]
fn links_and_special_files_are_left_out_with_a_notice() {
    let temp = Tree::new();
    temp.file("t/file", b"x");
    temp.file("outside/secret", b"x");
    symlink("file", temp.at("t/link")).unwrap();
    symlink("../outside", temp.at("t/link-to-folder")).unwrap();
    symlink("..", temp.at("t/loop")).unwrap();
    symlink("nowhere", temp.at("t/broken")).unwrap();
    make_fifo(&temp.at("t/fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(temp.at("t/socket")).unwrap();
    let walk = temp.walk(&["t"]);
    assert_eq!(listed(&walk), ["t", "t/file"]);
    assert_eq!(
        notices(&temp, &walk),
        [
            "t/broken Symlink",
            "t/fifo Fifo",
            "t/link Symlink",
            "t/link-to-folder Symlink",
            "t/loop Symlink",
            "t/socket Socket"
        ]
    );
    assert_eq!(walk.failures, 0);
}

#[test]
fn devices_have_nothing_to_send() {
    let error = Source::walk(&["/dev/zero".into()], &WalkOptions::default()).unwrap_err();
    let SourceError::Nothing { notices } = error else { panic!("{error}") };
    assert!(matches!(notices[0].reason, NoticeReason::Device));
    let temp = Tree::new();
    temp.file("file", b"x");
    let walk = Source::walk(&[temp.at("file"), "/dev/zero".into()], &WalkOptions::default()).unwrap();
    assert_eq!((listed(&walk).join(" ").as_str(), walk.notices.len()), ("file", 1));
}

#[test]
fn a_given_link_is_followed_once_under_its_own_name() {
    let temp = Tree::new();
    temp.file("real/file", b"x");
    symlink("real", temp.at("alias")).unwrap();
    symlink("alias", temp.at("real/back")).unwrap();
    let walk = temp.walk(&["alias"]);
    assert_eq!(listed(&walk), ["alias", "alias/file"]);
    assert_eq!(walk.source.local_path(1), temp.root().join("real/file"));
}

#[test]
fn the_folder_of_unfinished_transfers_is_left_out_everywhere() {
    let temp = Tree::new();
    temp.file("t/.haul/x.part", b"x");
    temp.file("t/a/.haul/x.part", b"x");
    temp.file("t/a/kept", b"x");
    let walk = temp.walk(&["t"]);
    assert_eq!(listed(&walk), ["t", "t/a", "t/a/kept"]);
    assert_eq!(notices(&temp, &walk), ["t/.haul WorkFolder", "t/a/.haul WorkFolder"]);
    assert!(matches!(Source::walk(&[temp.at("t/.haul")], &WalkOptions::default()), Err(SourceError::Nothing { .. })));
}

#[test]
fn names_that_mislead_elsewhere_are_left_out_and_the_rest_goes() {
    let temp = Tree::new();
    for file in ["t/good", r"t/a\b", "t/line\nbreak", "t/\u{202e}gpj.exe", "t/bad\x1b/inner"] {
        temp.file(file, b"x");
    }
    let walk = temp.walk(&["t"]);
    assert_eq!(listed(&walk), ["t", "t/good"]);
    let faults: Vec<PathFault> = walk
        .notices
        .iter()
        .map(|notice| match notice.reason {
            NoticeReason::UnsafeName(fault) => fault,
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(faults, [PathFault::Backslash, PathFault::Control, PathFault::Control, PathFault::Misleading]);
    assert_eq!(walk.failures, 4);
    assert!(
        walk.notices.iter().all(|notice| !notice.to_string().contains(|c: char| c.is_control() || c == '\u{202e}'))
    );
}

#[test]
fn names_that_are_no_text_are_renamed_and_still_read() {
    let temp = Tree::new();
    fs::create_dir(temp.at("t")).unwrap();
    fs::write(temp.at("t").join(OsStr::from_bytes(b"caf\xe9")), b"latin").unwrap();
    fs::write(temp.at("t/caf%E9"), b"taken").unwrap();
    let walk = temp.walk(&["t"]);
    assert_eq!(listed(&walk), ["t", "t/caf%E9", "t/caf%E9~1"]);
    assert!(
        matches!(&walk.notices[..], [only] if matches!(&only.reason, NoticeReason::Renamed(path) if path.as_str() == "t/caf%E9~1"))
    );
    assert_eq!(walk.failures, 0);
    let mut bytes = [0; 5];
    walk.source.read_chunk_into(2, haul::chunk::ChunkIndex(0), 0..5, &mut bytes).unwrap();
    assert_eq!(&bytes, b"latin");
}

#[test]
fn a_file_beyond_the_limit_is_left_out_alone() {
    // Only some file systems hold a sparse file of this length; memory file systems do.
    let temp = Tree::of(tempfile::tempdir_in("/dev/shm").unwrap());
    temp.file("t/good", b"x");
    let file = fs::File::create(temp.at("t/long")).unwrap();
    file.set_len(FILE_BYTES_MAX).unwrap();
    assert_eq!(listed(&temp.walk(&["t"])), ["t", "t/good", "t/long"]);
    file.set_len(FILE_BYTES_MAX + 1).unwrap();
    let walk = temp.walk(&["t"]);
    assert_eq!(listed(&walk), ["t", "t/good"]);
    assert_eq!((notices(&temp, &walk), walk.failures), (vec!["t/long TooLong".to_owned()], 1));
}

#[test]
fn a_tree_deeper_than_the_limit_is_cut_there() {
    let temp = Tree::new();
    let folders = vec!["d"; 70].join("/");
    fs::create_dir_all(temp.at(&folders)).unwrap();
    let walk = temp.walk(&["d"]);
    assert_eq!(walk.entries.len(), 64);
    assert!(matches!(walk.notices[0].reason, NoticeReason::UnsafeName(PathFault::Deep)));
}

#[test]
fn equal_names_are_refused_naming_both() {
    let temp = Tree::new();
    temp.file("one/same", b"1");
    temp.file("two/same", b"2");
    let error = Source::walk(&[temp.at("one/same"), temp.at("two/same")], &WalkOptions::default()).unwrap_err();
    let SourceError::Clash { first, name, second } = &error else { panic!("{error}") };
    assert_eq!((first, name.as_str(), second), (&temp.at("one/same"), "same", &temp.at("two/same")));
    assert!(error.to_string().contains("one/same") && error.to_string().contains("two/same"));
}

#[test]
fn paths_without_a_name_take_that_of_their_folder_or_are_refused() {
    let temp = Tree::new();
    temp.file("t/u/file", b"x");
    for path in ["t/u/.", "t/u/../u", "t/u/", "t/../t/u"] {
        assert_eq!(listed(&temp.walk(&[path])), ["u", "u/file"], "{path}");
    }
    assert_eq!(listed(&temp.walk(&["t/u/.."]))[0], "t");
    assert!(matches!(Source::walk(&["/".into()], &WalkOptions::default()), Err(SourceError::Nameless { .. })));
    for missing in ["none", "t/u/file/none", ""] {
        let path = if missing.is_empty() { PathBuf::new() } else { temp.at(missing) };
        assert!(Source::walk(&[path], &WalkOptions::default()).is_err(), "{missing:?}");
    }
    let none = Source::walk(&[temp.at("none")], &WalkOptions::default()).unwrap_err();
    assert!(matches!(none, SourceError::Missing { .. }));
}

#[test]
fn more_given_folders_than_are_held_open_work_too() {
    let temp = Tree::new();
    let paths: Vec<PathBuf> = (0..150).map(|number| temp.file(&format!("{number}/file-{number}"), b"x")).collect();
    let walk = Source::walk(&paths, &WalkOptions::default()).unwrap();
    assert_eq!(walk.entries.len(), 150);
    for entry in 0..150 {
        let mut byte = [0];
        walk.source.read_chunk_into(entry, haul::chunk::ChunkIndex(0), 0..1, &mut byte).unwrap();
    }
}

/// Root may read everything, so as root the test runs itself again as somebody else.
#[test]
fn what_cannot_be_read_is_left_out_alone() {
    if let Some(root) = std::env::var_os("HAUL_TEST_TREE") {
        check_shut_files(Path::new(&root));
        return;
    }
    let temp = Tree::new();
    fs::set_permissions(temp.root(), fs::Permissions::from_mode(0o755)).unwrap();
    temp.file("t/open", b"x");
    temp.file("t/shut", b"x");
    temp.file("t/shut-folder/x", b"x");
    fs::set_permissions(temp.at("t/shut"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(temp.at("t/shut-folder"), fs::Permissions::from_mode(0o000)).unwrap();
    if rustix::process::geteuid().is_root() {
        let copy = temp.at("test");
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        let mut again = Command::new(&copy);
        again.args(["--exact", "what_cannot_be_read_is_left_out_alone"]).env("HAUL_TEST_TREE", temp.root());
        assert!(again.uid(65534).gid(65534).current_dir("/").status().unwrap().success());
    } else {
        check_shut_files(temp.root());
    }
    fs::set_permissions(temp.at("t/shut-folder"), fs::Permissions::from_mode(0o700)).unwrap();
}

fn check_shut_files(root: &Path) {
    let walk = Source::walk(&[root.join("t")], &WalkOptions::default()).unwrap();
    assert_eq!(listed(&walk), ["t", "t/open"]);
    assert_eq!(walk.failures, 2);
    assert!(walk.notices.iter().all(|notice| matches!(notice.reason, NoticeReason::Unreadable(_))));
}

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    fn of(temp: tempfile::TempDir) -> Self {
        Self(temp)
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn file(&self, path: &str, content: &[u8]) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn walk(&self, paths: &[&str]) -> Walk {
        let paths: Vec<PathBuf> = paths.iter().map(|path| self.at(path)).collect();
        Source::walk(&paths, &WalkOptions::default()).unwrap()
    }
}

fn listed(walk: &Walk) -> Vec<&str> {
    walk.entries.iter().map(|entry| entry.path.as_str()).collect()
}

fn notices(temp: &Tree, walk: &Walk) -> Vec<String> {
    let told = walk.notices.iter();
    told.map(|notice| format!("{} {:?}", notice.path.strip_prefix(temp.root()).unwrap().display(), notice.reason))
        .collect()
}

fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}
