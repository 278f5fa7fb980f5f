//! A peer's path made safe to join to a folder.

use crate::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};
use std::cmp::Ordering;

/// The folder that a destination keeps unfinished transfers in; no entry may name it.
pub const WORK_FOLDER: &str = ".haul";

/// A relative path of plain components that stays below whatever folder it is joined to, on every platform.
///
/// Only [`RelPath::parse`] makes one. Ordered component by component, so that a folder's children follow it directly.
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
    /// A component holds a control character.
    #[error("a name holds a control character")]
    Control,
    /// A component is longer than 255 bytes.
    #[error("a name is longer than {COMPONENT_BYTES_MAX} bytes")]
    ComponentTooLong,
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
    /// The whole path is longer than 4096 bytes.
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// A component is the folder of unfinished transfers.
    #[error("the path holds a component named `{WORK_FOLDER}`")]
    WorkFolder,
}

impl RelPath {
    /// Checks a path as it came from a peer. Nothing is normalised: a path that is not canonical is refused.
    pub fn parse(text: &str) -> Result<Self, PathFault> {
        if text.is_empty() {
            return Err(PathFault::Empty);
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(PathFault::TooLong);
        }
        if text.starts_with('/') || text.starts_with('\\') || starts_with_drive(text) {
            return Err(PathFault::Absolute);
        }
        for (depth, component) in text.split('/').enumerate() {
            if depth >= PATH_DEPTH_MAX {
                return Err(PathFault::Deep);
            }
            check_component(component)?;
        }
        Ok(Self(text.into()))
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

    /// Whether a component starts with a dot.
    pub fn is_hidden(&self) -> bool {
        self.components().any(|component| component.starts_with('.'))
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

fn check_component(component: &str) -> Result<(), PathFault> {
    match component {
        "" => return Err(PathFault::Empty),
        "." | ".." => return Err(PathFault::Dots),
        _ if component.eq_ignore_ascii_case(WORK_FOLDER) => return Err(PathFault::WorkFolder),
        _ if component.len() > COMPONENT_BYTES_MAX => return Err(PathFault::ComponentTooLong),
        _ => {}
    }
    for character in component.chars() {
        match character {
            '\\' => return Err(PathFault::Backslash),
            '\0'..='\x1f' | '\x7f'..='\u{9f}' => return Err(PathFault::Control),
            // Bidirectional marks, embeddings, overrides and isolates; line and paragraph separators; zero width
            // space and the byte order mark. U+200C and U+200D are letters' business in Persian names and emoji.
            '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => return Err(PathFault::Misleading),
            _ => {}
        }
    }
    Ok(())
}
