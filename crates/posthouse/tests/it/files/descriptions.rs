//! Tests of the descriptions in offers: directories, attributes, the permission to replace. Tests
//! of the `working` frames that a busy side sends.

use std::time::Duration;

use posthouse::{DisconnectKind, Endpoint, TransferErrorKind};

use super::file_handler::{FileHandler, Log, failed, serve, serve_with};
use super::frames::{
    ABORT, ACCEPT, CHUNK, CREDIT, DONE, GET, LIST, LISTED, OFFER, QUOTA, WORKING, aborted,
    accepted, chunk, greet, numbered, offer, offer_with,
};
use crate::harness::{Harness, Options, everywhere, in_simulation};
use crate::raw::Raw;
use crate::store::Store;

const REPLACE: u8 = 1;
const DIRECTORY: u8 = 2;
const HASH_OF_NOTHING: [u8; 4] = [0xaf, 0x13, 0x49, 0xb9];

/// Returns an attribute of an offer: its type, length and value.
fn attribute(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &(value.len() as u16).to_le_bytes(), value].concat()
}

#[test]
fn a_directory_is_made_and_answered_with_done_at_once() {
    everywhere(|harness| {
        let there = harness.store("there");
        let quota = there.directory().with_quota(1 << 20, 2).expect("the files can be counted");
        let (server, log) = serve(harness, &quota);
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        for (id, name) in [(1, &b"empty/inner"[..]), (3, b"empty/inner"), (5, b"empty"), (7, b"b")]
        {
            raw.send_frame(OFFER, &offer_with(id, 0, 0, DIRECTORY, &[], name));
            let (kind, payload) = harness.read_frame(&mut raw);
            assert_eq!((kind, &payload[4..8]), (DONE, &HASH_OF_NOTHING[..]), "offer {id}");
        }
        assert!(there.has_directory("empty/inner") && there.has_directory("b"));
        assert_eq!(
            log.wait(harness, 4).result().map(|hash| hash[..4] == HASH_OF_NOTHING),
            Ok(true)
        );
        // The quota allows as many empty directories as files: two. Two are empty now.
        raw.send_frame(OFFER, &offer_with(9, 0, 0, DIRECTORY, &[], b"third"));
        assert_eq!(aborted(harness, &mut raw, 9).0, QUOTA);
        // Empty directories do not count as files. A file cannot have the name of a directory.
        raw.send_frame(OFFER, &offer(11, 0, b"file"));
        assert_eq!(accepted(harness, &mut raw), (0, 0));
        raw.send_frame(OFFER, &offer(13, 0, b"empty"));
        assert_eq!(aborted(harness, &mut raw, 13).0, 8);
        // A directory with a size other than 0 violates the protocol.
        raw.send_frame(OFFER, &offer_with(15, 0, 1, DIRECTORY, &[], b"x"));
        harness.wait_for("the end of the connection", || log.ends().len() == 1);
        assert_eq!(log.ends()[0].kind(), DisconnectKind::Protocol);
        harness.end(&server);
    });
}

#[test]
fn a_file_in_the_place_of_a_directory_stays() {
    everywhere(|harness| {
        let there = harness.store("there");
        there.write("name", b"a file");
        let (server, _) = serve(harness, &there.directory());
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        for (id, name) in [(1, &b"name"[..]), (3, b"name/inner")] {
            raw.send_frame(OFFER, &offer_with(id, 0, 0, DIRECTORY, &[], name));
            assert_eq!(aborted(harness, &mut raw, id).0, 2);
        }
        assert_eq!(there.read("name"), Some(b"a file".to_vec()));
        harness.end(&server);
    });
}

#[test]
fn done_returns_the_delivery_id_and_unknown_attributes_are_skipped_unless_critical() {
    everywhere(|harness| {
        let there = harness.store("there");
        let (server, log) = serve(harness, &there.directory());
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        let id = *b"delivery-number1";
        let both = [attribute(0x7f, b"later"), attribute(1, &id)].concat();
        raw.send_frame(OFFER, &offer_with(1, 0, 0, 0, &both, b"file"));
        assert_eq!(accepted(harness, &mut raw), (0, 0));
        raw.send_frame(DONE, &numbered(1, &posthouse_wire::file_hash(b"")));
        let (kind, payload) = harness.read_frame(&mut raw);
        assert_eq!((kind, &payload[36..]), (DONE, &id[..]));
        let shown = log.wait(harness, 1).handle().delivery_id().map(|id| id.0);
        assert_eq!(shown, Some(id));
        // Without a delivery id, nothing follows the hash.
        raw.send_frame(OFFER, &offer(3, 0, b"other"));
        assert_eq!(accepted(harness, &mut raw), (0, 0));
        raw.send_frame(DONE, &numbered(3, &posthouse_wire::file_hash(b"")));
        assert_eq!(harness.read_frame(&mut raw).1.len(), 36);
        let critical = attribute(0x80, b"");
        raw.send_frame(OFFER, &offer_with(5, 0, 0, 0, &critical, b"third"));
        assert_eq!(aborted(harness, &mut raw, 5).0, 20);
        assert_eq!(there.files().len(), 2);
        harness.end(&server);
    });
}

#[test]
fn a_file_is_not_replaced_even_if_its_sender_permits_it() {
    everywhere(|harness| {
        let there = harness.store("there");
        there.write("name", b"a file");
        let (server, log) = serve(harness, &there.directory());
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        raw.send_frame(OFFER, &offer_with(1, 0, 3, REPLACE, &[], b"name"));
        assert_eq!(aborted(harness, &mut raw, 1).0, 19);
        let error = failed(&log.wait(harness, 1));
        assert_eq!(error, Some(TransferErrorKind::MayNotReplace));
        raw.send_frame(OFFER, &offer_with(3, 0, 3, REPLACE, &[], b"new"));
        assert_eq!(accepted(harness, &mut raw), (0, 3));
        assert_eq!(there.read("name"), Some(b"a file".to_vec()));
        harness.end(&server);
    });
}

/// The disk hangs after an offer, and later after a get and a list. Each time the peer gets
/// `working` frames until the disk resumes.
#[test]
fn a_side_that_waits_for_its_disk_shows_that_it_works() {
    in_simulation(|harness| {
        let disk = harness.world().disk("slow");
        disk.write("there", b"content");
        let options = harness.options().with(|o| o.connection.heartbeat_ms = 2000);
        let (server, _) = serve_with(harness, &disk.directory(), options);
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        let next = |harness: &crate::harness::Harness<'_>, raw: &mut crate::raw::Raw| loop {
            let (kind, payload) = harness.read_frame(raw);
            match kind {
                16 => raw.send_frame(17, &payload),
                17 => {}
                _ => return (kind, payload),
            }
        };
        disk.hang();
        let since = harness.world().now();
        raw.send_frame(OFFER, &offer(1, 10, b"file"));
        for _ in 0..30 {
            assert_eq!(next(harness, &mut raw), (WORKING, numbered(1, b"")));
        }
        let waited = harness.world().now() - since;
        assert!(
            waited <= Duration::from_secs(61),
            "30 `working` frames took {waited:?}: more than a heartbeat each"
        );
        disk.resume();
        assert_eq!(next(harness, &mut raw).0, ACCEPT);
        // While chunks may arrive, the receiver sends credit instead of `working` frames.
        raw.send_frame(CHUNK, &chunk(1, b"01234"));
        let (kind, payload) = next(harness, &mut raw);
        assert_eq!((kind, &payload[4..]), (CREDIT, &10_u64.to_le_bytes()[..]));
        raw.send_frame(CHUNK, &chunk(1, b"56789"));
        raw.send_frame(DONE, &numbered(1, &posthouse_wire::file_hash(b"0123456789")));
        loop {
            let (kind, _) = next(harness, &mut raw);
            if kind == DONE {
                break;
            }
            assert_eq!(kind, CREDIT);
        }
        disk.hang();
        raw.send_frame(GET, &numbered(3, b"there"));
        raw.send_frame(LIST, &numbered(5, b""));
        for _ in 0..30 {
            let (kind, payload) = next(harness, &mut raw);
            assert!(
                kind == WORKING && (payload[0] == 3 || payload[0] == 5),
                "frame of kind {kind}"
            );
        }
        disk.resume();
        let answers = [next(harness, &mut raw).0, next(harness, &mut raw).0];
        assert!(answers.contains(&OFFER) && answers.contains(&LISTED), "{answers:?}");
        assert!(!answers.contains(&ABORT));
        harness.end(&server);
    });
}

/// Returns a server, its log, and a raw peer. The server has requested a file from the peer, as
/// transfer 2.
fn fetching(
    harness: &Harness<'_>,
    here: &Store,
    options: Options,
) -> (Endpoint<FileHandler>, Log, Raw) {
    let directory = here.directory();
    let handler = FileHandler::new().on_received(move |peer| {
        peer.fetch_file("file", &directory);
        Ok(())
    });
    let log = handler.log.clone();
    let server = harness.serve_with(handler, options);
    let mut raw = harness.dial(&server);
    greet(harness, &mut raw);
    raw.send_frame(0, b"fetch it");
    let (kind, payload) = harness.read_frame(&mut raw);
    assert_eq!((kind, &payload[..4]), (GET, &2_u32.to_le_bytes()[..]));
    (server, log, raw)
}

/// The get ends at once. It does not wait for its timeout.
#[test]
fn an_offer_that_cannot_be_handled_ends_the_get_that_it_answers() {
    let critical = attribute(0x80 | 0x4d, b"");
    let offers: [(u8, &[u8], &[u8], u16); 3] =
        [(DIRECTORY, &[], b"file", 11), (0, &critical, b"file", 20), (0, &[], b"../file", 8)];
    for (flags, attributes, name, code) in offers {
        everywhere(|harness| {
            let here = harness.store("here");
            let (server, log, mut raw) = fetching(harness, &here, harness.options());
            raw.send_frame(OFFER, &offer_with(1, 2, 0, flags, attributes, name));
            assert_eq!(aborted(harness, &mut raw, 1).0, code);
            let error = failed(&log.wait(harness, 1));
            assert_eq!(error, Some(TransferErrorKind::Protocol));
            assert!(here.files().is_empty() && !here.has_directory("file"));
            harness.end(&server);
        });
    }
}

/// A `working` frame for one of several gets extends the timeout of all of them. The peer need not
/// send one for each get.
#[test]
fn a_peer_that_works_on_one_get_is_waited_for() {
    in_simulation(|harness| {
        let here = harness.store("here");
        let options = harness.options().with(|o| {
            o.connection.heartbeat_ms = 0;
            o.connection.transfer_timeout_ms = 1000;
        });
        let (server, log, mut raw) = fetching(harness, &here, options);
        raw.send_frame(0, b"fetch it again");
        assert_eq!(harness.read_frame(&mut raw).0, GET);
        for _ in 0..10 {
            harness.world().run_for(Duration::from_millis(900));
            raw.send_frame(WORKING, &numbered(4, b""));
        }
        assert!(log.transfers().is_empty());
        assert_eq!(aborted(harness, &mut raw, 2).0, 12);
        assert_eq!(aborted(harness, &mut raw, 4).0, 12);
        harness.end(&server);
    });
}
