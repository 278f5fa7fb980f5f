//! An evil receiver over real sockets against a real `haul send`, which survives each and then serves a good one.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/process.rs"]
mod process;

use haul::secret::{Link, SessionId, SessionSecret};
use haul::transport::{DeviceKey, Lane, Proof, Purpose, connect};
use haul::wire::{Encoding, FRAME_HEADER_BYTES, FrameHeader, Message, PIECE_ADDRESS_BYTES, SessionGrant};
use process::{Playground, Sending, noise};
use std::fs;
use std::time::{Duration, Instant};

const LENGTH: usize = 3 << 20;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sender with one file, and a session of it.
struct Victim {
    playground: Playground,
    sending: Sending,
    device: DeviceKey,
    link: Link,
}

/// A control lane that said hello, and what it was granted.
struct Session {
    control: Lane,
    grant: SessionGrant,
}

#[test]
fn row_54_requests_for_what_is_not_on_offer_end_the_session_and_read_nothing() {
    let requests = [
        (
            "chunks beyond the end",
            Message::ChunksRequest { gaps: vec![(12, 1)], piece_bytes: 65_536, held: 0, reread: false },
        ),
        ("chunks at the edge of numbers", chunks(vec![(u64::MAX, 1)])),
        ("a range that overflows", chunks(vec![(u64::MAX, u64::MAX), (1, 1)])),
        ("an empty range", chunks(vec![(0, 0)])),
        ("no range", chunks(vec![])),
        ("two MiB at once", chunks(vec![(0, 9)])),
        ("pieces of no bytes", Message::ChunksRequest { gaps: vec![(0, 1)], piece_bytes: 0, held: 0, reread: false }),
        ("pieces of 3 bytes", Message::ChunksRequest { gaps: vec![(0, 1)], piece_bytes: 3, held: 0, reread: false }),
        (
            "more held than there is",
            Message::ChunksRequest { gaps: vec![(0, 1)], piece_bytes: 65_536, held: 1 << 40, reread: false },
        ),
    ];
    for (case, request) in requests {
        let victim = Victim::new();
        let session = victim.session();
        let mut data = victim.data(&session.grant);
        send(&mut data, &request);
        assert_eq!(drain(&mut data), 0, "{case}: not a byte of any file");
        victim.serves_a_good_receiver(case);
    }
}

#[test]
fn row_54_control_requests_out_of_range_end_the_session() {
    let requests = [
        ("a page beyond the last", Message::ListingRequest { page: 1 }),
        ("no hashes", Message::HashesRequest { first: 0, count: 0 }),
        ("too many hashes", Message::HashesRequest { first: 0, count: u16::MAX }),
        ("hashes beyond the end", Message::HashesRequest { first: u64::MAX, count: 1 }),
        ("an answer", Message::DoneAck),
        ("a second hello", Message::Hello { version: 1, features: 0 }),
    ];
    for (case, request) in requests {
        let victim = Victim::new();
        let mut session = victim.session();
        send(&mut session.control, &request);
        assert!(matches!(read(&mut session.control), None | Some(Message::Refused { .. })), "{case}");
        assert_eq!(drain(&mut session.control), 0);
        victim.serves_a_good_receiver(case);
    }
}

#[test]
fn row_55_a_queue_of_requests_without_end_is_bounded() {
    let victim = Victim::new();
    let session = victim.session();
    let mut data = victim.data(&session.grant);
    let before = resident_bytes(victim.sending.id());
    let request = chunks(vec![(0, 4)]).to_frame().unwrap();
    let all: Vec<u8> = request.iter().copied().cycle().take(request.len() * 10_000).collect();
    // Nothing is read: the sender's answers fill the sockets, and it stops taking requests.
    data.set_silence_limit(Duration::from_secs(2));
    let _ = data.send(&[&all]);
    let grown = resident_bytes(victim.sending.id()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more for requests that nobody reads the answers of");
    drop(data);
    victim.serves_a_good_receiver("a flood of requests");
}

#[test]
fn row_56_one_chunk_many_times_is_served_as_often_as_it_is_read() {
    let victim = Victim::new();
    let session = victim.session();
    let mut data = victim.data(&session.grant);
    let before = resident_bytes(victim.sending.id());
    for _ in 0..200 {
        send(&mut data, &chunks(vec![(3, 1)]));
        let mut taken = 0;
        while taken < 256 * 1024 {
            taken += read_piece(&mut data).unwrap();
        }
    }
    let grown = resident_bytes(victim.sending.id()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    drop(data);
    victim.serves_a_good_receiver("one chunk two hundred times");
}

#[test]
fn rows_57_and_58_garbage_after_the_proof_ends_the_lane() {
    let oversized = FrameHeader::Message { body_bytes: 65_537 }.encode();
    let garbage = noise(100_000, 3);
    let frames: [(&str, &[u8]); 5] = [
        ("noise", &garbage),
        ("64 KiB + 1", &oversized),
        ("an unknown kind", &[7; 8]),
        ("a piece", &[2, 1, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0]),
        ("half a frame", &[1, 0, 0, 0, 20, 0, 0, 0, 1]),
    ];
    for (case, frame) in frames {
        for on_control in [true, false] {
            let victim = Victim::new();
            let mut session = victim.session();
            let mut lane = if on_control { victim.lane(&victim.link_proof()) } else { victim.data(&session.grant) };
            let _ = lane.send(&[frame]);
            if case == "half a frame" {
                lane.close().unwrap();
            }
            assert_eq!(drain(&mut lane), 0, "{case}");
            let _ = session.control.close();
            victim.serves_a_good_receiver(case);
        }
    }
}

#[test]
fn a_silent_receiver_holds_up_nobody() {
    let victim = Victim::new();
    let silent = victim.session();
    let asleep = victim.data(&silent.grant);
    let unproven = std::net::TcpStream::connect(victim.link.addresses()[0]).unwrap();
    let before_hello = victim.lane(&victim.link_proof());
    victim.serves_a_good_receiver("silence");
    drop((silent, asleep, unproven, before_hello));
}

#[test]
fn lanes_without_end_push_each_other_out() {
    let victim = Victim::new();
    let session = victim.session();
    let mut held = Vec::new();
    // The control lane is one of them.
    for _ in 1..haul::limits::SESSION_LANES_MAX {
        let mut lane = victim.data(&session.grant);
        send(&mut lane, &Message::Ping { token: 7 });
        assert_eq!(read(&mut lane), Some(Message::Pong { token: 7 }));
        held.push(lane);
    }
    let mut further = victim.data(&session.grant);
    send(&mut further, &Message::Ping { token: 8 });
    assert_eq!(read(&mut further), Some(Message::Pong { token: 8 }), "the newest is served");
    assert_eq!(read(&mut held[0]), None, "for it, the oldest is closed");
    send(&mut held[1], &Message::Ping { token: 9 });
    assert_eq!(read(&mut held[1]), Some(Message::Pong { token: 9 }), "and no other");
    drop(held);
    victim.serves_a_good_receiver("lanes without end");
}

#[test]
fn a_session_that_was_never_granted_is_refused() {
    let victim = Victim::new();
    let grant = SessionGrant { id: [1; 16], secret: [2; 32] };
    let proof = Proof::Session { id: SessionId::from_bytes(grant.id), secret: SessionSecret::from_bytes(grant.secret) };
    let refused = connect(&victim.device, victim.link.addresses(), &proof, Purpose::Data, Instant::now() + PATIENCE);
    assert!(refused.is_err());
    victim.serves_a_good_receiver("a session of its own");
}

impl Victim {
    fn new() -> Self {
        let playground = Playground::new();
        let file = playground.file("data", LENGTH, 1);
        let sending = playground.send(&[&file], &["--keep"]);
        let link = Link::parse(&sending.link).unwrap();
        Self { playground, sending, device: DeviceKey::generate().unwrap(), link }
    }

    fn link_proof(&self) -> Proof {
        Proof::Link { room: self.link.room(), key: self.link.key().clone() }
    }

    fn lane(&self, proof: &Proof) -> Lane {
        self.lane_for(proof, Purpose::Control)
    }

    fn lane_for(&self, proof: &Proof, purpose: Purpose) -> Lane {
        connect(&self.device, self.link.addresses(), proof, purpose, Instant::now() + PATIENCE).unwrap()
    }

    fn session(&self) -> Session {
        let mut control = self.lane(&self.link_proof());
        send(&mut control, &Message::Hello { version: 1, features: 0 });
        let Some(Message::Welcome { grant, .. }) = read(&mut control) else { panic!("no welcome") };
        Session { control, grant }
    }

    fn data(&self, grant: &SessionGrant) -> Lane {
        let (id, secret) = (SessionId::from_bytes(grant.id), SessionSecret::from_bytes(grant.secret));
        self.lane_for(&Proof::Session { id, secret }, Purpose::Data)
    }

    fn serves_a_good_receiver(self, case: &str) {
        let into = self.playground.dir("into");
        self.playground.receive(&self.sending.link, &into, &[]).wait().assert_ok();
        assert!(fs::read(into.join("data")).unwrap() == noise(LENGTH, 1), "{case}");
        let said = self.sending.stderr();
        assert!(!said.contains("panicked"), "{case}: {said}");
        self.sending.kill();
    }
}

fn chunks(gaps: Vec<(u64, u64)>) -> Message {
    Message::ChunksRequest { gaps, piece_bytes: 65_536, held: 0, reread: false }
}

fn send(lane: &mut Lane, message: &Message) {
    lane.send(&[&message.to_frame().unwrap()]).unwrap();
}

/// The next message, or nothing where the lane ends.
fn read(lane: &mut Lane) -> Option<Message> {
    let mut header = [0; FRAME_HEADER_BYTES];
    lane.read_exact(&mut header).ok()?;
    let FrameHeader::Message { body_bytes } = FrameHeader::decode(&header).unwrap() else { panic!("a piece") };
    let mut body = vec![0; body_bytes];
    lane.read_exact(&mut body).ok()?;
    Some(Message::decode(&body).unwrap())
}

/// Reads one piece, and returns how many bytes of the file it stands for.
fn read_piece(lane: &mut Lane) -> Option<u32> {
    let mut header = [0; FRAME_HEADER_BYTES];
    lane.read_exact(&mut header).ok()?;
    let FrameHeader::Piece { encoding, payload_bytes } = FrameHeader::decode(&header).unwrap() else { return None };
    assert_eq!(encoding, Encoding::Raw);
    lane.read_exact(&mut vec![0; PIECE_ADDRESS_BYTES + payload_bytes as usize]).ok()?;
    Some(payload_bytes)
}

/// Bytes of files that come until the lane ends, which it does.
fn drain(lane: &mut Lane) -> u32 {
    lane.set_silence_limit(PATIENCE);
    let mut bytes = 0;
    let mut header = [0; FRAME_HEADER_BYTES];
    while lane.read_exact(&mut header).is_ok() {
        match FrameHeader::decode(&header).unwrap() {
            FrameHeader::Message { body_bytes } => lane.read_exact(&mut vec![0; body_bytes]).unwrap(),
            FrameHeader::Piece { payload_bytes, .. } => {
                bytes += payload_bytes;
                lane.read_exact(&mut vec![0; PIECE_ADDRESS_BYTES + payload_bytes as usize]).unwrap();
            }
        }
    }
    bytes
}

fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
