//! A terminal whose keys are taken one by one and not shown, and which is always left as it was found.
//!
//! Signals keep their meaning: Ctrl-C interrupts and Ctrl-Z stops, and before either the terminal is given back. A
//! process in the background neither reads from it nor changes it, which would stop the process.

use haul::transfer::Cancel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{getpgrp, getsid};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM, SIGTSTP};
use signal_hook::low_level;
use std::io::{self, Read, Stdin, stdin};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// How often it is looked whether the run is over, and whether this process is in the foreground again.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Stands for a special character that no key has.
const NO_KEY: u8 = if cfg!(target_os = "linux") { 0 } else { 0xff };
/// Keys that are taken at once.
const KEYS_AT_ONCE: usize = 64;

/// What keys are for.
pub(crate) struct Taking<W, C, S, K> {
    /// Whether there is anything that they can be about.
    pub(crate) are_wanted: W,
    /// What is held while they are taken, so that nobody asks a question meanwhile. Nothing, where somebody does.
    pub(crate) claim: C,
    /// Is told whether they are taken: what can be typed is shown no sooner, since what was typed before is dropped.
    pub(crate) show: S,
    /// Gets each of them.
    pub(crate) on_key: K,
}

/// Runs `act`, and takes keys meanwhile, as long as they are wanted.
pub(crate) fn with_keys<T, G>(
    cancel: &Cancel,
    taking: Taking<
        impl Fn() -> bool + Send,
        impl Fn() -> Option<G> + Send,
        impl Fn(bool) + Send,
        impl FnMut(u8) + Send,
    >,
    act: impl FnOnce() -> T,
) -> T {
    let Ok(signals) = Signals::new() else { return act() };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| watch(signals, (cancel, &is_over), taking));
        // Also where it panics: the scope waits for the thread, which gives the terminal back.
        let _over = SetOnDrop(&is_over);
        act()
    })
}

fn watch<G>(
    mut signals: Signals,
    (cancel, is_over): (&Cancel, &AtomicBool),
    taking: Taking<impl Fn() -> bool, impl Fn() -> Option<G>, impl Fn(bool), impl FnMut(u8)>,
) {
    let Taking { are_wanted, claim, show, mut on_key } = taking;
    let keyboard = stdin();
    // The terminal is given back before the claim is.
    let mut raw: Option<(Raw<'_>, G)> = None;
    let mut has_keys = true;
    while !is_over.load(Ordering::SeqCst) && !cancel.is_cancelled() {
        let is_wanted = has_keys && are_wanted();
        if raw.is_some() && !is_wanted {
            raw = None;
            show(false);
        } else if raw.is_none() && is_wanted && is_in_foreground(&keyboard) {
            raw = claim().and_then(|claimed| Some((Raw::enter(&keyboard).ok()?, claimed)));
            show(raw.is_some());
        }
        let (signal, key) = wait(&signals, raw.is_some().then_some(&keyboard));
        if signal && signals.take() {
            raw = None;
            stop_process();
        }
        if key && is_in_foreground(&keyboard) {
            let mut keys = [0; KEYS_AT_ONCE];
            match rustix::io::read(&keyboard, &mut keys) {
                Ok(count) if count > 0 => keys[..count].iter().for_each(|&key| on_key(key)),
                Err(Errno::INTR | Errno::AGAIN) => {}
                // The terminal is gone, and its keys with it; the transfer is not.
                Ok(_) | Err(_) => (has_keys, raw) = (false, None),
            }
        }
    }
}

/// Waits for a signal or a key. Whether there is one, of each.
fn wait(signals: &Signals, keyboard: Option<&Stdin>) -> (bool, bool) {
    let mut awaited = vec![PollFd::new(&signals.seen, PollFlags::IN)];
    awaited.extend(keyboard.map(|keyboard| PollFd::new(keyboard, PollFlags::IN)));
    if poll(&mut awaited, Some(&LOOK_EVERY)).is_err() {
        return (false, false);
    }
    let is_ready = |place: usize| awaited.get(place).is_some_and(|fd| !fd.revents().is_empty());
    (is_ready(0), is_ready(1))
}

/// Does what Ctrl-Z does, and returns once the process is continued. A session's first process has nobody who would
/// continue it, so it is not stopped.
fn stop_process() {
    if getsid(None).is_ok_and(|session| session != getpgrp()) {
        // It can fail only for a signal that does not exist.
        let _ = low_level::emulate_default_handler(SIGTSTP);
    }
}

fn is_in_foreground(keyboard: &Stdin) -> bool {
    tcgetpgrp(keyboard).is_ok_and(|group| group == getpgrp())
}

/// Takes keys one by one, without showing them, until it is dropped.
struct Raw<'a> {
    keyboard: &'a Stdin,
    before: Termios,
}

impl<'a> Raw<'a> {
    fn enter(keyboard: &'a Stdin) -> io::Result<Self> {
        let before = tcgetattr(keyboard)?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        // Ctrl-\ would end the process with the terminal as it is here.
        raw.special_codes[SpecialCodeIndex::VQUIT] = NO_KEY;
        // What was typed before was not meant for keys that nobody knew of.
        tcsetattr(keyboard, OptionalActions::Flush, &raw)?;
        Ok(Self { keyboard, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if is_in_foreground(self.keyboard) {
            // There is nobody to tell where it fails: the terminal is gone.
            let _ = tcsetattr(self.keyboard, OptionalActions::Now, &self.before);
        }
    }
}

/// Wakes the thread that holds the terminal at once when a signal comes that it has to give it back for.
struct Signals {
    seen: UnixStream,
    stops: UnixStream,
    ids: Vec<signal_hook::SigId>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (seen, wake) = UnixStream::pair()?;
        let (stops, stop) = UnixStream::pair()?;
        seen.set_nonblocking(true)?;
        stops.set_nonblocking(true)?;
        let mut signals = Self { seen, stops, ids: Vec::new() };
        signals.ids.push(low_level::pipe::register(SIGTSTP, stop)?);
        for signal in [SIGTSTP, SIGINT, SIGTERM] {
            signals.ids.push(low_level::pipe::register(signal, wake.try_clone()?)?);
        }
        Ok(signals)
    }

    /// Takes what came so far. Whether the process is to be stopped.
    fn take(&mut self) -> bool {
        let mut bytes = [0; KEYS_AT_ONCE];
        // Empty, it says that it would block.
        let _ = self.seen.read(&mut bytes);
        self.stops.read(&mut bytes).is_ok_and(|count| count > 0)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
