//! The stream that a file is written to as it comes: its chunks in order, each only once it is verified.
//!
//! Who reads the stream may stop reading for as long as they like. So a thread of its own writes, which nobody waits for
//! once the transfer is over, and no chunk is asked for that lies far beyond what was written.

use super::engine::{Engine, lock};
use super::work::MainEvent;
use super::{FileOutcome, TransferError};
use crate::chunk::ChunkIndex;
use crate::chunk_set::ChunkSet;
use crate::digest::FileDigest;
use crate::limits::STREAM_AHEAD_BYTES;
use crate::manifest::{EntryIndex, VerifiedChunk};
use crate::session::Input;
use crate::store::{Disk, SingleFile};
use std::io::{self, Write};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

/// The only entry of an offer that is streamed.
const ENTRY: EntryIndex = EntryIndex(0);

/// Where the stream goes, for all sessions of a run.
#[derive(Debug)]
pub(super) struct Sink {
    jobs: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Chunks that are stored and verified.
    ready: ChunkSet,
    /// Nothing more comes of this session.
    is_closed: bool,
    /// Something was written, or is about to be.
    has_begun: bool,
    /// Everything was written.
    is_written: bool,
    /// What became of the last write, with its buffer.
    written: Option<(Vec<u8>, io::Result<()>)>,
}

/// Why no more is written.
enum Ended {
    /// The session is over.
    Closed,
    Refused(io::Error),
}

impl Sink {
    pub(super) fn new(mut out: Box<dyn Write + Send>) -> Result<Self, TransferError> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let (jobs, waiting) = mpsc::sync_channel::<Vec<u8>>(1);
        let writer = Arc::clone(&shared);
        let write = move || {
            for buffer in waiting {
                let outcome = out.write_all(&buffer).and_then(|()| out.flush());
                lock(&writer.state).written = Some((buffer, outcome));
                writer.changed.notify_all();
            }
        };
        let spawned = thread::Builder::new().name("haul stream".into()).spawn(write);
        spawned.map_err(|error| TransferError::Io { what: "cannot start a thread".into(), cause: error.into() })?;
        Ok(Self { jobs, shared })
    }

    /// A session begins, which knows of no chunk yet.
    pub(super) fn begin(&self) {
        let mut state = lock(&self.shared.state);
        (state.ready, state.is_closed) = (ChunkSet::new(), false);
    }

    /// Whether anything was written, so that another offer cannot take this one's place any more.
    pub(super) fn has_begun(&self) -> bool {
        lock(&self.shared.state).has_begun
    }

    /// These chunks are stored and verified.
    pub(super) fn add(&self, ready: &ChunkSet) {
        lock(&self.shared.state).ready.union(ready);
        self.shared.changed.notify_all();
    }

    /// Lets everybody who waits go.
    pub(super) fn close(&self) {
        lock(&self.shared.state).is_closed = true;
        self.shared.changed.notify_all();
    }

    /// Waits until everything was written. False where that does not happen any more.
    pub(super) fn wait_until_written(&self) -> bool {
        self.wait(|state| state.is_written.then_some(())).is_ok()
    }

    fn finish(&self) {
        lock(&self.shared.state).is_written = true;
        self.shared.changed.notify_all();
    }

    fn wait_for(&self, chunk: u64) -> Result<(), Ended> {
        self.wait(|state| state.ready.contains(chunk).then_some(()))
    }

    /// Writes a buffer and returns it once whoever reads the stream has taken it.
    fn write(&self, buffer: Vec<u8>) -> Result<Vec<u8>, Ended> {
        lock(&self.shared.state).has_begun = true;
        // The thread that takes it ends with this value.
        let _ = self.jobs.send(buffer);
        let (buffer, outcome) = self.wait(|state| state.written.take())?;
        outcome.map_err(Ended::Refused).map(|()| buffer)
    }

    fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> Result<T, Ended> {
        let mut state: MutexGuard<'_, State> = lock(&self.shared.state);
        loop {
            if state.is_closed {
                return Err(Ended::Closed);
            }
            if let Some(found) = look(&mut state) {
                return Ok(found);
            }
            state = self.shared.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// Writes the chunks of a partial file in order, as they are verified. A file of one chunk comes whole, when it would be
/// published.
pub(super) fn run_sink<D: Disk>(engine: &Engine<'_, D>, sink: &Sink) {
    let Some(geometry) = engine.listing().geometry(ENTRY).filter(|geometry| !geometry.is_single()) else { return };
    let ahead = (STREAM_AHEAD_BYTES / geometry.chunk_length().0).max(1);
    engine.step(Input::Reach { chunks: ahead });
    let mut buffer = Vec::new();
    for index in (0..geometry.count().0).map(ChunkIndex) {
        if sink.wait_for(u64::from(index.0)).is_err() {
            return;
        }
        let partial = lock(&engine.partials).get(&ENTRY).map(|open| Arc::clone(&open.file));
        // It failed meanwhile.
        let Some(partial) = partial else { return };
        let mut ended = None;
        let read = partial.read_claimed(index, &mut buffer, &mut |bytes| match sink.write(std::mem::take(bytes)) {
            Ok(back) => {
                *bytes = back;
                true
            }
            Err(reason) => {
                ended = Some(reason);
                false
            }
        });
        if let Err(fault) = read {
            engine.disk_failed(ENTRY, fault);
            return;
        }
        match ended {
            None => engine.step(Input::Reach { chunks: u64::from(index.0) + 1 + ahead }),
            Some(reason) => return give_up(engine, reason),
        }
    }
    sink.finish();
}

/// In place of the publication of a large file: all of it was written, and adds up to `root`, so it need not be kept.
pub(super) fn complete<D: Disk>(engine: &Engine<'_, D>, sink: &Sink, entry: EntryIndex, root: FileDigest) {
    if !sink.wait_until_written() {
        return;
    }
    let Some(partial) = lock(&engine.partials).remove(&entry) else { return };
    let sealed = partial.file.seal(root);
    drop(partial);
    match sealed.and_then(|sealed| engine.store.discard(sealed)) {
        Ok(()) => done(engine, entry, root),
        Err(fault) => engine.disk_failed(entry, fault),
    }
}

/// The same for a file of one chunk or none, which is written as well.
pub(super) fn complete_single<D: Disk>(
    engine: &Engine<'_, D>,
    sink: &Sink,
    (entry, root): (EntryIndex, FileDigest),
    single: Option<(SingleFile<D>, VerifiedChunk)>,
) {
    let Some((file, proof)) = single else { return done(engine, entry, root) };
    match file.read(proof) {
        Err(fault) => engine.disk_failed(entry, fault),
        Ok(bytes) => match sink.write(bytes) {
            Ok(_) => done(engine, entry, root),
            Err(reason) => give_up(engine, reason),
        },
    }
}

fn done<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, root: FileDigest) {
    engine.file_done(entry, root, FileOutcome::Published);
    engine.step(Input::FilePublished { entry });
}

/// Nobody takes any more of it: the transfer ends, and keeps what it has.
fn give_up<D: Disk>(engine: &Engine<'_, D>, reason: Ended) {
    let Ended::Refused(error) = reason else { return };
    let error = match error.kind() {
        io::ErrorKind::BrokenPipe => TransferError::ReaderGone,
        _ => TransferError::Io { what: "cannot write to standard output".into(), cause: error.into() },
    };
    engine.main.push(MainEvent::Failed(error));
}
