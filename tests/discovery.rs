//! Hosts that announce themselves on one machine are found on another one, with real multicast between two networks.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/netns.rs"]
mod netns;

use haul::transport::{Announcement, Finder, FoundHost};
use netns::{Cable, may_make_networks};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Far longer than anything here takes: reached only where it would never happen.
const PATIENCE: Duration = Duration::from_secs(60);

const SENDER: usize = 0;
const RECEIVER: usize = 1;

fn cable() -> Cable {
    Cable::new(["10.77.0.1/24", "10.77.0.2/24"])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The first host for which `is_wanted` holds, however long it takes.
fn wait_for(finder: &Finder, is_wanted: impl Fn(&FoundHost) -> bool) -> FoundHost {
    let hosts = finder.wait(Instant::now() + PATIENCE, &is_wanted);
    hosts.iter().find(|host| is_wanted(host)).unwrap_or_else(|| panic!("not found among {hosts:?}")).clone()
}

#[test]
fn a_host_is_found_by_its_number_and_again_when_its_address_changes() {
    if !may_make_networks() {
        return;
    }
    let cable = cable();
    let announcement = cable.on(SENDER, || Announcement::new(4285, Some(7)).unwrap());
    let finder = cable.on(RECEIVER, || Finder::new().unwrap());
    let host = wait_for(&finder, |host| host.number == Some(7));
    assert_eq!((host.port, host.addresses.as_slice()), (4285, &[address("10.77.0.1:4285")][..]));

    cable.configure(SENDER, &["address", "delete", "10.77.0.1/24", "dev", "cable"]);
    cable.configure(SENDER, &["address", "add", "10.77.0.9/24", "dev", "cable"]);
    let moved = Instant::now();
    let host = wait_for(&finder, |host| host.addresses.contains(&address("10.77.0.9:4285")));
    let took = moved.elapsed();
    assert!(took < Duration::from_secs(10), "a moved host was found only after {took:?}");
    assert_eq!(host.number, Some(7));
    eprintln!("found again after {took:?}");
    drop(announcement);
}
