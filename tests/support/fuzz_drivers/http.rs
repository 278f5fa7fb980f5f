//! What a browser asks for.

use haul::web::range::{Wanted, wanted};

/// The part of a file that `Range` names is the one that a look at each byte of it finds. The first byte says how long
/// the file is.
pub(super) fn http_range(bytes: &[u8]) {
    let Some((&length, range)) = bytes.split_first() else { return };
    let (Ok(range), length) = (std::str::from_utf8(range), u64::from(length)) else { return };
    let found = match wanted(Some(range), length) {
        Wanted::Part(part) => {
            assert!(!part.is_empty() && part.end <= length, "{part:?} of {length}");
            Some(part.collect())
        }
        Wanted::Nothing => Some(Vec::new()),
        Wanted::Whole => None,
    };
    assert_eq!(found, bytes_in(range, length), "{range:?} of {length}");
}

/// The places of all bytes in a single range, one by one; `None` where it is none of bytes.
fn bytes_in(range: &str, length: u64) -> Option<Vec<u64>> {
    let at = range.find('=')?;
    let (unit, set) = (range[..at].trim(), range[at + 1..].trim());
    if !unit.eq_ignore_ascii_case("bytes") || set.chars().any(|character| character == ',') {
        return None;
    }
    let hyphen = set.find('-').unwrap_or(set.len());
    let (first, last) = (&set[..hyphen], set.get(hyphen + 1..).unwrap_or("?"));
    let is_number = |text: &str| text.chars().all(|character| character.is_ascii_digit());
    if !is_number(first) || !is_number(last) {
        return Some(Vec::new());
    }
    let is_in = |place: &u64| match (first, last) {
        ("", "") => false,
        ("", count) => !is_less(count, &(length - place).to_string()),
        (first, "") => !is_less(&place.to_string(), first),
        (first, last) => {
            let place = place.to_string();
            !is_less(last, first) && !is_less(&place, first) && !is_less(last, &place)
        }
    };
    Some((0..length).filter(is_in).collect())
}

/// Whether one number is less than another, by their digits: there is no largest one.
fn is_less(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    (one.len(), one) < (other.len(), other)
}
