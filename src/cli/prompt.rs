//! A line that is typed key by key, in which Tab completes the words of a code.

use haul::limits::LINK_BYTES_MAX;
use haul::secret::{CODE_WORDS, complete_word};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::os::fd::OwnedFd;
use unicode_width::UnicodeWidthChar;
use zeroize::Zeroizing;

/// Words that are shown where several fit.
const CHOICES_MAX: usize = 12;

/// What a key does.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Key {
    /// The line is complete.
    Done,
    /// There is no line.
    End,
    /// The run is to stop.
    Interrupt,
    /// This follows what is shown.
    Show(String),
    /// These fit equally well; the line is shown once more below them.
    Choices(Vec<&'static str>),
}

/// What was typed so far. Holds a secret.
pub(crate) struct Line {
    text: Zeroizing<String>,
    /// Bytes of a character that is not complete.
    unread: Vec<u8>,
    escape: Escape,
}

/// How far a key is that sends several bytes, such as an arrow.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Escape {
    None,
    Begun,
    Inside,
}

/// A terminal that hands over each key and shows none, until this is dropped.
pub(crate) struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Line {
    pub(crate) fn new() -> Self {
        // Room for all of it from the start: a string that grows leaves copies behind.
        let text = Zeroizing::new(String::with_capacity(2 * LINK_BYTES_MAX));
        Self { text, unread: Vec::new(), escape: Escape::None }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Takes the next byte that the terminal sends.
    pub(crate) fn press(&mut self, byte: u8) -> Key {
        let is_of_escape = self.escape != Escape::None;
        self.escape = match (self.escape, byte) {
            (_, 0x1b) => Escape::Begun,
            (Escape::Begun, b'[' | b'O') => Escape::Inside,
            (Escape::Inside, byte) if !(0x40..=0x7e).contains(&byte) => Escape::Inside,
            _ => Escape::None,
        };
        if is_of_escape || byte == 0x1b {
            return Key::Show(String::new());
        }
        match byte {
            b'\r' | b'\n' => Key::Done,
            b'\t' => self.complete(),
            0x03 => Key::Interrupt,
            0x04 if self.text.is_empty() => Key::End,
            0x08 | 0x7f => Key::Show(self.erase(1)),
            // Ctrl-U and Ctrl-W.
            0x15 => Key::Show(self.erase(usize::MAX)),
            0x17 => {
                let word = self.text.trim_end_matches(is_separator);
                let start = word.rfind(is_separator).map_or(0, |place| place + 1);
                Key::Show(self.erase(self.text[start..].chars().count()))
            }
            0..0x20 => Key::Show(String::new()),
            _ => Key::Show(self.character(byte)),
        }
    }

    fn character(&mut self, byte: u8) -> String {
        self.unread.push(byte);
        match std::str::from_utf8(&self.unread) {
            Ok(text) => {
                let shown = text.to_owned();
                self.unread.clear();
                // A terminal would obey what has no width.
                let is_shown = shown.chars().all(|char| char.width().is_some_and(|width| width > 0));
                if is_shown && self.text.len() + shown.len() <= 2 * LINK_BYTES_MAX {
                    self.text.push_str(&shown);
                    return shown;
                }
            }
            Err(fault) if fault.error_len().is_some() => self.unread.clear(),
            Err(_) => {}
        }
        String::new()
    }

    /// Takes the last `count` characters back, and what takes them off the terminal.
    fn erase(&mut self, count: usize) -> String {
        let mut shown = String::new();
        for _ in 0..count {
            let Some(char) = self.text.pop() else { break };
            shown.push_str(&"\u{8} \u{8}".repeat(char.width().unwrap_or(0)));
        }
        shown
    }

    fn complete(&mut self) -> Key {
        let is_letter = |char: char| char.is_ascii_alphabetic();
        let start = self.text.rfind(|char| !is_letter(char)).map_or(0, |place| place + 1);
        let typed = Zeroizing::new(self.text[start..].to_owned());
        let words = self.text.split(|char| !is_letter(char)).filter(|word| !word.is_empty()).count();
        let fitting =
            if typed.is_empty() || self.text.contains([':', '/', '#']) { Vec::new() } else { complete_word(&typed) };
        let [first, ..] = fitting[..] else { return Key::Show("\u{7}".to_owned()) };
        let shared = fitting.iter().map(|word| shared_bytes(first, word)).min().unwrap_or_default();
        let mut rest = first.get(typed.len()..shared).unwrap_or_default().to_owned();
        if fitting.len() > 1 && rest.is_empty() {
            return Key::Choices(fitting.into_iter().take(CHOICES_MAX).collect());
        }
        if fitting.len() == 1 && words < CODE_WORDS {
            rest.push('-');
        }
        self.text.push_str(&rest);
        Key::Show(rest)
    }
}

impl Raw {
    /// `None` where `terminal` is none.
    pub(crate) fn enter(terminal: OwnedFd) -> Option<Self> {
        let before = tcgetattr(&terminal).ok()?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Now, &raw).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell where it fails: the terminal is gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

fn is_separator(char: char) -> bool {
    char == ' ' || char == '-'
}

fn shared_bytes(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line after `keys`, with all that was shown.
    fn typed(keys: &str) -> (String, String) {
        let mut line = Line::new();
        let mut shown = String::new();
        for byte in keys.bytes() {
            if let Key::Show(more) = line.press(byte) {
                shown.push_str(&more);
            }
        }
        (line.text().to_owned(), shown)
    }

    #[test]
    fn tab_completes_a_word_and_goes_on_to_the_next_one() {
        assert_eq!(typed("7-ambe\tcano\tlenti\t").0, "7-amber-canoe-lentil");
        assert_eq!(typed("7 AMBE\t").0, "7 AMBEr-");
        assert_eq!(typed("7ambe\t").0, "7amber-");
        let (text, shown) = typed("7-xq\t");
        assert_eq!((text.as_str(), shown.as_str()), ("7-xq", "7-xq\u{7}"));
        assert_eq!(typed("http://ambe\t").0, "http://ambe", "a link has no words");
    }

    #[test]
    fn tab_goes_as_far_as_all_that_fit_agree_and_then_shows_them() {
        let mut line = Line::new();
        for byte in *b"7-le" {
            line.press(byte);
        }
        let Key::Choices(choices) = line.press(b'\t') else { panic!() };
        assert!(choices.len() > 1 && choices.len() <= CHOICES_MAX);
        assert!(choices.iter().all(|word| word.starts_with("le")));
        assert_eq!(line.text(), "7-le");
    }

    #[test]
    fn what_was_typed_can_be_taken_back() {
        assert_eq!(typed("7-amx\u{7f}b"), ("7-amb".into(), "7-amx\u{8} \u{8}b".into()));
        assert_eq!(typed("7-amber-cano\u{17}").0, "7-amber-");
        assert_eq!(typed("7-amber- \u{17}").0, "7-");
        assert_eq!(typed("7-amber\u{15}8").0, "8");
        assert_eq!(typed("\u{7f}\u{7f}8").0, "8");
        assert_eq!(typed("７\u{7f}").1, "７\u{8} \u{8}\u{8} \u{8}", "a wide letter takes two columns");
    }

    #[test]
    fn keys_that_write_nothing_are_left_out() {
        assert_eq!(typed("7\u{1b}[A\u{1b}[1;5C\u{1b}OP-\u{1}\u{0}x"), ("7-x".into(), "7-x".into()));
        let mut line = Line::new();
        for byte in [0xff, b'7', 0xc2, 0x9b, 0xe2, 0x80, b'x'] {
            line.press(byte);
        }
        assert!(line.text().chars().all(|char| !char.is_control()), "{:?}", line.text());
        assert_eq!(Line::new().press(0x04), Key::End);
        assert_eq!(Line::new().press(0x03), Key::Interrupt);
        assert_eq!(Line::new().press(b'\r'), Key::Done);
    }

    #[test]
    fn a_line_ends_at_twice_the_longest_link() {
        assert_eq!(typed(&"x".repeat(10_000)).0.len(), 2 * LINK_BYTES_MAX);
    }
}
