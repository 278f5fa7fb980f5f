//! Simulated sessions whose sender connects: it dials, opens the lanes that it is asked for, and notices a silent receiver.

use super::sim_core::{Core, Event};
use super::sim_net::{Arrival, ConnId, Side};
use super::sim_receiver::{HostLane, LaneThread, ReceiverEvent, ReceiverHost, features};
use super::sim_sender::{Around, SenderEvent, SenderHost};
use super::sim_shelf::Shelf;
use haul::limits::LANE_SILENCE_MAX;
use haul::session::{End, Input, LaneId, LaneRole, Receiver, ReceiverSettings, SenderInput};
use haul::wire::SessionGrant;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How often both ends look whether the other one is there.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long a receiver that has everything waits for its sender to come back and hear so.
const LAST_VISIT_PATIENCE: Duration = Duration::from_secs(12);
/// After which time a user starts a sender again that is over while the receiver is not.
const USER_PATIENCE: Duration = Duration::from_secs(20);

/// What a sender that connects knows beside its session.
#[derive(Debug, Default)]
pub(crate) struct Pusher {
    pub(super) grant: Option<[u8; 16]>,
    connecting: BTreeMap<ConnId, LaneRole>,
    control: Option<ConnId>,
    /// When something came over the control lane, or work for it was done.
    last_active: Duration,
    /// Control lanes that work is done for.
    pub(super) working: BTreeSet<ConnId>,
    /// Data lanes that are to be opened.
    owed: u16,
    dialling: [u16; 2],
    over_since: Option<Duration>,
}

impl SenderHost {
    /// Starts to push.
    pub(crate) fn start_pushing(&mut self, around: &mut Around) {
        self.pusher = Some(Pusher::default());
        self.open_session(None);
        self.dial(around.core, LaneRole::Control, Duration::ZERO);
        self.schedule_watch(around.core);
    }

    /// Whether its session ended, and how.
    pub(crate) fn push_end(&self) -> Option<&End> {
        self.pusher.as_ref()?;
        self.sessions.first()?.end.as_ref()
    }

    fn schedule_watch(&self, core: &mut Core) {
        core.agenda.after(WATCH_EVERY, Event::Sender { run: self.run, event: SenderEvent::Watch });
    }

    fn dial(&mut self, core: &mut Core, role: LaneRole, after: Duration) {
        let Some(pusher) = &mut self.pusher else { return };
        pusher.dialling[role as usize] += 1;
        let after = after + core.rng.millis(0, 100);
        core.agenda.after(after, Event::Sender { run: self.run, event: SenderEvent::Connect { role } });
    }

    pub(super) fn connect(&mut self, around: &mut Around, role: LaneRole) {
        let is_over = self.push_end().is_some();
        let Some(pusher) = &mut self.pusher else { return };
        pusher.dialling[role as usize] -= 1;
        if is_over || (role == LaneRole::Data && (pusher.owed == 0 || pusher.control.is_none())) {
            return;
        }
        if !around.net.is_reachable(around.core.now()) {
            self.dial(around.core, role, Duration::from_millis(300));
            return;
        }
        let conn = around.net.open();
        pusher.connecting.insert(conn, role);
        let there = around.net.delay(&mut around.core.rng);
        let back = there + around.net.delay(&mut around.core.rng);
        around.core.agenda.after(there, Event::Accepted { conn, role, grant: pusher.grant });
        let connected = Event::Sender { run: self.run, event: SenderEvent::Connected { conn } };
        around.core.agenda.after(back, connected);
    }

    pub(super) fn connected(&mut self, around: &mut Around, conn: ConnId) {
        let is_over = self.push_end().is_some();
        let Some(pusher) = &mut self.pusher else { return };
        let Some(role) = pusher.connecting.remove(&conn) else { return };
        let is_wanted = match role {
            LaneRole::Control => pusher.control.is_none(),
            LaneRole::Data => pusher.owed > 0,
        };
        if is_over || !is_wanted {
            around.net.close(&mut around.core.agenda, &mut around.core.rng, conn, Side::Sender);
            return;
        }
        match role {
            LaneRole::Control => {
                pusher.control = Some(conn);
                pusher.last_active = around.core.now();
            }
            LaneRole::Data => pusher.owed -= 1,
        }
        around.core.note("pushed lane opens", u64::from(conn.0), role as u64);
        self.session_of.insert(conn, 0);
        self.tell(around, 0, SenderInput::LaneOpened { lane: LaneId(conn.0), role });
    }

    /// Something came over a connection. False where that is no lane yet, and nothing further is to be done about it.
    pub(super) fn heard(&mut self, around: &mut Around, conn: ConnId, arrival: &Arrival) -> bool {
        let Some(pusher) = &mut self.pusher else { return true };
        if pusher.control == Some(conn) {
            pusher.last_active = around.core.now();
        }
        let Some(&role) = pusher.connecting.get(&conn) else { return true };
        match arrival {
            Arrival::Lost => {
                pusher.connecting.remove(&conn);
                self.dial(around.core, role, Duration::from_millis(200));
                false
            }
            // What the other end says follows its proof.
            Arrival::Frame(_) => {
                self.connected(around, conn);
                true
            }
        }
    }

    pub(super) fn worked(&mut self, around: &mut Around, conn: ConnId) {
        if let Some(pusher) = &mut self.pusher {
            pusher.working.remove(&conn);
            pusher.last_active = around.core.now();
        }
    }

    /// A lane is gone: a control lane is opened again.
    pub(super) fn lane_lost(&mut self, around: &mut Around, conn: ConnId) {
        let is_over = self.push_end().is_some();
        let Some(pusher) = self.pusher.as_mut().filter(|pusher| pusher.control == Some(conn)) else { return };
        pusher.control = None;
        pusher.owed = 0;
        pusher.working.clear();
        if !is_over {
            let patience = around.core.rng.millis(1, 1000);
            self.dial(around.core, LaneRole::Control, patience);
        }
    }

    pub(super) fn granted(&mut self, id: [u8; 16]) {
        match &mut self.pusher {
            Some(pusher) => pusher.grant = Some(id),
            None => self.violation = Some("a receiver that connected grants a session".to_owned()),
        }
    }

    pub(super) fn open_lanes(&mut self, around: &mut Around, lanes: u16) {
        let Some(pusher) = &mut self.pusher else {
            self.violation = Some("a receiver that connected wants lanes".to_owned());
            return;
        };
        pusher.owed = lanes;
        let connecting = pusher.connecting.values().filter(|&&role| role == LaneRole::Data).count() as u16;
        let under_way = connecting + pusher.dialling[LaneRole::Data as usize];
        for _ in under_way..lanes {
            self.dial(around.core, LaneRole::Data, Duration::ZERO);
        }
    }

    /// Gives up a control lane that nothing comes over, and has its user start it again where it is over too early.
    pub(super) fn watch(&mut self, around: &mut Around) {
        let (now, is_over) = (around.core.now(), self.push_end().is_some());
        let Some(pusher) = &mut self.pusher else { return };
        if is_over {
            let since = *pusher.over_since.get_or_insert(now);
            if now >= since + USER_PATIENCE {
                around.core.agenda.after(Duration::ZERO, Event::StartSender);
                return;
            }
        }
        if let Some(control) = pusher.control.filter(|control| !pusher.working.contains(control) && !is_over)
            && now >= pusher.last_active + LANE_SILENCE_MAX
        {
            around.core.note("pushed control is silent", u64::from(control.0), 0);
            self.close(around, control);
            self.tell(around, 0, SenderInput::LaneLost { lane: LaneId(control.0) });
            self.lane_lost(around, control);
        }
        self.schedule_watch(around.core);
    }
}

impl<S: Shelf> ReceiverHost<S> {
    /// A sender connected.
    pub(crate) fn visited(&mut self, around: &mut Around, conn: ConnId, role: LaneRole, grant: Option<[u8; 16]>) {
        let is_listening = self.end.is_none() && around.core.now() >= self.listens_from;
        let is_known = grant.is_some() && self.visit == grant;
        if !is_listening || (role == LaneRole::Data && (!is_known || self.data_lanes() >= self.lanes_granted)) {
            around.net.close(&mut around.core.agenda, &mut around.core.rng, conn, Side::Receiver);
            return;
        }
        if role == LaneRole::Control && is_known {
            // A sender that opens another control lane has given up the one that is there.
            let controls = self.lanes.iter().filter(|(_, lane)| lane.role == LaneRole::Control);
            for lane in controls.map(|(&lane, _)| lane).collect::<Vec<_>>() {
                around.net.close(&mut around.core.agenda, &mut around.core.rng, ConnId(lane.0), Side::Receiver);
                self.lane_ends(around, lane);
            }
        } else if role == LaneRole::Control {
            self.begin_visit(around, grant);
        }
        let lane = LaneId(conn.0);
        around.core.note("visit", u64::from(lane.0), role as u64);
        let (inbox, thread) = (VecDeque::new(), LaneThread::Reading);
        self.lanes.insert(lane, HostLane { role, inbox, thread, is_closing: false, landing: None });
        self.tell(around, Input::LaneOpened { lane, role });
    }

    /// Another session begins, with what the one before has on disk.
    fn begin_visit(&mut self, around: &mut Around, grant: Option<[u8; 16]>) {
        around.core.note("session begins", 0, u64::from(self.visit.is_some()));
        for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
            around.net.close(&mut around.core.agenda, &mut around.core.rng, ConnId(lane.0), Side::Receiver);
        }
        self.lanes.clear();
        self.shelf.stop();
        self.watch.check_finals(&self.shelf);
        self.watch.run_starts();
        self.run += 1;
        let mut id = [0; 16];
        around.core.rng.fill(&mut id);
        let id = grant.unwrap_or(id);
        let lanes = around.core.rng.between(1, 4) as u16;
        let grant = Some(SessionGrant { id, secret: [7; 32] });
        self.session = Receiver::new(ReceiverSettings { lanes, grant, features: features(around.core) });
        self.visit = Some(id);
        self.grant = None;
        self.lanes_granted = 0;
        self.plans.clear();
        self.moved.clear();
        self.has_told_done = false;
        self.gone_since = None;
        self.schedule_watch(around.core);
    }

    fn schedule_watch(&self, core: &mut Core) {
        core.agenda.after(WATCH_EVERY, Event::Receiver { run: self.run, event: ReceiverEvent::Watch });
    }

    /// Asks for the data lanes that are lacking.
    pub(super) fn ask_for_lanes(&mut self, around: &mut Around) {
        let lanes = self.lanes_granted.saturating_sub(self.data_lanes());
        if self.end.is_none() && lanes > 0 {
            self.tell(around, Input::LanesLacking { lanes });
        }
    }

    /// Asks again for lanes that did not come, and does not wait for ever for a sender that has only to be told.
    pub(super) fn watch_visit(&mut self, around: &mut Around) {
        if self.end.is_some() {
            return;
        }
        let now = around.core.now();
        let has_control = self.lanes.values().any(|lane| lane.role == LaneRole::Control);
        let since = if has_control { None } else { Some(self.gone_since.unwrap_or(now)) };
        self.gone_since = since;
        if since.is_some_and(|since| now >= since + LAST_VISIT_PATIENCE) && self.session.has_everything() {
            around.core.note("nobody to tell", 0, 0);
            self.end = Some(End::Complete);
            return;
        }
        if around.core.rng.chance(200) {
            self.ask_for_lanes(around);
        }
        self.schedule_watch(around.core);
    }
}
