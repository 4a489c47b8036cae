//! Disks that hang, and operations that nobody awaits any more.

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{
    Cancel, Failure, FileOp, FilePart, Gather, LaneId, Layout, Name, Op, Outcome, ReceiveMode,
    Segment, Tag, Turn,
};

use crate::checkers::assert_says;
use crate::desk::Desk;
use crate::rig::Rig;

fn desk() -> Desk {
    Desk::on(&Network::with(7, Faults::none()))
}

fn give_up(rig: &Rig, tag: Tag) {
    rig.on_lane(move |lane| lane.give_up(tag));
}

#[test]
fn what_a_disk_that_hangs_was_asked_for_ends_when_it_goes_on() {
    let desk = desk();
    let file = desk.part_with("p", b"part");
    desk.disk.hang();
    let write = desk.submit(Desk::write_op(&file, 4, b"ial"));
    assert!(desk.next().is_none(), "nothing can happen");
    assert_eq!(desk.disk.parts()[0].1, b"part");
    desk.disk.resume();
    assert_eq!(desk.next().expect("it ends").0, write);
    assert_eq!(desk.disk.parts()[0].1, b"partial");
    drop(file);
    desk.rig.end_clean();
}

#[test]
fn a_send_of_a_file_waits_for_a_disk_that_hangs_and_can_be_cancelled() {
    for cancels in [false, true] {
        let desk = desk();
        desk.disk.write("file", b"of a disk");
        let (file, _) = desk.open("file").unwrap();
        let (socket, raw, listener) = desk.rig.pair();
        desk.disk.hang();
        let mut gather = Gather::default();
        gather.push(Segment::File(Box::new(FilePart::new(file, 0, 9))));
        let send = desk.rig.submit(Op::Send(socket, gather));
        assert!(desk.rig.completion().is_none(), "nothing can happen");
        if cancels {
            desk.rig.on_lane(move |lane| lane.cancel(socket, Cancel::Everything));
            let outcome = desk.rig.outcome(send);
            assert!(matches!(outcome, Outcome::Failed(it) if it.failure == Failure::Cancelled));
        }
        desk.disk.resume();
        if !cancels {
            let outcome = desk.rig.outcome(send);
            assert!(matches!(outcome, Outcome::Sent { bytes: 9, .. }), "{outcome:?}");
        }
        desk.rig.network.settle();
        assert_eq!(raw.take_received(), if cancels { b"" } else { &b"of a disk"[..] });
        desk.rig.close(&[socket, listener]);
        desk.rig.end_clean();
    }
}

#[test]
fn a_port_may_go_without_what_was_given_up_and_its_late_end_meets_nobody() {
    for resumes_before in [false, true] {
        let desk = desk();
        let file = desk.part_with("p", b"part");
        desk.disk.hang();
        let write = desk.submit(Desk::write_op(&file, 4, b"ial"));
        give_up(&desk.rig, write);
        desk.rig.end();
        let left = desk.rig.port.drain(std::time::Duration::ZERO);
        assert_eq!((left.workers, left.leaked), (0, 1));
        let (there, network) = (desk.disk.clone(), desk.rig.network.clone());
        if resumes_before {
            there.resume();
            network.settle();
        }
        let counters = desk.rig.port.counters();
        assert_eq!(counters.submitted - counters.completed, 1, "it stays in flight");
        drop(desk);
        there.resume();
        network.settle();
        assert_eq!(there.parts()[0].1, b"partial", "it takes effect all the same");
    }
}

#[test]
fn a_lane_that_is_there_takes_the_late_end_of_what_was_given_up() {
    let desk = desk();
    desk.disk.hang();
    let list = desk.submit(FileOp::Usage { directory: desk.directory.clone() });
    give_up(&desk.rig, list);
    desk.disk.resume();
    assert_eq!(desk.next().expect("it ends").0, list);
    desk.rig.end_clean();
}

#[test]
fn a_late_end_that_the_last_worker_leaves_behind_is_no_lost_completion() {
    let network = Network::with(7, Faults::none());
    let options = crate::rig::options(&network, Layout::Pinned, 1);
    let (port, _) = posthouse_io::CompletionPort::open(options).expect("a port");
    let step = |lane: &mut posthouse_io::Lane| {
        let name = Name { host: "10.0.0.9".into(), port: 1 };
        lane.submit(Tag(1), Op::Resolve(name));
        lane.give_up(Tag(1));
        Turn::Done
    };
    port.spawn(LaneId(0), "careless", step).expect("a worker");
    network.settle();
    assert_eq!(port.drain(std::time::Duration::ZERO).leaked, 1);
}

#[test]
fn giving_up_what_is_not_in_flight_or_has_a_socket_is_a_bug() {
    let wrong = "is given up, and is no operation on files or look-up in flight";
    let desk_one = desk();
    assert_says(|| give_up(&desk_one.rig, Tag(99)), wrong);
    let rig = Rig::new(&Network::with(7, Faults::none()));
    let (socket, _raw, _) = rig.pair();
    let receive = rig.submit(Op::Receive(socket, ReceiveMode::Once));
    assert_says(|| give_up(&rig, receive), wrong);
    let twice = desk();
    twice.disk.hang();
    let usage = twice.submit(FileOp::Usage { directory: twice.directory.clone() });
    give_up(&twice.rig, usage);
    assert_says(|| give_up(&twice.rig, usage), wrong);
}

#[test]
fn what_a_disk_holds_and_nobody_gave_up_is_awaited() {
    let desk = desk();
    desk.disk.hang();
    desk.submit(FileOp::Usage { directory: desk.directory.clone() });
    desk.rig.end();
    assert_says(|| desk, "dropped with 1 operations in flight");
}
