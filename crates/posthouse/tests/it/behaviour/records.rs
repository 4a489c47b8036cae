//! The interface for encryption, with a record layer that cuts the stream at random.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::record_layer::{CutRecords, Opened, RecordError, RecordLayer};
use posthouse::{
    Close, ConnectionOptions, DisconnectKind, EndpointOptions, Framing, Listener, Peer, Target,
};

use crate::harness::{Harness, PATIENCE, everywhere, target};
use crate::probe::{Line, Probe};
use crate::raw::{hello, request};

fn layer() -> Box<dyn RecordLayer> {
    Box::new(CutRecords::new(0x9e37_79b9))
}

fn listener(harness: &Harness<'_>, framing: Framing) -> Listener {
    Listener::new(harness.address()).framing(framing).record_layer(layer)
}

/// Messages of every size, up to the size of several sends.
fn payload(number: usize) -> Vec<u8> {
    let bytes = [0, 1, 5, 700, 1500, 16_384, 40_000, 150_000][number % 8] + number;
    (0..bytes).map(|at| (at * 31 + number) as u8).collect()
}

#[test]
fn messages_pass_through_records_whole_and_in_order() {
    everywhere(|harness| {
        let server = harness.serve_at(Probe::echo(), listener(harness, Framing::Native));
        let target = target(&server).record_layer(layer);
        let client =
            harness.client_with(target, EndpointOptions::default()).expect("the client connects");
        for round in 0..4 {
            let numbers = || round * 8..(round + 1) * 8;
            for number in numbers() {
                client.send(40, &payload(number)).expect("the connection is open");
            }
            for number in numbers() {
                let reply = client.receive(PATIENCE).expect("a reply arrives");
                assert_eq!(reply.kind, 40);
                assert!(
                    reply.payload == payload(number),
                    "the payload of message {number} differs"
                );
            }
        }
        let reply = client.request(41, &payload(7), PATIENCE).expect("a reply arrives");
        assert!(reply.payload == payload(7), "the payload of the reply differs");
        client.close();
        harness.wait_for("the end of the connection", || server.stats().connections == 0);
        harness.end(&server);
    });
}

#[test]
fn what_is_queued_leaves_in_records_before_a_graceful_end() {
    everywhere(|harness| {
        let server = Probe::new().on_connected(|peer| {
            (0..8).for_each(|number| peer.send(0, &payload(number)));
            Err(Close::graceful())
        });
        let framing: Framing = "length:width=4".parse().expect("a framing");
        let server = harness.serve_at(server, listener(harness, framing.clone()));
        let probe = Probe::new();
        let seen = probe.seen();
        let client = harness.client_side(probe);
        let to = target(&server).framing(framing).record_layer(layer);
        client.connect(to, Line::default()).expect("no limit is reached");
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::Ended);
        let payloads: Vec<_> = seen.messages().into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(payloads.len(), 8, "{:?}", seen.ends());
        assert!((0..8).map(payload).eq(payloads), "other payloads");
        harness.end(&client);
        harness.end(&server);
    });
}

#[test]
fn a_peer_that_sends_no_records_is_closed_and_one_that_says_nothing_expires() {
    everywhere(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let options = ConnectionOptions::default().with_close_timeout_ms(500);
        let listener = listener(harness, Framing::Lines);
        let builder = harness.options().with(|it| it.connection = options);
        let server = harness.start(builder.builder(probe, listener));
        let mut plain = harness.dial(&server);
        plain.send(b"\x04\x00\x09abcd.");
        harness.wait_for_end(&mut plain);
        let mut silent = harness.dial(&server);
        harness.wait_for_end(&mut silent);
        assert!(seen.told().is_empty(), "a callback ran for them");
        harness.end(&server);
    });
}

#[test]
fn a_target_that_speaks_no_records_is_unreachable() {
    everywhere(|harness| {
        let server = harness.serve_at(Probe::echo(), Listener::new(harness.address()));
        let probe = Probe::new();
        let seen = probe.seen();
        let client = harness.client_side(probe);
        let options = ConnectionOptions::default().with_connect_timeout_ms(1_000);
        let to: Target = target(&server).record_layer(layer).options(options);
        client.connect(to, Line::default()).expect("no limit is reached");
        harness.wait_for("the end of the attempt", || seen.connect_failures().len() == 1);
        harness.end(&client);
        harness.end(&server);
    });
}

/// The other end of a stream of records, for a raw peer.
struct RawRecords(CutRecords);

impl RawRecords {
    fn greeting() -> (Self, Vec<u8>) {
        let mut layer = CutRecords::new(1);
        let mut greeting = Vec::new();
        layer.take_output(&mut greeting);
        // The layer answers and accepts any greeting, also its own.
        layer.open(&mut greeting.clone()).expect("a hello");
        let hello_bytes = greeting.len();
        layer.take_output(&mut greeting);
        layer.open(&mut greeting.clone()[hello_bytes..]).expect("a welcome");
        (Self(layer), greeting)
    }

    fn seal(&mut self, mut plain: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        while !plain.is_empty() {
            let taken = self.0.seal(plain, &mut records).expect("the layer is ready");
            plain = &plain[taken..];
        }
        records
    }

    fn end(&mut self) -> Vec<u8> {
        let mut last = Vec::new();
        self.0.end();
        self.0.take_output(&mut last);
        last
    }
}

/// A peer ends its stream while its request is still unanswered. The connection stays open until
/// the answer, and could still read.
#[test]
fn nothing_counts_that_follows_the_last_record() {
    everywhere(|harness| {
        let probe = Probe::new().on_requested(|peer, _, responder| {
            peer.state_mut().responders.extend(responder.take());
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve_at(probe, listener(harness, Framing::Native));
        let (mut records, mut stream) = RawRecords::greeting();
        stream.extend(records.seal(&hello(0, 1 << 20)));
        stream.extend(records.seal(&request(1, 40, b"?")));
        stream.extend(records.end());
        let mut raw = harness.dial(&server);
        raw.send(&stream);
        harness.wait_for("the request", || seen.messages().len() == 1);
        let before = server.peers()[0].bytes_received;
        raw.send(b"\x04\x00\x09abcd.");
        harness.wait_for("the rest", || {
            server.peers().first().is_none_or(|info| info.bytes_received > before)
        });
        let id = server.peers()[0].id;
        let answer = |peer: &mut Peer<'_, Probe>| {
            let responder = peer.state_mut().responders.pop().expect("the responder was kept");
            responder.reply(40, b"!")?;
            Ok(())
        };
        server.run(id, answer).expect("the connection is open");
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::Ended);
        harness.end(&server);
    });
}

/// A layer whose handshake succeeds, and which cannot seal anything.
struct Broken(CutRecords);

impl RecordLayer for Broken {
    fn open(&mut self, records: &mut [u8]) -> Result<Opened, RecordError> {
        self.0.open(records)
    }

    fn seal(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<usize, RecordError> {
        Err(RecordError("out of keys".into()))
    }

    fn has_output(&self) -> bool {
        self.0.has_output()
    }

    fn take_output(&mut self, records: &mut Vec<u8>) {
        self.0.take_output(records);
    }

    fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    fn end(&mut self) {
        self.0.end();
    }
}

#[test]
fn a_layer_that_cannot_seal_ends_the_connection_and_says_why() {
    everywhere(|harness| {
        let age: Arc<Mutex<Duration>> = Arc::default();
        let kept = age.clone();
        let probe = Probe::new()
            .on_connected(|peer| {
                peer.send(0, b"welcome");
                Ok(())
            })
            .on_disconnected(move |peer, _| {
                *kept.lock().unwrap() = peer.info().expect("the connection was open").age;
            });
        let seen = probe.seen();
        let broken = || -> Box<dyn RecordLayer> { Box::new(Broken(CutRecords::new(3))) };
        let listener =
            Listener::new(harness.address()).framing(Framing::Lines).record_layer(broken);
        let server = harness.serve_at(probe, listener);
        let mut raw = harness.dial(&server);
        raw.send(&RawRecords::greeting().1);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        let why = seen.ends()[0].clone();
        assert!(why.to_string().contains("out of keys"), "{why}");
        // The connection ends at once, not at its next deadline. Only virtual time can be compared.
        let age = *age.lock().unwrap();
        assert!(harness.is_real() || age < Duration::from_secs(2), "{age:?}");
        harness.wait_for("the release of the slot", || server.stats().connections == 0);
        drop(raw);
        harness.end(&server);
    });
}
