//! Exit codes: the one table that `--help`, the README and the process itself follow.

use haul::transfer::FailureClass;
use std::fmt::Write;
use std::io::Write as _;

/// How the process ends. Codes below 40 mean what they mean for rsync(1), where it has them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    Auth,
    ConnectTimeout,
    Exists,
    Integrity,
    Interrupted,
    Io,
    Network,
    NoSpace,
    Ok,
    Other,
    Partial,
    Protocol,
    Refused,
    SigInt,
    SigTerm,
    SourceChanged,
    Timeout,
    Usage,
}

/// Every code with its meaning, in order.
pub(crate) const TABLE: &[(Exit, u8, &str)] = &[
    (Exit::Ok, 0, "everything arrived and is on disk"),
    (Exit::Other, 1, "another failure, or the offer was not accepted"),
    (Exit::Usage, 2, "wrong usage"),
    (Exit::Network, 10, "the network failed"),
    (Exit::Io, 11, "reading or writing a file failed"),
    (Exit::Protocol, 12, "the other end broke the protocol, or speaks another version"),
    (Exit::Interrupted, 20, "stopped before the end, other than by a signal"),
    (Exit::Partial, 23, "some files failed, the others arrived"),
    (Exit::SourceChanged, 24, "a source file changed or vanished while it was sent"),
    (Exit::Timeout, 30, "the other end fell silent"),
    (Exit::ConnectTimeout, 35, "nobody answered"),
    (
        Exit::Integrity,
        40,
        "bytes did not have their hash, and nothing wrong was published; or not everything is as a manifest says",
    ),
    (Exit::Refused, 41, "the other end refused"),
    (Exit::Auth, 42, "wrong link or code"),
    (Exit::NoSpace, 43, "too little room at the destination"),
    (Exit::Exists, 44, "a name is taken at the destination"),
    (Exit::SigInt, 130, "interrupted (Ctrl-C); run the same command again to continue"),
    (Exit::SigTerm, 143, "terminated; run the same command again to continue"),
];

impl Exit {
    /// The number that the process ends with.
    pub(crate) fn code(self) -> u8 {
        TABLE.iter().find(|(exit, ..)| *exit == self).map_or(1, |(_, code, _)| *code)
    }

    /// Whether it says that somebody stopped the run.
    pub(crate) fn is_stop(self) -> bool {
        matches!(self, Self::Interrupted | Self::SigInt | Self::SigTerm)
    }

    /// How a run that failed in this way ends.
    pub(crate) fn of(class: FailureClass) -> Self {
        match class {
            FailureClass::Auth => Self::Auth,
            FailureClass::Bug | FailureClass::Declined => Self::Other,
            FailureClass::ConnectTimeout => Self::ConnectTimeout,
            FailureClass::Exists => Self::Exists,
            FailureClass::Integrity => Self::Integrity,
            FailureClass::Interrupted => Self::Interrupted,
            FailureClass::Io => Self::Io,
            FailureClass::Network => Self::Network,
            FailureClass::NoSpace => Self::NoSpace,
            FailureClass::Name | FailureClass::Partial => Self::Partial,
            FailureClass::Protocol => Self::Protocol,
            FailureClass::Refused => Self::Refused,
            FailureClass::SourceChanged => Self::SourceChanged,
            FailureClass::Timeout => Self::Timeout,
            FailureClass::Usage => Self::Usage,
        }
    }
}

impl Exit {
    /// Ends the process at once.
    ///
    /// Threads may still be dialling; what the C library does at an orderly exit would take the ground from under them.
    pub(crate) fn end_process(self) -> ! {
        // Whoever closed our output does not want to read it.
        let _ = std::io::stdout().flush();
        signal_hook::low_level::exit(i32::from(self.code()));
    }
}

/// The table as the last section of `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for (_, code, meaning) in TABLE {
        writeln!(text, "  {code:>3}  {meaning}").expect("a String takes all that is written to it");
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_has_one_code_and_the_codes_rise() {
        assert!(TABLE.windows(2).all(|pair| pair[0].1 < pair[1].1));
        for (exit, code, _) in TABLE {
            assert_eq!(exit.code(), *code);
            assert_eq!(TABLE.iter().filter(|(other, ..)| other == exit).count(), 1, "{exit:?}");
        }
    }

    #[test]
    fn the_readme_lists_the_same_codes() {
        let readme = include_str!("../../README.md");
        let listed: Vec<(u8, &str)> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
            .filter_map(|(code, meaning)| Some((code.parse().ok()?, meaning)))
            .collect();
        let expected: Vec<(u8, &str)> = TABLE.iter().map(|(_, code, meaning)| (*code, *meaning)).collect();
        assert_eq!(listed, expected, "copy the table of src/cli/exit.rs into the README's section on exit codes");
    }

    #[test]
    fn help_aligns_the_codes() {
        let help = help();
        assert!(help.starts_with("Exit codes:\n    0  everything arrived and is on disk\n    1  another"), "{help}");
        assert!(help.ends_with("\n  143  terminated; run the same command again to continue"), "{help}");
    }
}
