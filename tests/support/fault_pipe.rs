//! One connection through the fault proxy: what waits in each direction, and what may pass when.

use super::{Fault, Way};
use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one direction keeps at most; more stays with who sends it.
const QUEUE_BYTES: usize = 1 << 20;

/// What lasts.
#[derive(Clone, Copy, Default)]
pub struct Rules {
    pub held: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
}

/// How the end that sends has ended.
#[derive(Clone, Copy)]
pub enum Ended {
    InOrder,
    Reset,
}

pub struct Connection {
    inbound: Arc<TcpStream>,
    outbound: Option<Arc<TcpStream>>,
    /// By direction.
    pub pipes: [Pipe; 2],
    was_reset: bool,
}

/// One direction of a connection.
pub struct Pipe {
    pub rules: Rules,
    /// Bytes, with the moment from which they may pass.
    queue: VecDeque<(Instant, Vec<u8>)>,
    ended: Option<(Instant, Ended)>,
    /// Bytes that went out to be written, and of these the ones that are.
    pub taken: u64,
    pub passed: u64,
    /// What happens once so many bytes have passed.
    pub triggers: Vec<(u64, Fault)>,
    /// Bits of the next byte that change.
    flip: u8,
    /// When the rate allows the next bytes.
    free_at: Instant,
    pub closed: bool,
}

/// What a direction has to do.
pub enum Next {
    Bytes(Vec<u8>),
    Ended(Ended),
    /// It was closed.
    Over,
    /// Nothing, until something changes or time has passed.
    Wait(Option<Duration>),
}

impl Connection {
    pub fn new(inbound: TcpStream, rules: [Rules; 2]) -> Self {
        Self { inbound: Arc::new(inbound), outbound: None, pipes: rules.map(Pipe::new), was_reset: false }
    }

    /// The sender can be reached from here on, and learns what happened before.
    pub fn connect(&mut self, outbound: TcpStream) {
        if self.was_reset {
            reset(&outbound);
        } else if self.pipes[Way::ToSender as usize].closed {
            // It fails where the sender is gone.
            let _ = outbound.shutdown(Shutdown::Write);
        }
        self.outbound = Some(Arc::new(outbound));
    }

    /// Where a direction comes from, and where it goes to.
    pub fn sockets(&self, way: Way) -> (Arc<TcpStream>, Arc<TcpStream>) {
        let (inbound, outbound) = (Arc::clone(&self.inbound), Arc::clone(self.outbound.as_ref().unwrap()));
        if way == Way::ToReceiver { (outbound, inbound) } else { (inbound, outbound) }
    }

    pub fn is_over(&self) -> bool {
        self.pipes.iter().all(|pipe| pipe.closed)
    }

    pub fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Accept | Fault::Refuse => {}
            Fault::Close => {
                self.close(Way::ToReceiver);
                self.close(Way::ToSender);
            }
            Fault::Flip(way, bits) => self.pipes[way as usize].flip ^= bits,
            Fault::HalfClose(way) => self.close(way),
            Fault::Reset => self.reset(),
            Fault::Delay(..) | Fault::Hold(_) | Fault::Release(_) | Fault::Throttle(..) => {
                for way in [Way::ToReceiver, Way::ToSender] {
                    self.pipes[way as usize].set(way, fault);
                }
            }
        }
    }

    /// Ends one direction in order.
    pub fn close(&mut self, way: Way) {
        if self.pipes[way as usize].close() {
            let to = if way == Way::ToReceiver { Some(&self.inbound) } else { self.outbound.as_ref() };
            // It fails where the end is gone.
            let _ = to.map(|to| to.shutdown(Shutdown::Write));
        }
    }

    pub fn reset(&mut self) {
        let was_open = !self.is_over();
        for pipe in &mut self.pipes {
            pipe.close();
        }
        if was_open {
            self.was_reset = true;
            [Some(&self.inbound), self.outbound.as_ref()].into_iter().flatten().for_each(|socket| reset(socket));
        }
    }
}

fn reset(socket: &TcpStream) {
    // To close with a linger time of 0 does the same, but only once no thread holds the socket any more. It fails where
    // the connection is gone.
    let _ = rustix::net::connect_unspec(socket);
}

impl Pipe {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            queue: VecDeque::new(),
            ended: None,
            taken: 0,
            passed: 0,
            triggers: Vec::new(),
            flip: 0,
            free_at: Instant::now(),
            closed: false,
        }
    }

    pub fn queued(&self) -> usize {
        self.queue.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    pub fn is_full(&self) -> bool {
        self.queued() >= QUEUE_BYTES
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.queue.push_back((Instant::now() + self.rules.delay, bytes.to_vec()));
        }
    }

    pub fn end(&mut self, how: Ended) {
        self.ended = Some((Instant::now() + self.rules.delay, how));
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether it was open before.
    fn close(&mut self) -> bool {
        self.queue.clear();
        !std::mem::replace(&mut self.closed, true)
    }

    fn set(&mut self, way: Way, fault: Fault) {
        self.rules.set(way, fault);
        if matches!(fault, Fault::Throttle(changed, _) if changed == way) {
            self.free_at = Instant::now();
        }
    }

    /// The fault whose byte is reached.
    pub fn take_trigger(&mut self) -> Option<Fault> {
        let at = self.triggers.iter().position(|(bytes, _)| *bytes <= self.passed)?;
        Some(self.triggers.remove(at).1)
    }

    /// What is to do now, with at most `bytes_max` bytes.
    pub fn next(&mut self, now: Instant, bytes_max: u64) -> Next {
        if self.closed {
            return Next::Over;
        }
        if self.rules.held {
            return Next::Wait(None);
        }
        let Some((due, waiting)) = self.queue.front_mut() else {
            return match self.ended {
                None => Next::Wait(None),
                Some((due, _)) if due > now => Next::Wait(Some(due - now)),
                Some((_, how)) => Next::Ended(how),
            };
        };
        let from = self.free_at.max(*due);
        if from > now {
            return Next::Wait(Some(from - now));
        }
        let to_trigger = self.triggers.iter().map(|(bytes, _)| bytes - self.passed).min().unwrap_or(u64::MAX);
        // A slow direction flows: many small parts, each followed by the time that it takes.
        let slice = self.rules.bytes_per_second.map_or(u64::MAX, |rate| (rate / 50).max(1));
        let length = (waiting.len() as u64).min(bytes_max).min(to_trigger).min(slice);
        let mut bytes: Vec<u8> = waiting.drain(..usize::try_from(length).unwrap()).collect();
        if waiting.is_empty() {
            self.queue.pop_front();
        }
        if let Some(rate) = self.rules.bytes_per_second {
            self.free_at = now + Duration::from_nanos(length * 1_000_000_000 / rate);
        }
        self.taken += length;
        bytes[0] ^= std::mem::take(&mut self.flip);
        Next::Bytes(bytes)
    }
}

impl Rules {
    /// Takes over what of `fault` lasts and is for the direction `way`.
    pub fn set(&mut self, way: Way, fault: Fault) {
        match fault {
            Fault::Delay(of, delay) if of == way => self.delay = delay,
            Fault::Hold(of) if of == way => self.held = true,
            Fault::Release(of) if of == way => self.held = false,
            Fault::Throttle(of, rate) if of == way => self.bytes_per_second = rate,
            _ => {}
        }
    }
}
