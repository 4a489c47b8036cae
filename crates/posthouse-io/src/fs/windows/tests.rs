//! Behaviour of Windows only. The contract list has the tests of common behaviour.

mod links;
mod place;

use std::os::windows::ffi::OsStringExt;
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use super::*;
use crate::handle::Directory;
use posthouse_process::is_wine;

pub(super) use links::link_refused;
use place::{Place, content_of, count_names, make_dir, verbatim, write_file};

#[test]
fn a_name_that_means_something_else_is_none() {
    let place = Place::new();
    let part = place.new_part("part");
    place.write(&part, b"content");
    assert_eq!(place.publish(&part, "a"), Ok(()));
    let file = place.opened("a");
    let numbered = ["COM", "LPT"]
        .into_iter()
        .flat_map(|name| "0123456789¹²³".chars().map(move |number| format!("{name}{number}")));
    let devices = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].map(str::to_owned);
    let devices: Vec<_> = numbered.chain(devices).collect();
    let extended = devices.iter().flat_map(|device| {
        [device.to_lowercase(), format!("{device}.txt"), format!("{device} .a.b")]
    });
    let characters = "<>:\"|?*\\\u{1}\u{1f}\u{7f}"
        .chars()
        .flat_map(|c| [format!("{c}a"), format!("a{c}b"), format!("a{c}")]);
    let edges = ["a.", "a ", "a. .", "...", " ", "a::$DATA", "a:stream:$DATA", "a\\..\\b"];
    let edges = edges.map(str::to_owned);
    for name in devices.iter().cloned().chain(extended).chain(characters).chain(edges) {
        assert_eq!(place.open(&name).err(), Some(Failure::NotFound), "{name:?}");
        assert_eq!(place.open(&format!("{name}/x")).err(), Some(Failure::NotFound), "{name:?}");
        assert_eq!(place.sync_name(&name, &file), Err(Failure::NotFound), "{name:?}");
        assert_eq!(place.part(&name).err(), Some(Failure::Denied), "{name:?}");
        assert_eq!(place.publish(&part, &name), Err(Failure::Denied), "{name:?}");
        assert_eq!(place.publish(&part, &format!("way/{name}")), Err(Failure::Denied), "{name:?}");
        assert_eq!(place.publish(&part, &format!("{name}/x")), Err(Failure::Denied), "{name:?}");
        assert_eq!(place.remove_part(&name, &part), Ok(()), "{name:?}");
    }
    assert_eq!(place.paths(), ["a"]);
    let names = count_names(&place.path);
    assert_eq!(names, 2, "the file, and the directory of parts: nothing was made on the way");
    assert_eq!(count_names(place.parts()), 1);
}

#[test]
fn names_that_windows_leaves_alone_are_names() {
    let place = Place::new();
    let part = place.new_part("part");
    for name in ["console", "COM", "COM10", "com\u{2074}", ".a", "...a", " a", "a b", "nul-", "ä"]
    {
        assert_eq!(place.publish(&part, name), Ok(()));
        assert!(place.open(name).is_ok(), "{name}");
    }
    assert_eq!(place.paths().len(), 10);
}

#[test]
fn what_has_a_name_that_is_none_is_counted_and_not_listed() {
    let place = Place::new();
    for name in ["a.", "b ", "nul", "fine"] {
        write_file(verbatim(&place.path, name), b"content");
    }
    make_dir(verbatim(&place.path, "con"));
    write_file(verbatim(&place.path, r"con\inside"), b"content");
    assert_eq!(place.paths(), ["fine"]);
    assert_eq!(place.files(), 5);
    // So that common tools can remove them.
    for name in ["a.", "b ", "nul", r"con\inside"] {
        std::fs::remove_file(verbatim(&place.path, name)).expect("removed");
    }
    std::fs::remove_dir(verbatim(&place.path, "con")).expect("removed");
}

#[test]
fn a_name_that_is_no_text_is_left_out() {
    let place = Place::new();
    let name = std::ffi::OsString::from_wide(&[0x61, 0xd800, 0x62]);
    if let Err(error) = std::fs::write(place.path.join(name), b"content") {
        assert!(is_wine(), "{error}");
        eprintln!("NOT TESTED: Wine has no such names on this file system ({error})");
        return;
    }
    if is_wine() {
        eprintln!("NOT TESTED: Wine makes a text of such a name");
        return;
    }
    assert_eq!(place.paths(), [""; 0]);
    assert_eq!(place.files(), 1);
}

#[test]
fn names_differ_in_more_than_case() {
    let place = Place::new();
    let part = place.new_part("part");
    place.write(&part, b"content");
    assert_eq!(place.publish(&part, "Way/Name"), Ok(()));
    for path in ["way/name", "WAY/NAME", "Way/nAME"] {
        assert_eq!(place.publish(&part, path), Err(Failure::Exists), "{path}");
        assert_eq!(place.content(path), Ok(b"content".to_vec()), "{path}");
    }
    assert_eq!(place.part("PART").err(), Some(Failure::Locked));
    assert_eq!(place.publish(&part, "way/other"), Ok(()));
    assert_eq!(place.paths(), ["Way/Name", "Way/other"]);
}

#[test]
fn the_directory_of_parts_is_not_listed_in_whatever_case_it_is_written() {
    let place = Place::new();
    make_dir(place.path.join(".PostHouse"));
    let part = place.new_part("part");
    place.write(&part, b"content");
    assert_eq!(place.paths(), [""; 0]);
    assert_eq!(place.files(), 1);
    assert_eq!(place.publish(&part, "name"), Ok(()));
    assert_eq!((place.paths(), place.files()), (vec!["name".to_owned()], 1));
    assert_eq!(place.remove_part("part", &part), Ok(()));
    assert_eq!(place.files(), 1);
}

#[test]
fn nobody_else_writes_to_a_part_and_anybody_reads_it() {
    let place = Place::new();
    let part = place.new_part("part");
    place.write(&part, b"content");
    let path = place.parts().join("part");
    let violation = windows_sys::Win32::Foundation::ERROR_SHARING_VIOLATION.cast_signed();
    let writer = std::fs::OpenOptions::new().write(true).open(&path);
    assert_eq!(writer.expect_err("it is locked").raw_os_error(), Some(violation));
    assert_eq!(content_of(&path), b"content");
    // A published file can be read while its holder still has it open, and cannot be written.
    assert_eq!(place.publish(&part, "name"), Ok(()));
    assert_eq!(place.content("name"), Ok(b"content".to_vec()));
    let writer = std::fs::OpenOptions::new().write(true).open(place.path.join("name"));
    assert_eq!(writer.expect_err("it is locked").raw_os_error(), Some(violation));
    let found = place.opened("name");
    assert_eq!(place.sync_name("name", &found), Ok(()));
    // A process that writes to the file in a part's place holds it.
    let left = place.new_part("left");
    drop(left);
    let all = fs::FILE_SHARE_READ | fs::FILE_SHARE_WRITE | fs::FILE_SHARE_DELETE;
    let mut options = std::fs::OpenOptions::new();
    let writer = options.write(true).share_mode(all).open(place.parts().join("left"));
    assert_eq!(place.part("left").err(), Some(Failure::Locked));
    assert_eq!(place.expire(0), Ok(()));
    assert!(place.parts().join("left").exists(), "what is held does not expire");
    drop(writer);
    drop(place.new_part("left"));
}

/// Returns the path of a test of this module in the test program.
fn this_module(test: &str) -> String {
    let (_crate, module) = module_path!().split_once("::").expect("a module of a crate");
    format!("{module}::{test}")
}

const HOLD_IN: &str = "POSTHOUSE_TEST_HOLDS_A_PART_IN";

#[test]
fn a_process_that_is_killed_holds_nothing() {
    if let Some(path) = std::env::var_os(HOLD_IN) {
        let place = Place::at(Path::new(&path));
        let _held = place.new_part("part");
        println!("held");
        std::io::stdin().read_line(&mut String::new()).expect("nothing comes");
        std::process::exit(0);
    }
    let place = Place::new();
    let mut holder = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", &this_module("a_process_that_is_killed_holds_nothing")])
        .arg("--nocapture")
        .env(HOLD_IN, &place.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let told = std::io::BufReader::new(holder.stdout.take().expect("its output"));
    let told = std::io::BufRead::lines(told).map_while(Result::ok);
    assert!(told.into_iter().any(|line| line.contains("held")), "it has the part");
    assert_eq!(place.part("part").err(), Some(Failure::Locked));
    holder.kill().expect("killed");
    holder.wait().expect("it has ended");
    assert!(place.part("part").is_ok());
}

#[test]
fn what_is_planted_in_a_parts_place_is_put_out_of_the_way() {
    let place = Place::new();
    let outside = Place::new();
    let secret = outside.path.join("secret");
    write_file(&secret, b"secret");
    drop(place.new_part("first"));
    let parts = place.parts();
    make_dir(parts.join("directory"));
    std::fs::hard_link(&secret, parts.join("link")).expect("a link");
    for name in ["directory", "link"] {
        let (file, bytes) = place.part(name).expect("a part");
        assert_eq!(bytes, 0, "{name}: a new one");
        place.write(&file, b"content");
    }
    assert_eq!(content_of(&secret), b"secret");
    make_dir(parts.join("full/beneath"));
    assert_eq!(place.part("full").err(), Some(Failure::NotAFile));
    assert!(parts.join("full/beneath").is_dir());
    let place = Place::new();
    write_file(place.parts(), b"a file");
    assert_eq!(place.part("part").err(), Some(Failure::NotAFile));
    assert_eq!(place.expire(0), Err(Failure::NotAFile));
}

#[test]
fn a_part_that_was_made_read_only_is_put_out_of_the_way() {
    let place = Place::new();
    drop(place.new_part("part"));
    let path = place.parts().join("part");
    write_file(&path, b"not to be written to");
    let before = std::fs::metadata(&path).expect("it is there").permissions();
    let mut permissions = before.clone();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).expect("read-only");
    if is_wine() {
        eprintln!("NOT TESTED: Wine lets root write to what is read-only");
        std::fs::set_permissions(&path, before).expect("so that it can be removed");
        return;
    }
    assert_eq!(place.held_in_part("part"), Ok(0));
}

/// Creates a junction. Returns false if the system cannot.
fn make_junction(at: &Path, to: &Path) -> bool {
    let made = Command::new("cmd").args(["/c", "mklink", "/J"]).arg(at).arg(to).output();
    let made = made.is_ok_and(|made| made.status.success()) && at.symlink_metadata().is_ok();
    assert!(made || is_wine(), "Windows makes junctions");
    made
}

#[test]
fn a_junction_leads_nowhere() {
    let place = Place::new();
    let outside = Place::new();
    let secret = outside.path.join("secret");
    write_file(&secret, b"secret");
    make_dir(place.path.join("inside"));
    let junction = place.path.join("junction");
    if !make_junction(&junction, &outside.path) {
        eprintln!("NOT TESTED: Wine makes no junctions");
        return;
    }
    let part = place.new_part("part");
    place.write(&part, b"content");
    assert_eq!(place.open("junction").err(), Some(Failure::NotAFile));
    assert_eq!(place.open("junction/secret").err(), Some(Failure::NotAFile));
    assert_eq!(place.publish(&part, "junction"), Err(Failure::Exists));
    assert_eq!(place.publish(&part, "junction/new"), Err(Failure::NotAFile));
    assert_eq!(place.publish(&part, "junction/deep/new"), Err(Failure::NotAFile));
    assert_eq!(place.paths(), [""; 0]);
    assert_eq!(place.files(), 1);
    // In a part's place it is removed, and its target stays.
    assert!(make_junction(&place.parts().join("planted"), &outside.path));
    assert_eq!(place.held_in_part("planted"), Ok(0));
    // In place of the directory of parts it is rejected.
    let planted = Place::new();
    assert!(make_junction(&planted.parts(), &outside.path));
    assert_eq!(planted.part("secret").err(), Some(Failure::NotAFile));
    assert_eq!(planted.expire(0), Err(Failure::NotAFile));
    // The directory on the way is replaced with a junction, again and again, while it is renamed.
    let parents = place.path.join("way");
    let rename = |from: &Path, to: &Path| std::fs::rename(from, to).is_ok();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                rename(&parents, &place.path.join(format!("aside-{n}")));
                let planted = rename(&junction, &parents);
                while planted && !rename(&parents, &junction) {}
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for round in 0..300 {
            let _ = place.publish(&part, &format!("way/{round}"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let names = count_names(&outside.path);
    assert_eq!(names, 1, "nothing was made outside");
    assert_eq!(content_of(&secret), b"secret");
}

#[test]
fn a_mount_point_is_a_reparse_point_too() {
    // Wine shows mount points as Windows does; it has no other reparse points.
    if !is_wine() || !Path::new(r"Z:\proc\version").exists() {
        eprintln!("NOT TESTED: there is no mount point to be had");
        return;
    }
    let root = Place::at(Path::new(r"Z:\"));
    assert_eq!(root.open("proc").err(), Some(Failure::NotAFile));
    assert_eq!(root.open("proc/version").err(), Some(Failure::NotAFile));
    let place = Place::new();
    let part = place.new_part("part");
    assert_eq!(root.publish(&part, "proc/new"), Err(Failure::NotAFile));
    assert_eq!(root.publish(&part, "proc"), Err(Failure::Exists));
    let directory = root.directory.dir_handle();
    for path in ["proc", "proc/new"] {
        let failure = |done: Result<(), Error>| done.map_err(|error| error.failure);
        assert_eq!(failure(directory.look_up_directory(path)), Err(Failure::Exists), "{path}");
        assert_eq!(failure(directory.make_directory(path)), Err(Failure::Exists), "{path}");
    }
    // Beneath it there are files and other objects.
    let devices = Place::at(Path::new(r"Z:\dev"));
    for path in ["null", "zero"] {
        assert_eq!(devices.open(path).err(), Some(Failure::NotAFile), "{path}");
    }
    let mounted = Place::at(Path::new(r"Z:\proc"));
    assert!(!mounted.content("version").expect("a file").is_empty());
}

#[test]
fn a_reparse_point_is_neither_a_file_nor_a_directory() {
    let link = fs::FILE_ATTRIBUTE_REPARSE_POINT;
    assert_eq!(kind_of(link), EntryKind::Other);
    assert_eq!(kind_of(link | fs::FILE_ATTRIBUTE_DIRECTORY), EntryKind::Other);
    assert_eq!(kind_of(fs::FILE_ATTRIBUTE_DIRECTORY), EntryKind::Directory);
    assert_eq!(kind_of(fs::FILE_ATTRIBUTE_ARCHIVE), EntryKind::File);
}

#[test]
fn a_path_of_any_length_is_a_path() {
    let place = Place::new();
    let part = place.new_part("part");
    place.write(&part, b"content");
    let path = format!("{}/{}", vec!["d".repeat(100); 8].join("/"), "f".repeat(200));
    assert!(path.len() > 1000);
    assert_eq!(place.publish(&part, &path), Ok(()));
    assert_eq!(place.content(&path), Ok(b"content".to_vec()));
    assert_eq!(place.paths(), [&*path]);
    let file = place.opened(&path);
    assert_eq!(place.sync_name(&path, &file), Ok(()));
    let too_long = "x".repeat(300);
    assert_eq!(place.open(&too_long).err(), Some(Failure::NotFound));
    assert!(place.publish(&part, &too_long).is_err());
}

#[test]
fn a_directory_of_more_names_than_one_call_gives_is_listed_whole() {
    let place = Place::new();
    let mut expected: Vec<_> = (0..300).map(|n| format!("{n}-{}", "x".repeat(100))).collect();
    for name in &expected {
        write_file(place.path.join(name), b"");
    }
    expected.sort();
    assert_eq!(place.paths(), expected);
    assert_eq!(place.files(), 300);
}

#[test]
fn a_directory_is_read_from_its_beginning_each_time() {
    let place = Place::new();
    for name in ["a", "b", "c"] {
        write_file(place.path.join(name), b"");
    }
    let directory = walkable(&place.directory.dir_handle().root).expect("once more");
    for _ in 0..3 {
        let mut names = Vec::new();
        let mut note = |entry: &entries::Entry<'_>| {
            names.extend(entry.text().map(str::to_owned));
            Ok(())
        };
        each_entry(&directory, &mut note).expect("read");
        names.sort();
        assert_eq!(names, ["a", "b", "c"]);
    }
}

/// Publishing itself ignores most errors of this call.
#[test]
fn a_directory_is_flushed() {
    let place = Place::new();
    let root = &place.directory.dir_handle().root;
    let to_flush = calls::open(root, &[], publishing::TO_FLUSH).map_err(Error::from);
    calls::flush(&to_flush.expect("it can be opened for that")).expect("flushed");
    sync_directory(root).expect("flushed");
}

#[test]
fn a_name_that_is_taken_away_is_free_while_its_file_is_open() {
    let place = Place::new();
    let first = place.new_part("part");
    place.write(&first, b"first");
    assert_eq!(place.remove_part("part", &first), Ok(()));
    let (second, bytes) = place.part("part").expect("a new part");
    assert_eq!(bytes, 0);
    assert_eq!(place.remove_part("part", &first), Ok(()));
    assert_eq!(place.read(&first), b"first");
    drop((first, second));
    let names = count_names(place.parts());
    assert_eq!(names, 1, "nothing is left of the first");
}

#[test]
fn a_completion_port_hears_nothing_of_what_is_waited_for() {
    use windows_sys::Win32::System::IO::{CreateIoCompletionPort, GetQueuedCompletionStatus};
    let place = Place::new();
    let file = place.new_part("part");
    let handle = std::os::windows::io::AsRawHandle::as_raw_handle(file.handle());
    // SAFETY: the handle is open as long as the file, and there is no port yet.
    let port = unsafe { CreateIoCompletionPort(handle, std::ptr::null_mut(), 1, 1) };
    assert!(!port.is_null());
    assert_eq!(file.port().set(port.addr()), Ok(()));
    assert_eq!(file.clone().port().get(), Some(&port.addr()));
    place.write(&file, b"content");
    assert_eq!(place.read(&file), b"content");
    truncate(file.opened(), 3).expect("cut");
    assert_eq!(place.read(&file), b"con");
    sync(file.opened()).expect("synced");
    assert_eq!(place.publish(&file, "name"), Ok(()));
    assert_eq!(place.remove_part("part", &file), Ok(()));
    let mut bytes = 0;
    let mut key = 0;
    let mut overlapped = std::ptr::null_mut();
    // SAFETY: the port is open, and the pointers refer to values of this function.
    let told = unsafe {
        GetQueuedCompletionStatus(port, &raw mut bytes, &raw mut key, &raw mut overlapped, 0)
    };
    assert_eq!((told, overlapped.is_null()), (0, true), "nothing was queued");
}

#[test]
fn every_time_becomes_the_step_before_it() {
    for ns in [0, 100, 99_900, -100, -100_100, 1_234_567_890_123_456_700] {
        assert_eq!(ns_of(steps_of(ns)), ns);
    }
    for ns in [i64::MIN, -1, 1, i64::MAX] {
        let steps = steps_of(ns);
        let before = i128::from(ns) - i128::from(ns_of(steps));
        assert!(steps > 0 && (0..100).contains(&before), "{ns}: {steps} steps, {before} ns");
    }
    assert_eq!((ns_of(i64::MIN), ns_of(i64::MAX)), (i64::MIN, i64::MAX));
}

#[test]
fn the_directory_of_parts_is_hidden() {
    let place = Place::new();
    drop(place.new_part("part"));
    let attributes = std::fs::metadata(place.parts()).expect("it is there").file_attributes();
    assert!(attributes & fs::FILE_ATTRIBUTE_HIDDEN != 0);
    assert!(attributes & fs::FILE_ATTRIBUTE_DIRECTORY != 0);
}

#[test]
fn a_directory_is_opened_as_one() {
    let place = Place::new();
    write_file(place.path.join("file"), b"content");
    let kind = |path: &str| Directory::open(&place.path.join(path)).expect_err(path).kind();
    assert_eq!(kind("file"), std::io::ErrorKind::NotADirectory);
    assert_eq!(kind("nothing"), std::io::ErrorKind::NotFound);
}
