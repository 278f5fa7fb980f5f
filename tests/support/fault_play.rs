//! One transfer of the simulation, played by hand: up to a moment of the fault matrix, a fault, and on to the end.

use super::sim_core::{Core, Event};
use super::sim_disk::{Seeded, SimDisk};
use super::sim_net::{ConnId, Side, SimNet};
use super::sim_receiver::{OnConflict, ReceiverHost};
use super::sim_rng::Rng;
use super::sim_sender::{Around, SenderHost};
use super::sim_shelf::Shelf;
use super::sim_source::Source;
use super::sim_store::StoreShelf;
use haul::rel_path::RelPath;
use haul::session::{End, FileFault, LaneRole};
use haul::store::Store;
use std::time::Duration;

pub(crate) const CHUNK: usize = 256 * 1024;
/// Chunks of `f`, the file that most plays are about.
pub(crate) const CHUNKS: u64 = 6;
/// Steps in which a play must be over.
const STEPS_MAX: u32 = 100_000;

/// Where a transfer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum At {
    /// The control connection is there; the sender has not let the receiver in.
    Handshake,
    /// Let in; the listing is on its way.
    Listing,
    /// The listing is there; the user was not heard.
    Deciding,
    /// So many chunks are known to be stored.
    Chunks(u64),
    /// The last chunk of a file is claimed; the file has no name yet.
    Verify,
    /// The file has its name; the session was not told.
    Rename,
    /// Everything is done, and the sender is being told.
    Told,
    /// The receiver knows that the sender knows.
    After,
}

/// The world of one transfer.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) core: Core,
    pub(crate) net: SimNet,
    pub(crate) source: Source,
    pub(crate) sender: Option<SenderHost>,
    pub(crate) receiver: ReceiverHost<StoreShelf>,
    /// Receiving processes so far.
    pub(crate) receiver_runs: u32,
    sender_runs: u32,
}

macro_rules! around {
    ($play:expr) => {
        &mut Around { core: &mut $play.core, net: &mut $play.net, source: &mut $play.source }
    };
}

/// Bytes of `f`.
pub(crate) fn content() -> Vec<u8> {
    Seeded(17).bytes((CHUNKS as usize - 1) * CHUNK + 1000)
}

impl Play {
    /// `f` alone, over a link of 1 MiB a second.
    pub(crate) fn new() -> Self {
        Self::of(vec![("f", Some(content()))], SimNet::of(1 << 20, 20))
    }

    /// Folders and files over a network. The disk may refuse calls; nothing happens by chance.
    pub(crate) fn of(items: Vec<(&str, Option<Vec<u8>>)>, net: SimNet) -> Self {
        let mut core = Core::quiet(Rng::new(5), true);
        let mut receiver = ReceiverHost::new(StoreShelf::default(), &mut core);
        receiver.decide_conflicts(OnConflict::Overwrite);
        let source = Source::of(items);
        let mut play = Self { core, net, source, sender: None, receiver, receiver_runs: 1, sender_runs: 0 };
        play.start_sender();
        play.receiver.start(around!(play), Duration::ZERO);
        play
    }

    /// Another file is under the name of `f` before.
    pub(crate) fn with_old_file(mut self) -> Self {
        let path = RelPath::parse("f").unwrap();
        self.receiver.shelf.plant(&path, b"old");
        self.receiver.watch.planted(&path, b"old");
        self
    }

    // Time.

    /// The next thing happens. False where nothing is left to.
    pub(crate) fn step(&mut self) -> bool {
        match self.core.agenda.next(self.receiver.wake()) {
            Some(event) => self.happens(event),
            None if self.receiver.wake().is_some() => self.receiver.tick(around!(self)),
            None => return false,
        }
        let of_sender = self.sender.as_mut().and_then(|sender| sender.violation.take());
        assert_eq!(self.receiver.watch.violation.take().or(of_sender), None);
        true
    }

    /// Goes on until the transfer is there, and stops before anything else happens.
    pub(crate) fn until(&mut self, moment: At) {
        self.go_on_until(&format!("{moment:?}"), |play| play.is_at(moment));
    }

    pub(crate) fn go_on_until(&mut self, what: &str, is_there: impl Fn(&Self) -> bool) {
        for _ in 0..STEPS_MAX {
            if is_there(self) {
                return;
            }
            assert!(self.step(), "nothing is left to happen before {what}");
        }
        panic!("{what} does not come");
    }

    fn is_at(&self, moment: At) -> bool {
        let goes_on = self.receiver.end.is_none();
        let is_let_in = self.receiver.grant.is_some();
        let (is_listed, is_decided) = self.receiver.offer();
        match moment {
            At::Handshake => goes_on && !is_let_in && !self.receiver.conns(LaneRole::Control).is_empty(),
            At::Listing => goes_on && is_let_in && !is_listed,
            At::Deciding => goes_on && is_listed && !is_decided,
            At::Chunks(count) => goes_on && self.receiver.watch.stored_chunks().len() >= count,
            At::Verify => goes_on && self.receiver.watch.is_publishing() && !self.has_arrived(),
            At::Rename => goes_on && self.has_arrived() && !self.receiver.has_told_done,
            At::Told => goes_on && self.receiver.has_told_done,
            At::After => self.receiver.end == Some(End::Complete),
        }
    }

    /// Whether the transfer has come as far as this, or is over.
    pub(crate) fn has_reached(&self, moment: At) -> bool {
        self.is_at(moment) || self.receiver.end.is_some()
    }

    /// Whether `f` is under its name as it was sent first.
    pub(crate) fn has_arrived(&self) -> bool {
        self.disk().read("f").is_some_and(|bytes| bytes == content())
    }

    /// Goes on until this receiving process ends.
    pub(crate) fn end_of_run(&mut self) -> End {
        self.go_on_until("the end", |play| play.receiver.end.is_some());
        self.receiver.end.clone().unwrap()
    }

    /// Goes on to the end, which is a good one: every file is there, both ends know it, nothing is left over.
    pub(crate) fn finish(&mut self) {
        assert_eq!(self.end_with_failures(), []);
        assert_eq!(self.receiver.shelf.leftovers(), [] as [&str; 0]);
        self.stop();
        // As every receiver does before it asks its user; what a killed one left of its folder goes with it.
        Store::open(self.disk().clone()).unwrap().folding().unwrap();
        self.assert_nothing_else(&[]);
    }

    /// Goes on to the end, which is a good one but for the files that it names.
    pub(crate) fn end_with_failures(&mut self) -> Vec<FileFault> {
        assert_eq!(self.end_of_run(), End::Complete);
        let sender = self.sender.as_ref().expect("a transfer ends with both ends there");
        let failed: Vec<_> = self.receiver.watch.failed().values().cloned().collect();
        let told = Some((End::Complete, failed.len() as u32));
        assert!(sender.ends().contains(&told), "the sender knows how it ended: {:?}", sender.ends());
        self.receiver.check_complete(&self.source).unwrap();
        assert_eq!(self.receiver.shelf.leases(), 0);
        failed
    }

    fn happens(&mut self, event: Event) {
        match event {
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
            Event::Receiver { run, event } if run == self.receiver.run => {
                self.receiver.happens(around!(self), event);
            }
            Event::Sender { run, event } => {
                if let Some(sender) = self.sender.as_mut().filter(|sender| sender.run == run) {
                    sender.happens(around!(self), event);
                }
            }
            Event::StartSender => self.start_sender(),
            Event::Calm | Event::Fault | Event::Receiver { .. } => {}
        }
    }

    // Processes.

    pub(crate) fn start_sender(&mut self) {
        assert!(self.sender.is_none());
        self.sender_runs += 1;
        let offer = self.source.offer(&mut self.core.rng);
        self.sender = Some(SenderHost::new(self.sender_runs, offer, &mut self.core));
    }

    /// The sending process is gone; the system tells the receiver within a tenth of a second.
    pub(crate) fn kill_sender(&mut self) {
        self.sender = None;
        self.cut([Some(Duration::from_millis(100)), None]);
    }

    /// The process that sends is started on what is there now.
    pub(crate) fn restart_sender(&mut self) {
        self.kill_sender();
        self.start_sender();
    }

    /// The receiving process is gone, and started again.
    pub(crate) fn kill_receiver(&mut self) {
        self.receiver.shelf.kill();
        self.start_receiver();
    }

    /// The machine of the receiver loses power and starts again; `seed` decides what of the unsynced is kept.
    pub(crate) fn power_loss(&mut self, seed: u64) {
        self.receiver.shelf.power_loss(&mut Rng::new(seed));
        self.start_receiver();
    }

    /// The receiver has ended, and its user starts it again.
    pub(crate) fn again(&mut self) {
        self.stop();
        self.start_receiver();
    }

    fn stop(&mut self) {
        self.receiver.watch.check_finals(&self.receiver.shelf);
        self.receiver.shelf.stop();
    }

    fn start_receiver(&mut self) {
        self.receiver.watch.check_finals(&self.receiver.shelf);
        self.receiver_runs += 1;
        self.receiver.die(around!(self));
        self.receiver.start(around!(self), Duration::from_millis(50));
    }

    // The network.

    /// Every connection breaks. The receiver's end and the sender's end are told after a time, or never.
    pub(crate) fn cut(&mut self, told: [Option<Duration>; 2]) {
        for conn in self.net.open_conns() {
            self.net.cut(&mut self.core.agenda, conn, told);
        }
    }

    /// Every connection is reset.
    pub(crate) fn reset(&mut self) {
        self.cut([Some(Duration::ZERO); 2]);
    }

    /// Nothing gets through for a while.
    pub(crate) fn blackhole(&mut self, length: Duration) {
        let until = self.core.now() + length;
        for conn in self.net.open_conns() {
            self.stall(conn, until);
        }
        self.net.part(until);
    }

    pub(crate) fn stall(&mut self, conn: ConnId, until: Duration) {
        self.net.stall(conn, Side::Receiver, until);
        self.net.stall(conn, Side::Sender, until);
    }

    /// The sender's side puts these bytes on a connection, whatever its session says.
    pub(crate) fn inject(&mut self, role: LaneRole, frame: Vec<u8>) {
        let conn = self.receiver.conns(role)[0];
        self.net.send(&mut self.core.agenda, &mut self.core.rng, conn, Side::Sender, frame);
    }

    // What there is.

    pub(crate) fn disk(&self) -> &SimDisk {
        self.receiver.shelf.disk()
    }

    /// Requests for single chunks so far.
    pub(crate) fn asked(&self) -> u64 {
        self.core.counts.of("chunk requests")
    }

    /// No chunk that was verified was asked for again, by any process.
    pub(crate) fn assert_none_lost(&self) {
        assert_eq!(self.receiver.watch.asked_again(), 0, "verified chunks were fetched again");
    }

    /// Below the destination lie the files that are listed and, of all else, only what starts with one of these.
    pub(crate) fn assert_nothing_else(&self, starts: &[&str]) {
        let is_listed = |path: &str| self.source.files().any(|(file, _)| file.as_str() == path);
        let mut others = self.disk().paths();
        others.retain(|path| !is_listed(path) && !starts.iter().any(|start| path.starts_with(start)));
        assert_eq!(others, [] as [&str; 0]);
    }
}
