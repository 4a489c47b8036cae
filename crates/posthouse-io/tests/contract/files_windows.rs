//! Files on Windows, used through a port. (The tests of the disk itself are in its module.)

use posthouse_io::{Backend, Failure, Layout, PARTS_DIRECTORY};

use crate::harness::Harness;
use crate::test_dir::{TestDir, names_in};
use posthouse_process::is_wine;

/// Runs a test in both layouts.
fn on_both(test: impl Fn(&Harness)) {
    for (layout, io_workers) in [(Layout::Shared, 4), (Layout::Pinned, 3)] {
        let harness = Harness::new(Backend::Iocp, layout, io_workers);
        test(&harness);
        harness.finish();
    }
}

#[test]
fn a_file_that_is_removed_is_read_to_its_end() {
    on_both(|harness| {
        let dir = TestDir::new(harness);
        dir.make("name", b"content");
        let (file, _) = dir.open("name").expect("the file exists");
        std::fs::remove_file(dir.path("name")).expect("the file can be removed");
        assert_eq!(dir.read_all(&file), b"content");
        if is_wine() {
            eprintln!("NOT TESTED: Wine keeps the name of a file that is being removed");
            return;
        }
        assert_eq!(dir.open("name").err(), Some(Failure::NotFound));
        assert_eq!(dir.paths(), [""; 0]);
    });
}

#[test]
fn nothing_is_left_of_parts_that_were_published_and_removed() {
    on_both(|harness| {
        let dir = TestDir::new(harness);
        for n in 0..10 {
            dir.make(&format!("way/{n}"), b"content");
        }
        assert_eq!(names_in(&dir.path(PARTS_DIRECTORY)), [""; 0]);
        assert_eq!(names_in(&dir.path("way")).len(), 10);
        assert_eq!(dir.directory.usage().expect("the usage can be read").files, 10);
        std::fs::remove_dir_all(dir.path("way")).expect("no handle is left open");
    });
}
