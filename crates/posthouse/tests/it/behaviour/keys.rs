//! The proof of a key: nothing reaches the handler before it.

use std::time::Duration;

use posthouse::{ClientError, DisconnectKind, Endpoint, EndpointOptions, Key, Listener};

use crate::harness::{Harness, everywhere, in_simulation, target};
use crate::probe::{Line, Probe, Seen};
use crate::raw::{bye, frame, hello};

fn key(text: &[u8]) -> Key {
    Key::new(text).expect("a long enough key")
}

const RIGHT: &[u8] = b"0123456789abcdef";

fn guarded(harness: &Harness<'_>) -> (Endpoint<Probe>, Seen) {
    let probe = Probe::echo();
    let seen = probe.seen();
    let listener = Listener::new(harness.address()).key(key(RIGHT));
    (harness.start(harness.options().builder(probe, listener)), seen)
}

#[test]
fn the_right_key_opens() {
    everywhere(|harness| {
        let (server, seen) = guarded(harness);
        let to = target(&server).key(key(RIGHT)).credential(&b"device 7"[..]);
        let client =
            harness.client_with(to, EndpointOptions::default()).expect("the client is admitted");
        client.send(40, b"hello").expect("the connection is open");
        assert_eq!(
            client.receive(Duration::from_secs(30)).expect("a reply arrives").payload,
            b"hello"
        );
        assert_eq!(seen.connected().len(), 1);
        client.close();
        harness.end(&server);
    });
}

#[test]
fn a_wrong_key_a_missing_one_and_one_too_many_are_refused() {
    everywhere(|harness| {
        let (server, seen) = guarded(harness);
        let open = Probe::echo();
        let open_seen = open.seen();
        let other = if harness.is_real() { "127.0.0.1:0" } else { "10.0.0.2:9990" };
        let open = harness.start(harness.options().builder(open, other));
        let cases = [
            ("wrong", target(&server).key(key(b"0123456789abcdeX"))),
            ("missing", target(&server)),
            ("one too many", target(&open).key(key(RIGHT))),
            ("without hello", target(&server).without_hello()),
        ];
        for (what, to) in cases {
            let client = match harness.client_with(to, EndpointOptions::default()) {
                Err(ClientError::ConnectFailed(_)) => continue,
                Err(other) => panic!("{what}: {other:?}"),
                Ok(client) => client,
            };
            assert_eq!(what, "without hello", "a client with a hello did not wait for its answer");
            // This send fails if the rejection has already arrived.
            let _ = client.send(40, b"hello");
            let answer = client.receive(Duration::from_secs(30));
            assert!(matches!(answer, Err(ClientError::Disconnected(_))), "{what}: {answer:?}");
        }
        harness.wait_for("the ends of all connections", || server.stats().connections == 0);
        assert!(seen.told().is_empty(), "nothing reaches the handler: {:?}", seen.told());
        harness.wait_for("the ends of all connections", || open.stats().connections == 0);
        assert!(open_seen.messages().is_empty());
        harness.end(&open);
        harness.end(&server);
    });
}

#[test]
fn a_wrong_proof_is_told_so_and_a_message_before_it_is_out_of_state() {
    everywhere(|harness| {
        let (server, seen) = guarded(harness);
        let cases = [(frame(6, &[1; 32]), 5), (frame(6, &[1; 31]), 5), (frame(40, b"early"), 3)];
        for (bytes, code) in cases {
            let mut raw = harness.dial(&server);
            raw.send(&hello(0, 1 << 20));
            let (kind, answer) = harness.read_frame(&mut raw);
            assert_eq!((kind, answer[38]), (4, 0x81), "the answer demands no proof");
            raw.send(&bytes);
            let (kind, body) = harness.read_frame(&mut raw);
            assert_eq!((kind, bye(&body).0), (5, code));
            harness.wait_for_end(&mut raw);
        }
        let mut plain = harness.dial(&server);
        plain.send(&frame(40, b"no hello"));
        harness.wait_for_end(&mut plain);
        assert!(plain.received().is_empty(), "a bye was sent to a plain peer");
        drop(plain);
        harness.wait_for("the ends of all connections", || server.stats().connections == 0);
        assert!(seen.told().is_empty(), "nothing reaches the handler: {:?}", seen.told());
        assert_eq!(server.stats().peer_faults, 4);
        harness.end(&server);
    });
}

#[test]
fn a_proof_that_never_comes_is_not_waited_for() {
    in_simulation(|harness| {
        let (server, seen) = guarded(harness);
        let mut mute = harness.dial(&server);
        let mut half = harness.dial(&server);
        half.send(&hello(0, 1 << 20));
        let since = harness.world().now();
        harness.wait_for_end(&mut mute);
        harness.wait_for_end(&mut half);
        assert!(harness.world().now() - since < Duration::from_secs(6));
        drop((mute, half));
        harness.wait_for("the ends of both connections", || server.stats().connections == 0);
        assert!(seen.told().is_empty());
        harness.end(&server);
    });
}

#[test]
fn a_required_hello_is_required() {
    everywhere(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let options = harness.options().with(|o| o.connection.hello = posthouse::Hello::Required);
        let server = harness.serve_with(probe, options);
        let mut plain = harness.dial(&server);
        plain.send(&frame(40, b"no hello"));
        harness.wait_for_end(&mut plain);
        drop(plain);
        assert!(seen.told().is_empty());
        let client = harness.client(&server);
        client.send(40, b"hello").expect("the connection is open");
        assert_eq!(
            client.receive(Duration::from_secs(30)).expect("a reply arrives").payload,
            b"hello"
        );
        client.close();
        harness.end(&server);
    });
}

#[test]
fn the_credential_reaches_the_servers_handler() {
    everywhere(|harness| {
        let probe = Probe::new().on_received(|peer, message| {
            let credential = peer.credential().to_vec();
            peer.send(message.kind(), &credential);
            Ok(())
        });
        let server = harness.serve(probe);
        for credential in [&b""[..], b"device 7", &[0xff; 1024]] {
            let to = target(&server).credential(credential);
            let client =
                harness.client_with(to, EndpointOptions::default()).expect("the client connects");
            client.send(40, b"who am I?").expect("the connection is open");
            let reply = client.receive(Duration::from_secs(30)).expect("a reply arrives");
            assert_eq!(reply.payload, credential);
            client.close();
        }
        harness.end(&server);
    });
}

#[test]
fn a_refused_proof_is_the_peers_fault() {
    everywhere(|harness| {
        let (server, _) = guarded(harness);
        let probe = Probe::new();
        let seen = probe.seen();
        let client = harness.client_side(probe);
        client
            .connect(target(&server).key(key(b"another key, wrong")), Line::default())
            .expect("no limit is reached");
        harness.wait_for("the end of the attempt", || seen.connect_failures().len() == 1);
        let why = seen.connect_failures()[0].clone();
        assert_eq!(why.kind(), DisconnectKind::Ended, "{why}");
        assert!(why.to_string().contains("code 5"), "{why}");
        harness.end(&client);
        harness.end(&server);
    });
}
