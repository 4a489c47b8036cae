//! Messages and their echoes.

use std::time::Duration;

use posthouse::{ClientError, ConnectionOptions, EndpointOptions, Target};

use crate::harness::{Harness, Options, everywhere, target};
use crate::probe::{Line, Probe};
use crate::raw::frame;

/// A payload in which a cut or a mixed-up piece is visible.
pub fn payload(number: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (number * 31 + at * 7 + at / 251) as u8).collect()
}

fn echo_options(harness: &Harness<'_>, max_frame: usize) -> Options {
    // The peer sends everything before it reads, so the queue must hold all echoes.
    let tuning = harness.options().tuning.with_queue_high_bytes(1 << 26);
    harness.options().with(|o| {
        o.connection.max_frame_bytes = max_frame;
        o.connection.send_queue_bytes = 1 << 26;
        o.tuning = tuning;
    })
}

/// Sends the messages in pieces of `cut` bytes, and expects their echoes.
fn echo(harness: &Harness<'_>, messages: &[(u8, Vec<u8>)], cut: usize, max_frame: usize) {
    let probe = Probe::echo();
    let seen = probe.seen();
    let server = harness.serve_with(probe, echo_options(harness, max_frame));
    let mut raw = harness.dial(&server);
    let stream: Vec<u8> = messages.iter().flat_map(|(kind, body)| frame(*kind, body)).collect();
    for piece in stream.chunks(cut) {
        raw.send(piece);
    }
    for (number, message) in messages.iter().enumerate() {
        let (kind, body) = harness.read_frame(&mut raw);
        assert_eq!(kind, message.0, "message {number}");
        assert!(body == message.1, "message {number} of {} bytes is another", message.1.len());
    }
    assert!(seen.messages() == messages, "the handler got different messages");
    drop(raw);
    harness.end(&server);
}

#[test]
fn messages_of_every_size_come_back_in_order() {
    everywhere(|harness| {
        let max = if harness.is_real() { 1 << 20 } else { 70_000 };
        let sizes = [0, 1, 2, 0, 250, 4_091, 16_384, 65_531, 65_536, 3, max, 0];
        let messages: Vec<_> =
            sizes.iter().enumerate().map(|(n, size)| (n as u8, payload(n, *size))).collect();
        echo(harness, &messages, usize::MAX, max);
    });
}

#[test]
fn the_largest_payload_of_the_protocol_passes() {
    crate::harness::on_real_sockets(|harness| {
        let largest = (1 << 24) - 2;
        echo(harness, &[(1, payload(1, largest)), (2, payload(2, 1))], usize::MAX, largest);
    });
}

#[test]
fn where_the_stream_is_cut_means_nothing() {
    everywhere(|harness| {
        let messages: Vec<_> = (0..40).map(|n| (n as u8, payload(n, n * n))).collect();
        for cut in [1, 2, 3, 5, 7, 64, 1000] {
            echo(harness, &messages, if harness.is_real() { cut } else { cut + 60 }, 1 << 20);
        }
    });
}

#[test]
fn all_kinds_of_a_plain_peer_are_the_applications() {
    everywhere(|harness| {
        let messages: Vec<_> = (0..=255).map(|kind| (kind, vec![kind])).collect();
        echo(harness, &messages, 1000, 1 << 20);
    });
}

#[test]
fn a_client_with_hello_has_all_kinds_but_the_protocols_own() {
    everywhere(|harness| {
        let server = harness.serve(Probe::echo());
        let client = harness.client(&server);
        for kind in (0..4).chain(32..=255) {
            client.send(kind, &[kind]).expect("the kind of an application can be sent");
        }
        for kind in (0..4).chain(32..=255) {
            let reply = client.receive(Duration::from_secs(30)).expect("a reply arrives");
            assert_eq!((reply.kind, reply.payload), (kind, vec![kind]));
        }
        for kind in 4..32 {
            client.send(kind, &[]).expect_err("one of the protocol's own");
        }
        assert!(
            client.request(7, b"?", Duration::from_secs(30)).is_ok(),
            "the connection is unusable"
        );
        client.close();
        harness.end(&server);
    });
}

#[test]
fn a_client_without_hello_has_all_kinds() {
    everywhere(|harness| {
        let server = harness.serve(Probe::echo());
        let plain = target(&server).without_hello();
        let client =
            harness.client_with(plain, EndpointOptions::default()).expect("the client connects");
        for kind in 0..=255 {
            client.send(kind, &[kind]).expect("every kind can be sent");
        }
        for kind in 0..=255 {
            let reply = client.receive(Duration::from_secs(30)).expect("a reply arrives");
            assert_eq!((reply.kind, reply.payload), (kind, vec![kind]));
        }
        client.close();
        harness.end(&server);
    });
}

/// A send waits if the queue has no room for it, until the queue has room.
#[test]
fn a_clients_send_waits_for_room() {
    everywhere(|harness| {
        let probe = Probe::new().forgetting_messages().on_received(|peer, _| {
            peer.state_mut().count += 1;
            if peer.state().count == 1 {
                peer.pause_reading();
                peer.after(Duration::from_millis(50), |peer| {
                    peer.resume_reading();
                    Ok(())
                })?;
            }
            if peer.state().count == 100 {
                peer.send(1, b"all");
            }
            Ok(())
        });
        let server = harness.serve(probe);
        // Each message is too large for the rest of the queue, and alone it is below the high mark.
        let options = ConnectionOptions::default().with_send_queue_bytes(210_000);
        let to = target(&server).options(options);
        let client =
            harness.client_with(to, EndpointOptions::default()).expect("the client connects");
        let size = if harness.is_real() { 150_000 } else { 120_000 };
        for _ in 0..100 {
            client.send(0, &vec![1; size]).expect("the server continues to read");
        }
        assert_eq!(
            client.receive(Duration::from_secs(30)).expect("a reply arrives").payload,
            b"all"
        );
        client.close();
        harness.end(&server);
    });
}

#[test]
fn one_endpoint_listens_on_several_addresses_and_connects_as_well() {
    everywhere(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let builder =
            harness.options().builder(probe, harness.address()).listen(harness.address6());
        let server = harness.start(builder);
        assert_eq!(server.addresses().len(), 2);
        for address in server.addresses() {
            let to = Target::new(address.to_string());
            let client =
                harness.client_with(to, EndpointOptions::default()).expect("the client connects");
            client.send(3, b"hello").expect("the connection is open");
            assert_eq!(
                client.receive(Duration::from_secs(30)).expect("a reply arrives").payload,
                b"hello"
            );
            client.close();
        }
        let itself = server.connect(target(&server), Line::default()).expect("no limit is reached");
        harness.wait_for("both connections", || seen.connected().len() == 4);
        assert!(server.peer(itself).expect("the connection is open").outgoing);
        assert_eq!(server.peers().iter().filter(|info| info.outgoing).count(), 1);
        harness.end(&server);
        seen.told();
    });
}

/// Messages that a server sent before its end are received before the end is reported, however
/// early the server ends.
#[test]
fn a_client_gets_what_came_before_the_end() {
    everywhere(|harness| {
        let probe = Probe::new().on_connected(|peer| {
            (0..10).for_each(|number| peer.send(40 + number, &[number; 100]));
            Err(posthouse::Close::graceful())
        });
        let options = harness.options().with(|o| o.connection.hello = posthouse::Hello::Required);
        let server = harness.serve_with(probe, options);
        for _ in 0..if harness.is_real() { 30 } else { 1 } {
            let client = harness.client(&server);
            for number in 0..10 {
                let message = client.receive(Duration::from_secs(30)).expect("the message arrives");
                assert_eq!((message.kind, message.payload), (40 + number, vec![number; 100]));
            }
            let end = client.receive(Duration::from_secs(30));
            assert!(matches!(end, Err(ClientError::Disconnected(_))), "{end:?}");
            client.close();
        }
        harness.end(&server);
    });
}

/// A client that reads slowly slows the server down, and loses nothing.
#[test]
fn a_client_whose_inbox_is_full_goes_on_where_it_stopped() {
    everywhere(|harness| {
        let messages = if harness.is_real() { 5_000 } else { 2_500 };
        let probe = Probe::new().forgetting_messages().on_received(move |peer, _| {
            (0..messages).for_each(|number: u32| peer.send(0, &number.to_le_bytes()));
            Ok(())
        });
        let server = harness.serve(probe);
        let client = harness.client(&server);
        client.send(0, b"go").expect("the connection is open");
        for number in 0..messages {
            if (512..515).contains(&number) {
                // At about this point the client makes a request, which is rejected.
                let endpoint = client.endpoint();
                let peer = client.peer();
                (0..70_000).all(|_| endpoint.run(peer, |_| Ok(())).is_ok());
            }
            let message = client.receive(Duration::from_secs(30)).expect("the message arrives");
            assert_eq!(message.payload, number.to_le_bytes());
        }
        client.close();
        harness.end(&server);
    });
}
