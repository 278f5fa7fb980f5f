//! Events for programs: one JSON object per line on standard output.

use crate::cli::findings;
use crate::cli::forecast;
use crate::cli::progress::phase_name;
use crate::cli::report::Failure;
use data_encoding::HEXLOWER;
use haul::secret::fingerprint_words;
use haul::transfer::{
    CodeChange, Event, FailureClass, FileOutcome, LinkOutcome, OfferSummary, PeerState, Phase, Progress, Summary,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

mod unfinished;

/// Version of what the events mean. Fields and events are added under one version, never changed or removed.
const VERSION: u32 = 1;
/// Least time between two progress events.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Writes events. Whoever reads them may stop at any time; the transfer goes on.
pub(crate) struct Events<W> {
    out: W,
    /// What the events are about, where a run has several: a transfer or a session.
    subject: Option<(&'static str, Value)>,
    /// The sending side's first event is its link, so what happens before waits here.
    held: Option<Vec<String>>,
    progress_at: Option<Instant>,
    /// The progress that its throttle held back.
    progress: Option<Progress>,
    /// When progress of a session was last written, and the one that was held back since.
    sessions: BTreeMap<u64, (Instant, Option<Event>)>,
    /// Files and folders that failed so far.
    failed: u64,
}

impl<W: Write> Events<W> {
    /// `offer_first` holds every event back until the link is there.
    pub(crate) fn new(out: W, offer_first: bool) -> Self {
        Self {
            out,
            subject: None,
            held: offer_first.then(Vec::new),
            progress_at: None,
            progress: None,
            sessions: BTreeMap::new(),
            failed: 0,
        }
    }

    /// The events of one transfer of several; each names it.
    pub(crate) fn of_transfer(out: W, transfer: String) -> Self {
        Self { subject: Some(("transfer", transfer.into())), ..Self::new(out, false) }
    }

    /// The events of one session of several; each has its number.
    pub(crate) fn of_session(out: W, number: u64) -> Self {
        Self { subject: Some(("session", number.into())), ..Self::new(out, false) }
    }

    /// From here on nothing waits for the link.
    pub(crate) fn hold_nothing(&mut self) {
        self.held = None;
    }

    /// Writes one event, or holds it back.
    pub(crate) fn event(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Progress(progress) => {
                let is_due = self.progress_at.is_none_or(|at| now.saturating_duration_since(at) >= PROGRESS_EVERY);
                if is_due {
                    self.progress_at = Some(now);
                    self.progress = None;
                    self.put(progress_value(progress));
                } else {
                    self.progress = Some(progress.clone());
                }
            }
            Event::WouldOffer { files, folders, bytes } => {
                let held = self.held.take().unwrap_or_default();
                self.put(json!({
                    "event": "offer", "link": null, "code": null, "files": files, "folders": folders, "bytes": bytes,
                }));
                for line in held {
                    self.write(&line);
                }
            }
            Event::OfferReady { link, code, files, folders, bytes } => {
                let held = self.held.take().unwrap_or_default();
                let (link, code) = (link.as_str(), code.as_ref().map(|code| code.as_str()));
                self.put(json!({
                    "event": "offer", "link": link, "code": code, "files": files, "folders": folders, "bytes": bytes,
                }));
                for line in held {
                    self.write(&line);
                }
            }
            Event::PeerProgress { session, state: PeerState::Gone, .. } => {
                self.sessions.remove(session);
                self.put(value(event));
            }
            Event::PeerProgress { session, .. } => match self.sessions.get_mut(session) {
                Some((at, held)) if now.saturating_duration_since(*at) < PROGRESS_EVERY => *held = Some(event.clone()),
                _ => {
                    self.sessions.insert(*session, (now, None));
                    self.put(value(event));
                }
            },
            _ => {
                if let Event::PeerFinished { session, .. }
                | Event::PeerLost { session }
                | Event::PeerRefused { session } = event
                    && let Some((_, Some(held))) = self.sessions.remove(session)
                {
                    self.put(value(&held));
                }
                self.failed += u64::from(matches!(event, Event::FileFailed { .. }));
                self.put(value(event));
            }
        }
    }

    /// Writes what an offer holds, before it is decided about.
    pub(crate) fn listing(&mut self, offer: &OfferSummary) {
        let existing = offer.entries.iter().filter(|entry| entry.exists).count();
        let hidden = offer.entries.iter().filter(|entry| entry.hidden).count();
        let refused = offer.entries.iter().filter(|entry| entry.refused).count();
        self.put(json!({
            "event": "listing", "files": offer.files, "folders": offer.folders, "bytes": offer.bytes,
            "free_bytes": offer.free_bytes, "existing": existing, "hidden": hidden, "refused": refused,
        }));
    }

    /// Writes the last event of the run.
    pub(crate) fn done(&mut self, summary: &Summary, exit: u8, failure: Option<&Failure>) {
        self.last("done", summary, exit, failure);
    }

    /// Writes the last event of one transfer of several.
    pub(crate) fn ended(&mut self, summary: &Summary, exit: u8, failure: Option<&Failure>) {
        self.last("ended", summary, exit, failure);
    }

    /// Files and folders that failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Counts what failed in the transfers of this run.
    pub(crate) fn add_failed(&mut self, failed: u64) {
        self.failed += failed;
    }

    fn last(&mut self, event: &str, summary: &Summary, exit: u8, failure: Option<&Failure>) {
        for line in self.held.take().unwrap_or_default() {
            self.write(&line);
        }
        for (_, held) in std::mem::take(&mut self.sessions).into_values() {
            if let Some(held) = held {
                self.put(value(&held));
            }
        }
        if let Some(progress) = self.progress.take() {
            self.put(progress_value(&progress));
        }
        self.put(json!({
            "event": event, "ok": failure.is_none(), "exit": exit, "error": failure.map(Failure::sentence),
            "files": summary.files, "bytes": summary.bytes, "bytes_fetched": summary.bytes_fetched,
            "bytes_reused": summary.bytes_reused, "wire_bytes": summary.wire_bytes,
            "first_byte_ms": summary.first_byte_ms, "seconds": summary.seconds, "root": summary.root,
            "failed": self.failed,
        }));
    }

    fn put(&mut self, mut value: Value) {
        if let Some((kind, name)) = &self.subject {
            value[*kind] = name.clone();
        }
        let line = line(value);
        match &mut self.held {
            Some(held) => held.push(line),
            None => self.write(&line),
        }
    }

    fn write(&mut self, line: &str) {
        // A reader that went away is no reason to stop a transfer.
        // One write for each line: several transfers may share the output.
        let _ = self.out.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.out.flush());
    }
}

/// One line; version and kind come first, for whoever reads along.
fn line(mut value: Value) -> String {
    let event = value["event"].take();
    if let Value::Object(fields) = &mut value {
        fields.remove("event");
    }
    let fields = value.to_string();
    escape(&format!("{{\"v\":{VERSION},\"event\":{event},{}", &fields[1..]))
}

fn value(event: &Event) -> Value {
    match event {
        Event::Certificate { fingerprint } => certificate_value(fingerprint),
        Event::CodeChanged { code, why } => {
            json!({"event": "code", "code": code.as_ref().map(|code| code.as_str()), "why": change_name(*why)})
        }
        Event::FileDone { path, bytes, root, how } => {
            let (how, renamed_to) = match how {
                FileOutcome::Identical => ("identical", None),
                FileOutcome::Published => ("published", None),
                FileOutcome::Renamed(name) => ("renamed", Some(name)),
                FileOutcome::SkippedExisting => ("skipped", None),
            };
            json!({
                "event": "file", "ok": true, "path": path, "bytes": bytes, "root": root.to_string(), "how": how,
                "renamed_to": renamed_to,
            })
        }
        Event::FileFailed { path, fault, class } => {
            json!({"event": "file", "ok": false, "path": path, "error": fault, "class": class_name(*class)})
        }
        Event::Found(finding) => findings::value(finding),
        Event::LinkDone { path, to, how } => {
            let (how, renamed_to) = match how {
                LinkOutcome::Copied => ("copied", None),
                LinkOutcome::Identical => ("identical", None),
                LinkOutcome::Made => ("made", None),
                LinkOutcome::Renamed(name) => ("renamed", Some(name)),
                LinkOutcome::SkippedExisting => ("skipped", None),
            };
            json!({"event": "link", "path": path, "to": to, "how": how, "renamed_to": renamed_to})
        }
        Event::Listening { link, code } => {
            json!({"event": "listening", "link": link.as_str(), "code": code.as_ref().map(|code| code.as_str())})
        }
        Event::Notice { text } => json!({"event": "warning", "text": text}),
        Event::Forecast(forecast) => forecast::total_value(forecast),
        Event::Foreseen(foreseen) => forecast::entry_value(foreseen),
        Event::LeftOut(left_out) => forecast::left_out_value(left_out),
        Event::OfferReady { files, folders, bytes, .. }
        | Event::Pushing { files, folders, bytes }
        | Event::WouldOffer { files, folders, bytes } => {
            json!({"event": "offer", "files": files, "folders": folders, "bytes": bytes})
        }
        Event::PeerConnected { peer, session } => {
            json!({"event": "peer", "session": session, "state": "connected", "address": peer.to_string()})
        }
        Event::PeerFinished { session, ok, bytes } => {
            json!({"event": "peer", "session": session, "state": "finished", "ok": ok, "bytes": bytes})
        }
        Event::PeerLost { session } => json!({"event": "peer", "session": session, "state": "lost"}),
        Event::PeerAsks { peer, session } => {
            json!({"event": "peer", "session": session, "state": "asking", "address": peer.to_string()})
        }
        Event::PeerRefused { session } => json!({"event": "peer", "session": session, "state": "refused"}),
        Event::PeerProgress { session, progress, state, limit } => {
            let mut value = progress_value(progress);
            value["session"] = (*session).into();
            value["state"] = state_name(*state).into();
            value["limit"] = limit.map(NonZeroU64::get).into();
            value
        }
        Event::Phase(phase) => phase_value(*phase),
        Event::Progress(progress) => progress_value(progress),
    }
}

fn certificate_value(fingerprint: &[u8; 32]) -> Value {
    let (words, sha256) = (fingerprint_words(fingerprint), HEXLOWER.encode(fingerprint));
    json!({"event": "certificate", "words": words, "sha256": sha256})
}

fn change_name(change: CodeChange) -> &'static str {
    match change {
        CodeChange::Burnt => "burnt",
        CodeChange::GivenUp => "given_up",
        CodeChange::Used => "used",
    }
}

fn phase_value(phase: Phase) -> Value {
    let name = match phase {
        Phase::Waiting => "waiting".to_owned(),
        Phase::WaitingForAnswer => "waiting_for_answer".to_owned(),
        Phase::WaitingForRoom { .. } => "waiting_for_room".to_owned(),
        Phase::WaitingForSender => "waiting_for_sender".to_owned(),
        _ => phase_name(phase).to_lowercase(),
    };
    let mut value = json!({"event": "phase", "phase": name});
    match phase {
        Phase::Reconnecting { attempt, retry_in } => {
            value["attempt"] = attempt.into();
            value["retry_in_ms"] = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX).into();
        }
        Phase::WaitingForRoom { needed, free } => {
            value["needed"] = needed.into();
            value["free"] = free.into();
        }
        _ => {}
    }
    value
}

fn progress_value(progress: &Progress) -> Value {
    let Progress {
        bytes_total,
        bytes_done,
        bytes_reused,
        bytes_fetched,
        wire_bytes,
        files_total,
        files_done,
        current,
        ..
    } = progress;
    json!({
        "event": "progress", "bytes_total": bytes_total, "bytes_done": bytes_done, "bytes_reused": bytes_reused,
        "bytes_fetched": bytes_fetched, "wire_bytes": wire_bytes, "files_total": files_total, "files_done": files_done,
        "current": current,
    })
}

fn state_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Asking => "asking",
        PeerState::Gone => "gone",
        PeerState::Idle => "idle",
        PeerState::Limited => "limited",
        PeerState::Sending => "sending",
        PeerState::Stalled => "stalled",
    }
}

fn class_name(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Auth => "auth",
        FailureClass::Bug => "bug",
        FailureClass::ConnectTimeout => "connect_timeout",
        FailureClass::Declined => "declined",
        FailureClass::Exists => "exists",
        FailureClass::Integrity => "integrity",
        FailureClass::Interrupted => "interrupted",
        FailureClass::Io => "io",
        FailureClass::Name => "name",
        FailureClass::Network => "network",
        FailureClass::NoSpace => "no_space",
        FailureClass::Partial => "partial",
        FailureClass::Protocol => "protocol",
        FailureClass::Refused => "refused",
        FailureClass::SourceChanged => "source_changed",
        FailureClass::Timeout => "timeout",
        FailureClass::Usage => "usage",
    }
}

/// Escapes what JSON leaves raw and a terminal obeys or hides. A program that parses the line gets the exact text.
///
/// Outside of strings JSON is ASCII, so every character met here is inside one.
fn escape(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;
    use zeroize::Zeroizing;

    fn lines(events: &Events<Vec<u8>>) -> Vec<Value> {
        let text = std::str::from_utf8(&events.out).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn names(events: &Events<Vec<u8>>) -> Vec<String> {
        lines(events).iter().map(|value| value["event"].as_str().unwrap().to_owned()).collect()
    }

    fn offer_ready() -> Event {
        Event::OfferReady { link: Zeroizing::new("LINK#KEY".into()), code: None, files: 1, folders: 2, bytes: 3 }
    }

    #[test]
    fn the_first_event_of_a_sender_has_the_link() {
        let mut events = Events::new(Vec::new(), true);
        let now = Instant::now();
        events.event(&Event::Phase(Phase::Scanning), now);
        events.event(&Event::Notice { text: "a FIFO was left out".into() }, now);
        assert!(events.out.is_empty());
        events.event(&offer_ready(), now);
        events.event(&Event::Phase(Phase::Waiting), now);
        assert_eq!(names(&events), ["offer", "phase", "warning", "phase"]);
        let offer = json!({"v":1,"event":"offer","link":"LINK#KEY","code":null,"files":1,"folders":2,"bytes":3});
        assert_eq!(lines(&events)[0], offer);
    }

    #[test]
    fn every_further_code_is_an_event() {
        let mut events = Events::new(Vec::new(), false);
        let code = Some(Zeroizing::new("7-amber-canoe-lentil".to_owned()));
        events.event(&Event::CodeChanged { code, why: CodeChange::Used }, Instant::now());
        events.event(&Event::CodeChanged { code: None, why: CodeChange::GivenUp }, Instant::now());
        let expected = json!({"v":1,"event":"code","code":"7-amber-canoe-lentil","why":"used"});
        assert_eq!(lines(&events)[0], expected);
        assert_eq!(lines(&events)[1], json!({"v":1,"event":"code","code":null,"why":"given_up"}));
    }

    #[test]
    fn a_sender_that_never_gets_ready_still_ends_with_done() {
        let mut events = Events::new(Vec::new(), true);
        events.event(&Event::Phase(Phase::Scanning), Instant::now());
        events.done(&Summary::default(), 11, Some(&Failure::new(Exit::Io, "cannot read `a`")));
        assert_eq!(names(&events), ["phase", "done"]);
        assert_eq!(lines(&events)[1]["error"], "cannot read `a`");
    }

    #[test]
    fn progress_is_throttled_and_its_last_state_is_written() {
        let mut events = Events::new(Vec::new(), false);
        let start = Instant::now();
        for millis in 0..450 {
            let progress = Progress { bytes_done: millis, ..Progress::default() };
            events.event(&Event::Progress(progress), start + Duration::from_millis(millis));
        }
        events.done(&Summary { ok: true, ..Summary::default() }, 0, None);
        let done: Vec<_> = lines(&events).iter().filter_map(|value| value["bytes_done"].as_u64()).collect();
        assert_eq!(done, [0, 200, 400, 449]);
        assert_eq!(names(&events).last().map(String::as_str), Some("done"));
    }

    #[test]
    fn progress_of_each_receiver_is_throttled_by_itself_and_names_it() {
        let mut events = Events::new(Vec::new(), false);
        let start = Instant::now();
        for millis in 0..250 {
            for session in [1, 2] {
                let progress = Progress { bytes_done: millis, ..Progress::default() };
                let (state, limit) = (PeerState::Limited, NonZeroU64::new(7));
                let event = Event::PeerProgress { session, progress, state, limit };
                events.event(&event, start + Duration::from_millis(millis));
            }
        }
        events.event(&Event::PeerFinished { session: 1, ok: true, bytes: 249 }, start);
        events.event(&Event::PeerRefused { session: 2 }, start);
        let of = |session: u64| {
            let all = lines(&events).into_iter().filter(move |event| event["session"] == session);
            all.map(|event| event["bytes_done"].as_u64()).collect::<Vec<_>>()
        };
        assert_eq!(of(1), [Some(0), Some(200), Some(249), None], "the last state comes before the end");
        assert_eq!(of(2), [Some(0), Some(200), Some(249), None]);
        let first = &lines(&events)[0];
        assert_eq!(
            (&first["event"], &first["state"], &first["limit"]),
            (&"progress".into(), &"limited".into(), &7.into())
        );
        assert!(events.sessions.is_empty());
    }

    #[test]
    fn done_has_every_field_of_the_contract() {
        let mut events = Events::new(Vec::new(), false);
        let summary = Summary {
            ok: true,
            files: 1,
            bytes: 9,
            bytes_fetched: 5,
            bytes_reused: 4,
            wire_bytes: 7,
            first_byte_ms: Some(12),
            seconds: 0.5,
            root: Some("ab".into()),
            failed: Vec::new(),
            receivers: None,
        };
        events.done(&summary, 0, None);
        let expected = json!({
            "v": 1, "event": "done", "ok": true, "exit": 0, "error": null, "files": 1, "bytes": 9, "bytes_fetched": 5,
            "bytes_reused": 4, "wire_bytes": 7, "first_byte_ms": 12, "seconds": 0.5, "root": "ab", "failed": 0,
        });
        assert_eq!(lines(&events), [expected]);
    }

    #[test]
    fn events_of_one_transfer_of_several_name_it_and_do_not_end_the_run() {
        let mut events = Events::of_transfer(Vec::new(), "ab12".into());
        events.event(&Event::Phase(Phase::Connecting), Instant::now());
        events.ended(&Summary { ok: true, ..Summary::default() }, 0, None);
        assert_eq!(names(&events), ["phase", "ended"]);
        assert!(lines(&events).iter().all(|event| event["transfer"] == "ab12"));
    }

    #[test]
    fn names_are_exact_for_programs_and_harmless_on_terminals() {
        let path = "a\x1b[2J\u{9b}\u{202e}\u{200b}\n\u{feff}é".to_owned();
        let mut events = Events::new(Vec::new(), false);
        let failed = Event::FileFailed { path: path.clone(), fault: "gone".into(), class: FailureClass::Io };
        events.event(&failed, Instant::now());
        let text = String::from_utf8(events.out.clone()).unwrap();
        assert!(text.starts_with(r#"{"v":1,"event":"file","#), "{text}");
        assert!(text.trim_end().chars().all(|c| c == 'é' || (' '..='~').contains(&c)), "{text}");
        assert_eq!(lines(&events)[0]["path"], path);
    }

    #[test]
    fn a_wait_for_room_says_how_much() {
        let mut events = Events::new(Vec::new(), false);
        events.event(&Event::Phase(Phase::WaitingForRoom { needed: 1 << 20, free: 3 }), Instant::now());
        let expected = json!({"v":1,"event":"phase","phase":"waiting_for_room","needed":1 << 20,"free":3});
        assert_eq!(lines(&events), [expected]);
    }

    #[test]
    fn a_wait_for_the_network_says_when_it_ends() {
        let mut events = Events::new(Vec::new(), false);
        let retry_in = Duration::from_millis(1500);
        events.event(&Event::Phase(Phase::Reconnecting { attempt: 2, retry_in }), Instant::now());
        let expected = json!({"v":1,"event":"phase","phase":"reconnecting","attempt":2,"retry_in_ms":1500});
        assert_eq!(lines(&events), [expected]);
    }
}
