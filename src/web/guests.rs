//! The pages that said hello: one session for each, wherever it calls from.

use crate::chunk_set::ChunkSet;
use crate::limits::{SESSION_IDLE_MAX, WEB_AWAY_AFTER, WEB_CALLS_MAX, WEB_DOWNLOADS_PER_PAGE_MAX, WEB_PAGES_MAX};
use crate::transfer::Visitor;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Names a session. Whoever says it holds the key as well.
pub(super) type Token = [u8; 16];

/// The sessions of a run.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<HashMap<Token, Arc<Stay>>>);

/// One session.
#[derive(Debug)]
pub(super) struct Stay {
    pub(super) token: Token,
    /// As the user of a run that sends sees it.
    pub(super) visitor: Option<Visitor>,
    heard: Mutex<Instant>,
    calls: AtomicUsize,
    /// Downloads that the browser does by itself.
    downloads: AtomicUsize,
    /// Files that it has, by their numbers.
    fetched: Mutex<ChunkSet>,
}

/// One of those that are counted at a time; dropped, it is over.
#[derive(Debug)]
pub(super) struct Counted {
    stay: Arc<Stay>,
    count: fn(&Stay) -> &AtomicUsize,
}

impl Guests {
    /// The session of that name. It is heard of by that.
    pub(super) fn find(&self, token: &Token) -> Option<Arc<Stay>> {
        self.lock().get(token).cloned()
    }

    /// Begins a session. Where there are as many as may be, the one that was silent for longest makes room.
    pub(super) fn begin(&self, token: Token, visitor: Option<Visitor>) -> Arc<Stay> {
        let stay = Arc::new(Stay {
            token,
            visitor,
            heard: Mutex::new(Instant::now()),
            calls: AtomicUsize::new(0),
            downloads: AtomicUsize::new(0),
            fetched: Mutex::default(),
        });
        let mut sessions = self.lock();
        if sessions.len() >= WEB_PAGES_MAX {
            let longest = sessions.iter().max_by_key(|(_, stay)| stay.silent_for()).map(|(&token, _)| token);
            longest.and_then(|longest| sessions.remove(&longest));
        }
        sessions.insert(token, Arc::clone(&stay));
        stay
    }

    /// Notices those that went away.
    pub(super) fn look(&self) {
        let away: Vec<Arc<Stay>> = {
            let mut sessions = self.lock();
            sessions.retain(|_, stay| stay.silent_for() < SESSION_IDLE_MAX);
            sessions.values().filter(|stay| stay.silent_for() >= WEB_AWAY_AFTER).cloned().collect()
        };
        away.iter().filter_map(|stay| stay.visitor.as_ref()).for_each(Visitor::left);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Arc<Stay>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stay {
    /// It said something of so many bytes.
    pub(super) fn heard(&self, bytes: u64) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if let Some(visitor) = &self.visitor {
            visitor.heard(bytes);
        }
    }

    /// Counts a call as under way. Nothing where too many are.
    pub(super) fn call(self: &Arc<Self>) -> Option<Counted> {
        let call = self.count(|stay| &stay.calls);
        (self.calls.load(Ordering::Relaxed) <= WEB_CALLS_MAX).then_some(call)
    }

    /// Counts a download as under way: it is heard of by that. Nothing where too many are.
    pub(super) fn download(self: &Arc<Self>) -> Option<Counted> {
        self.heard(1);
        let download = self.count(|stay| &stay.downloads);
        (self.downloads.load(Ordering::Relaxed) <= WEB_DOWNLOADS_PER_PAGE_MAX).then_some(download)
    }

    /// It has this file. Whether it has so many by now.
    pub(super) fn fetched(&self, files: impl Iterator<Item = u32>) -> u64 {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        for file in files.map(u64::from) {
            fetched.insert(file..file + 1);
        }
        fetched.len()
    }

    fn count(self: &Arc<Self>, count: fn(&Self) -> &AtomicUsize) -> Counted {
        count(self).fetch_add(1, Ordering::Relaxed);
        Counted { stay: Arc::clone(self), count }
    }

    fn silent_for(&self) -> Duration {
        if self.calls.load(Ordering::Relaxed) + self.downloads.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.stay.heard(1);
        (self.count)(&self.stay).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_does_so_many_things_at_a_time() {
        let stay = Guests::default().begin([1; 16], None);
        let calls: Vec<Counted> = (0..WEB_CALLS_MAX).map(|_| stay.call().unwrap()).collect();
        let downloads: Vec<Counted> = (0..WEB_DOWNLOADS_PER_PAGE_MAX).map(|_| stay.download().unwrap()).collect();
        assert!(stay.call().is_none() && stay.download().is_none());
        drop((calls, downloads));
        assert!(stay.call().is_some() && stay.download().is_some());
    }
}
