//! `haul send --dry-run`: what would be offered, and nothing else.

use crate::cli::answers::Nobody;
use crate::cli::args::{Output, Send};
use crate::cli::exit::Exit;
use crate::cli::flags::SentTree;
use crate::cli::report::Side;
use crate::cli::terminal::Terminal;
use crate::cli::view::{Rules, View};
use crate::cli::{streams, with_signals};
use haul::transfer::{Cancel, SendSettings, preview};

pub(crate) fn of_send(send: Send, output: Output) -> Exit {
    let terminal = Terminal::detect(output.color);
    let cancel = Cancel::new();
    let (rules, answers) = (Rules::default(), Box::new(Nobody));
    let view = View::new(Side::Sending, output, rules, terminal, cancel.clone(), answers, streams()).with_dry_run(true);
    let filter = match send.filters.read() {
        Ok(filter) => filter,
        Err(failure) => return view.finish(Err(failure)),
    };
    let SentTree { symlinks, xattrs: attributes } = send.tree;
    let settings = SendSettings { paths: send.paths, filter, symlinks, attributes, ..SendSettings::default() };
    let last_word = |failure| {
        view.finish(Err(failure));
    };
    let result = with_signals(&cancel, Side::Sending, last_word, || preview(&settings, &view, &cancel));
    view.finish(result)
}
