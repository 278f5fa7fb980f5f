//! What waits for the thread of one lane.

use super::work::LaneWork;
use crate::transport::AbortHandle;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar};

/// What a lane's thread has still to do, and how it is reached.
pub(super) struct Mailbox {
    work: VecDeque<LaneWork>,
    /// Where its thread waits, while it does: telling one that does not would cost as much as doing its work.
    sleeper: Arc<Condvar>,
    is_asleep: bool,
    abort: AbortHandle,
    /// Bytes that had come over the lane when it was looked at last.
    received: u64,
}

/// What a lane's thread finds when it looks.
pub(super) enum Mail {
    /// Nothing to do, and nothing owed: the transfer is over.
    Closed,
    /// Nothing to do but to read the next frame.
    Owed,
    /// This, first to last.
    Work(VecDeque<LaneWork>),
}

impl Mailbox {
    pub(super) fn new(abort: AbortHandle) -> Self {
        Self { work: VecDeque::new(), sleeper: Arc::default(), is_asleep: false, abort, received: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.work.is_empty()
    }

    pub(super) fn put(&mut self, work: LaneWork) {
        self.work.push_back(work);
        self.wake();
    }

    pub(super) fn take(&mut self) -> VecDeque<LaneWork> {
        std::mem::take(&mut self.work)
    }

    /// Notes that its thread goes to sleep, there.
    pub(super) fn sleep(&mut self) -> Arc<Condvar> {
        self.is_asleep = true;
        Arc::clone(&self.sleeper)
    }

    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.is_asleep) {
            self.sleeper.notify_one();
        }
    }

    /// Breaks the lane, so that its thread does not wait for the network.
    pub(super) fn abort(&self) {
        self.abort.abort();
    }

    /// Breaks the lane, and wakes its thread where that does not wait for the network.
    pub(super) fn end(&mut self) {
        self.abort.abort();
        self.put(LaneWork::Close);
    }

    /// Whether anything came over the lane since this was asked last.
    pub(super) fn has_heard(&mut self) -> bool {
        let received = self.abort.bytes_received();
        std::mem::replace(&mut self.received, received) != received
    }
}
