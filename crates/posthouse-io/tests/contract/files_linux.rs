//! Files where a real system sets limits: full disks, permissions, sandboxes, old kernels.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use posthouse_io::{Backend, Failure, File, FileOp, PARTS_DIRECTORY};
use rustix::process::{Resource, Rlimit, Uid, geteuid, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};
use tempfile::TempDir;

use crate::harness::{PATIENCE, assert_same, pattern};
use crate::own_process::in_own_process;
use crate::real::on_all;
use crate::test_dir::TestDir;
use posthouse_process::opened;

/// A small file system in memory; unavailable if this machine forbids to mount one.
struct Mounted {
    directory: TempDir,
}

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("the directory can be created");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "posthouse-test"]).arg(directory.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self { directory }),
            other => {
                eprintln!("NOT TESTED: filling a disk needs the right to mount ({other:?})");
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(self.directory.path());
        assert!(mount.status().expect("mount runs").success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.directory.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("left mounted: {}", self.directory.path().display());
        }
    }
}

#[test]
fn a_full_disk_ends_a_write_and_leaves_nothing_by_half() {
    on_all(|harness| {
        let Some(disk) = Mounted::new("size=1m") else { return };
        let dir = TestDir::at(harness, disk.directory.path());
        let content = pattern(3 << 20, 1);
        dir.make("before", &content[..100_000]);
        let (file, _) = dir.part("part").expect("the part opens");
        assert_eq!(dir.write(&file, 0, &content), Err(Failure::NoSpace));
        let held = dir.metadata(&file).bytes as usize;
        assert!((1..1 << 20).contains(&held), "{held} bytes found room");
        assert_same(&dir.read_all(&file), &content[..held]);
        assert_eq!(dir.paths(), ["before"]);
        assert_same(&dir.content("before"), &content[..100_000]);
        // The write continues after space was freed.
        dir.truncate(&file, 1000).expect("the file can be truncated");
        dir.write(&file, 1000, &content[1000..500_000]).expect("no limit is reached");
        dir.sync(&file).expect("the file can be synced");
        dir.publish("part", &file, "after").expect("the file can be published");
        assert_same(&dir.content("after"), &content[..500_000]);
    });
}

#[test]
fn a_disk_without_room_for_names_fails_what_needs_one() {
    on_all(|harness| {
        let Some(disk) = Mounted::new("size=1m,nr_inodes=6") else { return };
        let dir = TestDir::at(harness, disk.directory.path());
        let (file, _) = dir.part("0").expect("the part opens");
        dir.write(&file, 0, b"content").expect("the file can be written");
        let mut more = (1..10).map(|n| (n, dir.part(&n.to_string())));
        let failed = more.find_map(|(n, part)| Some((n, part.err()?)));
        let (n, failure) = failed.expect("the disk fills in the end");
        assert_eq!(failure, Failure::NoSpace);
        assert_eq!(dir.publish("0", &file, "a/b/c/name"), Err(Failure::NoSpace));
        assert_eq!(dir.paths(), [""; 0]);
        for used in 1..n {
            let (file, _) = dir.part(&used.to_string()).expect("the part opens");
            dir.remove_part(&used.to_string(), &file).expect("the file can be removed");
        }
        dir.publish("0", &file, "a/name").expect("no limit is reached");
        assert_eq!(dir.content("a/name"), b"content");
    });
}

#[test]
fn a_disk_that_is_read_only_denies_what_would_change_it() {
    on_all(|harness| {
        let Some(disk) = Mounted::new("size=1m") else { return };
        let dir = TestDir::at(harness, disk.directory.path());
        dir.make("name", b"content");
        disk.remount("ro");
        assert_eq!(dir.part("part").err(), Some(Failure::Denied));
        assert_eq!(dir.content("name"), b"content");
        assert_eq!(dir.paths(), ["name"]);
    });
}

#[test]
fn a_limit_on_the_length_of_files_fails_a_write_and_ends_no_process() {
    const LIMIT: usize = 100_000;
    if !in_own_process(
        "files_linux::a_limit_on_the_length_of_files_fails_a_write_and_ends_no_process",
    ) {
        return;
    }
    let maximum = getrlimit(Resource::Fsize).maximum;
    let low = Rlimit { current: Some(LIMIT as u64), maximum };
    setrlimit(Resource::Fsize, low).expect("the limit is lowered");
    on_all(|harness| {
        let dir = TestDir::new(harness);
        let content = pattern(3 * LIMIT, 2);
        let (file, _) = dir.part("part").expect("the part opens");
        assert_eq!(dir.write(&file, 0, &content), Err(Failure::NoSpace));
        assert_same(&dir.read_all(&file), &content[..LIMIT]);
        assert_eq!(dir.truncate(&file, 2 * LIMIT as u64), Err(Failure::NoSpace));
        dir.publish("part", &file, "name").expect("the file can be published");
        assert_same(&dir.content("name"), &content[..LIMIT]);
    });
}

#[test]
fn no_descriptor_and_no_thread_is_left_behind() {
    if !in_own_process("files_linux::no_descriptor_and_no_thread_is_left_behind") {
        return;
    }
    let before = opened();
    on_all(|harness| {
        let dir = TestDir::new(harness);
        // The threads of the port before end by themselves, and this port has no threads before it
        // has work.
        no_disk_threads();
        dir.make("a/b/c", b"content");
        let opens = (0..40).map(|n| {
            let directory = dir.directory.clone();
            let path = "a/b/c".into();
            dir.submit_on(harness.lane(n), FileOp::Open { directory, path })
        });
        for tag in opens.collect::<Vec<_>>() {
            assert!(dir.outcome(tag).is_ok());
        }
        assert!((1..=4).contains(&disk_threads()), "{}", disk_threads());
    });
    no_disk_threads();
    assert_eq!(opened(), before);
}

/// Waits until the threads of a dropped port have ended.
fn no_disk_threads() {
    let until = std::time::Instant::now() + PATIENCE;
    while disk_threads() > 0 {
        assert!(std::time::Instant::now() < until, "a thread was leaked");
        std::thread::yield_now();
    }
}

/// Returns the number of threads of this process that work on files.
fn disk_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads are listed");
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    // The system keeps the first 15 characters of a name.
    tasks.flatten().filter_map(name).filter(|name| name.trim_end() == "posthouse-disk-").count()
}

/// Too few descriptors are no lack of room, which would end the transfer.
#[test]
fn parts_that_cannot_be_read_for_want_of_descriptors_are_not_counted_as_none() {
    if !in_own_process(
        "files_linux::parts_that_cannot_be_read_for_want_of_descriptors_are_not_counted_as_none",
    ) {
        return;
    }
    let Rlimit { maximum, current } = getrlimit(Resource::Nofile);
    on_all(|harness| {
        let dir = TestDir::new(harness);
        drop(dir.part("part").expect("the part opens"));
        let low = Rlimit { current: Some(opened() as u64 + 20), maximum };
        setrlimit(Resource::Nofile, low).expect("the limit is lowered");
        let mut taken: Vec<_> =
            std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        // The directory of parts needs one, and another one to be read.
        for free in 0..2 {
            assert_eq!(dir.free_parts(0, 1), Err(Failure::NoDescriptors), "{free} are free");
            taken.pop();
        }
        drop(taken);
        assert_eq!(dir.free_parts(0, 1), Ok(0));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("the limit is restored");
    });
}

#[test]
fn files_and_directories_get_the_permissions_that_the_process_gives() {
    if !in_own_process(
        "files_linux::files_and_directories_get_the_permissions_that_the_process_gives",
    ) {
        return;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    on_all(|harness| {
        let dir = TestDir::new(harness);
        let mode = |path: &str| {
            let metadata = std::fs::symlink_metadata(dir.path(path)).expect("the file exists");
            metadata.permissions().mode() & 0o7777
        };
        let (file, _) = dir.part("part").expect("the part opens");
        assert_eq!(mode(PARTS_DIRECTORY), 0o700);
        assert_eq!(mode(&format!("{PARTS_DIRECTORY}/part")), 0o600);
        dir.publish("part", &file, "a/plain").expect("the file can be published");
        assert_eq!((mode("a"), mode("a/plain")), (0o750, 0o640));
        let mut publish = dir.publish_op("part", &file, "a/program");
        if let FileOp::Publish { executable, .. } = &mut publish {
            *executable = true;
        }
        dir.run(publish).expect("the file can be published");
        assert_eq!(mode("a/program"), 0o750);
    });
}

/// Performs every operation of a transfer.
fn works(dir: &TestDir<'_>) {
    let content = pattern(200_000, 3);
    dir.make("way/deep/name", &content);
    assert_same(&dir.content("way/deep/name"), &content);
    assert_eq!(dir.paths(), ["way/deep/name"]);
    let (file, _) = dir.part("part").expect("the part opens");
    assert_eq!(dir.publish("part", &file, "way/deep/name"), Err(Failure::Exists));
    dir.remove_part("part", &file).expect("the file can be removed");
    assert_eq!(dir.publish("part", &file, "way/gone"), Err(Failure::NotFound));
    dir.expire_parts(0).expect("the parts can expire");
}

#[test]
fn who_has_no_privilege_can_do_everything_in_a_directory_of_his_own() {
    if !in_own_process(
        "files_linux::who_has_no_privilege_can_do_everything_in_a_directory_of_his_own",
    ) {
        return;
    }
    if !geteuid().is_root() {
        eprintln!("NOT TESTED: only root can become another user");
        return;
    }
    let roots = tempfile::tempdir().expect("the directory can be created");
    std::fs::write(roots.path().join("readable"), b"content").expect("the file can be written");
    std::fs::write(roots.path().join("private"), b"content").expect("the file can be written");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(roots.path().join("private"), private)
        .expect("the permissions can be set");
    // The second one shows its names to everybody, and nothing else.
    for (name, mode) in [("closed", 0o700), ("half open", 0o744)] {
        let path = roots.path().join(name);
        std::fs::create_dir(&path).expect("the directory can be created");
        std::fs::write(path.join("within"), b"content").expect("the file can be written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .expect("the permissions can be set");
    }
    let theirs = tempfile::tempdir().expect("the directory can be created");
    std::os::unix::fs::chown(theirs.path(), Some(65_534), None).expect("the owner can be changed");
    let root = Uid::from_raw(0);
    let nobody = Uid::from_raw(65_534);
    rustix::thread::set_thread_res_uid(nobody, nobody, root)
        .expect("the process can become another user");
    on_all(|harness| {
        let dir = TestDir::at(harness, theirs.path());
        works(&dir);
        std::fs::remove_dir_all(theirs.path().join("way")).expect("the directory can be removed");
        let dir = TestDir::at(harness, roots.path());
        assert_eq!(dir.content("readable"), b"content");
        assert_eq!(dir.open("private").err(), Some(Failure::Denied));
        assert_eq!(dir.open("closed/file").err(), Some(Failure::Denied));
        assert_eq!(dir.part("part").err(), Some(Failure::Denied));
        // An unreadable directory is left out of the listing and does not end it.
        assert_eq!(dir.paths(), ["private", "readable"]);
        let usage = dir.directory.usage().expect("the usage can be read");
        assert_eq!((usage.files, usage.empty_directories), (2, 0));
    });
    rustix::thread::set_thread_res_uid(root, root, root)
        .expect("root can be restored for the cleanup");
}

/// Makes a call fail from now on if these bits of its fifth argument are set. This affects all
/// threads of the process and cannot be undone.
fn refuse(refused: &[(libc::c_long, Option<u64>)], errno: libc::c_int) {
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> = BTreeMap::new();
    for (call, bits) in refused {
        let rules = rules.entry(*call).or_default();
        if let Some(bits) = bits {
            let length = SeccompCmpArgLen::Dword;
            let masked = SeccompCmpOp::MaskedEq(*bits);
            let condition = SeccompCondition::new(4, length, masked, *bits);
            let rule = SeccompRule::new(vec![condition.expect("the condition is valid")]);
            rules.push(rule.expect("the rule is valid"));
        }
    }
    let refusal = SeccompAction::Errno(errno.cast_unsigned());
    let machine = std::env::consts::ARCH.try_into().expect("the machine supports seccomp");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, machine);
    let program: BpfProgram =
        filter.expect("the filter is valid").try_into().expect("a program of the filter");
    apply_filter_all_threads(&program).expect("the sandbox can be entered");
}

const BY_DESCRIPTOR: u64 = libc::AT_EMPTY_PATH as u64;
const BY_PROC: u64 = libc::AT_SYMLINK_FOLLOW as u64;

/// Writes to the part, and puts another file in its place.
fn swap_part(dir: &TestDir<'_>, file: &File) {
    dir.write(file, 0, b"right").expect("the file can be written");
    let parts = dir.path(PARTS_DIRECTORY);
    std::fs::rename(parts.join("part"), parts.join("moved")).expect("the file can be renamed");
    std::fs::write(parts.join("part"), b"wrong").expect("the file can be planted");
}

#[test]
fn a_kernel_that_links_descriptors_for_the_privileged_only_is_good_enough() {
    if in_own_process(
        "files_linux::a_kernel_that_links_descriptors_for_the_privileged_only_is_good_enough",
    ) {
        refuse(&[(libc::SYS_linkat, Some(BY_DESCRIPTOR))], libc::ENOENT);
        on_all(|harness| {
            let dir = TestDir::new(harness);
            works(&dir);
            // The open file counts, not the name.
            let (file, _) = dir.part("part").expect("the part opens");
            swap_part(&dir, &file);
            dir.publish("part", &file, "name").expect("the file can be published");
            assert_eq!(dir.content("name"), b"right");
        });
    }
}

#[test]
fn a_system_without_proc_is_good_enough() {
    if in_own_process("files_linux::a_system_without_proc_is_good_enough") {
        let both = [BY_DESCRIPTOR, BY_PROC].map(|bits| (libc::SYS_linkat, Some(bits)));
        refuse(&both, libc::ENOENT);
        on_all(|harness| {
            let dir = TestDir::new(harness);
            works(&dir);
            // Only the name identifies the part here, so it must still be the name of the file.
            let (file, _) = dir.part("part").expect("the part opens");
            swap_part(&dir, &file);
            assert_eq!(dir.publish("part", &file, "name"), Err(Failure::NotFound));
            assert_eq!(dir.open("name").err(), Some(Failure::NotFound));
            dir.publish("moved", &file, "name").expect("the file can be published");
            assert_eq!(dir.content("name"), b"right");
        });
    }
}

#[test]
fn a_kernel_that_cannot_resolve_beneath_is_told() {
    if in_own_process("files_linux::a_kernel_that_cannot_resolve_beneath_is_told") {
        refuse(&[(libc::SYS_openat2, None)], libc::ENOSYS);
        on_all(|harness| {
            let dir = TestDir::new(harness);
            assert_eq!(dir.open("name").err(), Some(Failure::Unsupported));
            assert_eq!(dir.part("part").err(), Some(Failure::Unsupported));
            let error = dir.directory.usage().expect_err("no way beneath");
            assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
        });
    }
}

#[test]
fn a_disk_that_fails_is_told_and_no_name_is_given() {
    if in_own_process("files_linux::a_disk_that_fails_is_told_and_no_name_is_given") {
        refuse(&[(libc::SYS_fsync, None), (libc::SYS_pread64, None)], libc::EIO);
        on_all(|harness| {
            let dir = TestDir::new(harness);
            let (file, _) = dir.part("part").expect("the part opens");
            dir.write(&file, 0, b"content").expect("the file can be written");
            assert_eq!(dir.publish("part", &file, "way/name"), Err(Failure::Disk));
            assert_eq!(dir.open("way/name").err(), Some(Failure::NotFound));
            // A ring makes no such calls.
            if !matches!(harness.backend, Backend::Uring) {
                assert_eq!(dir.sync(&file), Err(Failure::Disk));
                assert_eq!(dir.read(&file, 0, 10), Err(Failure::Disk));
            }
        });
    }
}

#[test]
fn a_list_leaves_out_what_has_no_text_for_a_name_or_lies_too_deep() {
    on_all(|harness| {
        let dir = TestDir::new(harness);
        dir.make("a", b"");
        let no_text = std::ffi::OsStr::from_bytes(b"not \xff text");
        std::fs::create_dir(dir.path("").join(no_text)).expect("the directory can be created");
        std::fs::write(dir.path("").join(no_text).join("in it"), b"1234")
            .expect("the file can be written");
        std::fs::write(dir.path("b\u{7f}"), b"").expect("the file can be written");
        std::fs::write(dir.path("").join(no_text).with_extension("file"), b"")
            .expect("the file can be written");
        let deep = "d/".repeat(63);
        std::fs::create_dir_all(dir.path(&deep).join("d")).expect("the directories can be created");
        std::fs::write(dir.path(&deep).join("last"), b"1").expect("the file can be written");
        std::fs::write(dir.path(&deep).join("d/beyond"), b"2").expect("the file can be written");
        assert_eq!(dir.paths(), ["a".to_owned(), "b\u{7f}".to_owned(), format!("{deep}last")]);
        let usage = dir.directory.usage().expect("the usage can be read");
        assert_eq!(
            (usage.files, usage.bytes),
            (5, 5),
            "files that cannot be listed are not counted"
        );
    });
}

#[test]
fn a_large_directory_is_listed_in_pieces() {
    const FILES: usize = 5000;
    let large = tempfile::tempdir().expect("the directory can be created");
    let mut expected: Vec<String> = (0..FILES).map(|n| format!("{n}")).collect();
    for (n, name) in expected.iter().enumerate() {
        std::fs::write(large.path().join(name), vec![0; n % 3]).expect("the file opens");
        // Empty directories: their names are read and yield no entry.
        std::fs::create_dir(large.path().join(format!("{name}-")))
            .expect("the directory can be created");
    }
    std::fs::create_dir(large.path().join("zz")).expect("the directory can be created");
    std::fs::write(large.path().join("zz/last"), b"").expect("the file can be written");
    expected.push("zz/last".to_owned());
    expected.sort();
    on_all(|harness| {
        let dir = TestDir::at(harness, large.path());
        assert_eq!(dir.paths(), expected);
        let (entries, more) = dir.list("3", 3000);
        let start = expected.iter().position(|name| name == "3").expect("the file exists") + 1;
        let got: Vec<_> = entries.iter().map(|entry| &*entry.path).collect();
        assert_eq!(
            (got, more),
            (
                expected[start..].iter().map(|it| &**it).take(3000).collect(),
                expected.len() - start > 3000
            )
        );
    });
}

#[test]
fn a_file_that_shrinks_or_grows_meanwhile_is_read_as_it_is() {
    on_all(|harness| {
        let dir = TestDir::new(harness);
        let content = pattern(50_000, 4);
        dir.make("name", &content);
        let (file, _) = dir.open("name").expect("the file exists");
        let other = std::fs::OpenOptions::new().write(true).open(dir.path("name"));
        let other = other.expect("the file exists");
        other.set_len(20_000).expect("the file can be truncated");
        assert_same(&dir.read_all(&file), &content[..20_000]);
        assert_eq!(dir.read(&file, 30_000, 1000), Ok(Vec::new()));
        assert_eq!(dir.metadata(&file).bytes, 20_000);
        other.set_len(60_000).expect("the file can be extended");
        assert_eq!(dir.read_all(&file).len(), 60_000);
        std::fs::remove_file(dir.path("name")).expect("the file can be removed");
        assert_eq!(dir.read_all(&file).len(), 60_000, "an open file lost its bytes");
        assert_eq!(dir.open("name").err(), Some(Failure::NotFound));
    });
}

#[test]
fn a_directory_that_is_removed_while_it_is_worked_in_fails_what_comes() {
    on_all(|harness| {
        let dir = TestDir::new(harness);
        std::fs::create_dir(dir.path("inner")).expect("the directory can be created");
        let inner = TestDir::at(harness, &dir.path("inner"));
        let (file, _) = inner.part("part").expect("the part opens");
        inner.write(&file, 0, b"content").expect("the file can be written");
        std::fs::remove_dir_all(dir.path("inner")).expect("the directory can be removed");
        assert_eq!(inner.publish("part", &file, "name"), Err(Failure::NotFound));
        assert_eq!(inner.publish("part", &file, "way/name"), Err(Failure::NotFound));
        assert_eq!(inner.part("other").err(), Some(Failure::NotFound));
        inner.remove_part("part", &file).expect("the part can be removed");
        assert_eq!(inner.paths(), [""; 0]);
        // A removed directory of parts is created again.
        let (_held, _) = dir.part("part").expect("the part opens");
        std::fs::remove_dir_all(dir.path(PARTS_DIRECTORY)).expect("the directory can be removed");
        assert_eq!(dir.part("part").expect("a new part opens").1, 0);
    });
}
