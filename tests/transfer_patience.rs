//! Hosts that are there and are not: how long a receiver has patience with them.

#![allow(clippy::unwrap_used)]

#[path = "support/evil_sender.rs"]
mod evil_sender;
#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;

use evil_sender::{EvilSender, Script, file};
use haul::transport::{Lane, TransportError};
use haul::wire::{Message, WireEntry};
use process::{Playground, noise};
use proxy::{Proxy, Then};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Greets, and is gone when it is asked for anything; after that many times it answers after all.
struct Greets {
    times: Arc<AtomicU32>,
    most: u32,
}

impl Script for Greets {
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)> {
        vec![(file("data", 1000), noise(1000, 1))]
    }

    fn instead(&self, _lane: &mut Lane, request: &Message) -> Result<bool, TransportError> {
        match request {
            Message::ListingRequest { .. } if self.times.fetch_add(1, Ordering::Relaxed) < self.most => {
                Err(TransportError::Closed)
            }
            _ => Ok(false),
        }
    }
}

#[test]
fn a_host_that_greets_and_goes_again_and_again_was_never_back() {
    let playground = Playground::new();
    let times = Arc::<AtomicU32>::default();
    let host = EvilSender::start(Greets { times: Arc::clone(&times), most: 1000 });
    let began = Instant::now();
    let received = playground.receive(&host.link(), &playground.dir("into"), &["--retry-for", "3s"]).wait();
    received.assert_exit(10);
    assert!(began.elapsed() >= Duration::from_secs(3), "the user has more patience than that");
    let times = times.load(Ordering::Relaxed);
    // Each try waits for a tenth of the time that has passed, so that there are some forty of them.
    assert!((3..100).contains(&times), "it was tried {times} times");
    let reconnecting = received.events.iter().filter(|event| event["phase"] == "reconnecting");
    assert!(reconnecting.count() > 0, "{received:#?}");
}

#[test]
fn a_host_that_greets_and_goes_is_served_by_once_it_stays() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let host = EvilSender::start(Greets { times: Arc::default(), most: 5 });
    playground.receive(&host.link(), &into, &[]).wait().assert_ok();
    assert!(fs::read(into.join("data")).unwrap() == noise(1000, 1));
}

#[test]
fn somebody_else_at_the_address_of_a_lost_sender_is_given_a_while_and_then_it_is_over() {
    let playground = Playground::new();
    let data = playground.file("data", 8 << 20, 2);
    let into = playground.dir("into");
    let sending = playground.send(&[&data], &[]);
    let (link, address) = (sending.link.clone(), sending.at().to_owned());
    let proxy = Proxy::new(&link, 4 << 20, Then::Cut);
    let mut receiving = playground.receive(&proxy.link(&link), &into, &[]);
    assert!(receiving.wait_until(|event| event["phase"] == "reconnecting"));
    sending.kill();
    let neighbour = Playground::new();
    let mut other = neighbour.command("send");
    other.arg(&data).args(["--bind", &address, "--json", "--keep"]);
    let other = neighbour.start_send(other);
    assert_ne!(other.link, link);
    proxy.release();
    let received = receiving.wait();
    received.assert_exit(42);
    let tries = received.events.iter().filter_map(|event| event["attempt"].as_u64()).max().unwrap();
    assert!(tries >= 3, "{tries} tries are no patience: it may have been stopping");
    assert!(!into.join("data").exists());

    // It has the address again, and nothing that came before is lost.
    other.kill();
    let again = playground.send(&[&data], &[]);
    assert_eq!(again.link, link);
    let done = playground.receive(&link, &into, &[]).wait().assert_ok().clone();
    assert!(done["bytes_reused"].as_u64().unwrap() > 0, "{done}");
    assert_eq!(again.wait().0, Some(0));
}
