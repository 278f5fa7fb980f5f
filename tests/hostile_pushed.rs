//! Evil peers in sessions whose sender connected: grants and lanes out of turn, too often, too many, and by the wrong side.

#[path = "support/hostile.rs"]
mod hostile;

use haul::limits::DATA_LANES_MAX;
use haul::manifest::Listing;
use haul::session::{Input, PeerFault, SenderOutput};
use haul::wire::{Message, SessionGrant};
use hostile::{CONTROL, DATA, ReceiverVictim, SenderVictim, grant, hello, lanes_wanted, listing, welcome_granting};

fn offer() -> Listing {
    listing(&[("a", Some(1)), ("b", Some(2))])
}

#[test]
fn a_grant_and_lanes_are_taken_in_their_turn() {
    let mut victim = SenderVictim::pushing(offer());
    victim.feed(CONTROL, &grant(7));
    for lanes in [1, 4, 2, 2] {
        victim.feed(CONTROL, &lanes_wanted(lanes));
    }
    assert_eq!(victim.fault(), None);
    let granted = SenderOutput::Granted { grant: SessionGrant { id: [7; 16], secret: [7; 32] } };
    assert!(victim.outputs.contains(&granted));
    let lanes = victim.outputs.iter().filter_map(|output| match output {
        SenderOutput::OpenLanes { lanes } => Some(*lanes),
        _ => None,
    });
    assert_eq!(lanes.collect::<Vec<_>>(), [1, 4, 2, 2]);
}

#[test]
fn a_grant_before_hello_or_on_a_data_lane_is_refused() {
    for bytes in [grant(7), lanes_wanted(1)] {
        let mut victim = SenderVictim::new(offer());
        victim.feed(CONTROL, &bytes);
        victim.assert_refused_unread(PeerFault::OutOfTurn("a request before Hello"));
        let mut victim = SenderVictim::pushing(offer());
        victim.feed(DATA, &bytes);
        victim.assert_refused_unread(PeerFault::OutOfTurn("a control request on a data lane"));
    }
}

#[test]
fn a_second_grant_one_of_nothing_and_one_in_a_session_that_was_fetched_are_refused() {
    let twice = [grant(7), grant(7)].concat();
    for (mut victim, bytes) in [
        (SenderVictim::pushing(offer()), twice),
        (SenderVictim::pushing(offer()), grant(0)),
        (SenderVictim::greeted(offer()), grant(7)),
    ] {
        victim.feed(CONTROL, &bytes);
        victim.assert_refused_unread(PeerFault::Grant);
    }
}

#[test]
fn lanes_before_the_grant_and_in_a_session_that_was_fetched_are_refused() {
    for mut victim in [SenderVictim::pushing(offer()), SenderVictim::greeted(offer())] {
        victim.feed(CONTROL, &lanes_wanted(1));
        victim.assert_refused_unread(PeerFault::OutOfTurn("LanesWanted"));
    }
}

#[test]
fn more_lanes_than_were_offered_and_none_are_refused() {
    for lanes in [0, 5, u64::from(DATA_LANES_MAX) + 1, u64::from(u16::MAX)] {
        let mut victim = SenderVictim::pushing(offer());
        victim.feed(CONTROL, &grant(7));
        victim.feed(CONTROL, &lanes_wanted(lanes));
        victim.assert_refused_unread(PeerFault::Request);
    }
}

#[test]
fn lanes_wanted_a_million_times_cost_one_word_each() {
    let mut victim = SenderVictim::pushing(offer());
    victim.feed(CONTROL, &grant(7));
    for _ in 0..1_000_000 {
        victim.outputs.clear();
        victim.feed(CONTROL, &lanes_wanted(4));
        assert_eq!(victim.outputs, [SenderOutput::OpenLanes { lanes: 4 }]);
    }
}

#[test]
fn a_sender_that_connected_has_nothing_to_grant() {
    let mut victim = ReceiverVictim::visited();
    let digest = offer().digest();
    victim.feed(CONTROL, &welcome_granting(0, digest));
    assert_eq!(victim.fault(), None);
    let granted: Vec<_> = victim.sent().filter(|message| matches!(message, Message::Grant { .. })).collect();
    assert_eq!(granted, [&Message::Grant { grant: SessionGrant { id: [1; 16], secret: [2; 32] } }]);
    for byte in [1, 7] {
        let mut victim = ReceiverVictim::visited();
        victim.feed(CONTROL, &welcome_granting(byte, digest));
        victim.assert_refused(PeerFault::Grant);
    }
    let mut victim = ReceiverVictim::new();
    victim.feed(CONTROL, &welcome_granting(0, digest));
    victim.assert_refused(PeerFault::Grant);
}

#[test]
fn grants_lanes_and_questions_of_a_sender_are_refused() {
    for bytes in [grant(7), lanes_wanted(1), hello(1, 0)] {
        let mut victim = ReceiverVictim::visited();
        victim.feed(CONTROL, &bytes);
        victim.assert_refused(PeerFault::OutOfTurn("the answer to another question"));
        let mut victim = ReceiverVictim::visited();
        victim.feed(CONTROL, &welcome_granting(0, offer().digest()));
        let fetching = ReceiverVictim::fetching(&offer());
        for mut victim in [victim, fetching] {
            victim.feed(CONTROL, &bytes);
            assert!(
                matches!(victim.fault(), Some(hostile::Fault::Peer(PeerFault::OutOfTurn(_)))),
                "{:?}",
                victim.fault()
            );
            victim.assert_nothing_stored();
        }
    }
}

#[test]
fn lanes_are_asked_for_once_the_sender_is_in_and_never_where_this_side_connects() {
    let mut victim = ReceiverVictim::visited();
    let wanted = |victim: &ReceiverVictim| victim.sent().filter(|it| matches!(it, Message::LanesWanted { .. })).count();
    victim.tell(Input::LanesLacking { lanes: 2 });
    assert_eq!(wanted(&victim), 0, "nobody is there to be asked");
    victim.feed(CONTROL, &welcome_granting(0, offer().digest()));
    victim.tell(Input::LanesLacking { lanes: 2 });
    victim.tell(Input::LanesLacking { lanes: 0 });
    assert_eq!(wanted(&victim), 1);
    let mut fetching = ReceiverVictim::fetching(&offer());
    fetching.tell(Input::LanesLacking { lanes: 2 });
    assert_eq!(wanted(&fetching), 0);
}
