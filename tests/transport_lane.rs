//! Lanes between two proven ends: bytes, ends, silence and damage.

#![allow(clippy::cast_possible_truncation)]

mod transport_support;

use haul::secret::SessionId;
use haul::transport::{DeviceKey, Purpose, TransportError, Who, connect};
use proptest::prelude::*;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use transport_support::{
    Host, PATIENCE, ROOM, SECRET_BYTES, SESSION, join, link_proof, read_to_end, relay, session_proof,
};

#[test]
fn either_proof_opens_a_lane_and_the_host_learns_which() {
    let host = Host::start();
    let device = DeviceKey::generate().unwrap();
    for (proof, who) in [(link_proof(), Who::Link(ROOM)), (session_proof(), Who::Session(SESSION))] {
        for purpose in [Purpose::Control, Purpose::Data] {
            let mut lane = connect(&device, &[host.address()], &proof, purpose, Instant::now() + PATIENCE).unwrap();
            let (mut hosted, intro) = host.lanes.recv_timeout(PATIENCE).unwrap();
            assert_eq!((intro.purpose, intro.who), (purpose, who));
            assert_eq!(lane.peer_address(), host.address());
            assert_eq!(hosted.peer_address(), intro.peer_address);
            hosted.send(&[b"hello"]).unwrap();
            let mut hello = [0; 5];
            lane.read_exact(&mut hello).unwrap();
            assert_eq!(&hello, b"hello");
        }
    }
    assert_eq!(host.listener.bad_proofs(), 0);
}

#[test]
fn parts_of_any_length_arrive_as_one_stream_however_they_are_read() {
    let lanes = OnceLock::new();
    let strategy = (
        prop::collection::vec(prop_oneof![0usize..40, 4000usize..4200, 16_300usize..16_500, 0usize..300_000], 0..8),
        prop::collection::vec(1usize..200_000, 1..4),
        any::<bool>(),
    );
    proptest!(ProptestConfig::with_cases(24), |((lengths, reads, from_host) in strategy)| {
        let host = Host::start();
        let mut lanes = lanes.get_or_init(|| Mutex::new(host.pair())).lock().unwrap();
        let (joiner, hosted) = &mut *lanes;
        let (from, to) = if from_host { (hosted, joiner) } else { (joiner, hosted) };
        let whole: Vec<u8> = (0..lengths.iter().sum::<usize>()).map(|at| (at % 251) as u8).collect();
        let mut rest = &whole[..];
        let parts: Vec<&[u8]> = lengths.iter().map(|&length| rest.split_off(..length).unwrap()).collect();
        let mut received = vec![0; whole.len()];
        thread::scope(|scope| {
            scope.spawn(|| from.send(&parts).unwrap());
            let mut rest = &mut received[..];
            for length in reads.iter().cycle() {
                if rest.is_empty() { break; }
                let length = (*length).min(rest.len());
                to.read_exact(rest.split_off_mut(..length).unwrap()).unwrap();
            }
        });
        prop_assert!(received == whole);
        prop_assert!(!to.ready_within(Duration::ZERO).unwrap());
    });
}

#[test]
fn requests_that_arrive_while_an_end_sends_are_not_lost() {
    let host = Host::start();
    let (mut joiner, mut hosted) = host.pair();
    hosted.send(&[&[1; 100], &vec![2; 20_000]]).unwrap();
    assert!(joiner.ready_within(PATIENCE).unwrap());
    joiner.send(&[&[3; 10]]).unwrap();
    let mut received = vec![0; 20_100];
    joiner.read_exact(&mut received).unwrap();
    assert_eq!((received[99], received[100], received[20_099]), (1, 2, 2));
    let mut request = [0; 10];
    hosted.read_exact(&mut request).unwrap();
    assert_eq!(request, [3; 10]);
}

#[test]
fn an_announced_end_is_told_from_a_broken_one() {
    let host = Host::start();
    let (mut joiner, mut hosted) = host.pair();
    hosted.send(&[b"last"]).unwrap();
    hosted.close().unwrap();
    hosted.close().unwrap();
    let mut last = [0; 4];
    joiner.read_exact(&mut last).unwrap();
    for _ in 0..2 {
        assert!(matches!(joiner.read_exact(&mut last), Err(TransportError::Closed)));
        assert!(matches!(joiner.ready_within(Duration::ZERO), Err(TransportError::Closed)));
    }
    joiner.close().unwrap();
    assert!(matches!(hosted.read_exact(&mut last), Err(TransportError::Closed)));

    let (mut joiner, hosted) = host.pair();
    drop(hosted);
    assert!(matches!(joiner.read_exact(&mut last), Err(TransportError::Lost)));
}

#[test]
fn silence_ends_a_read_and_bytes_before_the_limit_do_not() {
    let host = Host::start();
    let (mut joiner, mut hosted) = host.pair();
    let limit = Duration::from_millis(50);
    joiner.set_silence_limit(limit);
    let began = Instant::now();
    assert!(matches!(joiner.read_exact(&mut [0]), Err(TransportError::Silent)));
    assert!(began.elapsed() >= limit);
    assert!(!joiner.ready_within(limit).unwrap());
    hosted.send(&[b"x"]).unwrap();
    joiner.set_silence_limit(None);
    joiner.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_write_that_nobody_reads_ends_in_silence() {
    let host = Host::start();
    let (mut joiner, _hosted) = host.pair();
    joiner.set_silence_limit(Duration::from_millis(50));
    let megabyte = vec![0; 1 << 20];
    let fault = (0..1000).find_map(|_| joiner.send(&[&megabyte]).err()).unwrap();
    assert!(matches!(fault, TransportError::Silent));
}

#[test]
fn an_abort_from_another_thread_ends_a_waiting_read() {
    let host = Host::start();
    let (mut joiner, _hosted) = host.pair();
    let handle = joiner.abort_handle();
    let reader = thread::spawn(move || joiner.read_exact(&mut [0]));
    handle.clone().abort();
    assert!(matches!(reader.join().unwrap(), Err(TransportError::Lost)));
    // The lane is gone; its handle does not keep anything open and does no harm.
    handle.abort();
}

#[test]
fn the_counters_count_what_the_wire_carries() {
    let host = Host::start();
    let (address, tape) = relay(host.address(), |_, _| {});
    let mut joiner = join(address, &link_proof()).unwrap();
    let mut hosted = host.lanes.recv_timeout(PATIENCE).unwrap().0;
    joiner.send(&[&vec![0; 100_000]]).unwrap();
    hosted.read_exact(&mut vec![0; 100_000]).unwrap();
    hosted.send(&[b"seen"]).unwrap();
    joiner.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(joiner.bytes_sent(), hosted.bytes_received());
    assert_eq!(joiner.bytes_sent(), tape.to_host.lock().unwrap().len() as u64);
    assert_eq!(joiner.bytes_received(), hosted.bytes_sent());
    assert_eq!(joiner.bytes_received(), tape.to_joiner.lock().unwrap().len() as u64);
}

#[test]
fn a_bit_flipped_on_the_way_is_an_error_and_never_data() {
    let host = Host::start();
    let target = Arc::new(AtomicUsize::new(usize::MAX));
    let aim = Arc::clone(&target);
    let (address, _) = relay(host.address(), move |before, bytes| {
        let target = aim.load(Ordering::SeqCst);
        if (before..before + bytes.len()).contains(&target) {
            bytes[target - before] ^= 4;
        }
    });
    let mut joiner = join(address, &link_proof()).unwrap();
    let mut hosted = host.lanes.recv_timeout(PATIENCE).unwrap().0;
    joiner.send(&[&vec![7; 50_000]]).unwrap();
    hosted.read_exact(&mut vec![0; 50_000]).unwrap();
    target.store(usize::try_from(joiner.bytes_sent()).unwrap() + 20_000, Ordering::SeqCst);
    joiner.send(&[&vec![7; 50_000]]).unwrap();
    let mut received = vec![0; 50_000];
    assert!(matches!(hosted.read_exact(&mut received), Err(TransportError::Tls(_))));
    assert!(received.iter().all(|&byte| byte == 0 || byte == 7));
    assert!(received[30_000..].iter().all(|&byte| byte == 0));
    assert!(matches!(joiner.read_exact(&mut [0]), Err(TransportError::Tls(_) | TransportError::Lost)));
}

#[test]
fn the_address_that_answers_is_used_whichever_it_is() {
    let host = Host::start();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let device = DeviceKey::generate().unwrap();
    for addresses in [[nobody, host.address()], [host.address(), nobody]] {
        connect(&device, &addresses, &session_proof(), Purpose::Data, Instant::now() + PATIENCE).unwrap();
        host.lanes.recv_timeout(PATIENCE).unwrap();
    }
    assert!(matches!(join(nobody, &link_proof()), Err(TransportError::Refused)));
    let none = connect(&device, &[], &link_proof(), Purpose::Data, Instant::now() + PATIENCE);
    assert!(matches!(none, Err(TransportError::ConnectTimeout)));
}

#[test]
fn closing_the_listener_does_not_hang_and_leaves_lanes_alone() {
    let mut host = Host::start();
    let (mut joiner, mut hosted) = host.pair();
    let mut stranger = std::net::TcpStream::connect(host.address()).unwrap();
    // A further lane proves that the stranger, who was there before, has been accepted.
    drop(host.pair());
    host.listener.close();
    assert_eq!(read_to_end(&mut stranger), b"");
    assert!(matches!(join(host.address(), &link_proof()), Err(TransportError::Refused)));
    joiner.send(&[b"still here"]).unwrap();
    hosted.read_exact(&mut [0; 10]).unwrap();
}

#[test]
fn debug_texts_show_no_secret() {
    let host = Host::start();
    let (joiner, _) = host.pair();
    let shown = format!(
        "{:?} {:?} {:?} {joiner:?} {:?} {:?}",
        link_proof(),
        session_proof(),
        DeviceKey::generate().unwrap(),
        host.listener,
        SessionId::from_bytes([5; 16]),
    );
    assert!(!shown.contains("107, 101, 121") && !shown.contains(&format!("{SECRET_BYTES:?}")), "{shown}");
    assert_eq!(shown.matches("[redacted]").count(), 3, "{shown}");
}
