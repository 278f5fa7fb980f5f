//! A disk in memory that loses what was not synced, fails any call it is told to, and can be crashed at any point.
//!
//! What a crash leaves is chosen from a seed: each unsynced sector is kept, dropped or garbled on its own, each change
//! of names that no folder sync covered is kept or dropped on its own, and so are lengths, modes and times. A sync that
//! is made to fail forgets: its sectors count as clean and are never written.
#![allow(dead_code)] // Each test binary uses its part.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // Test code, on 64-bit machines.

use haul::manifest::{Mode, Timestamp};
use haul::store::{BootId, Disk, DiskFile, DiskFolder, Durability, Facts, FileKind, Lock, OpenHow, Replace, Space};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR_BYTES: usize = 512;
const TOP: u64 = 1;

/// A disk; its clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk {
    shared: Arc<Mutex<State>>,
    top: SimFolder,
}

/// An open folder of a [`SimDisk`].
#[derive(Clone, Debug)]
pub(crate) struct SimFolder {
    shared: Arc<Mutex<State>>,
    inode: u64,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub(crate) struct SimFile {
    shared: Arc<Mutex<State>>,
    inode: u64,
    handle: u64,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// The device gives up; what a sync was to write is forgotten.
    Eio,
    /// The same, for syncs alone.
    EioOnSync,
    /// The same, for writes alone.
    EioOnWrite,
    /// No room: calls that may need some.
    Enospc,
    /// No room for what was written before, which only the sync finds out.
    EnospcOnSync,
    /// A signal came first: reads, writes and reservations.
    Eintr,
    /// The file system takes no change any more.
    ReadOnly,
    /// Half of a read or write is done.
    Short,
}

/// Random numbers from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Seeded(pub(crate) u64);

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "what file systems offer, each by itself")]
struct State {
    inodes: BTreeMap<u64, Inode>,
    /// Names as the device has them: folder to entries.
    durable_names: BTreeMap<u64, BTreeMap<String, u64>>,
    /// Changes of names that no sync has covered, in order.
    pending: Vec<Change>,
    locks: BTreeMap<u64, BTreeMap<u64, Lock>>,
    /// Files of which a sync of everything lost bytes: Linux tells the next sync of the file, once.
    unseen_errors: BTreeSet<u64>,
    next_inode: u64,
    next_handle: u64,
    capacity: u64,
    boot: BootId,
    syncs_file_system: bool,
    /// Whether names that differ in case alone are one name.
    folds_case: bool,
    /// Whether room can be set aside.
    reserves: bool,
    /// Whether a file can have two names.
    links: bool,
    /// Longest name, in bytes.
    name_bytes_max: usize,
    /// Whether attributes can be set.
    holds_attributes: bool,
    /// What another program puts under the name that the next move is for, just before it.
    rival: Option<Vec<u8>>,
    /// Files and folders that can still be opened.
    descriptors: u64,
    /// Files without names that may be held open; `None` where there are no such files.
    unnamed_max: Option<usize>,
    /// Files that were never given a name.
    unnamed: BTreeSet<u64>,
    calls: u64,
    plan: Option<Plan>,
    hits: u64,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Number of the first call that fails, from 0.
    at: u64,
    failure: Failure,
    /// Whether every later call fails as well.
    lasts: bool,
    /// Whether the power is off from there: nothing has an effect any more, and nothing is forgotten either.
    is_power_cut: bool,
}

#[derive(Clone, Debug)]
struct Inode {
    node: Node,
    meta: Meta,
    durable_meta: Meta,
    links: u64,
    attributes: BTreeMap<String, Vec<u8>>,
    durable_attributes: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Node {
    File {
        cached: Vec<u8>,
        durable: Vec<u8>,
        dirty: BTreeSet<usize>,
    },
    Folder(BTreeMap<String, u64>),
    /// Its text is made together with its inode, which a journal keeps or loses as a whole.
    Link(String),
    Other,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Meta {
    mode: u16,
    modified: Option<Timestamp>,
}

#[derive(Clone, Debug)]
enum Change {
    Linked { folder: u64, name: String, inode: u64 },
    Moved { from: u64, name: String, to: u64, to_name: String, inode: u64 },
    Unlinked { folder: u64, name: String },
}

/// What a call does, as far as that decides which failures it can meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Allocates,
    Looks,
    Moves,
    Reads,
    Reserves,
    Syncs,
    Writes,
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        let folder = Inode::new(Node::Folder(BTreeMap::new()), Meta { mode: 0o755, modified: None }, 2);
        Self::from_state(State {
            inodes: BTreeMap::from([(TOP, folder)]),
            durable_names: BTreeMap::from([(TOP, BTreeMap::new())]),
            pending: Vec::new(),
            locks: BTreeMap::new(),
            unseen_errors: BTreeSet::new(),
            next_inode: TOP + 1,
            next_handle: 0,
            capacity: 1 << 40,
            boot: BootId([1; 16]),
            syncs_file_system: true,
            folds_case: false,
            reserves: true,
            links: true,
            name_bytes_max: 255,
            holds_attributes: true,
            rival: None,
            descriptors: u64::MAX,
            unnamed_max: Some(3),
            unnamed: BTreeSet::new(),
            calls: 0,
            plan: None,
            hits: 0,
        })
    }

    /// A file system whose syncfs(2) cannot be believed.
    pub(crate) fn without_file_system_sync(self) -> Self {
        self.state().syncs_file_system = false;
        self
    }

    /// A file system that looks names up whatever their case.
    pub(crate) fn that_folds_case(self) -> Self {
        self.state().folds_case = true;
        self
    }

    /// A file system that cannot set room aside.
    pub(crate) fn without_reservation(self) -> Self {
        self.state().reserves = false;
        self
    }

    /// A file system where a file has one name.
    pub(crate) fn without_links(self) -> Self {
        self.state().links = false;
        self
    }

    /// A file system where every file has a name.
    pub(crate) fn without_unnamed_files(self) -> Self {
        self.state().unnamed_max = None;
        self
    }

    /// A file system that holds no extended attributes.
    pub(crate) fn without_attributes(self) -> Self {
        self.state().holds_attributes = false;
        self
    }

    /// A file system with a limit of its own for names.
    pub(crate) fn with_names_up_to(self, bytes: usize) -> Self {
        self.state().name_bytes_max = bytes;
        self
    }

    /// From here on, nothing more can be opened, or everything again.
    pub(crate) fn run_out_of_descriptors(&self, is_out: bool) {
        self.state().descriptors = if is_out { 0 } else { u64::MAX };
    }

    /// Just before the next move to a name, another program puts a file there.
    pub(crate) fn put_before_next_move(&self, bytes: &[u8]) {
        self.state().rival = Some(bytes.to_vec());
    }

    /// Lets call number `at` (from 0, counted from here) fail, and all after it if it `lasts`.
    pub(crate) fn fail(&self, at: u64, failure: Failure, lasts: bool) {
        let mut state = self.state();
        state.calls = 0;
        state.hits = 0;
        state.plan = Some(Plan { at, failure, lasts, is_power_cut: false });
    }

    /// Lets everything from call number `at` on (from 0, counted from here) fail without any effect.
    pub(crate) fn stop(&self, at: u64) {
        let mut state = self.state();
        state.calls = 0;
        state.hits = 0;
        state.plan = Some(Plan { at, failure: Failure::Eio, lasts: true, is_power_cut: true });
    }

    /// Ends what [`SimDisk::fail`] or [`SimDisk::stop`] began.
    pub(crate) fn heal(&self) {
        self.state().plan = None;
    }

    /// Calls that failed since the plan was made.
    pub(crate) fn hits(&self) -> u64 {
        self.state().hits
    }

    /// Calls since the plan was made.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// The disk as another process finds it after this one was killed.
    pub(crate) fn after_kill(&self) -> Self {
        let mut state = self.state().clone();
        state.locks.clear();
        state.plan = None;
        for inode in std::mem::take(&mut state.unnamed) {
            state.inodes.remove(&inode);
        }
        Self::from_state(state)
    }

    /// A disk that power loss can leave of this one.
    pub(crate) fn crash(&self, seed: u64) -> Self {
        let mut state = self.state().clone();
        state.crash(&mut Seeded(seed));
        Self::from_state(state)
    }

    /// The content at a path, as any program would read it.
    pub(crate) fn read(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        match &state.inodes.get(&state.walk(path)?)?.node {
            Node::File { cached, .. } => Some(cached.clone()),
            _ => None,
        }
    }

    /// Mode bits and time of last change at a path.
    pub(crate) fn meta(&self, path: &str) -> Option<(u16, Option<Timestamp>)> {
        let state = self.state();
        let meta = state.inodes.get(&state.walk(path)?)?.meta;
        Some((meta.mode, meta.modified))
    }

    /// Extended attributes at a path.
    pub(crate) fn attributes(&self, path: &str) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let inode = state.walk(path).and_then(|inode| state.inodes.get(&inode));
        inode.map(|inode| inode.attributes.clone()).unwrap_or_default()
    }

    /// What the symbolic link at a path holds.
    pub(crate) fn target(&self, path: &str) -> Option<String> {
        let state = self.state();
        match &state.inodes.get(&state.walk(path)?)?.node {
            Node::Link(target) => Some(target.clone()),
            _ => None,
        }
    }

    /// What tells files apart that have one content.
    pub(crate) fn inode(&self, path: &str) -> Option<u64> {
        self.state().walk(path)
    }

    /// Puts a durable file at a path, as if it had been there for long.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let meta = Meta { mode: 0o644, modified: None };
        let node = Node::File { cached: bytes.to_vec(), durable: bytes.to_vec(), dirty: BTreeSet::new() };
        let inode = state.add(Inode::new(node, meta, 1));
        state.entries(TOP).unwrap().insert(name.to_owned(), inode);
        state.durable_names.get_mut(&TOP).unwrap().insert(name.to_owned(), inode);
    }

    /// Every path below the destination, folders with a slash behind them.
    pub(crate) fn paths(&self) -> Vec<String> {
        let state = self.state();
        let mut paths = Vec::new();
        state.collect(TOP, "", &mut paths);
        paths
    }

    /// The path of a partial file, where there is one.
    pub(crate) fn part(&self) -> Option<String> {
        self.paths().into_iter().find(|found| found.rsplit_once('.').is_some_and(|(_, ending)| ending == "part"))
    }

    fn from_state(state: State) -> Self {
        let shared = Arc::new(Mutex::new(state));
        Self { top: SimFolder { shared: Arc::clone(&shared), inode: TOP }, shared }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SimDisk {
    type Folder = SimFolder;

    fn destination(&self) -> &SimFolder {
        &self.top
    }

    fn held_open_max(&self) -> usize {
        self.state().unnamed_max.unwrap_or(0)
    }

    fn boot(&self) -> Option<BootId> {
        Some(self.state().boot)
    }
}

impl SimFolder {
    /// Counts a call and says how it goes: `Ok(true)` where it is to be cut short.
    fn enter(&self, kind: Kind) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        state.enter(kind)?;
        Ok(state)
    }

    fn handle(&self, state: &mut State, inode: u64) -> SimFile {
        state.next_handle += 1;
        SimFile { shared: Arc::clone(&self.shared), inode, handle: state.next_handle }
    }
}

impl DiskFolder for SimFolder {
    type File = SimFile;

    fn facts(&self, name: &str) -> io::Result<Option<Facts>> {
        let mut state = self.enter(Kind::Looks)?;
        state.check_name(name)?;
        let folds = state.folds_case;
        let is_same = |found: &str| found == name || (folds && found.to_lowercase() == name.to_lowercase());
        let found = state.entries(self.inode)?.iter().find(|(found, _)| is_same(found)).map(|(_, &inode)| inode);
        found.map(|inode| state.facts(inode)).transpose()
    }

    fn own_facts(&self) -> io::Result<Facts> {
        self.enter(Kind::Looks)?.facts(self.inode)
    }

    fn open_folder(&self, name: &str) -> io::Result<Self> {
        let mut state = self.enter(Kind::Looks)?;
        state.take_descriptor()?;
        state.check_name(name)?;
        let inode = *state.entries(self.inode)?.get(name).ok_or(ErrorKind::NotFound)?;
        state.entries(inode)?;
        Ok(Self { shared: Arc::clone(&self.shared), inode })
    }

    fn make_folder(&self, name: &str, private: bool) -> io::Result<()> {
        let mut state = self.enter(Kind::Allocates)?;
        state.check_name(name)?;
        if state.entries(self.inode)?.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let meta = Meta { mode: if private { 0o700 } else { 0o755 }, modified: None };
        let inode = state.add(Inode::new(Node::Folder(BTreeMap::new()), meta, 2));
        state.durable_names.insert(inode, BTreeMap::new());
        state.link(self.inode, name, inode)
    }

    fn remove_folder(&self, name: &str) -> io::Result<()> {
        let mut state = self.enter(Kind::Allocates)?;
        let inode = *state.entries(self.inode)?.get(name).ok_or(ErrorKind::NotFound)?;
        if !state.entries(inode)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        state.unlink(self.inode, name)
    }

    fn open_file(&self, name: &str, how: OpenHow) -> io::Result<SimFile> {
        let mut state = self.enter(if how == OpenHow::Create { Kind::Allocates } else { Kind::Looks })?;
        state.take_descriptor()?;
        state.check_name(name)?;
        let found = state.entries(self.inode)?.get(name).copied();
        let inode = match (found, how) {
            (Some(_), OpenHow::Create) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, OpenHow::Create) => {
                let meta = Meta { mode: 0o600, modified: None };
                let node = Node::File { cached: Vec::new(), durable: Vec::new(), dirty: BTreeSet::new() };
                let inode = state.add(Inode::new(node, meta, 0));
                state.link(self.inode, name, inode)?;
                inode
            }
            (None, _) => return Err(ErrorKind::NotFound.into()),
        };
        if matches!(state.inodes[&inode].node, Node::Folder(_)) {
            return Err(ErrorKind::IsADirectory.into());
        }
        if matches!(state.inodes[&inode].node, Node::Link(_)) {
            return Err(io::Error::from_raw_os_error(40));
        }
        Ok(self.handle(&mut state, inode))
    }

    fn open_unnamed(&self) -> io::Result<Option<SimFile>> {
        let mut state = self.enter(Kind::Allocates)?;
        if state.unnamed_max.is_none() {
            return Ok(None);
        }
        state.take_descriptor()?;
        let meta = Meta { mode: 0o600, modified: None };
        let node = Node::File { cached: Vec::new(), durable: Vec::new(), dirty: BTreeSet::new() };
        let inode = state.add(Inode::new(node, meta, 0));
        state.unnamed.insert(inode);
        Ok(Some(self.handle(&mut state, inode)))
    }

    fn give_name(&self, file: &SimFile, name: &str) -> io::Result<()> {
        let mut state = self.enter(Kind::Allocates)?;
        state.check_name(name)?;
        state.meet_rival(self.inode, name)?;
        if state.entries(self.inode)?.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.unnamed.remove(&file.inode);
        state.link(self.inode, name, file.inode)
    }

    fn remove_file(&self, name: &str) -> io::Result<()> {
        let mut state = self.enter(Kind::Allocates)?;
        state.unlink(self.inode, name)
    }

    fn rename(&self, name: &str, to: &Self, to_name: &str, replace: Replace) -> io::Result<()> {
        let mut state = self.enter(Kind::Allocates)?;
        state.check_name(to_name)?;
        let inode = *state.entries(self.inode)?.get(name).ok_or(ErrorKind::NotFound)?;
        state.meet_rival(to.inode, to_name)?;
        if let Some(&there) = state.entries(to.inode)?.get(to_name) {
            if replace == Replace::Never {
                return Err(ErrorKind::AlreadyExists.into());
            }
            if matches!(state.inodes[&there].node, Node::Folder(_)) {
                return Err(ErrorKind::IsADirectory.into());
            }
            // Two names of one file: rename(2) does nothing.
            if there == inode {
                return Ok(());
            }
            state.inodes.get_mut(&there).unwrap().links -= 1;
        }
        state.entries(self.inode)?.remove(name);
        state.entries(to.inode)?.insert(to_name.to_owned(), inode);
        let (from, to, name, to_name) = (self.inode, to.inode, name.to_owned(), to_name.to_owned());
        state.pending.push(Change::Moved { from, name, to, to_name, inode });
        Ok(())
    }

    fn make_symlink(&self, target: &str, name: &str) -> io::Result<()> {
        let mut state = self.enter(Kind::Allocates)?;
        state.check_name(name)?;
        if state.entries(self.inode)?.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let meta = Meta { mode: 0o777, modified: None };
        let inode = state.add(Inode::new(Node::Link(target.to_owned()), meta, 0));
        state.link(self.inode, name, inode)
    }

    fn set_symlink_time(&self, name: &str, modified: Timestamp) -> io::Result<()> {
        let mut state = self.enter(Kind::Moves)?;
        let inode = *state.entries(self.inode)?.get(name).ok_or(ErrorKind::NotFound)?;
        state.set_meta(inode, Mode::masked(0o777), Some(modified));
        Ok(())
    }

    fn read_symlink(&self, name: &str) -> io::Result<String> {
        let mut state = self.enter(Kind::Looks)?;
        let inode = *state.entries(self.inode)?.get(name).ok_or(ErrorKind::NotFound)?;
        match &state.inodes[&inode].node {
            Node::Link(target) => Ok(target.clone()),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    fn link(&self, name: &str, to: &Self, to_name: &str) -> io::Result<bool> {
        let mut state = self.enter(Kind::Allocates)?;
        if !state.links {
            return Ok(false);
        }
        let inode = *state.entries(self.inode)?.get(name).ok_or(ErrorKind::NotFound)?;
        if state.entries(to.inode)?.contains_key(to_name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.link(to.inode, to_name, inode).map(|()| true)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut state = self.enter(Kind::Looks)?;
        Ok(state.entries(self.inode)?.keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<Durability> {
        self.enter(Kind::Syncs)?.sync_folder(self.inode);
        Ok(Durability::Full)
    }

    fn sync_file_system(&self) -> io::Result<bool> {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.syncs_file_system {
            return Ok(false);
        }
        if let Err(error) = state.enter(Kind::Syncs) {
            if !state.is_off() {
                state.forget_all();
            }
            return Err(error);
        }
        state.sync_all();
        Ok(true)
    }

    fn set_attribute(&self, name: &str, value: &[u8]) -> io::Result<()> {
        self.enter(Kind::Allocates)?.set_attribute(self.inode, name, value)
    }

    fn set_meta(&self, mode: Mode, modified: Option<Timestamp>) -> io::Result<()> {
        self.enter(Kind::Moves)?.set_meta(self.inode, mode, modified);
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.enter(Kind::Looks)?;
        Ok(Space { bytes: state.capacity.saturating_sub(state.used()), inodes: u64::MAX })
    }

    fn check_writable(&self) -> io::Result<()> {
        self.enter(Kind::Looks).map(drop)
    }
}

impl SimFile {
    fn enter(&self, kind: Kind) -> io::Result<(MutexGuard<'_, State>, bool)> {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let is_short = state.enter(kind)?;
        Ok((state, is_short))
    }

    fn sync_now(&self) -> io::Result<()> {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let entered = state.enter(Kind::Syncs);
        if entered.is_ok() {
            if state.unseen_errors.remove(&self.inode) {
                return Err(io::Error::from_raw_os_error(5));
            }
            state.sync_file(self.inode);
        } else if !state.is_off() {
            state.forget(self.inode);
        }
        entered.map(drop)
    }
}

impl DiskFile for SimFile {
    fn facts(&self) -> io::Result<Facts> {
        self.enter(Kind::Looks)?.0.facts(self.inode)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, is_short) = self.enter(Kind::Reads)?;
        let (cached, _) = state.file(self.inode)?;
        let start = usize::try_from(offset).unwrap().min(cached.len());
        let mut count = into.len().min(cached.len() - start);
        if is_short && count > 1 {
            count /= 2;
        }
        into[..count].copy_from_slice(&cached[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut state, is_short) = self.enter(Kind::Writes)?;
        let count = if is_short && bytes.len() > 1 { bytes.len() / 2 } else { bytes.len() };
        let start = usize::try_from(offset).unwrap();
        let room = state.capacity.saturating_sub(state.used());
        let (cached, dirty) = state.file(self.inode)?;
        let end = start + count;
        if end > cached.len() {
            if (end - cached.len()) as u64 > room {
                return Err(ErrorKind::StorageFull.into());
            }
            dirty.extend(cached.len() / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
            cached.resize(end, 0);
        }
        cached[start..end].copy_from_slice(&bytes[..count]);
        dirty.extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        Ok(count)
    }

    fn reserve(&self, length: u64) -> io::Result<bool> {
        let (mut state, _) = self.enter(Kind::Reserves)?;
        if !state.reserves {
            return Ok(false);
        }
        let room = state.capacity.saturating_sub(state.used());
        let (cached, dirty) = state.file(self.inode)?;
        let length = usize::try_from(length).unwrap();
        if length > cached.len() {
            if (length - cached.len()) as u64 > room {
                return Err(ErrorKind::StorageFull.into());
            }
            dirty.extend(cached.len() / SECTOR_BYTES..length.div_ceil(SECTOR_BYTES));
            cached.resize(length, 0);
        }
        Ok(true)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<bool> {
        let (mut state, _) = self.enter(Kind::Moves)?;
        let (cached, dirty) = state.file(self.inode)?;
        let (start, length) = (usize::try_from(offset).unwrap(), usize::try_from(length).unwrap());
        let end = (start + length).min(cached.len());
        cached[start..end].fill(0);
        dirty.extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        Ok(true)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let (mut state, _) = self.enter(Kind::Allocates)?;
        let (cached, dirty) = state.file(self.inode)?;
        let length = usize::try_from(length).unwrap();
        let (low, high) = (length.min(cached.len()), length.max(cached.len()));
        cached.resize(length, 0);
        dirty.extend(low / SECTOR_BYTES..high.div_ceil(SECTOR_BYTES));
        Ok(())
    }

    fn set_attribute(&self, name: &str, value: &[u8]) -> io::Result<()> {
        self.enter(Kind::Allocates)?.0.set_attribute(self.inode, name, value)
    }

    fn set_meta(&self, mode: Mode, modified: Option<Timestamp>) -> io::Result<()> {
        self.enter(Kind::Moves)?.0.set_meta(self.inode, mode, modified);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_now()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_now()
    }

    fn lock(&self, lock: Lock) -> io::Result<bool> {
        let (mut state, _) = self.enter(Kind::Looks)?;
        let holders = state.locks.entry(self.inode).or_default();
        let others = holders.iter().filter(|(handle, _)| **handle != self.handle).map(|(_, held)| *held);
        let is_free = match lock {
            Lock::Exclusive => others.count() == 0,
            Lock::Shared => !others.into_iter().any(|held| held == Lock::Exclusive),
        };
        if is_free {
            holders.insert(self.handle, lock);
        }
        Ok(is_free)
    }

    fn drop_cache(&self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).drop_cache(self.inode);
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holders) = state.locks.get_mut(&self.inode) {
            holders.remove(&self.handle);
        }
        if state.unnamed.remove(&self.inode) {
            state.inodes.remove(&self.inode);
        }
    }
}

impl Inode {
    fn new(node: Node, meta: Meta, links: u64) -> Self {
        let none = BTreeMap::new();
        Self { node, meta, durable_meta: meta, links, attributes: none.clone(), durable_attributes: none }
    }
}

impl State {
    /// Counts a call. An error is how it fails; `Ok(true)` has it do half.
    fn enter(&mut self, kind: Kind) -> io::Result<bool> {
        let number = self.calls;
        self.calls += 1;
        let Some(plan) = self.plan else { return Ok(false) };
        if number < plan.at || (number > plan.at && !plan.lasts) {
            return Ok(false);
        }
        let error = match plan.failure {
            Failure::Eio => io::Error::from_raw_os_error(5),
            Failure::EioOnSync if kind == Kind::Syncs => io::Error::from_raw_os_error(5),
            Failure::EioOnWrite if kind == Kind::Writes => io::Error::from_raw_os_error(5),
            Failure::ReadOnly if !matches!(kind, Kind::Looks | Kind::Reads | Kind::Syncs) => {
                ErrorKind::ReadOnlyFilesystem.into()
            }
            Failure::Enospc if matches!(kind, Kind::Allocates | Kind::Reserves | Kind::Syncs | Kind::Writes) => {
                ErrorKind::StorageFull.into()
            }
            Failure::EnospcOnSync if kind == Kind::Syncs => ErrorKind::StorageFull.into(),
            // A call that is always interrupted would never end.
            Failure::Eintr if matches!(kind, Kind::Reads | Kind::Reserves | Kind::Writes) && number == plan.at => {
                ErrorKind::Interrupted.into()
            }
            Failure::Short if matches!(kind, Kind::Reads | Kind::Writes) => {
                self.hits += 1;
                return Ok(true);
            }
            Failure::EioOnSync
            | Failure::EioOnWrite
            | Failure::Enospc
            | Failure::EnospcOnSync
            | Failure::Eintr
            | Failure::ReadOnly
            | Failure::Short => return Ok(false),
        };
        self.hits += 1;
        Err(error)
    }

    fn take_descriptor(&self) -> io::Result<()> {
        if self.descriptors == 0 { Err(io::Error::from_raw_os_error(24)) } else { Ok(()) }
    }

    fn is_off(&self) -> bool {
        self.plan.is_some_and(|plan| plan.is_power_cut)
    }

    fn add(&mut self, inode: Inode) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, inode);
        number
    }

    fn entries(&mut self, folder: u64) -> io::Result<&mut BTreeMap<String, u64>> {
        match self.inodes.get_mut(&folder).map(|inode| &mut inode.node) {
            Some(Node::Folder(entries)) => Ok(entries),
            _ => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, inode: u64) -> io::Result<(&mut Vec<u8>, &mut BTreeSet<usize>)> {
        match self.inodes.get_mut(&inode).map(|inode| &mut inode.node) {
            Some(Node::File { cached, dirty, .. }) => Ok((cached, dirty)),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    fn link(&mut self, folder: u64, name: &str, inode: u64) -> io::Result<()> {
        self.entries(folder)?.insert(name.to_owned(), inode);
        self.inodes.get_mut(&inode).unwrap().links += 1;
        self.pending.push(Change::Linked { folder, name: name.to_owned(), inode });
        Ok(())
    }

    /// Has another program take the name first, where that was asked for.
    fn meet_rival(&mut self, folder: u64, name: &str) -> io::Result<()> {
        let Some(bytes) = self.rival.take() else { return Ok(()) };
        let meta = Meta { mode: 0o644, modified: None };
        let node = Node::File { cached: bytes.clone(), durable: bytes, dirty: BTreeSet::new() };
        let rival = self.add(Inode::new(node, meta, 0));
        self.link(folder, name, rival)
    }

    fn unlink(&mut self, folder: u64, name: &str) -> io::Result<()> {
        let inode = self.entries(folder)?.remove(name).ok_or(ErrorKind::NotFound)?;
        self.inodes.get_mut(&inode).unwrap().links -= 1;
        self.pending.push(Change::Unlinked { folder, name: name.to_owned() });
        Ok(())
    }

    fn facts(&self, inode: u64) -> io::Result<Facts> {
        let found = self.inodes.get(&inode).ok_or(ErrorKind::NotFound)?;
        let (kind, length) = match &found.node {
            Node::File { cached, .. } => (FileKind::File, cached.len() as u64),
            Node::Folder(_) => (FileKind::Folder, 0),
            Node::Link(target) => (FileKind::Link, target.len() as u64),
            Node::Other => (FileKind::Other, 0),
        };
        let is_private = matches!(found.meta.mode & 0o077, 0);
        Ok(Facts { kind, length, identity: (1, inode), links: found.links, is_ours: true, is_private })
    }

    fn set_meta(&mut self, inode: u64, mode: Mode, modified: Option<Timestamp>) {
        let meta = &mut self.inodes.get_mut(&inode).unwrap().meta;
        meta.mode = mode.bits();
        meta.modified = modified.or(meta.modified);
    }

    fn set_attribute(&mut self, inode: u64, name: &str, value: &[u8]) -> io::Result<()> {
        if !self.holds_attributes {
            return Err(ErrorKind::Unsupported.into());
        }
        let inode = self.inodes.get_mut(&inode).unwrap();
        // As on a real one: the bits count, however it was opened.
        if inode.meta.mode & 0o200 == 0 {
            return Err(ErrorKind::PermissionDenied.into());
        }
        inode.attributes.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    fn check_name(&self, name: &str) -> io::Result<()> {
        if name.len() > self.name_bytes_max { Err(io::Error::from_raw_os_error(36)) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.inodes
            .values()
            .map(|inode| if let Node::File { cached, .. } = &inode.node { cached.len() as u64 } else { 0 })
            .sum()
    }

    fn sync_file(&mut self, inode: u64) {
        let inode = self.inodes.get_mut(&inode).unwrap();
        inode.durable_meta = inode.meta;
        inode.durable_attributes.clone_from(&inode.attributes);
        if let Node::File { cached, durable, dirty } = &mut inode.node {
            durable.resize(cached.len(), 0);
            for sector in std::mem::take(dirty) {
                let range = sector_range(sector, cached.len());
                durable[range.clone()].copy_from_slice(&cached[range]);
            }
        }
    }

    /// What counts as clean is read from the device again.
    fn drop_cache(&mut self, inode: u64) {
        if let Some(Node::File { cached, durable, dirty }) = self.inodes.get_mut(&inode).map(|inode| &mut inode.node) {
            for sector in (0..cached.len().div_ceil(SECTOR_BYTES)).filter(|sector| !dirty.contains(sector)) {
                for place in sector_range(sector, cached.len()) {
                    cached[place] = durable.get(place).copied().unwrap_or(0);
                }
            }
        }
    }

    fn forget(&mut self, inode: u64) {
        if let Some(Node::File { dirty, .. }) = self.inodes.get_mut(&inode).map(|inode| &mut inode.node) {
            dirty.clear();
        }
    }

    fn forget_all(&mut self) {
        for (&number, inode) in &self.inodes {
            if matches!(&inode.node, Node::File { dirty, .. } if !dirty.is_empty()) {
                self.unseen_errors.insert(number);
            }
        }
        for inode in self.inodes.keys().copied().collect::<Vec<_>>() {
            self.forget(inode);
        }
    }

    fn sync_folder(&mut self, folder: u64) {
        let inode = self.inodes.get_mut(&folder).unwrap();
        inode.durable_meta = inode.meta;
        inode.durable_attributes.clone_from(&inode.attributes);
        let (covered, rest) = std::mem::take(&mut self.pending).into_iter().partition(|change| change.touches(folder));
        let covered: Vec<Change> = covered;
        self.pending = rest;
        // A journal commits in order: once a move is durable, what made the name that it took away cannot come later.
        self.pending.retain(|change| !covered.iter().any(|move_| move_.supersedes(change)));
        for change in covered {
            change.apply(&mut self.durable_names);
        }
    }

    fn sync_all(&mut self) {
        for inode in self.inodes.keys().copied().collect::<Vec<_>>() {
            self.sync_file(inode);
        }
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable_names);
        }
    }

    fn crash(&mut self, random: &mut Seeded) {
        // Every third crash keeps or drops all names alike: journals commit in order.
        let names = random.below(6);
        for change in std::mem::take(&mut self.pending) {
            if names == 0 || (names > 1 && random.below(2) == 0) {
                change.apply(&mut self.durable_names);
            }
        }
        self.locks.clear();
        self.unnamed.clear();
        self.unseen_errors.clear();
        self.plan = None;
        self.boot = BootId([self.boot.0[0].wrapping_add(1); 16]);
        let names = self.durable_names.clone();
        for (number, inode) in &mut self.inodes {
            if random.below(2) == 0 {
                inode.meta = inode.durable_meta;
                inode.attributes.clone_from(&inode.durable_attributes);
            }
            inode.durable_attributes.clone_from(&inode.attributes);
            inode.durable_meta = inode.meta;
            match &mut inode.node {
                Node::Folder(entries) => entries.clone_from(names.get(number).unwrap_or(&BTreeMap::new())),
                Node::File { cached, durable, dirty } => {
                    let length = if random.below(2) == 0 { cached.len() } else { durable.len() };
                    let mut kept = durable.clone();
                    kept.resize(length, 0);
                    for &sector in dirty.iter() {
                        let range = sector_range(sector, length);
                        match random.below(4) {
                            0 => {}
                            1 => kept[range].fill_with(|| random.next().to_le_bytes()[0]),
                            _ => {
                                let both = range.start..range.end.min(cached.len());
                                if both.start < both.end {
                                    kept[both.clone()].copy_from_slice(&cached[both]);
                                }
                            }
                        }
                    }
                    dirty.clear();
                    cached.clone_from(&kept);
                    *durable = kept;
                }
                Node::Link(_) | Node::Other => {}
            }
        }
        self.count_links();
    }

    fn count_links(&mut self) {
        let mut links: BTreeMap<u64, u64> = BTreeMap::new();
        for entries in self.durable_names.values() {
            for &inode in entries.values() {
                *links.entry(inode).or_default() += 1;
            }
        }
        for (number, inode) in &mut self.inodes {
            inode.links = links.get(number).copied().unwrap_or(0);
        }
        self.inodes.retain(|&number, inode| number == TOP || inode.links > 0);
    }

    fn walk(&self, path: &str) -> Option<u64> {
        path.split('/').try_fold(TOP, |folder, name| match &self.inodes.get(&folder)?.node {
            Node::Folder(entries) => entries.get(name).copied(),
            _ => None,
        })
    }

    fn collect(&self, folder: u64, above: &str, into: &mut Vec<String>) {
        let Some(Node::Folder(entries)) = self.inodes.get(&folder).map(|inode| &inode.node) else { return };
        for (name, inode) in entries {
            let path = format!("{above}{name}");
            if matches!(self.inodes[inode].node, Node::Folder(_)) {
                into.push(format!("{path}/"));
                self.collect(*inode, &format!("{path}/"), into);
            } else {
                into.push(path);
            }
        }
    }
}

impl Change {
    fn touches(&self, folder: u64) -> bool {
        match self {
            Self::Linked { folder: at, .. } | Self::Unlinked { folder: at, .. } => *at == folder,
            Self::Moved { from, to, .. } => *from == folder || *to == folder,
        }
    }

    fn supersedes(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Moved { from, name, inode, .. }, Self::Linked { folder, name: linked, inode: made }) => {
                (from, name, inode) == (folder, linked, made)
            }
            _ => false,
        }
    }

    fn apply(self, names: &mut BTreeMap<u64, BTreeMap<String, u64>>) {
        match self {
            Self::Linked { folder, name, inode } => {
                names.entry(folder).or_default().insert(name, inode);
            }
            Self::Moved { from, name, to, to_name, inode } => {
                let source = names.entry(from).or_default();
                if source.get(&name) == Some(&inode) {
                    source.remove(&name);
                }
                names.entry(to).or_default().insert(to_name, inode);
            }
            Self::Unlinked { folder, name } => {
                names.entry(folder).or_default().remove(&name);
            }
        }
    }
}

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

fn sector_range(sector: usize, length: usize) -> std::ops::Range<usize> {
    (sector * SECTOR_BYTES).min(length)..((sector + 1) * SECTOR_BYTES).min(length)
}
