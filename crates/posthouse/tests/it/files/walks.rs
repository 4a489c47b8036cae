//! Lists and counts of large directories: threat T29.

use std::collections::BTreeSet;
use std::time::Duration;

use posthouse::sim::Faults;
use posthouse::{Client, Endpoint};

use super::file_handler::{FileHandler, serve_with};
use super::frames::{
    ABORT, ACCEPT, CHUNK, LIST, LISTED, OFFER, QUOTA, WORKING, aborted, accepted, chunk, greet,
    greet_with, numbered, offer,
};
use crate::harness::{Harness, Options, everywhere, in_simulation, on_real_sockets};
use crate::raw::Raw;
use crate::store::Store;

/// The code of an abort because of an invalid name.
const BAD_NAME: u16 = 8;
const LISTS: u32 = 16;

/// Returns options without a heartbeat: the raw peers answer no pings, and a walk may take long.
fn options(harness: &Harness<'_>) -> Options {
    harness.options().with(|o| o.connection.heartbeat_ms = 0)
}

/// Returns the number of files for a real directory. It is lower on Windows, where each takes long.
fn many(files: usize) -> usize {
    if cfg!(windows) { files / 10 } else { files }
}

/// Fills a directory with empty files, and one of 11 bytes.
fn fill(there: &Store, files: usize) {
    for n in 0..files {
        there.write(&format!("{n:06}"), b"");
    }
    there.write("honest", b"eleven byte");
}

/// Fills a directory with empty files whose names exceed the smallest memory for a snapshot.
/// Returns the names in order.
fn fill_beyond_a_snapshot(there: &Store) -> Vec<String> {
    let long = "x".repeat(200);
    let name = |n| format!("{long}/{long}/{long}/{n:04} {long}");
    let names: Vec<String> = (0..300).map(name).collect();
    names.iter().for_each(|name| there.write(name, b""));
    names
}

fn greeted<'a>(
    harness: &'a Harness<'_>,
    server: &'a Endpoint<FileHandler>,
    count: usize,
) -> impl Iterator<Item = Raw> + use<'a> {
    (0..count).map(|_| {
        let mut raw = harness.dial(server);
        greet(harness, &mut raw);
        raw
    })
}

/// Requests the list of the whole directory many times.
fn ask_for_lists(raw: &mut Raw) {
    (0..LISTS).for_each(|n| raw.send_frame(LIST, &numbered(2 * n + 1, b"")));
}

/// Waits for the next list. Returns its id and its entries.
fn listed(harness: &Harness<'_>, raw: &mut Raw) -> (u32, Vec<u8>) {
    loop {
        let (kind, payload) = harness.read_frame(raw);
        if kind != WORKING {
            assert_eq!(kind, LISTED, "{payload:?}");
            let (id, entries) = payload.split_first_chunk().expect("an id has four bytes");
            return (u32::from_le_bytes(*id), entries.to_vec());
        }
    }
}

fn get(client: &Client, harness: &Harness<'_>) {
    let here = harness.store("here");
    client.get("honest", &here.directory()).expect("the file can be read");
    assert_eq!(here.read("honest").as_deref(), Some(&b"eleven byte"[..]));
}

#[test]
fn lists_share_walks_and_each_is_answered_once_in_order() {
    everywhere(|harness| {
        let (files, peers) = if harness.is_real() { (many(20_000), 32) } else { (300, 6) };
        let there = harness.store("there");
        fill(&there, files);
        let (server, _) = serve_with(harness, &there.directory(), options(harness));
        let client = harness.client(&server);
        let mut raws: Vec<Raw> = greeted(harness, &server, peers).collect();
        raws.iter_mut().for_each(ask_for_lists);
        get(&client, harness);
        let mut first = None;
        for raw in &mut raws {
            for n in 0..LISTS {
                let (id, entries) = listed(harness, raw);
                assert_eq!(id, 2 * n + 1);
                assert!(*first.get_or_insert_with(|| entries.clone()) == entries);
            }
        }
        let walks = server.stats().walks;
        let lists = peers as u64 * u64::from(LISTS);
        assert!(walks * 10 < lists, "{walks} walks for {lists} lists");
        client.close();
        drop(raws);
        harness.end(&server);
    });
}

/// A walk hangs, and other peers wait for parts of the directory that its snapshot will not
/// contain.
#[test]
fn a_directory_is_not_walked_for_peers_that_have_left() {
    in_simulation(|harness| {
        for leave in [false, true] {
            let there = harness.store("there");
            let names = fill_beyond_a_snapshot(&there);
            let Store::Simulated(disk) = &there else { unreachable!("a simulated disk") };
            let options = options(harness).with(|o| o.endpoint.file_memory_bytes = 1);
            let (server, _) = serve_with(harness, &there.directory(), options);
            let mut raws: Vec<Raw> = greeted(harness, &server, 4).collect();
            disk.hang();
            let mut last = raws.pop().expect("four peers are connected");
            last.send_frame(LIST, &numbered(1, b""));
            harness.wait_for("a walk", || server.stats().walks == 1);
            for (raw, after) in raws.iter_mut().zip(names.iter().step_by(100)) {
                raw.send_frame(LIST, &numbered(1, after.as_bytes()));
            }
            // Each of these peers waits, and gets a `working` frame.
            for raw in &mut raws {
                assert_eq!(harness.read_frame(raw).0, WORKING);
            }
            if leave {
                raws.drain(..).for_each(Raw::reset);
                harness.wait_for("the end of the other connections", || {
                    server.stats().connections == 1
                });
            }
            disk.resume();
            raws.push(last);
            raws.iter_mut().for_each(|raw| assert_eq!(listed(harness, raw).0, 1));
            drop(raws);
            harness.wait_for("the end of all connections", || server.stats().connections == 0);
            let walks = server.stats().walks;
            assert!(
                if leave { walks == 1 } else { walks > 1 },
                "{walks} walks; whether the peers left: {leave}"
            );
            harness.end(&server);
        }
    });
}

#[test]
fn a_file_that_was_sent_is_in_the_next_list() {
    everywhere(|harness| {
        let there = harness.store("there");
        fill(&there, if harness.is_real() { 5_000 } else { 50 });
        let (server, _) = serve_with(harness, &there.directory(), options(harness));
        let client = harness.client(&server);
        let here = harness.store("here");
        for n in 0..4 {
            let name = format!("new {n}");
            let names = || -> Vec<String> {
                let entries = client.list().expect("the directory can be listed").files;
                entries.iter().map(|entry| entry.name.to_string()).collect()
            };
            assert!(!names().contains(&name));
            here.write(&name, b"new");
            client.put(&name, &here.directory()).expect("the file arrives");
            assert!(names().contains(&name), "{name}");
        }
        client.close();
        harness.end(&server);
    });
}

#[test]
fn a_directory_that_is_too_large_for_the_memory_is_listed_in_parts() {
    everywhere(|harness| {
        let there = harness.store("there");
        let names = fill_beyond_a_snapshot(&there);
        let options = options(harness).with(|o| o.endpoint.file_memory_bytes = 1);
        let (server, _) = serve_with(harness, &there.directory(), options);
        let client = harness.client(&server);
        let entries = client.list().expect("the directory can be listed").files;
        assert!(entries.iter().map(|entry| &*entry.name).eq(names.iter().map(|name| &**name)));
        assert!(server.stats().walks > 1);
        harness.wait_for("the end of the snapshots", || server.stats().file_memory_bytes == 0);
        client.close();
        harness.end(&server);
    });
}

/// Requests a list as a peer whose largest payload is 64 bytes.
fn small_peer(harness: &Harness<'_>, server: &Endpoint<FileHandler>) -> Raw {
    let mut raw = harness.dial(server);
    greet_with(harness, &mut raw, 64);
    raw.send_frame(LIST, &numbered(1, b""));
    raw
}

#[test]
#[cfg_attr(windows, ignore = "Wine: 17,000 files take minutes to make")]
fn names_that_fit_no_frame_of_the_peer_cost_one_walk_and_no_more() {
    on_real_sockets(|harness| {
        let there = harness.store("there");
        (0..17_000).for_each(|n| there.write(&format!("{n:060}"), b""));
        let (server, _) = serve_with(harness, &there.directory(), options(harness));
        let mut raw = small_peer(harness, &server);
        let (code, text) = aborted(harness, &mut raw, 1);
        assert_eq!(code, BAD_NAME, "{text}");
        assert!(text.contains("largest payload"), "{text}");
        assert_eq!(server.stats().walks, 1);
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_few_names_that_fit_no_frame_of_the_peer_are_left_out() {
    everywhere(|harness| {
        let there = harness.store("there");
        let files = if harness.is_real() { 1500 } else { 100 };
        (0..files).for_each(|n| there.write(&format!("{n:060}"), b""));
        let (server, _) = serve_with(harness, &there.directory(), options(harness));
        let mut raw = small_peer(harness, &server);
        assert_eq!(listed(harness, &mut raw), (1, vec![0]));
        there.write("2", b"");
        harness.wait_for("a list with the short name", || {
            let mut raw = small_peer(harness, &server);
            let (_, entries) = listed(harness, &mut raw);
            entries.ends_with(b"2")
        });
        drop(raw);
        harness.end(&server);
    });
}

#[test]
fn a_directory_is_counted_once_for_many_offers_and_never_for_impossible_ones() {
    everywhere(|harness| {
        let (files, peers) = if harness.is_real() { (many(5_000), 16) } else { (50, 6) };
        let there = harness.store("there");
        fill(&there, files);
        let quota = there.directory().with_quota(11, 1 << 20).expect("the files can be counted");
        let (server, _) = serve_with(harness, &quota, options(harness));
        let mut raws: Vec<Raw> = greeted(harness, &server, peers).collect();
        let refused = |raws: &mut [Raw], from: u32, size: u64| {
            let ids = || (from..from + 8).map(|n| 2 * n + 1);
            for (peer, raw) in raws.iter_mut().enumerate() {
                ids().for_each(|id| {
                    let name = format!("{id} of {peer}");
                    raw.send_frame(OFFER, &offer(id, size, name.as_bytes()));
                });
            }
            for raw in &mut *raws {
                // The server rejects each of these offers, in any order.
                let mut left: BTreeSet<u32> = ids().collect();
                while !left.is_empty() {
                    let (kind, payload) = harness.read_frame(raw);
                    if kind != WORKING {
                        let (id, rest) = payload.split_first_chunk().expect("an id has four bytes");
                        assert_eq!((kind, &rest[..2]), (ABORT, &QUOTA.to_le_bytes()[..]));
                        assert!(
                            left.remove(&u32::from_le_bytes(*id)),
                            "the rejected offer is not one of this call, or was rejected before"
                        );
                    }
                }
            }
        };
        refused(&mut raws, 0, 5);
        let walks = server.stats().walks;
        assert!(walks * 4 < peers as u64 * 8, "{walks} walks, removals of parts included");
        refused(&mut raws, 8, 12);
        assert_eq!(
            server.stats().walks,
            walks,
            "the directory was counted for an offer that exceeds the whole quota"
        );
        drop(raws);
        harness.end(&server);
    });
}

/// A walk hangs, and lists of its directory wait for it. Those whose peers have left are discarded.
/// Those of the last peer are answered when the disk resumes.
#[test]
fn lists_behind_a_walk_that_hangs_are_forgotten_with_their_connections() {
    in_simulation(|harness| {
        let there = harness.store("there");
        fill(&there, 50);
        let Store::Simulated(disk) = &there else { unreachable!("a simulated disk") };
        let (server, _) = serve_with(harness, &there.directory(), options(harness));
        let mut raws: Vec<Raw> = greeted(harness, &server, 4).collect();
        disk.hang();
        raws.iter_mut().for_each(ask_for_lists);
        harness.wait_for("a walk", || server.stats().walks == 1);
        let mut last = raws.pop().expect("four peers are connected");
        raws.into_iter().for_each(Raw::reset);
        // The connection whose walk hangs cannot end.
        harness.wait_for("the end of other connections", || server.stats().connections <= 2);
        assert_eq!(server.stats().walks, 1);
        disk.resume();
        (0..LISTS).for_each(|n| assert_eq!(listed(harness, &mut last).0, 2 * n + 1));
        harness.wait_for("the end of the other connections", || server.stats().connections == 1);
        drop(last);
        harness.end(&server);
    });
}

/// A list that needs a new walk, because a file has arrived, waits for as long as the last walk
/// took. Otherwise one thread would do nothing but walk while files arrive.
#[test]
fn lists_walk_half_of_the_time_at_most_while_files_arrive() {
    in_simulation(|harness| {
        let walk_time = Duration::from_secs(10);
        let there = harness.store("there");
        fill(&there, 50);
        let Store::Simulated(disk) = &there else { unreachable!("a simulated disk") };
        let (server, _) = serve_with(harness, &there.directory(), options(harness));
        let client = harness.client(&server);
        let mut raws: Vec<Raw> = greeted(harness, &server, 2).collect();
        disk.hang();
        raws[0].send_frame(LIST, &numbered(1, b""));
        harness.wait_for("a walk", || server.stats().walks == 1);
        harness.world().run_for(walk_time);
        disk.resume();
        assert_eq!(listed(harness, &mut raws[0]).0, 1);
        let walked = harness.world().now();
        let here = harness.store("here");
        here.write("new", b"new");
        client.put("new", &here.directory()).expect("the file arrives");
        let walks = server.stats().walks;
        raws.iter_mut().for_each(|raw| raw.send_frame(LIST, &numbered(3, b"")));
        for raw in &mut raws {
            let (id, entries) = listed(harness, raw);
            assert!(id == 3 && entries.ends_with(b"new"));
        }
        let walks = server.stats().walks - walks;
        assert_eq!(walks, 1, "the two lists did not share one walk");
        let waited = harness.world().now() - walked;
        assert!(waited >= walk_time && waited < 2 * walk_time, "{waited:?}");
        client.close();
        drop(raws);
        harness.end(&server);
    });
}

/// A removal of parts reads the names and sizes of all parts. It takes turns with the other walks.
#[test]
fn room_is_made_in_turn_with_other_walks() {
    in_simulation(|harness| {
        let there = harness.store("there");
        fill(&there, 0);
        let second = Duration::from_secs(1);
        let slow = Faults { immediate_ppm: 0, disk_delay: second..=second, ..Faults::none() };
        harness.world().faults(slow);
        let quota = there.directory().with_quota(20, 10).expect("the files can be counted");
        let (server, _) = serve_with(harness, &quota, options(harness));
        let mut raws: Vec<Raw> = greeted(harness, &server, 3).collect();
        let mut left = raws.pop().expect("three peers are connected");
        left.send_frame(OFFER, &offer(1, 8, b"left"));
        accepted(harness, &mut left);
        left.send_frame(CHUNK, &chunk(1, b"part"));
        harness.wait_for("the bytes in the part", || there.parts() == [b"part".to_vec()]);
        left.reset();
        harness.wait_for("the end of its connection", || server.stats().connections == 2);
        let before = server.stats().walks;
        for (n, raw) in raws.iter_mut().enumerate() {
            raw.send_frame(OFFER, &offer(1, 9, format!("next {n}").as_bytes()));
        }
        harness.wait_for("a count and a removal", || server.stats().walks == before + 2);
        harness.world().run_for(Duration::from_millis(900));
        assert_eq!(server.stats().walks, before + 2, "the second removal did not wait");
        // There is room for one of them.
        let mut answers: Vec<u8> = Vec::new();
        for raw in &mut raws {
            let is_answer = |(kind, _): &(u8, Vec<u8>)| *kind != WORKING;
            answers.push(harness.until("an answer", || raw.take_frame().filter(is_answer)).0);
        }
        answers.sort_unstable();
        assert_eq!(answers, [ACCEPT, ABORT]);
        drop(raws);
        harness.end(&server);
    });
}

/// Ranges of a large directory need walks of their own. Two peers that request them without end,
/// one after the other, do not keep a third one from its turn.
#[test]
fn whoever_lists_a_large_directory_gets_its_turn() {
    in_simulation(|harness| {
        let there = harness.store("there");
        let names = fill_beyond_a_snapshot(&there);
        let slow = Duration::from_millis(500);
        harness.world().faults(Faults {
            immediate_ppm: 0,
            disk_delay: slow..=slow,
            ..Faults::none()
        });
        let options = options(harness).with(|o| o.endpoint.file_memory_bytes = 1);
        let (server, _) = serve_with(harness, &there.directory(), options);
        let mut greedy: Vec<(Raw, u32)> =
            greeted(harness, &server, 2).map(|raw| (raw, 1)).collect();
        let mut honest = greeted(harness, &server, 1).next().expect("one peer");
        let ask = |raw: &mut Raw, id: u32| {
            let after = if id % 4 == 1 { "" } else { &*names[250] };
            raw.send_frame(LIST, &numbered(id, after.as_bytes()));
        };
        greedy.iter_mut().for_each(|(raw, id)| ask(raw, *id));
        harness.wait_for("the first walk", || server.stats().walks == 1);
        // A snapshot has about 150 names, so none of the greedy ones has these.
        honest.send_frame(LIST, &numbered(1, names[200].as_bytes()));
        let begun = harness.world().now();
        harness.until("the listing of the honest peer", || {
            for (raw, id) in &mut greedy {
                while let Some((kind, _)) = raw.take_frame() {
                    if kind == LISTED {
                        *id += 2;
                        ask(raw, *id);
                    }
                }
            }
            std::iter::from_fn(|| honest.take_frame()).find(|(kind, _)| *kind == LISTED)
        });
        let took = harness.world().now() - begun;
        assert!(took < Duration::from_secs(10), "{took:?}");
        drop((greedy, honest));
        harness.end(&server);
    });
}

/// An offer has a file open. It does not wait behind a list that may not walk yet.
#[test]
fn offers_do_not_wait_behind_lists() {
    in_simulation(|harness| {
        let there = harness.store("there");
        fill(&there, 0);
        let Store::Simulated(disk) = &there else { unreachable!("a simulated disk") };
        let quota = there.directory().with_quota(20, 10).expect("the files can be counted");
        let (server, _) = serve_with(harness, &quota, options(harness));
        let mut raws: Vec<Raw> = greeted(harness, &server, 1).collect();
        let client = harness.client(&server);
        disk.hang();
        raws[0].send_frame(LIST, &numbered(1, b""));
        harness.wait_for("a walk", || server.stats().walks == 1);
        harness.world().run_for(Duration::from_secs(20));
        disk.resume();
        assert_eq!(listed(harness, &mut raws[0]).0, 1);
        let here = harness.store("here");
        here.write("new", b"new");
        client.put("new", &here.directory()).expect("there is room for it");
        // The next list may walk in 20 s.
        raws[0].send_frame(LIST, &numbered(3, b""));
        raws[0].send_frame(OFFER, &offer(5, 9, b"no room"));
        let begun = harness.world().now();
        assert_eq!(aborted(harness, &mut raws[0], 5).0, QUOTA);
        let took = harness.world().now() - begun;
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(listed(harness, &mut raws[0]).0, 3);
        client.close();
        drop(raws);
        harness.end(&server);
    });
}
