//! Invalid names (threat T17) and full disks (threat T22) through the framework.

use posthouse::{ClientError, TransferErrorKind};

use super::file_handler::{failed, serve};
use super::frames::{OFFER, aborted, accepted, greet, offer};
use crate::harness::{everywhere, in_simulation};
use crate::store::content;

/// Threat T17: a peer that does not check names offers invalid ones.
#[test]
fn a_name_that_may_not_be_is_refused_and_the_next_offer_is_heard() {
    let names: [&[u8]; 18] = [
        b"",
        b"/etc/passwd",
        b"../up",
        b"a/../../up",
        b"a//b",
        b"./a",
        b"C:/a",
        b"a\\b",
        b"\\\\host\\share\\a",
        b"file:stream",
        b"CON",
        b"nul.txt",
        b"dir/com1",
        b"dot.",
        b"a\0b",
        b"a\nb",
        b"\xff\xfe",
        b".posthouse/x",
    ];
    everywhere(|harness| {
        let there = harness.store("there");
        let (server, log) = serve(harness, &there.directory());
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        let mut id = 1;
        for name in names.into_iter().chain([&vec![b'x'; 300][..], &vec![b'x'; 2000]]) {
            raw.send_frame(OFFER, &offer(id, 1, name));
            let (code, text) = aborted(harness, &mut raw, id);
            assert_eq!(code, 8, "{name:?}: {text}");
            assert!(!text.contains(['\n', '\0']), "{text:?}");
            id += 2;
        }
        raw.send_frame(OFFER, &offer(id, 0, b"right"));
        assert_eq!(accepted(harness, &mut raw), (0, 0));
        harness.end(&server);
        assert!(there.files().is_empty() && log.transfers().len() == 1);
    });
}

/// Threat T22: the disk of the receiver is full.
#[test]
fn a_full_disk_fails_one_transfer_and_what_came_is_kept_for_the_next() {
    in_simulation(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        here.write("large", &content(1, 100_000));
        here.write("small", &content(2, 100));
        harness.world().disk("there").capacity(60_000);
        let (server, log) = serve(harness, &there.directory());
        let client = harness.client(&server);
        let error = client.put("large", &here.directory()).unwrap_err();
        let ClientError::Transfer(error) = error else { panic!("{error}") };
        assert_eq!(error.kind(), TransferErrorKind::NoSpace, "{error}");
        assert_eq!(failed(&log.wait(harness, 1)), Some(TransferErrorKind::NoSpace));
        assert!(there.files().is_empty());
        harness.world().disk("there").capacity(1_000_000);
        client.put("small", &here.directory()).expect("the store has room now");
        client.put("large", &here.directory()).expect("the store has room now");
        assert!(log.wait(harness, 3).handle().resumed_from() > 0, "the transfer did not continue");
        client.close();
        harness.end(&server);
        assert!(there.read("large").expect("the file exists") == content(1, 100_000));
    });
}
