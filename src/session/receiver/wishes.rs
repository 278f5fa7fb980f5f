//! What the sender is asked for beside data: further lanes, and no more than so many bytes a second.

use super::{Output, Receiver};
use crate::session::{LaneId, LaneRole};
use crate::wire::{FEATURE_RATES, Message};
use std::num::NonZeroU64;

impl Receiver {
    /// Asks a sender that connected here for further data lanes.
    pub(super) fn ask_for_lanes(&mut self, lanes: u16) {
        let control = self.lanes.iter().find(|(_, lane)| lane.role() == LaneRole::Control && lane.is_ready());
        if let (Some((&lane, _)), Some(_), 1..) = (control, &self.settings.grant, lanes) {
            self.outputs.push_back(Output::Send { lane, message: Message::LanesWanted { lanes } });
        }
    }

    /// Has no more than so many bytes a second come over all data lanes together.
    pub(super) fn set_limit(&mut self, rate: Option<NonZeroU64>) {
        if std::mem::replace(&mut self.limit, rate) == rate {
            return;
        }
        self.was_limited = true;
        let control = self.lanes.iter().find(|(_, lane)| lane.role() == LaneRole::Control && lane.is_ready());
        if let Some((&lane, _)) = control {
            self.tell_limit(lane);
        }
    }

    /// Says what holds to a sender that understands it, unless nothing ever did: it may remember the session, or have forgotten
    /// it. One that does not is only asked for less.
    pub(super) fn tell_limit(&mut self, lane: LaneId) {
        if self.was_limited && self.features & FEATURE_RATES != 0 {
            let bytes_per_second = self.limit.map_or(0, NonZeroU64::get);
            self.outputs.push_back(Output::Send { lane, message: Message::RateWanted { bytes_per_second } });
        }
    }
}
