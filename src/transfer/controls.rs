//! What a sender's user does about single receivers while they are served.

use super::limit::Limit;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

/// Says what becomes of the receivers of a running [`send`](super::send()), and how fast a [`push`](super::push()) is. Clones
/// speak to the same one.
///
/// Sessions are named by the numbers that events give them; one that is over is passed over. An order takes effect
/// within a tenth of a second.
#[derive(Clone, Debug, Default)]
pub struct Controls(Arc<Mutex<VecDeque<Order>>>);

/// One thing to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    Accept(u64),
    Disconnect(u64),
    Limit(u64, Option<NonZeroU64>),
    LimitAll(Option<NonZeroU64>),
}

impl Controls {
    /// Nothing was said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a receiver in that waits for the user's word.
    pub fn accept(&self, session: u64) {
        self.push(Order::Accept(session));
    }

    /// Turns a receiver away that waits for the user's word: the same as [`Controls::disconnect`].
    pub fn refuse(&self, session: u64) {
        self.push(Order::Disconnect(session));
    }

    /// Ends a receiver's session. It is told that the user declined, and keeps what it has verified.
    ///
    /// Until this run ends it is served no more: its session is refused, and so is whoever comes from its address with the
    /// link, unless each receiver is asked about. Sessions that others at that address have go on. The link itself stays
    /// good: from another address, or in another run, it is let in. Whoever is to have nothing for good must not have the
    /// link.
    pub fn disconnect(&self, session: u64) {
        self.push(Order::Disconnect(session));
    }

    /// Limits a receiver, over all of its connections together, to so many bytes per second; `None` is no limit.
    pub fn limit(&self, session: u64, rate: Option<NonZeroU64>) {
        self.push(Order::Limit(session, rate));
    }

    /// Limits all receivers together to so many bytes per second, of which each that wants data has the same share.
    pub fn limit_all(&self, rate: Option<NonZeroU64>) {
        self.push(Order::LimitAll(rate));
    }

    /// What was said since the last call, in order.
    pub(super) fn take(&self) -> VecDeque<Order> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the limit as it was said last, where there is one receiver and nothing else to say.
    pub(super) fn set_only(&self, limit: &Limit) {
        for order in self.take() {
            if let Order::Limit(_, rate) | Order::LimitAll(rate) = order {
                limit.set(rate);
            }
        }
    }

    fn push(&self, order: Order) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(order);
    }
}
