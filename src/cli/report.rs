//! What is said at the end: the summary of a run, or its error with what was kept and what to do next.

use crate::cli::exit::Exit;
use crate::cli::terminal::{Role, Terminal};
use crate::cli::units;
use haul::printable::printable;
use haul::transfer::{FailureClass, Progress, Summary, TransferError};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

/// Which end of a transfer this process is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// Compares a folder with a manifest.
    Checking,
    /// Writes a manifest.
    Listing,
    /// Receives what senders push that connect here.
    Listening,
    /// Sends to somebody who listens.
    Pushing,
    Receiving,
    /// Compares a folder with a manifest, and fetches what is wrong.
    Repairing,
    Sending,
    /// Offers and takes at the same link.
    Sharing,
}

/// An error as it is shown, once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) causes: Vec<String>,
    pub(crate) kept: Option<String>,
    pub(crate) next: Option<String>,
    /// From the start of the transfer to its failure.
    pub(crate) seconds: f64,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: &str) -> Self {
        Self { exit, what: what.to_owned(), causes: Vec::new(), kept: None, next: None, seconds: 0.0 }
    }

    pub(crate) fn because(mut self, cause: String) -> Self {
        self.causes.push(cause);
        self
    }

    pub(crate) fn next(mut self, next: &str) -> Self {
        self.next = Some(next.to_owned());
        self
    }

    /// A transfer's error, as the end that met it should put it.
    pub(crate) fn of(error: &TransferError, side: Side) -> Self {
        let class = error.class();
        let what = match error {
            TransferError::NoSpace { needed, free } => {
                format!("{error}: {} needed, {} free", units::size(*needed), units::size(*free))
            }
            TransferError::NoInodes { needed, free } => format!("{error}: {needed} needed, {free} free"),
            _ => error.to_string(),
        };
        let causes = causes(error);
        let (kept, next) = match (side, class) {
            (Side::Checking | Side::Listing | Side::Repairing, _) => of_manifest(error, side),
            (Side::Pushing | Side::Sending | Side::Sharing, _)
                if matches!(
                    error,
                    TransferError::NothingToSend(_) | TransferError::NotOffered(_) | TransferError::Input(_)
                ) =>
            {
                ("nothing was offered", error.what_next())
            }
            (Side::Sending, FailureClass::SourceChanged) => (
                "receivers keep everything that they verified",
                "run the same command again to offer what is there; only differences travel",
            ),
            (Side::Receiving, _)
            | (
                Side::Listening | Side::Sharing,
                FailureClass::Exists | FailureClass::Io | FailureClass::Name | FailureClass::NoSpace,
            ) => (error.what_was_kept(), error.what_next()),
            (Side::Sharing, _) => (
                "everything that was verified is kept, here and at every receiver",
                "run the same command again: the same link continues every transfer",
            ),
            (Side::Listening, FailureClass::Interrupted) => {
                (error.what_was_kept(), "run the same command again: senders that still try continue by themselves")
            }
            (Side::Listening, _) => (error.what_was_kept(), "the sender can run its command again"),
            (Side::Pushing, _) => ("the other end keeps everything that it verified", pushers_next(error)),
            (Side::Sending, _) => (
                "receivers keep everything that they verified",
                "run the same command again: the same link continues every transfer",
            ),
        };
        Self { exit: Exit::of(class), what, causes, kept: Some(kept.into()), next: Some(next.into()), seconds: 0.0 }
    }

    /// The same failure of a receiver whose folder remembers the transfer: to continue it takes no link.
    pub(crate) fn resumable(mut self, folder: &Path) -> Self {
        let continues = matches!(
            self.exit,
            Exit::ConnectTimeout
                | Exit::Integrity
                | Exit::Interrupted
                | Exit::Io
                | Exit::Network
                | Exit::Partial
                | Exit::SigInt
                | Exit::SigTerm
                | Exit::Timeout
        );
        if continues {
            let command = format!("run `{}`", resume_command(folder));
            self.next = self.next.map(|next| next.replace("run the same command again", &command));
        }
        self
    }

    /// The same failure of a run that only says what would happen.
    pub(crate) fn of_dry_run(self) -> Self {
        let kept = self.kept.map(|_| "this was a dry run: nothing was sent or written".to_owned());
        Self { kept, ..self }
    }

    /// An unfinished transfer whose sender connects here by itself, so that nothing here can go and fetch it.
    pub(crate) fn of_pushed(folder: &Path) -> Self {
        let what = "it was pushed here, and goes on when its sender connects again";
        let next = format!("run `{}`, and on the sender's side its command again", receive_command(folder));
        Self { kept: Some("everything that was verified is kept".into()), ..Self::new(Exit::Other, what).next(&next) }
    }

    /// A run that came to its end with files missing, or `None` where it has them all.
    ///
    /// One kind of failure that left nothing complete speaks for the run; otherwise the run is partial.
    pub(crate) fn of_summary(summary: &Summary, side: Side) -> Option<Self> {
        if summary.ok {
            return None;
        }
        let failed = summary.failed.len() as u64;
        let error = TransferError::Partial { failed, total: failed + summary.files };
        let mut failure = Self::of(&error, side);
        let first = summary.failed.first().map(|file| file.class);
        if let Some(class) = first.filter(|first| summary.failed.iter().all(|file| file.class == *first))
            && (summary.files == 0 || class == FailureClass::SourceChanged)
        {
            failure.exit = Exit::of(class);
        }
        Some(failure)
    }

    /// The error's text. Every part may hold a peer's words, so every part is made printable.
    pub(crate) fn text(&self, terminal: &Terminal) -> String {
        let mut text = format!("{} {}\n", terminal.paint(Role::Error, "error:"), printable(&self.what));
        for cause in &self.causes {
            line(&mut text, terminal, "cause:", cause);
        }
        if let Some(kept) = &self.kept {
            line(&mut text, terminal, "kept: ", kept);
        }
        if let Some(next) = &self.next {
            line(&mut text, terminal, "next: ", next);
        }
        text
    }

    /// The error as one line, for an event.
    pub(crate) fn sentence(&self) -> String {
        let mut sentence = self.what.clone();
        for cause in &self.causes {
            sentence.push_str(": ");
            sentence.push_str(cause);
        }
        sentence
    }
}

/// One or two lines about a run that has everything.
pub(crate) fn summary_text(summary: &Summary, side: Side, terminal: &Terminal) -> String {
    let time = Duration::try_from_secs_f64(summary.seconds).unwrap_or_default();
    if let Some(receivers) = summary.receivers {
        return kept_text(summary, receivers, time, terminal);
    }
    let verb = match side {
        Side::Checking => "Checked",
        Side::Listing => "Listed",
        Side::Repairing if summary.bytes_fetched == 0 => "Checked",
        Side::Repairing => "Repaired",
        Side::Listening | Side::Receiving | Side::Sharing => "Received",
        Side::Pushing | Side::Sending => "Sent",
    };
    let mut text = format!(
        "{} {} in {}",
        terminal.paint(Role::Good, verb),
        units::contents(summary.files, 0, summary.bytes),
        if time < Duration::from_secs(10) { format!("{:.1} s", time.as_secs_f64()) } else { units::time(time) }
    );
    if let Some(rate) = rate(summary.bytes_fetched, time) {
        text.push_str(&format!(", {}/s", units::size(rate)));
    }
    if summary.bytes_reused > 0 {
        let place = if matches!(side, Side::Pushing | Side::Sending) { "there" } else { "here" };
        text.push_str(&format!("; {} of it {place} before", units::size(summary.bytes_reused)));
    }
    if matches!(side, Side::Checking | Side::Repairing) {
        text.push_str("; everything is as the manifest says");
    }
    // What a protocol adds to a file that does not shrink is nobody's business.
    if summary.wire_bytes < summary.bytes_fetched / 10 * 9 {
        let (plain, wire) = (units::size(summary.bytes_fetched), units::size(summary.wire_bytes));
        text.push_str(&format!("; {plain} travelled as {wire}"));
    }
    text.push('\n');
    if let Some(root) = &summary.root {
        line(&mut text, terminal, "root: ", root);
    }
    text
}

/// The line about an offer that was kept until it was stopped: what it was, and what came of it.
fn kept_text(summary: &Summary, receivers: u64, time: Duration, terminal: &Terminal) -> String {
    let mut text = format!(
        "Offered {} for {}; {} {} everything, {} sent\n",
        units::contents(summary.files, 0, summary.bytes),
        units::time(time),
        units::count(receivers, "receiver"),
        if receivers == 1 { "has" } else { "have" },
        units::size(summary.bytes_fetched)
    );
    if let Some(root) = &summary.root {
        line(&mut text, terminal, "root: ", root);
    }
    text
}

/// The line about a run that offered and took until it was stopped.
pub(crate) fn shared_text(receivers: u64, bytes_sent: u64, taken: &Summary) -> String {
    let time = Duration::try_from_secs_f64(taken.seconds).unwrap_or_default();
    format!(
        "Shared for {}; {} {} everything, {} sent; {} came\n",
        units::time(time),
        units::count(receivers, "receiver"),
        if receivers == 1 { "has" } else { "have" },
        units::size(bytes_sent),
        units::contents(taken.files, 0, taken.bytes),
    )
}

/// What lies behind an error, each once: some repeat at their end what is behind them.
fn causes(error: &TransferError) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for cause in std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string) {
        if !causes.last().is_some_and(|before| before.ends_with(&cause)) {
            causes.push(cause);
        }
    }
    causes
}

/// What is left of a run about a manifest, and what its user can do.
fn of_manifest(error: &TransferError, side: Side) -> (&'static str, &'static str) {
    match (side, error.class()) {
        (Side::Listing, FailureClass::Partial) => {
            ("the manifest has everything else", "once it can be read, run the same command again with --overwrite")
        }
        (Side::Listing, _) if matches!(error, TransferError::NothingToSend(_)) => {
            ("no manifest was written", "loosen the filters")
        }
        (Side::Listing, _) => ("no manifest was written", "once the cause is gone, run the same command again"),
        (Side::Repairing, FailureClass::Integrity) if matches!(error, TransferError::Differs { .. }) => {
            ("every file that could be fetched is in place", "what is extra or of another kind is left to you")
        }
        (Side::Repairing, _) | (_, FailureClass::Integrity) => (error.what_was_kept(), error.what_next()),
        (_, FailureClass::Partial) => {
            ("nothing was changed", "once everything can be read, run the same command again")
        }
        _ => ("nothing was changed", "once the cause is gone, run the same command again"),
    }
}

/// What is known about a run that ended with an error.
pub(crate) fn summary_of(progress: &Progress, seconds: f64) -> Summary {
    Summary {
        ok: false,
        files: progress.files_done,
        bytes: progress.bytes_done,
        bytes_fetched: progress.bytes_fetched,
        first_byte_ms: progress.first_byte_ms,
        bytes_reused: progress.bytes_reused,
        wire_bytes: progress.wire_bytes,
        seconds,
        ..Summary::default()
    }
}

/// What a user of `haul send --to` can do about a failure.
fn pushers_next(error: &TransferError) -> &'static str {
    match error.class() {
        _ if matches!(error, TransferError::BadLink(_)) => {
            "copy the whole link, up to its last character, as `haul receive` printed it"
        }
        _ if matches!(error, TransferError::BadCode(_) | TransferError::NoInvitation | TransferError::NotHaul(_)) => {
            error.what_next()
        }
        FailureClass::Auth => {
            "compare it with what the `haul receive` that listens shows now: a code works once, and three wrong tries end \
             it; if it is right, somebody on the network may be interfering, and the link is the safer way"
        }
        _ if matches!(error, TransferError::NobodyListens(_)) => {
            "check that `haul receive` still listens, and that address and port are the ones that it shows, then run the \
             same command again"
        }
        FailureClass::ConnectTimeout => {
            "check that `haul receive` still listens there and that both are on one network, then run the same command again"
        }
        FailureClass::Protocol | FailureClass::Refused => error.what_next(),
        FailureClass::SourceChanged => "run the same command again to send what is there; only differences travel",
        _ => "run the same command again to continue",
    }
}

/// What a user types to continue what `folder` holds.
fn resume_command(folder: &Path) -> String {
    let text = folder.to_string_lossy();
    if text == "." {
        return "haul resume".to_owned();
    }
    let dashes = if text.starts_with('-') { "-- " } else { "" };
    format!("haul resume {dashes}{}", quoted(&text))
}

/// What a user types to listen for what is to arrive in `folder`.
fn receive_command(folder: &Path) -> String {
    let text = folder.to_string_lossy();
    if text == "." { "haul receive".to_owned() } else { format!("haul receive --into={}", quoted(&text)) }
}

/// What a shell takes for one word, whatever is in it.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&byte);
    let is_safe = !text.starts_with('-') && text.bytes().all(is_plain);
    if is_safe { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "shown only")]
fn rate(bytes: u64, time: Duration) -> Option<u64> {
    (bytes > 0 && !time.is_zero()).then(|| (bytes as f64 / time.as_secs_f64()) as u64)
}

fn line(text: &mut String, terminal: &Terminal, label: &str, rest: &str) {
    text.push_str(&format!("  {} {}\n", terminal.paint(Role::Faint, label), printable(rest)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use haul::source::SourceError;
    use haul::transfer::FailedFile;
    use haul::transport::TransportError;

    const PLAIN: Terminal =
        Terminal { redraws: false, answers: false, colors: false, utf8: false, columns: 80, rows: 24 };

    fn failed(class: FailureClass) -> FailedFile {
        FailedFile { path: "a".into(), fault: "it failed".into(), class }
    }

    #[test]
    fn an_error_says_what_happened_what_was_kept_and_what_to_do() {
        let error = TransferError::NoSpace { needed: 4 << 30, free: 1 << 30 };
        let failure = Failure::of(&error, Side::Receiving);
        assert_eq!(failure.exit, Exit::NoSpace);
        assert_eq!(
            failure.text(&PLAIN),
            "error: the destination has too little room: 4.00 GiB needed, 1.00 GiB free\n\
             \x20 kept:  everything that was verified is kept\n\
             \x20 next:  free some room or choose another folder with --into, then run the same command again\n"
        );
    }

    #[test]
    fn a_cause_that_the_one_before_it_names_is_not_said_again() {
        let no_route = std::io::Error::from_raw_os_error(rustix::io::Errno::HOSTUNREACH.raw_os_error());
        let error = TransferError::Network(TransportError::Unreachable(no_route).into());
        let text = Failure::of(&error, Side::Receiving).text(&PLAIN);
        assert_eq!(text.matches("No route to host").count(), 1, "{text}");
        assert!(text.contains("next:  check that both machines are on and in one network"), "{text}");
    }

    #[test]
    fn a_path_that_is_not_there_was_never_offered() {
        for side in [Side::Sending, Side::Pushing] {
            let missing = SourceError::Missing { path: "fotos".into() };
            let text = Failure::of(&TransferError::NotOffered(missing.into()), side).text(&PLAIN);
            assert_eq!(
                text,
                "error: cannot offer what was asked for\n\
                 \x20 cause: `fotos` does not exist\n\
                 \x20 kept:  nothing was offered\n\
                 \x20 next:  check how it is spelt and that it can be read, then run the same command again\n"
            );
        }
    }

    #[test]
    fn causes_follow_one_by_one_and_drive_no_terminal() {
        let cause = std::io::Error::other("disk\x1b[2J gone");
        let error = TransferError::Io { what: "cannot write `a`".into(), cause: cause.into() };
        let failure = Failure::of(&error, Side::Receiving);
        assert!(failure.text(&PLAIN).starts_with("error: cannot write `a`\n  cause: disk\\u{1b}[2J gone\n  kept:  "));
        assert_eq!(failure.sentence(), "cannot write `a`: disk\x1b[2J gone");
    }

    #[test]
    fn a_sender_is_told_what_its_receivers_keep() {
        let text = Failure::of(&TransferError::Interrupted, Side::Sending).text(&PLAIN);
        assert_eq!(
            text,
            "error: stopped before the end\n  kept:  receivers keep everything that they verified\n\
             \x20 next:  run the same command again: the same link continues every transfer\n"
        );
    }

    #[test]
    fn one_kind_of_failure_speaks_for_a_run_that_got_nothing() {
        let exit = |files, classes: &[FailureClass]| {
            let failed = classes.iter().copied().map(failed).collect();
            Failure::of_summary(&Summary { files, failed, ..Summary::default() }, Side::Receiving).unwrap().exit
        };
        assert_eq!(exit(0, &[FailureClass::Integrity]), Exit::Integrity);
        assert_eq!(exit(1, &[FailureClass::Integrity]), Exit::Partial);
        assert_eq!(exit(0, &[FailureClass::Integrity, FailureClass::Io]), Exit::Partial);
        assert_eq!(exit(5, &[FailureClass::SourceChanged]), Exit::SourceChanged);
        let whole = Summary { ok: true, ..Summary::default() };
        assert_eq!(Failure::of_summary(&whole, Side::Receiving), None);
    }

    #[test]
    fn a_folder_that_remembers_its_transfer_is_named() {
        let next = |error: &TransferError, folder: &str| {
            Failure::of(error, Side::Receiving).resumable(Path::new(folder)).next.unwrap()
        };
        assert_eq!(next(&TransferError::Interrupted, "into"), "run `haul resume into` to continue");
        assert_eq!(next(&TransferError::Interrupted, "."), "run `haul resume` to continue");
        assert_eq!(next(&TransferError::Interrupted, "it's here"), "run `haul resume 'it'\\''s here'` to continue");
        assert_eq!(next(&TransferError::Interrupted, "-x"), "run `haul resume -- '-x'` to continue");
        let partial = TransferError::Partial { failed: 1, total: 2 };
        assert_eq!(next(&partial, "into"), "run `haul resume into` to fetch what failed");
        let room = TransferError::NoSpace { needed: 2, free: 1 };
        assert!(next(&room, "into").ends_with("another folder with --into, then run the same command again"));
    }

    #[test]
    fn a_summary_says_what_compression_saved_where_it_saved_something() {
        let text = |bytes_fetched, wire_bytes| {
            let summary = Summary {
                ok: true,
                files: 1,
                bytes: 2 << 30,
                bytes_fetched,
                wire_bytes,
                seconds: 4.0,
                ..Summary::default()
            };
            summary_text(&summary, Side::Sending, &PLAIN)
        };
        assert_eq!(
            text(2 << 30, 600 << 20),
            "Sent 1 file, 2.00 GiB in 4.0 s, 512.0 MiB/s; 2.00 GiB travelled as 600.0 MiB\n"
        );
        assert_eq!(text(2 << 30, 2 << 30), "Sent 1 file, 2.00 GiB in 4.0 s, 512.0 MiB/s\n");
        assert_eq!(text(0, 3000), "Sent 1 file, 2.00 GiB in 4.0 s\n");
    }

    #[test]
    fn an_offer_that_was_kept_says_how_many_have_it() {
        let text = |receivers, bytes_fetched| {
            let (ok, files, bytes, seconds) = (true, 1, 3 << 20, 25.4);
            let receivers = Some(receivers);
            let summary = Summary { ok, files, bytes, bytes_fetched, seconds, receivers, ..Summary::default() };
            summary_text(&summary, Side::Sending, &PLAIN)
        };
        assert_eq!(text(0, 1 << 20), "Offered 1 file, 3.00 MiB for 25 s; 0 receivers have everything, 1.00 MiB sent\n");
        assert_eq!(text(1, 3 << 20), "Offered 1 file, 3.00 MiB for 25 s; 1 receiver has everything, 3.00 MiB sent\n");
    }

    #[test]
    fn a_summary_keeps_reused_bytes_apart() {
        let summary = Summary {
            ok: true,
            files: 2,
            bytes: 3 << 30,
            bytes_fetched: 2 << 30,
            bytes_reused: 1 << 30,
            wire_bytes: 2 << 30,
            seconds: 4.0,
            root: Some("abcd".into()),
            ..Summary::default()
        };
        assert_eq!(
            summary_text(&summary, Side::Receiving, &PLAIN),
            "Received 2 files, 3.00 GiB in 4.0 s, 512.0 MiB/s; 1.00 GiB of it here before\n  root:  abcd\n"
        );
    }
}
