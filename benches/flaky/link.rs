//! A bad link between two TUN devices, which are its standard input (the sender's) and output (the receiver's).
//!
//! `benches/flaky/main.py` starts it with the words that `plan` reads. Its clock starts with the receiver's
//! first packet.
//! What it counts goes to standard error, a line of JSON every 50 ms; the last one stands.

#![allow(clippy::cast_precision_loss, reason = "shares need no 53 bits")]

mod model;
mod packet;

use model::{Direction, Fate, Outages, Plan};
use packet::{Flow, Segment};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

const TO_RECEIVER: usize = 0;
const TO_SENDER: usize = 1;
/// Payload from which a segment carries data of a file, and not a handshake or a question.
const DATA_BYTES: usize = 1000;
const REPORTS: Duration = Duration::from_millis(50);

struct Link {
    plan: Plan,
    began: OnceLock<Instant>,
    /// Connections, with the count of outages before they opened.
    flows: Mutex<HashMap<Flow, u128>>,
    lines: [Line; 2],
    resets: AtomicU64,
    /// The address that data reached last for the first time, and when.
    newest: Mutex<Option<([u8; 4], Duration)>>,
}

/// One direction: packets on their way, by arrival, and what came of them.
#[derive(Default)]
struct Line {
    under_way: Mutex<Way>,
    changed: Condvar,
    offered_payload: AtomicU64,
    carried_bytes: AtomicU64,
    carried_payload: AtomicU64,
    lost: AtomicU64,
    no_room: AtomicU64,
    while_down: AtomicU64,
}

#[derive(Default)]
struct Way {
    packets: BinaryHeap<Reverse<(Duration, u64, Vec<u8>)>>,
    /// Packets so far: those that arrive at one moment keep their order.
    count: u64,
}

fn main() -> std::io::Result<()> {
    let plan = plan(std::env::args().skip(1));
    let [sender, receiver] =
        [std::io::stdin().as_fd().try_clone_to_owned()?, std::io::stdout().as_fd().try_clone_to_owned()?];
    let devices = [File::from(sender), File::from(receiver)];
    let link = Link {
        plan,
        began: OnceLock::new(),
        flows: Mutex::default(),
        lines: [Line::default(), Line::default()],
        resets: AtomicU64::new(0),
        newest: Mutex::default(),
    };
    thread::scope(|scope| {
        for way in [TO_RECEIVER, TO_SENDER] {
            let (link, devices) = (&link, &devices);
            scope.spawn(move || link.take(way, &devices[way]));
            scope.spawn(move || link.give(way, &devices[1 - way]));
        }
        loop {
            thread::sleep(REPORTS);
            link.report();
        }
    })
}

impl Link {
    fn now(&self) -> Duration {
        self.began.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Takes packets in at one end.
    fn take(&self, way: usize, mut device: &File) {
        let mut direction = Direction::new(&self.plan, way as u64);
        let mut buffer = vec![0; 1 << 16];
        let line = &self.lines[way];
        loop {
            let length = device.read(&mut buffer).expect("a TUN device can be read");
            if way == TO_SENDER {
                self.began.get_or_init(Instant::now);
            }
            let (now, packet) = (self.now(), &buffer[..length]);
            let segment = Segment::parse(packet);
            if let Some(segment) = &segment {
                line.offered_payload.fetch_add(segment.payload_bytes as u64, Ordering::Relaxed);
            }
            match direction.offer(now, length as u64) {
                Fate::Arrives(at) => match segment.filter(|segment| !self.is_known(segment, now)) {
                    None => line.push(at, packet),
                    Some(gone) => self.refuse(&gone, now, way),
                },
                Fate::Lost => drop(line.lost.fetch_add(1, Ordering::Relaxed)),
                Fate::NoRoom => drop(line.no_room.fetch_add(1, Ordering::Relaxed)),
                Fate::WhileDown => drop(line.while_down.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    /// Whether a connection opened after the last outage, where that matters.
    fn is_known(&self, segment: &Segment<'_>, now: Duration) -> bool {
        if !self.plan.cuts {
            return true;
        }
        let outages = self.plan.outages.begun(now);
        let mut flows = self.flows.lock().expect("no thread panics");
        if segment.opens() {
            flows.insert(segment.flow(), outages);
        }
        flows.get(&segment.flow()) == Some(&outages)
    }

    /// Resets both ends, as a middle box does that has forgotten a connection.
    fn refuse(&self, segment: &Segment<'_>, now: Duration, way: usize) {
        if let Some([back, onward]) = segment.refusal() {
            self.lines[1 - way].push(now, &back);
            self.lines[way].push(now, &onward);
            self.resets.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives packets out at the other end when their time has come.
    fn give(&self, way: usize, mut device: &File) {
        let line = &self.lines[way];
        loop {
            let packet = self.wait_for(line);
            // A device that is down, or whose queue is full, takes none.
            if device.write(&packet).is_ok() {
                line.carried_bytes.fetch_add(packet.len() as u64, Ordering::Relaxed);
                let Some(segment) = Segment::parse(&packet) else { continue };
                line.carried_payload.fetch_add(segment.payload_bytes as u64, Ordering::Relaxed);
                if way == TO_RECEIVER && segment.payload_bytes >= DATA_BYTES {
                    self.reached(segment.target());
                }
            }
        }
    }

    /// Notes when data came to an address first. What still goes to the one before does not count as new.
    fn reached(&self, address: [u8; 4]) {
        let mut newest = self.newest.lock().expect("no thread panics");
        if newest.is_none_or(|(known, _)| known < address) {
            *newest = Some((address, self.now()));
        }
    }

    fn wait_for(&self, line: &Line) -> Vec<u8> {
        let mut under_way = line.under_way.lock().expect("no thread panics");
        loop {
            let now = self.now();
            under_way = match under_way.packets.peek() {
                None => line.changed.wait(under_way).expect("no thread panics"),
                Some(Reverse((at, ..))) if *at > now => {
                    let wait = at.saturating_sub(now);
                    line.changed.wait_timeout(under_way, wait).expect("no thread panics").0
                }
                Some(_) => {
                    let Some(Reverse((_, _, packet))) = under_way.packets.pop() else { continue };
                    return packet;
                }
            };
        }
    }

    fn report(&self) {
        let now = self.now();
        let up = self.plan.outages.up_time(now);
        let line = &self.lines[TO_RECEIVER];
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let text = format!(
            "{{\"seconds\": {:.3}, \"up_seconds\": {:.3}, \"offered_payload\": {}, \"carried_bytes\": {}, \
             \"carried_payload\": {}, \"lost\": {}, \"no_room\": {}, \"while_down\": {}, \"resets\": {}, \
             \"newest_address\": {:.3}}}\n",
            now.as_secs_f64(),
            up.as_secs_f64(),
            read(&line.offered_payload),
            read(&line.carried_bytes),
            read(&line.carried_payload),
            read(&line.lost),
            read(&line.no_room),
            read(&line.while_down),
            read(&self.resets),
            self.newest.lock().expect("no thread panics").map_or(0.0, |(_, when)| when.as_secs_f64()),
        );
        // One write for one line: a reader sees it whole or not at all.
        std::io::stderr().write_all(text.as_bytes()).expect("reports can be written");
    }
}

impl Line {
    fn push(&self, at: Duration, packet: &[u8]) {
        let mut under_way = self.under_way.lock().expect("no thread panics");
        under_way.count += 1;
        let count = under_way.count;
        under_way.packets.push(Reverse((at, count, packet.to_vec())));
        self.changed.notify_one();
    }
}

/// Reads `name=number` words: bytes, milliseconds and millionths.
fn plan(words: impl Iterator<Item = String>) -> Plan {
    let mut values: HashMap<String, u64> = words
        .map(|word| {
            let (name, value) = word.split_once('=').expect("words are name=number");
            (name.to_owned(), value.parse().expect("words are name=number"))
        })
        .collect();
    let mut take = |name: &str| values.remove(name).unwrap_or(0);
    let mut plan = Plan {
        seed: take("seed"),
        bytes_per_second: take("rate"),
        queue_bytes: take("queue"),
        delay: Duration::from_millis(take("delay")),
        jitter: Duration::from_millis(take("jitter")),
        loss: take("loss"),
        burst: take("burst"),
        reorder: take("reorder"),
        outages: Outages::Never,
        cuts: take("cuts") != 0,
    };
    let [up, down, from, to] = ["up", "down", "from", "to"].map(|name| Duration::from_millis(take(name)));
    if !down.is_zero() {
        plan.outages = Outages::Cycle { up, down };
    } else if !to.is_zero() {
        plan.outages = Outages::Once { from, to };
    }
    assert!(values.is_empty(), "unknown words: {values:?}");
    assert!(plan.bytes_per_second > 0 && plan.burst > 0 && plan.loss < 800_000, "{plan:?}");
    plan
}
