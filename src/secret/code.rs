//! Short codes: a display number and three words, forgiving to type and worthless once used.

use super::words::WORDS;
use std::fmt::{self, Write as _};
use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Largest display number of a code; the smallest is 1.
pub const CODE_NUMBER_MAX: u16 = 999;

/// Words of a code.
pub const CODE_WORDS: usize = 3;

/// What two people say to each other so that their machines find and trust each other, once.
///
/// The number says which host is meant and is shown to everybody. The words are the secret: one of 1,296³, so 31 bits,
/// which is enough only because each guess has to be put to the host.
#[derive(Clone, Eq, PartialEq, Zeroize, ZeroizeOnDrop)]
pub struct Code {
    number: u16,
    words: [u16; CODE_WORDS],
}

/// Why a text is not a code. No variant carries any of the text, only words of the public list.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CodeFault {
    /// The letters begin several words.
    #[error("word {place} of the code is cut short: it may be `{first}` or `{last}`, among others", place = place + 1)]
    AmbiguousWord {
        /// Which word, from 0.
        place: usize,
        /// The first word of the list that begins so.
        first: &'static str,
        /// The last one.
        last: &'static str,
    },
    /// Nothing but white space and hyphens.
    #[error("the code is empty")]
    Empty,
    /// There is no number before the words.
    #[error("the code has no number; it begins with one, as in `7-amber-canoe-lentil`")]
    NumberMissing,
    /// The number is not one that a code has.
    #[error("the number of a code is from 1 to {CODE_NUMBER_MAX}")]
    NumberOutOfRange,
    /// The text is longer than any code.
    #[error("the text is longer than any code")]
    TooLong,
    /// A word is not in the list.
    #[error("word {place} of the code is not one that codes have{}", Hint(*suggestion), place = place + 1)]
    UnknownWord {
        /// Which word, from 0.
        place: usize,
        /// The word of the list that is nearest to what was typed, where one is near.
        suggestion: Option<&'static str>,
    },
    /// There are more or fewer words than a code has.
    #[error("a code has {CODE_WORDS} words, and this has {found}")]
    WordCount {
        /// How many there are.
        found: usize,
    },
}

impl Code {
    /// The code that shows `number` and has the words at these places of [`code_words`]. `None` where there is no such
    /// number or word.
    pub fn new(number: u16, words: [u16; CODE_WORDS]) -> Option<Self> {
        let is_one = is_number(number) && words.iter().all(|&word| usize::from(word) < WORDS.len());
        is_one.then_some(Self { number, words })
    }

    /// The code that `text` writes: in any case and any width of letters, with white space or hyphens or both between its
    /// parts or none behind the number, and with as many letters of each word as tell it from every other.
    pub fn parse(text: &str) -> Result<Self, CodeFault> {
        let folded = folded(text)?;
        let folded = folded.trim_start();
        let digits = folded.bytes().take_while(u8::is_ascii_digit).count();
        let (number, words) = folded.split_at(digits);
        let found = words.split_whitespace().count();
        if digits == 0 {
            return Err(if found == 0 { CodeFault::Empty } else { CodeFault::NumberMissing });
        }
        let number = number.parse().ok().filter(|&number| is_number(number)).ok_or(CodeFault::NumberOutOfRange)?;
        if found != CODE_WORDS {
            return Err(CodeFault::WordCount { found });
        }
        let mut code = Self { number, words: [0; CODE_WORDS] };
        for (place, word) in words.split_whitespace().enumerate() {
            code.words[place] = place_of(word, place)?;
        }
        Ok(code)
    }

    /// Says which host is meant. Public.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The code as it is shown, `7-amber-canoe-lentil`. It holds the secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        // Room for all of it from the start: a string that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES_MAX));
        // Writing to a string does not fail.
        let _ = write!(text, "{}", self.number);
        for &word in &self.words {
            text.push('-');
            text.push_str(WORDS[usize::from(word)]);
        }
        text
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Code([redacted])")
    }
}

/// The words that codes are made of, in alphabetical order. Public.
pub const fn code_words() -> &'static [&'static str; 1296] {
    &WORDS
}

/// The words that begin with `prefix`, in order; its case does not matter.
pub fn complete_word(prefix: &str) -> Vec<&'static str> {
    if prefix.len() > WORD_BYTES_MAX {
        return Vec::new();
    }
    words_from(&prefix.to_ascii_lowercase()).to_vec()
}

/// What follows a fault about a word.
struct Hint(Option<&'static str>);

impl fmt::Display for Hint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |word| write!(formatter, "; did you mean `{word}`?"))
    }
}

fn is_number(number: u16) -> bool {
    (1..=CODE_NUMBER_MAX).contains(&number)
}

/// The text in compatibility form and small letters, with a space for every hyphen, and without what cannot be seen.
fn folded(text: &str) -> Result<Zeroizing<String>, CodeFault> {
    // Before anything walks over it: the text may be a megabyte.
    let text = text.trim();
    if text.len() > TYPED_BYTES_MAX {
        return Err(CodeFault::TooLong);
    }
    let mut folded = Zeroizing::new(String::with_capacity(FOLDED_BYTES_MAX));
    for char in text.nfkc().flat_map(char::to_lowercase) {
        let char = if char.is_whitespace() || is_hyphen(char) { ' ' } else { char };
        if is_invisible(char) {
            continue;
        }
        if folded.len() + char.len_utf8() > FOLDED_BYTES_MAX {
            return Err(CodeFault::TooLong);
        }
        folded.push(char);
    }
    Ok(folded)
}

/// What keyboards, phones and word processors write for a hyphen.
fn is_hyphen(char: char) -> bool {
    matches!(char, '-' | '_' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// What comes along with pasted text and shows nowhere.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// Where the typed word stands in the list. `place` is its place in the code.
fn place_of(typed: &str, place: usize) -> Result<u16, CodeFault> {
    let start = WORDS.partition_point(|word| *word < typed);
    match words_from(typed) {
        [] => Err(CodeFault::UnknownWord { place, suggestion: nearest(typed) }),
        // A word that is typed in full is meant, even where a longer one begins with it.
        [first, ..] if *first == typed => Ok(index(start)),
        [_] => Ok(index(start)),
        [first, .., last] => Err(CodeFault::AmbiguousWord { place, first, last }),
    }
}

fn index(place: usize) -> u16 {
    u16::try_from(place).expect("the list has fewer words than a u16 counts")
}

/// The words that begin with `start`, which is in small letters.
fn words_from(start: &str) -> &'static [&'static str] {
    let words: &'static [&'static str] = &WORDS;
    let from = words.partition_point(|word| *word < start);
    let count = words[from..].partition_point(|word| word.starts_with(start));
    &words[from..from + count]
}

/// The word of the list that fewest slips lead to, where few do; of several, one that begins alike, else the first.
fn nearest(typed: &str) -> Option<&'static str> {
    let typed: Zeroizing<Vec<char>> = Zeroizing::new(typed.chars().take(WORD_BYTES_MAX + SLIPS_MAX + 1).collect());
    let rank = |word: &&'static str| {
        let slips = slips(&typed, word.as_bytes());
        (slips <= SLIPS_MAX).then_some((slips, typed.first().copied() != word.chars().next(), *word))
    };
    WORDS.iter().filter_map(rank).min().map(|(.., word)| word)
}

/// How many letters have to be put in, left out, replaced or swapped with their neighbour to make one of the other.
fn slips(typed: &[char], word: &[u8]) -> usize {
    let width = word.len() + 1;
    // Rows of the table for the letter before the last one, the last one and this one.
    let mut rows = [vec![0; width], (0..width).collect(), vec![0; width]];
    for (row, &char) in typed.iter().enumerate() {
        rows[2][0] = row + 1;
        for (column, &letter) in word.iter().enumerate() {
            let replaced = rows[1][column] + usize::from(char != char::from(letter));
            let mut least = replaced.min(rows[1][column + 1] + 1).min(rows[2][column] + 1);
            let is_swap =
                row > 0 && column > 0 && char == char::from(word[column - 1]) && typed[row - 1] == char::from(letter);
            if is_swap {
                least = least.min(rows[0][column - 1] + 1);
            }
            rows[2][column + 1] = least;
        }
        rows.rotate_left(1);
    }
    let [_, last, _] = rows;
    last[width - 1]
}

/// Longest word of the list, in bytes.
const WORD_BYTES_MAX: usize = 7;
/// Longest code as it is shown, in bytes.
const TEXT_BYTES_MAX: usize = 3 + CODE_WORDS * (WORD_BYTES_MAX + 1);
/// Longest text that is looked at, in bytes: a code in wide letters with room for what surrounds it.
const TYPED_BYTES_MAX: usize = 256;
/// Longest such text once it is folded, in bytes.
const FOLDED_BYTES_MAX: usize = 256;
/// Slips that a suggestion makes up for.
const SLIPS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "7-amber-canoe-lentil";

    fn code() -> impl Strategy<Value = Code> {
        (1..=CODE_NUMBER_MAX, prop::array::uniform3(0..1296u16))
            .prop_map(|(number, words)| Code::new(number, words).unwrap())
    }

    fn fault(text: &str) -> CodeFault {
        Code::parse(text).unwrap_err()
    }

    proptest! {
        #[test]
        fn codes_survive_their_text(code in code()) {
            let text = code.to_text();
            prop_assert!(text.len() <= TEXT_BYTES_MAX);
            prop_assert_eq!(&Code::parse(&text).unwrap(), &code);
            prop_assert_eq!(&Code::parse(&text.to_uppercase()).unwrap(), &code);
            prop_assert_eq!(&Code::parse(&text.replace('-', " ")).unwrap(), &code);
        }

        #[test]
        fn four_letters_of_each_word_are_enough(code in code()) {
            let text = code.to_text();
            let mut parts = text.split('-');
            let number = parts.next().unwrap();
            let short: Vec<&str> = parts.map(|word| &word[..4]).collect();
            prop_assert_eq!(Code::parse(&format!("{number} {}", short.join(" "))).unwrap(), code);
        }

        #[test]
        fn arbitrary_text_never_panics_and_no_fault_shows_it(text in "\\PC{0,80}") {
            if let Err(CodeFault::UnknownWord { suggestion: Some(word), .. }) = Code::parse(&text) {
                prop_assert!(code_words().contains(&word));
            }
            for word in text.split_whitespace() {
                prop_assert!(complete_word(word).iter().all(|full| full.starts_with(&word.to_ascii_lowercase())));
            }
        }

        #[test]
        fn one_slip_in_a_word_suggests_that_word(code in code(), at in any::<prop::sample::Index>(), letter in b'a'..=b'z') {
            let text = code.to_text();
            let word = text.split('-').nth(2).unwrap();
            let mut slipped = word.as_bytes().to_vec();
            let at = at.index(slipped.len());
            slipped[at] = letter;
            let slipped = String::from_utf8(slipped).unwrap();
            match Code::parse(&format!("7-amber-{slipped}-lentil")) {
                Err(CodeFault::UnknownWord { place, suggestion: Some(suggested) }) => {
                    prop_assert_eq!(place, 1);
                    // Another one may be as near; the list keeps words two slips apart, so none is nearer.
                    let typed: Vec<char> = slipped.chars().collect();
                    prop_assert_eq!(slips(&typed, suggested.as_bytes()), 1);
                }
                Err(CodeFault::UnknownWord { suggestion: None, .. }) => prop_assert!(false, "{}", slipped),
                // The slip made the word itself, or so few letters of another one that they begin it.
                _ => {}
            }
        }
    }

    #[test]
    fn row_71_a_code_is_read_however_it_is_typed() {
        let expected = Code::parse(TEXT).unwrap();
        assert_eq!(expected.number(), 7);
        assert_eq!(*expected.to_text(), TEXT);
        for typed in [
            "7-AMBER-Canoe-lentil",
            " 7 amber canoe lentil\r\n",
            "7  -amber -- canoe - lentil",
            "7amber canoe lentil",
            "007-amber-canoe-lentil",
            "7-ambe-cano-lent",
            "7 am can len",
            "７－ａｍｂｅｒ－ｃａｎｏｅ－ｌｅｎｔｉｌ",
            "７　ＡＭＢＥＲ　ＣＡＮＯＥ　ＬＥＮＴＩＬ",
            "7\u{2011}amber\u{2013}canoe\u{2014}lentil",
            "⁷ ⓐmber 𝐜𝐚𝐧𝐨𝐞 lentil",
            "7-am\u{ad}ber-ca\u{200b}noe-lentil\u{feff}",
            "7_amber_canoe_lentil",
            "-7-amber-canoe-lentil-",
        ] {
            match Code::parse(typed) {
                Ok(code) => assert!(code == expected, "{typed}"),
                // A short prefix may come to fit a second word when the list changes.
                Err(CodeFault::AmbiguousWord { .. }) if typed.contains(" am ") => {}
                Err(fault) => panic!("{typed}: {fault}"),
            }
        }
    }

    #[test]
    fn row_71_an_unknown_word_is_answered_from_the_public_list_only() {
        let suggestion = |text| match fault(text) {
            CodeFault::UnknownWord { place, suggestion } => (place, suggestion),
            other => panic!("{other:?}"),
        };
        assert_eq!(suggestion("7-ambre-canoe-lentil"), (0, Some("amber")));
        assert_eq!(suggestion("7-amber-cannoe-lentil"), (1, Some("canoe")));
        assert_eq!(suggestion("7-amber-canoe-lental"), (2, Some("lentil")));
        assert_eq!(suggestion("7-amber-canoe-xqxqxq"), (2, None));
        assert_eq!(suggestion("7-amber-kanoe-lentil"), (1, Some("canoe")));
        let long = format!("7-amber-canoe-{}", "z".repeat(200));
        assert_eq!(suggestion(&long), (2, None));
        let text = fault("7-amber-canoe-lental").to_string();
        assert_eq!(text, "word 3 of the code is not one that codes have; did you mean `lentil`?");
        assert!(!text.contains("lental") && !text.contains("amber"), "it repeats nothing that was typed");
    }

    #[test]
    fn every_fault_has_its_own_variant() {
        for empty in ["", "  ", "---", "\u{200b}"] {
            assert_eq!(fault(empty), CodeFault::Empty, "{empty:?}");
        }
        assert_eq!(fault("amber-canoe-lentil"), CodeFault::NumberMissing);
        for wrong in ["0-amber-canoe-lentil", "1000-amber-canoe-lentil", "99999999999-amber-canoe-lentil"] {
            assert_eq!(fault(wrong), CodeFault::NumberOutOfRange, "{wrong}");
        }
        assert_eq!(fault("7"), CodeFault::WordCount { found: 0 });
        assert_eq!(fault("7-amber-canoe"), CodeFault::WordCount { found: 2 });
        assert_eq!(fault("7-amber-canoe-lentil-amber"), CodeFault::WordCount { found: 4 });
        assert_eq!(fault(&"7-amber".repeat(1 << 16)), CodeFault::TooLong);
        // One character that unfolds into eighteen.
        assert_eq!(fault(&"\u{fdfa}".repeat(80)), CodeFault::TooLong);
        let CodeFault::AmbiguousWord { place: 0, first, last } = fault("7-a-canoe-lentil") else { panic!() };
        assert!(first.starts_with('a') && last.starts_with('a') && first < last);
        assert_eq!(Code::new(0, [0; 3]), None);
        assert_eq!(Code::new(1000, [0; 3]), None);
        assert_eq!(Code::new(7, [0, 0, 1296]), None);
    }

    #[test]
    fn a_word_is_completed_from_what_is_typed_of_it() {
        assert_eq!(complete_word("lenti"), ["lentil"]);
        assert_eq!(complete_word("LENT"), ["lentil"]);
        assert_eq!(complete_word("xq"), [""; 0]);
        assert_eq!(complete_word("lentilsoup"), [""; 0]);
        assert_eq!(complete_word("").len(), code_words().len());
    }

    #[test]
    fn no_debug_text_shows_a_code() {
        let text = format!("{:?}", Code::parse(TEXT).unwrap());
        assert_eq!(text, "Code([redacted])");
    }
}
