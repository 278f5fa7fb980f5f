//! What standard error is: a terminal or not, how wide, and whether colours are wanted.

use clap::ValueEnum;
use std::ffi::OsString;
use std::io::IsTerminal;

/// Columns of a terminal that does not say.
const COLUMNS_DEFAULT: usize = 80;
/// Rows of a terminal that does not say.
const ROWS_DEFAULT: usize = 24;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless the environment says otherwise.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Not at all.
    Never,
}

/// What is known about the place that text for humans goes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Terminal {
    /// Lines can be drawn over.
    pub(crate) redraws: bool,
    /// Somebody can be asked: both standard input and standard error are theirs.
    pub(crate) answers: bool,
    pub(crate) colors: bool,
    /// Characters outside ASCII are shown as what they are.
    pub(crate) utf8: bool,
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// A role that a piece of text has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    Error,
    Faint,
    Good,
    Warning,
}

impl Terminal {
    /// Looks at the process's own streams and environment.
    pub(crate) fn detect(color: Color) -> Self {
        let stderr_is_terminal = std::io::stderr().is_terminal();
        let answers = stderr_is_terminal && std::io::stdin().is_terminal();
        Self::from_parts(color, stderr_is_terminal, answers, window_size(), |name| std::env::var_os(name))
    }

    fn from_parts(
        color: Color,
        is_terminal: bool,
        answers: bool,
        window: Option<(usize, usize)>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let is_set = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
        let is_dumb = environment("TERM").is_some_and(|term| term == "dumb");
        let is_forced = environment("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let colors = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if is_set("NO_COLOR") => false,
            Color::Auto if is_forced => true,
            Color::Auto => is_terminal && !is_dumb,
        };
        let columns_told = environment("COLUMNS")
            .and_then(|value| value.to_str()?.parse::<usize>().ok())
            .filter(|columns| (20..=1000).contains(columns));
        // The first one that is set decides, as it does for the C library. Where none is, only some systems promise it.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find(|name| is_set(name)).and_then(&environment);
        let names_utf8 = |locale: OsString| {
            let locale = locale.to_string_lossy().to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        };
        Self {
            redraws: is_terminal && !is_dumb,
            answers,
            colors,
            utf8: locale.map_or(cfg!(any(windows, target_os = "macos")), names_utf8),
            columns: columns_told.or(window.map(|(columns, _)| columns)).unwrap_or(COLUMNS_DEFAULT),
            rows: window.map_or(ROWS_DEFAULT, |(_, rows)| rows),
        }
    }

    /// The text in its role's colour, where colours are wanted.
    pub(crate) fn paint(&self, role: Role, text: &str) -> String {
        let code = match role {
            Role::Error => "1;31",
            Role::Faint => "2",
            Role::Good => "32",
            Role::Warning => "33",
        };
        if self.colors { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(unix)]
fn window_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok()?;
    (size.ws_col >= 20 && size.ws_row >= 4).then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

#[cfg(not(unix))]
fn window_size() -> Option<(usize, usize)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(color: Color, is_terminal: bool, environment: &[(&str, &str)]) -> Terminal {
        Terminal::from_parts(color, is_terminal, is_terminal, Some((100, 40)), |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn colours_follow_the_flag_then_no_color_then_force_then_the_terminal() {
        assert!(terminal(Color::Auto, true, &[]).colors);
        assert!(!terminal(Color::Auto, false, &[]).colors);
        assert!(!terminal(Color::Auto, true, &[("NO_COLOR", "1")]).colors);
        assert!(terminal(Color::Auto, true, &[("NO_COLOR", "")]).colors, "an empty NO_COLOR says nothing");
        assert!(terminal(Color::Auto, false, &[("CLICOLOR_FORCE", "1")]).colors);
        assert!(!terminal(Color::Auto, false, &[("CLICOLOR_FORCE", "0")]).colors);
        assert!(!terminal(Color::Auto, true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).colors);
        assert!(terminal(Color::Always, false, &[("NO_COLOR", "1")]).colors);
        assert!(!terminal(Color::Never, true, &[("CLICOLOR_FORCE", "1")]).colors);
    }

    #[test]
    fn a_dumb_terminal_is_neither_redrawn_nor_coloured() {
        let dumb = terminal(Color::Auto, true, &[("TERM", "dumb")]);
        assert!(!dumb.redraws && !dumb.colors && dumb.answers);
    }

    #[test]
    fn the_first_locale_that_is_set_says_whether_unicode_is_shown() {
        for (environment, expected) in [
            (&[("LANG", "en_GB.UTF-8")][..], true),
            (&[("LANG", "en_GB.utf8"), ("LC_ALL", "")], true),
            (&[("LANG", "en_GB.UTF-8"), ("LC_ALL", "C")], false),
            (&[("LC_CTYPE", "C.UTF-8"), ("LANG", "C")], true),
            (&[("LANG", "de_DE.ISO-8859-1")], false),
        ] {
            assert_eq!(terminal(Color::Auto, true, environment).utf8, expected, "{environment:?}");
        }
    }

    #[test]
    fn columns_come_from_the_environment_where_they_make_sense() {
        assert_eq!(terminal(Color::Auto, true, &[("COLUMNS", "60")]).columns, 60);
        for nonsense in ["", "0", "-1", "x", "99999999999999999999"] {
            assert_eq!(terminal(Color::Auto, true, &[("COLUMNS", nonsense)]).columns, 100, "{nonsense}");
        }
    }

    #[test]
    fn text_is_painted_only_where_colours_are_wanted() {
        assert_eq!(terminal(Color::Always, false, &[]).paint(Role::Error, "error"), "\x1b[1;31merror\x1b[0m");
        assert_eq!(terminal(Color::Never, true, &[]).paint(Role::Error, "error"), "error");
    }
}
