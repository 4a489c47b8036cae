//! The checkers of the simulation find mistakes of the code above the port. These tests make each
//! mistake and expect its checker to panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{File, FileOp, Gather, LaneId, Layout, Op, ReceiveMode, Tag, Turn};

use crate::disk_fixture::DiskFixture;
use crate::fixture::{Fixture, gather, open};

/// Makes a mistake and returns the panic text of the world: its seed, the time and the fault.
fn verdict<T>(act: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(act()))).expect_err("a checker fires");
    let text = payload.downcast_ref::<String>().cloned().expect("the panic has a text");
    assert!(text.starts_with("simulation, seed 7, at "), "{text}");
    text
}

pub(crate) fn assert_says<T>(act: impl FnOnce() -> T, what: &str) {
    let text = verdict(act);
    assert!(text.contains(what), "{text:?} does not say {what:?}");
}

fn fixture() -> Fixture {
    Fixture::new(&Network::with(7, Faults::none()))
}

#[test]
fn a_close_with_operations_in_flight_is_a_bug() {
    let fixture = fixture();
    let (socket, _raw, _) = fixture.pair();
    fixture.submit(Op::Receive(socket, ReceiveMode::Once));
    assert_says(|| fixture.submit(Op::Close(socket)), "closed with operations in flight");
}

#[test]
fn a_close_with_one_of_two_operations_ended_is_a_bug() {
    let fixture = fixture();
    let (socket, _raw, _) = fixture.pair();
    fixture.submit(Op::Receive(socket, ReceiveMode::Once));
    fixture.send(socket, b"this one ends");
    assert_says(|| fixture.submit(Op::Close(socket)), "closed with operations in flight");
}

#[test]
fn a_close_whose_cancelled_receive_was_not_awaited_is_a_bug() {
    let fixture = fixture();
    let (socket, _raw, _) = fixture.pair();
    fixture.submit(Op::Receive(socket, ReceiveMode::Once));
    let act = move |lane: &mut posthouse_io::Lane| {
        lane.cancel(socket, posthouse_io::Cancel::Everything);
        lane.submit(Tag(99), Op::Close(socket));
    };
    assert_says(|| fixture.on_lane(act), "closed with operations in flight");
}

#[test]
fn a_second_send_in_flight_is_a_bug() {
    let fixture = fixture();
    let (socket, _raw, _) = fixture.pair();
    let act = move |lane: &mut posthouse_io::Lane| {
        lane.submit(Tag(90), Op::Send(socket, gather(b"a")));
        lane.submit(Tag(91), Op::Send(socket, gather(b"b")));
    };
    assert_says(|| fixture.on_lane(act), "a second send in flight");
}

#[test]
fn an_empty_gather_is_a_bug() {
    let fixture = fixture();
    let (socket, _raw, _) = fixture.pair();
    assert_says(|| fixture.submit(Op::Send(socket, Gather::default())), "an empty gather");
}

#[test]
fn a_second_accept_in_flight_is_a_bug() {
    let fixture = fixture();
    let (_socket, _raw, listener) = fixture.pair();
    assert_says(|| fixture.submit(Op::Accept(listener)), "a second accept");
}

#[test]
fn a_receive_beside_a_stream_of_receives_is_a_bug() {
    let fixture = fixture();
    let (socket, _raw, _) = fixture.pair();
    fixture.submit(Op::Receive(socket, ReceiveMode::Stream));
    let act = || fixture.submit(Op::Receive(socket, ReceiveMode::Once));
    assert_says(act, "not alone");
}

#[test]
fn a_closed_socket_is_recognised_also_when_its_slot_is_taken_again() {
    let fixture = fixture();
    let (socket, _raw, _) = fixture.pair();
    fixture.close(&[socket]);
    let _again = fixture.on_lane(posthouse_io::Lane::socket);
    assert_says(|| fixture.submit(Op::Send(socket, gather(b"a"))), "stale");
}

#[test]
fn a_socket_is_not_used_while_it_is_being_closed() {
    let fixture = fixture();
    let (socket, _raw, _) = fixture.pair();
    let act = move |lane: &mut posthouse_io::Lane| {
        lane.submit(Tag(90), Op::Close(socket));
        lane.shutdown(socket);
    };
    assert_says(|| fixture.on_lane(act), "being closed");
}

#[test]
fn a_socket_of_another_port_is_a_bug() {
    let one = fixture();
    let (socket, _raw, _) = one.pair();
    let other_port = Fixture::new(&one.network);
    let act = || other_port.submit(Op::Receive(socket, ReceiveMode::Once));
    assert_says(act, "not registered with this lane");
}

#[test]
fn a_socket_of_another_network_is_a_bug() {
    let one = fixture();
    let other = fixture();
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = one.port.listen(address, posthouse_io::ListenOptions::default()).unwrap();
    let act = || other.on_lane(move |lane| lane.adopt_listener(listener));
    assert_says(act, "another network");
}

#[test]
fn a_socket_connects_once() {
    let fixture = fixture();
    let (listener, address) = fixture.listen("127.0.0.1:0");
    let socket = fixture.on_lane(posthouse_io::Lane::socket);
    let connected = fixture.perform(Op::Connect(socket, address));
    assert!(matches!(connected, posthouse_io::Outcome::Connected), "{connected:?}");
    assert_eq!(fixture.on_lane(move |lane| lane.local_address(listener)), Some(address));
    assert_says(|| fixture.submit(Op::Connect(socket, address)), "has been used");
}

#[test]
fn a_completion_that_nobody_can_take_any_more_is_a_bug() {
    let fixture = fixture();
    let (socket, raw, _) = fixture.pair();
    fixture.submit(Op::Receive(socket, ReceiveMode::Once));
    fixture.end();
    raw.send(b"too late");
    assert_says(|| fixture.network.settle(), "a lost completion");
}

#[test]
fn a_worker_that_ends_before_it_has_taken_its_completions_is_a_bug() {
    let network = Network::with(7, Faults::none());
    let port = open(&network, Layout::Pinned, 1);
    let step = |lane: &mut posthouse_io::Lane| {
        let socket = lane.socket();
        lane.submit(Tag(1), Op::Close(socket));
        Turn::Done
    };
    port.spawn(LaneId(0), "hasty", step).unwrap();
    assert_says(|| network.settle(), "a lost completion: worker hasty");
}

#[test]
fn a_port_dropped_with_operations_in_flight_is_a_bug() {
    let fixture = fixture();
    let (socket, _raw, _) = fixture.pair();
    fixture.submit(Op::Receive(socket, ReceiveMode::Once));
    fixture.end();
    assert_says(|| fixture, "dropped with 2 operations in flight");
}

/// Opens a part on a disk, and returns both.
fn with_part() -> (DiskFixture, File) {
    let disk_fixture = DiskFixture::on(&Network::with(7, Faults::none()));
    let file = disk_fixture.part_with("p", b"part");
    (disk_fixture, file)
}

#[test]
fn operations_on_files_about_nothing_are_bugs() {
    let (disk_fixture, file) = with_part();
    assert_says(|| disk_fixture.submit(DiskFixture::read_op(&file, 0, 0)), "a read of nothing");
    let (disk_fixture, file) = with_part();
    assert_says(|| disk_fixture.submit(DiskFixture::write_op(&file, 0, b"")), "a write of nothing");
    let (disk_fixture, _) = with_part();
    assert_says(|| disk_fixture.list("", 0), "a list of nothing");
}

#[test]
fn a_path_that_leads_out_or_nowhere_is_a_bug() {
    for path in ["", "/a", "a/", "a//b", ".", "a/./b", "..", "a/../b", "a\0b"] {
        let (disk_fixture, _) = with_part();
        assert_says(|| disk_fixture.open(path), "does not lead beneath a directory");
        let (disk_fixture, file) = with_part();
        assert_says(|| disk_fixture.publish("p", &file, path), "does not lead beneath a directory");
        let (disk_fixture, _) = with_part();
        assert_says(|| disk_fixture.part(path), "is not the name of a part");
    }
    let (disk_fixture, file) = with_part();
    assert_says(|| disk_fixture.remove_part("a/b", &file), "is not the name of a part");
}

#[test]
fn a_file_opened_for_reading_is_not_changed() {
    let acts: [fn(&DiskFixture, &File) -> bool; 4] = [
        |disk_fixture, file| disk_fixture.write(file, 0, b"x").is_ok(),
        |disk_fixture, file| disk_fixture.truncate(file, 0).is_ok(),
        |disk_fixture, file| disk_fixture.publish("f", file, "g").is_ok(),
        |disk_fixture, file| disk_fixture.remove_part("f", file).is_ok(),
    ];
    for act in acts {
        let (disk_fixture, _) = with_part();
        disk_fixture.disk.write("f", b"x");
        let (file, _) = disk_fixture.open("f").unwrap();
        assert_says(|| act(&disk_fixture, &file), "opened for reading");
    }
}

#[test]
fn a_part_that_others_see_is_not_changed() {
    let acts: [fn(&DiskFixture, &File) -> bool; 2] = [
        |disk_fixture, file| disk_fixture.write(file, 0, b"x").is_ok(),
        |disk_fixture, file| disk_fixture.truncate(file, 0).is_ok(),
    ];
    for act in acts {
        let (disk_fixture, file) = with_part();
        disk_fixture.publish("p", &file, "name").unwrap();
        assert_says(|| act(&disk_fixture, &file), "has its final name");
    }
}

#[test]
fn nothing_is_in_flight_beside_a_change_of_a_file() {
    let read = |file: &File| DiskFixture::read_op(file, 0, 1);
    let write = |file: &File| DiskFixture::write_op(file, 0, b"x");
    let truncate = |file: &File| FileOp::Truncate { file: file.clone(), bytes: 0 };
    let sync = |file: &File| FileOp::Sync { file: file.clone() };
    // The checker also finds it if the first operation has completed and its completion was not
    // taken.
    for immediate_ppm in [0, 1_000_000] {
        for pair in 0..4 {
            let (disk_fixture, file) = with_part();
            disk_fixture.set_faults(Faults { immediate_ppm, ..Faults::none() });
            let [first, second] = match pair {
                0 => [write(&file), read(&file)],
                1 => [read(&file), write(&file)],
                2 => [truncate(&file), write(&file)],
                _ => [sync(&file), sync(&file)],
            };
            let act = move |lane: &mut posthouse_io::Lane| {
                lane.submit(Tag(90), Op::File(Box::new(first)));
                lane.submit(Tag(91), Op::File(Box::new(second)));
            };
            assert_says(|| disk_fixture.fixture.on_lane(act), "a second operation in flight");
        }
    }
}

#[test]
fn reads_of_one_file_and_writes_of_two_beside_a_sync_are_no_bug() {
    let (disk_fixture, file) = with_part();
    disk_fixture.set_faults(Faults { immediate_ppm: 0, ..Faults::none() });
    let second = disk_fixture.part("q").unwrap().0;
    disk_fixture.disk.write("f", b"x");
    let (read, _) = disk_fixture.open("f").unwrap();
    for op in [
        DiskFixture::read_op(&read, 0, 1),
        DiskFixture::read_op(&read, 1, 1),
        FileOp::Metadata { file: read.clone() },
        DiskFixture::write_op(&file, 0, b"x"),
        DiskFixture::write_op(&second, 0, b"x"),
        FileOp::Sync { file: second.clone() },
    ] {
        disk_fixture.submit(op);
    }
    drop((file, second, read));
    disk_fixture.fixture.end_clean();
}

#[test]
fn files_and_directories_of_other_disks_are_bugs() {
    let (disk_fixture, file) = with_part();
    let directory = disk_fixture.fixture.network.disk("other").directory();
    let act = || disk_fixture.submit(FileOp::RemovePart { directory, name: "p".into(), file });
    assert_says(act, "different disks");
    let one = with_part().0;
    let (two, _) = with_part();
    let directory = one.directory.clone();
    let age_ms = 0;
    assert_says(|| two.submit(FileOp::ExpireParts { directory, age_ms }), "another network");
    let (_one, file) = with_part();
    let (two, _) = with_part();
    assert_says(|| two.sync(&file), "another network");
    #[cfg(target_os = "linux")]
    {
        let (disk_fixture, _) = with_part();
        let directory = posthouse_io::Directory::open(std::path::Path::new(".")).unwrap();
        let act = || disk_fixture.submit(FileOp::ExpireParts { directory, age_ms });
        assert_says(act, "a directory of a real system");
    }
}

#[test]
fn a_part_that_nobody_can_take_any_more_does_not_hang_the_verdict() {
    let (disk_fixture, _) = with_part();
    disk_fixture.set_faults(Faults { immediate_ppm: 0, ..Faults::none() });
    let directory = disk_fixture.directory.clone();
    disk_fixture.submit(FileOp::OpenPart { directory, name: "q".into() });
    disk_fixture.fixture.end();
    assert_says(|| disk_fixture.fixture.network.settle(), "a lost completion");
    drop(disk_fixture);
}

#[test]
fn a_verdict_that_was_caught_is_repeated() {
    let fixture = fixture();
    let (socket, _raw, _) = fixture.pair();
    let act = move |lane: &mut posthouse_io::Lane| {
        let act = AssertUnwindSafe(|| lane.submit(Tag(1), Op::Send(socket, Gather::default())));
        catch_unwind(act).expect_err("the checker fires");
    };
    assert_says(|| fixture.on_lane(act), "reported before, and caught");
}

#[test]
fn a_worker_that_spins_is_a_livelock() {
    let network = Network::with(7, Faults::none());
    let port = open(&network, Layout::Pinned, 1);
    port.spawn(LaneId(0), "spinner", |_| Turn::Again).unwrap();
    assert_says(|| network.settle(), "livelock: workers spin");
}

#[test]
fn an_operation_that_fails_and_is_submitted_again_at_once_for_ever_is_a_livelock() {
    let network = Network::with(7, Faults::none());
    let port = open(&network, Layout::Pinned, 1);
    let mut socket = None;
    let step = move |lane: &mut posthouse_io::Lane| {
        let socket = *socket.get_or_insert_with(|| lane.socket());
        while lane.next_completion().is_some() {}
        lane.submit(Tag(1), Op::Receive(socket, ReceiveMode::Once));
        Turn::Sleep(None)
    };
    port.spawn(LaneId(0), "stubborn", step).unwrap();
    assert_says(|| network.settle(), "livelock: workers spin");
}

#[test]
fn a_worker_cannot_wait() {
    let network = Network::with(7, Faults::none());
    let port = open(&network, Layout::Pinned, 1);
    let notify = port.notify();
    let step = move |_: &mut posthouse_io::Lane| {
        notify.wait_until(Some(Duration::from_secs(1)), || None::<()>);
        Turn::Done
    };
    port.spawn(LaneId(0), "waiter", step).unwrap();
    let payload = catch_unwind(AssertUnwindSafe(|| network.settle())).expect_err("it panics");
    let text = payload.downcast_ref::<&str>().expect("the panic has a text");
    assert!(text.contains("cannot be done on one"), "{text}");
}
