//! What a person reads about single events.

use crate::cli::args::Output;
use crate::cli::forecast;
use crate::cli::terminal::{Role, Terminal};
use crate::cli::units;
use data_encoding::HEXLOWER;
use haul::printable::printable;
use haul::secret::fingerprint_words;
use haul::transfer::{CodeChange, Event, FileOutcome, LinkOutcome};

/// What a person reads about an event that is neither progress nor an offer.
pub(crate) fn line(event: &Event, output: &Output, terminal: &Terminal) -> Option<String> {
    let Output { quiet, verbose, json, .. } = *output;
    let is_chatty = !quiet && !json;
    match event {
        Event::FileDone { path, bytes, how, .. } => {
            let path = printable(path);
            match how {
                FileOutcome::Renamed(name) if is_chatty => {
                    Some(format!("`{path}` is taken here; saved as `{}`", printable(name)))
                }
                FileOutcome::Published if verbose => Some(format!("{path}  {}", units::size(*bytes))),
                FileOutcome::Identical if verbose => Some(format!("{path}  the same content was here before")),
                FileOutcome::SkippedExisting if verbose => Some(format!("{path}  left as it is here")),
                _ => None,
            }
        }
        Event::LinkDone { path, to, how } => {
            let (path, to) = (printable(path), printable(to));
            match how {
                LinkOutcome::Renamed(name) if is_chatty => {
                    Some(format!("`{path}` is taken here; saved as `{}`", printable(name)))
                }
                LinkOutcome::Copied if verbose => Some(format!("{path}  a copy of {to}")),
                LinkOutcome::Identical if verbose => Some(format!("{path}  the same was here before")),
                LinkOutcome::Made if verbose => Some(format!("{path}  a link to {to}")),
                LinkOutcome::SkippedExisting if verbose => Some(format!("{path}  left as it is here")),
                _ => None,
            }
        }
        Event::FileFailed { path, fault, .. } => {
            let label = terminal.paint(Role::Error, "failed:");
            Some(format!("{label} {}: {}", printable(path), printable(fault)))
        }
        Event::Certificate { fingerprint } if is_chatty => Some(format!(
            "Browsers warn of the page's certificate. Compare its fingerprint there:\n{}\nSHA-256 {}",
            fingerprint_words(fingerprint),
            HEXLOWER.encode(fingerprint)
        )),
        Event::CodeChanged { code, why } if is_chatty => Some(code_text(code.as_ref().map(|code| code.as_str()), *why)),
        Event::Foreseen(foreseen) if is_chatty => Some(forecast::entry(foreseen)),
        Event::Forecast(forecast) if is_chatty => Some(forecast::total(forecast)),
        Event::LeftOut(left_out) if is_chatty => Some(forecast::left_out(left_out, verbose)),
        Event::WouldOffer { files, folders, bytes } if is_chatty => {
            Some(format!("Would offer {}:", units::contents(*files, *folders, *bytes)))
        }
        Event::Notice { text } if !quiet => {
            Some(format!("{} {}", terminal.paint(Role::Warning, "note:"), printable(text)))
        }
        Event::Pushing { files, folders, bytes } if is_chatty => {
            Some(format!("Offering {}", units::contents(*files, *folders, *bytes)))
        }
        Event::PeerConnected { peer, session } if is_chatty => {
            Some(format!("Receiver {session} connected from {peer}"))
        }
        Event::PeerFinished { session, ok: true, bytes } if is_chatty => {
            Some(format!("Receiver {session} has everything; {} sent", units::size(*bytes)))
        }
        Event::PeerFinished { session, bytes, .. } if is_chatty => {
            Some(format!("Receiver {session} ended without everything; {} sent", units::size(*bytes)))
        }
        Event::PeerLost { session } if is_chatty => Some(format!("Receiver {session} is gone; it may come back")),
        Event::PeerAsks { peer, session } if is_chatty => Some(format!("Receiver {session} asks from {peer}")),
        Event::PeerRefused { session } if is_chatty => {
            Some(format!("Receiver {session} was turned away; it does not come back in this run"))
        }
        _ => None,
    }
}

fn code_text(code: Option<&str>, why: CodeChange) -> String {
    match (why, code) {
        (CodeChange::Used, Some(code)) => format!("That code is used up. The next one is {code}"),
        (CodeChange::Burnt, Some(code)) => {
            format!(
                "That code is burnt: it was tried wrongly too often. The new one is {code}; the link stays the same"
            )
        }
        (CodeChange::GivenUp, _) => {
            "Somebody keeps guessing at the codes, so there are no more of them; the link still works".to_owned()
        }
        (_, None) => "There is no further code; the link still works".to_owned(),
    }
}
