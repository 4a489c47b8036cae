//! Connections that this side begins.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::{
    Close, ConnectError, ConnectionOptions, DisconnectKind, EndpointOptions, RunError, SendError,
    Target,
};

use crate::harness::{everywhere, in_simulation, on_real_sockets, target};
use crate::probe::{Line, Probe, Told};

fn to(text: &str) -> Target {
    Target::new(text)
}

#[test]
fn a_name_is_looked_up() {
    everywhere(|harness| {
        let address = if harness.is_real() { "127.0.0.1:0" } else { "127.0.0.1:9990" };
        let server = harness.start(harness.options().builder(Probe::echo(), address));
        let name = to(&format!("localhost:{}", server.addresses()[0].port()));
        // On some machines the name also has an IPv6 address, at which no program listens.
        let client = harness
            .client_with(name, EndpointOptions::default())
            .expect("localhost has an address");
        client.send(0, b"hello").expect("the connection is open");
        assert_eq!(
            client.receive(Duration::from_secs(30)).expect("a reply arrives").payload,
            b"hello"
        );
        client.close();
        harness.end(&server);
    });
}

#[test]
fn a_name_that_nobody_has_is_unreachable() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let endpoint = harness.client_side(probe);
        endpoint.connect(to("nowhere.example:1"), Line::default()).expect("no limit is reached");
        harness.wait_for("the end of the attempt", || seen.connect_failures().len() == 1);
        assert_eq!(seen.connect_failures()[0].kind(), DisconnectKind::Unreachable);
        harness.end(&endpoint);
    });
}

#[test]
fn a_refused_connection_is_told_once_as_unreachable() {
    everywhere(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let endpoint = harness.client_side(probe);
        let free = if harness.is_real() {
            let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            free.local_addr().expect("a bound socket").to_string()
        } else {
            "10.0.0.9:1".to_owned()
        };
        let id = endpoint.connect(to(&free), Line::default()).expect("no limit is reached");
        harness.wait_for("the end of the attempt", || seen.connect_failures().len() == 1);
        let why = seen.connect_failures()[0].clone();
        assert_eq!(why.kind(), DisconnectKind::Unreachable);
        assert!(why.to_string().contains("refused"), "{why}");
        harness.wait_for("the release of the slot", || endpoint.stats().connections == 0);
        assert_eq!(endpoint.send(id, 0, b""), Err(SendError::NotConnected));
        assert_eq!(endpoint.close(id, Close::abort()), Err(RunError::NotConnected));
        harness.end(&endpoint);
        assert_eq!(seen.told().len(), 1, "another callback ran");
    });
}

#[test]
fn a_connection_that_nobody_answers_times_out() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let options = ConnectionOptions::default().with_connect_timeout_ms(3_000);
        let endpoint = harness.client_side(probe);
        harness.world().blackhole("10.0.0.9:1");
        let to = to("10.0.0.9:1").options(options);
        endpoint.connect(to, Line::default()).expect("no limit is reached");
        harness.world().run_for(Duration::from_millis(2_900));
        assert!(seen.told().is_empty(), "the deadline acted too early");
        harness.world().run_for(Duration::from_millis(200));
        let why = seen.connect_failures();
        assert_eq!(why.len(), 1);
        assert!(why[0].to_string().contains("no answer in time"), "{}", why[0]);
        harness.end(&endpoint);
    });
}

/// A server that accepts connections and sends nothing, as a plain server does with a client that
/// sends a hello.
#[test]
fn a_hello_that_is_never_answered_times_out() {
    on_real_sockets(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let options = ConnectionOptions::default().with_connect_timeout_ms(200);
        let endpoint = harness.client_side(probe);
        let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = mute.local_addr().expect("a bound socket").to_string();
        let to = to(&address).options(options);
        endpoint.connect(to, Line::default()).expect("no limit is reached");
        harness.wait_for("the end of the attempt", || seen.connect_failures().len() == 1);
        let why = seen.connect_failures()[0].to_string();
        assert!(why.contains("no hello came in time") && why.contains("without_hello"), "{why}");
        harness.end(&endpoint);
        assert_eq!(seen.told().len(), 1);
    });
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let endpoint = harness.client_side(probe);
        let mute = harness.world().serve("10.0.0.9:1").expect("a free address");
        endpoint.connect(to("10.0.0.9:1"), Line::default()).expect("no limit is reached");
        let peer = harness.until("its peer", || mute.accept());
        harness.wait_for("the end of the attempt", || seen.connect_failures().len() == 1);
        harness.wait_for("the reset", || peer.is_reset());
        harness.end(&endpoint);
        assert_eq!(seen.told().len(), 1);
    });
}

#[test]
fn a_connection_that_is_being_made_can_be_given_up() {
    in_simulation(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let endpoint = harness.client_side(probe);
        harness.world().blackhole("10.0.0.9:1");
        for place in ["10.0.0.9:1", "a.name.example:1"] {
            let id = endpoint.connect(to(place), Line::default()).expect("no limit is reached");
            assert_eq!(
                endpoint.send(id, 0, b""),
                Err(SendError::NotConnected),
                "the connection is not established yet"
            );
            assert_eq!(endpoint.close(id, Close::graceful()), Ok(()));
        }
        harness.wait_for("the ends of both attempts", || seen.connect_failures().len() == 2);
        harness.end(&endpoint);
        assert_eq!(seen.told().len(), 2);
    });
}

#[test]
fn a_connection_is_not_begun_where_it_cannot_be() {
    everywhere(|harness| {
        let server = harness.serve(Probe::new());
        let options = harness.options().with(|o| o.endpoint.max_connections = 1);
        let endpoint = harness.client_side_with(Probe::new(), options);
        let long = target(&server).credential(vec![0; 1025]);
        assert_eq!(endpoint.connect(long, Line::default()), Err(ConnectError::CredentialTooLong));
        let most = target(&server).credential(vec![0; 1024]);
        assert!(endpoint.connect(most, Line::default()).is_ok());
        assert_eq!(endpoint.connect(target(&server), Line::default()), Err(ConnectError::TooMany));
        endpoint.shutdown(Duration::ZERO);
        harness.ended(&endpoint);
        assert_eq!(endpoint.connect(target(&server), Line::default()), Err(ConnectError::Shutdown));
        harness.end(&server);
    });
}

/// A server that greets at once sends its greeting before it has read the hello. The client keeps
/// the greeting until `connected` has found a connection with a hello.
#[test]
fn connected_comes_after_hello_even_where_the_server_greets_first() {
    everywhere(|harness| {
        let server = harness.serve(Probe::echo().on_connected(|peer| {
            peer.send(33, b"welcome");
            peer.send(34, b"to you");
            Ok(())
        }));
        let probe = Probe::new().on_connected(|peer| {
            assert!(peer.has_hello(), "C6: connected was called before the hello");
            peer.request(50, b"?", Duration::from_secs(30), |peer, reply| {
                peer.state_mut().count = reply.expect("an answer arrived").payload().len() as u64;
                peer.send(35, b"asked");
                Ok(())
            });
            Ok(())
        });
        let seen = probe.seen();
        let client = harness.client_side(probe);
        let id = client.connect(target(&server), Line::default()).expect("no limit is reached");
        harness.wait_for("the greeting and the echo", || seen.messages().len() == 3);
        let expected = [(33, &b"welcome"[..]), (34, b"to you"), (35, b"asked")];
        assert_eq!(seen.messages(), expected.map(|(kind, body)| (kind, body.to_vec())));
        assert_eq!(seen.told()[0], Told::Connected(id));
        assert_eq!(client.stats().panics, 0);
        harness.end(&client);
        harness.end(&server);
    });
}

#[test]
fn a_connections_state_is_there_and_knows_its_id_before_anything_happens() {
    everywhere(|harness| {
        let server = harness.serve(Probe::echo());
        let counts: Arc<Mutex<Vec<u64>>> = Arc::default();
        let kept = counts.clone();
        let probe = Probe::new().on_connected(move |peer| {
            kept.lock().unwrap().push(peer.state().count);
            Ok(())
        });
        let seen = probe.seen();
        let client = harness.client_side(probe);
        let given = Line { count: 7, ..Line::default() };
        client.connect(target(&server), given).expect("no limit is reached");
        harness.wait_for("the first connection", || seen.connected().len() == 1);
        let mut early = None;
        let made = client.connect_with(target(&server), |id| {
            // The connection cannot exist yet: no worker has started it.
            assert_eq!(client.send(id, 0, b""), Err(SendError::NotConnected));
            early = Some(id);
            Line { count: id.as_u64(), ..Line::default() }
        });
        let id = made.expect("no limit is reached");
        assert_eq!(early, Some(id));
        harness.wait_for("the second connection", || seen.connected().len() == 2);
        assert_eq!(seen.connected()[1], id);
        assert_eq!(*counts.lock().unwrap(), [7, id.as_u64()]);
        harness.end(&client);
        harness.end(&server);
    });
}

#[test]
fn a_panic_while_a_state_is_made_gives_the_slot_back() {
    everywhere(|harness| {
        let server = harness.serve(Probe::echo());
        let probe = Probe::new();
        let seen = probe.seen();
        let options = harness.options().with(|o| o.endpoint.max_connections = 1);
        let client = harness.client_side_with(probe, options);
        for _ in 0..3 {
            let panics = AssertUnwindSafe(|| {
                client.connect_with(target(&server), |_| panic!("panic while the state is created"))
            });
            assert!(catch_unwind(panics).is_err());
            assert_eq!(client.stats().connections, 0);
        }
        assert!(seen.told().is_empty());
        client.connect(target(&server), Line::default()).expect("no limit is reached");
        harness.wait_for("the connection", || seen.connected().len() == 1);
        harness.end(&client);
        harness.end(&server);
        assert_eq!(seen.told().len(), 2);
    });
}
