//! Codes at the door of a host: every guess is counted, none teaches anything, and one joiner gets in.

#![allow(clippy::unwrap_used)]

mod transport_support;

use haul::secret::Code;
use haul::transport::{CodeTries, DeviceKey, ListenerEvent, Proof, Purpose, TransportError, Who, connect_within};
use rustls::{ClientConnection, ServerConnection, Stream};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;
use transport_support::{
    CODE_TEXT, Host, PATIENCE, attacker_client, attacker_server, code, code_proof, join, link_proof, read_to_end,
    relay, session_proof, tls_client,
};

#[test]
fn a_code_opens_one_lane_and_no_second_one() {
    let host = Host::with_code();
    let mut joiner = join(host.address(), &code_proof()).unwrap();
    let (mut hosted, intro) = host.lanes.recv_timeout(PATIENCE).unwrap();
    assert_eq!((intro.who, intro.purpose), (Who::Code, Purpose::Control));
    joiner.send(&[b"hello"]).unwrap();
    hosted.read_exact(&mut [0; 5]).unwrap();
    assert_eq!(host.code_counts(), (1, 0, 1));
    assert!(matches!(join(host.address(), &code_proof()), Err(TransportError::WrongProof)));
    assert!(matches!(host.event(), ListenerEvent::WrongCode { count: 1, .. }));
    assert_eq!(host.code_counts(), (1, 0, 1), "what is used up has no tries");
}

#[test]
fn row_66_a_wrong_code_is_counted_and_the_third_one_is_the_last() {
    let host = Host::with_code();
    for tried in 1..=3 {
        let wrong = Proof::Code(Code::new(7, [tried, 2, 3]).unwrap());
        assert!(matches!(join(host.address(), &wrong), Err(TransportError::WrongProof)));
        assert!(matches!(host.event(), ListenerEvent::WrongCode { count, .. } if count == u64::from(tried)));
        assert_eq!(host.code_counts(), (tried.into(), tried.into(), 0));
    }
    // The right one is too late, and looks the same.
    assert!(matches!(join(host.address(), &code_proof()), Err(TransportError::WrongProof)));
    assert_eq!(host.code_counts(), (3, 3, 0));
    assert!(host.lanes.try_recv().is_err());
}

#[test]
fn a_host_without_a_code_answers_like_one_with_another() {
    let mut answers = Vec::new();
    for host in [Host::start(), Host::with_code()] {
        let (address, tape) = relay(host.address(), |_, _| {});
        let wrong = Proof::Code(Code::new(7, [1, 2, 3]).unwrap());
        assert!(matches!(join(address, &wrong), Err(TransportError::WrongProof)));
        answers.push((tape.to_host.lock().unwrap().len(), tape.to_joiner.lock().unwrap().len()));
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn row_67_a_guess_counts_though_its_joiner_leaves_before_or_after_its_tag() {
    let host = Host::with_code();
    // It does not even read the answer.
    let mut early = Stranger::new(host.address());
    early.send(&opening(&start_joiner(CODE_TEXT).1));
    drop(early);
    assert!(matches!(host.event(), ListenerEvent::WrongCode { count: 1, .. }));
    assert_eq!(host.code_counts(), (1, 1, 0));
    // It reads the answer and leaves with it.
    let mut later = Stranger::new(host.address());
    later.send(&opening(&start_joiner(CODE_TEXT).1));
    later.read(35);
    drop(later);
    assert!(matches!(host.event(), ListenerEvent::WrongCode { count: 2, .. }));
    assert_eq!(host.code_counts(), (2, 2, 0));
    // It sends a tag and does not wait for what comes of it.
    let mut last = Stranger::new(host.address());
    last.send(&opening(&start_joiner(CODE_TEXT).1));
    last.read(35);
    last.send(&[0; 32]);
    drop(last);
    assert!(matches!(host.event(), ListenerEvent::WrongCode { count: 3, .. }));
    assert_eq!(host.code_counts(), (3, 3, 0));
}

#[test]
fn row_68_what_is_no_share_is_turned_away_and_costs_no_try() {
    let host = Host::with_code();
    let good = start_joiner(CODE_TEXT).1;
    let other_side = [b"B", &good[1..]].concat();
    let symmetric = [b"S", &good[1..]].concat();
    let long = [&good[..], &[0]].concat();
    let mut bad = vec![vec![], good[..32].to_vec(), long, vec![0x41; 255], other_side, symmetric];
    // No point, and every point of small order in each of its encodings.
    for element in SMALL_ORDER.into_iter().chain([[2; 32], [0xff; 32]]) {
        bad.push([&[b'A'][..], &element].concat());
    }
    let mut openings: Vec<_> = bad.iter().map(|share| opening(share)).collect();
    for head in [[1, 3, 1, 2], [1, 3, 1, 0], [1, 3, 2, 1], [1, 3, 0, 1]] {
        // Another exchange, or a lane that is no beginning.
        openings.push([&head[..], &[33], &good].concat());
    }
    // As many at once as have places: each is kept waiting for a second.
    for some in openings.chunks(6) {
        let mut strangers: Vec<_> = some.iter().map(|_| Stranger::new(host.address())).collect();
        for (stranger, opening) in strangers.iter_mut().zip(some) {
            stranger.send(opening);
        }
        for (mut stranger, opening) in strangers.into_iter().zip(some) {
            assert_eq!(stranger.rest(), b"", "{opening:?} is not answered");
            assert!(matches!(host.event(), ListenerEvent::WrongCode { .. }));
        }
    }
    assert_eq!(host.code_counts(), (0, 0, 0));
    join(host.address(), &code_proof()).unwrap();
}

#[test]
fn row_68_a_joiner_takes_no_bad_share_from_a_host() {
    let good =
        Spake2::<Ed25519Group>::start_b(&Password::new(CODE_TEXT), &Identity::new(JOINER), &Identity::new(HOST)).1;
    let point = |element: [u8; 32]| [&[b'B'][..], &element].concat();
    let mut bad: Vec<Vec<u8>> = vec![vec![], good[..32].to_vec(), [&good[..], &[0]].concat(), point([2; 32])];
    bad.push([b"A", &good[1..]].concat());
    bad.extend(SMALL_ORDER.map(point));
    for share in bad {
        let answer = [&[1, u8::try_from(share.len()).unwrap()][..], &share].concat();
        let (address, said) = impostor(move |_| answer);
        assert!(matches!(join(address, &code_proof()), Err(TransportError::WrongProof)));
        assert_eq!(said.join().unwrap(), b"", "no tag follows {share:?}");
    }
}

#[test]
fn row_69_a_joiner_that_gets_its_own_share_back_is_not_fooled() {
    for side in *b"AB" {
        let (address, said) = impostor(move |share| [&[1, 33, side][..], &share[1..]].concat());
        assert!(matches!(join(address, &code_proof()), Err(TransportError::WrongProof)));
        // With the side put right it is a share of an honest group, so a tag follows; it proves nothing to anybody.
        let tag = said.join().unwrap();
        assert_eq!(tag.len(), if side == b'A' { 0 } else { 32 });
    }
}

#[test]
fn row_69_a_host_that_gets_its_own_share_and_tag_back_is_not_fooled() {
    let host = Host::with_code();
    let mut first = Stranger::new(host.address());
    first.send(&opening(&start_joiner(CODE_TEXT).1));
    let theirs = first.read(35);
    let mut second = Stranger::new(host.address());
    second.send(&opening(&theirs[2..]));
    assert_eq!(second.rest(), b"", "a share with the host's side is none of a joiner");
    let turned = [b"A", &theirs[3..]].concat();
    let mut third = Stranger::new(host.address());
    third.send(&opening(&turned));
    third.read(35);
    third.send(&[0; 32]);
    assert_eq!(third.rest(), b"");
    assert!(host.lanes.try_recv().is_err());
}

#[test]
fn row_70_a_relay_with_keys_of_its_own_fails_though_both_ends_hold_the_code() {
    let host = Host::with_code();
    let (address, relay) = terminate_tls_and_relay(host.address());
    assert!(matches!(join(address, &code_proof()), Err(TransportError::WrongProof)));
    let (tag, end) = relay.join().unwrap();
    assert_eq!(tag.len(), 32, "the relay passed every message on, up to the joiner's tag");
    assert_eq!(end, b"", "the host shows no tag to an end that has none");
    assert!(matches!(host.event(), ListenerEvent::WrongCode { .. }));
    assert_eq!(host.code_counts(), (1, 1, 0));
    assert!(host.lanes.try_recv().is_err());
}

#[test]
fn row_72_a_recorded_proof_of_a_code_opens_nothing() {
    let host = Host::with_code();
    let (address, tape) = relay(host.address(), |_, _| {});
    let mut joiner = join(address, &code_proof()).unwrap();
    host.lanes.recv_timeout(PATIENCE).unwrap();
    joiner.close().unwrap();
    let recorded = tape.to_host.lock().unwrap().clone();
    // Even where the same code is shown once more.
    *host.code.lock().unwrap() = transport_support::ShownCode { code: Some(code()), ..Default::default() };
    let mut replayer = TcpStream::connect(host.address()).unwrap();
    replayer.write_all(&recorded).unwrap();
    read_to_end(&mut replayer);
    assert!(matches!(host.event(), ListenerEvent::HandshakeFailed { .. }));
    // And the messages within TLS, over a connection of the replayer's own.
    let (state, share) = start_joiner(CODE_TEXT);
    let mut first = Stranger::new(host.address());
    first.send(&opening(&share));
    let answer = first.read(35);
    assert!(state.finish(&answer[2..]).is_ok());
    first.send(&[7; 32]);
    assert_eq!(first.rest(), b"");
    let mut second = Stranger::new(host.address());
    second.send(&opening(&share));
    assert_ne!(second.read(35), answer, "the host's share is fresh, so an old tag never fits");
    second.send(&[7; 32]);
    assert_eq!(second.rest(), b"");
    assert!(host.lanes.try_recv().is_err());
}

#[test]
fn of_joiners_that_prove_the_code_at_once_exactly_one_gets_a_lane() {
    let host = Host::with_code();
    let address = host.address();
    let joined = thread::scope(|scope| {
        let joiners: Vec<_> = (0..6).map(|_| scope.spawn(move || join(address, &code_proof()))).collect();
        let joined: Vec<_> = joiners.into_iter().map(|joiner| joiner.join().unwrap()).collect();
        joined
            .into_iter()
            .filter(|outcome| match outcome {
                Ok(_) => true,
                Err(error) => {
                    assert!(matches!(error, TransportError::WrongProof), "{error}");
                    false
                }
            })
            .count()
    });
    assert_eq!(joined, 1);
    assert_eq!(host.code_counts().2, 1);
    host.lanes.recv_timeout(PATIENCE).unwrap();
    assert!(host.lanes.try_recv().is_err());
}

#[test]
fn a_wrong_code_is_put_once_to_a_host_with_many_addresses() {
    let host = Host::with_code();
    let port = host.address().port();
    // Each relay stands for another address of the host: its key is the same at all of them.
    let addresses: Vec<SocketAddr> =
        (0..4).map(|_| relay(host.address(), |_, _| {}).0).chain([SocketAddr::from(([127, 0, 0, 1], port))]).collect();
    let mut tries = CodeTries::default();
    let wrong = Proof::Code(Code::new(7, [1, 2, 3]).unwrap());
    for _ in 0..2 {
        let fault = connect_code(&addresses[4..], &wrong, &mut tries);
        assert!(matches!(fault, Err(TransportError::WrongProof)));
        let fault = connect_code(&addresses[..4], &wrong, &mut tries);
        assert!(fault.is_err());
    }
    assert_eq!((tries.sent(), host.code_counts().0), (1, 1));
}

#[test]
fn a_joiner_puts_a_code_to_three_ends_and_no_more() {
    let hosts: Vec<Host> = (0..5).map(|_| Host::start()).collect();
    let addresses: Vec<_> = hosts.iter().map(Host::address).collect();
    let mut tries = CodeTries::default();
    assert!(matches!(connect_code(&addresses, &code_proof(), &mut tries), Err(TransportError::WrongProof)));
    assert!(tries.sent() == 3 && tries.are_used_up());
    let right = Host::with_code();
    assert!(matches!(connect_code(&[right.address()], &code_proof(), &mut tries), Err(TransportError::WrongProof)));
    assert_eq!(right.code_counts(), (0, 0, 0));
}

#[test]
fn of_several_hosts_the_one_with_the_code_is_found() {
    let (wrong, right) = (Host::start(), Host::with_code());
    let mut tries = CodeTries::default();
    let lane = connect_code(&[wrong.address(), right.address()], &code_proof(), &mut tries).unwrap();
    assert_eq!(lane.peer_address(), right.address());
}

#[test]
fn a_code_and_the_other_proofs_do_not_stand_in_for_each_other() {
    let host = Host::with_code();
    for proof in [link_proof(), session_proof()] {
        join(host.address(), &proof).unwrap();
        let (_, intro) = host.lanes.recv_timeout(PATIENCE).unwrap();
        assert_ne!(intro.who, Who::Code);
    }
    assert_eq!(host.code_counts(), (0, 0, 0));
}

#[test]
fn what_a_wire_shows_has_no_word_of_the_code() {
    let host = Host::with_code();
    let (address, tape) = relay(host.address(), |_, _| {});
    join(address, &code_proof()).unwrap();
    for bytes in [&tape.to_host, &tape.to_joiner] {
        let bytes = bytes.lock().unwrap();
        for word in CODE_TEXT.split('-').skip(1) {
            assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()));
        }
    }
}

fn connect_code(
    addresses: &[SocketAddr],
    proof: &Proof,
    tries: &mut CodeTries,
) -> Result<haul::transport::Lane, TransportError> {
    let device = DeviceKey::generate().unwrap();
    connect_within(&device, addresses, proof, tries, Purpose::Control, Instant::now() + PATIENCE)
}

/// A TLS client that speaks to a host by hand.
struct Stranger {
    tls: ClientConnection,
    socket: TcpStream,
}

impl Stranger {
    fn new(host: SocketAddr) -> Self {
        Self { tls: tls_client(attacker_client(&[b"haul/1"], true)), socket: TcpStream::connect(host).unwrap() }
    }

    fn send(&mut self, bytes: &[u8]) {
        Stream::new(&mut self.tls, &mut self.socket).write_all(bytes).unwrap();
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        Stream::new(&mut self.tls, &mut self.socket).read_exact(&mut bytes).unwrap();
        bytes
    }

    /// What comes up to the orderly end.
    fn rest(&mut self) -> Vec<u8> {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        Stream::new(&mut self.tls, &mut self.socket).read_to_end(&mut bytes).unwrap();
        bytes
    }
}

fn start_joiner(password: &str) -> (Spake2<Ed25519Group>, Vec<u8>) {
    Spake2::start_a(&Password::new(password), &Identity::new(JOINER), &Identity::new(HOST))
}

/// A joiner's first message.
fn opening(share: &[u8]) -> Vec<u8> {
    [&[1, 3, 1, 1, u8::try_from(share.len()).unwrap()][..], share].concat()
}

/// A host that answers a joiner's share by hand. Ends with what the joiner says to that, at most 32 bytes.
fn impostor(answer: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let said = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(Arc::new(attacker_server(&[b"haul/1"]))).unwrap();
        let mut stream = Stream::new(&mut tls, &mut socket);
        let mut opening = [0; 38];
        stream.read_exact(&mut opening).unwrap();
        stream.write_all(&answer(&opening[5..])).unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let mut said = Vec::new();
        // A joiner that turns away just goes.
        let _ = stream.take(32).read_to_end(&mut said);
        said
    });
    (address, said)
}

/// The joiner's tag, and what the host said to it.
type Said = (Vec<u8>, Vec<u8>);

/// A man in the middle with TLS on both sides, who passes every message on.
fn terminate_tls_and_relay(host: SocketAddr) -> (SocketAddr, JoinHandle<Said>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let relay = thread::spawn(move || {
        let (mut joiner, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(Arc::new(attacker_server(&[b"haul/1"]))).unwrap();
        let mut to_joiner = Stream::new(&mut tls, &mut joiner);
        let mut to_host = Stranger::new(host);
        let mut opening = [0; 38];
        to_joiner.read_exact(&mut opening).unwrap();
        to_host.send(&opening);
        to_joiner.write_all(&to_host.read(35)).unwrap();
        let mut tag = vec![0; 32];
        to_joiner.read_exact(&mut tag).unwrap();
        to_host.send(&tag);
        let end = to_host.rest();
        to_joiner.write_all(&end).unwrap();
        to_joiner.conn.send_close_notify();
        to_joiner.flush().unwrap();
        (tag, end)
    });
    (address, relay)
}

const JOINER: &[u8] = b"haul/1 joiner";
const HOST: &[u8] = b"haul/1 host";

/// The eight points of small order and the other encodings of three of them, as they are published.
const SMALL_ORDER: [[u8; 32]; 11] = [
    hex("0100000000000000000000000000000000000000000000000000000000000000"),
    hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    hex("0000000000000000000000000000000000000000000000000000000000000000"),
    hex("0000000000000000000000000000000000000000000000000000000000000080"),
    hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
];

const fn hex(text: &str) -> [u8; 32] {
    const fn nibble(digit: u8) -> u8 {
        if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 }
    }
    let text = text.as_bytes();
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = nibble(text[2 * at]) << 4 | nibble(text[2 * at + 1]);
        at += 1;
    }
    bytes
}
