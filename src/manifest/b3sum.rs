//! Lists of hashes as `b3sum` prints and checks them: a line for each file, with its hash and its path.

use crate::digest::{DIGEST_BYTES, FileDigest};
use crate::limits::{ENTRIES_MAX, LISTING_BYTES_MAX, PATH_BYTES_MAX};
use crate::rel_path::{PathFault, RelPath};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Hexadecimal digits of a hash.
const HEX_DIGITS: usize = 2 * DIGEST_BYTES;
/// Longest line that is read, without its end: every character of the path may be escaped.
pub const B3SUM_LINE_BYTES_MAX: usize = 2 * PATH_BYTES_MAX + HEX_DIGITS + 32;

/// The hashes of a list, by path.
#[derive(Clone, Debug, Default)]
pub struct SumList {
    sums: BTreeMap<RelPath, FileDigest>,
    /// Bytes of all paths, and 32 for each.
    bytes: u64,
}

/// The rule that a line breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SumFault {
    /// The path is there already, with another hash.
    #[error("its path has another hash in an earlier line")]
    Contradiction,
    /// It is not made of a hash and a path.
    #[error("it is not a hash of 64 small hexadecimal digits, two spaces and a path")]
    Malformed,
    /// The path is not one below the folder.
    #[error("its path is refused: {0}")]
    Path(PathFault),
    /// There are more files than a list may have, or their paths are longer together.
    #[error("the list is longer than any that is read")]
    TooLong,
}

/// The line for the file at `path`, without its end. A name with a backslash or a line break is escaped, and the line
/// then begins with a backslash.
pub fn b3sum_line(path: &str, root: FileDigest) -> String {
    if path.contains(['\\', '\n']) {
        format!("\\{root}  {}", path.replace('\\', "\\\\").replace('\n', "\\n"))
    } else {
        format!("{root}  {path}")
    }
}

impl SumList {
    /// A list without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one line, without its end. A path may begin with `./`, as `find` has it.
    pub fn parse_line(&mut self, line: &[u8]) -> Result<(), SumFault> {
        if line.len() > B3SUM_LINE_BYTES_MAX {
            return Err(SumFault::TooLong);
        }
        let line = str::from_utf8(line).map_err(|_| SumFault::Malformed)?;
        let (is_escaped, line) = match line.strip_prefix('\\') {
            Some(line) => (true, line),
            None => (false, line),
        };
        let (hex, path) = split(line).ok_or(SumFault::Malformed)?;
        let root = FileDigest(digest(hex).ok_or(SumFault::Malformed)?);
        let path = if is_escaped { unescaped(path).ok_or(SumFault::Malformed)? } else { Cow::Borrowed(path) };
        let mut path = &*path;
        while let Some(below) = path.strip_prefix("./") {
            path = below;
        }
        let path = RelPath::parse(path).map_err(SumFault::Path)?;
        match self.sums.get(&path) {
            Some(known) if *known == root => return Ok(()),
            Some(_) => return Err(SumFault::Contradiction),
            None => {}
        }
        self.bytes += path.as_str().len() as u64 + 32;
        if self.sums.len() >= ENTRIES_MAX as usize || self.bytes > LISTING_BYTES_MAX {
            return Err(SumFault::TooLong);
        }
        self.sums.insert(path, root);
        Ok(())
    }

    /// Paths and hashes, in the order of a listing.
    pub fn sums(&self) -> impl Iterator<Item = (&RelPath, FileDigest)> {
        self.sums.iter().map(|(path, &root)| (path, root))
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }
}

/// Hash and path of a line, in the plain form or in that of `--tag`.
fn split(line: &str) -> Option<(&str, &str)> {
    if let Some(rest) = line.strip_prefix("BLAKE3 (") {
        let (path, hex) = rest.split_at_checked(rest.len().checked_sub(HEX_DIGITS)?)?;
        return Some((hex, path.strip_suffix(") = ")?));
    }
    let (hex, path) = line.split_at_checked(HEX_DIGITS)?;
    Some((hex, path.strip_prefix("  ")?))
}

fn digest(hex: &str) -> Option<[u8; DIGEST_BYTES]> {
    let mut digest = [0; DIGEST_BYTES];
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != DIGEST_BYTES || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(digest)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";

    fn abc() -> FileDigest {
        FileDigest(digest(ABC).unwrap())
    }

    fn parsed(lines: &[&str]) -> Result<Vec<String>, SumFault> {
        let mut list = SumList::new();
        for line in lines {
            list.parse_line(line.as_bytes())?;
        }
        Ok(list.sums().map(|(path, _)| path.as_str().to_owned()).collect())
    }

    /// What b3sum 1.2.0 printed for files of these names.
    #[test]
    fn odd_names_are_written_as_b3sum_writes_them() {
        let of = |text: &str| FileDigest(digest(text).unwrap());
        let recorded = [
            (
                "a\\b",
                "3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5",
                "\\3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5  a\\\\b",
            ),
            (
                "n\nl",
                "08112a9e334ce73042b531c25668cf5cb12a1ee040a4326afeac065461079a06",
                "\\08112a9e334ce73042b531c25668cf5cb12a1ee040a4326afeac065461079a06  n\\nl",
            ),
            (
                "c\rr",
                "1104908ab930e671002c7cd7f3fc921570b1bf64ecfa12fe363585c630eaca6b",
                "1104908ab930e671002c7cd7f3fc921570b1bf64ecfa12fe363585c630eaca6b  c\rr",
            ),
        ];
        for (path, hex, line) in recorded {
            assert_eq!(b3sum_line(path, of(hex)), line);
        }
        assert_eq!(b3sum_line("two  spaces and (brackets)", abc()), format!("{ABC}  two  spaces and (brackets)"));
    }

    #[test]
    fn what_is_written_is_read() {
        for path in ["a", "folder/with a name", "two  spaces", "BLAKE3 (x)", "\u{e9}", "-"] {
            assert_eq!(parsed(&[&b3sum_line(path, abc())]).unwrap(), [path]);
        }
        assert_eq!(parsed(&[&format!("BLAKE3 (a (1).txt) = {ABC}")]).unwrap(), ["a (1).txt"]);
        assert_eq!(
            parsed(&[&format!("{ABC}  ./b"), &format!("{ABC}  a/c"), &format!("{ABC}  b")]).unwrap(),
            ["a/c", "b"]
        );
    }

    #[test]
    fn paths_that_are_not_below_the_folder_are_refused() {
        for (path, fault) in [
            ("../a", PathFault::Dots),
            ("/etc/passwd", PathFault::Absolute),
            ("a/../../b", PathFault::Dots),
            ("", PathFault::Empty),
            ("./", PathFault::Empty),
            ("a//b", PathFault::Empty),
            (".haul/x", PathFault::WorkFolder),
            ("a\x1b[2J", PathFault::Control),
        ] {
            assert_eq!(parsed(&[&b3sum_line(path, abc())]), Err(SumFault::Path(fault)), "{path:?}");
        }
        assert_eq!(parsed(&[&b3sum_line("a\nb", abc())]), Err(SumFault::Path(PathFault::Control)));
        assert_eq!(parsed(&[&b3sum_line("a\\b", abc())]), Err(SumFault::Path(PathFault::Backslash)));
    }

    #[test]
    fn lines_of_another_form_are_refused() {
        let other = ABC.replace('6', "7");
        for line in [
            String::new(),
            ABC.into(),
            format!("{ABC} a"),
            format!("{ABC} *a"),
            format!("{}  a", ABC.to_uppercase()),
            format!("{}  a", &ABC[2..]),
            format!("\\{ABC}  a\\tb"),
            format!("\\{ABC}  a\\"),
            format!("BLAKE3 (a) = {}", &ABC[1..]),
            "\u{e9}".repeat(40),
        ] {
            assert_eq!(parsed(&[&line]), Err(SumFault::Malformed), "{line}");
        }
        assert_eq!(parsed(&[&format!("{ABC}  a"), &format!("{other}  a")]), Err(SumFault::Contradiction));
        assert_eq!(parsed(&[&format!("{ABC}  {}", "a/".repeat(5000))]), Err(SumFault::TooLong));
        let mut list = SumList::new();
        assert_eq!(list.parse_line(b"\xff\xfe"), Err(SumFault::Malformed));
    }
}
