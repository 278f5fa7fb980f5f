//! `haul share` on a terminal: its link, what comes and goes, the question about what is sent, and the last line.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/cli_env.rs"]
mod cli_env;

use cli_env::{CliEnv, Ran, read_until, same_bytes, type_into};
use std::io::Read;

#[test]
fn what_is_sent_is_asked_about_and_what_is_fetched_is_told() {
    let env = CliEnv::new();
    env.file("offered", b"take this");
    env.file("brought", b"have that");
    env.file("unwanted", b"no");
    let line = "share offered --into into --bind 127.0.0.1:0 --color never";
    let mut child = env.on_terminal(line).spawn().unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let shown = read_until(&mut screen, "HTTP://");
    assert!(shown.contains("Sharing 1 file, 9 B, and taking files into `into`, at this link:"), "{shown}");
    let link = format!("HTTP://{}", read_until(&mut screen, "\r\n").trim_end());
    let shown = read_until(&mut screen, "haul send PATH --to ");
    assert!(shown.contains("On the other machine, run `haul receive "), "{shown}");
    let fetched = env.run(&["receive", &link, "--yes", "--out", "fetched"]);
    assert_eq!(fetched.code, Some(0), "{}", fetched.err);
    assert!(same_bytes(&env.path("offered"), &env.path("fetched")));
    read_until(&mut screen, "Receiver 1 has everything; 9 B sent");
    for (session, name, answer) in [(2, "unwanted", "n\n"), (3, "brought", "y\n")] {
        let sending = env.command(&["send", name, "--to", &link]).spawn().unwrap();
        let shown = read_until(&mut screen, "Accept? [y/N] ");
        assert!(shown.contains(&format!("Sender {session} at 127.0.0.1:")) && shown.contains(name), "{shown}");
        type_into(&mut keys, answer);
        let code = Ran::of(sending.wait_with_output().unwrap()).code;
        assert_eq!(code, if name == "brought" { Some(0) } else { Some(41) });
    }
    read_until(&mut screen, "Sender 3: Received 1 file, 9 B");
    type_into(&mut keys, "\u{3}");
    let mut text = String::new();
    screen.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    assert!(text.contains("1 receiver has everything, 9 B sent; 1 file, 9 B came"), "{text}");
    assert!(same_bytes(&env.path("brought"), &env.path("into/brought")));
    assert!(!env.path("into/unwanted").exists());
}
