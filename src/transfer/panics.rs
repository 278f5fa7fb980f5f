//! What becomes of a panic: it is a mistake of ours or of an observer, and ends its session and nothing else.

use super::TransferError;
use super::queue::Queue;
use super::work::MainEvent;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does `act`; a panic in it is [`TransferError::Bug`].
///
/// Nothing that it may have left half done is used after that but what lies behind locks, which are taken although they
/// are poisoned, and only to end the session. What is on disk is in order after every step.
pub(super) fn caught<T>(act: impl FnOnce() -> Result<T, TransferError>) -> Result<T, TransferError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|payload| Err(TransferError::Bug(text(&*payload).into())))
}

/// Does the work of a thread of a receiver. Where it panics the session ends: nobody waits for what it held or owed.
pub(super) fn watched(main: &Queue<MainEvent>, work: impl FnOnce()) {
    let worked = caught(|| {
        work();
        Ok(())
    });
    if let Err(error) = worked {
        main.push(MainEvent::Panicked(error));
    }
}

/// What a panic said.
fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.map_or_else(|| "a thread panicked".to_owned(), |text| format!("a thread panicked: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn a_panic_is_an_error_that_says_what_it_said() {
        let cause = |outcome: Result<(), TransferError>| outcome.unwrap_err().source().unwrap().to_string();
        assert_eq!(cause(caught(|| panic!("a mistake"))), "a thread panicked: a mistake");
        let three = 3;
        assert_eq!(cause(caught(|| panic!("{three} mistakes"))), "a thread panicked: 3 mistakes");
        assert_eq!(cause(caught(|| std::panic::panic_any(3))), "a thread panicked");
        assert!(matches!(caught(|| Err::<(), _>(TransferError::Declined)), Err(TransferError::Declined)));
        assert_eq!(caught(|| Ok(3)).unwrap(), 3);
    }
}
