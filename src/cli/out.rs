//! `haul receive --out`: one file under another name, or written to standard output.

use crate::cli::args::{Output, Receive};
use crate::cli::exit::Exit;
use crate::cli::places::Places;
use crate::cli::report::Failure;
use haul::printable::{printable, printable_path};
use haul::rel_path::RelPath;
use haul::transfer::{Out, ReceiveSettings, TransferError, stream_folder};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The folder that receives unless another one is named.
pub(crate) const INTO: &str = ".";

/// Where what is received goes.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) into: PathBuf,
    pub(crate) out: Option<Out>,
}

/// Whether the file goes to standard output, which then is no place for anything else.
pub(crate) fn is_stream(receive: &Receive) -> bool {
    receive.out.as_deref() == Some(Path::new("-"))
}

/// What is wrong with what was asked for beside `--out`.
pub(crate) fn refuse_flags(receive: &Receive, output: &Output) -> Option<Failure> {
    let usage = |what: &str, next: &str| Some(Failure::new(Exit::Usage, what).next(next));
    let out = receive.out.as_ref()?;
    if is_stream(receive) && output.json {
        return usage("standard output takes the file or the events, not both", "leave out --json, or name a file");
    }
    if is_stream(receive) && receive.dry_run {
        return usage("a dry run writes nothing to standard output", "leave out --out to see what is offered");
    }
    let is_into_given = receive.into != Path::new(INTO) && std::env::var_os("HAUL_INTO").is_none();
    if !is_stream(receive) && is_into_given {
        return usage("--out names the folder as well, and so does --into", "leave out one of the two");
    }
    if !is_stream(receive) && (out.is_dir() || out.as_os_str().as_encoded_bytes().ends_with(b"/")) {
        let what = format!("`{}` is a folder, and --out names a file", printable_path(out));
        return usage(&what, "name the folder with --into to keep the name that is offered");
    }
    None
}

/// Where what `invitation` offers goes.
pub(crate) fn target(receive: &Receive, invitation: &str) -> Result<Target, Failure> {
    let Some(out) = &receive.out else { return Ok(Target { into: receive.into.clone(), out: None }) };
    if !is_stream(receive) {
        return file(out);
    }
    let is_into_given = receive.into != Path::new(INTO) && std::env::var_os("HAUL_INTO").is_none();
    if is_into_given {
        return Ok(Target { into: receive.into.clone(), out: Some(Out::Stream) });
    }
    let Places { state, cache } = Places::detect();
    let base = cache.or(state).ok_or_else(|| {
        Failure::new(Exit::Usage, "there is no home folder to keep what comes out of order")
            .next("name one with --into")
    })?;
    let folder = stream_folder(&base.join("streams"), invitation);
    let into = folder.map_err(|error| Failure::of(&error, crate::cli::report::Side::Receiving))?;
    Ok(Target { into, out: Some(Out::Stream) })
}

/// The folder of a path, and the name that its file gets there.
fn file(out: &Path) -> Result<Target, Failure> {
    let usage = |why: String| {
        Failure::new(Exit::Usage, &format!("`{}` cannot be the name of a file: {why}", printable_path(out)))
    };
    let name =
        out.file_name().and_then(|name| name.to_str()).ok_or_else(|| usage("it has none that is text".into()))?;
    let path = RelPath::parse(name).map_err(|fault| usage(fault.to_string()))?;
    if let Some(fault) = path.refusal() {
        return Err(usage(fault.to_string()));
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(INTO));
    if !folder.is_dir() {
        let what = format!("`{}` is not a folder", printable_path(folder));
        let next = format!("create it, so that `{}` can be written there", printable(name));
        return Err(Failure::new(Exit::Io, &what).next(&next));
    }
    Ok(Target { into: folder.to_owned(), out: Some(Out::Name(path)) })
}

/// Standard output without a buffer of its own: whole chunks are written.
pub(crate) fn stdout() -> Result<Box<dyn Write + Send>, TransferError> {
    let stream = std::io::stdout().as_fd().try_clone_to_owned();
    let unusable = |cause: std::io::Error| TransferError::Io {
        what: "cannot write to standard output".into(),
        cause: cause.into(),
    };
    Ok(Box::new(File::from(stream.map_err(unusable)?)))
}

/// What becomes of a stream's folder and of its failure, once the run is over.
pub(crate) fn after_stream(settings: &ReceiveSettings, failure: Failure) -> Failure {
    let again = "to have the whole stream again; what is kept is not fetched again";
    let failure = Failure { next: failure.next.map(|next| next.replace("to continue", again)), ..failure };
    leave(settings);
    failure
}

/// Removes the folder where nothing is kept in it; one that the user named has other things in it, or is theirs to remove.
pub(crate) fn leave(settings: &ReceiveSettings) {
    let base = Places::detect();
    let is_own =
        [base.cache, base.state].into_iter().flatten().any(|base| settings.into.starts_with(base.join("streams")));
    if is_own {
        let _ = std::fs::remove_dir(&settings.into);
    }
}

/// What a stream's run is told that has no other way on.
pub(crate) fn is_stream_of(settings: &ReceiveSettings) -> bool {
    settings.out == Some(Out::Stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_folder_and_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let target = file(&folder.path().join("film.mkv")).unwrap();
        assert_eq!(target.into, folder.path());
        assert_eq!(target.out, Some(Out::Name(RelPath::parse("film.mkv").unwrap())));
        assert_eq!(file(Path::new("film.mkv")).unwrap().into, Path::new("."));
        assert_eq!(file(Path::new("/no/such/folder/x")).unwrap_err().exit, Exit::Io);
        for bad in ["..", "a/..", ".haul", "/", "x\u{202e}y"] {
            assert_eq!(file(Path::new(bad)).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
