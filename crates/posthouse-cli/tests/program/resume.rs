//! Transfers that fail half-way and are resumed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use posthouse::sim::SplitMix64;

use super::faulty_proxy::{FaultyProxy, ProxyFault};
use super::harness::{Program, ProgramOutput, run, serve, wait_until};
use super::tempdir::TemporaryDirectory;

/// A size large enough to fail in the middle.
const FILE_BYTES: usize = 8 << 20;
/// The bytes that a proxy forwards before it fails.
const FORWARDED_BYTES: u64 = 3 << 20;
/// The bytes that the receiver has, at least, when a process is killed.
const HELD_BYTES: u64 = 1 << 20;

/// Returns bytes that do not repeat.
fn content() -> Vec<u8> {
    let mut random = SplitMix64::new(1);
    (0..FILE_BYTES / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect()
}

/// A directory with a file to send, and a server with an empty one.
struct ResumeFixture {
    server: Program,
    address: SocketAddr,
    /// The last field: Windows does not remove a directory that a server has open.
    here: TemporaryDirectory,
}

impl ResumeFixture {
    fn new() -> Self {
        let here = TemporaryDirectory::new();
        here.write("disk.img", content());
        fs::create_dir(here.join("inbox")).unwrap();
        let (server, address) = serve(&["--dir", &here.text("inbox")]);
        Self { server, address, here }
    }

    fn sender(&self, server: SocketAddr) -> Program {
        Program::start(["send", &server.to_string(), &self.here.text("disk.img"), "--json"])
    }

    /// Waits until a part holds enough bytes to resume from.
    fn wait_for_part(directory: &Path) {
        wait_until("a part that holds something", || largest_part(directory) >= HELD_BYTES);
    }

    /// Checks that the file has arrived unchanged, and was resumed.
    #[track_caller]
    fn assert_resumed(&self, ended: &ProgramOutput, arrived: &str) {
        let lines = ended.json_lines();
        let [file, all] = &lines[..] else {
            panic!("expected one line for the file and one for the sum: {ended:#?}")
        };
        let from = file["resumed_from"].as_u64().unwrap();
        assert!((HELD_BYTES..=FORWARDED_BYTES).contains(&from), "{file:#}");
        assert_eq!(file["sent_bytes"], FILE_BYTES as u64 - from, "{file:#}");
        assert_eq!(file["error"], serde_json::Value::Null);
        assert_eq!((&all["files"], &all["left"]), (&1.into(), &0.into()), "{all:#}");
        assert!(fs::read(self.here.join(arrived)).unwrap() == content(), "other content arrived");
    }
}

/// Returns the size of the largest part in a directory.
fn largest_part(directory: &Path) -> u64 {
    let Ok(parts) = fs::read_dir(directory.join(".posthouse")) else { return 0 };
    let lengths = parts.flatten().filter_map(|part| Some(part.metadata().ok()?.len()));
    lengths.max().unwrap_or(0)
}

#[test]
fn a_sender_that_was_killed_goes_on_where_it_was() {
    let fixture = ResumeFixture::new();
    let proxy = FaultyProxy::start(fixture.address, ProxyFault::DropsRequests(FORWARDED_BYTES));
    let sender = fixture.sender(proxy.address);
    ResumeFixture::wait_for_part(&fixture.here.join("inbox"));
    sender.kill();
    let ended = fixture.sender(fixture.address).finish().expect(0);
    fixture.assert_resumed(&ended, "inbox/disk.img");
}

#[test]
fn a_server_that_was_killed_is_waited_for_and_gone_on_with() {
    let mut fixture = ResumeFixture::new();
    let proxy = FaultyProxy::start(fixture.address, ProxyFault::DropsRequests(FORWARDED_BYTES));
    let mut sender = fixture.sender(proxy.address);
    let inbox = fixture.here.join("inbox");
    ResumeFixture::wait_for_part(&inbox);
    let (server, address) = serve(&["--dir", &fixture.here.text("inbox")]);
    std::mem::replace(&mut fixture.server, server).kill();
    assert!(sender.stderr_line().starts_with("lost the connection to "));
    proxy.redirect(address);
    let ended = sender.finish().expect(0);
    fixture.assert_resumed(&ended, "inbox/disk.img");
    assert!(ended.stderr.starts_with("connected to "), "{ended:#?}");
    // Only the file is left.
    assert_eq!(largest_part(&inbox), 0);
}

#[test]
fn a_link_that_is_cut_again_and_again_is_made_again_as_long_as_there_is_progress() {
    let fixture = ResumeFixture::new();
    // Each connection transfers about another quarter of the file.
    let proxy = FaultyProxy::start(fixture.address, ProxyFault::Cuts(FORWARDED_BYTES));
    let ended = fixture.sender(proxy.address).finish().expect(0);
    let file = &ended.json_lines()[0];
    // One connection transfers no more. (Two losses in quick succession can be reported in one
    // line.)
    assert!(
        file["resumed_from"].as_u64().unwrap() > FORWARDED_BYTES,
        "at the third attempt: {file:#}"
    );
    assert!(fs::read(fixture.here.join("inbox/disk.img")).unwrap() == content());
    assert!(ended.stderr.starts_with("lost the connection"), "{ended:#?}");
}

#[test]
fn without_retry_a_lost_connection_is_the_end_and_the_same_command_goes_on() {
    let fixture = ResumeFixture::new();
    let proxy = FaultyProxy::start(fixture.address, ProxyFault::Cuts(FORWARDED_BYTES));
    let address = proxy.address.to_string();
    let path = fixture.here.text("disk.img");
    let ended = run(["send", &address, &path, "--retry=0"]).expect(1);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [file, error] = lines[..] else {
        panic!("expected one line for the file and one for the sum: {ended:#?}")
    };
    assert!(
        file.starts_with("not finished: disk.img (") && file.ends_with(" of 8.0 MiB)"),
        "{file}"
    );
    for part in [
        "lost the connection",
        &address,
        "1 of 1 file not sent",
        "run the same command again to resume",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(ended.stdout, "");
    let ended = fixture.sender(fixture.address).finish().expect(0);
    fixture.assert_resumed(&ended, "inbox/disk.img");
}

#[test]
fn a_file_that_is_got_goes_on_after_a_kill_as_well() {
    let fixture = ResumeFixture::new();
    fs::rename(fixture.here.join("disk.img"), fixture.here.join("inbox/disk.img")).unwrap();
    fs::create_dir(fixture.here.join("back")).unwrap();
    let getter = |address: SocketAddr| {
        let address = address.to_string();
        let back = fixture.here.text("back");
        Program::start(["get", &address, "disk.img", "-o", &back, "--json"])
    };
    let proxy = FaultyProxy::start(fixture.address, ProxyFault::DropsResponses(FORWARDED_BYTES));
    let first = getter(proxy.address);
    ResumeFixture::wait_for_part(&fixture.here.join("back"));
    first.kill();
    let ended = getter(fixture.address).finish().expect(0);
    let file = &ended.json_lines()[0];
    assert!(file["resumed_from"].as_u64().unwrap() >= HELD_BYTES, "{file:#}");
    assert!(fs::read(fixture.here.join("back/disk.img")).unwrap() == content());
    assert!(!fixture.here.join("back/.posthouse").exists(), "files of the transfer are left");
}

#[test]
fn a_file_that_changes_all_the_time_is_given_up_after_a_few_attempts() {
    let fixture = ResumeFixture::new();
    let path = fixture.here.join("disk.img");
    let file = fs::File::options().write(true).open(path).unwrap();
    let mut sender = fixture.sender(fixture.address);
    let mut time = SystemTime::UNIX_EPOCH;
    wait_until("the end of the sender", || {
        time += Duration::from_secs(1);
        file.set_modified(time).unwrap();
        sender.has_ended()
    });
    let ended = sender.finish().expect(1);
    let error = &ended.json_lines()[0]["error"];
    assert!(error.as_str().unwrap().contains("the file changed while it was sent"), "{ended:#?}");
    ended.expect_stderr(&["1 of 1 file not sent", "run the same command again to resume"]);
    assert!(!fixture.here.join("inbox/disk.img").exists());
}

#[test]
fn an_interruption_says_what_is_left_and_the_same_command_goes_on() {
    let fixture = ResumeFixture::new();
    let proxy = FaultyProxy::start(fixture.address, ProxyFault::DropsRequests(FORWARDED_BYTES));
    let sender = fixture.sender(proxy.address);
    ResumeFixture::wait_for_part(&fixture.here.join("inbox"));
    sender.interrupt();
    let ended = sender.finish().expect(130);
    ended.expect_stderr(&[
        "interrupted: 1 of 1 file not sent",
        "run the same command again to resume",
    ]);
    let [file, all] = &ended.json_lines()[..] else {
        panic!("expected one line for the file and one for the sum: {ended:#?}")
    };
    assert_eq!((&file["name"], &file["error"]), (&"disk.img".into(), &"interrupted".into()));
    assert_eq!((&all["interrupted"], &all["left"]), (&true.into(), &1.into()), "{all:#}");
    assert!(all["sent_bytes"].as_u64().unwrap() >= HELD_BYTES, "{all:#}");
    assert_eq!(all["sent_bytes"], file["sent_bytes"], "{all:#}");
    let ended = fixture.sender(fixture.address).finish().expect(0);
    fixture.assert_resumed(&ended, "inbox/disk.img");
}
