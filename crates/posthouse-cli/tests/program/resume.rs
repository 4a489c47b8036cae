//! Files that break off on their way, and go on.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::link::{Link, Manner};
use super::support::{Ended, Program, TemporaryDirectory, run, serve, wait_until};

/// Large enough to break off in the middle.
const FILE_BYTES: usize = 8 << 20;
/// What a link takes of it before it fails.
const TAKEN_BYTES: u64 = 3 << 20;
/// What the receiver has of it, at least, when somebody is killed.
const HELD_BYTES: u64 = 1 << 20;

/// Bytes that do not repeat.
fn content() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..FILE_BYTES).map(|_| next()).collect()
}

/// A directory with a file to send, and a server with an empty one.
struct Scene {
    server: Program,
    address: SocketAddr,
    /// The last: Windows keeps a directory that a server has open.
    here: TemporaryDirectory,
}

impl Scene {
    fn new() -> Self {
        let here = TemporaryDirectory::new();
        here.write("disk.img", content());
        fs::create_dir(here.join("inbox")).unwrap();
        let (server, address) = serve(&["--dir", &here.text("inbox")]);
        Self { server, address, here }
    }

    fn sender(&self, link: SocketAddr) -> Program {
        Program::start(["send", &link.to_string(), &self.here.text("disk.img"), "--json"])
    }

    /// Waits until a part holds enough to go on from.
    fn wait_until_held(directory: &Path) {
        wait_until("a part that holds something", || held(directory) >= HELD_BYTES);
    }

    /// The file is there, as it was, and was gone on with.
    #[track_caller]
    fn has_gone_on(&self, ended: &Ended, arrived: &str) {
        let lines = ended.json_lines();
        let [file, all] = &lines[..] else { panic!("one file and the sum: {ended:#?}") };
        let from = file["resumed_from"].as_u64().unwrap();
        assert!((HELD_BYTES..=TAKEN_BYTES).contains(&from), "{file:#}");
        assert_eq!(file["sent_bytes"], FILE_BYTES as u64 - from, "{file:#}");
        assert_eq!(file["error"], serde_json::Value::Null);
        assert_eq!((&all["files"], &all["left"]), (&1.into(), &0.into()), "{all:#}");
        assert!(fs::read(self.here.join(arrived)).unwrap() == content(), "other content arrived");
    }
}

/// Bytes in the largest part of a directory that receives.
fn held(directory: &Path) -> u64 {
    let Ok(parts) = fs::read_dir(directory.join(".posthouse")) else { return 0 };
    let lengths = parts.flatten().filter_map(|part| Some(part.metadata().ok()?.len()));
    lengths.max().unwrap_or(0)
}

#[test]
fn a_sender_that_was_killed_goes_on_where_it_was() {
    let scene = Scene::new();
    let link = Link::start(scene.address, Manner::Loses(TAKEN_BYTES));
    let sender = scene.sender(link.address);
    Scene::wait_until_held(&scene.here.join("inbox"));
    sender.kill();
    let ended = scene.sender(scene.address).finish().expect(0);
    scene.has_gone_on(&ended, "inbox/disk.img");
}

#[test]
fn a_server_that_was_killed_is_waited_for_and_gone_on_with() {
    let mut scene = Scene::new();
    let link = Link::start(scene.address, Manner::Loses(TAKEN_BYTES));
    let mut sender = scene.sender(link.address);
    let inbox = scene.here.join("inbox");
    Scene::wait_until_held(&inbox);
    let (server, address) = serve(&["--dir", &scene.here.text("inbox")]);
    std::mem::replace(&mut scene.server, server).kill();
    assert!(sender.complaint().starts_with("lost the connection to "));
    link.mend(address);
    let ended = sender.finish().expect(0);
    scene.has_gone_on(&ended, "inbox/disk.img");
    assert!(ended.stderr.starts_with("going on with "), "{ended:#?}");
    // Nothing but the file is left.
    assert_eq!(held(&inbox), 0);
}

#[test]
fn a_link_that_is_cut_again_and_again_is_made_again_as_long_as_there_is_progress() {
    let scene = Scene::new();
    // Each connection brings another quarter or so.
    let link = Link::start(scene.address, Manner::Cuts(TAKEN_BYTES));
    let ended = scene.sender(link.address).finish().expect(0);
    let file = &ended.json_lines()[0];
    // One connection carries no more. (Two that are lost in one breath can be told in one line.)
    assert!(file["resumed_from"].as_u64().unwrap() > TAKEN_BYTES, "at the third attempt: {file:#}");
    assert!(fs::read(scene.here.join("inbox/disk.img")).unwrap() == content());
    assert!(ended.stderr.starts_with("lost the connection"), "{ended:#?}");
}

#[test]
fn without_retry_a_lost_connection_is_the_end_and_the_same_command_goes_on() {
    let scene = Scene::new();
    let link = Link::start(scene.address, Manner::Cuts(TAKEN_BYTES));
    let (link, path) = (link.address.to_string(), scene.here.text("disk.img"));
    let ended = run(["send", &link, &path, "--retry=0"]).expect(1);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [file, error] = lines[..] else { panic!("the file and the sum: {ended:#?}") };
    assert!(
        file.starts_with("not finished: disk.img (") && file.ends_with(" of 8.0 MiB)"),
        "{file}"
    );
    for part in ["lost the connection", &link, "1 of 1 file not sent", "the same command goes on"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(ended.stdout, "");
    let ended = scene.sender(scene.address).finish().expect(0);
    scene.has_gone_on(&ended, "inbox/disk.img");
}

#[test]
fn a_file_that_is_got_goes_on_after_a_kill_as_well() {
    let scene = Scene::new();
    fs::rename(scene.here.join("disk.img"), scene.here.join("inbox/disk.img")).unwrap();
    fs::create_dir(scene.here.join("back")).unwrap();
    let getter = |address: SocketAddr| {
        let (address, back) = (address.to_string(), scene.here.text("back"));
        Program::start(["get", &address, "disk.img", "-o", &back, "--json"])
    };
    let link = Link::start(scene.address, Manner::LosesAnswers(TAKEN_BYTES));
    let first = getter(link.address);
    Scene::wait_until_held(&scene.here.join("back"));
    first.kill();
    let ended = getter(scene.address).finish().expect(0);
    let file = &ended.json_lines()[0];
    assert!(file["resumed_from"].as_u64().unwrap() >= HELD_BYTES, "{file:#}");
    assert!(fs::read(scene.here.join("back/disk.img")).unwrap() == content());
    assert!(!scene.here.join("back/.posthouse").exists(), "nothing of ours is left");
}

#[test]
fn a_file_that_changes_all_the_time_is_given_up_after_a_few_attempts() {
    let scene = Scene::new();
    let path = scene.here.join("disk.img");
    let file = fs::File::options().write(true).open(path).unwrap();
    let mut sender = scene.sender(scene.address);
    let mut time = SystemTime::UNIX_EPOCH;
    wait_until("the end of the sender", || {
        time += Duration::from_secs(1);
        file.set_modified(time).unwrap();
        sender.has_ended()
    });
    let ended = sender.finish().expect(1);
    let error = &ended.json_lines()[0]["error"];
    assert!(error.as_str().unwrap().contains("it changed while it was sent"), "{ended:#?}");
    ended.says(&["1 of 1 file not sent", "the same command tries again"]);
    assert!(!scene.here.join("inbox/disk.img").exists());
}

#[test]
fn an_interruption_says_what_is_left_and_the_same_command_goes_on() {
    let scene = Scene::new();
    let link = Link::start(scene.address, Manner::Loses(TAKEN_BYTES));
    let sender = scene.sender(link.address);
    Scene::wait_until_held(&scene.here.join("inbox"));
    sender.interrupt();
    let ended = sender.finish().expect(130);
    ended.says(&["interrupted: 1 of 1 file not sent", "the same command goes on"]);
    let [file, all] = &ended.json_lines()[..] else { panic!("the file and the sum: {ended:#?}") };
    assert_eq!((&file["name"], &file["error"]), (&"disk.img".into(), &"interrupted".into()));
    assert_eq!((&all["interrupted"], &all["left"]), (&true.into(), &1.into()), "{all:#}");
    assert!(all["sent_bytes"].as_u64().unwrap() >= HELD_BYTES, "{all:#}");
    assert_eq!(all["sent_bytes"], file["sent_bytes"], "{all:#}");
    let ended = scene.sender(scene.address).finish().expect(0);
    scene.has_gone_on(&ended, "inbox/disk.img");
}
