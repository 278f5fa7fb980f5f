//! The connections of a simulation's receiving process, and a thread for each that stores what it brings.

use super::sim_core::{Core, Event};
use super::sim_net::{Arrival, ConnId, Side};
use super::sim_receiver::OnConflict;
use super::sim_receiver::{HostLane, LaneThread, ReceiverEvent, ReceiverHost};
use super::sim_sender::Around;
use super::sim_shelf::{Payload, Shelf};
use haul::codec::Decoder;
use haul::digest::ChunkDigest;
use haul::manifest::{ChunkPlace, VerifiedChunk};
use haul::session::{Input, LaneId, LaneRole};
use haul::wire::{Encoding, Frame, FrameHeader, Piece};
use std::collections::VecDeque;
use std::time::Duration;

impl<S: Shelf> ReceiverHost<S> {
    pub(super) fn dial(&mut self, core: &mut Core, role: LaneRole, after: Duration) {
        self.dialling[role as usize] += 1;
        let after = after + core.rng.millis(0, 100);
        core.agenda.after(after, Event::Receiver { run: self.run, event: ReceiverEvent::Connect { role } });
    }

    pub(super) fn connect(&mut self, around: &mut Around, role: LaneRole) {
        self.dialling[role as usize] -= 1;
        if self.end.is_some() || (role == LaneRole::Data && self.data_lanes() >= self.lanes_granted) {
            return;
        }
        if !around.net.is_reachable(around.core.now()) {
            self.dial(around.core, role, Duration::from_millis(300));
            return;
        }
        let conn = around.net.open();
        self.connecting.insert(conn, role);
        let there = around.net.delay(&mut around.core.rng);
        let back = there + around.net.delay(&mut around.core.rng);
        around.core.agenda.after(there, Event::Accepted { conn, role, grant: self.grant });
        let connected = Event::Receiver { run: self.run, event: ReceiverEvent::Connected { conn } };
        around.core.agenda.after(back, connected);
    }

    pub(super) fn connected(&mut self, around: &mut Around, conn: ConnId) {
        let Some(role) = self.connecting.remove(&conn) else { return };
        if self.end.is_some() {
            around.net.close(&mut around.core.agenda, &mut around.core.rng, conn, Side::Receiver);
            return;
        }
        let lane = LaneId(conn.0);
        around.core.note("lane opens", u64::from(lane.0), role as u64);
        self.lanes.insert(
            lane,
            HostLane { role, inbox: VecDeque::new(), thread: LaneThread::Reading, is_closing: false, landing: None },
        );
        self.tell(around, Input::LaneOpened { lane, role });
    }

    /// Data lanes that are there or on their way.
    pub(super) fn data_lanes(&self) -> u16 {
        let open = self.lanes.values().filter(|lane| lane.role == LaneRole::Data).count();
        let connecting = self.connecting.values().filter(|&&role| role == LaneRole::Data).count();
        (open + connecting) as u16 + self.dialling[LaneRole::Data as usize]
    }

    /// The session gives a lane up. Its thread may be at work for it: it finishes that, or drops it.
    pub(super) fn close_lane(&mut self, around: &mut Around, lane: LaneId) {
        around.net.close(&mut around.core.agenda, &mut around.core.rng, ConnId(lane.0), Side::Receiver);
        let Some(host_lane) = self.lanes.get_mut(&lane) else { return };
        host_lane.is_closing = true;
        if !matches!(host_lane.thread, LaneThread::Storing) || around.core.rng.chance(300) {
            self.soon(around.core, ReceiverEvent::LaneEnds { lane });
        }
    }

    /// A lane's thread ends and lets go of what it has; another lane is opened.
    pub(super) fn lane_ends(&mut self, around: &mut Around, lane: LaneId) {
        let Some(ended) = self.lanes.remove(&lane) else { return };
        around.core.note("lane closes", u64::from(lane.0), ended.role as u64);
        self.watch.lane_gone(lane);
        if ended.landing.is_some() {
            self.shelf.set_aside(lane);
        }
        self.shelf.release(lane);
        self.tell(around, Input::LaneLost { lane, held: ended.landing });
        if self.end.is_none() && !self.is_visited {
            let patience = around.core.rng.millis(1, 1000);
            self.dial(around.core, ended.role, patience);
        } else if self.end.is_none() && ended.role == LaneRole::Data {
            self.later(around.core, 1000, ReceiverEvent::AskForLanes);
        }
    }

    // Lanes.

    pub(super) fn read_lane(&mut self, around: &mut Around, lane: LaneId) {
        while let Some(host_lane) = self.lanes.get_mut(&lane)
            && matches!(host_lane.thread, LaneThread::Reading)
            && !host_lane.is_closing
            && let Some(arrival) = host_lane.inbox.pop_front()
        {
            match arrival {
                Arrival::Lost => self.lane_ends(around, lane),
                Arrival::Frame(bytes) => match FrameHeader::decode_frame(&bytes) {
                    Ok((Frame::Message(message), _)) => self.tell(around, Input::Message { lane, message }),
                    Ok((Frame::Piece { piece, encoding, payload }, _)) => {
                        self.arriving = Some((encoding, payload.to_vec()));
                        self.tell(around, Input::PieceArrived { lane, piece });
                        let is_taken = self.arriving.take().is_none();
                        let is_known = self.lanes.get(&lane).is_some_and(|lane| !lane.is_closing) && self.end.is_none();
                        self.watch.check(is_taken || !is_known, || "a piece finds no place".to_owned());
                    }
                    Err(fault) => self.watch.fail(format!("the sender sent no frame: {fault}")),
                },
            }
        }
    }

    pub(super) fn place(&mut self, around: &mut Around, lane: LaneId, place: ChunkPlace, piece: Piece, last: bool) {
        let Some(payload) = self.arriving.take() else {
            self.watch.fail("a place for a piece that did not come".to_owned());
            return;
        };
        self.watch.placed(lane, piece);
        let thread = LaneThread::AwaitingLease { place, piece, last, payload, since: around.core.now() };
        if let Some(host_lane) = self.lanes.get_mut(&lane) {
            host_lane.thread = thread;
        }
        self.put_down(around, lane);
    }

    /// Writes the piece that a lane's thread holds, once the chunk is its own.
    pub(super) fn put_down(&mut self, around: &mut Around, lane: LaneId) {
        let Some(host_lane) = self.lanes.get_mut(&lane) else { return };
        let LaneThread::AwaitingLease { place, piece, last, payload, since } =
            std::mem::replace(&mut host_lane.thread, LaneThread::Reading)
        else {
            return;
        };
        let is_landing = piece.offset > 0 && host_lane.landing.is_some_and(|(chunk, _)| chunk == piece.chunk);
        let (path, _) = self.file(place.entry);
        let has_room = match is_landing {
            // Chunks of a file that failed are read and forgotten.
            _ if self.watch.has_failed(place.entry) => Ok(false),
            false => self.shelf.lease(lane, &path, place),
            true => Ok(true),
        };
        let filled = match has_room {
            Ok(false) if !self.watch.has_failed(place.entry) => {
                let waited = around.core.now().saturating_sub(since);
                self.watch.check(waited < Duration::from_secs(60), || format!("no lease of chunk {}", piece.chunk));
                if let Some(host_lane) = self.lanes.get_mut(&lane) {
                    host_lane.thread = LaneThread::AwaitingLease { place, piece, last, payload, since };
                }
                self.later(around.core, 20, ReceiverEvent::RetryLease { lane });
                return;
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
            Ok(true) if around.core.disk_fails() => Err("the disk fails".to_owned()),
            Ok(true) => match payload {
                (Encoding::Zero, _) => self.shelf.fill(lane, piece.offset, Payload::Zero(u64::from(piece.length))),
                (Encoding::Raw, bytes) => self.shelf.fill(lane, piece.offset, Payload::Raw(&bytes)),
                (Encoding::Zstd, payload) => {
                    let mut bytes = vec![0; piece.length as usize];
                    let decoded = Decoder::new().decode(&payload, &mut bytes).map_err(|fault| fault.to_string());
                    decoded.and_then(|()| self.shelf.fill(lane, piece.offset, Payload::Raw(&bytes)))
                }
            },
        };
        match (filled, self.lanes.get_mut(&lane)) {
            (Err(error), _) => self.disk_failed(around, place.entry, &error),
            (Ok(()), Some(host_lane)) => {
                host_lane.landing = Some((piece.chunk, piece.offset + u64::from(piece.length)));
            }
            (Ok(()), None) => {}
        }
        if last {
            if let Some(host_lane) = self.lanes.get_mut(&lane) {
                host_lane.thread = LaneThread::Storing;
            }
            let chunk = piece.chunk;
            self.soon(around.core, ReceiverEvent::ChunkHashed { lane, chunk });
        }
    }

    pub(super) fn retry_lease(&mut self, around: &mut Around, lane: LaneId) {
        if self.lanes.get(&lane).is_none_or(|lane| lane.is_closing) {
            return;
        }
        self.put_down(around, lane);
        self.read_lane(around, lane);
    }

    pub(super) fn chunk_hashed(&mut self, around: &mut Around, lane: LaneId, chunk: u64) {
        if !self.lanes.contains_key(&lane) {
            return;
        }
        let (_, modified) = self.file(self.entry_of(chunk));
        let digest = match self.shelf.digest(lane, modified, self.on_conflict == OnConflict::Overwrite) {
            Ok(digest) => digest,
            Err(error) => {
                let entry = self.entry_of(chunk);
                if !self.watch.has_failed(entry) {
                    self.disk_failed(around, entry, &error);
                }
                ChunkDigest([0; 32])
            }
        };
        self.tell(around, Input::ChunkHashed { lane, chunk, digest });
        if !self.watch.is_claiming(lane) {
            self.thread_done(around, lane, chunk);
        }
    }

    pub(super) fn chunk_claimed(&mut self, around: &mut Around, lane: LaneId, chunk: u64, proof: VerifiedChunk) {
        if !self.lanes.contains_key(&lane) {
            return;
        }
        self.watch.claim_ends(lane);
        let entry = self.entry_of(chunk);
        if self.watch.has_failed(entry) {
            // Its file failed meanwhile.
        } else if around.core.disk_fails() {
            self.disk_failed(around, entry, "the disk fails");
        } else {
            match self.shelf.claim(lane, proof) {
                Ok(()) => {
                    self.chunk_lies(around, chunk);
                    self.tell(around, Input::ChunkStored { lane, chunk });
                }
                Err(error) => self.disk_failed(around, entry, &error),
            }
        }
        self.thread_done(around, lane, chunk);
    }

    pub(super) fn thread_done(&mut self, around: &mut Around, lane: LaneId, chunk: u64) {
        self.watch.chunk_settled(lane, chunk);
        self.shelf.release(lane);
        if let Some(host_lane) = self.lanes.get_mut(&lane) {
            host_lane.thread = LaneThread::Reading;
            host_lane.landing = None;
            if host_lane.is_closing {
                self.lane_ends(around, lane);
            }
        }
        self.read_lane(around, lane);
    }
}
