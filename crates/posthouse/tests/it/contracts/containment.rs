//! C7: a panic in a callback affects only its connection, and a callback that runs too long is
//! logged while it runs.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use posthouse::{
    DisconnectKind, DisconnectReason, Endpoint, Fault, Handler, HandlerResult, Message, Peer,
};

use crate::harness::{Harness, everywhere, on_real_sockets};
use crate::log;
use crate::probe::{Line, Probe};
use crate::raw::{frame, hello};

#[test]
fn a_panic_in_a_callback_closes_that_connection_only() {
    everywhere(|harness| {
        for place in ["received", "run", "after", "reply", "writable"] {
            let probe = Probe::new().on_received(move |peer, message| {
                match (message.payload(), place) {
                    (b"panic", "received") => panic!("panic in received"),
                    (b"panic", "after") => {
                        peer.after(Duration::ZERO, |_| panic!("panic in after"))?;
                    }
                    (b"panic", "reply") => {
                        peer.request(0, b"", Duration::from_millis(1), |_, _| {
                            panic!("panic in reply")
                        });
                    }
                    (b"panic", "writable") => peer.send(0, &[0; 500_000]),
                    (payload, _) => peer.send(message.kind(), payload),
                }
                Ok(())
            });
            let probe = probe.on_writable(|_| panic!("panic in writable"));
            let seen = probe.seen();
            let server = harness.serve(probe);
            let mut raw = harness.dial(&server);
            raw.send(&hello(0, 1 << 20));
            raw.send(&frame(40, b"panic"));
            harness.wait_for("the message", || seen.messages().len() == 1);
            if place == "run" {
                server
                    .run(seen.connected()[0], |_| panic!("panic in run"))
                    .expect("the connection is open");
            }
            harness.wait_for_end(&mut raw);
            assert!(!raw.is_reset(), "a graceful close");
            drop(raw);
            harness.wait_for("the end of the connection", || seen.ends().len() == 1);
            let why = seen.ends()[0].clone();
            assert_eq!((why.kind(), why.fault()), (DisconnectKind::Panicked, Fault::Local));
            assert!(why.to_string().contains(&format!("in {place}")), "{why}");
            harness.serves(&server);
            assert_eq!(harness.end(&server).panics, 1, "{place}");
        }
    });
}

#[test]
fn a_panic_in_connected_or_disconnected_is_contained() {
    everywhere(|harness| {
        let first = Arc::new(Mutex::new(true));
        let probe = Probe::echo()
            .on_connected(move |_| {
                // The lock is released before the panic.
                let first = std::mem::take(&mut *first.lock().expect("the lock is free"));
                assert!(!first, "in connected");
                Ok(())
            })
            .on_disconnected(|_, _| panic!("panic in disconnected"));
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        assert_eq!(seen.ends()[0].kind(), DisconnectKind::Panicked);
        harness.serves(&server);
        harness.wait_for("the end of the other connection", || server.stats().connections == 0);
        assert_eq!(harness.end(&server).panics, 3, "one in connected, two in disconnected");
        assert_eq!(seen.ends().len(), 2);
    });
}

#[test]
fn a_panic_in_unreachable_or_in_a_task_of_the_endpoint_is_contained() {
    everywhere(|harness| {
        let probe = Probe::echo().on_connect_failed(|_| panic!("panic in unreachable"));
        let server = harness.serve(probe);
        let nowhere = if harness.is_real() { "127.0.0.1:1" } else { "10.0.0.9:1" };
        server
            .connect(posthouse::Target::new(nowhere), Line::default())
            .expect("there is room for it");
        server.after(Duration::ZERO, |_| panic!("panic in a task")).expect("the call succeeds");
        harness.wait_for("two panics", || server.stats().panics == 2);
        harness.serves(&server);
        assert_eq!(harness.end(&server).panics, 2);
    });
}

/// True exactly when the next creation of a state panics.
static FAILS: AtomicBool = AtomicBool::new(false);

/// A state whose creation panics once.
struct Fragile;

impl Default for Fragile {
    fn default() -> Self {
        assert!(!FAILS.swap(false, Ordering::SeqCst), "in the state's default");
        Self
    }
}

#[derive(Default)]
struct FailsLate(u8);

impl Drop for FailsLate {
    fn drop(&mut self) {
        assert!(self.0 == 0, "in the state's drop");
    }
}

/// A handler that counts the connections between their `connected` and `disconnected` callbacks.
struct WithFragile(AtomicI64);

impl Handler for WithFragile {
    type State = Fragile;

    fn connected(&self, _: &mut Peer<'_, Self>) -> HandlerResult {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        peer.send(message.kind(), message.payload());
        Ok(())
    }

    fn disconnected(&self, _: &mut Peer<'_, Self>, _: &DisconnectReason) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct WithFailsLate;

impl Handler for WithFailsLate {
    type State = FailsLate;

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        peer.state_mut().0 = u8::from(message.payload() == b"touch");
        peer.send(message.kind(), message.payload());
        Ok(())
    }
}

#[test]
fn a_panic_of_the_state_is_contained_too() {
    fn check<H: Handler>(harness: &Harness<'_>, handler: H) -> Endpoint<H> {
        let server = harness.serve(handler);
        let mut raw = harness.dial(&server);
        raw.send(&frame(0, b"touch"));
        raw.finish();
        harness.wait_for_end(&mut raw);
        harness.wait_for("the end of the connection", || server.stats().connections == 0);
        harness.serves(&server);
        assert_eq!(harness.end(&server).panics, 1);
        server
    }
    everywhere(|harness| {
        FAILS.store(true, Ordering::SeqCst);
        let server = check(harness, WithFragile(AtomicI64::new(0)));
        let told = server.handler().0.load(Ordering::SeqCst);
        assert_eq!(told, 0, "disconnected was called without connected");
        check(harness, WithFailsLate);
    });
}

#[test]
fn a_callback_that_runs_too_long_is_named_while_it_runs() {
    log::keep();
    on_real_sockets(|harness| {
        log::clear();
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let probe = Probe::new().on_received(move |peer, message| {
            if message.kind() == 77 {
                // The callback blocks until the test releases it.
                let _ = held.lock().expect("no thread panicked").recv();
            }
            peer.send(message.kind(), message.payload());
            Ok(())
        });
        let options = harness.options().with(|o| o.endpoint.handler_overrun_ms = 20);
        let server = harness.serve_with(probe, options);
        // In the pinned layout each of the two connections has its own worker.
        let mut raw = harness.dial(&server);
        let mut other = harness.dial(&server);
        harness.wait_for("both connections", || server.stats().connected == 2);
        raw.send(&frame(77, b"long"));
        harness.wait_for("the overrun", || server.stats().overruns == 1);
        harness.wait_for("the log line", || !log::lines("runs too long").is_empty());
        let lines = log::lines("runs too long");
        assert!(lines.len() == 1 && lines[0].contains("77"), "{lines:?}");
        assert!(raw.received().is_empty(), "the task no longer runs");
        other.send(&frame(1, b"hello"));
        assert_eq!(harness.read_frame(&mut other), (1, b"hello".to_vec()));
        release.send(()).expect("the callback waits");
        assert_eq!(harness.read_frame(&mut raw), (77, b"long".to_vec()));
        assert_eq!(server.stats().overruns, 1, "the overrun was not counted exactly once");
        drop((raw, other));
        harness.end(&server);
    });
}

/// In the shared layout a long callback delays no other connection, however many connections there
/// are.
#[test]
fn a_long_callback_in_the_shared_layout_delays_its_own_connection_only() {
    on_real_sockets(|harness| {
        if harness.options().endpoint.layout != posthouse::Layout::Shared {
            return;
        }
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let probe = Probe::new().on_received(move |peer, message| {
            if message.kind() == 77 {
                let _ = held.lock().expect("no thread panicked").recv();
            }
            peer.send(message.kind(), message.payload());
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame(77, b"long"));
        harness.wait_for("the message", || seen.messages().len() == 1);
        for _ in 0..50 {
            harness.serves(&server);
        }
        // A message that is posted to the connection waits; the call that posts it does not.
        server.send(seen.connected()[0], 1, b"later").expect("the connection is open");
        release.send(()).expect("the callback waits");
        assert_eq!(harness.read_frame(&mut raw), (77, b"long".to_vec()));
        assert_eq!(harness.read_frame(&mut raw), (1, b"later".to_vec()));
        drop(raw);
        harness.end(&server);
    });
}
