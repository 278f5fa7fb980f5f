//! What a user and a script see of real transfers between two processes.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support {
    pub(crate) mod cli_env;
}

use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use support::cli_env::{CliEnv, Ran, read_until, same_bytes, type_into};

#[test]
fn the_first_line_of_a_sender_is_its_link_and_the_rest_is_on_standard_error() {
    let env = CliEnv::new();
    env.file("a", b"some bytes");
    let mut sender = env.send(&["a"]);
    assert!(sender.first_line.contains("127.0.0.1:") && !sender.first_line.contains(' '), "{}", sender.first_line);
    let ran = env.run(&["receive", "--yes", "--into", "into", &sender.first_line]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{}", ran.err);
    assert!(ran.err.contains("        10 B  a\n1 file, 10 B"), "{}", ran.err);
    assert!(ran.err.contains("Received 1 file, 10 B in "), "{}", ran.err);
    assert!(same_bytes(&env.path("a"), &env.path("into/a")));
    let (code, text) = sender.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Offering 1 file, 10 B, at this link:"), "{text}");
    assert!(text.contains("`haul receive "), "{text}");
    assert!(text.contains("Sent 1 file, 10 B"), "{text}");
}

#[test]
fn with_json_the_first_event_has_the_link_and_the_last_one_the_root() {
    let env = CliEnv::new();
    env.file("a", b"abc");
    let mut child =
        env.command(&["send", "--json", "--bind", "127.0.0.1:0", "--address", "127.0.0.1", "a"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let offer: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&offer["v"], &offer["event"]), (&1.into(), &"offer".into()));
    let ran = env.run(&["receive", "--json", "--yes", "--into", "into", offer["link"].as_str().unwrap()]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let events = ran.events();
    let done = events.last().unwrap();
    assert_eq!(
        (&done["ok"], &done["exit"], &done["files"], &done["bytes"]),
        (&true.into(), &0.into(), &1.into(), &3.into())
    );
    // The published BLAKE3 hash of "abc".
    assert_eq!(done["root"], "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
    assert!(events.iter().any(|event| event["event"] == "file" && event["path"] == "a" && event["how"] == "published"));
    assert!(events.iter().any(|event| event["event"] == "listing" && event["files"] == 1));
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.lines().last().unwrap().contains(r#""event":"done""#), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_name_that_is_taken_ends_with_44_and_each_rule_settles_it() {
    let env = CliEnv::new();
    env.file("a", b"incoming");
    env.file("into/a", b"old");
    let sender = env.send(&["--keep", "a"]);
    let run = |rule: &[&str]| {
        let arguments = [&["receive", "--yes", "--into", "into", &sender.first_line], rule].concat();
        env.run(&arguments)
    };
    let plain = run(&[]);
    assert_eq!(plain.code, Some(44), "{}", plain.err);
    assert!(plain.err.contains("choose --overwrite, --rename or --skip-existing"), "{}", plain.err);
    assert_eq!(fs::read(env.path("into/a")).unwrap(), b"old");
    let skipped = run(&["--skip-existing"]);
    assert_eq!(skipped.code, Some(0), "{}", skipped.err);
    assert_eq!(fs::read(env.path("into/a")).unwrap(), b"old");
    let renamed = run(&["--rename"]);
    assert_eq!(renamed.code, Some(0), "{}", renamed.err);
    assert!(renamed.err.contains("`a` is taken here; saved as `"), "{}", renamed.err);
    assert_eq!(fs::read(env.path("into/a")).unwrap(), b"old");
    let overwritten = run(&["--overwrite"]);
    assert_eq!(overwritten.code, Some(0), "{}", overwritten.err);
    assert_eq!(fs::read(env.path("into/a")).unwrap(), b"incoming");
}

#[test]
fn a_link_comes_from_standard_input_or_the_environment_as_well() {
    let env = CliEnv::new();
    env.file("a", b"some bytes");
    let sender = env.send(&["--keep", "a"]);
    let mut piped = env.command(&["get", "-y", "--into", "into", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    writeln!(piped.stdin.take().unwrap(), "{}", sender.first_line).unwrap();
    let piped = Ran::of(piped.wait_with_output().unwrap());
    assert_eq!(piped.code, Some(0), "{}", piped.err);
    let mut command = env.command(&["rx", "-y"]);
    let variable = Ran::of(command.env("HAUL_LINK", &sender.first_line).env("HAUL_INTO", "into").output().unwrap());
    assert_eq!(variable.code, Some(0), "{}", variable.err);
}

#[test]
fn quiet_says_nothing_where_nothing_is_wrong() {
    let env = CliEnv::new();
    env.file("a", b"some bytes");
    let mut sender = env.send(&["-q", "a"]);
    let ran = env.run(&["receive", "-q", "--yes", "--into", "into", &sender.first_line]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""));
    assert_eq!(sender.end(), (Some(0), String::new()));
}

#[test]
fn a_signal_ends_a_sender_in_order_and_says_how_to_go_on() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let env = CliEnv::new();
        env.file("a", b"some bytes");
        let (ended, text) = env.send(&["a"]).signal(signal);
        assert_eq!(ended, Some(code), "{text}");
        assert!(text.contains("next:  run the same command again: the same link"), "{text}");
    }
}

#[test]
fn an_offer_that_is_kept_says_at_its_end_how_many_have_it() {
    let env = CliEnv::new();
    env.file("a", b"some bytes");
    let (ended, text) = env.send(&["--keep", "a"]).signal(Signal::INT);
    assert_eq!(ended, Some(0), "{text}");
    assert!(text.contains("Offered 1 file, 10 B for "), "{text}");
    assert!(text.contains("; 0 receivers have everything, 0 B sent"), "{text}");
    assert!(!text.contains("Sent "), "{text}");
}

#[test]
fn the_same_paths_get_the_same_link_again() {
    let env = CliEnv::new();
    env.file("a", b"some bytes");
    let send = || {
        let mut child = env.command(&["send", "--address", "127.0.0.1", "a"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        line
    };
    let first = send();
    assert!(first.starts_with("HTTP://127.0.0.1:"), "{first}");
    assert_eq!(send(), first);
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_the_listing_is_shown_and_the_question_decides() {
    let env = CliEnv::new();
    for number in 0..40 {
        env.file(&format!("tree/file{number:02}"), b"some bytes");
    }
    let sender = env.send(&["--keep", "tree"]);
    let answer = |keys: &[&str]| {
        let mut child = env.on_terminal("receive --into into").env("HAUL_LINK", &sender.first_line).spawn().unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut shown = String::new();
        for key in keys {
            shown += &read_until(&mut output, "Accept? [y/N/l] ");
            type_into(&mut input, key);
        }
        output.read_to_string(&mut shown).unwrap();
        (child.wait().unwrap().code(), shown)
    };
    let (code, shown) = answer(&["\n"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("more, `l` lists all") && !shown.contains("file39"), "{shown}");
    assert!(!env.path("into/tree").exists());
    let (code, shown) = answer(&["\x03"]);
    assert_eq!(code, Some(130), "{shown}");
    let (code, shown) = answer(&["l\n", "y\n"]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("file39") && shown.contains(" 40 files, 400 B in "), "{shown}");
    assert!(same_bytes(&env.path("tree/file39"), &env.path("into/tree/file39")));
}
