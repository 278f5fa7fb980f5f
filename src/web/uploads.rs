//! From the page to the host: batches of files, offered, asked for piece by piece, and taken.

use super::calls::{Draft, Fault};
use super::guests::Token;
use super::site::Site;
use crate::chunk::Length;
use crate::digest::{ChunkDigest, DIGEST_BYTES};
use crate::limits::{
    FILE_BYTES_MAX, LISTING_BYTES_MAX, WEB_BATCH_FILES_MAX, WEB_CHUNK_BYTES_MAX, WEB_DRAFTS_BYTES_MAX,
    WEB_OFFER_FILES_MAX, WEB_PAGES_MAX,
};
use crate::rel_path::RelPath;
use crate::transfer::{Delivery, HandedFile, Inbox, NotPosted, NotTaken, Posted};
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A file, as a page offers it.
#[derive(Debug, Deserialize)]
pub(super) struct Offered {
    path: String,
    size: u64,
    #[serde(default)]
    mtime: i64,
}

/// Batches whose files are not all named yet.
#[derive(Debug, Default)]
pub(super) struct Drafts(Mutex<HashMap<Token, Named>>);

/// The files of one that are named.
#[derive(Debug)]
struct Named {
    since: Instant,
    files: Vec<HandedFile>,
    /// What they take in a listing.
    bytes: u64,
}

/// Takes the names of files; with the last of them the batch is on its way.
pub(super) fn offer(
    site: &Site,
    inbox: &Inbox,
    peer: SocketAddr,
    batch: Token,
    from: u32,
    files: Vec<Offered>,
    more: bool,
) -> Result<Draft, Fault> {
    if let Some(posted) = inbox.find(&batch) {
        // It was said before, and the answer was lost.
        return Ok(Draft::new(&json!({ "ok": true, "files": posted.parcel.files() }), 0));
    }
    if files.len() > WEB_OFFER_FILES_MAX {
        return Err(Fault::new("limit", format!("more than {WEB_OFFER_FILES_MAX} files in one call")));
    }
    let files: Vec<HandedFile> = files.into_iter().map(handed).collect::<Result<_, _>>()?;
    let named = site.drafts.add(batch, from as usize, files)?;
    if !more {
        let outcome = inbox.post(batch, &site.drafts.listed(&batch), peer);
        // Where it is busy the page says the last of it again, and the rest has to be there still.
        if outcome != Err(NotPosted::Busy) {
            site.drafts.forget(&batch);
        }
        outcome.map_err(|fault| match fault {
            NotPosted::Busy => Fault::new("busy", fault.to_string()),
            NotPosted::Files(_) => Fault::new("request", fault.to_string()),
        })?;
    }
    Ok(Draft::new(&json!({ "ok": true, "files": named }), 0))
}

/// What the page is to do, once there is something.
pub(super) fn wants(inbox: &Inbox, batch: Token) -> Result<Draft, Fault> {
    let Posted { parcel, .. } = find(inbox, &batch)?;
    let wants = parcel.wants(LONG_POLL);
    let (state, text) = match wants.delivery {
        Delivery::Asking => ("asking", String::new()),
        Delivery::Complete { failed: 0 } => ("complete", String::new()),
        Delivery::Complete { failed } => ("complete", format!("{failed} of the files failed there")),
        Delivery::Failed { text } => ("failed", text),
        Delivery::Refused => ("refused", "the other side declined".to_owned()),
        Delivery::Sending => ("sending", String::new()),
    };
    let header = json!({
        "ok": true,
        "state": state,
        "text": text,
        "digests": wants.digests,
        "chunks": wants.chunks,
        "held_bytes": wants.held_bytes,
        "total_bytes": parcel.total_bytes(),
    });
    Ok(Draft::new(&header, 0))
}

/// Takes digests of chunks: of so many of a file, from one on.
pub(super) fn hashed(inbox: &Inbox, batch: Token, runs: &[(u32, u32, u32)], payload: &[u8]) -> Result<Draft, Fault> {
    let Posted { parcel, .. } = find(inbox, &batch)?;
    let (mut digests, rest) = payload.as_chunks::<DIGEST_BYTES>();
    let count: u64 = runs.iter().map(|&(_, _, count)| u64::from(count)).sum();
    if digests.len() as u64 != count || !rest.is_empty() {
        return Err(Fault::new("request", "there are not as many digests as are said to be"));
    }
    for &(file, first, count) in runs {
        let (these, others) = digests.split_at(count as usize);
        let these: Vec<ChunkDigest> = these.iter().copied().map(ChunkDigest).collect();
        taken(parcel.hashed(file, first, &these))?;
        digests = others;
    }
    taken(Ok(()))
}

/// Takes chunks, and says which of them are not what their digests say.
pub(super) fn put(inbox: &Inbox, batch: Token, chunks: &[(u32, u32)], payload: &[u8]) -> Result<Draft, Fault> {
    let posted = find(inbox, &batch)?;
    let other = || Fault::new("request", "the bytes are not those of these chunks of the batch");
    let (mut rest, mut differ) = (payload, Vec::new());
    for &(file, index) in chunks {
        let length = posted.parcel.chunk_bytes(file, index).and_then(|bytes| usize::try_from(bytes).ok());
        let (bytes, others) = length.and_then(|length| rest.split_at_checked(length)).ok_or_else(other)?;
        match posted.parcel.put(file, index, bytes, |number| posted.known_digest(number)) {
            Ok(()) => {}
            Err(NotTaken::Digest) => differ.push((file, index)),
            Err(NotTaken::Unknown) => return Err(other()),
        }
        rest = others;
    }
    if rest.is_empty() { Ok(Draft::new(&json!({ "ok": true, "differ": differ }), 0)) } else { Err(other()) }
}

/// The page cannot read a file any more.
pub(super) fn unreadable(inbox: &Inbox, batch: Token, file: u32) -> Result<Draft, Fault> {
    taken(find(inbox, &batch)?.parcel.unreadable(file))
}

/// The page's user does not want to send it.
pub(super) fn cancel(inbox: &Inbox, batch: Token) -> Result<Draft, Fault> {
    find(inbox, &batch)?.parcel.cancel();
    taken(Ok(()))
}

impl Drafts {
    /// Adds files from place `from` on, and says how many there are.
    fn add(&self, batch: Token, from: usize, files: Vec<HandedFile>) -> Result<usize, Fault> {
        let mut drafts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.retain(|_, named| named.since.elapsed() < DRAFT_IDLE_MAX);
        if drafts.len() >= WEB_PAGES_MAX && !drafts.contains_key(&batch) {
            return Err(Fault::new("busy", "too many are sending at once"));
        }
        let of_others: u64 = drafts.iter().filter(|(name, _)| **name != batch).map(|(_, named)| named.bytes).sum();
        let named = drafts.entry(batch).or_insert_with(|| Named { since: Instant::now(), files: Vec::new(), bytes: 0 });
        named.since = Instant::now();
        if from > named.files.len() {
            return Err(Fault::new("request", "files before these are not named yet"));
        }
        // What was said before is said again.
        named.files.truncate(from);
        named.bytes = listing_bytes(&named.files);
        let bytes = named.bytes + listing_bytes(&files);
        if named.files.len() + files.len() > WEB_BATCH_FILES_MAX {
            return Err(Fault::new("limit", format!("more than {WEB_BATCH_FILES_MAX} files at once")));
        }
        if bytes > LISTING_BYTES_MAX {
            return Err(Fault::new("limit", "the names of the files are too long, all together"));
        }
        if of_others + bytes > WEB_DRAFTS_BYTES_MAX {
            return Err(Fault::new("busy", "too many are sending at once"));
        }
        named.files.extend(files);
        named.bytes = bytes;
        Ok(named.files.len())
    }

    fn listed(&self, batch: &Token) -> Vec<HandedFile> {
        let drafts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.get(batch).map(|named| named.files.clone()).unwrap_or_default()
    }

    fn forget(&self, batch: &Token) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(batch);
    }
}

/// What so many files take in a listing: as [`LISTING_BYTES_MAX`] counts it.
fn listing_bytes(files: &[HandedFile]) -> u64 {
    files.iter().map(|file| file.path.as_str().len() as u64 + 32).sum()
}

fn handed(Offered { path, size, mtime }: Offered) -> Result<HandedFile, Fault> {
    let path = RelPath::parse(&path).map_err(|fault| Fault::new("request", format!("a name is refused: {fault}")))?;
    if size > FILE_BYTES_MAX {
        return Err(Fault::new("limit", "a file is longer than any that is taken"));
    }
    if size > LENGTH_MAX {
        return Err(Fault::new("limit", "a file is longer than a page can send"));
    }
    Ok(HandedFile { path, length: Length(size), modified: mtime })
}

fn find(inbox: &Inbox, batch: &Token) -> Result<Posted, Fault> {
    inbox.find(batch).ok_or_else(|| Fault::new("unknown", "there is no such batch"))
}

fn taken(outcome: Result<(), NotTaken>) -> Result<Draft, Fault> {
    let taken = outcome.map(|()| Draft::new(&json!({ "ok": true }), 0));
    taken.map_err(|_| Fault::new("request", "the batch has no such file or chunk"))
}

/// How long a page waits for something to do.
const LONG_POLL: Duration = Duration::from_secs(5);
/// How long a batch may take to be named.
const DRAFT_IDLE_MAX: Duration = Duration::from_secs(600);
/// Longest file whose chunks fit into a call.
const LENGTH_MAX: u64 = 16_384 * WEB_CHUNK_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fill_the_memory_are_not_taken() {
        let drafts = Drafts::default();
        let path = RelPath::parse(&vec!["a".repeat(250); 16].join("/")).unwrap();
        let most = usize::try_from(LISTING_BYTES_MAX / (path.as_str().len() as u64 + 32)).unwrap();
        let files = |count| vec![HandedFile { path: path.clone(), length: Length(0), modified: 0 }; count];
        assert_eq!(drafts.add([1; 16], 0, files(most + 1)).unwrap_err().code(), "limit");
        assert_eq!(drafts.add([1; 16], 0, files(most)).unwrap(), most);
        assert_eq!(drafts.add([1; 16], most, files(1)).unwrap_err().code(), "limit");
        assert_eq!(drafts.add([1; 16], most - 1, files(1)).unwrap(), most, "saying it again takes no more");
        assert_eq!(drafts.add([2; 16], 0, files(most)).unwrap(), most);
        assert_eq!(drafts.add([3; 16], 0, files(most)).unwrap_err().code(), "busy");
        drafts.forget(&[1; 16]);
        assert_eq!(drafts.add([3; 16], 0, files(most)).unwrap(), most);
    }
}
