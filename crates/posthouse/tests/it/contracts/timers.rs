//! Timers of connections and of the endpoint: bounded (C8), in turns with messages, and not ended
//! by a panic or by posts that wait.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use posthouse::{Busy, HandlerResult, Peer, PeerId, RunError};

use crate::harness::{PATIENCE, everywhere, in_simulation, on_real_sockets};
use crate::log;
use crate::probe::Probe;
use crate::raw::frame;

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_repetition_survives_a_panic_and_a_full_mailbox() {
    everywhere(|harness| {
        let runs = Arc::new(AtomicUsize::new(0));
        let options = harness.options().with(|o| o.tuning.max_posts = 4);
        let server = harness.serve_with(Probe::echo(), options);
        let count = runs.clone();
        server
            .every(Duration::from_millis(1), move |endpoint| {
                let run = count.fetch_add(1, Ordering::SeqCst);
                while endpoint.after(HOUR, |_| {}).is_ok() {}
                assert!(run != 1, "panic in the second run");
                if run == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .expect("the call succeeds");
        harness.wait_for("six runs", || runs.load(Ordering::SeqCst) == 6);
        if !harness.is_real() {
            harness.world().run_for(Duration::from_secs(1));
        }
        harness.serves(&server);
        assert_eq!(runs.load(Ordering::SeqCst), 6, "it ends with `Break`");
        assert_eq!(harness.end(&server).panics, 1);
    });
}

#[test]
fn the_timers_of_an_endpoint_are_bounded() {
    everywhere(|harness| {
        let options = harness.options().with(|o| o.tuning.max_posts = 8);
        let server = harness.serve_with(Probe::echo(), options);
        let added = (0..20).map(|_| server.after(HOUR, |_| panic!("nobody waits for an hour")));
        let added: Vec<_> = added.collect();
        assert!(added[..8].iter().all(Result::is_ok), "{added:?}");
        assert!(added[8..].iter().all(|it| *it == Err(RunError::Busy)), "{added:?}");
        assert_eq!(server.every(HOUR, |_| ControlFlow::Continue(())), Err(RunError::Busy));
        harness.serves(&server);
        harness.end(&server);
    });
}

#[test]
fn the_timers_of_a_connection_are_bounded_and_can_be_cancelled() {
    everywhere(|harness| {
        let probe = Probe::new().on_received(|peer, message| {
            if message.payload() == b"first" {
                let late = peer.after(HOUR, |_| panic!("a cancelled timer runs"))?;
                peer.after(Duration::from_millis(1), |peer| {
                    peer.send(1, b"the timer has run");
                    Ok(())
                })?;
                let third = peer.after(HOUR, |_| Ok(()));
                assert_eq!(third.err().map(|busy: Busy| busy.max_timers), Some(2));
                assert!(late.cancel(peer), "it waits");
                // Its place is free.
                peer.after(HOUR, |_| Ok(()))?;
            }
            Ok(())
        });
        let options = harness.options().with(|o| o.connection.max_timers = 2);
        let server = harness.serve_with(probe, options);
        let mut raw = harness.dial(&server);
        raw.send(&frame(1, b"first"));
        assert_eq!(harness.read_frame(&mut raw), (1, b"the timer has run".to_vec()));
        drop(raw);
        assert_eq!(harness.end(&server).panics, 0);
    });
}

/// The timers of the two connections have the same number and the same time: only the connection
/// tells them apart. In simulation no time passes between two tasks of one turn.
#[test]
fn a_timer_is_cancelled_by_its_own_connection_only() {
    in_simulation(|harness| {
        let harness = &harness.with(1, 1);
        let probe = Probe::echo();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let (mut first, mut second) = (harness.dial(&server), harness.dial(&server));
        for raw in [&mut first, &mut second] {
            raw.send(&frame(1, b"begins"));
            harness.read_frame(raw);
        }
        let kept = Arc::new(Mutex::new(None));
        let ids = seen.connected();
        let keep = kept.clone();
        let delay = Duration::from_millis(5);
        let set = move |peer: &mut Peer<'_, Probe>| {
            *keep.lock().expect("no thread panicked") = Some(peer.after(delay, send_run)?);
            Ok(())
        };
        server.run(ids[0], set).expect("the connection is open");
        let cancel = move |peer: &mut Peer<'_, Probe>| {
            peer.after(delay, send_run)?;
            let timer = kept.lock().expect("no thread panicked").take();
            assert!(!timer.expect("the first task has run").cancel(peer), "another connection's");
            Ok(())
        };
        server.run(ids[1], cancel).expect("the connection is open");
        for raw in [&mut first, &mut second] {
            assert_eq!(harness.read_frame(raw), (1, b"run".to_vec()));
        }
        drop((first, second));
        assert_eq!(harness.end(&server).panics, 0);
    });
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of a timer")]
fn send_run(peer: &mut Peer<'_, Probe>) -> HandlerResult {
    peer.send(1, b"run");
    Ok(())
}

#[test]
fn a_timer_that_has_run_cannot_be_cancelled() {
    everywhere(|harness| {
        let kept = Mutex::new(None);
        let probe = Probe::new().on_received(move |peer, message| {
            let mut kept = kept.lock().expect("no thread panicked");
            if message.payload() == b"set" {
                *kept = Some(peer.after(Duration::ZERO, send_run)?);
            } else {
                assert!(!kept.take().expect("one was set").cancel(peer), "it has run");
                peer.send(1, b"done");
            }
            Ok(())
        });
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame(1, b"set"));
        assert_eq!(harness.read_frame(&mut raw), (1, b"run".to_vec()));
        raw.send(&frame(1, b"cancel"));
        assert_eq!(harness.read_frame(&mut raw), (1, b"done".to_vec()));
        drop(raw);
        assert_eq!(harness.end(&server).panics, 0);
    });
}

/// The number of timers in a storm.
const STORM: usize = 5_000;

/// Posts to another connection from the first timer of a storm that runs, and returns the number of
/// timers that have run when that connection has its turn.
fn ran_before_another(on_a_connection: bool) {
    everywhere(|harness| {
        let harness = &harness.with(1, 1);
        let options = harness.options().with(|o| o.connection.max_timers = STORM);
        let probe = Probe::echo();
        let seen = probe.seen();
        let server = harness.serve_with(probe, options);
        let (mut raw, mut other) = (harness.dial(&server), harness.dial(&server));
        raw.send(&frame(1, b"begins"));
        other.send(&frame(1, b"begins"));
        harness.read_frame(&mut raw);
        harness.read_frame(&mut other);
        let ids: Vec<PeerId> = seen.connected();
        let runs = Arc::new(AtomicUsize::new(0));
        let (tell, told) = mpsc::channel();
        let run = {
            let (runs, other) = (runs.clone(), ids[1]);
            move |endpoint: &posthouse::Endpoint<Probe>, tell: mpsc::Sender<usize>| {
                if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    let runs = runs.clone();
                    let task = move |_: &mut Peer<'_, Probe>| {
                        let _ = tell.send(runs.load(Ordering::SeqCst));
                        Ok(())
                    };
                    endpoint.run(other, task).expect("the connection is open");
                }
            }
        };
        if on_a_connection {
            let task = move |peer: &mut Peer<'_, Probe>| {
                for _ in 0..STORM {
                    let (run, tell) = (run.clone(), tell.clone());
                    peer.after(Duration::ZERO, move |peer| {
                        run(peer.endpoint(), tell);
                        Ok(())
                    })?;
                }
                Ok(())
            };
            server.run(ids[0], task).expect("the connection is open");
        } else {
            // One timer adds the others, so that all are due when the first of them runs.
            server
                .after(Duration::ZERO, move |endpoint| {
                    for _ in 0..STORM {
                        let (run, tell) = (run.clone(), tell.clone());
                        let added = endpoint.after(Duration::ZERO, move |it| run(it, tell));
                        added.expect("there is room");
                    }
                })
                .expect("there is room");
        }
        let mut before = None;
        harness.wait_for("the other connection", || {
            before = before.or_else(|| told.try_recv().ok());
            before.is_some()
        });
        assert!(before <= Some(3 * 64), "{before:?} timers ran before the other connection");
        harness.wait_for("the storm", || runs.load(Ordering::SeqCst) == STORM);
        drop((raw, other));
        harness.end(&server);
    });
}

#[test]
fn a_storm_of_timers_of_a_connection_leaves_the_others_their_turns() {
    ran_before_another(true);
}

#[test]
fn a_storm_of_timers_of_the_endpoint_leaves_the_connections_their_turns() {
    ran_before_another(false);
}

/// C7: a callback holds up its own worker only, also the worker whose task the timers are.
#[test]
fn a_timer_of_the_endpoint_runs_although_a_callback_blocks_any_one_worker() {
    on_real_sockets(|harness| {
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
        // Without the log of slow callbacks, too.
        let options = harness.options().with(|o| o.endpoint.handler_overrun_ms = 0);
        let server = harness.serve_with(probe, options);
        // In the pinned layout with two workers, one of them blocks the first worker.
        for blocked in 1..=2 {
            let mut raw = harness.dial(&server);
            harness.wait_for("the connection", || seen.connected().len() == blocked);
            raw.send(&frame(77, b"blocks"));
            harness.wait_for("the message", || seen.messages().len() == blocked);
            let (tell, told) = mpsc::channel();
            let task = move |_: &posthouse::Endpoint<Probe>| tell.send(()).expect("the test waits");
            server.after(Duration::from_millis(1), task).expect("there is room");
            harness.wait_for("the timer", || told.try_recv().is_ok());
            release.send(()).expect("the callback waits");
            assert_eq!(harness.read_frame(&mut raw), (77, b"blocks".to_vec()));
            std::mem::forget(raw);
        }
        harness.end(&server);
    });
}

#[test]
fn a_timer_of_the_endpoint_that_runs_too_long_is_named() {
    log::keep();
    on_real_sockets(|harness| {
        log::clear();
        let (release, held) = mpsc::channel::<()>();
        let options = harness.options().with(|o| o.endpoint.handler_overrun_ms = 20);
        let server = harness.serve_with(Probe::echo(), options);
        let task = move |_: &posthouse::Endpoint<Probe>| held.recv().expect("the test releases it");
        server.after(Duration::ZERO, task).expect("there is room");
        harness.wait_for("the log line", || !log::lines("runs too long").is_empty());
        let lines = log::lines("a timer of the endpoint");
        assert_eq!(lines.len(), 1, "{lines:?}");
        release.send(()).expect("the timer waits");
        harness.end(&server);
    });
}

/// One wake-up can stand for several posts. The workers that take the first ones may block in them.
#[test]
fn a_post_does_not_wait_behind_those_that_block_other_connections() {
    on_real_sockets(|harness| {
        if harness.options().endpoint.layout != posthouse::Layout::Shared {
            return;
        }
        let probe = Probe::echo();
        let seen = probe.seen();
        let server = harness.serve(probe);
        // As many as there are workers.
        let mut raws: Vec<_> = (0..4).map(|_| harness.dial(&server)).collect();
        for raw in &mut raws {
            raw.send(&frame(1, b"begins"));
            harness.read_frame(raw);
        }
        let ids = seen.connected();
        for _ in 0..200 {
            let meeting = Arc::new(std::sync::Barrier::new(ids.len()));
            let (tell, told) = mpsc::channel();
            for id in &ids {
                let (meeting, tell) = (meeting.clone(), tell.clone());
                let task = move |_: &mut Peer<'_, Probe>| {
                    meeting.wait();
                    let _ = tell.send(());
                    Ok(())
                };
                server.run(*id, task).expect("the connection is open");
            }
            for _ in &ids {
                told.recv_timeout(PATIENCE).expect("all tasks run at the same time");
            }
        }
        drop(raws);
        assert_eq!(harness.end(&server).panics, 0);
    });
}
