//! What one person gives to another so that their machines meet: a link or a code.

use super::{Code, CodeFault, Link, LinkFault};
use crate::limits::LINK_BYTES_MAX;
use zeroize::Zeroizing;

/// A link or a code, whichever somebody was given.
#[derive(Clone, Debug)]
pub enum Invitation {
    /// The words that a host shows.
    Code(Code),
    /// The link that a host printed.
    Link(Link),
}

/// Why a text is no invitation. No variant carries any of the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvitationFault {
    /// It is meant as a code.
    #[error(transparent)]
    Code(CodeFault),
    /// It is meant as a link.
    #[error(transparent)]
    Link(LinkFault),
    /// It looks like neither.
    #[error("this is neither a link nor a code")]
    Neither,
}

impl Invitation {
    /// The link or the code that `text` writes, each read as [`Link::parse`] and [`Code::parse`] do.
    pub fn parse(text: &str) -> Result<Self, InvitationFault> {
        let text = text.trim();
        if looks_like_link(text) {
            return Link::parse(text).map(Self::Link).map_err(InvitationFault::Link);
        }
        if text.len() > LINK_BYTES_MAX || text.contains(['.', ':', '/', '\\']) {
            return Err(InvitationFault::Neither);
        }
        Code::parse(text).map(Self::Code).map_err(|fault| match fault {
            CodeFault::Empty => InvitationFault::Neither,
            // Words that codes have, where only the number was left out; anything else may be a file's name.
            CodeFault::NumberMissing if !has_words_of_a_code(text) => InvitationFault::Neither,
            fault => InvitationFault::Code(fault),
        })
    }
}

/// Whether whoever wrote it meant a link: it has one of the marks that a code never has.
fn looks_like_link(text: &str) -> bool {
    let scheme = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http"));
    scheme || text.contains("//") || text.contains('#')
}

fn has_words_of_a_code(text: &str) -> bool {
    Code::parse(&Zeroizing::new(format!("1 {text}"))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "HTTP://192.0.2.1:4285/AAAQEAYEAUDAOCAJBIFQYDIOB4#74OR2HA3DIMRQFYWCUKBGEQRCA";

    fn fault(text: &str) -> InvitationFault {
        Invitation::parse(text).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_link_and_a_code_are_told_apart() {
        assert!(matches!(Invitation::parse(LINK), Ok(Invitation::Link(_))));
        assert!(matches!(Invitation::parse(&format!(" {} ", LINK.to_lowercase())), Ok(Invitation::Link(_))));
        assert!(matches!(Invitation::parse("7-amber-canoe-lentil"), Ok(Invitation::Code(_))));
        assert!(matches!(Invitation::parse("7 Amber Canoe Lentil"), Ok(Invitation::Code(_))));
    }

    #[test]
    fn row_65_one_that_is_cut_off_damaged_or_endless_is_refused() {
        let code = "7-amber-canoe-lentil";
        for end in 0..LINK.len() {
            assert!(Invitation::parse(&LINK[..end]).is_err(), "{end} bytes of a link");
        }
        // Four letters of its last word are enough, so what is cut off behind them is not missed.
        for end in 0..code.len() - 2 {
            assert!(Invitation::parse(&code[..end]).is_err(), "{end} bytes of a code");
        }
        for endless in [LINK.repeat(1 << 14), code.repeat(1 << 16), " ".repeat(1 << 20), "7".repeat(1 << 20)] {
            assert!(Invitation::parse(&endless).is_err());
        }
        for place in 0..LINK.len() {
            let mut damaged = LINK.as_bytes().to_vec();
            damaged[place] = b'!';
            assert!(Invitation::parse(std::str::from_utf8(&damaged).unwrap()).is_err(), "byte {place}");
        }
    }

    #[test]
    fn a_damaged_one_is_called_what_it_was_meant_as() {
        assert_eq!(fault(&LINK[..60]), InvitationFault::Link(LinkFault::KeyLength));
        assert_eq!(fault("https://example.org/x#y"), InvitationFault::Link(LinkFault::HostName));
        assert_eq!(fault("7-amber-canoe"), InvitationFault::Code(CodeFault::WordCount { found: 2 }));
        assert_eq!(fault("amber canoe lentil"), InvitationFault::Code(CodeFault::NumberMissing));
        for neither in ["", "film.mkv", "/tmp/film", "photos", "192.0.2.1:4285", &"x".repeat(1 << 20)] {
            assert_eq!(fault(neither), InvitationFault::Neither, "{neither}");
        }
    }
}
