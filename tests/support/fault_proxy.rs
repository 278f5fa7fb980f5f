//! A TCP proxy that does to connections what bad networks do, when it is told to and not otherwise.
//!
//! The receiver is who connects, the sender is who listens behind the proxy. What was not passed on at a fault that
//! ends a connection is lost; everything else arrives, in order and unchanged.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]

#[path = "fault_pipe.rs"]
mod pipe;
#[path = "fault_schedule.rs"]
pub mod schedule;

use pipe::{Connection, Ended, Next, Rules};
use schedule::{Step, When};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything that a test waits for here; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy for one sender. Its threads end with the process of the test.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    ToReceiver,
    ToSender,
}

/// Which connections a fault is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whom {
    /// Every one. What lasts (`Delay`, `Hold`, `Throttle`) is also for those to come.
    All,
    /// One, counted from 0 in the order of their arrival.
    Only(usize),
}

/// What may be done to connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Ends `Refuse`.
    Accept,
    /// Passes nothing on any more, and closes in order towards both ends.
    Close,
    /// Keeps every byte back for a while. The order of bytes stays.
    Delay(Way, Duration),
    /// Flips these bits of the next byte.
    Flip(Way, u8),
    /// Passes nothing on any more in one direction, and closes it in order; the other goes on.
    HalfClose(Way),
    /// Passes nothing on in one direction, its end included, and closes nothing. A connection that arrives while
    /// nothing goes to the sender is accepted, and the sender does not learn of it.
    Hold(Way),
    /// Refuses new connections, for everyone.
    Refuse,
    /// Ends `Hold`: passes on what was kept back, and everything after it.
    Release(Way),
    /// Resets towards both ends.
    Reset,
    /// Passes on at most so many bytes a second.
    Throttle(Way, Option<u64>),
}

struct Shared {
    target: SocketAddr,
    listener: TcpListener,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    refuses: bool,
    /// What connections start with, by direction.
    rules: [Rules; 2],
    connections: Vec<Connection>,
    /// Faults at a byte of a connection, for connections to come.
    planned: Vec<(Whom, Way, u64, Fault)>,
    /// Bytes passed on in all, by direction.
    passed: [u64; 2],
    /// Steps at a count of bytes passed on in all.
    at_totals: Vec<(Way, u64, Fault, Option<Duration>)>,
    timers: Vec<(Instant, Fault, Timed)>,
    /// Steps of schedules that were carried out.
    steps: usize,
}

/// What a timer is for.
#[derive(Clone, Copy)]
enum Timed {
    /// The end of a fault that lasted.
    End,
    /// A step, with how long its fault lasts.
    Step(Option<Duration>),
}

impl FaultProxy {
    /// A proxy on loopback.
    pub fn new(target: SocketAddr) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), target)
    }

    /// A proxy that listens on `own`, in the network of the calling thread.
    pub fn at(own: SocketAddr, target: SocketAddr) -> Self {
        let listener = listener(own);
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { target, listener, state: Mutex::default(), changed: Condvar::new() });
        let (accepting, timing) = (Arc::clone(&shared), Arc::clone(&shared));
        thread::spawn(move || accepting.accept());
        thread::spawn(move || timing.keep_time());
        Self { address, shared }
    }

    /// A proxy for the sender behind `link`.
    pub fn for_link(link: &str) -> Self {
        Self::new(address_of(link).parse().unwrap())
    }

    /// The link, with this proxy in its sender's place.
    pub fn link(&self, link: &str) -> String {
        link.replace(address_of(link), &self.address.to_string())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does `fault` at once.
    pub fn inject(&self, whom: Whom, fault: Fault) {
        self.shared.lock().apply(&self.shared, whom, fault);
        self.shared.changed.notify_all();
    }

    /// Does `fault` to each connection once exactly `bytes` of it went `way`. One that is past that stays unharmed.
    pub fn inject_after(&self, whom: Whom, way: Way, bytes: u64, fault: Fault) {
        let mut state = self.shared.lock();
        for (number, connection) in state.connections.iter_mut().enumerate() {
            let pipe = &mut connection.pipes[way as usize];
            if whom.includes(number) && pipe.taken <= bytes {
                pipe.triggers.push((bytes, fault));
            }
        }
        state.planned.push((whom, way, bytes, fault));
        self.shared.changed.notify_all();
    }

    /// Carries out `steps`, for all connections; bytes and time count from here, and bytes of all connections together.
    pub fn follow(&self, steps: &[Step]) {
        let mut state = self.shared.lock();
        for step in steps {
            match step.when {
                When::Elapsed(time) => {
                    state.timers.push((Instant::now() + time, step.fault, Timed::Step(step.lasts)));
                }
                When::Passed(way, bytes) => {
                    let at = state.passed[way as usize] + bytes;
                    state.at_totals.push((way, at, step.fault, step.lasts));
                }
            }
        }
        self.shared.changed.notify_all();
    }

    /// Bytes passed on in all connections together.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.lock().passed[way as usize]
    }

    /// Bytes passed on in one connection.
    pub fn passed_on(&self, number: usize, way: Way) -> u64 {
        self.shared.lock().connections[number].pipes[way as usize].passed
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// Waits until so many bytes were passed on in all.
    pub fn wait_until_passed(&self, way: Way, bytes: u64) {
        self.wait(|state| state.passed[way as usize] >= bytes);
    }

    /// Waits until bytes wait in one connection that may not pass.
    pub fn wait_until_kept_back(&self, number: usize, way: Way, bytes: usize) {
        self.wait(|state| state.connections.get(number).is_some_and(|one| one.pipes[way as usize].queued() >= bytes));
    }

    /// Waits until so many connections were accepted.
    pub fn wait_until_connections(&self, count: usize) {
        self.wait(|state| state.connections.len() >= count);
    }

    /// Waits until neither direction of a connection passes anything on any more.
    pub fn wait_until_over(&self, number: usize) {
        self.wait(|state| state.connections.get(number).is_some_and(Connection::is_over));
    }

    /// Waits until so many steps of schedules were carried out; the end of one that lasts is none.
    pub fn wait_until_steps(&self, count: usize) {
        self.wait(|state| state.steps >= count);
    }

    fn wait(&self, is_reached: impl Fn(&State) -> bool) {
        let state = self.shared.lock();
        let (state, waited) =
            self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !is_reached(state)).unwrap();
        let (passed, connections, steps) = (state.passed, state.connections.len(), state.steps);
        drop(state);
        assert!(!waited.timed_out(), "waited in vain: passed {passed:?}, {connections} connections, {steps} steps");
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn accept(self: Arc<Self>) {
        loop {
            // A listener that was shut down cannot accept.
            let Ok((inbound, _)) = self.listener.accept() else {
                drop(self.changed.wait_while(self.lock(), |state| state.refuses).unwrap());
                continue;
            };
            inbound.set_nodelay(true).unwrap();
            let number = self.lock().admit(inbound);
            self.changed.notify_all();
            let shared = Arc::clone(&self);
            thread::spawn(move || shared.serve(number));
        }
    }

    /// Connects on to the sender as soon as something may go there, and moves bytes.
    fn serve(self: Arc<Self>, number: usize) {
        let is_waiting = |state: &mut State| {
            let to_sender = &state.connections[number].pipes[Way::ToSender as usize];
            to_sender.rules.held && !to_sender.closed
        };
        let state = self.changed.wait_while(self.lock(), is_waiting).unwrap();
        if state.connections[number].is_over() {
            return;
        }
        drop(state);
        let outbound = TcpStream::connect(self.target);
        let mut state = self.lock();
        let connection = &mut state.connections[number];
        let Ok(outbound) = outbound else {
            connection.reset();
            self.changed.notify_all();
            return;
        };
        outbound.set_nodelay(true).unwrap();
        connection.connect(outbound);
        for way in [Way::ToReceiver, Way::ToSender] {
            let (from, to) = connection.sockets(way);
            let (reading, writing) = (Arc::clone(&self), Arc::clone(&self));
            thread::spawn(move || reading.read(number, way, &from));
            thread::spawn(move || writing.write(number, way, &to));
        }
    }

    /// Takes in what comes. After the end of a direction it is dropped, so that the other direction can go on.
    fn read(&self, number: usize, way: Way, mut from: &TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let is_full = |state: &mut State| state.connections[number].pipes[way as usize].is_full();
            drop(self.changed.wait_while(self.lock(), is_full).unwrap());
            let read = from.read(&mut buffer);
            let mut state = self.lock();
            let pipe = &mut state.connections[number].pipes[way as usize];
            match read {
                Ok(length @ 1..) => pipe.push(&buffer[..length]),
                Ok(0) => pipe.end(Ended::InOrder),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => pipe.end(Ended::Reset),
            }
            let has_ended = pipe.has_ended();
            self.changed.notify_all();
            if has_ended {
                return;
            }
        }
    }

    fn write(&self, number: usize, way: Way, mut to: &TcpStream) {
        while let Some(bytes) = self.next(number, way) {
            let is_written = to.write_all(&bytes).is_ok();
            let mut state = self.lock();
            if is_written {
                state.count(number, way, bytes.len() as u64);
                state.reach(self, number, way);
            } else if !state.connections[number].pipes[way as usize].closed {
                // Who sends to an end that is gone is told so.
                state.connections[number].reset();
            }
            self.changed.notify_all();
        }
    }

    /// Waits for what may be written next; none after the end.
    fn next(&self, number: usize, way: Way) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            state.reach(self, number, way);
            let to_total = state.bytes_to_next_total(way);
            let connection = &mut state.connections[number];
            match connection.pipes[way as usize].next(Instant::now(), to_total) {
                Next::Bytes(bytes) => return Some(bytes),
                Next::Over => return None,
                Next::Ended(how) => {
                    match how {
                        Ended::InOrder => connection.close(way),
                        Ended::Reset => connection.reset(),
                    }
                    self.changed.notify_all();
                    return None;
                }
                Next::Wait(None) => state = self.changed.wait(state).unwrap(),
                Next::Wait(Some(time)) => state = self.changed.wait_timeout(state, time).unwrap().0,
            }
        }
    }

    fn keep_time(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let due =
                (0..state.timers.len()).filter(|&at| state.timers[at].0 <= now).min_by_key(|&at| state.timers[at].0);
            if let Some(at) = due {
                match state.timers.remove(at) {
                    (_, fault, Timed::End) => state.apply(self, Whom::All, fault),
                    (_, fault, Timed::Step(lasts)) => state.step(self, fault, lasts),
                }
                self.changed.notify_all();
                continue;
            }
            state = match state.timers.iter().map(|timer| timer.0).min() {
                None => self.changed.wait(state).unwrap(),
                Some(next) => self.changed.wait_timeout(state, next - now).unwrap().0,
            };
        }
    }
}

impl State {
    fn admit(&mut self, inbound: TcpStream) -> usize {
        let number = self.connections.len();
        let mut connection = Connection::new(inbound, self.rules);
        for (whom, way, bytes, fault) in &self.planned {
            if whom.includes(number) {
                connection.pipes[*way as usize].triggers.push((*bytes, *fault));
            }
        }
        self.connections.push(connection);
        number
    }

    fn count(&mut self, number: usize, way: Way, bytes: u64) {
        self.connections[number].pipes[way as usize].passed += bytes;
        self.passed[way as usize] += bytes;
    }

    /// Does what is planned for the bytes that were passed on.
    fn reach(&mut self, shared: &Shared, number: usize, way: Way) {
        while let Some(fault) = self.connections[number].pipes[way as usize].take_trigger() {
            self.apply(shared, Whom::Only(number), fault);
            shared.changed.notify_all();
        }
        let passed = self.passed[way as usize];
        while let Some(at) = self.at_totals.iter().position(|total| total.0 == way && total.1 <= passed) {
            let (_, _, fault, lasts) = self.at_totals.remove(at);
            self.step(shared, fault, lasts);
            shared.changed.notify_all();
        }
    }

    /// One connection that moves bytes meets a count exactly. Several may be past it by what they write at that moment.
    fn bytes_to_next_total(&self, way: Way) -> u64 {
        let ahead = self.at_totals.iter().filter(|total| total.0 == way).map(|total| total.1);
        ahead.min().map_or(u64::MAX, |at| at - self.passed[way as usize])
    }

    fn step(&mut self, shared: &Shared, fault: Fault, lasts: Option<Duration>) {
        self.apply(shared, Whom::All, fault);
        self.steps += 1;
        if let (Some(time), Some(end)) = (lasts, fault.end()) {
            self.timers.push((Instant::now() + time, end, Timed::End));
        }
    }

    fn apply(&mut self, shared: &Shared, whom: Whom, fault: Fault) {
        match fault {
            Fault::Accept if self.refuses => {
                self.refuses = false;
                SockRef::from(&shared.listener).listen(BACKLOG).unwrap();
            }
            Fault::Refuse if !self.refuses => {
                self.refuses = true;
                // Linux stops listening then, keeps the port, and resets who waits to be accepted.
                SockRef::from(&shared.listener).shutdown(Shutdown::Read).unwrap();
            }
            _ => {}
        }
        if whom == Whom::All {
            for way in [Way::ToReceiver, Way::ToSender] {
                self.rules[way as usize].set(way, fault);
            }
        }
        for (number, connection) in self.connections.iter_mut().enumerate() {
            if whom.includes(number) {
                connection.apply(fault);
            }
        }
    }
}

impl Whom {
    fn includes(self, number: usize) -> bool {
        self == Self::All || self == Self::Only(number)
    }
}

impl Fault {
    /// What ends a fault that lasts.
    fn end(self) -> Option<Self> {
        match self {
            Self::Delay(way, _) => Some(Self::Delay(way, Duration::ZERO)),
            Self::Hold(way) => Some(Self::Release(way)),
            Self::Refuse => Some(Self::Accept),
            Self::Throttle(way, Some(_)) => Some(Self::Throttle(way, None)),
            _ => None,
        }
    }
}

const BACKLOG: i32 = 128;

/// A listener whose port stays its own while it does not listen: only a port asked for by number does.
fn listener(own: SocketAddr) -> TcpListener {
    let bound = |port: u16| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::new(own.ip(), port).into()).unwrap();
        socket
    };
    let free = bound(own.port());
    let socket = bound(free.local_addr().unwrap().as_socket().unwrap().port());
    socket.listen(BACKLOG).unwrap();
    socket.into()
}

fn address_of(link: &str) -> &str {
    link.split("//").nth(1).unwrap().split('/').next().unwrap()
}
