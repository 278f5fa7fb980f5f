//! `haul manifest`: what it writes is what a transfer shows, and what `b3sum` takes.

#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use haul::manifest::EntryKind;
use haul::transfer::ManifestFile;
use process::{Playground, Ran, noise, run};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NOBODY_ID: &str = "65534";

#[test]
fn a_manifest_holds_what_a_transfer_of_the_same_paths_shows() {
    let playground = Playground::new();
    let tree = tree(&playground);
    let single = playground.file("single", 700_000, 9);
    let out = playground.path("m");
    let made = manifest(&playground, &[&tree, &single], &out, &[]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let events = made.events();
    let done = events.last().unwrap();
    assert_eq!((&done["event"], &done["ok"], &done["exit"]), (&"done".into(), &true.into(), &0.into()));
    assert_eq!(events.iter().filter(|event| event["event"] == "done").count(), 1);
    let phases: Vec<_> = events.iter().filter(|event| event["event"] == "phase").map(|it| &it["phase"]).collect();
    assert_eq!(phases, ["scanning", "hashing", "finalising"]);

    let sending = playground.send(&[&tree, &single], &[]);
    let received = playground.receive(&sending.link, &playground.dir("into"), &[]).wait();
    assert_eq!(received.assert_ok()["root"], done["root"], "the id is that of a transfer");
    let read = ManifestFile::open(&out).unwrap();
    assert_eq!(read.id().to_string(), done["root"].as_str().unwrap());
    let paths: Vec<_> = read.listing().entries().iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["single", "tree", "tree/big", "tree/empty", "tree/sub", "tree/sub/a b", "tree/sub/zero"]);
    assert!(matches!(read.listing().entries()[3].kind, EntryKind::Folder));

    let alone = manifest(&playground, &[&single], &playground.path("m1"), &[]);
    let root = blake3::hash(&fs::read(&single).unwrap()).to_hex().to_string();
    assert_eq!(alone.events().last().unwrap()["root"], root.as_str(), "one file alone is shown by its root, as ever");
}

#[test]
fn lines_for_b3sum_are_the_hashes_of_whole_files_in_the_order_of_the_listing() {
    let playground = Playground::new();
    let tree = tree(&playground);
    let mut command = playground.command("manifest");
    let made = run(command.arg(&tree).args(["--b3sum", "-o", "-", "-q"]));
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
    let expected: Vec<_> = ["tree/big", "tree/sub/a b", "tree/sub/zero"]
        .iter()
        .map(|path| format!("{}  {path}", blake3::hash(&fs::read(playground.path(path)).unwrap()).to_hex()))
        .collect();
    assert_eq!(made.stdout, expected.join("\n") + "\n");
    // Where the program itself is here, it has the last word.
    let list = playground.path("list");
    fs::write(&list, &made.stdout).unwrap();
    let mut b3sum = Command::new("b3sum");
    if let Ok(output) = b3sum.arg("--check").arg(&list).current_dir(playground.path(".")).output() {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let mut verify = playground.command("verify");
    assert_eq!(run(verify.arg(&list).arg(playground.path("."))).code, Some(0));
}

#[test]
fn a_manifest_on_standard_output_is_the_same_one() {
    let playground = Playground::new();
    let tree = tree(&playground);
    let out = playground.path("m");
    assert_eq!(manifest(&playground, &[&tree], &out, &[]).code, Some(0));
    let mut command = playground.command("manifest");
    let output = command.arg(&tree).args(["-o", "-"]).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == fs::read(&out).unwrap());
    let mut command = playground.command("manifest");
    let refused = run(command.arg(&tree).args(["-o", "-", "--json"]));
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert_eq!(refused.events().last().unwrap()["exit"], 2);
}

#[test]
fn a_name_that_is_taken_stays_unless_it_is_to_be_replaced() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let out = playground.path("m");
    fs::write(&out, "mine").unwrap();
    let refused = manifest(&playground, &[&file], &out, &[]);
    assert_eq!(refused.code, Some(44), "{refused:?}");
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    let folder = playground.dir("folder");
    assert_eq!(manifest(&playground, &[&file], &folder, &["--overwrite"]).code, Some(44));
    assert_eq!(manifest(&playground, &[&file], &out, &["--overwrite"]).code, Some(0));
    assert!(ManifestFile::open(&out).is_ok());
    let lost = manifest(&playground, &[&file], &playground.path("none/m"), &[]);
    assert_eq!(lost.code, Some(11), "{lost:?}");
    let gone = manifest(&playground, &[&playground.path("gone")], &playground.path("m2"), &[]);
    assert_eq!(gone.code, Some(11), "{gone:?}");
    let names: Vec<_> = names(&playground.path(".")).into_iter().filter(|name| name.starts_with(".haul")).collect();
    assert_eq!(names, Vec::<String>::new(), "nothing is left behind");
}

#[test]
fn a_manifest_that_is_replaced_does_not_list_itself() {
    let playground = Playground::new();
    let tree = tree(&playground);
    let out = tree.join("MANIFEST");
    for arguments in [&[][..], &["--overwrite"]] {
        assert_eq!(manifest(&playground, &[&tree], &out, arguments).code, Some(0));
        let mut verify = playground.command("verify");
        let ran = run(verify.arg(&out).arg(playground.path(".")));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    }
}

#[test]
fn what_cannot_be_listed_is_told_and_what_cannot_be_read_makes_it_partial() {
    let playground = Playground::new();
    let tree = tree(&playground);
    symlink("big", tree.join("link")).unwrap();
    fs::write(tree.join(OsStr::from_bytes(b"caf\xe9")), b"x").unwrap();
    let out = playground.path("m");
    let made = manifest(&playground, &[&tree], &out, &[]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let warnings: Vec<_> = made.events().into_iter().filter(|event| event["event"] == "warning").collect();
    assert_eq!(warnings.len(), 2, "{made:?}");

    fs::write(tree.join("a\\b"), b"x").unwrap();
    let made = manifest(&playground, &[&tree], &out, &["--overwrite"]);
    assert_eq!(made.code, Some(23), "{made:?}");
    assert!(made.stderr.contains("kept:  the manifest has everything else"), "{made:?}");
    assert_eq!(ManifestFile::open(&out).unwrap().listing().totals().files, 4);
}

#[test]
fn a_file_that_its_user_may_not_read_is_left_out_and_the_rest_is_listed() {
    let playground = Playground::new();
    let tree = tree(&playground);
    let out = playground.dir("out");
    open_to_all(&playground, &out);
    fs::set_permissions(tree.join("big"), mode(0o600)).unwrap();
    let ran = run(as_nobody(&playground, "manifest").arg(&tree).arg("--json").arg("-o").arg(out.join("m")));
    assert_eq!(ran.code, Some(23), "{ran:?}");
    assert_eq!(ran.events().last().unwrap()["exit"], 23);
    let read = ManifestFile::open(&out.join("m")).unwrap();
    assert_eq!((read.listing().totals().files, read.listing().totals().bytes), (2, 1000));
}

#[test]
fn a_second_manifest_reads_nothing_again() {
    let playground = Playground::new();
    let tree = tree(&playground);
    // What was just written may change without a trace for a moment, so it is hashed until its times have settled.
    let made = || manifest(&playground, &[&tree], &playground.path("m"), &["--overwrite"]);
    assert_eq!(made().code, Some(0));
    let before = fs::read(playground.path("m")).unwrap();
    assert!(fs::read_dir(playground.path("cache/haul")).unwrap().count() > 0, "the hashes of large files are kept");
    assert_eq!(made().code, Some(0));
    assert!(fs::read(playground.path("m")).unwrap() == before, "the same files make the same manifest");
}

fn tree(playground: &Playground) -> PathBuf {
    let tree = playground.dir("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    fs::write(tree.join("big"), noise(3_000_000, 1)).unwrap();
    fs::write(tree.join("sub/a b"), noise(1000, 2)).unwrap();
    fs::write(tree.join("sub/zero"), b"").unwrap();
    tree
}

fn manifest(playground: &Playground, paths: &[&Path], out: &Path, arguments: &[&str]) -> Ran {
    let mut command = playground.command("manifest");
    run(command.args(paths).arg("--json").arg("-o").arg(out).args(arguments))
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn mode(bits: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

/// Lets every user pass through the playground, and write into `folder`.
fn open_to_all(playground: &Playground, folder: &Path) {
    fs::set_permissions(playground.path("."), mode(0o755)).unwrap();
    fs::set_permissions(folder, mode(0o777)).unwrap();
}

/// The command as a user that owns nothing.
fn as_nobody(playground: &Playground, verb: &str) -> Command {
    let program = playground.path("haul");
    fs::copy(env!("CARGO_BIN_EXE_haul"), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY_ID, "--regid", NOBODY_ID, "--clear-groups"]).arg(program).arg(verb);
    command.env_remove("XDG_CACHE_HOME").stdin(Stdio::null()).stdout(Stdio::piped());
    command
}
