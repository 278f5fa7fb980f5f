//! What scripts rely on: the link first, events alone on standard output, exit codes, no secret in any text.

#![allow(clippy::unwrap_used)]

#[path = "support/mount.rs"]
mod mount;
#[path = "support/process.rs"]
mod process;

use haul::secret::{Key, Link};
use mount::{Mount, may_mount};
use process::{Playground, Ran, noise, run};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

const NOBODY_ID: &str = "65534";

#[test]
fn the_first_line_of_send_is_the_link_and_it_can_be_reached() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let mut command = playground.command("send");
    let mut child = command.arg(&file).args(["--bind", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let link = line.trim_end();
    let parsed = Link::parse(link).unwrap();
    assert!(link.starts_with("HTTP://127.0.0.1:"), "{link}");
    TcpStream::connect(parsed.addresses()[0]).unwrap();

    let into = playground.dir("into");
    let mut receive = playground.command("receive");
    let received = run(receive.env("HAUL_LINK", link).arg("--into").arg(&into).arg("--yes"));
    assert_eq!(received.code, Some(0), "{received:?}");
    assert_eq!(received.stdout, "", "everything human is on standard error");
    assert!(received.stderr.contains("Received 1 file"), "{received:?}");
    assert_no_secret(&received.stderr, link);

    let (mut rest, mut stderr) = (String::new(), String::new());
    stdout.read_to_string(&mut rest).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(rest, "", "the link is all there is on standard output");
    assert!(stderr.contains("Sent 1 file"), "{stderr}");
    assert_no_secret(&stderr, link);
}

#[test]
fn with_json_both_ends_write_events_and_one_done_with_every_field() {
    let playground = Playground::new();
    let file = playground.file("data", 3 << 20, 1);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &[]);
    let link = sending.link.clone();
    let received = playground.receive(&link, &into, &[]).wait();
    let done = received.assert_ok();
    assert_done(done, 3 << 20);
    assert_eq!((&done["bytes_fetched"], &done["bytes_reused"]), (&(3 << 20).into(), &0.into()));
    let wire = done["wire_bytes"].as_u64().unwrap();
    assert!((3 << 20..(3 << 20) * 11 / 10).contains(&wire), "{wire} bytes of TLS for 3 MiB of data");
    assert!(done["first_byte_ms"].is_u64() && done["seconds"].as_f64().unwrap() > 0.0);
    assert!(received.events.iter().all(|event| event["v"] == 1 && event["event"].is_string()));
    assert_eq!(received.stderr, "");

    let (code, events, stderr) = sending.wait_for_all();
    assert_eq!(code, Some(0));
    let dones: Vec<_> = events.iter().filter(|event| event["event"] == "done").collect();
    assert_eq!(dones.len(), 1);
    assert_eq!(events.last(), dones.first().copied());
    assert_done(dones[0], 3 << 20);
    assert_eq!(dones[0]["root"], done["root"]);
    assert_eq!(stderr, "");
    for event in received.events.iter().chain(&events) {
        assert_no_secret(&event.to_string(), &link);
    }
}

#[test]
fn wrong_usage_ends_in_2_and_says_so_in_an_event() {
    let playground = Playground::new();
    let cases: &[&[&str]] = &[
        &["send"],
        &["receive", "--unknown"],
        &["receive", "LINK", "--lanes", "0"],
        &["receive", "LINK", "--lanes", "17"],
        &["receive", "LINK", "--overwrite", "--rename"],
        &["send", "x", "--bind", "nowhere"],
        &["frobnicate"],
    ];
    for arguments in cases {
        let ran = run(playground.command(arguments[0]).args(&arguments[1..]));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(!ran.stderr.is_empty());
        let ran = run(playground.command(arguments[0]).args(&arguments[1..]).arg("--json"));
        assert_failed(&ran, 2);
    }
    assert_failed(&run(playground.command("receive").arg("--json")), 2);
    assert_failed(&run(playground.command("receive").arg("--json").arg("LINK")), 2);
}

#[test]
fn help_lists_every_exit_code() {
    let playground = Playground::new();
    for arguments in [&["--help"][..], &["send", "--help"], &["receive", "--help"]] {
        let ran = run(playground.command(arguments[0]).args(&arguments[1..]));
        assert_eq!(ran.code, Some(0));
        for code in ["0", "1", "2", "10", "11", "12", "20", "23", "24", "30", "35", "40", "41", "42", "43", "44"] {
            assert!(
                ran.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))),
                "{code}: {ran:?}"
            );
        }
    }
}

#[test]
fn a_link_that_is_none_or_has_another_key_is_a_wrong_link() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let sending = playground.send(&[&file], &["--keep"]);
    let into = playground.dir("into");
    let cut = &sending.link[..sending.link.len() - 3];
    for bad in ["nonsense", "HTTP://example.org/x", cut] {
        let received = playground.receive(bad, &into, &[]).wait();
        received.assert_exit(42);
        assert!(!received.stderr.contains("nonsense"), "{received:?}");
        assert_no_secret(&received.stderr, &sending.link);
    }
    let link = Link::parse(&sending.link).unwrap();
    let wrong = Link::new(link.addresses(), link.room(), Key::from_bytes([7; 16])).unwrap().to_text();
    let received = playground.receive(&wrong, &into, &[]).wait();
    received.assert_exit(42);
    assert_no_secret(&received.stderr, &wrong);
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0, "nothing was written");
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    assert_no_secret(&sending.stderr(), &sending.link);
    sending.kill();
}

#[test]
fn nobody_listening_is_a_network_failure() {
    let playground = Playground::new();
    let received = playground.receive(&link_to_nobody(), &playground.dir("into"), &[]).wait();
    let done = received.assert_exit(10);
    assert!(done["error"].as_str().unwrap().contains("nothing listens"), "{done}");
}

#[test]
fn row_88_an_unusable_destination_ends_the_run_before_any_connection() {
    let playground = Playground::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let link = Link::new(&[listener.local_addr().unwrap()], haul::secret::Room::from_bytes([1; 16]), key()).unwrap();
    let link = link.to_text();
    let file = playground.file("file", 10, 1);
    let read_only = playground.dir("read-only");
    let mounted = may_mount().then(|| Mount::tmpfs(&read_only, "ro,size=1m"));
    if mounted.is_none() {
        fs::remove_dir(&read_only).unwrap();
    }
    for place in [&playground.path("missing"), &file, Path::new("/proc"), Path::new("/sys"), &read_only] {
        let received = playground.receive(&link, place, &[]).wait();
        let done = received.assert_exit(11);
        assert!(received.stderr.lines().next().is_some_and(|line| line.starts_with("error: ")), "{received:?}");
        assert!(done["first_byte_ms"].is_null());
        let accepted = listener.accept().unwrap_err();
        assert_eq!(accepted.kind(), std::io::ErrorKind::WouldBlock, "{} came to a connection", place.display());
    }
    drop(mounted);
}

#[test]
fn row_88_a_destination_without_permission_ends_the_run() {
    let playground = Playground::new();
    let into = playground.dir("into");
    open_to_all(&playground);
    fs::set_permissions(&into, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = as_nobody(&playground, "receive");
    command.args([&link_to_nobody(), "--yes", "--json", "--into"]).arg(&into);
    assert_failed(&run(&mut command), 11);
}

#[test]
fn too_little_room_ends_in_43_and_a_taken_name_in_44() {
    let playground = Playground::new();
    let file = playground.file("data", 20 << 20, 1);
    let sending = playground.send(&[&file], &["--keep"]);
    if may_mount() {
        let small = playground.dir("small");
        let mounted = Mount::tmpfs(&small, "size=8m");
        let received = playground.receive(&sending.link, &small, &[]).wait();
        let done = received.assert_exit(43);
        assert_eq!(done["bytes_fetched"], 0);
        assert_eq!(fs::read_dir(&small).unwrap().count(), 0, "nothing is left behind");
        drop(mounted);
    }
    let into = playground.dir("into");
    fs::write(into.join("data"), "mine").unwrap();
    let received = playground.receive(&sending.link, &into, &[]).wait();
    received.assert_exit(44);
    assert_eq!(fs::read(into.join("data")).unwrap(), b"mine", "--yes never overwrites");
    sending.kill();
}

#[test]
fn an_offer_that_nobody_can_be_asked_about_is_wrong_usage() {
    let playground = Playground::new();
    let file = playground.file("data", 10, 1);
    let sending = playground.send(&[&file], &["--keep"]);
    let into = playground.dir("into");
    let ran = run(playground.command("receive").arg(&sending.link).arg("--into").arg(&into));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("--yes"), "{ran:?}");
    assert_no_secret(&ran.stderr, &sending.link);
    sending.kill();
}

#[test]
fn some_files_in_the_way_are_a_partial_transfer() {
    let playground = Playground::new();
    let source = playground.dir("source");
    for (seed, name) in ["a", "b", "c"].into_iter().enumerate() {
        fs::write(source.join(name), noise(1000, seed as u64)).unwrap();
    }
    let into = playground.dir("into");
    fs::create_dir_all(into.join("source/b")).unwrap();
    fs::write(into.join("source/a"), "mine").unwrap();
    let sending = playground.send(&[&source], &["--keep"]);
    let received = playground.receive(&sending.link, &into, &["--overwrite"]).wait();
    let code = received.status.code();
    assert!(code == Some(44) || code == Some(23), "{received:#?}");
    assert_eq!(fs::read(into.join("source/a")).unwrap(), noise(1000, 0));
    assert_eq!(fs::read(into.join("source/c")).unwrap(), noise(1000, 2));
    sending.kill();
}

#[test]
fn a_source_that_is_not_there_cannot_be_offered() {
    let playground = Playground::new();
    let ran = run(playground.command("send").arg(playground.path("missing")).args(["--bind", "127.0.0.1:0", "--json"]));
    assert_failed(&ran, 11);
}

#[test]
fn the_link_comes_from_the_environment_or_standard_input() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let sending = playground.send(&[&file], &["--keep"]);
    let mut command = playground.command("receive");
    command.args(["--yes", "--json", "--into"]).arg(playground.dir("one")).env("HAUL_LINK", &sending.link);
    Playground::start_receive(command).wait().assert_ok();

    let mut command = playground.command("receive");
    command.args(["-", "--yes", "--into"]).arg(playground.dir("two"));
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}\nmore", sending.link).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read(playground.path("two/data")).unwrap(), noise(1000, 1));
    sending.kill();
}

#[test]
fn row_90_a_bad_environment_is_named_and_never_a_panic() {
    let playground = Playground::new();
    let file = playground.file("data", 10, 1);
    let huge = "9".repeat(100_000);
    let values: [&OsStr; 4] = [
        OsStr::new("not-a-value"),
        OsStr::new(&huge),
        OsStr::from_bytes(b"\xff\xfe\x80"),
        OsStr::new("\u{1b}[2J\u{202e}"),
    ];
    for value in values {
        for (variable, verb) in [
            ("HAUL_BIND", "send"),
            ("HAUL_ADDRESS", "send"),
            ("HAUL_LANES", "send"),
            ("HAUL_LANES", "receive"),
            ("HAUL_COMPRESS", "send"),
            ("HAUL_COMPRESS", "receive"),
            ("HAUL_COLOR", "receive"),
        ] {
            let subject = if verb == "send" { file.to_str().unwrap() } else { "LINK" };
            let ran = run(playground.command(verb).arg(subject).arg("--json").env(variable, value));
            assert_failed(&ran, 2);
            assert!(ran.stderr.contains(variable), "{variable} is not named: {ran:?}");
            assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\u{202e}'), "{ran:?}");
        }
        let ran = run(playground.command("receive").args(["--yes", "--json"]).env("HAUL_LINK", value));
        assert!(matches!(ran.code, Some(2 | 42)), "{ran:?}");
        assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("not-a-value"), "{ran:?}");
        let ran =
            run(playground.command("receive").args([&link_to_nobody(), "--yes", "--json"]).env("HAUL_INTO", value));
        assert_failed(&ran, 11);
        assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains('\u{1b}'), "{}", &ran.stderr[..200]);
        let mut command = playground.command("receive");
        command.args([&link_to_nobody(), "--yes", "--json", "--into"]).arg(playground.dir("into"));
        for variable in ["HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "TERM", "NO_COLOR", "COLUMNS"] {
            command.env(variable, value);
        }
        assert_failed(&run(&mut command), 10);
    }
}

fn assert_done(done: &Value, bytes: u64) {
    for field in [
        "ok",
        "exit",
        "error",
        "files",
        "bytes",
        "bytes_fetched",
        "bytes_reused",
        "wire_bytes",
        "first_byte_ms",
        "seconds",
        "root",
    ] {
        assert!(done.get(field).is_some(), "{field} is missing in {done}");
    }
    assert_eq!((&done["ok"], &done["exit"], &done["error"]), (&true.into(), &0.into(), &Value::Null));
    assert_eq!((&done["files"], &done["bytes"]), (&1.into(), &bytes.into()));
}

/// The run ended with `code`, said so in its one `done`, and in words on standard error.
fn assert_failed(ran: &Ran, code: i32) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    let events = ran.events();
    let done: Vec<_> = events.iter().filter(|event| event["event"] == "done").collect();
    assert_eq!(done.len(), 1, "{ran:?}");
    assert_eq!((&done[0]["ok"], &done[0]["exit"]), (&false.into(), &code.into()));
    assert!(done[0]["error"].is_string());
    assert!(ran.stderr.contains("error: "), "{ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
}

fn assert_no_secret(text: &str, link: &str) {
    let key = link.split('#').nth(1).unwrap();
    assert!(!text.contains(key) && !text.to_uppercase().contains(key), "the key shows in {text}");
}

fn key() -> Key {
    Key::from_bytes([9; 16])
}

/// A link to a port that is closed.
fn link_to_nobody() -> String {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Link::new(&[address], haul::secret::Room::from_bytes([1; 16]), key()).unwrap().to_text().to_string()
}

/// The command as a user that owns nothing.
fn as_nobody(playground: &Playground, verb: &str) -> Command {
    let program = playground.path("haul");
    fs::copy(env!("CARGO_BIN_EXE_haul"), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY_ID, "--regid", NOBODY_ID, "--clear-groups"]).arg(program).arg(verb);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Lets every user pass through the playground.
fn open_to_all(playground: &Playground) {
    fs::set_permissions(playground.path("."), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}
