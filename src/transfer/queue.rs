//! A queue between threads that can be closed from either side.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Items in order, and whether more may come. Bounded by what feeds it: the session's windows.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
    /// Threads that wait: telling nobody costs a system call all the same.
    waiting: usize,
}

/// What a wait led to.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Popped<T> {
    /// No item will come any more.
    Closed,
    /// The first item.
    Item(T),
    /// Nothing came in time.
    TimedOut,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { items: VecDeque::new(), closed: false, waiting: 0 }), changed: Condvar::new() }
    }

    /// Appends an item. After the close it is dropped.
    pub(super) fn push(&self, item: T) {
        let mut state = self.lock();
        if !state.closed {
            state.items.push_back(item);
            if state.waiting > 0 {
                self.changed.notify_one();
            }
        }
    }

    /// Lets everybody who waits go. What is queued can no longer be taken.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.items.clear();
        self.changed.notify_all();
    }

    /// Waits for the first item.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }

    /// Waits for the first item until `limit` has passed.
    pub(super) fn pop_within(&self, limit: Duration) -> Popped<T> {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if state.closed {
                return Popped::Closed;
            }
            if let Some(item) = state.items.pop_front() {
                return Popped::Item(item);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Popped::TimedOut;
            }
            state.waiting += 1;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order_until_the_close() {
        let queue = Queue::new();
        queue.push(1);
        queue.push(2);
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.pop_within(Duration::ZERO), Popped::Item(2));
        assert_eq!(queue.pop_within(Duration::ZERO), Popped::TimedOut);
        queue.push(3);
        queue.close();
        queue.push(4);
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.pop_within(Duration::ZERO), Popped::Closed);
    }
}
