//! The whole sidecar, in this process and over real sockets: an agent that sends anything, a
//! service that answers anything, and between them what is promised of every call.

mod agent;
mod journal;
mod parts;
mod room;
mod service;

use std::cell::RefCell;

use self::{
    agent::{Answer, Conversation},
    parts::Parts,
    room::Room,
    service::Received,
};

/// After so many inputs the sidecar is stopped, its log verified, and another one started.
const LIFE: u64 = 10_000;

thread_local! {
    static ROOM: RefCell<Option<Room>> = const { RefCell::new(None) };
}

/// Requests and answers, between lines of `%%%`.
pub fn run(data: &[u8]) {
    let parts = Parts::read(data);
    if parts.requests.is_empty() {
        return;
    }
    ROOM.with_borrow_mut(|place| {
        let room = place.get_or_insert_with(Room::start);
        converse(room, &parts);
        room.inputs += 1;
        if room.inputs == LIFE {
            place.take().expect("it is there").stop();
        }
    });
}

fn converse(room: &mut Room, parts: &Parts) {
    let before = room.journal().decisions();
    room.service.expect(&parts.answers);
    let talk = Conversation::hold(&room.socket, &parts.requests);
    let received = room.service.received();
    let settled = std::mem::replace(&mut room.settled, talk.whole);
    let journal = room.journal();
    for answer in &talk.answers {
        let id = answered(answer);
        if let Some(id) = id {
            assert_eq!(journal.lines_of(&id), 1, "an answer without its one record");
        }
    }
    let recorded = journal.decisions() - before;
    let told = talk
        .answers
        .iter()
        .filter(|answer| answer.decision().is_some())
        .count();
    assert!(recorded >= told, "{recorded} records of {told} answers");
    // The record of a call whose agent went away may come a moment after its connection is closed.
    if talk.whole && settled {
        assert_eq!(recorded, told, "a record of no call");
    }
    // One whose agent went away may be of an input before.
    received.iter().for_each(Received::check);
    if talk.whole {
        for (answer, sent) in talk.answers.iter().zip(&parts.requests) {
            let of_it = |request: &&Received| Some(request.decision()) == answer.decision();
            if let Some(request) = received.iter().find(of_it) {
                request.carries(sent);
            }
        }
    }
    journal.check_outcomes();
}

/// What every answer has: our ID, or nothing of ours at all.
fn answered(answer: &Answer) -> Option<String> {
    let ours: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| name.replace('_', "-").starts_with("outrider-"))
        .collect();
    match ours.as_slice() {
        [] => {
            let engine = matches!(answer.status, 400 | 414 | 431) && answer.body.is_empty();
            assert!(engine, "an answer without a decision: {answer:?}");
            None
        }
        [(name, id)] if name == "outrider-decision-id" => Some(id.clone()),
        _ => panic!("an answer in our name: {answer:?}"),
    }
}
