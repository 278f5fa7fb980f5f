//! `Range` of HTTP: one part of a file, or all of it.

use std::ops::Range;

/// What a request wants of something that is so long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// No byte of it is what was asked for.
    Nothing,
    /// One part.
    Part(Range<u64>),
    /// All of it: nothing else was asked for, or it was in a way that is not done here.
    Whole,
}

/// What `range` wants of `length` bytes. Several ranges are not done: whoever asks gets the whole and can tell.
pub fn wanted(range: Option<&str>, length: u64) -> Wanted {
    let Some((unit, set)) = range.and_then(|range| range.split_once('=')) else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Nothing };
    let part = match (number(first), number(last)) {
        (Number::Is(first), Number::LeftOut) => first..length,
        (Number::Is(first), Number::Is(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Number::LeftOut, Number::Is(suffix)) => length.saturating_sub(suffix)..length,
        _ => return Wanted::Nothing,
    };
    if part.is_empty() { Wanted::Nothing } else { Wanted::Part(part) }
}

/// What stands on one side of the hyphen.
enum Number {
    Is(u64),
    LeftOut,
    Malformed,
}

/// A number that no file reaches counts as the largest.
fn number(text: &str) -> Number {
    if text.is_empty() {
        Number::LeftOut
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Number::Is(text.parse().unwrap_or(u64::MAX))
    } else {
        Number::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_range_is_a_part_and_what_is_none_of_the_file_is_nothing() {
        let of_ten = |range| wanted(Some(range), 10);
        for (range, part) in [
            ("bytes=0-", 0..10),
            ("bytes=0-0", 0..1),
            ("bytes=9-9", 9..10),
            ("bytes=3-5", 3..6),
            ("bytes=3-99999999999999999999999", 3..10),
            ("bytes=3-18446744073709551615", 3..10),
            ("bytes=-1", 9..10),
            ("bytes=-10", 0..10),
            ("bytes=-99999999999999999999999", 0..10),
            ("BYTES = 3-5 ", 3..6),
        ] {
            assert_eq!(of_ten(range), Wanted::Part(part), "{range}");
        }
        for range in [
            "bytes=10-",
            "bytes=5-2",
            "bytes=-0",
            "bytes=-",
            "bytes=",
            "bytes=a-b",
            "bytes=1",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0x1-2",
            "bytes=99999999999999999999999-",
        ] {
            assert_eq!(of_ten(range), Wanted::Nothing, "{range}");
        }
        for range in ["bytes=0-1,3-4", "items=0-1", "bytes", "", "0-1"] {
            assert_eq!(of_ten(range), Wanted::Whole, "{range}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
        assert_eq!(wanted(Some("bytes=0-"), u64::MAX), Wanted::Part(0..u64::MAX));
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_beyond_the_end(range in "(bytes=)?[0-9a-z,=-]{0,40}", length in any::<u64>()) {
            if let Wanted::Part(part) = wanted(Some(&range), length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }

        #[test]
        fn ranges_are_what_a_list_of_bytes_says(first in 0..40u64, last in 0..40u64, length in 0..30u64) {
            let all: Vec<u64> = (0..length).collect();
            let naive: Vec<u64> = all.iter().copied().filter(|at| (first..=last).contains(at)).collect();
            let found = match wanted(Some(&format!("bytes={first}-{last}")), length) {
                Wanted::Part(part) => part.collect(),
                Wanted::Nothing => Vec::new(),
                Wanted::Whole => all,
            };
            prop_assert_eq!(found, naive);
        }
    }
}
