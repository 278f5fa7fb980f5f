//! Which lanes are alive: who is asked for a sign of life, who is given up, whose work another lane takes over.

use super::lane::{Answer, Lane};
use super::{Output, Receiver, State};
use crate::limits::{CONTROL_PING_AFTER, STALLED_AFTER};
use crate::session::{LaneId, LaneRole};
use crate::wire::Message;
use std::time::Duration;

impl Receiver {
    /// Near the end, gives up the lane that all others wait for, where an idle one can do its work much sooner. What
    /// came of it stays; the rest is asked of another.
    pub(super) fn take_over(&mut self, now: Duration) {
        let Some(idle) = self.idle_rate() else { return };
        // Under a limit a lane is as slow as this side wants it, and none is sooner done than another.
        let idle = if self.limit.is_some() { 0.0 } else { idle };
        let is_slow = |(_, lane): &(&LaneId, &Lane)| lane.role() == LaneRole::Data && lane.is_outdone_by(now, idle);
        if let Some(slow) = self.lanes.iter().find(is_slow).map(|(&id, _)| id) {
            self.give_up(slow);
        }
    }

    /// When a lane that owes has stalled for so long that an idle one takes over.
    pub(super) fn stalled_at(&self) -> Option<Duration> {
        self.idle_rate()?;
        let owing = self.lanes.values().filter(|lane| lane.role() == LaneRole::Data && lane.owes());
        owing.map(|lane| lane.last_heard() + STALLED_AFTER).min()
    }

    /// Bytes a second of the fastest data lane that has nothing to do.
    pub(super) fn idle_rate(&self) -> Option<f64> {
        let idle = self.lanes.values().filter(|lane| lane.role() == LaneRole::Data && lane.is_ready() && !lane.owes());
        idle.map(Lane::rate).reduce(f64::max).filter(|_| matches!(self.state, State::Fetching(_)))
    }

    pub(super) fn close_silent_lanes(&mut self, now: Duration) {
        let silent: Vec<_> = self.lanes.iter().filter(|(_, lane)| lane.dead_at().is_some_and(|at| at <= now)).collect();
        let silent: Vec<_> = silent.into_iter().map(|(&id, _)| id).collect();
        for id in silent {
            self.give_up(id);
        }
    }

    /// Gives up a data lane that the host does not serve, and the control lane, which it does not know either.
    pub(super) fn give_up_with_control(&mut self, id: LaneId) {
        let control = self.lanes.iter().find(|(_, lane)| lane.role() == LaneRole::Control).map(|(&id, _)| id);
        for id in control.into_iter().chain([id]) {
            self.give_up(id);
        }
    }

    fn give_up(&mut self, id: LaneId) {
        self.outputs.push_back(Output::CloseLane { lane: id });
        match self.lanes.get_mut(&id) {
            Some(lane) if lane.role() == LaneRole::Data => lane.close(),
            _ => self.lose_lane(id, None),
        }
    }

    /// When an idle control lane is asked whether it is alive: after a while, and earlier where data lanes have stalled.
    /// A host whose disk is slow answers, one that cannot be reached does not.
    pub(super) fn ping_at(&self, lane: &Lane) -> Option<Duration> {
        let idle_since = lane.idle_since()?;
        let owing = self.lanes.values().filter(|lane| lane.role() == LaneRole::Data && lane.owes());
        let stalled = owing.map(Lane::last_heard).max().map(|heard| heard.max(idle_since) + STALLED_AFTER / 2);
        Some(stalled.unwrap_or(Duration::MAX).min(idle_since + CONTROL_PING_AFTER))
    }

    /// Asks an idle control lane that is due by `until`.
    pub(super) fn ping_idle_lanes(&mut self, until: Duration, now: Duration) {
        let is_due = |lane: &Lane| self.ping_at(lane).is_some_and(|at| at <= until);
        let idle = self.lanes.iter().find(|(_, lane)| is_due(lane)).map(|(&id, _)| id);
        if let Some(lane) = idle {
            self.ask(now, lane, Answer::Pong, Message::Ping { token: 0 });
        }
    }
}
