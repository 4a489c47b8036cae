//! Simulated disks: the effects of each file operation, and its duration.

use std::collections::BTreeSet;
use std::time::Duration;

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{Failure, FileOp, Gather, Metadata, Op, Segment, Tag, Usage};

use crate::disk_fixture::DiskFixture;
use crate::fixture::Fixture;

const ALWAYS: u32 = 1_000_000;

fn quiet() -> DiskFixture {
    DiskFixture::new(Faults::none())
}

#[test]
fn a_file_that_is_there_is_opened_and_read_to_its_end() {
    let disk_fixture = quiet();
    disk_fixture.disk.write("a/b.txt", b"0123456789");
    let (file, metadata) = disk_fixture.open("a/b.txt").unwrap();
    assert_eq!(metadata, Metadata { bytes: 10, modified_ns: 0, mode: Some(0o644) });
    assert_eq!(disk_fixture.read(&file, 0, 4).unwrap(), b"0123");
    assert_eq!(disk_fixture.read(&file, 4, 100).unwrap(), b"456789");
    assert_eq!(disk_fixture.read(&file, 10, 1).unwrap(), b"");
    assert_eq!(disk_fixture.read(&file, u64::MAX, 1).unwrap(), b"");
    assert_eq!(disk_fixture.metadata(&file).unwrap(), metadata);
    drop(file);
    disk_fixture.fixture.end_clean();
}

#[test]
fn a_file_keeps_its_identity_and_another_one_has_another() {
    let disk_fixture = quiet();
    disk_fixture.disk.write("file", b"content");
    disk_fixture.disk.write("other", b"content");
    let identity = disk_fixture.identity("file");
    assert_ne!(identity, disk_fixture.identity("other"));
    disk_fixture.disk.append("file", b"more");
    assert_eq!(disk_fixture.identity("file"), identity, "written");
    disk_fixture.disk.write("file", b"content");
    assert_ne!(disk_fixture.identity("file"), identity, "replaced");
}

#[test]
fn what_is_no_file_is_not_opened() {
    let disk_fixture = quiet();
    disk_fixture.disk.write("a/b.txt", b"x");
    let failure = |path| disk_fixture.open(path).map(|_| ()).unwrap_err();
    assert_eq!(failure("a"), Failure::NotAFile);
    assert_eq!(failure("a/c.txt"), Failure::NotFound);
    assert_eq!(failure("b/b.txt"), Failure::NotFound);
    assert_eq!(failure("a/b.txt/c"), Failure::NotFound);
}

#[test]
fn a_part_becomes_a_file() {
    let disk_fixture = quiet();
    let (file, bytes) = disk_fixture.part("p").unwrap();
    assert_eq!(bytes, 0);
    assert_eq!(disk_fixture.write(&file, 0, b"hello "), Ok(6));
    assert_eq!(disk_fixture.write(&file, 6, b"world and more"), Ok(14));
    disk_fixture.truncate(&file, 11).unwrap();
    assert_eq!(disk_fixture.read(&file, 0, 100).unwrap(), b"hello world");
    disk_fixture.sync(&file).unwrap();
    assert_eq!(disk_fixture.disk.files(), [""; 0]);
    assert_eq!(disk_fixture.disk.parts(), [("p".to_owned(), b"hello world".to_vec())]);
    disk_fixture.publish("p", &file, "in/the/house").unwrap();
    assert_eq!(disk_fixture.disk.files(), ["in/the/house"]);
    assert_eq!(disk_fixture.disk.read("in/the/house").unwrap(), b"hello world");
    assert_eq!(disk_fixture.part_names(), ["p"], "the part lost its own name");
    disk_fixture.remove_part("p", &file).unwrap();
    assert_eq!(disk_fixture.part_names(), [""; 0]);
    assert_eq!(disk_fixture.disk.read("in/the/house").unwrap(), b"hello world");
    drop(file);
    disk_fixture.fixture.end_clean();
}

#[test]
fn a_part_that_is_left_is_found_again_with_what_it_holds() {
    let disk_fixture = quiet();
    drop(disk_fixture.part_with("p", b"half"));
    let (file, bytes) = disk_fixture.part("p").unwrap();
    assert_eq!((bytes, disk_fixture.read(&file, 0, 9).unwrap()), (4, b"half".to_vec()));
}

#[test]
fn a_write_past_the_end_leaves_a_hole_and_a_gather_is_written_in_order() {
    let disk_fixture = quiet();
    let file = disk_fixture.part_with("p", b"ab");
    let mut data = Gather::default();
    data.push(Segment::Owned(b"xgone".to_vec()));
    data.push(Segment::Shared(b"de".as_slice().into()));
    data.advance(1, drop);
    disk_fixture.perform(FileOp::Write { file: file.clone(), offset: 4, data }).unwrap();
    assert_eq!(disk_fixture.read(&file, 0, 99).unwrap(), b"ab\0\0gonede");
    disk_fixture.truncate(&file, 3).unwrap();
    disk_fixture.truncate(&file, 5).unwrap();
    assert_eq!(disk_fixture.read(&file, 0, 99).unwrap(), b"ab\0\0\0");
    assert_eq!(disk_fixture.write(&file, 1 << 60, b"x"), Err(Failure::NoSpace));
    assert_eq!(disk_fixture.truncate(&file, 1 << 60), Err(Failure::NoSpace));
}

#[test]
fn a_final_name_is_given_once_and_where_it_can_be() {
    let disk_fixture = quiet();
    disk_fixture.disk.write("taken", b"first");
    disk_fixture.disk.write("directory/file", b"x");
    let file = disk_fixture.part_with("p", b"second");
    assert_eq!(disk_fixture.publish("p", &file, "taken"), Err(Failure::Exists));
    assert_eq!(disk_fixture.publish("p", &file, "directory"), Err(Failure::Exists));
    assert_eq!(disk_fixture.publish("p", &file, "taken/name"), Err(Failure::Exists));
    assert_eq!(disk_fixture.publish("p", &file, "new/directory/name"), Ok(()));
    assert_eq!(disk_fixture.publish("p", &file, "new/directory/name"), Err(Failure::Exists));
    assert_eq!(disk_fixture.publish("p", &file, "new/directory"), Err(Failure::Exists));
    assert_eq!(disk_fixture.disk.files(), ["directory/file", "new/directory/name", "taken"]);
    assert_eq!(disk_fixture.disk.read("taken").unwrap(), b"first");
}

#[test]
fn a_part_without_any_name_cannot_be_published() {
    let disk_fixture = quiet();
    let file = disk_fixture.part_with("p", b"x");
    disk_fixture.remove_part("p", &file).unwrap();
    disk_fixture.remove_part("p", &file).unwrap();
    assert_eq!(disk_fixture.read(&file, 0, 9).unwrap(), b"x", "the holder has lost the part");
    assert_eq!(disk_fixture.publish("p", &file, "name"), Err(Failure::NotFound));
}

#[test]
fn a_published_file_has_the_time_and_the_mode_that_were_asked_for() {
    let disk_fixture = quiet();
    disk_fixture.fixture.network.run_until(Some(Duration::from_millis(1234)), || None::<()>);
    for (name, modified_ns, executable) in [("a", None, false), ("b", Some(-5), true)] {
        let file = disk_fixture.part_with(name, b"abc");
        let published = FileOp::Publish {
            directory: disk_fixture.directory.clone(),
            part: name.into(),
            file: file.clone(),
            path: name.into(),
            modified_ns,
            executable,
        };
        disk_fixture.perform(published).unwrap();
        let modified_ns = modified_ns.unwrap_or(1_234_000_000);
        let mode = Some(if executable { 0o755 } else { 0o644 });
        let expected = Metadata { bytes: 3, modified_ns, mode };
        assert_eq!(disk_fixture.metadata(&file).unwrap(), expected);
        assert_eq!(disk_fixture.open(name).unwrap().1, expected);
    }
}

#[test]
fn a_part_is_locked_until_its_last_clone_is_dropped() {
    let disk_fixture = quiet();
    let (file, _) = disk_fixture.part("p").unwrap();
    let clone = file.clone();
    drop(file);
    let refused = || disk_fixture.part("p").map(|_| ());
    assert_eq!(refused(), Err(Failure::Locked));
    assert!(disk_fixture.part("q").is_ok(), "two parts share a lock");
    drop(clone);
    assert_eq!(refused(), Ok(()));
}

#[test]
fn an_operation_in_flight_holds_the_lock() {
    let disk_fixture = DiskFixture::new(Faults { immediate_ppm: 0, ..Faults::none() });
    let (file, _) = disk_fixture.part("p").unwrap();
    let slow = Duration::from_secs(1);
    disk_fixture.set_faults(Faults { disk_delay: slow..=slow, immediate_ppm: 0, ..Faults::none() });
    let sync = disk_fixture.submit(FileOp::Sync { file });
    disk_fixture.set_faults(Faults { immediate_ppm: 0, ..Faults::none() });
    assert_eq!(disk_fixture.part("p").map(|_| ()), Err(Failure::Locked));
    assert_eq!(disk_fixture.next().map(|(tag, result)| (tag, result.is_ok())), Some((sync, true)));
    assert!(disk_fixture.part("p").is_ok());
}

#[test]
fn removing_a_part_removes_this_files_name_only() {
    let disk_fixture = quiet();
    let one = disk_fixture.part_with("p", b"one");
    let other = disk_fixture.part_with("q", b"other");
    disk_fixture.remove_part("q", &one).unwrap();
    disk_fixture.remove_part("no such part", &one).unwrap();
    assert_eq!(disk_fixture.part_names(), ["p", "q"]);
    disk_fixture.remove_part("p", &one).unwrap();
    let (again, bytes) = disk_fixture.part("p").unwrap();
    assert_eq!(bytes, 0, "a new file");
    disk_fixture.remove_part("p", &one).unwrap();
    assert_eq!(disk_fixture.part_names(), ["p", "q"]);
    drop((again, other));
}

#[test]
fn a_part_that_was_published_and_not_removed_is_put_out_of_the_way() {
    let disk_fixture = quiet();
    let file = disk_fixture.part_with("p", b"published");
    disk_fixture.publish("p", &file, "name").unwrap();
    assert_eq!(disk_fixture.part("p").map(|_| ()), Err(Failure::Locked));
    drop(file);
    let (file, bytes) = disk_fixture.part("p").unwrap();
    assert_eq!(bytes, 0);
    disk_fixture.write_all(&file, 0, b"another");
    assert_eq!(disk_fixture.disk.read("name").unwrap(), b"published");
}

#[test]
fn a_file_takes_the_name_of_a_directory() {
    let disk_fixture = quiet();
    disk_fixture.disk.write("a/file", b"x");
    for taken in ["a/file", "a/file/b", "a/file/b/c"] {
        assert_eq!(disk_fixture.look_up_directory(taken), Err(Failure::Exists), "{taken}");
        assert_eq!(disk_fixture.make_directory(taken), Err(Failure::Exists), "{taken}");
    }
    assert_eq!(disk_fixture.look_up_directory("a/b"), Err(Failure::NotFound));
    assert_eq!(disk_fixture.make_directory("a/b/c"), Ok(()));
    assert_eq!(disk_fixture.look_up_directory("a/b"), Ok(()));
}

#[test]
fn parts_give_way_that_are_not_locked_the_oldest_first() {
    let disk_fixture = quiet();
    let pause = || {
        disk_fixture.fixture.network.run_until(Some(Duration::from_secs(1)), || None::<()>);
    };
    disk_fixture.disk.write("file", b"x");
    let held = disk_fixture.part_with("held", b"five5");
    for (name, content) in [("b", "four"), ("d", "six six"), ("a", "x")] {
        pause();
        drop(disk_fixture.part_with(name, content.as_bytes()));
    }
    assert_eq!(disk_fixture.free_parts(18, 0), Err(Failure::NoSpace), "all parts hold 17 bytes");
    assert_eq!(disk_fixture.free_parts(0, 5), Err(Failure::NoSpace), "there are 4 parts");
    assert_eq!(disk_fixture.part_names(), ["a", "b", "d", "held"], "none goes in vain");
    assert_eq!(disk_fixture.disk.freed_parts(), 0);
    assert_eq!(disk_fixture.free_parts(4, 1), Ok(4));
    assert_eq!(disk_fixture.part_names(), ["a", "d", "held"]);
    assert_eq!(disk_fixture.free_parts(0, 2), Ok(2));
    assert_eq!(disk_fixture.part_names(), ["held"]);
    drop(disk_fixture.part_with("e", b"x"));
    // More than nobody holds: the holder keeps its part.
    assert_eq!(disk_fixture.free_parts(6, 0), Err(Failure::NoSpace));
    assert_eq!(disk_fixture.part_names(), ["held"]);
    assert_eq!(disk_fixture.disk.freed_parts(), 4);
    drop(held);
    assert_eq!(disk_fixture.free_parts(1, 0), Ok(1));
    assert_eq!(disk_fixture.disk.files(), ["file"]);
}

#[test]
fn parts_expire_that_are_old_and_not_locked() {
    let disk_fixture = quiet();
    let held = disk_fixture.part_with("held", b"x");
    drop(disk_fixture.part_with("old", b"x"));
    disk_fixture.disk.write("old file", b"x");
    disk_fixture.fixture.network.run_until(Some(Duration::from_secs(10)), || None::<()>);
    drop(disk_fixture.part_with("new", b"x"));
    disk_fixture.fixture.network.run_until(Some(Duration::from_secs(1)), || None::<()>);
    disk_fixture.expire(11_000).unwrap();
    assert_eq!(disk_fixture.part_names(), ["held", "new", "old"]);
    disk_fixture.expire(10_999).unwrap();
    assert_eq!(disk_fixture.part_names(), ["held", "new"]);
    drop(held);
    disk_fixture.expire(0).unwrap();
    assert_eq!(disk_fixture.part_names(), [""; 0]);
    assert_eq!(disk_fixture.disk.files(), ["old file"]);
}

#[test]
fn a_list_is_in_the_order_of_whole_paths_and_goes_on_after_any() {
    let disk_fixture = quiet();
    let paths = ["a", "b-c", "b.txt", "b/a", "b/c/d", "c", "ä"];
    for path in paths.iter().rev() {
        disk_fixture.disk.write(path, path.as_bytes());
    }
    let _part = disk_fixture.part_with("p", b"x");
    let names = |after: &str, max_entries| {
        let (entries, more) = disk_fixture.list(after, max_entries).unwrap();
        assert!(entries.iter().all(|entry| entry.metadata.bytes == entry.path.len() as u64));
        let paths: Vec<String> = entries.into_iter().map(|entry| entry.path.into()).collect();
        (paths, more)
    };
    let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    assert_eq!(names("", 7), (owned(&paths), false));
    assert_eq!(names("", 6), (owned(&paths[..6]), true));
    assert_eq!(names("b/a", 2), (owned(&paths[4..6]), true));
    assert_eq!(names("b/b", 100), (owned(&paths[4..]), false));
    assert_eq!(names("ä", 1), (Vec::new(), false));
    let two = posthouse_io::FileEntry::memory_bytes(1) + posthouse_io::FileEntry::memory_bytes(3);
    for (max_bytes, count) in [(0, 1), (two - 1, 1), (two, 2)] {
        let (entries, more) = disk_fixture.list_some("", (9, max_bytes), |_| true).unwrap();
        assert_eq!((entries.len(), more), (count, true), "{max_bytes} bytes");
    }
    let (entries, more) = disk_fixture.list_some("", (2, two), |path| path.len() < 2).unwrap();
    assert_eq!((entries[0].path.as_ref(), entries[1].path.as_ref(), more), ("a", "c", false));
    let mut seen = Vec::new();
    loop {
        let (page, more) = names(seen.last().map_or("", String::as_str), 1);
        seen.extend(page);
        if !more {
            break;
        }
    }
    assert_eq!(seen, paths);
}

#[test]
fn a_test_changes_files_while_they_are_read() {
    let disk_fixture = quiet();
    disk_fixture.disk.write("f", b"0123456789");
    let (file, _) = disk_fixture.open("f").unwrap();
    disk_fixture.disk.append("f", b"more");
    assert_eq!(disk_fixture.read(&file, 8, 99).unwrap(), b"89more");
    disk_fixture.disk.truncate("f", 3);
    assert_eq!(disk_fixture.read(&file, 0, 99).unwrap(), b"012");
    assert_eq!(disk_fixture.metadata(&file).unwrap().bytes, 3);
    disk_fixture.disk.write("f", b"new");
    assert_eq!(
        disk_fixture.read(&file, 0, 99).unwrap(),
        b"012",
        "the old one, which has no name now"
    );
    assert_eq!(disk_fixture.disk.read("f").unwrap(), b"new");
    assert!(disk_fixture.disk.remove("f"));
    assert!(!disk_fixture.disk.remove("f"));
    assert_eq!((disk_fixture.disk.read("f"), disk_fixture.disk.files()), (None, Vec::new()));
}

#[test]
fn usage_counts_what_parts_hold_and_each_file_once() {
    let disk_fixture = quiet();
    disk_fixture.disk.write("a/b", b"12345");
    let file = disk_fixture.part_with("p", b"123");
    assert_eq!(
        disk_fixture.directory.usage().unwrap(),
        Usage { bytes: 8, files: 2, empty_directories: 0 }
    );
    disk_fixture.publish("p", &file, "f").unwrap();
    assert_eq!(
        disk_fixture.directory.usage().unwrap(),
        Usage { bytes: 8, files: 2, empty_directories: 0 }
    );
    disk_fixture.remove_part("p", &file).unwrap();
    assert_eq!(
        disk_fixture.directory.usage().unwrap(),
        Usage { bytes: 8, files: 2, empty_directories: 0 }
    );
}

#[test]
fn disks_are_apart_and_outlive_ports() {
    let network = Network::with(1, Faults::none());
    let disk_fixture = DiskFixture::on(&network);
    drop(disk_fixture.part_with("p", b"kept"));
    network.disk("other").write("p", b"x");
    disk_fixture.fixture.end_clean();
    let disk_fixture = DiskFixture::on(&network);
    assert_eq!((disk_fixture.part("p").unwrap().1, disk_fixture.disk.files().len()), (4, 0));
}

#[test]
fn a_full_disk_takes_what_there_is_room_for() {
    let disk_fixture = quiet();
    disk_fixture.disk.write("a", b"12345");
    disk_fixture.disk.capacity(12);
    let (file, _) = disk_fixture.part("p").unwrap();
    assert_eq!(disk_fixture.write(&file, 0, b"123"), Ok(3));
    assert_eq!(disk_fixture.write(&file, 3, b"456789"), Ok(4), "twelve bytes in all");
    assert_eq!(disk_fixture.write(&file, 7, b"8"), Err(Failure::NoSpace));
    assert_eq!(disk_fixture.write(&file, 0, b"abc"), Ok(3), "existing bytes cannot be overwritten");
    assert_eq!(disk_fixture.part("q").map(|_| ()), Err(Failure::NoSpace));
    assert_eq!(disk_fixture.publish("p", &file, "b"), Ok(()), "a name takes no room");
    disk_fixture.remove_part("p", &file).unwrap();
    assert!(disk_fixture.disk.remove("b"));
    assert_eq!(
        disk_fixture.part("q").map(|_| ()),
        Err(Failure::NoSpace),
        "the space of an open file was freed"
    );
    drop(file);
    let (file, _) = disk_fixture.part("q").unwrap();
    assert_eq!(disk_fixture.write(&file, 0, &[1; 100]), Ok(7));
    disk_fixture.disk.capacity(u64::MAX);
    assert_eq!(disk_fixture.write(&file, 7, &[1; 100]), Ok(100));
    assert_eq!(
        disk_fixture.fixture.network.fault_counts().disk_full,
        0,
        "a full disk was counted as a fault"
    );
}

#[test]
fn operations_take_time_and_none_waits_for_another() {
    let millis = Duration::from_millis;
    let slow = Faults { immediate_ppm: 0, disk_delay: millis(3)..=millis(3), ..Faults::none() };
    let disk_fixture = DiskFixture::new(slow);
    disk_fixture.disk.write("f", b"x");
    let before = disk_fixture.fixture.network.now();
    disk_fixture.open("f").unwrap();
    assert_eq!(disk_fixture.fixture.since(before), millis(3));
    let directory = disk_fixture.directory.clone();
    let mut orders = BTreeSet::new();
    disk_fixture.set_faults(Faults {
        immediate_ppm: 0,
        disk_delay: millis(1)..=millis(100),
        ..Faults::none()
    });
    let before = disk_fixture.fixture.network.now();
    for _ in 0..60 {
        let directory = directory.clone();
        disk_fixture.fixture.on_lane(move |lane| {
            for tag in 1001..=1003 {
                let op = FileOp::Open { directory: directory.clone(), path: "f".into() };
                lane.submit(Tag(tag), Op::File(Box::new(op)));
            }
        });
        orders.insert([(); 3].map(|()| disk_fixture.next().unwrap().0));
    }
    assert_eq!(orders.len(), 6, "any order: {orders:?}");
    assert!(disk_fixture.fixture.since(before) <= 60 * millis(100), "all three at a time");
    disk_fixture.fixture.end_clean();
}

#[test]
fn operations_finish_at_once_or_later() {
    for (immediate_ppm, expected) in [(ALWAYS, true), (0, false)] {
        let disk_fixture = DiskFixture::new(Faults { immediate_ppm, ..Faults::none() });
        let directory = disk_fixture.directory.clone();
        let at_once = disk_fixture.fixture.on_lane(move |lane| {
            let op = FileOp::ExpireParts { directory, age_ms: 0 };
            lane.submit(Tag(77), Op::File(Box::new(op)));
            lane.next_completion().is_some()
        });
        assert_eq!(at_once, expected);
    }
}

#[test]
fn settling_awaits_operations_on_files() {
    let second = Duration::from_secs(1);
    let slow = Faults { immediate_ppm: 0, disk_delay: second..=second, ..Faults::none() };
    let fixture = Fixture::new(&Network::with(1, slow));
    let directory = fixture.network.disk("disk").directory();
    fixture.submit(Op::File(Box::new(FileOp::ExpireParts { directory, age_ms: 0 })));
    fixture.network.settle();
    assert!(fixture.network.now() >= second);
    fixture.end_clean();
}
