//! The virtual clock and what is to happen when, the trace, and the faults that a seed switches on.

use super::sim_net::{ConnId, Side};
use super::sim_receiver::ReceiverEvent;
use super::sim_rng::{Rng, mix};
use super::sim_sender::SenderEvent;
use haul::session::LaneRole;
use std::collections::BTreeMap;
use std::time::Duration;

/// What happens at some time.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A connection was accepted on the sending side.
    Accepted { conn: ConnId, role: LaneRole, grant: Option<[u8; 16]> },
    /// Something may arrive at an end of a connection.
    Arrives { conn: ConnId, to: Side },
    /// No fault happens from here on.
    Calm,
    /// A fault of some kind happens.
    Fault,
    /// Work of the receiving process of this run.
    Receiver { run: u32, event: ReceiverEvent },
    /// Work of the sending process of this run.
    Sender { run: u32, event: SenderEvent },
    /// The sending process is started again.
    StartSender,
}

/// Everything to come, in the order of its time and then of its making.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    events: BTreeMap<(Duration, u64), Event>,
    made: u64,
    now: Duration,
}

/// What one seed switches on, each in so many of a thousand cases.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) is_on: bool,
    /// Kinds of the faults that come one by one.
    pub(crate) kinds: Vec<FaultKind>,
    pub(crate) damaged_piece: u64,
    pub(crate) disk_failure: u64,
    pub(crate) slow_disk: u64,
    pub(crate) slow_sender: u64,
    pub(crate) declined: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FaultKind {
    CutConn,
    DiskFails,
    HalfOpen,
    KillReceiver,
    KillSender,
    Part,
    PowerLoss,
    SourceChange,
    Stall,
    StopSender,
}

/// What both hosts share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) agenda: Agenda,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
}

/// What happened, as one number; printed line by line where the environment asks for it.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    is_printed: bool,
}

/// What a run came across: shows that it exercises what it is meant to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(pub(crate) BTreeMap<&'static str, u64>);

impl Agenda {
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.events.insert((at.max(self.now), self.made), event);
        self.made += 1;
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// The next event, unless `wake` comes before it: then the clock moves there and nothing happens.
    pub(crate) fn next(&mut self, wake: Option<Duration>) -> Option<Event> {
        let first = self.events.first_key_value().map(|(&(at, _), _)| at);
        if let Some(wake) = wake.filter(|&wake| first.is_none_or(|at| wake < at)) {
            self.now = self.now.max(wake);
            return None;
        }
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }
}

impl Faults {
    pub(crate) fn of_seed(rng: &mut Rng) -> Self {
        use FaultKind::{
            CutConn, DiskFails, HalfOpen, KillReceiver, KillSender, Part, PowerLoss, SourceChange, Stall, StopSender,
        };
        let all =
            [CutConn, DiskFails, HalfOpen, KillReceiver, KillSender, Part, PowerLoss, SourceChange, Stall, StopSender];
        let kinds: Vec<_> = all.into_iter().filter(|_| rng.chance(400)).collect();
        let mut sometimes = |per_mille| if rng.chance(300) { rng.between(1, per_mille) } else { 0 };
        let (damaged_piece, disk_failure) = (sometimes(60), sometimes(30));
        let (slow_disk, slow_sender, declined) = (sometimes(100), sometimes(200), sometimes(200));
        Self { is_on: true, kinds, damaged_piece, disk_failure, slow_disk, slow_sender, declined }
    }
}

impl FaultKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CutConn => "fault: connection cut",
            Self::DiskFails => "fault: disk fails",
            Self::HalfOpen => "fault: half-open",
            Self::KillReceiver => "fault: receiver killed",
            Self::KillSender => "fault: sender killed",
            Self::Part => "fault: network parted",
            Self::PowerLoss => "fault: power loss",
            Self::SourceChange => "fault: source changed",
            Self::Stall => "fault: stall",
            Self::StopSender => "fault: sender stopped",
        }
    }
}

impl Core {
    pub(crate) fn new(mut rng: Rng) -> Self {
        let faults = Faults::of_seed(&mut rng);
        let is_printed = std::env::var_os("HAUL_SIM_LOG").is_some();
        let trace = Trace { digest: 0, is_printed };
        Self { agenda: Agenda::default(), rng, faults, trace, counts: Counts::default() }
    }

    /// A run in which nothing goes wrong by chance. With `has_bad_disk`, the disk may refuse calls.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn quiet(rng: Rng, has_bad_disk: bool) -> Self {
        let kinds = if has_bad_disk { vec![FaultKind::DiskFails] } else { Vec::new() };
        let faults = Faults {
            is_on: false,
            kinds,
            damaged_piece: 0,
            disk_failure: 0,
            slow_disk: 0,
            slow_sender: 0,
            declined: 0,
        };
        let is_printed = std::env::var_os("HAUL_SIM_LOG").is_some();
        let trace = Trace { digest: 0, is_printed };
        Self { agenda: Agenda::default(), rng, faults, trace, counts: Counts::default() }
    }

    pub(crate) fn now(&self) -> Duration {
        self.agenda.now()
    }

    /// Whether the disk may refuse a call in this run.
    pub(crate) fn has_bad_disk(&self) -> bool {
        let kinds = [FaultKind::DiskFails, FaultKind::PowerLoss];
        self.faults.disk_failure > 0 || kinds.iter().any(|kind| self.faults.kinds.contains(kind))
    }

    /// Whether a fault that strikes `per_mille` of its chances strikes.
    pub(crate) fn strikes(&mut self, per_mille: u64) -> bool {
        self.faults.is_on && per_mille > 0 && self.rng.chance(per_mille)
    }

    pub(crate) fn disk_fails(&mut self) -> bool {
        self.strikes(self.faults.disk_failure)
    }

    pub(crate) fn note(&mut self, what: &'static str, a: u64, b: u64) {
        self.trace.note(self.agenda.now(), what, a, b);
        self.counts.add(what, 1);
    }
}

impl Trace {
    fn note(&mut self, now: Duration, what: &'static str, a: u64, b: u64) {
        let word = what.bytes().fold(self.digest, |digest, byte| mix(digest ^ u64::from(byte)));
        self.digest = mix(mix(mix(word ^ now.as_nanos() as u64) ^ a) ^ b);
        if self.is_printed {
            println!("{:>12} {what} {a} {b}", now.as_micros());
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }
}

impl Counts {
    pub(crate) fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, &count)| self.add(what, count));
    }
}
