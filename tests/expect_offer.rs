//! `haul receive --expect`: nothing is taken but the files of a manifest, whatever is offered and however it goes on.

#![allow(clippy::unwrap_used)]

#[path = "support/listening.rs"]
mod listening;
#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;

use process::{Playground, Received, noise, run};
use proxy::{Proxy, Then};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const MIB: u64 = 1 << 20;
const BIG: usize = 3_000_000;

#[test]
fn the_very_files_are_taken_whatever_their_modes_and_times() {
    let playground = Playground::new();
    let tree = tree(&playground);
    let manifest = manifest(&playground, &tree);
    touch(&tree.join("a"), 1000);
    fs::set_permissions(tree.join("b"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let sending = playground.send(&[&tree], &[]);
    let into = playground.dir("into");
    let received = expecting(&playground, &sending.link, &into, &manifest);
    received.assert_ok();
    assert!(fs::read(into.join("tree/b")).unwrap() == noise(BIG, 1));
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn other_paths_kinds_and_lengths_are_refused_before_anything_is_written() {
    let playground = Playground::new();
    let tree = tree(&playground);
    let manifest = manifest(&playground, &tree);
    let changes: [(&str, &dyn Fn(), &str); 5] = [
        ("one more", &|| fs::write(tree.join("c"), b"c").unwrap(), "`tree/c` is offered and not in the manifest"),
        (
            "one less",
            &|| {
                fs::remove_file(tree.join("c")).unwrap();
                fs::rename(tree.join("a"), tree.join("z")).unwrap();
            },
            "`tree/a` is not offered",
        ),
        (
            "longer",
            &|| {
                fs::rename(tree.join("z"), tree.join("a")).unwrap();
                fs::write(tree.join("b"), noise(BIG + 1, 1)).unwrap();
            },
            "`tree/b` is offered with 3000001 bytes instead of 3000000",
        ),
        (
            "another kind",
            &|| {
                fs::remove_file(tree.join("b")).unwrap();
                fs::create_dir(tree.join("b")).unwrap();
            },
            "`tree/b` is offered as something else than in the manifest",
        ),
        (
            "a sibling",
            &|| {
                fs::remove_dir(tree.join("b")).unwrap();
                symlink("a", tree.join("b")).unwrap();
            },
            "`tree/b` is not offered",
        ),
    ];
    for (case, change, words) in changes {
        change();
        let sending = playground.send(&[&tree], &["--keep"]);
        let into = playground.dir(&format!("into {case}"));
        let received = expecting(&playground, &sending.link, &into, &manifest);
        let done = received.assert_exit(40);
        assert_eq!(done["error"], format!("what is offered is not what the manifest says: {words}"), "{case}");
        assert_eq!(fs::read_dir(&into).unwrap().count(), 0, "{case}: nothing is written, not even for a moment's work");
        assert!(received.events.iter().all(|event| event["event"] != "listing"), "{case}: nobody is asked");
        sending.kill();
    }
}

#[test]
fn other_content_of_the_same_length_is_refused_as_soon_as_its_hashes_come() {
    let playground = Playground::new();
    let tree = tree(&playground);
    let manifest = manifest(&playground, &tree);
    let file = OpenOptions::new().write(true).open(tree.join("b")).unwrap();
    file.write_all_at(b"x", 2_700_000).unwrap();
    let sending = playground.send(&[&tree], &["--keep"]);
    let into = playground.dir("into");
    fs::create_dir(into.join("tree")).unwrap();
    fs::write(into.join("tree/b"), b"mine").unwrap();
    for _ in 0..2 {
        let mut command = playground.command("receive");
        command.arg(&sending.link).arg("--into").arg(&into).args(["--yes", "--json", "--overwrite", "--expect"]);
        let received = Playground::start_receive({
            command.arg(&manifest);
            command
        });
        let received = received.wait();
        let done = received.assert_exit(40);
        let words =
            "what is offered is not what the manifest says: `tree/b` is offered with other content: chunk 10 differs";
        assert_eq!(done["error"], words);
        assert_eq!(fs::read(into.join("tree/b")).unwrap(), b"mine");
        assert!(received.stderr.contains("next:  ask the sender which files those are"), "{received:?}");
    }
    sending.kill();
}

#[test]
fn what_an_earlier_run_took_without_a_manifest_is_not_believed() {
    let playground = Playground::new();
    let tree = playground.dir("tree");
    fs::write(tree.join("a"), noise(1000, 5)).unwrap();
    fs::write(tree.join("b"), noise(BIG, 1)).unwrap();
    let manifest = manifest(&playground, &tree);
    // Another file of the same name and length is sent, in a transfer of which the rest fails.
    fs::write(tree.join("a"), noise(1000, 6)).unwrap();
    for path in ["a", "b", "."] {
        touch(&tree.join(path), 1000);
    }
    let sending = playground.send(&[&tree], &["--keep"]);
    fs::write(tree.join("b"), b"short").unwrap();
    let into = playground.dir("into");
    let received = playground.receive(&sending.link, &into, &[]).wait();
    assert!(matches!(received.status.code(), Some(23 | 24)), "{received:?}");
    assert!(fs::read(into.join("tree/a")).unwrap() == noise(1000, 6));
    sending.kill();
    fs::write(tree.join("b"), noise(BIG, 1)).unwrap();
    touch(&tree.join("b"), 1000);
    let sending = playground.send(&[&tree], &["--keep"]);
    let done = expecting(&playground, &sending.link, &into, &manifest).assert_exit(40).clone();
    assert!(done["error"].as_str().unwrap().contains("`tree/a` is offered with other content: chunk 0"), "{done}");
    assert!(!into.join("tree/b").exists());
    // Without the manifest the same transfer goes on where it was.
    let done = playground.receive(&sending.link, &into, &[]).wait().assert_ok().clone();
    assert!(done["bytes_reused"].as_u64().unwrap() >= 1000, "{done}");
    sending.kill();
}

#[test]
fn a_transfer_that_is_continued_still_takes_nothing_else() {
    let playground = Playground::new();
    let file = playground.file("data", 24 << 20, 7);
    let wanted = manifest(&playground, &file);
    let sending = playground.send(&[&file], &["--keep"]);
    let proxy = Proxy::new(&sending.link, 16 * MIB, Then::Stall);
    let into = playground.dir("into");
    let expect = wanted.to_str().unwrap();
    let mut receiving = playground.receive(&proxy.link(&sending.link), &into, &["--expect", expect]);
    let is_half = |event: &Value| event["bytes_done"].as_u64().is_some_and(|bytes| bytes >= 8 * MIB);
    assert!(receiving.wait_until(is_half));
    receiving.kill();
    proxy.release();
    let resume = || {
        let mut command = playground.command("resume");
        command.arg(&into).arg("--json");
        Playground::start_receive(command).wait()
    };
    let kept = fs::read(&wanted).unwrap();
    fs::remove_file(&wanted).unwrap();
    let gone = resume();
    let error = gone.assert_exit(11)["error"].as_str().unwrap();
    assert!(error.contains("was demanded and is needed to go on"), "{error}");
    let other = playground.file("other", 24 << 20, 8);
    fs::rename(manifest(&playground, &other), &wanted).unwrap();
    let error = resume().assert_exit(11)["error"].to_string();
    assert!(error.contains("it is another one by now"), "{error}");
    fs::write(&wanted, kept).unwrap();
    let done = resume().assert_ok().clone();
    assert!(done["bytes_reused"].as_u64().unwrap() >= 8 * MIB, "{done}");
    assert!(fs::read(into.join("data")).unwrap() == noise(24 << 20, 7));
    sending.kill();
}

#[test]
fn a_listener_turns_away_what_is_not_the_content_of_its_manifest() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let manifest = manifest(&playground, &file);
    let other = playground.file("elsewhere/data", 1000, 2);
    let into = playground.dir("into");
    let listening = playground.listen(&into, &["--keep", "--expect", manifest.to_str().unwrap()]);
    let pushed = playground.push(&[&other], &listening.link, &[]).wait();
    assert_eq!(pushed.done()["exit"], 41, "{pushed:?}");
    assert!(!into.join("data").exists());
    playground.push(&[&file], &listening.link, &[]).wait().assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == noise(1000, 1));
    listening.run.kill();
}

#[test]
fn a_manifest_that_cannot_be_used_ends_the_run_before_any_connection() {
    let playground = Playground::new();
    let list = playground.path("list");
    fs::write(&list, format!("{}  a\n", "0".repeat(64))).unwrap();
    for (bad, words) in [(playground.path("none"), "No such file"), (list, "a list of hashes of whole files")] {
        let mut command = playground.command("receive");
        command.args(["HTTP://127.0.0.1:1/x#y", "--yes", "--json", "--expect"]).arg(&bad);
        let ran = run(command.current_dir(playground.path(".")));
        assert_eq!(ran.code, Some(11), "{ran:?}");
        assert!(ran.stderr.contains(words) && ran.stderr.contains("or receive without --expect"), "{ran:?}");
        assert_eq!(ran.events().last().unwrap()["event"], "done");
        let mut command = playground.command("receive");
        let ran = run(command.args(["--yes", "--json", "--expect"]).arg(&bad).current_dir(playground.path(".")));
        assert_eq!(ran.code, Some(11), "{ran:?}");
    }
}

#[test]
fn the_very_file_may_get_another_name_or_go_to_standard_output() {
    let playground = Playground::new();
    let file = playground.file("data", BIG, 1);
    let manifest = manifest(&playground, &file);
    let expect = manifest.to_str().unwrap();
    let sending = playground.send(&[&file], &["--keep"]);
    let receive = |sending: &str, flags: &[&str]| {
        let mut command = playground.command("receive");
        run(command.arg(sending).args(["--yes", "--expect", expect, "--out"]).args(flags))
    };
    let named = playground.path("named");
    let ran = receive(&sending.link, &[named.to_str().unwrap(), "-n"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("named  (fetched)\n") && !named.exists(), "{ran:?}");
    let ran = receive(&sending.link, &[named.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(fs::read(&named).unwrap() == noise(BIG, 1));
    let mut command = playground.command("receive");
    let streamed = command.arg(&sending.link).args(["--yes", "--expect", expect, "--out", "-"]).output().unwrap();
    assert_eq!(streamed.status.code(), Some(0), "{streamed:?}");
    assert!(streamed.stdout == noise(BIG, 1));
    sending.kill();
    fs::write(&file, noise(BIG, 2)).unwrap();
    let sending = playground.send(&[&file], &["--keep"]);
    for out in [playground.path("other").to_str().unwrap(), "-"] {
        let ran = receive(&sending.link, &[out]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(40), ""), "{ran:?}");
        assert!(ran.stderr.contains("`data` is offered with other content: chunk 0 differs"), "{ran:?}");
    }
    assert!(!playground.path("other").exists());
    sending.kill();
}

fn expecting(playground: &Playground, link: &str, into: &Path, manifest: &Path) -> Received {
    playground.receive(link, into, &["--expect", manifest.to_str().unwrap()]).wait()
}

fn tree(playground: &Playground) -> PathBuf {
    let tree = playground.dir("tree");
    fs::write(tree.join("a"), b"").unwrap();
    fs::write(tree.join("b"), noise(BIG, 1)).unwrap();
    fs::create_dir(tree.join("folder")).unwrap();
    tree
}

fn manifest(playground: &Playground, path: &Path) -> PathBuf {
    let out = playground.path(&format!("{}.manifest", path.file_name().unwrap().to_str().unwrap()));
    let mut command = playground.command("manifest");
    let made = run(command.arg(path).arg("-o").arg(&out));
    assert_eq!(made.code, Some(0), "{made:?}");
    out
}

fn touch(path: &Path, seconds: u64) {
    File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}
