//! The commands that transfer files, against servers that lie.

use std::fs;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use super::file_server::files;
use super::harness::{Program, ProgramOutput, TEST_TIMEOUT};
use super::hostile_file_server::{
    ABORT, ACCEPT, BYE, CHUNK, ClientFrame, DONE, GET, HostileConnection, LIST, LISTED, Listed,
    OFFER, hostile_server, pages,
};
use super::tempdir::TemporaryDirectory;

/// The number of names that a client holds at most before it requests a page.
const MAX_WAITING_NAMES: usize = 10_000;

/// The state of a server that lists more than a client should hold.
#[derive(Debug, Default)]
struct LongList {
    listed: Vec<String>,
    /// The names that the client got, in order.
    got: Vec<String>,
    /// The gets that are not answered.
    held: Vec<u32>,
    /// The most names that were listed and not got when a page was requested.
    most_waiting: usize,
}

/// A list of 30 pages of 500 names. No get is answered before 20 pages were requested.
fn long_list_server(at_the_end: Sender<()>, state: Arc<Mutex<LongList>>) -> String {
    let mut left = pages(30, 500);
    let address = hostile_server(move |connection, frame| {
        let mut state = state.lock().unwrap();
        match frame.kind {
            LIST => {
                let waiting = state.listed.len() - state.got.len();
                state.most_waiting = state.most_waiting.max(waiting);
                let page = left.pop_front().unwrap_or_default();
                connection.list(frame.id, &page);
                state.listed.extend(page);
            }
            GET => {
                state.got.push(String::from_utf8(frame.rest).unwrap());
                state.held.push(frame.id);
                if state.got.len() == 15_000 {
                    at_the_end.send(()).unwrap();
                }
            }
            _ => {}
        }
        if left.len() <= 10 {
            for id in state.held.drain(..) {
                connection.abort(id, 7, "");
            }
        }
        true
    });
    address.to_string()
}

#[test]
fn a_list_without_end_is_read_only_as_fast_as_its_files_are_got() {
    let here = TemporaryDirectory::new();
    let state = Arc::new(Mutex::new(LongList::default()));
    let (at_the_end, end) = channel();
    let address = long_list_server(at_the_end, state.clone());
    let client = Program::start_in(here.path(), ["get", &address, "--all"]);
    end.recv_timeout(TEST_TIMEOUT).unwrap();
    #[cfg(target_os = "linux")]
    let peak_memory_bytes = client.peak_memory_bytes();
    let ended = client.finish().expect(1);
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: 15000 of 15000 files not received"), "{last}");
    check_failure_lines(&ended.stderr, 15_000);
    let state = state.lock().unwrap();
    assert!(state.most_waiting < MAX_WAITING_NAMES, "{} names at once", state.most_waiting);
    assert!(state.got == state.listed, "each name is got once, in order");
    #[cfg(target_os = "linux")]
    assert!(peak_memory_bytes < 64 << 20, "{peak_memory_bytes} bytes");
}

/// Fails unless this number of failures is shown or counted, and some are only counted.
fn check_failure_lines(stderr: &str, failures: usize) {
    let is_shown = |line: &&str| line.starts_with("not received: ");
    let shown = stderr.lines().filter(is_shown).count();
    let counts =
        stderr.lines().filter_map(|line| line.strip_suffix(" more transfers failed, not shown"));
    let hidden: usize = counts.map(|count| count.parse::<usize>().unwrap()).sum();
    assert_eq!(shown + hidden, failures);
    assert!((1_000..5_000).contains(&shown), "{shown} lines");
    assert!(hidden > 0, "all lines are shown");
}

/// Runs a command against a server, in a directory `to` in a directory of the test; fails if the
/// command writes anything outside of it.
fn run_against(
    arguments: &[&str],
    answer: impl FnMut(&mut HostileConnection, ClientFrame) -> bool + Clone + Send + 'static,
) -> (ProgramOutput, Vec<String>) {
    let here = TemporaryDirectory::new();
    here.write("to/own", "own");
    let address = hostile_server(answer).to_string();
    let words = [&[arguments[0], &address], &arguments[1..]].concat();
    let ended = Program::start_in(&here.join("to"), words).finish();
    let outside: Vec<_> = fs::read_dir(here.path()).unwrap().flatten().collect();
    assert_eq!(outside.len(), 1, "something is outside: {outside:?}");
    let names = files(&here.join("to")).into_keys().collect();
    let is_plain = |c: char| !c.is_control() || c == '\n';
    assert!(ended.stderr.chars().all(is_plain), "{ended:#?}");
    (ended, names)
}

/// Fails unless each of these texts is on stderr.
#[track_caller]
fn expect_texts(ended: &ProgramOutput, texts: &[&str]) {
    for text in texts {
        assert!(ended.stderr.contains(text), "{text:?} is missing: {ended:#?}");
    }
}

#[test]
fn names_that_lead_elsewhere_are_not_got() {
    let wrong = ["../evil", "/tmp/evil", "a/../../evil", "c:evil", ".posthouse/evil", "a\nb"];
    let mut names: Vec<&str> = wrong.into_iter().chain(["good"]).collect();
    names.sort_unstable();
    let answer = move |connection: &mut HostileConnection, frame: ClientFrame| {
        match frame.kind {
            LIST if frame.rest.is_empty() => connection.list(frame.id, &names),
            LIST => connection.list(frame.id, &[""; 0]),
            // The offer has a name of its own, and is a file without bytes.
            _ => give_empty(connection, &frame, "elsewhere/evil"),
        }
        true
    };
    let text = "error: 6 invalid names in the list were left out, first ../evil\n";
    let (listed, _) = run_against(&["list"], answer.clone());
    let listed = listed.expect(1);
    assert_eq!(listed.stdout, "           1  1970-01-01T00:00:00Z  good\n");
    assert_eq!(listed.stderr, text);
    let (got, names) = run_against(&["get", "--all"], answer);
    assert_eq!(got.expect(1).stderr, text);
    assert_eq!(names, ["good", "own"]);
}

/// Returns the BLAKE3 hash of no bytes.
fn hash_of_nothing() -> Vec<u8> {
    let hash = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    let byte = |at: usize| u8::from_str_radix(&hash[2 * at..2 * at + 2], 16).unwrap();
    (0..32).map(byte).collect()
}

/// Answers a get with an empty file of this name, and completes the transfer.
fn give_empty(connection: &mut HostileConnection, frame: &ClientFrame, name: &str) {
    match frame.kind {
        GET => {
            connection.offer(frame.id, 0, 0, name);
        }
        ACCEPT => {
            connection.say(DONE, &[&frame.id.to_le_bytes()[..], &hash_of_nothing()].concat());
        }
        _ => {}
    }
}

#[test]
fn a_page_without_files_is_not_the_end_of_a_list() {
    // Pages of directories and of invalid names, each followed by others, and one file.
    let answer = |connection: &mut HostileConnection, frame: ClientFrame| {
        let id = frame.id;
        match (frame.kind, &frame.rest[..]) {
            (LIST, b"d/c:d") => connection.list_page(id, false, &[Listed::file("d/good", 1)]),
            (LIST, b"d/b") => connection.list_page(id, true, &[Listed::file("d/c:d", 1)]),
            (LIST, _) => {
                connection.list_page(id, true, &["d/a", "d/b"].map(Listed::directory));
            }
            _ => give_empty(connection, &frame, "x"),
        }
        true
    };
    let text = "error: 1 invalid name in the list was left out: d/c:d\n";
    for what in ["--all", "d"] {
        let (got, names) = run_against(&["get", what], answer);
        assert_eq!(got.expect(1).stderr, text);
        assert_eq!(names, ["d/good", "own"]);
    }
    let (listed, _) = run_against(&["list", "d/"], answer);
    let listed = listed.expect(1);
    assert_eq!(listed.stdout, "           1  1970-01-01T00:00:00Z  d/good\n");
    assert_eq!(listed.stderr, text);
}

#[test]
fn invalid_names_are_told_beside_other_failures_and_are_no_file() {
    let answer = |connection: &mut HostileConnection, frame: ClientFrame| {
        let id = frame.id;
        match frame.kind {
            LIST => {
                let page = [Listed::file("d/\u{1b}", 1), Listed::file(b"d/\xff", 1)];
                connection.list_page(id, false, &page);
            }
            _ => connection.abort(id, 7, ""),
        }
        true
    };
    let text = "2 invalid names in the list were left out, first d/\\u{1b}";
    let (got, _) = run_against(&["get", "d"], answer);
    assert_eq!(got.expect(1).stderr, format!("error: {text}\n"));
    // Nobody has asked for the names outside of the prefix.
    let (listed, _) = run_against(&["list", "c"], answer);
    assert_eq!(listed.expect(0).stderr, "");
    let (got, _) = run_against(&["get", "d", "d.txt"], answer);
    let got = got.expect(1);
    let last = got.stderr.lines().last().unwrap();
    assert!(last.starts_with(&format!("error: {text}; 1 of 1 file not received")), "{got:#?}");
}

#[test]
fn the_sum_of_the_sizes_in_a_list_has_no_overflow() {
    let answer = |connection: &mut HostileConnection, frame: ClientFrame| {
        let largest = |name| Listed::file(name, u64::MAX >> 1);
        match frame.kind {
            LIST => connection.list_page(frame.id, false, &["a", "b", "c"].map(largest)),
            _ => connection.abort(frame.id, 7, ""),
        }
        true
    };
    let (listed, _) = run_against(&["list"], answer);
    assert_eq!(listed.expect(0).stdout.lines().count(), 3);
    let (got, _) = run_against(&["get", "--all"], answer);
    let got = got.expect(1);
    let last = got.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: 3 of 3 files not received"), "{got:#?}");
}

#[test]
fn a_list_that_does_not_ascend_is_an_error() {
    for list in [["b", "a"], ["b", "b"], ["a", "b"]] {
        let answer = move |connection: &mut HostileConnection, frame: ClientFrame| {
            match frame.kind {
                LIST => connection.list(frame.id, &list),
                _ => connection.abort(frame.id, 7, ""),
            }
            true
        };
        for command in [&["list"][..], &["get", "--all"]] {
            let (ended, names) = run_against(command, answer);
            let ended = ended.expect(1);
            let last = ended.stderr.lines().last().unwrap();
            assert!(last.contains("the names in the list of the peer do not ascend"), "{ended:#?}");
            assert_eq!(names, ["own"]);
        }
    }
}

#[test]
fn a_list_that_ends_with_a_refusal_is_an_error_also_for_a_directory() {
    let answer = |connection: &mut HostileConnection, frame: ClientFrame| {
        match (frame.kind, &frame.rest[..]) {
            (LIST, b"d/a") => connection.abort(frame.id, 1, "no more"),
            (LIST, _) => connection.list(frame.id, &["d/a"]),
            (GET, _) => connection.abort(frame.id, 7, ""),
            _ => {}
        }
        true
    };
    let (ended, _) = run_against(&["get", "d"], answer);
    expect_texts(
        &ended.expect(1),
        &[
            "not received: d: cannot list the files of 127.0.0.1:",
            "no more\n",
            "error: 2 of 2 files not received, and the server's list was not read to its end",
        ],
    );
    let (ended, _) = run_against(&["get", "--all"], answer);
    let ended = ended.expect(1);
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: cannot list the files of 127.0.0.1:"), "{ended:#?}");
    assert!(last.contains("no more; 1 of 1 file not received"), "{ended:#?}");
}

#[test]
fn a_failed_look_up_does_not_end_the_others() {
    let answer = |connection: &mut HostileConnection, frame: ClientFrame| {
        match (frame.kind, &frame.rest[..]) {
            (LIST, b"d/a") => connection.abort(frame.id, 1, "no more"),
            (LIST, after) if after.starts_with(b"d.") => connection.list(frame.id, &["d/a"]),
            (LIST, after) if after.starts_with(b"y.") => connection.abort(frame.id, 11, "bad"),
            (LIST, _) => connection.list(frame.id, &[""; 0]),
            _ => give_empty(connection, &frame, "x"),
        }
        true
    };
    let (ended, names) = run_against(&["get", "d", "x", "y", "z"], answer);
    let ended = ended.expect(1);
    assert_eq!(names, ["d/a", "own", "x", "z"]);
    expect_texts(
        &ended,
        &[
            "not received: d: cannot list the files of 127.0.0.1:",
            "not received: y: cannot list the files of 127.0.0.1:",
            "error: 2 of 5 files not received",
        ],
    );
    let (ended, _) = run_against(&["get", "--json", "d", "x", "y", "z"], answer);
    let lines = ended.expect(1).json_lines();
    let failed = lines.iter().filter(|line| line["error"].is_string());
    assert_eq!(failed.map(|line| &line["name"]).collect::<Vec<_>>(), ["d", "y"], "{lines:#?}");
    assert_eq!(lines.last().unwrap()["failed"], 2);
}

#[test]
fn failed_look_ups_are_limited_as_other_failures_are() {
    let answer = |connection: &mut HostileConnection, frame: ClientFrame| {
        connection.abort(frame.id, 5, "later");
        true
    };
    let names: Vec<String> = (0..4_000).map(|number| format!("{number}")).collect();
    let mut arguments: Vec<&str> = names.iter().map(|name| &**name).collect();
    arguments.splice(0..0, ["get", "--retry=0"]);
    let (ended, _) = run_against(&arguments, answer);
    let ended = ended.expect(1);
    let longest = ended.stderr.lines().map(str::len).max().unwrap();
    assert!(longest < 1_000, "a line has {longest} bytes");
    check_failure_lines(&ended.stderr, 4_000);
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: 4000 of 4000 files not received"), "{last}");
}

#[test]
fn a_file_is_got_also_if_its_server_cannot_list() {
    // The request was rejected, a name is invalid, the disk failed.
    for (code, may_succeed_later) in [(1, false), (8, false), (10, true)] {
        let answer = move |connection: &mut HostileConnection, frame: ClientFrame| {
            match (frame.kind, &frame.rest[..]) {
                (LIST, _) => connection.abort(frame.id, code, "no list"),
                (GET, b"y") => connection.abort(frame.id, 7, "no y"),
                // The name is that of a directory.
                (GET, b"d") => connection.abort(frame.id, 8, "not a regular file"),
                _ => give_empty(connection, &frame, "x"),
            }
            true
        };
        let (got, names) = run_against(&["get", "x", "--retry=0"], answer);
        assert_eq!(got.expect(0).stderr, "", "code {code}");
        assert_eq!(names, ["own", "x"]);
        for (name, why) in
            [("y", "no such file: no y"), ("d", "invalid file name: not a regular file")]
        {
            let (got, _) = run_against(&["get", name, "--retry=0"], answer);
            let got = got.expect(1);
            let line = format!("not received: {name}: the peer reports: {why}; cannot list the ");
            expect_texts(&got, &[&line, "no list\n"]);
            let has_advice = got.stderr.ends_with("run the same command again to resume\n");
            assert_eq!(has_advice, may_succeed_later, "code {code}: {got:#?}");
        }
    }
}

#[test]
fn a_run_that_is_cut_short_also_names_the_failures_before() {
    let answer = |connection: &mut HostileConnection, frame: ClientFrame| {
        match (frame.kind, &frame.rest[..]) {
            (LIST, after) if after.ends_with(b"a") => connection.abort(frame.id, 1, "no more"),
            (LIST, _) => {
                let page = [Listed::file("d/\u{1b}", 1), Listed::file("d/a", 1)];
                connection.list_page(frame.id, true, &page);
            }
            _ => return false,
        }
        true
    };
    for what in ["--all", "d"] {
        let (ended, _) = run_against(&["get", what, "--retry=0"], answer);
        expect_texts(
            &ended.expect(1),
            &[
                "cannot list the files of 127.0.0.1:",
                "no more",
                "1 invalid name in the list was left out: d/\\u{1b}\n",
                "error: lost the connection to 127.0.0.1:",
                "not received, and the server's list was not read to its end; run the same command",
            ],
        );
    }
}

#[test]
fn a_list_that_is_cut_short_also_names_the_invalid_names_before() {
    for is_lost in [false, true] {
        let answer = move |connection: &mut HostileConnection, frame: ClientFrame| {
            if frame.rest.is_empty() {
                let page = [Listed::file("\u{1b}", 1), Listed::file("a", 1)];
                connection.list_page(frame.id, true, &page);
            } else if is_lost {
                // The code for a wrong key, after which the client does not connect again.
                connection.say(BYE, &[&[5, 0, 0, 0, 0, 0], "no more".as_bytes()].concat());
            } else {
                connection.abort(frame.id, 1, "no more");
            }
            true
        };
        let (listed, _) = run_against(&["list"], answer);
        let listed = listed.expect(1);
        assert_eq!(listed.stdout, "           1  1970-01-01T00:00:00Z  a\n");
        let text = "no more; 1 invalid name in the list was left out: \\u{1b}\n";
        assert!(listed.stderr.ends_with(text), "{listed:#?}");
        assert_eq!(listed.stderr.lines().count(), 1, "{listed:#?}");
    }
}

#[test]
fn an_interruption_between_two_attempts_names_the_failure_of_the_last_one() {
    for (command, listed, expected) in [
        (&["list"][..], false, "error: interrupted; cannot list the files of 127.0.0.1:"),
        (&["get", "--all"], false, "cannot list the files of 127.0.0.1:"),
        (&["get", "x"], true, "not finished: x; an earlier attempt failed: "),
        (&["get", "x", "--json"], true, "error: interrupted: 1 of 1 file not received"),
    ] {
        let (requested, requests) = channel();
        let address = hostile_server(move |connection, frame| {
            if frame.kind == LIST && listed {
                connection.list(frame.id, &[""; 0]);
            } else {
                requested.send(()).unwrap();
                connection.abort(frame.id, 5, "come back");
            }
            true
        });
        let here = TemporaryDirectory::new();
        let address = address.to_string();
        let words = [&[command[0], &address], &command[1..]].concat();
        let client = Program::start_in(here.path(), words);
        // The second attempt follows the failure of the first one.
        for _ in 0..2 {
            requests.recv_timeout(TEST_TIMEOUT).unwrap();
        }
        client.interrupt();
        let ended = client.finish().expect(130);
        assert!(ended.stderr.starts_with(expected), "{ended:#?}");
        let shown = if command.contains(&"--json") {
            let error = ended.json_lines()[0]["error"].as_str().unwrap().to_owned();
            assert!(error.starts_with("interrupted; an earlier attempt failed: "), "{error}");
            error
        } else {
            ended.stderr
        };
        assert!(shown.contains("the peer reports: busy "), "{shown}");
        assert!(shown.trim_end().lines().next().unwrap().ends_with(": come back"), "{shown}");
    }
}

/// A server that answers no offer of an empty file before it has this number of them and the test
/// tells it to go on.
#[cfg(unix)]
fn holding_server(files: usize, held: Sender<()>, go_on: std::sync::mpsc::Receiver<()>) -> String {
    let go_on = Arc::new(Mutex::new(go_on));
    let mut offers = Vec::new();
    let address = hostile_server(move |connection, frame| {
        match frame.kind {
            OFFER => {
                // After the id: another id, the description, and the attributes with their length.
                let delivery_id = frame.rest[4 + 19 + 2 + 3..][..16].to_vec();
                offers.push((frame.id, delivery_id));
                if offers.len() == files {
                    held.send(()).unwrap();
                    go_on.lock().unwrap().recv_timeout(TEST_TIMEOUT).unwrap();
                    for (id, _) in &offers {
                        let accept = [&id.to_le_bytes()[..], &[0; 16], &hash_of_nothing()];
                        connection.say(ACCEPT, &accept.concat());
                    }
                }
            }
            DONE => {
                let (id, delivery_id) = offers.iter().find(|(id, _)| *id == frame.id).unwrap();
                let done = [&id.to_le_bytes()[..], &frame.rest, delivery_id];
                connection.say(DONE, &done.concat());
            }
            _ => {}
        }
        true
    });
    address.to_string()
}

#[cfg(unix)]
#[test]
fn an_interrupted_watch_names_also_the_failures_that_wait_behind_its_transfers() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::time::{Duration, Instant};

    // The number of transfers in flight, and the time between two scans.
    const FILES: usize = 16;
    const SCAN_INTERVAL: Duration = Duration::from_secs(1);
    for _ in 0..10 {
        let here = TemporaryDirectory::new();
        for number in 0..FILES {
            here.write(&format!("out/{number:02}"), "");
        }
        std::os::unix::fs::symlink("00", here.join("out/link")).unwrap();
        let (held, is_holding) = channel();
        let (go_on, told) = channel();
        let address = holding_server(FILES, held, told);
        let started = Instant::now();
        let words = ["send", &address, "--watch", "out/."];
        let mut watch = Program::start_in(here.path(), words);
        let line = watch.stderr_line();
        assert!(line.starts_with("skipped: "), "{line}");
        fs::write(here.join("out").join(OsStr::from_bytes(b"\xff")), "x").unwrap();
        if started.elapsed() >= SCAN_INTERVAL {
            // The file may have come after the scan that queues the others.
            continue;
        }
        is_holding.recv_timeout(TEST_TIMEOUT).unwrap();
        watch.interrupt();
        // If the transfers end before the interruption arrives, the name is found in any case.
        go_on.send(()).unwrap();
        let ended = watch.finish().expect(1);
        assert_eq!(ended.stdout.lines().count(), FILES, "{ended:#?}");
        expect_texts(
            &ended,
            &["the name is not valid Unicode\n", "error: interrupted: 1 of 17 files not sent"],
        );
        return;
    }
    panic!("this machine is too slow");
}

#[test]
fn a_list_that_fails_for_now_is_no_reason_to_take_a_name_for_a_file() {
    let answer = |connection: &mut HostileConnection, frame: ClientFrame| {
        match frame.kind {
            LIST => connection.abort(frame.id, 5, "later"),
            _ => connection.abort(frame.id, 7, ""),
        }
        true
    };
    let (ended, _) = run_against(&["get", "d", "--retry=0"], answer);
    let ended = ended.expect(1);
    let expected = "not received: d: cannot list the files of 127.0.0.1:";
    assert!(ended.stderr.starts_with(expected), "{ended:#?}");
    expect_texts(&ended, &[": the peer reports: busy", "run the same command again to resume\n"]);
}

/// The codes that PROTOCOL.md marks as `later`.
const LATER_CODES: [u16; 12] = [3, 4, 5, 6, 9, 10, 12, 14, 15, 16, 18, 13];

#[test]
fn a_failure_that_may_be_gone_later_has_the_advice_to_run_again() {
    let others = (0..=21).filter(|code| !LATER_CODES.contains(code));
    for code in others.chain(LATER_CODES) {
        let answer = move |connection: &mut HostileConnection, frame: ClientFrame| {
            match frame.kind {
                LIST => connection.list(frame.id, &[""; 0]),
                _ => connection.abort(frame.id, code, ""),
            }
            true
        };
        let (ended, _) = run_against(&["get", "x", "--retry=0"], answer);
        let ended = ended.expect(1);
        let has_advice = ended.stderr.ends_with("run the same command again to resume\n");
        assert_eq!(has_advice, LATER_CODES.contains(&code), "code {code}: {ended:#?}");
        // The same for the list of all files.
        let answer = move |connection: &mut HostileConnection, frame: ClientFrame| {
            connection.abort(frame.id, code, "");
            true
        };
        let (ended, _) = run_against(&["get", "--all", "--retry=0"], answer);
        let ended = ended.expect(1);
        let expected = "error: cannot list the files of 127.0.0.1:";
        assert!(ended.stderr.starts_with(expected), "code {code}: {ended:#?}");
        let has_advice = ended.stderr.ends_with("run the same command again to resume\n");
        assert_eq!(has_advice, LATER_CODES.contains(&code), "code {code}: {ended:#?}");
    }
}

#[test]
fn a_connection_that_is_lost_before_the_first_page_can_be_resumed() {
    for what in ["d", "--all"] {
        let (ended, _) = run_against(&["get", what, "--retry=0"], |_, _| false);
        let ended = ended.expect(1);
        assert!(ended.stderr.starts_with("error: lost the connection to"), "{ended:#?}");
        assert!(ended.stderr.contains("run the same command again to resume"), "{ended:#?}");
    }
}

#[test]
fn an_interruption_before_all_names_are_known_is_a_failure() {
    let (requested, requests) = channel();
    let address = hostile_server(move |_, frame| {
        requested.send(frame.kind).unwrap();
        true
    });
    let here = TemporaryDirectory::new();
    let client = Program::start_in(here.path(), ["get", &address.to_string(), "--all"]);
    assert_eq!(requests.recv_timeout(TEST_TIMEOUT), Ok(LIST));
    client.interrupt();
    let ended = client.finish().expect(130);
    ended.expect_stderr(&[
        "interrupted: 0 of 0 files not received, and the server's list was not read",
    ]);
}

#[test]
fn what_nobody_asked_for_changes_nothing() {
    // Frames about files that the client did not begin, and offers and requests of the server.
    let about = |id: u32, rest: &[u8]| [&id.to_le_bytes(), rest].concat();
    let unasked: Vec<(u8, Vec<u8>)> = vec![
        (ACCEPT, about(101, &[0; 48])),
        (CHUNK, about(101, b"bytes")),
        (DONE, about(101, &[0; 32])),
        (LISTED, about(101, &[0])),
    ];
    for (kind, payload) in unasked {
        let answer = move |connection: &mut HostileConnection, _: ClientFrame| {
            connection.say(kind, &payload);
            true
        };
        for command in [&["list"][..], &["get", "--all"], &["get", "x"], &["send", "own"]] {
            let (ended, names) = run_against(command, answer.clone());
            let ended = ended.expect(1);
            assert!(ended.stderr.len() < 1000, "kind {kind}: {ended:#?}");
            assert_eq!(names, ["own"], "kind {kind}");
        }
    }
    // The list is answered after each of them was.
    let aborts = Arc::new(Mutex::new(0));
    let counted = aborts.clone();
    let mut list = 0;
    let answer = move |connection: &mut HostileConnection, frame: ClientFrame| {
        match frame.kind {
            LIST => {
                list = frame.id;
                for _ in 0..10 {
                    connection.offer(0, 5, 0, "evil");
                    connection.offer(0, 0, 2, "directory");
                }
                connection.say(GET, &about(1000, b"own"));
                connection.say(LIST, &about(1002, b""));
            }
            ABORT => {
                let mut count = counted.lock().unwrap();
                *count += 1;
                if *count == 22 {
                    connection.list(list, &[""; 0]);
                }
            }
            _ => {}
        }
        true
    };
    let (ended, names) = run_against(&["get", "--all"], answer);
    ended.expect(0);
    assert_eq!(names, ["own"]);
    assert_eq!(*aborts.lock().unwrap(), 22);
}

/// An answer to a get or to an accept.
type Answer = fn(&mut HostileConnection, u32);

/// Completes a file with a hash that is wrong.
fn done(connection: &mut HostileConnection, id: u32) {
    connection.say(DONE, &[&id.to_le_bytes(), &[7; 32][..]].concat());
}

fn offer(connection: &mut HostileConnection, get: u32, size: u64, flags: u8) {
    connection.offer(get, size, flags, "x");
}

fn offer_one_byte(connection: &mut HostileConnection, get: u32) {
    offer(connection, get, 1, 0);
}

fn chunk(connection: &mut HostileConnection, id: u32, bytes: &[u8]) {
    connection.say(CHUNK, &[&id.to_le_bytes(), bytes].concat());
}

#[test]
fn wrong_answers_fail_their_file_and_show_nothing_that_moves_the_cursor() {
    let answers: [(Answer, Answer, &str); 7] = [
        (
            |connection, get| connection.abort(get, 7, "\u{1b}[2J\u{202e}\u{3164}"),
            done,
            "not received: x: the peer reports: no such file: \\u{1b}[2J\\u{202e}\\u{3164}",
        ),
        (
            |connection, _| {
                connection.say(BYE, &[&[6, 0, 0, 0, 0, 0], "\u{1b}]0;\u{ad}".as_bytes()].concat());
            },
            done,
            "\\u{1b}]0;\\u{ad}",
        ),
        // A chunk before the accept.
        (
            |connection, get| {
                let id = connection.offer(get, 1, 0, "x");
                chunk(connection, id, b"e");
            },
            done,
            "a frame of kind 12 arrived before the accept",
        ),
        // More bytes than were offered, then fewer, then another hash.
        (
            offer_one_byte,
            |connection, id| chunk(connection, id, b"xx"),
            "the offered file has 1 bytes",
        ),
        (offer_one_byte, done, "finished after 0 of the 1 offered bytes"),
        (|connection, get| offer(connection, get, 0, 0), done, "the hashes differ"),
        // A directory with a size.
        (
            |connection, get| offer(connection, get, u64::MAX >> 1, 2),
            done,
            "a directory whose size",
        ),
    ];
    for (to_get, to_accept, shown) in answers {
        let answer = move |connection: &mut HostileConnection, frame: ClientFrame| {
            match frame.kind {
                LIST => connection.list(frame.id, &[""; 0]),
                GET => to_get(connection, frame.id),
                ACCEPT => to_accept(connection, frame.id),
                _ => {}
            }
            true
        };
        let (ended, names) = run_against(&["get", "x", "--retry=0"], answer);
        let ended = ended.expect(1);
        assert!(ended.stderr.contains(shown), "{ended:#?}");
        assert_eq!(names, ["own"]);
    }
    // A server that confirms a file that it has not got.
    let answer = |connection: &mut HostileConnection, frame: ClientFrame| {
        if frame.kind == OFFER {
            done(connection, frame.id);
        }
        true
    };
    let (ended, _) = run_against(&["send", "own", "--retry=0"], answer);
    let ended = ended.expect(1);
    assert!(ended.stdout.is_empty(), "{ended:#?}");
    assert!(ended.stderr.contains("a frame of kind 14 arrived before the accept"), "{ended:#?}");
}
