//! The flags that choose what is sent, in the order in which they stand on the command line.

use crate::cli::exit::Exit;
use crate::cli::report::Failure;
use crate::cli::units;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use haul::printable::printable_path;
use haul::source::{Filter, Rule};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest file of patterns that is read.
const PATTERNS_BYTES_MAX: u64 = 1 << 20;

const HEADING: &str = "Choosing";

/// What of the given paths is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    rules: Vec<Flag>,
    no_hidden: bool,
    max_size: Option<u64>,
}

/// One flag about names.
#[derive(Clone, Debug)]
enum Flag {
    Exclude(String),
    ExcludeFrom(PathBuf),
    Include(String),
}

impl Filters {
    /// The filter that the flags make.
    pub(crate) fn read(self) -> Result<Filter, Failure> {
        let rules = self.rules.into_iter().map(|flag| {
            Ok(match flag {
                Flag::Exclude(pattern) => Rule::Exclude(pattern),
                Flag::Include(pattern) => Rule::Include(pattern),
                Flag::ExcludeFrom(file) => Rule::Lines(lines(&file)?),
            })
        });
        let rules = rules.collect::<Result<_, Failure>>()?;
        Filter::new(rules, self.no_hidden, self.max_size).map_err(|fault| {
            Failure::new(Exit::Usage, &fault.to_string()).next("patterns follow the rules of gitignore; quote them")
        })
    }
}

/// The text of a file of patterns.
fn lines(file: &Path) -> Result<String, Failure> {
    let shown = printable_path(file);
    let unreadable = |error: std::io::Error| {
        Failure::new(Exit::Usage, &format!("the file of patterns `{shown}` cannot be read")).because(error.to_string())
    };
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(PATTERNS_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > PATTERNS_BYTES_MAX {
        let most = units::size(PATTERNS_BYTES_MAX);
        return Err(Failure::new(Exit::Usage, &format!("the file of patterns `{shown}` is longer than {most}")));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(Exit::Usage, &format!("the file of patterns `{shown}` holds bytes that are not text"))
    })
}

/// By hand: what derive makes forgets in which order different flags came.
impl FromArgMatches for Filters {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut rules: Vec<(usize, Flag)> = Vec::new();
        let texts = [("exclude", Flag::Exclude as fn(String) -> Flag), ("include", Flag::Include)];
        for (name, flag) in texts {
            let values = matches.get_many::<String>(name).unwrap_or_default().cloned();
            rules.extend(matches.indices_of(name).unwrap_or_default().zip(values.map(flag)));
        }
        let files = matches.get_many::<PathBuf>("exclude_from").unwrap_or_default().cloned();
        rules.extend(matches.indices_of("exclude_from").unwrap_or_default().zip(files.map(Flag::ExcludeFrom)));
        rules.sort_by_key(|(index, _)| *index);
        Ok(Self {
            rules: rules.into_iter().map(|(_, flag)| flag).collect(),
            no_hidden: matches.get_flag("no_hidden"),
            max_size: matches.get_one("max_size").copied(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Filters {
    fn augment_args(command: Command) -> Command {
        let pattern = |name, help, long: &'static str| {
            Arg::new(name)
                .long(name)
                .value_name("GLOB")
                .action(ArgAction::Append)
                .help(help)
                .long_help(long)
                .help_heading(HEADING)
                .allow_hyphen_values(true)
        };
        let exclude = pattern(
            "exclude",
            "Leave out what matches, by the rules of gitignore; of several flags the last that matches decides",
            "Leave out what matches, by the rules of gitignore\n\n\
             Patterns are about what given folders hold, as in a `.gitignore` there: `*.log` anywhere, `/build` right in a \
             given folder, `build/` folders alone. A folder that is left out is not walked into. Of --exclude, --include \
             and the lines of --exclude-from, in the order in which they are given, the last one that matches decides. \
             With other filters an offer is another one, with a link of its own.",
        );
        let include = pattern(
            "include",
            "Take what matches although an earlier --exclude left it out, as `!` does in gitignore",
            "Take what matches although an earlier --exclude left it out, as `!` does in gitignore\n\n\
             What lies in a folder that is left out cannot be taken again. To send nothing but some files: \
             --exclude '*' --include '*/' --include '*.rs'",
        );
        command
            .arg(exclude)
            .arg(include)
            .arg(
                Arg::new("exclude_from")
                    .long("exclude-from")
                    .value_name("FILE")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(PathBuf))
                    .help("Take patterns from the lines of this file, which has the syntax of a .gitignore")
                    .help_heading(HEADING),
            )
            .arg(
                Arg::new("no_hidden")
                    .long("no-hidden")
                    .action(ArgAction::SetTrue)
                    .help("Leave out names in given folders that start with a dot")
                    .help_heading(HEADING),
            )
            .arg(
                Arg::new("max_size")
                    .long("max-size")
                    .value_name("SIZE")
                    .value_parser(units::parse_size)
                    .help("Leave out files that are longer than this: 500K, 10M, 1G")
                    .help_heading(HEADING),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(line: &[&str]) -> Result<Filter, Failure> {
        let command = Filters::augment_args(Command::new("send"));
        let matches = command.try_get_matches_from(["send"].iter().chain(line)).unwrap();
        Filters::from_arg_matches(&matches).unwrap().read()
    }

    fn takes(filter: &Filter, path: &str) -> bool {
        filter.takes(Path::new(path), false, 1)
    }

    #[test]
    fn flags_of_different_names_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("patterns");
        std::fs::write(&file, "# mine\n*.log\n!b.log\n").unwrap();
        let file = file.to_str().unwrap();
        let last_taken = filter(&["--exclude", "*.log", "--include", "keep.log"]).unwrap();
        assert!(takes(&last_taken, "keep.log") && !takes(&last_taken, "a.log"));
        let last_left_out = filter(&["--include", "keep.log", "--exclude", "*.log"]).unwrap();
        assert!(!takes(&last_left_out, "keep.log"));
        let between =
            filter(&["--include=a.log", "--exclude-from", file, "--exclude=b.log", "--include=c.log"]).unwrap();
        assert!(!takes(&between, "a.log") && !takes(&between, "b.log") && takes(&between, "c.log"));
    }

    #[test]
    fn what_cannot_be_understood_is_wrong_usage_that_names_it() {
        let fault = |line: &[&str]| filter(line).unwrap_err();
        let bad = fault(&["--exclude", "[a"]);
        assert_eq!(bad.exit, Exit::Usage);
        assert!(bad.what.starts_with("`[a` is no pattern: "), "{}", bad.what);
        let missing = fault(&["--exclude-from", "/no/such/file"]);
        assert_eq!((missing.exit, missing.what.contains("`/no/such/file`")), (Exit::Usage, true));
        assert!(fault(&["--exclude-from", "/dev/zero"]).what.ends_with("is longer than 1.00 MiB"));
        assert!(filter(&[]).unwrap().is_open());
    }
}
