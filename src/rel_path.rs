//! A peer's path made safe to join to a folder.

use crate::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};
use std::cmp::Ordering;

/// The folder that a destination keeps unfinished transfers in; no entry may name it.
pub const WORK_FOLDER: &str = ".haul";

/// A relative path of plain components that stays below whatever folder it is joined to, on every platform.
///
/// Only [`RelPath::parse`] and [`RelPath::parse_listed`] make one. Ordered component by component, so that a folder's
/// children follow it directly.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RelPath(Box<str>);

/// The rule that a path breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathFault {
    /// It starts at a root, a drive or a share.
    #[error("the path is absolute")]
    Absolute,
    /// A component holds a backslash, which separates folders on some platforms.
    #[error("a name holds a backslash, which is a folder separator elsewhere")]
    Backslash,
    /// A component is longer than 255 bytes.
    #[error("a name is longer than {COMPONENT_BYTES_MAX} bytes")]
    ComponentTooLong,
    /// A component holds a control character.
    #[error("a name holds a control character")]
    Control,
    /// There are more than 64 components.
    #[error("the path is nested deeper than {PATH_DEPTH_MAX} folders")]
    Deep,
    /// A component is `.` or `..`.
    #[error("the path holds a `.` or `..` component")]
    Dots,
    /// The path, or a component, is empty.
    #[error("the path or one of its names is empty")]
    Empty,
    /// A component holds a character that hides or reorders text.
    #[error("a name holds a character that hides or reorders text")]
    Misleading,
    /// The bytes are not UTF-8.
    #[error("the path is not valid UTF-8")]
    NotUtf8,
    /// The whole path is longer than 4096 bytes.
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// A component is the folder of unfinished transfers.
    #[error("the path holds a component named `{WORK_FOLDER}`")]
    WorkFolder,
}

/// Why Windows cannot hold a path that is a good one elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WindowsFault {
    /// A component holds one of `< > : " | ? *`; behind a colon Windows keeps a hidden stream.
    #[error("a name holds one of < > : \" | ? *, which Windows does not allow")]
    Character,
    /// A component names a device, whatever its extension.
    #[error("a name is that of a Windows device")]
    Device,
    /// A component is what Windows may call the folder of unfinished transfers in its 8.3 form.
    #[error("a name is the short form of `{WORK_FOLDER}` on Windows")]
    ShortWorkFolder,
    /// A component ends in a dot or a space, which Windows drops.
    #[error("a name ends in a dot or a space, which Windows drops")]
    TrailingDotOrSpace,
}

impl PathFault {
    /// Whether the path condemns the whole offer. A path that a well-meaning sender may have refuses its file alone.
    pub fn refuses_whole_offer(self) -> bool {
        !matches!(self, Self::Backslash | Self::Misleading)
    }
}

impl RelPath {
    /// Checks a path as it came from a peer. Nothing is normalised: a path that is not canonical is refused.
    ///
    /// Of several faults one that [refuses the whole offer](PathFault::refuses_whole_offer) is told first, so that
    /// nothing hides an attack behind a backslash.
    pub fn parse(text: &str) -> Result<Self, PathFault> {
        let path = Self::parse_listed(text)?;
        path.refusal().map_or(Ok(path), Err)
    }

    /// Checks a path of a listing, which may hold files that are refused alone: see [`RelPath::refusal`].
    pub fn parse_listed(text: &str) -> Result<Self, PathFault> {
        if text.is_empty() {
            return Err(PathFault::Empty);
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(PathFault::TooLong);
        }
        if text.starts_with(['/', '\\']) || starts_with_drive(text) {
            return Err(PathFault::Absolute);
        }
        for (depth, component) in text.split('/').enumerate() {
            if depth >= PATH_DEPTH_MAX {
                return Err(PathFault::Deep);
            }
            check_name(component)?;
        }
        Ok(Self(text.into()))
    }

    /// Why what this path names is refused, and nothing else of its offer. Such a path is never joined to a folder.
    pub fn refusal(&self) -> Option<PathFault> {
        misleading_character(&self.0)
    }

    /// Checks a path that came as bytes.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, PathFault> {
        str::from_utf8(bytes).map_err(|_| PathFault::NotUtf8).and_then(Self::parse)
    }

    /// The path as text, components separated by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components from the top down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The path of the folder that holds this path, or `None` at the top.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// The same folder, with the last component replaced.
    pub fn with_name(&self, name: &str) -> Result<Self, PathFault> {
        match self.0.rsplit_once('/') {
            Some((parent, _)) => Self::parse(&format!("{parent}/{name}")),
            None => Self::parse(name),
        }
    }

    /// Whether a component starts with a dot. A list shown before accepting marks such a path.
    pub fn is_hidden(&self) -> bool {
        self.components().any(|component| component.starts_with('.'))
    }

    /// Whether the topmost component starts with a dot: in a home folder that is where settings and keys live.
    pub fn is_hidden_at_top(&self) -> bool {
        self.0.starts_with('.')
    }

    /// Why Windows cannot hold this path, if so: a refusal where the destination is Windows, a notice elsewhere.
    pub fn windows_fault(&self) -> Option<WindowsFault> {
        self.components().find_map(component_windows_fault)
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `C:` and the like, which Windows reads as a place on another drive even without a slash behind it.
fn starts_with_drive(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// The first character for which a text is refused alone.
pub(crate) fn misleading_character(text: &str) -> Option<PathFault> {
    text.chars().find_map(|character| match character {
        '\\' => Some(PathFault::Backslash),
        _ if is_misleading(character) => Some(PathFault::Misleading),
        _ => None,
    })
}

/// Finds what refuses the whole offer in one name.
pub(crate) fn check_name(component: &str) -> Result<(), PathFault> {
    match component {
        "" => Err(PathFault::Empty),
        // What is one name here climbs out of the folder on Windows.
        _ if component == "." || component.split('\\').any(|part| part == "..") => Err(PathFault::Dots),
        _ if is_work_folder(component) => Err(PathFault::WorkFolder),
        _ if component.len() > COMPONENT_BYTES_MAX => Err(PathFault::ComponentTooLong),
        _ if component.chars().any(|character| matches!(character, '\0'..='\x1f' | '\x7f'..='\u{9f}')) => {
            Err(PathFault::Control)
        }
        _ => Ok(()),
    }
}

/// File systems that fold case find `.HAUL`, and HFS+ ignores the joiners, which are good in other names.
fn is_work_folder(component: &str) -> bool {
    let visible = || component.chars().filter(|character| !matches!(character, '\u{200c}' | '\u{200d}'));
    visible().map(|character| character.to_ascii_lowercase()).eq(WORK_FOLDER.chars())
}

/// Bidirectional marks, embeddings, overrides and isolates; line and paragraph separators; zero width space, the byte
/// order mark and invisible operators. U+200C and U+200D are letters' business in Persian names and emoji.
fn is_misleading(character: char) -> bool {
    matches!(character,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn component_windows_fault(component: &str) -> Option<WindowsFault> {
    // A device is found before the characters are looked at, because `CON:` is one too.
    if is_windows_device(component) {
        Some(WindowsFault::Device)
    } else if component.contains(['<', '>', ':', '"', '|', '?', '*']) {
        Some(WindowsFault::Character)
    } else if component.ends_with(['.', ' ']) {
        Some(WindowsFault::TrailingDotOrSpace)
    } else if is_short_work_folder(component) {
        Some(WindowsFault::ShortWorkFolder)
    } else {
        None
    }
}

/// Windows looks at what stands before the first dot or colon, without the spaces at its end.
fn is_windows_device(component: &str) -> bool {
    let stem = component.split(['.', ':']).next().unwrap_or(component).trim_end_matches(' ');
    let is = |name: &str| stem.eq_ignore_ascii_case(name);
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"].into_iter().any(is) {
        return true;
    }
    let Some((letters, digit)) = stem.split_at_checked(3) else { return false };
    (letters.eq_ignore_ascii_case("COM") || letters.eq_ignore_ascii_case("LPT"))
        && matches!(digit.chars().as_str(), "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
}

fn is_short_work_folder(component: &str) -> bool {
    let stem = WORK_FOLDER.trim_start_matches('.');
    component.split_at_checked(stem.len()).is_some_and(|(letters, rest)| {
        letters.eq_ignore_ascii_case(stem)
            && rest.strip_prefix('~').is_some_and(|digits| digits.starts_with(|digit: char| digit.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    /// Rows of the table of bad inputs that are about a path alone: the row, the path, the rule that it breaks.
    const REFUSED: &[(u32, &str, PathFault)] = &[
        (1, "../evil", PathFault::Dots),
        (2, "a/../../evil", PathFault::Dots),
        (3, "..", PathFault::Dots),
        (3, ".", PathFault::Dots),
        (3, "", PathFault::Empty),
        (4, "/etc/passwd", PathFault::Absolute),
        (4, "//x", PathFault::Absolute),
        (5, r"C:\x", PathFault::Absolute),
        (5, "C:x", PathFault::Absolute),
        (5, "z:", PathFault::Absolute),
        (5, r"\\server\share\x", PathFault::Absolute),
        (5, r"\\?\C:\x", PathFault::Absolute),
        (5, r"\x", PathFault::Absolute),
        (6, r"a\b", PathFault::Backslash),
        (6, r"d/a\b", PathFault::Backslash),
        (6, r"..\evil", PathFault::Dots),
        (6, r"a\..\..\evil", PathFault::Dots),
        (7, "a\0b", PathFault::Control),
        (8, "a//b", PathFault::Empty),
        (8, "./a", PathFault::Dots),
        (8, "a/", PathFault::Empty),
        (8, "a/./b", PathFault::Dots),
        (10, "\x01", PathFault::Control),
        (10, "a\x1f", PathFault::Control),
        (10, "a\x7f", PathFault::Control),
        (10, "a\nb", PathFault::Control),
        (10, "a\rb", PathFault::Control),
        (10, "a\tb", PathFault::Control),
        (11, "\x1b[2J", PathFault::Control),
        (11, "\x1b]52;c;aGk=\x07", PathFault::Control),
        (11, "a\u{9b}2J", PathFault::Control),
        (12, "\u{202e}txt.exe", PathFault::Misleading),
        (12, "a\u{202a}", PathFault::Misleading),
        (12, "a\u{2066}b\u{2069}", PathFault::Misleading),
        (13, "a\u{200b}b", PathFault::Misleading),
        (13, "\u{feff}a", PathFault::Misleading),
        (13, "a\u{2060}b", PathFault::Misleading),
        (22, ".haul", PathFault::WorkFolder),
        (22, "a/.haul/b", PathFault::WorkFolder),
        (22, ".HAUL/x", PathFault::WorkFolder),
        (22, ".ha\u{200c}ul", PathFault::WorkFolder),
    ];

    /// Good paths everywhere, some of which Windows cannot hold.
    const ACCEPTED: &[(u32, &str, Option<WindowsFault>)] = &[
        (13, "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}.txt", None),
        (13, "\u{1f469}\u{200d}\u{1f4bb}.png", None),
        (13, "\u{2764}\u{fe0f}", None),
        (14, "CON", Some(WindowsFault::Device)),
        (14, "d/nul.txt", Some(WindowsFault::Device)),
        (14, "COM1", Some(WindowsFault::Device)),
        (14, "LPT9.log", Some(WindowsFault::Device)),
        (14, "COM1 ", Some(WindowsFault::Device)),
        (14, "com1 .tar.gz", Some(WindowsFault::Device)),
        (14, "COM\u{b9}", Some(WindowsFault::Device)),
        (14, "CONIN$", Some(WindowsFault::Device)),
        (14, "clock$", Some(WindowsFault::Device)),
        (14, "CONsole", None),
        (14, "COM10", None),
        (14, "a.con", None),
        (15, "a.", Some(WindowsFault::TrailingDotOrSpace)),
        (15, "a /b", Some(WindowsFault::TrailingDotOrSpace)),
        (15, "...", Some(WindowsFault::TrailingDotOrSpace)),
        (16, "f:stream", None),
        (16, "Lecture 10:30.mp4", Some(WindowsFault::Character)),
        (16, "what?", Some(WindowsFault::Character)),
        (16, "a<b>\"|*", Some(WindowsFault::Character)),
        (22, "haul~1/x", Some(WindowsFault::ShortWorkFolder)),
        (22, ".haul2", None),
        (22, "haul2", None),
        (22, "pack~1", None),
        (23, ".bashrc", None),
        (23, ".ssh/authorized_keys", None),
        (23, "project/.git/config", None),
    ];

    #[test]
    fn bad_paths_are_refused_by_the_rule_they_break() {
        for &(row, text, fault) in REFUSED {
            assert_eq!(RelPath::parse(text), Err(fault), "row {row}: {text:?}");
            let is_mild = matches!(row, 6 | 12 | 13) && fault != PathFault::Dots;
            assert_eq!(fault.refuses_whole_offer(), !is_mild, "row {row}: {text:?}");
        }
    }

    #[test]
    fn names_that_only_windows_refuses_are_good_paths() {
        for &(row, text, fault) in ACCEPTED {
            if row == 16 && text.starts_with("f:") {
                // A single letter before the colon is also a drive, so row 5 refuses it everywhere.
                assert_eq!(RelPath::parse(text), Err(PathFault::Absolute));
                assert_eq!(RelPath::parse("d/f:stream").unwrap().windows_fault(), Some(WindowsFault::Character));
                continue;
            }
            let path = RelPath::parse(text).unwrap_or_else(|fault| panic!("row {row}: {text:?}: {fault}"));
            assert_eq!(path.windows_fault(), fault, "row {row}: {text:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        for bytes in [&b"a\xffb"[..], b"\xc0\xae\xc0\xae/x", b"\xed\xa0\x80", b"caf\xe9"] {
            assert_eq!(RelPath::parse_bytes(bytes), Err(PathFault::NotUtf8), "row 9: {bytes:?}");
        }
        assert_eq!(RelPath::parse_bytes(b"a/b").unwrap().as_str(), "a/b");
    }

    #[test]
    fn lengths_and_depth_end_where_the_limits_say() {
        assert!(RelPath::parse(&"a".repeat(COMPONENT_BYTES_MAX)).is_ok());
        assert_eq!(RelPath::parse(&"a".repeat(COMPONENT_BYTES_MAX + 1)), Err(PathFault::ComponentTooLong));
        assert!(RelPath::parse(&vec!["a"; PATH_DEPTH_MAX].join("/")).is_ok());
        assert_eq!(RelPath::parse(&vec!["a"; PATH_DEPTH_MAX + 1].join("/")), Err(PathFault::Deep));
        let longest = format!("{}/{}", vec!["a".repeat(240); 16].join("/"), "b".repeat(PATH_BYTES_MAX - 16 * 241));
        assert_eq!(longest.len(), PATH_BYTES_MAX);
        assert!(RelPath::parse(&longest).is_ok());
        assert_eq!(RelPath::parse(&format!("{longest}b")), Err(PathFault::TooLong));
    }

    #[test]
    fn a_fault_of_the_offer_outranks_one_of_the_file() {
        assert_eq!(RelPath::parse(r"a\b/../c"), Err(PathFault::Dots));
        assert_eq!(RelPath::parse("a\u{202e}b/c\nd"), Err(PathFault::Control));
        assert_eq!(RelPath::parse("a\\b\u{202e}"), Err(PathFault::Backslash));
    }

    #[test]
    fn hidden_names_are_told() {
        let of = |text| RelPath::parse(text).unwrap();
        assert!(of(".bashrc").is_hidden() && of(".bashrc").is_hidden_at_top());
        assert!(of("project/.git/config").is_hidden() && !of("project/.git/config").is_hidden_at_top());
        assert!(!of("a.b/c").is_hidden());
    }

    #[test]
    fn parts_of_a_path() {
        let path = RelPath::parse("a/b/c.txt").unwrap();
        assert_eq!(path.name(), "c.txt");
        assert_eq!(path.parent(), Some(RelPath::parse("a/b").unwrap()));
        assert_eq!(RelPath::parse("a").unwrap().parent(), None);
        assert_eq!(path.with_name("d").unwrap().as_str(), "a/b/d");
        assert_eq!(path.with_name(".."), Err(PathFault::Dots));
        assert_eq!(RelPath::parse("a").unwrap().with_name("b").unwrap().as_str(), "b");
    }

    #[test]
    fn children_follow_their_folder_directly() {
        let mut paths = ["a-b", "a/z", "a", "a.txt", "a/b/c", "a/b", "b"].map(|text| RelPath::parse(text).unwrap());
        paths.sort();
        let sorted: Vec<&str> = paths.iter().map(RelPath::as_str).collect();
        assert_eq!(sorted, ["a", "a/b", "a/b/c", "a/z", "a-b", "a.txt", "b"]);
    }

    /// Where Windows would go from a folder: `None` when it leaves the folder.
    fn windows_components(text: &str) -> Option<Vec<&str>> {
        let bytes = text.as_bytes();
        let is_drive = bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':';
        if is_drive || text.starts_with(['/', '\\']) {
            return None;
        }
        let mut places = Vec::new();
        for part in text.split(['/', '\\']) {
            match part {
                "" | "." => {}
                ".." => {
                    places.pop()?;
                }
                part => places.push(part),
            }
        }
        Some(places)
    }

    fn any_path() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just(String::new()),
            Just(".haul".to_owned()),
            Just("C:".to_owned()),
            "[a-cA-C.~:\\\\ \u{200b}-\u{200f}]{0,4}",
            any::<String>(),
        ];
        let joint = prop_oneof![8 => Just("/"), 1 => Just("\\"), 1 => Just("//")];
        prop::collection::vec((part, joint), 1..6)
            .prop_map(|parts| parts.iter().flat_map(|(part, joint)| [part.as_str(), joint]).collect::<String>())
            .prop_map(|text| text.strip_suffix('/').map_or(text.clone(), str::to_owned))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn accepted_paths_stay_below_their_folder(text in any_path()) {
            let Ok(path) = RelPath::parse(&text) else { return Ok(()) };
            prop_assert_eq!(RelPath::parse(path.as_str()), Ok(path.clone()));
            let ours: Vec<&str> = path.components().collect();
            let theirs: Vec<Component<'_>> = Path::new(path.as_str()).components().collect();
            prop_assert_eq!(theirs, ours.iter().map(|name| Component::Normal(name.as_ref())).collect::<Vec<_>>());
            prop_assert_eq!(windows_components(path.as_str()), Some(ours.clone()));
            let root = Path::new("/some/root");
            let joined = root.join(path.as_str());
            prop_assert!(joined.starts_with(root) && joined != root);
            prop_assert_eq!(joined.components().count(), root.components().count() + ours.len());
        }

        #[test]
        fn order_is_that_of_component_lists(one in any_path(), other in any_path()) {
            if let (Ok(one), Ok(other)) = (RelPath::parse(&one), RelPath::parse(&other)) {
                let lists = |path: &RelPath| path.components().map(str::to_owned).collect::<Vec<_>>();
                prop_assert_eq!(one.cmp(&other), lists(&one).cmp(&lists(&other)));
            }
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let judged = RelPath::parse_bytes(&bytes);
            prop_assert_eq!(judged.is_ok(), str::from_utf8(&bytes).is_ok_and(|text| RelPath::parse(text).is_ok()));
        }
    }
}
