//! How two ends prove the same code over one TLS connection: each sends a share, then shows that the shares agree.
//!
//! The joiner opens with `version, mode, purpose, exchange, length, share`, the host answers `version, length, share`. From
//! then on the joiner has had its guess, whatever becomes of it. The joiner shows its tag first; the host shows its own only
//! to a joiner whose tag is right, so that a wrong guess earns nothing. `wire/SPEC.md` has the bytes.

use super::TransportError;
use super::fresh::fresh_code;
use super::gatekeeper::Gatekeeper;
use super::pake::{Confirmation, PasswordExchange, Role, Spake2Exchange, TAG_BYTES};
use super::pipe::Pipe;
use super::proof::{self, Binding, HEAD_BYTES, Purpose};
use crate::limits::CODE_TRIES_MAX;
use crate::secret::Code;

/// The tries of a typed code by this end: an end that keeps refusing it may be somebody in the middle, who pays with one
/// guess for each.
#[derive(Debug, Default)]
pub struct CodeTries {
    sent: u32,
    /// Public keys of ends that did not accept the code: it is not put to one of them again, at whatever address.
    refused_by: Vec<Vec<u8>>,
}

/// Why there is no proof of a code.
pub(super) enum NoProof {
    /// The connection ended before the joiner had a guess.
    Fault(TransportError),
    /// What the joiner sent is no proof, or it left with its guess.
    WrongCode,
}

impl CodeTries {
    /// Whether the code may not be tried any more.
    pub fn are_used_up(&self) -> bool {
        self.sent >= CODE_TRIES_MAX
    }

    /// How often the code was put to another end that did not prove it in turn.
    pub fn sent(&self) -> u32 {
        self.sent
    }
}

impl From<TransportError> for NoProof {
    fn from(error: TransportError) -> Self {
        Self::Fault(error)
    }
}

/// Proves `code` as the joiner.
pub(super) fn join(
    pipe: &mut Pipe,
    code: &Code,
    tries: &mut CodeTries,
    purpose: Purpose,
    binding: &Binding,
) -> Result<(), TransportError> {
    if tries.are_used_up() || tries.refused_by.contains(&binding.host_spki) {
        return Err(TransportError::WrongProof);
    }
    tries.sent += 1;
    let outcome = join_once(pipe, code, purpose, binding);
    match outcome {
        // The other end knows the code, so it learnt nothing by this try.
        Ok(()) => tries.sent -= 1,
        Err(TransportError::WrongProof) => tries.refused_by.push(binding.host_spki.clone()),
        Err(_) => {}
    }
    outcome
}

fn join_once(pipe: &mut Pipe, code: &Code, purpose: Purpose, binding: &Binding) -> Result<(), TransportError> {
    let exchange = Spake2Exchange::start(Role::Joiner, code.to_text().as_bytes());
    let head = proof::code_head(purpose, Spake2Exchange::VERSION);
    let opening = [&head[..], &with_length(exchange.share())].concat();
    pipe.send(&[&opening])?;
    let mut version = [0];
    refused_if_closed(pipe.read_exact(&mut version))?;
    let theirs = refused_if_closed(read_share(pipe))?;
    let answer = [&version[..], &with_length(&theirs)].concat();
    if version != [proof::VERSION] {
        return Err(TransportError::WrongProof);
    }
    let key = exchange.agree(&theirs).ok_or(TransportError::WrongProof)?;
    let confirmation = Confirmation::new(&key, &opening, &answer, binding);
    pipe.send(&[&confirmation.tag(Role::Joiner)])?;
    let mut tag = [0; TAG_BYTES];
    refused_if_closed(pipe.read_exact(&mut tag))?;
    if confirmation.is_tag(Role::Host, &tag) { Ok(()) } else { Err(TransportError::WrongProof) }
}

/// Lets the joiner whose opening starts with `head` prove the code that `gatekeeper` has, and says what it wants.
pub(super) fn welcome(
    pipe: &mut Pipe,
    head: [u8; HEAD_BYTES],
    binding: &Binding,
    gatekeeper: &dyn Gatekeeper,
) -> Result<Purpose, NoProof> {
    let theirs = read_share(pipe)?;
    // What is no share cannot be a guess either, and is not answered.
    let purpose = proof::code_purpose(head, Spake2Exchange::VERSION)
        .filter(|_| Spake2Exchange::is_sound(Role::Joiner, &theirs))
        .ok_or(NoProof::WrongCode)?;
    // Its time comes before the answer: whoever has the answer has had the guess.
    let mut guess = Guess { gatekeeper, code: gatekeeper.take_code_try(), is_proven: false };
    // Without a code, one that nobody knows takes the same path.
    let code = guess.code.clone().map_or_else(|| fresh_code(None), Ok)?;
    let exchange = Spake2Exchange::start(Role::Host, code.to_text().as_bytes());
    let answer = [&[proof::VERSION][..], &with_length(exchange.share())].concat();
    let mut tag = [0; TAG_BYTES];
    let heard = pipe.send(&[&answer]).and_then(|()| pipe.read_exact(&mut tag));
    let key = exchange.agree(&theirs).ok_or(NoProof::WrongCode)?;
    let opening = [&head[..], &with_length(&theirs)].concat();
    let confirmation = Confirmation::new(&key, &opening, &answer, binding);
    if heard.is_err() || !confirmation.is_tag(Role::Joiner, &tag) || !guess.is_first() {
        return Err(NoProof::WrongCode);
    }
    pipe.send(&[&confirmation.tag(Role::Host)]).map_err(|_| NoProof::WrongCode)?;
    guess.admit();
    Ok(purpose)
}

/// A try at the code that was taken. It failed unless it is said to have led to a lane.
struct Guess<'a> {
    gatekeeper: &'a dyn Gatekeeper,
    code: Option<Code>,
    /// This try is the one that the code was used for.
    is_proven: bool,
}

impl Guess<'_> {
    /// Takes the code for this joiner, unless another one was first.
    fn is_first(&mut self) -> bool {
        let is_first = self.code.as_ref().is_some_and(|code| self.gatekeeper.code_proven(code));
        // Where another one was, nothing is left to be said about this try.
        self.code.take_if(|_| !is_first);
        self.is_proven = is_first;
        is_first
    }

    fn admit(mut self) {
        self.code = None;
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        match &self.code {
            Some(code) if self.is_proven => self.gatekeeper.code_untold(code),
            Some(code) => self.gatekeeper.code_failed(code),
            None => {}
        }
    }
}

/// The host closes in order, without a word, when it does not accept a proof.
fn refused_if_closed<T>(read: Result<T, TransportError>) -> Result<T, TransportError> {
    read.map_err(|error| if let TransportError::Closed = error { TransportError::WrongProof } else { error })
}

fn read_share(pipe: &mut Pipe) -> Result<Vec<u8>, TransportError> {
    let mut length = [0];
    pipe.read_exact(&mut length)?;
    let mut share = vec![0; usize::from(length[0])];
    pipe.read_exact(&mut share)?;
    Ok(share)
}

fn with_length(share: &[u8]) -> Vec<u8> {
    let length = u8::try_from(share.len()).expect("a share is shorter than 256 bytes");
    [&[length], share].concat()
}
