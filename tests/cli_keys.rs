//! Keys on a terminal made by script(1), which is left as it was found: of a sender with several receivers, and the limit of
//! whoever sends or receives.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/cli_env.rs"]
mod cli_env;

use cli_env::{CliEnv, Ran, read_until, same_bytes, type_into};
use rustix::process::Signal;
use std::io::Read;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const HAUL: &str = env!("CARGO_BIN_EXE_haul");
/// What the shell says of a terminal that shows what is typed, line by line.
const AS_FOUND: &str = "modes: icanon echo.";

/// A command on a terminal.
struct OnTerminal {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    link: String,
}

impl OnTerminal {
    /// Runs a sender, and waits for its link.
    fn send(env: &CliEnv, arguments: &str) -> Self {
        let mut sender = Self::run(env, &format!("send {arguments} --bind 127.0.0.1:0 --address 127.0.0.1"));
        let text = read_until(&mut sender.screen, "#") + &read_until(&mut sender.screen, "\n");
        text[text.find("HTTP://").unwrap()..].trim().clone_into(&mut sender.link);
        sender
    }

    /// Runs a command, then says what the terminal is like.
    fn run(env: &CliEnv, arguments: &str) -> Self {
        let modes = "echo modes: $(stty -a | tr ' ' '\\n' | grep -x -e '-*icanon;*' -e '-*echo;*').";
        // The shell goes on after a Ctrl-C, which it sees as well.
        let line = format!("trap : INT; {HAUL} {arguments}; {modes}");
        let mut child = env.in_shell(&line).spawn().unwrap();
        let (keys, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, keys, screen, link: String::new() }
    }

    fn see(&mut self, wanted: &str) {
        read_until(&mut self.screen, wanted);
    }

    fn press(&mut self, keys: &str) {
        type_into(&mut self.keys, keys);
    }

    fn end(mut self) {
        let mut rest = String::new();
        self.screen.read_to_string(&mut rest).unwrap();
        assert!(rest.contains(AS_FOUND), "{rest}");
        self.child.wait().unwrap();
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // A process that has ended cannot be killed, and need not be.
        let _ = self.child.kill();
    }
}

fn receive(env: &CliEnv, link: &str, into: &str) -> Child {
    std::fs::create_dir_all(env.path(into)).unwrap();
    let mut command: Command = env.command(&["receive", link, "--yes", "--quiet", "--into", into]);
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// More than one piece, of bytes that do not shrink.
fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..3 << 20).map(|_| next()).collect()
}

fn ended(child: Child) -> Ran {
    Ran::of(child.wait_with_output().unwrap())
}

#[test]
fn receivers_are_accepted_refused_limited_and_disconnected_by_keys() {
    let env = CliEnv::new();
    let file = env.file("data", &vec![7; 3 << 20]);
    let mut sender = OnTerminal::send(&env, "data --keep --ask-each --limit 1");
    sender.see("q stop");
    let refused = receive(&env, &sender.link, "refused");
    sender.see("1  127.0.0.1");
    sender.press("r");
    sender.see("Receiver 1 was turned away");
    let refused = ended(refused);
    assert_eq!(refused.code, Some(41));
    assert!(refused.err.contains("its user declined"), "{}", refused.err);
    // The next one gets a byte a second, until it is cut off.
    let cut_off = receive(&env, &sender.link, "cut-off");
    sender.see("2  127.0.0.1");
    sender.press("2a");
    sender.see("Receiver 2 connected");
    sender.press("l");
    sender.see("limit 10.0 MiB/s");
    sender.press("d");
    sender.see("d once more disconnects receiver 2");
    sender.press("d");
    sender.see("Receiver 2 was turned away");
    assert_eq!(ended(cut_off).code, Some(41));
    // The last one is done once the limit of all is lifted.
    let served = receive(&env, &sender.link, "served");
    sender.see("3  127.0.0.1");
    sender.press("a");
    sender.see("Receiver 3 connected");
    sender.press("l");
    assert_eq!(ended(served).code, Some(0));
    assert!(same_bytes(&file, &env.path("served/data")));
    sender.press("q");
    sender.see("q once more stops");
    sender.press("q");
    sender.end();
}

#[test]
fn a_receiver_is_asked_and_then_lifts_its_limit_by_a_key() {
    let env = CliEnv::new();
    let file = env.file("data", &noise());
    let sender = env.send(&["data"]);
    let link = &sender.first_line;
    let mut receiver = OnTerminal::run(&env, &format!("receive '{link}' --into into --limit 1"));
    receiver.see("Accept? [y/N] ");
    receiver.press("y\n");
    receiver.see("limited to 1 B/s: l no limit, + - change it, q stop");
    receiver.press("+");
    receiver.see("limited to 64.0 KiB/s");
    receiver.press("l");
    receiver.see("root:");
    receiver.end();
    assert!(same_bytes(&file, &env.path("into/data")));
}

#[test]
fn a_receiver_is_stopped_by_a_key_and_keeps_what_it_has() {
    let env = CliEnv::new();
    env.file("data", &noise());
    let sender = env.send(&["data"]);
    let link = &sender.first_line;
    let mut receiver = OnTerminal::run(&env, &format!("receive '{link}' --into into --yes --limit 1"));
    receiver.see("q stop");
    receiver.press("qx");
    receiver.press("q");
    receiver.see("q once more stops; any other key does not");
    receiver.press("q");
    receiver.see("haul resume");
    receiver.end();
    assert!(env.path("into/.haul").exists() && !env.path("into/data").exists());
}

#[test]
fn one_receiver_alone_is_limited_by_keys_as_well() {
    let env = CliEnv::new();
    let file = env.file("data", &noise());
    let mut sender = OnTerminal::send(&env, "data --limit 1");
    let receiving = receive(&env, &sender.link, "into");
    sender.see("limited to 1 B/s: l no limit");
    sender.press("l");
    assert_eq!(ended(receiving).code, Some(0));
    sender.end();
    assert!(same_bytes(&file, &env.path("into/data")));
}

#[test]
fn a_push_is_limited_by_keys_on_either_side() {
    for (sends, listens) in [("--limit 1", ""), ("", "--limit 1")] {
        let env = CliEnv::new();
        let file = env.file("data", &noise());
        let mut listening =
            OnTerminal::run(&env, &format!("receive --into into --yes --no-qr --bind 127.0.0.1:0 {listens}"));
        let text = read_until(&mut listening.screen, "#") + &read_until(&mut listening.screen, "\n");
        let link = text[text.find("HTTP://").unwrap()..].trim().to_owned();
        let mut sender = OnTerminal::run(&env, &format!("send data --to '{link}' {sends}"));
        let limited = if sends.is_empty() { &mut listening } else { &mut sender };
        limited.see("limited to 1 B/s: l no limit");
        limited.press("l");
        sender.end();
        listening.end();
        assert!(same_bytes(&file, &env.path("into/data")));
    }
}

#[test]
fn what_is_resumed_is_limited_by_keys() {
    let env = CliEnv::new();
    let file = env.file("data", &noise());
    let sender = env.send(&["data"]);
    let mut receiver = OnTerminal::run(&env, &format!("receive '{}' --into into --yes --limit 1", sender.first_line));
    receiver.see("q stop");
    receiver.press("qq");
    receiver.end();
    let mut resumed = OnTerminal::run(&env, "resume into --limit 1");
    resumed.see("limited to 1 B/s: l no limit");
    resumed.press("l");
    resumed.end();
    assert!(same_bytes(&file, &env.path("into/data")));
}

#[test]
fn a_listening_receiver_asks_while_keys_are_taken_for_another_sender() {
    let env = CliEnv::new();
    let (first, second) = (env.file("first", &noise()), env.file("second", &noise()));
    let mut listening = OnTerminal::run(&env, "receive --into into --keep --no-qr --bind 127.0.0.1:0 --limit 1");
    let text = read_until(&mut listening.screen, "#") + &read_until(&mut listening.screen, "\n");
    let link = text[text.find("HTTP://").unwrap()..].trim().to_owned();
    let push = |name: &str| env.command(&["send", name, "--to", &link]).spawn().unwrap();
    let slow = push("first");
    listening.see("Accept? [y/N] ");
    listening.press("y\n");
    listening.see("limited to 1 B/s: l no limit");
    let asking = push("second");
    listening.see("Accept? [y/N] ");
    listening.press("y\n");
    listening.see("limited to 1 B/s: l no limit");
    listening.press("l");
    assert_eq!((ended(slow).code, ended(asking).code), (Some(0), Some(0)));
    listening.press("\x03");
    listening.end();
    assert!(same_bytes(&first, &env.path("into/first")) && same_bytes(&second, &env.path("into/second")));
}

#[test]
fn ctrl_backslash_does_not_leave_the_terminal_without_echo() {
    let env = CliEnv::new();
    env.file("data", b"data");
    let mut sender = OnTerminal::send(&env, "data --keep");
    sender.see("q stop");
    sender.press("\x1cq");
    sender.see("q once more stops");
    sender.press("q");
    sender.end();
}

#[test]
fn ctrl_c_keeps_its_meaning_and_the_terminal_is_given_back() {
    let env = CliEnv::new();
    env.file("data", b"data");
    let mut sender = OnTerminal::send(&env, "data --keep");
    sender.see("q stop");
    sender.press("\x03");
    sender.end();
}

#[test]
fn a_sender_that_is_terminated_gives_the_terminal_back() {
    let env = CliEnv::new();
    env.file("data", b"data");
    let mut sender = OnTerminal::send(&env, "data --keep");
    sender.see("q stop");
    // The shell that the sender was started by is a child of script(1).
    let children = |of: u32| std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    let shell: u32 = children(sender.child.id()).trim().parse().unwrap();
    let haul: i32 = children(shell).trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(haul).unwrap(), Signal::TERM).unwrap();
    sender.end();
}

#[test]
fn a_receiver_in_the_background_that_asks_nothing_is_not_stopped() {
    let env = CliEnv::new();
    env.file("data", b"data");
    let sender = env.send(&["data"]);
    // With `-m` each command has a process group of its own, as in a shell that somebody types into.
    let line = format!("set -m; {HAUL} receive '{}' --yes --into into & wait $!; echo ended: $?.", sender.first_line);
    let output = env.in_shell(&line).output().unwrap();
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(screen.contains("ended: 0."), "{screen}");
    assert!(same_bytes(&env.path("data"), &env.path("into/data")));
}

#[test]
fn without_a_terminal_nobody_can_be_asked_and_there_are_no_keys() {
    let env = CliEnv::new();
    env.file("data", b"data");
    let ran = env.run(&["send", "data", "--ask-each"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("there is no terminal to ask on about each receiver"), "{}", ran.err);
    let sender = env.send(&["data", "--keep"]);
    let (code, text) = sender.signal(Signal::TERM);
    assert!(code.is_some() && !text.contains("q stop"), "{text}");
}
