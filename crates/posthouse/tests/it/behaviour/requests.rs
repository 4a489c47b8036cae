//! Requests and replies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::{
    ClientError, Close, ConnectionOptions, Endpoint, HandlerResult, OwnedResponder, Peer,
    RequestError, SendError,
};

use crate::harness::{Harness, everywhere, in_simulation, target};
use crate::probe::{Line, Probe};
use crate::raw::{hello, request};

const SOON: Duration = Duration::from_secs(30);

/// The answers to requests, in their order of arrival.
type Answers = Arc<Mutex<Vec<Result<Vec<u8>, RequestError>>>>;

/// Sends a request, and keeps the answer.
fn ask(peer: &mut Peer<'_, Probe>, body: &[u8], timeout: Duration, answers: &Answers) {
    let answers = answers.clone();
    peer.request(40, body, timeout, move |_, reply| {
        answers.lock().expect("no thread panicked").push(reply.map(|message| message.to_vec()));
        Ok(())
    });
}

/// A client that makes this call when it is connected.
fn asking(
    harness: &Harness<'_>,
    server: &Endpoint<Probe>,
    call: impl Fn(&mut Peer<'_, Probe>) -> HandlerResult + Send + Sync + 'static,
) -> (Endpoint<Probe>, crate::probe::Seen) {
    let probe = Probe::new().on_connected(call);
    let seen = probe.seen();
    let client = harness.client_side(probe);
    client.connect(target(server), Line::default()).expect("no limit is reached");
    (client, seen)
}

#[test]
fn a_request_is_answered_or_refused_and_the_text_comes_through() {
    everywhere(|harness| {
        let server = harness.serve(Probe::new().on_requested(|_, message, responder| {
            match message.kind() {
                1 => responder.reply(2, message.payload()),
                _ => responder.reject("not here: größer"),
            }
            Ok(())
        }));
        let client = harness.client(&server);
        let reply = client.request(1, b"question", SOON).expect("a reply arrives");
        assert_eq!((reply.kind, &reply.payload[..]), (2, &b"question"[..]));
        match client.request(9, b"", SOON) {
            Err(ClientError::Request(RequestError::Rejected(text))) => {
                assert_eq!(&*text, "not here: größer");
            }
            other => panic!("{other:?}"),
        }
        client.close();
        harness.end(&server);
    });
}

#[test]
fn replies_come_in_any_order_and_find_their_requests() {
    everywhere(|harness| {
        // Keeps the responders until the last one has arrived, and answers them in reverse order.
        let server = harness.serve(Probe::new().on_requested(|peer, _, responder| {
            let id = peer.id();
            let kept = &mut peer.state_mut().responders;
            kept.extend(responder.take());
            assert!(kept.iter().all(|responder| responder.peer() == id));
            if kept.len() == 20 {
                while let Some(responder) = kept.pop() {
                    responder.reply(0, &[kept.len() as u8])?;
                }
            }
            Ok(())
        }));
        let answers: Answers = Arc::default();
        let kept = answers.clone();
        let (client, _) = asking(harness, &server, move |peer| {
            for number in 0..20u8 {
                let kept = kept.clone();
                peer.request(40, &[number], SOON, move |_, reply| {
                    assert_eq!(
                        reply.expect("a reply arrives").payload(),
                        [number],
                        "the reply belongs to another request"
                    );
                    kept.lock().expect("no thread panicked").push(Ok(vec![number]));
                    Ok(())
                });
            }
            Ok(())
        });
        harness.wait_for("all answers", || answers.lock().unwrap().len() == 20);
        assert_eq!(client.stats().panics, 0);
        harness.end(&client);
        harness.end(&server);
    });
}

#[test]
fn a_request_without_a_reply_times_out_and_the_late_one_is_counted() {
    in_simulation(|harness| {
        let server = harness.serve(Probe::new().on_requested(|peer, _, responder| {
            peer.state_mut().responders.extend(responder.take());
            peer.after(Duration::from_secs(3), |peer| {
                let responder = peer.state_mut().responders.pop().expect("a responder was kept");
                Ok(responder.reply(0, b"late")?)
            })?;
            Ok(())
        }));
        let answers: Answers = Arc::default();
        let kept = answers.clone();
        let (client, _) = asking(harness, &server, move |peer| {
            ask(peer, b"?", Duration::from_secs(2), &kept);
            Ok(())
        });
        harness.wait_for("an answer", || !answers.lock().unwrap().is_empty());
        assert_eq!(*answers.lock().unwrap(), [Err(RequestError::TimedOut)]);
        harness.wait_for("the late reply", || client.stats().late_replies == 1);
        assert_eq!(answers.lock().unwrap().len(), 1, "the answer was reported more than once");
        harness.end(&client);
        harness.end(&server);
    });
}

#[test]
fn requests_that_wait_when_the_connection_ends_are_told_before_disconnected() {
    everywhere(|harness| {
        let server = harness.serve(Probe::new().on_requested(|peer, _, responder| {
            peer.state_mut().responders.extend(responder.take());
            if peer.state().responders.len() == 5 {
                peer.close(Close::abort());
            }
            Ok(())
        }));
        let answers: Answers = Arc::default();
        let kept = answers.clone();
        let at_end = answers.clone();
        let probe = Probe::new()
            .on_connected(move |peer| {
                (0..5).for_each(|_| ask(peer, b"?", Duration::from_secs(3600), &kept));
                Ok(())
            })
            .on_disconnected(move |peer, _| {
                let before = at_end.lock().unwrap().len();
                assert_eq!(before, 5, "C6: disconnected was not the last callback");
                // A request that is made in `disconnected` is answered at once.
                ask(peer, b"?", SOON, &at_end);
            });
        let seen = probe.seen();
        let client = harness.client_side(probe);
        client.connect(target(&server), Line::default()).expect("no limit is reached");
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        harness.wait_for("the release of the slot", || client.stats().connections == 0);
        let answers = answers.lock().unwrap().clone();
        assert_eq!(answers[..5], vec![Err(RequestError::Disconnected); 5]);
        assert_eq!(answers[5], Err(RequestError::NotSent(SendError::NotConnected)));
        assert_eq!((answers.len(), client.stats().panics), (6, 0));
        harness.end(&client);
        harness.end(&server);
    });
}

#[test]
fn a_request_that_cannot_be_made_is_told_at_once_and_closes_nothing() {
    everywhere(|harness| {
        let server = harness.serve(Probe::new().on_requested(|peer, _, responder| {
            peer.state_mut().responders.extend(responder.take());
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
        let options = ConnectionOptions::default().with_max_requests(2);
        let client = harness.client_side(probe);
        let to = target(&server).options(options);
        let id = client.connect(to, Line::default()).expect("no limit is reached");
        harness.wait_for("the connection", || !seen.connected().is_empty());
        harness.wait_for("two answers", || answers.lock().unwrap().len() == 2);
        assert_eq!(
            *answers.lock().unwrap(),
            [Err(RequestError::TooMany), Err(RequestError::TooMany)]
        );
        assert!(client.peer(id).is_some(), "C8: the connection ended at the limit");
        harness.end(&client);
        harness.end(&server);
    });
}

#[test]
fn a_plain_peer_cannot_be_asked() {
    everywhere(|harness| {
        let answers: Answers = Arc::default();
        let kept = answers.clone();
        let probe = Probe::new().on_connected(move |peer| {
            ask(peer, b"?", SOON, &kept);
            Ok(())
        });
        let server = harness.serve(probe);
        let raw = harness.dial(&server);
        harness.wait_for("an answer", || !answers.lock().unwrap().is_empty());
        let answer = answers.lock().unwrap()[0].clone();
        assert!(matches!(answer, Err(RequestError::NotSent(SendError::NoHello))));
        assert_eq!(server.stats().connections, 1);
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn more_requests_than_may_wait_are_refused_and_the_others_answered() {
    everywhere(|harness| {
        let probe = Probe::new().on_requested(|peer, _, responder| {
            peer.state_mut().responders.extend(responder.take());
            Ok(())
        });
        let seen = probe.seen();
        let server =
            harness.serve_with(probe, harness.options().with(|o| o.connection.max_requests = 3));
        let mut raw = harness.dial(&server);
        raw.send(&hello(0, 1 << 20));
        for id in 0..5 {
            raw.send(&request(id, 1, b"?"));
        }
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        for id in 3..5u32 {
            let (kind, body) = harness.read_frame(&mut raw);
            assert_eq!(
                (kind, &body[..4], body[4]),
                (9, &id.to_le_bytes()[..], 1),
                "the request was not rejected"
            );
        }
        harness.wait_for("the requests", || seen.messages().len() == 3);
        let id = seen.connected()[0];
        let answer = |peer: &mut Peer<'_, Probe>| {
            let responder = peer.state_mut().responders.pop().expect("a responder was kept");
            Ok(responder.reply(1, b"!")?)
        };
        server.run(id, answer).expect("the connection is open");
        let (kind, body) = harness.read_frame(&mut raw);
        assert_eq!((kind, &body[..]), (9, &[2, 0, 0, 0, 0, 1, b'!'][..]));
        drop(raw);
        harness.end(&server);
    });
}

/// A responder answers the connection that made the request, wherever it is used.
#[test]
fn a_responder_kept_by_another_connection_answers_its_own() {
    everywhere(|harness| {
        let kept: Arc<Mutex<Vec<OwnedResponder>>> = Arc::default();
        let responders = kept.clone();
        let server = harness.serve(Probe::new().on_requested(move |_, message, responder| {
            if message.kind() == 1 {
                responders.lock().unwrap().extend(responder.take());
            } else {
                let others = responders.lock().unwrap().pop().expect("a responder was kept");
                others.reply(0, b"for somebody else")?;
                responder.reply(0, b"for you");
            }
            Ok(())
        }));
        let mut first = harness.dial(&server);
        first.send(&hello(0, 1 << 20));
        first.send(&request(1, 1, b"?"));
        harness.wait_for("the responder", || !kept.lock().unwrap().is_empty());
        let mut second = harness.dial(&server);
        second.send(&hello(0, 1 << 20));
        second.send(&request(1, 2, b"?"));
        assert_eq!(harness.read_frame(&mut second).0, 4);
        assert_eq!(harness.read_frame(&mut second), (9, b"\x01\0\0\0\0\0for you".to_vec()));
        assert_eq!(harness.read_frame(&mut first).0, 4);
        let reply = b"\x01\0\0\0\0\0for somebody else".to_vec();
        assert_eq!(harness.read_frame(&mut first), (9, reply));
        assert!(first.take_frame().is_none() && second.take_frame().is_none());
        drop((first, second));
        harness.end(&server);
    });
}

/// Only the first call of a callback on its responder has an effect.
#[test]
fn a_request_has_one_answer_however_often_it_is_answered() {
    everywhere(|harness| {
        let server = harness.serve(Probe::new().on_requested(|_, message, responder| {
            match message.kind() {
                1 => {
                    responder.reply(0, b"first");
                    responder.reply(0, b"second");
                    assert!(
                        responder.take().is_none(),
                        "the responder is still there after its answer"
                    );
                    responder.reject("no");
                }
                2 => {
                    responder.reject("first");
                    responder.reply(0, b"second");
                    assert!(
                        responder.take().is_none(),
                        "the responder is still there after its rejection"
                    );
                }
                _ => {
                    let taken = responder.take().expect("the request is not answered yet");
                    assert!(responder.take().is_none(), "it is taken");
                    responder.reply(0, b"second");
                    responder.reject("no");
                    taken.reply(0, b"first")?;
                }
            }
            Ok(())
        }));
        let mut raw = harness.dial(&server);
        raw.send(&hello(0, 1 << 20));
        assert_eq!(harness.read_frame(&mut raw).0, 4);
        for (kind, status) in [(1, 0), (2, 1), (3, 0)] {
            raw.send(&request(7, kind, b"?"));
            let answer = [&[7, 0, 0, 0, status, 0][..], b"first"].concat();
            assert_eq!(harness.read_frame(&mut raw), (9, answer), "of kind {kind}");
        }
        // A late answer would arrive before the answer to this request.
        raw.send(&request(8, 1, b"?"));
        assert_eq!(harness.read_frame(&mut raw).1[..4], [8, 0, 0, 0]);
        drop(raw);
        assert_eq!(harness.end(&server).panics, 0);
    });
}
