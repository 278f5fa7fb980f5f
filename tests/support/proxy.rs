//! A TCP proxy between a receiver and its sender that can be told when to stop passing bytes on.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A proxy for one sender. Its threads end with the process of the test.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What happens once the budget of bytes towards the receiver is used up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// Every connection is closed, until the proxy is told to let them be.
    Cut,
    /// Bytes are held back until the proxy is told to release them.
    Stall,
}

struct Shared {
    target: SocketAddr,
    budget: u64,
    then: Then,
    passed: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reached: bool,
    released: bool,
}

impl Proxy {
    /// A proxy for the sender behind `link` that passes on `budget` bytes in all towards the receiver.
    pub fn new(link: &str, budget: u64, then: Then) -> Self {
        let target = address_of(link).parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            budget,
            then,
            passed: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for inbound in listener.incoming() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || shared.serve(inbound.unwrap()));
            }
        });
        Self { address, shared }
    }

    /// The link, with this proxy in its sender's place.
    pub fn link(&self, link: &str) -> String {
        link.replace(address_of(link), &self.address.to_string())
    }

    /// Where this proxy stands for its sender.
    pub fn at(&self) -> String {
        self.address.to_string()
    }

    /// Waits until the budget is used up.
    pub fn wait_until_reached(&self) {
        let state = self.shared.state.lock().unwrap();
        drop(self.shared.changed.wait_while(state, |state| !state.reached).unwrap());
    }

    /// Passes on what was held back, and everything after it.
    pub fn release(&self) {
        self.shared.state.lock().unwrap().released = true;
        self.shared.changed.notify_all();
    }

    /// Bytes passed on towards the receiver.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve(self: Arc<Self>, inbound: TcpStream) {
        let Ok(outbound) = TcpStream::connect(self.target) else { return };
        let (to_sender, from_receiver) = (outbound.try_clone().unwrap(), inbound.try_clone().unwrap());
        thread::spawn(move || pass(from_receiver, to_sender, |_| true));
        let shared = Arc::clone(&self);
        pass(outbound, inbound, |bytes| shared.spend(bytes));
    }

    /// Whether `bytes` may still pass.
    fn spend(&self, bytes: u64) -> bool {
        if self.passed.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.budget {
            return true;
        }
        let mut state = self.state.lock().unwrap();
        state.reached = true;
        self.changed.notify_all();
        if self.then == Then::Cut {
            return state.released;
        }
        drop(self.changed.wait_while(state, |state| !state.released).unwrap());
        true
    }
}

/// Passes bytes on until one side ends or `may_pass` says no, then closes both.
fn pass(mut from: TcpStream, mut to: TcpStream, may_pass: impl Fn(u64) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !may_pass(read as u64) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn address_of(link: &str) -> &str {
    link.split("//").nth(1).unwrap().split('/').next().unwrap()
}
