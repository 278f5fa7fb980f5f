//! A sender in this process, with its controls and its events, and receivers of it: real ones, and lanes by hand.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]

use super::process::{Playground, Receiving, noise};
use haul::secret::Link;
use haul::transfer::{
    Cancel, Controls, Decision, Event, Observer, OfferSummary, PeerState, SendSettings, Summary, TransferError, send,
};
use haul::transport::{DeviceKey, Lane, Proof, Purpose, connect};
use haul::wire::{FRAME_HEADER_BYTES, FrameHeader, Message, Refusal};
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A sender of one file that serves until it is stopped.
pub struct Crowd {
    pub playground: Playground,
    pub link: Link,
    pub controls: Controls,
    /// The code that it shows first.
    pub code: String,
    text: String,
    length: usize,
    events: mpsc::Receiver<Event>,
    cancel: Cancel,
    sending: Option<JoinHandle<Result<Summary, TransferError>>>,
}

struct Tell(Mutex<mpsc::Sender<Event>>);

impl Crowd {
    pub fn new(length: usize, settings: SendSettings) -> Self {
        let playground = Playground::new();
        let settings = SendSettings {
            paths: vec![playground.file("data", length, 1)],
            bind: Some("127.0.0.1:0".parse().unwrap()),
            keep: true,
            ..settings
        };
        let (sender, events) = mpsc::channel();
        let (cancel, controls) = (Cancel::new(), settings.controls.clone());
        let sending = {
            let cancel = cancel.clone();
            std::thread::spawn(move || send(&settings, &Tell(Mutex::new(sender)), &cancel))
        };
        let (text, code) = loop {
            if let Event::OfferReady { link, code, .. } = events.recv_timeout(PATIENCE).unwrap() {
                break (link.as_str().to_owned(), code.unwrap().as_str().to_owned());
            }
        };
        let link = Link::parse(&text).unwrap();
        Self { playground, link, controls, code, text, length, events, cancel, sending: Some(sending) }
    }

    pub fn receive(&self, into: &str) -> Receiving {
        self.receive_with(into, &[])
    }

    pub fn receive_with(&self, into: &str, arguments: &[&str]) -> Receiving {
        self.playground.receive(&self.text, &self.playground.dir(into), arguments)
    }

    pub fn receive_by_code(&self, code: &str, into: &str) -> Receiving {
        let at = self.link.addresses()[0].to_string();
        self.playground.receive_code(code, &at, &self.playground.dir(into), &[])
    }

    /// The code that is shown next.
    pub fn next_code(&self) -> String {
        let mut shown = None;
        self.wait_until(|event| match event {
            Event::CodeChanged { code, .. } => {
                shown = code.as_ref().map(|code| code.as_str().to_owned());
                true
            }
            _ => false,
        });
        shown.unwrap()
    }

    /// The first receiver, which gets its data so slowly that it is not done before its limit is lifted.
    pub fn receive_slowly(&self, into: &str) -> Receiving {
        self.controls.limit_all(NonZeroU64::new(1));
        let receiving = self.receive(into);
        self.wait_until(|event| matches!(event, Event::PeerConnected { session: 1, .. }));
        self.controls.limit(1, NonZeroU64::new(64 << 10));
        self.controls.limit_all(None);
        let is_limited = |event: &Event| {
            matches!(event, Event::PeerProgress { session: 1, state: PeerState::Limited, limit: Some(limit), .. }
                if limit.get() == 64 << 10)
        };
        self.wait_until(is_limited);
        receiving
    }

    /// Reads events until one is `wanted`.
    pub fn wait_until(&self, mut wanted: impl FnMut(&Event) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !wanted(&self.events.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap()) {}
    }

    pub fn lane(&self, proof: &Proof) -> Lane {
        lane_at(self.link.addresses(), proof)
    }

    pub fn assert_arrived(&self, folders: &[&str]) {
        for folder in folders {
            let path = self.playground.path(folder).join("data");
            assert!(fs::read(path).unwrap() == noise(self.length, 1), "{folder}");
        }
    }

    /// Stops it, which is no failure.
    pub fn stop(mut self) {
        self.cancel.cancel();
        self.sending.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Observer for Tell {
    fn event(&self, event: &Event) {
        // A test that has failed does not listen any more.
        let _ = self.0.lock().unwrap().send(event.clone());
    }

    fn accept(&self, _offer: &OfferSummary) -> Decision {
        Decision::Refuse
    }
}

/// A lane to whoever answers at `addresses`, which need not be the sender's own.
pub fn lane_at(addresses: &[SocketAddr], proof: &Proof) -> Lane {
    let device = DeviceKey::generate().unwrap();
    connect(&device, addresses, proof, Purpose::Control, Instant::now() + PATIENCE).unwrap()
}

pub fn link_proof(link: &Link) -> Proof {
    Proof::Link { room: link.room(), key: link.key().clone() }
}

pub fn hello(lane: &mut Lane) {
    lane.send(&[&Message::Hello { version: 1, features: 0 }.to_frame().unwrap()]).unwrap();
}

/// The next message, or nothing where the lane ends.
pub fn read(lane: &mut Lane) -> Option<Message> {
    let mut header = [0; FRAME_HEADER_BYTES];
    lane.read_exact(&mut header).ok()?;
    let FrameHeader::Message { body_bytes } = FrameHeader::decode(&header).unwrap() else { panic!("a piece") };
    let mut body = vec![0; body_bytes];
    lane.read_exact(&mut body).ok()?;
    Some(Message::decode(&body).unwrap())
}

/// Whether the next word but `Working` is that the user declined, and the last one.
pub fn turned_away(lane: &mut Lane) -> bool {
    let word = std::iter::from_fn(|| read(lane)).find(|answer| *answer != Message::Working);
    word == Some(Message::Refused { refusal: Refusal::Declined }) && read(lane).is_none()
}
