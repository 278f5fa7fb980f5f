//! Which request gets which answer.

use super::access::{Trespass, only};
use super::assets::Asset;
use super::calls::{self, Denied};
use super::connection::Caller;
use super::headers::{nothing_here, secure, set, short};
use super::native;
use super::site::Site;
use crate::limits::{
    WEB_CALL_BYTES_PER_SECOND_MIN, WEB_CHUNK_BYTES_MAX, WEB_HEADER_BYTES_MAX, WEB_SILENCE_MAX, WRONG_CODE_WAIT,
};
use crate::sealing::SEAL_BYTES;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, TRANSFER_ENCODING, VARY,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

/// What goes back to a browser.
pub(super) type Answer = Response<Body>;

/// What of it is content.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Longest body of a call: its header and, where files are taken, a chunk, sealed.
pub(super) fn call_bytes_max(site: &Site) -> u64 {
    let chunk_bytes = if site.inbox.is_some() { WEB_CHUNK_BYTES_MAX } else { 0 };
    chunk_bytes + WEB_HEADER_BYTES_MAX as u64 + 4 + SEAL_BYTES as u64
}

/// A body that is there.
pub(super) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Answers a request.
pub(super) async fn respond(
    site: Arc<Site>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let mut answer = route(&site, &caller, request).await;
    secure(answer.headers_mut(), &site.policy);
    Ok(answer)
}

async fn route(site: &Arc<Site>, caller: &Arc<Caller>, request: Request<Incoming>) -> Answer {
    if !caller.may_ask {
        return not_over_tls();
    }
    match site.access.check(request.headers(), caller.local) {
        Ok(()) => {}
        Err(Trespass::Host | Trespass::Origin) => {
            let mut answer = short(StatusCode::FORBIDDEN, "403\n");
            set(answer.headers_mut(), CONNECTION, "close");
            return answer;
        }
    }
    let path = request.uri().path().to_owned();
    // What `GET x` and `CONNECT x` name has no path at all.
    let path = path.strip_prefix('/').unwrap_or_default();
    match path.split_once('/') {
        None if site.access.is_room(path) => page(site, caller, &request),
        Some(("_a", name)) => file(site, caller, &request, name),
        Some(("v1", room)) if site.access.is_room(room) => call(site, caller, request).await,
        Some(("d", rest)) => native::serve(site, caller, &request, rest).await,
        _ if path == "favicon.ico" => nothing_here(),
        _ => turn_away(site, caller).await,
    }
}

/// Answers whoever came without TLS where it is spoken. It says how to come, and nothing else: not even whether what they
/// asked for is here. Nobody is led there by it, since whoever alters the network's traffic could lead them elsewhere.
fn not_over_tls() -> Answer {
    let mut answer =
        short(StatusCode::BAD_REQUEST, "400: this is served over https; open the whole link, as it is shown\n");
    set(answer.headers_mut(), CONNECTION, "close");
    answer
}

/// Answers whoever does not know what there is here, and takes its time for that.
pub(super) async fn turn_away(site: &Site, caller: &Caller) -> Answer {
    site.tell_of_stranger(caller.peer);
    sleep(WRONG_CODE_WAIT).await;
    nothing_here()
}

/// An answer for a method that is not one of `allowed`.
pub(super) fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = short(StatusCode::METHOD_NOT_ALLOWED, "405\n");
    set(answer.headers_mut(), ALLOW, allowed);
    answer
}

/// An answer for one connection too many.
pub(super) fn too_many() -> Answer {
    let mut answer = short(StatusCode::SERVICE_UNAVAILABLE, "503: too many connections\n");
    set(answer.headers_mut(), CONNECTION, "close");
    answer
}

fn page(site: &Arc<Site>, caller: &Caller, request: &Request<Incoming>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return wrong_method("GET, HEAD");
    }
    if !caller.let_in(site) {
        return too_many();
    }
    asset(site.assets.page(), request.headers(), "no-store")
}

fn file(site: &Site, caller: &Caller, request: &Request<Incoming>, name: &str) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return wrong_method("GET, HEAD");
    }
    let Some(file) = site.assets.file(name) else { return nothing_here() };
    let mut answer = asset(file, request.headers(), "public, max-age=31536000, immutable");
    if !caller.is_known() {
        // Everybody may have the file. Who is a stranger keeps no connection for it.
        set(answer.headers_mut(), CONNECTION, "close");
    }
    answer
}

fn asset(asset: &Asset, headers: &HeaderMap, caching: &str) -> Answer {
    let is_had = only(headers, &IF_NONE_MATCH).is_some_and(|had| native::names(had, &asset.etag));
    let mut answer = Response::new(whole(if is_had { Bytes::new() } else { asset.bytes.clone() }));
    let headers = answer.headers_mut();
    set(headers, CACHE_CONTROL, caching);
    set(headers, ETAG, &asset.etag);
    if is_had {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        set(headers, CONTENT_TYPE, asset.content_type);
        set(headers, CONTENT_LENGTH, &asset.bytes.len().to_string());
    }
    answer
}

async fn call(site: &Arc<Site>, caller: &Arc<Caller>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let origin = site.access.origin(&head.headers, caller.local).map(str::to_owned);
    let mut answer = match head.method {
        Method::OPTIONS => preflight(),
        Method::POST => post(site, caller, &head.headers, body).await,
        _ => wrong_method("OPTIONS, POST"),
    };
    if let Some(origin) = origin {
        set(answer.headers_mut(), ACCESS_CONTROL_ALLOW_ORIGIN, &origin);
        set(answer.headers_mut(), VARY, "Origin");
    }
    answer
}

fn preflight() -> Answer {
    let mut answer = short(StatusCode::NO_CONTENT, "");
    let headers = answer.headers_mut();
    set(headers, ACCESS_CONTROL_ALLOW_METHODS, "POST");
    set(headers, ACCESS_CONTROL_ALLOW_HEADERS, "content-type");
    set(headers, ACCESS_CONTROL_MAX_AGE, "600");
    answer
}

async fn post(site: &Arc<Site>, caller: &Arc<Caller>, headers: &HeaderMap, body: Incoming) -> Answer {
    let declared = only(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let Some(declared) = declared.filter(|_| !headers.contains_key(TRANSFER_ENCODING)) else {
        return short(StatusCode::LENGTH_REQUIRED, "411\n");
    };
    if declared > call_bytes_max(site) {
        return short(StatusCode::PAYLOAD_TOO_LARGE, "413\n");
    }
    // Now, since a long body may take longer than a stranger may stay; the room shows as much as it does for the page.
    if !caller.let_in(site) {
        return too_many();
    }
    let mut turn = None;
    // What carries no file anywhere is short, and never waits for those that do.
    if site.inbox.is_some() && declared > SMALL_CALL_BYTES {
        turn = site.heavy.enter(caller.peer.ip(), WEB_SILENCE_MAX).await;
        if turn.is_none() {
            return too_many();
        }
    }
    let Some(body) = read(body, declared).await else { return short(StatusCode::BAD_REQUEST, "400\n") };
    let (for_call, by) = (Arc::clone(site), Arc::clone(caller));
    let answered = spawn_blocking(move || calls::answer(&for_call, &by, body)).await;
    drop(turn);
    match answered {
        Ok(Ok(bytes)) => sealed(bytes),
        Ok(Err(Denied::NotGenuine)) => turn_away(site, caller).await,
        // A bug of ours, or none of this machine's numbers; the page asks again, and the others go on.
        Ok(Err(Denied::Unsealed)) | Err(_) => short(StatusCode::INTERNAL_SERVER_ERROR, "500\n"),
    }
}

/// The body of a request, if all of it comes in the time that so many bytes may take.
async fn read(mut body: Incoming, declared: u64) -> Option<Vec<u8>> {
    let until = Instant::now() + WEB_SILENCE_MAX + Duration::from_secs(declared / WEB_CALL_BYTES_PER_SECOND_MIN);
    // It grows with what comes, not with what was declared.
    let mut bytes = Vec::new();
    while let Some(frame) = timeout_at(until.min(Instant::now() + WEB_SILENCE_MAX), body.frame()).await.ok()? {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Some(bytes)
}

fn sealed(bytes: Bytes) -> Answer {
    let length = bytes.len();
    let mut answer = Response::new(whole(bytes));
    set(answer.headers_mut(), CONTENT_TYPE, "application/octet-stream");
    set(answer.headers_mut(), CONTENT_LENGTH, &length.to_string());
    answer
}

/// A call of so many bytes carries no file.
const SMALL_CALL_BYTES: u64 = 64 * 1024;
