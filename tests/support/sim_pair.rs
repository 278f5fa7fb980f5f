//! A whole transfer in one thread: two processes, a network, a source, a disk, a virtual clock, all of one seed.

use super::sim_core::{Core, Counts, Event, FaultKind};
use super::sim_net::{ConnId, Side, SimNet};
use super::sim_older::older_than;
use super::sim_receiver::{OnConflict, ReceiverHost};
use super::sim_rng::Rng;
use super::sim_sender::{Around, SenderHost};
use super::sim_shelf::Shelf;
use super::sim_source::Source;
use haul::digest::ListingDigest;
use haul::session::{End, FileFault};
use haul::wire::Refusal;
use std::time::Duration;

/// Virtual time in which a transfer must be over once faults are off.
const CALM_MAX: Duration = Duration::from_secs(900);
/// Steps in which a whole run must be over.
const STEPS_MAX: u64 = 400_000;
/// Receiving processes that may be needed once faults are off.
const CALM_RUNS_MAX: u32 = 4;

/// What a seed came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) trace: u64,
    pub(crate) counts: Counts,
}

#[derive(Debug)]
struct Pair<S> {
    core: Core,
    net: SimNet,
    source: Source,
    /// Nothing while the sending process is not running.
    sender: Option<SenderHost>,
    sender_runs: u32,
    /// What the last sending process listed.
    listing: Option<ListingDigest>,
    receiver: ReceiverHost<S>,
    /// Whether the listing changed during the receiver's run.
    is_relisted: bool,
    calm_since: Option<Duration>,
    calm_runs: u32,
}

macro_rules! around {
    ($pair:expr) => {
        &mut Around { core: &mut $pair.core, net: &mut $pair.net, source: &mut $pair.source }
    };
}

/// Runs a transfer by the choices of `rng` to its end; says what must not have happened and did.
pub(crate) fn run<S: Shelf>(rng: Rng, shelf: S) -> Result<Outcome, String> {
    run_as(rng, shelf, false)
}

/// Runs one whose sender connects to the receiver.
pub(crate) fn run_pushed<S: Shelf>(rng: Rng, shelf: S) -> Result<Outcome, String> {
    run_as(rng, shelf, true)
}

fn run_as<S: Shelf>(mut rng: Rng, shelf: S, is_pushed: bool) -> Result<Outcome, String> {
    let source = Source::new(&mut rng);
    let net = SimNet::new(&mut rng);
    let mut core = Core::new(rng);
    let mut receiver = ReceiverHost::new(shelf, &mut core);
    receiver.is_visited = is_pushed;
    let mut pair = Pair {
        core,
        net,
        source,
        sender: None,
        sender_runs: 0,
        listing: None,
        receiver,
        is_relisted: false,
        calm_since: None,
        calm_runs: 0,
    };
    pair.plant_old_files();
    pair.start_sender();
    pair.receiver.start(around!(pair), Duration::ZERO);
    pair.schedule_faults();
    pair.run()?;
    Ok(Outcome { trace: pair.core.trace.digest(), counts: pair.core.counts })
}

impl<S: Shelf> Pair<S> {
    fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            match self.core.agenda.next(self.receiver.wake()) {
                Some(event) => self.happens(event),
                None if self.receiver.wake().is_some() => self.receiver.tick(around!(self)),
                None => return Err("nothing is left to happen".to_owned()),
            }
            if self.receiver.shelf.has_no_power() {
                self.power_loss();
            }
            self.check()?;
            if let Some(end) = self.receiver.end.clone() {
                if self.is_over(&end)? {
                    self.receiver.shelf.power_loss(&mut self.core.rng);
                    self.receiver.watch.check_finals(&self.receiver.shelf);
                    return self.check();
                }
                self.run_again();
            }
        }
        Err(format!("it is not over after {STEPS_MAX} steps"))
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Accepted { conn, .. } if self.receiver.is_visited && !self.net.is_open(conn) => {}
            Event::Accepted { conn, role, grant } if self.receiver.is_visited => {
                self.receiver.visited(around!(self), conn, role, grant);
            }
            Event::Accepted { conn, role, grant } => match &mut self.sender {
                Some(sender) => sender.accepted(around!(self), conn, role, grant),
                None => self.net.close(&mut self.core.agenda, &mut self.core.rng, conn, Side::Sender),
            },
            Event::Arrives { conn, to } => {
                let Some(arrival) = self.net.arrive(&mut self.core.agenda, conn, to) else { return };
                match (to, &mut self.sender) {
                    (Side::Receiver, _) => self.receiver.arrived(around!(self), conn, arrival),
                    (Side::Sender, Some(sender)) => sender.arrived(around!(self), conn, arrival),
                    (Side::Sender, None) => {}
                }
            }
            Event::Calm => self.calm_down(),
            Event::Fault if self.calm_since.is_none() => self.fault(),
            Event::StartSender => self.start_sender(),
            Event::Receiver { run, event } if run == self.receiver.run => {
                self.receiver.happens(around!(self), event);
            }
            Event::Sender { run, event } => {
                if let Some(sender) = self.sender.as_mut().filter(|sender| sender.run == run) {
                    sender.happens(around!(self), event);
                }
            }
            Event::Fault | Event::Receiver { .. } => {}
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let of_sender = self.sender.as_mut().and_then(|sender| sender.violation.take());
        if let Some(violation) = self.receiver.watch.violation.take().or(of_sender) {
            return Err(violation);
        }
        match self.calm_since {
            Some(since) if self.core.now() > since + CALM_MAX => Err("it does not end without faults".to_owned()),
            _ => Ok(()),
        }
    }

    // The end.

    /// Whether this end of a receiving process is the end of the transfer. An end that nothing explains is an error.
    fn is_over(&mut self, end: &End) -> Result<bool, String> {
        match end {
            End::Complete => return self.is_complete(),
            End::Declined if self.calm_since.is_none() => {}
            End::Refused(Refusal::Stopped) if self.sender.as_ref().is_none_or(SenderHost::is_stopped) => {}
            End::OfferChanged if self.is_relisted => {}
            other => return Err(format!("the receiver ends with {other:?}")),
        }
        Ok(false)
    }

    fn is_complete(&mut self) -> Result<bool, String> {
        let Some(grant) = self.receiver.grant else { return Err("complete without a session".to_owned()) };
        // What was sent last may come after its sender died.
        let Some(sender) = &self.sender else { return Ok(false) };
        if !sender.says_complete(grant) {
            return Err("the receiver is done and the sender was not told".to_owned());
        }
        self.receiver.check_complete(&self.source)?;
        if self.receiver.shelf.leases() > 0 {
            return Err("chunks are leased after the end".to_owned());
        }
        // Where a name was taken and is kept, so are further names of its file.
        let is_excused = |fault: &FileFault| match fault {
            FileFault::Exists => self.receiver.on_conflict() == OnConflict::Keep,
            FileFault::FirstFailed => self.receiver.on_conflict() != OnConflict::Overwrite,
            _ => false,
        };
        let is_whole = self.receiver.watch.failed().values().all(is_excused);
        let is_over = is_whole && !sender.offer.is_stale(&self.source);
        let leftovers = self.receiver.shelf.leftovers();
        if is_over && self.receiver.watch.failed().is_empty() && leftovers.len() > self.source.orphans() {
            return Err(format!("partial files are left and nobody needs them: {leftovers:?}"));
        }
        Ok(is_over)
    }

    /// What the user does after a run that did not bring everything: start it again.
    fn run_again(&mut self) {
        self.receiver.watch.check_finals(&self.receiver.shelf);
        self.receiver.shelf.stop();
        self.core.note("receiver runs again", 0, 0);
        if self.calm_since.is_some() {
            self.calm_runs += 1;
            let runs = self.calm_runs;
            self.receiver.watch.check(runs <= CALM_RUNS_MAX, || format!("{runs} runs without faults do not finish it"));
        }
        let has_to_start = |sender: &SenderHost| sender.is_stopped() || sender.push_end().is_some();
        if self.sender.as_ref().is_some_and(|sender| has_to_start(sender) || sender.offer.is_stale(&self.source)) {
            self.kill_sender();
            self.start_sender();
        }
        self.is_relisted = false;
        self.receiver.die(around!(self));
        let after = self.core.rng.millis(10, 2000);
        self.receiver.start(around!(self), after);
    }

    // Processes.

    fn start_sender(&mut self) {
        if self.sender.as_ref().is_some_and(|sender| sender.push_end().is_some()) {
            self.kill_sender();
        }
        if self.sender.is_some() {
            return;
        }
        self.sender_runs += 1;
        let offer = self.source.offer(&mut self.core.rng);
        self.is_relisted |= self.listing != Some(offer.listing.digest());
        self.listing = Some(offer.listing.digest());
        self.core.note("sender starts", u64::from(self.sender_runs), u64::from(offer.listing.totals().files));
        let mut sender = SenderHost::new(self.sender_runs, offer, &mut self.core);
        if self.receiver.is_visited {
            sender.start_pushing(around!(self));
        }
        self.sender = Some(sender);
    }

    fn kill_sender(&mut self) {
        self.sender = None;
        for conn in self.net.open_conns() {
            let told = self.core.rng.chance(700).then(|| self.core.rng.millis(0, 1000));
            self.net.cut(&mut self.core.agenda, conn, [told, None]);
        }
    }

    fn restart_receiver(&mut self) {
        self.receiver.die(around!(self));
        self.receiver.watch.check_finals(&self.receiver.shelf);
        self.is_relisted = false;
        let after = self.core.rng.millis(10, 2000);
        self.receiver.start(around!(self), after);
    }

    // Faults.

    fn schedule_faults(&mut self) {
        let bytes = self.source.files().map(|(_, bytes)| bytes.len() as u64).sum();
        let whole = self.net.estimate(bytes).as_millis() as u64;
        let until = whole * self.core.rng.scale(1, 16);
        self.core.agenda.at(Duration::from_millis(until), Event::Calm);
        let every = self.core.rng.scale(whole / 32 + 1, whole + 1);
        let mut at = 0;
        for _ in 0..self.core.rng.scale(1, 32) {
            at += self.core.rng.between(0, every);
            if at < until && !self.core.faults.kinds.is_empty() {
                self.core.agenda.at(Duration::from_millis(at), Event::Fault);
            }
        }
    }

    fn calm_down(&mut self) {
        self.core.note("faults end", 0, 0);
        self.calm_since = Some(self.core.now());
        self.core.faults.is_on = false;
        self.source.heal();
        self.receiver.shelf.heal();
        self.net.heal(&mut self.core.agenda);
        self.start_sender();
    }

    fn fault(&mut self) {
        let kind = *self.core.rng.pick(&self.core.faults.kinds.clone());
        self.core.note(kind.name(), 0, 0);
        match kind {
            FaultKind::CutConn => {
                let told = [Some(self.core.rng.millis(0, 3000)), Some(self.core.rng.millis(0, 3000))];
                self.cut_one(told);
            }
            FaultKind::HalfOpen => {
                let after = self.core.rng.millis(0, 3000);
                let told = *self.core.rng.pick(&[[None, Some(after)], [Some(after), None], [None, None]]);
                self.cut_one(told);
            }
            FaultKind::KillReceiver => {
                self.receiver.shelf.kill();
                self.restart_receiver();
            }
            FaultKind::KillSender => {
                self.kill_sender();
                let after = self.core.rng.millis(0, 5000);
                self.core.agenda.after(after, Event::StartSender);
            }
            FaultKind::Part => {
                for conn in self.net.open_conns() {
                    let told = [Some(self.core.rng.millis(0, 12_000)), Some(self.core.rng.millis(0, 12_000))];
                    self.net.cut(&mut self.core.agenda, conn, told);
                }
                let until = self.core.now() + self.core.rng.millis(0, 15_000);
                self.net.part(until);
            }
            FaultKind::DiskFails => self.receiver.shelf.fail_soon(&mut self.core.rng),
            FaultKind::PowerLoss if self.core.rng.chance(500) => {
                self.receiver.shelf.cut_power_soon(&mut self.core.rng);
            }
            FaultKind::PowerLoss => self.power_loss(),
            FaultKind::SourceChange => self.source.change(&mut self.core.rng),
            FaultKind::Stall => {
                let conns = self.net.open_conns();
                if !conns.is_empty() {
                    let (conn, side) =
                        (*self.core.rng.pick(&conns), *self.core.rng.pick(&[Side::Receiver, Side::Sender]));
                    let until = self.core.now() + self.core.rng.millis(0, 15_000);
                    self.net.stall(conn, side, until);
                }
            }
            FaultKind::StopSender => {
                if let Some(sender) = &mut self.sender {
                    sender.stop(around!(self));
                }
            }
        }
    }

    fn power_loss(&mut self) {
        self.core.note("power lost", 0, 0);
        self.receiver.shelf.power_loss(&mut self.core.rng);
        self.receiver.watch.power_loss(&mut self.core.rng);
        self.restart_receiver();
    }

    fn cut_one(&mut self, told: [Option<Duration>; 2]) {
        let conns = self.net.open_conns();
        if !conns.is_empty() {
            let conn: ConnId = *self.core.rng.pick(&conns);
            self.net.cut(&mut self.core.agenda, conn, told);
        }
    }

    /// Some files of the source are at the destination before: the same, or something else.
    fn plant_old_files(&mut self) {
        let often = *self.core.rng.pick(&[0, 0, 100, 500]);
        let files: Vec<_> = self.source.files().map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
        for (path, bytes) in files {
            if self.core.rng.has_older && path.parent().is_none() && self.core.rng.chance(700) {
                let old = older_than(&bytes, &mut self.core.rng);
                self.receiver.shelf.plant(&path, &old);
                self.receiver.watch.planted(&path, &old);
            } else if path.parent().is_none() && self.core.rng.chance(often) {
                let mut old = bytes.to_vec();
                match self.core.rng.below(3) {
                    0 => old.extend_from_slice(b"older"),
                    1 => old.iter_mut().take(1).for_each(|byte| *byte ^= 1),
                    _ => {}
                }
                self.receiver.shelf.plant(&path, &old);
                self.receiver.watch.planted(&path, &old);
            }
        }
    }
}
