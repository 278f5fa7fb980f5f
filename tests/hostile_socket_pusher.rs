//! Senders and listeners that keep to no rule, over real sockets, against real `haul receive` and `haul send --to`.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/listening.rs"]
mod listening;
#[path = "support/process.rs"]
mod process;

use haul::digest::ListingDigest;
use haul::limits::{SESSION_LANES_MAX, SESSIONS_MAX};
use haul::secret::{Key, Link, Room, SessionId, SessionSecret};
use haul::transport::{
    DeviceKey, Gatekeeper, Lane, LaneIntro, Listener, ListenerEvent, Proof, Purpose, TransportError, connect,
};
use haul::wire::{FRAME_HEADER_BYTES, FrameHeader, Message, Refusal, SessionGrant};
use listening::{Listening, endings};
use process::{Playground, noise, signal};
use rustix::process::Signal;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than anything here takes; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A receiver that listens, and who attacks it.
struct Victim {
    playground: Playground,
    listening: Listening,
    device: DeviceKey,
    link: Link,
}

impl Victim {
    fn new() -> Self {
        let playground = Playground::new();
        let listening = playground.listen(&playground.dir("into"), &["--keep"]);
        let link = Link::parse(&listening.link).unwrap();
        Self { playground, listening, device: DeviceKey::generate().unwrap(), link }
    }

    fn by_link(&self) -> Proof {
        Proof::Link { room: self.link.room(), key: self.link.key().clone() }
    }

    fn lane(&self, proof: &Proof, purpose: Purpose) -> Result<Lane, TransportError> {
        connect(&self.device, self.link.addresses(), proof, purpose, Instant::now() + PATIENCE)
    }

    /// A control lane over which this side was greeted, and what it was granted.
    fn greeted(&self) -> (Lane, SessionGrant) {
        let mut lane = self.lane(&self.by_link(), Purpose::Push).unwrap();
        assert!(matches!(read(&mut lane), Some(Message::Hello { .. })));
        let Some(Message::Grant { grant }) = read(&mut lane) else { panic!("no grant") };
        (lane, grant)
    }

    fn takes_a_good_push(self, case: &str) {
        let file = self.playground.file("data", 300_000, 1);
        self.playground.push(&[&file], &self.listening.link, &[]).wait().assert_ok();
        assert!(fs::read(self.playground.path("into/data")).unwrap() == noise(300_000, 1), "{case}");
        signal(self.listening.run.id(), Signal::INT);
        let received = self.listening.wait();
        assert!(!received.stderr.contains("panicked"), "{case}: {}", received.stderr);
        let complete = endings(&received).into_iter().filter(|event| event["ok"] == true).count();
        assert_eq!(complete, 1, "{case}");
        assert!(!self.playground.path("into/.haul").exists(), "{case}");
    }
}

fn by_session(grant: &SessionGrant) -> Proof {
    Proof::Session { id: SessionId::from_bytes(grant.id), secret: SessionSecret::from_bytes(grant.secret) }
}

fn welcome(lanes: u16) -> Message {
    let listing = ListingDigest([7; 32]);
    Message::Welcome { version: 1, features: 0, grant: SessionGrant::NONE, lanes, listing }
}

fn send(lane: &mut Lane, message: &Message) {
    // It may have been closed meanwhile, which is what some of this is about.
    let _ = lane.send(&[&message.to_frame().unwrap()]);
}

/// The next message, or nothing where the lane ends.
fn read(lane: &mut Lane) -> Option<Message> {
    lane.set_silence_limit(PATIENCE);
    let mut header = [0; FRAME_HEADER_BYTES];
    lane.read_exact(&mut header).ok()?;
    let FrameHeader::Message { body_bytes } = FrameHeader::decode(&header).unwrap() else { panic!("a piece") };
    let mut body = vec![0; body_bytes];
    lane.read_exact(&mut body).ok()?;
    Some(Message::decode(&body).unwrap())
}

/// The refusal that the lane ends with.
fn refusal(lane: &mut Lane) -> Option<Refusal> {
    std::iter::from_fn(|| read(lane)).find_map(|message| match message {
        Message::Refused { refusal } => Some(refusal),
        _ => None,
    })
}

#[test]
fn a_sender_that_asks_instead_of_answering_is_refused() {
    let victim = Victim::new();
    let digests = Vec::new();
    for message in [
        Message::Hello { version: 1, features: 0 },
        Message::ListingRequest { page: 0 },
        Message::LanesWanted { lanes: 1 },
        Message::Grant { grant: SessionGrant { id: [1; 16], secret: [2; 32] } },
        Message::HashPage { first: 0, digests },
        Message::Done { files: 1, failed: 0 },
        welcome(0),
    ] {
        let (mut lane, _) = victim.greeted();
        send(&mut lane, &message);
        // The close of the lane may overtake the word.
        assert!(matches!(refusal(&mut lane), None | Some(Refusal::Protocol)), "{message:?}");
    }
    victim.takes_a_good_push("questions");
}

#[test]
fn a_sender_that_grants_what_is_not_its_own_is_refused() {
    let victim = Victim::new();
    let (mut lane, _) = victim.greeted();
    let own = SessionGrant { id: [1; 16], secret: [2; 32] };
    let listing = ListingDigest([7; 32]);
    send(&mut lane, &Message::Welcome { version: 1, features: 0, grant: own, lanes: 1, listing });
    assert!(matches!(refusal(&mut lane), None | Some(Refusal::Protocol)));
    victim.takes_a_good_push("a grant");
}

#[test]
fn data_lanes_that_nobody_asked_for_are_closed() {
    let victim = Victim::new();
    let by_link = victim.lane(&victim.by_link(), Purpose::Data);
    assert!(by_link.is_err() || read(&mut by_link.unwrap()).is_none(), "a link opens no data lane");
    let unknown = SessionGrant { id: [1; 16], secret: [2; 32] };
    assert!(victim.lane(&by_session(&unknown), Purpose::Data).is_err(), "it was never granted");
    let (mut control, grant) = victim.greeted();
    send(&mut control, &welcome(16));
    // More than a session may ever have, and more at once than it takes in.
    let mut lanes: Vec<_> =
        (0..2 * SESSION_LANES_MAX).filter_map(|_| victim.lane(&by_session(&grant), Purpose::Data).ok()).collect();
    let open = lanes.iter_mut().filter_map(|lane| lane.ready_within(Duration::from_millis(50)).ok()).count();
    assert!(open <= 16, "{open} of {} are open", lanes.len());
    victim.takes_a_good_push("data lanes");
}

#[test]
fn sessions_without_end_push_out_those_whose_senders_are_gone() {
    let victim = Victim::new();
    for _ in 0..2 * SESSIONS_MAX {
        // It greets, and the other end is gone.
        drop(victim.greeted());
    }
    victim.takes_a_good_push("sessions");
}

#[test]
fn as_many_senders_as_there_may_be_are_served_and_the_next_one_is_told_so() {
    let victim = Victim::new();
    let held: Vec<_> = (0..SESSIONS_MAX).map(|_| victim.greeted()).collect();
    let mut further = victim.lane(&victim.by_link(), Purpose::Push).unwrap();
    assert_eq!(refusal(&mut further), Some(Refusal::Busy));
    drop(held);
    victim.takes_a_good_push("busy");
}

/// Listens like a receiver, and asks for what no receiver does.
struct EvilListener {
    messages: Vec<Message>,
}

const ROOM: Room = Room::from_bytes(*b"room of the evil");
const KEY: [u8; 16] = *b"key of the evil.";

impl Gatekeeper for EvilListener {
    fn link_key(&self, room: Room) -> Option<Key> {
        (room == ROOM).then(|| Key::from_bytes(KEY))
    }

    fn session_secret(&self, id: SessionId) -> Option<SessionSecret> {
        (id == SessionId::from_bytes([1; 16])).then(|| SessionSecret::from_bytes([2; 32]))
    }

    fn admit(&self, mut lane: Lane, intro: LaneIntro) {
        if intro.purpose == Purpose::Push {
            self.messages.iter().for_each(|message| send(&mut lane, message));
        }
        while read(&mut lane).is_some() {}
    }

    fn observe(&self, _event: ListenerEvent) {}
}

#[test]
fn a_listener_that_breaks_a_rule_gets_nothing() {
    let hello = || Message::Hello { version: 1, features: 0 };
    let grant = || Message::Grant { grant: SessionGrant { id: [1; 16], secret: [2; 32] } };
    let chunks = Message::ChunksRequest { gaps: vec![(0, 1)], piece_bytes: 65_536, held: 0, reread: false };
    let playground = Playground::new();
    let file = playground.file("data", 300_000, 1);
    for messages in [
        vec![grant()],
        vec![hello(), grant(), grant()],
        vec![hello(), Message::LanesWanted { lanes: 1 }],
        vec![hello(), grant(), Message::LanesWanted { lanes: 17 }],
        vec![hello(), grant(), Message::LanesWanted { lanes: 0 }],
        vec![hello(), grant(), chunks],
        vec![hello(), grant(), Message::HashesRequest { first: 9, count: 1 }],
        vec![welcome(1)],
    ] {
        let case = format!("{messages:?}");
        let address = "127.0.0.1:0".parse().unwrap();
        let gate = Arc::new(EvilListener { messages });
        let listener = Listener::bind(address, DeviceKey::generate().unwrap(), gate).unwrap();
        let link = Link::new(&[listener.address()], ROOM, Key::from_bytes(KEY)).unwrap();
        let pushed = playground.push(&[&file], &link.to_text(), &[]).wait();
        assert_eq!(pushed.status.code(), Some(12), "{case}: {pushed:?}");
        assert_eq!(pushed.done()["bytes_fetched"], 0, "{case}: not a byte of the file is sent");
    }
}
