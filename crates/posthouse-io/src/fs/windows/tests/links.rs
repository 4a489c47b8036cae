//! File systems that refuse links.

use std::cell::Cell;

use windows_sys::Win32::Foundation::{NTSTATUS, STATUS_ACCESS_DENIED, STATUS_DISK_FULL};

use super::super::*;
use super::place::{Place, content_of, write_file};
use crate::fs::Publication;
use crate::fs::windows::names::WideName;

thread_local! {
    /// The status that links fail with on this thread.
    static LINK: Cell<Option<NTSTATUS>> = const { Cell::new(None) };
}

/// Fails as a file system without links does, or for another reason.
pub(in crate::fs::windows) fn link_refused() -> Result<(), Status> {
    LINK.get().map_or(Ok(()), |status| Err(Status(status)))
}

/// Publishes on this thread, where links are refused.
fn publish_here(place: &Place, part: &File, path: &str) -> Result<(), Failure> {
    let publication = Publication { path, modified_ns: None, executable: false };
    let published = place.directory.dir_handle().publish("part", part.opened(), &publication);
    published.map_err(|error| error.failure)
}

#[test]
fn a_file_system_without_links_gives_the_name_in_the_place_of_the_parts() {
    for status in [
        STATUS_INVALID_DEVICE_REQUEST,
        STATUS_NOT_SUPPORTED,
        STATUS_NOT_IMPLEMENTED,
        STATUS_INVALID_INFO_CLASS,
        STATUS_INVALID_PARAMETER,
    ] {
        let place = Place::new();
        let part = place.new_part("part");
        place.write(&part, b"content");
        write_file(place.path.join("there"), b"already");
        LINK.set(Some(status));
        assert_eq!(publish_here(&place, &part, "THERE"), Err(Failure::Exists));
        // Another process created the name after the check.
        let root = &place.directory.dir_handle().root;
        let name = WideName::to_make("THERE").expect("a name");
        let linked = publishing::link(part.opened(), root, &name);
        assert_eq!(linked.map_err(|error| error.failure), Err(Failure::Exists));
        assert_eq!(content_of(place.path.join("there")), b"already");
        assert_eq!(publish_here(&place, &part, "way/name"), Ok(()));
        LINK.take();
        assert!(!place.parts().join("part").exists(), "{status:#x}: it is the part that moved");
        assert_eq!(place.remove_part("part", &part), Ok(()));
        assert_eq!(place.content("way/name"), Ok(b"content".to_vec()));
        assert_eq!(place.paths(), ["there", "way/name"]);
        drop(part);
        assert_eq!(place.content("way/name"), Ok(b"content".to_vec()));
        assert_eq!(place.held_in_part("part"), Ok(0));
    }
}

#[test]
fn a_link_that_is_refused_for_another_reason_leaves_the_part_where_it_is() {
    let place = Place::new();
    let part = place.new_part("part");
    for (status, failure) in
        [(STATUS_ACCESS_DENIED, Failure::Denied), (STATUS_DISK_FULL, Failure::NoSpace)]
    {
        LINK.set(Some(status));
        assert_eq!(publish_here(&place, &part, "name"), Err(failure));
        LINK.take();
        assert!(place.parts().join("part").exists());
        assert_eq!(place.paths(), [""; 0]);
    }
    assert_eq!(publish_here(&place, &part, "name"), Ok(()));
    assert!(place.parts().join("part").exists(), "it has two names");
}
