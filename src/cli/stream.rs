//! `haul send -`: what standard input holds, kept in a file until somebody has it.

use crate::cli::args::Send;
use crate::cli::exit::Exit;
use crate::cli::places::Places;
use crate::cli::report::{Failure, quoted};
use crate::cli::view::View;
use haul::printable::printable_path;
use haul::transfer::{Cancel, SpoolSettings, Summary, TransferError, spooled};
use std::io::stdin;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The name that standard input is offered by.
const NAME: &str = "stdin";

/// Whether standard input is what is to be offered.
pub(crate) fn is_wanted(send: &Send) -> bool {
    send.paths.iter().any(|path| path.as_os_str() == "-")
}

/// Whether standard input is read.
pub(crate) fn is_read(send: &Send) -> bool {
    is_wanted(send) && !send.stream.again
}

/// How standard input is to be offered; `None` where it is not what the command is about.
pub(crate) fn settings(send: &Send) -> Result<Option<SpoolSettings>, Failure> {
    let usage = |what: &str, next: &str| Failure::new(Exit::Usage, what).next(next);
    if !is_wanted(send) {
        let stream = &send.stream;
        let flags = [(stream.name.is_some(), "--name"), (stream.spool.is_some(), "--spool"), (stream.again, "--again")];
        return match flags.into_iter().find(|(is_given, _)| *is_given) {
            Some((_, flag)) => Err(usage(
                &format!("{flag} is about standard input, and there are files to send"),
                "send `-` alone to offer standard input",
            )),
            None => Ok(None),
        };
    }
    if send.paths.len() > 1 {
        return Err(usage("`-` is standard input, which is offered alone", "a file of that name is written ./-"));
    }
    if send.dry_run {
        return Err(usage(
            "standard input can be read only once, and a dry run would use it up",
            "leave out --dry-run",
        ));
    }
    if send.to.as_deref() == Some("-") {
        return Err(usage(
            "standard input cannot be both what is sent and who it is sent to",
            "name who listens by the link or the code that is shown there",
        ));
    }
    let stream = &send.stream;
    let folder = match &stream.spool {
        Some(folder) if folder.is_dir() => folder.clone(),
        Some(folder) => {
            let what = format!("`{}` is not a folder", printable_path(folder));
            return Err(Failure::new(Exit::Io, &what).next("create it, or choose another one with --spool"));
        }
        None => default_folder()?,
    };
    let name = stream.name.clone().unwrap_or_else(|| NAME.to_owned());
    Ok(Some(SpoolSettings { folder, name, again: stream.again }))
}

fn default_folder() -> Result<PathBuf, Failure> {
    let folder = Places::detect().state.map(|state| state.join("spool"));
    folder.ok_or_else(|| {
        Failure::new(Exit::Usage, "there is no home folder to keep standard input in").next("name one with --spool")
    })
}

/// What a run knows of the input that it offers.
#[derive(Debug)]
pub(crate) struct Kept {
    stream: Option<SpoolSettings>,
    /// The folder that was asked for.
    spool: Option<PathBuf>,
    /// All of it is there, and stays until the run ends well.
    is_whole: AtomicBool,
}

impl Kept {
    pub(crate) fn new(stream: Option<SpoolSettings>, spool: Option<PathBuf>) -> Self {
        Self { stream, spool, is_whole: AtomicBool::new(false) }
    }

    /// Has `offer` offer `paths`, or standard input, once it is read, where that is wanted.
    pub(crate) fn offering(
        &self,
        view: &View,
        cancel: &Cancel,
        offer: impl FnOnce(Option<&Path>) -> Result<Summary, TransferError>,
    ) -> Result<Summary, TransferError> {
        let Some(stream) = &self.stream else { return offer(None) };
        spooled(stream, stdin().lock(), view, cancel, |input| {
            self.is_whole.store(true, Ordering::Relaxed);
            offer(Some(input))
        })
    }

    /// The same failure of a run whose input need not be piped in again.
    pub(crate) fn with_way_on(&self, failure: Failure) -> Failure {
        let Some(stream) = self.stream.as_ref().filter(|_| self.is_whole.load(Ordering::Relaxed)) else {
            return failure;
        };
        let mut command = "haul send -".to_owned();
        if stream.name != NAME {
            command.push_str(&format!(" --name={}", quoted(&stream.name)));
        }
        if let Some(spool) = &self.spool {
            command.push_str(&format!(" --spool={}", quoted(&spool.to_string_lossy())));
        }
        let again = format!("run `{command} --again`, with its other flags");
        Failure { next: failure.next.map(|next| next.replace("run the same command again", &again)), ..failure }
    }
}
