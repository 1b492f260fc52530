//! The ring against the kernel.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::buffers::SIZE;
use super::*;
use crate::relay::Side;
use crate::wheel::Tick;

const HERE: Place = Place { index: 3, side: Side::Client };
const LONG: Duration = Duration::from_secs(10);

/// A socket of ours and its far end.
fn pair() -> (End, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let near = listener.accept().unwrap().0;
    near.set_nonblocking(true).unwrap();
    (End::new(near.into(), Tick(0)), far)
}

/// The next answer that is not about something cancelled.
fn next(ring: &mut Ring) -> Completion {
    let mut completions = Vec::new();
    loop {
        ring.turn(LONG).unwrap();
        ring.take(&mut completions);
        completions.retain(|completion| completion.operation != Operation::Cancel);
        if !completions.is_empty() {
            assert_eq!(completions.len(), 1, "{completions:?}");
            return completions.remove(0);
        }
    }
}

#[test]
fn what_was_received_is_sent_and_its_buffer_used_again_more_often_than_there_are_buffers() {
    let mut ring = Ring::new().unwrap();
    let ((mut near, mut far), (mut other, mut other_far)) = (pair(), pair());
    for round in 0..1000u32 {
        ring.receive(&mut near, HERE, Receive::OnceReadable);
        far.write_all(&round.to_ne_bytes()).unwrap();
        let received = next(&mut ring);
        assert!(near.flight.land(received.operation));
        let mut chunk = received.chunk.unwrap();
        assert_eq!((received.result, ring.bytes(&chunk)), (Ok(4), &round.to_ne_bytes()[..]));
        ring.send(&mut other, HERE, &mut chunk);
        let sent = next(&mut ring);
        assert!(matches!(sent.operation, Operation::Send(HERE, number) if chunk.is_sent_as(number)));
        assert_eq!(sent.result, Ok(4));
        ring.give_back(chunk);
        let mut bytes = [0; 4];
        other_far.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, round.to_ne_bytes());
    }
}

#[test]
fn a_send_is_answered_in_the_turn_it_is_handed_over_though_nobody_reads() {
    let mut ring = Ring::new().unwrap();
    let ((mut near, mut far), (mut other, _other_far)) = (pair(), pair());
    let mut taken = 0;
    loop {
        ring.receive(&mut near, HERE, Receive::Now);
        far.write_all(&[7; SIZE]).unwrap();
        let received = next(&mut ring);
        near.flight.land(received.operation);
        let mut chunk = received.chunk.unwrap();
        ring.send(&mut other, HERE, &mut chunk);
        ring.turn(Duration::ZERO).unwrap();
        let mut completions = Vec::new();
        ring.take(&mut completions);
        let length = chunk.length();
        ring.give_back(chunk);
        match completions.remove(0).result {
            Ok(sent) if sent as usize == length => taken += length,
            Ok(_) | Err(Errno::AGAIN) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(taken > 0);
}

#[test]
fn a_socket_that_is_forgotten_and_closed_is_let_go_of_by_the_kernel() {
    let mut ring = Ring::new().unwrap();
    for turns in [0, 1] {
        let (mut near, mut far) = pair();
        ring.receive(&mut near, HERE, Receive::OnceReadable);
        (0..turns).for_each(|_| ring.turn(Duration::ZERO).unwrap());
        let question = near.flight.question.unwrap();
        ring.forget(&mut near);
        drop(near);
        let answer = next(&mut ring);
        assert_eq!((answer.operation, answer.result), (question, Err(Errno::CANCELED)));
        far.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0, "closed");
    }
}

#[test]
fn an_answer_to_an_older_question_is_told_from_one_to_the_open_one() {
    let mut ring = Ring::new().unwrap();
    let (mut near, mut far) = pair();
    ring.receive(&mut near, HERE, Receive::OnceReadable);
    let older = near.flight.question.unwrap();
    ring.forget(&mut near);
    ring.receive(&mut near, HERE, Receive::OnceReadable);
    assert!(!near.flight.land(older));
    assert!(near.flight.is_open());
    assert_eq!(next(&mut ring).operation, older);
    far.write_all(b"x").unwrap();
    assert!(near.flight.land(next(&mut ring).operation));
    assert!(!near.flight.is_open());
}

#[test]
fn who_finds_every_buffer_taken_is_told_so_and_gets_the_next_that_is_free() {
    let mut ring = Ring::new().unwrap();
    let (mut near, mut far) = pair();
    let mut taken = Vec::new();
    let answer = loop {
        far.write_all(b"x").unwrap();
        ring.receive(&mut near, HERE, Receive::Now);
        let answer = next(&mut ring);
        near.flight.land(answer.operation);
        match answer.chunk {
            Some(chunk) if answer.result.is_ok() => taken.push(chunk),
            _ => break answer.result,
        }
    };
    assert_eq!(answer, Err(Errno::NOBUFS));
    taken.pop().into_iter().for_each(|chunk| ring.give_back(chunk));
    ring.receive(&mut near, HERE, Receive::Now);
    assert_eq!(next(&mut ring).result, Ok(1));
}

#[test]
fn a_connect_is_answered_when_it_is_decided() {
    let mut ring = Ring::new().unwrap();
    let (mut near, _far) = pair();
    ring.connect(&mut near, HERE);
    let answer = next(&mut ring);
    assert!(near.flight.land(answer.operation));
    assert!(seen(answer.result.unwrap()).contains(EventFlags::OUT));
}
