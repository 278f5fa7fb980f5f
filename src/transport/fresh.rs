//! Secrets and public names fresh from the operating system's random source.

use super::TransportError;
use crate::secret::{CODE_NUMBER_MAX, CODE_WORDS, Code, Key, Room, SessionId, SessionSecret, code_words};
use zeroize::Zeroizing;

/// A code with words that nobody can guess, and with this number (from 1 to [`CODE_NUMBER_MAX`]) or any.
pub fn fresh_code(number: Option<u16>) -> Result<Code, TransportError> {
    let number = number.map_or_else(|| random_below(CODE_NUMBER_MAX).map(|below| below + 1), Ok)?;
    let mut words = Zeroizing::new([0; CODE_WORDS]);
    for word in words.iter_mut() {
        *word = random_below(WORDS_COUNT)?;
    }
    Code::new(number, *words)
        .ok_or_else(|| TransportError::Local(std::io::Error::other("a code has a number from 1 to 999")))
}

/// A key that nobody can guess.
pub fn fresh_key() -> Result<Key, TransportError> {
    Ok(Key::from_bytes(*random_bytes()?))
}

/// A room that no other offer has.
pub fn fresh_room() -> Result<Room, TransportError> {
    Ok(Room::from_bytes(*random_bytes()?))
}

/// A session's name that no other session has.
pub fn fresh_session_id() -> Result<SessionId, TransportError> {
    Ok(SessionId::from_bytes(*random_bytes()?))
}

/// A session's secret that nobody can guess.
pub fn fresh_session_secret() -> Result<SessionSecret, TransportError> {
    Ok(SessionSecret::from_bytes(*random_bytes()?))
}

/// Bytes that nobody can guess.
pub fn random_bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, TransportError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|error| TransportError::Local(std::io::Error::other(error.to_string())))?;
    Ok(bytes)
}

/// Words that a code is made of.
const WORDS_COUNT: u16 = 1296;
const _: () = assert!(WORDS_COUNT as usize == code_words().len());

/// A number from 0 on that is less than `bound`, each as likely as any other.
fn random_below(bound: u16) -> Result<u16, TransportError> {
    // What lies above the last whole multiple would make small numbers likelier.
    let fair = u16::MAX - u16::MAX % bound;
    loop {
        let number = u16::from_le_bytes(*random_bytes()?);
        if number < fair {
            return Ok(number % bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_fresh_code_has_the_number_that_is_wanted_and_words_of_its_own() {
        let texts: HashSet<String> = (0..50).map(|_| fresh_code(Some(7)).unwrap().to_text().to_string()).collect();
        assert_eq!(texts.len(), 50, "31 bits do not repeat so soon");
        assert!(texts.iter().all(|text| text.starts_with("7-")));
        assert!((1..=CODE_NUMBER_MAX).contains(&fresh_code(None).unwrap().number()));
        assert!(fresh_code(Some(0)).is_err() && fresh_code(Some(1000)).is_err());
    }

    #[test]
    fn every_number_below_a_bound_comes_up_and_none_beyond() {
        for bound in [1, 2, 6, 1296, u16::MAX] {
            assert!((0..200).all(|_| random_below(bound).unwrap() < bound));
        }
        let seen: HashSet<u16> = (0..400).map(|_| random_below(6).unwrap()).collect();
        assert_eq!(seen.len(), 6);
    }
}
