//! Listeners that are added and removed while the endpoint runs.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::{
    Address, ConnectionOptions, Endpoint, Framing, Key, ListenError, Listener, ListenerHandle,
};

use crate::harness::{Harness, everywhere, has_ipv6, in_simulation, on_real_sockets};
use crate::probe::Probe;
use crate::raw::{Raw, frame};

type Check = fn(&ListenError) -> bool;

fn echoes(harness: &Harness<'_>, raw: &mut Raw) {
    raw.send(&frame(40, b"hello"));
    assert_eq!(harness.read_frame(raw), (40, b"hello".to_vec()));
}

/// Checks that an honest peer is served at the address.
fn serves_at(harness: &Harness<'_>, address: Address) {
    echoes(harness, &mut harness.dial_at(address));
}

/// Waits until no program listens at the address.
fn wait_for_refusal(harness: &Harness<'_>, address: Address) {
    if harness.is_real() {
        let refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
        harness.wait_for("a refusal", || {
            TcpStream::connect(address.socket_addr()).is_err_and(refused)
        });
    } else {
        harness.wait_for_end(&mut harness.dial_at(address));
    }
}

#[test]
fn listening_begins_at_any_time_from_any_thread() {
    everywhere(|harness| {
        let server = harness.client_side(Probe::echo());
        assert!(server.addresses().is_empty());
        let first = server.listen(harness.address_of(1)).expect("a free address");
        assert_eq!(server.addresses(), [first.local_address()]);
        serves_at(harness, first.local_address());
        let listen = |n| server.listen(harness.address_of(n)).expect("a free address");
        let handles: Vec<ListenerHandle> = if harness.is_real() {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (2..6).map(|n| scope.spawn(move || listen(n))).collect();
                threads.into_iter().map(|t| t.join().expect("no thread panicked")).collect()
            })
        } else {
            (2..6).map(listen).collect()
        };
        for handle in &handles {
            serves_at(harness, handle.local_address());
            assert!(server.addresses().contains(&handle.local_address()));
        }
        assert_eq!(server.addresses().len(), 5);
        drop((first, handles));
        let address = server.addresses()[0];
        serves_at(harness, address);
        assert_eq!(harness.end(&server).accepted, 6, "a dropped handle stops nothing");
        assert!(server.addresses().is_empty());
    });
}

/// Starts a server that adds and removes listeners on request, in the callback of the requesting
/// message.
fn commanded(harness: &Harness<'_>, kept: &Arc<Mutex<Vec<ListenerHandle>>>) -> Endpoint<Probe> {
    let kept = kept.clone();
    let address = harness.address_of(7);
    harness.serve(Probe::new().on_received(move |peer, message| {
        match message.payload() {
            b"listen" => kept.lock().unwrap().push(peer.endpoint().listen(&address)?),
            b"stop" => kept.lock().unwrap().drain(..).for_each(|handle| handle.stop()),
            b"name" => {
                let error = peer.endpoint().listen("localhost:0").expect_err("it would wait");
                assert!(matches!(error, ListenError::WouldBlock), "{error}");
            }
            _ => {}
        }
        peer.send(message.kind(), message.payload());
        Ok(())
    }))
}

#[test]
fn a_callback_listens_and_stops_and_cannot_wait_for_a_name() {
    everywhere(|harness| {
        let kept: Arc<Mutex<Vec<ListenerHandle>>> = Arc::default();
        let server = commanded(harness, &kept);
        let mut raw = harness.dial(&server);
        let command = |raw: &mut Raw, word: &[u8]| {
            raw.send(&frame(41, word));
            assert_eq!(harness.read_frame(raw), (41, word.to_vec()));
        };
        command(&mut raw, b"listen");
        let address = kept.lock().unwrap()[0].local_address();
        serves_at(harness, address);
        command(&mut raw, b"name");
        command(&mut raw, b"stop");
        wait_for_refusal(harness, address);
        echoes(harness, &mut raw);
        drop(raw);
        assert_eq!(harness.end(&server).panics, 0);
    });
}

#[test]
fn a_stopped_listener_takes_nobody_and_its_connections_go_on() {
    everywhere(|harness| {
        let server = harness.client_side(Probe::echo());
        let other = server.listen(harness.address_of(2)).expect("a free address");
        let handle = server.listen(harness.address_of(1)).expect("a free address");
        let address = handle.local_address();
        let mut raw = harness.dial_at(address);
        echoes(harness, &mut raw);
        handle.stop();
        handle.stop();
        wait_for_refusal(harness, address);
        assert_eq!(server.addresses(), [other.local_address()]);
        assert_eq!(server.stats().accepted, 1);
        echoes(harness, &mut raw);
        serves_at(harness, other.local_address());
        if cfg!(windows) {
            // On Windows an address is in use as long as a connection has it.
            drop(raw);
            harness.wait_for("the end of the connection", || server.stats().connections == 0);
            raw = harness.dial_at(other.local_address());
        }
        let again = harness.until("the same port", || server.listen(address).ok());
        assert_eq!(again.local_address(), address);
        serves_at(harness, address);
        echoes(harness, &mut raw);
        drop(raw);
        harness.end(&server);
        // Stopping a removed listener has no effect.
        handle.stop();
        again.stop();
    });
}

#[test]
fn a_handle_stops_its_own_listener_and_none_that_came_after_it() {
    everywhere(|harness| {
        let server = harness.client_side(Probe::echo());
        let mut old: Vec<ListenerHandle> = Vec::new();
        for round in 1..4 {
            let handle = server.listen(harness.address_of(round)).expect("a free address");
            old.iter().for_each(ListenerHandle::stop);
            serves_at(harness, handle.local_address());
            assert_eq!(server.addresses(), [handle.local_address()]);
            old.push(handle.clone());
            handle.stop();
            wait_for_refusal(harness, handle.local_address());
            assert!(server.addresses().is_empty());
        }
        // A listener can also be stopped before any worker has seen it.
        let unseen = server.listen(harness.address_of(4)).expect("a free address");
        unseen.stop();
        let next = server.listen(harness.address_of(5)).expect("a free address");
        unseen.stop();
        serves_at(harness, next.local_address());
        harness.end(&server);
    });
}

#[test]
fn a_listener_is_given_by_name() {
    everywhere(|harness| {
        let name = if harness.is_real() { "localhost:0" } else { "localhost:9990" };
        let server = harness.serve_at(Probe::echo(), name);
        let later = if harness.is_real() { "localhost:0" } else { "localhost:9991" };
        let later = server.listen(Listener::new(later)).expect("a free address");
        for address in [server.addresses()[0], later.local_address()] {
            assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
            serves_at(harness, address);
        }
        harness.end(&server);
    });
}

#[test]
fn a_dual_stack_listener_takes_peers_of_both_families() {
    on_real_sockets(|harness| {
        if !has_ipv6() {
            return;
        }
        let server = harness.client_side(Probe::echo());
        for dual_stack in [true, false] {
            let listener = Listener::new("[::]:0").dual_stack(dual_stack);
            let handle = server.listen(listener).expect("a free port");
            let port = handle.local_address().port();
            serves_at(harness, format!("[::1]:{port}").parse().expect("an address"));
            let v4: Address = format!("127.0.0.1:{port}").parse().expect("an address");
            if dual_stack {
                serves_at(harness, v4);
            } else {
                let error = TcpStream::connect(v4.socket_addr()).expect_err("IPv6 only");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            }
        }
        harness.end(&server);
    });
}

#[test]
fn a_listener_that_cannot_be_is_an_error_and_leaves_nothing() {
    everywhere(|harness| {
        let server = harness.serve(Probe::echo());
        let taken = server.addresses()[0];
        let free = || Listener::new(harness.address_of(2));
        let key = Key::new(b"0123456789abcdef").expect("a long enough key");
        let tiny = ConnectionOptions::default().with_max_frame_bytes(1);
        let address = "an address without a port";
        let is_address = |e: &ListenError| matches!(e, ListenError::Address(_));
        let is_bind = |e: &ListenError| matches!(e, ListenError::Bind { .. });
        let is_options = |e: &ListenError| matches!(e, ListenError::Options { .. });
        let cases: [(Listener, Check); 5] = [
            (Listener::new(address), is_address),
            (Listener::new(taken), is_bind),
            (free().options(tiny), is_options),
            (free().framing(Framing::Lines).key(key), is_options),
            (free().dual_stack(true), is_options),
        ];
        for (listener, is_it) in cases {
            let error = server.listen(listener).expect_err("it cannot be");
            assert!(is_it(&error), "{error}");
        }
        assert_eq!(server.addresses(), [taken]);
        server.listen(free()).expect("the address is free");
        server.shutdown(Duration::ZERO);
        let late = server.listen(harness.address_of(3)).expect_err("too late");
        assert!(matches!(late, ListenError::Shutdown), "{late}");
        harness.ended(&server);
        let late = server.listen(harness.address_of(3)).expect_err("too late");
        assert!(matches!(late, ListenError::Shutdown), "{late}");
    });
}

#[test]
fn a_name_that_nobody_has_cannot_be_listened_on() {
    in_simulation(|harness| {
        let server = harness.serve(Probe::echo());
        let error = server.listen("nowhere.example:1").expect_err("nobody has it");
        assert!(matches!(error, ListenError::LookUp { .. }), "{error}");
        assert!(error.to_string().contains("nowhere.example:1"), "{error}");
        harness.end(&server);
    });
}

/// Peers connect while listeners are added and removed, and while the endpoint ends.
#[test]
fn listeners_that_come_and_go_while_it_ends_leave_nothing() {
    on_real_sockets(|harness| {
        let server = harness.serve(Probe::echo());
        let begun = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 0_u64.. {
                        let handle = match server.listen("127.0.0.1:0") {
                            Ok(handle) => handle,
                            Err(ListenError::Shutdown) => break,
                            Err(error) => panic!("{error}"),
                        };
                        begun.fetch_add(1, Ordering::Relaxed);
                        // The connect fails if the end of the endpoint was quicker.
                        drop(TcpStream::connect(handle.local_address().socket_addr()));
                        if round % 3 > 0 {
                            handle.stop();
                        }
                    }
                });
            }
            harness.wait_for("listeners", || begun.load(Ordering::Relaxed) >= 60);
            server.shutdown(Duration::ZERO);
        });
        harness.ended(&server);
    });
}
