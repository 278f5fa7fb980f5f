//! Where a link or a code comes from: the command line, the environment, standard input or a question.

use crate::cli::answers::Answers;
use crate::cli::exit::Exit;
use crate::cli::report::Failure;
use haul::limits::LINK_BYTES_MAX;
use haul::printable::printable;
use haul::secret::{Invitation, InvitationFault};
use haul::transfer::Cancel;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The variable that may hold a link or a code.
pub(crate) const VARIABLE: &str = "HAUL_LINK";

/// The text of a link or a code, and how it came.
pub(crate) struct Given {
    pub(crate) invitation: Zeroizing<String>,
    /// Whether every user of this machine can read it in the list of processes.
    pub(crate) in_arguments: bool,
}

/// The one text that the arguments make: the words of a code may come apart.
pub(crate) fn typed(arguments: Vec<String>) -> Option<Zeroizing<String>> {
    let arguments = Zeroizing::new(arguments);
    (!arguments.is_empty()).then(|| Zeroizing::new(arguments.join(" ")))
}

/// Reads the link or code. `argument` and `ask` are what the command line says; the environment comes after both.
pub(crate) fn read(
    argument: Option<Zeroizing<String>>,
    ask: bool,
    environment: Option<OsString>,
    answers: &mut dyn Answers,
    cancel: &Cancel,
) -> Result<Given, Failure> {
    if ask {
        let Some(line) = answers.ask_code("Link or code: ", cancel) else {
            let next = "run it on a terminal, or pass the link or code with HAUL_LINK";
            return Err(usage("no link was given", next));
        };
        return Ok(Given { invitation: checked(&Zeroizing::new(line), "the link")?, in_arguments: false });
    }
    match (argument, environment) {
        (Some(dash), _) if *dash == "-" => {
            let text = read_line(std::io::stdin().lock())?;
            Ok(Given { invitation: checked(&text, "the link on standard input")?, in_arguments: false })
        }
        (Some(link), _) => Ok(Given { invitation: checked(&link, "the link")?, in_arguments: true }),
        (None, Some(value)) => {
            let text = value
                .into_string()
                .map_err(|_| usage(&format!("{VARIABLE} holds bytes that are not text"), "set it to a link"))?;
            Ok(Given { invitation: checked(&Zeroizing::new(text), VARIABLE)?, in_arguments: false })
        }
        (None, None) => {
            let next = "haul receive LINK or haul receive CODE, with the one that `haul send` printed";
            Err(usage("no link was given", next))
        }
    }
}

/// Asks for the code that the other side shows.
pub(crate) fn read_code(answers: &mut dyn Answers, cancel: &Cancel) -> Result<Given, Failure> {
    let Some(line) = answers.ask_code("Code that the other side shows: ", cancel) else {
        let next = "run it on a terminal, or name who listens by the link or the code that is shown there";
        return Err(usage("no code was given", next));
    };
    Ok(Given { invitation: checked(&Zeroizing::new(line), "the code")?, in_arguments: false })
}

/// Refuses what is no path to offer, and a link or a code: somebody mixed up the two commands. It is not repeated.
pub(crate) fn refuse_as_path(paths: &[PathBuf]) -> Result<(), Failure> {
    let is_invitation = |path: &PathBuf| {
        let text = path.to_str().unwrap_or_default();
        Invitation::parse(text).is_ok() && !path.exists()
    };
    if paths.iter().any(is_invitation) {
        let next = "`haul receive` with it fetches what is offered; `haul send PATH --to` with it pushes there";
        return Err(usage("this is a link or a code, and no path", next));
    }
    Ok(())
}

/// Whether somebody else who could read our arguments is at work on this machine.
///
/// Any process of another person counts. Where the system hides other users' processes it hides ours from them too.
#[cfg(target_os = "linux")]
pub(crate) fn others_are_logged_in() -> bool {
    use std::os::unix::fs::MetadataExt;
    /// Ids below belong to services; the last two ids of 16 bits are `nobody` and "no id".
    const PEOPLE: std::ops::Range<u32> = 1000..65_534;
    let own = rustix::process::getuid().as_raw();
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .filter_map(|entry| entry.metadata().ok())
        .any(|metadata| metadata.uid() != own && PEOPLE.contains(&metadata.uid()))
}

/// Elsewhere there is no cheap way to tell, and a notice that always shows is not read.
#[cfg(not(target_os = "linux"))]
pub(crate) fn others_are_logged_in() -> bool {
    false
}

/// The first line, read no further than a link can reach.
fn read_line(input: impl Read) -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LINK_BYTES_MAX * 2));
    input
        .take(LINK_BYTES_MAX as u64 * 2)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(Exit::Io, "cannot read standard input").because(error.to_string()))?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match std::str::from_utf8(line) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(usage("standard input holds no link", "pipe in the line that `haul send` printed")),
    }
}

/// Never repeats the text in its error: the text is a secret.
fn checked(text: &str, what: &str) -> Result<Zeroizing<String>, Failure> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(usage(&format!("{what} is empty"), "copy the whole link that `haul send` printed"));
    }
    if trimmed.len() > LINK_BYTES_MAX {
        let fault = format!("{what} is longer than {LINK_BYTES_MAX} bytes, which no link is");
        return Err(usage(&fault, "copy only the link that `haul send` printed"));
    }
    if Invitation::parse(trimmed).map(|_| ()) == Err(InvitationFault::Neither) && Path::new(trimmed).exists() {
        // A file's name is no secret, and whoever gives one wants to send it.
        let what = format!("`{}` is neither a link nor a code; it is here", printable(trimmed));
        return Err(usage(&what, "`haul send` with it offers it to others; a code looks like 7-amber-canoe-lentil"));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}

fn usage(what: &str, next: &str) -> Failure {
    Failure::new(Exit::Usage, what).next(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::answers::Script;

    fn given(argument: Option<&str>, environment: Option<&str>) -> Result<Given, Failure> {
        let mut script = Script::default();
        read(
            argument.map(|text| Zeroizing::new(text.to_owned())),
            false,
            environment.map(OsString::from),
            &mut script,
            &Cancel::new(),
        )
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let Ok(link) = given(Some("LINK"), Some("OTHER")) else { panic!() };
        assert!(*link.invitation == "LINK" && link.in_arguments);
        let Ok(link) = given(None, Some(" LINK\n")) else { panic!() };
        assert!(*link.invitation == "LINK" && !link.in_arguments);
    }

    #[test]
    fn a_missing_empty_or_endless_link_is_wrong_usage_and_is_not_repeated() {
        let long = "S3CRET".repeat(1000);
        for (environment, text) in [
            (None, "no link was given"),
            (Some(""), "HAUL_LINK is empty"),
            (Some(long.as_str()), "HAUL_LINK is longer than 256 bytes, which no link is"),
        ] {
            let Err(failure) = given(None, environment) else { panic!() };
            assert_eq!((failure.exit, failure.what.as_str()), (Exit::Usage, text));
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_environment_that_is_no_text_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let value = OsString::from_vec(vec![0xff]);
        let Err(failure) = read(None, false, Some(value), &mut Script::default(), &Cancel::new()) else { panic!() };
        assert_eq!(failure.what, "HAUL_LINK holds bytes that are not text");
    }

    #[test]
    fn the_words_of_a_code_may_come_apart() {
        let parts = |parts: &[&str]| typed(parts.iter().map(ToString::to_string).collect());
        assert_eq!(parts(&["7", "amber", "canoe", "lentil"]).unwrap().as_str(), "7 amber canoe lentil");
        assert!(parts(&[]).is_none());
    }

    #[test]
    fn whoever_names_a_file_is_told_of_the_other_command() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("film.mkv");
        std::fs::write(&file, b"x").unwrap();
        let Err(failure) = given(file.to_str(), None) else { panic!() };
        assert!(failure.what.ends_with("is neither a link nor a code; it is here"), "{}", failure.what);
        assert!(failure.exit == Exit::Usage && failure.next.unwrap().starts_with("`haul send`"));
        assert!(given(Some("no-such-film.mkv"), None).is_ok(), "what is not here may be a secret, and is not repeated");
    }

    #[test]
    fn whoever_offers_a_code_is_told_of_the_other_command() {
        let refused = |text: &str| refuse_as_path(&["src".into(), text.into()]).err();
        let link = "HTTP://192.0.2.1:4285/AAAQEAYEAUDAOCAJBIFQYDIOB4#74OR2HA3DIMRQFYWCUKBGEQRCA";
        for text in ["7-amber-canoe-lentil", "7 amber canoe lentil", link] {
            let failure = refused(text).unwrap();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(!format!("{failure:?}").contains(text), "{failure:?}");
        }
        for text in ["no-such-film.mkv", "photos", "my summer photos", "7", "-"] {
            assert!(refused(text).is_none(), "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().join("7-amber-canoe-lentil");
        std::fs::write(&named, b"x").unwrap();
        assert!(refuse_as_path(&[named]).is_ok(), "it is here");
    }

    #[test]
    fn a_link_that_is_asked_for_is_taken_from_the_answer() {
        let mut script = Script::of(&["  LINK "]);
        let Ok(link) = read(None, true, None, &mut script, &Cancel::new()) else { panic!() };
        assert!(*link.invitation == "LINK" && !link.in_arguments);
        assert_eq!(script.asked, ["Link or code: "]);
    }

    #[test]
    fn only_the_first_line_of_a_stream_is_read() {
        let Ok(line) = read_line(&b"LINK\r\nmore"[..]) else { panic!() };
        assert_eq!(line.trim(), "LINK");
        assert!(read_line(std::io::repeat(0xff)).is_err());
    }
}
