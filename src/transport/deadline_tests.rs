//! What strangers may take: time until the proof, and places.

use super::listener::Patience;
use super::{
    DeviceKey, Gatekeeper, Lane, LaneIntro, Listener, ListenerEvent, Proof, Purpose, TransportError, connect,
    fresh_code,
};
use crate::secret::{Key, Room, SessionId, SessionSecret};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn one_byte_after_another_does_not_outlast_the_deadline() {
    let door = door(Patience { proof_deadline: SHORT, ..Patience::default() });
    let began = Instant::now();
    let mut stranger = TcpStream::connect(door.listener.address()).unwrap();
    let feeding = stranger.try_clone().unwrap();
    // The head of a record of 16 KiB, whose bytes then come one by one.
    let feeder = thread::spawn(move || {
        let mut feeding = feeding;
        let _ = feeding.write_all(&[0x16, 3, 1, 0x40, 0]);
        while feeding.write_all(&[1]).is_ok() {
            thread::sleep(SHORT / 20);
        }
    });
    assert_closed(&mut stranger);
    assert!(began.elapsed() >= SHORT);
    let peer = stranger.local_addr().unwrap();
    assert_eq!(door.events.recv_timeout(LONG).unwrap(), ListenerEvent::TooSlow { peer });
    feeder.join().unwrap();
}

#[test]
fn a_joiner_that_is_slow_within_the_deadline_is_proven() {
    let door = door(Patience { proof_deadline: LONG, ..Patience::default() });
    let address = slow_relay(door.listener.address(), SHORT);
    let began = Instant::now();
    connect(&DeviceKey::generate().unwrap(), &[address], &proof(), Purpose::Control, Instant::now() + LONG).unwrap();
    assert!(began.elapsed() >= SHORT);
    door.lanes.recv_timeout(LONG).unwrap();
}

#[test]
fn a_joiner_that_is_slow_beyond_the_deadline_is_not() {
    let door = door(Patience { proof_deadline: SHORT, ..Patience::default() });
    let address = slow_relay(door.listener.address(), SHORT * 2);
    let device = DeviceKey::generate().unwrap();
    let fault = connect(&device, &[address], &proof(), Purpose::Control, Instant::now() + LONG).unwrap_err();
    assert!(matches!(fault, TransportError::Lost | TransportError::Closed), "{fault:?}");
    assert!(matches!(door.events.recv_timeout(LONG).unwrap(), ListenerEvent::TooSlow { .. }));
    assert!(door.lanes.try_recv().is_err());
}

#[test]
fn silence_before_and_after_tls_ends_at_the_deadline() {
    let door = door(Patience { proof_deadline: SHORT, ..Patience::default() });
    let mut silent = TcpStream::connect(door.listener.address()).unwrap();
    assert_closed(&mut silent);
    assert!(matches!(door.events.recv_timeout(LONG).unwrap(), ListenerEvent::TooSlow { .. }));

    let mut socket = TcpStream::connect(door.listener.address()).unwrap();
    let config = DeviceKey::generate().unwrap().client_config(Arc::default());
    let name = rustls::pki_types::ServerName::try_from("unnamed.invalid").unwrap();
    let mut tls = rustls::ClientConnection::new(config, name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).unwrap();
    }
    assert_closed(&mut socket);
    assert!(matches!(door.events.recv_timeout(LONG).unwrap(), ListenerEvent::TooSlow { .. }));
}

#[test]
fn a_proven_lane_outlives_the_deadline() {
    let door = door(Patience { proof_deadline: SHORT, ..Patience::default() });
    let address = [door.listener.address()];
    let device = DeviceKey::generate().unwrap();
    // On a machine so slow that a handshake takes as long as the deadline, the next one may not.
    let join = || connect(&device, &address, &proof(), Purpose::Control, Instant::now() + LONG).ok();
    let mut joiner = std::iter::repeat_with(join).take(50).flatten().next().unwrap();
    let mut hosted = door.lanes.recv_timeout(LONG).unwrap().0;
    assert!(!joiner.ready_within(SHORT * 2).unwrap());
    hosted.send(&[b"later"]).unwrap();
    joiner.read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn places_are_counted_per_address_and_in_all_and_given_back() {
    let door =
        door(Patience { proof_deadline: LONG, unproven_max: 3, unproven_per_address_max: 2, ..Patience::default() });
    let host = door.listener.address();
    let refused = |from: &str| {
        let stranger = connect_from(from, host);
        let peer = stranger.local_addr().unwrap();
        assert_eq!(door.events.recv_timeout(LONG).unwrap(), ListenerEvent::Refused { peer });
    };
    let first = connect_from("127.0.0.1", host);
    let second = connect_from("127.0.0.1", host);
    refused("127.0.0.1");
    let other = connect_from("127.0.0.2", host);
    refused("127.0.0.3");
    for mut stranger in [first, second, other] {
        // Not TLS: the place is given back at once, and the event says when.
        stranger.write_all(b"x").unwrap();
        assert!(matches!(door.events.recv_timeout(LONG).unwrap(), ListenerEvent::NotHaul { .. }));
    }
    connect(&DeviceKey::generate().unwrap(), &[host], &proof(), Purpose::Data, Instant::now() + LONG).unwrap();
}

#[test]
fn a_wrong_code_is_turned_away_only_after_its_wait_and_no_later_than_the_deadline() {
    for (wrong_code_wait, proof_deadline) in [(SHORT, LONG), (LONG, SHORT)] {
        let door = door(Patience { proof_deadline, wrong_code_wait, ..Patience::default() });
        let address = [door.listener.address()];
        let (device, code) = (DeviceKey::generate().unwrap(), Proof::Code(fresh_code(None).unwrap()));
        let began = Instant::now();
        let fault = connect(&device, &address, &code, Purpose::Control, Instant::now() + LONG).unwrap_err();
        assert!(matches!(fault, TransportError::WrongProof | TransportError::Lost), "{fault:?}");
        assert!(began.elapsed() >= SHORT && began.elapsed() < LONG);
        assert!(matches!(door.events.recv_timeout(LONG).unwrap(), ListenerEvent::WrongCode { count: 1, .. }));
        assert!(door.lanes.try_recv().is_err());
    }
}

#[test]
fn a_listener_that_closes_waits_for_no_wrong_code() {
    let mut door = door(Patience { proof_deadline: LONG, wrong_code_wait: LONG, ..Patience::default() });
    let address = [door.listener.address()];
    let joiner = thread::spawn(move || {
        let code = Proof::Code(fresh_code(None).unwrap());
        connect(&DeviceKey::generate().unwrap(), &address, &code, Purpose::Control, Instant::now() + LONG * 2)
    });
    assert!(matches!(door.events.recv_timeout(LONG).unwrap(), ListenerEvent::WrongCode { .. }));
    let began = Instant::now();
    door.listener.close();
    assert!(joiner.join().unwrap().is_err());
    assert!(began.elapsed() < LONG);
}

/// A listener and what came of it.
struct OpenDoor {
    listener: Listener,
    lanes: Receiver<(Lane, LaneIntro)>,
    events: Receiver<ListenerEvent>,
}

struct Gate(Mutex<Sender<(Lane, LaneIntro)>>, Mutex<Sender<ListenerEvent>>);

impl Gatekeeper for Gate {
    fn link_key(&self, _: Room) -> Option<Key> {
        Some(Key::from_bytes([1; 16]))
    }

    fn session_secret(&self, _: SessionId) -> Option<SessionSecret> {
        None
    }

    fn admit(&self, lane: Lane, intro: LaneIntro) {
        let _ = self.0.lock().expect("no test panics here").send((lane, intro));
    }

    fn observe(&self, event: ListenerEvent) {
        let _ = self.1.lock().expect("no test panics here").send(event);
    }
}

fn door(patience: Patience) -> OpenDoor {
    let ((lanes_in, lanes), (events_in, events)) = (mpsc::channel(), mpsc::channel());
    let gate = Arc::new(Gate(Mutex::new(lanes_in), Mutex::new(events_in)));
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let device = DeviceKey::generate().expect("the machine has random bytes");
    let listener = Listener::bind_with(address, device, gate, patience).expect("port 0 can be bound");
    OpenDoor { listener, lanes, events }
}

fn proof() -> Proof {
    Proof::Link { room: Room::from_bytes([0; 16]), key: Key::from_bytes([1; 16]) }
}

/// Carries one connection to `host`, where the joiner's first bytes arrive only after `delay`.
fn slow_relay(host: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port 0 can be bound");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let (mut joiner, _) = listener.accept().expect("a joiner comes");
        let mut host = TcpStream::connect(host).expect("the host listens");
        let (mut from_joiner, mut to_host) =
            (joiner.try_clone().expect("a descriptor is free"), host.try_clone().expect("a descriptor is free"));
        thread::spawn(move || {
            thread::sleep(delay);
            let _ = std::io::copy(&mut from_joiner, &mut to_host);
            let _ = to_host.shutdown(std::net::Shutdown::Write);
        });
        let _ = std::io::copy(&mut host, &mut joiner);
        let _ = joiner.shutdown(std::net::Shutdown::Both);
    });
    address
}

fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is free");
    let from: IpAddr = from.parse().expect("a literal address");
    socket.bind(&SocketAddr::new(from, 0).into()).expect("all of 127/8 is this machine");
    socket.connect(&to.into()).expect("the listener listens");
    socket.into()
}

fn assert_closed(socket: &mut TcpStream) {
    socket.set_read_timeout(Some(LONG)).expect("not zero");
    if let Err(error) = socket.read_to_end(&mut Vec::new()) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it stays open");
    }
}

/// A deadline that has to pass.
const SHORT: Duration = Duration::from_millis(400);
/// A deadline that no test reaches.
const LONG: Duration = Duration::from_secs(30);
