//! C3: a disk that hangs delays the end of a shutdown by at most the grace period.

use std::time::Duration;

use posthouse::sim::{Disk, Faults};
use posthouse::{DisconnectKind, Endpoint, Source};

use super::file_handler::{FileHandler, Log, serve_with, visit};
use crate::harness::{Harness, in_simulation};
use crate::store::{Store, content};

/// The time that a shutdown waits after its deadline for operations that cannot be cancelled.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(1);

/// Starts a server, and a peer that offers it `files` files. Hangs the disk of the server when it
/// holds at least `files * bytes` bytes.
fn hung(
    harness: &Harness<'_>,
    files: u64,
    bytes: u64,
) -> (Endpoint<FileHandler>, Log, Endpoint<FileHandler>, Disk) {
    let here = harness.store("here");
    let disk = harness.world().disk("there");
    let tuning = harness.options().tuning.with_chunk_bytes(1024).with_transfer_window_bytes(4096);
    let options = harness.options().with(|o| o.tuning = tuning);
    let (server, log) = serve_with(harness, &disk.directory(), options);
    for number in 0..files {
        here.write(&format!("n{number}"), &content(number, 400_000));
    }
    let directory = here.directory();
    let (visitor, _) = visit(harness, &server, move |peer| {
        for number in 0..files {
            let _ = peer.offer_file(Source::new(&directory, format!("n{number}")));
        }
        Ok(())
    });
    harness.wait_for("the first bytes of the files", || {
        let parts = disk.parts();
        let come: u64 = parts.iter().map(|(_, part)| part.len() as u64).sum();
        server.stats().connected == 1 && come >= files * bytes
    });
    disk.hang();
    (server, log, visitor, disk)
}

/// Ends an endpoint whose disk hangs, and checks that it leaves only operations. Returns their
/// number.
fn end_hung(harness: &Harness<'_>, server: &Endpoint<FileHandler>) -> u64 {
    let before = harness.world().now();
    server.shutdown(DEADLINE);
    server.wait().expect("the call is not made in a callback");
    let took = harness.world().now() - before;
    assert!((DEADLINE + GIVE_UP_AFTER..DEADLINE + GIVE_UP_AFTER * 2).contains(&took), "{took:?}");
    let stats = server.stats();
    let left = (stats.connections, stats.sockets, stats.buffers_used, stats.assembly_bytes);
    assert_eq!(left, (0, 0, 0, 0), "left on {harness:?}: {stats:?}");
    assert_eq!(stats.connected, stats.disconnected, "{stats:?}");
    stats.operations_submitted - stats.operations_completed
}

#[test]
fn a_connection_that_a_disk_holds_is_given_up_and_told_once() {
    in_simulation(|harness| {
        let files = 1 + harness.world().seed() % 3;
        let (server, log, visitor, disk) = hung(harness, files, harness.world().seed() * 2_000);
        harness.world().run_for(Duration::from_secs(5));
        assert_eq!(
            server.stats().connections,
            1,
            "the connection was abandoned without a shutdown"
        );
        let leaked = end_hung(harness, &server);
        let most = 2 * files + 1;
        assert!(
            (1..=most).contains(&leaked),
            "{leaked} operations are left: at most two for each file, and one other, are expected"
        );
        assert_eq!(log.ends().len(), 1);
        assert_eq!(
            log.transfers().len() as u64,
            files,
            "not every transfer was reported exactly once: {:?}",
            log.order()
        );
        harness.end(&visitor);
        // Operations that complete when the disk resumes have no effect.
        disk.resume();
        harness.world().settle();
        drop(server);
    });
}

/// Starts a server that knows the hash of a file, and a peer that requests this file into `here`.
/// Hangs the disk while the server sends the file.
fn hung_with_known(
    harness: &Harness<'_>,
    bytes: usize,
    here: &Store,
) -> (Endpoint<FileHandler>, Log, Endpoint<FileHandler>, Disk) {
    let disk = harness.world().disk("there");
    disk.write("file", &content(1, bytes));
    let (server, log) = serve_with(harness, &disk.directory(), harness.options());
    let client = harness.client(&server);
    client.get("file", &harness.store("first").directory()).expect("the file arrives");
    client.close();
    let to = here.directory();
    let (visitor, _) = visit(harness, &server, move |peer| {
        let _ = peer.fetch_file("file", &to);
        Ok(())
    });
    harness.wait_for("the second connection", || server.stats().connected == 2);
    harness.world().run_for(Duration::from_micros(harness.world().seed() * 250));
    disk.hang();
    (server, log, visitor, disk)
}

/// The system sends a file whose hash is known (`sendfile`). If the disk hangs, a shutdown does not
/// wait for such a send.
#[test]
fn a_send_of_a_known_file_from_a_disk_that_hangs_is_no_reason_to_wait() {
    in_simulation(|harness| {
        let here = harness.store("here");
        let (server, log, visitor, disk) = hung_with_known(harness, 100_000, &here);
        harness.world().run_for(Duration::from_secs(2));
        // Two reads, or one query of the metadata, may be left, but no send.
        server.shutdown(DEADLINE);
        server.wait().expect("the call is not made in a callback");
        let stats = server.stats();
        let left = (stats.connections, stats.sockets, stats.buffers_used);
        assert_eq!(left, (0, 0, 0), "{stats:?}");
        assert!(stats.operations_submitted - stats.operations_completed <= 2, "{stats:?}");
        assert_eq!(log.ends().len(), 2);
        harness.end(&visitor);
        disk.resume();
        harness.world().settle();
    });
}

/// Without a shutdown a transfer waits for the disk, and its connection stays up.
#[test]
fn a_known_file_on_a_disk_that_hangs_harms_no_connection() {
    in_simulation(|harness| {
        let here = harness.store("here");
        let (server, log, visitor, disk) = hung_with_known(harness, 400_000, &here);
        // This time is less than the timeout of the peer that requested the file.
        harness.world().run_for(Duration::from_secs(20));
        assert_eq!(log.ends().len(), 1, "{:?}", log.ends());
        disk.resume();
        harness.wait_for("the file", || here.read("file").is_some());
        assert_eq!(here.read("file"), Some(content(1, 400_000)));
        harness.end(&visitor);
        harness.end(&server);
    });
}

#[test]
fn who_closed_because_of_the_shutdown_hears_what_it_was_given_up_for() {
    in_simulation(|harness| {
        let (server, log, visitor, _disk) = hung(harness, 1, 3_000);
        harness.world().run_for(Duration::from_secs(1));
        end_hung(harness, &server);
        let why = &log.ends()[0];
        assert_eq!(why.kind(), DisconnectKind::Shutdown);
        let text = why.to_string();
        assert!(text.contains(": receiving n0 ("), "{text}");
        harness.end(&visitor);
    });
}

#[test]
fn what_comes_late_meets_nobody() {
    in_simulation(|harness| {
        let harness = &harness.with(1, 4);
        let (server, log, visitor, disk) = hung(harness, 2, 3_000);
        let here = harness.store("elsewhere");
        here.write("other", b"what the server never looks at");
        let directory = here.directory();
        let (more, _) = visit(harness, &server, move |peer| {
            let _ = peer.offer_file(Source::new(&directory, "other"));
            Ok(())
        });
        harness.wait_for("the second connection", || server.stats().connected == 2);
        harness.world().run_for(Duration::from_secs(1));
        // Closing a socket takes a while, so the two connections end at different times.
        let zero = Duration::ZERO;
        let slow = Duration::from_millis(900);
        harness.world().faults(Faults {
            immediate_ppm: 0,
            completion_delay: slow..=slow * 2,
            disk_delay: zero..=zero,
            ..Faults::none()
        });
        server.shutdown(DEADLINE);
        harness.wait_for("the end of the first connection", || !log.ends().is_empty());
        assert_eq!(log.ends().len(), 1, "both connections have ended already");
        disk.resume();
        server.wait().expect("the call is not made in a callback");
        assert_eq!(log.ends().len(), 2);
        assert_eq!(server.stats().transfers, 0, "an operation that completed late had an effect");
        harness.end(&more);
        harness.end(&visitor);
    });
}

#[cfg(target_os = "linux")]
mod real {
    use std::cell::RefCell;

    use super::super::file_handler::{serve, visit};
    use super::super::fuse_hang::{FuseHang, LOOKUP, READ, can_mount};
    use crate::harness::{on_real_sockets, wait_for_real};
    use crate::store::Store;

    /// Returns the number of threads of this process whose names begin with `name`.
    fn threads(name: &str) -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").expect("the threads are listed").flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|it| it.starts_with(name)).count()
    }

    #[test]
    fn a_mount_that_does_not_answer_is_given_up() {
        if !can_mount("files::hung::real::a_mount_that_does_not_answer_is_given_up") {
            return;
        }
        crate::log::keep();
        let hung = RefCell::new(Vec::new());
        on_real_sockets(|harness| {
            // A disk thread does the lookup. The read may be an operation of io_uring.
            for kind in [LOOKUP, READ] {
                let fuse_hang = FuseHang::at(kind);
                let back = Store::real();
                let directory =
                    posthouse::Directory::open(fuse_hang.path()).expect("the directory opens");
                let (server, log) = serve(harness, &directory);
                let to = back.directory();
                let (visitor, _) = visit(harness, &server, move |peer| {
                    let _ = peer.fetch_file("file", &to);
                    Ok(())
                });
                harness.wait_for("a request that is not answered", || fuse_hang.is_waited_for());
                server.shutdown(std::time::Duration::ZERO);
                harness.end(&visitor);
                hung.borrow_mut().push((format!("{harness:?}, {kind}"), fuse_hang, server, log));
            }
        });
        let hung = hung.into_inner();
        for (place, _, server, log) in &hung {
            server.wait().expect("the call is not made in a callback");
            let stats = server.stats();
            let left = (stats.connections, stats.sockets, stats.buffers_used);
            assert_eq!(left, (0, 0, 0), "left on {place}: {stats:?}");
            let leaked = stats.operations_submitted - stats.operations_completed;
            assert_eq!((log.ends().len(), log.transfers().len()), (1, 1), "{place}");
            let why = log.ends()[0].to_string();
            // The sender reads ahead, so two reads may hang.
            let s = if leaked == 1 { "" } else { "s" };
            let left = format!("did not end {leaked} operation{s}, such as: sending file");
            assert!((1..=2).contains(&leaked) && why.ends_with(&left), "{place}: {why}");
        }
        assert_eq!(crate::log::lines("ERROR posthouse::connection").len(), hung.len());
        // The reads that hang fail when the file systems end, and then the disk threads end.
        let fuse_hangs: Vec<FuseHang> =
            hung.into_iter().map(|(_, fuse_hang, ..)| fuse_hang).collect();
        assert!(threads("posthouse-disk") > 0, "no disk thread is left");
        drop(fuse_hangs);
        wait_for_real("the end of all threads", || threads("posthouse-") == 0);
    }
}
