//! C3: an endpoint that has ended leaves nothing behind.

use std::net::TcpStream;
use std::time::Duration;

use posthouse::Endpoint;

use crate::harness::{Harness, everywhere, on_real_sockets, target};
use crate::probe::{Line, Probe};
use crate::process::{Holdings, threads};
use crate::raw::frame;

/// Returns the number of threads of this process, and its open resources.
fn held() -> (usize, Holdings) {
    (threads(), Holdings::now())
}

/// An endpoint with one of every kind of resource.
fn busy(harness: &Harness<'_>) -> Endpoint<Probe> {
    let probe = Probe::echo().forgetting_messages().on_connected(|peer| {
        let group = peer.endpoint().group("all");
        peer.join(&group);
        peer.after(Duration::from_secs(3_600), |_| Ok(()))?;
        Ok(())
    });
    let server = harness.serve(probe);
    server.connect(target(&server), Line::default()).expect("no limit is reached");
    server.after(Duration::from_secs(3_600), |_| {}).expect("the call succeeds");
    harness.wait_for("both connections", || server.stats().connected == 2);
    server
}

#[test]
fn no_thread_and_no_descriptor_is_left() {
    if std::env::var_os("NEXTEST").is_none() {
        return; // other tests run in this process
    }
    on_real_sockets(|harness| {
        let before = held();
        for how in ["at once", "gracefully", "by dropping it"] {
            let server = busy(harness);
            let mut raws: Vec<_> = (0..10).map(|_| harness.dial(&server)).collect();
            raws.iter_mut().for_each(|raw| raw.send(&frame(0, &vec![0; 100_000])));
            server.group("all").send(0, b"hello").expect("no limit is reached");
            match how {
                "at once" => server.shutdown(Duration::ZERO),
                "gracefully" => server.shutdown(Duration::from_millis(200)),
                _ => {}
            }
            if how != "by dropping it" {
                harness.ended(&server);
            }
            drop((server, raws));
            harness.wait_for(&format!("the last of it, {how}: {before:?}"), || held() == before);
        }
    });
}

#[test]
fn an_endpoint_that_does_not_start_leaves_nothing() {
    if std::env::var_os("NEXTEST").is_none() {
        return; // other tests run in this process
    }
    on_real_sockets(|harness| {
        let before = held();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("a bound socket");
        let builder = harness.options().builder(Probe::new(), "127.0.0.1:0").listen(address);
        let error = builder.start().expect_err("it is taken");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        let options = harness.options().endpoint.with_io_workers(65);
        Endpoint::builder(Probe::new()).options(options).start().expect_err("out of bounds");
        drop(taken);
        assert_eq!(held(), before);
    });
}

#[test]
fn the_next_endpoint_gets_the_same_port() {
    everywhere(|harness| {
        let first = busy(harness);
        let address = first.addresses()[0].to_string();
        let mut raw = harness.dial(&first);
        raw.send(&frame(0, b"hello"));
        assert_eq!(harness.read_frame(&mut raw).1, b"hello");
        harness.end(&first);
        let second = harness.start(harness.options().builder(Probe::echo(), &address));
        let mut again = harness.dial(&second);
        again.send(&frame(0, b"hello"));
        assert_eq!(harness.read_frame(&mut again).1, b"hello");
        drop((raw, again));
        harness.end(&second);
    });
}

#[test]
fn nobody_is_accepted_once_the_shutdown_has_begun() {
    on_real_sockets(|harness| {
        let options = harness.options().with(|o| o.connection.close_timeout_ms = 60_000);
        let server = harness.serve_with(Probe::new(), options);
        let address = server.addresses()[0].socket_addr();
        let mut stays = harness.dial(&server);
        harness.wait_for("the peer", || server.stats().connected == 1);
        server.shutdown(Duration::from_secs(60));
        harness.wait_for_end(&mut stays);
        harness.wait_for("a refusal", || match TcpStream::connect(address) {
            Ok(_) => false, // queued by the system before the listener was closed
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        });
        assert_eq!(server.stats().connected, 1);
        harness.end(&server);
    });
}
