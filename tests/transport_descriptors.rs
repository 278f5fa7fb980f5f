//! A host without a free descriptor waits for one. Alone in its file: it lowers a limit of the whole process.
#![cfg(target_os = "linux")]

mod transport_support;

use haul::transport::ListenerEvent;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use transport_support::{Host, read_to_end};

#[test]
fn a_host_out_of_descriptors_backs_off_and_goes_on() {
    let host = Host::start();
    let highest = std::fs::read_dir("/proc/self/fd").unwrap();
    let highest = highest.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<u64>().unwrap());
    let limit = Rlimit { current: Some(highest.max().unwrap() + 2), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.pop().unwrap();
    let mut stranger = TcpStream::connect(host.address()).unwrap();

    assert_eq!(host.event(), ListenerEvent::OutOfResources);
    let first = Instant::now();
    for _ in 0..3 {
        assert_eq!(host.event(), ListenerEvent::OutOfResources);
    }
    // It does not spin: three further attempts take three pauses, less the time that the first event was under way.
    assert!(first.elapsed() >= Duration::from_millis(200));

    drop(taken);
    stranger.write_all(b"x").unwrap();
    assert_eq!(read_to_end(&mut stranger), b"");
    let peer = stranger.local_addr().unwrap();
    let event = std::iter::repeat_with(|| host.event()).find(|event| *event != ListenerEvent::OutOfResources);
    assert_eq!(event, Some(ListenerEvent::NotHaul { peer }));
}
