//! `haul verify`: checks a folder against a manifest, and fetches what is wrong where somebody has it.

use crate::cli::answers::Nobody;
use crate::cli::args::Output;
use crate::cli::exit::{self, Exit};
use crate::cli::places::Places;
use crate::cli::report::{Failure, Side};
use crate::cli::terminal::Terminal;
use crate::cli::view::{Rules, View};
use crate::cli::{host, keyboard, link, streams, units, warn_of_others, with_signals};
use clap::Args;
use haul::codec::Compression;
use haul::transfer::{
    Cancel, Conflict, Decision, Event, Observer, OfferSummary, ReceiveSettings, Summary, Throttle, TransferError,
    Verified, VerifySettings,
};
use std::cell::Cell;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// Checks a folder against a manifest
///
/// Names everything that is missing, extra or different, and for a file that differs which chunks and bytes. Extra is what
/// lies in a folder of the manifest and is not listed in it; what lies beside those folders is no concern of it. A list of
/// hashes as `b3sum` prints it does as well: then only whole files are compared, and nothing is extra. Ends with 0 where
/// everything is as the manifest says, with 40 where anything is not, and with 23 where all that is wrong is that something
/// cannot be read.
#[derive(Args, Debug)]
#[command(after_long_help = exit::help())]
pub(crate) struct Verify {
    /// The manifest, or a list of hashes as `b3sum` prints it
    #[arg(value_name = "FILE")]
    manifest: PathBuf,

    /// The folder that holds what it lists
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,

    /// Compare permissions and times as well
    #[arg(long)]
    metadata: bool,

    /// Fetch what is missing or different from a sender of the same files: by its link or its code, or `-` for standard
    /// input
    #[arg(long, value_name = "LINK|CODE")]
    repair: Option<String>,

    /// With --repair: where the sender is, for a code on a network where it cannot be found
    #[arg(long, value_name = "HOST:PORT", requires = "repair")]
    at: Option<String>,

    /// With --repair: give up once the sender could not be reached for so long: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "DURATION", value_parser = units::parse_time, requires = "repair")]
    retry_for: Option<Duration>,

    /// With --repair: let no more than so many bytes a second come: 500K, 10M, 1G
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate, requires = "repair")]
    limit: Option<NonZeroU64>,
}

/// Watches a repair. The offer is the manifest's content to the byte, so nobody is asked about it.
struct Repairing<'a>(&'a View);

pub(crate) fn run(verify: Verify, output: Output) -> Exit {
    let terminal = Terminal::detect(output.color);
    let cancel = Cancel::new();
    let side = if verify.repair.is_some() { Side::Repairing } else { Side::Checking };
    let answers = keyboard(false).unwrap_or_else(|| Box::new(Nobody));
    let view = View::new(side, output, Rules::default(), terminal, cancel.clone(), answers, streams());
    let repair = match repair_settings(&verify, &view, &cancel) {
        Ok(repair) => repair,
        Err(failure) => return view.finish(Err(failure)),
    };
    let settings = VerifySettings { manifest: verify.manifest, folder: verify.folder, metadata: verify.metadata };
    let last_word = |failure| {
        view.finish(Err(failure));
    };
    // What a repair could do; nothing before the check has come to its end.
    let repairable = Cell::new(None);
    let check = || {
        let verified = haul::transfer::verify(&settings, &view, &cancel)?;
        repairable.set(Some(verified.knows_chunks().then(|| verified.repairable())));
        match repair {
            Some(repair) => mend(verified, repair, &view, &cancel),
            None => verified.outcome(),
        }
    };
    let mut result = with_signals(&cancel, side, last_word, check);
    if let Err(failure) = &mut result
        && failure.exit == Exit::Integrity
    {
        let next = match repairable.get() {
            Some(None) => Some("with a manifest that `haul manifest` wrote, --repair LINK fetches what is wrong"),
            Some(Some(0)) => Some("a sender's copy cannot mend this: look at what is named above"),
            _ => None,
        };
        failure.next = next.map(str::to_owned).or(failure.next.take());
    }
    view.finish(result)
}

/// Whom to fetch from, where that is said.
fn repair_settings(verify: &Verify, view: &View, cancel: &Cancel) -> Result<Option<ReceiveSettings>, Failure> {
    let Some(repair) = &verify.repair else { return Ok(None) };
    let typed = link::typed(vec![repair.clone()]);
    let given = view.with_answers(|answers| link::read(typed, false, None, answers, cancel))?;
    let at = verify.at.as_deref().map(host::resolve).transpose()?.unwrap_or_default();
    warn_of_others(&given, view);
    Ok(Some(ReceiveSettings {
        invitation: given.invitation,
        at,
        into: verify.folder.clone(),
        conflict: Conflict::Overwrite,
        read_back: false,
        lanes: None,
        wait_for_host: verify.retry_for.is_some_and(|patience| !patience.is_zero()),
        retry_for: verify.retry_for,
        allow_hidden: true,
        state_dir: Places::detect().state,
        resuming: None,
        expect: None,
        // Its manifest says which.
        symlinks: true,
        attributes: true,
        compress: Compression::Auto,
        dry_run: false,
        out: None,
        throttle: Throttle::new(verify.limit),
    }))
}

fn mend(verified: Verified, settings: ReceiveSettings, view: &View, cancel: &Cancel) -> Result<Summary, TransferError> {
    if !verified.knows_chunks() {
        return Err(TransferError::Io {
            what: "a list of hashes of whole files does not tell what to fetch".into(),
            cause: "a repair needs a manifest that `haul manifest` wrote without --b3sum".into(),
        });
    }
    match verified.repairable() {
        0 => verified.outcome(),
        files => {
            let text = format!("fetching what is wrong of {}", units::count(files, "file"));
            view.event(&Event::Notice { text });
            haul::transfer::repair(verified, settings, &Repairing(view), cancel)
        }
    }
}

impl Observer for Repairing<'_> {
    fn event(&self, event: &Event) {
        self.0.event(event);
    }

    fn accept(&self, _offer: &OfferSummary) -> Decision {
        Decision::Accept
    }
}
