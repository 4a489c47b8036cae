//! C9: every call is safe from every thread and every callback.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use posthouse::{
    Client, ClientError, Close, Endpoint, Peer, PeerId, RequestError, Target, WouldDeadlock,
};

use crate::harness::{Harness, everywhere, in_simulation, on_real_sockets, target};
use crate::probe::{Line, Probe};
use crate::raw::{frame, hello};

/// The callbacks from which a call can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Connected,
    Received,
    Writable,
    Disconnected,
    Unreachable,
    Reply,
    After,
    Run,
    EndpointAfter,
    Every,
}

const PLACES: [Place; 10] = [
    Place::Connected,
    Place::Received,
    Place::Writable,
    Place::Disconnected,
    Place::Unreachable,
    Place::Reply,
    Place::After,
    Place::Run,
    Place::EndpointAfter,
    Place::Every,
];

/// A call under test. It gets the endpoint and the identifier of one of its connections, if it has
/// one. The connection need not be established.
type Deed = Arc<dyn Fn(&Endpoint<Probe>, Option<PeerId>) + Send + Sync>;

/// Makes the call once in that place. The endpoint has a raw peer and a connection to itself.
/// Returns the endpoint after the call has returned.
fn do_in(harness: &Harness<'_>, place: Place, deed: Deed) -> Endpoint<Probe> {
    let done = Arc::new(Mutex::new(false));
    let mark = done.clone();
    let once: Deed = Arc::new(move |endpoint, id| {
        if !std::mem::replace(&mut *mark.lock().expect("no thread panicked"), true) {
            deed(endpoint, id);
        }
    });
    let at = move |wanted: Place| {
        let once = once.clone();
        move |endpoint: &Endpoint<Probe>, id: Option<PeerId>| {
            if wanted == place {
                once(endpoint, id);
            }
        }
    };
    let probe = probe_with(&at);
    let seen = probe.seen();
    let server = harness.serve(probe);
    let mut raw = harness.dial(&server);
    raw.send(&hello(0, 1 << 20));
    raw.send(&frame(40, b"hello"));
    // The connect fails if the call under test was a shutdown.
    let _ = server.connect(itself(&server), Line::default());
    let nowhere = if harness.is_real() { "127.0.0.1:1" } else { "10.0.0.9:1" };
    let _ = server.connect(Target::new(nowhere), Line::default());
    let call = at(Place::EndpointAfter);
    let _ = server.after(Duration::ZERO, move |endpoint| call(endpoint, None));
    let call = at(Place::Every);
    let _ = server.every(Duration::from_millis(1), move |endpoint| {
        call(endpoint, None);
        ControlFlow::Break(())
    });
    harness.wait_for("the first message", || {
        raw.received();
        seen.len() >= 2 || *done.lock().expect("no thread panicked")
    });
    if let Some(id) = seen.connected().first() {
        let call = at(Place::Run);
        // The call fails if the connection has been closed.
        let _ = server.run(*id, move |peer| {
            call(peer.endpoint(), Some(peer.id()));
            Ok(())
        });
    }
    if place == Place::Disconnected {
        raw.finish();
    }
    harness.wait_for(&format!("{place:?}"), || {
        raw.received();
        *done.lock().expect("no thread panicked")
    });
    server
}

/// Returns a probe that makes the call in each callback for which `at` allows it.
fn probe_with<D>(at: &impl Fn(Place) -> D) -> Probe
where
    D: Fn(&Endpoint<Probe>, Option<PeerId>) + Clone + Send + Sync + 'static,
{
    let connected = at(Place::Connected);
    let received = at(Place::Received);
    let asked = at(Place::Received);
    let writable = at(Place::Writable);
    let disconnected = at(Place::Disconnected);
    let unreachable = at(Place::Unreachable);
    let reply = at(Place::Reply);
    let after = at(Place::After);
    Probe::new()
        .on_connected(move |peer| {
            connected(peer.endpoint(), Some(peer.id()));
            let after = after.clone();
            peer.after(Duration::from_millis(1), move |peer| {
                after(peer.endpoint(), Some(peer.id()));
                Ok(())
            })?;
            Ok(())
        })
        .on_requested(move |peer, _, responder| {
            asked(peer.endpoint(), Some(peer.id()));
            responder.reject("no");
            Ok(())
        })
        .on_received(move |peer, _| {
            received(peer.endpoint(), Some(peer.id()));
            let reply = reply.clone();
            peer.request(1, b"?", Duration::from_millis(5), move |peer, _| {
                reply(peer.endpoint(), Some(peer.id()));
                Ok(())
            });
            (0..50).for_each(|_| peer.send(41, &[0; 10_000]));
            Ok(())
        })
        .on_writable(move |peer| {
            writable(peer.endpoint(), Some(peer.id()));
            Ok(())
        })
        .on_disconnected(move |peer, _| disconnected(peer.endpoint(), Some(peer.id())))
        .on_connect_failed(move |endpoint| unreachable(endpoint, None))
}

/// The address of the endpoint itself, or an address without a listener after the endpoint has
/// stopped listening.
fn itself(endpoint: &Endpoint<Probe>) -> Target {
    endpoint.addresses().first().map_or_else(|| Target::new("127.0.0.1:1"), Target::new)
}

/// Makes every call except those that wait.
fn everything(endpoint: &Endpoint<Probe>, id: Option<PeerId>) {
    let _ = (endpoint.stats(), endpoint.peers(), endpoint.now(), endpoint.addresses().len());
    let group = endpoint.group("some");
    let _ = (group.send(50, b"to some"), endpoint.everyone().send(50, b"to all"), group.len());
    let others = endpoint.peers().into_iter().map(|info| info.id);
    for id in others.chain(id) {
        let _ = (endpoint.peer(id), endpoint.send(id, 50, b"to one"));
        let group = group.clone();
        let _ = endpoint.run(id, move |peer: &mut Peer<'_, Probe>| {
            peer.join(&group);
            peer.leave(&group);
            let _ = (peer.info(), peer.random(), peer.now(), peer.queued_bytes());
            Ok(())
        });
        let _ = endpoint.everyone().send_except(id, 50, b"to others");
    }
    let _ = endpoint.connect(itself(endpoint), Line::default());
    let _ = endpoint.after(Duration::ZERO, |endpoint| {
        let _ = endpoint.stats();
    });
    if let Some(id) = id {
        let _ = endpoint.close(id, Close::with_code(1_000, "enough"));
    }
}

#[test]
fn every_call_is_safe_in_every_callback() {
    everywhere(|harness| {
        for place in PLACES {
            let server = do_in(harness, place, Arc::new(everything));
            assert_eq!(harness.end(&server).panics, 0, "{place:?}");
        }
    });
}

#[test]
fn a_shutdown_from_any_callback_returns_and_ends_the_endpoint() {
    everywhere(|harness| {
        for place in PLACES {
            let deed: Deed = Arc::new(|endpoint, _| endpoint.shutdown(Duration::from_secs(1)));
            let server = do_in(harness, place, deed);
            assert_eq!(harness.ended(&server).panics, 0, "{place:?}");
        }
    });
}

#[test]
fn waiting_in_a_callback_is_an_error() {
    everywhere(|harness| {
        for place in PLACES {
            let (told, answers) = mpsc::channel();
            let told = Mutex::new(told);
            let deed: Deed = Arc::new(move |endpoint, _| {
                let wait = endpoint.wait();
                let client = Client::connect("127.0.0.1:1");
                let told = told.lock().expect("no thread panicked");
                told.send((wait, client)).expect("a listener of the test exists");
            });
            let server = do_in(harness, place, deed);
            let (wait, client) = harness.until("what it came to", || answers.try_recv().ok());
            assert_eq!(wait, Err(WouldDeadlock), "{place:?}");
            assert!(matches!(client, Err(ClientError::WouldDeadlock(_))), "{place:?}: {client:?}");
            harness.end(&server);
        }
    });
}

/// The last handle is dropped in a callback, where no code can wait for the end.
#[test]
fn dropping_the_last_handle_in_a_callback_is_a_shutdown() {
    everywhere(|harness| {
        let last: Arc<Mutex<Option<Endpoint<Probe>>>> = Arc::default();
        let kept = last.clone();
        let alive = Arc::new(());
        let gone = Arc::downgrade(&alive);
        let probe = Probe::new().on_received(move |_, _| {
            let _ = &alive;
            drop(kept.lock().expect("no thread panicked").take());
            Ok(())
        });
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        *last.lock().expect("no thread panicked") = Some(server);
        raw.send(&frame(0, b"go"));
        harness.wait_for_end(&mut raw);
        drop(raw);
        // The last worker drops the handler.
        harness.wait_for("the release of the handler", || gone.strong_count() == 0);
        assert!(last.lock().expect("no thread panicked").is_none());
    });
}

#[test]
fn dropping_the_last_handle_outside_is_a_shutdown_too() {
    everywhere(|harness| {
        let alive = Arc::new(());
        let gone = Arc::downgrade(&alive);
        let probe = Probe::new().on_received(move |_, _| {
            let _ = &alive;
            Ok(())
        });
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame(0, b"hello"));
        let group = server.group("held on to");
        drop((server, group));
        harness.wait_for_end(&mut raw);
        drop(raw);
        harness.wait_for("the release of the handler", || gone.strong_count() == 0);
    });
}

/// Makes all calls from many threads at once, while peers connect and leave, and while the endpoint
/// ends.
#[test]
fn every_call_is_safe_from_many_threads_also_while_it_ends() {
    on_real_sockets(|harness| {
        let options = harness.options().with(|o| o.endpoint.max_connections = 32);
        let probe = Probe::new().forgetting_messages().on_connected(|peer| {
            peer.send(51, b"welcome");
            Ok(())
        });
        let server = harness.serve_with(probe, options);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let stopped = &harness;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let id = server.peers().first().map(|info| info.id);
                        everything(&server, id);
                    }
                });
            }
            for _ in 0..30 {
                let mut raw = stopped.dial(&server);
                raw.send(&frame(40, b"hello"));
                stopped.wait_for("a greeting or the end", || {
                    !raw.received().is_empty() || raw.is_over()
                });
            }
            server.shutdown(Duration::from_millis(500));
            server.wait().expect("no callback waits in this test");
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(harness.ended(&server).panics, 0);
    });
}

/// A later shutdown can only make the deadline earlier, and takes effect at once.
#[test]
fn a_shutdown_can_be_cut_short() {
    everywhere(|harness| {
        let options = harness.options().with(|o| o.connection.close_timeout_ms = 3_600_000);
        let server = harness.serve_with(Probe::new(), options);
        let mut raws: Vec<_> = (0..5).map(|_| harness.dial(&server)).collect();
        harness.wait_for("the peers", || server.stats().connected == 5);
        server.shutdown(Duration::MAX);
        for raw in &mut raws {
            harness.wait_for_end(raw);
        }
        assert_eq!(server.stats().connections, 5, "a peer has ended its side");
        server.shutdown(Duration::from_secs(7_200));
        server.shutdown(Duration::ZERO);
        harness.ended(&server);
        drop(raws);
    });
}

#[test]
fn a_request_that_the_end_overtakes_is_told_so() {
    in_simulation(|harness| {
        let server = harness.serve(Probe::new());
        let answers: Arc<Mutex<Vec<RequestError>>> = Arc::default();
        let kept = answers.clone();
        let probe = Probe::new().on_connected(move |peer| {
            let kept = kept.clone();
            peer.request(1, b"?", Duration::from_secs(3_600), move |peer, reply| {
                kept.lock().expect("no thread panicked").push(reply.expect_err("nobody answers"));
                peer.endpoint().shutdown(Duration::ZERO);
                Ok(())
            });
            Ok(())
        });
        let client = harness.client_side(probe);
        client.connect(target(&server), Line::default()).expect("no limit is reached");
        harness.wait_for("the connection", || client.stats().connected == 1);
        client.shutdown(Duration::from_secs(1));
        harness.ended(&client);
        assert_eq!(*answers.lock().expect("no thread panicked"), [RequestError::Disconnected]);
        harness.end(&server);
    });
}
