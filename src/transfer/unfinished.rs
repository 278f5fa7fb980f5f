//! What a folder remembers of a transfer that is not finished, so that it goes on without anybody's help.

use super::engine::Engine;
use super::memory::{Accepted, Memory, Origin};
use super::{Out, ReceiveSettings, Throttle, TransferError, failed};
use crate::chunk::Length;
use crate::codec::Compression;
use crate::printable::printable_path;
use crate::rel_path::{RelPath, WORK_FOLDER};
use crate::secret::{Code, Invitation, Link};
use crate::store::{Disk, PartGlance, RealDisk, Record, RecordGlance, RecordId, Store, StoreError};
use crate::wire::SessionGrant;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Everything unfinished in a folder.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Transfers that can be continued, in the order in which they began.
    pub transfers: Vec<Unfinished>,
    /// What no record tells how to continue.
    pub left_behind: Vec<LeftBehind>,
}

/// A transfer that can be continued.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// Names it in its folder.
    pub id: RecordId,
    /// Name of its first entry, raw.
    pub name: String,
    /// Entries beside that one, not counting what lies in folders.
    pub others: u64,
    /// Files in all.
    pub files: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files that are complete.
    pub files_published: u64,
    /// Verified bytes of files that are not complete.
    pub bytes_kept: u64,
    /// Seconds since 1970 when it began.
    pub began: u64,
    /// Its partial files.
    pub parts: Vec<LeftBehind>,
    memory: Memory,
}

/// A partial file, or something else unfinished that only the link can continue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftBehind {
    /// Where it lies, relative to the folder.
    pub path: PathBuf,
    /// The path that it is to have within the folder, raw, where it says so.
    pub destined: Option<String>,
    /// Bytes of the file that it is to become, or of itself where it does not say; 0 of a record that cannot be read.
    pub bytes: u64,
    /// Verified bytes in it.
    pub bytes_kept: u64,
}

/// What `folder` holds that is not finished. Nothing is locked or changed, so it may be asked while transfers run.
pub fn unfinished(folder: &Path) -> Result<Holdings, TransferError> {
    let unusable = |error: std::io::Error| TransferError::Io {
        what: format!("the folder `{}` cannot be used", printable_path(folder)),
        cause: error.into(),
    };
    if !folder.join(WORK_FOLDER).try_exists().map_err(unusable)? {
        // A folder that holds nothing may be read-only, or not be there: what matters is said by who writes to it.
        return folder.metadata().map_err(unusable).map(|_| Holdings::default());
    }
    let refused = |fault| failed::store("cannot look at what is unfinished", fault);
    let disk = RealDisk::open(folder).map_err(unusable)?;
    let store = Store::open(disk).map_err(refused)?;
    let records = store.glance_at_records().map_err(refused)?;
    let parts = store.glance_at_parts().map_err(refused)?;
    Ok(Holdings::of(records, parts))
}

/// Opens the record that a run continues, and so keeps every other run from it, before anybody is waited for.
pub(super) fn hold<D: Disk>(store: &Store<D>, settings: &ReceiveSettings) -> Result<Option<Record<D>>, TransferError> {
    let Some(id) = settings.resuming else { return Ok(None) };
    let refused = |what: &str, cause: &str| TransferError::Io { what: what.into(), cause: cause.into() };
    match store.reopen_record(id) {
        Ok(Some(record)) => Ok(Some(record)),
        Ok(None) => Err(refused("this transfer is not there any more", "another process completed it")),
        Err(StoreError::Busy { .. }) => Err(refused("this transfer is under way already", "another process has it")),
        Err(fault) => Err(failed::store("the transfer's record cannot be read", fault)),
    }
}

/// What `record` says of the transfer that it belongs to.
pub(super) fn memory_of<D: Disk>(record: &Record<D>) -> Option<Memory> {
    record.contents().ok()?.map(Zeroizing::new).and_then(|bytes| Memory::decode(&bytes))
}

/// What is remembered here of the transfer that `code` began: the code is used up, and its session goes on.
pub(super) fn begun_by<D: Disk>(store: &Store<D>, code: &Code) -> Result<Option<Memory>, StoreError> {
    let records = store.glance_at_records()?;
    let memories = records.iter().filter_map(|record| Memory::decode(record.contents.as_deref()?));
    Ok(memories.into_iter().find(|memory| memory.origin.is_code(code)))
}

/// Writes into `record` what it takes to go on, and forgets earlier offers under the same link: they are not made any
/// more.
pub(super) fn remember<D: Disk>(
    engine: &Engine<'_, D>,
    record: &Record<D>,
    accepted: &Accepted<'_>,
) -> Result<(), StoreError> {
    let began = memory_of(record).map_or_else(now, |earlier| earlier.began);
    record.set_contents(&Memory::of(accepted, engine.settings, began).encode())?;
    for glance in engine.store.glance_at_records()? {
        let memory = glance.contents.as_deref().and_then(|bytes| Memory::decode(bytes));
        let is_same_offer = memory.is_some_and(|memory| memory.origin.is_same(&accepted.origin));
        if is_same_offer && glance.id != record.id() {
            // Where another process has it, that one has the word about it.
            if let Ok(Some(old)) = engine.store.reopen_record(glance.id) {
                old.remove()?;
            }
        }
    }
    Ok(())
}

/// The records of a folder, as one transfer among them sees them.
pub(super) struct Records {
    /// Of other transfers, which go on by themselves.
    others: Vec<Memory>,
    /// Whether there are others that this version cannot read: they may be about anything.
    has_unreadable: bool,
    /// Of earlier offers under the transfer's own link, which it takes the place of.
    superseded: Vec<Memory>,
}

impl Records {
    /// The records in `store` as the transfer `id` sees them, which began with `origin`, as far as that is known.
    pub(super) fn around<D: Disk>(store: &Store<D>, id: RecordId, origin: Option<&Origin>) -> Result<Self, StoreError> {
        let mut records = Self { others: Vec::new(), has_unreadable: false, superseded: Vec::new() };
        for glance in store.glance_at_records()?.into_iter().filter(|glance| glance.id != id) {
            match glance.contents.as_deref().and_then(|bytes| Memory::decode(bytes)) {
                Some(memory) if origin.is_some_and(|origin| memory.origin.is_same(origin)) => {
                    records.superseded.push(memory);
                }
                Some(memory) => records.others.push(memory),
                None => records.has_unreadable = true,
            }
        }
        Ok(records)
    }

    /// All records in `store`, as one that is none of them sees them.
    pub(super) fn around_all<D: Disk>(store: &Store<D>) -> Result<Self, StoreError> {
        // The listing that has this digest is not found.
        Self::around(store, RecordId([0; 16]), None)
    }

    /// Whether what was begun of `path` may belong to another transfer: that one comes back for it.
    pub(super) fn are_others_of(&self, path: &RelPath, length: Length) -> bool {
        self.has_unreadable || self.others.iter().any(|memory| memory.may_have(path, length))
    }

    /// Whether what was begun of `path` is known to be of an offer that is not made any more.
    pub(super) fn are_superseded_of(&self, path: &RelPath, length: Length) -> bool {
        self.superseded.iter().any(|memory| memory.may_have(path, length))
    }
}

impl Holdings {
    /// Whether everything here was pushed, so that its senders have to connect again.
    pub fn is_pushed(&self) -> bool {
        !self.transfers.is_empty() && self.transfers.iter().all(Unfinished::is_pushed)
    }

    /// Whether the offer behind a link or a code can be continued without it.
    pub fn has(&self, invitation: &str) -> bool {
        let Ok(invitation) = Invitation::parse(invitation) else { return false };
        self.transfers.iter().any(|transfer| match &invitation {
            Invitation::Code(code) => transfer.memory.origin.is_code(code),
            Invitation::Link(link) => transfer.memory.origin.is_room(link.room()),
        })
    }

    fn of(records: Vec<RecordGlance>, parts: Vec<PartGlance>) -> Self {
        let mut holdings = Self::default();
        for record in records {
            match record.contents.as_deref().and_then(|bytes| Memory::decode(bytes)) {
                Some(memory) => holdings.transfers.push(Unfinished::of(record.id, record.published, memory)),
                None => holdings.left_behind.push(LeftBehind::record(record.id)),
            }
        }
        holdings.transfers.sort_by_key(|transfer| (transfer.began, transfer.id));
        for part in parts {
            if part.destined.is_none() && !holdings.transfers.is_empty() {
                // A run that stopped while it published leaves one that does not say whose it is; its transfer finds it.
                continue;
            }
            let destined = part.destined.as_ref();
            let may_have = |memory: &Memory| destined.is_some_and(|(path, length)| memory.may_have(path, *length));
            let owner = holdings.transfers.iter_mut().find(|transfer| may_have(&transfer.memory));
            match owner {
                Some(owner) => {
                    owner.bytes_kept += part.claimed;
                    owner.parts.push(LeftBehind::part(part));
                }
                None => holdings.left_behind.push(LeftBehind::part(part)),
            }
        }
        holdings
    }
}

impl Unfinished {
    fn of(id: RecordId, published: u64, memory: Memory) -> Self {
        Self {
            id,
            name: memory.tops.first().cloned().unwrap_or_default(),
            others: memory.tops_total.saturating_sub(1),
            files: memory.files,
            bytes: memory.bytes,
            files_published: published.min(memory.files),
            bytes_kept: 0,
            began: memory.began,
            parts: Vec::new(),
            memory,
        }
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Where its sender may be, best first.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.memory.addresses
    }

    /// Whether its sender connected here: then it goes on when that sender connects again, to `haul receive` in this folder.
    pub fn is_pushed(&self) -> bool {
        matches!(self.memory.origin, Origin::Pushed(_))
    }

    /// How it is continued in the folder that it was found in: by the rules by which it was accepted, and waiting for its
    /// sender for as long as `retry_for` says, or without limit.
    pub fn settings(&self, folder: &Path, retry_for: Option<Duration>) -> ReceiveSettings {
        let memory = &self.memory;
        let invitation = match &memory.origin {
            // The record itself says how it goes on.
            Origin::Code(_) => Zeroizing::default(),
            Origin::Link(link) | Origin::Pushed(link) => {
                let now = Link::new(&memory.addresses, link.room(), link.key().clone());
                now.as_ref().unwrap_or(link).to_text()
            }
        };
        ReceiveSettings {
            invitation,
            at: Vec::new(),
            into: folder.to_owned(),
            conflict: memory.conflict,
            read_back: memory.read_back,
            lanes: memory.lanes,
            retry_for,
            wait_for_host: true,
            allow_hidden: memory.allow_hidden,
            state_dir: None,
            resuming: Some(self.id),
            expect: None,
            symlinks: memory.symlinks,
            attributes: memory.attributes,
            compress: Compression::Auto,
            dry_run: false,
            out: self.name_here().map(Out::Name),
            throttle: Throttle::default(),
        }
    }

    /// The name that its only file gets, which need not be the one that it is offered by.
    fn name_here(&self) -> Option<RelPath> {
        let is_one = self.files == 1 && self.others == 0;
        is_one.then(|| RelPath::parse(&self.name).ok()).flatten()
    }

    /// The session that its sender knew it by, if it came to that.
    pub fn session(&self) -> Option<SessionGrant> {
        self.memory.grant()
    }
}

impl LeftBehind {
    fn record(id: RecordId) -> Self {
        let path = Path::new(WORK_FOLDER).join(format!("{id}.done"));
        Self { path, destined: None, bytes: 0, bytes_kept: 0 }
    }

    fn part(part: PartGlance) -> Self {
        let path = Path::new(WORK_FOLDER).join(part.name);
        let bytes = part.destined.as_ref().map_or(part.bytes, |(_, length)| length.0);
        let destined = part.destined.map(|(path, _)| path.as_str().to_owned());
        Self { path, destined, bytes, bytes_kept: part.claimed }
    }
}

fn now() -> u64 {
    // A clock before 1970 is wrong; what is shown of it is then, too.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
