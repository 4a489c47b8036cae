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
        let warned = log::lines("connection failed");
        assert!(warned.len() == 1 && warned[0].contains("invalid digit"), "{warned:?}");
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
            assert!(!log::lines("invalid digit").is_empty(), "the cause is in the log");
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
