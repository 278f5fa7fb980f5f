//! Cells of the fault matrix about the other end and the way to it, on real connections and real files.
//!
//! Names and moments are those of `fault_transfers.rs`.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/hostile.rs"]
mod hostile;
#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;
mod transport_support;

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::chunk_digest;
use haul::limits::{CHUNK_BYTES_MIN, PROOF_DEADLINE};
use haul::session::PeerFault;
use haul::source::{Source, WalkOptions};
use haul::transport::{DeviceKey, Lane, Purpose, TransportError, connect};
use hostile::{CONTROL, ReceiverVictim, hash_page, listing, message, piece, welcome};
use process::{Playground, noise};
use proxy::{Proxy, Then};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use transport_support::{Host, PATIENCE, join, link_proof, read_to_end, relay};

/// How long a dialling end waits in these tests, in place of ten seconds.
const SHORT: Duration = Duration::from_millis(200);

fn dial(address: SocketAddr, patience: Duration) -> Result<Lane, TransportError> {
    let device = DeviceKey::generate().unwrap();
    connect(&device, &[address], &link_proof(), Purpose::Control, Instant::now() + patience)
}

/// A host for one connection, which `serve` ends.
fn serve_once(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    address
}

#[test]
fn fault_blackhole_handshake() {
    // Connected, and then nothing gets through: it is over at the deadline, and another try goes its way.
    let address = serve_once(|mut socket| drop(read_to_end(&mut socket)));
    let began = Instant::now();
    assert!(matches!(dial(address, SHORT), Err(TransportError::ProofTimeout)));
    assert!(began.elapsed() >= SHORT);
    let host = Host::start();
    dial(host.address(), PATIENCE).unwrap();
    assert_eq!(PROOF_DEADLINE, Duration::from_secs(10));
}

#[test]
fn fault_slow_peer_handshake() {
    // The host's bytes come one by one: each of them is progress, and none of them moves the deadline.
    let host = Host::start();
    let target = host.address();
    let address = serve_once(move |mut joiner| {
        let mut host = TcpStream::connect(target).unwrap();
        let (mut from, mut to) = (joiner.try_clone().unwrap(), host.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut byte = [0];
        while let Ok(1) = host.read(&mut byte) {
            thread::sleep(Duration::from_millis(5));
            if joiner.write_all(&byte).is_err() {
                break;
            }
        }
    });
    assert!(matches!(dial(address, SHORT), Err(TransportError::ProofTimeout)));
    dial(target, PATIENCE).unwrap();
}

#[test]
fn fault_bit_flip_handshake() {
    let host = Host::start();
    let (address, tape) = relay(host.address(), |_, _| {});
    dial(address, PATIENCE).unwrap();
    let whole = tape.to_host.lock().unwrap().len();
    // Bits of the first flight, of the encrypted rest of the handshake, and of the proof.
    for target in [whole / 8, whole / 2, whole - 10] {
        let host = Host::start();
        let (address, tape) = relay(host.address(), move |before, bytes| {
            if (before..before + bytes.len()).contains(&target) {
                bytes[target - before] ^= 1;
            }
        });
        assert!(dial(address, PATIENCE).is_err(), "a flipped bit at {target} of {whole} passes");
        assert!(tape.to_host.lock().unwrap().len() > target);
        assert!(host.lanes.try_recv().is_err(), "no lane comes of it");
        dial(host.address(), PATIENCE).unwrap();
    }
}

#[test]
fn fault_bit_flip_manifest() {
    // The first thing that is said once the lane is there.
    flipped_bit_is_never_data(b"what is the listing?");
}

/// A bit of `data` is flipped on its way: it does not arrive, the lane is over, and another one carries it.
fn flipped_bit_is_never_data(data: &[u8]) {
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
    target.store(joiner.bytes_sent() as usize + 10, Ordering::SeqCst);
    joiner.send(&[data]).unwrap();
    let mut received = vec![0; data.len()];
    assert!(matches!(hosted.read_exact(&mut received), Err(TransportError::Tls(_))));
    assert!(received.iter().all(|&byte| byte == 0));
    assert!(matches!(joiner.read_exact(&mut [0]), Err(TransportError::Tls(_) | TransportError::Lost)));
    let (mut joiner, mut hosted) = host.pair();
    joiner.send(&[data]).unwrap();
    hosted.read_exact(&mut received).unwrap();
    assert_eq!(received, data);
}

#[test]
fn fault_evil_peer_handshake() {
    let host = Host::start();
    // To a host: noise, another protocol, the start of TLS and then an end.
    for says in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0x16, 3, 1, 2, 0, 1]] {
        let mut stranger = TcpStream::connect(host.address()).unwrap();
        stranger.write_all(says).unwrap();
        stranger.shutdown(std::net::Shutdown::Write).unwrap();
        read_to_end(&mut stranger);
    }
    assert!(host.lanes.try_recv().is_err(), "nobody was let in");
    // To a joiner: noise in place of a host.
    let address = serve_once(|mut socket| {
        let _ = socket.write_all(&[0xff; 300]);
        let _ = read_to_end(&mut socket);
    });
    let fault = dial(address, PATIENCE).unwrap_err();
    let is_named = matches!(fault, TransportError::PeerNotHaul | TransportError::Tls(_));
    assert!(is_named, "{fault:?}");
    host.pair();
}

#[test]
fn fault_evil_peer_manifest() {
    let listed = listing(&[("a", Some(3 * CHUNK_BYTES_MIN)), ("b", Some(1))]);
    let attacks = [
        // Pieces and hashes before anything was agreed, and a second welcome.
        (piece(0, 0, 1), PeerFault::Piece),
        (hash_page(0, &[haul::digest::ChunkDigest([1; 32])]), PeerFault::OutOfTurn("an answer without a question")),
        (welcome(listed.digest()), PeerFault::OutOfTurn("an answer without a question")),
        // A question from the side that answers.
        (message(2, &[0]), PeerFault::OutOfTurn("an answer without a question")),
    ];
    for (attack, fault) in attacks {
        let mut victim = ReceiverVictim::deciding(&listed);
        victim.feed(CONTROL, &attack);
        victim.assert_refused(fault);
    }
}

#[test]
fn fault_source_deleted_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let content = noise(3 * CHUNK_BYTES_MIN as usize, 1);
    for vanishes in [
        |file: &Path| fs::remove_file(file).unwrap(),
        |file: &Path| {
            fs::rename(file, file.with_extension("away")).unwrap();
        },
    ] {
        let file = folder.path().join("f");
        fs::write(&file, &content).unwrap();
        let walk = Source::walk(std::slice::from_ref(&file), &WalkOptions::default()).unwrap();
        let read = |chunk: u32| {
            let mut out = vec![0; CHUNK_BYTES_MIN as usize];
            walk.source.read_chunk_into(0, ChunkIndex(chunk), 0..CHUNK_BYTES_MIN, &mut out).map(|()| out)
        };
        let start = read(0).unwrap();
        vanishes(&file);
        let served = [start, read(1).unwrap(), read(2).unwrap()].concat();
        assert!(served == content, "what is open is served to its end");
    }
}

#[test]
fn fault_many_receivers_one_stalls_chunks() {
    const BYTES: usize = 8 << 20;
    let playground = Playground::new();
    let source = playground.file("data", BYTES, 1);
    let sending = playground.send(&[&source], &["--keep"]);
    let proxy = Proxy::new(&sending.link, BYTES as u64 / 2, Then::Stall);
    let stalled = playground.receive(&proxy.link(&sending.link), &playground.dir("stalled"), &[]);
    proxy.wait_until_reached();
    let others: Vec<_> = (0..7).map(|number| playground.dir(&format!("into {number}"))).collect();
    let receiving: Vec<_> = others.iter().map(|into| playground.receive(&sending.link, into, &[])).collect();
    for (receiving, into) in receiving.into_iter().zip(&others) {
        receiving.wait().assert_ok();
        assert!(fs::read(into.join("data")).unwrap() == noise(BYTES, 1));
    }
    // Held back all the while, it has had no more than what was let through.
    assert!(!playground.path("stalled/data").exists());
    stalled.kill();
    sending.kill();
}

#[test]
fn fault_clock_jump_handshake() {
    asks_for_no_time_of_day(&["src/secret", "src/transport"]);
}

#[test]
fn fault_clock_jump_chunks() {
    asks_for_no_time_of_day(&["src/session", "src/source", "src/store", "src/transfer", "src/wire"]);
    // What a clock that has jumped leaves behind are files of yesterday and of tomorrow. The hash cache, which compares
    // such times, says the same of them as their bytes do.
    let folder = tempfile::tempdir().unwrap();
    let content = noise(2 * CHUNK_BYTES_MIN as usize, 1);
    let day = Duration::from_secs(24 * 3600);
    let now = fs::metadata(folder.path()).unwrap().modified().unwrap();
    for (name, modified) in [("yesterday", now - day), ("tomorrow", now + day)] {
        let file = folder.path().join(name);
        fs::write(&file, &content).unwrap();
        fs::File::open(&file).unwrap().set_modified(modified).unwrap();
        let options = WalkOptions { hash_cache: Some(folder.path().join("cache")), ..WalkOptions::default() };
        for _ in 0..3 {
            let walk = Source::walk(std::slice::from_ref(&file), &options).unwrap();
            let hashed = walk.source.hash_chunks(0, ChunkIndex(0)..ChunkIndex(2)).unwrap();
            let geometry = Geometry::of(Length(content.len() as u64)).unwrap();
            for ((index, bytes), hashed) in (0..).zip(content.chunks(CHUNK_BYTES_MIN as usize)).zip(hashed) {
                assert_eq!(hashed.digest, chunk_digest(geometry, ChunkIndex(index), bytes), "{name}");
            }
        }
    }
}

/// A test cannot set this machine's clock. That nothing asks for the time of day, so that a jump of it goes unseen, is
/// what it can show. Links have no expiry, which would be the one thing to ask for it.
fn asks_for_no_time_of_day(places: &[&str]) {
    let mut rest: Vec<_> = places.iter().map(|place| Path::new(env!("CARGO_MANIFEST_DIR")).join(place)).collect();
    let mut files = 0;
    while let Some(place) = rest.pop() {
        if place.is_dir() {
            rest.extend(fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        // It notes when a transfer began, for people to read.
        if place.ends_with("transfer/unfinished.rs") {
            continue;
        }
        let text = fs::read_to_string(&place).unwrap();
        let asks = ["SystemTime::now", "UNIX_EPOCH.elapsed", "ClockId::Realtime", "gettimeofday"];
        let found = asks.iter().find(|ask| text.contains(**ask));
        assert_eq!(found, None, "{} depends on the time of day", place.display());
        files += 1;
    }
    assert!(files > 0);
}
