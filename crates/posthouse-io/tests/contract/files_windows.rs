//! Files as Windows has them, by way of a port. (The disk's own tests are with it.)

use posthouse_io::{Backend, Failure, Layout, PARTS_DIRECTORY};

use crate::bed::Bed;
use crate::place::{Place, names_in};
use crate::process::is_wine;

/// Runs a test in both layouts.
fn on_both(test: impl Fn(&Bed)) {
    for (layout, io_workers) in [(Layout::Shared, 4), (Layout::Pinned, 3)] {
        let bed = Bed::new(Backend::Iocp, layout, io_workers);
        test(&bed);
        bed.finish();
    }
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
