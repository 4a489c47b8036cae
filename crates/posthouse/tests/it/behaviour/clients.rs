//! The blocking client: its queue of received messages, and its end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use posthouse::{Client, ClientError, ConnectionOptions, EndpointOptions};

use crate::harness::{
    Harness, Options, PATIENCE, everywhere, in_simulation, on_real_sockets, target,
};
use crate::probe::Probe;
use crate::process::{Holdings, threads};

/// A time that no test waits for.
const NEVER_MS: u64 = 3_600_000;

/// A server that answers requests, and sends this number of messages to each peer that subscribes.
fn publishing(messages: u32) -> Probe {
    Probe::new()
        .forgetting_messages()
        .on_received(move |peer, _| {
            (0..messages).for_each(|number| peer.send(40, &number.to_le_bytes()));
            Ok(())
        })
        .on_requested(|_, message, responder| {
            responder.reply(0, message.payload());
            Ok(())
        })
}

/// Options of a server whose send queues have room for all that is published.
fn roomy(harness: &Harness<'_>) -> Options {
    harness.options().with(|o| o.connection.send_queue_bytes = 64 << 20)
}

/// Connects a client that has subscribed.
fn subscriber(harness: &Harness<'_>, server: &posthouse::Endpoint<Probe>) -> Client {
    let client = harness.client(server);
    client.send(0, b"subscribe").expect("there is room");
    client
}

fn expect_published(client: &Client, messages: u32) {
    for number in 0..messages {
        let message = client.receive(PATIENCE).expect("the message arrives");
        assert_eq!(message.payload, number.to_le_bytes());
    }
}

#[test]
fn an_answer_comes_through_a_queue_that_nobody_reads() {
    everywhere(|harness| {
        let server = harness.serve_with(publishing(5_000), roomy(harness));
        let client = subscriber(harness, &server);
        for round in 0..3 {
            let reply = client.request(41, b"question", PATIENCE);
            assert_eq!(reply.expect("a reply arrives").payload, b"question", "round {round}");
        }
        expect_published(&client, 5_000);
        let reply = client.request(41, b"again", PATIENCE).expect("a reply arrives");
        assert_eq!(reply.payload, b"again");
        client.close();
        harness.end(&server);
    });
}

#[test]
fn a_call_fails_at_once_behind_more_messages_than_the_queue_ever_holds() {
    everywhere(|harness| {
        let server = harness.serve_with(publishing(20_000), roomy(harness));
        let client = subscriber(harness, &server);
        for _ in 0..2 {
            let failed = client.request(41, b"question", Duration::from_millis(NEVER_MS));
            assert!(matches!(failed, Err(ClientError::ReceiveQueueFull)), "{failed:?}");
        }
        expect_published(&client, 20_000);
        client.request(41, b"question", PATIENCE).expect("a reply arrives");
        client.close();
        harness.end(&server);
    });
}

#[test]
fn one_thread_receives_while_another_requests() {
    on_real_sockets(|harness| {
        let server = harness.serve_with(publishing(100_000), roomy(harness));
        let client = subscriber(harness, &server);
        std::thread::scope(|scope| {
            scope.spawn(|| expect_published(&client, 100_000));
            for number in 0..200_u8 {
                let reply = client.request(41, &[number], PATIENCE).expect("a reply arrives");
                assert_eq!(reply.payload, [number]);
            }
        });
        client.close();
        harness.end(&server);
    });
}

/// Connects a client whose calls would wait for an hour.
fn patient(harness: &Harness<'_>, server: &posthouse::Endpoint<Probe>) -> Client {
    let options = ConnectionOptions::default().with_stall_timeout_ms(NEVER_MS);
    let target = target(server).options(options);
    harness.client_with(target, EndpointOptions::default()).expect("the client connects")
}

/// Neither side reads any more: the server because its echoes are not taken, the client because its
/// queue is full.
#[test]
fn sending_without_ever_receiving_fails_at_once_when_no_room_can_come() {
    everywhere(|harness| {
        let options = harness.options().with(|o| o.connection.stall_timeout_ms = NEVER_MS);
        let server = harness.serve_with(Probe::echo().forgetting_messages(), options);
        let client = patient(harness, &server);
        let payload = vec![7; 60_000];
        let mut sent = 0;
        let began = (!harness.is_real()).then(|| harness.world().now());
        let error = loop {
            match client.send(40, &payload) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 5_000, "300 MB are somewhere");
        };
        assert!(matches!(error, ClientError::ReceiveQueueFull), "{error}");
        if let Some(began) = began {
            let took = harness.world().now() - began;
            assert!(took < Duration::from_millis(NEVER_MS), "{took:?}");
        }
        for _ in 0..sent {
            assert!(client.receive(PATIENCE).expect("the echo arrives").payload == payload);
        }
        client.send(40, b"again").expect("there is room");
        assert_eq!(client.receive(PATIENCE).expect("the echo arrives").payload, b"again");
        client.close();
        harness.end(&server);
    });
}

/// Both threads receive, but not while they send: the one that waits is told when the other, too,
/// waits in a call.
#[test]
fn threads_that_send_and_receive_by_turns_never_wait_for_each_other() {
    on_real_sockets(|harness| {
        let options = harness.options().with(|o| o.connection.stall_timeout_ms = NEVER_MS);
        let server = harness.serve_with(Probe::echo().forgetting_messages(), options);
        let client = patient(harness, &server);
        let both_receive = std::sync::Barrier::new(2);
        let full = AtomicUsize::new(0);
        let received = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    client.send(40, &[0; 60_000]).expect("there is room");
                    client.receive(PATIENCE).expect("an echo arrives");
                    both_receive.wait();
                    for _ in 0..1_000 {
                        while let Err(error) = client.send(40, &[0; 60_000]) {
                            assert!(matches!(error, ClientError::ReceiveQueueFull), "{error}");
                            full.fetch_add(1, Ordering::Relaxed);
                            client.receive(PATIENCE).expect("an echo arrives");
                            received.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    while received.load(Ordering::Relaxed) < 2_000 {
                        match client.receive(Duration::from_millis(10)) {
                            Ok(_) => _ = received.fetch_add(1, Ordering::Relaxed),
                            Err(ClientError::TimedOut) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
        assert!(full.into_inner() > 0, "no queue was ever full");
        client.close();
        harness.end(&server);
    });
}

#[test]
fn a_client_that_cannot_connect_leaves_nothing() {
    if std::env::var_os("NEXTEST").is_none() {
        return; // other tests run in this process
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = closed.local_addr().expect("a bound socket");
    drop(closed);
    let held = || (threads(), Holdings::now());
    let attempt = || Client::connect(address).map(drop).expect_err("nobody listens there");
    attempt(); // the process has what the first endpoint leaves for the next ones
    let before = held();
    for _ in 0..10 {
        attempt();
        assert_eq!(held(), before);
    }
}

#[test]
fn closing_takes_no_longer_than_it_says() {
    in_simulation(|harness| {
        let listener = harness.world().serve("10.0.0.2:7").expect("a free address");
        listener.answer(posthouse::sim::RawStream::stop_reading);
        let target = posthouse::Target::new("10.0.0.2:7").framing(posthouse::Framing::Lines);
        let options = ConnectionOptions::default().with_close_timeout_ms(5_000);
        let target = target.options(options);
        let client = harness.client_with(target, EndpointOptions::default());
        let client = client.expect("the client connects");
        (0..10).for_each(|_| client.send(0, &[b'x'; 60_000]).expect("there is room"));
        let began = harness.world().now();
        client.close();
        let took = harness.world().now() - began;
        assert!(took < Duration::from_millis(6_000), "{took:?}");
    });
}
