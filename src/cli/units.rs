//! Sizes, rates, times and counts as people read them.

use std::num::NonZeroU64;
use std::time::Duration;

/// `1.5 GiB`: three digits or so, in binary units that say that they are.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 999.95 is where rounding to one digit would show four digits before the point.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 9.995 { format!("{value:.2} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `12 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {:02} s", seconds % 60),
        3600..86_400 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    }
}

/// Reads `30s`, `5m`, `2h` or `1d`; a number alone counts seconds.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit.trim() {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("a number with s, m, h or d behind it is wanted, as in 90s or 2h".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a number with s, m, h or d behind it is wanted, as in 90s or 2h")?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "that is longer than time is counted".into())
}

/// Reads `500K`, `10M` or `1G`, in the units of [`size`]; a number alone counts bytes. Nothing is no rate.
pub(crate) fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let wanted = "a number of bytes a second is wanted, as in 500K, 10M or 1G";
    let bytes = parse_bytes(text.trim_end_matches("/s"), wanted)?;
    NonZeroU64::new(bytes).ok_or_else(|| wanted.into())
}

/// The same for a number of bytes, which may be none.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    parse_bytes(text, "a number of bytes is wanted, as in 500K, 10M or 1G")
}

fn parse_bytes(text: &str, wanted: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let unit: u64 = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KIB" => 1 << 10,
        "M" | "MIB" => 1 << 20,
        "G" | "GIB" => 1 << 30,
        _ => return Err(wanted.into()),
    };
    let number: u64 = number.parse().map_err(|_| wanted)?;
    number.checked_mul(unit).ok_or_else(|| wanted.into())
}

/// `1 file`, `2 files`, `20,000 files`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {one}s", grouped(number)) }
}

/// `3 files, 1 folder, 1.5 GiB`; what there is none of is left out.
pub(crate) fn contents(files: u64, folders: u64, bytes: u64) -> String {
    let mut parts = Vec::new();
    if files > 0 || folders == 0 {
        parts.push(count(files, "file"));
    }
    if folders > 0 {
        parts.push(count(folders, "folder"));
    }
    parts.push(size(bytes));
    parts.join(", ")
}

/// `20,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let cases = [("7", 7), ("500K", 500 << 10), ("10M", 10 << 20), ("10 MiB/s", 10 << 20), ("1g", 1 << 30)];
        for (text, bytes) in cases {
            assert_eq!(parse_rate(text).map(NonZeroU64::get), Ok(bytes), "{text}");
        }
        for text in ["", "0", "K", "-1M", "1.5M", "10X", "10M/h", "99999999999999999999", "18446744073709551615G"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("0", 0), ("7", 7), ("500K", 500 << 10), ("10 MiB", 10 << 20), ("1g", 1 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1M", "1.5M", "10X", "10M/s", "18446744073709551615G"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, seconds) in
            [("0", 0), ("30", 30), ("30s", 30), ("5m", 300), ("2 min", 120), ("2h", 7200), ("1d", 86_400)]
        {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5h", "1w", "99999999999999999999s", "999999999999999999d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_three_digits_and_a_binary_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10 * 1024, "10.0 KiB"),
            (999 * 1024, "999.0 KiB"),
            (1000 * 1024, "0.98 MiB"),
            (4 << 30, "4.00 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_show_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 00 s"),
            (3599, "59 min 59 s"),
            (7500, "2 h 05 min"),
            (90_000, "1 d 01 h"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn counts_agree_with_their_noun() {
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(20_000, "file"), "20,000 files");
        assert_eq!(count(1_234_567, "file"), "1,234,567 files");
    }

    #[test]
    fn contents_leave_out_what_is_not_there() {
        assert_eq!(contents(1, 0, 3), "1 file, 3 B");
        assert_eq!(contents(0, 2, 0), "2 folders, 0 B");
        assert_eq!(contents(0, 0, 0), "0 files, 0 B");
        assert_eq!(contents(2, 1, 2048), "2 files, 1 folder, 2.00 KiB");
    }
}
