//! A seeded network: connections as two ordered pipes of frames, each with its delay, that stall and break.

use super::sim_core::{Agenda, Event};
use super::sim_rng::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Names a connection. Never reused.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct ConnId(pub(crate) u32);

/// An end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Receiver,
    Sender,
}

/// What one end finds when it reads.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    /// The other end closed, or the network said that the connection is broken.
    Lost,
    /// A whole frame.
    Frame(Vec<u8>),
}

/// All connections.
#[derive(Debug)]
pub(crate) struct SimNet {
    conns: BTreeMap<ConnId, Conn>,
    next: u32,
    bytes_per_second: u64,
    delay_ms: u64,
    /// No connection can be made before this time.
    unreachable_until: Duration,
}

#[derive(Debug)]
struct Conn {
    /// What travels to the receiver and to the sender.
    pipes: [Pipe; 2],
    /// Frames sent from either end arrive nowhere any more.
    is_cut: bool,
}

#[derive(Debug, Default)]
struct Pipe {
    travelling: VecDeque<(Duration, Arrival)>,
    /// When the last of them arrives.
    last: Duration,
    stalled_until: Duration,
    /// Whether the agenda holds the arrival of the first.
    is_scheduled: bool,
    /// Whether the end that reads it still does.
    is_read: bool,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Receiver => Self::Sender,
            Self::Sender => Self::Receiver,
        }
    }
}

impl SimNet {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self {
            conns: BTreeMap::new(),
            next: 0,
            bytes_per_second: rng.scale(64 << 10, 16 << 20),
            delay_ms: rng.scale(1, 256),
            unreachable_until: Duration::ZERO,
        }
    }

    /// A network of this rate, whose frames take this long at most.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn of(bytes_per_second: u64, delay_ms: u64) -> Self {
        let unreachable_until = Duration::ZERO;
        Self { conns: BTreeMap::new(), next: 0, bytes_per_second, delay_ms, unreachable_until }
    }

    /// Connections that were ever made.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn conns_made(&self) -> u32 {
        self.next
    }

    pub(crate) fn delay(&self, rng: &mut Rng) -> Duration {
        rng.millis(self.delay_ms / 2, self.delay_ms)
    }

    /// Time that so many bytes take to be put on the wire.
    pub(crate) fn time_of(&self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.bytes_per_second)
    }

    /// About how long a transfer takes that meets no fault.
    pub(crate) fn estimate(&self, bytes: u64) -> Duration {
        self.time_of(bytes as usize) + Duration::from_millis(self.delay_ms * 16)
    }

    pub(crate) fn is_reachable(&self, now: Duration) -> bool {
        now >= self.unreachable_until
    }

    /// Nobody can connect for a while.
    pub(crate) fn part(&mut self, until: Duration) {
        self.unreachable_until = self.unreachable_until.max(until);
    }

    /// Faults are over.
    pub(crate) fn heal(&mut self, agenda: &mut Agenda) {
        self.unreachable_until = Duration::ZERO;
        for id in self.open_conns() {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.pipes.iter_mut().for_each(|pipe| pipe.stalled_until = Duration::ZERO);
            }
            for side in [Side::Receiver, Side::Sender] {
                self.schedule(agenda, id, side);
            }
        }
    }

    pub(crate) fn open(&mut self) -> ConnId {
        let id = ConnId(self.next);
        self.next += 1;
        let pipe = || Pipe { is_read: true, ..Pipe::default() };
        self.conns.insert(id, Conn { pipes: [pipe(), pipe()], is_cut: false });
        id
    }

    /// Connections that carry frames.
    pub(crate) fn open_conns(&self) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, conn)| !conn.is_cut).map(|(&id, _)| id).collect()
    }

    /// Whether both ends may still hear of each other.
    pub(crate) fn is_open(&self, id: ConnId) -> bool {
        self.conns.get(&id).is_some_and(|conn| !conn.is_cut)
    }

    /// Sends a frame from one end; it arrives after those sent before it, or never.
    pub(crate) fn send(&mut self, agenda: &mut Agenda, rng: &mut Rng, id: ConnId, from: Side, frame: Vec<u8>) {
        let delay = self.delay(rng) + self.time_of(frame.len());
        self.put(agenda, id, from.other(), delay, Arrival::Frame(frame));
    }

    /// One end closes. The other is told after everything that was sent before, unless it all goes down with it.
    pub(crate) fn close(&mut self, agenda: &mut Agenda, rng: &mut Rng, id: ConnId, by: Side) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.pipes[by as usize].is_read = false;
        conn.pipes[by as usize].travelling.clear();
        let delay = self.delay(rng);
        self.put(agenda, id, by.other(), delay, Arrival::Lost);
    }

    /// The connection breaks with all that travels on it. Each end is told after its own delay, or never.
    pub(crate) fn cut(&mut self, agenda: &mut Agenda, id: ConnId, told: [Option<Duration>; 2]) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_cut) else { return };
        for (pipe, after) in conn.pipes.iter_mut().zip(told) {
            pipe.travelling.clear();
            pipe.stalled_until = Duration::ZERO;
            if let Some(after) = after.filter(|_| pipe.is_read) {
                pipe.last = agenda.now() + after;
                pipe.travelling.push_back((pipe.last, Arrival::Lost));
            }
        }
        conn.is_cut = true;
        self.schedule(agenda, id, Side::Receiver);
        self.schedule(agenda, id, Side::Sender);
    }

    /// Nothing arrives at one end for a while.
    pub(crate) fn stall(&mut self, id: ConnId, to: Side, until: Duration) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_cut) {
            conn.pipes[to as usize].stalled_until = until;
        }
    }

    /// What arrives now at one end, if anything does.
    pub(crate) fn arrive(&mut self, agenda: &mut Agenda, id: ConnId, to: Side) -> Option<Arrival> {
        let pipe = &mut self.conns.get_mut(&id)?.pipes[to as usize];
        pipe.is_scheduled = false;
        let is_due = pipe.travelling.front().is_some_and(|(at, _)| agenda.now() >= *at.max(&pipe.stalled_until));
        let arrival = if is_due { pipe.travelling.pop_front().map(|(_, arrival)| arrival) } else { None };
        if let Some(Arrival::Lost) = arrival {
            pipe.is_read = false;
        }
        self.schedule(agenda, id, to);
        arrival
    }

    fn put(&mut self, agenda: &mut Agenda, id: ConnId, to: Side, delay: Duration, arrival: Arrival) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_cut) else { return };
        let pipe = &mut conn.pipes[to as usize];
        if !pipe.is_read {
            return;
        }
        pipe.last = pipe.last.max(agenda.now() + delay);
        pipe.travelling.push_back((pipe.last, arrival));
        self.schedule(agenda, id, to);
    }

    fn schedule(&mut self, agenda: &mut Agenda, id: ConnId, to: Side) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let pipe = &mut conn.pipes[to as usize];
        if let (Some(&(at, _)), false) = (pipe.travelling.front(), pipe.is_scheduled) {
            pipe.is_scheduled = true;
            agenda.at(at.max(pipe.stalled_until), Event::Arrives { conn: id, to });
        }
    }
}
