//! Any peer's text made safe to show: on a terminal, in a log, in JSON and in HTML text.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;
use unicode_width::UnicodeWidthStr;

/// Stands for what [`shorten`] leaves out.
const ELLIPSIS: char = '…';
/// Widest extension that [`shorten`] keeps at the cost of the start of the name.
const EXTENSION_COLUMNS_MAX: usize = 12;

/// The text with every character that could drive a terminal, hide or reorder text written as `\u{…}`.
///
/// What comes out holds no control character, no bidirectional control, no line or paragraph separator and nothing
/// invisible but variation selectors, which choose between two visible forms of an emoji. The joiners U+200C and
/// U+200D are escaped too: a name may hold them, but what is shown must not look like another name.
pub fn printable(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_unsafe) else { return Cow::Borrowed(text) };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(&text[..first]);
    for character in text[first..].chars() {
        push_shown(&mut shown, character);
    }
    Cow::Owned(shown)
}

/// [`printable`] for a name of the local system: bytes that are no text are written as `\x{…}`.
pub fn printable_os(name: &OsStr) -> Cow<'_, str> {
    if let Some(text) = name.to_str() {
        return printable(text);
    }
    let mut shown = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        shown.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            write!(shown, "\\x{{{byte:02x}}}").expect("a String takes all that is written to it");
        }
    }
    Cow::Owned(shown)
}

/// [`printable_os`] for a whole path.
pub fn printable_path(path: &Path) -> Cow<'_, str> {
    printable_os(path.as_os_str())
}

/// [`printable`], cut in the middle where it is wider than `columns`; a name's extension stays visible.
///
/// A character is never parted from the marks that belong to it, nor an escape cut in two.
pub fn shorten(text: &str, columns: usize) -> String {
    let shown = printable(text);
    if shown.width() <= columns {
        return shown.into_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let units = split_into_units(text);
    let extension = extension_columns(&units).min(room);
    let mut tail_room = extension.max(room / 2);
    let tail = units.iter().rev().take_while(|unit| take_columns(&mut tail_room, unit)).count();
    let tail = &units[units.len() - tail..];
    let mut head_room = room - tail.iter().map(|unit| unit.width()).sum::<usize>();
    let head = units.iter().take_while(|unit| take_columns(&mut head_room, unit));
    let mut short: String = head.map(String::as_str).collect();
    short.push(ELLIPSIS);
    short.extend(tail.iter().map(String::as_str));
    short
}

fn push_shown(shown: &mut String, character: char) {
    if is_unsafe(character) {
        write!(shown, "\\u{{{:x}}}", u32::from(character)).expect("a String takes all that is written to it");
    } else {
        shown.push(character);
    }
}

/// Control characters, and what Unicode calls default ignorable or a format control, save variation selectors.
fn is_unsafe(character: char) -> bool {
    matches!(character,
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        // Soft hyphen, invisible joiner, bidirectional letter mark, fillers that show as nothing.
        | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
        // Zero width, bidirectional marks; separators, embeddings, overrides; invisible operators, isolates.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        // Not characters at all.
        | '\u{fdd0}'..='\u{fdef}' | '\u{fffe}' | '\u{ffff}'
        // Format controls of shorthand and music; tags.
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// What belongs together on the screen: a character with the marks of no width behind it, or an escape.
fn split_into_units(text: &str) -> Vec<String> {
    let mut units: Vec<String> = Vec::new();
    let mut follows_escape = true;
    for character in text.chars() {
        let is_escape = is_unsafe(character);
        let joins = !is_escape && !follows_escape && character.to_string().width() == 0;
        match units.last_mut() {
            Some(unit) if joins => unit.push(character),
            _ => {
                let mut unit = String::new();
                push_shown(&mut unit, character);
                units.push(unit);
            }
        }
        follows_escape = is_escape;
    }
    units
}

/// Columns of a name's extension with its dot, or none where it is no extension that helps to tell the file's type.
fn extension_columns(units: &[String]) -> usize {
    let Some(dot) = units.iter().rposition(|unit| unit.starts_with('.')) else { return 0 };
    let columns = units[dot..].iter().map(|unit| unit.width()).sum();
    let is_extension = dot > 0 && columns <= EXTENSION_COLUMNS_MAX && !units[dot..].iter().any(|unit| unit == "/");
    if is_extension { columns } else { 0 }
}

fn take_columns(room: &mut usize, unit: &str) -> bool {
    let Some(left) = room.checked_sub(unit.width()) else { return false };
    *room = left;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_forms() {
        for (text, shown) in [
            ("plain name.txt", "plain name.txt"),
            ("déjà vu, 日本語, 😀", "déjà vu, 日本語, 😀"),
            ("\u{2764}\u{fe0f}", "\u{2764}\u{fe0f}"),
            ("a\nb\tc\r", "a\\u{a}b\\u{9}c\\u{d}"),
            ("\x1b[2J", "\\u{1b}[2J"),
            ("\x1b]52;c;aGk=\x07", "\\u{1b}]52;c;aGk=\\u{7}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\x7f", "\\u{7f}"),
            ("invoice\u{202e}fdp.exe", "invoice\\u{202e}fdp.exe"),
            ("\u{2066}a\u{2069}", "\\u{2066}a\\u{2069}"),
            ("a\u{200b}b\u{200d}c", "a\\u{200b}b\\u{200d}c"),
            ("\u{2028}\u{2029}\u{feff}", "\\u{2028}\\u{2029}\\u{feff}"),
            ("\u{e0001}\u{e0041}", "\\u{e0001}\\u{e0041}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn safe_text_is_borrowed() {
        assert!(matches!(printable("a/b.txt"), Cow::Borrowed(_)));
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_shown_as_bytes() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(printable_os(OsStr::from_bytes(b"caf\xe9\n.txt")), "caf\\x{e9}\\u{a}.txt");
        assert_eq!(printable_path(Path::new(OsStr::from_bytes(b"/a/\xff"))), "/a/\\x{ff}");
    }

    #[test]
    fn golden_cuts() {
        for (text, columns, short) in [
            ("holiday.jpeg", 12, "holiday.jpeg"),
            ("a very long holiday film.mp4", 20, "a very lon… film.mp4"),
            ("a very long holiday film.mp4", 8, "a v….mp4"),
            ("abcdefghij", 5, "ab…ij"),
            ("abcdefghij", 1, "…"),
            ("abcdefghij", 0, ""),
            ("日本語日本語.txt", 9, "日本….txt"),
            ("e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}", 3, "e\u{301}…e\u{301}"),
            ("a\u{1b}bcdefghijklmnop", 9, "a…mnop"),
        ] {
            assert_eq!(shorten(text, columns), short, "{text:?} to {columns}");
        }
    }

    proptest! {
        #[test]
        fn shown_text_is_safe_and_stays_as_it_is(text in any::<String>()) {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(is_unsafe));
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(printable(&shown), shown.clone());
            prop_assert!(shown.len() <= text.len() * 10);
        }

        #[test]
        fn hostile_characters_are_never_shown(character in prop_oneof![
            0u32..0x20, 0x7fu32..0xa0, 0x200bu32..0x2010, 0x2028u32..0x202f, 0x2060u32..0x2070, 0xe0000u32..0xe1000
        ]) {
            let character = char::from_u32(character).unwrap();
            let shown = printable(&format!("a{character}b")).into_owned();
            prop_assert!(shown.starts_with("a\\u\x7b"), "{}", shown);
        }

        #[test]
        fn cut_text_fits_and_keeps_both_ends(text in "\\PC{0,40}", columns in 0usize..30) {
            let short = shorten(&text, columns);
            prop_assert!(short.width() <= columns, "{:?} is {} wide", short, short.width());
            let shown = printable(&text);
            if let Some((head, tail)) = short.split_once(ELLIPSIS) && short != shown {
                prop_assert!(shown.starts_with(head) || text.contains(ELLIPSIS));
                prop_assert!(shown.ends_with(tail) || text.contains(ELLIPSIS));
            }
        }

        #[test]
        fn a_short_extension_survives_the_cut(stem in "[a-z]{20,60}", extension in "[a-z0-9]{1,5}", columns in 8usize..20) {
            let short = shorten(&format!("{stem}.{extension}"), columns);
            prop_assert!(short.ends_with(&format!(".{extension}")), "{}", short);
        }
    }
}
