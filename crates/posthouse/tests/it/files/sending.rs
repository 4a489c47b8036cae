//! Files that a side offers, and files that it requests.

use std::time::Duration;

use posthouse::{ClientError, Source, TransferErrorKind};

use super::file_handler::{FileHandler, failed, serve, serve_with, visit};
use crate::harness::{Harness, Options, everywhere, target};
use crate::store::content;

/// Returns options with such small chunks and windows that a file of some KiB needs many of them.
fn narrow(harness: &Harness<'_>) -> Options {
    let options = harness.options();
    let tuning = options.tuning.clone().with_chunk_bytes(1024).with_transfer_window_bytes(4096);
    Options { tuning, ..options }
}

#[test]
fn a_file_arrives_whole_and_under_its_name_in_both_directions() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        let (server, log) = serve(harness, &there.directory());
        for (number, bytes) in [0, 1, 1000, 65_536, 300_001].into_iter().enumerate() {
            let name = format!("deep/down/file {number}");
            let sent = content(number as u64, bytes);
            here.write(&name, &sent);
            let client = harness.client(&server);
            let hash = client.put(&name, &here.directory()).expect("the file arrives");
            assert!(
                there.read(&name).expect("the file exists") == sent,
                "{name} arrived with other content"
            );
            let incoming = log.wait(harness, number + 1);
            assert!(incoming.is_incoming());
            assert_eq!((incoming.result(), incoming.name()), (Ok(&hash), &*name));
            let back = harness.store("back");
            assert_eq!(client.get(&name, &back.directory()).expect("the file comes back"), hash);
            assert!(
                back.read(&name).expect("the file exists") == sent,
                "{name} came back with other content"
            );
            client.close();
            log.wait(harness, number + 1);
            harness.wait_for("the removal of the part", || {
                there.parts().is_empty() && back.parts().is_empty()
            });
            log.forget_outgoing();
        }
        harness.end(&server);
    });
}

#[test]
fn many_files_share_a_connection_and_each_is_told_once_on_both_sides() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        let (server, log) = serve(harness, &there.directory());
        let count = 40;
        for number in 0..count {
            here.write(&format!("n{number}"), &content(number, 100 * number as usize));
        }
        let directory = here.directory();
        let (visitor, sent) = visit(harness, &server, move |peer| {
            for number in 0..count {
                let _ = peer.offer_file(Source::new(&directory, format!("n{number}")));
            }
            Ok(())
        });
        sent.wait(harness, count as usize);
        log.wait(harness, count as usize);
        assert!(sent.transfers().iter().chain(&log.transfers()).all(|t| t.result().is_ok()));
        let mut names: Vec<String> = log.transfers().iter().map(|t| t.name().to_owned()).collect();
        names.sort();
        assert_eq!(names, there.files());
        for number in 0..count {
            let read = there.read(&format!("n{number}")).expect("the file exists");
            assert!(
                read == content(number, 100 * number as usize),
                "n{number} arrived with other content"
            );
        }
        assert_eq!(harness.end(&visitor).transfers, count);
        assert_eq!(harness.end(&server).transfers, count);
        assert_eq!((sent.transfers().len(), log.transfers().len()), (40, 40));
    });
}

#[test]
fn messages_pass_while_a_file_is_on_its_way() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        here.write("long", &content(1, 200_000));
        let (server, log) = serve_with(harness, &there.directory(), narrow(harness));
        let directory = here.directory();
        let handler = FileHandler::new().on_connected(move |peer| {
            let progress = peer.offer_file(Source::new(&directory, "long"));
            follow(peer, progress);
            Ok(())
        });
        let visitor = harness.client_side_with(handler, narrow(harness));
        visitor.connect(target(&server), ()).expect("no limit is reached");
        log.wait(harness, 1);
        let order = log.order();
        let end =
            order.iter().position(|line| line == "transferred long").expect("the end was recorded");
        assert!(end > 3, "only {end} messages arrived before the end of the file: {order:?}");
        assert!(there.read("long").expect("the file exists") == content(1, 200_000));
        harness.end(&visitor);
        harness.end(&server);
    });
}

/// Sends a message with the number of transferred bytes every 200 microseconds, until 150,000 bytes
/// are transferred.
fn follow(peer: &mut posthouse::Peer<'_, FileHandler>, progress: posthouse::TransferHandle) {
    peer.after(Duration::from_micros(200), move |peer| {
        peer.send(40, format!("{} bytes are over", progress.transferred_bytes()).as_bytes());
        if progress.transferred_bytes() < 150_000 {
            follow(peer, progress);
        }
        Ok(())
    })
    .expect("a peer has few timers");
}

#[test]
fn who_takes_and_gives_nothing_says_so() {
    everywhere(|harness| {
        let here = harness.store("here");
        here.write("a", b"a");
        let server = harness.serve(FileHandler::new());
        let client = harness.client(&server);
        let no = |error: ClientError, words: &str| match error {
            ClientError::Transfer(error) => {
                assert_eq!(error.kind(), TransferErrorKind::Refused);
                assert!(error.is_by_peer() && error.to_string().contains(words), "{error}");
            }
            other => panic!("{other}"),
        };
        no(client.put("a", &here.directory()).unwrap_err(), "no room for a");
        no(client.get("b", &here.directory()).unwrap_err(), "nothing for File");
        no(client.list().unwrap_err(), "nothing for List");
        client.close();
        harness.end(&server);
    });
}

#[test]
fn what_is_not_there_is_not_found_on_either_side() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        let (server, log) = serve(harness, &there.directory());
        let client = harness.client(&server);
        for by_peer in [false, true] {
            let error = match by_peer {
                false => client.put("no", &here.directory()).unwrap_err(),
                true => client.get("no", &here.directory()).unwrap_err(),
            };
            let ClientError::Transfer(error) = error else { panic!("{error}") };
            assert_eq!(error.kind(), TransferErrorKind::NotFound);
            assert_eq!(error.is_by_peer(), by_peer, "{error}");
        }
        client.close();
        harness.end(&server);
        assert!(log.transfers().iter().all(|transfer| !transfer.is_incoming()));
        assert!(here.files().is_empty() && there.files().is_empty());
    });
}

#[test]
fn a_listing_names_every_file_once_in_order() {
    everywhere(|harness| {
        let there = harness.store("there");
        // All these names do not fit into one answer.
        let mut names: Vec<String> =
            (0..300).map(|n| format!("{}/{:0>240}", ["a", "a-b", "b"][n % 3], n)).collect();
        for name in &names {
            there.write(name, name.as_bytes());
        }
        names.sort();
        let (server, _) = serve(harness, &there.directory());
        let client = harness.client(&server);
        let listed = client.list().expect("the listing succeeds").files;
        let listed_names: Vec<&str> = listed.iter().map(|entry| &*entry.name).collect();
        assert_eq!(listed_names, names);
        assert!(listed.iter().all(|entry| entry.size == entry.name.len() as u64));
        client.close();
        harness.end(&server);
    });
}

#[test]
fn a_plain_peer_is_offered_nothing() {
    everywhere(|harness| {
        let here = harness.store("here");
        here.write("a", b"a");
        let directory = here.directory();
        let handler = FileHandler::new().on_received(move |peer| {
            let _ = peer.offer_file(Source::new(&directory, "a"));
            Ok(())
        });
        let log = handler.log.clone();
        let server = harness.serve(handler);
        let mut raw = harness.dial(&server);
        raw.send_frame(40, b"I say no hello");
        let transfer = log.wait(harness, 1);
        assert_eq!(failed(&transfer), Some(TransferErrorKind::Unsupported));
        assert!(raw.received().is_empty());
        harness.end(&server);
    });
}

#[test]
fn a_transfer_is_cancelled_by_either_side_and_the_connection_goes_on() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        here.write("long", &content(1, 2_000_000));
        let (server, log) = serve_with(harness, &there.directory(), narrow(harness));
        let directory = here.directory();
        let (visitor, sent) = visit(harness, &server, move |peer| {
            let progress = peer.offer_file(Source::new(&directory, "long"));
            peer.after(Duration::from_millis(3), move |peer| {
                peer.cancel_transfer(&progress);
                peer.send(40, b"after it");
                Ok(())
            })?;
            Ok(())
        });
        assert_eq!(failed(&sent.wait(harness, 1)), Some(TransferErrorKind::Cancelled));
        harness.wait_for("the message after the cancellation", || {
            log.order().iter().any(|m| m == "after it")
        });
        assert!(there.files().is_empty());
        assert!(log.transfers().len() <= 1);
        harness.end(&visitor);
        harness.end(&server);
    });
}

#[test]
fn a_quota_refuses_before_anything_is_written_and_forgets_what_was_taken_away() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        for (name, bytes) in [("a", 600), ("b", 600), ("c", 300)] {
            here.write(name, &content(7, bytes));
        }
        let directory = there.directory().with_quota(1000, 2).expect("the quota can be counted");
        let (server, _) = serve(harness, &directory);
        let client = harness.client(&server);
        client.put("a", &here.directory()).expect("the quota has room for this file");
        let error = client.put("b", &here.directory()).unwrap_err();
        let ClientError::Transfer(error) = error else { panic!("{error}") };
        assert_eq!(error.kind(), TransferErrorKind::QuotaExceeded, "{error}");
        client.put("c", &here.directory()).expect("the quota has room for this file");
        there.remove("a");
        client.put("b", &here.directory()).expect("the quota has room again");
        client.close();
        harness.end(&server);
        assert_eq!(there.files(), ["b", "c"]);
    });
}

#[test]
fn a_client_whose_inbox_is_full_says_so_instead_of_waiting_for_ever() {
    everywhere(|harness| {
        let there = harness.store("there");
        there.write("a", &content(1, 100));
        let handler = FileHandler::new().giving(there.directory()).on_received(|peer| {
            (0..20_000).for_each(|_| peer.send(40, b"news"));
            Ok(())
        });
        let server = harness.serve(handler);
        let client = harness.client(&server);
        client.send(0, b"subscribe").expect("there is room");
        let here = harness.store("here");
        let get = || client.get("a", &here.directory());
        assert!(matches!(get(), Err(ClientError::ReceiveQueueFull)));
        assert!(matches!(client.list(), Err(ClientError::ReceiveQueueFull)));
        for _ in 0..20_000 {
            assert_eq!(
                client.receive(crate::harness::PATIENCE).expect("the news message arrives").payload,
                b"news"
            );
        }
        get().expect("the inbox has room now");
        client.close();
        harness.end(&server);
    });
}
