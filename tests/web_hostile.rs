//! Strangers, other pages and broken requests at the port of a run: each gets a short answer that tells nothing.

#![allow(clippy::unwrap_used)]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/many.rs"]
mod many;
#[path = "support/process.rs"]
mod process;

use browser::{Browser, Reply, text};
use haul::limits::{
    PROOF_DEADLINE, UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX, WEB_CHUNK_BYTES_MAX, WEB_CONNECTIONS_PER_ADDRESS_MAX,
};
use haul::secret::{Key, Link, Room};
use haul::transfer::{Event, SendSettings};
use many::Crowd;
use process::Playground;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

fn crowd() -> Crowd {
    Crowd::new(1000, SendSettings { pages: Some(haul::web::open), ..SendSettings::default() })
}

/// What a stranger gets, whatever they ask for.
fn assert_nothing_here(reply: &Reply, of: &str) {
    assert_eq!((reply.status, &reply.body[..]), (404, &b"404\n"[..]), "{of}");
    assert_eq!(reply.header("connection"), Some("close"), "{of}");
}

#[test]
fn whatever_is_no_room_is_the_same_nothing() {
    let crowd = crowd();
    let browser = Browser::new(&crowd.link);
    let room = browser.page();
    let wrong = format!("{}{}", &room[..26], if room.ends_with('A') { 'Q' } else { 'A' });
    let paths = [
        "/".to_owned(),
        wrong.clone(),
        format!("/v1{wrong}"),
        format!("{room}/"),
        format!("/{room}"),
        format!("{room}%00"),
        "/../../etc/passwd".into(),
        "/%2e%2e/%2e%2e/etc/passwd".into(),
        format!("/_a/..{room}"),
        "//".into(),
        "/d/".into(),
        "/d/../../etc/passwd".into(),
        "/_a/index.html".into(),
        format!("/{}", "A".repeat(8000)),
    ];
    thread::scope(|scope| {
        for paths in paths.chunks(UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX / 2) {
            let asked: Vec<_> =
                paths.iter().map(|path| (path, scope.spawn(|| Browser::new(&crowd.link).get(path, &[])))).collect();
            for (path, reply) in asked {
                assert_nothing_here(&reply.join().unwrap(), path);
            }
        }
    });
    // No path at all.
    let without =
        |line: &str| browser.raw(format!("{line} HTTP/1.1\r\nHost: {}\r\n\r\n", browser.address()).as_bytes());
    for line in ["GET x", "OPTIONS *"] {
        assert_nothing_here(&without(line).expect(line), line);
    }
    // This one may end without a word, as other things do that are no request for a resource.
    if let Some(reply) = without("CONNECT a:1") {
        assert_nothing_here(&reply, "CONNECT");
    }
    crowd.wait_until(|event| matches!(event, Event::Notice { text } if text.contains("tried a wrong link")));
    assert_eq!(browser.get(&room, &[]).status, 200, "and who knows it still gets in");
    crowd.stop();
}

#[test]
fn guesses_are_few_at_a_time_and_take_their_time() {
    let crowd = crowd();
    let browser = Browser::new(&crowd.link);
    let began = Instant::now();
    let guesses = 3 * UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX;
    let request = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", "A".repeat(26), browser.address());
    let guess = || {
        let mut stream = TcpStream::connect(browser.address()).unwrap();
        // It may be reset before it is written.
        let _ = stream.write_all(request.as_bytes());
        browser::read_reply(&mut stream, false)
    };
    let answered = thread::scope(|scope| {
        let asked: Vec<_> = (0..guesses).map(|_| scope.spawn(guess)).collect();
        let replies = asked.into_iter().filter_map(|guess| guess.join().unwrap());
        replies.inspect(|reply| assert_nothing_here(reply, "a guess")).count()
    });
    let seconds = began.elapsed().as_secs() as usize;
    assert!(
        seconds >= 1 && answered <= (seconds + 1) * UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX,
        "{answered} in {seconds} s"
    );
    crowd.stop();
}

#[test]
fn other_names_and_other_pages_are_turned_away() {
    let crowd = crowd();
    let mut browser = Browser::new(&crowd.link);
    let (page, call) = (browser.page(), format!("/v1{}", browser.page()));
    for host in ["evil.example", "evil.example:80", "10.1.2.3:80"] {
        let reply = browser.raw(format!("GET {page} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(reply.status, 403, "{host}");
    }
    let reply = browser.raw(format!("GET {page} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
    assert!([400, 403].contains(&reply.status));
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        for path in [&page, &call] {
            assert_eq!(browser.get(path, &[("Origin", origin)]).status, 403, "{origin}");
        }
        let reply = browser.request("OPTIONS", &call, &[("Origin", origin)]);
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, None));
    }
    // A form of another page, sent by somebody who knows the room.
    let body = "files=1";
    let form = format!(
        "POST {call} HTTP/1.1\r\nHost: {}\r\nOrigin: http://evil.example\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        browser.address(),
        body.len()
    );
    assert_eq!(browser.raw(form.as_bytes()).unwrap().status, 403);
    let own = format!("http://{}", browser.address());
    let preflight = browser.request("OPTIONS", &call, &[("Origin", &own), ("Access-Control-Request-Method", "POST")]);
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some(&*own)));
    for method in ["GET", "PUT", "DELETE", "PATCH", "HEAD"] {
        assert_eq!(browser.request(method, &call, &[("Content-Length", "0")]).status, 405, "{method}");
    }
    assert_eq!(browser.request("POST", &page, &[("Content-Length", "0")]).status, 405);
    browser.hello();
    crowd.stop();
}

#[test]
fn a_body_that_the_key_does_not_open_gets_nothing() {
    let crowd = crowd();
    let mut browser = Browser::new(&crowd.link);
    browser.hello();
    let good = browser.sealed(&text(&json!({ "v": 1, "op": "list", "from": 0, "session": browser.session }), &[]));
    let other = Link::new(crowd.link.addresses(), crowd.link.room(), Key::from_bytes([1; 16])).unwrap();
    let elsewhere = Link::new(crowd.link.addresses(), Room::from_bytes([1; 16]), crowd.link.key().clone()).unwrap();
    let mut flipped = good.clone();
    flipped[30] ^= 1;
    let bodies = [
        flipped,
        good[..good.len() - 1].to_vec(),
        Vec::new(),
        vec![0; 40],
        Browser::new(&other).sealed(b"\0\0\0\0"),
        Browser::new(&elsewhere).sealed(b"\0\0\0\0"),
    ];
    thread::scope(|scope| {
        let (browser, bodies) = (&browser, &bodies);
        let asked: Vec<_> =
            (0..bodies.len()).map(|at| scope.spawn(move || browser.raw(&browser.post(&bodies[at])).unwrap())).collect();
        for reply in asked {
            assert_nothing_here(&reply.join().unwrap(), "a wrong seal");
        }
    });
    assert_eq!(browser.raw(&browser.post(&good)).unwrap().status, 200);
    crowd.stop();
}

#[test]
fn a_call_that_somebody_heard_and_says_again_does_nothing() {
    let crowd = crowd();
    let mut browser = Browser::new(&crowd.link);
    let hello = browser.sealed(&text(&json!({ "v": 1, "op": "hello" }), &[]));
    let (first, _) = browser.exchange(&hello).unwrap();
    browser.session = first["session"].as_str().map(str::to_owned);
    assert_eq!(browser.exchange(&hello).unwrap().0["error"], "busy");
    let session = &browser.session;
    let seal = |op: &str| browser.sealed(&text(&json!({ "v": 1, "op": op, "session": session, "from": 0 }), &[]));
    let (native, list, again) = (seal("native"), seal("list"), seal("hello"));
    assert_eq!(browser.exchange(&native).unwrap().0["ok"], true);
    assert_eq!(browser.exchange(&native).unwrap().0["error"], "busy");
    for harmless in [&list, &list, &again, &again] {
        assert_eq!(browser.exchange(harmless).unwrap().0["ok"], true);
    }
    crowd.stop();
}

#[test]
fn bodies_of_no_length_or_too_much_of_it_are_refused() {
    let crowd = crowd();
    let browser = Browser::new(&crowd.link);
    let call = format!("/v1{}", browser.page());
    let with = |fields: &str| {
        browser.raw(format!("POST {call} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", browser.address()).as_bytes())
    };
    assert_eq!(with("").unwrap().status, 411);
    assert_eq!(with("Transfer-Encoding: chunked\r\n").unwrap().status, 411);
    assert_eq!(with("Content-Length: 99999999\r\n").unwrap().status, 413);
    // Where nothing is taken no call carries a file.
    let most = Browser::new(&crowd.link).hello()["limits"]["call_bytes_max"].as_u64().unwrap();
    assert!(most < WEB_CHUNK_BYTES_MAX, "{most}");
    assert_eq!(with(&format!("Content-Length: {}\r\n", most + 1)).unwrap().status, 413);
    for broken in [
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
    ] {
        assert!(with(broken).is_none_or(|reply| reply.status == 400), "{broken}");
    }
    // Both at once is how requests are smuggled.
    assert!(
        with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")
            .is_none_or(|reply| [400, 411].contains(&reply.status))
    );
    let huge = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", "A".repeat(64 * 1024), browser.address());
    assert!(browser.raw(huge.as_bytes()).is_none_or(|reply| [404, 414, 431].contains(&reply.status)));
    crowd.stop();
}

#[test]
fn a_stranger_that_dawdles_is_gone_at_the_deadline_and_holds_up_nobody() {
    let crowd = crowd();
    let browser = Browser::new(&crowd.link);
    let call = browser.post(&browser.sealed(&text(&json!({ "v": 1, "op": "hello" }), &[])));
    let (most, last) = call.split_at(call.len() - 1);
    let mut known = TcpStream::connect(browser.address()).unwrap();
    known.write_all(most).unwrap();
    let began = Instant::now();
    let mut slow = TcpStream::connect(browser.address()).unwrap();
    slow.write_all(b"GET /").unwrap();
    assert_eq!(browser.get(&browser.page(), &[]).status, 200);
    let mut rest = Vec::new();
    // Closed or reset, it is gone.
    let _ = slow.read_to_end(&mut rest);
    assert!(4 * began.elapsed() >= 3 * PROOF_DEADLINE, "{:?}", began.elapsed());
    known.write_all(last).unwrap();
    assert_eq!(browser::read_reply(&mut known, false).unwrap().status, 200, "who knows the room may take longer");
    crowd.stop();
}

#[test]
fn one_address_gets_so_many_connections_and_no_more() {
    let crowd = crowd();
    let browser = Browser::new(&crowd.link);
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", browser.page(), browser.address());
    let open = || {
        let mut stream = TcpStream::connect(browser.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let status = browser::read_reply(&mut stream, false).unwrap().status;
        (stream, status)
    };
    let held: Vec<_> = (0..WEB_CONNECTIONS_PER_ADDRESS_MAX).map(|_| open()).collect();
    assert!(held.iter().all(|(_, status)| *status == 200));
    assert_eq!(open().1, 503);
    drop(held);
    // The place is free once the host has seen the end of a connection.
    while open().1 != 200 {}
    crowd.stop();
}

#[test]
fn a_call_that_two_say_at_once_is_carried_out_once() {
    let crowd = crowd();
    let mut browser = Browser::new(&crowd.link);
    browser.hello();
    for op in ["hello", "native"] {
        let session = (op == "native").then(|| browser.session.clone());
        let call = browser.sealed(&text(&json!({ "v": 1, "op": op, "session": session }), &[]));
        let start = Barrier::new(4);
        let outcomes = thread::scope(|scope| {
            let say = || {
                start.wait();
                browser.exchange(&call).unwrap().0
            };
            let said: Vec<_> = (0..4).map(|_| scope.spawn(say)).collect();
            said.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        let done = outcomes.iter().filter(|outcome| outcome["ok"] == true).count();
        let refused = outcomes.iter().filter(|outcome| outcome["error"] == "busy").count();
        assert_eq!((done, refused), (1, 3), "{op}: {outcomes:?}");
    }
    crowd.stop();
}

#[test]
fn ten_thousand_guesses_find_nothing_hold_up_nobody_and_leave_nothing_behind() {
    let playground = Playground::new();
    let sending = playground.send(&[&playground.file("data", 1000, 1)], &["--keep"]);
    let link = Link::parse(&sending.link).unwrap();
    let browser = Browser::new(&link);
    let of_process = |field: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", sending.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned();
        line.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let (guesses, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let guess = |number: usize| {
        let guessed = format!("{}{}", &"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[number % 32..=number % 32], "A".repeat(25));
        let path = [format!("/{guessed}"), format!("/v1/{guessed}"), format!("/d/{guessed}/data")][number % 3].clone();
        // A machine of their own, as far as the host can see.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 1, 2, 3], 0)).into()).unwrap();
        socket.connect(&link.addresses()[0].into()).unwrap();
        let mut stream = TcpStream::from(socket);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", link.addresses()[0]);
        // Beyond the places for strangers of one address it is reset.
        let _ = stream.write_all(request.as_bytes());
        if let Some(reply) = browser::read_reply(&mut stream, false) {
            assert_nothing_here(&reply, &path);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let guess_on = || {
        let numbers = std::iter::repeat_with(|| guesses.fetch_add(1, Ordering::Relaxed));
        numbers.take_while(|&number| number < 10_000).for_each(guess);
    };
    let mut early = None;
    thread::scope(|scope| {
        let guessing: Vec<_> = (0..4 * UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX).map(|_| scope.spawn(guess_on)).collect();
        // Everybody else is let in all the while, over new connections.
        while !guessing.iter().all(thread::ScopedJoinHandle::is_finished) {
            assert_eq!(browser.get(&browser.page(), &[]).status, 200);
            if early.is_none() && guesses.load(Ordering::Relaxed) > 1000 {
                early = Some(of_process("VmRSS:"));
            }
        }
    });
    assert!(answered.load(Ordering::Relaxed) > 0, "some were answered");
    let (early, late) = (early.unwrap(), of_process("VmRSS:"));
    assert!(late < early + 16 * 1024, "{early} KiB after 1,000 guesses, {late} after 10,000");
    assert!(of_process("Threads:") < 160);
    sending.kill();
}
