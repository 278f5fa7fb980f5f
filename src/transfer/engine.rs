//! A receiving session shared by its threads: inputs from any of them, outputs to the one that each concerns.

use super::failed::Failures;
use super::foresee::Outlook;
use super::links::Links;
use super::mailbox::{Mail, Mailbox};
use super::older::{Base, Compared};
use super::out::renamed;
use super::publisher;
use super::queue::Queue;
use super::sink::Sink;
use super::work::{Counters, DeskJob, Gathered, LaneWork, MainEvent, PublishJob};
use super::{Conflict, Event, FileOutcome, Observer, ReceiveSettings};
use crate::chunk_set::ChunkSet;
use crate::digest::FileDigest;
use crate::limits::HELD_CHUNKS_MAX;
use crate::manifest::{EntryIndex, Listing, VerifiedChunk};
use crate::session::{FileFault, Input, LaneId, Output, Receiver};
use crate::store::{Disk, Durability, PartialFile, RealDisk, Record, SingleFile, Standing, Store, StoreError};
use crate::transport::AbortHandle;
use crate::wire::Message;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Everything that the threads of one receiving transfer share.
pub(super) struct Engine<'a, D: Disk = RealDisk> {
    pub(super) store: &'a Store<D>,
    pub(super) settings: &'a ReceiveSettings,
    pub(super) observer: &'a dyn Observer,
    pub(super) counters: Counters,
    /// Work of the threads that open files and check claims.
    pub(super) desk: Queue<DeskJob>,
    /// Work of the thread that publishes.
    pub(super) publisher: Queue<PublishJob>,
    /// Small files that wait for their common sync; the publisher is told of the first and of a full batch.
    pub(super) gathered: Mutex<Gathered>,
    /// What the main thread is told.
    pub(super) main: Arc<Queue<MainEvent>>,
    /// The listing, once it is complete.
    pub(super) listing: OnceLock<Arc<Listing>>,
    /// What to do about names that are taken, once the user took the offer.
    pub(super) conflict: OnceLock<Conflict>,
    /// The record that tells a later run what this one published; there once the user took the offer.
    pub(super) record: OnceLock<Record<D>>,
    /// The stream that the only file is written to, where that is wanted.
    pub(super) sink: Option<Arc<Sink>>,
    /// What a dry run knows so far.
    pub(super) outlook: Outlook<D>,
    pub(super) partials: Mutex<HashMap<EntryIndex, OpenPartial<D>>>,
    pub(super) compared: Mutex<Compared>,
    pub(super) singles: Mutex<HashMap<EntryIndex, (SingleFile<D>, VerifiedChunk)>>,
    /// The first bytes of chunks that are whole files, from lanes that were lost; at most [`HELD_CHUNKS_MAX`].
    pub(super) set_aside: Mutex<HashMap<u64, Vec<u8>>>,
    pub(super) links: Links,
    pub(super) failures: Mutex<Failures>,
    best_effort: AtomicBool,
    only_root: Mutex<Option<FileDigest>>,
    pub(super) disk_faults: Mutex<HashMap<EntryIndex, StoreError>>,
    inner: Mutex<Inner>,
    pub(super) began: Instant,
}

/// A partial file under way.
pub(super) struct OpenPartial<D: Disk> {
    pub(super) file: Arc<PartialFile<D>>,
    pub(super) standing: Standing,
    /// What chunks may be made of.
    pub(super) base: Option<Arc<Base<D>>>,
}

impl<D: Disk> Clone for OpenPartial<D> {
    fn clone(&self) -> Self {
        Self { file: Arc::clone(&self.file), standing: self.standing, base: self.base.clone() }
    }
}

struct Inner {
    receiver: Receiver,
    mailboxes: BTreeMap<LaneId, Mailbox>,
    closed: bool,
}

impl<'a, D: Disk> Engine<'a, D> {
    pub(super) fn new(
        store: &'a Store<D>,
        settings: &'a ReceiveSettings,
        observer: &'a dyn Observer,
        receiver: Receiver,
        began: Instant,
        counters: Counters,
    ) -> Self {
        let inner = Inner { receiver, mailboxes: BTreeMap::new(), closed: false };
        Self {
            store,
            settings,
            observer,
            counters,
            desk: Queue::new(),
            publisher: Queue::new(),
            gathered: Mutex::default(),
            main: Arc::new(Queue::new()),
            listing: OnceLock::new(),
            conflict: OnceLock::new(),
            record: OnceLock::new(),
            best_effort: AtomicBool::new(false),
            only_root: Mutex::default(),
            sink: None,
            outlook: Outlook::default(),
            partials: Mutex::default(),
            compared: Mutex::default(),
            singles: Mutex::default(),
            set_aside: Mutex::default(),
            links: Links::default(),
            failures: Mutex::default(),
            disk_faults: Mutex::default(),
            inner: Mutex::new(inner),
            began,
        }
    }

    /// Tells the session what happened, and hands out what it wants done.
    ///
    /// Both under one lock: a lane must send its requests in the order in which the session made them.
    pub(super) fn step(&self, input: Input) {
        let mut inner = self.lock();
        let now = self.began.elapsed();
        inner.receiver.handle(now, input);
        while let Some(output) = inner.receiver.poll() {
            self.route(&mut inner, output);
        }
    }

    /// Whether hashes and seal are those that the user demanded, where they did. Others end the session, which never hears of them.
    pub(super) fn is_expected(&self, message: &Message) -> bool {
        let Some(expect) = &self.settings.expect else { return true };
        let seals_everything = || self.lock().receiver.seals_everything();
        let Err(error) = expect.check(message, || self.offered(), seals_everything) else { return true };
        self.main.push(MainEvent::Unexpected(error));
        // Here and not there, since this lane is to say so before it waits for what is owed over it.
        self.step(Input::Declined);
        false
    }

    /// Makes a lane's mailbox before its first input.
    pub(super) fn add_lane(&self, lane: LaneId, abort: AbortHandle) {
        self.lock().mailboxes.insert(lane, Mailbox::new(abort));
    }

    /// Forgets a lane. What was asked of it goes back, but for the bytes of a chunk that are `held`.
    pub(super) fn remove_lane(&self, lane: LaneId, held: Option<(u64, u64)>) {
        self.lock().mailboxes.remove(&lane);
        self.step(Input::LaneLost { lane, held });
    }

    /// Keeps the first bytes of a chunk that is its whole file for the next lane. False where they are of no use, since the
    /// file has failed meanwhile, or as much is kept as may be.
    pub(super) fn set_aside(&self, entry: EntryIndex, chunk: u64, bytes: Vec<u8>) -> bool {
        // Held while they are put there: a file that fails after that finds them and lets them go.
        let inner = self.lock();
        let mut set_aside = lock(&self.set_aside);
        let is_kept = inner.receiver.wants(entry) && set_aside.len() < HELD_CHUNKS_MAX;
        if is_kept {
            set_aside.insert(chunk, bytes);
        }
        is_kept
    }

    /// What the lane has still to do, without waiting.
    pub(super) fn take_work(&self, lane: LaneId) -> VecDeque<LaneWork> {
        self.lock().mailboxes.get_mut(&lane).map(Mailbox::take).unwrap_or_default()
    }

    /// Waits until the lane has something to do, or owes a frame.
    pub(super) fn mail(&self, lane: LaneId) -> Mail {
        let mut inner = self.lock();
        loop {
            let Inner { receiver, mailboxes, closed } = &mut *inner;
            let Some(mailbox) = mailboxes.get_mut(&lane) else { return Mail::Closed };
            if !mailbox.is_empty() {
                return Mail::Work(mailbox.take());
            }
            if *closed {
                return Mail::Closed;
            }
            if receiver.is_owed(lane) {
                return Mail::Owed;
            }
            let sleeper = mailbox.sleep();
            inner = sleeper.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets every thread finish: lanes send what they still have to and end.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.mailboxes.values_mut().for_each(Mailbox::wake);
        drop(inner);
        self.store.wait_for_room(false);
        self.sink.iter().for_each(|sink| sink.close());
        self.desk.close();
        self.publisher.close();
    }

    /// Breaks one lane, and lets its thread end.
    pub(super) fn end_lane(&self, lane: LaneId) {
        if let Some(mailbox) = self.lock().mailboxes.get_mut(&lane) {
            mailbox.end();
        }
    }

    /// Breaks every lane, so that no thread waits for the network, nor for work.
    pub(super) fn abort_lanes(&self) {
        self.lock().mailboxes.values_mut().for_each(Mailbox::end);
    }

    /// Breaks the lanes that still owe something, where nobody waits for it any more.
    pub(super) fn abort_owing_lanes(&self) {
        let Inner { receiver, mailboxes, .. } = &*self.lock();
        mailboxes.iter().filter(|&(&lane, _)| receiver.is_owed(lane)).for_each(|(_, mailbox)| mailbox.abort());
    }

    /// The complete listing.
    pub(super) fn listing(&self) -> &Listing {
        self.listing.get().expect("the listing is set before the offer is accepted, and work comes only after")
    }

    /// The same as its sender has it: by the user's choice, the only file of it may get another name here.
    pub(super) fn offered(&self) -> Option<Arc<Listing>> {
        self.lock().receiver.listing().map(Arc::clone)
    }

    /// What to do about names that are taken.
    pub(super) fn conflict(&self) -> Conflict {
        self.conflict.get().copied().unwrap_or(self.settings.conflict)
    }

    pub(super) fn notice(&self, text: String) {
        self.observer.event(&Event::Notice { text });
    }

    /// Says once where the file system cannot promise that what is done outlasts a power cut.
    pub(super) fn note_durability(&self, durability: Durability) {
        if durability == Durability::BestEffort && !self.best_effort.swap(true, Ordering::Relaxed) {
            self.notice("durability: best effort; this file system cannot sync folders".into());
        }
    }

    /// Notes why a file cannot be stored, and gives it up. One that waited for room when the transfer ended has not
    /// failed: the next run goes on with it.
    pub(super) fn disk_failed(&self, entry: EntryIndex, fault: StoreError) {
        let is_left = matches!(fault, StoreError::NoSpace { .. }) && self.lock().closed;
        // Where it is halted the session is over, and nothing is wrong with the file.
        if is_left || matches!(fault, StoreError::Halted { .. }) {
            return;
        }
        let kind = if matches!(fault, StoreError::Exists { .. }) { FileFault::Exists } else { FileFault::Disk };
        lock(&self.disk_faults).insert(entry, fault);
        self.step(Input::FileFailed { entry, fault: kind });
    }

    /// These chunks are stored where they belong, and have their hash.
    pub(super) fn chunks_ready(&self, chunks: &ChunkSet) {
        self.sink.iter().for_each(|sink| sink.add(chunks));
    }

    /// Counts a file as done and says so.
    pub(super) fn file_done(&self, entry: EntryIndex, root: FileDigest, how: FileOutcome) {
        self.counters.files_done.fetch_add(1, Ordering::Relaxed);
        let Some(listed) = self.listing().entry(entry) else { return };
        let path = listed.path.as_str().to_owned();
        let bytes = listed.file_length().map_or(0, |length| length.0);
        self.links.file_done(entry, &listed.path, root, &how);
        if self.listing().totals().files == 1 {
            *lock(&self.only_root) = Some(root);
        }
        self.observer.event(&Event::FileDone { path, bytes, root, how });
    }

    /// What the transfer as a whole hashes to: the root of its only file, or the manifest's id.
    pub(super) fn root(&self) -> Option<String> {
        let manifest = || self.lock().receiver.manifest().map(|id| id.to_string());
        lock(&self.only_root).map(|root| root.to_string()).or_else(manifest)
    }

    /// A count that rises with everything that is verified, fetched, published or learnt.
    pub(super) fn gained(&self) -> u64 {
        self.counters.gained() + self.lock().receiver.hashes_known()
    }

    /// Whether every file is published or given up, and only the other side does not know it yet.
    pub(super) fn has_everything(&self) -> bool {
        self.lock().receiver.has_everything()
    }

    /// Tells the session which lanes brought something, and that time passed where that matters to it.
    pub(super) fn tick(&self) {
        let mut inner = self.lock();
        let heard = inner.mailboxes.iter_mut().filter_map(|(&lane, mailbox)| mailbox.has_heard().then_some(lane));
        let mut inputs: Vec<Input> = heard.map(|lane| Input::Heard { lane }).collect();
        let now = self.began.elapsed();
        if inner.receiver.wake().is_some_and(|due| due + TICK_SLACK <= now) {
            inputs.push(Input::Tick);
        }
        drop(inner);
        for input in inputs {
            self.step(input);
        }
    }

    /// For how long every lane that owes something has been silent.
    pub(super) fn silence(&self) -> Duration {
        let heard = self.lock().receiver.heard_last();
        heard.map_or(Duration::ZERO, |heard| self.began.elapsed().saturating_sub(heard))
    }

    /// Hands one output on.
    fn route(&self, inner: &mut Inner, output: Output) {
        let (lane, work) = match output {
            Output::Claim { lane, chunk, proof } => (lane, LaneWork::Claim { chunk, proof }),
            Output::CloseLane { lane } => {
                // Its thread may wait for the network, and holds the chunk that is landing until it ends.
                if let Some(mailbox) = inner.mailboxes.get(&lane) {
                    mailbox.abort();
                }
                (lane, LaneWork::Close)
            }
            Output::Discard { lane, chunk } => (lane, LaneWork::Discard { chunk }),
            Output::Place { lane, place, piece, last } => (lane, LaneWork::Place { place, piece, last }),
            Output::Send { lane, message } => (lane, LaneWork::Send(message)),
            Output::Offered => {
                if let Some(listing) = inner.receiver.listing() {
                    // It is complete once, so nothing is there to be replaced.
                    let _ = self.listing.set(renamed(listing, self.settings));
                }
                return self.main.push(MainEvent::Offered);
            }
            other => return self.route_elsewhere(other),
        };
        if let Some(mailbox) = inner.mailboxes.get_mut(&lane) {
            mailbox.put(work);
        }
    }

    fn route_elsewhere(&self, output: Output) {
        match output {
            Output::CheckClaims { entry, chunks } => self.desk.push(DeskJob::CheckClaims { entry, chunks }),
            Output::Compare { entry, root } => self.desk.push(DeskJob::Compare { entry, root }),
            Output::CutOlder { entry } => self.desk.push(DeskJob::CutOlder { entry }),
            Output::Match { entry, outline } => self.desk.push(DeskJob::Match { entry, outline }),
            Output::OpenFile { entry } => self.desk.push(DeskJob::Open { entry }),
            Output::Publish { entry, root } => publisher::gather(self, entry, root),
            Output::MakeLinks { entries } => self.publisher.push(PublishJob::MakeLinks { entries }),
            Output::FinishFolders if self.settings.dry_run => self.main.push(MainEvent::Foreseen),
            Output::FinishFolders => self.publisher.push(PublishJob::FinishFolders),
            Output::FileFailed { entry, fault } => self.file_failed(entry, &fault),
            Output::Granted { grant, lanes } => self.main.push(MainEvent::Granted { grant, lanes }),
            Output::End(end) => self.main.push(MainEvent::End(end)),
            Output::Weigh { entry, chunks } => self.desk.push(DeskJob::Weigh { entry, chunks }),
            // Handed to lanes before this.
            Output::Claim { .. }
            | Output::CloseLane { .. }
            | Output::Discard { .. }
            | Output::Offered
            | Output::Place { .. }
            | Output::Send { .. } => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane's own read gives up first and knows more about why; the tick is for one that waits elsewhere.
const TICK_SLACK: Duration = Duration::from_millis(300);

/// A poisoned lock means that another thread panicked; what it guards is whole between two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
