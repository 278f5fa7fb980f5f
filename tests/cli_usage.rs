//! Wrong usage is explained, costs nothing, ends with 2, and never panics.
#![allow(clippy::unwrap_used)]

mod support {
    pub(crate) mod cli_env;
}

use std::fs;
use std::io::Write;
use std::process::Stdio;
use support::cli_env::{CliEnv, Ran};

#[test]
fn help_goes_to_standard_output_and_lists_the_exit_codes() {
    let env = CliEnv::new();
    for arguments in [&["--help"][..], &["send", "--help"], &["receive", "--help"], &["help", "receive"]] {
        let ran = env.run(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(ran.out.contains("Exit codes:\n    0  everything arrived"), "{}", ran.out);
    }
}

#[test]
fn nothing_at_all_shows_the_help_and_is_wrong_usage() {
    let ran = CliEnv::new().run(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.contains("Usage: haul"), "{}", ran.err);
}

#[test]
fn a_bad_value_from_the_environment_is_named_by_its_variable() {
    let env = CliEnv::new();
    let bad = [
        ("HAUL_LANES", "0"),
        ("HAUL_LANES", ""),
        ("HAUL_BIND", "nowhere"),
        ("HAUL_ADDRESS", "1.2.3"),
        ("HAUL_COLOR", "red"),
        ("HAUL_COMPRESS", "20"),
    ];
    for (variable, value) in bad {
        let ran = Ran::of(env.command(&["send", "a"]).env(variable, value).output().unwrap());
        assert_eq!(ran.code, Some(2), "{variable}");
        assert!(ran.err.contains(&format!("'{variable} (an environment variable)'")), "{}", ran.err);
    }
    let huge = "9".repeat(100_000);
    let ran = Ran::of(env.command(&["send", "a"]).env("HAUL_LANES", huge).output().unwrap());
    assert!(ran.code == Some(2) && ran.err.contains("HAUL_LANES"));
}

#[cfg(unix)]
#[test]
fn an_environment_that_is_no_text_is_named_too() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let env = CliEnv::new();
    for (command, variable) in [("send", "HAUL_LANES"), ("send", "HAUL_COLOR"), ("receive", "HAUL_LINK")] {
        let mut command = env.command(&[command]);
        if variable != "HAUL_LINK" {
            command.arg("a");
        }
        let ran = Ran::of(command.env(variable, OsStr::from_bytes(b"\xff\xfe")).output().unwrap());
        assert!(ran.code == Some(2) && ran.err.contains(variable), "{variable}: {}", ran.err);
    }
}

#[test]
fn a_value_that_was_typed_is_not_blamed_on_the_environment() {
    let env = CliEnv::new();
    let ran = Ran::of(env.command(&["send", "a", "--lanes", "99"]).env("HAUL_LANES", "4").output().unwrap());
    assert!(ran.err.contains("'--lanes <N>'") && !ran.err.contains("HAUL_LANES ("), "{}", ran.err);
}

#[test]
fn without_a_link_or_a_terminal_a_receiver_says_what_to_do() {
    let env = CliEnv::new();
    for (arguments, text) in [
        (&["receive"][..], "error: there is no terminal to ask on whether to accept what is sent\n"),
        (
            &["receive", "LINK", "--yes", "--keep"],
            "error: --keep is for listening, and there is a link to fetch from\n",
        ),
        (
            &["receive", "LINK", "--yes", "--bind", "127.0.0.1:0"],
            "error: --bind is for listening, and there is a link to fetch from\n",
        ),
        (&["receive", "--yes", "--at", "127.0.0.1:1"], "error: --at says where the sender of a code is"),
        (&["send", "a", "--to", "LINK", "--bind", "127.0.0.1:0"], "error: --bind is for an offer that others fetch"),
        (&["send", "a", "--retry-for", "5s"], "error: --retry-for says how long to try to reach somebody"),
        (&["send", "a", "--to", "-"], "error: the link on standard input is empty\n"),
        (&["receive", "--ask"], "error: no link was given\n"),
        (&["receive", "-"], "error: the link on standard input is empty\n"),
        (&["receive", "LINK"], "error: there is no terminal to ask on whether to accept the offer\n"),
    ] {
        let ran = env.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ran.err.starts_with(text) && ran.err.contains("\n  next:  "), "{}", ran.err);
    }
}

#[test]
fn a_link_is_never_repeated_in_an_error() {
    let env = CliEnv::new();
    for link in ["S3CRET", "http://127.0.0.1:1/ROOM#S3CRET", "HTTP://[::1]:99999/S3CRET#S3CRET", "S3CRET\u{1b}[2J"] {
        let argument = env.run(&["receive", "--yes", link]);
        let variable = Ran::of(env.command(&["receive", "--yes"]).env("HAUL_LINK", link).output().unwrap());
        let mut piped = env.command(&["receive", "--yes", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        piped.stdin.take().unwrap().write_all(link.as_bytes()).unwrap();
        let piped = Ran::of(piped.wait_with_output().unwrap());
        for ran in [argument, variable, piped] {
            assert_eq!(ran.code, Some(42), "{}", ran.err);
            assert!(!ran.err.contains("S3CRET") && !ran.err.contains('\u{1b}'), "{}", ran.err);
            assert!(ran.err.contains("copy the whole link"), "{}", ran.err);
        }
    }
}

#[test]
fn an_endless_link_is_refused_unread() {
    let env = CliEnv::new();
    let ran = Ran::of(env.command(&["receive", "--yes"]).env("HAUL_LINK", "A".repeat(100_000)).output().unwrap());
    assert!(ran.code == Some(2) && ran.err.contains("HAUL_LINK is longer than 256 bytes"), "{}", ran.err);
}

#[test]
fn a_destination_that_is_no_folder_is_refused_before_the_network() {
    let env = CliEnv::new();
    env.file("a file", b"x");
    for into in ["missing", "a file", "a file/below", "bad\u{1b}[2J"] {
        let ran = env.run(&["receive", "--yes", "LINK", "--into", into]);
        assert_eq!(ran.code, Some(11), "{into}: {}", ran.err);
        assert!(ran.err.contains("is not a folder") && !ran.err.contains('\u{1b}'), "{}", ran.err);
    }
}

#[test]
fn a_source_that_cannot_be_read_is_an_error_before_anything_is_offered() {
    let env = CliEnv::new();
    let ran = env.run(&["send", "--bind", "127.0.0.1:0", "missing\u{1b}[2J"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(11), ""), "{}", ran.err);
    assert!(ran.err.contains("missing\\u{1b}[2J"), "{}", ran.err);
}

#[test]
fn every_run_with_json_ends_with_one_done_event() {
    let env = CliEnv::new();
    for (arguments, exit) in [
        (&["receive", "--json"][..], 2),
        (&["send", "--json"], 2),
        (&["send", "--json", "a", "--lanes", "x"], 2),
        (&["receive", "--json", "LINK"], 2),
        (&["receive", "--json", "--yes", "LINK"], 42),
        (&["receive", "--json", "--yes", "LINK", "--into", "missing"], 11),
        (&["send", "--json", "missing"], 11),
    ] {
        let ran = env.run(arguments);
        let events = ran.events();
        let done: Vec<_> = events.iter().filter(|event| event["event"] == "done").collect();
        assert_eq!(done.len(), 1, "{arguments:?}: {}", ran.out);
        let last = events.last().unwrap();
        assert_eq!((&last["event"], &last["ok"], &last["exit"]), (&"done".into(), &false.into(), &exit.into()));
        assert_eq!(ran.code, Some(exit), "{arguments:?}");
        assert!(last["error"].as_str().is_some_and(|text| !text.is_empty()));
    }
}

#[cfg(unix)]
#[test]
fn output_that_nobody_reads_is_no_crash() {
    let env = CliEnv::new();
    for arguments in [&["--help"][..], &["receive", "--json"], &["send", "--json", "missing"]] {
        let mut command = env.command(arguments);
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        command.stdout(full.try_clone().unwrap()).stderr(full);
        let code = command.status().unwrap().code();
        assert!(code.is_some_and(|code| code != 101), "{arguments:?}: {code:?}");
    }
}
