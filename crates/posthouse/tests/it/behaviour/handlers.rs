//! Several handlers on one endpoint, and handlers that lack a method.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::{
    Close, ConnectFailure, DisconnectKind, DisconnectReason, Endpoint, Fault, Framing, Handler,
    HandlerResult, Listener, ListenerHandle, Message, Peer, PeerId, RunError, StartError, Target,
};

use crate::harness::{Harness, everywhere, target};
use crate::log;
use crate::probe::{Line, Probe, Seen};
use crate::raw::{Raw, bye, frame, hello};

/// A handler that numbers the messages of each device and records its callbacks.
#[derive(Clone, Default)]
struct Devices(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    /// The peers that connected, each with its origin.
    connected: Vec<(PeerId, String)>,
    /// The final state of each connection.
    ended: Vec<u64>,
    failed: Vec<PeerId>,
}

impl Handler for Devices {
    type State = u64;

    fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        let group = peer.endpoint().group("all");
        peer.join(&group);
        self.0.lock().unwrap().connected.push((peer.id(), peer.origin().to_owned()));
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        *peer.state_mut() += 1;
        let number = peer.state().to_string();
        peer.send(0, &[number.as_bytes(), message.payload()].concat());
        Ok(())
    }

    fn disconnected(&self, peer: &mut Peer<'_, Self>, _: &DisconnectReason) {
        self.0.lock().unwrap().ended.push(*peer.state());
    }

    fn connect_failed(&self, _: &Endpoint<Self>, failure: &ConnectFailure) {
        self.0.lock().unwrap().failed.push(failure.id());
    }
}

/// An operator on a native listener, and a device on a listener with a length field.
struct Both {
    operators: Endpoint<Probe>,
    devices: Endpoint<Devices>,
    listener: ListenerHandle,
    seen: Seen,
    told: Devices,
    origins: Arc<Mutex<Vec<String>>>,
    operator: (PeerId, Raw),
    device: (PeerId, Raw),
}

fn length_field() -> Framing {
    "length:width=2".parse().expect("a framing")
}

fn both(harness: &Harness<'_>) -> Both {
    let origins: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = origins.clone();
    let probe = Probe::echo().on_connected(move |peer| {
        kept.lock().unwrap().push(peer.origin().to_owned());
        let group = peer.endpoint().group("all");
        peer.join(&group);
        Ok(())
    });
    let seen = probe.seen();
    let told = Devices::default();
    let native = Listener::new(harness.address_of(1)).name("operators");
    let operators = harness.start(harness.options().builder(probe, native));
    let devices = operators.attach(told.clone()).expect("the call succeeds");
    let listener = Listener::new(harness.address_of(2)).framing(length_field()).name("devices");
    let listener = devices.listen(listener).expect("a free address");
    let operator = harness.dial(&operators);
    let device = harness.dial_at(listener.local_address());
    let up = || told.0.lock().unwrap().connected.first().map(|(id, _)| *id);
    let device = (harness.until("the device", up), device);
    let operator = (harness.until("the operator", || seen.connected().first().copied()), operator);
    harness.wait_for("the members", || operators.group("all").len() == 2);
    Both { operators, devices, listener, seen, told, origins, operator, device }
}

#[test]
fn each_peer_has_the_handler_and_the_framing_of_its_listener() {
    everywhere(|harness| {
        let mut both = both(harness);
        for number in [b'1', b'2'] {
            both.device.1.send(b"\0\x02hi");
            assert_eq!(harness.read(&mut both.device.1, 5), [0, 3, number, b'h', b'i']);
            both.operator.1.send(&frame(40, b"hi"));
            assert_eq!(harness.read_frame(&mut both.operator.1), (40, b"hi".to_vec()));
        }
        assert_eq!(*both.origins.lock().unwrap(), ["operators"]);
        assert_eq!(both.told.0.lock().unwrap().connected[0].1, "devices");
        assert_eq!(both.seen.messages().len(), 2, "messages of other peers");
        drop((both.operator, both.device));
        harness.wait_for("the ends of both connections", || both.devices.count() == 0);
        assert_eq!(
            both.told.0.lock().unwrap().ended,
            [2],
            "the final state belongs to another connection"
        );
        assert_eq!(both.seen.ends().len(), 1);
        harness.end(&both.operators);
    });
}

#[test]
fn groups_figures_and_the_end_are_of_the_whole_endpoint() {
    everywhere(|harness| {
        let mut both = both(harness);
        both.operators.group("all").send(0, b"to all").expect("no limit is reached");
        both.devices.group("all").send(0, b"again").expect("no limit is reached");
        both.devices
            .everyone()
            .send_except(both.device.0, 0, b"not you")
            .expect("there is room for it");
        assert_eq!(harness.read(&mut both.device.1, 15), b"\0\x06to all\0\x05again");
        for expected in [&b"to all"[..], b"again", b"not you"] {
            assert_eq!(harness.read_frame(&mut both.operator.1), (0, expected.to_vec()));
        }
        assert!(both.device.1.received().is_empty());
        for stats in [both.operators.stats(), both.devices.stats()] {
            assert_eq!((stats.connections, stats.accepted, stats.connected), (2, 2, 2));
        }
        for infos in [both.operators.peers(), both.devices.peers()] {
            let mut ids: Vec<PeerId> = infos.iter().map(|info| info.id).collect();
            let mut expected = [both.operator.0, both.device.0];
            ids.sort();
            expected.sort();
            assert_eq!(ids, expected);
        }
        assert_eq!(both.operators.addresses(), both.devices.addresses());
        assert!(both.operators.addresses().contains(&both.listener.local_address()));
        both.devices.shutdown(Duration::from_secs(1));
        harness.wait_for_end(&mut both.operator.1);
        harness.wait_for_end(&mut both.device.1);
        drop((both.operator.1, both.device.1));
        harness.ended(&both.operators);
        assert!(both.devices.has_ended());
        assert!(matches!(both.operators.attach(Probe::new()), Err(StartError::Shutdown)));
    });
}

#[test]
fn a_peer_of_another_handler_can_be_sent_to_and_closed_and_runs_nothing() {
    everywhere(|harness| {
        let mut both = both(harness);
        both.operators.send(both.device.0, 0, b"hi").expect("the connection is open");
        assert_eq!(harness.read(&mut both.device.1, 4), b"\0\x02hi");
        both.devices.send(both.operator.0, 41, b"hi").expect("the connection is open");
        assert_eq!(harness.read_frame(&mut both.operator.1), (41, b"hi".to_vec()));
        let wrong =
            both.operators.run(both.device.0, |_| panic!("the closure ran for another handler"));
        assert_eq!(wrong, Err(RunError::WrongHandler));
        let wrong =
            both.devices.run(both.operator.0, |_| panic!("the closure ran for another handler"));
        assert_eq!(wrong, Err(RunError::WrongHandler));
        let mine = both.devices.run(both.device.0, |peer| {
            *peer.state_mut() = 8;
            peer.send(0, b"set");
            Ok(())
        });
        assert_eq!(mine, Ok(()));
        assert_eq!(harness.read(&mut both.device.1, 5), b"\0\x03set");
        both.device.1.send(b"\0\0");
        assert_eq!(harness.read(&mut both.device.1, 3), b"\0\x019");
        assert_eq!(both.devices.close(both.operator.0, Close::graceful()), Ok(()));
        harness.wait_for_end(&mut both.operator.1);
        assert_eq!(both.operators.close(both.device.0, Close::graceful()), Ok(()));
        harness.wait_for_end(&mut both.device.1);
        drop((both.operator.1, both.device.1));
        harness.wait_for("the ends of both connections", || both.operators.count() == 0);
        let gone = both.operators.run(both.device.0, |_| Ok(()));
        assert_eq!(
            gone,
            Err(RunError::NotConnected),
            "the error reveals the handler of a gone connection"
        );
        assert_eq!(harness.end(&both.operators).panics, 0);
    });
}

#[test]
fn a_connection_has_the_handler_of_the_view_that_began_it() {
    everywhere(|harness| {
        let both = both(harness);
        let to = Target::new(both.listener.local_address()).framing(length_field());
        let id = both.devices.connect(to.name("uplink"), 70).expect("no limit is reached");
        harness.wait_for("both connections", || both.told.0.lock().unwrap().connected.len() == 3);
        let told = both.told.0.lock().unwrap().connected.clone();
        let mine: Vec<&str> =
            told.iter().filter(|(it, _)| *it == id).map(|(_, origin)| &**origin).collect();
        assert_eq!(mine, ["uplink"]);
        let nowhere = if harness.is_real() { "127.0.0.1:1" } else { "10.0.0.9:1" };
        let id = both.devices.connect(nowhere, 0).expect("no limit is reached");
        harness.wait_for("the end of the attempt", || both.told.0.lock().unwrap().failed == [id]);
        both.operators.connect(nowhere, Line::default()).expect("no limit is reached");
        harness.wait_for("the end of the attempt", || both.seen.connect_failures().len() == 1);
        assert_eq!(both.told.0.lock().unwrap().failed, [id]);
        drop((both.operator, both.device));
        harness.end(&both.operators);
        assert!(
            both.told.0.lock().unwrap().ended.contains(&70),
            "with the state that it was given"
        );
    });
}

#[test]
fn an_endpoint_runs_as_long_as_any_view_of_it() {
    everywhere(|harness| {
        let mut both = both(harness);
        drop(both.operators);
        both.operator.1.send(&frame(40, b"still here"));
        assert_eq!(harness.read_frame(&mut both.operator.1), (40, b"still here".to_vec()));
        both.device.1.send(b"\0\0");
        assert_eq!(harness.read(&mut both.device.1, 3), b"\0\x011");
        // Neither the group nor the listener keeps the endpoint running.
        let held = (both.devices.group("all"), both.listener);
        drop(both.devices);
        harness.wait_for_end(&mut both.operator.1);
        harness.wait_for_end(&mut both.device.1);
        drop((both.operator, both.device, held));
        harness.wait_for("the ends of both connections", || both.seen.ends().len() == 1);
        harness.wait_for("the release of the handler", || Arc::strong_count(&both.told.0) == 1);
    });
}

/// A handler whose only method is `disconnected`.
#[derive(Default)]
struct Deaf(Mutex<Vec<DisconnectReason>>);

impl Handler for Deaf {
    type State = ();

    fn disconnected(&self, _: &mut Peer<'_, Self>, why: &DisconnectReason) {
        self.0.lock().unwrap().push(why.clone());
    }
}

#[test]
fn a_message_for_a_handler_without_received_closes_its_connection_only() {
    log::keep();
    everywhere(|harness| {
        log::clear();
        let server = harness.serve(Deaf::default());
        let mut quiet = harness.dial(&server);
        quiet.send(&hello(0, 1 << 20));
        assert_eq!(harness.read_frame(&mut quiet).0, 4);
        let up = || server.peers().first().map(|info| info.id);
        let id = harness.until("the quiet one", up);
        for number in 1..=2 {
            let mut loud = harness.dial(&server);
            loud.send(&hello(0, 1 << 20));
            loud.send(&frame(40, b"hello"));
            assert_eq!(harness.read_frame(&mut loud).0, 4);
            let (kind, body) = harness.read_frame(&mut loud);
            assert_eq!((kind, bye(&body)), (5, (8, "internal error".to_owned())));
            harness.wait_for_end(&mut loud);
            drop(loud);
            harness.wait_for("the end of the connection", || {
                server.handler().0.lock().unwrap().len() == number
            });
            let why = server.handler().0.lock().unwrap()[number - 1].clone();
            assert_eq!((why.kind(), why.fault()), (DisconnectKind::Closed, Fault::Local));
            assert!(why.to_string().contains("`received`"), "{why}");
        }
        let lines = log::lines("does not implement this method");
        assert!(lines.len() == 1 && lines[0].contains("ERROR"), "expected one line: {lines:?}");
        server.send(id, 40, b"you stay").expect("the connection is open");
        assert_eq!(harness.read_frame(&mut quiet), (40, b"you stay".to_vec()));
        drop(quiet);
        let stats = harness.end(&server);
        assert_eq!((stats.panics, stats.peer_faults), (0, 0));
    });
}

/// A handler without any method rejects each request.
#[test]
fn a_handler_without_methods_rejects_requests() {
    everywhere(|harness| {
        let server = harness.serve(Deaf::default());
        let client = harness
            .client_with(target(&server), harness.options().endpoint)
            .expect("the connection is open");
        for _ in 0..2 {
            let answer = client.request(40, b"?", Duration::from_secs(30));
            let text = answer.expect_err("nobody answers").to_string();
            assert!(text.contains("requests are not answered here"), "{text}");
        }
        client.close();
        harness.end(&server);
    });
}
