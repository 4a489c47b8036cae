//! Peers that request many files at once, and accept none of the offers or read none of the bytes:
//! threat T33.

use posthouse::Endpoint;

use super::file_handler::{FileHandler, failed};
use super::frames::{CHUNK, DONE, GET, WORKING, accept, greet, next_offer, numbered};
use crate::harness::{Harness, Options, everywhere, in_simulation};
#[cfg(target_os = "linux")]
use crate::harness::{on_real_sockets, target};
use crate::raw::Raw;
use crate::store::{Store, content};

/// The maximum number of gets of a connection at the same time.
const GETS: u32 = 16;

fn serve(harness: &Harness<'_>, there: &Store, options: Options) -> Endpoint<FileHandler> {
    there.write("file", &content(1, 20_000));
    there.write("large", &content(2, 2_000_000));
    harness.serve_with(FileHandler::new().giving(there.directory()), options)
}

/// Requests the file as often as a connection may. Returns the ids of the offers.
fn get_often(harness: &Harness<'_>, raw: &mut Raw, name: &[u8]) -> Vec<u32> {
    for get in 0..GETS {
        raw.send_frame(GET, &numbered(2 * get + 1, name));
    }
    (0..GETS).map(|_| next_offer(harness, raw)).collect()
}

/// Requests the file, and checks that all of it arrives.
fn get_whole(harness: &Harness<'_>, raw: &mut Raw) {
    raw.send_frame(GET, &numbered(1, b"file"));
    let id = next_offer(harness, raw);
    accept(raw, id, u64::MAX);
    let mut bytes = Vec::new();
    loop {
        let (kind, payload) = harness.read_frame(raw);
        match kind {
            CHUNK => bytes.extend_from_slice(&payload[4..]),
            DONE => break raw.send_frame(DONE, &payload[..36]),
            kind => assert_eq!(kind, WORKING),
        }
    }
    assert!(bytes == content(1, 20_000), "the content of the file differs");
}

/// Threat T33: gets whose offers nobody accepts would use up the file descriptors.
#[cfg(target_os = "linux")]
#[test]
fn gets_that_nobody_accepts_leave_the_descriptors_to_others() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use crate::own_process::in_own_process;

    const MAX_DESCRIPTORS: u64 = 1024;
    const ATTACKERS: usize = 62;

    let name = "files::descriptors::gets_that_nobody_accepts_leave_the_descriptors_to_others";
    if !in_own_process(name) {
        return;
    }
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(MAX_DESCRIPTORS), maximum })
        .expect("the limit can be lowered");
    on_real_sockets(|harness| {
        let there = harness.store("there");
        let server = serve(harness, &there, harness.options());
        let mut attackers: Vec<Raw> = (0..ATTACKERS).map(|_| harness.dial(&server)).collect();
        let mut offers = Vec::new();
        for raw in &mut attackers {
            greet(harness, raw);
            offers.push(get_often(harness, raw, b"file"));
        }
        assert_eq!(
            server.stats().open_files,
            0,
            "files are open before their offers were accepted"
        );
        serves_others(harness, &server);

        // Now the attackers accept all offers with a limit of 0 bytes. They get at most their
        // share.
        for (raw, offers) in attackers.iter_mut().zip(offers) {
            offers.into_iter().for_each(|id| accept(raw, id, 0));
        }
        let share = MAX_DESCRIPTORS / 4 / 2 / 4;
        harness.wait_for("the share of one address", || server.stats().open_files == share);
        let newcomers: Vec<Raw> = (0..20).map(|_| newcomer(harness, &server)).collect();
        drop(newcomers);
        let visitor = FileHandler::new();
        let log = visitor.log.clone();
        let here = harness.store("here");
        let directory = here.directory();
        let client = harness.client_side(visitor.on_connected(move |peer| {
            let _ = peer.fetch_file("file", &directory);
            Ok(())
        }));
        client.connect(target(&server), ()).expect("no limit is reached");
        harness.wait_for("the honest connection", || server.stats().connected > ATTACKERS as u64);
        drop(attackers);
        assert_eq!(failed(&log.wait(harness, 1)), None, "the transfer of the honest peer failed");
        harness.end(&client);
        assert_eq!(harness.end(&server).open_files, 0);
    });
}

/// Connects a raw peer and sends its hello.
#[cfg(target_os = "linux")]
fn newcomer(harness: &Harness<'_>, server: &Endpoint<FileHandler>) -> Raw {
    let mut raw = harness.dial(server);
    greet(harness, &mut raw);
    raw
}

#[cfg(target_os = "linux")]
fn serves_others(harness: &Harness<'_>, server: &Endpoint<FileHandler>) {
    let mut newcomers: Vec<Raw> = (0..20).map(|_| newcomer(harness, server)).collect();
    for raw in &mut newcomers {
        get_whole(harness, raw);
    }
}

/// The peers of one address hold their whole share of the open files. A peer of another address is
/// served. A peer of the first address gets a `working` frame while its transfer waits.
#[test]
fn one_address_has_a_share_of_the_open_files_and_those_that_wait_are_told() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let options = harness.options().with(|o| o.endpoint.max_open_files = 16);
        let server = serve(harness, &there, options);
        let dial = |from: &str| {
            let from = from.parse().expect("the address is valid");
            let mut raw = Raw::simulated(harness.world().dial_from(from, "10.0.0.1:9990"));
            greet(harness, &mut raw);
            raw
        };
        let mut attacker = dial("192.0.2.1");
        let offers = get_often(harness, &mut attacker, b"large");
        for id in offers {
            accept(&mut attacker, id, u64::MAX);
        }
        attacker.stop_reading();
        harness.wait_for("the share of one address", || server.stats().open_files == 2);
        get_whole(harness, &mut dial("192.0.2.2"));
        let mut waits = dial("192.0.2.1");
        waits.send_frame(GET, &numbered(1, b"file"));
        let (kind, payload) = harness.read_frame(&mut waits);
        assert_eq!((kind, payload), (WORKING, numbered(1, b"")));
        assert_eq!(server.stats().open_files, 2);
        // The attacker holds its share until it leaves. Then the next transfer of its address
        // starts.
        attacker.reset();
        let id = next_offer(harness, &mut waits);
        accept(&mut waits, id, u64::MAX);
        assert_eq!(harness.read_frame(&mut waits).0, CHUNK);
        harness.end(&server);
    });
}

/// Offers that wait until fewer files are open are answered in turn. None of them waits for ever.
#[test]
fn a_single_open_file_in_each_direction_serves_everybody() {
    everywhere(|harness| {
        let there = harness.store("there");
        let here = harness.store("here");
        let few = || harness.options().with(|o| o.endpoint.max_open_files = 1);
        let handler = FileHandler::new().giving(there.directory()).taking(there.directory());
        let server = harness.serve_with(handler, few());
        for n in 0..8 {
            there.write(&format!("down {n}"), &content(n, 40_000));
            here.write(&format!("up {n}"), &content(n, 40_000));
        }
        let directory = here.directory();
        let visitor = FileHandler::new().on_connected(move |peer| {
            for n in 0..8 {
                let up = format!("up {n}");
                let _ = peer.offer_file(posthouse::Source::new(&directory, &*up));
                let down = format!("down {n}");
                let _ = peer.fetch_file(&down, &directory);
            }
            Ok(())
        });
        let log = visitor.log.clone();
        let client = harness.client_side_with(visitor, few());
        client.connect(crate::harness::target(&server), ()).expect("no limit is reached");
        log.wait(harness, 16);
        assert!(log.transfers().iter().all(|it| failed(it).is_none()));
        harness.end(&client);
        harness.end(&server);
        for n in 0..8 {
            assert!(there.read(&format!("up {n}")) == Some(content(n, 40_000)), "up {n}");
            assert!(here.read(&format!("down {n}")) == Some(content(n, 40_000)), "down {n}");
        }
    });
}
