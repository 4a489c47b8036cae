//! Offered files that are not accepted yet: they are not open, and are opened again for the accept.
//! Threat T33.

use posthouse::{Endpoint, Source, TransferErrorKind};

use super::file_handler::{FileHandler, Log, failed};
use super::frames::{CHUNK, CREDIT, DONE, GET, aborted, accept, greet, next_offer, numbered};
#[cfg(unix)]
use crate::harness::on_real_sockets;
use crate::harness::{Harness, everywhere};
use crate::raw::Raw;
use crate::store::{Store, content};

/// The code of an abort because the file has changed.
const CHANGED: u16 = 9;
/// The code of an abort because another file of the same size and time has the name.
const REPLACED: u16 = 18;

/// Starts a server that serves `there`, and that offers the file `own` for each message.
fn serve(harness: &Harness<'_>, there: &Store) -> (Endpoint<FileHandler>, Log) {
    there.write("file", &content(1, 50_000));
    there.write("own", &content(2, 50_000));
    let directory = there.directory();
    let handler = FileHandler::new().giving(there.directory()).on_received(move |peer| {
        let _ = peer.offer_file(Source::new(&directory, "own"));
        Ok(())
    });
    let log = handler.log.clone();
    (harness.serve_with(handler, harness.options()), log)
}

/// Makes the server offer a file, for a get or for a message. Returns the id of the offer.
fn offered(harness: &Harness<'_>, raw: &mut Raw, get: Option<u32>) -> u32 {
    match get {
        Some(id) => raw.send_frame(GET, &numbered(id, b"file")),
        None => raw.send_frame(40, b"your own"),
    }
    next_offer(harness, raw)
}

#[test]
fn what_is_not_accepted_is_not_open_and_neither_is_what_is_not_confirmed() {
    everywhere(|harness| {
        let there = harness.store("there");
        let (server, log) = serve(harness, &there);
        let mut raw = harness.dial(&server);
        greet(harness, &mut raw);
        for (n, (get, name)) in [(Some(1), "file"), (None, "own")].into_iter().enumerate() {
            let id = offered(harness, &mut raw, get);
            assert!(!there.is_open(name), "{name} is open before the accept");
            accept(&mut raw, id, 10);
            assert_eq!(harness.read_frame(&mut raw).0, CHUNK);
            assert!(there.is_open(name), "{name} is closed while it is sent");
            accept_all(&mut raw, id);
            let hash = loop {
                let (kind, payload) = harness.read_frame(&mut raw);
                match kind {
                    DONE => break payload[4..36].to_vec(),
                    kind => assert_eq!(kind, CHUNK),
                }
            };
            assert!(!there.is_open(name), "{name} is still open after its last byte was sent");
            raw.send_frame(DONE, &numbered(id, &hash));
            assert_eq!(failed(&log.wait(harness, n + 1)), None);
        }
        drop(raw);
        harness.end(&server);
    });
}

/// Gives credit for the whole file.
fn accept_all(raw: &mut Raw, id: u32) {
    raw.send_frame(CREDIT, &numbered(id, &u64::MAX.to_le_bytes()));
}

type Change = fn(&Store, &str);

/// Offers a file, changes it before the accept, and checks the code of the abort.
fn change_before_the_accept(harness: &Harness<'_>, change: Change, code: u16, get: Option<u32>) {
    let there = harness.store("there");
    let (server, log) = serve(harness, &there);
    let mut raw = harness.dial(&server);
    greet(harness, &mut raw);
    let id = offered(harness, &mut raw, get);
    change(&there, if get.is_some() { "file" } else { "own" });
    accept(&mut raw, id, u64::MAX);
    assert_eq!(aborted(harness, &mut raw, id).0, code);
    let kind = match code {
        REPLACED => TransferErrorKind::Replaced,
        _ => TransferErrorKind::Changed,
    };
    assert_eq!(failed(&log.wait(harness, 1)), Some(kind));
    drop(raw);
    harness.end(&server);
}

#[test]
fn a_file_that_is_another_one_at_the_accept_is_not_sent() {
    everywhere(|harness| {
        // On a simulated disk the other file has another time.
        let replaced = if harness.is_real() { REPLACED } else { CHANGED };
        let changes: [(Change, u16); 3] = [
            (|store, name| store.replace(name, &content(3, 50_000)), replaced),
            (|store, name| store.resize(name, 49_999), CHANGED),
            (|store, name| store.remove(name), CHANGED),
        ];
        for ((change, code), get) in changes.iter().flat_map(|it| [(it, Some(1)), (it, None)]) {
            change_before_the_accept(harness, *change, *code, get);
        }
    });
}

/// The offer described the old permissions, so the sender aborts with [`REPLACED`].
#[cfg(unix)]
#[test]
fn a_file_whose_permissions_changed_is_offered_anew() {
    use std::os::unix::fs::PermissionsExt;
    on_real_sockets(|harness| {
        let change: Change = |store, name| {
            let executable = std::fs::Permissions::from_mode(0o755);
            let path = store.path().join(name);
            std::fs::set_permissions(path, executable).expect("the owner may set permissions");
        };
        change_before_the_accept(harness, change, REPLACED, Some(1));
    });
}
