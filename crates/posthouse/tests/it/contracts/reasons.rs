//! The reason of a close, as the handler, the log and the peer see it.

use std::error::Error;
use std::time::Duration;

use posthouse::{
    Close, DisconnectKind, DisconnectReason, Fault, HandlerResult, OrClose, Peer, Stats,
};

use crate::harness::{Harness, everywhere, target};
use crate::log;
use crate::probe::{Line, Probe};
use crate::raw::frame;

/// Closes a connection of a server in this way. Returns the server's reason, the peer's reason and
/// the server's last statistics.
fn closed(
    harness: &Harness<'_>,
    close: impl Fn(&[u8]) -> HandlerResult + Send + Sync + 'static,
) -> (DisconnectReason, DisconnectReason, Stats) {
    let server = Probe::new().on_received(move |_, message| close(message.payload()));
    let here = server.seen();
    let server = harness.serve(server);
    let client = Probe::new().on_connected(|peer: &mut Peer<'_, Probe>| {
        peer.send(40, b"no number");
        Ok(())
    });
    let there = client.seen();
    let client = harness.client_side(client);
    client.connect(target(&server), Line::default()).expect("no limit is reached");
    harness
        .wait_for("the ends of both connections", || here.ends().len() + there.ends().len() == 2);
    harness.end(&client);
    let stats = harness.end(&server);
    let there = there.ends()[0].clone();
    assert_eq!((there.kind(), there.fault()), (DisconnectKind::Ended, Fault::Peer));
    (here.ends()[0].clone(), there, stats)
}

fn parse(payload: &[u8]) -> Result<u32, Box<dyn Error>> {
    Ok(std::str::from_utf8(payload)?.parse()?)
}

#[test]
fn a_peers_fault_is_told_to_the_peer_and_counted_as_its_own() {
    log::keep();
    everywhere(|harness| {
        log::clear();
        let (here, there, stats) = closed(harness, |payload| {
            let close = |e| Close::peer_fault(1_000, e).retry_after(Duration::from_millis(2_500));
            parse(payload).map(drop).map_err(close)
        });
        assert_eq!((here.kind(), here.fault()), (DisconnectKind::Closed, Fault::Peer));
        assert!(here.to_string().contains("invalid digit"), "{here}");
        assert_eq!((here.code(), here.text(), here.retry_after()), (None, None, None));
        assert_eq!(there.code(), Some(1_000));
        assert_eq!(there.text(), Some("invalid digit found in string"));
        assert_eq!(there.retry_after(), Some(Duration::from_millis(2_500)));
        assert_eq!(stats.peer_faults, 1);
        let lines = log::lines("connection closed");
        assert!(lines.len() == 1 && lines[0].contains("INFO"), "{lines:?}");
        assert!(lines[0].contains("invalid digit"), "{lines:?}");
    });
}

#[test]
fn a_failure_of_the_program_is_not_told_to_the_peer() {
    log::keep();
    everywhere(|harness| {
        let ways: [fn(&[u8]) -> HandlerResult; 4] = [
            |payload| Err(Close::internal(parse(payload).unwrap_err())),
            |payload| parse(payload).map(drop).or_close(),
            |payload| {
                Err("a plain text, no error: invalid digit")
                    .or_close()
                    .or(parse(payload).map(drop).or_close())
            },
            |payload| {
                std::str::from_utf8(payload)?.parse::<u32>()?;
                Ok(())
            },
        ];
        for way in ways {
            log::clear();
            let (here, there, stats) = closed(harness, way);
            assert_eq!((here.kind(), here.fault()), (DisconnectKind::Closed, Fault::Local));
            assert!(here.to_string().contains("invalid digit"), "{here}");
            assert_eq!((there.code(), there.text()), (Some(8), Some("internal error")));
            assert_eq!(there.retry_after(), None);
            assert_eq!((stats.peer_faults, stats.panics), (0, 0));
            let lines = log::lines("connection closed");
            assert!(lines.len() == 1 && lines[0].contains("INFO"), "{lines:?}");
            assert!(lines[0].contains("invalid digit"), "the cause is in the log: {lines:?}");
        }
    });
}

#[test]
fn a_plain_goodbye_has_a_code_and_no_text() {
    everywhere(|harness| {
        let (here, there, stats) = closed(harness, |_| Err(Close::graceful().log("enough")));
        assert_eq!((here.kind(), here.fault()), (DisconnectKind::Closed, Fault::Local));
        assert!(here.to_string().contains("enough"), "{here}");
        assert_eq!((there.code(), there.text()), (Some(0), Some("")));
        assert_eq!(stats.peer_faults, 0);
    });
}

/// A peer that ends without a goodbye leaves no code, no text and no time to retry after.
#[test]
fn an_end_without_a_goodbye_has_no_code() {
    everywhere(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let mut raw = harness.dial(&server);
        raw.send(&frame(40, b"hello"));
        raw.finish();
        harness.wait_for("the end of the connection", || seen.ends().len() == 1);
        let why = seen.ends()[0].clone();
        assert_eq!((why.kind(), why.fault()), (DisconnectKind::Ended, Fault::Peer));
        assert_eq!((why.code(), why.text(), why.retry_after()), (None, None, None));
        drop(raw);
        assert_eq!(harness.end(&server).peer_faults, 0, "to end is no fault");
    });
}

/// A mistake of the program that nobody else can find: the peer is innocent, and the connection is
/// gone.
#[test]
fn an_invalid_message_of_a_callback_is_a_warning() {
    log::keep();
    everywhere(|harness| {
        log::clear();
        let probe = Probe::new().on_received(|peer, _| {
            peer.send(40, &vec![0; 17 << 20]);
            Ok(())
        });
        let seen = probe.seen();
        let server = harness.serve(probe);
        for _ in 0..3 {
            let mut raw = harness.dial(&server);
            raw.send(&frame(40, b"send me too much"));
            harness.wait_for_end(&mut raw);
        }
        harness.wait_for("the ends of the connections", || seen.ends().len() == 3);
        let why = seen.ends()[0].clone();
        assert_eq!((why.kind(), why.fault()), (DisconnectKind::Unsendable, Fault::Local));
        harness.end(&server);
        let lines = log::lines("invalid message sent");
        assert!(!lines.is_empty() && lines[0].contains("WARN"), "{lines:?}");
        assert!(lines[0].contains("too large"), "{lines:?}");
    });
}

/// The administrator of the machine ends a connection, which is no act of its peer.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_the_local_system_aborts_is_no_fault_of_the_peer() {
    const ECONNABORTED: i32 = 103;
    crate::harness::on_real_sockets(|harness| {
        let probe = Probe::new();
        let seen = probe.seen();
        let server = harness.serve(probe);
        let raw = harness.dial(&server);
        harness.wait_for("the connection", || seen.connected().len() == 1);
        let port = server.addresses()[0].socket_addr().port();
        let killed = std::process::Command::new("ss")
            .args(["-K", "state", "established", &format!("sport = :{port}")])
            .output();
        let ended = || killed.is_ok() && seen.ends().len() == 1;
        if !killed.as_ref().is_ok_and(|it| it.status.success()) {
            return crate::harness::not_tested("`ss -K` (package iproute2, as root)");
        }
        harness.wait_for("the end of the connection", ended);
        let why = seen.ends()[0].clone();
        assert_eq!((why.kind(), why.fault()), (DisconnectKind::System, Fault::System), "{why}");
        assert_eq!(why.os_error(), Some(ECONNABORTED));
        drop(raw);
        assert_eq!(harness.end(&server).peer_faults, 0);
    });
}
