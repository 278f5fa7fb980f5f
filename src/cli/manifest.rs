//! `haul manifest`: writes what is here, with its hashes, into a file to check it by later.

use crate::cli::answers::Nobody;
use crate::cli::args::Output;
use crate::cli::exit::{self, Exit};
use crate::cli::filters::Filters;
use crate::cli::places::Places;
use crate::cli::report::{Failure, Side};
use crate::cli::terminal::Terminal;
use crate::cli::view::{Rules, Streams, View};
use crate::cli::{streams, with_signals};
use clap::Args;
use haul::printable::printable_path;
use haul::transfer::{Cancel, ManifestSettings};
use std::io::{IsTerminal, sink, stderr, stdout};
use std::path::{Path, PathBuf};

/// Writes the hashes of files and folders into a manifest
///
/// A manifest lists what `haul send` would offer, with a hash for every chunk of every file. `haul verify` checks a copy
/// against it, and `haul receive --expect` takes nothing else. What was hashed before and did not change is not read again.
#[derive(Args, Debug)]
#[command(after_long_help = exit::help())]
pub(crate) struct Manifest {
    /// Files and folders to list
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    filters: Filters,

    /// The file to write; `-` is standard output
    #[arg(short, long, value_name = "FILE", required = true)]
    out: PathBuf,

    /// Replace a file of that name
    #[arg(long)]
    overwrite: bool,

    /// List symbolic links as well, as `haul send --symlinks` offers them
    #[arg(long)]
    symlinks: bool,

    /// Write the hashes of whole files as text, for `b3sum --check`
    #[arg(long)]
    b3sum: bool,
}

pub(crate) fn run(manifest: Manifest, output: Output) -> Exit {
    let terminal = Terminal::detect(output.color);
    let cancel = Cancel::new();
    let refused = refusal(&manifest, &output);
    let Manifest { paths, filters, out, overwrite, symlinks, b3sum } = manifest;
    let out = Some(out).filter(|out| !is_stream(out));
    // Standard output belongs to the manifest then.
    let is_piped = out.is_none() && !output.json;
    let streams = if is_piped { Streams { out: Box::new(sink()), err: Box::new(stderr()) } } else { streams() };
    let view = View::new(Side::Listing, output, Rules::default(), terminal, cancel.clone(), Box::new(Nobody), streams);
    if let Some(failure) = refused {
        return view.finish(Err(failure));
    }
    let filter = match filters.read() {
        Ok(filter) => filter,
        Err(failure) => return view.finish(Err(failure)),
    };
    let settings =
        ManifestSettings { paths, filter, out, overwrite, symlinks, b3sum, cache_dir: Places::detect().cache };
    let last_word = |failure| {
        view.finish(Err(failure));
    };
    let make = || haul::transfer::manifest(&settings, &mut stdout(), &view, &cancel);
    let result = with_signals(&cancel, Side::Listing, last_word, make);
    view.finish(result)
}

fn is_stream(out: &Path) -> bool {
    out == Path::new("-")
}

/// What is wrong with where it is to be written, as far as that shows before anything is read.
fn refusal(manifest: &Manifest, output: &Output) -> Option<Failure> {
    let out = &manifest.out;
    if is_stream(out) {
        if output.json {
            let failure = Failure::new(Exit::Usage, "--json and the manifest cannot both have standard output");
            return Some(failure.next("name a file with -o"));
        }
        if !manifest.b3sum && stdout().is_terminal() {
            let failure = Failure::new(Exit::Usage, "a manifest is no text, and standard output is a terminal");
            return Some(failure.next("name a file with -o, or have text with --b3sum"));
        }
        return None;
    }
    let is_taken = out.symlink_metadata().is_ok();
    if is_taken && (out.is_dir() || !manifest.overwrite) {
        let what = format!("`{}` is there already", printable_path(out));
        let next = "choose another name with -o, or replace a file with --overwrite";
        return Some(Failure::new(Exit::Exists, &what).next(next));
    }
    None
}
