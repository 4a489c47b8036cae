//! Worlds: their time, the thread that they belong to, and their scripts.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use posthouse::sim::{Faults, RawStream, Turn};
use posthouse::{Client, ClientError, EndpointOptions, Framing, Target};

use crate::harness::{Harness, PATIENCE, in_simulation};
use crate::probe::Probe;
use crate::raw::frame;

/// A wait whose first step is a jump of the clock beyond the end of the wait does all that is due.
#[test]
fn time_passes_with_all_that_happens_in_it_also_over_a_jump() {
    in_simulation(|harness| {
        let server = harness.serve(Probe::echo());
        let ticks = Arc::new(AtomicU64::new(0));
        let counter = ticks.clone();
        let tick = move |_: &_| {
            counter.fetch_add(1, Ordering::Relaxed);
            ControlFlow::Continue(())
        };
        server.every(Duration::from_secs(1), tick).expect("the endpoint runs");
        let minute = Duration::from_secs(60);
        let mut faults = Faults::typical();
        faults.clock_jump_ppm = 1_000_000;
        faults.clock_jump = minute..=minute;
        faults.wake_late_ppm = 0;
        harness.world().faults(faults);
        harness.world().run_for(Duration::from_secs(30));
        assert_eq!(harness.world().now(), minute);
        assert!(ticks.load(Ordering::Relaxed) > 0, "no timer has run");
        harness.world().faults(Faults::typical());
        harness.end(&server);
    });
}

#[test]
fn a_call_from_another_thread_panics_and_posts_nothing() {
    in_simulation(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        harness.wait_for("the peer", || seen.connected().len() == 1);
        let peer = seen.connected()[0];
        harness.world().settle();
        let before = harness.world().fingerprint();
        let calls: [&(dyn Fn() + Sync); 4] = [
            &|| server.send(peer, 0, b"from afar").expect("it panics before"),
            &|| server.run(peer, |_| Ok(())).expect("it panics before"),
            &|| server.after(Duration::ZERO, |_| {}).expect("it panics before"),
            &|| server.everyone().send(0, b"from afar").expect("it panics before"),
        ];
        for (number, call) in calls.into_iter().enumerate() {
            let call = AssertUnwindSafe(call);
            let panic = std::thread::scope(|scope| {
                scope.spawn(move || catch_unwind(call).err()).join().expect("it is caught")
            });
            let text = panic.expect("the call panics").downcast::<String>().expect("a text");
            assert!(text.contains("this world belongs to the thread"), "{number}: {text}");
        }
        harness.world().settle();
        assert_eq!(harness.world().fingerprint(), before, "a call had an effect");
        assert!(raw.take_frame().is_none());
        drop(raw);
        harness.end(&server);
    });
}

/// A scripted server of the native framing that echoes what it gets, without hello.
fn echo(stream: &RawStream) {
    stream.send(&stream.take_received());
}

fn connect(harness: &Harness<'_>, target: impl Into<Target>) -> Client {
    harness.client_with(target.into(), EndpointOptions::default()).expect("the client connects")
}

#[test]
fn a_blocking_client_has_a_scripted_server() {
    in_simulation(|harness| {
        harness.world().serve("10.0.0.2:7").expect("a free address").answer(echo);
        let lines = || Target::new("10.0.0.2:7").framing(Framing::Lines);
        let clients = [(); 3].map(|()| connect(harness, lines()));
        for number in 0..10 {
            for client in &clients {
                client.send(0, format!("line {number}").as_bytes()).expect("the call succeeds");
            }
            for client in &clients {
                let line = client.receive(PATIENCE).expect("the script answers");
                assert_eq!(line.payload, format!("line {number}").as_bytes());
            }
        }
        clients.into_iter().for_each(Client::close);
    });
}

#[test]
fn a_blocking_client_stands_beside_a_scripted_client() {
    in_simulation(|harness| {
        let server = harness.serve(Probe::echo());
        let raw = harness.world().dial("10.0.0.1:9990");
        let echoes = Arc::new(AtomicU64::new(0));
        let counter = echoes.clone();
        let mut next = Duration::ZERO;
        harness.world().script("a talker", move |now| {
            if now >= next {
                next = now + Duration::from_secs(1);
                raw.send(&frame(0, b"hello"));
            }
            counter.fetch_add(raw.take_received().len() as u64, Ordering::Relaxed);
            Turn::Sleep(Some(next - now))
        });
        let client = connect(harness, "10.0.0.1:9990");
        let nothing = client.receive(Duration::from_secs(60));
        assert!(matches!(nothing, Err(ClientError::TimedOut)), "{nothing:?}");
        let echoes = echoes.load(Ordering::Relaxed) / frame(0, b"hello").len() as u64;
        assert!(echoes > 50, "{echoes} echoes: the script did not run meanwhile");
        client.close();
        harness.end(&server);
    });
}
