//! Cells of the fault matrix in which a thread of a session panics: that session ends as a bug and keeps what it has,
//! no thread waits for ever, and the host's other sessions go on.
//!
//! Names and moments are those of `fault_transfers.rs`. An observer is its user's code, so it may panic, on whatever
//! thread of a receiver it is called; what panics on a thread of a host is the gatekeeper of a listener.
#![allow(clippy::unwrap_used)]

#[path = "support/fault_proxy.rs"]
mod fault_proxy;
#[path = "support/process.rs"]
mod process;
mod transport_support;

use fault_proxy::schedule::{Step, When};
use fault_proxy::{Fault, FaultProxy, Way, Whom};
use haul::secret::{Key, Room, SessionId, SessionSecret};
use haul::transfer::{
    Cancel, Conflict, Decision, Event, Observer, OfferSummary, Phase, ReceiveSettings, Summary, TransferError, receive,
};
use haul::transport::{DeviceKey, Gatekeeper, Lane, LaneIntro, Listener, ListenerEvent};
use process::{Playground, Sending, noise};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use transport_support::{KEY_BYTES, PATIENCE, ROOM, join, link_proof};

const MIB: u64 = 1 << 20;

#[test]
fn fault_panic_in_a_session_handshake() {
    // A receiver that cannot reach its host yet.
    let world = World::new();
    let gone = world.playground.send(&[&world.source], &["--keep"]);
    let link = gone.link.clone();
    gone.kill();
    let waiting = world.receive(&link, |event| matches!(event, Event::Phase(Phase::Reconnecting { .. })));
    assert_bug(&waiting);
    // A host whose user of lanes, or keeper of secrets, panics once: the next one is let in.
    for panics_in in ["admit", "link_key"] {
        let (lanes, admitted) = mpsc::channel();
        let gate = Gate { panics_in, has_panicked: AtomicBool::new(false), lanes: lanes.into() };
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(address, DeviceKey::generate().unwrap(), Arc::new(gate)).unwrap();
        // Its lane breaks, before or after its proof.
        if let Ok(mut lane) = join(listener.address(), &link_proof()) {
            assert!(lane.read_exact(&mut [0]).is_err());
        }
        let _lane = join(listener.address(), &link_proof()).unwrap();
        admitted.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn fault_panic_in_a_session_manifest() {
    let world = World::new();
    let sending = world.send();
    // While the user is asked.
    let settings = world.settings(&sending.link, "into");
    assert_bug(&receive(&settings, &PanicsWhenAsked, &Cancel::new()));
    world.others_go_on(sending);
}

#[test]
fn fault_panic_in_a_session_chunks() {
    let world = World::new();
    let sending = world.send();
    // The main thread, while chunks land on others.
    let proxy = FaultProxy::for_link(&sending.link);
    let hold = Step { when: When::Passed(Way::ToReceiver, 20 * MIB), fault: Fault::Hold(Way::ToReceiver), lasts: None };
    proxy.follow(&[hold]);
    let outcome = world.receive(
        &proxy.link(&sending.link),
        |event| matches!(event, Event::Progress(progress) if progress.bytes_done > 0),
    );
    assert_bug(&outcome);
    proxy.inject(Whom::All, Fault::Release(Way::ToReceiver));
    // A lane's thread, which holds the session's lock: the source changed, and the lane is told.
    fs::write(world.source.join("b changed"), noise(500_000, 9)).unwrap();
    let panics = Panics { when: |event: &Event| matches!(event, Event::FileFailed { .. }) };
    assert_bug(&receive(&world.settings(&sending.link, "another"), &panics, &Cancel::new()));
    fs::write(world.source.join("b changed"), noise(500_000, 2)).unwrap();
    let reused = world.others_go_on(sending).bytes_reused;
    assert!(reused > 0, "what the one that panicked had verified is kept");
}

#[test]
fn fault_panic_in_a_session_verify() {
    // A thread of the desk, which finds a file identical.
    let world = World::new();
    let sending = world.send();
    fs::create_dir_all(world.playground.path("into/source")).unwrap();
    fs::copy(world.source.join("z"), world.playground.path("into/source/z")).unwrap();
    let outcome =
        world.receive(&sending.link, |event| matches!(event, Event::FileDone { path, .. } if path == "source/z"));
    assert_bug(&outcome);
    world.others_go_on(sending);
}

#[test]
fn fault_panic_in_a_session_rename() {
    // The publisher, right after a name.
    let world = World::new();
    let sending = world.send();
    let outcome = world.receive(&sending.link, |event| matches!(event, Event::FileDone { .. }));
    assert_bug(&outcome);
    world.others_go_on(sending);
}

#[test]
fn an_observer_of_an_offer_that_panics_ends_it_as_a_bug() {
    let playground = Playground::new();
    let settings = haul::transfer::SendSettings {
        paths: vec![playground.file("data", 1000, 1)],
        bind: Some("127.0.0.1:0".parse().unwrap()),
        ..haul::transfer::SendSettings::default()
    };
    for phase in [Phase::Scanning, Phase::Waiting] {
        let observer = Panics { when: move |event: &Event| matches!(event, Event::Phase(now) if *now == phase) };
        assert_bug(&haul::transfer::send(&settings, &observer, &Cancel::new()));
    }
}

fn assert_bug(outcome: &Result<Summary, TransferError>) {
    match outcome {
        Err(error @ TransferError::Bug(_)) => assert!(error.source().unwrap().to_string().contains("on purpose")),
        other => panic!("{other:?}"),
    }
}

/// Files to send, and folders to receive into.
struct World {
    playground: Playground,
    source: std::path::PathBuf,
}

impl World {
    fn new() -> Self {
        let playground = Playground::new();
        let source = playground.dir("source");
        fs::write(source.join("a small"), noise(1000, 1)).unwrap();
        fs::write(source.join("b changed"), noise(500_000, 2)).unwrap();
        fs::write(source.join("z"), noise(40 << 20, 3)).unwrap();
        Self { playground, source }
    }

    fn send(&self) -> Sending {
        self.playground.send(&[&self.source], &["--keep"])
    }

    fn settings(&self, link: &str, into: &str) -> ReceiveSettings {
        ReceiveSettings {
            invitation: link.to_owned().into(),
            at: Vec::new(),
            into: self.playground.dir(into),
            conflict: Conflict::Overwrite,
            read_back: false,
            lanes: None,
            retry_for: Some(PATIENCE),
            wait_for_host: true,
            allow_hidden: false,
            state_dir: None,
            resuming: None,
            expect: None,
            symlinks: false,
            attributes: false,
            compress: haul::codec::Compression::Auto,
            dry_run: false,
            out: None,
            throttle: haul::transfer::Throttle::default(),
        }
    }

    /// Receives with an observer that panics at the events that `when` names.
    fn receive(&self, link: &str, when: impl Fn(&Event) -> bool + Send + Sync) -> Result<Summary, TransferError> {
        receive(&self.settings(link, "into"), &Panics { when }, &Cancel::new())
    }

    /// The same host serves another receiver, and then, started on what is there, the one that panicked.
    fn others_go_on(&self, sending: Sending) -> Summary {
        let into = self.playground.dir("other");
        let other = self.playground.receive(&sending.link, &into, &[]).wait();
        // A source that was changed meanwhile is another matter.
        assert!(other.done()["bytes_fetched"].as_u64().unwrap() >= 40 << 20, "{other:?}");
        sending.kill();
        let sending = self.send();
        let summary = self.receive(&sending.link, |_| false).unwrap();
        assert_same(&self.source, &self.playground.path("into/source"));
        sending.kill();
        summary
    }
}

fn assert_same(one: &Path, other: &Path) {
    for entry in fs::read_dir(one).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fs::read(one.join(&name)).unwrap() == fs::read(other.join(&name)).unwrap(), "{}", name.display());
    }
}

/// Panics at every event that it is to panic at.
struct Panics<F> {
    when: F,
}

impl<F: Fn(&Event) -> bool + Send + Sync> Observer for Panics<F> {
    fn event(&self, event: &Event) {
        assert!(!(self.when)(event), "on purpose");
    }

    fn accept(&self, _offer: &OfferSummary) -> Decision {
        Decision::Accept
    }
}

struct PanicsWhenAsked;

impl Observer for PanicsWhenAsked {
    fn event(&self, _event: &Event) {}

    fn accept(&self, _offer: &OfferSummary) -> Decision {
        panic!("on purpose");
    }
}

/// Panics in one of its methods, once.
struct Gate {
    panics_in: &'static str,
    has_panicked: AtomicBool,
    lanes: std::sync::Mutex<mpsc::Sender<(Lane, LaneIntro)>>,
}

impl Gate {
    fn enter(&self, method: &str) {
        let is_due = method == self.panics_in && !self.has_panicked.swap(true, Ordering::SeqCst);
        assert!(!is_due, "on purpose");
    }
}

impl Gatekeeper for Gate {
    fn link_key(&self, room: Room) -> Option<Key> {
        self.enter("link_key");
        (room == ROOM).then(|| Key::from_bytes(KEY_BYTES))
    }

    fn session_secret(&self, _id: SessionId) -> Option<SessionSecret> {
        None
    }

    fn admit(&self, lane: Lane, intro: LaneIntro) {
        self.enter("admit");
        self.lanes.lock().unwrap().send((lane, intro)).unwrap();
    }

    fn observe(&self, _event: ListenerEvent) {}
}
