//! Questions to the person at the terminal.

use haul::transfer::Cancel;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How often a wait for an answer looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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

/// Reads from a terminal.
///
/// The read happens on a thread of its own: a signal does not end a read, so a wait on the read itself would not notice
/// Ctrl-C. The thread is left behind in its read when the process ends.
pub(crate) struct Keyboard {
    lines: mpsc::Receiver<String>,
}

impl Keyboard {
    /// Reads lines from `input`, the terminal's keyboard.
    pub(crate) fn new(input: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(input).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines }
    }
}

impl Answers for Keyboard {
    fn ask(&mut self, question: &str, cancel: &Cancel) -> Option<String> {
        let mut stderr = std::io::stderr().lock();
        // Without standard error there is nobody to read the question, and so no answer to it.
        write!(stderr, "{question}").and_then(|()| stderr.flush()).ok()?;
        drop(stderr);
        while !cancel.is_cancelled() {
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        None
    }
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

    #[test]
    fn lines_come_in_order_and_the_end_is_no_answer() {
        let mut keyboard = Keyboard::new(&b"y\nl\n"[..]);
        let cancel = Cancel::new();
        assert_eq!(keyboard.ask("", &cancel).as_deref(), Some("y"));
        assert_eq!(keyboard.ask("", &cancel).as_deref(), Some("l"));
        assert_eq!(keyboard.ask("", &cancel), None);
    }

    #[test]
    fn a_run_that_is_to_stop_waits_for_no_answer() {
        let cancel = Cancel::new();
        cancel.cancel();
        assert_eq!(Keyboard::new(std::io::empty()).ask("", &cancel), None);
    }
}
