//! Where a symbolic link leads: text that stays below the top entry that the link lies in, whatever links lie there.

use crate::limits::LINK_TARGET_BYTES_MAX;
use crate::rel_path::{PathFault, RelPath, check_name, misleading_character};

/// What a symbolic link holds, as it is given to whoever reads it.
///
/// Folders above the link come first, as `..`, and only there: a `..` behind a name would be taken from wherever a link
/// of that name leads. So each link starts in a true folder, climbs true folders, no further than to the top entry that
/// it lies in, and goes down from there; and whatever other links of the listing it passes do the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkTarget(Box<str>);

/// The rule that a link's target breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TargetFault {
    /// It starts at a root, a drive or a share.
    #[error("it leads to an absolute path")]
    Absolute,
    /// The link lies in no folder, so that nothing is below its top entry.
    #[error("it lies in no folder of the offer")]
    AtTop,
    /// There is nothing in it.
    #[error("it leads nowhere")]
    Empty,
    /// It leads out of the top entry that the link lies in.
    #[error("it leads out of what is sent")]
    Leaves,
    /// A name on its way breaks a rule for names.
    #[error("on its way, {0}")]
    Name(PathFault),
    /// It is longer than 4096 bytes.
    #[error("its target is longer than {LINK_TARGET_BYTES_MAX} bytes")]
    TooLong,
    /// A `..` comes behind a name.
    #[error("its target has `..` behind a name, which may be a link itself")]
    Winding,
}

impl LinkTarget {
    /// Checks a target without regard to where its link lies.
    pub fn parse(text: &str) -> Result<Self, TargetFault> {
        if text.is_empty() {
            return Err(TargetFault::Empty);
        }
        if text.len() > LINK_TARGET_BYTES_MAX {
            return Err(TargetFault::TooLong);
        }
        let starts_with_drive = matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        if text.starts_with(['/', '\\']) || starts_with_drive {
            return Err(TargetFault::Absolute);
        }
        let mut went_down = false;
        // An empty name and `.` are where they are: systems pass over them.
        for name in text.split('/').filter(|name| !matches!(*name, "" | ".")) {
            if name == ".." {
                if went_down {
                    return Err(TargetFault::Winding);
                }
                continue;
            }
            went_down = true;
            check_name(name).map_err(TargetFault::Name)?;
        }
        Ok(Self(text.into()))
    }

    /// Checks that a link at `path` stays below the top entry that it lies in.
    pub fn check_from(&self, path: &RelPath) -> Result<(), TargetFault> {
        let folders = path.components().count() - 1;
        if folders == 0 {
            return Err(TargetFault::AtTop);
        }
        let climbed = self.0.split('/').filter(|name| *name == "..").count();
        if climbed >= folders { Err(TargetFault::Leaves) } else { Ok(()) }
    }

    /// Why a link with this target is refused, and nothing else of its offer: a backslash separates folders elsewhere.
    pub fn refusal(&self) -> Option<PathFault> {
        misleading_character(&self.0)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn checked(path: &str, target: &str) -> Result<(), TargetFault> {
        LinkTarget::parse(target)?.check_from(&RelPath::parse(path).unwrap())
    }

    #[test]
    fn row_25_targets_stay_below_their_top_entry() {
        for (path, target) in [
            ("t/a", "b"),
            ("t/a", "."),
            ("t/a", "./b//c/"),
            ("t/a", "none/at/all"),
            ("t/a", "..b"),
            ("t/a", "b..c/..."),
            ("t/d/a", ".."),
            ("t/d/a", "../x"),
            ("t/d/a", "./.././x"),
            ("t/d/e/a", "../../x"),
        ] {
            assert_eq!(checked(path, target), Ok(()), "{path} -> {target}");
        }
        for (path, target) in
            [("t/a", ".."), ("t/a", "../t/b"), ("t/a", "./../u"), ("t/d/a", "../.."), ("t/d/a", "..//../etc/passwd")]
        {
            assert_eq!(checked(path, target), Err(TargetFault::Leaves), "{path} -> {target}");
        }
        for target in ["b", ".", "t/b"] {
            assert_eq!(checked("a", target), Err(TargetFault::AtTop), "{target}");
        }
    }

    #[test]
    fn row_25_targets_that_no_good_sender_has_are_refused() {
        for target in ["/", "/etc/passwd", "//x", "C:x", r"C:\x", r"\x", r"\\server\share"] {
            assert_eq!(LinkTarget::parse(target), Err(TargetFault::Absolute), "{target}");
        }
        for target in ["b/..", "b/../c", "../b/../../../etc", "./b/./..", "b//.."] {
            assert_eq!(LinkTarget::parse(target), Err(TargetFault::Winding), "{target}");
        }
        assert_eq!(LinkTarget::parse(""), Err(TargetFault::Empty));
        assert_eq!(LinkTarget::parse(&"a/".repeat(2049)), Err(TargetFault::TooLong));
        assert!(LinkTarget::parse(&"a/".repeat(2048)).is_ok());
        let name = |target| match LinkTarget::parse(target) {
            Err(TargetFault::Name(fault)) => fault,
            other => panic!("{other:?}"),
        };
        assert_eq!(name("a\0b"), PathFault::Control);
        assert_eq!(name("\x1b[2J"), PathFault::Control);
        assert_eq!(name("../.haul/x"), PathFault::WorkFolder);
        assert_eq!(name(r"..\..\evil"), PathFault::Dots);
        assert_eq!(name(&"n".repeat(256)), PathFault::ComponentTooLong);
    }

    #[test]
    fn row_6_and_12_a_target_that_is_read_otherwise_elsewhere_refuses_its_link_alone() {
        assert_eq!(LinkTarget::parse(r"a\b").unwrap().refusal(), Some(PathFault::Backslash));
        assert_eq!(LinkTarget::parse("a\u{202e}b").unwrap().refusal(), Some(PathFault::Misleading));
        assert_eq!(LinkTarget::parse("a/b").unwrap().refusal(), None);
    }

    proptest! {
        /// A tree of links that were all accepted, walked as a system walks them: no way through it leads above the top.
        #[test]
        fn no_chain_of_accepted_links_leaves_the_top_entry(
            links in proptest::collection::vec(("(t/)([de]/){0,2}[a-c]", "((\\.\\./){0,3})([a-e]/){0,3}([a-e]|\\.\\.|\\.)"), 1..8),
        ) {
            let mut tree = BTreeMap::new();
            for (path, target) in links {
                let path = RelPath::parse(&path).unwrap();
                if let Ok(target) = LinkTarget::parse(&target)
                    && target.check_from(&path).is_ok()
                {
                    tree.insert(path.as_str().to_owned(), target);
                }
            }
            for (path, target) in &tree {
                let start: Vec<String> = path.split('/').map(str::to_owned).collect();
                let mut todo: Vec<String> = target.as_str().split('/').rev().map(str::to_owned).collect();
                let mut at = start[..start.len() - 1].to_vec();
                let mut followed = 0;
                while let Some(name) = todo.pop() {
                    match name.as_str() {
                        "" | "." => {}
                        ".." => {
                            at.pop();
                            prop_assert!(!at.is_empty(), "{path} -> {} leaves", target.as_str());
                        }
                        _ => {
                            at.push(name);
                            if let Some(next) = tree.get(&at.join("/")) {
                                followed += 1;
                                if followed > 40 {
                                    break;
                                }
                                at.pop();
                                todo.extend(next.as_str().split('/').rev().map(str::to_owned));
                            }
                        }
                    }
                }
            }
        }
    }
}
