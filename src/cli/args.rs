//! The command line as clap reads it.

use crate::cli::exit;
use crate::cli::filters::Filters;
use crate::cli::flags::{Compress, ConflictFlags, Invitation, Lanes, Limit, Page, ReceivedTree, SentTree, Stream};
use crate::cli::manifest::Manifest;
use crate::cli::share::Share;
use crate::cli::terminal::Color;
use crate::cli::transfers::Transfers;
use crate::cli::verify::Verify;
use crate::cli::{units, variables};
use clap::{ArgAction, Args, Parser, Subcommand};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// Moves files between machines over networks that drop, stall and roam.
///
/// A transfer is never started over: run the same command again and it continues. A file that appears under its final
/// name is complete, verified and on disk.
#[derive(Debug, Parser)]
#[command(name = "haul", version, arg_required_else_help = true, after_long_help = exit::help(), max_term_width = 100)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Manifest(Manifest),
    Receive(Receive),
    Resume(Resume),
    Send(Send),
    Share(Share),
    Transfers(Transfers),
    Verify(Verify),
}

/// Offers files and folders, and serves until one receiver has everything
///
/// Prints a link on the first line of standard output as soon as the offer can be reached. Whoever has the link can
/// fetch the offer, so hand it over privately. The same paths offered again get the same link.
#[derive(Args, Debug)]
#[command(visible_alias = "tx", after_long_help = exit::help())]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
pub(crate) struct Send {
    /// Files and folders to offer; `-` alone offers what standard input holds
    ///
    /// Standard input is read to its end and kept in a file first, so that it can be resumed: the link is printed then.
    /// The file is removed once a receiver has everything, and kept where the run is interrupted: --again offers it again.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) stream: Stream,

    #[command(flatten)]
    pub(crate) filters: Filters,

    /// Say what would be offered, and offer nothing: nobody can reach it
    #[arg(short = 'n', long, help_heading = "Choosing")]
    pub(crate) dry_run: bool,

    /// Listen here instead of on any free port of every address
    #[arg(long, value_name = "ADDR:PORT", env = "HAUL_BIND", hide_env_values = true)]
    pub(crate) bind: Option<SocketAddr>,

    /// Put this address alone into the link, on a machine that has several
    #[arg(long, value_name = "IP", env = "HAUL_ADDRESS", hide_env_values = true)]
    pub(crate) address: Option<IpAddr>,

    #[command(flatten)]
    pub(crate) lanes: Lanes,

    #[command(flatten)]
    pub(crate) compress: Compress,

    /// Go on serving until Ctrl-C, to any number of receivers
    #[arg(long)]
    pub(crate) keep: bool,

    /// Show no code beside the link
    #[arg(long)]
    pub(crate) no_code: bool,

    #[command(flatten)]
    pub(crate) page: Page,

    #[command(flatten)]
    pub(crate) invitation: Invitation,

    /// Ask on the terminal about each receiver before it is told anything of the offer
    ///
    /// Without it, whoever has the link is served. A receiver that is refused or disconnected does not come back in this
    /// run, and neither does another one from its address, unless you are asked about each.
    #[arg(long)]
    pub(crate) ask_each: bool,

    /// Send no more than so many bytes a second to all receivers together: 500K, 10M, 1G
    ///
    /// Counts what travels, compressed or not.
    #[arg(long, value_name = "RATE", env = "HAUL_LIMIT", hide_env_values = true, value_parser = units::parse_rate)]
    pub(crate) limit: Option<NonZeroU64>,

    /// Push to somebody who listens with `haul receive`: by the link or the code that it printed, or by its address, and then
    /// a code is asked for; `-` reads the link or code from standard input
    #[arg(long, value_name = "LINK|CODE|HOST:PORT", conflicts_with_all = ["keep", "no_code", "qr_file", "tls"])]
    pub(crate) to: Option<String>,

    /// With --to: give up once the other end could not be reached for so long: 30s, 5m, 2h, 1d
    ///
    /// Without it, a receiver that was lost is tried again without limit, and one that was never there is not.
    #[arg(long, value_name = "DURATION", env = "HAUL_RETRY_FOR", hide_env_values = true, value_parser = units::parse_time)]
    pub(crate) retry_for: Option<Duration>,

    #[command(flatten)]
    pub(crate) tree: SentTree,
}

/// Fetches what a link or a code offers, or listens for senders
///
/// With a link, shows what the offer would write, asks, and fetches it. Without one, listens: prints a link on the first
/// line of standard output, and takes what is pushed to it with `haul send PATH --to LINK`, asking about each offer, until
/// one transfer is complete. Interrupted, killed or cut off, the same command continues where it stopped.
#[derive(Args, Debug)]
#[command(visible_aliases = ["rx", "recv", "get"], after_long_help = exit::help())]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
#[expect(clippy::doc_markdown, reason = "the text is shown as help")]
pub(crate) struct Receive {
    /// The link or the code that `haul send` printed; `-` reads it from standard input; without one,
    /// listens [env: HAUL_LINK]
    ///
    /// A code may be typed in any case, with spaces or hyphens, and with as few letters of each word as tell it from the
    /// others.
    #[arg(value_name = "LINK|CODE", conflicts_with = "ask", num_args = 0..=4)]
    pub(crate) invitation: Vec<String>,

    /// Ask for the link or code, so that it shows in no list of processes and in no shell history; Tab completes words
    #[arg(long)]
    pub(crate) ask: bool,

    /// Where the sender is, for a code on a network where it cannot be found
    #[arg(long, value_name = "HOST:PORT", env = "HAUL_AT", hide_env_values = true)]
    pub(crate) at: Option<String>,

    /// The folder that receives
    #[arg(long, value_name = "DIR", default_value = ".", env = "HAUL_INTO", hide_env_values = true)]
    pub(crate) into: PathBuf,

    /// Write the only file of the offer to this path; `-` writes it to standard output, as it comes
    ///
    /// Each chunk is verified before its first byte is written, and the exit code says whether all of it came and is what
    /// the sender vouches for. What comes out of order, and all of it until the end, is kept in the user's cache folder, or
    /// in the one that --into names; it takes as much room as the file. The same command again writes everything from the
    /// start, and fetches what is missing.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Say what would become of each file, and write nothing; a code is used up by it
    ///
    /// Compares what is offered with what is here, and ends as a run that does it would: with 44 where names are taken and
    /// no rule is given for that. The sender goes on offering; after a code it shows the next one.
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Accept the offer without being asked
    #[arg(short, long)]
    pub(crate) yes: bool,

    #[command(flatten)]
    pub(crate) conflict: ConflictFlags,

    /// Take nothing but the files of this manifest, to the byte
    ///
    /// An offer of other paths or lengths is refused before anything is written, and other content as soon as its hashes
    /// come. Permissions and times may differ.
    #[arg(long, value_name = "FILE")]
    pub(crate) expect: Option<PathBuf>,

    /// Drop caches and hash each file once more from the disk before it gets its name
    #[arg(long)]
    pub(crate) read_back: bool,

    #[command(flatten)]
    pub(crate) lanes: Lanes,

    #[command(flatten)]
    pub(crate) limit: Limit,

    #[command(flatten)]
    pub(crate) compress: Compress,

    /// Give up once the sender could not be reached, or the disk was full, for so long: 30s, 5m, 2h, 1d
    ///
    /// Without it, a sender that was lost is tried again without limit, and one that was never there is not; a disk that
    /// fills up under way is waited for without limit.
    #[arg(long, value_name = "DURATION", env = "HAUL_RETRY_FOR", hide_env_values = true, value_parser = units::parse_time)]
    pub(crate) retry_for: Option<Duration>,

    /// Allow names that start with a dot to be written directly into the home folder
    #[arg(long)]
    pub(crate) allow_hidden: bool,

    /// Listen here instead of on any free port of every address
    #[arg(long, value_name = "ADDR:PORT", env = "HAUL_BIND", hide_env_values = true, help_heading = "Listening")]
    pub(crate) bind: Option<SocketAddr>,

    /// Put this address alone into the link, on a machine that has several
    #[arg(long, value_name = "IP", env = "HAUL_ADDRESS", hide_env_values = true, help_heading = "Listening")]
    pub(crate) address: Option<IpAddr>,

    /// Go on listening until Ctrl-C, for any number of senders
    #[arg(long, help_heading = "Listening")]
    pub(crate) keep: bool,

    /// Show no code beside the link
    #[arg(long, help_heading = "Listening")]
    pub(crate) no_code: bool,

    #[command(flatten, next_help_heading = "Listening")]
    pub(crate) page: Page,

    #[command(flatten, next_help_heading = "Listening")]
    pub(crate) announcing: Invitation,

    #[command(flatten)]
    pub(crate) tree: ReceivedTree,
}

/// Continues every unfinished transfer that a folder holds
///
/// Continues all of them at the same time, without being asked: each was accepted before, and goes on by the same rules
/// and with the same files. Where a sender offers something else now, that transfer ends and the others go on. A folder
/// that holds nothing to continue is no failure: it ends with 0. Where transfers fail in different ways it ends with 23.
/// A sender that is not there is waited for.
#[derive(Args, Debug)]
#[command(after_long_help = exit::help())]
pub(crate) struct Resume {
    /// The folder that receives
    #[arg(value_name = "DIR", default_value = ".", env = "HAUL_INTO", hide_env_values = true)]
    pub(crate) folder: PathBuf,

    #[command(flatten)]
    pub(crate) limit: Limit,

    /// Give up on a sender that could not be reached, or a disk that was full, for so long: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "DURATION", env = "HAUL_RETRY_FOR", hide_env_values = true, value_parser = units::parse_time)]
    pub(crate) retry_for: Option<Duration>,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
pub(crate) struct Output {
    /// Write one JSON event per line to standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Say nothing but errors and questions
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say what happens to each file
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,

    /// Show no progress
    #[arg(long, global = true, action = ArgAction::SetTrue)]
    pub(crate) no_progress: bool,

    /// When to use colours
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = Color::Auto,
        value_name = "WHEN",
        env = "HAUL_COLOR",
        hide_env_values = true
    )]
    pub(crate) color: Color,
}

/// Reads a command line. A bad value that came from the environment is reported under its variable's name.
pub(crate) fn parse(arguments: &[OsString]) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(arguments).map_err(|error| variables::name(error, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;
    use haul::codec::{Compression, Level};
    use haul::transfer::Conflict;

    fn parsed(line: &str) -> Result<CommandLine, clap::Error> {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn receive(line: &str) -> Receive {
        match parsed(line).unwrap().command {
            Command::Receive(receive) => receive,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn aliases_reach_their_commands() {
        for alias in ["receive", "rx", "recv", "get"] {
            assert_eq!(receive(&format!("haul {alias} LINK")).invitation, ["LINK"]);
        }
        for alias in ["send", "tx"] {
            assert!(matches!(parsed(&format!("haul {alias} a b")).unwrap().command, Command::Send(send)
                if send.paths == [PathBuf::from("a"), PathBuf::from("b")]));
        }
    }

    #[test]
    fn a_folder_to_resume_in_is_the_current_one_unless_it_is_named() {
        let folder = |line| match parsed(line).unwrap().command {
            Command::Resume(resume) => resume.folder,
            other => panic!("{other:?}"),
        };
        assert_eq!(folder("haul resume"), PathBuf::from("."));
        assert_eq!(folder("haul resume Downloads"), PathBuf::from("Downloads"));
        assert!(parsed("haul resume a b").is_err());
    }

    #[test]
    fn output_flags_stand_before_or_behind_the_command() {
        assert!(parsed("haul --json send a").unwrap().output.json);
        assert!(parsed("haul send a --json --no-progress").unwrap().output.no_progress);
        assert_eq!(parsed("haul send a --color never").unwrap().output.color, Color::Never);
        assert_eq!(parsed("haul send a -q -v").unwrap_err().kind(), ErrorKind::ArgumentConflict);
    }

    #[test]
    fn at_most_one_conflict_rule_is_taken() {
        assert_eq!(receive("haul receive L").conflict.chosen(), None);
        assert_eq!(receive("haul receive L --overwrite").conflict.chosen(), Some(Conflict::Overwrite));
        assert_eq!(receive("haul receive L --rename").conflict.chosen(), Some(Conflict::Rename));
        assert_eq!(receive("haul receive L --skip-existing").conflict.chosen(), Some(Conflict::Skip));
        assert_eq!(receive("haul receive L --update").conflict.chosen(), Some(Conflict::Update));
        let both = parsed("haul receive L --rename --overwrite").unwrap_err();
        assert_eq!(both.kind(), ErrorKind::ArgumentConflict);
    }

    #[test]
    fn links_and_attributes_are_asked_for_on_both_sides() {
        let plain = receive("haul receive L");
        assert!(!plain.tree.symlinks && !plain.tree.xattrs);
        let received = receive("haul receive L --symlinks --xattrs");
        assert!(received.tree.symlinks && received.tree.xattrs);
        assert!(matches!(parsed("haul send a --xattrs").unwrap().command, Command::Send(send)
            if send.tree.xattrs && !send.tree.symlinks));
    }

    #[test]
    fn lanes_are_bounded() {
        for (text, is_valid) in [("0", false), ("1", true), ("16", true), ("17", false), ("-1", false), ("x", false)] {
            assert_eq!(parsed(&format!("haul send a --lanes={text}")).is_ok(), is_valid, "{text}");
        }
    }

    #[test]
    fn patience_is_a_number_with_a_unit() {
        let patience = |text| receive(&format!("haul receive L --retry-for {text}")).retry_for;
        assert_eq!(patience("90s"), Some(Duration::from_secs(90)));
        assert_eq!(patience("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(receive("haul receive L").retry_for, None);
        assert!(parsed("haul receive L --retry-for soon").is_err());
    }

    #[test]
    fn a_link_is_either_given_or_asked_for() {
        assert!(receive("haul receive --ask").ask);
        assert_eq!(receive("haul receive 7 amber canoe lentil").invitation, ["7", "amber", "canoe", "lentil"]);
        assert!(parsed("haul receive 7 amber canoe lentil more").is_err());
        assert_eq!(parsed("haul receive LINK --ask").unwrap_err().kind(), ErrorKind::ArgumentConflict);
        assert_eq!(receive("haul receive -").invitation, ["-"]);
    }

    #[test]
    fn addresses_are_checked() {
        assert!(parsed("haul send a --bind 127.0.0.1:0").is_ok());
        assert!(parsed("haul send a --bind [::1]:4285 --address ::1").is_ok());
        assert!(parsed("haul send a --bind 127.0.0.1").is_err());
        assert!(parsed("haul send a --bind example.org:1").is_err());
        assert!(parsed("haul send a --address 127.0.0.1:1").is_err());
    }

    #[test]
    fn compression_is_automatic_off_or_a_level() {
        let how = |line| receive(line).compress.how;
        assert_eq!(how("haul receive L"), Compression::Auto);
        assert_eq!(how("haul receive L --compress auto"), Compression::Auto);
        assert_eq!(how("haul receive L --compress off"), Compression::Off);
        assert_eq!(how("haul receive L --compress 19"), Compression::Level(Level::MAX));
        assert!(matches!(parsed("haul send a --compress 1").unwrap().command, Command::Send(send)
            if send.compress.how == Compression::Level(Level::MIN)));
        for bad in ["0", "20", "-1", "on", "300", ""] {
            assert!(parsed(&format!("haul send a --compress={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn help_of_each_command_has_the_exit_codes() {
        for verb in ["", "send ", "receive ", "resume ", "manifest ", "verify "] {
            let line = &format!("haul {verb}--help");
            let help = parsed(line).unwrap_err().to_string();
            assert!(help.contains("Exit codes:\n") && help.contains(" 43  too little room"), "{help}");
        }
    }
}
