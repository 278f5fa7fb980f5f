//! Which files and folders a walk takes: patterns with the rules of gitignore, hidden names, long files.
//!
//! A pattern is about what lies in a given folder, as if it stood in a `.gitignore` there. The given paths themselves are
//! what somebody named: a file among them is matched by its name, and a folder by a pattern that names it, which neither
//! one for a place in a folder (`/build`) nor one for everything (`*`) does. What is hidden among them is taken.

use super::place;
use crate::digest::PurposeHasher;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::{Error, Match};
use rustix::fs::FileType;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Names of what was left out that are told; further ones are counted.
const LEFT_OUT_NAMES_MAX: usize = 1000;

/// One rule about names. Of those that match a name, the last one decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rule {
    /// What matches this pattern is left out; after a `!` it is taken again.
    Exclude(String),
    /// What matches this pattern is taken, although an earlier one left it out.
    Include(String),
    /// Lines of a file with the syntax of a `.gitignore`.
    Lines(String),
}

/// Which files and folders a walk takes. By default all of them.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    rules: Vec<Rule>,
    patterns: Option<Gitignore>,
    no_hidden: bool,
    bytes_max: Option<u64>,
}

/// A pattern that is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{}` is no pattern: {}", crate::printable::printable(pattern), crate::printable::printable(why))]
pub struct PatternFault {
    /// As it was given.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

/// What the filters of a walk left out. What lies in a folder that was left out is not counted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeftOut {
    /// Files, and everything else that is no folder.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// The first of them, each beginning with the path as it was given; folders end in `/`.
    pub paths: Vec<PathBuf>,
}

/// The filter of a walk under way.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    filter: Filter,
    /// The given path that is being walked.
    given: PathBuf,
    pub(super) left_out: LeftOut,
}

impl Filter {
    /// A filter by `rules`, first to last, without hidden names if `no_hidden`, and without files longer than `bytes_max`.
    pub fn new(rules: Vec<Rule>, no_hidden: bool, bytes_max: Option<u64>) -> Result<Self, PatternFault> {
        let mut builder = GitignoreBuilder::new("");
        builder.allow_unclosed_class(false);
        for rule in &rules {
            match rule {
                Rule::Exclude(pattern) => add(&mut builder, pattern, &line_of(pattern, ""))?,
                Rule::Include(pattern) => add(&mut builder, pattern, &line_of(pattern, "!"))?,
                Rule::Lines(text) => {
                    for line in text.trim_start_matches('\u{feff}').lines() {
                        add_line(&mut builder, line, line)?;
                    }
                }
            }
        }
        let built = builder.build().map_err(|error| fault(&format!("{} patterns", rules.len()), error))?;
        let patterns = Some(built).filter(|patterns| !patterns.is_empty());
        Ok(Self { rules, patterns, no_hidden, bytes_max })
    }

    /// Whether it takes everything.
    pub fn is_open(&self) -> bool {
        self.rules.is_empty() && !self.no_hidden && self.bytes_max.is_none()
    }

    /// Names the filter within the name of an offer. One that takes everything adds nothing.
    pub(super) fn name_to(&self, hasher: &mut PurposeHasher) {
        if self.is_open() {
            return;
        }
        hasher.field(b"filter").field(&[u8::from(self.no_hidden)]);
        hasher.field(&self.bytes_max.map_or(Vec::new(), |bytes| bytes.to_le_bytes().to_vec()));
        for rule in &self.rules {
            let (kind, text) = match rule {
                Rule::Exclude(pattern) => ("exclude", pattern),
                Rule::Include(pattern) => ("include", pattern),
                Rule::Lines(lines) => ("lines", lines),
            };
            hasher.field(kind.as_bytes()).field(text.as_bytes());
        }
    }

    /// Whether it takes what lies at `below` a given folder. A folder that it does not take is not walked into.
    pub fn takes(&self, below: &Path, is_folder: bool, bytes: u64) -> bool {
        let is_hidden = || below.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."));
        !(self.no_hidden && is_hidden()) && self.takes_length(is_folder, bytes) && !self.is_excluded(below, is_folder)
    }

    /// Whether it takes a given path of the name `name`.
    pub fn takes_given(&self, name: &OsStr, is_folder: bool, bytes: u64) -> bool {
        if !is_folder {
            return self.takes_length(false, bytes) && !self.is_excluded(Path::new(name), false);
        }
        match self.patterns.as_ref().map(|patterns| patterns.matched(name, true)) {
            Some(Match::Ignore(glob)) => {
                let pattern = glob.original();
                pattern.starts_with('/') || pattern.bytes().all(|byte| b"*/".contains(&byte))
            }
            _ => true,
        }
    }

    fn takes_length(&self, is_folder: bool, bytes: u64) -> bool {
        is_folder || self.bytes_max.is_none_or(|bytes_max| bytes <= bytes_max)
    }

    fn is_excluded(&self, path: &Path, is_folder: bool) -> bool {
        self.patterns.as_ref().is_some_and(|patterns| patterns.matched(path, is_folder).is_ignore())
    }
}

impl LeftOut {
    /// Whether anything was.
    pub fn is_empty(&self) -> bool {
        self.files == 0 && self.folders == 0
    }

    /// How many further paths there would be.
    pub fn untold(&self) -> u64 {
        (self.files + self.folders).saturating_sub(self.paths.len() as u64)
    }
}

impl Sieve {
    pub(super) fn new(filter: Filter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// From here on what lies at or below the given path `given` is asked about.
    pub(super) fn begin(&mut self, given: &Path) {
        given.clone_into(&mut self.given);
    }

    /// Whether what lies at `local_path`, under `name` in `folder`, is not to be sent; notes it where it is not. What
    /// cannot be looked at is taken: whoever takes it says why it cannot be read.
    pub(super) fn leaves_out(&mut self, folder: BorrowedFd<'_>, name: &OsStr, local_path: &Path) -> bool {
        if self.filter.is_open() {
            return false;
        }
        let Ok(stat) = place::status(folder, name) else { return false };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_folder = kind == FileType::Directory;
        let bytes = if kind == FileType::RegularFile { u64::try_from(stat.st_size).unwrap_or(u64::MAX) } else { 0 };
        let is_taken = match local_path.strip_prefix(&self.given) {
            Ok(below) if !below.as_os_str().is_empty() => self.filter.takes(below, is_folder, bytes),
            _ => match self.given.components().next_back() {
                Some(Component::Normal(given)) => self.filter.takes_given(given, is_folder, bytes),
                // Nobody named it by its name.
                _ => true,
            },
        };
        if !is_taken {
            self.note(local_path, is_folder);
        }
        !is_taken
    }

    fn note(&mut self, path: &Path, is_folder: bool) {
        let LeftOut { files, folders, paths } = &mut self.left_out;
        *(if is_folder { folders } else { files }) += 1;
        if paths.len() < LEFT_OUT_NAMES_MAX {
            let slash = if is_folder { Path::new("") } else { return paths.push(path.to_owned()) };
            // An empty last component ends the path in a slash.
            paths.push(path.join(slash));
        }
    }
}

/// A pattern of the command line as a line of a `.gitignore`: it is no comment.
fn line_of(pattern: &str, before: &str) -> String {
    let escape = if pattern.starts_with('#') { "\\" } else { "" };
    format!("{before}{escape}{pattern}")
}

fn add(builder: &mut GitignoreBuilder, pattern: &str, line: &str) -> Result<(), PatternFault> {
    if pattern.trim_start_matches('!').trim().trim_matches('/').is_empty() {
        return Err(PatternFault { pattern: pattern.to_owned(), why: "it names nothing".to_owned() });
    }
    add_line(builder, pattern, line)
}

fn add_line(builder: &mut GitignoreBuilder, pattern: &str, line: &str) -> Result<(), PatternFault> {
    builder.add_line(None, line).map(|_| ()).map_err(|error| fault(pattern, error))
}

fn fault(pattern: &str, error: Error) -> PatternFault {
    let why = match error {
        Error::Glob { err, .. } => err,
        other => other.to_string(),
    };
    PatternFault { pattern: pattern.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Filter {
        Filter::new(vec![Rule::Lines(text.to_owned())], false, None).unwrap()
    }

    /// Whether a walk gets as far as `path`, a folder if it ends so, and takes it.
    fn reaches(filter: &Filter, path: &str) -> bool {
        let is_folder = path.ends_with('/');
        let path = path.trim_end_matches('/');
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        above.into_iter().all(|folder| filter.takes(Path::new(folder), true, 0))
            && filter.takes(Path::new(path), is_folder, 0)
    }

    #[track_caller]
    fn check(patterns: &str, taken: &[&str], left_out: &[&str]) {
        let filter = lines(patterns);
        for path in taken {
            assert!(reaches(&filter, path), "{patterns:?} takes {path}");
        }
        for path in left_out {
            assert!(!reaches(&filter, path), "{patterns:?} leaves {path} out");
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_in_a_gitignore() {
        check("*.log", &["a.txt", "log", "a.log.gz"], &["a.log", "deep/er/b.log", ".log", "x.log/", "x.log/inside"]);
        check("/build", &["src/build", "src/build/x", "builds"], &["build", "build/", "build/x"]);
        check("build/", &["build", "src/build", "builds/"], &["build/", "build/x", "src/build/", "src/build/x"]);
        check("*.log\n!keep.log", &["keep.log", "deep/keep.log"], &["a.log", "xkeep.log"]);
        check("!keep.log\n*.log", &[], &["keep.log", "a.log"]);
        check("**/x", &["a/xx"], &["x", "a/x", "a/b/x", "x/inside"]);
        check("a/**", &["a/", "b/a/c"], &["a/b", "a/b/c"]);
        check("a/**/b", &["b", "c/a/b"], &["a/b", "a/x/b", "a/x/y/b"]);
        check("doc/*.txt", &["doc/a/b.txt", "x/doc/a.txt"], &["doc/a.txt"]);
        check("node_modules", &["node_module", "my/node_modules.txt"], &["node_modules/", "app/node_modules/x"]);
        check("?.c", &["ab.c", ".c"], &["a.c", "x/b.c"]);
        check("[a-c]*", &["d", "Da"], &["apple", "x/cherry"]);
        check("*\n!*/\n!*.rs", &["a.rs", "src/", "src/b.rs"], &["a.txt", "src/b.txt"]);
        check("build\n!build/keep", &[], &["build/", "build/keep"]);
        check("# a comment\n\n  \n\\#real\n\\!real", &["a comment", "real"], &["#real", "!real"]);
        check("trailing   ", &["trailing "], &["trailing"]);
        check("caf\u{e9}", &["cafe"], &["caf\u{e9}"]);
    }

    #[test]
    fn of_the_flags_the_last_that_matches_decides() {
        let rules = |rules: &[Rule]| Filter::new(rules.to_vec(), false, None).unwrap();
        let exclude = |pattern: &str| Rule::Exclude(pattern.into());
        let include = |pattern: &str| Rule::Include(pattern.into());
        let keeping = rules(&[exclude("*.log"), include("keep.log")]);
        assert!(reaches(&keeping, "keep.log") && !reaches(&keeping, "a.log"));
        let not_keeping = rules(&[include("keep.log"), exclude("*.log")]);
        assert!(!reaches(&not_keeping, "keep.log"));
        let by_file = rules(&[Rule::Lines("*.log\n!b.log".into()), exclude("b*"), include("bb.log")]);
        assert!(reaches(&by_file, "bb.log") && !reaches(&by_file, "b.log") && !reaches(&by_file, "a.log"));
        assert!(!reaches(&rules(&[exclude("#notes#")]), "#notes#"), "it is no comment");
        assert!(reaches(&rules(&[exclude("*"), include("#notes#")]), "#notes#"));
        assert!(reaches(&rules(&[exclude("*.log"), exclude("!keep.log")]), "keep.log"));
    }

    #[test]
    fn hidden_names_and_long_files_are_left_out_where_that_is_wanted() {
        let filter = Filter::new(Vec::new(), true, Some(10)).unwrap();
        let takes = |path: &str, is_folder, bytes| filter.takes(Path::new(path), is_folder, bytes);
        assert!(takes("a", false, 10) && !takes("a", false, 11) && takes("a", true, 4096));
        assert!(!takes(".a", false, 1) && !takes("x/.git", true, 0) && takes("a.b", false, 1));
        let given = |name: &str, is_folder, bytes| filter.takes_given(OsStr::new(name), is_folder, bytes);
        assert!(given(".a", false, 1) && given(".git", true, 0), "somebody named them");
        assert!(!given("a", false, 11));
    }

    #[test]
    fn a_given_folder_is_left_out_only_where_it_is_named() {
        let takes = |patterns: &str, name: &str, is_folder| lines(patterns).takes_given(OsStr::new(name), is_folder, 0);
        assert!(!takes("node_modules", "node_modules", true) && !takes("node_modules/", "node_modules", true));
        assert!(!takes("build*", "build2", true));
        for everything in ["*", "/*", "**", "**/*", "*/", "/build"] {
            assert!(takes(everything, "build", true), "{everything}");
        }
        assert!(!takes("*", "a.txt", false) && takes("*\n!*.txt", "a.txt", false) && !takes("/a.txt", "a.txt", false));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let fault = |rule: Rule| Filter::new(vec![rule], false, None).unwrap_err();
        for pattern in ["[a", "a{b", "[z-a]", "a\\"] {
            let exclude = fault(Rule::Exclude(pattern.into()));
            assert_eq!(exclude.pattern, pattern);
            assert_eq!(fault(Rule::Include(pattern.into())), exclude);
            assert_eq!(fault(Rule::Lines(format!("fine\n{pattern}\n"))), exclude);
        }
        for pattern in ["", " ", "/", "!", "!/"] {
            assert_eq!(fault(Rule::Exclude(pattern.into())).why, "it names nothing", "{pattern:?}");
        }
        let text = fault(Rule::Exclude("[\x1b".into())).to_string();
        assert!(text.starts_with("`[\\u{1b}` is no pattern: ") && !text.contains('\x1b'), "{text}");
    }
}
