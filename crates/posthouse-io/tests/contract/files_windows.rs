//! Files as Windows has them, by way of a port. (The disk's own tests are with it.)

use posthouse_io::{Backend, Directory, Failure, Layout, PARTS_DIRECTORY};

use crate::bed::Bed;
use crate::place::{Place, is_wine, names_in};

/// Runs a test in both layouts.
fn on_both(test: impl Fn(&Bed)) {
    for (layout, io_workers) in [(Layout::Shared, 4), (Layout::Pinned, 3)] {
        let bed = Bed::new(Backend::Iocp, layout, io_workers);
        test(&bed);
        bed.finish();
    }
}

#[test]
fn two_ports_of_one_directory_lock_each_other_out() {
    on_both(|bed| {
        let place = Place::new(bed);
        on_both(|other| {
            let (file, _) = place.part("part").expect("a part");
            let again = Place::at(other, &place.path(""));
            assert_eq!(again.part("part").err(), Some(Failure::Locked));
            assert_eq!(again.expire_parts(0), Ok(()));
            place.write(&file, 0, b"content").expect("written");
            drop(file);
            let (file, bytes) = again.part("part").expect("it is free");
            assert_eq!(bytes, 7);
            again.remove_part("part", &file).expect("removed");
        });
    });
}

#[test]
fn a_directory_is_named_by_its_clones_whatever_becomes_of_its_path() {
    on_both(|bed| {
        let place = Place::new(bed);
        place.make("old/name", b"content");
        let directory = Directory::open(&place.path("old")).expect("a directory");
        std::fs::rename(place.path("old"), place.path("new")).expect("moved");
        let mut moved = Place::at(bed, &place.path("new"));
        moved.directory = directory.clone();
        drop(directory);
        assert_eq!(moved.content("name"), b"content");
        assert_eq!(moved.paths(), ["name"]);
        assert!(Directory::open(&place.path("old")).is_err());
        if is_wine() {
            eprintln!("NOT TESTED: Wine links by the path that a directory had when it was opened");
            return;
        }
        moved.make("way/other", b"other");
        assert_eq!(place.paths(), ["new/name", "new/way/other"]);
    });
}

#[test]
fn a_file_that_is_removed_is_read_to_its_end() {
    on_both(|bed| {
        let place = Place::new(bed);
        place.make("name", b"content");
        let (file, _) = place.open("name").expect("it is there");
        std::fs::remove_file(place.path("name")).expect("removed");
        assert_eq!(place.read_all(&file), b"content");
        if is_wine() {
            eprintln!("NOT TESTED: Wine keeps the name of a file that is being removed");
            return;
        }
        assert_eq!(place.open("name").err(), Some(Failure::NotFound));
        assert_eq!(place.paths(), [""; 0]);
    });
}

#[test]
fn nothing_is_left_of_parts_that_were_published_and_removed() {
    on_both(|bed| {
        let place = Place::new(bed);
        for n in 0..10 {
            place.make(&format!("way/{n}"), b"content");
        }
        assert_eq!(names_in(&place.path(PARTS_DIRECTORY)), [""; 0]);
        assert_eq!(names_in(&place.path("way")).len(), 10);
        assert_eq!(place.directory.usage().expect("usage").files, 10);
        std::fs::remove_dir_all(place.path("way")).expect("no handle is left open");
    });
}
