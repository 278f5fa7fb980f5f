//! Strangers, impostors and relays: none of them gets a lane, and none disturbs one.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

mod transport_support;

use data_encoding::BASE32_NOPAD;
use haul::secret::{Key, Room, SessionId, SessionSecret};
use haul::transport::{DeviceKey, ListenerEvent, Proof, Purpose, TransportError, connect};
use rustls::{AlertDescription, ServerConnection, Stream};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use transport_support::{
    Host, KEY_BYTES, PATIENCE, ROOM, SECRET_BYTES, SESSION, attacker_client, attacker_server, join, link_proof,
    read_to_end, relay, session_proof, tls_client,
};

#[test]
fn every_wrong_proof_is_refused_and_counted_alike() {
    let host = Host::start();
    let key = || Key::from_bytes(KEY_BYTES);
    let wrong = [
        Proof::Link { room: ROOM, key: Key::from_bytes([0; 16]) },
        Proof::Link { room: Room::from_bytes([0; 16]), key: key() },
        Proof::Session { id: SESSION, secret: SessionSecret::from_bytes([0; 32]) },
        Proof::Session { id: SessionId::from_bytes([0; 16]), secret: SessionSecret::from_bytes(SECRET_BYTES) },
        // The right secret under the other mode's name.
        Proof::Session { id: SessionId::from_bytes(*ROOM.as_bytes()), secret: SessionSecret::from_bytes(SECRET_BYTES) },
    ];
    let mut answers = Vec::new();
    for (count, proof) in (1..).zip(&wrong) {
        let (address, tape) = relay(host.address(), |_, _| {});
        assert!(matches!(join(address, proof), Err(TransportError::WrongProof)));
        assert!(matches!(host.event(), ListenerEvent::BadProof { count: counted, .. } if counted == count));
        answers.push(tape.to_joiner.lock().unwrap().len());
    }
    assert_eq!(host.listener.bad_proofs(), wrong.len() as u64);
    assert!(answers.iter().all(|length| *length == answers[0]), "{answers:?}");
    assert!(host.lanes.try_recv().is_err());
}

#[test]
fn a_relay_with_keys_of_its_own_fails_in_both_modes() {
    let host = Host::start();
    for proof in [link_proof(), session_proof()] {
        let (address, relay) = terminate_tls_and_relay(host.address());
        assert!(matches!(join(address, &proof), Err(TransportError::WrongProof)));
        assert!(matches!(host.event(), ListenerEvent::BadProof { .. }));
        let (to_host, to_joiner) = relay.join().unwrap();
        assert_eq!(to_host.len(), 52, "the relay passed the joiner's proof on, and it did not help");
        assert_eq!(to_joiner, b"", "the host proves nothing to an end that has not");
    }
    assert!(host.lanes.try_recv().is_err());
}

#[test]
fn an_impostor_that_answers_without_the_secret_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let impostor = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(Arc::new(attacker_server(&[b"haul/1"]))).unwrap();
        let mut stream = Stream::new(&mut tls, &mut socket);
        let mut proof = [0; 52];
        stream.read_exact(&mut proof).unwrap();
        // A guess of the right form.
        stream.write_all(&[1; 33]).unwrap();
        read_to_end(&mut socket);
        proof
    });
    assert!(matches!(join(address, &link_proof()), Err(TransportError::WrongProof)));
    let proof = impostor.join().unwrap();
    assert!(!holds(&proof, &KEY_BYTES));
}

#[test]
fn a_recorded_session_played_again_opens_nothing() {
    let host = Host::start();
    let (address, tape) = relay(host.address(), |_, _| {});
    let mut joiner = join(address, &link_proof()).unwrap();
    let mut hosted = host.lanes.recv_timeout(PATIENCE).unwrap().0;
    joiner.send(&[b"do it"]).unwrap();
    hosted.read_exact(&mut [0; 5]).unwrap();
    let recorded = tape.to_host.lock().unwrap().clone();

    let mut replayer = TcpStream::connect(host.address()).unwrap();
    replayer.write_all(&recorded).unwrap();
    read_to_end(&mut replayer);
    assert!(matches!(host.event(), ListenerEvent::HandshakeFailed { .. }));
    assert!(host.lanes.try_recv().is_err());
}

#[test]
fn what_a_wire_shows_names_no_room_key_machine_or_user() {
    let host = Host::start();
    let (address, tape) = relay(host.address(), |_, _| {});
    join(address, &link_proof()).unwrap();
    host.lanes.recv_timeout(PATIENCE).unwrap();
    let mut hidden: Vec<Vec<u8>> = vec![ROOM.as_bytes().to_vec(), KEY_BYTES.to_vec()];
    hidden.extend([ROOM.to_string().into_bytes(), BASE32_NOPAD.encode(&KEY_BYTES).into_bytes()]);
    hidden.push(b"127.0.0.1".to_vec());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    hidden.push(machine.trim().as_bytes().to_vec());
    for variable in ["USER", "LOGNAME", "HOME", "PWD"] {
        hidden.extend(std::env::var(variable).ok().map(String::into_bytes));
    }
    for seen in [&tape.to_host, &tape.to_joiner] {
        let seen = seen.lock().unwrap();
        assert!(holds(&seen, b"\x03\x03"), "the tape has the handshake");
        // One or two bytes turn up in any randomness.
        for hidden in hidden.iter().filter(|hidden| hidden.len() > 3) {
            assert!(!holds(&seen, hidden), "{}", String::from_utf8_lossy(hidden));
        }
    }
}

#[test]
fn http_and_ssh_are_closed_in_order_and_reported_once() {
    let host = Host::start();
    for greeting in ["GET / HTTP/1.1\r\nHost: 192.168.1.23:4285\r\n\r\n", "SSH-2.0-\x1b[2Jx\r\n", "\0", "\u{15}\u{3}"] {
        let mut stranger = TcpStream::connect(host.address()).unwrap();
        stranger.write_all(greeting.as_bytes()).unwrap();
        assert_eq!(read_to_end(&mut stranger), b"");
        let peer = stranger.local_addr().unwrap();
        assert_eq!(host.event(), ListenerEvent::NotHaul { peer });
    }
    assert!(host.events.try_recv().is_err());
    assert_eq!(host.listener.bad_proofs(), 0);
}

#[test]
fn a_client_of_tls_1_2_gets_an_alert() {
    let host = Host::start();
    let mut client = TcpStream::connect(host.address()).unwrap();
    client.write_all(&tls_1_2_client_hello()).unwrap();
    let alert = read_to_end(&mut client);
    // A fatal alert: protocol_version.
    assert_eq!((alert[0], &alert[5..]), (0x15, &[2, 70][..]));
    assert!(matches!(host.event(), ListenerEvent::HandshakeFailed { .. } | ListenerEvent::NotHaul { .. }));
}

#[test]
fn a_client_without_raw_keys_or_without_our_protocol_is_refused() {
    let host = Host::start();
    for (config, expected) in [
        (attacker_client(&[b"haul/1"], false), Some(AlertDescription::HandshakeFailure)),
        (attacker_client(&[b"haul/2"], true), Some(AlertDescription::NoApplicationProtocol)),
        (attacker_client(&[b"h2", b"http/1.1"], true), Some(AlertDescription::NoApplicationProtocol)),
        (attacker_client(&[], true), None),
    ] {
        let mut socket = TcpStream::connect(host.address()).unwrap();
        let mut tls = tls_client(config);
        let fault = Stream::new(&mut tls, &mut socket).read(&mut [0]).map_err(|error| error.downcast().ok());
        match expected {
            Some(alert) => assert_eq!(fault.unwrap_err(), Some(rustls::Error::AlertReceived(alert))),
            None => assert!(!matches!(fault, Ok(1))),
        }
        assert!(matches!(host.event(), ListenerEvent::HandshakeFailed { .. } | ListenerEvent::NotHaul { .. }));
    }
    assert!(host.lanes.try_recv().is_err());
}

#[test]
fn a_joiner_names_what_answers_in_place_of_haul() {
    for greeting in ["SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let address = serve_once(move |mut socket| {
            socket.write_all(greeting.as_bytes()).unwrap();
            read_to_end(&mut socket);
        });
        assert!(matches!(join(address, &link_proof()), Err(TransportError::PeerNotHaul)));
    }
    let address = serve_once(|mut socket| {
        let mut tls = ServerConnection::new(Arc::new(attacker_server(&[b"haul/9"]))).unwrap();
        let _ = tls.complete_io(&mut socket);
        let _ = tls.complete_io(&mut socket);
    });
    assert!(matches!(join(address, &link_proof()), Err(TransportError::VersionMismatch)));
    let address = serve_once(|mut socket| {
        let mut tls = ServerConnection::new(Arc::new(attacker_server(&[]))).unwrap();
        let _ = tls.complete_io(&mut socket);
        read_to_end(&mut socket);
    });
    assert!(matches!(join(address, &link_proof()), Err(TransportError::PeerNotHaul)));
    let address = serve_once(drop);
    assert!(matches!(join(address, &link_proof()), Err(TransportError::Lost)));
}

#[test]
fn a_joiner_waits_for_a_silent_host_only_until_its_deadline() {
    let address = serve_once(|mut socket| {
        read_to_end(&mut socket);
    });
    let deadline = Instant::now() + Duration::from_millis(100);
    let device = DeviceKey::generate().unwrap();
    let fault = connect(&device, &[address], &link_proof(), Purpose::Control, deadline);
    assert!(matches!(fault, Err(TransportError::ProofTimeout)));
    assert!(Instant::now() >= deadline);
    let late = connect(&device, &[address], &link_proof(), Purpose::Control, deadline);
    assert!(matches!(late, Err(TransportError::ConnectTimeout)));
}

#[test]
fn a_flood_from_one_address_keeps_eight_places_and_disturbs_no_lane() {
    let host = Host::start();
    let (mut joiner, mut hosted) = host.pair();
    let mut kept = Vec::new();
    for _ in 0..8 {
        let mut stranger = TcpStream::connect(host.address()).unwrap();
        // A first byte of TLS, then nothing: the place is held until the deadline.
        stranger.write_all(&[0x16]).unwrap();
        kept.push(stranger);
    }
    let flood = 1000;
    for turn in 0..flood {
        match TcpStream::connect(host.address()) {
            Ok(mut stranger) => {
                let own = stranger.local_addr().unwrap();
                assert!(matches!(host.event(), ListenerEvent::Refused { peer } if peer == own));
                assert_eq!(read_to_end(&mut stranger), b"");
            }
            // The host's reset may come before the connection is reported here.
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                assert!(matches!(host.event(), ListenerEvent::Refused { .. }));
            }
        }
        if turn % 100 == 0 {
            hosted.send(&[&vec![1; 100_000]]).unwrap();
            joiner.read_exact(&mut vec![0; 100_000]).unwrap();
        }
    }
    assert!(matches!(join(host.address(), &link_proof()), Err(TransportError::Lost)));
    assert!(matches!(host.event(), ListenerEvent::Refused { .. }));
    drop(kept);
    for _ in 0..8 {
        assert!(matches!(host.event(), ListenerEvent::HandshakeFailed { .. }));
    }
    host.pair();
}

/// What the joiner said, and what the host did.
type Said = (Vec<u8>, Vec<u8>);

/// A man in the middle with TLS on both sides. Ends with what the joiner and the host said to it.
fn terminate_tls_and_relay(host: SocketAddr) -> (SocketAddr, JoinHandle<Said>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let relay = thread::spawn(move || {
        let (mut joiner, _) = listener.accept().unwrap();
        let mut host = TcpStream::connect(host).unwrap();
        let mut to_joiner = ServerConnection::new(Arc::new(attacker_server(&[b"haul/1"]))).unwrap();
        let mut to_host = tls_client(attacker_client(&[b"haul/1"], true));
        let mut proof = vec![0; 52];
        Stream::new(&mut to_joiner, &mut joiner).read_exact(&mut proof).unwrap();
        let mut host = Stream::new(&mut to_host, &mut host);
        host.write_all(&proof).unwrap();
        let mut answer = Vec::new();
        let _ = host.read_to_end(&mut answer);
        let mut joiner = Stream::new(&mut to_joiner, &mut joiner);
        joiner.write_all(&answer).unwrap();
        joiner.conn.send_close_notify();
        joiner.flush().unwrap();
        (proof, answer)
    });
    (address, relay)
}

fn serve_once(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    address
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What a client sends that knows TLS 1.2 only: two cipher suites, two groups and two kinds of signature.
fn tls_1_2_client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0x5a; 32]);
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    let extensions = [0, 10, 0, 6, 0, 4, 0, 29, 0, 23, 0, 13, 0, 6, 0, 4, 8, 7, 4, 3, 0, 11, 0, 2, 1, 0];
    body.extend([0, extensions.len() as u8]);
    body.extend(extensions);
    let mut hello = vec![0x16, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    hello
}
