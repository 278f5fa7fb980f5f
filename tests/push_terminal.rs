//! A receiver that listens on a terminal: each offer is shown and asked about, and codes are proven by hand.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/cli_env.rs"]
mod cli_env;

use cli_env::{CliEnv, Ran, read_until, same_bytes, type_into};
use std::io::Read;
use std::process::{Child, ChildStdin, ChildStdout};

/// A `haul receive` on a terminal of its own.
struct Listening {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    link: String,
    code: String,
}

impl Listening {
    fn start(env: &CliEnv, arguments: &str) -> Self {
        let line = format!("receive --into into --bind 127.0.0.1:0 --no-progress --color never {arguments}");
        let mut child = env.on_terminal(&line).spawn().unwrap();
        let (keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        read_until(&mut screen, "HTTP://");
        let link = format!("HTTP://{}", read_until(&mut screen, "\r\n").trim_end());
        read_until(&mut screen, "--to ");
        let code = read_until(&mut screen, "`").trim_end_matches('`').to_owned();
        Self { child, keys, screen, link, code }
    }

    fn until(&mut self, wanted: &str) -> String {
        read_until(&mut self.screen, wanted)
    }

    fn answer(&mut self, keys: &str) {
        type_into(&mut self.keys, keys);
    }

    /// The rest of what it shows, and how it ends.
    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.screen.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

fn push(env: &CliEnv, name: &str, link: &str) -> Child {
    env.command(&["send", name, "--to", link]).spawn().unwrap()
}

#[test]
fn offers_are_asked_about_one_after_the_other_and_one_that_is_declined_ends_nothing() {
    let env = CliEnv::new();
    env.file("unwanted", b"no");
    env.file("wanted", b"yes, please");
    let mut listening = Listening::start(&env, "");
    let unwanted = push(&env, "unwanted", &listening.link);
    let shown = listening.until("Accept? [y/N] ");
    assert!(shown.contains("Sender 1 at 127.0.0.1:") && shown.contains("2 B  unwanted"), "{shown}");
    // It waits for its turn: nobody is asked about two offers at once.
    let wanted = push(&env, "wanted", &listening.link);
    listening.answer("n\n");
    let declined = Ran::of(unwanted.wait_with_output().unwrap());
    assert_eq!(declined.code, Some(41), "{}", declined.err);
    assert!(declined.err.contains("its user declined"), "{}", declined.err);
    let shown = listening.until("Accept? [y/N] ");
    assert!(shown.contains("Sender 2 at 127.0.0.1:") && shown.contains("11 B  wanted"), "{shown}");
    listening.answer("y\n");
    let sent = Ran::of(wanted.wait_with_output().unwrap());
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    let (code, text) = listening.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Sender 2: Received 1 file, 11 B"), "{text}");
    assert!(same_bytes(&env.path("wanted"), &env.path("into/wanted")));
    assert!(!env.path("into/unwanted").exists() && !env.path("into/.haul").exists());
}

#[test]
fn accepting_everything_overwrites_nothing() {
    let env = CliEnv::new();
    env.file("data", b"new");
    env.file("into/data", b"old");
    let listening = Listening::start(&env, "--yes");
    let pushed = Ran::of(push(&env, "data", &listening.link).wait_with_output().unwrap());
    assert_eq!(pushed.code, Some(23), "{}", pushed.err);
    let (code, text) = listening.end();
    assert_eq!(code, Some(44), "{text}");
    assert_eq!(std::fs::read(env.path("into/data")).unwrap(), b"old");
}

#[test]
fn an_address_is_enough_where_the_code_is_typed() {
    let env = CliEnv::new();
    env.file("data", b"some bytes");
    let mut listening = Listening::start(&env, "");
    let code = listening.code.clone();
    let address = listening.link.split('/').nth(2).unwrap().to_owned();
    let mut sender = env.on_terminal(&format!("send data --to {address} --no-progress")).spawn().unwrap();
    let (mut keys, mut screen) = (sender.stdin.take().unwrap(), sender.stdout.take().unwrap());
    read_until(&mut screen, "Code that the other side shows: ");
    type_into(&mut keys, &format!("{code}\r"));
    listening.until("Accept? [y/N] ");
    listening.answer("y\n");
    let (code, text) = listening.end();
    assert_eq!(code, Some(0), "{text}");
    let mut text = String::new();
    screen.read_to_string(&mut text).unwrap();
    assert_eq!(sender.wait().unwrap().code(), Some(0), "{text}");
    assert!(same_bytes(&env.path("data"), &env.path("into/data")));
}

#[test]
fn an_address_where_nobody_can_be_asked_for_the_code_is_wrong_usage() {
    let env = CliEnv::new();
    env.file("data", b"some bytes");
    let ran = env.run(&["send", "data", "--to", "127.0.0.1:4285"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert!(ran.err.starts_with("error: no code was given\n"), "{}", ran.err);
    let ran = env.run(&["send", "data", "--to", "127.0.0.1:0"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert!(ran.err.contains("out of range"), "{}", ran.err);
}

#[test]
fn a_question_about_an_offer_that_is_gone_is_not_waited_for() {
    let env = CliEnv::new();
    env.file("gone", b"some bytes");
    env.file("there", b"other bytes");
    let mut listening = Listening::start(&env, "--keep");
    let mut gone = push(&env, "gone", &listening.link);
    listening.until("Accept? [y/N] ");
    gone.kill().unwrap();
    gone.wait().unwrap();
    let mut there = push(&env, "there", &listening.link);
    let shown = listening.until("Accept? [y/N] ");
    assert!(shown.contains("Sender 2 at 127.0.0.1:") && shown.contains("11 B  there"), "{shown}");
    listening.answer("\u{3}");
    let (code, text) = listening.end();
    assert_eq!(code, Some(0), "nothing was accepted that could be unfinished: {text}");
    there.kill().unwrap();
    there.wait().unwrap();
}
