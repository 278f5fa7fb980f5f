//! Sources that are no plain files, or that change while they are sent: told apart, and never the end of the others.

#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;

use process::{Playground, Received, noise, run};
use proxy::{Proxy, Then};
use serde_json::Value;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

const BIG: usize = 40 << 20;
const CUT: u64 = 16 << 20;

#[test]
fn row_89_what_is_no_file_or_folder_is_refused_by_name_or_skipped_in_a_tree() {
    let playground = Playground::new();
    let source = playground.dir("source");
    fs::write(source.join("kept"), b"kept").unwrap();
    let fifo = source.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    symlink(".", source.join("loop")).unwrap();
    symlink("loop/../loop", source.join("loop2")).unwrap();
    symlink("/etc/passwd", source.join("out")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    for special in [fifo.as_path(), Path::new("/dev/zero"), &source.join("socket")] {
        let ran = run(playground.command("send").arg(special).args(["--bind", "127.0.0.1:0", "--json"]));
        assert_eq!(ran.code, Some(11), "{}: {ran:?}", special.display());
        assert_eq!(ran.events().last().unwrap()["exit"], 11);
    }
    let sending = playground.send(&[&source], &[]);
    let into = playground.dir("into");
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    let (_, events, _) = sending.wait_for_all();
    let warnings: Vec<_> = events.iter().filter(|event| event["event"] == "warning").map(Value::to_string).collect();
    for skipped in ["fifo", "loop", "loop2", "out", "socket"] {
        assert!(warnings.iter().any(|text| text.contains(skipped)), "{skipped} is skipped with a notice: {warnings:?}");
    }
    let arrived: Vec<_> = fs::read_dir(into.join("source")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(arrived, ["kept"]);
}

#[test]
fn row_89_what_cannot_be_read_is_skipped_and_counted() {
    let playground = Playground::new();
    fs::set_permissions(playground.path("."), Permissions::from_mode(0o755)).unwrap();
    let source = playground.dir("source");
    fs::write(source.join("open"), b"open").unwrap();
    fs::write(source.join("closed"), b"closed").unwrap();
    fs::set_permissions(source.join("closed"), Permissions::from_mode(0o000)).unwrap();
    fs::create_dir(source.join("shut")).unwrap();
    fs::set_permissions(source.join("shut"), Permissions::from_mode(0o700)).unwrap();
    let program = playground.path("haul");
    fs::copy(env!("CARGO_BIN_EXE_haul"), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program).arg("send").arg(&source);
    command.args(["--bind", "127.0.0.1:0", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped());
    command.env("XDG_STATE_HOME", playground.path("state")).env("XDG_CACHE_HOME", playground.path("cache"));
    let sending = playground.start_send(command);
    let into = playground.dir("into");
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    let (code, events, _) = sending.wait_for_all();
    assert_eq!(code, Some(23), "not everything that was named was sent: {events:?}");
    let told = events.iter().map(Value::to_string).collect::<String>();
    assert!(told.contains("closed") && told.contains("shut"), "{told}");
    assert_eq!(fs::read(into.join("source/open")).unwrap(), b"open");
    assert!(!into.join("source/closed").exists());
}

#[test]
fn row_89_a_file_longer_than_any_transfer_is_refused_or_skipped() {
    let playground = Playground::new();
    // tmpfs holds sparse files of any length that an offset can name.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let long = folder.path().join("long");
    File::create(&long).unwrap().set_len((1 << 53) + 1).unwrap();
    fs::write(folder.path().join("short"), b"short").unwrap();
    let ran = run(playground.command("send").arg(&long).args(["--bind", "127.0.0.1:0", "--json"]));
    assert_eq!(ran.code, Some(11), "{ran:?}");
    let sending = playground.send(&[folder.path()], &[]);
    let into = playground.dir("into");
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    let (_, events, _) = sending.wait_for_all();
    assert!(events.iter().any(|event| event["event"] == "warning" && event.to_string().contains("long")), "{events:?}");
    assert_eq!(fs::read(into.join(folder.path().file_name().unwrap()).join("short")).unwrap(), b"short");
}

#[test]
fn fault_source_truncated_c_and_its_kin_fail_that_file_alone() {
    let changes: [(&str, Change); 4] = [
        ("truncated", |path| OpenOptions::new().write(true).open(path).unwrap().set_len(1000).unwrap()),
        ("emptied", |path| OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap()),
        ("grown", |path| {
            let file = OpenOptions::new().append(true).open(path).unwrap();
            std::io::Write::write_all(&mut &file, b"more").unwrap();
        }),
        ("rewritten", |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&noise(BIG, 99), 0).unwrap();
        }),
    ];
    for (name, change) in changes {
        let changed = Changed::after(change);
        let received = &changed.received;
        received.assert_exit(24);
        assert!(!changed.into.join("source/big").exists(), "{name}: nothing half new appears");
        assert!(fs::read(changed.into.join("source/zzz")).unwrap() == noise(300_000, 2), "{name}: the others arrive");
        assert!(fs::read(changed.into.join("source/aaa")).unwrap() == noise(300_000, 3), "{name}");
        let failed: Vec<_> =
            received.events.iter().filter(|event| event["ok"] == false && event["path"].is_string()).collect();
        assert_eq!(failed.len(), 1, "{name}: {failed:?}");
        assert_eq!(
            (&failed[0]["path"], &failed[0]["class"]),
            (&"source/big".into(), &"source_changed".into()),
            "{name}"
        );
        // The sender lives on, and what is there now arrives when it is offered anew.
        let again = changed.playground.send(&[&changed.playground.path("source")], &[]);
        changed.playground.receive(&again.link, &changed.into, &["--overwrite"]).wait().assert_ok();
        let now = fs::read(changed.playground.path("source/big")).unwrap();
        assert!(fs::read(changed.into.join("source/big")).unwrap() == now, "{name}");
    }
}

#[test]
fn fault_source_deleted_c_keeps_being_served_from_the_open_file() {
    let changes: [(&str, Change); 4] = [
        ("deleted", |path| fs::remove_file(path).unwrap()),
        ("renamed", |path| fs::rename(path, path.with_extension("away")).unwrap()),
        ("replaced", |path| {
            let other = path.with_extension("other");
            fs::write(&other, noise(BIG, 98)).unwrap();
            fs::rename(other, path).unwrap();
        }),
        ("closed", |path| fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap()),
    ];
    for (name, change) in changes {
        let changed = Changed::after(change);
        match changed.received.status.code() {
            Some(0) => assert!(fs::read(changed.into.join("source/big")).unwrap() == noise(BIG, 1), "{name}"),
            // ctime is part of what identifies a source, and a rename or an unlink changes it.
            Some(24) => assert!(!changed.into.join("source/big").exists(), "{name}"),
            _ => panic!("{name}: {:#?}", changed.received),
        }
        changed.received.done();
        assert!(fs::read(changed.into.join("source/zzz")).unwrap() == noise(300_000, 2), "{name}: the others arrive");
        assert!(fs::read(changed.into.join("source/aaa")).unwrap() == noise(300_000, 3), "{name}");
    }
}

#[test]
fn the_source_is_never_changed() {
    let playground = Playground::new();
    let file = playground.file("data", 1 << 20, 1);
    let before = fs::metadata(&file).unwrap();
    let sending = playground.send(&[&file], &[]);
    playground.receive(&sending.link, &playground.dir("into"), &[]).wait().assert_ok();
    sending.wait();
    let after = fs::metadata(&file).unwrap();
    assert_eq!((before.modified().unwrap(), before.len()), (after.modified().unwrap(), after.len()));
    assert_eq!(before.permissions(), after.permissions());
}

/// What happens to a file while it is being sent.
type Change = fn(&Path);

/// A tree of which `big` was changed while it was being sent, and how its receiver ended.
struct Changed {
    playground: Playground,
    into: std::path::PathBuf,
    received: Received,
}

impl Changed {
    fn after(change: Change) -> Self {
        let playground = Playground::new();
        let source = playground.dir("source");
        playground.file("source/big", BIG, 1);
        playground.file("source/zzz", 300_000, 2);
        playground.file("source/aaa", 300_000, 3);
        let into = playground.dir("into");
        let sending = playground.send(&[&source], &["--keep"]);
        let proxy = Proxy::new(&sending.link, CUT, Then::Stall);
        let receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
        proxy.wait_until_reached();
        change(&source.join("big"));
        proxy.release();
        let received = receiving.wait();
        assert!(Path::new(&format!("/proc/{}", sending.id())).exists(), "the sender goes on");
        sending.kill();
        Self { playground, into, received }
    }
}
