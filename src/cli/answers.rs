//! Questions to the person at the terminal.

use crate::cli::prompt::{Key, Line, Raw};
use haul::transfer::Cancel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use zeroize::Zeroizing;

/// How often a wait for an answer looks whether it is still wanted.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Bytes that are read at once.
const READ_BYTES: usize = 1024;
/// Longest line that is waited for.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Somebody who can be asked.
pub(crate) trait Answers: Send {
    /// Shows the question and returns the next line, or `None` at the end of input or when the run is to stop.
    fn ask(&mut self, question: &str, cancel: &Cancel) -> Option<String>;

    /// Like [`Answers::ask`], for a code: where the terminal allows it, Tab completes a word.
    fn ask_code(&mut self, question: &str, cancel: &Cancel) -> Option<String> {
        self.ask(question, cancel)
    }
}

/// Nobody is there.
pub(crate) struct Nobody;

/// Reads from a terminal, and only while an answer is waited for: what is typed otherwise is left to others, and a process
/// in the background would be stopped for reading.
///
/// A signal does not end a read, so it is read only once there is something to be read.
pub(crate) struct Keyboard {
    terminal: OwnedFd,
    /// What came behind the end of a line.
    unread: Zeroizing<Vec<u8>>,
}

impl Keyboard {
    /// Reads from `input`, the keyboard of a terminal as a rule.
    pub(crate) fn new(input: impl AsFd) -> io::Result<Self> {
        Ok(Self { terminal: input.as_fd().try_clone_to_owned()?, unread: Zeroizing::default() })
    }

    /// Waits for what is typed next. False at the end of input or when the run is to stop.
    fn read_more(&mut self, cancel: &Cancel) -> bool {
        let mut bytes = Zeroizing::new([0; READ_BYTES]);
        while !cancel.is_cancelled() && self.unread.len() <= LINE_BYTES_MAX {
            match poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], Some(&LOOK_EVERY)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => return false,
            }
            match rustix::io::read(&self.terminal, &mut bytes[..]) {
                Ok(0) => return false,
                Ok(read) => {
                    self.unread.extend_from_slice(&bytes[..read]);
                    return true;
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// The line that is typed key by key, or whether Ctrl-C took its place.
    fn edit(&mut self, question: &str, cancel: &Cancel) -> Result<Option<String>, Interrupted> {
        let mut line = Line::new();
        loop {
            if self.unread.is_empty() && !self.read_more(cancel) {
                return Ok(None);
            }
            let shown = match line.press(self.unread.remove(0)) {
                Key::Show(text) => text,
                Key::Choices(words) => format!("\r\n  {}\r\n{question}{}", words.join("  "), line.text()),
                Key::Done => return Ok(Some(line.text().to_owned())),
                Key::End => return Ok(None),
                Key::Interrupt => return Err(Interrupted),
            };
            if show(&shown).is_none() {
                return Ok(None);
            }
        }
    }
}

impl Answers for Keyboard {
    fn ask(&mut self, question: &str, cancel: &Cancel) -> Option<String> {
        // Without standard error there is nobody to read the question, and so no answer to it.
        show(question)?;
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8(line).ok()?;
                return Some(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            if !self.read_more(cancel) {
                let is_over = self.unread.is_empty() || cancel.is_cancelled();
                return if is_over { None } else { String::from_utf8(std::mem::take(&mut *self.unread)).ok() };
            }
        }
    }

    fn ask_code(&mut self, question: &str, cancel: &Cancel) -> Option<String> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let raw = if is_dumb { None } else { self.terminal.try_clone().ok() };
        let Some(raw) = raw.and_then(Raw::enter) else { return self.ask(question, cancel) };
        show(question)?;
        let answer = self.edit(question, cancel);
        drop(raw);
        show("\n")?;
        answer.unwrap_or_else(|Interrupted| {
            // The terminal was kept from raising it; now that it is as it was, the run ends as it would have.
            let _ = signal_hook::low_level::raise(signal_hook::consts::SIGINT);
            None
        })
    }
}

/// Ctrl-C was typed.
struct Interrupted;

fn show(text: &str) -> Option<()> {
    let mut stderr = std::io::stderr().lock();
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).ok()
}

impl Answers for Nobody {
    fn ask(&mut self, _question: &str, _cancel: &Cancel) -> Option<String> {
        None
    }
}

/// Answers in the order given, and remembers what was asked.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) answers: std::collections::VecDeque<String>,
    pub(crate) asked: Vec<String>,
}

#[cfg(test)]
impl Script {
    pub(crate) fn of(answers: &[&str]) -> Self {
        Self { answers: answers.iter().map(ToString::to_string).collect(), asked: Vec::new() }
    }
}

#[cfg(test)]
impl Answers for Script {
    fn ask(&mut self, question: &str, _cancel: &Cancel) -> Option<String> {
        self.asked.push(question.to_owned());
        self.answers.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    /// A keyboard on which this was typed, and nothing more is.
    fn typed(bytes: &[u8]) -> Keyboard {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        Keyboard::new(file).unwrap()
    }

    #[test]
    fn lines_come_in_order_and_the_end_is_no_answer() {
        let mut keyboard = typed(b"y\nl\r\nlast");
        let cancel = Cancel::new();
        assert_eq!(keyboard.ask("", &cancel).as_deref(), Some("y"));
        assert_eq!(keyboard.ask_code("", &cancel).as_deref(), Some("l"), "no terminal: a plain line");
        assert_eq!(keyboard.ask("", &cancel).as_deref(), Some("last"));
        assert_eq!(keyboard.ask("", &cancel), None);
        assert_eq!(typed(b"\xff\n").ask("", &cancel), None);
        let endless = typed(&vec![b'x'; 2 * LINE_BYTES_MAX]).ask("", &cancel);
        assert_eq!(endless.map(|line| line.len() < LINE_BYTES_MAX + 2 * READ_BYTES), Some(true));
    }

    #[test]
    fn a_run_that_is_to_stop_waits_for_no_answer() {
        let cancel = Cancel::new();
        cancel.cancel();
        assert_eq!(typed(b"y\n").ask("", &cancel), None);
        let (silent, _keys) = io::pipe().unwrap();
        let cancel = Cancel::new();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| Keyboard::new(silent).unwrap().ask("", &cancel));
            cancel.cancel();
            assert_eq!(asking.join().unwrap(), None);
        });
    }
}
