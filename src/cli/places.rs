//! Where state and caches live, by the XDG base directory rules.

use std::ffi::OsString;
use std::path::PathBuf;

/// The folders of one user; `None` where the environment names no home.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Places {
    /// Links and session secrets.
    pub(crate) state: Option<PathBuf>,
    /// Hashes of files that did not change.
    pub(crate) cache: Option<PathBuf>,
}

impl Places {
    /// Reads the process's environment.
    pub(crate) fn detect() -> Self {
        Self::from_environment(|name| std::env::var_os(name))
    }

    fn from_environment(environment: impl Fn(&str) -> Option<OsString>) -> Self {
        // The XDG rules say that a relative path is to be ignored; an empty one is relative too.
        let folder = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let place = |variable: &str, below_home: &str| {
            let base = folder(variable).or_else(|| Some(folder(HOME)?.join(below_home)));
            base.map(|base| base.join("haul"))
        };
        Self { state: place("XDG_STATE_HOME", STATE), cache: place("XDG_CACHE_HOME", CACHE) }
    }
}

#[cfg(not(windows))]
const HOME: &str = "HOME";
#[cfg(windows)]
const HOME: &str = "LOCALAPPDATA";
#[cfg(not(windows))]
const STATE: &str = ".local/state";
#[cfg(windows)]
const STATE: &str = "state";
#[cfg(not(windows))]
const CACHE: &str = ".cache";
#[cfg(windows)]
const CACHE: &str = "cache";

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn places(environment: &[(&str, &str)]) -> Places {
        Places::from_environment(|name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_environment_names_the_folders() {
        let given = places(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("XDG_CACHE_HOME", "/c")]);
        assert_eq!(given, Places { state: Some("/s/haul".into()), cache: Some("/c/haul".into()) });
    }

    #[test]
    fn home_stands_in_for_what_is_missing_empty_or_relative() {
        let expected = Places { state: Some("/h/.local/state/haul".into()), cache: Some("/h/.cache/haul".into()) };
        assert_eq!(places(&[("HOME", "/h")]), expected);
        assert_eq!(places(&[("HOME", "/h"), ("XDG_STATE_HOME", ""), ("XDG_CACHE_HOME", "c")]), expected);
    }

    #[test]
    fn without_a_home_nothing_is_kept() {
        assert_eq!(places(&[]), Places { state: None, cache: None });
        assert_eq!(places(&[("HOME", "relative")]), Places { state: None, cache: None });
    }
}
