use super::*;
use crate::record::{
    chain::{LogConfig, Unwritable},
    keeper::Keeper,
    queue::{LAST_ROOM, Line, Queue, ROOM},
};

const MEMBERS: &[u8] = br#""type":"decision","code":"ok""#;

#[test]
fn a_line_that_could_not_be_written_is_kept_only_if_nobody_waits_for_it() {
    assert!(Line::left(MEMBERS).unwritten(), "nobody ever waited");

    let (mut line, receipt) = Line::awaited(MEMBERS);
    assert!(!line.unwritten(), "who waits is told instead");
    assert_eq!(receipt.leave(), Err(Unwritable));

    let (mut line, receipt) = Line::awaited(MEMBERS);
    assert_eq!(receipt.leave(), Ok(()), "left to the log");
    assert!(line.unwritten());
    assert!(line.unwritten(), "for good");
}

#[test]
fn a_line_whose_call_was_refused_meanwhile_is_neither_written_nor_kept() {
    let refused = || {
        let (line, mut receipt) = Line::awaited(br#""type":"decision","code":"refused""#);
        assert_eq!(receipt.give_up(), Err(Unwritable));
        line
    };
    assert!(!refused().unwritten());

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.jsonl");
    let mut keeper = Keeper::open(&LogConfig::at(path.clone()), now()).unwrap();
    let mut lines = vec![refused(), Line::left(MEMBERS), refused()];
    keeper.round(&mut lines, None);
    assert!(lines.is_empty());
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(r#""code":"ok""#), "{text}");

    let (line, mut receipt) = Line::awaited(MEMBERS);
    line.written();
    assert_eq!(receipt.give_up(), Ok(()), "it was there already");
}

#[tokio::test]
async fn who_waits_is_told_what_became_of_the_line() {
    let (line, mut receipt) = Line::awaited(MEMBERS);
    line.written();
    assert_eq!(receipt.settled().await, Ok(()));

    let (line, mut receipt) = Line::awaited(MEMBERS);
    drop(line);
    assert_eq!(receipt.settled().await, Err(Unwritable), "never in vain");
}

#[test]
fn a_full_queue_refuses_decisions_and_has_room_for_their_outcomes() {
    let queue = Queue::default();
    let line = vec![b'x'; 64 * 1024];
    let fill = |add: fn(&Queue, Line) -> Result<(), Unwritable>| {
        let mut count = 0;
        while add(&queue, Line::left(&line)).is_ok() {
            count += 1;
        }
        count
    };
    assert_eq!(fill(Queue::decide), ROOM / line.len());
    assert_eq!(fill(Queue::push), (LAST_ROOM - ROOM) / line.len());
    assert_eq!(queue.len(), LAST_ROOM / line.len());

    let mut taken = Vec::new();
    assert!(!queue.next(&mut taken).last);
    assert_eq!(fill(Queue::push), 0, "what is being written takes room");
    taken.truncate(1);
    queue.left(&taken);
    assert_eq!(
        (queue.len(), fill(Queue::decide)),
        (1, ROOM / line.len() - 1)
    );
}

#[test]
fn a_queue_that_nobody_writes_refuses_everything() {
    let queue = Queue::default();
    let (line, receipt) = Line::awaited(MEMBERS);
    queue.decide(line).unwrap();
    queue.abandon();
    assert_eq!(queue.push(Line::left(MEMBERS)), Err(Unwritable));
    drop(receipt);
}

#[test]
fn a_line_in_two_is_not_taken() {
    let queue = Queue::default();
    for members in [b"\"a\":1,\n\"b\":2".as_slice(), b""] {
        assert_eq!(queue.decide(Line::left(members)), Err(Unwritable));
    }
}

#[test]
fn the_writer_is_called_for_who_waits_or_when_asked() {
    let queue = Queue::default();
    let mut taken = Vec::new();
    queue.decide(Line::left(MEMBERS)).unwrap();
    queue.flush();
    let round = queue.next(&mut taken);
    assert!(taken.len() == 1 && round.tick.is_none() && !round.last);

    let (line, _receipt) = Line::awaited(MEMBERS);
    queue.decide(line).unwrap();
    queue.tick(now());
    let round = queue.next(&mut taken);
    assert_eq!((taken.len(), round.tick), (2, Some(now())));

    queue.close();
    assert!(queue.next(&mut taken).last);
}

#[test]
fn a_writer_that_does_not_come_is_noticed() {
    let queue = Queue::default();
    let after = |seconds| now() + jiff::SignedDuration::from_secs(seconds);
    assert!(queue.tick(after(0)) && queue.tick(after(4)));
    assert!(!queue.tick(after(5)) && !queue.tick(after(6)));
    queue.next(&mut Vec::new());
    assert!(queue.tick(after(60)));
}

#[test]
fn a_queue_that_is_held_takes_outcomes_alone() {
    let queue = Queue::default();
    queue.hold();
    assert_eq!(queue.decide(Line::left(MEMBERS)), Err(Unwritable));
    assert_eq!(queue.push(Line::left(MEMBERS)), Ok(()));
    queue.resume();
    assert_eq!(queue.decide(Line::left(MEMBERS)), Ok(()));
}
