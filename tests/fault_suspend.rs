//! Cells of the fault matrix in which one end is stopped for a while and goes on, as a laptop that sleeps does.
//!
//! Names and moments are those of `fault_transfers.rs`. How long an end is stopped is the fault itself: longer than
//! silence may last on the other end before it tries another connection, and longer than a process may have been away
//! without connecting anew.
#![allow(clippy::unwrap_used)]

#[path = "support/fault_proxy.rs"]
mod fault_proxy;
#[path = "support/process.rs"]
mod process;

use fault_proxy::schedule::{Step, When};
use fault_proxy::{Fault, FaultProxy, Way};
use process::{Playground, Receiving, Sending, noise, signal};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Longer than a process is away unnoticed.
const AWAY: Duration = Duration::from_millis(5500);
/// More than goes to the receiver before it is let in.
const HANDSHAKE_BYTES_MAX: u64 = 5000;

/// Which end is stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Receiver,
    Sender,
}

#[test]
fn fault_suspend_handshake() {
    // Some bytes of TLS have come, and no proof.
    at_a_byte(1000, 5, 3 << 20);
}

#[test]
fn fault_suspend_manifest() {
    // The listing alone is longer than that.
    at_a_byte(60_000, 600, 3 << 20);
}

#[test]
fn fault_suspend_chunks() {
    at_a_byte(20 * MIB, 5, 40 << 20);
}

#[test]
fn fault_suspend_verify() {
    // What is there already is compared, and what is not is fetched.
    both_ends(|end| {
        let world = World::new(5, 40 << 20);
        fs::create_dir(world.into.join("source")).unwrap();
        fs::copy(world.source.join("z"), world.into.join("source/z")).unwrap();
        let (sending, mut receiving) = world.start();
        assert!(receiving.wait_until(|event| event["phase"] == "transferring"));
        suspend(end, &sending, &receiving, || thread::sleep(AWAY));
        let done = world.finish(sending, receiving);
        assert!(done["bytes_reused"].as_u64().unwrap() >= 40 << 20, "{done}");
    });
}

#[test]
fn fault_suspend_rename() {
    both_ends(|end| {
        let world = World::new(300, 3 << 20);
        let (sending, mut receiving) = world.start();
        assert!(receiving.wait_until(|event| event["event"] == "file"));
        suspend(end, &sending, &receiving, || thread::sleep(AWAY));
        world.finish(sending, receiving);
    });
}

/// Stops either end once `bytes` went to the receiver, for longer than it may be away unnoticed.
fn at_a_byte(bytes: u64, files: usize, large_bytes: usize) {
    both_ends(|end| {
        let world = World::new(files, large_bytes);
        let (sending, receiving) = world.start_held(bytes);
        let connections = world.proxy().connections();
        let is_let_in = bytes > HANDSHAKE_BYTES_MAX;
        suspend(end, &sending, &receiving, || {
            world.release();
            if end == End::Sender && is_let_in {
                // The receiver tries beside the silent one.
                world.proxy().wait_until_connections(connections + 1);
            } else {
                thread::sleep(AWAY);
            }
        });
        if end == End::Receiver && is_let_in {
            // It does not wait to learn what the other end made of it.
            world.proxy().wait_until_connections(connections + 1);
        }
        world.finish(sending, receiving);
    });
}

fn both_ends(cell: impl Fn(End) + Sync) {
    thread::scope(|scope| {
        let receiver = scope.spawn(|| cell(End::Receiver));
        cell(End::Sender);
        receiver.join().unwrap();
    });
}

fn suspend(end: End, sending: &Sending, receiving: &Receiving, away: impl FnOnce()) {
    let id = match end {
        End::Receiver => receiving.id(),
        End::Sender => sending.id(),
    };
    signal(id, Signal::STOP);
    away();
    signal(id, Signal::CONT);
}

/// Small files and a large one, on their way through a proxy.
struct World {
    playground: Playground,
    source: PathBuf,
    into: PathBuf,
    proxy: std::sync::OnceLock<FaultProxy>,
}

impl World {
    fn new(files: usize, large_bytes: usize) -> Self {
        let playground = Playground::new();
        let (source, into) = (playground.dir("source"), playground.dir("into"));
        for number in 0..files {
            fs::write(source.join(format!("{number:0>200}")), noise(100, number as u64)).unwrap();
        }
        fs::write(source.join("z"), noise(large_bytes, 1)).unwrap();
        Self { playground, source, into, proxy: std::sync::OnceLock::new() }
    }

    fn start(&self) -> (Sending, Receiving) {
        let sending = self.playground.send(&[&self.source], &[]);
        let proxy = self.proxy.get_or_init(|| FaultProxy::for_link(&sending.link));
        let receiving = self.playground.receive(&proxy.link(&sending.link), &self.into, &["--retry-for=10m"]);
        (sending, receiving)
    }

    /// The same, until exactly so many bytes went to the receiver; nothing goes on until the release.
    fn start_held(&self, bytes: u64) -> (Sending, Receiving) {
        let sending = self.playground.send(&[&self.source], &[]);
        let proxy = self.proxy.get_or_init(|| FaultProxy::for_link(&sending.link));
        let fault = Fault::Hold(Way::ToReceiver);
        proxy.follow(&[Step { when: When::Passed(Way::ToReceiver, bytes), fault, lasts: None }]);
        let receiving = self.playground.receive(&proxy.link(&sending.link), &self.into, &["--retry-for=10m"]);
        proxy.wait_until_steps(1);
        (sending, receiving)
    }

    fn release(&self) {
        self.proxy().inject(fault_proxy::Whom::All, Fault::Release(Way::ToReceiver));
    }

    fn proxy(&self) -> &FaultProxy {
        self.proxy.get().unwrap()
    }

    /// Both ends complete it, and little was carried twice.
    fn finish(&self, sending: Sending, receiving: Receiving) -> serde_json::Value {
        let received = receiving.wait();
        let done = received.assert_ok().clone();
        let carried = done["bytes_fetched"].as_u64().unwrap() + done["bytes_reused"].as_u64().unwrap();
        let total = done["bytes"].as_u64().unwrap();
        assert!(carried <= total + 4 * MIB, "{} bytes were carried twice", carried - total);
        assert_same(&self.source, &self.into.join("source"));
        assert_eq!(sending.wait().0, Some(0));
        done
    }
}

fn assert_same(one: &Path, other: &Path) {
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(one), names(other));
    for name in names(one) {
        assert!(fs::read(one.join(&name)).unwrap() == fs::read(other.join(&name)).unwrap(), "{}", name.display());
    }
}
