//! More peers than the limits allow: T27.

use std::net::IpAddr;

use posthouse::SendError;

use crate::harness::{everywhere, in_simulation};
use crate::log;
use crate::probe::{Line, Probe};
use crate::process::is_wine;
use crate::raw::{Raw, frame};

/// T27.
#[test]
fn a_storm_over_max_connections_is_refused_with_resets_and_harms_nobody() {
    log::keep();
    everywhere(|harness| {
        log::clear();
        let probe = Probe::echo();
        let seen = probe.seen();
        let server =
            harness.serve_with(probe, harness.options().with(|o| o.endpoint.max_connections = 10));
        let mut honest: Vec<Raw> = (0..10).map(|_| harness.dial(&server)).collect();
        harness.wait_for("the honest peers", || server.stats().connected == 10);
        let mut storm: Vec<Raw> = (0..100).map(|_| harness.dial(&server)).collect();
        for raw in &mut storm {
            // Under Wine, a reset that arrives before a read looks like a clean end.
            harness.wait_for("a reset", || raw.is_reset() || (is_wine() && raw.is_over()));
        }
        let stats = server.stats();
        assert_eq!((stats.refused, stats.accepted, stats.connections), (100, 10, 10), "{stats:?}");
        for raw in &mut honest {
            raw.send(&frame(60, b"still here"));
            assert_eq!(harness.read_frame(raw), (60, b"still here".to_vec()));
        }
        let lines = log::lines("refused");
        assert!((1..=5).contains(&lines.len()), "a line a second: {lines:?}");
        assert!(lines[0].contains("max_connections"), "{}", lines[0]);
        assert_eq!((seen.connected().len(), seen.ends().len()), (10, 0));
        // A free slot is given to the next peer.
        drop(honest.pop());
        harness.wait_for("a free place", || server.stats().connections == 9);
        harness.serves(&server);
        drop((honest, storm));
        harness.end(&server);
    });
}

#[test]
fn connections_of_one_address_are_bounded_and_counted_down_again() {
    in_simulation(|harness| {
        let probe = Probe::echo();
        let seen = probe.seen();
        let options = harness.options().with(|o| o.endpoint.max_connections_per_address = 3);
        let server = harness.serve_with(probe, options);
        let one: IpAddr = "192.0.2.1".parse().expect("an address");
        let two: IpAddr = "192.0.2.2".parse().expect("an address");
        let dial = |from| Raw::simulated(harness.world().dial_from(from, "10.0.0.1:9990"));
        for round in 1..=3 {
            let first: Vec<Raw> = (0..3).map(|_| dial(one)).collect();
            harness
                .wait_for("three connections of one address", || server.stats().connections == 3);
            let mut too_many = dial(one);
            harness.wait_for("a reset", || too_many.is_reset());
            let other = dial(two);
            harness
                .wait_for("the connection of another address", || server.stats().connections == 4);
            assert_eq!(server.stats().refused, round);
            drop((first, other));
            harness.wait_for("the ends of the connections", || server.stats().connections == 0);
        }
        assert_eq!(seen.connected().len(), 12);
        harness.end(&server);
    });
}

/// Connections from this machine have no limit per address, unless the program says otherwise.
#[test]
fn loopback_is_exempt_from_the_limit_of_one_address() {
    everywhere(|harness| {
        let options = harness.options().with(|o| o.endpoint.max_connections_per_address = 1);
        let address = if harness.is_real() { "127.0.0.1:0" } else { "127.0.0.1:9990" };
        let builder = options.builder(Probe::echo(), address);
        let server = harness.start(builder);
        let raws: Vec<Raw> = (0..20).map(|_| harness.dial(&server)).collect();
        harness.wait_for("all connections", || server.stats().connected == 20);
        drop(raws);
        harness.end(&server);
    });
}

/// A slot counts from the moment it is taken, so connections that are being established count, too.
#[test]
fn connections_that_are_being_made_count() {
    in_simulation(|harness| {
        let options = harness.options().with(|o| o.endpoint.max_connections = 2);
        let server = harness.serve_with(Probe::echo(), options);
        harness.world().blackhole("10.0.0.9:1");
        let to = posthouse::Target::new("10.0.0.9:1");
        let pending = server.connect(to, Line::default()).expect("no limit is reached");
        assert_eq!(server.send(pending, 0, b""), Err(SendError::NotConnected));
        let first = harness.dial(&server);
        harness.wait_for("one connection", || server.stats().connected == 1);
        let mut second = harness.dial(&server);
        harness.wait_for("a reset", || second.is_reset());
        server
            .close(pending, posthouse::Close::abort())
            .expect("the connection is being established");
        harness.wait_for("a free place", || server.stats().connections == 1);
        harness.serves(&server);
        drop((first, second));
        harness.end(&server);
    });
}

/// No test runs with so many descriptors.
#[cfg(target_os = "linux")]
#[test]
fn limits_beyond_the_descriptors_of_the_process_are_a_warning_at_start() {
    log::keep();
    crate::harness::on_real_sockets(|harness| {
        for (max_connections, warnings) in [(100, 0), (1_000_000, 1)] {
            log::clear();
            let options = harness.options().with(|o| o.endpoint.max_connections = max_connections);
            let server = harness.serve_with(Probe::echo(), options);
            let lines = log::lines("the limits permit more descriptors");
            assert_eq!(lines.len(), warnings, "{lines:?}");
            assert!(lines.iter().all(|line| line.contains("max_connections=1000000")), "{lines:?}");
            harness.serves(&server);
            harness.end(&server);
        }
    });
}
