//! Several receivers of one sender: each is shown, limited, asked about and disconnected by itself, and one that stalls
//! or leaves holds up nobody.

#![allow(clippy::unwrap_used)]

#[path = "support/many.rs"]
mod many;
#[path = "support/process.rs"]
mod process;

use haul::limits::{CODE_TRIES_MAX, MESSAGE_BYTES_MAX, SESSIONS_MAX};
use haul::secret::{SessionId, SessionSecret};
use haul::transfer::{Controls, Event, PeerState, SendSettings};
use haul::transport::Proof;
use haul::wire::{FrameHeader, Message};
use many::{Crowd, hello, lane_at, link_proof, read, turned_away};
use process::{noise, signal};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Slow enough for whatever a test does meanwhile.
fn slow() -> Option<NonZeroU64> {
    NonZeroU64::new(64 << 10)
}

#[test]
fn a_receiver_that_is_stopped_holds_up_nobody_and_goes_on_later() {
    let crowd = Crowd::new(24 * MIB, SendSettings::default());
    let held = crowd.receive_slowly("into0");
    signal(held.id(), Signal::STOP);
    let others = [1, 2].map(|n| crowd.receive(&format!("into{n}")));
    crowd.controls.limit(1, None);
    for other in others {
        other.wait().assert_ok();
    }
    signal(held.id(), Signal::CONT);
    held.wait().assert_ok();
    crowd.assert_arrived(&["into0", "into1", "into2"]);
    crowd.stop();
}

#[test]
fn a_receiver_that_is_stopped_is_told_as_stalled() {
    let crowd = Crowd::new(24 * MIB, SendSettings::default());
    let held = crowd.receive_slowly("into");
    signal(held.id(), Signal::STOP);
    crowd.controls.limit(1, None);
    crowd.wait_until(|event| matches!(event, Event::PeerProgress { session: 1, state: PeerState::Stalled, .. }));
    signal(held.id(), Signal::CONT);
    held.wait().assert_ok();
    crowd.stop();
}

#[test]
fn a_receiver_that_is_disconnected_ends_with_a_word_and_the_others_go_on() {
    let crowd = Crowd::new(12 * MIB, SendSettings::default());
    let unwanted = crowd.receive_slowly("unwanted");
    let other = crowd.receive("into");
    crowd.wait_until(|event| matches!(event, Event::PeerConnected { session: 2, .. }));
    crowd.controls.disconnect(1);
    crowd.wait_until(|event| matches!(event, Event::PeerRefused { session: 1 }));
    let ended = unwanted.wait();
    let error = ended.assert_exit(41)["error"].as_str().unwrap().to_owned();
    assert_eq!(error, "the other end refused: its user declined, or disconnected this receiver");
    assert!(ended.stderr.contains("kept:  everything that was verified is kept"), "{}", ended.stderr);
    other.wait().assert_ok();
    crowd.assert_arrived(&["into"]);
    // It is not let in again, neither by what it kept nor by the link, and the user learns of it.
    crowd.receive("unwanted").wait().assert_exit(41);
    crowd.receive("fresh").wait().assert_exit(41);
    crowd.wait_until(|event| matches!(event, Event::Notice { text } if text.contains("127.0.0.1, whose receiver you")));
    assert!(!crowd.playground.path("fresh/data").exists());
    crowd.stop();
}

#[test]
fn a_receiver_hears_nothing_of_the_offer_before_it_is_accepted() {
    let crowd = Crowd::new(MIB, SendSettings { ask_each: true, ..SendSettings::default() });
    let mut lane = crowd.lane(&link_proof(&crowd.link));
    hello(&mut lane);
    crowd.wait_until(|event| matches!(event, Event::PeerAsks { session: 1, .. }));
    assert_eq!(read(&mut lane), Some(Message::Working));
    crowd.controls.accept(1);
    crowd.wait_until(|event| matches!(event, Event::PeerConnected { session: 1, .. }));
    let answers: Vec<_> =
        std::iter::from_fn(|| read(&mut lane)).take_while(|answer| *answer == Message::Working).collect();
    assert!(answers.len() < 100, "the welcome follows");
    drop(lane);
    // The next one is asked about as well, and refused.
    let mut lane = crowd.lane(&link_proof(&crowd.link));
    hello(&mut lane);
    crowd.wait_until(|event| matches!(event, Event::PeerAsks { session: 2, .. }));
    crowd.controls.refuse(2);
    assert!(turned_away(&mut lane));
    // A real one, from the same address.
    let receiving = crowd.receive("into");
    crowd.wait_until(|event| matches!(event, Event::PeerAsks { session: 3, .. }));
    crowd.controls.accept(3);
    receiving.wait().assert_ok();
    crowd.assert_arrived(&["into"]);
    crowd.stop();
}

#[test]
fn one_that_does_not_wait_for_the_answer_is_not_asked_about_any_more() {
    let crowd = Crowd::new(MIB, SendSettings { ask_each: true, ..SendSettings::default() });
    let mut lane = crowd.lane(&link_proof(&crowd.link));
    hello(&mut lane);
    crowd.wait_until(|event| matches!(event, Event::PeerAsks { session: 1, .. }));
    drop(lane);
    crowd.wait_until(|event| matches!(event, Event::PeerLost { session: 1 }));
    crowd.controls.accept(1);
    let receiving = crowd.receive("into");
    crowd.wait_until(|event| match event {
        Event::PeerConnected { session, .. } => panic!("{session} is let in without a word"),
        event => matches!(event, Event::PeerAsks { session: 2, .. }),
    });
    crowd.controls.accept(2);
    receiving.wait().assert_ok();
    crowd.stop();
}

#[test]
fn a_limit_holds_back_one_receiver_or_all_and_is_lifted_again() {
    let crowd = Crowd::new(12 * MIB, SendSettings { limit: NonZeroU64::new(1), ..SendSettings::default() });
    let receivers = ["into0", "into1"].map(|name| crowd.receive(name));
    // Of a byte a second, one piece comes at first, and then nothing for hours.
    for wanted in [1, 2] {
        crowd.wait_until(|event| {
            matches!(event, Event::PeerProgress { session, state: PeerState::Limited, .. } if *session == wanted)
        });
    }
    crowd.controls.limit(2, NonZeroU64::new(1));
    crowd.controls.limit_all(None);
    let mut first = None;
    crowd.wait_until(|event| {
        if let Event::PeerFinished { session, bytes, .. } = event {
            first = Some((*session, *bytes));
        }
        first.is_some()
    });
    assert_eq!(first, Some((1, 12 << 20)), "the other one is limited by itself");
    crowd.wait_until(
        |event| matches!(event, Event::PeerProgress { session: 2, limit, .. } if *limit == NonZeroU64::new(1)),
    );
    crowd.controls.limit(2, None);
    for receiver in receivers {
        receiver.wait().assert_ok();
    }
    crowd.assert_arrived(&["into0", "into1"]);
    crowd.stop();
}

#[test]
fn each_receiver_is_told_what_was_sent_to_it() {
    let crowd = Crowd::new(3 * MIB, SendSettings::default());
    for (session, name) in [(1, "into0"), (2, "into1")] {
        crowd.receive(name).wait().assert_ok();
        let mut sent = 0;
        crowd.wait_until(|event| match event {
            Event::PeerFinished { session: ended, bytes, ok: true } if *ended == session => {
                sent = *bytes;
                true
            }
            _ => false,
        });
        assert_eq!(sent, 3 << 20);
    }
    crowd.stop();
}

#[test]
fn the_receiver_beyond_the_last_place_waits_by_itself_until_one_is_free() {
    let crowd = Crowd::new(MIB, SendSettings::default());
    let mut lanes: Vec<_> = (0..SESSIONS_MAX)
        .map(|_| {
            let mut lane = crowd.lane(&link_proof(&crowd.link));
            hello(&mut lane);
            assert!(matches!(read(&mut lane), Some(Message::Welcome { .. })));
            lane
        })
        .collect();
    let mut further = crowd.receive("into");
    let is_told = |event: &serde_json::Value| {
        event["event"] == "warning" && event["text"].as_str().unwrap().contains("serves as many receivers as it can")
    };
    assert!(further.wait_until(is_told));
    lanes.pop().unwrap().close().unwrap();
    let received = further.wait();
    received.assert_ok();
    assert!(!received.events.iter().skip_while(|event| !is_told(event)).skip(1).any(is_told), "it is said once");
    crowd.assert_arrived(&["into"]);
    drop(lanes);
    crowd.stop();
}

#[test]
fn a_code_that_finds_no_place_is_as_good_as_before() {
    let crowd = Crowd::new(MIB, SendSettings::default());
    let mut lanes: Vec<_> = (0..SESSIONS_MAX)
        .map(|_| {
            let mut lane = crowd.lane(&link_proof(&crowd.link));
            hello(&mut lane);
            assert!(matches!(read(&mut lane), Some(Message::Welcome { .. })));
            lane
        })
        .collect();
    let mut further = crowd.receive_by_code(&crowd.code, "into");
    // More often than a wrong code is put to anybody.
    let mut tries = 0;
    assert!(further.wait_until(|event| {
        tries += u32::from(event["phase"] == "reconnecting");
        tries > CODE_TRIES_MAX + 1
    }));
    lanes.pop().unwrap().close().unwrap();
    further.wait().assert_ok();
    crowd.assert_arrived(&["into"]);
    let next = crowd.next_code();
    assert_ne!(next, crowd.code, "it is used up by the session that it began");
    drop(lanes);
    crowd.stop();
}

#[test]
fn whoever_has_no_patience_for_a_place_is_told_why() {
    let crowd = Crowd::new(MIB, SendSettings::default());
    let lanes: Vec<_> = (0..SESSIONS_MAX)
        .map(|_| {
            let mut lane = crowd.lane(&link_proof(&crowd.link));
            hello(&mut lane);
            assert!(matches!(read(&mut lane), Some(Message::Welcome { .. })));
            lane
        })
        .collect();
    let ended = crowd.receive_with("into", &["--retry-for", "1s"]).wait();
    let error = ended.assert_exit(41)["error"].as_str().unwrap().to_owned();
    assert_eq!(error, "the other end refused: the other end serves as many receivers as it can");
    drop(lanes);
    crowd.stop();
}

#[test]
fn events_of_each_receiver_name_it_and_those_of_all_do_not() {
    let playground = process::Playground::new();
    let file = playground.file("data", 8 * MIB, 1);
    let mut sending = playground.send(&[&file], &["--keep"]);
    for name in ["into0", "into1"] {
        playground.receive(&sending.link, &playground.dir(name), &[]).wait().assert_ok();
    }
    let of = |session: u64| move |event: &serde_json::Value| event["event"] == "peer" && event["session"] == session;
    let mut sessions = Vec::new();
    let mut finished = 0;
    sending.wait_until(|event| {
        if event["event"] == "progress" {
            sessions.push(event["session"].as_u64());
            assert_eq!(event["session"].is_null(), event["state"].is_null());
        }
        finished += u32::from(of(2)(event) && event["state"] == "finished");
        finished > 0 && sessions.contains(&Some(2)) && sessions.contains(&None)
    });
    sending.kill();
}

#[test]
fn orders_about_nobody_do_nothing() {
    let controls = Controls::new();
    let crowd = Crowd::new(MIB, SendSettings { controls: controls.clone(), ..SendSettings::default() });
    for session in [0, 7, u64::MAX] {
        controls.accept(session);
        controls.refuse(session);
        controls.disconnect(session);
        controls.limit(session, slow());
    }
    crowd.receive("into").wait().assert_ok();
    assert!(fs::read(crowd.playground.path("into/data")).unwrap() == noise(MIB, 1));
    crowd.stop();
}

#[test]
fn a_code_is_followed_by_another_one_however_its_receiver_is_answered() {
    let crowd = Crowd::new(12 * MIB, SendSettings { ask_each: true, ..SendSettings::default() });
    let asks = |wanted: u64| {
        crowd.wait_until(|event| matches!(event, Event::PeerAsks { session, .. } if *session == wanted));
    };
    // So slow that nobody is done before the next code is due.
    crowd.controls.limit_all(NonZeroU64::new(1));
    let refused = crowd.receive_by_code(&crowd.code, "refused");
    asks(1);
    crowd.controls.refuse(1);
    let second = crowd.next_code();
    // Where the word is lost with its lane, what is left is a code that is used up.
    let code = refused.wait().status.code();
    assert!(matches!(code, Some(41 | 42)), "{code:?}");
    let accepted = crowd.receive_by_code(&second, "into0");
    asks(2);
    crowd.controls.accept(2);
    let third = crowd.next_code();
    let further = crowd.receive_by_code(&third, "into1");
    asks(3);
    crowd.controls.accept(3);
    crowd.controls.limit_all(None);
    accepted.wait().assert_ok();
    further.wait().assert_ok();
    crowd.assert_arrived(&["into0", "into1"]);
    crowd.stop();
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "there is one loopback address")]
fn who_is_disconnected_is_kept_out_where_it_is_now_and_not_where_it_was() {
    let crowd = Crowd::new(MIB, SendSettings::default());
    let elsewhere = [from_another_address(crowd.link.addresses()[0])];
    let mut first = crowd.lane(&link_proof(&crowd.link));
    hello(&mut first);
    let Some(Message::Welcome { grant, .. }) = read(&mut first) else { panic!("it is welcome") };
    drop(first);
    crowd.wait_until(|event| matches!(event, Event::PeerLost { session: 1 }));
    let proof = Proof::Session { id: SessionId::from_bytes(grant.id), secret: SessionSecret::from_bytes(grant.secret) };
    let mut roamed = lane_at(&elsewhere, &proof);
    hello(&mut roamed);
    assert!(matches!(read(&mut roamed), Some(Message::Welcome { .. })));
    crowd.controls.disconnect(1);
    assert!(turned_away(&mut roamed));
    // Somebody else is at its first address by now.
    let mut other = crowd.lane(&link_proof(&crowd.link));
    hello(&mut other);
    assert!(matches!(read(&mut other), Some(Message::Welcome { .. })));
    let mut again = lane_at(&elsewhere, &link_proof(&crowd.link));
    hello(&mut again);
    assert!(turned_away(&mut again));
    crowd.stop();
}

#[test]
fn whoever_is_refused_holds_its_place_for_a_moment_only_however_slowly_it_speaks() {
    let crowd = Crowd::new(MIB, SendSettings::default());
    let mut unwanted = crowd.lane(&link_proof(&crowd.link));
    hello(&mut unwanted);
    assert!(matches!(read(&mut unwanted), Some(Message::Welcome { .. })));
    crowd.controls.disconnect(1);
    assert!(turned_away(&mut unwanted));
    let mut slow = crowd.lane(&link_proof(&crowd.link));
    // A message that takes hours at this pace, each byte of it in time by itself.
    let header = FrameHeader::Message { body_bytes: MESSAGE_BYTES_MAX }.encode();
    slow.send(&[&header]).unwrap();
    let is_over = (0..60).any(|_| match slow.ready_within(Duration::from_millis(300)) {
        Ok(is_ready) => is_ready || slow.send(&[&[0]]).is_err(),
        Err(_) => true,
    });
    assert!(is_over, "it is still listened to");
    crowd.stop();
}

/// Where whoever connects comes to `target` from another address of this machine.
fn from_another_address(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut inside, _)) = listener.accept() {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
            socket.connect(&target.into()).unwrap();
            let mut outside = TcpStream::from(socket);
            let (mut back, mut forth) = (outside.try_clone().unwrap(), inside.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut forth);
                let _ = forth.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let _ = std::io::copy(&mut inside, &mut outside);
                let _ = outside.shutdown(Shutdown::Both);
            });
        }
    });
    address
}
