//! Whoever floods the local network with claims, or lies in them, neither fills memory nor hides the true host.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/mdns_packets.rs"]
mod mdns_packets;
#[path = "support/netns.rs"]
mod netns;

use haul::limits::FOUND_HOSTS_MAX;
use haul::transport::{Announcement, Finder, FoundHost};
use mdns_packets::{Claim, say, speaker};
use netns::{Cable, may_make_networks};
use peak_alloc::PeakAlloc;
use std::time::{Duration, Instant};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Far longer than anything here takes: reached only where it would never happen.
const PATIENCE: Duration = Duration::from_secs(100);
const LIAR: usize = 0;
const RECEIVER: usize = 1;

fn cable() -> Cable {
    Cable::new(["10.78.0.1/24", "10.78.0.2/24"])
}

fn is_true(host: &FoundHost) -> bool {
    host.number == Some(7) && host.addresses == ["10.78.0.1:4285".parse().unwrap()]
}

#[test]
fn row_76_a_flood_of_instances_is_a_short_list_and_the_true_host_is_found_afterwards() {
    if !may_make_networks() {
        return;
    }
    let cable = cable();
    let finder = cable.on(RECEIVER, || Finder::new().unwrap());
    let began = Instant::now();
    let before = MEMORY.current_usage_as_mb();
    MEMORY.reset_peak_usage();
    let (mut sent, mut longest) = (0u32, 0);
    cable.on(LIAR, || {
        let socket = speaker([10, 78, 0, 1].into());
        // What does not fit a socket's buffer is lost, so it goes on until the list is as long as it gets.
        while sent < 200_000 || (longest < FOUND_HOSTS_MAX && began.elapsed() < PATIENCE) {
            let [_, high, middle, low] = sent.to_be_bytes();
            let claim = Claim::honest(&format!("flood-{sent}"), 7, [10, 100 + high, middle, low]);
            say(&socket, &claim.packet());
            sent += 1;
            if sent.is_multiple_of(100) {
                longest = longest.max(finder.hosts().len());
            }
        }
    });
    assert_eq!(longest, FOUND_HOSTS_MAX, "after {sent} claims");
    let announcement = cable.on(LIAR, || Announcement::new(4285, Some(7)).unwrap());
    finder.ask_again();
    let hosts = finder.wait(Instant::now() + PATIENCE, is_true);
    assert!(hosts.iter().any(is_true), "the true host is not among {} after {sent} claims", hosts.len());
    assert!(hosts.len() <= FOUND_HOSTS_MAX);
    let peak = MEMORY.peak_usage_as_mb() - before;
    eprintln!("{sent} claims in {:?}, {peak:.1} MB at most", began.elapsed());
    assert!(peak < 64.0, "{peak} MB for a list of {FOUND_HOSTS_MAX}");
    drop(announcement);
}

#[test]
fn row_75_lies_are_not_listed() {
    if !may_make_networks() {
        return;
    }
    let cable = cable();
    let finder = cable.on(RECEIVER, || Finder::new().unwrap());
    let with = |instance: &str, change: &dyn Fn(&mut Claim)| {
        let mut claim = Claim::honest(instance, 7, [10, 78, 0, 3]);
        change(&mut claim);
        claim.packet()
    };
    let entry = |length: usize| [&b"n="[..], &vec![b'7'; length - 2]].concat();
    let lies = [
        with("other-key", &|claim| claim.text = vec![b"name=7".to_vec()]),
        with("one-more-key", &|claim| claim.text.push(b"host=laptop".to_vec())),
        with("no-number", &|claim| claim.text = vec![b"n".to_vec()]),
        with("long-number", &|claim| claim.text = vec![entry(255)]),
        with("text-of-8-kilobytes", &|claim| claim.text = vec![entry(255); 32]),
        with("text-of-60-kilobytes", &|claim| claim.text = vec![entry(255); 234]),
        with("port-0", &|claim| claim.port = 0),
        with("to-yourself", &|claim| claim.address = [127, 0, 0, 1].into()),
        with("to-nobody", &|claim| claim.address = [0, 0, 0, 0].into()),
        with("to-all", &|claim| claim.address = [255, 255, 255, 255].into()),
        with("to-a-group", &|claim| claim.address = [224, 0, 0, 251].into()),
        b"\0\0\x84\0\0\0\xff\xff\0\0\0\0".to_vec(),
        vec![0xff; 1400],
    ];
    let truth = Claim::honest("true", 7, [10, 78, 0, 1]).packet();
    let hosts = cable.on(LIAR, || {
        let socket = speaker([10, 78, 0, 1].into());
        let until = Instant::now() + PATIENCE;
        loop {
            for packet in &lies {
                say(&socket, packet);
            }
            // Last, so that everything before it has been looked at once it is there.
            say(&socket, &truth);
            let hosts = finder.wait(Instant::now() + Duration::from_millis(200), is_true);
            if hosts.iter().any(is_true) || Instant::now() > until {
                break hosts;
            }
        }
    });
    let [host] = &hosts[..] else { panic!("{hosts:?}") };
    assert!(is_true(host), "{host:?}");
}
