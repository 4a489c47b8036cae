//! Requests and replies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::{ClientError, Close, Endpoint, Options, Outcome, Peer, RequestError, SendError};

use crate::bed::{Bed, everywhere, in_simulation, target};
use crate::probe::{Line, Probe};
use crate::raw::{hello, request};

const SOON: Duration = Duration::from_secs(30);

/// The answers to requests, in the order in which they came.
type Answers = Arc<Mutex<Vec<Result<Vec<u8>, RequestError>>>>;

/// Asks, and keeps the answer.
fn ask(peer: &mut Peer<'_, Line>, body: &[u8], timeout: Duration, answers: &Answers) {
    let answers = answers.clone();
    peer.request(40, body, timeout, move |_, reply| {
        answers.lock().expect("no panic").push(reply.map(|message| message.to_bytes()));
        Ok(())
    });
}

/// A client that does this on its connection.
fn asking(
    bed: &Bed<'_>,
    server: &Endpoint<Line>,
    call: impl Fn(&mut Peer<'_, Line>) -> Outcome + Send + Sync + 'static,
) -> (Endpoint<Line>, crate::probe::Seen) {
    let probe = Probe::new().on_connected(call);
    let seen = probe.seen();
    let client = bed.client_side(probe);
    client.connect(target(server)).expect("there is room");
    (client, seen)
}

#[test]
fn a_request_is_answered_or_refused_and_the_text_comes_through() {
    everywhere(|bed| {
        let server = bed.serve(Probe::new().on_received(|peer, message| {
            let ticket = message.ticket().expect("a request");
            assert_eq!(ticket.peer(), peer.id());
            match message.kind() {
                1 => peer.reply(ticket, 2, message.payload()),
                _ => peer.refuse(ticket, "not here: größer"),
            }
            Ok(())
        }));
        let client = bed.client(&server);
        let reply = client.request(1, b"question", SOON).expect("a reply");
        assert_eq!((reply.kind, &reply.payload[..]), (2, &b"question"[..]));
        match client.request(9, b"", SOON) {
            Err(ClientError::Request(RequestError::Refused(text))) => {
                assert_eq!(&*text, "not here: größer");
            }
            other => panic!("{other:?}"),
        }
        client.close();
        bed.end(&server);
    });
}

#[test]
fn replies_come_in_any_order_and_find_their_requests() {
    everywhere(|bed| {
        // Keeps the tickets and answers all of them when the last one is there, the last first.
        let server = bed.serve(Probe::new().on_received(|peer, message| {
            peer.state().tickets.extend(message.ticket());
            if peer.state().tickets.len() == 20 {
                while let Some(ticket) = peer.state().tickets.pop() {
                    let number = peer.state().tickets.len() as u8;
                    peer.reply(ticket, 0, &[number]);
                }
            }
            Ok(())
        }));
        let answers: Answers = Arc::default();
        let kept = answers.clone();
        let (client, _) = asking(bed, &server, move |peer| {
            for number in 0..20u8 {
                let kept = kept.clone();
                peer.request(40, &[number], SOON, move |_, reply| {
                    assert_eq!(reply.expect("a reply").payload(), [number], "another's reply");
                    kept.lock().expect("no panic").push(Ok(vec![number]));
                    Ok(())
                });
            }
            Ok(())
        });
        bed.wait_for("all answers", || answers.lock().unwrap().len() == 20);
        assert_eq!(client.stats().panics, 0);
        bed.end(&client);
        bed.end(&server);
    });
}

#[test]
fn a_request_without_a_reply_times_out_and_the_late_one_is_counted() {
    in_simulation(|bed| {
        let server = bed.serve(Probe::new().on_received(|peer, message| {
            peer.state().tickets.extend(message.ticket());
            peer.after(Duration::from_secs(3), |peer| {
                let ticket = peer.state().tickets.pop().expect("kept");
                peer.reply(ticket, 0, b"late");
                Ok(())
            });
            Ok(())
        }));
        let answers: Answers = Arc::default();
        let kept = answers.clone();
        let (client, _) = asking(bed, &server, move |peer| {
            ask(peer, b"?", Duration::from_secs(2), &kept);
            Ok(())
        });
        bed.wait_for("an answer", || !answers.lock().unwrap().is_empty());
        assert_eq!(*answers.lock().unwrap(), [Err(RequestError::TimedOut)]);
        bed.wait_for("the late reply", || client.stats().late_replies == 1);
        assert_eq!(answers.lock().unwrap().len(), 1, "told once");
        bed.end(&client);
        bed.end(&server);
    });
}

#[test]
fn requests_that_wait_when_the_connection_ends_are_told_before_disconnected() {
    everywhere(|bed| {
        let server = bed.serve(Probe::new().on_received(|peer, message| {
            peer.state().tickets.extend(message.ticket());
            if peer.state().tickets.len() == 5 {
                peer.close(Close::abort());
            }
            Ok(())
        }));
        let answers: Answers = Arc::default();
        let (kept, at_end) = (answers.clone(), answers.clone());
        let probe = Probe::new()
            .on_connected(move |peer| {
                (0..5).for_each(|_| ask(peer, b"?", Duration::from_secs(3600), &kept));
                Ok(())
            })
            .on_disconnected(move |peer, _| {
                let before = at_end.lock().unwrap().len();
                assert_eq!(before, 5, "C6: disconnected is the last");
                // One that is made now has its answer at once.
                ask(peer, b"?", SOON, &at_end);
            });
        let seen = probe.seen();
        let client = bed.client_side(probe);
        client.connect(target(&server)).expect("there is room");
        bed.wait_for("the end", || seen.ends().len() == 1);
        bed.wait_for("the slot", || client.stats().connections == 0);
        let answers = answers.lock().unwrap().clone();
        assert_eq!(answers[..5], vec![Err(RequestError::Disconnected); 5]);
        assert_eq!(answers[5], Err(RequestError::NotSent(SendError::NotConnected)));
        assert_eq!((answers.len(), client.stats().panics), (6, 0));
        bed.end(&client);
        bed.end(&server);
    });
}

#[test]
fn a_request_that_cannot_be_made_is_told_at_once_and_closes_nothing() {
    everywhere(|bed| {
        let server = bed.serve(Probe::new().on_received(|peer, message| {
            peer.state().tickets.extend(message.ticket());
            Ok(())
        }));
        let answers: Answers = Arc::default();
        let kept = answers.clone();
        let probe = Probe::new().on_connected(move |peer| {
            ask(peer, b"?", SOON, &kept);
            ask(peer, b"?", SOON, &kept);
            ask(peer, b"one too many", SOON, &kept);
            ask(peer, &vec![0; 2 << 20], SOON, &kept);
            Ok(())
        });
        let seen = probe.seen();
        let options = Options { requests_max: 2, ..bed.options() };
        let client = bed.start(Endpoint::builder(probe).options(options));
        let id = client.connect(target(&server)).expect("there is room");
        bed.wait_for("the connection", || !seen.connected().is_empty());
        bed.wait_for("two answers", || answers.lock().unwrap().len() == 2);
        assert_eq!(
            *answers.lock().unwrap(),
            [Err(RequestError::TooMany), Err(RequestError::TooMany)]
        );
        assert!(client.peer(id).is_some(), "C8: the connection is as it was");
        bed.end(&client);
        bed.end(&server);
    });
}

#[test]
fn a_plain_peer_cannot_be_asked() {
    everywhere(|bed| {
        let answers: Answers = Arc::default();
        let kept = answers.clone();
        let probe = Probe::new().on_connected(move |peer| {
            ask(peer, b"?", SOON, &kept);
            Ok(())
        });
        let server = bed.serve(probe);
        let raw = bed.dial(&server);
        bed.wait_for("an answer", || !answers.lock().unwrap().is_empty());
        let answer = answers.lock().unwrap()[0].clone();
        assert!(matches!(answer, Err(RequestError::NotSent(SendError::Unsendable(_)))));
        assert_eq!(server.stats().connections, 1);
        drop(raw);
        bed.end(&server);
    });
}

#[test]
fn more_requests_than_may_wait_are_refused_and_the_others_answered() {
    everywhere(|bed| {
        let probe = Probe::new().on_received(|peer, message| {
            peer.state().tickets.extend(message.ticket());
            Ok(())
        });
        let seen = probe.seen();
        let server = bed.serve_with(probe, Options { requests_max: 3, ..bed.options() });
        let mut raw = bed.dial(&server);
        raw.send(&hello(0, 1 << 20));
        for id in 0..5 {
            raw.send(&request(id, 1, b"?"));
        }
        assert_eq!(bed.read_frame(&mut raw).0, 4);
        for id in 3..5u32 {
            let (kind, body) = bed.read_frame(&mut raw);
            assert_eq!((kind, &body[..4], body[4]), (9, &id.to_le_bytes()[..], 1), "refused");
        }
        bed.wait_for("the requests", || seen.messages().len() == 3);
        let id = seen.connected()[0];
        let answer = |peer: &mut Peer<'_, Line>| {
            let ticket = peer.state().tickets.pop().expect("kept");
            peer.reply(ticket, 1, b"!");
            Ok(())
        };
        server.run(id, answer).expect("it is up");
        let (kind, body) = bed.read_frame(&mut raw);
        assert_eq!((kind, &body[..]), (9, &[2, 0, 0, 0, 0, 1, b'!'][..]));
        drop(raw);
        bed.end(&server);
    });
}

/// A ticket is for its own connection, and for one answer.
#[test]
fn a_ticket_of_another_connection_answers_nothing() {
    everywhere(|bed| {
        let kept: Arc<Mutex<Vec<posthouse::Ticket>>> = Arc::default();
        let tickets = kept.clone();
        let server = bed.serve(Probe::new().on_received(move |peer, message| {
            match message.ticket() {
                Some(ticket) if message.kind() == 1 => tickets.lock().unwrap().push(ticket),
                Some(ticket) => {
                    let others = tickets.lock().unwrap().pop().expect("kept");
                    peer.reply(others, 0, b"for somebody else");
                    peer.reply(ticket, 0, b"for you");
                }
                None => {}
            }
            Ok(())
        }));
        let mut first = bed.dial(&server);
        first.send(&hello(0, 1 << 20));
        first.send(&request(1, 1, b"?"));
        bed.wait_for("the ticket", || !kept.lock().unwrap().is_empty());
        let mut second = bed.dial(&server);
        second.send(&hello(0, 1 << 20));
        second.send(&request(1, 2, b"?"));
        assert_eq!(bed.read_frame(&mut second).0, 4);
        assert_eq!(bed.read_frame(&mut second), (9, b"\x01\0\0\0\0\0for you".to_vec()));
        assert_eq!(bed.read_frame(&mut first).0, 4);
        assert!(first.take_frame().is_none());
        drop((first, second));
        bed.end(&server);
    });
}
