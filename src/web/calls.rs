//! Sealed calls: opened, understood, answered and sealed.

use super::certificate::Certificate;
use super::connection::Caller;
use super::downloads;
use super::guests::{Stay, Token};
use super::heavy::HeavyCall;
use super::native;
use super::routes::call_bytes_max;
use super::site::Site;
use super::uploads;
use crate::limits::{
    WEB_CALLS_MAX, WEB_CHUNK_BYTES_MAX, WEB_DIGESTS_MAX, WEB_HEADER_BYTES_MAX, WEB_OFFER_FILES_MAX, WEB_RUN_BYTES_MAX,
};
use crate::sealing::{NONCE_BYTES, Nonce, TAG_BYTES};
use crate::secret::fingerprint_words;
use crate::transfer::{Refused, Visitor, Welcome};
use crate::transport::random_bytes;
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// Why a call gets no answer at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Denied {
    /// The key does not open it.
    NotGenuine,
    /// Its answer cannot be sealed: this machine gave no random numbers, or it would be too long.
    Unsealed,
}

/// Why a call has no other answer.
#[derive(Debug)]
pub(super) struct Fault {
    code: &'static str,
    text: String,
}

/// An answer: room for a nonce, header and payload, room for a tag.
#[derive(Debug)]
pub(super) struct Draft {
    bytes: Vec<u8>,
    payload_at: usize,
    /// Held as long as the bytes are.
    pub(super) turn: Option<HeavyCall>,
}

/// What every call starts with.
#[derive(Debug, Deserialize)]
struct Header {
    session: Option<String>,
    #[serde(flatten)]
    op: Op,
}

/// What is called for. Fields that are not known are ignored.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Op {
    Cancel {
        batch: String,
    },
    Chunks {
        file: u32,
        first: u32,
        count: u32,
    },
    Digests {
        file: u32,
        first: u32,
        count: u32,
    },
    Fetched {
        files: Vec<u32>,
    },
    Hashed {
        batch: String,
        digests: Vec<(u32, u32, u32)>,
    },
    Hello {},
    List {
        from: u32,
    },
    Native {
        file: Option<u32>,
        zip: Option<Vec<u32>>,
    },
    Offer {
        batch: String,
        #[serde(default)]
        from: u32,
        files: Vec<uploads::Offered>,
        #[serde(default)]
        more: bool,
    },
    Put {
        batch: String,
        chunks: Vec<(u32, u32)>,
    },
    Root {
        file: u32,
    },
    Unreadable {
        batch: String,
        file: u32,
    },
    Wants {
        batch: String,
    },
}

impl Op {
    /// Whether it does something anew each time that it is said, in a session that is known or not.
    fn counts_once(&self, is_known: bool) -> bool {
        match self {
            Self::Hello {} => !is_known,
            Self::Cancel { .. } | Self::Native { .. } | Self::Offer { .. } => true,
            _ => false,
        }
    }
}

/// Answers the call that `body` is.
pub(super) fn answer(site: &Arc<Site>, caller: &Caller, mut body: Vec<u8>) -> Result<Bytes, Denied> {
    let text = site.keys.open_call(&mut body).ok_or(Denied::NotGenuine)?;
    let mut call: Nonce = [0; NONCE_BYTES];
    call.copy_from_slice(&body[..NONCE_BYTES]);
    let draft = carry_out(site, caller.peer, &call, &body[text]).and_then(|draft| {
        let is_short = draft.payload_at - NONCE_BYTES - 4 <= WEB_HEADER_BYTES_MAX;
        if is_short { Ok(draft) } else { Err(Fault::new("limit", "the answer would be too long")) }
    });
    let mut draft = draft.unwrap_or_else(|fault| fault.draft());
    let nonce = random_bytes::<NONCE_BYTES>().map_err(|_| Denied::Unsealed)?;
    draft.bytes[..NONCE_BYTES].copy_from_slice(&*nonce);
    if site.keys.seal_answer(&call, &mut draft.bytes) { Ok(Bytes::from_owner(draft)) } else { Err(Denied::Unsealed) }
}

fn carry_out(site: &Arc<Site>, peer: SocketAddr, nonce: &Nonce, text: &[u8]) -> Result<Draft, Fault> {
    let malformed = || Fault::new("request", "the call is not one of this version");
    let (length, rest) = text.split_first_chunk::<4>().ok_or_else(malformed)?;
    let (header, payload) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(malformed)?;
    if header.len() > WEB_HEADER_BYTES_MAX {
        return Err(malformed());
    }
    let version: Version = serde_json::from_slice(header).map_err(|_| malformed())?;
    if version.v != VERSION {
        return Err(Fault::new("version", "the host speaks another version of this page; reload it"));
    }
    let Header { session, op } = serde_json::from_slice(header).map_err(|_| malformed())?;
    let known = session.and_then(|session| token(&session)).and_then(|token| site.guests.find(&token));
    if op.counts_once(known.is_some()) && !site.nonces.insert(nonce) {
        return Err(Fault::new("busy", "it was said before; say it again under a nonce of its own"));
    }
    if let Op::Hello {} = op {
        return hello(site, peer, known);
    }
    let stay = known.ok_or_else(|| Fault::new("session", "the host does not know this session"))?;
    stay.heard(text.len() as u64);
    let _call = stay.call().ok_or_else(|| Fault::new("busy", "too many calls at once"))?;
    may_go_on(&stay)?;
    match op {
        Op::Hello {} => hello(site, peer, Some(stay)),
        Op::Chunks { .. }
        | Op::Digests { .. }
        | Op::Fetched { .. }
        | Op::List { .. }
        | Op::Native { .. }
        | Op::Root { .. } => fetch(site, &stay, peer, op),
        Op::Cancel { .. }
        | Op::Hashed { .. }
        | Op::Offer { .. }
        | Op::Put { .. }
        | Op::Unreadable { .. }
        | Op::Wants { .. } => send(site, peer, op, payload),
    }
}

/// What a page asks of a host that offers.
fn fetch(site: &Site, stay: &Arc<Stay>, peer: SocketAddr, op: Op) -> Result<Draft, Fault> {
    let shelf = site.shelf.as_ref().ok_or_else(|| Fault::new("mode", "nothing is offered here"))?;
    match op {
        Op::Chunks { file, first, count } => {
            downloads::chunks(site, shelf, stay, peer.ip(), file, first..first.saturating_add(count))
        }
        Op::Digests { file, first, count } => downloads::digests(shelf, file, first..first.saturating_add(count)),
        Op::Fetched { files } => downloads::fetched(shelf, stay, &files),
        Op::List { from } => downloads::list(shelf, from),
        Op::Native { file, zip } => native::open(site, shelf, stay, file, zip.as_deref()),
        Op::Root { file } => downloads::root(shelf, file),
        _ => Err(Fault::new("mode", "it is not offered here")),
    }
}

/// What a page says to a host that takes files.
fn send(site: &Site, peer: SocketAddr, op: Op, payload: &[u8]) -> Result<Draft, Fault> {
    let inbox = site.inbox.as_ref().ok_or_else(|| Fault::new("mode", "nothing is taken here"))?;
    let named = |batch: &str| token(batch).ok_or_else(|| Fault::new("request", "a batch has a name of 26 characters"));
    match op {
        Op::Cancel { batch } => uploads::cancel(inbox, named(&batch)?),
        Op::Hashed { batch, digests } => uploads::hashed(inbox, named(&batch)?, &digests, payload),
        Op::Offer { batch, from, files, more } => uploads::offer(site, inbox, peer, named(&batch)?, from, files, more),
        Op::Put { batch, chunks } => uploads::put(inbox, named(&batch)?, &chunks, payload),
        Op::Unreadable { batch, file } => uploads::unreadable(inbox, named(&batch)?, file),
        Op::Wants { batch } => uploads::wants(inbox, named(&batch)?),
        _ => Err(Fault::new("mode", "it is not taken here")),
    }
}

/// Whether the host's user lets it.
fn may_go_on(stay: &Stay) -> Result<(), Fault> {
    match stay.visitor.as_ref().map_or(Welcome::In, Visitor::welcome) {
        Welcome::Asked => Err(Fault::new("asked", "the host's user is being asked whether to let this browser in")),
        Welcome::In => Ok(()),
        Welcome::Out => Err(Fault::new("declined", "the host's user declined")),
    }
}

fn hello(site: &Site, peer: SocketAddr, known: Option<Arc<Stay>>) -> Result<Draft, Fault> {
    let stay = if let Some(stay) = known {
        stay.heard(1);
        stay
    } else {
        let visitor =
            site.shelf.as_ref().map(|shelf| shelf.arrive(peer)).transpose().map_err(|refused| match refused {
                Refused::Busy => Fault::new("busy", "the host serves as many as it can"),
                Refused::Declined => Fault::new("declined", "the host's user declined"),
            })?;
        let token = random_bytes().map_err(|_| Fault::new("busy", "this machine gave no random numbers"))?;
        site.guests.begin(*token, visitor)
    };
    let header = json!({
        "ok": true,
        "session": BASE32_NOPAD.encode(&stay.token),
        "title": site.shelf.as_ref().map(downloads::title).unwrap_or_default(),
        "download": site.shelf.is_some(),
        "upload": site.inbox.is_some(),
        "tls": site.certificate.is_some(),
        "certificate": site.certificate.as_ref().map(described),
        "candidates": site.access.origins(),
        "limits": {
            "call_bytes_max": call_bytes_max(site),
            "chunk_bytes_max": WEB_CHUNK_BYTES_MAX,
            "run_bytes_max": WEB_RUN_BYTES_MAX,
            "calls_max": WEB_CALLS_MAX,
            "digests_max": WEB_DIGESTS_MAX,
            "offer_files_max": WEB_OFFER_FILES_MAX,
        },
    });
    Ok(Draft::new(&header, 0))
}

/// What people compare a certificate by.
fn described(certificate: &Certificate) -> Value {
    let Certificate { fingerprint, .. } = certificate;
    json!({ "words": fingerprint_words(fingerprint), "sha256": HEXLOWER.encode(fingerprint) })
}

/// The session that a text names.
fn token(text: &str) -> Option<Token> {
    let mut token = Token::default();
    let is_read = text.len() == 26 && BASE32_NOPAD.decode_mut(text.as_bytes(), &mut token).is_ok();
    is_read.then_some(token)
}

impl Draft {
    /// An answer with room for so many bytes behind its header.
    pub(super) fn new(header: &Value, payload_bytes: usize) -> Self {
        let header = header.to_string();
        let payload_at = NONCE_BYTES + 4 + header.len();
        let mut bytes = Vec::with_capacity(payload_at + payload_bytes + TAG_BYTES);
        bytes.resize(NONCE_BYTES, 0);
        bytes.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(payload_at + payload_bytes + TAG_BYTES, 0);
        Self { bytes, payload_at, turn: None }
    }

    /// What is behind the header.
    pub(super) fn payload(&mut self) -> &mut [u8] {
        let end = self.bytes.len() - TAG_BYTES;
        &mut self.bytes[self.payload_at..end]
    }
}

impl AsRef<[u8]> for Draft {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Fault {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The entry is not what it was.
    pub(super) fn changed() -> Self {
        Self::new("changed", "the file is not what it was when it was offered, or cannot be read any more")
    }

    /// There is no such file, or it is none.
    pub(super) fn unknown() -> Self {
        Self::new("unknown", "there is no such file")
    }

    fn draft(&self) -> Draft {
        Draft::new(&json!({ "ok": false, "error": self.code, "text": self.text }), 0)
    }
}

/// Looked at before anything else: what stands beside it may mean something else in another version.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

const VERSION: u32 = 1;
