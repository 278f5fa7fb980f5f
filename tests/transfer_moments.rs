//! What the fault matrix says of killed ends and changed sources, with real processes: at a byte of the handshake, of the
//! listing and of the data, while what is there is compared, and from the first name on.

#![allow(clippy::unwrap_used)]

#[path = "support/fault_proxy.rs"]
mod fault_proxy;
#[path = "support/process.rs"]
mod process;

use fault_proxy::schedule::{Step, When};
use fault_proxy::{Fault, FaultProxy, Way, Whom};
use process::{Playground, Receiving, Sending, noise};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const MIB: u64 = 1 << 20;
const LARGE: usize = 40 << 20;
/// What was in flight when an end was killed, at most.
const TWICE_MAX: u64 = 8 * MIB;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Moment {
    Handshake,
    Listing,
    Chunks,
    Compared,
    Named,
    After,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Receiver,
    Sender,
}

/// A tree whose listing alone takes more than a hundred kilobytes, on its way through a proxy.
struct World {
    playground: Playground,
    source: PathBuf,
    into: PathBuf,
}

impl World {
    fn new() -> Self {
        let playground = Playground::new();
        let (source, into) = (playground.dir("source"), playground.dir("into"));
        for number in 0..600u64 {
            fs::write(source.join(format!("{number:0>200}")), noise(100, number)).unwrap();
        }
        fs::write(source.join("z"), noise(LARGE, 1)).unwrap();
        Self { playground, source, into }
    }

    fn send(&self) -> Sending {
        self.playground.send(&[&self.source], &[])
    }

    /// A transfer that has come to the moment, and the proxy that it goes through.
    fn at(&self, moment: Moment) -> (Sending, Receiving, FaultProxy) {
        if moment == Moment::Compared {
            fs::create_dir(self.into.join("source")).unwrap();
            fs::copy(self.source.join("z"), self.into.join("source/z")).unwrap();
        }
        let sending = self.send();
        let proxy = FaultProxy::for_link(&sending.link);
        let bytes = match moment {
            Moment::Handshake => 1000,
            Moment::Listing => 60_000,
            Moment::Chunks => 20 * MIB,
            Moment::Compared | Moment::Named | Moment::After => u64::MAX,
        };
        let fault = Fault::Hold(Way::ToReceiver);
        proxy.follow(&[Step { when: When::Passed(Way::ToReceiver, bytes), fault, lasts: None }]);
        let mut receiving = self.receive(&sending.link, &proxy);
        match moment {
            Moment::Handshake | Moment::Listing | Moment::Chunks => proxy.wait_until_steps(1),
            Moment::Compared => assert!(receiving.wait_until(|event| event["phase"] == "transferring")),
            Moment::Named => assert!(receiving.wait_until(|event| event["event"] == "file")),
            Moment::After => assert!(receiving.wait_until(|event| event["event"] == "done")),
        }
        (sending, receiving, proxy)
    }

    fn receive(&self, link: &str, proxy: &FaultProxy) -> Receiving {
        self.playground.receive(&proxy.link(link), &self.into, &["--retry-for=10m"])
    }

    fn assert_whole(&self) {
        for entry in fs::read_dir(&self.source).unwrap() {
            let name = entry.unwrap().file_name();
            let is_same =
                fs::read(self.source.join(&name)).unwrap() == fs::read(self.into.join("source").join(&name)).unwrap();
            assert!(is_same, "{}", name.display());
        }
        assert!(!self.into.join(".haul").exists());
    }
}

fn release(proxy: &FaultProxy) {
    proxy.inject(Whom::All, Fault::Release(Way::ToReceiver));
}

fn bytes(done: &Value, field: &str) -> u64 {
    done[field].as_u64().unwrap()
}

fn killed(end: End, moment: Moment) {
    let world = World::new();
    let (sending, receiving, proxy) = world.at(moment);
    let link = sending.link.clone();
    let (sending, receiving) = match end {
        End::Receiver => {
            receiving.kill();
            if matches!(moment, Moment::Handshake | Moment::Listing) {
                let left: Vec<_> = fs::read_dir(&world.into).unwrap().collect();
                assert!(left.is_empty(), "{moment:?}: nothing was accepted, and there is {left:?}");
            }
            release(&proxy);
            let sending = if moment == Moment::After {
                assert_eq!(sending.wait().0, Some(0));
                world.send()
            } else {
                sending
            };
            (sending, world.receive(&link, &proxy))
        }
        End::Sender => {
            sending.kill();
            release(&proxy);
            let again = world.send();
            assert_eq!(again.link, link);
            (again, receiving)
        }
    };
    let received = receiving.wait();
    let done = received.assert_ok();
    assert_eq!(sending.wait().0, Some(0), "{end:?} {moment:?}");
    world.assert_whole();
    let (fetched, reused, total) = (bytes(done, "bytes_fetched"), bytes(done, "bytes_reused"), bytes(done, "bytes"));
    assert!(fetched + reused <= total + TWICE_MAX, "{end:?} {moment:?}: {done}");
    match (end, moment) {
        (_, Moment::Compared) => assert!(reused >= LARGE as u64, "{done}"),
        (End::Receiver, Moment::Chunks) => assert!(reused >= 20 * MIB - TWICE_MAX, "{done}"),
        (End::Receiver, Moment::After) => assert_eq!(fetched, 0, "{done}"),
        _ => {}
    }
}

#[test]
fn a_receiver_that_is_killed_at_any_moment_is_started_again_and_completes() {
    for moment in [Moment::Handshake, Moment::Listing, Moment::Chunks, Moment::Compared, Moment::Named, Moment::After] {
        killed(End::Receiver, moment);
    }
}

#[test]
fn a_sender_that_is_killed_at_any_moment_is_started_again_and_found() {
    for moment in [Moment::Handshake, Moment::Listing, Moment::Chunks, Moment::Compared, Moment::Named] {
        killed(End::Sender, moment);
    }
}

#[test]
fn of_a_source_that_grows_or_shrinks_only_what_differs_travels_again() {
    for length in [LARGE as u64 + MIB, LARGE as u64 - 3 * MIB - 5] {
        let world = World::new();
        let (sending, receiving, proxy) = world.at(Moment::Chunks);
        fs::File::options().write(true).open(world.source.join("z")).unwrap().set_len(length).unwrap();
        release(&proxy);
        receiving.wait().assert_exit(24);
        sending.kill();
        let again = world.send();
        let done = world.receive(&again.link, &proxy).wait().assert_ok().clone();
        assert!(bytes(&done, "bytes_reused") >= 20 * MIB - TWICE_MAX, "{length}: {done}");
        assert_eq!(again.wait().0, Some(0));
        world.assert_whole();
    }
}

#[test]
fn a_folder_that_is_lost_under_way_fails_at_both_ends() {
    let world = World::new();
    fs::create_dir(world.source.join("folder")).unwrap();
    let (sending, receiving, proxy) = world.at(Moment::Chunks);
    let folder = world.into.join("source/folder");
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    release(&proxy);
    let received = receiving.wait();
    assert!(!received.status.success(), "{}", received.stderr);
    let (code, done) = sending.wait();
    assert_eq!((code, &done["ok"]), (Some(23), &false.into()), "{done}");
    assert!(done["error"].as_str().unwrap().starts_with("1 of 601 files"), "{done}");
}

#[test]
fn a_source_that_changes_while_the_listing_travels_or_later_fails_alone() {
    for moment in [Moment::Listing, Moment::Chunks] {
        let world = World::new();
        let (sending, receiving, proxy) = world.at(moment);
        fs::File::options().write(true).open(world.source.join("z")).unwrap().set_len(LARGE as u64 / 2).unwrap();
        release(&proxy);
        let received = receiving.wait();
        received.assert_exit(24);
        assert!(!world.into.join("source/z").exists(), "{moment:?}");
        let arrived = fs::read_dir(world.into.join("source")).unwrap().count();
        assert_eq!(arrived, 600, "{moment:?}: the others arrive");

        // Offered anew it arrives, and what did not change does not travel again.
        sending.kill();
        let again = world.send();
        let done = world.receive(&again.link, &proxy).wait().assert_ok().clone();
        let whole = bytes(&done, "bytes_fetched") + bytes(&done, "bytes_reused");
        assert!(whole <= bytes(&done, "bytes") + TWICE_MAX, "{done}");
        assert!(bytes(&done, "bytes_reused") >= 600 * 100, "{done}");
        assert_eq!(again.wait().0, Some(0));
        world.assert_whole();
    }
}
