//! The addresses of peers, as limits count them and as a user sees them: T28, T30.

use std::net::IpAddr;

use posthouse::{Address, Listener};

use crate::harness::{has_ipv6, in_simulation, on_real_sockets};
use crate::log;
#[cfg(target_os = "linux")]
use crate::namespace::{has_ip, ip, is_inside};
use crate::probe::Probe;
use crate::raw::{Raw, frame};

/// A peer with an address of IPv4 has this address on a dual-stack listener, too: in the log, in
/// what the handler and other threads see, and for the exemption of loopback.
#[test]
fn an_ipv4_peer_of_a_dual_stack_listener_is_an_ipv4_peer() {
    log::keep();
    on_real_sockets(|harness| {
        if !has_ipv6() {
            return;
        }
        log::clear();
        let probe = Probe::new().on_received(|peer, message| {
            let local = peer.info().and_then(|info| info.local_address).expect("it is up");
            let text = format!("{} {local}", peer.address().expect("it is up"));
            peer.send(message.kind(), text.as_bytes());
            Ok(())
        });
        let options = harness.options().with(|o| o.endpoint.max_connections_per_address = 1);
        let listener = Listener::new("[::]:0").dual_stack(true);
        let server = harness.start(options.builder(probe, listener));
        let port = server.addresses()[0].port();
        let v4: Address = format!("127.0.0.1:{port}").parse().expect("an address");
        let mut raws: Vec<Raw> = (0..5).map(|_| harness.dial_at(v4)).collect();
        for raw in &mut raws {
            raw.send(&frame(40, b"who am I?"));
            let said = String::from_utf8(harness.read_frame(raw).1).expect("text");
            assert!(said.starts_with("127.0.0.1:"), "{said}");
            assert!(said.ends_with(&format!(" {v4}")), "{said}");
        }
        assert!(server.peers().iter().all(|peer| peer.address.socket_addr().is_ipv4()));
        drop(raws);
        harness.wait_for("their end", || server.stats().connections == 0);
        harness.end(&server);
        let ends = log::lines("connection ended");
        assert!(ends.len() >= 5, "{ends:?}");
        for line in ends {
            assert!(line.contains("127.0.0.1:") && !line.contains("ffff"), "{line}");
        }
    });
}

/// T28: a host with an IPv6 network of its own is one address for a limit.
#[test]
fn the_addresses_of_an_ipv6_prefix_are_one_for_the_limit() {
    in_simulation(|harness| {
        for (bits, admitted) in [(64, 2), (128, 20)] {
            let options = harness.options().with(|o| {
                o.endpoint.max_connections_per_address = 2;
                o.endpoint.ipv6_prefix_bits = bits;
            });
            let server = harness.start(options.builder(Probe::echo(), harness.address6()));
            let dial = |from: String| {
                let from: IpAddr = from.parse().expect("an address");
                Raw::simulated(harness.world().dial_from(from, harness.address6()))
            };
            let host: Vec<Raw> = (1..=20).map(|n| dial(format!("2001:db8:0:1::{n:x}"))).collect();
            harness.wait_for("all of them", || {
                let stats = server.stats();
                stats.accepted + stats.refused == 20
            });
            assert_eq!(server.stats().accepted, admitted, "/{bits}");
            let neighbour = dial("2001:db8:0:2::1".to_owned());
            harness.wait_for("another's", || server.stats().accepted == admitted + 1);
            drop((host, neighbour));
            harness.wait_for("their end", || server.stats().connections == 0);
            let again = dial("2001:db8:0:1::ffff".to_owned());
            harness.wait_for("a free place", || server.stats().accepted == admitted + 2);
            drop(again);
            harness.end(&server);
        }
    });
}

/// Returns the number of accepted connections of those that come from the addresses of `hosts`, on
/// a dual-stack listener with a limit of 2.
#[cfg(target_os = "linux")]
fn accepted_from(harness: &crate::harness::Harness<'_>, hosts: &[String]) -> u64 {
    let options = harness.options().with(|o| o.endpoint.max_connections_per_address = 2);
    let listener = Listener::new("[::]:0").dual_stack(true);
    let server = harness.start(options.builder(Probe::echo(), listener));
    let port = server.addresses()[0].port();
    // The source of a connection to an address of this machine is that address.
    let at = |host: &String| format!("{host}:{port}").parse().expect("an address");
    let raws: Vec<Raw> = hosts.iter().map(|host| harness.dial_at(at(host))).collect();
    harness.wait_for("all of them", || {
        let stats = server.stats();
        stats.accepted + stats.refused == hosts.len() as u64
    });
    let accepted = server.stats().accepted;
    drop(raws);
    harness.end(&server);
    accepted
}

/// The same with real sockets, whose addresses are those of a network of their own.
#[cfg(target_os = "linux")]
#[test]
fn a_real_host_with_an_ipv6_prefix_is_one_address_for_the_limit() {
    const TEST: &str =
        "threats::addresses::a_real_host_with_an_ipv6_prefix_is_one_address_for_the_limit";
    if !is_inside(TEST, &["--net"], has_ip) {
        return;
    }
    let add = |address: &str| ip(&["addr", "add", address, "dev", "lo"]);
    ip(&["link", "set", "lo", "up"]);
    let one: Vec<String> = (1..=20).map(|n| format!("[2001:db8:0:1::{n:x}]")).collect();
    let other: Vec<String> = (1..=20).map(|n| format!("[2001:db8:0:{n:x}::8000]")).collect();
    let v4: Vec<String> = (1..=20).map(|n| format!("192.0.2.{n}")).collect();
    for host in one.iter().chain(&other) {
        add(&format!("{}/128", host.trim_matches(['[', ']'])));
    }
    v4.iter().for_each(|host| add(&format!("{host}/32")));
    on_real_sockets(|harness| {
        assert_eq!(accepted_from(harness, &one), 2, "one /64");
        assert_eq!(accepted_from(harness, &other), 20, "twenty of them");
        assert_eq!(accepted_from(harness, &v4), 20, "twenty IPv4 addresses");
        assert_eq!(accepted_from(harness, &vec![v4[0].clone(); 20]), 2, "one IPv4 address");
    });
}
