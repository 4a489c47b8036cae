//! Every configured fault happens, and is counted.

use std::time::Duration;

use posthouse_io::sim::{FaultCounts, Faults, Network};
use posthouse_io::{Cancel, Failure, Lane, Layout, Op, Outcome, ReceiveMode, WatchMode};

use crate::disk_fixture::DiskFixture;
use crate::fixture::{Fixture, gather};
use crate::traffic::{Plan, run};

const ALWAYS: u32 = 1_000_000;

fn fixture(faults: Faults) -> Fixture {
    Fixture::new(&Network::with(1, faults))
}

fn failure(outcome: &Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Failed(error) => Some(error.failure),
        _ => None,
    }
}

/// Runs some traffic with these faults and returns how often each of them happened.
fn tally(faults: Faults) -> FaultCounts {
    run(Plan { seed: 3, layout: Layout::Shared, clients: 4, bytes: 20_000 }, faults, false).tally
}

#[test]
fn without_faults_nothing_is_counted() {
    let expected =
        FaultCounts { immediate: tally(Faults::none()).immediate, ..FaultCounts::default() };
    assert_eq!(tally(Faults::none()), expected);
    assert!(expected.immediate > 0);
}

#[test]
fn submissions_finish_at_once_or_later() {
    let faults = Faults { immediate_ppm: 0, ..Faults::none() };
    let tally = tally(faults);
    assert!(tally.immediate == 0 && tally.delayed > 0, "{tally:?}");
    // An immediate operation completes before the step ends.
    for (immediate_ppm, expected) in [(ALWAYS, true), (0, false)] {
        let fixture = fixture(Faults { immediate_ppm, ..Faults::none() });
        let (socket, _raw, _) = fixture.pair();
        let at_once = fixture.on_lane(move |lane| {
            lane.submit(posthouse_io::Tag(77), Op::Send(socket, gather(b"x")));
            lane.next_completion().is_some()
        });
        assert_eq!(at_once, expected);
    }
}

#[test]
fn receives_and_sends_are_partial_and_windows_fill() {
    let partial = Faults {
        partial_receive_ppm: ALWAYS,
        partial_send_ppm: ALWAYS,
        window_bytes: 1..=64,
        ..Faults::none()
    };
    let tally = tally(partial);
    assert!(tally.partial_receive > 100 && tally.partial_send > 100, "{tally:?}");
    assert!(tally.window_full > 100, "{tally:?}");
}

#[test]
fn completions_are_taken_out_of_order_in_the_shared_layout_only() {
    let faults = Faults { reorder_span: 8, ..Faults::none() };
    assert!(tally(faults.clone()).reordered > 10);
    let pinned = Plan { seed: 3, layout: Layout::Pinned, clients: 4, bytes: 20_000 };
    assert_eq!(run(pinned, faults, false).tally.reordered, 0);
}

#[test]
fn a_cancel_can_come_too_late() {
    let mut late = 0;
    for seed in 0..50 {
        let faults = Faults {
            cancel_late_ppm: ALWAYS,
            completion_delay: Duration::ZERO..=Duration::from_micros(200),
            ..Faults::none()
        };
        let fixture = Fixture::new(&Network::with(seed, faults));
        let (socket, raw, _) = fixture.pair();
        let receive = fixture.submit(Op::Receive(socket, ReceiveMode::Once));
        raw.send(b"x");
        fixture.on_lane(move |lane| lane.cancel(socket, Cancel::Everything));
        match fixture.outcome(receive) {
            Outcome::Received(_) => late += 1,
            outcome => assert_eq!(failure(&outcome), Some(Failure::Cancelled)),
        }
        assert_eq!(fixture.network.fault_counts().cancel_late, 1);
    }
    assert!((5..45).contains(&late), "{late} of 50 were late");
}

#[test]
fn a_late_cancel_spares_what_was_submitted_after_it() {
    let fixture = fixture(Faults { cancel_late_ppm: ALWAYS, ..Faults::none() });
    let (socket, raw, _) = fixture.pair();
    fixture.on_lane(move |lane| {
        lane.submit(posthouse_io::Tag(100), Op::Receive(socket, ReceiveMode::Once));
        lane.cancel(socket, Cancel::Receives);
        lane.submit(posthouse_io::Tag(101), Op::Receive(socket, ReceiveMode::Once));
    });
    assert_eq!(failure(&fixture.outcome(posthouse_io::Tag(100))), Some(Failure::Cancelled));
    raw.send(b"x");
    assert!(matches!(fixture.outcome(posthouse_io::Tag(101)), Outcome::Received(_)));
}

#[test]
fn receives_fail_for_want_of_buffers_and_lose_nothing() {
    for mode in [ReceiveMode::Once, ReceiveMode::Stream] {
        let fixture = fixture(Faults::none());
        let (socket, raw, _) = fixture.pair();
        let receive = fixture.submit(Op::Receive(socket, mode));
        let short = Faults { receive_no_buffers_ppm: ALWAYS, ..Faults::none() };
        fixture.network.set_faults(short);
        raw.send(b"kept");
        fixture.network.settle();
        let outcome = fixture.outcome(receive);
        if mode == ReceiveMode::Stream {
            assert_eq!(failure(&outcome), Some(Failure::NoBuffers));
            assert_eq!(failure(&fixture.receive(socket)), Some(Failure::NoBuffers));
            assert_eq!(fixture.network.fault_counts().receive_no_buffers, 2);
            fixture.network.set_faults(Faults::none());
            assert!(matches!(fixture.receive(socket), Outcome::Received(b) if *b == *b"kept"));
        } else {
            assert!(
                matches!(outcome, Outcome::Received(_)),
                "neither a failed submission nor received bytes"
            );
        }
    }
}

#[test]
fn a_watch_fails_for_want_of_memory_and_can_be_submitted_again() {
    for mode in [WatchMode::End, WatchMode::Failure] {
        let fixture = fixture(Faults::none());
        let (socket, raw, _) = fixture.pair();
        fixture.network.set_faults(Faults { receive_no_buffers_ppm: ALWAYS, ..Faults::none() });
        let outcome = fixture.perform(Op::Watch(socket, mode));
        assert_eq!(failure(&outcome), Some(Failure::NoBuffers));
        assert_eq!(fixture.network.fault_counts().receive_no_buffers, 1);
        fixture.network.set_faults(Faults::none());
        let watch = fixture.submit(Op::Watch(socket, mode));
        raw.reset();
        assert_eq!(failure(&fixture.outcome(watch)), Some(Failure::Reset));
    }
}

#[test]
fn a_send_without_room_in_the_system_comes_back_whole() {
    let fixture = fixture(Faults::none());
    let (socket, raw, _) = fixture.pair();
    fixture.network.set_faults(Faults { send_no_buffers_ppm: ALWAYS, ..Faults::none() });
    let outcome = fixture.send(socket, b"again");
    let Outcome::Sent { bytes: 0, gather } = outcome else { panic!("no bytes sent: {outcome:?}") };
    assert_eq!((gather.len(), fixture.network.fault_counts().send_no_buffers), (5, 1));
    fixture.network.set_faults(Faults::none());
    assert!(matches!(fixture.perform(Op::Send(socket, gather)), Outcome::Sent { bytes: 5, .. }));
    fixture.network.settle();
    assert_eq!(raw.take_received(), b"again");
}

#[test]
fn a_stream_that_cannot_send_says_so_whatever_room_there_is() {
    let fixture = fixture(Faults { send_no_buffers_ppm: ALWAYS, ..Faults::none() });
    let (socket, _raw, _) = fixture.pair();
    fixture.on_lane(move |lane| lane.reset(socket));
    assert_eq!(failure(&fixture.send(socket, b"x")), Some(Failure::Reset));
}

#[test]
fn descriptors_are_short_for_a_while_and_the_peer_waits() {
    let ms = Duration::from_millis;
    let short = Faults {
        no_descriptors_ppm: ALWAYS,
        no_descriptors_time: ms(100)..=ms(100),
        ..Faults::none()
    };
    let fixture = fixture(short);
    let (listener, address) = fixture.listen("127.0.0.1:0");
    let accept = fixture.submit(Op::Accept(listener));
    let _raw = fixture.network.dial(address);
    assert_eq!(failure(&fixture.outcome(accept)), Some(Failure::NoDescriptors));
    let socket = fixture.on_lane(Lane::socket);
    let connect = Op::Connect(socket, address);
    assert_eq!(failure(&fixture.perform(connect)), Some(Failure::NoDescriptors));
    assert_eq!(fixture.network.fault_counts().no_descriptors, 2);
    // A shortage that has begun lasts, whatever the chance of the next one.
    fixture.network.set_faults(Faults::none());
    fixture.network.run_until(Some(ms(50)), || None::<()>);
    let accept = fixture.submit(Op::Accept(listener));
    assert_eq!(failure(&fixture.outcome(accept)), Some(Failure::NoDescriptors));
    fixture.network.run_until(Some(ms(50)), || None::<()>);
    let accept = fixture.submit(Op::Accept(listener));
    assert!(matches!(fixture.outcome(accept), Outcome::Accepted(_)), "the peer has waited");
    assert!(matches!(fixture.perform(Op::Connect(socket, address)), Outcome::Connected));
}

#[test]
fn connections_are_reset_by_chance() {
    let fixture = fixture(Faults::none());
    let (socket, raw, _) = fixture.pair();
    fixture.network.set_faults(Faults { reset_ppm: ALWAYS, ..Faults::none() });
    raw.send(b"lost");
    assert_eq!(failure(&fixture.receive(socket)), Some(Failure::Reset));
    fixture.network.settle();
    assert!(raw.is_reset());
    assert_eq!(fixture.network.fault_counts().reset, 1);
}

#[test]
fn connects_and_look_ups_fail_by_chance() {
    let faults = Faults { connect_fails_ppm: ALWAYS, lookup_fails_ppm: ALWAYS, ..Faults::none() };
    let fixture = fixture(faults);
    let (_listener, address) = fixture.listen("127.0.0.1:0");
    let mut seen = Vec::new();
    for _ in 0..30 {
        let socket = fixture.on_lane(Lane::socket);
        let outcome = fixture.perform(Op::Connect(socket, address));
        let failure = failure(&outcome).expect("the operation fails");
        if !seen.contains(&failure) {
            seen.push(failure);
        }
    }
    assert_eq!((seen.len(), fixture.network.fault_counts().connect_fails), (3, 30));
    let look_up = fixture.perform(Op::Resolve("localhost:1".parse().unwrap()));
    assert_eq!(failure(&look_up), Some(Failure::NameNotFound));
    assert_eq!(fixture.network.fault_counts().lookup_fails, 1);
}

#[test]
fn reads_and_writes_of_files_are_short() {
    let short = Faults { read_short_ppm: ALWAYS, write_short_ppm: ALWAYS, ..Faults::none() };
    let disk_fixture = DiskFixture::new(short);
    let content: Vec<u8> = (0..=255).collect();
    let (file, _) = disk_fixture.part("p").unwrap();
    let written = disk_fixture.write(&file, 0, &content).unwrap();
    assert_eq!(
        disk_fixture.read(&file, written as u64, 1).unwrap(),
        b"",
        "the disk wrote more bytes than it reported"
    );
    let writes = disk_fixture.write_all(&file, 0, &content);
    let mut read = Vec::new();
    let mut reads = 0;
    while read.len() < content.len() {
        let piece = disk_fixture.read(&file, read.len() as u64, content.len()).unwrap();
        assert!(!piece.is_empty(), "a read before the end of the file returned no bytes");
        read.extend(piece);
        reads += 1;
    }
    assert!(read == content && reads > 1 && writes > 1, "{reads} reads, {writes} writes");
    let tally = disk_fixture.fixture.network.fault_counts();
    assert!(tally.read_short > 1 && tally.write_short > 1, "{tally:?}");
}

#[test]
fn a_disk_is_full_by_chance_for_what_takes_room() {
    let disk_fixture = DiskFixture::new(Faults::none());
    disk_fixture.disk.write("f", b"x");
    let file = disk_fixture.part_with("p", b"x");
    disk_fixture.set_faults(Faults { disk_full_ppm: ALWAYS, ..Faults::none() });
    assert_eq!(disk_fixture.write(&file, 0, b"y"), Err(Failure::NoSpace));
    assert_eq!(disk_fixture.part("q").map(|_| ()), Err(Failure::NoSpace));
    assert_eq!(disk_fixture.publish("p", &file, "g"), Err(Failure::NoSpace));
    assert_eq!(disk_fixture.fixture.network.fault_counts().disk_full, 3);
    assert_eq!(disk_fixture.read(&file, 0, 9).unwrap(), b"x");
    disk_fixture.truncate(&file, 0).unwrap();
    disk_fixture.sync(&file).unwrap();
    disk_fixture.remove_part("p", &file).unwrap();
    assert!(
        disk_fixture.open("f").is_ok()
            && disk_fixture.list("", 1).is_ok()
            && disk_fixture.expire(0).is_ok()
    );
}

#[test]
fn every_operation_on_files_can_fail() {
    let disk_fixture = DiskFixture::new(Faults::none());
    disk_fixture.disk.write("f", b"x");
    let file = disk_fixture.part_with("p", b"x");
    disk_fixture.set_faults(Faults { disk_fails_ppm: ALWAYS, ..Faults::none() });
    let before = (disk_fixture.disk.files(), disk_fixture.disk.parts());
    let fails = Err::<(), _>(Failure::Disk);
    assert_eq!(disk_fixture.open("f").map(|_| ()), fails);
    assert_eq!(disk_fixture.part("q").map(|_| ()), fails);
    assert_eq!(disk_fixture.truncate(&file, 0), fails);
    assert_eq!(disk_fixture.read(&file, 0, 1).map(|_| ()), fails);
    assert_eq!(disk_fixture.write(&file, 0, b"y").map(|_| ()), fails);
    assert_eq!(disk_fixture.sync(&file), fails);
    assert_eq!(disk_fixture.metadata(&file).map(|_| ()), fails);
    assert_eq!(disk_fixture.publish("p", &file, "g"), fails);
    assert_eq!(disk_fixture.remove_part("p", &file), fails);
    assert_eq!(disk_fixture.expire(0), fails);
    assert_eq!(disk_fixture.list("", 1).map(|_| ()), fails);
    assert_eq!((disk_fixture.disk.files(), disk_fixture.disk.parts()), before);
    assert_eq!(disk_fixture.fixture.network.fault_counts().disk_fails, 11);
}

#[test]
fn a_publication_that_fails_can_have_given_the_name() {
    let mut with = 0;
    let mut without = 0;
    for seed in 0..100 {
        let disk_fixture = DiskFixture::on(&Network::with(seed, Faults::none()));
        let file = disk_fixture.part_with("p", b"whole");
        disk_fixture.set_faults(Faults { disk_fails_ppm: ALWAYS / 3, ..Faults::none() });
        if disk_fixture.publish("p", &file, "f") == Err(Failure::Disk) {
            let content = disk_fixture.disk.read("f");
            with += u64::from(content.as_deref() == Some(b"whole"));
            without += u64::from(content.is_none());
        }
    }
    assert!(with > 10 && without > 10, "{with} with the name, {without} without");
}

#[test]
fn without_losses_no_operation_on_files_fails() {
    for seed in 0..100 {
        let faults = Faults::from_seed(seed).without_losses();
        let disk_fixture = DiskFixture::on(&Network::with(seed, faults));
        let file = disk_fixture.part_with("p", &[7; 500]);
        disk_fixture.publish("p", &file, "f").unwrap();
        disk_fixture.remove_part("p", &file).unwrap();
        assert_eq!(disk_fixture.disk.read("f").unwrap(), [7; 500]);
    }
}

#[test]
fn workers_wake_for_no_reason_and_late() {
    let ms = Duration::from_millis;
    let fixture = fixture(Faults::none());
    fixture.network.settle();
    let steps = fixture.steps();
    let before = fixture.network.now();
    let late = Faults { wake_late_ppm: ALWAYS, wake_delay: ms(5)..=ms(5), ..Faults::none() };
    fixture.network.set_faults(late);
    fixture.on_lane(|_| ());
    assert_eq!((fixture.since(before), fixture.steps()), (ms(5), steps + 1));
    assert_eq!(fixture.network.fault_counts().wake_late, 1);
    let spurious =
        Faults { wake_spurious_ppm: ALWAYS, wake_delay: ms(5)..=ms(5), ..Faults::none() };
    fixture.network.set_faults(spurious);
    fixture.on_lane(|_| ());
    let steps = fixture.steps();
    fixture.network.run_until(Some(ms(51)), || None::<()>);
    assert!(fixture.steps() >= steps + 10, "{} steps", fixture.steps() - steps);
    assert!(fixture.network.fault_counts().wake_spurious >= 10);
}

#[test]
fn steps_are_asked_to_end_early_and_the_clock_jumps() {
    let fixture = fixture(Faults { yield_ppm: ALWAYS, ..Faults::none() });
    assert!(fixture.on_lane(Lane::should_yield));
    let minute = Duration::from_mins(1);
    let jump = Faults { clock_jump_ppm: ALWAYS, clock_jump: minute..=minute, ..Faults::none() };
    fixture.network.set_faults(jump);
    let before = fixture.network.now();
    fixture.on_lane(|_| ());
    assert_eq!(fixture.since(before), minute);
    let tally = fixture.network.fault_counts();
    assert_eq!((tally.clock_jump, tally.yields), (1, 1));
}

#[test]
fn a_seeds_mix_differs_and_every_fault_is_in_some() {
    let mixes: Vec<Faults> = (0..200).map(Faults::from_seed).collect();
    assert!(mixes.iter().zip(&mixes[1..]).all(|(one, other)| one != other));
    let chances: [fn(&Faults) -> u32; 18] = [
        |f| f.immediate_ppm,
        |f| f.partial_receive_ppm,
        |f| f.partial_send_ppm,
        |f| f.cancel_late_ppm,
        |f| f.receive_no_buffers_ppm,
        |f| f.send_no_buffers_ppm,
        |f| f.no_descriptors_ppm,
        |f| f.reset_ppm,
        |f| f.connect_fails_ppm,
        |f| f.lookup_fails_ppm,
        |f| f.wake_spurious_ppm,
        |f| f.wake_late_ppm,
        |f| f.yield_ppm + f.clock_jump_ppm,
        |f| f.read_short_ppm,
        |f| f.write_short_ppm,
        |f| f.disk_full_ppm,
        |f| f.disk_fails_ppm,
        |f| f.sendfile_fails_ppm,
    ];
    for (i, chance) in chances.iter().enumerate() {
        assert!(mixes.iter().any(|mix| chance(mix) > 0), "chance {i} is in some mix");
        assert!(mixes.iter().any(|mix| chance(mix) == 0), "chance {i} is not in some mix");
    }
}
