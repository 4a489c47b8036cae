//! Links and odd files that an attacker puts into a directory, or swaps in while the port works
//! there: the port follows none of them and changes nothing outside the directory.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use posthouse_io::{Directory, Failure, PARTS_DIRECTORY};
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, mknodat, renameat_with};
use tempfile::TempDir;

use crate::real::on_all;
use crate::test_dir::{TestDir, names_in};

const SECRET: &[u8] = b"nobody but its owner reads or writes this";

/// A directory that no operation may reach, with a file in it.
struct Outside {
    directory: TempDir,
}

impl Outside {
    fn new() -> Self {
        let outside =
            Self { directory: tempfile::tempdir().expect("the directory can be created") };
        std::fs::write(outside.file(), SECRET).expect("the file can be written");
        outside
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self) -> std::path::PathBuf {
        self.path().join("secret")
    }

    #[track_caller]
    fn is_unchanged(&self) {
        assert_eq!(names_in(self.path()), ["secret"]);
        assert_eq!(std::fs::read(self.file()).expect("the file exists"), SECRET);
    }
}

#[test]
fn links_are_not_followed_to_be_read() {
    on_all(|harness| {
        let dir = TestDir::new(harness);
        let outside = Outside::new();
        dir.make("inside/file", b"content");
        symlink(outside.file(), dir.path("absolute")).expect("the link can be created");
        symlink("inside/file", dir.path("relative")).expect("the link can be created");
        symlink(outside.path(), dir.path("directory")).expect("the link can be created");
        symlink("inside", dir.path("near")).expect("the link can be created");
        symlink("loop", dir.path("loop")).expect("the link can be created");
        symlink("nowhere", dir.path("dangling")).expect("the link can be created");
        for path in
            ["absolute", "relative", "directory/secret", "near/file", "loop", "dangling", "near"]
        {
            assert_eq!(dir.open(path).err(), Some(Failure::NotAFile), "{path}");
        }
        assert_eq!(dir.paths(), ["inside/file"]);
        let usage = dir.directory.usage().expect("the usage can be read");
        assert_eq!((usage.bytes, usage.files), (7, 1));
        outside.is_unchanged();
    });
}

#[test]
fn links_are_not_followed_to_be_written_to() {
    on_all(|harness| {
        let dir = TestDir::new(harness);
        let outside = Outside::new();
        symlink(outside.path(), dir.path("directory")).expect("the link can be created");
        symlink(outside.file(), dir.path("file")).expect("the link can be created");
        symlink(outside.path().join("new"), dir.path("dangling")).expect("the link can be created");
        let (part, _) = dir.part("part").expect("the part opens");
        dir.write(&part, 0, b"content").expect("the file can be written");
        for (path, failure) in [
            ("directory/new", Failure::NotAFile),
            ("directory/deep/new", Failure::NotAFile),
            ("dangling/new", Failure::NotAFile),
            ("directory", Failure::Exists),
            ("file", Failure::Exists),
            ("dangling", Failure::Exists),
        ] {
            assert_eq!(dir.publish("part", &part, path), Err(failure), "{path}");
        }
        for path in ["directory", "directory/new", "file", "file/new", "dangling", "dangling/new"] {
            assert_eq!(dir.look_up_directory(path), Err(Failure::Exists), "{path}");
            assert_eq!(dir.make_directory(path), Err(Failure::Exists), "{path}");
        }
        assert_eq!(dir.paths(), [""; 0]);
        outside.is_unchanged();
        dir.publish("part", &part, "name").expect("no file blocks the name");
        assert_eq!(dir.content("name"), b"content");
    });
}

#[test]
fn what_is_planted_in_a_parts_place_is_put_out_of_the_way() {
    on_all(|harness| {
        let dir = TestDir::new(harness);
        let outside = Outside::new();
        drop(dir.part("first").expect("the directory of parts is made"));
        let parts = dir.path(PARTS_DIRECTORY);
        symlink(outside.file(), parts.join("link")).expect("the link can be created");
        symlink(outside.path(), parts.join("directory link")).expect("the link can be created");
        symlink(outside.path().join("new"), parts.join("dangling"))
            .expect("the link can be created");
        std::fs::hard_link(outside.file(), parts.join("hard link"))
            .expect("the link can be created");
        make_fifo(&parts.join("fifo"));
        std::os::unix::net::UnixListener::bind(parts.join("socket")).expect("the socket opens");
        std::fs::create_dir(parts.join("directory")).expect("the directory can be created");
        for name in
            ["link", "directory link", "dangling", "hard link", "fifo", "socket", "directory"]
        {
            let (file, bytes) = dir.part(name).expect("the part opens");
            assert_eq!(bytes, 0, "{name}: a new one");
            dir.write(&file, 0, b"content").expect("the file can be written");
            dir.truncate(&file, 3).expect("the file can be truncated");
            dir.sync(&file).expect("the file can be synced");
            let metadata = std::fs::symlink_metadata(parts.join(name)).expect("the file exists");
            assert!(metadata.is_file() && metadata.len() == 3 && metadata.nlink() == 1, "{name}");
            outside.is_unchanged();
        }
        std::fs::create_dir_all(parts.join("full/beneath")).expect("the directory can be created");
        assert_eq!(dir.part("full").err(), Some(Failure::NotAFile));
        // Removing and expiring parts affects only parts.
        symlink(outside.file(), parts.join("old link")).expect("the link can be created");
        dir.expire_parts(0).expect("the parts can expire");
        assert!(parts.join("full/beneath").is_dir());
        assert!(parts.join("old link").is_symlink());
        outside.is_unchanged();
    });
}

#[test]
fn what_is_planted_in_place_of_the_directory_of_parts_is_refused() {
    on_all(|harness| {
        let outside = Outside::new();
        let plant_link =
            |path: &Path| symlink(outside.path(), path).expect("the link can be created");
        let plant_file =
            |path: &Path| std::fs::write(path, b"a file").expect("the file can be written");
        let plant_fifo = |path: &Path| make_fifo(path);
        let plants: [&dyn Fn(&Path); 3] = [&plant_link, &plant_file, &plant_fifo];
        for plant in plants {
            let dir = TestDir::new(harness);
            plant(&dir.path(PARTS_DIRECTORY));
            assert_eq!(dir.part("secret").err(), Some(Failure::NotAFile));
            assert_eq!(dir.expire_parts(0), Err(Failure::NotAFile));
            outside.is_unchanged();
        }
        let dir = TestDir::new(harness);
        let (file, _) = dir.part("secret").expect("the part opens");
        std::fs::rename(dir.path(PARTS_DIRECTORY), dir.path("moved"))
            .expect("the file can be renamed");
        plant_link(&dir.path(PARTS_DIRECTORY));
        assert_eq!(dir.remove_part("secret", &file), Err(Failure::NotAFile));
        outside.is_unchanged();
    });
}

#[test]
fn parts_and_directories_of_parts_of_another_user_are_not_used() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TESTED: only root can give files away");
        return;
    }
    let give_away = |path: &Path| {
        std::os::unix::fs::chown(path, Some(65_534), None).expect("the owner can be changed");
    };
    on_all(|harness| {
        let dir = TestDir::new(harness);
        let (file, _) = dir.part("theirs").expect("the part opens");
        dir.write(&file, 0, b"content").expect("the file can be written");
        drop(file);
        give_away(&dir.path(PARTS_DIRECTORY).join("theirs"));
        assert_eq!(dir.part("theirs").expect("a new part opens").1, 0);
        give_away(&dir.path(PARTS_DIRECTORY));
        assert_eq!(dir.part("part").err(), Some(Failure::Denied));
        assert_eq!(dir.expire_parts(0), Err(Failure::Denied));
    });
}

fn make_fifo(path: &Path) {
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, path, FileType::Fifo, mode, 0).expect("the FIFO can be created");
}

#[test]
fn what_is_no_file_is_refused_at_once_and_not_even_opened() {
    on_all(|harness| {
        let dir = TestDir::new(harness);
        make_fifo(&dir.path("fifo"));
        std::os::unix::net::UnixListener::bind(dir.path("socket")).expect("the socket opens");
        std::fs::create_dir(dir.path("directory")).expect("the directory can be created");
        let opened = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // The open waits until another thread opens the other end.
            scope.spawn(|| {
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(dir.path("fifo"))
                    .expect("the FIFO opens");
                opened.store(true, Ordering::SeqCst);
            });
            for _ in 0..200 {
                for path in ["fifo", "socket", "directory"] {
                    assert_eq!(dir.open(path).err(), Some(Failure::NotAFile), "{path}");
                }
            }
            assert!(!opened.load(Ordering::SeqCst), "the FIFO was opened");
            let flags = OFlags::RDONLY | OFlags::NONBLOCK;
            let other_end = rustix::fs::open(dir.path("fifo"), flags, Mode::empty());
            other_end.expect("the other end opens");
        });
        assert!(
            dir.path("socket").symlink_metadata().expect("the file exists").file_type().is_socket()
        );
        assert_eq!(dir.paths(), [""; 0]);
        let devices = TestDir::at(harness, Path::new("/dev"));
        for path in ["null", "zero", "tty"] {
            assert_eq!(devices.open(path).err(), Some(Failure::NotAFile), "{path}");
        }
    });
}

/// Exchanges two names again and again until `work` has returned.
fn swapping<R>(one: &Path, other: &Path, work: impl FnOnce() -> R) -> R {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
                    .expect("the names can be exchanged");
            }
        });
        let outcome = work();
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

#[test]
fn a_directory_swapped_with_a_link_leads_nowhere() {
    const ROUNDS: usize = 800;
    on_all(|harness| {
        let dir = TestDir::new(harness);
        let outside = Outside::new();
        dir.make("way/secret", b"not a secret");
        symlink(outside.path(), dir.path("link")).expect("the link can be created");
        let (part, _) = dir.part("part").expect("the part opens");
        let mut published = 0;
        let mut refused = 0;
        let mut read = 0;
        swapping(&dir.path("way"), &dir.path("link"), || {
            for round in 0..ROUNDS {
                match dir.publish("part", &part, &format!("way/deep/{round}")) {
                    Ok(()) => published += 1,
                    Err(Failure::NotAFile) => refused += 1,
                    Err(other) => panic!("{other:?}"),
                }
                match dir.open("way/secret") {
                    Ok((file, _)) => {
                        assert_eq!(dir.read(&file, 0, 100), Ok(b"not a secret".to_vec()));
                        read += 1;
                    }
                    Err(failure) => assert_eq!(failure, Failure::NotAFile),
                }
                let (entries, _) = dir.list("", 10);
                assert!(entries.iter().all(|it| it.metadata.bytes != SECRET.len() as u64));
            }
        });
        eprintln!("{published} published, {refused} refused, {read} read, of {ROUNDS}");
        assert!(published > 0 && refused > 0 && read > 0 && read < ROUNDS);
        outside.is_unchanged();
    });
}

#[test]
fn a_part_swapped_with_a_link_is_not_written_through() {
    const ROUNDS: usize = 250;
    on_all(|harness| {
        let dir = TestDir::new(harness);
        let outside = Outside::new();
        drop(dir.part("part").expect("the part opens"));
        let parts = dir.path(PARTS_DIRECTORY);
        symlink(outside.file(), parts.join("soft")).expect("the link can be created");
        std::fs::hard_link(outside.file(), parts.join("hard")).expect("the link can be created");
        let mut opened = 0;
        // A removed name comes back, so the swapper always finds both names.
        for planted in ["soft", "hard"] {
            let spare = parts.join("spare");
            swapping_in(&parts.join("part"), &parts.join(planted), &spare, || {
                for round in 0..ROUNDS {
                    let (file, _) = match dir.part("part") {
                        Ok(part) => part,
                        Err(failure) => {
                            assert_eq!(failure, Failure::Locked);
                            continue;
                        }
                    };
                    opened += 1;
                    dir.write(&file, 0, b"overwritten").expect("the file can be written");
                    dir.truncate(&file, 5).expect("the file can be truncated");
                    let path = format!("{planted}-{round}");
                    match dir.publish("part", &file, &path) {
                        Ok(()) => assert_eq!(dir.content(&path), b"overw"),
                        // The part has lost its last name.
                        Err(failure) => assert_eq!(failure, Failure::NotFound),
                    }
                    dir.remove_part("part", &file)
                        .expect("the file is removed, or belongs to another thread");
                }
            });
        }
        eprintln!("{opened} opened, of {}", 2 * ROUNDS);
        assert!(opened > 0);
        outside.is_unchanged();
    });
}

/// Links the file `planted` to `name` again and again.
fn swapping_in(name: &Path, planted: &Path, spare: &Path, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::fs::hard_link(planted, spare).expect("the second link can be created");
                // The rename replaces any file at the name, also a part.
                std::fs::rename(spare, name).expect("the file can be planted");
                // If both names are of one file, the rename does nothing.
                let _ = std::fs::remove_file(spare);
                std::thread::yield_now();
            }
        });
        work();
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_directory_is_opened_as_one() {
    let outside = Outside::new();
    let error = Directory::open(&outside.file()).expect_err("a file");
    assert_eq!(error.kind(), std::io::ErrorKind::NotADirectory);
    let error = Directory::open(&outside.path().join("nothing")).expect_err("nothing");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}
