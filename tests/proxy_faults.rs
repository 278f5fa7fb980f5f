//! The proxy that tests break connections with does what it is told to, and nothing else.

#![allow(clippy::unwrap_used)]

#[path = "support/fault_proxy.rs"]
mod fault_proxy;

use fault_proxy::schedule::{self, Step, When};
use fault_proxy::{Fault, FaultProxy, Way, Whom};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const TO_RECEIVER: Way = Way::ToReceiver;
const TO_SENDER: Way = Way::ToSender;

#[test]
fn everything_passes_unchanged_where_nothing_is_asked_for() {
    let proxy = FaultProxy::new(echo());
    let clients: Vec<_> = (0..4u8).map(|seed| (seed, TcpStream::connect(proxy.address()).unwrap())).collect();
    let echoed = clients.into_iter().map(|(seed, client)| thread::spawn(move || (send_all(client, seed), noise(seed))));
    for pair in echoed.collect::<Vec<_>>() {
        let (received, sent) = pair.join().unwrap();
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    }
    let all = 4 * NOISE_BYTES as u64;
    assert_eq!((proxy.passed(TO_SENDER), proxy.passed(TO_RECEIVER), proxy.connections()), (all, all, 4));
    for number in 0..4 {
        proxy.wait_until_over(number);
        assert_eq!(proxy.passed_on(number, TO_SENDER), NOISE_BYTES as u64);
    }
}

#[test]
fn an_end_that_closes_one_direction_still_gets_the_other() {
    let (proxy, mut client, mut server) = pair();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&mut client), End::Closed(vec![]));
    client.write_all(b"still there").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&mut server), End::Closed(b"still there".to_vec()));
    proxy.wait_until_over(0);
}

#[test]
fn an_end_that_resets_resets_the_other() {
    let (proxy, client, mut server) = pair();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(read(&mut server), End::Reset(vec![]));
    proxy.wait_until_over(0);
}

#[test]
fn a_reset_reaches_both_ends() {
    let (proxy, mut client, mut server) = pair();
    proxy.inject(Whom::All, Fault::Reset);
    assert_eq!(read(&mut client), End::Reset(vec![]));
    assert_eq!(read(&mut server), End::Reset(vec![]));
    proxy.wait_until_over(0);
}

#[test]
fn a_reset_reaches_ends_that_the_proxy_waits_for() {
    let (proxy, mut client, server) = pair();
    // Nobody reads on the other side, so that the proxy is stuck in a write, with bytes kept back behind it.
    client.set_nonblocking(true).unwrap();
    while client.write(&noise(0)).is_ok() || proxy.passed_on(0, TO_SENDER) == 0 {}
    proxy.wait_until_kept_back(0, TO_SENDER, 1);
    client.set_nonblocking(false).unwrap();
    proxy.inject(Whom::All, Fault::Reset);
    assert_eq!(read(&mut client), End::Reset(vec![]));
    let mut server = server;
    assert!(matches!(read(&mut server), End::Reset(_)));
}

#[test]
fn an_orderly_close_reaches_both_ends_after_what_was_passed_on() {
    let (proxy, mut client, mut server) = pair();
    client.write_all(b"up").unwrap();
    server.write_all(b"down").unwrap();
    proxy.wait_until_passed(TO_SENDER, 2);
    proxy.wait_until_passed(TO_RECEIVER, 4);
    proxy.inject(Whom::All, Fault::Close);
    client.write_all(b"lost").unwrap();
    assert_eq!(read(&mut client), End::Closed(b"down".to_vec()));
    assert_eq!(read(&mut server), End::Closed(b"up".to_vec()));
    proxy.wait_until_over(0);
}

#[test]
fn half_a_close_leaves_the_other_direction() {
    for (way, closed_client) in [(TO_RECEIVER, true), (TO_SENDER, false)] {
        let (proxy, client, server) = pair();
        let (mut closed, mut open) = if closed_client { (client, server) } else { (server, client) };
        proxy.inject(Whom::Only(0), Fault::HalfClose(way));
        assert_eq!(read(&mut closed), End::Closed(vec![]));
        // Towards the closed end, bytes are taken and dropped.
        open.write_all(&noise(0)[..1 << 16]).unwrap();
        closed.write_all(b"goes on").unwrap();
        closed.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&mut open), End::Closed(b"goes on".to_vec()));
        assert_eq!(proxy.passed(way), 0);
    }
}

#[test]
fn what_is_held_passes_after_the_release_and_its_end_too() {
    let (proxy, mut client, mut server) = pair();
    proxy.inject(Whom::All, Fault::Hold(TO_RECEIVER));
    server.write_all(b"held back").unwrap();
    drop(server);
    proxy.wait_until_kept_back(0, TO_RECEIVER, 9);
    assert_silent(&mut client);
    assert_eq!(proxy.passed(TO_RECEIVER), 0);
    proxy.inject(Whom::All, Fault::Release(TO_RECEIVER));
    assert_eq!(read(&mut client), End::Closed(b"held back".to_vec()));
}

#[test]
fn a_black_hole_swallows_connections_that_arrive() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = FaultProxy::new(listener.local_addr().unwrap());
    proxy.inject(Whom::All, Fault::Hold(TO_SENDER));
    proxy.inject(Whom::All, Fault::Hold(TO_RECEIVER));
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.write_all(b"anybody?").unwrap();
    proxy.wait_until_connections(1);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_silent(&mut client);
    listener.set_nonblocking(false).unwrap();
    proxy.inject(Whom::All, Fault::Release(TO_SENDER));
    let mut server = listener.accept().unwrap().0;
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&mut server), End::Closed(b"anybody?".to_vec()));
    server.write_all(b"here").unwrap();
    drop(server);
    proxy.wait_until_kept_back(0, TO_RECEIVER, 4);
    assert_silent(&mut client);
    proxy.inject(Whom::All, Fault::Release(TO_RECEIVER));
    assert_eq!(read(&mut client), End::Closed(b"here".to_vec()));
}

#[test]
fn a_throttled_direction_takes_its_time() {
    let (proxy, mut client, mut server) = pair();
    proxy.inject(Whom::All, Fault::Throttle(TO_RECEIVER, Some(100_000)));
    let began = Instant::now();
    server.write_all(&vec![7; 50_000]).unwrap();
    drop(server);
    assert_eq!(read(&mut client), End::Closed(vec![7; 50_000]));
    let took = began.elapsed();
    // The last part passes without the time that follows it.
    assert!(took >= Duration::from_millis(480), "50 kB at 100 kB/s took {took:?}");
}

#[test]
fn a_delayed_direction_keeps_its_order() {
    let (proxy, mut client, mut server) = pair();
    let delay = Duration::from_millis(150);
    proxy.inject(Whom::All, Fault::Delay(TO_RECEIVER, delay));
    let began = Instant::now();
    server.write_all(b"one").unwrap();
    proxy.wait_until_kept_back(0, TO_RECEIVER, 3);
    proxy.inject(Whom::All, Fault::Delay(TO_RECEIVER, Duration::ZERO));
    server.write_all(b"two").unwrap();
    drop(server);
    assert_eq!(read(&mut client), End::Closed(b"onetwo".to_vec()));
    assert!(began.elapsed() >= delay);
}

#[test]
fn one_bit_of_one_byte_flips() {
    for at in [0, 1, 65_535, 65_536, 100_000] {
        let proxy = FaultProxy::new(echo());
        proxy.inject_after(Whom::All, TO_RECEIVER, at as u64, Fault::Flip(TO_RECEIVER, 0x10));
        let received = send_all(TcpStream::connect(proxy.address()).unwrap(), 1);
        let mut expected = noise(1);
        expected[at] ^= 0x10;
        assert!(received == expected, "byte {at}");
    }
}

#[test]
fn each_connection_is_cut_after_its_own_bytes() {
    for length in [0, 1, 70_000] {
        let proxy = FaultProxy::new(echo());
        proxy.inject_after(Whom::All, TO_RECEIVER, length as u64, Fault::Close);
        for number in 0..2 {
            let received = send_all(TcpStream::connect(proxy.address()).unwrap(), 2);
            assert!(received == noise(2)[..length], "{} bytes came, not {length}", received.len());
            proxy.wait_until_over(number);
            assert_eq!(proxy.passed_on(number, TO_RECEIVER), length as u64);
        }
    }
}

#[test]
fn a_byte_that_has_passed_is_no_place_to_cut() {
    let (proxy, mut client, mut server) = pair();
    server.write_all(b"five.").unwrap();
    proxy.wait_until_passed(TO_RECEIVER, 5);
    proxy.inject_after(Whom::All, TO_RECEIVER, 4, Fault::Reset);
    proxy.inject_after(Whom::All, TO_RECEIVER, 8, Fault::Close);
    server.write_all(b"five.").unwrap();
    assert_eq!(read(&mut client), End::Closed(b"five.fiv".to_vec()));
}

#[test]
fn only_the_connection_that_is_meant_is_hit() {
    let proxy = FaultProxy::new(echo());
    let mut first = TcpStream::connect(proxy.address()).unwrap();
    proxy.wait_until_connections(1);
    let second = TcpStream::connect(proxy.address()).unwrap();
    proxy.wait_until_connections(2);
    proxy.inject_after(Whom::Only(2), TO_SENDER, 0, Fault::Close);
    proxy.inject(Whom::Only(0), Fault::Reset);
    assert_eq!(read(&mut first), End::Reset(vec![]));
    assert!(send_all(second, 3) == noise(3));
    let mut third = TcpStream::connect(proxy.address()).unwrap();
    third.write_all(b"x").unwrap();
    assert_eq!(read(&mut third), End::Closed(vec![]));
}

#[test]
fn new_connections_are_refused_for_a_while_and_others_go_on() {
    let (proxy, mut client, mut server) = pair();
    for count in 2..5 {
        proxy.inject(Whom::All, Fault::Refuse);
        let refused = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        client.write_all(b"on").unwrap();
        server.read_exact(&mut [0; 2]).unwrap();
        proxy.inject(Whom::All, Fault::Accept);
        TcpStream::connect(proxy.address()).unwrap();
        proxy.wait_until_connections(count);
    }
}

#[test]
fn a_sender_that_is_not_there_resets_the_receiver() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = FaultProxy::new(gone);
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    assert_eq!(read(&mut client), End::Reset(vec![]));
}

#[test]
fn a_schedule_strikes_at_its_bytes_over_all_connections() {
    let step = |bytes, fault| Step { when: When::Passed(TO_RECEIVER, bytes), fault, lasts: None };
    let proxy = FaultProxy::new(echo());
    proxy.follow(&[step(1000, Fault::Close), step(71_000, Fault::Close)]);
    for length in [1000, 70_000, NOISE_BYTES] {
        let received = send_all(TcpStream::connect(proxy.address()).unwrap(), 4);
        assert!(received == noise(4)[..length], "{} bytes came, not {length}", received.len());
    }
    proxy.wait_until_steps(2);
}

#[test]
fn a_schedule_strikes_at_its_time_and_what_lasts_ends() {
    let (proxy, mut client, mut server) = pair();
    let (soon, later) = (Duration::from_millis(20), Duration::from_millis(200));
    let hold = Step { when: When::Elapsed(soon), fault: Fault::Hold(TO_RECEIVER), lasts: Some(later) };
    let began = Instant::now();
    proxy.follow(&[hold]);
    proxy.wait_until_steps(1);
    server.write_all(b"late").unwrap();
    drop(server);
    assert_eq!(read(&mut client), End::Closed(b"late".to_vec()));
    assert!(began.elapsed() >= soon + later);
}

#[test]
fn a_seed_gives_one_schedule() {
    let hour = Duration::from_secs(3600);
    assert_eq!(schedule::by_bytes(7, 100, 1 << 20), schedule::by_bytes(7, 100, 1 << 20));
    assert_ne!(schedule::by_bytes(7, 100, 1 << 20), schedule::by_bytes(8, 100, 1 << 20));
    assert_eq!(schedule::by_time(7, 100, hour), schedule::by_time(7, 100, hour));
    let steps = schedule::by_bytes(1, 200, 1 << 20);
    let is_struck = |wanted: fn(Fault) -> bool| steps.iter().any(|step| wanted(step.fault));
    assert!(is_struck(|fault| fault == Fault::Close) && is_struck(|fault| fault == Fault::Reset));
    assert!(is_struck(|fault| matches!(fault, Fault::HalfClose(_))) && is_struck(|fault| fault == Fault::Refuse));
    assert!(is_struck(|fault| matches!(fault, Fault::Hold(_))) && is_struck(|fault| matches!(fault, Fault::Delay(..))));
    assert!(is_struck(|fault| matches!(fault, Fault::Throttle(..))));
}

/// Any schedule ends, and leaves bytes alone: a reader that continues where it was gets everything.
#[test]
fn whoever_continues_gets_through_any_schedule() {
    for seed in 1..=6 {
        let wanted = noise(5);
        let proxy = FaultProxy::new(serve_from_offset(wanted.clone()));
        let count = 5;
        proxy.follow(&schedule::by_bytes(seed, count, NOISE_BYTES as u64 / 6));
        let mut received = Vec::new();
        while received.len() < wanted.len() {
            let Ok(mut client) = TcpStream::connect(proxy.address()) else {
                // Refused until the step ends, of which nothing tells.
                thread::yield_now();
                continue;
            };
            let is_asked = client.write_all(&(received.len() as u64).to_le_bytes()).is_ok();
            if let (true, End::Closed(bytes) | End::Reset(bytes)) = (is_asked, read(&mut client)) {
                received.extend(bytes);
            }
        }
        assert!(received == wanted, "seed {seed}");
        proxy.wait_until_steps(count);
    }
}

const NOISE_BYTES: usize = 3 << 20;

/// How reading ended, after which bytes.
#[derive(Debug, Eq, PartialEq)]
enum End {
    Closed(Vec<u8>),
    Reset(Vec<u8>),
}

fn noise(seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let bytes = (0..NOISE_BYTES).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    bytes.collect()
}

/// Both ends of one connection through a proxy.
fn pair() -> (FaultProxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = FaultProxy::new(listener.local_addr().unwrap());
    let client = TcpStream::connect(proxy.address()).unwrap();
    (proxy, client, listener.accept().unwrap().0)
}

/// A server that sends back what it gets.
fn echo() -> SocketAddr {
    serve(|mut connection| {
        let mut back = connection.try_clone().unwrap();
        // It ends early where the connection does.
        let _ = std::io::copy(&mut connection, &mut back);
        let _ = back.shutdown(Shutdown::Write);
    })
}

/// A server that reads an offset and sends what follows it.
fn serve_from_offset(bytes: Vec<u8>) -> SocketAddr {
    serve(move |mut connection| {
        let mut offset = [0; 8];
        if connection.read_exact(&mut offset).is_ok() {
            let offset = usize::try_from(u64::from_le_bytes(offset)).unwrap();
            // It ends early where the connection does.
            let _ = connection.write_all(&bytes[offset..]);
        }
    })
}

fn serve(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let answer = answer.clone();
            thread::spawn(move || answer(connection.unwrap()));
        }
    });
    address
}

/// Sends the noise of a seed, and returns what comes back.
fn send_all(mut client: TcpStream, seed: u8) -> Vec<u8> {
    let mut sending = client.try_clone().unwrap();
    let writer = thread::spawn(move || {
        // It ends early where the connection does.
        let _ = sending.write_all(&noise(seed));
        let _ = sending.shutdown(Shutdown::Write);
    });
    let End::Closed(received) = read(&mut client) else { panic!("the connection ends in order") };
    // What is not taken any more would keep the writer.
    let _ = client.shutdown(Shutdown::Both);
    writer.join().unwrap();
    received
}

fn read(socket: &mut TcpStream) -> End {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Ok(_) => End::Closed(bytes),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset(bytes),
        Err(error) => panic!("{error}"),
    }
}

fn assert_silent(socket: &mut TcpStream) {
    socket.set_nonblocking(true).unwrap();
    assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    socket.set_nonblocking(false).unwrap();
}
