//! Files: a read returns the written bytes, a name is given once, and no partial file is visible.

use std::time::{Duration, SystemTime};

use posthouse_io::{Directory, Failure, File, FileOp, FileOutcome, Segment, Usage};

use crate::harness::{Harness, assert_same, pattern};
use crate::test_dir::{TestDir, gather_of, names_in};
use posthouse_process::is_wine;

/// Whether the system knows of a file that its owner may execute it.
const KNOWS_EXECUTABLE: bool = cfg!(unix);

/// Long enough to be read and written in several pieces.
const BYTES: usize = 300_001;

/// An offset at which the file system may fail the operation: few support a file of this size.
const FAR: u64 = 1 << 62;

pub fn a_file_is_read_back_in_pieces_to_its_end(harness: &Harness) {
    let dir = TestDir::new(harness);
    let content = pattern(BYTES, 1);
    dir.make("file", &content);
    let (file, metadata) = dir.open("file").expect("the file exists");
    assert_eq!(metadata.bytes, BYTES as u64);
    assert_eq!(dir.metadata(&file), metadata);
    for (offset, bytes) in [(0, 1), (1, 4096), (299_999, 2), (123_456, 70_000)] {
        let got = dir.read(&file, offset as u64, bytes).expect("the read succeeds");
        assert!(!got.is_empty(), "no bytes were read at {offset}");
        assert_same(&got, &content[offset..offset + got.len()]);
        assert!(got.len() <= bytes);
    }
    assert_same(&dir.read_all(&file), &content);
    assert_eq!(dir.read(&file, 300_000, 10).expect("the read succeeds").len(), 1, "the last byte");
    for beyond in [BYTES as u64, BYTES as u64 + 1, 1 << 40, u64::MAX >> 1, u64::MAX] {
        assert_eq!(
            dir.read(&file, beyond, 10).expect("the read succeeds"),
            [],
            "bytes were read at {beyond}"
        );
    }
}

pub fn a_read_gives_the_memory_back_with_nothing_else_in_it(harness: &Harness) {
    let dir = TestDir::new(harness);
    let content = pattern(10_000, 2);
    dir.make("file", &content);
    let (file, _) = dir.open("file").expect("the file exists");
    // The memory was used before, and has more capacity than the read requests.
    let mut memory = vec![0xee; 50_000];
    for offset in [0, 5000, 9990, 10_000] {
        let room = (memory.as_ptr(), memory.capacity());
        let file = file.clone();
        let bytes = 100;
        memory = match dir.run(FileOp::Read { file, offset, bytes, memory }) {
            Ok(FileOutcome::Read { memory }) => memory,
            other => panic!("bytes, not {other:?}"),
        };
        let end = content.len().min(offset as usize + 100);
        assert_same(&memory, &content[offset as usize..end]);
        assert_eq!((memory.as_ptr(), memory.capacity()), room, "the memory was replaced");
    }
}

pub fn a_file_keeps_its_identity_and_another_one_has_another(harness: &Harness) {
    let dir = TestDir::new(harness);
    dir.make("file", b"content");
    dir.make("other", b"content");
    let identity = dir.identity("file");
    let other = dir.identity("other");
    assert_ne!(identity, other);
    assert_eq!(dir.identity("file"), identity, "opened again");
    std::fs::write(dir.path("file"), b"more content").expect("the file can be written");
    assert_eq!(dir.identity("file"), identity, "written");
    std::fs::rename(dir.path("file"), dir.path("moved")).expect("the file can be renamed");
    assert_eq!(dir.identity("moved"), identity, "renamed");
    std::fs::rename(dir.path("other"), dir.path("moved")).expect("the file can be replaced");
    assert_eq!(dir.identity("moved"), other, "replaced");
}

pub fn a_part_is_written_in_pieces_and_published_whole(harness: &Harness) {
    let dir = TestDir::new(harness);
    let content = pattern(BYTES, 3);
    let (file, bytes) = dir.part("upload").expect("the part opens");
    assert_eq!(bytes, 0);
    // The writes are out of order and have many segments; one is already partly written.
    let pieces: Vec<&[u8]> = content[100_000..200_000].chunks(999).collect();
    dir.write_gather(&file, 100_000, gather_of(&pieces)).expect("the file can be written");
    dir.write(&file, 0, &content[..100_000]).expect("the file can be written");
    let mut partly = gather_of(&[b"not this", &content[200_000..]]);
    partly.push(Segment::Shared(b"this is cut off".as_slice().into()));
    partly.advance(8, drop);
    dir.write_gather(&file, 200_000, partly).expect("the file can be written");
    dir.truncate(&file, BYTES as u64).expect("the file can be truncated");
    dir.sync(&file).expect("the file can be synced");
    assert_same(&dir.read_all(&file), &content);
    assert_eq!(dir.paths(), [""; 0], "a part is not seen");
    assert_eq!(dir.open("a/b/final").err(), Some(Failure::NotFound));

    let publish = FileOp::Publish {
        directory: dir.directory.clone(),
        part: "upload".into(),
        file: file.clone(),
        path: "a/b/final".into(),
        modified_ns: Some(1_234_567_890_123_456_700),
        executable: true,
    };
    assert!(matches!(dir.run(publish), Ok(FileOutcome::Done)));
    let (published, metadata) = dir.open("a/b/final").expect("the file exists");
    assert_eq!(metadata.bytes, BYTES as u64);
    assert_eq!(metadata.modified_ns, 1_234_567_890_123_456_700);
    assert_eq!(metadata.is_executable(), KNOWS_EXECUTABLE);
    assert_same(&dir.read_all(&published), &content);

    dir.remove_part("upload", &file).expect("the file can be removed");
    drop(file);
    let (entries, more) = dir.list("", 10);
    assert_eq!((entries.len(), more), (1, false));
    assert_eq!((&*entries[0].path, entries[0].metadata), ("a/b/final", metadata));
    let (_, bytes) = dir.part("upload").expect("a new part opens");
    assert_eq!(bytes, 0, "nothing is left of the first");
}

pub fn what_is_known_of_a_file_is_what_was_said_when_it_was_published(harness: &Harness) {
    let dir = TestDir::new(harness);
    let times = [0, 100, 999_999_900, -100, -1_001_000_000, 4_102_444_800_000_000_000];
    for (n, modified_ns) in times.into_iter().enumerate() {
        let (file, _) = dir.part("part").expect("the part opens");
        let path = format!("{n}");
        let executable = n % 2 == 1;
        dir.run(FileOp::Publish {
            directory: dir.directory.clone(),
            part: "part".into(),
            file: file.clone(),
            path: path.as_str().into(),
            modified_ns: Some(modified_ns),
            executable,
        })
        .expect("the file can be published");
        dir.remove_part("part", &file).expect("the file can be removed");
        let (_, metadata) = dir.open(&path).expect("the file exists");
        let executable = executable && KNOWS_EXECUTABLE;
        assert_eq!((metadata.modified_ns, metadata.is_executable()), (modified_ns, executable));
        assert_eq!(metadata.bytes, 0, "an empty file is a file");
    }
}

pub fn a_directory_is_made_once_and_found_and_counted_while_it_is_empty(harness: &Harness) {
    let dir = TestDir::new(harness);
    let count = || match dir.run(FileOp::Usage { directory: dir.directory.clone() }) {
        Ok(FileOutcome::Usage(usage)) => (usage.files, usage.empty_directories),
        other => panic!("{other:?}"),
    };
    assert_eq!(dir.look_up_directory("a"), Err(Failure::NotFound));
    for _ in 0..2 {
        assert_eq!(dir.make_directory("a/b"), Ok(()));
        assert_eq!(dir.look_up_directory("a/b"), Ok(()));
        assert_eq!(dir.look_up_directory("a"), Ok(()));
    }
    assert_eq!(count(), (0, 1));
    dir.make("a/b/file", b"x");
    assert_eq!(count(), (1, 0));
    for taken in ["a/b/file", "a/b/file/c", "a/b/file/c/d"] {
        assert_eq!(dir.look_up_directory(taken), Err(Failure::Exists), "{taken}");
        assert_eq!(dir.make_directory(taken), Err(Failure::Exists), "{taken}");
    }
    for absent in ["a/c", "a/c/d"] {
        assert_eq!(dir.look_up_directory(absent), Err(Failure::NotFound), "{absent}");
    }
}

pub fn a_name_is_given_once_and_never_replaced(harness: &Harness) {
    let dir = TestDir::new(harness);
    dir.make("dir/name", b"the first");
    let (file, _) = dir.part("second").expect("the part opens");
    dir.write(&file, 0, b"the second").expect("the file can be written");
    let before = dir.metadata(&file);
    assert_eq!(dir.publish("second", &file, "dir/name"), Err(Failure::Exists));
    assert_eq!(
        dir.publish("second", &file, "dir"),
        Err(Failure::Exists),
        "the directory has another name"
    );
    assert_eq!(dir.publish("second", &file, "dir/name/beneath"), Err(Failure::Exists));
    assert_eq!(dir.metadata(&file), before, "the part has changed");
    assert_eq!(dir.content("dir/name"), b"the first");
    assert_eq!(dir.paths(), ["dir/name"]);
    dir.publish("second", &file, "dir/other").expect("the file can be published");
    assert_eq!(dir.content("dir/other"), b"the second");
}

pub fn of_two_that_want_a_name_at_once_one_gets_it(harness: &Harness) {
    let dir = TestDir::new(harness);
    for round in 0..20 {
        let path = format!("new-{round}/name");
        let parts: Vec<(String, File)> = (0..4)
            .map(|n| {
                let name = format!("part-{n}");
                let (file, _) = dir.part(&name).expect("the part opens");
                dir.write(&file, 0, name.as_bytes()).expect("the file can be written");
                (name, file)
            })
            .collect();
        let publish = |(n, (name, file)): (usize, &(String, File))| {
            dir.submit_on(harness.lane(n), dir.publish_op(name, file, &path))
        };
        let tags: Vec<_> = parts.iter().enumerate().map(publish).collect();
        let outcomes: Vec<_> = tags.into_iter().map(|tag| dir.outcome(tag)).collect();
        let winners: Vec<_> = (0..4).filter(|n| outcomes[*n].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        let exists = |outcome: &&_| matches!(outcome, Err(Failure::Exists));
        assert_eq!(outcomes.iter().filter(exists).count(), 3, "{outcomes:?}");
        assert_eq!(dir.content(&path), parts[winners[0]].0.as_bytes());
        for (name, file) in &parts {
            dir.remove_part(name, file).expect("the file can be removed");
        }
    }
}

pub fn many_that_make_the_same_directories_all_succeed(harness: &Harness) {
    const FILES: usize = 12;
    let dir = TestDir::new(harness);
    for round in 0..10 {
        let parts: Vec<(String, File)> = (0..FILES)
            .map(|n| {
                (format!("part-{n}"), dir.part(&format!("part-{n}")).expect("the part opens").0)
            })
            .collect();
        let publish = |(n, (name, file)): (usize, &(String, File))| {
            let path = format!("{round}/deep/deeper/file-{n:02}");
            dir.submit_on(harness.lane(n), dir.publish_op(name, file, &path))
        };
        let tags: Vec<_> = parts.iter().enumerate().map(publish).collect();
        for tag in tags {
            assert!(matches!(dir.outcome(tag), Ok(FileOutcome::Done)));
        }
        for (name, file) in &parts {
            dir.remove_part(name, file).expect("the file can be removed");
        }
    }
    assert_eq!(dir.paths().len(), 10 * FILES);
}

pub fn a_part_is_its_holders_until_the_last_handle_is_dropped(harness: &Harness) {
    let dir = TestDir::new(harness);
    let (file, _) = dir.part("part").expect("the part opens");
    let other = dir.part("other").expect("another part opens");
    assert_eq!(dir.part("part").err(), Some(Failure::Locked));
    dir.write(&file, 0, b"held").expect("the file can be written");
    let clone = file.clone();
    drop(file);
    assert_eq!(dir.part("part").err(), Some(Failure::Locked));
    drop(clone);
    let (file, bytes) = dir.part("part").expect("the lock of the part is free");
    assert_eq!(bytes, 4, "the written bytes are missing");
    assert_eq!(dir.read_all(&file), b"held");
    drop(other);
}

pub fn a_part_of_which_several_want_to_be_the_holder_has_one(harness: &Harness) {
    let dir = TestDir::new(harness);
    for _ in 0..50 {
        let tags: Vec<_> =
            (0..6).map(|n| dir.submit_on(harness.lane(n), dir.part_op("part"))).collect();
        let outcomes: Vec<_> = tags.into_iter().map(|tag| dir.outcome(tag)).collect();
        let held: Vec<&File> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Ok(FileOutcome::Part { file, .. }) => Some(file),
                Err(Failure::Locked) => None,
                other => panic!("a part or a lock, not {other:?}"),
            })
            .collect();
        assert_eq!(held.len(), 1, "{outcomes:?}");
        dir.remove_part("part", held[0]).expect("the file can be removed");
    }
}

pub fn holders_of_one_name_follow_each_other_and_each_publishes_its_own(harness: &Harness) {
    const EACH: usize = 30;
    let dir = TestDir::new(harness);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let dir = &dir;
            scope.spawn(move || {
                let mut published = 0;
                while published < EACH {
                    // A thread may find the part of another thread that is about to remove it.
                    let (file, bytes) = match dir.part("part") {
                        Ok(part) => part,
                        Err(failure) => {
                            assert_eq!(failure, Failure::Locked);
                            continue;
                        }
                    };
                    assert_eq!(bytes, 0, "a part is left");
                    let path = format!("{n}-{published}");
                    let content = pattern(3000, n);
                    dir.write(&file, 0, &content).expect("the file can be written");
                    dir.publish("part", &file, &path).expect("the part has a name");
                    dir.remove_part("part", &file).expect("the file can be removed");
                    drop(file);
                    assert_same(&dir.content(&path), &content);
                    published += 1;
                }
            });
        }
    });
    assert_eq!(dir.paths().len(), 4 * EACH);
}

pub fn a_part_is_cut_and_goes_on_from_there(harness: &Harness) {
    let dir = TestDir::new(harness);
    let content = pattern(20_000, 4);
    let (file, _) = dir.part("part").expect("the part opens");
    dir.write(&file, 0, &content).expect("the file can be written");
    dir.truncate(&file, 7000).expect("the file can be truncated");
    assert_eq!(dir.metadata(&file).bytes, 7000);
    assert_same(&dir.read_all(&file), &content[..7000]);
    // The write begins beyond the end of the file; the bytes between are zeros.
    dir.write(&file, 9000, &content[9000..]).expect("the file can be written");
    let mut expected = content.clone();
    expected[7000..9000].fill(0);
    assert_same(&dir.read_all(&file), &expected);
    for too_long in [u64::MAX, 1 << 63] {
        assert_eq!(dir.truncate(&file, too_long), Err(Failure::NoSpace), "{too_long}");
        for offset in [too_long, too_long - 1] {
            assert_eq!(dir.write(&file, offset, b"x"), Err(Failure::NoSpace), "{offset}");
        }
    }
    let is_refused_or_undone = |done: Result<(), Failure>, bytes: u64| match done {
        Ok(()) => {
            assert_eq!(dir.metadata(&file).bytes, bytes);
            dir.truncate(&file, expected.len() as u64).expect("the file can be truncated");
        }
        // Wine reports a full disk by an error of its own.
        Err(failure) if is_wine() => {
            eprintln!("NOT TESTED: Wine reports {failure:?} for a full disk");
        }
        Err(failure) => assert_eq!(failure, Failure::NoSpace, "{bytes}"),
    };
    is_refused_or_undone(dir.truncate(&file, FAR), FAR);
    is_refused_or_undone(dir.write(&file, FAR, b"x"), FAR + 1);
    assert_eq!(dir.read(&file, FAR, 10), Ok(Vec::new()));
    assert_same(&dir.read_all(&file), &expected);
}

pub fn a_name_is_brought_to_the_disk_while_it_leads_to_the_file(harness: &Harness) {
    let dir = TestDir::new(harness);
    dir.make("name", b"content");
    dir.make("a/b/deep", b"content");
    for path in ["name", "a/b/deep"] {
        let (file, _) = dir.open(path).expect("the file exists");
        dir.sync_name(path, &file).expect("the file can be synced");
        dir.sync_name(path, &file).expect("a second sync succeeds");
        for other in ["name", "a/b/deep", "a/b/none", "none/name", "a"] {
            let expected = if other == path { Ok(()) } else { Err(Failure::NotFound) };
            assert_eq!(dir.sync_name(other, &file), expected, "{path} under {other}");
        }
        std::fs::rename(dir.path(path), dir.path("elsewhere")).expect("the file can be renamed");
        assert_eq!(dir.sync_name(path, &file), Err(Failure::NotFound), "{path} is gone");
        drop(file);
        std::fs::remove_file(dir.path("elsewhere")).expect("the file can be removed");
    }
    assert_eq!(dir.paths(), [""; 0]);
    assert!(!dir.path("none").exists(), "a file was created");
}

pub fn a_part_is_removed_by_its_own_file_only(harness: &Harness) {
    let dir = TestDir::new(harness);
    let (first, _) = dir.part("part").expect("the part opens");
    dir.remove_part("part", &first).expect("the file can be removed");
    dir.remove_part("part", &first).expect("the name can be removed");
    let (second, bytes) = dir.part("part").expect("a new part opens");
    assert_eq!(bytes, 0);
    dir.write(&second, 0, b"second").expect("the file can be written");
    dir.remove_part("part", &first).expect("the part of another holder is kept");
    drop(second);
    assert_eq!(dir.part("part").expect("the file exists").1, 6);
    if is_wine() {
        eprintln!("NOT TESTED: Wine keeps a file that is being removed, and reports success");
        return;
    }
    // The first file has lost the name of its part, so it cannot be published by that name.
    assert_eq!(dir.publish("part", &first, "name"), Err(Failure::NotFound));
    assert_eq!(dir.paths(), [""; 0]);
}

pub fn a_part_that_was_published_is_not_written_to_again(harness: &Harness) {
    let dir = TestDir::new(harness);
    let (file, _) = dir.part("part").expect("the part opens");
    dir.write(&file, 0, b"whole").expect("the file can be written");
    dir.publish("part", &file, "name").expect("the file can be published");
    assert_eq!(dir.part("part").err(), Some(Failure::Locked));
    // The holder closes the file before it has removed the part's own name.
    drop(file);
    let (file, bytes) = dir.part("part").expect("the part opens again");
    assert_eq!(bytes, 0);
    dir.write(&file, 0, b"other").expect("the file can be written");
    assert_eq!(dir.content("name"), b"whole");
}

pub fn parts_that_nobody_holds_expire(harness: &Harness) {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let dir = TestDir::new(harness);
    dir.expire_parts(0).expect("the listing succeeds");
    let (held, _) = dir.part("held").expect("the part opens");
    dir.write(&held, 0, b"held").expect("the file can be written");
    let (left, _) = dir.part("left").expect("the part opens");
    dir.write(&left, 0, b"left").expect("the file can be written");
    drop(left);
    dir.expire_parts(DAY_MS).expect("parts expire without error");
    assert_eq!(dir.part("left").expect("the file exists").1, 4);
    // Repeats until the clock has advanced.
    harness.until("the part to expire", || {
        dir.expire_parts(0).expect("the parts can expire");
        (dir.part("left").expect("the part opens").1 == 0).then_some(())
    });
    assert_same(&dir.read_all(&held), b"held");
    drop(held);
    assert_eq!(dir.part("held").expect("the file exists").1, 4);
}

pub fn parts_that_nobody_holds_give_way_the_oldest_first(harness: &Harness) {
    let dir = TestDir::new(harness);
    assert_eq!(dir.free_parts(0, 0), Ok(0));
    assert_eq!(dir.free_parts(0, 1), Err(Failure::NoSpace));
    dir.make("file", b"a file of 12");
    for (name, bytes, age_s) in
        [("held", 5, 1000), ("a", 3, 10), ("b", 4, 500), ("c", 5, 200), ("d", 6, 300)]
    {
        let (part, _) = dir.part(name).expect("the part opens");
        dir.write(&part, 0, &[7].repeat(bytes)).expect("the part can be written");
        drop(part);
        let path = dir.path(".posthouse").join(name);
        let file = std::fs::File::options().append(true).open(path).expect("nobody holds it");
        let time = SystemTime::now() - Duration::from_secs(age_s);
        file.set_modified(time).expect("the file is ours");
    }
    let (held, _) = dir.part("held").expect("the part opens");
    let names = || names_in(&dir.path(".posthouse"));
    assert_eq!(dir.free_parts(0, 0), Ok(6), "nothing is needed");
    assert_eq!(dir.free_parts(24, 1), Err(Failure::NoSpace), "all parts hold 23 bytes");
    assert_eq!(dir.free_parts(1, 6), Err(Failure::NoSpace), "there are 5 parts");
    assert_eq!(names(), ["a", "b", "c", "d", "held"], "none goes in vain");
    assert_eq!(dir.free_parts(0, 1), Ok(5));
    assert_eq!(names(), ["a", "c", "d", "held"]);
    assert_eq!(dir.free_parts(7, 1), Ok(3));
    assert_eq!(names(), ["a", "held"]);
    // More than nobody holds: the holder keeps its part.
    assert_eq!(dir.free_parts(4, 1), Err(Failure::NoSpace));
    assert_eq!(names(), ["held"]);
    assert_same(&dir.read_all(&held), &[7; 5]);
    drop(held);
    assert_eq!(dir.free_parts(5, 0), Ok(1));
    assert_eq!(dir.paths(), ["file"]);
}

pub fn what_is_not_there_is_not_found(harness: &Harness) {
    let dir = TestDir::new(harness);
    dir.make("dir/file", b"content");
    for path in ["other", "dir/other", "other/file", "dir/file/beneath"] {
        assert_eq!(dir.open(path).err(), Some(Failure::NotFound), "{path}");
    }
    assert_eq!(dir.open("dir").err(), Some(Failure::NotAFile));
}

pub fn a_list_is_in_the_order_of_whole_paths(harness: &Harness) {
    let dir = TestDir::new(harness);
    let mut paths = [
        "a",
        "a-b",
        "a/b",
        "a.b",
        "a0",
        "a/b-c",
        "ab",
        "a-b/c",
        "b/a/a",
        "b/a-a",
        "b/a/b/c/d",
        "b/aa",
        "b/a.txt",
        "b",
        "é",
        "z\u{10ffff}",
        "Z",
        "b/ x",
        " x",
        "~",
        "-",
        "!/x",
        "0/0/0",
    ];
    // A file cannot be opened as a directory.
    let is_directory =
        |path: &str| paths.iter().any(|other| other.starts_with(&format!("{path}/")));
    let mut expected: Vec<_> =
        paths.iter().copied().filter(|path| !is_directory(path)).map(str::to_owned).collect();
    paths.reverse();
    for path in paths.iter().filter(|path| expected.iter().any(|it| it == *path)) {
        dir.make(path, path.as_bytes());
    }
    expected.sort();
    assert_eq!(dir.paths(), expected);
    for max_entries in [1, 2, 3, 7, expected.len() - 1, expected.len(), 1000] {
        let mut got = Vec::new();
        let mut after = String::new();
        loop {
            let (entries, more) = dir.list(&after, max_entries);
            assert!(entries.len() <= max_entries);
            got.extend(entries.iter().map(|entry| entry.path.to_string()));
            let Some(last) = entries.last() else { break assert!(!more) };
            assert_eq!(more, got.len() < expected.len());
            after = last.path.to_string();
        }
        assert_eq!(got, expected, "{max_entries} at a time");
    }
    // A bound of bytes: whole entries, at least one.
    let bytes = |count: usize| -> usize {
        expected[..count].iter().map(|path| posthouse_io::FileEntry::memory_bytes(path.len())).sum()
    };
    for (max_bytes, count) in [(0, 1), (bytes(3) - 1, 2), (bytes(3), 3)] {
        let (entries, more) = dir.list_some("", (1000, max_bytes), |_| true);
        assert_eq!((entries.len(), more), (count, true), "{max_bytes} bytes");
    }
    let (entries, more) = dir.list_some("", (1000, bytes(expected.len())), |_| true);
    assert_eq!((entries.len(), more), (expected.len(), false));
    // Paths that are not wanted count nowhere.
    let wanted: Vec<_> = expected.iter().filter(|path| path.starts_with("a/")).collect();
    let (entries, more) = dir.list_some("", (wanted.len(), 1 << 20), |path| path.starts_with("a/"));
    let got: Vec<_> = entries.iter().map(|entry| &*entry.path).collect();
    assert_eq!((got, more), (wanted.iter().map(|path| path.as_str()).collect(), false));
    // The listing continues after any given name, whether the name exists or not.
    for after in ["a/", "a/b", "a-", "a/b/c", "b/a/b/c", "b/a/b/c/", "b/a0", "zz", "\u{10ffff}"] {
        let rest: Vec<_> = expected.iter().filter(|path| path.as_str() > after).collect();
        let (entries, more) = dir.list(after, 1000);
        let got: Vec<_> = entries.iter().map(|entry| &*entry.path).collect();
        assert_eq!((got, more), (rest.iter().map(|path| path.as_str()).collect(), false));
    }
    let lengths = dir.list("", 1000).0;
    assert!(lengths.iter().all(|entry| entry.metadata.bytes == entry.path.len() as u64));
}

pub fn everything_that_lies_beneath_is_counted(harness: &Harness) {
    let dir = TestDir::new(harness);
    let usage = || dir.directory.usage().expect("the usage can be read");
    assert_eq!(usage(), Usage::default());
    dir.make("a", &[1; 10]);
    dir.make("deep/deeper/b", &[2; 100]);
    dir.make("deep/empty", b"");
    let (part, _) = dir.part("part").expect("the part opens");
    dir.write(&part, 0, &[3; 1000]).expect("the file can be written");
    assert_eq!(usage(), Usage { bytes: 1110, files: 4, empty_directories: 0 });
}

pub fn many_operations_at_once_all_end(harness: &Harness) {
    const FILES: usize = 8;
    const PIECES: usize = 16;
    let piece_bytes = if harness.real { 100_000 } else { 1000 };
    let dir = TestDir::new(harness);
    let contents: Vec<_> = (0..FILES).map(|n| pattern(PIECES * piece_bytes, n as u64)).collect();
    let files: Vec<_> =
        (0..FILES).map(|n| dir.part(&format!("{n}")).expect("the part opens").0).collect();
    let mut tags = Vec::new();
    for piece in 0..PIECES {
        for (n, file) in files.iter().enumerate() {
            let offset = (piece * piece_bytes) as u64;
            let data = gather_of(&[&contents[n][piece * piece_bytes..][..piece_bytes]]);
            let write = FileOp::Write { file: file.clone(), offset, data };
            tags.push((dir.submit_on(harness.lane(n), write), piece_bytes));
        }
    }
    for (tag, expected) in tags.drain(..) {
        match dir.outcome(tag) {
            Ok(FileOutcome::Written { bytes, .. }) => assert_eq!(bytes, expected),
            other => panic!("bytes written, not {other:?}"),
        }
    }
    let mut reads = Vec::new();
    let mut others = Vec::new();
    for piece in 0..PIECES {
        for (n, file) in files.iter().enumerate() {
            let offset = (piece * piece_bytes) as u64;
            let bytes = piece_bytes;
            let file = file.clone();
            let memory = Vec::new();
            let sync = FileOp::Sync { file: file.clone() };
            let read = FileOp::Read { file, offset, bytes, memory };
            reads.push((n, piece, dir.submit_on(harness.lane(piece), read)));
            if piece % 8 == 0 {
                others.push(dir.submit_on(harness.lane(piece), sync));
            }
            others.push(dir.submit_on(harness.lane(n), dir.part_op(&format!("new {piece} {n}"))));
        }
    }
    for (n, piece, tag) in reads {
        match dir.outcome(tag) {
            Ok(FileOutcome::Read { memory }) => {
                assert_same(&memory, &contents[n][piece * piece_bytes..][..piece_bytes]);
            }
            other => panic!("bytes, not {other:?}"),
        }
    }
    assert!(others.into_iter().all(|tag| dir.outcome(tag).is_ok()));
}

pub fn two_ports_of_one_directory_lock_each_other_out(harness: &Harness) {
    let dir = TestDir::new(harness);
    let other = Harness::new(harness.backend.clone(), harness.selected.layout, 2);
    let (file, _) = dir.part("part").expect("the part opens");
    let again = TestDir::at(&other, &dir.path(""));
    assert_eq!(again.part("part").err(), Some(Failure::Locked));
    assert_eq!(again.expire_parts(0), Ok(()));
    dir.write(&file, 0, b"content").expect("the file can be written");
    drop(file);
    let (file, bytes) = again.part("part").expect("the lock of the part is free");
    assert_eq!(bytes, 7);
    again.remove_part("part", &file).expect("the file can be removed");
    drop((file, again));
    other.finish();
}

pub fn a_directory_is_named_by_its_clones_whatever_becomes_of_its_path(harness: &Harness) {
    let dir = TestDir::new(harness);
    dir.make("old/name", b"content");
    let directory = Directory::open(&dir.path("old")).expect("the directory opens");
    std::fs::rename(dir.path("old"), dir.path("new")).expect("the file can be renamed");
    let mut moved = TestDir::at(harness, &dir.path("new"));
    moved.directory = directory.clone();
    drop(directory);
    assert_eq!(moved.content("name"), b"content");
    assert_eq!(moved.paths(), ["name"]);
    assert!(Directory::open(&dir.path("old")).is_err());
    if is_wine() {
        eprintln!("NOT TESTED: Wine links by the path that a directory had when it was opened");
        return;
    }
    moved.make("way/other", b"other");
    assert_eq!(dir.paths(), ["new/name", "new/way/other"]);
}
