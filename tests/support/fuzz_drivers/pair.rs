//! Both sessions, a network, the real store and a disk that fails: choices by the fuzzer, and everything must arrive.

#![allow(dead_code, clippy::cast_precision_loss, reason = "the simulation of `tests/pair_sim.rs`")]

#[path = "../sim_core.rs"]
mod sim_core;
#[path = "../sim_net.rs"]
mod sim_net;
#[path = "../sim_older.rs"]
mod sim_older;
#[path = "../sim_pair.rs"]
mod sim_pair;
#[path = "../sim_push.rs"]
mod sim_push;
#[path = "../sim_receiver.rs"]
mod sim_receiver;
#[path = "../sim_receiver_disk.rs"]
mod sim_receiver_disk;
#[path = "../sim_receiver_lanes.rs"]
mod sim_receiver_lanes;
#[path = "../sim_rng.rs"]
mod sim_rng;
#[path = "../sim_sender.rs"]
mod sim_sender;
#[path = "../sim_shelf.rs"]
mod sim_shelf;
#[path = "../sim_source.rs"]
mod sim_source;
#[path = "../sim_store.rs"]
mod sim_store;
#[path = "../sim_watch.rs"]
mod sim_watch;

use super::sim_disk;
use sim_rng::Rng;
use sim_store::StoreShelf;

/// A transfer whose files, network and faults are what the bytes choose, and after them a seed made of the bytes.
pub(super) fn pair_sim(bytes: &[u8]) {
    let run = if super::is_pushed(bytes) { sim_pair::run_pushed } else { sim_pair::run };
    let rng = Rng::scripted(bytes).with_text(super::has_text(bytes)).with_older(super::has_older(bytes));
    if let Err(violation) = run(rng, StoreShelf::default()) {
        panic!("{violation}");
    }
}
