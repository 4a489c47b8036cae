//! Disks that hang, and abandoned operations.

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{
    Cancel, Failure, FileOp, FilePart, Gather, LaneId, Layout, Op, Outcome, ReceiveMode, Segment,
    Tag, Turn,
};

use crate::checkers::assert_says;
use crate::disk_fixture::DiskFixture;
use crate::fixture::Fixture;

fn disk_fixture() -> DiskFixture {
    DiskFixture::on(&Network::with(7, Faults::none()))
}

fn give_up(fixture: &Fixture, tag: Tag) {
    fixture.on_lane(move |lane| lane.abandon(tag));
}

#[test]
fn what_a_disk_that_hangs_was_asked_for_ends_when_it_goes_on() {
    let disk_fixture = disk_fixture();
    let file = disk_fixture.part_with("p", b"part");
    disk_fixture.disk.hang();
    let write = disk_fixture.submit(DiskFixture::write_op(&file, 4, b"ial"));
    assert!(disk_fixture.next().is_none(), "an operation completed on a hung disk");
    assert_eq!(disk_fixture.disk.parts()[0].1, b"part");
    disk_fixture.disk.resume();
    assert_eq!(disk_fixture.next().expect("the operation ends").0, write);
    assert_eq!(disk_fixture.disk.parts()[0].1, b"partial");
    drop(file);
    disk_fixture.fixture.end_clean();
}

#[test]
fn a_send_of_a_file_waits_for_a_disk_that_hangs_and_can_be_cancelled() {
    for cancels in [false, true] {
        let disk_fixture = disk_fixture();
        disk_fixture.disk.write("file", b"of a disk");
        let (file, _) = disk_fixture.open("file").unwrap();
        let (socket, raw, listener) = disk_fixture.fixture.pair();
        disk_fixture.disk.hang();
        let mut gather = Gather::default();
        gather.push(Segment::File(Box::new(FilePart::new(file, 0, 9))));
        let send = disk_fixture.fixture.submit(Op::Send(socket, gather));
        assert!(
            disk_fixture.fixture.completion().is_none(),
            "an operation completed on a hung disk"
        );
        if cancels {
            disk_fixture.fixture.on_lane(move |lane| lane.cancel(socket, Cancel::Everything));
            let outcome = disk_fixture.fixture.outcome(send);
            assert!(matches!(outcome, Outcome::Failed(it) if it.failure == Failure::Cancelled));
        }
        disk_fixture.disk.resume();
        if !cancels {
            let outcome = disk_fixture.fixture.outcome(send);
            assert!(matches!(outcome, Outcome::Sent { bytes: 9, .. }), "{outcome:?}");
        }
        disk_fixture.fixture.network.settle();
        assert_eq!(raw.take_received(), if cancels { b"" } else { &b"of a disk"[..] });
        disk_fixture.fixture.close(&[socket, listener]);
        disk_fixture.fixture.end_clean();
    }
}

#[test]
fn a_port_may_go_without_what_was_given_up_and_its_late_end_meets_nobody() {
    for resumes_before in [false, true] {
        let disk_fixture = disk_fixture();
        let file = disk_fixture.part_with("p", b"part");
        disk_fixture.disk.hang();
        let write = disk_fixture.submit(DiskFixture::write_op(&file, 4, b"ial"));
        give_up(&disk_fixture.fixture, write);
        disk_fixture.fixture.end();
        let left = disk_fixture.fixture.port.drain(std::time::Duration::ZERO);
        assert_eq!((left.workers, left.leaked), (0, 1));
        let there = disk_fixture.disk.clone();
        let network = disk_fixture.fixture.network.clone();
        if resumes_before {
            there.resume();
            network.settle();
        }
        let counters = disk_fixture.fixture.port.counters();
        assert_eq!(counters.submitted - counters.completed, 1, "the operation ended");
        drop(disk_fixture);
        there.resume();
        network.settle();
        assert_eq!(there.parts()[0].1, b"partial", "the operation had no effect");
    }
}

#[test]
fn a_lane_that_is_there_takes_the_late_end_of_what_was_given_up() {
    let disk_fixture = disk_fixture();
    disk_fixture.disk.hang();
    let list = disk_fixture.submit(FileOp::Usage { directory: disk_fixture.directory.clone() });
    give_up(&disk_fixture.fixture, list);
    disk_fixture.disk.resume();
    assert_eq!(disk_fixture.next().expect("the operation ends").0, list);
    disk_fixture.fixture.end_clean();
}

#[test]
fn a_late_end_that_the_last_worker_leaves_behind_is_no_lost_completion() {
    let network = Network::with(7, Faults::none());
    let port = crate::fixture::open(&network, Layout::Pinned, 1);
    let directory = network.disk("disk").directory();
    let mut usage = Some(Box::new(FileOp::Usage { directory }));
    let step = move |lane: &mut posthouse_io::Lane| {
        lane.submit(Tag(1), Op::File(usage.take().expect("the step runs once")));
        lane.abandon(Tag(1));
        Turn::Done
    };
    port.spawn(LaneId(0), "careless", step).expect("the worker starts");
    network.settle();
    assert_eq!(port.drain(std::time::Duration::ZERO).leaked, 1);
}

#[test]
fn giving_up_what_is_not_in_flight_or_has_a_socket_is_a_bug() {
    let wrong = "is abandoned, but is not a file operation in flight";
    let desk_one = disk_fixture();
    assert_says(|| give_up(&desk_one.fixture, Tag(99)), wrong);
    let fixture = Fixture::new(&Network::with(7, Faults::none()));
    let (socket, _raw, _) = fixture.pair();
    let receive = fixture.submit(Op::Receive(socket, ReceiveMode::Once));
    assert_says(|| give_up(&fixture, receive), wrong);
    let twice = disk_fixture();
    twice.disk.hang();
    let usage = twice.submit(FileOp::Usage { directory: twice.directory.clone() });
    give_up(&twice.fixture, usage);
    assert_says(|| give_up(&twice.fixture, usage), wrong);
}

#[test]
fn what_a_disk_holds_and_nobody_gave_up_is_awaited() {
    let disk_fixture = disk_fixture();
    disk_fixture.disk.hang();
    disk_fixture.submit(FileOp::Usage { directory: disk_fixture.directory.clone() });
    disk_fixture.fixture.end();
    assert_says(|| disk_fixture, "dropped with 1 operations in flight");
}
