//! What a lane costs over loopback: both ends of one encrypted connection, in wall time per byte, beside the same
//! bytes through a bare TCP connection.

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use haul::limits::PIECE_BYTES_MAX;
use haul::secret::{Key, Room, SessionId, SessionSecret};
use haul::transport::{DeviceKey, Gatekeeper, Lane, LaneIntro, Listener, ListenerEvent, Proof, Purpose, connect};
use haul::wire::{Encoding, Piece, piece_head};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of one timed transfer.
const TRANSFER_BYTES: u64 = 64 << 20;
/// Bytes before the bytes of a piece.
const PIECE_HEAD_BYTES: usize = 32;
const ROOM: Room = Room::from_bytes(*b"room of a bench!");
const KEY: [u8; 16] = *b"key of a bench!!";
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("loopback");
    group.throughput(Throughput::Bytes(TRANSFER_BYTES));
    for piece_bytes in [16 << 10, PIECE_BYTES_MAX] {
        let (mut near, mut far) = lanes();
        let piece = move |chunk| Piece { chunk, offset: 0, length: piece_bytes };
        let head = move |chunk| piece_head(piece(chunk), Encoding::Raw, piece_bytes as usize);
        let sending = Sending::start(piece_bytes, move |chunk, bytes| {
            far.send(&[&head(chunk), bytes]).expect("the other end reads");
        });
        time(&mut group, "lane", piece_bytes, &sending, |bytes| near.read_exact(bytes).expect("the other end sends"));
    }
    let (mut near, mut far) = bare_connection();
    let sending = Sending::start(PIECE_BYTES_MAX, move |_, bytes| {
        far.write_all(&[0; PIECE_HEAD_BYTES]).and_then(|()| far.write_all(bytes)).expect("the other end reads");
    });
    time(&mut group, "bare TCP", PIECE_BYTES_MAX, &sending, |bytes| {
        near.read_exact(bytes).expect("the other end sends");
    });
    group.finish();
    criterion.final_summary();
}

/// Times whole transfers in pieces of `piece_bytes`.
fn time(
    group: &mut BenchmarkGroup<'_, WallTime>,
    what: &str,
    piece_bytes: u32,
    sending: &Sending,
    mut read: impl FnMut(&mut [u8]),
) {
    let mut into = vec![0; piece_bytes as usize];
    group.bench_function(format!("{what}, pieces of {} KiB", piece_bytes / 1024), |bencher| {
        bencher.iter_custom(|rounds| {
            let began = Instant::now();
            for _ in 0..rounds {
                sending.again();
                read_pieces(&mut into, &mut read);
            }
            began.elapsed()
        });
    });
}

/// A thread that sends one transfer's pieces each time that it is told to.
struct Sending {
    orders: mpsc::Sender<()>,
}

impl Sending {
    fn start(piece_bytes: u32, mut send: impl FnMut(u64, &[u8]) + Send + 'static) -> Self {
        let (orders, taken) = mpsc::channel();
        thread::spawn(move || {
            let bytes = support::noise(piece_bytes as usize);
            while let Ok(()) = taken.recv() {
                for chunk in 0..TRANSFER_BYTES / u64::from(piece_bytes) {
                    send(chunk, &bytes);
                }
            }
        });
        Self { orders }
    }

    fn again(&self) {
        self.orders.send(()).expect("the sending thread waits for orders");
    }
}

fn read_pieces(into: &mut [u8], mut read: impl FnMut(&mut [u8])) {
    for _ in 0..TRANSFER_BYTES / into.len() as u64 {
        read(&mut [0; PIECE_HEAD_BYTES]);
        read(into);
    }
}

/// Both ends of a connection without anything of ours.
fn bare_connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let near = listener.local_addr().and_then(TcpStream::connect).expect("the listener is there");
    (near, listener.accept().expect("the connection is there").0)
}

/// Both ends of one lane.
fn lanes() -> (Lane, Lane) {
    let (proven, admitted) = mpsc::channel();
    let device = || DeviceKey::generate().expect("the system has random bytes");
    let address = "127.0.0.1:0".parse().expect("it is an address");
    let listener = Listener::bind(address, device(), Arc::new(Gate(Mutex::new(proven)))).expect("loopback is there");
    let proof = Proof::Link { room: ROOM, key: Key::from_bytes(KEY) };
    let near = connect(&device(), &[listener.address()], &proof, Purpose::Data, Instant::now() + PATIENCE);
    (near.expect("the listener takes the proof"), admitted.recv_timeout(PATIENCE).expect("the lane is proven"))
}

struct Gate(Mutex<mpsc::Sender<Lane>>);

impl Gatekeeper for Gate {
    fn link_key(&self, room: Room) -> Option<Key> {
        (room == ROOM).then(|| Key::from_bytes(KEY))
    }

    fn session_secret(&self, _id: SessionId) -> Option<SessionSecret> {
        None
    }

    fn admit(&self, lane: Lane, _intro: LaneIntro) {
        if let Ok(proven) = self.0.lock() {
            // It fails only once the bench no longer waits for a lane.
            let _ = proven.send(lane);
        }
    }

    fn observe(&self, _event: ListenerEvent) {}
}
