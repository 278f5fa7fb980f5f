//! From the host to the page: what there is, its digests, its bytes.

use super::calls::{Draft, Fault};
use super::guests::Stay;
use super::site::Site;
use crate::chunk::ChunkIndex;
use crate::digest::DIGEST_BYTES;
use crate::limits::{
    HASH_PAGE_DATA_BYTES, WEB_CHUNK_BYTES_MAX, WEB_DIGESTS_MAX, WEB_HEADER_BYTES_MAX, WEB_LIST_ENTRIES_MAX,
    WEB_RUN_BYTES_MAX, WEB_TURN_WAIT_MAX,
};
use crate::manifest::{Entry, EntryIndex, EntryKind};
use crate::transfer::{Limits, Shelf};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::ops::Range;
use tokio::runtime::Handle;

/// What is offered, in a few words.
pub(super) fn title(shelf: &Shelf) -> String {
    let mut tops = shelf.listing().entries().iter().filter(|entry| !entry.path.as_str().contains('/'));
    let first = tops.next().map(|entry| entry.path.as_str()).unwrap_or_default();
    match tops.count() {
        0 => first.to_owned(),
        more => format!("{first} and {more} more"),
    }
}

/// Entries of the listing, from number `from` on.
pub(super) fn list(shelf: &Shelf, from: u32) -> Result<Draft, Fault> {
    let listing = shelf.listing();
    let rest = listing.entries().get(from as usize..).ok_or_else(Fault::unknown)?;
    let (mut entries, mut bytes, mut next) = (Vec::new(), 0, from);
    for entry in rest.iter().take(WEB_LIST_ENTRIES_MAX) {
        // A character takes six bytes at the most, where JSON has to escape it.
        bytes += 6 * entry.path.as_str().len() + ENTRY_BYTES;
        if bytes > WEB_HEADER_BYTES_MAX - ENTRY_BYTES {
            break;
        }
        entries.push(described(shelf, EntryIndex(next), entry));
        next += 1;
    }
    let is_last = next as usize == listing.entries().len();
    let totals = listing.totals();
    let header = json!({
        "ok": true,
        "id": listing.digest().to_string(),
        "entries": entries,
        "next": if is_last { None } else { Some(next) },
        "files": files_of(shelf),
        "folders": totals.folders,
        "bytes": totals.bytes,
    });
    Ok(Draft::new(&header, 0))
}

/// Digests of chunks of a file, or of as many from the first as are asked for at a time.
pub(super) fn digests(shelf: &Shelf, file: u32, chunks: Range<u32>) -> Result<Draft, Fault> {
    let (entry, first) = first_of(shelf, file, &chunks)?;
    if chunks.end - chunks.start > WEB_DIGESTS_MAX {
        return Err(Fault::new("limit", "too many digests at once"));
    }
    let chunk_bytes = shelf.listing().geometry(entry).map_or(1, |geometry| geometry.chunk_length().0);
    let count = u64::from(chunks.end - chunks.start).min((HASH_PAGE_DATA_BYTES / chunk_bytes).max(1));
    let digests = shelf.digests(first..first + count).map_err(|_| Fault::changed())?;
    let header = json!({ "ok": true, "file": file, "first": chunks.start, "count": digests.len() });
    let mut draft = Draft::new(&header, digests.len() * DIGEST_BYTES);
    for (place, digest) in draft.payload().chunks_exact_mut(DIGEST_BYTES).zip(digests) {
        place.copy_from_slice(&digest.0);
    }
    Ok(draft)
}

/// Bytes of chunks of a file.
pub(super) fn chunks(
    site: &Site,
    shelf: &Shelf,
    stay: &Stay,
    peer: IpAddr,
    file: u32,
    chunks: Range<u32>,
) -> Result<Draft, Fault> {
    let (entry, first) = first_of(shelf, file, &chunks)?;
    let geometry = shelf.listing().geometry(entry).ok_or_else(Fault::unknown)?;
    let bytes = geometry.bytes_between(ChunkIndex(chunks.start), ChunkIndex(chunks.end)).0;
    let most = if chunks.end - chunks.start == 1 { WEB_CHUNK_BYTES_MAX } else { WEB_RUN_BYTES_MAX };
    if bytes > most {
        return Err(Fault::new("limit", "too many bytes at once"));
    }
    // No longer than a page waits for an answer: it would ask again, and what it waited for would be lost.
    match stay.visitor.as_ref().map_or(Limits::Kept, |visitor| visitor.wait_for_limits(bytes, WEB_TURN_WAIT_MAX)) {
        Limits::Kept => {}
        Limits::Late => return Err(Fault::new("busy", "the host's user limits the rate")),
        Limits::Out => return Err(Fault::new("declined", "the host's user declined")),
    }
    // It is given back when the last byte was handed to the system. Whoever waits without end for it could wait for
    // themselves: it may be held by answers that their browser takes only after this one.
    let turn = Handle::current().block_on(site.heavy.enter(peer, WEB_TURN_WAIT_MAX));
    let turn = turn.ok_or_else(|| Fault::new("busy", "the host is sending to as many as it can"))?;
    let header = json!({ "ok": true, "file": file, "first": chunks.start, "count": chunks.end - chunks.start });
    let mut draft = Draft::new(&header, usize::try_from(bytes).map_err(|_| Fault::unknown())?);
    let mut rest = draft.payload();
    for (number, index) in (first..).zip(chunks) {
        let span = geometry.span(ChunkIndex(index)).ok_or_else(Fault::unknown)?;
        let (chunk, further) = rest.split_at_mut(usize::try_from(span.length.0).unwrap_or(usize::MAX));
        shelf.settle(number).map_err(|_| Fault::changed())?;
        shelf.read(entry, ChunkIndex(index), 0..span.length.0, chunk).map_err(|_| Fault::changed())?;
        rest = further;
    }
    if let Some(visitor) = &stay.visitor {
        visitor.sent(bytes, draft.as_ref().len() as u64);
    }
    draft.turn = Some(turn);
    Ok(draft)
}

/// The digest of a file, where it is known.
pub(super) fn root(shelf: &Shelf, file: u32) -> Result<Draft, Fault> {
    let entry = EntryIndex(file);
    shelf.listing().geometry(entry).ok_or_else(Fault::unknown)?;
    let root = shelf.root(entry).map(|root| root.to_string());
    Ok(Draft::new(&json!({ "ok": true, "file": file, "root": root }), 0))
}

/// The page has these files, verified and saved.
pub(super) fn fetched(shelf: &Shelf, stay: &Stay, files: &[u32]) -> Result<Draft, Fault> {
    let listing = shelf.listing();
    if files.iter().any(|&file| listing.entry(EntryIndex(file)).and_then(Entry::file_length).is_none()) {
        return Err(Fault::unknown());
    }
    let has = stay.fetched(files.iter().copied());
    if let Some(visitor) = stay.visitor.as_ref().filter(|_| has == files_of(shelf)) {
        visitor.is_complete();
    }
    Ok(Draft::new(&json!({ "ok": true }), 0))
}

/// How many files there are; links count as files in the listing's totals.
fn files_of(shelf: &Shelf) -> u64 {
    let listing = shelf.listing();
    u64::from(listing.totals().files - listing.links())
}

fn described(shelf: &Shelf, index: EntryIndex, entry: &Entry) -> Value {
    let (path, mtime) = (entry.path.as_str(), entry.modified.seconds());
    match entry.kind {
        EntryKind::File { length } => {
            let root = shelf.root(index).map(|root| root.to_string());
            json!({ "id": index.0, "kind": "file", "path": path, "size": length.0, "mtime": mtime, "root": root })
        }
        EntryKind::Folder => json!({ "id": index.0, "kind": "folder", "path": path, "mtime": mtime }),
        EntryKind::HardLink { .. } | EntryKind::Symlink { .. } => {
            json!({ "id": index.0, "kind": "link", "path": path, "mtime": mtime })
        }
    }
}

/// The file, and the number in the listing of the first of these chunks of it.
fn first_of(shelf: &Shelf, file: u32, chunks: &Range<u32>) -> Result<(EntryIndex, u64), Fault> {
    let entry = EntryIndex(file);
    let geometry = shelf.listing().geometry(entry).ok_or_else(Fault::unknown)?;
    if chunks.is_empty() || chunks.end > geometry.count().0 {
        return Err(Fault::new("request", "the file has no such chunks"));
    }
    Ok((entry, shelf.listing().chunks_of(entry).start + u64::from(chunks.start)))
}

/// What an entry takes in an answer beside its path.
const ENTRY_BYTES: usize = 256;
