//! `haul send --to`: pushes to somebody who listens, named by a link, a code or an address.

use crate::cli::answers::{Answers, Nobody};
use crate::cli::args::{Output, Send};
use crate::cli::exit::Exit;
use crate::cli::link::{self, Given};
use crate::cli::places::Places;
use crate::cli::report::{Failure, Side};
use crate::cli::stream::{self, Kept};
use crate::cli::terminal::Terminal;
use crate::cli::view::{Rules, View};
use crate::cli::{host, keyboard, streams, warn_of_others, with_signals};
use haul::secret::{Invitation, InvitationFault};
use haul::source::Filter;
use haul::transfer::{Cancel, Controls, PushSettings};
use std::net::SocketAddr;

pub(crate) fn run(send: Send, output: Output) -> Exit {
    let terminal = Terminal::detect(output.color);
    let cancel = Cancel::new();
    let answers = keyboard(false).unwrap_or_else(|| Box::new(Nobody));
    let view = View::new(Side::Pushing, output, Rules::default(), terminal, cancel.clone(), answers, streams())
        .with_spool(stream::is_read(&send));
    let is_bound = send.bind.is_some() && std::env::var_os("HAUL_BIND").is_none();
    if is_bound || (send.address.is_some() && std::env::var_os("HAUL_ADDRESS").is_none()) {
        let flag = if is_bound { "--bind" } else { "--address" };
        let text = format!("{flag} is for an offer that others fetch, and --to connects to somebody");
        return view.finish(Err(Failure::new(Exit::Usage, &text).next("leave out one of the two")));
    }
    let (stream, filter) = match stream::settings(&send).and_then(|stream| Ok((stream, send.filters.clone().read()?))) {
        Ok(chosen) => chosen,
        Err(failure) => return view.finish(Err(failure)),
    };
    let kept = Kept::new(stream, send.stream.spool);
    let typed = link::typed(send.to.into_iter().collect());
    let named = view.with_answers(|answers| {
        let given = link::read(typed, false, None, answers, &cancel)?;
        whom(given, answers, &cancel)
    });
    let (given, at) = match named {
        Ok(named) => named,
        Err(failure) => return view.finish(Err(failure)),
    };
    warn_of_others(&given, &view);
    let controls = Controls::new();
    let settings = PushSettings {
        paths: send.paths,
        filter,
        to: given.invitation,
        at,
        lanes: send.lanes.count,
        retry_for: send.retry_for,
        cache_dir: Places::detect().cache,
        symlinks: send.tree.symlinks,
        attributes: send.tree.xattrs,
        compress: send.compress.how,
        limit: send.limit,
        controls: controls.clone(),
    };
    let last_word = |failure| {
        view.finish(Err(kept.with_way_on(failure)));
    };
    let push = || {
        kept.offering(&view, &cancel, |input| {
            let settings = match input {
                Some(input) => PushSettings { paths: vec![input.to_owned()], filter: Filter::default(), ..settings },
                None => settings,
            };
            haul::transfer::push(&settings, &view, &cancel)
        })
    };
    let transfer = || view.with_limit_keys(&cancel, send.limit, |rate| controls.limit_all(rate), push);
    let result = with_signals(&cancel, Side::Pushing, last_word, transfer);
    view.finish(result.map_err(|failure| kept.with_way_on(failure)))
}

/// Who is to be pushed to. An address says where they are; the code that they show is asked for.
fn whom(given: Given, answers: &mut dyn Answers, cancel: &Cancel) -> Result<(Given, Vec<SocketAddr>), Failure> {
    let is_address = given.invitation.contains(':') && !given.invitation.contains(['#', '/']);
    if !is_address || !matches!(Invitation::parse(&given.invitation), Err(InvitationFault::Neither)) {
        return Ok((given, Vec::new()));
    }
    let at = host::resolve(&given.invitation)?;
    let code = link::read_code(answers, cancel)?;
    Ok((code, at))
}
