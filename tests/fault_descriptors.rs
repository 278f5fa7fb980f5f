//! The cell of the fault matrix in which a host has no descriptor left for who connects. Alone in its file: it lowers a
//! limit of the whole process.
#![cfg(target_os = "linux")]

mod transport_support;

use haul::transport::ListenerEvent;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use transport_support::{Host, PATIENCE};

#[test]
fn fault_descriptors_run_out_handshake() {
    let host = Host::start();
    let (mut joiner, mut hosted) = host.pair();
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let highest = open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<u64>().unwrap()).max().unwrap();
    let usual = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(highest + 2), ..usual }).unwrap();
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.pop().unwrap();
    let stranger = TcpStream::connect(host.address()).unwrap();
    assert_eq!(host.event(), ListenerEvent::OutOfResources);
    let first = Instant::now();
    (0..3).for_each(|_| assert_eq!(host.event(), ListenerEvent::OutOfResources));
    assert!(first.elapsed() >= Duration::from_millis(200), "it waits between its tries");
    // A lane that is there goes on.
    hosted.send(&[b"still here"]).unwrap();
    joiner.read_exact(&mut [0; 10]).unwrap();
    drop((taken, stranger));
    setrlimit(Resource::Nofile, usual).unwrap();
    // And the next one is let in.
    let _joiner = transport_support::join(host.address(), &transport_support::link_proof()).unwrap();
    host.lanes.recv_timeout(PATIENCE).unwrap();
}
