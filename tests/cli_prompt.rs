//! Typing a code at a terminal: Tab completes its words, and the terminal is left as it was found.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support {
    pub(crate) mod cli_env;
}

use std::io::Read;
use std::process::{Child, Command, Stdio};
use support::cli_env::{CliEnv, read_until, same_bytes, type_into};

#[test]
fn a_code_is_typed_with_tab_and_fetches_the_offer() {
    let env = CliEnv::new();
    let file = env.file("film.mkv", &[7; 1000]);
    let sender = env.send(&[file.to_str().unwrap(), "--json"]);
    let offer: serde_json::Value = serde_json::from_str(&sender.first_line).unwrap();
    let code = offer["code"].as_str().unwrap();
    let at = offer["link"].as_str().unwrap().split('/').nth(2).unwrap().to_owned();
    let mut child = on_terminal(&env, &format!("receive --ask --yes --into into --at {at}"));
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    read_until(&mut output, "Link or code: ");
    let mut parts = code.split('-');
    type_into(&mut input, &format!("{}-", parts.next().unwrap()));
    for (turn, word) in parts.enumerate() {
        type_into(&mut input, &format!("{}\t", &word[..4]));
        // What follows the fourth letter comes from the list.
        read_until(&mut output, &if turn < 2 { format!("{word}-") } else { word.to_owned() });
    }
    type_into(&mut input, "\r");
    let rest = rest_of(&mut output);
    assert!(child.wait().unwrap().success(), "{rest}");
    assert!(same_bytes(&file, &env.path("into/film.mkv")));
    assert_restored(&rest);
}

#[test]
fn ctrl_c_and_a_signal_at_the_question_leave_the_terminal_as_it_was() {
    let env = CliEnv::new();
    let mut child = on_terminal(&env, "receive --ask --yes --into into");
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    read_until(&mut output, "Link or code: ");
    type_into(&mut input, "7-amber\u{3}");
    let rest = rest_of(&mut output);
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert_restored(&rest);

    let mut child = on_terminal(&env, "receive --ask --yes --into into");
    let mut output = child.stdout.take().unwrap();
    let shown = read_until(&mut output, "Link or code: ");
    let id = shown.split("process ").nth(1).unwrap().split_whitespace().next().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(id.parse().unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let rest = rest_of(&mut output);
    assert_eq!(child.wait().unwrap().code(), Some(143), "{rest}");
    assert_restored(&rest);
}

/// The binary on a terminal whose state is shown once it has ended.
fn on_terminal(env: &CliEnv, arguments: &str) -> Child {
    let binary = env!("CARGO_BIN_EXE_haul");
    let started = format!("sh -c 'echo process $$; exec {binary} {arguments}'");
    let line = format!("{started}; code=$?; stty -a; exit $code");
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).env("SHELL", "/bin/sh").env("TERM", "xterm");
    command.env("XDG_STATE_HOME", env.path("state")).env("XDG_CACHE_HOME", env.path("cache"));
    command.current_dir(env.path("")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn rest_of(output: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn assert_restored(shown: &str) {
    let modes: Vec<&str> = shown.split_whitespace().collect();
    for mode in ["icanon", "echo", "isig"] {
        assert!(modes.contains(&mode), "{mode} is off: {shown}");
    }
}
