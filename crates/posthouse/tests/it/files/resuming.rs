//! Resumed transfers: bytes that the receiver holds are not sent again, and are never mixed with
//! those of another file.

use std::time::Duration;

use posthouse::{ClientError, Close, Source, TransferErrorKind};

use super::file_handler::{FileHandler, failed, serve, serve_with, visit};
use crate::harness::{Harness, Options, everywhere, in_simulation, target};
use crate::store::{Store, content};

fn narrow(harness: &Harness<'_>) -> Options {
    let options = harness.options();
    let tuning = options.tuning.clone().with_chunk_bytes(4096).with_transfer_window_bytes(16_384);
    Options { tuning, ..options }
}

/// Sends a file and cuts the connection after `bytes` of it. Returns the number of bytes that the
/// receiver holds then.
fn cut_at(
    harness: &Harness<'_>,
    (here, there): (&Store, &Store),
    bytes: u64,
    by_sender: bool,
) -> u64 {
    let directory = there.directory();
    let handler = FileHandler::new().taking(directory).on_received(|_| Err(Close::abort()));
    let received = handler.log.clone();
    let server = harness.serve_with(handler, narrow(harness));
    let directory = here.directory();
    let sender = FileHandler::new().on_connected(move |peer| {
        let progress = peer.offer_file(Source::new(&directory, "file"));
        cut_when(peer, progress, bytes, by_sender);
        Ok(())
    });
    let sent = sender.log.clone();
    let visitor = harness.client_side_with(sender, narrow(harness));
    visitor.connect(target(&server), ()).expect("no limit is reached");
    assert_eq!(failed(&sent.wait(harness, 1)), Some(TransferErrorKind::Disconnected));
    harness.wait_for("the end of the connection", || received.ends().len() == 1);
    let told = received.transfers();
    assert_eq!(told.len(), 1, "the receiver did not get exactly one report");
    assert_eq!(failed(&told[0]), Some(TransferErrorKind::Disconnected));
    harness.end(&visitor);
    harness.end(&server);
    assert!(there.files().is_empty(), "the incomplete file has its final name");
    there.parts().iter().map(|part| part.len() as u64).sum()
}

fn cut_when(
    peer: &mut posthouse::Peer<'_, FileHandler>,
    progress: posthouse::TransferHandle,
    bytes: u64,
    by_sender: bool,
) {
    peer.after(Duration::from_micros(100), move |peer| {
        if progress.transferred_bytes() < bytes {
            cut_when(peer, progress, bytes, by_sender);
        } else if by_sender {
            peer.close(Close::abort());
        } else {
            peer.send(40, b"you cut it");
        }
        Ok(())
    })
    .expect("a peer has few timers");
}

#[test]
fn a_file_that_was_cut_goes_on_where_it_was_whoever_cut_it() {
    everywhere(|harness| {
        for by_sender in [true, false] {
            let here = harness.store("here");
            let there = harness.store(&format!("there {by_sender}"));
            let whole = content(3, 600_000);
            here.write("file", &whole);
            let held = cut_at(harness, (&here, &there), 200_000, by_sender);
            assert!(held > 0 && held < 600_000, "{held} bytes were kept");
            let (server, log) = serve(harness, &there.directory());
            let client = harness.client(&server);
            client.put("file", &here.directory()).expect("the file arrives");
            client.close();
            let progress = log.wait(harness, 1).handle().clone();
            assert_eq!(progress.resumed_from(), held, "bytes were sent again");
            assert!(there.read("file").expect("the file exists") == whole);
            harness.wait_for("the removal of the part", || there.parts().is_empty());
            harness.end(&server);
        }
    });
}

#[test]
fn another_file_of_the_same_name_and_size_begins_anew() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        here.write("file", &content(3, 600_000));
        cut_at(harness, (&here, &there), 200_000, true);
        // The new file has the same name, size and time, but other bytes. Only its hash differs.
        let other = content(4, 600_000);
        here.rewrite("file", &other);
        let (server, log) = serve(harness, &there.directory());
        let client = harness.client(&server);
        client.put("file", &here.directory()).expect("the file arrives");
        client.close();
        assert_eq!(log.wait(harness, 1).handle().resumed_from(), 0);
        assert!(there.read("file").expect("the file exists") == other);
        harness.end(&server);
    });
}

#[test]
fn a_file_that_is_there_is_not_sent_again_and_never_replaced() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        here.write("same", &content(1, 200_000));
        there.write("same", &content(1, 200_000));
        here.write("other", &content(1, 200_000));
        there.write("other", &content(2, 200_000));
        here.write("longer", &content(1, 200_000));
        there.write("longer", &content(1, 200));
        let (server, log) = serve(harness, &there.directory());
        let client = harness.client(&server);
        client.put("same", &here.directory()).expect("both files are equal");
        assert_eq!(log.wait(harness, 1).handle().resumed_from(), 200_000, "bytes were sent");
        for (name, seed, bytes) in [("other", 2, 200_000), ("longer", 1, 200)] {
            let error = client.put(name, &here.directory()).unwrap_err();
            let ClientError::Transfer(error) = error else { panic!("{error}") };
            assert_eq!(error.kind(), TransferErrorKind::Exists, "{error}");
            assert!(
                there.read(name).expect("the existing file is kept") == content(seed, bytes),
                "{name} was replaced"
            );
        }
        client.close();
        harness.wait_for("the removal of the part", || there.parts().is_empty());
        harness.end(&server);
    });
}

#[test]
fn one_of_two_who_send_the_same_name_wins_and_the_other_is_told() {
    everywhere(|harness| {
        let there = harness.store("there");
        let (server, log) = serve_with(harness, &there.directory(), narrow(harness));
        let mut visitors = Vec::new();
        for seed in [1, 2] {
            let here = harness.store(&format!("here {seed}"));
            here.write("file", &content(seed, 400_000));
            let directory = here.directory();
            let (visitor, sent) = visit(harness, &server, move |peer| {
                let _ = peer.offer_file(Source::new(&directory, "file"));
                Ok(())
            });
            visitors.push((visitor, sent, here, seed));
        }
        let results: Vec<_> = visitors
            .iter()
            .map(|(_, sent, _, seed)| (failed(&sent.wait(harness, 1)), *seed))
            .collect();
        let winners: Vec<u64> =
            results.iter().filter(|(error, _)| error.is_none()).map(|(_, seed)| *seed).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert!(results.iter().any(|(error, _)| matches!(
            error,
            Some(TransferErrorKind::Exists | TransferErrorKind::Busy)
        )));
        assert!(
            there.read("file").expect("the file of the winner exists")
                == content(winners[0], 400_000)
        );
        log.wait(harness, 2);
        for (visitor, ..) in &visitors {
            harness.end(visitor);
        }
        harness.end(&server);
        assert_eq!(there.files(), ["file"]);
    });
}

#[test]
fn a_file_that_changes_while_it_is_sent_does_not_arrive() {
    everywhere(|harness| {
        // Over loopback a smaller file arrives before the test can change it.
        let size = if harness.is_real() { 40_000_000 } else { 600_000 };
        for (name, bytes) in [("shorter", 1000), ("longer", size as u64 + 1000)] {
            let here = harness.store("here");
            let there = harness.store(&format!("there {name}"));
            here.write(name, &content(1, size));
            let (server, log) = serve_with(harness, &there.directory(), narrow(harness));
            let directory = here.directory();
            let (visitor, sent) = visit(harness, &server, move |peer| {
                let _ = peer.offer_file(Source::new(&directory, name));
                Ok(())
            });
            harness.wait_for("the first bytes of the file", || !there.parts().is_empty());
            here.resize(name, bytes);
            assert_eq!(failed(&sent.wait(harness, 1)), Some(TransferErrorKind::Changed));
            let other = log.wait(harness, 1);
            assert_eq!(failed(&other), Some(TransferErrorKind::Changed));
            assert!(there.files().is_empty());
            harness.end(&visitor);
            harness.end(&server);
        }
    });
}

#[test]
fn what_came_of_a_file_that_changed_is_not_kept() {
    in_simulation(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        here.write("file", &content(1, 600_000));
        let (server, log) = serve_with(harness, &there.directory(), narrow(harness));
        let directory = here.directory();
        let (visitor, sent) = visit(harness, &server, move |peer| {
            let _ = peer.offer_file(Source::new(&directory, "file"));
            Ok(())
        });
        harness.wait_for("the first bytes of the file", || !there.parts().is_empty());
        here.resize("file", 500_000);
        assert_eq!(failed(&sent.wait(harness, 1)), Some(TransferErrorKind::Changed));
        log.wait(harness, 1);
        harness.wait_for("the removal of the part", || there.parts().is_empty());
        harness.end(&visitor);
        harness.end(&server);
    });
}
