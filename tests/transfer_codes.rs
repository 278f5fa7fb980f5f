//! Transfers that begin with a code: it works once, and from then on its session is enough.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/listening.rs"]
mod listening;
#[path = "support/netns.rs"]
mod netns;
#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;

use listening::Listening;
use netns::{Cable, may_make_networks};
use process::{Playground, Receiving, run};
use proxy::{Proxy, Then};
use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

#[test]
fn a_code_fetches_an_offer_however_it_is_typed() {
    let playground = Playground::new();
    let file = playground.file("data", 1 << 20, 1);
    let typings: [fn(&str) -> String; 4] = [
        str::to_owned,
        str::to_uppercase,
        |code| code.replace('-', "  "),
        |code| {
            let (number, words) = code.split_once('-').unwrap();
            let short: Vec<_> = words.split('-').map(|word| &word[..4]).collect();
            format!("{number} {}", short.join("-"))
        },
    ];
    for (turn, typing) in typings.into_iter().enumerate() {
        let into = playground.dir(&format!("into.{turn}"));
        let sending = playground.send(&[&file], &[]);
        let typed = typing(sending.code());
        let received = playground.receive_code(&typed, sending.at(), &into, &[]).wait();
        received.assert_ok();
        assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
        assert!(!into.join(".haul").exists());
        let (code, events, _) = sending.wait_for_all();
        assert_eq!(code, Some(0));
        assert!(events.iter().all(|event| event["event"] != "code"), "it ends with the one that had the code");
    }
}

#[test]
fn a_code_comes_from_the_environment_and_from_standard_input_too() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let mut sending = playground.send(&[&file], &["--keep"]);
    let first = sending.code().to_owned();
    let mut command = playground.command("receive");
    command
        .args(["--yes", "--json", "--at", sending.at(), "--into"])
        .arg(playground.dir("one"))
        .env("HAUL_LINK", &first);
    Playground::start_receive(command).wait().assert_ok();

    let (second, why) = sending.next_code();
    assert_eq!(why, "used");
    let mut command = playground.command("receive");
    command.args(["--yes", "--json", "--at", sending.at(), "-", "--into"]).arg(playground.dir("two"));
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", second.unwrap()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(playground.path("two/data").exists());
    sending.kill();
}

#[test]
fn row_66_three_wrong_codes_burn_the_right_one_and_the_sender_shows_another() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let into = playground.dir("into");
    let mut sending = playground.send(&[&file], &[]);
    let burnt = sending.code().to_owned();
    for tried in 1..=3 {
        let wrong = another_code(&burnt, tried);
        let received = playground.receive_code(&wrong, sending.at(), &into, &[]).wait();
        received.assert_exit(42);
        assert!(received.stderr.contains("the code was not accepted"), "{}", received.stderr);
        assert_no_word(&received.stderr, &wrong);
    }
    let (fresh, why) = sending.next_code();
    let fresh = fresh.unwrap();
    assert!(why == "burnt" && fresh != burnt);
    assert_eq!(fresh.split('-').next(), burnt.split('-').next(), "the number stays");
    playground.receive_code(&burnt, sending.at(), &into, &[]).wait().assert_exit(42);
    assert!(!into.join("data").exists());
    playground.receive_code(&fresh, sending.at(), &into, &[]).wait().assert_ok();
    let (code, _, told) = sending.wait_for_all();
    assert_eq!(code, Some(0));
    assert_eq!(told.matches("tried a wrong code").count(), 4, "{told}");
    assert_no_word(&told, &fresh);
}

#[test]
fn a_code_serves_one_receiver_and_the_next_one_has_its_own() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let mut sending = playground.send(&[&file], &["--keep"]);
    let first = sending.code().to_owned();
    playground.receive_code(&first, sending.at(), &playground.dir("one"), &[]).wait().assert_ok();
    let (second, why) = sending.next_code();
    assert_eq!(why, "used");
    playground.receive_code(&first, sending.at(), &playground.dir("two"), &[]).wait().assert_exit(42);
    playground.receive_code(&second.unwrap(), sending.at(), &playground.dir("two"), &[]).wait().assert_ok();
    // The link goes on beside the codes.
    playground.receive(&sending.link, &playground.dir("three"), &[]).wait().assert_ok();
    sending.kill();
}

#[test]
fn a_sender_without_a_code_accepts_none() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let sending = playground.send(&[&file], &["--no-code"]);
    assert_eq!(sending.code, None);
    let into = playground.dir("into");
    playground.receive_code("7-amber-canoe-lentil", sending.at(), &into, &[]).wait().assert_exit(42);
    playground.receive(&sending.link, &into, &[]).wait().assert_ok();
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn a_code_whose_receiver_turns_the_offer_down_is_followed_by_another_one() {
    let playground = Playground::new();
    let file = playground.file(".profile", 1000, 1);
    let into = playground.dir("into");
    let mut sending = playground.send(&[&file], &[]);
    let receive = |code: &str, at: &str, more: &[&str]| {
        let mut command = playground.command("receive");
        command.args([code, "--at", at, "--yes", "--json", "--into"]).arg(&into).args(more).env("HOME", &into);
        Playground::start_receive(command).wait()
    };
    let (first, at) = (sending.code().to_owned(), sending.at().to_owned());
    let refused = receive(&first, &at, &[]);
    assert_ne!(refused.status.code(), Some(0), "a hidden name directly in the home folder needs a word");
    let (second, why) = sending.next_code();
    assert_eq!(why, "used");
    receive(&second.unwrap(), &at, &["--allow-hidden"]).assert_ok();
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn a_killed_receiver_continues_with_the_code_that_it_used_before() {
    let playground = Playground::new();
    let file = playground.file("data", 96 << 20, 5);
    let into = playground.dir("into");
    let mut sending = playground.send(&[&file], &[]);
    let code = sending.code().to_owned();
    let proxy = Proxy::new(&sending.link, 48 * MIB, Then::Stall);
    let mut first = playground.receive_code(&code, &proxy.at(), &into, &[]);
    until_half(&mut first);
    first.kill();
    proxy.release();
    assert_no_word_on_disk(&into.join(".haul"), &code);
    // The host shows another one by now, and the old one works for nobody else.
    assert_eq!(sending.next_code().1, "used");
    playground.receive_code(&code, sending.at(), &playground.dir("elsewhere"), &[]).wait().assert_exit(42);
    let second = playground.receive_code(&code, sending.at(), &into, &[]).wait();
    let done = second.assert_ok();
    assert!(done["bytes_reused"].as_u64().unwrap() >= 40 * MIB, "{done}");
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert!(!into.join(".haul").exists());
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn resume_continues_what_a_code_began_and_needs_neither_code_nor_address() {
    let playground = Playground::new();
    let file = playground.file("data", 96 << 20, 6);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &[]);
    let (code, at) = (sending.code().to_owned(), sending.at().to_owned());
    let mut first = playground.receive_code(&code, &at, &into, &[]);
    assert!(first.wait_until(|event| event["event"] == "progress" && event["bytes_fetched"].as_u64() > Some(8 * MIB)));
    first.kill();
    // The sender starts again as well, and shows another code.
    sending.kill();
    let again = playground.send(&[&file], &[]);
    assert_ne!(again.code(), code);
    let resumed = run(playground.command("resume").arg(&into).args(["--json", "--retry-for", "60s"]));
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert!(!into.join(".haul").exists());
    assert_eq!(again.wait().0, Some(0));
}

#[test]
fn a_lost_connection_goes_on_by_the_session_and_never_by_the_code() {
    let playground = Playground::new();
    let file = playground.file("data", 64 << 20, 7);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &[]);
    let proxy = Proxy::new(&sending.link, 24 * MIB, Then::Cut);
    let mut receiving = playground.receive_code(sending.code(), &proxy.at(), &into, &[]);
    proxy.wait_until_reached();
    assert!(receiving.wait_until(|event| event["phase"] == "reconnecting"));
    proxy.release();
    let received = receiving.wait();
    received.assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    let (code, _, told) = sending.wait_for_all();
    assert_eq!(code, Some(0));
    assert!(!told.contains("tried a wrong code"), "{told}");
}

#[test]
fn a_sender_that_takes_its_time_is_asked_once() {
    let playground = Playground::new();
    let file = playground.file("data", 1000, 1);
    let sending = playground.send(&[&file], &[]);
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, target) = (slow.local_addr().unwrap().to_string(), sending.at().to_owned());
    let (told, connections) = std::sync::mpsc::channel();
    let accepted = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    thread::spawn(move || {
        for wait in [Duration::from_secs(2)].into_iter().chain(std::iter::repeat(Duration::ZERO)) {
            let (mut from_receiver, _) = slow.accept().unwrap();
            accepted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (accepted, told) = (std::sync::Arc::clone(&accepted), told.clone());
            let mut to_sender = TcpStream::connect(&target).unwrap();
            let (mut back, mut forth) = (to_sender.try_clone().unwrap(), from_receiver.try_clone().unwrap());
            thread::spawn(move || {
                // Longer than a receiver waits before it tries a host once more that it has a link to.
                thread::sleep(wait);
                let _ = told.send(accepted.load(std::sync::atomic::Ordering::Relaxed));
                let _ = std::io::copy(&mut back, &mut forth);
                let _ = forth.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let _ = std::io::copy(&mut from_receiver, &mut to_sender);
                let _ = to_sender.shutdown(Shutdown::Both);
            });
        }
    });
    let received = playground.receive_code(sending.code(), &at, &playground.dir("into"), &[]).wait();
    received.assert_ok();
    assert_eq!(connections.recv(), Ok(1), "no second try was begun beside the first one: each would cost one of three");
    assert_eq!(sending.wait().0, Some(0));
}

#[test]
fn what_is_wrong_with_where_a_sender_is_said_to_be_has_its_own_words() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let at = |at: &str| {
        let received = playground.receive_code("7-amber-canoe-lentil", at, &into, &[]).wait();
        (received.status.code().unwrap(), received.stderr)
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let ssh = other.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut socket, _)) = other.accept() {
            let _ = socket.write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
        }
    });
    for (place, code, words) in [
        (free.to_string(), 10, "error: nobody listens there"),
        (ssh.to_string(), 12, "error: what answers there is not haul"),
        ("no-such-host.invalid:4285".to_owned(), 10, "error: the name `no-such-host.invalid` is not known here"),
        ("127.0.0.1:65536".to_owned(), 2, "error: the port of `127.0.0.1:65536` is out of range"),
        ("127.0.0.1".to_owned(), 2, "error: `127.0.0.1` has no port"),
    ] {
        let (exit, told) = at(&place);
        assert!(exit == code && told.contains(words), "{place}: {exit}: {told}");
        assert!(told.contains("  next:  "), "{told}");
    }
}

#[test]
fn a_code_that_is_none_is_answered_before_anybody_is_asked() {
    let playground = Playground::new();
    let into = playground.dir("into");
    for (typed, words) in [
        ("7-amber-canoe-lental", "did you mean `lentil`?"),
        ("amber canoe lentil", "the code has no number"),
        ("7-amber-canoe", "a code has 3 words, and this has 2"),
        ("1000-amber-canoe-lentil", "the number of a code is from 1 to 999"),
    ] {
        let received = playground.receive(typed, &into, &[]).wait();
        received.assert_exit(42);
        assert!(received.stderr.contains(words), "{typed}: {}", received.stderr);
        assert!(!received.stderr.contains("lental"), "what was typed is not repeated");
    }
}

#[test]
fn a_sender_that_is_not_found_is_named_by_its_number_with_another_way() {
    if !may_make_networks() {
        return;
    }
    let cable = Cable::new(["10.78.0.1/24", "10.78.0.2/24"]);
    let playground = Playground::new();
    let mut command = cable.command(0, env!("CARGO_BIN_EXE_haul"));
    command.args(["receive", "7-amber-canoe-lentil", "--yes", "--into"]).arg(playground.dir("into"));
    let ran = run(command.stdin(Stdio::null()).stdout(Stdio::piped()));
    assert_eq!(ran.code, Some(35), "{ran:?}");
    assert!(ran.stderr.contains("no sender that shows the number 7 was found on this network"), "{ran:?}");
    assert!(ran.stderr.contains("--at HOST:PORT"), "{ran:?}");
}

/// How the address of one end is changed while 64 MiB are under way, at 10 MB a second.
struct Move<'a> {
    cable: &'a Cable,
    end: usize,
    from: &'a str,
    to: &'a str,
    /// How soon the transfer has to go on.
    within: Duration,
}

impl Move<'_> {
    /// A receiver that is told a link goes by that, any other one by the code alone.
    fn is_ridden_out(&self, by_link: bool) {
        let playground = Playground::new();
        let file = playground.file("data", 64 << 20, 8);
        let into = playground.dir("into");
        let on = |end: usize, verb: &str| {
            let mut command = self.cable.command(end, env!("CARGO_BIN_EXE_haul"));
            command.arg(verb).stdin(Stdio::null()).stdout(Stdio::piped()).args(["--json", "--no-progress"]);
            command.env("XDG_STATE_HOME", playground.path("state")).env("XDG_CACHE_HOME", playground.path("cache"));
            command
        };
        let mut send = on(0, "send");
        send.arg(&file);
        let sending = playground.start_send(send);
        let rate =
            ["qdisc", "add", "dev", "cable", "root", "tbf", "rate", "80mbit", "burst", "64kb", "latency", "50ms"];
        assert!(self.cable.command(0, "tc").args(rate).status().unwrap().success());
        let mut receive = on(1, "receive");
        receive.args([if by_link { &sending.link } else { sending.code() }, "--yes", "--into"]).arg(&into);
        let mut receiving = Playground::start_receive(receive);
        let mut fetched = 0;
        assert!(receiving.wait_until(|event| {
            fetched = event["bytes_fetched"].as_u64().unwrap_or(0);
            fetched > 0
        }));
        assert!(fetched < 32 * MIB, "what follows can only come from the other address");
        self.cable.configure(self.end, &["address", "delete", self.from, "dev", "cable"]);
        self.cable.configure(self.end, &["address", "add", self.to, "dev", "cable"]);
        let moved = Instant::now();
        // What was in flight at that moment may still be counted.
        let goes_on =
            |event: &serde_json::Value| event["bytes_fetched"].as_u64().is_some_and(|now| now > fetched + 4 * MIB);
        assert!(receiving.wait_until(goes_on));
        let gap = moved.elapsed();
        println!("{} MiB more had come {:.1} s after the address of end {} changed", 4, gap.as_secs_f64(), self.end);
        assert!(gap < self.within, "{gap:?}");
        receiving.wait().assert_ok();
        assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
        assert_eq!(sending.wait().0, Some(0));
    }
}

#[test]
fn a_code_alone_finds_its_sender_and_follows_it_to_another_address() {
    if !may_make_networks() {
        return;
    }
    let cable = Cable::new(["10.79.0.1/24", "10.79.0.2/24"]);
    let within = Duration::from_secs(10);
    Move { cable: &cable, end: 0, from: "10.79.0.1/24", to: "10.79.0.9/24", within }.is_ridden_out(false);
}

#[test]
fn a_receiver_whose_address_changes_goes_on_within_seconds() {
    if !may_make_networks() {
        return;
    }
    let cable = Cable::new(["10.84.0.1/24", "10.84.0.2/24"]);
    let within = Duration::from_secs(5);
    Move { cable: &cable, end: 1, from: "10.84.0.2/24", to: "10.84.0.9/24", within }.is_ridden_out(true);
}

#[test]
fn a_code_alone_finds_who_listens() {
    if !may_make_networks() {
        return;
    }
    let cable = Cable::new(["10.83.0.1/24", "10.83.0.2/24"]);
    let playground = Playground::new();
    let file = playground.file("data", 1 << 20, 10);
    let into = playground.dir("into");
    let on = |end: usize, verb: &str| {
        let mut command = cable.command(end, env!("CARGO_BIN_EXE_haul"));
        command.arg(verb).stdin(Stdio::null()).stdout(Stdio::piped()).args(["--json", "--no-progress"]);
        command.env("XDG_STATE_HOME", playground.path("state")).env("XDG_CACHE_HOME", playground.path("cache"));
        command
    };
    let mut receive = on(1, "receive");
    receive.args(["--yes", "--into"]).arg(&into);
    let listening = Listening::start(receive);
    let mut push = on(0, "send");
    push.arg(&file).args(["--to", listening.code()]);
    Playground::start_receive(push).wait().assert_ok();
    listening.wait().assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
}

#[test]
fn another_host_at_the_same_port_does_not_end_an_interrupted_transfer() {
    if !may_make_networks() {
        return;
    }
    let cable = Cable::new(["10.82.0.1/24", "10.82.0.2/24"]);
    let playground = Playground::new();
    let file = playground.file("data", 64 << 20, 9);
    let into = playground.dir("into");
    let on = |end: usize, verb: &str, state: &str| {
        let mut command = cable.command(end, env!("CARGO_BIN_EXE_haul"));
        command.arg(verb).stdin(Stdio::null()).stdout(Stdio::piped()).args(["--json", "--no-progress"]);
        command.env("XDG_STATE_HOME", playground.path(state)).env("XDG_CACHE_HOME", playground.path("cache"));
        command
    };
    let send = |end: usize, state: &str| {
        let mut command = on(end, "send", state);
        command.arg(&file).args(["--bind", "0.0.0.0:4285"]);
        playground.start_send(command)
    };
    let sending = send(0, "state");
    // Somebody else's, which the receiver's search finds and which turns its session and its link down.
    let other = send(1, "other");
    let rate = ["qdisc", "add", "dev", "cable", "root", "tbf", "rate", "80mbit", "burst", "64kb", "latency", "50ms"];
    assert!(cable.command(0, "tc").args(rate).status().unwrap().success());
    let mut receive = on(1, "receive", "state");
    receive.args([&sending.link, "--yes", "--into"]).arg(&into);
    let mut receiving = Playground::start_receive(receive);
    assert!(receiving.wait_until(|event| event["bytes_fetched"].as_u64() > Some(0)));
    sending.kill();
    let lost = Instant::now();
    // Longer than a receiver has patience with a host that turns it down.
    let is_waiting =
        receiving.wait_until(|event| event["phase"] == "reconnecting" && lost.elapsed() > Duration::from_secs(8));
    assert!(is_waiting, "the transfer ended");
    let again = send(0, "state");
    receiving.wait().assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert_eq!(again.wait().0, Some(0));
    other.kill();
}

#[test]
fn a_sender_that_comes_back_with_another_offer_goes_on_with_the_session_of_its_code() {
    let playground = Playground::new();
    let source = playground.dir("source");
    fs::copy(playground.file("data", 64 << 20, 11), source.join("data")).unwrap();
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &[]);
    let proxy = Proxy::new(&sending.link, 24 * MIB, Then::Cut);
    let mut receiving = playground.receive_code(sending.code(), &proxy.at(), &into, &[]);
    assert!(receiving.wait_until(|event| event["phase"] == "reconnecting"));
    sending.kill();
    fs::write(source.join("new"), b"new").unwrap();
    let again = playground.send(&[&source], &[]);
    proxy.release();
    let received = receiving.wait();
    received.assert_ok();
    assert!(received.events.iter().any(|event| event.to_string().contains("something else")), "{received:?}");
    for name in ["data", "new"] {
        assert!(fs::read(into.join("source").join(name)).unwrap() == fs::read(source.join(name)).unwrap(), "{name}");
    }
    let (code, _, told) = again.wait_for_all();
    assert_eq!(code, Some(0));
    assert!(!told.contains("tried a wrong code"), "{told}");
}

#[test]
fn a_false_announcement_of_the_number_does_not_keep_a_code_from_its_sender() {
    if !may_make_networks() {
        return;
    }
    let cable = Cable::new(["10.83.0.1/24", "10.83.0.2/24"]);
    let playground = Playground::new();
    let file = playground.file("data", 1000, 10);
    let into = playground.dir("into");
    let on = |end: usize, verb: &str, state: &str| {
        let mut command = cable.command(end, env!("CARGO_BIN_EXE_haul"));
        command.arg(verb).stdin(Stdio::null()).stdout(Stdio::piped()).args(["--json", "--no-progress"]);
        command.env("XDG_STATE_HOME", playground.path(state)).env("XDG_CACHE_HOME", playground.path("cache"));
        command
    };
    let send = |end: usize, state: &str| {
        let mut command = on(end, "send", state);
        command.arg(&file).args(["--bind", "0.0.0.0:4285", "--no-announce"]);
        playground.start_send(command)
    };
    let (sending, other) = (send(0, "state"), send(1, "other"));
    let number = sending.code().split('-').next().unwrap().parse().unwrap();
    let announce = |end: usize| cable.on(end, || haul::transport::Announcement::new(4285, Some(number)).unwrap());
    let _false_one = announce(1);
    let mut receive = on(1, "receive", "state");
    receive.args([sending.code(), "--yes", "--into"]).arg(&into);
    let receiving = Playground::start_receive(receive);
    let began = Instant::now();
    while !other.stderr().contains("tried a wrong code") {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody was asked");
        thread::yield_now();
    }
    let _true_one = announce(0);
    receiving.wait().assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert_eq!(sending.wait().0, Some(0));
    other.kill();
}

/// A code that differs from `code` in its last word.
fn another_code(code: &str, turn: usize) -> String {
    let (rest, last) = code.rsplit_once('-').unwrap();
    let words = haul::secret::code_words();
    let place = words.iter().position(|word| *word == last).unwrap();
    format!("{rest}-{}", words[(place + turn) % words.len()])
}

fn assert_no_word(text: &str, code: &str) {
    // Its words are common ones, and so may stand anywhere; together they are the code.
    let words: Vec<_> = code.split('-').skip(1).collect();
    assert!(!text.contains(&words.join("-")) && !text.contains(&words.join(" ")), "{text}");
}

fn assert_no_word_on_disk(folder: &std::path::Path, code: &str) {
    let words: Vec<_> = code.split('-').skip(1).collect();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.metadata().unwrap().len() < MIB)
    {
        let bytes = fs::read(entry.path()).unwrap();
        let wanted = words.join("-").into_bytes();
        assert!(!bytes.windows(wanted.len()).any(|window| window == wanted), "{}", entry.path().display());
    }
}

fn until_half(receiving: &mut Receiving) {
    assert!(
        receiving.wait_until(|event| event["event"] == "progress" && event["bytes_fetched"].as_u64() >= Some(40 * MIB)),
        "half of it arrives"
    );
}
