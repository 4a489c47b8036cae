//! C7: a panic in the drop of a value of the program is contained as one in a callback is, and a
//! worker that panics all the same ends the endpoint.

use std::ops::ControlFlow;
use std::time::Duration;

use posthouse::{Endpoint, Handler, HandlerResult, Listener, Message, Peer};

use crate::harness::{everywhere, on_real_sockets};
use crate::log;
use crate::probe::{Line, Probe};
use crate::raw::frame;

const HOUR: Duration = Duration::from_secs(3_600);

/// A value whose drop panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the drop of a value of the program");
    }
}

/// A payload of a panic, whose drop panics with another one, this number of times.
struct Payload(u32);

impl Drop for Payload {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::panic_any(Payload(self.0 - 1));
        }
    }
}

#[test]
fn the_payload_of_a_panic_may_panic_when_it_is_dropped() {
    everywhere(|harness| {
        let probe = Probe::echo().on_received(|peer, message| {
            if message.kind() == 77 {
                std::panic::panic_any(Payload(9));
            }
            peer.send(message.kind(), message.payload());
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame(77, b"panic"));
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        server.after(Duration::ZERO, |_| std::panic::panic_any(Payload(9))).expect("a timer");
        harness.wait_for("both panics", || server.stats().panics == 2);
        harness.serves(&server);
        assert_eq!(harness.end(&server).panics, 2);
    });
}

#[test]
fn what_waits_on_a_connection_may_panic_when_the_connection_drops_it() {
    everywhere(|harness| {
        let probe = Probe::echo().on_received(|peer, message| {
            if message.kind() == 77 {
                for bomb in [Bomb, Bomb] {
                    peer.after(HOUR, move |_| {
                        drop(bomb);
                        Ok(())
                    })?;
                }
            }
            peer.send(message.kind(), message.payload());
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame(77, b"begins"));
        harness.wait_for("the message", || seen.messages().len() == 1);
        raw.reset();
        harness.wait_for("the end of the connection", || server.count() == 0);
        harness.serves(&server);
        assert_eq!(harness.end(&server).panics, 2);
    });
}

#[test]
fn a_task_that_comes_too_late_may_panic_when_it_is_dropped() {
    on_real_sockets(|harness| {
        let harness = &harness.with(1, 1);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let probe = Probe::echo().on_received(move |peer, message| {
            if message.kind() == 77 {
                let _ = held.lock().expect("no thread panicked").recv();
                peer.close(posthouse::Close::abort());
            }
            peer.send(message.kind(), message.payload());
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame(77, b"blocks"));
        harness.wait_for("the message", || seen.messages().len() == 1);
        let id = seen.connected()[0];
        for bomb in [Bomb, Bomb, Bomb] {
            let task = move |_: &mut Peer<'_, Probe>| {
                drop(bomb);
                Ok(())
            };
            server.run(id, task).expect("the connection is open");
        }
        release.send(()).expect("the callback waits");
        harness.wait_for("the end of the connection", || server.count() == 0);
        drop(raw);
        harness.serves(&server);
        assert_eq!(harness.end(&server).panics, 3);
    });
}

#[test]
fn timers_that_a_shutdown_drops_may_panic() {
    log::keep();
    everywhere(|harness| {
        log::clear();
        let server = harness.serve(Probe::echo());
        for bomb in [Bomb, Bomb] {
            server.after(HOUR, move |_| drop(bomb)).expect("there is room");
        }
        let bomb = Bomb;
        let every = move |_: &Endpoint<Probe>| {
            let _bomb = &bomb;
            ControlFlow::Continue(())
        };
        server.every(HOUR, every).expect("there is room");
        harness.serves(&server);
        assert_eq!(harness.end(&server).panics, 3);
        let lines = log::lines("panicked in its drop");
        let text = "panic=\"in the drop of a value of the program\"";
        assert!(lines.len() == 1 && lines[0].contains(text), "{lines:?}");
    });
}

/// A handler whose drop panics.
struct Fragile(Bomb);

impl Handler for Fragile {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        peer.send(message.kind(), message.payload());
        Ok(())
    }
}

#[test]
fn a_handler_may_panic_when_its_last_listener_or_connection_drops_it() {
    everywhere(|harness| {
        let server = harness.serve(Probe::echo());
        for ends_first in [false, true] {
            let address = if harness.is_real() { "127.0.0.1:0" } else { "10.0.0.1:8123" };
            let attached = server.attach(Fragile(Bomb)).expect("the endpoint runs");
            let listener = attached.listen(Listener::new(address)).expect("the address is free");
            drop(attached);
            let mut raw = harness.dial_at(listener.local_address());
            raw.send(&frame(1, b"begins"));
            assert_eq!(harness.read_frame(&mut raw), (1, b"begins".to_vec()));
            let before = server.stats().panics;
            if ends_first {
                drop(raw);
                harness.wait_for("the end of the connection", || server.count() == 0);
                listener.stop();
            } else {
                listener.stop();
                harness.wait_for("the end of the listener", || server.addresses().len() == 1);
                assert_eq!(server.stats().panics, before, "the connection has the handler");
                drop(raw);
            }
            harness.wait_for("the drop of the handler", || server.stats().panics == before + 1);
        }
        harness.serves(&server);
        assert_eq!(harness.end(&server).panics, 2);
    });
}

/// A log that panics is code of the program that runs on a worker, outside of every callback.
#[test]
fn a_worker_that_panics_ends_the_endpoint() {
    log::keep();
    on_real_sockets(|harness| {
        let options = harness.options().with(|o| {
            o.endpoint.max_connections = 2;
            o.endpoint.max_unadmitted = 1;
            o.endpoint.shutdown_timeout_ms = 100;
        });
        log::clear();
        let server = harness.serve_with(Probe::echo(), options);
        let mut raw = harness.dial(&server);
        raw.send(&frame(1, b"begins"));
        assert_eq!(harness.read_frame(&mut raw), (1, b"begins".to_vec()));
        log::panic_at(Some("connection ended"));
        drop(raw);
        server.wait().expect("the call is not made in a callback");
        log::panic_at(None);
        assert!(server.has_ended());
        assert_eq!(log::lines("an I/O worker panicked").len(), 1, "{:?}", log::lines("worker"));
        assert!(server.connect("127.0.0.1:9", Line::default()).is_err(), "it has ended");
    });
}
