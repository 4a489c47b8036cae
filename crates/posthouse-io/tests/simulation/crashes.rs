//! Crashes of simulated disks: synced and published data survives, any of the other writes may be
//! kept, torn or lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use posthouse_io::sim::{Faults, Network};
use posthouse_io::{Failure, FileOp, Usage};

use crate::disk_fixture::DiskFixture;

const SEEDS: u64 = 2000;

fn disk_fixture(seed: u64) -> DiskFixture {
    DiskFixture::on(&Network::with(seed, Faults::none()))
}

/// The state of a write after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Kept,
    Torn,
    Lost,
    /// Lost, and read as zeros because a later write was kept.
    Hole,
}

/// Returns the fate of a write of ten bytes of the value `byte` at `offset`, past the synced end.
fn fate(content: &[u8], offset: usize, byte: u8) -> Fate {
    let there = content.get(offset..).unwrap_or_default();
    let there = &there[..there.len().min(10)];
    let kept = there.iter().take_while(|other| **other == byte).count();
    assert!(
        there[kept..].iter().all(|other| *other == 0),
        "{there:?}: no writer wrote this content"
    );
    match kept {
        10 => Fate::Kept,
        0 if there.is_empty() => Fate::Lost,
        0 => Fate::Hole,
        _ => Fate::Torn,
    }
}

#[test]
fn any_of_the_writes_that_were_not_synced_are_kept_lost_or_torn() {
    let mut seen = BTreeMap::<[Fate; 3], u64>::new();
    for seed in 0..SEEDS {
        let disk_fixture = disk_fixture(seed);
        let file = disk_fixture.part_with("p", b"synced");
        disk_fixture.sync(&file).unwrap();
        for (i, byte) in (*b"abc").into_iter().enumerate() {
            disk_fixture.write_all(&file, 6 + 10 * i as u64, &[byte; 10]);
        }
        disk_fixture.disk.crash();
        let [(name, content)] = &disk_fixture.disk.parts()[..] else {
            panic!("seed {seed}: the file is lost")
        };
        assert_eq!((&**name, &content[..6]), ("p", &b"synced"[..]), "seed {seed}");
        let fates = [(6, b'a'), (16, b'b'), (26, b'c')].map(|(at, byte)| fate(content, at, byte));
        *seen.entry(fates).or_default() += 1;
    }
    let count = |wanted: &dyn Fn(&[Fate; 3]) -> bool| {
        seen.iter().filter(|(fates, _)| wanted(fates)).map(|(_, count)| count).sum::<u64>()
    };
    for i in 0..3 {
        assert!(count(&|fates| fates[i] == Fate::Kept) > SEEDS / 5, "{seen:?}");
        assert!(count(&|fates| fates[i] == Fate::Torn) > SEEDS / 20, "{seen:?}");
        let lost = |fates: &[Fate; 3]| matches!(fates[i], Fate::Lost | Fate::Hole);
        assert!(count(&lost) > SEEDS / 5, "{seen:?}");
    }
    let subsets: BTreeSet<_> = seen.keys().map(|fates| fates.map(|f| f == Fate::Kept)).collect();
    assert_eq!(subsets.len(), 8, "every subset is kept in some seed");
    assert!(count(&|fates| fates[0] == Fate::Hole) > SEEDS / 5, "{seen:?}");
}

#[test]
fn what_was_written_over_and_cut_is_as_it_is_or_as_it_was() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk_fixture = disk_fixture(seed);
        let file = disk_fixture.part_with("p", b"oldold");
        disk_fixture.sync(&file).unwrap();
        disk_fixture.write_all(&file, 0, b"NEW");
        disk_fixture.truncate(&file, 4).unwrap();
        disk_fixture.disk.crash();
        seen.insert(disk_fixture.disk.parts().remove(0).1);
    }
    let expected = ["NEWold", "NEWo", "NEdold", "NEdo", "Nldold", "Nldo", "oldold", "oldo"];
    assert_eq!(seen, expected.map(|text| text.as_bytes().to_vec()).into());
}

#[test]
fn a_part_that_was_not_synced_can_lose_its_name() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk_fixture = disk_fixture(seed);
        let synced = disk_fixture.part_with("synced", b"x");
        disk_fixture.sync(&synced).unwrap();
        let _one = disk_fixture.part_with("one", b"x");
        let _other = disk_fixture.part_with("other", b"x");
        disk_fixture.disk.crash();
        seen.insert(disk_fixture.part_names());
    }
    let seen: Vec<String> = seen.into_iter().map(|names| names.join(" ")).collect();
    assert_eq!(seen, ["one other synced", "one synced", "other synced", "synced"]);
}

#[test]
fn parts_that_were_removed_can_come_back_as_they_were_synced() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk_fixture = disk_fixture(seed);
        let removed = disk_fixture.part_with("removed", b"removed");
        disk_fixture.sync(&removed).unwrap();
        disk_fixture.remove_part("removed", &removed).unwrap();
        let file = disk_fixture.part_with("expired", b"expired");
        disk_fixture.sync(&file).unwrap();
        drop(file);
        disk_fixture.fixture.network.run_until(Some(Duration::from_secs(1)), || None::<()>);
        disk_fixture.expire(1).unwrap();
        assert_eq!(disk_fixture.part_names(), [""; 0]);
        disk_fixture.disk.crash();
        for (name, content) in disk_fixture.disk.parts() {
            assert_eq!(name.as_bytes(), content, "seed {seed}");
        }
        seen.insert(disk_fixture.part_names().len());
    }
    assert_eq!(seen, [0, 1, 2].into());
}

#[test]
fn what_was_published_is_there_whole_however_its_part_fares() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk_fixture = disk_fixture(seed);
        let file = disk_fixture.part_with("p", b"published");
        disk_fixture.publish("p", &file, "a/b/c").unwrap();
        disk_fixture.remove_part("p", &file).unwrap();
        disk_fixture.disk.crash();
        seen.insert(disk_fixture.part_names().len());
        drop(file);
        let disk_fixture = disk_fixture.again();
        assert_eq!(
            disk_fixture.disk.read("a/b/c").as_deref(),
            Some(&b"published"[..]),
            "seed {seed}"
        );
        let (file, bytes) = disk_fixture.part("p").unwrap();
        assert_eq!(bytes, 0, "seed {seed}: others see a part");
        disk_fixture.write_all(&file, 0, b"other");
        assert_eq!(
            disk_fixture.disk.read("a/b/c").as_deref(),
            Some(&b"published"[..]),
            "seed {seed}"
        );
    }
    assert_eq!(seen, [0, 1].into(), "the part's own name was not both kept and lost");
}

#[test]
fn a_crash_can_come_between_the_two_moments_of_a_publication() {
    let mut completed = 0;
    let mut linked = 0;
    let mut not_linked = 0;
    let mut no_directory = 0;
    for seed in 0..SEEDS {
        let disk_fixture = disk_fixture(seed);
        let file = disk_fixture.part_with("p", b"published");
        let ms = Duration::from_millis;
        let slow = Faults { immediate_ppm: 0, disk_delay: ms(1)..=ms(10), ..Faults::none() };
        disk_fixture.set_faults(slow);
        let publish = disk_fixture.submit(disk_fixture.publish_op("p", &file, "directory/name"));
        disk_fixture.fixture.network.run_until(Some(ms(seed % 12)), || None::<()>);
        disk_fixture.disk.crash();
        let content = disk_fixture.disk.read("directory/name");
        let (tag, result) = disk_fixture.next().expect("the operation completes");
        assert_eq!(tag, publish);
        match result {
            Ok(_) => {
                completed += 1;
                assert!(content.is_some(), "seed {seed}: the file is not on the disk");
            }
            Err(failure) => assert_eq!(failure, Failure::Disk, "seed {seed}"),
        }
        assert_eq!(
            disk_fixture.disk.read("directory/name"),
            content,
            "seed {seed}: dead hands do nothing"
        );
        match content {
            Some(content) => {
                linked += 1;
                assert_eq!(content, b"published", "seed {seed}: a partial file is visible");
            }
            None => not_linked += 1,
        }
        drop(file);
        let disk_fixture = disk_fixture.again();
        no_directory +=
            u64::from(disk_fixture.open("directory").map(|_| ()) == Err(Failure::NotFound));
    }
    let counts = [completed, linked - completed, not_linked, no_directory];
    assert!(counts.iter().all(|count| *count > SEEDS / 20), "{counts:?}");
    assert!(no_directory < not_linked, "{counts:?}: a directory can be there without its file");
}

#[test]
fn what_another_is_just_publishing_is_there_for_certain_once_its_name_is_synced() {
    let ms = Duration::from_millis;
    let slow = Faults { immediate_ppm: 0, disk_delay: ms(1)..=ms(10), ..Faults::none() };
    for synced in [false, true] {
        let mut lost = 0;
        for seed in 0..SEEDS {
            let disk_fixture = disk_fixture(seed);
            let part = disk_fixture.part_with("p", b"published");
            disk_fixture.set_faults(slow.clone());
            disk_fixture.submit(disk_fixture.publish_op("p", &part, "directory/name"));
            let linked = || disk_fixture.disk.read("directory/name");
            disk_fixture.fixture.network.run_until(None, linked).expect("the file can be linked");
            disk_fixture.set_faults(Faults::none());
            let (file, _) = disk_fixture.open("directory/name").expect("the file is visible");
            if synced {
                disk_fixture.sync_name("directory/name", &file).expect("the file can be synced");
            }
            disk_fixture.disk.crash();
            lost += u64::from(disk_fixture.disk.read("directory/name").is_none());
            assert!(disk_fixture.next().is_some(), "seed {seed}: the publication completes");
        }
        assert_eq!(lost > SEEDS / 20, !synced, "{lost} of {SEEDS} are lost");
        assert!(!synced || lost == 0, "{lost} of {SEEDS} are lost");
    }
}

#[test]
fn a_name_that_leads_to_another_file_is_not_synced() {
    let disk_fixture = disk_fixture(0);
    disk_fixture.disk.write("a", b"a");
    disk_fixture.disk.write("b", b"b");
    let (file, _) = disk_fixture.open("a").unwrap();
    disk_fixture.sync_name("a", &file).unwrap();
    assert_eq!(disk_fixture.sync_name("b", &file), Err(Failure::NotFound));
    assert_eq!(disk_fixture.sync_name("none", &file), Err(Failure::NotFound));
    disk_fixture.disk.remove("a");
    assert_eq!(disk_fixture.sync_name("a", &file), Err(Failure::NotFound));
}

#[test]
fn a_sync_that_has_completed_has_synced() {
    let mut completed = 0;
    for seed in 0..500 {
        let disk_fixture = disk_fixture(seed);
        let file = disk_fixture.part_with("p", b"content");
        let ms = Duration::from_millis;
        let slow = Faults { immediate_ppm: 0, disk_delay: ms(1)..=ms(10), ..Faults::none() };
        disk_fixture.set_faults(slow);
        disk_fixture.submit(FileOp::Sync { file });
        disk_fixture.fixture.network.run_until(Some(ms(seed % 12)), || None::<()>);
        disk_fixture.disk.crash();
        if disk_fixture.next().expect("the operation completes").1.is_ok() {
            completed += 1;
            assert_eq!(
                disk_fixture.disk.parts(),
                [("p".to_owned(), b"content".to_vec())],
                "seed {seed}"
            );
        }
    }
    assert!((50..450).contains(&completed), "{completed} syncs have completed");
}

#[test]
fn what_was_opened_before_a_crash_is_dead() {
    for immediate_ppm in [1_000_000, 0] {
        let disk_fixture = DiskFixture::new(Faults { immediate_ppm, ..Faults::none() });
        disk_fixture.disk.write("f", b"read");
        let part = disk_fixture.part_with("p", b"part");
        let (file, _) = disk_fixture.open("f").unwrap();
        disk_fixture.sync(&part).unwrap();
        disk_fixture.disk.crash();
        let before = (disk_fixture.disk.parts(), disk_fixture.disk.files());
        let dead = Err::<(), _>(Failure::Disk);
        assert_eq!(disk_fixture.read(&file, 0, 1).map(|_| ()), dead);
        assert_eq!(disk_fixture.metadata(&file).map(|_| ()), dead);
        assert_eq!(disk_fixture.write(&part, 0, b"dead").map(|_| ()), dead);
        assert_eq!(disk_fixture.truncate(&part, 0), dead);
        assert_eq!(disk_fixture.sync(&part), dead);
        assert_eq!(disk_fixture.publish("p", &part, "g"), dead);
        assert_eq!(disk_fixture.remove_part("p", &part), dead);
        assert_eq!(disk_fixture.open("f").map(|_| ()), dead);
        assert_eq!(disk_fixture.part("p").map(|_| ()), dead);
        assert_eq!(disk_fixture.list("", 1).map(|_| ()), dead);
        assert_eq!(disk_fixture.expire(0), dead);
        assert_eq!((disk_fixture.disk.parts(), disk_fixture.disk.files()), before);
        assert_eq!(
            disk_fixture.directory.usage().unwrap(),
            Usage { bytes: 8, files: 2, empty_directories: 0 }
        );
        // Neither a new directory nor the old one revives the old handles.
        let disk_fixture = disk_fixture.again();
        assert_eq!(disk_fixture.remove_part("p", &part), dead);
        let (again, bytes) = disk_fixture.part("p").unwrap();
        assert_eq!((bytes, disk_fixture.sync(&part), disk_fixture.sync(&again)), (4, dead, Ok(())));
    }
}

#[test]
fn what_is_in_flight_at_a_crash_has_no_effect() {
    let disk_fixture = DiskFixture::new(Faults::none());
    let names = ["one", "three", "two"];
    let [one, three, two] = names.map(|name| disk_fixture.part_with(name, b"before"));
    disk_fixture.disk.sync_all();
    disk_fixture.set_faults(Faults { immediate_ppm: 0, ..Faults::none() });
    let directory = disk_fixture.directory.clone();
    disk_fixture.submit(DiskFixture::write_op(&one, 0, b"after!"));
    disk_fixture.submit(FileOp::Truncate { file: two, bytes: 0 });
    disk_fixture.submit(FileOp::OpenPart { directory: directory.clone(), name: "four".into() });
    disk_fixture.submit(FileOp::RemovePart { directory, name: "three".into(), file: three });
    disk_fixture.disk.crash();
    for _ in 0..4 {
        assert_eq!(disk_fixture.next().unwrap().1.map(|_| ()), Err(Failure::Disk));
    }
    assert_eq!(disk_fixture.disk.parts(), names.map(|name| (name.to_owned(), b"before".to_vec())));
}

#[test]
fn a_crash_frees_locks() {
    let disk_fixture = DiskFixture::new(Faults::none());
    let file = disk_fixture.part_with("p", b"x");
    disk_fixture.sync(&file).unwrap();
    disk_fixture.disk.crash();
    let disk_fixture = disk_fixture.again();
    let (again, bytes) = disk_fixture.part("p").unwrap();
    assert_eq!(bytes, 1);
    drop(file);
    assert_eq!(
        disk_fixture.part("p").map(|_| ()),
        Err(Failure::Locked),
        "the dead one held nothing"
    );
    drop(again);
    assert!(disk_fixture.part("p").is_ok());
}

#[test]
fn what_a_system_has_written_in_its_own_time_is_there() {
    for seed in 0..50 {
        let disk_fixture = disk_fixture(seed);
        let file = disk_fixture.part_with("p", b"content");
        let gone = disk_fixture.part_with("gone", b"content");
        disk_fixture.remove_part("gone", &gone).unwrap();
        disk_fixture.disk.sync_all();
        disk_fixture.disk.crash();
        assert_eq!(
            disk_fixture.disk.parts(),
            [("p".to_owned(), b"content".to_vec())],
            "seed {seed}"
        );
        assert_eq!(disk_fixture.fixture.network.fault_counts().disk_lost, 0);
        drop(file);
    }
}

#[test]
fn a_crash_of_one_disk_is_none_of_another() {
    let disk_fixture = DiskFixture::new(Faults::none());
    let file = disk_fixture.part_with("p", b"not synced");
    disk_fixture.fixture.network.disk("other").crash();
    assert_eq!(disk_fixture.read(&file, 0, 99).unwrap(), b"not synced");
    assert_eq!(disk_fixture.sync(&file), Ok(()));
}
