//! Files as the browser itself, `curl` or `aria2c` downloads them: by addresses that nobody can guess and that expire.

use super::access::only;
use super::calls::{Draft, Fault};
use super::connection::Caller;
use super::guests::{Counted, Stay};
use super::headers::{set, short};
use super::range::{Wanted, wanted};
use super::routes::{Answer, too_many, turn_away, whole, wrong_method};
use super::site::Site;
use super::zip::Zip;
use crate::chunk::ChunkIndex;
use crate::limits::{MIB, WEB_CAPABILITIES_MAX, WEB_CAPABILITIES_PER_PAGE_MAX, WEB_CAPABILITY_IDLE_MAX};
use crate::manifest::EntryIndex;
use crate::transfer::{Limits, Shelf, SourceChanged, Welcome};
use crate::transport::random_bytes;
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::json;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

/// The addresses that were given out.
#[derive(Debug, Default)]
pub(super) struct Capabilities(Mutex<HashMap<[u8; 16], Capability>>);

#[derive(Clone, Debug)]
struct Capability {
    stay: Arc<Stay>,
    thing: Arc<Thing>,
    used: Instant,
}

/// What is downloaded.
#[derive(Debug)]
struct Thing {
    what: What,
    length: u64,
    name: String,
    etag: String,
    modified: i64,
}

#[derive(Debug)]
enum What {
    File { shelf: Shelf, entry: EntryIndex },
    Zip(Zip),
}

/// Gives out an address for one file, or for several as a zip; for everything where neither is named.
pub(super) fn open(
    site: &Site,
    shelf: &Shelf,
    stay: &Arc<Stay>,
    file: Option<u32>,
    zip: Option<&[u32]>,
) -> Result<Draft, Fault> {
    let thing = match file {
        Some(file) => Thing::file(shelf, EntryIndex(file))?,
        None => Thing::zip(shelf, zip)?,
    };
    let (length, name) = (thing.length, thing.name.clone());
    let cap = site.capabilities.give(stay, thing)?;
    let url = format!("/d/{}/{}", BASE32_NOPAD.encode(&cap), percent_encoded(&name));
    Ok(Draft::new(&json!({ "ok": true, "url": url, "size": length }), 0))
}

/// Answers `/d/REST`.
pub(super) async fn serve(site: &Arc<Site>, caller: &Arc<Caller>, request: &Request<Incoming>, rest: &str) -> Answer {
    let found = rest.split_once('/').and_then(|(cap, name)| {
        let is_one = cap.len() == 26 && !name.contains('/');
        is_one.then(|| BASE32_NOPAD.decode(cap.as_bytes()).ok()).flatten()
    });
    let found = found.and_then(|cap| site.capabilities.find(&cap));
    let Some(Capability { stay, thing, .. }) = found else { return turn_away(site, caller).await };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return wrong_method("GET, HEAD");
    }
    if stay.visitor.as_ref().is_some_and(|visitor| visitor.welcome() != Welcome::In) {
        return short(StatusCode::FORBIDDEN, "403: the host's user declined\n");
    }
    if !caller.let_in(site) {
        return too_many();
    }
    let mut answer = match thing.conditions(request.method(), request.headers()) {
        Condition::Failed => short(StatusCode::PRECONDITION_FAILED, "412\n"),
        Condition::NotModified => {
            let mut answer = Response::new(whole(Bytes::new()));
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer
        }
        Condition::Go(Wanted::Nothing) => {
            let mut answer = short(StatusCode::RANGE_NOT_SATISFIABLE, "416\n");
            set(answer.headers_mut(), CONTENT_RANGE, &format!("bytes */{}", thing.length));
            answer
        }
        Condition::Go(wanted) => {
            let is_head = request.method() == Method::HEAD;
            let turn = if is_head { None } else { turn(site, &stay) };
            if turn.is_none() && !is_head {
                return too_many();
            }
            content(&thing, wanted, turn, &stay)
        }
    };
    thing.describe(answer.headers_mut());
    answer
}

/// The right to download: of all downloads, and of those of its page.
type Turn = (OwnedSemaphorePermit, Counted);

fn turn(site: &Site, stay: &Arc<Stay>) -> Option<Turn> {
    Some((Arc::clone(&site.downloads).try_acquire_owned().ok()?, stay.download()?))
}

/// The answer with all or a part of the content, or only its headers where it is not its turn for more.
fn content(thing: &Arc<Thing>, wanted: Wanted, turn: Option<Turn>, stay: &Arc<Stay>) -> Answer {
    let (status, part) = match wanted {
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Nothing | Wanted::Whole => (StatusCode::OK, 0..thing.length),
    };
    let body = match turn {
        Some(turn) if !part.is_empty() => {
            let (sender, body) = Channel::new(PIECES_AHEAD);
            let (thing, stay, part) = (Arc::clone(thing), Arc::clone(stay), part.clone());
            spawn_blocking(move || pour(&thing, part, sender, &stay, turn));
            body.boxed_unsync()
        }
        _ => whole(Bytes::new()),
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    set(headers, CONTENT_LENGTH, &(part.end - part.start).to_string());
    set(headers, CONTENT_TYPE, thing.content_type());
    if status == StatusCode::PARTIAL_CONTENT {
        set(headers, CONTENT_RANGE, &format!("bytes {}-{}/{}", part.start, part.end - 1, thing.length));
    }
    answer
}

/// Sends a part piece by piece. Where the source changes the connection breaks: a short answer could pass for a whole one.
fn pour(
    thing: &Thing,
    part: Range<u64>,
    mut sender: http_body_util::channel::Sender<Bytes, io::Error>,
    stay: &Arc<Stay>,
    turn: Turn,
) {
    let runtime = Handle::current();
    let mut at = part.start;
    while at < part.end {
        let length = (part.end - at).min(PIECE_BYTES);
        let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
        let may_go =
            stay.visitor.as_ref().is_none_or(|visitor| visitor.wait_for_limits(length, Duration::MAX) == Limits::Kept);
        if !may_go || thing.read(at, &mut piece).is_err() {
            sender.abort(io::Error::other("the source changed, or the user declined"));
            return;
        }
        if runtime.block_on(sender.send_data(Bytes::from(piece))).is_err() {
            return;
        }
        if let Some(visitor) = &stay.visitor {
            visitor.sent(length, length);
        }
        stay.heard(1);
        at += length;
    }
    drop(turn);
}

/// What the conditions of a request say.
enum Condition {
    Failed,
    Go(Wanted),
    NotModified,
}

impl Capabilities {
    fn give(&self, stay: &Arc<Stay>, thing: Thing) -> Result<[u8; 16], Fault> {
        let cap = *random_bytes().map_err(|_| Fault::new("busy", "this machine gave no random numbers"))?;
        let mut given = self.lock();
        given.retain(|_, capability| capability.used.elapsed() < WEB_CAPABILITY_IDLE_MAX);
        // The same thing under several addresses is there once: a zip of many files takes memory.
        let same = given.values().find(|had| had.thing.is(&thing));
        let thing = same.map_or_else(|| Arc::new(thing), |had| Arc::clone(&had.thing));
        let of_page = given.values().filter(|had| had.stay.token == stay.token).count();
        let is_full = of_page >= WEB_CAPABILITIES_PER_PAGE_MAX;
        if is_full || given.len() >= WEB_CAPABILITIES_MAX {
            let may_go = given.iter().filter(|(_, had)| !is_full || had.stay.token == stay.token);
            let oldest = may_go.min_by_key(|(_, had)| had.used).map(|(&cap, _)| cap);
            oldest.and_then(|oldest| given.remove(&oldest));
        }
        given.insert(cap, Capability { stay: Arc::clone(stay), thing, used: Instant::now() });
        Ok(cap)
    }

    /// What an address stands for. It is good for longer by that.
    fn find(&self, cap: &[u8]) -> Option<Capability> {
        let cap: [u8; 16] = cap.try_into().ok()?;
        let mut given = self.lock();
        let capability =
            given.get_mut(&cap).filter(|capability| capability.used.elapsed() < WEB_CAPABILITY_IDLE_MAX)?;
        capability.used = Instant::now();
        Some(capability.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Capability>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Thing {
    fn file(shelf: &Shelf, entry: EntryIndex) -> Result<Self, Fault> {
        let listed = shelf.listing().entry(entry).ok_or_else(Fault::unknown)?;
        let length = listed.file_length().ok_or_else(Fault::unknown)?.0;
        Ok(Self {
            length,
            name: listed.path.name().to_owned(),
            etag: etag(&shelf.stamp(entry)),
            modified: listed.modified.seconds(),
            what: What::File { shelf: shelf.clone(), entry },
        })
    }

    fn zip(shelf: &Shelf, files: Option<&[u32]>) -> Result<Self, Fault> {
        let zip = Zip::of(shelf, files).ok_or_else(Fault::unknown)?;
        let top = shelf.listing().entries().first().map(|entry| entry.path.as_str()).unwrap_or_default();
        Ok(Self {
            length: zip.length(),
            name: format!("{top}.zip"),
            etag: etag(zip.stamp()),
            modified: zip.modified(),
            what: What::Zip(zip),
        })
    }

    /// Whether it is the same, in the same state.
    fn is(&self, other: &Self) -> bool {
        let is_same = match (&self.what, &other.what) {
            (What::File { entry, .. }, What::File { entry: others, .. }) => entry == others,
            (What::Zip(zip), What::Zip(others)) => zip.stamp() == others.stamp(),
            _ => false,
        };
        is_same && self.etag == other.etag
    }

    fn content_type(&self) -> &'static str {
        match self.what {
            What::File { .. } => "application/octet-stream",
            What::Zip(_) => "application/zip",
        }
    }

    fn conditions(&self, method: &Method, headers: &HeaderMap) -> Condition {
        let is_failed = if headers.contains_key(IF_MATCH) {
            !only(headers, &IF_MATCH).is_some_and(|list| names(list, &self.etag))
        } else {
            only(headers, &IF_UNMODIFIED_SINCE).is_some_and(|date| self.is_younger_than(date))
        };
        if is_failed {
            return Condition::Failed;
        }
        if only(headers, &IF_NONE_MATCH).is_some_and(|list| names(list, &self.etag)) {
            return Condition::NotModified;
        }
        // A date is never exact enough for this. No other method has ranges.
        let is_same = !headers.contains_key(IF_RANGE) || only(headers, &IF_RANGE) == Some(self.etag.as_str());
        let range = only(headers, &RANGE).filter(|_| is_same && method == Method::GET);
        Condition::Go(wanted(range, self.length))
    }

    /// Whether it changed after a date of HTTP.
    fn is_younger_than(&self, date: &str) -> bool {
        let since = httpdate::parse_http_date(date).ok().and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        since.is_some_and(|since| u64::try_from(self.modified).is_ok_and(|modified| modified > since.as_secs()))
    }

    /// What every answer about it says.
    fn describe(&self, headers: &mut HeaderMap) {
        set(headers, ACCEPT_RANGES, "bytes");
        set(headers, CACHE_CONTROL, "private, no-cache");
        set(headers, CONTENT_DISPOSITION, &disposition(&self.name));
        set(headers, ETAG, &self.etag);
        if let Some(modified) = u64::try_from(self.modified).ok().filter(|&seconds| seconds < YEAR_9999) {
            set(headers, LAST_MODIFIED, &httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(modified)));
        }
    }

    fn read(&self, at: u64, out: &mut [u8]) -> Result<(), SourceChanged> {
        match &self.what {
            What::File { shelf, entry } => read_file(shelf, *entry, at, out),
            What::Zip(zip) => zip.read(at, out),
        }
    }
}

/// Fills `out` with the bytes of a file from `at` on.
pub(super) fn read_file(
    shelf: &Shelf,
    entry: EntryIndex,
    mut at: u64,
    mut out: &mut [u8],
) -> Result<(), SourceChanged> {
    let chunk_bytes = shelf.listing().geometry(entry).ok_or(SourceChanged)?.chunk_length().0;
    while !out.is_empty() {
        let (index, within) = (at / chunk_bytes, at % chunk_bytes);
        let length = (chunk_bytes - within).min(out.len() as u64);
        let (piece, rest) = out.split_at_mut(usize::try_from(length).map_err(|_| SourceChanged)?);
        let index = ChunkIndex(u32::try_from(index).map_err(|_| SourceChanged)?);
        shelf.read(entry, index, within..within + length, piece)?;
        out = rest;
        at += length;
    }
    Ok(())
}

/// Whether a list of tags names this one, or any. What is weak names nothing exactly.
pub(super) fn names(list: &str, etag: &str) -> bool {
    list.trim() == "*" || list.split(',').any(|tag| tag.trim() == etag)
}

fn etag(stamp: &[u8; 32]) -> String {
    format!("\"h1-{}\"", HEXLOWER.encode(&stamp[..16]))
}

/// `Content-Disposition` of RFC 6266: a plain name for old readers, and the name as it is.
fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|char| if char.is_ascii_graphic() && !"\"\\%/;".contains(char) || char == ' ' { char } else { '_' })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent_encoded(name))
}

/// A name as a part of a path, and as a value of RFC 8187.
fn percent_encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// Bytes that are read and sent at a time.
const PIECE_BYTES: u64 = MIB / 4;
/// Such pieces that wait for the browser.
const PIECES_AHEAD: usize = 2;
/// Where dates of HTTP end, in seconds since 1970.
const YEAR_9999: u64 = 253_402_300_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_reach_no_other_header_and_come_whole() {
        assert_eq!(disposition("a b.txt"), "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt");
        let nasty = disposition("\u{e9}\"; x=\r\n%41/\u{202e}.html");
        assert_eq!(
            nasty,
            "attachment; filename=\"___ x=___41__.html\"; filename*=UTF-8''%C3%A9%22%3B%20x%3D%0D%0A%2541%2F%E2%80%AE.html"
        );
        assert!(nasty.is_ascii() && !nasty.contains('\n'));
    }

    #[test]
    fn a_list_of_tags_names_a_tag_exactly() {
        let tag = "\"h1-00\"";
        for list in ["*", "\"h1-00\"", "\"x\", \"h1-00\"", " \"h1-00\" "] {
            assert!(names(list, tag), "{list}");
        }
        for list in ["", "h1-00", "W/\"h1-00\"", "\"h1-0\"", "\"h1-00", "\"H1-00\""] {
            assert!(!names(list, tag), "{list}");
        }
    }
}
