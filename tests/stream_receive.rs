//! A file that goes to standard output or under another name: whole, in order, and kept where it is interrupted.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use process::{Playground, Sending, noise, run};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Output, Stdio};

const MIB: usize = 1 << 20;

#[test]
fn a_file_of_any_length_comes_out_whole_and_nothing_else_does() {
    let playground = Playground::new();
    for length in [0, 1, 256 * 1024, 256 * 1024 + 1, 5 * MIB + 3] {
        let file = playground.file("data", length, 7);
        let sending = playground.send(&[&file], &[]);
        let child = stream(&playground, &sending.link, &[]);
        let output = child.wait_with_output();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(output.stdout == fs::read(&file).unwrap(), "{length}");
        assert!(stderr.contains("Received 1 file"), "{stderr}");
        assert_eq!(sending.wait().0, Some(0));
        assert!(is_empty(&playground.path("cache/haul/streams")), "{length}: nothing is kept of it");
    }
}

#[test]
fn a_name_in_the_way_is_none_of_a_streams_business() {
    let playground = Playground::new();
    let file = playground.file("data", MIB, 7);
    let into = playground.dir("into");
    fs::write(into.join("data"), b"mine").unwrap();
    let sending = playground.send(&[&file], &[]);
    let child = stream(&playground, &sending.link, &["--into", into.to_str().unwrap()]);
    let output = child.wait_with_output();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == fs::read(&file).unwrap());
    assert_eq!(fs::read(into.join("data")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 1, "it works there and leaves nothing");
}

#[test]
fn a_slow_reader_gets_every_chunk_in_order() {
    let playground = Playground::new();
    let file = playground.file("data", 12 * MIB + 5, 3);
    let sending = playground.send(&[&file], &[]);
    let mut child = stream(&playground, &sending.link, &["--lanes=8"]);
    let mut out = child.child().stdout.take().unwrap();
    let expected = fs::read(&file).unwrap();
    let mut read = Vec::new();
    // A pipe holds 64 KiB: what is written beyond waits for each of these reads.
    let mut buffer = [0; 1000];
    while let count @ 1.. = out.read(&mut buffer).unwrap() {
        read.extend_from_slice(&buffer[..count]);
        assert!(
            expected.starts_with(&read[read.len() - count..]) || expected[..read.len()].ends_with(&buffer[..count])
        );
    }
    assert!(read == expected);
    assert_eq!(child.child().wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_goes_away_ends_it_and_what_came_is_kept() {
    let playground = Playground::new();
    let file = playground.file("data", 8 * MIB, 3);
    let sending = playground.send(&[&file], &["--keep"]);
    let mut child = stream(&playground, &sending.link, &[]);
    let mut out = child.child().stdout.take().unwrap();
    let mut first = vec![0; MIB];
    out.read_exact(&mut first).unwrap();
    drop(out);
    assert!(fs::read(&file).unwrap().starts_with(&first));
    let output = child.wait_with_output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(20), "{stderr}");
    assert!(stderr.contains("whoever read standard output has closed it before the end"), "{stderr}");
    assert!(stderr.contains("run the same command again to have the whole stream again"), "{stderr}");
    assert!(!stderr.contains("haul resume"), "{stderr}");
    let again = stream(&playground, &sending.link, &[]).wait_with_output();
    assert_eq!(again.status.code(), Some(0));
    assert!(again.stdout == fs::read(&file).unwrap());
    let stderr = String::from_utf8(again.stderr).unwrap();
    assert!(stderr.contains("of it here before"), "it is not fetched again: {stderr}");
}

#[test]
fn a_receiver_that_was_killed_begins_the_stream_again_and_fetches_the_rest() {
    let playground = Playground::new();
    let file = playground.file("data", 8 * MIB, 3);
    for by_code in [false, true] {
        let sending = playground.send(&[&file], &["--limit=4M"]);
        let (invitation, at) = if by_code {
            (sending.code().to_owned(), vec!["--at", sending.at()])
        } else {
            (sending.link.clone(), vec![])
        };
        let mut child = stream(&playground, &invitation, &at);
        let mut first = vec![0; MIB];
        child.child().stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        child.child().kill().unwrap();
        child.child().wait().unwrap();
        let again = stream(&playground, &invitation, &at).wait_with_output();
        let stderr = String::from_utf8(again.stderr).unwrap();
        assert_eq!(again.status.code(), Some(0), "{stderr}");
        assert!(again.stdout == fs::read(&file).unwrap());
        assert!(stderr.contains("of it here before"), "{stderr}");
        assert_eq!(sending.wait().0, Some(0));
        assert!(is_empty(&playground.path("cache/haul/streams")));
    }
}

#[test]
fn a_sender_that_was_killed_is_waited_for_and_the_stream_goes_on() {
    let playground = Playground::new();
    let file = playground.file("data", 8 * MIB, 3);
    let sending = playground.send(&[&file], &["--limit=4M"]);
    let link = sending.link.clone();
    let mut child = stream(&playground, &link, &[]);
    let mut out = child.child().stdout.take().unwrap();
    let mut read = vec![0; MIB];
    out.read_exact(&mut read).unwrap();
    sending.kill();
    let again = playground.send(&[&file], &[]);
    assert_eq!(again.link, link);
    out.read_to_end(&mut read).unwrap();
    assert_eq!(child.child().wait().unwrap().code(), Some(0));
    assert!(read == fs::read(&file).unwrap(), "no byte twice and none missing");
    assert_eq!(again.wait().0, Some(0));
}

#[test]
fn a_source_that_changes_under_way_ends_the_stream_with_its_code() {
    let playground = Playground::new();
    let file = playground.file("data", 8 * MIB, 3);
    let sending = playground.send(&[&file], &["--limit=4M", "--keep"]);
    let mut child = stream(&playground, &sending.link, &[]);
    let mut out = child.child().stdout.take().unwrap();
    let mut read = vec![0; MIB];
    out.read_exact(&mut read).unwrap();
    fs::write(&file, noise(8 * MIB, 4)).unwrap();
    out.read_to_end(&mut read).unwrap();
    let output = child.wait_with_output();
    assert_eq!(output.status.code(), Some(24), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(read.len() < 8 * MIB && noise(8 * MIB, 3).starts_with(&read), "what came out is what was offered");
}

#[test]
fn anything_but_one_file_is_refused_before_anything_is_fetched() {
    let playground = Playground::new();
    let folder = playground.dir("folder");
    fs::write(folder.join("one"), b"1").unwrap();
    let two = [playground.file("a", 1, 1), playground.file("b", 1, 1)];
    let to_file = playground.path("out");
    for out in ["-", to_file.to_str().unwrap()] {
        for (paths, text) in [
            (vec![folder.as_path()], "the offer has 1 file and 1 folder"),
            (vec![two[0].as_path(), two[1].as_path()], "the offer has 2 files and 0 folders"),
        ] {
            let sending = playground.send(&paths, &[]);
            let ran = run(playground.command("receive").arg(&sending.link).args(["--yes", "--out", out]));
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
            assert!(ran.stderr.contains(text) && ran.stderr.contains("next:  receive it into a folder"), "{ran:?}");
            sending.kill();
        }
    }
    assert!(!to_file.exists() && is_empty(&playground.path("cache/haul/streams")));
}

#[test]
fn a_file_gets_the_name_that_its_receiver_chose() {
    let playground = Playground::new();
    let file = playground.file("data", 3 * MIB, 1);
    let into = playground.dir("into");
    let out = into.join("other name");
    let sending = playground.send(&[&file], &["--keep"]);
    let receive = |flags: &[&str]| {
        let mut command = playground.command("receive");
        run(command.arg(&sending.link).args(["--yes", "--json", "--out"]).arg(&out).args(flags))
    };
    let ran = receive(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.events().iter().any(|event| event["event"] == "file" && event["path"] == "other name"), "{ran:?}");
    assert!(fs::read(&out).unwrap() == fs::read(&file).unwrap());
    assert_eq!(fs::read_dir(&into).unwrap().count(), 1);
    fs::write(&out, b"changed").unwrap();
    assert_eq!(receive(&[]).code, Some(44));
    assert_eq!(fs::read(&out).unwrap(), b"changed");
    let foreseen = receive(&["-n", "--overwrite"]);
    assert!(foreseen.events().iter().any(|event| event["path"] == "other name" && event["fate"] == "replace"));
    assert_eq!(receive(&["--overwrite"]).code, Some(0));
    assert!(fs::read(&out).unwrap() == fs::read(&file).unwrap());
    for bad in ["..", "into", "into/", "no/such/folder/x", "into/.haul"] {
        let mut command = playground.command("receive");
        let ran = run(command.arg(&sending.link).args(["--yes", "--out"]).arg(playground.path(bad)));
        assert!(matches!(ran.code, Some(2 | 11)), "{bad}: {ran:?}");
    }
}

#[test]
fn what_was_interrupted_under_another_name_is_resumed_under_it() {
    let playground = Playground::new();
    let file = playground.file("data", 8 * MIB, 1);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &["--limit=4M"]);
    let mut command = playground.command("receive");
    command.arg(&sending.link).args(["--yes", "--json", "--out"]).arg(into.join("chosen"));
    let mut receiving = Playground::start_receive(command);
    assert!(receiving.wait_until(|event| event["bytes_done"].as_u64() > Some(MIB as u64)));
    receiving.kill();
    let resumed = run(playground.command("resume").arg(&into));
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(fs::read(into.join("chosen")).unwrap() == fs::read(&file).unwrap());
    assert_eq!(fs::read_dir(&into).unwrap().count(), 1);
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn what_does_not_go_with_a_stream_is_said_and_standard_output_stays_empty() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let into = into.to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["LINK", "--out", "-", "--json"], "standard output takes the file or the events, not both"),
        (&["LINK", "--out", "-", "-n"], "a dry run writes nothing to standard output"),
        (&["LINK", "--out", "x", "--into", into], "--out names the folder as well, and so does --into"),
        (&["LINK", "--out", into], "is a folder, and --out names a file"),
        (&["--out", "-"], "--out is for one file that a link offers, and there is no link"),
    ];
    for (arguments, text) in cases {
        let ran = run(playground.command("receive").args(*arguments).arg("--yes"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(text), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn a_pipe_from_one_standard_stream_to_the_other() {
    let playground = Playground::new();
    let bytes = noise(3 * MIB + 1, 9);
    fs::write(playground.path("input"), &bytes).unwrap();
    let mut command = playground.command("send");
    command.args(["-", "--bind", "127.0.0.1:0", "--json"]).stdin(fs::File::open(playground.path("input")).unwrap());
    let sending: Sending = playground.start_send(command);
    let output = stream(&playground, &sending.link, &["-q"]).wait_with_output();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert!(output.stdout == bytes);
    assert_eq!(sending.wait().0, Some(0));
}

/// A receiver whose standard output is a pipe. A test that fails leaves none behind.
struct Streaming(Option<Child>);

fn stream(playground: &Playground, invitation: &str, flags: &[&str]) -> Streaming {
    let mut command = playground.command("receive");
    command.arg(invitation).args(["--yes", "--out", "-"]).args(flags);
    Streaming(Some(command.stderr(Stdio::piped()).spawn().unwrap()))
}

impl Streaming {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    fn wait_with_output(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It fails where the process has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether nothing lies in `folder`, or there is none.
fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}
