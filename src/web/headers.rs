//! What every answer says to the browser beside its content.

use super::routes::Answer;
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

/// What the page may load and where it may connect: its own files, and this host.
pub(super) fn policy(origins: &[String]) -> String {
    let origins = origins.join(" ");
    format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self' {origins}; \
         img-src 'self' blob: data:; media-src 'self' blob: data:; style-src 'self'; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'none'"
    )
}

/// An answer that repeats nothing of its request.
pub(super) fn short(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(super::routes::whole(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    set(answer.headers_mut(), CONTENT_TYPE, "text/plain; charset=utf-8");
    set(answer.headers_mut(), CACHE_CONTROL, "no-store");
    answer
}

/// The answer to whoever does not know the room, or anything else that would give them away. The connection ends with it.
pub(super) fn nothing_here() -> Answer {
    let mut answer = short(StatusCode::NOT_FOUND, "404\n");
    set(answer.headers_mut(), CONNECTION, "close");
    answer
}

/// Adds what every answer has.
pub(super) fn secure(headers: &mut HeaderMap, policy: &str) {
    set(headers, REFERRER_POLICY, "no-referrer");
    set(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(headers, HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(headers, CONTENT_SECURITY_POLICY, policy);
    if !headers.contains_key(CACHE_CONTROL) {
        set(headers, CACHE_CONTROL, "no-store");
    }
}

/// Sets a header to a text of our own; one that no header can hold is left out.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
