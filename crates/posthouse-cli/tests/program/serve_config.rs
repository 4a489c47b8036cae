//! The configuration of `posthouse serve`: a file, `--set` and flags.

use std::io::Read as _;
use std::net::SocketAddr;

use super::harness::{Program, ProgramOutput, run};
use super::native_client::{connect, exchange, frame};
use super::tempdir::{TemporaryDirectory, TemporaryFile};

const TWO_LISTENERS: &str = "\
[[listen]]
address = \"127.0.0.1:0\"
max_frame_bytes = 100

[[listen]]
address = \"127.0.0.1:0\"
framing = \"lines\"
name = \"lines\"

[limits]
io_workers = 1
";

/// Returns the configuration that these arguments give.
fn printed(arguments: &[&str]) -> String {
    run(["serve", "--print-config"].iter().chain(arguments)).expect(0).stdout
}

#[track_caller]
fn expect_lines(printed: &str, expected: &[(&str, usize)]) {
    for (line, count) in expected {
        let found = printed.lines().filter(|other| other == line).count();
        assert_eq!(found, *count, "{line} in {printed}");
    }
}

/// Returns the output of a server that does not start with this configuration.
fn refused(text: &str, arguments: &[&str]) -> ProgramOutput {
    let file = TemporaryFile::new("refused.toml", text);
    run(["serve", "--config", file.text()].iter().chain(arguments)).expect(2)
}

#[test]
fn each_listener_of_a_file_speaks_its_own_framing_and_has_its_own_options() {
    let file = TemporaryFile::new("two.toml", TWO_LISTENERS);
    let mut server = Program::start(["serve", "--config", file.text()]);
    let line = server.stdout_line();
    let addresses: Vec<SocketAddr> =
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [native, lines, tried] = addresses[..] else { panic!("three addresses in {line}") };
    let expected = format!(
        "listening on {native} (native framing) and {lines} (lines framing); \
         try: posthouse bench {native}"
    );
    assert_eq!((line, tried), (expected, native));
    exchange(&mut connect(native), &frame(7, b"one\n"), &frame(7, b"one\n"));
    let longer = format!("{}\n", "l".repeat(101));
    exchange(&mut connect(lines), longer.as_bytes(), longer.as_bytes());
    let small = frame(0, b"small");
    let large = frame(0, &[7; 101]);
    let mut stream = connect(native);
    exchange(&mut stream, &[&small[..], &large].concat(), &small);
    let mut after = Vec::new();
    // A reset also counts as the end.
    let _ = stream.read_to_end(&mut after);
    assert_eq!(after, b"", "the frame is larger than this listener takes");
    server.interrupt();
    let ended = server.finish().expect(0);
    assert_eq!(ended.stdout, "");
}

#[test]
fn flags_about_listeners_replace_those_of_the_file_or_apply_to_all_of_them() {
    let file = TemporaryFile::new("flags.toml", TWO_LISTENERS);
    let config = ["--config", file.text()];
    let framed = printed(&[&config[..], &["--framing", "raw"]].concat());
    expect_lines(&framed, &[("[[listen]]", 2), ("framing = \"raw\"", 2), ("io_workers = 1", 1)]);
    let sized = printed(&[&config[..], &["--max-frame", "333"]].concat());
    expect_lines(&sized, &[("[[listen]]", 2), ("max_frame_bytes = 333", 2)]);
    let moved = printed(&[&config[..], &["--listen", "[::1]:7", "--max-frame", "333"]].concat());
    let expected = ["[[listen]]", "address = \"[::1]:7\"", "framing = \"native\""];
    expect_lines(&moved, &expected.map(|line| (line, 1)));
    expect_lines(&moved, &[("max_frame_bytes = 333", 1)]);
    expect_lines(&printed(&[]), &[("[[listen]]", 1), ("address = \"127.0.0.1:9990\"", 1)]);
}

#[test]
fn the_printed_configuration_can_be_given_back() {
    let two = TemporaryFile::new("two.toml", TWO_LISTENERS);
    for arguments in [
        &["--set", "tuning.backlog=77"][..],
        &["--config", two.text(), "--set", "hello=required"],
        &["--listen", "[::1]:7", "--listen", "127.0.0.1:0", "--framing", "delimiter:\\r\\n"],
    ] {
        let first = printed(arguments);
        for section in ["[[listen]]", "[limits]", "[tuning]"] {
            assert!(first.lines().any(|line| line == section), "{section} in {first}");
        }
        let file = TemporaryFile::new("printed.toml", &first);
        assert_eq!(printed(&["--config", file.text()]), first);
    }
}

#[test]
fn each_source_counts_more_than_the_last() {
    let text = "[limits]\nio_workers = 1\nmax_connections = 1\n\
                [[listen]]\naddress = \"127.0.0.1:1\"\nmax_frame_bytes = 111\n";
    let file = TemporaryFile::new("sources.toml", text);
    let more = ["--set", "io_workers=2", "--set", "max_frame_bytes=222", "--max-frame", "333"];
    let merged = printed(&[&["--config", file.text()][..], &more].concat());
    let expected = ["io_workers = 2", "max_connections = 1", "max_frame_bytes = 333"];
    expect_lines(&merged, &expected.map(|line| (line, 1)));
}

#[test]
fn an_option_is_set_by_its_name_with_or_without_its_section() {
    for (setting, line) in [
        ("backlog=128", "backlog = 128"),
        ("tuning.backlog=128", "backlog = 128"),
        ("layout=shared", "layout = \"shared\""),
        ("limits.layout=shared", "layout = \"shared\""),
        ("heartbeat_ms = 500", "heartbeat_ms = 500"),
        ("listen.heartbeat_ms=500", "heartbeat_ms = 500"),
    ] {
        expect_lines(&printed(&["--set", setting]), &[(line, 1)]);
    }
    for (setting, parts) in [
        ("colour=red", &["colour: no such option", "--print-config"][..]),
        ("limits.backlog=1", &["backlog: no such option", "--print-config"]),
        ("places.backlog=1", &["places.backlog: no such option", "--print-config"]),
        ("layout", &["--set layout", "NAME=VALUE", "--print-config"]),
        ("listen.heartbeat_ms=7", &["--set listen.heartbeat_ms=7", "must be 10 to"]),
    ] {
        run(["serve", "--set", setting]).expect(2).expect_stderr(parts);
    }
    run(["serve", "--io-workers", "99"]).expect(2).expect_stderr(&["--io-workers 99", "0 to 64"]);
    run(["serve", "--max-frame", "1"]).expect(2).expect_stderr(&["--max-frame 1", "64 to"]);
}

#[test]
fn an_unknown_key_in_any_section_is_told_with_file_line_and_what_to_do() {
    for (text, line, key) in [
        ("\nmax_conections = 4", 2, "max_conections"),
        ("[limits]\nmax_conections = 4", 2, "max_conections"),
        ("[tuning]\nbacklog = 7\nback_log = 7", 3, "back_log"),
        ("[[listen]]\naddress = \"127.0.0.1:0\"\n\nmax_frame = 7", 4, "max_frame"),
        ("[limits]\n[tunings]\nbacklog = 7", 2, "tunings"),
    ] {
        let file = TemporaryFile::new("unknown.toml", text);
        let line = format!("{}, line {line} (", file.text());
        let unknown = format!("unknown field `{key}`; ");
        let ended = run(["serve", "--config", file.text()]).expect(2);
        ended.expect_stderr(&[&line, &unknown, "posthouse serve --print-config"]);
    }
}

#[test]
fn a_wrong_value_is_told_with_file_line_option_and_what_to_do() {
    for (text, parts) in [
        ("[[listen]]\naddress = \"1.2.3\"", &["line 2", "1.2.3", "write IP:PORT"][..]),
        ("[[listen]]\nframing = \"raw\"", &["line 1", "address is missing", "write address"]),
        (
            "[[listen]]\naddress = \"127.0.0.1:0\"\nmax_frame_bytes = 0",
            &["line 3", "listen.max_frame_bytes", "must be"],
        ),
        ("[limits]\nlayout = \"round\"", &["line 2", "layout", "round", "pinned"]),
        ("[tuning]\nbacklog = \"x\"", &["line 2", "backlog", "invalid type"]),
        ("a = [", &["line 1", "a = ["]),
        ("[[listen]]\naddress = \"127.0.0.1:0\"\ndual_stack = true", &["dual_stack", "[::]"]),
    ] {
        refused(text, &[]).expect_stderr(parts);
    }
    let missing = run(["serve", "--config", "/nowhere/x.toml"]).expect(2);
    missing.expect_stderr(&["/nowhere/x.toml", "cannot read"]);
}

#[test]
fn what_a_listener_of_the_file_cannot_do_is_told_with_its_address() {
    let native = "[[listen]]\naddress = \"127.0.0.1:1\"\n";
    let lines = format!("{native}[[listen]]\naddress = \"127.0.0.1:2\"\nframing = \"lines\"\n");
    let here = TemporaryDirectory::new();
    let dir = here.text(".");
    refused(&lines, &["--dir", &dir])
        .expect_stderr(&["--dir", "127.0.0.1:2 has the framing lines"]);
    let key = TemporaryFile::new("a.key", "0123456789abcdef");
    let keyed = refused(&lines, &["--key-file", key.text()]);
    keyed.expect_stderr(&["--key-file", "127.0.0.1:2 has the framing lines"]);
    let beyond = format!("{native}[[listen]]\naddress = \"0.0.0.0:2\"\n");
    refused(&beyond, &[]).expect_stderr(&["0.0.0.0:2", "other machines", "--open"]);
}
